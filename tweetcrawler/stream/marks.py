"""Marks between X's messages in a segment: when a connection opened, was alive, and ended.

They stand in the order in which things happened. So a segment that is saved, now or later,
tells the time in which a connection was open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

_KEY = "tweetcrawler"
OPENED, ALIVE, CLOSED, UNREADABLE = "opened", "alive", "closed", "unreadable"


@dataclass(frozen=True)
class Session:
    """One connection: its id, the run that it belongs to, and whose rules it has."""

    id: str
    run: int
    credential: str
    app: str


@dataclass(frozen=True)
class Mark:
    """One mark; `at` is X's time in seconds since 1970, `why` is how a connection ended."""

    event: str
    at: float
    session: Session | None = None
    why: str = ""
    text: str = ""

    def to_json(self) -> bytes:
        """The line of the segment."""
        return orjson.dumps({_KEY: self})


def mark_of(message: Any) -> Mark | None:
    """The mark in a parsed line; None for a message of X."""
    found = message.get(_KEY) if isinstance(message, dict) else None
    if not isinstance(found, dict) or "event" not in found:
        return None
    session = found.get("session")
    return Mark(
        str(found["event"]),
        float(found["at"]),
        Session(**session) if isinstance(session, dict) else None,
        str(found.get("why", "")),
        str(found.get("text", "")),
    )


def unreadable(line: bytes, at: float) -> bytes:
    """A line of X that is no JSON, kept as text."""
    return Mark(UNREADABLE, at, text=line.decode("utf-8", "backslashreplace")).to_json()
