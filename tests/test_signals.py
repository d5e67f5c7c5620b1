"""How a run is ended: by SIGTERM, by Ctrl-C once or twice on a real terminal."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from busy import Patience, allowed_s
from crawls import PROGRAM, Crawler, ended, kill_tree, truth, wait_until, workers_of
from sandbox_server import Sandbox

HANDLES = [f"writer_{n}" for n in range(20)]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "300-900", "--latency-ms", "30") as running:
        yield running


class Terminal:
    """The crawler on a pseudo-terminal of its own, in which Ctrl-C can be typed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.shown = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str, timeout_s: float = 20) -> None:
        patience = Patience(timeout_s)
        os.set_blocking(self.master, False)
        while text.encode() not in self.shown:
            assert patience.lasts, f"{text!r} was not shown: {self.shown!r}"
            self._read()
            time.sleep(0.02)

    def end(self, timeout_s: float) -> int:
        patience = Patience(timeout_s)
        os.set_blocking(self.master, False)
        while self.process.poll() is None:
            assert patience.lasts, f"did not end within {timeout_s} s: {self.shown[-500:]!r}"
            self._read()
            time.sleep(0.02)
        self._read()
        os.close(self.master)
        return self.process.returncode

    def _read(self) -> None:
        try:
            while part := os.read(self.master, 65536):
                self.shown += part
        except OSError:  # nothing there, or the other end is closed
            return


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def nothing_is_lost(crawler: Crawler, sandbox: Sandbox) -> None:
    assert len(crawler.stored_ids()) == sandbox.books()["posts_sold"], "what was bought is stored"
    crawler.run()
    assert crawler.stored_ids() == truth(sandbox, HANDLES)
    assert sandbox.books()["posts_sold"] == sandbox.books()["posts_distinct"]


def test_sigterm_finishes_the_pages_under_way_and_reports(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    process = crawler.start()
    wait_until(lambda: sandbox.books()["posts_sold"] > 500, what="a crawl under way")
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = ended(process, expect=143)
    assert time.monotonic() - asked_at <= allowed_s(10)
    assert "ended early" in done.stdout
    assert "new rows" in done.stdout
    nothing_is_lost(crawler, sandbox)


def test_ctrl_c_once_saves_and_reports(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    terminal = Terminal(tmp_path, "-c", "tweet.ini", "--yes")
    wait_until(lambda: sandbox.books()["posts_sold"] > 500, what="a crawl under way")
    terminal.type("\x03")
    assert terminal.end(10) == 130
    assert b"ended early" in terminal.shown
    assert b"Traceback" not in terminal.shown
    nothing_is_lost(crawler, sandbox)


def test_ctrl_c_twice_ends_at_once_and_leaves_no_process(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    sandbox.fault("black-hole", for_s=60)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    terminal = Terminal(tmp_path, "-c", "tweet.ini", "--yes")
    wait_until(lambda: len(workers_of(terminal.process.pid)) >= 2, what="workers")
    wait_until(lambda: sandbox.books()["faults"].get("black-hole", 0), what="a silent X")
    family = workers_of(terminal.process.pid)
    terminal.type("\x03")
    terminal.read_until("Ctrl-C again ends at once")
    asked_at = time.monotonic()
    terminal.type("\x03")
    assert terminal.end(5) == 130
    assert time.monotonic() - asked_at <= allowed_s(2)
    wait_until(lambda: not any(p.is_running() for p in family), timeout_s=5, what="no orphans")
    assert b"Traceback" not in terminal.shown
    sandbox.control("DELETE", "/sandbox/faults")
    assert crawler.stored_ids() == []


def test_a_terminal_shows_what_each_credential_does(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    terminal = Terminal(tmp_path, "-c", "tweet.ini", "--yes")
    terminal.read_until("targets done")
    terminal.read_until("requesting")
    terminal.type("\x03")
    terminal.end(10)


def test_keys_are_asked_for_on_a_terminal_and_not_shown(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler(tmp_path, dsn=dsn, api_url=sandbox.url, handles=HANDLES[:1], threads=1)
    terminal = Terminal(tmp_path, "-c", "tweet.ini", "--yes")
    keys = sandbox.credentials[0]
    columns = ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
    for column in columns:
        terminal.read_until(column.replace("_", " "))
        terminal.type(keys[column] + "\n")
    assert terminal.end(30) == 0
    assert crawler.stored_ids() == truth(sandbox, HANDLES[:1])
    for column in columns:
        assert keys[column].encode() not in terminal.shown


# --- from the first millisecond -------------------------------------------------------------------


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files; a path of pytest is too long for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def _catches(pid: int, number: int) -> bool:
    found = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & 1 << (number - 1))


def begun(crawler: Crawler, folder: Path) -> subprocess.Popen[str]:
    """A crawl at its first line or a little later.

    Python catches Ctrl-C as it starts, the program's first line lets it go, and from its
    second moment on it catches SIGTERM, too.
    """
    process = crawler.start(env=os.environ | {"TMPDIR": str(folder)})
    wait_until(lambda: _catches(process.pid, signal.SIGINT), what="Python")
    wait_until(
        lambda: not _catches(process.pid, signal.SIGINT) or _catches(process.pid, signal.SIGTERM),
        what="the first line",
    )
    return process


def ends_in_silence(
    sandbox: Sandbox, crawler: Crawler, folder: Path, moments: Iterable[float]
) -> None:
    """To all processes of the run, as a terminal and a service manager send it."""
    sandbox.fault("delay", delay_s=0.5)  # there is work left at each moment
    for at in moments:
        for number in (signal.SIGINT, signal.SIGTERM):
            process = begun(crawler, folder)
            time.sleep(at)
            os.killpg(process.pid, number)
            done = ended(process, expect=(-number, 128 + number))
            lines = [line for line in done.stderr.splitlines() if line and line[0] not in "2t"]
            assert lines == [], f"after {at} s: {done.stderr}"
            assert list(folder.rglob("*")) == [], f"signal {number} after {at} s: {done.stderr}"


def test_a_signal_at_any_moment_leaves_no_traceback_and_no_file(
    sandbox: Sandbox, dsn: str, tmp_path: Path, temporary: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    ends_in_silence(sandbox, crawler, temporary, [0.0, 0.25, 0.5])


@pytest.mark.slow
def test_a_signal_at_a_hundred_moments_leaves_no_traceback_and_no_file(
    sandbox: Sandbox, dsn: str, tmp_path: Path, temporary: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    ends_in_silence(sandbox, crawler, temporary, [n / 20 for n in range(50)])


def test_what_a_killed_run_left_is_removed_by_the_next(
    sandbox: Sandbox, dsn: str, tmp_path: Path, temporary: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3])
    sandbox.fault("delay", delay_s=0.5)
    process = begun(crawler, temporary)
    wait_until(lambda: sandbox.books()["posts_sold"] > 0, what="a crawl under way")
    kill_tree(process.pid)
    process.communicate()
    sandbox.control("DELETE", "/sandbox/faults")
    assert list(temporary.iterdir()) != []
    ended(crawler.start(env=os.environ | {"TMPDIR": str(temporary)}))
    assert list(temporary.iterdir()) == []


IN_A_CALLBACK = """
import os, signal, sys, time, weakref
from tweetcrawler.signals import TERMINATED, Terminated, unwinding

class Thing: ...

def at_its_end(_):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

thing = Thing()
mark = weakref.ref(thing, at_its_end)
try:
    with unwinding():
        try:
            del thing
            time.sleep(60)
        finally:
            print("cleaned", flush=True)
except Terminated:
    sys.exit(TERMINATED)
"""


def test_a_signal_in_a_callback_unwinds_what_is_under_way() -> None:
    """Python lets no exception out of a callback; the files of an export must still go."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "cleaned\n", "")
