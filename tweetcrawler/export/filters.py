"""Filters as an operator writes them: `name=value`, read into what a condition compares with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tweetcrawler.db import Condition
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.ids import ID_MAX
from tweetcrawler.postgres.filters import CHOICES
from tweetcrawler.secret import harmless_name

# X gives at most 15 letters today; a few old accounts have more.
_NAME = re.compile(r"@?([A-Za-z0-9_]{1,20})")
_ID = re.compile(r"[0-9]{1,19}")
_WHOLE = re.compile(r"[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")
# Since Python 3.11 `fromisoformat` takes more than anybody means here, such as 2024-W05.
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


class _Refusal(Exception):
    """A value that its filter does not take; says what it must be."""


def condition(text: str) -> Condition:
    name, value = split(text)
    if name == "lang":
        raise ConfigurationError(
            "--where lang= is not possible: the table of the posts has no language; "
            "sentiment is there for English"
        )
    read = VALUES.get(name)
    if read is None:
        known = ", ".join(f"{each}=" for each in VALUES)
        shown = harmless_name(name) or "of this name"
        raise ConfigurationError(f"--where: there is no filter {shown}; known are {known}")
    try:
        return Condition(name, read(value))
    except _Refusal as refusal:
        raise ConfigurationError(f"--where: {name}= must be {refusal}") from None


def split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise ConfigurationError("--where needs name=value, such as handle=ada or since=2024-01-31")
    return name.strip().lower(), value.strip()


def handles_of(conditions: Sequence[Condition]) -> list[str] | None:
    """The names that pass all filters; None when there is none."""
    sets = [set(condition.value) for condition in conditions]
    return sorted(set.intersection(*sets)) if sets else None


def _folded_names(value: str) -> list[str]:
    found = [_NAME.fullmatch(name.strip()) for name in value.split(",")]
    names = [match[1].lower() for match in found if match]
    if len(names) < len(found):
        raise _Refusal("names of letters, digits and _, with commas between")
    return names


def _folded_tags(value: str) -> list[str]:
    tags = [tag.strip().removeprefix("#").lower() for tag in _piece(value).split(",")]
    if not all(tags):
        raise _Refusal("hashtags with commas between")
    return tags


def _ids(value: str) -> list[int]:
    return [_id(text) for text in value.split(",")]


def _id(value: str) -> int:
    # Refused here, since PostgreSQL's message on a bigint that is too large names no option.
    if not _ID.fullmatch(value.strip()) or int(value) > ID_MAX:
        raise _Refusal("an id: digits, below 2^63")
    return int(value)


def _whole(value: str) -> int:
    if not _WHOLE.fullmatch(value):
        raise _Refusal("a whole number")
    return int(value)


def _decimal(value: str) -> Decimal:
    if not _DECIMAL.fullmatch(value):
        raise _Refusal("a number, with a point before decimals")
    return Decimal(value)


def _moment(value: str) -> datetime:
    try:
        moment = datetime.fromisoformat(value if _MOMENT.fullmatch(value) else "")
    except ValueError:
        raise _Refusal("a day or a moment, such as 2024-01-31 or 2024-01-31T12:00:00Z") from None
    # X's own times are UTC.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _piece(value: str) -> str:
    try:
        # What the terminal's encoding does not know arrives as lone surrogates (PEP 383), and
        # PostgreSQL takes none.
        value.encode()
    except UnicodeEncodeError:
        raise _Refusal("text in the encoding of the terminal") from None
    return value


def _words(name: str) -> Callable[[str], tuple[str, ...]]:
    known = CHOICES[name]

    def read(value: str) -> tuple[str, ...]:
        words = tuple(word.strip().lower() for word in value.split(","))
        if not set(words) <= set(known):
            raise _Refusal(f"one or more of {', '.join(known)}, with commas between")
        return words

    return read


VALUES: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("handle", "reply_to", "retweet_of", "mentions"), _folded_names),
    "hashtag": _folded_tags,
    **dict.fromkeys(("since", "until"), _moment),
    "id": _ids,
    **dict.fromkeys(("min_id", "max_id"), _id),
    **{name: _words(name) for name in CHOICES},
    **dict.fromkeys(("text", "url"), _piece),
    **dict.fromkeys(("min_likes", "max_likes", "min_retweets", "max_retweets"), _whole),
    **dict.fromkeys(("min_sentiment", "max_sentiment"), _decimal),
}
