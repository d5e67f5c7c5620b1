"""Single posts of X's API v2, bare, or with their includes put inside by twarc2 or 4CAT."""

from __future__ import annotations

from typing import Any, Final

from tweetcrawler.archives.formats import times
from tweetcrawler.archives.formats.fields import Score, Thing
from tweetcrawler.archives.formats.kinds import Format, Refusal
from tweetcrawler.flatten import TWEET_FIELDS, Flattened, flatten

SIGNS: Final = (
    "author_id",
    "edit_history_tweet_ids",
    "edit_history_post_ids",
    "public_metrics",
    "conversation_id",
)
"""Keys of a post, apart from `id` and `text`, that only X's API v2 writes."""

_WORDS: Final = {*TWEET_FIELDS, "note_post", "referenced_posts", "username", "__twarc"}


def shows_a_sign(post: Thing) -> bool:
    """Whether an object with `id` and `text` shows that X wrote it."""
    author = post.get("author")
    return any(key in post for key in SIGNS) or (isinstance(author, dict) and "username" in author)


def problem(post: Any) -> str:
    """Why an object is no post of API v2, as a sentence; "" when it is one.

    Ids and texts are everywhere, so a post must show a sign of X. One that was trimmed to
    its id, text and time is taken if it has no other keys and its id fits the time: ids of
    other sites do not.
    """
    if not isinstance(post, dict) or "id" not in post or "text" not in post:
        return "it has no id and text"
    if shows_a_sign(post):
        return ""
    if "created_at" not in post or not post.keys() <= _WORDS:
        return "it shows no sign of X: no author_id, public_metrics or edit_history_tweet_ids"
    tweet_id = post["id"]
    number = int(tweet_id) if _is_id(tweet_id) else 0
    unsaid = times.instant(post["created_at"]) is None and times.instant_of_id(number) is None
    if unsaid or times.contradicts(post["created_at"], number):
        return "its id does not fit created_at"
    return ""


def _is_id(value: Any) -> bool:
    # Not isinstance: true and false are ints to Python.
    if type(value) is int:
        return 0 < value < 2**63
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19


def _fits(value: Thing) -> bool:
    return not problem(value)


def page_of(post: Thing) -> dict[str, Any]:
    """The page of one post: what a tool put inside it goes back to the includes.

    twarc2 puts `author`, `in_reply_to_user` and `attachments.media`; 4CAT puts
    `author_user`, and whole media instead of their keys; both put whole posts into
    `referenced_tweets`.
    """
    references = post.get("referenced_tweets") or post.get("referenced_posts")
    inside = [each for each in _list(references) if isinstance(each, dict) and _is_whole(each)]
    inside = [_with_media_of(post, each) for each in inside]
    users = [post.get("in_reply_to_user")]
    for each in (post, *inside):
        users += [each.get("author"), each.get("author_user")]
    media = [thing for each in (post, *inside) for thing in _media(each)]
    return {
        "data": _with_keys(post),
        "includes": {
            "users": [user for user in users if isinstance(user, dict) and "username" in user],
            "tweets": [_with_keys(each) for each in inside],
            "media": media,
        },
    }


def _is_whole(reference: Thing) -> bool:
    return "text" in reference and "error" not in reference


def _with_media_of(post: Thing, reference: Thing) -> Thing:
    """A retweeted post with the media of its retweet, if it came without: they are the same."""
    if reference.get("type") not in ("retweeted", "reposted") or "attachments" in reference:
        return reference
    return reference | {"attachments": post.get("attachments")}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _media(post: Thing) -> list[Any]:
    attachments = post.get("attachments")
    if not isinstance(attachments, dict):
        return []
    things = [*_list(attachments.get("media")), *_list(attachments.get("media_keys"))]
    return [thing for thing in things if isinstance(thing, dict)]


def _with_keys(post: Thing) -> Thing:
    """The post with the keys of its media, which 4CAT replaced by the media themselves."""
    attachments = post.get("attachments")
    keys = attachments.get("media_keys") if isinstance(attachments, dict) else None
    if not isinstance(attachments, dict) or not isinstance(keys, list):
        return post
    if not any(isinstance(key, dict) for key in keys):
        return post
    names = [key.get("media_key") if isinstance(key, dict) else key for key in keys]
    return post | {"attachments": attachments | {"media_keys": names}}


def _rows(value: Any, *, score: Score = None) -> Flattened:
    return times.mended(flatten(page_of(value), score=score))


FORMAT: Final = Format("a post of X's API v2", _fits, _rows)
FOURCAT: Final = Format(
    "4CAT", lambda value: "author_user" in value and "id" in value and "text" in value, _rows
)


def _is_error_of_4cat(value: Thing) -> bool:
    # 4CAT makes posts of X's errors, with the moment of the request as their time.
    return "text" in value and (
        value.get("author_id") == "UNKNOWN"
        # The types of X's errors are URLs. Their host moved from api.twitter.com to api.x.com,
        # so only the path is looked at.
        or ("resource_id" in value and "/problems/" in str(value.get("type")))
    )


FOURCAT_ERROR: Final = Refusal(
    "a post that X did not give to 4CAT",
    _is_error_of_4cat,
    "it says only why; `tweetcrawler hydrate` asks for its id again",
    is_error=True,
)
