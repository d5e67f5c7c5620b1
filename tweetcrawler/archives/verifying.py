"""Coverage, stored pages and rows compared with each other; what the pages hold is put back.

A target is read in one moment, page by page, so nothing that a crawl saves meanwhile looks like
a difference. Rows are put back by the rule of `reflatten`, from every page that holds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from tweetcrawler.archives.reflattening import flattened, merge_into
from tweetcrawler.evidence import (
    FOUND,
    PAGE,
    ROW,
    Asked,
    Difference,
    Evidence,
    of_coverage,
    of_pages,
)
from tweetcrawler.flatten import Told
from tweetcrawler.postgres.checks import note_found
from tweetcrawler.words import plural
from tweetcrawler.work.answers import is_id

if TYPE_CHECKING:
    from tweetcrawler.db import Checker, Database, Session
    from tweetcrawler.postgres.checks import Checked, HeldPage, Miscounted

TARGETS_AT_ONCE = 100
# Missing rows in memory before they are put back.
ROWS_AT_ONCE = 5_000

Score = Callable[[str], float] | None


@dataclass
class Verified:
    """Counts of a verification."""

    targets: int = 0
    pages: int = 0
    posts: int = 0
    without_body: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    mended: int = 0

    def take(self, found: Difference) -> None:
        """Counts a difference."""
        if found.mended:
            self.mended += 1
        else:
            self.differences[found.kind] += 1


class Verifier:
    """Verifies a database; `mends` puts back what the pages hold."""

    def __init__(
        self,
        database: Database,
        session: Session,
        *,
        mends: bool,
        score: Score,
        stopped: Callable[[], object],
    ) -> None:
        self.done = Verified()
        self._database = database
        self._session = session
        self._mends = mends
        self._score = score
        self._stopped = stopped

    def everything(self) -> Iterator[Difference]:
        """Every difference in the database, as it is found."""
        last = 0
        while not self._stopped():
            with self._database.checker() as checker:
                block = checker.targets(last, TARGETS_AT_ONCE)
                for target in block:
                    yield from self._target(checker, target)
            if not block:
                break
            last = block[-1].id
        with self._database.checker() as checker:
            for loose in checker.loose_pages():
                pages = [_read(page) for page in loose]
                yield from self._counted(self._rows(checker, pages, None))
            yield from self._counted(map(_miscounted, checker.miscounted()))

    def targets(self, numbers: Iterable[int]) -> Iterator[Difference]:
        """Every difference of these targets."""
        for number in numbers:
            with self._database.checker() as checker:
                target = checker.target(number)
                if target is not None:
                    yield from self._target(checker, target)

    def _target(self, checker: Checker, target: Checked) -> Iterator[Difference]:
        self.done.targets += 1
        evidence = Evidence(posts=target.posts, account_posts=target.account_posts)
        posts = 0
        for block in checker.pages(target.id):
            if self._stopped():
                return
            pages = [_read(page) for page in block]
            posts += sum(page.held.posts for page in pages)
            for page in pages:
                evidence.add(page.asked)
            yield from self._counted(self._rows(checker, pages, target))
        yield from self._counted(
            of_pages(target.shown, target.covered, evidence, posts=target.posts, held=posts)
        )
        yield from self._counted(self._coverage(target, evidence))

    def _rows(
        self, checker: Checker, pages: Sequence[_Read], target: Checked | None
    ) -> Iterator[Difference]:
        """Rows that these pages hold and the table lacks."""
        holder = {post: page.held for page in reversed(pages) for post in page.repeats}
        repeats = {post: repeated for page in pages for post, repeated in page.repeats.items()}
        self.done.pages += len(pages)
        self.done.posts += len(holder)
        self.done.without_body += sum(page.asked.more is None for page in pages)
        missing = sorted(checker.missing(list(repeats.items())))
        back = self._put_back(missing)
        of = f"{target.shown}: " if target else ""
        for tweet_id in missing:
            said = f"{of}row {tweet_id} is missing; page {holder[tweet_id].id} holds it"
            yield Difference(ROW, said, mended=tweet_id in back)
        if target is not None and target.searched:
            yield from self._found(checker, target, sorted(holder))

    def _put_back(self, missing: Sequence[int]) -> set[int]:
        back: set[int] = set()
        if not self._mends:
            return back
        for first in range(0, len(missing), ROWS_AT_ONCE):
            told: list[Told] = []
            rows = self._remade(missing[first : first + ROWS_AT_ONCE], told)
            self._session.save_rows(list(rows.values()))
            for each in told:
                self._session.hear(each)
            back |= set(rows)
        return back

    def _remade(self, ids: Sequence[int], told: list[Told]) -> dict[int, dict[str, Any]]:
        """The rows of these posts, from every page that holds them; what these tell of users
        goes into `told`.
        """
        rows: dict[int, dict[str, Any]] = {}
        wanted = set(ids)
        # A moment of its own: a cursor of the other one is open.
        with self._database.checker() as checker:
            for pages in checker.pages_with(min(wanted), max(wanted)):
                for page in pages:
                    for one in flattened(page.body or b"", self._score):
                        merge_into(rows, [row for row in one.rows if row["id"] in wanted])
                        told.append(one.told)
        return rows

    def _found(self, checker: Checker, target: Checked, ids: Sequence[int]) -> Iterator[Difference]:
        unnoted = sorted(checker.not_found(target.id, ids))
        if self._mends and unnoted:
            self._session.do(lambda c: note_found(c, target.id, unnoted))
        for tweet_id in unnoted:
            said = f"{target.shown}: that it found {tweet_id} is not noted"
            yield Difference(FOUND, said, mended=self._mends)

    def _coverage(self, target: Checked, evidence: Evidence) -> Iterator[Difference]:
        for lost in evidence.lost(target.covered, target.unreachable):
            if self._mends:
                self._session.cover(target.id, lost)
            yield of_coverage(target.shown, lost, mended=self._mends)

    def _counted(self, found: Iterable[Difference]) -> Iterator[Difference]:
        for one in found:
            self.done.take(one)
            yield one


def _miscounted(found: Miscounted) -> Difference:
    users = plural(found.users, "user")
    lacks = f"{plural(found.pages, 'page')}, {plural(found.posts, 'post')} and {users}"
    bought = f"run {found.run} bought with {found.credential} at {found.endpoint}"
    return Difference(PAGE, f"{lacks} that {bought} are missing")


@dataclass(frozen=True)
class _Read:
    """A page with what its answer says; `repeats` are its rows by id, with the id of the post
    that each repeats.
    """

    held: HeldPage
    asked: Asked
    repeats: Mapping[int, int | None]


def _read(page: HeldPage) -> _Read:
    more: bool | None = None
    repeats: dict[int, int | None] = dict.fromkeys(page.ends)
    ids = list(page.ends)
    if page.body is not None:
        answer = orjson.loads(page.body)
        meta = answer.get("meta") if isinstance(answer, dict) else None
        more = bool(isinstance(meta, dict) and meta.get("next_token"))
        repeats, ids = {}, []
        for one in flattened(page.body, None):
            repeats |= {row["id"]: row["retweeted_status_id"] for row in one.rows}
            ids += [int(text) for text, _ in one.refused if text and is_id(text)]
        ids += repeats
    asked = Asked(page.endpoint, page.params, page.saved_at, ids, more)
    return _Read(page, asked, repeats)
