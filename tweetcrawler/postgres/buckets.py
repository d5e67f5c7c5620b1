"""The books of the buckets: the permits of all processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

import psycopg

from tweetcrawler.windows import Bucket

Key = tuple[str, str]
_BUCKET_COLUMNS = [f.name for f in fields_of(Bucket)]
_BUCKET_TIMES = {"reset_at", "day_reset_at", "blocked_until", "next_at", "shut_at", "shut_until"}


def lock_buckets(
    connection: psycopg.Connection[Any], subjects: list[str], endpoints: list[str]
) -> tuple[dict[Key, Bucket], float]:
    rows = connection.execute(
        _BUCKET_LOCK, {"subjects": subjects, "endpoints": endpoints}
    ).fetchall()
    clock = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert clock is not None  # noqa: S101 - a SELECT without FROM gives a row
    return {(row[0], row[1]): Bucket(*row[2:]) for row in rows}, clock[0]


def write_buckets(
    connection: psycopg.Connection[Any], buckets: Mapping[Key, Bucket], conflict: str
) -> None:
    statement = _BUCKET_WRITE + conflict
    for key in sorted(buckets):
        bucket = buckets[key]
        connection.execute(
            statement.encode(),
            [*key, *(getattr(bucket, column) for column in _BUCKET_COLUMNS)],
        )


def _as_read(column: str) -> str:
    return (
        f'extract(epoch FROM b."{column}")::float8' if column in _BUCKET_TIMES else f'b."{column}"'
    )


def _as_written(column: str) -> str:
    return "to_timestamp(%s::float8)" if column in _BUCKET_TIMES else "%s"


_BUCKET_LOCK = (
    f"SELECT b.subject, b.endpoint, {', '.join(map(_as_read, _BUCKET_COLUMNS))} FROM api_bucket b "
    "JOIN unnest(%(subjects)s::text[], %(endpoints)s::text[]) AS k(subject, endpoint) USING (subject, endpoint) "
    "ORDER BY b.subject, b.endpoint FOR UPDATE OF b"
).encode()
_BUCKET_WRITE = (
    "INSERT INTO api_bucket (subject, endpoint, "
    + ", ".join(f'"{c}"' for c in _BUCKET_COLUMNS)
    + f") VALUES (%s, %s, {', '.join(map(_as_written, _BUCKET_COLUMNS))}) "
    + "ON CONFLICT (subject, endpoint) "
)
BUCKET_UPDATE = "DO UPDATE SET " + ", ".join(f'"{c}" = excluded."{c}"' for c in _BUCKET_COLUMNS)
