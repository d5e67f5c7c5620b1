"""History that is kept for a time: pages without news, and runs that bought nothing.

What readers need stays: pages with posts or users, pages that close a hole of a coverage, counts
and trends, lost answers, and the number of all requests, which `crawl_past` takes over.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg

from tweetcrawler.endpoints import SEARCH_ALL, SEARCH_RECENT, USER_TWEETS, USERS_BY
from tweetcrawler.postgres.connection import Connected

# Their empty answers say nothing that is kept. Others have their whole meaning in the body.
WITHOUT_NEWS = (USER_TWEETS, USERS_BY, SEARCH_RECENT, SEARCH_ALL)
# Locked together until their transaction ends, and gone in some hundredths of a second.
_PAGES_AT_ONCE = 5_000


class Removed(NamedTuple):
    """The number of pages and of runs that went."""

    pages: int
    runs: int


def last_day(now: datetime, retain_s: float) -> date:
    """The first day whose history is kept: never after the beginning of the UTC month, since
    budgets count its requests.
    """
    kept = now.astimezone(UTC) - timedelta(seconds=retain_s)
    return min(kept, now.astimezone(UTC).replace(day=1)).date()


class History(Connected):
    """The history of a session."""

    def remove_history(self, before: date) -> Removed:
        """Removes pages without news and empty runs of the UTC days before this one.

        Each day is looked at once, and a day that another process looks at is left to it.
        """
        given: dict[str, Any] = {
            "before": before,
            "endpoints": list(WITHOUT_NEWS),
            "limit": _PAGES_AT_ONCE,
        }
        [given["after"]] = self.do(lambda c: c.execute(_MARK).fetchone()) or (None,)
        if given["after"] is not None and given["after"].date() >= before:
            return Removed(0, 0)
        given["since"] = given["after"]
        pages = 0
        while (row := self.do(lambda c: c.execute(_REMOVE_PAGES, given).fetchone())) and row[0]:
            pages += row[0]
            given["after"] = row[1]
        return Removed(pages, self.do(lambda c: _remove_runs(c, given)))


def _remove_runs(connection: psycopg.Connection[Any], given: dict[str, Any]) -> int:
    with connection.transaction():
        runs = [row[0] for row in connection.execute(_REMOVE_RUNS, given)]
        connection.execute(_HAND_OVER, {"runs": runs})
        connection.execute(_REMOVE_BUDGETS, {**given, "runs": list(map(str, runs))})
        connection.execute(_SET_MARK, given)
        return len(runs)


_MARK: LiteralString = """
SELECT max(day)::timestamp AT TIME ZONE 'UTC' FROM crawl_past WHERE pages = 0
"""
# A run that goes on counts its own pages at its end. One without an end was killed, if it bought
# nothing lately.
_REMOVE_PAGES: LiteralString = """
WITH bounds AS (SELECT %(before)s::timestamp AT TIME ZONE 'UTC' AS before),
old AS (
    SELECT p.id FROM bounds, crawl_page p JOIN crawl_run r ON r.id = p.run_id
    WHERE p.fetched_at < bounds.before
    AND (%(after)s::timestamptz IS NULL OR p.fetched_at >= %(after)s)
    AND p.post_count = 0 AND p.user_count = 0 AND p.refused IS NULL
    AND p.endpoint = ANY(%(endpoints)s) AND NOT p.params ? 'until_id'
    AND (r.ended_at < bounds.before OR (r.ended_at IS NULL AND NOT EXISTS (
        SELECT FROM crawl_page q WHERE q.run_id = r.id AND q.fetched_at >= bounds.before
    )))
    ORDER BY p.fetched_at LIMIT %(limit)s FOR UPDATE OF p SKIP LOCKED
), gone AS (
    DELETE FROM crawl_page p USING old WHERE p.id = old.id
    RETURNING p.run_id, p.fetched_at, p.credential, p.endpoint
), counted AS (
    INSERT INTO crawl_past AS past (run_id, day, credential, endpoint, pages)
    SELECT run_id, (fetched_at AT TIME ZONE 'UTC')::date, credential, endpoint, count(*)
    FROM gone GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (run_id, day, credential, endpoint)
    DO UPDATE SET pages = past.pages + excluded.pages
)
SELECT count(*), max(fetched_at) FROM gone
"""
# A run goes with its last page. One that never had a page is as old as its beginning.
_REMOVE_RUNS: LiteralString = """
DELETE FROM crawl_run r
WHERE coalesce(r.ended_at, r.started_at) < %(before)s::timestamp AT TIME ZONE 'UTC'
AND (
    %(since)s::timestamptz IS NULL OR r.started_at >= %(since)s
    OR EXISTS (SELECT FROM crawl_past p WHERE p.run_id = r.id)
)
AND NOT EXISTS (SELECT FROM crawl_page p WHERE p.run_id = r.id)
AND NOT EXISTS (SELECT FROM crawl_import i WHERE i.run_id = r.id)
AND NOT EXISTS (SELECT FROM crawl_reserved v WHERE v.run_id = r.id)
RETURNING id
"""
_HAND_OVER: LiteralString = """
WITH gone AS (
    DELETE FROM crawl_past WHERE run_id = ANY(%(runs)s::bigint[])
    RETURNING day, credential, endpoint, pages
)
INSERT INTO crawl_past AS past (run_id, day, credential, endpoint, pages)
SELECT 0, day, credential, endpoint, sum(pages) FROM gone
GROUP BY 2, 3, 4 ORDER BY 2, 3, 4
ON CONFLICT (run_id, day, credential, endpoint) DO UPDATE SET pages = past.pages + excluded.pages
"""
# What was spent in a period that is over is counted again from the pages, should it be asked for.
_REMOVE_BUDGETS: LiteralString = """
DELETE FROM crawl_budget
WHERE (scope = 'run' AND period = ANY(%(runs)s))
OR (scope = 'day' AND period < %(before)s::date::text)
OR (scope = 'month' AND period < to_char(%(before)s::date, 'YYYY-MM'))
"""
_SET_MARK: LiteralString = """
WITH older AS (DELETE FROM crawl_past WHERE pages = 0 AND day < %(before)s::date)
INSERT INTO crawl_past (run_id, day, credential, endpoint, pages)
VALUES (0, %(before)s::date, '', '', 0) ON CONFLICT DO NOTHING
"""
