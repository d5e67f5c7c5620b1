"""Forecast of posts and requests of a target, and of the time that rate limits allow."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tweetcrawler.books import Known
from tweetcrawler.coverage import DEPTH_LIMIT
from tweetcrawler.ids import time_ms_of

# How many of the posts that X counts for an account it then gives: some were deleted, some
# are not shown.
GIVEN_LEAST = 0.9
# X gives pages with fewer posts than were asked for, although more follow: about 3 pages
# out of 100.
SHORT_PAGES = 0.03
PAGE = 100
# Typical time of one request including saving, in seconds.
REQUEST_S = 0.4


@dataclass(frozen=True)
class Span:
    """A number that is not known yet: at least, likely (None when nothing tells) and at most."""

    low: float = 0.0
    likely: float | None = 0.0
    high: float = 0.0

    def __add__(self, other: Span) -> Span:
        likely = None if self.likely is None or other.likely is None else self.likely + other.likely
        return Span(self.low + other.low, likely, self.high + other.high)

    def times(self, factor: float) -> Span:
        if factor == 0:
            return Span()
        return Span(
            self.low * factor,
            None if self.likely is None else self.likely * factor,
            self.high * factor,
        )


NOTHING = Span()


@dataclass(frozen=True)
class Need:
    """Needs of the next visit of a target: users to look up, pages to ask for, posts to buy."""

    users: Span = NOTHING
    posts: Span = NOTHING
    requests: Span = NOTHING

    def __add__(self, other: Need) -> Need:
        return Need(
            self.users + other.users, self.posts + other.posts, self.requests + other.requests
        )


def of_timeline(
    known: Known | None, now: float, *, typical: float | None, resting: Iterable[str]
) -> Need:
    """Needs of a user's timeline; `typical` is the posts of an unknown one, or None.

    Who is in one of the states `resting` is left alone until asked for again.
    """
    if known is None or known.key is None:
        if known is not None and known.state in resting and (known.due_in_s or 0) > 0:
            return Need()
        return Need(Span(0, 1, 1), *_pages(Span(0, _at_most(typical), DEPTH_LIMIT)))
    if known.state in resting and (known.due_in_s or 0) > 0:
        return Need()
    need = Need()
    rest = _rest(known, _total(known, typical))
    for hole in known.holes:
        if hole.until_id is None and known.covered:
            need += Need(NOTHING, *_pages(_fresh(known, now)))
        else:
            need += Need(NOTHING, *_pages(rest))
            rest = NOTHING  # nobody knows in which of several holes it is
    return need


def of_search(known: Known | None, now: float, *, counted: int | None, page: int = PAGE) -> Need:
    """Needs of a search; `counted` is X's number of its posts, if X was asked."""
    if counted is not None and not (known and known.covered):
        return Need(
            NOTHING, *_pages(Span(counted * GIVEN_LEAST, counted, counted * 1.02 + 5), page)
        )
    if known is None or not known.covered:
        return Need(NOTHING, Span(0, None, math.inf), Span(1, None, math.inf))
    need = Need()
    for hole in known.holes:
        if hole.until_id is None:
            need += Need(NOTHING, *_pages(_fresh(known, now), page))
    return need


def _total(known: Known, typical: float | None) -> Span:
    """Number of posts that X gives of the user in total."""
    if known.account_posts is None:
        return Span(0, _at_most(typical), DEPTH_LIMIT)
    count = min(known.account_posts, DEPTH_LIMIT)
    return Span(count * GIVEN_LEAST, count, count)


def _at_most(typical: float | None) -> float | None:
    return None if typical is None else min(typical, DEPTH_LIMIT)


def _rest(known: Known, total: Span) -> Span:
    """Posts left below the newest known one, or in the whole timeline."""
    have = known.posts
    likely = None if total.likely is None else max(0.0, total.likely - have)
    return Span(max(0.0, total.low - have), likely, max(0.0, total.high - have))


def _fresh(known: Known, now: float) -> Span:
    """Posts written since the top of the coverage."""
    top_id = known.top_id
    rate = known.posts_per_s(now)
    if top_id is None or rate is None:
        return Span(0, 0, 10)
    likely = rate * max(0.0, now - time_ms_of(top_id) / 1000)
    # Nobody posts evenly: the bounds allow four times fewer, and four times more.
    return Span(max(0.0, likely / 4 - 3), likely, likely * 4 + 10)


def _pages(posts: Span, page: int = PAGE) -> tuple[Span, Span]:
    """The posts, and the requests that bring them: one at least, since an end must be seen."""

    def requests(count: float, short: float) -> float:
        return (
            max(1.0, math.ceil(count / page) + short * (count // page))
            if math.isfinite(count)
            else count
        )

    return posts, Span(
        requests(posts.low, 0.0),
        None if posts.likely is None else requests(posts.likely, SHORT_PAGES),
        requests(posts.high, 4 * SHORT_PAGES),
    )


@dataclass(frozen=True)
class BucketNow:
    """A bucket as a plan sees it: `left` requests now, `limit` more in `turns_in_s` and in
    every `window_s` after.
    """

    left: int
    limit: int
    turns_in_s: float
    window_s: float


def time_s(requests: float, buckets: Sequence[BucketNow], *, processes: int) -> float:
    """How long `requests` take: by the windows of one endpoint, or by the speed of
    the processes.

    Infinite when no bucket is ever open.
    """
    at_work_s = requests * REQUEST_S / max(1, processes)
    left = requests - sum(bucket.left for bucket in buckets)
    if left <= 0:
        return at_work_s
    if not any(bucket.limit for bucket in buckets) or not math.isfinite(requests):
        return math.inf
    turns = [
        (max(0.0, bucket.turns_in_s), number)
        for number, bucket in enumerate(buckets)
        if bucket.limit
    ]
    heapq.heapify(turns)
    period = max(bucket.window_s for bucket in buckets)
    in_a_period = sum(bucket.limit * period / bucket.window_s for bucket in buckets if bucket.limit)
    # Whole periods are skipped by division: a year of windows need not be gone through.
    skipped = max(0, math.floor(left / in_a_period) - 2)
    left -= skipped * in_a_period
    now_s = 0.0
    while left > 0:
        now_s, number = heapq.heappop(turns)
        left -= buckets[number].limit
        heapq.heappush(turns, (now_s + buckets[number].window_s, number))
    last = min(buckets[number].limit, max(1.0, left + buckets[number].limit))
    return max(at_work_s, skipped * period + now_s + last * REQUEST_S / max(1, processes))
