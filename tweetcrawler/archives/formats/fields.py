"""Rows from the words of a tool: one table names where each column is found.

A column is None when the source does not carry it, and a list column is `{}` when the source
would have listed and there is nothing. The difference decides what a row may replace: None
says nothing and takes nothing away, `{}` says that there are none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tweetcrawler.archives.formats import times
from tweetcrawler.flatten import (
    MISSHAPEN,
    Flattened,
    NotStorable,
    Refused,
    as_array,
    as_count,
    as_id,
    as_id_array,
    readable,
    shown,
    stored,
)

Thing = dict[str, Any]
Read = Callable[[Thing], Any]
Score = Callable[[str], float] | None

LISTS: Final = (
    "hashtags",
    "urls",
    "user_mentions_id",
    "media",
    "user_mentions_name",
    "retweeted_status_url",
)
"""The columns that hold array literals."""


def silent(_thing: Thing) -> None:
    """The reader of a column that a tool does not write."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """The places of the columns in a tool's object; the tool does not write the others.

    A reader gets the tool's object of one post. For a list it gives the elements, or None
    if the tool has not listed. `retweeted` gives the retweeted post, in the same words; the
    columns after it are for tools that write it flat. `escaped` says whether texts
    still have X's three escapes.
    """

    id: Read
    text: Read
    created_at: Read = silent
    tweet_from: Read = silent
    author_id: Read = silent
    author_name: Read = silent
    hashtags: Read = silent
    urls: Read = silent
    media: Read = silent
    mention_ids: Read = silent
    mention_names: Read = silent
    origin_device: Read = silent
    favorite_count: Read = silent
    retweet_count: Read = silent
    in_reply_to_screen_name: Read = silent
    in_reply_to_user_id: Read = silent
    in_reply_to_status_id: Read = silent
    retweeted: Read = silent
    retweeted_status_id: Read = silent
    retweeted_status_text: Read = silent
    retweeted_status_url: Read = silent
    retweeted_status_user_name: Read = silent
    retweeted_status_user_handle: Read = silent
    lang: Read = silent
    escaped: bool = True

    def row(self, thing: Thing, *, score: Score = None) -> dict[str, Any]:
        """The row of one post. **Errors**: `NotStorable`, with the reason."""
        tweet_id = identified(self.id(thing), "id")
        if tweet_id is None:
            raise NotStorable("it has no id")
        original = as_thing(self.retweeted(thing))
        # X cuts the text and entities of a retweet at 140 characters; the retweeted post has
        # all.
        whole = thing if original is None or not self._text(original) else original
        names, ids = self._mentions(thing, original if whole is original else None)
        urls = as_list(self.urls(whole))
        row: dict[str, Any] = {
            "id": tweet_id,
            "tweet_from": name(self.tweet_from(thing)),
            "created_at": times.created_at(self.created_at(thing), tweet_id),
            "hashtags": as_list(self.hashtags(whole)),
            "urls": urls,
            "user_mentions_id": ids,
            "media": as_list(self.media(whole)),
            "user_mentions_name": names,
            "origin_device": device(self.origin_device(thing)),
            "favorite_count": counted(self.favorite_count(thing), "the count of likes"),
            "text": self._text(thing),
            "in_reply_to_screen_name": name(self.in_reply_to_screen_name(thing)),
            "in_reply_to_user_id": identified(
                self.in_reply_to_user_id(thing), "the id of the user replied to"
            ),
            "in_reply_to_status_id": identified(
                self.in_reply_to_status_id(thing), "the id of the post replied to"
            ),
            "retweet_count": counted(self.retweet_count(thing), "the count of retweets"),
            "retweeted_status_text": None,
            "retweeted_status_url": None,
            "retweeted_status_id": None,
            "retweeted_status_user_name": None,
            "retweeted_status_user_handle": None,
            "sentiment": None,
        }
        row |= self._nested(original, urls) if original is not None else self._flat(thing)
        # The sentiment comes from a list of English words. For other languages its number would
        # mean nothing.
        if score is not None and row["text"] is not None and self.lang(thing) == "en":
            row["sentiment"] = round(score(row["text"]), 4)
        return row

    def rows(self, things: Iterable[Any], *, score: Score = None) -> Flattened:
        """The rows of some posts, and why the others have none; see `flatten`. Never raises."""
        return gathered(things, lambda thing: self.row(thing, score=score), self.id)

    def _text(self, thing: Thing) -> str | None:
        text = only_text(self.text(thing))
        return readable(text) if self.escaped else stored(text)

    def _mentions(self, thing: Thing, whole: Thing | None) -> tuple[str | None, str | None]:
        """The names and ids; of a retweet its author first, then the mentions of the whole."""
        names, ids = self.mention_names(whole or thing), self.mention_ids(whole or thing)
        if whole is not None and names is None and ids is None:
            names, ids = self.mention_names(thing), self.mention_ids(thing)
        elif whole is not None:
            handle, user_id = name(self.tweet_from(whole)), self.author_id(whole)
            if handle is not None or user_id is not None:
                names = None if names is None else [handle, *names]
                ids = None if ids is None else [user_id, *ids]
        return both(names, ids)

    def _nested(self, original: Thing, urls: str | None) -> dict[str, Any]:
        text = self._text(original)
        return {
            "retweeted_status_id": identified(self.id(original), "the id of the retweeted post"),
            "retweeted_status_text": text,
            "retweeted_status_url": urls if text else None,
            "retweeted_status_user_name": name(self.author_name(original)),
            "retweeted_status_user_handle": name(self.tweet_from(original)),
        }

    def _flat(self, thing: Thing) -> dict[str, Any]:
        text = only_text(self.retweeted_status_text(thing)) or None
        return {
            "retweeted_status_id": identified(
                self.retweeted_status_id(thing), "the id of the retweeted post"
            ),
            "retweeted_status_text": readable(text) if self.escaped else stored(text),
            "retweeted_status_url": as_list(self.retweeted_status_url(thing)),
            "retweeted_status_user_name": name(self.retweeted_status_user_name(thing)),
            "retweeted_status_user_handle": name(self.retweeted_status_user_handle(thing)),
        }


def gathered(
    things: Iterable[Any], row_of: Callable[[Thing], dict[str, Any]], id_of: Read
) -> Flattened:
    """The rows by ascending id, each id once, the later one standing; see `flatten`."""
    rows: dict[int, dict[str, Any]] = {}
    refused: list[Refused] = []
    for thing in things:
        try:
            row = row_of(_an_object(thing))
        except NotStorable as refusal:
            refused.append(Refused(_named(thing, id_of), str(refusal)))
        except MISSHAPEN as error:
            refused.append(Refused(_named(thing, id_of), f"it is misshapen: {error}"[:200]))
        else:
            rows[row["id"]] = row
    return Flattened([rows[tweet_id] for tweet_id in sorted(rows)], refused)


def _an_object(thing: Any) -> Thing:
    if not isinstance(thing, dict):
        raise NotStorable(f"it is {shown(thing)}, not an object")
    return thing


def _named(thing: Any, id_of: Read) -> str | None:
    value = id_of(thing) if isinstance(thing, dict) else None
    return None if value is None else str(value) if _digits(value) else shown(value)


def _digits(value: Any) -> bool:
    if type(value) is int:
        return 0 < value < 10**19
    return isinstance(value, str) and value.isdigit()


# --- readers -------------------------------------------------------------------------------------


def at(*paths: str) -> Read:
    """The value at the first of these dotted paths that has one."""
    steps = [path.split(".") for path in paths]

    def read(thing: Thing) -> Any:
        for path in steps:
            value: Any = thing
            for step in path:
                value = value.get(step) if isinstance(value, dict) else None
            if value is not None:
                return value
        return None

    return read


def each(path: str, *keys: str) -> Read:
    """The elements of the list at a dotted path, or what they have under the first key.

    A list that is null has nothing in it; a key that is not there says nothing.
    """
    *steps, last = path.split(".")
    inner = at(*keys) if keys else None

    def read(thing: Thing) -> list[Any] | None:
        holder: Any = thing
        for step in steps:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or last not in holder:
            return None
        found = holder[last]
        if not isinstance(found, list):
            return [] if found is None else None
        if inner is None:
            return found
        return [inner(element) if isinstance(element, dict) else None for element in found]

    return read


def first(*readers: Read) -> Read:
    """The value of the first of these readers that finds one."""

    def read(thing: Thing) -> Any:
        return next((value for reader in readers if (value := reader(thing)) is not None), None)

    return read


def in_utc(reader: Read) -> Read:
    """A time that a tool writes without its zone, which is UTC."""

    def read(thing: Thing) -> Any:
        value = reader(thing)
        if isinstance(value, str) and _ZONELESS(value.strip()):
            return value.strip() + "+00:00"
        return value

    return read


_ZONELESS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{5,8}(?:\.[0-9]+)?").fullmatch


# --- values --------------------------------------------------------------------------------------


def as_thing(value: Any) -> Thing | None:
    return value if isinstance(value, dict) and value else None


def only_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def name(value: Any) -> str | None:
    """A name, or None for a blank one."""
    return stored(value.strip()) or None if isinstance(value, str) else None


def as_list(elements: Sequence[Any] | None) -> str | None:
    """The array literal of the texts among the elements; None if there is no list."""
    if not isinstance(elements, list):
        return None
    return as_array([each for each in elements if isinstance(each, str) and each])


def both(names: Any, ids: Any) -> tuple[str | None, str | None]:
    """The literals of the two columns of mentions, which have the same length.

    A tool that lists names alone says nothing of the ids, unless there are no names.
    """
    if not isinstance(names, list):
        names = [] if ids == [] else None
    if not isinstance(ids, list) or (ids and all(value in (None, "") for value in ids)):
        ids = [] if names == [] else None
    texts = None if names is None else [_handle(value) for value in names]
    numbers = None if ids is None else [value if value != "" else None for value in ids]
    return (
        None if texts is None else as_array(texts),
        None if numbers is None else as_id_array(numbers),
    )


def _handle(value: Any) -> str | None:
    return value.removeprefix("@") or None if isinstance(value, str) else None


# What spreadsheets and pandas make of an id when they take it for a number.
_ROUNDED = re.compile(r"[0-9][.,]?[0-9]*[eE]\+?[0-9]+").fullmatch
_WHOLE_FLOAT = re.compile(r"([0-9]{1,15})\.0+").fullmatch


def identified(value: Any, what: str) -> int | None:
    """An id, exact; None for a blank. **Errors**: `NotStorable` for one that lost digits."""
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if _ROUNDED(value):
            raise NotStorable(f"{what} is {shown(value)}: a spreadsheet has rounded it")
        if found := _WHOLE_FLOAT(value):  # of 15 digits none is lost
            value = found[1]
    return as_id(value, what)


def counted(value: Any, what: str) -> int | None:
    """A count; None for a blank. **Errors**: `NotStorable` for one that is not whole."""
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
        if found := _WHOLE_FLOAT(value):
            value = found[1]
    return as_count(value, what)


_ANCHOR = re.compile(r"\s*<a\b[^>]*>(.*?)(?:</a>\s*|$)", re.DOTALL | re.IGNORECASE).fullmatch


def device(value: Any) -> str | None:
    """The program's name, also out of the anchor to its page in which v1.1 wrote it."""
    if not isinstance(value, str) or not value.strip():
        return None
    anchor = _ANCHOR(value)
    return readable(anchor[1] if anchor else value) or None
