"""Rows and pages read for others: which columns, which of them, and of which types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, LiteralString, NamedTuple

import psycopg
import zstandard
from psycopg import sql

from tweetcrawler.errors import ConfigurationError, DatabaseError


@dataclass(frozen=True)
class Column:
    """A column that is read: its name, and what its values are.

    `kind` is "id", "whole", "number", "truth", "time", "date", "json" or "text"; `is_list`
    says that a value is a list of such, in which any may be None.
    """

    name: str
    kind: str
    is_list: bool = False


class Condition(NamedTuple):
    """A filter by its name in `FILTERS`, and its value of the type that the filter compares
    with.
    """

    name: str
    value: Any


ROWS_A_BATCH = 1000
PAGES_A_BATCH = 20
_KINDS = {
    **dict.fromkeys(("int2", "int4", "int8"), "whole"),
    **dict.fromkeys(("float4", "float8", "numeric"), "number"),
    "bool": "truth",
    "timestamptz": "time",
    "date": "date",
    "jsonb": "json",
}
# What each kind is read as, when it is not read as text; a list of it has [] behind.
_READ_AS = {
    "id": "int8",
    "whole": "int8",
    "number": "float8",
    "truth": "bool",
    "time": "timestamptz",
    "date": "date",
    "json": "text",
    "text": "text",
}
# The imposed table holds these as text.
_TYPED: dict[str, tuple[str, bool]] = {
    "created_at": ("time", False),
    "user_mentions_id": ("id", True),
    **dict.fromkeys(
        ("hashtags", "urls", "media", "user_mentions_name", "retweeted_status_url"), ("text", True)
    ),
}
# The view `tweets` has other names for some columns.
_ALSO_NAMED = {
    "tweet_from": "username",
    "user_mentions_name": "mention_names",
    "favorite_count": "like_count",
}
FILTERS: Mapping[str, LiteralString] = {
    "handle": "lower({tweet_from}) = ANY(%s)",
    "reply_to": "lower({in_reply_to_screen_name}) = ANY(%s)",
    "retweet_of": "lower({retweeted_status_user_handle}) = ANY(%s)",
    "mentions": "EXISTS (SELECT FROM unnest({user_mentions_name}::text[]) e WHERE lower(e) = ANY(%s))",
    "hashtag": "EXISTS (SELECT FROM unnest({hashtags}::text[]) e WHERE lower(e) = ANY(%s))",
    "since": "{created_at}::timestamptz >= %s",
    "until": "{created_at}::timestamptz < %s",
    "id": "{id} = ANY(%s::int8[])",
    "min_id": "{id} >= %s",
    "max_id": "{id} <= %s",
    "text": "strpos(lower({text}), lower(%s)) > 0",
    "url": "EXISTS (SELECT FROM unnest({urls}::text[]) e WHERE strpos(lower(e), lower(%s)) > 0)",
    "min_likes": "{favorite_count} >= %s",
    "max_likes": "{favorite_count} <= %s",
    "min_retweets": "{retweet_count} >= %s",
    "max_retweets": "{retweet_count} <= %s",
    "min_sentiment": "{sentiment} >= %s",
    "max_sentiment": "{sentiment} <= %s",
}
_HAS: dict[str, LiteralString] = {
    "hashtags": "cardinality({hashtags}::text[]) > 0",
    "urls": "cardinality({urls}::text[]) > 0",
    "media": "cardinality({media}::text[]) > 0",
    "mentions": "cardinality({user_mentions_name}::text[]) > 0",
}
CHOICES: Mapping[str, Mapping[str, LiteralString]] = {
    "has": _HAS,
    "without": _HAS,
    "is": {
        "original": "num_nonnulls({retweeted_status_id}, {in_reply_to_user_id}, {in_reply_to_status_id}) = 0",
        "reply": "({retweeted_status_id} IS NULL "
        "AND num_nonnulls({in_reply_to_user_id}, {in_reply_to_status_id}) > 0)",
        "retweet": "{retweeted_status_id} IS NOT NULL",
    },
}


class _Found(NamedTuple):
    """A column as the catalog tells it, `shown` as it is read."""

    shown: Column
    is_text: bool


def columns_of(connection: psycopg.Connection[Any], parts: Sequence[str]) -> list[_Found]:
    rows = connection.execute(
        "SELECT a.attname, coalesce(e.typname, t.typname), e.oid IS NOT NULL FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "JOIN pg_type t ON t.oid = a.atttypid "
        "LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' "
        "WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f') ORDER BY a.attnum",
        [sql.Identifier(*parts).as_string(connection)],
    ).fetchall()
    if not rows:
        there = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') "
            "AND pg_table_is_visible(c.oid) AND c.relnamespace::regnamespace::text "
            "NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 LIMIT 50"
        ).fetchall()
        raise ConfigurationError(
            f"the database has no table or view {'.'.join(parts)}; it has {', '.join(row[0] for row in there)}"
        )
    return [_found(*row) for row in rows]


def _found(name: str, type_name: str, is_list: bool) -> _Found:
    is_text = type_name in ("text", "varchar") and not is_list
    if is_text and name in _TYPED:
        return _Found(Column(name, *_TYPED[name]), is_text)
    kind = _KINDS.get(type_name, "text")
    if kind == "whole" and (name == "id" or name.endswith(("_id", "_ids"))):
        kind = "id"
    if type_name == "numeric" and (name == "id" or name.endswith("_id")):
        kind = "text"  # a float has too few digits for an id
    return _Found(Column(name, kind, is_list), is_text)


def choose(found: Sequence[_Found], names: Sequence[str], place: str) -> list[_Found]:
    by_name = {column.shown.name: column for column in found}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ConfigurationError(
            f"{place} has no column {', '.join(map(ascii, unknown))}; it has {', '.join(by_name)}"
        )
    return [by_name[name] for name in names] or list(found)


def read_statement(
    parts: Sequence[str],
    found: Sequence[_Found],
    chosen: Sequence[_Found],
    conditions: Sequence[Condition],
    as_text: bool,
) -> tuple[sql.Composed, list[Any]]:
    known = {column.shown.name for column in found}
    place = ".".join(parts)
    statement = sql.SQL("SELECT {} FROM {} AS r").format(
        sql.SQL(", ").join(_expression(column.shown, as_text) for column in chosen),
        sql.Identifier(*parts),
    )
    parameters: list[Any] = []
    for number, condition in enumerate(conditions):
        statement += sql.SQL(" AND " if number else " WHERE ") + _predicate(condition, known, place)
        if condition.name in FILTERS:
            parameters.append(condition.value)
    if "id" in known:
        statement += sql.SQL(" ORDER BY r.id")
    return statement, parameters


def _expression(column: Column, as_text: bool) -> sql.Composed:
    read_as = "text" if as_text else _READ_AS[column.kind] + ("[]" if column.is_list else "")
    return sql.SQL("{}::{}").format(sql.Identifier("r", column.name), sql.SQL(read_as))


def _predicate(condition: Condition, known: set[str], place: str) -> sql.Composed:
    choices = CHOICES.get(condition.name)
    if choices is None:
        return _filled(FILTERS[condition.name], condition.name, known, place)
    any_of = sql.SQL(" OR ").join(
        _filled(choices[choice], condition.name, known, place) for choice in condition.value
    )
    shape = "NOT coalesce({}, false)" if condition.name == "without" else "({})"
    return sql.SQL(shape).format(any_of)


def _filled(template: LiteralString, name: str, known: set[str], place: str) -> sql.Composed:
    columns: dict[str, sql.Identifier] = {}
    for column in {field for _, field, _, _ in Formatter().parse(template) if field}:
        there = next((n for n in (column, _ALSO_NAMED.get(column)) if n in known), None)
        if there is None:
            raise ConfigurationError(
                f"the filter {name} reads the column {column}, which {place} does not have; leave the filter out "
                "or name another view"
            )
        columns[column] = sql.Identifier("r", there)
    return sql.SQL(template).format(**columns)


def rows_of(cursor: psycopg.ServerCursor[Any], size: int) -> Iterator[Any]:
    for batch in in_batches(cursor, size):
        yield from batch


def in_batches(cursor: psycopg.ServerCursor[Any], size: int) -> Iterator[list[Any]]:
    while batch := cursor.fetchmany(size):
        yield batch


def body_of(row: tuple[str, bytes]) -> bytes:
    try:
        return zstandard.decompress(row[1])
    except zstandard.ZstdError:
        raise DatabaseError(
            f"the body of page {row[0]} in crawl_page is damaged: set it to NULL"
        ) from None
