"""Rules and connections of a stream in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tweetcrawler.postgres.targets import opened_searches
from tweetcrawler.queries import normalised
from tweetcrawler.run import Doing
from tweetcrawler.stream.rules import Known, Rule

_OURS = "SELECT rule_id FROM crawl_rule WHERE app = %s AND ours"
# A rule that X has no more has ended. A rule is not forgotten: its posts and gaps are its own.
_SAVE = """
INSERT INTO crawl_rule AS r (rule_id, app, target_id, value, tag, ours, since)
VALUES (%(id)s, %(app)s, %(target)s, %(value)s, %(tag)s, %(ours)s, to_timestamp(%(at)s))
ON CONFLICT (rule_id) DO UPDATE SET ours = excluded.ours, tag = excluded.tag, until = NULL
"""
_END = """
UPDATE crawl_rule SET until = to_timestamp(%(at)s)
WHERE app = %(app)s AND until IS NULL AND rule_id <> ALL (%(ids)s::bigint[])
"""


def rules_of(session: Doing, app: str) -> set[int]:
    """The ids of rules that this program added."""
    rows = session.do(lambda connection: connection.execute(_OURS, [app]).fetchall())
    return {number for (number,) in rows}


def save_rules(
    session: Doing, app: str, known: Sequence[Known], wanted: Sequence[Rule], *, at: float
) -> None:
    """Notes the rules that X had at a time of its own.

    Each has the search of the same query as its target, so that a search can fill its gaps.
    """
    tags = {rule.value: rule.tag for rule in wanted}

    def work(connection: Any) -> None:
        with connection.transaction():
            for one in known:
                [target] = opened_searches(connection, [normalised(one.value)])
                given = {
                    "id": one.id,
                    "app": app,
                    "target": target.id,
                    "value": one.value,
                    "tag": tags.get(one.value, one.tag),
                    "ours": one.ours or one.value in tags,
                    "at": at,
                }
                connection.execute(_SAVE, given)
            connection.execute(_END, {"app": app, "ids": [one.id for one in known], "at": at})

    session.do(work)


def note_connection(session: Doing, given: Mapping[str, Any]) -> None:
    """Notes X's id of a connection of ours; its other times come with its messages."""
    session.do(lambda connection: connection.execute(_NOTE_CONNECTION, given))


def left_over(session: Doing, app: str, open_: Sequence[str], x_now: float) -> list[str]:
    """Those of the open connections that are of a reader of this program that is gone."""
    given = {"app": app, "open": list(open_), "now": x_now}
    rows = session.do(lambda connection: connection.execute(_LEFT_OVER, given).fetchall())
    return [name for (name,) in rows]


_NOTE_CONNECTION = """
INSERT INTO crawl_stream (id, run_id, credential, app, connection, opened_at, last_byte_at)
VALUES (%(id)s, %(run)s, %(credential)s, %(app)s, %(connection)s, to_timestamp(%(at)s),
    to_timestamp(%(at)s))
ON CONFLICT (id) DO UPDATE SET connection = excluded.connection
"""
# A reader on another machine that works has heard from X within a minute.
_LEFT_OVER = """
SELECT DISTINCT connection FROM crawl_stream
WHERE app = %(app)s AND connection = ANY(%(open)s::text[])
    AND (closed_at IS NOT NULL OR last_byte_at < to_timestamp(%(now)s) - interval '60 s')
"""
