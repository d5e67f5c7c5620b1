"""The right to send a request: permits are lent from the buckets that X will charge, before
anything is sent.

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
    WindowClosed,
    XError,
    XUnavailable,
)
from tweetcrawler.ids import DAY_S
from tweetcrawler.windows import Bucket, Rate

# Permits of a block: a share of the window, so that a process that dies forfeits little of it.
BLOCK, BLOCK_MAX, BLOCK_SHARE = 25, 400, 0.01
# A refusal holds for the run; this bounds it for runs that never end.
REFUSED_S = 7 * DAY_S
# While another process finds out what an unknown bucket holds, look again this often.
PROBE_POLL_S = 0.3
# X puts no limit on what it does not count.
UNCOUNTED = Rate(limit=40_000, remaining=40_000, reset_in_s=windows.WINDOW_S)

Kind = Literal["user", "app"]
Key = tuple[str, str]  # (subject, endpoint)
T = TypeVar("T")

# Subjects and endpoints that stand for more than one bucket.
_EVERYONE = "*"  # the breaker of an endpoint
_KEYS = "*keys"  # everything that one token opens
_ACCOUNT = "*account"  # everything that is charged to the account of one app


class Books(Protocol):
    """Where the buckets are kept, for all processes."""

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
    """What the ledger needs to know of a credential: whose buckets it opens, never a secret."""

    @property
    def name(self) -> str: ...
    @property
    def user_fingerprint(self) -> str | None: ...
    @property
    def app_fingerprint(self) -> str: ...
    @property
    def has_app(self) -> bool: ...


@dataclass(frozen=True)
class Permit:
    """The right to send one request to `endpoint` with credential number `credential`, as
    user or as app.

    It is to be sent `after_s` seconds from now, which is 0 unless X counts the endpoint by
    the second.
    """

    credential: int
    kind: Kind
    endpoint: str
    subject: str
    account: str
    after_s: float = 0.0

    @property
    def key(self) -> Key:
        return (self.subject, self.endpoint)


@dataclass
class _Block:
    left: int
    turn: int
    ends_at: float  # on this process's monotonic clock
    settled: bool = False


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
            # The app first: its requests need no signature, which costs as much as
            # flattening half a page.
            if keys.has_app:
                self._routes.append(
                    Permit(number, "app", "", keys.app_fingerprint, keys.app_fingerprint)
                )
            if keys.user_fingerprint is not None:
                self._routes.append(
                    Permit(number, "user", "", keys.user_fingerprint, keys.app_fingerprint)
                )
        self._known_routes: dict[tuple[str, tuple[Kind, ...]], list[Permit]] = {}
        self._own = own % len(credentials)
        self._since = since
        self._spacing_s = spacing_s or {}
        self._monotonic = monotonic
        self._chance = chance
        self._blocks: dict[Key, _Block] = {}
        self._wary: set[str] = set()

    def reserve(
        self, books: Books, endpoint: str, kinds: Iterable[Kind] = ("user", "app")
    ) -> Permit:
        """A permit for one request to the endpoint, through a route of one of the kinds.

        **Errors**: `MustWait` says when the next bucket opens; `CapReached` and `NoCredentialLeft` say that
        none will in this run.
        """
        routes = self._routes_to(endpoint, tuple(kinds))
        if not routes:
            raise NoCredentialLeft(
                f"no credential of the file can be used for {endpoint}: add one that can"
            )
        if endpoint not in self._wary:
            for route in routes:
                if self._spend(route):
                    return route
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
        """Takes the word of a good answer to the books, as often as it is news."""
        rate = rate or UNCOUNTED
        block = self._blocks.get(permit.key)
        wary = permit.endpoint in self._wary
        if block is not None:
            ends_at = self._monotonic() + rate.reset_in_s
            known = block.settled and abs(ends_at - block.ends_at) < 2 * windows.SAME_WINDOW_S
            enough = rate.remaining >= block.left
            block.left = min(block.left, rate.remaining)
            if known and enough and block.left > 0 and not wary:
                return
            block.settled = True
        turn = block.turn if block else None
        unsent = block.left if block else 0
        breaker = (_EVERYONE, permit.endpoint)

        def change(buckets: dict[Key, Bucket], now: float) -> tuple[dict[Key, Bucket], Bucket]:
            bucket = buckets[permit.key]
            bucket = windows.settle(
                bucket, rate, now, turn=bucket.turn if turn is None else turn, unsent=unsent
            )
            changed = {permit.key: bucket}
            if wary:
                changed[breaker] = Bucket()
            return changed, replace(bucket, reset_at=bucket.reset_at - now)

        bucket = books.change_buckets([permit.key, breaker] if wary else [permit.key], change)
        self._wary.discard(permit.endpoint)
        if block is not None:
            block.ends_at = self._monotonic() + bucket.reset_at - windows.GREY_S
            if bucket.turn != block.turn:
                self._blocks.pop(permit.key, None)

    def refused(self, books: Books, permit: Permit, error: XError) -> str:
        """Takes a refusal to the books: who or what is closed by it, and for how long.

        Gives a sentence for the log. The caller reserves another permit and tries again, or
        gives up.
        """
        rate = error.rate if isinstance(error.rate, Rate) else None
        key, change_bucket = self._consequence(permit, error, rate)
        # X is not asked for more while it asks for patience, but its window holds these
        # permits still.
        block = self._blocks.pop(permit.key, None) if isinstance(error, Overloaded) else None

        def change(buckets: dict[Key, Bucket], now: float) -> tuple[dict[Key, Bucket], float]:
            bucket = change_bucket(buckets[key], now)
            if block is not None:
                bucket = windows.give_back(bucket, turn=block.turn, unsent=block.left)
            waits_s = (
                max(bucket.blocked_until, bucket.reset_at if bucket.remaining <= 0 else 0.0) - now
            )
            # Whoever waited for what this request would find out need not wait any more.
            return {permit.key: windows.unprobed(buckets[permit.key], now), key: bucket}, max(
                0.0, waits_s
            )

        waits_s = books.change_buckets({key, permit.key}, change)
        if isinstance(error, XUnavailable):
            self._wary.add(permit.endpoint)
        else:
            self._forget_blocks(permit, error)
        who = f"{self._names[permit.credential]} ({permit.kind}) on {permit.endpoint}"
        return (
            f"{who}: {error}; not used again for {waits_s:.0f} s" if waits_s else f"{who}: {error}"
        )

    def give_back(self, books: Books) -> None:
        """Returns every permit that was not used, for others or the next run; the process
        will send no more.
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
        """Drops what was lent from the buckets that the refusal closes: more of it would be
        refused, too.
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
        """A block from the first open route: the own credential's, else the one whose window
        ends soonest.
        """
        endpoint = routes[0].endpoint
        breaker = (_EVERYONE, endpoint)

        def change(
            buckets: dict[Key, Bucket], now: float
        ) -> tuple[dict[Key, Bucket], tuple[Permit, windows.Loan | None, bool] | None]:
            tried, passes = windows.probe(buckets[breaker], now)
            if not passes:
                return {}, None
            changed = {breaker: tried} if tried.failures else {}
            for route in sorted(routes, key=lambda d: self._preference(d, buckets[d.key], now)):
                if self._is_shut(route, buckets, now):
                    continue
                block = self._blocks.get(route.key)
                if block is not None and self._spend(route):
                    return changed, (route, None, tried.failures > 0)
                bucket, loan = windows.lend(
                    buckets[route.key],
                    1 if tried.failures else _block_of(buckets[route.key]),
                    now,
                    spacing_s=self._spacing_s.get(endpoint, 0.0),
                )
                if loan is not None:
                    return {**changed, route.key: bucket}, (route, loan, tried.failures > 0)
            return {}, None

        got = books.change_buckets(_keys_behind(routes), change)
        if got is None:
            return None
        route, loan, wary = got
        if wary:
            self._wary.add(endpoint)
        if loan is not None:
            self._blocks[route.key] = _Block(
                loan.count - 1, loan.turn, self._monotonic() + loan.valid_s
            )
            return replace(route, after_s=loan.after_s)
        return route

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
        ) -> tuple[dict[Key, Bucket], tuple[list[tuple[float, str]], list[tuple[float, str]]]]:
            waits, shut = [], []
            for route in routes:
                closed = [
                    b
                    for key in _gates(route)
                    if windows.shut(b := buckets[key], now, since=self._since)
                ]
                if closed:
                    shut.append((closed[0].shut_until - now, closed[0].shut_reason))
                    continue
                bucket = buckets[route.key]
                wait_s = windows.opens_at(bucket, now) - now
                if bucket.limit is None and bucket.failures == 0:
                    wait_s = min(wait_s, PROBE_POLL_S)
                who = f"{self._names[route.credential]} ({route.kind})"
                waits.append((wait_s, f"{who} waits for its window on {route.endpoint}"))
            fails_s = windows.opens_at(buckets[breaker], now) - now
            if waits and fails_s > min(waits)[0]:
                waits = [(fails_s, f"X gives no answer on {routes[0].endpoint}, tried again soon")]
            return {}, (waits, shut)

        waits, shut = books.change_buckets(_keys_behind(routes), look)
        endpoint = routes[0].endpoint
        if waits:
            wait_s, reason = min(waits)
            return MustWait(max(0.05, wait_s), reason)
        capped = [(until, reason) for until, reason in shut if reason in ("cap", "credits")]
        if capped:
            return CapReached(
                "the posts or credits of every usable account are used up; everything is saved, run again "
                f"when X counts anew (in {min(capped)[0] / 3600:.0f} h at the latest) or credits are bought"
            )
        return NoCredentialLeft(
            f"X refuses every credential of the file on {endpoint}: look at them in X's developer console, "
            "then run again"
        )

    def _consequence(
        self, permit: Permit, error: XError, rate: Rate | None
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
        if isinstance(error, EndpointRefused):
            return permit.key, lambda b, now: windows.refuse(
                b, now, for_s=REFUSED_S, reason="forbidden"
            )
        return (_EVERYONE, permit.endpoint), lambda b, now: windows.trip(b, now, self._chance())


def _block_of(bucket: Bucket) -> int:
    return max(BLOCK, min(BLOCK_MAX, int((bucket.limit or 0) * BLOCK_SHARE)))


def _unique(routes: Iterable[Permit]) -> list[Permit]:
    """One route a bucket: credentials of one app share its route."""
    by_key: dict[Key, Permit] = {}
    for route in routes:
        by_key.setdefault(route.key, route)
    return list(by_key.values())


def _gates(route: Permit) -> tuple[Key, Key, Key]:
    return route.key, (route.subject, _KEYS), (route.account, _ACCOUNT)


def _keys_behind(routes: Sequence[Permit]) -> list[Key]:
    breaker = (_EVERYONE, routes[0].endpoint)
    return sorted({breaker, *(key for route in routes for key in _gates(route))})
