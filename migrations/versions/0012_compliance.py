"""Compliance jobs, looks at posts by a schedule, older versions, and withheld posts.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE crawl_check (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CONSTRAINT kind_known CHECK (kind IN ('tweets', 'users')),
    name text NOT NULL UNIQUE,
    state text NOT NULL CONSTRAINT state_known CHECK (
        state IN ('begun', 'created', 'uploaded', 'downloaded', 'told', 'done', 'lost')
    ),
    app text NOT NULL,
    job_id text NOT NULL DEFAULT '',
    ids bytea,
    ids_count bigint NOT NULL DEFAULT 0,
    result bytea,
    found_count bigint NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    uploaded_at timestamptz,
    done_at timestamptz,
    lease_owner text,
    lease_until timestamptz
)
""")
    # X takes one job of a kind at a time.
    op.execute(
        "CREATE UNIQUE INDEX crawl_check_open ON crawl_check (kind)"
        " WHERE state <> 'done' AND state <> 'lost'"
    )
    op.execute("""
CREATE TABLE crawl_due (
    purpose text NOT NULL CONSTRAINT purpose_known CHECK (purpose IN ('check', 'metrics')),
    tweet_id bigint NOT NULL,
    due_at timestamptz,
    step integer NOT NULL DEFAULT 0,
    looks integer NOT NULL DEFAULT 0,
    late_s double precision NOT NULL DEFAULT 0,
    seen_at timestamptz,
    PRIMARY KEY (purpose, tweet_id)
)
""")
    op.execute(
        "CREATE INDEX crawl_due_next ON crawl_due (purpose, due_at) WHERE due_at IS NOT NULL"
    )
    op.execute("""
CREATE TABLE crawl_alias (
    older_id bigint PRIMARY KEY,
    tweet_id bigint NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at timestamptz
)
""")
    op.execute("""
CREATE TABLE crawl_withheld (
    tweet_id bigint PRIMARY KEY,
    countries text[] NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
""")
    # Between two looks there is nothing: no count of this view was calculated.
    op.execute("""
CREATE VIEW tweet_growth AS
SELECT tweet_id, seen_at,
    round((extract(epoch FROM seen_at) - posted_s) / 3600, 2) AS age_hours,
    like_count, retweet_count, reply_count, quote_count, bookmark_count, impression_count,
    like_count - lag(like_count) OVER looks AS new_likes,
    retweet_count - lag(retweet_count) OVER looks AS new_retweets,
    reply_count - lag(reply_count) OVER looks AS new_replies,
    impression_count - lag(impression_count) OVER looks AS new_impressions,
    round(extract(epoch FROM seen_at - lag(seen_at) OVER looks) / 3600, 2) AS hours
FROM (
    SELECT *, ((tweet_id >> 22) + 1288834974657) / 1000.0 AS posted_s
    FROM crawl_metrics WHERE seen_at IS NOT NULL AND tweet_id >= 30000000000
) seen
WINDOW looks AS (PARTITION BY tweet_id ORDER BY seen_at)
""")


def downgrade() -> None:
    op.execute("DROP VIEW tweet_growth")
    op.execute("DROP TABLE crawl_check, crawl_due, crawl_alias, crawl_withheld")
