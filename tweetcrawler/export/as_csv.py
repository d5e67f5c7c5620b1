"""CSV as PostgreSQL and spreadsheets read it; a spreadsheet runs no formula of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

from tweetcrawler.db import Column, Rows

# What a spreadsheet takes for a formula, also behind white space and invisible signs, and
# in full width. The apostrophe is among them so that taking one off every cell that begins
# with one gives the text back.
_FORMULA = re.compile(
    r"['\t\r\n]|[\s\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff]*"
    r"[=+\-@\u2212\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]"
).match
SHORT_NUMBER = re.compile(r"-?[0-9]{1,15}|-?[0-9]{1,9}\.[0-9]{1,9}").fullmatch


class Form(NamedTuple):
    """How cells become lines. `sep=` before the delimiter names it in a first line.

    With `excel_safe` a spreadsheet changes no id, and runs no cell.
    """

    delimiter: str
    line_end: str
    excel_safe: bool


def write(file: IO[bytes], columns: Sequence[Column], rows: Rows, form: Form) -> int:
    """RFC 4180 in UTF-8. NULL is an empty field and the empty text is `""`, as PostgreSQL's
    COPY has it.
    """
    delimiter = "\t" if form.delimiter == "tab" else form.delimiter.removeprefix("sep=")
    cells_of = _line_of_one if len(columns) == 1 else _lines(delimiter)

    def line(values: tuple[str | None, ...]) -> str:
        return cells_of(values) + form.line_end

    header = tuple(column.name for column in columns)
    guards: list[Callable[[str], str]] = []
    if form.excel_safe:
        header = tuple(map(_guarded, header))
        guards = [_guard_of(column) for column in columns]
        file.write(b"\xef\xbb\xbf")  # else Excel reads the local 8-bit code
    if form.delimiter.startswith("sep="):
        file.write((form.delimiter + form.line_end).encode())
    file.write(line(header).encode())
    count = 0
    for batch in rows:
        count += len(batch)
        if guards:
            # By column, as the guard depends on the type: one look at it for a batch and not
            # for each cell.
            cells = zip(*batch, strict=True)
            guarded = [
                [None if value is None else guard(value) for value in values]
                for guard, values in zip(guards, cells, strict=True)
            ]
            file.write("".join(map(line, zip(*guarded, strict=True))).encode())
        else:
            file.write("".join(map(line, batch)).encode())
    return count


def _lines(delimiter: str) -> Callable[[tuple[str | None, ...]], str]:
    plain = re.compile(rf'[^"\r\n{re.escape(delimiter)}]+').fullmatch

    def line(values: tuple[str | None, ...]) -> str:
        return delimiter.join(
            ["" if value is None else value if plain(value) else _quoted(value) for value in values]
        )

    return line


def _line_of_one(values: tuple[str | None, ...]) -> str:
    # An empty line is skipped by readers, and \. alone on a line ends the data for some.
    return _quoted(values[0] or "")


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _guard_of(column: Column) -> Callable[[str], str]:
    if column.is_list or column.kind not in ("id", "whole", "number"):
        return _guarded
    if column.kind == "id":
        # Always for ids: Excel keeps 15 digits of a number, and ids have 19.
        return "'".__add__
    return lambda value: value if SHORT_NUMBER(value) else "'" + value


def _guarded(value: str) -> str:
    return "'" + value if _FORMULA(value) else value
