"""The statements that save a page: its rows, itself, and the coverage it adds, in one round
trip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
import psycopg
import zstandard
from psycopg import sql
from psycopg.types.json import Json, Jsonb

from tweetcrawler import coverage
from tweetcrawler.flatten import COLUMNS, KEPT
from tweetcrawler.pages import Batch, Bought, Saved
from tweetcrawler.targets import LEASE_S

_TYPES = {
    **dict.fromkeys(COLUMNS, "text"),
    **dict.fromkeys(
        (
            "id",
            "favorite_count",
            "in_reply_to_user_id",
            "in_reply_to_status_id",
            "retweet_count",
            "retweeted_status_id",
        ),
        "bigint",
    ),
    "sentiment": "numeric",
}


def insert_page(connection: psycopg.Connection[Any], run: int, bought: Bought) -> None:
    connection.execute(
        "INSERT INTO crawl_page (id, run_id, endpoint, params, credential, post_count, user_count, new_count, "
        "updated_count, body) VALUES (%s, %s, %s, %s, %s, %s, %s, 0, 0, %s) ON CONFLICT (id) DO NOTHING",
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
        "ids": "{" + ",".join(map(str, ids)) + "}",
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
    The row is sorted by id before it is written, so that two writers of the same ids never
    wait for each other in a ring.
    """
    return _page_statement(sql.SQL("{}, {}").format(_BATCH, _upserted(table)), found=True)


@cache
def save_new_statement(table: str) -> _Numbered:
    """The same for a page of which nothing is stored yet, with less to plan; of any other
    it saves nothing.

    Rows that another process writes at the same moment are left to it, so that fewer are
    counted than there are.
    """
    saved = sql.SQL(
        "saved AS (INSERT INTO {t} ({cols}) SELECT {cols} FROM batch "
        "WHERE NOT EXISTS (SELECT FROM {t} WHERE id = ANY(%(ids)s::bigint[])) ORDER BY id "
        "ON CONFLICT (id) DO NOTHING RETURNING id), "
        "counted AS (SELECT count(*) AS new, 0::bigint AS updated FROM saved HAVING count(*) > 0)"
    ).format(
        t=sql.Identifier(*table.split(".")), cols=sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    )
    return _page_statement(sql.SQL("{}, {}").format(_BATCH, saved))


@cache
def save_empty_statement() -> _Numbered:
    """The same for a page without rows: to plan what would be done with them is most of the
    work.
    """
    return _page_statement(sql.SQL("counted AS (SELECT 0::bigint AS new, 0::bigint AS updated)"))


def _page_statement(counted: sql.Composable, *, found: bool = False) -> _Numbered:
    """`counted` gives what became of the rows as `counted` (new, updated); without it
    nothing is saved.

    With `found` it gives them as `batch`, too, and they are noted as found by a search,
    when it was one.
    """
    composed = sql.SQL(
        "WITH {counted}, "
        "page AS (INSERT INTO crawl_page (id, run_id, target_id, endpoint, params, credential, post_count, "
        "user_count, new_count, updated_count, newest_id, oldest_id, refused, body) "
        "SELECT %(page)s, %(run)s, %(target)s::bigint, %(endpoint)s, %(params)s, %(credential)s, %(posts)s, "
        "%(users)s, new, updated, %(newest)s::bigint, %(oldest)s::bigint, %(refused)s, %(body)s FROM counted "
        "ON CONFLICT (id) DO NOTHING RETURNING id), "
        "target AS (UPDATE crawl_target SET covered = covered + %(covered)s::int8multirange, "
        "unreachable = unreachable + %(unreachable)s::int8multirange "
        "- (covered + %(covered)s::int8multirange), "
        "unreachable_reason = CASE WHEN unreachable + %(unreachable)s::int8multirange "
        "<@ covered + %(covered)s::int8multirange THEN '' "
        "ELSE coalesce(%(unreachable_reason)s, unreachable_reason) END, "
        "username = coalesce(%(username)s, username), "
        "account_posts = coalesce(%(account_posts)s, account_posts), "
        "post_count = post_count + CASE WHEN EXISTS (SELECT FROM page) THEN %(posts)s ELSE 0 END, "
        "lease_until = CASE WHEN lease_owner = %(owner)s "
        "THEN clock_timestamp() + %(lease)s * interval '1 s' ELSE lease_until END "
        "WHERE id = %(target)s::bigint AND EXISTS (SELECT FROM counted) "
        "RETURNING lease_owner = %(owner)s AS leased){found} "
        "SELECT new, updated, (SELECT leased FROM target) FROM counted"
    ).format(counted=counted, found=sql.SQL(_FOUND if found else ""))
    return _Numbered(composed)


_FOUND = (
    ", found AS (INSERT INTO crawl_found (target_id, tweet_id) SELECT %(target)s::bigint, id FROM batch "
    "WHERE %(searched)s::boolean ORDER BY id ON CONFLICT DO NOTHING)"
)


def saved_of(answer: psycopg.RawCursor[Any]) -> Saved:
    row = answer.fetchone()
    return Saved(row[0], row[1], bool(row[2])) if row else Saved(0, 0, leased=False)


@cache
def load_statement(table: str) -> bytes:
    """The rows of the stage into the table: how many were new, and how many others changed."""
    composed = sql.SQL(
        "WITH batch AS (SELECT * FROM import_stage), {upserted} SELECT new, updated FROM counted"
    ).format(upserted=_upserted(table))
    return composed.as_bytes(None)


@cache
def load_cut_statement(table: str) -> bytes:
    """Those of the given ids that the table lacks, out of the stage into the table: how
    many there were.

    No look beforehand tells what another process is about to write; a conflict does.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    return (
        sql.SQL(
            "WITH cut AS (DELETE FROM import_stage WHERE id = ANY(%s) RETURNING *), "
            "saved AS (INSERT INTO {t} ({cols}) SELECT {cols} FROM cut ORDER BY id "
            "ON CONFLICT (id) DO NOTHING RETURNING id) SELECT count(*) FROM saved"
        )
        .format(t=sql.Identifier(*table.split(".")), cols=columns)
        .as_bytes(None)
    )


def _upserted(table: str) -> sql.Composed:
    """The part that saves the rows of `batch`, and gives `counted` (new, updated)."""
    merged = {c: sql.SQL("coalesce(b.{0}, t.{0})" if c in KEPT else "b.{0}") for c in COLUMNS}
    return sql.SQL(
        "merged AS (SELECT {merged_as}, t.id IS NULL OR ({merged}) IS DISTINCT FROM ({t_cols}) AS differs "
        "FROM batch b LEFT JOIN {t} t ON t.id = b.id), "
        "changed AS (SELECT {cols} FROM merged WHERE differs ORDER BY id), "
        "saved AS (INSERT INTO {t} AS t ({cols}) SELECT {cols} FROM changed "
        "ON CONFLICT (id) DO UPDATE SET {sets} RETURNING (xmax = 0) AS is_new), "
        "counted AS (SELECT count(*) FILTER (WHERE is_new) AS new, count(*) FILTER (WHERE NOT is_new) AS updated "
        "FROM saved)"
    ).format(
        t=sql.Identifier(*table.split(".")),
        merged=sql.SQL(", ").join(part.format(sql.Identifier(c)) for c, part in merged.items()),
        merged_as=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(part.format(sql.Identifier(c)), sql.Identifier(c))
            for c, part in merged.items()
        ),
        cols=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
        t_cols=sql.SQL(", ").join(sql.Identifier("t", c) for c in COLUMNS),
        sets=sql.SQL(", ").join(
            sql.SQL(
                "{0} = coalesce(excluded.{0}, t.{0})" if c in KEPT else "{0} = excluded.{0}"
            ).format(sql.Identifier(c))
            for c in COLUMNS
            if c != "id"
        ),
    )


_ROW_TYPES = sql.SQL(", ").join(
    sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(_TYPES[c])) for c in COLUMNS
)
_BATCH = sql.SQL(
    "batch AS MATERIALIZED (SELECT * FROM json_to_recordset(%(rows)s::json) AS r({}))"
).format(_ROW_TYPES)
# Dropped with its transaction: behind a pooler the next one may run on another connection
# to the server.
STAGE = (
    sql.SQL("CREATE TEMP TABLE import_stage ({}) ON COMMIT DROP").format(_ROW_TYPES).as_bytes(None)
)
STAGE_COPY = sql.SQL("COPY import_stage ({}) FROM STDIN").format(
    sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
)
