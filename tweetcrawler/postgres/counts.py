"""Counts of posts that X was asked for month by month: how far each has come."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, LiteralString

import psycopg

from tweetcrawler.pages import Bought, PartCount
from tweetcrawler.postgres.budgets import spend
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.postgres.pages import insert_page


class Counts(Connected):
    """The counts of a session."""

    def open_count(self, asked: PartCount) -> PartCount:
        """The count as far as an interrupted run brought it, or as it was given."""
        row = self.do(lambda c: c.execute(_OPEN, asdict(asked)).fetchone())
        return asked if row is None else PartCount(**{**asdict(asked), **dict(_named(row))})

    def save_count(self, run: int, bought: Bought, count: PartCount) -> None:
        """Saves a page of counts, and how far the count has come by it."""

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                is_new = insert_page(connection, run, bought)
                connection.execute(_SAVE, asdict(count))
                if is_new:
                    spend(connection, run, bought)

        self.do(work)


def _named(row: tuple[Any, ...]) -> zip[tuple[str, Any]]:
    return zip(("posts", "begins_at", "ends_at"), row, strict=True)


_OPEN: LiteralString = """
SELECT posts, extract(epoch FROM begins_at)::float8, extract(epoch FROM ends_at)::float8
FROM crawl_count
WHERE query = %(query)s AND endpoint = %(endpoint)s AND since_id = %(since_id)s
AND until_id IS NOT DISTINCT FROM %(until_id)s::bigint AND done_at IS NULL
"""
# A count that has ended begins again from its top: X's numbers change.
_SAVE: LiteralString = """
INSERT INTO crawl_count (query, endpoint, since_id, until_id, posts, begins_at, ends_at, done_at)
VALUES (%(query)s, %(endpoint)s, %(since_id)s, %(until_id)s, %(posts)s,
    to_timestamp(%(begins_at)s), to_timestamp(%(ends_at)s),
    CASE WHEN %(is_done)s THEN clock_timestamp() END)
ON CONFLICT (query, endpoint, since_id, until_id) DO UPDATE SET posts = excluded.posts,
    begins_at = excluded.begins_at, ends_at = excluded.ends_at, done_at = excluded.done_at
"""
