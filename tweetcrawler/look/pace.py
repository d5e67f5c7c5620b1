"""Pace of a run under way: its rates, what each credential does, and the time still to go."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.look.sections import duration
from tweetcrawler.outcome import Display, Progress
from tweetcrawler.prices import Tariff
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.db import Database, Reader
    from tweetcrawler.look import plan

# The first look at the time to go, later ones, and the share of the time that they may take.
_FIRST_S, _AGAIN_S, _SHARE = 1.0, 10.0, 0.05
# Where a line is logged once a minute, short runs need no look at all.
_FIRST_LINE_S = 45.0
# A credential whose last answer is as old as this does nothing.
_IDLE_S = 5.0

log = logging.getLogger(__name__)


def summary(progress: Progress, now: float) -> str:
    """Progress of a run on one line: counts, rates of the last minute, and the time to go."""
    total = f" of {progress.handles:,}" if progress.handles else ""
    posts_s, requests_s = progress.rates(now)
    return (
        f"{progress.targets_done:,}{total} targets done, {plural(progress.posts, 'post')} "
        f"({posts_s:,.0f}/s, {progress.new:,} new), "
        f"{plural(progress.requests, 'request')} ({requests_s:,.1f}/s), {_doing(progress, now)}"
        f"{_to_go(progress, now)}"
    )


def states(progress: Progress, now: float) -> list[tuple[str, int, str]]:
    """Each credential with its requests and what it does: requesting, idle, or waiting."""
    waiting: dict[str, tuple[float, str]] = {}
    for reason, until in progress.waits.items():
        if until > now:
            # "c1 (user) waits for …"; the other reasons are of no single credential.
            name = reason.partition(" (")[0] if " (" in reason else "X"
            waiting[name] = max(waiting.get(name, (0.0, "")), (until, reason))
    names = dict.fromkeys((*progress.credentials, *sorted({*progress.by_credential, *waiting})))
    return [(n, progress.by_credential[n], _state(progress, n, waiting, now)) for n in names]


def at(moment: float, now: float) -> str:
    """A moment of the monotonic clock as a time of day."""
    return time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + moment - now))


def _state(progress: Progress, name: str, waiting: dict[str, tuple[float, str]], now: float) -> str:
    if name in waiting:
        until, reason = waiting[name]
        why = reason.partition(" window on ")[2] or reason.partition(") ")[2] or reason
        return f"waiting until {at(until, now)}: {why}"
    answered_at = progress.answered_at.get(name)
    return "idle" if answered_at is None or now - answered_at > _IDLE_S else "requesting"


def _doing(progress: Progress, now: float) -> str:
    ends = [until for until in progress.waits.values() if until > now]
    if not progress.busy and ends:
        return f"waits for windows, next at {at(min(ends), now)}"
    return f"{progress.busy} process{'' if progress.busy == 1 else 'es'} at work"


def _to_go(progress: Progress, now: float) -> str:
    if progress.left is None:
        return ""
    looked_at, seconds = progress.left
    # The last look may be older than a wait that began since.
    waits_s = 0.0 if progress.busy else min((u - now for u in progress.waits.values()), default=0.0)
    return f", about {duration(max(1.0, waits_s, seconds - (now - looked_at)))} to go"


class Estimate:
    """The time that a run still takes, by the code of the plan, looked up beside the run.

    `left` plans what is left of the run; it gets a reader, and the time at which the run began,
    on the database's clock. Without one there is no estimate.
    """

    def __init__(
        self,
        database: Database | None,
        left: Callable[[Reader, float], plan.Plan] | None,
        *,
        keys: Sequence[plan.Keys],
        tariff: Tariff,
        processes: int,
        is_live: bool,
    ) -> None:
        self._database = database
        self._left = left
        self._keys = keys
        self._tariff = tariff
        self._processes = processes
        self._first_s = _FIRST_S if is_live else _FIRST_LINE_S
        self._began = time.monotonic()
        self._over = threading.Event()
        self._found: tuple[float, float] | None = None
        # A daemon, as a database that hangs must not hold up the end of the run.
        self._thread = threading.Thread(target=self._look, daemon=True, name="estimate")

    def __enter__(self) -> Estimate:
        if self._database is not None and self._left is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._over.set()

    def over(self, display: Display) -> Display:
        """The display, which gets the estimate and the names of the credentials as well."""
        return _WithEstimate(display, lambda: self._found, [key.name for key in self._keys])

    def _look(self) -> None:
        pause_s = self._first_s
        while not self._over.wait(pause_s):
            begun = time.monotonic()
            try:
                seconds = self._seconds()
            except TweetcrawlerError as error:
                log.debug("the time to go is not known: %s", error)
                seconds = None
            now = time.monotonic()
            self._found = None if seconds is None else (now, seconds)
            pause_s = max(_AGAIN_S, (now - begun) / _SHARE)

    def _seconds(self) -> float | None:
        from tweetcrawler.look import plan

        assert self._database is not None  # noqa: S101 - the thread was started
        assert self._left is not None  # noqa: S101 - as above
        with self._database.reader() as reader:
            began_at = reader.now() - (time.monotonic() - self._began)
            made = self._left(reader, began_at)
            plan.timed(made, self._keys, reader.windows(), self._tariff, processes=self._processes)
        return made.time_s.likely if made.time_s is not None else None


class _WithEstimate:
    """A display of a run whose time to go is looked up elsewhere."""

    def __init__(
        self,
        display: Display,
        found: Callable[[], tuple[float, float] | None],
        names: Sequence[str],
    ) -> None:
        self._display = display
        self._found = found
        self._names = tuple(names)

    def update(self, progress: Any) -> None:
        progress.left, progress.credentials = self._found(), self._names
        self._display.update(progress)
