"""One table of X's answers: whose trouble each of them is, and what follows from it.

An answer that gives no page is the trouble of one of these: the request as it was put, the
target that was asked for, the credential, one endpoint for that credential, the account that
pays, the window, or X itself. Each has an error of ours, which `permits` and the kinds of work
turn into consequences. The rule for all that stands in no row: it is X's trouble. Then the
request is tried again, and nobody is put to rest for it.

Everything here is a pure function of status, parsed body and headers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tweetcrawler.errors import (
    CapReached,
    CredentialRefused,
    EndpointRefused,
    Overloaded,
    RequestRefused,
    TargetRefused,
    WindowClosed,
    XError,
    XUnavailable,
)
from tweetcrawler.windows import Rate

# Codes of v1.1 that v2 still sends for the caller's own account: suspended, locked, app
# suspended, and keys that X does not know or has withdrawn.
_CALLER_CODES: Final = frozenset({32, 64, 89, 326, 416})
# The keys are good, but not for this endpoint: no permission, and "a subset of endpoints".
_PLAN_CODES: Final = frozenset({220, 453})
# 413, 414, 431: the request is longer than X, or a machine in between, takes it.
_REQUEST_STATUSES: Final = frozenset({400, 413, 414, 422, 431})
_TEXT_MAX: Final = 300


@dataclass(frozen=True)
class Answer:
    """An answer of X that is no page: its status, its JSON object and what headers said.

    `body` is None where the answer holds no JSON object, as the page of a proxy does.
    `server_time_s` is the answer's own `Date` in seconds since 1970.
    """

    status: int
    body: Mapping[str, Any] | None = None
    rate: Rate | None = None
    server_time_s: float = 0.0

    @property
    def kind(self) -> str:
        """Last part of the problem's type; its host has changed, its name has not."""
        return kind_of(self.body or {})

    @property
    def title(self) -> str:
        return str((self.body or {}).get("title") or "")

    @property
    def codes(self) -> frozenset[int]:
        """Codes of v1.1 among the errors."""
        errors = (self.body or {}).get("errors")
        found = errors if isinstance(errors, list) else []
        codes = [error.get("code") for error in found if isinstance(error, dict)]
        return frozenset(code for code in codes if isinstance(code, int))

    @property
    def sentence(self) -> str:
        """What X says, for the operator."""
        said = _detail(self.body or {})
        return f"X answers {self.status}" + (f" ({said})" if said else "")

    def as_error(self, error: type[XError]) -> XError:
        """This answer as an error of a kind that takes no more than the sentence."""
        return error(self.sentence, rate=self.rate, status=self.status)


# -- the table ---------------------------------------------------------------------------------

Judge = Callable[[Answer], XError | TargetRefused]


def _credits(answer: Answer) -> XError:
    return CapReached(
        f"{answer.sentence}: the account has no credits",
        reason="credits",
        rate=answer.rate,
        status=answer.status,
    )


def _cap(answer: Answer) -> XError:
    daily = str((answer.body or {}).get("period")).lower() == "daily"
    return CapReached(
        answer.sentence,
        for_s=until_next_period(answer.server_time_s, daily=daily),
        daily=daily,
        rate=answer.rate,
        status=answer.status,
    )


def _target(answer: Answer) -> XError | TargetRefused:
    known = state_of(answer.body or {})
    if known is None:
        return answer.as_error(XUnavailable)
    return TargetRefused(*known, rate=answer.rate)


def _is_json(answer: Answer) -> bool:
    return answer.body is not None


# Read from the top: the first row that fits decides. Each row is (whose trouble it is, the
# test, the error). X tells four kinds of 429 and two of 402 apart by title or type only.
TABLE: Final[Sequence[tuple[str, Callable[[Answer], bool], Judge]]] = (
    (
        "account",
        lambda a: _is_json(a) and (a.status == 402 or a.kind in ("credits", "credits-depleted")),
        _credits,
    ),
    (
        "account",
        lambda a: a.title in ("UsageCapExceeded", "SpendCapReached") or a.kind == "usage-capped",
        _cap,
    ),
    # A day's limit that is used up closes longer than the window beside it, which has permits
    # left: going slower would send request after request into a closed day.
    (
        "window",
        lambda a: a.status == 429 and _day_is_over(a.rate),
        lambda a: a.as_error(WindowClosed),
    ),
    (
        "window",
        lambda a: a.status == 429 and a.rate is not None and a.rate.remaining > 0,
        lambda a: a.as_error(Overloaded),
    ),
    (
        "window",
        lambda a: a.status == 429 and (_is_json(a) or a.rate is not None),
        lambda a: a.as_error(WindowClosed),
    ),
    # The page of a proxy or of Cloudflare says nothing of keys, users or requests.
    ("X", lambda a: not _is_json(a), lambda a: a.as_error(XUnavailable)),
    ("credential", lambda a: a.status == 401, lambda a: a.as_error(CredentialRefused)),
    (
        "credential",
        lambda a: a.status == 403 and (a.kind == "user-suspended" or bool(a.codes & _CALLER_CODES)),
        lambda a: a.as_error(CredentialRefused),
    ),
    (
        "endpoint",
        lambda a: (
            a.status == 403
            and (
                a.kind in ("client-forbidden", "unsupported-authentication")
                or bool(a.codes & _PLAN_CODES)
            )
        ),
        lambda a: a.as_error(EndpointRefused),
    ),
    (
        "target",
        lambda a: (
            a.status == 403 and a.kind in ("not-authorized-for-resource", "resource-not-found")
        ),
        _target,
    ),
    (
        "request",
        lambda a: a.status in _REQUEST_STATUSES,
        lambda a: a.as_error(RequestRefused),
    ),
)


def judged(answer: Answer) -> XError | TargetRefused:
    """Error that an answer with a status other than 200 means; `XUnavailable` if unknown.

    404, 408, 409 and 425 are among the unknown: on the endpoints that are read here, X gives
    them for its own reasons only. A user that is gone is a 200 with an error inside.
    """
    for _, fits, error in TABLE:
        if fits(answer):
            return error(answer)
    return answer.as_error(XUnavailable)


def whose(answer: Answer) -> str:
    """Whose trouble an answer is: a word of `TABLE`, "X" for all that is not known."""
    return next((name for name, fits, _ in TABLE if fits(answer)), "X")


def _day_is_over(rate: Rate | None) -> bool:
    return rate is not None and rate.day_remaining is not None and rate.day_remaining <= 0


# -- errors inside a 200 -------------------------------------------------------------------------


def state_of(error: Mapping[str, Any]) -> tuple[str, str] | None:
    """State of a user or post and X's reason, from one partial error; None if unknown.

    The states are "missing", "suspended" and "protected". Suspended accounts come with the
    type of missing ones; only the title differs. All other types, such as `resource-unavailable`
    or an "Internal Error", say nothing of the user: X could not answer.
    """
    reason = cleaned(str(error.get("detail") or error.get("title") or "X gives no reason"))
    if kind_of(error) == "not-authorized-for-resource":
        return "protected", reason
    if kind_of(error) == "resource-not-found":
        return ("suspended" if error.get("title") == "Forbidden" else "missing"), reason
    return None


def said(error: Mapping[str, Any]) -> str:
    """The words of a partial error, for the operator."""
    return cleaned(str(error.get("title") or error.get("detail") or "no reason"))


def names(error: Mapping[str, Any]) -> frozenset[str]:
    """The ids and names that a partial error is about, in lower case."""
    values = (error.get("value"), error.get("resource_id"))
    return frozenset(str(value).lower() for value in values if value not in (None, ""))


def target_trouble(
    errors: Sequence[Mapping[str, Any]], subject: str, rate: Rate | None
) -> XError | TargetRefused:
    """Error of a 200 that holds errors and nothing else, asked for by the id `subject`.

    The target is refused only by an error that names it. A user who is mentioned somewhere
    may be suspended without harm to the one that was asked for.
    """
    for error in errors:
        known = state_of(error)
        if known is not None and subject.lower() in names(error):
            return TargetRefused(*known, rate=rate)
    return no_page(f"gives no data ({_detail({'errors': list(errors)})})", rate, sold=False)


def no_page(why: str, rate: Rate | None, *, sold: bool) -> XUnavailable:
    """Error of a 200 that is no page; `sold` says that it holds something X charges for."""
    error = XUnavailable(f"X's answer {why}", rate=rate, status=200)
    error.unsold = not sold
    return error


# -- texts ---------------------------------------------------------------------------------------

# Control characters, line breaks and marks that turn the direction of writing: a name or text
# of X could move a terminal's cursor or show another word than the one that is there.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")


def cleaned(text: str, most: int = _TEXT_MAX) -> str:
    """A text of X for logs, terminal and reports: one line, without control characters."""
    return _UNSAFE.sub(" ", text).strip()[:most]


def kind_of(body: Mapping[str, Any]) -> str:
    """Last part of a problem's type, such as `usage-capped`; "" without one."""
    return str(body.get("type") or "").rstrip("/").rpartition("/")[2]


def _detail(body: Mapping[str, Any]) -> str:
    errors = body.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    said = first.get("message") or first.get("detail") or body.get("detail")
    return cleaned(str(said or first.get("title") or body.get("title") or ""))


def until_next_period(now_s: float, *, daily: bool) -> float:
    """Seconds until X's next day, or next month where the account's own day is unknown."""
    now = time.gmtime(now_s)
    to_midnight = 86_400 - (now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec)
    if daily:
        return float(to_midnight)
    days_after_today = 0
    while time.gmtime(now_s + 86_400 * (days_after_today + 1)).tm_mon == now.tm_mon:
        days_after_today += 1
    return float(to_midnight + 86_400 * days_after_today)
