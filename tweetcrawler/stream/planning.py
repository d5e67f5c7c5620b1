"""Cost of a stream beforehand, by the number of posts that X counted in the last week."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tweetcrawler.prices import Tariff, usd
from tweetcrawler.stream.rules import Rule

_DAYS = 7
_DAYS_OF_MONTH = 30


@dataclass(frozen=True)
class Planned:
    """Posts of each rule in the last week; None where X does not count its query.

    A post that several rules match is sent and billed once, so the sum is the most.
    """

    rules: Sequence[tuple[Rule, int | None]]
    tariff: Tariff

    @property
    def posts_per_day(self) -> float:
        """The most posts per day, of the rules that were counted."""
        return sum(posts or 0 for _, posts in self.rules) / _DAYS

    @property
    def usd_per_day(self) -> int:
        """Their cost in millionths of a USD."""
        return round(self.posts_per_day * self.tariff.post)

    @property
    def part_of_cap(self) -> float | None:
        """The part of the month's cap that they use; None without a cap."""
        cap = self.tariff.posts_per_month
        return self.posts_per_day * _DAYS_OF_MONTH / cap if cap else None

    def as_plain(self) -> dict[str, Any]:
        """The plan for programs."""
        rules = [
            {
                "tag": rule.tag,
                "query": rule.value,
                "posts_per_day": None if posts is None else posts / _DAYS,
            }
            for rule, posts in self.rules
        ]
        return {
            "rules": rules,
            "posts_per_day": self.posts_per_day,
            "usd_per_day": self.usd_per_day / 1_000_000,
            "part_of_cap": self.part_of_cap,
        }

    def lines(self) -> list[str]:
        """The plan for readers."""
        shown = [
            f"{rule.tag}: {posts / _DAYS:,.1f} posts per day"
            if posts is not None
            else f"{rule.tag}: X does not count this query"
            for rule, posts in self.rules
        ]
        cap = self.part_of_cap
        share = f", {cap:.1%} of the cap in a month" if cap is not None else ""
        total = f"at most {self.posts_per_day:,.1f} posts and {usd(self.usd_per_day)} per day"
        return [*shown, f"{total}{share}", "retweets come too, and are not counted for words"]


def planned(wanted: Sequence[Rule], counted: Mapping[str, int], tariff: Tariff) -> Planned:
    """The plan of these rules."""
    return Planned([(rule, counted.get(rule.value)) for rule in wanted], tariff)
