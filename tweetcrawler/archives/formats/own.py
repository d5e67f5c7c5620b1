"""Our own exports, of the table and of the view `tweets`: taken back as they were."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from tweetcrawler.archives.formats import times
from tweetcrawler.archives.formats.fields import (
    LISTS,
    Read,
    Score,
    Thing,
    counted,
    gathered,
    identified,
)
from tweetcrawler.archives.formats.kinds import Format
from tweetcrawler.archives.formats.tables import TableFormat
from tweetcrawler.flatten import (
    COLUMNS,
    Flattened,
    NotStorable,
    as_array,
    as_id_array,
    as_v2,
    shown,
    stored,
)

VIEW: Final = {
    "username": "tweet_from",
    "mention_ids": "user_mentions_id",
    "mention_names": "user_mentions_name",
    "like_count": "favorite_count",
    "retweeted_status_urls": "retweeted_status_url",
}
"""The columns of the view that are called otherwise in the table."""
_DERIVED: Final = {"is_retweet", "is_reply"}
_SAME: Final = set(COLUMNS) - set(VIEW.values())

# No other tool has these beside an id.
_OF_TABLE: Final = {
    "tweet_from",
    "user_mentions_id",
    "user_mentions_name",
    "retweeted_status_url",
    "retweeted_status_user_handle",
    "retweeted_status_user_name",
}
_OF_VIEW: Final = {"mention_ids", "mention_names", "retweeted_status_urls"} | _DERIVED

_IDS: Final = {"id", "in_reply_to_user_id", "in_reply_to_status_id", "retweeted_status_id"}
_COUNTS: Final = {"favorite_count", "retweet_count"}


def fits(columns: Any) -> bool:
    """Whether all columns are those of the table, or of the view, with some only of ours."""
    names = set(columns)
    if "id" not in names:
        return False
    if names <= set(COLUMNS):
        return not names.isdisjoint(_OF_TABLE)
    return names <= _SAME | set(VIEW) | _DERIVED and (
        not names.isdisjoint(_OF_VIEW) or {"username", "like_count"} <= names
    )


class _Words:
    """The maker of the rows of our records; a column that was not exported is None."""

    id: Read = staticmethod(lambda thing: thing.get("id"))

    def row(self, thing: Thing, *, score: Score = None) -> dict[str, Any]:
        del score  # the sentiment was exported, or was not wanted
        if str(thing.get("id")).startswith("'"):
            thing = {key: _without_guard(value) for key, value in thing.items()}
        found = {VIEW.get(key, key): value for key, value in thing.items()}
        row = {column: value_of(column, found.get(column)) for column in COLUMNS}
        if row["id"] is None:
            raise NotStorable("it has no id")
        return row

    def rows(self, things: Iterable[Any], *, score: Score = None) -> Flattened:
        """The rows of some records, and why the others have none; never raises."""
        return gathered(things, lambda thing: self.row(thing, score=score), self.id)


def _without_guard(value: Any) -> Any:
    # --excel-safe puts an apostrophe before what a spreadsheet would change, also before
    # another apostrophe, so that one off every cell gives all back.
    return value.removeprefix("'") if isinstance(value, str) else value


def value_of(column: str, value: Any) -> Any:
    """The value of a column as it is stored. **Errors**: `NotStorable`."""
    if value is None:
        return None
    if column in _IDS:
        return identified(value, column)
    if column in _COUNTS:
        return counted(value, column)
    if column == "sentiment":
        return _number(value)
    if column in LISTS:
        return _list(column, value)
    if isinstance(value, datetime):
        return as_v2(value)
    if not isinstance(value, str):
        raise NotStorable(f"{column} is {shown(value)}, which is no text")
    if column == "created_at":
        return _time(value)
    return stored(value)


# What array_in takes, also in several dimensions: old tables have such lists.
_BARE, _QUOTED = r'[^,{}"\\]*[^,{}"\\\s][^,{}"\\]*', r'"(?:[^"\\]|\\.)*+"'
_LITERAL = re.compile(
    rf"\{{+(?:(?:{_BARE}|{_QUOTED})(?:\}}*,\{{*(?:{_BARE}|{_QUOTED}))*+)?\}}+", re.DOTALL
).fullmatch
# NULL stands for an id that X did not tell, so that the ids and names of mentions keep their
# places.
_ID = r'(?:[0-9]{1,19}|"[0-9]{1,19}"|NULL)'
_IDS_LITERAL = re.compile(rf"\{{(?:{_ID}(?:,{_ID})*+)?\}}").fullmatch


def _list(column: str, value: Any) -> str:
    """The array literal of a list; one that is written already must be whole."""
    are_ids = column == "user_mentions_id"
    if isinstance(value, list):
        return as_id_array(value) if are_ids else _literal(value)
    fits = _IDS_LITERAL if are_ids else _LITERAL
    if isinstance(value, str) and fits(value):
        return value
    raise NotStorable(f"{column} is {shown(value)}, which is no list as PostgreSQL writes it")


def _literal(value: list[Any]) -> str:
    """The literal of a list, or of lists of one length, of which PostgreSQL makes dimensions."""
    if not any(isinstance(each, list) for each in value):
        return as_array([each if isinstance(each, str) else None for each in value])
    if not all(isinstance(each, list) and len(each) == len(value[0]) > 0 for each in value):
        raise NotStorable("a list in it has another length than its neighbours")
    return "{" + ",".join(map(_literal, value)) + "}"


def _time(value: str) -> str | None:
    """The time as it was exported: the table's stays as it is, the view's in CSV is SQL's."""
    at = times.instant(value) if value[10:11] == " " else None
    return stored(value) if at is None else as_v2(at)


def _number(value: Any) -> float | None:
    if type(value) in (int, float, Decimal) or isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        # NaN compares as false with every number, so it is refused here, too.
        if -1 <= number <= 1:
            return number
    raise NotStorable(f"sentiment is {shown(value)}, which is no number from -1 to 1")


def _rows(value: Any, *, score: Score = None) -> Flattened:
    return WORDS.rows([value], score=score)


class _OwnTable(TableFormat):
    def fits(self, header: Any) -> bool:
        return fits(header)


WORDS: Final = _Words()
# An empty cell is NULL, and a quoted one is the empty text: nothing is blank.
TABLE: Final = _OwnTable("tweetcrawler", frozenset({"id"}), WORDS, blanks=())
FORMAT: Final = Format("tweetcrawler", fits, _rows)
