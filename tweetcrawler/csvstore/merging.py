"""Merging of rows into a CSV file: what it held and what waits for it, newest first.

A spreadsheet may have sorted the file another way, or somebody may have cut it; a file that
this program did not make is left as it is.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.files import Replacement
from tweetcrawler.flatten import COLUMNS, LISTS, Partial, merged

# The csv module refuses fields of more than 128 kB unless it is told otherwise.
_CSV_FIELD_MAX = 2**31 - 1

_Row = tuple[int, list[str]]
# A row that waits: its id, its cells as JSON, the page that brought it, the page that changed
# it last, and whether its page counts it already.
Waiting = tuple[int, str, int, int, int]
# Opens a reading of them; it must be closed, or SQLite goes on showing its old state.
WaitingRows = Callable[[], AbstractContextManager[Iterable[Waiting]]]


@dataclass
class Held:
    """What a file holds: its number of rows, and the sum of their ids, which needs no order."""

    rows: int = 0
    ids: int = 0

    def counted(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        """The rows, counted on their way."""
        for row in rows:
            self.rows += 1
            # SQLite keeps whole numbers of 64 bits with their sign.
            self.ids = (self.ids + row[0]) % 2**62
            yield row


@dataclass
class Tally:
    """Counts of a merge.

    The last version that it wrote, and by page which rows were in the file already; what the
    file held, and what it holds now.
    """

    held: Held = field(default_factory=lambda: Held())
    holds: Held = field(default_factory=lambda: Held())
    version: int = 0
    again: Counter[int] = field(default_factory=Counter)
    updated: Counter[int] = field(default_factory=Counter)


def write_merged(path: Path, waiting: WaitingRows, fresh: Replacement) -> Tally:
    """Writes header, the rows of `path` and the waiting ones into the new file.

    It is not put in place yet.

    `waiting` gives the rows newest first, and is asked again when the file is out of order.
    """
    tally = Tally()
    try:
        known = _newest_first(tally.held.counted(stored(path)))
        return _write_with(known, waiting, fresh, tally)
    except _OutOfOrder:
        tally = Tally()
        return _write_with(_sorted(tally.held.counted(stored(path))), waiting, fresh, tally)


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """The cells of a row while it waits: those of a partial one have a mark after them."""
    cells = ["" if row[column] is None else str(row[column]) for column in COLUMNS]
    return [*cells, *_PARTIAL] if isinstance(row, Partial) else cells


def updated(known: Sequence[str], cells: Sequence[str]) -> list[str]:
    """The cells of a row that was known before; they are partial if both are."""
    count = len(COLUMNS)
    mark = _PARTIAL if len(known) > count and len(cells) > count else ()
    return [*merged(known[:count], cells[:count], partial=len(cells) > count), *mark]


def _new(cells: Sequence[str]) -> list[str]:
    """The cells of a row that is new in its file: without a list, they hold an empty one."""
    return [
        "{}" if column in LISTS and not cell else cell
        for column, cell in zip(COLUMNS, cells[: len(COLUMNS)], strict=True)
    ]


_PARTIAL = ("partial",)


def is_missing(path: Path) -> bool:
    """Whether there is no such file; an empty one holds as little."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError as error:
        raise _unreadable(path, error) from None


def check_header(path: Path) -> None:
    """Refuses a file of this name that was not made by this program."""
    with closing(stored(path)) as rows:
        next(rows, None)


def held_by(path: Path) -> Held:
    """What a file holds now; it is read whole."""
    held = Held()
    with closing(stored(path)) as rows:
        for _ in held.counted(rows):
            pass
    return held


class _OutOfOrder(Exception):
    """Somebody has sorted the file another way."""


def _write_with(
    stored: Iterator[_Row], waiting: WaitingRows, fresh: Replacement, tally: Tally
) -> Tally:
    with (
        waiting() as rows,
        fresh.emptied() as file,
        io.TextIOWrapper(file, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text)  # its usual dialect is RFC 4180: commas, double quotes, CR LF
        writer.writerow(COLUMNS)
        merged_rows = tally.holds.counted(_merged(stored, rows, tally))
        writer.writerows(cells for _, cells in merged_rows)
    return tally


def _merged(
    stored: Iterator[_Row], waiting: Iterable[tuple[int, str, int, int, int]], tally: Tally
) -> Iterator[_Row]:
    """Both, newest first; a row that stands in the file already is replaced."""
    before = next(stored, None)
    for tweet_id, text, page, version, counted in waiting:
        while before is not None and before[0] > tweet_id:
            yield before
            before = next(stored, None)
        cells = orjson.loads(text)
        tally.version = max(tally.version, version)
        if before is not None and before[0] == tweet_id:
            cells = updated(before[1], cells)
            if not counted:
                tally.again[page] += 1
                tally.updated[page] += cells != before[1]
            before = next(stored, None)
            yield tweet_id, cells
        else:
            yield tweet_id, _new(cells)
    if before is not None:
        yield before
        yield from stored


def stored(path: Path) -> Generator[_Row, None, None]:
    """The rows of a file as `(id, cells)`, in its order; none when it is missing."""
    csv.field_size_limit(_CSV_FIELD_MAX)
    try:
        # Excel puts a byte order mark before a file that it saved as UTF-8.
        file = path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
            if header is not None and header != list(COLUMNS):
                raise ConfigurationError(
                    f"{path} was not made by tweetcrawler: its first line is not the header of the "
                    f"{len(COLUMNS)} columns; move it out of the folder, it is left as it is"
                )
            for cells in filter(None, reader):
                if len(cells) != len(COLUMNS) or not (cells[0].isascii() and cells[0].isdecimal()):
                    raise _broken(path, reader.line_num, "it is not a row with an id")
                yield int(cells[0]), cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise _broken(path, reader.line_num, str(error)) from None
        except OSError as error:
            raise _unreadable(path, error) from None


def _newest_first(rows: Iterator[_Row]) -> Iterator[_Row]:
    last: int | None = None
    for row in rows:
        if last is not None and row[0] >= last:
            raise _OutOfOrder
        last = row[0]
        yield row


def _sorted(rows: Iterator[_Row]) -> Iterator[_Row]:
    """The rows in our order, the first of each id.

    Sorted on disk, since a file may be of any size.
    """
    # An empty name is a database of its own on disk, which SQLite removes when it is closed.
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("CREATE TABLE line (id integer PRIMARY KEY, cells text)")
        scratch.execute("BEGIN")
        scratch.executemany(
            "INSERT OR IGNORE INTO line VALUES (?, ?)",
            ((i, orjson.dumps(cells).decode()) for i, cells in rows),
        )
        for tweet_id, cells in scratch.execute("SELECT id, cells FROM line ORDER BY id DESC"):
            yield tweet_id, orjson.loads(cells)


def _broken(path: Path, line: int, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}, line {line}, cannot be read: {why}; correct it or move the file away, posts "
        "that wait for it are kept"
    )


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be read: {error.strerror or error}; correct its rights or move it out "
        "of the folder"
    )
