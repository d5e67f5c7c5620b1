"""Segments of pages and their places, tombstones, and the audit of deletions.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The same for posts and for accounts.
_TOMBSTONE = """
    reason text NOT NULL,
    source text NOT NULL
        CONSTRAINT source_known CHECK (source IN ('job', 'lookup', 'request')),
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at timestamptz,
    by_at timestamptz,
    run_id bigint,
    reference text
"""


def upgrade() -> None:
    # Without a default, so no row is written.
    op.execute("ALTER TABLE crawl_page ADD COLUMN segment_id bigint")
    op.execute(
        "CREATE INDEX crawl_page_segment ON crawl_page (segment_id) WHERE segment_id IS NOT NULL"
    )
    op.execute("""
CREATE TABLE crawl_segment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    kind text NOT NULL,
    number bigint NOT NULL,
    state text NOT NULL
        CONSTRAINT state_known CHECK (state IN ('closed', 'uploaded', 'verified', 'dropped')),
    lines bigint NOT NULL DEFAULT 0,
    posts bigint NOT NULL DEFAULT 0,
    lowest_id bigint,
    highest_id bigint,
    file_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    folder text NOT NULL DEFAULT '',
    place text NOT NULL DEFAULT '',
    tries integer NOT NULL DEFAULT 0,
    position bigint,
    uploaded_at timestamptz,
    verified_at timestamptz,
    dropped_at timestamptz
)
""")
    op.execute("""
CREATE TABLE crawl_place (
    url text PRIMARY KEY,
    endpoint text NOT NULL,
    region text NOT NULL,
    profile text NOT NULL
)
""")
    op.execute(
        f"CREATE TABLE crawl_tombstone (tweet_id bigint PRIMARY KEY, user_id bigint,{_TOMBSTONE})"
    )
    op.execute(
        "CREATE INDEX crawl_tombstone_open ON crawl_tombstone (asked_at) WHERE done_at IS NULL"
    )
    op.execute(f"CREATE TABLE crawl_tombstone_user (user_id bigint PRIMARY KEY,{_TOMBSTONE})")
    op.execute("""
CREATE TABLE crawl_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    reference text,
    ids_count bigint NOT NULL DEFAULT 0,
    tables jsonb NOT NULL,
    ids_sha256 text NOT NULL
)
""")


def downgrade() -> None:
    op.execute("ALTER TABLE crawl_page DROP COLUMN segment_id")
    op.execute(
        "DROP TABLE crawl_segment, crawl_place, crawl_tombstone, crawl_tombstone_user, crawl_audit"
    )
