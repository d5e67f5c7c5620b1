"""The sandbox's filtered stream does what X's documentation says, and every fault of a line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from sandbox_server import Sandbox

STREAM = "/2/tweets/search/stream"
RULES = f"{STREAM}/rules"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    # Everything that lasts 20 s at X lasts a quarter of a second here.
    with Sandbox("--window-s", "12", "--posts", "20-20", "--credentials", "1") as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Iterator[Sandbox]:
    running.control("POST", "/sandbox/clock", {"pass_s": 12})
    running.control("POST", "/sandbox/books/reset")
    yield running
    running.control("DELETE", "/sandbox/faults")
    running.control("POST", "/sandbox/stream", {"end": "close", "rate": 0})
    asked(running, "POST", RULES, params={"delete_all": "true"}, json={})


def asked(sandbox: Sandbox, method: str, path: str, **more: Any) -> requests.Response:
    bearer = sandbox.credentials[0]["bearer_token"]
    headers = {"Authorization": f"Bearer {bearer}"}
    return requests.request(method, sandbox.url + path, headers=headers, timeout=9, **more)


def add(sandbox: Sandbox, *rules: dict[str, str], **params: str) -> dict[str, Any]:
    answer = asked(sandbox, "POST", RULES, json={"add": list(rules)}, params=params)
    body: dict[str, Any] = answer.json()
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 1})  # the rules act
    return body


def write(sandbox: Sandbox, user: str, count: int) -> list[str]:
    ids: list[str] = sandbox.control("POST", "/sandbox/world", {"user": user, "add_posts": count})[
        "added"
    ]
    return ids


class Line:
    """An open connection, read message by message."""

    def __init__(self, response: requests.Response) -> None:
        self._pieces = response.iter_content(chunk_size=None)
        self._held = b""

    def next(self) -> bytes:
        """The next message, or a heartbeat, which is empty. StopIteration tells the rest."""
        while b"\r\n" not in self._held:
            try:
                self._held += next(self._pieces)
            except StopIteration:
                raise StopIteration(self._held) from None
        text, _, self._held = self._held.partition(b"\r\n")
        return text

    def posts(self, count: int) -> list[dict[str, Any]]:
        """The next posts, without the heartbeats between them."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            if text := self.next():
                found.append(json.loads(text))
        return found


@contextmanager
def line(sandbox: Sandbox, **params: str) -> Iterator[Line]:
    with asked(sandbox, "GET", STREAM, stream=True, params=params) as response:
        assert response.status_code == 200, response.text
        yield Line(response)


def test_rules_are_added_tried_listed_and_deleted(sandbox: Sandbox) -> None:
    tried = add(sandbox, {"value": "from:ada", "tag": "a"}, dry_run="true")
    assert tried["meta"]["summary"] == {"created": 1, "not_created": 0, "valid": 1, "invalid": 0}
    assert "data" not in asked(sandbox, "GET", RULES).json(), "nothing was done"
    made = add(sandbox, {"value": "from:ada", "tag": "a"}, {"value": "from:maja"})
    assert [rule.get("tag") for rule in made["data"]] == ["a", None]
    again = add(sandbox, {"value": "from:ada", "tag": "other"})
    assert again["errors"][0]["title"] == "DuplicateRule"
    assert again["errors"][0]["id"] == made["data"][0]["id"]
    wrong = add(sandbox, {"value": "from:linus"}, {"value": "-has:links"})
    assert wrong["meta"]["summary"]["created"] == 0, "an invalid rule keeps the others out"
    assert wrong["errors"][0]["value"] == "-has:links"
    listed = asked(sandbox, "GET", RULES).json()
    assert listed["data"] == made["data"]
    counts = asked(sandbox, "GET", f"{RULES}/counts").json()["data"]
    assert counts["client_app_rules_count"]["rule_count"] == 2
    delete = {"delete": {"ids": [made["data"][0]["id"], "7"], "values": ["from:maja"]}}
    gone = asked(sandbox, "POST", RULES, json=delete).json()
    assert gone["meta"]["summary"] == {"deleted": 2, "not_deleted": 1}
    refused = asked(sandbox, "GET", STREAM)
    assert refused.status_code == 409
    assert refused.json()["connection_issue"] == "RuleConfigurationIssue"


def test_posts_go_out_once_with_all_their_rules_and_are_billed(sandbox: Sandbox) -> None:
    rules = add(sandbox, {"value": "from:ada", "tag": "a"}, {"value": "from:ada OR from:maja"})
    first, second = (rule["id"] for rule in rules["data"])
    with line(sandbox, **{"tweet.fields": "author_id", "expansions": "author_id"}) as opened:
        ids = write(sandbox, "ada", 3) + write(sandbox, "maja", 2)
        write(sandbox, "linus", 4)
        posts = opened.posts(5)
        assert [post["data"]["id"] for post in posts] == ids
        assert posts[0]["matching_rules"] == [{"id": first, "tag": "a"}, {"id": second}]
        assert posts[3]["matching_rules"] == [{"id": second}]
        assert posts[0]["includes"]["users"][0]["username"] == "ada"
        assert opened.next() == b"", "a heartbeat follows"
        busy = asked(sandbox, "GET", STREAM)
        assert (busy.status_code, busy.json()["connection_issue"]) == (429, "TooManyConnections")
        assert int(busy.headers["x-rate-limit-remaining"]) > 0
        own = asked(sandbox, "GET", "/2/connections").json()["data"]
        assert [one["endpoint_name"] for one in own] == ["filtered_stream"]
        killed = asked(sandbox, "DELETE", "/2/connections", json={"uuids": [own[0]["id"], "x"]})
        assert killed.json()["data"]["successful_kills"] == 1
        with pytest.raises(StopIteration):
            opened.posts(1)
    assert sandbox.books()["posts_sold"] == 5
    assert "data" not in asked(sandbox, "GET", "/2/connections").json()
    past = asked(sandbox, "GET", "/2/connections", params={"status": "inactive"}).json()["data"]
    assert past[-1]["disconnect_reason"] == "operator_disconnect"
    assert asked(sandbox, "DELETE", "/2/connections/all").json()["data"]["successful_kills"] == 0


def test_a_rule_matches_retweets_and_places_and_a_sample(sandbox: Sandbox) -> None:
    """Unlike a search, which gives no retweets for words since May 2026."""
    add(
        sandbox,
        {"value": "from:ada is:retweet", "tag": "retweets"},
        {"value": "bounding_box:[-180 -90 180 90]", "tag": "somewhere"},
        {"value": "from:ada sample:50", "tag": "half"},
    )
    with line(sandbox) as opened:
        write(sandbox, "ada", 40)
        write(sandbox, "maja", 150)
        tags: list[str] = []
        while text := opened.next():
            tags += [rule["tag"] for rule in json.loads(text)["matching_rules"]]
    assert set(tags) == {"retweets", "somewhere", "half"}
    assert tags.count("half") < 40


def test_a_slow_reader_loses_its_line_and_what_waited(sandbox: Sandbox) -> None:
    sandbox.control("POST", "/sandbox/stream", {"buffer": 5})
    add(sandbox, {"value": "from:ada"})
    with line(sandbox) as opened:
        write(sandbox, "ada", 20)
        with pytest.raises(requests.exceptions.RequestException):
            opened.posts(21)
    sandbox.control("POST", "/sandbox/stream", {"buffer": 10_000})
    stream = sandbox.control("GET", "/sandbox/stream")
    assert stream["connections"][-1]["disconnect_reason"] == "SlowReader"
    assert stream["lost"] >= 5


def test_a_crowd_writes_at_a_rate(sandbox: Sandbox) -> None:
    add(sandbox, {"value": " OR ".join(f"from:talker_{n}" for n in range(20))})
    with line(sandbox) as opened:
        sandbox.control("POST", "/sandbox/stream", {"rate": 50})
        ids = [post["data"]["id"] for post in opened.posts(30)]
    assert len(set(ids)) == 30


@pytest.mark.parametrize(
    ("fault", "more", "then"),
    [
        ("stream-close", {"after": 0}, "end"),
        ("stream-cut", {"after": 2}, "reset"),
        ("stream-half-line", {"after": 2}, "half"),
        ("stream-disconnect", {"after": 2, "disconnect_type": "InternalError"}, "notice"),
        ("stream-duplicates", {}, "twice"),
        ("stream-unordered", {}, "disorder"),
        ("stream-unknown-line", {}, "unknown"),
        ("stream-garbage", {}, "garbage"),
        ("stream-rule-without-tag", {}, "no tag"),
        ("stream-late", {"delay_s": 0.3}, "late"),
    ],
)
def test_a_line_meets_its_faults(
    sandbox: Sandbox, fault: str, more: dict[str, Any], then: str
) -> None:
    add(sandbox, {"value": "from:ada", "tag": "a"})
    sandbox.fault(fault, **more)
    began = time.monotonic()
    with line(sandbox) as opened:
        ids = write(sandbox, "ada", 3) if then != "end" else []
        got: list[bytes] = []
        try:
            while len(got) < 6:
                if text := opened.next():
                    got.append(text)
                elif len(got) >= 3:
                    break
        except StopIteration as end:
            got.append(end.value or b"ended")
        except requests.exceptions.RequestException:
            got.append(b"reset")
    found = [
        json.loads(text).get("data", {}).get("id")
        for text in got
        if text[:1] == b"{" and text[-1:] == b"}"
    ]
    if then == "end":
        assert got == [b"ended"]
    elif then == "reset":
        assert (found[:2], got[-1]) == (ids[:2], b"reset")
    elif then == "half":
        assert found[:2] == ids[:2]
        assert got[2].startswith(b'{"data"'), "half of a message, and an orderly end"
        assert not got[2].endswith(b"}")
    elif then == "notice":
        assert json.loads(got[2])["errors"][0]["disconnect_type"] == "InternalError"
    elif then == "twice":
        assert found == [one for one in ids for _ in range(2)]
    elif then == "disorder":
        assert sorted(found) == sorted(ids)
        assert found != ids
    elif then == "unknown":
        assert found[1::2] == ids
        assert json.loads(got[0]) == {"a_message_of_2031": {"since": 1}}
    elif then == "garbage":
        assert got[0] == b"<html>oh"
    elif then == "no tag":
        assert "tag" not in json.loads(got[0])["matching_rules"][0]
    else:
        assert time.monotonic() - began >= 0.3


def test_a_silent_line_gives_no_byte_and_a_full_app_no_line(sandbox: Sandbox) -> None:
    add(sandbox, {"value": "from:ada"})
    sandbox.fault("stream-silence", after=1)
    bearer = sandbox.credentials[0]["bearer_token"]
    headers = {"Authorization": f"Bearer {bearer}"}
    url = sandbox.url + STREAM
    with requests.get(url, headers=headers, stream=True, timeout=1.5) as response:
        opened = Line(response)
        write(sandbox, "ada", 3)
        assert opened.posts(1)
        with pytest.raises(requests.exceptions.RequestException):
            opened.posts(2)
    sandbox.fault("too-many-connections")
    assert asked(sandbox, "GET", STREAM).json()["connection_issue"] == "TooManyConnections"


def test_backfill_belongs_to_a_larger_plan(sandbox: Sandbox) -> None:
    add(sandbox, {"value": "from:ada"})
    assert asked(sandbox, "GET", STREAM, params={"backfill_minutes": 2}).status_code == 400
    with Sandbox("--plan", "unlimited", "--posts", "5-5", "--credentials", "1") as large:
        assert "errors" not in add(large, {"value": "from:ada"})
        large.control("POST", "/sandbox/clock", {"pass_s": 20})
        ids = write(large, "ada", 3)
        with line(large, backfill_minutes="5") as opened:
            assert [post["data"]["id"] for post in opened.posts(3)] == ids
