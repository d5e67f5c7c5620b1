"""Tables of the room: tombstones, the audit of deletions, checks, segments and their places.

No table holds a text of a post. None refers to a run or a page, since what is said of a
deletion outlives both.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from tweetcrawler.postgres.schema import METADATA, at, count, needed, number

_ZERO = text("0")


def _one_of(column: str, *words: str) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _request() -> list[Column[Any] | CheckConstraint]:
    """Why something must not be stored, until when it has to be gone, and since when it is."""
    return [
        needed("reason"),
        needed("source"),
        at("asked_at", default=True),
        at("by_at"),
        at("done_at"),
        Column("run_id", BigInteger),
        Column("reference", Text),
        _one_of("source", "job", "lookup", "request"),
    ]


# Posts that must not be stored. Every statement that writes rows looks here, so the table is as
# narrow as that look needs. `done_at` is NULL until the sweep has gone through all that is kept.
crawl_tombstone = Table(
    "crawl_tombstone",
    METADATA,
    Column("tweet_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", BigInteger),
    *_request(),
)
# The sweep and `status` read the few that are open.
Index(
    "crawl_tombstone_open",
    crawl_tombstone.c.asked_at,
    postgresql_where=text("done_at IS NULL"),
)
# Accounts that must not be stored, with all their posts.
crawl_tombstone_user = Table(
    "crawl_tombstone_user",
    METADATA,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    *_request(),
)
# What was deleted, when and why: counts and the hash of the list, never an id or a text.
crawl_audit = Table(
    "crawl_audit",
    METADATA,
    number(),
    at("at", default=True),
    needed("actor"),
    needed("action"),
    Column("reference", Text),
    count("ids_count"),
    Column("tables", JSONB, nullable=False),
    needed("ids_sha256"),
)
# Segments, as `keeping.archive.Entry` has them.
crawl_segment = Table(
    "crawl_segment",
    METADATA,
    number(),
    Column("name", Text, nullable=False, unique=True),
    needed("kind"),
    Column("number", BigInteger, nullable=False),
    needed("state"),
    count("lines"),
    count("posts"),
    Column("lowest_id", BigInteger),
    Column("highest_id", BigInteger),
    Column("file_bytes", BigInteger, nullable=False),
    needed("sha256"),
    # The folder on the machine that wrote it; the file is there until it is dropped.
    Column("folder", Text, nullable=False, server_default=text("''")),
    Column("place", Text, nullable=False, server_default=text("''")),
    Column("tries", Integer, nullable=False, server_default=_ZERO),
    Column("position", BigInteger),
    at("uploaded_at"),
    at("verified_at"),
    at("dropped_at"),
    _one_of("state", "closed", "uploaded", "verified", "dropped"),
)
# How the places are reached, for every reader of bodies. Keys come from each reader's machine.
crawl_place = Table(
    "crawl_place",
    METADATA,
    Column("url", Text, primary_key=True),
    needed("endpoint"),
    needed("region"),
    needed("profile"),
)
# Compliance jobs at X. `ids` are the ones that were asked for and `result` is X's answer, both
# compressed; they go when the job is done.
crawl_check = Table(
    "crawl_check",
    METADATA,
    number(),
    needed("kind"),
    Column("name", Text, nullable=False, unique=True),
    needed("state"),
    needed("app"),
    Column("job_id", Text, nullable=False, server_default=text("''")),
    Column("ids", LargeBinary),
    count("ids_count"),
    Column("result", LargeBinary),
    count("found_count"),
    Column("reason", Text, nullable=False, server_default=text("''")),
    at("begun_at", default=True),
    at("uploaded_at"),
    at("done_at"),
    Column("lease_owner", Text),
    at("lease_until"),
    _one_of("kind", "tweets", "users"),
    _one_of("state", "begun", "created", "uploaded", "downloaded", "told", "done", "lost"),
)
Index(
    "crawl_check_open",
    crawl_check.c.kind,
    unique=True,
    postgresql_where=text("state <> 'done' AND state <> 'lost'"),
)
# When a post is looked at next; NULL: never again. `late_s` adds up how late the looks were.
crawl_due = Table(
    "crawl_due",
    METADATA,
    Column("purpose", Text, primary_key=True),
    Column("tweet_id", BigInteger, primary_key=True, autoincrement=False),
    at("due_at"),
    Column("step", Integer, nullable=False, server_default=_ZERO),
    Column("looks", Integer, nullable=False, server_default=_ZERO),
    Column("late_s", Double, nullable=False, server_default=_ZERO),
    at("seen_at"),
    _one_of("purpose", "check", "metrics"),
)
Index(
    "crawl_due_next",
    crawl_due.c.purpose,
    crawl_due.c.due_at,
    postgresql_where=text("due_at IS NOT NULL"),
)
# Older versions of edited posts, and the newest one that stands for them.
crawl_alias = Table(
    "crawl_alias",
    METADATA,
    Column("older_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tweet_id", BigInteger, nullable=False),
    at("seen_at", default=True),
    at("done_at"),
)
crawl_withheld = Table(
    "crawl_withheld",
    METADATA,
    Column("tweet_id", BigInteger, primary_key=True, autoincrement=False),
    Column("countries", ARRAY(Text), nullable=False),
    at("seen_at", default=True),
)
