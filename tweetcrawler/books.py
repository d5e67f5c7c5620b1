"""Purchases, known targets and rate-limit windows as values to calculate with.

All of it comes from the stored runs, pages, targets and buckets; nothing is written down
twice. Money is in millionths of a USD, times are seconds since 1970 on the database's
clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from tweetcrawler import coverage
from tweetcrawler.coverage import Hole, Range
from tweetcrawler.ids import FIRST_DATED_ID, time_ms_of
from tweetcrawler.prices import Tariff
from tweetcrawler.targets import DONE, TIMELINE

K = TypeVar("K")


@dataclass(frozen=True)
class Purchase:
    """Purchases of one run on one UTC day, with one credential, through one endpoint.

    `again` of the posts were stored before. `free` of those had been bought on the same day
    through the same endpoint, so X charges them once: they are the posts of a page that
    overlaps with an earlier page of its target and day. Which posts of a search another
    search had brought cannot be told, so they count as charged.
    """

    run: int
    day: date
    credential: str
    endpoint: str
    pages: int
    posts: int
    users: int
    new: int
    again: int
    free: int

    def cost(self, tariff: Tariff) -> int:
        """The price that X charges for it."""
        return tariff.cost(
            self.endpoint, requests=self.pages, posts=self.charged(tariff), users=self.users
        )

    def charged(self, tariff: Tariff) -> int:
        """Number of posts that X bills."""
        return self.posts - self.free if tariff.once_a_day else self.posts


@dataclass
class Sum:
    """Purchases added up."""

    pages: int = 0
    posts: int = 0
    charged: int = 0
    users: int = 0
    new: int = 0
    again: int = 0
    micro_usd: int = 0

    def add(self, bought: Purchase, tariff: Tariff) -> None:
        self.pages += bought.pages
        self.posts += bought.posts
        self.charged += bought.charged(tariff)
        self.users += bought.users
        self.new += bought.new
        self.again += bought.again
        self.micro_usd += bought.cost(tariff)


def added_up(purchases: Iterable[Purchase], tariff: Tariff) -> Sum:
    """The sum of all purchases."""
    return summed(purchases, tariff, lambda _: None).get(None, Sum())


def summed(
    purchases: Iterable[Purchase], tariff: Tariff, by: Callable[[Purchase], K]
) -> dict[K, Sum]:
    """The sums of the purchases by what `by` gives of each."""
    sums: dict[K, Sum] = defaultdict(Sum)
    for bought in purchases:
        sums[by(bought)].add(bought, tariff)
    return dict(sums)


def month_began(now: float) -> float:
    """The beginning of the UTC month."""
    moment_ = datetime.fromtimestamp(now, UTC)
    return moment_.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


@dataclass(frozen=True)
class Window:
    """A bucket as the books know it now, with the labels of the credentials that it belongs to.

    `limit` is None until X's first answer. `shut_why` says that X refused, for `shut_for_s`
    more seconds: the window itself ("forbidden"), the keys ("refused") or the account
    ("cap", "credits").
    """

    label: str
    kind: str
    endpoint: str
    limit: int | None
    remaining: int
    window_s: float
    resets_in_s: float
    day_limit: int | None = None
    day_remaining: int = 0
    day_resets_in_s: float = 0.0
    blocked_for_s: float = 0.0
    shut_for_s: float = 0.0
    shut_why: str = ""

    @property
    def left(self) -> int | None:
        """The requests that may be sent now; None while nobody knows."""
        if self.limit is None:
            return None
        left = self.limit if self.resets_in_s <= 0 else self.remaining
        if self.day_limit is not None:
            left = min(left, self.day_limit if self.day_resets_in_s <= 0 else self.day_remaining)
        return left


@dataclass(frozen=True)
class Known:
    """A target with what is known of it.

    `latest` are its newest pages with posts as (posts, newest id, oldest id).
    """

    id: int
    kind: str
    key: str | None
    handle: str
    username: str | None
    state: str
    reason: str
    state_at: float
    covered: Sequence[Range] = ()
    unreachable: Sequence[Range] = ()
    unreachable_reason: str = ""
    account_posts: int | None = None
    posts: int = 0
    crawled_at: float | None = None
    due_in_s: float | None = None
    latest: Sequence[tuple[int, int, int]] = ()

    @property
    def name(self) -> str:
        """The name that an operator knows."""
        return f"@{self.handle}" if self.kind == TIMELINE else (self.username or self.handle)

    @property
    def holes(self) -> list[Hole]:
        """Ranges that are neither covered nor out of reach, newest first; the first ends now."""
        return coverage.holes(self.covered, self.unreachable)

    @property
    def lost(self) -> list[Range]:
        """Ranges that X does not give, without those that came from elsewhere."""
        return coverage.difference(self.unreachable, self.covered)

    @property
    def top_id(self) -> int | None:
        """The id up to which everything that X gives is stored; None when there is nothing yet."""
        return self.covered[-1][1] if self.covered else None

    @property
    def complete_until(self) -> float | None:
        """The time until which everything that X gives is stored; None when nothing tells.

        After a visit that found the end, nothing was missing up to the minute before it,
        however old the newest post is.
        """
        if self.top_id is None:
            return None
        newest = time_ms_of(self.top_id) / 1000 if self.top_id >= FIRST_DATED_ID else None
        if self.crawled_at is None or self.state not in DONE:
            return newest
        return max(newest or 0.0, self.crawled_at - coverage.SETTLING_MS / 1000)

    def posts_per_s(self, now: float) -> float | None:
        """Posts per second by its newest pages; None when they tell nothing."""
        posts, oldest = 0, 0
        for count, _, lowest in self.latest:
            posts, oldest = posts + count, lowest
            if posts >= TELLING:
                break
        # One post has no distance to another, and an old id no time.
        if posts < 2 or oldest < FIRST_DATED_ID:
            return None
        seen_until = now
        if self.covered:
            seen_until = min(now, time_ms_of(self.covered[-1][1]) / 1000)
        span_s = seen_until - time_ms_of(oldest) / 1000
        return posts / max(span_s, BURST_S)


# As many of the newest posts as tell how often somebody posts now.
TELLING = 20
# A few posts in a row tell nothing of the hours after them.
BURST_S = 6 * 3600.0


@dataclass(frozen=True)
class Run:
    """One run as it is recorded; `ended_at` None: under way, or killed."""

    id: int
    version: str
    host: str
    started_at: float
    ended_at: float | None
    exit_code: int | None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return str(self.arguments.get("command", "crawl"))


@dataclass(frozen=True)
class Stale:
    """Targets that were not visited for too long: their number, and the one that waits longest."""

    count: int = 0
    name: str = ""
    since: float = 0.0

    def __add__(self, other: Stale) -> Stale:
        found = [one for one in (self, other) if one.count]
        first = min(found, key=lambda one: one.since, default=self)
        return Stale(self.count + other.count, first.name, first.since)


@dataclass(frozen=True)
class Usage:
    """X's own count of a project's posts, as one of its apps was told at `asked_at`.

    `since_day` is the day of the month on which the cap's cycle turns; `by_day` the posts
    of some UTC days.
    """

    credential: str
    asked_at: float
    cap: int | None
    used: int | None
    cycle_day: int | None
    by_day: Mapping[date, int]


def usage_of(credential: str, asked_at: float, answer: Mapping[str, Any]) -> Usage | None:
    """X's answer about usage read; its numbers come as text or as numbers. None when it
    holds nothing.
    """
    data = answer.get("data")
    if not isinstance(data, Mapping):
        return None
    daily = data.get("daily_project_usage")
    rows = daily.get("usage") if isinstance(daily, Mapping) else None
    by_day: dict[date, int] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping) and (count := _number(row.get("usage"))) is not None:
            try:
                by_day[date.fromisoformat(str(row.get("date"))[:10])] = count
            except ValueError:
                continue
    return Usage(
        credential,
        asked_at,
        _number(data.get("project_cap")),
        _number(data.get("project_usage")),
        cycle_day
        if (cycle_day := _number(data.get("cap_reset_day"))) and cycle_day <= 31
        else None,
        by_day,
    )


def until_day_of_month(now: float, day: int) -> float:
    """Seconds until the next UTC day of this number begins; in a month that lacks it, its
    last day.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    # Two months on every day of a month has come, be it as the last one of a shorter month.
    for ahead in range(1, 63):
        coming = today + timedelta(days=ahead)
        last = (coming + timedelta(days=1)).month != coming.month
        if coming.day == day or (last and coming.day < day):
            return datetime(coming.year, coming.month, coming.day, tzinfo=UTC).timestamp() - now
    raise ValueError(f"no month has a day {day}")


def _number(value: object) -> int | None:
    text = str(value)
    return (
        int(text) if not isinstance(value, bool) and text.isdecimal() and len(text) < 16 else None
    )
