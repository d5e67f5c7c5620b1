"""How soon the program answers and sends its first request."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import stage
from benchmarks.figures import Figure, Table
from benchmarks.stage import Sandbox, Server


def measure(server: Server, *, full: bool) -> list[Table]:
    """The table of the start."""
    rounds = 15 if full else 7
    bare = Figure(tuple(_seconds("-c", "pass") for _ in range(rounds)))
    help_ = Figure(tuple(_seconds("-m", "tweetcrawler", "--help") for _ in range(rounds)))
    with Sandbox(*stage.FAST) as sandbox:
        first = Figure(
            tuple(first_request_s(server, sandbox, [f"starter_{n}"]) for n in range(rounds))
        )
    table = Table("start", f"Start ({rounds} times)", ["what", "seconds"])
    table.rows = [
        ["python -c pass", bare.shown(3)],
        ["tweetcrawler --help", help_.shown(3)],
        ["from the start of a crawl to its first request", first.shown(3)],
    ]
    table.values = {"python": bare.values, "help": help_.values, "first_request": first.values}
    table.target(f"--help takes {help_.shown(3)} s, at most 0.25", help_.median <= 0.25)
    table.target(
        f"the first request comes after {first.shown(3)} s, at most 1", first.median <= 1.0
    )
    return [table]


def _seconds(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def first_request_s(server: Server, sandbox: Sandbox, names: list[str]) -> float:
    """Seconds from the start of a crawl to its first request.

    The database is empty; the sandbox is asked every few ms.
    """
    with server.database() as dsn, stage.crawler(sandbox, dsn, names, threads=2) as crawler:
        before = requests(sandbox)
        begun = time.perf_counter()
        process = crawler.start("--quiet")
        while requests(sandbox) == before and process.poll() is None:
            time.sleep(0.005)
        took_s = time.perf_counter() - begun
        process.terminate()
        process.communicate()
    return took_s


def requests(sandbox: Sandbox) -> int:
    """How many requests the sandbox answered."""
    return sum(
        n for of in sandbox.books()["requests"].values() for by in of.values() for n in by.values()
    )
