"""Names of tables in SQL: quoted in this one place, as they were written.

Without quotes `MyTweets` would be `mytweets`, and `user` or `order` a word of the language.
"""

from __future__ import annotations

from psycopg import sql

# The revision of our tables. Alembic's own name for it may belong to another program.
VERSION_TABLE = "crawl_schema"
OLD_VERSION_TABLE = "alembic_version"
VIEW = "tweets"


def parts_of(name: str) -> tuple[str, ...]:
    """The schema, if one is named, and the table."""
    return tuple(name.split("."))


def table_named(name: str) -> sql.Identifier:
    """A table, also one with its schema, for a composed statement."""
    return sql.Identifier(*parts_of(name))


def quoted(name: str) -> str:
    """The same as text: for `to_regclass`, migrations and sentences."""
    return ".".join(f'"{part}"' for part in parts_of(name))
