"""The crawler as its operator runs it.

A folder with tweet.ini, a process, a database to look into.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import psycopg
from busy import Patience, allowed_s
from sandbox_server import Sandbox

PROGRAM = [sys.executable, "-m", "tweetcrawler"]
ENDS_S = 120.0


class Crawler:
    """One operator's folder. `run` runs the program to its end, `start` leaves it running."""

    def __init__(
        self,
        folder: Path,
        *,
        dsn: str | None = None,
        auth_csv: Path | None = None,
        api_url: str | None = None,
        handles: Iterable[str] = (),
        threads: int | None = 2,
        settings: str = "",
    ) -> None:
        self.folder = folder
        self.dsn = dsn
        folder.mkdir(exist_ok=True, parents=True)
        self.write_handles(handles)
        lines = [
            "[Database]",
            f'dbname = "{dsn}"' if dsn else "",
            "[Twitter]",
            "handlesFile = handles.txt",
        ]
        lines += [f"authCSV = {auth_csv}"] if auth_csv else []
        lines += [f"apiURL = {api_url}"] if api_url else []
        lines += ["[System]"] + ([f"Threads = {threads}"] if threads else []) + [settings]
        (folder / "tweet.ini").write_text("\n".join(lines) + "\n")

    @classmethod
    def on(
        cls, sandbox: Sandbox, folder: Path, dsn: str | None, handles: Iterable[str], **more: Any
    ) -> Crawler:
        """A crawler of the sandbox with all of its credentials."""
        return cls(
            folder, dsn=dsn, auth_csv=sandbox.auth_csv, api_url=sandbox.url, handles=handles, **more
        )

    def write_handles(self, handles: Iterable[str]) -> None:
        (self.folder / "handles.txt").write_text("".join(f"{handle}\n" for handle in handles))

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, "-c", "tweet.ini", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **more,
        )

    def run(
        self, *arguments: str, expect: int | Sequence[int] = 0, timeout_s: float = ENDS_S
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        return ended(process, expect=expect, timeout_s=timeout_s)

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        assert self.dsn is not None
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement.encode()).fetchall()

    def stored_ids(self) -> list[int]:
        return [row[0] for row in self.select("SELECT id FROM tweet_articles_tweepy ORDER BY id")]


def ended(
    process: subprocess.Popen[str], *, expect: int | Sequence[int] = 0, timeout_s: float = ENDS_S
) -> subprocess.CompletedProcess[str]:
    """Waits for the program to end and checks its exit code.

    The output is shown when the code is another one.
    """
    patience = Patience(timeout_s)
    while True:
        try:
            out, err = process.communicate(timeout=5)
            break
        except subprocess.TimeoutExpired:
            if patience.lasts:
                continue
        kill_tree(process.pid)
        out, err = process.communicate()
        raise AssertionError(f"still running after {timeout_s} s\n{out}\n{err}")
    wanted = [expect] if isinstance(expect, int) else expect
    assert process.returncode in wanted, f"exit {process.returncode}, not {expect}\n{out}\n{err}"
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes of a running crawl, without the helpers of multiprocessing."""
    try:
        family = psutil.Process(pid).children(recursive=True)
        return [
            p
            for p in family
            if not p.children() and "resource_tracker" not in " ".join(p.cmdline())
        ]
    except psutil.NoSuchProcess:
        return []


def kill_tree(pid: int) -> None:
    """SIGKILL to a process that the test started, and to its children."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def wait_until(condition: Any, *, timeout_s: float = 20.0, what: str = "") -> None:
    patience = Patience(timeout_s)
    while not condition():
        assert patience.lasts, f"did not happen within {timeout_s} s: {what}"
        time.sleep(0.02)


def wait_for_sales(process: subprocess.Popen[str], sandbox: Sandbox, posts: int) -> bool:
    """Waits until X has sold so many more posts; False if the program ended before.

    Work is at a known point then, however long the machine took to get there.
    """
    before = sandbox.books()["posts_sold"]
    wait_until(
        lambda: process.poll() is not None or sandbox.books()["posts_sold"] - before >= posts,
        timeout_s=60,
        what=f"{posts} posts sold",
    )
    return process.poll() is None


def killed_after_sales(process: subprocess.Popen[str], sandbox: Sandbox, posts: int) -> bool:
    """Kills a program and its workers in the midst of its work; False if it had ended."""
    in_time = wait_for_sales(process, sandbox, posts)
    kill_tree(process.pid)
    process.communicate()
    return in_time and process.returncode == -signal.SIGKILL


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a program says until a line of it holds this text."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"ended without {text!r}:\n{said}")


def wait_for_silence(asked: Callable[[], int], *, seconds: float = 0.5) -> int:
    """Waits until nobody has asked X for a while; gives how often it was asked until then."""
    before, now = -1, asked()
    while before != now:
        time.sleep(allowed_s(seconds))
        before, now = now, asked()
    return now


def truth(sandbox: Sandbox, handles: Iterable[str]) -> list[int]:
    """All ids that the sandbox could still sell of these users, ascending."""
    return sorted(int(i) for handle in handles for i in sandbox.truth_ids(handle)["reachable"])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
