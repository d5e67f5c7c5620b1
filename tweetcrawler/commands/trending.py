"""Command `trending`: collects the posts of what is trending at some places."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.settings.commands import COLLECT, Command
from tweetcrawler.settings.groups import PLACES, TRENDS
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import duration, language, whole

if TYPE_CHECKING:
    from tweetcrawler.look.ahead import Forecast
    from tweetcrawler.setup import Opened, Setup
    from tweetcrawler.targets import Place


@dataclass(frozen=True)
class Values:
    """Places, how much of their trends is collected, and how often; `every_s` None: once."""

    places: tuple[str, ...] = ("worldwide",)
    max_trends: int = 20
    max_per_trend: int = 500
    lang: str | None = None
    timelines: int = 0
    every_s: float | None = None


def run(setup: Setup, values: Values) -> int:
    """Collects the trends of the places, once or again and again."""
    from tweetcrawler.settings import places

    wanted = [places.place(name) for name in values.places]
    why = "trending keeps what was seen in a table"
    with setup.asking_x(why=why, forecast=_forecast(len(wanted), values)) as opened:
        while True:
            began_at = time.monotonic()
            code = _once(opened, wanted, values)
            # After a refusal of all keys or at a budget, the next round would do no better.
            if values.every_s is None or code not in (0, 1):
                return code
            # From beginning to beginning: a long round does not shift the following ones.
            while time.monotonic() < began_at + values.every_s:
                if (stopped := opened.stop()) is not None:
                    return stopped
                time.sleep(0.2)


def _forecast(places: int, values: Values) -> Forecast:
    from tweetcrawler.look import ahead, plan

    most = values.max_trends, values.max_per_trend
    return ahead.Forecast(
        lambda stored, _: plan.of_trends(stored, places, trends=most[0], per_trend=most[1])
    )


def _once(opened: Opened, wanted: list[Place], values: Values) -> int:
    """The posts of the trends as they are now, then the timelines of their authors."""
    from tweetcrawler import crawl
    from tweetcrawler.look import ahead
    from tweetcrawler.walk import Reach
    from tweetcrawler.work import trends

    chosen = trends.Wanted(values.max_trends, values.lang)
    report = opened.run(trends.work(wanted, chosen, Reach(cap=values.max_per_trend)))
    code = opened.told(report)
    if not values.timelines or code not in (0, 1):
        return code
    # Only now is it known who wrote most in the trends.
    with opened.database.session() as session:
        authors = session.trending_authors(report.run, values.timelines)
    opened.agree(ahead.of_handles(lambda: authors))
    report = crawl.crawl(opened.run, iter(authors), handle_count=len(authors))
    return opened.told(report) or code


COMMAND = Command(
    name="trending",
    summary="collect the posts of what is trending",
    group=COLLECT,
    flags=("-trending", "--trending"),
    options=(
        PLACES,
        *TRENDS,
        option(
            "--lang",
            metavar="CODE",
            type=language,
            help="only posts in this language, as X calls it: en, hi, de",
        ),
        option(
            "--timelines",
            metavar="NUMBER",
            type=whole(0, 1_000_000),
            help="also crawl the timelines of the N most active authors",
        ),
        option(
            "--every",
            metavar="TIME",
            type=duration,
            field="every_s",
            help="repeat at this interval, as 15m or 2h, until stopped",
            default="once",
        ),
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler trending --max-per-trend 50", "the first 20 trends of the world"),
        (
            "tweetcrawler trending --woeid india,london --max-trends 5 --lang en",
            "five trends of each place, in English",
        ),
        ("tweetcrawler trending --every 2h --budget-per-day 5", "all day, for $5"),
    ),
    price="each post about $0.005, pay-per-use: at most places x trends x posts of a trend.",
)
