"""Prices and plans as data.

The shipped file, an own file, and costs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweetcrawler import prices
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.prices import SHIPPED, Limit, load, usd

TIMELINE = "/2/users/:id/tweets"


def test_shipped_file_knows_three_tariffs_and_begins_with_pay_per_use() -> None:
    default = load(None, None)
    assert (default.name, default.post, default.user) == ("pay-per-use", 5_000, 10_000)
    assert default.posts_per_month == 3_000_000
    assert default.limits[TIMELINE] == Limit(app=10_000, user=900)
    basic, pro = load(None, "basic"), load(None, "pro")
    assert (basic.posts_per_month, basic.limits["/2/users/by"]) == (
        15_000,
        Limit(app_day=500, user_day=100),
    )
    assert (pro.posts_per_month, pro.fee_month) == (1_000_000, 5_000_000_000)


def test_no_price_stands_in_the_code() -> None:
    for path in SHIPPED.parent.glob("*.py"):
        assert "0.005" not in path.read_text(), path


def test_own_prices_take_the_place_of_the_tariffs() -> None:
    tariff = load(None, None, post=0.001, user=0)
    assert (tariff.post, tariff.user) == (1_000, 0)
    assert (
        tariff.cost("/2/tweets/counts/recent", requests=3, posts=10, users=5)
        == 3 * 5_000 + 10 * 1_000
    )


def test_copy_of_the_shipped_file_is_a_file_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(SHIPPED.read_text().replace('default = "pay-per-use"', 'default = "pro"'))
    assert load(own, None).name == "pro"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no [tariffs.NAME]"),
        ("a = ", "no TOML"),
        ("[tariffs.x]\nuser = 1", "post is missing"),
        ("[tariffs.x]\npost = -1\nuser = 1", "post must be an amount"),
        ("[tariffs.x]\npost = 'a'\nuser = 1", "post must be an amount"),
        ("[tariffs.x]\npost = 1\nuser = true", "user must be an amount"),
        ("[tariffs.x]\npost = 1\nuser = 1\npots = 2", "pots is not known"),
        ("[tariffs.x]\npost = 1\nuser = 1\nlimits = 2", "are tables by endpoint"),
        (
            "[tariffs.x]\npost = 1\nuser = 1\n[tariffs.x.limits]\n'/2/tweets' = {apps = 1}",
            "a limit is a table",
        ),
        (
            "[tariffs.x]\npost = 1\nuser = 1\n[tariffs.x.limits]\n'/2/tweets' = {app = 1.5}",
            "whole number",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, content: str, said: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load(own, None)
    assert said in str(caught.value)
    assert str(own) in str(caught.value)


def test_unknown_tariff_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pay-per-use, basic, pro"):
        load(None, "gold")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "none.toml", None)


@given(st.integers(0, 10**15), st.integers(0, 10**9))
def test_sums_of_money_are_exact(posts: int, users: int) -> None:
    tariff = load(None, None)
    assert tariff.cost(TIMELINE, posts=posts, users=users) == 5_000 * posts + 10_000 * users


def test_amounts_are_shown_as_a_reader_wants_them() -> None:
    assert [usd(n) for n in (0, 5_000, 10_000, 1_230_000, 33_330_000_000)] == [
        "$0.00",
        "$0.005",
        "$0.01",
        "$1.23",
        "$33,330.00",
    ]
    assert prices.MICRO == 1_000_000
