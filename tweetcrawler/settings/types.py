"""Types of values: each makes a value of a text, or says what the text must be."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Not \d, which like int() takes the digits of other scripts, too.
_DIGITS = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}")
# PostgreSQL cuts a name after 63 bytes.
_TABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}")
_SWITCH = {
    "on": True,
    "yes": True,
    "true": True,
    "1": True,
    "off": False,
    "no": False,
    "false": False,
    "0": False,
}


class BadValue(Exception):
    """What a value must be, as the end of a sentence that begins with its place."""


@dataclass(frozen=True)
class PathIn:
    """Makes paths absolute, relative ones under a folder."""

    folder: Path
    home: str | None

    def __call__(self, text: str) -> Path:
        text = text_of(text.strip())
        if text.startswith("~/") and self.home:
            return Path(self.home, text[2:])
        return self.folder / text

    def under(self, folder: Path) -> PathIn:
        return PathIn(folder, self.home)


def converted(convert: Callable[[str], Any], text: str, paths: PathIn) -> Any:
    """The value of a text; paths begin at the folder of the place that names them.

    Errors: `BadValue`, which does not quote the text.
    """
    if convert is file_or_dash:
        return None if text.strip() == "-" else paths(text)
    return paths(text) if convert is Path else convert(text)


def file_or_dash(text: str) -> Path | None:
    """A path; None for -, which is standard input or output."""
    return None if text.strip() == "-" else Path(text)


def text_of(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise BadValue("must not hold control characters")
    return text


def on_off(text: str) -> bool:
    try:
        return _SWITCH[text.strip().lower()]
    except KeyError:
        raise BadValue("must be on or off") from None


@dataclass(frozen=True)
class OneOf:
    """Takes one of some words, in any case."""

    choices: tuple[str, ...]

    def __call__(self, text: str) -> str:
        if text.strip().lower() in self.choices:
            return text.strip().lower()
        raise BadValue(f"must be one of {', '.join(self.choices)}")


def one_of(*choices: str) -> OneOf:
    return OneOf(choices)


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if _DIGITS.fullmatch(text.strip()) and lowest <= int(text) <= highest:
            return int(text)
        raise BadValue(f"must be a whole number from {lowest} to {highest}")

    return convert


def number(lowest: float, highest: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        if _DECIMAL.fullmatch(text.strip()) and lowest <= float(text) <= highest:
            return float(text)
        raise BadValue(
            f"must be a number from {lowest:g} to {highest:g}, with a point before decimals"
        )

    return convert


def table_name(text: str) -> str:
    if _TABLE.fullmatch(text.strip()):
        return text.strip()
    raise BadValue(
        "must be a name of letters, digits and _, at most 63 and no digit first, or schema.table"
    )


def names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text_of(text).split(","))
    if all(names) and len(set(names)) == len(names):
        return names
    raise BadValue("must be names with commas between, each once")


def moment(convert: Callable[[str], int]) -> Callable[[str], int]:
    def id_of(text: str) -> int:
        try:
            return convert(text)
        except ValueError as error:
            raise BadValue(str(error)) from None

    return id_of


def ages(text: str) -> tuple[float, ...]:
    found = tuple(duration(word) for word in text_of(text).replace(",", " ").split())
    if not found or list(found) != sorted(set(found)):
        raise BadValue("must be times that grow, such as 1h 6h 1d 30d")
    return found


def parts(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text_of(text).split(";"))))


def utc(text: str) -> datetime:
    """A day or a time, in UTC where it names no zone."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadValue("must be a time such as 2026-01-31 or 2026-01-31T12:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise BadValue("must be a time such as 90s, 15m, 2h or 7d")
    return float(int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]])


def language(text: str) -> str:
    if re.fullmatch(r"[a-z]{2,3}(-[a-z]{2,4})?", text.strip().lower()):
        return text.strip().lower()
    raise BadValue("must be the code of a language, such as en")


def handle(text: str) -> str:
    """A handle in lower case, without its @."""
    from tweetcrawler.settings.handles import folded

    found = folded(text)
    if not found:
        raise BadValue(
            "must be a handle (1 to 15 letters, digits and _); "
            "a file of handles is named by --handles"
        )
    return found


def address(text: str) -> tuple[str, int]:
    """A host and a port; without a host this machine alone."""
    host, _, port = text_of(text.strip()).rpartition(":")
    try:
        return host.strip("[]") or "127.0.0.1", whole(0, 65535)(port)
    except BadValue:
        raise BadValue("must be a port such as 9464, or a host and a port") from None


def api_url(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text_of(text.strip()))
        usable = (
            parts.scheme in ("http", "https")
            and parts.port != 0
            and not re.search(r"\s", text.strip())
        )
    except ValueError:  # a port that is no number, brackets that are no address
        usable = False
    if not usable or not parts.hostname:
        raise BadValue("must be a URL such as https://api.x.com")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadValue("must be a URL without user, password, ? and #")
    # OAuth 2.0 tokens are sent as they are, so anybody on the way could read them.
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise BadValue(
            "must begin with https, since keys would travel readable; "
            "http is for servers on this machine"
        )
    return parts.geturl().rstrip("/")


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
