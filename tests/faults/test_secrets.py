"""Secrets: a canary in every place that holds one.

None of them may stand anywhere that others can read.
"""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k S1_` is that fault

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from crawls import Crawler, ended, read_until, wait_until, workers_of
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sandbox_server import Sandbox
from test_signals import Terminal

from faults.haystack import Haystack
from faults.machine import before_database, through

TIMELINE = "/2/users/:id/tweets"
HANDLES = [f"writer_{n}" for n in range(8)]
PASSWORD = "canary-password-of-the-database"
PROXY_PASSWORD = "canary-password-of-the-proxy"


class Watch:
    """Everything that `ps` shows of a process and those it starts, as long as it runs."""

    def __init__(self, pid: int) -> None:
        self.seen: set[str] = set()
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(psutil.Error):
                parent = psutil.Process(self._pid)
                for process in [parent, *parent.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        self.seen.add(" ".join(process.cmdline()) + process.name())

    def end(self) -> str:
        self._over.set()
        self._thread.join()
        return "\n".join(sorted(self.seen))


@pytest.fixture
def secret_dsn(dsn: str, haystack: Haystack) -> str:
    """The test's database for a role whose password is a canary."""
    role = f"canary_{os.getpid()}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{PASSWORD}'; "
            f"EXCEPTION WHEN duplicate_object THEN NULL; END $$".encode()
        )
    haystack.secrets |= {PASSWORD.encode(), PROXY_PASSWORD.encode()}
    return make_conninfo(dsn, user=role, password=PASSWORD)


def test_S1_nothing_shows_a_secret_while_everything_fails(
    secret_dsn: str, dsn: str, tmp_path: Path, haystack: Haystack, measure: Any
) -> None:
    """Debug logging and faults of all kinds.

    A killed and a starved worker, a lost database, Ctrl-C, SIGTERM, SIGABRT.
    """
    resource_before = resource.getrlimit(resource.RLIMIT_CORE)
    largest = resource.RLIM_INFINITY if os.geteuid() == 0 else resource_before[1]
    resource.setrlimit(resource.RLIMIT_CORE, (largest, largest))
    try:
        with (
            Sandbox("--credentials", "3", "--posts", "100-400", "--latency-ms", "15") as sandbox,
            before_database(secret_dsn) as proxy,
        ):
            crawler = Crawler.on(
                sandbox, tmp_path, through(secret_dsn, proxy), HANDLES, settings="logLevel = debug"
            )
            for fault in (
                "status",
                "html-200",
                "cut-body",
                "window-with-remaining",
                "redirect",
                "huge-body",
            ):
                sandbox.fault(
                    fault,
                    count=2,
                    probability=0.08,
                    endpoint=TIMELINE,
                    location="https://user:pw@elsewhere.example/?a=b",
                )
            sandbox.fault("unauthorized", count=2, credential="c1")
            process = crawler.start()
            watch = Watch(process.pid)
            wait_until(
                lambda: sandbox.books()["posts_sold"] > 300 and len(workers_of(process.pid)) == 2,
                what="a crawl under way",
            )
            killed, starved = workers_of(process.pid)
            killed.kill()
            used = starved.memory_info().vms
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(starved.pid, resource.RLIMIT_AS, (used + 200_000, used + 200_000))
            proxy.cut()
            time.sleep(0.5)
            with contextlib.suppress(IndexError, psutil.Error):
                workers_of(process.pid)[0].send_signal(
                    signal.SIGABRT
                )  # a core file, where one is allowed
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            result = ended(process, expect=(0, 1, 143))
            assert "DEBUG" in result.stderr, "debug logging must be on for this to mean anything"
            for number in (signal.SIGABRT, signal.SIGSEGV):
                process = crawler.start()
                wait_until(
                    lambda p=process: len(workers_of(p.pid)) == 2 or p.poll() is not None,
                    what="workers",
                )
                time.sleep(0.3)
                process.send_signal(number)
                ended(process, expect=(-number, 0, 1))
            haystack.add("what ps shows", watch.end())
            _failing_starts(sandbox, secret_dsn, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, resource_before)
    cores = [path for path in tmp_path.rglob("core*") if path.is_file()]
    measure("core files", len(cores), at_most=0)
    haystack.add_database(dsn)
    haystack.add_folder(tmp_path)
    measure("secrets looked for", len(haystack.secrets), at_least=17)
    measure("hits in this test", len(haystack.hits()), at_most=0)


def _failing_starts(sandbox: Sandbox, dsn: str, folder: Path) -> None:
    """Every way of not starting, with secrets in the settings."""
    known = conninfo_to_dict(dsn)
    wrong_port = make_conninfo(dsn, port=1)
    wrong_name = make_conninfo(dsn, dbname="nobody-has-this")
    url = f"postgresql://{known['user']}:{PASSWORD}@127.0.0.1:{known['port']}/x?sslmode=nonsense"
    for number, conninfo in enumerate(
        (wrong_port, wrong_name, url, f"host=127.0.0.1 password={PASSWORD} port=x")
    ):
        crawler = Crawler.on(sandbox, folder / f"failing-{number}", conninfo, HANDLES[:1])
        crawler.run("--logLevel", "debug", expect=(2, 3))
    broken = folder / "failing-auth"
    broken.mkdir()
    secret = sandbox.credentials[0]["consumer_secret"]
    (broken / "auth.csv").write_text(
        f'consumer_key,consumer_secret\n{secret},"{secret}\n{secret}\n'
    )
    Crawler(
        broken, dsn=dsn, auth_csv=broken / "auth.csv", api_url=sandbox.url, handles=HANDLES[:1]
    ).run(expect=2)
    (broken / "handles.txt").write_text(f"{HANDLES[0]}\n")
    bad_option = subprocess.run(
        [*_program(), "--dbpass", PASSWORD], capture_output=True, text=True, cwd=folder, check=False
    )
    assert bad_option.returncode == 2
    assert PASSWORD not in bad_option.stdout + bad_option.stderr


def _program() -> list[str]:
    from crawls import PROGRAM

    return PROGRAM


def test_S1_a_terminal_shows_no_secret(
    secret_dsn: str, dsn: str, tmp_path: Path, haystack: Haystack, measure: Any
) -> None:
    with Sandbox("--credentials", "2", "--posts", "100-300", "--latency-ms", "15") as sandbox:
        sandbox.fault("status", endpoint=TIMELINE)
        Crawler.on(sandbox, tmp_path, secret_dsn, HANDLES, settings="logLevel = debug")
        terminal = Terminal(tmp_path, "-c", "tweet.ini", "--yes")
        wait_until(lambda: sandbox.books()["posts_sold"] > 100, what="a crawl under way")
        terminal.type("\x03")
        terminal.end(15)
        haystack.add("the terminal", terminal.shown)
        assert len(terminal.shown) > 500
    measure("hits on a terminal", len(haystack.hits()), at_most=0)


def test_S1_a_proxy_s_password_is_no_more_shown_than_a_key(
    secret_dsn: str, dsn: str, tmp_path: Path, haystack: Haystack, measure: Any
) -> None:
    with Sandbox("--credentials", "1", "--posts", "50-100") as sandbox:
        keys = sandbox.credentials[0]
        auth = tmp_path / "auth.csv"
        columns = [
            "consumer_key",
            "consumer_secret",
            "access_token",
            "access_token_secret",
            "bearer_token",
        ]
        proxy = f"http://user:{PROXY_PASSWORD}@127.0.0.1:9"  # nobody listens there
        auth.write_text(
            ",".join([*columns, "proxy"])
            + "\n"
            + ",".join([*(keys[c] for c in columns), proxy])
            + "\n"
        )
        auth.chmod(0o600)
        crawler = Crawler(
            tmp_path,
            dsn=secret_dsn,
            auth_csv=auth,
            api_url=sandbox.url,
            handles=HANDLES[:2],
            settings="logLevel = debug",
        )
        process = crawler.start()
        haystack.add("what it said", read_until(process, "proxy"))
        process.send_signal(signal.SIGTERM)
        ended(process, expect=(143, 1))
    measure("hits of a proxy's password", len(haystack.hits()), at_most=0)


def test_S1_exported_files_and_csv_hold_no_secret(
    sandbox_csv: Path, dsn: str, tmp_path: Path, haystack: Haystack, measure: Any
) -> None:
    haystack.add_folder(sandbox_csv)
    assert any(path.suffix == ".csv" for path in sandbox_csv.rglob("*"))
    measure("hits in CSV files and their bookkeeping", len(haystack.hits()), at_most=0)


@pytest.fixture
def sandbox_csv(tmp_path: Path) -> Path:
    """The folder of a crawl into CSV files, and an export of a crawl into a database."""
    with Sandbox("--credentials", "2", "--posts", "20-60") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, None, HANDLES[:3])
        crawler.run("--csv")
    return tmp_path


def test_S1_an_auth_file_that_others_can_read_is_complained_of(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    with Sandbox("--credentials", "1", "--posts", "1-5") as sandbox:
        sandbox.auth_csv.chmod(0o644)
        result = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:1]).run()
    measure("warnings", result.stderr.count("chmod 600"), at_least=1)
