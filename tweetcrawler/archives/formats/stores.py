"""Objects as document stores write them out: MongoDB's extended JSON, Elasticsearch's hits."""

from __future__ import annotations

from typing import Any

from tweetcrawler.archives.formats import times
from tweetcrawler.archives.formats.fields import Thing
from tweetcrawler.flatten import as_v2

_NUMBERS = ("$numberLong", "$numberInt")


def is_wrapped(value: Thing) -> bool:
    """Whether an object has a store's own key, or an id in its words."""
    return "_id" in value or any(_is_typed(value.get(key)) for key in ("id", "id_str", "date"))


def _is_typed(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value))[:1] == "$"


def unwrapped(value: Any) -> Any:
    """A copy in plain JSON: numbers and ids as they are, times as RFC 3339.

    A document whose own id is a number has no other one in some collections: `_id` is the
    id of the post then.
    """
    value = _plain(value)
    if isinstance(value, dict) and isinstance(value.get("_source"), dict):
        value = {"_id": value.get("_id")} | value["_source"]
    if isinstance(value, dict) and "_id" in value:
        own = value.pop("_id")
        if "id" not in value and "id_str" not in value and str(own).isdigit():
            value["id"] = own
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        key, inner = next(iter(value.items()))
        if key in _NUMBERS and _is_whole(inner):
            return int(inner)
        if key == "$date":
            at = times.instant(value)
            return inner if at is None else as_v2(at)
        if key in ("$oid", "$numberDouble", "$numberDecimal", "$symbol"):
            return inner
    return {key: _plain(inner) for key, inner in value.items()}


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.removeprefix("-").isascii() and value.removeprefix("-").isdigit()
    return type(value) is int
