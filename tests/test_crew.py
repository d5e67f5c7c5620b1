"""The number of processes: what the windows need, within the room that the machine has."""

from __future__ import annotations

import os

import pytest

from tweetcrawler import machine
from tweetcrawler.crew import CONNECTIONS, Crew, Demand
from tweetcrawler.db import Database
from tweetcrawler.news import Noted, Paced, PageRead, Started
from tweetcrawler.secret import Credential, Secret

TIMELINE = "/2/users/:id/tweets"


def credential(name: str) -> Credential:
    keys = (Secret(f"{name} {part}") for part in ("key", "secret", "token", "token secret"))
    return Credential(name, *keys)


def measured(demand: Demand, *, request_s: float, answers: int = 40) -> Demand:
    """A worker that got an answer every `request_s`."""
    demand.take(0, Started("owner"), 0.0)
    for number in range(1, answers + 1):
        demand.take(0, PageRead("c"), number * request_s)
    return demand


def paced(bucket: str, per_s: float, kind: str = "app") -> Paced:
    return Paced(TIMELINE, kind, bucket, per_s)


class Numbers:
    """A pool of which only the number counts."""

    def __init__(self, size: int) -> None:
        self.size = size

    def grow(self, count: int) -> None:
        """Counts."""
        self.size += count

    def memory_of_one(self) -> int | None:
        """A tiny process: memory is never in the way here."""
        return 1


class Second:
    """A crew of a pool of numbers, with a clock of its own. Windows allow 40 requests a second,
    and each takes one.
    """

    def __init__(
        self, *, most: int | None = None, left: int | None = None, idle: float | None = None
    ) -> None:
        self.now = 0.0
        self.pool = Numbers(4)
        self.crew = Crew(
            self.pool,
            [credential("c")],
            most=most,
            connections_left=lambda: left,
            clock=lambda: self.now,
            idle=lambda: idle,
        )
        self.crew.take(0, paced("a", 40.0))

    def passes(self, *, all_busy: bool = True, seconds: float = 1.0) -> int:
        """Each process has its answer; gives the number of processes after that."""
        for worker in range(self.pool.size):
            self.crew.begins(worker)
        self.now += seconds
        for worker in range(self.pool.size):
            self.crew.take(worker, PageRead("c"))
        self.crew.look(all_busy=all_busy)
        return self.pool.size


# -- how many are needed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_s", "request_s", "needed"),
    [(10.0, 0.3, 4), (55.0, 0.3, 21), (55.0, 1.0, 69), (1, 0.05, 1)],
)
def test_processes_are_rates_times_the_time_of_a_request(
    per_s: float, request_s: float, needed: int
) -> None:
    demand = measured(Demand([credential("c")]), request_s=request_s)
    demand.take(0, paced("a", per_s), 0.0)
    assert demand.processes == needed


def test_buckets_without_an_answer_have_the_rate_of_their_kind() -> None:
    """Few processes use few credentials: the others must be known before they are asked."""
    demand = measured(Demand([credential(f"c{n}") for n in range(5)]), request_s=1.0)
    demand.take(0, paced("a", 10.0), 0.0)
    assert demand.per_s == 50.0
    demand.take(0, paced("u", 1.0, "user"), 0.0)
    assert demand.per_s == 55.0
    demand.take(0, paced("b", 0.0), 0.0)
    assert demand.per_s == 30.0, "a refused bucket has no rate, and says nothing of the others"


def test_walks_noted_together_are_as_many_answers() -> None:
    demand = Demand([credential("c")])
    demand.take(0, Started("owner"), 0.0)
    demand.take(0, Noted((PageRead("c"),) * 20, ()), 4.0)
    assert demand.request_s == pytest.approx(0.2)


# -- how many are added ----------------------------------------------------------------------------


def test_it_grows_to_what_is_needed_and_no_further() -> None:
    second = Second()
    # 40 a second are allowed, and a process sends one: 48 are fast enough.
    assert [second.passes() for _ in range(6)] == [12, 24, 48, 48, 48, 48]
    assert second.crew.bound == ""


def test_no_process_is_added_while_one_waits_for_a_window() -> None:
    second = Second()
    assert [second.passes(all_busy=False) for _ in range(3)] == [4, 4, 4]


def test_it_stops_at_the_connections_of_the_database_and_says_so() -> None:
    second = Second(left=14)
    assert second.passes() == 6
    assert second.crew.bound == CONNECTIONS
    assert "the connections that the database allows" in second.crew.sentence


def test_enough_processes_on_cores_that_are_busy_say_so() -> None:
    """They are as many as X's own pace needs; more would make the cores busier only."""
    second = Second(idle=0.0)
    assert [second.passes() for _ in range(4)] == [12, 24, 48, 48]
    assert second.crew.bound == ""
    # The windows allow 40 a second; now 48 processes send 16.
    sizes = [second.passes(seconds=3.0) for _ in range(3)]
    assert sizes[-1] == second.pool.size < 60
    assert "the cores of this machine" in second.crew.sentence


def test_it_stops_at_the_number_of_targets() -> None:
    second = Second(most=5)
    assert [second.passes() for _ in range(3)] == [5, 5, 5]
    assert second.crew.bound == ""


def test_the_database_tells_how_many_connections_are_left(database: Database) -> None:
    with database.connect() as connection:
        row = connection.execute("SHOW max_connections").fetchone()
    assert row is not None
    left = database.connections_left()
    assert left is not None
    assert 0 < left < int(row[0])


def test_the_machine_tells_its_memory() -> None:
    free, own = machine.free_memory(), machine.memory_of(os.getpid())
    if free is None or own is None:
        pytest.skip("not on this system")
    assert 1 << 20 < own < 1 << 34
    assert free > 0
    assert machine.memory_of(2**30) is None
