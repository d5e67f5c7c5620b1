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

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from tweetcrawler.errors import (
    DatabaseUnreachable,
    LeaseLost,
    RequestRefused,
    RowsWait,
    TargetRefused,
    TweetcrawlerError,
)
from tweetcrawler.leases import ChunkLeases
from tweetcrawler.news import Outcome, Result
from tweetcrawler.outcome import Report
from tweetcrawler.pages import NoNews
from tweetcrawler.targets import FAILED, OK, RENAMED, SEARCH, STATES, TIMELINE, Target
from tweetcrawler.walk import Descent, Reach, Source
from tweetcrawler.work import handles, searches, timelines
from tweetcrawler.work.kinds import CRAWL, Chunk, Kind, Work, Worker, fatal, one_by_one

# Enough to note many walks without news together; few enough to be lost with a process.
TARGETS_A_CHUNK = 100


def crawl(
    run: Callable[[Work], Report],
    listed: Iterator[str],
    *,
    handle_count: int | None = None,
    archive: bool = False,
) -> Report:
    """Walks the timelines of the listed handles to their ends, and reports.

    `run` does work in worker processes: `dispatch.run_work` with settings, sink and keys. The
    list is read as fast as the work needs it. `archive` reads posts that timelines do not reach.
    """
    return run(handles.work(listed, count=handle_count, archive=archive))


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
            result = replace(result, left=left, fatal=fatal(error))
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
    try:
        descent.session.finish(
            target.id,
            worker.owner,
            state=state,
            reason=reason,
            crawled=crawled,
            rest_s=worker.rest_s if rests else 0.0,
        )
    except RowsWait as waits:
        return Outcome(target.name, FAILED, str(waits))
    return Outcome(target.name, state, reason)


TARGETS = Kind(CRAWL, do=crawl_chunk, called=lambda target: str(target.name), most=TARGETS_A_CHUNK)
