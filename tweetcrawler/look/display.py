"""Displays of runs: a live picture on a terminal, elsewhere a log line per minute, and a
table at the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tweetcrawler.look import pace
from tweetcrawler.look.lines import duration, import_summary, size
from tweetcrawler.look.sections import Section, moment
from tweetcrawler.prices import Tariff, usd
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.archives.importing import ImportReport
    from tweetcrawler.outcome import Progress, Report

REFRESH_S = 0.25
NAMED_SHOWN = 30
CREDENTIALS_SHOWN = 15
# A handle with its @.
NAME_WIDTH = 16


class LivePicture:
    """A picture on the terminal that is drawn four times a second."""

    def __init__(self, console: Console) -> None:
        # Drawn with the news that come anyway: by itself rich would start a thread for it.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn_at = 0.0

    def __enter__(self) -> LivePicture:
        self._live.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, progress: Any) -> None:
        """Draws when it is time."""
        now = time.monotonic()
        if now - self._drawn_at >= REFRESH_S:
            self._drawn_at = now
            self._live.update(self._picture(progress, now), refresh=True)

    def _picture(self, progress: Any, now: float) -> RenderableType:
        return _picture(progress, now)


class ImportPicture(LivePicture):
    """The same of an import."""

    def _picture(self, progress: Any, now: float) -> RenderableType:
        lines = [Text(import_summary(progress, now), "bold")]
        lines += [
            # As Text, here and below: in a plain string rich reads [brackets] as its own
            # markup, and names and reasons are written by others.
            Text(f"  {path}: {size(count)}")
            for path, count in list(progress.reading.items())[:20]
        ]
        return Group(*lines)


_STATES = {"ok": "done", "known": "already stored", "gone": "no longer available"}
_GOES_ON = "everything read is saved, the same command goes on from here"


def _picture(progress: Progress, now: float) -> Group:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("credential", "requests", "now"):
        table.add_column(heading, justify="right" if heading == "requests" else "left")
    # Those that do something first: a terminal has few lines.
    shown = sorted(pace.states(progress, now), key=lambda state: state[2] == "idle")
    for name, requests, state in shown[:CREDENTIALS_SHOWN]:
        style = {"requesting": "green", "idle": "dim"}.get(state, "yellow")
        table.add_row(name, f"{requests:,}", Text(state, style))
    if len(shown) > CREDENTIALS_SHOWN:
        table.add_row("", "", Text(f"and {len(shown) - CREDENTIALS_SHOWN:,} more", "dim"))
    return Group(Text(pace.summary(progress, now), "bold"), table)


def print_report(report: Report, console: Console, *, tariff: Tariff) -> None:
    """The table at the end of a run: outcomes, rows, requests and posts by credential,
    waits, money.
    """
    console.print()
    _print_outcomes(report, console)
    _print_credentials(report, console)
    posts, users, again = report.total("posts"), report.total("users"), report.total("again")
    console.print(
        f"{plural(report.total('new'), 'new row')}, {report.total('updated'):,} updated; "
        f"{plural(posts, 'post')} and {plural(users, 'user')} read, "
        f"about {usd(report.cost(tariff))}"
        + (f" ({again:,} of the posts were stored already)" if again else "")
        + f"; {duration(report.seconds)}",
        # Without these rich colours every number, and breaks lines at 80 columns in a pipe.
        highlight=False,
        soft_wrap=True,
    )
    for (endpoint, why), (count, lost_posts, lost_cost) in sorted(report.lost.items()):
        console.print(
            f"{count:,} answer{'s' if count > 1 else ''} of {endpoint} lost ({why}): X may have "
            f"charged up to {plural(lost_posts, 'post')}, {usd(lost_cost)}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    for reason, seconds in sorted(report.waited_s.items()):
        if seconds >= 1.0:
            console.print(f"waited {duration(seconds)}: {reason}", highlight=False, soft_wrap=True)
    if report.bad_lines:
        console.print(
            f"{plural(report.bad_lines, 'line')} of the input file could not be used "
            "(logged above)",
            highlight=False,
        )
    for note in report.notes:
        console.print(note, highlight=False, soft_wrap=True)
    if report.ended:
        console.print(
            f"ended early: {report.ended}; {_GOES_ON}",
            highlight=False,
            soft_wrap=True,
        )


def print_counts(report: Report, console: Console, *, tariff: Tariff, page_size: int) -> None:
    """The posts of queries and their cost: posts, requests, money."""
    table = Table(title="posts that X counts", title_justify="left", header_style="bold")
    table.add_column("query")
    for heading in ("posts", "requests", "USD"):
        table.add_column(heading, justify="right")
    for query, posts in report.counted:
        table.add_row(
            Text(query),
            f"{posts:,}",
            f"{max(1, -(-posts // page_size)):,}",
            usd(posts * tariff.post),
        )
    for query, (posts, down_to) in report.counted_in_part.items():
        since = f"{moment(down_to)} UTC"
        table.add_row(Text(f"{query} (only from {since} on; goes on there)"), f"{posts:,}", "", "")
    console.print(table)


def print_sections(sections: Sequence[Section], console: Console) -> None:
    """Answers with their tables."""
    for section in sections:
        console.print(_section(section))


class Changing:
    """Sections on a terminal that are replaced by newer ones; the last ones stay."""

    def __init__(self, console: Console) -> None:
        # On the terminal's other screen: at the end it is as it was before.
        self._live = Live(console=console, auto_refresh=False, screen=True)
        self._console = console
        self._last: Sequence[Section] = ()

    def __enter__(self) -> Changing:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        # The last picture stays, to be read and copied.
        print_sections(self._last, self._console)

    def show(self, sections: Sequence[Section]) -> None:
        """Draws them."""
        self._last = sections
        self._live.update(Group(*map(_section, sections)), refresh=True)


def _section(section: Section) -> Group:
    parts: list[RenderableType] = [Text(section.title, "bold")]
    if section.rows:
        table = Table(
            box=None, padding=(0, 2, 0, 0), header_style="bold", show_header=any(section.headings)
        )
        for number, heading in enumerate(section.headings):
            names = max(len(row[number]) for row in section.rows)
            table.add_column(
                Text(heading),
                justify="right" if number in section.right else "left",
                # A narrow terminal breaks a long cell, and never cuts a name or a number.
                overflow="fold",
                min_width=min(names, NAME_WIDTH) if number == 0 else None,
                no_wrap=number in section.right,
            )
        for row in section.rows:
            table.add_row(*map(Text, row))
        parts.append(table)
    elif section.headings:
        parts.append(Text("nothing yet"))
    parts += [Text(sentence) for sentence in section.sentences]
    return Group(*parts, Text(""))


def _print_outcomes(report: Report, console: Console) -> None:
    table = Table(title="targets", title_justify="left", header_style="bold")
    table.add_column("outcome")
    table.add_column("targets", justify="right")
    for state, count in report.outcomes.most_common():
        table.add_row(_STATES.get(state, state), f"{count:,}")
    console.print(table)
    for outcome in report.named[:NAMED_SHOWN]:
        console.print(
            f"  {outcome.name}: {outcome.state}: {outcome.reason}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    rest = len(report.named) - NAMED_SHOWN + report.unnamed
    if rest > 0:
        console.print(
            f"  and {rest:,} more; the table crawl_target holds state and state_reason of each "
            "handle",
            highlight=False,
            soft_wrap=True,
        )


def _print_credentials(report: Report, console: Console) -> None:
    from tweetcrawler.outcome import refused

    table = Table(title="credentials", title_justify="left", header_style="bold")
    for heading in ("credential", "endpoint", "requests", "posts", "new rows"):
        table.add_column(
            heading, justify="left" if heading in ("credential", "endpoint") else "right"
        )
    for row in report.totals:
        table.add_row(
            row["credential"],
            row["endpoint"],
            *(f"{int(row[c]):,}" for c in ("pages", "posts", "new")),
        )
    for (who, what), count in sorted(report.refusals.items()):
        table.add_row(who, f"no page: {refused(what)}", f"{count:,}", "0", "0")
    console.print(table)


def print_import_report(report: ImportReport, console: Console) -> None:
    """The table at the end of an import: files, and what was in them; every line and post
    is in one count.
    """

    def say(sentence: str) -> None:
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)

    console.print()
    table = Table(title="files", title_justify="left", header_style="bold")
    table.add_column("outcome")
    table.add_column("files", justify="right")
    for state, count in report.files.most_common():
        table.add_row(state, f"{count:,}")
    console.print(table)
    for result in report.named[:NAMED_SHOWN]:
        say(f"  {result.path}: {result.state}{f': {result.reason}' if result.reason else ''}")
    table = Table(title="contents", title_justify="left", header_style="bold")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_row("posts, now rows", f"{report.posts:,}")
    for kind, count in sorted(report.gave_no_row.items(), key=lambda item: -item[1]):
        if count:
            table.add_row(f"{kind} (refused)" if kind in report.refusals else kind, f"{count:,}")
    console.print(table)
    known = report.posts - report.new - report.updated
    say(
        f"{plural(report.new, 'new row')}, {report.updated:,} updated, {known:,} known; "
        f"{duration(report.seconds)}"
    )
    if report.lacking:
        say(
            "among them: "
            + ", ".join(
                plural(n, name.replace("rows", "row", 1), name)
                for name, n in report.lacking.items()
            )
        )
    if report.went_on:
        say(
            f"{plural(report.went_on, 'file')} went on where an earlier run stopped; "
            "counts are of the whole files"
        )
    if report.files["imported before"]:
        say("files that were imported before and did not change were not read; --again reads them")
    if report.rejected:
        say(
            f"{report.rejected:,} rejected: {report.rejects_file} has each with its place and "
            "the reason"
        )
    if report.ended:
        say(f"ended early: {report.ended}; {_GOES_ON}")
