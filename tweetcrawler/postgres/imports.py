"""Imports of files: how far each was read, and its rows, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tweetcrawler.pages import Observed
from tweetcrawler.people import Heard
from tweetcrawler.postgres.pages import (
    STAGE,
    STAGE_COPY,
    UNSTAGE_DELETED,
    counts_before_statement,
    load_partial_statement,
    load_statement,
    table_named,
)
from tweetcrawler.postgres.people import People, remember
from tweetcrawler.targets import TIMELINE


@dataclass(frozen=True)
class ImportState:
    """Position of an import in its file, and the counts up to there.

    `position` is (members of a tar, bytes, lines) that are done; `posts` had a row, `new`
    and `updated` of them changed the table; `others` counts by name what gave no row.
    """

    id: int
    position: tuple[int, int, int]
    posts: int
    new: int
    updated: int
    others: Mapping[str, int]
    finished: bool


class Imports(People):
    """The imports of a session."""

    def begin_import(
        self, run: int, path: str, *, size: int, fingerprint: str, head: str, again: bool
    ) -> ImportState:
        """How far a file was imported before; it begins again when it is another file now,
        or `again`.
        """
        file = {
            "run": run,
            "path": path,
            "table": self.table,
            "size": size,
            "fingerprint": fingerprint,
            "head": head,
        }

        def work(connection: psycopg.Connection[Any]) -> ImportState:
            with connection.transaction():
                connection.execute(_NEW, file)
                row = connection.execute(_COMPARED, file).fetchone()
                assert row is not None  # noqa: S101 - it was just inserted
                number, same, grown, finished = row
                if again or not (same or (grown and not finished)):
                    connection.execute(_BEGIN_AGAIN, [number])
                if again or not (same and finished):
                    connection.execute(_IS_NOW, {**file, "id": number})
                return _state(connection, number)

        return self.do(work)

    def load(
        self,
        state: ImportState,
        rows: Iterable[Mapping[str, Any]],
        reached: ImportState,
        *,
        partial: Iterable[int] = (),
        observed: Iterable[Observed] = (),
        bought: bool = False,
        heard: Heard | None = None,
    ) -> ImportState | None:
        """Saves many rows and how far their file was read, in one transaction.

        `rows` are keyed by `flatten.COLUMNS`, in that order, and each id is there once.
        `reached` holds the position after them and all counts but those of new and updated
        rows, which come back in the result. Rows whose ids are in `partial` have lost a part
        of their text or lists: they only fill what is not known. `observed` are the counts of
        which a time is known: they are kept in `crawl_metrics`, and the newest stand in the
        row. Rows that are `bought` come from X's answers to this program, and may empty a
        list. `heard` are the users that the file names, and the names that its rows lack.
        None when the file is not where `state` says: another process imports it.
        """
        values = [tuple(row.values()) for row in rows]
        names = (heard or Heard()).as_parameters()
        partial_ids, seen = list(partial), list(observed)

        def work(connection: psycopg.Connection[Any]) -> ImportState | None:
            # Locked first: two imports of the same file take turns, and the later one sees
            # where the earlier one is.
            with connection.transaction():
                locked = _state(connection, state.id)
                if locked.position == reached.position and locked.finished == reached.finished:
                    return locked  # it was saved, only the answer was lost
                if locked.position != state.position or locked.finished:
                    return None
                new, updated = self._load(connection, values, partial_ids, seen, bought)
                remember(connection, self.table, names)
                _set_reached(connection, state.id, reached, new, updated)
                return replace(reached, new=locked.new + new, updated=locked.updated + updated)

        loaded = self.do(work)
        if names["users"] or names["posts"]:
            self.fill(names)
        return loaded

    def _load(
        self,
        connection: psycopg.Connection[Any],
        values: Iterable[tuple[Any, ...]],
        partial_ids: list[int],
        seen: list[Observed],
        bought: bool,
    ) -> tuple[int, int]:
        if not values:
            return 0, 0
        # By COPY into a temporary table, then one statement: measured three times as fast as
        # an `executemany`, from a thousand rows on.
        connection.execute(STAGE)
        with connection.cursor() as cursor, cursor.copy(STAGE_COPY) as copy:
            for value in values:
                copy.write_row(value)
        connection.execute(UNSTAGE_DELETED)
        t = table_named(self.table)
        times = {"kind": TIMELINE, "ids": [each.id for each in seen]}
        if seen:
            connection.execute(counts_before_statement(self.table), times)
            columns = [list(column) for column in zip(*seen, strict=True)]
            connection.execute(_OBSERVED, columns)
        connection.execute(_NEWEST_COUNTS.format(t=t))
        if not bought:
            connection.execute(_COUNTS_OF_A_CRAWL.format(t=t), times)
        new = 0
        if partial_ids:
            statement = load_partial_statement(self.table)
            [new] = connection.execute(statement, [partial_ids]).fetchone() or (0,)
        statement = load_statement(self.table, archived=not bought)
        others, updated = connection.execute(statement, [partial_ids]).fetchone() or (0, 0)
        if seen:
            connection.execute(_NEWEST_AFTER_ALL.format(t=t), times)
        return new + others, updated


def _state(connection: psycopg.Connection[Any], number: int) -> ImportState:
    row = connection.execute(_STATE, [number]).fetchone()
    assert row is not None  # noqa: S101 - nothing deletes these rows
    return ImportState(row[0], (row[1], row[2], row[3]), *row[4:])


def _set_reached(
    connection: psycopg.Connection[Any], number: int, reached: ImportState, new: int, updated: int
) -> None:
    member, offset, line = reached.position
    given = {
        "id": number,
        "member": member,
        "offset": offset,
        "line": line,
        "posts": reached.posts,
        "new": new,
        "updated": updated,
        "others": Jsonb(dict(reached.others)),
        "finished": reached.finished,
    }
    connection.execute(_REACHED, given)


# A file is known by its path and the table that it went into, and told from another of the same
# name by its size, its beginning and a fingerprint.
_NEW: LiteralString = """
INSERT INTO crawl_import (run_id, path, into_table, size, fingerprint, head)
VALUES (%(run)s, %(path)s, %(table)s, %(size)s, %(fingerprint)s, %(head)s)
ON CONFLICT (path, into_table) DO NOTHING
"""
# Whether it is the file of before, and whether that one has only grown since.
_COMPARED: LiteralString = """
SELECT id, fingerprint = %(fingerprint)s, head = %(head)s AND size <= %(size)s,
    finished_at IS NOT NULL
FROM crawl_import WHERE path = %(path)s AND into_table = %(table)s FOR UPDATE
"""
_BEGIN_AGAIN: LiteralString = """
UPDATE crawl_import SET member = 0, byte_offset = 0, line = 0, post_count = 0, new_count = 0,
    updated_count = 0, other_counts = '{}', finished_at = NULL, begun_at = clock_timestamp()
WHERE id = %s
"""
_IS_NOW: LiteralString = """
UPDATE crawl_import SET run_id = %(run)s, size = %(size)s, fingerprint = %(fingerprint)s,
    head = %(head)s
WHERE id = %(id)s
"""
_STATE: LiteralString = """
SELECT id, member, byte_offset, line, post_count, new_count, updated_count, other_counts,
    finished_at IS NOT NULL
FROM crawl_import WHERE id = %s FOR UPDATE
"""
_REACHED: LiteralString = """
UPDATE crawl_import SET member = %(member)s, byte_offset = %(offset)s, line = %(line)s,
    post_count = %(posts)s, new_count = new_count + %(new)s,
    updated_count = updated_count + %(updated)s, other_counts = %(others)s,
    finished_at = CASE WHEN %(finished)s THEN clock_timestamp() END
WHERE id = %(id)s
"""
_OBSERVED: LiteralString = """
INSERT INTO crawl_metrics (tweet_id, seen_at, like_count, retweet_count)
SELECT id, to_timestamp(seen_at), likes, retweets
FROM unnest(%s::bigint[], %s::float8[], %s::bigint[], %s::bigint[])
    AS o (id, seen_at, likes, retweets)
WHERE (likes IS NOT NULL OR retweets IS NOT NULL) AND id IN (SELECT id FROM import_stage)
ON CONFLICT DO NOTHING
"""
# A stored row is never set back to counts that are older than those it has.
_NEWEST_COUNTS = sql.SQL("""
UPDATE import_stage s SET favorite_count = m.like_count, retweet_count = m.retweet_count
FROM (
    SELECT DISTINCT ON (m.tweet_id) m.tweet_id, m.like_count, m.retweet_count
    FROM import_stage s JOIN {t} t ON t.id = s.id JOIN crawl_metrics m ON m.tweet_id = s.id
    WHERE m.seen_at IS NOT NULL AND (s.favorite_count IS DISTINCT FROM t.favorite_count
        OR s.retweet_count IS DISTINCT FROM t.retweet_count)
    ORDER BY m.tweet_id, m.seen_at DESC
) m
WHERE m.tweet_id = s.id
""")
# A source that tells no time is an archive, and older than the crawl that saw the post.
_COUNTS_OF_A_CRAWL = sql.SQL("""
UPDATE import_stage s SET favorite_count = NULL, retweet_count = NULL
FROM {t} t
WHERE t.id = s.id AND (s.favorite_count IS DISTINCT FROM t.favorite_count
    OR s.retweet_count IS DISTINCT FROM t.retweet_count)
AND s.id <> ALL (%(ids)s::bigint[])
AND NOT EXISTS (
    SELECT FROM crawl_metrics m WHERE m.tweet_id = t.id AND m.seen_at IS NOT NULL
)
AND EXISTS (
    SELECT FROM crawl_target k JOIN crawl_page p ON p.target_id = k.id
    WHERE k.kind = %(kind)s AND k.handle = lower(t.tweet_from)
    AND t.id BETWEEN p.oldest_id AND p.newest_id
)
""")
# Another process may have saved the same posts since, with newer counts.
_NEWEST_AFTER_ALL = sql.SQL("""
UPDATE {t} t SET favorite_count = coalesce(m.like_count, t.favorite_count),
    retweet_count = coalesce(m.retweet_count, t.retweet_count)
FROM (
    SELECT DISTINCT ON (tweet_id) tweet_id, like_count, retweet_count FROM crawl_metrics
    WHERE tweet_id = ANY(%(ids)s::bigint[]) AND seen_at IS NOT NULL
    ORDER BY tweet_id, seen_at DESC
) m
WHERE m.tweet_id = t.id AND (m.like_count <> t.favorite_count
    OR m.retweet_count <> t.retweet_count)
""")
