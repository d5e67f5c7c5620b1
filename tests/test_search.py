"""Searches through their door: recent, archive, beyond a timeline's reach, counted only."""

from __future__ import annotations

import csv
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from busy import window_s
from crawls import Crawler, kill_tree, killed_after_sales, truth, wait_for_sales, workers_of
from sandbox_server import Sandbox
from searches import (
    ALL,
    RECENT,
    WEEK_S,
    covered,
    found,
    is_exact,
    lost,
    matching,
    now_of,
    requests_to,
    unreachable,
)

from tweetcrawler import queries
from tweetcrawler.ids import id_at, time_ms_of
from tweetcrawler.prices import usd

WORDS = ["coffee", "library", '"the new" -has:media', "bus OR train lang:en"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2") as running:
        yield running


def test_a_week_is_collected_once_and_what_is_older_is_marked(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    asked = [part for word in WORDS for part in ("-q", word)]
    done = crawler.run("search", *asked)
    for word in WORDS:
        assert len(is_exact(crawler, sandbox, word)) > 20
        [(lower, upper)] = covered(crawler, word)
        reaches_s = now_of(sandbox) - time_ms_of(lower) / 1000
        assert WEEK_S - 300 < reaches_s < WEEK_S
        assert unreachable(crawler, word) == [(1, lower)]
        assert upper == matching(sandbox, word, lower)[-1] + 1
    assert done.stdout.count("brings no retweets") == 1
    assert done.stdout.count("looks back 7 days") == 1
    before = sandbox.books()
    assert requests_to(before, RECENT).keys() == {"200"}
    assert lost(crawler, sandbox) == 0
    crawler.run("search", *asked)
    after = sandbox.books()
    assert after["posts_sold"] == before["posts_sold"]
    assert requests_to(after, RECENT)["200"] - requests_to(before, RECENT)["200"] == len(WORDS)


def test_a_later_search_buys_what_is_new_and_nothing_else(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    sandbox.truth_ids("newsy")
    crawler.run("search", "-q", "from:newsy")
    sold = sandbox.books()["posts_sold"]
    sandbox.control("POST", "/sandbox/world", {"user": "newsy", "add_posts": 14, "age_s": 120})
    crawler.run("search", "-q", "  from:newsy ")
    assert sandbox.books()["posts_sold"] - sold == 14
    is_exact(crawler, sandbox, "from:newsy")


def test_bounds_are_covered_and_nothing_beyond_them(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    day_ms = int(now_of(sandbox)) * 1000 - 3 * 86_400_000
    lower, upper = id_at(day_ms), id_at(day_ms + 86_400_000)
    crawler.run("search", "-q", "coffee", "--since", str(lower - 1), "--until", str(upper))
    assert covered(crawler, "coffee") == [(lower, upper)]
    assert unreachable(crawler, "coffee") == []
    inside = is_exact(crawler, sandbox, "coffee")
    assert len(inside) > 5
    crawler.run("search", "-q", "coffee")
    assert len(is_exact(crawler, sandbox, "coffee")) > len(inside)
    assert len(covered(crawler, "coffee")) == 1
    assert lost(crawler, sandbox) == 0
    assert sandbox.books()["posts_sold"] == sandbox.books()["posts_distinct"]


def test_a_date_bounds_a_search_and_bounds_the_wrong_way_round_are_refused(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    done = crawler.run(
        "search", "-q", "x", "--since", "2026-02-01", "--until", "2026-01-01", expect=2
    )
    assert "--since is not before --until" in done.stderr
    done = crawler.run("crawl", "--since", "2026-02-01", expect=2)
    assert "--since belongs to search" in done.stderr
    done = crawler.run("search", expect=2)
    assert "needs a query" in done.stderr


def test_a_wrong_query_fails_with_the_reason_of_x_and_the_others_are_done(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    (tmp_path / "queries.txt").write_text("# a comment\n#opendata\n\nis:reply\n coffee\n")
    done = crawler.run("search", "--queries", "queries.txt", expect=1)
    assert "is:reply: failed: X answers 400" in done.stdout
    for query in ("#opendata", "coffee"):
        assert len(is_exact(crawler, sandbox, query)) > 20
    states = dict(crawler.select("SELECT username, state FROM crawl_target"))
    assert states == {"#opendata": "ok", "is:reply": "failed", "coffee": "ok"}


def test_a_count_goes_on_where_it_stopped_and_after_an_early_end(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    """Twelve months are twelve requests, whatever comes in between."""
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    since = datetime.fromtimestamp(now_of(sandbox) - 12 * 31 * 86_400 + 7_200, UTC)
    asked = ("search", "-q", "from:ada", "--archive", "--since", f"{since:%Y-%m-%d}")
    lowest = id_at(int(datetime.fromisoformat(f"{since:%Y-%m-%d}T00:00:00Z").timestamp() * 1000))
    count = len(matching(sandbox, "from:ada", lowest - 1))
    first = crawler.run(*asked, "--count", "--budget", "0.05", expect=5)
    assert "from:ada (only from" in first.stdout
    sandbox.fault("early-end", endpoint="/2/tweets/counts/all", count=1)
    done = crawler.run(*asked, "--count")
    assert "goes on" in done.stdout + done.stderr
    [counted] = re.findall(r"from:ada\W+([\d,]+) ", done.stdout)
    assert abs(int(counted.replace(",", "")) - count) <= 2
    [(requests, left)] = crawler.select(
        "SELECT count(*)::int, (SELECT count(*) FROM crawl_count WHERE done_at IS NULL)::int "
        "FROM crawl_page"
    )
    assert 12 <= requests <= 13
    assert left == 0


def test_counting_buys_no_posts_and_tells_what_they_would_cost(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    since = str(id_at(int((now_of(sandbox) - 5 * 86_400) * 1000)))
    expected = len(matching(sandbox, "coffee", int(since)))
    done = crawler.run("search", "-q", "coffee", "--since", since, "--count")
    assert f"{expected} " in done.stdout
    assert usd(expected * 5_000) in done.stdout
    books = sandbox.books()
    assert books["posts_sold"] == 0
    assert crawler.stored_ids() == []
    assert crawler.select("SELECT count(*) FROM crawl_target") == [(0,)]
    crawler.run("search", "-q", "from:ada", "--count", "--archive", "--since", "2026-06-01")
    assert sandbox.books()["posts_sold"] == 0


def test_ids_too_old_by_the_clock_of_x_are_asked_by_that_clock(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    """X's answer tells the time.

    A post of yesterday by this machine's clock may be out of reach for X.
    """
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    day_ms = int(now_of(sandbox)) * 1000 - 2 * 86_400_000
    bounds = [
        "--since",
        str(id_at(day_ms)),
        "--until",
        str(id_at(day_ms + 3_600_000)),
    ]
    crawler.run("search", "-q", "coffee", *bounds)
    [(lower, upper)] = covered(crawler, "coffee")
    sandbox.control("POST", "/sandbox/clock", {"skew_s": 6 * 86_400})
    crawler.run("search", "-q", "coffee")
    is_exact(crawler, sandbox, "coffee")
    newest = covered(crawler, "coffee")[-1]
    assert now_of(sandbox) - time_ms_of(newest[0]) / 1000 < WEEK_S
    # The rest below, and the hole between both, are out of reach now; what was covered
    # stays covered.
    assert (lower, upper) in covered(crawler, "coffee")
    assert unreachable(crawler, "coffee") == [(1, lower), (upper, newest[0])]


@pytest.mark.slow
def test_windows_are_used_and_never_overrun_by_searches(dsn: str, tmp_path: Path) -> None:
    with Sandbox(
        "--credentials", "2", "--window-s", window_s(3), "--limit", f"{RECENT}=2/2"
    ) as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, [])
        crawler.run("search", *[part for word in WORDS for part in ("-q", word)], "-q", "good")
        for word in WORDS:
            is_exact(crawler, sandbox, word)
        assert sandbox.books()["closed_window_requests"] == 0
        assert requests_to(sandbox.books(), RECENT).keys() == {"200"}
        assert lost(crawler, sandbox) == 0


def test_killed_searches_go_on_where_they_were(dsn: str, tmp_path: Path) -> None:
    _killed(dsn, tmp_path, WORDS, kills=3)


@pytest.mark.slow
def test_searches_killed_fifty_times_lose_nothing(dsn: str, tmp_path: Path) -> None:
    words = [f"{word} -from:x{n}" for n in range(6) for word in (*WORDS, "our", "my", "this")]
    _killed(dsn, tmp_path, words, kills=50)


def _killed(dsn: str, folder: Path, words: list[str], *, kills: int) -> None:
    chance = random.Random(3)
    asked = [part for word in words for part in ("-q", word)]
    with Sandbox("--credentials", "2", "--latency-ms", "120") as sandbox:
        crawler = Crawler.on(sandbox, folder, dsn, [])
        killed = 0
        for number in range(kills):
            process = crawler.start("search", *asked)
            in_time = wait_for_sales(process, sandbox, chance.randint(1, 150))
            family = workers_of(process.pid)
            if number % 2 and len(family) == 2:
                chance.choice(family).kill()
                time.sleep(chance.uniform(0, 0.3))
            kill_tree(process.pid)
            process.communicate()
            killed += in_time
        assert killed >= kills * 0.6, "there must be work left to be killed in"
        crawler.run("search", *asked)
        for word in words:
            is_exact(crawler, sandbox, word)
        # Two processes, and a page of 100 each that was bought and not saved.
        assert lost(crawler, sandbox) <= kills * 2 * 100
        twice = crawler.select(
            "SELECT sum(post_count) - (SELECT count(*) FROM crawl_found) FROM crawl_page"
        )
        assert twice == [(0,)], "what was saved is not bought again"
        assert sandbox.books()["closed_window_requests"] == 0


# -- the archive ---------------------------------------------------------------------


def test_the_archive_fills_what_recent_search_did_not_reach(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "2", "--posts", "900-900") as sandbox:
        sandbox.truth_ids("chatty")
        crawler = Crawler.on(sandbox, tmp_path, dsn, [])
        crawler.run("search", "-q", "from:chatty")
        week = found(crawler, "from:chatty")
        assert unreachable(crawler, "from:chatty") != []
        crawler.run("search", "-q", "from:chatty", "--archive")
        assert unreachable(crawler, "from:chatty") == []
        [(lower, _)] = covered(crawler, "from:chatty")
        assert lower == 1
        assert len(is_exact(crawler, sandbox, "from:chatty")) == 900 > len(week)
        books = sandbox.books()
        assert books["posts_sold"] == books["posts_distinct"] == 900
        assert requests_to(books, ALL) == {"200": 3}, "the news, and 900 posts in pages of 500"


def test_the_archive_is_asked_once_a_second_by_all_processes_together(
    dsn: str, tmp_path: Path
) -> None:
    with Sandbox("--credentials", "1", "--posts", "20-20") as sandbox:
        names = [f"one_{n}" for n in range(4)]
        for name in names:
            sandbox.truth_ids(name)
        crawler = Crawler.on(sandbox, tmp_path, dsn, [], threads=3)
        crawler.run(
            "search", "--archive", *[part for name in names for part in ("-q", f"from:{name}")]
        )
        assert requests_to(sandbox.books(), ALL) == {"200": 4}
        assert crawler.stored_ids() == truth(sandbox, names)


def test_beyond_the_reach_of_a_timeline_the_archive_goes_on(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "2", "--posts", "3700-3700") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, ["prolific"])
        crawler.run("--archive")
        assert crawler.stored_ids() == sorted(int(i) for i in sandbox.truth_ids("prolific")["ids"])
        [(known, beyond, reason)] = crawler.select(
            "SELECT covered::text, unreachable::text, unreachable_reason FROM crawl_target"
        )
        assert (known.startswith("{[1,"), beyond, reason) == (True, "{}", "")
        books = sandbox.books()
        assert books["posts_sold"] == books["posts_distinct"] == 3_700
        crawler.run("--archive")
        assert sandbox.books()["posts_sold"] == 3_700


@pytest.mark.slow
def test_what_was_unreachable_once_is_read_from_the_archive_later_even_if_killed(
    dsn: str, tmp_path: Path
) -> None:
    with Sandbox("--credentials", "2", "--posts", "4300-4300") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, ["prolific"])
        crawler.run()
        assert len(crawler.stored_ids()) == 3_200
        process = crawler.start("--archive")
        assert killed_after_sales(process, sandbox, 1)
        crawler.run("--archive")
        assert crawler.stored_ids() == sorted(int(i) for i in sandbox.truth_ids("prolific")["ids"])
        assert crawler.select("SELECT unreachable::text FROM crawl_target") == [("{}",)]
        assert lost(crawler, sandbox) <= 500


def test_a_plan_without_the_archive_ends_with_exit_4_and_says_so(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--plan", "basic") as sandbox:
        done = Crawler.on(sandbox, tmp_path, dsn, []).run(
            "search", "-q", "cats", "--archive", expect=4
        )
        assert "/2/tweets/search/all" in done.stdout + done.stderr


# -- CSV -----------------------------------------------------------------------------


def test_a_search_writes_a_file_of_its_own_and_goes_on_with_it(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "2", "--latency-ms", "60") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, None, [], settings="csv = on\nCSVFolder = out")
        process = crawler.start("search", "-q", "coffee", "-q", "library")
        assert killed_after_sales(process, sandbox, 1)
        crawler.run("search", "-q", "coffee", "-q", "library")
        floor = id_at(int((now_of(sandbox) - WEEK_S + 300) * 1000))
        for word in ("coffee", "library"):
            with (tmp_path / "out" / f"{queries.slug_of(word)}.csv").open(newline="") as file:
                stored = [int(row["id"]) for row in csv.DictReader(file)]
            assert len(stored) == len(set(stored)) > 20
            assert [i for i in sorted(stored) if i > floor] == matching(sandbox, word, floor)
        sold = sandbox.books()["posts_sold"]
        crawler.run("search", "-q", "coffee", "-q", "library")
        assert sandbox.books()["posts_sold"] == sold


@pytest.mark.parametrize(
    "command", [["snowball"], ["hydrate", "ids.txt"], ["hydrate", "-", "--refresh"], ["--trending"]]
)
def test_what_needs_a_table_is_refused_without_one(tmp_path: Path, command: list[str]) -> None:
    done = Crawler(tmp_path, settings="csv = on").run(*command, expect=2)
    assert "the settings say CSV" in done.stderr
