"""Every endpoint's answers have the shapes that X's own OpenAPI description promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from sandbox_server import Sandbox

from tweetcrawler.sandbox.fields import PRIVATE_METRICS, TWEET_LISTS, USER_LISTS

ALL_OF_TWEETS = {
    name: ",".join(value for value in values if value not in PRIVATE_METRICS)
    for name, values in TWEET_LISTS.items()
    if name != "post.fields"
}
ALL_OF_USERS = {
    name: ",".join(value for value in values if value not in PRIVATE_METRICS)
    for name, values in USER_LISTS.items()
    if name != "post.fields"
}
REAL_ANSWERS_DIFFER = {
    "pattern": "^[A-Za-z0-9_]{1,15}$",  # legacy names are longer
    "reply_settings": "^[A-Za-z]{1,12}$",  # mentionedUsers has fourteen letters
}
TELLING = frozenset(
    {"note_tweet", "geo", "withheld", "community_id", "source", "article", "context_annotations"}
)
USAGE_COMES_AS_STRINGS = ("project_cap", "project_usage", "usage", "project_id")


@pytest.fixture(scope="module")
def description(recorded: Path) -> dict[str, Any]:
    path = recorded.parent / "x-api-openapi.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    found: dict[str, Any] = json.loads(path.read_text())
    schemas = found["components"]["schemas"]
    for name, schema in schemas.items():
        if schema.get("pattern") in REAL_ANSWERS_DIFFER.values():
            del schema["pattern"]
        if name == "Problem" or "mapping" in schema.get("discriminator", {}):
            del schema["discriminator"]
    for name in ("Usage", "UsageFields", "ClientAppUsage"):
        _allow_strings(schemas[name])
    return found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--plan", "unlimited", "--posts", "250-400") as running:
        yield running


def test_a_users_lookup_has_the_described_shape(
    sandbox: Sandbox, description: dict[str, Any]
) -> None:
    names = "ada,grace,gone_one,suspended_two,protected_3,locked_4,renamed_5"
    body = valid(
        description,
        "Get2UsersByResponse",
        sandbox.get("/2/users/by", {"usernames": names} | ALL_OF_USERS),
    )
    assert [user["username"].lower() for user in body["data"]] == [
        "ada",
        "grace",
        "protected_3",
        "locked_4",
    ]
    ids = ",".join([sandbox.id_of("ada"), sandbox.id_of("renamed_5"), "12"])
    body = valid(
        description, "Get2UsersResponse", sandbox.get("/2/users", {"ids": ids} | ALL_OF_USERS)
    )
    assert [user["username"] for user in body["data"]][1] == "now_5"
    valid(
        description,
        "Get2UsersByUsernameUsernameResponse",
        sandbox.get("/2/users/by/username/ada", ALL_OF_USERS),
    )
    valid(
        description,
        "Get2UsersIdResponse",
        sandbox.get(f"/2/users/{sandbox.id_of('ada')}", ALL_OF_USERS),
    )
    valid(description, "Get2UsersMeResponse", sandbox.get("/2/users/me", ALL_OF_USERS, user=True))


def test_every_page_of_a_timeline_has_the_described_shape(
    sandbox: Sandbox, description: dict[str, Any]
) -> None:
    """Enough posts that every kind of tweet occurs."""
    kinds: set[str] = set()
    for name in ("ada", "grace", "linus", "maja", "tomas"):
        parameters = ALL_OF_TWEETS | {"max_results": "100"}
        while True:
            answer = sandbox.get(f"/2/users/{sandbox.id_of(name)}/tweets", parameters)
            body = valid(description, "Get2UsersIdTweetsResponse", answer)
            kinds |= set(_things_in(body))
            if "next_token" not in body["meta"]:
                break
            parameters["pagination_token"] = body["meta"]["next_token"]
    assert kinds >= {
        "retweeted",
        "quoted",
        "replied_to",
        "note_tweet",
        "photo",
        "animated_gif",
        "video",
        "polls",
        "places",
        "geo",
        "hashtags",
        "cashtags",
        "mentions",
        "urls",
        "annotations",
        "withheld",
        "community_id",
        "source",
        "article",
        "Not Found Error",
        "Authorization Error",
        "Forbidden",
        "context_annotations",
    }


@pytest.mark.parametrize(
    ("path", "schema", "parameters"),
    [
        (
            "/2/tweets/search/recent",
            "Get2TweetsSearchRecentResponse",
            {"query": "coffee", "max_results": "100"},
        ),
        (
            "/2/tweets/search/all",
            "Get2TweetsSearchAllResponse",
            {"query": "has:media lang:en cats", "max_results": "50"},
        ),
    ],
)
def test_a_search_page_has_the_described_shape(
    sandbox: Sandbox,
    description: dict[str, Any],
    path: str,
    schema: str,
    parameters: dict[str, str],
) -> None:
    body = valid(description, schema, sandbox.get(path, ALL_OF_TWEETS | parameters))
    assert body["meta"]["result_count"] > 5


def test_lookups_of_tweets_have_the_described_shape(
    sandbox: Sandbox, description: dict[str, Any]
) -> None:
    ids = [*sandbox.truth_ids("ada")["reachable"][:98], "20", "1900000000000000001"]
    body = valid(
        description,
        "Get2TweetsResponse",
        sandbox.get("/2/tweets", {"ids": ",".join(ids)} | ALL_OF_TWEETS),
    )
    assert len(body["data"]) == 98
    assert {error["value"] for error in body["errors"]} >= {"20", "1900000000000000001"}
    valid(description, "Get2TweetsIdResponse", sandbox.get(f"/2/tweets/{ids[0]}", ALL_OF_TWEETS))


def test_the_other_endpoints_have_the_described_shape(
    sandbox: Sandbox, description: dict[str, Any]
) -> None:
    ada = sandbox.id_of("ada")
    public = next(
        name for name in sandbox.control("GET", "/sandbox/handles")["handles"] if name[-1].isdigit()
    )
    for schema, path, parameters in (
        ("Get2UsersIdFollowersResponse", f"/2/users/{ada}/followers", ALL_OF_USERS),
        (
            "Get2UsersIdFollowingResponse",
            f"/2/users/{ada}/following",
            ALL_OF_USERS | {"max_results": "7"},
        ),
        (
            "Get2UsersIdMentionsResponse",
            f"/2/users/{sandbox.id_of(public)}/mentions",
            ALL_OF_TWEETS,
        ),
        ("Get2TweetsCountsRecentResponse", "/2/tweets/counts/recent", {"query": "coffee"}),
        ("Get2TweetsCountsAllResponse", "/2/tweets/counts/all", {"query": "from:ada"}),
        ("Get2TrendsByWoeidWoeidResponse", "/2/trends/by/woeid/1", {}),
        (
            "Get2UsageTweetsResponse",
            "/2/usage/tweets",
            {
                "usage.fields": (
                    "cap_reset_day,daily_client_app_usage,daily_project_usage,project_cap,"
                    "project_id,project_usage"
                )
            },
        ),
    ):
        assert valid(description, schema, sandbox.get(path, parameters))["data"]


def test_the_stream_has_the_described_shape(sandbox: Sandbox, description: dict[str, Any]) -> None:
    rules = "/2/tweets/search/stream/rules"
    keys = {"Authorization": f"Bearer {sandbox.credentials[0]['bearer_token']}"}
    add = {"add": [{"value": "from:ada", "tag": "a"}, {"value": "from:maja"}]}
    made = requests.post(sandbox.url + rules, json=add, headers=keys, timeout=9)
    assert made.status_code == 201
    check(description, "AddOrDeleteRulesResponse", made.json())
    again = requests.post(sandbox.url + rules, json=add, headers=keys, timeout=9).json()
    check(description, "AddOrDeleteRulesResponse", again)
    check(description, "DuplicateRuleProblem", again["errors"][0])
    valid(description, "RulesLookupResponse", sandbox.get(rules))
    counts = sandbox.get(f"{rules}/counts")
    valid(description, "Get2TweetsSearchStreamRulesCountsResponse", counts)
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 20})
    sandbox.fault("stream-disconnect", after=100)
    with sandbox.get("/2/tweets/search/stream", ALL_OF_TWEETS, stream=True) as answer:
        sandbox.control("POST", "/sandbox/world", {"user": "ada", "add_posts": 101})
        lines = [json.loads(text) for text in answer.iter_lines() if text]
    valid(description, "Get2ConnectionsResponse", sandbox.get("/2/connections?status=all"))
    for message in lines:
        check(description, "FilteredStreamingTweetResponse", message)
    check(description, "OperationalDisconnectProblem", lines[-1]["errors"][0])
    kinds = {name for message in lines[:-1] for name in message.get("includes", {})}
    assert kinds >= {"users", "tweets", "media"}
    gone = {"delete": {"values": ["from:ada", "from:maja"]}}
    gone = requests.post(sandbox.url + rules, json=gone, headers=keys, timeout=9).json()
    check(description, "AddOrDeleteRulesResponse", gone)
    none = sandbox.get("/2/tweets/search/stream")
    assert none.status_code == 409
    check(description, "ConnectionExceptionProblem", none.json())
    killed = requests.delete(f"{sandbox.url}/2/connections/all", headers=keys, timeout=9).json()
    check(description, "KillAllConnectionsResponse", killed)


def test_accepted_fields_are_those_of_the_description(description: dict[str, Any]) -> None:
    found = description["components"]["parameters"]
    for name, listed in (
        ("TweetFields", TWEET_LISTS["tweet.fields"]),
        ("UserFields", TWEET_LISTS["user.fields"]),
        ("MediaFields", TWEET_LISTS["media.fields"]),
        ("PollFields", TWEET_LISTS["poll.fields"]),
        ("PlaceFields", TWEET_LISTS["place.fields"]),
        ("TweetExpansions", TWEET_LISTS["expansions"]),
        ("UserExpansions", USER_LISTS["expansions"]),
    ):
        assert set(listed) == set(found[f"{name}Parameter"]["schema"]["items"]["enum"])


def test_refusals_have_the_described_shape(sandbox: Sandbox, description: dict[str, Any]) -> None:
    for schema, answer in (
        ("InvalidRequestProblem", sandbox.get("/2/users/by", {"usernames": "a-b"})),
        ("UnsupportedAuthenticationProblem", sandbox.get("/2/users/me")),
    ):
        check(description, schema, answer.json())


def valid(description: dict[str, Any], schema: str, answer: Any) -> dict[str, Any]:
    """The body of a 200 that fits the schema; its partial errors fit theirs."""
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    check(description, schema, body)
    for error in body.get("errors", ()):
        kind = error["type"].rsplit("/", 1)[-1]
        check(
            description,
            {
                "resource-not-found": "ResourceNotFoundProblem",
                "not-authorized-for-resource": "ResourceUnauthorizedProblem",
            }[kind],
            error,
        )
    return body


def check(description: dict[str, Any], schema: str, thing: Any) -> None:
    key = schema
    if key not in _validators:
        _validators[key] = jsonschema.Draft202012Validator(
            {"$ref": f"#/components/schemas/{schema}", "components": description["components"]}
        )
    errors = sorted(_validators[key].iter_errors(thing), key=str)
    assert not errors, "\n".join(
        f"{list(error.absolute_path)}: {error.message[:300]}" for error in errors[:5]
    )


def test_the_check_finds_a_missing_field(description: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="username"):
        check(description, "Get2UsersByResponse", {"data": [{"id": "1", "name": "Ada"}]})


_validators: dict[str, jsonschema.Draft202012Validator] = {}


def _allow_strings(schema: dict[str, Any]) -> None:
    for name, one in schema.get("properties", {}).items():
        if name in USAGE_COMES_AS_STRINGS and one.get("type") == "integer":
            one["type"] = ["integer", "string"]
        _allow_strings(one)


def _things_in(body: dict[str, Any]) -> Iterator[str]:
    """Names of what occurs in a page."""
    for tweet in body.get("data", ()):
        yield from tweet.keys() & TELLING
        yield from tweet.get("entities", ())
        yield from (ref["type"] for ref in tweet.get("referenced_tweets", ()))
    yield from body.get("includes", ())
    yield from (media["type"] for media in body.get("includes", {}).get("media", ()))
    yield from (error["title"] for error in body.get("errors", ()))
