"""Numbers of the posts of queries, as X counts them; no post is bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tweetcrawler.endpoints import COUNTS_ALL, COUNTS_RECENT, counted_from_s
from tweetcrawler.errors import RequestRefused
from tweetcrawler.ids import FIRST_DATED_ID
from tweetcrawler.look.sections import moment
from tweetcrawler.news import Counted, Note, Outcome, PageRead, Result
from tweetcrawler.pages import PartCount
from tweetcrawler.request import APP
from tweetcrawler.run import Counts, Session
from tweetcrawler.walk import Reach
from tweetcrawler.work import answers
from tweetcrawler.work.kinds import Chunk, Kind, Stopping, Work, Worker, one_by_one
from tweetcrawler.work.searches import recent_floor

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page, X

NAME = "count"


@dataclass(frozen=True)
class Counting:
    """A query whose posts are being counted: how far, and where to go on.

    `token` leads on from the last page, to the pages before `end_s`.
    """

    query: str
    part: PartCount | None = None
    token: str | None = None
    end_s: float | None = None


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
        with worker.session() as session:
            part = _to_the_end(worker, session, counting, chunk)
    except RequestRefused as error:
        worker.tell(Outcome(counting.query, "failed", str(error)))
        return
    worker.tell(Counted(counting.query, part.posts))
    worker.tell(Outcome(counting.query, "ok"))


def _to_the_end(worker: Worker, session: Session, counting: Counting, chunk: Chunk) -> PartCount:
    counting, part = _opened(worker, session, counting)
    while not part.is_done:
        # Each page is a month of the archive: a query since 2006 takes over two hundred
        # requests.
        if worker.stopping():
            raise Stopping
        buying = worker.requests.buying(session, part.endpoint, 0, what="nothing", kinds=APP)
        with buying as purchase:
            page = purchase.ask(partial(_asked, part, counting))
        part = _with_page(part, page)
        # Counting is free of posts, but the request counts against X's limits.
        if isinstance(session, Counts) and part.endpoint == COUNTS_ALL:
            session.save_count(worker.job.run, purchase.bought, part)
        else:
            session.save_page(worker.job.run, purchase.bought)
        worker.tell(PageRead(purchase.credential))
        # What was counted goes along with the token: an interrupted query is not paid for
        # twice.
        end_s = counting.end_s if page.next_token else part.begins_at
        counting = Counting(counting.query, part, page.next_token, end_s)
        chunk.at_hand = [counting]
        if part.begins_at is not None and not part.is_done:
            worker.tell(Counted(part.query, part.posts, part.begins_at))
    return part


def _opened(worker: Worker, session: Session, counting: Counting) -> tuple[Counting, PartCount]:
    """The count as far as it came in this run, or in an earlier one."""
    if counting.part is not None:
        return counting, counting.part
    reach: Reach = worker.job.parameters.get(NAME, Reach())
    since_id = reach.bounds.lowest - 1
    if not reach.archive:
        since_id = max(since_id, recent_floor(worker) - 1)
        return counting, PartCount(counting.query, COUNTS_RECENT, since_id, reach.bounds.end)
    part = PartCount(counting.query, COUNTS_ALL, since_id, reach.bounds.end)
    if isinstance(session, Counts):
        part = session.open_count(part)
    if part.begins_at is not None and part.ends_at is not None:
        begun = moment(part.ends_at)
        worker.tell(Note(f"the count of {part.query} that was begun at {begun} UTC goes on"))
        worker.tell(Counted(part.query, part.posts, part.begins_at))
    return replace(counting, end_s=part.begins_at), part


def _asked(part: PartCount, counting: Counting, x: X, _user_auth: bool) -> Page:
    return x.counts(
        part.endpoint,
        part.query,
        since_id=part.since_id,
        until_id=part.until_id,
        token=counting.token,
        end_s=counting.end_s,
    )


def _with_page(part: PartCount, page: Page) -> PartCount:
    """The count with one page more: done when it reaches its start, or makes no progress."""
    span = answers.counted_span(page)
    begins_at = span[0] if span else part.begins_at
    is_done = page.next_token is None and (
        part.endpoint != COUNTS_ALL
        or begins_at is None
        or begins_at == part.begins_at
        # Such an id has no time at which the count could be seen to have reached it.
        or 0 < part.since_id < FIRST_DATED_ID
        or begins_at <= counted_from_s(part.since_id) + 1.0
    )
    return replace(
        part,
        posts=part.posts + answers.total(page),
        begins_at=begins_at,
        ends_at=part.ends_at or (span[1] if span else None),
        is_done=is_done,
    )


COUNT = Kind(NAME, do=count_chunk, called=lambda counting: str(counting.query))
