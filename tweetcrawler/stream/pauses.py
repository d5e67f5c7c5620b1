"""Pauses between connections, as X wants them, and a guard that stays below its limit.

https://docs.x.com/x-api/fundamentals/handling-disconnections
"""

from __future__ import annotations

from collections import deque

# X counts 50 connections in 15 minutes. Other calls of the app may need some of them.
CONNECTS, WINDOW_S = 40, 900.0
# A connection that ends before this was none, however orderly it ended.
LIVED_S = 60.0
_NETWORK_S, _NETWORK_MAX_S = 0.25, 16.0
_HTTP_S, _HTTP_MAX_S = 5.0, 320.0
_RATE_S = 60.0


class Pauses:
    """The seconds until the next connection, by how the last ones ended."""

    def __init__(self) -> None:
        self._network = self._http = self._rate = 0

    def after_line(self, lived_s: float) -> float:
        """After a connection that was open: at once the first time."""
        self._http = self._rate = 0
        if lived_s >= LIVED_S:
            self._network = 0
        return self.after_network()

    def after_network(self) -> float:
        """After one that did not come about, or broke."""
        self._network += 1
        return min(_NETWORK_MAX_S, _NETWORK_S * (self._network - 1))

    def after_http(self) -> float:
        """After an answer that is an error."""
        self._http += 1
        return float(min(_HTTP_MAX_S, _HTTP_S * 2 ** min(self._http - 1, 10)))

    def after_rate(self, reset_in_s: float | None = None) -> float:
        """After a 429: until its window turns, if that is what it is."""
        self._rate += 1
        doubled = _RATE_S * 2 ** min(self._rate - 1, 10)
        return float(doubled if reset_in_s is None else max(1.0, reset_in_s + 1.0))


class Guard:
    """Counts connections, so that no loop of any kind exceeds X's limit."""

    def __init__(self, most: int = CONNECTS, window_s: float = WINDOW_S) -> None:
        self._most, self._window_s = most, window_s
        self._at: deque[float] = deque(maxlen=most)

    def wait_s(self, now: float) -> float:
        """The seconds until another connection may begin."""
        if len(self._at) < self._most:
            return 0.0
        return max(0.0, self._at[0] + self._window_s - now)

    def note(self, now: float) -> None:
        """Counts a connection."""
        self._at.append(now)
