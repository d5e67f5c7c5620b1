"""X's windows and many processes on a clock that is only counted.

Shared by the tests and the measurements of permits.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tweetcrawler.errors import MustWait, WindowClosed
from tweetcrawler.permits import Key, Ledger, Permit
from tweetcrawler.windows import Bucket, Rate

ENDPOINT = "/2/users/:id/tweets"


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class MemoryBooks:
    """The books without a database: one process after the other, on the simulated clock."""

    clock: Clock
    buckets: dict[Key, Bucket] = field(default_factory=dict)

    def change_buckets(self, keys: Iterable[Key], change: Callable[..., Any]) -> Any:
        asked = {key: self.buckets.get(key, Bucket()) for key in keys}
        changed, result = change(asked, self.clock.now)
        assert isinstance(changed, Mapping)
        self.buckets.update(changed)
        return result


@dataclass(frozen=True)
class Keys:
    name: str
    user_fingerprint: str | None
    app_fingerprint: str
    has_app: bool = True
    proxy_fingerprint: str = ""


@dataclass
class SimulatedX:
    """X's side: windows anchored at the first call.

    Headers in whole seconds, and its own count of offences.
    """

    clock: Clock
    limits: Mapping[str, int]
    window_s: float = 900.0
    offset_s: float = 0.0  # how far X's clock is from ours
    windows: dict[str, tuple[float, int]] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    closed: int = 0

    def answer(self, subject: str) -> Rate:
        now = self.clock.now + self.offset_s
        started, used = self.windows.get(subject, (-1e12, 0))
        if now >= started + self.window_s:
            started, used = now, 0
        limit = self.limits[subject]
        reset = int(started) + self.window_s
        if used >= limit:
            self.closed += 1
            raise WindowClosed("closed", rate=Rate(limit, 0, reset - int(now)))
        self.windows[subject] = (started, used + 1)
        self.served[subject] += 1
        return Rate(limit, limit - used - 1, reset - int(now))


def credentials(count: int, *, app: bool = False) -> list[Keys]:
    return [Keys(f"c{n}", f"user{n}", f"app{n}", has_app=app) for n in range(count)]


def run_processes(
    x: SimulatedX,
    keys: list[Keys],
    processes: int,
    *,
    request_s: float,
    until: float,
    offline: bool = False,
) -> None:
    """W processes that always have work, each sending one request after the other."""
    clock = x.clock
    books = MemoryBooks(clock)
    ledgers = [Ledger(keys, own=n, since=0.0, monotonic=clock) for n in range(processes)]
    queue = [(clock.now + n * 0.01, n, None) for n in range(processes)]
    sent: list[tuple[float, int, Permit]] = []
    while True:
        event_at = min(queue[0][0] if queue else 1e18, sent[0][0] if sent else 1e18)
        if event_at >= until:
            return
        clock.now = event_at
        if sent and sent[0][0] == event_at:
            _, n, permit = heapq.heappop(sent)
            try:
                rate = x.answer(permit.subject)
            except WindowClosed as error:
                ledgers[n].refused(books, permit, error)
            else:
                ledgers[n].settle(books, permit, rate)
            heapq.heappush(queue, (clock.now + request_s / 2, n, None))
            continue
        _, n, _ = heapq.heappop(queue)
        try:
            permit = ledgers[n].reserve(books, ENDPOINT)
        except MustWait as wait:
            heapq.heappush(queue, (clock.now + wait.wait_s, n, None))
        else:
            heapq.heappush(sent, (clock.now + request_s / 2, n, permit))


def utilisation(x: SimulatedX, processes: int, request_s: float, seconds: float) -> float:
    allowed = sum(x.limits.values()) * seconds / x.window_s
    possible = min(allowed, processes * seconds / request_s)
    return sum(x.served.values()) / possible
