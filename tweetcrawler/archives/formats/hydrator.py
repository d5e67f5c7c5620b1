"""Tables of DocNow's Hydrator, and of twarc 1's json2csv."""

from __future__ import annotations

from typing import Final

from tweetcrawler.archives.formats.fields import Read, Thing, Words
from tweetcrawler.archives.formats.tables import TableFormat, cell, split


def _media(thing: Thing) -> list[str] | None:
    """Nothing, or unknown: the tools write the pages of the pictures, not the pictures."""
    return [] if split("media", " ")(thing) == [] else None


def _retweeted(*names: str) -> Read:
    """twarc has the retweeted and the quoted post in the same columns."""
    inner = cell(*names)

    def read(thing: Thing) -> str | None:
        # Hydrator has no such column: there a post in these columns is a retweeted one.
        kind = thing.get("tweet_type", "retweet")
        return inner(thing) if kind == "retweet" else None

    return read


TABLE: Final = TableFormat(
    "Hydrator",
    frozenset({"id", "text", "tweet_url", "user_screen_name"}),
    Words(
        id=cell("id"),
        text=cell("text"),
        created_at=cell("created_at"),
        tweet_from=cell("user_screen_name"),
        hashtags=split("hashtags", " "),
        urls=split("urls", " "),
        media=_media,
        origin_device=cell("source"),
        favorite_count=cell("favorite_count"),
        retweet_count=cell("retweet_count"),
        in_reply_to_screen_name=cell("in_reply_to_screen_name"),
        in_reply_to_user_id=cell("in_reply_to_user_id"),
        in_reply_to_status_id=cell("in_reply_to_status_id"),
        # It is spelt like this.
        retweeted_status_id=_retweeted("reweet_id", "retweet_id", "retweet_or_quote_id"),
        retweeted_status_user_handle=_retweeted(
            "retweet_screen_name", "retweet_or_quote_screen_name"
        ),
        lang=cell("lang"),
    ),
)
