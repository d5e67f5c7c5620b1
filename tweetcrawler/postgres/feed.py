"""Stored pages in order, for readers that come again and go on where they were.

A page has its number before it is committed, so a page with a lower number can appear after
one with a higher. A reader that took the highest for its position would miss the lower one.
So the last number is read first; then the writers of that moment are waited for: PostgreSQL
takes a lock on the table before it numbers a row, and holds it until the commit.
"""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Callable, Iterator
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import zstandard

from tweetcrawler.errors import DatabaseError
from tweetcrawler.pages import StoredPage
from tweetcrawler.rooms import rooms

PAGES_PER_QUERY = 20
# A page is saved in milliseconds. A writer that takes longer than this is left to the next
# reading, with all pages from its moment on.
WRITERS_S = 10.0
_LOOK_AGAIN_S = 0.02


def stored_pages(
    connection: psycopg.Connection[Any],
    after: int,
    *,
    without_segment: bool = False,
    patience_s: float = WRITERS_S,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[StoredPage]:
    """The pages with a body after a position, as `Database.stored_pages` promises them."""
    last = settled(connection, patience_s, pause)
    statement = _PAGES_WITHOUT_SEGMENT if without_segment else _PAGES
    body_of = bodies_of(connection)
    while last is not None:
        rows = connection.execute(
            statement, {"after": after, "last": last, "limit": PAGES_PER_QUERY}
        ).fetchall()
        if not rows:
            return
        for number, position, fetched_at, endpoint, target, body in rows:
            whole = body_of(number, body)
            yield StoredPage(number, position, fetched_at, endpoint, target, whole)
        after = rows[-1][1]


def settled(
    connection: psycopg.Connection[Any],
    patience_s: float = WRITERS_S,
    pause: Callable[[float], None] = time.sleep,
) -> int | None:
    """The number up to which every page is committed or never will be; None when a writer
    does not end.
    """
    row = connection.execute(_LAST).fetchone()
    assert row is not None  # noqa: S101 - a SELECT of a sequence gives a row
    writers = _writers(connection)
    gives_up_at = time.monotonic() + patience_s
    while writers:
        if time.monotonic() >= gives_up_at:
            return None
        pause(_LOOK_AGAIN_S)
        writers &= _writers(connection)
    return int(row[0])


def _writers(connection: psycopg.Connection[Any]) -> set[str]:
    """The transactions that may have numbered a page and are not at their end."""
    return {name for (name,) in connection.execute(_WRITERS).fetchall()}


def bodies_of(connection: psycopg.Connection[Any]) -> Callable[[UUID | str, bytes | None], bytes]:
    """A function of a page's id and its stored body, which gives the body as X sent it.

    Where the database has none, a room reads it from where it was moved to.
    """
    moved: list[Callable[[UUID | str], bytes]] = []

    def body_of(page: UUID | str, body: bytes | None) -> bytes:
        if body is not None:
            return unpacked(page, body)
        if not moved:
            name = next(room.bodies for room in rooms() if room.bodies)
            moved.append(pkgutil.resolve_name(name)(connection))
        return moved[0](page)

    return body_of


def unpacked(page: UUID | str, body: bytes) -> bytes:
    """The body of a page as X sent it, of the stored one."""
    try:
        return zstandard.decompress(body)
    except zstandard.ZstdError:
        raise DatabaseError(
            f"the body of page {page} in crawl_page is damaged: set it to NULL"
        ) from None


# 0 before the first page; else the last number that was given out, committed or not.
_LAST: LiteralString = """
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM crawl_page_number_seq
"""
_WRITERS: LiteralString = """
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'crawl_page'::regclass AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
"""
_AFTER: LiteralString = """
SELECT id, number, extract(epoch FROM fetched_at)::float8, endpoint, target_id, body
FROM crawl_page
WHERE number > %(after)s AND number <= %(last)s
"""
_IN_ORDER: LiteralString = "ORDER BY number LIMIT %(limit)s"
_PAGES: LiteralString = _AFTER + "AND (body IS NOT NULL OR segment_id IS NOT NULL) " + _IN_ORDER
_PAGES_WITHOUT_SEGMENT: LiteralString = (
    _AFTER + "AND body IS NOT NULL AND segment_id IS NULL " + _IN_ORDER
)
