"""Counts over time: `watch --metrics` looks at posts at the ages of a schedule.

The schedule follows X's own clock. A post is charged once a UTC day, however often it is looked
at; a budget counts each look, which is the safe side.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tweetcrawler import endpoints
from tweetcrawler.keeping import due, looking
from tweetcrawler.keeping.commands.archive import pause
from tweetcrawler.keeping.commands.checks import show_section
from tweetcrawler.keeping.due import Schedule
from tweetcrawler.look.sections import Section
from tweetcrawler.postgres.connection import now_of
from tweetcrawler.prices import MICRO, usd
from tweetcrawler.settings.ids import blocks
from tweetcrawler.web import NoAnswer, server_time
from tweetcrawler.work import lookups

if TYPE_CHECKING:
    from tweetcrawler.commands.watch import Values
    from tweetcrawler.db import Session
    from tweetcrawler.outcome import Report
    from tweetcrawler.secret import Credential
    from tweetcrawler.setup import Opened, Setup
    from tweetcrawler.work.kinds import Work

log = logging.getLogger("tweetcrawler")

# While nothing is due new posts are looked for this often.
_LOOKS_S = 60.0
_FULL_S = 3600.0
_AT_MOST = 1_000_000
# The runs of this command, by their arguments.
_RUNS = {"command": "watch", "values": {"metrics": True}}
_WHY = "watch --metrics keeps counts in a database"


def watch_metrics(setup: Setup, values: Values) -> int:
    """Looks at the posts that are due, once or until it is stopped."""
    schedule = schedule_of(values)
    if setup.settings.money.dry_run:
        setup.log()
        return _show_plan(setup, values, schedule)
    with (
        setup.asking_x(why=_WHY) as opened,
        opened.measured(values.metrics_address),
        opened.database.session() as session,
    ):
        while True:
            try:
                code, next_s = _look(opened, session, values, schedule)
            except NoAnswer as error:
                if values.once:
                    raise
                log.warning("%s; trying again", error)
                code, next_s = 1, _LOOKS_S
            if values.once or code not in (0, 1, 5):
                return code
            # A budget comes back when its day or month turns.
            wait_s = _FULL_S if code == 5 else min(_LOOKS_S, next_s)
            if (stopped := pause(opened.stop, wait_s)) is not None:
                return stopped


def schedule_of(values: Values) -> Schedule:
    """The ages of the options, and whether still counts skip one."""
    return Schedule("metrics", values.metrics_at, skips=values.metrics_stop)


def _look(
    opened: Opened, session: Session, values: Values, schedule: Schedule
) -> tuple[int, float]:
    """Looks at what is due; gives the exit code, and the seconds until something is."""
    now, table = _now(opened.settings.api_url, opened.keys), opened.database.table
    due.advance(session, schedule, now)
    due.enrol(session, table, schedule, now, partial(looking.conditions, values.metrics_for))
    tariff = opened.tariff()
    left = _left(session, values.metrics_budget, tariff)
    most = min(_AT_MOST, left // tariff.post) if left is not None and tariff.post else _AT_MOST
    ids = due.due(session, schedule, now, most)
    if ids:
        # Counts that are younger than a minute are those of a call that was killed. Their time
        # is X's, and the database's own clock may be another.
        again = lookups.Refreshing(60.0 - (now - session.do(now_of)))
        work = lookups.work(blocks(iter(ids), endpoints.IDS_A_LOOKUP), again)
        code = opened.told(_bought(opened, work, left))
        due.advance(session, schedule, now)
        if gone := looking.bury_gone(session, table):
            log.info("%s posts are gone: `tweetcrawler comply` deletes them everywhere", gone)
            looking.drop_buried(session)
    elif waiting := due.waiting(session, schedule, now):
        log.warning("%s posts are due, and this month's --metrics-budget is used up", waiting)
        code = 5
    else:
        code = 0
    return code, max(0.0, due.next_at(session, schedule, now) - now)


def _bought(opened: Opened, work: Work, left: int | None) -> Report:
    """One run of the look-ups, for at most what is left of the month's money."""
    settings = opened.settings
    if left is not None:
        money = settings.money
        least = left / MICRO if money.budget is None else min(left / MICRO, money.budget)
        opened.settings = replace(settings, money=replace(money, budget=least))
    try:
        return opened.run(work)
    finally:
        # What the command may spend in all is counted by itself.
        opened.settings = settings


def _left(session: Session, budget: float | None, tariff: Any) -> int | None:
    """What is left of this month's budget, in millionths of a USD; None without one."""
    if budget is None:
        return None
    return max(0, round(budget * MICRO) - looking.spent_this_month(session, _RUNS, tariff))


def _now(api_url: str, keys: Sequence[Credential]) -> float:
    """X's time. The ages of posts are by its clock, and this machine's may be wrong."""
    return server_time(api_url, proxy=next((each.proxy for each in keys), None))


def _planned_at(setup: Setup, session: Session) -> float:
    """X's time; while X cannot be reached, the database's."""
    keys = setup.credentials() if setup.settings.auth_csv is not None else ()
    try:
        return _now(setup.settings.api_url, keys)
    except NoAnswer:
        return session.do(now_of)


def _show_plan(setup: Setup, values: Values, schedule: Schedule) -> int:
    """Looks of the posts that are stored, and what they cost."""
    tariff = setup.tariff()
    with setup.database(_WHY) as database, database.session() as session:
        now = _planned_at(setup, session)
        chosen = partial(looking.conditions, values.metrics_for)
        planned = due.planned(session, database.table, schedule, now, chosen)
        left = _left(session, values.metrics_budget, tariff)
    charged = planned.charged if tariff.once_a_day else planned.looks
    plain = {
        **vars(planned),
        "requests": math.ceil(planned.looks / endpoints.IDS_A_LOOKUP),
        "usd": charged * tariff.post / MICRO,
        "usd_for_budgets": planned.looks * tariff.post / MICRO,
    }
    rows = [
        ("posts", f"{planned.posts:,}"),
        ("looks", f"{planned.looks:,}"),
        ("charged, once per UTC day", f"{charged:,}"),
        ("price", usd(charged * tariff.post)),
        ("price as a budget counts it", usd(planned.looks * tariff.post)),
    ]
    sentences = ["of the posts that are stored now, if no step is left out"]
    if left is not None:
        sentences.append(f"{usd(left)} of this month's --metrics-budget are left")
    section = Section("Counts over time", sentences, ("what", "number"), rows, frozenset((1,)))
    show_section(setup, plain, section)
    return 0
