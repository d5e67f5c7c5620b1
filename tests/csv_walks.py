"""Walks over a folder of CSV files in a process of their own, which dies where it is told to.

`python csv_walks.py FOLDER STEP` does one fixed walk and is killed at the given step (0:
never); a step is the start or the return of a call that `csvfiles` makes to C: into SQLite,
the file system, the csv module. `python csv_walks.py FOLDER SEED on` saves and writes
without end, and prints the ids of each saved page.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from tweetcrawler import csvfiles, files
from tweetcrawler.csvfiles import CsvFolder, Session
from tweetcrawler.csvstore import books, merging
from tweetcrawler.flatten import COLUMNS
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.targets import Found

REST_S = 7 * 86_400.0
LISTS = ("hashtags", "urls", "user_mentions_id", "media", "user_mentions_name")
# The pages of the fixed walk, by id and count of likes: holes filled from above, then newer
# and changed posts.
FIRST: Sequence[Sequence[tuple[int, int]]] = ([(50, 1), (60, 1), (70, 1)], [(20, 1), (30, 1)])
SECOND: Sequence[Sequence[tuple[int, int]]] = ([(70, 9), (80, 1), (90, 1)], [(10, 1), (90, 2)])
AFTERWARDS = [(90, 2), (80, 1), (70, 9), (60, 1), (50, 1), (30, 1), (20, 1), (10, 1)]


def row(tweet_id: int, **values: Any) -> dict[str, Any]:
    empty = {column: "{}" if column in LISTS else None for column in COLUMNS}
    return (
        empty
        | {"id": tweet_id, "text": f"post {tweet_id}", "favorite_count": 1, "retweet_count": 0}
        | values
    )


def page(**values: Any) -> Bought:
    return Bought("/2/users/:id/tweets", {"max_results": "100"}, "c1", b'{"data":[]}', **values)


def begin(session: Session) -> tuple[int, float]:
    return session.begin_run(version="0", arguments={}, host="h", credentials=[])


def resolved(session: Session, run: int, handle: str = "ada", user_id: str = "42") -> int:
    session.claim_handles([handle], "w")
    session.save_users(
        run, page(users=1), [Found(handle, user_id, handle.title(), 7)], [], rest_s=REST_S
    )
    return session.targets([handle])[handle].id


def save(session: Session, run: int, target: int, posts: Sequence[tuple[int, int]]) -> None:
    rows = [row(tweet_id, favorite_count=likes) for tweet_id, likes in sorted(posts)]
    covered = (rows[0]["id"], rows[-1]["id"] + 1)
    session.save(run, "w", Batch(target, page(posts=len(rows)), rows, covered=covered))


def fixed_walk(folder: Path) -> None:
    with CsvFolder(folder).session() as session:
        run, since = begin(session)
        target = resolved(session, run)
        session.claim(target, "w", since)
        for posts in FIRST:
            save(session, run, target, posts)
        session.finish(target, "w", state="ok", reason="", crawled=True)
    with CsvFolder(folder).session() as session:
        session.claim(target, "w", since)
        for posts in SECOND:
            save(session, run, target, posts)
        session.release("w")


def endless_walk(folder: Path, seed: str) -> None:
    chance = random.Random(seed)
    with CsvFolder(folder).session() as session:
        run, since = begin(session)
        target = resolved(session, run)
        while True:
            session.claim(target, "w", since)
            for _ in range(chance.randrange(4)):
                ids = chance.sample(range(1, 2_000), 20)
                save(session, run, target, [(i, 1) for i in ids])
                print(*ids, flush=True)
            session.finish(target, "w", state="ok", reason="", crawled=False)


STEPPED = {module.__file__ for module in (csvfiles, books, merging, files)}


def die_at(step: int) -> None:
    steps = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal steps
        if event in ("c_call", "c_return") and frame.f_code.co_filename in STEPPED:
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    fixed_walk(Path(sys.argv[1]))
    sys.setprofile(None)
    print(steps)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        endless_walk(Path(sys.argv[1]), sys.argv[2])
    else:
        die_at(int(sys.argv[2]))
