"""Permits to send requests, lent from X's rate-limit buckets before anything is sent.

A credential opens routes: its user token (OAuth 1.0a) and its app (bearer) are counted
separately by X. A `Ledger` belongs to one process. It borrows permits in blocks from books
that all processes share, spends them one by one, and takes back to the books what X's
answers say.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from tweetcrawler import windows
from tweetcrawler.errors import (
    CapReached,
    CredentialRefused,
    EndpointRefused,
    MustWait,
    NoCredentialLeft,
    Overloaded,
    ProxyFailed,
    WindowClosed,
    XError,
    XUnavailable,
)
from tweetcrawler.ids import DAY_S
from tweetcrawler.windows import Bucket, Rate

# Permits of a block: a share of the window, so that a process that dies forfeits little of it.
BLOCK, BLOCK_MAX, BLOCK_SHARE = 25, 400, 0.01
# A block is sent within this time, and within this part of what is left of its window: nobody
# shall hold what others could send in time. A request takes about so long until one was sent.
BLOCK_S, BLOCK_OF_REST, REQUEST_S = 5.0, 0.25, 0.35
# A refusal holds for the run; this bounds it for runs that never end.
REFUSED_S = 7 * DAY_S
# While another process finds out what an unknown bucket holds, look again this often.
PROBE_POLL_S = 0.3
# A block ends before X's own word of the window's end: the time in which nothing is sent, less
# the margin that the ledger adds to each reading.
_ENDS_BEFORE_S = windows.MARGIN_S - windows.GREY_S

Kind = Literal["user", "app"]
Key = tuple[str, str]  # (subject, endpoint)
T = TypeVar("T")

# Subjects and endpoints that stand for more than one bucket.
_EVERYONE = "*"  # the breaker of an endpoint
_KEYS = "*keys"  # everything that one token opens
_ACCOUNT = "*account"  # everything that is charged to the account of one app
_PROXY = "*proxy"  # everything that one credential sends through its proxy
_DAY = "*day "  # one endpoint for all tokens of an app, where X counts their day together


class Books(Protocol):
    """The store of the buckets, shared by all processes."""

    def change_buckets(
        self,
        keys: Iterable[Key],
        change: Callable[[dict[Key, Bucket], float], tuple[Mapping[Key, Bucket], T]],
    ) -> T:
        """Locks the buckets, calls `change(buckets, now)`, stores what it gives first and
        returns the second.

        `now` is the ledger's clock in seconds, read after the locks were got. Unknown keys
        are new buckets.
        """
        ...


class Keys(Protocol):
    """The parts of a credential that the ledger needs: its fingerprints, never a secret."""

    @property
    def name(self) -> str: ...
    @property
    def user_fingerprint(self) -> str | None: ...
    @property
    def app_fingerprint(self) -> str: ...
    @property
    def has_app(self) -> bool: ...
    @property
    def proxy_fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Permit:
    """The right to send one request to `endpoint` with one credential, as user or as app.

    It is to be sent `after_s` seconds from now, which is 0 unless X counts the endpoint by
    the second.
    """

    credential: int
    kind: Kind
    endpoint: str
    subject: str
    account: str
    proxy: str = ""
    after_s: float = 0.0

    @property
    def key(self) -> Key:
        return (self.subject, self.endpoint)

    @property
    def day(self) -> Key:
        """The bucket of the app's day, which all of its tokens share."""
        return (self.account, _DAY + self.endpoint)


@dataclass
class _Block:
    left: int
    turn: int
    ends_at: float  # on this process's monotonic clock
    settled: bool = False


@dataclass(frozen=True)
class _Borrowed:
    """An open route, with what was lent for it: None when it comes from the block at hand."""

    route: Permit
    loan: windows.Loan | None
    wary: set[str]  # the endpoint and the proxy, if it is not sure that they work
    # On this process's monotonic clock, before the books were written: a slow commit must not
    # make a loan last longer.
    lent_at: float


@dataclass(frozen=True)
class _Obstacle:
    """What keeps a request from a route for `wait_s` seconds; `why` is the sentence of a wait.

    `shut` is X's reason, or "proxy"; empty when only time must pass.
    """

    name: str
    wait_s: float
    why: str
    shut: str = ""
    tries_left: int = 0


class Ledger:
    """The permits of one process.

    `own` is the number of the credential that this process prefers; `since` is when the run
    began, on the clock of the books. A process that dies forfeits the block it held until
    the window turns. `spacing_s` says of endpoints how many seconds X wants between two
    requests of one bucket; its headers do not tell.
    """

    def __init__(
        self,
        credentials: Sequence[Keys],
        *,
        own: int,
        since: float,
        spacing_s: Mapping[str, float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._names = [c.name for c in credentials]
        self._routes: list[Permit] = []
        for number in sorted(range(len(credentials)), key=lambda n: (n - own) % len(credentials)):
            keys = credentials[number]
            app, user, proxy = keys.app_fingerprint, keys.user_fingerprint, keys.proxy_fingerprint
            # The app first: its requests need no signature, which costs as much as
            # flattening half a page.
            if keys.has_app:
                self._routes.append(Permit(number, "app", "", app, app, proxy))
            if user is not None:
                self._routes.append(Permit(number, "user", "", user, app, proxy))
        self._known_routes: dict[tuple[str, tuple[Kind, ...]], list[Permit]] = {}
        self._own = own % len(credentials)
        self._since = since
        self._spacing_s = spacing_s or {}
        self._monotonic = monotonic
        self._chance = chance
        self._blocks: dict[Key, _Block] = {}
        # Endpoints and proxies that failed: they are tried through the books only, and a good
        # answer is told there.
        self._wary: set[str] = set()
        self._reserved_at = 0.0
        self._request_s: float | None = None
        # Requests in a second that buckets allow on average, by the last answers.
        self._paces: dict[Key, float] = {}

    def reserve(
        self,
        books: Books,
        endpoint: str,
        kinds: Iterable[Kind] = ("user", "app"),
        *,
        only: int | None = None,
    ) -> Permit:
        """A permit for one request to the endpoint, through a route of one of the kinds, and
        of the credential of the number `only`, if it is given.

        **Errors**: `MustWait` says when the next bucket opens; `CapReached` and
        `NoCredentialLeft` say that none will in this run.
        """
        self._reserved_at = self._monotonic()
        routes = self._routes_to(endpoint, tuple(kinds))
        if only is not None:
            routes = [route for route in routes if route.credential == only]
        if not routes:
            raise NoCredentialLeft(
                f"no credential of the file can be used for {endpoint}: add one that can"
            )
        if endpoint not in self._wary:
            for route in routes:
                if route.proxy not in self._wary and self._spend(route):
                    return route
        # The own credential first, so that N processes start on N credentials and do not
        # queue for the first one.
        own = [route for route in routes if route.credential == self._own]
        permit = self._borrow(books, own) if own and len(own) < len(routes) else None
        permit = permit or self._borrow(books, routes)
        if permit is None:
            raise self._why_closed(books, routes)
        return permit

    def _routes_to(self, endpoint: str, kinds: tuple[Kind, ...]) -> list[Permit]:
        known = self._known_routes.get((endpoint, kinds))
        if known is None:
            known = _unique(
                replace(route, endpoint=endpoint) for route in self._routes if route.kind in kinds
            )
            self._known_routes[endpoint, kinds] = known
        return known

    def settle(self, books: Books, permit: Permit, rate: Rate | None) -> None:
        """Updates the shared bucket from an answer's headers, if they say something new.

        An answer without headers of its bucket says only that X answers.
        """
        answered_at = self._monotonic()
        took_s = answered_at - self._reserved_at
        before_s = took_s if self._request_s is None else self._request_s
        self._request_s = before_s + 0.1 * (took_s - before_s)  # about the last ten
        block = self._blocks.get(permit.key)
        healed = self._healed(permit)
        if rate is None:
            if healed or block is None or block.left <= 0:
                self._heal(books, permit, healed)
            return
        if block is not None:
            later_s = answered_at + rate.reset_in_s + _ENDS_BEFORE_S - block.ends_at
            known = block.settled and abs(later_s) < windows.SAME_WINDOW_S
            enough = rate.remaining >= block.left
            block.left = min(block.left, rate.remaining)
            if known and enough and block.left > 0 and not healed:
                return
            block.settled = True
        turn = block.turn if block else None
        unsent = block.left if block else 0

        def change(buckets: dict[Key, Bucket], now: float) -> tuple[dict[Key, Bucket], Bucket]:
            bucket = buckets[permit.key]
            # X told the seconds before this process waited for the books; with the wait in it
            # the end of the window would lie too late.
            read_at = self._monotonic()
            came_at = now - (read_at - answered_at)
            bucket = windows.settle(
                bucket, rate, came_at, turn=bucket.turn if turn is None else turn, unsent=unsent
            )
            # The time of the books may be another machine's: told on this process's clock.
            told = replace(bucket, reset_at=read_at + bucket.reset_at - now)
            changed = {permit.key: bucket, **dict.fromkeys(healed, Bucket())}
            if rate.app_day is not None:
                changed[permit.day] = windows.settle_day(buckets[permit.day], rate, came_at)
            return changed, told

        days = [permit.day] if rate.app_day is not None else []
        bucket = books.change_buckets([permit.key, *days, *healed], change)
        self._paces[permit.key] = rate.limit / bucket.window_s
        self._wary -= {permit.endpoint, permit.proxy}
        if block is not None:
            block.ends_at = bucket.reset_at - windows.GREY_S
            if bucket.turn != block.turn:
                self._blocks.pop(permit.key, None)

    def pace(self, permit: Permit) -> float | None:
        """The requests in a second that a permit's bucket allows on average; None while no
        answer told it.
        """
        return self._paces.get(permit.key)

    def _heal(self, books: Books, permit: Permit, healed: Sequence[Key]) -> None:
        def change(buckets: dict[Key, Bucket], now: float) -> tuple[dict[Key, Bucket], None]:
            bucket = windows.answered(buckets[permit.key], now)
            return {permit.key: bucket, **dict.fromkeys(healed, Bucket())}, None

        books.change_buckets([permit.key, *healed], change)
        self._wary -= {permit.endpoint, permit.proxy}

    def _healed(self, permit: Permit) -> list[Key]:
        """What failed before, and does not any more now that this permit brought an answer."""
        healed = []
        if permit.endpoint in self._wary:
            healed.append((_EVERYONE, permit.endpoint))
        if permit.proxy in self._wary:
            healed.append((permit.proxy, _PROXY))
        return healed

    def refused(self, books: Books, permit: Permit, error: XError, *, again: bool = False) -> str:
        """Records a refusal in the ledger: it closes a bucket, a credential or an account for a
        time.

        Gives a sentence for the log. The caller reserves another permit and tries again, or
        gives up. A request that fails `again` says nothing new of its endpoint.
        """
        rate = error.rate if isinstance(error.rate, Rate) else None
        key, change_bucket = self._consequence(permit, error, rate, again)
        block = self._returned(permit, error)
        day = permit.day if rate is not None and rate.app_day is not None else None

        def change(buckets: dict[Key, Bucket], now: float) -> tuple[dict[Key, Bucket], float]:
            # Processes that waited for the answer of this request need not wait any more.
            changed = {permit.key: windows.unprobed(buckets[permit.key], now)}
            changed[key] = change_bucket(buckets[key], now)
            if day is not None and rate is not None:
                changed[day] = windows.settle_day(buckets[day], rate, now)
            if block is not None:
                changed[permit.key] = windows.give_back(
                    changed[permit.key], turn=block.turn, unsent=block.left
                )
            return changed, _waits_s(changed[key], now)

        waits_s = books.change_buckets({key, permit.key} | ({day} if day else set()), change)
        if isinstance(error, XUnavailable):
            self._wary.add(permit.endpoint)
        elif isinstance(error, ProxyFailed):
            self._wary.add(permit.proxy)
        else:
            self._forget_blocks(permit, error)
        who = f"{self._names[permit.credential]} ({permit.kind}) on {permit.endpoint}"
        return (
            f"{who}: {error}; not used again for {waits_s:.0f} s" if waits_s else f"{who}: {error}"
        )

    def _returned(self, permit: Permit, error: XError) -> _Block | None:
        """The permits that a refusal leaves unused, for others or for later."""
        if isinstance(error, Overloaded):
            # X is not asked for more while it asks for patience, but its window holds these
            # permits still.
            return self._blocks.pop(permit.key, None)
        if isinstance(error, ProxyFailed) and (block := self._blocks.pop(permit.key, None)):
            # X did not see this request, so it did not count it.
            return replace(block, left=block.left + 1)
        return None

    def give_back(self, books: Books) -> None:
        """Returns all unused permits, for others or the next run.

        The process will send no more.
        """
        blocks = {key: block for key, block in self._blocks.items() if block.left > 0}
        self._blocks.clear()

        def change(buckets: dict[Key, Bucket], _now: float) -> tuple[dict[Key, Bucket], None]:
            return {
                key: windows.give_back(buckets[key], turn=block.turn, unsent=block.left)
                for key, block in blocks.items()
            }, None

        if blocks:
            books.change_buckets(blocks, change)

    def _forget_blocks(self, permit: Permit, error: XError) -> None:
        """Drops what was lent from the buckets that the refusal closes.

        More of it would be refused, too.
        """
        closed = {permit.key}
        if isinstance(error, CapReached):
            same = {route.subject for route in self._routes if route.account == permit.account}
            closed |= {key for key in self._blocks if key[0] in same}
        elif isinstance(error, CredentialRefused):
            closed |= {key for key in self._blocks if key[0] == permit.subject}
        for key in closed:
            self._blocks.pop(key, None)

    def _spend(self, route: Permit) -> bool:
        block = self._blocks.get(route.key)
        if block is None or block.left <= 0 or self._monotonic() >= block.ends_at:
            self._blocks.pop(route.key, None)
            return False
        block.left -= 1
        return True

    def _borrow(self, books: Books, routes: Sequence[Permit]) -> Permit | None:
        """A block from the first open route: the own credential's, else the first to end.

        Of the others' routes, the one is taken whose window ends soonest.
        """
        breaker = (_EVERYONE, routes[0].endpoint)

        def change(
            buckets: dict[Key, Bucket], now: float
        ) -> tuple[dict[Key, Bucket], _Borrowed | None]:
            tried, passes = windows.probe(buckets[breaker], now)
            if not passes:
                return {}, None
            fails = {routes[0].endpoint} if tried.failures else set()
            for route in sorted(routes, key=lambda d: self._preference(d, buckets[d.key], now)):
                if self._is_shut(route, buckets, now):
                    continue
                changed, borrowed = self._try_route(route, buckets, now, fails)
                if borrowed is not None:
                    return {**changed, breaker: tried} if fails else changed, borrowed
            return {}, None

        got = books.change_buckets(_keys_behind(routes), change)
        if got is None:
            return None
        self._wary |= got.wary
        if got.loan is None:
            return got.route
        self._blocks[got.route.key] = _Block(
            got.loan.count - 1, got.loan.turn, got.lent_at + got.loan.valid_s
        )
        return replace(got.route, after_s=got.loan.after_s)

    def _try_route(
        self, route: Permit, buckets: Mapping[Key, Bucket], now: float, fails: set[str]
    ) -> tuple[dict[Key, Bucket], _Borrowed | None]:
        """A permit for an open route; a single one where it is not sure that X will answer."""
        now_here = self._monotonic()
        changed = {}
        wary = set(fails)
        proxy = (route.proxy, _PROXY)
        if route.proxy and windows.failures_since(buckets[proxy], self._since):
            changed[proxy] = windows.try_rested(buckets[proxy], now)
            wary.add(route.proxy)
        if self._spend(route):
            return changed, _Borrowed(route, None, wary, now_here)
        bucket, day = buckets[route.key], buckets[route.day]
        # Of a day, permits are few: one by one, so that no process holds what others need.
        by_day = day.limit is not None or bucket.day_limit is not None
        if day.limit is not None:
            changed[route.day], of_day = windows.lend(day, 1, now)
            if of_day is None:
                return {}, None
        bucket, loan = windows.lend(
            bucket,
            1 if wary or by_day else self._block_of(bucket, now),
            now,
            spacing_s=self._spacing_s.get(route.endpoint, 0.0),
        )
        if loan is None:
            return {}, None
        return {**changed, route.key: bucket}, _Borrowed(route, loan, wary, now_here)

    def _block_of(self, bucket: Bucket, now: float) -> int:
        """The number of permits that this process may hold."""
        rest_s = bucket.reset_at - now if bucket.reset_at > now else bucket.window_s
        seconds = min(BLOCK_S, BLOCK_OF_REST * (rest_s - windows.GREY_S))
        request_s = REQUEST_S if self._request_s is None else self._request_s
        most = max(BLOCK, min(BLOCK_MAX, int((bucket.limit or 0) * BLOCK_SHARE)))
        return max(1, min(most, int(seconds / max(request_s, 0.001))))

    def _preference(self, route: Permit, bucket: Bucket, now: float) -> tuple[bool, float]:
        return route.credential != self._own, bucket.reset_at if bucket.reset_at > now else float(
            "inf"
        )

    def _is_shut(self, route: Permit, buckets: Mapping[Key, Bucket], now: float) -> bool:
        return any(windows.shut(buckets[key], now, since=self._since) for key in _gates(route))

    def _why_closed(
        self, books: Books, routes: Sequence[Permit]
    ) -> MustWait | CapReached | NoCredentialLeft:
        breaker = (_EVERYONE, routes[0].endpoint)

        def look(
            buckets: dict[Key, Bucket], now: float
        ) -> tuple[dict[Key, Bucket], list[_Obstacle]]:
            found = [self._obstacle(route, buckets, now) for route in routes]
            waits_s = [each.wait_s for each in found if not each.shut]
            fails_s = windows.opens_at(buckets[breaker], now) - now
            if waits_s and fails_s > min(waits_s):
                found = [each for each in found if each.shut]
                why = f"X gives no answer on {routes[0].endpoint}, tried again soon"
                found.append(_Obstacle("", fails_s, why))
            return {}, found

        return _verdict(books.change_buckets(_keys_behind(routes), look), routes[0].endpoint)

    def _obstacle(self, route: Permit, buckets: Mapping[Key, Bucket], now: float) -> _Obstacle:
        """What keeps a request from a route that is not open."""
        name = self._names[route.credential]
        who = f"{name} ({route.kind})"
        for key in _gates(route):
            gate = buckets[key]
            if windows.shut(gate, now, since=self._since):
                why = f"{who} waits for its proxy" if gate.shut_reason == windows.PROXY else ""
                left = max(0, windows.PROXY_TRIES - gate.failures)
                return _Obstacle(name, gate.shut_until - now, why, gate.shut_reason, left)
        bucket = buckets[route.key]
        wait_s = windows.opens_at(bucket, now) - now
        if buckets[route.day].limit is not None:
            wait_s = max(wait_s, windows.opens_at(buckets[route.day], now) - now)
        if bucket.limit is None and bucket.failures == 0:
            wait_s = min(wait_s, PROBE_POLL_S)
        return _Obstacle(name, wait_s, f"{who} waits for its window on {route.endpoint}")

    def _consequence(
        self, permit: Permit, error: XError, rate: Rate | None, again: bool
    ) -> tuple[Key, Callable[[Bucket, float], Bucket]]:
        if isinstance(error, WindowClosed):
            return (
                permit.key,
                lambda b, now: windows.close(b, rate, now) if rate else windows.back_off(b, now),
            )
        if isinstance(error, Overloaded):
            return permit.key, windows.back_off
        if isinstance(error, CapReached):
            return (permit.account, _ACCOUNT), lambda b, now: windows.refuse(
                b, now, for_s=error.for_s, reason=error.reason
            )
        if isinstance(error, CredentialRefused):
            return (permit.subject, _KEYS), lambda b, now: windows.refuse(
                b, now, for_s=REFUSED_S, reason="refused"
            )
        if isinstance(error, ProxyFailed):
            return (permit.proxy, _PROXY), self._rest_of(permit)
        if isinstance(error, EndpointRefused):
            return permit.key, lambda b, now: windows.refuse(
                b, now, for_s=REFUSED_S, reason="forbidden"
            )
        return (_EVERYONE, permit.endpoint), lambda b, now: windows.trip(
            b, now, self._chance(), again=again
        )

    def _rest_of(self, permit: Permit) -> Callable[[Bucket, float], Bucket]:
        is_trial = permit.proxy in self._wary

        def rest(bucket: Bucket, now: float) -> Bucket:
            if not is_trial and windows.shut(bucket, now, since=self._since):
                return bucket  # several requests met one failure: it counts once
            return windows.rest(bucket, now, since=self._since, chance=self._chance())

        return rest


def _verdict(
    obstacles: Sequence[_Obstacle], endpoint: str
) -> MustWait | CapReached | NoCredentialLeft:
    """What follows when no route is open: waiting, or the end of the run."""
    waits = [each for each in obstacles if not each.shut]
    proxies = [each for each in obstacles if each.shut == windows.PROXY]
    if waits or any(each.tries_left for each in proxies):
        first = min([*waits, *proxies], key=lambda each: each.wait_s)
        return MustWait(max(0.05, first.wait_s), first.why)
    if proxies:
        return NoCredentialLeft(
            f"no request reaches X through the proxy of {_listed(each.name for each in proxies)}: "
            "correct the column proxy in the file of credentials, or start the proxy, then run "
            "again"
        )
    capped_s = [each.wait_s for each in obstacles if each.shut in ("cap", "credits")]
    if capped_s:
        return CapReached(
            "the posts or credits of every usable account are used up; everything is saved, run "
            f"again after X's count resets (in {min(capped_s) / 3600:.0f} h at the latest), or "
            "buy credits"
        )
    return NoCredentialLeft(
        f"X refuses every credential of the file on {endpoint}: look at them in X's developer "
        "console, then run again"
    )


def _listed(names: Iterable[str]) -> str:
    first, *others = sorted(set(names))
    return (
        f"{first} and {len(others)} other credentials"
        if len(others) > 1
        else " and ".join([first, *others])
    )


def _waits_s(bucket: Bucket, now: float) -> float:
    """How long a bucket is left alone; 0 for one that X refused, which has a word of its own."""
    until = max(bucket.blocked_until, bucket.reset_at if bucket.remaining <= 0 else 0.0)
    if bucket.day_limit is not None and bucket.day_remaining <= 0:
        until = max(until, bucket.day_reset_at)
    if bucket.shut_reason == windows.PROXY:
        until = max(until, bucket.shut_until)
    return max(0.0, until - now)


def _unique(routes: Iterable[Permit]) -> list[Permit]:
    """One route for each bucket and proxy: credentials of one app share its route."""
    by_way: dict[tuple[Key, str], Permit] = {}
    for route in routes:
        by_way.setdefault((route.key, route.proxy), route)
    return list(by_way.values())


def _gates(route: Permit) -> tuple[Key, ...]:
    gates = (route.key, (route.subject, _KEYS), (route.account, _ACCOUNT))
    return (*gates, (route.proxy, _PROXY)) if route.proxy else gates


def _keys_behind(routes: Sequence[Permit]) -> list[Key]:
    breaker = (_EVERYONE, routes[0].endpoint)
    gates = {key for route in routes for key in (route.day, *_gates(route))}
    return sorted({breaker, *gates})
