"""Lines of segments: what goes in comes out, byte for byte, for any body."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetcrawler.keeping.lines import KeptPage, counted, page_line, page_of, stream_line

AT = datetime(2026, 5, 4, 3, 2, 1, 654321, tzinfo=UTC)
ids = st.integers(min_value=1, max_value=2**63 - 1)
posts = st.builds(lambda i, text: {"id": str(i), "text": text}, ids, st.text())
texts = st.text(st.characters(exclude_categories=["Cs"]))


def page(body: bytes, **more: Any) -> KeptPage:
    given = {
        "id": "3f2c",
        "fetched_at": AT,
        "endpoint": "search",
        "facts": {"run": 7, "credential": "main", "posts": 1},
        "params": {"query": '"},"body":"'},
    }
    return KeptPage(**{**given, **more}, body=body)


@given(
    body=st.binary() | st.lists(posts).map(lambda found: orjson.dumps({"data": found})),
    params=st.dictionaries(texts, texts),
    facts=st.dictionaries(texts.filter(lambda n: n != "body"), texts | st.none() | st.integers(0)),
)
def test_any_page_comes_back_byte_for_byte(
    body: bytes, params: dict[str, str], facts: dict[str, Any]
) -> None:
    facts = {name: value for name, value in facts.items() if not _is_huge(value)}
    kept = page(body, params=params, facts=facts)
    line = page_line(kept)
    assert b"\n" not in line.text
    assert b"\r" not in line.text
    assert page_of(line.text) == kept
    assert counted("pages", line.text) == line
    json.loads(line.text)


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and value >= 2**64


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [\n]}',
        b'{"data":[{"id":"1","text":"\\ud800"}]}',
        '{"data":[{"id":"1","text":"}, \\"body\\":\u2028"}]}'.encode(),
        b'"},"body":"',
        b"NaN",
        b"<html>",
        b"\xff\xfe{",
        b"",
        b"[" * 100_000,
    ],
    ids=range(9),
)
def test_odd_bodies_come_back(body: bytes) -> None:
    line = page_line(page(body))
    assert page_of(line.text).body == body
    assert line.text.count(b"\n") == 0
    json.loads(line.text)


@given(found=st.lists(posts, max_size=5))
def test_a_line_counts_its_posts_and_their_ids(found: list[dict[str, str]]) -> None:
    body = orjson.dumps({"data": found, "includes": {"tweets": [{"id": "5", "text": "no"}]}})
    line = page_line(page(body))
    assert (line.posts, line.run, line.at) == (len(found), 7, AT)
    assert line.ids == tuple(int(one["id"]) for one in found)


def test_users_places_and_counts_are_no_posts() -> None:
    for data in ([{"id": "2", "username": "ada"}], {"id": "3"}, [{"tweet_count": 4}], None, [5]):
        assert page_line(page(orjson.dumps({"data": data}))).posts == 0


def test_a_message_of_the_stream_is_its_own_line() -> None:
    message = b'{"data":{"id":"12","text":"a"},"matching_rules":[{"id":"1"}]}'
    line = stream_line(message)
    assert (line.text, line.posts, line.ids) == (message, 1, (12,))
    for broken in (b'{"data":\n1}', b"", b"\r", b"{"):
        with pytest.raises(ValueError, match="one line of JSON"):
            stream_line(broken)


def test_a_foreign_line_is_no_page() -> None:
    for text in (b"{}", b"", b'{"a":1},"body":2}', b'{"data":{"id":"1"}}'):
        with pytest.raises(ValueError):
            page_of(text)
