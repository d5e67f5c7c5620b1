"""The report as one self-contained page: posts, methods, completeness and cost.

The page holds its pictures as SVG, whose colours follow the reader's light or dark; it
loads and runs nothing.
"""

from __future__ import annotations

import html
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from tweetcrawler.books import Known, Purchase, Run, added_up, summed
from tweetcrawler.errors import PackageMissing
from tweetcrawler.ids import FIRST_DATED_ID, time_ms_of
from tweetcrawler.look.sections import Section, as_markdown, duration, moment
from tweetcrawler.outcome import refused
from tweetcrawler.prices import MICRO, Tariff, usd
from tweetcrawler.targets import DONE, NEW, OK, RENAMED, SEARCH, TIMELINE
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.db import Reader

TEMPLATE = Path(__file__).with_name("report.html")
# More rows than that are no picture any more.
PICTURED = 120
RUNS_SHOWN = 50
QUERIES_SHOWN = 40
VALUES_SHOWN = 10
TROUBLE_SHOWN = 200
WIDTH = 760
_LABELS = {
    "complete": "var(--covered)",
    "hole": "var(--hole)",
    "not available from X": "var(--lost)",
    "since the last visit": "var(--waiting)",
}


@dataclass
class Findings:
    """Contents of a report, read at one moment of the database."""

    place: str
    at: float
    tariff: Tariff
    states: Sequence[tuple[str, str, int]] = ()
    known: Sequence[Known] = ()
    first_ids: Mapping[int, int] = field(default_factory=dict)
    bought: Sequence[Purchase] = ()
    runs: Sequence[Run] = ()
    by_day: Sequence[tuple[date, int]] = ()
    queries: Sequence[tuple[str, str]] = ()
    of_rooms: Sequence[Section] = ()

    @property
    def posts(self) -> int:
        return sum(count for _, count in self.by_day)


def gather(reader: Reader, tariff: Tariff, *, place: str) -> Findings:
    """Everything that a report needs."""
    states = reader.states()
    others = [state for state in {state for _, state, _ in states} if state not in DONE]
    # Those in trouble first: a reader of a report asks what is missing.
    known = reader.listed(others, TROUBLE_SHOWN)
    known += reader.listed(DONE, max(0, 2 * PICTURED - len(known)))
    runs = reader.runs(limit=RUNS_SHOWN)
    return Findings(
        place,
        reader.now(),
        tariff,
        states,
        known,
        reader.first_ids([one.id for one in known]),
        reader.purchases(),
        runs,
        reader.posts_by_day(lowest=0),
        reader.queries_of([run.id for run in runs], QUERIES_SHOWN),
        reader.of_rooms(),
    )


def as_page(findings: Findings) -> str:
    """The report as one HTML page.

    **Errors**: `ConfigurationError` when the charts' library is not installed.
    """
    sections = _sections(findings)
    pictures = {
        "completeness": _completeness_picture(findings),
        "posts by day": _days_picture(findings),
        "spent": _spent_picture(findings),
    }
    content = "\n".join(
        part for section in sections for part in _html(section, pictures.get(section.title, ""))
    )
    # Names, queries and reasons are written by others, so everything is escaped here and in
    # `_html`. The page has no script that could read them otherwise.
    return Template(TEMPLATE.read_text("utf-8")).substitute(
        title=html.escape(_title(findings)), lead=html.escape(_lead(findings)), content=content
    )


def as_text(findings: Findings) -> str:
    """The report as Markdown, without pictures."""
    return f"# {_title(findings)}\n\n{_lead(findings)}\n\n{as_markdown(_sections(findings))}"


# -- words --------------------------------------------------------------------------


def _title(findings: Findings) -> str:
    return f"Collection of {plural(findings.posts, 'post')} from X"


def _lead(findings: Findings) -> str:
    return f"{findings.place[:1].upper()}{findings.place[1:]}, as of {moment(findings.at)} UTC"


def _sections(findings: Findings) -> list[Section]:
    return [
        _what(findings),
        _completeness(findings),
        *findings.of_rooms,
        _days(findings),
        _outcomes(findings),
        _spent(findings),
        _limits(findings),
        _runs(findings),
        _how(findings),
        _parameters(findings),
    ]


def _what(findings: Findings) -> Section:
    counts: Counter[str] = Counter()
    for kind, _, count in findings.states:
        counts[kind] += count
    names = {TIMELINE: "timelines of users", SEARCH: "searches"}
    sentences = [
        f"{count:,} {names.get(kind, kind)}" for kind, count in sorted(counts.items(), reverse=True)
    ]
    if findings.by_day:
        sentences.append(
            f"{plural(findings.posts, 'post')} that were written "
            f"from {findings.by_day[0][0]} to {findings.by_day[-1][0]} (UTC)"
        )
    if findings.runs:
        first, last = findings.runs[-1], findings.runs[0]
        sentences.append(
            f"collected from {moment(first.started_at)} "
            f"to {moment(last.ended_at or last.started_at)} UTC"
            + (f" (the last {RUNS_SHOWN} runs)" if len(findings.runs) == RUNS_SHOWN else "")
        )
    return Section("what was collected", sentences)


def _how(findings: Findings) -> Section:
    return Section(
        "methods",
        [
            _methods(findings),
            "a timeline is read from its newest post down to the last one that X gives",
            (
                "what was read is known by id: between the times given above nothing is missing "
                "that X gave at that time"
            ),
            "counts of likes and reposts are those of the day on which a post was read",
        ],
    )


def _methods(findings: Findings) -> str:
    """Two sentences for the methods section of a paper, with versions and dates."""
    versions = ", ".join(sorted({run.version for run in findings.runs})) or "of unknown version"
    targets = sum(count for _, _, count in findings.states)
    days = ""
    if findings.runs:
        first, last = findings.runs[-1], findings.runs[0]
        days = f" between {_day(first.started_at)} and {_day(last.ended_at or last.started_at)}"
    written = ""
    if findings.by_day:
        written = f", written from {findings.by_day[0][0]} to {findings.by_day[-1][0]} (UTC)"
    return (
        f"Posts were collected with tweetcrawler {versions} from version 2 of the X API{days}. "
        f"The collection holds {plural(findings.posts, 'post')} of "
        f"{plural(targets, 'timeline or search', 'timelines and searches')}{written}."
    )


def _day(seconds: float) -> str:
    return moment(seconds).partition(" ")[0]


def _parameters(findings: Findings) -> Section:
    """What was asked of each endpoint: each parameter once, with all of its values."""
    given: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for endpoint, text in findings.queries:
        for name, value in json.loads(text).items():
            given[endpoint, name][str(value).replace(",", ", ")] = None
    rows: list[list[str]] = []
    for (endpoint, name), values in sorted(given.items()):
        shown = "; ".join(list(values)[:VALUES_SHOWN])
        rest = len(values) - VALUES_SHOWN
        before = rows and any(row[0] == endpoint for row in rows)
        more = f"; and {rest:,} more" if rest > 0 else ""
        rows.append(["" if before else endpoint, name, shown + more])
    return Section("parameters of the requests", [], ["endpoint", "parameter", "value"], rows)


def _completeness(findings: Findings) -> Section:
    rows = []
    for known in _pictured(findings):
        spans = list(_spans(findings, known))
        complete = [span for span in spans if span[2] == "complete"]
        holes = [span for span in spans if span[2] == "hole"]
        lost = [span for span in spans if span[2] == "not available from X"]
        rows.append(
            [
                known.name,
                f"{known.posts:,}",
                moment(complete[0][0]) if complete else "-",
                moment(complete[-1][1]) if complete else "-",
                "; ".join(f"{moment(begin)} to {moment(end)}" for begin, end, _ in holes) or "none",
                known.unreachable_reason if lost else "",
            ]
        )
    sentences = []
    total = sum(count for _, _, count in findings.states)
    if total > len(rows):
        sentences.append(
            f"{len(rows):,} of {total:,} targets are shown, those with holes first; those "
            " without posts are not"
        )
    return Section(
        "completeness",
        sentences,
        ["target", "posts", "complete from (UTC)", "until", "holes", "not available from X"],
        rows,
        frozenset({1}),
    )


def _days(findings: Findings) -> Section:
    if not findings.by_day:
        return Section("posts by day", ["no posts yet"])
    day, most = max(findings.by_day, key=lambda one: one[1])
    return Section(
        "posts by day", [f"most on {day}: {most:,}", "days are UTC, by the times in the posts' ids"]
    )


def _outcomes(findings: Findings) -> Section:
    rows = [
        [kind, _STATES.get(state, state), f"{count:,}"] for kind, state, count in findings.states
    ]
    trouble = [known for known in findings.known if known.state not in DONE]
    sentences = [
        f"{known.name}: {known.state}: {known.reason}"
        for known in trouble[:TROUBLE_SHOWN]
        if known.reason
    ]
    return Section("outcomes", sentences, ["kind", "outcome", "targets"], rows, frozenset({2}))


def _spent(findings: Findings) -> Section:
    tariff = findings.tariff
    total = added_up(findings.bought, tariff)
    rows = [
        [
            endpoint,
            f"{s.pages:,}",
            f"{s.posts:,}",
            f"{s.charged:,}",
            f"{s.users:,}",
            usd(s.micro_usd),
        ]
        for endpoint, s in sorted(summed(findings.bought, tariff, lambda b: b.endpoint).items())
    ]
    rows.append(
        [
            "all",
            f"{total.pages:,}",
            f"{total.posts:,}",
            f"{total.charged:,}",
            f"{total.users:,}",
            usd(total.micro_usd),
        ]
    )
    sentences = [
        (
            f"by the tariff {tariff.title}: "
            f"{usd(tariff.post)} for a post, {usd(tariff.user)} for a user"
        ),
        (
            f"{plural(total.posts, 'post was', 'posts were')} read; "
            f"{total.again:,} of them were stored before"
        ),
    ]
    if tariff.fee_month:
        sentences.append(f"beside a fee of {usd(tariff.fee_month)} a month")
    return Section(
        "spent",
        sentences,
        ["endpoint", "requests", "posts", "billed", "users", "USD"],
        rows,
        frozenset(range(1, 6)),
    )


def _limits(findings: Findings) -> Section:
    reasons: Counter[str] = Counter(
        known.unreachable_reason for known in findings.known if known.lost
    )
    sentences = [
        f"{plural(count, 'target')}: {reason}" for reason, count in reasons.most_common() if reason
    ]
    waits: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    for run in findings.runs:
        if ended := run.report.get("ended"):
            sentences.append(f"run {run.id} ended early: {ended}")
        for reason, seconds in (run.report.get("waited_s") or {}).items():
            waits[reason] += seconds
        for what, count in (run.report.get("refusals") or {}).items():
            refusals[refused(what.rpartition(": ")[2])] += count
    sentences += [
        f"waited {duration(seconds)}: {reason}"
        for reason, seconds in waits.most_common()
        if seconds >= 1
    ]
    sentences += [
        f"{plural(count, 'request')} without a page: {what}"
        for what, count in refusals.most_common()
    ]
    return Section("limits met", sentences or ["none"])


def _runs(findings: Findings) -> Section:
    by_run = summed(findings.bought, findings.tariff, lambda bought: bought.run)
    rows = []
    for run in findings.runs:
        total = by_run.get(run.id)
        rows.append(
            [
                str(run.id),
                run.command,
                run.version,
                moment(run.started_at),
                "-" if run.ended_at is None else duration(run.ended_at - run.started_at),
                _EXITS.get(run.exit_code, f"exit code {run.exit_code}"),
                f"{total.posts:,}" if total else "0",
                usd(total.micro_usd) if total else "$0.00",
            ]
        )
    return Section(
        "runs",
        [],
        ["run", "command", "version", "began (UTC)", "took", "ended", "posts", "USD"],
        rows,
        frozenset({0, 6, 7}),
    )


_STATES = {
    OK: "read to the end",
    RENAMED: "read to the end under a new name",
    NEW: "not read yet",
}
_EXITS = {
    None: "under way or killed",
    0: "all done",
    1: "some targets not done",
    2: "wrong configuration",
    3: "database failed",
    4: "no usable credential",
    5: "budget or cap reached",
    6: "no answer arrived",
    130: "interrupted",
    143: "terminated",
}


# -- pictures -----------------------------------------------------------------------


def _pictured(findings: Findings) -> list[Known]:
    """The targets that are shown one by one: those with holes or losses before the others."""
    real = [
        known
        for known in findings.known
        if known.covered or known.unreachable or known.state not in DONE
    ]
    real = [known for known in real if known.posts or known.state in DONE]
    real.sort(key=lambda known: (not (len(known.holes) > 1 or known.lost), known.id))
    return real[:PICTURED]


def _spans(findings: Findings, known: Known) -> Iterator[tuple[float, float, str]]:
    """From when to when what is known of a target, oldest first; times in seconds since 1970.

    A target without a bottom begins with its first post.
    """
    first = findings.first_ids.get(known.id)
    if first is None or first < FIRST_DATED_ID:
        return
    begin = _time(first)
    found: list[tuple[float, float, str]] = []
    top = known.top_id or 1
    for ranges, label in (
        (known.covered, "complete"),
        (known.lost, "not available from X"),
        ([(h.since_id + 1, h.until_id) for h in known.holes if h.until_id is not None], "hole"),
    ):
        for lower, upper in ranges:
            end = _time(upper)
            if upper == top and label == "complete":
                end = known.complete_until or end
            start = (
                _time(lower)
                if lower >= FIRST_DATED_ID
                else min(begin, end - 86_400 * 30 * (label != "complete"))
            )
            if end > start:
                found.append((start, end, label))
    last = max((end for _, end, _ in found), default=begin)
    if findings.at > last + 60:
        found.append((last, findings.at, "since the last visit"))
    yield from sorted(found)


def _completeness_picture(findings: Findings) -> str:
    shown = _pictured(findings)
    values = [
        {"target": _short(known.name), "from": begin * 1000, "until": end * 1000, "is": label}
        for known in shown
        for begin, end, label in _spans(findings, known)
    ]
    if not values:
        return ""
    values.sort(key=lambda value: value["is"] == "hole")  # what is drawn last lies on top
    return _figure(
        {
            "height": {"step": 16},
            "data": {"values": values},
            "mark": {"type": "bar", "height": {"band": 0.7}},
            "encoding": {
                "y": {"field": "target", "type": "nominal", "sort": None, "title": None},
                "x": {"field": "from", "type": "temporal", "scale": {"type": "utc"}, "title": None},
                "x2": {"field": "until"},
                "color": {
                    "field": "is",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": list(_LABELS), "range": list(_LABELS.values())},
                    "legend": {"orient": "top"},
                },
                # An hour in years would be too thin to be seen.
                "stroke": {
                    "condition": {"test": "datum.is === 'hole'", "value": "var(--hole)"},
                    "value": None,
                },
                "strokeWidth": {"value": 3},
            },
        },
        "From when to when each target is complete. What X does not give begins before the "
        "picture does.",
    )


def _days_picture(findings: Findings) -> str:
    if not findings.by_day:
        return ""
    first, last = findings.by_day[0][0], findings.by_day[-1][0]
    # A bar for each day of many years would be thinner than a pixel.
    unit = "month" if last - first > timedelta(days=400) else "day"
    counts: dict[date, int] = defaultdict(int)
    for day, count in findings.by_day:
        counts[day.replace(day=1) if unit == "month" else day] += count
    values = [
        {"from": _ms(day), "until": _ms(_next(day, unit)), "posts": n}
        for day, n in sorted(counts.items())
    ]
    return _figure(
        {
            "height": 180,
            "data": {"values": values},
            "mark": {"type": "bar", "color": "var(--bar)"},
            "encoding": {
                "x": {"field": "from", "type": "temporal", "scale": {"type": "utc"}, "title": None},
                "x2": {"field": "until"},
                "y": {"field": "posts", "type": "quantitative", "title": f"posts a {unit}"},
                "y2": {"datum": 0},
            },
        },
        f"Stored posts by the {unit} in which they were written.",
    )


def _spent_picture(findings: Findings) -> str:
    sums = summed(findings.bought, findings.tariff, lambda bought: bought.day)
    if not any(total.micro_usd for total in sums.values()):
        return ""
    values = [
        {"from": _ms(day), "until": _ms(day + timedelta(days=1)), "usd": total.micro_usd / MICRO}
        for day, total in sorted(sums.items())
    ]
    return _figure(
        {
            "height": 120,
            "data": {"values": values},
            "mark": {"type": "bar", "color": "var(--bar)"},
            "encoding": {
                "x": {
                    "field": "from",
                    "type": "temporal",
                    "scale": {"type": "utc"},
                    "title": None,
                    "axis": {
                        "format": "%Y-%m-%d",
                        "tickCount": min(8, len(values) + 1),
                        "labelOverlap": True,
                    },
                },
                "x2": {"field": "until"},
                "y": {"field": "usd", "type": "quantitative", "title": "USD a day"},
                "y2": {"datum": 0},
            },
        },
        "Money by the UTC day on which it was spent.",
    )


def _figure(spec: Mapping[str, Any], caption: str) -> str:
    try:
        import vl_convert  # an extra: most commands do without it
    except ImportError:
        more = "; --markdown does without"
        raise PackageMissing("a page with pictures", "vl-convert-python", more) from None
    whole = {"$schema": _SCHEMA, "width": WIDTH, "background": None, "config": _CONFIG, **spec}
    # As SVG here and now: a chart that is drawn by the reader's browser would load a script
    # from somewhere, and show another picture in some years.
    svg: str = vl_convert.vegalite_to_svg(whole)
    said = html.escape(caption)
    picture = f'<div role="img" aria-label="{said}">{svg}</div>'
    return f"<figure>{picture}<figcaption>{said}</figcaption></figure>"


_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# Colours are names of the page's style, which knows light from dark.
_CONFIG = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor",
        "titleColor": "currentColor",
        "gridColor": "var(--grid)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelLimit": 220,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
    },
    "legend": {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12},
}


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"{name[:31]}…"


def _ms(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000


def _next(day: date, unit: str) -> date:
    return (
        # The 28th and four days are in the next month, whatever month it is.
        (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        if unit == "month"
        else day + timedelta(days=1)
    )


def _time(tweet_id: int) -> float:
    return time_ms_of(tweet_id) / 1000


# -- HTML ---------------------------------------------------------------------------


def _html(section: Section, picture: str) -> Iterable[str]:
    yield f"<section>\n<h2>{html.escape(section.title[:1].upper() + section.title[1:])}</h2>"
    if section.sentences:
        yield (
            "<ul>"
            + "".join(f"<li>{html.escape(sentence)}</li>" for sentence in section.sentences)
            + "</ul>"
        )
    if picture:
        yield picture
    if section.rows:
        head = "".join(
            _cell("th", text, n in section.right) for n, text in enumerate(section.headings)
        )
        yield f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>'
        for row in section.rows:
            yield (
                "<tr>"
                + "".join(_cell("td", text, n in section.right) for n, text in enumerate(row))
                + "</tr>"
            )
        yield "</tbody></table></div>"
    yield "</section>"


def _cell(tag: str, text: str, is_number: bool) -> str:
    return f"<{tag}{' class=n' if is_number else ''}>{html.escape(text)}</{tag}>"
