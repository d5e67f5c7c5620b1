"""Command `db`: makes the tables; starts and stops the private server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import SET_UP, Command, Words
from tweetcrawler.settings.types import one_of

if TYPE_CHECKING:
    from tweetcrawler import settings
    from tweetcrawler.setup import Setup

ACTIONS = {
    "url": "print the URL of the private PostgreSQL while it runs",
    "start": "start the private PostgreSQL, let it run until `db stop`, and print its URL",
    "stop": "stop it, or let it stop when the last run that uses it ends",
    "upgrade": "make or upgrade the tables, in the private PostgreSQL or in your own",
}


@dataclass(frozen=True)
class Values:
    """One of `ACTIONS`."""

    action: str


def run(setup: Setup, values: Values) -> int:
    """Does one action on the database."""
    database = setup.settings.database
    if database is None:
        raise ConfigurationError("the settings say CSV: there is no database to work on")
    if values.action == "upgrade":
        _upgrade(setup, database)
        setup.front.say("the schema is at its newest revision")
    elif not database.embedded:
        raise ConfigurationError(
            f"db {values.action} is about the private server, but the settings name a database of "
            "your own"
        )
    else:
        setup.front.say(_about_private_server(setup, values.action))
    return 0


def _upgrade(setup: Setup, named: settings.Database) -> None:
    from tweetcrawler.db import Database, conninfo_of

    # A database of your own is never created or started here: its owner does that.
    if not named.embedded:
        Database(conninfo_of(named), named.table).upgrade()
        return
    from tweetcrawler.local import embedded

    # Held, not started: it stops again when nobody else uses it.
    with embedded.Server(setup.settings.data_folder).hold() as url:
        Database(url, named.table).upgrade()


def _about_private_server(setup: Setup, action: str) -> str:
    from tweetcrawler.local import embedded

    server = embedded.Server(setup.settings.data_folder)
    if action == "start":
        return server.start()
    if action == "stop":
        stopped = server.stop()
        return "stopped" if stopped else "in use: it stops when the last run that uses it ends"
    running_at = server.url()
    if running_at is None:
        raise ConfigurationError(
            "the private server is not running: `tweetcrawler db start` starts it"
        )
    return running_at


COMMAND = Command(
    name="db",
    summary=f"the database: {', '.join(ACTIONS)}",
    group=SET_UP,
    about="\n" + "\n".join(f"  {action:<9}{meaning}" for action, meaning in ACTIONS.items()),
    words=Words(
        "|".join(ACTIONS),
        "action",
        one_of(*ACTIONS),
        several=False,
        needs=f"one of {', '.join(ACTIONS)} after it",
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler db upgrade", "the tables of the private PostgreSQL"),
        ("tweetcrawler -c tweet.ini db upgrade", "those of the database that tweet.ini names"),
        ('psql "$(tweetcrawler db url)"', "a session on the private PostgreSQL"),
    ),
    price="nothing.",
)
