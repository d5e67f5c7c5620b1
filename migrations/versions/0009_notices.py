"""Notices to people.

Revision ID: 0009
Revises: 0007
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE crawl_notice (
    cause text NOT NULL,
    place text NOT NULL,
    said text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    is_waiting boolean NOT NULL DEFAULT true,
    tried_at timestamptz,
    sent_at timestamptz,
    kept_count bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (cause, place)
)
""")


def downgrade() -> None:
    op.execute("DROP TABLE crawl_notice")
