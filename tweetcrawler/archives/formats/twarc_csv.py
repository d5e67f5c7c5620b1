"""Tables of twarc-csv, the plugin `twarc2 csv`."""

from __future__ import annotations

from typing import Any, Final

import orjson

from tweetcrawler.archives.formats.fields import Read, Thing, Words, at, first
from tweetcrawler.archives.formats.tables import TableFormat, cell

_RETWEETED = cell("referenced_tweets.retweeted.id")


def _is_merged(thing: Thing) -> bool:
    """Whether text, lists and counts are those of the retweeted post.

    twarc-csv puts them there unless told not to, and keeps only the author of the retweet.
    """
    return _RETWEETED(thing) is not None and not str(thing.get("text")).startswith("RT @")


def _text(thing: Thing) -> Any:
    text = thing.get("text")
    # It writes line ends as two characters.
    return text.replace("\\n", "\n") if isinstance(text, str) else None


def _of_retweet(reader: Read) -> Read:
    return lambda thing: None if _is_merged(thing) else reader(thing)


def _listed(column: str, *keys: str) -> Read:
    """A list in JSON, of texts in newer versions and of X's objects in older ones."""
    inner = at(*keys)

    def read(thing: Thing) -> list[Any] | None:
        if column not in thing:
            return None
        try:
            found = orjson.loads(thing[column] or "[]")
        except orjson.JSONDecodeError:
            return None
        if not isinstance(found, list):
            return None
        return [inner(one) if isinstance(one, dict) else one for one in found]

    return read


def _hashtags(thing: Thing) -> list[Any] | None:
    tags: list[Any] | None = _listed("entities.hashtags", "tag")(thing)
    if tags is None:
        return None
    return [tag.removeprefix("#") for tag in tags if isinstance(tag, str)]


def _urls(thing: Thing) -> list[Any] | None:
    """The links; of the post's own pictures newer versions have the address as it is shown."""
    found = _listed("entities.urls", "expanded_url", "url")(thing)
    if found is None:
        return None
    return [
        url
        for url in found
        if isinstance(url, str) and not url.startswith(("pic.twitter.com/", "pic.x.com/"))
    ]


def _mentioned(key: str, author: str) -> Read:
    """One key of all mentions; of a merged retweet its author comes first."""
    listed = _listed("entities.mentions", key)

    def read(thing: Thing) -> list[Any] | None:
        found: list[Any] | None = listed(thing)
        if found is not None and key == "id":
            found = [one if str(one).isdigit() else None for one in found]
        if found is None or not _is_merged(thing) or (found and not any(found)):
            return found
        return [thing.get(author), *found]

    return read


TABLE: Final = TableFormat(
    "twarc-csv",
    frozenset({"id", "text", "author.username", "public_metrics.like_count"}),
    Words(
        id=cell("id"),
        text=_of_retweet(_text),
        created_at=cell("created_at"),
        tweet_from=cell("author.username"),
        author_id=first(cell("author_id"), cell("author.id")),
        author_name=cell("author.name"),
        hashtags=_hashtags,
        urls=_urls,
        media=_listed("attachments.media", "url", "preview_image_url"),
        mention_ids=_mentioned("id", "retweeted_user_id"),
        mention_names=_mentioned("username", "retweeted_username"),
        origin_device=cell("source"),
        favorite_count=_of_retweet(cell("public_metrics.like_count")),
        retweet_count=cell("public_metrics.retweet_count"),
        in_reply_to_screen_name=cell("in_reply_to_username"),
        in_reply_to_user_id=cell("in_reply_to_user_id"),
        in_reply_to_status_id=cell("referenced_tweets.replied_to.id"),
        retweeted_status_id=_RETWEETED,
        retweeted_status_text=lambda thing: _text(thing) if _is_merged(thing) else None,
        retweeted_status_url=lambda thing: _urls(thing) if _is_merged(thing) else None,
        retweeted_status_user_handle=cell("retweeted_username"),
        lang=cell("lang"),
    ),
)
