"""Targets of a crawl and their states, claims on them, and the users, places and trends
that they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tweetcrawler.coverage import Range

TIMELINE = "timeline"
SEARCH = "search"
NEW, OK, RENAMED, FAILED = "new", "ok", "renamed", "failed"
MISSING, SUSPENDED, PROTECTED, REFUSED = "missing", "suspended", "protected", "refused"
# Length of a lease, in seconds. The store writes it, and a walk renews before it is over.
# A request with saving takes a second at most times, and a dead machine is waited for this long.
LEASE_S = 60.0


@dataclass(frozen=True)
class State:
    """A state of a target or a post.

    `done`: everything that X gives of it is stored. `rests`: X said why it gives nothing,
    so it is asked again only after --recheck-days.
    """

    name: str
    means: str
    done: bool = False
    rests: bool = False


# The only list of states. A room may report states of its own; they do not count as done.
STATES = {
    state.name: state
    for state in (
        State(NEW, "not asked yet"),
        State(OK, "stored", done=True),
        State(RENAMED, "stored; the user has another handle now", done=True),
        State(MISSING, "X knows no such user or post", rests=True),
        State(SUSPENDED, "X suspended the account", rests=True),
        State(PROTECTED, "only followers may read it", rests=True),
        State(REFUSED, "X refuses it for another reason", rests=True),
        State(FAILED, "no answer of X could be used"),
        State("known", "a post that was stored before", done=True),
        State("gone", "a post that X no longer gives", done=True),
    )
}
# States of targets, as statements and pictures choose by them.
DONE = (OK, RENAMED)
RESTING = tuple(state.name for state in STATES.values() if state.rests)
CRAWLABLE = (NEW, OK, RENAMED, FAILED)


@dataclass(frozen=True)
class Target:
    """A target as stored: a user's timeline or a search.

    Of a timeline, `key` is X's id of the user, None until it is known; `handle` is the name
    as listed (folded), `username` as X spells it. Of a search, `username` is the query as
    it is sent to X, `key` what tells one query from another, `handle` a name for its file.
    `state` is one of `STATES`, with its `reason`. `rests_s` are the seconds until it is due,
    0 when it is.
    """

    id: int
    handle: str
    key: str | None = None
    username: str | None = None
    state: str = NEW
    reason: str = ""
    rests_s: float = 0.0
    kind: str = TIMELINE

    @property
    def name(self) -> str:
        """The name by which an operator knows it."""
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
