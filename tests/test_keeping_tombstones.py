"""Blanking: the object that was deleted on X goes from a page, all others stay as they are."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_keeping_segments import data_files

from tweetcrawler.keeping.lines import KeptPage, page_line, page_of, stream_line
from tweetcrawler.keeping.manifests import DATA, chain_faults
from tweetcrawler.keeping.segments import Writer, check, lines_of, read_manifests
from tweetcrawler.keeping.tombstones import blank, blanked

CANARY = "canary text that must be found nowhere"
small = st.integers(1, 12)
words = st.text(max_size=5)


@st.composite
def posts(draw: st.DrawFn) -> dict[str, Any]:
    post: dict[str, Any] = {"id": str(draw(small)), "text": "t" + draw(words)}
    if draw(st.booleans()):
        post["author_id"] = str(draw(small))
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["retweeted", "quoted", "replied_to"]))
        post["referenced_tweets"] = [{"type": kind, "id": str(draw(small))}]
    if draw(st.booleans()):
        post["attachments"] = {"media_keys": [f"3_{draw(small)}"], "poll_ids": [str(draw(small))]}
    if draw(st.booleans()):
        post["geo"] = {"place_id": str(draw(small))}
    if draw(st.booleans()):
        post["edit_history_tweet_ids"] = [post["id"], str(draw(small))]
    return post


users = st.builds(lambda i, name: {"id": str(i), "username": "u" + name}, small, words)
pages = st.fixed_dictionaries(
    {"data": st.lists(posts(), max_size=6) | posts() | st.lists(users, max_size=4)},
    optional={
        "includes": st.fixed_dictionaries(
            {},
            optional={
                "tweets": st.lists(posts(), max_size=4),
                "users": st.lists(users, max_size=4),
                "media": st.lists(st.builds(lambda n: {"media_key": f"3_{n}"}, small), max_size=4),
                "polls": st.lists(st.builds(lambda n: {"id": str(n)}, small), max_size=4),
                "places": st.lists(st.builds(lambda n: {"id": str(n)}, small), max_size=4),
            },
        ),
        "meta": st.just({"newest_id": "12", "next_token": "x"}),
    },
)
numbers = st.sets(small, max_size=4)


def objects(page: dict[str, Any]) -> list[dict[str, Any]]:
    data, includes = page["data"], page.get("includes", {})
    return [
        *(data if isinstance(data, list) else [data]),
        *includes.get("tweets", ()),
        *includes.get("users", ()),
    ]


def ids_of(post: dict[str, Any]) -> set[int]:
    return set(map(int, [post["id"], *post.get("edit_history_tweet_ids", ())]))


@given(page=pages, gone=numbers, users=numbers)
def test_what_is_meant_is_blanked_and_every_other_object_stays(
    page: dict[str, Any], gone: set[int], users: set[int]
) -> None:
    body, count = blank(orjson.dumps(page), gone, users)
    made = orjson.loads(body)
    meant = {
        int(one["id"])
        for one in objects(page)
        if "text" in one and (ids_of(one) & gone or int(one.get("author_id", 0)) in users)
    }
    changed = 0
    for before, after in zip(objects(page), objects(made), strict=True):
        assert after["id"] == before["id"]
        links = before.get("referenced_tweets", ())
        if "username" in before:
            is_blank = int(before["id"]) in users
        else:
            is_blank = bool(ids_of(before) & gone or int(before.get("author_id", 0)) in users)
        repeats = any(
            one["type"] == "retweeted" and int(one["id"]) in meant | gone for one in links
        )
        if is_blank:
            kind = "user" if "username" in before else "post"
            assert after == {"id": before["id"], "tombstone": kind}
        elif repeats:
            assert after["text"] == ""
            assert "attachments" not in after
            assert after.get("author_id") == before.get("author_id")
        else:
            assert after == before
        changed += is_blank or repeats
    assert count == changed
    assert made.get("meta") == page.get("meta")


@given(page=pages, gone=numbers, users=numbers)
def test_a_second_time_changes_nothing(
    page: dict[str, Any], gone: set[int], users: set[int]
) -> None:
    once, _ = blank(orjson.dumps(page), gone, users)
    assert blank(once, gone, users) == (once, 0)


@given(page=pages, gone=numbers, users=numbers)
def test_media_polls_and_places_go_with_the_last_post_that_names_them(
    page: dict[str, Any], gone: set[int], users: set[int]
) -> None:
    made = orjson.loads(blank(orjson.dumps(page), gone, users)[0])

    def named(one: dict[str, Any]) -> set[str]:
        held: dict[str, Any] = one.get("attachments", {})
        places = one.get("geo", {}).get("place_id")
        return {
            *held.get("media_keys", ()),
            *(held.get("poll_ids", ())),
            *([places] if places else []),
        }

    before = set().union(*map(named, objects(page)))
    after = set().union(*map(named, objects(made)))
    for kind, key in (("media", "media_key"), ("polls", "id"), ("places", "id")):
        held = page.get("includes", {}).get(kind, [])
        left = made.get("includes", {}).get(kind, [])
        assert [one for one in held if one[key] not in before] == [
            one for one in left if one[key] not in before
        ]
        if kind == "media":
            assert {one[key] for one in left} & before <= after


@given(page=pages)
def test_a_page_without_them_comes_back_byte_for_byte(page: dict[str, Any]) -> None:
    body = json.dumps(page, indent=1).encode()
    assert blank(body, {99}, {98}) == (body, 0)
    assert blank(body, (), ()) == (body, 0)


@pytest.mark.parametrize(
    "body",
    [b"[]", b"null", b'"x"', b'{"data":null}', b'{"data":[null,1,"x",{"a":1}],"includes":[]}'],
)
def test_odd_pages_stay(body: bytes) -> None:
    assert blank(body, {1}, {1}) == (body, 0)
    with pytest.raises(ValueError):
        blank(b"{", {1}, {1})


def test_ids_beyond_2_53_and_lone_surrogates() -> None:
    big = 2**63 - 1
    body = b'{"data":[{"id":"%d","text":"a"},{"id":"5","text":"\\ud800","n":%d}]}' % (big, big)
    made, count = blank(body, {big}, ())
    assert count == 1
    assert json.loads(made)["data"] == [
        {"id": str(big), "tombstone": "post"},
        {"id": "5", "text": "\ud800", "n": big},
    ]


def canary_page() -> dict[str, Any]:
    """A page in which one deleted post stands in every place that has its text."""
    return {
        "data": [
            {"id": "1", "text": CANARY, "author_id": "9", "attachments": {"media_keys": ["3_1"]}},
            {
                "id": "2",
                "text": f"RT @nine: {CANARY}",
                "note_tweet": {"text": CANARY},
                "author_id": "8",
                "referenced_tweets": [{"type": "retweeted", "id": "1"}],
            },
            {
                "id": "3",
                "text": "a quote",
                "referenced_tweets": [{"type": "quoted", "id": "1"}],
            },
        ],
        "includes": {
            "tweets": [{"id": "1", "text": CANARY, "author_id": "9"}],
            "media": [{"media_key": "3_1", "alt_text": CANARY}],
            "users": [{"id": "9", "username": "nine"}, {"id": "8", "username": "eight"}],
        },
    }


@pytest.mark.parametrize(("gone", "users"), [({1}, set()), (set(), {9})])
def test_a_canary_is_found_nowhere(gone: set[int], users: set[int]) -> None:
    page = canary_page()
    before = deepcopy(page)
    body, count = blank(orjson.dumps(page), gone, users)
    assert CANARY.encode() not in body
    assert count == (3 if gone else 4)
    assert orjson.loads(body)["data"][2] == before["data"][2]


# -- segments ----------------------------------------------------------------------------------


def segment_of_pages(folder: Path, count: int = 30) -> None:
    writer = Writer(folder, "pages", node="here")
    for number in range(count):
        page = canary_page() if number == 7 else {"data": [{"id": str(100 + number), "text": "t"}]}
        at = datetime(2026, 1, 1, 0, number, tzinfo=UTC)
        kept = KeptPage(str(number), at, "search", {"run": 3}, {"query": "x"}, orjson.dumps(page))
        writer.append(page_line(kept))
        writer.sync()
    writer.close_segment()
    writer.append(stream_or_page_line())
    writer.close_segment()
    writer.close()


def stream_or_page_line() -> Any:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return page_line(KeptPage("last", at, "search", {"run": 3}, {}, b'{"data":[]}'))


def test_a_segment_is_rewritten_under_a_new_name_and_the_chain_holds(tmp_path: Path) -> None:
    segment_of_pages(tmp_path)
    manifests, _ = read_manifests(tmp_path)
    old = next(one for one in manifests if one.number == 1)
    result = blanked(tmp_path, old, {1}, ())
    assert result is not None
    new, count = result
    assert count == 3
    assert (new.number, new.lines, new.posts, new.runs) == (1, 30, old.posts, (3,))
    assert (new.first_at, new.last_at, new.lowest_id) == (old.first_at, old.last_at, old.lowest_id)
    assert new.replaces == (old.sha256,)
    assert new.sha256 != old.sha256
    path = tmp_path / (new.name + DATA)
    check(path, new)
    with path.open("rb") as file:
        lines = list(lines_of(file))
    with (tmp_path / (old.name + DATA)).open("rb") as file:
        before = list(lines_of(file))
    assert [number for number in range(30) if lines[number] != before[number]] == [7]
    assert CANARY.encode() not in b"".join(lines)
    assert page_of(lines[7]).params == {"query": "x"}
    manifests, _ = read_manifests(tmp_path)
    assert chain_faults([one for one in manifests if one != old]) == []
    assert blanked(tmp_path, new, {1}, ()) is None
    assert len(data_files(tmp_path)) == 3


def test_a_segment_of_the_stream_is_rewritten_too(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "stream", node="here")
    for number in (1, 2, 3):
        writer.append(stream_line(orjson.dumps({"data": {"id": str(number), "text": CANARY}})))
    old = writer.close_segment()
    writer.close()
    assert old is not None
    result = blanked(tmp_path, old, {1, 2, 3}, ())
    assert result is not None
    assert result[1] == 3
    assert (result[0].posts, result[0].highest_id) == (3, 3)
