"""Tweets of an account download: `tweets.js` and its parts, with `account.js` for the author.

The downloads of 2012 to 2018 (`data/js/tweets/2012_12.js`) hold whole statuses: they need
only their first line taken away, see `text.assignment`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from tweetcrawler.archives.formats import v1
from tweetcrawler.archives.formats.fields import Score, Thing, Words, at
from tweetcrawler.archives.formats.kinds import Format, Pair, Refusal
from tweetcrawler.archives.formats.tables import TableFormat, cell, split
from tweetcrawler.flatten import Flattened

_TWEETS = re.compile(r"((?:.*/)?)tweets?(?:-part[0-9]+)?\.js", re.DOTALL).fullmatch


def _fits(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    inner = value.get("tweet", value)
    # Newer downloads wrap each tweet in an object. None of them repeats the author in it.
    return isinstance(inner, dict) and "id_str" in inner and "user" not in inner


def account_beside(path: str) -> str | None:
    """Where the file with the author is, from the name of a file of tweets; else None."""
    found = _TWEETS(path)
    return None if found is None else found[1] + "account.js"


def author_of(value: Any) -> Thing | None:
    """The author as v1.1 writes a user, from the value in account.js; None if it has none."""
    # account.js holds a list with one account in it.
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict) or not isinstance(at("account.username")(value), str):
        return None
    return {
        "screen_name": at("account.username")(value),
        "id_str": at("account.accountId")(value),
        "name": at("account.accountDisplayName")(value),
    }


def format_of(author: Thing | None) -> Format:
    """The format of the tweets of this author. Without one they have no `tweet_from`.

    A retweet in a download is cut at 140 characters and does not say what it repeats.
    """

    def rows(value: Any, *, score: Score = None) -> Flattened:
        if isinstance(value, list):
            each = [rows(tweet, score=score) for tweet in value]
            return Flattened(
                [row for found in each for row in found.rows],
                [refusal for found in each for refusal in found.refused],
            )
        status = value.get("tweet", value) if isinstance(value, dict) else value
        if isinstance(status, dict) and author is not None:
            status = status | {"user": author}
        return v1.rows_of(status, score=score)

    return Format("a download of an account", _fits, rows)


PAIR: Final = Pair(
    "a download of an account",
    account_beside,
    lambda path: path.rpartition("/")[2] == "account.js",
    author_of,
    format_of,
)

NO_AUTHOR: Final = Refusal(
    "a download of an account",
    lambda value: isinstance(value.get("tweet"), dict) and _fits(value),
    "it does not name its author: import the folder or the zip, with account.js in it",
)

# `…/status/1/photo/1` is the page of a picture of the tweet itself.
_OWN_MEDIA = re.compile(
    r"https?://(?:twitter|x)\.com/\w+/status/[0-9]+/(?:photo|video)/[0-9]+"
).match


def _urls(thing: Thing) -> list[str] | None:
    found: list[str] | None = split("expanded_urls", ",")(thing)
    return found and list(dict.fromkeys(url for url in found if not _OWN_MEDIA(url)))


TABLE: Final = TableFormat(
    "a download of an account until 2018 (tweets.csv)",
    frozenset({"tweet_id", "timestamp", "text", "expanded_urls", "retweeted_status_id"}),
    Words(
        id=cell("tweet_id"),
        text=cell("text"),
        created_at=cell("timestamp"),
        urls=_urls,
        origin_device=cell("source"),
        in_reply_to_user_id=cell("in_reply_to_user_id"),
        in_reply_to_status_id=cell("in_reply_to_status_id"),
        retweeted_status_id=cell("retweeted_status_id"),
    ),
)
"""It does not name the author; the monthly files of the same download do."""
