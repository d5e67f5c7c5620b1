"""Sections of `status`: deletions that are not done, jobs of X, and looks at counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tweetcrawler.look.sections import Section, duration, moment

_OPEN = """
SELECT 'posts', reason, coalesce(reference, ''), count(*),
    extract(epoch FROM min(asked_at))::float8, extract(epoch FROM by_at)::float8
FROM crawl_tombstone WHERE done_at IS NULL GROUP BY reason, reference, by_at
UNION ALL
SELECT 'users', reason, coalesce(reference, ''), count(*),
    extract(epoch FROM min(asked_at))::float8, extract(epoch FROM by_at)::float8
FROM crawl_tombstone_user WHERE done_at IS NULL GROUP BY reason, reference, by_at
ORDER BY 6 NULLS LAST, 5
"""
_JOBS = """
SELECT DISTINCT ON (kind) kind, state, ids_count, found_count,
    extract(epoch FROM begun_at)::float8, extract(epoch FROM done_at)::float8
FROM crawl_check ORDER BY kind, id DESC
"""

_STATE = """
SELECT count(*) FILTER (WHERE due_at <= now()), count(due_at), sum(looks),
    extract(epoch FROM min(due_at))::float8, sum(late_s) / nullif(sum(looks), 0)
FROM crawl_due WHERE purpose = 'metrics' HAVING count(*) > 0
"""


def deletions(connection: Any) -> tuple[str, Mapping[str, Any], list[Section]]:
    """Open deletions with the time until which they must be done, and the last job of a kind."""
    rows, checks = (connection.execute(each).fetchall() for each in (_OPEN, _JOBS))
    names = ("what", "reason", "reference", "count", "asked_at", "by_at")
    asked = [dict(zip(names, row, strict=True)) for row in rows]
    names = ("kind", "state", "ids", "found", "begun_at", "done_at")
    of_jobs = [dict(zip(names, row, strict=True)) for row in checks]
    plain = {"open": asked, "jobs": of_jobs}
    return "deletions", plain, [*_open_section(asked), *_job_section(of_jobs)]


def _open_section(asked: list[dict[str, Any]]) -> list[Section]:
    if not asked:
        return []
    rows = [
        (
            f"{one['count']:,} {one['what']}",
            one["reason"],
            one["reference"] or "-",
            moment(one["asked_at"]),
            moment(one["by_at"]),
            _left(one["by_at"]),
        )
        for one in asked
    ]
    about = ("`tweetcrawler comply` without ids finishes them",)
    headings = ("what", "reason", "reference", "asked at", "by", "left")
    return [Section("Deletions that are not done", about, headings, rows)]


def _left(by_at: float | None) -> str:
    if by_at is None:
        return "-"
    left_s = by_at - time.time()
    return duration(left_s) if left_s > 0 else f"late by {duration(-left_s)}"


def _job_section(of_jobs: list[dict[str, Any]]) -> list[Section]:
    rows = [
        (
            one["kind"],
            one["state"],
            f"{one['ids']:,}",
            f"{one['found']:,}",
            moment(one["begun_at"]),
            moment(one["done_at"]),
        )
        for one in of_jobs
    ]
    headings = ("job of", "state", "ids", "found", "begun", "done")
    return [Section("Compliance jobs", (), headings, rows, frozenset((2, 3)))] if rows else []


def looks(connection: Any) -> tuple[str, Mapping[str, Any], list[Section]]:
    """The section of `status`: posts that are due, the next look, and how late looks were."""
    row = connection.execute(_STATE).fetchone()
    if row is None:
        return "looks", {}, []
    names = ("due", "scheduled", "done", "next_at", "mean_late_s")
    plain = dict(zip(names, row, strict=True))
    late = "-" if plain["mean_late_s"] is None else duration(plain["mean_late_s"])
    cells = (f"{row[0]:,}", f"{row[1]:,}", f"{row[2]:,}", moment(row[3]), late)
    headings = ("due", "scheduled posts", "looks done", "next", "late, on average")
    return "looks", plain, [Section("Counts over time", (), headings, [cells])]
