"""Posts of twint, as JSON lines and as CSV."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Any, Final

from tweetcrawler.archives.formats import times
from tweetcrawler.archives.formats.fields import Read, Thing, Words, at
from tweetcrawler.archives.formats.kinds import of_words
from tweetcrawler.archives.formats.tables import TableFormat

# Versions of twint name the counts in two ways.
_COUNTS = ("likes_count", "retweets_count", "nlikes", "nretweets")


def _fits(value: Thing) -> bool:
    return isinstance(value.get("tweet"), str) and any(key in value for key in _COUNTS)


def _time(thing: Thing) -> Any:
    """`created_at` if it names its zone; else the three parts that older versions wrote.

    An abbreviated zone (`CET`) means several, so it is not read.
    """
    if times.instant(thing.get("created_at")) is not None:
        return thing["created_at"]
    return f"{thing.get('date')} {thing.get('time')} {thing.get('timezone')}"


def _listed(key: str) -> Read:
    """A list; in CSV it is written as Python writes lists."""

    def read(thing: Thing) -> list[Any] | None:
        found = thing.get(key)
        if isinstance(found, str) and found[:1] == "[":
            found = _as_python_wrote(found)
        if key in thing and found in (None, ""):
            return []
        return found if isinstance(found, list) else None

    return read


# Nearly all lists are plain names in single quotes: no parser need be started for those.
_NAMES = re.compile(r"\[(?:'[^'\\]*'(?:, '[^'\\]*')*+)?\]").fullmatch
# Python's parser takes stack for each bracket: a cell made of them could end the process.
_LIST_MAX = 100_000


@lru_cache(64)  # the ids and the names of one post are read out of one text
def _as_python_wrote(text: str) -> list[Any] | None:
    if _NAMES(text):
        return text[2:-2].split("', '") if len(text) > 2 else []
    try:
        found = ast.literal_eval(text) if len(text) < _LIST_MAX else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, list) else None


def _hashtags(thing: Thing) -> list[Any] | None:
    tags: list[Any] | None = _listed("hashtags")(thing)
    if tags is None:
        return None
    return [tag.removeprefix("#") for tag in tags if isinstance(tag, str)]


def _media(thing: Thing) -> list[Any] | None:
    photos: list[Any] | None = _listed("photos")(thing)
    thumbnail = thing.get("thumbnail")
    # twint names no file of a film, only its first frame.
    if not photos and isinstance(thumbnail, str) and thumbnail:
        return [thumbnail]
    return photos


def _mentioned(*keys: str) -> Read:
    """Older versions listed the names alone."""
    inner = at(*keys)

    def read(thing: Thing) -> list[Any] | None:
        found = _listed("mentions")(thing)
        if found is None:
            return None
        bare = "screen_name" in keys
        return [inner(one) if isinstance(one, dict) else one if bare else None for one in found]

    return read


def _replied_to(*keys: str) -> Read:
    """The first user of `reply_to` who is not the author: some versions begin with that."""
    inner, handle = at(*keys), at("screen_name", "username")

    def read(thing: Thing) -> Any:
        author = str(thing.get("username")).lower()
        for user in _listed("reply_to")(thing) or ():
            if isinstance(user, dict) and str(handle(user)).lower() != author:
                return inner(user)
        return None

    return read


# twint writes a retweet as the retweeted post, with that one's id and author. `user_rt` and
# `retweet_id` name the retweet, and are no part of that post.
WORDS: Final = Words(
    id=at("id_str", "id"),
    text=at("tweet"),
    created_at=_time,
    tweet_from=at("username"),
    author_id=at("user_id_str", "user_id"),
    author_name=at("name"),
    hashtags=_hashtags,
    urls=_listed("urls"),
    media=_media,
    mention_ids=_mentioned("id"),
    mention_names=_mentioned("screen_name", "username"),
    favorite_count=at("likes_count", "nlikes"),
    retweet_count=at("retweets_count", "nretweets"),
    in_reply_to_screen_name=_replied_to("screen_name", "username"),
    in_reply_to_user_id=_replied_to("id", "user_id"),
    lang=at("language"),
)

FORMAT: Final = of_words("twint", _fits, WORDS)
TABLE: Final = TableFormat("twint", frozenset({"id", "tweet", "likes_count", "username"}), WORDS)
