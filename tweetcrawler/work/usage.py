"""X's own counts of the posts that each app's project has had; free of charge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tweetcrawler.errors import NoCredentialLeft, XError
from tweetcrawler.news import Outcome, Result
from tweetcrawler.secret import Credential
from tweetcrawler.work.kinds import Chunk, Kind, Work, Worker, one_by_one

NAME = "usage"


def work(credentials: Sequence[Credential]) -> Work:
    """The counts of all apps, each asked with one of its credentials."""
    apps = {keys.app_fingerprint: number for number, keys in enumerate(credentials) if keys.has_app}
    return Work({NAME: list(apps.values())}, total=len(apps), processes=len(apps))


def ask_chunk(worker: Worker, numbers: list[int]) -> Result:
    """Asks with credentials, given by their numbers."""
    return one_by_one(worker, numbers, partial(_ask, worker))


def _ask(worker: Worker, number: int, _chunk: Chunk) -> None:
    name = f"X's count for {worker.job.credentials[number].name}"
    with worker.session() as session:
        try:
            worker.requests.usage(session, number)
        except (NoCredentialLeft, XError) as error:
            worker.tell(Outcome(name, "failed", str(error)))
            return
    worker.tell(Outcome(name, "ok"))


USAGE = Kind(NAME, do=ask_chunk, called=lambda number: f"X's count for credential {number + 1}")
