"""Looks at posts by a schedule that grows thinner with their age: when each is due next.

A look is any look-up by id that X answered, whoever asked for it: its counts are in
`crawl_metrics`. So a killed run leaves nothing to note: the next one sees what was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Double, bindparam, case, func, insert, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.expression import ColumnElement, TableClause

from tweetcrawler.ids import EPOCH_MS, FIRST_DATED_ID
from tweetcrawler.keeping.schema import crawl_due, crawl_tombstone
from tweetcrawler.keeping.sweep import run_composed, table_of
from tweetcrawler.postgres.statements import at, given
from tweetcrawler.run import Doing

DAY_S = 86_400.0
_STEPS, _NOW = given("steps", ARRAY(Double)), at(bindparam("now", type_=Double))
# Counts that changed by less than this in two looks are taken for still.
STILL = 0.01

# The next step of a post after its look. Of a post whose counts stand still one step is left
# out. After the last step of a schedule that `goes_on` its length passes each time.
_ADVANCE = """
WITH seen AS (
    SELECT d.tweet_id, max(m.seen_at) AS seen_at
    FROM crawl_due d JOIN crawl_metrics m ON m.tweet_id = d.tweet_id AND m.seen_at >= d.due_at
    WHERE d.purpose = %(purpose)s AND d.due_at <= to_timestamp(%(now)s) GROUP BY 1
), rated AS (
    SELECT s.*, to_timestamp(((s.tweet_id >> 22) + 1288834974657) / 1000.0) AS posted_at,
        %(skips)s AND (
            SELECT count(*) = 2
                AND max(like_count) - min(like_count) < %(still)s * greatest(min(like_count), 1)
                AND max(retweet_count) - min(retweet_count)
                    < %(still)s * greatest(min(retweet_count), 1)
                AND max(reply_count) - min(reply_count)
                    < %(still)s * greatest(min(reply_count), 1)
            FROM (
                SELECT * FROM crawl_metrics m WHERE m.tweet_id = s.tweet_id
                AND m.seen_at IS NOT NULL ORDER BY m.seen_at DESC LIMIT 2
            ) two
        ) AS is_still
    FROM seen s
)
UPDATE crawl_due d SET seen_at = r.seen_at, looks = d.looks + 1, step = d.step + 1,
    late_s = d.late_s + extract(epoch FROM r.seen_at - d.due_at),
    due_at = coalesce(
        (
            SELECT r.posted_at + s * interval '1 s' FROM unnest(%(steps)s::float8[]) s
            WHERE r.posted_at + s * interval '1 s' > r.seen_at
            ORDER BY s LIMIT 1 OFFSET CASE WHEN r.is_still THEN 1 ELSE 0 END
        ),
        CASE WHEN %(goes_on)s THEN r.seen_at + %(last)s * interval '1 s' END
    )
FROM rated r WHERE d.purpose = %(purpose)s AND d.tweet_id = r.tweet_id
"""
# Posts that came back first, then the youngest: most changes are early.
_NEXT = """
SELECT tweet_id FROM crawl_due
WHERE purpose = %(purpose)s AND due_at <= to_timestamp(%(now)s)
ORDER BY step >= 0, tweet_id DESC LIMIT %(most)s
"""
_PLANNED = """
SELECT count(DISTINCT tweet_id), count(*), count(DISTINCT (tweet_id, day)) FROM (
    SELECT tweet_id, floor((posted_s + s) / 86400) AS day
    FROM (
        SELECT *, ((tweet_id >> 22) + 1288834974657) / 1000.0 AS posted_s FROM crawl_due
        WHERE purpose = %(purpose)s AND due_at IS NOT NULL
    ) d, unnest(%(steps)s::float8[]) s
    WHERE posted_s + s >= extract(epoch FROM due_at) - 0.5
) looks
"""
_NEXT_AT = """
SELECT extract(epoch FROM min(due_at))::float8 FROM crawl_due WHERE purpose = %(purpose)s
"""
_WAITING = """
SELECT count(*) FROM crawl_due WHERE purpose = %(purpose)s AND due_at <= to_timestamp(%(now)s)
"""


@dataclass(frozen=True)
class Schedule:
    """Ages of a post, in seconds, at which it is looked at for a purpose.

    One that `goes_on` looks again each time the last age has passed. One that `skips` leaves
    a step out while counts stand still.
    """

    purpose: str
    steps_s: Sequence[float]
    goes_on: bool = False
    skips: bool = False

    @property
    def last_s(self) -> float:
        """The highest age."""
        return max(self.steps_s)


CHECKS = Schedule("check", (DAY_S, 7 * DAY_S, 30 * DAY_S, 180 * DAY_S), goes_on=True)


# Conditions on the table of posts.
Where: TypeAlias = Callable[[TableClause], Sequence[Any]]


def every(_own: TableClause) -> Sequence[Any]:
    """No condition: every post."""
    return ()


def enrol(session: Doing, table: str, schedule: Schedule, now: float, where: Where = every) -> int:
    """Puts the stored posts on the schedule that are not on it yet; gives their number.

    A step that has passed is due at once where the schedule goes on, and is left out else. A
    post that is older than the last step is due when that time has passed once more.
    """
    return int(session.do(lambda c: _enrol(c, table, schedule, now, where)))


def _enrol(connection: Any, table: str, schedule: Schedule, now: float, where: Where) -> int:
    own, due = table_of(table), crawl_due.c
    known = select(due.tweet_id).where(due.purpose == schedule.purpose, due.tweet_id == own.c.id)
    stone = select(crawl_tombstone.c.tweet_id).where(crawl_tombstone.c.tweet_id == own.c.id)
    first = _first_check(own) if schedule.goes_on else _next_after_now(own)
    chosen = select(literal(schedule.purpose), own.c.id, first).where(
        ~known.exists(), ~stone.exists(), first.is_not(None), *where(own)
    )
    statement = insert(crawl_due).from_select(["purpose", "tweet_id", "due_at"], chosen)
    steps = sorted(schedule.steps_s)
    return int(run_composed(connection, statement, steps=steps, now=now).rowcount)


@dataclass(frozen=True)
class Planned:
    """Looks of a schedule: how many posts, how many looks, and how many of them are the first
    of a post on a UTC day.
    """

    posts: int
    looks: int
    charged: int


def planned(
    session: Doing, table: str, schedule: Schedule, now: float, where: Where = every
) -> Planned:
    """All looks to come, if no step is left out, of posts on the schedule and of those that
    `enrol` would put there. Nothing is changed.
    """
    values = {"purpose": schedule.purpose, "steps": sorted(schedule.steps_s)}

    def work(connection: Any) -> Any:
        with connection.transaction(force_rollback=True):
            _enrol(connection, table, schedule, now, where)
            return connection.execute(_PLANNED, values).fetchone()

    return Planned(*session.do(work))


def next_at(session: Doing, schedule: Schedule, now: float) -> float:
    """When the next post is due; a day from now when none is."""
    values = {"purpose": schedule.purpose}
    row = session.do(lambda connection: connection.execute(_NEXT_AT, values).fetchone())
    return now + DAY_S if row[0] is None else float(row[0])


def _after(own: TableClause) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Each step, and the time of it for a post."""
    posted = (own.c.id.op(">>")(22) + literal(EPOCH_MS)) / literal(1000.0)
    step: ColumnElement[Any] = func.unnest(_STEPS).column_valued("s")
    return step, func.to_timestamp(posted + step)


def _next_after_now(own: TableClause) -> ColumnElement[Any]:
    _, moment = _after(own)
    found = select(func.min(moment)).where(moment > _NOW).scalar_subquery()
    return case((own.c.id >= FIRST_DATED_ID, found))


def _first_check(own: TableClause) -> ColumnElement[Any]:
    step, moment = _after(own)
    passed = select(func.max(moment)).where(moment <= _NOW).scalar_subquery()
    last = select(func.max(step)).scalar_subquery()
    _, moment = _after(own)
    end = select(func.max(moment)).scalar_subquery()
    coming = func.coalesce(passed, _next_after_now(own))
    later = func.to_timestamp(bindparam("now", type_=Double) + last)
    return case((own.c.id < FIRST_DATED_ID, later), (end <= _NOW, later), else_=coming)


def advance(session: Doing, schedule: Schedule, now: float) -> int:
    """Takes note of every look since a post was due; gives the number of posts."""
    values = {
        "purpose": schedule.purpose,
        "now": now,
        "steps": sorted(schedule.steps_s),
        "last": schedule.last_s,
        "goes_on": schedule.goes_on,
        "skips": schedule.skips,
        "still": STILL,
    }
    return int(session.do(lambda connection: connection.execute(_ADVANCE, values).rowcount))


def waiting(session: Doing, schedule: Schedule, now: float) -> int:
    """The number of posts that are due."""
    values = {"purpose": schedule.purpose, "now": now}
    return int(session.do(lambda connection: connection.execute(_WAITING, values).fetchone())[0])


def due(session: Doing, schedule: Schedule, now: float, most: int) -> list[int]:
    """The posts to look at now, at most this number: the youngest first."""
    values = {"purpose": schedule.purpose, "now": now, "most": most}
    rows = session.do(lambda connection: connection.execute(_NEXT, values).fetchall())
    return [number for (number,) in rows]
