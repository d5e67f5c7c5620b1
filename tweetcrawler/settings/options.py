"""Every option once: its names, its help, its type, and the places that may set it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import configargparse  # type: ignore[import-untyped]  # ships no types

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.queries import end_id, lowest_id
from tweetcrawler.secret import Secret
from tweetcrawler.settings.types import (
    PathIn,
    api_url,
    duration,
    language,
    moment,
    names,
    number,
    on_off,
    one_of,
    table_name,
    text_of,
    whole,
)

COMMANDS = (
    "crawl",
    "db",
    "sandbox",
    "demo",
    "export",
    "import",
    "search",
    "trending",
    "snowball",
    "hydrate",
    "plan",
    "status",
    "report",
    "watch",
    "help",
    "version",
)
DATABASE_ACTIONS = ("url", "start", "stop", "upgrade")
DEFAULT_FILE = "tweet.ini"
DEFAULT_TABLE = "tweet_articles_tweepy"
DEFAULT_CSV_FOLDER = "tweets"
DEFAULT_REJECTS = "import-rejects.jsonl"
EMBEDDED = "embedded"
VARIABLE_PREFIX = "TWEETCRAWLER_"
EXPORT_FORMATS = ("csv", "jsonl", "parquet", "xlsx")

READ_DEFAULT_FILE = (
    "crawl",
    "search",
    "trending",
    "snowball",
    "hydrate",
    "plan",
    "status",
    "report",
    "watch",
    "export",
    "import",
    "db",
)  # the others take nothing from it, so it may be broken for them
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
class Option:
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
    """Hands configargparse the values of a file, which were read and checked where lines
    are known.
    """

    values: dict[str, str]

    def parse(self, stream: object) -> dict[str, str]:  # noqa: ARG002  # the base fixes the parameters
        return self.values


class Grammar:
    """All options, and the parser that puts their sources in order. Serves one call of `parse`."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.by_name: dict[str, Option] = {}
        self.spellings: list[str] = []
        self.path = PathIn(folder, environ.get("HOME"))
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
        """The known spelling most like this name; None when none is. `likeness` goes from 0
        to 1.
        """
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
        self.parser.add_argument(
            "action",
            nargs="?",
            metavar="action",
            help="what db shall do; files of import and hydrate",
        )
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
            type=one_of("info", "debug"),
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
            type=whole(1, 1000),
            display="Threads",
            help="processes, 1 to 1000 (default: as many as the credentials can feed)",
        )
        add(
            "--raw",
            metavar="on|off",
            type=on_off,
            default=True,
            help="on or off: keep every page as it was bought (default: on)",
        )
        add(
            "--sentiment",
            metavar="on|off",
            type=on_off,
            default=True,
            help="on or off: rate English posts with VADER (default: on)",
        )
        add(
            "--recheckDays",
            metavar="DAYS",
            type=whole(0, 36500),
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
            type=text_of,
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
            type=moment(lowest_id),
            places="command line",
            help="only posts from this date on (2024-01-31 or 2024-01-31T12:00:00Z, UTC), or newer than this id",
        )
        add(
            "--until",
            metavar="WHEN",
            type=moment(end_id),
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
            type=names,
            default=("worldwide",),
            help="places with commas between, by name (worldwide, india, london) or number (default: worldwide)",
        )
        add(
            "--maxTrends",
            metavar="NUMBER",
            type=whole(1, 50),
            default=20,
            dest="max_trends",
            help="trends of a place, the first ones, 1 to 50 (default: %(default)s)",
        )
        add(
            "--maxPerTrend",
            metavar="NUMBER",
            type=whole(10, 10_000_000),
            default=500,
            dest="max_per_trend",
            help="posts of a trend that are bought within a week, at least 10 (default: %(default)s)",
        )
        add(
            "--lang",
            metavar="CODE",
            type=language,
            places="command line",
            help="only posts in this language, as X calls it: en, hi, de",
        )
        add(
            "--timelines",
            metavar="NUMBER",
            type=whole(0, 1_000_000),
            default=0,
            places="command line",
            help="crawl also the timelines of so many authors, those with most posts in the trends",
        )
        add(
            "--every",
            metavar="TIME",
            type=duration,
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
            type=one_of("retweets", "mentions", "replies", "quotes"),
            default="retweets",
            places="command line",
            help="whom the stored posts refer to: retweets, mentions, replies, quotes; quotes are read from the "
            "pages that were kept as bought (default: %(default)s)",
        )
        add(
            "--minCount",
            metavar="NUMBER",
            type=whole(1, 10**9),
            default=1,
            dest="min_count",
            places="command line",
            help="only who is referred to so often (default: %(default)s)",
        )
        add(
            "--limit",
            metavar="NUMBER",
            type=whole(1, 10**9),
            places="command line",
            help="at most so many handles (default: all)",
        )
        add(
            "--depth",
            metavar="NUMBER",
            type=whole(1, 100),
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
            type=duration,
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
            type=number(0, 10_000_000),
            help="spend at most so much in one run, in USD (default: no limit)",
        )
        add(
            "--maxPosts",
            metavar="NUMBER",
            type=whole(0, 999_999_999),
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
                type=number(0, 10_000_000),
                dest=dest,
                help=f"spend at most so much in a UTC {period}, in USD, all runs together (default: no limit)",
            )
        add(
            "--tariff",
            metavar="NAME",
            type=text_of,
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
        for name, dest, what in (
            ("--pricePost", "price_post", "post"),
            ("--priceUser", "price_user", "user"),
        ):
            add(
                name,
                metavar="USD",
                type=number(0, 1000),
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
            type=text_of,
            places="command line",
            help="status: everything about this handle or query",
        )
        add(
            "--watch",
            action="store_true",
            places="command line",
            help="status: show it anew every two seconds",
        )
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
                type=duration,
                default=default,
                dest=dest,
                help=f"{what} time between two visits of a handle, as 30m or 7d (default: {shown})",
            )

    def _x(self) -> None:
        add = self._group("X")
        add(
            "--apiURL",
            metavar="URL",
            type=api_url,
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
                type=number(0.001, _LONGEST_S),
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
            type=text_of,
            help="name of the database, or a whole libpq connection string or URL",
        )
        add("--dbuser", metavar="NAME", type=text_of, help="name of the role that logs in")
        add("--dbpass", type=Secret, places="file and environment", help=argparse.SUPPRESS)
        add(
            "--dbhost",
            metavar="HOST",
            type=text_of,
            help=f"host name, address or socket folder; {EMBEDDED}: the private server (default when no "
            "server is named)",
        )
        add("--dbport", metavar="PORT", type=whole(1, 65535), help="TCP port number, 1 to 65535")
        add(
            "--tablename",
            metavar="TABLE",
            type=table_name,
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
        add(
            "--csv", action="store_true", help="write CSV files, one a user, in place of a database"
        )
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
            type=one_of(*EXPORT_FORMATS),
            places="command line",
            help=f"one of {', '.join(EXPORT_FORMATS)} (default: the ending of the output file, csv for stdout)",
        )
        add(
            "--output",
            metavar="FILE",
            type=text_of,
            places="command line",
            help="file to write; an old one stays as it is until the new one is whole (default: -, stdout)",
        )
        add(
            "--columns",
            metavar="NAMES",
            type=names,
            default=(),
            places="command line",
            help="columns in the order wanted, with commas between (default: all)",
        )
        add(
            "--where",
            metavar="FILTER",
            type=text_of,
            action="append",
            default=[],
            places="command line",
            help="only what passes this filter, see above; may be given several times",
        )
        add(
            "--view",
            metavar="NAME",
            type=table_name,
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

        def add(
            *names: str, places: str = "everywhere", display: str | None = None, **keywords: Any
        ) -> None:
            long = [name for name in names if name.startswith("--")]
            variable = None if places == "command line" else VARIABLE_PREFIX + long[0][2:].upper()
            action = group.add_argument(*names, env_var=variable, **keywords)
            option = Option(
                action,
                long[0],
                on_command_line=places != "file and environment",
                in_file=places in ("everywhere", "file and environment"),
            )
            self.by_name.update({name.lower(): option for name in names})
            self.spellings += [display] if display else [name[2:] for name in long]

        return add
