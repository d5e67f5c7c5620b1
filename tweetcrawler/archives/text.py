"""Text around JSON values: values without line ends, script prefixes, lengths, log lines.

All of this is pure, takes what it needs in pieces, and keeps no more than one value.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import orjson

# --- values --------------------------------------------------------------------------------------


def loads(text: bytes) -> Any:
    """The value of a text, also of one that is not quite JSON.

    NaN and Infinity, which Python and R write, are null. Halves of surrogate pairs, which X
    cuts through, and bytes that are no UTF-8 become U+FFFD in the end.

    **Errors**: ValueError, or RecursionError for what is too deep.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text.decode(errors="replace"), parse_constant=_nothing)


def _nothing(_constant: str) -> None:
    return None


class Part(NamedTuple):
    """One object of a text, or text between objects; `end` is the offset after it.

    `is_object` says that the brackets close; whether it is JSON its parser says.
    """

    text: bytes
    end: int
    is_object: bool


def objects(blocks: Iterable[bytes], *, most: int) -> Iterator[Part]:
    """The objects of a text, wherever they stand: on one line, over lines, in one array.

    Brackets of arrays around the objects, commas and white space are passed over; other
    text between them comes by itself. An object that is broken off ends where the next one
    must begin. One that is longer than `most` bytes comes as text, without its end.

    Slower than lines, since most values are parsed twice: it is for what has no lines.
    """
    text, offset, shown = bytearray(), 0, b""
    under_way: _Object | None = None
    for block in itertools.chain(blocks, [None]):
        text += block or b""
        while True:
            if under_way is None:
                begin = text.find(b"{")
                head = text[:begin] if begin >= 0 else _settled(text, final=block is None)
                offset += len(head)
                del text[: len(head)]
                if between := head.strip(_AROUND):
                    yield Part(bytes(between[:_SHOWN]), offset, is_object=False)
                if begin < 0:
                    break
                under_way, shown = _Object(), b""
            end = under_way.end_in(text, final=block is None)
            if end is None and under_way.seen == len(text) > most:
                shown = shown or bytes(text[:_SHOWN])
                offset += under_way.let_go(text)
            if end is None:
                break
            part = bytes(text[: end.at])
            offset += end.at
            del text[: end.at]
            whole = end.whole and not shown
            yield Part(part if whole else (shown or part[:_SHOWN]).strip(_AROUND), offset, whole)
            under_way = None


# What may stand around objects, with the marks of UTF-8 and of RFC 7464.
_AROUND: Final = b" \t\r\n,[]\x00\x1e\xef\xbb\xbf"
_SHOWN: Final = 1_000


def _settled(text: bytearray, *, final: bool) -> bytearray:
    """The part of a text without objects that is complete: its whole lines, or all if long."""
    return text[:] if final or len(text) > _SHOWN else text[: text.rfind(b"\n") + 1]


class _End(NamedTuple):
    at: int
    whole: bool


# Up to the next bracket that is in no string. ++ and *+ give nothing back: time is linear.
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\\n]++|\\.)*+")*+([{}\[\]])', re.DOTALL)
_STRING = re.compile(rb'"(?:[^"\\\n]++|\\.)*+"', re.DOTALL)
_CLOSES: Final = {b"}": b"{", b"]": b"["}


# An object, after the one before or its comma; some tries, since inside there are others.
_NEXT = re.compile(rb"}(?=\s*+,?+\s*+{)").finditer
_TRIES: Final = 16


def _guessed_end(text: bytearray) -> int:
    """Where the first object ends, told by its parser, which is ten times as fast; else 0."""
    for found in itertools.islice(_NEXT(text), _TRIES):
        try:
            orjson.loads(text[: found.end()])
        except orjson.JSONDecodeError:
            continue
        return found.end()
    return 0


class _Object:
    """The object with which a text begins, looked at up to `at`."""

    def __init__(self) -> None:
        self.at = 0
        self._open: list[bytes] = []
        self._last = b""
        self.seen = 0  # bytes of the text, when it was last looked at
        self._again_at = 0

    def end_in(self, text: bytearray, *, final: bool) -> _End | None:
        """Where it ends; None when it goes on after the text. At the `final` end it ends there.

        A piece without a bracket is looked at again once it is twice as long, so that a
        text of any length is looked at twice at most.
        """
        if len(text) < self._again_at and not final:
            return None
        end = self._end_in(text)
        if end is None and final:
            return _End(len(text), whole=False)
        self.seen, self._again_at = len(text), 2 * len(text) - self.at
        return end

    def _end_in(self, text: bytearray) -> _End | None:
        if not self._open and (guessed := _guessed_end(text)):
            return _End(guessed, whole=True)
        while found := _TO_BRACKET.match(text, self.at):
            bracket, position = bytes(found[1]), found.start(1)
            before = bytes(text[self.at : position].rstrip()[-1:]) or self._last
            if bracket in _CLOSES:
                if self._open.pop() != _CLOSES[bracket]:
                    return _End(position + 1, whole=False)
                if not self._open:
                    return _End(position + 1, whole=True)
            elif bracket == b"{" and self._open and not self._may_hold_after(before):
                return _End(position, whole=False)
            else:
                self._open.append(bracket)
            self.at, self._last = position + 1, bracket
        return self._broken(text)

    def _may_hold_after(self, before: bytes) -> bool:
        """Whether an object may begin here: as a value, which has a colon before it, or in
        an array.
        """
        return before in ((b":",) if self._open[-1] == b"{" else (b"[", b","))

    def _broken(self, text: bytearray) -> _End | None:
        """A text in quotes ends on its line; if not, the object was broken off there."""
        quote = self._open_quote(text)
        line_end = text.find(b"\n", quote) if quote >= 0 else -1
        return None if line_end < 0 else _End(line_end + 1, whole=False)

    def _open_quote(self, text: bytearray) -> int:
        position = self.at
        while (quote := text.find(b'"', position)) >= 0:
            if (string := _STRING.match(text, quote)) is None:
                return quote
            position = string.end()
        return -1

    def let_go(self, text: bytearray) -> int:
        """Takes off the text what was looked at, but for a quote that is open; its length.

        Of what is in quotes, backslashes at the end stay: they change what follows.
        """
        before = len(text)
        quote = self._open_quote(text)
        if quote < 0:
            last = text[self.at :].rstrip()[-1:]
            text[:] = b"" if last == b'"' else last
        else:
            text[:] = b'"' + text[len(text[quote:].rstrip(b"\\")) + quote :]
        self.at = self._again_at = 0
        return before - len(text)


# --- around values -------------------------------------------------------------------------------


class Assignment(NamedTuple):
    """A script's beginning: `name` is what it assigns to, `length` the bytes up to the value."""

    name: str
    length: int


# `window.YTD.tweets.part0 = ` of downloads since 2018, `Grailbird.data.tweets_2012_12 = `
# before, `var tweet_index = ` of their lists.
_ASSIGNMENT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(window\.YTD\.[\w.]{1,60}|Grailbird\.data\.\w{1,60}|"
    rb"var (?:tweet_index|user_details|payload_details))\s*=\s*"
).match


def assignment(head: bytes) -> Assignment | None:
    """The script prefix at the beginning of a text, in its first 200 bytes; else None."""
    found = _ASSIGNMENT(head[:200])
    return None if found is None else Assignment(found[1].decode(), found.end())


def is_length_of(line: bytes, following: bytes) -> bool:
    """Whether a line is the length of the next one, as streams with `delimited=length` have it.

    X counts the line end of two bytes; some programs stored one of them, or none.
    """
    number = line.strip()
    if not (number.isdigit() and len(number) <= 7 and following.lstrip()[:1] == b"{"):
        return False
    return 0 <= int(number) - len(following.rstrip(b"\r\n")) <= 2


_LOG = re.compile(
    rb"\s*(?:\[?(?:DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\b|[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]|"
    rb"Traceback |File \"|\w+(?:Error|Warning|Exception): |Warning message|100%|\s*[0-9]+%\|)"
).match


def is_log(line: bytes) -> bool:
    """Whether a line is one that a program wrote into its output: a warning, a progress bar."""
    return line.lstrip()[:1] != b"{" and bool(_LOG(line))
