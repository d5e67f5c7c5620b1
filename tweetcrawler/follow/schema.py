"""Tables of the room: users as X showed them, walks through lists, and what the lists held.

Numbers of users are X's. Walks have small numbers, since every entry of a list has two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from tweetcrawler.postgres.schema import METADATA, at, count, needed


def _user(name: str, **more: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=False, autoincrement=False, **more)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default=text("''"))


# Users as X showed them last; `fields` is the whole object.
x_user = Table(
    "x_user",
    METADATA,
    _user("id", primary_key=True),
    needed("username"),
    needed("fields", JSONB),
    at("seen_at", needed=True),
)
Index("x_user_username", func.lower(x_user.c.username))
# Names and counts over time: a row where one of them had changed.
x_user_seen = Table(
    "x_user_seen",
    METADATA,
    _user("user_id", primary_key=True),
    Column("seen_at", TIMESTAMP(timezone=True), primary_key=True),
    needed("username"),
    Column("followers_count", BigInteger),
    Column("following_count", BigInteger),
    Column("tweet_count", BigInteger),
    Column("listed_count", BigInteger),
)
# Commands: what was asked for, until every list of it is walked. The same command goes on with it.
crawl_follow = Table(
    "crawl_follow",
    METADATA,
    Column("id", Integer, Identity(always=True), primary_key=True),
    needed("asked", JSONB),
    at("begun_at", default=True),
    at("ended_at"),
)
Index(
    "crawl_follow_open",
    crawl_follow.c.asked,
    unique=True,
    postgresql_where=text("ended_at IS NULL"),
)
# Lists that a command walks. A user found at several places is here once, so a circle ends.
crawl_follow_work = Table(
    "crawl_follow_work",
    METADATA,
    Column("follow_id", Integer, ForeignKey("crawl_follow.id"), primary_key=True),
    _user("user_id", primary_key=True),
    Column("is_following", Boolean, primary_key=True),
    Column("level", Integer, nullable=False),
    count("found_count"),
    Column("state", Text, nullable=False, server_default=text("'open'")),
    _text("reason"),
)
Index(
    "crawl_follow_work_open",
    crawl_follow_work.c.follow_id,
    crawl_follow_work.c.level,
    postgresql_where=text("state = 'open'"),
)
# Walks through one list of one user, from its newest entry down.
crawl_walk = Table(
    "crawl_walk",
    METADATA,
    Column("id", Integer, Identity(always=True), primary_key=True),
    _user("user_id"),
    Column("is_following", Boolean, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    at("begun_at", default=True),
    at("page_at"),
    at("ended_at"),
    Column("state", Text, nullable=False, server_default=text("'walking'")),
    _text("reason"),
    Column("token", Text),
    count("page_count"),
    count("entry_count"),
    Column("account_count", BigInteger),
    Column("lease_owner", Text),
    at("lease_until"),
)
Index(
    "crawl_walk_open",
    crawl_walk.c.user_id,
    crawl_walk.c.is_following,
    unique=True,
    postgresql_where=text("state = 'walking'"),
)
# Entries of lists: there from the walk that saw one first to the walk that missed it.
follow_edge = Table(
    "follow_edge",
    METADATA,
    _user("user_id", primary_key=True),
    _user("other_id", primary_key=True),
    Column("first_walk", Integer, primary_key=True, autoincrement=False),
    Column("gone_walk", Integer),
    Column("is_following", Boolean, primary_key=True),
)
# Entries that a walk under way saw.
follow_stage = Table(
    "follow_stage",
    METADATA,
    Column("walk_id", Integer, primary_key=True, autoincrement=False),
    _user("other_id", primary_key=True),
)
