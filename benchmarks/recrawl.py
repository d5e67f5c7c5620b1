"""A second crawl that finds nothing new.

Requests per target, WAL, and targets per second compared with the bare requests.
"""

from __future__ import annotations

import sys
import time
import uuid
from dataclasses import replace
from typing import Any

import psycopg

from benchmarks import stage
from benchmarks.figures import Figure, Table, interleaved, ratio
from benchmarks.stage import Sandbox, Server
from tweetcrawler.db import Database
from tweetcrawler.flatten import flatten
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.xapi import Page, Timeouts, X

_SANDBOX = (
    "--credentials",
    "2",
    "--fast",
    "--no-gzip",
    "--plan",
    "unlimited",
    "--posts",
    "100-100",
)


def measure(server: Server, *, full: bool) -> list[Table]:
    """The table of the re-crawl."""
    # More rounds of the long list would meet the end of the window.
    targets, rounds = 5_000 if full else 1_000, 3
    names = stage.handles(targets, "reader")
    table = Table(
        "recrawl",
        f"Re-crawl of {targets:,} users without news ({rounds} interleaved rounds)",
        ["what", "figure"],
    )
    with (
        Sandbox(*_SANDBOX) as sandbox,
        server.database() as dsn,
        stage.crawler(sandbox, dsn, names, threads=1) as crawler,
    ):

        def crawl(threads: int) -> dict[str, float]:
            before, touched = _requests(sandbox), _rows_touched(dsn)
            server.checkpoint()
            wal = server.wal_bytes()
            command = [
                sys.executable,
                "-m",
                "tweetcrawler",
                "-c",
                "tweet.ini",
                "--quiet",
                "--threads",
                str(threads),
            ]
            stage.run(command, folder=crawler.folder)
            return {
                "requests": (_requests(sandbox) - before) / targets,
                "touched": _rows_touched(dsn) - touched,
                "wal": (server.wal_bytes() - wal) / targets,
                "rate": _targets_a_second(dsn),
            }

        crawl(2)
        ids = _ids(dsn)[: min(targets, 1_000)]
        runs = interleaved(
            {
                "bare": lambda: {"rate": _bare_rate(sandbox, ids)},
                "one": lambda: crawl(1),
                "two": lambda: crawl(2),
            },
            rounds,
        )
        wal_again = _wal_of_saving_again(server, sandbox, dsn, ids[0])
    _report(table, runs, wal_again)
    return [table]


def _report(
    table: Table, runs: dict[str, list[dict[str, float]]], wal_again: tuple[int, int]
) -> None:
    rates = {name: [run["rate"] for run in found] for name, found in runs.items()}
    requests = [run["requests"] for name in ("one", "two") for run in runs[name]]
    touched = sum(run["touched"] for name in ("one", "two") for run in runs[name])
    one, two = ratio(rates["one"], rates["bare"]), ratio(rates["two"], rates["bare"])
    with_rows, without_rows = wal_again
    table.rows = [
        ["requests a target", Figure(tuple(requests)).shown(3)],
        [
            "bare requests of the client a second, one process",
            Figure(tuple(rates["bare"])).shown(0),
        ],
        ["targets a second, 1 process", Figure(tuple(rates["one"])).shown(0)],
        ["targets a second, 2 processes", Figure(tuple(rates["two"])).shown(0)],
        ["1 process by bare requests", one.shown()],
        ["2 processes by bare requests of one", two.shown()],
        [
            "WAL bytes a target (its page, lease and state)",
            Figure(tuple(r["wal"] for r in runs["one"])).shown(0),
        ],
        ["rows of tweets inserted, updated or deleted", f"{touched:.0f}"],
        [
            "WAL bytes of saving a known page of 100 again / the same page without rows",
            f"{with_rows} / {without_rows}",
        ],
    ]
    table.values = {
        "rates": rates,
        "requests": requests,
        "wal_again": wal_again,
        "touched": touched,
    }
    table.target(f"{max(requests):.3f} requests a target, 1 is right", max(requests) <= 1.001)
    table.target(
        f"{with_rows - without_rows} bytes of WAL for 100 unchanged rows, none is right",
        touched == 0 and abs(with_rows - without_rows) < 100,
    )
    table.target(f"1 process: {one.shown()} x bare requests, at least 0.7", one.median >= 0.7)


def _requests(sandbox: Sandbox) -> int:
    return sum(
        n for of in sandbox.books()["requests"].values() for by in of.values() for n in by.values()
    )


def _one(dsn: str, statement: str) -> Any:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def _rows_touched(dsn: str) -> int:
    found = _one(
        dsn,
        """
        SELECT n_tup_ins + n_tup_upd + n_tup_del
        FROM pg_stat_user_tables
        WHERE relname = 'tweet_articles_tweepy'
        """,
    )
    return int(found)


def _targets_a_second(dsn: str) -> float:
    """Targets per second of the last run, by its pages.

    Counts those after the first note of several, and the time from then on.
    """
    return float(
        _one(
            dsn,
            """
            SELECT count(*) FILTER (WHERE fetched_at > first + interval '50 ms')
                / extract(epoch FROM max(fetched_at) - min(first))::float8
            FROM (
                SELECT fetched_at, min(fetched_at) OVER () AS first
                FROM crawl_page
                WHERE run_id = (SELECT max(id) FROM crawl_run)
            ) p
            """,
        )
    )


def _ids(dsn: str) -> list[tuple[str, int]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT key, upper(covered) - 1 FROM crawl_target ORDER BY id"
        ).fetchall()


def _bare_rate(sandbox: Sandbox, ids: list[tuple[str, int]]) -> float:
    """Requests a second of the crawler's own client with nothing around it."""
    x = _client(sandbox)
    begun = time.perf_counter()
    for key, newest in ids:
        _page(x, key, newest)
    return len(ids) / (time.perf_counter() - begun)


def _client(sandbox: Sandbox) -> X:
    return X(
        read_credentials(sandbox.auth_csv).credentials[0], api_url=sandbox.url, timeouts=Timeouts()
    )


def _page(x: X, key: str, since_id: int | None) -> Page:
    return x.user_tweets(key, since_id=since_id, until_id=None, token=None, user_auth=False)


def _wal_of_saving_again(
    server: Server, sandbox: Sandbox, dsn: str, target: tuple[str, int]
) -> tuple[int, int]:
    """WAL bytes of saving a known page once more, and of saving it without its rows; medians."""
    page = _page(_client(sandbox), target[0], None)
    bought = Bought(page.endpoint, page.params, "c1", b"", posts=100)
    batch = Batch(target=None, bought=bought, rows=flatten(page.answer).rows)
    found: list[list[int]] = [[], []]
    with Database(dsn).session() as session:
        run, _ = session.begin_run(version="bench", arguments={}, host="bench", credentials=())
        session.save(run, "bench", batch)
        for _ in range(31):
            for place, rows in enumerate((batch.rows, ())):
                again = replace(batch, bought=replace(bought, id=uuid.uuid4()), rows=rows)
                before = server.wal_bytes()
                saved = session.save(run, "bench", again)
                if saved.new or saved.updated:
                    raise RuntimeError(f"a known page gave {saved}")
                found[place].append(server.wal_bytes() - before)
    with_rows, without_rows = (sorted(values)[len(values) // 2] for values in found)
    return with_rows, without_rows
