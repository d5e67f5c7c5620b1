"""Handles of a file: read as a stream, counted, and replaced by the next level of a snowball.

A level of handles is one file. Its first line says which level it is, so that a run which
was stopped goes on with the level it was at; the levels before it are in the file with
`.bk` after its name, one after the other.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from io import BufferedReader, BytesIO
from pathlib import Path

from tweetcrawler import files
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.secret import UTF_16_MARKS

LONGEST_LINE = 10_000
_LEVEL_LINE = re.compile(rb"# level ([0-9]{1,6})\b")
_PLAIN_LINES = re.compile(rb"(?:[ \t]*@?[A-Za-z0-9_]{1,15}[ \t]*\r?\n)*+")
_HANDLE = re.compile(r"@?([A-Za-z0-9_]{1,15})", re.ASCII)
_ADDRESS = re.compile(
    r"(?:https?://)?(?:[a-z]+\.)?(?:twitter|x)\.com(?:/|\Z)", re.IGNORECASE | re.ASCII
)
_PROFILE = re.compile(
    r"(?:https?://)?(?:www\.|mobile\.|m\.)?(?:twitter|x)\.com/@?([A-Za-z0-9_]{1,15})/?(?:\?.*)?",
    re.IGNORECASE | re.ASCII,  # without ASCII, the Kelvin sign would pass for a k
)
_SITE_PATHS = frozenset(
    (
        "about",
        "account",
        "compose",
        "download",
        "explore",
        "hashtag",
        "home",
        "i",
        "intent",
        "jobs",
        "login",
        "logout",
        "messages",
        "notifications",
        "oauth",
        "privacy",
        "search",
        "settings",
        "share",
        "signup",
        "tos",
    )
)
_BLOCK_BYTES = 64 * 1024
_SHOWN = 40  # characters of a refused line


def read_handles(path: Path, *, on_bad: Callable[[int, str], None]) -> Iterator[str]:
    """The handles of a file in its order, folded to lower case, each once.

    One stands in a line, with or without @, or as the address of a profile; # begins a
    comment. A line that holds anything else is given to `on_bad` with its number (from 1)
    and the reason, and passed over. The file is streamed: a million handles take some 30
    MB, for telling the repeated ones.

    Errors: ConfigurationError, at the call, when the file cannot be read.
    """
    return _stream(_open(path), on_bad)


def folded(word: str) -> str:
    """The handle of one word, in lower case; empty when it is none."""
    return _handle_in(word.encode("utf-8", "replace"))[0]


def count_lines(path: Path) -> int | None:
    """The number of lines that are neither blank nor a comment: an upper bound of the
    handles, found quickly.

    None for a pipe, which can be read only once. Errors: ConfigurationError when the file
    cannot be read.
    """
    if path.is_fifo() or path.is_char_device():
        return None
    count = 0
    with _open(path) as file:
        while block := file.read(_BLOCK_BYTES) + file.readline():
            # In the terms of C, since there may be millions of lines and the first request
            # waits for this.
            bare = (b"\n" + block).translate(None, b" \t\r\v\f")
            count += len(list(filter(None, bare.split(b"\n")))) - bare.count(b"\n#")
    return count


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
            f"the new handles cannot be written next to {path}: {error.strerror}; "
            "correct the rights of its folder"
        ) from None


def _append_once(path: Path, text: bytes) -> None:
    """Appends to a file what it does not end with already."""
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(text)))
        if text and file.read() != text:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _open(path: Path) -> BufferedReader:
    try:
        file: BufferedReader = BufferedReader(path.open("rb", buffering=0), _BLOCK_BYTES)
    except FileNotFoundError:
        reason = "is not there; write one handle a line into it, or name another with --handles"
    except IsADirectoryError:
        reason = "is a folder; name the file in it"
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); check who may read it"
    else:
        if file.peek(2)[:2] not in UTF_16_MARKS:
            return file
        file.close()
        reason = "is UTF-16; save it as UTF-8"
    raise ConfigurationError(f"The file of handles {path} {reason}.")


def _stream(opened: BufferedReader, on_bad: Callable[[int, str], None]) -> Iterator[str]:
    seen = _Seen()
    number = 0
    with opened as file:
        while block := _block(file):
            if number == 0:
                block = block.removeprefix(codecs.BOM_UTF8)
            if _PLAIN_LINES.fullmatch(
                block
            ):  # nearly all are: a million lines one by one take seconds
                number += block.count(b"\n")
                yield from seen.fresh(block.decode().replace("@", "").lower().split())
                continue
            for line in BytesIO(block):
                number += 1
                found, reason = _handle_in(line)
                if reason:
                    on_bad(number, reason)
                if found:
                    yield from seen.fresh([found])


def _block(file: BufferedReader) -> bytes:
    """The whole lines that are at hand; else one, cut when it is too long, and what is
    behind the cut is skipped.

    So the lines of a pipe are taken as they come.
    """
    at_hand = file.peek().rfind(b"\n") + 1
    if at_hand:
        return file.read(at_hand)
    line = part = file.readline(LONGEST_LINE)
    while len(part) == LONGEST_LINE and not part.endswith(b"\n"):
        part = file.readline(LONGEST_LINE)
    return line


def _handle_in(line: bytes) -> tuple[str, str]:
    """The folded handle of a line and the reason why there is none; both empty for a blank
    line.
    """
    if len(line) >= LONGEST_LINE:
        return "", f"the line is longer than {LONGEST_LINE:,} bytes"
    try:
        text = line.decode().partition("#")[0].strip()
    except UnicodeDecodeError:
        return "", "the line is no text in UTF-8"
    if not text:
        return "", ""
    match = _HANDLE.fullmatch(text) or _PROFILE.fullmatch(text)
    if match and (match.re is _HANDLE or match[1].lower() not in _SITE_PATHS):
        return match[1].lower(), ""
    shown = ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    if _ADDRESS.match(text):
        return "", f"{shown} is not the address of a profile"
    return "", f"{shown} is not a handle (1 to 15 letters, digits and _)"


def _digest(text: str) -> int:
    """64 bits, where Python's own `hash` has fewer."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


class _Seen:
    """A set of texts that takes 8 to 24 bytes each: an open-addressed table of their 64-bit
    digests.

    Two of a million texts have the same digest once in 37 million files. The table is at
    most 2/3 full.
    """

    def __init__(
        self, digest: Callable[[str], int] = hash if sys.hash_info.width >= 64 else _digest
    ) -> None:
        self._digest = digest
        self._count = 0
        self._table = _free_places(1 << 10)

    def fresh(self, texts: Sequence[str]) -> list[str]:
        """Those that are new, each once; from now on they are not."""
        while (self._count + len(texts)) * 3 > len(self._table) * 2:
            self._grow()
        table, mask = self._table, len(self._table) - 1
        new = []
        # No function is called for a text: half of the time that a million of them take
        # would go there.
        for text, digest in zip(texts, map(self._digest, texts), strict=True):
            slot = digest & mask
            while (found := table[slot]) and found != digest:
                slot = slot + 1 & mask
            if not found:  # a digest of 0, which a free place has, comes once in 2^64 texts
                table[slot] = digest
                new.append(text)
        self._count += len(new)
        return new

    def _grow(self) -> None:
        old, self._table = self._table, _free_places(len(self._table) * 2)
        table, mask = self._table, len(self._table) - 1
        for digest in filter(None, old):
            slot = digest & mask
            while table[slot]:
                slot = slot + 1 & mask
            table[slot] = digest


def _free_places(size: int) -> array[int]:
    return array("q", [0]) * size
