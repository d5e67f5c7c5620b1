"""Lists of followers: bought once, whole or known not to be, and what changed between walks."""

from __future__ import annotations

import csv
import io
import itertools
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import networkx
import psycopg
import pytest
from crawls import Crawler, kill_tree, wait_until
from sandbox_server import Sandbox

FOLLOWERS = "/2/users/:id/followers"
FOLLOWING = "/2/users/:id/following"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "10-20") as running:
        yield running


def change(sandbox: Sandbox, user: str, direction: str = "followers", **done: Any) -> None:
    sandbox.control("POST", "/sandbox/networks", {"user": user, "direction": direction, **done})


def listed(sandbox: Sandbox, user: str, direction: str = "followers") -> set[int]:
    """The list as X has it now."""
    return set(map(int, sandbox.control("GET", f"/sandbox/networks/{user}/{direction}")["ids"]))


def edges(crawler: Crawler) -> set[tuple[int, int]]:
    """(follower, followed) of all that is there now."""
    rows = crawler.select("SELECT follower_id, followed_id FROM follows WHERE valid_to IS NULL")
    return {(int(follower), int(followed)) for follower, followed in rows}


def of(sandbox: Sandbox, user: str) -> set[tuple[int, int]]:
    return {(one, int(sandbox.id_of(user))) for one in listed(sandbox, user)}


def requests(sandbox: Sandbox, endpoint: str = FOLLOWERS) -> int:
    return sum(sum(of.get(endpoint, {}).values()) for of in sandbox.books()["requests"].values())


def do(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())


def users_sold(sandbox: Sandbox) -> int:
    return int(sandbox.books()["users_sold"])


def users_booked(crawler: Crawler) -> int:
    [(users,)] = crawler.select("SELECT sum(user_count)::bigint FROM crawl_page")
    return int(users or 0)


def test_a_list_is_whole_and_the_next_walk_tells_what_changed(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    change(sandbox, "ada", size=2_300)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    said = crawler.run("follow").stdout
    assert "done" in said
    before = of(sandbox, "ada")
    assert len(before) == 2_300
    assert edges(crawler) == before
    assert users_sold(sandbox) == users_booked(crawler) == 2_301
    gone = sorted(listed(sandbox, "ada"))[100:103]
    names = crawler.select(f"SELECT username FROM x_user WHERE id IN {tuple(gone)}")
    change(sandbox, "ada", drop=[name for (name,) in names], add=["grace", "hedy"])
    crawler.run("follow")
    after = of(sandbox, "ada")
    assert edges(crawler) == after
    assert len(before - after) == 3
    assert len(after - before) == 2
    # Each change is known to lie between two looks.
    rows = crawler.select("""
        SELECT began_after IS NOT NULL, ended_after < ended_before, count(*) FROM follows
        WHERE ended_before IS NOT NULL OR began_after IS NOT NULL GROUP BY 1, 2
    """)
    assert sorted(rows, key=str) == [(False, True, 3), (True, None, 2)]
    [(seen,)] = crawler.select(
        f"SELECT count(*) FROM x_user_seen WHERE user_id = {sandbox.id_of('ada')}"
    )
    assert seen == 1, "the user was looked up once, and her count is a day old at most"


def killed_while_walking(crawler: Crawler, sandbox: Sandbox, pages: int) -> bool:
    """Kills a walk after so many more pages; False if it had ended."""
    process, before = crawler.start("follow", "--yes"), requests(sandbox)
    wait_until(
        lambda: process.poll() is not None or requests(sandbox) - before >= pages,
        timeout_s=60,
        what="pages",
    )
    in_time = process.poll() is None
    kill_tree(process.pid)
    process.communicate()
    return in_time


@pytest.mark.parametrize(
    ("size", "kills"), [(6_000, 3), pytest.param(100_000, 20, marks=pytest.mark.slow)]
)
def test_a_killed_walk_goes_on_at_its_next_page(
    dsn: str, tmp_path: Path, size: int, kills: int
) -> None:
    # Killed processes take permits with them, until the window turns.
    limits = ["--limit", f"{FOLLOWERS}=9000/9000", "--latency-ms", "100"]
    with Sandbox("--credentials", "2", "--posts", "10-20", *limits) as sandbox:
        _killed_walks(sandbox, dsn, tmp_path, size, kills)


def _killed_walks(sandbox: Sandbox, dsn: str, tmp_path: Path, size: int, kills: int) -> None:
    change(sandbox, "ada", size=size)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    crawler.run("db", "upgrade")
    killed = sum(
        killed_while_walking(crawler, sandbox, 1 + size // 1_000 // (kills + 2))
        for _ in range(kills)
    )
    assert killed == kills
    crawler.run("follow", "--yes")
    assert edges(crawler) == of(sandbox, "ada")
    assert requests(sandbox) <= size // 1_000 + kills
    assert users_sold(sandbox) <= size + 1 + kills * 1_000
    [(walks,)] = crawler.select("SELECT count(*) FROM crawl_walk")
    assert walks == 1


def test_a_token_that_x_takes_no_more_closes_nothing(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    change(sandbox, "ada", size=5_000)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    crawler.run("follow")
    change(sandbox, "ada", drop=["nobody_of_them"], add=["grace"], token_s=1e6)
    crawler.run("follow", "--budget", "25.02", expect=5)
    # A day goes by, after which X takes the token no more.
    change(sandbox, "ada", token_s=0.0)
    do(
        dsn,
        "UPDATE crawl_walk SET page_at = page_at - interval '1 day', "
        "begun_at = begun_at - interval '1 day' WHERE state = 'walking'",
    )
    said = crawler.run("follow", expect=1).stdout
    assert "X takes its token no more" in said
    assert "--restart" in said
    rows = crawler.select("SELECT state, count(*) FROM crawl_walk GROUP BY 1 ORDER BY 1")
    assert rows == [("complete", 1), ("incomplete", 1)]
    [(closed,)] = crawler.select("SELECT count(*) FROM follow_edge WHERE gone_walk IS NOT NULL")
    assert closed == 0
    assert (int(sandbox.id_of("grace")), int(sandbox.id_of("ada"))) in edges(crawler)
    before = users_sold(sandbox)
    assert "X takes its token no more" in crawler.run("follow", expect=1).stdout
    assert users_sold(sandbox) == before, "without a word of the operator nothing is bought again"
    change(sandbox, "ada", token_s=None)
    crawler.run("follow", "--restart")
    assert edges(crawler) == of(sandbox, "ada")


def test_on_the_same_day_a_walk_begins_again_by_itself(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    change(sandbox, "ada", size=3_000, token_s=0.0)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    crawler.run("follow", "--budget", "15.02", expect=5)
    change(sandbox, "ada", token_s=None)
    # The token of the walk is one of those that end at once.
    crawler.run("follow")
    assert edges(crawler) == of(sandbox, "ada")
    assert crawler.select("SELECT state FROM crawl_walk") == [("complete",)]


def test_a_list_whose_tokens_never_work_is_not_bought_for_ever(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    change(sandbox, "ada", size=3_000, token_s=-1.0)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    assert "X takes its token no more" in crawler.run("follow", expect=1).stdout
    assert users_sold(sandbox) == 2_001


def test_fewer_than_x_counts_prove_nobody_gone(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    change(sandbox, "ada", size=1_500, repeats=7)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    crawler.run("follow")
    assert edges(crawler) == of(sandbox, "ada")
    [(state, entries)] = crawler.select("SELECT state, entry_count FROM crawl_walk")
    assert (state, entries) == ("complete", 1_500), "what is shown twice counts once"
    change(sandbox, "ada", size=900, unlisted=600)
    said = crawler.run("follow").stdout
    assert "fewer than it counts" in said
    [(closed,)] = crawler.select("SELECT count(*) FROM follow_edge WHERE gone_walk IS NOT NULL")
    assert closed == 0


def test_levels_walk_each_user_once_though_they_follow_each_other(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    """Three who follow each other, one of whom follows a giant."""
    circle = ["ada", "grace", "hedy"]
    for name in circle:
        others = [each for each in circle if each != name]
        change(sandbox, name, "following", size=2, add=others)
    change(sandbox, "ada", "following", add=["giant"])
    change(sandbox, "giant", "following", size=9_999)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    bounds = ["--max-users", "6", "--max-followers", "5000"]
    crawler.run("follow", "--following", "--depth", "3", *bounds, "--yes")
    walked = crawler.select("SELECT user_id, count(*) FROM crawl_walk GROUP BY 1")
    assert len(walked) == 6
    assert {count for _, count in walked} == {1}
    ids = {int(sandbox.id_of(name)) for name in circle}
    assert ids <= {user for user, _ in walked}
    assert int(sandbox.id_of("giant")) not in {user for user, _ in walked}
    reasons = dict(
        crawler.select(
            "SELECT reason, count(*) FROM crawl_follow_work WHERE state = 'left out' GROUP BY 1"
        )
    )
    assert reasons["its list is too long"] == 1
    assert users_sold(sandbox) == users_booked(crawler)
    said = crawler.run("follow", "--following", "--depth", "2", expect=2).stderr
    assert "needs --max-users and --max-followers" in said


def test_the_price_comes_first(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    change(sandbox, "ada", size=40_000)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    unknown = crawler.run("follow", "--dry-run").stdout
    assert "asks before it goes on" in unknown
    assert users_sold(sandbox) == 0
    refused = crawler.run("follow", expect=2).stderr
    assert "cost up to $400.00: say --yes, or set a --budget" in refused
    assert users_sold(sandbox) == 1
    known = crawler.run("follow", "--dry-run").stdout
    assert re.search(r"requests to /2/users/:id/followers +40 +40 +40", known)
    assert "$400.00" in known
    crawler.run("follow", "--budget", "25", expect=5)
    assert 2_400 < users_sold(sandbox) <= 2_501
    [(paid,)] = crawler.select("SELECT sum(user_count) * 0.01 FROM crawl_page")
    assert float(paid) <= 25.01


def test_newest_ends_at_the_first_that_is_known(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    change(sandbox, "ada", size=4_000)
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    crawler.run("follow")
    change(sandbox, "ada", add=["grace"])
    before = requests(sandbox)
    crawler.run("follow", "--newest")
    assert requests(sandbox) - before == 1
    assert edges(crawler) == of(sandbox, "ada")


def test_who_cannot_be_read_is_told(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["protected_ada", "gone_ada", "ada"])
    change(sandbox, "ada", size=10)
    said = crawler.run("follow", "--yes", expect=1).stdout
    assert "@gone_ada: missing" in said
    assert re.search("followers of @protected_ada: protected", said, re.IGNORECASE)
    assert edges(crawler) == of(sandbox, "ada")


def test_a_deleted_account_leaves_nothing(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    change(sandbox, "ada", size=10, add=["grace"])
    crawler = Crawler.on(sandbox, tmp_path, dsn, ["ada"])
    crawler.run("follow")
    grace = sandbox.id_of("grace")
    told = ["x_user WHERE id", "x_user_seen WHERE user_id", "follow_edge WHERE other_id"]
    for again in (False, True):
        held = [crawler.select(f"SELECT count(*) FROM {one} = {grace}") for one in told]
        assert held == [[(0,)]] * 3 if again else [[(1,)]] * 3
        if not again:
            crawler.run("comply", "--user", "grace", expect=(0, 1))
    crawler.run("follow")
    assert crawler.select(f"SELECT count(*) FROM x_user WHERE id = {grace}") == [(0,)]


def test_the_graph_is_read_by_other_programs(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    circle = ["ada", "grace", "hedy"]
    for name, other in itertools.permutations(circle, 2):
        change(sandbox, name, "following", size=3, add=[other])
    crawler = Crawler.on(sandbox, tmp_path, dsn, circle)
    crawler.run("follow", "--following")
    whole = {
        (int(sandbox.id_of(name)), one)
        for name in circle
        for one in listed(sandbox, name, "following")
    }
    assert edges(crawler) == whole
    crawler.run("graph", "edges.csv")
    assert _pairs(csv.DictReader((tmp_path / "edges.csv").read_text().splitlines())) == whole
    crawler.run("graph", "all.gexf")
    crawler.run("graph", "all.graphml")
    for graph in (
        networkx.read_gexf(tmp_path / "all.gexf"),
        networkx.read_graphml(tmp_path / "all.graphml"),
    ):
        assert {(int(a), int(b)) for a, b in graph.edges} == whole
    inside = set(itertools.permutations((int(sandbox.id_of(name)) for name in circle), 2))
    for chosen in ("--between", "--mutual"):
        text = crawler.run("graph", chosen).stdout
        assert _pairs(csv.DictReader(io.StringIO(text))) == inside
    text = crawler.run("graph", "--degrees", "--between").stdout
    assert {
        (row["followers"], row["following"], row["mutual"])
        for row in csv.DictReader(io.StringIO(text))
    } == {("2", "2", "2")}
    crawler.run("graph", "edges.parquet")
    import pandas

    table = pandas.read_parquet(tmp_path / "edges.parquet")
    assert set(zip(table.follower_id, table.followed_id, strict=True)) == whole
    assert crawler.run("graph", "--at", "2020-01-01").stdout.count("\n") == 1
    assert "tells no format" in crawler.run("graph", "edges.xyz", expect=2).stderr
    assert ET.parse(tmp_path / "all.gexf").getroot().tag.endswith("gexf")


def _pairs(rows: Iterable[dict[str, str]]) -> set[tuple[int, int]]:
    found = Counter((int(row["follower_id"]), int(row["followed_id"])) for row in rows)
    assert set(found.values()) == {1}
    return set(found)
