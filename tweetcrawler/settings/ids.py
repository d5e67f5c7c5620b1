"""Ids of posts, from words, from a file or from standard input."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import logging
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, TextIO, cast

import zstandard

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.ids import ID_MAX, warning_of

log = logging.getLogger(__name__)

# `export --excel-safe` puts an apostrophe before an id.
_ID_LINE = re.compile(
    r"""['"]{0,2}(?:https?://\S+/status(?:es)?/)?([1-9][0-9]{0,18})(?:[/?]\S*)?"?""", re.ASCII
)
_COMMENT = re.compile(r"\s+#.*$").sub
_ROUNDED = re.compile(r"""['"]{0,2}[0-9][.,]?[0-9]*[eE]\+?[0-9]+"?""").fullmatch
_NAME = re.compile(r"[A-Za-z_][\w .-]{0,60}").fullmatch
_SHOWN = 40  # characters of a refused line
LINE_MAX: Final = 1024 * 1024
LOOKED_AT: Final = 100  # ids looked at before the first is asked for
DELIMITERS: Final = ("\t", ",", ";", "|")
COLUMNS: Final = ("tweet_id", "id", "status_id", "tweetid", "id_str", "tweet id")
"""The columns that may hold the ids of a table, the first that is there."""

OnBad = Callable[[int, str], None]


def read_ids(path: Path | None, *, on_bad: OnBad) -> Iterator[int]:
    """The ids of a file, or of stdin for None, in its order, repeated ones too.

    An id stands in a line, in quotes or not, or as the address of a post; or in a column of
    a table, see `COLUMNS`, else in its first one. The file may be packed, and in UTF-16. A
    line that holds anything else is given to `on_bad` with its number (from 1) and the
    reason; blank lines and comments (#) are passed over. The file is streamed.

    Ids that a spreadsheet has rounded are warned of before the first one is given.

    **Errors**: `ConfigurationError`, at the call, when the file cannot be read.
    """
    if path is None:
        return _looked_at(_ids_of(sys.stdin.buffer, on_bad))
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigurationError(
            f"The file of ids {path} cannot be read ({error.strerror}); name another after hydrate"
        ) from None
    return _looked_at(_closing(file, on_bad))


def id_of(word: str) -> int | None:
    """The id in a word, which is a number or the address of a post; else None."""
    match = _ID_LINE.fullmatch(word.strip())
    return int(match[1]) if match and int(match[1]) <= ID_MAX else None


def blocks(ids: Iterable[int], size: int) -> Iterator[tuple[int, ...]]:
    """The ids in blocks of a size; in a block each is there once."""
    block: dict[int, None] = {}
    for tweet_id in ids:
        block[tweet_id] = None
        if len(block) == size:
            yield tuple(block)
            block = {}
    if block:
        yield tuple(block)


def _looked_at(ids: Iterator[int]) -> Iterator[int]:
    first = list(itertools.islice(ids, LOOKED_AT))
    if said := warning_of(map(str, first)):
        log.warning("%s", said)
    yield from first
    yield from ids


def _closing(file: BinaryIO, on_bad: OnBad) -> Iterator[int]:
    with closing(file):
        yield from _ids_of(file, on_bad)


def _ids_of(file: BinaryIO, on_bad: OnBad) -> Iterator[int]:
    number, opened = 0, _text(file)
    try:
        lines = _lines(opened)
        for number, text in lines:
            if names := _header(text):
                yield from _of_column(lines, text, names, on_bad)
            elif (found := _id_in(text)) is not None:
                yield found
            else:
                on_bad(number, _reason(text))
            break
        for number, text in lines:
            if (found := _id_in(text)) is not None:
                yield found
            else:
                on_bad(number, _reason(text))
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        on_bad(number + 1, f"the file cannot be read further: {error}")
    finally:
        opened.detach()  # else it would close standard input


def _text(file: BinaryIO) -> io.TextIOWrapper:
    """The text of a file, unpacked and decoded by its first bytes."""
    packed = cast("io.BufferedReader", file)
    head = packed.peek(6)[:6]
    opened: BinaryIO = file
    if head.startswith(b"\x1f\x8b"):
        opened = cast("BinaryIO", gzip.GzipFile(fileobj=file))
    elif head.startswith(b"BZh"):
        opened = cast("BinaryIO", bz2.BZ2File(file))
    elif head.startswith(b"\xfd7zXZ"):
        opened = cast("BinaryIO", lzma.LZMAFile(file))  # noqa: SIM115
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        opened = cast("BinaryIO", reader)
    plain = opened if opened is file else io.BufferedReader(cast("io.RawIOBase", opened))
    begin = cast("io.BufferedReader", plain).peek(2)[:2]
    encoding = "utf-16" if begin in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return io.TextIOWrapper(plain, encoding=encoding, errors="replace", newline="\n")


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """The lines that say something, without comments, and their numbers from 1."""
    # What has no line ends is read in pieces.
    for number, line in enumerate(iter(lambda: file.readline(LINE_MAX), ""), start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, _COMMENT("", text)


# --- tables --------------------------------------------------------------------------------------


def _header(text: str) -> list[str] | None:
    """The names of the columns in a first line; None if it names none."""
    delimiter = _delimiter(text)
    names = [name.strip().strip('"') for name in _cells(text, delimiter)]
    if not all(map(_NAME, names)):
        return None
    known = any(name.lower() in COLUMNS for name in names)
    return names if known or (delimiter and len(names) > 1) else None


def _of_column(
    lines: Iterator[tuple[int, str]], header: str, names: list[str], on_bad: OnBad
) -> Iterator[int]:
    lowered = [name.lower() for name in names]
    column = next((lowered.index(name) for name in COLUMNS if name in lowered), 0)
    delimiter = _delimiter(header)
    at = [0]

    def fed() -> Iterator[str]:
        for number, text in lines:
            at[0] = number
            yield text

    # A cell may go on over lines: quotes are as csv has them. Between tabs they are of texts.
    records = (
        csv.reader(fed(), delimiter=delimiter, quoting=csv.QUOTE_NONE)
        if delimiter == "\t"
        else csv.reader(fed(), delimiter=delimiter or ",")
    )
    while True:
        try:
            cells = next(records, None)
        except csv.Error as error:
            on_bad(at[0], f"it is no line of a table: {error}")
            continue
        if cells is None:
            return
        word = cells[column] if column < len(cells) else ""
        if (found := id_of(word)) is not None:
            yield found
        else:
            on_bad(at[0], _reason(word))


def _delimiter(text: str) -> str:
    return next((each for each in DELIMITERS if each in text), "")


def _cells(text: str, delimiter: str) -> list[str]:
    return text.split(delimiter) if delimiter else [text]


def _id_in(text: str) -> int | None:
    """The id in a line, or in its first cell."""
    if (found := id_of(text)) is not None:
        return found
    delimiter = _delimiter(text)
    return id_of(text.split(delimiter, 1)[0]) if delimiter else None


def _reason(text: str) -> str:
    shown = ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    if _ROUNDED(_cells(text, _delimiter(text))[0].strip()):
        return f"{shown} is not the id of a post: a spreadsheet has rounded it"
    return f"{shown} is not the id of a post"
