"""A search before it is sent.

Its form, its key, its bounds, and the arithmetic of them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetcrawler import coverage, queries, windows
from tweetcrawler.coverage import Bounds, Hole
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.ids import time_ms_of
from tweetcrawler.settings import places
from tweetcrawler.windows import Bucket

ranges = st.lists(
    st.tuples(st.integers(1, 200), st.integers(1, 40)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=8,
)


def ids(known: list[coverage.Range]) -> set[int]:
    return {i for lower, upper in known for i in range(lower, upper)}


@given(ranges, ranges)
def test_difference_holds_what_is_in_the_first_and_not_in_the_second(
    first: list[coverage.Range], second: list[coverage.Range]
) -> None:
    rest = coverage.difference(first, second)
    assert ids(rest) == ids(first) - ids(second)
    assert rest == coverage.union(rest)


@given(ranges, st.integers(1, 250), st.integers(1, 100) | st.none())
def test_holes_within_bounds_are_those_ids_and_no_others(
    known: list[coverage.Range], lowest: int, length: int | None
) -> None:
    end = None if length is None else lowest + length
    open_: set[int] = set()
    for hole in coverage.holes(known, within=Bounds(lowest, end)):
        found = set(range(hole.since_id + 1, 400 if hole.until_id is None else hole.until_id))
        assert found
        assert not found & open_
        open_ |= found
    assert open_ == set(range(lowest, end or 400)) - ids(known)


@given(st.integers(0, 99), st.integers(1, 100) | st.none(), st.integers(1, 250))
def test_a_hole_is_what_is_reached_and_what_is_not(
    since: int, length: int | None, floor: int
) -> None:
    hole = Hole(since, None if length is None else since + 1 + length)
    reached, rest = coverage.reachable(hole, floor)
    above = set() if reached is None else set(range(reached.since_id + 1, reached.until_id or 400))
    below = set() if rest is None else set(range(*rest))
    assert above | below == set(range(since + 1, hole.until_id or 400))
    assert all(i >= floor for i in above)
    assert all(i < floor for i in below)


@given(st.text(alphabet='ab "\t\n#:()-', max_size=30))
def test_normalising_twice_is_normalising_once(query: str) -> None:
    once = queries.normalised(query)
    assert queries.normalised(once) == once


def test_white_space_outside_quotes_is_one_query() -> None:
    assert queries.normalised('  cats\t\tOR  "two  words" ') == 'cats OR "two  words"'


@given(st.text(min_size=1, max_size=1200))
def test_any_query_has_a_key_for_an_index_and_a_name_for_a_file(query: str) -> None:
    query = query.encode("utf-8", "replace").decode()
    assert len(queries.key_of(query).encode()) <= 1_000
    slug = queries.slug_of(query)
    assert re.fullmatch(r"search-[a-z0-9-]{8,60}", slug)
    assert queries.slug_of(query + "x") != slug
    assert queries.key_of(query + "x") != queries.key_of(query)


@pytest.mark.parametrize(
    ("name", "lang", "query"),
    [
        ("#Python", None, "#Python"),
        ("#Python", "en", "#Python lang:en"),
        ("Day after tomorrow", None, '"Day after tomorrow"'),
        ('The "Thing" (2026) OR', "hi", '"The Thing (2026) OR" lang:hi'),
        ("-is:retweet", None, '"-is:retweet"'),
    ],
)
def test_a_trend_is_searched_by_its_hashtag_or_its_words(
    name: str, lang: str | None, query: str
) -> None:
    assert queries.for_trend(name, lang) == query


def test_bounds_are_dates_or_ids() -> None:
    moment = datetime(2024, 1, 31, tzinfo=UTC)
    assert time_ms_of(queries.lowest_id("2024-01-31")) == moment.timestamp() * 1000
    assert queries.lowest_id("2024-01-31T01:00:00+01:00") == queries.end_id("2024-01-31")
    assert queries.lowest_id("1800000000000000001") == 1800000000000000002
    assert queries.end_id("1800000000000000001") == 1800000000000000001
    assert queries.lowest_id("2009-01-01") == 1


@pytest.mark.parametrize("text", ["", "yesterday", "20240131", "2024", "2024-13-01", "1" * 25])
def test_what_is_neither_date_nor_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an id, or a date"):
        queries.lowest_id(text)


@pytest.mark.parametrize(
    ("text", "woeid"),
    [
        ("worldwide", 1),
        ("India", 23424848),
        ("SÃO PAULO", 455827),
        ("Türkiye", 23424969),
        (" 44418 ", 44418),
        ("123", 123),
    ],
)
def test_places_are_known_by_name_or_number(text: str, woeid: int) -> None:
    assert places.place(text).woeid == woeid


def test_an_unknown_place_is_refused_with_names_like_it() -> None:
    with pytest.raises(ConfigurationError, match="did you mean london"):
        places.place("londn")


@given(st.lists(st.floats(0, 3), min_size=2, max_size=40), st.integers(1, 20))
def test_spaced_permits_never_lie_closer_than_their_spacing(gaps: list[float], limit: int) -> None:
    """The moments of one bucket keep their distance, for any askers.

    Nobody has to wait for long.
    """
    bucket = Bucket(limit=limit, remaining=limit, reset_at=900.0, anchored=True)
    now, moments = 0.0, []
    for gap in gaps:
        now += gap
        bucket, loan = windows.lend(bucket, 25, now, spacing_s=1.1)
        if loan is not None:
            assert loan.count == 1
            assert 0 <= loan.after_s <= windows.QUEUE_S
            moments.append(now + loan.after_s)
        else:
            assert windows.opens_at(bucket, now) > now or now + windows.QUEUE_S < bucket.next_at
    assert len(moments) <= limit
    assert all(b - a >= 1.1 - 1e-9 for a, b in pairwise(moments))
