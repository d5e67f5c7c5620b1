"""Statuses of the closed API v1.1.

Each column's rule, and properties of any status.
"""

from __future__ import annotations

import copy
import html
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from array_literals import parsed
from hypothesis import given, settings
from hypothesis import strategies as st

from tweetcrawler.archives.flatten_v1 import flatten_statuses
from tweetcrawler.flatten import COLUMNS, LISTS, Partial, flatten

ARCHIVES = Path(__file__).parent / "data" / "archives"


def status(**values: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "id_str": "1",
        "text": "t",
        "user": {"id_str": "5", "screen_name": "Ada", "name": "A"},
    } | values


def row(**values: Any) -> dict[str, Any]:
    rows, refused = flatten_statuses([status(**values)])
    assert refused == []
    assert tuple(rows[0]) == COLUMNS
    return rows[0]


def stream() -> list[dict[str, Any]]:
    lines = (ARCHIVES / "stream_minute.jsonl").read_text(encoding="utf-8").splitlines()[:-1]
    return [found for line in lines if line and "id_str" in (found := json.loads(line))]


def test_streamed_status_fills_every_column_from_its_extended_part() -> None:
    assert flatten_statuses(stream()[:1]).rows == [
        {
            "id": 1135413500000000001,
            "tweet_from": "AdaBrook",
            "created_at": "2019-06-03T05:10:00.000Z",
            "hashtags": "{ferry,harbour}",
            "urls": "{https://ferry.example/times}",
            "user_mentions_id": "{}",
            "media": (
                "{https://pbs.twimg.com/media/ferry1.jpg,https://pbs.twimg.com/media/ferry2.jpg}"
            ),
            "user_mentions_name": "{}",
            "origin_device": "Tide Board & Bell",
            "favorite_count": 5,
            "text": (
                "The ferry to the northern island leaves at six & the bakery opens at five, so "
                "whoever wants bread for the crossing should be at the harbour before the bell "
                "rings #ferry #harbour https://t.co/u1 https://t.co/m1"
            ),
            "in_reply_to_screen_name": None,
            "in_reply_to_user_id": None,
            "in_reply_to_status_id": None,
            "retweet_count": 2,
            "retweeted_status_text": None,
            "retweeted_status_url": None,
            "retweeted_status_id": None,
            "retweeted_status_user_name": None,
            "retweeted_status_user_handle": None,
            "sentiment": None,
        }
    ]


def test_retweet_keeps_its_cut_text_and_takes_lists_from_the_whole_status() -> None:
    original, retweet, _ = stream()
    whole, outer = flatten_statuses([original]).rows[0], flatten_statuses([retweet]).rows[0]
    assert outer["text"].startswith("RT @AdaBrook: The ferry")
    assert outer["text"].endswith("…")
    assert outer["retweeted_status_text"] == whole["text"]
    assert outer["retweeted_status_id"] == whole["id"]
    assert (outer["retweeted_status_user_name"], outer["retweeted_status_user_handle"]) == (
        "Ada Brook 🦉",
        "AdaBrook",
    )
    for column in ("hashtags", "urls", "media"):
        assert outer[column] == whole[column]
    assert outer["retweeted_status_url"] == whole["urls"]
    assert (outer["user_mentions_id"], outer["user_mentions_name"]) == ("{501}", "{AdaBrook}")
    assert (outer["favorite_count"], outer["retweet_count"]) == (0, 0)


def test_mentions_of_a_retweet_are_its_author_and_then_those_of_the_original() -> None:
    inner = status(
        id_str="2",
        user={"id_str": "7", "screen_name": "Bo"},
        entities={"user_mentions": [{"id_str": "8", "screen_name": "Cy"}]},
    )
    outer = row(
        retweeted_status=inner, entities={"user_mentions": [{"id_str": "7", "screen_name": "Bo"}]}
    )
    assert (outer["user_mentions_id"], outer["user_mentions_name"]) == ("{7,8}", "{Bo,Cy}")


@pytest.mark.parametrize("user", [{"id_str": "7"}, {}])
def test_trimmed_author_of_a_retweet_is_known_from_the_outer_mention(user: dict[str, Any]) -> None:
    inner = status(id_str="2", user=user)
    outer = row(
        retweeted_status=inner, entities={"user_mentions": [{"id_str": "7", "screen_name": "Bo"}]}
    )
    assert (outer["user_mentions_id"], outer["user_mentions_name"]) == ("{7}", "{Bo}")
    assert outer["retweeted_status_user_handle"] is None


def test_reply_names_status_and_user_by_their_text_ids() -> None:
    reply = flatten_statuses([stream()[2]]).rows[0]
    assert reply["in_reply_to_status_id"] == 1135413504194304002
    assert (reply["in_reply_to_user_id"], reply["in_reply_to_screen_name"]) == (502, "ben_ose")
    assert reply["text"] == "@ben_ose see you there <3"
    assert reply["origin_device"] is None


def test_ids_are_never_read_from_numbers_that_may_be_rounded() -> None:
    """A recorded archive has an id that differs from its id_str in the last digits."""
    rounded = row(
        id=434400,
        id_str="434368",
        in_reply_to_user_id=10,
        in_reply_to_user_id_str="11",
        in_reply_to_status_id=20,
        in_reply_to_status_id_str="21",
        entities={
            "user_mentions": [
                {"id": 30, "id_str": "31", "screen_name": "x"},
                {"id": 40, "screen_name": "y"},
            ]
        },
        retweeted_status={"id": 50, "id_str": "51", "text": "t"},
    )
    assert [
        rounded[c]
        for c in ("id", "in_reply_to_user_id", "in_reply_to_status_id", "retweeted_status_id")
    ] == [
        434368,
        11,
        21,
        51,
    ]
    plain = row(
        entities={
            "user_mentions": [
                {"id": 30, "id_str": "31", "screen_name": "x"},
                {"id": 40, "screen_name": "y"},
            ]
        }
    )
    assert plain["user_mentions_id"] == "{31,NULL}"
    assert plain["user_mentions_name"] == "{x,y}"


def test_status_without_id_str_is_refused_with_its_reason() -> None:
    alone = status()
    del alone["id_str"]
    rows, refused = flatten_statuses([alone, status(id_str="2")])
    assert [each["id"] for each in rows] == [2]
    assert "id_str" in refused[0].reason


@pytest.mark.parametrize(
    ("forms", "text"),
    [
        ({"text": "a", "full_text": "b", "extended_tweet": {"full_text": "c"}}, "c"),
        ({"text": "a", "full_text": "b"}, "b"),
        ({"text": "a"}, "a"),
        ({"text": "a", "extended_tweet": {}}, "a"),
        ({"text": "&amp;lt; &gt;&lt;&amp;"}, "&lt; ><&"),
        ({"text": "nul\x00 \ud83d"}, "nul\ufffd \ufffd"),
        ({"text": None}, None),
    ],
)
def test_text_is_the_longest_form(forms: dict[str, Any], text: str | None) -> None:
    assert row(**forms)["text"] == text


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("Wed Aug 27 13:08:45 +0000 2008", "2008-08-27T13:08:45.000Z"),
        ("Tue Mar 21 20:50:14 +0000 2006", "2006-03-21T20:50:14.000Z"),
        ("Sun Feb 29 23:59:59 +0000 2004", "2004-02-29T23:59:59.000Z"),
        ("Wed, 27 Aug 2008 13:08:45 +0000", "2008-08-27T13:08:45.000Z"),
        ("Thu Aug 28 01:08:45 +0200 2008", "2008-08-27T23:08:45.000Z"),
        ("2008-08-27T13:08:45.000Z", "2008-08-27T13:08:45.000Z"),
        ("2008-08-27 13:08:45", "2008-08-27T13:08:45.000Z"),
        ("Mon Feb 30 10:00:00 +0000 2009", None),
        ("Mon Foo 12 10:00:00 +0000 2009", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (12, None),
    ],
)
def test_created_at_takes_the_form_of_v2(sent: Any, stored: str | None) -> None:
    assert row(created_at=sent)["created_at"] == stored


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ('<a href="http://x.example" rel="nofollow">Twitter for iPhone</a>', "Twitter for iPhone"),
        ('<a href="http://x.example">A &amp; B</a>', "A & B"),
        ("web", "web"),
        ("", None),
        ('<a href="http://x.example"></a>', None),
        (None, None),
        (5, None),
    ],
)
def test_device_is_the_text_of_the_anchor(source: Any, device: str | None) -> None:
    assert row(source=source)["origin_device"] == device


def test_urls_fall_back_to_the_short_form_and_keep_repeats() -> None:
    urls = [
        {"url": "s1", "expanded_url": "e1"},
        {"url": "s2"},
        {"url": "s3", "expanded_url": None},
        {"url": "s2"},
    ]
    assert row(entities={"urls": urls})["urls"] == "{e1,s2,s3,s2}"


def test_media_are_all_pictures_and_not_only_the_first() -> None:
    one, two = {"media_url_https": "p1"}, {"media_url_https": "p2"}
    assert (
        row(entities={"media": [one]}, extended_entities={"media": [one, two]})["media"]
        == "{p1,p2}"
    )
    assert row(entities={"media": [one]})["media"] == "{p1}"
    assert (
        row(
            extended_tweet={"full_text": "x", "entities": {"media": [two]}},
            entities={"media": [one]},
        )["media"]
        == "{p2}"
    )


def test_lists_and_counts_are_unknown_without_entities() -> None:
    bare = row()
    assert {bare[column] for column in LISTS} == {None}
    told: dict[str, Any] = {"hashtags": [], "urls": [], "user_mentions": [], "media": []}
    assert {row(entities=told)[column] for column in LISTS} == {"{}"}
    assert bare["favorite_count"] is bare["retweet_count"] is bare["retweeted_status_url"] is None


def test_sentiment_is_asked_for_english_only() -> None:
    asked: list[str] = []

    def score(text: str) -> float:
        asked.append(text)
        return 0.12345

    rows, _ = flatten_statuses(
        [status(lang="en", text="a &amp; b"), status(id_str="2", lang="de"), status(id_str="3")],
        score=score,
    )
    assert asked == ["a & b"]
    assert [each["sentiment"] for each in rows] == [0.1235, None, None]


def test_status_that_lost_its_end_says_so() -> None:
    def is_partial(**values: Any) -> bool:
        (row,) = flatten_statuses([status(**values)]).rows
        return isinstance(row, Partial)

    assert is_partial(truncated=True)
    assert is_partial(retweeted_status=status(id_str="2", truncated=True))
    assert not is_partial(retweeted_status=status(id_str="2"))
    assert not is_partial(truncated=True, extended_tweet={"full_text": "x"})
    assert not is_partial(truncated=False)


def test_the_forms_of_one_status_give_one_row() -> None:
    streamed = flatten_statuses(stream()[:1]).rows
    extended = json.loads((ARCHIVES / "user_timeline_extended.json").read_text(encoding="utf-8"))
    assert flatten_statuses(extended[:1]).rows == streamed


# --- what holds for any status ------------------------------------------------------

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=9)
    | st.just("12"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def damaged_statuses(draw: st.DrawFn) -> Any:
    found: Any = copy.deepcopy(draw(st.sampled_from(stream())))
    for _ in range(draw(st.integers(1, 4))):
        node = found
        while True:
            keys = list(range(len(node))) if isinstance(node, list) else list(node)
            key = draw(st.sampled_from(keys)) if keys else None
            if key is None:
                break
            inner = node[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
                node[key] = draw(junk)
                break
            node = inner
    return found


@settings(max_examples=400)
@given(st.lists(damaged_statuses() | junk, max_size=3))
def test_junk_anywhere_loses_no_status_raises_nothing_and_changes_nothing(
    statuses: list[Any],
) -> None:
    before = repr(statuses)
    for each in statuses:
        rows, refused = flatten_statuses([each])
        assert len(rows) + len(refused) == 1
        for found in rows:
            assert tuple(found) == COLUMNS
            for value in found.values():
                if isinstance(value, str):
                    value.encode()
                    assert "\x00" not in value
            for column in ("hashtags", "urls", "user_mentions_id", "media", "user_mentions_name"):
                parsed(found[column] or "{}")
            assert len(parsed(found["user_mentions_id"] or "{}")) == len(
                parsed(found["user_mentions_name"] or "{}")
            )
            if found["created_at"] is not None:
                datetime.fromisoformat(found["created_at"])
    assert repr(statuses) == before


# --- recorded ones ------------------------------------------------------------------


def recorded_statuses(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted((folder / "v1").glob("*")):
        if path.name.startswith(("one_", "user_timeline", "stream_")):
            text = path.read_text(encoding="utf-8")
            parts = (
                [json.loads(line) for line in text.splitlines()]
                if path.suffix == ".jsonl"
                else [json.loads(text)]
            )
            found += [
                each for part in parts for each in (part if isinstance(part, list) else [part])
            ]
    return found


def test_recorded_statuses_agree_with_columns_made_in_another_way(recorded: Path) -> None:
    statuses = recorded_statuses(recorded)
    assert len(statuses) > 140
    for sent in statuses:
        (found,), refused = flatten_statuses([sent])
        assert refused == []
        assert found["id"] == int(sent["id_str"])
        at = datetime.strptime(sent["created_at"], "%a %b %d %H:%M:%S %z %Y")
        assert datetime.fromisoformat(found["created_at"]) == at
        longest = (
            sent.get("extended_tweet", {}).get("full_text") or sent.get("full_text") or sent["text"]
        )
        assert found["text"] == html.unescape(longest)
        assert found["tweet_from"] == sent["user"]["screen_name"]
        inner = sent.get("retweeted_status")
        assert found["retweeted_status_id"] == (int(inner["id_str"]) if inner else None)
        if inner:
            assert parsed(found["user_mentions_name"] or "{}")[0] == inner["user"]["screen_name"]


def test_status_and_the_same_post_in_v2_agree_where_both_say_it() -> None:
    """The two vocabularies of one invented post, written by hand from the description of each."""
    old = status(
        id_str="9",
        text="Tea &amp; toast @Bo #tea https://t.co/a",
        created_at="Mon Jun 10 09:00:00 +0000 2024",
        favorite_count=3,
        retweet_count=1,
        entities={
            "hashtags": [{"text": "tea"}],
            "user_mentions": [{"id_str": "7", "screen_name": "Bo"}],
            "urls": [{"url": "https://t.co/a", "expanded_url": "https://a.example"}],
        },
    )
    new = {
        "id": "9",
        "author_id": "5",
        "text": "Tea &amp; toast @Bo #tea https://t.co/a",
        "created_at": "2024-06-10T09:00:00.000Z",
        "public_metrics": {"like_count": 3, "retweet_count": 1},
        "entities": {
            "hashtags": [{"tag": "tea"}],
            "mentions": [{"id": "7", "username": "Bo"}],
            "urls": [{"url": "https://t.co/a", "expanded_url": "https://a.example"}],
        },
    }
    page = {"data": new, "includes": {"users": [{"id": "5", "username": "Ada", "name": "A"}]}}
    assert flatten_statuses([old]).rows == flatten(page).rows
