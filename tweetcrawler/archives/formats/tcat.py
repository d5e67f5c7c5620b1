"""Tables of DMI-TCAT: its export of tweets, with or without urls, media, mentions, hashtags."""

from __future__ import annotations

from typing import Final

from tweetcrawler.archives.formats.fields import Thing, Words, first, in_utc
from tweetcrawler.archives.formats.tables import TableFormat, cell, split

_SEPARATOR = ";"


def _urls(thing: Thing) -> list[str] | None:
    """The links of the text. With media in the table they stand among them, with an id."""
    found: list[str] | None = split("urls_expanded", _SEPARATOR)(thing)
    if not found or "media_id" not in thing:
        return found
    media = [part.strip() for part in (thing["media_id"] or "").split(_SEPARATOR)]
    return [url for number, url in enumerate(found) if not "".join(media[number : number + 1])]


TABLE: Final = TableFormat(
    "DMI-TCAT",
    frozenset({"id", "from_user_name", "text", "from_user_id"}),
    Words(
        id=cell("id"),
        text=cell("text"),
        created_at=first(cell("time"), in_utc(cell("created_at"))),
        tweet_from=cell("from_user_name"),
        author_id=cell("from_user_id"),
        author_name=cell("from_user_realname"),
        hashtags=split("hashtags", _SEPARATOR),
        urls=_urls,
        mention_names=split("mentions", _SEPARATOR),
        origin_device=cell("source"),
        favorite_count=cell("favorite_count"),
        retweet_count=cell("retweet_count"),
        in_reply_to_screen_name=cell("to_user_name"),
        in_reply_to_user_id=cell("to_user_id"),
        in_reply_to_status_id=cell("in_reply_to_status_id"),
        retweeted_status_id=cell("retweet_id"),
        lang=cell("lang"),
    ),
)
