"""Formats: how their objects are told apart, and how they become rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tweetcrawler.archives.formats.fields import Score, Thing, Words
from tweetcrawler.flatten import Flattened


class Rows(Protocol):
    """Rows of one value of a format."""

    def __call__(self, value: Any, *, score: Score = None) -> Flattened: ...


@dataclass(frozen=True)
class Format:
    """A form of posts that is read. `name` is for messages; `fits` looks at keys alone."""

    name: str
    fits: Callable[[Thing], bool]
    rows: Rows


@dataclass(frozen=True)
class Refusal:
    """A form that is known and not read. `advice` says what the operator can do.

    `is_error` tells the lines in which a tool wrote down an error of X, which are no posts
    and need nothing.
    """

    name: str
    fits: Callable[[Thing], bool]
    advice: str
    is_error: bool = False


@dataclass(frozen=True)
class Pair:
    """A format whose posts need a second file of the same folder, such as one of users.

    `beside` gives the name of that file from the name of the first one, or None, and
    `is_beside` says whether a file is named like it; `read` takes from its value what is needed;
    `format` is then the format of the first file.
    """

    name: str
    beside: Callable[[str], str | None]
    is_beside: Callable[[str], bool]
    read: Callable[[Any], Any]
    format: Callable[[Any], Format]


def of_words(name: str, fits: Callable[[Thing], bool], words: Words) -> Format:
    """The format of a tool that writes one object a post, in these words."""

    def rows(value: Any, *, score: Score = None) -> Flattened:
        return words.rows([value], score=score)

    return Format(name, fits, rows)
