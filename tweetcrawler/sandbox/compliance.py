"""Batch compliance: jobs that take a list of ids and tell which of them were deleted or hidden.

The list goes to a signed address and the result comes from another. At X both are Google's
storage, which wants no key and answers in XML.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from tweetcrawler.sandbox import problems
from tweetcrawler.sandbox.clock import Clock, lowest_id, ms_of_id, rfc3339
from tweetcrawler.sandbox.params import Rules, WrongValue, any_text, one_of, some_of
from tweetcrawler.sandbox.world import MadeWorld, World

Json = dict[str, Any]

TYPES = ("tweets", "users")
STATUSES = ("created", "in_progress", "failed", "complete", "expired")
FIELDS = (
    "created_at",
    "download_expires_at",
    "download_url",
    "id",
    "name",
    "resumable",
    "status",
    "type",
    "upload_expires_at",
    "upload_url",
)
LIST_RULES = Rules(
    {
        "type": one_of(*TYPES),
        "status": one_of(*STATUSES),
        "compliance_job.fields": some_of(*FIELDS),
    },
    ("type",),
)
ONE_RULES = Rules({"compliance_job.fields": some_of(*FIELDS)})
# The reason in a result, by the state of the account.
_REASONS = {"absent": "deactivated", "suspended": "suspended", "protected": "protected"}
UPLOAD_S = 900
DOWNLOAD_S = 7 * 86_400
_IDS = re.compile(rb"(?:[0-9]{1,19}(?:\r?\n|$))*")


class StorageRefusal(Exception):
    """An answer of the storage that is not 200."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.body = (
            f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode()
        )


@dataclass(slots=True)
class Job:
    id: int
    app: str
    type: str
    name: str
    resumable: bool
    created_s: float
    base_url: str
    ids: bytes | None = None
    uploaded_s: float = 0.0
    uploads: int = 0
    downloads: int = 0
    result: bytes | None = None


class Jobs:
    """The jobs of all apps."""

    def __init__(self, world: World, clock: Clock, seed: str, takes_s: float) -> None:
        self.takes_s = takes_s
        self._world = world
        self._clock = clock
        self._seed = seed.encode()
        self._jobs: dict[int, Job] = {}

    def create(self, app: str, sent: object, base_url: str) -> Json:
        """A new job of an app. X takes one of each type at a time."""
        body = _checked(sent)
        if any(
            job.type == body["type"] and self._status(job) in ("created", "in_progress")
            for job in self._of(app)
        ):
            # X's own words for it are not known.
            message = "There is already a job of this type; wait until it is complete."
            wrong = problems.wrong_parameter("type", [body["type"]], message)
            raise problems.invalid([wrong])
        now = self._clock.now()
        id_ = lowest_id(int(now * 1000)) + len(self._jobs)
        job = Job(
            id_,
            app,
            body["type"],
            body.get("name", ""),
            body.get("resumable", False),
            now,
            base_url,
        )
        self._jobs[id_] = job
        return {"data": self._shown(job)}

    def listed(self, app: str, values: Json) -> Json:
        found = [
            self._shown(job, values.get("compliance_job.fields", FIELDS))
            for job in self._of(app)
            if job.type == values["type"] and values.get("status") in (None, self._status(job))
        ]
        return ({"data": found} if found else {}) | {"meta": {"result_count": len(found)}}

    def one(self, app: str, raw_id: str, values: Json) -> Json:
        job = self._jobs.get(int(raw_id)) if re.fullmatch("[0-9]{1,19}", raw_id) else None
        if job is None or job.app != app:
            message = f"The `id` query parameter value [{raw_id}] is not valid"
            raise problems.invalid([problems.wrong_parameter("id", [raw_id], message)])
        return {"data": self._shown(job, values.get("compliance_job.fields", FIELDS))}

    def all(self) -> list[Json]:
        """Every job with what was done with it, for control calls."""
        return [
            {
                "id": str(job.id),
                "app": job.app,
                "type": job.type,
                "name": job.name,
                "status": self._status(job),
                "ids": (job.ids or b"").decode().split(),
                "uploads": job.uploads,
                "downloads": job.downloads,
            }
            for job in self._jobs.values()
        ]

    def _of(self, app: str) -> Iterator[Job]:
        return (job for job in self._jobs.values() if job.app == app)

    def _status(self, job: Job) -> str:
        now = self._clock.now()
        if job.ids is None:
            return "created" if now < job.created_s + UPLOAD_S else "expired"
        if now < job.uploaded_s + self.takes_s:
            return "in_progress"
        if not _IDS.fullmatch(job.ids):
            return "failed"
        return "complete" if now < job.created_s + DOWNLOAD_S else "expired"

    def _shown(self, job: Job, fields: tuple[str, ...] | list[str] = FIELDS) -> Json:
        status = self._status(job)
        shown = {
            "id": str(job.id),
            "type": job.type,
            "created_at": rfc3339(job.created_s),
            "upload_url": self._url(job, "submission", UPLOAD_S),
            "upload_expires_at": rfc3339(job.created_s + UPLOAD_S),
            "download_url": self._url(job, "delivery", DOWNLOAD_S),
            "download_expires_at": rfc3339(job.created_s + DOWNLOAD_S),
            "status": status,
            "resumable": job.resumable,
        }
        if job.name:
            shown["name"] = job.name
        shown = {name: value for name, value in shown.items() if name in fields}
        return shown | ({"error": "invalid_input"} if status == "failed" else {})

    # -- the storage -----------------------------------------------------------

    def _url(self, job: Job, part: str, expires_s: int) -> str:
        query: dict[str, object] = {"X-Goog-Expires": expires_s}
        # The type of the content is signed, too: an upload that says another is refused.
        if part == "submission":
            query |= {"X-Goog-SignedHeaders": "content-type;host"}
        query |= {"X-Goog-Signature": self._signature(job, part)}
        return f"{job.base_url}/storage/compliance/{job.id}/{part}?{urlencode(query)}"

    def _signature(self, job: Job, part: str) -> str:
        return hmac.new(self._seed, f"{job.id}/{part}".encode(), hashlib.sha256).hexdigest()

    def stored(
        self, method: str, path: str, query: dict[str, str], content_type: str, body: bytes
    ) -> bytes:
        """The answer of the storage to an upload or a download.

        `StorageRefusal` for a wrong address, one that has expired, and a result that is not there.
        """
        part, job = path.rpartition("/")[2], self._jobs.get(_number(path.split("/")[-2]))
        if job is None or (method, part) not in (("PUT", "submission"), ("GET", "delivery")):
            raise StorageRefusal(403, "AccessDenied")
        is_right = query.get("X-Goog-Signature") == self._signature(job, part)
        if not is_right or (method == "PUT" and content_type != "text/plain"):
            raise StorageRefusal(403, "SignatureDoesNotMatch")
        life_s = UPLOAD_S if method == "PUT" else DOWNLOAD_S
        if self._clock.now() >= job.created_s + life_s:
            raise StorageRefusal(400, "ExpiredToken")
        return self._take(job, body) if method == "PUT" else self._give(job)

    def _take(self, job: Job, body: bytes) -> bytes:
        job.uploads += 1
        # A job that has begun has read its file.
        if job.ids is None:
            job.ids, job.uploaded_s = body, self._clock.now()
        return b""

    def _give(self, job: Job) -> bytes:
        if self._status(job) != "complete" or job.ids is None:
            raise StorageRefusal(404, "NoSuchKey")
        if job.result is None:
            ids = map(int, job.ids.split())
            told = _told_of_posts if job.type == "tweets" else _told_of_users
            lines = (told(self._world, id_) for id_ in dict.fromkeys(ids))
            job.result = b"".join(orjson.dumps(line) + b"\n" for line in lines if line)
        job.downloads += 1
        return job.result


def _checked(sent: object) -> Json:
    """The body of a new job; refuses with all that is wrong."""
    body = sent if isinstance(sent, dict) else {}
    rules = Rules(
        {"type": one_of(*TYPES), "name": any_text, "resumable": _true_or_false}, ("type",)
    )
    values = rules.check([(str(name), _as_sent(value)) for name, value in body.items()])
    if len(values.get("name", "")) > 64:
        message = "The `name` is longer than 64 characters"
        raise problems.invalid([problems.wrong_parameter("name", [values["name"]], message)])
    return values


def _as_sent(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _true_or_false(name: str, raw: str) -> bool:
    if raw not in ("true", "false"):
        raise WrongValue(f"The `{name}` value [{raw}] is not true or false")
    return raw == "true"


# Only ids with an event come back: one that was never given is passed over, as X does.
def _told_of_posts(world: World, id_: int) -> Json | None:
    found = world.redaction(id_) if isinstance(world, MadeWorld) else None
    if found is None:
        return None
    reason, at_s = _REASONS.get(found[0], found[0]), found[1]
    created = {"created_at": rfc3339(ms_of_id(id_) / 1000)}
    when = {} if at_s is None else {"redacted_at": rfc3339(at_s)}
    return {"id": str(id_), "action": "delete"} | created | when | {"reason": reason}


def _told_of_users(world: World, id_: int) -> Json | None:
    if not isinstance(world, MadeWorld):
        return None
    person = world.people.anyone_numbered(id_)
    if person is None or person.state not in _REASONS:
        return None
    created = world.people.profile(person)["created_at"]
    reason = _REASONS[person.state]
    return {"id": str(id_), "action": "delete", "created_at": created, "reason": reason}


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 20 else 0
