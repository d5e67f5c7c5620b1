"""Runs: the values that all processes of a run share, the places where they store things,
and the record of a run.

A store is described by its capabilities, one small protocol each. Every store keeps runs,
targets, pages and rate limits; budgets, posts by id, trends and imports need a database. A
store without a capability has none of its methods.
"""

from __future__ import annotations

import logging
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from tweetcrawler import __version__
from tweetcrawler.budget import Grant, Limits, Want
from tweetcrawler.coverage import Range
from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.outcome import RunReport
from tweetcrawler.pages import Batch, Bought, Gone, Lookup, Metrics, NoNews, PartCount, Saved
from tweetcrawler.prices import Tariff
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings
from tweetcrawler.targets import Absent, Claim, Found, Place, Target, Trend

# A database that is just restarting gets this time to take the report.
REPORT_S = 5.0

T = TypeVar("T")
log = logging.getLogger(__name__)


# -- stores: `db.Session` says what each method does ---------------------------------------------


class Runs(Protocol):
    """A store of the records of runs."""

    def begin_run(
        self, *, version: str, arguments: Mapping[str, Any], host: str, credentials: Sequence[Any]
    ) -> tuple[int, float]: ...
    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None: ...
    def totals(self, run: int) -> list[dict[str, Any]]: ...


class Targets(Protocol):
    """A store of targets: handles and searches, their leases and their coverage."""

    def targets(self, handles: Sequence[str]) -> dict[str, Target]: ...
    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]: ...
    def open_searches(self, asked: Sequence[str]) -> list[Target]: ...
    def claim(self, target: int, owner: str, since: float) -> Claim | None: ...
    def release(self, owner: str, targets: Sequence[int] | None = None) -> None: ...
    def free(self, owner: str, targets: Sequence[int]) -> None: ...
    def posts_above(self, target: int, tweet_id: int) -> int: ...
    def posts_within(self, target: int, seconds: float) -> int: ...
    def give_up(self, target: int, unreachable: Range, reason: str) -> None: ...
    def finish(
        self,
        target: int,
        owner: str,
        *,
        state: str,
        reason: str,
        crawled: bool,
        rest_s: float = 0.0,
    ) -> None: ...
    def finish_all(
        self, run: int, owner: str, ends: Sequence[NoNews], *, keep_body: bool = True
    ) -> None: ...


class Pages(Protocol):
    """A store of bought pages and of what they make known."""

    def save_page(self, run: int, bought: Bought) -> None: ...
    def save_users(
        self,
        run: int,
        bought: Bought,
        found: Sequence[Found],
        absent: Sequence[Absent],
        *,
        rest_s: float,
    ) -> None: ...
    def save(
        self,
        run: int,
        owner: str,
        batch: Batch,
        *,
        keep_body: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> Saved: ...


class Buckets(Protocol):
    """A store of rate limits, shared by all processes; see `permits.Books`."""

    def change_buckets(self, keys: Any, change: Any) -> Any: ...


class Session(Runs, Targets, Pages, Buckets, Protocol):
    """A store as every crawl needs it."""


@runtime_checkable
class ClaimsTogether(Protocol):
    """A store that leases all targets of a chunk at once.

    A folder of CSV files has to look at the file of each target first, when its turn comes.
    """

    def claim_all(self, targets: Sequence[int], owner: str, since: float) -> dict[int, Claim]: ...


@runtime_checkable
class LooksFirst(Protocol):
    """A store that looks before a run whether it takes rows, and holds those that are known.

    A folder of CSV files looks at each file when its target is claimed.
    """

    def ready(self, *, scored: bool) -> None: ...


@runtime_checkable
class Budgets(Protocol):
    """A store of money that is set aside before it is spent."""

    def set_aside(
        self, run: int, owner: str, page: uuid.UUID, want: Want, limits: Limits, tariff: Tariff
    ) -> Grant: ...
    def take_back(self, page: uuid.UUID) -> None: ...
    def note_lost(
        self, run: int, page: uuid.UUID, endpoint: str, posts: int, cost: int, *, why: str
    ) -> None: ...


@runtime_checkable
class Lookups(Protocol):
    """A store of posts that are asked for by id."""

    def claim_ids(
        self, ids: Sequence[int], owner: str, *, age_s: float | None, rest_s: float
    ) -> Lookup: ...
    def save_looked_up(
        self,
        run: int,
        batch: Batch,
        gone: Sequence[Gone],
        metrics: Sequence[Metrics],
        *,
        seen_at: float,
        keep_body: bool = True,
    ) -> Saved: ...


@runtime_checkable
class Counts(Protocol):
    """A store of counts that were interrupted."""

    def open_count(self, asked: PartCount) -> PartCount: ...
    def save_count(self, run: int, bought: Bought, count: PartCount) -> None: ...


@runtime_checkable
class Names(Protocol):
    """A store of handles that changed hands."""

    def left_names(self, handles: Sequence[str], *, rest_s: float) -> list[str]: ...
    def save_names(
        self, run: int, bought: Bought, asked: Sequence[str], found: Sequence[Found]
    ) -> None: ...
    def formerly(self, handles: Sequence[str]) -> list[Target]: ...


@runtime_checkable
class Trends(Protocol):
    """A store of trends."""

    def save_trends(
        self, run: int, bought: Bought, place: Place, trends: Sequence[Trend]
    ) -> list[Target]: ...


@runtime_checkable
class Doing(Protocol):
    """A store that does the statements of a room: a database.

    The work is one transaction, which is done again after a lost connection.
    """

    def do(self, work: Callable[[Any], T]) -> T: ...


def budgets(session: Session) -> Budgets:
    """The budgets of a store that keeps them."""
    # By its methods, since a run knows no class of stores.
    if not isinstance(session, Budgets):
        raise ConfigurationError(_needs("a budget is kept"))
    return session


def lookups(session: Session) -> Lookups:
    """The posts by id of a store that keeps them."""
    if not isinstance(session, Lookups):
        raise ConfigurationError(_needs("posts are looked up by id"))
    return session


def trends(session: Session) -> Trends:
    """The trends of a store that keeps them."""
    if not isinstance(session, Trends):
        raise ConfigurationError(_needs("trends are kept"))
    return session


def _needs(what: str) -> str:
    return f"{what} in a database only; leave out --csv and CSVFolder, or name a database."


class Sink(Protocol):
    """A place where rows go: PostgreSQL or a folder of CSV files."""

    def session(self, *, stopping: Callable[[], bool] = ...) -> AbstractContextManager[Session]: ...


class SharedSink(Sink, Protocol):
    """A sink that knows how many more processes it takes."""

    def connections_left(self) -> int | None: ...


# -- runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """The values that every process of a run needs; they reach a worker when it starts.

    `parameters` are those of the kinds of work, by the name of the kind. Budgets need a
    `tariff`.
    """

    settings: Settings
    sink: Sink
    credentials: Sequence[Credential]
    run: int
    since: float
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tariff: Tariff | None = None


class Recorded(Protocol):
    """A store that keeps records of runs."""

    def session(self, *, stopping: Callable[[], bool] = ...) -> AbstractContextManager[Runs]: ...


def begin(
    settings: Settings, sink: Recorded, credentials: Sequence[Credential]
) -> tuple[int, float]:
    """Begins the record of a run; gives its number and the time, on the clock of the store."""
    with sink.session() as session:
        return _begun(settings, session, credentials)


def begin_buying(
    settings: Settings, sink: Recorded, credentials: Sequence[Credential]
) -> tuple[int, float]:
    """As `begin`, for a run that asks X: the store looks first whether it takes rows."""
    with sink.session() as session:
        if isinstance(session, LooksFirst):
            session.ready(scored=settings.sentiment)
        return _begun(settings, session, credentials)


def _begun(
    settings: Settings, session: Runs, credentials: Sequence[Credential]
) -> tuple[int, float]:
    return session.begin_run(
        version=__version__,
        arguments=settings.arguments_without_secrets(),
        host=socket.gethostname(),
        credentials=credentials,
    )


def end(sink: Recorded, report: RunReport) -> None:
    """Ends the record of a run with its report, and adds its totals to the report."""
    gives_up_at = time.monotonic() + REPORT_S
    try:
        with sink.session(stopping=lambda: time.monotonic() > gives_up_at) as session:
            report.totals = session.totals(report.run)
            session.end_run(report.run, exit_code=report.exit_code, report=report.as_plain())
    except TweetcrawlerError as error:
        log.warning("the run's report could not be stored: %s", error)
        report.exit_code = report.exit_code or error.exit_code
