"""Budgets per run, day and month: set aside before a request, settled with its page."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg

from tweetcrawler import budget
from tweetcrawler.budget import Grant, Limits, Reserved, Room, Want
from tweetcrawler.pages import Bought
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.prices import Tariff

# What a budget is of: (scope, period), such as ("day", "2026-01-31").
_Period = tuple[str, str]


class Budgets(Connected):
    """The budgets of a session."""

    def set_aside(
        self, run: int, owner: str, page: uuid.UUID, want: Want, limits: Limits, tariff: Tariff
    ) -> Grant:
        """Reserves the most that a request may return, under the id of its future page.

        Saving that page with its `cost` settles it; `take_back` and `note_lost` are for
        what brought none.
        """

        def work(connection: psycopg.Connection[Any]) -> Grant:
            with connection.transaction():
                granted = budget.grant(want, _rooms_of(connection, run, page, limits, tariff))
                if granted.units is not None:
                    cost, posts = want.cost(granted.units), want.posts(granted.units)
                    connection.execute(_SET_ASIDE, [page, run, owner, want.endpoint, posts, cost])
                return granted

        return self.do(work)

    def take_back(self, page: uuid.UUID) -> None:
        """Frees what was set aside for a request that brought nothing."""
        self.do(lambda c: c.execute("DELETE FROM crawl_reserved WHERE id = %s", [page]))

    def note_lost(
        self, run: int, page: uuid.UUID, endpoint: str, posts: int, cost: int, *, why: str
    ) -> None:
        """Notes the most that a request may have cost whose answer was lost, under a budget or
        none: nobody knows what it brought, and it may be charged.
        """
        given = [page, run, endpoint, posts, cost, why]
        self.do(lambda c: c.execute(_NOTE_LOST, given))


@contextmanager
def spending(connection: psycopg.Connection[Any], bought: Bought) -> Iterator[None]:
    """One transaction for what is done within and for taking the page's cost from the budgets."""
    if bought.cost is None:
        yield
        return
    with connection.transaction():
        yield
        spend(connection, bought)


def spend(connection: psycopg.Connection[Any], bought: Bought) -> None:
    """Settles what was set aside. Always the last of a transaction: others wait for these rows."""
    if bought.cost is not None:
        connection.execute(_SPEND, {"id": bought.id, "posts": bought.posts, "cost": bought.cost})


def _rooms_of(
    connection: psycopg.Connection[Any], run: int, page: uuid.UUID, limits: Limits, tariff: Tariff
) -> list[Room]:
    """The limits with what is gone of them; locked until the transaction ends."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without a condition gives a row
    now: float = row[0]
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    periods = {budget.RUN: str(run), budget.DAY: day, budget.MONTH: day[:7]}
    keys = [(scope, periods[scope]) for scope in sorted(limits.scopes)]
    spent = _spent(connection, keys)
    if len(spent) < len(keys):
        connection.cursor().executemany(
            "INSERT INTO crawl_budget (scope, period) VALUES (%s, %s) ON CONFLICT DO NOTHING", keys
        )
        spent = _spent(connection, keys)
    for key in keys:
        if spent[key][2]:
            spent[key] = (*_counted_again(connection, *key, tariff), False)
    reserved = [Reserved(*row) for row in connection.execute(_RESERVED, [page]).fetchall()]
    return [
        budget.room_of(*key, limits.of(key[0]), spent[key][:2], reserved=reserved, now=now)
        for key in keys
    ]


def _spent(
    connection: psycopg.Connection[Any], keys: Sequence[_Period]
) -> dict[_Period, tuple[int, int, bool]]:
    """Posts and money of the periods, locked, and whether the pages are to be counted again."""
    rows = connection.execute(_LOCK, [[key[0] for key in keys], [key[1] for key in keys]])
    return {(scope, period): (posts, money, stale) for scope, period, posts, money, stale in rows}


def _counted_again(
    connection: psycopg.Connection[Any], scope: str, period: str, tariff: Tariff
) -> tuple[int, int]:
    """Cost of all stored pages of the period, also of runs without a budget.

    The period's row is locked, and each that takes from a budget changes it in the
    transaction that saves the page: so no page is counted twice or left out.
    """
    begin = period if scope == budget.DAY else f"{period}-01"
    rows = connection.execute(
        _BOUGHT_BY_RUN if scope == budget.RUN else _BOUGHT_IN_TIME,
        {"period": period, "begin": begin, "length": f"1 {scope}"},
    ).fetchall()
    posts = sum(row[2] for row in rows)
    money = sum(tariff.cost(e, requests=pages, posts=p, users=users) for e, pages, p, users in rows)
    connection.execute(
        "UPDATE crawl_budget SET posts = %s, micro_usd = %s, counted_at = clock_timestamp() "
        "WHERE scope = %s AND period = %s",
        [posts, money, scope, period],
    )
    return posts, money


_SET_ASIDE: LiteralString = """
INSERT INTO crawl_reserved (id, run_id, owner, endpoint, posts, micro_usd)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET posts = excluded.posts, micro_usd = excluded.micro_usd
"""
_NOTE_LOST: LiteralString = """
INSERT INTO crawl_reserved (id, run_id, owner, endpoint, posts, micro_usd, why)
VALUES (%s, %s, '', %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET owner = '', why = excluded.why
"""
# By hand, since it is part of each save under a budget: the reservation goes, and the budgets
# that it was taken from grow by what the page did cost, in the order of their keys.
_SPEND: LiteralString = """
WITH gone AS (DELETE FROM crawl_reserved WHERE id = %(id)s RETURNING run_id),
today AS (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at),
locked AS (
    SELECT b.scope, b.period FROM crawl_budget b, gone, today
    WHERE (b.scope, b.period) IN (
        ('run', gone.run_id::text),
        ('day', to_char(today.at, 'YYYY-MM-DD')),
        ('month', to_char(today.at, 'YYYY-MM'))
    )
    ORDER BY 1, 2 FOR UPDATE OF b
)
UPDATE crawl_budget b SET posts = b.posts + %(posts)s, micro_usd = b.micro_usd + %(cost)s
FROM locked WHERE b.scope = locked.scope AND b.period = locked.period
"""
# Locks what was spent of budgets, and tells whether the pages must be counted again.
_LOCK: LiteralString = """
SELECT scope, period, posts, micro_usd,
    coalesce(counted_at < clock_timestamp() - interval '60 s', true)
FROM crawl_budget
WHERE (scope, period) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
ORDER BY 1, 2 FOR UPDATE
"""
# No period is longer than a month.
_RESERVED: LiteralString = """
SELECT run_id, owner, endpoint, extract(epoch FROM reserved_at)::float8, posts, micro_usd
FROM crawl_reserved
WHERE id <> %s AND reserved_at > clock_timestamp() - interval '32 days'
"""
_BOUGHT_BY_RUN: LiteralString = """
SELECT endpoint, count(*), sum(post_count), sum(user_count)
FROM crawl_page WHERE run_id = %(period)s::bigint GROUP BY 1
"""
_BOUGHT_IN_TIME: LiteralString = """
SELECT endpoint, count(*), sum(post_count), sum(user_count)
FROM crawl_page
WHERE fetched_at >= %(begin)s::timestamp AT TIME ZONE 'UTC'
AND fetched_at < (%(begin)s::timestamp + %(length)s::interval) AT TIME ZONE 'UTC'
GROUP BY 1
"""
