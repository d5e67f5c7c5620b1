"""Ids of posts, from words, from a file or from standard input."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.ids import ID_MAX

_ID_LINE = re.compile(
    r'"?(?:https?://\S+/status(?:es)?/)?([1-9][0-9]{0,18})(?:[/?]\S*)?"?', re.ASCII
)
_SHOWN = 40  # characters of a refused line


def read_ids(path: Path | None, *, on_bad: Callable[[int, str], None]) -> Iterator[int]:
    """The ids of a file, or of stdin for None, in its order, repeated ones too.

    One stands in a line, in quotes or not, or as the address of a post. A line that holds
    anything else is given to `on_bad` with its number (from 1) and the reason; blank lines
    and comments (#) are passed over. The file is streamed.

    **Errors**: `ConfigurationError`, at the call, when the file cannot be read.
    """
    if path is None:
        return _ids_of(sys.stdin.buffer, on_bad)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigurationError(
            f"The file of ids {path} cannot be read ({error.strerror}); name another after hydrate"
        ) from None
    return _closing(file, on_bad)


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


def _closing(file: BinaryIO, on_bad: Callable[[int, str], None]) -> Iterator[int]:
    with closing(file):
        yield from _ids_of(file, on_bad)


def _ids_of(lines: Iterable[bytes], on_bad: Callable[[int, str], None]) -> Iterator[int]:
    for number, line in enumerate(lines, start=1):
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").strip()
        if not text or text.startswith("#"):
            continue
        found = id_of(text)
        if found is not None:
            yield found
        else:
            shown = ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
            on_bad(number, f"{shown} is not the id of a post")
