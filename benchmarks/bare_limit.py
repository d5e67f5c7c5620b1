"""The limit of a crawl: pages fetched, parsed, flattened and copied, nothing else.

urllib3 and orjson; ten pages a COPY into a stage, from there into the table, one
connection. What it saves it could never find again after a crash, and nothing keeps it from
a closed window.

    python -m benchmarks.bare_limit URL BEARER DSN PROCESSES HANDLES_FILE python -m
    benchmarks.bare_limit URL BEARER requests-only PROCESSES HANDLES_FILE   (asks for
    nothing new)
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import psycopg
import urllib3

from tweetcrawler import flatten

REQUESTS_ONLY = "requests-only"
_PAGES_A_COPY = 10
_FIELDS = urlencode(flatten.fields())
_COLUMNS = ", ".join(flatten.COLUMNS)
_STAGE = "CREATE TEMP TABLE stage (LIKE tweet_articles_tweepy)"
_COPY = f"COPY stage ({_COLUMNS}) FROM STDIN"
_UPSERT = (
    f"INSERT INTO tweet_articles_tweepy SELECT {_COLUMNS} FROM stage "  # noqa: S608
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in flatten.COLUMNS[1:])
)


def main() -> None:
    """Fetches all handles of the file."""
    url, bearer, dsn, processes, handles_file = sys.argv[1:]
    handles = Path(handles_file).read_text().split()
    count = int(processes)
    shares = [(url, bearer, dsn, handles[number::count]) for number in range(count)]
    if count == 1:
        _work(*shares[0])
        return
    with multiprocessing.Pool(count) as pool:
        pool.starmap(_work, shares)


def _work(url: str, bearer: str, dsn: str, handles: list[str]) -> None:
    http = urllib3.PoolManager(headers={"Authorization": f"Bearer {bearer}"})
    ids = [
        user["id"]
        for start in range(0, len(handles), 100)
        for user in _users(http, url, handles[start:][:100])
    ]
    if dsn == REQUESTS_ONLY:
        for user_id in ids:
            _page(http, url, user_id, f"&since_id={2**62}")
        return
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_STAGE.encode())
        waiting: list[list[dict[str, Any]]] = []
        for page in _pages(http, url, ids):
            waiting.append(flatten.flatten(page).rows)
            if len(waiting) == _PAGES_A_COPY:
                _store(connection, waiting)
        _store(connection, waiting)


def _users(http: urllib3.PoolManager, url: str, handles: list[str]) -> Any:
    return orjson.loads(
        http.request("GET", f"{url}/2/users/by?usernames={','.join(handles)}").data
    )["data"]


def _pages(http: urllib3.PoolManager, url: str, ids: list[str]) -> Iterator[dict[str, Any]]:
    for user_id in ids:
        until = ""
        while True:
            page = _page(http, url, user_id, until)
            yield page
            if "next_token" not in page["meta"]:
                break
            until = f"&until_id={page['meta']['oldest_id']}"


def _page(http: urllib3.PoolManager, url: str, user_id: str, more: str) -> dict[str, Any]:
    answer = http.request("GET", f"{url}/2/users/{user_id}/tweets?max_results=100&{_FIELDS}{more}")
    if answer.status != 200:
        raise RuntimeError(answer.data[:300])
    page: dict[str, Any] = orjson.loads(answer.data)
    return page


def _store(connection: psycopg.Connection[Any], waiting: list[list[dict[str, Any]]]) -> None:
    with connection.transaction():
        with connection.cursor() as cursor, cursor.copy(_COPY.encode()) as copy:
            for rows in waiting:
                for row in rows:
                    copy.write_row(list(row.values()))
        connection.execute(_UPSERT.encode())
        connection.execute(b"TRUNCATE stage")
    waiting.clear()


if __name__ == "__main__":
    main()
