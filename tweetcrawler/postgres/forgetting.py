"""A target is forgotten: its coverage, its position, the bodies of its pages, its rows.

Purchases stay: they were paid for, and every sum counts them. A row stays where something else
holds it: another search, another timeline, a page of posts that were bought by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    given = {"target": target, "timeline": TIMELINE}
    t = table_named(table)
    connection.execute(_STAGE)
    if kind == SEARCH:
        connection.execute(_STAGE_FOUND, given)
    else:
        connection.execute(_STAGE_AUTHOR.format(t=t), given)
        for ids in _ids_of(connection, _BODIES, given):
            connection.execute(_STAGE_IDS, [ids])
    connection.execute(_UNSTAGE_FOUND, given)
    connection.execute(_UNSTAGE_COVERED.format(t=t), given)
    for ids in _ids_of(connection, _LOOSE_BODIES, given):
        connection.execute(_UNSTAGE_IDS, [ids])
    for beside in _BESIDE:
        connection.execute(beside)
    connection.execute(_FORGET_FOUND, given)
    return connection.execute(_FORGET_ROWS.format(t=t)).rowcount


def _ids_of(
    connection: psycopg.Connection[Any], statement: LiteralString, given: dict[str, Any]
) -> Iterator[list[int]]:
    """The ids of the posts in bodies, a few pages at a time."""
    body_of = bodies_of(connection)
    with connection.cursor("bodies", binary=True) as cursor:
        cursor.execute(statement, given)
        while pages := cursor.fetchmany(_PAGES_AT_ONCE):
            yield list(_ids(body_of(page, body) for page, body in pages))


def _ids(bodies: Iterable[bytes]) -> Iterator[int]:
    for body in bodies:
        answer = orjson.loads(body)
        if isinstance(answer, dict):
            yield from (row["id"] for row in flatten(answer).rows)


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
_STAGE: LiteralString = "CREATE TEMP TABLE forget_stage (id bigint PRIMARY KEY) ON COMMIT DROP"
_STAGE_FOUND: LiteralString = """
INSERT INTO forget_stage SELECT tweet_id FROM crawl_found WHERE target_id = %(target)s
"""
_STAGE_AUTHOR = sql.SQL("""
INSERT INTO forget_stage SELECT t.id FROM {t} t JOIN crawl_target k ON k.id = %(target)s
WHERE lower(t.tweet_from) IN (k.handle, lower(k.username))
""")
_STAGE_IDS: LiteralString = """
INSERT INTO forget_stage SELECT unnest(%s::bigint[]) ON CONFLICT DO NOTHING
"""
_UNSTAGE_IDS: LiteralString = "DELETE FROM forget_stage WHERE id = ANY(%s::bigint[])"
_UNSTAGE_FOUND: LiteralString = """
DELETE FROM forget_stage s USING crawl_found f
WHERE f.tweet_id = s.id AND f.target_id <> %(target)s
"""
_UNSTAGE_COVERED = sql.SQL("""
DELETE FROM forget_stage s USING {t} t, crawl_target k
WHERE t.id = s.id AND k.kind = %(timeline)s AND k.id <> %(target)s
AND lower(k.username) = lower(t.tweet_from) AND k.covered @> s.id
""")
_BODIES: LiteralString = """
SELECT id, body FROM crawl_page
WHERE target_id = %(target)s AND post_count > 0 AND (body IS NOT NULL OR segment_id IS NOT NULL)
"""
_LOOSE_BODIES: LiteralString = """
SELECT id, body FROM crawl_page
WHERE target_id IS NULL AND post_count > 0 AND (body IS NOT NULL OR segment_id IS NOT NULL)
AND EXISTS (
    SELECT FROM forget_stage s WHERE s.id BETWEEN crawl_page.oldest_id AND crawl_page.newest_id
)
"""
_BESIDE: tuple[LiteralString, ...] = (
    "DELETE FROM crawl_metrics b USING forget_stage s WHERE b.tweet_id = s.id",
    "DELETE FROM crawl_lookup b USING forget_stage s WHERE b.tweet_id = s.id",
)
_FORGET_FOUND: LiteralString = "DELETE FROM crawl_found WHERE target_id = %(target)s"
_FORGET_ROWS = sql.SQL("DELETE FROM {t} t USING forget_stage s WHERE t.id = s.id")
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
