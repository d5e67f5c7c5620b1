"""Targets: timelines and searches, what became of them, and when the next visit is due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import orjson
import psycopg
from psycopg.types.json import Json

from tweetcrawler import coverage, queries
from tweetcrawler.coverage import Range
from tweetcrawler.ids import EPOCH_MS, FIRST_DATED_ID
from tweetcrawler.pages import Bought, NoNews
from tweetcrawler.postgres.budgets import spend
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.postgres.pages import compressed, insert_page
from tweetcrawler.targets import (
    CRAWLABLE,
    DONE,
    FAILED,
    NEW,
    RENAMED,
    SEARCH,
    TIMELINE,
    Absent,
    Found,
    Target,
)

POSTS_PER_VISIT = 10


class Targets(Connected):
    """The targets of a session."""

    def targets(self, handles: Sequence[str]) -> dict[str, Target]:
        """The stored targets of these handles, by handle; a handle of a renamed account
        gives its account.
        """
        given = {"kind": TIMELINE, "handles": list(handles), "crawlable": list(CRAWLABLE)}

        def work(connection: psycopg.Connection[Any]) -> dict[str, Target]:
            rows = connection.execute(_TARGETS, given).fetchall()
            return {handle: Target(number, handle, *rest) for handle, number, *rest in rows}

        return self.do(work)

    def open_searches(self, asked: Sequence[str]) -> list[Target]:
        """The targets of these normalised queries, in their order; new ones are made."""
        return self.do(lambda c: opened_searches(c, asked))

    def save_users(
        self,
        run: int,
        bought: Bought,
        found: Sequence[Found],
        absent: Sequence[Absent],
        *,
        rest_s: float,
    ) -> None:
        """Stores X's answer about handles; `rest_s` until absent ones are asked again."""
        given_found = {
            "handles": [f.handle for f in found],
            "keys": [f.user_id for f in found],
            "usernames": [f.username for f in found],
            "posts": [f.account_posts for f in found],
            "kind": TIMELINE,
            "new": NEW,
            "renamed": RENAMED,
        }
        given_absent = {
            "handles": [a.handle for a in absent],
            "states": [a.state for a in absent],
            "reasons": [a.reason for a in absent],
            "rest": rest_s,
            "kind": TIMELINE,
        }

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                is_new = insert_page(connection, run, bought)
                connection.execute(_RENAMED, given_found)
                connection.execute(_FOUND, given_found)
                connection.execute(_ABSENT, given_absent)
                if is_new:
                    spend(connection, run, bought)

        self.do(work)

    def posts_above(self, target: int, tweet_id: int) -> int:
        """Number of received posts of the target that are not older than this id."""
        return self._posts(_POSTS_ABOVE, target, tweet_id)

    def posts_within(self, target: int, seconds: float) -> int:
        """How many posts of the target were bought in the last `seconds`."""
        return self._posts(_POSTS_WITHIN, target, seconds)

    def _posts(self, statement: LiteralString, target: int, bound: float) -> int:
        row = self.do(lambda c: c.execute(statement, [target, bound]).fetchone())
        return int(row[0]) if row else 0

    def referred_to(self, by: str, *, min_count: int, limit: int | None) -> list[tuple[str, int]]:
        """Handles (folded) that posts refer to and that are no target yet, with the count
        of those posts.

        `by` is "retweets", "mentions" or "replies". The most frequent first.
        """
        # Only here: workers do without SQLAlchemy.
        from tweetcrawler.postgres import references, statements

        found = references.referred_to(self.table, by, min_count=min_count, limit=limit)
        return self.do(lambda c: statements.rows(c, found))

    def known_handles(self, handles: Sequence[str]) -> set[str]:
        """Those of the handles (folded) that are targets, under their listed or their
        present name.
        """
        given = {"kind": TIMELINE, "handles": list(handles)}
        rows = self.do(lambda c: c.execute(_KNOWN_HANDLES, given).fetchall())
        return {row[0] for row in rows}

    def cover(self, target: int, known: Range) -> None:
        """Notes ids of a target that are known completely, without a page that says so."""
        self.do(lambda c: c.execute(_COVER, {"known": coverage.to_text([known]), "id": target}))

    def give_up(self, target: int, unreachable: Range, reason: str) -> None:
        """Notes ids that cannot be had, without a page that says so."""
        self.do(lambda c: c.execute(_GIVE_UP, [coverage.to_text([unreachable]), reason, target]))

    def finish(
        self,
        target: int,
        owner: str,
        *,
        state: str,
        reason: str,
        crawled: bool,
        rest_s: float = 0.0,
    ) -> None:
        """Notes how a walk ended and gives the lease back; `crawled` when no hole is left."""
        given = {
            "id": target,
            "owner": owner,
            "state": state,
            "reason": reason,
            "crawled": crawled,
            "rest": rest_s,
        }
        self.do(lambda c: c.execute(_FINISH, given))

    def finish_all(
        self, run: int, owner: str, ends: Sequence[NoNews], *, keep_body: bool = True
    ) -> None:
        """Saves the pages of walks that ended without news, and their ends, in one transaction."""
        walked = [
            {
                "target": end.target.id,
                "page": end.bought.id,
                "endpoint": end.bought.endpoint,
                "params": end.bought.params,
                "credential": end.bought.credential,
                # JSON has no bytes. PostgreSQL reads them from hexadecimal digits in text.
                "body": "\\x" + compressed(end.bought.body).hex() if keep_body else None,
                "state": end.state,
                "reason": end.reason,
            }
            for end in ends
        ]
        # orjson writes a UUID as text, which json refuses, and is the faster of the two.
        given = {"run": run, "owner": owner, "walked": Json(walked, dumps=orjson.dumps)}
        self.do(lambda c: c.execute(_FINISH_ALL, given))

    def schedule(self, run: int, *, least_s: float, longest_s: float) -> None:
        """Sets the next visit of the timelines that a run read, by how often they post lately.

        It comes when about `POSTS_PER_VISIT` new posts may be there, later for a user who has
        fallen silent.
        """
        given = {
            "run": run,
            "least": least_s,
            "longest": longest_s,
            "posts": POSTS_PER_VISIT,
            "first_dated_id": FIRST_DATED_ID,
            "epoch_ms": EPOCH_MS,
            "kind": TIMELINE,
            "failed": FAILED,
            "done": list(DONE),
        }
        self.do(lambda c: c.execute(_SCHEDULE, given))


def opened_searches(connection: psycopg.Connection[Any], asked: Sequence[str]) -> list[Target]:
    """The targets of these normalised queries, in their order; new ones are made."""
    by_key = {queries.key_of(query): query for query in asked}
    slugs = [queries.slug_of(query) for query in by_key.values()]
    connection.execute(_NEW_SEARCHES, [SEARCH, list(by_key), slugs, list(by_key.values())])
    # Read afterwards: RETURNING gives nothing of a row that DO NOTHING left as it was.
    rows = connection.execute(_SEARCHES, [SEARCH, list(by_key)]).fetchall()
    found = {
        key: Target(number, handle, key, query, state, reason, kind=SEARCH)
        for key, number, handle, query, state, reason in rows
    }
    return [found[queries.key_of(query)] for query in asked]


# Of a target that can be crawled `due_at` is the time that `watch` has for it, and holds
# nobody else up.
_TARGETS: LiteralString = """
SELECT named.handle, t.id, t.key, t.username, t.state, t.state_reason,
    CASE WHEN t.state = ANY(%(crawlable)s::text[]) THEN 0
    ELSE greatest(0, extract(epoch FROM t.due_at - clock_timestamp())) END::float8
FROM crawl_target named JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id)
WHERE named.kind = %(kind)s AND named.handle = ANY(%(handles)s)
"""
_NEW_SEARCHES: LiteralString = """
INSERT INTO crawl_target (kind, key, handle, username)
SELECT %s, k, h, q FROM unnest(%s::text[], %s::text[], %s::text[]) AS n(k, h, q)
ORDER BY k ON CONFLICT DO NOTHING
"""
_SEARCHES: LiteralString = """
SELECT key, id, handle, username, state, state_reason
FROM crawl_target WHERE kind = %s AND key = ANY(%s)
"""
# A handle of an account that is known under another one points there.
_RENAMED: LiteralString = """
UPDATE crawl_target t SET same_as = o.id, lease_until = NULL, state = %(renamed)s,
    state_reason = 'the account is known as @' || o.handle, state_at = clock_timestamp()
FROM unnest(%(handles)s::text[], %(keys)s::text[]) AS n(handle, key)
JOIN crawl_target o ON o.kind = %(kind)s AND o.key = n.key
WHERE t.kind = %(kind)s AND t.handle = n.handle AND t.id <> o.id
"""
_FOUND: LiteralString = """
UPDATE crawl_target t SET key = n.key, username = n.username, account_posts = n.posts,
    lease_until = NULL, due_at = NULL, state = %(new)s, state_reason = '',
    state_at = clock_timestamp()
FROM unnest(
    %(handles)s::text[], %(keys)s::text[], %(usernames)s::text[], %(posts)s::bigint[]
) AS n(handle, key, username, posts)
WHERE t.kind = %(kind)s AND t.handle = n.handle AND t.same_as IS NULL
"""
# A handle that X does not know may be registered tomorrow: it rests, and is asked again.
_ABSENT: LiteralString = """
UPDATE crawl_target t SET state = n.state, state_reason = n.reason, lease_until = NULL,
    state_at = clock_timestamp(), due_at = clock_timestamp() + %(rest)s * interval '1 s'
FROM unnest(%(handles)s::text[], %(states)s::text[], %(reasons)s::text[])
    AS n(handle, state, reason)
WHERE t.kind = %(kind)s AND t.handle = n.handle
"""
_POSTS_ABOVE: LiteralString = """
SELECT coalesce(sum(post_count), 0) FROM crawl_page WHERE target_id = %s AND oldest_id >= %s
"""
_POSTS_WITHIN: LiteralString = """
SELECT coalesce(sum(post_count), 0) FROM crawl_page
WHERE target_id = %s AND fetched_at > clock_timestamp() - %s * interval '1 s'
"""
_KNOWN_HANDLES: LiteralString = """
SELECT handle FROM crawl_target WHERE kind = %(kind)s AND handle = ANY(%(handles)s)
UNION SELECT lower(username) FROM crawl_target
WHERE kind = %(kind)s AND username IS NOT NULL AND lower(username) = ANY(%(handles)s)
"""
# `+` and `-` of multiranges (since PostgreSQL 14) are union and difference, in the row as it is
# now: two processes that add to a coverage at once lose nothing of each other.
# https://www.postgresql.org/docs/current/functions-range.html
_COVER: LiteralString = """
UPDATE crawl_target SET covered = covered + %(known)s::int8multirange,
    unreachable = unreachable - (covered + %(known)s::int8multirange)
WHERE id = %(id)s
"""
_GIVE_UP: LiteralString = """
UPDATE crawl_target SET unreachable = unreachable + %s::int8multirange - covered,
    unreachable_reason = %s
WHERE id = %s
"""
# By hand, as every statement of a walk: one that read a single page ends with it.
_FINISH: LiteralString = """
UPDATE crawl_target SET state = %(state)s, state_reason = %(reason)s,
    state_at = CASE WHEN state = %(state)s THEN state_at ELSE clock_timestamp() END,
    crawled_at = CASE WHEN %(crawled)s THEN clock_timestamp() ELSE crawled_at END,
    due_at = CASE WHEN %(rest)s > 0 THEN clock_timestamp() + %(rest)s * interval '1 s' END,
    lease_until = CASE WHEN lease_owner = %(owner)s THEN NULL ELSE lease_until END
WHERE id = %(id)s
"""
# Many walks that brought nothing, in one round trip: three times as fast as one by one.
_FINISH_ALL: LiteralString = """
WITH walked AS (
    SELECT * FROM json_to_recordset(%(walked)s::json) AS v(
        target bigint, page uuid, endpoint text, params jsonb, credential text, body bytea,
        state text, reason text
    )
), page AS (
    INSERT INTO crawl_page (id, run_id, target_id, endpoint, params, credential, post_count,
        user_count, new_count, updated_count, body)
    SELECT page, %(run)s, target, endpoint, params, credential, 0, 0, 0, 0, body
    FROM walked ON CONFLICT (id) DO NOTHING
)
UPDATE crawl_target t SET state = v.state, state_reason = v.reason,
    state_at = CASE WHEN t.state = v.state THEN t.state_at ELSE clock_timestamp() END,
    crawled_at = clock_timestamp(), due_at = NULL,
    lease_until = CASE WHEN t.lease_owner = %(owner)s THEN NULL ELSE t.lease_until END
FROM walked v WHERE t.id = v.target
"""
# How often a timeline posts is told by its newest pages, at most three of them and no more
# than bring 20 posts. A walk that a budget or a signal stopped stays due.
_SCHEDULE: LiteralString = """
UPDATE crawl_target t SET due_at = clock_timestamp() + interval '1 s' * CASE
    WHEN t.state = %(failed)s THEN %(least)s
    WHEN l.posts IS NULL OR l.oldest < %(first_dated_id)s THEN %(longest)s
    ELSE least(%(longest)s, greatest(
        %(least)s,
        (extract(epoch FROM clock_timestamp()) - l.newest_s) / 2,
        %(posts)s * (extract(epoch FROM clock_timestamp()) - l.oldest_s) / l.posts
    )) END::float8
FROM crawl_run r, (
    SELECT DISTINCT target_id FROM crawl_page
    WHERE run_id = %(run)s AND target_id IS NOT NULL
) v LEFT JOIN LATERAL (
    SELECT sum(post_count) AS posts, min(oldest_id) AS oldest,
        ((min(oldest_id) >> 22) + %(epoch_ms)s) / 1000.0 AS oldest_s,
        ((max(newest_id) >> 22) + %(epoch_ms)s) / 1000.0 AS newest_s
    FROM (
        SELECT post_count, oldest_id, newest_id,
            sum(post_count) OVER (ORDER BY oldest_id DESC) - post_count AS newer
        FROM (
            SELECT * FROM crawl_page
            WHERE target_id = v.target_id AND oldest_id IS NOT NULL
            ORDER BY oldest_id DESC LIMIT 3
        ) p
    ) p WHERE newer < 20
) l ON true
WHERE r.id = %(run)s AND t.id = v.target_id AND t.kind = %(kind)s AND (
    t.state = %(failed)s
    OR (t.state = ANY(%(done)s::text[]) AND t.crawled_at >= r.started_at)
)
"""
