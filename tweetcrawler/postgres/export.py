"""Rows and pages for export: columns, filters and types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, NamedTuple

import psycopg
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Date,
    Double,
    FromClause,
    Numeric,
    Select,
    Text,
    any_,
    cast,
    column,
    func,
    or_,
    quoted_name,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.postgres.columns import STORED_AS_TEXT, Column, Condition
from tweetcrawler.postgres.feed import bodies_of
from tweetcrawler.postgres.filters import columns_for, predicate
from tweetcrawler.postgres.names import parts_of, quoted
from tweetcrawler.postgres.schema import crawl_page, crawl_target
from tweetcrawler.postgres.statements import TEXTS, compiled

ROWS_PER_BATCH = 1000
PAGES_PER_BATCH = 20
_KINDS = {
    **dict.fromkeys(("int2", "int4", "int8"), "whole"),
    **dict.fromkeys(("float4", "float8", "numeric"), "number"),
    "bool": "truth",
    "timestamptz": "time",
    "date": "date",
    "jsonb": "json",
}
# The type as which each kind is read, when it is not read as text.
_READ_AS: dict[str, TypeEngine[Any]] = {
    "id": BigInteger(),
    "whole": BigInteger(),
    "number": Double(),
    "truth": Boolean(),
    "time": TIMESTAMP(timezone=True),
    "date": Date(),
    "json": Text(),
    "text": Text(),
}


class _Found(NamedTuple):
    """A column as the catalog tells it, `shown` as it is read."""

    shown: Column
    is_text: bool


Rows = tuple[list[Column], Iterator[list[tuple[Any, ...]]]]


@contextmanager
def rows(
    connection: psycopg.Connection[Any],
    place: str,
    names: Sequence[str],
    conditions: Sequence[Condition],
    as_text: bool,
) -> Iterator[Rows]:
    """The columns and rows of a table or view, as `Database.read` promises them."""
    parts = parts_of(place)
    found = _columns_of(connection, place)
    chosen = _choose(found, names, place)
    statement, parameters = compiled(_read(parts, found, chosen, conditions, as_text))
    # A named cursor lives on the server. Without a name libpq would take the whole answer into
    # memory first.
    # https://www.psycopg.org/psycopg3/docs/advanced/cursors.html#server-side-cursors
    with connection.cursor("export") as cursor:
        cursor.execute(statement, parameters)
        yield [c.shown for c in chosen], _in_batches(cursor, ROWS_PER_BATCH)


@contextmanager
def bodies(
    connection: psycopg.Connection[Any], handles: Sequence[str] | None
) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Pages of posts, as `Database.pages` promises them."""
    page = crawl_page.c
    chosen = [page.post_count > 0]
    if handles is not None:
        chosen.append(page.target_id.in_(_targets_of(handles)))
    count, given = compiled(
        select(func.count())
        .select_from(crawl_page)
        .where(page.body.is_(None), page.segment_id.is_(None), *chosen)
    )
    without = connection.execute(count, given).fetchone()
    statement, given = compiled(
        select(page.id.cast(Text), page.body)
        .where(or_(page.body.is_not(None), page.segment_id.is_not(None)), *chosen)
        .order_by(page.fetched_at, page.id)
    )
    # As text a bytea takes two digits for each byte.
    with connection.cursor("export", binary=True) as cursor:
        cursor.execute(statement, given)
        batches = _in_batches(cursor, PAGES_PER_BATCH)
        body_of = bodies_of(connection)
        yield without[0] if without else 0, (body_of(*row) for batch in batches for row in batch)


def _targets_of(handles: Sequence[str]) -> Select[Any]:
    t, folded = crawl_target.c, cast(list(handles), TEXTS)
    is_named = or_(func.lower(t.handle) == any_(folded), func.lower(t.username) == any_(folded))
    return select(func.coalesce(t.same_as, t.id)).where(is_named)


def _columns_of(connection: psycopg.Connection[Any], place: str) -> list[_Found]:
    rows = connection.execute(_COLUMNS, [quoted(place)]).fetchall()
    if not rows:
        there = ", ".join(row[0] for row in connection.execute(_TABLES).fetchall())
        raise ConfigurationError(f"the database has no table or view {place}; it has {there}")
    return [_found(*row) for row in rows]


def _found(name: str, type_name: str, is_list: bool) -> _Found:
    is_text = type_name in ("text", "varchar") and not is_list
    if is_text and name in STORED_AS_TEXT:
        return _Found(STORED_AS_TEXT[name], is_text)
    kind = _KINDS.get(type_name, "text")
    if kind == "whole" and (name == "id" or name.endswith(("_id", "_ids"))):
        kind = "id"
    if type_name == "numeric" and (name == "id" or name.endswith("_id")):
        kind = "text"  # a float has too few digits for an id
    return _Found(Column(name, kind, is_list), is_text)


def _choose(found: Sequence[_Found], names: Sequence[str], place: str) -> list[_Found]:
    by_name = {column.shown.name: column for column in found}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ConfigurationError(
            f"{place} has no column {', '.join(map(ascii, unknown))}; it has {', '.join(by_name)}"
        )
    return [by_name[name] for name in names] or list(found)


def _read(
    parts: Sequence[str],
    found: Sequence[_Found],
    chosen: Sequence[_Found],
    conditions: Sequence[Condition],
    as_text: bool,
) -> Select[Any]:
    r = _source(parts, found)
    known = {one.shown.name: r.c[one.shown.name] for one in found}
    place = ".".join(parts)
    statement = select(*(_shown(known, one.shown, as_text) for one in chosen))
    for condition in conditions:
        statement = statement.where(predicate(condition, columns_for(condition, known, place)))
    # So that two exports of the same rows are the same file.
    return statement.order_by(r.c.id) if "id" in known else statement


def _source(parts: Sequence[str], found: Sequence[_Found]) -> FromClause:
    """The table or view, with the types that its columns have for a comparison."""
    *schema, name = (quoted_name(part, quote=True) for part in parts)
    columns = [column(quoted_name(one.shown.name, quote=True), _stored_as(one)) for one in found]
    return table(name, *columns, schema=schema[0] if schema else None).alias("r")


def _stored_as(found: _Found) -> TypeEngine[Any]:
    kind = "text" if found.is_text else found.shown.kind
    stored = Numeric() if kind == "number" else _READ_AS[kind]
    return ARRAY(stored) if found.shown.is_list and not found.is_text else stored


def _shown(
    known: Mapping[str, ColumnElement[Any]], shown: Column, as_text: bool
) -> ColumnElement[Any]:
    one = known[shown.name]
    if as_text:
        return cast(one, Text)
    read_as = _READ_AS[shown.kind]
    return cast(one, ARRAY(read_as) if shown.is_list else read_as)


def _in_batches(cursor: psycopg.ServerCursor[Any], size: int) -> Iterator[list[Any]]:
    while batch := cursor.fetchmany(size):
        yield batch


# The columns of a table or view with their types, and whether each is a list of it.
# `to_regclass` finds names as a statement would, and gives NULL for one that is not there,
# where a cast would be an error.
_COLUMNS: LiteralString = """
SELECT a.attname, coalesce(e.typname, t.typname), e.oid IS NOT NULL
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f') ORDER BY a.attnum
"""
_TABLES: LiteralString = """
SELECT c.relname FROM pg_class c
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND pg_table_is_visible(c.oid)
AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1 LIMIT 50
"""
