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
from tweetcrawler.flatten import COLUMNS, CONTENT, LISTS, Partial
from tweetcrawler.pages import Batch, Bought, Saved
from tweetcrawler.postgres.budgets import NO_BUDGET, SPENT, spend, spend_parameters
from tweetcrawler.postgres.columns import TYPES
from tweetcrawler.postgres.connection import Connection
from tweetcrawler.postgres.names import table_named as table_named
from tweetcrawler.postgres.people import People
from tweetcrawler.targets import LEASE_S, SEARCH

# The error of `crawl_not_stored`: a row that is neither new nor stored.
NOT_STORED = "23000"


class Pages(People):
    """The pages of a session."""

    def __init__(self, conninfo: str, table: str, place: str, stopping: Callable[[], bool]) -> None:
        super().__init__(conninfo, table, place, stopping)
        self._save_new = save_new_statement(table)
        self._save_free = save_free_statement(table)
        self._news_come = True
        self._has_budget = False

    def save_page(self, run: int, bought: Bought) -> None:
        """Stores an answer of X that holds no posts of a target, such as a count."""

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                if insert_page(connection, run, bought):
                    spend(connection, run, bought)

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
                return self._saved_whole(connection, batch, given)
            except psycopg.errors.IntegrityConstraintViolation as error:
                # Of the class itself: `crawl_not_stored`. Some of the rows may have been saved
                # by another process in this moment, which the longer statement can tell.
                if not self._news_come or error.sqlstate != NOT_STORED:
                    raise
                self._news_come = False
                return self._saved_whole(connection, batch, given)

        saved = self.do(work)
        self.hear(batch.told)
        return saved

    def _saved_whole(
        self, connection: psycopg.Connection[Any], batch: Batch, given: dict[str, Any]
    ) -> Saved:
        # A page of X that does not tell all names is rare, and takes more than one statement.
        if not batch.told.waiting:
            return self._saved(connection, batch, given)
        with connection.transaction():
            saved = self._saved(connection, batch, given)
            self.note_waiting(connection, batch.told)
        return saved

    def _saved(
        self, connection: psycopg.Connection[Any], batch: Batch, given: dict[str, Any]
    ) -> Saved:
        self._has_budget = self._has_budget or batch.bought.reserved
        if not batch.rows:
            return save_without_rows(connection, given)
        first = _NOTHING
        if self._news_come and not batch.searched:
            save = self._save_new if self._has_budget else self._save_free
            first = saved_of(save.run(connection, given)) or _NOTHING
            if first.new == len(batch.rows):
                return first
        saved = self._merge(connection, given, batch)
        self._news_come = first.new + saved.new == len(batch.rows)
        # All were new, and the shorter statement saved none: some run has a budget.
        self._has_budget = self._has_budget or saved.new == len(batch.rows)
        return replace(saved, new=first.new + saved.new)

    def _merge(
        self,
        connection: psycopg.Connection[Any],
        given: Mapping[str, Any],
        batch: Batch,
        *,
        spends: bool = True,
    ) -> Saved:
        """Saves a page, whatever is stored of it. As one of several statements of a transaction
        it `spends` nothing: `spend` ends that.
        """
        partial = Partial in set(map(type, batch.rows))
        if partial:
            given = {**given, "partial": _partial_ids(batch.rows)}
        for deleted in (False, True):
            statement = save_statement(
                self.table, partial=partial, searched=batch.searched, deleted=deleted, spends=spends
            )
            saved = saved_of(statement.run(connection, given))
            if saved is not None:
                break
        return saved or _NOTHING

    def save_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Saves rows, each id once, whose pages are stored already."""
        # Without a table for the time of it: the role that crawls may make none.
        given = {
            "rows": Json(sorted(rows, key=itemgetter("id")), dumps=orjson.dumps),
            "partial": _partial_ids(rows),
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


_NOTHING = Saved(0, 0, leased=False)


def insert_page(connection: psycopg.Connection[Any], run: int, bought: Bought) -> bool:
    """Stores an answer in a transaction that is under way; False if it was stored before."""
    inserted = connection.execute(
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
    return inserted.rowcount == 1


def save_parameters(run: int, owner: str, batch: Batch, keep_body: bool) -> dict[str, Any]:
    bought = batch.bought
    ids = list(map(_ID_OF, batch.rows))
    repeated = filter(None, map(_REPEATED_BY, batch.rows))
    return {
        **spend_parameters(run, bought),
        "rows": Json(list(batch.rows), dumps=_as_json),
        "target": batch.target,
        "endpoint": bought.endpoint,
        "params": Jsonb(dict(bought.params)),
        "credential": bought.credential,
        "users": bought.users,
        "ids": _as_array(ids),
        "repeated": _as_array([*ids, *repeated]),
        "newest": max(ids, default=None),
        "oldest": min(ids, default=None),
        "refused": Jsonb([{"id": i, "reason": reason} for i, reason in batch.refused])
        if batch.refused
        else None,
        "body": compressed(bought.body) if keep_body else None,
        "covered": coverage.to_text(batch.known),
        "unreachable": coverage.to_text([batch.unreachable] if batch.unreachable else []),
        "unreachable_reason": batch.unreachable_reason or None,
        "username": batch.username,
        "account_posts": batch.account_posts,
        "owner": owner,
        "lease": LEASE_S,
    }


def _as_json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    made = orjson.dumps(rows)
    for absent in _ABSENT:
        made = made.replace(absent, b"")
    return made


# Columns that most rows have none of: PostgreSQL takes as long for the key of a NULL as for a
# value. No text is taken for them, since its quotes are escaped in JSON.
_ABSENT = tuple(
    b"".join(b',"%s":null' % name.encode() for name in COLUMNS if name.startswith(part))
    for part in ("in_reply_to_", "retweeted_status_", "sentiment")
)
_ID_OF, _REPEATED_BY = itemgetter("id"), itemgetter("retweeted_status_id")


def _partial_ids(rows: Iterable[Mapping[str, Any]]) -> str:
    return _as_array(row["id"] for row in rows if isinstance(row, Partial))


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
def save_statement(
    table: str,
    *,
    partial: bool = False,
    searched: bool = False,
    deleted: bool = False,
    spends: bool = True,
) -> _Numbered:
    """One statement, so one transaction and one round trip.

    Only rows that are new or differ are written: a page that is saved again writes nothing.
    The rows are sorted by id before they are written, so that two writers of the same ids
    never wait for each other in a ring.

    Each statement is planned when it is run, so it has only what its page needs: `partial`
    rows, posts that were `searched`, posts that are `deleted`. Without the last it saves
    nothing if any post of the page is deleted.
    """
    batch = _BATCH.format(
        partial=_PARTIAL if partial else sql.SQL(""),
        types=_ROW_TYPES,
        kept=_NOT_DELETED if deleted else _NONE_DELETED,
    )
    only_if = sql.SQL("" if deleted else "HAVING EXISTS (SELECT FROM batch)")
    merged = sql.SQL("{}, {}, {}").format(
        batch, _upserted(table, partial=partial), _COUNTED.format(only_if=only_if)
    )
    return _page_statement(merged, found=searched, whole=_ALL_CHANGED, spends=spends)


@cache
def save_new_statement(table: str) -> _Numbered:
    """A shorter statement for a page whose posts are all new. Saves nothing if any of them is
    stored or deleted.

    Fails with `NOT_STORED` when another process writes some of the rows at the same moment.
    """
    return _page_statement(_new_only(table, when=sql.SQL("true")))


@cache
def save_free_statement(table: str) -> _Numbered:
    """The same without budgets, in less time. Saves nothing if any run has one."""
    return _page_statement(_new_only(table, when=NO_BUDGET), spends=False)


def _new_only(table: str, *, when: sql.Composable) -> sql.Composed:
    batch = _BATCH.format(partial=sql.SQL(""), types=_ROW_TYPES, kept=_NONE_DELETED)
    saved = _SAVED_NEW.format(
        t=table_named(table), cols=_names(COLUMNS), values=_inserted(), when=when
    )
    return sql.SQL("{}, {}").format(batch, saved)


@cache
def rows_statement(table: str) -> _Numbered:
    """The rows of a batch without a page."""
    batch = _BATCH.format(partial=_PARTIAL, types=_ROW_TYPES, kept=_NOT_DELETED)
    statement = sql.SQL("WITH {}, {}, {} SELECT new FROM counted")
    counted = _COUNTED.format(only_if=sql.SQL(""))
    return _Numbered(statement.format(batch, _upserted(table, partial=True), counted))


def save_without_rows(
    connection: psycopg.Connection[Any], given: Mapping[str, Any], *, spends: bool = True
) -> Saved:
    """Saves a page alone, with what it covers."""
    return saved_of(_save_empty_statement(spends).run(connection, given)) or _NOTHING


@cache
def _save_empty_statement(spends: bool) -> _Numbered:
    # To plan the rest is most of the work.
    counted = sql.SQL("counted AS (SELECT 0::bigint AS new, 0::bigint AS updated)")
    return _page_statement(counted, spends=spends)


def _page_statement(
    counted: sql.Composable,
    *,
    found: bool = False,
    whole: sql.SQL | None = None,
    spends: bool = True,
) -> _Numbered:
    """`counted` gives the number of rows that were saved as `counted` (new, updated); without
    it nothing is saved.

    With `found` it gives the rows as `batch`, too, and they are noted as found by a search.
    `whole` makes it an error when a row is not saved that must be.
    """
    none = sql.SQL("")
    return _Numbered(
        _PAGE.format(
            counted=counted,
            found=_FOUND if found else none,
            spent=_PAGE_SPENT if spends else none,
            whole=whole or none,
        )
    )


def saved_of(answer: psycopg.RawCursor[Any]) -> Saved | None:
    """The answer of a statement that saves a page; None when it saved nothing of it."""
    row = answer.fetchone()
    return Saved(row[0], row[1], bool(row[2]), again=row[3]) if row else None


@cache
def counts_before_statement(table: str) -> bytes:
    """The counts of stored posts into `crawl_metrics`, before the first others of each."""
    return _COUNTS_BEFORE.format(t=table_named(table)).as_bytes(None)


@cache
def load_statement(table: str, *, archived: bool) -> bytes:
    """The rows of the stage into the table: how many were new, and how many others changed."""
    upserted = _upserted(table, partial=True, archived=archived)
    counted = _COUNTED.format(only_if=sql.SQL(""))
    return _LOAD.format(upserted=upserted, counted=counted, whole=_ALL_CHANGED).as_bytes(None)


@cache
def load_partial_statement(table: str) -> bytes:
    """Those of the given ids that the table lacks, out of the stage into the table: how
    many there were.

    No look beforehand tells what another process is about to write; a conflict does. After
    this statement every partial row is stored, and can be compared.
    """
    made = _LOAD_PARTIAL.format(t=table_named(table), cols=_names(COLUMNS), values=_inserted())
    return made.as_bytes(None)


def _upserted(table: str, *, partial: bool, archived: bool = False) -> sql.Composed:
    """The part that saves the rows of `batch`, and gives `saved` (is_new).

    `batch` has the columns of the rows and, with `partial`, one of that name. Rows that are
    `archived` may be older than what is stored: an empty list of theirs takes no list away.
    Another process may be saving the same post, and a row that is new to both is then
    inserted with `{}`.
    """
    comma, merge = sql.SQL(", "), sql.SQL("{} AS {}, t.{} AS {}")
    names = {c: (sql.Identifier(c), sql.Identifier(f"t{n}")) for n, c in enumerate(COLUMNS)}
    return _UPSERTED.format(
        t=table_named(table),
        merged=comma.join(
            merge.format(_merged(c, partial, archived), name, name, before)
            for c, (name, before) in names.items()
        ),
        cols=_names(COLUMNS),
        stored=comma.join(before for _, before in names.values()),
        stored_id=names["id"][1],
        sets=comma.join(_set(c, archived) for c in COLUMNS if c != "id"),
    )


def _merged(column: str, partial: bool, archived: bool) -> sql.Composed:
    """The value of a column of a row `b` over that of the stored row `t`.

    Absent is not empty: NULL says nothing of a value. Only a batch that has partial rows
    takes the time to look for them.
    """
    name = sql.Identifier(column)
    if column == "id" or (partial and column == "sentiment"):
        return (_GIVEN if column == "id" else _MERGED_SCORE).format(name)
    parts = [_GIVEN, _STORED]
    if column == "retweeted_status_url" or (archived and column in LISTS - _MENTIONS):
        parts = [_NOT_EMPTY, _STORED, _GIVEN]
    if column in LISTS:
        parts.append(_NONE)
    if column in _MENTIONS:
        parts.insert(0, _KNOWN_MENTIONS if partial else _MORE_MENTIONS)
    elif partial and column in CONTENT:
        parts.insert(0, _KNOWN_TEXT if column in _TEXTS else _KNOWN_LIST)
    return sql.SQL("coalesce({})").format(sql.SQL(", ").join(part.format(name) for part in parts))


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
){found}{spent}
SELECT new{whole}, updated, (SELECT leased FROM target), NOT EXISTS (SELECT FROM page)
FROM counted
""")
_PAGE_SPENT = sql.SQL(", {}").format(SPENT.format(when=sql.SQL("EXISTS (SELECT FROM page)")))
_FOUND = sql.SQL(""", found AS (
    INSERT INTO crawl_found (target_id, tweet_id)
    SELECT %(target)s::bigint, id FROM batch ORDER BY id ON CONFLICT DO NOTHING
)""")
_SAVED_NEW = sql.SQL("""saved AS (
    INSERT INTO {t} ({cols}) SELECT {values} FROM batch
    WHERE NOT EXISTS (SELECT FROM {t} WHERE id = ANY(%(ids)s::bigint[])) AND {when}
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
# In a coalesce of what is known of a column. A partial row fills what is not known, and a new
# row without a list holds an empty one.
_GIVEN, _STORED = sql.SQL("b.{0}"), sql.SQL("t.{0}")
_NONE = sql.SQL("CASE WHEN t.id IS NULL THEN '{{}}' END")
# The links of a retweeted post are empty also where its entities were left out.
_NOT_EMPTY = sql.SQL("nullif(b.{0}, '{{}}')")
_TEXTS = {"text", "retweeted_status_text"}
_KNOWN_TEXT = sql.SQL("CASE WHEN b.partial THEN t.{0} END")
_KNOWN_LIST = sql.SQL("CASE WHEN b.partial THEN nullif(t.{0}, '{{}}') END")
# A shorter list of mentions is one whose retweeted post was trimmed. Both columns are kept,
# since their elements belong together.
_MENTIONS = {"user_mentions_id", "user_mentions_name"}
_MORE_MENTIONS = sql.SQL("""
    CASE WHEN octet_length(t.user_mentions_id) > octet_length(b.user_mentions_id) THEN t.{0} END""")
_KNOWN_MENTIONS = sql.SQL("""
    CASE WHEN b.partial AND t.user_mentions_id <> '{{}}'
        OR octet_length(t.user_mentions_id) > octet_length(b.user_mentions_id) THEN t.{0} END""")
# The score belongs to its text.
_MERGED_SCORE = sql.SQL("""
    CASE WHEN b.partial AND t.text IS NOT NULL THEN t.{0} ELSE coalesce(b.{0}, t.{0}) END""")
# `xmax` is 0 in a row that was inserted and not updated: the one sign that PostgreSQL gives
# of what ON CONFLICT did. OFFSET keeps the planner from putting each merge in twice, which
# takes longer than to merge the rows of a page.
_UPSERTED = sql.SQL("""merged AS (
    SELECT {merged} FROM batch b LEFT JOIN {t} t ON t.id = b.id OFFSET 0
), changed AS (
    SELECT {cols} FROM merged
    WHERE {stored_id} IS NULL OR ({cols}) IS DISTINCT FROM ({stored}) ORDER BY id
), saved AS (
    INSERT INTO {t} AS t ({cols}) SELECT {cols} FROM changed
    ON CONFLICT (id) DO UPDATE SET {sets} RETURNING (xmax = 0) AS is_new
)""")
_COUNTED = sql.SQL("""counted AS (
    SELECT count(*) FILTER (WHERE is_new) AS new,
        count(*) FILTER (WHERE NOT is_new) AS updated
    FROM saved {only_if}
)""")
_LOAD = sql.SQL("""
WITH batch AS (
    SELECT *, id IN (SELECT unnest(%s::bigint[])) AS partial FROM import_stage
), {upserted}, {counted} SELECT new{whole}, updated FROM counted
""")
_LOAD_PARTIAL = sql.SQL("""
WITH saved AS (
    INSERT INTO {t} ({cols}) SELECT {values} FROM import_stage
    WHERE id = ANY(%s) ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id
)
SELECT count(*) FROM saved
""")
_FORGET = sql.SQL("""
WITH counts AS (DELETE FROM crawl_metrics WHERE tweet_id = ANY(%(ids)s::bigint[])),
waiting AS (DELETE FROM crawl_waiting_name WHERE tweet_id = ANY(%(ids)s::bigint[])),
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
    SELECT *{partial} FROM json_to_recordset(%(rows)s::json) AS r({types}) WHERE {kept}
)""")
_PARTIAL = sql.SQL(", id = ANY(%(partial)s::bigint[]) AS partial")
# Deleted posts are not stored again, and neither are retweets, which repeat their text. A look
# for each row takes a twentieth of a save: it is for the few pages in which some are found.
_NONE_DELETED = sql.SQL("""
    NOT EXISTS (SELECT FROM crawl_tombstone WHERE tweet_id = ANY(%(repeated)s::bigint[]))""")
_NOT_DELETED = sql.SQL("""
    NOT EXISTS (
        SELECT FROM crawl_tombstone WHERE tweet_id IN (r.id, r.retweeted_status_id)
    )""")
# Dropped with its transaction: behind a pooler the next one may run on another connection
# to the server.
STAGE = (
    sql.SQL("CREATE TEMP TABLE import_stage ({}) ON COMMIT DROP").format(_ROW_TYPES).as_bytes(None)
)
# Before the first look at the rows of the stage.
UNSTAGE_DELETED: LiteralString = """
DELETE FROM import_stage WHERE id IN (
    SELECT s.id FROM crawl_tombstone d JOIN import_stage s ON s.id = d.tweet_id
    UNION ALL
    SELECT s.id FROM crawl_tombstone d JOIN import_stage s ON s.retweeted_status_id = d.tweet_id
)
"""
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
