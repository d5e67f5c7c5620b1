"""Names of users, and rows that wait for one.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE crawl_user (
    user_id bigint PRIMARY KEY,
    handle text NOT NULL,
    name text NOT NULL,
    seen_at timestamptz NOT NULL
)
""")
    op.execute("""
CREATE TABLE crawl_waiting_name (
    tweet_id bigint,
    part text
        CONSTRAINT part_known CHECK (part IN ('author', 'reply', 'retweet')),
    user_id bigint NOT NULL,
    PRIMARY KEY (tweet_id, part)
)
""")
    op.execute("CREATE INDEX crawl_waiting_name_user ON crawl_waiting_name (user_id)")


def downgrade() -> None:
    op.execute("DROP TABLE crawl_user, crawl_waiting_name")
