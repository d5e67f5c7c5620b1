"""Hands out the work of a run to its workers, and puts their news together as a report.

`run_work` is the door for all work that asks X: it begins the record of the run, starts the
pool, hands out the units of each kind of work, and ends the record with the report.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from tweetcrawler import apps, prices, run
from tweetcrawler.crew import Crew, first_processes
from tweetcrawler.errors import NothingArrives, TweetcrawlerError
from tweetcrawler.news import (
    Later,
    LogLine,
    Note,
    Noted,
    Outcome,
    PageRead,
    Refusal,
    Result,
    Started,
)
from tweetcrawler.outcome import Display, Progress, Report, RunProgress, RunReport
from tweetcrawler.pool import Event, Pool
from tweetcrawler.run import Job, SharedSink
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings
from tweetcrawler.targets import FAILED, Target
from tweetcrawler.work.kinds import Units, Work, table

# The number of tries without an answer after which a unit is reported as failed: while others
# get answers, and while nobody does. Between them it waits twice as long each time.
TRIES_OF_ONE, TRIES = 3, 8
RETRY_MAX_S = 60.0
# Most answers that may be lost although X charges for them: of one page, and in a row.
LOST_OF_ONE, LOST_IN_A_ROW = 2, 5
# Work whose process died is handed out again this number of times.
DEATHS = 2
# Workers that do not end within this time after they were asked to are killed, by default.
GRACE_S = 7.0
# Kinds that feed the others do so while fewer units than this wait, and in a few workers only.
ENOUGH = 200
FEEDING_AT_ONCE = 2

Stopped = Callable[[], int | None]

log = logging.getLogger(__name__)


def run_work(
    settings: Settings,
    sink: SharedSink,
    credentials: Sequence[Credential],
    work: Work,
    *,
    display: Display,
    stopped: Stopped,
) -> Report:
    """Does the work of one run in worker processes, and reports.

    `stopped()` gives the exit code once the operator wants the run to end; pages under way
    are then finished and saved.

    **Errors**: `DatabaseError`, or `ConfigurationError`, when the run cannot be begun. Whatever
    ends a run later is in the report.
    """
    money = settings.money
    tariff = prices.load(
        money.prices_file, money.tariff, post=money.price_post, user=money.price_user
    )
    credentials = apps.recognized(credentials, settings)
    number, since = run.begin_buying(settings, sink, credentials)
    # Workers need no values of the command, and so do not load its file.
    common = replace(settings, values=None)
    job = Job(common, sink, credentials, number, since, work.parameters, tariff)
    most = min((n for n in (work.processes, work.total) if n is not None), default=None)
    size = first_processes(len(credentials)) if settings.threads is None else settings.threads
    size = max(1, min(size, most if most is not None else size))
    pool = Pool("tweetcrawler.work.worker:start_worker", job, size=size, farewell=True)
    crew = None
    if settings.threads is None:
        crew = Crew(pool, credentials, most=most, connections_left=sink.connections_left)
    report, progress = Report(number), Progress(time.monotonic(), handles=work.total)
    dispatch = Dispatch(
        pool,
        table(),
        work.units,
        report=report,
        progress=progress,
        sink=sink,
        silent_s=settings.give_up_after_s,
        crew=crew,
    )
    dispatch.run(display, stopped)
    if crew is not None and crew.bound:
        report.take(Note(crew.sentence))
    run.end(sink, report)
    return report


class Workers(Protocol):
    """A pool of workers. `pool.Pool` is one; an executor of another library can be wrapped
    as one.
    """

    @property
    def size(self) -> int: ...
    @property
    def idle(self) -> Iterable[int]: ...
    @property
    def busy(self) -> int: ...
    def give(self, worker: int, task: Any) -> None: ...
    def listen(self, timeout_s: float, take: Callable[[Event], None]) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def kill(self) -> None: ...


class Leasing(Protocol):
    """A session that can free the leases of a dead process."""

    def free(self, owner: str, targets: Sequence[int]) -> None: ...


class Leased(Protocol):
    """A store of leases."""

    def session(self, *, stopping: Callable[[], bool] = ...) -> AbstractContextManager[Leasing]: ...


class _Queue:
    """The units of one kind: those that wait, and those that their source still has."""

    def __init__(self, kind: Units, source: Iterable[Any]) -> None:
        self.kind = kind
        self.waiting: deque[Any] = deque()
        self._source = iter(source)
        self._more = True

    def __bool__(self) -> bool:
        return bool(self.waiting) or self._more

    def count_left(self) -> int:
        """The number of units that are left; uses up the source."""
        return len(self.waiting) + sum(1 for _ in self._source)

    def take(self, workers: int, alone: Callable[[Any], bool]) -> list[Any]:
        """The next chunk: a fair share of what is left, or one unit that is better done
        `alone`.
        """
        self._fill(2 * self.kind.most)
        fair = self.kind.most if self._more else len(self.waiting) // (2 * workers)
        size = max(self.kind.fewest, min(self.kind.most, fair))
        chunk: list[Any] = []
        while self.waiting and len(chunk) < size:
            unit = self.waiting.popleft()
            if alone(unit):
                if not chunk:
                    return [unit]
                self.waiting.appendleft(unit)
                break
            chunk.append(unit)
        return chunk

    def _fill(self, size: int) -> None:
        wanted = size - len(self.waiting)
        if self._more and wanted > 0:
            units = list(itertools.islice(self._source, wanted))
            self._more = len(units) == wanted
            self.waiting.extend(units)


@dataclass
class _Trials:
    """Failures of one unit in a row, how many of them were lost answers, and the number of
    answers that its kind had before the first.
    """

    answered: int
    count: int = 0
    lost: int = 0


class Dispatch:
    """Hands out work to a pool until there is none: lazily, so that a list of any length
    costs nothing.

    A worker that must wait for a window gives back the rest of its chunk, which goes to the
    front of the queue. That worker gets no more of the kind until then, while the others
    use up the permits that they hold. Without any answer from the beginning on, the run
    ends after `silent_s`.
    """

    def __init__(
        self,
        pool: Workers,
        kinds: Mapping[str, Units],
        units: Mapping[str, Iterable[Any]],
        *,
        report: RunReport,
        progress: RunProgress,
        sink: Leased,
        silent_s: float = float("inf"),
        crew: Crew | None = None,
    ) -> None:
        self._silent_s = silent_s
        self._crew = crew
        self._pool = pool
        self._kinds = kinds
        self._queues = {name: _Queue(kind, units.get(name, ())) for name, kind in kinds.items()}
        self._report = report
        self._progress = progress
        self._sink = sink
        self._later: list[tuple[float, int, str, Sequence[Any]]] = []
        # Two that wait until the same moment are told apart by their order: units cannot be
        # compared.
        self._order = itertools.count()
        self._gates: dict[tuple[int, str], float] = {}
        # By the names that their kinds give them: units change while they are done.
        self._trials: dict[str, _Trials] = {}
        # Pages that came, by the kind of work that they were for.
        self._answered: Counter[str] = Counter()
        self._failing: dict[str, set[str]] = {}
        self._doing: dict[int, str] = {}
        # Since when nobody answers; None from the first answer of the run on.
        self._silent_since: float | None = None
        self._silence = ""
        self._heard = False
        self._lost_in_a_row = 0
        self._deaths: Counter[str] = Counter()
        self._owners: dict[int, str] = {}
        self._feeding = 0
        self._ending = False

    def run(self, display: Display, stopped: Stopped, *, grace_s: float = GRACE_S) -> None:
        """Does everything, unless somebody or something ends the run before, and ends the
        pool.
        """

        def take(event: Event) -> None:
            self._take(event)
            display.update(self._progress)

        try:
            for _ in self._rounds(stopped, grace_s):
                self._progress.busy = self._pool.busy
                display.update(self._progress)
                self._pool.listen(self._patience_s(), take)
            self._conclude()
            self._pool.close()
        finally:
            self._pool.kill()

    def _rounds(self, stopped: Stopped, grace_s: float) -> Iterator[None]:
        """Hands out work, once a round, until the last of it is done or the run has ended."""
        kill_at = float("inf")
        while True:
            code = stopped()
            if code is not None and not self._ending:
                self._end(code, "stopped by the operator")
            if self._ending:
                kill_at = min(kill_at, time.monotonic() + grace_s)
                if self._pool.busy == 0 or time.monotonic() > kill_at:
                    return
            else:
                self._hand_out()
                if self._crew is not None:
                    self._crew.look(all_busy=self._is_short_of_workers())
                if self._finished():
                    return
                self._give_up_silence()
            yield

    # -- work out --------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, _, name, units = heapq.heappop(self._later)
            self._queues[name].waiting.extend(units)
        for worker in list(self._pool.idle):
            open_ = [
                queue
                for queue in self._queues.values()
                if self._gates.get((worker, queue.kind.name), 0.0) <= now and self._wants(queue)
            ]
            for queue in open_:
                if chunk := queue.take(self._pool.size, self._has_killed(queue.kind)):
                    self._feeding += queue.kind.feeds
                    self._doing[worker] = queue.kind.name
                    if self._crew is not None:
                        self._crew.begins(worker)
                    self._pool.give(worker, (queue.kind.name, chunk))
                    break

    def _is_short_of_workers(self) -> bool:
        """Whether more workers would have work; one that waits for a window says that they
        would not.
        """
        if any(True for _ in self._pool.idle):
            return False
        return any(queue.waiting and self._wants(queue) for queue in self._queues.values())

    def _wants(self, queue: _Queue) -> bool:
        if not queue.kind.feeds:
            return bool(queue)
        fed = sum(len(each.waiting) for each in self._queues.values() if not each.kind.feeds)
        return bool(queue) and fed < ENOUGH + fed // 4 and self._feeding < FEEDING_AT_ONCE

    def _has_killed(self, kind: Units) -> Callable[[Any], bool]:
        """Tells of a unit whether a process died over it: done alone, it takes no other
        with it.
        """
        return lambda unit: bool(self._deaths) and self._deaths[kind.called(unit)] > 0

    def _finished(self) -> bool:
        return not (any(self._queues.values()) or self._later or self._pool.busy)

    def _patience_s(self) -> float:
        now = time.monotonic()
        next_ones = [until - now for until in self._gates.values() if until > now]
        if self._later:
            next_ones.append(self._later[0][0] - now)
        return max(0.01, min([0.25, *next_ones]))

    # -- news in ---------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if event.kind == "news":
            self._take_news(event.worker, event.value)
            return
        name, units = event.task
        self._feeding -= self._kinds[name].feeds
        if event.kind == "died":
            self._take_death(event.worker, self._kinds[name], units)
        else:
            self._take_result(event.worker, name, event.value)

    def _take_news(self, worker: int, news: object) -> None:
        if self._crew is not None:
            self._crew.take(worker, news)
        if isinstance(news, Started):
            self._owners[worker] = news.owner
        elif isinstance(news, LogLine):
            logging.getLogger(news.logger).log(news.level, "%s", news.text)
        else:
            if isinstance(news, PageRead | Noted):
                self._take_answer(self._doing.get(worker, ""))
            elif isinstance(news, Refusal):
                self._take_refusal(news)
            self._tell(news)

    def _take_answer(self, kind: str) -> None:
        self._heard, self._silent_since = True, None
        self._lost_in_a_row = 0
        self._answered[kind] += 1
        self._failing.pop(kind, None)

    def _take_refusal(self, refusal: Refusal) -> None:
        if refusal.status is not None:
            self._heard, self._silent_since = True, None
        elif refusal.silence and not self._heard:
            self._silent_since = self._silent_since or time.monotonic()
            self._silence = refusal.silence
        self._lost_in_a_row += bool(refusal.lost)
        if self._lost_in_a_row >= LOST_IN_A_ROW and not self._ending:
            self._end(
                NothingArrives.exit_code,
                f"{LOST_IN_A_ROW} answers in a row were lost ({refusal.lost}), and X may charge "
                "for each: look at the network between this machine and X, then run again",
            )

    def _give_up_silence(self) -> None:
        """Ends a run that had no answer at all for too long."""
        if self._silent_since is None or time.monotonic() - self._silent_since < self._silent_s:
            return
        self._end(
            NothingArrives.exit_code,
            f"{self._silence}; nothing answered for {self._silent_s:.0f} s: look at apiURL and "
            "the network, then run again",
        )

    def _tell(self, news: object) -> None:
        self._report.take(news)
        self._progress.take(news)

    def _take_death(self, worker: int, kind: Units, units: Sequence[Any]) -> None:
        more = f" and {len(units) - 1} more" if len(units) > 1 else ""
        log.warning("a worker process died; %s%s: handed out again", kind.called(units[0]), more)
        self._free_leases(worker, units)
        for unit in units:
            called = kind.called(unit)
            self._deaths[called] += 1
            if self._deaths[called] > DEATHS:
                self._tell(Outcome(called, FAILED, f"its process died {DEATHS + 1} times"))
            else:
                self._queues[kind.name].waiting.append(unit)

    def _free_leases(self, worker: int, units: Sequence[Any]) -> None:
        """The dead need no lease: without this its target would wait until the lease ends
        by itself.

        A handle that was being resolved, or a search of a trend, is freed by the process
        that claims it next.
        """
        owner = self._owners.pop(worker, None)
        if owner is None:
            return
        try:
            with self._sink.session(stopping=lambda: True) as session:
                session.free(owner, [unit.id for unit in units if isinstance(unit, Target)])
        except TweetcrawlerError as error:
            log.debug("the leases of a dead process end by themselves: %s", error)

    def _take_result(self, worker: int, name: str, result: Result) -> None:
        for other, units in result.found.items():
            self._queues[other].waiting.extend(units)
        self._queues[name].waiting.extendleft(reversed(result.left))
        for later in result.later:
            self._postpone(self._kinds[name], later)
        now = time.monotonic()
        if result.wait is not None:
            until = now + result.wait.wait_s
            self._gates[worker, name] = until
            self._note_wait(result.wait.reason, now, until)
        if result.fatal is not None and not self._ending:
            self._report.budget = result.fatal.budget
            self._end(result.fatal.exit_code, result.fatal.sentence)

    def _note_wait(self, reason: str, now: float, until: float) -> None:
        """Counts time once, however many processes wait for the same thing."""
        since = max(now, self._progress.waits.get(reason, 0.0))
        if until > since:
            waited_s = self._report.waited_s
            waited_s[reason] = waited_s.get(reason, 0.0) + until - since
            self._progress.waits[reason] = until

    def _postpone(self, kind: Units, later: Later) -> None:
        units: list[Any] = []
        wait_s = later.wait_s
        for unit in later.units:
            if later.failure:
                tries = self._failed(kind, kind.called(unit), later)
                if tries is None:
                    continue
                wait_s = min(RETRY_MAX_S, later.wait_s * 2.0 ** (tries - 1))
            units.append(unit)
        if units:
            until = time.monotonic() + wait_s
            heapq.heappush(self._later, (until, next(self._order), kind.name, units))

    def _failed(self, kind: Units, called: str, later: Later) -> int | None:
        """Number of the unit's failures; None after the last try, which is reported.

        While others get answers, the trouble is this unit's own, and a few tries show it.
        """
        if later.moved or called not in self._trials:
            self._trials[called] = _Trials(self._answered[kind.name])
        trials = self._trials[called]
        trials.count += 1
        trials.lost += later.lost
        failing = self._failing.setdefault(kind.name, set())
        failing.add(called)
        # Units that failed for the first time since the last answer: then it may well be X.
        alone = all(self._answered[kind.name] > self._trials[each].answered for each in failing)
        spared = trials.lost < LOST_OF_ONE and trials.count < (TRIES_OF_ONE if alone else TRIES)
        # Of a server that never answered nothing is known: `_silent_s` ends such a run.
        if spared or (self._silent_since is not None and trials.lost < LOST_OF_ONE):
            return trials.count
        failing.discard(called)
        del self._trials[called]
        self._tell(Outcome(called, FAILED, later.failure))
        return None

    # -- the end ---------------------------------------------------------------------------------

    def _end(self, code: int, why: str) -> None:
        self._ending = True
        self._report.exit_code, self._report.ended = code, why
        self._pool.stop()

    def _conclude(self) -> None:
        report, now = self._report, time.monotonic()
        report.seconds = now - self._progress.started_at
        for reason, until in self._progress.waits.items():
            # The run ends before this wait does.
            report.waited_s[reason] -= max(0.0, until - now)
        if self._ending:
            names = {name for name, kind in self._kinds.items() if not kind.endless}
            left = sum(self._queues[name].count_left() for name in names)
            report.leave(left + sum(len(later[3]) for later in self._later if later[2] in names))
        report.conclude()
