"""Folders of pages and tidy tables of the R package academictwitteR.

`data_<id>.json` holds the posts of a page, `users_<id>.json` its includes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from tweetcrawler.archives.formats import times, v2
from tweetcrawler.archives.formats.fields import Read, Score, Words
from tweetcrawler.archives.formats.kinds import Format, Pair, Refusal
from tweetcrawler.archives.formats.tables import TableFormat, cell
from tweetcrawler.flatten import Flattened, flatten

_USERS = re.compile(r"users_.*\.json", re.DOTALL).fullmatch
_DATA = re.compile(r"((?:.*/)?)data_([^/]*\.json)", re.DOTALL).fullmatch


def includes_beside(path: str) -> str | None:
    """Where the includes are, from the name of a file of posts; None for another file."""
    found = _DATA(path)
    return None if found is None else f"{found[1]}users_{found[2]}"


def includes_of(value: Any) -> dict[str, Any] | None:
    """The includes, from the value in a users file; None if it has none."""
    found = {
        key: value[key]
        for key in ("users", "tweets", "media")
        if isinstance(value, dict) and isinstance(value.get(key), list)
    }
    return found or None


def format_of(includes: dict[str, Any] | None) -> Format:
    """The format of the posts of a page with these includes.

    Its `rows` takes the whole list that the file holds, since includes are looked through
    once for each call; it takes a single post, too.
    """

    def rows(value: Any, *, score: Score = None) -> Flattened:
        page = {"data": value, "includes": includes or {}}
        return times.mended(flatten(page, score=score))

    return Format("academictwitteR", lambda value: not v2.problem(value), rows)


PAIR: Final = Pair(
    "academictwitteR",
    includes_beside,
    lambda path: _USERS(path.rpartition("/")[2]) is not None,
    includes_of,
    format_of,
)

_INCLUDED: Final = {"users", "tweets", "places", "media", "polls", "errors", "topics"}

INCLUDES: Final = Refusal(
    "a users file of academictwitteR",
    lambda value: isinstance(value.get("users"), list) and value.keys() <= _INCLUDED,
    "it goes with the data file of the same number: import the folder",
)


_KIND: Final = cell("sourcetweet_type", "ref_type")


def _retweeted(name: str) -> Read:
    # A quoted post stands in the same columns.
    return lambda thing: thing.get(name) if _KIND(thing) == "retweeted" else None


TABLE: Final = TableFormat(
    "academictwitteR",
    frozenset({"tweet_id", "user_username", "text", "conversation_id"}),
    Words(
        id=cell("tweet_id"),
        text=cell("text"),
        created_at=cell("created_at"),
        tweet_from=cell("user_username"),
        author_id=cell("author_id"),
        author_name=cell("user_name"),
        origin_device=cell("source"),
        favorite_count=cell("like_count"),
        retweet_count=cell("retweet_count"),
        in_reply_to_user_id=cell("in_reply_to_user_id"),
        retweeted_status_id=_retweeted("sourcetweet_id"),
        retweeted_status_text=_retweeted("sourcetweet_text"),
        lang=cell("lang"),
    ),
    blanks=("", "NA"),  # R's
)
