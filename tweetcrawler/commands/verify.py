"""Command `verify`: compares coverage, stored pages, rows and CSV files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.settings.commands import DATA, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.archives.verifying import Verified, Verifier
    from tweetcrawler.db import Database
    from tweetcrawler.evidence import Difference
    from tweetcrawler.setup import Setup, Stop

# A table that was emptied differs in every row: these name the damage well enough.
_SHOWN = 1_000


@dataclass(frozen=True)
class Values:
    """The targets that are verified, none: all; and whether differences are mended."""

    names: tuple[str, ...] = ()
    repair: bool = False


def run(setup: Setup, values: Values) -> int:
    """Names each difference; 0 when none is left, 1 otherwise."""
    from tweetcrawler.setup import Stop

    setup.log()
    with Stop() as stop:
        if setup.settings.database is None:
            return _csv(setup, values)
        with setup.database("verify reads the pages") as database:
            code = _database(setup, values, database, stop)
        return stop() or code


def _database(setup: Setup, values: Values, database: Database, stop: Stop) -> int:
    from tweetcrawler import run as runs
    from tweetcrawler.archives.verifying import Verifier
    from tweetcrawler.outcome import RunReport
    from tweetcrawler.sentiment import scorer

    chosen = database.targets_named(values.names)
    score = scorer() if setup.settings.sentiment and values.repair else None
    number = runs.begin(setup.settings, database, [])[0] if values.repair else None
    with database.session() as session:
        verifier = Verifier(
            database, session, mends=values.repair, score=score, stopped=lambda: stop() is not None
        )
        found = verifier.targets(chosen) if values.names else verifier.everything()
        _show(setup, found)
    code = _ended(setup, verifier, values.repair)
    if number is not None:
        runs.end(database, RunReport(number, exit_code=code))
    return code


def _csv(setup: Setup, values: Values) -> int:
    from tweetcrawler.csvstore.checks import FolderCheck

    assert setup.settings.csv_folder is not None  # noqa: S101 - the settings promise it
    check = FolderCheck(setup.settings.csv_folder, mends=values.repair)
    _show(setup, check.differences(values.names))
    setup.front.say(
        f"{plural(check.files, 'file')} with {plural(check.rows, 'row')} of "
        f"{plural(check.targets, 'target')}"
    )
    return _verdict(setup, check.left, check.mended, repair=values.repair)


def _show(setup: Setup, found: Iterator[Difference]) -> None:
    number = 0
    for number, difference in enumerate(found, start=1):
        if number <= _SHOWN:
            setup.front.say(difference.sentence + ("; mended" if difference.mended else ""))
    if number > _SHOWN:
        setup.front.say(f"{number - _SHOWN:,} more are counted, and not shown")


def _ended(setup: Setup, verifier: Verifier, repair: bool) -> int:
    done: Verified = verifier.done
    setup.front.say(
        f"{plural(done.targets, 'target')}, {plural(done.pages, 'page')} with "
        f"{plural(done.posts, 'post is', 'posts are')} read"
    )
    if done.without_body:
        setup.front.say(
            f"{plural(done.without_body, 'page was', 'pages were')} stored without X's answer: of "
            "such rows only the newest and the oldest are compared"
        )
    return _verdict(setup, done.differences.total(), done.mended, repair=repair)


def _verdict(setup: Setup, left: int, mended: int, *, repair: bool) -> int:
    if mended:
        setup.front.say(f"{mended:,} differences are mended")
    if not left:
        setup.front.say("all is well")
        return 0
    advice = (
        "no stored page holds them: `tweetcrawler forget NAME` and a run buy them again"
        if repair
        else "`tweetcrawler verify --repair` puts back what the pages hold, free"
    )
    setup.front.say(f"{left:,} differences are left; {advice}")
    return 1


COMMAND = Command(
    name="verify",
    summary="compare coverage, pages and rows",
    group=DATA,
    about="Reads every target with its pages, and names each difference: a row that a page holds "
    "and the table lacks, a covered range that no page proves, a range that pages prove and the "
    "coverage lacks, purchases of a run without a page. With CSV files it compares the files with "
    "their bookkeeping. Exit code 0 when all is well, 1 when something differs.",
    words=Words("[HANDLE|QUERY...]", "names"),
    options=(option("--repair", help="put back what the stored pages hold; X is not asked"),),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler verify", "everything"),
        ("tweetcrawler verify ada '#climate lang:en'", "one timeline and one search"),
        ("tweetcrawler verify --repair", "and put back rows and coverage from the pages"),
    ),
    price="nothing.",
)
