"""Fields that a caller may ask for; cuts whole objects to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Only the author may read these, with a user token and for 30 days. Anybody else gets a page with
# an error for each post.
PRIVATE_METRICS = ("non_public_metrics", "organic_metrics", "promoted_metrics")
TWEET_FIELDS = _words(
    "article attachments author_id card_uri community_id context_annotations conversation_id "
    "created_at display_text_range edit_controls edit_history_tweet_ids entities geo id "
    "in_reply_to_user_id lang matched_media_notes media_metadata non_public_metrics "
    "note_request_suggestions note_tweet organic_metrics paid_partnership possibly_sensitive "
    "promoted_metrics public_metrics referenced_tweets reply_settings scopes source "
    "suggested_source_links suggested_source_links_with_counts text withheld"
)
USER_FIELDS = _words(
    "affiliation confirmed_email connection_status created_at description entities id "
    "is_identity_verified location most_recent_tweet_id name parody pinned_tweet_id "
    "profile_banner_url profile_image_url protected public_metrics receives_your_dm subscription "
    "subscription_type url username verified verified_followers_count verified_type withheld"
)
MEDIA_FIELDS = _words(
    "alt_text duration_ms height media_key non_public_metrics organic_metrics preview_image_url "
    "promoted_metrics public_metrics type url variants width"
)
POLL_FIELDS = ("duration_minutes", "end_datetime", "id", "options", "voting_status")
PLACE_FIELDS = (
    "contained_within",
    "country",
    "country_code",
    "full_name",
    "geo",
    "id",
    "name",
    "place_type",
)
TWEET_EXPANSIONS = _words(
    "article.cover_media article.media_entities attachments.media_keys "
    "attachments.media_source_tweet attachments.poll_ids author_id edit_history_tweet_ids "
    "entities.mentions.username entities.note.mentions.username geo.place_id in_reply_to_user_id "
    "referenced_tweets.id referenced_tweets.id.attachments.media_keys "
    "referenced_tweets.id.author_id"
)
USER_EXPANSIONS = ("affiliation.user_id", "most_recent_tweet_id", "pinned_tweet_id")
_USER_FIELDS_OF_POSTS = ("pinned_post_id", "most_recent_post_id")
# X takes a few values more than it names in its refusals and documents.
_ALSO_ACCEPTED = {
    "user.fields": _USER_FIELDS_OF_POSTS,
    "tweet.fields": ("username", "rest_id"),
    "post.fields": ("username", "rest_id"),
}

# Since August 2026 X speaks of posts in answers to `post.fields`, and of tweets in all
# others; one answer never mixes them.
_TO_POST = {
    "edit_history_tweet_ids": "edit_history_post_ids",
    "referenced_tweets": "referenced_posts",
    "note_tweet": "note_post",
    "pinned_tweet_id": "pinned_post_id",
    "most_recent_tweet_id": "most_recent_post_id",
}
_FROM_POST = {post: tweet for tweet, post in _TO_POST.items()}
_EXPANSION_OF_POST = {
    "referenced_posts": "referenced_tweets.id",
    "referenced_posts.id": "referenced_tweets.id",
    "referenced_posts.author_id": "referenced_tweets.id.author_id",
    "referenced_posts.id.author_id": "referenced_tweets.id.author_id",
    "referenced_posts.attachments.media_keys": "referenced_tweets.id.attachments.media_keys",
    "edit_history_post_ids": "edit_history_tweet_ids",
    "pinned_post_id": "pinned_tweet_id",
    "most_recent_post_id": "most_recent_tweet_id",
}

TWEET_LISTS: dict[str, tuple[str, ...]] = {
    "tweet.fields": TWEET_FIELDS,
    "post.fields": tuple(_TO_POST.get(name, name) for name in TWEET_FIELDS),
    "expansions": TWEET_EXPANSIONS,
    "media.fields": MEDIA_FIELDS,
    "poll.fields": POLL_FIELDS,
    "user.fields": USER_FIELDS,
    "place.fields": PLACE_FIELDS,
}
USER_LISTS: dict[str, tuple[str, ...]] = {
    "user.fields": USER_FIELDS,
    "expansions": USER_EXPANSIONS,
    "tweet.fields": TWEET_FIELDS,
    "post.fields": TWEET_LISTS["post.fields"],
}


@dataclass(slots=True, eq=False)
class Asked:
    """The fields and expansions of one request.

    Equal requests share one object and what it remembers.
    """

    tweet: frozenset[str]
    user: frozenset[str]
    media: frozenset[str]
    poll: frozenset[str]
    place: frozenset[str]
    expansions: frozenset[str]
    posts: bool = False
    private: tuple[str, ...] = ()
    remembered: dict[str | int, orjson.Fragment] = field(default_factory=dict)
    version: int = 0

    def cut_tweet(self, tweet: dict[str, Any]) -> dict[str, Any]:
        wanted = self.tweet
        cut = {name: value for name, value in tweet.items() if name in wanted}
        return _as_post(cut) if self.posts else cut

    def cut_user(self, user: dict[str, Any]) -> dict[str, Any]:
        wanted = self.user
        cut = {name: value for name, value in user.items() if name in wanted}
        return _as_post(cut) if self.posts else cut

    def remember(self, key: str | int, thing: dict[str, Any], version: int) -> orjson.Fragment:
        """The thing as JSON, made once for all answers to requests of this kind."""
        if self.version != version or len(self.remembered) > 8_000:
            self.remembered.clear()
            self.version = version
        made = self.remembered[key] = orjson.Fragment(orjson.dumps(thing))
        return made

    def recall(self, key: str | int, version: int) -> orjson.Fragment | None:
        return self.remembered.get(key) if self.version == version else None


def asked(parameters: Mapping[str, str]) -> Asked:
    """The fields asked for by these (already checked) parameters."""
    get = parameters.get
    return _asked(
        get("tweet.fields"),
        get("post.fields"),
        get("user.fields"),
        get("media.fields"),
        get("poll.fields"),
        get("place.fields"),
        get("expansions"),
    )


@lru_cache(maxsize=16)
def _asked(
    tweet: str | None,
    post: str | None,
    user: str | None,
    media: str | None,
    poll: str | None,
    place: str | None,
    expansions: str | None,
) -> Asked:
    # Both vocabularies in one request are documented nowhere; the older one, which tweepy sends,
    # wins here.
    fields = _listed(post if tweet is None else tweet)
    return Asked(
        # X adds its default fields to those that were asked for.
        tweet=(fields | {"id", "text", "edit_history_tweet_ids"}) - frozenset(PRIVATE_METRICS),
        user=_listed(user) | {"id", "name", "username"},
        media=_listed(media) | {"media_key", "type"},
        poll=_listed(poll) | {"id", "options"},
        place=_listed(place) | {"id", "full_name"},
        expansions=frozenset(
            _EXPANSION_OF_POST.get(name, name) for name in (expansions or "").split(",")
        ),
        posts=post is not None and tweet is None,
        private=tuple(name for name in PRIVATE_METRICS if name in fields),
    )


def everything() -> Asked:
    """All documented fields that anybody may read, and all expansions."""
    return asked(
        {
            name: ",".join(value for value in values if value not in PRIVATE_METRICS)
            for name, values in TWEET_LISTS.items()
            if name != "post.fields"
        }
    )


def accepted(parameter: str, lists: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Every value that the server takes for this list parameter.

    A few more than it names when it refuses one.
    """
    names = lists[parameter]
    more = _EXPANSION_OF_POST if parameter == "expansions" else _ALSO_ACCEPTED.get(parameter, ())
    return frozenset((*names, *more))


def _listed(text: str | None) -> frozenset[str]:
    return (
        frozenset(_FROM_POST.get(name, name) for name in text.split(",")) if text else frozenset()
    )


def _as_post(thing: dict[str, Any]) -> dict[str, Any]:
    renamed = {_TO_POST.get(name, name): value for name, value in thing.items()}
    metrics = renamed.get("public_metrics")
    if metrics:
        renamed["public_metrics"] = {
            {"retweet_count": "repost_count", "tweet_count": "post_count"}.get(name, name): count
            for name, count in metrics.items()
        }
    return renamed
