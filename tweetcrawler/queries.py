"""Search queries: one form for each, a key that tells them apart, and a name for a file.

Two spellings of white space are one query; everything else may mean something to X and stays.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

from tweetcrawler.ids import id_at

# An entry of a PostgreSQL index holds about 2,700 bytes; a query of 1,024 signs may have 4,096.
_KEY_MAX_BYTES = 1_000
_SLUG_MAX = 40
_ID = re.compile(r"[0-9]{10,19}", re.ASCII)
_QUOTED_OR_SPACE = re.compile(r'("[^"]*")|\s+')
_HASHTAG = re.compile(r"[#$]\w+")
# Ids hold a time since this day only; those before it were given out one after the other.
_FIRST_DATED_DAY = datetime(2010, 11, 5, tzinfo=UTC)


def normalised(query: str) -> str:
    """The query without needless white space; inside quotes it stays."""
    return _QUOTED_OR_SPACE.sub(lambda found: found[1] or " ", query).strip()


def key_of(query: str) -> str:
    """Identity of a normalised query: itself, or its digest when it is long."""
    encoded = query.encode()
    return query if len(encoded) <= _KEY_MAX_BYTES else f"sha256:{_digest(query)}"


def slug_of(query: str) -> str:
    """A name of letters, digits and dashes that is the query's own, and no user's."""
    plain = unicodedata.normalize("NFKD", query.lower()).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_SLUG_MAX].strip("-")
    return "-".join(filter(None, ("search", words, _digest(query)[:8])))


def _digest(query: str) -> str:
    from hashlib import sha256  # OpenSSL, which `--help` needs not

    return sha256(query.encode()).hexdigest()


def from_user(username: str) -> str:
    """The query for all posts of a user."""
    return f"from:{username}"


def for_trend(name: str, lang: str | None) -> str:
    """The query for a trend: its hashtag, or its words as a phrase, in a language if given."""
    found = name.strip()
    if not _HASHTAG.fullmatch(found):
        found = f'"{" ".join(found.replace(chr(34), " ").split())}"'
    return f"{found} lang:{lang}" if lang else found


def lowest_id(text: str) -> int:
    """The lowest wanted id, from an id (exclusive) or a date (UTC, inclusive).

    **Errors**: ValueError with what it must be.
    """
    if _ID.fullmatch(text.strip()):
        return int(text) + 1
    moment = _moment(text)
    return 1 if moment < _FIRST_DATED_DAY else id_at(int(moment.timestamp() * 1000))


def end_id(text: str) -> int:
    """The first id after the wanted ones, from an id or a date (UTC), both exclusive.

    **Errors**: ValueError with what it must be.
    """
    if _ID.fullmatch(text.strip()):
        return int(text)
    moment = _moment(text)
    if moment < _FIRST_DATED_DAY:
        raise ValueError(
            "must not be a date before 2010-11-05: ids tell no time before; give an id"
        )
    return id_at(int(moment.timestamp() * 1000))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or text.strip().isdigit():
        raise ValueError(
            "must be an id, or a date such as 2024-01-31 or 2024-01-31T12:00:00Z (UTC)"
        )
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
