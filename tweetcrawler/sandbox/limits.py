"""X's windows: how many requests a token or an app may send to an endpoint, and until when.

A window opens with its first request and turns exactly one length later. The header that
tells when cuts the first request's moment to whole seconds, as X does, so it names a time
up to a second before the window really turns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from tweetcrawler.sandbox.clock import Clock

UNLIMITED = 40_000
# A day of this server is 96 of its windows, also where these are short.
DAY_IN_WINDOWS = 96


class Limit(NamedTuple):
    """Requests per window, None where the endpoint is not offered to that kind of token.

    `shared_day` is what all tokens of an app may send together in 24 hours.
    """

    app: int | None
    user: int | None
    app_day: int | None = None
    user_day: int | None = None
    shared_day: int | None = None


_PPU = {
    "/2/users/by": Limit(300, 900),
    "/2/users/by/username/:username": Limit(300, 900),
    "/2/users": Limit(300, 900),
    "/2/users/:id": Limit(300, 900),
    "/2/users/me": Limit(75, 75),
    "/2/users/:id/tweets": Limit(10_000, 900),
    "/2/users/:id/mentions": Limit(450, 300),
    "/2/tweets": Limit(3_500, 5_000),
    "/2/tweets/:id": Limit(450, 900),
    "/2/tweets/search/recent": Limit(450, 300),
    "/2/tweets/search/all": Limit(300, 300),
    "/2/tweets/counts/recent": Limit(300, 300),
    "/2/tweets/counts/all": Limit(300, 300),
    "/2/trends/by/woeid/:woeid": Limit(75, 75),
    "/2/users/:id/followers": Limit(300, 300),
    "/2/users/:id/following": Limit(300, 300),
    "/2/usage/tweets": Limit(50, 50),
    "/2/compliance/jobs": Limit(150, None),
    "POST /2/compliance/jobs": Limit(150, None),
    "/2/compliance/jobs/:id": Limit(150, None),
    "/2/tweets/search/stream": Limit(50, None),
    "/2/tweets/search/stream/rules": Limit(450, None),
    "POST /2/tweets/search/stream/rules": Limit(100, None),
    "/2/tweets/search/stream/rules/counts": Limit(450, None),
    "/2/connections": Limit(450, None),
    "DELETE /2/connections": Limit(25, None),
    "DELETE /2/connections/all": Limit(25, None),
    "DELETE /2/connections/:endpoint_id": Limit(25, None),
}
_CLOSED = Limit(None, None)
_OF_STREAMS = tuple(name for name in _PPU if "stream" in name or "connections" in name)
_PRO = _PPU | {
    "/2/users/:id/tweets": Limit(1_500, 900),
    "/2/tweets": Limit(450, 900),
    "/2/users/:id/followers": _CLOSED,
    "/2/users/:id/following": _CLOSED,
}
# Plan Basic counts lookups by the day only; its short window shows as unlimited.
_BASIC_LOOKUP = Limit(UNLIMITED, UNLIMITED, 500, 100)
_BASIC = {
    "/2/users/by": _BASIC_LOOKUP,
    "/2/users/by/username/:username": _BASIC_LOOKUP,
    "/2/users": _BASIC_LOOKUP,
    "/2/users/:id": _BASIC_LOOKUP,
    "/2/users/me": Limit(UNLIMITED, UNLIMITED, None, 250),
    "/2/users/:id/tweets": Limit(10, 5),
    "/2/users/:id/mentions": Limit(15, 10),
    "/2/tweets": Limit(15, 15),
    "/2/tweets/:id": Limit(15, 15),
    "/2/tweets/search/recent": Limit(60, 60),
    "/2/tweets/search/all": _CLOSED,
    "/2/tweets/counts/recent": Limit(5, 5),
    "/2/tweets/counts/all": _CLOSED,
    "/2/trends/by/woeid/:woeid": Limit(15, 15),
    "/2/users/:id/followers": _CLOSED,
    "/2/users/:id/following": _CLOSED,
    "/2/usage/tweets": Limit(50, 50),
    "/2/compliance/jobs": Limit(150, None),
    "POST /2/compliance/jobs": Limit(150, None),
    "/2/compliance/jobs/:id": Limit(150, None),
}
PLANS: dict[str, dict[str, Limit]] = {
    "ppu": _PPU,
    "pro": _PRO,
    "basic": _BASIC,
    "unlimited": dict.fromkeys(_PPU, Limit(UNLIMITED, UNLIMITED)),
}
ENDPOINTS = tuple(_PPU)


class Subject(NamedTuple):
    """Whom X counts a request against: an app, or one user's token of an app."""

    kind: str
    name: str
    credential: str


@dataclass(slots=True)
class Window:
    opened_at: float
    """on the steady clock"""
    shown_reset: int
    """what the header says; on the server's clock as it stood when the window opened"""
    limit: int
    credential: str
    used: int = 0


@dataclass(slots=True)
class Permit:
    """The outcome of one request at the window.

    Whether it may pass, and the headers of its answer.
    """

    open: bool
    headers: dict[str, str]


@dataclass(slots=True)
class Limits:
    """All windows of the server."""

    clock: Clock
    window_s: float
    table: dict[str, Limit]
    of_credential: dict[tuple[str, str], Limit] = field(default_factory=dict)
    closed_window_requests: int = 0
    _windows: dict[tuple[str, Subject, str], Window] = field(default_factory=dict)
    _past: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=5_000))
    _last_archive_search: dict[Subject, float] = field(default_factory=dict)

    def limit_of(self, endpoint: str, credential: str) -> Limit:
        return self.of_credential.get((credential, endpoint)) or self.table.get(
            endpoint, Limit(UNLIMITED, UNLIMITED)
        )

    def take(self, endpoint: str, subject: Subject, app: str = "") -> Permit:
        """Counts one request, also in what all tokens of its app have together.

        A closed endpoint (plan) gives an open permit without headers: it is refused later.
        """
        limit = self.limit_of(endpoint, subject.credential)
        short = limit.app if subject.kind == "app" else limit.user
        long = limit.app_day if subject.kind == "app" else limit.user_day
        if short is None:
            return Permit(open=True, headers={})
        now = self.clock.steady()
        window = self._window("15min", subject, endpoint, short, now, self.window_s)
        day = (
            None
            if long is None
            else self._window("24h", subject, endpoint, long, now, self.window_s * DAY_IN_WINDOWS)
        )
        common = None
        if limit.shared_day is not None:
            together = Subject("app", f"all tokens of {app}", "")
            common = self._window(
                "24h", together, endpoint, limit.shared_day, now, self.window_s * DAY_IN_WINDOWS
            )
        counted = [each for each in (window, day, common) if each is not None]
        # All of them are asked before one is counted: a request that is refused takes from
        # none.
        is_open = all(each.used < each.limit for each in counted)
        # What X refuses for another reason (400, 403) counts, too; a request beyond the limit
        # does not make it wait longer.
        if is_open:
            for each in counted:
                each.used += 1
        else:
            self.closed_window_requests += 1
        headers = _headers("x-rate-limit", window)
        if day is not None:
            headers |= _headers(f"x-{subject.kind}-limit-24hour", day)
        if common is not None:
            headers |= _headers("x-app-limit-24hour", common)
        return Permit(open=is_open, headers=headers)

    def too_fast(self, subject: Subject) -> bool:
        """Whether this archive search comes within a second of the one before it."""
        now = self.clock.steady()
        last = self._last_archive_search.get(subject)
        if last is not None and now - last < 1.0:
            return True
        self._last_archive_search[subject] = now
        return False

    def move_resets(self, by_s: float) -> None:
        """Moves the ends of open windows, as if the clock had always been so."""
        for window in self._windows.values():
            window.shown_reset += int(by_s)

    def listed(self) -> list[dict[str, object]]:
        """The newest window of each subject and endpoint, open or over, as `closes_at` tells."""
        return [self._shown(key, window) for key, window in self._windows.items()]

    def forget_past(self) -> None:
        """Begins a new list of windows that turned; open ones stay as they are."""
        self._past.clear()

    def past(self) -> list[dict[str, object]]:
        """The windows that others followed, oldest first; the last thousands of them."""
        return list(self._past)

    def _shown(self, key: tuple[str, Subject, str], window: Window) -> dict[str, object]:
        length, subject, endpoint = key
        closes = window.opened_at + self._length_s(length)
        return {
            "subject": f"{subject.kind}:{subject.name}",
            "credential": window.credential,
            "endpoint": endpoint,
            "length": length,
            "opened_at": self.clock.at(window.opened_at),
            "closes_at": self.clock.at(closes),
            "reset_shown": window.shown_reset,
            "limit": window.limit,
            "used": window.used,
        }

    def _length_s(self, length: str) -> float:
        return self.window_s if length == "15min" else self.window_s * DAY_IN_WINDOWS

    def _window(
        self, length: str, subject: Subject, endpoint: str, limit: int, now: float, length_s: float
    ) -> Window:
        key = (
            length,
            # An app's window is one for all of its credentials; a user's token has its own.
            subject._replace(credential="") if subject.kind == "app" else subject,
            endpoint,
        )
        window = self._windows.get(key)
        if window is None or now >= window.opened_at + length_s:
            if window is not None:
                self._past.append(self._shown(key, window))
            # In 20 recorded first calls the reset was Date + 900 s, in three of them 899: both
            # times are cut to seconds.
            window = Window(now, int(int(self.clock.now()) + length_s), limit, subject.credential)
            self._windows[key] = window
        window.limit = limit
        return window


def _headers(prefix: str, window: Window) -> dict[str, str]:
    return {
        f"{prefix}-limit": str(window.limit),
        f"{prefix}-remaining": str(max(0, window.limit - window.used)),
        f"{prefix}-reset": str(window.shown_reset),
    }
