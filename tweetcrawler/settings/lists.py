"""Lists in files: queries and ids to read, handles to replace.

A level of handles is one file. Its first line says which level it is, so that a run which
was stopped goes on with the level it was at; the levels before it are in the file with
`.bk` behind its name, one after the other.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from tweetcrawler import files
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.ids import ID_MAX
from tweetcrawler.queries import normalised
from tweetcrawler.secret import read_text

_ID_LINE = re.compile(
    r'"?(?:https?://\S+/status(?:es)?/)?([1-9][0-9]{0,18})(?:[/?]\S*)?"?', re.ASCII
)
_LEVEL_LINE = re.compile(rb"# level ([0-9]{1,6})\b")
_SHOWN = 40


def read_queries(given: Sequence[str], path: Path | None) -> list[str]:
    """The normalised queries of the command line and of a file, each once, in their order.

    **Errors**: `ConfigurationError` when the file cannot be read, or there is none at all.
    """
    lines = read_text(path, "file of queries").splitlines() if path else []
    found = [query for query in given if query.strip()]
    # A hashtag may begin a query: only a # before white space begins a comment.
    found += [line for line in lines if line.strip() and not re.match(r"\s*#(\s|$)", line)]
    queries = list(dict.fromkeys(normalised(query) for query in found))
    if not queries:
        raise ConfigurationError(
            f"there is no query in {path}; write one a line" if path else "the query is empty"
        )
    return queries


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
            f"The file of ids {path} cannot be read ({error.strerror}); name another behind hydrate"
        ) from None
    return _closing(file, on_bad)


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


def level_of(path: Path) -> int:
    """Which level of a snowball the handles of a file are; 0 for a list that somebody wrote."""
    try:
        with path.open("rb") as file:
            match = _LEVEL_LINE.match(file.readline(200))
    except OSError as error:
        raise ConfigurationError(
            f"The file of handles {path} cannot be read ({error.strerror})."
        ) from None
    return int(match[1]) if match else 0


def replace_handles(path: Path, handles: Sequence[str], *, level: int, by: str) -> None:
    """Puts a new level into the place of a file of handles, in one step; the old one is
    appended to `<file>.bk`.

    Whenever it is interrupted, the old level is in one of the two files at least, and it is
    repeated without effect.

    **Errors**: `ConfigurationError` when the folder cannot be written to.
    """
    backup = path.with_name(path.name + ".bk")
    text = f"# level {level}, by {by}; made by tweetcrawler\n" + "".join(
        f"{handle}\n" for handle in handles
    )
    try:
        old = path.read_bytes() if path.exists() else b""
        _append_once(backup, old if old.endswith(b"\n") or not old else old + b"\n")
        files.replace_whole(path, text.encode())
    except OSError as error:
        raise ConfigurationError(
            f"the new handles cannot be written beside {path}: {error.strerror}; correct the rights of its folder"
        ) from None


def _closing(file: BinaryIO, on_bad: Callable[[int, str], None]) -> Iterator[int]:
    with closing(file):
        yield from _ids_of(file, on_bad)


def _ids_of(lines: Iterable[bytes], on_bad: Callable[[int, str], None]) -> Iterator[int]:
    for number, line in enumerate(lines, start=1):
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").strip()
        if not text or text.startswith("#"):
            continue
        match = _ID_LINE.fullmatch(text)
        if match and int(match[1]) <= ID_MAX:
            yield int(match[1])
        else:
            shown = ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
            on_bad(number, f"{shown} is not the id of a post")


def _append_once(path: Path, text: bytes) -> None:
    """Appends to a file what it does not end with already."""
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(text)))
        if text and file.read() != text:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
