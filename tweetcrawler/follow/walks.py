"""Kinds of work of the room: users are looked up, and their lists walked page by page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tweetcrawler.endpoints import (
    ENTRIES_A_PAGE,
    FOLLOWERS,
    FOLLOWING,
    HANDLES_A_LOOKUP,
    USERS_BY,
)
from tweetcrawler.errors import RequestRefused, TargetRefused, TweetcrawlerError
from tweetcrawler.follow.books import (
    INCOMPLETE,
    REFUSED,
    SHORT,
    WALKING,
    Books,
    Listing,
    Walk,
    books_of,
)
from tweetcrawler.news import Note, Outcome, PageRead, Result
from tweetcrawler.targets import FAILED, OK
from tweetcrawler.work import answers
from tweetcrawler.work.kinds import (
    BUSY_S,
    RETRY_S,
    Chunk,
    Kind,
    Stopping,
    Work,
    Worker,
    one_by_one,
    together,
)

if TYPE_CHECKING:
    from tweetcrawler.run import Session
    from tweetcrawler.xapi import Page

PEOPLE, LISTS = "people", "lists"
# Counts of users that were looked up within this time are as good as new ones.
KNOWN_S = 86_400.0
AGAIN = "run the same command again with --restart to buy it from its top"


@dataclass(frozen=True)
class Wanted:
    """Lists of the users who are looked up: which command they belong to, and which they are."""

    follow: int
    directions: tuple[bool, ...]


@dataclass(frozen=True)
class Walking:
    """How lists are walked: `newest` ends at the first entry that is known, `restarts` begins
    again at the top when X takes a token no more.
    """

    newest: bool = False
    restarts: bool = False


def people(handles: Iterable[str], wanted: Wanted) -> Work:
    """The users of handles."""
    return Work({PEOPLE: handles}, {PEOPLE: wanted})


def lists(listings: Sequence[Listing], walking: Walking) -> Work:
    """Lists, each to its end."""
    return Work({LISTS: listings}, {LISTS: walking}, total=len(listings), processes=len(listings))


# -- users ---------------------------------------------------------------------------------------


def see_chunk(worker: Worker, handles: list[str]) -> Result:
    """Looks up to 100 handles up, and takes their lists into the command."""
    return together(worker, handles, partial(_see, worker))


def _see(worker: Worker, handles: list[str], chunk: Chunk) -> None:
    wanted: Wanted = worker.job.parameters[PEOPLE]
    with worker.session() as session:
        books = books_of(session)
        known = books.known(handles, within_s=KNOWN_S)
        unknown = [handle for handle in handles if handle not in known]
        found = [one.user_id for one in known.values()]
        if unknown:
            found += _looked_up(worker, session, books, unknown, chunk)
        books.want(wanted.follow, found, wanted.directions)
    for handle in known:
        worker.tell(Outcome(f"@{handle}", OK))


def _looked_up(
    worker: Worker, session: Session, books: Books, handles: Sequence[str], chunk: Chunk
) -> list[int]:
    with worker.requests.buying(session, USERS_BY, len(handles), what="users") as purchase:
        names = handles[: purchase.units]
        chunk.postpone(handles[purchase.units :])
        page = purchase.ask(lambda x, user_auth: x.users_by(names, user_auth=user_auth))
    users = _users(page)
    books.save_people(worker.job.run, purchase.bought, users)
    worker.tell(PageRead(purchase.credential))
    found, absent, open_ = answers.resolved(page, names)
    for handle, why in open_.items():
        chunk.postpone([handle], RETRY_S, why)
    for one in absent:
        worker.tell(Outcome(f"@{one.handle}", one.state, one.reason))
    for one_found in found:
        worker.tell(Outcome(f"@{one_found.handle}", OK))
    return [int(one_found.user_id) for one_found in found]


# -- lists ---------------------------------------------------------------------------------------


def walk_chunk(worker: Worker, listings: list[Listing]) -> Result:
    """Walks lists one after the other."""
    return one_by_one(worker, listings, partial(_walk, worker))


def _walk(worker: Worker, listing: Listing, chunk: Chunk) -> None:
    walking: Walking = worker.job.parameters[LISTS]
    with worker.session() as session:
        books = books_of(session)
        reason = None if walking.restarts else books.lost_its_place(listing)
        if reason is not None:
            books.give_up(listing, None, INCOMPLETE, reason)
            worker.tell(Outcome(listing.title, FAILED, reason))
            return
        walk = books.claim(listing, worker.owner, worker.job.run)
        if walk is None:
            chunk.postpone([listing], BUSY_S)
            return
        try:
            outcome = _to_its_end(worker, session, books, listing, walk)
        except TargetRefused as refusal:
            outcome = Outcome(listing.title, refusal.state, refusal.reason)
            books.give_up(listing, walk, REFUSED, refusal.reason)
        except RequestRefused as error:
            outcome = Outcome(listing.title, FAILED, str(error))
            books.give_up(listing, walk, REFUSED, str(error))
        except TweetcrawlerError:
            books.release(walk, worker.owner)
            raise
    worker.tell(outcome)


def _to_its_end(
    worker: Worker, session: Session, books: Books, listing: Listing, walk: Walk
) -> Outcome:
    """Walks a list from where it is."""
    walking: Walking = worker.job.parameters[LISTS]
    token, state, began_again = walk.token, WALKING, False
    while state == WALKING:
        try:
            page = _page(worker, session, books, listing, walk, token, walking)
        except RequestRefused as error:
            if token is None:
                raise
            # Twice is enough: from the top it would buy the same pages for ever.
            if began_again or not (walking.restarts or walk.is_today):
                why = f"X takes its token no more ({error}); {AGAIN}"
                books.give_up(listing, walk, INCOMPLETE, why)
                return Outcome(listing.title, FAILED, why)
            # What was bought on the same UTC day is charged once, as far as X tells.
            books.restart(walk)
            worker.tell(Note(f"{listing.title}: X takes the token no more; it begins at the top"))
            token, began_again = None, True
            continue
        state, token = page
        if state == WALKING and worker.stopping():
            raise Stopping
    if state == SHORT:
        worker.tell(Note(f"{listing.title}: X lists fewer than it counts; nobody is noted as gone"))
    return Outcome(listing.title, OK)


def _page(
    worker: Worker,
    session: Session,
    books: Books,
    listing: Listing,
    walk: Walk,
    token: str | None,
    walking: Walking,
) -> tuple[str, str | None]:
    """Buys and stores one page; gives the state of the walk after it, and its next token."""
    endpoint = FOLLOWING if listing.is_following else FOLLOWERS
    with worker.requests.buying(
        session, endpoint, ENTRIES_A_PAGE, what="users", about=listing.title
    ) as purchase:
        page = purchase.ask(
            lambda x, user_auth: x.network(
                endpoint,
                listing.user_id,
                token=token,
                max_results=purchase.units,
                user_auth=user_auth,
            )
        )
        state = books.save(
            worker.job.run,
            worker.owner,
            listing,
            walk,
            purchase.bought,
            _users(page),
            page.next_token,
            stops_at_known=walking.newest,
        )
    worker.tell(PageRead(purchase.credential))
    return state, page.next_token


def _users(page: Page) -> list[Mapping[str, Any]]:
    """The users of a page who have an id."""
    return [user for user in page.data if str(user.get("id")).isdecimal()]


SEE_PEOPLE = Kind(
    PEOPLE,
    do=see_chunk,
    called=lambda handle: f"@{handle}",
    most=HANDLES_A_LOOKUP,
    fewest=HANDLES_A_LOOKUP,
)
WALK_LISTS = Kind(LISTS, do=walk_chunk, called=lambda listing: listing.title)
