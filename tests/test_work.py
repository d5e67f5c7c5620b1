"""Kinds of work: one table for the parent and its workers, and plain values between them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from tweetcrawler import news, pool, run
from tweetcrawler.csvfiles import CsvFolder
from tweetcrawler.db import Database
from tweetcrawler.dispatch import Dispatch
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.news import Fatal, Later, Outcome, Result, Wait
from tweetcrawler.outcome import Progress, Report
from tweetcrawler.pool import Event, Here, Pool
from tweetcrawler.rooms import rooms
from tweetcrawler.targets import STATES
from tweetcrawler.work.kinds import Units, table

VALUES = [
    news.Started("7|here|1|2|3"),
    news.LogLine("tweetcrawler", 20, "a line"),
    news.PageRead("c1", 100, 80),
    news.Kept("@ada", 100, "a constraint"),
    news.Paced("/2/users/:id/tweets", "app", "c1", 11.1),
    news.Refusal("c1", "XUnavailable", "X gives no answer"),
    Outcome("@ada", "renamed", "now @bob, followed by its id"),
    news.Noted((news.PageRead("c1"),), (Outcome("@ada", "ok"),)),
    news.Lost("/2/users/:id/tweets", 100, 500_000, "X's answer is longer than any page"),
    news.LookedUp("ok", 3, (Outcome("12", "gone", "missing: X does not mention it"),)),
    news.Counted("cats", 12),
    news.Note("a sentence"),
    Result({"crawl": [1]}, [2], [Later([3], 1.0, "no answer")], Wait(2.0, "c1"), Fatal("no", 3)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_passes_between_processes_could_be_json(value: Any) -> None:
    assert json.loads(json.dumps(asdict(value)))


def test_no_value_that_passes_is_forgotten_here() -> None:
    passing = {c.__name__ for c in vars(news).values() if is_dataclass(c) and isinstance(c, type)}
    tried = {type(value).__name__ for value in VALUES}
    assert passing - tried == {"Later", "Wait", "Fatal"}, "these are parts of a result"


def test_the_table_holds_the_kinds_of_all_rooms_in_their_order() -> None:
    assert len(table()) == sum(len(room.kinds) for room in rooms())
    feeding = [kind.feeds for kind in table().values()]
    assert feeding == sorted(feeding, reverse=True), "kinds that feed others go first"


def loaded_by(module: str) -> set[str]:
    """Libraries that a new process loads with a module and the kinds of work."""
    code = (
        f"import sys, {module}; from tweetcrawler.work.kinds import table; table(); "
        "print(*{'tweepy', 'requests'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_parent_of_a_crawl_loads_nothing_that_only_workers_need() -> None:
    """tweepy takes a fifth of a second, and every process of a machine its memory."""
    assert loaded_by("tweetcrawler.crawl") == set()


def test_workers_load_everything_before_their_first_request() -> None:
    """Between a permit and its request it would take time that X counts by the second."""
    assert loaded_by("tweetcrawler.work.worker") == {"tweepy", "requests"}


def test_a_state_is_done_exactly_when_everything_is_stored() -> None:
    assert {name for name in STATES if Outcome("", name).done} == {
        "ok",
        "renamed",
        "known",
        "gone",
    }
    assert not Outcome("", "a state of a room").done


def test_a_store_without_a_capability_says_what_is_needed(
    tmp_path: Path, database: Database
) -> None:
    capabilities: list[Callable[[Any], Any]] = [run.budgets, run.lookups, run.trends]
    with CsvFolder(tmp_path).session() as session:
        for capability in capabilities:
            with pytest.raises(ConfigurationError, match="name a database"):
                capability(session)
    with database.session() as able:
        assert [capability(able) for capability in capabilities] == [able] * len(capabilities)


# -- a pool, whatever it is made of --------------------------------------------------------------


def start_adder(
    _number: int, _stopping: Callable[[], bool], tell: pool.Tell, dies_of: int
) -> Callable[[Any], Result]:
    """Workers that report each unit as done, and die of one."""

    def add(task: tuple[str, list[int]] | None) -> Result:
        for unit in task[1] if task else []:
            if unit == dies_of:
                raise RuntimeError("this unit is deadly")
            tell(Outcome(str(unit), "ok"))
        return Result()

    return add


class Silent:
    """A display that shows nothing."""

    def update(self, progress: object) -> None:
        """Does nothing."""


def dispatched(workers: Any, units: Sequence[int], database: Database) -> Report:
    report = Report()
    kind = Units("adding", called=str, most=4)
    Dispatch(
        workers,
        {kind.name: kind},
        {kind.name: units},
        report=report,
        progress=Progress(0.0),
        sink=database,
    ).run(Silent(), lambda: None)
    return report


def test_a_death_costs_one_unit_of_work_and_no_other(database: Database) -> None:
    workers = Pool("test_work:start_adder", 13, size=2)
    report = dispatched(workers, range(40), database)
    assert {outcome.name: outcome.reason for outcome in report.named} == {
        "13": "its process died 3 times"
    }
    assert set(report.outcomes) == {"ok", "failed"}
    assert report.outcomes["ok"] >= 39, "units before the deadly one are told again"
    assert report.exit_code == 1


def test_a_worker_in_this_process_does_the_same_work(database: Database) -> None:
    workers = Here(start_adder, -1, stopping=lambda: False)
    report = dispatched(workers, range(40), database)
    assert report.outcomes == {"ok": 40}
    assert report.exit_code == 0


def test_news_arrive_before_the_result_that_follows_them() -> None:
    workers = Pool("test_work:start_adder", -1, size=1)
    try:
        workers.give(0, ("adding", list(range(500))))
        events: list[Event] = []
        while not events or events[-1].kind != "result":
            workers.listen(10.0, events.append)
        assert [event.value.name for event in events[:-1]] == [str(n) for n in range(500)]
        assert workers.busy == 0
    finally:
        workers.kill()
