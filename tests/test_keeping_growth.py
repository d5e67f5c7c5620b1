"""Counts over time: looks at the ages of a schedule, within a budget, by X's own clock."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import Crawler
from sandbox_server import Sandbox
from test_keeping_ledger import Doing

from tweetcrawler.ids import id_at
from tweetcrawler.keeping import due
from tweetcrawler.keeping.due import Schedule

HOUR_S, DAY_S = 3600, 86_400
AGES_S = (HOUR_S, 6 * HOUR_S, DAY_S, 3 * DAY_S, 7 * DAY_S, 30 * DAY_S)
POSTS = "tweet_articles_tweepy"
LATE_S = 240


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "5-8", "--growing") as running:
        running.control("POST", "/sandbox/clock", {"stop": True})
        yield running


@pytest.fixture
def crawler(sandbox: Sandbox, dsn: str, tmp_path: Path) -> tuple[Crawler, list[int]]:
    """A database with posts that are a minute old, and some that are years old."""
    sent = {"user": "grower", "add_posts": 20, "age_s": 60}
    added = sandbox.control("POST", "/sandbox/world", sent)["added"]
    made = Crawler.on(sandbox, tmp_path, dsn, ["grower"], threads=1)
    made.run()
    return made, [int(one) for one in added]


def planned(crawler: Crawler, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(crawler.run("plan", "metrics", "--json", *more).stdout)
    return found


def pass_until(sandbox: Sandbox, age_s: float, passed_s: float) -> float:
    sandbox.control("POST", "/sandbox/clock", {"pass_s": age_s - passed_s})
    return age_s


def set_options(crawler: Crawler, *lines: str) -> None:
    file = crawler.folder / "tweet.ini"
    file.write_text("\n".join((file.read_text(), *lines, "")))


@pytest.mark.parametrize(
    "ages_s", [AGES_S[:2], pytest.param(AGES_S, marks=pytest.mark.slow)], ids=["hours", "days"]
)
def test_thirty_days_in_a_minute(
    ages_s: tuple[int, ...], sandbox: Sandbox, crawler: tuple[Crawler, list[int]]
) -> None:
    """All planned looks are done, each in time, for no more than the plan says."""
    collector, added = crawler
    set_options(
        collector,
        "metricsStop = off",
        f"metricsAt = {' '.join(f'{age_s // HOUR_S}h' for age_s in ages_s)}",
    )
    plan = planned(collector)
    before = sandbox.books()
    assert plan["looks"] >= len(ages_s) * len(added)
    collector.run("watch", "--metrics", "--once")
    passed = 60.0
    for age_s in ages_s:
        passed = pass_until(sandbox, age_s + LATE_S, passed)
        collector.run("watch", "--metrics", "--once")
        again = sandbox.books()["posts_sold"]
        if age_s == 6 * HOUR_S:
            collector.run("watch", "--metrics", "--once")
            assert sandbox.books()["posts_sold"] == again, "nothing is looked at twice"
    assert planned(collector)["looks"] == 0
    books = sandbox.books()
    assert books["posts_sold"] - before["posts_sold"] == plan["looks"]
    [project] = books["projects"]
    spent = [one["projects"].get(project, {"spent_usd": 0})["spent_usd"] for one in (before, books)]
    assert spent[1] - spent[0] <= plan["usd"] + 1e-9
    assert plan["usd"] < plan["usd_for_budgets"] or len(ages_s) < 3
    growth = collector.select(
        "SELECT tweet_id, age_hours, like_count, new_likes FROM tweet_growth ORDER BY 1, 2"
    )
    ages = [[float(age) for one, age, *_ in growth if one == post] for post in added]
    # The first counts are those of the crawl.
    assert {len(row) for row in ages} == {1 + len(ages_s)}
    late = sorted(
        age * 3600 - step for row in ages for age, step in zip(row[1:], ages_s, strict=True)
    )
    assert late[math.ceil(0.95 * len(late)) - 1] <= 300
    for post in added:
        likes = [count for one, _, count, _ in growth if one == post]
        assert likes == sorted(likes)
        assert next(new for one, _, _, new in growth if one == post) is None
    assert any(new for *_, new in growth)
    shown = json.loads(collector.run("status", "--json").stdout)["looks"]
    assert (shown["due"], shown["scheduled"], shown["done"]) == (0, 0, plan["looks"])
    assert shown["mean_late_s"] <= 300


def test_filters_and_the_budget_of_the_month_bound_the_looks(
    sandbox: Sandbox, crawler: tuple[Crawler, list[int]]
) -> None:
    collector, added = crawler
    chosen = f"min_id={added[5]}; handle=grower"
    set_options(collector, "metricsAt = 1h 2h", f"metricsFor = {chosen}")
    plan = planned(collector)
    assert (plan["posts"], plan["looks"]) == (15, 30)
    collector.run("watch", "--metrics", "--once")
    sandbox.control("POST", "/sandbox/clock", {"pass_s": HOUR_S})
    sold = sandbox.books()["posts_sold"]
    options = ("watch", "--metrics", "--once", "--metrics-budget", "0.05")
    collector.run(*options)
    assert sandbox.books()["posts_sold"] - sold == 10
    done = collector.run(*options, expect=5)
    assert "this month's --metrics-budget is used up" in done.stderr
    assert sandbox.books()["posts_sold"] - sold == 10
    assert {row[0] for row in collector.select("SELECT tweet_id FROM crawl_due")} == set(added[5:])
    wrong = collector.run("watch", "--metrics", "--once", "--metrics-for", "color=red", expect=2)
    assert "there is no filter" in wrong.stderr


def test_counts_that_stand_still_skip_one_step(dsn: str) -> None:
    schedule = Schedule("metrics", AGES_S, skips=True)
    with psycopg.connect(dsn, autocommit=True) as connection:
        session = Doing(connection)
        born_s = 1_790_000_000
        growing, still = id_at(born_s * 1000), id_at(born_s * 1000) + 1
        for number in (growing, still):
            connection.execute(f"INSERT INTO {POSTS} (id, text) VALUES (%s, 'a')", [number])
        assert due.enrol(session, POSTS, schedule, born_s + 60.0) == 2
        assert due.planned(session, POSTS, schedule, born_s + 60.0).looks == 12
        for number, age_s in enumerate(AGES_S[:3]):
            now = born_s + age_s + 10.0
            ids = due.due(session, schedule, now, 100)
            assert ids == ([still, growing] if number < 2 else [growing])
            for post in ids:
                likes = 1000 * (1 + number * (post == growing))
                connection.execute(
                    "INSERT INTO crawl_metrics VALUES (%s, to_timestamp(%s), %s, 0, 0, 0, 0, 0)",
                    [post, now, likes],
                )
            assert due.advance(session, schedule, now) == len(ids)
            assert due.advance(session, schedule, now) == 0
        [(at,)] = connection.execute(
            "SELECT extract(epoch FROM due_at)::float8 - %s FROM crawl_due WHERE tweet_id = %s",
            [born_s, still],
        ).fetchall()
        assert abs(at - 3 * DAY_S) < 1, "the day after its second look is left out"
