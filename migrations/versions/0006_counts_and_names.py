"""Counts that go on where they stopped, and users whose old handle is another one's by now.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE crawl_count (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    query text NOT NULL,
    endpoint text NOT NULL,
    since_id bigint NOT NULL,
    until_id bigint,
    posts bigint NOT NULL,
    begins_at timestamptz,
    ends_at timestamptz,
    done_at timestamptz,
    UNIQUE NULLS NOT DISTINCT (query, endpoint, since_id, until_id)
)
""")
    op.execute(
        "ALTER TABLE crawl_target ADD COLUMN formerly text, ADD COLUMN name_asked_at timestamptz"
    )
    op.execute(
        "CREATE INDEX crawl_target_formerly ON crawl_target (formerly) WHERE formerly IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("DROP INDEX crawl_target_formerly")
    op.execute("ALTER TABLE crawl_target DROP COLUMN formerly, DROP COLUMN name_asked_at")
    op.execute("DROP TABLE crawl_count")
