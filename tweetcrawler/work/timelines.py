"""Timelines of users: how the holes of one are walked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tweetcrawler import coverage, queries
from tweetcrawler.coverage import Ask, Hole, Walk
from tweetcrawler.endpoints import TIMELINE_MIN, USER_TWEETS
from tweetcrawler.ids import id_at
from tweetcrawler.request import BOTH
from tweetcrawler.targets import Target
from tweetcrawler.walk import Descent, Source, chosen_holes, descend
from tweetcrawler.work.searches import archive_of

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page, X


def source_of(target: Target) -> Source:
    """X's endpoint of a user's posts."""

    def fetch(x: X, ask: Ask, user_auth: bool, count: int) -> Page:
        return x.user_tweets(
            target.key or "",
            since_id=ask.since_id or None,
            until_id=ask.until_id,
            token=ask.token,
            user_auth=user_auth,
            max_results=count,
        )

    def prove(x: X, user_auth: bool) -> Page:
        now = id_at(int((time.time() + x.ahead_s) * 1000))
        return fetch(x, Ask(now, None), user_auth, TIMELINE_MIN)

    return Source(USER_TWEETS, BOTH, TIMELINE_MIN, 100, fetch, prove)


def walk(descent: Descent) -> None:
    """Walks all holes of a timeline."""
    session, target = descent.session, descent.target
    claim = descent.lease.take()
    if claim.crawled:
        return
    descent.account_posts = claim.account_posts
    # The hole at the top stays open: asked first, it would cost a request, perhaps a
    # window's only one, after every interruption, and the holes below it would never be
    # reached.
    holes = coverage.holes(claim.covered, claim.unreachable)
    for hole in chosen_holes(descent, holes, claim, top_last=True):
        above = session.posts_above(target.id, hole.until_id) if hole.until_id is not None else 0
        descent.may_wait = hole.until_id is None and not descent.reach.archive
        descend(descent, Walk(hole, above, descent.account_posts))
    if descent.reach.archive:
        _walk_beyond(descent)


def _walk_beyond(descent: Descent) -> None:
    """Reads from the archive the posts that the timeline does not reach."""
    claim = descent.lease.take()
    query = queries.from_user(descent.username or descent.target.handle)
    descent.source = archive_of(query)
    for lower, upper in reversed(coverage.difference(claim.unreachable, claim.covered)):
        descend(descent, Walk(Hole(lower - 1, upper), depth_limit=None))
