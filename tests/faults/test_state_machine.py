"""Any order of steps keeps the promises of a crawl.

Pages, crashes, takeovers, new and deleted posts, waits and refusals.

A machine drives real workers against a real sandbox and a real PostgreSQL. After each step
the database is compared with the sandbox's books. Which steps come, in which order and with
which arguments, follows from a seed alone, never from what happened or how long it took:
nothing real can be played again exactly, so a failure shows all of its steps.
`TWEETCRAWLER_SEED` takes another seed for the long form.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from busy import Patience, window_s
from sandbox_server import Sandbox

from tweetcrawler import prices, settings
from tweetcrawler.coverage import from_text
from tweetcrawler.db import Database
from tweetcrawler.news import Result
from tweetcrawler.run import Job
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.work.kinds import CRAWL, Worker

TIMELINE = "/2/users/:id/tweets"
USERS = 3
PAGE = 100
SETTLED_S = 60.0  # what is younger is not yet counted as covered


class Crash(BaseException):
    """The process ends here, without a last word."""


@dataclass
class World:
    """What all examples of a test share: X, one database with its ledger, and what they met."""

    sandbox: Sandbox
    dsn: str
    folder: Path
    database: psycopg.Connection[Any]
    window_s: float
    passed_s: float = 0.0  # how far the sandbox's clock went ahead of the machine's
    met: Counter[str] = field(default_factory=Counter)


class Meddler:
    """A database whose next save goes wrong.

    `around` gets the true save and must call it, or not.
    """

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


class Crawling:
    """Three users, two workers, and everything that may happen to them.

    A step draws from its chance.
    """

    def __init__(self, world: World, seed: str) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.sink = Meddler(Database(world.dsn))
        self.handles = [f"u{n}_{uuid.uuid4().hex[:8]}" for n in range(USERS)]
        self.credentials = read_credentials(world.sandbox.auth_csv).credentials
        self.skew_s = 0.0  # of X's clock from what it should be
        self.allowed_twice = 0
        self.pages_left = 0
        self.is_done = False  # whether this run would ask X nothing more
        self.workers: list[Worker] = []
        self.open_at = 0.0
        # What the ledger knows of X's windows stays, as it does between true runs; what is
        # stored is another world's.
        world.database.execute(
            "TRUNCATE tweet_articles_tweepy, crawl_target, crawl_page, crawl_reserved CASCADE"
        )
        world.sandbox.control("POST", "/sandbox/books/reset", {})
        self.reachable = {handle: self._reachable(handle) for handle in self.handles}
        self.ever = set().union(*self.reachable.values())
        self.a_new_run_begins()
        # The users are known first: this machine is about their posts.
        for _ in range(50):
            self.targets = self._do(0, ("resolve", self.handles), pages=1_000).found.get(CRAWL, [])
            if len(self.targets) == USERS:
                break
            time.sleep(0.3)
        assert len(self.targets) == USERS

    # -- steps ------------------------------------------------------------------------

    def crawl_pages(self) -> None:
        self._do(self._either(), (CRAWL, self.targets), pages=self.chance.randint(1, 4))

    def crawl_to_the_end(self) -> None:
        self._crawl(self._either(), pages=1_000)

    def crash_before_commit(self) -> None:
        self._make_ready()
        self._crash(self._either(), self._die)

    def crash_after_commit(self) -> None:
        def around(save: Callable[[], Any]) -> Any:
            save()
            raise Crash

        self._make_ready()
        self._crash(self._either(), around)

    def the_answer_to_a_commit_is_lost(self) -> None:
        def around(save: Callable[[], Any]) -> Any:
            self._met("the answer to a commit was lost")
            save()
            return save()

        self._crawl(self._either(), pages=2, around=around)

    def a_second_worker_comes_between(self) -> None:
        """A second worker gets the other targets.

        It is given the same ones while the first worker has a page in hand.
        """
        who = self._either()

        def around(save: Callable[[], Any]) -> Any:
            self._met("a second worker came between")
            self._do(1 - who, (CRAWL, self.targets), pages=2, nested=True)
            return save()

        self._crawl(who, pages=2, around=around)

    def a_worker_sleeps_until_its_lease_is_taken(self) -> None:
        who = self._either()

        def around(save: Callable[[], Any]) -> Any:
            self._met("a lease was taken over")
            self.allowed_twice += PAGE  # the page in its hand, which the other buys as well
            self._end_leases()
            self._do(1 - who, (CRAWL, self.targets), pages=3, nested=True)
            return save()

        self._crawl(who, pages=3, around=around)

    def work_is_delivered_twice(self) -> None:
        who = self._either()
        first = self._crawl(who, pages=1_000)
        if first.wait is None and not first.later and not first.left:
            self._met("work was delivered twice")
            before = self._requests()
            self._do(who, (CRAWL, self.targets), pages=1_000)
            assert self._requests() == before, "what is done in this run is not asked again in it"

    def new_posts(self) -> None:
        self._add_posts(self.chance.choice(self.handles), self.chance.randint(1, 130))

    def posts_are_deleted(self) -> None:
        handle, every = self.chance.choice(self.handles), self.chance.randint(2, 9)
        ids = sorted(self.reachable[handle], reverse=True)[::every]
        told = self._control("POST", "/sandbox/world", {"user": handle, "delete": ids})
        assert told["deleted"] == len(ids)
        self.reachable[handle] -= set(ids)
        if ids:
            self._met("posts were deleted")

    def a_new_run_begins(self) -> None:
        self._begin_run(self._chosen())

    def the_window_turns(self) -> None:
        """A window turns: work until all are used up, the wait, and work again."""
        for _ in range(6):
            for handle in self.handles:
                self._add_posts(handle, 130)
            if self._do(0, (CRAWL, self.targets), pages=1_000).wait is not None:
                break
            self.a_new_run_begins()
        if time.monotonic() < self.open_at:
            self._met("a window turned")
            self._crawl(0, pages=2)

    def the_clock_of_x_jumps(self) -> None:
        self.skew_s = self.chance.choice([-3_600.0, -5.0, 0.0, 5.0, 3_600.0, 86_400.0])
        self._set_clock()
        self._met("the clock of X jumped")

    def x_sells_no_more(self) -> None:
        """X refuses.

        The month's posts or the credits are used up, the token is dead, or it wants patience.
        """
        fault = self.chance.choice(["cap", "credits", "unauthorized", "window-with-remaining"])
        with self._fault(fault, count=2):
            self._crawl(self._either(), pages=3)
        self.a_new_run_begins()  # a refusal holds for the run

    def the_operator_s_budget_ends(self) -> None:
        """Both workers under a limit of posts or of money, and perhaps a crash.

        Never is a post more sold.
        """
        posts = self.chance.randint(4, 160)
        limit = (
            ["--maxPosts", str(posts)]
            if self.chance.random() < 0.5
            else ["--budget", f"{posts * 0.005:.3f}"]
        )
        crashes = self.chance.random() < 0.5
        who = self._either()
        self._add_posts(self.chance.choice(self.handles), 60)
        self._begin_run(self._chosen(*limit))
        sold = int(self._books()["posts_sold"])

        def between(save: Callable[[], Any]) -> Any:
            self._do(1 - who, (CRAWL, self.targets), pages=2, nested=True)
            return save()

        if crashes:
            self._wait_for_a_window()
            self._crash(who, self._die, pages=1)
        results = []
        for one, around in ((who, between), (1 - who, None), (who, None)):
            self._wait_for_a_window()
            results.append(self._do(one, (CRAWL, self.targets), pages=1_000, around=around))
        for fatal in filter(None, (result.fatal for result in results)):
            assert fatal.exit_code == 5, fatal.sentence
            self._met("a budget ended" + " after a crash" * crashes)
        more = int(self._books()["posts_sold"]) - sold
        assert more <= posts, (
            f"{more} posts were sold within a budget of {posts} ({' '.join(limit)})"
        )
        self.a_new_run_begins()

    def an_answer_is_odd(self) -> None:
        fault = self.chance.choice(
            [
                "cut-body",
                "html-200",
                "duplicate-page",
                "empty-page-with-token",
                "short-page",
                "unsorted-page",
                "overlapping-page",
            ]
        )
        broken = int(self._books()["posts_in_broken_answers"])
        with self._fault(fault, count=1):
            self._crawl(self._either(), pages=3)
        self.allowed_twice += int(self._books()["posts_in_broken_answers"]) - broken
        if "page" in fault:
            self.allowed_twice += PAGE  # what X sends twice of itself

    # -- what always holds ------------------------------------------------------------

    def check(self) -> None:
        stored = self._stored()
        assert stored <= self.ever, "rows of posts that never were"
        for handle, covered in self._covered().items():
            for post in self.reachable[handle] - stored:
                assert not any(lower <= post < upper for lower, upper in covered), (
                    f"{post} is covered and missing"
                )
        books = self._books()
        twice = int(books["posts_sold"]) - int(books["posts_distinct"])
        assert twice <= self.allowed_twice, (
            f"{twice} posts bought twice, {self.allowed_twice} allowed"
        )
        assert books["closed_window_requests"] == 0, "requests were sent into a closed window"

    def finish(self) -> None:
        """Without any more trouble everything is found."""
        self.skew_s = 0.0
        self._set_clock()
        self._end_leases()
        self.a_new_run_begins()
        patience = Patience(90)
        left = self.targets
        while left:
            assert patience.lasts, "the crawl does not come to its end"
            result = self._do(0, ("crawl", left), pages=100_000)
            assert result.fatal is None, result.fatal
            later = [unit for each in result.later for unit in each.units]
            left = [*result.left, *later]
            if left:
                time.sleep(min(result.wait.wait_s if result.wait else 0.5, 5.0))
        self.check()
        for handle in self.handles:
            assert self._reachable(handle) == self.reachable[handle], (
                "the machine's own notes are wrong"
            )
        assert not set().union(*self.reachable.values()) - self._stored(), (
            "something reachable is missing at the end"
        )

    # -- how --------------------------------------------------------------------------

    def _met(self, what: str) -> None:
        self.world.met[what] += 1

    def _either(self) -> int:
        return self.chance.randrange(2)

    def _chosen(self, *arguments: str) -> settings.Settings:
        return settings.parse(
            ["--apiURL", self.world.sandbox.url, *arguments], environ={}, folder=self.world.folder
        )

    def _begin_run(self, chosen: settings.Settings) -> None:
        with Database(self.world.dsn).session() as session:
            run, since = session.begin_run(
                version="0", arguments={}, host="machine", credentials=self.credentials
            )
        self.is_done = False
        for worker in self.workers:
            worker.do(None)  # it gives its permits back
        tariff = prices.load(None, None)
        self.job = Job(chosen, self.sink, self.credentials, run, since, tariff=tariff)
        self.workers = [self._new_worker(n) for n in range(2)]

    def _new_worker(self, number: int) -> Worker:
        return Worker(number, lambda: self.sink.saves >= self.pages_left, lambda _: None, self.job)

    def _crawl(
        self, who: int, *, pages: int, around: Callable[[Callable[[], Any]], Any] | None = None
    ) -> Result:
        self._make_ready()
        return self._do(who, (CRAWL, self.targets), pages=pages, around=around)

    def _make_ready(self) -> None:
        """What is to happen needs a page: there is something to do, and a window is open."""
        if self.is_done:
            self._add_posts(self.chance.choice(self.handles), self.chance.randint(1, 130))
            self._begin_run(self.job.settings)
        self._wait_for_a_window()

    def _wait_for_a_window(self) -> None:
        wait_s = self.open_at - time.monotonic()
        # Longer than a window and its margin is a rest of something else.
        if 0 < wait_s < 2 * self.world.window_s:
            time.sleep(wait_s)

    def _do(
        self,
        who: int,
        task: tuple[str, Any],
        *,
        pages: int,
        around: Callable[[Callable[[], Any]], Any] | None = None,
        nested: bool = False,
    ) -> Result:
        """A worker does a task until it has saved so many pages."""
        before = self.pages_left
        self.sink.around = around
        self.pages_left = self.sink.saves + pages
        if self.skew_s < 0:
            # Posts that are younger than X's own time are no promise yet: the next run buys
            # them once more.
            edge_ms = (time.time() + self.world.passed_s + self.skew_s - SETTLED_S) * 1000
            self.allowed_twice += sum(
                _ms_of(post) > edge_ms for own in self.reachable.values() for post in own
            )
        try:
            result = self.workers[who].do(task)
        finally:
            if nested:
                self.pages_left = max(before, self.sink.saves + 1)
            self.sink.around = None
        self.is_done = not (result.left or result.later or result.fatal or result.found)
        if result.wait is not None:
            self.open_at = time.monotonic() + result.wait.wait_s
        return result

    def _die(self, _save: Callable[[], Any]) -> Any:
        self.allowed_twice += PAGE
        raise Crash

    def _crash(
        self, who: int, around: Callable[[Callable[[], Any]], Any], *, pages: int = 5
    ) -> None:
        try:
            self._do(who, (CRAWL, self.targets), pages=pages, around=around)
        except Crash:
            self._met("a worker crashed")
            self.workers[who] = self._new_worker(who)
            self._end_leases()
            # Whoever looks sees that the process is gone, and counts what it had set aside
            # as spent.
            self.world.database.execute("UPDATE crawl_reserved SET owner = ''")

    def _end_leases(self) -> None:
        self.world.database.execute(
            "UPDATE crawl_target SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL"
        )

    def _add_posts(self, handle: str, count: int) -> None:
        # Time passes for X: they are a second apart, and newer than all that is covered.
        self.world.passed_s += count + 60
        self.skew_s = 0.0
        self._set_clock()
        told = self._control(
            "POST", "/sandbox/world", {"user": handle, "add_posts": count, "age_s": 90}
        )
        added = {int(id_) for id_ in told["added"]}
        self.reachable[handle] |= added
        self.ever |= added

    @contextmanager
    def _fault(self, name: str, *, count: int) -> Iterator[None]:
        self.world.sandbox.fault(name, count=count, endpoint=TIMELINE)
        yield
        if int(self._books()["faults"].get(name, 0)):
            self._met(f"X answered with {name}")
        self._control("DELETE", "/sandbox/faults")

    def _set_clock(self) -> None:
        self._control(
            "POST",
            "/sandbox/clock",
            {"skew_s": self.world.passed_s + self.skew_s, "move_windows": True},
        )

    def _control(self, *call: Any) -> Any:
        return self.world.sandbox.control(*call)

    def _books(self) -> dict[str, Any]:
        return self.world.sandbox.books()

    def _requests(self) -> int:
        return sum(sum(of.get(TIMELINE, {}).values()) for of in self._books()["requests"].values())

    def _reachable(self, handle: str) -> set[int]:
        return {int(i) for i in self.world.sandbox.truth_ids(handle)["reachable"]}

    def _stored(self) -> set[int]:
        return {
            row[0]
            for row in self.world.database.execute(
                "SELECT id FROM tweet_articles_tweepy"
            ).fetchall()
        }

    def _covered(self) -> dict[str, list[tuple[int, int]]]:
        rows = self.world.database.execute(
            "SELECT handle, covered::text FROM crawl_target"
        ).fetchall()
        return {handle: from_text(covered) for handle, covered in rows}


def _ms_of(post: int) -> int:
    """When a post was made: X's ids tell it."""
    return (post >> 22) + 1_288_834_974_657


STEPS = [name for name, value in vars(Crawling).items() if callable(value) and name[0] != "_"]
STEPS = [name for name in STEPS if name not in ("check", "finish")]
MEETINGS = {
    "a worker crashed",
    "the answer to a commit was lost",
    "a second worker came between",
    "a lease was taken over",
    "work was delivered twice",
    "posts were deleted",
    "a window turned",
    "the clock of X jumped",
    "a budget ended",
    "a budget ended after a crash",
    "X answered with cap",
    "X answered with credits",
    "X answered with unauthorized",
    "X answered with window-with-remaining",
    "X answered with cut-body",
    "X answered with html-200",
    "X answered with duplicate-page",
    "X answered with empty-page-with-token",
    "X answered with short-page",
    "X answered with unsorted-page",
    "X answered with overlapping-page",
}


@pytest.fixture
def world(dsn: str, tmp_path: Path) -> Iterator[World]:
    window = window_s(4)
    with (
        Sandbox(
            "--credentials",
            "2",
            "--posts",
            "0-260",
            "--window-s",
            window,
            "--limit",
            f"{TIMELINE}=12/12",
        ) as sandbox,
        psycopg.connect(dsn, autocommit=True) as database,
    ):
        yield World(sandbox, dsn, tmp_path, database, float(window))


def _run(world: World, seed: str, *, examples: int, steps: int) -> None:
    """Runs a number of examples, each of a number of steps.

    Steps are dealt from a shuffled pack: all of them come, in any order.
    """
    chance = random.Random(seed)
    # New posts come often, since most other steps need some; a turn of the window takes
    # seconds.
    pack = [*(STEPS * 3), *(["new_posts"] * 6)]
    while pack.count("the_window_turns") > 1:
        pack.remove("the_window_turns")
    dealt: list[str] = []
    counted: Counter[str] = Counter()
    for number in range(examples):
        story: list[str] = []
        machine = Crawling(world, f"{seed} {number}")
        try:
            for _ in range(steps):
                dealt = dealt or chance.sample(pack, len(pack))
                step = dealt.pop()
                story.append(step)
                counted[step] += 1
                machine.chance = random.Random(f"{seed} {number} {len(story)}")
                getattr(machine, step)()
                machine.check()
            story.append("finish")
            machine.finish()
            machine.a_new_run_begins()
        except BaseException as error:
            error.add_note(
                f"example {number} of seed {seed}, after these steps: {', '.join(story)}"
            )
            raise
    print(f"seed {seed}: {dict(counted)}; {dict(world.met)}")


@pytest.mark.parametrize("seed", ["one", "two"])
def test_any_order_of_steps_keeps_the_promises(world: World, seed: str) -> None:
    _run(world, seed, examples=4, steps=15)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_order_of_steps_keeps_the_promises_for_long(world: World) -> None:
    _run(world, os.environ.get("TWEETCRAWLER_SEED") or uuid.uuid4().hex[:8], examples=40, steps=40)
    assert not MEETINGS - set(world.met), "everything must have happened"
