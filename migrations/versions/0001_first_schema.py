"""The table of tweets, adopted with its rows where it exists, and the tables of the crawl.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import column, distinct, func, select, text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TWEET_COLUMNS = {
    "id": "bigint",
    "tweet_from": "text",
    "created_at": "character varying",
    "hashtags": "text",
    "urls": "text",
    "user_mentions_id": "text",
    "media": "text",
    "user_mentions_name": "text",
    "origin_device": "text",
    "favorite_count": "bigint",
    "text": "text",
    "in_reply_to_screen_name": "text",
    "in_reply_to_user_id": "bigint",
    "in_reply_to_status_id": "bigint",
    "retweet_count": "bigint",
    "retweeted_status_text": "text",
    "retweeted_status_url": "character varying",
    "retweeted_status_id": "bigint",
    "retweeted_status_user_name": "text",
    "retweeted_status_user_handle": "text",
    "sentiment": "numeric",
}


def upgrade() -> None:
    table = context.config.attributes["table"]
    _make_or_adopt(table)
    op.execute(_TYPED_VIEW.format(table=table))
    for statement in _CRAWL_TABLES:
        op.execute(statement)


def downgrade() -> None:
    # The tweets stay: they were paid for.
    op.execute("DROP VIEW tweets")
    op.execute("DROP TABLE crawl_trend, crawl_found, crawl_lookup, crawl_metrics")
    op.execute("DROP TABLE crawl_plan, crawl_reserved, crawl_budget")
    op.execute(
        """
        DROP TABLE crawl_import, crawl_page, crawl_target, crawl_target_count, crawl_run,
            api_bucket, api_credential
        """
    )
    op.execute("DROP FUNCTION crawl_count_targets")


def _make_or_adopt(table: str) -> None:
    connection = op.get_bind()
    found = {
        row.name: row.type
        for row in connection.execute(
            text(
                "SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute "
                "WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped"
            ),
            {"table": table},
        )
    }
    if not found:
        columns = ", ".join(
            f"{name} {type_}" + (" NOT NULL PRIMARY KEY" if name == "id" else "")
            for name, type_ in TWEET_COLUMNS.items()
        )
        op.execute(f"CREATE TABLE {table} ({columns})")
        return
    wrong = [f"{name} {type_}" for name, type_ in TWEET_COLUMNS.items() if found.get(name) != type_]
    if wrong:
        raise context.config.attributes["refusal"](
            f"the table {table} exists but is not the one that is adopted: it must have the "
            f"columns {', '.join(wrong)}; alter or rename it, then upgrade again"
        )
    has_key = connection.execute(
        text(
            "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
            "AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(:table) AND i.indisunique "
            "AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'id')"
        ),
        {"table": table},
    ).scalar()
    if not has_key:
        repeated = connection.execute(
            select(func.count() - func.count(distinct(column("id")))).select_from(text(table))
        ).scalar()
        if repeated:
            raise context.config.attributes["refusal"](
                f"the table {table} exists, has no primary key, and {repeated} of its rows repeat "
                "an id or have none: delete those rows, then upgrade again"
            )
        op.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id)")


_TYPED_VIEW = """
CREATE VIEW tweets AS SELECT
    id,
    tweet_from AS username,
    created_at::timestamptz AS created_at,
    text,
    hashtags::text[] AS hashtags,
    urls::text[] AS urls,
    media::text[] AS media,
    user_mentions_id::bigint[] AS mention_ids,
    user_mentions_name::text[] AS mention_names,
    favorite_count AS like_count,
    retweet_count,
    in_reply_to_status_id,
    in_reply_to_user_id,
    in_reply_to_screen_name,
    retweeted_status_id,
    retweeted_status_text,
    retweeted_status_url::text[] AS retweeted_status_urls,
    retweeted_status_user_handle,
    retweeted_status_user_name,
    retweeted_status_id IS NOT NULL AS is_retweet,
    in_reply_to_user_id IS NOT NULL AS is_reply,
    origin_device,
    sentiment
FROM {table}
"""

_CRAWL_TABLES = [
    """
    CREATE TABLE crawl_run (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        version text NOT NULL,
        arguments jsonb NOT NULL,
        host text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        ended_at timestamptz,
        exit_code integer,
        report jsonb
    )
    """,
    """
    CREATE TABLE crawl_target (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL,
        key text,
        handle text,
        username text,
        same_as bigint REFERENCES crawl_target,
        state text NOT NULL DEFAULT 'new',
        state_reason text NOT NULL DEFAULT '',
        state_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        covered int8multirange NOT NULL DEFAULT '{}',
        unreachable int8multirange NOT NULL DEFAULT '{}',
        unreachable_reason text NOT NULL DEFAULT '',
        account_posts bigint,
        post_count bigint NOT NULL DEFAULT 0,
        lease_owner text,
        lease_until timestamptz,
        due_at timestamptz,
        crawled_at timestamptz,
        UNIQUE (kind, key),
        UNIQUE (kind, handle)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE crawl_page (
        id uuid PRIMARY KEY,
        run_id bigint NOT NULL REFERENCES crawl_run,
        target_id bigint REFERENCES crawl_target,
        fetched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        endpoint text NOT NULL,
        params jsonb NOT NULL,
        credential text NOT NULL,
        post_count integer NOT NULL,
        user_count integer NOT NULL,
        new_count integer NOT NULL,
        updated_count integer NOT NULL,
        newest_id bigint,
        oldest_id bigint,
        refused jsonb,
        body bytea
    )
    """,
    # The body is compressed before it is sent; compressing it again only costs.
    "ALTER TABLE crawl_page ALTER COLUMN body SET STORAGE EXTERNAL",
    "CREATE INDEX crawl_page_target ON crawl_page (target_id, oldest_id)",
    "CREATE INDEX crawl_page_run ON crawl_page (run_id)",
    """
    CREATE TABLE api_credential (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        label text NOT NULL,
        user_fingerprint text,
        app_fingerprint text NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        UNIQUE NULLS NOT DISTINCT (user_fingerprint, app_fingerprint)
    )
    """,
    """
    CREATE TABLE api_bucket (
        subject text NOT NULL,
        endpoint text NOT NULL,
        "limit" bigint,
        remaining bigint NOT NULL,
        reset_at timestamptz NOT NULL,
        anchored boolean NOT NULL,
        turn bigint NOT NULL,
        window_s double precision NOT NULL,
        day_limit bigint,
        day_remaining bigint NOT NULL,
        day_reset_at timestamptz NOT NULL,
        blocked_until timestamptz NOT NULL,
        next_at timestamptz NOT NULL,
        failures integer NOT NULL,
        shut_at timestamptz,
        shut_until timestamptz NOT NULL,
        shut_reason text NOT NULL,
        PRIMARY KEY (subject, endpoint)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE crawl_import (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run_id bigint NOT NULL REFERENCES crawl_run,
        path text NOT NULL,
        into_table text NOT NULL,
        size bigint NOT NULL,
        fingerprint text NOT NULL,
        head text NOT NULL,
        member bigint NOT NULL DEFAULT 0,
        byte_offset bigint NOT NULL DEFAULT 0,
        line bigint NOT NULL DEFAULT 0,
        post_count bigint NOT NULL DEFAULT 0,
        new_count bigint NOT NULL DEFAULT 0,
        updated_count bigint NOT NULL DEFAULT 0,
        other_counts jsonb NOT NULL DEFAULT '{}',
        begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz,
        UNIQUE (path, into_table)
    ) WITH (fillfactor = 50)
    """,
    # Which search found which post.
    """
    CREATE TABLE crawl_found (
        target_id bigint NOT NULL REFERENCES crawl_target,
        tweet_id bigint NOT NULL,
        PRIMARY KEY (target_id, tweet_id)
    )
    """,
    # What was seen of the trends of a place; `target_id` is the search that collects the
    # posts of one.
    """
    CREATE TABLE crawl_trend (
        page_id uuid NOT NULL REFERENCES crawl_page,
        rank integer NOT NULL,
        woeid bigint NOT NULL,
        place text NOT NULL,
        name text NOT NULL,
        volume bigint,
        seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        target_id bigint NOT NULL REFERENCES crawl_target,
        PRIMARY KEY (page_id, rank)
    )
    """,
    "CREATE INDEX crawl_trend_place ON crawl_trend (woeid, name, seen_at)",
    # Posts that are being looked up by id ("asked"), and those that X did not give.
    """
    CREATE TABLE crawl_lookup (
        tweet_id bigint PRIMARY KEY,
        state text NOT NULL,
        reason text NOT NULL DEFAULT '',
        seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        lease_owner text,
        lease_until timestamptz
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX crawl_lookup_lease ON crawl_lookup (lease_owner) WHERE lease_until IS NOT NULL",
    # Counts over time. A time that is NULL is that of the first purchase, where nothing
    # tells it any more.
    """
    CREATE TABLE crawl_metrics (
        tweet_id bigint NOT NULL,
        seen_at timestamptz,
        like_count bigint,
        retweet_count bigint,
        reply_count bigint,
        quote_count bigint,
        bookmark_count bigint,
        impression_count bigint,
        UNIQUE NULLS NOT DISTINCT (tweet_id, seen_at)
    )
    """,
    # The accounts by day read this index alone; the second holds the few pages with posts
    # that were bought before.
    (
        "CREATE INDEX crawl_page_time ON crawl_page (fetched_at) "
        "INCLUDE (run_id, credential, endpoint, post_count, user_count, new_count)"
    ),
    "CREATE INDEX crawl_page_again ON crawl_page (fetched_at) WHERE post_count > new_count",
    # Leases are renewed by every page and must stay out of every index; state and name
    # change once in a while.
    "CREATE INDEX crawl_target_state ON crawl_target (kind, state)",
    (
        "CREATE INDEX crawl_target_username ON crawl_target (lower(username)) "
        "WHERE kind = 'timeline' AND username IS NOT NULL"
    ),
    # An index of a part of the rows tells the planner nothing of how many share a value: it
    # would not be taken.
    "CREATE STATISTICS crawl_target_username_values ON lower(username) FROM crawl_target",
    # How many targets are of a kind and state is kept, since to count millions takes
    # seconds. The sum over the slots is the count; there are several so that processes
    # seldom wait for each other.
    """
    CREATE TABLE crawl_target_count (
        kind text NOT NULL,
        state text NOT NULL,
        slot integer NOT NULL,
        targets bigint NOT NULL,
        PRIMARY KEY (kind, state, slot)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE FUNCTION crawl_count_targets() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        own_slot integer := pg_backend_pid() % 256;
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            DELETE FROM crawl_target_count;
        ELSIF TG_OP = 'UPDATE' THEN
            INSERT INTO crawl_target_count AS c
            SELECT n.kind, n.state, own_slot, n.targets
            FROM (
                VALUES (OLD.kind, OLD.state, -1), (NEW.kind, NEW.state, 1)
            ) AS n (kind, state, targets)
            ORDER BY 1, 2
            ON CONFLICT (kind, state, slot) DO UPDATE SET targets = c.targets + excluded.targets;
        ELSE
            INSERT INTO crawl_target_count AS c
            SELECT n.kind, n.state, own_slot, count(*) * CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END
            FROM changed n GROUP BY 1, 2 ORDER BY 1, 2
            ON CONFLICT (kind, state, slot) DO UPDATE SET targets = c.targets + excluded.targets;
        END IF;
        RETURN NULL;
    END $$
    """,
    (
        "CREATE TRIGGER count_new AFTER INSERT ON crawl_target REFERENCING NEW TABLE AS changed "
        "FOR EACH STATEMENT EXECUTE FUNCTION crawl_count_targets()"
    ),
    (
        "CREATE TRIGGER count_gone AFTER DELETE ON crawl_target REFERENCING OLD TABLE AS changed "
        "FOR EACH STATEMENT EXECUTE FUNCTION crawl_count_targets()"
    ),
    # Of a row, since one of a statement would also look at every page that is saved.
    (
        """
        CREATE TRIGGER count_changed AFTER UPDATE OF kind, state ON crawl_target
        FOR EACH ROW
        WHEN ((OLD.kind, OLD.state) IS DISTINCT FROM (NEW.kind, NEW.state))
        EXECUTE FUNCTION crawl_count_targets()
        """
    ),
    (
        "CREATE TRIGGER count_nothing AFTER TRUNCATE ON crawl_target "
        "FOR EACH STATEMENT EXECUTE FUNCTION crawl_count_targets()"
    ),
    # What was spent of a budget: of a run, of a UTC day, of a month; counted anew from the
    # pages by and by.
    """
    CREATE TABLE crawl_budget (
        scope text NOT NULL,
        period text NOT NULL,
        posts bigint NOT NULL DEFAULT 0,
        micro_usd bigint NOT NULL DEFAULT 0,
        counted_at timestamptz,
        PRIMARY KEY (scope, period)
    ) WITH (fillfactor = 50)
    """,
    # What requests under way may cost at most; `id` is that of the page which will be
    # stored. A row that stays is of a process that was killed: nobody knows what its
    # request brought.
    """
    CREATE TABLE crawl_reserved (
        id uuid PRIMARY KEY,
        run_id bigint NOT NULL REFERENCES crawl_run,
        owner text NOT NULL,
        endpoint text NOT NULL,
        reserved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        posts bigint NOT NULL,
        micro_usd bigint NOT NULL
    ) WITH (fillfactor = 50)
    """,
    "CREATE INDEX crawl_reserved_time ON crawl_reserved (reserved_at)",
    # What was foretold of a kind of run, to stand beside what it then took.
    """
    CREATE TABLE crawl_plan (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        subject text NOT NULL,
        plan jsonb NOT NULL
    )
    """,
    "CREATE INDEX crawl_plan_subject ON crawl_plan (subject, made_at)",
]
