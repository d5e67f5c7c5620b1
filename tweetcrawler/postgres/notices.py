"""Notices to people: what was sent, when, and what could not be delivered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg

from tweetcrawler.postgres.connection import Connected


class Notices(Connected):
    """The notices of a session."""

    def claim_notices(
        self, found: Sequence[tuple[str, str]], places: Sequence[str]
    ) -> list[tuple[str, str, str, int, float]]:
        """Notes (cause, text) for each place, and gives what is to be sent there now.

        That is (cause, place, text, number of notices that were not sent since the last,
        time). It counts as sent from now on, so that nobody else sends it, also when this
        process is killed; `keep_notices` takes that back.
        """

        def work(connection: psycopg.Connection[Any]) -> list[tuple[str, str, str, int, float]]:
            with connection.transaction():
                for cause, text in sorted(found):
                    connection.execute(_NOTE, [cause, text, sorted(places)])
                return connection.execute(_CLAIM, [sorted(places)]).fetchall()

        return self.do(work)

    def keep_notices(self, failed: Sequence[tuple[str, str]]) -> None:
        """Keeps those of (cause, place) that could not be delivered, for a later claim."""
        if failed:
            causes, places = [one[0] for one in failed], [one[1] for one in failed]
            self.do(lambda c: c.execute(_KEEP, [causes, places]))


# Within an hour of the last one a notice is only counted.
_NOTE: LiteralString = """
INSERT INTO crawl_notice AS n (cause, place, said, kept_count)
SELECT %s, place, %s, 1 FROM unnest(%s::text[]) AS asked (place)
ON CONFLICT (cause, place) DO UPDATE SET
    said = excluded.said,
    noted_at = clock_timestamp(),
    is_waiting = n.is_waiting OR n.sent_at < clock_timestamp() - interval '1 hour',
    kept_count = n.kept_count + 1
"""
# An address that failed is tried again after five minutes: each try may take its whole time.
_CLAIM: LiteralString = """
UPDATE crawl_notice n SET
    is_waiting = false, sent_at = clock_timestamp(), tried_at = clock_timestamp(), kept_count = 0
FROM (
    SELECT cause, place, kept_count FROM crawl_notice
    WHERE place = ANY(%s) AND is_waiting
        AND (tried_at IS NULL OR tried_at < clock_timestamp() - interval '5 minutes')
    ORDER BY cause, place FOR UPDATE
) o
WHERE n.cause = o.cause AND n.place = o.place
RETURNING n.cause, n.place, n.said, o.kept_count - 1, extract(epoch FROM n.noted_at)::float8
"""
_KEEP: LiteralString = """
UPDATE crawl_notice n SET
    is_waiting = true, sent_at = NULL, kept_count = n.kept_count + 1
FROM unnest(%s::text[], %s::text[]) AS f (cause, place)
WHERE n.cause = f.cause AND n.place = f.place
"""
