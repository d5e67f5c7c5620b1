"""Pages of X as they were bought, and their rows on the way to a sink."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tweetcrawler.coverage import Range
from tweetcrawler.flatten import NOTHING_TOLD, Told
from tweetcrawler.targets import Target


@dataclass(frozen=True)
class Bought:
    """One answer of X as it was paid for; `body` is the answer's JSON as received.

    `cost` is its price in millionths of a USD, which budgets of all runs learn; None where
    prices are not known. `reserved`: a budget set it aside before.
    """

    endpoint: str
    params: Mapping[str, str]
    credential: str
    # Bytes, not the parsed answer: X adds keys that only a later version of this program will
    # read, out of the stored pages.
    body: bytes
    posts: int = 0
    users: int = 0
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    cost: int | None = None
    reserved: bool = False


@dataclass(frozen=True)
class StoredPage:
    """One answer of X as it is stored; `body` is its JSON as received.

    `position` is what a reader of all pages remembers in order to go on after this one.
    `target` is None for an answer that belongs to no target, `fetched_at` is in seconds since
    1970.
    """

    id: uuid.UUID
    position: int
    fetched_at: float
    endpoint: str
    target: int | None
    body: bytes


@dataclass(frozen=True)
class Batch:
    """The rows of one page of a target, and what the page makes known of it.

    `rows` are keyed by `flatten.COLUMNS`, ascending by id and unique; `refused` are `(id,
    reason)` of the posts that gave no row. `covered` and `young` are those of
    `coverage.Learned`. `username` and `account_posts` are news of the user, None where the
    page told nothing. `searched` says that a search found the posts: the store remembers
    which. Posts that were looked up by id belong to no target. `told` are the users of the
    page, and rows that lack a name.
    """

    target: int | None
    bought: Bought
    # Two writers that lock rows in different orders deadlock, and ON CONFLICT may not touch a
    # row twice in one statement. Hence the order, and each id once.
    rows: Sequence[Mapping[str, Any]]
    # A text: what was refused as an id need not be a number.
    refused: Sequence[tuple[str | None, str]] = ()
    covered: Range | None = None
    young: Sequence[int] = ()
    unreachable: Range | None = None
    unreachable_reason: str = ""
    username: str | None = None
    account_posts: int | None = None
    searched: bool = False
    told: Told = NOTHING_TOLD

    @property
    def known(self) -> list[Range]:
        """All ids that the page makes known, as ranges."""
        single = [(post, post + 1) for post in self.young]
        return [self.covered, *single] if self.covered else single

    @property
    def is_empty(self) -> bool:
        """True if losing it would cost nothing: no post was paid for, and nothing was learned."""
        bought = self.rows or self.refused or self.bought.posts
        learned = self.covered or self.unreachable or self.username
        counted = self.account_posts is not None or self.bought.reserved or self.bought.cost
        return not (bought or learned or counted)


@dataclass(frozen=True)
class NoNews:
    """The end of a walk whose last page brought nothing, so that it may be noted a little
    later than it was seen.
    """

    target: Target
    bought: Bought
    state: str
    reason: str


@dataclass(frozen=True)
class Saved:
    """The effect of saving a batch: rows that are new, rows that changed; `leased` says
    that the lease still holds, `again` that the page was stored before. `refused` says why the
    table did not take the rows: the page is stored without them.
    """

    new: int
    updated: int
    leased: bool
    refused: str = ""
    again: bool = False


@dataclass(frozen=True)
class Forgotten:
    """A target that was forgotten: its name, the number of its rows that went, and what was
    `bought` of it, as (endpoint, requests, posts, users).
    """

    name: str
    rows: int
    bought: Sequence[tuple[str, int, int, int]]


@dataclass(frozen=True)
class Gone:
    """A post that X did not give: "missing", "protected" or "refused", and X's reason."""

    id: int
    state: str
    reason: str


@dataclass(frozen=True)
class Metrics:
    """The counts of a post at one moment; None where X did not tell."""

    id: int
    like_count: int | None
    retweet_count: int | None
    reply_count: int | None
    quote_count: int | None
    bookmark_count: int | None
    impression_count: int | None


class Observed(NamedTuple):
    """Counts of a post as its source saw them, at a time in seconds since 1970."""

    id: int
    seen_at: float
    like_count: int | None
    retweet_count: int | None


@dataclass(frozen=True)
class PartCount:
    """The number of posts of a query from `begins_at` on, in seconds since 1970, in a count from
    `since_id` to `until_id` (exclusive; None: to the present) that began at `ends_at`.
    """

    query: str
    endpoint: str
    since_id: int
    until_id: int | None
    posts: int = 0
    begins_at: float | None = None
    ends_at: float | None = None
    is_done: bool = False


@dataclass(frozen=True)
class Lookup:
    """Posts by id, sorted by who asks X for them: this process, another one, nobody since
    they are known.
    """

    mine: Sequence[int]
    others: Sequence[int]
    known: Sequence[int]
