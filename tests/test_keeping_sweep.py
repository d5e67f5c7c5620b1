"""The sweep: a deleted post is found nowhere in the database, and everything else stays."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
import zstandard
from psycopg.types.json import Jsonb
from test_keeping_ledger import Doing
from test_keeping_tombstones import CANARY, canary_page

from tweetcrawler.keeping.sweep import Request, bury, sweep

POSTS = "tweet_articles_tweepy"
REQUEST = Request("deleted", "request", reference="letter 7")


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A database in which the post 1 stands everywhere, among 200 pages of others."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        _fill(opened)
        yield opened


def _fill(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO tweet_articles_tweepy (id, tweet_from, text, retweeted_status_id,"
        " retweeted_status_text, retweeted_status_user_name, hashtags)"
        " VALUES (1, 'nine', %(c)s, NULL, NULL, NULL, %(c)s),"
        " (2, 'eight', 'RT ' || %(c)s, 1, %(c)s, 'Nine', %(c)s), (3, 'seven', 'a quote', NULL,"
        " NULL, NULL, NULL)",
        {"c": CANARY},
    )
    run = connection.execute(
        "INSERT INTO crawl_run (version, arguments, host) VALUES ('1', '{}', 'h') RETURNING id"
    ).fetchone()
    target = connection.execute(
        "INSERT INTO crawl_target (kind, handle) VALUES ('search', 'x') RETURNING id"
    ).fetchone()
    assert run is not None
    assert target is not None
    for number in range(200):
        page = canary_page() if number in (60, 199) else {"data": [{"id": "5", "text": "other"}]}
        connection.execute(
            "INSERT INTO crawl_page (id, run_id, endpoint, params, credential, post_count,"
            " user_count, new_count, updated_count, body) VALUES (%s, %s, 'search', %s, 'main', 3,"
            " 0, 0, 0, %s)",
            [uuid.uuid4(), run[0], Jsonb({}), zstandard.compress(orjson.dumps(page))],
        )
    connection.execute("INSERT INTO crawl_metrics (tweet_id, like_count) VALUES (1, 5), (3, 6)")
    connection.execute("INSERT INTO crawl_lookup (tweet_id, state) VALUES (1, 'missing')")
    connection.execute("INSERT INTO crawl_found VALUES (%s, 1), (%s, 3)", [*target, *target])


def everything(connection: psycopg.Connection[Any]) -> str:
    """All rows of all tables as text, pages unpacked."""
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ).fetchall()
    texts = [
        str(connection.execute(f"SELECT * FROM {name}".encode()).fetchall()) for (name,) in tables
    ]
    bodies = connection.execute("SELECT body FROM crawl_page").fetchall()
    return "".join(texts + [zstandard.decompress(body).decode() for (body,) in bodies])


@pytest.mark.parametrize("way", ["delete", "blank"])
def test_the_canary_is_found_nowhere(connection: psycopg.Connection[Any], way: Any) -> None:
    assert everything(connection).count(CANARY) > 10
    session = Doing(connection)
    bury(session, [1], REQUEST)
    counts = sweep(session, POSTS, way=way, actor="test")
    assert CANARY not in everything(connection)
    assert counts == {
        POSTS: 1,
        "texts repeated by other rows": 1,
        "crawl_metrics": 1,
        "crawl_found": 1,
        "crawl_lookup": 1,
        "crawl_page": 2,
    }
    rows = connection.execute(
        "SELECT id, tweet_from, text, retweeted_status_id FROM tweet_articles_tweepy ORDER BY id"
    ).fetchall()
    assert rows[-2:] == [(2, "eight", None, 1), (3, "seven", "a quote", None)]
    assert rows[:-2] == ([] if way == "delete" else [(1, None, None, None)])
    bodies = connection.execute("SELECT body FROM crawl_page").fetchall()
    pages = "".join(zstandard.decompress(body).decode() for (body,) in bodies)
    assert pages.count('"other"') == 198
    assert pages.count('"a quote"') == 2


def test_a_mark_leaves_the_row_itself(connection: psycopg.Connection[Any]) -> None:
    session = Doing(connection)
    bury(session, [1], REQUEST)
    assert POSTS not in sweep(session, POSTS, way="mark")
    kept = connection.execute("SELECT text FROM tweet_articles_tweepy WHERE id = 1").fetchone()
    assert kept == (CANARY,)


def test_a_second_sweep_has_nothing_to_do(connection: psycopg.Connection[Any]) -> None:
    session = Doing(connection)
    bury(session, [1], REQUEST)
    sweep(session, POSTS)
    assert sweep(session, POSTS) == {}
    assert sweep(session, POSTS, way="blank") == {}
    # Named again, since a later page may hold it: looked for again.
    bury(session, [1], REQUEST)
    assert set(sweep(session, POSTS).values()) == {0}


class Dying(Doing):
    """A session whose process ends before its nth transaction."""

    def __init__(self, connection: psycopg.Connection[Any], left: int) -> None:
        super().__init__(connection)
        self.left = left

    def do(self, work: Any) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().do(work)


def test_a_sweep_that_was_killed_is_finished_by_the_next(
    connection: psycopg.Connection[Any],
) -> None:
    session = Doing(connection)
    bury(session, [1], REQUEST)
    died = 0
    while True:
        try:
            sweep(Dying(connection, died), POSTS)
        except KeyboardInterrupt:
            died += 1
            open_ones = connection.execute(
                "SELECT count(*) FROM crawl_tombstone WHERE done_at IS NULL"
            ).fetchone()
            assert open_ones == (1,)
            continue
        break
    assert died >= 9
    assert CANARY not in everything(connection)


def test_the_audit_has_counts_and_a_hash(connection: psycopg.Connection[Any]) -> None:
    session = Doing(connection)
    bury(session, [1, 99], REQUEST)
    sweep(session, POSTS, actor="ada")
    row = connection.execute(
        "SELECT actor, action, ids_count, tables->>'crawl_page', length(ids_sha256)"
        " FROM crawl_audit"
    ).fetchone()
    assert row == ("ada", "sweep", 2, "2", 64)
