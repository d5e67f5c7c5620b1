"""Gaps of rules: the times in which no connection was open, and the searches that fill them.

A search gives no retweets for words, so a gap that it filled is complete for original posts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tweetcrawler import coverage
from tweetcrawler.coverage import Bounds, Hole, Range
from tweetcrawler.crawl import crawl_chunk
from tweetcrawler.ids import time_ms_of
from tweetcrawler.news import Outcome, PageRead, Refusal
from tweetcrawler.run import Job
from tweetcrawler.stream.ledger import Doing
from tweetcrawler.stream.rules import ACTS_AFTER_S
from tweetcrawler.stream.saving import id_of
from tweetcrawler.targets import FAILED, SEARCH, Target
from tweetcrawler.walk import Reach
from tweetcrawler.work.kinds import CRAWL, Worker

# Nothing is called a gap before a line that is open has surely told of it: X gives posts up to
# a minute late, and heartbeats each 20 s.
YOUNG_S = 120.0
# A longer gap is filled at once; shorter ones, which each new connection leaves, by the hour.
LONG_S, HOUR_S = 120.0, 3600.0
# A search is interrupted after this time, so that what the stream brings is saved meanwhile.
SLICE_S = 2.0

log = logging.getLogger(__name__)


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
    rows = session.do(lambda connection: connection.execute(_RULES, [app]).fetchall())
    return [_rule(row, x_now) for row in rows]


def _rule(row: Sequence[Any], x_now: float) -> RuleNow:
    number, tag, value, posts, since, until, target, handle, key, state, reason = row[:11]
    streamed, covered, unreachable = (coverage.from_text(text) for text in row[11:])
    lowest = id_of(since + ACTS_AFTER_S)
    end = id_of(min(until or x_now, x_now - YOUNG_S))
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
        id_of(x_now - YOUNG_S),
    )


def length_s(ranges: Sequence[Range]) -> float:
    """The time that ranges of ids span together."""
    return sum((time_ms_of(upper) - time_ms_of(lower)) / 1000 for lower, upper in ranges)


def ranges_of(gaps: Sequence[Hole]) -> list[Range]:
    """Gaps as ranges."""
    return [(gap.since_id + 1, gap.until_id) for gap in gaps if gap.until_id is not None]


class Filler:
    """Fills gaps a little at a time, within the budgets of the run."""

    def __init__(self, job: Job, app: str, stopped: Callable[[], bool]) -> None:
        self._job, self._app, self._stopped = job, app, stopped
        self._not_before = 0.0
        self._hour_at = time.monotonic() + HOUR_S
        # Rules that X's search does not take, such as those with a sample.
        self._refused: set[int] = set()
        self.posts = 0
        self.pages = 0
        self.ended = ""

    def fill(self, session: Doing, x_now: float) -> bool:
        """Fills for a moment, if there is something to fill now; says whether it did."""
        now = time.monotonic()
        if now < self._not_before or self._stopped():
            return False
        is_hour = now >= self._hour_at
        chosen = self._chosen(rules_now(session, self._app, x_now), all_of_them=is_hour)
        if chosen is None:
            self._hour_at = now + HOUR_S if is_hour else self._hour_at
            # To look again costs a statement.
            self._not_before = now + 1.0
            return False
        self._search(session, *chosen)
        return True

    def _chosen(
        self, rules: Sequence[RuleNow], *, all_of_them: bool
    ) -> tuple[RuleNow, Hole] | None:
        for rule in rules:
            for gap in rule.gaps if rule.id not in self._refused else ():
                if all_of_them or rule.is_due(gap):
                    return rule, gap
        return None

    def _search(self, session: Doing, rule: RuleNow, gap: Hole) -> None:
        until = time.monotonic() + SLICE_S
        since = session.do(lambda connection: connection.execute(_NOW).fetchone())[0]
        reach = Reach(bounds=Bounds(gap.since_id + 1, gap.until_id))
        # Its walk shall not count as one that this run has ended: the next gap is another one.
        job = replace(self._job, since=since, parameters={CRAWL: reach})

        def stopping() -> bool:
            return self._stopped() or time.monotonic() > until

        worker = Worker(0, stopping, lambda news: self._take(news, rule), job)
        result = crawl_chunk(worker, [rule.target])
        worker.do(None)
        if result.fatal is not None:
            self._pause(HOUR_S, f"gaps stay open: {result.fatal.sentence}")
        elif result.wait is not None:
            self._pause(result.wait.wait_s, "")
        elif result.later:
            self._pause(60.0, "")

    def _take(self, news: object, rule: RuleNow) -> None:
        if isinstance(news, PageRead):
            self.posts += news.posts
            self.pages += 1
        elif isinstance(news, Refusal):
            log.debug("a gap of %s: %s", rule.value, news.sentence)
        elif isinstance(news, Outcome) and news.state == FAILED:
            self._refused.add(rule.id)
            log.warning("gaps of the rule %s stay open: %s", rule.tag or rule.value, news.reason)

    def _pause(self, seconds: float, why: str) -> None:
        self._not_before = time.monotonic() + seconds
        if why and why != self.ended:
            log.warning("%s", why)
        self.ended = why or self.ended


_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
# Rules that ended long ago have no gap that a search of the last week could fill.
_RULES = """
SELECT r.rule_id, r.tag, r.value, r.post_count, extract(epoch FROM r.since)::float8,
    extract(epoch FROM r.until)::float8, t.id, t.handle, t.key, t.state, t.state_reason,
    r.streamed::text, t.covered::text, t.unreachable::text
FROM crawl_rule r JOIN crawl_target t ON t.id = r.target_id
WHERE r.app = %s AND r.ours
    AND (r.until IS NULL OR r.until > clock_timestamp() - interval '7 days')
ORDER BY r.rule_id
"""
