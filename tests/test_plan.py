"""Plans: what they foretell is what a run then takes, and they buy nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crawls import Crawler
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_server import Sandbox

from tweetcrawler.books import Known
from tweetcrawler.ids import id_at
from tweetcrawler.look.forecast import BucketNow, Span, of_timeline, time_s

HANDLES = [f"reader_{n}" for n in range(16)]
DAY_S = 86_400.0
NOW = 1_790_000_000.0


@pytest.fixture(scope="module")
def world() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "3", "--posts", "0-600") as running:
        yield running


@pytest.fixture
def sandbox(world: Sandbox) -> Sandbox:
    world.control("POST", "/sandbox/books/reset")
    return world


def plan_of(crawler: Crawler, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(crawler.run("plan", "--json", *arguments).stdout)
    return found


def took(crawler: Crawler) -> tuple[int, int, int]:
    """Requests, posts and users of the last run."""
    [(requests, posts, users)] = crawler.select(
        """
        SELECT count(*), coalesce(sum(post_count), 0)::int, coalesce(sum(user_count), 0)::int
        FROM crawl_page
        WHERE run_id = (SELECT max(id) FROM crawl_run)
        """
    )
    return requests, posts, users


def near(planned: float, real: float) -> bool:
    return abs(planned - real) <= 0.1 * real + 1


def test_without_knowledge_the_range_holds_and_nothing_is_bought(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [*HANDLES, "gone_one"])
    plan = plan_of(crawler)
    books = sandbox.books()
    assert (books["posts_sold"], books["users_sold"], books["requests"]) == (0, 0, {})
    assert (plan["targets"], plan["known"], plan["posts"]["likely"]) == (17, 0, None)
    crawler.run(expect=1)
    requests, posts, users = took(crawler)
    for name, real in (("requests_total", requests), ("posts", posts), ("users", users)):
        assert plan[name]["low"] <= real <= plan[name]["high"], name
    assert plan["usd"]["low"] <= posts * 0.005 + users * 0.01 <= plan["usd"]["high"]


def test_with_users_asked_for_it_is_right_within_a_tenth(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [*HANDLES, "gone_one"])
    plan = plan_of(crawler, "--ask")
    assert (sandbox.books()["posts_sold"], sandbox.books()["users_sold"]) == (0, len(HANDLES))
    done = crawler.run(expect=1)
    requests, posts, users = took(crawler)
    assert users == 0, "what was asked for the plan is not bought again"
    assert near(plan["requests_total"]["likely"], requests)
    assert near(plan["posts"]["likely"], posts)
    assert near(plan["usd"]["likely"], posts * 0.005)
    assert "plan and run" in done.stdout
    assert f"{posts:,}" in done.stdout.partition("plan and run")[2]
    assert "plan and run" not in crawler.run(expect=1).stdout, "a plan stands beside one run"


def test_it_knows_what_an_interrupted_crawl_left(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run("--max-posts", "1500", expect=5)
    plan = plan_of(crawler)
    crawler.run()
    requests, posts, _ = took(crawler)
    assert near(plan["requests_total"]["likely"], requests)
    assert near(plan["posts"]["likely"], posts)
    covered = plan_of(crawler)
    assert covered["posts_stored"] == len(crawler.stored_ids())
    assert covered["requests_total"]["likely"] == len(HANDLES)
    crawler.run()
    assert took(crawler)[0] == len(HANDLES)


def test_other_crawled_timelines_tell_what_unknown_ones_may_have(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    crawler.write_handles(f"stranger_{n}" for n in range(40))
    plan = plan_of(crawler)
    mean = len(crawler.stored_ids()) / len(HANDLES)
    assert plan["posts"]["likely"] == pytest.approx(40 * mean, rel=0.02)


def test_a_search_is_counted_when_asked(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    query = f"from:{HANDLES[0]} OR from:{HANDLES[1]} OR from:{HANDLES[2]}"
    assert plan_of(crawler, "-q", query)["posts"]["likely"] is None
    plan = plan_of(crawler, "-q", query, "--ask")
    crawler.run("search", "-q", query)
    requests, posts, _ = took(crawler)
    assert near(plan["posts"]["likely"], posts)
    assert near(plan["requests_total"]["likely"], requests)


def test_trends_have_a_bound(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    plan = plan_of(crawler, "--trending", "--max-trends", "3", "--max-per-trend", "40")
    crawler.run("-trending", "--max-trends", "3", "--max-per-trend", "40")
    requests, posts, _ = took(crawler)
    assert 0 < posts <= plan["posts"]["high"] == 120
    assert requests <= plan["requests_total"]["high"]


def test_it_reads_well_and_says_which_window_is_narrow(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    said = Crawler.on(sandbox, tmp_path, dsn, HANDLES).run("plan").stdout
    assert "the narrowest window is that of /2/users/:id/tweets" in said
    assert "16 handles are not known yet" in said
    assert "$0.16" in said


def test_the_tariff_decides_prices_and_first_guesses(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [f"stranger_{n}" for n in range(1_000)])
    basic = plan_of(crawler, "--tariff", "basic")
    assert basic["usd"]["high"] == 0
    assert basic["time_s"]["high"] > 7 * DAY_S, "45 requests in 15 minutes"
    assert plan_of(crawler)["time_s"]["high"] < DAY_S


def test_csv_has_no_plan(sandbox: Sandbox, tmp_path: Path) -> None:
    assert (
        "plan reads"
        in Crawler.on(sandbox, tmp_path, None, HANDLES).run("plan", "--csv", expect=2).stderr
    )


# -- the arithmetic ------------------------------------------------------------------


def known(**values: Any) -> Known:
    return Known(1, "timeline", "42", "ada", "Ada", "ok", "", NOW, **values)


def need(target: Known | None, **values: Any) -> tuple[Span, Span]:
    found = of_timeline(target, NOW, **({"typical": None, "resting": ("missing",)} | values))
    return found.posts, found.requests


def test_who_posts_ten_a_day_has_ten_after_a_day() -> None:
    top = id_at(int((NOW - DAY_S) * 1000))
    oldest = id_at(int((NOW - 11 * DAY_S) * 1000))
    posts, requests = need(known(covered=[(1, top)], latest=[(100, top - 1, oldest)], posts=100))
    assert posts.likely == pytest.approx(10, rel=0.01)
    assert (requests.low, requests.likely) == (1, 1)


def test_who_is_away_is_left_alone_until_asked_again() -> None:
    gone = Known(1, "timeline", None, "ada", None, "missing", "", NOW, due_in_s=60.0)
    assert need(gone) == (Span(), Span())
    asked_again = Known(1, "timeline", None, "ada", None, "missing", "", NOW, due_in_s=-1.0)
    assert need(asked_again)[1].high > 30


def test_an_account_has_no_more_than_x_gives() -> None:
    posts, requests = need(known(account_posts=50_000))
    assert (posts.likely, posts.high) == (3_200, 3_200)
    assert requests.low == 29
    assert requests.likely is not None
    assert 32 <= requests.likely <= 33


@settings(max_examples=200, deadline=None)
@given(
    requests=st.integers(0, 20_000),
    buckets=st.lists(
        st.builds(
            BucketNow,
            left=st.integers(0, 900),
            limit=st.integers(1, 900),
            turns_in_s=st.floats(0, 900),
            window_s=st.sampled_from([300.0, 900.0]),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_time_is_when_the_windows_have_let_all_requests_through(
    requests: int, buckets: list[BucketNow]
) -> None:
    found = time_s(requests, buckets, processes=10_000)

    def through(at: float) -> int:
        return sum(
            d.left
            + (
                d.limit * (1 + math.floor((at - d.turns_in_s) / d.window_s))
                if at >= d.turns_in_s
                else 0
            )
            for d in buckets
        )

    assert through(found + 1e-3) >= requests
    if found > 1.0:
        assert through(found - 1.0) < requests


def test_closed_buckets_take_for_ever() -> None:
    assert time_s(10, [BucketNow(0, 0, 0.0, 900.0)], processes=1) == math.inf
    assert time_s(10, [BucketNow(20, 900, 0.0, 900.0)], processes=2) == pytest.approx(2.0)
