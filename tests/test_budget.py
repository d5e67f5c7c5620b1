"""Budgets: met, and never exceeded by one post, whoever buys at the same time and whoever dies."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from crawls import Crawler, ended, truth, wait_until, workers_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_server import Sandbox

from tweetcrawler import prices
from tweetcrawler.budget import LOST_AFTER_S, Limits, Reserved, Room, Want, grant, room_of
from tweetcrawler.db import Database
from tweetcrawler.pages import Batch, Bought

TIMELINE = "/2/users/:id/tweets"
FEWEST = 5
POST = 5_000
HANDLES = [f"writer_{n}" for n in range(15)]


def want(most: int = 100, **other: Any) -> Want:
    return Want(TIMELINE, most, **({"fewest": FEWEST, "price": POST} | other))


# -- the arithmetic ------------------------------------------------------------------


def test_what_fits_is_granted_and_shrinks_towards_the_end() -> None:
    assert grant(want(), [Room("run", None, 523)]).units == 100
    assert grant(want(), [Room("run", None, 523, spent_posts=500)]).units == 23
    assert grant(want(), [Room("run", 1_230_000, None, spent=1_000_000)]).units == 46


def test_the_narrowest_room_decides() -> None:
    rooms = [Room("run", None, 80), Room("day", 10 * POST, None), Room("month", None, None)]
    assert grant(want(), rooms).units == 10


def test_fewer_than_x_takes_are_not_asked_for() -> None:
    granted = grant(want(), [Room("day", 4 * POST, None)])
    assert (granted.units, granted.full) == (None, "day")


def test_what_others_hold_is_waited_for_and_what_is_spent_is_not() -> None:
    held = grant(want(), [Room("run", 100 * POST, None, held=98 * POST)])
    assert (held.units, held.full) == (None, None)
    spent = grant(want(), [Room("run", 100 * POST, None, spent=98 * POST)])
    assert (spent.units, spent.full) == (None, "run")


def test_a_request_with_a_fee_needs_room_for_the_fee() -> None:
    asks = want(0, fewest=0, price=0, fee=10_000, are_posts=False)
    assert grant(asks, [Room("run", 10_000, 0)]).units == 0
    assert grant(asks, [Room("run", 9_999, None)]).full == "run"


def test_a_request_under_way_at_midnight_is_held_today_and_a_lost_one_is_spent_on_its_day() -> None:
    """Its page may be saved, and charged, after midnight. `status` counts by the same rule."""
    midnight = 1_800_057_600.0  # 2027-01-16, UTC
    now = midnight + 60.0
    under_way = Reserved(1, "a process elsewhere", "/2/tweets", midnight - 5.0, 10, 50)
    lost = [
        Reserved(1, "", "/2/tweets", midnight - 5.0, 20, 100),
        Reserved(1, "long silent", "/2/tweets", now - LOST_AFTER_S - 1, 40, 200),
    ]

    def room(scope: str, period: str) -> Room:
        return room_of(scope, period, (1000, None), (1, 5), reserved=[under_way, *lost], now=now)

    assert room("day", "2027-01-16") == Room("day", 1000, None, 5, 1, 50, 10)
    assert room("day", "2027-01-15") == Room("day", 1000, None, 305, 61, 50, 10)
    assert room("month", "2027-01") == Room("month", 1000, None, 305, 61, 50, 10)
    assert room("run", "1") == Room("run", 1000, None, 305, 61, 50, 10)
    assert room("run", "2") == Room("run", 1000, None, 5, 1)


def test_what_costs_nothing_is_limited_by_posts_only() -> None:
    assert grant(want(price=0), [Room("run", 0, 30)]).units == 30
    assert grant(want(price=0), [Room("run", 0, None)]).units == 100


@dataclass
class Shop:
    """A schedule of processes that ask, are answered, and die, against a till that X keeps."""

    limits: list[Room]
    spent: int = 0
    spent_posts: int = 0
    sold: int = 0
    sold_posts: int = 0
    under_way: dict[int, tuple[Want, int]] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)

    def rooms(self) -> list[Room]:
        held = [(w.cost(units), w.posts(units)) for w, units in self.under_way.values()]
        return [
            Room(
                limit.scope,
                limit.money,
                limit.posts,
                self.spent + sum(money for money, _ in self.lost),
                self.spent_posts + sum(posts for _, posts in self.lost),
                sum(money for money, _ in held),
                sum(posts for _, posts in held),
            )
            for limit in self.limits
        ]

    def ask(self, process: int, wanted: Want) -> bool:
        granted = grant(wanted, self.rooms())
        if granted.units is not None:
            self.under_way[process] = (wanted, granted.units)
        return granted.full is None

    def answer(self, process: int, share: float) -> None:
        wanted, units = self.under_way.pop(process)
        brought = round(units * share)
        self._sell(wanted, brought)
        self.spent += wanted.cost(brought)
        self.spent_posts += wanted.posts(brought)

    def die(self, process: int, share: float | None) -> None:
        """`share` None: before X got the request; else X sold, and nobody learned it."""
        wanted, units = self.under_way.pop(process)
        if share is not None:
            self._sell(wanted, round(units * share))
        self.lost.append((wanted.cost(units), wanted.posts(units)))

    def _sell(self, wanted: Want, brought: int) -> None:
        self.sold += wanted.cost(brought)
        self.sold_posts += wanted.posts(brought)


WANTS = [
    want(),
    want(37),
    want(500, fewest=10),
    want(100, fewest=1, price=10_000, are_posts=False),
    want(0, fewest=0, price=0, fee=5_000, are_posts=False),
]


@settings(max_examples=1_000, deadline=None)
@given(
    money=st.none() | st.integers(0, 3_000_000),
    posts=st.none() | st.integers(0, 900),
    seed=st.integers(0, 2**32),
    deaths=st.floats(0, 0.5),
)
def test_a_budget_is_never_exceeded_in_any_schedule(
    money: int | None, posts: int | None, seed: int, deaths: float
) -> None:
    chance = random.Random(seed)
    shop = Shop([Room("run", None, posts), Room("day", money, None)])
    for _ in range(200):
        process = chance.randrange(6)
        if process not in shop.under_way:
            shop.ask(process, chance.choice(WANTS))
        elif chance.random() < deaths:
            shop.die(process, chance.choice([None, chance.random(), 1.0]))
        else:
            shop.answer(process, chance.choice([0.0, chance.random(), 1.0]))
        assert money is None or shop.sold <= money
        assert posts is None or shop.sold_posts <= posts


@settings(max_examples=200, deadline=None)
@given(posts=st.integers(0, 2_000), seed=st.integers(0, 2**32))
def test_a_budget_is_met_when_nobody_dies(posts: int, seed: int) -> None:
    """Whoever has to wait is told apart from whoever is at the end: all but what X's
    minimum forbids is bought.
    """
    chance = random.Random(seed)
    shop = Shop([Room("run", None, posts)])
    goes_on = True
    while goes_on:
        process = chance.randrange(4)
        if process in shop.under_way:
            shop.answer(process, chance.choice([0.1, 1.0, chance.random()]))
        else:
            goes_on = shop.ask(process, want())
    for process in list(shop.under_way):
        shop.answer(process, 1.0)
    assert posts - FEWEST < shop.sold_posts <= posts


# -- on a database -------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_connections_at_once_do_not_exceed_a_budget(database: Database, seed: int) -> None:
    tariff = prices.load(None, None)
    limits = Limits(run_posts=700, day=3_000_000)
    with database.session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
    sold: list[int] = []
    stopped: list[str] = []

    def buy(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        with database.session() as session:
            while True:
                page = uuid.uuid4()
                granted = session.set_aside(run, f"o{number}", page, want(), limits, tariff)
                if granted.full is not None:
                    stopped.append(granted.full)
                    return
                if granted.units is None:
                    continue
                brought = round(granted.units * chance.choice([0.0, 0.3, 1.0]))
                fate = chance.random()
                if fate < 0.1:
                    session.take_back(page)
                elif fate < 0.2:
                    sold.append(brought)
                    cost = granted.units * POST
                    session.note_lost(run, page, TIMELINE, granted.units, cost, why="cut")
                else:
                    sold.append(brought)
                    bought = Bought(
                        TIMELINE, {}, "c1", b"{}", posts=brought, id=page, cost=brought * POST
                    )
                    batch = Batch(None, bought, [])
                    session.save(run, f"o{number}", batch)
                    session.save(run, f"o{number}", batch)  # its answer was lost: it costs once

    threads = [threading.Thread(target=buy, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(stopped) == 4
    with database.reader() as reader:
        stored = sum(b.posts for b in reader.purchases())
        lost = sum(r.posts for r in reader.reserved())
    assert sum(sold) <= stored + lost <= 700
    assert (stored + lost) * POST <= 3_000_000
    assert max(stored + lost - (600 - FEWEST), 0) > 0, "the smaller of both limits is met"


def test_what_runs_without_a_budget_bought_counts_in_the_days_budget(database: Database) -> None:
    tariff = prices.load(None, None)
    with database.session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        session.save(run, "o", Batch(None, Bought(TIMELINE, {}, "c1", b"{}", posts=90), []))
        granted = session.set_aside(run, "o", uuid.uuid4(), want(), Limits(day=100 * POST), tariff)
        assert granted.units == 10


def test_each_page_of_a_run_without_a_budget_is_in_the_sums_at_once(database: Database) -> None:
    """Not when they are counted again, a minute later."""
    tariff, limits = prices.load(None, None), Limits(day=100 * POST, month=100 * POST)
    with database.session() as session, database.session() as other:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])

        def left() -> int | None:
            page = uuid.uuid4()
            granted = session.set_aside(run, "o", page, want(), limits, tariff)
            session.take_back(page)
            return granted.units

        assert left() == 100
        free, _ = other.begin_run(version="0", arguments={}, host="h", credentials=[])
        rows = [
            {"id": number, "text": "t", "retweeted_status_id": None} for number in range(10, 20)
        ]
        batch = Batch(None, Bought(TIMELINE, {}, "c", b"{}", posts=10, cost=10 * POST), rows)
        other.save(free, "o", batch)
        assert left() == 90
        other.save(free, "o", batch)
        assert left() == 90, "the same page again"
        again = Bought(TIMELINE, {}, "c", b"{}", posts=10, cost=10 * POST)
        other.save(free, "o", Batch(None, again, rows, searched=False))
        assert left() == 80, "rows that are stored"
        other.save_page(free, Bought("/2/tweets/counts/all", {}, "c", b"{}", cost=2 * POST))
        assert left() == 78
        user = Bought("/2/users/by", {}, "c", b"{}", users=1, cost=2 * POST)
        for _ in range(2):
            other.save_users(free, user, [], [], rest_s=1.0)
        assert left() == 76
        posts = Bought("/2/tweets", {}, "c", b"{}", posts=1, cost=POST)
        for _ in range(2):
            other.save_looked_up(free, Batch(None, posts, rows[:1]), [], [], seen_at=1.0)
        assert left() == 75
        assert session.gone_of(free, tariff) == (21, 21 * POST + 10_000 + 10_000)


def test_lost_and_open_requests_of_a_run_are_gone_for_the_next_of_its_command(
    database: Database,
) -> None:
    tariff, limits = prices.load(None, None), Limits(run_posts=1_000)
    with database.session() as session:
        run, _ = session.begin_run(version="0", arguments={}, host="h", credentials=[])
        session.set_aside(run, "a process elsewhere", uuid.uuid4(), want(30), limits, tariff)
        session.set_aside(run, "", uuid.uuid4(), want(20), limits, tariff)
        session.note_lost(run, uuid.uuid4(), TIMELINE, 7, 7 * POST, why="cut")
        session.save(run, "o", Batch(None, Bought(TIMELINE, {}, "c", b"{}", posts=3), []))
        assert session.gone_of(run, tariff) == (60, 60 * POST)


# -- through the door ----------------------------------------------------------------


@pytest.fixture(scope="module")
def busy_sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "100-700", "--latency-ms", "20") as running:
        yield running


@pytest.fixture
def sandbox(busy_sandbox: Sandbox) -> Sandbox:
    busy_sandbox.control("POST", "/sandbox/books/reset")
    return busy_sandbox


def posts_in_accounts(crawler: Crawler) -> int:
    [(posts,)] = crawler.select("SELECT coalesce(sum(post_count), 0)::int FROM crawl_page")
    return int(posts)


def lost_posts(crawler: Crawler) -> int:
    [(posts,)] = crawler.select("SELECT coalesce(sum(posts), 0)::int FROM crawl_reserved")
    return int(posts)


def test_a_run_stops_at_its_posts_and_the_next_one_goes_on(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:4], threads=4)
    done = crawler.run("--max-posts", "523", expect=5)
    assert "the budget of this run (523 posts) is used up" in done.stdout
    assert 523 - FEWEST < len(crawler.stored_ids()) <= 523
    assert sandbox.books()["posts_sold"] == posts_in_accounts(crawler) == len(crawler.stored_ids())
    crawler.run()
    books = sandbox.books()
    assert crawler.stored_ids() == truth(sandbox, HANDLES[:4])
    assert books["posts_sold"] == books["posts_distinct"] == posts_in_accounts(crawler)
    assert lost_posts(crawler) == 0


def test_money_is_spent_on_users_too(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run("--budget", "0.07", expect=5)
    books = sandbox.books()
    assert (books["users_sold"], books["posts_sold"]) == (7, 0)


def test_two_runs_share_the_budget_of_the_day(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    more = {"settings": "budgetPerDay = 6.50"}
    crawlers = [Crawler.on(sandbox, tmp_path / name, dsn, HANDLES, **more) for name in "ab"]
    for process in [crawler.start() for crawler in crawlers]:
        ended(process, expect=5)
    books = sandbox.books()
    cost = books["posts_sold"] * POST + books["users_sold"] * 10_000
    assert 6_500_000 - FEWEST * POST < cost <= 6_500_000
    assert books["posts_sold"] == books["posts_distinct"] == posts_in_accounts(crawlers[0])
    [left] = json.loads(crawlers[0].run("status", "--json").stdout)["budgets"]
    assert left["left_usd"] == pytest.approx(6.5 - cost / 1e6, abs=1e-6)
    assert "budget of the day: $0.0" in crawlers[0].run("status").stdout
    done = crawlers[0].run(expect=5)
    assert (
        "the budget of the day ($6.50) is used up; a new one begins at midnight UTC" in done.stdout
    )
    assert sandbox.books()["posts_sold"] == books["posts_sold"]


def test_a_run_without_a_budget_leaves_less_for_one_of_the_day(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES, settings="budgetPerDay = 2")
    crawler.run("crawl", HANDLES[0], "--max-posts", "50", expect=5)
    (crawler.folder / "other.ini").write_text(
        (crawler.folder / "tweet.ini").read_text().replace("budgetPerDay = 2", "")
    )
    crawler.run("-c", "other.ini", "crawl", *HANDLES[1:8])
    before = sandbox.books()["posts_sold"]
    assert before * POST > 2_000_000, "more than the budget of the day"
    done = crawler.run("crawl", *HANDLES[8:], expect=5)
    assert "the budget of the day ($2.00) is used up" in done.stdout
    assert sandbox.books()["posts_sold"] == before


def test_kills_under_a_budget_leave_the_books_equal(dsn: str, tmp_path: Path) -> None:
    """Posts sold = posts in the reader, and what requests of the killed may have brought;
    all within the budget.
    """
    world = ("--credentials", "2", "--posts", "100-700", "--latency-ms", "20", "--shared-project")
    with Sandbox(*world) as sandbox:
        _kill_under_a_budget(sandbox, dsn, tmp_path)


def _kill_under_a_budget(sandbox: Sandbox, dsn: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES, threads=3)
    process = crawler.start("--max-posts", "2500")
    kills = 0
    while process.poll() is None and kills < 10:
        workers = workers_of(process.pid)
        if len(workers) >= 3 and sandbox.books()["posts_sold"] > 100 * kills:
            chance.choice(workers).kill()
            kills += 1
        try:
            process.wait(0.05)
        except Exception:  # noqa: BLE001 - still running, as it should
            continue
    ended(process, expect=(5, 1))
    books = sandbox.books()
    assert kills >= 5
    assert books["posts_sold"] <= 2500
    unseen = books["posts_sold"] - posts_in_accounts(crawler)
    assert 0 <= unseen <= lost_posts(crawler) <= 100 * kills
    assert posts_in_accounts(crawler) == len(crawler.stored_ids())
    crawler.run()
    books = sandbox.books()
    assert crawler.stored_ids() == truth(sandbox, HANDLES)
    twice = books["posts_sold"] - books["posts_distinct"]
    assert posts_in_accounts(crawler) == len(crawler.stored_ids()), (
        "what was lost on its way is bought twice, stored once"
    )
    assert books["posts_sold"] == posts_in_accounts(crawler) + twice
    assert twice == unseen
    # Both purchases are of one day and endpoint: X charges them once, as the reader say.
    [project] = books["projects"].values()
    charged = json.loads(crawler.run("status", "--json").stdout)["spent"]["month"]["posts_charged"]
    assert charged == project["posts_charged"] == len(crawler.stored_ids())


def test_answers_that_are_cut_count_as_sold(dsn: str, tmp_path: Path) -> None:
    with Sandbox("--credentials", "1", "--posts", "300-300", "--short-pages", "0") as sandbox:
        sandbox.fault("cut-body", endpoint=TIMELINE, count=1)
        crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES[:4], threads=1)
        crawler.run("--max-posts", "350", expect=5)
        books = sandbox.books()
        assert books["posts_in_broken_answers"] == lost_posts(crawler) == 100
        assert 350 - FEWEST < books["posts_sold"] <= 350
        assert posts_in_accounts(crawler) == books["posts_sold"] - 100
        status = crawler.run("status").stdout
        assert "1 request was sent whose answer nobody saw" in status
        assert "up to 100 posts ($0.50)" in status


def test_csv_files_keep_no_budget(sandbox: Sandbox, tmp_path: Path) -> None:
    crawler = Crawler.on(sandbox, tmp_path, None, HANDLES)
    done = crawler.run("--csv", "--budget", "1", expect=2)
    assert "a budget is kept in a database" in done.stderr


def test_a_search_and_a_lookup_stay_within_the_budget(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    ids = truth(sandbox, HANDLES[:2])[:300]
    (crawler.folder / "ids.txt").write_text("".join(f"{i}\n" for i in ids))
    crawler.run("hydrate", "ids.txt", "--max-posts", "123", expect=5)
    assert sandbox.books()["posts_sold"] == 123 == len(crawler.stored_ids())
    before = sandbox.books()["posts_sold"]
    crawler.run("search", "-q", "the", "--max-posts", "37", expect=(0, 5))
    assert sandbox.books()["posts_sold"] - before <= 37


def test_trends_and_counts_cost_a_fee_that_a_budget_knows(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, [])
    crawler.run("search", "-q", "cats", "--count", "--budget", "0.004", expect=5)
    crawler.run("search", "-q", "cats", "--count", "--budget", "0.005")
    wait_until(
        lambda: crawler.select("SELECT count(*) FROM crawl_reserved") == [(0,)],
        what="nothing is held",
    )
