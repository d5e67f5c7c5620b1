"""Check of a collection for monitors: what a person should look at, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tweetcrawler.books import Run, Stale
from tweetcrawler.look.sections import duration, moment
from tweetcrawler.outcome import needs_person
from tweetcrawler.words import plural

GIGABYTE = 1_000_000_000
# Kinds of problems, all that there are: a monitor may name them.
KINDS = ("database", "run", "credential", "target", "budget", "disk")


@dataclass(frozen=True)
class Problem:
    """One thing that a person should look at; `kind` is one of `KINDS`."""

    kind: str
    text: str


@dataclass(frozen=True)
class Look:
    """All that is checked, as of one moment.

    `last` is the newest run of each command, `signs` the time of the newest page of those that
    have not ended. `free_bytes` is the free space by folder.
    """

    status: Mapping[str, Any]
    last: Sequence[Run] = ()
    signs: Mapping[int, float | None] = field(default_factory=dict)
    stale: Stale = field(default_factory=Stale)
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    max_age_s: float = 0.0
    min_free_bytes: int = 0


def problems(look: Look) -> list[Problem]:
    """Everything that is wrong, the gravest first."""
    return [
        *_runs(look),
        *_credentials(look.status),
        *_stale(look),
        *_budgets(look.status),
        *_disks(look),
    ]


def line(found: Sequence[Problem], status: Mapping[str, Any]) -> str:
    """The line for a monitor."""
    if found:
        return f"tweetcrawler PROBLEM: {'; '.join(problem.text for problem in found)}"
    targets = sum(one["count"] for one in status["targets"])
    runs = status["spent"]["by_run"]
    last = f", last run {runs[0]['run']} at {moment(runs[0]['started_at'])} UTC" if runs else ""
    return f"tweetcrawler OK: {plural(targets, 'target')}{last}"


def _runs(look: Look) -> list[Problem]:
    now, found = look.status["at"], []
    for run in look.last:
        named = f"run {run.id} ({run.command}, {moment(run.started_at)} UTC)"
        if run.ended_at is None:
            # A run that waits for a window of 24 hours buys nothing for as long.
            quiet_s = now - max(run.started_at, look.signs.get(run.id) or 0.0)
            if quiet_s > look.max_age_s:
                found.append(f"{named} has not ended and did nothing for {duration(quiet_s)}")
        elif needs_person(run.exit_code or 0, run.report.get("outcomes")):
            why = f": {run.report['ended']}" if run.report.get("ended") else ""
            found.append(f"{named} failed with exit code {run.exit_code}{why}")
    return [Problem("run", text) for text in found]


def _credentials(status: Mapping[str, Any]) -> list[Problem]:
    shut = {"*keys": "refused by X", "*account": "without credits or at its cap"}
    return [
        Problem("credential", f"credential {window['credential']} is {shut[window['endpoint']]}")
        for window in status["windows"]
        # A proxy that fails is tried again by itself, within minutes.
        if window["endpoint"] in shut and window["shut_why"] not in ("", "proxy")
    ]


def _stale(look: Look) -> list[Problem]:
    count, name, since = look.stale.count, look.stale.name, look.stale.since
    if not count:
        return []
    text = (
        f"{plural(count, 'target')} not visited for {duration(look.max_age_s)} "
        f"(@{name} since {moment(since)} UTC)"
    )
    return [Problem("target", text)]


def _budgets(status: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem("budget", f"the budget of the {one['of']}, ${one['usd']:,.2f}, is used up")
        for one in status["budgets"]
        if one["left_usd"] <= 0
    ]


def _disks(look: Look) -> list[Problem]:
    return [
        Problem("disk", f"{free / GIGABYTE:,.1f} GB are free in {folder}")
        for folder, free in look.free_bytes.items()
        if free < look.min_free_bytes
    ]
