"""The state of a database: its encoding, the revision of our tables, the table of posts."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tweetcrawler.errors import DatabaseError, DatabaseNotMigrated
from tweetcrawler.postgres.names import (
    OLD_VERSION_TABLE,
    VERSION_TABLE,
    VIEW,
    parts_of,
    quoted,
    table_named,
)


def revision_of(connection: psycopg.Connection[Any]) -> str | None:
    """The revision of our tables; None while there are none."""
    if is_there(connection, VERSION_TABLE):
        return _revision_in(connection, VERSION_TABLE)
    # Other programs have a table of that name, and revisions named as ours.
    if is_there(connection, "crawl_run") and is_there(connection, OLD_VERSION_TABLE):
        return _revision_in(connection, OLD_VERSION_TABLE)
    return None


def is_there(connection: psycopg.Connection[Any], table: str) -> bool:
    """Whether the search path leads to a table of this name."""
    # NULL for a table that is not there; a cast to regclass would be an error.
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [quoted(table)]).fetchone()
    return bool(found and found[0])


def _revision_in(connection: psycopg.Connection[Any], table: str) -> str | None:
    row = connection.execute(
        sql.SQL("SELECT version_num FROM {}").format(table_named(table))
    ).fetchone()
    return str(row[0]) if row else None


def refuse_encoding(connection: psycopg.Connection[Any], place: str) -> None:
    """**Errors**: `DatabaseError` for a database that cannot hold all letters."""
    row = connection.execute("SELECT current_setting('server_encoding')").fetchone()
    if row and row[0] != "UTF8":
        raise DatabaseError(
            f"the {place} has the encoding {row[0]}, which cannot hold the posts of X; make one "
            "with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in dbname"
        )


def refuse_table(
    connection: psycopg.Connection[Any], place: str, table: str, *, made: bool = False
) -> None:
    """**Errors**: `DatabaseNotMigrated` for a table of posts that cannot be, or, when it must
    be `made` already, that is not there.
    """
    *_, name = parts_of(table)
    if name in (VIEW, VERSION_TABLE) or name.startswith(("crawl_", "api_")):
        raise DatabaseNotMigrated(
            f"tablename is {table}, a name that the program needs itself; choose another"
        )
    row = connection.execute(_KIND, [quoted(table), quoted(table.lower())]).fetchone()
    kind, likely = row or (None, None)
    if kind is not None and kind not in ("r", "p"):
        raise DatabaseNotMigrated(
            f"{quoted(table)} in the {place} is a view or something else, and no table; rename "
            "it, or correct tablename"
        )
    if kind is None and likely:
        raise DatabaseNotMigrated(
            f"the {place} has no table {table}, but one named {table.lower()}: capitals count "
            f"here; write tablename = {table.lower()}"
        )
    if kind is None and made:
        raise DatabaseNotMigrated(
            f"the {place} has no table {table}: make it with `CREATE TABLE {quoted(table)} "
            "(LIKE tweet_articles_tweepy INCLUDING ALL)`, or correct tablename"
        )


_KIND: LiteralString = """
SELECT (SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)),
    to_regclass(%s) IS NOT NULL
"""
