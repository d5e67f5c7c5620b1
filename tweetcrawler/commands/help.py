"""Command `help`: the same as --help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler import settings
from tweetcrawler.settings.commands import SET_UP, Command, Words

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """The command that is explained, or "options"; None: the whole program."""

    topic: str | None = None


def run(setup: Setup, values: Values) -> int:
    """Prints the page."""
    setup.front.say(settings.help_text(values.topic))
    return 0


COMMAND = Command(
    name="help",
    summary="this page, or that of a command",
    group=SET_UP,
    words=Words("[COMMAND|options]", "topic", several=False),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler help", "all commands"),
        ("tweetcrawler help search", "one command; the same as `tweetcrawler search --help`"),
        ("tweetcrawler help options", "the options that all commands take, and exit codes"),
    ),
    price="nothing.",
    reads_file=False,
)
