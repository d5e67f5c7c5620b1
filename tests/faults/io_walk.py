"""A fixed walk over a folder of CSV files that notes each step which is safe from then on.

`python io_walk.py FOLDER` makes a folder `safe-N` after the N-th page was saved: a change that
the shim notes among the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from csv_walks import FIRST, SECOND, begin, resolved, save

from tweetcrawler.csvfiles import CsvFolder


def walk(folder: Path) -> Iterator[set[int]]:
    """Walks, and gives the ids that are safe after each page."""
    safe: set[int] = set()
    for pages, crawled in ((FIRST, True), (SECOND, False)):
        with CsvFolder(folder).session() as session:
            run, since = begin(session)
            target = resolved(session, run)
            session.claim(target, "w", since)
            for posts in pages:
                save(session, run, target, posts)
                safe |= {tweet_id for tweet_id, _ in posts}
                yield set(safe)
            if crawled:
                session.finish(target, "w", state="ok", reason="", crawled=True)
            else:
                session.release("w")


if __name__ == "__main__":
    for number, _ in enumerate(walk(Path(sys.argv[1]))):
        (Path(sys.argv[1]) / f"safe-{number}").mkdir()
