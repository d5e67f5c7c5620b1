"""The server's own clock, and the times that are hidden in X's ids."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate

SNOWFLAKE_EPOCH_MS = 1288834974657
FIRST_SNOWFLAKE = 30_000_000_000
"""Ids below this were given out one after the other and hold no time."""


class Clock:
    """The time of day and the steady time of the server; `skew_s` sets the first one wrong.

    Durations are measured with `steady`, which never jumps: a skewed clock shows other
    times, but its windows last as long as before. A test may stop both and let time pass
    itself, so that no promise of a window depends on how busy the machine is.
    """

    def __init__(
        self, machine: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ):
        self._machine = machine
        self._steady = steady
        self._passed_s = 0.0
        self.skew_s = 0.0

    def now(self) -> float:
        """Seconds since 1970 as the server believes."""
        return self._machine() + self._passed_s + self.skew_s

    def steady(self) -> float:
        """Seconds since some moment."""
        return self._steady() + self._passed_s

    def at(self, steady: float) -> float:
        """The server's time at a moment of the steady clock."""
        return self.now() + steady - self.steady()

    def http_date(self) -> str:
        return formatdate(self.now(), usegmt=True)

    def stop(self) -> None:
        """Stands still from now on; only `let_pass` moves it."""
        now, steady = self._machine(), self._steady()
        self._machine, self._steady = lambda: now, lambda: steady

    def let_pass(self, seconds: float) -> None:
        """Time passes at once: windows end, faults are over."""
        self._passed_s += seconds


def lowest_id(ms: int) -> int:
    """The lowest id of a moment (ms since 1970)."""
    return max(0, ms - SNOWFLAKE_EPOCH_MS) << 22


def ms_of_id(id_: int) -> int:
    return (id_ >> 22) + SNOWFLAKE_EPOCH_MS


def rfc3339(seconds: float) -> str:
    """`2024-06-10T09:00:00.000Z`, cut to whole seconds as X does."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()[:19] + ".000Z"


def seconds_of(text: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time with a zone, or None when it is no such time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None or "T" not in text.upper() else moment.timestamp()
