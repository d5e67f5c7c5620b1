"""The next level of handles: from the table, minus whom it knows; the old level is never lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from crawls import Crawler, killed_after_sales, truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sandbox_server import Sandbox

from tweetcrawler.settings import handles

SEEDS = ["writer_1", "writer_2", "writer_3"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "60-90") as running:
        yield running


def referred(sandbox: Sandbox, by: str) -> list[tuple[str, int]]:
    """Whom the seeds' posts refer to, by the sandbox's own account, most frequent first."""
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        for line in sandbox.truth(seed):
            tweet, includes = line["tweet"], line["includes"]
            users = {user["id"]: user["username"] for user in includes.get("users", [])}
            others = {post["id"]: post for post in includes.get("tweets", [])}
            kinds = {"retweets": "retweeted", "quotes": "quoted"}
            if by in kinds:
                for reference in tweet.get("referenced_tweets", []):
                    post = others.get(reference["id"])
                    if reference["type"] == kinds[by] and post and post.get("author_id") in users:
                        counts[users[post["author_id"]].lower()] += 1
            elif "in_reply_to_user_id" in tweet and tweet["in_reply_to_user_id"] in users:
                counts[users[tweet["in_reply_to_user_id"]].lower()] += 1
    found = [(h, n) for h, n in counts.items() if h not in SEEDS and len(h) <= 15]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def handles_in(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("by", ["retweets", "quotes", "replies"])
def test_the_next_level_is_whom_posts_refer_to_and_nobody_known(
    sandbox: Sandbox, dsn: str, tmp_path: Path, by: str
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, SEEDS)
    crawler.run()
    expected = referred(sandbox, by)
    assert len(expected) > 5
    done = crawler.run("snowball", "--by", by, "--stdout")
    assert done.stdout.split() == [handle for handle, _ in expected]
    assert handles_in(tmp_path / "handles.txt") == SEEDS
    requests = sandbox.books()["requests"]
    crawler.run("-r", "--by", by, "--min-count", "2", "--limit", "4")
    assert handles_in(tmp_path / "handles.txt") == [handle for handle, n in expected if n >= 2][:4]
    assert sandbox.books()["requests"] == requests, "the table is asked, X is not"


def test_mentions_are_counted_once_a_mention(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, SEEDS)
    crawler.run()
    rows = crawler.select("SELECT mention_names FROM tweets")
    counts = Counter(name.lower() for (names,) in rows for name in names or [] if name)
    best = sorted(
        ((h, n) for h, n in counts.items() if h not in SEEDS), key=lambda p: (-p[1], p[0])
    )
    done = crawler.run("-r", "--by", "mentions", "--limit", "3", "--stdout")
    assert done.stdout.split() == [handle for handle, _ in best[:3]]


def test_the_old_level_is_appended_to_the_backup(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, SEEDS)
    crawler.run()
    first = (tmp_path / "handles.txt").read_text()
    crawler.run("-r", "--limit", "2")
    second = (tmp_path / "handles.txt").read_text()
    assert second.startswith("# level 1, by retweets")
    assert (tmp_path / "handles.txt.bk").read_text() == first
    crawler.run()
    crawler.run("-r", "--limit", "2")
    assert (tmp_path / "handles.txt").read_text().startswith("# level 2, by retweets")
    assert (tmp_path / "handles.txt.bk").read_text() == first + second


def test_an_empty_level_leaves_the_file_as_it_is(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, SEEDS)
    done = crawler.run("-r")
    assert "are known already" in done.stderr
    assert handles_in(tmp_path / "handles.txt") == SEEDS
    assert not (tmp_path / "handles.txt.bk").exists()


def test_depth_crawls_level_after_level_and_goes_on_after_a_kill(dsn: str, tmp_path: Path) -> None:
    """Levels hold a few people who post often: their newest 3,200 are what can be had."""
    with Sandbox("--credentials", "3", "--posts", "60-90", "--latency-ms", "10") as sandbox:
        crawler = Crawler.on(
            sandbox, tmp_path, dsn, SEEDS[:1], settings="raw = off\nsentiment = off"
        )
        options = ["-r", "--depth", "2", "--limit", "1"]
        process = crawler.start(*options)
        assert killed_after_sales(process, sandbox, 100)
        crawler.run(*options)
        levels = crawler.select(
            "SELECT handle FROM crawl_target WHERE kind = 'timeline' ORDER BY id"
        )
        assert len(levels) == 3
        assert (tmp_path / "handles.txt").read_text().startswith("# level 2")
        backup = handles_in(tmp_path / "handles.txt.bk")
        assert [*backup, *handles_in(tmp_path / "handles.txt")] == [handle for (handle,) in levels]
        assert crawler.stored_ids() == truth(sandbox, [handle for (handle,) in levels])
        sold = sandbox.books()["posts_sold"]
        crawler.run(*options)
        assert sandbox.books()["posts_sold"] == sold, (
            "the last level is reached: only news would be bought"
        )


@given(
    st.lists(st.text(alphabet="abc_", min_size=1, max_size=15), max_size=5),
    st.lists(
        st.lists(st.text(alphabet="abc_", min_size=1, max_size=15), min_size=1, max_size=5),
        max_size=4,
    ),
    st.booleans(),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=30,
)
def test_no_handle_is_lost_however_often_a_level_is_written(
    tmp_path: Path, seeds: list[str], levels: list[list[str]], ends: bool
) -> None:
    path = tmp_path / "handles.txt"
    (tmp_path / "handles.txt.bk").unlink(missing_ok=True)
    path.write_text("\n".join(seeds) + ("\n" if ends else ""))
    for number, level in enumerate(levels, start=1):
        old = path.read_bytes()
        # As after a crash between the backup and the new file.
        handles.replace_handles(path, level, level=number, by="retweets")
        path.write_bytes(old)
        handles.replace_handles(path, level, level=number, by="retweets")
        assert handles.level_of(path) == number
    backup = tmp_path / "handles.txt.bk"
    kept = handles_in(backup) if backup.exists() else []
    everyone = [handle for level in [seeds, *levels] for handle in level]
    assert [h for h in [*kept, *handles_in(path)] if h] == [h for h in everyone if h]


def test_a_budget_is_one_for_all_levels(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "2", "--posts", "60-90") as sandbox:
        crawler = Crawler.on(
            sandbox, tmp_path, dsn, SEEDS[:1], settings="raw = off\nsentiment = off"
        )
        crawler.run("-r", "--depth", "3", "--limit", "2", "--maxPosts", "150", expect=5)
        assert 60 <= sandbox.books()["posts_sold"] <= 150
        assert len(crawler.stored_ids()) == sandbox.books()["posts_sold"]
