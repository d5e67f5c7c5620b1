"""Posts of snscrape, and of twscrape, which writes the same words."""

from __future__ import annotations

from typing import Any, Final

from tweetcrawler.archives.formats.fields import Thing, Words, at, each, first
from tweetcrawler.archives.formats.kinds import Refusal, of_words


def _fits(value: Thing) -> bool:
    kind = value.get("_type")
    if isinstance(kind, str):  # it tells Mastodon's and Telegram's from these
        return kind.endswith("twitter.Tweet")
    if "likeCount" not in value or "retweetCount" not in value:
        return False
    return "rawContent" in value or ("content" in value and "conversationId" in value)


def _media(thing: Thing) -> list[Any] | None:
    """Pictures, and the first frames of films.

    snscrape has one list, in the order of the post; twscrape has one for each kind.
    """
    found = thing.get("media")
    if isinstance(found, dict):
        found = [
            item
            for kind in ("photos", "videos", "animated")
            if isinstance(items := found.get(kind), list)
            for item in items
        ]
    if not isinstance(found, list):
        return [] if "media" in thing and found is None else None
    picture = at("fullUrl", "thumbnailUrl", "url", "previewUrl")
    return [picture(item) for item in found if isinstance(item, dict)]


WORDS: Final = Words(
    id=at("id_str", "id"),
    text=at("rawContent", "content"),
    created_at=at("date"),
    tweet_from=at("user.username"),
    author_id=at("user.id_str", "user.id"),
    author_name=at("user.displayname"),
    hashtags=each("hashtags"),
    urls=first(each("links", "url"), each("outlinks")),
    media=_media,
    mention_ids=each("mentionedUsers", "id_str", "id"),
    mention_names=each("mentionedUsers", "username"),
    origin_device=at("sourceLabel", "source"),
    favorite_count=at("likeCount"),
    retweet_count=at("retweetCount"),
    in_reply_to_screen_name=at("inReplyToUser.username", "inReplyToScreenName"),
    in_reply_to_user_id=at("inReplyToUser.id_str", "inReplyToUser.id"),
    in_reply_to_status_id=at("inReplyToTweetIdStr", "inReplyToTweetId"),
    retweeted=at("retweetedTweet"),
    lang=at("lang"),
    # Both tools undo X's escapes themselves.
    escaped=False,
)

FORMAT: Final = of_words("snscrape or twscrape", _fits, WORDS)

NO_POST: Final = Refusal(
    "users, missing posts, or other sites of snscrape",
    lambda value: str(value.get("_type")).startswith("snscrape."),
    "it holds no posts of X",
)
