"""Faults on demand: the requests they hit, and the answers they give."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tweetcrawler.sandbox import problems
from tweetcrawler.sandbox.dice import mix
from tweetcrawler.sandbox.problems import Refusal

HTML = (
    b"<!DOCTYPE html><html><head><title>X / ?</title></head>"
    b"<body><h1>Something went wrong</h1></body></html>"
)

ANSWERS = frozenset(
    {
        "status",
        "unauthorized",
        "credits",
        "payment-required",
        "forbidden-plan",
        "forbidden-auth",
        "forbidden-v1",
        "forbidden-spend",
        "not-found-empty",
        "window",
        "cap",
        "per-second",
        "window-without-headers",
        "window-with-remaining",
        "redirect",
        "html-200",
        "json-list-200",
        "errors-200",
        "protected",
        "user-suspended",
        "code",
        "huge-body",
        "deep-json",
        "token-expired",
        "too-many-connections",
    }
)
"""Stand in the place of the answer; nothing is sold."""
PAGES = frozenset(
    {
        "empty-page-with-token",
        "empty-last-page",
        "early-end",
        "short-page",
        "duplicate-page",
        "overlapping-page",
        "unsorted-page",
    }
)
"""Bend a page of posts."""
BODIES = frozenset(
    {
        "unknown-fields",
        "missing-fields",
        "null-fields",
        "nul-text",
        "surrogate-text",
        "big-id",
        "big-count",
        "numeric-ids",
        "long-posts",
    }
)
"""Change the posts in an answer after they were sold."""
HEADERS = frozenset({"text-reset-header", "reset-in-ms", "reset-in-past", "no-rate-headers"})
STREAM = frozenset(
    {
        "stream-close",
        "stream-cut",
        "stream-half-line",
        "stream-silence",
        "stream-disconnect",
        "stream-duplicates",
        "stream-unordered",
        "stream-unknown-line",
        "stream-garbage",
        "stream-rule-without-tag",
        "stream-late",
    }
)
"""Happen on an open line, after `after` posts where one of them ends it."""
TRANSPORT = frozenset(
    {"delay", "black-hole", "slowloris", "truncated-json", "cut-body", "bad-gzip"}
)
NAMES = ANSWERS | PAGES | BODIES | HEADERS | TRANSPORT | STREAM | {"clock-skew"}
BREAKING = frozenset({"slowloris", "truncated-json", "cut-body", "bad-gzip"})
"""What was sold may not have arrived."""
UNCOUNTED = frozenset({"status", "unauthorized", "not-found-empty", "redirect"})
"""Come from in front of X's limits: no request of a window is used up and no headers are sent."""
_STREAM = "/2/tweets/search/stream"
_ONLY_WITH_TOKEN = frozenset({"token-expired"})
_ONLY_GOING_ON = frozenset({"duplicate-page", "overlapping-page"})
_PAGED = frozenset(
    {
        "/2/users/:id/tweets",
        "/2/users/:id/mentions",
        "/2/tweets/search/recent",
        "/2/tweets/search/all",
    }
)
_PAGED_BY = {"early-end": frozenset({"/2/tweets/counts/all"})}


@dataclass(slots=True)
class Met:
    """The parts of a request that a fault can match."""

    endpoint: str
    credential: str
    names: Callable[[], frozenset[str]]
    """folded handles that the request is about"""
    has_token: bool
    goes_on: bool
    kind: str = ""


@dataclass(slots=True)
class Fault:
    """An active fault: for `left` requests, or until a moment of the steady clock, or for good."""

    name: str
    left: int | None = None
    until: float | None = None
    probability: float = 1.0
    endpoint: str | None = None
    username: str | None = None
    credential: str | None = None
    kind: str | None = None
    going_on: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)

    def meets(self, met: Met) -> bool:
        return (
            (self.endpoint is None or self.endpoint == met.endpoint)
            and (self.credential is None or self.credential == met.credential)
            and (self.kind is None or self.kind == met.kind)
            and (met.goes_on or not self.going_on)
            and (self.name not in STREAM or met.endpoint == _STREAM)
            and (self.name not in PAGES or met.endpoint in _PAGED_BY.get(self.name, _PAGED))
            and (self.name not in _ONLY_WITH_TOKEN or met.has_token)
            and (self.name not in _ONLY_GOING_ON or met.goes_on)
            and (self.username is None or self.username in met.names())
        )


class Faults:
    """The faults that are on."""

    def __init__(self, steady: Callable[[], float], seed: str) -> None:
        self._steady = steady
        self._chance = random.Random(seed)  # noqa: S311  faults are no secret, and must repeat
        self._active: list[Fault] = []

    def add(self, wanted: dict[str, Any]) -> Fault:
        """A fault from a control call; ValueError says what is wrong with it."""
        wanted = dict(wanted)
        name = wanted.pop("fault", None)
        if name not in NAMES:
            raise ValueError(f"unknown fault {name!r}; there are {', '.join(sorted(NAMES))}")
        for_s = wanted.pop("for_s", None)
        username = wanted.pop("username", None)
        fault = Fault(
            name=name,
            # One request, unless a number or a time is named: a fault that is forgotten must not
            # outlive its test.
            left=wanted.pop("count", None if for_s is not None else 1),
            until=None if for_s is None else self._steady() + float(for_s),
            probability=float(wanted.pop("probability", 1.0)),
            endpoint=wanted.pop("endpoint", None),
            username=None if username is None else str(username).lower(),
            credential=wanted.pop("credential", None),
            kind=wanted.pop("kind", None),
            going_on=bool(wanted.pop("going_on", False)),
            parameters=wanted,
        )
        self._active.append(fault)
        return fault

    def clear(self) -> None:
        self._active.clear()

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "fault": fault.name,
                "left": fault.left,
                "endpoint": fault.endpoint,
                "username": fault.username,
                "credential": fault.credential,
            }
            | fault.parameters
            for fault in self._active
        ]

    def take(self, met: Met) -> dict[str, dict[str, Any]]:
        """The faults that this request meets, with their parameters.

        Each kind comes only once.
        """
        if not self._active:
            return {}
        now = self._steady()
        self._active = [
            fault
            for fault in self._active
            if (fault.until is None or now < fault.until) and (fault.left is None or fault.left > 0)
        ]
        taken: dict[str, dict[str, Any]] = {}
        for fault in self._active:
            if fault.name in taken or not fault.meets(met):
                continue
            # A request has one answer; the next fault of this sort waits for the next request.
            if fault.name in ANSWERS and taken.keys() & ANSWERS:
                continue
            if fault.probability < 1 and self._chance.random() >= fault.probability:
                continue
            if fault.left is not None:
                fault.left -= 1
            taken[fault.name] = fault.parameters
        return taken


_TITLES = {
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def refusal(
    name: str, wanted: dict[str, Any], *, app: str, supported: list[str], token: str, subject: str
) -> Refusal:
    """The answer of the fault instead of the true one."""
    if name == "status":
        status = int(wanted.get("status", 503))
        # The proxies before X answer in HTML when X itself is away.
        if wanted.get("html"):
            return Refusal(status, HTML, content_type="text/html; charset=utf-8")
        body = problems.plain(status, _TITLES.get(status, "Error"))
        return Refusal(status, body | {k: v for k, v in wanted.items() if k in ("title", "detail")})
    if name == "redirect":
        return Refusal(
            int(wanted.get("status", 302)), b"", headers={"Location": str(wanted["location"])}
        )
    if name == "token-expired":
        return problems.invalid(
            [
                problems.wrong_parameter(
                    "pagination_token",
                    [token],
                    f"Invalid 'pagination_token':'{token}'. The token has expired.",
                )
            ]
        )
    if name == "huge-body":
        # A little more than a reader should take for a page.
        size = int(float(wanted.get("size_mb", 17)) * 2**20)
        return Refusal(
            200, b'{"data":[{"id":"1","text":"' + b"x" * size + b'"}],"meta":{"result_count":1}}'
        )
    if name == "deep-json":
        # Deep enough for a parser that calls itself for each level to run out of stack.
        depth = int(wanted.get("depth", 100_000))
        return Refusal(200, b'{"data":' + b"[" * depth + b"]" * depth + b"}")
    made: dict[str, Callable[[], Refusal]] = {
        "unauthorized": problems.unauthorized,
        "credits": lambda: problems.no_credits(app),
        "payment-required": problems.payment_required,
        "forbidden-plan": lambda: problems.not_in_plan(app),
        "forbidden-auth": lambda: problems.wrong_kind_of_token(
            "OAuth 2.0 Application-Only", supported
        ),
        "forbidden-v1": problems.v1_closed,
        "forbidden-spend": problems.spend_cap,
        # X answers so on paths that it does not know, and on some that it documents.
        "not-found-empty": lambda: Refusal(404, b""),
        "window": problems.window_closed_as_of_old
        if wanted.get("form") == "old"
        else problems.window_closed,
        "cap": lambda: problems.capped(
            app, str(wanted.get("period", "Monthly")), str(wanted.get("scope", "Product"))
        ),
        # The same body as of a used-up window; only the headers, with permits left, tell them
        # apart.
        "per-second": problems.window_closed,
        "window-without-headers": problems.window_closed,
        "window-with-remaining": problems.window_closed,
        "html-200": lambda: Refusal(200, HTML, content_type="text/html; charset=utf-8"),
        "errors-200": lambda: Refusal(200, wanted.get("body", {})),
        "protected": lambda: Refusal(200, {"errors": [problems.protected_user("id", subject)]}),
        "user-suspended": problems.caller_suspended,
        # A line of a program that is gone may count for long.
        "too-many-connections": problems.too_many_connections,
        "code": lambda: problems.of_code(int(wanted["number"])),
        "json-list-200": lambda: Refusal(200, b'[{"id":"1"}]'),
    }
    return made[name]()


def bend_headers(taken: dict[str, dict[str, Any]], headers: dict[str, str]) -> None:
    """Changes the rate-limit headers in place as the faults say."""
    reset = headers.get("x-rate-limit-reset")
    if "window-without-headers" in taken or "no-rate-headers" in taken:
        for name in [name for name in headers if "-limit" in name]:
            del headers[name]
    elif reset is None:
        return
    elif "text-reset-header" in taken:
        headers["x-rate-limit-reset"] = str(taken["text-reset-header"].get("text", "soon"))
    elif "reset-in-ms" in taken:
        # A client that takes these for seconds would wait for 50,000 years.
        headers["x-rate-limit-reset"] = f"{reset}000"
    elif "reset-in-past" in taken:
        headers["x-rate-limit-reset"] = str(
            int(reset) - int(taken["reset-in-past"].get("by_s", 7200))
        )
    elif "window" in taken:
        headers["x-rate-limit-remaining"] = "0"


def bend_body(taken: dict[str, dict[str, Any]], body: bytes) -> bytes:
    """The body with its posts changed as the faults say.

    Plain JSON escapes carry characters that UTF-8 cannot.
    """
    names = taken.keys() & BODIES
    if not names:
        return body
    page = json.loads(body)
    data = page.get("data", [])
    for number, thing in enumerate(data if isinstance(data, list) else [data]):
        for name in names - {"long-posts"}:
            _BENDERS[name](thing, number)
        if "long-posts" in names:
            _lengthen(thing, int(taken["long-posts"].get("times", 1)))
    return json.dumps(page, ensure_ascii="surrogate-text" in names).encode()


def _unknown(thing: dict[str, Any], number: int) -> None:
    thing |= {"a_field_of_2031": {"deep": [number, None, "?"]}, "rating": 4.5}
    thing.setdefault("public_metrics", {})["applause_count"] = number
    thing.setdefault("entities", {})["holograms"] = [{"start": 0, "end": 1}]


def _missing(thing: dict[str, Any], number: int) -> None:
    for name in sorted(thing)[number % 3 :: 3]:
        if name not in ("id", "text"):
            del thing[name]


def _null(thing: dict[str, Any], number: int) -> None:
    for name in sorted(thing)[number % 2 :: 2]:
        if name not in ("id", "text"):
            thing[name] = None


def _nul(thing: dict[str, Any], _number: int) -> None:
    # PostgreSQL stores any sign in a text but this one.
    _in_text(thing, "\0")


def _surrogate(thing: dict[str, Any], _number: int) -> None:
    # Half of an emoji: JSON can say it, UTF-8 cannot.
    _in_text(thing, "\ud83d")


def _in_text(thing: dict[str, Any], sign: str) -> None:
    for holder in (thing, thing.get("note_tweet") or {}):
        if "text" in holder:
            holder["text"] = f"{holder['text']} before{sign}after"


def _big_id(thing: dict[str, Any], number: int) -> None:
    if number % 10 == 0:
        # One more than a bigint holds.
        thing["id"] = str(2**63 + mix(int(thing["id"]), 9) % 10**6)


def _big_count(thing: dict[str, Any], number: int) -> None:
    if number % 10 == 0:
        thing.setdefault("public_metrics", {})["like_count"] = 2**63 + number


def _lengthen(thing: dict[str, Any], times: int) -> None:
    """The longest text that X allows, of characters of three bytes each; or some times that."""
    thing["note_tweet"] = {"text": "\N{CJK UNIFIED IDEOGRAPH-9577}" * 25_000 * times}


def _numeric(thing: Any, number: int) -> None:
    if isinstance(thing, dict):
        for name, value in thing.items():
            if (
                (name == "id" or name.endswith("_id"))
                and isinstance(value, str)
                and value.isdigit()
            ):
                thing[name] = int(value)
            else:
                _numeric(value, number)
    elif isinstance(thing, list):
        for value in thing:
            _numeric(value, number)


_BENDERS: dict[str, Callable[[dict[str, Any], int], None]] = {
    "unknown-fields": _unknown,
    "missing-fields": _missing,
    "null-fields": _null,
    "nul-text": _nul,
    "surrogate-text": _surrogate,
    "big-id": _big_id,
    "big-count": _big_count,
    "numeric-ids": _numeric,
}


async def reset(request: web.BaseRequest) -> None:
    """Ends the connection of a request by a reset, not in order."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:  # no lingering: the client sees a reset, not an orderly end
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.02)
        transport.abort()
