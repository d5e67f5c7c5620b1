"""The stage of every measurement: PostgreSQL, the sandbox, and CPU seconds."""

from __future__ import annotations

import csv
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from crawls import Crawler as Crawler  # noqa: E402 - it lies beside the tests
from sandbox_server import Sandbox as Sandbox  # noqa: E402

from tweetcrawler.db import Database  # noqa: E402
from tweetcrawler.local import embedded  # noqa: E402

POSTS_OF_A_USER = 3_200
FAST = (
    "--fast",
    "--no-gzip",
    "--plan",
    "unlimited",
    "--short-pages",
    "0",
    "--posts",
    f"{POSTS_OF_A_USER}-{POSTS_OF_A_USER}",
)

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


@dataclass(frozen=True)
class Cost:
    """Cost of a piece of work.

    Wall seconds, and CPU seconds of the program, the sandbox and PostgreSQL.
    """

    wall_s: float
    program_s: float
    sandbox_s: float = 0.0
    postgres_s: float = 0.0

    @property
    def cpu_s(self) -> float:
        """All CPU seconds together."""
        return self.program_s + self.sandbox_s + self.postgres_s


class Server:
    """A PostgreSQL of its own with its factory settings, so with fsync on."""

    def __init__(self, dsn: str, postmaster: psutil.Process) -> None:
        self.dsn = dsn
        self._postmaster = postmaster

    @contextmanager
    def database(self) -> Iterator[str]:
        """The address of a new database at the newest revision; it is dropped afterwards."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            dsn = make_conninfo(self.dsn, dbname=name)
            try:
                Database(dsn).upgrade()
                yield dsn
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def checkpoint(self) -> None:
        """Writes what lies about, so that one measurement does not pay for the one before it."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def wal_bytes(self) -> int:
        """The bytes of WAL written since the server was made."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def cpu_s(self) -> float:
        """The CPU seconds of the server and of all of its processes, ended ones too."""
        total = sum(self._postmaster.cpu_times()[:4])
        for child in self._postmaster.children(recursive=True):
            try:
                total += sum(child.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return total


@contextmanager
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this machine.

    `TWEETCRAWLER_TEST_DSN` names one; without it the private one is started.
    """
    given = os.environ.get("TWEETCRAWLER_TEST_DSN")
    if given:
        yield Server(given, _postmaster(given))
        return
    # Not below a private folder: root's server runs as somebody who may not pass through it.
    folder = Path(tempfile.mkdtemp(prefix="tweetcrawler-bench-"))
    folder.chmod(0o755)
    try:
        server = embedded.Server(folder / "data")
        with server.hold():
            # The role of the crawl may not create databases.
            dsn = server.superuser_url() or ""
            yield Server(dsn, _postmaster(dsn))
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postmaster(dsn: str) -> psutil.Process:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        parent = psutil.Process(row[0]).parent()
    assert parent is not None
    return parent


def handles(count: int, prefix: str) -> list[str]:
    """Handles that the fast sandbox has 3,200 posts of, others for each prefix."""
    return [f"{prefix}_{number}" for number in range(count)]


@contextmanager
def crawler(sandbox: Sandbox, dsn: str, names: Sequence[str], *, threads: int) -> Iterator[Crawler]:
    """A folder with a tweet.ini for the sandbox and the database."""
    with tempfile.TemporaryDirectory(prefix="tweetcrawler-bench-") as folder:
        yield Crawler.on(sandbox, Path(folder), dsn, names, threads=threads)


def run(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environ: dict[str, str] | None = None,
    sandbox: Sandbox | None = None,
    server: Server | None = None,
) -> Cost:
    """Runs a program to its end and counts what it, its processes and the servers spent.

    **Errors**: RuntimeError with what it printed when it fails.
    """
    ctypes.CDLL(None).prctl(
        _SUBREAPER, 1
    )  # processes that the program leaves behind are counted here
    known = _children()
    before = _spent(sandbox, server)
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
        )
        code = process.wait()
        wall_s = time.perf_counter() - begun
        if code:
            printed.seek(0)
            raise RuntimeError(f"{command[0]} ended with {code}:\n{printed.read()[-4000:]}")
    _reap(known)
    program_s, sandbox_s, postgres_s = (
        after - b for after, b in zip(_spent(sandbox, server), before, strict=True)
    )
    return Cost(wall_s, program_s, sandbox_s, postgres_s)


def _reap(known: set[int]) -> None:
    """Waits for processes that an ended program left, so that they are counted.

    Those of a process pool end after their parent.
    """
    ends_at = time.monotonic() + 10.0
    while (left := _children() - known) and time.monotonic() < ends_at:
        for pid in left:
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def _spent(sandbox: Sandbox | None, server: Server | None) -> tuple[float, float, float]:
    own = os.times()
    return (
        own.children_user + own.children_system,
        sum(psutil.Process(sandbox.process.pid).cpu_times()[:2]) if sandbox else 0.0,
        server.cpu_s() if server else 0.0,
    )


def bearer(auth_csv: Path) -> str:
    """The first bearer token of an auth CSV."""
    with auth_csv.open(newline="") as file:
        return next(csv.DictReader(file))["bearer_token"]
