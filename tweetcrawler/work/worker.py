"""The start of a worker process: everything that it needs is loaded with this module.

Only workers load it, so that the parent and short commands need none of tweepy.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from tweetcrawler import (
    pool,
    xapi,  # noqa: F401 - loaded once for all workers, and not between a permit and its request
)
from tweetcrawler.news import Result
from tweetcrawler.run import Job
from tweetcrawler.secret import silence_libraries
from tweetcrawler.sentiment import scorer
from tweetcrawler.work.kinds import Task, Worker, table

# Read once for all workers of the fork server, which share its memory: a worker of its own
# would take 30 ms and 4 MB for it.
table()
scorer()
gc.collect()
gc.freeze()


def start_worker(
    number: int, stopping: Callable[[], bool], tell: Callable[[Any], None], job: Job
) -> Callable[[Task | None], Result]:
    """Makes the handler of tasks of one worker process; see `pool.Pool`."""
    # A page is thousands of objects without a cycle: to look for one after every 700 costs
    # and finds nothing.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    pool.log_to_parent(tell, job.settings.log_level)
    silence_libraries()
    return Worker(number, stopping, tell, job).do
