"""Faults of the database: each bought page is saved, once.

PostgreSQL or the way to it may fail at any moment.
"""
# ruff: noqa: N802 - a test carries the id of its fault, so that `-k D1_` is that fault

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from busy import window_s
from crawls import Crawler, ended, truth, wait_for_silence, wait_until, workers_of
from databases import server_folder
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sandbox_server import Sandbox
from test_db import page, row

from faults.machine import OwnServer, SmallDisk, before_database, lacking, need, through
from faults.tcp_proxy import Direction, TcpProxy, Trap
from tweetcrawler.db import Database, Session
from tweetcrawler.errors import DatabaseUnreachable
from tweetcrawler.pages import Batch
from tweetcrawler.targets import Found

TIMELINE = "/2/users/:id/tweets"
HANDLES = [f"writer_{n}" for n in range(10)]
PAGE = 100


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "150-400", "--latency-ms", "20") as running:
        yield running


def missing(crawler: Crawler, sandbox: Sandbox, handles: list[str]) -> int:
    return len(set(truth(sandbox, handles)) ^ set(crawler.stored_ids()))


def bought_twice(sandbox: Sandbox) -> int:
    books = sandbox.books()
    return int(books["posts_sold"]) - int(books["posts_distinct"])


def requests(sandbox: Sandbox) -> int:
    return sum(sum(of.get(TIMELINE, {}).values()) for of in sandbox.books()["requests"].values())


def select(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


# -- D1, D11: it goes away -----------------------------------------------------------


def test_D1_the_server_crashes_again_and_again(
    own_server: OwnServer, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, own_server.database(), HANDLES)
    process = crawler.start()
    for crash in range(1, 4):
        wait_until(
            lambda n=crash: requests(sandbox) >= 6 * n or process.poll() is not None,
            what="more pages",
        )
        own_server.crash()
        own_server.start()
    ended(process)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice in 3 crashes", bought_twice(sandbox), at_most=0)


def test_D1_pages_in_hand_wait_for_the_server(
    own_server: OwnServer, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, own_server.database(), HANDLES)
    process = crawler.start()
    wait_until(lambda: requests(sandbox) >= 6, what="a crawl under way")
    own_server.crash()
    at_once = requests(sandbox)
    gone = wait_for_silence(lambda: requests(sandbox))
    measure("requests under way when it went, of 2 workers", gone - at_once, at_most=2)
    time.sleep(2.5)
    measure("requests while it was away", requests(sandbox) - gone, at_most=0)
    own_server.start()
    ended(process)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice", bought_twice(sandbox), at_most=0)


def test_D1_a_server_that_stays_away_is_a_dead_end_that_is_said(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch, measure: Any
) -> None:
    monkeypatch.setattr("tweetcrawler.postgres.connection.PATIENCE_S", 2.0)
    database = Database(own_server.database())
    with database.session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        own_server.crash()
        begun = time.monotonic()
        with pytest.raises(
            DatabaseUnreachable, match="everything saved is safe, run again"
        ) as caught:
            session.end_run(run, exit_code=0, report={})
        measure.seconds(
            "seconds until it is said, patience 2 s", time.monotonic() - begun, at_most=8
        )
        begun = time.monotonic()
        with pytest.raises(DatabaseUnreachable):
            session.release("w")
        measure.seconds("seconds until it is said once more", time.monotonic() - begun, at_most=1)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_D1_after_five_minutes_the_run_ends_with_exit_3(
    own_server: OwnServer, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, own_server.database(), HANDLES)
    process = crawler.start()
    wait_until(lambda: requests(sandbox) >= 6, what="a crawl under way")
    own_server.crash()
    begun = time.monotonic()
    result = ended(process, expect=3, timeout_s=600)
    measure.seconds("seconds until it is said", time.monotonic() - begun, at_least=290, at_most=330)
    assert "run again when it is back" in result.stdout
    assert "Traceback" not in result.stderr
    own_server.start()
    crawler.run()
    measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice: the pages in hand", bought_twice(sandbox), at_most=2 * PAGE)


@pytest.mark.slow
def test_D11_a_crash_of_the_server_while_windows_are_closed(
    own_server: OwnServer, tmp_path: Path, measure: Any
) -> None:
    handles = [f"writer_{n}" for n in range(40)]
    with Sandbox(
        "--credentials",
        "2",
        "--posts",
        "0-150",
        "--window-s",
        window_s(4),
        "--limit",
        f"{TIMELINE}=8/8",
    ) as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, own_server.database(), handles)
        process = crawler.start()
        wait_until(lambda: requests(sandbox) >= 30, what="windows used up")
        own_server.crash()
        time.sleep(0.5)
        own_server.start()
        ended(process)
        measure("posts missing, D1 with A1", missing(crawler, sandbox, handles), at_most=0)
        measure(
            "requests into a closed window, D1 with A1",
            sandbox.books()["closed_window_requests"],
            at_most=0,
        )


@pytest.mark.slow
def test_D11_a_crash_of_the_server_while_a_dead_worker_is_replaced(
    own_server: OwnServer, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, own_server.database(), HANDLES)
    process = crawler.start()
    for step in (1, 2):
        wait_until(lambda n=step: requests(sandbox) >= 6 * n, what="more pages")
        with contextlib.suppress(psutil.NoSuchProcess):
            workers_of(process.pid)[0].kill()
        own_server.crash()
        own_server.start()
    ended(process)
    measure("posts missing, D1 with P1", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice in 2 kills, D1 with P1", bought_twice(sandbox), at_most=2 * PAGE)


# -- D2, D3: the line breaks ---------------------------------------------------------


class OnePage:
    """A target of its own with one page to save; `state` says how much of it is stored."""

    def __init__(self, dsn: str, run: int, number: int, *, letters: int = 200) -> None:
        self.first = number * 1_000 + 1
        self._dsn = dsn
        handle = f"user_{number}"
        with Database(dsn).session() as session:
            session.claim_handles([handle], "w")
            session.save_users(
                run, page(users=1), [Found(handle, str(number + 1), handle, 7)], [], rest_s=0
            )
            self.target = session.targets([handle])[handle].id
            session.claim(self.target, "w", 0)
        chance = random.Random(number)
        rows = [
            row(self.first + n, text=f"post {n} {chance.randbytes(letters // 2).hex()}")
            for n in range(20)
        ]
        self.batch = Batch(self.target, page(posts=20), rows, covered=(self.first, self.first + 20))

    def state(self) -> tuple[int, int, str, int]:
        [(posts, pages, covered, counted)] = select(
            self._dsn,
            f"""
            SELECT
                (
                    SELECT count(*) FROM tweet_articles_tweepy
                    WHERE id BETWEEN {self.first} AND {self.first + 19}
                ),
                (SELECT count(*) FROM crawl_page WHERE target_id = t.id),
                covered::text,
                post_count
            FROM crawl_target t
            WHERE id = {self.target}
            """,
        )
        return posts, pages, covered, counted

    @property
    def whole(self) -> tuple[int, int, str, int]:
        return 20, 1, f"{{[{self.first},{self.first + 20})}}", 20

    nothing = (0, 0, "{}", 0)


def _cut_while_saving(dsn: str, measure: Any, *, points: int) -> None:
    with Database(dsn).session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
    chance = random.Random(3)
    with before_database(dsn) as proxy:
        behind = Database(through(dsn, proxy))
        up, down = _bytes_of_a_save(dsn, run, behind, proxy)
        half = wrong = saved_before_the_cut = 0
        for number in range(1, points + 1):
            one = OnePage(dsn, run, number)
            direction: Direction = "up" if number % 3 else "down"
            most = up if direction == "up" else down
            proxy.cut_after(chance.randrange(1, most), direction)
            with (
                behind.session(stopping=lambda: True) as session,
                contextlib.suppress(DatabaseUnreachable),
            ):
                session.save(run, "w", one.batch)
            # What the server got before the cut may still be under way in it.
            _until_idle(dsn)
            state = one.state()
            half += state not in (one.whole, one.nothing)
            saved_before_the_cut += state == one.whole
            with behind.session() as session:
                session.save(run, "w", one.batch)
            wrong += one.state() != one.whole
    print(f"{points} cuts, {saved_before_the_cut} of them after the commit")
    measure(f"half pages after {points} cuts", half, at_most=0)
    measure("pages that are not whole after saving again", wrong, at_most=0)


def _bytes_of_a_save(dsn: str, run: int, behind: Database, proxy: TcpProxy) -> tuple[int, int]:
    one = OnePage(dsn, run, 0)
    with behind.session() as session:
        session.save(run, "w", one.batch)
        [link] = [link for link in proxy._links if not link.ended.is_set()]
        return link.passed["up"], link.passed["down"]


def _until_idle(dsn: str) -> None:
    busy = """
        SELECT count(*)
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'
    """
    wait_until(lambda: select(dsn, busy) == [(0,)], what="the end of the broken connection")


def test_D2_a_line_cut_at_any_byte_leaves_whole_pages_or_none(dsn: str, measure: Any) -> None:
    _cut_while_saving(dsn, measure, points=60)


@pytest.mark.slow
def test_D2_a_line_cut_at_a_thousand_bytes_leaves_whole_pages_or_none(
    dsn: str, measure: Any
) -> None:
    _cut_while_saving(dsn, measure, points=1_000)


def test_D2_connections_ended_by_the_server_during_a_crawl(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    process = crawler.start()
    ends = pages = 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        while process.poll() is None:
            # As often as there is another page, and not more often: whoever is cut off
            # again and again gets nowhere.
            wait_until(
                lambda n=pages: requests(sandbox) > n or process.poll() is not None,
                timeout_s=60,
                what="a page",
            )
            pages = requests(sandbox)
            time.sleep(
                0.02 * (pages % 4)
            )  # anywhere between the request, the save and the next claim
            ends += connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'tweetcrawler'"
            ).fetchone()[0]  # type: ignore[index]
    ended(process)
    measure("connections ended", ends, at_least=10)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice", bought_twice(sandbox), at_most=0)


def test_D3_lost_answers_to_commits_do_no_harm(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    with before_database(dsn) as proxy:
        lost = [
            proxy.trap(Trap(pattern, "answer", "cut", count=6, skip=2, every=3))
            for pattern in (
                b"INSERT INTO crawl_page",
                b"crawled_at = CASE",
                b"COMMIT",
                b"lease_until = clock_timestamp() + ",
            )
        ]
        behind = Crawler.on(sandbox, tmp_path, through(dsn, proxy), HANDLES)
        behind.run()
        crawler = Crawler.on(sandbox, tmp_path / "direct", dsn, HANDLES)
        measure("answers lost", sum(trap.times for trap in lost), at_least=12)
    measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
    measure("posts bought twice", bought_twice(sandbox), at_most=0)
    [(posts, pages)] = crawler.select(
        "SELECT sum(post_count), count(*) FROM crawl_page WHERE target_id IS NOT NULL"
    )
    measure("posts noted twice as bought", posts - sandbox.books()["posts_sold"], at_most=0)
    measure("pages noted twice", pages - requests(sandbox), at_most=0)
    [(counted,)] = crawler.select("SELECT sum(post_count) FROM crawl_target")
    measure(
        "posts counted twice for their users", counted - sandbox.books()["posts_sold"], at_most=0
    )
    measure("requests into a closed window", sandbox.books()["closed_window_requests"], at_most=0)


# -- D4: the disk is full ------------------------------------------------------------


@pytest.mark.parametrize("small_disk", [220], indirect=True)
def test_D4_with_a_full_disk_nothing_more_is_bought(
    small_disk: SmallDisk, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    server = OwnServer(small_disk.folder / "data")
    try:
        crawler = Crawler.on(sandbox, tmp_path, server.database(), HANDLES)
        before = sandbox.books()["posts_sold"]
        process = crawler.start()
        wait_until(lambda: requests(sandbox) >= 4, what="a crawl under way")
        small_disk.fill()
        # Some pages still find room in files that are there.
        full = wait_for_silence(lambda: requests(sandbox), seconds=1.5)
        time.sleep(2.5)
        measure("requests while the disk is full", requests(sandbox) - full, at_most=0)
        assert process.poll() is None, "it must wait for room"
        small_disk.free()
        with contextlib.suppress(OSError):
            if not server.runs:
                server.start()  # a full WAL ends the server
        if not (small_disk.folder / "data" / "cluster" / "postmaster.pid").exists():
            server.start()
        result = ended(process)
        assert "No space left" in result.stderr or "does not work" in result.stderr
        measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
        measure(
            "posts bought twice",
            sandbox.books()["posts_sold"] - before - len(crawler.stored_ids()),
            at_most=0,
        )
    finally:
        with contextlib.suppress(OSError):
            small_disk.free()
        server.close()


@pytest.mark.parametrize("small_disk", [120], indirect=True)
def test_D4_a_disk_that_stays_full_is_a_dead_end_that_is_said(
    small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, measure: Any
) -> None:
    monkeypatch.setattr("tweetcrawler.postgres.connection.PATIENCE_S", 2.0)
    server = OwnServer(small_disk.folder / "data")
    try:
        dsn = server.database()
        with Database(dsn).session() as session:
            run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
            pages = [OnePage(dsn, run, number, letters=8_000) for number in range(1, 25)]
            small_disk.fill()
            took: list[float] = []
            with pytest.raises(
                DatabaseUnreachable, match="everything saved is safe, run again"
            ) as caught:
                _save_all(session, run, pages, took)
            measure.seconds("seconds until it is said, patience 2 s", took[-1], at_most=8)
        assert caught.value.exit_code == 3
        assert "\n" not in str(caught.value)
        small_disk.free()
        if not server.runs:
            server.start()  # a full WAL ends the server
        with Database(dsn).session() as session:
            for one in pages:
                session.save(run, "w", one.batch)
        measure(
            "pages that are not whole after there is room",
            sum(p.state() != p.whole for p in pages),
            at_most=0,
        )
    finally:
        with contextlib.suppress(OSError):
            small_disk.free()
        server.close()


def _save_all(session: Session, run: int, pages: list[OnePage], took: list[float]) -> None:
    """Saves the pages; `took` gets the seconds of each.

    Some find room in files that are there.
    """
    for one in pages:
        begun = time.monotonic()
        try:
            session.save(run, "w", one.batch)
        finally:
            took.append(time.monotonic() - begun)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("small_disk", [220], indirect=True)
def test_D4_after_five_minutes_of_a_full_disk_the_run_ends_with_exit_3(
    small_disk: SmallDisk, sandbox: Sandbox, tmp_path: Path, measure: Any
) -> None:
    server = OwnServer(small_disk.folder / "data")
    try:
        crawler = Crawler.on(sandbox, tmp_path, server.database(), HANDLES)
        process = crawler.start()
        wait_until(lambda: requests(sandbox) >= 4, what="a crawl under way")
        small_disk.fill()
        begun = time.monotonic()
        result = ended(process, expect=3, timeout_s=600)
        measure.seconds(
            "seconds until it is said", time.monotonic() - begun, at_least=290, at_most=400
        )
        assert "run again when it is back" in result.stdout
        assert "Traceback" not in result.stderr
        small_disk.free()
        if not server.runs:
            server.start()
        crawler.run()
        measure("posts missing after the next run", missing(crawler, sandbox, HANDLES), at_most=0)
        measure("posts bought twice: the pages in hand", bought_twice(sandbox), at_most=2 * PAGE)
    finally:
        with contextlib.suppress(OSError):
            small_disk.free()
        server.close()


# -- D5 to D7: what is written -------------------------------------------------------


def test_D5_writers_of_the_same_rows_do_not_lock_each_other(dsn: str, measure: Any) -> None:
    _write_the_same(dsn, measure, pages=300)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_D5_a_hundred_thousand_pages_without_a_deadlock(dsn: str, measure: Any) -> None:
    _write_the_same(dsn, measure, pages=100_000)


def _write_the_same(dsn: str, measure: Any, *, pages: int) -> None:
    database = Database(dsn)
    with database.session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        handles = [f"user_{n}" for n in range(4)]
        session.claim_handles(handles, "w")
        found = [Found(handle, str(n + 1), handle, 7) for n, handle in enumerate(handles)]
        session.save_users(run, page(users=4), found, [], rest_s=0)
        targets = [session.targets([handle])[handle].id for handle in handles]
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            with database.session() as session:
                for turn in range(pages // 4):
                    # The same posts in opposite orders, and a change in each, so that each
                    # is really written.
                    rows = [row(n + 1, favorite_count=number * pages + turn) for n in range(20)]
                    batch = Batch(
                        targets[number],
                        page(posts=20),
                        rows[:: 1 if number % 2 else -1],
                        covered=(1, 21),
                    )
                    session.save(run, "w", batch, keep_body=False)
        except BaseException as error:  # noqa: BLE001 - told to the thread that can fail
            failed.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    [(saved,)] = select(dsn, "SELECT count(*) FROM crawl_page WHERE target_id IS NOT NULL")
    assert saved == pages
    [(deadlocks,)] = select(
        dsn, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    measure(f"deadlocks in {pages:,} pages of 4 writers", deadlocks, at_most=0)


def test_D5_a_deadlock_with_a_stranger_is_survived(dsn: str, measure: Any) -> None:
    with Database(dsn).session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
    one = OnePage(dsn, run, 1)
    with Database(dsn).session() as session:
        session.save(run, "w", one.batch)
    changed = Batch(
        one.batch.target,
        page(posts=20),
        [{**r, "favorite_count": 9} for r in one.batch.rows],
        covered=one.batch.covered,
    )
    saving = threading.Thread(target=lambda: _save(dsn, run, changed))
    with psycopg.connect(dsn) as stranger:
        touch = "UPDATE tweet_articles_tweepy SET retweet_count = 5 WHERE id = %s"
        stranger.execute(touch, [one.first + 19])
        saving.start()
        waiting = """
            SELECT count(*)
            FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
        """
        wait_until(lambda: select(dsn, waiting)[0][0] >= 1, what="the writer waiting")
        stranger.execute(touch, [one.first])  # the ring is closed
    saving.join(20)
    [(deadlocks,)] = select(
        dsn, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    [(stored,)] = select(dsn, "SELECT count(*) FROM tweet_articles_tweepy WHERE favorite_count = 9")
    print(f"{deadlocks} deadlock")
    measure("rows of the page not saved after it", 20 - stored, at_most=0)


def _save(dsn: str, run: int, batch: Batch) -> None:
    with Database(dsn).session() as session:
        session.save(run, "w", batch)


def test_D6_nul_and_lone_surrogates_are_stored_visibly(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    for fault in ("nul-text", "surrogate-text"):
        sandbox.fault(fault, for_s=600, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    measure("rows lost", missing(crawler, sandbox, HANDLES), at_most=0)
    # "~" would match U+FFFD by the locale's rules; position compares characters.
    [(clean, all_)] = crawler.select(
        "SELECT count(*) FILTER (WHERE position(U&'before\\FFFDafter' in text) = 0), count(*) "
        "FROM tweet_articles_tweepy WHERE retweeted_status_id IS NULL"
    )
    assert all_ > 100
    measure("texts without the sign of it", clean, at_most=0)


def test_D7_numbers_beyond_bigint_cost_their_post_only(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any
) -> None:
    sandbox.fault("big-id", count=3, endpoint=TIMELINE)
    sandbox.fault("big-count", count=6, endpoint=TIMELINE)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run(expect=(0, 1))
    books = sandbox.books()
    assert books["faults"]["big-id"] == 3
    [(refused,)] = crawler.select(
        "SELECT coalesce(sum(jsonb_array_length(refused)), 0) FROM crawl_page"
    )
    assert refused > 0
    reasons = crawler.select(
        "SELECT DISTINCT r->>'reason' FROM crawl_page, jsonb_array_elements(refused) r"
    )
    print(reasons)
    stored = len(crawler.stored_ids())
    measure(
        "posts neither stored nor noted", books["posts_sold"] - stored - int(refused), at_most=0
    )
    measure(
        "posts stored that do not exist",
        len(set(crawler.stored_ids()) - set(truth(sandbox, HANDLES))),
        at_most=0,
    )
    [(pages,)] = crawler.select("SELECT count(*) FROM crawl_page WHERE target_id IS NOT NULL")
    measure("pages lost", requests(sandbox) - pages, at_most=0)


# -- D8 to D10: how it is set up -----------------------------------------------------


def test_D8_impatient_servers_are_borne(dsn: str, tmp_path: Path, measure: Any) -> None:
    name = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn, autocommit=True) as connection:
        for setting in (
            "statement_timeout = '400ms'",
            "lock_timeout = '150ms'",
            "idle_session_timeout = '250ms'",
            "idle_in_transaction_session_timeout = '200ms'",
        ):
            connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    with (
        Sandbox("--credentials", "2", "--posts", "100-250", "--latency-ms", "100") as sandbox,
        before_database(dsn) as proxy,
    ):
        sandbox.fault(
            "delay", delay_s=0.6, count=3, endpoint=TIMELINE
        )  # the session idles meanwhile
        slow = proxy.trap(Trap(b"FOR UPDATE OF b", "answer", "hold", skip=3))
        behind = Crawler.on(sandbox, tmp_path, through(dsn, proxy), HANDLES)
        process = behind.start()
        wait_until(slow.sprung.is_set, what="a transaction that idles")
        time.sleep(0.5)
        slow.let_go.set()
        with psycopg.connect(dsn) as stranger:
            stranger.execute("SET idle_in_transaction_session_timeout = 0")
            stranger.execute("LOCK TABLE crawl_page")
            time.sleep(1.0)
        begun = time.monotonic()
        result = ended(process)
        print(result.stderr.count("does not work"), "times tried again")
        crawler = Crawler.on(sandbox, tmp_path / "direct", dsn, HANDLES)
        measure(
            "times that it had to be tried again", result.stderr.count("does not work"), at_least=3
        )
        measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
        measure("posts bought twice", bought_twice(sandbox), at_most=0)
        measure.seconds(
            "seconds from the last hindrance to the end", time.monotonic() - begun, at_most=60
        )


def test_P9_a_line_that_broke_without_a_word_is_noticed_by_the_kernel(
    dsn: str, measure: Any
) -> None:
    with (
        Database(dsn).connect() as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        idle = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        every = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        times = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    measure("seconds until a dead line is noticed", idle + every * times, at_most=30)
    mine = make_conninfo(dsn, keepalives_idle=99, application_name="mine")
    with Database(mine).connect() as connection:
        assert connection.info.get_parameters()["keepalives_idle"] == "99", (
            "the operator's word wins"
        )


@contextlib.contextmanager
def pgbouncer(dsn: str, *, pool_size: int) -> Iterator[str]:
    """pgbouncer in transaction mode before a database; gives the DSN through it."""
    program = need("pgbouncer")
    known = conninfo_to_dict(dsn)
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{known['dbname']} = host={known['host']} port={known['port']} "
        f"dbname={known['dbname']} user={known['user']} password={known['password']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {pool_size}\n"
        "max_client_conn = 50\n"
    )
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    shutil.chown(folder, "nobody") if as_nobody else None
    shutil.chown(settings, "nobody") if as_nobody else None
    process = subprocess.Popen([program, "-q", *as_nobody, str(settings)], stderr=subprocess.PIPE)
    through_it = make_conninfo(
        "", host="127.0.0.1", port=port, dbname=str(known["dbname"]), user="anybody"
    )
    try:
        wait_until(lambda: _answers(through_it) or process.poll() is not None, what="pgbouncer")
        yield through_it
    finally:
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            _, err = process.communicate()
        print(err.decode()[-500:])
        shutil.rmtree(folder, ignore_errors=True)


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def test_D9_through_pgbouncer_in_transaction_mode(dsn: str, tmp_path: Path, measure: Any) -> None:
    with (
        Sandbox("--credentials", "2", "--posts", "100-250") as sandbox,
        pgbouncer(dsn, pool_size=2) as pooled,
    ):
        runs = [
            Crawler.on(sandbox, tmp_path / str(n), pooled, HANDLES, threads=2) for n in range(2)
        ]
        results = [ended(process) for process in [run.start() for run in runs]]
        complaints = sum(result.stderr.count("does not work") for result in results)
        crawler = Crawler.on(sandbox, tmp_path / "direct", dsn, HANDLES)
        measure("errors of 4 workers over 2 connections", complaints, at_most=0)
        measure("posts missing", missing(crawler, sandbox, HANDLES), at_most=0)
        measure("posts bought twice", bought_twice(sandbox), at_most=0)


def test_D9_nothing_is_prepared_that_a_pooler_would_have_to_know(dsn: str, measure: Any) -> None:
    """pgbouncer before 1.21 loses prepared statements.

    Newer ones keep them, if `max_prepared_statements` is set.
    """
    with Database(dsn).session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        one = OnePage(dsn, run, 1)
        for _ in range(12):  # psycopg would prepare from the fifth on
            session.save(run, "w", one.batch)
            session.claim(one.target, "w", 0)
        assert session._connection is not None
        [(prepared,)] = session._connection.execute(
            "SELECT count(*) FROM pg_prepared_statements"
        ).fetchall()
    measure("prepared statements", prepared, at_most=0)


@pytest.mark.parametrize("revision", ["0000", "9999", None])
def test_D10_another_schema_is_refused_in_one_line(
    sandbox: Sandbox, dsn: str, tmp_path: Path, measure: Any, revision: str | None
) -> None:
    with psycopg.connect(dsn) as connection:
        if revision is None:
            connection.execute("DROP TABLE crawl_schema")
        else:
            connection.execute("UPDATE crawl_schema SET version_num = %s", [revision])
        before = connection.execute("SELECT sum(n_tup_ins) FROM pg_stat_user_tables").fetchone()
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    result = crawler.run(expect=3)
    measure("lines of the refusal", result.stderr.strip().count("\n") + 1, at_most=1)
    assert "alembic upgrade head" in result.stderr
    measure("requests to X", requests(sandbox), at_most=0)
    [(runs,)] = select(dsn, "SELECT count(*) FROM crawl_run")
    measure("rows touched", runs, at_most=0)
    assert before is not None


# -- roles, TLS, and libpq's own files -----------------------------------------------

ROLES = Path(__file__).resolve().parents[2] / "docs" / "roles.sql"


@pytest.fixture
def roles(own_server: OwnServer) -> dict[str, str]:
    """DSNs of a new database as each role of docs/roles.sql, migrated by the owner."""
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE roles")
    superuser = make_conninfo(own_server.url, dbname="roles")
    dsns = {"superuser": superuser}
    with psycopg.connect(superuser, autocommit=True) as connection:
        for _ in range(2):  # harmless when it is run again
            connection.execute(ROLES.read_bytes())
        for role in ("owner", "writer", "reader"):
            connection.execute(
                f"ALTER ROLE tweetcrawler_{role} PASSWORD '{role}-canary-password'".encode()
            )
            dsns[role] = make_conninfo(
                superuser, user=f"tweetcrawler_{role}", password=f"{role}-canary-password"
            )
    Database(dsns["owner"]).upgrade()
    return dsns


def test_the_owner_migrates_the_writer_crawls_and_the_reader_reads(
    roles: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, roles["writer"], HANDLES)
    crawler.run()
    assert missing(crawler, sandbox, HANDLES) == 0
    assert select(roles["reader"], "SELECT count(*) FROM tweets") == [(len(crawler.stored_ids()),)]
    with psycopg.connect(roles["writer"]) as connection:
        connection.execute("DELETE FROM tweet_articles_tweepy WHERE id % 3 = 0")
    assert "all is well" in crawler.run("verify", "--repair").stdout
    assert "would be forgotten" in crawler.run("forget", HANDLES[0], "--dry-run").stdout
    assert missing(crawler, sandbox, HANDLES) == 0
    for role, statement in (
        ("writer", "CREATE TABLE mine (id int)"),
        ("writer", "CREATE TEMP TABLE mine (id int)"),
        ("writer", "DROP TABLE crawl_page"),
        ("writer", "ALTER TABLE tweet_articles_tweepy ADD COLUMN mine int"),
        ("writer", "TRUNCATE tweet_articles_tweepy"),
        ("reader", "DELETE FROM tweet_articles_tweepy"),
        ("reader", "INSERT INTO crawl_run (version, arguments, host) VALUES ('', '{}', '')"),
        ("reader", "UPDATE crawl_target SET covered = '{}'"),
    ):
        with (
            psycopg.connect(roles[role]) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement.encode())


def test_a_role_that_may_not_write_is_told_so_in_one_line(
    roles: dict[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    result = Crawler.on(sandbox, tmp_path, roles["reader"], HANDLES).run(expect=3)
    assert "permission denied" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert requests(sandbox) == 0


def test_services_and_password_files_of_libpq_are_enough(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    known = conninfo_to_dict(dsn)
    service, passwords = tmp_path / "pg_service.conf", tmp_path / "pgpass"
    service.write_text(
        f"[tweets]\nhost={known['host']}\nport={known['port']}\n"
        f"dbname={known['dbname']}\nuser={known['user']}\n"
        "sslmode=prefer\n"
    )
    passwords.write_text(f"{known['host']}:{known['port']}:*:{known['user']}:{known['password']}\n")
    passwords.chmod(0o600)
    crawler = Crawler.on(sandbox, tmp_path, "service=tweets", HANDLES[:2])
    ended(
        crawler.start(
            env=os.environ | {"PGSERVICEFILE": str(service), "PGPASSFILE": str(passwords)}
        )
    )
    crawler.dsn = dsn
    assert missing(crawler, sandbox, HANDLES[:2]) == 0


@pytest.fixture
def tls_server() -> Iterator[OwnServer]:
    """A server of Debian's packages: that of the private server is built without TLS."""
    binaries = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if binaries is None:
        lacking("no PostgreSQL with TLS is installed; .ci/install-tools installs one")
    with server_folder() as folder:
        server = OwnServer(folder / "data", binaries)
        try:
            yield server
        finally:
            server.close()


def test_tls_is_libpq_s_own_and_another_s_certificate_is_refused(
    tls_server: OwnServer, sandbox: Sandbox, tmp_path: Path
) -> None:
    dsn = tls_server.database()
    certificate = tls_server.with_tls("database.example")
    verified = make_conninfo(dsn, sslmode="verify-full", sslrootcert=str(certificate))
    result = Crawler.on(sandbox, tmp_path / "wrong", verified, HANDLES[:2]).run(expect=3)
    assert "certificate" in result.stderr
    assert "Traceback" not in result.stderr
    # The same server by the name that its certificate holds.
    known = make_conninfo(verified, host="database.example", hostaddr="127.0.0.1")
    crawler = Crawler.on(sandbox, tmp_path / "right", known, HANDLES[:2])
    crawler.run()
    assert missing(crawler, sandbox, HANDLES[:2]) == 0
