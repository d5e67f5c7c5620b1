"""Coverage of rules: the time by the stream, the time by search, and the gaps between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tweetcrawler import coverage
from tweetcrawler.coverage import Bounds, Hole, Range
from tweetcrawler.ids import id_at, time_ms_of
from tweetcrawler.look.sections import Section, duration
from tweetcrawler.run import Doing
from tweetcrawler.stream.rules import ACTS_AFTER_S
from tweetcrawler.targets import SEARCH, Target

# Nothing is called a gap before a line that is open has surely told of it: X gives posts up to
# a minute late, and heartbeats each 20 s.
YOUNG_S = 120.0
# A longer gap is filled at once; shorter ones, which each new connection leaves, by the hour.
LONG_S = 120.0


@dataclass(frozen=True)
class RuleNow:
    """A rule with its gaps, newest first, and the rest of its time.

    `filled` are ids that a search gave, `unreachable` those that none gives any more.
    """

    id: int
    tag: str
    value: str
    posts: int
    target: Target
    gaps: Sequence[Hole]
    streamed: Sequence[Range]
    filled: Sequence[Range]
    unreachable: Sequence[Range]
    settled_below: int

    def is_due(self, gap: Hole) -> bool:
        """Whether a gap is filled at once: a long one, and then the rest of it, of which X had
        not given all posts yet.
        """
        if length_s(ranges_of([gap])) > LONG_S:
            return True
        goes_on = any(upper == gap.since_id + 1 for _, upper in self.filled)
        return goes_on and gap.until_id is not None and gap.until_id < self.settled_below


def rules_now(session: Doing, app: str, x_now: float) -> list[RuleNow]:
    """The operator's rules of an app."""
    return session.do(lambda connection: _rules_in(connection, app, x_now))


def section(connection: Any) -> Section | None:
    """The rules of all apps with their time, for `status` and `report`; None without any."""
    [(now,)] = connection.execute(_NOW).fetchall()
    rules = _rules_in(connection, None, float(now))
    if not rules:
        return None
    return Section(
        "streams",
        ["time by search has no retweets for words"] if any(r.filled for r in rules) else [],
        ["rule", "query", "posts", "by the stream", "by search", "open gaps", "gone"],
        [_cells(rule) for rule in rules],
        frozenset({2, 3, 4, 5, 6}),
    )


def _cells(rule: RuleNow) -> list[str]:
    times = (rule.streamed, rule.filled, ranges_of(rule.gaps), rule.unreachable)
    shown = [duration(length_s(ranges)) if ranges else "-" for ranges in times]
    return [rule.tag or str(rule.id), rule.value, f"{rule.posts:,}", *shown]


def _rules_in(connection: Any, app: str | None, x_now: float) -> list[RuleNow]:
    rows = connection.execute(_RULES, {"app": app}).fetchall()
    return [_rule(row, x_now) for row in rows]


def _rule(row: Sequence[Any], x_now: float) -> RuleNow:
    number, tag, value, posts, since, until, target, handle, key, state, reason = row[:11]
    streamed, covered, unreachable = (coverage.from_text(text) for text in row[11:])
    lowest = id_at(int((since + ACTS_AFTER_S) * 1000))
    end = id_at(int(min(until or x_now, x_now - YOUNG_S) * 1000))
    life = [(lowest, end)] if lowest < end else []
    outside = coverage.difference([(0, 2**63)], life)
    bounds = Bounds(lowest, max(lowest, end))
    return RuleNow(
        number,
        tag,
        value,
        posts,
        Target(target, handle, key, value, state, reason, kind=SEARCH),
        coverage.holes(streamed, covered, unreachable, within=bounds) if life else [],
        streamed,
        coverage.difference(coverage.difference(covered, streamed), outside),
        coverage.difference(unreachable, [*streamed, *outside]),
        id_at(int((x_now - YOUNG_S) * 1000)),
    )


def length_s(ranges: Sequence[Range]) -> float:
    """The time that ranges of ids span together."""
    return sum((time_ms_of(upper) - time_ms_of(lower)) / 1000 for lower, upper in ranges)


def ranges_of(gaps: Sequence[Hole]) -> list[Range]:
    """Gaps as ranges."""
    return [(gap.since_id + 1, gap.until_id) for gap in gaps if gap.until_id is not None]


# X's clock may be ahead of the database's.
_NOW = """
SELECT extract(epoch FROM greatest(clock_timestamp(), max(last_byte_at)))::float8
FROM crawl_stream
"""
# Rules that ended long ago have no gap that a search of the last week could fill.
_RULES = """
SELECT r.rule_id, r.tag, r.value, r.post_count, extract(epoch FROM r.since)::float8,
    extract(epoch FROM r.until)::float8, t.id, t.handle, t.key, t.state, t.state_reason,
    r.streamed::text, t.covered::text, t.unreachable::text
FROM crawl_rule r JOIN crawl_target t ON t.id = r.target_id
WHERE (%(app)s::text IS NULL OR r.app = %(app)s) AND r.ours
    AND (r.until IS NULL OR r.until > clock_timestamp() - interval '7 days')
ORDER BY r.rule_id
"""
