"""The main job without a database: one exact CSV file a user, through kills and later runs."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crawls import Crawler, kill_tree, truth, wait_until
from sandbox_server import Sandbox

from tweetcrawler.flatten import COLUMNS

HANDLES = [f"writer_{n}" for n in range(8)]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "300-700", "--latency-ms", "20") as running:
        yield running


def files_are_exact(folder: Path, sandbox: Sandbox) -> None:
    for handle in HANDLES:
        with (folder / f"{handle}.csv").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert tuple(header) == COLUMNS
        assert [int(row[0]) for row in rows] == truth(sandbox, [handle])[::-1], (
            "newest first, none missing"
        )
        assert {len(row) for row in rows} == {len(COLUMNS)}


def test_each_user_gets_an_exact_file_and_a_later_run_adds_what_is_new(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, HANDLES, settings="CSVFolder = out")
    crawler.run()
    files_are_exact(tmp_path / "out", sandbox)
    sold = sandbox.books()["posts_sold"]
    sandbox.control("POST", "/sandbox/world", {"user": HANDLES[0], "add_posts": 5, "age_s": 120})
    crawler.run()
    files_are_exact(tmp_path / "out", sandbox)
    assert sandbox.books()["posts_sold"] == sold + 5
    assert sandbox.books()["closed_window_requests"] == 0


def test_killed_with_all_its_processes_it_goes_on_without_a_hole_or_a_torn_line(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    chance = random.Random(3)
    crawler = Crawler.on(sandbox, tmp_path, None, HANDLES, settings="CSVFolder = out")
    kills = 4
    for kill in range(kills):
        sold = sandbox.books()["posts_sold"]
        process = crawler.start()
        wait_until(lambda s=sold: sandbox.books()["posts_sold"] > s + 100, what="a crawl under way")
        time.sleep(chance.uniform(0, 0.2))
        assert process.poll() is None, f"it ended before kill {kill}"
        kill_tree(process.pid)
        process.communicate()
    crawler.run()
    files_are_exact(tmp_path / "out", sandbox)
    books = sandbox.books()
    assert books["posts_sold"] - books["posts_distinct"] <= kills * 2 * 100
