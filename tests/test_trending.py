"""Trends, as an operator asks for them.

The trends seen, the posts of each, and never more of them than was allowed.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from crawls import Crawler, ended, killed_after_sales, truth, wait_until
from sandbox_server import Sandbox
from searches import RECENT, covered, is_exact, lost, requests_to, unreachable

TRENDS = "/2/trends/by/woeid/:woeid"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--latency-ms", "20") as running:
        yield running


def bought_per_trend(crawler: Crawler) -> list[int]:
    return [
        n for (n,) in crawler.select("SELECT post_count FROM crawl_target WHERE kind = 'search'")
    ]


def test_trends_are_kept_with_place_and_rank_and_their_posts_are_collected(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(
        sandbox, tmp_path, dsn, [], settings="woeid = worldwide, London\nmaxTrends = 4"
    )
    done = crawler.run("--trending", "--max-per-trend", "57")
    expected = sandbox.get("/2/trends/by/woeid/1", {"max_trends": "4"}).json()["data"]
    seen = crawler.select(
        "SELECT name, volume FROM crawl_trend WHERE place = 'worldwide' ORDER BY rank"
    )
    assert seen == [(trend["trend_name"], trend.get("tweet_count")) for trend in expected]
    assert crawler.select("SELECT DISTINCT woeid, place FROM crawl_trend ORDER BY 1") == [
        (1, "worldwide"),
        (44418, "london"),
    ]
    assert bought_per_trend(crawler) == [57] * len(bought_per_trend(crawler))
    for (name,) in crawler.select("SELECT DISTINCT name FROM crawl_trend"):
        assert len(is_exact(crawler, sandbox, name)) == 57
        assert unreachable(crawler, name) == [], "what was not asked for is not called unreachable"
    assert "--max-per-trend" in done.stdout
    assert lost(crawler, sandbox) == 0


def test_a_trend_seen_again_is_only_continued(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    crawler.run("-trending", "--maxTrends", "3", "--maxPerTrend", "40")
    sold = sandbox.books()["posts_sold"]
    searches = requests_to(sandbox.books(), RECENT)
    crawler.run("trending", "--maxTrends", "3", "--maxPerTrend", "40")
    assert sandbox.books()["posts_sold"] == sold
    assert requests_to(sandbox.books(), RECENT) == searches
    crawler.run("trending", "--maxTrends", "3", "--maxPerTrend", "65")
    assert bought_per_trend(crawler) == [65, 65, 65]
    for (name,) in crawler.select("SELECT DISTINCT name FROM crawl_trend"):
        assert len(covered(crawler, name)) == 1
        is_exact(crawler, sandbox, name)
    [(trends, sightings)] = crawler.select("SELECT count(DISTINCT name), count(*) FROM crawl_trend")
    assert (trends, sightings) == (3, 9)


def test_what_is_left_of_the_allowance_shrinks_the_last_page_down_to_the_least_of_x(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    crawler.run("--trending", "--maxTrends", "2", "--maxPerTrend", "104")
    bought = bought_per_trend(crawler)
    assert bought
    assert all(n <= 110 for n in bought), "ten posts are the least that X gives a page"
    asked = crawler.select(
        f"""
        SELECT DISTINCT (params ->> 'max_results')::int
        FROM crawl_page
        WHERE endpoint = '{RECENT}'
        """
    )
    assert {n for (n,) in asked} >= {100}
    assert min(n for (n,) in asked) >= 10


@pytest.mark.slow
def test_only_the_language_that_was_asked_for_is_searched(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    crawler.run("--trending", "--maxTrends", "1", "--maxPerTrend", "20", "--lang", "de")
    [(query,)] = crawler.select("SELECT username FROM crawl_target")
    assert query.endswith(" lang:de")
    is_exact(crawler, sandbox, query)


@pytest.mark.slow
def test_the_busiest_authors_of_the_trends_are_crawled_too(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "2") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, [])
        crawler.run("--trending", "--maxTrends", "2", "--maxPerTrend", "100", "--timelines", "1")
        [(busiest,)] = crawler.select(
            "SELECT lower(tweet_from) FROM tweet_articles_tweepy JOIN crawl_found ON tweet_id = id "
            "GROUP BY 1 ORDER BY count(DISTINCT id) DESC, 1 LIMIT 1"
        )
        assert crawler.select("SELECT handle, state FROM crawl_target WHERE kind = 'timeline'") == [
            (busiest, "ok")
        ]
        assert set(truth(sandbox, [busiest])) <= set(crawler.stored_ids())


def test_an_unknown_place_is_refused_before_anything_is_asked(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    done = crawler.run("--trending", "--woeid", "indai", expect=2)
    assert "did you mean india" in done.stderr
    assert sandbox.books()["requests"] == {}
    done = crawler.run("--trending", "--woeid", "999", "--maxPerTrend", "10", expect=1)
    assert "trends of 999: failed: X answers 400" in done.stdout


def test_trends_without_an_app_end_with_exit_4(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "1") as sandbox:
        keys = sandbox.credentials[0]
        auth = tmp_path / "bad.csv"
        auth.write_text(
            "consumer_key,consumer_secret,access_token,access_token_secret\n"
            f"{keys['consumer_key']},wrong,{keys['access_token']},{keys['access_token_secret']}\n"
        )
        auth.chmod(0o600)
        crawler = Crawler(tmp_path / "run", dsn=dsn, auth_csv=auth, api_url=sandbox.url)
        done = crawler.run("--trending", expect=4)
        assert TRENDS in done.stdout + done.stderr


def test_every_begins_again_until_it_is_stopped(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    process = crawler.start(
        "--trending", "--maxTrends", "1", "--maxPerTrend", "10", "--every", "1s"
    )
    wait_until(
        lambda: requests_to(sandbox.books(), TRENDS).get("200", 0) >= 2, what="a second round"
    )
    process.send_signal(signal.SIGTERM)
    ended(process, expect=143)
    assert bought_per_trend(crawler) == [10]


def test_killed_trends_go_on_within_their_allowance(dsn: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    kills = 2
    options = ["--trending", "--maxTrends", "16", "--maxPerTrend", "70"]
    with Sandbox("--credentials", "2", "--latency-ms", "100") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, [])
        for _ in range(kills):
            process = crawler.start(*options)
            assert killed_after_sales(process, sandbox, chance.randint(100, 400))
        crawler.run(*options)
        bought = bought_per_trend(crawler)
        assert len(bought) >= 16
        assert max(bought) == 70
        for (name,) in crawler.select("SELECT DISTINCT name FROM crawl_trend"):
            assert len(is_exact(crawler, sandbox, name)) in bought
        assert lost(crawler, sandbox) <= kills * 2 * 100
        assert sandbox.books()["closed_window_requests"] == 0
