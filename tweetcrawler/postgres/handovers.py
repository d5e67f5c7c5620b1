"""Handles that changed hands: the user who had one before, and the user who has it now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg

from tweetcrawler.pages import Bought
from tweetcrawler.postgres.budgets import spend
from tweetcrawler.postgres.connection import Connected
from tweetcrawler.postgres.pages import insert_page
from tweetcrawler.targets import RENAMED, TIMELINE, Found, Target


class Handovers(Connected):
    """The changed handles of a session."""

    def left_names(self, handles: Sequence[str], *, rest_s: float) -> list[str]:
        """Those of the handles whose user has another one now, and for which X was not asked in
        the last `rest_s` seconds.
        """
        given = {"kind": TIMELINE, "renamed": RENAMED, "handles": list(handles), "rest": rest_s}
        rows = self.do(lambda c: c.execute(_LEFT, given).fetchall())
        return [row[0] for row in rows]

    def save_names(
        self, run: int, bought: Bought, asked: Sequence[str], found: Sequence[Found]
    ) -> None:
        """Stores X's answer about left handles: a user who has taken one becomes its target, and
        the one before is followed under the present handle.
        """
        given = {"kind": TIMELINE, "renamed": RENAMED, "asked": list(asked)}

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                is_new = insert_page(connection, run, bought)
                connection.execute(_ASKED, given)
                for one in sorted(found, key=lambda each: each.handle):
                    _hand_over(connection, one)
                if is_new:
                    spend(connection, run, bought)

        self.do(work)

    def formerly(self, handles: Sequence[str]) -> list[Target]:
        """The targets that were listed under these handles, which are other users' by now."""
        rows = self.do(lambda c: c.execute(_FORMERLY, [TIMELINE, list(handles)]).fetchall())
        return [Target(*row) for row in rows]


def _hand_over(connection: psycopg.Connection[Any], found: Found) -> None:
    given = {
        "kind": TIMELINE,
        "renamed": RENAMED,
        "handle": found.handle,
        "key": found.user_id,
        "username": found.username,
        "posts": found.account_posts,
    }
    before = connection.execute(_BEFORE, given).fetchone()
    if before is None:
        return
    given["before"] = before[0]
    for statement in (_NO_ALIAS, _MOVED, _NEW, _ALIAS):
        connection.execute(statement, given)


_LEFT: LiteralString = """
SELECT handle FROM crawl_target
WHERE kind = %(kind)s AND handle = ANY(%(handles)s) AND state = %(renamed)s AND same_as IS NULL
AND coalesce(name_asked_at <= clock_timestamp() - %(rest)s * interval '1 s', true)
ORDER BY handle
"""
_ASKED: LiteralString = """
UPDATE crawl_target SET name_asked_at = clock_timestamp()
WHERE kind = %(kind)s AND handle = ANY(%(asked)s) AND state = %(renamed)s AND same_as IS NULL
"""
_FORMERLY: LiteralString = """
SELECT id, handle, key, username, state, state_reason FROM crawl_target
WHERE kind = %s AND formerly = ANY(%s) ORDER BY id
"""
_BEFORE: LiteralString = """
SELECT id FROM crawl_target
WHERE kind = %(kind)s AND handle = %(handle)s AND same_as IS NULL AND key <> %(key)s
FOR UPDATE
"""
# A row that only says that the present handle is this user's.
_NO_ALIAS: LiteralString = """
DELETE FROM crawl_target a USING crawl_target o
WHERE o.id = %(before)s AND a.same_as = o.id AND a.handle = lower(o.username)
"""
_MOVED: LiteralString = """
UPDATE crawl_target o SET formerly = o.handle, handle = CASE
    WHEN o.username IS NULL OR lower(o.username) = o.handle OR EXISTS (
        SELECT FROM crawl_target x WHERE x.kind = o.kind AND x.handle = lower(o.username)
    ) THEN '#' || o.key ELSE lower(o.username) END
WHERE o.id = %(before)s
"""
_NEW: LiteralString = """
INSERT INTO crawl_target (kind, key, handle, username, account_posts)
VALUES (%(kind)s, %(key)s, %(handle)s, %(username)s, %(posts)s)
ON CONFLICT (kind, key) DO NOTHING
"""
# The new user of the handle may be a target under another one.
_ALIAS: LiteralString = """
INSERT INTO crawl_target (kind, handle, same_as, state)
SELECT %(kind)s, %(handle)s, o.id, %(renamed)s FROM crawl_target o
WHERE o.kind = %(kind)s AND o.key = %(key)s AND o.handle <> %(handle)s
ON CONFLICT DO NOTHING
"""
