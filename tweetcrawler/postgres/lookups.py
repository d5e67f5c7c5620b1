"""Posts by id: which are to be asked for, which X did not give, and their counts over time.

These statements run in worker processes, which do without SQLAlchemy: their two conditions
are fitted in by psycopg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tweetcrawler.errors import DatabaseRefuses
from tweetcrawler.identity import is_gone
from tweetcrawler.pages import Batch, Gone, Lookup, Metrics, Saved
from tweetcrawler.postgres.budgets import spend
from tweetcrawler.postgres.leases import Leases
from tweetcrawler.postgres.pages import (
    counts_before_statement,
    save_parameters,
    table_named,
)
from tweetcrawler.postgres.refused import KEPT, RefusedPages, note_kept_ids
from tweetcrawler.targets import LEASE_S, TIMELINE

_COUNTS = (
    "like_count",
    "retweet_count",
    "reply_count",
    "quote_count",
    "bookmark_count",
    "impression_count",
)


class Lookups(Leases, RefusedPages):
    """The look-ups of a session."""

    def claim_ids(
        self, ids: Sequence[int], owner: str, *, age_s: float | None, rest_s: float
    ) -> Lookup:
        """Which of the posts this process is to ask for.

        Left out are those that are stored or, with `age_s`, had their counts read in the
        last `age_s` seconds, those that X did not give in the last `rest_s` seconds, and
        those of pages that wait for the table.
        """
        given = {"owner": owner, "lease": LEASE_S, "rest": rest_s, "age": age_s, "kept": KEPT}
        known = (_IS_STORED if age_s is None else _WAS_COUNTED).format(t=table_named(self.table))
        take, drop = _TAKE.format(known=known), _DROP.format(known=known)

        def work(connection: psycopg.Connection[Any]) -> Lookup:
            _free_lookups_of_the_dead(connection, ids)
            wanted = sorted(set(ids))
            mine = _ids(connection.execute(take, {**given, "ids": wanted}))
            self._leased_posts.update(mine)
            mine -= _ids(connection.execute(drop, {**given, "ids": sorted(mine)}))
            busy = _ids(connection.execute(_BUSY, [wanted, owner]))
            return Lookup(sorted(mine), sorted(busy), [i for i in wanted if i not in mine | busy])

        return self.do(work)

    def save_looked_up(
        self,
        run: int,
        batch: Batch,
        gone: Sequence[Gone],
        metrics: Sequence[Metrics],
        *,
        seen_at: float,
        keep_body: bool = True,
    ) -> Saved:
        """Saves a page of posts by id, and X's reason for each that it did not give; gives
        their leases back.

        With `metrics`, their counts at `seen_at` (seconds since 1970) are kept beside those
        known before. A page whose rows are refused is kept without them, as `save` does.
        """
        given = save_parameters(run, "", batch, keep_body)
        seen = {"ids": [m.id for m in metrics], "kind": TIMELINE}
        counts = [(m.id, seen_at, *[getattr(m, name) for name in _COUNTS], m.id) for m in metrics]
        before = counts_before_statement(self.table)

        def note_rest(connection: psycopg.Connection[Any]) -> None:
            cursor = connection.cursor()
            cursor.executemany(_COUNTED, counts)
            cursor.executemany(_GONE, [(g.id, g.state, g.reason) for g in gone])

        def work(connection: psycopg.Connection[Any]) -> Saved:
            with connection.transaction():
                if metrics:
                    connection.execute(before, seen)
                saved = self._merge(connection, given, batch, spends=False)
                self.note_waiting(connection, batch.told)
                note_rest(connection)
                connection.execute(
                    "DELETE FROM crawl_lookup WHERE tweet_id = ANY(%s)",
                    [[row["id"] for row in batch.rows]],
                )
                if not saved.again:
                    spend(connection, run, batch.bought)
            return replace(saved, leased=True)

        try:
            saved = self.do(work)
        except DatabaseRefuses as refusal:
            if not batch.rows:
                raise
            said, ids = refusal.said, [row["id"] for row in batch.rows]

            def note_kept(connection: psycopg.Connection[Any]) -> None:
                note_rest(connection)
                note_kept_ids(connection, ids, said)

            return self.keep(run, "", batch, refusal, keep_body=keep_body, also=note_kept)
        self.hear(batch.told)
        return saved


def _ids(answer: psycopg.Cursor[Any]) -> set[int]:
    return {row[0] for row in answer.fetchall()}


def _free_lookups_of_the_dead(connection: psycopg.Connection[Any], ids: Sequence[int]) -> None:
    holders = connection.execute(
        "SELECT DISTINCT lease_owner FROM crawl_lookup "
        "WHERE tweet_id = ANY(%s) AND lease_owner IS NOT NULL",
        [list(ids)],
    ).fetchall()
    gone = [holder for (holder,) in holders if is_gone(holder)]
    if gone:
        connection.execute("DELETE FROM crawl_lookup WHERE lease_owner = ANY(%s)", [gone])


_IS_STORED = sql.SQL("EXISTS (SELECT FROM {t} t WHERE t.id = i)")
_WAS_COUNTED = sql.SQL("""EXISTS (
    SELECT FROM crawl_metrics m
    WHERE m.tweet_id = i AND m.seen_at > clock_timestamp() - %(age)s * interval '1 s'
)""")
# In the order of the ids, so that two processes that want the same posts never wait for each
# other in a ring.
_TAKE = sql.SQL("""
INSERT INTO crawl_lookup AS l (tweet_id, state, lease_owner, lease_until)
SELECT i, 'asked', %(owner)s, clock_timestamp() + %(lease)s * interval '1 s'
FROM unnest(%(ids)s::bigint[]) i
WHERE NOT {known}
ORDER BY i
ON CONFLICT (tweet_id) DO UPDATE
SET lease_owner = excluded.lease_owner, lease_until = excluded.lease_until
WHERE (
    l.lease_owner = excluded.lease_owner OR l.lease_until IS NULL
    OR l.lease_until <= clock_timestamp()
) AND l.state <> %(kept)s
AND (l.state = 'asked' OR l.seen_at < clock_timestamp() - %(rest)s * interval '1 s')
RETURNING tweet_id
""")
# What another process saved while this one took its lease is known all the same.
_DROP = sql.SQL("""
DELETE FROM crawl_lookup WHERE lease_owner = %(owner)s AND tweet_id = ANY(
    SELECT i FROM unnest(%(ids)s::bigint[]) i WHERE {known}
)
RETURNING tweet_id
""")
_BUSY: LiteralString = """
SELECT tweet_id FROM crawl_lookup
WHERE tweet_id = ANY(%s) AND lease_owner <> %s AND lease_until > clock_timestamp()
"""
_COUNTED: LiteralString = """
INSERT INTO crawl_metrics SELECT %s, to_timestamp(%s), %s::bigint, %s::bigint, %s::bigint,
    %s::bigint, %s::bigint, %s::bigint
WHERE NOT EXISTS (SELECT FROM crawl_tombstone WHERE tweet_id = %s)
ON CONFLICT DO NOTHING
"""
_GONE: LiteralString = """
INSERT INTO crawl_lookup (tweet_id, state, reason) VALUES (%s, %s, %s)
ON CONFLICT (tweet_id) DO UPDATE SET state = excluded.state, reason = excluded.reason,
    seen_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
"""
