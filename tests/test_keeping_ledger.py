"""The ledger in PostgreSQL, and the tables of the room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
import zstandard
from psycopg import sql
from psycopg.types.json import Jsonb
from test_keeping_segments import chain, data_files

from tweetcrawler.keeping.archive import Archive, FolderLedger, State, entry_of
from tweetcrawler.keeping.ledger import SqlLedger, kept_pages
from tweetcrawler.keeping.lines import page_line
from tweetcrawler.keeping.places import FilePlace
from tweetcrawler.keeping.restoring import Catalog
from tweetcrawler.keeping.segments import Limits, Writer, read_manifests

T = TypeVar("T")


class Doing:
    """One connection, as a session has it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def do(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        with self._connection.transaction():
            return work(self._connection)


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


def test_the_ledger_in_the_database_says_what_the_one_in_files_says(
    tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    folder, place = tmp_path / "own", FilePlace(tmp_path / "place")
    chain(folder, 3)
    ledger = SqlLedger(Doing(connection), folder)
    report = Archive(folder, place, ledger, keep=timedelta(days=1)).once()
    assert (report.verified, report.dropped, report.faults) == (3, 0, None)
    assert Archive(folder, place, ledger).once().dropped == 3
    assert data_files(folder) == []
    own = FolderLedger(tmp_path / "beside")
    (tmp_path / "beside").mkdir()
    for entry in ledger.entries():
        own.record(entry)
    assert own.entries() == sorted(ledger.entries(), key=lambda one: one.name)
    assert {entry.state for entry in ledger.entries()} == {"dropped"}


def test_what_was_verified_is_not_taken_back_by_a_late_process(
    tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    chain(tmp_path, 1)
    ledger = SqlLedger(Doing(connection), tmp_path)
    entry = entry_of(read_manifests(tmp_path)[0][0])
    verified = replace(entry, state="verified", verified_at="2026-01-01T00:00:00+00:00")
    ledger.record(entry)
    ledger.record(verified)
    ledger.record(entry)
    assert ledger.entries() == [verified]


ROOM = ("crawl_audit", "crawl_place", "crawl_segment", "crawl_tombstone", "crawl_tombstone_user")


@pytest.mark.parametrize("table", ROOM)
def test_no_table_has_room_for_a_text_of_a_post(
    table: str, connection: psycopg.Connection[Any]
) -> None:
    named = {"reason", "source", "reference", "kind", "job_id", "state", "actor", "action"}
    named |= {"ids_sha256", "name", "sha256", "place", "folder", "url"}
    named |= {"endpoint", "region", "profile"}
    rows = connection.execute(
        sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table))
    ).description
    texts = {column.name for column in rows or () if column.type_code == 25}
    assert texts <= named


# -- pages that go through segments ------------------------------------------------------------


@pytest.fixture
def stored(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A database with 45 pages."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        opened.execute("INSERT INTO crawl_run (version, arguments, host) VALUES ('1', '{}', 'h')")
        opened.execute("INSERT INTO crawl_target (kind, key, handle) VALUES ('timeline', '9', 'a')")
        for number in range(45):
            opened.execute(
                "INSERT INTO crawl_page (id, run_id, target_id, fetched_at, endpoint, params,"
                " credential, post_count, user_count, new_count, updated_count, body) SELECT"
                " gen_random_uuid(), r.id, CASE WHEN %(n)s > 0 THEN t.id END,"
                " clock_timestamp() - %(n)s * interval '1 day', 'user_timeline', %(p)s, 'main', 1,"
                " 0, 1, 0, %(b)s FROM crawl_run r, crawl_target t",
                {
                    "n": number,
                    "p": Jsonb({"max_results": "100"}),
                    "b": zstandard.compress(b'{"data":[{"id":"%d","text":"x"}]}' % (number + 1)),
                },
            )
        yield opened


def test_pages_go_to_the_place_and_their_bodies_out_of_the_database(
    tmp_path: Path, stored: psycopg.Connection[Any]
) -> None:
    folder, place = tmp_path / "own", FilePlace(tmp_path / "place")
    session = Doing(stored)
    found = stored.execute("SELECT id, body FROM crawl_page ORDER BY fetched_at").fetchall()
    bodies = [(one, at, zstandard.decompress(body)) for at, (one, body) in enumerate(found, 1)]
    writer = Writer(folder, "pages", node="here", limits=Limits(posts=20))
    for page in kept_pages(session, bodies):
        writer.append(page_line(page))
    writer.close_segment()
    assert writer.position == 45
    writer.close()
    ledger = SqlLedger(session, folder)
    assert ledger.move_bodies(timedelta(0)) == 0
    Archive(folder, place, ledger).once()
    assert ledger.move_bodies(timedelta(days=30)) == 15
    assert ledger.move_bodies(timedelta(days=30)) == 0
    assert ledger.move_bodies(timedelta(0)) == 30
    left = stored.execute("SELECT count(*) FROM crawl_page WHERE body IS NOT NULL").fetchone()
    assert left == (0,)
    back = list(Catalog(place).pages(tmp_path))
    assert [(page.id, page.facts["position"], page.body) for page in back] == [
        (str(one), at, body) for one, at, body in bodies
    ]
    first = back[0].facts
    assert (first["kind"], first["key"], first["handle"]) == ("timeline", "9", "a")
    assert "key" not in back[-1].facts
    assert back[0].params == {"max_results": "100"}


def test_no_body_leaves_before_its_segment_is_verified(
    tmp_path: Path, stored: psycopg.Connection[Any]
) -> None:
    session = Doing(stored)
    found = stored.execute("SELECT id, body FROM crawl_page").fetchall()
    writer = Writer(tmp_path, "pages", node="here")
    for page in kept_pages(session, [(one, 1, zstandard.decompress(b)) for one, b in found]):
        writer.append(page_line(page))
    writer.close_segment()
    writer.close()
    ledger = SqlLedger(session, tmp_path)
    entry = entry_of(read_manifests(tmp_path)[0][0])
    states: tuple[State, ...] = ("closed", "uploaded")
    for state in states:
        ledger.record(replace(entry, state=state))
        assert ledger.move_bodies(timedelta(0)) == 0
    ledger.record(replace(entry, state="verified"))
    assert ledger.move_bodies(timedelta(0)) == 45
