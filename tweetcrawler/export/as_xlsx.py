"""Excel workbooks, in which all text is text and no number is rounded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple

from tweetcrawler.db import Column, Rows
from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.export.as_csv import SHORT_NUMBER

# Excel's own limits: rows of a sheet under a header, and UTF-16 units of a cell.
# https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3
SHEET_ROWS = 1_048_575
_CELL_UNITS = 32_767


def write(
    file: IO[bytes], columns: Sequence[Column], rows: Rows, *, sheet_rows: int = SHEET_ROWS
) -> tuple[int, list[str]]:
    """The number of rows, and sentences about what Excel cannot hold.

    All text is written as text, so nothing is ever a formula. Ids are text too, and other
    numbers of more than 15 digits, since Excel has no more. Rows that a sheet cannot hold
    go on in the next.
    """
    import xlsxwriter
    from xlsxwriter.exceptions import XlsxWriterException

    # A sheet that is written row by row goes through a file of its own, so that memory does
    # not grow with the rows. https://xlsxwriter.readthedocs.io/working_with_memory.html
    with tempfile.TemporaryDirectory(prefix="tweetcrawler-") as folder:
        book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": folder})
        # Without a date of its own the file would hold today's: the same rows, the same file.
        book.set_properties({"created": datetime(2000, 1, 1, tzinfo=UTC)})
        count, cut = _write_rows(book, columns, rows, sheet_rows)
        try:
            book.close()
        except XlsxWriterException as error:
            raise TweetcrawlerError(
                f"Excel's format cannot hold this: {error}; export parquet or csv"
            ) from None
    notes = []
    if count > sheet_rows:
        notes.append(
            f"Excel has {sheet_rows:,} rows a sheet: there are {-(-count // sheet_rows)} sheets"
        )
    if cut:
        notes.append(
            f"Excel has {_CELL_UNITS:,} characters a cell: {cut:,} texts are cut; "
            "csv has them whole"
        )
    return count, notes


def _write_rows(
    book: Any, columns: Sequence[Column], rows: Rows, sheet_rows: int
) -> tuple[int, int]:
    """The number of rows that were written, and of texts that were cut."""
    plain = book.add_format()
    writers = [_cell_writer(column) for column in columns]
    sheet = _sheet(book, plain, columns)
    count = cut = line = 0
    for row in (row for batch in rows for row in batch):
        if line == sheet_rows:
            sheet, line = _sheet(book, plain, columns), 0
        line += 1
        count += 1
        for position, (put, value) in enumerate(zip(writers, row, strict=True)):
            if value is not None:
                cut += put(sheet, line, position, value)
    return count, cut


class _Sheet(NamedTuple):
    """A sheet of XlsxWriter, and its format that changes nothing."""

    page: Any
    plain: Any


def _sheet(book: Any, plain: Any, columns: Sequence[Column]) -> _Sheet:
    sheet = _Sheet(book.add_worksheet(f"tweets {len(book.worksheets()) + 1}"), plain)
    sheet.page.freeze_panes(1, 0)
    for position, column in enumerate(columns):
        _put_text(sheet, 0, position, column.name)
    return sheet


def _cell_writer(column: Column) -> Callable[[_Sheet, int, int, str], bool]:
    if column.kind in ("whole", "number") and not column.is_list:
        return _put_number
    return _put_text


def _put_number(sheet: _Sheet, line: int, position: int, value: str) -> bool:
    if SHORT_NUMBER(value):
        sheet.page.write_number(line, position, float(value))
        return False
    return _put_text(sheet, line, position, value)


def _put_text(sheet: _Sheet, line: int, position: int, value: str) -> bool:
    """Writes text as text; says whether it had to be cut."""
    fits = len(value) <= _CELL_UNITS // 2 or len(value.encode("utf-16-le")) <= 2 * _CELL_UNITS
    if not fits:
        # A cut through an emoji leaves half of a pair, which `ignore` drops.
        value = value.encode("utf-16-le")[: 2 * _CELL_UNITS].decode("utf-16-le", errors="ignore")
    if value.startswith("<r>") and value.endswith("</r>"):
        # XlsxWriter takes such text for markup of its own and would write it as it stands,
        # formulas included. Told that it is text in two parts, it escapes both.
        sheet.page.write_rich_string(line, position, value[:1], sheet.plain, value[1:])
    else:
        sheet.page.write_string(line, position, value)
    return not fits
