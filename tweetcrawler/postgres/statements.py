"""Statements composed with SQLAlchemy Core, run through psycopg.

SQLAlchemy only writes the text here: connections, transactions, cursors and retries are ours
and psycopg's, so a composed statement and a hand-written one can share a transaction.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import BigInteger, ColumnElement, Double, bindparam, extract, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import psycopg as for_psycopg
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import Text, TypeEngine

_DIALECT = for_psycopg.dialect()  # type: ignore[no-untyped-call]
TEXTS, NUMBERS = ARRAY(Text), ARRAY(BigInteger)


def compiled(statement: ClauseElement) -> tuple[bytes, dict[str, Any]]:
    """The text of a statement as psycopg takes it, and its parameters."""
    made = statement.compile(dialect=_DIALECT)
    return str(made).encode(), dict(made.params)


# To compile takes longer than to run for most of them. A statement is remembered as the
# object that it is: one that is composed at each call is compiled at each call.
_remembered = lru_cache(maxsize=64)(compiled)


def rows(
    connection: psycopg.Connection[Any], statement: ClauseElement, **given: Any
) -> list[tuple[Any, ...]]:
    """The rows of a statement; `given` are the values of its named parameters."""
    written, known = _remembered(statement)
    return connection.execute(written, {**known, **given}).fetchall()


def dicts(
    connection: psycopg.Connection[Any], statement: ClauseElement, **given: Any
) -> list[dict[str, Any]]:
    """The rows of a statement, each with its column names."""
    written, known = _remembered(statement)
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(written, {**known, **given}).fetchall()


def given(name: str, type_: TypeEngine[Any] | type[TypeEngine[Any]]) -> ColumnElement[Any]:
    """A named parameter. Its type is written, too: PostgreSQL cannot tell that of a NULL."""
    return bindparam(name, type_=type_)


def epoch(moment: ColumnElement[Any]) -> ColumnElement[float]:
    """A time in seconds since 1970, or a span in seconds."""
    return extract("epoch", moment).cast(Double)


def at(seconds: Any) -> ColumnElement[Any]:
    """The time at a number of seconds since 1970."""
    return func.to_timestamp(seconds)


def left_until(moment: ColumnElement[Any]) -> ColumnElement[float]:
    """The seconds from now until a time, 0 when it is past or NULL."""
    return func.greatest(0, epoch(moment - func.clock_timestamp())).cast(Double)
