"""Our own files of Parquet and Excel, read back in batches."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final
from xml.etree.ElementTree import Element, ParseError, iterparse

from tweetcrawler.archives.formats import own
from tweetcrawler.archives.formats.fields import LISTS
from tweetcrawler.archives.formats.tables import Record
from tweetcrawler.archives.zips import refuse_bombs
from tweetcrawler.errors import ConfigurationError, PackageMissing, TweetcrawlerError
from tweetcrawler.flatten import COLUMNS, Flattened, NotStorable, as_array, as_id_array
from tweetcrawler.ids import ID_MAX

BATCH: Final = 10_000

# --- parquet -------------------------------------------------------------------------------------


def parquet_batches(path: Path, *, after: int = 0) -> Iterator[Flattened]:
    """The rows of our own Parquet, a batch each time, without the first `after` batches.

    **Errors**: ConfigurationError without the package pyarrow, or if the columns are not
    ours; TweetcrawlerError if the file is damaged.
    """
    file = _parquet(path)
    names = file.schema_arrow.names
    if not own.fits(names):
        raise ConfigurationError(f"{path} is Parquet, but not of `tweetcrawler export`")
    try:
        for number, batch in enumerate(file.iter_batches(batch_size=BATCH)):
            if number >= after:
                yield _of_batch(names, batch)
    except OSError as error:
        raise TweetcrawlerError(f"{path} cannot be read further: {error}") from None


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise PackageMissing("Parquet", "pyarrow") from None
    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise TweetcrawlerError(f"{path} cannot be read as Parquet: {error}") from None


def _of_batch(names: Sequence[str], batch: Any) -> Flattened:
    """The rows of a batch, column by column, which is several times as fast as row by row."""
    found = {own.VIEW.get(name, name): array for name, array in zip(names, batch, strict=True)}
    nothing = [None] * batch.num_rows
    try:
        made = [_column(name, found[name]) if name in found else nothing for name in COLUMNS]
    except NotStorable:
        made = [nothing]
    if any(tweet_id is None for tweet_id in made[0]):  # one value spoils its row, not the batch
        return own.TABLE.rows(names, zip(*(array.to_pylist() for array in batch), strict=True))
    rows = {
        values[0]: dict(zip(COLUMNS, values, strict=True)) for values in zip(*made, strict=True)
    }
    return Flattened([rows[tweet_id] for tweet_id in sorted(rows)], [])


def _column(name: str, array: Any) -> list[Any]:
    """The values of a column as they are stored, made for the whole batch where none is odd."""
    kind = str(array.type)
    if kind in ("list<element: string>", "list<item: string>"):
        return _bare_lists(array, _ODD_TEXT) or _literals(array, as_array)
    if kind in ("list<element: int64>", "list<item: int64>"):
        return _bare_lists(array, _ODD_ID) or _literals(array, as_id_array)
    if kind == "timestamp[us, tz=UTC]":
        return _times(array)
    values: list[Any] = array.to_pylist()
    is_plain = kind in _PLAIN and name not in LISTS and name != "created_at"
    return values if is_plain and _PLAIN[kind](name, array) else _each(name, values)


def _each(name: str, values: list[Any]) -> list[Any]:
    return [None if value is None else own.value_of(name, value) for value in values]


def _is_within(array: Any, least: float, most: float) -> bool:
    from pyarrow import compute

    found = compute.min_max(array).as_py()
    is_empty = found["min"] is None
    return is_empty or (found["min"] >= least and found["max"] <= most and not _has_nan(array))


def _has_nan(array: Any) -> bool:
    from pyarrow import compute, types

    return types.is_floating(array.type) and bool(compute.any(compute.is_nan(array)).as_py())


def _has_no_nul(_name: str, array: Any) -> bool:
    from pyarrow import compute

    return not compute.any(compute.match_substring(array, "\x00")).as_py()


# Kinds of columns that are stored as they are, and when all values of a batch can be.
_PLAIN: Final[dict[str, Callable[[str, Any], bool]]] = {
    "string": _has_no_nul,
    "int64": lambda name, array: not name.endswith("id") or _is_within(array, 1, ID_MAX),
    "double": lambda name, array: name == "sentiment" and _is_within(array, -1.0, 1.0),
}


def _times(array: Any) -> list[str | None]:
    import pyarrow
    from pyarrow import compute

    # Without the zone, which is UTC: else pyarrow looks for its rules on the machine. As text
    # it has a space before the hour; `strftime` takes five times as long.
    exact = compute.floor_temporal(array.cast(pyarrow.timestamp("us")), unit="millisecond")
    texts = exact.cast(pyarrow.timestamp("ms")).cast(pyarrow.string())
    texts = compute.binary_join_element_wise(texts, "Z", "")
    made: list[str | None] = compute.binary_replace_slice(texts, 10, 11, "T").to_pylist()
    return made


# What an array literal puts in quotes or does not take; `as_array` has the same rule.
_ODD_TEXT: Final = r'^$|[,{}"\\ \t\n\r\v\f\x00]|^(?i:null)$'
_ODD_ID: Final = r"^(0|-.*)$"


def _bare_lists(array: Any, odd: str) -> list[str | None] | None:
    """The lists as array literals, joined by pyarrow; None if an element is odd."""
    import pyarrow
    from pyarrow import compute

    texts = array.cast(pyarrow.list_(pyarrow.string()))
    elements = texts.values
    if elements.null_count or compute.any(compute.match_substring_regex(elements, odd)).as_py():
        return None
    joined = compute.binary_join(texts, ",")
    made: list[str | None] = compute.binary_join_element_wise("{", joined, "}", "").to_pylist()
    return made


def _literals(array: Any, literal: Callable[[Any], str]) -> list[str | None]:
    """The lists as array literals: pyarrow gives all elements at once ten times as fast."""
    # Not `flatten()`: it leaves out what lies beyond a slice or under a null, and the offsets
    # would no longer fit its elements.
    elements, offsets = array.values.to_pylist(), array.offsets.to_pylist()
    bounds = zip(offsets, offsets[1:], array.is_valid().to_pylist(), strict=False)
    return [
        None if not valid else "{}" if begin == end else literal(elements[begin:end])
        for begin, end, valid in bounds
    ]


# --- excel ---------------------------------------------------------------------------------------

_SHEET = re.compile(r"xl/worksheets/sheet([0-9]+)\.xml").fullmatch
_CELL = re.compile(r"([A-Z]{1,3})[0-9]+").fullmatch
# The form of characters that XML does not have; an underscore before such a text is written so.
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def xlsx_records(file: IO[bytes] | Path) -> Iterator[Record]:
    """The records of all sheets of a workbook; each sheet begins with its header.

    Numbers come as they are written in the file. A number of more than 15 digits was
    rounded by Excel, and is written with an E: it is refused as an id.

    **Errors**: TweetcrawlerError if it is no workbook, or damaged.
    """
    try:
        with zipfile.ZipFile(file) as book:
            refuse_bombs(book.infolist())
            # By number: as text sheet10 would come before sheet2, and the order must be the
            # same when an import goes on in the middle.
            sheets = sorted(
                (int(found[1]), name) for name in book.namelist() if (found := _SHEET(name))
            )
            texts = _shared(book)
            for _number, name in sheets:
                with book.open(name) as sheet:
                    yield from _records(sheet, texts)
    except (zipfile.BadZipFile, ParseError, EOFError, OSError, NotImplementedError) as error:
        raise TweetcrawlerError(f"the workbook cannot be read further: {error}") from None


def _records(sheet: IO[bytes], texts: Sequence[str]) -> Iterator[Record]:
    """The rows of a sheet, as wide as the first one: blank cells at the end are not written."""
    width = 0
    for row in _elements(sheet, "row"):
        cells = _cells(row, texts)
        width = width or len(cells)
        yield Record(cells + [None] * (width - len(cells)), 1)


def _elements(file: IO[bytes], name: str) -> Iterator[Element]:
    """The elements of a name, each forgotten after it was seen.

    expat, since 2.4.1 of 2021, limits what entities blow up to; it opens no other file.
    """
    parents: list[Element] = []
    for event, element in iterparse(file, events=("start", "end")):  # noqa: S314
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        if _local(element) == name:
            yield element
            element.clear()
            if parents:
                parents[-1].remove(element)


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _shared(book: zipfile.ZipFile) -> list[str]:
    """The texts that a workbook saved by Excel keeps in one place."""
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    with book.open("xl/sharedStrings.xml") as file:
        return [_text(element) for element in _elements(file, "si")]


def _text(element: Element) -> str:
    """The text of a cell, also in several parts; not how it is read aloud (`rPh`)."""
    parts = []
    for child in element:
        if _local(child) == "t":
            parts.append(child.text or "")
        elif _local(child) == "r":
            parts.append(_text(child))
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), "".join(parts))


def _cells(row: Element, texts: Sequence[str]) -> list[str | None]:
    cells: list[str | None] = []
    for cell in row:
        found = _CELL(cell.get("r") or "")
        position = _position(found[1]) if found else len(cells)
        cells += [None] * (position + 1 - len(cells))
        cells[position] = _value(cell, texts)
    return cells


def _position(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _value(cell: Element, texts: Sequence[str]) -> str | None:
    kind = cell.get("t")
    for child in cell:
        if _local(child) == "is":
            return _text(child)
        if _local(child) == "v" and child.text is not None:
            if kind == "s":
                number = int(child.text) if child.text.isdigit() else len(texts)
                return texts[number] if number < len(texts) else None
            return child.text
    return None
