"""Answers of commands as JSON for programs: one line each, with a version, times in ISO 8601.

The schema is `documents.json` beside this file; docs/reference.md shows it as a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from tweetcrawler import __version__

# It grows when a key goes or changes its meaning; a new key alone does not break a program.
VERSION = 1
# Beside all keys that end with _at. Their numbers are seconds since 1970.
_TIMES = frozenset({"at", "since", "from", "until", "complete_until"})


def document(command: str, plain: Mapping[str, Any], *, exit_code: int, now: float) -> str:
    """The line of one answer. `now` is for answers that do not tell their own moment."""
    whole = {
        "version": VERSION,
        "program": f"tweetcrawler {__version__}",
        "command": command,
        "exit_code": exit_code,
        "at": now,
        **plain,
    }
    return json.dumps(_plain(whole), allow_nan=False)


def iso(seconds: float) -> str | None:
    """A time (seconds since 1970) as `2026-11-21T03:45:00.000Z`; None beyond the calendar."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each, str(name)) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return iso(value.timestamp())
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | str):
        return value
    if not isinstance(value, int | float):
        # Sums of PostgreSQL are decimal numbers; everything else is a path.
        return int(value) if hasattr(value, "as_integer_ratio") else str(value)
    if key.endswith("_at") or key in _TIMES:
        return iso(value)
    # As text: JavaScript rounds whole numbers beyond that.
    return str(value) if isinstance(value, int) and abs(value) >= 1 << 53 else value
