"""Posts of the scrapers at Apify and of twitterapi.io, which write the same words."""

from __future__ import annotations

from typing import Any, Final

from tweetcrawler.archives.formats.fields import Score, Thing, Words, at, each, first
from tweetcrawler.archives.formats.kinds import Format
from tweetcrawler.archives.formats.tables import TableFormat, cell
from tweetcrawler.flatten import Flattened


def _is_post(value: Any) -> bool:
    author = value.get("author") if isinstance(value, dict) else None
    return (
        isinstance(author, dict)
        and "userName" in author
        and ("likeCount" in value or "retweetCount" in value or "createdAt" in value)
    )


def _is_page(value: Thing) -> bool:
    posts = value.get("tweets")
    return isinstance(posts, list) and "has_next_page" in value


def _fits(value: Thing) -> bool:
    return _is_page(value) or _is_post(value)


WORDS: Final = Words(
    id=at("id"),
    text=at("fullText", "text"),
    created_at=at("createdAt"),
    tweet_from=at("author.userName"),
    author_id=at("author.id"),
    author_name=at("author.name"),
    hashtags=each("entities.hashtags", "text"),
    urls=each("entities.urls", "expanded_url", "url"),
    media=first(
        each("extendedEntities.media", "media_url_https"),
        each("entities.media", "media_url_https"),
        each("media"),
    ),
    # The entities are X's own, in the words of v1.1; only what stands around them is renamed.
    mention_ids=each("entities.user_mentions", "id_str"),
    mention_names=each("entities.user_mentions", "screen_name"),
    origin_device=at("source"),
    favorite_count=at("likeCount"),
    retweet_count=at("retweetCount"),
    in_reply_to_screen_name=at("inReplyToUsername"),
    in_reply_to_user_id=at("inReplyToUserId"),
    in_reply_to_status_id=at("inReplyToId"),
    retweeted=at("retweeted_tweet", "retweet", "retweetedTweet"),
    lang=at("lang"),
)


def _rows(value: Any, *, score: Score = None) -> Flattened:
    return WORDS.rows(value["tweets"] if _is_page(value) else [value], score=score)


FORMAT: Final = Format("Apify or twitterapi.io", _fits, _rows)

# Apify's tables have a column for each element of a list, so the lists are not read.
TABLE: Final = TableFormat(
    "Apify",
    frozenset({"id", "text", "author/userName", "createdAt"}),
    Words(
        id=cell("id"),
        text=cell("fullText", "text"),
        created_at=cell("createdAt"),
        tweet_from=cell("author/userName"),
        origin_device=cell("source"),
        favorite_count=cell("likeCount"),
        retweet_count=cell("retweetCount"),
        in_reply_to_screen_name=cell("inReplyToUsername"),
        in_reply_to_user_id=cell("inReplyToUserId"),
        in_reply_to_status_id=cell("inReplyToId"),
        lang=cell("lang"),
    ),
)
