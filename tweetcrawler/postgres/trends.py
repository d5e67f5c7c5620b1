"""Trends of places, and who is busiest in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tweetcrawler.pages import Bought
from tweetcrawler.postgres.budgets import spend
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.postgres.pages import insert_page, table_named
from tweetcrawler.postgres.targets import opened_searches
from tweetcrawler.targets import Place, Target, Trend


class Trends(Connected):
    """The trends of a session."""

    def save_trends(
        self, run: int, bought: Bought, place: Place, trends: Sequence[Trend]
    ) -> list[Target]:
        """Stores what was seen of a place's trends; gives the targets that collect their posts."""

        def work(connection: psycopg.Connection[Any]) -> list[Target]:
            with connection.transaction():
                is_new = insert_page(connection, run, bought)
                targets = opened_searches(connection, [trend.query for trend in trends])
                seen = [
                    (bought.id, t.rank, place.woeid, place.name, t.name, t.volume, target.id)
                    for t, target in zip(trends, targets, strict=True)
                ]
                connection.cursor().executemany(_SEEN, seen)
                if is_new:
                    spend(connection, run, bought)
                # Two trends may be one query, such as two spellings of a hashtag.
                return list({target.id: target for target in targets}.values())

        return self.do(work)

    def trending_authors(self, run: int, count: int) -> list[str]:
        """The handles with most posts in the trends that a run saw, the busiest first."""
        statement = _AUTHORS.format(t=table_named(self.table))
        rows = self.do(lambda c: c.execute(statement, [run, count]).fetchall())
        return [row[0] for row in rows]


_SEEN: LiteralString = """
INSERT INTO crawl_trend (page_id, rank, woeid, place, name, volume, target_id)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
# Only handles that X accepts in a request: it answers 400 to a whole look-up with a longer one,
# which a few old accounts still have. Each post counts once, in however many trends it is.
_AUTHORS = sql.SQL("""
SELECT lower(t.tweet_from)
FROM crawl_found f JOIN {t} t ON t.id = f.tweet_id
WHERE f.target_id IN (
    SELECT c.target_id FROM crawl_trend c JOIN crawl_page p ON p.id = c.page_id
    WHERE p.run_id = %s
) AND t.tweet_from ~ '^[A-Za-z0-9_]{{1,15}}$'
GROUP BY 1 ORDER BY count(DISTINCT t.id) DESC, 1 LIMIT %s
""")
