"""Command `search`: collects the posts of search queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tweetcrawler import endpoints
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.queries import end_id, lowest_id
from tweetcrawler.settings.commands import COLLECT, Command, Words
from tweetcrawler.settings.groups import ARCHIVE, QUERIES
from tweetcrawler.settings.options import option
from tweetcrawler.settings.types import moment

if TYPE_CHECKING:
    from rich.console import Console

    from tweetcrawler.coverage import Bounds
    from tweetcrawler.look.ahead import Forecast
    from tweetcrawler.outcome import Report
    from tweetcrawler.setup import Setup


@dataclass(frozen=True)
class Values:
    """Queries, bounds of ids, and whether posts are counted or bought."""

    queries: tuple[str, ...] = ()
    queries_file: Path | None = None
    archive: bool = False
    since: int | None = None
    until: int | None = None
    count: bool = False

    def __post_init__(self) -> None:
        # Checked here and not by `Words`, since a file of queries will do as well.
        if not self.queries and self.queries_file is None:
            raise ConfigurationError(
                "`tweetcrawler search` needs a query: `tweetcrawler search QUERY`, or "
                "--queries FILE."
            )
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ConfigurationError("--since is not before --until; correct one of them.")

    @property
    def bounds(self) -> Bounds:
        """The bounds as ids."""
        from tweetcrawler.coverage import Bounds

        return Bounds(self.since or 1, self.until)


def run(setup: Setup, values: Values) -> int:
    """Collects the posts of the queries, or counts them."""
    from tweetcrawler.settings.queries import read_queries
    from tweetcrawler.walk import Reach
    from tweetcrawler.work import counts, searches

    # Before the keys are asked for: a fault in the file is told at once.
    queries = read_queries(values.queries, values.queries_file)
    reach = Reach(values.archive, values.bounds)
    with setup.asking_x(forecast=_forecast(queries, values)) as opened:
        if not values.count:
            return opened.told(opened.run(searches.work(queries, reach)))
        report = opened.run(counts.work(queries, reach))
        return opened.told(report, _counts(setup, report, archive=values.archive))


def _forecast(queries: Sequence[str], values: Values) -> Forecast:
    from tweetcrawler.look import ahead, plan

    bounds, archive = values.bounds, values.archive
    if not values.count:
        return ahead.Forecast(
            lambda stored, _: plan.of_queries(stored, queries, {}, archive=archive)
        )
    # All of the archive is over two hundred requests, for which X charges.
    return ahead.Forecast(
        lambda stored, _: plan.of_counts(stored, queries, bounds, archive=archive),
        is_told=archive,
    )


def _counts(setup: Setup, report: Report, *, archive: bool) -> Callable[[Console], object]:
    """The table of the counts."""
    from tweetcrawler.look import display

    # Full-archive search has larger pages, so the same posts take fewer requests.
    page_size = endpoints.SEARCH_ALL_MAX if archive else endpoints.SEARCH_RECENT_MAX
    tariff = setup.tariff()
    return lambda console: display.print_counts(report, console, tariff=tariff, page_size=page_size)


COMMAND = Command(
    name="search",
    summary="collect the posts of search queries",
    group=COLLECT,
    about="Each word is one query: put a query of several words in quotes. Recent search goes "
    "back 7 days. Older posts are marked as unreachable until --archive reads them. No "
    "search for words or hashtags finds retweets: X leaves them out since May 2026.",
    words=Words("QUERY...", "queries"),
    options=(
        *QUERIES,
        ARCHIVE,
        option(
            "--since",
            metavar="WHEN",
            type=moment(lowest_id),
            help="only posts from this date on, or newer than this id",
            more="A date is 2024-01-31 or 2024-01-31T12:00:00Z, UTC",
        ),
        option(
            "--until",
            metavar="WHEN",
            type=moment(end_id),
            help="only posts before this date (UTC), or older than this id",
        ),
        option("--count", help="only count matching posts and show the cost"),
    ),
    values=Values,
    takes_dry_run=True,
    run=run,
    examples=(
        ("tweetcrawler search '#climate lang:en'", "posts of the last seven days"),
        ("tweetcrawler search '#climate lang:en' --count", "how many there are, and their cost"),
        (
            "tweetcrawler search --queries queries.txt --archive --since 2026-10-01",
            "many queries, from the full archive",
        ),
    ),
    price="each post about $0.005, pay-per-use; --count costs one request for each query.",
)
