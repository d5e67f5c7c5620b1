"""What is common to all processes of a run: the job itself, what it stores things in, and
what comes of a target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tweetcrawler.coverage import Range
from tweetcrawler.pages import Batch, Bought, NoNews, Saved
from tweetcrawler.prices import Tariff
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings
from tweetcrawler.targets import Absent, Claim, Found, Target


class Session(Protocol):
    """What the crawl wants of a place to store things; `db.Session` says what each method does."""

    def begin_run(
        self, *, version: str, arguments: Mapping[str, Any], host: str, credentials: Sequence[Any]
    ) -> tuple[int, float]: ...
    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None: ...
    def totals(self, run: int) -> list[dict[str, Any]]: ...
    def targets(self, handles: Sequence[str]) -> dict[str, Target]: ...
    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]: ...
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
    def claim(self, target: int, owner: str, since: float) -> Claim | None: ...
    def claim_all(self, targets: Sequence[int], owner: str, since: float) -> dict[int, Claim]: ...
    def posts_above(self, target: int, tweet_id: int) -> int: ...
    def save(
        self,
        run: int,
        owner: str,
        batch: Batch,
        *,
        keep_body: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> Saved: ...
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
    def release(self, owner: str, targets: Sequence[int] | None = None) -> None: ...
    def free(self, owner: str, targets: Sequence[int]) -> None: ...
    def open_searches(self, asked: Sequence[str]) -> list[Target]: ...
    def give_up(self, target: int, unreachable: Range, reason: str) -> None: ...
    def posts_within(self, target: int, seconds: float) -> int: ...
    def change_buckets(self, keys: Any, change: Any) -> Any: ...


class Sink(Protocol):
    """Where rows go: PostgreSQL or a folder of CSV files."""

    def session(self, *, stopping: Callable[[], bool] = ...) -> AbstractContextManager[Session]: ...


@dataclass(frozen=True)
class Outcome:
    """What became of one target, as its name says it: its state ("ok", "renamed",
    "missing", …) and the reason.
    """

    name: str
    state: str
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether everything that X gives of this target is stored; of a post also that X
        gives it no more.
        """
        return self.state in ("ok", "renamed", "known", "gone")


@dataclass(frozen=True)
class Job:
    """What every process of a run needs to know; goes to a worker through the pipe that
    starts it.

    `cap` is how many posts of one search may be bought in a week, None for all. Budgets
    need a `tariff`.
    """

    settings: Settings
    sink: Sink
    credentials: Sequence[Credential]
    run: int
    since: float
    cap: int | None = None
    tariff: Tariff | None = None


@dataclass(frozen=True)
class Counting:
    """A query whose posts are being counted: so many up to now, and where to go on."""

    query: str
    posts: int = 0
    token: str | None = None
