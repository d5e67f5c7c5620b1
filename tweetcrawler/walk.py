"""One descent through a target: page after page, newest first, each saved with the coverage
that it adds.

Whatever interrupts a walk, the next one goes on with the holes of the coverage; nothing
else is remembered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tweetcrawler import coverage
from tweetcrawler.coverage import EVERYTHING, Ask, Bounds, Hole, Range, Walk
from tweetcrawler.endpoints import SEARCH_MIN
from tweetcrawler.errors import RequestRefused, XUnavailable
from tweetcrawler.flatten import flatten
from tweetcrawler.leases import ChunkLeases, Lease
from tweetcrawler.news import Kept, PageRead
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.permits import Kind
from tweetcrawler.request import Purchase
from tweetcrawler.run import Session
from tweetcrawler.targets import SEARCH, Claim, Target
from tweetcrawler.work.answers import is_id, news_of_user
from tweetcrawler.work.kinds import Stopping, Worker

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page, X

RECENT_REASON = "recent search looks back 7 days"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reach:
    """The reach of walks: `archive` reads all posts since 2006, `bounds` are the wanted ids,
    and `cap` is the number of posts of one search in a week, None for all.
    """

    archive: bool = False
    bounds: Bounds = EVERYTHING
    cap: int | None = None


@dataclass(frozen=True)
class Source:
    """An endpoint that gives a target's posts: `fetch(x, ask, user_auth, max_results)` gives
    a page of `smallest` to `largest` posts. `proof` asks the same for posts that are not
    written yet, to see whether X answers.
    """

    endpoint: str
    kinds: tuple[Kind, ...]
    smallest: int
    largest: int
    fetch: Callable[[X, Ask, bool, int], Page]
    proof: Callable[[X, bool], Page] | None = None


@dataclass
class Descent:
    """One visit to a target, over all of its holes, with the knowledge gathered on the way.

    `session` is the target's own; it connects only when there is something to save. `left`
    is how many posts may still be bought, None for all, and `largest` the size of page that
    answers are not too long with. `moved`: pages were saved. `beyond` are the ids below a hole
    that its source does not reach. Where the last page brought nothing and `may_wait`, it is
    not saved yet, but is `last`.
    """

    worker: Worker
    session: Session
    leases: ChunkLeases
    target: Target
    lease: Lease
    source: Source
    reach: Reach
    username: str | None = None
    account_posts: int | None = None
    left: int | None = None
    largest: int | None = None
    moved: bool = False
    beyond: Range | None = None
    stalled: bool = False
    may_wait: bool = False
    last: Bought | None = None

    def fetch(self, x: X, user_auth: bool, *, ask: Ask, count: int) -> Page:
        """A page, unless the lease is over: waiting for a permit takes its time, and a
        process may be stopped.
        """
        self.lease.look()
        return self.source.fetch(x, ask, user_auth, count)

    @property
    def may_buy(self) -> bool:
        """Whether there is something left of the cap."""
        return self.left is None or self.left > 0


def chosen_holes(
    descent: Descent, holes: Sequence[Hole], claim: Claim, *, top_last: bool = False
) -> Iterator[Hole]:
    """The holes to be asked for now, newest first: gaps between the posts of the last minute
    are left for a later visit.
    """
    gaps = coverage.gaps(claim.covered)

    def settled() -> list[Hole]:
        x_now_s = time.time() + descent.worker.requests.x_ahead_s
        return coverage.settled_gaps(gaps, coverage.settled_below(x_now_s))

    first = [*(hole for hole in holes if hole not in gaps), *settled()]
    first.sort(key=lambda hole: (top_last and hole.until_id is None, -hole.since_id))
    yield from first
    # X's answers have told what time it is: by this machine's clock some may have been too young.
    yield from (hole for hole in settled() if hole not in first)


def descend(descent: Descent, walk: Walk, *, until_s: float = float("inf")) -> None:
    """Walks to the end of a hole, to the last post that may be bought, or to a moment.

    **Errors**: `LeaseLost`, `MustWait`, `XUnavailable`, `Stopping`; all leave the hole as
    far as it was read.
    """
    while walk.ask is not None and descent.may_buy and time.monotonic() < until_s:
        if descent.worker.stopping():
            raise Stopping
        descent.lease.hold()
        purchase = _next_page(descent, walk)
        batch = _batch(descent, walk, purchase)
        if descent.may_wait and walk.ask is None and batch.is_empty and not walk.stalled:
            descent.last = batch.bought
            break
        _save(descent, batch, purchase)
        if batch.account_posts is not None:
            walk.account_posts = descent.account_posts = batch.account_posts
    descent.stalled = descent.stalled or walk.stalled
    log.debug("%s: %s", descent.target.name, "stalled" if walk.stalled else "at a hole's end")


def _next_page(descent: Descent, walk: Walk) -> Purchase:
    source = descent.source
    count = min(source.largest, descent.largest or source.largest)
    if descent.left is not None:
        count = max(SEARCH_MIN, min(count, descent.left))
    lost = 0
    while True:
        ask = walk.ask
        assert ask is not None  # noqa: S101 - the caller looked
        try:
            # Money and permits are the process's: they take the session of the chunk, so
            # that a target without news needs no connection of its own.
            with descent.worker.requests.buying(
                descent.leases.session,
                source.endpoint,
                count,
                fewest=source.smallest,
                kinds=source.kinds,
                about=descent.target.name,
                proof=source.proof,
            ) as purchase:
                purchase.ask(partial(descent.fetch, ask=ask, count=purchase.units))
                return purchase
        except RequestRefused:
            # A token ends after a while; the ids do not.
            if not walk.forget_token():
                raise
        except XUnavailable as error:
            error.moved, error.times_lost = descent.moved, lost + error.is_lost
            # Asked for again as it was, the page would be too long again. Its first half is
            # bought for the second time, and no third time.
            if not error.too_long or lost or count <= source.smallest:
                raise
            lost, descent.largest = 1, max(source.smallest, count // 2)
            count = descent.largest


def _batch(descent: Descent, walk: Walk, purchase: Purchase) -> Batch:
    """The rows of a page, and what it makes known."""
    target, page = descent.target, purchase.page
    flattened = flatten(page.answer, score=descent.worker.score)
    ids = [row["id"] for row in flattened.rows]
    ids += [int(r.tweet_id) for r in flattened.refused if r.tweet_id and is_id(r.tweet_id)]
    settled_below_id = coverage.settled_below(page.server_time_s)
    learned = walk.learn(ids, page.next_token, settled_below_id=settled_below_id)
    unreachable, reason = learned.unreachable, learned.reason
    if descent.beyond is not None and walk.ask is None and not walk.stalled:
        unreachable, reason = descent.beyond, RECENT_REASON
    searched = target.kind == SEARCH
    username, account_posts = (None, None) if searched else news_of_user(page, target.key)
    return Batch(
        target=target.id,
        bought=purchase.bought,
        rows=flattened.rows,
        refused=[(r.tweet_id, r.reason) for r in flattened.refused],
        covered=learned.covered,
        young=learned.young,
        unreachable=unreachable,
        unreachable_reason=reason,
        username=username,
        account_posts=account_posts,
        searched=searched,
        told=flattened.told._replace(seen_at=page.server_time_s),
    )


def _save(descent: Descent, batch: Batch, purchase: Purchase) -> None:
    """Saves a page with the coverage that it adds, which renews the lease."""
    worker = descent.worker
    saved = descent.session.save(
        worker.job.run,
        worker.owner,
        batch,
        keep_body=worker.job.settings.raw,
        # Freeing the answer takes its time; the database does not notice.
        meanwhile=purchase.forget,
    )
    descent.moved = True
    descent.lease.renewed(saved)
    if not saved.leased:
        descent.leases.distrust()
    worker.tell(PageRead(batch.bought.credential, batch.bought.posts, saved.new))
    if saved.refused:
        worker.tell(Kept(descent.target.name, len(batch.rows), saved.refused))
    if descent.left is not None:
        descent.left -= batch.bought.posts
    descent.username = batch.username or descent.username
