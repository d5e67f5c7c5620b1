"""Gaps of rules: the times in which no connection was open, and the searches that fill them.

A search gives no retweets for words, so a gap that it filled is complete for original posts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from tweetcrawler.coverage import Bounds, Hole
from tweetcrawler.crawl import crawl_chunk
from tweetcrawler.news import Outcome, PageRead, Refusal
from tweetcrawler.postgres.connection import now_of
from tweetcrawler.run import Doing, Job
from tweetcrawler.stream.known import RuleNow, rules_now
from tweetcrawler.targets import FAILED
from tweetcrawler.walk import Reach
from tweetcrawler.work.kinds import CRAWL, Worker

HOUR_S = 3600.0
# A search is interrupted after this time, so that what the stream brings is saved meanwhile.
SLICE_S = 2.0

log = logging.getLogger(__name__)


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
        since = session.do(now_of)
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
