"""Coverage of a target: the completely known ids, and the next question to X.

A range is a pair `(lower, upper)` of tweet ids, lower inclusive, upper exclusive. A
coverage is a list of ranges, ascending and disjoint: the text form is PostgreSQL's
`int8multirange`. Everything here is pure, so that any order of answers and any interruption
can be tried in a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tweetcrawler.ids import id_at

Range = tuple[int, int]

# X gives out at most about this many of a user's newest posts, whatever is asked.
DEPTH_LIMIT = 3_200
# Posts that were deleted or withheld leave a walk that met the limit somewhat short of it.
DEPTH_MET = 3_000
# Ids are only roughly in order of appearance: what is younger than this is not called
# complete yet.
SETTLING_MS = 60_000
# Posts of the last minute are noted one by one, up to this number, so that they are not bought
# again. What may still turn up between them is asked for when the minute is over: of up to
# `GAPS_MAX` gaps each by itself, which brings nothing at most times; of more in one request.
YOUNG_MAX = 100
GAPS_MAX = 20
# Empty pages in a row that still carry a token, after which a walk is given up for this run.
EMPTY_PAGES_MAX = 50


def settled_below(server_time_s: float) -> int:
    """The id below which an answer of this date is complete.

    `server_time_s` is the answer's own date, in epoch seconds.
    """
    return id_at(int(server_time_s * 1000) - SETTLING_MS)


def union(*coverages: Iterable[Range]) -> list[Range]:
    """All ids of the given ranges as one coverage."""
    merged: list[Range] = []
    for lower, upper in sorted(r for ranges in coverages for r in ranges if r[0] < r[1]):
        if merged and lower <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(upper, merged[-1][1]))
        else:
            merged.append((lower, upper))
    return merged


def complete(covered: Sequence[Range]) -> list[Range]:
    """A coverage without the single posts of the last minute, above which nothing is complete."""
    known = union(covered)
    while known and known[-1][1] == known[-1][0] + 1:
        known.pop()
    return known


def gaps(covered: Sequence[Range]) -> list[Hole]:
    """The holes between the single posts of the last minute, newest first."""
    known = union(covered)
    settled = len(complete(known))
    pairs = zip(known[settled - 1 :], known[settled:], strict=False) if settled else ()
    return [Hole(below[1] - 1, post[0]) for below, post in pairs][::-1]


def settled_gaps(open_gaps: Sequence[Hole], settled_below_id: int) -> list[Hole]:
    """Those of the gaps to be asked for: nothing new can turn up in them any more."""
    found = [gap for gap in open_gaps if (gap.until_id or 0) <= settled_below_id]
    if len(found) > GAPS_MAX:
        return [Hole(found[-1].since_id, found[0].until_id)]
    return found


def difference(ranges: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """The ids of `ranges` that are not in `taken`."""
    rest: list[Range] = []
    away = union(taken)
    for lower, upper in union(ranges):
        start = lower
        for taken_lower, taken_upper in away:
            if taken_upper <= start or taken_lower >= upper:
                continue
            if start < taken_lower:
                rest.append((start, taken_lower))
            start = max(start, taken_upper)
        if start < upper:
            rest.append((start, upper))
    return rest


def to_text(ranges: Iterable[Range]) -> str:
    """The coverage as PostgreSQL writes an `int8multirange`: `{[1,5),[9,12)}`."""
    return "{" + ",".join(f"[{lower},{upper})" for lower, upper in ranges) + "}"


def from_text(text: str) -> list[Range]:
    """The coverage that `to_text` or PostgreSQL wrote."""
    return [(int(lower), int(upper)) for lower, upper in re.findall(r"\[(\d+),(\d+)\)", text)]


@dataclass(frozen=True)
class Hole:
    """Ids that are not known completely: above `since_id` and below `until_id`, both exclusive.

    `until_id` is None for the hole that ends at the present, `since_id` is 0 for the one
    that has no bottom.
    """

    since_id: int
    until_id: int | None


@dataclass(frozen=True)
class Bounds:
    """The wanted ids: from `lowest` (1: no bottom) to below `end` (None: the present)."""

    lowest: int = 1
    end: int | None = None


EVERYTHING = Bounds()


def holes(*known: Iterable[Range], within: Bounds = EVERYTHING) -> list[Hole]:
    """Ranges within the bounds that are neither covered nor unreachable, newest first."""
    outside = [(1, within.lowest)]
    found = _holes(union(outside, *known))
    if within.end is None:
        return found
    return [
        Hole(hole.since_id, min(hole.until_id or within.end, within.end))
        for hole in found
        if hole.since_id + 1 < within.end
    ]


def reachable(hole: Hole, floor_id: int) -> tuple[Hole | None, Range | None]:
    """The part of a hole above `floor_id`, and the rest below it.

    A search reaches back to `floor_id` only.
    """
    if hole.since_id + 1 >= floor_id:
        return hole, None
    if hole.until_id is not None and hole.until_id <= floor_id:
        return None, (hole.since_id + 1, hole.until_id)
    return Hole(floor_id - 1, hole.until_id), (hole.since_id + 1, floor_id)


def _holes(ranges: Sequence[Range]) -> list[Hole]:
    open_: list[Hole] = []
    until: int | None = None
    for lower, upper in reversed(ranges):
        open_.append(Hole(upper - 1, until))
        until = lower
    if until is None or until > 1:
        open_.append(Hole(0, until))
    return open_


@dataclass(frozen=True)
class Ask:
    """One question to X: posts between two exclusive ids, after the token if there is one."""

    since_id: int
    until_id: int | None
    token: str | None = None


@dataclass(frozen=True)
class Learned:
    """Ids that one answer covers, and ids that X will never give, with the reason.

    `young` are posts of a walk that has ended which are younger than a minute: each is known,
    and what lies between them is not.
    """

    covered: Range | None = None
    unreachable: Range | None = None
    reason: str = ""
    young: tuple[int, ...] = ()


@dataclass
class Walk:
    """One descent through a hole, newest post first: `ask`, then `learn` from the answer.

    The walk pages by id, since ids last and tokens expire; a token only leads past an empty
    page. It may be dropped after any answer: once the result of `learn` is saved, another
    walk goes on with the holes that are left.

    `posts_above` is how many posts of the target above the hole were received already, and
    `account_posts` how many X says the account has, if known: both serve to tell the end of
    a timeline from X's depth limit. Without a limit of depth (a search) `depth_limit` is
    None.
    """

    hole: Hole
    posts_above: int = 0
    account_posts: int | None = None
    depth_limit: int | None = DEPTH_LIMIT
    ask: Ask | None = field(init=False)
    stalled: bool = field(init=False, default=False)
    _fruitless: int = field(init=False, default=0)
    _young: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.ask = Ask(self.hole.since_id, self.hole.until_id)

    def learn(
        self, ids: Sequence[int], next_token: str | None, *, settled_below_id: int
    ) -> Learned:
        """The ids that an answer covers; sets `ask` to the next question, None at the end.

        Neither order nor repetition of ids matters. `settled_below_id` is `settled_below`
        of the answer's own date. After too many answers without progress `stalled` is set
        and the hole stays open.
        """
        if self.ask is None:
            raise ValueError("this walk has ended")
        until = self.ask.until_id
        fresh = [i for i in ids if i > self.hole.since_id and (until is None or i < until)]
        if not fresh:
            return self._learn_nothing_new(until, next_token, settled_below_id)
        self._fruitless = 0
        self.posts_above += len(set(fresh))
        self._young.update(i for i in fresh if i >= settled_below_id)
        oldest = min(fresh)
        top = min(until if until is not None else max(fresh) + 1, settled_below_id)
        if next_token is None or oldest == self.hole.since_id + 1:
            return self._end(oldest, top)
        self.ask = Ask(self.hole.since_id, oldest)
        return Learned(covered=_range(oldest, top))

    def forget_token(self) -> bool:
        """Asks by id again after X refused the token; False when there was no token to forget."""
        if self.ask is None or self.ask.token is None:
            return False
        self.ask = Ask(self.ask.since_id, self.ask.until_id)
        return True

    def _learn_nothing_new(
        self, until: int | None, next_token: str | None, settled: int
    ) -> Learned:
        if next_token is None:
            if until is None:
                # An empty answer about the newest posts says nothing of those that are on
                # their way.
                self.ask = None
                return Learned()
            return self._end(until, min(until, settled))
        self._fruitless += 1
        # X answers a repeated token with the same page.
        repeated = self.ask is not None and next_token == self.ask.token
        if self._fruitless >= EMPTY_PAGES_MAX or repeated:
            self.stalled = True
            self.ask = None
        else:
            self.ask = Ask(self.hole.since_id, until, next_token)
        return Learned()

    def _end(self, oldest: int, top: int) -> Learned:
        self.ask = None
        bottom = self.hole.since_id + 1
        if self._met_depth_limit():
            return Learned(
                covered=_range(oldest, top),
                unreachable=_range(bottom, oldest),
                reason=f"X gives only about the {self.depth_limit} newest posts of an account",
            )
        # An interrupted walk has read not all that is below them, and notes none.
        young = tuple(sorted(self._young)) if len(self._young) <= YOUNG_MAX else ()
        return Learned(covered=_range(bottom, top), young=young)

    def _met_depth_limit(self) -> bool:
        if self.depth_limit is None:
            return False
        # A short timeline has an end before the limit.
        if self.account_posts is not None and self.account_posts <= self.depth_limit:
            return False
        if self.hole.since_id == 0 and self.account_posts is not None:
            return self.posts_above < self.account_posts
        return self.posts_above >= min(DEPTH_MET, self.depth_limit)


def _range(lower: int, upper: int) -> Range | None:
    return (lower, upper) if lower < upper else None
