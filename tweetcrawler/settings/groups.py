"""Options that several commands take: they fill the common settings."""

from __future__ import annotations

from pathlib import Path

from tweetcrawler.secret import Secret
from tweetcrawler.settings import DEFAULT_TABLE, EMBEDDED
from tweetcrawler.settings.options import EVERYWHERE, NO_COMMAND_LINE, NOT_IN_FILE, Group, option
from tweetcrawler.settings.types import (
    address,
    api_url,
    duration,
    names,
    number,
    on_off,
    one_of,
    table_name,
    text_of,
    whole,
)

DEFAULT_FILE = "tweet.ini"
DEFAULT_CSV_FOLDER = "tweets"
_LONGEST_S = 3600.0
_MOST_USD = 10_000_000

GENERAL = Group(
    "general",
    (
        # These two become commands of their own before any value is looked at.
        option("-h", "--help", help="show the help, of a command when one is named"),
        option("--version", help="show the version"),
        option(
            "-c",
            "--config",
            metavar="FILE",
            type=Path,
            places=NOT_IN_FILE,
            help="file of options, as tweet.ini.example shows",
            default=f"./{DEFAULT_FILE} if it is there",
        ),
        option(
            "--log-level",
            metavar="LEVEL",
            type=one_of("info", "debug"),
            places=EVERYWHERE,
            help="info or debug: messages on stderr; debug adds every page",
        ),
        option(
            "--quiet",
            places=EVERYWHERE,
            help="print nothing on success; what needs a person goes to stderr",
        ),
        option("--json", places=NOT_IN_FILE, help="print reports as JSON, one line each"),
    ),
)

COLLECTING = Group(
    "collecting",
    (
        option(
            "--auth-csv",
            metavar="FILE",
            type=Path,
            key="authCSV",
            places=EVERYWHERE,
            help="CSV file of credentials, mode 600; without it the terminal is asked",
            more="Its header: consumer_key, consumer_secret, access_token, access_token_secret, "
            "and optionally bearer_token, name, proxy",
        ),
        option(
            "--handles",
            "--handlesFile",
            metavar="FILE",
            type=Path,
            field="handles_file",
            key="handlesFile",
            places=EVERYWHERE,
            help="file of handles, one per line",
            default=f"handles.txt beside {DEFAULT_FILE}",
        ),
        option(
            "--threads",
            metavar="COUNT",
            type=whole(1, 1000),
            key="Threads",
            places=EVERYWHERE,
            help="most processes, 1 to 1000",
            default="as many as the windows need, within memory, cores and connections",
        ),
        option(
            "--raw",
            metavar="on|off",
            type=on_off,
            places=EVERYWHERE,
            help="on or off: keep every page as it was bought",
        ),
        option(
            "--sentiment",
            metavar="on|off",
            type=on_off,
            places=EVERYWHERE,
            help="on or off: rate English posts with VADER",
        ),
        option(
            "--recheck-days",
            metavar="DAYS",
            type=whole(0, 36500),
            places=EVERYWHERE,
            help="days until a missing, suspended or protected user is tried again",
        ),
        option(
            "--retain",
            metavar="TIME",
            type=duration,
            field="retain_s",
            places=EVERYWHERE,
            help="time after which requests without news, and runs without any, are only counted",
            more="The current month is always kept. No sum changes",
        ),
    ),
)

MONEY = Group(
    "money",
    (
        option(
            "--budget",
            metavar="USD",
            type=number(0, _MOST_USD),
            places=EVERYWHERE,
            help="most that this command may spend, in USD",
            default="no limit",
        ),
        option(
            "--max-posts",
            metavar="NUMBER",
            type=whole(0, 999_999_999),
            places=EVERYWHERE,
            help="most posts that this command may buy",
            default="no limit",
        ),
        *(
            option(
                f"--budget-per-{period}",
                metavar="USD",
                type=number(0, _MOST_USD),
                places=EVERYWHERE,
                help=f"most that all runs together may spend in a UTC {period}, in USD",
                default="no limit",
            )
            for period in ("day", "month")
        ),
        option(
            "--ask-above",
            metavar="USD",
            type=number(0, _MOST_USD),
            places=EVERYWHERE,
            help="on a terminal, ask before a run that may cost more, in USD",
        ),
        option("--yes", help="do not ask before a run that costs much"),
        option("--dry-run", help="say what would be done and what it costs; do nothing"),
        option(
            "--tariff",
            metavar="NAME",
            type=text_of,
            places=EVERYWHERE,
            help="X's tariff: pay-per-use, basic, pro, or one of your own file",
            default="the one that the file of prices names, pay-per-use",
        ),
        option(
            "--prices",
            metavar="FILE",
            type=Path,
            field="prices_file",
            places=EVERYWHERE,
            help="file of tariffs: prices, caps, first guesses of limits",
            default="the file prices.toml in the package",
        ),
        *(
            option(
                f"--price-{thing}",
                metavar="USD",
                type=number(0, 1000),
                places=EVERYWHERE,
                help=f"price of a {thing}, in USD",
                default="the tariff's",
            )
            for thing in ("post", "user")
        ),
    ),
    "Day and month budgets hold over all runs and machines that use the database. The cost of "
    "a request is reserved before it is sent, so no budget is exceeded, not even by one post. "
    "At the end of a budget a run stops with exit code 5, and the same command continues later.",
)

X = Group(
    "X",
    (
        option(
            # Tokens travel to this address: `types.api_url` takes plain http on this machine only.
            "--api-url",
            metavar="URL",
            type=api_url,
            key="apiURL",
            places=EVERYWHERE,
            help="base URL of X, the sandbox or a gateway; http only on this machine",
        ),
        *(
            option(
                f"--{name}-timeout",
                metavar="SECONDS",
                type=number(0.001, _LONGEST_S),
                field=f"{name}_timeout_s",
                places=EVERYWHERE,
                help=f"longest time {meaning}, in seconds",
            )
            for name, meaning in (
                ("connect", "to connect"),
                ("read", "between two bytes of an answer"),
                ("total", "for a whole answer"),
            )
        ),
        option(
            "--give-up-after",
            metavar="TIME",
            type=duration,
            field="give_up_after_s",
            places=EVERYWHERE,
            help="end a run that had no answer at all for this time, such as 2m; exit code 6",
            default="2m",
        ),
    ),
)

DATABASE = Group(
    "database",
    (
        option(
            "--dbname",
            metavar="NAME",
            type=text_of,
            places=EVERYWHERE,
            help="name of the database, or a whole libpq connection string or URL",
        ),
        option(
            "--dbuser",
            metavar="NAME",
            type=text_of,
            places=EVERYWHERE,
            help="name of the role that logs in",
        ),
        option(
            # Everyone on a machine can read the command lines of its processes (`ps`).
            "--dbpass",
            type=Secret,
            places=NO_COMMAND_LINE,
            help="password of the role",
            more="It has no option, since everyone on the machine can read a command line",
        ),
        option(
            "--dbhost",
            metavar="HOST",
            type=text_of,
            places=EVERYWHERE,
            help=f"host name, address or socket folder; {EMBEDDED}: the private server",
            default=f"{EMBEDDED} when no server is named",
        ),
        option(
            "--dbport",
            metavar="PORT",
            type=whole(1, 65535),
            places=EVERYWHERE,
            help="TCP port number, 1 to 65535",
        ),
        option(
            "--tablename",
            metavar="TABLE",
            type=table_name,
            places=EVERYWHERE,
            help="table of the posts, optionally with its schema: schema.table",
            default=DEFAULT_TABLE,
        ),
        option(
            "--data-folder",
            metavar="FOLDER",
            type=Path,
            places=EVERYWHERE,
            help="folder of the private server's data",
            default="a folder in the user's home",
        ),
    ),
    "The password is written as dbpass into the file, or into TWEETCRAWLER_DBPASS, or left to "
    "libpq (PGPASSWORD, PGPASSFILE, a service).",
)

CSV = Group(
    "CSV",
    (
        option(
            "--csv", places=EVERYWHERE, help="write CSV files, one per user, instead of a database"
        ),
        option(
            "--folder",
            "--CSVFolder",
            metavar="FOLDER",
            type=Path,
            field="csv_folder",
            key="CSVFolder",
            places=EVERYWHERE,
            help="folder of the CSV files",
            default=f"with --csv: ./{DEFAULT_CSV_FOLDER}",
        ),
    ),
)

NOTICES = Group(
    "notices",
    (
        option(
            # An address holds a token or a password.
            "--notify",
            type=Secret,
            places=NO_COMMAND_LINE,
            help="addresses for notices, with spaces between: URLs as Apprise writes them",
            more="It has no option, since everyone on the machine can read a command line",
        ),
        option(
            "--notify-on",
            metavar="WHEN",
            type=one_of("problem", "always"),
            places=EVERYWHERE,
            help="problem or always: tell of runs that need a person, or of each run",
        ),
    ),
    "A notice goes out at the end of a run that asks X: at most one per cause and hour. "
    "Addresses stand as notify in the file, or in TWEETCRAWLER_NOTIFY.",
)

# In the order in which the help and the reference show them.
COMMON = (COLLECTING, MONEY, X, DATABASE, CSV, NOTICES, GENERAL)

# --- options of a few commands, which fill fields of their values ---------------------------------

# Full-archive search is open to some plans only, and needs an app token:
# https://docs.x.com/x-api/posts/search/introduction
ARCHIVE = option(
    "--archive",
    help="search the full archive, if the app has access to it",
    more="A crawl then reads the posts that timelines do not reach (about 3,200) from there",
)
QUERIES = (
    option(
        "-q",
        "--query",
        metavar="QUERY",
        type=text_of,
        field="queries",
        is_repeated=True,
        help="query in X's search language; may be given several times",
    ),
    option(
        "--queries",
        metavar="FILE",
        type=Path,
        field="queries_file",
        help="file of queries, one per line; # and a space begin a comment",
    ),
)
PLACES = option(
    "--woeid",
    metavar="PLACES",
    type=names,
    field="places",
    places=EVERYWHERE,
    help="places with commas between, by name (worldwide, india, london) or number",
)
METRICS_PORT = option(
    "--metrics-port",
    metavar="[HOST:]PORT",
    type=address,
    field="metrics_address",
    places=EVERYWHERE,
    help="serve figures for Prometheus under /metrics at this port of the machine itself",
    more="With a host before it, as in 0.0.0.0:9464, for others, too",
    default="none",
)
TRENDS = (
    option(
        "--max-trends",
        metavar="NUMBER",
        # X lists at most 50 trends of a place.
        type=whole(1, 50),
        places=EVERYWHERE,
        help="trends of each place, the first ones, 1 to 50",
    ),
    option(
        "--max-per-trend",
        metavar="NUMBER",
        # X gives at least 10 posts on a page of search.
        type=whole(10, 10_000_000),
        places=EVERYWHERE,
        help="posts of each trend to buy within a week, at least 10",
    ),
)
