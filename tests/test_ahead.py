"""What a run may cost is said before it costs: at a terminal with a question, in dry runs
anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from crawls import Crawler
from sandbox_server import Sandbox
from test_signals import Terminal

SEEDS = ["writer_1", "writer_2"]


@pytest.fixture(scope="module")
def world() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "60-90") as running:
        yield running


@pytest.fixture
def sandbox(world: Sandbox) -> Sandbox:
    world.control("POST", "/sandbox/books/reset")
    return world


def sold(sandbox: Sandbox) -> tuple[int, int]:
    books = sandbox.books()
    return books["users_sold"], books["posts_sold"]


def test_a_terminal_is_asked_before_it_costs_and_nobody_else(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, SEEDS)

    def typed(answer: str, *arguments: str) -> tuple[int, str]:
        terminal = Terminal(tmp_path, "-c", "tweet.ini", *arguments)
        if answer:
            terminal.read_until("go on? [y/N]")
            terminal.type(answer + "\n")
        code = terminal.end(60)
        return code, terminal.shown.decode()

    code, shown = typed("n")
    assert code == 1
    assert "plan: 2 targets, 0 of them stored already" in shown
    assert "cost: at most $32.02 (pay-per-use)" in shown
    assert "Nothing was bought; run again with --yes, or with a --budget" in shown
    assert sold(sandbox) == (0, 0)
    code, shown = typed("y", "crawl", SEEDS[0])
    assert code == 0
    assert sold(sandbox)[0] == 1
    # What bounds the cost needs no question: a budget, the answer in advance, a limit above it.
    for more in (["--budget", "4.5"], ["--yes"], ["--ask-above", "100"]):
        code, shown = typed("", "crawl", *SEEDS, *more)
        assert code == 0
        assert "go on?" not in shown
    done = crawler.run()
    assert "go on?" not in done.stderr
    code, shown = typed("n", "snowball", "--depth", "1", "--limit", "3")
    assert (code, sold(sandbox)[0]) == (1, 2)
    assert "level 1: 3 handles in" in shown, "the known handles cost little, their level much"


def test_a_dry_run_shows_two_lines_and_buys_nothing(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    """Without keys, too, and where no terminal is."""
    crawler = Crawler(tmp_path, dsn=dsn, handles=SEEDS, api_url=sandbox.url)
    (tmp_path / "ids.txt").write_text("1460323737035677698\n1460323737035677699\n")
    for arguments, told in (
        (["--budget", "7"], "at most $32.02 (pay-per-use); its budget is $7.00"),
        (["search", "cats"], "no bound is known"),
        (["trending", "--max-trends", "2", "--max-per-trend", "100"], "at most $1.01"),
        (["hydrate", "ids.txt"], "at most $0.01 "),
        (["watch"], "at most $32.02"),
        (["snowball", "--depth", "1"], "at most $32.02"),
        (["--csv"], "at most $32.02"),
    ):
        done = crawler.run(*arguments, "--dry-run")
        first, second = done.stdout.splitlines()
        assert first.startswith("plan: ")
        assert told in second, arguments
        assert "Nothing was bought in this dry run" in done.stderr
    assert sold(sandbox) == (0, 0)
    assert crawler.select("SELECT count(*) FROM crawl_run") == [(0,)]
    refused = crawler.run("status", "--dry-run", expect=2)
    assert "status has no dry run; leave out --dry-run" in refused.stderr


def test_counting_the_archive_says_its_price_first(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    done = crawler.run("search", "cats", "--archive", "--count", "--dry-run")
    [requests] = re.findall(r"in (\d+) requests", done.stdout)
    assert 240 <= int(requests) <= 300, "a month each since 2006"
    assert f"about ${int(requests) / 100:.2f}" in done.stdout
    recently = ("search", "cats", "--archive", "--count", "--since", "2026-10-01")
    done = crawler.run(*recently, "--budget", "0.01", expect=5)
    before = re.findall(r"tweetcrawler: cost: about \$[\d.]+", done.stderr)
    assert len(before) == 1
    rest = crawler.run(*recently, "--dry-run").stdout
    assert "1 of them stored already" in rest, "a count that goes on"


def test_a_level_is_a_new_file_unless_the_list_is_to_be_replaced(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, SEEDS)
    crawler.run()
    listed = (tmp_path / "handles.txt").read_text()
    crawler.run("snowball", "--limit", "2", "--dry-run")
    assert not (tmp_path / "handles.level-1.txt").exists()
    crawler.run("snowball", "--limit", "2")
    level = (tmp_path / "handles.level-1.txt").read_text()
    assert level.startswith("# level 1, by retweets")
    assert (tmp_path / "handles.txt").read_text() == listed
    assert not (tmp_path / "handles.txt.bk").exists()
    crawler.run("snowball", "--depth", "2", "--limit", "1")
    rows = crawler.select("SELECT handle FROM crawl_target ORDER BY id")
    names = [handle for (handle,) in rows]
    assert set(names[2:4]) == set(level.splitlines()[1:]), "the level that was made is crawled"
    assert names[4:] == (tmp_path / "handles.level-2.txt").read_text().splitlines()[1:]
    assert (tmp_path / "handles.txt").read_text() == listed
    crawler.run("snowball", "--replace", "--limit", "1")
    assert (tmp_path / "handles.txt").read_text().startswith("# level 1")
    assert (tmp_path / "handles.txt.bk").read_text() == listed
