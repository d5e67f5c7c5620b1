"""One cell of the matrix of window use: a crawl without a number of processes, cut off after two
windows, against a sandbox with X's usual limits in short windows.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from crawls import Crawler, ended, workers_of
from sandbox_server import Sandbox

from tweetcrawler import machine

TIMELINE = "/2/users/:id/tweets"
# X allows a user token one request a second on timelines, and an app eleven.
USER, APP = 1.0, 11.0
# The parts of that which the credentials are allowed, in turn.
PATTERNS = {"equal": (1.0,), "unequal": (1.0, 0.5, 0.25)}


@dataclass(frozen=True)
class Cell:
    """Use of the windows that ended while work remained, without the first of each bucket.

    `allowed_per_s` and `sent_per_s` are requests, `full_after_s` the time from the first request
    to the first second with nine tenths of what is allowed, or of the most that was sent.
    """

    used: int
    limit: int
    closed: int
    workers: int
    worker_bytes: int
    allowed_per_s: float
    sent_per_s: float
    full_after_s: float
    bound: str


def crawled(
    folder: Path, dsn: str, *, credentials: int, latency_ms: int, pattern: str, window_s: int = 20
) -> Cell:
    """Crawls until each bucket's second window is over."""
    parts = [PATTERNS[pattern][n % len(PATTERNS[pattern])] for n in range(credentials)]
    limits = [[max(2, int(of * part * window_s)) for of in (USER, APP)] for part in parts]
    allowed_per_s = sum(sum(each) for each in limits) / window_s
    with Sandbox(
        *("--fast", "--plan", "unlimited", "--credentials", str(credentials), "--posts", "0-120"),
        *("--latency-ms", str(latency_ms), "--window-s", str(window_s)),
        *("--limit", f"{TIMELINE}={limits[0][0]}/{limits[0][1]}"),
        # As many in a second as X allows, too: 900 and 300 in 15 minutes.
        *("--limit", f"/2/users/by={window_s}/{max(2, window_s // 3)}"),
    ) as sandbox:
        for number, limit in enumerate(limits):
            sent = {"name": f"c{number + 1}", "limit": {TIMELINE: limit}}
            sandbox.control("POST", "/sandbox/credentials", sent)
        names = [f"w_{n}" for n in range(40_000)]
        process = Crawler.on(sandbox, folder, dsn, names, threads=None).start()
        counts: list[tuple[float, int]] = []
        while not counts or time.monotonic() < counts[0][0] + 2.5 * window_s:
            time.sleep(0.5)
            sent_now = _requests(sandbox)
            if sent_now or counts:
                counts.append((time.monotonic(), sent_now))
            assert process.poll() is None, process.communicate()
        books, workers = sandbox.books(), workers_of(process.pid)
        weights = [machine.memory_of(worker.pid) or 0 for worker in workers]
        process.terminate()
        report = ended(process, expect=143).stdout
    later, seen = [], Counter[str]()
    for window in books["past_windows"]:
        if window["endpoint"] == TIMELINE:
            bucket = f"{window['subject']} {window['credential']}"
            seen[bucket] += 1
            later += [window] if seen[bucket] > 1 else []
    rates = [
        (at, (n - before) / (at - earlier))
        for (earlier, before), (at, n) in zip(counts, counts[2:], strict=False)
    ]
    most = min(allowed_per_s, max(rate for _, rate in rates))
    return Cell(
        sum(w["used"] for w in later),
        sum(w["limit"] for w in later),
        int(books["closed_window_requests"]),
        len(workers),
        sum(weights) // max(1, len(weights)),
        allowed_per_s,
        counts[-1][1] / (counts[-1][0] - counts[0][0]),
        next(at for at, rate in rates if rate >= 0.9 * most) - counts[0][0],
        report.partition("they send, and ")[2].partition(" left no")[0],
    )


def _requests(sandbox: Sandbox) -> int:
    by_path = sandbox.books()["requests"].values()
    return sum(sum(of.get(TIMELINE, {}).values()) for of in by_path)
