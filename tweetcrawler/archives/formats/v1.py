"""Statuses of X's closed API v1.1, and other posts told in their words."""

from __future__ import annotations

from typing import Any, Final

from tweetcrawler.archives.flatten_v1 import flatten_statuses
from tweetcrawler.archives.formats.fields import Score, Thing
from tweetcrawler.archives.formats.kinds import Format
from tweetcrawler.flatten import Flattened


def shows_a_sign(value: Thing) -> bool:
    """Whether an object is a status: only X writes ids in two forms, or a `screen_name`."""
    if "text" not in value and "full_text" not in value:
        return False
    if "event_type" in value or "recipient" in value or "sender" in value:
        return False  # a direct message
    user = value.get("user")
    return "id_str" in value or (
        isinstance(user, dict) and ("screen_name" in user or "id_str" in user)
    )


def unsaid(status: Thing) -> set[str]:
    """The list columns of which a status says nothing, since it was trimmed."""
    whole = status.get("retweeted_status")
    whole = whole if isinstance(whole, dict) and whole else status
    extended = whole.get("extended_tweet")
    parts = [whole, extended if isinstance(extended, dict) else {}]
    columns = set()
    if not any("entities" in part for part in parts):
        columns |= {"hashtags", "urls", "user_mentions_id", "user_mentions_name"}
        if not any("extended_entities" in part for part in parts):
            columns.add("media")
        if whole is not status:
            columns.add("retweeted_status_url")
    return columns


def rows_of(status: Any, *, score: Score = None) -> Flattened:
    """The row of a status of another tool: a list that it does not have is None."""
    rows, refused = flatten_statuses([status], score=score)
    for row in rows:
        row |= dict.fromkeys(unsaid(status))
    return Flattened(rows, refused)


def _rows(value: Any, *, score: Score = None) -> Flattened:
    return flatten_statuses([value], score=score)


FORMAT: Final = Format("a status of X's API v1.1", shows_a_sign, _rows)
