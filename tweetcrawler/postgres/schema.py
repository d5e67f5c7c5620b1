"""The schema of today as SQLAlchemy Core tables: what `alembic upgrade head` arrives at.

A test compares both, so that neither goes its own way. Everybody may import the tables, for
example in a notebook: `select(crawl_page.c.endpoint, func.count()).group_by(...)`. A room
adds its tables to `METADATA` in a module of its own, which it names in `Room.tables`.

Nothing that a worker process loads imports this module: SQLAlchemy takes 15 MB and 0.1 s.
"""

from __future__ import annotations

import pkgutil
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    quoted_name,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB, TIMESTAMP
from sqlalchemy.types import VARCHAR, TypeEngine

from tweetcrawler.postgres.columns import TYPES
from tweetcrawler.postgres.names import parts_of
from tweetcrawler.rooms import rooms

METADATA = MetaData()
_NOW = func.clock_timestamp()
_NOTHING = text("''")
_ZERO = text("0")
_TYPES: dict[str, type[TypeEngine[Any]]] = {
    "bigint": BigInteger,
    "character varying": VARCHAR,
    "numeric": Numeric,
    "text": Text,
}


@lru_cache(maxsize=8)
def posts(name: str = "tweet_articles_tweepy") -> Table:
    """The table of the posts, by the name that the settings give it."""
    # Always quoted, as in every other statement.
    *schema, table = (quoted_name(part, quote=True) for part in parts_of(name))
    columns = [Column(c, _TYPES[type_], primary_key=c == "id") for c, type_ in TYPES.items()]
    # A MetaData of its own: each name is another table, and a program may use several.
    return Table(table, MetaData(), *columns, schema=schema[0] if schema else None)


def whole(name: str) -> list[MetaData]:
    """All tables, those of the rooms among them, for the table of posts of this name."""
    for room in rooms():
        for module in room.tables:
            pkgutil.resolve_name(module)
    return [METADATA, posts(name).metadata]


# -- columns that most tables have; rooms use them, too ------------------------------------------


def at(name: str, *, default: bool = False, needed: bool = False) -> Column[Any]:
    """A time; by `default` that of the row."""
    return Column(
        name,
        TIMESTAMP(timezone=True),
        nullable=not (needed or default),
        server_default=_NOW if default else None,
    )


def number() -> Column[int]:
    """The row's own number."""
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def needed(name: str, type_: type[TypeEngine[Any]] = Text) -> Column[Any]:
    """A value that is always there."""
    return Column(name, type_, nullable=False)


def count(name: str) -> Column[int]:
    """A number that begins with 0."""
    return Column(name, BigInteger, nullable=False, server_default=_ZERO)


def _room_in_each_page(percent: int) -> dict[str, int]:
    """Space for the next version of a row on its own page, so that no index changes with it."""
    # https://www.postgresql.org/docs/current/storage-hot.html
    return {"fillfactor": percent}


crawl_run = Table(
    "crawl_run",
    METADATA,
    number(),
    needed("version"),
    needed("arguments", JSONB),
    needed("host"),
    at("started_at", default=True),
    at("ended_at"),
    Column("exit_code", Integer),
    Column("report", JSONB),
)
crawl_target = Table(
    "crawl_target",
    METADATA,
    number(),
    needed("kind"),
    Column("key", Text),
    Column("handle", Text),
    Column("username", Text),
    Column("same_as", BigInteger, ForeignKey("crawl_target.id")),
    Column("state", Text, nullable=False, server_default=text("'new'")),
    Column("state_reason", Text, nullable=False, server_default=_NOTHING),
    at("state_at", default=True),
    Column("covered", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    Column("unreachable", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    Column("unreachable_reason", Text, nullable=False, server_default=_NOTHING),
    Column("account_posts", BigInteger),
    count("post_count"),
    Column("lease_owner", Text),
    at("lease_until"),
    at("due_at"),
    at("crawled_at"),
    # The handle by which it was listed, when that is another user's by now.
    Column("formerly", Text),
    at("name_asked_at"),
    UniqueConstraint("kind", "key"),
    UniqueConstraint("kind", "handle"),
    postgresql_with=_room_in_each_page(80),
)
# Leases are renewed by every page and stay out of every index.
Index("crawl_target_state", crawl_target.c.kind, crawl_target.c.state)
Index(
    "crawl_target_formerly",
    crawl_target.c.formerly,
    postgresql_where=text("formerly IS NOT NULL"),
)
Index(
    "crawl_target_username",
    func.lower(crawl_target.c.username),
    postgresql_where=text("kind = 'timeline' AND username IS NOT NULL"),
)
# The sum over the slots is the count of targets of a kind and state; triggers keep it.
crawl_target_count = Table(
    "crawl_target_count",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    needed("targets", BigInteger),
    postgresql_with=_room_in_each_page(50),
)
# One row for each answer of X that was paid for. `number` is the order of a feed of pages.
crawl_page = Table(
    "crawl_page",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("run_id", BigInteger, ForeignKey("crawl_run.id"), nullable=False),
    Column("target_id", BigInteger, ForeignKey("crawl_target.id")),
    at("fetched_at", default=True),
    needed("endpoint"),
    needed("params", JSONB),
    needed("credential"),
    needed("post_count", Integer),
    needed("user_count", Integer),
    needed("new_count", Integer),
    needed("updated_count", Integer),
    Column("newest_id", BigInteger),
    Column("oldest_id", BigInteger),
    Column("refused", JSONB),
    Column("body", LargeBinary),
    Column("number", BigInteger, Identity(always=True), nullable=False),
    # The segment that keeps the page outside of the database, once it was verified there.
    Column("segment_id", BigInteger),
)
Index("crawl_page_target", crawl_page.c.target_id, crawl_page.c.oldest_id)
Index("crawl_page_run", crawl_page.c.run_id)
Index("crawl_page_number", crawl_page.c.number, unique=True)
Index(
    "crawl_page_segment",
    crawl_page.c.segment_id,
    postgresql_where=text("segment_id IS NOT NULL"),
)
# Sums by day read this index alone; the second holds the few pages with posts that were
# bought before.
Index(
    "crawl_page_time",
    crawl_page.c.fetched_at,
    postgresql_include=[
        "run_id",
        "credential",
        "endpoint",
        "post_count",
        "user_count",
        "new_count",
    ],
)
Index(
    "crawl_page_again",
    crawl_page.c.fetched_at,
    postgresql_where=text("post_count > new_count"),
)
api_credential = Table(
    "api_credential",
    METADATA,
    number(),
    needed("label"),
    Column("user_fingerprint", Text),
    needed("app_fingerprint"),
    at("seen_at", default=True),
    # An app without a user has NULL there. Since PostgreSQL 15 two NULLs can count as equal.
    # https://www.postgresql.org/docs/15/sql-createtable.html
    UniqueConstraint("user_fingerprint", "app_fingerprint", postgresql_nulls_not_distinct=True),
)
# What a rate limit holds: fields of `windows.Bucket`.
api_bucket = Table(
    "api_bucket",
    METADATA,
    Column("subject", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("limit", BigInteger),
    needed("remaining", BigInteger),
    at("reset_at", needed=True),
    needed("anchored", Boolean),
    needed("turn", BigInteger),
    needed("window_s", Double),
    Column("day_limit", BigInteger),
    needed("day_remaining", BigInteger),
    at("day_reset_at", needed=True),
    at("blocked_until", needed=True),
    at("next_at", needed=True),
    needed("failures", Integer),
    at("shut_at"),
    at("shut_until", needed=True),
    needed("shut_reason"),
    postgresql_with=_room_in_each_page(50),
)
crawl_import = Table(
    "crawl_import",
    METADATA,
    number(),
    Column("run_id", BigInteger, ForeignKey("crawl_run.id"), nullable=False),
    needed("path"),
    needed("into_table"),
    needed("size", BigInteger),
    needed("fingerprint"),
    needed("head"),
    count("member"),
    count("byte_offset"),
    count("line"),
    count("post_count"),
    count("new_count"),
    count("updated_count"),
    Column("other_counts", JSONB, nullable=False, server_default=text("'{}'")),
    at("begun_at", default=True),
    at("finished_at"),
    UniqueConstraint("path", "into_table"),
    postgresql_with=_room_in_each_page(50),
)
# How far a count of posts has come; `done_at` NULL: it was interrupted, and goes on there.
crawl_count = Table(
    "crawl_count",
    METADATA,
    number(),
    needed("query"),
    needed("endpoint"),
    needed("since_id", BigInteger),
    Column("until_id", BigInteger),
    needed("posts", BigInteger),
    at("begins_at"),
    at("ends_at"),
    at("done_at"),
    UniqueConstraint(
        "query", "endpoint", "since_id", "until_id", postgresql_nulls_not_distinct=True
    ),
)
# Which search found which post.
crawl_found = Table(
    "crawl_found",
    METADATA,
    Column("target_id", BigInteger, ForeignKey("crawl_target.id"), primary_key=True),
    Column("tweet_id", BigInteger, primary_key=True, autoincrement=False),
)
crawl_trend = Table(
    "crawl_trend",
    METADATA,
    Column("page_id", Uuid, ForeignKey("crawl_page.id"), primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    needed("woeid", BigInteger),
    needed("place"),
    needed("name"),
    Column("volume", BigInteger),
    at("seen_at", default=True),
    Column("target_id", BigInteger, ForeignKey("crawl_target.id"), nullable=False),
)
Index("crawl_trend_place", crawl_trend.c.woeid, crawl_trend.c.name, crawl_trend.c.seen_at)
# Posts that are being looked up by id ("asked"), and those that X did not give.
crawl_lookup = Table(
    "crawl_lookup",
    METADATA,
    Column("tweet_id", BigInteger, primary_key=True, autoincrement=False),
    needed("state"),
    Column("reason", Text, nullable=False, server_default=_NOTHING),
    at("seen_at", default=True),
    Column("lease_owner", Text),
    at("lease_until"),
    postgresql_with=_room_in_each_page(80),
)
Index(
    "crawl_lookup_lease",
    crawl_lookup.c.lease_owner,
    postgresql_where=text("lease_until IS NOT NULL"),
)
# Counts over time. A time that is NULL is that of the first purchase.
crawl_metrics = Table(
    "crawl_metrics",
    METADATA,
    needed("tweet_id", BigInteger),
    at("seen_at"),
    Column("like_count", BigInteger),
    Column("retweet_count", BigInteger),
    Column("reply_count", BigInteger),
    Column("quote_count", BigInteger),
    Column("bookmark_count", BigInteger),
    Column("impression_count", BigInteger),
    UniqueConstraint("tweet_id", "seen_at", postgresql_nulls_not_distinct=True),
)
crawl_budget = Table(
    "crawl_budget",
    METADATA,
    Column("scope", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    count("posts"),
    count("micro_usd"),
    at("counted_at"),
    postgresql_with=_room_in_each_page(50),
)
# What requests under way may cost at most; `id` is that of the page to come. A row without
# an owner is of an answer that was lost, `why` says how.
crawl_reserved = Table(
    "crawl_reserved",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("run_id", BigInteger, ForeignKey("crawl_run.id"), nullable=False),
    needed("owner"),
    needed("endpoint"),
    at("reserved_at", default=True),
    needed("posts", BigInteger),
    needed("micro_usd", BigInteger),
    Column("why", Text, nullable=False, server_default=_NOTHING),
    postgresql_with=_room_in_each_page(50),
)
Index("crawl_reserved_time", crawl_reserved.c.reserved_at)
# Pages whose rows the table refused: they are bought, and wait for it to take them.
crawl_refused = Table(
    "crawl_refused",
    METADATA,
    Column("page_id", Uuid, ForeignKey("crawl_page.id"), primary_key=True),
    at("refused_at", default=True),
    needed("reason"),
    needed("keep_body", Boolean),
)
# The table that the coverage is about, as it was seen last; pages up to the number
# `compared_after` are not compared with it.
crawl_table = Table(
    "crawl_table",
    METADATA,
    Column("name", Text, primary_key=True),
    count("compared_after"),
)
# Requests whose pages went, since they brought nothing. Run 0 stands for runs that went, too.
crawl_past = Table(
    "crawl_past",
    METADATA,
    Column("run_id", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Date, primary_key=True),
    Column("credential", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    needed("pages", BigInteger),
)
# What was told to people, by address; addresses are secrets, and `place` stands for one.
crawl_notice = Table(
    "crawl_notice",
    METADATA,
    Column("cause", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    needed("said"),
    at("noted_at", default=True),
    Column("is_waiting", Boolean, nullable=False, server_default=text("true")),
    at("tried_at"),
    at("sent_at"),
    count("kept_count"),
)
# The newest name of each user, as pages told it; `name` is "" where they told the handle alone.
crawl_user = Table(
    "crawl_user",
    METADATA,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    needed("handle"),
    needed("name"),
    at("seen_at", needed=True),
)
# Rows that lack the name of a user, whose id is known.
crawl_waiting_name = Table(
    "crawl_waiting_name",
    METADATA,
    Column("tweet_id", BigInteger, primary_key=True, autoincrement=False),
    Column("part", Text, primary_key=True),
    needed("user_id", BigInteger),
    CheckConstraint("part IN ('author', 'reply', 'retweet')", name="part_known"),
)
Index("crawl_waiting_name_user", crawl_waiting_name.c.user_id)
crawl_plan = Table(
    "crawl_plan",
    METADATA,
    number(),
    at("made_at", default=True),
    needed("subject"),
    needed("plan", JSONB),
)
Index("crawl_plan_subject", crawl_plan.c.subject, crawl_plan.c.made_at)
