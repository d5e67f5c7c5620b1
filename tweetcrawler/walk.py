"""The walk: in a worker process, targets are read page by page, and whatever else costs a
request is asked.

`start_worker` makes the handler of tasks. A task is `(kind, units)`: "resolve" handles,
"crawl" targets, "trends" places, "look_up" blocks of ids, "count" queries. Its result is a
dict of plain values: `targets` that were found, units that are `left` for lack of permits
or time, units to be tried `later` as `(units, wait_s, failure)`, the `wait` until the next
permit, and what is `fatal` to the run. Whatever is interrupted goes on with the holes of
the coverage; nothing else is remembered.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from tweetcrawler import coverage, pool, queries
from tweetcrawler.coverage import Ask, Bounds, Hole, Range, Walk
from tweetcrawler.endpoints import (
    COUNTS_ALL,
    COUNTS_RECENT,
    RECENT_S,
    SEARCH_ALL,
    SEARCH_ALL_MAX,
    SEARCH_MIN,
    SEARCH_RECENT,
    SEARCH_RECENT_MAX,
    TIMELINE_MIN,
    TRENDS,
    TWEETS,
    USER_TWEETS,
    USERS_BY,
)
from tweetcrawler.errors import (
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
from tweetcrawler.leases import ChunkLeases, Lease
from tweetcrawler.pages import Batch, Bought, Gone, Metrics, NoNews
from tweetcrawler.permits import Kind
from tweetcrawler.request import APP, BOTH, Allowance, Requests
from tweetcrawler.run import Counting, Job, Outcome, Session
from tweetcrawler.sentiment import scorer
from tweetcrawler.targets import SEARCH, Absent, Claim, Found, Place, Target, Trend
from tweetcrawler.xapi import Page, X, state_of

if TYPE_CHECKING:
    from tweetcrawler.db import Database
    from tweetcrawler.db import Session as SqlSession

# How long a target that another process holds is left alone.
BUSY_S = 2.0
# A walk through the last week is looked at anew when the edge of the week comes so near to
# its lower end.
EDGE_S = 90.0
# The cap of a search counts what was bought in as many seconds as recent search looks back.
CAP_S = 7 * 86_400.0

RECENT_REASON = "recent search looks back 7 days"
_RECENT_NOTE = (
    "recent search looks back 7 days; what is older is marked as unreachable, --archive reads it"
)
_RETWEETS_NOTE = (
    "a search for words or hashtags brings no retweets, since X leaves them out (from May 2026 on)"
)
_CAP_NOTE = "trends that have had --maxPerTrend posts within a week get no more for now"

log = logging.getLogger(__name__)


# -- tasks -----------------------------------------------------------------------------------------------


def start_worker(
    number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
) -> Callable[[tuple[str, list[Any]] | None], dict[str, Any]]:
    """Makes the handler of tasks of one worker process; see `pool.Pool`."""
    # A page is thousands of objects without a cycle: to look for one after every 700 costs
    # and finds nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    _log_to_parent(tell, job.settings.log_level)
    return Worker(number, stopping, tell, job).do


def _log_to_parent(tell: Callable[[Any], None], level: str) -> None:
    pool.log_to_parent(tell, level)
    for noisy in ("tweepy", "urllib3", "requests_oauthlib", "oauthlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # at DEBUG tweepy prints the token


class Worker:
    """One process: its tasks, and the walks of its targets."""

    def __init__(
        self, number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
    ) -> None:
        self._job = job
        self._stopping = stopping
        self._tell = tell
        self._owner = new_owner(job.run)
        tell(("owner", self._owner))
        self._requests = Requests(job, number=number, owner=self._owner, tell=tell)
        self._score = scorer() if job.settings.sentiment else None
        self._rest_s = job.settings.recheck_days * 86_400.0
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
        """Turns up to 100 handles into targets: from the store, and by one request for
        those unknown.
        """
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
        """Walks targets one after the other; those without news are noted together, without
        a connection each.
        """
        with self._job.sink.session(
            stopping=lambda: self._stopping() or leases.is_cut_off
        ) as session:
            leases = ChunkLeases(session, self._job, self._owner, targets)
            result = self._one_by_one(
                "crawl", targets, lambda target, _: self._crawl_with(leases, target)
            )
            try:
                self._note(leases)
                if result["left"]:
                    session.release(self._owner)
            except TweetcrawlerError as error:
                result["left"] += leases.unnoted
                result["fatal"] = (str(error), error.exit_code)
        return result

    def _crawl_with(self, leases: ChunkLeases, target: Target) -> None:
        outcome = self.crawl_target(leases, target)
        if outcome is not None:
            self._tell_outcome(outcome)
        if leases.is_full:
            self._note(leases)

    def _note(self, leases: ChunkLeases) -> None:
        noted = leases.note()
        if noted:
            self._tell(("noted", noted))

    def crawl_target(self, leases: ChunkLeases, target: Target) -> Outcome | None:
        """Walks the holes of one target over a connection of its own, which is opened when
        there is news.

        None when there is none: the end of the walk is left with the leases.

        **Errors**: `LeaseLost` when another process walks it; `MustWait` when every window is closed;
        `XUnavailable` when X gives no answer; all leave what was saved, and the lease free.
        """
        with self._job.sink.session(stopping=self._stopping) as session:
            try:
                return self._crawl_target(session, leases, target)
            except TweetcrawlerError as error:
                if isinstance(error, LeaseLost):
                    leases.distrust()
                # Who waited for the database once does not wait for it again to clear up.
                leases.is_cut_off = isinstance(error, DatabaseUnreachable)
                leases.release(target)
                raise

    def _give_back(self) -> None:
        try:
            with self._job.sink.session(stopping=lambda: True) as session:
                self._requests.give_back(session)
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
        with self._requests.allowance(session, USERS_BY, len(unknown), what="users") as allowed:
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
                page, credential = self._requests.page(
                    session, USERS_BY, lambda x, user_auth: x.users_by(names, user_auth=user_auth)
                )
            except TweetcrawlerError:
                session.release(self._owner)
                raise
        found, absent = _resolved(page, names)
        bought = allowed.priced(
            Bought(page.endpoint, page.params, credential, page.body, users=len(page.data))
        )
        session.save_users(self._job.run, bought, found, absent, rest_s=self._rest_s)
        self._tell(("page", credential, 0, 0))
        for one in absent:
            self._tell_outcome(Outcome(f"@{one.handle}", one.state, one.reason))
        resolved = session.targets([one.handle for one in found])
        result["targets"].extend(resolved[one.handle] for one in found if one.handle in resolved)

    # -- targets -----------------------------------------------------------------------------------------

    def _crawl_target(
        self, session: Session, leases: ChunkLeases, target: Target
    ) -> Outcome | None:
        source = (
            _recent_of(target.username or "") if target.kind == SEARCH else _timeline_of(target)
        )
        descent = _Descent(
            session, leases, target, leases.lease_of(target), source, target.username
        )
        try:
            if target.kind == SEARCH:
                self._walk_search(descent)
            else:
                self._walk_timeline(descent)
        except TargetRefused as refusal:
            state, reason = refusal.state, refusal.reason
            session.finish(
                target.id,
                self._owner,
                state=state,
                reason=reason,
                crawled=False,
                rest_s=self._rest_s,
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
            leases.leave(NoNews(target, descent.last, state, reason))
            return None
        session.finish(
            target.id, self._owner, state=state, reason=reason, crawled=not descent.stalled
        )
        return Outcome(target.name, state, reason)

    def _walk_timeline(self, descent: _Descent) -> None:
        """Walks all holes."""
        session, target = descent.session, descent.target
        claim = descent.lease.take()
        if claim.crawled:
            return
        descent.account_posts = claim.account_posts
        # The hole at the top stays open: asked first, it would cost a request, perhaps a
        # window's only one, after every interruption, and the holes below it would never be
        # reached.
        holes = coverage.holes(claim.covered, claim.unreachable)
        for hole in sorted(holes, key=lambda each: each.until_id is None):
            above = (
                session.posts_above(target.id, hole.until_id) if hole.until_id is not None else 0
            )
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
        """Walks what recent search reaches; False when time or X's clock has moved the
        edge: look again.
        """
        ahead_s, session, target = self._requests.x_ahead_s, descent.session, descent.target
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
                # X calls ids too old that are not, by a clock which is wrong: its answer
                # told what time it is.
                if abs(self._requests.x_ahead_s - ahead_s) < EDGE_S / 2:
                    raise
                return False
            if walk.ask is not None and (descent.left is None or descent.left > 0):
                return False
        return True

    def _recent_floor(self) -> int:
        """The lowest id that recent search reaches now."""
        return coverage.id_at(int((time.time() + self._requests.x_ahead_s - RECENT_S) * 1000))

    def _descend(self, descent: _Descent, walk: Walk, *, until_s: float = float("inf")) -> None:
        """Walks to the end of a hole, to the last post that may be bought, or to a moment."""
        session, target = descent.session, descent.target
        while (
            walk.ask is not None
            and (descent.left is None or descent.left > 0)
            and time.monotonic() < until_s
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
            done_with = [page]
            del page  # the last that holds the parsed answer, which takes its time to free
            saved = session.save(
                self._job.run,
                self._owner,
                batch,
                keep_body=self._job.settings.raw,
                meanwhile=done_with.clear,
            )
            descent.lease.renewed(saved)
            if not saved.leased:
                descent.leases.distrust()
            self._tell(("page", credential, batch.bought.posts, saved.new))
            if descent.left is not None:
                descent.left -= batch.bought.posts
            descent.username = batch.username or descent.username
            if batch.account_posts is not None:
                walk.account_posts = descent.account_posts = batch.account_posts
        descent.stalled = descent.stalled or walk.stalled
        log.debug("%s: %s", target.name, "stalled" if walk.stalled else "at the end of a hole")

    def _ask(self, descent: _Descent, walk: Walk) -> tuple[Page, str, Allowance]:
        source = descent.source
        count = source.largest
        if descent.left is not None:
            count = max(SEARCH_MIN, min(count, descent.left))
        while True:
            ask = walk.ask
            assert ask is not None  # noqa: S101 - the caller looked
            try:
                with self._requests.allowance(
                    descent.session, source.endpoint, count, fewest=source.smallest
                ) as allowed:
                    page, credential = self._requests.page(
                        descent.leases.session,
                        source.endpoint,
                        lambda x, user_auth: descent.fetch(
                            x,
                            ask,  # noqa: B023 - called at once
                            user_auth=user_auth,
                            count=allowed.units,
                        ),
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
        """Asks for the trends of a place, stores them, and hands on the searches for their
        posts.
        """
        wanted = self._job.settings.trending
        with self._sql_session() as session:
            try:
                with self._requests.allowance(session, TRENDS, 0) as allowed:
                    page, credential = self._requests.page(
                        session,
                        TRENDS,
                        lambda x, _: x.trends(place.woeid, max_trends=wanted.max_trends),
                        kinds=APP,
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
                    _count_page,
                    endpoint=endpoint,
                    counting=counting,
                    since_id=since_id,
                    until_id=until_id,
                )
                try:
                    with self._requests.allowance(session, endpoint, 0) as allowed:
                        page, credential = self._requests.page(session, endpoint, ask, kinds=APP)
                except RequestRefused as error:
                    self._tell_outcome(Outcome(counting.query, "failed", str(error)))
                    return
                session.save_page(
                    self._job.run,
                    allowed.priced(Bought(page.endpoint, page.params, credential, page.body)),
                )
                self._tell(("page", credential, 0, 0))
                counting = replace(
                    counting, posts=counting.posts + _total_of(page), token=page.next_token
                )
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
            with self._requests.allowance(session, TWEETS, len(ids)) as allowed:
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
                    page, credential = self._requests.page(
                        session,
                        TWEETS,
                        lambda x, user_auth: x.tweets(lookup.mine, user_auth=user_auth),
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
        self._tell(
            ("looked up", "ok", len(stored), [(str(g.id), f"{g.state}: {g.reason}") for g in gone])
        )

    def _sql_session(self) -> AbstractContextManager[SqlSession]:
        """A session for what only a database can do; the commands see to it that there is one."""
        return cast("Database", self._job.sink).session(stopping=self._stopping)

    def _tell_usage(self, number: int) -> None:
        """Lets X tell one credential what it has counted itself, and stores it."""
        name = self._job.credentials[number].name
        with self._job.sink.session(stopping=self._stopping) as session:
            try:
                self._requests.usage(session, number)
            except (NoCredentialLeft, XError) as error:
                self._tell_outcome(Outcome(f"X's count for {name}", "failed", str(error)))
                return
        self._tell_outcome(Outcome(f"X's count for {name}", "ok"))

    def _tell_outcome(self, outcome: Outcome) -> None:
        self._tell(("outcome", *asdict(outcome).values()))


@dataclass(frozen=True)
class _Source:
    """Where the posts of a target come from: `fetch(x, ask, user_auth, max_results)` gives
    a page.
    """

    endpoint: str
    kinds: tuple[Kind, ...]
    smallest: int
    largest: int
    fetch: Callable[[X, Ask, bool, int], Page]


@dataclass
class _Descent:
    """One visit to a target, over all of its holes: what is known, and what was learned on
    the way.

    `left` is how many posts may still be bought, None for all; `beyond` are the ids below a
    hole that its source does not reach. Where the last page brought nothing and `may_wait`,
    it is not saved yet, but is `last`.
    """

    session: Session
    leases: ChunkLeases
    target: Target
    lease: Lease
    source: _Source
    username: str | None = None
    account_posts: int | None = None
    left: int | None = None
    beyond: Range | None = None
    stalled: bool = False
    may_wait: bool = False
    last: Bought | None = None

    def fetch(self, x: X, ask: Ask, *, user_auth: bool, count: int) -> Page:
        """A page, unless the lease is over: waiting for a permit takes its time, and a
        process may be stopped.
        """
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

    return _Source(USER_TWEETS, BOTH, TIMELINE_MIN, 100, fetch)


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

    return _Source(SEARCH_RECENT, BOTH, SEARCH_MIN, SEARCH_RECENT_MAX, fetch)


def _archive_of(query: str) -> _Source:
    def fetch(x: X, ask: Ask, user_auth: bool, count: int) -> Page:  # noqa: ARG001 - one shape for all sources
        return x.search_all(
            query, since_id=ask.since_id, until_id=ask.until_id, token=ask.token, max_results=count
        )

    return _Source(SEARCH_ALL, APP, SEARCH_MIN, SEARCH_ALL_MAX, fetch)


def _count_page(
    x: X,
    user_auth: bool,  # noqa: ARG001 - only an app may count
    *,
    endpoint: str,
    counting: Counting,
    since_id: int,
    until_id: int | None,
) -> Page:
    return x.counts(
        endpoint, counting.query, since_id=since_id, until_id=until_id, token=counting.token
    )


def _total_of(page: Page) -> int:
    meta = page.answer.get("meta")
    total = (
        meta.get("total_tweet_count", meta.get("total_post_count"))
        if isinstance(meta, dict)
        else None
    )
    return _count(total) or 0


class _Stopping(TweetcrawlerError):
    """The run ends; what is not walked is left."""


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
        str(e.get("value") or e.get("resource_id")): e
        for e in page.errors
        if e.get("parameter") == "ids"
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
            found[int(text)] = Metrics(
                int(text), _count(counts.get("like_count")), _count(shared), *rest
            )
    return list(found.values())


def _count(value: object) -> int | None:
    return (
        value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
        else None
    )
