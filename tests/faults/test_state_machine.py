"""Any order of pages, crashes, takeovers, new and deleted posts, waits and refusals keeps the promises of a crawl.

The machine drives real workers against a real sandbox and a real PostgreSQL. After each step the database is
compared with the sandbox's books.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sandbox_server import Sandbox

from tweetcrawler import inputs, settings
from tweetcrawler.coverage import from_text
from tweetcrawler.db import Database
from tweetcrawler.walk import Job, start_worker

TIMELINE = "/2/users/:id/tweets"
USERS = 3
PAGE = 100
PASSED = {"s": 0}  # how far the sandbox's clock went ahead of the machine's
COUNTED = {"examples": 0, "steps": 0, "crashes": 0, "waits": 0}


class Crash(BaseException):
    """The process ends here, without a last word."""


@dataclass(frozen=True)
class World:
    """What all examples share."""

    sandbox: Sandbox
    server_dsn: str
    template: str
    folder: Path


class Meddler:
    """A database whose next saves go wrong as `around` says: it gets the true save and must call it, or not."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.around: Callable[[Callable[[], Any]], Any] | None = None
        self.saves = 0

    @contextmanager
    def session(self, *, stopping: Callable[[], bool] = lambda: False) -> Iterator[Any]:
        with self._database.session(stopping=stopping) as session:
            save = session.save

            def saving(*arguments: Any, **more: Any) -> Any:
                self.saves += 1
                around, self.around = self.around, None
                if around is None:
                    return save(*arguments, **more)
                return around(lambda: save(*arguments, **more))

            session.save = saving  # type: ignore[method-assign] # one session only
            yield session


class Crawling(RuleBasedStateMachine):
    """Three users, up to two workers, and everything that may happen to them."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        COUNTED["examples"] += 1
        world = self.world
        self.name = f"machine_{uuid.uuid4().hex[:10]}"
        with psycopg.connect(world.server_dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(self.name), sql.Identifier(world.template))
            )
        self.dsn = make_conninfo(world.server_dsn, dbname=self.name)
        self.sink = Meddler(Database(self.dsn))
        self.handles = [f"u{n}_{uuid.uuid4().hex[:8]}" for n in range(USERS)]
        self.credentials = inputs.read_credentials(world.sandbox.auth_csv).credentials
        self.chosen = settings.parse(["--apiURL", world.sandbox.url], environ={}, folder=world.folder)
        self.allowed_twice = 0
        self.deleted: set[int] = set()
        self.ever: set[int] = set()
        self.pages_left = 0
        self.wait_until = 0.0
        self._begin_run()
        self.workers = [self._new_worker(n) for n in range(2)]
        # Whatever the faults, the users are known first: this machine is about their posts.
        for _ in range(50):
            self.targets = self._do(0, ("resolve", self.handles), pages=1_000)["targets"]
            if len(self.targets) == USERS:
                break
            time.sleep(0.3)
        assert len(self.targets) == USERS
        self._note_truth()

    # -- steps ---------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 1), pages=st.integers(1, 4))
    def crawl_pages(self, who: int, pages: int) -> None:
        self._do(who, ("crawl", self.targets), pages=pages)

    @rule(who=st.integers(0, 1))
    def crawl_to_the_end(self, who: int) -> None:
        self._do(who, ("crawl", self.targets), pages=1_000)

    @rule(who=st.integers(0, 1))
    def crash_before_commit(self, who: int) -> None:
        def around(_save: Callable[[], Any]) -> Any:
            self.allowed_twice += PAGE
            raise Crash

        self._crash(who, around)

    @rule(who=st.integers(0, 1))
    def crash_after_commit(self, who: int) -> None:
        def around(save: Callable[[], Any]) -> Any:
            save()
            raise Crash

        self._crash(who, around)

    @rule(who=st.integers(0, 1))
    def lose_the_answer_to_a_commit(self, who: int) -> None:
        def around(save: Callable[[], Any]) -> Any:
            save()
            return save()

        self.sink.around = around
        self._do(who, ("crawl", self.targets), pages=2)

    @rule(who=st.integers(0, 1))
    def a_second_worker_comes_between(self, who: int) -> None:
        """The other worker is given the same targets while this one has a page in hand: it gets other ones."""

        def around(save: Callable[[], Any]) -> Any:
            self._do(1 - who, ("crawl", self.targets), pages=2, nested=True)
            return save()

        self.sink.around = around
        self._do(who, ("crawl", self.targets), pages=2)

    @rule(who=st.integers(0, 1))
    def a_worker_sleeps_until_its_lease_is_taken(self, who: int) -> None:
        def around(save: Callable[[], Any]) -> Any:
            self.allowed_twice += PAGE  # the page in its hand, which the other buys as well
            self._end_leases()
            self._do(1 - who, ("crawl", self.targets), pages=3, nested=True)
            return save()

        self.sink.around = around
        self._do(who, ("crawl", self.targets), pages=3)

    @rule(who=st.integers(0, 1))
    def deliver_twice(self, who: int) -> None:
        first = self._do(who, ("crawl", self.targets), pages=1_000)
        if first["wait"] is None and not first["later"] and not first["left"]:
            before = self._requests()
            self._do(who, ("crawl", self.targets), pages=1_000)
            assert self._requests() == before, "what is done in this run is not asked again in it"

    @rule(user=st.integers(0, USERS - 1), count=st.integers(1, 130))
    def new_posts(self, user: int, count: int) -> None:
        # Time passes for X: they are a second apart, and newer than all that is covered.
        PASSED["s"] += count + 60
        self._control("POST", "/sandbox/clock", {"skew_s": PASSED["s"]})
        self._control("POST", "/sandbox/world", {"user": self.handles[user], "add_posts": count, "age_s": 90})
        self._note_truth()

    @rule(user=st.integers(0, USERS - 1), every=st.integers(2, 9))
    def posts_are_deleted(self, user: int, every: int) -> None:
        ids = [int(i) for i in self.world.sandbox.truth_ids(self.handles[user])["reachable"]][::every]
        self._control("POST", "/sandbox/world", {"user": self.handles[user], "delete": ids})
        self.deleted |= set(ids)

    @rule()
    def a_new_run_begins(self) -> None:
        self._begin_run()
        self.workers = [self._new_worker(n) for n in range(2)]

    @precondition(lambda self: self.wait_until > time.monotonic())
    @rule()
    def the_window_turns(self) -> None:
        COUNTED["waits"] += 1
        time.sleep(max(0.0, self.wait_until - time.monotonic()))

    @rule(skew_s=st.sampled_from([-3_600, -5, 0, 5, 3_600, 86_400]))
    def the_clock_of_x_jumps(self, skew_s: int) -> None:
        self._control("POST", "/sandbox/clock", {"skew_s": PASSED["s"] + skew_s})

    @rule(who=st.integers(0, 1), fault=st.sampled_from(["cap", "credits", "unauthorized", "window-with-remaining"]))
    def the_budget_ends(self, who: int, fault: str) -> None:
        self.world.sandbox.fault(fault, count=2, endpoint=TIMELINE)
        self._do(who, ("crawl", self.targets), pages=3)
        self._control("DELETE", "/sandbox/faults")
        self.a_new_run_begins()  # a refusal holds for the run

    @rule(who=st.integers(0, 1), fault=st.sampled_from(["cut-body", "html-200", "duplicate-page", "empty-page-with-token",
                                                       "short-page", "unsorted-page", "overlapping-page"]))  # fmt: skip
    def an_answer_is_odd(self, who: int, fault: str) -> None:
        broken = self._sold_broken()
        self.world.sandbox.fault(fault, count=1, endpoint=TIMELINE)
        self._do(who, ("crawl", self.targets), pages=3)
        self._control("DELETE", "/sandbox/faults")
        self.allowed_twice += self._sold_broken() - broken
        if "page" in fault:
            self.allowed_twice += PAGE  # what X sends twice of itself

    # -- what always holds ---------------------------------------------------------------------------

    @invariant()
    def what_is_covered_is_stored(self) -> None:
        COUNTED["steps"] += 1
        stored = self._stored()
        assert stored <= self.ever, "rows of posts that never were"
        for handle, covered in self._covered().items():
            for post in self._reachable(handle) - stored:
                assert not any(lower <= post < upper for lower, upper in covered), f"{post} is covered and missing"

    @invariant()
    def nothing_is_bought_twice_but_by_crashes(self) -> None:
        twice = sum(count - 1 for handle in self.handles for count in self.world.sandbox.sales(handle).values())
        assert twice <= self.allowed_twice, f"{twice} posts bought twice, {self.allowed_twice} allowed"

    @invariant()
    def nothing_is_sent_into_a_closed_window(self) -> None:
        assert self.world.sandbox.books()["closed_window_requests"] == 0

    def teardown(self) -> None:
        try:
            self._run_to_the_end()
        finally:
            with psycopg.connect(self.world.server_dsn, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self.name)))

    # -- how -----------------------------------------------------------------------------------------

    def _run_to_the_end(self) -> None:
        self._control("DELETE", "/sandbox/faults")
        self._control("POST", "/sandbox/clock", {"skew_s": PASSED["s"]})
        self._end_leases()
        self.a_new_run_begins()
        ends_at = time.monotonic() + 90
        left = self.targets
        while left:
            assert time.monotonic() < ends_at, "the crawl does not come to its end"
            result = self._do(0, ("crawl", left), pages=100_000)
            assert result["fatal"] is None, result["fatal"]
            later = [target for entry in result["later"] for target in (entry[0] if isinstance(entry[0], list) else [entry[0]])]
            left = result["left"] + later
            if left:
                wait_s = result["wait"][0] if result["wait"] else 0.5
                time.sleep(min(wait_s, 5.0))
        reachable = set().union(*(self._reachable(handle) for handle in self.handles))
        assert not reachable - self._stored(), "something reachable is missing at the end"
        assert not self._stored() - self.ever
        self.nothing_is_bought_twice_but_by_crashes()

    def _begin_run(self) -> None:
        database = Database(self.dsn)
        with database.session() as session:
            self.run, self.since = session.begin_run(
                version="0", arguments={}, host="machine", credentials=self.credentials
            )

    def _new_worker(self, number: int) -> Callable[[Any], dict[str, Any]]:
        job = Job(self.chosen, self.sink, self.credentials, self.run, self.since)  # type: ignore[arg-type]
        return start_worker(number, lambda: self.sink.saves >= self.pages_left, lambda _: None, job)

    def _do(self, who: int, task: tuple[str, Any], *, pages: int, nested: bool = False) -> dict[str, Any]:
        before = self.pages_left
        self.pages_left = self.sink.saves + pages
        try:
            result = self.workers[who](task)
        finally:
            if nested:
                self.pages_left = max(before, self.sink.saves + 1)
            self.sink.around = None
        if result["wait"] is not None:
            self.wait_until = time.monotonic() + min(6.0, result["wait"][0])
        return result

    def _crash(self, who: int, around: Callable[[Callable[[], Any]], Any]) -> None:
        self.sink.around = around
        try:
            self._do(who, ("crawl", self.targets), pages=5)
        except Crash:
            COUNTED["crashes"] += 1
            self.workers[who] = self._new_worker(who)
            self._end_leases()

    def _end_leases(self) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute("UPDATE crawl_target SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL")

    def _control(self, *call: Any) -> Any:
        return self.world.sandbox.control(*call)

    def _requests(self) -> int:
        return sum(sum(of.get(TIMELINE, {}).values()) for of in self.world.sandbox.books()["requests"].values())

    def _sold_broken(self) -> int:
        return int(self.world.sandbox.books()["posts_in_broken_answers"])

    def _reachable(self, handle: str) -> set[int]:
        return {int(i) for i in self.world.sandbox.truth_ids(handle)["reachable"]}

    def _note_truth(self) -> None:
        for handle in self.handles:
            self.ever |= self._reachable(handle)

    def _stored(self) -> set[int]:
        with psycopg.connect(self.dsn) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM tweet_articles_tweepy").fetchall()}

    def _covered(self) -> dict[str, list[tuple[int, int]]]:
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute("SELECT handle, covered::text FROM crawl_target").fetchall()
        return {handle: from_text(covered) for handle, covered in rows}


@pytest.fixture(scope="module")
def world(server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Sandbox(
        "--credentials", "2", "--posts", "0-260", "--window-s", "4", "--limit", f"{TIMELINE}=30/30"
    ) as sandbox:
        yield World(sandbox, server_dsn, template, tmp_path_factory.mktemp("machine"))


def _run(world: World, *, examples: int, steps: int, derandomize: bool) -> None:
    machine = type("Crawling", (Crawling,), {"world": world})
    run_state_machine_as_test(
        machine,
        settings=given_settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{COUNTED}")


def test_any_order_of_steps_keeps_the_promises(world: World) -> None:
    _run(world, examples=10, steps=20, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_order_of_steps_keeps_the_promises_for_long(world: World) -> None:
    _run(world, examples=150, steps=40, derandomize=False)
