"""The sandbox can serve what was really seen instead of what it makes up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_server import Sandbox

from tweetcrawler.errors import ConfigurationError
from tweetcrawler.sandbox.recorded import RecordedWorld

ADA = {"id": "11", "username": "Ada_X", "name": "Ada", "public_metrics": {"tweet_count": 9}}
BO = {"id": "12", "username": "bo", "name": "Bo"}
OLD, MIDDLE, NEW = "1500000000000000001", "1600000000000000001", "1700000000000000001"

FLAT = {
    "id": "1710000000000000001",
    "text": "flat @ada_x",
    "author_id": "13",
    "author": {"id": "13", "username": "cy", "name": "Cy"},
    "__twarc": {},
    "entities": {
        "mentions": [{"start": 5, "end": 11, "username": "ada_x", "id": "11", "name": "Ada"}]
    },
    "attachments": {
        "media_keys": ["3_2"],
        "media": [{"media_key": "3_2", "type": "photo"}, {}],
    },
    "referenced_tweets": [
        {
            "type": "replied_to",
            "id": "1650000000000000002",
            "text": "inner",
            "author_id": "11",
            "author": ADA,
        }
    ],
}


def page(*tweets: dict[str, Any], **includes: Any) -> dict[str, Any]:
    return {"data": list(tweets), "includes": includes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of each kind, some of it broken."""
    first = page(
        {
            "id": NEW,
            "text": "new",
            "author_id": "11",
            "referenced_tweets": [{"type": "quoted", "id": OLD}],
            "attachments": {"media_keys": ["3_1"]},
        },
        users=[ADA, BO],
        tweets=[{"id": OLD, "text": "old", "author_id": "12"}],
        media=[{"media_key": "3_1", "type": "photo", "url": "https://x/1.jpg"}],
    )
    (tmp_path / "page.json").write_text(json.dumps(first))
    (tmp_path / "lines.jsonl").write_text(
        "\n".join(
            [
                json.dumps(
                    page({"id": MIDDLE, "text": "middle", "author_id": "11"})
                    | {"__twarc": {"version": "2"}}
                ),
                '{"data": [{"id": "1',
                json.dumps({"id": "5", "action": "delete"}),
                "",
            ]
        )
    )
    (tmp_path / "captures.jsonl").write_text(
        "\n".join(
            json.dumps(
                {
                    "source": "s",
                    "method": "GET",
                    "uri": uri,
                    "status": status,
                    "headers": {},
                    "body": body,
                }
            )
            for uri, status, body in (
                (
                    "https://api.x.com/2/users/12/tweets",
                    200,
                    page({"id": "1650000000000000001", "text": "bo's"}),
                ),
                (
                    "https://api.x.com/2/users/12/tweets",
                    503,
                    {"data": [{"id": "99", "text": "no"}]},
                ),
            )
        )
    )
    (tmp_path / "flat.jsonl").write_text(json.dumps(FLAT))
    (tmp_path / "readme.txt").write_text("not a recording")
    return tmp_path


@pytest.fixture
def sandbox(folder: Path) -> Iterator[Sandbox]:
    with Sandbox("--recorded", str(folder)) as running:
        yield running


def test_users_and_tweets_of_all_kinds_of_files_are_served(sandbox: Sandbox) -> None:
    assert sorted(sandbox.control("GET", "/sandbox/handles")["handles"]) == ["Ada_X", "bo", "cy"]
    body = sandbox.get("/2/users/by", {"usernames": "ada_x,bo,nobody"}).json()
    assert [user["id"] for user in body["data"]] == ["11", "12"]
    assert [error["value"] for error in body["errors"]] == ["nobody"]
    timelines = {
        id_: [tweet["id"] for tweet in sandbox.get(f"/2/users/{id_}/tweets").json()["data"]]
        for id_ in ("11", "12", "13")
    }
    assert timelines == {
        "11": [NEW, "1650000000000000002", MIDDLE],
        "12": ["1650000000000000001", OLD],
        "13": ["1710000000000000001"],
    }
    assert timelines["11"] == sandbox.truth_ids("ada_x")["reachable"]
    assert "errors" in sandbox.get("/2/tweets", {"ids": "99"}).json()


def test_fields_and_includes_come_as_asked(sandbox: Sandbox) -> None:
    answer = sandbox.get(
        "/2/users/11/tweets",
        {
            "expansions": (
                "referenced_tweets.id,attachments.media_keys,referenced_tweets.id.author_id"
            ),
            "media.fields": "url",
            "tweet.fields": "created_at",
        },
    ).json()
    assert answer["data"][0] == {
        "id": NEW,
        "text": "new",
        "edit_history_tweet_ids": [NEW],
        "created_at": "2023-09-08T04:15:59.000Z",
    }
    assert answer["includes"]["media"] == [
        {"media_key": "3_1", "type": "photo", "url": "https://x/1.jpg"}
    ]
    assert [tweet["id"] for tweet in answer["includes"]["tweets"]] == [OLD]
    assert [user["username"] for user in answer["includes"]["users"]] == ["bo"]


def test_a_flattened_tweet_is_taken_apart_again(sandbox: Sandbox) -> None:
    line = sandbox.truth("cy")[0]
    assert line["tweet"]["referenced_tweets"] == [
        {"type": "replied_to", "id": "1650000000000000002"}
    ]
    assert line["tweet"]["entities"]["mentions"] == [
        {"start": 5, "end": 11, "username": "ada_x", "id": "11"}
    ]
    assert line["tweet"]["attachments"] == {"media_keys": ["3_2"]}
    assert not {"author", "__twarc"} & line["tweet"].keys()
    assert [tweet["text"] for tweet in line["includes"]["tweets"]] == ["inner"]


def test_what_is_broken_is_passed_over_and_counted(folder: Path) -> None:
    assert RecordedWorld(folder).skipped_lines == 2


def test_an_empty_folder_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name a folder of recorded v2 answers"):
        RecordedWorld(tmp_path)


def test_a_recorded_world_cannot_be_changed(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="a recorded world cannot be changed"):
        sandbox.control("POST", "/sandbox/world", {"user": "bo", "state": "suspended"})


def test_every_recorded_tweet_with_a_known_author_is_in_its_timeline(recorded: Path) -> None:
    with Sandbox("--recorded", str(recorded / "v2"), "--short-pages", "0") as sandbox:
        handles = sandbox.control("GET", "/sandbox/handles")["handles"]
        assert len(handles) > 200
        served = {
            line["tweet"]["id"]: line["tweet"]
            for handle in handles
            for line in sandbox.truth(handle)
        }
        seen = 0
        for path in sorted((recorded / "v2").glob("twarc2_*.jsonl")):
            for line in path.read_text().splitlines():
                try:
                    found = json.loads(line)
                except json.JSONDecodeError:
                    continue
                known = {user["id"] for user in (found.get("includes") or {}).get("users", ())}
                data = found.get("data", [])
                for tweet in data if isinstance(data, list) else [data]:
                    if tweet.get("author_id") in known:
                        assert served[tweet["id"]]["text"] == tweet["text"]
                        seen += 1
        assert seen > 100
