"""Command `demo`: a crawl of the sandbox, to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.settings.commands import SET_UP, Command
from tweetcrawler.settings.options import option

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """The folder in which the demo leaves its files; None: a temporary one."""

    keep: Path | None = None


def run(setup: Setup, values: Values) -> int:
    """Runs the demo, and tells each step."""
    from tweetcrawler.local import demo

    return demo.run(values.keep, say=setup.front.say)


COMMAND = Command(
    name="demo",
    summary="a crawl of the sandbox, to look at",
    group=SET_UP,
    about="It starts a sandbox and a private PostgreSQL, crawls thirty users, and asks three "
    "questions.",
    options=(
        option(
            "--keep",
            metavar="FOLDER",
            type=Path,
            help="folder in which the demo leaves its files",
            default="a temporary one, removed at the end",
        ),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler demo", "in a temporary folder"),
        ("tweetcrawler demo --keep demo", "the files stay in the folder demo"),
        ("cd demo && tweetcrawler -c tweet.ini status", "a look at what it stored"),
    ),
    price="nothing.",
    reads_file=False,
)
