"""What a stored page proves of its target: ids that are known for certain, and at the most.

A walk knew more than its pages tell, such as X's own time at each answer. So a page gives two
ranges. What is certain must be covered; what no page makes possible must not be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tweetcrawler.coverage import (
    DEPTH_LIMIT,
    DEPTH_MET,
    Ask,
    Range,
    difference,
    settled_below,
    union,
)
from tweetcrawler.endpoints import SEARCH_ALL, USER_TWEETS
from tweetcrawler.ids import id_at
from tweetcrawler.words import plural

# The time of a page is that of its saving. A page is tried to be saved for some minutes.
SAVING_S = 300.0
# An archive search names its lower end by the second.
_SECOND = 1_000 << 22
# Ranges in memory before they are joined: those of a target join to a few.
_LOOSE_MAX = 1_000


ROW, PAGE, COVERAGE, FOUND, FILE = "row", "page", "coverage", "search", "file"


@dataclass(frozen=True)
class Difference:
    """One difference of what is stored: its kind, and a sentence that names it.

    `lost` are ids that the coverage lacks. `mended`: it was put back.
    """

    kind: str
    sentence: str
    mended: bool = False
    lost: Range | None = None


@dataclass(frozen=True)
class Asked:
    """One stored page of a target: its question, and what its answer says.

    `ids` are those of the answer. `more` says whether a token came with it, None where the
    body was not kept. `saved_at` is in seconds since 1970.
    """

    endpoint: str
    params: Mapping[str, str]
    saved_at: float
    ids: Sequence[int]
    more: bool | None


class Proof(NamedTuple):
    """The ids that a page covers for certain, and those that it can have covered at most."""

    certain: Range | None
    possible: Range | None


NOTHING = Proof(None, None)


def ask_of(endpoint: str, params: Mapping[str, str]) -> Ask:
    """The question of a page, as the walk had it."""
    since = int(params.get("since_id", 0))
    if endpoint == SEARCH_ALL and "start_time" in params:
        begin_ms = int(datetime.fromisoformat(params["start_time"]).timestamp() * 1000)
        # Before the first ids with a time in them the bottom is that of everything.
        since = max(0, id_at(begin_ms) - 1)
    until = params.get("until_id")
    token = params.get("pagination_token") or params.get("next_token")
    return Ask(since, int(until) if until else None, token)


def proof_of(page: Asked, *, deep: bool) -> Proof:
    """The ranges of one page; `deep` says that its end may be X's limit of depth."""
    ask = ask_of(page.endpoint, page.params)
    until, bottom = ask.until_id, ask.since_id + 1
    fresh = [i for i in page.ids if i >= bottom and (until is None or i < until)]
    if not fresh and (until is None or page.more):
        return NOTHING
    top = until if until is not None else max(fresh) + 1
    oldest = min(fresh, default=top)
    ends = page.more is False and not (deep and page.endpoint == USER_TWEETS)
    lowest = bottom + _SECOND if "start_time" in page.params and bottom > 1 else bottom
    certain = min(lowest, oldest) if ends else oldest
    settled = settled_below(page.saved_at - SAVING_S)
    return Proof(_range(certain, min(top, settled)), _range(oldest if page.more else bottom, top))


class Evidence:
    """The proofs of all pages of a target, in bounded memory.

    `posts` is the number that its pages brought, `account_posts` how many its account has.
    """

    def __init__(self, *, posts: int, account_posts: int | None) -> None:
        # A walk of this timeline may have met X's limit of depth.
        self._deep = posts >= DEPTH_MET or (account_posts or 0) > DEPTH_LIMIT
        self._certain: list[Range] = []
        self._possible: list[Range] = []

    def add(self, page: Asked) -> None:
        """Takes one page into account."""
        certain, possible = proof_of(page, deep=self._deep)
        self._certain += [certain] if certain else []
        self._possible += [possible] if possible else []
        if len(self._certain) + len(self._possible) > _LOOSE_MAX:
            self._certain, self._possible = union(self._certain), union(self._possible)

    def lost(self, covered: Sequence[Range], unreachable: Sequence[Range]) -> list[Range]:
        """Ids that the pages cover for certain, and the coverage lacks."""
        return difference(self._certain, [*covered, *unreachable])

    def unproved(self, covered: Sequence[Range]) -> list[Range]:
        """Ids that the coverage claims, and no page can have covered."""
        return difference(covered, self._possible)


def of_pages(
    name: str, covered: Sequence[Range], evidence: Evidence, *, posts: int, held: int
) -> Iterator[Difference]:
    """Pages that a target lacks: its pages brought `posts`, those that are there hold `held`."""
    if held < posts:
        said = f"pages with {posts - held:,} of {plural(posts, 'post is', 'posts are')} missing"
        yield Difference(PAGE, f"{name}: {said}")
    for claimed in evidence.unproved(covered):
        said = f"{shown(claimed)} are covered, and no stored page tells that: a page is missing"
        yield Difference(PAGE, f"{name}: {said}")


def of_coverage(name: str, lost: Range, *, mended: bool = False) -> Difference:
    """A range that pages prove and the coverage lacks."""
    said = f"{shown(lost)} are not covered, and the stored pages hold them"
    return Difference(COVERAGE, f"{name}: {said}", mended, lost)


def shown(ids: Range) -> str:
    """A range of ids, both inclusive."""
    return f"ids {ids[0]} to {ids[1] - 1}"


def _range(lower: int, upper: int) -> Range | None:
    return (lower, upper) if lower < upper else None
