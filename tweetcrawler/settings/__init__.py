"""The settings of a call, from all places.

The command line wins over the environment, that over the file, and the file over the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from tweetcrawler import __version__
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import Credential as Credential  # a value of this layer, found here too
from tweetcrawler.secret import Secret as Secret

DEFAULT_TABLE = "tweet_articles_tweepy"
EMBEDDED = "embedded"


@dataclass(frozen=True)
class Database:
    """Where PostgreSQL is, as far as it was said; None leaves the rest to libpq (PGHOST,
    PGPASSFILE, …).

    `conninfo` is a libpq connection string given instead of a name; values given with it
    win over it. `embedded` means the private server, which knows its own host and port.
    """

    embedded: bool
    host: str | None = None
    port: int | None = None
    name: str | None = None
    user: str | None = None
    password: Secret | None = None
    conninfo: Secret | None = None
    table: str = DEFAULT_TABLE


@dataclass(frozen=True)
class Money:
    """Prices of X and limits of spending, in USD; None: no limit, or the tariff's own.

    `budget` and `max_posts` are of one command, the others of a UTC day and month over all
    runs on the database. Before a run that may cost more than `ask_above` a person at a terminal
    is asked, unless `yes`; a `dry_run` only shows its plan.
    """

    prices_file: Path | None = None
    tariff: str | None = None
    price_post: float | None = None
    price_user: float | None = None
    budget: float | None = None
    max_posts: int | None = None
    budget_per_day: float | None = None
    budget_per_month: float | None = None
    ask_above: float = 5.0
    yes: bool = False
    dry_run: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether any spending is limited."""
        limits = (self.budget, self.max_posts, self.budget_per_day, self.budget_per_month)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Settings:
    """What is common to all commands, from all places, checked; whether files and servers
    exist is not.

    `values` are those of the command: the dataclass of its file, filled. `database` is None
    exactly when `sink` is "csv"; `csv_folder` is then always a path. `threads` None leaves
    the number of processes to the pool. `notes` are sentences for the operator.
    """

    command: str
    values: Any
    handles_file: Path
    sink: Literal["postgresql", "csv"] = "postgresql"
    database: Database | None = None
    csv_folder: Path | None = None
    config_file: Path | None = None
    auth_csv: Path | None = None
    threads: int | None = None
    api_url: str = "https://api.x.com"
    raw: bool = True
    sentiment: bool = True
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    total_timeout_s: float = 60.0
    give_up_after_s: float = 120.0
    recheck_days: int = 7
    retain_s: float = 90 * 86_400.0
    data_folder: Path | None = None
    log_level: Literal["info", "debug"] = "info"
    quiet: bool = False
    json: bool = False
    notify: Secret | None = None
    notify_on: Literal["problem", "always"] = "problem"
    money: Money = field(default_factory=Money)
    notes: tuple[str, ...] = ()

    def arguments_without_secrets(self) -> dict[str, object]:
        """The settings as plain values that JSON can hold; `***` stands for a secret that
        was given.
        """
        return {name: value for name, value in _plain(self).items() if name != "notes"}


@dataclass(frozen=True)
class Place:
    """Where posts shall go, as it was said."""

    csv: bool = False
    csv_folder: Path | None = None
    dbhost: str | None = None
    dbport: int | None = None
    dbname: str | None = None
    dbuser: str | None = None
    dbpass: Secret | None = None
    tablename: str = DEFAULT_TABLE

    @property
    def names_server(self) -> bool:
        """True if any option names a server; the name of a table does not."""
        said = (self.dbname, self.dbuser, self.dbpass, self.dbhost, self.dbport)
        return any(value is not None for value in said)

    @property
    def sink(self) -> Literal["postgresql", "csv"]:
        """The sink that follows."""
        # The original tool had a folder in every file, also with a database: a server wins.
        is_csv = self.csv or (self.csv_folder and not self.names_server)
        return "csv" if is_csv else "postgresql"

    def database(self) -> Database:
        """The database that follows. Errors: ConfigurationError for two different ones."""
        named = self.dbhost is not None and self.dbhost.lower() == EMBEDDED
        embedded = named or not self.names_server
        conninfo = self.dbname if self.dbname and _is_conninfo(self.dbname) else None
        if embedded and conninfo:
            raise ConfigurationError(
                "dbhost is embedded, but dbname is a connection string to another server; "
                "leave out one of them."
            )
        return Database(
            embedded=embedded,
            host=None if embedded else self.dbhost,
            port=self.dbport,
            name=None if conninfo else self.dbname,
            user=self.dbuser,
            password=self.dbpass,
            conninfo=Secret(conninfo) if conninfo else None,
            table=self.tablename,
        )


def parse(argv: Sequence[str], *, environ: Mapping[str, str], folder: Path) -> Settings:
    """The settings of a call with these arguments (without the program's name) in this
    working folder.

    `--help` and `--version` give the commands "help" and "version", whatever the file and
    variables hold. Arguments after `sandbox` are handed on untouched in its values.

    Errors: ConfigurationError with option, variable, or file and line.
    """
    # Here, since the workers of a run need its settings and nothing that reads them.
    from tweetcrawler.settings import reading

    return reading.parse(argv, environ, folder)


def version_text() -> str:
    """The line that `--version` prints, without its break."""
    return f"tweetcrawler {__version__}"


def help_text(topic: str | None = None) -> str:
    """The page that `--help` prints, of a command when one is named."""
    from tweetcrawler.settings import help as pages

    return pages.page(topic)


def _is_conninfo(text: str) -> bool:
    return "://" in text or "=" in text


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        # A field that does not show itself holds text that nobody checked.
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value) if each.repr}
    return value if value is None or isinstance(value, bool | int | float) else str(value)
