"""The 21 columns from the closed API v1.1, which only archives still speak.

The same status came in three forms: as `text` of 140 characters with the rest in
`extended_tweet` (streams), as `full_text` (REST with tweet_mode=extended), and as a cut
`text` alone (REST in compatibility mode).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

from tweetcrawler.flatten import (
    NOTHING,
    Flattened,
    NotStorable,
    Partial,
    as_array,
    as_count,
    as_id,
    as_id_array,
    as_sent,
    as_v2,
    each_row,
    fitted_to,
    only_text,
    readable,
    stored,
    time_of_id,
)


def flatten_statuses(
    statuses: Iterable[Any], *, score: Callable[[str], float] | None = None
) -> Flattened:
    """Make one row of every status; the statuses stay as they are.

    Shape: as `flatten.flatten` says. A status that was retweeted or quoted inside another
    gives no row of its own; the retweeted one is looked up for the columns of the outer
    one.

    Numbers: ids are read from the `_str` keys only, since the program that wrote the
    archive may have rounded `id`; a status without `id_str` is refused.

    Errors: none, as there.
    """
    return each_row(statuses, _row, _fitted_row, score=score, id_key="id_str")


def _is_cut(status: Any) -> bool:
    """Whether only the first 140 characters of the status are archived."""
    if (
        not isinstance(status, dict)
        or status.get("truncated") is not True
        or status.get("full_text")
    ):
        return False
    extended = status.get("extended_tweet")
    return not (isinstance(extended, dict) and extended.get("full_text"))


def _fitted_row(status: Any) -> dict[str, Any]:
    return _row(fitted_to(status, _STATUS))


def _row(status: dict[str, Any]) -> dict[str, Any]:
    tweet_id = as_id(status.get("id_str"), "id_str")
    if tweet_id is None:
        raise NotStorable("it has no id_str, and its id may have been rounded")
    text, entities = _content(status)
    parted = _is_cut(status)
    user = status.get("user") or NOTHING
    original = status.get("retweeted_status") or None

    # A retweet is cut, and its entities with it: they are taken from the whole status inside.
    whole, whole_text, whole_entities = status, text, entities
    mentions = entities.get("user_mentions")
    if original is not None:
        whole, (whole_text, whole_entities) = original, _content(original)
        parted = _is_cut(original)
        mentions = _retweet_mentions(original, whole_entities, mentions or ())

    urls = _urls(whole_entities)
    no_mentions = None if mentions is None else "{}"
    row = {
        "id": tweet_id,
        "tweet_from": stored(user.get("screen_name")),
        "created_at": _time_of(status.get("created_at"), tweet_id),
        "hashtags": _hashtags(whole_entities),
        "urls": urls,
        "user_mentions_id": no_mentions,
        "media": _media(whole),
        "user_mentions_name": no_mentions,
        "origin_device": _device(status.get("source")),
        "favorite_count": as_count(status.get("favorite_count"), "favorite_count"),
        "text": readable(text),
        "in_reply_to_screen_name": stored(status.get("in_reply_to_screen_name")),
        "in_reply_to_user_id": as_id(
            status.get("in_reply_to_user_id_str"), "in_reply_to_user_id_str"
        ),
        "in_reply_to_status_id": as_id(
            status.get("in_reply_to_status_id_str"), "in_reply_to_status_id_str"
        ),
        "retweet_count": as_count(status.get("retweet_count"), "retweet_count"),
        "retweeted_status_text": None,
        "retweeted_status_url": None,
        "retweeted_status_id": None,
        "retweeted_status_user_name": None,
        "retweeted_status_user_handle": None,
        "sentiment": None,
    }
    if mentions:
        row["user_mentions_id"] = as_id_array([mention.get("id_str") for mention in mentions])
        row["user_mentions_name"] = as_array([mention.get("screen_name") for mention in mentions])
    if original is not None:
        author = original.get("user") or NOTHING
        row["retweeted_status_id"] = as_id(
            original.get("id_str"), "the id_str of the retweeted status"
        )
        row["retweeted_status_text"] = readable(whole_text)
        row["retweeted_status_url"] = "{}" if urls is None else urls
        row["retweeted_status_user_name"] = stored(author.get("name"))
        row["retweeted_status_user_handle"] = stored(author.get("screen_name"))
    return Partial(row) if parted else row


def _content(status: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The longest text, still escaped, and the entities that belong to it."""
    extended = status.get("extended_tweet")
    if extended and (text := extended.get("full_text")):
        return text, extended.get("entities") or NOTHING
    return status.get("full_text") or status.get("text"), status.get("entities") or NOTHING


def _retweet_mentions(
    original: dict[str, Any], entities: dict[str, Any], own: Sequence[dict[str, Any]]
) -> Sequence[dict[str, Any]]:
    """The retweeted author, then the mentions in `entities` of the retweeted status.

    `own` are the mentions of the retweet, the first of which is that author: they help when
    the archive trimmed the user.
    """
    mentions = entities.get("user_mentions") or ()
    author = original.get("user") or NOTHING
    author_id = author.get("id_str")
    if author_id is None:
        return [*own[:1], *mentions]
    handle = author.get("screen_name")
    if handle is None:
        handle = next((m.get("screen_name") for m in own if m.get("id_str") == author_id), None)
    return [{"id_str": author_id, "screen_name": handle}, *mentions]


def _hashtags(entities: dict[str, Any]) -> str | None:
    tags = entities.get("hashtags")
    if not tags:
        return None if tags is None else "{}"
    return as_array([name for tag in tags if (name := tag.get("text")) is not None])


def _urls(entities: dict[str, Any]) -> str | None:
    urls = entities.get("urls")
    if not urls:
        return None if urls is None else "{}"
    return as_array(
        [leads_to for url in urls if (leads_to := url.get("expanded_url") or url.get("url"))]
    )


def _media(status: dict[str, Any]) -> str | None:
    """The status' own pictures; `entities` names only the first of them."""
    extended = status.get("extended_tweet")
    source = extended if extended and extended.get("full_text") else status
    media = (source.get("extended_entities") or NOTHING).get("media")
    if not media:
        media = (source.get("entities") or NOTHING).get("media")
    if not media:
        return None if media is None else "{}"
    return as_array([address for thing in media if (address := thing.get("media_url_https"))])


# --- values that v1.1 wrote in another form -------------------------------------------------------

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
        start=1,
    )
}
# `Wed Aug 27 13:08:45 +0000 2008`, and `Wed, 27 Aug 2008 13:08:45 +0000` as the first
# search API wrote it.
_TIME = re.compile(
    r"[A-Z][a-z]{2}(?:,[ ](?P<day1>[0-9]{1,2}))?[ ](?P<month>[A-Z][a-z]{2})[ ]"
    r"(?:(?P<day2>[0-9]{1,2})|(?P<year1>[0-9]{4}))[ ]"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})[ ]"
    r"(?P<sign>[+-])(?P<off_hour>[0-9]{2})(?P<off_minute>[0-9]{2})(?:[ ](?P<year2>[0-9]{4}))?",
    re.ASCII,
).fullmatch


def _time_of(sent: str | None, tweet_id: int) -> str | None:
    """The time of a status; that of its id where something else than a time was written."""
    return None if sent is None else _created_at(sent) or time_of_id(tweet_id)


@lru_cache(4096)
def _created_at(sent: str | None) -> str | None:
    """The time as v2 writes it: UTC with milliseconds; None for what is no time.

    The names of days and months are English whatever the machine's language, so no `strptime`.
    """
    if sent is None:
        return None
    found = _TIME(sent)
    month = _MONTHS.get(found["month"]) if found else None
    if found is None or month is None:
        return _already_v2(sent)
    day, year = found["day1"] or found["day2"], found["year1"] or found["year2"]
    if day is None or year is None:
        return None
    offset = timedelta(hours=int(found["off_hour"]), minutes=int(found["off_minute"]))
    try:
        at = datetime(
            int(year),
            month,
            int(day),
            int(found["hour"]),
            int(found["minute"]),
            int(found["second"]),
            tzinfo=timezone(-offset if found["sign"] == "-" else offset),
        )
        return as_v2(at)
    except (ValueError, OverflowError):
        return None


def _already_v2(sent: str) -> str | None:
    """Some tools rewrote the times of the archives they kept; without a zone they meant UTC."""
    try:
        at = datetime.fromisoformat(sent)
        return as_v2(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


_ANCHOR = re.compile(r"\s*<a\b[^>]*>(.*?)(?:</a>\s*|$)", re.DOTALL | re.IGNORECASE).fullmatch


@lru_cache(4096)
def _device(source: str | None) -> str | None:
    """`source` is an anchor to the program's page, its bare name, or empty."""
    if not source:
        return None
    anchor = _ANCHOR(source)
    return readable(anchor[1] if anchor else source) or None


# --- shapes ---------------------------------------------------------------------------------------

_USER = {"id_str": as_sent, "screen_name": only_text, "name": only_text}
_ENTITIES = {
    "hashtags": [{"text": only_text}],
    "urls": [{"url": only_text, "expanded_url": only_text}],
    "user_mentions": [{"id_str": as_sent, "screen_name": only_text}],
    "media": [{"media_url_https": only_text}],
}
_MEDIA = {"media": [{"media_url_https": only_text}]}
_PART: dict[str, Any] = {
    "id_str": as_sent,
    "text": only_text,
    "full_text": only_text,
    "entities": _ENTITIES,
    "extended_entities": _MEDIA,
    "extended_tweet": {"full_text": only_text, "entities": _ENTITIES, "extended_entities": _MEDIA},
    "user": _USER,
}
_STATUS: dict[str, Any] = _PART | {
    "created_at": only_text,
    "source": only_text,
    "favorite_count": as_sent,
    "retweet_count": as_sent,
    "in_reply_to_screen_name": only_text,
    "in_reply_to_user_id_str": as_sent,
    "in_reply_to_status_id_str": as_sent,
    "retweeted_status": _PART,
}
