"""Leases of targets: taken by one process for a minute, renewed with every page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, LiteralString

import psycopg

from tweetcrawler import coverage
from tweetcrawler.identity import is_gone
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.targets import LEASE_S, TIMELINE, Claim


class Leases(Connected):
    """The leases of a session. It remembers those that it took, of targets and of posts."""

    def __init__(self, conninfo: str, table: str, place: str, stopping: Callable[[], bool]) -> None:
        super().__init__(conninfo, table, place, stopping)
        self._leased: set[int] = set()
        self._leased_posts: set[int] = set()

    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]:
        """Takes the lease of handles that nobody resolved yet; the rest is being resolved
        by others.
        """

        def take(connection: psycopg.Connection[Any], wanted: Sequence[str]) -> set[str]:
            given = {
                "kind": TIMELINE,
                "owner": owner,
                "lease": LEASE_S,
                "handles": sorted(set(wanted)),
            }
            rows = connection.execute(_CLAIM_HANDLES, given).fetchall()
            self._leased.update(row[1] for row in rows)
            return {row[0] for row in rows}

        def work(connection: psycopg.Connection[Any]) -> set[str]:
            mine = take(connection, handles)
            others = [handle for handle in handles if handle not in mine]
            if others and _free_from_the_dead(connection, _unresolved(connection, others)):
                mine |= take(connection, others)
            return mine

        return self.do(work)

    def claim(self, target: int, owner: str, since: float) -> Claim | None:
        """The lease of a target, with what is known of it; None while another process has it."""
        return self.claim_all([target], owner, since).get(target)

    def claim_all(self, targets: Sequence[int], owner: str, since: float) -> dict[int, Claim]:
        """The leases of those targets that no other process has, with what is known of each."""

        def take(connection: psycopg.Connection[Any], wanted: Sequence[int]) -> dict[int, Claim]:
            given = {"ids": list(wanted), "owner": owner, "lease": LEASE_S, "since": since}
            rows = connection.execute(_CLAIM, given).fetchall()
            return {
                number: Claim(
                    coverage.from_text(covered), coverage.from_text(unreachable), posts, crawled
                )
                for number, covered, unreachable, posts, crawled in rows
            }

        def work(connection: psycopg.Connection[Any]) -> dict[int, Claim]:
            claims = take(connection, targets)
            others = [target for target in targets if target not in claims]
            if others and _free_from_the_dead(connection, others):
                claims |= take(connection, others)
            self._leased.update(claims)
            return claims

        return self.do(work)

    def release(self, owner: str, targets: Sequence[int] | None = None) -> None:
        """Gives back the leases that this session took; with `targets` only those of them,
        and all posts.
        """
        leased = self._leased if targets is None else self._leased.intersection(targets)

        def work(connection: psycopg.Connection[Any]) -> None:
            connection.execute(_END, [sorted(leased), owner])
            if self._leased_posts:
                connection.execute(
                    "DELETE FROM crawl_lookup WHERE lease_owner = %s AND lease_until IS NOT NULL "
                    "AND tweet_id = ANY(%s)",
                    [owner, sorted(self._leased_posts)],
                )

        self.do(work)

    def free(self, owner: str, targets: Sequence[int]) -> None:
        """Gives back what a process that died held: of these targets, and every post that
        it asked for.

        No index knows the owners of targets, since it would have to change with every page.
        """

        def work(connection: psycopg.Connection[Any]) -> None:
            connection.execute(_END, [list(targets), owner])
            connection.execute(
                "DELETE FROM crawl_lookup WHERE lease_owner = %s AND lease_until IS NOT NULL",
                [owner],
            )

        self.do(work)


def _unresolved(connection: psycopg.Connection[Any], handles: Sequence[str]) -> list[int]:
    rows = connection.execute(_UNRESOLVED, [TIMELINE, list(handles)]).fetchall()
    return [number for (number,) in rows]


def _free_from_the_dead(connection: psycopg.Connection[Any], targets: Sequence[int]) -> bool:
    """Ends the leases of processes of this machine that were killed; whether there were any."""
    holders = connection.execute(_HOLDERS, [list(targets)]).fetchall()
    gone = [holder for (holder,) in holders if is_gone(holder)]
    if gone:
        connection.execute(
            "UPDATE crawl_target SET lease_until = NULL WHERE lease_owner = ANY(%s) "
            "AND id = ANY(%s)",
            [gone, list(targets)],
        )
    return bool(gone)


# In the order of the handles, so that two processes which claim the same ones lock them in one
# order. `clock_timestamp()`, here as elsewhere, since `now()` stands still in a transaction.
# https://www.postgresql.org/docs/current/functions-datetime.html
_CLAIM_HANDLES: LiteralString = """
INSERT INTO crawl_target AS t (kind, handle, lease_owner, lease_until)
SELECT %(kind)s, h, %(owner)s, clock_timestamp() + %(lease)s * interval '1 s'
FROM unnest(%(handles)s::text[]) h ORDER BY h
ON CONFLICT (kind, handle) DO UPDATE
SET lease_owner = excluded.lease_owner, lease_until = excluded.lease_until
WHERE t.key IS NULL AND t.same_as IS NULL AND (
    t.lease_owner = excluded.lease_owner OR t.lease_until IS NULL
    OR t.lease_until <= clock_timestamp()
)
RETURNING t.handle, t.id
"""
# By hand: it is sent for every chunk of a crawl of which nothing is new. In the order of
# their ids, so that two processes that claim the same never wait for each other in a ring.
_CLAIM: LiteralString = """
UPDATE crawl_target t
SET lease_owner = %(owner)s, lease_until = clock_timestamp() + %(lease)s * interval '1 s'
FROM (
    SELECT id FROM crawl_target
    WHERE id = ANY(%(ids)s)
    AND (lease_owner = %(owner)s OR lease_until IS NULL OR lease_until <= clock_timestamp())
    ORDER BY id FOR UPDATE
) free
WHERE t.id = free.id
RETURNING t.id, t.covered::text, t.unreachable::text, t.account_posts,
    coalesce(t.crawled_at >= to_timestamp(%(since)s), false)
"""
# The owner stays in the row: only `lease_until` tells whether there is a lease.
_END: LiteralString = """
UPDATE crawl_target SET lease_until = NULL
WHERE id = ANY(%s) AND lease_owner = %s AND lease_until IS NOT NULL
"""
_UNRESOLVED: LiteralString = """
SELECT id FROM crawl_target WHERE kind = %s AND key IS NULL AND handle = ANY(%s)
"""
# Only live leases, of a few ids: each name of a holder is looked up in /proc.
_HOLDERS: LiteralString = """
SELECT DISTINCT lease_owner FROM crawl_target
WHERE lease_until > clock_timestamp() AND id = ANY(%s)
"""
