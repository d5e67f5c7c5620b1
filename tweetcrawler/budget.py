"""The arithmetic of budgets: the most that a request may return, so that no limit is exceeded.

Before a request is sent, what it may cost at most is set aside; its answer settles it.
Money is in millionths of a USD. Nothing here talks to a store: callers keep those apart that
set aside at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tweetcrawler.identity import is_gone

RUN, DAY, MONTH = "run", "day", "month"
# What other requests hold is free again as soon as they are answered: look again this often.
LOOK_AGAIN_S = 0.2
# No request is under way for longer: X's answer has a deadline of two minutes.
LOST_AFTER_S = 900.0


@dataclass(frozen=True)
class Limits:
    """Limits of one run, and of all runs together per UTC day and per month; None: no limit."""

    run: int | None = None
    run_posts: int | None = None
    day: int | None = None
    month: int | None = None

    @property
    def scopes(self) -> list[str]:
        """Those that limit anything."""
        of_run = self.run is not None or self.run_posts is not None
        return [RUN] * of_run + [DAY] * (self.day is not None) + [MONTH] * (self.month is not None)

    def of(self, scope: str) -> tuple[int | None, int | None]:
        """The limits of a scope: money and posts."""
        money = {RUN: self.run, DAY: self.day, MONTH: self.month}[scope]
        return money, self.run_posts if scope == RUN else None


@dataclass(frozen=True)
class Want:
    """A request as its cost sees it: up to `most` units, of which fewer than `fewest` make
    no sense.

    A unit is what X sells, a post or a user, at `price`; the request itself costs `fee`.
    """

    endpoint: str
    most: int
    fewest: int
    price: int
    fee: int = 0
    are_posts: bool = True

    def cost(self, units: int) -> int:
        """The cost of a number of units."""
        return self.fee + units * self.price

    def posts(self, units: int) -> int:
        """The number of posts in a number of units."""
        return units if self.are_posts else 0


@dataclass(frozen=True)
class Room:
    """One limit and what is gone of it: spent for good, and held by requests under way."""

    scope: str
    money: int | None
    posts: int | None
    spent: int = 0
    spent_posts: int = 0
    held: int = 0
    held_posts: int = 0

    def units(self, want: Want, *, when_all_is_back: bool = False) -> int | None:
        """Number of units that fit in; None when not even the request does.

        `when_all_is_back`: if every request under way brought nothing.
        """
        units = want.most
        if self.money is not None:
            left = self.money - self.spent - (0 if when_all_is_back else self.held) - want.fee
            if left < 0:
                return None
            if want.price > 0:
                units = min(units, left // want.price)
        if self.posts is not None and want.are_posts:
            units = min(
                units,
                max(
                    0, self.posts - self.spent_posts - (0 if when_all_is_back else self.held_posts)
                ),
            )
        return units


@dataclass(frozen=True)
class Grant:
    """The units that a request may return; with None, `full` names the limit that is used up.

    Without either it has to wait for requests under way.
    """

    units: int | None
    full: str | None = None


@dataclass(frozen=True)
class Reserved:
    """The most that a request under way may cost; of a process that was killed, the most that
    it may have cost.

    `reserved_at` is in seconds since 1970 on the database's clock.
    """

    run: int
    owner: str
    endpoint: str
    reserved_at: float
    posts: int
    micro_usd: int

    def is_lost(self, now: float) -> bool:
        """True if the answer will never be known: its process is gone, or silent for long."""
        # A process of another machine cannot be looked at: only the time tells.
        is_old = self.reserved_at < now - LOST_AFTER_S
        return is_old or not self.owner or is_gone(self.owner)

    def is_of(self, scope: str, period: str) -> bool:
        """Whether it was reserved in this period: a run's number, a UTC day or month."""
        if scope == RUN:
            return str(self.run) == period
        return datetime.fromtimestamp(self.reserved_at, UTC).isoformat().startswith(period)


def room_of(
    scope: str,
    period: str,
    limit: tuple[int | None, int | None],
    spent: tuple[int, int],
    *,
    reserved: Iterable[Reserved],
    now: float,
) -> Room:
    """The limit (money, posts) of a period, less what was spent (posts, money) and reserved.

    A lost request counts as spent, in the period in which it was sent. One under way is held
    in the present period whenever it was sent: its page may be saved, and charged, after
    midnight.
    """
    posts, money = spent
    held = held_posts = 0
    for one in reserved:
        if one.is_lost(now):
            if one.is_of(scope, period):
                posts, money = posts + one.posts, money + one.micro_usd
        elif scope != RUN or one.is_of(scope, period):
            held, held_posts = held + one.micro_usd, held_posts + one.posts
    return Room(scope, *limit, spent=money, spent_posts=posts, held=held, held_posts=held_posts)


def grant(want: Want, rooms: Sequence[Room]) -> Grant:
    """As many units as fit into every room."""
    found = _fit(want, [room.units(want) for room in rooms])
    if found is not None:
        return Grant(found)
    # Full for good, unless it would fit if all requests under way brought nothing: then it
    # waits. The run's own limit is named first, since no midnight makes it larger.
    for room in sorted(rooms, key=lambda each: each.scope != RUN):
        if _fit(want, [room.units(want, when_all_is_back=True)]) is None:
            return Grant(None, room.scope)
    return Grant(None)


def _fit(want: Want, units: Sequence[int | None]) -> int | None:
    least = want.most
    for one in units:
        if one is None:
            return None
        least = min(least, one)
    return least if least >= want.fewest else None
