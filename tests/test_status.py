"""The state of things: what is stored, spent and open; true to the pages, and fast on many
targets.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import PROGRAM, Crawler
from rich.console import Console
from sandbox_server import Sandbox

from tweetcrawler import prices
from tweetcrawler.books import added_up, until_day_of_month, usage_of
from tweetcrawler.db import Database
from tweetcrawler.look import status
from tweetcrawler.look.display import print_sections
from tweetcrawler.look.plan import Plan

HANDLES = [f"writer_{n}" for n in range(6)]
TIMELINE = "/2/users/:id/tweets"
NOON = 1_790_000_000 // 86_400 * 86_400 + 43_200


@pytest.fixture(scope="module")
def world() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "60-400") as running:
        yield running


def found_of(crawler: Crawler, handle: str) -> Any:
    return status_of(crawler, "--handle", handle)["found"]


def seconds_of(time: str) -> float:
    """A time of a document, as seconds since 1970."""
    assert time.endswith("Z")
    return datetime.fromisoformat(time).timestamp()


def status_of(crawler: Crawler, *arguments: str) -> Any:
    return json.loads(crawler.run("status", "--json", *arguments).stdout)


def test_all_of_it_at_a_glance(world: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(world, tmp_path, dsn, [*HANDLES, "gone_one", "protected_one"])
    crawler.run(expect=1)
    status = status_of(crawler)
    assert {(t["state"], t["count"]) for t in status["targets"]} == {
        ("ok", 6),
        ("missing", 1),
        ("protected", 1),
    }
    listed = {target["name"]: target for target in status["listed"]}
    assert listed["@gone_one"]["holes"][0]["why"].startswith("missing: ")
    ada = listed[f"@{HANDLES[0]}"]
    assert [hole["why"] for hole in ada["holes"]] == ["newer than the last visit"]
    newest = max(int(i) for i in world.truth_ids(HANDLES[0])["reachable"])
    covered_s = seconds_of(ada["covered"][-1]["until"])
    assert covered_s == pytest.approx(((newest >> 22) + 1288834974657) / 1000, abs=1)
    posts = len(crawler.stored_ids())
    assert status["spent"]["today"]["posts"] == status["spent"]["month"]["posts"] == posts
    assert status["spent"]["today"]["usd"] == pytest.approx(posts * 0.005 + 7 * 0.01)
    assert sum(s["posts"] for s in status["spent"]["by_credential"].values()) == posts
    [run] = status["spent"]["by_run"]
    assert (run["run"], run["exit_code"], run["spent"]["posts"]) == (1, 1, posts)
    windows = {(w["credential"], w["as"], w["endpoint"]): w for w in status["windows"]}
    used = sum(
        w["limit"] - w["left"]
        for (_, _, e), w in windows.items()
        if e == TIMELINE and w["left"] is not None
    )
    assert (
        used
        == crawler.select(f"SELECT count(*) FROM crawl_page WHERE endpoint = '{TIMELINE}'")[0][0]
        # The protected user is asked for as the app and as the user; neither gives a page.
        + 2
    )
    assert status["next_run"]["requests_total"]["likely"] == 6
    said = crawler.run("status").stdout
    for words in (
        "coverage",
        "windows now",
        "this month",
        "the next run would take",
        "some targets not done",
    ):
        assert words in said


def test_holes_and_losses_have_times_and_reasons(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--posts", "3600-3600", "--credentials", "1") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, ["prolific"])
        crawler.run("--max-posts", "700", expect=5)
        [detail] = found_of(crawler, "@Prolific")
        assert [hole["why"] for hole in detail["holes"]] == [
            "newer than the last visit",
            "a walk was interrupted here; the next run goes on",
        ]
        assert detail["next_run"]["posts"]["likely"] == pytest.approx(2_500, abs=20)
        crawler.run()
        [detail] = found_of(crawler, "prolific")
        [lost] = detail["unreachable"]
        assert "newest" in lost["why"]
        assert (lost["from"], len(detail["holes"]), detail["posts"]) == (None, 1, 3_200)
        said = crawler.run("status", "--handle", "prolific").stdout
        assert "out of reach" in said
        assert "posts bought: 3,200 of about 3,600" in said
        assert "no target" in crawler.run("status", "--handle", "nobody", expect=2).stderr


def test_one_part_is_shown_alone_and_no_name_is_cut(
    world: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(world, tmp_path, dsn, ["a_rather_long_1"])
    crawler.run()
    windows = crawler.run("status", "windows").stdout
    assert windows.startswith("windows now")
    assert "coverage" not in windows
    assert crawler.run("status", "runs").stdout.startswith("runs")
    assert "no target" in crawler.run("status", "@windows", expect=2).stderr
    console = Console(width=80, record=True, file=io.StringIO())
    with Database(dsn).reader() as reader:
        state = status.of_all(
            reader,
            prices.load(None, None),
            next_run=Plan("x", 0.0).as_plain(),
            budgets={},
        )
    print_sections(status.sections(state), console)
    assert "@a_rather_long_1" in console.export_text()


def test_an_empty_list_is_no_success(world: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(world, tmp_path, dsn, ["# nobody yet"])
    for command in ([], ["watch"]):
        assert "names no handle" in crawler.run(*command, expect=2).stderr


def test_a_picture_that_changes_needs_a_terminal(dsn: str, tmp_path: Path) -> None:
    crawler = Crawler(tmp_path, dsn=dsn)
    assert "draws on a terminal" in crawler.run("status", "--watch", expect=2).stderr
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "-c", "tweet.ini", "status", "--watch"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        # Where the tests run in the background, Ctrl-C would be ignored by all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    seen = b""
    while b"windows now" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    ends_at = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < ends_at:
        # What it draws on its way out is read, or it would wait for that.
        if select.select([ours], [], [], 0.2)[0]:
            with contextlib.suppress(OSError):
                seen += os.read(ours, 4096)
    if process.poll() is None:
        process.kill()
        process.wait()
    os.close(ours)
    assert process.returncode == 130, seen[-2000:]
    # 1049l leaves the other screen of the terminal.
    assert b"windows now" in seen.rpartition(b"1049l")[2], "the last picture stays"


def test_no_secret_is_shown(world: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(world, tmp_path, dsn, HANDLES[:1])
    crawler.run()
    said = (
        crawler.run("status").stdout
        + crawler.run("status", "--json").stdout
        + str(status_of(crawler))
    )
    for row in world.credentials:
        for value in row.values():
            assert len(value) < 5 or value not in said
    fingerprints = crawler.select("SELECT user_fingerprint, app_fingerprint FROM api_credential")
    assert not any(part in said for row in fingerprints for part in row)


# -- X's own count -------------------------------------------------------------------


def test_xs_own_count_agrees_and_another_program_makes_a_difference(
    dsn: str, tmp_path: Path
) -> None:
    with Sandbox("--credentials", "2", "--posts", "60-200") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
        crawler.run()
        charged = sandbox.books()["projects"]
        usage = {u["credential"]: u for u in status_of(crawler, "--ask")["usage"]}
        assert sorted(u["x"] for u in usage.values()) == sorted(
            p["posts_charged"] for p in charged.values()
        )
        assert [u["difference"] for u in usage.values()] == [0, 0]
        sandbox.get(
            f"/2/users/{sandbox.id_of('stranger')}/tweets", {"max_results": "50"}, credential=1
        )
        usage = {u["credential"]: u for u in status_of(crawler, "--ask")["usage"]}
        assert (usage["c1"]["difference"], usage["c2"]["difference"]) == (0, 50)
        assert "X counts 50 more" in crawler.run("status").stdout
        assert sandbox.books()["posts_sold"] == len(crawler.stored_ids()) + 50, "asking is free"


def test_numbers_of_usage_come_as_text_or_as_numbers() -> None:
    def data(cap: Any, count: Any) -> dict[str, Any]:
        day = {"date": "2026-08-01T00:00:00.000Z", "usage": count}
        return {
            "data": {
                "project_cap": cap,
                "project_usage": count,
                "cap_reset_day": 4,
                "daily_project_usage": {"usage": [day, {"date": "odd", "usage": "1"}, None]},
            }
        }

    assert usage_of("c1", 0.0, data("3000000", "20")) == usage_of("c1", 0.0, data(3_000_000, 20))
    assert usage_of("c1", 0.0, {"errors": []}) is None
    odd = usage_of("c1", 0.0, {"data": {"project_cap": None, "cap_reset_day": "99"}})
    assert odd is not None
    assert (odd.cap, odd.cycle_day) == (None, None)


def test_a_cap_turns_on_the_day_that_x_names() -> None:
    day = 86_400
    january_30 = 1_801_267_200.0  # 2027-01-30 00:00 UTC
    assert until_day_of_month(january_30, 31) == day
    assert until_day_of_month(january_30 + 2 * day, 31) == 27 * day, "February ends on the 28th"
    assert until_day_of_month(january_30, 30) == 29 * day, "today's turn is over"


# -- once a day ----------------------------------------------------------------------


def pages(dsn: str, *rows: tuple[int, int, int, int, int, str]) -> int:
    """Stores pages of one target as (posts, new, oldest id, newest id, seconds, endpoint);
    gives the run.
    """
    with psycopg.connect(dsn) as connection:
        run = connection.execute(
            "INSERT INTO crawl_run (version, arguments, host) VALUES ('0', '{}', 'h') RETURNING id"
        ).fetchone()
        target = connection.execute(
            "INSERT INTO crawl_target (kind, handle) VALUES ('timeline', 'ada') RETURNING id"
        ).fetchone()
        assert run
        assert target
        for posts, new, oldest, newest, at, endpoint in rows:
            connection.execute(
                """
                INSERT INTO crawl_page (id, run_id, target_id, fetched_at, endpoint, params,
                    credential, post_count, user_count, new_count, updated_count, oldest_id,
                    newest_id)
                VALUES (%s, %s, %s, to_timestamp(%s), %s, '{}', 'c1', %s, 0, %s, 0, %s, %s)
                """,
                [uuid.uuid4(), run[0], target[0], at, endpoint, posts, new, oldest, newest],
            )
        return int(run[0])


@pytest.mark.parametrize(
    ("second", "free"),
    [
        ((100, 0, 100, 199, NOON + 60, TIMELINE), 100),
        ((100, 40, 160, 260, NOON + 60, TIMELINE), 60),
        ((100, 0, 100, 199, NOON + 86_400, TIMELINE), 0),
        ((100, 0, 100, 199, NOON + 60, "/2/tweets/search/all"), 0),
        ((100, 0, 300, 400, NOON + 60, TIMELINE), 0),
        ((100, 100, 200, 299, NOON + 60, TIMELINE), 0),
    ],
    ids=[
        "the same again",
        "an overlap",
        "the next day",
        "another endpoint",
        "known from elsewhere",
        "new ones",
    ],
)
def test_what_is_read_again_on_one_day_through_one_endpoint_is_free(
    database: Database, dsn: str, second: tuple[int, int, int, int, int, str], free: int
) -> None:
    run = pages(dsn, (100, 100, 100, 199, NOON, TIMELINE), second)
    tariff = prices.load(None, None)
    with database.reader() as reader:
        total = added_up(reader.purchases(run=run), tariff)
        assert total == added_up(reader.purchases(since=NOON - 1, until=NOON + 200_000), tariff)
    assert (total.posts, total.charged) == (200, 200 - free)
    assert total.micro_usd == (200 - free) * 5_000


# -- many targets --------------------------------------------------------------------


def fill(dsn: str, targets: int) -> None:
    """So many crawled targets with a page each, of a month."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO crawl_run (version, arguments, host) VALUES ('0', '{}', 'h')"
        )
        connection.execute(
            """
            INSERT INTO crawl_target (kind, key, handle, username, state, covered,
                account_posts, post_count, crawled_at)
            SELECT 'timeline', n::text, 'h' || n, 'H' || n,
                CASE WHEN n %% 50 = 0 THEN 'missing' ELSE 'ok' END,
                int8multirange(int8range(1, 2051000000000000000 + n)), 100, 100, now()
            FROM generate_series(1, %s) n
            """,
            [targets],
        )
        connection.execute(
            """
            INSERT INTO crawl_page (id, run_id, target_id, fetched_at, endpoint, params,
                credential, post_count, user_count, new_count, updated_count, oldest_id,
                newest_id)
            SELECT gen_random_uuid(), 1, id, now() - interval '1 s' * (id % 600),
                '/2/users/:id/tweets', '{}', 'c' || id % 9, 100, 0, 100, 0,
                2050000000000000000 + id, 2050900000000000000 + id
            FROM crawl_target
            """
        )
        connection.execute("VACUUM ANALYZE crawl_target")
        connection.execute("VACUUM ANALYZE crawl_page")


def seconds_of_a_look(crawler: Crawler) -> float:
    crawler.run("status", "--json")
    begun = time.monotonic()
    status = status_of(crawler)
    took_s = time.monotonic() - begun
    assert status["next_run"]["posts"]["likely"] > 0
    return took_s


def rows_read(dsn: str) -> Counter[str]:
    """Rows that were read so far, by table: a clock would measure the machine, too."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return Counter(
            dict(
                connection.execute(
                    "SELECT relname, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables "
                    "WHERE relname IN ('crawl_target', 'crawl_page')"
                ).fetchall()
            )
        )


def test_a_look_at_one_of_many_targets_reads_that_one_and_at_all_of_them_each_page_a_few_times(
    dsn: str, tmp_path: Path
) -> None:
    fill(dsn, 50_000)
    crawler = Crawler(tmp_path, dsn=dsn)
    before = rows_read(dsn)
    crawler.run("status", "--handle", "h777")
    of_one = rows_read(dsn) - before
    assert status_of(crawler)["next_run"]["posts"]["likely"] > 0
    of_all = rows_read(dsn) - before - of_one
    print(f"read for one target: {dict(of_one)}, for all: {dict(of_all)}")
    assert 0 < of_one.total() < 20
    assert 0 < of_all.total() < 4 * 50_000


@pytest.mark.slow
def test_a_million_targets_take_a_second(dsn: str, tmp_path: Path) -> None:
    fill(dsn, 1_000_000)
    took_s = min(seconds_of_a_look(Crawler(tmp_path, dsn=dsn)) for _ in range(3))
    print(f"status on a million targets: {took_s:.2f} s with the start of the program")
    assert took_s < 2.0


def test_no_index_holds_what_every_page_changes(dsn: str) -> None:
    """A renewed lease must not touch any index, or every page of a crawl would write to all
    of them.
    """
    with psycopg.connect(dsn) as connection:
        indexed = connection.execute(
            """
            SELECT DISTINCT a.attname
            FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey::int2[])
            WHERE i.indrelid = 'crawl_target'::regclass
            """
        ).fetchall()
    changing = {
        "lease_owner",
        "lease_until",
        "covered",
        "unreachable",
        "post_count",
        "account_posts",
        "crawled_at",
    }
    assert not changing & {name for (name,) in indexed}
