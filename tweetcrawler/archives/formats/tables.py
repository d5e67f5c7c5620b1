"""Tables of posts: records of CSV, their header, and rows by the names in it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

from tweetcrawler.archives.formats.fields import Read, Score, Thing, gathered
from tweetcrawler.flatten import Flattened, NotStorable

Cells = Sequence[str | None]
DELIMITERS: Final = (",", "\t", ";", "|")
# No post fills so much, with all its columns; an odd quote ends here and not at the file's end.
RECORD_MAX: Final = 1_000_000


class Makes(Protocol):
    """A maker of the row of one record, such as `Words`."""

    @property
    def id(self) -> Read: ...
    def row(self, thing: Thing, *, score: Score = None) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TableFormat:
    """A table that is read: `needs` are the columns by which it is known.

    A cell that is blank, or one of `blanks`, has nothing in it.
    """

    name: str
    needs: frozenset[str]
    words: Makes
    blanks: tuple[str, ...] = ("",)

    def fits(self, header: Iterable[str]) -> bool:
        """Whether the columns that tell this format are all there."""
        return self.needs <= set(header)

    def rows(
        self, header: Sequence[str], records: Iterable[Cells], *, score: Score = None
    ) -> Flattened:
        """The rows of some records, and why the others have none; never raises."""
        things = (self._thing(header, record) for record in records)
        return gathered(things, lambda thing: self._row(thing, score), self.words.id)

    def _thing(self, header: Sequence[str], record: Cells) -> Thing:
        # A delimiter that was not quoted shifts all cells behind it. Such a record is refused:
        # a guess would put one column's values into another.
        if len(record) != len(header):
            return {_TORN: f"it has {len(record)} fields where the header has {len(header)}"}
        blanks = self.blanks
        return {
            name: None if cell in blanks else cell
            for name, cell in zip(header, record, strict=True)
        }

    def _row(self, thing: Thing, score: Score) -> dict[str, Any]:
        if _TORN in thing:
            raise NotStorable(thing[_TORN])
        return self.words.row(thing, score=score)


# A NUL stands in no header that is read, so no column has this name.
_TORN: Final = "\x00torn"


@dataclass(frozen=True)
class TableRefusal:
    """A table that is known and not read. `advice` says what the operator can do."""

    name: str
    needs: frozenset[str]
    advice: str

    def fits(self, header: Iterable[str]) -> bool:
        """Whether the columns that tell this table are all there."""
        return self.needs <= set(header)


# --- readers of cells ----------------------------------------------------------------------------


def cell(*names: str) -> Read:
    """The cell of the first of these columns that has something."""

    def read(thing: Thing) -> Any:
        for name in names:
            if (value := thing.get(name)) is not None:
                return value
        return None

    return read


def split(name: str, separator: str) -> Read:
    """The elements of a cell that holds several; a blank one holds none."""

    def read(thing: Thing) -> list[str] | None:
        if name not in thing:
            return None
        text = thing[name] or ""
        return [part.strip() for part in text.split(separator) if part.strip()]

    return read


# --- records -------------------------------------------------------------------------------------


class Record(NamedTuple):
    """The cells of one record, and how many lines it fills. An empty cell without quotes is
    None, one with quotes is "".
    """

    cells: list[str | None]
    lines: int


def records(lines: Iterable[str], delimiter: str = ",") -> Iterator[Record]:
    """The records of a table in RFC 4180's form, from its lines without their ends.

    Unlike the module csv this tells NULL from the empty text, as PostgreSQL's COPY writes
    them. A quote that is never closed is text after `RECORD_MAX` characters: the record
    ends with its first line then. Lines with nothing are passed over.
    """
    field = _field(delimiter)
    waiting = iter(lines)
    # A stack: the line that is read next is its last one.
    given_back: list[str] = []
    while (line := given_back.pop() if given_back else next(waiting, None)) is not None:
        # Most lines have no quote, and a plain split is far quicker than the pattern.
        if '"' not in line:
            if line := line.removesuffix("\r"):
                yield Record(_plain_cells(line, delimiter), 1)
            continue
        text, taken = line, [line]
        while (cells := _cells(text.removesuffix("\r"), field)) is None:
            more = _until_quote(waiting, given_back, RECORD_MAX - len(text))
            if not more:
                cells = _plain_cells(taken[0].removesuffix("\r"), delimiter)
                given_back += reversed(taken[1:])
                taken = taken[:1]
                break
            taken += more
            text = "\n".join([text, *more])
        yield Record(cells, len(taken))


def _until_quote(waiting: Iterator[str], given_back: list[str], room: int) -> list[str]:
    """The next lines up to one with a quote, as only that can close a cell; [] without one."""
    taken: list[str] = []
    while (line := given_back.pop() if given_back else next(waiting, None)) is not None:
        taken.append(line)
        room -= len(line) + 1
        if room < 0:
            break
        if '"' in line:
            return taken
    given_back += reversed(taken)
    return []


@lru_cache(8)
def _field(delimiter: str) -> re.Pattern[str]:
    sep = re.escape(delimiter)
    # The possessive quantifiers (Python 3.11) keep the pattern from going back through a cell
    # of a megabyte in which a quote is missing.
    return re.compile(rf'(?:"([^"]*+(?:""[^"]*+)*+)"([^{sep}]*+)|(?!")([^{sep}]*+))({sep}|\Z)')


def _cells(text: str, field: re.Pattern[str]) -> list[str | None] | None:
    """The cells of a record; None when a quote is still open."""
    cells: list[str | None] = []
    position = 0
    while found := field.match(text, position):
        quoted, after, bare, end = found.groups()
        cells.append((bare or None) if quoted is None else quoted.replace('""', '"') + after)
        if not end:
            return cells
        position = found.end()
    return None


def _plain_cells(line: str, delimiter: str) -> list[str | None]:
    return [part or None for part in line.split(delimiter)]


# --- the header ----------------------------------------------------------------------------------


class Header(NamedTuple):
    """The columns of a table, its delimiter, and how many lines stand above the data."""

    columns: tuple[str, ...]
    delimiter: str
    lines: int


_SEP = re.compile(r"sep=([,;|\t])\r?").fullmatch


def header_of(lines: Sequence[str]) -> Header | None:
    """The header in the first lines of a text; None if it is no table of named columns.

    The first line may be Excel's `sep=;`. A table of one column has no delimiter: a comma
    is as good as any.
    """
    # Excel begins CSV in UTF-8 with a byte order mark.
    lines = [line.removeprefix("\ufeff") for line in lines[:3]]
    said = _SEP(lines[0]) if lines else None
    head = lines[1:2] if said else lines[:1]
    if not head or not head[0].strip():
        return None
    line = head[0].removesuffix("\r")
    delimiter = said[1] if said else max(DELIMITERS, key=lambda each: len(_columns(line, each)))
    names = tuple(column.strip() for column in _columns(line, delimiter))
    # Some tables have an index without a name in front, as pandas and R write it.
    named = names[1:] if names[:1] == ("",) else names
    if not named or not all(map(_NAME, named)) or len(set(named)) < len(named):
        return None
    return Header(names, delimiter, 2 if said else 1)


# No JSON, no id, no sentence.
_NAME = re.compile(r"[A-Za-z_][\w.: ()/-]{0,80}").fullmatch


def _columns(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # one of more than 128 KB is no name
        return []
