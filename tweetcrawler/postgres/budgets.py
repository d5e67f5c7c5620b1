"""Budgets per run, day and month: set aside before a request, settled with its page."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tweetcrawler import budget
from tweetcrawler.budget import Grant, Limits, Reserved, Room, Want
from tweetcrawler.pages import Bought
from tweetcrawler.postgres.connection import Connected, now_of
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

    def gone_of(self, run: int, tariff: Tariff) -> tuple[int, int]:
        """Posts and money of a run: what it bought, and the most of its answers that were lost
        or are still to come.
        """

        def work(connection: psycopg.Connection[Any]) -> tuple[int, int]:
            spent = _bought(connection, budget.RUN, str(run), tariff)
            found = [one for _, one in reservations(connection, run) if one.run == run]
            room = budget.room_of(
                budget.RUN, str(run), (None, None), spent, reserved=found, now=now_of(connection)
            )
            return room.spent_posts + room.held_posts, room.spent + room.held

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


def spend(connection: psycopg.Connection[Any], run: int, bought: Bought) -> None:
    """Settles a page that was just stored for the first time. Always the last of a transaction:
    others wait for these rows.
    """
    connection.execute(_SPEND, spend_parameters(run, bought))


def spend_parameters(run: int, bought: Bought) -> dict[str, Any]:
    """The parameters of `SPENT`, and the id of the page."""
    return {"run": run, "page": bought.id, "posts": bought.posts, "cost": bought.cost or 0}


def reservations(
    connection: psycopg.Connection[Any], run: int | None = None
) -> list[tuple[uuid.UUID, Reserved]]:
    """Reservations of the last 32 days, and all of one run, by the ids of their pages."""
    # No budget has a longer period. `status` and runs read the same rows, and `budget.room_of`
    # says of both which of them are lost.
    rows = connection.execute(_RESERVED, [run]).fetchall()
    return [(row[0], Reserved(*row[1:])) for row in rows]


def _rooms_of(
    connection: psycopg.Connection[Any], run: int, page: uuid.UUID, limits: Limits, tariff: Tariff
) -> list[Room]:
    """The limits with what is gone of them; locked until the transaction ends."""
    now = now_of(connection)
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    periods = {budget.RUN: str(run), budget.DAY: day, budget.MONTH: day[:7]}
    keys = [(scope, periods[scope]) for scope in sorted(limits.scopes)]
    spent = _spent(connection, keys)
    if len(spent) < len(keys):
        # Pages that are being saved at this moment do not see the new row, and the sum of pages
        # does not see them. Once for each period they are waited for.
        connection.execute("LOCK TABLE crawl_page IN SHARE MODE")
        connection.cursor().executemany(
            "INSERT INTO crawl_budget (scope, period) VALUES (%s, %s) ON CONFLICT DO NOTHING", keys
        )
        spent = _spent(connection, keys)
    for key in keys:
        if spent[key][2]:
            spent[key] = (*_counted_again(connection, *key, tariff), False)
    reserved = [one for number, one in reservations(connection) if number != page]
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
    posts, money = _bought(connection, scope, period, tariff)
    connection.execute(
        "UPDATE crawl_budget SET posts = %s, micro_usd = %s, counted_at = clock_timestamp() "
        "WHERE scope = %s AND period = %s",
        [posts, money, scope, period],
    )
    return posts, money


def _bought(
    connection: psycopg.Connection[Any], scope: str, period: str, tariff: Tariff
) -> tuple[int, int]:
    """Posts and cost of the stored pages of a period."""
    begin = period if scope == budget.DAY else f"{period}-01"
    rows = connection.execute(
        _BOUGHT_BY_RUN if scope == budget.RUN else _BOUGHT_IN_TIME,
        {"period": period, "begin": begin, "length": f"1 {scope}"},
    ).fetchall()
    posts = sum(row[2] for row in rows)
    money = sum(tariff.cost(e, requests=pages, posts=p, users=users) for e, pages, p, users in rows)
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
# By hand, since it is part of each save, also of runs without a budget: the reservation goes,
# and the budgets that there are grow by what the page did cost, in the order of their keys.
# The condition is true when the page was not stored before.
SPENT = sql.SQL("""gone AS (DELETE FROM crawl_reserved WHERE id = %(page)s),
locked AS (
    SELECT b.scope, b.period FROM crawl_budget b
    WHERE {when} AND (
        (b.scope = 'run' AND b.period = %(run)s::bigint::text)
        OR (b.scope = 'day'
            AND b.period = to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD'))
        OR (b.scope = 'month'
            AND b.period = to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM'))
    )
    ORDER BY 1, 2 FOR UPDATE OF b
), spent AS (
    UPDATE crawl_budget b SET posts = b.posts + %(posts)s, micro_usd = b.micro_usd + %(cost)s
    FROM locked WHERE b.scope = locked.scope AND b.period = locked.period
)""")
# Runs without a budget look for one in each save, which is much cheaper.
NO_BUDGET = sql.SQL("""NOT EXISTS (
    SELECT FROM crawl_budget WHERE scope <> 'run'
    AND period >= to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM')
)""")
_SPEND = sql.SQL("WITH {} SELECT").format(SPENT.format(when=sql.SQL("true")))
# Locks what was spent of budgets, and tells whether the pages must be counted again.
_LOCK: LiteralString = """
SELECT scope, period, posts, micro_usd,
    coalesce(counted_at < clock_timestamp() - interval '60 s', true)
FROM crawl_budget
WHERE (scope, period) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
ORDER BY 1, 2 FOR UPDATE
"""
_RESERVED: LiteralString = """
SELECT id, run_id, owner, endpoint, extract(epoch FROM reserved_at)::float8, posts, micro_usd
FROM crawl_reserved
WHERE reserved_at > clock_timestamp() - interval '32 days' OR run_id = %s
ORDER BY reserved_at
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
