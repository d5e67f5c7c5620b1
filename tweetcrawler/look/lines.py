"""Progress as log lines, for places without a terminal: nothing of rich is loaded for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.archives.importing import ImportProgress
    from tweetcrawler.outcome import Progress

LINE_EVERY_S = 60.0

log = logging.getLogger(__name__)


class LogLines:
    """One log line a minute."""

    def __init__(
        self, *, every_s: float = LINE_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._clock = clock
        self._next_at = clock() + every_s

    def __enter__(self) -> LogLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, progress: Any) -> None:
        """Logs when it is time."""
        now = self._clock()
        if now >= self._next_at:
            self._next_at = now + self._every_s
            log.info("%s", self._line(progress, now))

    def _line(self, progress: Progress, now: float) -> str:
        waits = "; ".join(
            f"{reason}, {until - now:.0f} s more"
            for reason, until in progress.waits.items()
            if until > now
        )
        # Loaded with the first line: a short run writes none.
        from tweetcrawler.look import pace

        return pace.summary(progress, now) + (f"; {waits}" if waits else "")


class ImportLines(LogLines):
    """The same of an import."""

    def _line(self, progress: Any, now: float) -> str:
        return import_summary(progress, now)


def import_summary(progress: ImportProgress, now: float) -> str:
    """Progress of an import on one line."""
    seconds = max(0.001, now - progress.started_at)
    of_bytes = f" of {size(progress.bytes)}" if progress.bytes else ""
    eta = ""
    if 0 < progress.bytes_read < progress.bytes:
        left_s = seconds * (progress.bytes - progress.bytes_read) / progress.bytes_read
        eta = f", about {duration(left_s)} to go"
    rejected = f", {progress.rejected:,} rejected" if progress.rejected else ""
    return (
        f"{progress.files_done:,} of {plural(progress.files, 'file')} done, "
        f"{size(progress.bytes_read)}{of_bytes} read, {plural(progress.posts, 'post')} "
        f"({progress.posts / seconds:,.0f}/s, {progress.new:,} new){rejected}, "
        f"{plural(progress.busy, 'process', 'processes')} at work{eta}"
    )


def size(count: float) -> str:
    """A number of bytes, as people write it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def duration(seconds: float) -> str:
    """A time, as people write it."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
