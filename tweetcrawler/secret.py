"""Secrets that do not show themselves, credentials made of them, and their files.

No sentence made here quotes what a file holds: a file may always be the wrong one, with a
key in the place of a name.
"""

from __future__ import annotations

import codecs
import logging
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tweetcrawler.errors import ConfigurationError

_HIDDEN = "***"
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# Keys and tokens have digits or are longer; names of options and columns are neither.
_HARMLESS_NAME = re.compile(r"[A-Za-z_ -]{1,24}")
_LONGEST_KEY = 64  # bytes that blake2b takes as a key


# Loggers of libraries that print what they send: at DEBUG tweepy prints the token.
_TALKATIVE = ("tweepy", "urllib3", "requests_oauthlib", "oauthlib")


def silence_libraries() -> None:
    """Keeps the keys out of the log of this process, at whatever level it is."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class Secret:
    """A text that is shown as `***` in print, format and log; `reveal` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


@dataclass(frozen=True)
class Credential:
    """One named set of keys. The name may be logged; the rest shows itself as `***`.

    The keys come in pairs, and there is at least the consumer's pair or a bearer token.
    """

    name: str
    consumer_key: Secret | None = None
    consumer_secret: Secret | None = None
    access_token: Secret | None = None
    access_token_secret: Secret | None = None
    bearer_token: Secret | None = None
    proxy: Secret | None = None

    @property
    def has_user_context(self) -> bool:
        """Whether it can sign requests as a user (OAuth 1.0a)."""
        return self.consumer_key is not None and self.access_token is not None

    @property
    def has_app(self) -> bool:
        """Whether it can act as its app, with a bearer token or with keys to get one."""
        return self.bearer_token is not None or self.consumer_key is not None

    @property
    def user_fingerprint(self) -> str | None:
        """32 hexadecimal digits that stand for the user's token; None without user context.

        Keyed by the secret half, so that nobody can test a guess of the public half without it.
        """
        if not self.has_user_context:
            return None
        return _fingerprint(self.access_token_secret, self.consumer_key, self.access_token)

    @property
    def proxy_fingerprint(self) -> str:
        """32 hexadecimal digits for this credential's proxy; empty without one."""
        if self.proxy is None:
            return ""
        key = self.access_token_secret or self.consumer_secret or self.bearer_token
        return _fingerprint(key, self.proxy)

    @property
    def app_fingerprint(self) -> str:
        """32 hexadecimal digits for the app; of its bearer token if only that is known."""
        if self.consumer_key is None:
            return _fingerprint(self.bearer_token)
        return _fingerprint(self.consumer_secret, self.consumer_key)


def read_text(path: Path, purpose: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark; the mark is left out.

    Errors: ConfigurationError names the file, the `purpose` it was wanted for, and what to do.
    """
    content = _read_bytes(path, purpose)
    try:
        return content.decode("utf-16" if content.startswith(UTF_16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    raise ConfigurationError(
        f"{path}, line {line}: this is no text in UTF-8; save the file as UTF-8."
    )


def read_by_others(path: Path) -> str | None:
    """A warning when other users of this machine can read or change the file, else None."""
    mode = path.stat().st_mode & 0o777
    if not mode & 0o077:
        return None
    quoted = shlex.quote(str(path))
    return f"{path} holds secrets and is open to others (mode {mode:o}): chmod 600 {quoted}"


def harmless_name(text: str) -> str | None:
    """The text in quotes when it can be told that it is a name and no secret, else None."""
    return f"'{text}'" if _HARMLESS_NAME.fullmatch(text) else None


def _read_bytes(path: Path, purpose: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        reason = "is not there; check the path, or write the file"
    except IsADirectoryError:
        reason = "is a folder; name the file in it"
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); check who may read it"
    raise ConfigurationError(f"The {purpose} {path} {reason}.")


def _fingerprint(key: Secret | None, *public: Secret | None) -> str:
    from hashlib import blake2b  # with OpenSSL: a thirtieth of the time of `--help`

    secret = key.reveal().encode() if key else b""
    if len(secret) > _LONGEST_KEY:
        secret = blake2b(secret).digest()
    text = "\n".join(part.reveal() for part in public if part)
    return blake2b(text.encode(), key=secret, digest_size=16).hexdigest()
