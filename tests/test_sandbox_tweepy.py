"""tweepy's own client, unchanged but for where its bytes go, works against the sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import tweepy
from requests.adapters import HTTPAdapter
from sandbox_server import Sandbox


class ToSandbox(HTTPAdapter):
    """Sends what is meant for X to the sandbox; the client signs and believes X's own address."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._where = urlsplit(url)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        asked = urlsplit(request.url or "")
        request.url = asked._replace(scheme="http", netloc=self._where.netloc).geturl()
        return super().send(request, stream=stream, timeout=9, verify=verify, cert=cert)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "150-200", "--plan", "unlimited") as running:
        yield running


@pytest.fixture(params=["bearer", "user"])
def client(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[tweepy.Client]:
    keys = sandbox.credentials[0]
    if request.param == "bearer":
        made = tweepy.Client(keys["bearer_token"])
    else:
        names = ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
        made = tweepy.Client(**{name: keys[name] for name in names})
    made.session.mount("https://api.twitter.com/", ToSandbox(sandbox.url))
    made.user_auth = request.param == "user"
    with made.session:
        yield made


def test_users_and_their_partial_errors(client: tweepy.Client) -> None:
    answer = client.get_users(
        usernames=["ada", "gone_x", "suspended_y"],
        user_fields=["created_at", "public_metrics"],
        user_auth=client.user_auth,
    )
    assert [user.username.lower() for user in answer.data] == ["ada"]
    assert answer.data[0].created_at < datetime.now(UTC)
    assert [error["title"] for error in answer.errors] == ["Not Found Error", "Forbidden"]
    one = client.get_user(id=answer.data[0].id, user_auth=client.user_auth)
    assert one.data.username == answer.data[0].username


def test_timelines_with_a_paginator(client: tweepy.Client, sandbox: Sandbox) -> None:
    ids: list[str] = []
    media: set[str] = set()
    for page in tweepy.Paginator(
        client.get_users_tweets,
        sandbox.id_of("ada"),
        max_results=60,
        user_auth=client.user_auth,
        tweet_fields=[
            "created_at",
            "public_metrics",
            "entities",
            "attachments",
            "referenced_tweets",
            "note_tweet",
        ],
        media_fields=["url", "variants"],
        expansions=[
            "author_id",
            "referenced_tweets.id",
            "attachments.media_keys",
            "attachments.poll_ids",
            "geo.place_id",
        ],
    ):
        ids += [str(tweet.id) for tweet in page.data or ()]
        media |= {one.type for one in page.includes.get("media", ())}
        assert page.includes["users"][0].username.lower() == "ada"
    assert ids == sandbox.truth_ids("ada")["reachable"]
    assert "photo" in media


def test_tweets_search_and_networks(client: tweepy.Client, sandbox: Sandbox) -> None:
    user_auth = client.user_auth
    ids = sandbox.truth_ids("ada")["reachable"][:3]
    assert [str(tweet.id) for tweet in client.get_tweets(ids, user_auth=user_auth).data] == ids
    found = list(
        tweepy.Paginator(
            client.search_recent_tweets, "coffee lang:en", max_results=20, user_auth=user_auth
        ).flatten(limit=50)
    )
    assert len({tweet.id for tweet in found}) == 50
    followers = client.get_users_followers(sandbox.id_of("ada"), max_results=5, user_auth=user_auth)
    following = client.get_users_following(sandbox.id_of("ada"), max_results=5, user_auth=user_auth)
    assert followers.meta["result_count"] == following.meta["result_count"] == 5
    assert (
        client.get_users_mentions(sandbox.id_of("ada"), user_auth=user_auth).meta["result_count"]
        == 0
    )


def test_what_only_one_kind_of_token_may_do(client: tweepy.Client, sandbox: Sandbox) -> None:
    if client.user_auth:
        assert client.get_me().data.username.lower() == "owner_1"
        return
    assert client.get_recent_tweets_count("coffee").meta["total_tweet_count"] > 50
    assert client.get_all_tweets_count("from:ada", granularity="day").data
    assert len(client.search_all_tweets("coffee", max_results=40).data) == 40
    trends = client.request("GET", "/2/trends/by/woeid/1", params={"max_trends": 3}).json()
    assert len(trends["data"]) == 3
    with pytest.raises(tweepy.Forbidden, match="Supported authentication types"):
        client.get_me(user_auth=False)


def test_errors_arrive_as_tweepys_own(client: tweepy.Client, sandbox: Sandbox) -> None:
    id_ = sandbox.id_of("ada")
    with pytest.raises(tweepy.BadRequest, match="is not between 5 and 100"):
        client.get_users_tweets(id_, max_results=3, user_auth=client.user_auth)
    for fault, error in (
        ("window", tweepy.TooManyRequests),
        ("unauthorized", tweepy.Unauthorized),
        ("status", tweepy.TwitterServerError),
        ("credits", tweepy.HTTPException),
    ):
        sandbox.fault(fault)
        with pytest.raises(error):
            client.get_users_tweets(id_, user_auth=client.user_auth)


def test_a_bearer_token_is_fetched_as_tweepy_does(sandbox: Sandbox) -> None:
    keys = sandbox.credentials[0]
    with requests.Session() as session:
        session.mount("https://api.twitter.com/", ToSandbox(sandbox.url))
        token = session.post(
            "https://api.twitter.com/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(keys["consumer_key"], keys["consumer_secret"]),
        ).json()
    assert token["access_token"] == keys["bearer_token"]


def test_the_filtered_stream_with_its_rules(sandbox: Sandbox) -> None:
    got: list[tuple[str, str]] = []

    class Stream(tweepy.StreamingClient):  # type: ignore[misc] # tweepy has no types
        def on_connect(self) -> None:
            sandbox.control("POST", "/sandbox/world", {"user": "grace", "add_posts": 3})

        def on_response(self, response: tweepy.StreamResponse) -> None:
            got.append((response.data.id, response.matching_rules[0].tag))
            if len(got) == 3:
                self.disconnect()

    stream = Stream(sandbox.credentials[0]["bearer_token"], max_retries=0)
    stream.session.mount("https://api.twitter.com/", ToSandbox(sandbox.url))
    made = stream.add_rules([tweepy.StreamRule("from:grace", "g")])
    assert made.meta["summary"]["created"] == 1
    sandbox.control("POST", "/sandbox/clock", {"pass_s": 20})
    stream.filter(tweet_fields=["created_at"], expansions=["author_id"])
    assert {tag for _, tag in got} == {"g"}
    assert len({id_ for id_, _ in got}) == 3
    stream.delete_rules([rule.id for rule in stream.get_rules().data])
    assert stream.get_rules().data is None
