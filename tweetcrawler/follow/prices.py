"""The price of lists, from X's own counts, before any is bought."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tweetcrawler.endpoints import ENTRIES_A_PAGE, FOLLOWERS, FOLLOWING, HANDLES_A_LOOKUP, USERS_BY
from tweetcrawler.look.ahead import Forecast, Stored
from tweetcrawler.look.forecast import Span
from tweetcrawler.look.plan import Plan
from tweetcrawler.prices import Tariff


def of_people(count: int) -> Forecast:
    """The forecast of a look-up of users by handle, if none was seen in the last day."""

    def make(stored: Stored, _tariff: Tariff) -> Plan:
        plan = Plan("", stored.now(), targets=count, users=Span(0, count, count))
        plan.add(USERS_BY, _exactly(math.ceil(count / HANDLES_A_LOOKUP)))
        return plan

    return Forecast(make)


def of_lists(counts: Iterable[tuple[bool, int | None]]) -> Forecast:
    """The forecast of whole lists: of each whether it is that of the users followed, and X's
    count, None for any number.
    """
    listed = list(counts)

    def make(stored: Stored, _tariff: Tariff) -> Plan:
        known = sum(count is not None for _, count in listed)
        plan = Plan("", stored.now(), targets=len(listed), known=known)
        for is_following, count in listed:
            entries, pages = _list(count)
            plan.users += entries
            plan.add(FOLLOWING if is_following else FOLLOWERS, pages)
        return plan

    return Forecast(make)


def _list(count: int | None) -> tuple[Span, Span]:
    """Entries and pages of a list; X counts some accounts that it does not list."""
    if count is None:
        return Span(0, None, math.inf), Span(1, None, math.inf)
    return Span(0, count, count), _exactly(max(1, math.ceil(count / ENTRIES_A_PAGE)))


def _exactly(number: int) -> Span:
    return Span(number, number, number)
