"""Posts per second from X into durable rows, of four ways.

The crawler with everything on, the original's way, the bare limit, twarc2.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg

from benchmarks import stage, twarc
from benchmarks.figures import Figure, Table, interleaved, ratio
from benchmarks.stage import POSTS_OF_A_USER, Cost, Sandbox, Server

# Users a run of each way, so that all of them take about the same time.
_USERS = {"original": 8, "crawler": 30, "limit": 60, "twarc2": 30}


def measure(server: Server, *, full: bool) -> list[Table]:
    """The table of the crawl."""
    times, rounds = (3, 5) if full else (1, 3)
    with Sandbox("--credentials", "2", *stage.FAST) as sandbox:
        ways = _ways(sandbox, server, times)
        if full or twarc.installed():
            ways |= {"twarc2, 1": lambda: _peer(sandbox, _USERS["twarc2"] * times)}
        results = interleaved(ways, rounds)
    return [_table(results, rounds)]


Run = tuple[int, Cost]


def _ways(sandbox: Sandbox, server: Server, times: int) -> dict[str, Callable[[], Run]]:
    def script(way: str, processes: int) -> Run:
        users = _USERS["original" if way == "original_way" else "limit"] * times
        return run_script(way, sandbox, server, users, processes)

    def crawl(processes: int, sentiment: str) -> Run:
        return run_crawler(
            sandbox, server, _USERS["crawler"] * times, processes, "--sentiment", sentiment
        )

    return {
        f"{name}, {processes}": partial(made, processes)
        for processes in (1, 2)
        for name, made in (
            ("original's way", lambda p: script("original_way", p)),
            ("crawler", lambda p: crawl(p, "off")),
            ("crawler with sentiment", lambda p: crawl(p, "on")),
            ("bare limit", lambda p: script("bare_limit", p)),
        )
    }


def run_script(way: str, sandbox: Sandbox, server: Server, users: int, processes: int) -> Run:
    """One run of a script of this folder into a new database."""
    with server.database() as dsn, tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "handles.txt"
        names.write_text("\n".join(stage.handles(users, "writer")))
        server.checkpoint()
        command: list[str | Path] = [
            sys.executable,
            "-m",
            f"benchmarks.{way}",
            sandbox.url,
            stage.bearer(sandbox.auth_csv),
            dsn,
            str(processes),
            names,
        ]
        cost = stage.run(command, sandbox=sandbox, server=server)
        return _counted(dsn, users), cost


def run_crawler(sandbox: Sandbox, server: Server, users: int, processes: int, *options: str) -> Run:
    """One run of the product, with the pages kept, into a new database."""
    names = stage.handles(users, "writer")
    with server.database() as dsn, stage.crawler(sandbox, dsn, names, threads=processes) as crawler:
        server.checkpoint()
        command = [sys.executable, "-m", "tweetcrawler", "-c", "tweet.ini", "--quiet", *options]
        cost = stage.run(command, folder=crawler.folder, sandbox=sandbox, server=server)
        return _counted(dsn, users), cost


def _peer(sandbox: Sandbox, users: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        return twarc.timelines(sandbox, stage.handles(users, "writer"), Path(folder))


def _counted(dsn: str, users: int) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM tweet_articles_tweepy").fetchone()
    if row is None or row[0] != users * POSTS_OF_A_USER:
        raise RuntimeError(f"{row} rows are stored, not {users} times {POSTS_OF_A_USER}")
    return int(row[0])


def _table(results: dict[str, list[Run]], rounds: int) -> Table:
    table = Table(
        "crawl",
        f"Crawl: from X to durable rows ({rounds} interleaved rounds, median and spread)",
        [
            "way, processes",
            "tweets/s",
            "by original's way",
            "by bare limit",
            "CPU s a million tweets",
            "of it program / sandbox / PostgreSQL",
        ],
    )
    speed = {
        name: [tweets / cost.wall_s for tweets, cost in runs] for name, runs in results.items()
    }
    for name, runs in results.items():
        processes = name.rpartition(" ")[2]
        by_original = ratio(speed[name], speed[f"original's way, {processes}"])
        by_limit = ratio(speed[name], speed[f"bare limit, {processes}"])

        def per_million(part: str, runs: list[Run] = runs) -> Figure:
            return Figure(tuple(getattr(cost, part) / tweets * 1e6 for tweets, cost in runs))

        parts = [per_million(part).median for part in ("program_s", "sandbox_s", "postgres_s")]
        table.rows.append(
            [
                name,
                Figure(tuple(speed[name])).shown(0),
                by_original.shown(),
                by_limit.shown(),
                per_million("cpu_s").shown(0),
                " / ".join(f"{part:,.0f}" for part in parts),
            ]
        )
        table.values[name] = {
            "tweets_per_s": speed[name],
            "by_original": by_original.values,
            "by_limit": by_limit.values,
            "cpu_s_per_million": {
                p: per_million(p).values for p in ("program_s", "sandbox_s", "postgres_s")
            },
        }
    _targets(table, speed)
    return table


def _targets(table: Table, speed: dict[str, list[float]]) -> None:
    for processes in (1, 2):
        for name, wanted in (("crawler", 4.0), ("crawler with sentiment", 3.0)):
            found = ratio(speed[f"{name}, {processes}"], speed[f"original's way, {processes}"])
            table.target(
                f"{name}, {processes} process(es): {found.shown()} x the original's way, "
                f"at least {wanted:g}",
                found.median >= wanted,
            )
        found = ratio(speed[f"crawler, {processes}"], speed[f"bare limit, {processes}"])
        table.target(
            f"crawler, {processes} process(es): {found.shown()} x the bare limit, at least 0.4",
            found.median >= 0.4,
        )
    if "twarc2, 1" in speed:
        found = ratio(speed["crawler, 2"], speed["twarc2, 1"])
        table.target(
            f"crawler with 2 processes to rows: {found.shown()} x twarc2 to JSONL, at least 1",
            found.median >= 1,
        )
