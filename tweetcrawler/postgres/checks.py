"""What is read to compare coverage, pages and rows with each other, as of one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from tweetcrawler import coverage
from tweetcrawler.coverage import Range
from tweetcrawler.postgres.feed import bodies_of
from tweetcrawler.postgres.pages import table_named
from tweetcrawler.targets import SEARCH, TIMELINE

PAGES_AT_ONCE = 20


@dataclass(frozen=True)
class Checked:
    """A target with what it claims; `posts` is the number that its pages brought."""

    id: int
    kind: str
    name: str
    covered: Sequence[Range]
    unreachable: Sequence[Range]
    account_posts: int | None
    posts: int

    @property
    def shown(self) -> str:
        """The name by which an operator knows it."""
        return f"@{self.name}" if self.kind == TIMELINE else self.name

    @property
    def searched(self) -> bool:
        """Whether a search found its posts."""
        return self.kind == SEARCH


@dataclass(frozen=True)
class HeldPage:
    """A stored page; `body` is X's answer, None where it was not kept.

    `ends` are the newest and the oldest id of its rows.
    """

    id: UUID
    number: int
    saved_at: float
    endpoint: str
    params: dict[str, str]
    posts: int
    ends: tuple[int, ...]
    body: bytes | None


@dataclass(frozen=True)
class Miscounted:
    """Purchases of a run that its own report knows and no page holds any more."""

    run: int
    credential: str
    endpoint: str
    pages: int
    posts: int
    users: int


class Checker:
    """Targets, pages and rows of one moment; see `Database.checker`."""

    def __init__(self, connection: psycopg.Connection[Any], table: str) -> None:
        self._connection = connection
        self._table = table
        self._body_of = bodies_of(connection)

    def targets(self, after: int, limit: int) -> list[Checked]:
        """Up to `limit` targets that were asked for, in the order of their numbers."""
        rows = self._connection.execute(_TARGETS, [after, limit]).fetchall()
        return [_checked(row) for row in rows]

    def target(self, number: int) -> Checked | None:
        """One target by its number."""
        row = self._connection.execute(_TARGET, [number]).fetchone()
        return _checked(row) if row else None

    def pages(self, target: int) -> Iterator[list[HeldPage]]:
        """The pages of a target, in the order in which they were saved; a few at a time."""
        return self._held(_PAGES, target=target)

    def loose_pages(self) -> Iterator[list[HeldPage]]:
        """The pages with posts that belong to no target, in the same way."""
        return self._held(_LOOSE_PAGES)

    def pages_with(self, lowest: int, highest: int) -> Iterator[list[HeldPage]]:
        """The pages of any target that may hold posts between two ids, in the same way."""
        return self._held(_PAGES_WITH, lowest=lowest, highest=highest)

    def missing(self, posts: Sequence[tuple[int, int | None]]) -> set[int]:
        """Those of the posts, given with the id of the post that each repeats, that have no
        row; deleted posts have none.
        """
        statement = _MISSING.format(t=table_named(self._table))
        ids, repeated = [post[0] for post in posts], [post[1] for post in posts]
        return {row[0] for row in self._connection.execute(statement, [ids, repeated])}

    def not_found(self, target: int, ids: Sequence[int]) -> set[int]:
        """Those of the stored ids that are not noted as found by a search."""
        statement = _NOT_FOUND.format(t=table_named(self._table))
        return {row[0] for row in self._connection.execute(statement, [list(ids), target])}

    def miscounted(self) -> list[Miscounted]:
        """Purchases in reports of ended runs that no page holds."""
        return [Miscounted(*row) for row in self._connection.execute(_MISCOUNTED).fetchall()]

    def _held(self, statement: LiteralString, **given: int) -> Iterator[list[HeldPage]]:
        # On the server, in the order of the pages: a long search has millions of them.
        with self._connection.cursor("pages", binary=True) as cursor:
            cursor.execute(statement, given)
            while rows := cursor.fetchmany(PAGES_AT_ONCE):
                yield [self._page(*row) for row in rows]

    def _page(self, *row: Any) -> HeldPage:
        number, position, saved_at, endpoint, params, posts, newest, oldest, is_kept, body = row
        ends = tuple(sorted({one for one in (newest, oldest) if one is not None}))
        whole = self._body_of(number, body) if is_kept else None
        return HeldPage(number, position, saved_at, endpoint, params, posts, ends, whole)


def note_found(connection: psycopg.Connection[Any], target: int, ids: Sequence[int]) -> None:
    """Notes that a search found these posts."""
    connection.execute(_NOTE_FOUND, [target, list(ids)])


def _checked(row: Sequence[Any]) -> Checked:
    number, kind, name, covered, unreachable, account_posts, posts = row
    covered, unreachable = coverage.from_text(covered), coverage.from_text(unreachable)
    return Checked(number, kind, name, covered, unreachable, account_posts, posts)


_CHECKED: LiteralString = """
SELECT id, kind, CASE WHEN kind = 'search' THEN coalesce(username, handle, key)
    ELSE coalesce(handle, username, key) END, covered::text, unreachable::text,
    account_posts, post_count
FROM crawl_target
"""
_TARGETS: LiteralString = f"{_CHECKED} WHERE id > %s AND same_as IS NULL ORDER BY id LIMIT %s"
_TARGET: LiteralString = f"{_CHECKED} WHERE id = %s"
_HELD: LiteralString = """
SELECT id, number, extract(epoch FROM fetched_at)::float8, endpoint, params, post_count,
    newest_id, oldest_id, body IS NOT NULL OR segment_id IS NOT NULL, body
FROM crawl_page
"""
_KEPT: LiteralString = "(body IS NOT NULL OR segment_id IS NOT NULL)"
_PAGES: LiteralString = f"{_HELD} WHERE target_id = %(target)s ORDER BY number"
_LOOSE_PAGES: LiteralString = f"""{_HELD}
WHERE target_id IS NULL AND post_count > 0 AND {_KEPT} ORDER BY number
"""
_PAGES_WITH: LiteralString = f"""{_HELD}
WHERE oldest_id <= %(highest)s AND newest_id >= %(lowest)s AND {_KEPT} ORDER BY number
"""
# Neither a deleted post nor a retweet of one is stored.
_MISSING = sql.SQL("""
SELECT n.id FROM unnest(%s::bigint[], %s::bigint[]) AS n(id, repeats)
WHERE NOT EXISTS (SELECT FROM {t} t WHERE t.id = n.id)
AND NOT EXISTS (SELECT FROM crawl_tombstone d WHERE d.tweet_id IN (n.id, n.repeats))
""")
_NOT_FOUND = sql.SQL("""
SELECT t.id FROM {t} t WHERE t.id = ANY(%s::bigint[])
AND NOT EXISTS (SELECT FROM crawl_found f WHERE f.target_id = %s AND f.tweet_id = t.id)
""")
_NOTE_FOUND: LiteralString = """
INSERT INTO crawl_found (target_id, tweet_id) SELECT %s, unnest(%s::bigint[])
ORDER BY 2 ON CONFLICT DO NOTHING
"""
# A report may know less than the pages: a page can be saved after its run had to end.
_MISCOUNTED: LiteralString = """
WITH told AS (
    SELECT r.id AS run, t.* FROM crawl_run r, jsonb_to_recordset(r.report -> 'totals')
        AS t(credential text, endpoint text, pages bigint, posts bigint, users bigint)
    WHERE jsonb_typeof(r.report -> 'totals') = 'array'
), held AS (
    SELECT run, credential, endpoint, sum(pages) AS pages, sum(posts) AS posts,
        sum(users) AS users
    FROM (
        SELECT run_id AS run, credential, endpoint, count(*) AS pages, sum(post_count) AS posts,
            sum(user_count) AS users
        FROM crawl_page GROUP BY 1, 2, 3
        UNION ALL SELECT run_id, credential, endpoint, pages, 0, 0 FROM crawl_past
    ) every GROUP BY 1, 2, 3
)
SELECT told.run, told.credential, told.endpoint,
    greatest(0, told.pages - coalesce(held.pages, 0)),
    greatest(0, told.posts - coalesce(held.posts, 0)),
    greatest(0, told.users - coalesce(held.users, 0))
FROM told LEFT JOIN held USING (run, credential, endpoint)
WHERE told.pages > coalesce(held.pages, 0) OR told.posts > coalesce(held.posts, 0)
    OR told.users > coalesce(held.users, 0)
ORDER BY 1, 2, 3
"""
