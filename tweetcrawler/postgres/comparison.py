"""The coverage compared with the table: whether the posts that are known are still there.

A few hundred look-ups by key, however large the table: the ends of the last pages and of a
sample of older ones.
"""

from __future__ import annotations

import logging
from typing import Any, LiteralString
from uuid import UUID

import orjson
import psycopg
from psycopg import sql
from psycopg.types.json import Json

from tweetcrawler.errors import DatabaseError
from tweetcrawler.flatten import flatten
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.postgres.feed import bodies_of
from tweetcrawler.postgres.pages import table_named

# Pages that are looked at: of the last ones, and of all.
NEWEST, SAMPLE = 20, 100

log = logging.getLogger(__name__)


class Comparisons(Connected):
    """The comparisons of a session."""

    def compare_table(self) -> None:
        """Compares the table with what the coverage says of it, and notes its name.

        Without the posts of the last pages, or of most, it was emptied, restored from an older
        copy or made again. Fewer are a warning: their owner may have deleted them.

        **Errors**: `DatabaseError`, whose sentence names the way back.
        """

        def work(connection: psycopg.Connection[Any]) -> tuple[str, int, int, int]:
            name, after = self._noted(connection)
            _, lacking = self._looked_up(connection, _NEWEST, after, NEWEST)
            missing = [page for page in lacking if self._is_missing(connection, page)]
            sample, old = self._looked_up(connection, _SAMPLE, after, SAMPLE)
            if not missing and 2 * len(old) <= sample and name != self.table:
                connection.execute(_NOTE, {"name": self.table, "after": after})
            without = connection.execute(_WITHOUT_BODY, [missing]).fetchone() or (0,)
            return name, len(missing), without[0], len(old)

        name, missing, without, old = self.do(work)
        if missing:
            raise DatabaseError(self._sentence(name, missing, without))
        if old:
            log.warning("%s", self._warning(old))

    def accept_table(self) -> None:
        """Takes the table as it is: pages that were bought until now are not compared again."""
        self.do(lambda c: c.execute(_ACCEPT, {"name": self.table}))

    def _noted(self, connection: psycopg.Connection[Any]) -> tuple[str, int]:
        row = connection.execute("SELECT name, compared_after FROM crawl_table").fetchone()
        return (row[0], row[1]) if row else ("", 0)

    def _looked_up(
        self, connection: psycopg.Connection[Any], pages: sql.Composed, after: int, count: int
    ) -> tuple[int, list[UUID]]:
        """How many pages were looked at, and those of which neither end is stored."""
        statement = _LOOKED_UP.format(pages=pages, t=table_named(self.table))
        rows = connection.execute(statement, {"after": after, "count": count}).fetchall()
        return len(rows), [page for page, is_there in rows if not is_there]

    def _is_missing(self, connection: psycopg.Connection[Any], page: UUID) -> bool:
        """Whether a row of this page is missing that nobody asked to delete."""
        row = connection.execute(_BODY, [page]).fetchone()
        if row is None or not row[0]:
            return row is not None
        if row[1] is None and row[2] is None:
            return False  # without its body nobody knows what the deleted posts were
        rows = flatten(orjson.loads(bodies_of(connection)(page, row[1]))).rows
        ids = [{"id": r["id"], "retweeted": r["retweeted_status_id"]} for r in rows]
        found = connection.execute(_LEFT.format(t=table_named(self.table)), [Json(ids)]).fetchone()
        return found is not None and bool(found[0])

    def _sentence(self, name: str, missing: int, without: int) -> str:
        if name and name != self.table:
            return (
                f"what is known in this database is of the table {name}, and tablename says "
                f"{self.table}, which lacks those posts: correct tablename, name a database of "
                f"its own for {self.table}, or fill it with `tweetcrawler reflatten`"
            )
        return (
            f"the table {self.table} lacks posts of {missing} of the last pages that were bought: "
            "it was emptied, made again, or restored from an older copy; `tweetcrawler reflatten` "
            "puts back what the stored pages hold, free of charge, and `tweetcrawler db accept` "
            "goes on without them"
            + (f"; {without} of those pages are stored without their body (raw)" * bool(without))
        )

    def _warning(self, old: int) -> str:
        return (
            f"the table {self.table} lacks the posts of {old} of {SAMPLE} older pages: if that is "
            "not meant, `tweetcrawler reflatten` puts back what the stored pages hold"
        )


_LOOKED_UP = sql.SQL("""
WITH p AS ({pages})
SELECT p.id, EXISTS (SELECT FROM {t} t WHERE t.id IN (p.newest_id, p.oldest_id))
FROM p
""")
# Only what is covered is compared: what was forgotten is bought again.
_IS_COVERED = sql.SQL("""p.oldest_id IS NOT NULL
    AND EXISTS (SELECT FROM crawl_target k WHERE k.id = p.target_id AND k.covered @> p.oldest_id)
    AND NOT EXISTS (SELECT FROM crawl_refused r WHERE r.page_id = p.id)""")
# Pages without posts tell nothing, and many of them may follow one another.
_NEWEST = sql.SQL("""
    SELECT id, newest_id, oldest_id FROM (
        SELECT id, number, target_id, newest_id, oldest_id FROM crawl_page
        WHERE number > %(after)s ORDER BY number DESC LIMIT 5000
    ) p
    WHERE {covered} ORDER BY number DESC LIMIT %(count)s""").format(covered=_IS_COVERED)
_SAMPLE = sql.SQL("""
    SELECT DISTINCT p.id, p.newest_id, p.oldest_id
    FROM (
        SELECT (%(after)s + 1 + random() * (
            (SELECT max(number) FROM crawl_page) - %(after)s))::bigint AS number
        FROM generate_series(1, %(count)s)
    ) r CROSS JOIN LATERAL (
        SELECT id, newest_id, oldest_id FROM crawl_page p
        WHERE number BETWEEN r.number AND r.number + 500 AND {covered}
        ORDER BY number LIMIT 1
    ) p""").format(covered=_IS_COVERED)
# Without any tombstone every row of a page is expected.
_BODY: LiteralString = """
SELECT EXISTS (SELECT FROM crawl_tombstone), body, segment_id FROM crawl_page WHERE id = %s
"""
_WITHOUT_BODY: LiteralString = """
SELECT count(*) FROM crawl_page WHERE id = ANY(%s) AND body IS NULL AND segment_id IS NULL
"""
_LEFT = sql.SQL("""
SELECT EXISTS (
    SELECT FROM json_to_recordset(%s::json) AS r(id bigint, retweeted bigint)
    WHERE NOT EXISTS (SELECT FROM {t} t WHERE t.id = r.id) AND NOT EXISTS (
        SELECT FROM crawl_tombstone d WHERE d.tweet_id IN (r.id, r.retweeted)
    )
)
""")
_NOTE: LiteralString = """
WITH gone AS (DELETE FROM crawl_table WHERE name <> %(name)s)
INSERT INTO crawl_table (name, compared_after) VALUES (%(name)s, %(after)s)
ON CONFLICT (name) DO NOTHING
"""
_ACCEPT: LiteralString = """
WITH gone AS (DELETE FROM crawl_table WHERE name <> %(name)s)
INSERT INTO crawl_table (name, compared_after)
SELECT %(name)s, coalesce(max(number), 0) FROM crawl_page
ON CONFLICT (name) DO UPDATE SET compared_after = excluded.compared_after
"""
