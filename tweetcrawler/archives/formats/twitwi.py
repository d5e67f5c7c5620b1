"""Posts of twitwi, the form of minet and gazouilloire, as JSON and as CSV."""

from __future__ import annotations

from typing import Any, Final

from tweetcrawler.archives.formats.fields import Read, Thing, Words, at, first
from tweetcrawler.archives.formats.kinds import of_words
from tweetcrawler.archives.formats.tables import TableFormat


def _fits(value: Thing) -> bool:
    return "user_screen_name" in value and "text" in value and "timestamp_utc" in value


def _listed(key: str) -> Read:
    """A list, which in CSV is one text with bars between."""

    def read(thing: Thing) -> list[Any] | None:
        found = thing.get(key)
        if isinstance(found, str):
            return found.split("|") if found else []
        if found is None:
            return [] if key in thing else None
        return found if isinstance(found, list) else None

    return read


WORDS: Final = Words(
    id=at("id"),
    text=at("text"),
    created_at=at("timestamp_utc"),  # local_time is that of the machine
    tweet_from=at("user_screen_name"),
    author_id=at("user_id"),
    hashtags=_listed("hashtags"),
    urls=_listed("links"),
    media=_listed("media_urls"),
    mention_ids=_listed("mentioned_ids"),
    mention_names=_listed("mentioned_names"),
    origin_device=first(at("source_name"), at("source")),
    favorite_count=at("like_count"),
    retweet_count=at("retweet_count"),
    in_reply_to_screen_name=at("to_username"),
    in_reply_to_user_id=at("to_userid"),
    in_reply_to_status_id=at("to_tweetid"),
    retweeted_status_id=at("retweeted_id"),
    retweeted_status_user_handle=at("retweeted_user"),
    lang=at("lang"),
    # twitwi undoes X's escapes itself.
    escaped=False,
)

FORMAT: Final = of_words("twitwi (minet, gazouilloire)", _fits, WORDS)
TABLE: Final = TableFormat(
    "twitwi (minet, gazouilloire)",
    frozenset({"id", "text", "timestamp_utc", "user_screen_name"}),
    WORDS,
)
