"""Posts by id, as an operator asks for them.

Bought once, gone ones noted, counts read again and the old ones kept.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import zstandard
from busy import window_s
from crawls import PROGRAM, Crawler, ended, killed_after_sales, truth
from sandbox_server import Sandbox
from searches import lost, requests_to

from tweetcrawler.settings import ids

TWEETS = "/2/tweets"
WRITERS = [f"writer_{n}" for n in range(6)]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "100-150") as running:
        yield running


def write_ids(crawler: Crawler, ids: Iterable[object]) -> str:
    (crawler.folder / "ids.txt").write_text("".join(f"{i}\n" for i in ids))
    return "ids.txt"


def test_ids_become_rows_and_those_that_are_gone_are_noted_with_the_reason(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    there = truth(sandbox, WRITERS)
    deleted, hidden = there[5], int(sandbox.truth_ids("protected_one")["ids"][0])
    writer = next(w for w in WRITERS if deleted in truth(sandbox, [w]))
    sandbox.control("POST", "/sandbox/world", {"user": writer, "delete": [str(deleted)]})
    ids = write_ids(
        crawler,
        [*there, hidden, there[0], f"https://x.com/a/status/{there[1]}?s=20", "# note", "", "x1"],
    )
    done = crawler.run("hydrate", ids, expect=1)  # one line could not be used
    assert crawler.stored_ids() == [i for i in there if i != deleted]
    states = {
        i: (state, reason)
        for i, state, reason in crawler.select("SELECT tweet_id, state, reason FROM crawl_lookup")
    }
    assert {i: state for i, (state, _) in states.items()} == {
        deleted: "missing",
        hidden: "protected",
    }
    assert f"Could not find tweet with ids: [{deleted}]" in states[deleted][1]
    assert f"{deleted}: gone: missing" in done.stdout
    assert "line " in done.stderr
    assert "'x1' is not the id of a post" in done.stderr
    books = sandbox.books()
    assert books["posts_sold"] == books["posts_distinct"] == len(there) - 1
    before = requests_to(books, TWEETS)
    crawler.run("hydrate", ids, expect=1)
    assert requests_to(sandbox.books(), TWEETS) == before, (
        "neither stored nor gone ones are asked again"
    )


def test_posts_that_a_crawl_stored_are_not_bought_again(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, WRITERS[:2])
    crawler.run()
    sold = sandbox.books()["posts_sold"]
    more = truth(sandbox, WRITERS[2:3])
    crawler.run("hydrate", write_ids(crawler, [*truth(sandbox, WRITERS[:2]), *more]))
    assert sandbox.books()["posts_sold"] - sold == len(more)


def test_ids_come_from_stdin_too(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    there = truth(sandbox, WRITERS[:1])
    done = subprocess.run(
        [*PROGRAM, "-c", "tweet.ini", "hydrate", "-"],
        cwd=tmp_path,
        input="".join(f'"{i}"\r\n' for i in there),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert crawler.stored_ids() == there


def test_two_runs_at_once_buy_each_post_once(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    there = truth(sandbox, WRITERS)
    random.Random(1).shuffle(there)
    first = Crawler.on(sandbox, tmp_path / "a", dsn, [])
    second = Crawler.on(sandbox, tmp_path / "b", dsn, [])
    running = [
        first.start("hydrate", write_ids(first, there)),
        second.start("hydrate", write_ids(second, reversed(there))),
    ]
    for process in running:
        ended(process)
    assert first.stored_ids() == sorted(there)
    assert sandbox.books()["posts_sold"] == len(there)
    assert first.select("SELECT count(*) FROM crawl_lookup") == [(0,)]


def test_killed_it_goes_on_and_buys_at_most_a_page_a_process_again(
    dsn: str, tmp_path: Path
) -> None:
    chance = random.Random(2)
    kills = 2
    with Sandbox("--credentials", "2", "--posts", "300-350", "--latency-ms", "150") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, [])
        there = truth(sandbox, WRITERS)
        ids = write_ids(crawler, there)
        for _ in range(kills):
            process = crawler.start("hydrate", ids)
            assert killed_after_sales(process, sandbox, chance.randint(200, 600))
        crawler.run("hydrate", ids)
        assert crawler.stored_ids() == there
        books = sandbox.books()
        assert books["posts_sold"] - books["posts_distinct"] <= kills * 2 * 100
        assert books["closed_window_requests"] == 0


@pytest.mark.slow
def test_windows_are_kept_by_lookups(dsn: str, tmp_path: Path) -> None:
    with Sandbox(
        "--credentials",
        "1",
        "--posts",
        "100-100",
        "--window-s",
        window_s(3),
        "--limit",
        f"{TWEETS}=2/2",
    ) as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, [])
        crawler.run("hydrate", write_ids(crawler, truth(sandbox, WRITERS)))
        assert crawler.stored_ids() == truth(sandbox, WRITERS)
        assert sandbox.books()["closed_window_requests"] == 0
        assert sandbox.books()["posts_sold"] == 600


# -- refresh -------------------------------------------------------------------------


def test_refresh_reads_counts_anew_and_keeps_the_old_ones(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, WRITERS[:1])
    crawler.run()
    there = crawler.stored_ids()
    # As if X had counted less when they were bought.
    _execute(dsn, "UPDATE tweet_articles_tweepy SET favorite_count = 0, retweet_count = 0")
    ids = write_ids(crawler, there)
    done = crawler.run("hydrate", ids, "--refresh")
    assert f"{len(there):,} posts" in done.stdout
    expected = {
        int(line["tweet"]["id"]): line["tweet"]["public_metrics"]
        for line in sandbox.truth(WRITERS[0])
    }
    rows = crawler.select("SELECT id, favorite_count, retweet_count FROM tweet_articles_tweepy")
    assert {i: (likes, shares) for i, likes, shares in rows} == {
        i: (m["like_count"], m["retweet_count"]) for i, m in expected.items()
    }
    observed = crawler.select(
        """
        SELECT tweet_id, like_count, retweet_count, reply_count, quote_count
        FROM crawl_metrics
        ORDER BY tweet_id, seen_at
        """
    )
    for number, i in enumerate(sorted(there)):
        m = expected[i]
        assert observed[2 * number] == (i, 0, 0, None, None)
        assert observed[2 * number + 1] == (
            i,
            m["like_count"],
            m["retweet_count"],
            m["reply_count"],
            m["quote_count"],
        )
    assert len(observed) == 2 * len(there)
    # The first purchase has the time of its page.
    assert crawler.select("SELECT count(*) FROM crawl_metrics WHERE seen_at IS NULL") == [(0,)]
    sold = sandbox.books()["posts_sold"]
    crawler.run("hydrate", ids, "--refresh")
    assert sandbox.books()["posts_sold"] == sold, "counts read today are not read again today"
    crawler.run("hydrate", ids, "--refresh", "--age", "1s")
    assert sandbox.books()["posts_sold"] == sold + len(there)


@pytest.mark.slow
def test_a_killed_refresh_goes_on(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "2", "--posts", "300-300", "--latency-ms", "200") as sandbox:
        crawler = Crawler.on(sandbox, tmp_path, dsn, WRITERS[:4])
        crawler.run()
        there = crawler.stored_ids()
        ids = write_ids(crawler, there)
        bought = sandbox.books()["posts_sold"]
        process = crawler.start("hydrate", ids, "--refresh")
        assert killed_after_sales(process, sandbox, 300)
        crawler.run("hydrate", ids, "--refresh")
        assert crawler.select("SELECT count(DISTINCT tweet_id), count(*) FROM crawl_metrics") == [
            (len(there), 2 * len(there))
        ]
        assert sandbox.books()["posts_sold"] - bought <= len(there) + 2 * 100
        assert lost(crawler, sandbox) <= 2 * 100


def _execute(dsn: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())


# -- lists ---------------------------------------------------------------------------


def test_a_block_holds_an_id_once() -> None:
    assert list(ids.blocks([3, 1, 3, 2, 4, 4], 2)) == [(3, 1), (3, 2), (4,)]


@pytest.mark.parametrize(
    "line", ["0", "-1", "12.0", "9223372036854775808", "1e5", "a,1", "https://x.com/ada"]
)
def test_what_is_no_id_is_told_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "ids").write_text(f"7\n{line}\n8\n")
    bad: list[tuple[int, str]] = []
    assert list(ids.read_ids(tmp_path / "ids", on_bad=lambda n, why: bad.append((n, why)))) == [
        7,
        8,
    ]
    assert [n for n, _ in bad] == [2]


@pytest.mark.parametrize(
    "blob",
    [
        b"tweet_id,sentiment\n7,0.1\n8,-0.2\n",
        b'label;id;text\nx;7;"two\nlines"\n"y";8;z\n',
        b"7\tdate\n8\tdate\n",
        b"# a list\n7 # first\n\n'8\n",
        b"\xef\xbb\xbf7,0.1\r\n8,0.2\r\n",
        "7\r\n8\r\n".encode("utf-16"),
        gzip.compress("status_id\tx\n7\ta\n8\tb\n".encode("utf-16")),
        bz2.compress(b"7\n8\n"),
        lzma.compress(b"7\n8\n"),
        zstandard.compress(b"7\n8\n"),
    ],
    ids=["commas", "over lines", "tabs", "plain", "mark", "utf-16", "gzip", "bzip2", "xz", "zstd"],
)
def test_ids_are_read_from_any_list_or_table(tmp_path: Path, blob: bytes) -> None:
    (tmp_path / "ids").write_bytes(blob)
    bad: list[tuple[int, str]] = []
    found = list(ids.read_ids(tmp_path / "ids", on_bad=lambda n, why: bad.append((n, why))))
    assert (found, bad) == ([7, 8], [])


def test_ids_in_exponent_form_name_the_spreadsheet_and_no_usable_line_is_exit_code_2(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    done = crawler.run("hydrate", write_ids(crawler, ["1.29403E+18", "1.29404E+18"]), expect=2)
    assert "a spreadsheet has rounded it" in done.stderr
    assert "No line of ids.txt could be used" in done.stderr
    assert not any(requests_to(sandbox.books(), TWEETS).values())


def test_rounded_ids_are_warned_of_before_the_first_is_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ids").write_text(
        "".join(f"{n}0000\n" for n in range(129403047242781, 129403047242791))
    )
    found = ids.read_ids(tmp_path / "ids", on_bad=lambda n, why: None)
    next(found)
    assert "10 of the 10 ids looked at end in 0000" in caplog.text
    assert len(list(found)) == 9
