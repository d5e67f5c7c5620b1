"""Command `hydrate`: buys the posts of ids."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler import endpoints
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings.commands import COLLECT, Command, Words
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import duration

if TYPE_CHECKING:
    from tweetcrawler.look.ahead import Forecast
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """Ids, or one file of ids (`-` for standard input), and whether counts are read again."""

    ids: tuple[str, ...]
    refresh: bool = False
    age_s: float = 86_400.0

    def __post_init__(self) -> None:
        from tweetcrawler.settings.ids import id_of

        if len(self.ids) > 1 and any(id_of(word) is None for word in self.ids):
            raise ConfigurationError(
                "`tweetcrawler hydrate` takes ids, or one file of ids, or - for stdin; leave out "
                "the other words. A word of digits is an id: a file of such a name is ./123."
            )


def run(setup: Setup, values: Values) -> int:
    """Looks up the ids that are not stored."""
    from tweetcrawler.settings.ids import blocks
    from tweetcrawler.setup import BadLines
    from tweetcrawler.work import lookups

    why = "hydrate looks into a table for what is stored already"
    setup.needs_database(why)
    bad = BadLines("stdin" if values.ids[0] == "-" else values.ids[0])
    setup.log()  # of lines that cannot be used, and of rounded ids
    # Opened before the keys are asked for: a wrong name is told at once.
    ids = _ids(values.ids, bad)
    first = next(ids, None)
    if first is None and bad.count:
        raise ConfigurationError(
            f"No line of {bad.place} could be used; name a file with the ids of posts"
        )
    ids = itertools.chain([] if first is None else [first], ids)
    with setup.asking_x(why=why, forecast=_forecast(values.ids)) as opened:
        refreshing = lookups.Refreshing(values.age_s if values.refresh else None)
        report = opened.run(lookups.work(blocks(ids, endpoints.IDS_A_LOOKUP), refreshing))
        report.bad_lines = bad.count
        if bad.count:
            # A line that was passed over is a post that is missing, though every request went
            # well.
            report.exit_code = max(report.exit_code, 1)
        return opened.told(report)


def _forecast(words: tuple[str, ...]) -> Forecast | None:
    """None for ids from standard input, which cannot be read twice."""
    from tweetcrawler.look import ahead

    if words == ("-",):
        return None
    return ahead.of_ids(lambda: sum(1 for _ in _ids(words, lambda _line, _reason: None)))


def _ids(words: tuple[str, ...], bad: Callable[[int, str], None]) -> Iterator[int]:
    from tweetcrawler.settings.ids import id_of, read_ids

    # A file of the name 123 is ./123, as for programs that take options (-x is ./-x).
    ids = [found for word in words if (found := id_of(word)) is not None]
    if ids:
        return iter(ids)
    return read_ids(None if words == ("-",) else Path(words[0]).absolute(), on_bad=bad)


COMMAND = Command(
    name="hydrate",
    summary="buy the posts of ids",
    group=COLLECT,
    about="Ids are words, or the lines of a file, or of stdin (-); of a table the column "
    "tweet_id, id or status_id, else the first. Stored posts are not bought "
    "again. A post that X no longer returns is recorded as gone and retried after "
    "--recheck-days.",
    words=Words("ID...|FILE|-", "ids", needs="ids, a file of ids, or - for standard input"),
    options=(
        option(
            "--refresh",
            help="read stored posts, too, for newer counts",
            more="The old counts are kept in the table crawl_metrics",
        ),
        option(
            "--age",
            metavar="TIME",
            type=duration,
            field="age_s",
            help="with --refresh: skip posts refreshed within this time, as 12h or 7d",
        ),
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler hydrate 1460323737035677698", "one post"),
        ("tweetcrawler hydrate ids.txt", "the posts of a file of ids"),
        ("tweetcrawler hydrate --refresh --age 7d ids.txt", "newer counts of posts, weekly"),
    ),
    price="each post that X returns about $0.005, pay-per-use.",
)
