"""SIGTERM and Ctrl-C in commands other than a crawl, from their first millisecond on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from crawls import PROGRAM, Crawler, ended, truth, wait_until
from sandbox_server import Sandbox
from test_signals import _catches

from tweetcrawler import signals

COMMANDS = {
    "sandbox": ("sandbox", "--port", "0"),
    "demo": ("demo",),
    "import": ("import", "posts.jsonl", "-c", "tweet.ini"),
    "export": ("export", "posts.csv", "-c", "tweet.ini"),
    "hydrate": ("hydrate", "ids.txt", "-c", "tweet.ini", "--yes"),
    "search": ("search", "a", "-c", "tweet.ini", "--yes"),
    "watch": ("watch", "-c", "tweet.ini", "--yes"),
}
STEPS = 40
# The seconds in which a command has done all that it does.
LONGEST_S = {"demo": 8.0}
ROWS = """
INSERT INTO tweet_articles_tweepy (id, text) SELECT n, 'a post' FROM generate_series(1, 60000) n
"""
HANDLES = [f"writer_{n}" for n in range(8)]
MADE = {"tweet.ini", "handles.txt", "ids.txt", "posts.jsonl", "posts.csv", "import-rejects.jsonl"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "100-200") as running:
        running.fault("delay", delay_s=0.3, for_s=3600)  # there is work left at each moment
        yield running


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files; a path of pytest is too long for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(sandbox: Sandbox, dsn: str, tmp_path: Path) -> Path:
    Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    ids = truth(sandbox, HANDLES[:4])
    (tmp_path / "ids.txt").write_text("".join(f"{i}\n" for i in ids))
    user = {"id_str": "5", "screen_name": "Ada", "name": "Ada"}
    posts = ({"id_str": str(n), "text": "a post", "user": user} for n in range(1, 20_000))
    with psycopg.connect(dsn) as connection:  # enough for an export of a second
        connection.execute(ROWS)
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    return tmp_path


def ends_in_silence(command: str, folder: Path, temporary: Path, at: float, number: int) -> None:
    """To all processes of the command, as a terminal and a service manager send it."""
    process = subprocess.Popen(
        [*PROGRAM, *COMMANDS[command]],
        cwd=folder,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: _catches(process.pid, signal.SIGINT), what="Python")
    wait_until(
        lambda: not _catches(process.pid, signal.SIGINT) or _catches(process.pid, signal.SIGTERM),
        what="the first line",
    )
    time.sleep(at)
    if process.poll() is None:
        os.killpg(process.pid, number)
    done = ended(process, expect=(-number, 128 + number, 0))
    said = f"{command}, signal {number} after {at} s: {done.stdout}{done.stderr}"
    lines = [line for line in done.stderr.splitlines() if line and line[0] not in "2t"]
    assert lines == [], said
    assert "Traceback" not in done.stdout, said
    assert list(temporary.rglob("*")) == [], said
    assert {path.name for path in folder.iterdir()} <= MADE, said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_leaves_no_traceback_and_no_file(
    folder: Path, temporary: Path, command: str
) -> None:
    ends_in_silence(command, folder, temporary, 0.0, signal.SIGINT)
    ends_in_silence(command, folder, temporary, 0.4, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_at_any_moment_leaves_no_traceback_and_no_file(
    folder: Path, temporary: Path, command: str
) -> None:
    longest_s = LONGEST_S.get(command, 2.0)
    for step in range(STEPS):
        for number in (signal.SIGINT, signal.SIGTERM):
            at = longest_s * step / STEPS
            ends_in_silence(command, folder, temporary, at, number)


@pytest.mark.parametrize(
    ("raised", "code"), [(signals.Terminated, 143), (KeyboardInterrupt, 130), (ValueError, None)]
)
def test_a_signal_while_a_class_is_made_is_known_as_one(
    raised: type[BaseException], code: int | None
) -> None:
    class Odd:
        def __set_name__(self, owner: type, name: str) -> None:
            raise raised

    with pytest.raises((raised, RuntimeError)) as found:
        type("Made", (), {"odd": Odd()})
    assert signals.code_of(found.value) == code


def test_a_program_that_loaded_multiprocessing_first_ends_in_silence(temporary: Path) -> None:
    program = (
        "import multiprocessing.util\n"
        "from tweetcrawler import scratch\n"
        "scratch.use()\n"
        "multiprocessing.util.get_temp_dir()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert list(temporary.iterdir()) == []
