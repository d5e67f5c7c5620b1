"""Columns of the posts' table: name and type of each, and what a reader makes of its values.

Plain values without SQLAlchemy, so that a worker process that saves pages stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Column:
    """A column that is read: its name, and what its values are.

    `kind` is "id", "whole", "number", "truth", "time", "date", "json" or "text"; `is_list`
    says that a value is a list of such, in which any may be None.
    """

    name: str
    kind: str
    is_list: bool = False


# Rows of an export, in batches.
Rows = Iterable[Sequence[tuple[Any, ...]]]


class Condition(NamedTuple):
    """A filter by its name in `filters.FILTERS` or `CHOICES`, and its value of the type that
    the filter compares with.
    """

    name: str
    value: Any


# In the order of the table. The first users fixed names and types; the lists and the time
# are stored as text.
TYPES: Mapping[str, str] = {
    "id": "bigint",
    "tweet_from": "text",
    "created_at": "character varying",
    "hashtags": "text",
    "urls": "text",
    "user_mentions_id": "text",
    "media": "text",
    "user_mentions_name": "text",
    "origin_device": "text",
    "favorite_count": "bigint",
    "text": "text",
    "in_reply_to_screen_name": "text",
    "in_reply_to_user_id": "bigint",
    "in_reply_to_status_id": "bigint",
    "retweet_count": "bigint",
    "retweeted_status_text": "text",
    "retweeted_status_url": "character varying",
    "retweeted_status_id": "bigint",
    "retweeted_status_user_name": "text",
    "retweeted_status_user_handle": "text",
    "sentiment": "numeric",
}
# What the columns that are stored as text hold, where that is more than text.
STORED_AS_TEXT: Mapping[str, Column] = {
    column.name: column
    for column in (
        Column("created_at", "time"),
        Column("hashtags", "text", is_list=True),
        Column("urls", "text", is_list=True),
        Column("media", "text", is_list=True),
        Column("user_mentions_id", "id", is_list=True),
        Column("user_mentions_name", "text", is_list=True),
        Column("retweeted_status_url", "text", is_list=True),
    )
}
