"""Command `watch`: keeps the handles fresh, each at its own pace."""

from __future__ import annotations

import itertools
import logging
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.rooms import rooms
from tweetcrawler.settings.commands import COLLECT, Command
from tweetcrawler.settings.groups import METRICS_PORT
from tweetcrawler.settings.options import EVERYWHERE, option
from tweetcrawler.settings.types import ages, duration, number, on_off, parts

if TYPE_CHECKING:
    from tweetcrawler.outcome import Report
    from tweetcrawler.setup import Opened, Setup

log = logging.getLogger("tweetcrawler")

# While nothing is due the list is read again this often: handles may have been added to it.
_LOOKS_S = 60.0
_DAY_S = 86_400.0
_AT_ONCE = 5_000
_PATIENCE_S = 3_650 * _DAY_S


@dataclass(frozen=True)
class Values:
    """The shortest and longest time between two visits of a handle."""

    once: bool = False
    watch_min_s: float = 900.0
    watch_max_s: float = 7 * _DAY_S
    metrics_address: tuple[str, int] | None = None
    metrics: bool = False
    metrics_at: tuple[float, ...] = (3600.0, 21_600.0, _DAY_S, 3 * _DAY_S, 7 * _DAY_S, 30 * _DAY_S)
    metrics_for: tuple[str, ...] = ()
    metrics_budget: float | None = None
    metrics_stop: bool = True

    def __post_init__(self) -> None:
        if self.watch_min_s > self.watch_max_s:
            raise ConfigurationError("--watch-min is longer than --watch-max; correct one of them.")


def run(setup: Setup, values: Values) -> int:
    """Visits the handles that are due, once or until it is stopped."""
    if values.metrics:
        name = next(room.growth for room in rooms() if room.growth)
        return int(pkgutil.resolve_name(name)(setup, values))
    from tweetcrawler.commands import crawl
    from tweetcrawler.look.sections import duration as duration_of

    with (
        setup.asking_x(
            why="watch keeps the next visit of each handle in a database",
            before=lambda: crawl.refuse_empty_list(setup.settings),
            forecast=crawl.forecast(setup.settings),
        ) as opened,
        opened.measured(values.metrics_address),
    ):
        while True:
            due, next_s = _due(opened)
            report = _visit(opened, values, due) if due else None
            code = report.exit_code if report else 0
            if not due and values.once:
                shown = "" if next_s is None else f"; the next visit is in {next_s:.0f} s"
                log.info("nothing is due%s", shown)
            if values.once or (report and _is_final(report)):
                return code
            pause_s = _pause_s(report, next_s)
            if report and pause_s > _LOOKS_S:
                log.info("%s; watch goes on in %s", report.ended, duration_of(pause_s))
            if (stopped := _pause(opened.stop, pause_s)) is not None:
                return stopped


def _visit(opened: Opened, values: Values, due: list[str]) -> Report:
    """Crawls these handles, and notes when each is due again."""
    from tweetcrawler import crawl
    from tweetcrawler.commands.crawl import left

    opened.plan_left(partial(left, opened.settings, tuple(due), len(due)))
    report = crawl.crawl(opened.run, iter(due), handle_count=len(due))
    with opened.database.session() as session:
        session.schedule(report.run, least_s=values.watch_min_s, longest_s=values.watch_max_s)
    if opened.told(report) in (0, 1):
        # From the first answer on, a network that fails is waited for, as long as it takes.
        opened.settings = replace(opened.settings, give_up_after_s=_PATIENCE_S)
    return report


def _is_final(report: Report) -> bool:
    """Whether another visit makes no sense."""
    from tweetcrawler.budget import RUN

    # Budgets of a day and X's caps come back at midnight; that of the command does not, and a
    # rest of it that is too small for one request stays too small.
    return report.budget == RUN or report.exit_code not in (0, 1, 5)


def _pause_s(report: Report | None, next_s: float | None) -> float:
    """Time until the list is looked at again, in seconds; `report` is of the visit, if any."""
    if report is None:
        return _LOOKS_S if next_s is None else min(_LOOKS_S, next_s + 0.1)
    if report.exit_code == 5:
        return _until_next_budget_s(report.budget)
    return _LOOKS_S if report.exit_code else 0.0


def _due(opened: Opened) -> tuple[list[str], float | None]:
    """The handles of the list that are due, and the seconds until the next one is."""
    from tweetcrawler.settings.handles import read_handles
    from tweetcrawler.setup import BadLines

    due: list[str] = []
    waits: list[float] = []
    file = opened.settings.handles_file
    handles = read_handles(file, on_bad=BadLines(file))
    with opened.database.reader() as reader:
        while block := list(itertools.islice(handles, _AT_ONCE)):
            now, next_s = reader.due(block)
            due += now
            waits += [] if next_s is None else [next_s]
    return due, min(waits, default=None)


def _until_next_budget_s(scope: str) -> float:
    """Until the UTC month turns for a budget of the month, else the UTC day."""
    from tweetcrawler.books import until_day_of_month
    from tweetcrawler.budget import MONTH

    now = time.time()
    left_s = until_day_of_month(now, 1) if scope == MONTH else _DAY_S - now % _DAY_S
    # Five seconds more, since the clock of the database may be a little behind.
    return left_s + 5.0


def _pause(stop: Callable[[], int | None], seconds: float) -> int | None:
    """Waits; gives the exit code at once when the operator wants to end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (stopped := stop()) is not None:
            return stopped
        time.sleep(min(0.2, seconds))
    return stop()


COMMAND = Command(
    name="watch",
    summary="keep the handles fresh",
    group=COLLECT,
    about="Each handle has its own next visit, sooner for those who post often. A visit that "
    "finds nothing new costs a request and no money.",
    options=(
        option("--once", help="do what is due, and end"),
        *(
            option(
                f"--watch-{end}",
                metavar="TIME",
                type=duration,
                field=f"watch_{end}_s",
                places=EVERYWHERE,
                help=f"{which} time between two visits of a handle, as 30m or 7d",
            )
            for end, which in (("min", "shortest"), ("max", "longest"))
        ),
        METRICS_PORT,
        option(
            "--metrics",
            help="look at stored posts again at the ages of --metrics-at, for their counts",
            more="The counts are in the view tweet_growth",
        ),
        option(
            "--metrics-at",
            metavar="AGES",
            type=ages,
            places=EVERYWHERE,
            help="with --metrics: ages of a post at which it is looked at",
            default="1h 6h 1d 3d 7d 30d",
        ),
        option(
            "--metrics-for",
            metavar="FILTERS",
            type=parts,
            places=EVERYWHERE,
            help="with --metrics: only posts for which all filters hold, with ; between",
            more="The filters of `export --where`, such as handle=ada; min_likes=100, and query= "
            "for the posts of a search",
            default="all posts",
        ),
        option(
            "--metrics-budget",
            metavar="USD",
            type=number(0, 10_000_000),
            places=EVERYWHERE,
            help="with --metrics: most that looks may cost per UTC month, in USD",
            default="no limit",
        ),
        option(
            "--metrics-stop",
            metavar="on|off",
            type=on_off,
            places=EVERYWHERE,
            help="with --metrics: on or off: leave out a step after two looks that differ by less "
            "than 1 percent",
        ),
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler watch --budget-per-day 5", "until it is stopped, for at most $5 a day"),
        ("tweetcrawler watch --once", "the due handles, for a timer of the system"),
        ("tweetcrawler watch --metrics --metrics-budget 20", "counts of posts, as they grow"),
    ),
    price="each new post about $0.005, pay-per-use.",
)
