"""Each fault does what its name says.

To the requests that it is meant for, as often as was asked.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from crawls import wait_until
from sandbox_server import Sandbox

from tweetcrawler.sandbox.faults import NAMES

HELD = {"max_results": "100", "tweet.fields": "created_at,public_metrics,note_tweet,author_id"}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox("--posts", "90-90", "--short-pages", "0", "--plan", "unlimited") as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Iterator[Sandbox]:
    running.control("POST", "/sandbox/books/reset")
    yield running
    running.control("DELETE", "/sandbox/faults")
    running.control("POST", "/sandbox/clock", {"skew_s": 0})


def timeline(sandbox: Sandbox, name: str = "ada", **parameters: str) -> requests.Response:
    return sandbox.get(f"/2/users/{sandbox.id_of(name)}/tweets", HELD | parameters)


@pytest.mark.parametrize(
    ("fault", "more", "status", "title"),
    [
        ("status", {}, 503, "Service Unavailable"),
        ("status", {"status": 500}, 500, "Internal Server Error"),
        ("unauthorized", {}, 401, "Unauthorized"),
        ("credits", {}, 402, "CreditsDepleted"),
        ("payment-required", {}, 402, "Payment Required"),
        ("forbidden-plan", {}, 403, "Client Forbidden"),
        ("forbidden-auth", {}, 403, "Unsupported Authentication"),
        ("forbidden-spend", {}, 403, "SpendCapReached"),
        ("user-suspended", {}, 403, "Forbidden"),
        ("window", {}, 429, "Too Many Requests"),
        ("per-second", {}, 429, "Too Many Requests"),
        ("window-with-remaining", {}, 429, "Too Many Requests"),
        ("window-without-headers", {}, 429, "Too Many Requests"),
        ("cap", {}, 429, "UsageCapExceeded"),
        ("cap", {"period": "Daily", "scope": "Account"}, 429, "UsageCapExceeded"),
    ],
)
def test_a_refusal_comes_once_and_sells_nothing(
    sandbox: Sandbox,
    fault: str,
    more: dict[str, Any],
    status: int,
    title: str,
) -> None:
    sandbox.fault(fault, **more)
    answer = timeline(sandbox)
    assert (answer.status_code, answer.json()["title"]) == (status, title)
    if fault == "cap":
        assert answer.json()["period"] == more.get("period", "Monthly")
    assert sandbox.books()["posts_sold"] == 0
    assert timeline(sandbox).status_code == 200
    assert sandbox.books()["faults"] == {fault: 1}


def test_the_429s_differ_in_their_headers_only(sandbox: Sandbox) -> None:
    remaining: dict[str, int | None] = {}
    for fault in ("window", "per-second", "cap", "window-with-remaining", "window-without-headers"):
        sandbox.fault(fault)
        found = timeline(sandbox).headers.get("x-rate-limit-remaining")
        remaining[fault] = None if found is None else int(found)
    assert remaining["window"] == 0
    assert remaining["window-without-headers"] is None
    assert all(remaining[fault] for fault in ("per-second", "cap", "window-with-remaining"))


def test_pages_of_other_kinds(sandbox: Sandbox) -> None:
    sandbox.fault("status", status=502, html=True)
    assert timeline(sandbox).headers["Content-Type"].startswith("text/html")
    sandbox.fault("html-200")
    answer = timeline(sandbox)
    assert (answer.status_code, answer.text[:15]) == (200, "<!DOCTYPE html>")
    sandbox.fault("json-list-200")
    assert isinstance(timeline(sandbox).json(), list)
    sandbox.fault("not-found-empty")
    answer = timeline(sandbox)
    assert (answer.status_code, answer.content) == (404, b"")
    sandbox.fault("forbidden-v1")
    assert timeline(sandbox).json()["errors"][0]["code"] == 453


def test_a_200_may_hold_errors_alone(sandbox: Sandbox) -> None:
    sandbox.fault("protected")
    answer = timeline(sandbox)
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["title"]) == (200, "Authorization Error")
    assert "data" not in answer.json()
    body = {"errors": [{"title": "Internal Error"}]}
    sandbox.fault("errors-200", body=body)
    answer = timeline(sandbox)
    assert (answer.status_code, answer.json()) == (200, body)
    assert sandbox.books()["posts_sold"] == 0


def test_posts_can_be_as_long_as_x_allows_and_longer(sandbox: Sandbox) -> None:
    for times in (1, 2):
        sandbox.fault("long-posts", times=times)
        posts = timeline(sandbox, max_results="5").json()["data"]
        assert [len(post["note_tweet"]["text"]) for post in posts] == [25_000 * times] * 5


def test_a_fault_meets_only_the_endpoint_the_user_and_the_credential_it_names(
    sandbox: Sandbox,
) -> None:
    sandbox.fault(
        "status", endpoint="/2/users/:id/tweets", username="Ada", credential="c1", count=5
    )
    assert sandbox.get("/2/users/by", {"usernames": "ada"}).status_code == 200
    assert timeline(sandbox, "grace").status_code == 200
    path = f"/2/users/{sandbox.id_of('ada')}/tweets"
    assert sandbox.get(path, credential=1).status_code == 200
    assert sandbox.get(path).status_code == 503
    assert sandbox.control("GET", "/sandbox/faults")["faults"][0]["left"] == 4


def test_a_fault_can_be_meant_for_one_name_of_a_lookup(sandbox: Sandbox) -> None:
    sandbox.fault("status", username="ada")
    assert sandbox.get("/2/users/by", {"usernames": "grace,linus"}).status_code == 200
    assert sandbox.get("/2/users/by", {"usernames": "grace,ADA"}).status_code == 503


def test_a_fault_can_last_for_a_time() -> None:
    with Sandbox("--posts", "90-90") as own:
        own.control("POST", "/sandbox/clock", {"stop": True})
        own.fault("status", for_s=30)
        assert [timeline(own).status_code for _ in range(3)] == [503] * 3
        own.control("POST", "/sandbox/clock", {"pass_s": 29})
        assert timeline(own).status_code == 503
        own.control("POST", "/sandbox/clock", {"pass_s": 2})
        assert timeline(own).status_code == 200


def test_a_fault_can_happen_now_and_then(sandbox: Sandbox) -> None:
    sandbox.fault("status", probability=0.5, count=1000)
    statuses = [sandbox.get("/2/users/by", {"usernames": "ada"}).status_code for _ in range(40)]
    assert 5 < statuses.count(503) < 35


def test_faults_can_be_cleared_and_unknown_ones_are_refused(sandbox: Sandbox) -> None:
    sandbox.fault("status", count=100)
    sandbox.control("DELETE", "/sandbox/faults")
    assert timeline(sandbox).status_code == 200
    with pytest.raises(ValueError, match=r"unknown fault 'gremlins'; there are .*slowloris"):
        sandbox.fault("gremlins")


def test_an_empty_page_with_a_token_leads_on_to_the_posts(sandbox: Sandbox) -> None:
    sandbox.fault("empty-page-with-token", count=3)
    parameters: dict[str, str] = {}
    for _ in range(3):
        page = timeline(sandbox, **parameters).json()
        assert page.keys() == {"meta"}
        assert page["meta"]["result_count"] == 0
        parameters = {"pagination_token": page["meta"]["next_token"]}
    page = timeline(sandbox, **parameters).json()
    assert [tweet["id"] for tweet in page["data"]] == sandbox.truth_ids("ada")["reachable"]


def test_an_empty_last_page_follows_a_token(sandbox: Sandbox) -> None:
    sandbox.fault("empty-last-page")
    page = timeline(sandbox).json()
    assert page["meta"]["result_count"] == 90
    last = timeline(sandbox, pagination_token=page["meta"]["next_token"]).json()
    assert last["meta"]["result_count"] == 0
    assert "next_token" not in last["meta"]


@pytest.mark.parametrize(("fault", "repeated"), [("duplicate-page", 20), ("overlapping-page", 4)])
@pytest.mark.parametrize("by", ["pagination_token", "until_id"])
def test_posts_of_the_page_before_come_again(
    sandbox: Sandbox, fault: str, repeated: int, by: str
) -> None:
    truth = sandbox.truth_ids("ada")["reachable"]
    first = timeline(sandbox, max_results="20").json()
    sandbox.fault(fault)
    on = {
        by: first["meta"]["next_token"] if by == "pagination_token" else first["meta"]["oldest_id"]
    }
    again = timeline(sandbox, max_results="20", **on).json()
    assert [tweet["id"] for tweet in again["data"]] == truth[20 - repeated : 40 - repeated]
    on = {"pagination_token": again["meta"]["next_token"]}
    after = timeline(sandbox, max_results="20", **on).json()
    assert [tweet["id"] for tweet in after["data"]] == truth[40 - repeated : 60 - repeated]


def test_a_page_can_come_unsorted(sandbox: Sandbox) -> None:
    sandbox.fault("unsorted-page")
    page = timeline(sandbox).json()
    ids = [int(tweet["id"]) for tweet in page["data"]]
    assert ids != sorted(ids, reverse=True)
    assert sorted(map(str, ids), key=int, reverse=True) == sandbox.truth_ids("ada")["reachable"]
    assert page["meta"]["oldest_id"] == str(min(ids))


def test_a_token_can_expire(sandbox: Sandbox) -> None:
    sandbox.fault("token-expired")
    page = timeline(sandbox, max_results="20").json()
    answer = timeline(sandbox, max_results="20", pagination_token=page["meta"]["next_token"])
    assert answer.status_code == 400
    assert "pagination_token" in answer.json()["errors"][0]["parameters"]


@pytest.mark.parametrize(
    ("fault", "odd"),
    [
        ("unknown-fields", lambda tweet: "a_field_of_2031" in tweet),
        ("missing-fields", lambda tweet: "created_at" not in tweet),
        ("null-fields", lambda tweet: tweet.get("public_metrics", 1) is None),
        ("nul-text", lambda tweet: "\0" in tweet["text"]),
        ("surrogate-text", lambda tweet: "\ud83dafter" in tweet["text"]),
        ("big-id", lambda tweet: int(tweet["id"]) >= 2**63),
        ("big-count", lambda tweet: tweet["public_metrics"].get("like_count", 0) >= 2**63),
        (
            "numeric-ids",
            lambda tweet: isinstance(tweet["id"], int) and isinstance(tweet["author_id"], int),
        ),
    ],
)
def test_posts_can_hold_what_they_should_not(sandbox: Sandbox, fault: str, odd: Any) -> None:
    sandbox.fault(fault)
    assert any(map(odd, json.loads(timeline(sandbox).content)["data"]))
    assert not any(map(odd, timeline(sandbox).json()["data"]))


def test_bodies_can_be_huge_or_deep(sandbox: Sandbox) -> None:
    sandbox.fault("huge-body", size_mb=17)
    assert len(timeline(sandbox).content) > 17 * 2**20
    sandbox.fault("deep-json", depth=100_000)
    assert timeline(sandbox).content.count(b"[") == 100_000


@pytest.mark.parametrize(
    ("fault", "shown"), [("text-reset-header", "soon"), ("reset-in-ms", "000")]
)
def test_the_reset_header_can_be_odd(sandbox: Sandbox, fault: str, shown: str) -> None:
    sandbox.fault(fault)
    assert timeline(sandbox).headers["x-rate-limit-reset"].endswith(shown)


def test_the_reset_header_can_lie_in_the_past(sandbox: Sandbox) -> None:
    sandbox.fault("cap")
    sandbox.fault("reset-in-past", by_s=9000)
    answer = timeline(sandbox)
    assert answer.json()["title"] == "UsageCapExceeded"
    assert int(answer.headers["x-rate-limit-reset"]) < time.time()


def test_a_closed_window_can_be_told_in_the_old_form(sandbox: Sandbox) -> None:
    sandbox.fault("window", form="old")
    assert timeline(sandbox).json() == {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}


def test_an_answer_can_come_late(sandbox: Sandbox) -> None:
    sandbox.fault("delay", delay_s=0.4)
    begun = time.monotonic()
    assert timeline(sandbox).status_code == 200
    assert time.monotonic() - begun >= 0.4


def test_an_answer_can_never_come(sandbox: Sandbox) -> None:
    sandbox.fault("black-hole")
    with pytest.raises(requests.ReadTimeout), requests.Session() as session:
        session.get(sandbox.url + "/2/users/by?usernames=ada", timeout=0.3)
    wait_until(lambda: sandbox.books()["requests"], what="the request in the books")
    assert sandbox.books()["requests"]["none"]["/2/users/by"] == {"none": 1}


def test_an_answer_can_come_byte_by_byte(sandbox: Sandbox) -> None:
    sandbox.fault("slowloris", interval_s=0.05)
    where = urlsplit(sandbox.url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as raw:
        begun = time.monotonic()
        raw.sendall(
            f"GET /2/users/by?usernames=ada HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            f"{sandbox.credentials[0]['bearer_token']}\r\n\r\n".encode()
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += raw.recv(4096)
        body = received.partition(b"\r\n\r\n")[2]
        while len(body) < 11:
            body += raw.recv(1)
    assert body.startswith(b'{"data":[{')
    assert time.monotonic() - begun >= 0.05 * 10


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("truncated-json", requests.JSONDecodeError),
        ("cut-body", requests.ConnectionError),
        ("bad-gzip", requests.RequestException),
    ],
)
def test_a_broken_answer_was_sold_all_the_same(
    sandbox: Sandbox, fault: str, error: type[Exception]
) -> None:
    sandbox.fault(fault)
    with pytest.raises((error, requests.exceptions.ChunkedEncodingError)):
        timeline(sandbox).json()
    books = sandbox.books()
    assert (books["posts_sold"], books["posts_in_broken_answers"]) == (90, 90)
    assert timeline(sandbox).json()["meta"]["result_count"] == 90


def test_a_redirect_points_to_another_host(sandbox: Sandbox) -> None:
    sandbox.fault("redirect", location="http://127.0.0.2:9/steal")
    answer = sandbox.get("/2/users/by", {"usernames": "ada"}, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://127.0.0.2:9/steal")


def test_the_servers_clock_can_be_set_wrong_by_a_fault(sandbox: Sandbox) -> None:
    sandbox.fault("clock-skew", skew_s=-3600)
    assert sandbox.control("GET", "/sandbox/clock")["now"] == pytest.approx(
        time.time() - 3600, abs=5
    )


def test_a_page_can_be_short_and_headers_can_be_missing(sandbox: Sandbox) -> None:
    sandbox.fault("short-page")
    sandbox.fault("no-rate-headers")
    answer = timeline(sandbox)
    assert answer.json()["meta"]["result_count"] < 90
    assert "next_token" in answer.json()["meta"]
    assert not [name for name in answer.headers if "rate-limit" in name]


def test_a_page_of_counts_can_end_early(sandbox: Sandbox) -> None:
    asked = {"query": "from:ada", "granularity": "day", "start_time": "2020-01-01T00:00:00Z"}
    assert "next_token" in sandbox.get("/2/tweets/counts/all", asked).json()["meta"]
    sandbox.fault("early-end")
    assert "next_token" not in sandbox.get("/2/tweets/counts/all", asked).json()["meta"]


def test_every_fault_has_a_test() -> None:
    here = Path(__file__)
    text = here.read_text() + here.with_name("test_sandbox_stream.py").read_text()
    assert not [name for name in NAMES if f'"{name}"' not in text]
