"""Command `report`: writes a page for readers about what is stored and spent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import LOOK, Command
from tweetcrawler.settings.options import option

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """The files to write; none of them: report.html."""

    html: Path | None = None
    markdown: Path | None = None


def run(setup: Setup, values: Values) -> int:
    """Writes the files, and prints their names."""
    from tweetcrawler.look import report
    from tweetcrawler.setup import end_in_order_on_sigterm

    page = values.html
    if page is None and values.markdown is None:
        page = Path.cwd() / "report.html"
    with (
        # A timer of the system ends it with SIGTERM; the transaction is then rolled back.
        end_in_order_on_sigterm(),
        setup.database("report reads a database") as database,
        database.reader() as reader,
    ):
        findings = report.gather(reader, setup.tariff(), place=database.place)
    written = []
    for path, made in ((page, report.as_page), (values.markdown, report.as_text)):
        if path is not None:
            _write_whole(path, made(findings))
            written.append(str(path))
    setup.front.report({"files": written}, "\n".join(written))
    return 0


def _write_whole(path: Path, text: str) -> None:
    from tweetcrawler import files

    try:
        files.replace_whole(path, text.encode())
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}); name another place"
        ) from None


COMMAND = Command(
    name="report",
    summary="the status as a page for readers",
    group=LOOK,
    options=(
        option(
            "--html",
            metavar="FILE",
            type=Path,
            help="file of the page to write, with everything in it",
            default="report.html",
        ),
        option(
            "--markdown",
            metavar="FILE",
            type=Path,
            help="file to write as Markdown, without pictures",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler report", "report.html in this folder"),
        ("tweetcrawler report --html pages/today.html", "a page of another name"),
        ("tweetcrawler report --markdown report.md", "text, for a repository or a chat"),
    ),
    price="nothing.",
)
