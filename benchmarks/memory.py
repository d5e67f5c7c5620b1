"""Resident memory of every process, early and late in a crawl.

Of the parent also with a list of a million handles.
"""

from __future__ import annotations

import math
import subprocess
import time
from pathlib import Path

import psutil

from benchmarks import stage
from benchmarks.figures import Table
from benchmarks.stage import POSTS_OF_A_USER, Sandbox, Server
from benchmarks.start import requests

_MILLION = 1_000_000


def measure(server: Server, *, full: bool) -> list[Table]:
    """The table of the memory."""
    early = 200_000 if full else 12_800
    table = Table(
        "memory",
        "Resident memory, MB",
        ["process", f"after {early:,} tweets", f"after {25 * early:,} tweets"],
    )
    grown = _grown(server, early)
    for name, (before, after) in grown.items():
        table.rows.append([name, f"{before:.1f}", f"{after:.1f}"])
    parent, first_s = _parent_of_a_million(server)
    table.rows.append([f"parent with {_MILLION:,} handles", "", f"{parent:.1f}"])
    table.values = {"grown": grown, "parent_of_a_million": parent, "first_request_s": first_s}
    most = max(after / before - 1 for before, after in grown.values())
    table.target(f"the largest growth of a process is {most:.1%}, less than 5 %", most < 0.05)
    workers = [after for name, (_, after) in grown.items() if name.startswith("worker")]
    table.target(f"the largest worker has {max(workers):.0f} MB, below 90", max(workers) < 90)
    table.target(f"the parent of a million handles has {parent:.0f} MB, below 120", parent < 120)
    table.target(f"its first request comes after {first_s:.2f} s, within 2", first_s <= 2.0)
    return [table]


def _grown(server: Server, early: int) -> dict[str, tuple[float, float]]:
    # Some users more than are needed, so that all processes are still at work when it is over.
    names = stage.handles(math.ceil(25 * early / POSTS_OF_A_USER) + 10, "writer")
    with (
        Sandbox("--credentials", "4", *stage.FAST) as sandbox,
        server.database() as dsn,
        stage.crawler(sandbox, dsn, names, threads=2) as crawler,
    ):
        process = crawler.start("--quiet", "--sentiment", "on")
        _until_sold(early, sandbox, process)
        before = resident(process.pid)
        _until_sold(25 * early, sandbox, process)
        after = resident(process.pid)
        process.terminate()
        process.communicate()
    if before.keys() != after.keys():
        raise RuntimeError(f"processes came or went: {sorted(before)}, then {sorted(after)}")
    return {name: (before[name], after[name]) for name in before}


def _until_sold(posts: int, sandbox: Sandbox, process: subprocess.Popen[str]) -> None:
    while sandbox.books()["posts_sold"] < posts:
        if process.poll() is not None:
            raise RuntimeError(
                f"the crawl ended with {process.returncode}:\n{process.communicate()[1][-4000:]}"
            )
        time.sleep(0.05)


def _parent_of_a_million(server: Server) -> tuple[float, float]:
    """Its memory after some seconds, and the seconds to the first request."""
    with (
        Sandbox("--credentials", "2", "--posts", "0-3", "--plan", "unlimited") as sandbox,
        server.database() as dsn,
        stage.crawler(sandbox, dsn, (), threads=2) as crawler,
    ):
        _write_handles(crawler.folder / "handles.txt")
        begun = time.perf_counter()
        process: subprocess.Popen[str] = crawler.start("--quiet")
        while requests(sandbox) == 0 and process.poll() is None:
            time.sleep(0.01)
        first_s = time.perf_counter() - begun
        time.sleep(8.0)
        parent = psutil.Process(process.pid).memory_info().rss / 2**20
        process.terminate()
        process.communicate()
    return parent, first_s


def _write_handles(path: Path) -> None:
    with path.open("w") as file:
        file.writelines(f"reader_{number}\n" for number in range(_MILLION))


def resident(pid: int) -> dict[str, float]:
    """MB of the crawl's processes: the parent, its workers by number, and what starts them."""
    found: dict[str, float] = {}
    try:
        parent = psutil.Process(pid)
        found["parent"] = parent.memory_info().rss / 2**20
        for child in parent.children(recursive=True):
            line = " ".join(child.cmdline())
            role = "resource tracker" if "resource_tracker" in line else "starter of workers"
            if "forkserver" in line and child.ppid() != pid:
                role = f"worker {child.pid}"
            found[role] = child.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return {}
    return found
