"""Windows are used up without a number of processes, in the room that the machine has."""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k P10_` is that fault

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from busy import window_s
from crawls import Crawler, ended, wait_until, workers_of
from sandbox_server import Sandbox
from window_cells import PATTERNS, crawled

TIMELINE = "/2/users/:id/tweets"


@pytest.fixture
def slow_x() -> Iterator[Sandbox]:
    """Answers take a second, so that the four processes that a run begins with can send hardly
    more than half of what two credentials, one of them stronger, may send in a window.
    """
    # Longer windows on a busy machine, to a point, with as many requests in a second.
    seconds = max(8, min(int(window_s(6)), 20))
    weak = seconds * 7 // 8
    with Sandbox(
        *("--credentials", "2", "--posts", "0-120", "--latency-ms", "1000"),
        *("--window-s", str(seconds), "--limit", f"{TIMELINE}={weak}/{2 * weak}"),
    ) as sandbox:
        strong = {"name": "c1", "limit": {TIMELINE: [2 * weak, 2 * weak]}}
        sandbox.control("POST", "/sandbox/credentials", strong)
        yield sandbox


def past(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [w for w in sandbox.books()["past_windows"] if w["endpoint"] == TIMELINE]


def test_P10_windows_are_used_up_without_a_number_of_processes(
    slow_x: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    names = [f"writer_{n}" for n in range(500)]
    crawler = Crawler.on(slow_x, tmp_path, dsn, names, threads=None)
    process = crawler.start("--sentiment", "off")
    # The first window of each bucket has the start in it.
    wait_until(lambda: process.poll() is not None or len(past(slow_x)) >= 8, timeout_s=90)
    workers = len(workers_of(process.pid))
    process.terminate()
    done = ended(process, expect=143)
    later = past(slow_x)[4:8]
    used, limit = sum(w["used"] for w in later), sum(w["limit"] for w in later)
    assert used >= 0.9 * limit, f"{used} of {limit} by {workers} processes\n{done.stdout}"
    measure("share of second windows that was used", used / limit, at_least=0.9)
    closed = slow_x.books()["closed_window_requests"]
    measure("requests into closed windows", closed, at_most=0)
    assert workers > 4


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("latency_ms", [50, 300, 1_000])
@pytest.mark.parametrize("credentials", [1, 2, 5, 20])
def test_P10_the_matrix_of_windows(
    credentials: int, latency_ms: int, pattern: str, dsn: str, tmp_path: Path, measure: Any
) -> None:
    cell = crawled(tmp_path, dsn, credentials=credentials, latency_ms=latency_ms, pattern=pattern)
    measure("requests into closed windows", cell.closed, at_most=0)
    # A machine without room for more says so.
    assert cell.used >= 0.97 * cell.limit or cell.bound, cell
