"""What an upgrade found and added, as a sentence for its operator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tweetcrawler.postgres.pages import table_named
from tweetcrawler.words import plural


def upgraded(
    connect: Callable[[], psycopg.Connection[Any]], table: str, do: Callable[[], object]
) -> str:
    """Does an upgrade; says which rows it adopted, and how many tables it added.

    The rows of a table that was there before any of ours are read once.
    """
    with closing(connect()) as connection:
        before, was_there = _tables(connection), _is_there(connection, table)
    do()
    parts = []
    with closing(connect()) as connection:
        added = _tables(connection) - before
        if was_there and not before:
            parts.append(_adopted(connection, table))
    if added:
        parts.append(f"{plural(len(added), 'table')} added")
    return "; ".join([*parts, "the schema is at its newest revision"])


def _adopted(connection: psycopg.Connection[Any], table: str) -> str:
    statement = _ADOPTED.format(t=table_named(table), lost=_LISTS_LOST)
    rows, undated, broken = connection.execute(statement).fetchone() or (0, 0, 0)
    said = f"{plural(rows, 'row')} kept, {undated:,} without a readable date"
    return said + (f", {broken:,} with a list that cannot be read" if broken else "")


def _tables(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute(_TABLES).fetchall()}


def _is_there(connection: psycopg.Connection[Any], table: str) -> bool:
    name = table_named(table).as_string(None)
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return row is not None and bool(row[0])


_TABLES: LiteralString = """
SELECT relname::text FROM pg_class
WHERE relkind = 'r' AND pg_table_is_visible(oid) AND relname ~ '^(crawl|api)_'
"""
# The columns of the view that are read out of text, and those that they are read from.
_LISTS = {
    "hashtags": "hashtags",
    "urls": "urls",
    "media": "media",
    "mention_ids": "user_mentions_id",
    "mention_names": "user_mentions_name",
    "retweeted_status_urls": "retweeted_status_url",
}
_LISTS_LOST = sql.SQL(" OR ").join(
    sql.SQL("({} IS NULL AND {} IS NOT NULL)").format(
        sql.Identifier("v", typed), sql.Identifier("t", stored)
    )
    for typed, stored in _LISTS.items()
)
_ADOPTED = sql.SQL("""
SELECT count(*), count(*) FILTER (WHERE v.created_at IS NULL), count(*) FILTER (WHERE {lost})
FROM {t} t JOIN tweets v ON v.id = t.id
""")
