"""Rules, connections and segments of the filtered stream.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE crawl_rule (
    rule_id bigint PRIMARY KEY,
    app text NOT NULL,
    target_id bigint NOT NULL,
    value text NOT NULL,
    tag text NOT NULL DEFAULT '',
    ours boolean NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    until timestamptz,
    streamed int8multirange NOT NULL DEFAULT '{}',
    post_count bigint NOT NULL DEFAULT 0
)
""")
    op.execute("""
CREATE TABLE crawl_stream (
    id uuid PRIMARY KEY,
    run_id bigint NOT NULL,
    credential text NOT NULL,
    app text NOT NULL,
    connection text,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_byte_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    why text NOT NULL DEFAULT '',
    line_count bigint NOT NULL DEFAULT 0,
    post_count bigint NOT NULL DEFAULT 0,
    other_counts jsonb NOT NULL DEFAULT '{}'
)
""")
    op.execute("""
CREATE TABLE crawl_stream_segment (
    name text PRIMARY KEY,
    session_id uuid,
    byte_offset bigint NOT NULL DEFAULT 0,
    line bigint NOT NULL DEFAULT 0,
    done_at timestamptz
) WITH (fillfactor = 50)
""")


def downgrade() -> None:
    op.execute("DROP TABLE crawl_stream_segment, crawl_stream, crawl_rule")
