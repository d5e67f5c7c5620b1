"""Statements of the operator: one at a time, which only reads, its rows as they come."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import psycopg
from psycopg import Cursor, capabilities, errors, postgres, pq
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.postgres.connection import first_line

ROWS_PER_BATCH = 500
# Of what PostgreSQL knows and JSON does not, its text is taken.
_NO_JSON = (
    *("timestamptz", "timestamp", "date", "time", "timetz", "interval"),
    *("uuid", "bytea", "inet", "cidr", "numeric"),
)

Answer = tuple[list[str], Iterator[list[tuple[Any, ...]]]]


def answer(connection: psycopg.Connection[Any], statement: str, *, as_text: bool) -> Answer:
    """Names of the columns, and the rows in batches.

    **Errors**: `ConfigurationError` for a statement that PostgreSQL does not understand, or
    that gives no rows.
    """
    try:
        names = _names(connection, statement)
        cursor = connection.cursor()
        if as_text:
            for known in postgres.types:
                for oid in filter(None, (known.oid, known.array_oid)):
                    cursor.adapters.register_loader(oid, TextLoader)
        else:
            set_json_loads(JsonText.of, cursor)
            for name in _NO_JSON:
                cursor.adapters.register_loader(name, TextLoader)
        return names, _batches(cursor, statement)
    except psycopg.ProgrammingError as error:
        raise _refused(error) from None


class JsonText(str):
    """A value that is JSON already."""

    __slots__ = ()

    @classmethod
    def of(cls, text: bytes | str) -> JsonText:
        """The text as it came."""
        return cls(text if isinstance(text, str) else text.decode())


def _names(connection: psycopg.Connection[Any], statement: str) -> list[str]:
    """Asked first, since of an answer without rows no names come."""
    # Without a name: a pooler may know others of it. This way PostgreSQL takes one statement
    # only, so none ends the transaction that reads, and then writes.
    result = connection.pgconn.prepare(b"", statement.encode())
    if result.status == pq.ExecStatus.COMMAND_OK:
        result = connection.pgconn.describe_prepared(b"")
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise errors.error_from_result(result)
    if not result.nfields:
        raise ConfigurationError("the statement gives no rows; sql takes one that reads, as SELECT")
    return [(result.fname(n) or b"").decode() for n in range(result.nfields)]


def _batches(cursor: Cursor[Any], statement: str) -> Iterator[list[tuple[Any, ...]]]:
    size = ROWS_PER_BATCH if capabilities.has_stream_chunked() else 1
    try:
        rows = cursor.stream(statement.encode(), size=size)
        while batch := list(islice(rows, ROWS_PER_BATCH)):
            yield batch
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.InternalError) as error:
        raise _refused(error) from None


def _refused(error: psycopg.Error) -> ConfigurationError:
    return ConfigurationError(
        f"PostgreSQL refuses the statement: {first_line(error)}; correct it, then ask again"
    )
