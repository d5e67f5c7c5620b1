"""Command `export`: writes the stored posts to a file or to stdout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import DATA, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import file_or_dash, names, one_of, table_name, text_of

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup

_FORMATS = ("csv", "jsonl", "parquet", "xlsx")
# Where a comma is the sign before decimals, a spreadsheet expects semicolons between cells.
_DELIMITERS = (",", ";", "|", "tab", "sep=,", "sep=;")
_FILTERS = """\
  handle= reply_to= retweet_of= mentions= hashtag=   names with commas between, in any case
  since= until=             2024-01-31 or 2024-01-31T12:00:00Z, UTC; until itself is not in
  id= min_id= max_id=       ids; min_id and max_id are in
  has= without=             hashtags, urls, media, mentions: any of them; none of them
  is=                       original, reply, retweet: each post is one of them
  text= url=                a piece of the text, of a link, in any case
  min_likes= max_likes= min_retweets= max_retweets= min_sentiment= max_sentiment=   both are in"""


@dataclass(frozen=True)
class Values:
    """The form and the filters of an export, as they were said; None and empty are not given.

    `output` None is stdout. `columns` and `where` are not checked here. `pages` says that
    X's answers are wanted as they were stored, and not the rows made of them.
    """

    format: str | None = None
    output: Path | None = None
    columns: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    view: str | None = None
    excel_safe: bool = False
    delimiter: str | None = None
    pages: bool = False


def run(setup: Setup, values: Values) -> int:
    """Writes the export, and says on stderr what is in it."""
    from tweetcrawler import export
    from tweetcrawler.setup import end_in_order_on_sigterm

    settings = setup.settings
    if settings.database is None:
        raise ConfigurationError(
            "export reads a database, and the settings say CSV: "
            f"the files in {settings.csv_folder} are there already"
        )
    # Before the database is opened: a wrong filter is told without waiting for a server.
    chosen = export.prepared(values)
    with end_in_order_on_sigterm(), setup.database("export reads a database") as database:
        done = export.write(chosen, database, setup.front.output)
    # On stderr, since the rows may be on stdout.
    setup.front.remark({"file": chosen.path, "done": done}, done)
    return 0


COMMAND = Command(
    name="export",
    summary="write the stored posts to a file or to stdout",
    group=DATA,
    about="Rows are in order of their ids, so the same posts give the same file. A file is written "
    "under a hidden name, and takes its place when it is whole.\n"
    "A filter is name=value. Values with a comma between them: any of them; several filters: all "
    "of them.\n" + _FILTERS,
    words=Words("[FILE]", "output", file_or_dash, several=False),
    options=(
        option(
            "--format",
            metavar="FORMAT",
            type=one_of(*_FORMATS),
            help=f"one of {', '.join(_FORMATS)}",
            default="the ending of the output file, csv for stdout",
        ),
        option(
            "--output",
            metavar="FILE",
            type=file_or_dash,
            help="file to write; an old one stays until the new one is whole",
            default="-, stdout",
        ),
        option(
            "--columns",
            metavar="NAMES",
            type=names,
            help="columns in the order wanted, with commas between",
            default="all",
        ),
        option(
            "--where",
            metavar="FILTER",
            type=text_of,
            is_repeated=True,
            help="only posts that pass this filter, see above; may be given several times",
        ),
        option(
            "--view",
            metavar="NAME",
            type=table_name,
            help="export this view or table of the database, such as tweets",
            default="the table of the posts",
        ),
        option(
            "--excel-safe",
            help="for csv that a spreadsheet opens: an apostrophe before ids and formulas",
            more="The file type xlsx is safe without it",
        ),
        option(
            "--delimiter",
            metavar="SIGN",
            type=one_of(*_DELIMITERS),
            help="the sign between cells of csv: a comma, ; or | or tab",
            more="sep=; also names it to Excel in a first line",
            default="a comma",
        ),
        option(
            "--pages",
            "--raw",
            help="X's answers as they were stored, one page per line, instead of rows",
            more="--raw means the same here; of the filters, handle= is taken",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler export posts.csv --where hashtag=climate", "posts with a hashtag"),
        ("tweetcrawler export tweets.parquet --view tweets", "all posts, with real types"),
        ("tweetcrawler export --columns id,text | head", "two columns, to another program"),
    ),
    price="nothing.",
)
