"""The kind of work that takes compliance jobs through their states at X."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from tweetcrawler.endpoints import COMPLIANCE_JOB, COMPLIANCE_JOBS, NEW_COMPLIANCE_JOB
from tweetcrawler.errors import XUnavailable
from tweetcrawler.keeping import jobs
from tweetcrawler.keeping.jobs import Check
from tweetcrawler.news import Outcome, Result
from tweetcrawler.run import Doing, Session
from tweetcrawler.work.kinds import BUSY_S, Chunk, Kind, Work, Worker, one_by_one

NAME = "compliance"
# X allows 150 requests in 15 minutes; a job takes minutes.
_FIRST_LOOK_S, _LOOK_S = 0.25, 60.0

# The number of a job, its kind, and how often it was looked at.
Unit = tuple[int, str, int]
Job = Mapping[str, Any]


def work(check: Check) -> Work:
    """One job, until its result is stored."""
    return Work({NAME: [(check.id, check.kind, 0)]}, total=1, processes=1)


def ask_chunk(worker: Worker, units: list[Unit]) -> Result:
    """Takes jobs as far as X lets them go."""
    return one_by_one(worker, units, partial(_ask, worker))


def _ask(worker: Worker, unit: Unit, chunk: Chunk) -> None:
    number, kind, looks = unit
    with worker.session() as session:
        store = cast("Doing", session)  # only a database has jobs
        check = jobs.claim(store, number, worker.owner)
        if check is None:
            chunk.postpone([unit], BUSY_S)
            return
        try:
            ended = _Asking(worker, session, check).advanced()
        finally:
            jobs.release(store, number, worker.owner)
    if ended is None:
        # Another unit, since it was looked at once more.
        wait_s = min(_LOOK_S, _FIRST_LOOK_S * 2.0**looks)
        chunk.postpone([(number, kind, looks + 1)], wait_s)
    elif ended.state == "lost":
        worker.tell(Outcome(_called(unit), "failed", "X gives no result; call again for a new job"))
    else:
        worker.tell(Outcome(_called(unit), "ok"))


def _called(unit: Unit) -> str:
    return f"job of {unit[1]}"


class _Asking:
    """One job and the app that it is of."""

    def __init__(self, worker: Worker, session: Session, check: Check) -> None:
        self._requests = worker.requests
        self._session = session
        self._store = cast("Doing", session)
        self._check = check
        apps = [keys.app_fingerprint for keys in worker.job.credentials]
        self._number = apps.index(check.app) if check.app in apps else None

    def advanced(self) -> Check | None:
        """The job when it is at an end; None while X works on it."""
        check = self._check
        if check.state not in ("begun", "created", "uploaded"):
            return check
        if self._number is None:
            return self._step("lost", reason="the app of this job is not among the credentials")
        job = self._created() if check.state == "begun" else self._seen()
        status = str(job.get("status"))
        if status in ("failed", "expired"):
            return self._step("lost", reason=f"X says that the job is {status}")
        if status == "created" and self._check.state == "created":
            x = self._requests.client(self._number)
            x.upload_ids(str(job.get("upload_url")), jobs.lists_of(self._store, self._check)[0])
        if self._check.state == "created":
            # Also of a call that was killed after its upload: X has begun, and is not asked
            # twice.
            self._step("uploaded")
        if status != "complete":
            return None
        url = str(job.get("download_url"))
        result = self._requests.client(self._number).download_result(url)
        return self._step("downloaded", result=result)

    def _created(self) -> Job:
        """The job at X. One with our name is there if an earlier call was killed before it
        could note it.
        """
        kind, name = self._check.kind, self._check.name
        listed = self._asked(COMPLIANCE_JOBS, lambda x: x.compliance_jobs(kind))
        job: Job | None = next((one for one in listed if one.get("name") == name), None)
        if job is None:
            [job] = self._asked(NEW_COMPLIANCE_JOB, lambda x: x.create_compliance_job(kind, name))
        self._step("created", job_id=str(job["id"]))
        return job

    def _seen(self) -> Job:
        job_id = self._check.job_id
        [job] = self._asked(COMPLIANCE_JOB, lambda x: x.compliance_job(job_id))
        return job

    def _asked(self, endpoint: str, ask: Any) -> list[Job]:
        assert self._number is not None  # noqa: S101 - `advanced` looked
        jobs_told = self._requests.of_app(self._session, self._number, endpoint, ask).data
        is_list = endpoint == COMPLIANCE_JOBS
        if not is_list and (len(jobs_told) != 1 or not str(jobs_told[0].get("id")).isdecimal()):
            raise XUnavailable("X's answer holds no compliance job")
        return jobs_told

    def _step(self, state: str, **more: Any) -> Check:
        self._check = jobs.step(self._store, self._check, state, **more)
        return self._check


ASK_JOB = Kind(NAME, do=ask_chunk, called=_called)
