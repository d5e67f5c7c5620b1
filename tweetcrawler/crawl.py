"""Crawls the timelines of handles: the shape of the program, from top to bottom.

    crawl          in the parent: handles, a hundred at a time, become targets; targets are
      |            handed in chunks to a pool of processes, on demand   (dispatch.py, pool.py)
      v
    crawl_chunk    in a worker process, which prefers a credential of its own: it leases its
      |            targets and takes them one after the other       (leases.py, permits.py)
      v
    crawl_handle   over a database connection of its own: it walks the holes in what is
                   known of the handle, page by page                (walk.py, request.py)

A page becomes flattened rows (flatten.py). They are upserted in one transaction with the
page and the coverage that it adds (db.py), so a crawl can be killed and begun anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from tweetcrawler.dispatch import Stopped, default_processes, run_work
from tweetcrawler.errors import (
    DatabaseUnreachable,
    LeaseLost,
    RequestRefused,
    TargetRefused,
    TweetcrawlerError,
)
from tweetcrawler.leases import ChunkLeases
from tweetcrawler.news import Fatal, Outcome, Result
from tweetcrawler.outcome import Display, Progress, Report
from tweetcrawler.pages import NoNews
from tweetcrawler.run import Sink
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings
from tweetcrawler.targets import FAILED, OK, RENAMED, SEARCH, STATES, TIMELINE, Place, Target
from tweetcrawler.walk import Descent, Reach, Source
from tweetcrawler.work import (
    counts,
    handles,
    lookups,
    searches,
    timelines,
    trends,
    usage,
)
from tweetcrawler.work.kinds import CRAWL, Chunk, Kind, Worker, one_by_one

__all__ = ["Display", "Progress", "Report", "default_processes", "run_work"]

# Enough to note many walks without news together; few enough to be lost with a process.
TARGETS_A_CHUNK = 100


def crawl(
    settings: Settings,
    sink: Sink,
    credentials: Sequence[Credential],
    listed: Iterator[str],
    *,
    display: Display,
    stopped: Stopped,
    handle_count: int | None = None,
) -> Report:
    """Walks the timelines of the listed handles to their ends, and reports.

    The list is read as fast as the work needs it. `stopped()` gives the exit code once the
    operator wants the run to end; pages under way are then finished and saved.

    **Errors**: `DatabaseError` when the run cannot be begun. Whatever ends a run later is
    in the report.
    """
    work = handles.work(listed, count=handle_count, archive=settings.archive)
    return run_work(settings, sink, credentials, work, display=display, stopped=stopped)


def crawl_chunk(worker: Worker, targets: list[Target]) -> Result:
    """Walks targets one after the other, in a worker process.

    Walks that bring no posts need no connection each: they are noted together.
    """
    with worker.job.sink.session(
        stopping=lambda: worker.stopping() or leases.is_cut_off
    ) as session:
        leases = ChunkLeases(session, worker.job, worker.owner, targets)
        result = one_by_one(worker, targets, partial(_crawl_with, worker, leases))
        try:
            _note(worker, leases)
            # Targets that were claimed with the chunk and not walked: another may have them.
            if result.left:
                session.release(worker.owner)
        except TweetcrawlerError as error:
            left = [*result.left, *leases.unnoted]
            result = replace(result, left=left, fatal=Fatal(str(error), error.exit_code))
    return result


def crawl_handle(worker: Worker, leases: ChunkLeases, target: Target) -> Outcome | None:
    """Walks the holes of one handle, or search, over a connection of its own, which is
    opened when there is something to save.

    None when there is nothing: the end of the walk is left with the leases.

    **Errors**: `LeaseLost` when another process walks it; `MustWait` when every window is closed;
    `XUnavailable` when X gives no answer; all leave what was saved, and the lease free.
    """
    with worker.session() as session:
        reach: Reach = worker.job.parameters.get(CRAWL, Reach())
        source, walk = _WALKS[target.kind]
        descent = Descent(
            worker,
            session,
            leases,
            target,
            leases.lease_of(target),
            source(target),
            reach,
            username=target.username,
        )
        try:
            return _walked(descent, walk)
        except TweetcrawlerError as error:
            if isinstance(error, LeaseLost):
                # This machine slept, or lost its database: the claims of the chunk are as old.
                leases.distrust()
            # After one wait for the database there is no second one to clear up.
            leases.is_cut_off = isinstance(error, DatabaseUnreachable)
            leases.release(target)
            raise


# For each kind of target: where its posts come from, and how its holes are walked.
_WALKS: Mapping[str, tuple[Callable[[Target], Source], Callable[[Descent], None]]] = {
    TIMELINE: (timelines.source_of, timelines.walk),
    SEARCH: (searches.source_of, searches.walk),
}


def _crawl_with(worker: Worker, leases: ChunkLeases, target: Target, _chunk: Chunk) -> None:
    outcome = crawl_handle(worker, leases, target)
    if outcome is not None:
        worker.tell(outcome)
    if leases.is_full:
        _note(worker, leases)


def _note(worker: Worker, leases: ChunkLeases) -> None:
    noted = leases.note()
    if noted.outcomes:
        worker.tell(noted)


def _walked(descent: Descent, walk: Callable[[Descent], None]) -> Outcome | None:
    """Walks a target, and stores its state at the end."""
    target = descent.target
    try:
        walk(descent)
    except TargetRefused as refusal:
        return _finished(descent, refusal.state, refusal.reason, crawled=False)
    except RequestRefused as error:
        return _finished(descent, FAILED, str(error), crawled=False)
    state, reason = OK, ""
    if descent.stalled:
        state, reason = FAILED, "X repeats empty pages; the holes stay open for the next run"
    elif target.kind == TIMELINE and (descent.username or target.handle).lower() != target.handle:
        state, reason = RENAMED, f"now @{descent.username}, followed by its id"
    if descent.last is not None:
        # Most handles of a daily crawl end here: one transaction notes hundreds of them.
        descent.leases.leave(NoNews(target, descent.last, state, reason))
        return None
    return _finished(descent, state, reason, crawled=not descent.stalled)


def _finished(descent: Descent, state: str, reason: str, *, crawled: bool) -> Outcome:
    worker, target = descent.worker, descent.target
    rests = state in STATES and STATES[state].rests
    descent.session.finish(
        target.id,
        worker.owner,
        state=state,
        reason=reason,
        crawled=crawled,
        rest_s=worker.rest_s if rests else 0.0,
    )
    return Outcome(target.name, state, reason)


TARGETS = Kind(CRAWL, do=crawl_chunk, called=lambda target: str(target.name), most=TARGETS_A_CHUNK)


# -- the other commands that ask X: for their parameters see `crawl` -----------------------------


def search(
    settings: Settings,
    sink: Sink,
    credentials: Sequence[Credential],
    queries: Sequence[str],
    *,
    display: Display,
    stopped: Stopped,
) -> Report:
    """Collects the posts of normalised queries, and reports."""
    work = searches.work(queries, _reach(settings))
    return run_work(settings, sink, credentials, work, display=display, stopped=stopped)


def count(
    settings: Settings,
    sink: Sink,
    credentials: Sequence[Credential],
    queries: Sequence[str],
    *,
    display: Display,
    stopped: Stopped,
) -> Report:
    """Asks how many posts the queries have, and buys none; `Report.counted` tells."""
    work = counts.work(queries, _reach(settings))
    return run_work(settings, sink, credentials, work, display=display, stopped=stopped)


def collect_trends(
    settings: Settings,
    sink: Sink,
    credentials: Sequence[Credential],
    places: Sequence[Place],
    *,
    display: Display,
    stopped: Stopped,
) -> Report:
    """Stores the trends of places, and collects the posts of each trend."""
    chosen = settings.trending
    reach = _reach(settings, cap=chosen.max_per_trend)
    work = trends.work(places, trends.Wanted(chosen.max_trends, chosen.lang), reach)
    return run_work(settings, sink, credentials, work, display=display, stopped=stopped)


def look_up(
    settings: Settings,
    sink: Sink,
    credentials: Sequence[Credential],
    blocks: Iterator[tuple[int, ...]],
    *,
    display: Display,
    stopped: Stopped,
) -> Report:
    """Buys the posts of ids, given in blocks of at most 100."""
    age_s = settings.hydrate.age_s if settings.hydrate.refresh else None
    work = lookups.work(blocks, lookups.Refreshing(age_s))
    return run_work(settings, sink, credentials, work, display=display, stopped=stopped)


def find_users(
    settings: Settings,
    sink: Sink,
    credentials: Sequence[Credential],
    listed: Iterator[str],
    *,
    display: Display,
    stopped: Stopped,
) -> Report:
    """Buys the users of those handles that are not known, and walks nothing."""
    work = handles.only_users(listed)
    return run_work(settings, sink, credentials, work, display=display, stopped=stopped)


def ask_usage(
    settings: Settings,
    sink: Sink,
    credentials: Sequence[Credential],
    *,
    display: Display,
    stopped: Stopped,
) -> Report:
    """Stores X's own count of the posts of each app's project; free."""
    work = usage.work(credentials)
    return run_work(settings, sink, credentials, work, display=display, stopped=stopped)


def _reach(settings: Settings, cap: int | None = None) -> Reach:
    return Reach(settings.archive, settings.search.bounds, cap)
