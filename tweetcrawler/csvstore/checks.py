"""A folder of CSV files compared with its bookkeeping: coverage, pages, rows and files.

The bookkeeping holds no bodies. So a lost row is told by its page, which knows the number of
its new rows and their newest and oldest id.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tweetcrawler import coverage, queries
from tweetcrawler.csvstore import books, merging
from tweetcrawler.csvstore.books import Bookkeeping, Connection
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.evidence import (
    FILE,
    ROW,
    Asked,
    Difference,
    Evidence,
    of_coverage,
    of_pages,
    shown,
)
from tweetcrawler.ids import ID_MAX
from tweetcrawler.targets import TIMELINE
from tweetcrawler.words import plural


class Known(NamedTuple):
    """A target as the bookkeeping knows it; `posts` is the number that its pages brought."""

    id: int
    kind: str
    key: str | None
    handle: str
    username: str | None
    covered: str
    unreachable: str
    account_posts: int | None
    posts: int
    written: int

    @property
    def shown(self) -> str:
        """The name by which an operator knows it."""
        return f"@{self.handle}" if self.kind == TIMELINE else (self.username or self.handle)


def targets_of(connection: Connection, folder: Path, names: Sequence[str]) -> list[Known]:
    """The targets of these names, without names all.

    **Errors**: `ConfigurationError` for a name that is none.
    """
    every = [Known(*row) for row in connection.execute(_TARGETS)]
    chosen = [[target for target in every if _is_named(target, name)] for name in names]
    for name, found in zip(names, chosen, strict=True):
        if not found:
            raise ConfigurationError(
                f"the folder {folder} knows no target {name[:60]!a}: handles as they are listed, "
                "queries as they were searched"
            )
    return [target for found in chosen for target in found] if names else every


class FolderCheck:
    """Compares a folder of CSV files with its bookkeeping; `mends` puts back the coverage that
    pages prove.
    """

    def __init__(self, folder: Path, *, mends: bool) -> None:
        self.targets = self.files = self.rows = self.left = self.mended = 0
        self._folder = folder
        self._mends = mends
        self._books = Bookkeeping(folder, lambda: False)

    def differences(self, names: Sequence[str]) -> Iterator[Difference]:
        """Every difference of these targets, without names of all."""
        with closing(self._books):
            for target in self._books.read(lambda c: targets_of(c, self._folder, names)):
                self.targets += 1
                # A crawl may replace the file after its bookkeeping was read: looked at twice.
                for difference in self._mended(target) if self._of(target) else ():
                    self.left += not difference.mended
                    self.mended += difference.mended
                    yield difference

    def _of(self, target: Known) -> list[Difference]:
        return self._books.read(lambda c: list(self._compared(c, target)))

    def _mended(self, target: Known) -> list[Difference]:
        found = self._of(target)
        lost = [one.lost for one in found if one.lost is not None]
        if not self._mends or not lost:
            return found
        self._books.write(lambda c: books.cover(c, target.id, lost))
        return [replace(one, mended=one.lost is not None) for one in found]

    def _compared(self, connection: Connection, target: Known) -> Iterator[Difference]:
        held = 0
        evidence = Evidence(posts=target.posts, account_posts=target.account_posts)
        for _, endpoint, params, saved_at, posts, _, newest, oldest in _pages(connection, target):
            held += posts
            ids = [one for one in (newest, oldest) if one is not None]
            evidence.add(Asked(endpoint, json.loads(params), saved_at, ids, None))
        covered = coverage.from_text(target.covered)
        yield from of_pages(target.shown, covered, evidence, posts=target.posts, held=held)
        for lost in evidence.lost(covered, coverage.from_text(target.unreachable)):
            yield of_coverage(target.shown, lost)
        yield from self._file(connection, target)

    def _file(self, connection: Connection, target: Known) -> Iterator[Difference]:
        path = self._folder / f"{target.handle}.csv"
        if target.written and merging.is_missing(path):
            yield Difference(FILE, f"{target.shown}: {path.name} is gone; a run reads it again")
            return
        # An empty name is a database on disk, which SQLite removes when it is closed.
        with closing(sqlite3.connect("", isolation_level=None)) as held:
            try:
                again = _collect(held, connection, target.id, path)
            except ConfigurationError as error:
                yield Difference(FILE, f"{target.shown}: {error}")
                return
            self.files += bool(target.written)
            self.rows += _count(held, 1, ID_MAX)
            where = f"{target.shown}: {path.name}"
            yield from _missing(held, where, _pages(connection, target), again)


def _pages(connection: Connection, target: Known) -> Iterable[Any]:
    # Read twice and not held: a long search has millions of them.
    return connection.execute(_PAGES, [target.id])


def _collect(
    held: sqlite3.Connection, connection: Connection, target: int, path: Path
) -> Counter[int]:
    """Collects the ids of a file and of the rows that wait for it; gives, by page, how many
    waiting rows count as new although the file holds them.
    """
    held.execute("CREATE TABLE row (id integer PRIMARY KEY)")
    held.execute("BEGIN")
    with closing(merging.stored(path)) as rows:
        held.executemany("INSERT OR IGNORE INTO row VALUES (?)", ((i,) for i, _ in rows))
    again: Counter[int] = Counter()
    for tweet_id, page, counted in connection.execute(_WAITING, [target]):
        added = held.execute("INSERT OR IGNORE INTO row VALUES (?)", [tweet_id]).rowcount
        again[page] += not counted and not added
    return again


def _missing(
    held: sqlite3.Connection, where: str, pages: Iterable[Sequence[int]], again: Counter[int]
) -> Iterator[Difference]:
    wanted = told = 0
    lowest, highest = ID_MAX, 0
    for number, _, _, _, _, new, newest, oldest in pages:
        if newest is None:
            continue
        lowest, highest = min(lowest, oldest), max(highest, newest)
        wanted += new - again[number]
        # The ends of a page are rows, whichever page brought them first.
        ends = sum(not _count(held, end, end) for end in {newest, oldest})
        lacking = max(ends, new - again[number] - _count(held, oldest, newest))
        if lacking > 0:
            told += lacking
            ids = shown((oldest, newest + 1))
            yield Difference(ROW, f"{where} lacks {plural(lacking, 'row')} among {ids}")
    # Rows that several pages brought hide a loss from each of them.
    if (lacking := wanted - _count(held, lowest, highest) - told) > 0:
        yield Difference(ROW, f"{where} lacks {plural(lacking, 'row')}")


def _count(held: sqlite3.Connection, lowest: int, highest: int) -> int:
    [count] = held.execute("SELECT count(*) FROM row WHERE id BETWEEN ? AND ?", [lowest, highest])
    return int(count[0])


def _is_named(target: Known, name: str) -> bool:
    folded = name.strip().removeprefix("@").lower()
    if target.kind == TIMELINE:
        return folded in (target.handle, (target.username or "").lower())
    return name in (target.handle, target.username) or target.key == queries.key_of(
        queries.normalised(name)
    )


_TARGETS = """
SELECT id, kind, key, handle, username, covered, unreachable, account_posts, post_count, written
FROM crawl_target WHERE same_as IS NULL ORDER BY id
"""
_PAGES = """
SELECT number, endpoint, params, fetched_at, post_count, new_count, newest_id, oldest_id
FROM crawl_page WHERE target_id = ? ORDER BY number
"""
_WAITING = "SELECT id, page, counted FROM csv_pending WHERE target_id = ?"
