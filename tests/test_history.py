"""History does not grow for ever, and no sum changes when a part of it goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from crawls import Crawler, truth
from sandbox_server import Sandbox

from tweetcrawler import prices
from tweetcrawler.books import added_up
from tweetcrawler.db import Database
from tweetcrawler.postgres import history
from tweetcrawler.postgres.history import last_day

HANDLES = [f"writer_{n}" for n in range(3)]
DAY_S = 86_400.0


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--credentials", "2", "--posts", "40-90") as running:
        yield running


def sums(dsn: str) -> tuple[Counter[Any], int]:
    """Requests, posts and users by day, credential and endpoint, and the money of all."""
    by: Counter[Any] = Counter()
    with Database(dsn).reader() as reader:
        purchases = reader.purchases()
    for one in purchases:
        key = one.day, one.credential, one.endpoint
        by[key, "requests"] += one.pages
        by[key, "posts"] += one.posts
        by[key, "users"] += one.users
    return +by, added_up(purchases, prices.load(None, None)).micro_usd


def count(dsn: str, what: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(f"SELECT count(*) FROM {what}".encode()).fetchone()
    return int(row[0]) if row else 0


def test_old_requests_without_news_are_only_counted_and_no_reader_misses_them(
    sandbox: Sandbox, dsn: str, tmp_path: Path
) -> None:
    crawler = Crawler.on(sandbox, tmp_path, dsn, HANDLES)
    crawler.run()
    crawler.run("search", "coffee")
    crawler.run()
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE crawl_page SET fetched_at = fetched_at - interval '200 days'")
        connection.execute(
            "UPDATE crawl_run SET started_at = started_at - interval '200 days', "
            "ended_at = ended_at - interval '200 days'"
        )
        connection.execute("DELETE FROM crawl_past")  # no run has looked at those days
        # As many pages as a watch of months makes, by a run that brought nothing else.
        connection.execute(
            "INSERT INTO crawl_page (id, run_id, target_id, fetched_at, endpoint, params, "
            "credential, post_count, user_count, new_count, updated_count) "
            "SELECT gen_random_uuid(), p.run_id, p.target_id, p.fetched_at, p.endpoint, "
            "p.params, p.credential, 0, 0, 0, 0 FROM crawl_page p, generate_series(1, 3000) "
            "WHERE p.run_id = 3 AND p.target_id IS NOT NULL"
        )
        connection.execute(
            "INSERT INTO crawl_budget (scope, period) VALUES ('run', '3'), ('day', '2020-01-01')"
        )
    before, rows = sums(dsn), crawler.stored_ids()
    kept = count(dsn, "crawl_page WHERE post_count > 0 OR user_count > 0 OR params ? 'until_id'")
    pages = count(dsn, "crawl_page")
    assert pages > kept + 9000
    done = crawler.run("watch", "--once", "--retain", "120d")
    assert "older than --retain" in done.stderr
    this = count(dsn, "crawl_page WHERE run_id = (SELECT max(id) FROM crawl_run)")
    assert count(dsn, "crawl_page") == kept + this
    assert [row[0] for row in crawler.select("SELECT id FROM crawl_run ORDER BY 1")] == [1, 2, 4]
    assert crawler.select("SELECT scope, period FROM crawl_budget") == []
    after = sums(dsn)
    assert after[1] == before[1]
    assert {key: after[0][key] for key in before[0]} == before[0]
    assert "run 4" not in crawler.run("verify").stdout
    assert "0 new rows, 0 updated" in crawler.run("reflatten").stdout
    crawler.run("status")
    crawler.run("report", "--markdown", "report.md")
    assert crawler.stored_ids() == rows == sorted({*truth(sandbox, HANDLES), *rows})


def rounds(dsn: str, day: date, number: int, targets: int = 5) -> None:
    """A day of a watch, a round every quarter of an hour; every tenth round brings a post."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            """
            WITH runs AS (
                INSERT INTO crawl_run (version, arguments, host, started_at, ended_at, exit_code,
                    report)
                SELECT 't', '{}', 'h', at, at + interval '1 min', 0, '{}'
                FROM generate_series(%(day)s::date::timestamp AT TIME ZONE 'UTC',
                    %(day)s::date::timestamp AT TIME ZONE 'UTC' + interval '23:59', '15 min'
                ) AS s(at) RETURNING id, started_at
            )
            INSERT INTO crawl_page (id, run_id, fetched_at, endpoint, params, credential,
                post_count, user_count, new_count, updated_count)
            SELECT gen_random_uuid(), id, started_at, '/2/users/:id/tweets', '{}', 'c1',
                (id %% 10 = 0 AND n = 1)::int, 0, (id %% 10 = 0 AND n = 1)::int, 0
            FROM runs, generate_series(1, %(targets)s) AS n
            """,
            {"day": day, "targets": targets},
        )


@pytest.mark.parametrize("days", [12, pytest.param(105, marks=pytest.mark.slow)])
def test_rounds_without_end_keep_the_tables_flat(database: Database, dsn: str, days: int) -> None:
    """105 days are 10,080 rounds."""
    first, keeps = date(2026, 1, 1), 3
    most: dict[str, int] = {}
    for number in range(days):
        day = first + timedelta(days=number)
        rounds(dsn, day, number)
        before = sums(dsn) if number % 7 == 0 else None
        with database.session() as session:
            session.remove_history(day - timedelta(days=keeps - 1))
        assert before is None or sums(dsn) == before
        for what in ("crawl_page WHERE post_count = 0", "crawl_run", "crawl_past"):
            most[what] = max(most.get(what, 0), count(dsn, what))
    # A run that bought something stays with what it bought; one in ten did.
    bought = days * 96 // 10 + 1
    assert most["crawl_page WHERE post_count = 0"] <= keeps * 96 * 5 + 96 * 5
    assert most["crawl_run"] <= bought + (keeps + 1) * 96
    assert most["crawl_past"] <= bought + days + 1
    with database.session() as session:
        again = session.remove_history(first + timedelta(days=days - keeps))
    assert again == (0, 0), "a day is looked at once"


def test_the_current_month_is_always_kept() -> None:
    now = datetime(2026, 3, 20, 12, tzinfo=UTC)
    assert last_day(now, 30 * DAY_S) == date(2026, 2, 18)
    assert last_day(now, 2 * DAY_S) == date(2026, 3, 1)


def test_a_run_that_anything_refers_to_stays(dsn: str) -> None:
    """Every reference of the schema is asked before a run is deleted."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT conrelid::regclass::text FROM pg_constraint "
            "WHERE contype = 'f' AND confrelid = 'crawl_run'::regclass"
        ).fetchall()
    asked = set(re.findall(r"SELECT FROM (\w+) \w+ WHERE \w+\.run_id", history._REMOVE_RUNS))
    assert {row[0] for row in rows} <= asked
