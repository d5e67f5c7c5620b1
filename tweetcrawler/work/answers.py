"""Readings of X's answers: users found and absent, posts gone, counts, trends, totals.

Pure functions of pages. X does not keep to its own description: every field may be absent,
null or of another type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tweetcrawler import queries
from tweetcrawler.pages import Gone, Metrics
from tweetcrawler.targets import Absent, Found, Trend

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page

UNMENTIONED = ("missing", "X does not mention it")


def resolved(page: Page, names: Sequence[str]) -> tuple[list[Found], list[Absent]]:
    """The users of a lookup by name, and the names without one.

    A name that the answer does not mention counts as missing.
    """
    wanted = {name.lower() for name in names}
    found = []
    for user in page.data:
        handle = str(user.get("username") or "").lower()
        if handle in wanted and str(user.get("id")).isdecimal():
            wanted.discard(handle)
            found.append(Found(handle, str(user["id"]), str(user["username"]), post_count(user)))
    reasons = {str(e.get("value") or e.get("resource_id") or "").lower(): e for e in page.errors}
    absent = []
    for handle in sorted(wanted):
        state, reason = _state_of(reasons[handle]) if handle in reasons else UNMENTIONED
        absent.append(Absent(handle, state, reason))
    return found, absent


def news_of_user(page: Page, user_id: str | None) -> tuple[str | None, int | None]:
    """The name and number of posts of a user, where a page of posts tells them."""
    includes = page.answer.get("includes")
    users = includes.get("users") if isinstance(includes, dict) else None
    for user in users if isinstance(users, list) else []:
        if isinstance(user, dict) and user.get("id") == user_id:
            name = user.get("username")
            return (name if isinstance(name, str) and name else None), post_count(user)
    return None, None


def post_count(user: Mapping[str, Any]) -> int | None:
    """The number of posts of a user; X has two names for it."""
    metrics = user.get("public_metrics")
    if not isinstance(metrics, dict):
        return None
    return _count(metrics.get("tweet_count", metrics.get("post_count")))


def trends(page: Page, lang: str | None) -> list[Trend]:
    """The trends of a place; X tells the volume of some of them, under one of two names."""
    found = []
    for rank, trend in enumerate(page.data, start=1):
        name = trend.get("trend_name")
        volume = _count(trend.get("tweet_count", trend.get("post_count")))
        if isinstance(name, str) and name.strip():
            found.append(Trend(rank, name, volume, queries.for_trend(name, lang)))
    return found


def total(page: Page) -> int:
    """The number of posts on one page of counts; X has two names for it."""
    meta = page.answer.get("meta")
    if not isinstance(meta, dict):
        return 0
    return _count(meta.get("total_tweet_count", meta.get("total_post_count"))) or 0


def gone(page: Page, ids: Sequence[int], refused: Mapping[str | None, str]) -> list[Gone]:
    """The reasons why a lookup did not give these posts.

    A post that the answer does not mention counts as missing.
    """
    # Other errors of the answer are of posts that these refer to.
    errors = {
        str(e.get("value") or e.get("resource_id")): e
        for e in page.errors
        if e.get("parameter") == "ids"
    }
    found = []
    for tweet_id in ids:
        text = str(tweet_id)
        if text in refused:
            found.append(Gone(tweet_id, "refused", refused[text]))
        else:
            state, reason = _state_of(errors[text]) if text in errors else UNMENTIONED
            found.append(Gone(tweet_id, state, reason))
    return found


def metrics(page: Page, ids: set[int]) -> list[Metrics]:
    """The counts of the posts of a page, each post once."""
    found = {}
    for tweet in page.data:
        text = str(tweet.get("id"))
        if is_id(text) and int(text) in ids:
            found[int(text)] = _metrics_of(int(text), tweet.get("public_metrics"))
    return list(found.values())


def is_id(text: str) -> bool:
    """Whether a text is an id that PostgreSQL's int8 holds."""
    return text.isdecimal() and len(text) < 20 and 0 < int(text) < 2**63 - 1


def _metrics_of(tweet_id: int, counts: object) -> Metrics:
    told = counts if isinstance(counts, dict) else {}
    return Metrics(
        tweet_id,
        like_count=_count(told.get("like_count")),
        retweet_count=_count(told.get("retweet_count", told.get("repost_count"))),
        reply_count=_count(told.get("reply_count")),
        quote_count=_count(told.get("quote_count")),
        bookmark_count=_count(told.get("bookmark_count")),
        impression_count=_count(told.get("impression_count")),
    )


def _count(value: object) -> int | None:
    """A count that PostgreSQL's int8 holds."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return None


def _state_of(error: Mapping[str, Any]) -> tuple[str, str]:
    # Here, since the parent reads this module, too, and needs none of tweepy.
    from tweetcrawler.xapi import state_of

    return state_of(error)
