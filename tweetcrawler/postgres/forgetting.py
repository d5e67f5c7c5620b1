"""A target is forgotten: its coverage, its position, the bodies of its pages, its rows.

Purchases stay: they were paid for, and every sum counts them. A row stays where something else
holds it: another search, another timeline, a page of posts that were bought by id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

import orjson
import psycopg
from psycopg import sql

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.flatten import flatten
from tweetcrawler.identity import is_gone
from tweetcrawler.pages import Forgotten
from tweetcrawler.postgres.feed import bodies_of
from tweetcrawler.postgres.pages import table_named
from tweetcrawler.targets import NEW, SEARCH, TIMELINE

_PAGES_AT_ONCE = 20
_ROWS_AT_ONCE = 5_000


def forget(
    connection: psycopg.Connection[Any], table: str, target: int, *, rows: bool, dry: bool
) -> Forgotten:
    """Forgets a target in one transaction, with its `rows` or without; gives what it was.
    `dry` only tells it.

    **Errors**: `ConfigurationError` while a process walks it.
    """
    with connection.transaction(force_rollback=dry):
        kind, name = _locked(connection, target)
        bought = connection.execute(_BOUGHT, [target]).fetchall()
        gone = _forget_rows(connection, table, target, kind) if rows else 0
        connection.execute(_FORGET_PAGES, [target])
        connection.execute(_FORGET_TARGET, {"id": target, "new": NEW})
    return Forgotten(name, rows=gone, bought=[(e, *map(int, sums)) for e, *sums in bought])


def _locked(connection: psycopg.Connection[Any], target: int) -> tuple[str, str]:
    """The kind and name of a target that nobody walks now."""
    row = connection.execute(_LOCKED, {"id": target, "search": SEARCH}).fetchone()
    if row is None:
        raise ConfigurationError(f"there is no target {target} any more: run again")
    kind, name, owner = row
    if owner is not None and not is_gone(owner):
        raise ConfigurationError(
            f"{name} is being crawled now: forget it when that run has ended, nothing was forgotten"
        )
    return kind, name


def _forget_rows(connection: psycopg.Connection[Any], table: str, target: int, kind: str) -> int:
    """Deletes the rows that nothing else holds; says how many."""
    t, count = table_named(table), 0
    statement = _FORGET_ROWS.format(t=t)
    for ids in _ids_of(connection, t, target, kind):
        mine = sorted(ids - _bought_by_id(connection, ids))
        given = {"target": target, "timeline": TIMELINE, "ids": mine}
        row = connection.execute(statement, given).fetchone()
        count += row[0] if row else 0
    connection.execute(_FORGET_FOUND, [target])
    return count


def _ids_of(
    connection: psycopg.Connection[Any], t: sql.Identifier, target: int, kind: str
) -> Iterator[set[int]]:
    """The posts of a target, some at a time: those that a search found; those of an author,
    and those that the pages of the timeline hold, whatever the author was called then.
    """
    statement = _FOUND if kind == SEARCH else _AUTHOR.format(t=t)
    with connection.cursor("rows") as cursor:
        cursor.execute(statement, [target])
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield {row[0] for row in rows}
    if kind != SEARCH:
        yield from _posts(connection, _BODIES, {"target": target})


def _bought_by_id(connection: psycopg.Connection[Any], ids: set[int]) -> set[int]:
    """Those of the posts that pages without a target hold."""
    given = {"lowest": min(ids), "highest": max(ids)}
    return {one for held in _posts(connection, _LOOSE_BODIES, given) for one in held & ids}


def _posts(
    connection: psycopg.Connection[Any], statement: LiteralString, given: dict[str, int]
) -> Iterator[set[int]]:
    """The ids of the posts in bodies, those of a few pages at a time."""
    body_of = bodies_of(connection)
    with connection.cursor("bodies_" + "_".join(given), binary=True) as cursor:
        cursor.execute(statement, given)
        while pages := cursor.fetchmany(_PAGES_AT_ONCE):
            found = {i for page, body in pages for i in _ids(body_of(page, body))}
            if found:
                yield found


def _ids(body: bytes) -> list[int]:
    answer = orjson.loads(body)
    return [row["id"] for row in flatten(answer).rows] if isinstance(answer, dict) else []


_LOCKED: LiteralString = """
SELECT kind, CASE WHEN kind = %(search)s THEN coalesce(username, handle, key)
    ELSE '@' || coalesce(handle, username, key) END,
    CASE WHEN lease_until > clock_timestamp() THEN lease_owner END
FROM crawl_target WHERE id = %(id)s FOR UPDATE
"""
_BOUGHT: LiteralString = """
SELECT endpoint, count(*), sum(post_count), sum(user_count) FROM crawl_page
WHERE target_id = %s GROUP BY 1 ORDER BY 1
"""
_FOUND: LiteralString = "SELECT tweet_id FROM crawl_found WHERE target_id = %s ORDER BY 1"
_AUTHOR = sql.SQL("""
SELECT t.id FROM {t} t JOIN crawl_target k ON k.id = %s
WHERE lower(t.tweet_from) IN (k.handle, lower(k.username)) ORDER BY 1
""")
_BODIES: LiteralString = """
SELECT id, body FROM crawl_page
WHERE target_id = %(target)s AND post_count > 0 AND (body IS NOT NULL OR segment_id IS NOT NULL)
"""
_LOOSE_BODIES: LiteralString = """
SELECT id, body FROM crawl_page
WHERE target_id IS NULL AND post_count > 0 AND (body IS NOT NULL OR segment_id IS NOT NULL)
AND oldest_id <= %(highest)s AND newest_id >= %(lowest)s
"""
_FORGET_ROWS = sql.SQL("""
WITH gone AS (
    DELETE FROM {t} t WHERE t.id = ANY(%(ids)s::bigint[])
    AND NOT EXISTS (
        SELECT FROM crawl_found f WHERE f.tweet_id = t.id AND f.target_id <> %(target)s
    )
    AND NOT EXISTS (
        SELECT FROM crawl_target k WHERE k.kind = %(timeline)s AND k.id <> %(target)s
        AND k.username IS NOT NULL AND lower(k.username) = lower(t.tweet_from)
        AND k.covered @> t.id
    )
    RETURNING id
), counts AS (
    DELETE FROM crawl_metrics m USING gone WHERE m.tweet_id = gone.id
), waiting AS (
    DELETE FROM crawl_waiting_name w USING gone WHERE w.tweet_id = gone.id
), looked_up AS (
    DELETE FROM crawl_lookup l USING gone WHERE l.tweet_id = gone.id
)
SELECT count(*) FROM gone
""")
_FORGET_FOUND: LiteralString = "DELETE FROM crawl_found WHERE target_id = %s"
# The purchases keep their place in every sum. How deep a walk is in a timeline is counted from
# its own pages, so these are its pages no more.
_FORGET_PAGES: LiteralString = """
UPDATE crawl_page SET target_id = NULL, body = NULL, segment_id = NULL WHERE target_id = %s
"""
_FORGET_TARGET: LiteralString = """
UPDATE crawl_target SET covered = '{}', unreachable = '{}', unreachable_reason = '',
    state = %(new)s, state_reason = '', state_at = clock_timestamp(), account_posts = NULL,
    post_count = 0, lease_owner = NULL, lease_until = NULL, due_at = NULL, crawled_at = NULL
WHERE id = %(id)s
"""
