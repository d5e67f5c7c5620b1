"""`forget`: the next run buys a target again, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from crawls import Crawler, truth
from sandbox_server import Sandbox

HANDLES = [f"writer_{n}" for n in range(3)]
QUERY = "coffee"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "40-90") as running:
        yield running


def sold(sandbox: Sandbox) -> int:
    return int(sandbox.books()["posts_sold"])


def test_a_forgotten_handle_is_bought_again_and_its_price_was_said(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    bought = len(truth(sandbox, HANDLES[:1]))
    hydrated = truth(sandbox, HANDLES[:1])[:5]
    crawler.run("hydrate", "--refresh", *map(str, hydrated))
    money = crawler.select("SELECT sum(post_count), sum(user_count), count(*) FROM crawl_page")
    price = f"${bought * 0.005:,.3f}".rstrip("0")
    dry = crawler.run("forget", HANDLES[0], "--dry-run").stdout
    assert f"@{HANDLES[0]}: would be forgotten" in dry
    assert f"{bought} posts" in dry
    assert price in dry
    assert crawler.stored_ids() == truth(sandbox, HANDLES)
    said = crawler.run("forget", f"@{HANDLES[0]}").stdout
    assert f"{bought} posts, {bought - len(hydrated)} rows" in said
    # What was bought by id is held by that purchase, too.
    assert crawler.stored_ids() == sorted([*hydrated, *truth(sandbox, HANDLES[1:])])
    totals = "SELECT sum(post_count), sum(user_count), count(*) FROM crawl_page"
    assert crawler.select(totals) == money, "purchases stay in every sum"
    assert crawler.run("verify").stdout.endswith("all is well\n")
    before = sold(sandbox)
    crawler.run()
    assert sold(sandbox) - before == bought
    assert crawler.stored_ids() == truth(sandbox, HANDLES)


def test_rows_stay_when_asked_for_and_when_another_target_holds_them(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    crawler.run("search", QUERY)
    found = crawler.stored_ids()
    [(author,)] = crawler.select(
        "SELECT tweet_from FROM tweet_articles_tweepy GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
    )
    crawler.run("crawl", author)
    everything = crawler.stored_ids()
    assert "its rows stay" in crawler.run("forget", "--keep-rows", QUERY).stdout
    assert crawler.stored_ids() == everything
    crawler.run("forget", QUERY)
    # Those of the author are in a timeline that is covered.
    assert crawler.stored_ids() == truth(sandbox, [author])
    crawler.run("search", QUERY)
    crawler.run("forget", author)
    assert set(found) == set(crawler.stored_ids()), "the search holds its own"
    assert crawler.run("verify").stdout.endswith("all is well\n")


def test_a_target_that_is_being_crawled_is_not_forgotten(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:1])
    crawler.run()
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE crawl_target SET lease_owner = 'elsewhere 1 1 1', "
            "lease_until = clock_timestamp() + interval '1 min'"
        )
    said = crawler.run("forget", HANDLES[0], expect=2).stderr
    assert "is being crawled now" in said
    assert crawler.stored_ids() == truth(sandbox, HANDLES[:1])


def test_a_file_is_forgotten_with_its_coverage(sandbox: Sandbox, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, HANDLES, settings="CSVFolder = out")
    crawler.run()
    first, second, third = (tmp_path / "out" / f"{handle}.csv" for handle in HANDLES)
    whole = first.read_bytes(), second.read_bytes(), third.read_bytes()
    bought = len(truth(sandbox, HANDLES[:2]))
    assert f"@{HANDLES[0]}: forgotten" in crawler.run("forget", HANDLES[0]).stdout
    crawler.run("forget", "--keep-rows", HANDLES[1])
    assert not first.exists()
    assert second.read_bytes() == whole[1]
    before = sold(sandbox)
    crawler.run()
    assert sold(sandbox) - before == bought
    assert (first.read_bytes(), second.read_bytes(), third.read_bytes()) == whole
