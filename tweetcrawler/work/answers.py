"""Readings of X's answers: users found and absent, posts gone, counts, trends, totals.

Pure functions of pages. X does not keep to its own description: every field may be absent,
null or of another type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tweetcrawler import queries, trouble
from tweetcrawler.pages import Gone, Metrics
from tweetcrawler.targets import Absent, Found, Trend

if TYPE_CHECKING:
    from tweetcrawler.xapi import Page

# A name or id that an answer passes over is asked again: only X's word makes it missing.
UNMENTIONED = "X's answer does not mention it"


def resolved(page: Page, names: Sequence[str]) -> tuple[list[Found], list[Absent], dict[str, str]]:
    """The users of a lookup by name, the names of which X says why they have none, and the
    names of which it says nothing, each with the reason why it is to be asked again.
    """
    wanted = {name.lower() for name in names}
    found = []
    for user in page.data:
        handle = str(user.get("username") or "").lower()
        # X answers with the spelling of the owner, whatever was asked, and may give back a user
        # whom nobody asked for.
        if handle in wanted and str(user.get("id")).isdecimal():
            wanted.discard(handle)
            username = trouble.cleaned(str(user["username"]))
            found.append(Found(handle, str(user["id"]), username, post_count(user)))
    absent, open_ = [], {}
    for handle in sorted(wanted):
        state, reason = _said_of(handle, page.errors)
        if state:
            absent.append(Absent(handle, state, reason))
        else:
            open_[handle] = reason
    return found, absent, open_


def news_of_user(page: Page, user_id: str | None) -> tuple[str | None, int | None]:
    """The name and number of posts of a user, where a page of posts tells them."""
    includes = page.answer.get("includes")
    users = includes.get("users") if isinstance(includes, dict) else None
    for user in users if isinstance(users, list) else []:
        if isinstance(user, dict) and user.get("id") == user_id:
            name = user.get("username")
            name = trouble.cleaned(name) if isinstance(name, str) else ""
            return name or None, post_count(user)
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
        name = trouble.cleaned(name) if isinstance(name, str) else ""
        if name:
            found.append(Trend(rank, name, volume, queries.for_trend(name, lang)))
    return found


def total(page: Page) -> int:
    """The number of posts on one page of counts; X has two names for it."""
    meta = page.answer.get("meta")
    if not isinstance(meta, dict):
        return 0
    return _count(meta.get("total_tweet_count", meta.get("total_post_count"))) or 0


def counted_span(page: Page) -> tuple[float, float] | None:
    """From when to when a page of counts counts, in seconds since 1970; None if it is empty."""
    spans = []
    for bucket in page.data:
        try:
            begin, end = (datetime.fromisoformat(str(bucket[key])) for key in ("start", "end"))
        except (KeyError, ValueError):
            continue
        if begin.tzinfo and end.tzinfo:
            spans.append((begin.timestamp(), end.timestamp()))
    return (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else None


def gone(
    page: Page, ids: Sequence[int], refused: Mapping[str | None, str]
) -> tuple[list[Gone], dict[int, str]]:
    """X's reasons for the posts that a lookup did not give, and the posts without one, each
    with the reason why it is to be asked again.
    """
    # Other errors of the answer are of posts that these refer to.
    errors = [e for e in page.errors if e.get("parameter") == "ids"]
    found, open_ = [], {}
    for tweet_id in ids:
        text = str(tweet_id)
        state, reason = ("refused", refused[text]) if text in refused else _said_of(text, errors)
        if state:
            found.append(Gone(tweet_id, state, reason))
        else:
            open_[tweet_id] = reason
    return found, open_


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
    # isdecimal() takes the digits of other scripts, as int() does, and int() refuses texts of
    # more than 4,300 digits: the length is looked at first.
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
    # true is an int to Python, and would count as one.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return None


def _said_of(name: str, errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """State of a name or id and X's reason; an empty state where X gives none."""
    why = UNMENTIONED
    for error in errors:
        if name in trouble.names(error):
            if known := trouble.state_of(error):
                return known
            why = f"X gives no answer for it ({trouble.said(error)})"
    return "", why
