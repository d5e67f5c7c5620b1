"""State of a server and of the rights on it, for a check before a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg


@dataclass(frozen=True)
class Health:
    """What a server says of itself.

    `clock` is its time in seconds since 1970. `folder` is that of its data on its own machine,
    None for a role that may not know it. `lacking` are tables that the role may not write.
    `alike` are tables whose name differs from that of the posts in case only.
    """

    version: int
    encoding: str
    clock: float
    is_read_only: bool
    size_bytes: int
    folder: str | None
    lacking: tuple[str, ...]
    alike: tuple[str, ...]


def examined(connection: psycopg.Connection[Any], table: str) -> Health:
    """The state of the server behind a connection, and of the role's rights there."""
    # A server that is up and hangs shall not hold up the one who asks.
    connection.execute("SET statement_timeout = '10s'")
    [(version, encoding, clock, is_read_only, size_bytes, place)] = connection.execute(_HEALTH)
    lacking = connection.execute(_LACKING).fetchall()
    alike = connection.execute(_ALIKE, [table.rpartition(".")[2]] * 2).fetchall()
    return Health(
        version,
        encoding,
        clock,
        is_read_only,
        size_bytes,
        place,
        lacking=tuple(name for (name,) in lacking),
        alike=tuple(name for (name,) in alike),
    )


_HEALTH: LiteralString = """
SELECT current_setting('server_version_num')::int,
       current_setting('server_encoding'),
       extract(epoch FROM clock_timestamp())::float8,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
       pg_database_size(current_database()),
       CASE WHEN pg_has_role('pg_read_all_settings', 'MEMBER')
            THEN current_setting('data_directory', true) END
"""
# The tables of the schema in which the runs are kept: rows are added and changed in all of them.
_LACKING: LiteralString = """
SELECT relname FROM pg_class c
WHERE c.relkind IN ('r', 'p')
  AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('crawl_run'))
  AND relname ~ '^(crawl_|api_|tweet_articles_tweepy$)'
  AND relname <> 'crawl_schema'
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
           AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
ORDER BY relname
"""
_ALIKE: LiteralString = """
SELECT relname FROM pg_class
WHERE relkind IN ('r', 'p', 'v') AND lower(relname) = lower(%s) AND relname <> %s
ORDER BY relname
"""
