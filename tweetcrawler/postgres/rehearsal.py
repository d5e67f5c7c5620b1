"""A rehearsal before anything is bought: invented posts are saved with the statements of a run
and taken back, and what the table has against them becomes a sentence.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tweetcrawler.errors import ConfigurationError, DatabaseError, TweetcrawlerError
from tweetcrawler.flatten import flatten
from tweetcrawler.ids import id_at
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.postgres.connection import Connected, first_line, passes
from tweetcrawler.postgres.names import quoted, table_named
from tweetcrawler.postgres.pages import (
    save_new_statement,
    save_parameters,
    save_statement,
    saved_of,
)


class Rehearsals(Connected):
    """The rehearsals of a session."""

    def rehearse(self, *, scored: bool) -> None:
        """Saves invented posts, and takes them back; `scored` with a sentiment.

        **Errors**: `ConfigurationError` for a table that does not take them, `DatabaseError`
        for a missing right.
        """

        def work(connection: psycopg.Connection[Any]) -> None:
            self._check_rights(connection)
            try:
                stored = _rehearsed(connection, self.table, scored)
            except psycopg.Error as error:
                is_key = isinstance(error, psycopg.errors.UniqueViolation)
                if passes(error) and not is_key:
                    raise
                raise self._refusal(connection, error) from None
            if not stored:
                raise self._drops_rows(connection)

        self.do(work)

    def _check_rights(self, connection: psycopg.Connection[Any]) -> None:
        lacking = connection.execute(_RIGHTS, {"t": quoted(self.table), "ours": _OURS}).fetchall()
        if lacking:
            name, rights, role = lacking[0]
            raise DatabaseError(
                f"permission denied for the table {name}: its owner gives the role its rights with "
                f"`GRANT {rights} ON {name} TO {role}`; nothing was bought"
            )

    def _refusal(
        self, connection: psycopg.Connection[Any], error: psycopg.Error
    ) -> TweetcrawlerError:
        diag, table = error.diag, quoted(self.table)
        statement, sentence = _FIXED.get(error.sqlstate or "", (None, _OTHER))
        if error.sqlstate == _CHECK and diag.constraint_name is None:
            sentence = _NO_PARTITION
        names = []
        if statement is not None:
            names = [row[0] for row in connection.execute(statement, {"t": table}).fetchall()]
            sentence = sentence if names else _OTHER
        given = [self.table.split("."), diag.table_name, diag.column_name, diag.constraint_name]
        shown = connection.execute(_SHOWN, given).fetchone() or [""] * 4
        facts = dict(zip(("t", "of", "column", "constraint"), shown, strict=True))
        facts |= {"names": ", ".join(names), "first": names[0] if names else ""}
        facts |= {"said": first_line(error), "id": str(_new_id())}
        kind = DatabaseError if error.sqlstate == _NO_RIGHT else ConfigurationError
        return kind(f"{sentence.format(**facts)}; nothing was bought")

    def _drops_rows(self, connection: psycopg.Connection[Any]) -> ConfigurationError:
        rows = connection.execute(_TRIGGERS, {"t": quoted(self.table)}).fetchall()
        names = ", ".join(row[0] for row in rows) or "a policy"
        return ConfigurationError(
            f"the table {self.table} leaves out posts that are saved: change what does that "
            f"({names}) so that it keeps every row; nothing was bought"
        )


def _rehearsed(connection: psycopg.Connection[Any], table: str, scored: bool) -> bool:
    """Whether invented posts were stored: as new ones, and with other counts."""
    rows = flatten(_answer(_new_id()), score=(lambda _: 0.5) if scored else None).rows
    # Of a number that no run has, so that the rehearsal leaves no gap between them.
    run = -(uuid.uuid4().int >> 66)
    batch = Batch(None, Bought("/rehearsal", {}, "none", b"{}"), rows)
    changed = replace(
        batch,
        bought=Bought("/rehearsal", {}, "none", b"{}"),
        rows=[row | {"favorite_count": 7} for row in rows],
    )
    new_, merge = save_new_statement(table), save_statement(table)
    stored = sql.SQL("SELECT count(*) FROM {} WHERE id = ANY(%s)").format(table_named(table))
    with connection.transaction(force_rollback=True):
        connection.execute(_RUN, [run])
        first = saved_of(new_.run(connection, save_parameters(run, "", batch, keep_body=True)))
        merge.run(connection, save_parameters(run, "", changed, keep_body=True))
        # What would be checked at the end of the transaction is checked now.
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        found = connection.execute(stored, [[row["id"] for row in rows]]).fetchone()
    is_new = first is not None and first.new == len(rows)
    return is_new and found is not None and found[0] == len(rows)


def _answer(newest: int) -> Mapping[str, Any]:
    """An answer of X with a plain post, and a reply that retweets, with all that a post has."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    name, link = "a_name_of_15_ch", {"url": "https://t.co/1", "expanded_url": "https://e.com/" * 9}
    counts = {"like_count": 1, "retweet_count": 2, "reply_count": 3, "quote_count": 4}
    full = {
        "hashtags": [{"tag": "rehearsal"}],
        "urls": [link],
        "mentions": [{"id": "12", "username": name}],
    }

    def post(number: int, **more: Any) -> dict[str, Any]:
        plain = {"id": str(newest - number), "author_id": "12", "created_at": at, "lang": "en"}
        text = f"an invented post {number} ".ljust(280, ".")
        return {**plain, "text": text, "public_metrics": counts, "source": "rehearsal", **more}

    refers = [{"type": "retweeted", "id": str(newest - 2)}]
    refers.append({"type": "replied_to", "id": str(newest - 3)})
    return {
        "data": [
            post(0),
            post(1, entities=full, in_reply_to_user_id="12", referenced_tweets=refers),
        ],
        "includes": {
            "users": [{"id": "12", "username": name, "name": "a name"}],
            "tweets": [post(2, entities=full), post(3)],
        },
    }


def _new_id() -> int:
    """An id of this moment."""
    return id_at(int(datetime.now(UTC).timestamp() * 1000)) + (uuid.uuid4().int & 0x3FFFFF)


_CHECK, _NO_RIGHT = "23514", "42501"
_RUN: LiteralString = """
INSERT INTO crawl_run (id, version, arguments, host) OVERRIDING SYSTEM VALUE
VALUES (%s, 'rehearsal', '{}', '')
"""
# The table of the posts, and those of the program that a run writes to.
_OURS = [
    "crawl_run",
    "crawl_target",
    "crawl_target_count",
    "crawl_page",
    "crawl_refused",
    "crawl_table",
    "crawl_found",
    "crawl_trend",
    "crawl_lookup",
    "crawl_metrics",
    "crawl_budget",
    "crawl_reserved",
    "crawl_user",
    "crawl_waiting_name",
    "api_credential",
    "api_bucket",
]
_RIGHTS: LiteralString = """
SELECT c.oid::regclass::text, string_agg(r.name, ', ' ORDER BY r.at), quote_ident(current_user)
FROM pg_class c,
    (VALUES (1, 'SELECT'), (2, 'INSERT'), (3, 'UPDATE'), (4, 'DELETE')) AS r(at, name)
WHERE NOT has_table_privilege(c.oid, r.name) AND (
    (c.oid = to_regclass(%(t)s) AND r.name <> 'DELETE')
    OR (c.relname = ANY(%(ours)s) AND pg_table_is_visible(c.oid))
)
GROUP BY c.oid ORDER BY 1 LIMIT 1
"""
# Names as a statement needs them.
_SHOWN: LiteralString = """
SELECT (SELECT string_agg(quote_ident(p), '.' ORDER BY n)
        FROM unnest(%s::text[]) WITH ORDINALITY AS u(p, n)),
    quote_ident(%s), quote_ident(%s), quote_ident(%s)
"""
_COLUMNS_MADE: LiteralString = """
SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = to_regclass(%(t)s)
AND attnum > 0 AND NOT attisdropped AND (attidentity = 'a' OR attgenerated <> '')
"""
_COLUMNS_SHORT: LiteralString = """
SELECT quote_ident(attname) || ' ' || format_type(atttypid, atttypmod)
FROM pg_attribute WHERE attrelid = to_regclass(%(t)s)
AND attnum > 0 AND NOT attisdropped AND atttypmod > 0
"""
_KEYS: LiteralString = """
SELECT quote_ident(conname) FROM pg_constraint
WHERE conrelid = to_regclass(%(t)s) AND condeferrable AND contype IN ('p', 'u')
"""
_TRIGGERS: LiteralString = """
SELECT 'trigger ' || quote_ident(tgname) AS one FROM pg_trigger
WHERE tgrelid = to_regclass(%(t)s) AND NOT tgisinternal AND tgenabled <> 'D'
UNION SELECT 'rule ' || quote_ident(rulename) FROM pg_rewrite
WHERE ev_class = to_regclass(%(t)s) AND rulename <> '_RETURN' ORDER BY one
"""
_OTHER = "the table {t} does not take an invented post ({said}): change it so that it does"
_NO_PARTITION = (
    "the table {t} has no partition for a post of today (id {id}): add one, for example with "
    "`CREATE TABLE … PARTITION OF {t} DEFAULT`"
)
_CONSTRAINT = (
    "the table {t} does not take a post, by its constraint {constraint} on {of}: drop it with "
    "`ALTER TABLE {of} DROP CONSTRAINT {constraint}`, or loosen it"
)
# By SQLSTATE: what else must be known of the table, and the sentence.
_FIXED: Mapping[str, tuple[LiteralString | None, str]] = {
    _CHECK: (None, _CONSTRAINT),
    "23503": (None, _CONSTRAINT),
    "23505": (None, _CONSTRAINT),
    "23P01": (None, _CONSTRAINT),
    "23502": (
        None,
        (
            "the column {column} of {of} must not be NULL, and most posts have nothing there: "
            "`ALTER TABLE {of} ALTER COLUMN {column} DROP NOT NULL`, or give it a default if it is "
            "your own"
        ),
    ),
    "428C9": (
        _COLUMNS_MADE,
        (
            "the table {t} makes values of {names} itself, and a post brings its own: drop that "
            "with `ALTER TABLE {t} ALTER COLUMN {first} DROP IDENTITY` (or DROP EXPRESSION)"
        ),
    ),
    "22001": (
        _COLUMNS_SHORT,
        (
            "a column of {t} is too short for a post ({names}): give it its length back with "
            "`ALTER TABLE {t} ALTER COLUMN … TYPE varchar`"
        ),
    ),
    "55000": (
        _KEYS,
        (
            "the key {names} of {t} is deferrable, so that a stored post is not found by it: make "
            "it again without DEFERRABLE"
        ),
    ),
    "42P10": (
        None,
        "the table {t} has no unique key on id alone: `ALTER TABLE {t} ADD PRIMARY KEY (id)`",
    ),
    "42703": (None, "the table {t} lacks a column ({said}): add it"),
    _NO_RIGHT: (None, "the role may not write posts ({said}): its rights come from the owner"),
    "P0001": (
        _TRIGGERS,
        "the table {t} does not take a post ({said}): change {names} so that it does",
    ),
    "23000": (
        _TRIGGERS,
        "the table {t} leaves out posts that are saved: change {names} so that it keeps every row",
    ),
}
