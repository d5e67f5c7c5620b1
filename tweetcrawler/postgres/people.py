"""Names of users as pages told them, and the rows that wait for one.

X tells the name of a user beside the posts, not in them. A file without its includes, or with
those of another page, leaves columns empty until a later one tells the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, LiteralString

import orjson
import psycopg
from psycopg import sql
from psycopg.types.json import Json

from tweetcrawler.errors import TweetcrawlerError
from tweetcrawler.flatten import Told
from tweetcrawler.people import Heard
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.postgres.names import table_named

# A crawl writes the names of its users this many at a time. To write those of each page takes
# longer; those of a process that is killed are missing, until `reflatten` reads its pages.
_AT_ONCE = 500


class People(Connected):
    """The names of users of a session."""

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        # Of all sessions of the process, where they are told to share it.
        self.heard = Heard()

    def note_waiting(self, connection: psycopg.Connection[Any], told: Told) -> None:
        """Notes the rows of a page that lack a name, in the transaction that saves them."""
        if told.waiting:
            heard = Heard()
            heard.add(told)
            remember(connection, self.table, heard.as_parameters())

    def hear(self, told: Told) -> None:
        """Takes the names of a page that was saved; they are written some at a time, the last
        when the last session of the process ends.
        """
        self.heard.add(told)
        if told.waiting or len(self.heard) >= _AT_ONCE:
            self.write_names()

    def write_names(self) -> None:
        """Writes the names that were heard, and fills the rows that waited for them."""
        if not len(self.heard):
            return
        given = self.heard.as_parameters()
        self.do(lambda connection: remember(connection, self.table, given))
        self.fill(given)
        self.heard.clear()

    def fill(self, given: Mapping[str, list[Any]]) -> None:
        """Fills rows from names, of which another process may have saved either meanwhile."""
        # After both are committed, the later of two processes sees what the other one wrote.
        self.do(lambda connection: _fill(connection, self.table, given))

    def end(self, *, is_last: bool) -> None:
        """Closes the session; the last one writes the names that were heard. If the server is
        away they are lost here, and the stored pages still have them.
        """
        if is_last:
            with suppress(TweetcrawlerError):
                self.write_names()
        self.close()


def remember(
    connection: psycopg.Connection[Any], table: str, given: Mapping[str, list[Any]]
) -> None:
    """Writes names, and rows that wait for one, in a transaction of the caller."""
    if given["users"]:
        connection.execute(_REMEMBER, {"names": Json(given["names"], dumps=orjson.dumps)})
    if given["posts"]:
        connection.execute(_waiting_statement(table), given)
    if given["users"] or given["posts"]:
        _fill(connection, table, given)


def _fill(connection: psycopg.Connection[Any], table: str, given: Mapping[str, list[Any]]) -> None:
    waits = connection.execute(_ANY_WAITS).fetchone()
    if waits and waits[0]:
        connection.execute(_fill_statement(table), given)


@cache
def _waiting_statement(table: str) -> bytes:
    return _WAIT.format(t=table_named(table)).as_bytes(None)


@cache
def _fill_statement(table: str) -> bytes:
    return _FILL.format(t=table_named(table)).as_bytes(None)


_ANY_WAITS: LiteralString = "SELECT EXISTS (SELECT FROM crawl_waiting_name)"
# A name that stays the same is dated forward once a day: that is enough to tell which of two
# names is the newer one. OFFSET keeps the planner from reading the whole table for a join.
_REMEMBER: LiteralString = """
INSERT INTO crawl_user AS u (user_id, handle, name, seen_at)
SELECT g.user_id, g.handle, g.name, to_timestamp(g.seen_at)
FROM json_to_recordset(%(names)s::json)
    AS g(user_id bigint, handle text, name text, seen_at float8)
WHERE NOT EXISTS (
    SELECT FROM crawl_user k WHERE k.user_id = g.user_id AND (
        k.seen_at > to_timestamp(g.seen_at)
        OR ((k.handle, k.name) = (g.handle, g.name)
            AND k.seen_at >= to_timestamp(g.seen_at) - interval '1 day')
    ) OFFSET 0
)
AND NOT EXISTS (SELECT FROM crawl_tombstone_user d WHERE d.user_id = g.user_id OFFSET 0)
ORDER BY 1
ON CONFLICT (user_id) DO UPDATE
SET handle = excluded.handle, name = coalesce(nullif(excluded.name, ''), u.name),
    seen_at = excluded.seen_at
WHERE (u.seen_at, u.handle, u.name) < (excluded.seen_at, excluded.handle, excluded.name)
"""
# Only of rows that are stored and lack the name: what a row says of itself is not undone.
_WAIT = sql.SQL("""
INSERT INTO crawl_waiting_name (tweet_id, part, user_id)
SELECT g.tweet_id, g.part, g.user_id
FROM unnest(%(posts)s::bigint[], %(parts)s::text[], %(lacking)s::bigint[])
    AS g(tweet_id, part, user_id)
JOIN {t} t ON t.id = g.tweet_id
WHERE CASE g.part WHEN 'author' THEN t.tweet_from WHEN 'reply' THEN t.in_reply_to_screen_name
    ELSE t.retweeted_status_user_handle END IS NULL
AND NOT EXISTS (SELECT FROM crawl_tombstone d WHERE d.tweet_id = g.tweet_id)
AND NOT EXISTS (SELECT FROM crawl_tombstone_user d WHERE d.user_id = g.user_id)
ORDER BY 1, 2 ON CONFLICT DO NOTHING
""")
# The mentions of a retweet begin with its author.
_FILL = sql.SQL("""
WITH ready AS (
    DELETE FROM crawl_waiting_name w USING crawl_user u, {t} t
    WHERE u.user_id = w.user_id AND t.id = w.tweet_id
    AND (w.user_id = ANY(%(users)s::bigint[]) OR w.tweet_id = ANY(%(posts)s::bigint[]))
    RETURNING w.tweet_id, w.part, u.handle, nullif(u.name, '') AS name
), named AS (
    SELECT tweet_id, max(handle) FILTER (WHERE part = 'author') AS author,
        max(handle) FILTER (WHERE part = 'reply') AS reply,
        max(handle) FILTER (WHERE part = 'retweet') AS handle,
        max(name) FILTER (WHERE part = 'retweet') AS name
    FROM ready GROUP BY 1 ORDER BY 1
)
UPDATE {t} t SET tweet_from = coalesce(t.tweet_from, n.author),
    in_reply_to_screen_name = coalesce(t.in_reply_to_screen_name, n.reply),
    user_mentions_name = CASE
        WHEN t.user_mentions_name ~ '^\\{{NULL[,}}]' AND n.handle ~ '^[A-Za-z0-9_]+$'
        THEN '{{' || n.handle || substr(t.user_mentions_name, 6) ELSE t.user_mentions_name END,
    retweeted_status_user_handle = coalesce(t.retweeted_status_user_handle, n.handle),
    retweeted_status_user_name = coalesce(t.retweeted_status_user_name, n.name)
FROM named n WHERE t.id = n.tweet_id
AND (t.tweet_from IS NULL AND n.author IS NOT NULL
    OR t.in_reply_to_screen_name IS NULL AND n.reply IS NOT NULL
    OR t.retweeted_status_user_handle IS NULL AND n.handle IS NOT NULL
    OR t.retweeted_status_user_name IS NULL AND n.name IS NOT NULL)
""")
