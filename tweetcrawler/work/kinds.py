"""Kinds of work as values in one table, which the parent and its workers read alike.

The table is put together from the names in `rooms`, so that a room can bring a kind of its
own. `Worker` is the process that does the work; a kind gets it with each chunk of units.
"""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tweetcrawler.errors import BudgetReached, LeaseLost, MustWait, TweetcrawlerError, XUnavailable
from tweetcrawler.identity import new_owner
from tweetcrawler.news import Fatal, Later, Result, Started, Wait
from tweetcrawler.request import Requests
from tweetcrawler.rooms import rooms
from tweetcrawler.run import Job, Session
from tweetcrawler.sentiment import scorer

# The kind that walks targets; other kinds find targets for it.
CRAWL = "crawl"
# A target that another process holds is left alone for this time.
BUSY_S = 2.0
# A unit that X gave no answer for is tried again after this time.
RETRY_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Units:
    """Units of work as they are handed out, by the `name` of their kind.

    A chunk has at most `most` units, and near the end of the work a fair share of them, at
    least `fewest`. A kind that `feeds` finds units for others: it goes first, but only while
    they have few. `called` names a unit for the operator; it is the same for the rest of a
    unit that was begun. The source of `endless` units may never end.
    """

    name: str
    called: Callable[[Any], str]
    most: int = 1
    fewest: int = 1
    feeds: bool = False
    endless: bool = False


@dataclass(frozen=True, kw_only=True)
class Kind(Units):
    """One kind of work that asks X: `do(worker, units)` does a chunk in a worker process."""

    do: Callable[[Worker, list[Any]], Result]


@dataclass(frozen=True)
class Work:
    """The work of one run: units by the name of their kind, and parameters of kinds.

    `total` is the number of targets, if it is known; `processes` the number of processes
    that could have something to do.
    """

    units: Mapping[str, Iterable[Any]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    total: int | None = None
    processes: int | None = None


@cache
def table() -> Mapping[str, Kind]:
    """All kinds of work by name, in the order in which they are handed out."""
    kinds: list[Kind] = [pkgutil.resolve_name(name) for room in rooms() for name in room.kinds]
    return {kind.name: kind for kind in kinds}


Task = tuple[str, list[Any]]


class Worker:
    """One worker process of a run. `number` is also that of the credential it prefers.

    `tell` gives news to the parent, `stopping()` turns true when the run ends; `owner` is
    the name under which the process holds leases.
    """

    def __init__(
        self, number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
    ) -> None:
        self.job = job
        self.stopping = stopping
        self.tell = tell
        self.owner = new_owner(job.run)
        tell(Started(self.owner))
        self.requests = Requests(job, number=number, owner=self.owner, tell=tell)
        self.score = scorer() if job.settings.sentiment else None

    def do(self, task: Task | None) -> Result:
        """Does one task; None when no more will come."""
        if task is None:
            self._give_back()
            return Result()
        name, units = task
        return table()[name].do(self, units)

    def session(self) -> AbstractContextManager[Session]:
        """A session of the store, which waits for it no longer than the run wants."""
        return self.job.sink.session(stopping=self.stopping)

    @property
    def rest_s(self) -> float:
        """The time after which a target is asked again that X did not give."""
        return self.job.settings.recheck_days * 86_400.0

    def _give_back(self) -> None:
        try:
            # Not waiting for a database that is away: the permits come back by themselves when
            # their window turns.
            with self.job.sink.session(stopping=lambda: True) as session:
                self.requests.give_back(session)
        except TweetcrawlerError as error:
            log.debug("permits are lost until their window turns: %s", error)


class Stopping(TweetcrawlerError):
    """The run ends; work that is not done is left."""


class Chunk:
    """A chunk under way: the units found, those for later, and the rest of the units at
    hand, should they be interrupted.
    """

    def __init__(self) -> None:
        self.at_hand: list[Any] = []
        self._found: dict[str, list[Any]] = {}
        self._later: list[Later] = []

    def find(self, kind: str, units: Sequence[Any]) -> None:
        """Takes note of units for another kind of work, if there are any."""
        if units:
            self._found.setdefault(kind, []).extend(units)

    def postpone(
        self,
        units: Sequence[Any],
        wait_s: float = 0.0,
        failure: str = "",
    ) -> None:
        """Leaves units for later, if there are any."""
        if units:
            self._later.append(Later(units, wait_s, failure))

    def try_again(self, error: XUnavailable) -> None:
        """Leaves the units at hand for later, since X gave no answer for them."""
        if self.at_hand:
            # A kind that halves its request knows better how often the answer was lost.
            lost = max(error.times_lost, error.is_lost)
            self._later.append(Later(self.at_hand, RETRY_S, str(error), error.moved, lost))

    def result(
        self, left: Sequence[Any] = (), wait: Wait | None = None, fatal: Fatal | None = None
    ) -> Result:
        """The result of the task."""
        return Result(self._found, left, self._later, wait, fatal)


def one_by_one(worker: Worker, units: Sequence[Any], step: Callable[[Any, Chunk], None]) -> Result:
    """Does `step(unit, chunk)` for one unit after the other; the rest is left when one of
    them has to wait, or the run to end.
    """
    return _in_parts(worker, [[unit] for unit in units], lambda part, chunk: step(part[0], chunk))


def together(
    worker: Worker, units: Sequence[Any], step: Callable[[list[Any], Chunk], None]
) -> Result:
    """Does `step(units, chunk)` for all units at once."""
    return _in_parts(worker, [list(units)], step)


def _in_parts(
    worker: Worker, parts: Sequence[list[Any]], step: Callable[[list[Any], Chunk], None]
) -> Result:
    chunk = Chunk()
    for position, part in enumerate(parts):
        chunk.at_hand = part
        try:
            # Looked at between units and never inside one: a page that was paid for is saved
            # first.
            if worker.stopping():
                raise Stopping
            step(part, chunk)
        except LeaseLost:
            chunk.postpone(chunk.at_hand, BUSY_S)
        except XUnavailable as error:
            chunk.try_again(error)
        except TweetcrawlerError as error:
            rest = [unit for later in parts[position + 1 :] for unit in later]
            return _interrupted(chunk, [*chunk.at_hand, *rest], error)
    return chunk.result()


def _interrupted(chunk: Chunk, left: Sequence[Any], error: TweetcrawlerError) -> Result:
    if isinstance(error, Stopping):
        return chunk.result(left)
    if isinstance(error, MustWait):
        return chunk.result(left, wait=Wait(error.wait_s, error.reason))
    return chunk.result(left, fatal=fatal(error))


def fatal(error: TweetcrawlerError) -> Fatal:
    """The news of an error that ends the run."""
    # A command that repeats its runs must know which budget is met: that of a day comes back.
    budget = error.scope if isinstance(error, BudgetReached) else ""
    return Fatal(str(error), error.exit_code, budget)
