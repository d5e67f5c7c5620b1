"""Share of X's windows that is used.

Simulated for many credentials and processes, and measured with short windows.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from benchmarks import stage
from benchmarks.figures import Figure, Table
from benchmarks.stage import Crawler, Sandbox, Server

from simulated_x import Clock, SimulatedX, credentials, run_processes, utilisation  # isort: skip  # from tests/
from window_cells import PATTERNS, crawled  # isort: skip  # from tests/

from tweetcrawler.errors import WindowClosed
from tweetcrawler.windows import Rate

SHORT = [(1, 300, "unequal"), (2, 1_000, "equal"), (5, 50, "unequal"), (5, 300, "equal")]
REQUEST_S = 0.4
WINDOWS = 4
EQUAL = (900,)
UNEQUAL = (900, 300, 75, 15)
_TIMELINE = "/2/users/:id/tweets"


def measure(server: Server, *, full: bool) -> list[Table]:
    """The simulated matrix, the real run, and the real matrix without a number of processes."""
    return [_simulated(), _real(server, rounds=3 if full else 1), _by_default(server, full=full)]


def _simulated() -> Table:
    table = Table(
        "windows-simulated",
        f"Windows, simulated: {WINDOWS} windows of 900 s, {REQUEST_S} s a request; used of what C "
        "credentials and W processes could send",
        [
            "limits",
            "C",
            "W",
            "formula",
            "crawler",
            "requests into closed windows",
            "pinned to its process (429s)",
            "one after the other (429s)",
        ],
    )
    lowest, closed = 1.0, 0
    for pattern, count, processes in product((EQUAL, UNEQUAL), (1, 2, 5, 20), (1, 2, 5, 20, 40)):
        ours = _run(pattern, count, processes, _by_ledger)
        pinned = _run(pattern, count, processes, _pinned)
        rotated = _run(pattern, count, processes, _one_after_the_other)
        lowest, closed = min(lowest, ours[0]), closed + ours[1]
        formula = min(1.0, processes * 900 / (sum(_limits(pattern, count).values()) * REQUEST_S))
        table.rows.append(
            [
                "/".join(map(str, pattern)),
                str(count),
                str(processes),
                f"{formula:.3f}",
                f"{ours[0]:.4f}",
                str(ours[1]),
                f"{pinned[0]:.3f} ({pinned[1]})",
                f"{rotated[0]:.3f} ({rotated[1]})",
            ]
        )
    table.values = {"lowest": lowest, "closed": closed}
    table.target(f"the lowest use is {lowest:.4f}, at least 0.99", lowest >= 0.99)
    table.target(f"{closed} requests into closed windows, none is right", closed == 0)
    table.notes.append(
        "formula: the part of the permits that W processes are fast enough for, W T / (C L s)"
    )
    return table


Way = Callable[[SimulatedX, int, int, float], None]


def _run(pattern: Sequence[int], count: int, processes: int, way: Way) -> tuple[float, int]:
    """Utilisation and requests into closed windows."""
    x = SimulatedX(Clock(), _limits(pattern, count))
    seconds = WINDOWS * x.window_s
    way(x, count, processes, x.clock.now + seconds)
    return utilisation(x, processes, REQUEST_S, seconds), x.closed


def _limits(pattern: Sequence[int], count: int) -> dict[str, int]:
    return {f"user{number}": pattern[number % len(pattern)] for number in range(count)}


def _by_ledger(x: SimulatedX, count: int, processes: int, until: float) -> None:
    run_processes(x, credentials(count), processes, request_s=REQUEST_S, until=until)


def _pinned(x: SimulatedX, count: int, processes: int, until: float) -> None:
    """Each process keeps one credential and sleeps at a 429.

    So does tweepy with `wait_on_rate_limit`.
    """
    queue = [(x.clock.now + number * 0.01, number) for number in range(processes)]
    while queue[0][0] < until:
        x.clock.now, number = heapq.heappop(queue)
        heapq.heappush(queue, (x.clock.now + REQUEST_S + _sleep_s(x, number % count), number))


def _one_after_the_other(x: SimulatedX, count: int, processes: int, until: float) -> None:
    """Each process takes the next credential at a 429.

    All start with the first one, and sleep when all are used up.
    """
    queue = [(x.clock.now + number * 0.01, number, 0, 0) for number in range(processes)]
    while queue[0][0] < until:
        x.clock.now, number, credential, refused = heapq.heappop(queue)
        sleep_s = _sleep_s(x, credential)
        pause_s = REQUEST_S
        if sleep_s:
            credential, refused = (credential + 1) % count, refused + 1
            if refused == count:
                pause_s, refused = REQUEST_S + sleep_s, 0
        else:
            refused = 0
        heapq.heappush(queue, (x.clock.now + pause_s, number, credential, refused))


def _sleep_s(x: SimulatedX, credential: int) -> float:
    try:
        x.answer(f"user{credential}")
    except WindowClosed as error:
        return (error.rate.reset_in_s if isinstance(error.rate, Rate) else x.window_s) + 1.0
    return 0.0


def _real(server: Server, *, rounds: int) -> Table:
    table = Table(
        "windows-real",
        "Windows, real: the crawler against a sandbox with windows of 6 s, while work remains",
        [
            "credentials",
            "processes",
            "windows",
            "used of permitted",
            "requests into closed windows",
        ],
    )
    worst, closed = 1.0, 0
    for count, processes in ((1, 1), (3, 1), (2, 2), (2, 5)):
        found = [_windows_of_a_crawl(server, count, processes) for _ in range(rounds)]
        use = Figure(tuple(used / limit for used, limit, _, _ in found))
        table.rows.append(
            [
                str(count),
                str(processes),
                str(sum(windows for _, _, windows, _ in found)),
                use.shown(4),
                str(sum(c for _, _, _, c in found)),
            ]
        )
        worst, closed = min(worst, use.median), closed + sum(c for _, _, _, c in found)
    table.values = {"worst": worst, "closed": closed}
    table.target(f"the lowest use is {worst:.4f}, at least 0.99", worst >= 0.99)
    table.target(f"{closed} requests into closed windows, none is right", closed == 0)
    return table


def _by_default(server: Server, *, full: bool) -> Table:
    table = Table(
        "windows-default",
        "Windows without a number of processes: X's usual limits in windows of 20 s, the second "
        "window of each bucket",
        [
            "credentials",
            "ms",
            "limits",
            "allowed/s",
            "sent/s",
            "used of permitted",
            "processes",
            "MB each (PSS)",
            "full after s",
            "ended by",
            "load",
        ],
    )
    cells = list(product((1, 2, 5, 20), (50, 300, 1_000), PATTERNS)) if full else SHORT
    met, closed = 0, 0
    for count, latency_ms, pattern in cells:
        with server.database() as dsn, tempfile.TemporaryDirectory() as folder:
            cell = crawled(
                Path(folder), dsn, credentials=count, latency_ms=latency_ms, pattern=pattern
            )
        use = cell.used / max(1, cell.limit)
        met, closed = met + (use >= 0.97 or bool(cell.bound)), closed + cell.closed
        table.rows.append(
            [
                str(count),
                str(latency_ms),
                pattern,
                f"{cell.allowed_per_s:.1f}",
                f"{cell.sent_per_s:.1f}",
                f"{use:.3f}",
                str(cell.workers),
                f"{cell.worker_bytes / 2**20:.1f}",
                f"{cell.full_after_s:.1f}",
                cell.bound,
                f"{os.getloadavg()[0]:.1f}",
            ]
        )
    table.values = {"met": met, "cells": len(cells), "closed": closed}
    table.target(f"{met} of {len(cells)} use 0.97 or say what ended it", met == len(cells))
    table.target(f"{closed} requests into closed windows, none is right", closed == 0)
    return table


def _windows_of_a_crawl(server: Server, count: int, processes: int) -> tuple[int, int, int, int]:
    """Used and permitted requests of windows that ended while work remained.

    Also the number of these windows, and of offences.
    """
    names = stage.handles(100 * count, "writer")
    with (
        Sandbox(
            "--credentials",
            str(count),
            "--posts",
            "0-120",
            "--window-s",
            "6",
            "--limit",
            f"{_TIMELINE}=9/12",
        ) as sandbox,
        server.database() as dsn,
        tempfile.TemporaryDirectory() as folder,
    ):
        sandbox.control(
            "POST", "/sandbox/credentials", {"name": "c1", "limit": {_TIMELINE: [4, 25]}}
        )
        Crawler.on(sandbox, Path(folder), dsn, names, threads=processes).run("--sentiment", "off")
        books = sandbox.books()
    past = [window for window in books["past_windows"] if window["endpoint"] == _TIMELINE]
    used, limit = sum(window["used"] for window in past), sum(window["limit"] for window in past)
    return used, limit, len(past), int(books["closed_window_requests"])
