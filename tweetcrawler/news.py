"""Messages between the processes of a run, as frozen values.

A worker tells news while it does a task, and gives one result at the end. All of them hold
plain values only, so that they could be sent as JSON as well as through a pipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tweetcrawler.targets import STATES


@dataclass(frozen=True)
class Started:
    """A worker process began its work; it holds leases under the name `owner`."""

    owner: str


@dataclass(frozen=True)
class LogLine:
    """A log line of a worker; the parent writes it, so that it does not run into its display."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True)
class PageRead:
    """One page was bought with a credential: the posts on it, and those of them that are new."""

    credential: str
    posts: int = 0
    new: int = 0


@dataclass(frozen=True)
class Kept:
    """A page of a target whose rows the table refused: it is bought, and waits for the table."""

    name: str
    posts: int
    why: str


@dataclass(frozen=True)
class Paced:
    """The requests in a second that one bucket of an endpoint allows on average, from X's
    headers; 0 for one that X refused. `kind` is that of its token: "user" or "app".
    """

    endpoint: str
    kind: str
    bucket: str
    per_s: float


@dataclass(frozen=True)
class Refusal:
    """One request brought no page: the name of the error, and its sentence.

    `status` is that of X's answer, None when there was none; `silence` then says why, and
    `lost` what became of an answer that X charges for.
    """

    credential: str
    # Name and sentence instead of the exception: one of a library may not survive the way
    # through a pipe, and holds the request with its token.
    error: str
    sentence: str
    status: int | None = None
    silence: str = ""
    lost: str = ""


@dataclass(frozen=True)
class Lost:
    """An answer that X may have charged for, and that is of no use: the most posts and money
    (millionths of a USD) of it, and the reason.
    """

    endpoint: str
    posts: int
    # Whole millionths: sums of floats would drift from those that PostgreSQL keeps.
    micro_usd: int
    why: str


@dataclass(frozen=True)
class Outcome:
    """The end of one target, as its name says it: its state ("ok", "renamed", "missing", …)
    and the reason.
    """

    name: str
    state: str
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether everything that X gives of this target is stored."""
        return self.state in STATES and STATES[self.state].done


@dataclass(frozen=True)
class Noted:
    """Walks that brought no posts, noted together: a page and an outcome of each."""

    pages: tuple[PageRead, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class LookedUp:
    """Posts that were looked up by id: `count` of one state, and those that X did not give."""

    state: str
    count: int
    # Only these are named. Of the others, which may be millions, a number is enough.
    gone: tuple[Outcome, ...] = ()


@dataclass(frozen=True)
class Counted:
    """The number of a query's posts, as X counts them; with `down_to`, only of those from this
    moment on up to now (seconds since 1970): the count goes on.
    """

    query: str
    posts: int
    down_to: float | None = None


@dataclass(frozen=True)
class Note:
    """A sentence for the operator, shown once at the end of the run."""

    sentence: str


@dataclass(frozen=True)
class Later:
    """Units to be tried again after `wait_s`; `failure` says what went wrong, if anything.

    `moved` says that pages of them were saved before it did, `lost` how many answers that
    X charges for could not be used.
    """

    units: Sequence[Any]
    wait_s: float = 0.0
    failure: str = ""
    moved: bool = False
    lost: int = 0


@dataclass(frozen=True)
class Wait:
    """The time until the next permit of a kind of work, and the reason."""

    wait_s: float
    reason: str


@dataclass(frozen=True)
class Fatal:
    """An error that ends the run, with its exit code; `budget` is the scope of a budget that is
    used up: "run", "day" or "month".
    """

    sentence: str
    exit_code: int
    budget: str = ""


@dataclass(frozen=True)
class Result:
    """The end of one task.

    `found` are units for other kinds of work, by the name of the kind. `left` are units
    that lacked a permit or time.
    """

    found: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    left: Sequence[Any] = ()
    later: Sequence[Later] = ()
    wait: Wait | None = None
    fatal: Fatal | None = None
