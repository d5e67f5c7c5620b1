"""Two faults at once, of any groups, again and again.

The promise of each alone is a promise of both together.
"""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k D11_` is that fault

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from crawls import Crawler, ended, truth, wait_until, workers_of
from sandbox_server import Sandbox

from faults.machine import OwnServer, before_database, before_x, through, url_of
from faults.tcp_proxy import TcpProxy, Trap

TIMELINE = "/2/users/:id/tweets"
PAGE = 100


class Trouble:
    """The faults, by name.

    Each is injected into a running crawl and gives the number of crashes that it may cost.
    """

    def __init__(self, sandbox: Sandbox, server: OwnServer, x: TcpProxy, line: TcpProxy) -> None:
        self.sandbox = sandbox
        self.server = server
        self.x = x
        self.line = line
        self.chance = random.Random(11)
        self.names: dict[str, Callable[[subprocess.Popen[str]], int]] = {
            **{
                f"A {name}": self._answer(name)
                for name in (
                    "status",
                    "window",
                    "window-with-remaining",
                    "html-200",
                    "json-list-200",
                    "cut-body",
                    "truncated-json",
                    "bad-gzip",
                    "deep-json",
                    "huge-body",
                    "duplicate-page",
                    "short-page",
                    "unsorted-page",
                    "null-fields",
                    "unknown-fields",
                    "nul-text",
                    "numeric-ids",
                    "text-reset-header",
                    "reset-in-ms",
                    "no-rate-headers",
                )
            },
            "A7 silence": self._silence,
            "A9 X's line cut": lambda _: self._cut(self.x, 2),
            "D1 server crashes": self._crash_server,
            "D2 line cut": lambda _: self._cut(self.line, 0),
            "D3 answer lost": self._lose_answer,
            "D9 line stalls": self._stall,
            "P1 worker killed": self._kill_worker,
            "P2 parent killed": self._kill_parent,
            "P4 SIGTERM": self._terminate,
            "P7 worker stopped": self._stop_worker,
        }

    def _answer(self, name: str) -> Callable[[subprocess.Popen[str]], int]:
        def inject(_: subprocess.Popen[str]) -> int:
            self.sandbox.fault(name, count=1, endpoint=TIMELINE)
            # What X sells and does not deliver is not ours; what it repeats of itself neither.
            return 1 if name in ("cut-body", "truncated-json", "bad-gzip", "duplicate-page") else 0

        return inject

    def _silence(self, _: subprocess.Popen[str]) -> int:
        self.x.stall("down")
        time.sleep(0.5)
        self.x.go_on()
        return 0

    def _cut(self, proxy: TcpProxy, pages: int) -> int:
        proxy.cut()
        return pages

    def _crash_server(self, _: subprocess.Popen[str]) -> int:
        self.server.crash()
        time.sleep(self.chance.uniform(0, 1))
        self.server.start()
        return 0

    def _lose_answer(self, _: subprocess.Popen[str]) -> int:
        self.line.trap(
            Trap(
                self.chance.choice((b"COMMIT", b"INSERT INTO crawl_page", b"crawled_at =")),
                "answer",
                "cut",
            )
        )
        return 0

    def _stall(self, _: subprocess.Popen[str]) -> int:
        self.line.stall()
        time.sleep(1.0)
        self.line.go_on()
        return 0

    def _kill_worker(self, process: subprocess.Popen[str]) -> int:
        with contextlib.suppress(IndexError, psutil.Error):
            self.chance.choice(workers_of(process.pid)).kill()
        return 1

    def _kill_parent(self, process: subprocess.Popen[str]) -> int:
        family: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        wait_until(
            lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family),
            what="no orphans",
        )
        return 2

    def _terminate(self, process: subprocess.Popen[str]) -> int:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        return 2  # a page that takes longer than the grace is dropped

    def _stop_worker(self, process: subprocess.Popen[str]) -> int:
        with contextlib.suppress(IndexError, psutil.Error):
            worker = self.chance.choice(workers_of(process.pid))
            worker.suspend()
            time.sleep(0.7)
            worker.resume()
        return 0


def test_D11_pairs_of_faults_at_random(own_server: OwnServer, tmp_path: Path, measure: Any) -> None:
    _soak(own_server, tmp_path, measure, seconds=15)


@pytest.mark.slow
@pytest.mark.timeout(4000)
def test_D11_pairs_of_faults_at_random_for_half_an_hour(
    own_server: OwnServer, tmp_path: Path, measure: Any
) -> None:
    _soak(
        own_server, tmp_path, measure, seconds=float(os.environ.get("TWEETCRAWLER_SOAK_S", "1800"))
    )


def _soak(server: OwnServer, folder: Path, measure: Any, *, seconds: float) -> None:
    dsn = server.database()
    # Windows of a minute: several faults close one, and when all of them are closed a run
    # rightly waits for their end.
    with (
        Sandbox(
            "--credentials", "2", "--posts", "100-500", "--latency-ms", "20", "--window-s", "60"
        ) as sandbox,
        before_x(sandbox) as x,
        before_database(dsn) as line,
    ):
        trouble = Trouble(sandbox, server, x, line)
        chance = random.Random(7)
        handles: list[str] = []
        pairs: Counter[str] = Counter()
        allowed = rounds = 0
        behind = Crawler(
            folder / "behind",
            dsn=through(dsn, line),
            auth_csv=sandbox.auth_csv,
            api_url=url_of(x),
            settings="readTimeout = 2\ntotalTimeout = 4",
        )
        clean = Crawler.on(sandbox, folder / "clean", dsn, [])
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            rounds += 1
            # Those of before are asked for news, and some new ones keep it busy; old ones
            # rest in the end.
            handles = [*handles[-10:], *(f"soak_{rounds}_{n}" for n in range(4))]
            for handle in handles[
                :4
            ]:  # a round takes longer than three seconds: they are newer than what is covered
                sandbox.control(
                    "POST", "/sandbox/world", {"user": handle, "add_posts": 3, "age_s": 120}
                )
            behind.write_handles(handles)
            begun = _runs(dsn)
            process = behind.start()
            # A database that is away when a run wants to begin is said at once, which is no
            # survival but right.
            wait_until(
                lambda: _runs(dsn) > begun or process.poll() is not None,  # noqa: B023 - called at once
                what="the beginning of a run",
            )
            for name in chance.sample(sorted(trouble.names), 2):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.uniform(0.3, 1.2))
                allowed += trouble.names[name](process)
                pairs[name] += 1
            ended(process, expect=(0, 1, 143, -9), timeout_s=200)
            sandbox.control("DELETE", "/sandbox/faults")
            clean.write_handles(handles)
            clean.run(timeout_s=200)
            left = set(truth(sandbox, handles)) - set(clean.stored_ids())
            assert not left, f"{len(left)} posts are missing after round {rounds}: {pairs}"
        books = sandbox.books()
        print(f"{rounds} rounds: {dict(pairs)}")
        measure("rounds of two faults", rounds, at_least=1)
        measure("posts missing after any round", 0, at_most=0)
        twice = books["posts_sold"] - books["posts_distinct"]
        measure(
            "posts bought twice beyond one page a crash", max(0, twice - allowed * PAGE), at_most=0
        )
        measure("requests into a closed window", books["closed_window_requests"], at_most=0)


def _runs(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM crawl_run").fetchone()
    return row[0] if row else 0
