"""Number of posts that a stream may bring, set aside in blocks before X sends them."""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING

from tweetcrawler.budget import Want
from tweetcrawler.endpoints import STREAM
from tweetcrawler.errors import DatabaseError
from tweetcrawler.prices import Tariff
from tweetcrawler.request import limits_of
from tweetcrawler.settings import Money

if TYPE_CHECKING:
    from tweetcrawler.db import Session

# A block holds the posts of this time at the present rate, and no fewer than the second number.
# A burst must not use a block up before the next one is set aside: X sends 250 posts a second.
BLOCK_S, BLOCK_MIN = 60.0, 1_000


class Rate:
    """Posts per second over the last minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, posts: int) -> None:
        """Counts posts that just came."""
        self._seen.append((time.monotonic(), posts))

    @property
    def per_s(self) -> float:
        """The rate now."""
        since = time.monotonic() - BLOCK_S
        while self._seen and self._seen[0][0] < since:
            self._seen.popleft()
        return sum(posts for _, posts in self._seen) / BLOCK_S


class Allowance:
    """The posts that one run may bring.

    Money that is set aside stays so until its posts are saved or the stream ends. A program
    that is killed leaves a budget too small for a while, never too large.
    """

    def __init__(self, run: int, owner: str, money: Money, tariff: Tariff) -> None:
        self._run, self._owner, self._tariff = run, owner, tariff
        self._limits = limits_of(money)
        self._id = uuid.uuid4()
        self.full = ""
        self.total: int | None = 0 if money.is_limited else None

    def renew(
        self, session: Session, *, saved: int, unsaved: int, filled: int, per_s: float
    ) -> int | None:
        """The posts that the stream may bring in all; None without a limit.

        The next block is set aside while the last one is used. Afterwards `full` names the
        budget that is used up. `filled` are the posts that searches brought.
        """
        if self.total is None:
            return None
        block = max(BLOCK_MIN, math.ceil(BLOCK_S * per_s))
        want = Want(STREAM, unsaved + block, unsaved + 1, self._tariff.post)
        try:
            granted = session.set_aside(
                self._run, self._owner, self._id, want, self._limits, self._tariff
            )
            session.do(lambda c: c.execute(_RENEW, [self._id]))
        except DatabaseError:
            return self.without_books(filled)
        self.full = granted.full or ""
        # None without `full`: requests under way hold the rest, so the next call asks again.
        self.total = saved + (unsaved if granted.units is None else granted.units)
        return self.total

    def give_back(self, session: Session) -> None:
        """Frees money that was set aside for posts that did not come."""
        if self.total is not None:
            session.take_back(self._id)

    def without_books(self, filled: int) -> int | None:
        """The same while the database is away.

        Only this run spends its own budget, so it is known without a database. A budget of a
        day or month is everybody's: the block at hand is the last one.
        """
        limits, price = self._limits, self._tariff.post
        if limits.day is not None or limits.month is not None:
            return self.total
        most = [limits.run_posts] if limits.run_posts is not None else []
        if limits.run is not None and price:
            most.append(limits.run // price)
        if most:
            self.total = max(self.total or 0, min(most) - filled)
        return self.total


# A reservation that is not renewed counts as lost after a while.
_RENEW = "UPDATE crawl_reserved SET reserved_at = clock_timestamp() WHERE id = %s"
