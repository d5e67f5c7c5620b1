"""Numbers of the posts of queries, as X counts them; no post is bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tweetcrawler.endpoints import COUNTS_ALL, COUNTS_RECENT
from tweetcrawler.errors import RequestRefused
from tweetcrawler.news import Counted, Outcome, PageRead, Result
from tweetcrawler.request import APP
from tweetcrawler.walk import Reach
from tweetcrawler.work import answers
from tweetcrawler.work.kinds import Chunk, Kind, Stopping, Work, Worker, one_by_one
from tweetcrawler.work.searches import recent_floor

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page, X

NAME = "count"


@dataclass(frozen=True)
class Counting:
    """A query whose posts are being counted: their number up to now, and where to go on."""

    query: str
    posts: int = 0
    token: str | None = None


@dataclass(frozen=True)
class _Endpoint:
    name: str
    since_id: int
    until_id: int | None

    def ask(self, x: X, _user_auth: bool, *, counting: Counting) -> Page:
        return x.counts(
            self.name,
            counting.query,
            since_id=self.since_id,
            until_id=self.until_id,
            token=counting.token,
        )


def work(queries: Sequence[str], reach: Reach) -> Work:
    """The numbers of posts of normalised queries."""
    units = [Counting(query) for query in queries]
    return Work({NAME: units}, {NAME: reach}, total=len(units), processes=len(units))


def count_chunk(worker: Worker, units: list[Counting]) -> Result:
    """Asks for the numbers of posts of queries."""
    return one_by_one(worker, units, partial(_count, worker))


def _count(worker: Worker, counting: Counting, chunk: Chunk) -> None:
    """Asks month by month."""
    try:
        counting = _to_the_end(worker, counting, chunk)
    except RequestRefused as error:
        worker.tell(Outcome(counting.query, "failed", str(error)))
        return
    worker.tell(Counted(counting.query, counting.posts))
    worker.tell(Outcome(counting.query, "ok"))


def _to_the_end(worker: Worker, counting: Counting, chunk: Chunk) -> Counting:
    endpoint = _endpoint_of(worker)
    with worker.session() as session:
        while True:
            # Each page is a month of the archive: a query since 2006 takes over two hundred
            # requests.
            if worker.stopping():
                raise Stopping
            with worker.requests.buying(
                session, endpoint.name, 0, what="nothing", kinds=APP
            ) as purchase:
                page = purchase.ask(partial(endpoint.ask, counting=counting))
            # Counting is free of posts, but the request counts against X's limits.
            session.save_page(worker.job.run, purchase.bought)
            worker.tell(PageRead(purchase.credential))
            posts = counting.posts + answers.total(page)
            counting = replace(counting, posts=posts, token=page.next_token)
            # What was counted goes along with the token: an interrupted query is not paid for
            # twice.
            chunk.at_hand = [counting]
            if counting.token is None:
                return counting


def _endpoint_of(worker: Worker) -> _Endpoint:
    reach: Reach = worker.job.parameters.get(NAME, Reach())
    since_id = reach.bounds.lowest - 1
    if reach.archive:
        return _Endpoint(COUNTS_ALL, since_id, reach.bounds.end)
    return _Endpoint(COUNTS_RECENT, max(since_id, recent_floor(worker) - 1), reach.bounds.end)


COUNT = Kind(NAME, do=count_chunk, called=lambda counting: str(counting.query))
