"""Checks of credentials by requests that X does not charge for.

The app asks for X's own count of its posts, and for posts of the archive before the first
one. The user asks for a post that cannot be. None of these answers holds a post or a user.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweetcrawler.books import usage_of
from tweetcrawler.doctor import NOTE, OK, WARNING, Finding
from tweetcrawler.errors import (
    CredentialRefused,
    EndpointRefused,
    Overloaded,
    ProxyFailed,
    TweetcrawlerError,
    WindowClosed,
    XError,
)
from tweetcrawler.windows import Rate
from tweetcrawler.xapi import CLOCK_TOLERANCE_S, Page, Timeouts, X

if TYPE_CHECKING:
    from tweetcrawler.secret import Credential
    from tweetcrawler.settings import Settings

_REQUEST_S = 8.0
# What examples and documents write where a key belongs.
_PLACEHOLDER = re.compile(r"your[-_ ]|xxxx|<.*>|\.\.\.|change[-_ ]?me|placeholder", re.IGNORECASE)
_KEYS = ("consumer_key", "consumer_secret", "access_token", "access_token_secret", "bearer_token")
# X's caps of posts in a month tell its plans apart.
_PLANS = {3_000_000: "pay-per-use", 2_000_000: "pay-per-use", 1_000_000: "Pro"}
_PLANS |= {15_000: "Basic", 10_000: "Basic", 100: "Free"}
# An id below that of the first post.
_NO_POST = 1


@dataclass(frozen=True)
class Part:
    """One part of a credential, as app or as user, and its way to X."""

    name: str
    x: X


class _Silent(TweetcrawlerError):
    """Nothing answers this credential: its other requests would only wait, too."""


def placeholders(credential: Credential) -> list[str]:
    """The columns of a credential that hold the text of an example."""
    values = {column: getattr(credential, column) for column in _KEYS}
    return [c for c, value in values.items() if value and _PLACEHOLDER.search(value.reveal())]


def alike(credentials: Sequence[Credential]) -> Iterator[Finding]:
    """Names of credentials that differ in case only."""
    seen: dict[str, str] = {}
    for name in (credential.name for credential in credentials):
        other = seen.setdefault(name.lower(), name)
        if other != name:
            yield Finding("names", WARNING, f"credentials {other} and {name} differ in case only")


def examined(
    credential: Credential, settings: Settings, *, as_app: bool
) -> Callable[[], Iterator[Finding]]:
    """A look at one credential; `as_app` is False when another one of its app is asked."""

    def look() -> Iterator[Finding]:
        if columns := placeholders(credential):
            said = f"an example stands in {', '.join(columns)}: write your keys there"
            yield Finding(credential.name, WARNING, said)
            return
        limit_s = min(_REQUEST_S, settings.total_timeout_s)
        timeouts = Timeouts(min(5.0, settings.connect_timeout_s), limit_s, limit_s)
        x = X(credential, api_url=settings.api_url, timeouts=timeouts)
        try:
            if as_app and credential.has_app:
                yield from _app(Part(f"{credential.name} as app", x))
            if credential.has_user_context:
                yield from _user(Part(f"{credential.name} as user", x))
        except _Silent as error:
            yield Finding(credential.name, WARNING, str(error))
            return
        if credential.proxy is not None:
            yield Finding(f"{credential.name} proxy", OK, "leads to X")
        yield _clock(x)

    return look


def _app(part: Part) -> Iterator[Finding]:
    page = yield from _asked(part, lambda: part.x.usage(days=1))
    if page is None:
        return
    usage = usage_of(part.name, page.server_time_s, page.answer)
    said = ["accepted"]
    if usage is not None and usage.cap:
        plan = _PLANS.get(usage.cap, "plan not known")
        said.append(f"{plan}: {usage.used:,} of {usage.cap:,} posts used this month")
    yield Finding(part.name, OK, "; ".join(said) + _window(page))
    try:
        found = part.x.search_all(
            "from:x", since_id=0, until_id=_NO_POST + 1, token=None, max_results=10
        )
    except EndpointRefused:
        yield Finding(f"{part.name}, archive", NOTE, "not in this plan: --archive cannot be used")
    except (Overloaded, WindowClosed):
        # X takes one request a second here, of all programs together.
        yield Finding(f"{part.name}, archive", NOTE, "open; its limit is used up at this moment")
    except XError as error:
        yield Finding(f"{part.name}, archive", WARNING, str(error))
    else:
        yield Finding(f"{part.name}, archive", OK, f"open{_window(found)}")


def _user(part: Part) -> Iterator[Finding]:
    page = yield from _asked(part, lambda: part.x.tweets([_NO_POST], user_auth=True))
    if page is not None:
        yield Finding(part.name, OK, f"accepted{_window(page)}")


def _asked(part: Part, ask: Callable[[], Page]) -> Generator[Finding, None, Page | None]:
    """The page, or None after a finding that says why there is none."""
    try:
        return ask()
    except ProxyFailed as error:
        raise _Silent(f"{error}: correct the column proxy, or start the proxy") from None
    except EndpointRefused as error:
        yield Finding(part.name, WARNING, f"accepted, but not for this request: {error}")
    except XError as error:
        if error.status is None:
            raise _Silent(str(error)) from None
        refused = isinstance(error, CredentialRefused)
        advice = ": make new keys in X's developer console" if refused else ""
        yield Finding(part.name, WARNING, f"{error}{advice}")
    return None


def _clock(x: X) -> Finding:
    if abs(x.ahead_s) <= CLOCK_TOLERANCE_S:
        return Finding("clock", OK, "within two minutes of X's")
    away = f"{abs(x.ahead_s):,.0f} s {'behind' if x.ahead_s > 0 else 'ahead of'} X"
    return Finding("clock", WARNING, f"this machine is {away}: set its clock, best by NTP")


def _window(page: Page) -> str:
    """What the answer said of its rate limit."""
    if not isinstance(page.rate, Rate):
        return ""
    until = time.strftime("%H:%M:%S", time.gmtime(page.server_time_s + page.rate.reset_in_s))
    rate = page.rate
    return f"; {rate.remaining:,} of {rate.limit:,} requests left until {until} UTC"
