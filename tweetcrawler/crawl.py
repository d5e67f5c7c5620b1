"""The crawl: handles become targets, targets are walked page by page, and a report says what became of each.

`crawl` runs in the parent and hands out work; `resolve_chunk` and `crawl_chunk` run in worker processes;
`crawl_target` walks one timeline over a database connection of its own. Whatever is interrupted goes on with
the holes of the coverage; nothing else is remembered.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tweetcrawler import __version__, coverage
from tweetcrawler.batch import Absent, Batch, Bought, Claim, Found, Saved, Target
from tweetcrawler.coverage import Walk
from tweetcrawler.errors import (
    CredentialRefused,
    LeaseLost,
    MustWait,
    RequestRefused,
    TargetRefused,
    TweetcrawlerError,
    XError,
    XUnavailable,
)
from tweetcrawler.flatten import flatten
from tweetcrawler.identity import new_owner
from tweetcrawler.permits import Ledger
from tweetcrawler.pool import Event, Pool
from tweetcrawler.secret import Credential
from tweetcrawler.sentiment import scorer
from tweetcrawler.settings import Settings
from tweetcrawler.windows import Rate
from tweetcrawler.xapi import USER_TWEETS, USERS_BY, Page, Timeouts, X, state_of

if TYPE_CHECKING:
    from tweetcrawler.csvfiles import CsvFolder
    from tweetcrawler.db import Database

HANDLES_A_LOOKUP = 100
TARGETS_A_CHUNK = 25
# The lease is looked at before every request: one that would end during it is renewed first.
LEASE_S = 60.0
# How often one target may fail to get an answer before it is reported as failed.
TRIES = 8
# How often work whose process died is handed out again.
DEATHS = 2
# How long a target that another process holds is left alone.
BUSY_S = 2.0
NAMED_MAX = 1_000
GRACE_S = 8.0

log = logging.getLogger(__name__)


class Session(Protocol):
    """What the crawl wants of a place to store things; `db.Session` says what each method does."""

    def begin_run(
        self, *, version: str, arguments: Mapping[str, Any], host: str, credentials: Sequence[Any]
    ) -> tuple[int, float]: ...
    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None: ...
    def totals(self, run: int) -> list[dict[str, Any]]: ...
    def targets(self, handles: Sequence[str]) -> dict[str, Target]: ...
    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]: ...
    def remember(
        self, run: int, bought: Bought, found: Sequence[Found], absent: Sequence[Absent], *, rest_s: float
    ) -> None: ...
    def claim(self, target: int, owner: str, since: float) -> Claim | None: ...
    def posts_above(self, target: int, tweet_id: int) -> int: ...
    def save(self, run: int, owner: str, batch: Batch, *, keep_body: bool = True) -> Saved: ...
    def finish(
        self, target: int, owner: str, *, state: str, reason: str, crawled: bool, rest_s: float = 0.0
    ) -> None: ...
    def release(self, owner: str) -> None: ...
    def change_buckets(self, keys: Any, change: Any) -> Any: ...


class Sink(Protocol):
    """Where rows go: PostgreSQL or a folder of CSV files."""

    def session(self, *, stopping: Callable[[], bool] = ...) -> AbstractContextManager[Session]: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one handle: its state ("ok", "renamed", "missing", …) and the reason of it."""

    handle: str
    state: str
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether everything that X gives of this handle is stored."""
        return self.state in ("ok", "renamed")


@dataclass
class Report:
    """All outcomes of a run, and what it cost.

    `totals` are the rows of `Session.totals`; `refusals` count requests without a page by (credential, error).
    `named` are the outcomes that were not simply done, at most `NAMED_MAX` of them; `bad_lines` are lines of
    the handles file that hold no handle.
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
                {k: int(v) if not isinstance(v, str) else v for k, v in row.items()} for row in self.totals
            ],
            "refusals": {f"{who}: {what}": n for (who, what), n in self.refusals.items()},
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


@dataclass(frozen=True)
class Job:
    """What every process of a run needs to know; goes to a worker through the pipe that starts it."""

    settings: Settings
    sink: Database | CsvFolder
    credentials: Sequence[Credential]
    run: int
    since: float


# -- in the parent ---------------------------------------------------------------------------------------


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

    `handles` is read as fast as the work needs it. `stopped()` gives the exit code once the operator wants the
    run to end; pages under way are then finished and saved.

    **Errors**: `DatabaseError` when the run cannot be begun. What ends a run later stands in the report.
    """
    size = settings.threads or default_processes(len(credentials))
    with sink.session() as session:
        run, since = session.begin_run(
            version=__version__,
            arguments=settings.arguments_without_secrets(),
            host=socket.gethostname(),
            credentials=credentials,
        )
    pool = Pool(
        start_worker, Job(settings, sink, credentials, run, since), size=size, preload="tweetcrawler.crawl"
    )
    dispatch = _Dispatch(pool, sink, handles, Report(run=run), Progress(time.monotonic(), handle_count))
    try:
        dispatch.run(display, stopped)
        pool.close()
    finally:
        pool.kill()
    return _closed_report(sink, dispatch.report)


def default_processes(credentials: int) -> int:
    """As many processes as can use the credentials up, by X's usual limits, and as this machine carries.

    A user token allows about one request a second on timelines and an app ten; a request takes about a third
    of a second. Two processes a core are enough to keep it busy while they wait for X.
    """
    return max(1, min(4 * credentials, 2 * (os.cpu_count() or 1)))


def _closed_report(sink: Database | CsvFolder, report: Report) -> Report:
    try:
        with sink.session(stopping=lambda: True) as session:
            report.totals = session.totals(report.run)
            session.end_run(report.run, exit_code=report.exit_code, report=report.as_plain())
    except TweetcrawlerError as error:
        log.warning("the run's report could not be stored: %s", error)
        report.exit_code = report.exit_code or error.exit_code
    return report


class _Dispatch:
    """Hands out work to the pool until there is none: lazily, so that a list of any length costs nothing.

    A worker that must wait for a window gives back the rest of its chunk, which goes to the front of the
    queue; that worker gets no more of the kind until then, while the others use up what they hold.
    """

    def __init__(
        self, pool: Pool, sink: Sink, handles: Iterator[str], report: Report, progress: Progress
    ) -> None:
        self.report = report
        self._pool = pool
        self._sink = sink
        self._handles = handles
        self._handles_left = True
        self._progress = progress
        self._names: deque[list[str]] = deque()
        self._targets: deque[Target] = deque()
        self._later: list[tuple[float, int, str, Any]] = []
        self._order = itertools.count()
        self._gates: dict[tuple[int, str], float] = {}
        self._tries: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._owners: dict[int, str] = {}
        self._resolving = 0
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
            _, _, kind, item = heapq.heappop(self._later)
            if kind == "resolve":
                self._names.append(item)
            else:
                self._targets.append(item)
        for worker in list(self._pool.idle):
            if self._wants_names(worker, now) and (names := self._next_names()):
                self._resolving += 1
                self._pool.give(worker, ("resolve", names))
            elif self._targets and self._open(worker, "crawl", now):
                self._pool.give(worker, ("crawl", self._next_targets()))

    def _wants_names(self, worker: int, now: float) -> bool:
        enough = 2 * TARGETS_A_CHUNK + len(self._targets) // 4
        return len(self._targets) < enough and self._resolving < 2 and self._open(worker, "resolve", now)

    def _open(self, worker: int, kind: str, now: float) -> bool:
        return self._gates.get((worker, kind), 0.0) <= now

    def _next_names(self) -> list[str]:
        if self._names:
            return self._names.popleft()
        names = list(itertools.islice(self._handles, HANDLES_A_LOOKUP)) if self._handles_left else []
        self._handles_left = len(names) == HANDLES_A_LOOKUP
        return names

    def _next_targets(self) -> list[Target]:
        workers = len(self._pool.pids)
        fair = len(self._targets) // (2 * workers) if not self._handles_left else TARGETS_A_CHUNK
        count = max(1, min(TARGETS_A_CHUNK, fair))
        chunk: list[Target] = []
        while self._targets and len(chunk) < count:
            target = self._targets.popleft()
            if self._deaths[target.handle]:
                # Its process died once: alone, it takes nobody with it if it happens again.
                if chunk:
                    self._targets.appendleft(target)
                    break
                return [target]
            chunk.append(target)
        return chunk

    def _finished(self) -> bool:
        return not (self._handles_left or self._names or self._targets or self._later or self._pool.busy)

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
            credential, posts, new = rest
            self._progress.requests += 1
            self._progress.by_credential[credential] += 1
            self._progress.posts += posts
            self._progress.new += new
        elif what == "outcome":
            self._settle(Outcome(*rest))
        elif what == "log":
            name, level, text = rest
            logging.getLogger(name).log(level, "%s", text)
        elif what == "refusal":
            credential, kind, sentence = rest
            self._progress.requests += 1
            self.report.refusals[credential, kind] += 1
            if self.report.refusals[credential, kind] <= 3 or kind not in ("XUnavailable", "WindowClosed"):
                log.warning("%s", sentence)

    def _take_death(self, worker: int, task: tuple[str, list[Any]]) -> None:
        kind, items = task
        log.warning("a worker process died; its %d targets are handed out again", len(items))
        self._free_leases(worker)
        if kind == "resolve":
            self._resolving -= 1
        for item in items:
            handle = item if kind == "resolve" else item.handle
            self._deaths[handle] += 1
            if self._deaths[handle] > DEATHS:
                self._settle(Outcome(handle, "failed", f"its process died {DEATHS + 1} times"))
            elif kind == "resolve":
                self._names.append([item])
            else:
                self._targets.append(item)

    def _free_leases(self, worker: int) -> None:
        """The dead need no lease: without this its target would wait until the lease ends by itself."""
        owner = self._owners.pop(worker, None)
        if owner is None:
            return
        try:
            with self._sink.session(stopping=lambda: True) as session:
                session.release(owner)
        except TweetcrawlerError as error:
            log.debug("the leases of a dead process end by themselves: %s", error)

    def _take_result(self, worker: int, result: dict[str, Any]) -> None:
        kind = result["kind"]
        if kind == "resolve":
            self._resolving -= 1
            self._targets.extend(result["targets"])
            if result["left"]:
                self._names.appendleft(result["left"])
        else:
            self._targets.extendleft(reversed(result["left"]))
        now = time.monotonic()
        for item, wait_s, failed in result["later"]:
            self._postpone(kind, item, now + wait_s, failed)
        if result["wait"] is not None:
            wait_s, reason = result["wait"]
            self._gates[worker, kind] = now + wait_s
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

    def _postpone(self, kind: str, item: Any, until: float, failed: str) -> None:
        handles = item if kind == "resolve" else [item.handle]
        if failed:
            self._tries[handles[0]] += 1
            if self._tries[handles[0]] >= TRIES:
                del self._tries[handles[0]]
                for handle in handles:
                    self._settle(Outcome(handle, "failed", failed))
                return
        heapq.heappush(self._later, (until, next(self._order), kind, item))

    def _settle(self, outcome: Outcome) -> None:
        self.report.add(outcome)
        self._progress.targets_done += 1
        if outcome.state != "ok":
            log.info(
                "@%s: %s%s", outcome.handle, outcome.state, f" ({outcome.reason})" if outcome.reason else ""
            )

    def _end(self, code: int, why: str) -> None:
        self._ending = True
        self.report.exit_code, self.report.ended = code, why
        self._pool.stop()

    def _conclude(self) -> None:
        report = self.report
        report.seconds = time.monotonic() - self._progress.started_at
        if not report.exit_code and any(not Outcome("", state).done for state in report.outcomes):
            report.exit_code = 1


# -- in a worker -----------------------------------------------------------------------------------------


def start_worker(
    number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
) -> Callable[[tuple[str, list[Any]]], dict[str, Any]]:
    """Makes the handler of tasks of one worker process; see `pool.Pool`."""
    _log_to_parent(tell, job.settings.log_level)
    worker = _Worker(number, stopping, tell, job)

    def handle(task: tuple[str, list[Any]]) -> dict[str, Any]:
        kind, items = task
        return worker.resolve_chunk(items) if kind == "resolve" else worker.crawl_chunk(items)

    return handle


class _ToParent(logging.Handler):
    """Log lines of a worker: the parent writes them, so that they do not run into its display."""

    def __init__(self, tell: Callable[[Any], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(("log", record.name, record.levelno, record.getMessage()))


def _log_to_parent(tell: Callable[[Any], None], level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_ToParent(tell)]
    root.setLevel(level.upper())
    for noisy in ("tweepy", "urllib3", "requests_oauthlib", "oauthlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # at DEBUG tweepy prints the token


class _Worker:
    """One process: its clients of X, its permits, its walks."""

    def __init__(
        self, number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
    ) -> None:
        self._job = job
        self._stopping = stopping
        self._tell = tell
        self._owner = new_owner(job.run)
        tell(("owner", self._owner))
        self._ledger = Ledger(job.credentials, own=number, since=job.since)
        self._clients: dict[int, X] = {}
        self._score = scorer() if job.settings.sentiment else None

    def resolve_chunk(self, handles: list[str]) -> dict[str, Any]:
        """Turns up to 100 handles into targets: from the store, and by one request for those unknown."""
        result = _result("resolve")
        result["left"] = handles
        try:
            with self._job.sink.session(stopping=self._stopping) as session:
                self._resolve(session, handles, result)
            result["left"] = []
        except MustWait as wait:
            result["wait"] = (wait.wait_s, wait.reason)
        except XUnavailable as error:
            result["left"] = []
            result["later"].append((handles, 1.0, str(error)))
        except TweetcrawlerError as error:
            result["fatal"] = (str(error), error.exit_code)
        return result

    def crawl_chunk(self, targets: list[Target]) -> dict[str, Any]:
        """Walks the targets one after the other; what cannot be done now is left or for later."""
        result = _result("crawl")
        for position, target in enumerate(targets):
            if self._stopping():
                result["left"] = targets[position:]
                break
            try:
                self._tell(("outcome", *_plain(self.crawl_target(target))))
            except LeaseLost:
                result["later"].append((target, BUSY_S, ""))
            except XUnavailable as error:
                result["later"].append((target, 1.0, str(error)))
            except MustWait as wait:
                result["left"] = targets[position:]
                result["wait"] = (wait.wait_s, wait.reason)
                break
            except _Stopping:
                result["left"] = targets[position:]
                break
            except TweetcrawlerError as error:
                result["left"] = targets[position:]
                result["fatal"] = (str(error), error.exit_code)
                break
        return result

    def crawl_target(self, target: Target) -> Outcome:
        """Walks the holes of one target, newest first, over a connection of its own.

        **Errors**: `LeaseLost` when another process walks it; `MustWait` when every window is closed;
        `XUnavailable` when X gives no answer; all leave what was saved, and the lease free.
        """
        with self._job.sink.session(stopping=self._stopping) as session:
            try:
                return self._crawl_target(session, target)
            except TweetcrawlerError:
                session.release(self._owner)
                raise

    def _resolve(self, session: Session, handles: list[str], result: dict[str, Any]) -> None:
        known = session.targets(handles)
        unknown = []
        for handle in handles:
            target = known.get(handle)
            if target is None or (target.key is None and target.rests_s <= 0):
                unknown.append(handle)
            elif target.rests_s > 0:
                self._tell(("outcome", handle, target.state, _resting(target)))
            else:
                result["targets"].append(target)
        if not unknown:
            return
        mine = session.claim_handles(unknown, self._owner)
        others = [handle for handle in unknown if handle not in mine]
        if others:
            result["later"].append((others, BUSY_S, ""))
        if not mine:
            return
        names = [handle for handle in unknown if handle in mine]
        try:
            page, credential = self._fetch(
                session, USERS_BY, lambda x, user_auth: x.users_by(names, user_auth=user_auth)
            )
        except TweetcrawlerError:
            session.release(self._owner)
            raise
        found, absent = _resolved(page, names)
        bought = Bought(page.endpoint, page.params, credential, page.body, users=len(page.data))
        session.remember(
            self._job.run, bought, found, absent, rest_s=self._job.settings.recheck_days * 86_400.0
        )
        self._tell(("page", credential, 0, 0))
        for one in absent:
            self._tell(("outcome", one.handle, one.state, one.reason))
        resolved = session.targets([one.handle for one in found])
        result["targets"].extend(resolved[one.handle] for one in found if one.handle in resolved)

    def _crawl_target(self, session: Session, target: Target) -> Outcome:
        rest_s = self._job.settings.recheck_days * 86_400.0
        try:
            username, stalled = self._walk_all(session, target)
        except TargetRefused as refusal:
            state, reason = refusal.state, refusal.reason
            session.finish(target.id, self._owner, state=state, reason=reason, crawled=False, rest_s=rest_s)
            return Outcome(target.handle, state, reason)
        except RequestRefused as error:
            session.finish(target.id, self._owner, state="failed", reason=str(error), crawled=False)
            return Outcome(target.handle, "failed", str(error))
        state, reason = "ok", ""
        if stalled:
            state, reason = "failed", "X repeats empty pages; the holes stay open for the next run"
        elif username is not None and username.lower() != target.handle:
            state, reason = "renamed", f"now @{username}, followed by its id"
        session.finish(target.id, self._owner, state=state, reason=reason, crawled=not stalled)
        return Outcome(target.handle, state, reason)

    def _walk_all(self, session: Session, target: Target) -> tuple[str | None, bool]:
        """Walks all holes; gives the account's name as X spells it now, and whether X stalled."""
        lease = _Lease(session, target, self._owner, self._job.since)
        claim = lease.take()
        username, stalled = target.username, False
        if claim.crawled:
            return username, False
        account_posts = claim.account_posts
        for hole in coverage.holes(claim.covered, claim.unreachable):
            above = session.posts_above(target.id, hole.until_id) if hole.until_id is not None else 0
            walk = Walk(hole, above, account_posts)
            while walk.ask is not None:
                if self._stopping():
                    raise _Stopping
                lease.hold()
                page, credential = self._ask(session, target, walk)
                batch = self._batch(target, walk, page, credential)
                saved = session.save(self._job.run, self._owner, batch, keep_body=self._job.settings.raw)
                lease.renewed(saved)
                self._tell(("page", credential, batch.bought.posts, saved.new))
                username = batch.username or username
                if batch.account_posts is not None:
                    walk.account_posts = account_posts = batch.account_posts
            stalled = stalled or walk.stalled
        return username, stalled

    def _ask(self, session: Session, target: Target, walk: Walk) -> tuple[Page, str]:
        while True:
            ask = walk.ask
            assert ask is not None  # noqa: S101 - the caller looked
            try:
                return self._fetch(
                    session,
                    USER_TWEETS,
                    lambda x, user_auth: x.user_tweets(
                        target.key or "",
                        since_id=ask.since_id or None,  # noqa: B023 - called before the next turn
                        until_id=ask.until_id,  # noqa: B023
                        token=ask.token,  # noqa: B023
                        user_auth=user_auth,
                    ),
                )
            except RequestRefused:
                if not walk.forget_token():
                    raise

    def _batch(self, target: Target, walk: Walk, page: Page, credential: str) -> Batch:
        flattened = flatten(page.answer, score=self._score)
        ids = [row["id"] for row in flattened.rows]
        ids += [int(r.tweet_id) for r in flattened.refused if r.tweet_id and _is_id(r.tweet_id)]
        learned = walk.learn(
            ids, page.next_token, settled_below_id=coverage.settled_below(page.server_time_s)
        )
        username, account_posts = _news_of_user(page, target.key)
        return Batch(
            target=target.id,
            bought=Bought(page.endpoint, page.params, credential, page.body, posts=len(page.data)),
            rows=flattened.rows,
            refused=[(r.tweet_id, r.reason) for r in flattened.refused],
            covered=learned.covered,
            unreachable=learned.unreachable,
            unreachable_reason=learned.reason,
            username=username,
            account_posts=account_posts,
        )

    def _fetch(self, session: Session, endpoint: str, ask: Callable[[X, bool], Page]) -> tuple[Page, str]:
        """One page, with whichever credential has a permit; gives it with the credential's name."""
        while True:
            permit = self._ledger.reserve(session, endpoint)
            name = self._job.credentials[permit.credential].name
            client = self._client(permit.credential)
            try:
                page = _confirmed(lambda: ask(client, permit.kind == "user"))  # noqa: B023 - called at once
            except TargetRefused as refusal:
                self._ledger.settle(session, permit, refusal.rate if isinstance(refusal.rate, Rate) else None)
                self._tell(("page", name, 0, 0))
                raise
            except RequestRefused as error:
                if isinstance(error.rate, Rate):
                    self._ledger.settle(session, permit, error.rate)
                self._tell_refusal(name, error, str(error))
                raise
            except XError as error:
                self._tell_refusal(name, error, self._ledger.refused(session, permit, error))
                if isinstance(error, XUnavailable):
                    raise
                continue
            self._ledger.settle(session, permit, page.rate)
            return page, name

    def _client(self, number: int) -> X:
        if number not in self._clients:
            s = self._job.settings
            self._clients[number] = X(
                self._job.credentials[number],
                api_url=s.api_url,
                timeouts=Timeouts(s.connect_timeout_s, s.read_timeout_s, s.total_timeout_s),
            )
        return self._clients[number]

    def _tell_refusal(self, name: str, error: XError, sentence: str) -> None:
        self._tell(("refusal", name, type(error).__name__, sentence))


class _Stopping(TweetcrawlerError):
    """The run ends; what is not walked is left."""


class _Lease:
    """The lease of one target, looked at before every request."""

    def __init__(self, session: Session, target: Target, owner: str, since: float) -> None:
        self._session = session
        self._target = target
        self._owner = owner
        self._since = since
        self._asked_at = 0.0
        self._ends_at = 0.0

    def take(self) -> Claim:
        """The claim; raises `LeaseLost` while another process has the target."""
        asked_at = time.monotonic()
        claim = self._session.claim(self._target.id, self._owner, self._since)
        if claim is None:
            raise LeaseLost(f"@{self._target.handle} is being walked by another process")
        self._ends_at = asked_at + LEASE_S
        self._asked_at = asked_at
        return claim

    def hold(self) -> None:
        """Renews a lease that may end during the next request.

        Raises `LeaseLost` when the time is over already: what was known may no longer be all that is known.
        """
        now = time.monotonic()
        if now >= self._ends_at:
            raise LeaseLost(f"the lease of @{self._target.handle} ended before its next request")
        if now >= self._ends_at - LEASE_S / 2:
            self.take()
        self._asked_at = now

    def renewed(self, saved: Saved) -> None:
        """Takes note of what saving said of the lease."""
        self._ends_at = self._asked_at + LEASE_S if saved.leased else 0.0


def _confirmed(ask: Callable[[], Page]) -> Page:
    """The page; a 401 is believed when it comes twice."""
    try:
        return ask()
    except CredentialRefused:
        return ask()


def _resolved(page: Page, names: Sequence[str]) -> tuple[list[Found], list[Absent]]:
    """What a lookup says of each name; a name that it passes over in silence counts as missing."""
    wanted = {name.lower() for name in names}
    found = []
    for user in page.data:
        handle = str(user.get("username") or "").lower()
        if handle in wanted and str(user.get("id")).isdecimal():
            wanted.discard(handle)
            found.append(Found(handle, str(user["id"]), str(user["username"]), _post_count(user)))
    reasons = {str(e.get("value") or e.get("resource_id") or "").lower(): e for e in page.errors}
    absent = []
    for handle in sorted(wanted):
        state, reason = (
            state_of(reasons[handle]) if handle in reasons else ("missing", "X does not mention it")
        )
        absent.append(Absent(handle, state, reason))
    return found, absent


def _news_of_user(page: Page, user_id: str | None) -> tuple[str | None, int | None]:
    includes = page.answer.get("includes")
    users = includes.get("users") if isinstance(includes, dict) else None
    for user in users if isinstance(users, list) else []:
        if isinstance(user, dict) and user.get("id") == user_id:
            name = user.get("username")
            return (name if isinstance(name, str) and name else None), _post_count(user)
    return None, None


def _post_count(user: Mapping[str, Any]) -> int | None:
    metrics = user.get("public_metrics")
    count = None
    if isinstance(metrics, dict):
        count = metrics.get("tweet_count", metrics.get("post_count"))
    return count if isinstance(count, int) and 0 <= count < 2**63 else None


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) < 20 and 0 < int(text) < 2**63 - 1


def _resting(target: Target) -> str:
    days = max(1, round(target.rests_s / 86_400))
    return f"{target.reason} (known; asked again in {days} day{'s' if days > 1 else ''})"


def _result(kind: str) -> dict[str, Any]:
    return {"kind": kind, "targets": [], "left": [], "later": [], "wait": None, "fatal": None}


def _plain(outcome: Outcome) -> tuple[Any, ...]:
    return tuple(asdict(outcome).values())
