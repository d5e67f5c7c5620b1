"""What an operator sees: a live picture on a terminal, a line a minute elsewhere, a table at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tweetcrawler.crawl import Progress, Report

LINE_EVERY_S = 60.0
REFRESH_S = 0.25
NAMED_SHOWN = 30

log = logging.getLogger(__name__)


class LogLines:
    """One log line a minute."""

    def __init__(self, *, every_s: float = LINE_EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._next_at = clock() + every_s

    def __enter__(self) -> LogLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, progress: Progress) -> None:
        """Logs when it is time."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + self._every_s
        waits = "; ".join(
            f"{reason}, {until - now:.0f} s more" for reason, until in progress.waits.items() if until > now
        )
        log.info("%s%s", _summary(progress, now), f"; {waits}" if waits else "")


class LivePicture:
    """A picture on the terminal that is drawn anew four times a second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn_at = 0.0

    def __enter__(self) -> LivePicture:
        self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Draws when it is time."""
        now = time.monotonic()
        if now - self._drawn_at >= REFRESH_S:
            self._drawn_at = now
            self._live.update(_picture(progress, now), refresh=True)


def _summary(progress: Progress, now: float) -> str:
    seconds = max(0.001, now - progress.started_at)
    total = f" of {progress.handles:,}" if progress.handles else ""
    eta = ""
    if progress.handles and 0 < progress.targets_done < progress.handles:
        left_s = seconds * (progress.handles - progress.targets_done) / progress.targets_done
        eta = f", about {_duration(left_s)} to go"
    return (
        f"{progress.targets_done:,}{total} targets done, {progress.posts:,} posts "
        f"({progress.posts / seconds:,.0f}/s, {progress.new:,} new), {progress.requests:,} requests, "
        f"{progress.busy} processes at work{eta}"
    )


def _picture(progress: Progress, now: float) -> Group:
    waiting: dict[str, tuple[float, str]] = {}
    for reason, until in progress.waits.items():
        if until > now:
            name = reason.partition(" (")[0]
            waiting[name] = max(waiting.get(name, (0.0, "")), (until, reason))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("credential", "requests", "now"):
        table.add_column(heading, justify="right" if heading == "requests" else "left")
    for name in sorted({*progress.by_credential, *waiting}):
        until, reason = waiting.get(name, (0.0, ""))
        clock = time.strftime("%H:%M:%S", time.localtime(time.time() + until - now))
        state = (
            Text(f"{reason.partition(') ')[2] or reason} until {clock}", "yellow")
            if reason
            else Text("in use", "green")
        )
        table.add_row(name, f"{progress.by_credential[name]:,}", state)
    return Group(Text(_summary(progress, now), "bold"), table)


def print_report(report: Report, console: Console, *, price_post: float, price_user: float) -> None:
    """The table at the end of a run: outcomes, rows, requests and posts by credential, waits, money."""
    console.print()
    _print_outcomes(report, console)
    _print_credentials(report, console)
    posts, users, again = report.total("posts"), report.total("users"), report.total("again")
    console.print(
        f"{report.total('new'):,} new rows, {report.total('updated'):,} updated; "
        f"{posts:,} posts and {users:,} users read, about ${posts * price_post + users * price_user:,.2f}"
        + (f" ({again:,} of the posts were stored already)" if again else "")
        + f"; {_duration(report.seconds)}",
        highlight=False,
        soft_wrap=True,
    )
    for reason, seconds in sorted(report.waited_s.items()):
        if seconds >= 1.0:
            console.print(f"waited {_duration(seconds)}: {reason}", highlight=False, soft_wrap=True)
    if report.bad_lines:
        console.print(
            f"{report.bad_lines:,} lines of the handles file hold no handle (logged above)", highlight=False
        )
    if report.ended:
        console.print(
            f"ended early: {report.ended}; everything read is saved, the same command goes on from here",
            highlight=False,
            soft_wrap=True,
        )


def _print_outcomes(report: Report, console: Console) -> None:
    table = Table(title="targets", title_justify="left", header_style="bold")
    table.add_column("outcome")
    table.add_column("targets", justify="right")
    for state, count in report.outcomes.most_common():
        table.add_row("done" if state == "ok" else state, f"{count:,}")
    console.print(table)
    for outcome in report.named[:NAMED_SHOWN]:
        console.print(
            f"  @{outcome.handle}: {outcome.state}: {outcome.reason}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    rest = len(report.named) - NAMED_SHOWN + report.unnamed
    if rest > 0:
        console.print(
            f"  and {rest:,} more; the table crawl_target holds state and state_reason of each handle",
            highlight=False,
            soft_wrap=True,
        )


def _print_credentials(report: Report, console: Console) -> None:
    table = Table(title="credentials", title_justify="left", header_style="bold")
    for heading in ("credential", "endpoint", "requests", "posts", "new rows"):
        table.add_column(heading, justify="left" if heading in ("credential", "endpoint") else "right")
    for row in report.totals:
        table.add_row(
            row["credential"], row["endpoint"], *(f"{int(row[c]):,}" for c in ("pages", "posts", "new"))
        )
    for (who, what), count in sorted(report.refusals.items()):
        table.add_row(who, f"no page: {what}", f"{count:,}", "0", "0")
    console.print(table)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
