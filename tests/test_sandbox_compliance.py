"""Batch compliance of the sandbox: jobs, signed addresses, and what they tell of the world."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from sandbox_server import Sandbox
from test_sandbox_openapi import check, description

__all__ = ["description"]  # the fixture

JOBS = "/2/compliance/jobs"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "20-30", "--compliance-s", "5") as running:
        running.control("POST", "/sandbox/clock", {"stop": True})
        yield running


@pytest.fixture(autouse=True)
def _no_jobs_left(sandbox: Sandbox) -> None:
    """X takes one job of a type at a time: an hour ends those of the tests before."""
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 3600})


def created(sandbox: Sandbox, body: Any, credential: int = 0) -> requests.Response:
    keys = sandbox.credentials[credential]
    headers = {"Authorization": f"Bearer {keys['bearer_token']}"}
    return requests.post(sandbox.url + JOBS, json=body, headers=headers, timeout=30)


def put(url: str, ids: Sequence[object], **headers: str) -> requests.Response:
    text = "".join(f"{id_}\n" for id_ in ids)
    return requests.put(url, text, headers={"Content-Type": "text/plain"} | headers, timeout=30)


def told(sandbox: Sandbox, kind: str, ids: Sequence[object]) -> dict[str, dict[str, str]]:
    """The lines of a whole job, by their ids."""
    job = created(sandbox, {"type": kind}).json()["data"]
    assert put(job["upload_url"], ids).status_code == 200
    assert requests.get(job["download_url"], timeout=30).status_code == 404
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 6})
    answer = requests.get(job["download_url"], timeout=30)
    assert answer.status_code == 200
    lines = map(json.loads, answer.text.splitlines())
    return {line["id"]: line for line in lines}


def test_a_job_of_posts_tells_those_with_an_event_and_no_other(sandbox: Sandbox) -> None:
    ids = {name: sandbox.truth_ids(name)["ids"] for name in ("ada", "bo", "cy", "dee")}
    sandbox.control("POST", "/sandbox/world", {"user": "ada", "delete": ids["ada"][:2]})
    sandbox.control("POST", "/sandbox/world", {"user": "bo", "state": "protected"})
    sandbox.control("POST", "/sandbox/world", {"user": "cy", "state": "suspended"})
    sandbox.control("POST", "/sandbox/world", {"user": "dee", "state": "absent"})
    asked = [*ids["ada"], ids["bo"][0], ids["cy"][0], ids["dee"][0], "1900000000000000001"]
    found = told(sandbox, "tweets", asked)
    assert {id_: line["reason"] for id_, line in found.items()} == {
        ids["ada"][0]: "deleted",
        ids["ada"][1]: "deleted",
        ids["bo"][0]: "protected",
        ids["cy"][0]: "suspended",
        ids["dee"][0]: "deactivated",
    }
    assert set(found[ids["ada"][0]]) == {"id", "action", "created_at", "redacted_at", "reason"}
    assert "redacted_at" not in found[ids["bo"][0]]


def test_a_job_of_users_tells_those_that_are_away_until_they_come_back(sandbox: Sandbox) -> None:
    people = [sandbox.id_of(name) for name in ("eve", "protected_one", "suspended_two", "gone_x")]
    found = told(sandbox, "users", people)
    assert [found[id_]["reason"] for id_ in people[1:]] == ["protected", "suspended", "deactivated"]
    assert people[0] not in found
    sandbox.control("POST", "/sandbox/world", {"user": "protected_one", "state": "normal"})
    assert people[1] not in told(sandbox, "users", people)


def test_a_job_goes_through_its_states_and_there_is_one_of_a_type_at_a_time(
    sandbox: Sandbox, description: dict[str, Any]
) -> None:
    answer = created(sandbox, {"type": "tweets", "name": "mine"})
    check(description, "CreateComplianceJobResponse", answer.json())
    job = answer.json()["data"]
    assert job["status"] == "created"
    assert created(sandbox, {"type": "tweets"}).status_code == 400
    assert created(sandbox, {"type": "tweets"}, credential=1).status_code == 200
    put(job["upload_url"], ["1"])
    one = sandbox.get(f"{JOBS}/{job['id']}")
    check(description, "Get2ComplianceJobsIdResponse", one.json())
    assert one.json()["data"]["status"] == "in_progress"
    assert sandbox.get(f"{JOBS}/{job['id']}", credential=1).status_code == 400, "another app's"
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 6})
    listed = sandbox.get(JOBS, {"type": "tweets", "status": "complete"}).json()
    check(description, "Get2ComplianceJobsResponse", listed)
    assert job["id"] in [each["id"] for each in listed["data"]]
    assert created(sandbox, {"type": "tweets"}).status_code == 200


def test_signed_addresses_are_for_one_job_want_no_key_and_expire(sandbox: Sandbox) -> None:
    job = created(sandbox, {"type": "users"}).json()["data"]
    url = job["upload_url"]
    assert put(url[:-4] + "0000", ["1"]).status_code == 403
    assert put(url, ["1"], **{"Content-Type": "text/html"}).status_code == 403
    assert put(url, ["1"], Authorization="Bearer x").status_code == 400
    assert requests.get(url, timeout=30).status_code == 403
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 901})
    assert put(url, ["1"]).status_code == 400
    assert sandbox.get(f"{JOBS}/{job['id']}").json()["data"]["status"] == "expired"
    second = created(sandbox, {"type": "users"}).json()["data"]
    put(second["upload_url"], ["1"])
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 7 * 86_400})
    assert requests.get(second["download_url"], timeout=30).status_code == 400


def test_what_is_no_list_of_ids_fails_and_wrong_requests_are_refused(sandbox: Sandbox) -> None:
    job = created(sandbox, {"type": "users"}).json()["data"]
    put(job["upload_url"], ["1", "@ada"])
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 6})
    assert sandbox.get(f"{JOBS}/{job['id']}").json()["data"]["status"] == "failed"
    for body in ({}, {"type": "posts"}, {"type": "users", "name": "x" * 65}, [1]):
        assert created(sandbox, body).status_code == 400
    assert sandbox.get(JOBS).status_code == 400
    assert sandbox.get(JOBS, {"type": "users"}, user=True).status_code == 403


def test_the_windows_are_those_of_x_and_nothing_is_sold(sandbox: Sandbox) -> None:
    before = sandbox.books()["projects"]
    for answer in (created(sandbox, {"type": "users"}), sandbox.get(JOBS, {"type": "users"})):
        assert answer.headers["x-rate-limit-limit"] == "150"
        assert int(answer.headers["x-rate-limit-remaining"]) >= 140
    assert sandbox.books()["projects"] == before


def test_an_edit_gives_a_new_id_and_the_older_one_tells_of_it(sandbox: Sandbox) -> None:
    plain = next(
        post["tweet"]
        for post in sandbox.truth("fay")
        if len(post["tweet"]["edit_history_tweet_ids"]) == 1
        and not post["tweet"]["text"].startswith("RT @")
    )
    old = plain["id"]
    [new] = sandbox.control("POST", "/sandbox/world", {"user": "fay", "edit": [old]})["edited"]
    timeline = [post["tweet"]["id"] for post in sandbox.truth("fay")]
    assert new in timeline
    assert old not in timeline
    asked = {"ids": f"{old},{new}", "tweet.fields": "edit_history_tweet_ids"}
    first, second = sandbox.get("/2/tweets", asked).json()["data"]
    assert first["edit_history_tweet_ids"] == second["edit_history_tweet_ids"] == [old, new]
    assert (first["text"], second["text"]) == (plain["text"], plain["text"] + " (edited)")
    sandbox.control("POST", "/sandbox/world", {"user": "fay", "delete": [new]})
    assert set(told(sandbox, "tweets", [old, new])) == {old, new}
    assert "data" not in sandbox.get("/2/tweets", {"ids": f"{old},{new}"}).json()


def test_a_post_is_withheld_in_countries(sandbox: Sandbox) -> None:
    id_ = sandbox.truth_ids("gil")["reachable"][0]
    sent = {"user": "gil", "withhold": [id_], "countries": ["DE"]}
    sandbox.control("POST", "/sandbox/world", sent)
    [post] = sandbox.get("/2/tweets", {"ids": id_, "tweet.fields": "withheld"}).json()["data"]
    assert post["withheld"] == {"copyright": False, "country_codes": ["DE"], "scope": "tweet"}


def test_the_folder_of_recorded_answers_has_the_same_lines(recorded: Path) -> None:
    """The keys of a line are among those that X has sent."""
    lines = (recorded / "v2" / "twarc2_tweets_compliance.jsonl").read_text().splitlines()
    known = {key for line in lines if line for key in json.loads(line)}
    assert known == {"id", "action", "created_at", "redacted_at", "reason"}
