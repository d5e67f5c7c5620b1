"""Every option once, and the grammar of the places it comes from: command line, environment, tweet.ini.

The command line wins over the environment, that over the file, and the file over the default. What is wrong
is named by its place; values are never quoted, since any of them may be a password in the wrong line.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import configargparse  # type: ignore[import-untyped]  # ships no types

from tweetcrawler import __version__
from tweetcrawler.coverage import EVERYTHING, Bounds
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.queries import end_id, lowest_id
from tweetcrawler.secret import Credential as Credential  # a value of the settings' layer, found here too
from tweetcrawler.secret import Secret as Secret
from tweetcrawler.secret import harmless_name, read_by_others, read_text

COMMANDS = ("crawl", "db", "sandbox", "demo", "export", "import", "search", "trending", "snowball", "hydrate", "plan", "status", "report", "watch", "help", "version")
DATABASE_ACTIONS = ("url", "start", "stop", "upgrade")
DEFAULT_FILE = "tweet.ini"
DEFAULT_TABLE = "tweet_articles_tweepy"
DEFAULT_CSV_FOLDER = "tweets"
DEFAULT_REJECTS = "import-rejects.jsonl"
EMBEDDED = "embedded"
VARIABLE_PREFIX = "TWEETCRAWLER_"
EXPORT_FORMATS = ("csv", "jsonl", "parquet", "xlsx")

_READ_DEFAULT_FILE = ("crawl", "search", "trending", "snowball", "hydrate", "plan", "status", "report", "watch", "export", "import", "db")  # the others take nothing from it, so it may be broken for them
_LONGEST_S = 3600.0

_EXIT_CODES = """\
exit codes:
    0  all done
    1  some targets are not done; each is named
    2  usage or configuration
    3  the database is unreachable or not migrated
    4  no usable credential
    5  stopped at the budget or at X's cap
  130  interrupted; progress is saved and reported
  143  terminated; progress is saved and reported
"""

_EPILOG = f"""\
where options come from:
  The command line wins over the environment (TWEETCRAWLER_ and the option in capitals, as
  TWEETCRAWLER_DBNAME), the environment over the file, the file over the default. Without -c,
  ./{DEFAULT_FILE} is read if it is there. Names are the same in the file and in any case: Threads, threads.
  Blank means not given. Paths in the file are relative to the file, others to the working folder.

where posts go:
  To CSV files with --csv. To PostgreSQL when dbhost, dbport, dbname, dbuser or dbpass is given.
  To CSV files when only a folder for them is. Otherwise to the private PostgreSQL server.

{_EXIT_CODES}"""


@dataclass(frozen=True)
class Database:
    """Where PostgreSQL is, as far as it was said; None leaves the rest to libpq (PGHOST, PGPASSFILE, …).

    `conninfo` is a libpq connection string given in place of a name; values given beside it win over it.
    `embedded` means the private server, which knows its own host and port.
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
    """What `search` shall look for: queries of the command line, of a file, or both; ids within the bounds.

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
    """The ids for `hydrate`: a file, None for stdin. Counts read in the last `age_s` seconds are not read again."""

    ids_file: Path | None = None
    refresh: bool = False
    age_s: float = 86_400.0


@dataclass(frozen=True)
class Money:
    """What X charges, and how much of it may be spent; amounts are in USD, None: no limit, or the tariff's own.

    `budget` and `max_posts` are of one run, the others of a UTC day and month over all runs on the database.
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
        return (self.budget, self.max_posts, self.budget_per_day, self.budget_per_month) != (None,) * 4


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
    """How `watch` keeps a list fresh: the shortest and longest time between two visits of a target."""

    once: bool = False
    min_s: float = 900.0
    max_s: float = 7 * 86_400.0


@dataclass(frozen=True)
class Export:
    """What `export` shall write, as it was said; None and empty leave it to the other options.

    `output` None is stdout. `columns` and `where` are not looked into here. `pages` says that X's answers are
    wanted as they were stored, and not the rows made of them.
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
    """What `import` shall read: files and folders, None for standard input; and where it writes rejects.

    `again` says that files which were imported before are read once more.
    """

    files: tuple[Path | None, ...]
    rejects_file: Path
    again: bool


@dataclass(frozen=True)
class Settings:
    """What the operator wants, from all sources, checked; whether files and servers exist is not.

    `database` is None exactly when `sink` is "csv"; `csv_folder` is then always a path. `threads` None leaves
    the number of processes to the pool. `rest` is what stood behind `sandbox`. `notes` are sentences for the
    operator.
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
        """The settings as plain values that JSON can hold; `***` stands for a secret that was given."""
        return {name: value for name, value in _plain(self).items() if name not in ("export", "imports", "look", "rest", "notes")}


def parse(argv: Sequence[str], *, environ: Mapping[str, str], folder: Path) -> Settings:
    """The settings of a call with these arguments (without the program's name) in this working folder.

    `--help` and `--version` give the commands "help" and "version", whatever the file and variables hold.
    Arguments behind `sandbox` are handed on untouched in `rest`.

    Errors: ConfigurationError with option, variable, or file and line.
    """
    grammar = _Grammar(folder, environ)
    line = _read_command_line(argv, grammar)
    if line.wants:
        return _settings(grammar.given([line.wants], {}, {}), grammar)
    command = _command_of(line)
    variables, notes = _read_variables(environ, grammar)
    named = line.options.get("--config") or variables.get("TWEETCRAWLER_CONFIG")
    path = _config_file(named, command, grammar)
    values, more_notes = _read_file(path, grammar) if path else ({}, ())
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
    text: str = _Grammar(Path(), {}).parser.format_help()
    return text


def version_text() -> str:
    """What `--version` prints, without the line break."""
    return f"tweetcrawler {__version__}"


def _settings(
    given: argparse.Namespace,
    grammar: _Grammar,
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
        handles_file=given.handles_file or (config_file.parent if config_file else grammar.path(".")) / "handles.txt",
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
    if isinstance(value, Settings | Database | Search | Trending | Snowball | Hydrate | Money | Watch | Bounds):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return value if value is None or isinstance(value, bool | int | float) else str(value)


# --- the options ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Option:
    """One option: its action, its first long spelling, and the places that may set it."""

    action: argparse.Action
    name: str
    on_command_line: bool
    in_file: bool

    @property
    def is_flag(self) -> bool:
        return self.action.nargs == 0

    @property
    def is_repeatable(self) -> bool:
        return isinstance(self.action.default, list)


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]  # the base has no types
    def error(self, message: str) -> None:
        raise ConfigurationError(f"{message}; `tweetcrawler --help` lists the options.")


class _FileAlreadyRead(configargparse.ConfigFileParser):  # type: ignore[misc]  # the base has no types
    """Hands configargparse the values of a file, which were read and checked where lines are known."""

    values: dict[str, str]

    def parse(self, stream: object) -> dict[str, str]:  # noqa: ARG002  # the base fixes the parameters
        return self.values


class _Grammar:
    """All options, and the parser that puts their sources in order. Serves one call of `parse`."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.by_name: dict[str, _Option] = {}
        self.spellings: list[str] = []
        self.path = _PathIn(folder, environ.get("HOME"))
        self._file = _FileAlreadyRead()
        self.parser = _Parser(
            prog="tweetcrawler",
            usage="tweetcrawler [command] [options]",
            add_help=False,
            allow_abbrev=False,
            description="Collects the posts of X users into PostgreSQL: "
            "nothing lost, nothing bought twice, no window overrun.",
            epilog=_EPILOG,
            add_config_file_help=False,
            add_env_var_help=False,
            config_file_parser_class=self._file,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, width=105, max_help_position=32
            ),
        )
        self._general()
        self._crawl()
        self._search()
        self._trending()
        self._snowball()
        self._hydrate()
        self._money()
        self._look()
        self._watch()
        self._x()
        self._database()
        self._csv()
        self._export()
        self._import()
        self._demo()

    def given(
        self, arguments: Sequence[str], variables: Mapping[str, str], values: Mapping[str, str]
    ) -> argparse.Namespace:
        """The options of three sources that were read before. It holds secrets: never print it."""
        self._file.values = dict(values)
        namespace: argparse.Namespace = self.parser.parse_args(
            list(arguments), env_vars=dict(variables), config_file_contents=""
        )
        return namespace

    def nearest(self, name: str, *, likeness: float = 0.5) -> str | None:
        """The known spelling most like this name; None when none is. `likeness` goes from 0 to 1."""
        import difflib  # only needed for an error

        folded = {each.lower(): each for each in self.spellings}
        found = difflib.get_close_matches(name.strip("-").lower(), folded, n=1, cutoff=likeness)
        return folded[found[0]] if found else None

    def _general(self) -> None:
        self.parser.add_argument(
            "command",
            nargs="?",
            default="crawl",
            metavar="command",
            help="crawl (default): walk the timelines of the handles; search: collect the posts of queries; "
            "trending: the posts of what is trending; snowball: make the next level of handles; hydrate FILE: "
            "buy the posts of ids; plan: what a crawl, a search (-q) or --trending will take, before anything is bought; "
            "status: what is stored, spent and open; report: the same as a page for readers; watch: keep the handles "
            "fresh; export: write the stored posts to a file "
            "or to stdout; import: take in posts from files; db: the database, one of "
            f"{', '.join(DATABASE_ACTIONS)}; sandbox: a local server like X (its own options follow: "
            "sandbox --help); demo: a crawl of the sandbox, to look at; help; version",
        )
        self.parser.add_argument("action", nargs="?", metavar="action", help="what db shall do; files of import and hydrate")
        add = self._group("general")
        add("-h", "--help", action="store_true", places="command line", help="print this text")
        add("--version", action="store_true", places="command line", help="print the version")
        add(
            "-c",
            "--config",
            metavar="FILE",
            type=self.path,
            places="outside the file",
            help=f"file of options, as tweet.ini.example shows (default: ./{DEFAULT_FILE} if it is there)",
        )
        add(
            "--logLevel",
            metavar="LEVEL",
            type=_one_of("info", "debug"),
            default="info",
            dest="log_level",
            help="info or debug: what is logged to stderr; debug adds every page (default: %(default)s)",
        )
        add("--quiet", action="store_true", help="no live display; log lines only")

    def _crawl(self) -> None:
        add = self._group("crawl")
        add(
            "--authCSV",
            metavar="FILE",
            type=self.path,
            dest="auth_csv",
            help="CSV file of credentials, mode 600, with the header consumer_key, consumer_secret, "
            "access_token, access_token_secret and optionally bearer_token, name, proxy; without it the "
            "terminal is asked",
        )
        add(
            "--handles",
            "--handlesFile",
            metavar="FILE",
            type=self.path,
            dest="handles_file",
            help="file of handles, one a line (default: handles.txt beside tweet.ini)",
        )
        add(
            "--threads",
            metavar="COUNT",
            type=_whole(1, 1000),
            display="Threads",
            help="processes, 1 to 1000 (default: as many as the credentials can feed)",
        )
        add(
            "--raw",
            metavar="on|off",
            type=_on_off,
            default=True,
            help="on or off: keep every page as it was bought (default: on)",
        )
        add(
            "--sentiment",
            metavar="on|off",
            type=_on_off,
            default=True,
            help="on or off: rate English posts with VADER (default: on)",
        )
        add(
            "--recheckDays",
            metavar="DAYS",
            type=_whole(0, 36500),
            default=7,
            dest="recheck_days",
            help="days after which a missing, suspended or protected user is asked for again "
            "(default: %(default)s days)",
        )

    def _search(self) -> None:
        add = self._group(
            "search",
            "Recent search looks back 7 days. What is older is marked as unreachable, until --archive reads it.\n"
            "No search for words or hashtags brings retweets: X leaves them out since May 2026.",
        )
        add(
            "-q",
            "--query",
            metavar="QUERY",
            type=_text,
            action="append",
            default=[],
            places="command line",
            help="query in X's search language; may be given several times",
        )
        add(
            "--queries",
            metavar="FILE",
            type=self.path,
            places="command line",
            help="file of queries, one a line; # and a space begin a comment",
        )
        add(
            "--archive",
            action="store_true",
            places="command line",
            help="search the full archive, where the app has access to it; with crawl: read what timelines do not "
            "reach (about 3,200 posts) from there, too",
        )
        add(
            "--since",
            metavar="WHEN",
            type=_moment(lowest_id),
            places="command line",
            help="only posts from this date on (2024-01-31 or 2024-01-31T12:00:00Z, UTC), or newer than this id",
        )
        add(
            "--until",
            metavar="WHEN",
            type=_moment(end_id),
            places="command line",
            help="only posts before this date (UTC), or older than this id",
        )
        add(
            "--count",
            action="store_true",
            places="command line",
            help="buy nothing: ask how many posts there are, and tell requests and money",
        )

    def _trending(self) -> None:
        add = self._group("trending")
        add(
            "-trending",
            "--trending",
            action="store_true",
            places="command line",
            help="the same as the command trending",
        )
        add(
            "--woeid",
            metavar="PLACES",
            type=_names,
            default=("worldwide",),
            help="places with commas between, by name (worldwide, india, london) or number (default: worldwide)",
        )
        add(
            "--maxTrends",
            metavar="NUMBER",
            type=_whole(1, 50),
            default=20,
            dest="max_trends",
            help="trends of a place, the first ones, 1 to 50 (default: %(default)s)",
        )
        add(
            "--maxPerTrend",
            metavar="NUMBER",
            type=_whole(10, 10_000_000),
            default=500,
            dest="max_per_trend",
            help="posts of a trend that are bought within a week, at least 10 (default: %(default)s)",
        )
        add(
            "--lang",
            metavar="CODE",
            type=_language,
            places="command line",
            help="only posts in this language, as X calls it: en, hi, de",
        )
        add(
            "--timelines",
            metavar="NUMBER",
            type=_whole(0, 1_000_000),
            default=0,
            places="command line",
            help="crawl also the timelines of so many authors, those with most posts in the trends",
        )
        add(
            "--every",
            metavar="TIME",
            type=_duration,
            dest="every_s",
            places="command line",
            help="begin again so long after each beginning, as 15m or 2h, until stopped (default: once)",
        )

    def _snowball(self) -> None:
        add = self._group(
            "snowball",
            "The new level takes the place of the handles file, and the old one is appended to the same name\n"
            "with .bk. Who is known already is left out; the most frequent come first.",
        )
        add(
            "-r",
            "--retweeted",
            action="store_true",
            places="command line",
            help="the same as the command snowball",
        )
        add(
            "--by",
            metavar="WHAT",
            type=_one_of("retweets", "mentions", "replies", "quotes"),
            default="retweets",
            places="command line",
            help="whom the stored posts refer to: retweets, mentions, replies, quotes; quotes are read from the "
            "pages that were kept as bought (default: %(default)s)",
        )
        add(
            "--minCount",
            metavar="NUMBER",
            type=_whole(1, 10**9),
            default=1,
            dest="min_count",
            places="command line",
            help="only who is referred to so often (default: %(default)s)",
        )
        add(
            "--limit",
            metavar="NUMBER",
            type=_whole(1, 10**9),
            places="command line",
            help="at most so many handles (default: all)",
        )
        add(
            "--depth",
            metavar="NUMBER",
            type=_whole(1, 100),
            places="command line",
            help="crawl the handles, then level after level up to this one; the first line of the handles file "
            "tells which level it is",
        )
        add(
            "--stdout",
            action="store_true",
            places="command line",
            help="print the handles and leave the file as it is",
        )

    def _hydrate(self) -> None:
        add = self._group(
            "hydrate",
            "The ids stand one a line in the file behind the command, or come from stdin (-). Posts that are\n"
            "stored are not bought again. That X gives a post no more is an answer: it is noted, and asked again\n"
            "after recheckDays.",
        )
        add(
            "--refresh",
            action="store_true",
            places="command line",
            help="read stored posts, too, for newer counts; the old ones are kept in the table crawl_metrics",
        )
        add(
            "--age",
            metavar="TIME",
            type=_duration,
            default=86_400.0,
            dest="age_s",
            places="command line",
            help="with --refresh: leave out posts whose counts were read so short ago, as 12h or 7d (default: 24h)",
        )

    def _money(self) -> None:
        add = self._group(
            "money",
            "Budgets hold over all runs and machines that use the database. What a request may cost at most is set\n"
            "aside before it is sent, and its answer settles it: a budget is never exceeded, not even by one post.\n"
            "At its end a run stops with exit code 5, and the same command goes on from there.",
        )
        add(
            "--budget",
            metavar="USD",
            type=_number(0, 10_000_000),
            help="spend at most so much in one run, in USD (default: no limit)",
        )
        add(
            "--maxPosts",
            metavar="NUMBER",
            type=_whole(0, 999_999_999),
            dest="max_posts",
            help="buy at most so many posts in one run (default: no limit)",
        )
        for name, dest, period in (
            ("--budgetPerDay", "budget_per_day", "day"),
            ("--budgetPerMonth", "budget_per_month", "month"),
        ):
            add(
                name,
                metavar="USD",
                type=_number(0, 10_000_000),
                dest=dest,
                help=f"spend at most so much in a UTC {period}, in USD, all runs together (default: no limit)",
            )
        add(
            "--tariff",
            metavar="NAME",
            type=_text,
            help="what X charges you by: pay-per-use, basic, pro, or one of your own file (default: what the file "
            "of prices says, pay-per-use)",
        )
        add(
            "--prices",
            metavar="FILE",
            type=self.path,
            dest="prices_file",
            help="file of tariffs: prices, caps, first guesses of limits (default: the file prices.toml in the "
            "package)",
        )
        for name, dest, what in (("--pricePost", "price_post", "post"), ("--priceUser", "price_user", "user")):
            add(
                name,
                metavar="USD",
                type=_number(0, 1000),
                dest=dest,
                help=f"price of a {what}, in USD, in place of the tariff's (default: the tariff's)",
            )

    def _look(self) -> None:
        add = self._group(
            "plan, status, report",
            "plan buys nothing, and remembers what it says: the report of the next run shows both.",
        )
        add(
            "--ask",
            action="store_true",
            places="command line",
            help="plan: buy the users that are not known, for the number of their posts, and have the posts of queries "
            "counted; status: let X tell what it has counted itself (free)",
        )
        add("--json", action="store_true", places="command line", help="plan, status: print JSON")
        add(
            "--handle",
            metavar="NAME",
            type=_text,
            places="command line",
            help="status: everything about this handle or query",
        )
        add("--watch", action="store_true", places="command line", help="status: show it anew every two seconds")
        add(
            "--html",
            metavar="FILE",
            type=self.path,
            places="command line",
            help="report: file of the page to write, with everything in it (default: report.html)",
        )
        add(
            "--markdown",
            metavar="FILE",
            type=self.path,
            places="command line",
            help="report: file to write as Markdown, without pictures",
        )

    def _watch(self) -> None:
        add = self._group(
            "watch",
            "Each handle has a next visit of its own: often for those who post often. A visit that finds nothing new\n"
            "costs a request and no money.",
        )
        add("--once", action="store_true", places="command line", help="do what is due, and end")
        for name, dest, default, shown, what in (
            ("--watchMin", "watch_min_s", 900.0, "15m", "shortest"),
            ("--watchMax", "watch_max_s", 7 * 86_400.0, "7d", "longest"),
        ):
            add(
                name,
                metavar="TIME",
                type=_duration,
                default=default,
                dest=dest,
                help=f"{what} time between two visits of a handle, as 30m or 7d (default: {shown})",
            )

    def _x(self) -> None:
        add = self._group("X")
        add(
            "--apiURL",
            metavar="URL",
            type=_api_url,
            default="https://api.x.com",
            dest="api_url",
            help="base URL of X, the sandbox or a gateway; http only on this machine (default: %(default)s)",
        )
        for name, dest, default_s, meaning in (
            ("--connectTimeout", "connect_timeout_s", 5.0, "to connect"),
            ("--readTimeout", "read_timeout_s", 30.0, "between two bytes of an answer"),
            ("--totalTimeout", "total_timeout_s", 60.0, "for a whole answer"),
        ):
            add(
                name,
                metavar="SECONDS",
                type=_number(0.001, _LONGEST_S),
                default=default_s,
                dest=dest,
                help=f"longest time {meaning}, in seconds (default: {default_s:g} s)",
            )

    def _database(self) -> None:
        add = self._group(
            "database",
            "The password has no option here, since everyone on this machine can read a command line:\n"
            "write it as dbpass into the file or into TWEETCRAWLER_DBPASS, or leave it to libpq\n"
            "(PGPASSWORD, PGPASSFILE, a service).",
        )
        add(
            "--dbname",
            metavar="NAME",
            type=_text,
            help="name of the database, or a whole libpq connection string or URL",
        )
        add("--dbuser", metavar="NAME", type=_text, help="name of the role that logs in")
        add("--dbpass", type=Secret, places="file and environment", help=argparse.SUPPRESS)
        add(
            "--dbhost",
            metavar="HOST",
            type=_text,
            help=f"host name, address or socket folder; {EMBEDDED}: the private server (default when no "
            "server is named)",
        )
        add("--dbport", metavar="PORT", type=_whole(1, 65535), help="TCP port number, 1 to 65535")
        add(
            "--tablename",
            metavar="TABLE",
            type=_table,
            help=f"table of the posts, optionally with its schema: schema.table (default: {DEFAULT_TABLE})",
        )
        add(
            "--dataFolder",
            metavar="FOLDER",
            type=self.path,
            dest="data_folder",
            help="folder of the private server's data (default: a folder in the user's home)",
        )

    def _csv(self) -> None:
        add = self._group("CSV")
        add("--csv", action="store_true", help="write CSV files, one a user, in place of a database")
        add(
            "--folder",
            "--CSVFolder",
            metavar="FOLDER",
            type=self.path,
            dest="csv_folder",
            help=f"folder of the CSV files (default with --csv: ./{DEFAULT_CSV_FOLDER})",
        )

    def _export(self) -> None:
        add = self._group(
            "export",
            "Rows go out by ascending id, so the same posts give the same file. A file is written beside its\n"
            "place under a hidden name, and takes its place when it is whole.\n"
            "A filter is name=value. Values with a comma between them: any of them; several filters: all of them.\n"
            "  handle= reply_to= retweet_of= mentions= hashtag=   names with commas between, in any case\n"
            "  since= until=             2024-01-31 or 2024-01-31T12:00:00Z, UTC; until itself is not in\n"
            "  id= min_id= max_id=       ids; min_id and max_id are in\n"
            "  has= without=             hashtags, urls, media, mentions: any of them; none of them\n"
            "  is=                       original, reply, retweet: each post is one of them\n"
            "  text= url=                a piece of the text, of a link, in any case\n"
            "  min_likes= max_likes= min_retweets= max_retweets= min_sentiment= max_sentiment=   both are in",
        )
        add(
            "--format",
            metavar="FORMAT",
            type=_one_of(*EXPORT_FORMATS),
            places="command line",
            help=f"one of {', '.join(EXPORT_FORMATS)} (default: the ending of the output file, csv for stdout)",
        )
        add(
            "--output",
            metavar="FILE",
            type=_text,
            places="command line",
            help="file to write; an old one stays as it is until the new one is whole (default: -, stdout)",
        )
        add(
            "--columns",
            metavar="NAMES",
            type=_names,
            default=(),
            places="command line",
            help="columns in the order wanted, with commas between (default: all)",
        )
        add(
            "--where",
            metavar="FILTER",
            type=_text,
            action="append",
            default=[],
            places="command line",
            help="only what passes this filter, see above; may be given several times",
        )
        add(
            "--view",
            metavar="NAME",
            type=_table,
            places="command line",
            help="export this view or table of the database, such as tweets (default: the table of the posts)",
        )
        add(
            "--excel-safe",
            action="store_true",
            dest="excel_safe",
            places="command line",
            help="for csv that a spreadsheet opens: ids, and text that it would take for a formula, get an "
            "apostrophe in front; xlsx is safe without it",
        )
        add(
            "--pages",
            action="store_true",
            places="command line",
            help="X's answers as they were stored, one page a line, in place of rows; `export --raw` means the "
            "same; of the filters, handle= is taken",
        )

    def _import(self) -> None:
        add = self._group(
            "import",
            "tweetcrawler import FILES...: posts that were collected before, in the JSON of X's API v2 or v1.1 and\n"
            "as twarc keeps it; plain or packed with gzip, bzip2, xz, zstd, tar; folders; - for standard input.\n"
            "What was interrupted goes on where it was. Files that were imported whole are not read again.",
        )
        add(
            "--rejects",
            metavar="FILE",
            type=self.path,
            default=DEFAULT_REJECTS,
            dest="rejects_file",
            places="command line",
            help="file to which lines that cannot be imported are added, with their place and the reason "
            "(default: %(default)s)",
        )
        add(
            "--again",
            action="store_true",
            places="command line",
            help="read files again that were imported before and did not change",
        )

    def _demo(self) -> None:
        add = self._group("demo")
        add(
            "--keep",
            metavar="FOLDER",
            type=self.path,
            places="command line",
            help="folder in which the demo leaves its files (default: a temporary one, removed at the end)",
        )

    def _group(self, title: str, description: str | None = None) -> Callable[..., None]:
        group = self.parser.add_argument_group(title, description)

        def add(*names: str, places: str = "everywhere", display: str | None = None, **keywords: Any) -> None:
            long = [name for name in names if name.startswith("--")]
            variable = None if places == "command line" else VARIABLE_PREFIX + long[0][2:].upper()
            action = group.add_argument(*names, env_var=variable, **keywords)
            option = _Option(
                action,
                long[0],
                on_command_line=places != "file and environment",
                in_file=places in ("everywhere", "file and environment"),
            )
            self.by_name.update({name.lower(): option for name in names})
            self.spellings += [display] if display else [name[2:] for name in long]

        return add


# --- the command line and the environment ---------------------------------------------------------


@dataclass(frozen=True)
class _CommandLine:
    words: tuple[str, ...]
    options: dict[str, str | None]
    repeated: tuple[tuple[str, str], ...] = ()
    rest: tuple[str, ...] = ()
    wants: str | None = None


def _read_command_line(argv: Sequence[str], grammar: _Grammar) -> _CommandLine:
    """Words, options and what follows `sandbox`, told apart before argparse sees them.

    argparse gives up optional words that stand between options, and would read the sandbox's options as ours.
    """
    words: list[str] = []
    options: dict[str, str | None] = {}
    repeated: list[tuple[str, str]] = []
    position = 0
    while position < len(argv):
        argument = argv[position]
        position += 1
        if not argument.startswith("-") or argument == "-":
            words.append(argument)
            if words == ["sandbox"]:
                return _CommandLine(tuple(words), options, rest=tuple(argv[position:]))
            continue
        if words == ["export"] and argument.lower() == "--raw":
            argument = "--pages"  # elsewhere --raw takes on or off
        option, value = _find_option(argument, grammar)
        if option.name in ("--help", "--version"):
            return _CommandLine((), {}, wants=option.name[2:])
        if not option.is_flag and value is None:
            value = argv[position] if position < len(argv) else None
            position += 1
        if value is None or value.strip():
            checked = _checked_argument(option, value)
            if option.is_repeatable and checked is not None:
                repeated.append((option.name, checked))
            else:
                options[option.name] = checked
    return _CommandLine(tuple(words), options, tuple(repeated))


def _find_option(argument: str, grammar: _Grammar) -> tuple[_Option, str | None]:
    name, equals, text = argument.partition("=")
    option = grammar.by_name.get(name.lower()) or grammar.by_name.get(_without_dashes(name))
    value = text if equals else None
    if option is None and not argument.startswith("--"):
        name, value = argument[:2], argument[2:]
        option = grammar.by_name.get(name)
        option = None if option and option.is_flag else option
    if option is None:
        shown = harmless_name(argument.partition("=")[0]) or "of that name"
        nearest = grammar.nearest(argument.partition("=")[0])
        advice = f"did you mean --{nearest}?" if nearest else "`tweetcrawler --help` lists all."
        raise ConfigurationError(f"There is no option {shown}; {advice}")
    return option, value


def _without_dashes(name: str) -> str:
    """`--max-per-trend` as `--maxpertrend`, which is `--maxPerTrend` in any case."""
    return "--" + name[2:].replace("-", "").lower() if name.startswith("--") else name


_PASSWORD_INSIDE = re.compile(r"\bpassword\s*=|://[^@]*:[^@]*@", re.IGNORECASE)


def _checked_argument(option: _Option, value: str | None) -> str | None:
    if not option.on_command_line:
        raise ConfigurationError(
            f"{option.name} is not taken from the command line, where everyone on this machine can read it; "
            f"write {option.name[2:]} into the file or set {VARIABLE_PREFIX}{option.name[2:].upper()}."
        )
    if option.is_flag:
        if value is not None:
            raise ConfigurationError(f"{option.name} takes no value; leave out what is behind it.")
        return None
    if value is None or value.startswith("--"):
        raise ConfigurationError(f"{option.name} needs a value behind it.")
    if option.name == "--dbname" and _PASSWORD_INSIDE.search(value):
        raise ConfigurationError(
            "--dbname has a password in it, and everyone on this machine can read a command line; "
            "write it into the file or set TWEETCRAWLER_DBPASS."
        )
    _check(option, value, option.name)
    return value


# What makes no sense elsewhere is refused elsewhere, before anything is bought.
_BELONGS_TO = {
    "--archive": ("search", "crawl", "snowball", "plan"),
    **dict.fromkeys(("--query", "--queries"), ("search", "plan")),
    **dict.fromkeys(("--since", "--until", "--count"), ("search",)),
    **dict.fromkeys(("--handle", "--watch"), ("status",)),
    "--json": ("status", "plan"),
    "--ask": ("status", "plan"),
    **dict.fromkeys(("--html", "--markdown"), ("report",)),
    "--once": ("watch",),
    **dict.fromkeys(
        ("--woeid", "--maxTrends", "--maxPerTrend", "--lang", "--timelines", "--every"), ("trending", "plan")
    ),
    **dict.fromkeys(("--by", "--minCount", "--limit", "--depth", "--stdout"), ("snowball",)),
    **dict.fromkeys(("--refresh", "--age"), ("hydrate",)),
}


def _command_of(line: _CommandLine) -> str:
    """The command, whether it was said as a word or as an option; what does not belong to it is refused."""
    command = _known_words(line.words)
    for name, other in (("--trending", "trending"), ("--retweeted", "snowball")):
        if name in line.options and (command, name) != ("plan", "--trending"):
            if command not in ("crawl", other):
                raise ConfigurationError(f"{name} is a command of its own; leave it or {command} out.")
            command = other
    for name in [*line.options, *(name for name, _ in line.repeated)]:
        owners = _BELONGS_TO.get(name)
        if owners and command not in owners:
            raise ConfigurationError(
                f"{name} belongs to {' and '.join(owners)}, not to {command}; leave it out or name that command."
            )
    if command == "search" and not any(name in ("--query", "--queries") for name in (*line.options, *dict(line.repeated))):
        raise ConfigurationError("`tweetcrawler search` needs a query: -q QUERY or --queries FILE.")
    return command


def _known_words(words: tuple[str, ...]) -> str:
    """The command; words that it does not take are refused."""
    command = words[0] if words else "crawl"
    if command not in COMMANDS:
        raise ConfigurationError(f"The first word must be a command, one of {', '.join(COMMANDS)}.")
    if command == "db" and (len(words) < 2 or words[1] not in DATABASE_ACTIONS):
        raise ConfigurationError(f"`tweetcrawler db` needs one of {', '.join(DATABASE_ACTIONS)} behind it.")
    if command == "import" and len(words) < 2:
        raise ConfigurationError("`tweetcrawler import` needs files or folders behind it, or - for standard input.")
    if command == "hydrate" and len(words) < 2:
        raise ConfigurationError("`tweetcrawler hydrate` needs a file of ids behind it, or - for stdin.")
    if len(words) > (2 if command in ("db", "hydrate") else 1) and command != "import":
        raise ConfigurationError(f"`tweetcrawler {command}` takes no further word; options begin with --.")
    return command


def _read_variables(environ: Mapping[str, str], grammar: _Grammar) -> tuple[dict[str, str], tuple[str, ...]]:
    """Our variables that are not blank, by the first name of their option, and notes on misspelled ones."""
    found: dict[str, str] = {}
    notes: list[str] = []
    for variable, value in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or not value.strip():
            continue
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        option = grammar.by_name.get(f"--{name}")
        if option is None or not (option.in_file or option.name == "--config"):
            nearest = grammar.nearest(name, likeness=0.8)  # others may be read by somebody else
            if nearest:
                meant = VARIABLE_PREFIX + nearest.upper()
                notes.append(f"The variable {variable} is not known and not read; did you mean {meant}?")
            continue
        _check(option, value, f"The variable {variable}")
        found[VARIABLE_PREFIX + option.name[2:].upper()] = value
    return found, tuple(notes)


def _config_file(text: str | None, command: str, grammar: _Grammar) -> Path | None:
    if text:
        return grammar.path(text)
    default = grammar.folder / DEFAULT_FILE
    return default if command in _READ_DEFAULT_FILE and default.is_file() else None


def _check(option: _Option, text: str, place: str) -> None:
    """Raise for a value that its option does not take; the value stays out of the sentence."""
    convert = _on_off if option.is_flag else option.action.type
    try:
        convert(text)  # type: ignore[operator, misc]  # every option has a callable type, see _Grammar
    except argparse.ArgumentTypeError as error:
        sentence = f"{place} {error}."
    else:
        return
    raise ConfigurationError(sentence)


# --- tweet.ini ------------------------------------------------------------------------------------

_SECTION = re.compile(r"\[[^\]]*\]\s*([#;].*)?", re.DOTALL)
_KEY = re.compile(r"\s*(?P<key>[^=:]*[^=:\s])\s*[=:](?P<rest>.*)", re.DOTALL)
_COMMENT = re.compile(r"\s[#;]")
_QUOTED = re.compile(r"(?P<quote>['\"])(?P<value>.*?)(?P=quote)(?=\s*\Z|\s+[#;])", re.DOTALL)


@dataclass(frozen=True)
class _Entry:
    line: int
    key: str
    value: str = field(repr=False)


def _read_file(path: Path, grammar: _Grammar) -> tuple[dict[str, str], tuple[str, ...]]:
    """The values of a tweet.ini by the first names of their options, checked, paths absolute; and notes."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    for entry in _entries(read_text(path, "configuration file"), path):
        place = f"{path}, line {entry.line}"
        option = _option_of_key(entry.key, place, grammar)
        if option.name in lines:
            raise ConfigurationError(
                f"{place}: {entry.key} was given before, in line {lines[option.name]}; leave out one."
            )
        lines[option.name] = entry.line
        if entry.value.strip():
            _check(option, entry.value, f"{place}: {entry.key}")
            values[option.name[2:]] = _as_argument(option, entry.value, grammar.path.under(path.parent))
    note = read_by_others(path) if "dbpass" in values else None
    return values, (note,) if note else ()


def _option_of_key(key: str, place: str, grammar: _Grammar) -> _Option:
    option = grammar.by_name.get(f"--{key.lower()}") or grammar.by_name.get(_without_dashes(f"--{key}"))
    shown = harmless_name(key) or "in this line"
    if option is None:
        nearest = grammar.nearest(key)
        advice = f"did you mean {nearest}?" if nearest else "`tweetcrawler --help` lists all."
        raise ConfigurationError(f"{place}: the key {shown} is not known; {advice}")
    if not option.in_file:
        raise ConfigurationError(f"{place}: the key {shown} cannot stand in a file; say {option.name}.")
    return option


def _as_argument(option: _Option, value: str, path: _PathIn) -> str:
    if isinstance(option.action.type, _PathIn):
        return str(path(value))
    return str(_on_off(value)) if option.is_flag else value


def _entries(text: str, path: Path) -> Iterator[_Entry]:
    """The `key = value` lines. Sections order the file for its readers only: a key may stand in any."""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;" or _SECTION.fullmatch(stripped):
            continue
        match = _KEY.fullmatch(line)
        if match is None:
            raise ConfigurationError(
                f"{path}, line {number}: this is neither a [section] nor key = value nor a # comment."
            )
        yield _Entry(number, match["key"], _value(match["rest"], f"{path}, line {number}: {match['key']}"))


def _value(text: str, place: str) -> str:
    """What stands behind `=`: in quotes as it is, else up to a # or ; that has white space before it.

    A quote closes the value only where the line or a comment follows, so a password may hold its own quotes.
    """
    if text.strip()[:1] not in ("'", '"'):
        return _COMMENT.split(text, maxsplit=1)[0].strip()
    match = _QUOTED.match(text.lstrip())
    if match is None:
        raise ConfigurationError(f"{place}: the quote before the value is not closed; close it on its line.")
    return match["value"]


# --- types of values: each gives the value, or says what it must be -------------------------------

_DIGITS = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}")
_TABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}")
_SWITCH = {
    "on": True,
    "yes": True,
    "true": True,
    "1": True,
    "off": False,
    "no": False,
    "false": False,
    "0": False,
}


@dataclass(frozen=True)
class _PathIn:
    """Makes paths absolute, relative ones under a folder."""

    folder: Path
    home: str | None

    def __call__(self, text: str) -> Path:
        text = _text(text.strip())
        if text.startswith("~/") and self.home:
            return Path(self.home, text[2:])
        return self.folder / text

    def under(self, folder: Path) -> _PathIn:
        return _PathIn(folder, self.home)


def _text(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise argparse.ArgumentTypeError("must not hold control characters")
    return text


def _on_off(text: str) -> bool:
    try:
        return _SWITCH[text.strip().lower()]
    except KeyError:
        raise argparse.ArgumentTypeError("must be on or off") from None


def _one_of(*choices: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text.strip().lower() in choices:
            return text.strip().lower()
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(choices)}")

    return convert


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if _DIGITS.fullmatch(text.strip()) and lowest <= int(text) <= highest:
            return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number from {lowest} to {highest}")

    return convert


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if _DECIMAL.fullmatch(text.strip()) and lowest <= float(text) <= highest:
            return float(text)
        raise argparse.ArgumentTypeError(
            f"must be a number from {lowest:g} to {highest:g}, with a point before decimals"
        )

    return convert


def _table(text: str) -> str:
    if _TABLE.fullmatch(text.strip()):
        return text.strip()
    raise argparse.ArgumentTypeError(
        "must be a name of letters, digits and _, at most 63 and no digit first, or schema.table"
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in _text(text).split(","))
    if all(names) and len(set(names)) == len(names):
        return names
    raise argparse.ArgumentTypeError("must be names with commas between, each once")


def _moment(convert: Callable[[str], int]) -> Callable[[str], int]:
    def id_of(text: str) -> int:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return id_of


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError("must be a time such as 90s, 15m, 2h or 7d")
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]])


def _language(text: str) -> str:
    if re.fullmatch(r"[a-z]{2,3}(-[a-z]{2,4})?", text.strip().lower()):
        return text.strip().lower()
    raise argparse.ArgumentTypeError("must be the code of a language, such as en")


def _api_url(text: str) -> str:
    try:
        parts = urlsplit(_text(text.strip()))
        usable = parts.scheme in ("http", "https") and parts.port != 0 and not re.search(r"\s", text.strip())
    except ValueError:  # a port that is no number, brackets that are no address
        usable = False
    if not usable or not parts.hostname:
        raise argparse.ArgumentTypeError("must be a URL such as https://api.x.com")
    if parts.username is not None or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("must be a URL without user, password, ? and #")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise argparse.ArgumentTypeError(
            "must begin with https, since keys would travel readable; http is for servers on this machine"
        )
    return parts.geturl().rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
