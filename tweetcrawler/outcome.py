"""Reports and progress of runs, put together from the news of the workers."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tweetcrawler.news import (
    Counted,
    Kept,
    LookedUp,
    Lost,
    Note,
    Noted,
    Outcome,
    PageRead,
    Refusal,
)
from tweetcrawler.prices import MICRO, Tariff
from tweetcrawler.targets import OK, STATES
from tweetcrawler.words import plural

NAMED_MAX = 1_000
# A credential's refusals of one kind are logged up to this number, where X has many of them.
REFUSALS_LOGGED = 3
# Rates are those of this time.
RATE_S = 60.0
# Refusals that hold for the rest of the run.
_LASTING = frozenset({"CredentialRefused", "EndpointRefused", "ProxyFailed"})

log = logging.getLogger(__name__)


def needs_person(exit_code: int, outcomes: Mapping[str, int] | None) -> bool:
    """Whether a run did not go as it should; `outcomes` are those of its targets, if it has any.

    Targets that X does not give, with its reason, are told once and rest: that is no failure.
    """
    if exit_code in _IN_ORDER:
        return False
    settled = [state for state in STATES.values() if state.done or state.rests]
    return exit_code != 1 or not outcomes or bool(outcomes.keys() - {s.name for s in settled})


def refused(error: str) -> str:
    """A request without a page in words; `error` is the name by which news tell of it."""
    return _REFUSED.get(error, "another refusal of X")


_REFUSED = {
    "WindowClosed": "the rate limit was used up",
    "Overloaded": "X asked to go slower",
    "CapReached": "the posts or credits of the account were used up",
    "CredentialRefused": "X did not accept the keys",
    "EndpointRefused": "the keys may not use the endpoint",
    "RequestRefused": "X did not accept the request",
    "ProxyFailed": "the proxy did not lead to X",
    "XUnavailable": "X gave no answer, or none that can be read",
    "NothingArrives": "no answer of X arrived",
}
# Done, or stopped by somebody.
_IN_ORDER = (0, 130, 143)


@dataclass
class RunReport:
    """The part of a report that is common to all runs.

    `totals` are the rows of `Session.totals`; `waited_s` are seconds by reason; `ended`
    says why the run ended early, if it did; `budget` is the scope of the budget that ended
    it: "run", "day" or "month".
    """

    run: int = 0
    seconds: float = 0.0
    totals: list[dict[str, Any]] = field(default_factory=list)
    waited_s: dict[str, float] = field(default_factory=dict)
    exit_code: int = 0
    ended: str = ""
    budget: str = ""

    def take(self, news: object) -> None:
        """Counts one piece of news."""

    def leave(self, count: int) -> None:
        """Counts units of work that the run did not reach."""

    def conclude(self) -> None:
        """Sets the exit code, when all work is done or left."""

    def as_plain(self) -> dict[str, Any]:
        """The report as JSON can hold it, for the run's record."""
        return {
            "seconds": round(self.seconds, 3),
            "ended": self.ended,
            "budget": self.budget,
            "waited_s": {reason: round(seconds, 3) for reason, seconds in self.waited_s.items()},
        }


@dataclass
class RunProgress:
    """A run under way, as a display shows it. `waits` are the ends of waits by reason;
    times are on the monotonic clock.
    """

    started_at: float
    waits: dict[str, float] = field(default_factory=dict)
    busy: int = 0

    def take(self, news: object) -> None:
        """Counts one piece of news."""


class Display(Protocol):
    """Shows a run under way; called at least twice a second."""

    def update(self, progress: Any) -> None: ...


@dataclass
class Report(RunReport):
    """All outcomes of a run that asks X, and its cost.

    `refusals` count requests without a page by (credential, error). `named` are the
    outcomes that were not simply done, at most `NAMED_MAX` of them; `bad_lines` are lines of
    the input file that could not be used. `counted` are queries and the number of their
    posts, `counted_in_part` those whose count was interrupted, with the moment (seconds since
    1970) from which on it holds. `notes` are sentences for the operator. `lost` are answers
    that X may charge for and that are of no use: their number and the most they can have cost,
    by endpoint and reason. `kept` are the pages and posts that were bought and that the table
    refused, by reason.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    named: list[Outcome] = field(default_factory=list)
    unnamed: int = 0
    bad_lines: int = 0
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    counted: list[tuple[str, int]] = field(default_factory=list)
    counted_in_part: dict[str, tuple[int, float]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    lost: dict[tuple[str, str], tuple[int, int, int]] = field(default_factory=dict)
    kept: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, news: object) -> None:
        """Counts one piece of news."""
        match news:
            case Outcome():
                self._end_target(news)
            case Noted():
                for outcome in news.outcomes:
                    self._end_target(outcome)
            case LookedUp():
                if news.count:
                    self.outcomes[news.state] += news.count
                for outcome in news.gone:
                    self.add(outcome)
            case Refusal():
                self._refuse(news)
            case Counted():
                self._count(news)
            case Lost():
                count, posts, cost = self.lost.get((news.endpoint, news.why), (0, 0, 0))
                self.lost[news.endpoint, news.why] = (
                    count + 1,
                    posts + news.posts,
                    cost + news.micro_usd,
                )
            case Note():
                self.notes[news.sentence] = None
            case Kept():
                self._keep(news)

    def add(self, outcome: Outcome) -> None:
        """Counts an outcome, and keeps its name when there is something to say of it."""
        self.outcomes[outcome.state] += 1
        if outcome.state == OK:
            return
        # A million handles may fail; a report that names them all would fill the memory.
        if len(self.named) < NAMED_MAX:
            self.named.append(outcome)
        else:
            self.unnamed += 1

    def leave(self, count: int) -> None:
        """Counts units of work that the run did not reach."""
        if count:
            self.outcomes["not reached"] += count

    def conclude(self) -> None:
        """Sets the exit code to 1 if anything was not done."""
        undone = any(not Outcome("", state).done for state in self.outcomes)
        if not self.exit_code and (undone or self.kept):
            self.exit_code = 1
        for why, (pages, posts) in self.kept.items():
            self.notes[
                f"the table refused {plural(pages, 'page')} with {plural(posts, 'post')} ({why}): "
                "bought and kept; once it takes them, `tweetcrawler retry-refused`"
            ] = None

    def total(self, column: str) -> int:
        """The sum of one column of `totals`."""
        return sum(int(row[column]) for row in self.totals)

    def cost(self, tariff: Tariff) -> int:
        """The price of what was read, in millionths of a USD."""
        # About: what X charges once a day is known to the ledger only, see `status`.
        return sum(
            tariff.cost(
                row["endpoint"],
                requests=int(row["pages"]),
                posts=int(row["posts"]),
                users=int(row["users"]),
            )
            for row in self.totals
        )

    def for_programs(self, tariff: Tariff) -> dict[str, Any]:
        """The report with the names of what was not done, and with its cost in USD."""
        return {
            "run": self.run,
            **self.as_plain(),
            "usd": self.cost(tariff) / MICRO,
            "named": [
                {"name": one.name, "state": one.state, "reason": one.reason} for one in self.named
            ],
            "unnamed": self.unnamed,
        }

    def as_plain(self) -> dict[str, Any]:
        """The report as JSON can hold it, for the run's record."""
        return {
            **super().as_plain(),
            "outcomes": dict(self.outcomes),
            "totals": [
                {k: int(v) if not isinstance(v, str) else v for k, v in row.items()}
                for row in self.totals
            ],
            # JSON has no pairs as keys.
            "refusals": {f"{who}: {what}": n for (who, what), n in self.refusals.items()},
            "counted": [list(pair) for pair in self.counted],
            "counted_in_part": [[q, *part] for q, part in self.counted_in_part.items()],
            "notes": list(self.notes),
            "lost": [
                {"endpoint": e, "why": why, "answers": n, "posts": posts, "micro_usd": cost}
                for (e, why), (n, posts, cost) in self.lost.items()
            ],
            "kept": [
                {"why": why, "pages": pages, "posts": posts}
                for why, (pages, posts) in self.kept.items()
            ],
            "bad_lines": self.bad_lines,
        }

    def _keep(self, news: Kept) -> None:
        pages, posts = self.kept.get(news.why, (0, 0))
        if not pages:
            log.warning("%s: the table refuses a page: %s; it is kept", news.name, news.why)
        self.kept[news.why] = pages + 1, posts + news.posts

    def _count(self, counted: Counted) -> None:
        if counted.down_to is not None:
            self.counted_in_part[counted.query] = counted.posts, counted.down_to
        else:
            self.counted_in_part.pop(counted.query, None)
            self.counted.append((counted.query, counted.posts))

    def _end_target(self, outcome: Outcome) -> None:
        self.add(outcome)
        if outcome.state != OK:
            reason = f" ({outcome.reason})" if outcome.reason else ""
            log.info("%s: %s%s", outcome.name, outcome.state, reason)

    def _refuse(self, refusal: Refusal) -> None:
        key = refusal.credential, refusal.error
        self.refusals[key] += 1
        if refusal.error in _LASTING:
            self._note_refused(refusal.sentence)
        # A closed window and a bad moment of X are everyday; whatever else is refused is not.
        everyday = refusal.error in ("XUnavailable", "WindowClosed")
        if not everyday:
            log.warning("%s", refusal.sentence)
        elif self.refusals[key] <= REFUSALS_LOGGED:
            log.info("%s", refusal.sentence)

    def _note_refused(self, sentence: str) -> None:
        """Notes once that a part of a credential does no work, though others may do all of it."""
        part, _, said = sentence.partition(": ")
        # Of a part that is refused everywhere the first endpoint says enough.
        known = f"could not use {part.partition(' on ')[0]} "
        if not any(note.startswith(known) for note in self.notes):
            where = part.partition(" on ")[2]
            self.notes[f"{known}on {where}: {said}; `tweetcrawler doctor` looks at each part"] = (
                None
            )


@dataclass
class Progress(RunProgress):
    """A run under way that asks X; counts are of this run, `handles` is their number.

    `answered_at` is when each credential got its last answer, on the monotonic clock. `left`
    is the time to go in seconds, and when that was looked up; None while nobody knows.
    """

    handles: int | None = None
    targets_done: int = 0
    requests: int = 0
    posts: int = 0
    new: int = 0
    by_credential: Counter[str] = field(default_factory=Counter)
    credentials: tuple[str, ...] = ()
    answered_at: dict[str, float] = field(default_factory=dict)
    left: tuple[float, float] | None = None
    # (second, posts, requests) of the seconds of the last minute that had any.
    _recent: deque[list[int]] = field(default_factory=deque)

    def rates(self, now: float) -> tuple[float, float]:
        """Posts and requests per second over the last minute, or since the run began."""
        # Never 0, since it divides.
        seconds = max(1.0, min(RATE_S, now - self.started_at))
        recent = [each for each in self._recent if now - each[0] <= RATE_S]
        return sum(e[1] for e in recent) / seconds, sum(e[2] for e in recent) / seconds

    def take(self, news: object) -> None:
        """Counts one piece of news."""
        match news:
            case PageRead():
                self._count_page(news)
            case Outcome():
                self.targets_done += 1
            case Noted():
                for page in news.pages:
                    self._count_page(page)
                self.targets_done += len(news.outcomes)
            case LookedUp():
                self.targets_done += news.count + len(news.gone)
            case Refusal():
                self._count_request(0)

    def _count_request(self, posts: int) -> None:
        self.requests += 1
        second = int(time.monotonic())
        if not self._recent or self._recent[-1][0] != second:
            self._recent.append([second, 0, 0])
            while second - self._recent[0][0] > RATE_S:
                self._recent.popleft()
        self._recent[-1][1] += posts
        self._recent[-1][2] += 1

    def _count_page(self, page: PageRead) -> None:
        self._count_request(page.posts)
        self.by_credential[page.credential] += 1
        self.answered_at[page.credential] = time.monotonic()
        self.posts += page.posts
        self.new += page.new
