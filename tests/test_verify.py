"""Whatever is taken out of a store is named by `verify`, and put back from the pages."""

from __future__ import annotations

import csv
import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import Crawler, truth
from databases import made
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sandbox_server import Sandbox

from tweetcrawler import coverage
from tweetcrawler.archives.verifying import Verifier
from tweetcrawler.coverage import Hole, Walk, difference
from tweetcrawler.db import Database
from tweetcrawler.evidence import Asked, Difference, Evidence
from tweetcrawler.ids import id_at

HANDLES = [f"writer_{n}" for n in range(4)]
QUERY = "coffee"
PLAIN = "sentiment = off"  # it takes half of the time
TABLES = ("tweet_articles_tweepy", "crawl_found", "crawl_metrics")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "60-140") as running:
        yield running


@pytest.fixture(scope="module")
def crawled(
    sandbox: Sandbox, server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database with timelines, one of them beyond X's depth, a search and look-ups by id."""
    for dsn in made(server_dsn, template):
        folder = tmp_path_factory.mktemp("first")
        crawler = Crawler.on(sandbox, folder, dsn, HANDLES, settings=PLAIN)
        deep = {"user": "deep", "add_posts": 3_300, "age_s": 86_400}
        sandbox.control("POST", "/sandbox/world", deep)
        crawler.run("crawl", *HANDLES, "deep")
        sandbox.control("POST", "/sandbox/world", {"user": HANDLES[0], "add_posts": 7})
        crawler.run("search", QUERY)
        crawler.run("hydrate", *map(str, truth(sandbox, ["somebody"])[:30]))
        crawler.run()
        yield dsn


@pytest.fixture
def copy(crawled: str, server_dsn: str) -> Iterator[str]:
    """A database of its own with the same rows."""
    yield from made(server_dsn, str(conninfo_to_dict(crawled)["dbname"]))


def content(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        rows = [
            sorted(map(str, connection.execute(f"SELECT * FROM {table}".encode()).fetchall()))
            for table in TABLES
        ]
        targets = "SELECT id, covered, unreachable FROM crawl_target ORDER BY 1"
        return [*rows, [(i, str(c), str(u)) for i, c, u in connection.execute(targets)]]


def verified(dsn: str, *, repair: bool = False) -> list[Difference]:
    database = Database(dsn)
    with database.session() as session:
        verifier = Verifier(database, session, mends=repair, score=None, stopped=lambda: False)
        return list(verifier.everything())


def test_a_crawl_leaves_nothing_to_name_and_a_damage_is_mended_from_the_pages(
    sandbox: Sandbox, copy: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, copy, [], settings=PLAIN)
    before, asked = content(copy), sandbox.books()["requests"]
    well = crawler.run("verify")
    assert well.stdout.endswith("all is well\n")
    stored = crawler.stored_ids()
    lost = random.Random(5).sample(stored, 40)
    with psycopg.connect(copy) as connection:
        connection.execute("DELETE FROM tweet_articles_tweepy WHERE id = ANY(%s)", [lost])
    assert "knows no target 'nobody'" in crawler.run("verify", "nobody", expect=2).stderr
    named = crawler.run("verify", expect=1)
    assert {i for i in lost if f"row {i} is missing" in named.stdout} == set(lost)
    assert "verify --repair" in named.stdout
    mended = crawler.run("verify", "--repair")
    assert mended.stdout.endswith("all is well\n")
    assert content(copy) == before
    assert "all is well" in crawler.run("verify", HANDLES[0], QUERY).stdout
    assert sandbox.books()["requests"] == asked, "X is not asked"


class Damage:
    """One random damage to a database: what was taken, and how it is undone if no page can."""

    def __init__(self, dsn: str, chance: random.Random) -> None:
        self._dsn = dsn
        self._chance = chance
        self.undo: list[tuple[str, list[Any]]] = []

    def row(self) -> str:
        [gone] = self._one("SELECT id FROM tweet_articles_tweepy ORDER BY id")
        self._do("DELETE FROM tweet_articles_tweepy WHERE id = %s", gone)
        return f"row {gone} is missing"

    def found(self) -> str:
        target, gone = self._one("SELECT target_id, tweet_id FROM crawl_found ORDER BY 1, 2")
        self._do("DELETE FROM crawl_found WHERE (target_id, tweet_id) = (%s, %s)", target, gone)
        return f"that it found {gone} is not noted"

    def coverage(self) -> str:
        """Ids within one page of a target, since what lies between posts proves nothing."""
        target, name, lower, upper = self._one(
            "SELECT t.id, t.username, p.oldest_id, p.newest_id + 1 FROM crawl_target t "
            "JOIN crawl_page p ON p.target_id = t.id WHERE p.post_count > 3 ORDER BY p.number"
        )
        cut = sorted(self._chance.sample(range(lower, upper), 2))
        gone = coverage.to_text([(cut[0], cut[1])])
        self._do("UPDATE crawl_target SET covered = covered - %s WHERE id = %s", gone, target)
        sign = "" if name == QUERY else "@"
        return f"{sign}{name.lower()}: ids {cut[0]} to {cut[1] - 1} are not covered"

    def page(self) -> str:
        names = "id, run_id, target_id, fetched_at, endpoint, params::text, credential, "
        names += "post_count, user_count, new_count, updated_count, newest_id, oldest_id, "
        names += "refused::text, body, number"
        page = self._one(f"SELECT {names} FROM crawl_page WHERE post_count > 0 ORDER BY number")
        self._do("DELETE FROM crawl_page WHERE id = %s", page[0])
        values = ", ".join(["%s"] * len(page))
        names = names.replace("::text", "")
        put = f"INSERT INTO crawl_page ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})"
        self.undo.append((put, list(page)))
        return f"run {page[1]} bought with {page[6]} at {page[4]} are missing"

    def heal(self) -> None:
        for statement, values in self.undo:
            self._do(statement, *values)

    def _one(self, statement: str) -> Any:
        with psycopg.connect(self._dsn) as connection:
            return self._chance.choice(connection.execute(statement.encode()).fetchall())

    def _do(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self._dsn) as connection:
            connection.execute(statement.encode(), values)


KINDS = ("row", "found", "coverage", "page")


def damaged_and_mended(dsn: str, chance: random.Random, kinds: Sequence[str]) -> None:
    """Some damages at once are named, and mended as far as pages can."""
    before, damage = content(dsn), Damage(dsn, chance)
    said = [getattr(damage, kind)() for kind in kinds]
    named = " ".join(one.sentence for one in verified(dsn))
    assert [text for text in said if text not in named] == []
    left = [one for one in verified(dsn, repair=True) if not one.mended]
    # A page that is gone takes with it what only X can give.
    assert {one.kind for one in left} == {"page"} & set(kinds)
    damage.heal()
    assert verified(dsn) == []
    assert content(dsn) == before, kinds


def test_whatever_is_deleted_is_named_and_comes_back(copy: str) -> None:
    damaged_and_mended(copy, random.Random(0), KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 13))
def test_whatever_is_deleted_alone_is_named_and_comes_back(copy: str, seed: int) -> None:
    for kind in KINDS:
        damaged_and_mended(copy, random.Random(seed), [kind])


def test_pages_without_bodies_are_compared_by_their_ends(copy: str, tmp_path: Path) -> None:
    with psycopg.connect(copy) as connection:
        connection.execute("UPDATE crawl_page SET body = NULL")  # as with raw = off
    assert verified(copy) == []
    with psycopg.connect(copy) as connection:
        [gone] = connection.execute("SELECT max(newest_id) FROM crawl_page").fetchone() or ()
        connection.execute("DELETE FROM tweet_articles_tweepy WHERE id = %s", [gone])
    said = Crawler(tmp_path, dsn=copy).run("verify", "--repair", expect=1).stdout
    assert f"row {gone} is missing" in said
    assert "stored without X's answer" in said
    assert "`tweetcrawler forget NAME`" in said


# --- CSV files ------------------------------------------------------------------------------------


def test_lost_rows_files_pages_and_coverage_of_csv_files_are_named(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, HANDLES, settings=f"CSVFolder = out\n{PLAIN}")
    crawler.run()
    assert crawler.run("verify").stdout.endswith("all is well\n")
    first, second, third, fourth = (tmp_path / "out" / f"{handle}.csv" for handle in HANDLES)
    with first.open(newline="") as file:
        rows = list(csv.reader(file))
    del rows[random.Random(1).randrange(1, len(rows))]
    with first.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    second.unlink()
    with sqlite3.connect(tmp_path / "out" / ".tweetcrawler.sqlite3") as books:
        named = "SELECT id FROM crawl_target WHERE handle = ?"
        [cut] = books.execute(named, [third.stem]).fetchone()
        books.execute("UPDATE crawl_target SET covered = '{}' WHERE id = ?", [cut])
        [bare] = books.execute(named, [fourth.stem]).fetchone()
        books.execute("DELETE FROM crawl_page WHERE target_id = ? AND post_count > 0", [bare])
    books.close()
    said = crawler.run("verify", expect=1).stdout
    assert f"@{HANDLES[0]}: {first.name} lacks 1 row among ids" in said
    assert f"@{HANDLES[1]}: {second.name} is gone" in said
    assert f"@{HANDLES[2]}: ids" in said
    assert f"@{HANDLES[3]}: pages with" in said
    mended = crawler.run("verify", "--repair", HANDLES[2])
    assert mended.stdout.endswith("all is well\n")


# --- what a page proves ---------------------------------------------------------------------------

NOW_S = 1_790_000_000.0
LATEST = id_at(int(NOW_S * 1000) - 3_600_000)
posts_of_a_timeline = st.lists(st.integers(1, 400), unique=True, max_size=60)


@given(posts_of_a_timeline, st.integers(1, 9), st.randoms(use_true_random=False))
def test_pages_prove_exactly_what_their_walk_covered(
    offsets: list[int], size: int, chance: random.Random
) -> None:
    """Of a walk that any interruption cut into several."""
    ids = sorted((LATEST + offset for offset in offsets), reverse=True)
    covered: list[coverage.Range] = []
    pages: list[Asked] = []
    for _ in range(chance.randrange(1, 4)):
        for hole in coverage.holes(covered):
            walk = Walk(hole, depth_limit=None)
            while walk.ask is not None and chance.random() < 0.9:
                page, learned = _turned(walk, ids, size)
                pages.append(page)
                covered = coverage.union(covered, [learned] if learned else [])
    evidence = Evidence(posts=len(ids), account_posts=None)
    for page in pages:
        evidence.add(page)
    assert evidence.lost(covered, []) == []
    assert evidence.unproved(covered) == []
    for lower, upper in covered:
        kept = difference(covered, [(lower, upper)])
        assert evidence.lost(kept, []) == [(lower, upper)]


def _turned(walk: Walk, ids: list[int], size: int) -> tuple[Asked, coverage.Range | None]:
    ask = walk.ask
    assert ask is not None
    hole = Hole(ask.since_id, ask.until_id)
    left = [i for i in ids if i > hole.since_id and (hole.until_id is None or i < hole.until_id)]
    params = {"since_id": str(ask.since_id)} if ask.since_id else {}
    params |= {"until_id": str(ask.until_id)} if ask.until_id else {}
    more = len(left) > size
    learned = walk.learn(
        left[:size],
        "next" if more else None,
        settled_below_id=coverage.settled_below(NOW_S),
    )
    return Asked("/2/users/:id/tweets", params, NOW_S, left[:size], more), learned.covered
