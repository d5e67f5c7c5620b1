"""The settings of a call, from wherever they were said.

The command line wins over the environment, that over the file, and the file over the default.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tweetcrawler import __version__
from tweetcrawler.coverage import EVERYTHING, Bounds
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import (
    Credential as Credential,
)  # a value of the settings' layer, found here too
from tweetcrawler.secret import Secret as Secret
from tweetcrawler.settings.options import COMMANDS as COMMANDS
from tweetcrawler.settings.options import DATABASE_ACTIONS as DATABASE_ACTIONS
from tweetcrawler.settings.options import (
    DEFAULT_CSV_FOLDER,
    DEFAULT_REJECTS,
    DEFAULT_TABLE,
    EMBEDDED,
    Grammar,
)
from tweetcrawler.settings.options import EXPORT_FORMATS as EXPORT_FORMATS
from tweetcrawler.settings.sources import (
    command_of,
    config_file,
    read_command_line,
    read_file,
    read_variables,
)


@dataclass(frozen=True)
class Database:
    """Where PostgreSQL is, as far as it was said; None leaves the rest to libpq (PGHOST,
    PGPASSFILE, …).

    `conninfo` is a libpq connection string given in place of a name; values given beside it
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
class Search:
    """What `search` shall look for: queries of the command line, of a file, or both; ids
    within the bounds.

    With `count` their posts are counted, not bought.
    """

    queries: tuple[str, ...] = ()
    queries_file: Path | None = None
    bounds: Bounds = EVERYTHING
    count: bool = False


@dataclass(frozen=True)
class Trending:
    """Where `trending` looks, and how much of it is collected; `every_s` None means once."""

    places: tuple[str, ...] = ("worldwide",)
    max_trends: int = 20
    max_per_trend: int = 500
    lang: str | None = None
    timelines: int = 0
    every_s: float | None = None


@dataclass(frozen=True)
class Snowball:
    """Who is of the next level; `depth` None makes one level and crawls none."""

    by: str = "retweets"
    min_count: int = 1
    limit: int | None = None
    depth: int | None = None
    stdout: bool = False


@dataclass(frozen=True)
class Hydrate:
    """The ids for `hydrate`: a file, None for stdin. Counts read in the last `age_s`
    seconds are not read again.
    """

    ids_file: Path | None = None
    refresh: bool = False
    age_s: float = 86_400.0


@dataclass(frozen=True)
class Money:
    """What X charges, and how much of it may be spent; amounts are in USD, None: no limit,
    or the tariff's own.

    `budget` and `max_posts` are of one run, the others of a UTC day and month over all runs
    on the database.
    """

    prices_file: Path | None = None
    tariff: str | None = None
    price_post: float | None = None
    price_user: float | None = None
    budget: float | None = None
    max_posts: int | None = None
    budget_per_day: float | None = None
    budget_per_month: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether any spending is limited."""
        return (self.budget, self.max_posts, self.budget_per_day, self.budget_per_month) != (
            None,
        ) * 4


@dataclass(frozen=True)
class Look:
    """What `plan`, `status` and `report` shall show, and how; `ask` lets them ask X."""

    handle: str | None = None
    as_json: bool = False
    refresh: bool = False
    ask: bool = False
    trending: bool = False
    html: Path | None = None
    markdown: Path | None = None


@dataclass(frozen=True)
class Watch:
    """How `watch` keeps a list fresh: the shortest and longest time between two visits of a
    target.
    """

    once: bool = False
    min_s: float = 900.0
    max_s: float = 7 * 86_400.0


@dataclass(frozen=True)
class Export:
    """What `export` shall write, as it was said; None and empty leave it to the other options.

    `output` None is stdout. `columns` and `where` are not looked into here. `pages` says
    that X's answers are wanted as they were stored, and not the rows made of them.
    """

    format: str | None = None
    output: Path | None = None
    columns: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    view: str | None = None
    excel_safe: bool = False
    pages: bool = False


@dataclass(frozen=True)
class Import:
    """What `import` shall read: files and folders, None for standard input; and where it
    writes rejects.

    `again` says that files which were imported before are read once more.
    """

    files: tuple[Path | None, ...]
    rejects_file: Path
    again: bool


@dataclass(frozen=True)
class Settings:
    """What the operator wants, from all sources, checked; whether files and servers exist
    is not.

    `database` is None exactly when `sink` is "csv"; `csv_folder` is then always a path.
    `threads` None leaves the number of processes to the pool. `rest` is what stood behind
    `sandbox`. `notes` are sentences for the operator.
    """

    command: str
    action: str | None
    config_file: Path | None
    sink: Literal["postgresql", "csv"]
    database: Database | None
    csv_folder: Path | None
    auth_csv: Path | None
    handles_file: Path
    threads: int | None
    api_url: str
    raw: bool
    sentiment: bool
    connect_timeout_s: float
    read_timeout_s: float
    total_timeout_s: float
    recheck_days: int
    data_folder: Path | None
    log_level: Literal["info", "debug"]
    quiet: bool
    keep: Path | None = None
    archive: bool = False
    search: Search = field(default_factory=Search)
    trending: Trending = field(default_factory=Trending)
    snowball: Snowball = field(default_factory=Snowball)
    hydrate: Hydrate = field(default_factory=Hydrate)
    money: Money = field(default_factory=Money)
    look: Look = field(default_factory=Look)
    watch: Watch = field(default_factory=Watch)
    export: Export = field(default_factory=Export)
    imports: Import = field(default_factory=lambda: Import((), Path(DEFAULT_REJECTS), again=False))
    rest: tuple[str, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    def arguments_without_secrets(self) -> dict[str, object]:
        """The settings as plain values that JSON can hold; `***` stands for a secret that
        was given.
        """
        return {
            name: value
            for name, value in _plain(self).items()
            if name not in ("export", "imports", "look", "rest", "notes")
        }


def parse(argv: Sequence[str], *, environ: Mapping[str, str], folder: Path) -> Settings:
    """The settings of a call with these arguments (without the program's name) in this
    working folder.

    `--help` and `--version` give the commands "help" and "version", whatever the file and
    variables hold. Arguments behind `sandbox` are handed on untouched in `rest`.

    Errors: ConfigurationError with option, variable, or file and line.
    """
    grammar = Grammar(folder, environ)
    line = read_command_line(argv, grammar)
    if line.wants:
        return _settings(grammar.given([line.wants], {}, {}), grammar)
    command = command_of(line)
    variables, notes = read_variables(environ, grammar)
    named = line.options.get("--config") or variables.get("TWEETCRAWLER_CONFIG")
    path = config_file(named, command, grammar)
    values, more_notes = read_file(path, grammar) if path else ({}, ())
    arguments = [f"{name}={value}" if value else name for name, value in line.options.items()]
    arguments += [f"{name}={value}" for name, value in line.repeated]
    takes_files = command in ("import", "hydrate")
    files = line.words[1:] if takes_files else ()
    words = line.words[:1] if takes_files else line.words
    given = grammar.given([*words, *arguments], variables, values)
    return _settings(
        given, grammar, config_file=path, files=files, rest=line.rest, notes=notes + more_notes
    )


def help_text() -> str:
    """What `--help` prints."""
    text: str = Grammar(Path(), {}).parser.format_help()
    return text


def version_text() -> str:
    """What `--version` prints, without the line break."""
    return f"tweetcrawler {__version__}"


def _settings(
    given: argparse.Namespace,
    grammar: Grammar,
    *,
    config_file: Path | None = None,
    files: tuple[str, ...] = (),
    rest: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Settings:
    sink = _sink(given)
    default_folder = grammar.path(DEFAULT_CSV_FOLDER) if sink == "csv" else None
    command = given.command
    if command == "crawl":
        command = "trending" if given.trending else "snowball" if given.retweeted else command
    if given.watch_min_s > given.watch_max_s:
        raise ConfigurationError("watchMin is longer than watchMax; correct one of them.")
    return Settings(
        command=command,
        action=given.action,
        config_file=config_file,
        sink=sink,
        database=_database(given) if sink == "postgresql" else None,
        csv_folder=given.csv_folder or default_folder,
        auth_csv=given.auth_csv,
        handles_file=given.handles_file
        or (config_file.parent if config_file else grammar.path(".")) / "handles.txt",
        threads=given.threads,
        api_url=given.api_url,
        raw=given.raw,
        sentiment=given.sentiment,
        connect_timeout_s=given.connect_timeout_s,
        read_timeout_s=given.read_timeout_s,
        total_timeout_s=given.total_timeout_s,
        recheck_days=given.recheck_days,
        data_folder=given.data_folder,
        log_level=given.log_level,
        quiet=given.quiet,
        keep=given.keep,
        archive=given.archive,
        search=Search(
            queries=tuple(given.query),
            queries_file=given.queries,
            bounds=_bounds(given.since, given.until),
            count=given.count,
        ),
        trending=Trending(
            places=given.woeid,
            max_trends=given.max_trends,
            max_per_trend=given.max_per_trend,
            lang=given.lang,
            timelines=given.timelines,
            every_s=given.every_s,
        ),
        snowball=Snowball(
            by=given.by,
            min_count=given.min_count,
            limit=given.limit,
            depth=given.depth,
            stdout=given.stdout,
        ),
        hydrate=Hydrate(
            ids_file=None if files in ((), ("-",)) else grammar.path(files[0]),
            refresh=given.refresh,
            age_s=given.age_s,
        ),
        money=Money(
            prices_file=given.prices_file,
            tariff=given.tariff,
            price_post=given.price_post,
            price_user=given.price_user,
            budget=given.budget,
            max_posts=given.max_posts,
            budget_per_day=given.budget_per_day,
            budget_per_month=given.budget_per_month,
        ),
        look=Look(
            handle=given.handle,
            as_json=given.json,
            refresh=given.watch,
            ask=given.ask,
            trending=given.trending,
            html=given.html,
            markdown=given.markdown,
        ),
        watch=Watch(once=given.once, min_s=given.watch_min_s, max_s=given.watch_max_s),
        export=Export(
            format=given.format,
            output=None if given.output in (None, "-") else grammar.path(given.output),
            columns=given.columns,
            where=tuple(given.where),
            view=given.view,
            excel_safe=given.excel_safe,
            pages=given.pages,
        ),
        imports=Import(
            files=tuple(None if file == "-" else grammar.path(file) for file in files),
            rejects_file=given.rejects_file,
            again=given.again,
        ),
        rest=rest,
        notes=notes,
    )


def _bounds(lowest: int | None, end: int | None) -> Bounds:
    if lowest is not None and end is not None and lowest >= end:
        raise ConfigurationError("--since is not before --until; correct one of them.")
    return Bounds(lowest or 1, end)


def _sink(given: argparse.Namespace) -> Literal["postgresql", "csv"]:
    return "csv" if given.csv or (given.csv_folder and not _names_server(given)) else "postgresql"


def _names_server(given: argparse.Namespace) -> bool:
    """Whether anything was said of a server; the name of a table says nothing of it."""
    said = (given.dbname, given.dbuser, given.dbpass, given.dbhost, given.dbport)
    return any(value is not None for value in said)


def _database(given: argparse.Namespace) -> Database:
    named = given.dbhost is not None and given.dbhost.lower() == EMBEDDED
    embedded = named or not _names_server(given)
    is_conninfo = given.dbname is not None and _is_conninfo(given.dbname)
    if embedded and is_conninfo:
        raise ConfigurationError(
            "dbhost is embedded, but dbname is a connection string to another server; leave out one of them."
        )
    return Database(
        embedded=embedded,
        host=None if embedded else given.dbhost,
        port=given.dbport,
        name=None if is_conninfo else given.dbname,
        user=given.dbuser,
        password=given.dbpass,
        conninfo=Secret(given.dbname) if is_conninfo else None,
        table=given.tablename or DEFAULT_TABLE,
    )


def _is_conninfo(text: str) -> bool:
    return "://" in text or "=" in text


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(
        value, Settings | Database | Search | Trending | Snowball | Hydrate | Money | Watch | Bounds
    ):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return value if value is None or isinstance(value, bool | int | float) else str(value)
