"""Command `graph`: writes who follows whom as a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import DATA, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import one_of, utc
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.setup import Setup

FORMATS = ("csv", "gexf", "graphml", "parquet")


@dataclass(frozen=True)
class Values:
    """The file, its form, and the edges that it gets."""

    files: tuple[str, ...] = ()
    format: str | None = None
    between: bool = False
    mutual: bool = False
    degrees: bool = False
    at: datetime | None = None

    def __post_init__(self) -> None:
        if len(self.files) > 1:
            raise ConfigurationError("`tweetcrawler graph` takes one file; leave out the others")
        if self.form is None:
            raise ConfigurationError(
                f"the ending of {self.files[0][:80]} tells no format: add --format, one of "
                f"{', '.join(FORMATS)}"
            )
        if self.degrees and self.form != "csv":
            raise ConfigurationError("--degrees are written as csv")

    @property
    def form(self) -> str | None:
        """The format, by the option or the ending; None for an unknown ending."""
        if self.format or not self.files or self.files[0] == "-":
            return self.format or "csv"
        ending = Path(self.files[0]).suffix.removeprefix(".").lower()
        return ending if ending in FORMATS else None


def run(setup: Setup, values: Values) -> int:
    """Writes the file, or to stdout."""
    from tweetcrawler.files import replacing
    from tweetcrawler.follow import graph

    choice = graph.Choice(values.at, values.between, values.mutual)
    write = graph.write_degrees if values.degrees else graph.WRITERS[values.form or "csv"]
    what = "user" if values.degrees else "edge"
    with setup.database("graph reads lists from a database") as database, database.asking() as ask:
        if not values.files or values.files[0] == "-":
            write(ask, choice, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return 0
        path = Path.cwd() / values.files[0]
        try:
            with replacing(path) as made:
                with made.emptied() as file:
                    count = write(ask, choice, file)
                made.put_in_place()
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
    done = [f"{plural(count, what)} to {path}"]
    setup.front.remark({"file": path, "done": done}, done)
    return 0


COMMAND = Command(
    name="graph",
    summary="write who follows whom to a file",
    group=DATA,
    about="Edges go from the one who follows to the one who is followed, as the lists that were "
    "walked show them. The view follows has more, with the times between which each began and "
    "ended.",
    words=Words("[FILE]", "files"),
    options=(
        option(
            "--format",
            metavar="FORMAT",
            type=one_of(*FORMATS),
            help=f"one of {', '.join(FORMATS)}",
            default="the ending of the file, csv for stdout",
        ),
        option("--between", help="only edges between users whose lists were walked"),
        option("--mutual", help="only edges that go both ways"),
        option("--degrees", help="users with the numbers of their edges, in place of the edges"),
        option("--at", metavar="WHEN", type=utc, help="the graph at this time, UTC"),
    ),
    values=Values,
    run=run,
    examples=(
        ("tweetcrawler graph network.gexf --between", "a graph for Gephi"),
        ("tweetcrawler graph edges.parquet --at 2026-01-31", "edges of a day, for pandas"),
        ("tweetcrawler graph --degrees | head", "the numbers of edges, to another program"),
    ),
    price="nothing.",
)
