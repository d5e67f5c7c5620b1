"""A list that is kept fresh.

Who posts often is visited often; a visit without news costs no money.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from busy import allowed_s
from crawls import Crawler, ended, truth, wait_until, workers_of
from sandbox_server import Sandbox

from tweetcrawler.coverage import from_text

BUSY, QUIET = "busy_one", "quiet_one"
HANDLES = [BUSY, QUIET, "silent_one", "gone_one"]
HOUR_S = 3_600.0


@pytest.fixture(scope="module")
def world() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "20-40") as running:
        yield running


@pytest.fixture
def sandbox(world: Sandbox) -> Sandbox:
    world.control("POST", "/sandbox/books/reset")
    return world


def requests_of(sandbox: Sandbox) -> int:
    return sum(
        n for of in sandbox.books()["requests"].values() for by in of.values() for n in by.values()
    )


def waits(crawler: Crawler) -> dict[str, float]:
    """Seconds until the next visit, by handle."""
    rows = crawler.select(
        "SELECT handle, extract(epoch FROM due_at - clock_timestamp())::float8 FROM crawl_target"
    )
    return {handle: -1.0 if seconds is None else seconds for handle, seconds in rows}


def pass_time(dsn: str, handle: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE crawl_target SET due_at = clock_timestamp() WHERE handle = %s", [handle]
        )


def test_only_what_is_due_is_visited_and_idle_ones_cost_no_money(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES, settings="watchMin = 1h")
    crawler.run("watch", "--once", expect=1)
    sold = sandbox.books()["posts_sold"]
    assert crawler.stored_ids() == truth(sandbox, HANDLES)
    before = requests_of(sandbox)
    done = crawler.run("watch", "--once")
    assert "nothing is due; the next visit is in" in done.stderr
    assert requests_of(sandbox) == before
    pass_time(dsn, QUIET)
    crawler.run("watch", "--once")
    assert requests_of(sandbox) == before + 1
    assert sandbox.books()["posts_sold"] == sold
    sandbox.control("POST", "/sandbox/world", {"user": QUIET, "add_posts": 3, "age_s": 120})
    pass_time(dsn, QUIET)
    crawler.run("watch", "--once")
    assert sandbox.books()["posts_sold"] == sold + 3
    assert crawler.stored_ids() == truth(sandbox, HANDLES)


def test_who_posts_often_is_visited_often_within_the_bounds(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    for hours in range(60, 0, -1):
        sandbox.control(
            "POST", "/sandbox/world", {"user": BUSY, "add_posts": 2, "age_s": hours * HOUR_S}
        )
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES, settings="watchMin = 2h\nwatchMax = 3d")
    crawler.run("watch", "--once", expect=1)
    first = waits(crawler)
    assert 2 * HOUR_S - 60 <= first[BUSY] <= 12 * HOUR_S, (
        "two posts an hour: ten of them take five hours"
    )
    assert first[BUSY] < first[QUIET] <= 72 * HOUR_S
    assert first["gone_one"] == pytest.approx(7 * 24 * HOUR_S, abs=60), (
        "who is away has its own time"
    )
    pass_time(dsn, BUSY)
    crawler.run("watch", "--once", "--watchMin", "20h")
    assert waits(crawler)[BUSY] == pytest.approx(20 * HOUR_S, abs=60)


def test_a_plain_crawl_does_not_wait_for_the_next_visit(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:2])
    crawler.run("watch", "--once")
    before = requests_of(sandbox)
    crawler.run()
    assert requests_of(sandbox) == before + 2


def test_it_stays_within_the_budget_and_goes_on_where_it_stopped(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3], threads=1)
    crawler.run("watch", "--once", "--max-posts", "25", expect=5)
    assert sandbox.books()["posts_sold"] <= 25
    crawler.run("watch", "--once")
    assert crawler.stored_ids() == truth(sandbox, HANDLES[:3])
    assert sandbox.books()["posts_sold"] == len(crawler.stored_ids())


@pytest.mark.parametrize("limit", [("--max-posts", "25"), ("--budget", "0.163")])
def test_it_ends_when_the_budget_of_the_command_is_met(
    sandbox: Sandbox, dsn: str, tmp_path: Path, limit: tuple[str, str]
) -> None:
    """Also with a rest that buys nothing: no midnight makes it larger, unlike that of a day."""
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3], threads=1)
    process = crawler.start("watch", *limit)
    try:
        ended(process, expect=5)
    finally:
        process.kill()
    assert len(crawler.stored_ids()) < len(truth(sandbox, HANDLES[:3]))
    [(budget,)] = crawler.select("SELECT report->>'budget' FROM crawl_run WHERE exit_code = 5")
    assert budget == "run"


def test_the_budget_of_a_day_does_not_end_it(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:3], threads=1)
    process = crawler.start("watch", "--budget-per-day", "0.163")
    try:
        wait_until(
            lambda: crawler.select("SELECT count(*) FROM crawl_run WHERE exit_code = 5")[0][0],
            what="a visit that meets the budget",
        )
        [(budget,)] = crawler.select("SELECT report->>'budget' FROM crawl_run")
        assert (budget, process.poll()) == ("day", None)
    finally:
        process.terminate()
    said = ended(process, expect=143).stderr
    assert "the budget of the day ($0.163) is used up" in said
    assert "watch goes on in" in said


def test_what_a_killed_process_may_have_bought_is_gone_for_later_visits(
    dsn: str, tmp_path: Path
) -> None:
    """And the watch ends when its own budget is met."""
    with Sandbox("--credentials", "1", "--posts", "300-300", "--latency-ms", "150") as sandbox:
        every_s = "watchMin = 1s\nwatchMax = 1s"
        crawler = Crawler.on(sandbox, tmp_path, dsn, [BUSY, QUIET], threads=2, settings=every_s)
        process = crawler.start("watch", "--max-posts", "800")
        try:
            _kill_one_that_waits_for_posts(crawler, process.pid)
            wait_until(
                lambda: crawler.select("SELECT FROM crawl_run WHERE ended_at IS NOT NULL"),
                what="the end of a visit",
            )
            more = {"user": QUIET, "add_posts": 400, "age_s": 120}
            sandbox.control("POST", "/sandbox/world", more)
            ended(process, expect=5)
        finally:
            process.kill()
        [(stored, lost)] = crawler.select(
            "SELECT (SELECT sum(post_count) FROM crawl_page)::int, "
            "(SELECT sum(posts) FROM crawl_reserved)::int"
        )
        assert lost >= 5
        assert 700 < stored + lost <= 800
        assert stored <= sandbox.books()["posts_sold"] <= stored + lost


def _kill_one_that_waits_for_posts(crawler: Crawler, pid: int) -> None:
    """Until its request is without an answer for good."""

    def killed() -> bool:
        for worker in workers_of(pid):
            worker.suspend()
            held = crawler.select(
                "SELECT split_part(owner, '|', 3)::int FROM crawl_reserved WHERE posts > 0"
            )
            if (worker.pid,) in held:
                worker.kill()
                return True
            worker.resume()
        return False

    wait_until(killed, timeout_s=60, what="a request under way")


@pytest.mark.parametrize("sink", ["database", "csv"])
def test_posts_of_the_last_minute_are_bought_once_and_late_ones_are_found(
    sink: str, dsn: str, tmp_path: Path
) -> None:
    """Each visit is a command of its own: what is stored tells what the last minute holds."""
    with Sandbox("--credentials", "1", "--posts", "20-20", "--short-pages", "0") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn if sink == "database" else None, [BUSY])
        more = () if sink == "database" else ("--csv",)

        def visit(*, sold: int, requests: int) -> None:
            before = sandbox.books()["posts_sold"], requests_of(sandbox)
            crawler.run("crawl", *more)
            books = sandbox.books()
            assert books["posts_sold"] - before[0] == sold
            assert requests_of(sandbox) - before[1] == requests
            assert books["posts_sold"] == books["posts_distinct"]

        def write(count: int, *, age_s: float) -> None:
            told = {"user": BUSY, "add_posts": count, "age_s": age_s}
            sandbox.control("POST", "/sandbox/world", told)

        sandbox.control("POST", "/sandbox/clock", {"stop": True})
        write(3, age_s=1)
        # The user, and its timeline.
        visit(sold=23, requests=2)
        visit(sold=0, requests=1)
        write(2, age_s=20)  # they are older than what is stored, and turn up now
        sandbox.control("POST", "/sandbox/clock", {"pass_s": 5})
        write(1, age_s=1)
        visit(sold=1, requests=1)
        sandbox.control("POST", "/sandbox/clock", {"pass_s": 120})
        # Four gaps, one of them with two posts, and what is newer.
        visit(sold=2, requests=5)
        visit(sold=0, requests=1)
        reachable = truth(sandbox, [BUSY])
        assert len(reachable) == sandbox.books()["posts_distinct"] == 26
        if sink == "database":
            assert crawler.stored_ids() == reachable
            [(covered,)] = crawler.select("SELECT covered::text FROM crawl_target")
            assert len(from_text(covered)) == 1


def test_it_goes_on_until_it_is_told_to_end(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(
        sandbox, tmp_path, dsn, HANDLES[:2], settings="watchMin = 1s\nwatchMax = 1s"
    )
    process = crawler.start("watch")
    try:
        wait_until(
            lambda: crawler.select("SELECT count(*) FROM crawl_run")[0][0] >= 3, what="three visits"
        )
        sandbox.control("POST", "/sandbox/world", {"user": QUIET, "add_posts": 2, "age_s": 120})
        wait_until(
            lambda: crawler.stored_ids() == truth(sandbox, HANDLES[:2]), what="the new posts"
        )
    finally:
        process.terminate()
    begun = time.monotonic()
    ended(process, expect=143)
    assert time.monotonic() - begun < allowed_s(10)


def test_bounds_are_looked_at(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    done = crawler.run("watch", "--watchMin", "2d", "--watchMax", "1d", expect=2)
    assert "--watch-min is longer than --watch-max" in done.stderr


def test_a_network_that_fails_later_is_waited_for(dsn: str, tmp_path: Path) -> None:
    """Only a watch that was never answered is given up."""
    with Sandbox("--credentials", "1", "--posts", "20-40") as before:
        port = before.url.rpartition(":")[2]
        settings = "watchMin = 2s\nwatchMax = 3s\ngiveUpAfter = 2s"
        crawler = Crawler.on(before, tmp_path, dsn, [BUSY], settings=settings)
        keys = tmp_path / "auth.csv"
        keys.write_bytes(before.auth_csv.read_bytes())
        keys.chmod(0o600)
        process = crawler.start("watch", "--auth-csv", "auth.csv")
        wait_until(lambda: len(crawler.stored_ids()) > 0, what="a first visit")
        wait_until(lambda: len(crawler.select("SELECT FROM crawl_run")) > 1, what="a second one")
    pass_time(dsn, BUSY)
    time.sleep(allowed_s(6))
    assert process.poll() is None
    with Sandbox("--credentials", "1", "--posts", "20-40", "--port", port) as after:
        wait_until(lambda: requests_of(after) > 0, timeout_s=90, what="a visit after the outage")
    process.terminate()
    ended(process, expect=143)
