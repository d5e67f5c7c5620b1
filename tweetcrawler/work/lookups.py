"""Posts by id: bought unless they are known, with X's reason for each that it does not give."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from tweetcrawler import run
from tweetcrawler.endpoints import TWEETS
from tweetcrawler.errors import TweetcrawlerError, XUnavailable
from tweetcrawler.flatten import flatten
from tweetcrawler.news import Kept, LookedUp, Outcome, PageRead, Result
from tweetcrawler.pages import Batch, Gone
from tweetcrawler.request import Purchase
from tweetcrawler.rooms import rooms
from tweetcrawler.run import Session
from tweetcrawler.words import plural
from tweetcrawler.work import answers
from tweetcrawler.work.kinds import BUSY_S, RETRY_S, Chunk, Kind, Work, Worker, one_by_one

NAME = "look_up"
# Blocks of ids that a worker gets at once.
BLOCKS_A_CHUNK = 10

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Refreshing:
    """Whether the counts of stored posts are read again: those older than `age_s`, None for
    none.
    """

    age_s: float | None = None


def work(blocks: Iterable[Ids], refreshing: Refreshing) -> Work:
    """The posts of ids, given in blocks of at most 100."""
    return Work({NAME: blocks}, {NAME: refreshing})


def look_up_chunk(worker: Worker, blocks: list[Ids]) -> Result:
    """Buys the posts of blocks of ids."""
    return one_by_one(worker, blocks, partial(_look_up, worker))


def _look_up(worker: Worker, ids: Ids, chunk: Chunk) -> None:
    wanted: Refreshing = worker.job.parameters.get(NAME, Refreshing())
    with worker.session() as session:
        with worker.requests.buying(session, TWEETS, len(ids)) as purchase:
            if rest := ids[purchase.units :]:
                chunk.postpone([rest])
            mine = _claimed(worker, session, ids[: purchase.units], wanted, chunk)
            if not mine:
                return
            try:
                purchase.ask(lambda x, user_auth: x.tweets(mine, user_auth=user_auth))
            except TweetcrawlerError as error:
                session.release(worker.owner)
                if isinstance(error, XUnavailable) and error.too_long and len(mine) > 1:
                    # In two halves the posts are bought for the second time, and no third.
                    middle = len(mine) // 2
                    chunk.at_hand = [mine[:middle], mine[middle:]]
                    error.times_lost = 1
                raise
        stored, gone, new = _saved(worker, session, mine, wanted, purchase, chunk)
    worker.tell(PageRead(purchase.credential, purchase.bought.posts, new))
    told = tuple(Outcome(str(each.id), "gone", f"{each.state}: {each.reason}") for each in gone)
    worker.tell(LookedUp("ok", stored, told))


def _claimed(worker: Worker, session: Session, ids: Ids, wanted: Refreshing, chunk: Chunk) -> Ids:
    """The ids that this process is to ask for."""
    store = run.lookups(session)
    lookup = store.claim_ids(ids, worker.owner, age_s=wanted.age_s, rest_s=worker.rest_s)
    if lookup.others:
        chunk.postpone([tuple(lookup.others)], BUSY_S)
    worker.tell(LookedUp("known", len(lookup.known)))
    mine = tuple(lookup.mine)
    chunk.at_hand = [mine]
    return mine


def _saved(
    worker: Worker,
    session: Session,
    ids: Ids,
    wanted: Refreshing,
    purchase: Purchase,
    chunk: Chunk,
) -> tuple[int, Sequence[Gone], int]:
    """Saves a page of posts; gives the number of stored ones, those gone, and the number of
    new ones. Posts of which X says nothing are left for later.
    """
    page, asked = purchase.page, set(ids)
    flattened = flatten(page.answer, score=worker.score)
    # The answer also includes posts that these refer to; nobody asked for them.
    rows = [row for row in flattened.rows if row["id"] in asked]
    stored = {row["id"] for row in rows}
    refused = {r.tweet_id: r.reason for r in flattened.refused}
    gone, open_ = answers.gone(page, sorted(asked - stored), refused)
    for note in _notes():
        note(session, page.data)
    told = flattened.told._replace(seen_at=page.server_time_s)
    saved = run.lookups(session).save_looked_up(
        worker.job.run,
        Batch(None, purchase.bought, rows, list(refused.items()), told=told),
        gone,
        answers.metrics(page, stored) if wanted.age_s is not None else [],
        seen_at=page.server_time_s,
        keep_body=worker.job.settings.raw,
    )
    if saved.refused:
        worker.tell(Kept(f"{plural(len(rows), 'post')} by id", len(rows), saved.refused))
    if open_:
        session.release(worker.owner)
        chunk.postpone([tuple(open_)], RETRY_S, next(iter(open_.values())))
    return 0 if saved.refused else len(stored), gone, saved.new


@cache
def _notes() -> list[Callable[[Session, Sequence[Mapping[str, Any]]], None]]:
    return [pkgutil.resolve_name(room.looked) for room in rooms() if room.looked]


LOOK_UP = Kind(
    NAME,
    do=look_up_chunk,
    called=lambda ids: f"{plural(len(ids), 'id')} from {ids[0]} on",
    most=BLOCKS_A_CHUNK,
    # Ids may come from a pipe that never ends.
    endless=True,
)
