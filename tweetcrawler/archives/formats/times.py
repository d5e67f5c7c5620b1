"""The time of a post, from the forms in which tools write it, or from its id."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

from tweetcrawler.flatten import Flattened, as_v2
from tweetcrawler.ids import FIRST_DATED_ID, ID_MAX, time_ms_of

FITS_S: Final = 5.0
"""How far the time of a post may lie from the time in its id: X writes whole seconds."""

# `Wed Aug 27 13:08:45 +0000 2008`. The names are English whatever the machine's language,
# so no strptime.
_V1 = re.compile(
    r"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[0-9]{1,2}) "
    r"(?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2}) (?P<zone>[+-][0-9]{4}) (?P<year>[0-9]{4})",
    re.ASCII,
).fullmatch
_MAIL = re.compile(r"[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} .*", re.ASCII).fullmatch
# ISO 8601, and its looser spellings: a space before the time or the zone, `UTC` as zone.
_ISO = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<clock>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)"
    r"(?:[.,](?P<fraction>[0-9]{1,9}))?[ ]?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?",
    re.ASCII,
).fullmatch
_EPOCH = re.compile(r"[0-9]{9,14}(?:\.[0-9]+)?", re.ASCII).fullmatch
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
# An epoch of more digits than this is one in milliseconds: in seconds it is the year 5138.
_SECONDS_MAX: Final = 10**11
# Less is a year, a day written as a number, or the time of a machine without a clock.
_SECONDS_MIN: Final = 10**8


def instant(sent: Any) -> datetime | None:
    """The moment that a value names, in UTC; None for one without a zone, or no time at all.

    Forms: RFC 3339 with its zone, v1.1's, that of mail, seconds or milliseconds since 1970,
    and `{"$date": …}` of mongoexport.
    """
    if isinstance(sent, dict):
        inner = sent.get("$date")
        if isinstance(inner, dict):
            # Canonical Extended JSON wraps the milliseconds once more; the relaxed form has a
            # text.
            inner = inner.get("$numberLong")
        return _of_epoch(inner, 1000.0) if _is_number(inner) else instant_of_text(inner)
    if _is_number(sent):
        return _of_epoch(sent, None)
    return instant_of_text(sent)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, str) and bool(_EPOCH(value)))


def _of_epoch(value: Any, parts: float | None) -> datetime | None:
    try:
        number = float(value)
        if parts is None:
            if abs(number) < _SECONDS_MIN:
                return None
            parts = 1000.0 if abs(number) > _SECONDS_MAX else 1.0
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number * 1000 / parts)
    except (OverflowError, ValueError):  # beyond the year 9999, infinite, no number
        return None


@lru_cache(4096)
def _read(sent: str) -> datetime | None:
    if found := _ISO(sent):
        zone = {"Z": "+00:00", "UTC": "+00:00", "GMT": "+00:00"}.get(found["zone"], found["zone"])
        if zone is None:
            return None
        # datetime ends at microseconds. Some tools write seven or nine digits.
        fraction = (found["fraction"] or "0")[:6].ljust(6, "0")
        clock = found["clock"] if found["clock"].count(":") == 2 else found["clock"] + ":00"
        return datetime.fromisoformat(f"{found['day']}T{clock}.{fraction}{zone}")
    if (found := _V1(sent)) and found["month"] in _MONTHS:
        month, day = _MONTHS.index(found["month"]) + 1, int(found["day"])
        return datetime.fromisoformat(
            f"{found['year']}-{month:02d}-{day:02d}T{found['clock']}{found['zone']}"
        )
    return parsedate_to_datetime(sent) if _MAIL(sent) else None


def instant_of_text(sent: Any) -> datetime | None:
    """The moment that a text names; see `instant`."""
    if not isinstance(sent, str):
        return None
    try:
        at = _read(sent.strip())
        # A mail without a zone, or with `-0000`, comes out without one.
        return None if at is None or at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        return None


def instant_of_id(tweet_id: int) -> datetime | None:
    """The moment in which X gave out an id; None for ids before November 2010, or of nobody.

    Source: https://docs.x.com/fundamentals/x-ids
    """
    if not FIRST_DATED_ID <= tweet_id <= ID_MAX:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms_of(tweet_id))


def created_at(sent: Any, tweet_id: int) -> str | None:
    """The time of a post: what was sent if it is one moment, else the time in the id.

    A text without a zone is no moment, and `05/03/2022` is two days: there the id tells.
    X sends the second of the id, so the two are the same. None when neither tells.
    """
    at = instant(sent)
    if at is None and (at := instant_of_id(tweet_id)) is not None:
        at = at.replace(microsecond=0)
    return None if at is None else as_v2(at)


_OF_V2 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z").fullmatch


def mended(flattened: Flattened) -> Flattened:
    """The same rows, in which a time in another form than X's is read, or is that of the id.

    A time that was not sent stays None: it says nothing.
    """
    for row in flattened.rows:
        sent = row["created_at"]
        # `flatten` lets no other text of this length through, and nearly all have it.
        if sent is not None and len(sent) != _LENGTH_OF_V2 and not _OF_V2(sent):
            row["created_at"] = created_at(sent, row["id"])
    return flattened


_LENGTH_OF_V2: Final = len("2022-03-05T10:00:00.000Z")


def contradicts(sent: Any, tweet_id: int) -> bool:
    """Whether the time that was sent cannot be the time of a post with this id.

    A text that is no moment contradicts nothing. An id without a time in it is one of the
    years before.
    """
    said, told = instant(sent), instant_of_id(tweet_id)
    if said is None:
        return False
    if told is None:
        return said >= _IDS_ARE_DATED
    return abs((said - told).total_seconds()) > FITS_S


# X changed over in the course of 4 November.
_IDS_ARE_DATED: Final = datetime(2010, 11, 6, tzinfo=UTC)
