"""What a run may cost, in two lines, before anything is bought."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tweetcrawler.books import Known
from tweetcrawler.look import plan
from tweetcrawler.look.forecast import Span
from tweetcrawler.look.plan import Plan
from tweetcrawler.prices import MICRO, Tariff, usd
from tweetcrawler.words import plural


class Stored(Protocol):
    """The parts of a reader that a forecast needs."""

    def now(self) -> float: ...
    def known(self, handles: Sequence[str]) -> dict[str, Known]: ...
    def known_searches(self, queries: Sequence[str]) -> dict[str, Known]: ...
    def sampled(self, limit: int) -> list[Known]: ...
    def counted_down_to(self, query: str, since_id: int, until_id: int | None) -> float | None: ...


class NothingStored:
    """A store of which nothing is known: a folder of CSV files is not looked through."""

    def now(self) -> float:
        return time.time()

    def known(self, handles: Sequence[str]) -> dict[str, Known]:
        del handles  # none of them is known
        return {}

    def known_searches(self, queries: Sequence[str]) -> dict[str, Known]:
        del queries  # none of them is known
        return {}

    def sampled(self, limit: int) -> list[Known]:
        del limit  # there are none
        return []

    def counted_down_to(self, query: str, since_id: int, until_id: int | None) -> float | None:
        del query, since_id, until_id  # none was begun
        return None


@dataclass(frozen=True)
class Forecast:
    """The making of a plan out of what is stored. `is_told`: its two lines are shown anywhere,
    not only where somebody can answer.
    """

    make: Callable[[Any, Tariff], Plan]
    is_told: bool = False


def made(forecast: Forecast, stored: Stored, tariff: Tariff) -> Plan:
    """The plan with its price."""
    return plan.priced(forecast.make(stored, tariff), tariff)


def of_handles(handles: Callable[[], Iterable[str]]) -> Forecast:
    """The forecast of a crawl; `handles` reads the list from its beginning."""
    return Forecast(lambda stored, tariff: plan.of_handles(stored, iter(handles()), tariff))


def of_ids(count: Callable[[], int]) -> Forecast:
    """The forecast of a look-up of posts by id, if none of them is stored."""

    def make(stored: Stored, _tariff: Tariff) -> Plan:
        number = count()
        return Plan("", stored.now(), targets=number, posts=Span(0, None, number))

    return Forecast(make)


def most(made_plan: Plan, budget: float | None) -> float:
    """The most that it may cost, in USD; infinite where nothing bounds it."""
    high = made_plan.cost.high / MICRO
    return high if budget is None else min(high, budget)


def lines(made_plan: Plan, tariff: Tariff, budget: float | None) -> tuple[str, str]:
    """The plan in two lines."""
    requests = sum(made_plan.requests.values(), Span())
    # Lists of followers hold no posts.
    sold, noun = (made_plan.posts, "post") if made_plan.posts.high else (made_plan.users, "user")
    likely = "" if sold.likely is None else f"about {plural(math.ceil(sold.likely), noun)}, "
    first = (
        f"plan: {plural(made_plan.targets, 'target')}, {made_plan.known:,} of them stored already; "
        f"{likely}at most {_number(sold.high)} {noun}s in {_number(requests.high)} requests"
    )
    cost = made_plan.cost
    told = "" if cost.likely is None else f"about {usd(round(cost.likely))}, "
    high = "no bound is known" if math.isinf(cost.high) else f"at most {usd(round(cost.high))}"
    ends = "" if budget is None else f"; its budget is {usd(round(budget * MICRO))}"
    return first, f"cost: {told}{high} ({tariff.title}){ends}"


def _number(value: float) -> str:
    return "any number of" if math.isinf(value) else f"{math.ceil(value - 1e-9):,}"
