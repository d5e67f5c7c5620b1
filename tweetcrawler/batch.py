"""What passes between the walk and a sink: targets, claims on them, and pages with what
they teach.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tweetcrawler.coverage import Range

TIMELINE = "timeline"
SEARCH = "search"
# How long a claim holds: written by whatever keeps the targets, reckoned with by who walks
# them.
LEASE_S = 60.0


@dataclass(frozen=True)
class Target:
    """A target as stored: a user's timeline or a search.

    Of a timeline, `key` is X's id of the user, None until it is known; `handle` is the name
    as listed (folded), `username` as X spells it. Of a search, `username` is the query as
    it is sent to X, `key` what tells one query from another, `handle` a name for its file.
    `state` is "new", "ok", "renamed", "missing", "suspended", "protected", "refused" or
    "failed", with its `reason`. `rests_s` is how long it need not be asked again, 0 when it
    is due.
    """

    id: int
    handle: str
    key: str | None = None
    username: str | None = None
    state: str = "new"
    reason: str = ""
    rests_s: float = 0.0
    kind: str = TIMELINE

    @property
    def name(self) -> str:
        """What an operator knows it by."""
        return f"@{self.handle}" if self.kind == TIMELINE else (self.username or self.handle)


@dataclass(frozen=True)
class Claim:
    """A target under lease: what is known of it. `crawled` says that its walk ended since
    the run began.

    What was unreachable once and is covered now counts as covered only.
    """

    covered: Sequence[Range]
    unreachable: Sequence[Range]
    account_posts: int | None
    crawled: bool


@dataclass(frozen=True)
class Bought:
    """One answer of X as it was paid for; `body` is the answer's JSON as received.

    `cost` is what it takes from the budgets, in millionths of a USD; None where nothing was
    set aside for it.
    """

    endpoint: str
    params: Mapping[str, str]
    credential: str
    body: bytes
    posts: int = 0
    users: int = 0
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    cost: int | None = None


@dataclass(frozen=True)
class Batch:
    """The rows of one page of a target, and what the page makes known of it.

    `rows` are keyed by `flatten.COLUMNS`, ascending by id and unique; `refused` are `(id,
    reason)` of the posts that gave no row. `username` and `account_posts` are news of the
    user, None where the page told nothing. `searched` says that a search found the posts:
    the store remembers which. Posts that were looked up by id belong to no target.
    """

    target: int | None
    bought: Bought
    rows: Sequence[Mapping[str, Any]]
    refused: Sequence[tuple[str | None, str]] = ()
    covered: Range | None = None
    unreachable: Range | None = None
    unreachable_reason: str = ""
    username: str | None = None
    account_posts: int | None = None
    searched: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it would be missed: no post was paid for, and nothing was learned."""
        learned = (
            self.covered,
            self.unreachable,
            self.username,
            self.account_posts,
            self.bought.cost,
        )
        return not (self.rows or self.refused or self.bought.posts) and learned == (None,) * len(
            learned
        )


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
    """What saving a batch did: rows that are new, rows that changed; `leased` says the
    lease still holds.
    """

    new: int
    updated: int
    leased: bool


@dataclass(frozen=True)
class Found:
    """A handle that X resolved to a user."""

    handle: str
    user_id: str
    username: str
    account_posts: int | None


@dataclass(frozen=True)
class Absent:
    """A handle that X did not resolve: "missing" or "suspended", and X's reason."""

    handle: str
    state: str
    reason: str


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


@dataclass(frozen=True)
class Place:
    """A place that has trends: X's number of it (WOEID) and its name."""

    woeid: int
    name: str


@dataclass(frozen=True)
class Trend:
    """One trend of a place: its rank from 1, its name, its volume where X tells it, the
    search that finds it.
    """

    rank: int
    name: str
    volume: int | None
    query: str


@dataclass(frozen=True)
class Lookup:
    """Posts by id, sorted by who asks X for them: this process, another one, nobody since
    they are known.
    """

    mine: Sequence[int]
    others: Sequence[int]
    known: Sequence[int]
