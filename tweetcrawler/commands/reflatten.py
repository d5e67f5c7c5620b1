"""Command `reflatten`: makes the rows again from the stored pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.settings.commands import DATA, Command
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """Nothing."""


def run(setup: Setup, _: Values) -> int:
    """Reads all pages, and says how many rows changed."""
    from tweetcrawler import run as runs
    from tweetcrawler.archives.reflattening import reflatten
    from tweetcrawler.outcome import RunReport
    from tweetcrawler.sentiment import scorer
    from tweetcrawler.setup import Stop

    setup.log()
    why = "reflatten reads the pages that PostgreSQL holds"
    with setup.database(why) as database, Stop() as stop:
        number = runs.begin(setup.settings, database, [])[0]
        report = RunReport(number)
        score = scorer() if setup.settings.sentiment else None
        done = reflatten(database, number, score=score, stopped=lambda: stop() is not None)
        report.exit_code = 0 if done.finished else stop() or 1
        runs.end(database, report)
    setup.front.report(
        {"run": number, "posts": done.posts, "new": done.new, "updated": done.updated},
        f"{plural(done.posts, 'post')} read: {plural(done.new, 'new row')}, "
        f"{done.updated:,} updated" + ("" if done.finished else "; run again to go on from here"),
        code=report.exit_code,
    )
    return report.exit_code


COMMAND = Command(
    name="reflatten",
    summary="make rows again from stored pages",
    group=DATA,
    about="Reads the pages as they were bought and saves their rows again: after a change of "
    "the rules for columns, or when rows were damaged or deleted. X is not asked. An "
    "interrupted run continues where it was.",
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler reflatten", "every row whose page is stored"),
        ("tweetcrawler reflatten --log-level debug", "with every step"),
        ("tweetcrawler reflatten --dbname other", "in another database"),
    ),
    price="nothing.",
)
