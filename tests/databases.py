"""Fresh databases for tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo


def made(server_dsn: str, template: str | None) -> Iterator[str]:
    """The DSN of a database that exists as long as the block, a clone of the template or an empty one."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template0")
        )
        connection.execute(statement)
        yield make_conninfo(server_dsn, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
