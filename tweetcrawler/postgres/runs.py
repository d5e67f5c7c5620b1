"""Runs: one row for each, and what it bought by its pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tweetcrawler.errors import DatabaseError
from tweetcrawler.postgres.connection import Connected


class Runs(Connected):
    """The runs of a session."""

    def begin_run(
        self, *, version: str, arguments: Mapping[str, Any], host: str, credentials: Sequence[Any]
    ) -> tuple[int, float]:
        """A new run: its number, and when it began in seconds on the database's clock.

        **Errors**: `DatabaseError`, at once, for a server that takes no writes. Later in a run
        such a one is waited for: it may be a standby that is about to take over.
        """

        def work(connection: psycopg.Connection[Any]) -> tuple[int, float]:
            with connection.transaction():
                self._refuse_read_only(connection)
                for c in credentials:
                    connection.execute(_CREDENTIAL, [c.name, c.user_fingerprint, c.app_fingerprint])
                row = connection.execute(
                    "INSERT INTO crawl_run (version, arguments, host) VALUES (%s, %s, %s) "
                    "RETURNING id, extract(epoch FROM started_at)::float8",
                    [version, Jsonb(dict(arguments)), host],
                ).fetchone()
            assert row is not None  # noqa: S101 - INSERT … RETURNING gives a row
            return row[0], row[1]

        return self.do(work)

    def refuse_read_only(self) -> None:
        """Ends a run at once when the server takes no writes. **Errors**: `DatabaseError`."""
        self.do(self._refuse_read_only)

    def _refuse_read_only(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute("SELECT current_setting('transaction_read_only')").fetchone()
        if row and row[0] == "on":
            raise DatabaseError(
                f"the {self._place} is read-only, a standby perhaps; name the server that takes "
                "writes"
            )

    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None:
        """Notes how a run ended."""
        self.do(
            lambda c: c.execute(
                "UPDATE crawl_run SET ended_at = clock_timestamp(), exit_code = %s, report = %s "
                "WHERE id = %s",
                [exit_code, Jsonb(dict(report)), run],
            )
        )

    def totals(self, run: int) -> list[dict[str, Any]]:
        """What the run bought, from its pages: a dict for each credential and endpoint.

        Keys: credential, endpoint, pages, posts, users, new, updated, again (posts that
        were stored already).
        """

        def work(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(_TOTALS, [run]).fetchall()

        return self.do(work)


# Fingerprints tell credentials apart, since the database holds no secret. A label may change.
_CREDENTIAL: LiteralString = """
INSERT INTO api_credential (label, user_fingerprint, app_fingerprint) VALUES (%s, %s, %s)
ON CONFLICT (user_fingerprint, app_fingerprint)
DO UPDATE SET label = excluded.label, seen_at = clock_timestamp()
"""
# From the pages, which are committed with their rows. A killed worker could not report its own
# counts, and its pages are bought all the same.
_TOTALS: LiteralString = """
SELECT credential, endpoint, count(*) AS pages, sum(post_count) AS posts,
    sum(user_count) AS users, sum(new_count) AS new, sum(updated_count) AS updated,
    sum(post_count - new_count - coalesce(jsonb_array_length(refused), 0)) AS again
FROM crawl_page WHERE run_id = %s GROUP BY 1, 2 ORDER BY 1, 2
"""
