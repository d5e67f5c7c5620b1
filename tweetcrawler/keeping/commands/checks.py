"""One call of `comply --run`: jobs of X that are due, then look-ups within their budget.

Each part ends with a sweep, and begins with what an earlier call left: whatever is killed, the
next call goes on at the same place.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tweetcrawler import endpoints
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.keeping import asking, checking, due, jobs, looking
from tweetcrawler.keeping.jobs import Check
from tweetcrawler.look.sections import Section, duration
from tweetcrawler.postgres.connection import now_of
from tweetcrawler.prices import MICRO, usd
from tweetcrawler.settings.ids import blocks
from tweetcrawler.words import plural
from tweetcrawler.work import lookups

if TYPE_CHECKING:
    from tweetcrawler.db import Database, Session
    from tweetcrawler.keeping.commands.comply import Values
    from tweetcrawler.setup import Opened, Setup

log = logging.getLogger("tweetcrawler")

# Users first: one user may stand for thousands of posts.
KINDS = ("users", "tweets")
_CALLED = {"users": "users", "tweets": "posts"}
# Requests of one job: list, create, and looks until it is complete.
_REQUESTS = 8
_AT_MOST = 1_000_000


@dataclass
class Done:
    """What a call did: sentences for readers, values for programs."""

    plain: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    code: int = 0

    def tell(self, name: str, plain: Mapping[str, Any], sentence: str) -> None:
        self.plain[name] = plain
        self.sentences.append(sentence)


class Checks:
    """The checks of one call. `swept` sweeps what has a tombstone, and tells what it did."""

    def __init__(
        self, opened: Opened, session: Session, values: Values, swept: Callable[[], object]
    ) -> None:
        self._opened = opened
        self._session = session
        self._values = values
        self._swept = swept
        self.done = Done()

    def run(self) -> Done:
        """Everything that is due."""
        table = self._opened.database.table
        looking.bury_gone(self._session, table)
        looking.bury_older(self._session, table)
        self._swept()
        for kind in KINDS:
            if self._opened.stop() is None:
                self._job(kind)
        if self._values.compliance_budget > 0 and self._opened.stop() is None:
            self._look()
        return self.done

    def _job(self, kind: str) -> None:
        database, session = self._opened.database, self._session
        check = jobs.opened(session, kind)
        if check is None and jobs.is_due(session, kind, self._values.every_s(kind)):
            check = checking.begin(database, session, kind, self._app())
        if check is not None and check.state in ("begun", "created", "uploaded"):
            check = self._asked(check)
        if check is None or self._opened.stop() is not None:
            return
        if check.state == "downloaded":
            told = checking.apply(database, session, check)
            about = f"{told.deleted:,} deleted, {told.hidden:,} hidden, {told.back:,} back again"
            strange = f"; {told.strange:,} lines were of no use" if told.strange else ""
            self.done.tell(_CALLED[kind], vars(told), f"{_CALLED[kind]}: {about}{strange}")
            check = jobs.opened(session, kind)
        self._swept()
        if check is not None:
            jobs.done(session, check)

    def _asked(self, check: Check) -> Check | None:
        """The job when X has answered it; None if it has not."""
        report = self._opened.run(asking.work(check))
        for outcome in report.named:
            log.warning("%s: %s", outcome.name, outcome.reason)
        if report.ended:
            log.warning("%s", report.ended)
        self.done.code = self.done.code or report.exit_code
        found = jobs.opened(self._session, check.kind)
        return found if found is not None and found.state == "downloaded" else None

    def _app(self) -> str:
        for keys in self._opened.keys:
            if keys.has_app:
                return keys.app_fingerprint
        raise ConfigurationError(
            "X takes compliance jobs from an app: add bearer_token, or consumer_key and "
            "consumer_secret, to the auth CSV"
        )

    def _look(self) -> None:
        """Looks up what jobs do not tell, within the rest of the month's budget."""
        session, opened, table = self._session, self._opened, self._opened.database.table
        left, ids = to_look_at(opened.database, session, self._values, opened.tariff())
        if ids:
            money = opened.settings.money
            least = left / MICRO if money.budget is None else min(left / MICRO, money.budget)
            opened.settings = replace(opened.settings, money=replace(money, budget=least))
            work = lookups.work(blocks(iter(ids), endpoints.IDS_A_LOOKUP), _READ_AGAIN)
            report = opened.run(work)
            # That the month's money is used up is no failure: the rest is for the next month.
            is_own = report.budget == "run" and least == left / MICRO
            code = 0 if report.exit_code == 5 and is_own else report.exit_code
            self.done.code = self.done.code or code
        due.advance(session, due.CHECKS, session.do(now_of))
        gone = looking.bury_gone(session, table)
        edited = looking.bury_older(session, table)
        self._swept()
        plain = {"looked": len(ids), "gone": gone, "edited": edited}
        self.done.tell(
            "looks",
            plain,
            f"{plural(len(ids), 'post')} looked at: {gone:,} gone, {edited:,} edited",
        )


# A post that was looked at within the hour was so by an earlier call that was killed.
_READ_AGAIN = lookups.Refreshing(3600.0)


def to_look_at(
    database: Database, session: Session, values: Values, tariff: Any
) -> tuple[int, list[int]]:
    """What is left of the month's money, and the posts to look at with it."""
    now = session.do(now_of)
    left = round(values.compliance_budget * MICRO)
    left = max(0, left - looking.spent_this_month(session, {"command": "comply"}, tariff))
    most = min(_AT_MOST, left // tariff.post) if tariff.post else _AT_MOST
    due.advance(session, due.CHECKS, now)
    due.enrol(session, database.table, due.CHECKS, now)
    newest = looking.newest_missing(session, database.table)[:most]
    rest = due.due(session, due.CHECKS, now, most - len(newest))
    return left, [*newest, *(one for one in rest if one not in set(newest))]


def show_plan(setup: Setup, values: Values) -> int:
    """What `comply --run` would do now: ids, requests, price, and the time until the next."""
    tariff = setup.tariff()
    with setup.database("comply looks into a database") as database, database.session() as session:
        of_jobs = [_planned_job(database, session, values, kind) for kind in KINDS]
        left, ids = 0, list[int]()
        if values.compliance_budget > 0:
            left, ids = to_look_at(database, session, values, tariff)
        waiting = due.waiting(session, due.CHECKS, session.do(now_of))
    cost, requests = len(ids) * tariff.post, math.ceil(len(ids) / endpoints.IDS_A_LOOKUP)
    days = _days(waiting, tariff.post, values.compliance_budget)
    rows = [_job_row(one, duration(values.every_s(one["kind"]))) for one in of_jobs]
    rows.append(("look-ups", f"{len(ids):,}", str(requests), usd(cost), days))
    looks = {"due": waiting, "now": len(ids), "requests": requests, "usd": cost / MICRO}
    sentences = (
        "X names no price for jobs: after the first one, compare `tweetcrawler status --ask`",
        f"{usd(left)} of this month's --compliance-budget are left"
        if values.compliance_budget
        else "edits and withheld posts are not looked for: --compliance-budget allows it",
    )
    headings = ("what", "ids", "requests", "price", "when")
    section = Section("Compliance", sentences, headings, rows, frozenset((1, 2, 3)))
    show_section(setup, {"jobs": of_jobs, "looks": looks}, section)
    return 0


def show_section(setup: Setup, plain: Mapping[str, Any], section: Section) -> None:
    """Answers with one table."""
    from tweetcrawler.look import display

    setup.front.answer(plain, lambda console: display.print_sections([section], console), wide=True)


def _job_row(job: Mapping[str, Any], every: str) -> tuple[str, ...]:
    when = f"{'now' if job['is_due'] else 'not yet'}; every {every}"
    return f"job of {_CALLED[job['kind']]}", f"{job['ids']:,}", str(job["requests"]), usd(0), when


def _planned_job(database: Database, session: Session, values: Values, kind: str) -> dict[str, Any]:
    is_open = jobs.opened(session, kind) is not None
    is_due = is_open or jobs.is_due(session, kind, values.every_s(kind))
    ids = len(checking.to_ask(database, session, kind)[0])
    requests = _REQUESTS if is_due and ids else 0
    named = {"kind": kind, "ids": ids, "is_due": is_due, "is_open": is_open}
    return {**named, "requests": requests, "usd": 0.0}


def _days(waiting: int, price: int, budget: float) -> str:
    """How long the money of the months takes for what is due now."""
    if not waiting:
        return "nothing is due"
    if budget <= 0:
        return f"{waiting:,} are due, without a budget"
    return f"{waiting:,} are due: {math.ceil(30 * waiting * price / MICRO / budget):,} days"
