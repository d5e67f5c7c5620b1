"""Compliance jobs of X as rows: each step is noted, so that a killed call is gone on with.

A job is begun with its list of ids, created at X under a name of ours, given the list, and
asked for its result. X's answer is stored before anything is deleted by it. Only one job of a
kind is open at a time, as X has it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import zstandard

from tweetcrawler.identity import is_gone
from tweetcrawler.run import Doing

# Of one step: an upload of a large list, above all.
LEASE_S = 3600.0

_DUE = """
SELECT NOT EXISTS (
    SELECT FROM crawl_check WHERE kind = %(kind)s AND (
        state NOT IN ('done', 'lost')
        OR (state = 'done' AND begun_at > clock_timestamp() - %(every)s * interval '1 s')
    )
)
"""
_OPEN = """
SELECT id, kind, name, state, app, job_id FROM crawl_check
WHERE kind = %(kind)s AND state NOT IN ('done', 'lost')
"""
_BEGIN = """
INSERT INTO crawl_check (kind, name, state, app, ids, ids_count)
VALUES (%(kind)s, %(name)s, 'begun', %(app)s, %(ids)s, %(count)s) ON CONFLICT DO NOTHING
"""
_HOLDER = "SELECT lease_owner FROM crawl_check WHERE id = %(id)s"
_CLAIM = """
UPDATE crawl_check SET lease_owner = %(owner)s,
    lease_until = clock_timestamp() + %(lease)s * interval '1 s'
WHERE id = %(id)s AND (
    lease_owner IS NULL OR lease_owner = ANY(%(free)s) OR lease_until < clock_timestamp()
)
RETURNING id, kind, name, state, app, job_id
"""
_RELEASE = """
UPDATE crawl_check SET lease_owner = NULL, lease_until = NULL
WHERE id = %(id)s AND lease_owner = %(owner)s
"""
# A step back is no step: a process that was stopped for an hour may come with an old one.
_STEP = """
UPDATE crawl_check SET state = %(state)s, job_id = coalesce(%(job_id)s, job_id),
    reason = %(reason)s, result = coalesce(%(result)s, result),
    uploaded_at = CASE WHEN %(state)s = 'uploaded' THEN clock_timestamp() ELSE uploaded_at END
WHERE id = %(id)s AND state = %(before)s
"""
_DONE = """
UPDATE crawl_check SET state = 'done', ids = NULL, result = NULL, done_at = clock_timestamp()
WHERE id = %(id)s AND state = 'told'
"""
_LISTS = "SELECT ids, result FROM crawl_check WHERE id = %(id)s"


@dataclass(frozen=True)
class Check:
    """One job: of "tweets" or "users", under our `name`, at X as `job_id`, of one app."""

    id: int
    kind: str
    name: str
    state: str
    app: str
    job_id: str


def is_due(session: Doing, kind: str, every_s: float) -> bool:
    """Whether a new job of this kind is to be begun."""
    given = {"kind": kind, "every": every_s}
    return bool(session.do(lambda c: c.execute(_DUE, given).fetchone())[0])


def opened(session: Doing, kind: str) -> Check | None:
    """The job of this kind that is under way."""
    row = session.do(lambda c: c.execute(_OPEN, {"kind": kind}).fetchone())
    return Check(*row) if row else None


def begin(session: Doing, kind: str, app: str, ids: set[int]) -> Check | None:
    """A new job of these ids, or the one that another call has begun meanwhile."""
    listed = zstandard.compress(b"".join(b"%d\n" % one for one in sorted(ids)))
    name = f"tweetcrawler-{uuid.uuid4().hex}"
    given = {"kind": kind, "name": name, "app": app, "ids": listed, "count": len(ids)}
    session.do(lambda connection: connection.execute(_BEGIN, given))
    return opened(session, kind)


def claim(session: Doing, number: int, owner: str) -> Check | None:
    """The job as it stands, held by this process for one step; None while another holds it."""

    def work(connection: Any) -> Any:
        with connection.transaction():
            (holder,) = connection.execute(_HOLDER, {"id": number}).fetchone()
            free = [owner, holder] if is_gone(holder) else [owner]
            given = {"id": number, "owner": owner, "lease": LEASE_S, "free": free}
            return connection.execute(_CLAIM, given).fetchone()

    row = session.do(work)
    return Check(*row) if row else None


def release(session: Doing, number: int, owner: str) -> None:
    """Gives the job back."""
    session.do(lambda c: c.execute(_RELEASE, {"id": number, "owner": owner}))


def step(
    session: Doing,
    check: Check,
    state: str,
    *,
    job_id: str | None = None,
    result: bytes | None = None,
    reason: str = "",
) -> Check:
    """The job in its next state, as it is noted."""
    given = {"id": check.id, "before": check.state, "state": state, "job_id": job_id}
    packed = None if result is None else zstandard.compress(result)
    given |= {"result": packed, "reason": reason}
    session.do(lambda connection: connection.execute(_STEP, given))
    return Check(check.id, check.kind, check.name, state, check.app, job_id or check.job_id)


def lists_of(session: Doing, check: Check) -> tuple[bytes, bytes]:
    """The list that the job is of, one id per line, and X's result."""
    ids, result = session.do(lambda c: c.execute(_LISTS, {"id": check.id}).fetchone())
    return _unpacked(ids), _unpacked(result)


def done(session: Doing, check: Check) -> None:
    """Ends a job whose result is swept."""
    session.do(lambda connection: connection.execute(_DONE, {"id": check.id}))


def _unpacked(packed: bytes | None) -> bytes:
    return b"" if packed is None else zstandard.decompress(packed)
