"""Command `db`: makes the tables, opens psql, starts and stops the private server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import KEEP, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import one_of

if TYPE_CHECKING:
    from pathlib import Path

    from tweetcrawler import settings
    from tweetcrawler.db import Database
    from tweetcrawler.local import embedded
    from tweetcrawler.setup import Setup

ACTIONS = {
    "psql": "open psql on the database, private or your own",
    "url": "print the URL of the private PostgreSQL while it runs; its password is in a file",
    "start": "start the private PostgreSQL, let it run until `db stop`, and print its URL",
    "stop": "stop it, or let it stop when the last run that uses it ends",
    "upgrade": "make or upgrade the tables, in the private PostgreSQL or in your own",
    "accept": "go on with a table that lacks posts: they are neither missed nor bought again",
}


@dataclass(frozen=True)
class Values:
    """One of `ACTIONS`."""

    action: str
    superuser: bool = False


def run(setup: Setup, values: Values) -> int:
    """Does one action on the database."""
    database = setup.settings.database
    if database is None:
        raise ConfigurationError("the settings say CSV: there is no database to work on")
    if values.superuser and (values.action != "psql" or not database.embedded):
        raise ConfigurationError("--superuser is for `db psql` on the private server; leave it out")
    if values.action == "psql":
        return _psql(setup, database, values)
    if values.action == "upgrade":
        setup.front.say(_upgrade(setup, database))
    elif values.action == "accept":
        with setup.database("a table in PostgreSQL is accepted") as chosen, chosen.session() as s:
            s.accept_table()
        setup.front.say("the table is taken as it is; later runs compare what is bought from now")
    elif not database.embedded:
        raise ConfigurationError(
            f"db {values.action} is about the private server, but the settings name a database of "
            "your own"
        )
    else:
        setup.front.say(_about_private_server(setup, values.action))
    return 0


def _psql(setup: Setup, named: settings.Database, values: Values) -> int:
    from tweetcrawler.db import Database, conninfo_of
    from tweetcrawler.local import embedded

    program = embedded.find_psql()
    if not named.embedded:
        return _run_psql(program, Database(conninfo_of(named)))
    server = embedded.Server(setup.settings.data_folder)
    with server.hold() as url:
        chosen = server.superuser_url() if values.superuser else url
        return _run_psql(program, Database(chosen or url))


def _run_psql(program: Path, database: Database) -> int:
    """Psql as a child, since the private server runs as long as somebody holds it."""
    import os
    import signal
    import subprocess

    from tweetcrawler.setup import end_in_order_on_sigterm

    words, secret = database.for_programs()
    # Ctrl-C is for psql, which cancels a statement. Were it ignored here, so would it be there.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with end_in_order_on_sigterm():
            done = subprocess.run([program, words], env={**os.environ, **secret}, check=False)  # noqa: S603 - no shell reads it
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _upgrade(setup: Setup, named: settings.Database) -> str:
    from tweetcrawler.db import Database

    # A database of your own is never created or started here: its owner does that.
    if not named.embedded:
        told: list[str] = []
        setup.own_database(lambda database: told.append(_told(database)))
        return told[0]
    from tweetcrawler.local import embedded

    # Held, not started: it stops again when nobody else uses it.
    with embedded.Server(setup.settings.data_folder).hold() as url:
        return _told(Database(url, named.table))


def _told(database: Database) -> str:
    from tweetcrawler.postgres.adopting import upgraded

    return upgraded(database.connect, database.table, database.upgrade)


def _about_private_server(setup: Setup, action: str) -> str:
    from tweetcrawler.local import embedded

    server = embedded.Server(setup.settings.data_folder)
    if action == "start":
        server.start()
        return _shown_url(server)
    if action == "stop":
        stopped = server.stop()
        return "stopped" if stopped else "in use: it stops when the last run that uses it ends"
    return _shown_url(server)


def _shown_url(server: embedded.Server) -> str:
    running_at = server.shown_url()
    if running_at is None:
        raise ConfigurationError(
            "the private server is not running: `tweetcrawler db start` starts it"
        )
    return running_at


COMMAND = Command(
    name="db",
    summary=", ".join(ACTIONS),
    group=KEEP,
    about="\n" + "\n".join(f"  {action:<9}{meaning}" for action, meaning in ACTIONS.items()),
    words=Words(
        "|".join(ACTIONS),
        "action",
        one_of(*ACTIONS),
        several=False,
        needs=f"one of {', '.join(ACTIONS)} after it",
    ),
    options=(
        option(
            "--superuser",
            help="for psql on the private PostgreSQL: as its superuser, who may change the server",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler db psql", "a session on the database"),
        ("tweetcrawler -c tweet.ini db upgrade", "the tables of the database of tweet.ini"),
        ("tweetcrawler db start", "the private PostgreSQL runs until `tweetcrawler db stop`"),
    ),
    price="nothing.",
)
