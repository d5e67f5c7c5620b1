"""What a migration asks of a database, and the sentence for each of its failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import exc

from tweetcrawler.errors import DatabaseError, DatabaseNotMigrated, DatabaseUnreachable
from tweetcrawler.postgres.connection import first_line
from tweetcrawler.postgres.names import OLD_VERSION_TABLE, VERSION_TABLE, table_named
from tweetcrawler.postgres.state import is_there, revision_of

# Each ends a sentence that begins with what PostgreSQL says, which names the object.
_ADVICE = {
    # statement_timeout
    "57014": "upgrade with PGOPTIONS='-c statement_timeout=0' in the environment",
    # lock_timeout
    "55P03": "another program uses these tables: upgrade when no run is under way",
    "25006": "the server is a standby or made read-only: upgrade the one that takes writes",
    "3F000": "make that schema with CREATE SCHEMA, or correct tablename or search_path",
    # a table, a view or a function of this name is there
    "42P07": "one of yours is in the way of ours: rename it, then upgrade again",
    "42723": "one of yours is in the way of ours: rename it, then upgrade again",
    "42809": "one of yours is in the way of ours: rename it, then upgrade again",
    "42P16": "a view of yours is in the way of ours: rename it, then upgrade again",
    "2BP01": "a view or table of yours depends on it: drop it, and make it again afterwards",
    "42501": "upgrade as the owner of the tables, see docs/roles.sql",
    "53100": "make room on the disk of the server, then upgrade again",
}


@contextmanager
def sentences(place: str) -> Iterator[None]:
    """Every failure of a migration as one of our errors."""
    try:
        yield
    except exc.DBAPIError as error:
        cause = error.orig
    except psycopg.Error as error:
        cause = error
    else:
        return
    raise _sentence(cause, place) from None


def _sentence(error: BaseException | None, place: str) -> DatabaseError:
    said = first_line(error) if error else "no reason given"
    state = getattr(error, "sqlstate", None) or ""
    if not state or (state[:2] in ("08", "57") and state != "57014"):
        return DatabaseUnreachable(
            f"the {place} went away during the upgrade: {said}; the step under way was taken "
            "back, upgrade again"
        )
    advice = _ADVICE.get(state, "correct that, then upgrade again")
    return DatabaseNotMigrated(
        f"the {place} was not upgraded: {said}; the step under way was taken back; {advice}"
    )


def adopt_version_table(
    connection: psycopg.Connection[Any], place: str, revisions: Sequence[str]
) -> None:
    """Renames the version table of before to ours. That of another program is left alone.

    **Errors**: `DatabaseNotMigrated` when a newer program made the schema.
    """
    known = revision_of(connection)
    if known is not None and known not in revisions:
        raise DatabaseNotMigrated(
            f"the {place} has schema {known}, which this program does not know: install the "
            "version of tweetcrawler that made it"
        )
    if known is None or is_there(connection, VERSION_TABLE):
        return
    old, new = table_named(OLD_VERSION_TABLE), table_named(VERSION_TABLE)
    with connection.transaction():
        connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(old, new))
        connection.execute(
            sql.SQL("ALTER INDEX IF EXISTS {} RENAME TO {}").format(
                table_named(f"{OLD_VERSION_TABLE}_pkc"), table_named(f"{VERSION_TABLE}_pkc")
            )
        )
