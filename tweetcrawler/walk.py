"""The walk: in a worker process, targets are read page by page, and whatever else costs a request is asked.

`start_worker` makes the handler of tasks. A task is `(kind, units)`: "resolve" handles, "crawl" targets, "trends"
places, "look_up" blocks of ids, "count" queries. Its result is a dict of plain values: `targets` that were found,
units that are `left` for lack of permits or time, units to be tried `later` as `(units, wait_s, failure)`, the
`wait` until the next permit, and what is `fatal` to the run. Whatever is interrupted goes on with the holes of the
coverage; nothing else is remembered.
"""

from __future__ import annotations

import gc
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from tweetcrawler import coverage, queries
from tweetcrawler.accounts import until_day_of_month, usage_of
from tweetcrawler.batch import (
    SEARCH,
    Absent,
    Batch,
    Bought,
    Claim,
    Found,
    Gone,
    Metrics,
    Place,
    Saved,
    Target,
    Trend,
    Visit,
)
from tweetcrawler.budget import LOOK_AGAIN_S, Limits, Want
from tweetcrawler.coverage import Ask, Bounds, Hole, Range, Walk
from tweetcrawler.errors import (
    BudgetReached,
    CapReached,
    CredentialRefused,
    DatabaseUnreachable,
    LeaseLost,
    MustWait,
    NoCredentialLeft,
    RequestRefused,
    TargetRefused,
    TweetcrawlerError,
    XError,
    XUnavailable,
)
from tweetcrawler.flatten import flatten
from tweetcrawler.identity import new_owner
from tweetcrawler.permits import Kind, Ledger
from tweetcrawler.prices import MICRO, Tariff, usd
from tweetcrawler.secret import Credential
from tweetcrawler.sentiment import scorer
from tweetcrawler.settings import Money, Settings
from tweetcrawler.windows import Rate
from tweetcrawler.xapi import (
    COUNTS_ALL,
    COUNTS_RECENT,
    RECENT_S,
    SEARCH_ALL,
    SEARCH_ALL_MAX,
    SEARCH_MIN,
    SEARCH_RECENT,
    SEARCH_RECENT_MAX,
    SPACING_S,
    TIMELINE_MIN,
    TRENDS,
    TWEETS,
    USAGE,
    USER_TWEETS,
    USERS_BY,
    Page,
    Timeouts,
    X,
    state_of,
)

if TYPE_CHECKING:
    from tweetcrawler.csvfiles import CsvFolder
    from tweetcrawler.db import Database
    from tweetcrawler.db import Session as SqlSession

# The lease is looked at before every request: one that would end during it is renewed first.
LEASE_S = 60.0
# Visits that brought nothing are noted together, and no later than this.
NOTE_S = 1.0
# How long a target that another process holds is left alone.
BUSY_S = 2.0
# A walk through the last week is looked at anew when the edge of the week comes so near to its lower end.
EDGE_S = 90.0
# The cap of a search counts what was bought in as many seconds as recent search looks back.
CAP_S = 7 * 86_400.0
# As many days of X's own count as it is asked for: a month and its turn.
USAGE_DAYS = 35
_BOTH: tuple[Kind, ...] = ("user", "app")
_APP: tuple[Kind, ...] = ("app",)

RECENT_REASON = "recent search looks back 7 days"
_RECENT_NOTE = "recent search looks back 7 days; what is older is marked as unreachable, --archive reads it"
_RETWEETS_NOTE = (
    "a search for words or hashtags brings no retweets, since X leaves them out (from May 2026 on)"
)
_CAP_NOTE = "trends that have had --maxPerTrend posts within a week get no more for now"

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
    def claim_all(self, targets: Sequence[int], owner: str, since: float) -> dict[int, Claim]: ...
    def posts_above(self, target: int, tweet_id: int) -> int: ...
    def save(self, run: int, owner: str, batch: Batch, *, keep_body: bool = True) -> Saved: ...
    def finish(
        self, target: int, owner: str, *, state: str, reason: str, crawled: bool, rest_s: float = 0.0
    ) -> None: ...
    def note(self, run: int, owner: str, visits: Sequence[Visit], *, keep_body: bool = True) -> None: ...
    def release(self, owner: str, targets: Sequence[int] | None = None) -> None: ...
    def open_searches(self, asked: Sequence[str]) -> list[Target]: ...
    def give_up(self, target: int, unreachable: Range, reason: str) -> None: ...
    def posts_within(self, target: int, seconds: float) -> int: ...
    def change_buckets(self, keys: Any, change: Any) -> Any: ...


class Sink(Protocol):
    """Where rows go: PostgreSQL or a folder of CSV files."""

    def session(self, *, stopping: Callable[[], bool] = ...) -> AbstractContextManager[Session]: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one target, as its name says it: its state ("ok", "renamed", "missing", …) and the reason."""

    name: str
    state: str
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether everything that X gives of this target is stored; of a post also that X gives it no more."""
        return self.state in ("ok", "renamed", "known", "gone")


@dataclass(frozen=True)
class Counting:
    """A query whose posts are being counted: so many up to now, and where to go on."""

    query: str
    posts: int = 0
    token: str | None = None


@dataclass(frozen=True)
class Job:
    """What every process of a run needs to know; goes to a worker through the pipe that starts it.

    `cap` is how many posts of one search may be bought in a week, None for all. Budgets need a `tariff`.
    """

    settings: Settings
    sink: Database | CsvFolder
    credentials: Sequence[Credential]
    run: int
    since: float
    cap: int | None = None
    tariff: Tariff | None = None


# -- tasks -----------------------------------------------------------------------------------------------


def start_worker(
    number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
) -> Callable[[tuple[str, list[Any]] | None], dict[str, Any]]:
    """Makes the handler of tasks of one worker process; see `pool.Pool`."""
    # A page is thousands of objects without a cycle: to look for one after every 700 costs and finds nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    _log_to_parent(tell, job.settings.log_level)
    return Worker(number, stopping, tell, job).do


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


class Worker:
    """One process: its clients of X, its permits, its walks."""

    def __init__(
        self, number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
    ) -> None:
        self._job = job
        self._stopping = stopping
        self._tell = tell
        self._owner = new_owner(job.run)
        tell(("owner", self._owner))
        self._ledger = Ledger(job.credentials, own=number, since=job.since, spacing_s=SPACING_S)
        self._clients: dict[int, X] = {}
        self._x_ahead_s = 0.0
        self._score = scorer() if job.settings.sentiment else None
        self._rest_s = job.settings.recheck_days * 86_400.0
        self._limits = _limits_of(job.settings.money) if job.settings.money.is_limited else None
        # What is left to do of the unit under way, should it be interrupted.
        self._unit: Any = None

    def do(self, task: tuple[str, list[Any]] | None) -> dict[str, Any]:
        """One task to its end or to what keeps it from there; None when no more will come."""
        if task is None:
            self._give_back()
            return {}
        kind, units = task
        if kind == "resolve":
            return self.resolve_chunk(units)
        if kind == "crawl":
            return self.crawl_chunk(units)
        steps: dict[str, Callable[[Any, dict[str, Any]], None]] = {
            "trends": self._see_trends,
            "look_up": self._look_up,
            "count": lambda counting, _: self._count(counting),
            "usage": lambda number, _: self._tell_usage(number),
        }
        return self._one_by_one(kind, units, steps[kind])

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
        """Walks targets one after the other; those without news are noted together, without a connection each."""
        with self._job.sink.session(stopping=lambda: self._stopping() or desk.is_cut_off) as session:
            desk = _Desk(session, self._job, self._owner, targets)
            result = self._one_by_one("crawl", targets, lambda target, _: self._visit(desk, target))
            try:
                self._note(desk)
                if result["left"]:
                    session.release(self._owner)
            except TweetcrawlerError as error:
                result["left"] += desk.unnoted
                result["fatal"] = (str(error), error.exit_code)
        return result

    def _visit(self, desk: _Desk, target: Target) -> None:
        outcome = self.crawl_target(desk, target)
        if outcome is not None:
            self._tell_outcome(outcome)
        if desk.is_full:
            self._note(desk)

    def _note(self, desk: _Desk) -> None:
        noted = desk.note()
        if noted:
            self._tell(("noted", noted))

    def crawl_target(self, desk: _Desk, target: Target) -> Outcome | None:
        """Walks the holes of one target over a connection of its own, which is opened when there is news.

        None when there is none: the visit is left with the desk.

        **Errors**: `LeaseLost` when another process walks it; `MustWait` when every window is closed;
        `XUnavailable` when X gives no answer; all leave what was saved, and the lease free.
        """
        with self._job.sink.session(stopping=self._stopping) as session:
            try:
                return self._crawl_target(session, desk, target)
            except TweetcrawlerError as error:
                # Who waited for the database once does not wait for it again to clear up.
                desk.is_cut_off = isinstance(error, DatabaseUnreachable)
                desk.release(target)
                raise

    def _give_back(self) -> None:
        """Returns the permits that were not used, so that a run that follows at once need not do without."""
        try:
            with self._job.sink.session(stopping=lambda: True) as session:
                self._ledger.give_back(session)
        except TweetcrawlerError as error:
            log.debug("permits are lost until their window turns: %s", error)

    def _one_by_one(
        self, kind: str, units: list[Any], step: Callable[[Any, dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Does the units one after the other; what cannot be done now is left or for later."""
        result = _result(kind)
        for position, unit in enumerate(units):
            if self._stopping():
                result["left"] = units[position:]
                break
            self._unit = unit
            try:
                step(unit, result)
            except LeaseLost:
                result["later"].append(([unit], BUSY_S, ""))
            except XUnavailable as error:
                result["later"].append(([self._unit], 1.0, str(error)))
            except MustWait as wait:
                result["left"] = [self._unit, *units[position + 1 :]]
                result["wait"] = (wait.wait_s, wait.reason)
                break
            except _Stopping:
                result["left"] = [self._unit, *units[position + 1 :]]
                break
            except TweetcrawlerError as error:
                result["left"] = [self._unit, *units[position + 1 :]]
                result["fatal"] = (str(error), error.exit_code)
                break
        return result

    # -- handles -----------------------------------------------------------------------------------------

    def _resolve(self, session: Session, handles: list[str], result: dict[str, Any]) -> None:
        known = session.targets(handles)
        unknown = []
        for handle in handles:
            target = known.get(handle)
            if target is None or (target.key is None and target.rests_s <= 0):
                unknown.append(handle)
            elif target.rests_s > 0:
                self._tell_outcome(Outcome(f"@{handle}", target.state, _resting(target)))
            else:
                result["targets"].append(target)
        if not unknown:
            return
        with self._allowance(session, USERS_BY, len(unknown), what="users") as allowed:
            unknown, rest = unknown[: allowed.units], unknown[allowed.units :]
            if rest:
                result["later"].append((rest, 0.0, ""))
            mine = session.claim_handles(unknown, self._owner)
            others = [handle for handle in unknown if handle not in mine]
            if others:
                result["later"].append((others, BUSY_S, ""))
            if not mine:
                allowed.unused = True
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
        bought = allowed.priced(
            Bought(page.endpoint, page.params, credential, page.body, users=len(page.data))
        )
        session.remember(self._job.run, bought, found, absent, rest_s=self._rest_s)
        self._tell(("page", credential, 0, 0))
        for one in absent:
            self._tell_outcome(Outcome(f"@{one.handle}", one.state, one.reason))
        resolved = session.targets([one.handle for one in found])
        result["targets"].extend(resolved[one.handle] for one in found if one.handle in resolved)

    # -- targets -----------------------------------------------------------------------------------------

    def _crawl_target(self, session: Session, desk: _Desk, target: Target) -> Outcome | None:
        source = _recent_of(target.username or "") if target.kind == SEARCH else _timeline_of(target)
        descent = _Descent(session, desk, target, desk.lease_of(target), source, target.username)
        try:
            if target.kind == SEARCH:
                self._walk_search(descent)
            else:
                self._walk_timeline(descent)
        except TargetRefused as refusal:
            state, reason = refusal.state, refusal.reason
            session.finish(
                target.id, self._owner, state=state, reason=reason, crawled=False, rest_s=self._rest_s
            )
            return Outcome(target.name, state, reason)
        except RequestRefused as error:
            session.finish(target.id, self._owner, state="failed", reason=str(error), crawled=False)
            return Outcome(target.name, "failed", str(error))
        state, reason = "ok", ""
        if descent.stalled:
            state, reason = "failed", "X repeats empty pages; the holes stay open for the next run"
        elif target.kind != SEARCH and (descent.username or target.handle).lower() != target.handle:
            state, reason = "renamed", f"now @{descent.username}, followed by its id"
        if descent.last is not None:
            desk.leave(Visit(target, descent.last, state, reason))
            return None
        session.finish(target.id, self._owner, state=state, reason=reason, crawled=not descent.stalled)
        return Outcome(target.name, state, reason)

    def _walk_timeline(self, descent: _Descent) -> None:
        """Walks all holes."""
        session, target = descent.session, descent.target
        claim = descent.lease.take()
        if claim.crawled:
            return
        descent.account_posts = claim.account_posts
        # The hole at the top stays open: asked first, it would cost a request, perhaps a window's only one, after
        # every interruption, and the holes below it would never be reached.
        holes = coverage.holes(claim.covered, claim.unreachable)
        for hole in sorted(holes, key=lambda each: each.until_id is None):
            above = session.posts_above(target.id, hole.until_id) if hole.until_id is not None else 0
            descent.may_wait = hole.until_id is None and not self._job.settings.archive
            self._descend(descent, Walk(hole, above, descent.account_posts))
        if self._job.settings.archive:
            self._walk_beyond(descent)

    def _walk_beyond(self, descent: _Descent) -> None:
        """Reads from the archive what the timeline does not reach."""
        claim = descent.lease.take()
        query = queries.from_user(descent.username or descent.target.handle)
        descent.source = _archive_of(query)
        for lower, upper in reversed(coverage.difference(claim.unreachable, claim.covered)):
            self._descend(descent, Walk(Hole(lower - 1, upper), depth_limit=None))

    def _walk_search(self, descent: _Descent) -> None:
        """Walks all holes of a search."""
        claim = descent.lease.take()
        if claim.crawled:
            return
        self._tell(("note", _RETWEETS_NOTE))
        if self._job.cap is not None:
            descent.left = self._job.cap - descent.session.posts_within(descent.target.id, CAP_S)
        bounds = self._job.settings.search.bounds
        if self._job.settings.archive:
            descent.source = _archive_of(descent.target.username or "")
            for hole in coverage.holes(claim.covered, within=bounds):
                self._descend(descent, Walk(hole, depth_limit=None))
        else:
            while not self._walk_recent(descent, claim, bounds):
                claim = descent.lease.take()
        if descent.left is not None and descent.left <= 0:
            self._tell(("note", _CAP_NOTE))

    def _walk_recent(self, descent: _Descent, claim: Claim, bounds: Bounds) -> bool:
        """Walks what recent search reaches; False when time or X's clock has moved the edge: look again."""
        ahead_s, session, target = self._x_ahead_s, descent.session, descent.target
        floor = self._recent_floor()
        if claim.unreachable:
            self._tell(("note", _RECENT_NOTE))
        for open_hole in coverage.holes(claim.covered, claim.unreachable, within=bounds):
            hole, descent.beyond = coverage.reachable(open_hole, floor)
            if descent.beyond is not None:
                self._tell(("note", _RECENT_NOTE))
            if hole is None:
                assert descent.beyond is not None  # noqa: S101 - one of both there is
                session.give_up(target.id, descent.beyond, RECENT_REASON)
                continue
            walk = Walk(hole, depth_limit=None)
            try:
                self._descend(descent, walk, until_s=time.monotonic() + EDGE_S)
            except RequestRefused:
                # X calls ids too old that are not, by a clock which is wrong: its answer told what time it is.
                if abs(self._x_ahead_s - ahead_s) < EDGE_S / 2:
                    raise
                return False
            if walk.ask is not None and (descent.left is None or descent.left > 0):
                return False
        return True

    def _recent_floor(self) -> int:
        """The lowest id that recent search reaches now."""
        return coverage.id_at(int((time.time() + self._x_ahead_s - RECENT_S) * 1000))

    def _descend(self, descent: _Descent, walk: Walk, *, until_s: float = float("inf")) -> None:
        """Walks to the end of a hole, to the last post that may be bought, or to a moment."""
        session, target = descent.session, descent.target
        while (
            walk.ask is not None and (descent.left is None or descent.left > 0) and time.monotonic() < until_s
        ):
            if self._stopping():
                raise _Stopping
            descent.lease.hold()
            page, credential, allowed = self._ask(descent, walk)
            batch = self._batch(descent, walk, page, credential)
            batch = replace(batch, bought=allowed.priced(batch.bought))
            if descent.may_wait and walk.ask is None and batch.is_empty and not walk.stalled:
                descent.last = batch.bought
                break
            saved = session.save(self._job.run, self._owner, batch, keep_body=self._job.settings.raw)
            descent.lease.renewed(saved)
            self._tell(("page", credential, batch.bought.posts, saved.new))
            if descent.left is not None:
                descent.left -= batch.bought.posts
            descent.username = batch.username or descent.username
            if batch.account_posts is not None:
                walk.account_posts = descent.account_posts = batch.account_posts
        descent.stalled = descent.stalled or walk.stalled
        log.debug("%s: %s", target.name, "stalled" if walk.stalled else "at the end of a hole")

    def _ask(self, descent: _Descent, walk: Walk) -> tuple[Page, str, _Allowance]:
        source = descent.source
        count = source.largest
        if descent.left is not None:
            count = max(SEARCH_MIN, min(count, descent.left))
        while True:
            ask = walk.ask
            assert ask is not None  # noqa: S101 - the caller looked
            try:
                with self._allowance(descent.session, source.endpoint, count, fewest=source.smallest) as allowed:
                    page, credential = self._fetch(
                        descent.desk.session,
                        source.endpoint,
                        lambda x, user_auth: descent.fetch(x, ask, user_auth=user_auth, count=allowed.units),  # noqa: B023 - called at once
                        kinds=source.kinds,
                    )
            except RequestRefused:
                if not walk.forget_token():
                    raise
            else:
                return page, credential, allowed

    def _batch(self, descent: _Descent, walk: Walk, page: Page, credential: str) -> Batch:
        target = descent.target
        flattened = flatten(page.answer, score=self._score)
        ids = [row["id"] for row in flattened.rows]
        ids += [int(r.tweet_id) for r in flattened.refused if r.tweet_id and _is_id(r.tweet_id)]
        learned = walk.learn(
            ids, page.next_token, settled_below_id=coverage.settled_below(page.server_time_s)
        )
        unreachable, reason = learned.unreachable, learned.reason
        if descent.beyond is not None and walk.ask is None and not walk.stalled:
            unreachable, reason = descent.beyond, RECENT_REASON
        searched = target.kind == SEARCH
        username, account_posts = (None, None) if searched else _news_of_user(page, target.key)
        return Batch(
            target=target.id,
            bought=Bought(page.endpoint, page.params, credential, page.body, posts=len(page.data)),
            rows=flattened.rows,
            refused=[(r.tweet_id, r.reason) for r in flattened.refused],
            covered=learned.covered,
            unreachable=unreachable,
            unreachable_reason=reason,
            username=username,
            account_posts=account_posts,
            searched=searched,
        )

    # -- trends, counts, posts by id ---------------------------------------------------------------------

    def _see_trends(self, place: Place, result: dict[str, Any]) -> None:
        """Asks for the trends of a place, stores them, and hands on the searches for their posts."""
        wanted = self._job.settings.trending
        with self._sql_session() as session:
            try:
                with self._allowance(session, TRENDS, 0) as allowed:
                    page, credential = self._fetch(
                        session,
                        TRENDS,
                        lambda x, _: x.trends(place.woeid, max_trends=wanted.max_trends),
                        kinds=_APP,
                    )
            except RequestRefused as error:
                self._tell_outcome(Outcome(f"trends of {place.name}", "failed", str(error)))
                return
            bought = allowed.priced(Bought(page.endpoint, page.params, credential, page.body))
            trends = _trends_of(page, wanted.lang)
            result["targets"].extend(session.save_trends(self._job.run, bought, place, trends))
        self._tell(("page", credential, 0, 0))
        self._tell_outcome(Outcome(f"trends of {place.name}", "ok"))

    def _count(self, counting: Counting) -> None:
        """Asks how many posts a query has, month by month."""
        settings = self._job.settings
        endpoint = COUNTS_ALL if settings.archive else COUNTS_RECENT
        since_id = settings.search.bounds.lowest - 1
        if not settings.archive:
            since_id = max(since_id, self._recent_floor() - 1)
        until_id = settings.search.bounds.end
        with self._job.sink.session(stopping=self._stopping) as session:
            while True:
                if self._stopping():
                    raise _Stopping
                ask = partial(
                    _count_page, endpoint=endpoint, counting=counting, since_id=since_id, until_id=until_id
                )
                try:
                    with self._allowance(session, endpoint, 0) as allowed:
                        page, credential = self._fetch(session, endpoint, ask, kinds=_APP)
                except RequestRefused as error:
                    self._tell_outcome(Outcome(counting.query, "failed", str(error)))
                    return
                session.remember(
                    self._job.run,
                    allowed.priced(Bought(page.endpoint, page.params, credential, page.body)),
                    [],
                    [],
                    rest_s=0.0,
                )
                self._tell(("page", credential, 0, 0))
                counting = replace(counting, posts=counting.posts + _total_of(page), token=page.next_token)
                self._unit = counting
                if counting.token is None:
                    break
        self._tell(("counted", counting.query, counting.posts))
        self._tell_outcome(Outcome(counting.query, "ok"))

    def _look_up(self, ids: tuple[int, ...], result: dict[str, Any]) -> None:
        """Buys the posts of a block of ids that are not known; notes why X did not give some."""
        refresh = self._job.settings.hydrate.refresh
        age_s = self._job.settings.hydrate.age_s if refresh else None
        with self._sql_session() as session:
            with self._allowance(session, TWEETS, len(ids)) as allowed:
                if rest := ids[allowed.units :]:
                    result["later"].append(([rest], 0.0, ""))
                lookup = session.claim_ids(
                    ids[: allowed.units], self._owner, age_s=age_s, rest_s=self._rest_s
                )
                if lookup.others:
                    result["later"].append(([tuple(lookup.others)], BUSY_S, ""))
                self._tell(("looked up", "known", len(lookup.known), []))
                self._unit = tuple(lookup.mine)
                if not lookup.mine:
                    allowed.unused = True
                    return
                try:
                    page, credential = self._fetch(
                        session, TWEETS, lambda x, user_auth: x.tweets(lookup.mine, user_auth=user_auth)
                    )
                except TweetcrawlerError:
                    session.release(self._owner)
                    raise
            flattened = flatten(page.answer, score=self._score)
            wanted = set(lookup.mine)
            rows = [row for row in flattened.rows if row["id"] in wanted]
            stored = {row["id"] for row in rows}
            refused = {r.tweet_id: r.reason for r in flattened.refused}
            gone = _gone(page, sorted(wanted - stored), refused)
            batch = Batch(
                target=None,
                bought=allowed.priced(
                    Bought(page.endpoint, page.params, credential, page.body, posts=len(page.data))
                ),
                rows=rows,
                refused=list(refused.items()),
            )
            saved = session.save_looked_up(
                self._job.run,
                batch,
                gone,
                _metrics_of(page, stored) if refresh else [],
                seen_at=page.server_time_s,
                keep_body=self._job.settings.raw,
            )
        self._tell(("page", credential, batch.bought.posts, saved.new))
        self._tell(("looked up", "ok", len(stored), [(str(g.id), f"{g.state}: {g.reason}") for g in gone]))

    def _sql_session(self) -> AbstractContextManager[SqlSession]:
        """A session for what only a database can do; the commands see to it that there is one."""
        return cast("Database", self._job.sink).session(stopping=self._stopping)

    # -- requests ----------------------------------------------------------------------------------------

    @contextmanager
    def _allowance(
        self, session: Session, endpoint: str, most: int, *, fewest: int = 1, what: str = "posts"
    ) -> Iterator[_Allowance]:
        """What one request may bring, at most so many posts or users: set aside from the budgets while it is sent.

        **Errors**: `BudgetReached` when not even the fewest may be bought any more; `MustWait` while only
        requests under way are in between.
        """
        tariff = self._job.tariff
        if self._limits is None or tariff is None:
            yield _Allowance(most)
            return
        budgets = cast("SqlSession", session)  # the commands see to it that there is a database
        want = Want(
            endpoint,
            most,
            min(most, fewest),
            tariff.post if what == "posts" else tariff.user,
            fee=tariff.requests.get(endpoint, 0),
            are_posts=what == "posts",
        )
        page = uuid.uuid4()
        granted = budgets.set_aside(self._job.run, self._owner, page, want, self._limits, tariff)
        if granted.units is None:
            if granted.full is None:
                raise MustWait(LOOK_AGAIN_S, "the rest of the budget is set aside for requests under way")
            raise BudgetReached(_reached(granted.full, self._job.settings.money))
        allowed = _Allowance(granted.units, page, tariff)
        try:
            yield allowed
        except XUnavailable as error:
            if error.may_be_charged:
                budgets.give_up_money(page)
            else:
                budgets.take_back(page)
            raise
        except TweetcrawlerError:
            budgets.take_back(page)
            raise
        if allowed.unused:
            budgets.take_back(page)

    def _fetch(
        self,
        session: Session,
        endpoint: str,
        ask: Callable[[X, bool], Page],
        *,
        kinds: tuple[Kind, ...] = _BOTH,
    ) -> tuple[Page, str]:
        """One page, with whichever credential has a permit; gives it with the credential's name."""
        while True:
            permit = self._ledger.reserve(session, endpoint, kinds)
            if permit.after_s > 0:
                time.sleep(permit.after_s)
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
                if isinstance(error, CapReached) and error.reason == "cap" and not error.daily:
                    error.for_s = self._until_cycle_turns(session, permit.credential) or error.for_s
                self._tell_refusal(name, error, self._ledger.refused(session, permit, error))
                if isinstance(error, XUnavailable):
                    raise
                continue
            finally:
                self._x_ahead_s = client.ahead_s
            self._ledger.settle(session, permit, page.rate)
            return page, name

    def _tell_usage(self, number: int) -> None:
        """Lets X tell one credential what it has counted itself, and stores it."""
        name = self._job.credentials[number].name
        with self._job.sink.session(stopping=self._stopping) as session:
            try:
                self._usage(session, number)
            except (NoCredentialLeft, XError) as error:
                self._tell_outcome(Outcome(f"X's count for {name}", "failed", str(error)))
                return
        self._tell_outcome(Outcome(f"X's count for {name}", "ok"))

    def _usage(self, session: Session, number: int) -> Page:
        """X's own count of the posts of one app's project, as a page of the run."""
        credential = self._job.credentials[number]
        ledger = Ledger([credential], own=0, since=self._job.since)
        permit = ledger.reserve(session, USAGE, _APP)
        try:
            page = _confirmed(lambda: self._client(number).usage(days=USAGE_DAYS))
        except XError as error:
            ledger.refused(session, permit, error)
            raise
        ledger.settle(session, permit, page.rate)
        ledger.give_back(session)
        bought = Bought(page.endpoint, page.params, credential.name, page.body)
        session.remember(self._job.run, bought, [], [], rest_s=0.0)
        self._tell(("page", credential.name, 0, 0))
        return page

    def _until_cycle_turns(self, session: Session, number: int) -> float | None:
        """How long a used-up cap lasts, by the day that X names; None when it names none."""
        if not self._job.credentials[number].has_app:
            return None
        try:
            page = self._usage(session, number)
        except (MustWait, NoCredentialLeft, XError) as error:
            log.debug("X does not tell when the cap turns: %s", error)
            return None
        usage = usage_of("", page.server_time_s, page.answer)
        if usage is None or usage.cycle_day is None:
            return None
        return until_day_of_month(page.server_time_s, usage.cycle_day)

    def _client(self, number: int) -> X:
        if number not in self._clients:
            s = self._job.settings
            self._clients[number] = X(
                self._job.credentials[number],
                api_url=s.api_url,
                timeouts=Timeouts(s.connect_timeout_s, s.read_timeout_s, s.total_timeout_s),
            )
        return self._clients[number]

    def _tell_outcome(self, outcome: Outcome) -> None:
        self._tell(("outcome", *asdict(outcome).values()))

    def _tell_refusal(self, name: str, error: XError, sentence: str) -> None:
        self._tell(("refusal", name, type(error).__name__, sentence))


@dataclass
class _Allowance:
    """What a request may bring: so many units. `page` is the id under which its cost was set aside, if it was.

    Who sends no request after all says that it is `unused`.
    """

    units: int
    page: uuid.UUID | None = None
    tariff: Tariff | None = None
    unused: bool = False

    def priced(self, bought: Bought) -> Bought:
        """The purchase as the one that settles what was set aside."""
        if self.page is None or self.tariff is None:
            return bought
        cost = self.tariff.cost(bought.endpoint, requests=1, posts=bought.posts, users=bought.users)
        return replace(bought, id=self.page, cost=cost)


@dataclass(frozen=True)
class _Source:
    """Where the posts of a target come from: `fetch(x, ask, user_auth, max_results)` gives a page."""

    endpoint: str
    kinds: tuple[Kind, ...]
    smallest: int
    largest: int
    fetch: Callable[[X, Ask, bool, int], Page]


@dataclass
class _Descent:
    """One visit to a target, over all of its holes: what is known, and what was learned on the way.

    `left` is how many posts may still be bought, None for all; `beyond` are the ids below a hole that its source
    does not reach. Where the last page brought nothing and `may_wait`, it is not saved yet, but is `last`.
    """

    session: Session
    desk: _Desk
    target: Target
    lease: _Lease
    source: _Source
    username: str | None = None
    account_posts: int | None = None
    left: int | None = None
    beyond: Range | None = None
    stalled: bool = False
    may_wait: bool = False
    last: Bought | None = None

    def fetch(self, x: X, ask: Ask, *, user_auth: bool, count: int) -> Page:
        """A page, unless the lease is over: waiting for a permit takes its time, and a process may be stopped."""
        self.lease.look()
        return self.source.fetch(x, ask, user_auth, count)


def _timeline_of(target: Target) -> _Source:
    def fetch(x: X, ask: Ask, user_auth: bool, count: int) -> Page:
        return x.user_tweets(
            target.key or "",
            since_id=ask.since_id or None,
            until_id=ask.until_id,
            token=ask.token,
            user_auth=user_auth,
            max_results=count,
        )

    return _Source(USER_TWEETS, _BOTH, TIMELINE_MIN, 100, fetch)


def _recent_of(query: str) -> _Source:
    def fetch(x: X, ask: Ask, user_auth: bool, count: int) -> Page:
        return x.search_recent(
            query,
            since_id=ask.since_id,
            until_id=ask.until_id,
            token=ask.token,
            user_auth=user_auth,
            max_results=count,
        )

    return _Source(SEARCH_RECENT, _BOTH, SEARCH_MIN, SEARCH_RECENT_MAX, fetch)


def _archive_of(query: str) -> _Source:
    def fetch(x: X, ask: Ask, user_auth: bool, count: int) -> Page:  # noqa: ARG001 - one shape for all sources
        return x.search_all(
            query, since_id=ask.since_id, until_id=ask.until_id, token=ask.token, max_results=count
        )

    return _Source(SEARCH_ALL, _APP, SEARCH_MIN, SEARCH_ALL_MAX, fetch)


def _count_page(
    x: X,
    user_auth: bool,  # noqa: ARG001 - only an app may count
    *,
    endpoint: str,
    counting: Counting,
    since_id: int,
    until_id: int | None,
) -> Page:
    return x.counts(endpoint, counting.query, since_id=since_id, until_id=until_id, token=counting.token)


def _total_of(page: Page) -> int:
    meta = page.answer.get("meta")
    total = meta.get("total_tweet_count", meta.get("total_post_count")) if isinstance(meta, dict) else None
    return _count(total) or 0


class _Stopping(TweetcrawlerError):
    """The run ends; what is not walked is left."""


class _Desk:
    """What a chunk of targets shares: one claim on all of them, and one note of the visits that brought nothing.

    `session` serves what concerns the process more than one target. A visit that is not noted when the process dies
    is made again; it cost nothing but a request.
    """

    def __init__(self, session: Session, job: Job, owner: str, targets: Sequence[Target]) -> None:
        self.session = session
        self.is_cut_off = False
        self._job = job
        self._owner = owner
        self._unclaimed = [target.id for target in targets]
        self._claims: dict[int, Claim] = {}
        self._claimed_at = 0.0
        self._visits: list[Visit] = []
        self._note_at = 0.0

    def lease_of(self, target: Target) -> _Lease:
        """The lease of a target of the chunk."""
        if self._unclaimed:
            unclaimed, self._unclaimed = self._unclaimed, []
            self._claimed_at = time.monotonic()
            self._claims = self.session.claim_all(unclaimed, self._owner, self._job.since)
        return _Lease(
            self.session,
            target,
            self._owner,
            self._job.since,
            claim=self._claims.pop(target.id, None),
            claimed_at=self._claimed_at,
        )

    @property
    def is_full(self) -> bool:
        """Whether it is time to note what was left here."""
        return bool(self._visits) and time.monotonic() >= self._note_at

    @property
    def unnoted(self) -> list[Target]:
        """The targets whose visits were not noted."""
        return [visit.target for visit in self._visits]

    def leave(self, visit: Visit) -> None:
        """Keeps a visit for the next note, which comes within `NOTE_S`."""
        if not self._visits:
            self._note_at = time.monotonic() + NOTE_S
        self._visits.append(visit)

    def note(self) -> list[tuple[str, tuple[str, str, str]]]:
        """Notes all visits that were left; gives the credential and the outcome of each."""
        visits = self._visits
        if visits:
            self.session.note(self._job.run, self._owner, visits, keep_body=self._job.settings.raw)
        self._visits = []
        return [(visit.bought.credential, (visit.target.name, visit.state, visit.reason)) for visit in visits]

    def release(self, target: Target) -> None:
        """Gives the lease of one target back."""
        self.session.release(self._owner, [target.id])


class _Lease:
    """The lease of one target, looked at before every request."""

    def __init__(
        self,
        session: Session,
        target: Target,
        owner: str,
        since: float,
        *,
        claim: Claim | None,
        claimed_at: float,
    ) -> None:
        self._session = session
        self._target = target
        self._owner = owner
        self._since = since
        self._claim = claim
        self._asked_at = claimed_at
        self._ends_at = claimed_at + LEASE_S if claim else 0.0

    def take(self) -> Claim:
        """The claim; raises `LeaseLost` while another process has the target."""
        asked_at = time.monotonic()
        claim, self._claim = self._claim, None
        if claim is not None and asked_at < self._ends_at - LEASE_S / 2:
            return claim
        claim = self._session.claim(self._target.id, self._owner, self._since)
        if claim is None:
            raise LeaseLost(f"{self._target.name} is being walked by another process")
        self._ends_at = asked_at + LEASE_S
        self._asked_at = asked_at
        return claim

    def hold(self) -> None:
        """Renews a lease that may end during the next request.

        Raises `LeaseLost` when the time is over already: what was known may no longer be all that is known.
        """
        self.look()
        now = time.monotonic()
        if now >= self._ends_at - LEASE_S / 2:
            self.take()
        self._asked_at = now

    def look(self) -> None:
        """Raises `LeaseLost` when its time is over. Asks nobody: for the last moment before a request."""
        if time.monotonic() >= self._ends_at:
            raise LeaseLost(f"the lease of {self._target.name} ended before its next request")

    def renewed(self, saved: Saved) -> None:
        """Takes note of what saving said of the lease."""
        self._ends_at = self._asked_at + LEASE_S if saved.leased else 0.0


def _limits_of(money: Money) -> Limits:
    def micro(amount: float | None) -> int | None:
        return None if amount is None else round(amount * MICRO)

    return Limits(
        run=micro(money.budget),
        run_posts=money.max_posts,
        day=micro(money.budget_per_day),
        month=micro(money.budget_per_month),
    )


def _reached(scope: str, money: Money) -> str:
    """Which limit is met, and when the same command can go on."""
    if scope == "run":
        parts = [f"{usd(round(money.budget * MICRO))}"] if money.budget is not None else []
        parts += [f"{money.max_posts:,} posts"] if money.max_posts is not None else []
        return f"the budget of this run ({' and '.join(parts)}) is used up"
    amount = money.budget_per_day if scope == "day" else money.budget_per_month
    turns = "at midnight UTC" if scope == "day" else "with the next UTC month"
    return f"the budget of the {scope} ({usd(round((amount or 0) * MICRO))}) is used up; a new one begins {turns}"


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


def _trends_of(page: Page, lang: str | None) -> list[Trend]:
    """The trends of an answer; X tells the volume of some of them, under one of its two names."""
    found = []
    for rank, trend in enumerate(page.data, start=1):
        name = trend.get("trend_name")
        volume = trend.get("tweet_count", trend.get("post_count"))
        if isinstance(name, str) and name.strip():
            counted = volume if isinstance(volume, int) and 0 <= volume < 2**63 else None
            found.append(Trend(rank, name, counted, queries.for_trend(name, lang)))
    return found


def _gone(page: Page, ids: Sequence[int], refused: Mapping[str | None, str]) -> list[Gone]:
    """Why X did not give these posts; one that it passes over in silence counts as missing."""
    errors = {
        str(e.get("value") or e.get("resource_id")): e for e in page.errors if e.get("parameter") == "ids"
    }
    gone = []
    for tweet_id in ids:
        text = str(tweet_id)
        if text in refused:
            gone.append(Gone(tweet_id, "refused", refused[text]))
        elif text in errors:
            gone.append(Gone(tweet_id, *state_of(errors[text])))
        else:
            gone.append(Gone(tweet_id, "missing", "X does not mention it"))
    return gone


def _metrics_of(page: Page, ids: set[int]) -> list[Metrics]:
    found = {}
    for tweet in page.data:
        text = str(tweet.get("id"))
        if _is_id(text) and int(text) in ids:
            counts = tweet.get("public_metrics")
            counts = counts if isinstance(counts, dict) else {}
            shared = counts.get("retweet_count", counts.get("repost_count"))
            names = ("reply_count", "quote_count", "bookmark_count", "impression_count")
            rest = [_count(counts.get(name)) for name in names]
            found[int(text)] = Metrics(int(text), _count(counts.get("like_count")), _count(shared), *rest)
    return list(found.values())


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
