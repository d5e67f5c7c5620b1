"""Command `version`: the same as --version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler import settings
from tweetcrawler.settings.commands import SET_UP, Command

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """Nothing."""


def run(setup: Setup, _: Values) -> int:
    """Prints the version."""
    setup.front.say(settings.version_text())
    return 0


COMMAND = Command(
    name="version",
    summary="the version of the program",
    group=SET_UP,
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler version", "the version"),
        ("tweetcrawler --version", "the same"),
        ("tweetcrawler version --quiet", "the same"),
    ),
    price="nothing.",
    reads_file=False,
)
