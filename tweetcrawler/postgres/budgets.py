"""What may still be spent: set aside before a request, settled with its page."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg

from tweetcrawler import budget
from tweetcrawler.budget import Limits, Room
from tweetcrawler.identity import is_gone
from tweetcrawler.pages import Bought
from tweetcrawler.prices import Tariff

# What a budget is of: (scope, period), such as ("day", "2026-01-31").
_Period = tuple[str, str]


@contextmanager
def spending(connection: psycopg.Connection[Any], bought: Bought) -> Iterator[None]:
    """What is done within is one transaction with taking the page's cost from the budgets."""
    if bought.cost is None:
        yield
        return
    with connection.transaction():
        yield
        spend(connection, bought)


def spend(connection: psycopg.Connection[Any], bought: Bought) -> None:
    """Settles what was set aside. Always the last of a transaction: others wait for these rows."""
    if bought.cost is None:
        return
    connection.execute(
        "WITH gone AS (DELETE FROM crawl_reserved WHERE id = %(id)s RETURNING run_id), "
        "today AS (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at), "
        "locked AS (SELECT b.scope, b.period FROM crawl_budget b, gone, today WHERE (b.scope, b.period) IN "
        "(('run', gone.run_id::text), ('day', to_char(today.at, 'YYYY-MM-DD')), "
        "('month', to_char(today.at, 'YYYY-MM'))) ORDER BY 1, 2 FOR UPDATE OF b) "
        "UPDATE crawl_budget b SET posts = b.posts + %(posts)s, micro_usd = b.micro_usd + %(cost)s FROM locked "
        "WHERE b.scope = locked.scope AND b.period = locked.period",
        {"id": bought.id, "posts": bought.posts, "cost": bought.cost},
    )


def rooms_of(
    connection: psycopg.Connection[Any], run: int, page: uuid.UUID, limits: Limits, tariff: Tariff
) -> list[Room]:
    """The limits with what is gone of them; locked until the transaction ends."""
    row = connection.execute(
        "SELECT to_char(at, 'YYYY-MM-DD'), to_char(at, 'YYYY-MM') FROM (SELECT clock_timestamp() "
        "AT TIME ZONE 'UTC' AS at) today"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without a condition gives a row
    periods = {budget.RUN: str(run), budget.DAY: row[0], budget.MONTH: row[1]}
    keys = [(scope, periods[scope]) for scope in sorted(limits.scopes)]
    spent = _spent(connection, keys)
    if len(spent) < len(keys):
        connection.cursor().executemany(
            "INSERT INTO crawl_budget (scope, period) VALUES (%s, %s) ON CONFLICT DO NOTHING", keys
        )
        spent = _spent(connection, keys)
    for key in keys:
        if spent[key][2]:
            spent[key] = (*_counted_anew(connection, *key, tariff), False)
    held = connection.execute(
        "SELECT run_id::text, to_char(reserved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), owner, "
        "reserved_at < clock_timestamp() - interval '15 min', posts, micro_usd FROM crawl_reserved "
        "WHERE id <> %s AND reserved_at > clock_timestamp() - interval '32 days'",
        [page],
    ).fetchall()
    return [
        _room(scope, limits.of(scope), spent[scope, period][:2], held, period=period)
        for scope, period in keys
    ]


def _room(
    scope: str,
    limit: tuple[int | None, int | None],
    spent: tuple[int, int],
    reserved: Sequence[tuple[str, str, str, bool, int, int]],
    *,
    period: str,
) -> Room:
    posts, money = spent
    held = held_posts = 0
    for of_run, day, owner, is_old, its_posts, its_money in reserved:
        is_lost = is_old or not owner or is_gone(owner)
        of_period = of_run if scope == budget.RUN else day[: len(period)]
        if is_lost and of_period == period:
            posts, money = posts + its_posts, money + its_money
        elif not is_lost and (scope != budget.RUN or of_run == period):
            # Its page may be saved, and charged, after midnight: so it counts today,
            # whenever it was sent.
            held, held_posts = held + its_money, held_posts + its_posts
    return Room(scope, *limit, spent=money, spent_posts=posts, held=held, held_posts=held_posts)


def _spent(
    connection: psycopg.Connection[Any], keys: Sequence[_Period]
) -> dict[_Period, tuple[int, int, bool]]:
    """Posts and money of the periods, locked, and whether they are to be counted anew."""
    rows = connection.execute(
        "SELECT scope, period, posts, micro_usd, coalesce(counted_at < clock_timestamp() - interval '60 s', true) "
        "FROM crawl_budget WHERE (scope, period) IN (SELECT * FROM unnest(%s::text[], %s::text[])) "
        "ORDER BY 1, 2 FOR UPDATE",
        [[key[0] for key in keys], [key[1] for key in keys]],
    ).fetchall()
    return {(scope, period): (posts, money, stale) for scope, period, posts, money, stale in rows}


def _counted_anew(
    connection: psycopg.Connection[Any], scope: str, period: str, tariff: Tariff
) -> tuple[int, int]:
    """What the stored pages of the period cost: those of runs without a budget, too.

    The period's row is locked, and whoever takes from a budget changes it in the
    transaction that saves the page: so no page is counted twice or left out.
    """
    chosen: LiteralString = "run_id = %(period)s::bigint"
    if scope != budget.RUN:
        chosen = (
            "fetched_at >= %(begin)s::timestamp AT TIME ZONE 'UTC' "
            "AND fetched_at < (%(begin)s::timestamp + %(length)s::interval) AT TIME ZONE 'UTC'"
        )
    rows = connection.execute(
        "SELECT endpoint, count(*), sum(post_count), sum(user_count) FROM crawl_page WHERE "
        + chosen
        + " GROUP BY 1",
        {
            "period": period,
            "begin": period if scope == budget.DAY else f"{period}-01",
            "length": "1 day" if scope == budget.DAY else "1 month",
        },
    ).fetchall()
    posts = sum(row[2] for row in rows)
    money = sum(tariff.cost(e, requests=pages, posts=p, users=users) for e, pages, p, users in rows)
    connection.execute(
        "UPDATE crawl_budget SET posts = %s, micro_usd = %s, counted_at = clock_timestamp() "
        "WHERE scope = %s AND period = %s",
        [posts, money, scope, period],
    )
    return posts, money
