"""Tables of the room: rules, connections, and how far each segment is saved."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Table, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB, TIMESTAMP

from tweetcrawler.postgres.schema import METADATA

_ZERO = text("0")


def _at(name: str, *, needed: bool = False) -> Column[object]:
    now = func.clock_timestamp() if needed else None
    return Column(name, TIMESTAMP(timezone=True), nullable=not needed, server_default=now)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=_ZERO)


# A rule of X as long as it was seen there. `streamed` are the ids of which a line was open all
# the time; the gaps that a search filled are in `covered` of the target.
crawl_rule = Table(
    "crawl_rule",
    METADATA,
    Column("rule_id", BigInteger, primary_key=True, autoincrement=False),
    Column("app", Text, nullable=False),
    Column("target_id", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("tag", Text, nullable=False, server_default=text("''")),
    Column("ours", Boolean, nullable=False),
    _at("since", needed=True),
    _at("until"),
    Column("streamed", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    _count("post_count"),
)
# One row for each connection. Times are X's.
crawl_stream = Table(
    "crawl_stream",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("run_id", BigInteger, nullable=False),
    Column("credential", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("connection", Text),
    _at("opened_at", needed=True),
    _at("last_byte_at", needed=True),
    _at("closed_at"),
    Column("why", Text, nullable=False, server_default=text("''")),
    _count("line_count"),
    _count("post_count"),
    Column("other_counts", JSONB, nullable=False, server_default=text("'{}'")),
)
# How far each segment is saved: bytes of whole frames, and lines.
crawl_stream_segment = Table(
    "crawl_stream_segment",
    METADATA,
    Column("name", Text, primary_key=True),
    # The connection that was open there, whose marks may stand in the segment before.
    Column("session_id", Uuid),
    _count("byte_offset"),
    _count("line"),
    _at("done_at"),
    postgresql_with={"fillfactor": 50},
)
