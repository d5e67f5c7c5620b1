"""Posts per second from archives into rows, of three ways.

The crawler's import, the limit (orjson, COPY), and `twarc2 csv` with COPY.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import sql

from benchmarks import stage, twarc
from benchmarks.figures import Figure, Table, interleaved, ratio
from benchmarks.stage import Cost, Sandbox, Server
from tweetcrawler.settings.credentials import read_credentials
from tweetcrawler.xapi import Timeouts, X

_FILES = 4
Run = tuple[int, Cost]


def measure(server: Server, *, full: bool) -> list[Table]:
    """The table of the import."""
    pages, rounds = (1_000, 3) if full else (150, 3)
    posts = _FILES * pages * 100
    # Not below a private folder: the server itself does not read here, but twarc2's rows
    # pass by a file, too.
    with tempfile.TemporaryDirectory(prefix="tweetcrawler-bench-") as name:
        folder = Path(name)
        v2, v1 = _written(folder, pages)

        def ours(files: list[Path], threads: int) -> Run:
            return _import(server, folder, files, threads, posts)

        def limit(files: list[Path], form: str) -> Run:
            return _limit(server, files, form, posts)

        ways: dict[str, Callable[[], Run]] = {
            "import v2, 1": lambda: ours(v2, 1),
            "import v2, 2": lambda: ours(v2, 2),
            "limit v2": lambda: limit(v2, "v2"),
            "import v1.1, 1": lambda: ours(v1, 1),
            "import v1.1, 2": lambda: ours(v1, 2),
            "limit v1.1": lambda: limit(v1, "v1"),
        }
        if full or twarc.installed():
            ways["twarc2 csv and COPY"] = lambda: _peer(server, folder, v2[0], posts // _FILES)
        return [_table(interleaved(ways, rounds), rounds)]


def _written(folder: Path, pages: int) -> tuple[list[Path], list[Path]]:
    """The same posts as pages of v2 and as statuses of v1.1, a JSON object a line."""
    v2 = [folder / f"v2_{number}.jsonl" for number in range(_FILES)]
    v1 = [folder / f"v1_{number}.jsonl" for number in range(_FILES)]
    fast = (
        "--fast",
        "--no-gzip",
        "--plan",
        "unlimited",
        "--short-pages",
        "0",
        "--credentials",
        "1",
    )
    with Sandbox(*fast) as sandbox:
        x = X(
            read_credentials(sandbox.auth_csv).credentials[0],
            api_url=sandbox.url,
            timeouts=Timeouts(),
        )
        for number in range(_FILES):
            with v2[number].open("wb") as of_v2, v1[number].open("wb") as of_v1:
                for page in _pages(x, sandbox.id_of(f"writer_{number}"), pages):
                    of_v2.write(page + b"\n")
                    of_v1.writelines(
                        orjson.dumps(status) + b"\n" for status in _statuses(orjson.loads(page))
                    )
    return v2, v1


def _pages(x: X, user_id: str, count: int) -> Iterator[bytes]:
    until = None
    for _ in range(count):
        page = x.user_tweets(user_id, since_id=None, until_id=until, token=None, user_auth=False)
        yield page.body
        until = min(int(tweet["id"]) for tweet in page.data)


def _statuses(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    users = {user["id"]: user for user in page["includes"]["users"]}
    for tweet in page["data"]:
        user = users[tweet["author_id"]]
        yield {
            "created_at": "Mon Jun 10 09:00:00 +0000 2024",
            "id": int(tweet["id"]),
            "id_str": tweet["id"],
            "full_text": tweet["text"],
            "truncated": False,
            "lang": tweet.get("lang"),
            "source": '<a href="https://example.org" rel="nofollow">Web</a>',
            "entities": {"hashtags": [], "urls": [], "user_mentions": [], "symbols": []},
            "user": {
                "id": int(user["id"]),
                "id_str": user["id"],
                "name": user["name"],
                "screen_name": user["username"],
                "description": user.get("description", ""),
                "followers_count": 3,
                "friends_count": 4,
                "created_at": "Mon Jun 10 09:00:00 +0000 2013",
                "verified": False,
                "protected": False,
            },
            "in_reply_to_status_id": None,
            "in_reply_to_user_id": None,
            "in_reply_to_screen_name": None,
            "retweet_count": 1,
            "favorite_count": 2,
            "favorited": False,
            "retweeted": False,
        }


def _import(server: Server, folder: Path, files: list[Path], threads: int, posts: int) -> Run:
    with server.database() as dsn:
        (folder / "tweet.ini").write_text(
            f'[Database]\ndbname = "{dsn}"\n[System]\nThreads = {threads}\n'
        )
        server.checkpoint()
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "tweetcrawler",
            "import",
            *files,
            "-c",
            "tweet.ini",
        ]
        cost = stage.run([*command, "--quiet", "--sentiment", "off"], folder=folder, server=server)
        return _checked(dsn, "tweet_articles_tweepy", posts), cost


def _limit(server: Server, files: list[Path], form: str, posts: int) -> Run:
    with server.database() as dsn:
        server.checkpoint()
        cost = stage.run(
            [sys.executable, "-m", "benchmarks.bare_import", form, dsn, *files], server=server
        )
        return _checked(dsn, "tweet_articles_tweepy", posts), cost


def _peer(server: Server, folder: Path, file: Path, posts: int) -> Run:
    made = folder / "twarc.csv"
    cost = stage.run(
        twarc.csv_command(file, made), folder=folder, environ=os.environ | {"HOME": str(folder)}
    )
    with (
        server.database() as dsn,
        psycopg.connect(dsn) as connection,
        made.open(newline="") as rows,
    ):
        columns = next(csv.reader(rows))
        names = sql.SQL(", ").join(
            sql.SQL("{} text").format(sql.Identifier(column)) for column in columns
        )
        connection.execute(sql.SQL("CREATE TABLE peer ({})").format(names))
        connection.commit()
        copied = stage.run(
            [sys.executable, "-m", "benchmarks.bare_import", "csv", dsn, made], server=server
        )
        made_rows = _checked(dsn, "peer", posts)
    return made_rows, Cost(
        cost.wall_s + copied.wall_s, cost.program_s + copied.program_s, 0.0, copied.postgres_s
    )


def _checked(dsn: str, table: str, posts: int) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
        ).fetchone()
    if row is None or row[0] != posts:
        raise RuntimeError(f"{row} rows are in {table}, not {posts}")
    return int(row[0])


def _table(results: dict[str, list[Run]], rounds: int) -> Table:
    table = Table(
        "import",
        f"Import of archives ({rounds} interleaved rounds)",
        ["way, processes", "posts/s", "by its limit", "CPU s a million posts"],
    )
    speed = {name: [posts / cost.wall_s for posts, cost in runs] for name, runs in results.items()}
    for name, runs in results.items():
        form = "v1.1" if "v1.1" in name else "v2"
        by_limit = ratio(speed[name], speed[f"limit {form}"])
        cpu = Figure(tuple(cost.cpu_s / posts * 1e6 for posts, cost in runs))
        table.rows.append(
            [name, Figure(tuple(speed[name])).shown(0), by_limit.shown(), cpu.shown(0)]
        )
        table.values[name] = {
            "posts_per_s": speed[name],
            "by_limit": by_limit.values,
            "cpu_s": cpu.values,
        }
    for form in ("v2", "v1.1"):
        by_limit = ratio(speed[f"import {form}, 1"], speed[f"limit {form}"])
        table.target(
            f"{form}, one process: {by_limit.shown()} x the limit, at least 0.4",
            by_limit.median >= 0.4,
        )
        scaling = ratio(speed[f"import {form}, 2"], speed[f"import {form}, 1"])
        table.target(
            f"{form}: two processes are {scaling.shown()} x one, at least 1.6",
            scaling.median >= 1.6,
        )
    if "twarc2 csv and COPY" in speed:
        # twarc2 reads no v1.1: the same posts count as they are there in v2.
        for form in ("v2", "v1.1"):
            one, two = (
                ratio(speed[f"import {form}, {n}"], speed["twarc2 csv and COPY"]) for n in (1, 2)
            )
            table.target(
                f"{form}, two processes: {two.shown()} x twarc2 csv and COPY, at least 10",
                two.median >= 10,
            )
            table.notes.append(f"{form}, one process: {one.shown()} x twarc2 csv and COPY")
    return table
