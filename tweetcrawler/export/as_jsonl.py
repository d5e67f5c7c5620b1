"""JSON lines: one object for each row, or one page of X for each line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import IO, Any

import orjson

from tweetcrawler.db import Column, Rows

_EXACT = 2**53  # beyond it JavaScript and others round


def write(file: IO[bytes], columns: Sequence[Column], rows: Rows) -> int:
    """One object a line; ids, and whole numbers beyond 2^53, are strings."""
    names = [column.name for column in columns]
    changed = [
        (column.name, _JSON[column.kind], column.is_list)
        for column in columns
        if column.kind in _JSON
    ]
    count = 0
    for batch in rows:
        count += len(batch)
        lines = []
        for row in batch:
            shown = dict(zip(names, row, strict=True))
            for name, change, is_list in changed:
                value = shown[name]
                if value is not None:
                    shown[name] = _each(change, value) if is_list else change(value)
            lines.append(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE))
        file.write(b"".join(lines))
    return count


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """The list with its elements changed, also inside lists of lists."""
    if isinstance(value, list):
        return [_each(change, element) for element in value]
    return None if value is None else change(value)


def _json_whole(value: int) -> int | str:
    return value if -_EXACT <= value <= _EXACT else str(value)


def _json_time(value: datetime) -> str:
    """In the form that X sends, finer only where there is more to tell."""
    return (
        value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds")[
            :-6
        ]
        + "Z"
    )


_JSON: Mapping[str, Callable[[Any], Any]] = {
    "id": str,
    "whole": _json_whole,
    "time": _json_time,
    "date": date.isoformat,
    "json": lambda text: orjson.Fragment(text),
}


def write_pages(file: IO[bytes], bodies: Iterable[bytes]) -> int:
    count = 0
    for count, body in enumerate(bodies, start=1):  # noqa: B007 - the last number is the count
        # A line break in JSON can only stand between its parts; as it stands it would tear
        # the line.
        file.write(body.strip().replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    return count
