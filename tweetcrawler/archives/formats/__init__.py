"""Formats in which other tools keep posts, one file each, and which of them a value is in.

A format makes rows of the 21 columns by the same rules as `flatten`. One thing is added:
**a column that the source does not carry is None, also a list column; `{}` says that the
source would have listed and there is nothing.** So a row of a format never takes away what
another source knows. API v1.1 and v2 keep their own way for pages; here they are formats of
single objects.

A new format is a file with its `Words` and a line below, before any format that would take
its objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from tweetcrawler.archives.formats import (
    academic,
    account,
    apify,
    foreign,
    fourcat,
    hydrator,
    own,
    snscrape,
    stores,
    tcat,
    twarc_csv,
    twint,
    twitwi,
    v1,
    v2,
    web,
)
from tweetcrawler.archives.formats.kinds import Format, Pair, Refusal, Rows
from tweetcrawler.archives.formats.tables import Header, TableFormat, TableRefusal, header_of

__all__ = [
    "FORMATS",
    "PAIRS",
    "TABLES",
    "Format",
    "Found",
    "Header",
    "Pair",
    "Refusal",
    "Rows",
    "TableFormat",
    "TableRefusal",
    "header_of",
    "is_beside",
    "page_problem",
    "pair_of",
    "recognised",
    "table_format",
]

FORMATS: Final[tuple[Format | Refusal, ...]] = (
    # Ours comes first: it is known by all of its keys, the others by a few.
    own.FORMAT,
    v2.FOURCAT_ERROR,
    v2.FOURCAT,
    web.OTHER_SITE,
    web.FORMAT,
    web.EXPORTED,
    snscrape.FORMAT,
    snscrape.NO_POST,
    twint.FORMAT,
    twitwi.FORMAT,
    apify.FORMAT,
    account.NO_AUTHOR,
    academic.INCLUDES,
    # Before v1 and v2, whose signs are keys that posts of other sites have as well.
    *foreign.OBJECTS,
    v1.FORMAT,
    v2.FORMAT,
)
"""The forms of an object, in the order in which they are tried."""

TABLES: Final[tuple[TableFormat | TableRefusal, ...]] = (
    own.TABLE,
    twarc_csv.TABLE,
    fourcat.TABLE,
    tcat.TABLE,
    twitwi.TABLE,
    hydrator.TABLE,
    academic.TABLE,
    twint.TABLE,
    web.EXPORTED_TABLE,
    apify.TABLE,
    account.TABLE,
    *foreign.TABLES,
)
"""The forms of a table, in the order in which they are tried."""

PAIRS: Final[tuple[Pair, ...]] = (account.PAIR, academic.PAIR)
"""The formats whose files need another file of the same folder."""


class Found(NamedTuple):
    """The form of an object, None when it is none of these, and the object to give to it."""

    form: Format | Refusal | None
    value: Any


def recognised(value: dict[str, Any]) -> Found:
    """The form of an object. A wrapping by a document store is taken off first."""
    if stores.is_wrapped(value):
        with suppress(RecursionError):  # a thousand levels deep is no post
            value = stores.unwrapped(value)
    return Found(next((form for form in FORMATS if form.fits(value)), None), value)


def table_format(header: Iterable[str]) -> TableFormat | TableRefusal | None:
    """The form of a table, by the names of its columns; None when it is none of these."""
    names = list(header)
    return next((form for form in TABLES if form.fits(names)), None)


def pair_of(path: str) -> tuple[Pair, str] | None:
    """The pair to which a file belongs by its name, and the name of the file that it needs."""
    for pair in PAIRS:
        if (beside := pair.beside(path)) is not None:
            return pair, beside
    return None


def is_beside(path: str) -> bool:
    """Whether a file is named like one that other files need."""
    return any(pair.is_beside(path) for pair in PAIRS)


def page_problem(elements: Iterable[Any]) -> Refusal | str:
    """The reason why the `data` of a page holds no posts of X; "" if it does.

    It is a refusal where the site is known, else a sentence.
    Pages of other sites have `data`, ids and texts, too.
    """
    first: Any = None
    for element in elements:
        if not v2.problem(element):
            return ""
        first = first or element
    return foreign.named(first) or v2.problem(first)
