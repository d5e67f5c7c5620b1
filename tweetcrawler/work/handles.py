"""Handles become targets: looked up in the store, and those unknown by one request per
hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from tweetcrawler.endpoints import HANDLES_A_LOOKUP, USERS_BY
from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.news import Note, Outcome, PageRead, Result
from tweetcrawler.run import Names, Session
from tweetcrawler.targets import Target
from tweetcrawler.walk import Reach
from tweetcrawler.work import answers
from tweetcrawler.work.kinds import (
    BUSY_S,
    CRAWL,
    RETRY_S,
    Chunk,
    Kind,
    Work,
    Worker,
    together,
)

NAME = "resolve"


@dataclass(frozen=True)
class Resolving:
    """Whether the timelines of the users are walked, too."""

    walks: bool = True


def work(handles: Iterable[str], *, count: int | None = None, archive: bool = False) -> Work:
    """The timelines of handles; `handles` is read as fast as the work needs it."""
    return Work({NAME: handles}, {CRAWL: Reach(archive)}, total=count)


def only_users(handles: Iterable[str]) -> Work:
    """The users of handles, without their timelines."""
    return Work({NAME: handles}, {NAME: Resolving(walks=False)})


def resolve_chunk(worker: Worker, handles: list[str]) -> Result:
    """Turns up to 100 handles into targets."""
    return together(worker, handles, partial(_resolve, worker))


def _resolve(worker: Worker, handles: list[str], chunk: Chunk) -> None:
    with worker.session() as session:
        before = _followed(worker, session, handles)
        known, unknown = _known(worker, session.targets(handles), handles)
        _hand_on(worker, [*before, *known], chunk)
        chunk.at_hand = unknown
        if unknown:
            _hand_on(worker, _look_up(worker, session, unknown, chunk), chunk)


def _followed(worker: Worker, session: Session, handles: Sequence[str]) -> list[Target]:
    """The users who had one of the handles before others took it.

    X is asked whose the handle of a renamed user is now, as rarely as for a missing one.
    """
    if not isinstance(session, Names):
        return []
    left = session.left_names(handles, rest_s=worker.rest_s)
    if left:
        with worker.requests.buying(session, USERS_BY, len(left), what="users") as purchase:
            asked = left[: purchase.units]
            page = purchase.ask(lambda x, user_auth: x.users_by(asked, user_auth=user_auth))
        found, _, _ = answers.resolved(page, asked)
        session.save_names(worker.job.run, purchase.bought, asked, found)
        worker.tell(PageRead(purchase.credential))
    followed = session.formerly(handles)
    for target in followed:
        said = f"{target.name}, the user of that name before, is followed, too"
        worker.tell(Note(f"a handle of the list is another user's now; {said}"))
    return [target for target in followed if target.handle not in handles]


def _hand_on(worker: Worker, targets: Sequence[Target], chunk: Chunk) -> None:
    wanted: Resolving = worker.job.parameters.get(NAME, Resolving())
    if wanted.walks:
        chunk.find(CRAWL, targets)
        return
    for target in targets:
        worker.tell(Outcome(target.name, "ok"))


def _known(
    worker: Worker, known: dict[str, Target], handles: Sequence[str]
) -> tuple[list[Target], list[str]]:
    """The targets of known users, and the handles that X is to be asked for."""
    targets, unknown = [], []
    for handle in handles:
        target = known.get(handle)
        # With recheckDays = 0 nobody rests, whatever an earlier run had noted.
        rests = target is not None and target.rests_s > 0 and worker.rest_s > 0
        if target is None or (target.key is None and not rests):
            unknown.append(handle)
        elif rests:
            worker.tell(Outcome(f"@{handle}", target.state, _resting(target)))
        else:
            targets.append(target)
    return targets, unknown


def _look_up(
    worker: Worker, session: Session, unknown: Sequence[str], chunk: Chunk
) -> list[Target]:
    buying = worker.requests.buying(session, USERS_BY, len(unknown), what="users")
    with buying as purchase:
        # The budget may pay for fewer users than X would look up at once.
        chunk.postpone(unknown[purchase.units :])
        chunk.at_hand = names = _claimed(worker, session, unknown[: purchase.units], chunk)
        if not names:
            return []
        try:
            page = purchase.ask(lambda x, user_auth: x.users_by(names, user_auth=user_auth))
        except TweetcrawlerError:
            # The handles are claimed by name: another process may ask for them at once.
            session.release(worker.owner)
            raise
    found, absent, open_ = answers.resolved(page, names)
    session.save_users(worker.job.run, purchase.bought, found, absent, rest_s=worker.rest_s)
    worker.tell(PageRead(purchase.credential))
    if open_:
        # Claims that were answered went with the users that were saved. These are free again,
        # so that another process need not wait for their end.
        session.release(worker.owner)
        for handle, why in open_.items():
            chunk.postpone([handle], RETRY_S, why)
    for one in absent:
        worker.tell(Outcome(f"@{one.handle}", one.state, one.reason))
    resolved = session.targets([one.handle for one in found])
    return [resolved[one.handle] for one in found if one.handle in resolved]


def _claimed(worker: Worker, session: Session, handles: Sequence[str], chunk: Chunk) -> list[str]:
    mine = session.claim_handles(handles, worker.owner)
    chunk.postpone([handle for handle in handles if handle not in mine], BUSY_S)
    return [handle for handle in handles if handle in mine]


def _resting(target: Target) -> str:
    days = max(1, round(target.rests_s / 86_400))
    return f"{target.reason} (known; asked again in {days} day{'s' if days > 1 else ''})"


RESOLVE = Kind(
    NAME,
    do=resolve_chunk,
    called=lambda handle: f"@{handle}",
    most=HANDLES_A_LOOKUP,
    fewest=HANDLES_A_LOOKUP,
    feeds=True,
)
