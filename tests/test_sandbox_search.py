"""The sandbox's search: X's query language over posts that really are in its timelines."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sandbox_server import Sandbox

from tweetcrawler.sandbox.clock import lowest_id
from tweetcrawler.sandbox.query import BadQuery, Doc, parse

DOC = Doc(
    id=1,
    author="ada",
    username="ada",
    flat=" the new library is a joy who else ",
    text="the new library 🎉 is a joy!",
    tags=frozenset({"opendata"}),
    cashtags=frozenset({"acme"}),
    mentions=frozenset({"grace"}),
    links="https://news.example.org/1",
    answers="grace",
    refs={"replied_to": "77"},
    marks=frozenset({"is:reply", "has:hashtags", "has:images", "has:media"}),
    lang="en",
    conversation="70",
    metrics={"like_count": 9},
    place={"full_name": "Lisbon, Portugal", "country_code": "PT"},
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--plan", "unlimited") as running:
        yield running


@pytest.mark.parametrize(
    "query",
    [
        "library",
        "LIBRARY",
        "new library",
        '"new library"',
        "#OpenData",
        "@grace",
        "$ACME",
        "from:ada",
        "from:@Ada",
        "to:grace",
        "joy lang:en",
        "joy -sad",
        "sad OR joy",
        "(sad OR joy) library",
        "sad OR (joy library)",
        "library is:reply -is:retweet",
        "library has:media has:images",
        "conversation_id:70",
        "in_reply_to_tweet_id:77",
        "url:news.example.org",
        'url:"news.example.org"',
        "library min_likes:9",
        "🎉",
        "place:lisbon",
        "place_country:PT",
        "library -(sad OR lang:de)",
        "library sad OR joy",
    ],
)
def test_a_query_finds_the_post(query: str) -> None:
    assert parse(query).matches(DOC)


@pytest.mark.parametrize(
    "query",
    [
        "librar",
        '"library new"',
        "#data",
        "@ada",
        "$BOLT",
        "from:grace",
        "to:ada",
        "joy lang:de",
        "joy -library",
        "sad",
        "library is:retweet",
        "library has:videos",
        "conversation_id:71",
        "library min_likes:10",
        "context:1.2",
        "sad (joy OR library)",
        "joy library sad",
        "library -🎉",
    ],
)
def test_a_query_passes_over_the_post(query: str) -> None:
    assert not parse(query).matches(DOC)


@pytest.mark.parametrize(
    "query",
    [
        '"open',
        "is:reply",
        "-cats",
        "has:media lang:en",
        "(cats",
        "cats)",
        "cats OR",
        "min_faves:3 cats",
        "is:funny cats",
        "from: cats",
        "()",
        "cats OR has:media",
    ],
)
def test_a_query_that_x_refuses_is_refused(query: str) -> None:
    with pytest.raises(BadQuery, match="There were errors processing your request"):
        parse(query)


def test_queries_know_whose_posts_alone_can_match() -> None:
    assert parse("from:ada cats").authors == frozenset({"ada"})
    assert parse("from:ada OR from:grace").authors == frozenset({"ada", "grace"})
    assert parse("from:ada OR cats").authors is None
    assert parse("cats -from:ada").authors is None


def test_found_posts_are_in_their_authors_timelines(sandbox: Sandbox) -> None:
    page = search(sandbox, "coffee", max_results="50", expansions="author_id")
    names = {user["id"]: user["username"] for user in page["includes"]["users"]}
    for tweet in page["data"][:6]:
        assert "coffee" in tweet["text"].casefold()
        assert not tweet["text"].startswith("RT @")
        path = f"/2/users/{tweet['author_id']}/tweets"
        own = sandbox.get(
            path, {"since_id": str(int(tweet["id"]) - 1), "max_results": "100"}
        ).json()
        assert tweet["id"] in [one["id"] for one in own["data"]], names


def test_a_search_pages_through_all_hits_once(sandbox: Sandbox) -> None:
    whole = [tweet["id"] for tweet in pages_of(sandbox, "cats lang:en", max_results="100")]
    small = [tweet["id"] for tweet in pages_of(sandbox, "cats lang:en", max_results="10")]
    assert len(whole) > 30
    assert whole == sorted(set(whole), key=int, reverse=True)
    assert small[: len(whole)] == whole


def test_recent_search_sees_the_last_seven_days_only(sandbox: Sandbox) -> None:
    times = [tweet["created_at"] for tweet in pages_of(sandbox, "#cats", max_results="100")]
    week = (datetime.now(UTC) - timedelta(days=7, minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
    assert times
    assert min(times) > week


def test_search_finds_those_who_were_asked_for(sandbox: Sandbox) -> None:
    sandbox.control("POST", "/sandbox/world", {"user": "ada", "add_posts": 4, "age_s": 60})
    newest = sandbox.truth_ids("ada")["reachable"][:4]
    found = [tweet["id"] for tweet in search(sandbox, "from:ADA", max_results="10")["data"]]
    assert found[:4] == newest


def test_a_stale_since_id_is_refused_with_a_better_one(sandbox: Sandbox) -> None:
    stale = str(lowest_id(int((time.time() - 8 * 86_400) * 1000)))
    answer = sandbox.get("/2/tweets/search/recent", {"query": "cats", "since_id": stale})
    assert answer.status_code == 400
    found = re.search(r"larger than (\d+)", answer.json()["errors"][0]["message"])
    assert found
    again = sandbox.get("/2/tweets/search/recent", {"query": "cats", "since_id": found[1]})
    assert again.status_code == 200
    assert (
        sandbox.get("/2/tweets/search/recent", {"query": "cats", "since_id": "20"}).status_code
        == 400
    )


@pytest.mark.parametrize(
    "more",
    [
        {"since_id": "{fresh}", "start_time": "{hour_ago}"},
        {"start_time": "2020-01-01T00:00:00Z"},
        {"query": "x" * 513},
        {"query": "is:retweet"},
        {"max_results": "9"},
        {"max_results": "101"},
        {"next_token": "b26v89c19zqg8o3fnothing"},
        {"sort_order": "oldest"},
    ],
)
def test_a_search_that_x_refuses_is_refused(sandbox: Sandbox, more: dict[str, str]) -> None:
    now = datetime.now(UTC)
    values = {
        "{fresh}": str(lowest_id(int((time.time() - 3600) * 1000))),
        "{hour_ago}": (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    answer = sandbox.get(
        "/2/tweets/search/recent",
        {"query": "cats"} | {name: values.get(value, value) for name, value in more.items()},
    )
    assert answer.status_code == 400


def test_the_archive_goes_back_thirty_days_unless_told_otherwise() -> None:
    with Sandbox() as sandbox:
        answer = sandbox.get(
            "/2/tweets/search/all",
            {
                "query": "from:ada",
                "max_results": "500",
                "start_time": "2015-01-01T00:00:00Z",
                "tweet.fields": "created_at",
            },
        )
        reachable = sandbox.truth_ids("ada")["reachable"]
        assert [tweet["id"] for tweet in answer.json()["data"]] == reachable[:500]


def test_counts_add_up_to_what_search_finds(sandbox: Sandbox) -> None:
    hits = list(pages_of(sandbox, "cats", max_results="100"))
    for granularity in ("day", "hour"):
        body = sandbox.get(
            "/2/tweets/counts/recent", {"query": "cats", "granularity": granularity}
        ).json()
        assert body["meta"]["total_tweet_count"] == sum(one["tweet_count"] for one in body["data"])
        assert abs(body["meta"]["total_tweet_count"] - len(hits)) <= 1
        ends = [one["end"] for one in body["data"]]
        assert ends[:-1] == [one["start"] for one in body["data"]][1:]
    assert body["data"][1]["start"].endswith(":00:00.000Z")


def test_archive_counts_come_31_days_a_page(sandbox: Sandbox) -> None:
    parameters = {
        "query": "from:ada",
        "granularity": "day",
        "start_time": (datetime.now(UTC) - timedelta(days=80)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    total, pages = 0, 0
    while True:
        body = sandbox.get("/2/tweets/counts/all", parameters).json()
        total, pages = total + body["meta"]["total_tweet_count"], pages + 1
        assert len(body["data"]) <= 33
        if "next_token" not in body["meta"]:
            break
        parameters["next_token"] = body["meta"]["next_token"]
    since = lowest_id(int((time.time() - 80 * 86_400) * 1000))
    assert pages == 3
    until = lowest_id(int((time.time() - 35) * 1000))
    assert (
        abs(total - sum(since < int(id_) < until for id_ in sandbox.truth_ids("ada")["ids"])) <= 1
    )


def test_trends_are_hashtags_that_recent_posts_carry(sandbox: Sandbox) -> None:
    trends = sandbox.get("/2/trends/by/woeid/1", {"max_trends": "5"}).json()["data"]
    assert len(trends) == 5
    for trend in trends:
        assert search(sandbox, trend["trend_name"], max_results="10")["meta"]["result_count"] > 0
    assert sandbox.get("/2/trends/by/woeid/77").status_code == 400
    assert sandbox.get("/2/trends/by/woeid/23424977").json()["data"] != trends


def test_mentions_are_posts_that_name_the_user(sandbox: Sandbox) -> None:
    named = Counter(
        mention["username"]
        for tweet in pages_of(sandbox, "has:mentions lang:en the", max_results="100")
        for mention in tweet["entities"].get("mentions", ())
        if mention["username"] != "suspended_bo"
    )
    name = named.most_common(1)[0][0]
    page = sandbox.get(
        f"/2/users/{sandbox.id_of(name)}/mentions",
        {"max_results": "5", "tweet.fields": "note_tweet"},
    ).json()
    assert "next_token" in page["meta"]
    for tweet in page["data"]:
        assert f"@{name}" in tweet.get("note_tweet", tweet)["text"]


def search(sandbox: Sandbox, query: str, **more: str) -> dict[str, Any]:
    answer = sandbox.get(
        "/2/tweets/search/recent",
        {"query": query, "tweet.fields": "created_at,author_id,entities"} | more,
    )
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def pages_of(sandbox: Sandbox, query: str, **more: str) -> Iterator[dict[str, Any]]:
    """All tweets of a search."""
    while True:
        page = search(sandbox, query, **more)
        yield from page.get("data", ())
        if "next_token" not in page["meta"]:
            return
        more["next_token"] = page["meta"]["next_token"]
