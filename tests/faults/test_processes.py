"""Faults of processes: whoever is killed, stopped or doubled, nothing is lost and hardly
anything bought twice.
"""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k P1_` is that fault

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import psutil
import psycopg
import pytest
from busy import allowed_s, window_s
from crawls import Crawler, alive, ended, truth, wait_for_silence, wait_until, workers_of
from databases import server_folder
from sandbox_server import Sandbox
from test_signals import Terminal

from faults.machine import OwnServer, before_database, before_x, through, url_of, with_a_clock
from faults.tcp_proxy import Trap
from faults.test_api import longest_pause
from tweetcrawler import leases, settings
from tweetcrawler.db import Database
from tweetcrawler.run import Job
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.work.kinds import CRAWL, Worker
from tweetcrawler.work.worker import start_worker

TIMELINE = "/2/users/:id/tweets"
HANDLES = [f"writer_{n}" for n in range(12)]
PAGE = 100  # posts that one request buys at the most: what one crash may cost


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "200-500", "--latency-ms", "20") as running:
        yield running


def missing(crawler: Crawler, sandbox: Sandbox, handles: list[str]) -> int:
    return len(set(truth(sandbox, handles)) ^ set(crawler.stored_ids()))


def bought_twice(sandbox: Sandbox) -> int:
    books = sandbox.books()
    return int(books["posts_sold"]) - int(books["posts_distinct"])


def requests(sandbox: Sandbox, endpoint: str = TIMELINE) -> int:
    return sum(sum(of.get(endpoint, {}).values()) for of in sandbox.books()["requests"].values())


def owner_of(port: int, family: list[psutil.Process]) -> psutil.Process:
    """The process whose connection has this local port."""
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(c.laddr and c.laddr.port == port for c in process.net_connections("tcp")):
                return process
    raise AssertionError(f"no process has the port {port}")


# -- P1: a worker is killed ----------------------------------------------------------

# Name of the point -> (text of the statement, the moment); the worker is killed while it is
# held there.
POINTS: dict[str, tuple[bytes, Literal["before", "answer"]]] = {
    "a lookup bought, not saved": (b"t SET same_as", "before"),
    "the ledger locked": (b"FOR UPDATE OF b", "answer"),
    "the ledger changed, not known to be": (b"COMMIT", "answer"),
    "a target claimed": (b"lease_until = clock_timestamp() + ", "answer"),
    "a page bought, not saved": (b"INSERT INTO crawl_page", "before"),
    "a page saved, not known to be": (b"INSERT INTO crawl_page", "answer"),
    "a walk at its end": (b"crawled_at = CASE", "before"),
    "a walk ended, not known to be": (b"crawled_at = CASE", "answer"),
}


def test_P1_a_worker_killed_at_each_named_point(dsn: str, tmp_path: Path, measure: Any) -> None:
    # So many, and X so slow, that there is work left at the last point.
    handles = [f"writer_{n}" for n in range(60)]
    recoveries = []
    with (
        # Limits of which permits come in small blocks, so that the ledger is changed often.
        Sandbox(
            "--credentials",
            "2",
            "--posts",
            "200-500",
            "--limit",
            "/2/users/:id/tweets=900/900",
        ) as sandbox,
        before_database(dsn) as proxy,
    ):
        sandbox.fault("delay", delay_s=0.3)
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        behind = Crawler.on(sandbox, tmp_path / "behind", through(dsn, proxy), handles)
        traps = [Trap(pattern, moment, "hold") for pattern, moment in POINTS.values()]
        process = None
        for trap in traps:
            proxy.trap(trap)
            if process is None:
                process = behind.start()
            wait_until(
                trap.sprung.is_set, timeout_s=30, what=f"the point {trap.pattern!r} {trap.moment}"
            )
            before = requests(sandbox)
            owner_of(trap.client_port, workers_of(process.pid)).kill()
            killed_at = time.monotonic()
            trap.let_go.set()
            wait_until(
                lambda p=process, n=before: (
                    p.poll() is not None or (requests(sandbox) > n and len(workers_of(p.pid)) == 2)
                ),
                what="a new worker and more pages",
            )
            recoveries.append(time.monotonic() - killed_at)
            assert process.poll() is None, "there is work left"
        assert process is not None
        sandbox.control("DELETE", "/sandbox/faults")
        if ended(process, expect=(0, 1)).returncode:
            # A handle that was at hand at three of the points was taken for the reason.
            behind.run()
        print({name: f"{s:.2f} s" for name, s in zip(POINTS, recoveries, strict=True)})
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        measure(
            f"posts bought twice in {len(POINTS)} kills",
            bought_twice(sandbox),
            at_most=len(POINTS) * PAGE,
        )
        measure.seconds("longest recovery in seconds", max(recoveries), at_most=5)
        measure(
            "requests into a closed window", sandbox.books()["closed_window_requests"], at_most=0
        )


def test_P1_workers_killed_at_random_points(dsn: str, tmp_path: Path, measure: Any) -> None:
    _random_kills(dsn, tmp_path, measure, kills=8, users=10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_P1_workers_killed_at_two_hundred_random_points(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    _random_kills(dsn, tmp_path, measure, kills=200, users=90)


def _random_kills(dsn: str, folder: Path, measure: Any, *, kills: int, users: int) -> None:
    chance = random.Random(5)
    handles = [f"writer_{n}" for n in range(users)]
    with Sandbox("--credentials", "2", "--posts", "200-900", "--latency-ms", "30") as sandbox:
        crawler = Crawler.on(sandbox, folder, dsn, handles)
        done = runs = 0
        finished = False
        while not finished:
            runs += 1
            process = crawler.start()
            while done < kills and process.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                    chance.choice(workers_of(process.pid)).kill()
                    done += 1
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.uniform(0.05, 0.6))
            finished = ended(process, expect=(0, 1), timeout_s=900).returncode == 0
            if finished and done < kills:  # the world is used up before the kills are
                for handle in handles[:20]:
                    sandbox.control(
                        "POST", "/sandbox/world", {"user": handle, "add_posts": 120, "age_s": 120}
                    )
                finished = runs > 60
        measure("kills", done, at_least=kills)
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        measure(f"posts bought twice in {done} kills", bought_twice(sandbox), at_most=done * PAGE)
        measure(
            "requests into a closed window", sandbox.books()["closed_window_requests"], at_most=0
        )


def test_P1_a_lease_of_a_machine_that_is_gone_ends_within_a_minute(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    """Another machine cannot see that the holder is dead; it waits for the lease, here the
    rest of one.
    """
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:2])
    crawler.run()
    sandbox.control("POST", "/sandbox/world", {"user": HANDLES[0], "add_posts": 5, "age_s": 120})
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE crawl_target SET lease_owner = '1|another-machine|1|1|x', "
            "lease_until = clock_timestamp() + interval '3 s' WHERE handle = %s",
            [HANDLES[0]],
        )
        [(longest,)] = connection.execute("SELECT extract(epoch FROM interval '60 s')").fetchall()
    begun = time.monotonic()
    crawler.run()
    measure.seconds(
        "seconds waited for the last 3 of a lease", time.monotonic() - begun, at_most=3 + 5
    )
    assert longest == 60
    measure("posts missing", missing(crawler, sandbox, HANDLES[:2]), at_most=0)


# -- P2, P3 --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["workers wait for X", "workers wait for the database"])
def test_P2_a_killed_parent_leaves_no_process(
    dsn: str, tmp_path: Path, measure: Any, moment: str
) -> None:
    with (
        Sandbox("--credentials", "2", "--posts", "200-500", "--latency-ms", "20") as sandbox,
        before_database(dsn) as proxy,
    ):
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
        behind = Crawler.on(sandbox, tmp_path / "behind", through(dsn, proxy), HANDLES)
        process = behind.start()
        wait_until(
            lambda: requests(sandbox) > 4 and len(workers_of(process.pid)) == 2,
            what="a crawl under way",
        )
        if moment.endswith("X"):
            sandbox.fault("black-hole", for_s=600)
            wait_until(
                lambda: sandbox.books()["faults"].get("black-hole", 0) >= 2,
                what="both workers waiting",
            )
        else:
            proxy.stall()
            time.sleep(0.3)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3
        process.kill()
        killed_at = time.monotonic()
        process.communicate()
        wait_until(
            lambda: not any(alive(p.pid) for p in family), timeout_s=15, what="the end of all"
        )
        measure.seconds(
            f"seconds until nobody is left, {moment}", time.monotonic() - killed_at, at_most=5
        )
        sandbox.control("DELETE", "/sandbox/faults")
        proxy.go_on()
        proxy.cut()
        crawler.run()
        measure(
            f"posts missing after the next run, {moment}",
            missing(crawler, sandbox, HANDLES),
            at_most=0,
        )
        measure(f"posts bought twice, {moment}", bought_twice(sandbox), at_most=2 * PAGE)


def test_P3_a_worker_out_of_memory_takes_nobody_with_it(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    # Hundreds of pages, so that neither worker can end by being done.
    handles = [f"writer_{n}" for n in range(50)]
    with Sandbox("--credentials", "2", "--posts", "200-500", "--latency-ms", "20") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        process = crawler.start()
        # At its first page already: later it may do for long with what it freed.
        wait_until(
            lambda: requests(sandbox) > 0 and len(workers_of(process.pid)) == 2,
            what="a crawl under way",
        )
        victim, other = workers_of(process.pid)
        # As `ulimit -v`, and below what it has, so that it does not get one block more.
        limit = psutil.Process(victim.pid).memory_info().vms // 2
        resource.prlimit(victim.pid, resource.RLIMIT_AS, (limit, limit))
        limited_at = time.monotonic()
        wait_until(lambda: not alive(victim.pid), what="the end of the victim")
        print(f"the worker ended {time.monotonic() - limited_at:.2f} s after its limit")
        measure("other workers that ended with it", int(not alive(other.pid)), at_most=0)
        wait_until(
            lambda: (
                process.poll() is not None
                or len({p.pid for p in workers_of(process.pid)} - {victim.pid}) == 2
            ),
            what="a worker in its place",
        )
        pids = {p.pid for p in workers_of(process.pid)}
        assert other.pid in pids, "the other worker is the process that it was"
        assert victim.pid not in pids
        longest = _longest_pause_in_sales(sandbox, process)
        result = ended(process)
        print(result.stderr)
        assert result.stderr.count("process died") == 1, "the limit kills one, no other with it"
        measure("tracebacks", result.stderr.count("Traceback"), at_most=0)
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        measure("posts bought twice", bought_twice(sandbox), at_most=PAGE)
        measure.seconds("longest pause of the whole crawl in seconds", longest, at_most=1.5)


def _longest_pause_in_sales(sandbox: Sandbox, process: subprocess.Popen[str]) -> float:
    last, longest, count = time.monotonic(), 0.0, requests(sandbox)
    while process.poll() is None and len(workers_of(process.pid)) > 0:
        now, more = time.monotonic(), requests(sandbox)
        if more > count:
            longest, last, count = max(longest, now - last), now, more
        time.sleep(0.02)
    return longest


# -- P4, P5: the operator ends it ----------------------------------------------------


def _permits_lost(crawler: Crawler, sandbox: Sandbox) -> int:
    """What X would still allow in its windows and the ledger will not lend."""
    open_windows = [w for w in sandbox.books()["windows"] if w["length"] == "15min"]
    allowed = sum(w["limit"] - w["used"] for w in open_windows)
    [(lent_out,)] = crawler.select(
        'SELECT sum(remaining) FROM api_bucket WHERE "limit" IS NOT NULL'
    )
    return int(allowed - lent_out)


def test_P4_sigterm_finishes_pages_and_gives_everything_back(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    process = crawler.start()
    wait_until(lambda: sandbox.books()["posts_sold"] > 600, what="a crawl under way")
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    result = ended(process, expect=143)
    measure.seconds("seconds until the end", time.monotonic() - asked_at, at_most=10)
    assert "ended early" in result.stdout
    [(kept,)] = crawler.select(
        "SELECT count(*) FROM crawl_target WHERE lease_until > clock_timestamp()"
    )
    measure("leases that were kept", kept, at_most=0)
    measure("permits that were kept", _permits_lost(crawler, sandbox), at_most=0)
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice", bought_twice(sandbox), at_most=0)
    measure(
        "permits that were kept by a run that was done", _permits_lost(crawler, sandbox), at_most=0
    )


def test_P4_sigterm_while_nothing_answers(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    process = crawler.start()
    wait_until(lambda: requests(sandbox) > 4, what="a crawl under way")
    sandbox.fault("black-hole", for_s=60)
    wait_until(
        lambda: sandbox.books()["faults"].get("black-hole", 0) >= 2, what="both workers waiting"
    )
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ended(process, expect=143)
    measure.seconds("seconds until the end, X silent", time.monotonic() - asked_at, at_most=10)


def test_P5_ctrl_c_once_ends_in_order_and_twice_at_once(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    terminal = Terminal(tmp_path, "-c", "tweet.ini", "--yes")
    wait_until(lambda: sandbox.books()["posts_sold"] > 600, what="a crawl under way")
    asked_at = time.monotonic()
    terminal.type("\x03")
    assert terminal.end(15) == 130
    measure.seconds("seconds after Ctrl-C", time.monotonic() - asked_at, at_most=10)
    measure(
        "posts bought and not stored",
        sandbox.books()["posts_sold"] - len(crawler.stored_ids()),
        at_most=0,
    )

    sandbox.fault("black-hole", for_s=60)
    terminal = Terminal(tmp_path, "-c", "tweet.ini", "--yes")
    wait_until(lambda: sandbox.books()["faults"].get("black-hole", 0) >= 1, what="a worker waiting")
    family = psutil.Process(terminal.process.pid).children(recursive=True)
    terminal.type("\x03")
    terminal.read_until("Ctrl-C again ends at once")
    asked_at = time.monotonic()
    terminal.type("\x03")
    assert terminal.end(10) == 130
    measure.seconds("seconds after the second Ctrl-C", time.monotonic() - asked_at, at_most=1)
    wait_until(lambda: not any(p.is_running() for p in family), timeout_s=5, what="no orphans")
    assert b"Traceback" not in terminal.shown
    sandbox.control("DELETE", "/sandbox/faults")
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)


# -- P6: time ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "jumps",
    [("+0", "+1d", "-1d", "+0"), ("@2026-03-29 01:59:58", "@2026-10-25 02:59:58")],
    ids=["a day on and back", "over both changes of summer time"],
)
def test_P6_the_machine_s_clock_jumps(
    dsn: str, tmp_path: Path, measure: Any, faketime: str, jumps: tuple[str, ...]
) -> None:
    handles = [f"writer_{n}" for n in range(30)]
    clock = tmp_path / "clock"
    clock.write_text(f"{jumps[0]}\n")
    with Sandbox(
        "--credentials",
        "1",
        "--posts",
        "0-90",
        "--window-s",
        window_s(4),
        "--limit",
        f"{TIMELINE}=8/8",
    ) as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        wrong = {
            "LD_PRELOAD": faketime,
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "TZ": "Europe/Berlin",
        }
        process = crawler.start(env=os.environ | wrong)
        for number, jump in enumerate(jumps[1:], start=1):
            wait_until(
                lambda n=number: requests(sandbox) >= 6 * n or process.poll() is not None,
                what="more pages",
            )
            clock.write_text(f"{jump}\n")
        begun = time.monotonic()
        ended(process)
        assert time.monotonic() - begun < allowed_s(30), "no wait may follow the machine's clock"
        books = sandbox.books()
        measure("requests into a closed window", books["closed_window_requests"], at_most=0)
        measure("posts missing", missing(crawler, sandbox, handles), at_most=0)
        measure("posts bought twice", bought_twice(sandbox), at_most=0)


@pytest.fixture
def clock(faketime: str) -> Iterator[tuple[OwnServer, Path]]:
    """A PostgreSQL server, and the file that sets its clock."""
    with server_folder() as folder:
        file = folder / "clock"
        file.write_text("+0\n")
        server = OwnServer(folder / "data", with_a_clock(folder / "bin", faketime, file))
        try:
            yield server, file
        finally:
            server.close()


@pytest.mark.parametrize("size", [pytest.param("1h", marks=pytest.mark.slow), "1d"])
def test_P6_the_database_s_clock_jumps(
    clock: tuple[OwnServer, Path], tmp_path: Path, measure: Any, size: str
) -> None:
    """Two runs of one list, whose leases and windows are kept by that clock."""
    server, file = clock
    handles = [f"writer_{n}" for n in range(40)]
    window = window_s(6)
    with Sandbox(
        "--credentials",
        "2",
        "--posts",
        "0-250",
        "--window-s",
        window,
        "--limit",
        f"{TIMELINE}=12/12",
        "--latency-ms",
        "30",
    ) as sandbox:
        dsn = server.database()
        crawlers = [Crawler.on(sandbox, tmp_path / name, dsn, handles, threads=2) for name in "ab"]
        processes = [crawler.start() for crawler in crawlers]
        jumps = [f"+{size}", f"-{size}", "+0"]
        for number, jump in enumerate(jumps, start=1):
            wait_until(
                lambda n=number: (
                    requests(sandbox) >= 16 * n or any(p.poll() is not None for p in processes)
                ),
                timeout_s=60,
                what="more pages",
            )
            assert all(p.poll() is None for p in processes), (
                "the work must last beyond the last jump"
            )
            file.write_text(f"{jump}\n")
        for process in processes:
            ended(process)
        books = sandbox.books()
        windows = [w for w in books["past_windows"] + books["windows"] if w["endpoint"] == TIMELINE]
        # X's windows do not jump with it. Of 4 processes and 4 buckets each asks too early
        # once, and is told so.
        measure(
            f"requests into a closed window for each jump, {size}",
            books["closed_window_requests"] / 3,
            at_most=16,
        )
        measure(f"posts missing, {size}", missing(crawlers[0], sandbox, handles), at_most=0)
        # Two jumps are forward: that ends all leases, and whoever has a page in hand learns
        # it when it is saved.
        measure(
            f"posts bought twice in two jumps forward, {size}",
            bought_twice(sandbox),
            at_most=2 * 4 * PAGE,
        )
        measure.seconds(
            f"longest wait beyond a window's end in seconds, {size}",
            longest_pause(windows),
            at_most=float(window),
        )


# -- P7, P8, P9: two of a kind, or out of reach --------------------------------------


def test_P7_a_worker_that_slept_sees_that_its_target_is_taken(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    _sleep_through_the_lease(dsn, tmp_path, measure, wait=False)


@pytest.mark.slow
def test_P7_a_worker_that_slept_for_longer_than_a_lease(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    _sleep_through_the_lease(dsn, tmp_path, measure, wait=True)


def _sleep_through_the_lease(dsn: str, folder: Path, measure: Any, *, wait: bool) -> None:
    with (
        Sandbox("--credentials", "2", "--posts", "1500-1500", "--latency-ms", "20") as sandbox,
        before_x(sandbox) as x,
    ):
        handle = ["writer_0"]
        first = Crawler(
            folder / "first",
            dsn=dsn,
            auth_csv=sandbox.auth_csv,
            api_url=url_of(x),
            handles=handle,
            threads=1,
        )
        second = Crawler.on(sandbox, folder / "second", dsn, handle, threads=1)
        process = first.start()
        wait_until(lambda: requests(sandbox) >= 3, what="a crawl under way")
        x.stall("down")
        wait_for_silence(lambda: requests(sandbox))  # the answer to the last one does not come
        [worker] = workers_of(process.pid)
        family = [worker, psutil.Process(process.pid)]
        try:
            for one in family:
                one.suspend()
            x.go_on()
            if wait:
                time.sleep(61)
            else:  # the minute of its lease goes by
                with psycopg.connect(dsn) as connection:
                    connection.execute("UPDATE crawl_target SET lease_until = clock_timestamp()")
            second.run()
            asleep = requests(sandbox)
        finally:
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.resume()
        ended(process)
        measure("requests after it woke", requests(sandbox) - asleep, at_most=0)
        measure("posts missing", missing(first, sandbox, handle), at_most=0)
        measure("posts bought twice: its page under way", bought_twice(sandbox), at_most=PAGE)


def test_P7_a_worker_that_slept_before_its_request_does_not_send_it(
    dsn: str, tmp_path: Path, measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked at its lease, waited for a permit, and then the lease was over: here of one
    second.
    """
    monkeypatch.setattr(leases, "LEASE_S", 1.0)
    with (
        Sandbox("--credentials", "2", "--posts", "100-300") as sandbox,
        before_database(dsn) as proxy,
        ThreadPoolExecutor(1) as pool,
    ):
        worker = Worker(
            0, lambda: False, lambda _: None, _job(sandbox, through(dsn, proxy), tmp_path)
        )
        targets = worker.do(("resolve", HANDLES[:1])).found[CRAWL]
        trap = proxy.trap(Trap(b"FOR UPDATE OF b", "answer", "hold"))
        doing = pool.submit(worker.do, (CRAWL, list(targets)))
        wait_until(trap.sprung.is_set, what="a permit asked for")
        time.sleep(1.2)
        trap.let_go.set()
        result = doing.result(30)
        measure("requests after the end of the lease", requests(sandbox), at_most=0)
        [later] = result.later
        monkeypatch.setattr(leases, "LEASE_S", 60.0)
        worker.do((CRAWL, list(later.units)))
        crawler = Crawler.on(sandbox, tmp_path / "direct", dsn, HANDLES[:1])
        measure(
            "posts missing when it is tried again",
            missing(crawler, sandbox, HANDLES[:1]),
            at_most=0,
        )
        measure("posts bought twice, asked again", bought_twice(sandbox), at_most=0)


def test_P8_work_that_is_handed_out_twice_is_done_once(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    with Sandbox("--credentials", "2", "--posts", "100-300", "--latency-ms", "10") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:4])
        job = _job(sandbox, dsn, tmp_path)
        deliveries = []
        for number in range(3):
            handle = start_worker(number, lambda: False, lambda _: None, job)
            before = requests(sandbox) + requests(sandbox, "/2/users/by")
            targets = handle(("resolve", HANDLES[:4])).found[CRAWL]
            result = handle((CRAWL, list(targets)))
            assert not result.left
            assert not result.later
            deliveries.append(requests(sandbox) + requests(sandbox, "/2/users/by") - before)
        print("requests of each delivery:", deliveries)
        measure(
            "requests of the second and third delivery", deliveries[1] + deliveries[2], at_most=0
        )
        measure("posts missing", missing(crawler, sandbox, HANDLES[:4]), at_most=0)


def _job(sandbox: Sandbox, dsn: str, folder: Path) -> Job:
    """A run as the parent begins it, for workers in this process."""
    chosen = settings.parse(["--apiURL", sandbox.url], environ={}, folder=folder)
    found = read_credentials(sandbox.auth_csv).credentials
    database = Database(dsn)
    with database.session() as session:
        run, since = session.begin_run(version="0", arguments={}, host="here", credentials=found)
    return Job(chosen, database, found, run, since)


def test_P8_three_runs_of_the_same_list_at_once_buy_it_once(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    with Sandbox("--credentials", "2", "--posts", "100-400", "--latency-ms", "10") as sandbox:
        crawlers = [
            Crawler.on(sandbox, tmp_path / str(n), dsn, HANDLES, threads=1) for n in range(3)
        ]
        for process in [crawler.start() for crawler in crawlers]:
            ended(process)
        measure("posts missing", missing(crawlers[0], sandbox, HANDLES), at_most=0)
        measure("posts bought twice", bought_twice(sandbox), at_most=0)
        measure("users looked up twice", sandbox.books()["users_sold"] - len(HANDLES), at_most=0)


def test_P9_without_its_database_nobody_asks_x(dsn: str, tmp_path: Path, measure: Any) -> None:
    _cut_off(dsn, tmp_path, measure, 3.0)


@pytest.mark.slow
def test_P9_without_its_database_for_longer_than_a_lease(
    dsn: str, tmp_path: Path, measure: Any
) -> None:
    _cut_off(dsn, tmp_path, measure, 65.0)


def _cut_off(dsn: str, folder: Path, measure: Any, seconds: float) -> None:
    with (
        Sandbox("--credentials", "2", "--posts", "300-600", "--latency-ms", "20") as sandbox,
        before_database(dsn) as proxy,
    ):
        crawler = Crawler.on(sandbox, folder, dsn, HANDLES)
        behind = Crawler.on(sandbox, folder / "behind", through(dsn, proxy), HANDLES)
        process = behind.start()
        try:
            wait_until(lambda: requests(sandbox) > 6, what="a crawl under way")
            proxy.stall()
            proxy.refuse()
            at_once = requests(sandbox)
            soon = wait_for_silence(lambda: requests(sandbox))
            time.sleep(seconds - 1.0)
            later = requests(sandbox)
        finally:
            proxy.go_on()
            proxy.listen()
        if seconds > 60:  # meanwhile somebody else did its work
            proxy.cut()
        ended(process)
        measure("requests under way when the line broke, of 2 workers", soon - at_once, at_most=2)
        measure(f"requests in the {seconds:.0f} s after", later - soon, at_most=0)
        measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
        measure("posts bought twice", bought_twice(sandbox), at_most=0)
