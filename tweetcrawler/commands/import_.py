"""Command `import`: stores posts of files that other programs collected."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.settings.commands import DATA, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import file_or_dash

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup

log = logging.getLogger("tweetcrawler")

DEFAULT_REJECTS = Path("import-rejects.jsonl")


@dataclass(frozen=True)
class Values:
    """Files and folders, None for standard input, and the file for lines that cannot be used."""

    files: tuple[Path | None, ...]
    rejects_file: Path = field(default_factory=DEFAULT_REJECTS.absolute)
    again: bool = False


def run(setup: Setup, values: Values) -> int:
    """Imports the files, and reports."""
    from tweetcrawler.archives import importing
    from tweetcrawler.look import display, lines
    from tweetcrawler.setup import Stop

    settings, front, why = setup.settings, setup.front, "import writes to PostgreSQL"
    setup.needs_database(why)
    setup.log()
    for note in settings.notes:
        log.warning("%s", note)
    with (
        setup.database(why) as database,
        # Ctrl-C ends the import in order: the place in each file is saved.
        Stop() as stop,
        front.display(display.ImportPicture, lines.ImportLines) as shown,
    ):
        wanted = importing.Wanted(values.files, values.rejects_file, values.again)
        report = importing.import_files(settings, database, wanted, display=shown, stopped=stop)
    front.report(
        report.for_programs(),
        lambda console: display.print_import_report(report, console),
        code=report.exit_code,
    )
    return report.exit_code


COMMAND = Command(
    name="import",
    summary="store posts from files",
    group=DATA,
    about="Posts in the JSON of X's API v2 or v1.1, our own exports, account downloads, and files "
    "of 4CAT, academictwitteR, snscrape, twscrape, twint, twarc-csv, Hydrator, DMI-TCAT, minet, "
    "Zeeschuimer, Apify and others (docs/how-to.md); plain or packed with gzip, bzip2, xz, zstd, "
    "tar, zip; folders; - for standard input. An interrupted import continues where it was. "
    "Files that were imported whole are not read again.",
    words=Words(
        "FILE...",
        "files",
        file_or_dash,
        needs="files or folders after it, or - for standard input",
    ),
    options=(
        option(
            "--rejects",
            metavar="FILE",
            type=Path,
            field="rejects_file",
            help="file for lines that cannot be imported, with their place and the reason",
            default=str(DEFAULT_REJECTS),
        ),
        option("--again", help="read files again that were imported before and did not change"),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler import archive/ stream.tar tweets.jsonl.gz", "a folder and two files"),
        ("zcat old.jsonl.gz | tweetcrawler import -", "standard input"),
        ("tweetcrawler import --again --rejects bad.jsonl tweets.jsonl", "a file once more"),
    ),
    price="nothing.",
)
