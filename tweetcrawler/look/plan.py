"""Plan of a run: its requests, posts, money and time, before anything is bought.

It is made of what is stored: coverage, how often targets posted, what the windows hold.
What nothing tells is a range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from tweetcrawler.books import Known, Window, added_up, month_began
from tweetcrawler.coverage import Bounds
from tweetcrawler.endpoints import (
    COUNTED_S,
    COUNTS_ALL,
    COUNTS_RECENT,
    HANDLES_A_LOOKUP,
    SEARCH_ALL,
    SEARCH_ALL_MAX,
    SEARCH_RECENT,
    SEARCH_RECENT_MAX,
    TRENDS,
    USER_TWEETS,
    USERS_BY,
    counted_from_s,
)
from tweetcrawler.ids import time_ms_of
from tweetcrawler.look.forecast import BucketNow, Need, Span, of_search, of_timeline, time_s
from tweetcrawler.look.sections import Section, duration, moment
from tweetcrawler.prices import MICRO, Tariff, usd
from tweetcrawler.targets import RESTING, TIMELINE
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.db import Reader

# Runs that are looked through for another one between a plan and its run.
RUNS_SEARCHED = 50
SAMPLE = 400
_USER_AND_APP = ("user", "app")


class Keys(Protocol):
    """The parts of a credential that a plan needs."""

    @property
    def name(self) -> str: ...
    @property
    def has_user_context(self) -> bool: ...
    @property
    def has_app(self) -> bool: ...


@dataclass
class Plan:
    """Forecast of a run. `requests` are by endpoint; `known` counts the `targets` that are stored
    already.

    `time_s` is None where nothing tells the number of requests; `narrow` is the endpoint
    that takes longest.
    """

    subject: str
    made_at: float
    targets: int = 0
    known: int = 0
    posts_stored: int = 0
    users: Span = field(default_factory=Span)
    posts: Span = field(default_factory=Span)
    requests: dict[str, Span] = field(default_factory=dict)
    cost: Span = field(default_factory=Span)  # millionths of a USD
    time_s: Span | None = None
    narrow: str | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, endpoint: str, requests: Span) -> None:
        self.requests[endpoint] = self.requests.get(endpoint, Span()) + requests

    def as_plain(self) -> dict[str, Any]:
        """The plan as JSON can hold it; money in USD."""
        return {
            "subject": self.subject,
            "made_at": self.made_at,
            "targets": self.targets,
            "known": self.known,
            "posts_stored": self.posts_stored,
            "users": _plain(self.users),
            "posts": _plain(self.posts),
            "requests": {endpoint: _plain(span) for endpoint, span in self.requests.items()},
            "requests_total": _plain(sum(self.requests.values(), Span())),
            "usd": {
                name: None if value is None or math.isinf(value) else round(value / MICRO, 6)
                for name, value in (
                    ("low", self.cost.low),
                    ("likely", self.cost.likely),
                    ("high", self.cost.high),
                )
            },
            "time_s": None if self.time_s is None else _plain(self.time_s),
            "narrowest_window": self.narrow,
            "notes": self.notes,
        }


def subject_of(arguments: Mapping[str, Any]) -> str:
    """Identity of a kind of run: its command and its targets."""
    command = str(arguments.get("command", "crawl"))
    values = arguments.get("values") or {}
    if command == "search":
        # Runs of earlier versions recorded these values under the name of the command.
        search = arguments.get("search") or values
        if search.get("count"):
            return "count"
        return (
            f"search {search.get('queries_file') or ''} {' | '.join(search.get('queries') or ())}"
        )
    if command == "trending":
        return f"trending {','.join((arguments.get('trending') or values).get('places') or ())}"
    if command == "hydrate":
        return command
    words = values.get("handles")
    return f"crawl {' '.join(words) if words else arguments.get('handles_file')}"


def of_handles(
    reader: Reader,
    handles: Iterator[str],
    tariff: Tariff,
    *,
    subject: str = "",
    done_since: float = math.inf,
) -> Plan:
    """The plan of a crawl of these handles; those that were crawled from `done_since` on are
    done.
    """
    plan = Plan(subject, reader.now())
    typical = typical_posts(reader)
    need = Need()
    lookups = Span()
    while block := list(islice(handles, HANDLES_A_LOOKUP)):
        found = reader.known(block)
        plan.targets += len(block)
        plan.known += len(found)
        plan.posts_stored += sum(known.posts for known in found.values())
        left = [h for h in block if not _is_done(found.get(h), done_since)]
        here = sum(
            (
                of_timeline(found.get(h), plan.made_at, typical=typical, resting=RESTING)
                for h in left
            ),
            Need(),
        )
        # X takes a hundred names in a request: one for the block, if any of it is unknown.
        lookups += Span(
            float(here.users.high > 0), float(here.users.high > 0), float(here.users.high > 0)
        )
        need += here
    plan.users, plan.posts = need.users, need.posts
    if lookups.high:
        plan.add(USERS_BY, lookups)
    plan.add(USER_TWEETS, need.requests)
    unknown = plan.targets - plan.known
    if unknown:
        plan.notes.append(
            f"{plural(unknown, 'handle is', 'handles are')} not known yet: the number of posts "
            f"is a guess; --ask buys these users (at most {usd(unknown * tariff.user)}) and tells"
        )
    return plan


def _is_done(known: Known | None, since: float) -> bool:
    return known is not None and known.crawled_at is not None and known.crawled_at >= since


def of_queries(
    reader: Reader,
    queries: Sequence[str],
    counted: Mapping[str, int],
    *,
    archive: bool,
    subject: str = "",
) -> Plan:
    """The plan of a search for these normalised queries; `counted` is what X said of the
    number of their posts.
    """
    plan = Plan(subject, reader.now(), targets=len(queries))
    found = reader.known_searches(queries)
    plan.known = len(found)
    page = SEARCH_ALL_MAX if archive else SEARCH_RECENT_MAX
    need = Need()
    for query in queries:
        known = found.get(query)
        plan.posts_stored += known.posts if known else 0
        need += of_search(known, plan.made_at, counted=counted.get(query), page=page)
    plan.posts = need.posts
    plan.add(SEARCH_ALL if archive else SEARCH_RECENT, need.requests)
    if need.posts.likely is None:
        plan.notes.append(
            "queries that were never searched for may have any number of posts; "
            "--ask lets X count them"
        )
    return plan


def of_counts(reader: Reader, queries: Sequence[str], bounds: Bounds, *, archive: bool) -> Plan:
    """The plan of counting the posts of queries: a request for each month of the archive that
    no interrupted count knows already.
    """
    plan = Plan("", reader.now(), targets=len(queries))
    if not archive:
        plan.add(COUNTS_RECENT, Span(len(queries), len(queries), len(queries)))
        return plan
    since_id = bounds.lowest - 1
    pages = 0
    for query in queries:
        end = plan.made_at if bounds.end is None else time_ms_of(bounds.end) / 1000
        known = reader.counted_down_to(query, since_id, bounds.end)
        plan.known += known is not None
        length_s = (known or end) - counted_from_s(since_id)
        pages += max(1, math.ceil(length_s / COUNTED_S))
    plan.add(COUNTS_ALL, Span(pages, pages, pages))
    return plan


def of_trends(
    reader: Reader, places: int, *, trends: int, per_trend: int, subject: str = ""
) -> Plan:
    """The plan of one look at the trends of some places."""
    plan = Plan(subject, reader.now(), targets=places)
    plan.add(TRENDS, Span(places, places, places))
    most = places * trends
    # X tells the number of posts of some trends only: nothing is likely.
    plan.posts = Span(0, None, most * per_trend)
    plan.add(SEARCH_RECENT, Span(0, None, most * (per_trend / SEARCH_RECENT_MAX + 1)))
    plan.notes.append("how much is said about a trend is not known before; --maxPerTrend bounds it")
    return plan


def priced(plan: Plan, tariff: Tariff) -> Plan:
    """The plan with its costs."""
    by_request = sum(
        (span.times(tariff.requests.get(endpoint, 0)) for endpoint, span in plan.requests.items()),
        Span(),
    )
    plan.cost = plan.posts.times(tariff.post) + plan.users.times(tariff.user) + by_request
    return plan


def timed(
    plan: Plan,
    credentials: Sequence[Keys],
    windows: Sequence[Window],
    tariff: Tariff,
    *,
    processes: int,
) -> Plan:
    """The plan with the time that it takes, by what the windows hold now."""
    if not credentials:
        plan.notes.append("without credentials nothing can be said of the time")
        return plan
    times: list[tuple[float, str, Span]] = []
    for endpoint, requests in plan.requests.items():
        buckets = list(_buckets_now(endpoint, credentials, windows, tariff))
        if not buckets:
            plan.notes.append(f"no credential is known to open {endpoint}")
            continue

        # The default binds the buckets of this round; a closure would see those of the last
        # one.
        def time(count: float | None, buckets: list[BucketNow] = buckets) -> float | None:
            return None if count is None else time_s(count, buckets, processes=processes)

        span = Span(time(requests.low) or 0.0, time(requests.likely), time(requests.high) or 0.0)
        # The endpoints are used at the same time; the slowest decides, and of the others
        # what it waits for.
        times.append((span.high if span.likely is None else span.likely, endpoint, span))
    if times:
        _, plan.narrow, plan.time_s = max(times, key=lambda one: one[0])
    return plan


def noted(plan: Plan, reader: Reader, tariff: Tariff) -> Plan:
    """The plan with a note when the month's cap is in its way."""
    if tariff.posts_per_month is None:
        return plan
    used = added_up(reader.purchases(since=month_began(plan.made_at)), tariff).charged
    likely = plan.posts.low if plan.posts.likely is None else plan.posts.likely
    if used + likely > tariff.posts_per_month:
        plan.notes.append(
            f"the tariff {tariff.title} allows {tariff.posts_per_month:,} posts per project and "
            f"month, and {used:,} were bought in this one: the run may end there"
        )
    return plan


def typical_posts(reader: Reader) -> float | None:
    """Average number of posts of the crawled timelines; None when there are too few."""
    counts = [
        known.posts
        for known in reader.sampled(SAMPLE)
        if known.kind == TIMELINE and known.crawled_at
    ]
    return sum(counts) / len(counts) if len(counts) >= 5 else None


def of_one(known: Known, reader: Reader, tariff: Tariff) -> Plan:
    """The plan of the next visit of one target."""
    plan = Plan(known.name, reader.now(), targets=1, known=1, posts_stored=known.posts)
    if known.kind == TIMELINE:
        need = of_timeline(known, plan.made_at, typical=None, resting=RESTING)
    else:
        need = of_search(known, plan.made_at, counted=None)
    plan.users, plan.posts = need.users, need.posts
    plan.add(USER_TWEETS if known.kind == TIMELINE else SEARCH_RECENT, need.requests)
    return priced(plan, tariff)


def next_run(reader: Reader, tariff: Tariff) -> Plan:
    """The plan of one more run over all stored timelines; from a sample when there are many."""
    targets = sum(
        count for kind, state, count in reader.states() if kind == TIMELINE and state not in RESTING
    )
    plan = Plan("all stored timelines", reader.now(), targets=targets, known=targets)
    found = [known for known in reader.sampled(SAMPLE) if known.kind == TIMELINE and known.key]
    if not found:
        return priced(plan, tariff)
    need = sum((of_timeline(k, plan.made_at, typical=None, resting=RESTING) for k in found), Need())
    factor = max(1.0, targets / len(found))
    plan.posts = need.posts.times(factor)
    plan.add(USER_TWEETS, need.requests.times(factor))
    if factor > 1:
        plan.notes.append(f"estimated from {len(found):,} of the targets")
    return priced(plan, tariff)


def sections(plan: Plan, tariff: Tariff) -> list[Section]:
    """The plan for readers."""
    rows = [["targets", f"{plan.targets:,}", "", ""]]
    rows.append(["  already stored", f"{plan.known:,}", "", ""])
    rows.append(["  posts of them that are stored", f"{plan.posts_stored:,}", "", ""])
    for endpoint, span in plan.requests.items():
        rows.append([f"requests to {endpoint}", *_cells(span)])
    rows.append(["posts to buy", *_cells(plan.posts)])
    rows.append(["profiles to look up", *_cells(plan.users)])
    rows.append([f"money ({tariff.title})", *_cells(plan.cost, money=True)])
    if plan.time_s is not None:
        rows.append(["time", *_cells(plan.time_s, time=True)])
    sentences = list(plan.notes)
    if plan.narrow:
        sentences.insert(0, f"the narrowest window is that of {plan.narrow}")
    return [
        Section(
            "plan", sentences, ["", "likely", "at least", "at most"], rows, frozenset({1, 2, 3})
        )
    ]


def kept_beside(reader: Reader, number: int, tariff: Tariff) -> Section | None:
    """A run next to its plan; None when no plan was made since the last run of its kind."""
    found = reader.runs(run=number)
    if not found:
        return None
    [run] = found
    subject = subject_of(run.arguments)
    kept = reader.plan(subject, before=run.started_at)
    if kept is None:
        return None
    made_at, planned = kept
    for other in reader.runs(limit=RUNS_SEARCHED):
        # A plan is made of what is known. After another run of its kind it says nothing of this
        # one.
        is_between = (
            other.id < run.id and other.started_at > made_at and other.command == run.command
        )
        if is_between and subject_of(other.arguments) == subject:
            return None
    took = added_up(reader.purchases(run=number), tariff)
    return beside(
        planned,
        {
            "requests": took.pages,
            "posts": took.posts,
            "users": took.users,
            "usd": took.micro_usd / MICRO,
        },
    )


def beside(planned: Mapping[str, Any], took: Mapping[str, float]) -> Section:
    """Plan and result side by side: requests, posts, users, USD."""
    rows = []
    for name, key in (
        ("requests", "requests_total"),
        ("posts", "posts"),
        ("users", "users"),
        ("USD", "usd"),
    ):
        span = planned.get(key) or {}
        real = took.get(name.lower(), 0)
        likely = span.get("likely")
        off = f"{(real - likely) / likely:+.0%}" if likely else "-"
        rows.append(
            [name, _said(likely), _said(span.get("low")), _said(span.get("high")), _said(real), off]
        )
    return Section(
        "plan and run",
        [f"planned at {moment(planned.get('made_at'))} UTC"],
        ["", "likely", "at least", "at most", "it took", "off by"],
        rows,
        frozenset(range(1, 6)),
    )


def _said(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def _buckets_now(
    endpoint: str, credentials: Sequence[Keys], windows: Sequence[Window], tariff: Tariff
) -> Iterable[BucketNow]:
    """Buckets of an endpoint by credential, as learned or by the tariff; an app counts once."""
    guess = tariff.limits.get(endpoint)
    seen: set[str] = set()
    for credential in credentials:
        for kind in _USER_AND_APP:
            if not (credential.has_user_context if kind == "user" else credential.has_app):
                continue
            window = next(
                (
                    w
                    for w in windows
                    if w.endpoint == endpoint
                    and w.kind == kind
                    and credential.name in w.label.split(", ")
                ),
                None,
            )
            if window is not None and window.limit is not None:
                # All credentials of an app share its window.
                if window.label in seen and kind == "app":
                    continue
                seen |= {window.label} if kind == "app" else set()
                if not window.shut_why or window.shut_for_s <= 0:
                    yield _bucket_now(window)
            elif guess is not None:
                limit = guess.user if kind == "user" else guess.app
                a_day = guess.user_day if kind == "user" else guess.app_day
                # 96 windows of 15 minutes make a day. X may limit both, and the smaller one
                # decides.
                if a_day is not None and (limit is None or a_day < limit * 96):
                    yield BucketNow(a_day, a_day, 86_400.0, 86_400.0)
                elif limit:
                    yield BucketNow(limit, limit, 900.0, 900.0)


def _bucket_now(window: Window) -> BucketNow:
    limit = window.limit or 0
    if window.day_limit is not None and window.day_limit < limit * 86_400 / window.window_s:
        return BucketNow(
            window.left or 0, window.day_limit, window.day_resets_in_s or 86_400.0, 86_400.0
        )
    return BucketNow(
        window.left or 0, limit, window.resets_in_s or window.window_s, window.window_s
    )


def _plain(span: Span) -> dict[str, float | None]:
    def whole(value: float | None, upward: bool) -> int | None:
        if value is None or math.isinf(value):
            return None
        # Sums of fractions: 3.0000000000000004 requests are 3.
        return math.ceil(value - 1e-9) if upward else math.floor(value + 1e-9)

    return {
        "low": whole(span.low, False),
        "likely": whole(span.likely, True),
        "high": whole(span.high, True),
    }


def _cells(span: Span, *, money: bool = False, time: bool = False) -> list[str]:
    def cell(value: float | None) -> str:
        if value is None:
            return "unknown"
        if math.isinf(value):
            return "no bound"
        return (
            usd(round(value))
            if money
            else duration(value)
            if time
            else f"{math.ceil(value - 1e-9):,}"
        )

    return [cell(span.likely), cell(span.low), cell(span.high)]
