"""Tables of the room: rules, connections, and how far each segment is saved."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB

from tweetcrawler.postgres.schema import METADATA, at, count

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
    at("since", default=True),
    at("until"),
    Column("streamed", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    count("post_count"),
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
    at("opened_at", default=True),
    at("last_byte_at", default=True),
    at("closed_at"),
    Column("why", Text, nullable=False, server_default=text("''")),
    count("line_count"),
    count("post_count"),
    Column("other_counts", JSONB, nullable=False, server_default=text("'{}'")),
)
# How far each segment is saved: bytes of whole frames, and lines.
crawl_stream_segment = Table(
    "crawl_stream_segment",
    METADATA,
    Column("name", Text, primary_key=True),
    # The connection that was open there, whose marks may stand in the segment before.
    Column("session_id", Uuid),
    count("byte_offset"),
    count("line"),
    at("done_at"),
    postgresql_with={"fillfactor": 50},
)
