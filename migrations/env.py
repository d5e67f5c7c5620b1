"""Runs the migrations in a database.

`tweet.ini`, the environment or `-x config=FILE` names it.

One transaction a migration, so that a failure leaves the last whole step; a lock, so that
two upgrades at once do not meet; a short lock timeout, so that an upgrade never blocks a
running crawl for long.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, pool, text

from tweetcrawler import db, settings
from tweetcrawler.errors import ConfigurationError, DatabaseNotMigrated, TweetcrawlerError
from tweetcrawler.local import embedded
from tweetcrawler.postgres import schema

LOCK = 0x74776565  # any number that all upgrades share


def migrate(database: db.Database) -> None:
    """Brings the schema of one database to the revision that was asked for."""
    context.config.attributes.update(table=database.table, refusal=DatabaseNotMigrated)
    engine = create_engine(
        "postgresql+psycopg://", creator=database.connect, poolclass=pool.NullPool
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.execute(text("SET lock_timeout = '10s'"))
        connection.commit()
        context.configure(
            connection=connection,
            transaction_per_migration=True,
            # For `alembic check` and `alembic revision --autogenerate`.
            target_metadata=schema.whole(database.table),
            compare_server_default=True,
        )
        context.run_migrations()


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
