"""Cost of a page when the tables are large.

Saving into many rows, and claiming among many targets.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks.figures import Table
from benchmarks.stage import Server
from tweetcrawler import prices
from tweetcrawler.db import Database, Reader, Session
from tweetcrawler.flatten import COLUMNS
from tweetcrawler.look import plan, status
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.prices import Tariff

_OWNER = "bench"
_AT_ONCE = 1_000_000
_BILLIONS = 3_200_000_000


def measure(server: Server, *, full: bool) -> list[Table]:
    """The tables of the growth."""
    rows = (100_000, 1_000_000, 10_000_000) if full else (10_000, 100_000, 400_000)
    targets = (1_000, 100_000, 10_000_000) if full else (1_000, 10_000, 100_000)
    return [_rows(server, rows, 1_000 if full else 150), _targets(server, targets)]


def _rows(server: Server, sizes: tuple[int, ...], pages: int) -> Table:
    """The dearest case: new posts fall evenly between those stored.

    A checkpoint comes before it.
    """
    table = Table(
        "growth-rows",
        f"Saving pages of 100 new posts into a table of many rows ({pages:,} pages at each size)",
        [
            "rows before",
            "ms a page, median",
            "rows/s",
            "WAL, B a row",
            "whole pages in it, a row",
            "B a row on disk",
        ],
    )
    costs, wal, images = [], [], []
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        stored = 0
        for size in sizes:
            _fill(connection, stored, size)
            connection.execute("VACUUM ANALYZE tweet_articles_tweepy")
            server.checkpoint()
            before, took = _wal(connection), _save_pages(dsn, size, pages)
            after = _wal(connection)
            stored = size + pages * 100
            images.append((after[1] - before[1]) / (pages * 100))
            wal.append((after[0] - before[0]) / (pages * 100))
            [disk] = connection.execute(
                "SELECT pg_total_relation_size('tweet_articles_tweepy')"
            ).fetchone() or (0,)
            costs.append(statistics.median(took) * 1000)
            table.rows.append(
                [
                    f"{size:,}",
                    f"{costs[-1]:.2f}",
                    f"{100 / statistics.median(took):,.0f}",
                    f"{wal[-1]:,.0f}",
                    f"{images[-1]:.3f}",
                    f"{disk / stored:,.0f}",
                ]
            )
    logs = [math.log10(size) for size in sizes]
    slope, start = statistics.linear_regression(logs, costs)
    table.values = {
        "sizes": sizes,
        "pages": pages,
        "ms_a_page": costs,
        "wal_bytes": wal,
        "wal_images": images,
        "ms_a_decade": slope,
        "ms_at_one": start,
    }
    table.notes.append(
        f"fitted: {start:.2f} + {slope:.2f} log10(rows) ms a page; extrapolated to {_BILLIONS:,} "
        "rows (not measured; an index beyond memory would add its reads): "
        f"{start + slope * math.log10(_BILLIONS):.2f} ms"
    )
    return table


def _wal(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """The bytes of WAL so far, and how many images of whole pages are in it."""
    time.sleep(1.5)  # a writer that is gone, or idles for a second, has been counted
    row = connection.execute("SELECT wal_bytes::bigint, wal_fpi FROM pg_stat_wal").fetchone()
    assert row is not None
    return row[0], row[1]


def _fill(connection: psycopg.Connection[Any], first: int, last: int) -> None:
    """Rows as posts are: ids of many users mixed, texts of a usual length."""
    connection.execute("SET synchronous_commit = off")
    for begin in range(first, last, _AT_ONCE):
        connection.execute(
            """
            INSERT INTO tweet_articles_tweepy (id, tweet_from, created_at, hashtags, urls,
                user_mentions_id, media, user_mentions_name, origin_device, favorite_count,
                text, retweet_count)
            SELECT 1000000000000000000 + n * 4194304, 'writer_' || n %% 1000,
                '2024-06-10T09:00:00.000Z', '{harbour}', '{https://tides.example/' || n || '}',
                '{}', '{}', '{}', 'Web', n %% 1000, repeat(md5(n::text), 5), n %% 100
            FROM generate_series(%s::bigint, %s) n
            """,
            [begin, min(begin + _AT_ONCE, last) - 1],
        )


def _save_pages(dsn: str, size: int, pages: int) -> list[float]:
    took = []
    with Database(dsn).session() as session:
        run, _ = session.begin_run(version="bench", arguments={}, host="bench", credentials=())
        for number in range(pages):
            batch = _page(size, number, pages)
            begun = time.perf_counter()
            session.save(run, _OWNER, batch)
            took.append(time.perf_counter() - begun)
    return took


def _page(size: int, number: int, pages: int) -> Batch:
    """New posts that fall between the stored ones, as those of one user among many do."""
    step = max(1, size // (pages * 100))
    rows = []
    for place in range(100):
        # A page's posts lie far from each other, as those of one user among many: the pages
        # are interleaved.
        id_ = 1_000_000_000_000_000_000 + (place * pages + number) * step * 4_194_304 + 7 + size
        rows.append(
            dict.fromkeys(COLUMNS)
            | {
                "id": id_,
                "tweet_from": "somebody",
                "created_at": "2024-06-10T09:00:00.000Z",
                "hashtags": "{}",
                "urls": "{}",
                "user_mentions_id": "{}",
                "media": "{}",
                "user_mentions_name": "{}",
                "text": "x" * 160,
                "favorite_count": 1,
                "retweet_count": 2,
            }
        )
    return Batch(
        target=None, bought=Bought("/2/users/:id/tweets", {}, "c1", b"", posts=100), rows=rows
    )


def _targets(server: Server, sizes: tuple[int, ...]) -> Table:
    table = Table(
        "growth-targets",
        "Statements on many targets, ms (median)",
        ["statement", *(f"{s:,}" for s in sizes)],
    )
    worst = 0.0
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        found: dict[str, list[float]] = {}
        stored = 0
        for size in sizes:
            _fill_targets(connection, stored, size)
            stored = size
            for name, took_s in _statements(dsn, size).items():
                found.setdefault(name, []).append(took_s * 1000)
                worst = max(worst, took_s)
    for name, values in found.items():
        table.rows.append([name, *(f"{value:.2f}" for value in values)])
    table.values = {"sizes": sizes, "ms": found}
    table.target(f"the slowest takes {worst:.3f} s, at most 1", worst <= 1.0)
    return table


def _fill_targets(connection: psycopg.Connection[Any], first: int, last: int) -> None:
    connection.execute("SET synchronous_commit = off")
    for begin in range(first, last, _AT_ONCE):
        connection.execute(
            """
            INSERT INTO crawl_target (kind, key, handle, username, state, covered, crawled_at)
            SELECT 'timeline', n::text, 'reader_' || n, 'Reader_' || n, 'ok',
                int8multirange(int8range(1, 1000000 + n)), now() - interval '1 day'
            FROM generate_series(%s::bigint, %s) n
            """,
            [begin + 1, min(begin + _AT_ONCE, last)],
        )
    connection.execute("VACUUM ANALYZE crawl_target")


def _statements(dsn: str, size: int) -> dict[str, float]:
    database = Database(dsn)
    tariff = prices.load(None, None)
    with database.session() as session, database.reader() as reader:
        run, since = session.begin_run(version="bench", arguments={}, host="bench", credentials=())
        ids = iter(range(1, size, max(1, size // 200)))
        handles = [f"reader_{n}" for n in range(1, size, max(1, size // 100))][:100]
        claimed: list[int] = []

        def claim() -> None:
            claimed.append(next(ids))
            session.claim(claimed[-1], _OWNER, since)

        return {
            "targets of 100 handles": _median(lambda: session.targets(handles)),
            "claim of a target": _median(claim),
            "finish of a target": _median(lambda: _finish(session, claimed[-1])),
            "giving back this session's leases": _median(lambda: session.release(_OWNER)),
            "giving back those of a process that died": _median(
                lambda: session.free(_OWNER, claimed)
            ),
            "which of 100 handles are known": _median(lambda: session.known_handles(handles)),
            "claim of 100 unknown handles": _median(
                lambda: session.claim_handles(
                    [f"new_{time.monotonic_ns()}_{n}" for n in range(100)], _OWNER
                ),
                5,
            ),
            "totals of the run": _median(lambda: session.totals(run)),
            "status": _median(lambda: _status(reader, tariff), 5),
            "plan of 100 handles": _median(
                lambda: plan.of_handles(reader, iter(handles), tariff, subject="bench"), 5
            ),
        }


def _status(reader: Reader, tariff: Tariff) -> None:
    next_run = plan.next_run(reader, tariff).as_plain()
    status.of_all(reader, tariff, next_run=next_run, budgets={})


def _finish(session: Session, target: int) -> None:
    session.finish(target, _OWNER, state="ok", reason="", crawled=True)


def _median(work: Callable[[], object], times: int = 15) -> float:
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)
