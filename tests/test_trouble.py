"""Whose trouble an answer of X is: the table, with the bodies that X and others send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetcrawler.errors import (
    CapReached,
    CredentialRefused,
    EndpointRefused,
    Overloaded,
    RequestRefused,
    TargetRefused,
    WindowClosed,
    XUnavailable,
)
from tweetcrawler.trouble import Answer, cleaned, judged, names, state_of, target_trouble, whose
from tweetcrawler.windows import Rate

OPEN = Rate(limit=900, remaining=800, reset_in_s=600.0)
EMPTY = Rate(limit=900, remaining=0, reset_in_s=600.0)
DAY_OVER = Rate(
    limit=900,
    remaining=899,
    reset_in_s=600.0,
    day_limit=100,
    day_remaining=0,
    day_reset_in_s=7_200.0,
)
TYPE = "https://api.twitter.com/2/problems/"


def problem(kind: str, title: str = "", **more: Any) -> dict[str, Any]:
    return {"type": TYPE + kind, "title": title, "detail": f"says {kind}", **more}


def code(number: int) -> dict[str, Any]:
    return {"errors": [{"code": number, "message": f"code {number}"}]}


BLANK = {"title": "Not Found", "type": "about:blank", "status": 404, "detail": "Not Found"}

ANSWERS: list[tuple[str, int, dict[str, Any] | None, Rate | None, str, type[Exception]]] = [
    (
        "bad parameter",
        400,
        problem("invalid-request", "Invalid Request"),
        OPEN,
        "request",
        RequestRefused,
    ),
    ("URI too long", 414, {"title": "URI Too Long"}, None, "request", RequestRefused),
    (
        "revoked",
        401,
        {"title": "Unauthorized", "type": "about:blank"},
        None,
        "credential",
        CredentialRefused,
    ),
    (
        "caller suspended",
        403,
        problem("user-suspended", "Forbidden"),
        OPEN,
        "credential",
        CredentialRefused,
    ),
    ("code 64", 403, code(64), OPEN, "credential", CredentialRefused),
    ("code 326", 403, code(326), OPEN, "credential", CredentialRefused),
    ("code 416", 403, code(416), OPEN, "credential", CredentialRefused),
    (
        "plan",
        403,
        problem("client-forbidden", "Client Forbidden"),
        OPEN,
        "endpoint",
        EndpointRefused,
    ),
    (
        "kind of token",
        403,
        problem("unsupported-authentication"),
        OPEN,
        "endpoint",
        EndpointRefused,
    ),
    ("v1.1", 403, code(453), OPEN, "endpoint", EndpointRefused),
    ("protected", 403, problem("not-authorized-for-resource"), OPEN, "target", TargetRefused),
    ("unknown 403", 403, {"title": "Forbidden", "type": "about:blank"}, OPEN, "X", XUnavailable),
    ("no credits", 402, problem("credits", "CreditsDepleted"), None, "account", CapReached),
    (
        "newer no credits",
        402,
        problem("credits-depleted", "Payment Required"),
        None,
        "account",
        CapReached,
    ),
    (
        "monthly cap",
        429,
        problem("usage-capped", "UsageCapExceeded", period="Monthly"),
        OPEN,
        "account",
        CapReached,
    ),
    ("spending limit", 403, {"title": "SpendCapReached"}, OPEN, "account", CapReached),
    (
        "window",
        429,
        {"title": "Too Many Requests", "type": "about:blank"},
        EMPTY,
        "window",
        WindowClosed,
    ),
    ("window without body", 429, None, EMPTY, "window", WindowClosed),
    (
        "per second",
        429,
        {"title": "Too Many Requests", "type": "about:blank"},
        OPEN,
        "window",
        Overloaded,
    ),
    (
        "day",
        429,
        {"title": "Too Many Requests", "type": "about:blank"},
        DAY_OVER,
        "window",
        WindowClosed,
    ),
    ("odd 404", 404, BLANK, OPEN, "X", XUnavailable),
    ("empty 404", 404, None, None, "X", XUnavailable),
    ("408", 408, {"title": "Request Timeout"}, None, "X", XUnavailable),
    ("409", 409, problem("conflict", "Conflict"), None, "X", XUnavailable),
    ("425", 425, {"title": "Too Early"}, None, "X", XUnavailable),
    ("a proxy's page", 403, None, None, "X", XUnavailable),
    ("a proxy's log-in", 401, None, None, "X", XUnavailable),
    ("a page that says 400", 400, None, None, "X", XUnavailable),
    (
        "503 as JSON",
        503,
        {"title": "Service Unavailable", "type": "about:blank"},
        OPEN,
        "X",
        XUnavailable,
    ),
    ("502 as HTML", 502, None, None, "X", XUnavailable),
    ("teapot", 418, {"title": "teapot"}, None, "X", XUnavailable),
]


@pytest.mark.parametrize(
    ("status", "body", "rate", "who", "error"),
    [a[1:] for a in ANSWERS],
    ids=[a[0] for a in ANSWERS],
)
def test_each_answer_is_the_trouble_of_one(
    status: int, body: dict[str, Any] | None, rate: Rate | None, who: str, error: type[Exception]
) -> None:
    answer = Answer(status, body, rate, 1_700_000_000.0)
    assert whose(answer) == who
    judgement = judged(answer)
    assert type(judgement) is error
    assert judgement.rate is rate


def test_a_cap_of_a_day_ends_with_the_day() -> None:
    midnight = 1_700_006_400.0
    capped = problem("usage-capped", "UsageCapExceeded", period="Daily")
    error = judged(Answer(429, capped, OPEN, midnight - 3_600))
    assert isinstance(error, CapReached)
    assert (error.daily, error.for_s) == (True, 3_600.0)


def test_state_is_told_by_the_types_that_tell_it() -> None:
    missing = problem("resource-not-found", "Not Found Error")
    suspended = problem("resource-not-found", "Forbidden")
    protected = problem("not-authorized-for-resource", "Authorization Error")
    states = [state_of(each) for each in (missing, suspended, protected)]
    assert [state and state[0] for state in states] == ["missing", "suspended", "protected"]


@pytest.mark.parametrize(
    "error",
    [
        problem("resource-unavailable"),
        problem("internal-error"),
        problem("field-hydration-failure"),
        {"title": "Internal Error", "detail": "Internal Error", "type": "about:blank"},
        {},
    ],
    ids=lambda error: str(error.get("type") or "nothing").rpartition("/")[2],
)
def test_other_types_say_nothing_of_the_user(error: dict[str, Any]) -> None:
    assert state_of(error) is None
    assert isinstance(target_trouble([error], "12", None), XUnavailable)


def test_a_timeline_is_refused_only_by_an_error_that_names_its_user() -> None:
    protected = problem("not-authorized-for-resource", resource_id="12", value="12")
    of_another = problem("not-authorized-for-resource", resource_id="34", value="34")
    assert isinstance(target_trouble([of_another, protected], "12", None), TargetRefused)
    assert isinstance(target_trouble([of_another], "12", None), XUnavailable)


def test_names_are_compared_without_case() -> None:
    assert names({"value": "Ada_X", "resource_id": "ada_x"}) == {"ada_x"}
    assert names({}) == frozenset()


def test_texts_of_x_stay_on_their_line_and_in_their_direction() -> None:
    said = "gone\x1b[2J\r\nERROR fake line\u202ecod\u2066.\u0007"
    assert cleaned(said) == "gone [2J ERROR fake line cod ."
    error = judged(Answer(503, {"title": "x", "detail": said}))
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "title", "detail", "errors", "code", "period", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(status=st.integers(201, 599), body=st.none() | JSON)
def test_any_answer_is_judged(status: int, body: Any) -> None:
    answer = Answer(status, body if isinstance(body, dict) else None)
    assert isinstance(judged(answer), Exception)
    assert state_of(body if isinstance(body, dict) else {}) is None or isinstance(body, dict)


def test_recorded_partial_errors_name_their_posts(recorded: Path) -> None:
    """Real pages: what is said of posts and users in them is understood, every time."""
    seen = 0
    for path in (recorded / "v2").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                page = json.loads(line)
            except ValueError:
                continue
            for error in page.get("errors", []) if isinstance(page, dict) else []:
                if "resource_id" in error:
                    seen += 1
                    assert names(error)
                    assert state_of(error) is not None or "disconnect" in str(error)
    assert seen
