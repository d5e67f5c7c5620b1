"""One value of an archive with its place, which is what all readers of files give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from tweetcrawler.archives.formats import Format
from tweetcrawler.flatten import Flattened


class Position(NamedTuple):
    """How far a file was read: members of a tar, then bytes and lines of the next one.

    Members count when they are whole, bytes are uncompressed. Of a database the bytes are
    the last id, of a workbook and of Parquet the number of rows or batches.

    A file that is no tar is its own only member.
    """

    member: int = 0
    offset: int = 0
    line: int = 0


class Document(NamedTuple):
    """One value of a file, or text that is none; `end` is the position behind it.

    `problem` says why there is no `value` ("" when there is one): `EMPTY` for a line
    without anything, `LOG` for a line of a program's log, `OTHER_FILE` for a member of a tar
    that is not read, the name of a format that is refused, else a sentence.
    `line` is its first line, from 1; `raw` is its text; `member` is the name of the member
    of a tar, "" elsewhere. `form` is the format of the file, where that tells what the value is.
    """

    end: Position
    line: int
    value: Any
    problem: str
    raw: bytes
    member: str = ""
    form: Format | None = None


EMPTY: Final = "empty line"
LOG: Final = "line of a log"
OTHER_FILE: Final = "other file in an archive"
OTHER_PART: Final = "other part of an account download"


def damage(at: Position, member: str, error: BaseException) -> Document:
    """The last document of what cannot be read: nothing of it is left."""
    said = str(error).strip() or type(error).__name__
    end = Position(at.member + 1)
    return Document(end, at.line + 1, None, f"it cannot be read further: {said}", b"", member)


def refused(at: Position, member: str, name: str) -> Document:
    """The only document of a file that is refused, by name or with a sentence."""
    return Document(Position(at.member + 1), 1, None, name, b"", member)


def form_of(name: str, rows: Callable[..., Flattened]) -> Format:
    """The form of a file whose values are all of one kind, such as the records of a table."""
    return Format(name, lambda _value: True, rows)
