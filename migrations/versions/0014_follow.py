"""Users over time, walks through lists of followers, and what the lists held.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
CREATE TABLE x_user (
    id bigint PRIMARY KEY,
    username text NOT NULL,
    fields jsonb NOT NULL,
    seen_at timestamptz NOT NULL
)
""")
    op.execute("CREATE INDEX x_user_username ON x_user (lower(username))")
    op.execute("""
CREATE TABLE x_user_seen (
    user_id bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    username text NOT NULL,
    followers_count bigint,
    following_count bigint,
    tweet_count bigint,
    listed_count bigint,
    PRIMARY KEY (user_id, seen_at)
)
""")
    op.execute("""
CREATE TABLE crawl_follow (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asked jsonb NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz
)
""")
    op.execute(
        "CREATE UNIQUE INDEX crawl_follow_open ON crawl_follow (asked) WHERE ended_at IS NULL"
    )
    op.execute("""
CREATE TABLE crawl_follow_work (
    follow_id integer NOT NULL REFERENCES crawl_follow (id),
    user_id bigint NOT NULL,
    is_following boolean NOT NULL,
    level integer NOT NULL,
    found_count bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'open',
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (follow_id, user_id, is_following)
)
""")
    op.execute(
        "CREATE INDEX crawl_follow_work_open ON crawl_follow_work (follow_id, level) "
        "WHERE state = 'open'"
    )
    op.execute("""
CREATE TABLE crawl_walk (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    is_following boolean NOT NULL,
    run_id bigint NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    page_at timestamptz,
    ended_at timestamptz,
    state text NOT NULL DEFAULT 'walking',
    reason text NOT NULL DEFAULT '',
    token text,
    page_count bigint NOT NULL DEFAULT 0,
    entry_count bigint NOT NULL DEFAULT 0,
    account_count bigint,
    lease_owner text,
    lease_until timestamptz
)
""")
    op.execute(
        "CREATE UNIQUE INDEX crawl_walk_open ON crawl_walk (user_id, is_following) "
        "WHERE state = 'walking'"
    )
    op.execute("""
CREATE TABLE follow_edge (
    user_id bigint NOT NULL,
    other_id bigint NOT NULL,
    first_walk integer NOT NULL,
    gone_walk integer,
    is_following boolean NOT NULL,
    PRIMARY KEY (user_id, other_id, first_walk, is_following)
)
""")
    op.execute("""
CREATE TABLE follow_stage (
    walk_id integer NOT NULL,
    other_id bigint NOT NULL,
    PRIMARY KEY (walk_id, other_id)
)
""")
    # What happened between two looks has two times: not before the one, not after the other. Only
    # a complete walk proves that somebody was not there.
    op.execute("""
CREATE VIEW follows AS
SELECT CASE WHEN f.is_following THEN f.user_id ELSE f.other_id END AS follower_id,
    CASE WHEN f.is_following THEN f.other_id ELSE f.user_id END AS followed_id,
    before_first.begun_at AS began_after,
    first.ended_at AS began_before,
    before_gone.begun_at AS ended_after,
    gone.ended_at AS ended_before,
    first.begun_at AS valid_from,
    gone.begun_at AS valid_to,
    f.user_id AS list_of,
    f.is_following
FROM follow_edge f
JOIN crawl_walk first ON first.id = f.first_walk
LEFT JOIN crawl_walk gone ON gone.id = f.gone_walk
LEFT JOIN LATERAL (
    SELECT w.begun_at FROM crawl_walk w
    WHERE w.user_id = f.user_id AND w.is_following = f.is_following AND w.state = 'complete'
        AND w.id < f.first_walk
    ORDER BY w.id DESC LIMIT 1
) before_first ON true
LEFT JOIN LATERAL (
    SELECT w.begun_at FROM crawl_walk w
    WHERE w.user_id = f.user_id AND w.is_following = f.is_following AND w.state = 'complete'
        AND w.id < f.gone_walk
    ORDER BY w.id DESC LIMIT 1
) before_gone ON true
""")


def downgrade() -> None:
    op.execute("DROP VIEW follows")
    for table in (
        "follow_stage",
        "follow_edge",
        "crawl_walk",
        "crawl_follow_work",
        "crawl_follow",
        "x_user_seen",
        "x_user",
    ):
        op.execute(f"DROP TABLE {table}")
