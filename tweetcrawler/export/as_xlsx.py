"""Excel workbooks, in which all text is text and no number is rounded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple

from tweetcrawler.db import Column, Rows
from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.export.as_csv import SHORT_NUMBER

SHEET_ROWS = 1_048_575
"""Rows of an Excel sheet under a header."""
_CELL_UNITS = 32_767  # of UTF-16


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

    count = cut = 0
    with tempfile.TemporaryDirectory(prefix="tweetcrawler-") as folder:
        book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": folder})
        book.set_properties(
            {"created": datetime(2000, 1, 1, tzinfo=UTC)}
        )  # the same rows, the same file
        plain = book.add_format()
        sheet: _Sheet | None = None
        line = 0
        writers = [_cell_writer(column) for column in columns]
        for row in (row for batch in rows for row in batch):
            if sheet is None or line == sheet_rows:
                sheet, line = _sheet(book, plain, columns), 0
            line += 1
            count += 1
            for position, (put, value) in enumerate(zip(writers, row, strict=True)):
                if value is not None:
                    cut += put(sheet, line, position, value)
        if sheet is None:
            _sheet(book, plain, columns)
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
        value = value.encode("utf-16-le")[: 2 * _CELL_UNITS].decode("utf-16-le", errors="ignore")
    if value.startswith("<r>") and value.endswith("</r>"):
        # XlsxWriter takes such text for markup of its own and would write it as it stands,
        # formulas included. Told that it is text in two parts, it escapes both.
        sheet.page.write_rich_string(line, position, value[:1], sheet.plain, value[1:])
    else:
        sheet.page.write_string(line, position, value)
    return not fits
