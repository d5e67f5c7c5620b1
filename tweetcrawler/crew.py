"""Number of worker processes of a run: what its windows need, as far as the machine has room.

A process sends one request at a time. So that no window is left over, a run needs as many
processes as requests are under way: the rates of its buckets, added up, times the time of a
request. Both are measured while it runs. It begins small, and adds processes while all are
busy, more work waits, and fewer than needed are there.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from tweetcrawler import machine
from tweetcrawler.news import Noted, Paced, PageRead, Started
from tweetcrawler.secret import Credential
from tweetcrawler.words import plural

LOOK_EVERY_S, SETTLES_S = 0.5, 2.0
# By X's usual limits and pace: a user token allows about one request a second on timelines and
# an app ten, and a request takes about a third of a second. A core carries some 40 a second.
PROCESSES_OF_ONE, PROCESSES_OF_A_CORE = 4, 14
# Above what the mean of a request's time needs: times differ, and what the start left over is
# made up for.
SPARE = 1.25
SLOWER = 1.002  # with each look: twice in three minutes
# Fewer answers than this say nothing of the time of a request.
ENOUGH_ANSWERS = 4
# With each look at most this number is added, or as many as there are.
AT_ONCE = 8
# With this part of what the windows allow on average, none is left over.
FAST_ENOUGH = 1.1
# Below this part of it windows are left over, and not only the ends of some.
TOO_SLOW = 0.9
# Cores are busy below this idle share. Processes that are added then must bring at least this
# part of the answers that as many before them did, or it was the last time.
IDLE, GAIN = 0.05, 0.5
# Of the free memory the share that a run may take, and what a process takes if nobody knows.
MEMORY_SHARE, MEMORY_OF_ONE = 0.5, 30 << 20
# A worker has a connection for its chunk and one for its handle; these stay free for others.
CONNECTIONS_OF_ONE, CONNECTIONS_SPARED = 2, 10

MEMORY = "the free memory"
CORES = "the cores of this machine"
CONNECTIONS = "the connections that the database allows"

log = logging.getLogger(__name__)


def first_processes(credentials: int) -> int:
    """The number of processes that a run begins with, when nothing is measured yet."""
    return max(1, min(PROCESSES_OF_ONE * credentials, 2 * machine.cores()))


def likely_processes(credentials: int) -> int:
    """The number of processes that a run will probably have: for plans."""
    return max(1, min(PROCESSES_OF_ONE * credentials, PROCESSES_OF_A_CORE * machine.cores()))


class Growing(Protocol):
    """A pool that takes more workers."""

    @property
    def size(self) -> int: ...
    def grow(self, count: int) -> None: ...
    def memory_of_one(self) -> int | None: ...


class Demand:
    """Rates of buckets and times of requests, from the news of the workers."""

    def __init__(self, credentials: Sequence[Credential]) -> None:
        # Buckets that no answer told of yet will have the rate of the others of their kind.
        self._buckets = {
            "app": len({key.app_fingerprint for key in credentials if key.has_app}),
            "user": len({key.user_fingerprint for key in credentials} - {None}),
        }
        self._rates: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        self._since: dict[int, float] = {}
        self._spent_s = 0.0
        self._answers = 0.0
        self._least_s = math.inf
        self.answers = 0

    def begins(self, worker: int, now: float) -> None:
        """A worker begins a task."""
        self._since[worker] = now

    def take(self, worker: int, news: object, now: float) -> None:
        """Measures by one piece of news."""
        match news:
            case Started():
                # The start of a process is no part of its first request.
                self._since[worker] = now
            case Paced():
                self._rates[news.endpoint, news.kind][news.bucket] = news.per_s
            case PageRead():
                self._answered(worker, 1, now)
            case Noted():
                self._answered(worker, len(news.pages), now)

    def _answered(self, worker: int, count: int, now: float) -> None:
        self.answers += count
        self._answers += count
        self._spent_s += now - self._since.get(worker, now)
        self._since[worker] = now

    def fade(self) -> None:
        """Makes all that was measured count half, so that what comes next says more."""
        # The shortest mean is X's own time. What our processes add to it while they crowd the
        # cores needs no more processes; a slower X is believed slowly.
        self._least_s = min(self.request_s or math.inf, self._least_s * SLOWER)
        if self._answers > ENOUGH_ANSWERS:
            self._answers, self._spent_s = self._answers / 2, self._spent_s / 2

    @property
    def per_s(self) -> float:
        """The requests in a second that all buckets together allow on average."""
        return sum(
            sum(rates.values()) * max(1.0, self._buckets[kind] / len(rates))
            for (_, kind), rates in self._rates.items()
        )

    @property
    def request_s(self) -> float | None:
        """The mean time from one answer of a worker to its next; None while nobody knows."""
        return self._spent_s / self._answers if self._answers >= ENOUGH_ANSWERS else None

    @property
    def is_crowded(self) -> bool:
        """Whether requests take longer than X does: by our processes, or by others'."""
        return self.request_s is not None and (
            math.ceil(self.per_s * self.request_s) > self.processes
        )

    @property
    def processes(self) -> int:
        """The number of processes that the windows need; 0 while nobody knows."""
        if self.request_s is None:
            return 0
        return math.ceil(self.per_s * min(self.request_s, self._least_s) * SPARE)


class Crew:
    """Adds workers to a pool while windows would be left over; `most` could have work.

    `connections_left` tells how many more the database takes; None: it does not matter.
    """

    def __init__(
        self,
        pool: Growing,
        credentials: Sequence[Credential],
        *,
        most: int | None,
        connections_left: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
        idle: Callable[[], float | None] | None = None,
    ) -> None:
        self.demand = Demand(credentials)
        # What keeps it from growing to what the windows need; empty: nothing does.
        self.bound = ""
        self._told: set[str] = set()
        self._pool = pool
        self._most = most or 1_000
        self._connections_left = connections_left
        self._clock = clock
        self._idle = idle or machine.Cores().idle
        self._looked_at = clock()
        self._answers = 0
        # Answers in a second, and processes, when it grew the last time.
        self._grown: tuple[float, int] | None = None

    @property
    def sentence(self) -> str:
        """What keeps it small, for the operator."""
        return (
            f"{plural(self._pool.size, 'process', 'processes')}: the windows allow more requests "
            f"than they send, and {self.bound} left no room for more"
        )

    def begins(self, worker: int) -> None:
        """A worker begins a task."""
        self.demand.begins(worker, self._clock())

    def take(self, worker: int, news: object) -> None:
        """Measures by one piece of news."""
        self.demand.take(worker, news, self._clock())

    def look(self, *, all_busy: bool) -> None:
        """Adds workers if they are needed; `all_busy`: every worker is, and more work waits."""
        now = self._clock()
        # Those that were added last shall have an answer before they are judged.
        settles_s = min(SETTLES_S, self.demand.request_s or 0.0)
        if now < self._looked_at + max(LOOK_EVERY_S, settles_s):
            return
        per_s = (self.demand.answers - self._answers) / (now - self._looked_at)
        idle = self._idle()
        self._looked_at, self._answers = now, self.demand.answers
        size = self._pool.size
        needed = min(self.demand.processes, self._most)
        # On a busy machine requests take long without any need of more that make it busier.
        is_fast_enough = per_s >= self.demand.per_s * FAST_ENOUGH
        if all_busy and needed > size and not is_fast_enough:
            self._grow(needed - size, per_s, idle)
        elif all_busy and not is_fast_enough and idle is not None and idle < IDLE:
            self._end_at_cores(per_s)
        self.demand.fade()

    def _end_at_cores(self, per_s: float) -> None:
        """Says that the cores are too busy, where there are processes enough."""
        if self.demand.is_crowded and per_s < self.demand.per_s * TOO_SLOW:
            self._say_bound(CORES)

    def _grow(self, wanted: int, per_s: float, idle: float | None) -> None:
        size = self._pool.size
        count, self.bound = min(wanted, max(AT_ONCE, size)), ""
        for name, room in self._rooms(size, per_s, idle):
            if room < count:
                count, self.bound = max(0, room), name
        if self.bound:
            self._say_bound(self.bound)
        if count:
            self._grown = per_s, size
            self._pool.grow(count)
            log.debug(
                "%d processes, since the windows allow %.1f requests a second and one takes %.2f s",
                size + count,
                self.demand.per_s,
                self.demand.request_s or 0.0,
            )

    def _say_bound(self, name: str) -> None:
        self.bound = name
        if name not in self._told:
            self._told.add(name)
            log.info("%s", self.sentence)

    def _rooms(self, size: int, per_s: float, idle: float | None) -> list[tuple[str, int]]:
        """What could end the growth, each with the number of processes that it leaves room for."""
        rooms = []
        if idle is not None and idle < IDLE and not self._gained(size, per_s):
            rooms.append((CORES, 0))
        if (free := machine.free_memory()) is not None:
            one = self._pool.memory_of_one() or MEMORY_OF_ONE
            rooms.append((MEMORY, int(free * MEMORY_SHARE / one)))
        if (left := self._connections_left()) is not None:
            rooms.append((CONNECTIONS, (left - CONNECTIONS_SPARED) // CONNECTIONS_OF_ONE))
        return rooms

    def _gained(self, size: int, per_s: float) -> bool:
        """Whether those that were added last brought answers as well."""
        if self._grown is None:
            return True
        before, size_before = self._grown
        return per_s >= before * (1 + GAIN * (size / size_before - 1))
