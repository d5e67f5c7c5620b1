"""One request of X: a permit before it, what it may cost set aside, and its refusals turned
into what follows from them.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from tweetcrawler.books import until_day_of_month, usage_of
from tweetcrawler.budget import LOOK_AGAIN_S, Limits, Want
from tweetcrawler.endpoints import SPACING_S, USAGE
from tweetcrawler.errors import (
    BudgetReached,
    CapReached,
    CredentialRefused,
    MustWait,
    NoCredentialLeft,
    RequestRefused,
    TargetRefused,
    TweetcrawlerError,
    XError,
    XUnavailable,
)
from tweetcrawler.pages import Bought
from tweetcrawler.permits import Kind, Ledger
from tweetcrawler.prices import MICRO, Tariff, usd
from tweetcrawler.run import Job, Session
from tweetcrawler.settings import Money
from tweetcrawler.windows import Rate
from tweetcrawler.xapi import Page, Timeouts, X

if TYPE_CHECKING:
    from tweetcrawler.db import Session as SqlSession

BOTH: tuple[Kind, ...] = ("user", "app")
APP: tuple[Kind, ...] = ("app",)
# As many days of X's own count as it is asked for: a month and its turn.
USAGE_DAYS = 35

log = logging.getLogger(__name__)


class Requests:
    """Fetches pages for one process: with whichever credential has a permit, within the
    budgets.

    `number` is that of the process: it prefers the credential of that number. `tell` gives
    news to the parent.
    """

    def __init__(self, job: Job, *, number: int, owner: str, tell: Callable[[Any], None]) -> None:
        self._job = job
        self._owner = owner
        self._tell = tell
        self._ledger = Ledger(job.credentials, own=number, since=job.since, spacing_s=SPACING_S)
        self._clients: dict[int, X] = {}
        self._limits = _limits_of(job.settings.money) if job.settings.money.is_limited else None
        # How far X's clock is ahead of this machine's, by the last answer.
        self.x_ahead_s = 0.0

    @contextmanager
    def allowance(
        self, session: Session, endpoint: str, most: int, *, fewest: int = 1, what: str = "posts"
    ) -> Iterator[Allowance]:
        """What one request may bring, at most so many posts or users: set aside from the
        budgets while it is sent.

        **Errors**: `BudgetReached` when not even the fewest may be bought any more; `MustWait` while only
        requests under way are in between.
        """
        tariff = self._job.tariff
        if self._limits is None or tariff is None:
            yield Allowance(most)
            return
        budgets = cast("SqlSession", session)  # the commands see to it that there is a database
        want = Want(
            endpoint,
            most,
            min(most, fewest),
            tariff.post if what == "posts" else tariff.user,
            fee=tariff.requests.get(endpoint, 0),
            are_posts=what == "posts",
        )
        page = uuid.uuid4()
        granted = budgets.set_aside(self._job.run, self._owner, page, want, self._limits, tariff)
        if granted.units is None:
            if granted.full is None:
                raise MustWait(
                    LOOK_AGAIN_S, "the rest of the budget is set aside for requests under way"
                )
            raise BudgetReached(_reached(granted.full, self._job.settings.money))
        allowed = Allowance(granted.units, page, tariff)
        try:
            yield allowed
        except XUnavailable as error:
            if error.may_be_charged:
                budgets.give_up_money(page)
            else:
                budgets.take_back(page)
            raise
        except TweetcrawlerError:
            budgets.take_back(page)
            raise
        if allowed.unused:
            budgets.take_back(page)

    def page(
        self,
        session: Session,
        endpoint: str,
        ask: Callable[[X, bool], Page],
        *,
        kinds: tuple[Kind, ...] = BOTH,
    ) -> tuple[Page, str]:
        """One page, with whichever credential has a permit; gives it with the credential's
        name.
        """
        while True:
            permit = self._ledger.reserve(session, endpoint, kinds)
            if permit.after_s > 0:
                time.sleep(permit.after_s)
            name = self._job.credentials[permit.credential].name
            client = self._client(permit.credential)
            try:
                page = _confirmed(lambda: ask(client, permit.kind == "user"))  # noqa: B023 - called at once
            except TargetRefused as refusal:
                self._ledger.settle(
                    session, permit, refusal.rate if isinstance(refusal.rate, Rate) else None
                )
                self._tell(("page", name, 0, 0))
                raise
            except RequestRefused as error:
                if isinstance(error.rate, Rate):
                    self._ledger.settle(session, permit, error.rate)
                self._tell_refusal(name, error, str(error))
                raise
            except XError as error:
                if isinstance(error, CapReached) and error.reason == "cap" and not error.daily:
                    error.for_s = self._until_cycle_turns(session, permit.credential) or error.for_s
                self._tell_refusal(name, error, self._ledger.refused(session, permit, error))
                if isinstance(error, XUnavailable):
                    raise
                continue
            finally:
                self.x_ahead_s = client.ahead_s
            self._ledger.settle(session, permit, page.rate)
            return page, name

    def usage(self, session: Session, number: int) -> Page:
        """X's own count of the posts of one app's project, as a page of the run."""
        credential = self._job.credentials[number]
        ledger = Ledger([credential], own=0, since=self._job.since)
        permit = ledger.reserve(session, USAGE, APP)
        try:
            page = _confirmed(lambda: self._client(number).usage(days=USAGE_DAYS))
        except XError as error:
            ledger.refused(session, permit, error)
            raise
        ledger.settle(session, permit, page.rate)
        ledger.give_back(session)
        bought = Bought(page.endpoint, page.params, credential.name, page.body)
        session.save_page(self._job.run, bought)
        self._tell(("page", credential.name, 0, 0))
        return page

    def give_back(self, session: Session) -> None:
        """Returns the permits that were not used, so that a run that follows at once need
        not do without.
        """
        self._ledger.give_back(session)

    def _until_cycle_turns(self, session: Session, number: int) -> float | None:
        """How long a used-up cap lasts, by the day that X names; None when it names none."""
        if not self._job.credentials[number].has_app:
            return None
        try:
            page = self.usage(session, number)
        except (MustWait, NoCredentialLeft, XError) as error:
            log.debug("X does not tell when the cap turns: %s", error)
            return None
        usage = usage_of("", page.server_time_s, page.answer)
        if usage is None or usage.cycle_day is None:
            return None
        return until_day_of_month(page.server_time_s, usage.cycle_day)

    def _client(self, number: int) -> X:
        if number not in self._clients:
            s = self._job.settings
            self._clients[number] = X(
                self._job.credentials[number],
                api_url=s.api_url,
                timeouts=Timeouts(s.connect_timeout_s, s.read_timeout_s, s.total_timeout_s),
            )
        return self._clients[number]

    def _tell_refusal(self, name: str, error: XError, sentence: str) -> None:
        self._tell(("refusal", name, type(error).__name__, sentence))


@dataclass
class Allowance:
    """What a request may bring: so many units. `page` is the id under which its cost was
    set aside, if it was.

    Who sends no request after all says that it is `unused`.
    """

    units: int
    page: uuid.UUID | None = None
    tariff: Tariff | None = None
    unused: bool = False

    def priced(self, bought: Bought) -> Bought:
        """The purchase as the one that settles what was set aside."""
        if self.page is None or self.tariff is None:
            return bought
        cost = self.tariff.cost(bought.endpoint, requests=1, posts=bought.posts, users=bought.users)
        return replace(bought, id=self.page, cost=cost)


def _limits_of(money: Money) -> Limits:
    def micro(amount: float | None) -> int | None:
        return None if amount is None else round(amount * MICRO)

    return Limits(
        run=micro(money.budget),
        run_posts=money.max_posts,
        day=micro(money.budget_per_day),
        month=micro(money.budget_per_month),
    )


def _reached(scope: str, money: Money) -> str:
    """Which limit is met, and when the same command can go on."""
    if scope == "run":
        parts = [f"{usd(round(money.budget * MICRO))}"] if money.budget is not None else []
        parts += [f"{money.max_posts:,} posts"] if money.max_posts is not None else []
        return f"the budget of this run ({' and '.join(parts)}) is used up"
    amount = money.budget_per_day if scope == "day" else money.budget_per_month
    turns = "at midnight UTC" if scope == "day" else "with the next UTC month"
    return f"the budget of the {scope} ({usd(round((amount or 0) * MICRO))}) is used up; a new one begins {turns}"


def _confirmed(ask: Callable[[], Page]) -> Page:
    """The page; a 401 is believed when it comes twice."""
    try:
        return ask()
    except CredentialRefused:
        return ask()
