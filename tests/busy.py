"""Time on a machine that has other work, too.

A promise in seconds is one of a machine that is idle. How busy this one is can be measured,
so each limit of time grows with it, and none has to be so wide that it says nothing.
"""

from __future__ import annotations

import math
import os
import time

OWN_LOAD = 2.0
"""Processes on a core when the suite runs alone with `-n 4` on two cores."""


def contention() -> float:
    """How many times longer computing takes than on this machine alone; 1 on an idle one."""
    longest = os.getloadavg()[0] / (os.cpu_count() or 1)
    for _ in range(3):
        begun, used = time.monotonic(), time.process_time()
        while time.process_time() - used < 0.1:
            pass
        longest = max(longest, (time.monotonic() - begun) / (time.process_time() - used))
    return max(1.0, longest)


def allowed_s(seconds: float) -> float:
    """The time in which this machine does now what an idle one does in `seconds`."""
    return seconds * contention()


def window_s(seconds: float) -> str:
    """A length of X's windows, as the sandbox's `--window-s` takes it.

    A short window stands for the true one of 15 minutes. What a process does between two of
    its requests must be short against it, also where it gets little of a core. Whole
    seconds, since X tells the end of a window in these.
    """
    return str(math.ceil(seconds * max(1.0, contention() / OWN_LOAD)))


class Patience:
    """A limit of time for what must come at some time; only a defect reaches it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = time.monotonic()

    @property
    def lasts(self) -> bool:
        """False once the time is over, measured by how busy the machine is then."""
        waited_s = time.monotonic() - self._begun
        return waited_s < self._seconds or waited_s < allowed_s(self._seconds)
