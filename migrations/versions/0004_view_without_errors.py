"""The view of typed posts gives NULL for a stored text that is no time or list.

One such text made every query on the view fail.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# These catch the error, which takes a subtransaction of each call. A text without a zone is
# no moment: each session would read another one.
_FUNCTIONS = (
    r"""
    CREATE FUNCTION tweet_time_tried(stored text) RETURNS timestamptz
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    BEGIN
        IF stored !~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?'
            '(Z|[+-]\d\d(:?\d\d)?)$' THEN
            RETURN NULL;
        END IF;
        RETURN stored::timestamptz;
    EXCEPTION WHEN data_exception THEN RETURN NULL;
    END $$
    """,
    r"""
    CREATE FUNCTION tweet_list_tried(stored text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    BEGIN
        RETURN stored::text[];
    EXCEPTION WHEN data_exception THEN RETURN NULL;
    END $$
    """,
    r"""
    CREATE FUNCTION tweet_ids_tried(stored text) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    BEGIN
        RETURN stored::bigint[];
    EXCEPTION WHEN data_exception THEN RETURN NULL;
    END $$
    """,
)
_TRIED = ("tweet_time_tried(created_at)", "tweet_list_tried({0})", "tweet_ids_tried({0})")
# Since PostgreSQL 16 a text can be looked at without an error. That takes as long as the
# cast, so the empty list, which is the most frequent, is answered without either.
_LOOKED_AT = (
    """
    CASE WHEN created_at LIKE '____-__-__T__:__:__%Z'
            AND pg_input_is_valid(created_at, 'timestamptz')
        THEN created_at::timestamptz ELSE tweet_time_tried(created_at) END""",
    """
    CASE WHEN {0} = '{{}}' THEN '{{}}'::text[]
        WHEN pg_input_is_valid({0}, 'text[]') THEN {0}::text[] END""",
    """
    CASE WHEN {0} = '{{}}' THEN '{{}}'::bigint[]
        WHEN pg_input_is_valid({0}, 'bigint[]') THEN {0}::bigint[] END""",
)
_CAST = ("created_at::timestamptz", "{0}::text[]", "{0}::bigint[]")


def _view(time: str, list_: str, ids: str, table: str) -> str:
    return f"""
        CREATE OR REPLACE VIEW tweets AS SELECT
            id,
            tweet_from AS username,
            {time} AS created_at,
            text,
            {list_.format("hashtags")} AS hashtags,
            {list_.format("urls")} AS urls,
            {list_.format("media")} AS media,
            {ids.format("user_mentions_id")} AS mention_ids,
            {list_.format("user_mentions_name")} AS mention_names,
            favorite_count AS like_count,
            retweet_count,
            in_reply_to_status_id,
            in_reply_to_user_id,
            in_reply_to_screen_name,
            retweeted_status_id,
            retweeted_status_text,
            {list_.format("retweeted_status_url")} AS retweeted_status_urls,
            retweeted_status_user_handle,
            retweeted_status_user_name,
            retweeted_status_id IS NOT NULL AS is_retweet,
            in_reply_to_user_id IS NOT NULL AS is_reply,
            origin_device,
            sentiment
        FROM {table}
    """  # noqa: S608 - as in the first revision, the settings name the table


def upgrade() -> None:
    for function in _FUNCTIONS:
        op.execute(function)
    version = op.get_bind().dialect.server_version_info or ()
    op.execute(_view(*(_LOOKED_AT if version >= (16,) else _TRIED), _table()))


def downgrade() -> None:
    op.execute(_view(*_CAST, _table()))
    for name in ("time", "list", "ids"):
        op.execute(f"DROP FUNCTION tweet_{name}_tried(text)")


def _table() -> str:
    return str(context.config.attributes["table"])
