"""Rate-limit buckets shared by all processes.

By hand and in one order: each request of each process passes here, and two that lock the
same buckets must never wait for each other in a ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as fields_of
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from tweetcrawler.postgres.connection import Connected, now_of
from tweetcrawler.windows import Bucket

T = TypeVar("T")
Key = tuple[str, str]


class Buckets(Connected):
    """The buckets of a session."""

    def change_buckets(
        self,
        keys: Iterable[Key],
        change: Callable[[dict[Key, Bucket], float], tuple[Mapping[Key, Bucket], T]],
    ) -> T:
        """See `permits.Books`: the buckets are rows of `api_bucket`, the clock is the
        database's.
        """
        wanted = sorted(set(keys))
        given = {"subjects": [k[0] for k in wanted], "endpoints": [k[1] for k in wanted]}

        def work(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                buckets, now = _locked(connection, given)
                if len(buckets) < len(wanted):
                    missing = {key: Bucket() for key in wanted if key not in buckets}
                    # Another process may add the same at this moment. DO NOTHING waits for it,
                    # but locks no row that is there: so all are locked once again.
                    _write(connection, missing, _ADD)
                    buckets, now = _locked(connection, given)
                changed, result = change(buckets, now)
                if changed:
                    _write(connection, changed, _CHANGE)
                return result

        return self.do(work)


def _locked(
    connection: psycopg.Connection[Any], given: Mapping[str, list[str]]
) -> tuple[dict[Key, Bucket], float]:
    rows = connection.execute(_LOCK, given).fetchall()
    # Read after the lock, whose wait may have been long.
    clock = now_of(connection)
    return {(row[0], row[1]): Bucket(*row[2:]) for row in rows}, clock


def _write(
    connection: psycopg.Connection[Any], buckets: Mapping[Key, Bucket], statement: bytes
) -> None:
    for key in sorted(buckets):
        bucket = buckets[key]
        connection.execute(statement, [*key, *(getattr(bucket, name) for name in _FIELDS)])


_FIELDS = [f.name for f in fields_of(Bucket)]
_TIMES = {"reset_at", "day_reset_at", "blocked_until", "next_at", "shut_at", "shut_until"}


def _each(of_time: sql.SQL, of_other: sql.SQL) -> sql.Composed:
    """An expression for each field, one for times and one for others."""
    return sql.SQL(", ").join(
        (of_time if name in _TIMES else of_other).format(sql.Identifier(name)) for name in _FIELDS
    )


# The text is made once: each use would else compose it again.
_LOCK = (
    sql.SQL("""
SELECT b.subject, b.endpoint, {fields}
FROM api_bucket b JOIN unnest(%(subjects)s::text[], %(endpoints)s::text[])
    AS k(subject, endpoint) USING (subject, endpoint)
ORDER BY b.subject, b.endpoint FOR UPDATE OF b
""")
    .format(fields=_each(sql.SQL("extract(epoch FROM b.{})::float8"), sql.SQL("b.{}")))
    .as_bytes(None)
)
_INSERT = sql.SQL("""
INSERT INTO api_bucket (subject, endpoint, {fields}) VALUES (%s, %s, {values})
ON CONFLICT (subject, endpoint) {conflict}
""")


def _insert(conflict: sql.Composable) -> bytes:
    return _INSERT.format(
        fields=_each(sql.SQL("{}"), sql.SQL("{}")),
        values=_each(sql.SQL("to_timestamp(%s::float8)"), sql.SQL("%s")),
        conflict=conflict,
    ).as_bytes(None)


_ADD = _insert(sql.SQL("DO NOTHING"))
_CHANGE = _insert(
    sql.SQL("DO UPDATE SET {}").format(
        _each(sql.SQL("{0} = excluded.{0}"), sql.SQL("{0} = excluded.{0}"))
    )
)
