"""What is known of a post stays known, however it is saved again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweetcrawler.db import Database, Session
from tweetcrawler.flatten import COLUMNS, LISTS, flatten
from tweetcrawler.pages import Batch, Bought

LONG = "rain on the quay " * 20
CUT = LONG[:270] + "\u2026 https://t.co/abcdefghij"
PICTURES = ("https://pics.example/1.jpg", "https://pics.example/2.jpg")


def page_of(*tweets: Mapping[str, Any], **includes: Any) -> dict[str, Any]:
    return {"data": list(tweets), "includes": includes}


# A retweet, a reply with pictures and a note: every column of a row is filled by one of them.
ADA, BO = {"id": "11", "username": "Ada", "name": "Ada A"}, {"id": "12", "username": "Bo"}
ORIGINAL = {
    "id": "1500000000000000005",
    "text": CUT,
    "note_tweet": {
        "text": LONG,
        "entities": {
            "hashtags": [{"tag": "rain"}, {"tag": "quay"}],
            "urls": [{"url": "https://t.co/b", "expanded_url": "https://example.org/b"}],
            "mentions": [{"id": "13", "username": "Cy"}],
        },
    },
    "author_id": "12",
    "attachments": {"media_keys": ["3_1"]},
}
RETWEET = {
    "id": "1500000000000000010",
    "text": "RT @Bo: rain on the quay \u2026",
    "author_id": "11",
    "created_at": "2022-03-05T10:00:00.000Z",
    "lang": "en",
    "source": "Web",
    "public_metrics": {"like_count": 0, "retweet_count": 3},
    "referenced_tweets": [{"type": "retweeted", "id": "1500000000000000005"}],
    "entities": {
        "hashtags": [{"tag": "rain"}],
        "mentions": [{"id": "12", "username": "Bo"}],
    },
}
REPLY = {
    "id": "1500000000000000020",
    "text": CUT,
    "note_tweet": ORIGINAL["note_tweet"],
    "author_id": "11",
    "created_at": "2022-03-05T11:00:00.000Z",
    "lang": "en",
    "public_metrics": {"like_count": 5, "retweet_count": 1},
    "attachments": {"media_keys": ["3_1", "3_2"]},
    "in_reply_to_user_id": "12",
    "referenced_tweets": [{"type": "replied_to", "id": "1500000000000000005"}],
}
MEDIA = [{"media_key": f"3_{n}", "url": url} for n, url in enumerate(PICTURES, 1)]
WHOLE = page_of(RETWEET, REPLY, users=[ADA, BO], tweets=[ORIGINAL], media=MEDIA)
STORED = "SELECT * FROM tweet_articles_tweepy ORDER BY id"


def scored(text: str) -> float:
    return len(text) / 1000


class Store:
    """The two doors through which rows come into the table."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.run, _ = session.begin_run(version="test", arguments={}, host="test", credentials=())
        self.files = 0

    def save(self, page: Mapping[str, Any]) -> None:
        bought = Bought("/2/tweets/search/recent", {}, "c1", b"{}")
        rows = flatten(page, score=scored).rows
        self.session.save(self.run, "w", Batch(None, bought, rows))

    def load(self, page: Mapping[str, Any]) -> None:
        self.files += 1
        name = f"file {self.files}"
        rows = flatten(page, score=scored).rows
        state = self.session.begin_import(
            self.run, name, size=1, fingerprint=name, head=name, again=False
        )
        self.session.load(state, rows, state)

    def stored(self) -> list[dict[str, Any]]:
        def work(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
            rows = connection.execute(STORED).fetchall()
            return [dict(zip(COLUMNS, row, strict=True)) for row in rows]

        return self.session.do(work)

    def empty(self) -> None:
        self.session.forget([row["id"] for row in self.stored()])


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    with database.session() as session:
        yield Store(session)


@st.composite
def lesser(draw: st.DrawFn, thing: Any = None) -> Any:
    """The page of the posts without some of its keys, at any depth."""
    if thing is None:
        return draw(lesser(copy.deepcopy(WHOLE)))
    if isinstance(thing, list):
        return [draw(lesser(part)) for part in thing]
    if not isinstance(thing, dict):
        return thing
    never = {"data", "id", "username", "media_key", "type", "tag", "text"}
    kept = [key for key in thing if key in never or draw(st.booleans())]
    return {key: draw(lesser(thing[key])) for key in kept}


@pytest.mark.parametrize("door", ["save", "load"])
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(page=lesser())
def test_any_subset_of_the_keys_of_a_stored_post_takes_nothing_away(
    store: Store, door: str, page: dict[str, Any]
) -> None:
    store.empty()
    store.save(WHOLE)
    before = store.stored()
    getattr(store, door)(page)
    for known, now in zip(before, store.stored(), strict=True):
        assert {c for c in COLUMNS if now[c] in (None, "{}")} == {
            c for c in COLUMNS if known[c] in (None, "{}")
        }
        assert now["text"] == known["text"]
        assert now["retweeted_status_text"] == known["retweeted_status_text"]


@pytest.mark.parametrize("door", ["save", "load"])
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(page=lesser())
def test_the_whole_post_fills_what_a_part_of_it_left_open(
    store: Store, door: str, page: dict[str, Any]
) -> None:
    store.empty()
    store.save(WHOLE)
    whole = store.stored()
    store.empty()
    getattr(store, door)(page)
    for row in store.stored():
        assert not [column for column in LISTS if row[column] is None]
    store.save(WHOLE)
    assert store.stored() == whole
