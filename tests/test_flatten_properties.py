"""Properties of any page.

Nothing is lost, nothing is raised, nothing is changed, and text comes through.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from array_literals import parsed_or_none as parsed
from hypothesis import given, settings
from hypothesis import strategies as st

from tweetcrawler.flatten import COLUMNS, flatten

LISTS = (
    "hashtags",
    "urls",
    "user_mentions_id",
    "media",
    "user_mentions_name",
    "retweeted_status_url",
)
NUMBERS = {
    "id",
    "favorite_count",
    "in_reply_to_user_id",
    "in_reply_to_status_id",
    "retweet_count",
    "retweeted_status_id",
}

any_text = st.text(st.characters(), max_size=20)  # surrogates and U+0000 are characters here
some_ids = st.integers(1, 12).map(str)
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | any_text
    | st.integers(-(2**70), 2**70).map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object of which any subset of the keys is there."""
    return st.fixed_dictionaries({}, optional=fields)


def few(thing: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(thing, max_size=3)


entities = part(
    hashtags=few(part(tag=any_text)),
    urls=few(part(url=any_text, expanded_url=any_text, media_key=some_ids)),
    mentions=few(part(id=some_ids, username=any_text)),
)
counts = st.integers(0, 2**63 - 1)
optional = {
    "text": any_text,
    "author_id": some_ids,
    "created_at": any_text,
    "lang": st.sampled_from(["en", "de", "und"]),
    "source": any_text,
    "in_reply_to_user_id": some_ids,
    "public_metrics": part(like_count=counts, retweet_count=counts, repost_count=counts),
    "entities": entities,
    "note_tweet": part(text=any_text, entities=entities),
    "attachments": part(media_keys=few(some_ids), poll_ids=few(some_ids)),
    "referenced_tweets": few(
        part(type=st.sampled_from(["retweeted", "quoted", "replied_to"]), id=some_ids)
    ),
}
tweets: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"id": st.integers(1, 2**63 - 1).map(str)}, optional=optional
)
pages: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"data": st.lists(tweets, max_size=4, unique_by=lambda tweet: tweet["id"])},
    optional={
        "includes": part(
            users=few(part(id=some_ids, username=any_text, name=any_text)),
            tweets=few(part(id=some_ids, **optional)),
            media=few(part(media_key=some_ids, url=any_text, preview_image_url=any_text)),
        ),
        "meta": part(result_count=counts),
    },
)


def paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands in a page, from the outside inwards."""
    keys = (
        range(len(node)) if isinstance(node, list) else list(node) if isinstance(node, dict) else []
    )
    return [here for key in keys for here in [(*path, key), *paths(node[key], (*path, key))]]


@st.composite
def damaged_pages(draw: st.DrawFn) -> dict[str, Any]:
    """A page in which junk stands in up to four places, whatever stood there."""
    page = copy.deepcopy(draw(pages))
    for _ in range(draw(st.integers(1, 4))):
        places = paths(page)
        *outer, last = draw(st.sampled_from(places))
        node: Any = page
        for key in outer:
            node = node[key]
        node[last] = draw(junk)
    return page


def clean(text: str) -> str:
    return "".join("\ufffd" if c == "\x00" or 0xD800 <= ord(c) <= 0xDFFF else c for c in text)


def assert_can_be_stored(row: dict[str, Any]) -> None:
    assert tuple(row) == COLUMNS
    assert row["id"] > 0
    for column, value in row.items():
        if value is None or column == "sentiment":
            continue
        if column in NUMBERS:
            assert type(value) is int, column
            assert -(2**63) <= value < 2**63, column
        else:
            assert type(value) is str, column
            assert "\x00" not in value, column
            value.encode()
    for column in LISTS:
        if column != "retweeted_status_url" or row[column] is not None:
            parsed(row[column])
    numbers = [int(element) for element in parsed(row["user_mentions_id"]) if element is not None]
    assert all(0 < number < 2**63 for number in numbers)
    assert len(parsed(row["user_mentions_id"])) == len(parsed(row["user_mentions_name"]))


def distinct(data: Any) -> int:
    """The number of tweets in `data`.

    Those with the same decimal id are one; each other thing is its own.
    """
    things = data if isinstance(data, list) else [] if data is None else [data]
    names: set[object] = set()
    for position, thing in enumerate(things):
        value = thing.get("id") if isinstance(thing, dict) else None
        decimal = type(value) is int and value >= 0
        if type(value) is str:
            decimal = value.isascii() and value.isdigit() and len(value) <= 19
        names.add(int(str(value)) if decimal else ("unnamed", position))
    return len(names)


@given(pages)
def test_any_subset_of_the_optional_fields_gives_a_row(page: dict[str, Any]) -> None:
    rows, refused = flatten(page)
    assert refused == []
    assert [row["id"] for row in rows] == sorted(int(tweet["id"]) for tweet in page["data"])
    for row in rows:
        assert_can_be_stored(row)


@settings(max_examples=300)
@given(damaged_pages())
def test_junk_anywhere_loses_no_tweet_raises_nothing_and_changes_nothing(
    page: dict[str, Any],
) -> None:
    before = copy.deepcopy(page)
    rows, refused = flatten(page)
    assert repr(page) == repr(before)
    assert len(rows) + len(refused) == distinct(page.get("data"))
    for row in rows:
        assert_can_be_stored(row)
    for entry in refused:
        assert entry.reason.isprintable()
        assert len(entry.reason) < 250


@given(damaged_pages())
def test_the_row_of_a_tweet_does_not_depend_on_the_others(page: dict[str, Any]) -> None:
    data = page.get("data")
    things = data if isinstance(data, list) else [data]
    alone = {row["id"]: row for thing in things for row in flatten({**page, "data": thing}).rows}
    assert flatten(page).rows == [alone[tweet_id] for tweet_id in sorted(alone)]


@given(pages, st.randoms(use_true_random=False))
def test_order_of_the_tweets_does_not_matter(page: dict[str, Any], random: Any) -> None:
    shuffled = copy.deepcopy(page)
    random.shuffle(shuffled["data"])
    assert flatten(shuffled) == flatten(page) == flatten(page)


@given(pages)
def test_post_vocabulary_says_the_same(page: dict[str, Any]) -> None:
    names = {
        "referenced_tweets": "referenced_posts",
        "note_tweet": "note_post",
        "retweet_count": "repost_count",
        "tweets": "posts",
    }

    def translated(node: Any) -> Any:
        if isinstance(node, dict):
            kept = {key: value for key, value in node.items() if key not in names.values()}
            return {names.get(key, key): translated(value) for key, value in kept.items()}
        return [translated(item) for item in node] if isinstance(node, list) else node

    def only_tweets(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: only_tweets(value) for key, value in node.items() if key not in names.values()
            }
        return [only_tweets(item) for item in node] if isinstance(node, list) else node

    assert flatten(translated(page)) == flatten(only_tweets(page))


@given(
    few(st.text(st.characters()) | st.sampled_from(["NULL", "null", "{}", '"', "\\", ",", " ", ""]))
)
def test_any_element_comes_out_of_the_array_literal_as_it_went_in(elements: list[str]) -> None:
    tweet = {
        "id": "1",
        "entities": {
            "hashtags": [{"tag": element} for element in elements],
            "mentions": [{"username": element} for element in elements],
        },
    }
    (row,) = flatten({"data": tweet}).rows
    assert (
        parsed(row["hashtags"])
        == parsed(row["user_mentions_name"])
        == [clean(element) for element in elements]
    )
    assert parsed(row["user_mentions_id"]) == [None] * len(elements)


@given(st.text(st.characters()))
def test_any_text_comes_out_as_its_author_wrote_it(written: str) -> None:
    escaped = written.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    (row,) = flatten({"data": {"id": "1", "text": escaped}}).rows
    assert row["text"] == clean(written)


@given(st.integers() | st.floats() | st.integers(-(2**64), 2**64))
def test_count_is_stored_exactly_or_not_at_all(count: float) -> None:
    rows, refused = flatten({"data": {"id": "1", "public_metrics": {"like_count": count}}})
    if refused:
        whole = math.isfinite(count) and count == int(count)
        assert not whole or not -(2**63) <= count < 2**63 or type(count) is float
    else:
        assert rows[0]["favorite_count"] == count


@given(st.integers())
def test_id_is_the_same_as_text_and_as_number(number: int) -> None:
    as_text, as_number = flatten({"data": {"id": str(number)}}), flatten({"data": {"id": number}})
    assert as_text.rows == as_number.rows
    assert bool(as_text.rows) == (0 < number < 2**63)
