"""Command `crawl`: collects the timelines of handles."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.settings import types
from tweetcrawler.settings.commands import COLLECT, Command, Words
from tweetcrawler.settings.groups import ARCHIVE

if TYPE_CHECKING:
    from tweetcrawler.db import Reader
    from tweetcrawler.look.ahead import Forecast
    from tweetcrawler.look.plan import Plan
    from tweetcrawler.outcome import Report
    from tweetcrawler.settings import Settings
    from tweetcrawler.setup import Opened, Setup

# Handles of a long list that are looked at for the time to go.
SAMPLE = 1_000


@dataclass(frozen=True)
class Values:
    """Handles given as words, which are crawled instead of those of the file."""

    handles: tuple[str, ...] = ()
    archive: bool = False


def run(setup: Setup, values: Values) -> int:
    """Crawls the handles of the words, or of the handles file."""
    with setup.asking_x(
        before=lambda: refuse_empty_list(setup.settings, values.handles),
        forecast=forecast(setup.settings, values.handles),
    ) as opened:
        return opened.told(timelines(opened, values.handles, archive=values.archive))


def refuse_empty_list(settings: Settings, words: tuple[str, ...] = ()) -> None:
    """Refuses an empty list: a timer that crawls nothing must not look like a success."""
    from tweetcrawler.setup import BadLines

    if count(settings, words) is not None:
        bad = BadLines(settings.handles_file)
        if next(read(settings, words, bad), None) is None:
            raise ConfigurationError(
                f"{settings.handles_file} names no handle; write one on each line."
            )


def timelines(opened: Opened, words: tuple[str, ...] = (), *, archive: bool) -> Report:
    """One run over the timelines of these handles, or of those in the handles file."""
    from tweetcrawler import crawl
    from tweetcrawler.setup import BadLines

    settings = opened.settings
    bad = BadLines(settings.handles_file)
    known = count(settings, words)
    opened.plan_left(partial(left, settings, words, known))
    number = "the" if known is None else f"{known:,}"
    opened.wait_for(f"looking up {number} handle{'' if known == 1 else 's'}")
    report = crawl.crawl(
        opened.run,
        read(settings, words, bad),
        handle_count=known,
        archive=archive,
    )
    report.bad_lines = bad.count
    return report


def left(
    settings: Settings, words: tuple[str, ...], known: int | None, reader: Reader, since: float
) -> Plan:
    """The plan of what a crawl that began at `since` has left; from a sample of a long list."""
    from tweetcrawler import prices
    from tweetcrawler.look import plan

    money = settings.money
    tariff = prices.load(money.prices_file, money.tariff)
    step = max(1, (known or 0) // SAMPLE)
    handles = itertools.islice(read(settings, words, lambda *_: None), 0, None, step)
    made = plan.of_handles(reader, handles, tariff, subject="", done_since=since)
    made.requests = {where: span.times(step) for where, span in made.requests.items()}
    return made


def forecast(settings: Settings, words: tuple[str, ...] = ()) -> Forecast:
    """What a crawl of these handles, or of those in the handles file, may cost."""
    from tweetcrawler.look import ahead

    return ahead.of_handles(lambda: read(settings, words, lambda _line, _reason: None))


def read(
    settings: Settings, words: tuple[str, ...], bad: Callable[[int, str], None]
) -> Iterator[str]:
    """The handles of the words, or of the handles file."""
    from tweetcrawler.settings import handles

    # Repeated handles are one target; the file reader leaves them out itself.
    if words:
        return iter(dict.fromkeys(words))
    return handles.read_handles(settings.handles_file, on_bad=bad)


def count(settings: Settings, words: tuple[str, ...] = ()) -> int | None:
    """The number of handles as far as it is known, found quickly.

    Errors: ConfigurationError when the handles file cannot be read.
    """
    from tweetcrawler.settings import handles

    return len(set(words)) if words else handles.count_lines(settings.handles_file)


COMMAND = Command(
    name="crawl",
    summary="collect the timelines of handles",
    group=COLLECT,
    about="Handles are words, or the lines of the handles file. A repeated crawl continues "
    "where the last one stopped and buys nothing twice.",
    words=Words("[HANDLE...]", "handles", types.handle),
    options=(ARCHIVE,),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler crawl ada grace", "the timelines of two handles"),
        ("tweetcrawler -c tweet.ini", "those of the handles file that tweet.ini names"),
        ("tweetcrawler crawl --budget 25 --max-posts 4000", "not more than $25 and 4,000 posts"),
    ),
    price="each post about $0.005 and each new handle $0.01, pay-per-use; a stored post is not "
    "bought again. `tweetcrawler plan` tells the sum before.",
)
