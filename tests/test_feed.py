"""Stored pages as a feed: each once, in order, also those that were being saved meanwhile."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tweetcrawler.coverage import from_text
from tweetcrawler.db import Database
from tweetcrawler.errors import DatabaseError
from tweetcrawler.flatten import COLUMNS
from tweetcrawler.pages import Batch, Bought, Metrics
from tweetcrawler.postgres import feed

WRITERS, PAGES = 4, 40


def bought(body: bytes) -> Bought:
    return Bought("/2/tweets", {"ids": "1"}, "c1", body, posts=1)


@pytest.fixture
def run(database: Database) -> int:
    with database.session() as session:
        return session.begin_run(version="t", arguments={}, host="h", credentials=())[0]


@pytest.fixture
def late(dsn: str, run: int) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has numbered a page and is not at its end."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO crawl_page (id, run_id, endpoint, params, credential, post_count, "
            "user_count, new_count, updated_count, body) SELECT %s, %s, '/2/tweets', '{}', 'c', "
            "1, 0, 1, 0, body FROM crawl_page LIMIT 1",
            [uuid.uuid4(), run],
        )
        yield connection


@pytest.fixture
def stored(database: Database, run: int) -> None:
    with database.session() as session:
        for number in range(3):
            session.save_page(run, bought(b'{"page":%d}' % number))


def test_pages_come_once_and_a_reader_goes_on_where_it_was(
    database: Database, stored: None, run: int
) -> None:
    pages = list(database.stored_pages())
    assert [page.body for page in pages] == [b'{"page":%d}' % number for number in range(3)]
    assert {(page.endpoint, page.target) for page in pages} == {("/2/tweets", None)}
    assert [page.fetched_at for page in pages] == sorted(page.fetched_at for page in pages)
    assert list(database.stored_pages(after=pages[1].position)) == pages[2:]
    assert list(database.stored_pages(after=pages[2].position)) == []
    with database.session() as session:
        session.save_page(run, bought(b"{}"))
    assert [page.body for page in database.stored_pages(after=pages[2].position)] == [b"{}"]


def test_more_pages_than_one_query_brings(database: Database, run: int) -> None:
    with database.session() as session:
        for number in range(2 * feed.PAGES_PER_QUERY + 1):
            session.save_page(run, bought(b"%d" % number))
    bodies = [int(page.body) for page in database.stored_pages()]
    assert bodies == list(range(2 * feed.PAGES_PER_QUERY + 1))


@pytest.mark.usefixtures("stored")
def test_a_page_that_is_committed_late_is_waited_for(
    database: Database, late: psycopg.Connection[Any], run: int
) -> None:
    """It has a lower number than one that is there already: it may not be overtaken."""
    with database.session() as session:
        session.save_page(run, bought(b"{}"))
    ends = threading.Timer(0.3, late.commit)
    ends.start()
    pages = list(database.stored_pages())
    ends.join()
    assert len(pages) == 5
    assert pages[-1].body == b"{}"
    assert [page.position for page in pages] == sorted(page.position for page in pages)


@pytest.mark.usefixtures("stored")
def test_a_writer_that_does_not_end_holds_all_pages_back_and_loses_none(
    dsn: str, late: psycopg.Connection[Any], database: Database
) -> None:
    with Database(dsn).connect() as connection:
        assert list(feed.stored_pages(connection, 0, patience_s=0.1)) == []
    late.rollback()
    assert len(list(database.stored_pages())) == 3


def test_nothing_is_missed_while_many_write(database: Database, run: int) -> None:
    def write(writer: int) -> None:
        with database.session() as session:
            for number in range(PAGES):
                session.save_page(run, bought(b"%d" % (writer * PAGES + number)))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    position = 0
    while True:
        ended = not any(thread.is_alive() for thread in threads)
        for page in database.stored_pages(after=position):
            seen.append(int(page.body))
            position = page.position
        if ended:
            break
    assert sorted(seen) == list(range(WRITERS * PAGES))


def test_pages_without_a_body_are_left_out_and_a_damaged_one_is_named(
    dsn: str, database: Database, stored: None
) -> None:
    first = next(database.stored_pages())
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE crawl_page SET body = NULL WHERE id = %s", [first.id])
    assert first.id not in {page.id for page in database.stored_pages()}
    second = next(database.stored_pages())
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE crawl_page SET body = 'x' WHERE id = %s", [second.id])
    with pytest.raises(DatabaseError, match=str(second.id)):
        list(database.stored_pages())


def test_a_room_runs_its_own_statement_with_the_same_retrying(dsn: str, database: Database) -> None:
    with database.session() as session:
        [(pid,)] = session.do(lambda c: c.execute("SELECT pg_backend_pid()").fetchall())
        with psycopg.connect(dsn) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
        [(again,)] = session.do(lambda c: c.execute("SELECT pg_backend_pid()").fetchall())
    assert again != pid


def row(tweet_id: int) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS), "id": tweet_id, "text": "t"}


def count(dsn: str, table: str) -> int:
    with psycopg.connect(dsn) as connection:
        [(found,)] = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    return int(found)


def test_posts_are_forgotten_with_their_counts_and_stay_covered(
    dsn: str, database: Database, run: int
) -> None:
    with database.session() as session:
        [target] = session.open_searches(["cats"])
        rows = [row(tweet_id) for tweet_id in (1, 2, 3)]
        batch = Batch(target.id, bought(b"{}"), rows, covered=(1, 4), searched=True)
        session.save(run, "o", batch)
        counts = [Metrics(i, 1, 1, 1, 1, 1, 1) for i in (1, 2)]
        session.save_looked_up(run, Batch(None, bought(b"{}"), rows), [], counts, seen_at=1.0)
        assert session.forget([1, 3, 9]) == 2
        assert session.forget([1, 3, 9]) == 0
    assert count(dsn, "tweet_articles_tweepy") == 1
    assert count(dsn, "crawl_found") == 1
    with psycopg.connect(dsn) as connection:
        left = connection.execute("SELECT DISTINCT tweet_id FROM crawl_metrics").fetchall()
        [(covered,)] = connection.execute("SELECT covered::text FROM crawl_target").fetchall()
    assert left == [(2,)]
    assert from_text(covered) == [(1, 4)]


def test_ids_that_are_known_by_other_means_are_covered_and_no_loss_any_more(
    database: Database,
) -> None:
    with database.session() as session:
        [target] = session.open_searches(["cats"])
        session.give_up(target.id, (10, 30), "too old")
        session.cover(target.id, (20, 40))
        session.cover(target.id, (20, 40))
        claim = session.claim(target.id, "o", 0.0)
    assert claim is not None
    assert claim.covered == [(20, 40)]
    assert claim.unreachable == [(10, 20)]
