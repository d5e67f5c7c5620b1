"""Figures for Prometheus: of the collection, read from the database, and of this process.

They are served over HTTP beside a command that stays (`serving`), or written to a file for
node_exporter (`as_text`). The library is an extra; nothing else imports it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tweetcrawler import __version__
from tweetcrawler.errors import ConfigurationError, PackageMissing, TweetcrawlerError
from tweetcrawler.look import check
from tweetcrawler.look.check import Look
from tweetcrawler.outcome import Display, Progress

# The database is asked once in this time, however often the figures are fetched.
FRESH_S = 15.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figure:
    """One name of figures. `of` gives (labels, value) pairs of a look."""

    name: str
    means: str
    labels: tuple[str, ...]
    of: Callable[[Look], Iterable[tuple[tuple[str, ...], float | None]]]


class Live:
    """Counts of this process, from the progress of its runs."""

    COUNTS = ("requests", "posts", "new", "targets_done")

    def __init__(self) -> None:
        self.totals = dict.fromkeys(self.COUNTS, 0)
        self.busy = 0
        self.waits_s = 0.0

    def over(self, display: Display) -> Display:
        """A display of one run whose progress is counted here, too."""
        return _Counting(self, display)


class _Counting:
    def __init__(self, live: Live, display: Display) -> None:
        self._live, self._display = live, display
        self._seen = dict.fromkeys(Live.COUNTS, 0)

    def update(self, progress: Progress) -> None:
        for name in Live.COUNTS:
            now = getattr(progress, name)
            self._live.totals[name] += now - self._seen[name]
            self._seen[name] = now
        self._live.busy = progress.busy
        waits = [until - time.monotonic() for until in progress.waits.values()]
        self._live.waits_s = max(0.0, min(waits, default=0.0))
        self._display.update(progress)


def as_text(look: Look | None) -> bytes:
    """The figures in the text format of Prometheus; without a look only that there is none."""
    client = _client()
    registry = client.CollectorRegistry()
    registry.register(_Collector(lambda: look, None))
    return bytes(client.generate_latest(registry))


@contextlib.contextmanager
def serving(address: tuple[str, int], look: Callable[[], Look], live: Live) -> Iterator[None]:
    """Serves the figures under /metrics during the block.

    **Errors**: `ConfigurationError` when the port is taken.
    """
    client = _client()
    registry = client.CollectorRegistry()
    registry.register(_Collector(_Fresh(look), live))
    host, port = address
    try:
        server, thread = client.start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigurationError(
            f"the metrics cannot be served at {host}:{port} ({error.strerror}); "
            "name another --metrics-port."
        ) from None
    log.info("metrics at http://%s:%d/metrics", host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Fresh:
    """The last look while it is fresh, else a new one; None while the database fails."""

    def __init__(self, look: Callable[[], Look]) -> None:
        self._look = look
        self._last: Look | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> Look | None:
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._last = self._look()
                except TweetcrawlerError as error:
                    log.debug("no figures of the database: %s", error)
                    self._last = None
                self._until = time.monotonic() + FRESH_S
            return self._last


class _Collector:
    """All figures, as the library wants them."""

    def __init__(self, look: Callable[[], Look | None], live: Live | None) -> None:
        self._look, self._live = look, live

    def describe(self) -> list[Any]:
        """Nothing: without it the library would take a look only to learn the names."""
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        info = GaugeMetricFamily(INFO, "The program, always 1", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        look = self._look()
        yield GaugeMetricFamily(UP, "1 while the database can be read", value=int(look is not None))
        for figure in FIGURES if look else ():
            assert look is not None  # noqa: S101 - else there are no figures
            family = GaugeMetricFamily(figure.name, figure.means, labels=figure.labels)
            for labels, value in figure.of(look):
                if value is not None:
                    family.add_metric(labels, value)
            yield family
        if self._live:
            yield from _of_process(self._live)


def _of_process(live: Live) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, (means, count) in PROCESS_COUNTS.items():
        yield CounterMetricFamily(name, means, value=live.totals[count])
    yield GaugeMetricFamily(BUSY, "Worker processes with work", value=live.busy)
    yield GaugeMetricFamily(WAITING, "Seconds until the next rate limit opens", value=live.waits_s)


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise PackageMissing("--metrics-port", "prometheus-client") from None
    return prometheus_client


# -- the figures ----------------------------------------------------------------------------------

INFO, UP = "tweetcrawler_info", "tweetcrawler_up"
BUSY = "tweetcrawler_process_busy_workers"
WAITING = "tweetcrawler_process_wait_seconds"
PROCESS_COUNTS = {
    "tweetcrawler_process_requests_total": ("Requests of this process to X", "requests"),
    "tweetcrawler_process_posts_total": ("Posts that this process read", "posts"),
    "tweetcrawler_process_new_posts_total": ("Posts among them that are new rows", "new"),
    "tweetcrawler_process_targets_total": ("Targets that this process visited", "targets_done"),
}


def _spent(key: str) -> Callable[[Look], Iterable[tuple[tuple[str, ...], float]]]:
    return lambda look: [
        ((period,), look.status["spent"][name][key])
        for period, name in (("day", "today"), ("month", "month"))
    ]


def _budget(key: str) -> Callable[[Look], Iterable[tuple[tuple[str, ...], float]]]:
    return lambda look: [((one["of"],), one[key]) for one in look.status["budgets"]]


def _window(key: str) -> Callable[[Look], Iterable[tuple[tuple[str, ...], float]]]:
    return lambda look: [
        ((w["credential"], w["as"], w["endpoint"]), w[key])
        for w in look.status["windows"]
        if w["limit"] is not None
    ]


def _refused(look: Look) -> Iterable[tuple[tuple[str, ...], float]]:
    for credential, why in sorted(
        {
            (w["credential"], w["shut_why"])
            for w in look.status["windows"]
            if w["endpoint"].startswith("*") and w["shut_why"]
        }
    ):
        yield (credential, why), 1


def _problems(look: Look) -> Iterable[tuple[tuple[str, ...], float]]:
    found = check.problems(look)
    # Every kind, also those without a problem: an alert on a missing figure never ends.
    for kind in check.KINDS:
        yield (kind,), sum(problem.kind == kind for problem in found)


FIGURES = (
    Figure(
        "tweetcrawler_targets",
        "Targets by kind and state",
        ("kind", "state"),
        lambda look: [((t["kind"], t["state"]), t["count"]) for t in look.status["targets"]],
    ),
    Figure(
        "tweetcrawler_stale_targets",
        "Targets that were not visited for too long",
        (),
        lambda look: [((), look.stale.count)],
    ),
    Figure("tweetcrawler_requests", "Requests of the UTC period", ("period",), _spent("requests")),
    Figure("tweetcrawler_posts", "Posts read in the UTC period", ("period",), _spent("posts")),
    Figure("tweetcrawler_spent_usd", "Money spent in the UTC period", ("period",), _spent("usd")),
    Figure("tweetcrawler_budget_usd", "Budget of the UTC period", ("period",), _budget("usd")),
    Figure("tweetcrawler_budget_left_usd", "Rest of it", ("period",), _budget("left_usd")),
    Figure(
        "tweetcrawler_window_left",
        "Requests left in a rate limit",
        ("credential", "as", "endpoint"),
        _window("left"),
    ),
    Figure(
        "tweetcrawler_window_limit",
        "Requests that a rate limit allows",
        ("credential", "as", "endpoint"),
        _window("limit"),
    ),
    Figure("tweetcrawler_credential_shut", "1: X refuses it", ("credential", "why"), _refused),
    Figure(
        "tweetcrawler_last_run_start_timestamp_seconds",
        "Beginning of the newest run of a command",
        ("command",),
        lambda look: [((run.command,), run.started_at) for run in look.last],
    ),
    Figure(
        "tweetcrawler_last_run_end_timestamp_seconds",
        "Its end; missing while it is under way",
        ("command",),
        lambda look: [((run.command,), run.ended_at) for run in look.last],
    ),
    Figure(
        "tweetcrawler_last_run_exit_code",
        "Its exit code; missing while it is under way",
        ("command",),
        lambda look: [((run.command,), run.exit_code) for run in look.last],
    ),
    Figure(
        "tweetcrawler_disk_free_bytes",
        "Free space of a folder",
        ("folder",),
        lambda look: [((folder,), free) for folder, free in look.free_bytes.items()],
    ),
    Figure("tweetcrawler_problems", "Problems of `status --check`", ("kind",), _problems),
)
