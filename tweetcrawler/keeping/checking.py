"""What compliance jobs are asked, and what is done with their results.

X's answer sets tombstones, in one transaction with the note that it was read; the sweep of
`keeping.sweep` then does the rest. What X names no more was hidden and is back: its tombstone
goes, and its post is bought again by the next look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tweetcrawler.db import Database
from tweetcrawler.keeping import jobs
from tweetcrawler.keeping.authors import everything, posts_of
from tweetcrawler.keeping.jobs import Check
from tweetcrawler.keeping.noting import note_newest
from tweetcrawler.keeping.sweep import HIDDEN, Request, set_tombstones
from tweetcrawler.run import Doing
from tweetcrawler.work.answers import is_id

_TOLD = """
UPDATE crawl_check SET state = 'told', found_count = %(found)s
WHERE id = %(id)s AND state = 'downloaded'
"""
_STONES = {
    "tweets": "SELECT tweet_id, reason FROM crawl_tombstone",
    "users": "SELECT user_id, reason FROM crawl_tombstone_user",
}
_BACK = """
WITH users AS (
    DELETE FROM crawl_tombstone_user WHERE user_id = ANY(%(users)s) AND reason = ANY(%(hidden)s)
), posts AS (
    DELETE FROM crawl_tombstone
    WHERE (tweet_id = ANY(%(posts)s) OR user_id = ANY(%(users)s)) AND reason = ANY(%(hidden)s)
    RETURNING tweet_id
)
INSERT INTO crawl_due (purpose, tweet_id, due_at, step)
SELECT 'check', tweet_id, clock_timestamp(), -1 FROM posts
ON CONFLICT (purpose, tweet_id) DO UPDATE SET due_at = excluded.due_at, step = -1
"""


_AUDIT = """
INSERT INTO crawl_audit (actor, action, ids_count, tables, ids_sha256)
VALUES ('X', 'back', %s, '{}', %s)
"""


@dataclass(frozen=True)
class Told:
    """What a result says: how many ids are deleted, hidden and back again.

    `strange` counts lines that name no id that was asked for, or an action that is not known.
    """

    deleted: int = 0
    hidden: int = 0
    back: int = 0
    strange: int = 0


def begin(database: Database, session: Doing, kind: str, app: str) -> Check | None:
    """A new job over everything of its kind that is stored; None when there is nothing."""
    ids, older = to_ask(database, session, kind)
    session.do(lambda connection: note_newest(connection, older))
    return jobs.begin(session, kind, app, ids) if ids else None


def to_ask(database: Database, session: Doing, kind: str) -> tuple[set[int], Mapping[int, int]]:
    """The ids that a job is asked, and the older versions among what is stored.

    What is deleted for good is not asked for again. What is hidden is: it may be back.
    """
    stored = everything(database, session)
    stones = dict(session.do(lambda c: c.execute(_STONES[kind]).fetchall()))
    hidden = {one for one, reason in stones.items() if reason in HIDDEN}
    ids = ((stored.posts if kind == "tweets" else stored.users) - stones.keys()) | hidden
    return ids, {one: new for one, new in stored.newest.items() if one in stored.posts}


def apply(database: Database, session: Doing, check: Check) -> Told:
    """Sets a tombstone for each id that the result names, and takes those away that it does
    not name any more; the sweep comes after it.
    """
    listed, result = jobs.lists_of(session, check)
    asked = set(map(int, listed.split()))
    reasons, strange = _reasons(result.splitlines(), asked)
    stones = dict(session.do(lambda c: c.execute(_STONES[check.kind]).fetchall()))
    # What is final stays as it is; what was hidden may be deleted now.
    news = {
        one: reason
        for one, reason in reasons.items()
        if one not in stones or (stones[one] in HIDDEN and reason not in HIDDEN)
    }
    back = {one for one in asked - reasons.keys() if stones.get(one) in HIDDEN}
    by_users = posts_of(database, session, news.keys()) if check.kind == "users" else {}

    def work(connection: Any) -> None:
        with connection.transaction():
            for reason in sorted(set(news.values())):
                ids = {one for one, each in news.items() if each == reason}
                _set(connection, check.kind, ids, by_users, reason)
            given: dict[str, Any] = {"posts": [], "users": [], "hidden": list(HIDDEN)}
            given["posts" if check.kind == "tweets" else "users"] = sorted(back)
            connection.execute(_BACK, given)
            if back:
                listed = "\n".join(map(str, sorted(back))).encode()
                connection.execute(_AUDIT, [len(back), hashlib.sha256(listed).hexdigest()])
            connection.execute(_TOLD, {"id": check.id, "found": len(reasons)})

    session.do(work)
    hidden = sum(reason in HIDDEN for reason in news.values())
    return Told(len(news) - hidden, hidden, len(back), strange)


def _set(
    connection: Any, kind: str, ids: Collection[int], by_users: Mapping[int, int], reason: str
) -> None:
    request = Request(reason, "job")
    if kind == "tweets":
        set_tombstones(connection, dict.fromkeys(ids), request)
        return
    posts: dict[int, int | None] = {one: by for one, by in by_users.items() if by in ids}
    for one, known in connection.execute(_STONES["tweets"]).fetchall():
        if known not in HIDDEN:
            posts.pop(one, None)
    set_tombstones(connection, posts, request, ids)


def _reasons(lines: Iterable[bytes], asked: Collection[int]) -> tuple[dict[int, str], int]:
    """The reason of each id that was asked for, and the number of lines that are of no use."""
    found: dict[int, str] = {}
    strange = 0
    for line in filter(None, map(bytes.strip, lines)):
        number, reason = _told(line)
        if number not in asked or not reason:
            strange += 1
        # Named twice, what is final wins.
        elif found.get(number) in (None, *HIDDEN):
            found[number] = reason
    return found, strange


def _told(line: bytes) -> tuple[int, str]:
    """The id and the reason of a line; "" for a line that asks for no deletion."""
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        return 0, ""
    if not isinstance(told, dict) or not is_id(str(told.get("id"))):
        return 0, ""
    if told.get("action") != "delete":
        return int(told["id"]), ""
    reason = str(told.get("reason") or "deleted")
    return int(told["id"]), reason if reason in HIDDEN else "deleted"
