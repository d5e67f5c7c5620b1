"""The reason why an answer was lost that X may have charged for.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE crawl_reserved ADD COLUMN why text NOT NULL DEFAULT ''")


def downgrade() -> None:
    op.execute("ALTER TABLE crawl_reserved DROP COLUMN why")
