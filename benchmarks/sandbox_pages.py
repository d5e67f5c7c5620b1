"""Full timeline pages that the sandbox serves per second.

All fields, all expansions, 100 posts, no page twice.

Prints pages per second of wall clock and per second of the server's own CPU time; the
second figure is the one to compare, since the client here shares the machine.

    python benchmarks/sandbox_pages.py --pages 1500 [--gzip] [--fast]
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
import zlib
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from sandbox_server import Sandbox

from tweetcrawler.sandbox.fields import PRIVATE_METRICS, TWEET_LISTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1500)
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    arguments = ["--plan", "unlimited", "--posts", "400-400", "--short-pages", "0"] + [
        "--fast"
    ] * given.fast
    with Sandbox(*arguments) as sandbox:
        measure(sandbox, given.pages, gzip=given.gzip)


def measure(sandbox: Sandbox, pages: int, *, gzip: bool) -> float:
    """Pages per second of the server's CPU."""
    where = urlsplit(sandbox.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    headers = {"Authorization": "Bearer " + sandbox.credentials[0]["bearer_token"]}
    if gzip:
        headers["Accept-Encoding"] = "gzip"

    def get(path: str) -> bytes:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} for {path}: {body[:300]!r}")
        return body

    names = [f"bench_{number}" for number in range(pages // 4 + 1)]
    wanted = urlencode(
        {"max_results": 100}
        | {
            name: ",".join(value for value in values if value not in PRIVATE_METRICS)
            for name, values in TWEET_LISTS.items()
            if name != "post.fields"
        }
    )
    headers.pop("Accept-Encoding", None)
    ids: list[str] = []
    for start in range(0, len(names), 100):
        ids += [
            user["id"]
            for user in orjson.loads(
                get("/2/users/by?usernames=" + ",".join(names[start : start + 100]))
            )["data"]
        ]
    if gzip:
        headers["Accept-Encoding"] = "gzip"
    process = psutil.Process(sandbox.process.pid)
    begun, cpu_begun, served, size = time.perf_counter(), sum(process.cpu_times()[:2]), 0, 0
    for user_id in ids:
        until = ""
        for _ in range(4):
            body = get(f"/2/users/{user_id}/tweets?{wanted}{until}")
            served += 1
            size += len(body)
            if gzip:
                body = zlib.decompress(body, 31)
            until = f"&until_id={orjson.loads(body)['meta']['oldest_id']}"
    wall, cpu = time.perf_counter() - begun, sum(process.cpu_times()[:2]) - cpu_begun
    sys.stdout.write(
        f"{served} pages of {size / served / 1000:.0f} kB: {served / wall:.0f} pages/s, "
        f"{served / cpu:.0f} pages per second of server CPU, "
        f"{process.memory_info().rss / 2**20:.0f} MiB\n"
    )
    connection.close()
    return served / cpu


if __name__ == "__main__":
    main()
