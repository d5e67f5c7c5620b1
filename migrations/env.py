"""Runs the migrations in a database.

`tweet.ini`, the environment or `-x config=FILE` names it.

One transaction a migration, so that a failure leaves the last whole step; a lock, so that
two upgrades at once do not meet; a short lock timeout, so that an upgrade never blocks a
running crawl for long.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import context
from alembic.runtime.migration import MigrationInfo
from sqlalchemy import Connection, create_engine, inspect, pool, text

from tweetcrawler import db, settings
from tweetcrawler.errors import ConfigurationError, DatabaseNotMigrated, TweetcrawlerError
from tweetcrawler.local import embedded
from tweetcrawler.postgres import migrating, schema, state
from tweetcrawler.postgres.names import VERSION_TABLE, quoted

LOCK = 0x74776565  # any number that all upgrades share
# Given twice by the operator, it lets a downgrade drop what was paid for.
LOSE_PAGES = "lose=pages"


def migrate(database: db.Database) -> None:
    """Brings the schema of one database to the revision that was asked for."""
    table = quoted(database.table)
    context.config.attributes.update(table=table, refusal=DatabaseNotMigrated)
    revisions = [script.revision for script in context.script.walk_revisions()]

    def connect() -> psycopg.Connection[Any]:
        with ExitStack() as until_fit:
            connection = database.connect()
            until_fit.callback(connection.close)
            state.refuse_encoding(connection, database.place)
            state.refuse_table(connection, database.place, database.table)
            migrating.adopt_version_table(connection, database.place, revisions)
            until_fit.pop_all()
        # In autocommit, SQLAlchemy's transactions would be none.
        connection.autocommit = False
        return connection

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=pool.NullPool)
    with migrating.sentences(database.place), engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
        context.configure(
            connection=connection,
            transaction_per_migration=True,
            version_table=VERSION_TABLE,
            on_version_apply=refuse_to_lose(connection, database.place),
            # For `alembic check` and `alembic revision --autogenerate`.
            target_metadata=schema.whole(database.table),
            compare_server_default=True,
        )
        context.run_migrations()


def refuse_to_lose(connection: Connection, place: str) -> Callable[..., None]:
    """Raises within a step of a downgrade, so that it is taken back, while pages were paid for."""
    told_twice = list(context.get_x_argument()).count(LOSE_PAGES) >= 2
    pages = 0
    if not told_twice and inspect(connection).has_table("crawl_page"):
        pages = connection.execute(text("SELECT count(*) FROM crawl_page")).scalar() or 0
    # In a transaction of ours, Alembic would not commit its own.
    connection.commit()

    def refuse(*, step: MigrationInfo, **_: object) -> None:
        if pages and not (step.is_upgrade or step.is_stamp):
            raise DatabaseNotMigrated(
                f"the {place} holds {pages:,} pages that were paid for, and a downgrade may lose "
                f"them: nothing was done; make a backup, then say it twice: "
                f"alembic -x {LOSE_PAGES} -x {LOSE_PAGES} downgrade …"
            )

    return refuse


@contextmanager
def configured() -> Iterator[db.Database]:
    """The database that the settings name."""
    config_file = context.get_x_argument(as_dictionary=True).get("config")
    argv = ["-c", config_file] if config_file else []
    chosen = settings.parse(argv, environ=os.environ, folder=Path.cwd())
    if chosen.database is None:
        raise ConfigurationError("the settings say CSV: there is no database to migrate")
    if chosen.database.embedded:
        with embedded.lend(chosen.data_folder) as url:
            yield db.Database(url, chosen.database.table)
    else:
        yield db.Database(db.conninfo_of(chosen.database), chosen.database.table)


if context.is_offline_mode():
    sys.exit("the first migration looks at the database: run it without --sql")
if "database" in context.config.attributes:
    migrate(context.config.attributes["database"])
else:
    try:
        with configured() as database:
            migrate(database)
    except TweetcrawlerError as error:
        print(f"alembic: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
