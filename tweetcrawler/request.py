"""Sends one request to X: takes a permit, reserves its cost, and applies X's refusals to
permits and budgets.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tweetcrawler import run
from tweetcrawler.budget import LOOK_AGAIN_S, Limits, Want
from tweetcrawler.endpoints import SPACING_S, TIMELINE_MIN, USAGE
from tweetcrawler.errors import (
    BudgetReached,
    CapReached,
    CredentialRefused,
    EndpointRefused,
    MustWait,
    NoCredentialLeft,
    RequestRefused,
    TargetRefused,
    XError,
    XUnavailable,
)
from tweetcrawler.news import Lost, Paced, PageRead, Refusal
from tweetcrawler.pages import Bought
from tweetcrawler.permits import Kind, Ledger, Permit
from tweetcrawler.prices import MICRO, Tariff, usd
from tweetcrawler.run import Job, Session
from tweetcrawler.settings import Money
from tweetcrawler.windows import Rate
from tweetcrawler.words import plural

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page, X

Ask = Callable[["X", bool], "Page"]
# The things that X sells on a page; the pages of some endpoints hold neither.
Sold = Literal["posts", "users", "nothing"]

BOTH: tuple[Kind, ...] = ("user", "app")
APP: tuple[Kind, ...] = ("app",)
USER: tuple[Kind, ...] = ("user",)
# X's own count is asked for this number of days: one month and its turn.
USAGE_DAYS = 35
# Subjects of an endpoint that are remembered as answered: the one that fails now, and another.
PROOFS = 2

log = logging.getLogger(__name__)


class Requests:
    """Buys pages for one process: with a credential that has a permit, within the budgets.

    `number` is that of the process: it prefers the credential of that number. `tell` gives
    news to the parent.
    """

    def __init__(self, job: Job, *, number: int, owner: str, tell: Callable[[Any], None]) -> None:
        self._job = job
        self._owner = owner
        self._tell = tell
        self._ledger = Ledger(job.credentials, own=number, since=job.since, spacing_s=SPACING_S)
        self._clients: dict[int, X] = {}
        self._limits = limits_of(job.settings.money) if job.settings.money.is_limited else None
        # Subjects of requests that X gave no answer for while it answered others, and those
        # that only the user of a credential may read.
        self._troubled: set[str] = set()
        # By endpoint, the last subjects that X answered for: the proof of each costs nothing.
        self._proofs: dict[str, dict[str, Ask]] = {}
        self._paces: dict[tuple[str, str], float] = {}
        self._followed: dict[str, tuple[int, TargetRefused]] = {}
        # How far X's clock is ahead of this machine's, by the last answer.
        self.x_ahead_s = 0.0

    @contextmanager
    def buying(
        self,
        session: Session,
        endpoint: str,
        most: int,
        *,
        fewest: int = 1,
        what: Sold = "posts",
        kinds: tuple[Kind, ...] = BOTH,
        about: str = "",
        proof: Ask | None = None,
    ) -> Iterator[Purchase]:
        """The purchase of one page with at most `most` posts or users; its cost is set
        aside from the budgets until it is answered. `about` names its one target, if any;
        `proof` asks for posts of it that are not written yet.

        **Errors**: `BudgetReached` when not even the fewest may be bought any more;
        `MustWait` while only requests under way are in between.
        """
        ask = partial(self._page, session, endpoint, kinds=kinds, about=about, proof=proof)
        tariff = self._job.tariff
        purchase = Purchase(ask, most, what, tariff)
        if self._limits is None or tariff is None:
            try:
                yield purchase
            except XUnavailable as error:
                if error.may_be_charged and tariff is not None:
                    self._lose(session, purchase, _want(purchase, endpoint, fewest, tariff), error)
                raise
            return
        budgets = run.budgets(session)
        want = _want(purchase, endpoint, fewest, tariff)
        purchase.units = self._set_aside(budgets, purchase, want)
        try:
            yield purchase
        except XUnavailable as error:
            if error.may_be_charged:
                self._lose(session, purchase, want, error)
            raise
        finally:
            # After a page the sum stays set aside until the page is saved, in the same
            # transaction. A process that is killed in between leaves the budget too small,
            # never too large.
            if not purchase.may_have_cost:
                budgets.take_back(purchase.id)

    def give_back(self, session: Session) -> None:
        """Returns the permits that were not used, so that a run that follows at once need
        not do without.
        """
        self._ledger.give_back(session)

    def _lose(self, session: Session, purchase: Purchase, want: Want, error: XUnavailable) -> None:
        """Notes that X may have sold the page, though its answer was lost: the most that it
        can have cost counts as spent.
        """
        posts, cost = want.posts(purchase.units), want.cost(purchase.units)
        self._tell(Lost(want.endpoint, posts, cost, str(error)))
        if isinstance(session, run.Budgets):
            session.note_lost(
                self._job.run, purchase.id, want.endpoint, posts, cost, why=str(error)
            )

    def _set_aside(self, budgets: run.Budgets, purchase: Purchase, want: Want) -> int:
        """Sets the cost of a purchase aside; gives the number of units it may bring."""
        tariff = purchase.tariff
        assert tariff is not None  # noqa: S101 - the caller looked
        assert self._limits is not None  # noqa: S101 - the caller looked
        granted = budgets.set_aside(
            self._job.run, self._owner, purchase.id, want, self._limits, tariff
        )
        if granted.units is not None:
            purchase.reserved = True
            return granted.units
        if granted.full is None:
            raise MustWait(
                LOOK_AGAIN_S, "the rest of the budget is set aside for requests under way"
            )
        raise BudgetReached(_reached(granted.full, self._job.settings.money), granted.full)

    def _page(
        self,
        session: Session,
        endpoint: str,
        ask: Ask,
        *,
        kinds: tuple[Kind, ...],
        about: str,
        proof: Ask | None,
    ) -> tuple[Page, str]:
        """One page, and the name of the credential that it was bought with."""
        while True:
            permit = self._permit(session, endpoint, kinds, about)
            # Search of the archive takes one request a second, which no header tells.
            if permit.after_s > 0:
                time.sleep(permit.after_s)
            name = self._job.credentials[permit.credential].name
            client = self.client(permit.credential)
            try:
                page = _confirmed(partial(ask, client, permit.kind == "user"))
            except (TargetRefused, XError) as error:
                self._refused(session, permit, name, error, about)
                continue
            finally:
                # A refusal has the header Date, too.
                self.x_ahead_s = client.ahead_s
            self._ledger.settle(session, permit, page.rate)
            self._tell_pace(permit, self._ledger.pace(permit))
            if proof is not None:
                self._note_answer(endpoint, about, proof)
            return page, name

    def _tell_pace(self, permit: Permit, per_s: float | None) -> None:
        """Tells the rate of a bucket once: from it follows how many processes are needed."""
        if per_s is not None and self._paces.get(permit.key) != per_s:
            self._paces[permit.key] = per_s
            self._tell(Paced(permit.endpoint, permit.kind, permit.subject, per_s))

    def _permit(
        self, session: Session, endpoint: str, kinds: tuple[Kind, ...], about: str
    ) -> Permit:
        if about not in self._followed:
            return self._ledger.reserve(session, endpoint, kinds)
        credential, refusal = self._followed[about]
        try:
            return self._ledger.reserve(session, endpoint, USER, only=credential)
        except (CapReached, NoCredentialLeft):
            # That this user's token cannot be used ends no run: others need it not.
            raise refusal from None

    def _refused(
        self,
        session: Session,
        permit: Permit,
        name: str,
        error: TargetRefused | XError,
        about: str,
    ) -> None:
        """Applies a refusal to the permits; raises it unless another credential may help."""
        rate = error.rate if isinstance(error.rate, Rate) else None
        if isinstance(error, TargetRefused):
            # X refused the target, not the request: it counts as any other.
            self._ledger.settle(session, permit, rate)
            self._tell(PageRead(name))
            if self._may_follow(permit, error, about):
                self._followed[about] = permit.credential, error
                return
            raise error
        if isinstance(error, RequestRefused):
            # X counts a 400 against the window. Without headers the permit stays taken until it
            # turns.
            if rate is not None:
                self._ledger.settle(session, permit, rate)
            self._tell_refusal(name, error, str(error))
            raise error
        # The 429 of a monthly cap names no reset, or one that has passed. Only X's own count of
        # usage tells the day on which the cap turns.
        if isinstance(error, CapReached) and error.reason == "cap" and not error.daily:
            error.for_s = self._until_cycle_turns(session, permit.credential) or error.for_s
        own = about in self._troubled
        if isinstance(error, XUnavailable) and self._answers_others(session, permit, error, about):
            own = True
        sentence = self._ledger.refused(session, permit, error, again=own)
        self._tell_refusal(name, error, sentence)
        if isinstance(error, CapReached | CredentialRefused | EndpointRefused):
            self._tell_pace(permit, 0.0)
        if isinstance(error, XUnavailable):
            if about:
                self._troubled.add(about)
            raise error

    def _note_answer(self, endpoint: str, about: str, proof: Ask) -> None:
        known = self._proofs.setdefault(endpoint, {})
        known.pop(about, None)
        known[about] = proof
        if len(known) > PROOFS:
            del known[next(iter(known))]

    def _answers_others(
        self, session: Session, permit: Permit, error: XUnavailable, about: str
    ) -> bool:
        """Whether X, which gave no answer about one target, answers about another one.

        Then the trouble is the target's own, and no reason to leave the endpoint alone. An
        answer that was lost on its way says nothing about targets: it was long, perhaps.
        """
        known = self._proofs.get(permit.endpoint, {})
        others = [name for name in known if name != about]
        if not about or not others or error.status is None or error.is_lost:
            return False
        try:
            with self.buying(
                session, permit.endpoint, TIMELINE_MIN, fewest=TIMELINE_MIN, kinds=(permit.kind,)
            ) as purchase:
                purchase.ask(known[others[-1]])
        except TargetRefused:
            return True
        except (BudgetReached, MustWait, NoCredentialLeft, XError) as no_proof:
            log.debug("nothing shows that X answers: %s", no_proof)
            return False
        session.save_page(self._job.run, purchase.bought)
        self._tell(PageRead(purchase.credential, purchase.bought.posts))
        return True

    def _may_follow(self, permit: Permit, refusal: TargetRefused, about: str) -> bool:
        """Whether to ask once more, as the user of a credential whose app may not read this
        account: the user may be one of its followers.
        """
        return (
            refusal.state == "protected"
            and permit.kind == "app"
            and bool(about)
            and self._job.credentials[permit.credential].has_user_context
        )

    def usage(self, session: Session, number: int) -> Page:
        """X's own count of the posts of one app's project, as a page of the run."""
        return self.of_app(session, number, USAGE, lambda x: x.usage(days=USAGE_DAYS))

    def of_app(
        self, session: Session, number: int, endpoint: str, ask: Callable[[X], Page]
    ) -> Page:
        """An answer about one app, as a page of the run: no other app may be asked for it."""
        credential = self._job.credentials[number]
        ledger = Ledger([credential], own=0, since=self._job.since)
        permit = ledger.reserve(session, endpoint, APP)
        try:
            page = _confirmed(lambda: ask(self.client(number)))
        except XError as error:
            ledger.refused(session, permit, error)
            raise
        ledger.settle(session, permit, page.rate)
        ledger.give_back(session)
        bought = Bought(page.endpoint, page.params, credential.name, page.body)
        session.save_page(self._job.run, bought)
        self._tell(PageRead(credential.name))
        return page

    def _until_cycle_turns(self, session: Session, number: int) -> float | None:
        """The seconds that a used-up cap lasts, by the day that X names; None without one."""
        if not self._job.credentials[number].has_app:
            return None
        try:
            page = self.usage(session, number)
        except (MustWait, NoCredentialLeft, XError) as error:
            log.debug("X does not tell when the cap turns: %s", error)
            return None
        # Here, since few runs reach a cap: the parent and most workers never load it.
        from tweetcrawler.books import until_day_of_month, usage_of

        usage = usage_of("", page.server_time_s, page.answer)
        if usage is None or usage.cycle_day is None:
            return None
        return until_day_of_month(page.server_time_s, usage.cycle_day)

    def client(self, number: int) -> X:
        """X as one credential sees it; without a permit only for what takes none."""
        # Here, since the parent reads this module, too, and needs none of tweepy.
        from tweetcrawler.xapi import Timeouts, X

        if number not in self._clients:
            s = self._job.settings
            self._clients[number] = X(
                self._job.credentials[number],
                api_url=s.api_url,
                timeouts=Timeouts(s.connect_timeout_s, s.read_timeout_s, s.total_timeout_s),
            )
        return self._clients[number]

    def _tell_refusal(self, name: str, error: XError, sentence: str) -> None:
        silence = lost = ""
        if isinstance(error, XUnavailable):
            silence = "" if error.status else str(error)
            lost = str(error) if error.is_lost else ""
        self._tell(
            Refusal(name, type(error).__name__, sentence, error.status, silence, lost),
        )


class Purchase:
    """One page on its way: it may bring `units` posts or users.

    `id` is that of the page, under which its cost was set aside, if it was `reserved`.
    """

    def __init__(
        self,
        send: Callable[[Ask], tuple[Page, str]],
        units: int,
        what: Sold,
        tariff: Tariff | None = None,
    ) -> None:
        self.units = units
        self.what = what
        self.tariff = tariff
        # Made here and not by PostgreSQL: when the answer to a COMMIT is lost, the page is
        # saved again under the same id, which changes nothing.
        self.id = uuid.uuid4()
        self.credential = ""
        self.may_have_cost = self.reserved = False
        self._send = send
        self._page: Page | None = None

    def ask(self, ask: Ask) -> Page:
        """Sends the request, again with another credential if X refuses one."""
        try:
            self._page, self.credential = self._send(ask)
        except XUnavailable as error:
            self.may_have_cost = error.may_be_charged
            raise
        self.may_have_cost = True
        return self._page

    @property
    def page(self) -> Page:
        """The page that was asked for."""
        assert self._page is not None  # noqa: S101 - the caller has asked
        return self._page

    @property
    def bought(self) -> Bought:
        """The page as it was paid for; saving it settles its cost."""
        page = self.page
        posts = len(page.data) if self.what == "posts" else 0
        users = len(page.data) if self.what == "users" else 0
        cost = None
        if self.tariff is not None:
            cost = self.tariff.cost(page.endpoint, requests=1, posts=posts, users=users)
        return Bought(
            page.endpoint,
            page.params,
            self.credential,
            page.body,
            posts=posts,
            users=users,
            id=self.id,
            cost=cost,
            reserved=self.reserved,
        )

    def forget(self) -> None:
        """Frees the parsed answer, thousands of objects; for a moment with nothing to do."""
        self._page = None


def _want(purchase: Purchase, endpoint: str, fewest: int, tariff: Tariff) -> Want:
    return Want(
        endpoint,
        purchase.units,
        min(purchase.units, fewest),
        {"posts": tariff.post, "users": tariff.user, "nothing": 0}[purchase.what],
        fee=tariff.requests.get(endpoint, 0),
        are_posts=purchase.what == "posts",
    )


def limits_of(money: Money) -> Limits:
    """The budgets of a command, in millionths of a USD."""

    def micro(amount: float | None) -> int | None:
        return None if amount is None else round(amount * MICRO)

    return Limits(
        run=micro(money.budget),
        run_posts=money.max_posts,
        day=micro(money.budget_per_day),
        month=micro(money.budget_per_month),
    )


def _reached(scope: str, money: Money) -> str:
    """The sentence for a limit that is met; it says when the same command can go on."""
    if scope == "run":
        parts = [f"{usd(round(money.budget * MICRO))}"] if money.budget is not None else []
        parts += [plural(money.max_posts, "post")] if money.max_posts is not None else []
        return f"the budget of this run ({' and '.join(parts)}) is used up"
    amount = money.budget_per_day if scope == "day" else money.budget_per_month
    turns = "at midnight UTC" if scope == "day" else "with the next UTC month"
    used_up = f"the budget of the {scope} ({usd(round((amount or 0) * MICRO))}) is used up"
    return f"{used_up}; a new one begins {turns}"


def _confirmed(ask: Callable[[], Page]) -> Page:
    """The page; a 401 is believed when it comes twice."""
    # One confirming call: a credential that is retired is out for the whole run.
    try:
        return ask()
    except CredentialRefused:
        return ask()
