"""Searches: how the holes of one are walked, in the last week or in the archive."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tweetcrawler import coverage
from tweetcrawler.coverage import Ask, Walk
from tweetcrawler.endpoints import (
    RECENT_S,
    SEARCH_ALL,
    SEARCH_ALL_MAX,
    SEARCH_MIN,
    SEARCH_RECENT,
    SEARCH_RECENT_MAX,
)
from tweetcrawler.errors import RequestRefused
from tweetcrawler.ids import id_at
from tweetcrawler.news import Note, Result
from tweetcrawler.request import APP, BOTH
from tweetcrawler.targets import Claim, Target
from tweetcrawler.walk import RECENT_REASON, Descent, Reach, Source, chosen_holes, descend
from tweetcrawler.work.kinds import CRAWL, Chunk, Kind, Work, Worker, together

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page, X

NAME = "open"
QUERIES_A_CHUNK = 100
# The lower end of a walk through the last week moves; it is looked at again after this time.
EDGE_S = 90.0
# The cap of a search counts the posts that were bought in the time that recent search covers.
CAP_S = 7 * 86_400.0

_RECENT_NOTE = (
    "recent search looks back 7 days; what is older is marked as unreachable, --archive reads it"
)
_RETWEETS_NOTE = (
    "a search for words or hashtags brings no retweets, since X leaves them out (from May 2026 on)"
)
_CAP_NOTE = "trends that have had --max-per-trend posts within a week get no more for now"


def work(queries: Sequence[str], reach: Reach) -> Work:
    """The posts of normalised queries."""
    return Work({NAME: queries}, {CRAWL: reach}, total=len(queries), processes=len(queries))


def open_chunk(worker: Worker, queries: list[str]) -> Result:
    """Turns queries into targets, which asks X nothing."""
    return together(worker, queries, partial(_open, worker))


def _open(worker: Worker, queries: list[str], chunk: Chunk) -> None:
    with worker.session() as session:
        chunk.find(CRAWL, session.open_searches(queries))


OPEN = Kind(NAME, do=open_chunk, called=str, most=QUERIES_A_CHUNK, feeds=True)


def source_of(target: Target) -> Source:
    """X's endpoint of the last week; a search of the archive changes it."""
    query = target.username or ""

    def fetch(x: X, ask: Ask, user_auth: bool, count: int) -> Page:
        return x.search_recent(
            query,
            since_id=ask.since_id,
            until_id=ask.until_id,
            token=ask.token,
            user_auth=user_auth,
            max_results=count,
        )

    return Source(SEARCH_RECENT, BOTH, SEARCH_MIN, SEARCH_RECENT_MAX, fetch)


def archive_of(query: str) -> Source:
    """X's endpoint of all posts that match a query."""

    # All sources have one shape, and only an app may search the archive.
    def fetch(x: X, ask: Ask, user_auth: bool, count: int) -> Page:  # noqa: ARG001
        return x.search_all(
            query, since_id=ask.since_id, until_id=ask.until_id, token=ask.token, max_results=count
        )

    return Source(SEARCH_ALL, APP, SEARCH_MIN, SEARCH_ALL_MAX, fetch)


def recent_floor(worker: Worker) -> int:
    """The lowest id that recent search reaches now, by X's clock."""
    x_now_s = time.time() + worker.requests.x_ahead_s
    return id_at(int((x_now_s - RECENT_S) * 1000))


def walk(descent: Descent) -> None:
    """Walks all holes of a search."""
    claim = descent.lease.take()
    if claim.crawled:
        return
    worker, reach, target = descent.worker, descent.reach, descent.target
    worker.tell(Note(_RETWEETS_NOTE))
    if reach.cap is not None:
        descent.left = reach.cap - descent.session.posts_within(target.id, CAP_S)
    if reach.archive:
        descent.source = archive_of(target.username or "")
        open_holes = coverage.holes(claim.covered, within=reach.bounds)
        for hole in chosen_holes(descent, open_holes, claim):
            descend(descent, Walk(hole, depth_limit=None))
    else:
        while not _walk_recent(descent, claim):
            claim = descent.lease.take()
    if not descent.may_buy:
        worker.tell(Note(_CAP_NOTE))


def _walk_recent(descent: Descent, claim: Claim) -> bool:
    """Walks the holes that recent search reaches; False when time or X's clock has moved
    the edge: look again.
    """
    worker = descent.worker
    floor = recent_floor(worker)
    if claim.unreachable:
        worker.tell(Note(_RECENT_NOTE))
    open_holes = coverage.holes(claim.covered, claim.unreachable, within=descent.reach.bounds)
    for open_hole in chosen_holes(descent, open_holes, claim):
        hole, descent.beyond = coverage.reachable(open_hole, floor)
        if descent.beyond is not None:
            worker.tell(Note(_RECENT_NOTE))
        if hole is None:
            assert descent.beyond is not None  # noqa: S101 - one of both there is
            descent.session.give_up(descent.target.id, descent.beyond, RECENT_REASON)
        elif not _walk_until_edge(descent, Walk(hole, depth_limit=None)):
            return False
    return True


def _walk_until_edge(descent: Descent, walk: Walk) -> bool:
    requests = descent.worker.requests
    ahead_s = requests.x_ahead_s
    try:
        descend(descent, walk, until_s=time.monotonic() + EDGE_S)
    except RequestRefused:
        # X calls ids too old that are not, by a clock which is wrong: its answer told what
        # time it is.
        if abs(requests.x_ahead_s - ahead_s) < EDGE_S / 2:
            raise
        return False
    return walk.ask is None or not descent.may_buy
