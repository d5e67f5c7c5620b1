"""Status: posts stored, money spent and work left, as plain values and as sections.

Fast on a million targets: they are counted through an index, listed a few at a time, and
sampled for what a run would take next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tweetcrawler import budget
from tweetcrawler.books import (
    Known,
    Purchase,
    Sum,
    Usage,
    Window,
    added_up,
    month_began,
    summed,
)
from tweetcrawler.budget import Reserved
from tweetcrawler.coverage import Range
from tweetcrawler.ids import FIRST_DATED_ID, time_ms_of
from tweetcrawler.look.sections import Section, duration, moment
from tweetcrawler.prices import MICRO, Tariff, usd
from tweetcrawler.targets import DONE, FAILED, RESTING
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.db import Reader

LISTED = 20
RUNS_SHOWN = 10
PAGES_SHOWN = 20
# X's own count lags by minutes.
USAGE_LAG_S = 600.0

Json = dict[str, Any]


def of_all(
    reader: Reader,
    tariff: Tariff,
    *,
    next_run: Mapping[str, Any],
    budgets: Mapping[str, float | None],
) -> Json:
    """Everything at a glance.

    `next_run` is the plan of one more run over all targets, `budgets` what may be spent, in
    USD, by "day" and "month".
    """
    now = reader.now()
    states = reader.states()
    month = reader.purchases(since=month_began(now))
    reserved = reader.reserved()
    return {
        "at": now,
        "targets": [
            {"kind": kind, "state": state, "count": count} for kind, state, count in states
        ],
        "listed": [of_target(known) for known in _listed(reader, states)],
        "windows": [
            _window(window)
            for window in reader.windows()
            # Keys and accounts have rows of their own, which say something only while they are
            # shut.
            if not window.endpoint.startswith("*") or window.shut_for_s > 0
        ],
        "spent": _spent(reader, month, reserved, tariff, now),
        "budgets": _left(budgets, month, reserved, tariff, now),
        "tariff": tariff.title,
        "posts_per_month": tariff.posts_per_month,
        "usage": [_compared(usage, reader, tariff) for usage in reader.usages()],
        "refused": [
            {"reason": reason, "pages": pages, "posts": posts}
            for reason, pages, posts in reader.refused()
        ],
        "next_run": dict(next_run),
    }


def _listed(reader: Reader, states: Sequence[tuple[str, str, int]]) -> list[Known]:
    """A few targets, those first that are not done."""
    others = [state for state in {state for _, state, _ in states} if state not in DONE]
    listed = reader.listed(others, LISTED)
    return listed + reader.listed(DONE, LISTED - len(listed))


def _spent(
    reader: Reader,
    month: Sequence[Purchase],
    reserved: Sequence[Reserved],
    tariff: Tariff,
    now: float,
) -> Json:
    by_credential = summed(month, tariff, lambda bought: bought.credential)
    by_run = summed(month, tariff, lambda bought: bought.run)
    return {
        "today": _sum(added_up(_of_today(month, now), tariff)),
        "month": _sum(added_up(month, tariff)),
        "by_credential": {name: _sum(total) for name, total in sorted(by_credential.items())},
        "by_run": [
            {
                "run": run.id,
                "command": run.command,
                "started_at": run.started_at,
                "ended_at": run.ended_at,
                "exit_code": run.exit_code,
                "spent": _sum(by_run.get(run.id, Sum())),
            }
            for run in reader.runs(limit=RUNS_SHOWN)
        ],
        "reserved": _reserved(reserved, now),
    }


def _left(
    budgets: Mapping[str, float | None],
    month: Sequence[Purchase],
    reserved: Sequence[Reserved],
    tariff: Tariff,
    now: float,
) -> list[Json]:
    """What is left of the budgets, by the rule of a crawl that runs now."""
    today = datetime.fromtimestamp(now, UTC).date().isoformat()
    found = []
    for scope, period, purchases in (
        (budget.DAY, today, _of_today(month, now)),
        (budget.MONTH, today[:7], month),
    ):
        limit = budgets.get(scope)
        if limit is None:
            continue
        # Budgets take every post at its full price: X's word on repeated ones comes later.
        bought = sum(
            tariff.cost(b.endpoint, requests=b.pages, posts=b.posts, users=b.users)
            for b in purchases
        )
        room = budget.room_of(scope, period, (None, None), (0, bought), reserved=reserved, now=now)
        gone = room.spent + room.held
        found.append({"of": scope, "usd": limit, "left_usd": limit - gone / MICRO})
    return found


def _of_today(month: Sequence[Purchase], now: float) -> list[Purchase]:
    today = datetime.fromtimestamp(now, UTC).date()
    return [bought for bought in month if bought.day == today]


def of_target(known: Known) -> Json:
    """All that is known of a target; times are seconds since 1970, None where an id tells none."""
    return {
        "name": known.name,
        "kind": known.kind,
        "key": known.key,
        "username": known.username,
        "state": known.state,
        "reason": known.reason,
        "since": known.state_at,
        "covered": [_times(one) for one in known.covered],
        "complete_until": known.complete_until,
        "holes": [
            {**_times((hole.since_id + 1, hole.until_id)), "why": why_open(known, hole.until_id)}
            for hole in known.holes
        ],
        "unreachable": [{**_times(one), "why": known.unreachable_reason} for one in known.lost],
        "posts": known.posts,
        "account_posts": known.account_posts,
        "crawled_at": known.crawled_at,
        "next_visit_in_s": known.due_in_s,
    }


def in_detail(reader: Reader, known: Known, *, next_run: Mapping[str, Any]) -> Json:
    """A target with its newest pages, and what its next visit takes."""
    return {
        **of_target(known),
        "pages": reader.pages_of(known.id, PAGES_SHOWN),
        "next_run": dict(next_run),
    }


def why_open(known: Known, until_id: int | None) -> str:
    """Why a hole is there: what has to happen for it to be filled."""
    if known.state in RESTING:
        return f"{known.state}: {known.reason}" if known.reason else known.state
    if known.state == FAILED:
        return f"{FAILED}: {known.reason}"
    if until_id is None:
        return "newer than the last visit" if known.covered else "never crawled"
    return "a walk was interrupted here; the next run goes on"


_RUN_HEADINGS = ["run", "command", "began (UTC)", "took", "ended", "requests", "posts", "spent"]


def sections(status: Mapping[str, Any]) -> list[Section]:
    """The result of `of_all` as sections."""
    return list(parts(status).values())


def parts(status: Mapping[str, Any]) -> dict[str, Section]:
    """The sections by name. `PARTS` may be asked for by themselves; `CHANGING` change in a run."""
    return {
        "targets": Section(
            "targets",
            headings=["kind", "state", "targets"],
            rows=[[t["kind"], t["state"], f"{t['count']:,}"] for t in status["targets"]],
            right=frozenset({2}),
        ),
        "coverage": _coverage_section(status["listed"]),
        "windows": Section(
            "windows now",
            headings=["credential", "as", "endpoint", "left", "of", "resets in", "blocked for"],
            rows=[_window_row(window) for window in status["windows"]],
            right=frozenset({3, 4}),
        ),
        "spent": _spent_section(status),
        "runs": Section(
            "runs",
            headings=_RUN_HEADINGS,
            rows=[_run_row(run, status["at"]) for run in status["spent"]["by_run"]],
            right=frozenset({0, 5, 6, 7}),
        ),
        **({"usage": _usage_section(status["usage"])} if status["usage"] else {}),
        **({"refused": _refused_section(status["refused"])} if status["refused"] else {}),
        "next": _next_section(
            status["next_run"], "the next run", "of one more crawl of all stored timelines"
        ),
    }


def chosen(status: Mapping[str, Any], part: str) -> list[Section]:
    """The sections of one of `PARTS`."""
    found = parts(status)
    beside = {"targets": ("targets", "coverage"), "spent": ("spent", "usage")}
    return [found[name] for name in beside.get(part, (part,)) if name in found]


def changing(status: Mapping[str, Any]) -> list[Section]:
    """The sections for a picture that is drawn again: those that change stand first."""
    found = parts(status)
    names = dict.fromkeys((*CHANGING, *found))
    return [found[name] for name in names if name in found]


PARTS = ("windows", "runs", "spent", "targets")
CHANGING = ("runs", "windows", "spent")


def _refused_section(refused: Sequence[Mapping[str, Any]]) -> Section:
    return Section(
        "refused by the table",
        ["bought and kept; once the table takes them, `tweetcrawler retry-refused`"],
        ["reason", "pages", "posts"],
        [[one["reason"], f"{one['pages']:,}", f"{one['posts']:,}"] for one in refused],
        frozenset({1, 2}),
    )


def _coverage_section(listed: Sequence[Mapping[str, Any]]) -> Section:
    return Section(
        "coverage",
        [] if len(listed) < LISTED else [f"{LISTED} targets; --handle shows any other one"],
        ["target", "state", "posts", "complete from", "until", "holes", "out of reach"],
        [_target_row(target) for target in listed],
        frozenset({2, 5}),
    )


def detail_sections(detail: Mapping[str, Any]) -> list[Section]:
    """The result of `in_detail` as sections."""
    about = [f"state: {detail['state']}" + (f" ({detail['reason']})" if detail["reason"] else "")]
    about.append(
        f"since: {moment(detail['since'])} UTC; last crawled: {moment(detail['crawled_at'])} UTC"
    )
    if detail["username"] and detail["kind"] == "timeline":
        about.append(f"X's name and id: @{detail['username']}, {detail['key']}")
    of_all_posts = (
        f" of about {detail['account_posts']:,}" if detail["account_posts"] is not None else ""
    )
    about.append(f"posts bought: {detail['posts']:,}{of_all_posts}")
    if detail["next_visit_in_s"] is not None:
        about.append(f"next visit: in {duration(max(0.0, detail['next_visit_in_s']))}")
    spans = [["covered", *_span_cells(one), ""] for one in detail["covered"]]
    spans += [["hole", *_span_cells(one), one["why"]] for one in detail["holes"]]
    spans += [["out of reach", *_span_cells(one), one["why"]] for one in detail["unreachable"]]
    pages = [
        [
            str(p["run"]),
            moment(p["at"]),
            p["endpoint"],
            p["credential"],
            f"{p['posts']:,}",
            f"{p['new']:,}",
        ]
        for p in detail["pages"]
    ]
    return [
        Section(detail["name"], about, ["", "from (UTC)", "until (UTC)", "why"], spans),
        Section(
            "newest pages",
            [],
            ["run", "bought (UTC)", "endpoint", "credential", "posts", "new"],
            pages,
            frozenset({0, 4, 5}),
        ),
        _next_section(detail["next_run"], "the next run"),
    ]


# -- values -------------------------------------------------------------------------


def _sum(total: Sum) -> Json:
    return {
        "requests": total.pages,
        "posts": total.posts,
        "posts_charged": total.charged,
        "posts_again": total.again,
        "users": total.users,
        "usd": total.micro_usd / MICRO,
    }


def _reserved(rows: Sequence[Reserved], now: float) -> Json:
    """Reservations: of requests under way, and of requests without a seen answer."""
    lost = [row for row in rows if row.is_lost(now)]
    alive = [row for row in rows if row not in lost]
    return {
        "under_way": {
            "requests": len(alive),
            "posts": sum(r.posts for r in alive),
            "usd": sum(r.micro_usd for r in alive) / MICRO,
        },
        "without_answer": {
            "requests": len(lost),
            "posts": sum(r.posts for r in lost),
            "usd": sum(r.micro_usd for r in lost) / MICRO,
        },
    }


def _window(window: Window) -> Json:
    return {
        "credential": window.label,
        "as": window.kind,
        "endpoint": window.endpoint,
        "limit": window.limit,
        "left": window.left,
        "turns_in_s": window.resets_in_s,
        "day_limit": window.day_limit,
        "blocked_for_s": window.blocked_for_s,
        "shut_for_s": window.shut_for_s,
        "shut_why": window.shut_why if window.shut_for_s > 0 else "",
    }


def _compared(usage: Usage, reader: Reader, tariff: Tariff) -> Json:
    """X's count of a project beside ours, for the UTC days that X told of.

    Ours is of all credentials of the app; other apps of the project, other programs and
    answers that were lost on their way are in X's count only.
    """
    apps = reader.apps()
    # X counts by project, and an app belongs to one.
    same = {label for label, app in apps.items() if app == apps.get(usage.credential)} | {
        usage.credential
    }
    days = sorted(usage.by_day)
    ours: dict[date, int] = {}
    if days:
        bought = reader.purchases(
            since=_midnight(days[0]),
            # What was bought after X was asked is in our count only.
            until=min(usage.asked_at, _midnight(days[-1] + timedelta(days=1))),
        )
        by_day = summed([b for b in bought if b.credential in same], tariff, _day_of)
        ours = {day: total.charged for day, total in by_day.items()}
    x_count = sum(usage.by_day.values())
    our_count = sum(ours.get(day, 0) for day in days)
    return {
        "credential": usage.credential,
        "asked_at": usage.asked_at,
        "cap": usage.cap,
        "used": usage.used,
        "cycle_day": usage.cycle_day,
        "days": [
            {"day": day.isoformat(), "x": usage.by_day[day], "ours": ours.get(day, 0)}
            for day in days
        ],
        "x": x_count,
        "ours": our_count,
        "difference": x_count - our_count,
    }


def _day_of(bought: Purchase) -> date:
    return bought.day


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _times(one: tuple[int, int | None] | Range) -> Json:
    lower, upper = one
    return {
        # As text: JavaScript rounds whole numbers beyond 2^53.
        "from_id": str(lower),
        "until_id": None if upper is None else str(upper),
        "from": _time(lower),
        "until": _time(upper),
    }


def _time(tweet_id: int | None) -> float | None:
    if tweet_id is None or tweet_id < FIRST_DATED_ID:
        return None
    return time_ms_of(tweet_id) / 1000


# -- for readers --------------------------------------------------------------------


def _target_row(target: Mapping[str, Any]) -> list[str]:
    state = target["state"] + (f" ({target['reason']})" if target["reason"] else "")
    begin = "-"
    if target["covered"]:
        begin = (
            moment(target["covered"][0]["from"])
            if target["covered"][0]["from"]
            else "the beginning"
        )
    # The hole that reaches to the present is always there.
    inner = sum(hole["until_id"] is not None for hole in target["holes"])
    lost = "; ".join(f"until {moment(one['until'])}: {one['why']}" for one in target["unreachable"])
    return [
        target["name"],
        state,
        f"{target['posts']:,}",
        begin,
        moment(target["complete_until"]),
        f"{inner:,}",
        lost or "-",
    ]


def _window_row(window: Mapping[str, Any]) -> list[str]:
    blocked = ""
    if window["shut_why"]:
        why = {"cap": "cap reached", "credits": "no credits left"}.get(
            window["shut_why"], window["shut_why"]
        )
        blocked = f"{duration(window['shut_for_s'])}: {why}"
    elif window["blocked_for_s"] > 0:
        blocked = duration(window["blocked_for_s"])
    meant = {"*keys": "everything", "*account": "everything of its account"}
    unknown = window["limit"] is None
    return [
        window["credential"],
        window["as"],
        meant.get(window["endpoint"], window["endpoint"]),
        "?" if unknown else f"{window['left']:,}",
        "?" if unknown else f"{window['limit']:,}",
        duration(window["turns_in_s"]) if window["turns_in_s"] > 0 else "-",
        blocked,
    ]


def _spent_section(status: Mapping[str, Any]) -> Section:
    spent = status["spent"]
    rows = [
        ["today (UTC)", *_sum_cells(spent["today"])],
        ["this month", *_sum_cells(spent["month"])],
    ]
    rows += [
        [f"  with {name}", *_sum_cells(total)] for name, total in spent["by_credential"].items()
    ]
    sentences = [
        f"by the tariff {status['tariff']}; what is read again on one UTC day is charged once"
    ]
    cap = status["posts_per_month"]
    if cap:
        sentences.append(f"the tariff allows {cap:,} posts per project and month")
    sentences += [
        f"budget of the {one['of']}: "
        f"${max(0.0, one['left_usd']):,.2f} of ${one['usd']:,.2f} are left"
        for one in status["budgets"]
    ]
    lost = spent["reserved"]["without_answer"]
    if lost["requests"]:
        sentences.append(
            f"{plural(lost['requests'], 'request was', 'requests were')} sent whose answer nobody "
            f"saw (a killed process, a cut connection): up to {plural(lost['posts'], 'post')} "
            f"(${lost['usd']:,.2f}) may have been charged, which budgets count as spent"
        )
    under_way = spent["reserved"]["under_way"]
    if under_way["requests"]:
        sentences.append(f"requests under way may cost up to ${under_way['usd']:,.2f}")
    return Section(
        "spent",
        sentences,
        ["", "requests", "posts", "billed", "users", "USD"],
        rows,
        frozenset(range(1, 6)),
    )


def _sum_cells(total: Mapping[str, Any]) -> list[str]:
    counts = (total["requests"], total["posts"], total["posts_charged"], total["users"])
    return [*(f"{count:,}" for count in counts), usd(round(total["usd"] * MICRO))]


def _run_row(run: Mapping[str, Any], now: float) -> list[str]:
    ended = run["ended_at"]
    took = duration((ended or now) - run["started_at"])
    code = run["exit_code"]
    end = "under way or killed" if ended is None else _ENDS.get(code, f"exit {code}")
    spent = run["spent"]
    return [
        str(run["run"]),
        run["command"],
        moment(run["started_at"]),
        took if ended else "-",
        end,
        f"{spent['requests']:,}",
        f"{spent['posts']:,}",
        usd(round(spent["usd"] * MICRO)),
    ]


_ENDS = {
    0: "all done",
    1: "some targets not done",
    2: "configuration",
    3: "database failed",
    4: "no usable credential",
    5: "budget or cap",
    6: "no answer arrived",
    130: "interrupted",
    143: "terminated",
}


def _usage_section(usages: Sequence[Mapping[str, Any]]) -> Section:
    rows = []
    for usage in usages:
        days = f"{usage['days'][0]['day']} to {usage['days'][-1]['day']}" if usage["days"] else "-"
        said = "agree"
        if usage["difference"] > 0:
            said = f"X counts {usage['difference']:,} more"
        elif usage["difference"] < 0:
            said = f"X counts {-usage['difference']:,} fewer"
        rows.append(
            [
                usage["credential"],
                moment(usage["asked_at"]),
                days,
                f"{usage['x']:,}",
                f"{usage['ours']:,}",
                said,
                (
                    f"{usage['used'] or 0:,} of {usage['cap'] or 0:,}, "
                    f"resets on day {usage['cycle_day'] or '?'}"
                ),
            ]
        )
    return Section(
        "X's own count of posts",
        [
            (
                f"X's count lags by about {duration(USAGE_LAG_S)}; "
                "it also holds what other programs read with these keys"
            ),
            "and what was sent but lost on its way",
        ],
        ["credential", "asked (UTC)", "days", "X", "stored here", "difference", "cap"],
        rows,
        frozenset({3, 4}),
    )


def _next_section(plan: Mapping[str, Any], of: str, *about: str) -> Section:
    rows = []
    for name, key in (("requests", "requests_total"), ("posts", "posts"), ("users", "users")):
        span = plan[key]
        rows.append(
            [
                name,
                *(
                    "unknown" if span[k] is None else f"{span[k]:,}"
                    for k in ("likely", "low", "high")
                ),
            ]
        )
    money = plan["usd"]
    rows.append(
        [
            "USD",
            *(
                "unknown" if money[k] is None else f"{money[k]:,.2f}"
                for k in ("likely", "low", "high")
            ),
        ]
    )
    return Section(
        f"{of} would take",
        [*about, *plan["notes"]],
        ["", "likely", "at least", "at most"],
        rows,
        frozenset({1, 2, 3}),
    )


def _span_cells(one: Mapping[str, Any]) -> list[str]:
    begin = moment(one["from"]) if one["from"] is not None else "the beginning"
    end = (
        "now"
        if one["until_id"] is None
        else moment(one["until"])
        if one["until"] is not None
        # Ids of before that month hold no time.
        else "before 2010-11"
    )
    return [begin, end]
