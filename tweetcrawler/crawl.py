"""A run: its work is handed out to worker processes, and a report says what became of each
piece of it.

There is one door for each kind of work: timelines, searches, trends, counts, posts by id.
All of them run in the parent and hand out tasks, which `walk` does in the workers; which
kinds there are, and how much of each a worker gets at once, stands in `_KINDS`.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tweetcrawler import __version__, prices
from tweetcrawler.endpoints import HANDLES_A_LOOKUP
from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.pool import Event, Pool
from tweetcrawler.run import Counting, Job, Outcome, Session, Sink
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings
from tweetcrawler.targets import Place, Target

if TYPE_CHECKING:
    from tweetcrawler.csvfiles import CsvFolder
    from tweetcrawler.db import Database

TARGETS_A_CHUNK = 100
# How often one unit may fail to get an answer before it is reported as failed.
TRIES = 8
# How often work whose process died is handed out again.
DEATHS = 2
NAMED_MAX = 1_000
GRACE_S = 7.0
REPORT_S = 5.0

log = logging.getLogger(__name__)


@dataclass
class Report:
    """All outcomes of a run, and what it cost.

    `totals` are the rows of `Session.totals`; `refusals` count requests without a page by
    (credential, error). `named` are the outcomes that were not simply done, at most
    `NAMED_MAX` of them; `bad_lines` are lines of the input file that could not be used.
    `counted` are queries and the number of their posts, `notes` sentences for the operator.
    """

    run: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    named: list[Outcome] = field(default_factory=list)
    unnamed: int = 0
    bad_lines: int = 0
    totals: list[dict[str, Any]] = field(default_factory=list)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    waited_s: dict[str, float] = field(default_factory=dict)
    counted: list[tuple[str, int]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    exit_code: int = 0
    ended: str = ""

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome, and keeps its name when there is something to say of it."""
        self.outcomes[outcome.state] += 1
        if outcome.state == "ok":
            return
        if len(self.named) < NAMED_MAX:
            self.named.append(outcome)
        else:
            self.unnamed += 1

    def total(self, column: str) -> int:
        """The sum of one column of `totals`."""
        return sum(int(row[column]) for row in self.totals)

    def as_plain(self) -> dict[str, Any]:
        """The report as JSON can hold it, for the run's record."""
        return {
            "seconds": round(self.seconds, 3),
            "outcomes": dict(self.outcomes),
            "totals": [
                {k: int(v) if not isinstance(v, str) else v for k, v in row.items()}
                for row in self.totals
            ],
            "refusals": {f"{who}: {what}": n for (who, what), n in self.refusals.items()},
            "counted": [list(pair) for pair in self.counted],
            "notes": list(self.notes),
            "bad_lines": self.bad_lines,
            "ended": self.ended,
        }


@dataclass
class Progress:
    """A running crawl as a display wants to see it; counts are of this run."""

    started_at: float
    handles: int | None = None
    targets_done: int = 0
    requests: int = 0
    posts: int = 0
    new: int = 0
    waits: dict[str, float] = field(default_factory=dict)  # reason -> until, on the monotonic clock
    by_credential: Counter[str] = field(default_factory=Counter)
    busy: int = 0


class Display(Protocol):
    """Shows a running crawl; called at least twice a second."""

    def update(self, progress: Progress) -> None: ...


Work = Mapping[str, Iterable[Any]]


def crawl(
    settings: Settings,
    sink: Database | CsvFolder,
    credentials: Sequence[Credential],
    handles: Iterator[str],
    *,
    display: Display,
    stopped: Callable[[], int | None],
    handle_count: int | None = None,
) -> Report:
    """Walks the timelines of all handles to their ends, and reports.

    `handles` is read as fast as the work needs it. `stopped()` gives the exit code once the
    operator wants the run to end; pages under way are then finished and saved.

    **Errors**: `DatabaseError` when the run cannot be begun. What ends a run later stands in the report.
    """
    run = _Run(settings, sink, credentials, display, stopped)
    return run.do(lambda _: {"resolve": handles}, total=handle_count)


def search(
    settings: Settings,
    sink: Database | CsvFolder,
    credentials: Sequence[Credential],
    queries: Sequence[str],
    *,
    display: Display,
    stopped: Callable[[], int | None],
) -> Report:
    """Collects the posts of normalised queries, and reports. For the rest see `crawl`."""
    run = _Run(settings, sink, credentials, display, stopped)
    return run.do(
        lambda session: {"crawl": session.open_searches(queries)},
        total=len(queries),
        units=len(queries),
    )


def count(
    settings: Settings,
    sink: Database | CsvFolder,
    credentials: Sequence[Credential],
    queries: Sequence[str],
    *,
    display: Display,
    stopped: Callable[[], int | None],
) -> Report:
    """Asks how many posts the queries have, and buys none; `Report.counted` tells. For the
    rest see `crawl`.
    """
    run = _Run(settings, sink, credentials, display, stopped)
    return run.do(
        lambda _: {"count": [Counting(query) for query in queries]},
        total=len(queries),
        units=len(queries),
    )


def collect_trends(
    settings: Settings,
    sink: Database,
    credentials: Sequence[Credential],
    places: Sequence[Place],
    *,
    display: Display,
    stopped: Callable[[], int | None],
) -> Report:
    """Stores the trends of places, and collects the posts of each trend. For the rest see
    `crawl`.
    """
    run = _Run(settings, sink, credentials, display, stopped)
    return run.do(lambda _: {"trends": places}, cap=settings.trending.max_per_trend)


def look_up(
    settings: Settings,
    sink: Database,
    credentials: Sequence[Credential],
    blocks: Iterator[tuple[int, ...]],
    *,
    display: Display,
    stopped: Callable[[], int | None],
) -> Report:
    """Buys the posts of ids, given in blocks of at most 100. For the rest see `crawl`."""
    run = _Run(settings, sink, credentials, display, stopped)
    return run.do(lambda _: {"look_up": blocks})


def find_users(
    settings: Settings,
    sink: Database,
    credentials: Sequence[Credential],
    handles: Iterator[str],
    *,
    display: Display,
    stopped: Callable[[], int | None],
) -> Report:
    """Buys the users of those handles that are not known, and walks nothing. For the rest
    see `crawl`.
    """
    run = _Run(settings, sink, credentials, display, stopped)
    return run.do(lambda _: {"resolve": handles}, walks=False)


def ask_usage(
    settings: Settings,
    sink: Database,
    credentials: Sequence[Credential],
    *,
    display: Display,
    stopped: Callable[[], int | None],
) -> Report:
    """Stores what X itself has counted of each app's project; free. For the rest see `crawl`."""
    apps = {keys.app_fingerprint: number for number, keys in enumerate(credentials) if keys.has_app}
    run = _Run(settings, sink, credentials, display, stopped)
    return run.do(lambda _: {"usage": list(apps.values())}, total=len(apps), units=len(apps))


def default_processes(credentials: int) -> int:
    """As many processes as can use the credentials up, by X's usual limits, and as this
    machine carries.

    A user token allows about one request a second on timelines and an app ten; a request
    takes about a third of a second. Two processes a core are enough to keep it busy while
    they wait for X.
    """
    return max(1, min(4 * credentials, 2 * (os.cpu_count() or 1)))


@dataclass(frozen=True)
class _Run:
    """One run from its record's first line to its last."""

    settings: Settings
    sink: Database | CsvFolder
    credentials: Sequence[Credential]
    display: Display
    stopped: Callable[[], int | None]

    def do(
        self,
        work_of: Callable[[Session], Work],
        *,
        total: int | None = None,
        units: int | None = None,
        cap: int | None = None,
        walks: bool = True,
    ) -> Report:
        """The report of the run; `units` is how many processes could have something to do
        at most.
        """
        money = self.settings.money
        tariff = prices.load(
            money.prices_file, money.tariff, post=money.price_post, user=money.price_user
        )
        with self.sink.session() as session:
            run, since = session.begin_run(
                version=__version__,
                arguments=self.settings.arguments_without_secrets(),
                host=socket.gethostname(),
                credentials=self.credentials,
            )
            work = work_of(session)
        job = Job(self.settings, self.sink, self.credentials, run, since, cap, tariff)
        size = self.settings.threads or default_processes(len(self.credentials))
        size = min(size, units or size)
        pool = Pool("tweetcrawler.walk:start_worker", job, size=size, farewell=True)
        dispatch = _Dispatch(
            pool, self.sink, work, Report(run=run), Progress(time.monotonic(), total), walks=walks
        )
        try:
            dispatch.run(self.display, self.stopped)
            pool.close()
        finally:
            pool.kill()
        return self._closed(dispatch.report)

    def _closed(self, report: Report) -> Report:
        # Everything is saved; a database that is just restarting gets a moment to take the
        # report, too.
        gives_up_at = time.monotonic() + REPORT_S
        try:
            with self.sink.session(stopping=lambda: time.monotonic() > gives_up_at) as session:
                report.totals = session.totals(report.run)
                session.end_run(report.run, exit_code=report.exit_code, report=report.as_plain())
        except TweetcrawlerError as error:
            log.warning("the run's report could not be stored: %s", error)
            report.exit_code = report.exit_code or error.exit_code
        return report


@dataclass(frozen=True)
class _Kind:
    """One kind of task: how many units a worker gets at once, how few near the end, how one
    is called.

    A kind that `feeds` finds targets for the others: it goes first, but only while targets
    are short.
    """

    most: int
    fewest: int
    feeds: bool
    name: Callable[[Any], str]


_KINDS = {
    "resolve": _Kind(HANDLES_A_LOOKUP, HANDLES_A_LOOKUP, True, lambda handle: f"@{handle}"),
    "trends": _Kind(1, 1, True, lambda place: f"trends of {place.name}"),
    "crawl": _Kind(TARGETS_A_CHUNK, 1, False, lambda target: str(target.name)),
    "look_up": _Kind(10, 1, False, lambda ids: f"{len(ids)} ids from {ids[0]} on"),
    "count": _Kind(1, 1, False, lambda counting: str(counting.query)),
    "usage": _Kind(1, 1, False, lambda number: f"X's count for credential {number + 1}"),
}
_FEEDING_AT_ONCE = 2


class _Queue:
    """The units of one kind: those that wait, and those that their source still has."""

    def __init__(self, kind: _Kind, source: Iterable[Any]) -> None:
        self.kind = kind
        self.waiting: deque[Any] = deque()
        self._source = iter(source)
        self._more = True

    def __bool__(self) -> bool:
        return bool(self.waiting) or self._more

    def count_left(self) -> int:
        """How many units are left; uses up the source."""
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


class _Dispatch:
    """Hands out work to the pool until there is none: lazily, so that a list of any length
    costs nothing.

    A worker that must wait for a window gives back the rest of its chunk, which goes to the
    front of the queue; that worker gets no more of the kind until then, while the others
    use up what they hold.
    """

    def __init__(
        self, pool: Pool, sink: Sink, work: Work, report: Report, progress: Progress, *, walks: bool
    ) -> None:
        self.report = report
        self._walks = walks
        self._pool = pool
        self._sink = sink
        self._progress = progress
        self._queues = {name: _Queue(kind, work.get(name, ())) for name, kind in _KINDS.items()}
        self._later: list[tuple[float, int, str, list[Any]]] = []
        self._order = itertools.count()
        self._gates: dict[tuple[int, str], float] = {}
        self._tries: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._owners: dict[int, str] = {}
        self._feeding = 0
        self._ending = False

    def run(self, display: Display, stopped: Callable[[], int | None]) -> None:
        """Until everything is done, or somebody or something ends the run."""
        kill_at: float | None = None
        while True:
            code = stopped()
            if code is not None and not self._ending:
                self._end(code, "stopped by the operator")
            if self._ending and kill_at is None:
                kill_at = time.monotonic() + GRACE_S
            if not self._ending:
                self._hand_out()
                if self._finished():
                    break
            elif self._pool.busy == 0 or (kill_at is not None and time.monotonic() > kill_at):
                break
            for event in self._pool.events(self._patience_s()):
                self._take(event)
            self._progress.busy = self._pool.busy
            display.update(self._progress)
        self._conclude()

    def _hand_out(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, _, name, units = heapq.heappop(self._later)
            self._queues[name].waiting.extend(units)
        for worker in list(self._pool.idle):
            for name, queue in self._queues.items():
                if self._gates.get((worker, name), 0.0) > now or not self._wants(queue):
                    continue
                if chunk := queue.take(self._pool.size, partial(self._has_killed, name)):
                    self._feeding += queue.kind.feeds
                    self._pool.give(worker, (name, chunk))
                    break

    def _wants(self, queue: _Queue) -> bool:
        if not queue.kind.feeds:
            return bool(queue)
        targets = len(self._queues["crawl"].waiting)
        enough = 2 * TARGETS_A_CHUNK + targets // 4
        return bool(queue) and targets < enough and self._feeding < _FEEDING_AT_ONCE

    def _has_killed(self, name: str, unit: Any) -> bool:
        """Whether a process died over this unit: done alone, it takes no other with it."""
        return bool(self._deaths) and self._deaths[_KINDS[name].name(unit)] > 0

    def _finished(self) -> bool:
        return not (any(self._queues.values()) or self._later or self._pool.busy)

    def _patience_s(self) -> float:
        now = time.monotonic()
        next_ones = [until - now for until in self._gates.values() if until > now]
        if self._later:
            next_ones.append(self._later[0][0] - now)
        return max(0.01, min([0.25, *next_ones]))

    def _take(self, event: Event) -> None:
        if event.kind == "news":
            self._take_news(event.worker, event.value)
        elif event.kind == "died":
            self._take_death(event.worker, event.value)
        else:
            self._take_result(event.worker, event.value)

    def _take_news(self, worker: int, news: tuple[Any, ...]) -> None:
        what, *rest = news
        if what == "owner":
            [self._owners[worker]] = rest
        elif what == "page":
            self._count_page(*rest)
        elif what == "outcome":
            self._settle(Outcome(*rest))
        elif what == "noted":
            for credential, outcome in rest[0]:
                self._count_page(credential, 0, 0)
                self._settle(Outcome(*outcome))
        elif what == "looked up":
            self._settle_posts(*rest)
        elif what == "counted":
            self.report.counted.append((rest[0], rest[1]))
        elif what == "note":
            self.report.notes[rest[0]] = None
        elif what == "log":
            name, level, text = rest
            logging.getLogger(name).log(level, "%s", text)
        elif what == "refusal":
            credential, kind, sentence = rest
            self._progress.requests += 1
            self.report.refusals[credential, kind] += 1
            if self.report.refusals[credential, kind] <= 3 or kind not in (
                "XUnavailable",
                "WindowClosed",
            ):
                log.warning("%s", sentence)

    def _count_page(self, credential: str, posts: int, new: int) -> None:
        self._progress.requests += 1
        self._progress.by_credential[credential] += 1
        self._progress.posts += posts
        self._progress.new += new

    def _take_death(self, worker: int, task: tuple[str, list[Any]]) -> None:
        name, units = task
        log.warning(
            "a worker process died; what it held, %d units of work, is handed out again", len(units)
        )
        self._free_leases(worker, units)
        kind = _KINDS[name]
        self._feeding -= kind.feeds
        for unit in units:
            called = kind.name(unit)
            self._deaths[called] += 1
            if self._deaths[called] > DEATHS:
                self._settle(Outcome(called, "failed", f"its process died {DEATHS + 1} times"))
            else:
                self._queues[name].waiting.append(unit)

    def _free_leases(self, worker: int, units: Sequence[Any]) -> None:
        """The dead need no lease: without this its target would wait until the lease ends
        by itself.

        A handle that was being resolved, or a search of a trend, is freed by whoever claims
        it next.
        """
        owner = self._owners.pop(worker, None)
        if owner is None:
            return
        try:
            with self._sink.session(stopping=lambda: True) as session:
                session.free(owner, [unit.id for unit in units if isinstance(unit, Target)])
        except TweetcrawlerError as error:
            log.debug("the leases of a dead process end by themselves: %s", error)

    def _take_result(self, worker: int, result: dict[str, Any]) -> None:
        name = result["kind"]
        self._feeding -= _KINDS[name].feeds
        if self._walks:
            self._queues["crawl"].waiting.extend(result["targets"])
        else:
            for target in result["targets"]:
                self._settle(Outcome(target.name, "ok"))
        self._queues[name].waiting.extendleft(reversed(result["left"]))
        now = time.monotonic()
        for units, wait_s, failed in result["later"]:
            self._postpone(name, units, now + wait_s, failed)
        if result["wait"] is not None:
            wait_s, reason = result["wait"]
            self._gates[worker, name] = now + wait_s
            self._note_wait(reason, now, now + wait_s)
        if result["fatal"] is not None and not self._ending:
            sentence, code = result["fatal"]
            self._end(code, sentence)

    def _note_wait(self, reason: str, now: float, until: float) -> None:
        """Counts time once, however many processes wait for the same thing."""
        since = max(now, self._progress.waits.get(reason, 0.0))
        if until > since:
            self.report.waited_s[reason] = self.report.waited_s.get(reason, 0.0) + until - since
            self._progress.waits[reason] = until

    def _postpone(self, name: str, units: list[Any], until: float, failed: str) -> None:
        if failed:
            called = [_KINDS[name].name(unit) for unit in units]
            self._tries[called[0]] += 1
            if self._tries[called[0]] >= TRIES:
                del self._tries[called[0]]
                for one in called:
                    self._settle(Outcome(one, "failed", failed))
                return
        heapq.heappush(self._later, (until, next(self._order), name, units))

    def _settle(self, outcome: Outcome) -> None:
        self.report.add(outcome)
        self._progress.targets_done += 1
        if outcome.state != "ok":
            log.info(
                "%s: %s%s",
                outcome.name,
                outcome.state,
                f" ({outcome.reason})" if outcome.reason else "",
            )

    def _settle_posts(self, state: str, count: int, gone: Sequence[tuple[str, str]]) -> None:
        """Posts that were looked up: so many stored or known, and those that X does not
        give any more.
        """
        if count:
            self.report.outcomes[state] += count
        for name, reason in gone:
            self.report.add(Outcome(name, "gone", reason))
        self._progress.targets_done += count + len(gone)

    def _end(self, code: int, why: str) -> None:
        self._ending = True
        self.report.exit_code, self.report.ended = code, why
        self._pool.stop()

    def _conclude(self) -> None:
        report = self.report
        now = time.monotonic()
        report.seconds = now - self._progress.started_at
        for reason, until in self._progress.waits.items():
            report.waited_s[reason] -= max(
                0.0, until - now
            )  # what was foreseen and not waited any more
        if self._ending:
            # Ids come in blocks, and from a pipe that may never end.
            names = [name for name in self._queues if name != "look_up"]
            left = sum(self._queues[name].count_left() for name in names)
            left += sum(len(units) for _, _, name, units in self._later if name in names)
            if left:
                report.outcomes["not reached"] += left
        if not report.exit_code and any(not Outcome("", state).done for state in report.outcomes):
            report.exit_code = 1
