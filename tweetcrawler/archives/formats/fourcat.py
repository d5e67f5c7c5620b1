"""Tables of 4CAT, of posts from the API and from Zeeschuimer."""

from __future__ import annotations

from typing import Any, Final

from tweetcrawler.archives.formats.fields import Read, Score, Thing, Words, in_utc
from tweetcrawler.archives.formats.tables import TableFormat, cell, split
from tweetcrawler.flatten import NotStorable


def _if(column: str, name: str) -> Read:
    return lambda thing: thing.get(name) if thing.get(column) == "yes" else None


def _media(thing: Thing) -> list[str] | None:
    """The pictures. Of a film 4CAT has the film alone, so nothing is said of its picture."""
    images = split("images", ",")(thing)
    return None if images == [] and thing.get("videos") else images


class _Words(Words):
    def row(self, thing: Thing, *, score: Score = None) -> dict[str, Any]:
        if thing.get("author") == "UNKNOWN" and thing.get("author_id") == "UNKNOWN":
            raise NotStorable("X did not give this post to 4CAT")
        return super().row(thing, score=score)


# 4CAT writes lists in no order, since it makes them of sets.
TABLE: Final = TableFormat(
    "4CAT",
    frozenset({"id", "thread_id", "body", "author", "author_fullname"}),
    _Words(
        id=cell("id"),
        text=cell("body"),
        created_at=in_utc(cell("timestamp")),  # unix_timestamp depends on the server's zone
        tweet_from=cell("author"),
        author_id=cell("author_id"),
        author_name=cell("author_fullname"),
        hashtags=split("hashtags", ","),
        urls=split("urls", ","),
        media=_media,
        mention_names=split("mentions", ","),
        origin_device=cell("source"),
        favorite_count=cell("like_count"),
        retweet_count=cell("retweet_count"),
        in_reply_to_screen_name=_if("is_reply", "replied_user"),
        retweeted_status_user_handle=_if("is_retweet", "retweeted_user"),
        lang=cell("language_guess"),
    ),
)
