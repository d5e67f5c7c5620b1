"""Pages whose rows the table refused, and the table that the coverage is about.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE crawl_refused (
    page_id uuid PRIMARY KEY REFERENCES crawl_page,
    refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL,
    keep_body boolean NOT NULL
)
""")
    op.execute("""
CREATE TABLE crawl_table (
    name text PRIMARY KEY,
    compared_after bigint NOT NULL DEFAULT 0
)
""")
    # An error in the statement that saves a page takes the page and its coverage back, too.
    op.execute("""
CREATE FUNCTION crawl_not_stored(rows bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a trigger or rule of the table left out % of the rows', rows
        USING ERRCODE = 'integrity_constraint_violation';
END $$
""")


def downgrade() -> None:
    op.execute("DROP FUNCTION crawl_not_stored")
    op.execute("DROP TABLE crawl_refused, crawl_table")
