"""Recorded answers of X.

No tweet in them is lost; some columns, computed in another way, agree.

The folder that holds them is named by TWEETCRAWLER_RECORDED.
"""

from __future__ import annotations

import copy
import html
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from array_literals import parsed_or_none as parsed

from tweetcrawler.flatten import COLUMNS, flatten

FOLDER = os.environ.get("TWEETCRAWLER_RECORDED")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="TWEETCRAWLER_RECORDED names no folder of recorded answers"
)


def documents(path: Path) -> Iterator[Any]:
    """The JSON documents of a file: the whole of it, or one per line.

    Lines that are cut are left out.
    """
    text = path.read_text(encoding="utf-8")
    for part in [text] if path.suffix == ".json" else text.splitlines():
        try:
            document = json.loads(part)
        except json.JSONDecodeError:
            continue
        yield document["body"] if "body" in document and "status" in document else document


def tweet_pages() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((Path(FOLDER or "") / "v2").glob("*.json*")):
        for document in documents(path):
            if not isinstance(document, dict):
                continue
            page = {"data": document} if "text" in document else document
            if any("text" in thing for thing in tweets_of(page)):
                yield path.name, page


def tweets_of(page: dict[str, Any]) -> list[dict[str, Any]]:
    data = page.get("data") or []
    return [data] if isinstance(data, dict) else data


def tweets_with_rows() -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    for _, page in tweet_pages():
        rows = {str(row["id"]): row for row in flatten(page).rows}
        for tweet in tweets_of(page):
            yield tweet, rows[tweet["id"]], page


def included(page: dict[str, Any], kind: str, key: str = "id") -> dict[str, dict[str, Any]]:
    return {thing[key]: thing for thing in page.get("includes", {}).get(kind, [])}


def retweeted(tweet: dict[str, Any]) -> str | None:
    ids = [ref["id"] for ref in tweet.get("referenced_tweets", []) if ref["type"] == "retweeted"]
    return ids[0] if ids else None


def test_there_are_enough_recorded_tweets_to_say_something() -> None:
    assert sum(len(tweets_of(page)) for _, page in tweet_pages()) > 130
    assert len({name for name, _ in tweet_pages()}) >= 10


def test_every_recorded_tweet_is_a_row_and_its_page_stays_as_it_is() -> None:
    for name, page in tweet_pages():
        before = copy.deepcopy(page)
        rows, refused = flatten(page)
        assert page == before, name
        assert refused == [], name
        assert {str(row["id"]) for row in rows} == {tweet["id"] for tweet in tweets_of(page)}, name
        assert all(tuple(row) == COLUMNS for row in rows), name


def test_recorded_answers_of_other_endpoints_lose_nothing_either() -> None:
    """Users, spaces, rules, trends, counts: a row or a refusal for each.

    No kind of document raises an exception.
    """
    for path in sorted((Path(FOLDER or "") / "v2").glob("*.json*")):
        for document in documents(path):
            if isinstance(document, dict):
                names = {thing.get("id", index) for index, thing in enumerate(tweets_of(document))}
                rows, refused = flatten(document)
                assert len(rows) + len(refused) == len(names), path.name


def test_text_author_and_counts_agree() -> None:
    for tweet, row, page in tweets_with_rows():
        author = included(page, "users").get(tweet.get("author_id", ""), {})
        metrics = tweet.get("public_metrics", {})
        assert row["text"] == html.unescape(tweet["text"])
        assert row["created_at"] == tweet.get("created_at")
        assert row["tweet_from"] == author.get("username")
        assert (row["favorite_count"], row["retweet_count"]) == (
            metrics.get("like_count"),
            metrics.get("retweet_count"),
        )
        assert row["origin_device"] == tweet.get("source")
        assert str(row["in_reply_to_user_id"]) == tweet.get("in_reply_to_user_id", "None")


def test_lists_agree_with_the_entities_of_the_whole_tweet() -> None:
    for tweet, row, page in tweets_with_rows():
        original = included(page, "tweets").get(retweeted(tweet) or "")
        entities = (original or tweet).get("entities", {})
        mentions = [(entry.get("id"), entry["username"]) for entry in entities.get("mentions", [])]
        if original:
            mentions.insert(
                0, (original["author_id"], tweet["text"].split(":")[0].removeprefix("RT @"))
            )
        own = [entry for entry in entities.get("urls", []) if "media_key" not in entry]
        assert parsed(row["hashtags"]) == [entry["tag"] for entry in entities.get("hashtags", [])]
        assert parsed(row["urls"]) == [entry["expanded_url"] for entry in own]
        assert parsed(row["user_mentions_id"]) == [user_id for user_id, _ in mentions]
        assert parsed(row["user_mentions_name"]) == [username for _, username in mentions]


def test_retweets_agree_with_the_included_tweet() -> None:
    seen = 0
    for tweet, row, page in tweets_with_rows():
        assert str(row["retweeted_status_id"]) == str(retweeted(tweet))
        original = included(page, "tweets").get(retweeted(tweet) or "")
        if original is None:
            assert row["retweeted_status_text"] is row["retweeted_status_url"] is None
            continue
        seen += 1
        author = included(page, "users")[original["author_id"]]
        assert row["retweeted_status_text"] == html.unescape(original["text"])
        assert row["retweeted_status_user_name"] == author["name"]
        assert row["retweeted_status_user_handle"] == author["username"]
        assert row["retweeted_status_url"] == (row["urls"] or "{}")
    assert seen > 50


def test_media_agree_with_the_included_ones() -> None:
    seen = 0
    for tweet, row, page in tweets_with_rows():
        whole = included(page, "tweets").get(retweeted(tweet) or "") or tweet
        media = included(page, "media", "media_key")
        keys = [key for key in whole.get("attachments", {}).get("media_keys", []) if key in media]
        addresses = [media[key].get("url", media[key].get("preview_image_url")) for key in keys]
        seen += len(addresses)
        assert parsed(row["media"]) == [address for address in addresses if address]
    assert seen > 5
