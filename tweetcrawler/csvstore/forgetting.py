"""A target of a folder of CSV files is forgotten: coverage, position, and its file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tweetcrawler.csvstore import books
from tweetcrawler.csvstore.books import Bookkeeping, Connection
from tweetcrawler.csvstore.checks import Known, targets_of
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.pages import Forgotten
from tweetcrawler.targets import NEW


def forget(folder: Path, names: Sequence[str], *, rows: bool, dry: bool) -> Iterator[Forgotten]:
    """Forgets these targets, with their files or without. `dry` only tells what they are.

    **Errors**: `ConfigurationError` for an unknown name, and while a process walks a target.
    """
    with closing(Bookkeeping(folder, lambda: False)) as bookkeeping:
        for target in bookkeeping.read(lambda c: targets_of(c, folder, names)):
            forgotten = bookkeeping.write(partial(_forget, target=target, rows=rows, dry=dry))
            # After the bookkeeping: killed between them, the next run adds to the old file.
            if rows and not dry:
                _remove(folder / f"{target.handle}.csv")
            yield forgotten


def _forget(connection: Connection, *, target: Known, rows: bool, dry: bool) -> Forgotten:
    owner, until = connection.execute(
        "SELECT lease_owner, lease_until FROM crawl_target WHERE id = ?", [target.id]
    ).fetchone()
    if books.lease_runs(until, owner, time.time()):
        raise ConfigurationError(
            f"{target.shown} is being crawled now: forget it when that run has ended"
        )
    bought = connection.execute(_BOUGHT, [target.id]).fetchall()
    count = sum(row[-1] for row in bought) if rows else 0
    if not dry:
        connection.execute(_FORGET_TARGET, {"id": target.id, "new": NEW, "now": time.time()})
        connection.execute(_FORGET_PAGES, [target.id])
        if rows:
            connection.execute(_FORGET_FILE, [target.id])
            connection.execute("DELETE FROM csv_pending WHERE target_id = ?", [target.id])
    return Forgotten(target.shown, rows=count, bought=[row[:4] for row in bought])


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


_BOUGHT = """
SELECT endpoint, count(*), sum(post_count), sum(user_count), sum(new_count) FROM crawl_page
WHERE target_id = ? GROUP BY 1 ORDER BY 1
"""
_FORGET_PAGES = "UPDATE crawl_page SET target_id = NULL WHERE target_id = ?"
_FORGET_FILE = """
UPDATE crawl_target SET file_size = NULL, file_time_ns = NULL, file_rows = NULL, file_ids = NULL
WHERE id = ?
"""
_FORGET_TARGET = """
UPDATE crawl_target SET covered = '{}', unreachable = '{}', unreachable_reason = '',
    state = :new, state_reason = '', state_at = :now, account_posts = NULL, post_count = 0,
    lease_owner = NULL, lease_until = NULL, due_at = NULL, crawled_at = NULL, written = 0
WHERE id = :id
"""
