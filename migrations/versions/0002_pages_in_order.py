"""A number for each page, which tells a reader of all pages how far it is.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Pages that are there already are numbered in the order in which they lie in the table,
    # which is about that of their purchase. The table is written once again for it.
    op.execute("ALTER TABLE crawl_page ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY")
    op.execute("CREATE UNIQUE INDEX crawl_page_number ON crawl_page (number)")


def downgrade() -> None:
    op.execute("ALTER TABLE crawl_page DROP COLUMN number")
