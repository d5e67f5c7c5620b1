"""Numbers of requests whose pages went, so that every sum stays as it is.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Run 0 stands for runs that went, too. A row of 0 pages tells up to which day all was done.
    op.execute("""
CREATE TABLE crawl_past (
    run_id bigint NOT NULL,
    day date NOT NULL,
    credential text NOT NULL,
    endpoint text NOT NULL,
    pages bigint NOT NULL,
    PRIMARY KEY (run_id, day, credential, endpoint)
)
""")


def downgrade() -> None:
    op.execute("DROP TABLE crawl_past")
