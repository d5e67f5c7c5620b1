"""Authentication: keys from the seed, and the check of tokens and signatures."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from tweetcrawler.sandbox.dice import Dice

_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
KNOWN_HOSTS = ("https://api.twitter.com", "https://api.x.com")
BEARER = "OAuth 2.0 Application-Only"
USER = "OAuth 1.0a User Context"
USER_2 = "OAuth 2.0 User Context"


@dataclass(slots=True)
class Credential:
    """One row of the auth CSV; several may belong to one app, several apps to one project."""

    name: str
    app: str
    project: str
    consumer_key: str
    consumer_secret: str
    access_token: str
    access_token_secret: str
    bearer_token: str
    owner: str
    revoked: bool = False


@dataclass(slots=True, frozen=True)
class Caller:
    """An accepted request's credential, and whether it came as the app or as a user."""

    credential: Credential
    kind: str
    """app or user"""

    @property
    def bucket(self) -> str:
        return (
            self.credential.app
            if self.kind == "app"
            else self.credential.access_token.partition("-")[0]
        )

    @property
    def used(self) -> str:
        return BEARER if self.kind == "app" else USER


class Keys:
    """All credentials of the server."""

    def __init__(
        self, seed: str, count: int, *, shared_app: bool = False, shared_project: bool = False
    ) -> None:
        self.all = [
            _credential(seed, number, shared_app, shared_project) for number in range(1, count + 1)
        ]
        self._by_name = {credential.name: credential for credential in self.all}
        self._by_token = {credential.access_token: credential for credential in self.all}
        # Reversed, so that of the tokens of one app the first stands for its bearer.
        self._by_bearer = {credential.bearer_token: credential for credential in reversed(self.all)}
        self._by_consumer = {
            credential.consumer_key: credential for credential in reversed(self.all)
        }

    def named(self, name: str) -> Credential | None:
        return self._by_name.get(name)

    def caller(self, method: str, host: str, raw_path: str, authorization: str) -> Caller | None:
        """The sender of a request with this header.

        None when the keys are unknown, revoked or wrongly used.

        `raw_path` is the path with its query as it was sent. A signature may be over this
        server's URL or over X's.
        """
        scheme, _, rest = authorization.partition(" ")
        if scheme.lower() == "bearer":
            credential = self._by_bearer.get(rest.strip())
            return (
                None
                if credential is None or self._app_revoked(credential)
                else Caller(credential, "app")
            )
        if scheme.lower() == "oauth":
            return self._signed(method, host, raw_path, rest)
        return None

    def claimed(self, authorization: str) -> Credential | None:
        """Whose keys the header holds, whether or not they are accepted; for the books."""
        scheme, _, rest = authorization.partition(" ")
        match scheme.lower():
            case "bearer":
                return self._by_bearer.get(rest.strip())
            case "oauth":
                return self._by_token.get(_oauth_parameters(rest).get("oauth_token", ""))
            case "basic":
                return self._by_consumer.get(_consumer_keys(rest)[0])
        return None

    def regenerate(self, credential: Credential) -> None:
        """Gives the credential's app another bearer token; the old one ends."""
        self._by_bearer.pop(credential.bearer_token, None)
        bearer = credential.bearer_token[::-1]
        for other in self.all:
            if other.app == credential.app:
                other.bearer_token = bearer
        self._by_bearer[bearer] = credential

    def bearer_for(self, authorization: str) -> str | None:
        """The app's bearer token for HTTP Basic with its key and secret; None if wrong."""
        scheme, _, rest = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        key, secret = _consumer_keys(rest)
        credential = self._by_consumer.get(key)
        if credential is None or self._app_revoked(credential):
            return None
        return (
            credential.bearer_token
            if hmac.compare_digest(credential.consumer_secret, secret)
            else None
        )

    def _app_revoked(self, credential: Credential) -> bool:
        # Tokens of one app share its bearer: it is good while any of them is.
        return all(other.revoked for other in self.all if other.app == credential.app)

    def _signed(self, method: str, host: str, raw_path: str, rest: str) -> Caller | None:
        given = _oauth_parameters(rest)
        credential = self._by_token.get(given.get("oauth_token", ""))
        if (
            credential is None
            or credential.revoked
            or given.get("oauth_consumer_key") != credential.consumer_key
            or given.get("oauth_signature_method") != "HMAC-SHA1"
        ):
            return None
        signature = given.pop("oauth_signature", "")
        path, _, query = raw_path.partition("?")
        parameters = [*parse_qsl(query, keep_blank_values=True), *given.items()]
        # OAuth 1.0a encodes names and values, joins them, and encodes the whole once more; only
        # the unreserved characters of RFC 3986 stay as they are.
        text = quote(
            "&".join(
                f"{name}={value}"
                for name, value in sorted(
                    (quote(name, safe="~"), quote(value, safe="~")) for name, value in parameters
                )
            ),
            safe="~",
        )
        consumer_secret = quote(credential.consumer_secret, safe="~")
        token_secret = quote(credential.access_token_secret, safe="~")
        secret = f"{consumer_secret}&{token_secret}"
        # A client behind a rewriting adapter signs the URL that it believes in, and that is X's.
        for base in (f"http://{host}", *KNOWN_HOSTS):
            signed = f"{method}&{quote((base + path), safe='~')}&{text}"
            digest = hmac.digest(secret.encode(), signed.encode(), hashlib.sha1)
            if hmac.compare_digest(base64.b64encode(digest).decode(), signature):
                return Caller(credential, "user")
        return None


def write_csv(path: Path, credentials: list[Credential]) -> None:
    """The auth CSV, readable by its owner only.

    A reader sees the old file or the whole new one.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "consumer_key",
            "consumer_secret",
            "access_token",
            "access_token_secret",
            "bearer_token",
            "name",
        ]
    )
    for one in credentials:
        writer.writerow(
            [
                one.consumer_key,
                one.consumer_secret,
                one.access_token,
                one.access_token_secret,
                one.bearer_token,
                one.name,
            ]
        )
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}."
    )  # mkstemp makes it 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text.getvalue())
    Path(temporary).replace(path)


def _consumer_keys(encoded: str) -> tuple[str, str]:
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    except ValueError:
        return "", ""
    return unquote(key), unquote(secret)


def _oauth_parameters(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name.startswith("oauth_"):
            found[unquote(name)] = unquote(value.strip().strip('"'))
    return found


def _credential(seed: str, number: int, shared_app: bool, shared_project: bool) -> Credential:
    app_number = 1 if shared_app else number
    project_number = 1 if shared_project or shared_app else number
    app = Dice(f"{seed} app {app_number}".encode())
    user = Dice(f"{seed} token {number}".encode())
    key, secret, bearer = _signs(app, 25), _signs(app, 50), _signs(app, 70)
    owner = f"owner_{number}"
    token = f"{1_400_000_000_000_000_000 + user.wide() % 10**17}-{_signs(user, 30)}"
    return Credential(
        name=f"c{number}",
        app=str(20_000_000 + app_number * 37),
        project=str(1_500_000_000_000_000_000 + project_number),
        consumer_key=key,
        consumer_secret=secret,
        access_token=token,
        access_token_secret=_signs(user, 45),
        # X hands its bearer tokens out percent-encoded, and takes them only so.
        bearer_token=f"AAAAAAAAAAAAAAAAAAAAA{bearer[:40]}%2B{bearer[40:]}%3D",
        owner=owner,
    )


def _signs(dice: Dice, count: int) -> str:
    return "".join(dice.pick(_SIGNS) for _ in range(count))
