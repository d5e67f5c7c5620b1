"""Pages as they were bought: saved with their rows and the coverage that they add, in one
transaction and one round trip.

By hand: this is the hot path. Each statement is planned for the case that it is for, and a
row that does not change is not written (figures in docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import itemgetter
from typing import Any, LiteralString

import orjson
import psycopg
import zstandard
from psycopg import sql
from psycopg.types.json import Json, Jsonb

from tweetcrawler import coverage
from tweetcrawler.flatten import COLUMNS, LISTS, Partial
from tweetcrawler.pages import Batch, Bought, Saved
from tweetcrawler.postgres.budgets import spend, spending
from tweetcrawler.postgres.columns import TYPES
from tweetcrawler.postgres.connection import Connected, Connection
from tweetcrawler.postgres.names import table_named as table_named
from tweetcrawler.targets import LEASE_S, SEARCH

# The error of `crawl_not_stored`: a row that is neither new nor stored.
NOT_STORED = "23000"


class Pages(Connected):
    """The pages of a session."""

    def __init__(self, conninfo: str, table: str, place: str, stopping: Callable[[], bool]) -> None:
        super().__init__(conninfo, table, place, stopping)
        self._save = save_statement(table)
        self._save_new = save_new_statement(table)
        self._news_come = True

    def save_page(self, run: int, bought: Bought) -> None:
        """Stores an answer of X that holds no posts of a target, such as a count."""

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                insert_page(connection, run, bought)
                spend(connection, bought)

        self.do(work)

    def save(
        self,
        run: int,
        owner: str,
        batch: Batch,
        *,
        keep_body: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> Saved:
        """Saves a page in one transaction: its rows, itself, the coverage it adds; renews
        the lease.

        `meanwhile` is called while the server works, again when the work must be done
        again; it must not fail.
        """
        given = save_parameters(run, owner, batch, keep_body)

        def work(connection: Connection) -> Saved:
            connection.meanwhile = meanwhile
            try:
                return self._saved(connection, batch, given)
            except psycopg.errors.IntegrityConstraintViolation as error:
                # Of the class itself: `crawl_not_stored`. Some of the rows may have been saved
                # by another process in this moment, which the longer statement can tell.
                if not self._news_come or error.sqlstate != NOT_STORED:
                    raise
                self._news_come = False
                return self._saved(connection, batch, given)

        return self.do(work)

    def _saved(
        self, connection: psycopg.Connection[Any], batch: Batch, given: dict[str, Any]
    ) -> Saved:
        with spending(connection, batch.bought):
            if not batch.rows:
                return saved_of(save_empty_statement().run(connection, given))
            first = Saved(0, 0, leased=False)
            if self._news_come and not batch.searched:
                first = saved_of(self._save_new.run(connection, given))
                if first.new == len(batch.rows):
                    return first
            saved = saved_of(self._save.run(connection, given | partial_of(batch)))
            self._news_come = first.new + saved.new == len(batch.rows)
            return replace(saved, new=first.new + saved.new)

    def save_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Saves rows, each id once, whose pages are stored already."""
        # Without a table for the time of it: the role that crawls may make none.
        given = {
            "rows": Json(sorted(rows, key=itemgetter("id")), dumps=orjson.dumps),
            "partial": _as_array(row["id"] for row in rows if isinstance(row, Partial)),
        }
        self.do(lambda c: rows_statement(self.table).run(c, given))

    def forget(self, ids: Sequence[int]) -> int:
        """Deletes posts, with their counts and what found them; says how many were stored.

        Coverage and purchases stay true, so nothing is bought again. Stored pages are X's
        answers as received, and keep them.
        """
        statement = _FORGET.format(t=table_named(self.table))
        given = {"ids": sorted(set(ids)), "kind": SEARCH}
        row = self.do(lambda c: c.execute(statement, given).fetchone())
        return int(row[0]) if row else 0


def insert_page(connection: psycopg.Connection[Any], run: int, bought: Bought) -> None:
    """Stores an answer in a transaction that is under way."""
    connection.execute(
        _INSERT_PAGE,
        [
            bought.id,
            run,
            bought.endpoint,
            Jsonb(dict(bought.params)),
            bought.credential,
            bought.posts,
            bought.users,
            compressed(bought.body),
        ],
    )


def save_parameters(run: int, owner: str, batch: Batch, keep_body: bool) -> dict[str, Any]:
    bought = batch.bought
    ids = [row["id"] for row in batch.rows]
    return {
        "rows": Json(list(batch.rows), dumps=orjson.dumps),
        "page": bought.id,
        "run": run,
        "target": batch.target,
        "endpoint": bought.endpoint,
        "params": Jsonb(dict(bought.params)),
        "credential": bought.credential,
        "posts": bought.posts,
        "users": bought.users,
        "ids": _as_array(ids),
        "newest": max(ids, default=None),
        "oldest": min(ids, default=None),
        "refused": Jsonb([{"id": i, "reason": reason} for i, reason in batch.refused])
        if batch.refused
        else None,
        "body": compressed(bought.body) if keep_body else None,
        "covered": coverage.to_text([batch.covered] if batch.covered else []),
        "unreachable": coverage.to_text([batch.unreachable] if batch.unreachable else []),
        "unreachable_reason": batch.unreachable_reason or None,
        "username": batch.username,
        "account_posts": batch.account_posts,
        "searched": batch.searched,
        "owner": owner,
        "lease": LEASE_S,
    }


def partial_of(batch: Batch) -> dict[str, str]:
    """The parameter of `save_statement` that only it needs."""
    return {"partial": _as_array(row["id"] for row in batch.rows if isinstance(row, Partial))}


def _as_array(ids: Iterable[int]) -> str:
    return "{" + ",".join(map(str, ids)) + "}"


# Of JSON pages the lowest level makes no more bytes than the usual one, in two thirds of
# its time. One for all pages of a process: to make it takes a hundred times as long as a
# small page.
_COMPRESSOR = zstandard.ZstdCompressor(level=1)


def compressed(body: bytes) -> bytes:
    return _COMPRESSOR.compress(body)


class _Numbered:
    """A statement whose named parameters were numbered once, not at each run: psycopg
    remembers short ones only.
    """

    def __init__(self, statement: sql.Composed) -> None:
        numbers: dict[str, int] = {}

        def numbered(name: re.Match[str]) -> str:
            return f"${numbers.setdefault(name[1], len(numbers) + 1)}"

        self._text = re.sub(r"%\((\w+)\)s", numbered, statement.as_string(None)).encode()
        self._names = list(numbers)

    def run(
        self, connection: psycopg.Connection[Any], given: Mapping[str, Any]
    ) -> psycopg.RawCursor[Any]:
        return psycopg.RawCursor(connection).execute(
            self._text, [given[name] for name in self._names]
        )


@cache
def save_statement(table: str) -> _Numbered:
    """One statement, so one transaction and one round trip.

    Only rows that are new or differ are written: a page that is saved again writes nothing.
    The rows are sorted by id before they are written, so that two writers of the same ids
    never wait for each other in a ring.
    """
    return _page_statement(sql.SQL("{}, {}").format(_BATCH_MERGED, _upserted(table)), found=True)


@cache
def save_new_statement(table: str) -> _Numbered:
    """A shorter statement for a page whose posts are all new. Saves nothing if any of them is
    stored.

    Fails with `NOT_STORED` when another process writes some of the rows at the same moment.
    """
    saved = _SAVED_NEW.format(t=table_named(table), cols=_names(COLUMNS), values=_inserted())
    return _page_statement(sql.SQL("{}, {}").format(_BATCH, saved))


@cache
def rows_statement(table: str) -> _Numbered:
    """The rows of a batch without a page."""
    statement = sql.SQL("WITH {}, {} SELECT new FROM counted")
    return _Numbered(statement.format(_BATCH_MERGED, _upserted(table)))


@cache
def save_empty_statement() -> _Numbered:
    """A statement for a page without rows: to plan the rest is most of the work."""
    return _page_statement(sql.SQL("counted AS (SELECT 0::bigint AS new, 0::bigint AS updated)"))


def _page_statement(counted: sql.Composable, *, found: bool = False) -> _Numbered:
    """`counted` gives the number of rows that were saved as `counted` (new, updated); without
    it nothing is saved.

    With `found` it gives the rows as `batch`, too, and they are noted as found by a search,
    when it was one; those that must be written it gives as `changed`, and it is an error when
    one of them is not.
    """
    found_, whole = (_FOUND, _ALL_CHANGED) if found else (sql.SQL(""), sql.SQL(""))
    return _Numbered(_PAGE.format(counted=counted, found=found_, whole=whole))


def saved_of(answer: psycopg.RawCursor[Any]) -> Saved:
    """The answer of a statement that saves a page."""
    row = answer.fetchone()
    return Saved(row[0], row[1], bool(row[2])) if row else Saved(0, 0, leased=False)


@cache
def counts_before_statement(table: str) -> bytes:
    """The counts of stored posts into `crawl_metrics`, before the first others of each."""
    return _COUNTS_BEFORE.format(t=table_named(table)).as_bytes(None)


@cache
def load_statement(table: str, *, archived: bool) -> bytes:
    """The rows of the stage into the table: how many were new, and how many others changed."""
    upserted = _upserted(table, archived=archived)
    made = _LOAD.format(upserted=upserted, not_deleted=NOT_DELETED, whole=_ALL_CHANGED)
    return made.as_bytes(None)


@cache
def load_partial_statement(table: str) -> bytes:
    """Those of the given ids that the table lacks, out of the stage into the table: how
    many there were.

    No look beforehand tells what another process is about to write; a conflict does. After
    this statement every partial row is stored, and can be compared.
    """
    made = _LOAD_PARTIAL.format(
        t=table_named(table), cols=_names(COLUMNS), values=_inserted(), not_deleted=NOT_DELETED
    )
    return made.as_bytes(None)


def _upserted(table: str, *, archived: bool = False) -> sql.Composed:
    """The part that saves the rows of `batch`, and gives `counted` (new, updated).

    `batch` has the columns of the rows, and `partial`. Rows from archives are merged by
    `_merged_archived`.
    """
    merge = _merged_archived if archived else _merged
    merged = {c: merge(c) for c in COLUMNS}
    comma = sql.SQL(", ")
    return _UPSERTED.format(
        t=table_named(table),
        merged=comma.join(merged.values()),
        merged_as=comma.join(
            sql.SQL("{} AS {}").format(part, sql.Identifier(c)) for c, part in merged.items()
        ),
        cols=_names(COLUMNS),
        t_cols=comma.join(sql.Identifier("t", c) for c in COLUMNS),
        sets=comma.join(_set(c, archived) for c in COLUMNS if c != "id"),
    )


def _merged(column: str) -> sql.Composed:
    """The value of a column of a row `b` that X gave, over that of the stored row `t`."""
    return _merge_of(column).format(sql.Identifier(column))


def _merged_archived(column: str) -> sql.Composed:
    """The same for a row from an archive, whose empty list takes no list away.

    An archive may be older than what is stored, and another process may be saving the same
    post: a row that is new to both is then inserted with `{}` and may not undo a list.
    """
    merge = _MERGE_ARCHIVED_LIST if _merge_of(column) is _MERGE_LIST else _merge_of(column)
    return merge.format(sql.Identifier(column))


def _merge_of(column: str) -> sql.SQL:
    if column == "id":
        return sql.SQL("b.{0}")
    if column in LISTS and column not in _MERGE_CONTENT:
        return _MERGE_LIST
    return _MERGE_CONTENT.get(column, sql.SQL("coalesce(b.{0}, t.{0})"))


def _set(column: str, archived: bool) -> sql.Composed:
    keeps = "{0} = coalesce(excluded.{0}, t.{0})"
    if archived and column in LISTS:
        keeps = "{0} = coalesce(nullif(excluded.{0}, '{{}}'), t.{0}, excluded.{0})"
    return sql.SQL(keeps).format(sql.Identifier(column))


def _inserted() -> sql.Composed:
    """The columns of new rows out of a batch, in the order of the table."""
    parts = ("coalesce({0}, '{{}}') AS {0}" if c in LISTS else "{0}" for c in COLUMNS)
    return sql.SQL(", ").join(
        sql.SQL(part).format(sql.Identifier(c)) for c, part in zip(COLUMNS, parts, strict=True)
    )


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


_INSERT_PAGE: LiteralString = """
INSERT INTO crawl_page (id, run_id, endpoint, params, credential, post_count, user_count,
    new_count, updated_count, body)
VALUES (%s, %s, %s, %s, %s, %s, %s, 0, 0, %s) ON CONFLICT (id) DO NOTHING
"""
# The page, and its target with the coverage that it adds; both only if `counted` has a row.
_PAGE = sql.SQL("""
WITH {counted},
page AS (
    INSERT INTO crawl_page (id, run_id, target_id, endpoint, params, credential, post_count,
        user_count, new_count, updated_count, newest_id, oldest_id, refused, body)
    SELECT %(page)s, %(run)s, %(target)s::bigint, %(endpoint)s, %(params)s, %(credential)s,
        %(posts)s, %(users)s, new, updated, %(newest)s::bigint, %(oldest)s::bigint,
        %(refused)s, %(body)s
    FROM counted
    ON CONFLICT (id) DO NOTHING RETURNING id
), target AS (
    UPDATE crawl_target SET covered = covered + %(covered)s::int8multirange,
        unreachable = unreachable + %(unreachable)s::int8multirange
            - (covered + %(covered)s::int8multirange),
        unreachable_reason = CASE
            WHEN unreachable + %(unreachable)s::int8multirange
                <@ covered + %(covered)s::int8multirange THEN ''
            ELSE coalesce(%(unreachable_reason)s, unreachable_reason) END,
        username = coalesce(%(username)s, username),
        account_posts = coalesce(%(account_posts)s, account_posts),
        post_count = post_count + CASE WHEN EXISTS (SELECT FROM page) THEN %(posts)s ELSE 0 END,
        lease_until = CASE WHEN lease_owner = %(owner)s
            THEN clock_timestamp() + %(lease)s * interval '1 s' ELSE lease_until END
    WHERE id = %(target)s::bigint AND EXISTS (SELECT FROM counted)
    RETURNING lease_owner = %(owner)s AS leased
){found}
SELECT new{whole}, updated, (SELECT leased FROM target) FROM counted
""")
_FOUND = sql.SQL(""", found AS (
    INSERT INTO crawl_found (target_id, tweet_id)
    SELECT %(target)s::bigint, id FROM batch
    WHERE %(searched)s::boolean ORDER BY id ON CONFLICT DO NOTHING
)""")
_SAVED_NEW = sql.SQL("""saved AS (
    INSERT INTO {t} ({cols}) SELECT {values} FROM batch
    WHERE NOT EXISTS (SELECT FROM {t} WHERE id = ANY(%(ids)s::bigint[]))
    ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id
), counted AS (
    SELECT count(*) + CASE WHEN count(*) < (SELECT count(*) FROM batch)
            THEN crawl_not_stored((SELECT count(*) FROM batch) - count(*)) ELSE 0 END AS new,
        0::bigint AS updated
    FROM saved HAVING count(*) > 0
)""")
# A trigger or rule of the table may leave out a row without a word. An error in the statement
# takes its page back as well.
_ALL_CHANGED = sql.SQL("""
    + CASE WHEN new + updated < (SELECT count(*) FROM changed)
        THEN crawl_not_stored((SELECT count(*) FROM changed) - new - updated) ELSE 0 END AS new""")
# Absent is not empty: NULL says nothing of a value. A partial row fills what is not known,
# and a new row without a list holds an empty one.
_MERGE_LIST = sql.SQL("""
    coalesce(CASE WHEN b.partial THEN nullif(t.{0}, '{{}}') END, b.{0}, t.{0},
        CASE WHEN t.id IS NULL THEN '{{}}' END)""")
_MERGE_ARCHIVED_LIST = sql.SQL("""
    coalesce(CASE WHEN b.partial THEN nullif(t.{0}, '{{}}') END, nullif(b.{0}, '{{}}'), t.{0},
        b.{0}, CASE WHEN t.id IS NULL THEN '{{}}' END)""")
# A shorter list of mentions is one whose retweeted post was trimmed. Both columns are kept,
# since their elements belong together.
_MERGE_MENTIONS = sql.SQL("""
    coalesce(CASE WHEN b.partial AND t.user_mentions_id <> '{{}}'
        OR length(t.user_mentions_id) > length(b.user_mentions_id) THEN t.{0} END, b.{0}, t.{0},
        CASE WHEN t.id IS NULL THEN '{{}}' END)""")
_MERGE_TEXT = sql.SQL("coalesce(CASE WHEN b.partial THEN t.{0} END, b.{0}, t.{0})")
# The score belongs to its text. The links of a retweeted post are empty also where its
# entities were left out.
_MERGE_CONTENT = {
    "user_mentions_id": _MERGE_MENTIONS,
    "user_mentions_name": _MERGE_MENTIONS,
    "text": _MERGE_TEXT,
    "retweeted_status_text": _MERGE_TEXT,
    "retweeted_status_url": sql.SQL("""
    coalesce(CASE WHEN b.partial THEN nullif(t.{0}, '{{}}') END, nullif(b.{0}, '{{}}'), t.{0},
        b.{0})"""),
    "sentiment": sql.SQL("""
    CASE WHEN b.partial AND t.text IS NOT NULL THEN t.{0} ELSE coalesce(b.{0}, t.{0}) END"""),
}
# `xmax` is 0 in a row that was inserted and not updated: the one sign that PostgreSQL gives
# of what ON CONFLICT did.
_UPSERTED = sql.SQL("""merged AS (
    SELECT {merged_as}, t.id IS NULL OR ({merged}) IS DISTINCT FROM ({t_cols}) AS differs
    FROM batch b LEFT JOIN {t} t ON t.id = b.id
), changed AS (
    SELECT {cols} FROM merged WHERE differs ORDER BY id
), saved AS (
    INSERT INTO {t} AS t ({cols}) SELECT {cols} FROM changed
    ON CONFLICT (id) DO UPDATE SET {sets} RETURNING (xmax = 0) AS is_new
), counted AS (
    SELECT count(*) FILTER (WHERE is_new) AS new,
        count(*) FILTER (WHERE NOT is_new) AS updated
    FROM saved
)""")
# Deleted posts are not stored again, and neither are retweets, which repeat their text. The first
# part is asked once per statement: without any tombstone no row is looked for.
NOT_DELETED = sql.SQL("""(
    NOT EXISTS (SELECT FROM crawl_tombstone)
    OR NOT EXISTS (
        SELECT FROM crawl_tombstone d WHERE d.tweet_id IN (r.id, r.retweeted_status_id)
    )
)""")
_LOAD = sql.SQL("""
WITH batch AS (
    SELECT *, id IN (SELECT unnest(%s::bigint[])) AS partial FROM import_stage r
    WHERE {not_deleted}
), {upserted} SELECT new{whole}, updated FROM counted
""")
_LOAD_PARTIAL = sql.SQL("""
WITH saved AS (
    INSERT INTO {t} ({cols}) SELECT {values} FROM import_stage r
    WHERE id = ANY(%s) AND {not_deleted} ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id
)
SELECT count(*) FROM saved
""")
_FORGET = sql.SQL("""
WITH counts AS (DELETE FROM crawl_metrics WHERE tweet_id = ANY(%(ids)s::bigint[])),
found AS (
    DELETE FROM crawl_found f USING crawl_target k
    WHERE k.kind = %(kind)s AND f.target_id = k.id AND f.tweet_id = ANY(%(ids)s::bigint[])
),
posts AS (DELETE FROM {t} WHERE id = ANY(%(ids)s::bigint[]) RETURNING id)
SELECT count(*) FROM posts
""")
_ROW_TYPES = sql.SQL(", ").join(
    sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL("text" if "char" in TYPES[c] else TYPES[c]))
    for c in COLUMNS
)
_BATCH = sql.SQL("""batch AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(rows)s::json) AS r({types})
    WHERE {not_deleted}
)""").format(types=_ROW_TYPES, not_deleted=NOT_DELETED)
_BATCH_MERGED = sql.SQL("""batch AS MATERIALIZED (
    SELECT *, id = ANY(%(partial)s::bigint[]) AS partial
    FROM json_to_recordset(%(rows)s::json) AS r({types})
    WHERE {not_deleted}
)""").format(types=_ROW_TYPES, not_deleted=NOT_DELETED)
# Dropped with its transaction: behind a pooler the next one may run on another connection
# to the server.
STAGE = (
    sql.SQL("CREATE TEMP TABLE import_stage ({}) ON COMMIT DROP").format(_ROW_TYPES).as_bytes(None)
)
STAGE_COPY = sql.SQL("COPY import_stage ({}) FROM STDIN").format(_names(COLUMNS))
# The row tells what the counts were, and the page of the author's timeline when: where the
# post came by another way, the time stays open.
_COUNTS_BEFORE = sql.SQL("""
INSERT INTO crawl_metrics (tweet_id, seen_at, like_count, retweet_count)
SELECT t.id, (
    SELECT max(p.fetched_at) FROM crawl_target k JOIN crawl_page p ON p.target_id = k.id
    WHERE k.kind = %(kind)s AND k.handle = lower(t.tweet_from)
    AND t.id BETWEEN p.oldest_id AND p.newest_id
), t.favorite_count, t.retweet_count
FROM {t} t
WHERE t.id = ANY(%(ids)s)
AND NOT EXISTS (SELECT FROM crawl_metrics m WHERE m.tweet_id = t.id)
ON CONFLICT DO NOTHING
""")
