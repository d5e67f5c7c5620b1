"""`tweetcrawler import` as an operator runs it.

A process of its own on a real database, killed and run again.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import Crawler, truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox_server import Sandbox

from tweetcrawler.db import Database, ImportState
from tweetcrawler.flatten import COLUMNS

ARCHIVES = Path(__file__).parent / "data" / "archives"

Import = Callable[..., subprocess.CompletedProcess[str]]


def command(dsn: str, *arguments: str | Path) -> tuple[list[str], dict[str, str]]:
    """The call and its environment: nothing of the one around it says where posts go."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TWEETCRAWLER_", "PG"))}
    environ["TWEETCRAWLER_DBNAME"] = dsn
    return [sys.executable, "-m", "tweetcrawler", "import", *map(str, arguments)], environ


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Import:
    """Imports to its end; the working folder is `tmp_path`."""

    def call(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        argv, environ = command(dsn, *arguments)
        done = subprocess.run(
            argv, env=environ, cwd=tmp_path, input=stdin, capture_output=True, timeout=300
        )
        text = subprocess.CompletedProcess(
            argv, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        assert "Traceback" not in text.stderr, text.stderr
        return text

    return call


def select(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def versions(dsn: str) -> list[tuple[Any, ...]]:
    return select(dsn, "SELECT id, xmin, ctid FROM tweet_articles_tweepy ORDER BY id")


def counts(report: str) -> dict[str, int]:
    """The lines of the report's tables, by their names."""
    rows = re.findall(r"^[│|]\s+(.+?)\s+[│|]\s+([\d,]+)\s+[│|]$", report, re.MULTILINE)
    return {name.removesuffix(" (refused)"): int(number.replace(",", "")) for name, number in rows}


def status(number: int, **values: Any) -> bytes:
    user = {"id_str": "5", "screen_name": "Ada", "name": "Ada"}
    found = {
        "id_str": str(number),
        "text": f"post {number}",
        "user": user,
        "favorite_count": 1,
    } | values
    return json.dumps(found).encode() + b"\n"


def rejects(folder: Path) -> list[dict[str, Any]]:
    path = folder / "import-rejects.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- what comes in ------------------------------------------------------------------


def test_archives_of_every_kind_become_rows_and_every_line_is_in_one_count(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    done = run(ARCHIVES)
    assert done.returncode == 1, done.stderr
    found = counts(done.stdout)
    assert found == {
        "imported": 9,
        "posts, now rows": 3 + 2 + 1 + 2 + 3 + 3,
        "rejected": 1,
        "Gnip Activity Streams": 2,
        "a download of an account": 3,
        **dict.fromkeys(
            (
                "delete",
                "limit",
                "scrub geo",
                "status withheld",
                "user withheld",
                "warning",
                "disconnect",
                "empty line",
                "empty page",
                "page of users",
                "page of counts",
                "page of errors",
                "compliance",
            ),
            1,
        ),
    }
    ids = [row[0] for row in select(dsn, "SELECT id FROM tweet_articles_tweepy ORDER BY id")]
    assert ids == [
        1135413500000000001,
        1135413504194304002,
        1135413508388608003,
        1700000000000000001,
        1700000000000000002,
        1700000000000000003,
    ]
    assert select(dsn, "SELECT hashtags, media FROM tweets WHERE id = 1700000000000000002") == [
        (["fog"], ["https://pbs.twimg.com/media/fog.jpg"])
    ]
    assert "6 new rows" in done.stdout


def test_rejected_line_has_file_line_reason_and_beginning(run: Import, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    lines = [
        status(1),
        b'{"id_str":"2", "te\n',
        b'{"foo":1}\n',
        status(2**63),
        status(3),
        b"nonsense\n",
    ]
    path.write_bytes(b"".join(lines))
    done = run(path)
    assert done.returncode == 1
    assert str(tmp_path / "import-rejects.jsonl") in done.stdout
    found = rejects(tmp_path)
    assert [(each["file"], each["member"], each["line"]) for each in found] == [
        (str(path), None, number) for number in (2, 3, 4, 6)
    ]
    assert "no JSON" in found[0]["reason"]
    assert "keys foo" in found[1]["reason"]
    assert "9223372036854775808" in found[2]["reason"]
    assert found[3]["begins"] == "nonsense"
    assert counts(done.stdout) == {"imported": 1, "posts, now rows": 2, "rejected": 4}


def test_refused_format_is_named_once_a_file(run: Import, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1700000000000000001\n1700000000000000002\n")
    done = run(
        ARCHIVES / "activity_streams.jsonl",
        ARCHIVES / "account_download.json",
        tmp_path / "ids.txt",
    )
    assert done.returncode == 1
    assert len(re.findall("holds Gnip Activity Streams, not imported", done.stderr)) == 1
    assert len(re.findall("holds a download of an account, not imported", done.stderr)) == 1
    assert len(re.findall("ids.txt holds bare ids, not imported.*hydrate", done.stderr)) == 1
    assert not (tmp_path / "import-rejects.jsonl").exists()


def test_stream_grab_in_a_tar_is_imported_with_its_control_lines_counted(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    minutes = tmp_path / "2019" / "06"
    minutes.mkdir(parents=True)
    for minute in range(5):
        lines = [status(100 * minute + n) for n in range(1, 21)] + [
            b'{"delete":{"status":{"id":1}}}\n'
        ] * 3
        packed = bz2.compress(b"".join(lines)) if minute % 2 else gzip.compress(b"".join(lines))
        (minutes / f"{minute:02}.json.{'bz2' if minute % 2 else 'gz'}").write_bytes(packed)
    subprocess.run(["tar", "-cf", tmp_path / "grab.tar", "-C", tmp_path, "2019"], check=True)
    done = run(tmp_path / "grab.tar")
    assert (done.returncode, counts(done.stdout)) == (
        0,
        {"imported": 1, "posts, now rows": 100, "delete": 15},
    )
    assert select(dsn, "SELECT count(*) FROM tweet_articles_tweepy") == [(100,)]


def test_standard_input_is_imported_like_a_file(run: Import, dsn: str) -> None:
    done = run("-", stdin=gzip.compress(b"".join(map(status, range(1, 31)))))
    assert (done.returncode, counts(done.stdout)["posts, now rows"]) == (0, 30)
    again = run("-", stdin=b"".join(map(status, range(1, 41))))
    assert "10 new rows, 0 updated, 30 known" in again.stdout


def test_recorded_answers_are_imported_without_loss(
    run: Import, dsn: str, tmp_path: Path, recorded: Path
) -> None:
    """Rows and named refusals together are the lines and posts, counted here in another way."""
    done = run(recorded / "v1", recorded / "v2")
    assert done.returncode == 1
    found = counts(done.stdout)
    files, items, ids, plain = 0, 0, set(), 0
    for path in sorted(recorded.glob("v*/*")):
        files += 1
        for document in _documents(path):
            for thing in document if isinstance(document, list) else [document]:
                tweets = _tweets(thing)
                items += len(tweets) or 1
                plain += len(tweets)
                ids |= {tweet.get("id_str") or tweet["id"] for tweet in tweets}
    assert plain > 290
    assert found.pop("imported") == files
    assert found["posts, now rows"] == plain
    assert sum(found.values()) == items
    assert {str(row[0]) for row in select(dsn, "SELECT id FROM tweet_articles_tweepy")} == ids
    assert len(rejects(tmp_path)) == found["rejected"]
    before = versions(dsn)
    again = run(recorded, "--again")
    assert {k: v for k, v in counts(again.stdout).items() if k != "imported"} == found
    changed = len(set(versions(dsn)) ^ set(before)) // 2
    # One post was recorded before and after an edit of its counts: each overwrites the other.
    assert changed <= 1


def _documents(path: Path) -> Iterator[Any]:
    text = path.read_text(encoding="utf-8")
    try:
        yield json.loads(text)
    except ValueError:
        for line in text.removesuffix("\n").split("\n"):
            try:
                yield json.loads(line)
            except ValueError:
                yield None


def _tweets(thing: Any) -> list[dict[str, Any]]:
    if not isinstance(thing, dict):
        return []
    if "data" in thing:
        data = thing["data"] if isinstance(thing["data"], list) else [thing["data"]]
        return [each for each in data if "text" in each]
    return [thing] if "text" in thing or "full_text" in thing else []


# --- again and on -------------------------------------------------------------------


def test_import_again_changes_nothing(run: Import, dsn: str, tmp_path: Path) -> None:
    for name in ("twarc2_pages.jsonl", "stream_minute.jsonl", "rest_compat.json"):
        (tmp_path / name).write_bytes((ARCHIVES / name).read_bytes())
    files = sorted(tmp_path.glob("*.json*"))
    run(*files)
    before = versions(dsn)
    skipped = run(*files)
    assert (skipped.returncode, counts(skipped.stdout)["imported before"]) == (0, 3)
    read_again = run(*files, "--again")
    assert "0 new rows, 0 updated, 7 known" in read_again.stdout
    assert versions(dsn) == before


def test_a_cut_post_takes_nothing_from_the_whole_one_that_another_process_saves(
    database: Database, dsn: str
) -> None:
    with (
        database.session() as session,
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(dsn) as other,
    ):
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=())
        state = session.begin_import(run, "f", size=9, fingerprint="f", head="h", again=False)
        other.execute(
            "INSERT INTO tweet_articles_tweepy (id, text, hashtags) VALUES (2, 'whole', '{}')"
        )
        rows = [row_of(1) | {"text": "cut"}, row_of(2) | {"text": "cut"}, row_of(3)]
        loading = threads.submit(session.load, state, rows, at(state, 5, 3), partial=[1, 2])
        while not select(dsn, "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            time.sleep(0.01)
        other.commit()
        loaded = loading.result(20)
    assert loaded is not None
    assert (loaded.new, loaded.updated) == (2, 0)
    assert select(dsn, "SELECT text FROM tweet_articles_tweepy WHERE id < 3 ORDER BY id") == [
        ("cut",),
        ("whole",),
    ]


def test_changed_file_is_read_anew_and_others_are_not(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_bytes(status(1))
    two.write_bytes(status(2))
    run(one, two)
    two.write_bytes(status(2) + status(3))
    done = run(one, two)
    assert counts(done.stdout) == {"imported before": 1, "imported": 1, "posts, now rows": 2}
    assert "1 new row, 0 updated, 1 known" in done.stdout
    assert select(dsn, "SELECT count(*) FROM tweet_articles_tweepy") == [(3,)]


def test_post_in_two_forms_ends_with_its_whole_text_in_any_order(run: Import, dsn: str) -> None:
    compat, stream = ARCHIVES / "rest_compat.json", ARCHIVES / "stream_minute.jsonl"
    whole = "SELECT text, hashtags FROM tweet_articles_tweepy WHERE id = 1135413500000000001"
    run(compat)
    assert select(dsn, whole)[0][0].endswith("https://t.co/cut1")
    run(stream)
    full = select(dsn, whole)
    assert full[0][0].endswith("https://t.co/m1")
    run(compat, "--again")
    assert select(dsn, whole) == full


def test_missing_include_takes_nothing_away_that_is_known(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    lines = [
        status(1, source="web", in_reply_to_screen_name="bo"),
        status(1, user={}, favorite_count=7),
    ]
    for name, parts in (
        ("together.jsonl", lines),
        ("first.jsonl", lines[:1]),
        ("second.jsonl", lines[1:]),
    ):
        (tmp_path / name).write_bytes(b"".join(parts))
    known = """
        SELECT tweet_from, origin_device, in_reply_to_screen_name, favorite_count
        FROM tweet_articles_tweepy
    """
    for files in (["together.jsonl"], ["first.jsonl"], ["second.jsonl"]):
        run(*(tmp_path / file for file in files))
        assert select(dsn, known)[0][:3] == ("Ada", "web", "bo")
    assert select(dsn, known) == [("Ada", "web", "bo", 7)]


def timed(likes: int, day: int | None, *, padding: str = "") -> bytes:
    """A page of one post with its counts of a day, as twarc keeps it."""
    post = {"id": "5", "text": "x", "public_metrics": {"like_count": likes, "retweet_count": 0}}
    page: dict[str, Any] = {"data": [post], "includes": {"users": [{"id": padding}]}}
    if day is not None:
        page["__twarc"] = {"retrieved_at": f"2023-05-{day:02}T00:00:00+00:00"}
    return json.dumps(page).encode() + b"\n"


@pytest.mark.parametrize("order", ["abc", "cab", "bca", "cba"])
def test_newest_counts_win_in_any_order_of_the_files(
    run: Import, dsn: str, tmp_path: Path, order: str
) -> None:
    days = {"a": 1, "b": 9, "c": 20}
    for name, day in days.items():
        lines = timed(100 + day, day, padding="x" * (50 - day)) + timed(day, max(1, day - 1))
        (tmp_path / name).write_bytes(lines)
    for name in order:
        run(tmp_path / name)
    assert select(dsn, "SELECT favorite_count FROM tweet_articles_tweepy") == [(120,)]
    seen = "SELECT max(like_count), count(DISTINCT seen_at) FROM crawl_metrics"
    assert select(dsn, seen) == [(120, 5)]


def test_without_times_the_later_of_the_given_files_wins(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    first, second = tmp_path / "z.jsonl", tmp_path / "a.jsonl"
    first.write_bytes(timed(1, None))
    second.write_bytes(timed(2, None, padding="x" * 500))
    run(first, second, "--threads", "1")
    counts = "SELECT favorite_count FROM tweet_articles_tweepy"
    assert select(dsn, counts) == [(2,)]
    run(second, first, "--threads", "1", "--again")
    assert select(dsn, counts) == [(1,)]


def big(folder: Path, count: int, *, packed: bool, first: int = 1) -> Path:
    """A file of this many posts, each unlike the others.

    After every 97 comes a line that is none.
    """
    parts = []
    for number in range(first, first + count):
        parts.append(status(number, text=f"post {number} " + "x" * (number % 300)))
        if number % 97 == 0:
            parts.append(b'{"delete":{"status":{"id":1}}}\n')
        if number % 5_003 == 0:
            parts.append(b"broken\n")
    data = b"".join(parts)
    path = folder / f"big{first}.jsonl{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    return path


def killed_after(
    dsn: str, folder: Path, rows: int, *arguments: str | Path, by: signal.Signals
) -> int:
    """Starts an import, sends the signal once so many rows are there, and gives its exit code."""
    argv, environ = command(dsn, *arguments)
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            argv, env=environ, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                while process.poll() is None:
                    found = connection.execute(
                        "SELECT count(*) FROM tweet_articles_tweepy"
                    ).fetchone()
                    if found and found[0] >= rows:
                        break
                    time.sleep(0.005)
            if by == signal.SIGKILL:
                os.killpg(process.pid, by)
            else:
                process.send_signal(by)
            return process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.parametrize("packed", [False, True])
def test_killed_import_goes_on_where_it_was(
    run: Import, dsn: str, tmp_path: Path, packed: bool
) -> None:
    """Three kills leave nothing missing and nothing doubled.

    No row is written twice, and the counts are exact.
    """
    count = 40_000
    path = big(tmp_path, count, packed=packed)
    seen = []
    for rows in (1, 10_001, 20_001):
        killed_after(dsn, tmp_path, rows, path, "--sentiment", "off", by=signal.SIGKILL)
        seen += select(dsn, "SELECT byte_offset, post_count FROM crawl_import")
        assert select(dsn, "SELECT count(*) FROM tweet_articles_tweepy") == [(seen[-1][1],)]
    before = set(versions(dsn))
    assert 0 < seen[0][1] < seen[-1][1] < count
    assert [offset for offset, _ in seen] == sorted({offset for offset, _ in seen})
    done = run(path, "--sentiment", "off")
    assert counts(done.stdout) == {
        "imported": 1,
        "posts, now rows": count,
        "delete": count // 97,
        "rejected": count // 5_003,
    }
    assert f"{count:,} new rows, 0 updated, 0 known" in done.stdout
    assert "1 file went on" in done.stdout
    assert before <= set(versions(dsn))
    assert select(dsn, "SELECT count(*), min(id), max(id) FROM tweet_articles_tweepy") == [
        (count, 1, count)
    ]
    assert len({each["line"] for each in rejects(tmp_path)}) == count // 5_003


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_with_everything_saved(
    run: Import, dsn: str, tmp_path: Path, by: signal.Signals, code: int
) -> None:
    files = [big(tmp_path, 30_000, packed=False), big(tmp_path, 30_000, packed=True, first=40_001)]
    assert killed_after(dsn, tmp_path, 1, *files, "--sentiment", "off", by=by) == code
    output = (tmp_path / "output").read_text()
    assert "Traceback" not in output
    assert "ended early: stopped by the operator" in output
    ((saved,),) = select(dsn, "SELECT sum(post_count)::int FROM crawl_import")
    assert select(dsn, "SELECT count(*) FROM tweet_articles_tweepy") == [(saved,)]
    assert counts(output)["posts, now rows"] == saved < 60_000
    assert "60,000 new rows" in run(*files, "--sentiment", "off").stdout


def test_killed_worker_costs_only_its_batch(dsn: str, tmp_path: Path) -> None:
    files = [big(tmp_path, 25_000, packed=False), big(tmp_path, 25_000, packed=True, first=40_001)]
    argv, environ = command(dsn, *files, "--sentiment", "off")
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(argv, env=environ, cwd=tmp_path, stdout=output, stderr=output)
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not (
            connection.execute("SELECT count(*) FROM tweet_articles_tweepy").fetchone() or (0,)
        )[0]:
            time.sleep(0.005)
    victims = [
        int(pid)
        for pid in _children(process.pid)
        if b"spawn_main" in _cmdline(pid) or b"forkserver" in _cmdline(pid)
    ]
    workers = [int(child) for pid in victims for child in _children(pid)] or victims
    os.kill(workers[-1], signal.SIGKILL)
    assert process.wait(40) == 1  # the broken lines
    text = (tmp_path / "output").read_text()
    assert "50,000 new rows, 0 updated, 0 known" in text
    assert select(dsn, "SELECT count(*) FROM tweet_articles_tweepy") == [(50_000,)]


def _children(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _cmdline(pid: int | str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


# --- refusals and settings ----------------------------------------------------------


def test_missing_file_is_named_before_anything_is_read(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    done = run(ARCHIVES / "twarc2_pages.jsonl", tmp_path / "nothing.jsonl")
    assert done.returncode == 2
    assert "nothing.jsonl cannot be read" in done.stderr
    assert select(dsn, "SELECT count(*) FROM crawl_import") == [(0,)]


def test_unusable_input_is_a_sentence_and_exit_code_2(run: Import, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        ([], "needs files"),
        ([tmp_path / "empty"], "holds no file of posts"),
        ([ARCHIVES, "--csv"], "import writes to PostgreSQL"),
        ([ARCHIVES, "--rejects", tmp_path / "no" / "such"], "cannot be written"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_zip_and_binary_files_fail_alone(run: Import, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "b.jsonl").write_bytes(status(1))
    done = run(tmp_path / "a.zip", tmp_path / "b.jsonl")
    assert done.returncode == 1
    assert "it is no whole zip" in rejects(tmp_path)[0]["reason"]
    assert counts(done.stdout)["posts, now rows"] == 1


def test_sentiment_is_as_the_setting_says(run: Import, dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        status(1, text="I love it", lang="en") + status(2, text="I love it", lang="de")
    )
    scores = "SELECT sentiment::text FROM tweet_articles_tweepy ORDER BY id"
    run(path, "--sentiment", "off")
    assert select(dsn, scores) == [(None,), (None,)]
    run(path, "--again")
    assert select(dsn, scores) == [("0.6369",), (None,)]


def test_import_covers_nothing_and_is_a_run_in_the_books(run: Import, dsn: str) -> None:
    run(ARCHIVES / "twarc2_pages.jsonl")
    assert select(dsn, "SELECT count(*) FROM crawl_target") == [(0,)]
    assert select(dsn, "SELECT count(*) FROM crawl_page") == [(0,)]
    ((exit_code, report),) = select(dsn, "SELECT exit_code, report FROM crawl_run")
    assert (exit_code, report["posts"], report["new"]) == (0, 3, 3)


def test_later_crawl_of_imported_posts_misses_and_doubles_none(
    run: Import, dsn: str, tmp_path: Path
) -> None:
    """A crawl after an import of an archive with holes reads everything.

    An import says nothing of holes.
    """
    handles = ["writer_1", "writer_2"]
    with Sandbox("--credentials", "1", "--posts", "40-120") as sandbox:
        known = [line for handle in handles for line in sandbox.truth(handle)]
        pages = [{"data": line["tweet"], "includes": line["includes"]} for line in known[::3]]
        (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, pages)), encoding="utf-8")
        assert run(tmp_path / "some.jsonl").returncode == 0
        assert select(dsn, "SELECT count(*) FROM tweet_articles_tweepy") == [(len(pages),)]
        crawler = Crawler.on(sandbox, tmp_path, dsn, handles)
        crawler.run()
        assert crawler.stored_ids() == truth(sandbox, handles)
        assert sandbox.books()["posts_sold"] == len(crawler.stored_ids())


# --- the batch ----------------------------------------------------------------------


def row_of(number: int, **values: Any) -> dict[str, Any]:
    return (
        {column: "{}" if column == "hashtags" else None for column in COLUMNS}
        | {"id": number}
        | values
    )


def at(state: ImportState, offset: int, posts: int) -> ImportState:
    return ImportState(state.id, (0, offset, 1), posts, 0, 0, {}, finished=False)


def test_batch_that_is_saved_twice_counts_once(database: Database) -> None:
    """The answer to a commit may be lost, and the batch is saved once more."""
    with database.session() as session:
        number, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        state = session.begin_import(number, "/a", size=9, fingerprint="f", head="h", again=False)
        reached = at(state, 5, 2)
        one = session.load(state, [row_of(1), row_of(2)], reached)
        two = session.load(state, [row_of(1), row_of(2)], reached)
    assert one is not None
    assert (one.new, one.posts) == (2, 2)
    assert two == one


def test_two_processes_do_not_import_the_same_file(database: Database, dsn: str) -> None:
    with database.session() as session, database.session() as other:
        number, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        state = session.begin_import(number, "/a", size=9, fingerprint="f", head="h", again=False)
        assert (
            other.begin_import(number, "/a", size=9, fingerprint="f", head="h", again=False)
            == state
        )
        assert session.load(state, [row_of(1)], at(state, 5, 1)) is not None
        assert other.load(state, [row_of(2)], at(state, 3, 1)) is None
    assert select(dsn, "SELECT id FROM tweet_articles_tweepy") == [(1,)]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00")), max_size=8
    )
)
def test_any_text_goes_through_the_stage_as_it_is(
    database: Database, dsn: str, texts: list[str]
) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("TRUNCATE tweet_articles_tweepy; DELETE FROM crawl_import")
    with database.session() as session:
        number, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        state = session.begin_import(number, "/a", size=9, fingerprint="f", head="h", again=False)
        rows = [row_of(n, text=text, tweet_from=text) for n, text in enumerate(texts, start=1)]
        loaded = session.load(state, rows, at(state, 1, len(rows)))
    assert loaded is not None
    assert loaded.new == len(texts)
    stored = select(dsn, "SELECT text, tweet_from FROM tweet_articles_tweepy ORDER BY id")
    assert stored == [(text, text) for text in texts]
