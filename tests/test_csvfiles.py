"""What a folder of CSV files holds after each step, after kills, and beside other processes."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import pickle
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import csv_walks
import psycopg
import pytest
from csv_walks import AFTERWARDS, REST_S, begin, fixed_walk, page, resolved, row, save
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from tweetcrawler import db, run
from tweetcrawler.csvfiles import BOOKKEEPING, CsvFolder, Session
from tweetcrawler.csvstore import books
from tweetcrawler.errors import ConfigurationError, DatabaseError, DatabaseNotMigrated
from tweetcrawler.flatten import COLUMNS
from tweetcrawler.pages import Batch
from tweetcrawler.targets import Absent, Found
from tweetcrawler.windows import Bucket


class Folder:
    """A folder under test, with a session, a run and a target @ada that is leased to "w"."""

    def __init__(self, folder: Path, session: Session) -> None:
        self.folder = folder
        self.session = session
        self.run, self.since = begin(session)
        self.target = resolved(session, self.run)
        session.claim(self.target, "w", self.since)

    @property
    def file(self) -> Path:
        return self.folder / "ada.csv"

    def save(self, *rows: Mapping[str, Any], covered: tuple[int, int] | None = None) -> Any:
        batch = Batch(self.target, page(posts=len(rows)), rows, covered=covered)
        return self.session.save(self.run, "w", batch)

    def finish(self) -> None:
        self.session.finish(self.target, "w", state="ok", reason="", crawled=True)

    def claim(self, owner: str = "w") -> Any:
        return self.session.claim(self.target, owner, self.since)

    def ids(self) -> list[int]:
        return [int(cells["id"]) for cells in read(self.file)]

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.folder / BOOKKEEPING)) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def ada(tmp_path: Path) -> Iterator[Folder]:
    with CsvFolder(tmp_path / "tweets").session() as session:
        yield Folder(tmp_path / "tweets", session)


def parsed(text: str) -> list[list[str]]:
    """Lines and fields as RFC 4180 defines them, read without Python's csv; fails on
    anything loose.
    """
    lines: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        if text[at] == '"':
            field = ""
            while True:
                end = text.index('"', at + 1)
                field += text[at + 1 : end]
                at = end + 1
                if text[at : at + 1] != '"':
                    break
                field += '"'
        else:
            end = min(i for i in (text.find(",", at), text.find("\r\n", at)) if i >= 0)
            field, at = text[at:end], end
            assert not set(field) & set('"\r\n')
        lines[-1].append(field)
        if text[at] == ",":
            at += 1
            continue
        assert text[at : at + 2] == "\r\n"
        at += 2
        lines.append([])
    assert lines.pop() == []
    return lines


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a file that is whole: header, 21 fields a line, newest first, no id twice."""
    header, *lines = parsed(path.read_bytes().decode())
    assert header == list(COLUMNS)
    assert all(len(line) == len(COLUMNS) for line in lines)
    ids = [int(line[0]) for line in lines]
    assert ids == sorted(set(ids), reverse=True)
    return [dict(zip(COLUMNS, line, strict=True)) for line in lines]


def text_of(row: Mapping[str, Any]) -> dict[str, str]:
    return {column: "" if value is None else str(value) for column, value in row.items()}


# -- files ---------------------------------------------------------------------------


def test_a_finished_walk_leaves_its_rows_newest_first_under_the_header(ada: Folder) -> None:
    saved = ada.save(row(10), row(11, sentiment=-0.25, hashtags='{a,"b c"}'), covered=(10, 12))
    assert (saved.new, saved.updated, saved.leased) == (2, 0, True)
    assert not ada.file.exists()
    ada.finish()
    assert read(ada.file) == [
        text_of(row(11, sentiment=-0.25, hashtags='{a,"b c"}')),
        text_of(row(10)),
    ]
    assert sorted(path.name for path in ada.folder.glob("*.csv*")) == ["ada.csv"]
    assert ada.select("SELECT * FROM csv_pending") == []


def test_newer_posts_and_filled_holes_come_to_their_places(ada: Folder) -> None:
    ada.save(row(50), row(60))
    ada.finish()
    ada.save(row(90), row(95))
    ada.save(row(20), row(55))
    ada.finish()
    assert ada.ids() == [95, 90, 60, 55, 50, 20]


def test_saving_the_same_page_again_changes_nothing(ada: Folder) -> None:
    batch = Batch(ada.target, page(posts=1), [row(10)], [("x", "odd")], covered=(10, 11))
    ada.session.save(ada.run, "w", batch)
    again = ada.session.save(ada.run, "w", batch)
    assert (again.new, again.updated, again.leased) == (0, 0, True)
    ada.finish()
    once_more = ada.session.save(ada.run, "w", batch)
    assert (once_more.new, once_more.updated) == (0, 0)
    assert ada.select("SELECT post_count FROM crawl_target") == [(1,)]
    assert ada.session.totals(ada.run)[0]["posts"] == 1


def test_a_known_value_outlives_a_missing_include_in_page_and_file(ada: Folder) -> None:
    ada.save(row(10, tweet_from="Ada", favorite_count=1, in_reply_to_user_id=5))
    ada.finish()
    ada.save(row(10, origin_device="Web", favorite_count=2))
    ada.save(row(10, favorite_count=None, text="new"))
    ada.finish()
    assert read(ada.file) == [
        text_of(
            row(
                10,
                tweet_from="Ada",
                origin_device="Web",
                favorite_count=2,
                text="new",
                in_reply_to_user_id=5,
            )
        )
    ]


def test_a_file_without_news_is_not_written_again(ada: Folder) -> None:
    ada.save(row(10))
    ada.finish()
    before = ada.file.stat()
    ada.claim()
    ada.finish()
    assert ada.file.stat().st_ino == before.st_ino


def test_a_user_without_posts_has_a_file_of_the_header_only(ada: Folder) -> None:
    ada.finish()
    assert read(ada.file) == []


def test_a_refused_user_has_no_file(ada: Folder) -> None:
    ada.session.finish(
        ada.target, "w", state="protected", reason="private", crawled=False, rest_s=REST_S
    )
    assert not ada.file.exists()
    target = ada.session.targets(["ada"])["ada"]
    assert (target.state, target.reason) == ("protected", "private")
    assert REST_S - 60 < target.rests_s <= REST_S


def test_a_stopped_walk_leaves_what_it_saved_in_the_file(ada: Folder) -> None:
    ada.save(row(10), covered=(10, 11))
    ada.session.release("w")
    assert ada.ids() == [10]
    assert ada.claim("other").covered == [(10, 11)]


ODD = [
    '"',
    '""',
    ",",
    "\r",
    "\n",
    "\r\n",
    " a ",
    '"a",\r\nb\rc\nd',
    "\u2028\x85\x0b\x0c\x1c",
    "\ufeff",
    "🦉 שלום",
    "=1+1",
    "\\.",
]


def test_any_text_comes_back_from_the_file(ada: Folder) -> None:
    texts = [*ODD, "x" * 500_000]
    rows = [row(i, text=text, tweet_from=text) for i, text in enumerate(texts, 1)]
    ada.save(*rows)
    ada.finish()
    ada.save(row(1_000))
    ada.finish()
    expected = [text_of(row(1_000)), *map(text_of, reversed(rows))]
    assert read(ada.file) == expected
    with ada.file.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file, strict=True)) == expected


def test_postgresql_reads_the_file_into_the_table_of_tweets(ada: Folder, dsn: str) -> None:
    rows = [
        row(i, text=text, sentiment=0.25, hashtags='{a,"b c"}') for i, text in enumerate(ODD, 1)
    ]
    rows.append(row(2**63 - 1, text="largest", retweeted_status_id=2**63 - 2))
    ada.save(*rows)
    ada.finish()
    with psycopg.connect(dsn) as connection:
        with connection.cursor().copy(
            "COPY tweet_articles_tweepy FROM STDIN (FORMAT csv, HEADER)"
        ) as copy:
            copy.write(ada.file.read_bytes())
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        stored = connection.execute(
            sql.SQL("SELECT {} FROM tweet_articles_tweepy ORDER BY id").format(columns)
        ).fetchall()
    assert [dict(zip(COLUMNS, values, strict=True)) for values in stored] == rows


LIKES = st.none() | st.integers(0, 3)
TEXTS = st.text(max_size=8).map(lambda text: text.replace("\0", "\ufffd"))
ROWS = st.dictionaries(
    st.integers(1, 12) | st.just(2**63 - 1),
    st.fixed_dictionaries(
        {
            "text": TEXTS,
            "favorite_count": LIKES,
            "tweet_from": st.none() | TEXTS,
            "sentiment": st.none() | st.just(0.5),
        }
    ),
    max_size=5,
)
STEPS = st.lists(ROWS | st.sampled_from(["dropped", "finished", "released", "begun"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_file_is_exact_however_often_the_walk_is_dropped(steps: list[Any]) -> None:
    """A drop is a session that ends between two calls, as a kill would have it."""
    expected: dict[int, dict[str, str]] = {}
    new = 0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        sink = CsvFolder(Path(name))
        folder = Folder(Path(name), stack.enter_context(sink.session()))
        for step in steps:
            if step == "dropped":
                stack.close()
                folder.session = stack.enter_context(sink.session())
            elif step == "finished":
                folder.finish()
            elif step == "released":
                folder.session.release("w")
            elif step == "begun":
                begin(folder.session)
            else:
                rows = [row(tweet_id, **values) for tweet_id, values in sorted(step.items())]
                new += len(step.keys() - expected.keys())
                folder.save(*rows)
                for one in map(text_of, rows):
                    before = expected.get(int(one["id"]), {})
                    expected[int(one["id"])] = {c: v or before.get(c, "") for c, v in one.items()}
        folder.finish()
        assert read(folder.file) == [
            expected[tweet_id] for tweet_id in sorted(expected, reverse=True)
        ]
        assert sum(total["new"] for total in folder.session.totals(folder.run)) == new


def test_totals_equal_what_the_file_shows(ada: Folder) -> None:
    """Only the file knows that a post was there before: the count is put right when it is
    written.
    """
    ada.save(row(10), row(11))
    ada.finish()
    batch = Batch(
        ada.target, page(posts=4), [row(10), row(11, text="new"), row(12)], [("x", "odd")]
    )
    ada.session.save(ada.run, "w", batch)
    ada.session.release("w")
    assert ada.session.totals(ada.run) == [
        {
            "credential": "c1",
            "endpoint": "/2/users/:id/tweets",
            "pages": 3,  # the lookup of the handle is one of them
            "posts": 6,
            "users": 1,
            "new": 3,
            "updated": 1,
            "again": 2,
        }
    ]


def test_a_large_file_is_merged_in_little_memory(ada: Folder) -> None:
    with ada.file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(text_of(row(2 * i, text="x" * 200)).values() for i in range(25_000, 0, -1))
    ada.save(*(row(i) for i in range(1, 50_001, 1_000)))
    tracemalloc.start()
    try:
        ada.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ada.file.stat().st_size > 5_000_000
    assert peak < 1_000_000
    assert len(ada.ids()) == 25_050


# -- kills ---------------------------------------------------------------------------


def run_walk(folder: Path, step: int) -> str:
    command = [sys.executable, csv_walks.__file__, str(folder), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-signal.SIGKILL if step else 0), done.stderr
    return done.stdout


def killed_at(step: int, folder: Path) -> None:
    """Kills the fixed walk at a step, looks at the folder, walks again, and looks again."""
    run_walk(folder, step)
    file = folder / "ada.csv"
    if file.exists():
        read(file)
    sink = CsvFolder(folder)
    with sink.session() as session:
        run, since = begin(session)
        ids = {int(cells["id"]) for cells in read(file)} if file.exists() else set()
        target = session.targets(["ada"]).get("ada")
        if target is not None:
            claim = session.claim(target.id, "w", since)
            assert claim is not None
            for lower, upper in claim.covered:
                assert {i for i, _ in AFTERWARDS if lower <= i < upper} <= ids
    fixed_walk(folder)
    assert [(int(cells["id"]), int(cells["favorite_count"])) for cells in read(file)] == AFTERWARDS
    with sink.session() as session:
        new = sum(
            int(total["new"]) for number in range(1, run + 2) for total in session.totals(number)
        )
    assert new == len(AFTERWARDS)


def test_a_kill_at_any_step_leaves_whole_files_and_loses_nothing(tmp_path: Path) -> None:
    steps = int(run_walk(tmp_path / "whole", 0))
    assert steps > 200
    for step in random.Random("steps").sample(range(1, steps + 1), 30):
        killed_at(step, tmp_path / str(step))


@pytest.mark.slow
def test_a_kill_at_every_step_leaves_whole_files_and_loses_nothing(tmp_path: Path) -> None:
    for step in range(1, int(run_walk(tmp_path / "whole", 0)) + 1):
        killed_at(step, tmp_path / str(step))


def kill_often(folder: Path, times: int) -> None:
    """Kills an endless walk at random moments; every page that it said was saved is in the
    file at last.
    """
    chance = random.Random("kills")
    saved: set[int] = set()
    for number in range(times):
        command = [sys.executable, csv_walks.__file__, str(folder), str(number), "on"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 8)):
                saved.update(map(int, process.stdout.readline().split()))
            time.sleep(chance.random() * 0.02)
            process.kill()
            saved.update(
                int(i) for line in process.stdout if line.endswith("\n") for i in line.split()
            )
        assert process.returncode == -signal.SIGKILL
        if (folder / "ada.csv").exists():
            read(folder / "ada.csv")
    with CsvFolder(folder).session() as session:
        begin(session)
    assert saved <= {int(cells["id"]) for cells in read(folder / "ada.csv")}
    assert not list(folder.glob(".ada*"))


def test_kills_at_random_moments_lose_no_saved_page(tmp_path: Path) -> None:
    kill_often(tmp_path, 20)


@pytest.mark.slow
def test_many_kills_at_random_moments_lose_no_saved_page(tmp_path: Path) -> None:
    kill_often(tmp_path, 200)


def test_what_a_crash_left_waiting_is_written_when_the_next_run_begins(ada: Folder) -> None:
    ada.save(row(10))
    bob = resolved(ada.session, ada.run, "bob", "43")
    save(ada.session, ada.run, bob, [(20, 1)])
    with CsvFolder(ada.folder).session() as session:
        begin(session)
    assert ada.ids() == [10]
    assert [cells["id"] for cells in read(ada.folder / "bob.csv")] == ["20"]


def test_pages_of_a_worker_that_was_killed_are_written_when_the_run_ends(ada: Folder) -> None:
    ada.save(row(10))
    with CsvFolder(ada.folder).session(stopping=lambda: True) as session:
        session.end_run(ada.run, exit_code=130, report={"ended": "stopped"})
    assert ada.ids() == [10]
    assert ada.select("SELECT exit_code, report FROM crawl_run") == [(130, '{"ended": "stopped"}')]


def test_half_a_file_that_a_kill_left_does_not_show_in_the_next(ada: Folder) -> None:
    (ada.folder / ".ada.csv.new").write_text("torn " * 10_000)
    ada.save(row(10))
    ada.finish()
    assert ada.ids() == [10]
    assert not list(ada.folder.glob(".ada*"))


def test_a_full_disk_stops_the_run_and_loses_nothing(ada: Folder) -> None:
    """The kernel refuses to let any file grow beyond a limit, as it would on a full disk."""
    rows = [row(i, text="x" * 2_000) for i in range(1, 200)]
    ada.save(*rows)
    ada.finish()
    ada.save(row(1_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(
            DatabaseError,
            match=r"ada\.csv cannot be written: File too large; its new posts are safe",
        ):
            ada.finish()
        with pytest.raises(DatabaseError):
            ada.save(
                *(row(i, text="x" * 2_000) for i in range(2_000, 2_400)), covered=(2_000, 2_400)
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(ada.ids()) == 199
    assert not list(ada.folder.glob(".ada*"))
    claim = ada.claim()
    assert claim.covered == []
    ada.finish()
    assert ada.ids() == [1_000, *range(199, 0, -1)]


# -- other processes -----------------------------------------------------------------

CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from tweetcrawler.csvfiles import CsvFolder

folder, target, since = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

def one_less(buckets, now):
    less = {key: replace(one, remaining=one.remaining - 1) for key, one in buckets.items()}
    return less, now

for _ in range(100):
    with CsvFolder(folder).session() as session:
        session.change_buckets([("a", "e"), ("b", "e")], one_less)
        print(session.claim(target, "child", since) is not None, flush=True)
        sys.stdin.readline()
"""


@contextlib.contextmanager
def child(ada: Folder) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CHILD, str(ada.folder), str(ada.target), repr(ada.since)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def test_two_processes_share_leases_and_buckets(ada: Folder) -> None:
    def word(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def remaining(buckets: Mapping[Any, Bucket], now: float) -> tuple[dict[Any, Bucket], list[int]]:
        return {}, [bucket.remaining for bucket in buckets.values()]

    with child(ada) as one, child(ada) as two:
        assert [word(one), word(two)] == ["False", "False"]
        ada.session.release("w")
        for process in (one, two):
            process.stdin.write("\n" * 99)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            assert [word(process) for _ in range(99)][-1] == "True"
            assert ada.claim("w") is None
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
    assert ada.session.change_buckets([("a", "e"), ("b", "e"), ("c", "e")], remaining) == [
        -200,
        -200,
        0,
    ]


def test_buckets_come_back_as_they_were_written(ada: Folder) -> None:
    bucket = Bucket(
        900, 12, 5.5, anchored=True, turn=3, day_limit=7, shut_at=1.25, shut_reason="cap"
    )
    ada.session.change_buckets([("s", "e")], lambda buckets, now: ({("s", "e"): bucket}, None))
    with CsvFolder(ada.folder).session() as session:
        back, now = session.change_buckets(
            [("s", "e")], lambda buckets, now: ({}, (buckets["s", "e"], now))
        )
    assert back == bucket
    assert abs(now - time.time()) < 5


def test_a_change_of_buckets_that_fails_changes_nothing(ada: Folder) -> None:
    def fails(buckets: dict[Any, Bucket], now: float) -> Any:
        raise LookupError

    with pytest.raises(LookupError):
        ada.session.change_buckets([("s", "e")], fails)
    assert ada.save(row(1)).new == 1


def test_many_writers_of_one_file_write_every_row_once(ada: Folder) -> None:
    def write(number: int) -> None:
        with CsvFolder(ada.folder).session() as session:
            for i in range(10):
                save(session, ada.run, ada.target, [(100 * number + i, 1), (5_000 + i, number)])
                session.finish(ada.target, "nobody", state="ok", reason="", crawled=False)

    threads = [threading.Thread(target=write, args=[number]) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ada.ids()) == [
        *(100 * n + i for n in range(1, 5) for i in range(10)),
        *range(5_000, 5_010),
    ]
    assert sum(total["new"] for total in ada.session.totals(ada.run)) == 50


def test_a_lock_got_after_the_file_came_to_its_place_is_not_used(
    ada: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the new file and locking it, another process writes it, all of it."""
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        with CsvFolder(ada.folder).session() as session:
            session.finish(ada.target, "other", state="ok", reason="", crawled=False)
        ada.save(row(20))
        flock(descriptor, operation)

    ada.save(row(10))
    monkeypatch.setattr(fcntl, "flock", late)
    ada.finish()
    assert ada.ids() == [20, 10]


def test_a_lease_that_another_took_is_lost_but_its_page_is_kept(ada: Folder) -> None:
    ada.session.release("w")
    ada.claim("other")
    saved = ada.save(row(10), covered=(10, 11))
    assert not saved.leased
    ada.session.release("w")
    assert ada.ids() == [10]
    assert ada.claim("w") is None


def test_a_lease_does_not_outlive_a_clock_that_was_set_back(ada: Folder) -> None:
    with contextlib.closing(sqlite3.connect(ada.folder / BOOKKEEPING)) as connection:
        connection.execute(
            "UPDATE crawl_target SET lease_until = lease_until + 86400, crawled_at = 1e11"
        )
        connection.commit()
    claim = ada.claim("other")
    assert claim is not None
    assert not claim.crawled


def test_a_locked_bookkeeping_is_waited_for_no_longer_than_a_stopping_run_may(
    ada: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "BUSY_S", 0.2)
    with contextlib.closing(
        sqlite3.connect(ada.folder / BOOKKEEPING, isolation_level=None)
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with CsvFolder(ada.folder).session(stopping=lambda: True) as session:
            with pytest.raises(DatabaseError, match="held by another program"):
                session.claim(ada.target, "w", ada.since)
            assert session.targets(["ada"])["ada"].id == ada.target


# -- targets -------------------------------------------------------------------------


def test_handles_that_differ_in_case_only_are_one(ada: Folder) -> None:
    session = ada.session
    assert session.claim_handles(["BOB", "bob", "Bob"], "w") == {"BOB", "bob", "Bob"}
    assert session.claim_handles(["bOb"], "other") == set()
    session.save_users(ada.run, page(users=1), [Found("Bob", "43", "BoB", None)], [], rest_s=REST_S)
    targets = session.targets(["bob", "BOB", "eve"])
    assert targets["bob"] == targets["BOB"]
    assert (targets["bob"].handle, targets["bob"].username) == ("bob", "BoB")
    save(session, ada.run, targets["bob"].id, [(1, 1)])
    session.release("w")
    assert [path.name for path in ada.folder.glob("*.csv")] == ["bob.csv"]


def test_a_renamed_account_keeps_its_file(ada: Folder) -> None:
    ada.save(row(10))
    ada.finish()
    ada.session.save(ada.run, "w", Batch(ada.target, page(posts=1), [row(20)], username="Countess"))
    ada.finish()
    resolved_again = resolved(ada.session, ada.run, "countess", "42")
    assert resolved_again == ada.target
    assert ada.session.targets(["countess"])["countess"].username == "Countess"
    assert ada.ids() == [20, 10]
    assert [path.name for path in ada.folder.glob("*.csv")] == ["ada.csv"]


@pytest.mark.parametrize(
    "name",
    ["../eve", "a/b", "", ".", "a.b", "a b", "sixteen_letters_", "ä", "a\n", "nul\0", "é" * 3],
)
def test_what_is_no_username_never_becomes_a_path(ada: Folder, name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no username of X"):
        ada.session.claim_handles(["bob", name], "w")
    assert ada.session.targets(["bob", name]) == {}


def test_a_hostile_name_from_x_is_only_text(ada: Folder, tmp_path: Path) -> None:
    ada.session.save(
        ada.run, "w", Batch(ada.target, page(posts=1), [row(10)], username="../../eve")
    )
    ada.finish()
    assert sorted(path.name for path in tmp_path.rglob("*.csv")) == ["ada.csv"]


def test_a_missing_handle_rests_and_keeps_its_reason(ada: Folder) -> None:
    ada.session.claim_handles(["gone"], "w")
    ada.session.save_users(
        ada.run, page(), [], [Absent("gone", "suspended", "User suspended")], rest_s=60.0
    )
    target = ada.session.targets(["gone"])["gone"]
    assert (target.key, target.state, target.reason) == (None, "suspended", "User suspended")
    assert 0 < target.rests_s <= 60
    assert ada.session.claim_handles(["gone"], "other") == {"gone"}


def test_a_finished_target_is_known_as_crawled_to_its_own_run_only(ada: Folder) -> None:
    ada.finish()
    assert ada.claim().crawled
    with CsvFolder(ada.folder).session() as session:
        _, since = begin(session)
        claim = session.claim(ada.target, "w", since)
        assert claim is not None
        assert not claim.crawled


def test_posts_above_counts_pages_of_this_target_only(ada: Folder) -> None:
    bob = resolved(ada.session, ada.run, "bob", "43")
    save(ada.session, ada.run, bob, [(70, 1)])
    ada.save(row(50), row(60))
    ada.save(row(30), row(40))
    assert [ada.session.posts_above(ada.target, i) for i in (30, 31, 50, 61)] == [4, 2, 2, 0]


# -- what the operator did to the folder ---------------------------------------------


def test_a_deleted_file_is_read_again(ada: Folder, caplog: pytest.LogCaptureFixture) -> None:
    ada.save(row(10), row(11), covered=(1, 12))
    ada.finish()
    ada.file.unlink()
    claim = ada.claim()
    assert (claim.covered, claim.crawled) == ([], False)
    assert "ada.csv is gone" in caplog.text
    ada.save(row(11), covered=(11, 12))
    assert ada.session.posts_above(ada.target, 10) == 1
    ada.save(row(10), covered=(1, 11))
    ada.finish()
    assert ada.ids() == [11, 10]
    assert ada.claim().covered == [(1, 12)]


def test_a_file_deleted_during_its_walk_is_read_again_by_the_next(ada: Folder) -> None:
    ada.save(row(10), covered=(1, 11))
    ada.finish()
    ada.claim()
    ada.file.unlink()
    ada.save(row(20), covered=(11, 21))
    ada.finish()
    assert ada.ids() == [20]
    assert ada.claim().covered == []


@pytest.mark.parametrize("content", ["id,text\r\n1,a\r\n", "notes\n", '"', "\xff\xfe"])
def test_a_foreign_file_is_refused_before_anything_is_bought(ada: Folder, content: str) -> None:
    ada.session.release("w")
    ada.file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"ada\.csv"):
        ada.claim()
    save(ada.session, ada.run, ada.target, [(1, 1)])
    with pytest.raises(ConfigurationError, match=r"ada\.csv"):
        ada.finish()
    assert ada.file.read_bytes() == content.encode("latin-1")
    ada.file.unlink()
    ada.finish()
    assert ada.ids() == [1]


@pytest.mark.parametrize("line", ["12,short", "x" + "," * 20, '"' + "," * 20, "1.2e18" + "," * 20])
def test_a_spoiled_line_is_named_and_nothing_is_overwritten(ada: Folder, line: str) -> None:
    ada.save(row(10))
    ada.finish()
    with ada.file.open("a", newline="") as file:
        file.write(line)
    before = ada.file.read_bytes()
    ada.save(row(5))
    with pytest.raises(ConfigurationError, match=r"ada\.csv, line 3, cannot be read"):
        ada.finish()
    assert ada.file.read_bytes() == before
    assert ada.select("SELECT id FROM csv_pending") == [(5,)]


def test_a_folder_in_the_place_of_a_file_is_refused(ada: Folder) -> None:
    ada.session.release("w")
    ada.file.mkdir()
    with pytest.raises(ConfigurationError, match=r"ada\.csv cannot be read: Is a directory"):
        ada.claim()


def test_a_file_sorted_another_way_is_put_in_order_again(ada: Folder) -> None:
    ada.save(*(row(i) for i in range(1, 9)))
    ada.finish()
    header, *lines = ada.file.read_text(encoding="utf-8").splitlines()
    ada.file.write_text(
        "\ufeff" + "\n".join([header, *reversed(lines), lines[0]]) + "\n\n", encoding="utf-8"
    )
    ada.save(row(5, text="new"), row(100))
    ada.finish()
    assert ada.ids() == [100, *range(8, 0, -1)]
    assert read(ada.file)[4]["text"] == "new"
    assert ada.session.totals(ada.run)[0]["new"] == 9


def lines_of(ada: Folder) -> list[str]:
    return ada.file.read_text().splitlines(keepends=True)


# What became of the lines of a file: the header, and rows 40, 30, 20, 10.
LOST: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "cut at the end of a row": (lambda lines: lines[:-1], "1 of its 4 rows"),
    "an older copy": (lambda lines: [lines[0], *lines[3:]], "2 of its 4 rows"),
    "only its header": (lambda lines: lines[:1], "4 of its 4 rows"),
    "rounded ids": (lambda lines: [*lines[:4], "11" + lines[4][2:]], "as a spreadsheet rounds"),
}


@pytest.mark.parametrize("how", LOST)
def test_a_file_that_lost_rows_is_said_and_left_as_it_is(ada: Folder, how: str) -> None:
    """Before a walk, and when rows wait for the file; the whole file put back is enough."""
    ada.save(*(row(number) for number in (10, 20, 30, 40)), covered=(1, 41))
    ada.finish()
    whole = lines_of(ada)
    change, said = LOST[how]
    ada.file.write_text("".join(change(whole)), newline="")
    spoiled = ada.file.read_bytes()
    with pytest.raises(ConfigurationError, match=said):
        ada.claim()
    ada.save(row(50))
    with pytest.raises(ConfigurationError, match="put the whole file back, or delete it"):
        ada.finish()
    assert ada.file.read_bytes() == spoiled
    ada.file.write_text("".join(whole), newline="")
    ada.claim()
    ada.finish()
    assert ada.ids() == [50, 40, 30, 20, 10]


def test_rows_that_somebody_adds_and_another_order_are_no_loss(ada: Folder) -> None:
    """What was added is known from then on, and missed when it is gone."""
    ada.save(row(10), row(20), covered=(1, 21))
    ada.finish()
    header, *rows = lines_of(ada)
    added = rows[0].replace("20", "15", 1)
    ada.file.write_text("".join([header, added, *reversed(rows)]), newline="")
    ada.claim()
    ada.finish()
    ada.file.write_text("".join([header, *rows]), newline="")
    with pytest.raises(ConfigurationError, match="1 of its 3 rows"):
        ada.claim()


def test_a_bookkeeping_of_before_learns_what_files_hold(ada: Folder) -> None:
    ada.save(row(10), row(20), covered=(1, 21))
    ada.finish()
    ada.session.close()
    with contextlib.closing(sqlite3.connect(ada.folder / BOOKKEEPING)) as connection:
        for name in ("file_size", "file_time_ns", "file_rows", "file_ids"):
            connection.execute(f"ALTER TABLE crawl_target DROP COLUMN {name}")
        connection.execute("PRAGMA user_version = 1")
    begin(ada.session)
    ada.claim()
    ada.save(row(30), covered=(21, 31))
    ada.finish()
    ada.file.write_text("".join(lines_of(ada)[:-1]), newline="")
    with pytest.raises(ConfigurationError, match="1 of its 3 rows"):
        ada.claim()


def test_the_rights_of_a_file_outlive_its_replacement(ada: Folder) -> None:
    ada.save(row(1))
    ada.finish()
    ada.file.chmod(0o640)
    ada.save(row(2))
    ada.finish()
    assert ada.file.stat().st_mode & 0o777 == 0o640


def test_a_read_only_folder_is_a_mistake_of_the_configuration() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tweetcrawler-test-"))
    try:
        folder.chmod(0o555)
        with as_somebody(), CsvFolder(folder).session() as session:
            with pytest.raises(
                ConfigurationError, match="cannot be written to: Permission denied"
            ) as refusal:
                begin(session)
            assert refusal.value.exit_code == 2
            with (
                pytest.raises(ConfigurationError, match="cannot be written to"),
                CsvFolder(folder / "in").session() as s,
            ):
                begin(s)
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_bookkeeping_without_rights_is_a_mistake_of_the_configuration(mode: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tweetcrawler-test-"))
    try:
        with CsvFolder(folder).session() as session:
            begin(session)
        folder.chmod(0o777)
        (folder / BOOKKEEPING).chmod(mode)
        with (
            as_somebody(),
            CsvFolder(folder).session() as session,
            pytest.raises(ConfigurationError, match="rights"),
        ):
            begin(session)
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def as_somebody() -> Iterator[None]:
    """Root may write everywhere: for a while it is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tweets").write_text("")
    with (
        CsvFolder(tmp_path / "tweets").session() as session,
        pytest.raises(ConfigurationError, match="CSV folder"),
    ):
        begin(session)


def test_a_folder_that_vanished_or_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    with (
        CsvFolder(tmp_path / "gone").session() as session,
        pytest.raises(DatabaseError, match="look at the folder"),
    ):
        session.targets(["ada"])
    (tmp_path / BOOKKEEPING).write_text(
        "this is no database, but long enough to be looked at as one" * 100
    )
    with CsvFolder(tmp_path).session() as session, pytest.raises(DatabaseError, match="is damaged"):
        begin(session)


def test_a_bookkeeping_of_another_version_is_refused(ada: Folder) -> None:
    with contextlib.closing(sqlite3.connect(ada.folder / BOOKKEEPING)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with (
        CsvFolder(ada.folder).session() as session,
        pytest.raises(DatabaseNotMigrated, match="has schema 99"),
    ):
        begin(session)


def test_a_bookkeeping_replaced_during_a_walk_is_noticed(ada: Folder) -> None:
    batch = Batch(ada.target + 1, page(posts=1), [row(1)])
    with pytest.raises(DatabaseError, match="does not know a target"):
        ada.session.save(ada.run, "w", batch)


def test_files_without_bookkeeping_are_taken_over(ada: Folder) -> None:
    ada.save(row(10, tweet_from="Ada"), covered=(1, 11))
    ada.finish()
    ada.session.close()
    (ada.folder / BOOKKEEPING).unlink()
    with CsvFolder(ada.folder).session() as session:
        again = Folder(ada.folder, session)
        assert again.claim().covered == []
        again.save(row(10, text="new"), row(20))
        again.finish()
        assert read(again.file) == [
            text_of(row(20)),
            text_of(row(10, tweet_from="Ada", text="new")),
        ]
        assert [total["new"] for total in session.totals(again.run)] == [1]


def test_the_folder_goes_to_worker_processes_and_holds_no_secret(ada: Folder) -> None:
    sink = CsvFolder(ada.folder)
    assert pickle.loads(pickle.dumps(sink)) == sink

    class Keys:
        name, user_fingerprint, app_fingerprint = "c1", "f1", "f2"
        consumer_secret = "hush-hush"

    ada.session.begin_run(version="0", arguments={"csv": True}, host="h", credentials=[Keys()])
    ada.session.close()
    assert b"hush" not in (ada.folder / BOOKKEEPING).read_bytes()
    assert ada.select("SELECT credentials FROM crawl_run WHERE id = 2") == [('["c1"]',)]


def test_a_session_has_what_a_walk_wants_and_so_has_every_other() -> None:
    """A database can do more; what needs that says so."""

    def doors(session: type) -> set[str]:
        return {name for name in dir(session) if not name.startswith("_")}

    assert doors(Session) == doors(run.Session) | {"close"}
    assert doors(Session) <= doors(db.Session)
