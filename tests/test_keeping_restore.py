"""Pages leave the database for a place, are read from there, and make a new database."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import Crawler, wait_until
from databases import made
from sandbox_server import Sandbox
from test_keeping_segments import data_files

from tweetcrawler.db import Database

# Beyond the depth that X gives, so that coverage has ids that nobody can have.
POSTS = "3210-3300"
QUERY = "from:writer_1 lang:en"


class Bought:
    """An operator's folder after a crawl, a search and a lookup, with the place of its pages."""

    def __init__(self, folder: Path, dsn: str, place: Path) -> None:
        self.dsn, self.folder, self.place = dsn, folder, place.as_uri()
        with Sandbox("--credentials", "2", "--posts", POSTS, "--plan", "unlimited") as sandbox:
            names = ["writer_1", "writer_2", "gone_one"]
            self.crawler = Crawler.on(sandbox, folder, dsn, names)
            self.crawler.run(expect=1)
            self.crawler.run("search", QUERY)
            ids = [*sandbox.truth_ids("writer_3")["reachable"][:5], "17"]
            self.crawler.run("hydrate", *map(str, ids), expect=(0, 1))

    def run(self, *words: str, dsn: str = "", expect: int = 0) -> str:
        crawler = self.to(dsn) if dsn else self.crawler
        done = crawler.run(*words, expect=expect)
        return done.stdout + done.stderr

    def to(self, dsn: str) -> Crawler:
        """An operator of another database."""
        return Crawler(self.folder / "other", dsn=dsn)

    def archive(self, *words: str) -> str:
        where = ("--archive-place", self.place, "--keep-local", "0")
        return self.run("archive", "--once", *where, *words)


@pytest.fixture(scope="module")
def bought(server_dsn: str, template: str, tmp_path_factory: Any) -> Iterator[Bought]:
    for dsn in made(server_dsn, template):
        folder = tmp_path_factory.mktemp("bought")
        yield Bought(folder, dsn, folder / "place")


def rows(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


ARTICLES = "SELECT * FROM tweet_articles_tweepy ORDER BY id"
PAGES = """
SELECT p.id, p.fetched_at, endpoint, params, credential, p.post_count, user_count, new_count,
    updated_count, newest_id, oldest_id, refused, t.kind, t.key
FROM crawl_page p LEFT JOIN crawl_target t ON t.id = p.target_id ORDER BY p.id
"""
TARGETS = """
SELECT kind, key, handle, username, state, covered, unreachable, unreachable_reason,
    account_posts, post_count
FROM crawl_target ORDER BY 1, 2, 3
"""
FOUND = """
SELECT key, tweet_id FROM crawl_found f JOIN crawl_target t ON t.id = f.target_id ORDER BY 1, 2
"""
LOOKUPS = "SELECT tweet_id, state, reason FROM crawl_lookup ORDER BY 1"
MONEY = """
SELECT date_trunc('day', fetched_at), credential, endpoint, sum(post_count), sum(user_count)
FROM crawl_page GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
NAMES = "SELECT user_id, handle, name FROM crawl_user ORDER BY 1"
ALIKE = (ARTICLES, PAGES, TARGETS, FOUND, LOOKUPS, MONEY, NAMES)


def bodies(dsn: str) -> dict[Any, bytes]:
    return {page.id: page.body for page in Database(dsn).stored_pages()}


def test_every_reader_finds_bodies_that_left_the_database(bought: Bought) -> None:
    before = bought.run("export", "--pages")
    quoted = bought.run("snowball", "--by", "quotes", "--stdout")
    whole = bodies(bought.dsn)
    assert "0 bodies left" in bought.archive()
    said = bought.archive("--keep-bodies", "0")
    assert data_files(bought.folder / "segments") == []
    [(left, moved)] = rows(
        bought.dsn,
        "SELECT count(*) FILTER (WHERE body IS NOT NULL AND post_count > 0),"
        " count(*) FILTER (WHERE body IS NULL) FROM crawl_page",
    )
    assert left == 0
    assert f"{moved:,} bodies left the database" in said
    assert moved > 60
    assert bought.run("export", "--pages") == before
    assert bought.run("snowball", "--by", "quotes", "--stdout") == quoted
    assert bodies(bought.dsn) == whole
    assert "0 segments uploaded" in bought.archive(), "nothing is archived twice"


def test_a_fresh_database_ends_like_the_first_whatever_kills_the_restore(
    bought: Bought, dsn: str
) -> None:
    bought.archive()
    pages = len(rows(bought.dsn, PAGES))
    for share in (0.1, 0.5, 0.9):
        process = bought.to(dsn).start("restore", bought.place)
        wait_until(
            lambda least=share * pages, process=process: (
                len(rows(dsn, PAGES)) >= least or process.poll() is not None
            ),
            timeout_s=60,
        )
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    bought.run("restore", bought.place, dsn=dsn)
    for statement in ALIKE:
        assert rows(dsn, statement) == rows(bought.dsn, statement), statement
    assert bodies(dsn) == bodies(bought.dsn)
    assert "0 pages with 0 posts restored from 0 segments" in bought.run(
        "restore", bought.place, dsn=dsn
    )
    [(unkept,)] = rows(dsn, "SELECT count(*) FROM crawl_page WHERE segment_id IS NULL")
    assert unkept == 0
