"""PostgreSQL: the only module that knows a query, and the only user of psycopg and alembic.

A `Database` is an address; a `Session` is one connection, opened for one handle and closed after it. Every
method of a session is one transaction that may be repeated without effect, so a session outlives a restart
of the server: it connects again and repeats what was under way.
"""

from __future__ import annotations

import logging
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from datetime import date
from functools import cache, cached_property, lru_cache
from pathlib import Path
from string import Formatter
from typing import Any, LiteralString, NamedTuple, TypeVar, cast

import orjson
import psycopg
import zstandard
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb
from psycopg.waiting import Wait

from tweetcrawler import budget, coverage, queries, settings
from tweetcrawler.accounts import Known, Purchase, Reserved, Run, Usage, Window, usage_of
from tweetcrawler.batch import (
    SEARCH,
    TIMELINE,
    Absent,
    Batch,
    Bought,
    Claim,
    Found,
    Gone,
    Lookup,
    Metrics,
    NoNews,
    Place,
    Saved,
    Target,
    Trend,
)
from tweetcrawler.budget import Grant, Limits, Room, Want
from tweetcrawler.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseNotMigrated,
    DatabaseUnreachable,
)
from tweetcrawler.flatten import COLUMNS, KEPT
from tweetcrawler.identity import is_gone
from tweetcrawler.prices import Tariff
from tweetcrawler.windows import Bucket

# The revision of `migrations/` that this program was written for.
SCHEMA = "0001"
LEASE_S = 60.0
# A server that restarts or fails over is waited for; one that is gone for longer ends the run.
PATIENCE_S = 300.0

Key = tuple[str, str]
T = TypeVar("T")
log = logging.getLogger(__name__)

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
_BUCKET_COLUMNS = [f.name for f in fields_of(Bucket)]
_BUCKET_TIMES = {"reset_at", "day_reset_at", "blocked_until", "next_at", "shut_at", "shut_until"}


# A line that broke without a word is noticed after half a minute; by itself the kernel takes hours.
_LINE: dict[str, str | int] = {
    "application_name": "tweetcrawler",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


class _Connection(psycopg.Connection[Any]):
    """A connection whose next statement leaves time: `meanwhile` is called once it is sent, while the server works."""

    meanwhile: Callable[[], object] | None = None

    def wait(self, gen: PQGen[T], *limits: Any, **named_limits: Any) -> T:
        meanwhile, self.meanwhile = self.meanwhile, None
        return super().wait(gen if meanwhile is None else _used(gen, meanwhile), *limits, **named_limits)


def _used(statement: PQGen[T], meanwhile: Callable[[], object]) -> PQGen[T]:
    """The same statement on its way to the server and back; what waits for nothing but an answer is sent."""
    ready: Any = None
    left: Callable[[], object] | None = meanwhile
    while True:
        try:
            waits_for = statement.send(ready)
        except StopIteration as end:
            return cast("T", end.value)
        if left is not None and waits_for == Wait.R:
            left()
            left = None
        ready = yield waits_for


def connect(conninfo: str) -> _Connection:
    """One connection, in autocommit, with nothing that a pooler between us and the server would mind."""
    return _Connection.connect(_complete(conninfo), autocommit=True, prepare_threshold=None)


@lru_cache(maxsize=8)
def _complete(conninfo: str) -> str:
    # What the operator says of the line wins.
    return make_conninfo("", **{**_LINE, **conninfo_to_dict(conninfo)})


@dataclass(frozen=True)
class Column:
    """A column that is read: its name, and what its values are.

    `kind` is "id", "whole", "number", "truth", "time", "date", "json" or "text"; `is_list` says that a value is
    a list of such, in which any may be None.
    """

    name: str
    kind: str
    is_list: bool = False


class Condition(NamedTuple):
    """A filter by its name in `FILTERS`, and its value of the type that the filter compares with."""

    name: str
    value: Any


@dataclass(frozen=True)
class ImportState:
    """How far a file was imported, and what it held up to there.

    `position` is (members of a tar, bytes, lines) that are done; `posts` had a row, `new` and `updated` of them
    changed the table; `others` counts by name what gave no row.
    """

    id: int
    position: tuple[int, int, int]
    posts: int
    new: int
    updated: int
    others: Mapping[str, int]
    finished: bool


class Database:
    """The address of a PostgreSQL database and the name of the table of tweets in it."""

    def __init__(self, conninfo: str, table: str = "tweet_articles_tweepy") -> None:
        self._conninfo = conninfo
        self.table = table

    def __repr__(self) -> str:
        return f"Database({self.place})"

    @cached_property
    def place(self) -> str:
        """Where the database is, for sentences: never the password."""
        known = conninfo_to_dict(self._conninfo)
        host, port = known.get("host") or "local socket", known.get("port") or "5432"
        return f"database {known.get('dbname') or 'by default'} at {host}:{port}"

    @contextmanager
    def session(self, *, stopping: Callable[[], bool] = lambda: False) -> Iterator[Session]:
        """A session; `stopping` ends its patience with a server that does not answer."""
        session = Session(self._conninfo, self.table, self.place, stopping)
        try:
            yield session
        finally:
            session.close()

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own.

        **Errors**: `DatabaseUnreachable`, at once.
        """
        try:
            return connect(self._conninfo)
        except psycopg.OperationalError as error:
            raise DatabaseUnreachable(
                f"the {self.place} cannot be used: {_first_line(error)}; check dbhost, dbname, dbuser and dbpass"
            ) from None

    def check(self) -> None:
        """Raises what keeps a run from starting: no server, no schema, another schema."""
        with self.connect() as connection:
            schema = _schema_of(connection)
            table = connection.execute("SELECT to_regclass(%s)", [self.table]).fetchone()
        if schema is None:
            raise DatabaseNotMigrated(f"the {self.place} has no schema yet: run `tweetcrawler db upgrade`, or `alembic upgrade head` in a checkout")
        if schema != SCHEMA:
            raise DatabaseNotMigrated(
                f"the {self.place} has schema {schema}, this program needs {SCHEMA}: run `alembic upgrade head`, "
                "or install the version of tweetcrawler that made it"
            )
        if table is None or table[0] is None:
            raise DatabaseNotMigrated(
                f"the {self.place} has no table {self.table}: make it with `CREATE TABLE {self.table} "
                "(LIKE tweet_articles_tweepy INCLUDING ALL)`, or correct tablename"
            )

    def upgrade(self) -> None:
        """Brings the schema to the newest revision, keeping every row."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
        config.attributes.update(database=self)
        command.upgrade(config, "head")

    def query(self, statement: LiteralString) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The column names and rows of a query."""
        with self.connect() as connection:
            cursor = connection.execute(statement)
            return [column.name for column in cursor.description or ()], cursor.fetchall()

    @contextmanager
    def read(
        self,
        view: str | None = None,
        *,
        names: Sequence[str] = (),
        conditions: Sequence[Condition] = (),
        as_text: bool,
    ) -> Iterator[tuple[list[Column], Iterator[list[tuple[Any, ...]]]]]:
        """The columns and rows of a view or table (default: that of the tweets), of one moment, in batches.

        Rows go by ascending id where there is a column of that name. `names` chooses columns and their order.
        `as_text` gives every value as PostgreSQL prints it. Without it whole numbers are int, numbers float,
        times aware datetimes in UTC, JSON its text; the lists and times that the table of the tweets holds as
        text are lists and times. No more than a batch is in memory.

        **Errors**: `ConfigurationError` for a view, column or filter that is not there, and for a stored text
        that is no list or time. `DatabaseError` when the server refuses or goes away.
        """
        parts = tuple((view or self.table).split("."))
        with self._reading() as connection:
            found = _columns(connection, parts)
            chosen = _chosen(found, names, ".".join(parts))
            statement, parameters = _read_statement(parts, found, chosen, conditions, as_text)
            with connection.cursor("export") as cursor:
                cursor.execute(statement, parameters)
                yield [column.shown for column in chosen], _batches(cursor, _ROWS_A_BATCH)

    @contextmanager
    def pages(self, handles: Sequence[str] | None = None) -> Iterator[tuple[int, Iterator[bytes]]]:
        """How many pages of posts were stored without their body, and the bodies of the others as received.

        The oldest first; `handles` (folded) chooses the timelines of these users.

        **Errors**: `DatabaseError` when the server refuses or goes away, or a body is damaged.
        """
        chosen = sql.Composed([sql.SQL("post_count > 0")])
        if handles is not None:
            chosen += sql.SQL(
                " AND target_id IN (SELECT coalesce(same_as, id) FROM crawl_target "
                "WHERE lower(handle) = ANY(%(handles)s) OR lower(username) = ANY(%(handles)s))"
            )
        given = {"handles": list(handles or ())}
        with self._reading() as connection:
            count = sql.SQL("SELECT count(*) FROM crawl_page WHERE body IS NULL AND ") + chosen
            without = connection.execute(count, given).fetchone()
            with connection.cursor("export", binary=True) as cursor:
                cursor.execute(
                    sql.SQL("SELECT id::text, body FROM crawl_page WHERE body IS NOT NULL AND ")
                    + chosen
                    + sql.SQL(" ORDER BY fetched_at, id"),
                    given,
                )
                yield without[0] if without else 0, map(_body, _rows(cursor, _PAGES_A_BATCH))

    @contextmanager
    def accounts(self) -> Iterator[Accounts]:
        """What was bought and what is known, as of one moment.

        **Errors**: `DatabaseError` when the server refuses or goes away.
        """
        with self._reading() as connection:
            yield Accounts(connection, self.table)

    def keep_plan(self, subject: str, plan: Mapping[str, Any]) -> None:
        """Remembers what was foretold of a kind of run."""
        with self.connect() as connection:
            connection.execute(
                "INSERT INTO crawl_plan (subject, plan) VALUES (%s, %s)", [subject, Jsonb(dict(plan))]
            )

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in a transaction that only reads, with psycopg's errors as ours."""
        try:
            # An interrupt may come amid a command, when no ROLLBACK can be sent: the end of the connection is one.
            with closing(connect(self._conninfo)) as connection:
                connection.execute("BEGIN READ ONLY")
                # For this transaction only: a pooler may hand the connection to somebody else afterwards.
                connection.execute(
                    "SELECT set_config(name, value, true) FROM (VALUES ('TimeZone', 'UTC'), ('DateStyle', 'ISO'), "
                    "('client_encoding', 'UTF8'), ('extra_float_digits', '1')) AS s(name, value)"
                )
                yield connection
                connection.execute("COMMIT")
        except psycopg.DataError as error:
            raise ConfigurationError(
                f"a value in the {self.place} is not what its column holds: {_first_line(error)}; csv takes it as "
                "it is stored, or correct that row"
            ) from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise DatabaseUnreachable(
                f"the {self.place} does not work: {_first_line(error)}; run again when it is back"
            ) from None
        except psycopg.Error as error:
            raise DatabaseError(f"the {self.place} refuses: {_first_line(error)}") from None


class Session:
    """One connection to the database; see `Database.session`."""

    def __init__(self, conninfo: str, table: str, place: str, stopping: Callable[[], bool]) -> None:
        self._conninfo = conninfo
        self._place = place
        self._stopping = stopping
        self._connection: _Connection | None = None
        self._gave_up = False
        self._save = _save_statement(table)
        self._save_new = _save_new_statement(table)
        self._news_come = True
        self._load = _load_statement(table)
        self._leased: set[int] = set()
        self._leased_posts: set[int] = set()
        self._set_aside = _set_aside_statement(table)
        self._table = table

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- runs ------------------------------------------------------------------------------------------

    def begin_run(
        self, *, version: str, arguments: Mapping[str, Any], host: str, credentials: Sequence[Any]
    ) -> tuple[int, float]:
        """A new run: its number, and when it began in seconds on the database's clock."""

        def work(connection: psycopg.Connection[Any]) -> tuple[int, float]:
            with connection.transaction():
                for credential in credentials:
                    connection.execute(
                        "INSERT INTO api_credential (label, user_fingerprint, app_fingerprint) "
                        "VALUES (%s, %s, %s) ON CONFLICT (user_fingerprint, app_fingerprint) "
                        "DO UPDATE SET label = excluded.label, seen_at = clock_timestamp()",
                        [credential.name, credential.user_fingerprint, credential.app_fingerprint],
                    )
                row = connection.execute(
                    "INSERT INTO crawl_run (version, arguments, host) VALUES (%s, %s, %s) "
                    "RETURNING id, extract(epoch FROM started_at)::float8",
                    [version, Jsonb(dict(arguments)), host],
                ).fetchone()
            assert row is not None  # noqa: S101 - INSERT … RETURNING gives a row
            return row[0], row[1]

        return self._lasting(work)

    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None:
        """Notes how a run ended."""
        self._lasting(
            lambda c: c.execute(
                "UPDATE crawl_run SET ended_at = clock_timestamp(), exit_code = %s, report = %s WHERE id = %s",
                [exit_code, Jsonb(dict(report)), run],
            )
        )

    def totals(self, run: int) -> list[dict[str, Any]]:
        """What the run bought, from its pages: one dict a (credential, endpoint).

        Keys: credential, endpoint, pages, posts, users, new, updated, again (posts that were stored already).
        """

        def work(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(
                    "SELECT credential, endpoint, count(*) AS pages, sum(post_count) AS posts, "
                    "sum(user_count) AS users, sum(new_count) AS new, sum(updated_count) AS updated, "
                    "sum(post_count - new_count - coalesce(jsonb_array_length(refused), 0)) AS again "
                    "FROM crawl_page WHERE run_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
                    [run],
                ).fetchall()

        return self._lasting(work)

    # -- targets ---------------------------------------------------------------------------------------

    def targets(self, handles: Sequence[str]) -> dict[str, Target]:
        """The stored targets of these handles, by handle; a handle of a renamed account gives its account."""

        def work(connection: psycopg.Connection[Any]) -> dict[str, Target]:
            rows = connection.execute(
                "SELECT named.handle, t.id, t.key, t.username, t.state, t.state_reason, "
                # Of a target that can be crawled it is the time that `watch` has for it, and holds nobody else up.
                "CASE WHEN t.state = ANY('{new,ok,renamed,failed}') THEN 0 "
                "ELSE greatest(0, extract(epoch FROM t.due_at - clock_timestamp())) END::float8 "
                "FROM crawl_target named JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id) "
                "WHERE named.kind = %s AND named.handle = ANY(%s)",
                [TIMELINE, list(handles)],
            ).fetchall()
            return {
                handle: Target(number, handle, key, username, state, reason, rests or 0.0)
                for handle, number, key, username, state, reason, rests in rows
            }

        return self._lasting(work)

    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]:
        """Takes the lease of handles that nobody resolved yet; the rest is being resolved by others."""

        def take(connection: psycopg.Connection[Any], wanted: Sequence[str]) -> set[str]:
            rows = connection.execute(
                "INSERT INTO crawl_target AS t (kind, handle, lease_owner, lease_until) "
                "SELECT %(kind)s, h, %(owner)s, clock_timestamp() + %(lease)s * interval '1 s' "
                "FROM unnest(%(handles)s::text[]) h ORDER BY h "
                "ON CONFLICT (kind, handle) DO UPDATE SET lease_owner = excluded.lease_owner, "
                "lease_until = excluded.lease_until "
                "WHERE t.key IS NULL AND t.same_as IS NULL "
                "AND (t.lease_owner = excluded.lease_owner OR t.lease_until IS NULL "
                "OR t.lease_until <= clock_timestamp()) RETURNING t.handle, t.id",
                {"kind": TIMELINE, "owner": owner, "lease": LEASE_S, "handles": sorted(set(wanted))},
            ).fetchall()
            self._leased.update(row[1] for row in rows)
            return {row[0] for row in rows}

        def work(connection: psycopg.Connection[Any]) -> set[str]:
            mine = take(connection, handles)
            others = [handle for handle in handles if handle not in mine]
            if others and _free_from_the_dead(
                connection, "kind = 'timeline' AND key IS NULL AND handle = ANY(%(which)s)", others
            ):
                mine |= take(connection, others)
            return mine

        return self._lasting(work)

    def remember(
        self, run: int, bought: Bought, found: Sequence[Found], absent: Sequence[Absent], *, rest_s: float
    ) -> None:
        """Stores what X said of handles, with the answer itself; `rest_s` until absent ones are asked again."""

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                _insert_page(connection, run, bought)
                given = {
                    "handles": [f.handle for f in found],
                    "keys": [f.user_id for f in found],
                    "usernames": [f.username for f in found],
                    "posts": [f.account_posts for f in found],
                    "kind": TIMELINE,
                }
                news = (
                    "WITH news AS (SELECT * FROM unnest(%(handles)s::text[], %(keys)s::text[], "
                    "%(usernames)s::text[], %(posts)s::bigint[]) AS n(handle, key, username, posts)) "
                )
                connection.execute(
                    news + "UPDATE crawl_target t SET same_as = o.id, lease_until = NULL, state = 'renamed', "
                    "state_reason = 'the account is known as @' || o.handle, state_at = clock_timestamp() "
                    "FROM news n JOIN crawl_target o ON o.kind = %(kind)s AND o.key = n.key "
                    "WHERE t.kind = %(kind)s AND t.handle = n.handle AND t.id <> o.id",
                    given,
                )
                connection.execute(
                    news + "UPDATE crawl_target t SET key = n.key, username = n.username, "
                    "account_posts = n.posts, lease_until = NULL, due_at = NULL, state = 'new', "
                    "state_reason = '', state_at = clock_timestamp() FROM news n "
                    "WHERE t.kind = %(kind)s AND t.handle = n.handle AND t.same_as IS NULL",
                    given,
                )
                connection.execute(
                    "UPDATE crawl_target t SET state = n.state, state_reason = n.reason, lease_until = NULL, "
                    "state_at = clock_timestamp(), due_at = clock_timestamp() + %(rest)s * interval '1 s' "
                    "FROM unnest(%(handles)s::text[], %(states)s::text[], %(reasons)s::text[]) "
                    "AS n(handle, state, reason) WHERE t.kind = %(kind)s AND t.handle = n.handle",
                    {
                        "handles": [a.handle for a in absent],
                        "states": [a.state for a in absent],
                        "reasons": [a.reason for a in absent],
                        "rest": rest_s,
                        "kind": TIMELINE,
                    },
                )
                _spend(connection, bought)

        self._lasting(work)

    def claim(self, target: int, owner: str, since: float) -> Claim | None:
        """The lease of a target, with what is known of it; None while another process has it."""
        return self.claim_all([target], owner, since).get(target)

    def claim_all(self, targets: Sequence[int], owner: str, since: float) -> dict[int, Claim]:
        """The leases of those targets that no other process has, with what is known of each."""

        def take(connection: psycopg.Connection[Any], wanted: Sequence[int]) -> dict[int, Claim]:
            rows = connection.execute(
                _CLAIM, {"ids": list(wanted), "owner": owner, "lease": LEASE_S, "since": since}
            ).fetchall()
            return {
                number: Claim(coverage.from_text(covered), coverage.from_text(unreachable), posts, crawled)
                for number, covered, unreachable, posts, crawled in rows
            }

        def work(connection: psycopg.Connection[Any]) -> dict[int, Claim]:
            claims = take(connection, targets)
            others = [target for target in targets if target not in claims]
            if others and _free_from_the_dead(connection, "id = ANY(%(which)s)", others):
                claims |= take(connection, others)
            self._leased.update(claims)
            return claims

        return self._lasting(work)

    def posts_above(self, target: int, tweet_id: int) -> int:
        """How many posts of the target were received that are not older than this id."""

        def work(connection: psycopg.Connection[Any]) -> int:
            row = connection.execute(
                "SELECT coalesce(sum(post_count), 0) FROM crawl_page WHERE target_id = %s AND oldest_id >= %s",
                [target, tweet_id],
            ).fetchone()
            return int(row[0]) if row else 0

        return self._lasting(work)

    def save(
        self,
        run: int,
        owner: str,
        batch: Batch,
        *,
        keep_body: bool = True,
        meanwhile: Callable[[], object] | None = None,
    ) -> Saved:
        """Saves a page in one transaction: its rows, itself, the coverage it adds; renews the lease.

        `meanwhile` is called while the server works, again when the work must be done again; it must not fail.
        """
        given = _save_parameters(run, owner, batch, keep_body)

        def work(connection: _Connection) -> Saved:
            with _spending(connection, batch.bought):
                connection.meanwhile = meanwhile
                if not batch.rows:
                    return _saved(_save_empty_statement().run(connection, given))
                first = Saved(0, 0, leased=False)
                if self._news_come and not batch.searched:
                    first = _saved(self._save_new.run(connection, given))
                    if first.new == len(batch.rows):
                        return first
                saved = _saved(self._save.run(connection, given))
                self._news_come = first.new + saved.new == len(batch.rows)
                return replace(saved, new=first.new + saved.new)

        return self._lasting(work)

    def finish(
        self, target: int, owner: str, *, state: str, reason: str, crawled: bool, rest_s: float = 0.0
    ) -> None:
        """Notes how a walk ended and gives the lease back; `crawled` when no hole is left."""
        self._lasting(
            lambda c: c.execute(
                "UPDATE crawl_target SET state = %(state)s, state_reason = %(reason)s, "
                "state_at = CASE WHEN state = %(state)s THEN state_at ELSE clock_timestamp() END, "
                "crawled_at = CASE WHEN %(crawled)s THEN clock_timestamp() ELSE crawled_at END, "
                "due_at = CASE WHEN %(rest)s > 0 THEN clock_timestamp() + %(rest)s * interval '1 s' END, "
                "lease_until = CASE WHEN lease_owner = %(owner)s THEN NULL ELSE lease_until END "
                "WHERE id = %(id)s",
                {"id": target, "owner": owner, "state": state, "reason": reason, "crawled": crawled,
                 "rest": rest_s},
            )
        )  # fmt: skip

    def note(self, run: int, owner: str, ends: Sequence[NoNews], *, keep_body: bool = True) -> None:
        """Saves the pages of walks that ended without news, and their ends, in one transaction."""
        walked = [
            {
                "target": end.target.id,
                "page": end.bought.id,
                "endpoint": end.bought.endpoint,
                "params": end.bought.params,
                "credential": end.bought.credential,
                "body": "\\x" + _compressed(end.bought.body).hex() if keep_body else None,
                "state": end.state,
                "reason": end.reason,
            }
            for end in ends
        ]
        given = {"run": run, "owner": owner, "walked": Json(walked, dumps=orjson.dumps)}
        self._lasting(lambda c: c.execute(_NOTE, given))

    def release(self, owner: str, targets: Sequence[int] | None = None) -> None:
        """Gives back the leases that this session took, or those of them that are of these targets."""
        leased = self._leased if targets is None else self._leased.intersection(targets)

        def work(connection: psycopg.Connection[Any]) -> None:
            _end_leases(connection, owner, sorted(leased))
            if self._leased_posts:
                connection.execute(
                    "DELETE FROM crawl_lookup WHERE lease_owner = %s AND lease_until IS NOT NULL AND tweet_id = ANY(%s)",
                    [owner, sorted(self._leased_posts)],
                )

        self._lasting(work)

    def free(self, owner: str, targets: Sequence[int]) -> None:
        """Gives back what a process that died held: of these targets, and every post that it asked for.

        No index knows the owners of targets, since it would have to change with every page.
        """

        def work(connection: psycopg.Connection[Any]) -> None:
            _end_leases(connection, owner, targets)
            connection.execute(
                "DELETE FROM crawl_lookup WHERE lease_owner = %s AND lease_until IS NOT NULL", [owner]
            )

        self._lasting(work)

    def schedule(self, run: int, *, least_s: float, longest_s: float) -> None:
        """Sets the next visit of the timelines that a run read, by how often they post lately.

        It comes when about `_POSTS_A_VISIT` new posts may be there, later for who has fallen silent.
        """
        self._lasting(
            lambda c: c.execute(
                _SCHEDULE, {"run": run, "least": least_s, "longest": longest_s, "posts": _POSTS_A_VISIT}
            )
        )

    # -- searches and trends ---------------------------------------------------------------------------

    def open_searches(self, asked: Sequence[str]) -> list[Target]:
        """The targets of these normalised queries, in their order; new ones are made."""
        return self._lasting(lambda c: _open_searches(c, asked))

    def give_up(self, target: int, unreachable: coverage.Range, reason: str) -> None:
        """Notes ids that cannot be had, without a page that says so."""
        self._lasting(
            lambda c: c.execute(
                "UPDATE crawl_target SET unreachable = unreachable + %s::int8multirange - covered, "
                "unreachable_reason = %s WHERE id = %s",
                [coverage.to_text([unreachable]), reason, target],
            )
        )

    def posts_within(self, target: int, seconds: float) -> int:
        """How many posts of the target were bought in the last so many seconds."""

        def work(connection: psycopg.Connection[Any]) -> int:
            row = connection.execute(
                "SELECT coalesce(sum(post_count), 0) FROM crawl_page WHERE target_id = %s "
                "AND fetched_at > clock_timestamp() - %s * interval '1 s'",
                [target, seconds],
            ).fetchone()
            return int(row[0]) if row else 0

        return self._lasting(work)

    def save_trends(self, run: int, bought: Bought, place: Place, trends: Sequence[Trend]) -> list[Target]:
        """Stores what was seen of a place's trends; gives the targets that collect their posts."""

        def work(connection: psycopg.Connection[Any]) -> list[Target]:
            with connection.transaction():
                _insert_page(connection, run, bought)
                targets = _open_searches(connection, [trend.query for trend in trends])
                connection.cursor().executemany(
                    "INSERT INTO crawl_trend (page_id, rank, woeid, place, name, volume, target_id) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    [
                        (bought.id, trend.rank, place.woeid, place.name, trend.name, trend.volume, target.id)
                        for trend, target in zip(trends, targets, strict=True)
                    ],
                )
                _spend(connection, bought)
                return list({target.id: target for target in targets}.values())

        return self._lasting(work)

    def trending_authors(self, run: int, count: int) -> list[str]:
        """The handles with most posts in the trends that a run saw, the busiest first."""

        def work(connection: psycopg.Connection[Any]) -> list[str]:
            rows = connection.execute(
                sql.SQL(
                    "SELECT lower(t.tweet_from) FROM crawl_found f JOIN {t} t ON t.id = f.tweet_id "
                    "WHERE f.target_id IN (SELECT c.target_id FROM crawl_trend c JOIN crawl_page p "
                    "ON p.id = c.page_id WHERE p.run_id = %s) AND t.tweet_from ~ '^[A-Za-z0-9_]{{1,15}}$' "
                    "GROUP BY 1 ORDER BY count(DISTINCT t.id) DESC, 1 LIMIT %s"
                ).format(t=sql.Identifier(*self._table.split("."))),
                [run, count],
            ).fetchall()
            return [row[0] for row in rows]

        return self._lasting(work)

    # -- the next level --------------------------------------------------------------------------------

    def referred_to(self, by: str, *, min_count: int, limit: int | None) -> list[tuple[str, int]]:
        """Handles (folded) that posts refer to and that are no target yet, with the count of those posts.

        `by` is "retweets", "mentions" or "replies". The most frequent first.
        """
        named = sql.SQL(_REFERENCES[by]).format(t=sql.Identifier(*self._table.split(".")))

        def work(connection: psycopg.Connection[Any]) -> list[tuple[str, int]]:
            return connection.execute(
                sql.SQL(
                    "SELECT n.handle, count(*) FROM ({named}) AS n(handle) WHERE n.handle ~ '^[a-z0-9_]{{1,15}}$' "
                    "AND NOT EXISTS (SELECT FROM crawl_target k WHERE k.kind = 'timeline' AND k.handle = n.handle) "
                    "AND NOT EXISTS (SELECT FROM crawl_target k WHERE k.kind = 'timeline' "
                    "AND k.username IS NOT NULL AND lower(k.username) = n.handle) "
                    "GROUP BY 1 HAVING count(*) >= %s ORDER BY 2 DESC, 1 LIMIT %s"
                ).format(named=named),
                [min_count, limit],
            ).fetchall()

        return self._lasting(work)

    def known_handles(self, handles: Sequence[str]) -> set[str]:
        """Those of the handles (folded) that are targets, under their listed or their present name."""

        def work(connection: psycopg.Connection[Any]) -> set[str]:
            rows = connection.execute(
                "SELECT handle FROM crawl_target WHERE kind = 'timeline' AND handle = ANY(%(handles)s) "
                "UNION SELECT lower(username) FROM crawl_target WHERE kind = 'timeline' AND username IS NOT NULL "
                "AND lower(username) = ANY(%(handles)s)",
                {"handles": list(handles)},
            ).fetchall()
            return {row[0] for row in rows}

        return self._lasting(work)

    # -- posts by id -----------------------------------------------------------------------------------

    def claim_ids(self, ids: Sequence[int], owner: str, *, age_s: float | None, rest_s: float) -> Lookup:
        """Which of the posts this process is to ask for.

        Left out are those that are stored or, with `age_s`, had their counts read in the last so many seconds,
        and those that X did not give in the last `rest_s` seconds.
        """
        given = {"owner": owner, "lease": LEASE_S, "rest": rest_s, "age": age_s}
        known = "EXISTS (SELECT FROM {t} t WHERE t.id = i)"
        if age_s is not None:
            known = (
                "EXISTS (SELECT FROM crawl_metrics m WHERE m.tweet_id = i "
                "AND m.seen_at > clock_timestamp() - %(age)s * interval '1 s')"
            )
        table = sql.Identifier(*self._table.split("."))
        take = sql.SQL(
            "INSERT INTO crawl_lookup AS l (tweet_id, state, lease_owner, lease_until) "
            "SELECT i, 'asked', %(owner)s, clock_timestamp() + %(lease)s * interval '1 s' "
            "FROM unnest(%(ids)s::bigint[]) i WHERE NOT " + known + " ORDER BY i "
            "ON CONFLICT (tweet_id) DO UPDATE SET lease_owner = excluded.lease_owner, "
            "lease_until = excluded.lease_until WHERE (l.lease_owner = excluded.lease_owner "
            "OR l.lease_until IS NULL OR l.lease_until <= clock_timestamp()) "
            "AND (l.state = 'asked' OR l.seen_at < clock_timestamp() - %(rest)s * interval '1 s') "
            "RETURNING tweet_id"
        ).format(t=table)
        # What another process saved while this one took its lease is known all the same.
        drop = sql.SQL(
            "DELETE FROM crawl_lookup WHERE lease_owner = %(owner)s AND tweet_id = ANY(SELECT i "
            "FROM unnest(%(ids)s::bigint[]) i WHERE " + known + ") RETURNING tweet_id"
        ).format(t=table)

        def work(connection: psycopg.Connection[Any]) -> Lookup:
            _free_lookups_of_the_dead(connection, ids)
            wanted = sorted(set(ids))
            mine = {row[0] for row in connection.execute(take, {**given, "ids": wanted}).fetchall()}
            self._leased_posts.update(mine)
            mine -= {row[0] for row in connection.execute(drop, {**given, "ids": sorted(mine)}).fetchall()}
            others = connection.execute(
                "SELECT tweet_id FROM crawl_lookup WHERE tweet_id = ANY(%s) AND lease_owner <> %s "
                "AND lease_until > clock_timestamp()",
                [wanted, owner],
            ).fetchall()
            busy = {row[0] for row in others}
            return Lookup(sorted(mine), sorted(busy), [i for i in wanted if i not in mine | busy])

        return self._lasting(work)

    def save_looked_up(
        self,
        run: int,
        batch: Batch,
        gone: Sequence[Gone],
        metrics: Sequence[Metrics],
        *,
        seen_at: float,
        keep_body: bool = True,
    ) -> Saved:
        """Saves a page of posts by id, and of those that X did not give why; gives their leases back.

        With `metrics`, their counts at `seen_at` (seconds since 1970) are kept beside those known before.
        """
        given = _save_parameters(run, "", batch, keep_body)
        seen = {"ids": [m.id for m in metrics], "at": seen_at}
        before = sql.SQL(_COUNTS_BEFORE).format(t=sql.Identifier(*self._table.split(".")))

        def work(connection: psycopg.Connection[Any]) -> Saved:
            with connection.transaction():
                if metrics:
                    connection.execute(before, seen)
                row = self._save.run(connection, given).fetchone()
                cursor = connection.cursor()
                cursor.executemany(
                    "INSERT INTO crawl_metrics VALUES (%s, to_timestamp(%s), %s, %s, %s, %s, %s, %s) "
                    "ON CONFLICT DO NOTHING",
                    [(m.id, seen_at, *[getattr(m, name) for name in _COUNTS]) for m in metrics],
                )
                cursor.executemany(
                    "INSERT INTO crawl_lookup (tweet_id, state, reason) VALUES (%s, %s, %s) "
                    "ON CONFLICT (tweet_id) DO UPDATE SET state = excluded.state, reason = excluded.reason, "
                    "seen_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL",
                    [(g.id, g.state, g.reason) for g in gone],
                )
                connection.execute(
                    "DELETE FROM crawl_lookup WHERE tweet_id = ANY(%s)", [[row["id"] for row in batch.rows]]
                )
                _spend(connection, batch.bought)
            assert row is not None  # noqa: S101 - a SELECT of aggregates gives a row
            return Saved(row[0], row[1], leased=True)

        return self._lasting(work)

    # -- imports ---------------------------------------------------------------------------------------

    def begin_import(
        self, run: int, path: str, *, size: int, fingerprint: str, head: str, again: bool
    ) -> ImportState:
        """How far a file was imported before; it begins anew when it is another file now, or `again`."""

        def work(connection: psycopg.Connection[Any]) -> ImportState:
            with connection.transaction():
                connection.execute(
                    "INSERT INTO crawl_import (run_id, path, into_table, size, fingerprint, head) "
                    "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (path, into_table) DO NOTHING",
                    [run, path, self._table, size, fingerprint, head],
                )
                row = connection.execute(
                    "SELECT id, fingerprint = %s, head = %s AND size <= %s, finished_at IS NOT NULL "
                    "FROM crawl_import WHERE path = %s AND into_table = %s FOR UPDATE",
                    [fingerprint, head, size, path, self._table],
                ).fetchone()
                assert row is not None  # noqa: S101 - it was just inserted
                number, same, grown, finished = row
                if again or not (same or (grown and not finished)):
                    connection.execute(
                        "UPDATE crawl_import SET member = 0, byte_offset = 0, line = 0, post_count = 0, "
                        "new_count = 0, updated_count = 0, other_counts = '{}', finished_at = NULL, "
                        "begun_at = clock_timestamp() WHERE id = %s",
                        [number],
                    )
                if again or not (same and finished):
                    connection.execute(
                        "UPDATE crawl_import SET run_id = %s, size = %s, fingerprint = %s, head = %s WHERE id = %s",
                        [run, size, fingerprint, head, number],
                    )
                return _import_state(connection, number)

        return self._lasting(work)

    def load(
        self,
        state: ImportState,
        rows: Iterable[Mapping[str, Any]],
        reached: ImportState,
        *,
        cut: Iterable[int] = (),
    ) -> ImportState | None:
        """Saves many rows and how far their file was read, in one transaction.

        `rows` are keyed by `flatten.COLUMNS`, in that order, and each id is there once. `reached` holds the
        position behind them and all counts but those of new and updated rows, which come back in the result.
        Rows whose ids are in `cut` have lost a part of their text: they change no row that is there.
        None when the file is not where `state` says: another process imports it.
        """
        values = [tuple(row.values()) for row in rows]
        cut_ids = list(cut)

        def work(connection: psycopg.Connection[Any]) -> ImportState | None:
            with connection.transaction():
                locked = _import_state(connection, state.id)
                if locked.position == reached.position and locked.finished == reached.finished:
                    return locked  # it was saved, only the answer was lost
                if locked.position != state.position or locked.finished:
                    return None
                new = updated = 0
                if values:
                    connection.execute(_STAGE)
                    with connection.cursor() as cursor, cursor.copy(_STAGE_COPY) as copy:
                        for value in values:
                            copy.write_row(value)
                    if cut_ids:
                        connection.execute(self._set_aside, [cut_ids])
                    counted = connection.execute(self._load).fetchone()
                    new, updated = counted or (0, 0)
                member, offset, line = reached.position
                connection.execute(
                    "UPDATE crawl_import SET member = %s, byte_offset = %s, line = %s, post_count = %s, "
                    "new_count = new_count + %s, updated_count = updated_count + %s, other_counts = %s, "
                    "finished_at = CASE WHEN %s THEN clock_timestamp() END WHERE id = %s",
                    [member, offset, line, reached.posts, new, updated, Jsonb(dict(reached.others)),
                     reached.finished, state.id],
                )  # fmt: skip
                return replace(reached, new=locked.new + new, updated=locked.updated + updated)

        return self._lasting(work)

    # -- the books of the buckets ----------------------------------------------------------------------

    def change_buckets(
        self,
        keys: Iterable[Key],
        change: Callable[[dict[Key, Bucket], float], tuple[Mapping[Key, Bucket], T]],
    ) -> T:
        """See `permits.Books`: the buckets are rows of `api_bucket`, the clock is the database's."""
        wanted = sorted(set(keys))
        subjects, endpoints = [k[0] for k in wanted], [k[1] for k in wanted]

        def work(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                buckets, now = _lock_buckets(connection, subjects, endpoints)
                if len(buckets) < len(wanted):
                    missing = {key: Bucket() for key in wanted if key not in buckets}
                    _write_buckets(connection, missing, "DO NOTHING")
                    buckets, now = _lock_buckets(connection, subjects, endpoints)
                changed, result = change(buckets, now)
                if changed:
                    _write_buckets(connection, changed, _BUCKET_UPDATE)
                return result

        return self._lasting(work)

    # -- budgets ---------------------------------------------------------------------------------------

    def set_aside(
        self, run: int, owner: str, page: uuid.UUID, want: Want, limits: Limits, tariff: Tariff
    ) -> Grant:
        """How much a request may bring, set aside under the id of the page that will be saved.

        Saving that page with its `cost` settles it; `take_back` and `give_up_money` are for what brought none.
        """

        def work(connection: psycopg.Connection[Any]) -> Grant:
            with connection.transaction():
                granted = budget.grant(want, _rooms(connection, run, page, limits, tariff))
                if granted.units is not None:
                    connection.execute(
                        "INSERT INTO crawl_reserved (id, run_id, owner, endpoint, posts, micro_usd) "
                        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE "
                        "SET posts = excluded.posts, micro_usd = excluded.micro_usd",
                        [page, run, owner, want.endpoint, want.posts(granted.units), want.cost(granted.units)],
                    )
                return granted

        return self._lasting(work)

    def take_back(self, page: uuid.UUID) -> None:
        """Frees what was set aside for a request that brought nothing."""
        self._lasting(lambda c: c.execute("DELETE FROM crawl_reserved WHERE id = %s", [page]))

    def give_up_money(self, page: uuid.UUID) -> None:
        """Leaves it set aside for good: nobody knows what the request brought, and it may be charged."""
        self._lasting(lambda c: c.execute("UPDATE crawl_reserved SET owner = '' WHERE id = %s", [page]))

    # -- lasting ---------------------------------------------------------------------------------------

    def _lasting(self, work: Callable[[_Connection], T]) -> T:
        """Does the work, again and again while the server is away, restarting, full or in conflict."""
        # Who waited that long for the server once does not wait for it again to clear up.
        gives_up_at = time.monotonic() + (0.0 if self._gave_up else PATIENCE_S)
        delay_s = 0.05
        while True:
            try:
                if self._connection is None:
                    self._connection = connect(self._conninfo)
                return work(self._connection)
            except psycopg.Error as error:
                if not _passes(error):
                    raise DatabaseError(f"the {self._place} refuses: {_first_line(error)}") from None
                if not isinstance(error, _IN_CONFLICT):
                    self.close()
                    log.warning("the %s does not work: %s; trying again", self._place, _first_line(error))
                if self._stopping() or time.monotonic() >= gives_up_at:
                    self._gave_up = True
                    raise DatabaseUnreachable(
                        f"the {self._place} does not work: {_first_line(error)}; everything saved is safe, "
                        "run again when it is back"
                    ) from None
            _sleep(delay_s * random.uniform(0.5, 1.0), self._stopping)  # noqa: S311 - jitter
            delay_s = min(5.0, delay_s * 2)


# Another transaction was in the way: the connection is sound, and the same again will do.
_IN_CONFLICT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.UniqueViolation,
)
_PASSING = (psycopg.OperationalError, psycopg.InterfaceError, *_IN_CONFLICT)
# Wrong password, no such role or database, no right to connect: waiting does not help.
_PERMANENT = {"28000", "28P01", "3D000", "42501"}
# Ended by the server because it idled in a transaction or took too long in one; a standby that is not promoted yet.
_PASSING_STATES = {"25P03", "25P04", "25006"}


def _passes(error: psycopg.Error) -> bool:
    """Whether the same again may work later."""
    if error.sqlstate in _PERMANENT:
        return False
    return isinstance(error, _PASSING) or error.sqlstate in _PASSING_STATES


@contextmanager
def _spending(connection: psycopg.Connection[Any], bought: Bought) -> Iterator[None]:
    """What is done within is one transaction with taking the page's cost from the budgets."""
    if bought.cost is None:
        yield
        return
    with connection.transaction():
        yield
        _spend(connection, bought)


def _spend(connection: psycopg.Connection[Any], bought: Bought) -> None:
    """Settles what was set aside. Always the last of a transaction: others wait for these rows."""
    if bought.cost is None:
        return
    connection.execute(
        "WITH gone AS (DELETE FROM crawl_reserved WHERE id = %(id)s RETURNING run_id), "
        "today AS (SELECT clock_timestamp() AT TIME ZONE 'UTC' AS at), "
        "locked AS (SELECT b.scope, b.period FROM crawl_budget b, gone, today WHERE (b.scope, b.period) IN "
        "(('run', gone.run_id::text), ('day', to_char(today.at, 'YYYY-MM-DD')), "
        "('month', to_char(today.at, 'YYYY-MM'))) ORDER BY 1, 2 FOR UPDATE OF b) "
        "UPDATE crawl_budget b SET posts = b.posts + %(posts)s, micro_usd = b.micro_usd + %(cost)s FROM locked "
        "WHERE b.scope = locked.scope AND b.period = locked.period",
        {"id": bought.id, "posts": bought.posts, "cost": bought.cost},
    )


def _rooms(
    connection: psycopg.Connection[Any], run: int, page: uuid.UUID, limits: Limits, tariff: Tariff
) -> list[Room]:
    """The limits with what is gone of them; locked until the transaction ends."""
    row = connection.execute(
        "SELECT to_char(at, 'YYYY-MM-DD'), to_char(at, 'YYYY-MM') FROM (SELECT clock_timestamp() "
        "AT TIME ZONE 'UTC' AS at) today"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without a condition gives a row
    periods = {budget.RUN: str(run), budget.DAY: row[0], budget.MONTH: row[1]}
    keys = [(scope, periods[scope]) for scope in sorted(limits.scopes)]
    spent = _spent(connection, keys)
    if len(spent) < len(keys):
        connection.cursor().executemany(
            "INSERT INTO crawl_budget (scope, period) VALUES (%s, %s) ON CONFLICT DO NOTHING", keys
        )
        spent = _spent(connection, keys)
    for key in keys:
        if spent[key][2]:
            spent[key] = (*_counted_anew(connection, *key, tariff), False)
    held = connection.execute(
        "SELECT run_id::text, to_char(reserved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), owner, "
        "reserved_at < clock_timestamp() - interval '15 min', posts, micro_usd FROM crawl_reserved "
        "WHERE id <> %s AND reserved_at > clock_timestamp() - interval '32 days'",
        [page],
    ).fetchall()
    return [
        _room(scope, limits.of(scope), spent[scope, period][:2], held, period=period) for scope, period in keys
    ]


def _room(
    scope: str,
    limit: tuple[int | None, int | None],
    spent: tuple[int, int],
    reserved: Sequence[tuple[str, str, str, bool, int, int]],
    *,
    period: str,
) -> Room:
    posts, money = spent
    held = held_posts = 0
    for of_run, day, owner, is_old, its_posts, its_money in reserved:
        is_lost = is_old or not owner or is_gone(owner)
        of_period = of_run if scope == budget.RUN else day[: len(period)]
        if is_lost and of_period == period:
            posts, money = posts + its_posts, money + its_money
        elif not is_lost and (scope != budget.RUN or of_run == period):
            # Its page may be saved, and charged, after midnight: so it counts today, whenever it was sent.
            held, held_posts = held + its_money, held_posts + its_posts
    return Room(scope, *limit, spent=money, spent_posts=posts, held=held, held_posts=held_posts)


def _spent(
    connection: psycopg.Connection[Any], keys: Sequence[Key]
) -> dict[Key, tuple[int, int, bool]]:
    """Posts and money of the periods, locked, and whether they are to be counted anew."""
    rows = connection.execute(
        "SELECT scope, period, posts, micro_usd, coalesce(counted_at < clock_timestamp() - interval '60 s', true) "
        "FROM crawl_budget WHERE (scope, period) IN (SELECT * FROM unnest(%s::text[], %s::text[])) "
        "ORDER BY 1, 2 FOR UPDATE",
        [[key[0] for key in keys], [key[1] for key in keys]],
    ).fetchall()
    return {(scope, period): (posts, money, stale) for scope, period, posts, money, stale in rows}


def _counted_anew(
    connection: psycopg.Connection[Any], scope: str, period: str, tariff: Tariff
) -> tuple[int, int]:
    """What the stored pages of the period cost: those of runs without a budget, too.

    The period's row is locked, and whoever takes from a budget changes it in the transaction that saves the page:
    so no page is counted twice or left out.
    """
    chosen: LiteralString = "run_id = %(period)s::bigint"
    if scope != budget.RUN:
        chosen = (
            "fetched_at >= %(begin)s::timestamp AT TIME ZONE 'UTC' "
            "AND fetched_at < (%(begin)s::timestamp + %(length)s::interval) AT TIME ZONE 'UTC'"
        )
    rows = connection.execute(
        "SELECT endpoint, count(*), sum(post_count), sum(user_count) FROM crawl_page WHERE " + chosen + " GROUP BY 1",
        {
            "period": period,
            "begin": period if scope == budget.DAY else f"{period}-01",
            "length": "1 day" if scope == budget.DAY else "1 month",
        },
    ).fetchall()
    posts = sum(row[2] for row in rows)
    money = sum(tariff.cost(e, requests=pages, posts=p, users=users) for e, pages, p, users in rows)
    connection.execute(
        "UPDATE crawl_budget SET posts = %s, micro_usd = %s, counted_at = clock_timestamp() "
        "WHERE scope = %s AND period = %s",
        [posts, money, scope, period],
    )
    return posts, money


def _import_state(connection: psycopg.Connection[Any], number: int) -> ImportState:
    row = connection.execute(
        "SELECT id, member, byte_offset, line, post_count, new_count, updated_count, other_counts, "
        "finished_at IS NOT NULL FROM crawl_import WHERE id = %s FOR UPDATE",
        [number],
    ).fetchone()
    assert row is not None  # noqa: S101 - nothing deletes these rows
    return ImportState(row[0], (row[1], row[2], row[3]), *row[4:])


def _sleep(seconds: float, stopping: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0 and not stopping():
        time.sleep(min(left, 0.2))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _schema_of(connection: psycopg.Connection[Any]) -> str | None:
    exists = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if exists is None or exists[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _migrations() -> Path:
    """The migrations beside the modules in an installed package, or beside the package in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "migrations"
    return inside if inside.is_dir() else here.parent / "migrations"


def _end_leases(connection: psycopg.Connection[Any], owner: str, targets: Sequence[int]) -> None:
    connection.execute(
        "UPDATE crawl_target SET lease_until = NULL WHERE id = ANY(%s) AND lease_owner = %s AND lease_until IS NOT NULL",
        [list(targets), owner],
    )


def _free_from_the_dead(
    connection: psycopg.Connection[Any], condition: LiteralString, which: Sequence[Any]
) -> bool:
    """Ends the leases of processes of this machine that were killed; whether there were any."""
    holders = connection.execute(
        "SELECT DISTINCT lease_owner FROM crawl_target WHERE lease_until > clock_timestamp() AND " + condition,
        {"which": list(which)},
    ).fetchall()
    gone = [holder for (holder,) in holders if is_gone(holder)]
    if gone:
        connection.execute(
            "UPDATE crawl_target SET lease_until = NULL WHERE lease_owner = ANY(%(gone)s) AND " + condition,
            {"which": list(which), "gone": gone},
        )
    return bool(gone)


def _free_lookups_of_the_dead(connection: psycopg.Connection[Any], ids: Sequence[int]) -> None:
    holders = connection.execute(
        "SELECT DISTINCT lease_owner FROM crawl_lookup WHERE tweet_id = ANY(%s) AND lease_owner IS NOT NULL",
        [list(ids)],
    ).fetchall()
    gone = [holder for (holder,) in holders if is_gone(holder)]
    if gone:
        connection.execute("DELETE FROM crawl_lookup WHERE lease_owner = ANY(%s)", [gone])


def _open_searches(connection: psycopg.Connection[Any], asked: Sequence[str]) -> list[Target]:
    by_key = {queries.key_of(query): query for query in asked}
    connection.execute(
        "INSERT INTO crawl_target (kind, key, handle, username) SELECT %s, k, h, q "
        "FROM unnest(%s::text[], %s::text[], %s::text[]) AS n(k, h, q) ORDER BY k ON CONFLICT DO NOTHING",
        [SEARCH, list(by_key), [queries.slug_of(q) for q in by_key.values()], list(by_key.values())],
    )
    rows = connection.execute(
        "SELECT key, id, handle, username, state, state_reason FROM crawl_target WHERE kind = %s AND key = ANY(%s)",
        [SEARCH, list(by_key)],
    ).fetchall()
    found = {
        key: Target(number, handle, key, query, state, reason, kind=SEARCH)
        for key, number, handle, query, state, reason in rows
    }
    return [found[queries.key_of(query)] for query in asked]


# In the order of their ids, so that two processes that claim the same never wait for each other in a ring.
_CLAIM: LiteralString = (
    "UPDATE crawl_target t SET lease_owner = %(owner)s, lease_until = clock_timestamp() + %(lease)s * interval '1 s' "
    "FROM (SELECT id FROM crawl_target WHERE id = ANY(%(ids)s) "
    "AND (lease_owner = %(owner)s OR lease_until IS NULL OR lease_until <= clock_timestamp()) "
    "ORDER BY id FOR UPDATE) free WHERE t.id = free.id RETURNING t.id, t.covered::text, t.unreachable::text, "
    "t.account_posts, coalesce(t.crawled_at >= to_timestamp(%(since)s), false)"
)
_NOTE: LiteralString = (
    "WITH walked AS (SELECT * FROM json_to_recordset(%(walked)s::json) AS v(target bigint, page uuid, "
    "endpoint text, params jsonb, credential text, body bytea, state text, reason text)), "
    "page AS (INSERT INTO crawl_page (id, run_id, target_id, endpoint, params, credential, post_count, user_count, "
    "new_count, updated_count, body) SELECT page, %(run)s, target, endpoint, params, credential, 0, 0, 0, 0, body "
    "FROM walked ON CONFLICT (id) DO NOTHING) "
    "UPDATE crawl_target t SET state = v.state, state_reason = v.reason, "
    "state_at = CASE WHEN t.state = v.state THEN t.state_at ELSE clock_timestamp() END, "
    "crawled_at = clock_timestamp(), due_at = NULL, "
    "lease_until = CASE WHEN t.lease_owner = %(owner)s THEN NULL ELSE t.lease_until END "
    "FROM walked v WHERE t.id = v.target"
)

_POSTS_A_VISIT = 10
_SCHEDULE: LiteralString = (
    "UPDATE crawl_target t SET due_at = clock_timestamp() + interval '1 s' * CASE "
    "WHEN t.state = 'failed' THEN %(least)s "
    "WHEN l.posts IS NULL OR l.oldest < 30000000000 THEN %(longest)s "
    "ELSE least(%(longest)s, greatest(%(least)s, (extract(epoch FROM clock_timestamp()) - l.newest_s) / 2, "
    "%(posts)s * (extract(epoch FROM clock_timestamp()) - l.oldest_s) / l.posts)) END::float8 "
    "FROM crawl_run r, (SELECT DISTINCT target_id FROM crawl_page WHERE run_id = %(run)s AND target_id IS NOT NULL) v "
    "LEFT JOIN LATERAL (SELECT sum(post_count) AS posts, min(oldest_id) AS oldest, "
    "((min(oldest_id) >> 22) + 1288834974657) / 1000.0 AS oldest_s, "
    "((max(newest_id) >> 22) + 1288834974657) / 1000.0 AS newest_s FROM (SELECT post_count, oldest_id, newest_id, "
    "sum(post_count) OVER (ORDER BY oldest_id DESC) - post_count AS newer FROM (SELECT * FROM crawl_page "
    "WHERE target_id = v.target_id AND oldest_id IS NOT NULL ORDER BY oldest_id DESC LIMIT 3) p) p WHERE newer < 20"
    ") l ON true WHERE r.id = %(run)s AND t.id = v.target_id AND t.kind = 'timeline' "
    # A walk that a budget or a signal stopped stays due.
    "AND (t.state = 'failed' OR (t.state = ANY('{ok,renamed}') AND t.crawled_at >= r.started_at))"
)

# The handles that posts name, each as often as it is named.
_REFERENCES: Mapping[str, LiteralString] = {
    "retweets": "SELECT lower(retweeted_status_user_handle) FROM {t}",
    "mentions": "SELECT lower(m) FROM {t}, unnest(user_mentions_name::text[]) m",
    "replies": "SELECT lower(in_reply_to_screen_name) FROM {t}",
}
_COUNTS = (
    "like_count",
    "retweet_count",
    "reply_count",
    "quote_count",
    "bookmark_count",
    "impression_count",
)
# The row tells what the counts were, and the page of the author's timeline when: where the post came by another
# way, the time stays open.
_COUNTS_BEFORE: LiteralString = (
    "INSERT INTO crawl_metrics (tweet_id, seen_at, like_count, retweet_count) "
    "SELECT t.id, (SELECT max(p.fetched_at) FROM crawl_target k JOIN crawl_page p ON p.target_id = k.id "
    "WHERE k.kind = 'timeline' AND k.handle = lower(t.tweet_from) AND t.id BETWEEN p.oldest_id AND p.newest_id), "
    "t.favorite_count, t.retweet_count FROM {t} t WHERE t.id = ANY(%(ids)s) "
    "AND NOT EXISTS (SELECT FROM crawl_metrics m WHERE m.tweet_id = t.id) ON CONFLICT DO NOTHING"
)


def _insert_page(connection: psycopg.Connection[Any], run: int, bought: Bought) -> None:
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
            _compressed(bought.body),
        ],
    )


def _save_parameters(run: int, owner: str, batch: Batch, keep_body: bool) -> dict[str, Any]:
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
        "body": _compressed(bought.body) if keep_body else None,
        "covered": coverage.to_text([batch.covered] if batch.covered else []),
        "unreachable": coverage.to_text([batch.unreachable] if batch.unreachable else []),
        "unreachable_reason": batch.unreachable_reason or None,
        "username": batch.username,
        "account_posts": batch.account_posts,
        "searched": batch.searched,
        "owner": owner,
        "lease": LEASE_S,
    }


# Of JSON pages the lowest level makes no more bytes than the usual one, in two thirds of its time. One for all pages of
# a process: to make it takes a hundred times as long as a small page.
_COMPRESSOR = zstandard.ZstdCompressor(level=1)


def _compressed(body: bytes) -> bytes:
    return _COMPRESSOR.compress(body)


class _Numbered:
    """A statement whose named parameters were numbered once, not at each run: psycopg remembers short ones only."""

    def __init__(self, statement: sql.Composed) -> None:
        numbers: dict[str, int] = {}

        def numbered(name: re.Match[str]) -> str:
            return f"${numbers.setdefault(name[1], len(numbers) + 1)}"

        self._text = re.sub(r"%\((\w+)\)s", numbered, statement.as_string(None)).encode()
        self._names = list(numbers)

    def run(self, connection: psycopg.Connection[Any], given: Mapping[str, Any]) -> psycopg.RawCursor[Any]:
        return psycopg.RawCursor(connection).execute(self._text, [given[name] for name in self._names])


@cache
def _save_statement(table: str) -> _Numbered:
    """One statement, so one transaction and one round trip.

    Only rows that are new or differ are written: a page that is saved again writes nothing. The row is sorted
    by id before it is written, so that two writers of the same ids never wait for each other in a ring.
    """
    return _page_statement(sql.SQL("{}, {}").format(_BATCH, _upserted(table)), found=True)


@cache
def _save_new_statement(table: str) -> _Numbered:
    """The same for a page of which nothing is stored yet, in two thirds of its time; of any other it saves nothing.

    Rows that another process writes at the same moment are left to it, so that fewer are counted than there are.
    """
    saved = sql.SQL(
        "saved AS (INSERT INTO {t} ({cols}) SELECT {cols} FROM batch "
        "WHERE NOT EXISTS (SELECT FROM {t} WHERE id = ANY(%(ids)s::bigint[])) ORDER BY id "
        "ON CONFLICT (id) DO NOTHING RETURNING id), "
        "counted AS (SELECT count(*) AS new, 0::bigint AS updated FROM saved HAVING count(*) > 0)"
    ).format(t=sql.Identifier(*table.split(".")), cols=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)))
    return _page_statement(sql.SQL("{}, {}").format(_BATCH, saved))


@cache
def _save_empty_statement() -> _Numbered:
    """The same for a page without rows: to plan what would be done with them is most of the work."""
    return _page_statement(sql.SQL("counted AS (SELECT 0::bigint AS new, 0::bigint AS updated)"))


def _page_statement(counted: sql.Composable, *, found: bool = False) -> _Numbered:
    """`counted` gives what became of the rows as `counted` (new, updated); without it nothing is saved.

    With `found` it gives them as `batch`, too, and they are noted as found by a search, when it was one.
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


def _saved(answer: psycopg.RawCursor[Any]) -> Saved:
    row = answer.fetchone()
    return Saved(row[0], row[1], bool(row[2])) if row else Saved(0, 0, leased=False)


@cache
def _load_statement(table: str) -> bytes:
    """The rows of the stage into the table: how many were new, and how many others changed."""
    composed = sql.SQL(
        "WITH batch AS (SELECT * FROM import_stage), {upserted} SELECT new, updated FROM counted"
    ).format(upserted=_upserted(table))
    return composed.as_bytes(None)


@cache
def _set_aside_statement(table: str) -> bytes:
    """Takes those of the given ids out of the stage that the table has."""
    return (
        sql.SQL("DELETE FROM import_stage s USING {} t WHERE s.id = t.id AND s.id = ANY(%s)")
        .format(sql.Identifier(*table.split(".")))
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
            sql.SQL("{0} = coalesce(excluded.{0}, t.{0})" if c in KEPT else "{0} = excluded.{0}").format(
                sql.Identifier(c)
            )
            for c in COLUMNS
            if c != "id"
        ),
    )


_ROW_TYPES = sql.SQL(", ").join(
    sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(_TYPES[c])) for c in COLUMNS
)
_BATCH = sql.SQL("batch AS MATERIALIZED (SELECT * FROM json_to_recordset(%(rows)s::json) AS r({}))").format(_ROW_TYPES)
# Dropped with its transaction: behind a pooler the next one may run on another connection to the server.
_STAGE = sql.SQL("CREATE TEMP TABLE import_stage ({}) ON COMMIT DROP").format(_ROW_TYPES).as_bytes(None)
_STAGE_COPY = sql.SQL("COPY import_stage ({}) FROM STDIN").format(
    sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
)


class Accounts:
    """What was bought and what is known, read in one transaction; see `Database.accounts`.

    Times are seconds since 1970 on the database's clock.
    """

    def __init__(self, connection: psycopg.Connection[Any], table: str) -> None:
        self._connection = connection
        self._table = table

    def now(self) -> float:
        """The database's clock."""
        row = self._connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        return float(row[0]) if row else 0.0

    def purchases(
        self, *, since: float | None = None, until: float | None = None, run: int | None = None
    ) -> list[Purchase]:
        """What was bought in a time (from `since` on, before `until`), or by one run."""
        rows = self._connection.execute(
            _PURCHASES[run is None], {"since": since, "until": until, "run": run}
        ).fetchall()
        return [Purchase(*row) for row in rows]

    def reserved(self) -> list[Reserved]:
        """What requests under way may cost, and requests whose process was killed may have cost."""
        rows = self._connection.execute(
            "SELECT run_id, owner, endpoint, extract(epoch FROM reserved_at)::float8, posts, micro_usd "
            "FROM crawl_reserved ORDER BY reserved_at"
        ).fetchall()
        return [Reserved(*row) for row in rows]

    def states(self) -> list[tuple[str, str, int]]:
        """How many targets are of each kind and state."""
        return self._connection.execute(
            "SELECT kind, state, sum(targets)::bigint FROM crawl_target_count GROUP BY 1, 2 "
            "HAVING sum(targets) <> 0 ORDER BY 1, 3 DESC, 2"
        ).fetchall()

    def known(self, handles: Sequence[str]) -> dict[str, Known]:
        """The targets of these handles (folded); a handle of a renamed account gives its account."""
        rows = self._connection.execute(
            f"SELECT named.handle, {_KNOWN} FROM crawl_target named "
            f"JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id) {_LATEST} "
            "WHERE named.kind = %s AND named.handle = ANY(%s)",
            [TIMELINE, list(handles)],
        ).fetchall()
        return {row[0]: _known(row[1:]) for row in rows}

    def due(self, handles: Sequence[str]) -> tuple[list[str], float | None]:
        """Those of the handles (folded) that are to be visited now, and the seconds until the next one is."""
        rows = self._connection.execute(
            "SELECT h, coalesce(extract(epoch FROM t.due_at - clock_timestamp()), 0)::float8 "
            "FROM unnest(%s::text[]) h LEFT JOIN crawl_target named ON named.kind = 'timeline' AND named.handle = h "
            "LEFT JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id)",
            [list(handles)],
        ).fetchall()
        return [h for h, wait_s in rows if wait_s <= 0], min((w for _, w in rows if w > 0), default=None)

    def known_searches(self, asked: Sequence[str]) -> dict[str, Known]:
        """The targets of these normalised queries, by query."""
        by_key = {queries.key_of(query): query for query in asked}
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM crawl_target t {_LATEST} WHERE t.kind = %s AND t.key = ANY(%s)",
            [SEARCH, list(by_key)],
        ).fetchall()
        return {by_key[str(known.key)]: known for known in map(_known, rows)}

    def listed(self, states: Sequence[str], limit: int) -> list[Known]:
        """So many targets of these states, those that were made first before the others."""
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM (SELECT * FROM crawl_target WHERE state = ANY(%s) AND kind = ANY(%s) "
            f"ORDER BY id LIMIT %s) t {_LATEST} ORDER BY t.id",
            [list(states), [TIMELINE, SEARCH], limit],
        ).fetchall()
        return [_known(row) for row in rows]

    def sampled(self, count: int) -> list[Known]:
        """About so many targets by chance, all of them when there are not many more; those that can be crawled."""
        guess = self._connection.execute(
            "SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'crawl_target'::regclass"
        ).fetchone()
        total = float(guess[0]) if guess else 0.0
        percent = 100.0 if total <= 2 * count else 100.0 * count / total
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM (SELECT * FROM crawl_target TABLESAMPLE SYSTEM (%s)) t {_LATEST} "
            "WHERE t.same_as IS NULL AND t.state = ANY(%s) LIMIT %s",
            [percent, ["new", "ok", "renamed", "failed"], 4 * count],
        ).fetchall()
        return [_known(row) for row in rows]

    def named(self, name: str) -> list[Known]:
        """The targets that go by this name: a handle as listed or as it is now, a query, a name of its file."""
        rows = self._connection.execute(
            f"SELECT {_KNOWN} FROM crawl_target n JOIN crawl_target t ON t.id = coalesce(n.same_as, n.id) {_LATEST} "
            "WHERE (n.kind = 'timeline' AND n.handle = lower(%(name)s)) OR (n.kind = 'search' "
            "AND n.key = ANY(%(keys)s)) OR (n.kind = 'search' AND n.handle = %(name)s)",
            {"name": name, "keys": [queries.key_of(queries.normalised(name))]},
        ).fetchall()
        return list({known.id: known for known in map(_known, rows)}.values())

    def pages_of(self, target: int, limit: int) -> list[dict[str, Any]]:
        """The newest pages of a target: run, at, endpoint, credential, posts, new, newest_id, oldest_id."""
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                "SELECT run_id AS run, extract(epoch FROM fetched_at)::float8 AS at, endpoint, credential, "
                "post_count AS posts, new_count AS new, newest_id, oldest_id FROM crawl_page "
                "WHERE target_id = %s ORDER BY oldest_id DESC NULLS LAST, fetched_at DESC LIMIT %s",
                [target, limit],
            ).fetchall()

    def windows(self) -> list[Window]:
        """Every bucket of a known credential that was ever used."""
        rows = self._connection.execute(_WINDOWS).fetchall()
        return [Window(*row) for row in rows]

    def runs(self, *, limit: int | None = None, run: int | None = None) -> list[Run]:
        """The last runs, the newest first; or one of them."""
        rows = self._connection.execute(
            "SELECT id, version, host, extract(epoch FROM started_at)::float8, "
            "extract(epoch FROM ended_at)::float8, exit_code, arguments, coalesce(report, '{}'::jsonb) "
            "FROM crawl_run WHERE %(run)s::bigint IS NULL OR id = %(run)s ORDER BY id DESC LIMIT %(limit)s",
            {"run": run, "limit": limit},
        ).fetchall()
        return [Run(*row) for row in rows]

    def plan(self, subject: str, *, before: float) -> tuple[float, Mapping[str, Any]] | None:
        """The last plan of this kind of run that was made before a moment, and when it was made."""
        row = self._connection.execute(
            "SELECT extract(epoch FROM made_at)::float8, plan FROM crawl_plan WHERE subject = %s "
            "AND made_at <= to_timestamp(%s) ORDER BY made_at DESC LIMIT 1",
            [subject, before],
        ).fetchone()
        return (row[0], row[1]) if row else None

    def usages(self) -> list[Usage]:
        """What X last told each credential of its project's posts."""
        rows = self._connection.execute(
            "SELECT DISTINCT ON (credential) credential, extract(epoch FROM fetched_at)::float8, body "
            "FROM crawl_page WHERE endpoint = '/2/usage/tweets' AND body IS NOT NULL "
            "AND fetched_at > clock_timestamp() - interval '60 days' ORDER BY credential, fetched_at DESC"
        ).fetchall()
        found = []
        for credential, asked_at, body in rows:
            answer = orjson.loads(zstandard.decompress(body))
            if isinstance(answer, dict) and (usage := usage_of(credential, asked_at, answer)):
                found.append(usage)
        return found

    def apps(self) -> dict[str, str]:
        """The app that each credential belongs to, by labels; apps are called by a fingerprint."""
        rows = self._connection.execute("SELECT label, app_fingerprint FROM api_credential").fetchall()
        return dict(rows)

    def posts_by_day(self, *, lowest: int) -> list[tuple[date, int]]:
        """How many of the stored posts were written on each UTC day, from an id on; by their ids."""
        return self._connection.execute(
            sql.SQL(
                "SELECT (to_timestamp(((id >> 22) + 1288834974657) / 1000.0) AT TIME ZONE 'UTC')::date, count(*) "
                "FROM {} WHERE id >= %s GROUP BY 1 ORDER BY 1"
            ).format(sql.Identifier(*self._table.split("."))),
            [max(lowest, 30_000_000_000)],
        ).fetchall()

    def first_ids(self, targets: Sequence[int]) -> dict[int, int]:
        """The lowest id that was bought of each target."""
        rows = self._connection.execute(
            "SELECT t, (SELECT min(oldest_id) FROM crawl_page WHERE target_id = t) FROM unnest(%s::bigint[]) t",
            [list(targets)],
        ).fetchall()
        return {target: lowest for target, lowest in rows if lowest is not None}

    def queries_of(self, runs: Sequence[int], limit: int) -> list[tuple[str, str]]:
        """The kinds of request that the runs sent, each with its parameters but for ids, tokens and names."""
        return self._connection.execute(
            "SELECT endpoint, params::text FROM (SELECT DISTINCT endpoint, params - ARRAY['since_id', 'until_id', "
            "'start_time', 'end_time', 'pagination_token', 'next_token', 'max_results', 'usernames', 'ids'] AS params "
            "FROM (SELECT endpoint, params FROM crawl_page WHERE run_id = ANY(%s) LIMIT 20000) s) d "
            "ORDER BY 1, 2 LIMIT %s",
            [list(runs), limit],
        ).fetchall()


_KNOWN: LiteralString = (
    "t.id, t.kind, t.key, coalesce(t.handle, t.key, ''), t.username, t.state, t.state_reason, "
    "extract(epoch FROM t.state_at)::float8, t.covered::text, t.unreachable::text, t.unreachable_reason, "
    "t.account_posts, t.post_count, extract(epoch FROM t.crawled_at)::float8, "
    "extract(epoch FROM t.due_at - clock_timestamp())::float8, latest.pages"
)
_LATEST: LiteralString = (
    "LEFT JOIN LATERAL (SELECT json_agg(json_build_array(p.post_count, p.newest_id, p.oldest_id)) AS pages "
    "FROM (SELECT post_count, newest_id, oldest_id FROM crawl_page WHERE target_id = t.id AND oldest_id IS NOT NULL "
    "ORDER BY oldest_id DESC LIMIT 3) p) latest ON true"
)


def _known(row: Sequence[Any]) -> Known:
    number, kind, key, handle, username, state, reason, state_at, covered, unreachable, why, *rest = row
    account_posts, posts, crawled_at, due_in_s, latest = rest
    return Known(
        number,
        kind,
        key,
        handle,
        username,
        state,
        reason,
        state_at,
        covered=coverage.from_text(covered),
        unreachable=coverage.from_text(unreachable),
        unreachable_reason=why,
        account_posts=account_posts,
        posts=posts,
        crawled_at=crawled_at,
        due_in_s=due_in_s,
        latest=[(count, newest, oldest) for count, newest, oldest in latest or ()],
    )


def _purchases(chosen: LiteralString) -> LiteralString:
    """One row for each run, UTC day, credential and endpoint.

    The posts that X charges once a day are those of a page which were stored before, as far as pages of the same
    target, endpoint and day hold them that came earlier and overlap with it.
    """
    return (
        "WITH repeated AS (SELECT p.run_id, p.day, p.credential, p.endpoint, "
        "sum(p.again) AS again, sum(least(p.again, coalesce(before.posts, 0))) AS free FROM ("
        "SELECT *, (fetched_at AT TIME ZONE 'UTC')::date AS day, greatest(0, post_count - new_count "
        "- coalesce(jsonb_array_length(refused), 0)) AS again FROM crawl_page WHERE post_count > new_count AND "
        + chosen
        + ") p LEFT JOIN LATERAL (SELECT sum(q.post_count) AS posts FROM crawl_page q WHERE q.target_id = p.target_id "
        "AND q.oldest_id <= p.newest_id AND q.newest_id >= p.oldest_id AND q.endpoint = p.endpoint "
        "AND (q.fetched_at, q.id) < (p.fetched_at, p.id) AND q.fetched_at >= p.day::timestamp AT TIME ZONE 'UTC'"
        ") before ON true GROUP BY 1, 2, 3, 4) "
        "SELECT b.run_id, b.day, b.credential, b.endpoint, b.pages, b.posts, b.users, b.new, "
        "coalesce(r.again, 0)::bigint, coalesce(r.free, 0)::bigint FROM ("
        "SELECT run_id, (fetched_at AT TIME ZONE 'UTC')::date AS day, credential, endpoint, count(*) AS pages, "
        "sum(post_count) AS posts, sum(user_count) AS users, sum(new_count) AS new FROM crawl_page WHERE "
        + chosen
        + " GROUP BY 1, 2, 3, 4) b LEFT JOIN repeated r USING (run_id, day, credential, endpoint) ORDER BY 1, 2, 3, 4"
    )


# By whether no run was named.
_PURCHASES: Mapping[bool, LiteralString] = {
    True: _purchases(
        "fetched_at >= coalesce(to_timestamp(%(since)s), '-infinity') "
        "AND fetched_at < coalesce(to_timestamp(%(until)s), 'infinity')"
    ),
    False: _purchases("run_id = %(run)s"),
}
# A window of an app is shown once, with the labels of all credentials that use it.
_WINDOWS: LiteralString = (
    "WITH owner AS (SELECT string_agg(label, ', ' ORDER BY label) AS label, 'user' AS kind, user_fingerprint AS subject "
    "FROM api_credential WHERE user_fingerprint IS NOT NULL GROUP BY 3 "
    "UNION ALL SELECT string_agg(label, ', ' ORDER BY label), 'app', app_fingerprint FROM api_credential GROUP BY 3) "
    'SELECT o.label, o.kind, b.endpoint, b."limit", b.remaining, b.window_s, '
    "greatest(0, extract(epoch FROM b.reset_at - clock_timestamp()))::float8, b.day_limit, b.day_remaining, "
    "greatest(0, extract(epoch FROM b.day_reset_at - clock_timestamp()))::float8, "
    "greatest(0, extract(epoch FROM b.blocked_until - clock_timestamp()))::float8, "
    "CASE WHEN b.shut_at IS NULL THEN 0 ELSE greatest(0, extract(epoch FROM b.shut_until - clock_timestamp())) "
    "END::float8, b.shut_reason "
    "FROM api_bucket b JOIN owner o USING (subject) ORDER BY 1, 2 DESC, 3"
)


# --- reading ------------------------------------------------------------------------------------------

_ROWS_A_BATCH = 1000
_PAGES_A_BATCH = 20

_KINDS = {
    **dict.fromkeys(("int2", "int4", "int8"), "whole"),
    **dict.fromkeys(("float4", "float8", "numeric"), "number"),
    "bool": "truth",
    "timestamptz": "time",
    "date": "date",
    "jsonb": "json",
}
# What each kind is read as, when it is not read as text; a list of it has [] behind.
_READ_AS = {
    "id": "int8",
    "whole": "int8",
    "number": "float8",
    "truth": "bool",
    "time": "timestamptz",
    "date": "date",
    "json": "text",
    "text": "text",
}
# The imposed table holds these as text.
_TYPED: dict[str, tuple[str, bool]] = {
    "created_at": ("time", False),
    "user_mentions_id": ("id", True),
    **dict.fromkeys(
        ("hashtags", "urls", "media", "user_mentions_name", "retweeted_status_url"), ("text", True)
    ),
}
# The view `tweets` has other names for some columns.
_ALSO_NAMED = {
    "tweet_from": "username",
    "user_mentions_name": "mention_names",
    "favorite_count": "like_count",
}

FILTERS: Mapping[str, LiteralString] = {
    "handle": "lower({tweet_from}) = ANY(%s)",
    "reply_to": "lower({in_reply_to_screen_name}) = ANY(%s)",
    "retweet_of": "lower({retweeted_status_user_handle}) = ANY(%s)",
    "mentions": "EXISTS (SELECT FROM unnest({user_mentions_name}::text[]) e WHERE lower(e) = ANY(%s))",
    "hashtag": "EXISTS (SELECT FROM unnest({hashtags}::text[]) e WHERE lower(e) = ANY(%s))",
    "since": "{created_at}::timestamptz >= %s",
    "until": "{created_at}::timestamptz < %s",
    "id": "{id} = ANY(%s::int8[])",
    "min_id": "{id} >= %s",
    "max_id": "{id} <= %s",
    "text": "strpos(lower({text}), lower(%s)) > 0",
    "url": "EXISTS (SELECT FROM unnest({urls}::text[]) e WHERE strpos(lower(e), lower(%s)) > 0)",
    "min_likes": "{favorite_count} >= %s",
    "max_likes": "{favorite_count} <= %s",
    "min_retweets": "{retweet_count} >= %s",
    "max_retweets": "{retweet_count} <= %s",
    "min_sentiment": "{sentiment} >= %s",
    "max_sentiment": "{sentiment} <= %s",
}
"""The filters that compare with a parameter: lists of folded names or ids, datetimes, text, int or Decimal."""

_HAS: dict[str, LiteralString] = {
    "hashtags": "cardinality({hashtags}::text[]) > 0",
    "urls": "cardinality({urls}::text[]) > 0",
    "media": "cardinality({media}::text[]) > 0",
    "mentions": "cardinality({user_mentions_name}::text[]) > 0",
}
CHOICES: Mapping[str, Mapping[str, LiteralString]] = {
    "has": _HAS,
    "without": _HAS,
    "is": {
        "original": "num_nonnulls({retweeted_status_id}, {in_reply_to_user_id}, {in_reply_to_status_id}) = 0",
        "reply": "({retweeted_status_id} IS NULL "
        "AND num_nonnulls({in_reply_to_user_id}, {in_reply_to_status_id}) > 0)",
        "retweet": "{retweeted_status_id} IS NOT NULL",
    },
}
"""The filters whose value is a list of these words."""


class _Found(NamedTuple):
    """A column as the catalog tells it, `shown` as it is read."""

    shown: Column
    is_text: bool


def _columns(connection: psycopg.Connection[Any], parts: Sequence[str]) -> list[_Found]:
    rows = connection.execute(
        "SELECT a.attname, coalesce(e.typname, t.typname), e.oid IS NOT NULL FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "JOIN pg_type t ON t.oid = a.atttypid "
        "LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' "
        "WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f') ORDER BY a.attnum",
        [sql.Identifier(*parts).as_string(connection)],
    ).fetchall()
    if not rows:
        there = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') "
            "AND pg_table_is_visible(c.oid) AND c.relnamespace::regnamespace::text "
            "NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 LIMIT 50"
        ).fetchall()
        raise ConfigurationError(
            f"the database has no table or view {'.'.join(parts)}; it has {', '.join(row[0] for row in there)}"
        )
    return [_found(*row) for row in rows]


def _found(name: str, type_name: str, is_list: bool) -> _Found:
    is_text = type_name in ("text", "varchar") and not is_list
    if is_text and name in _TYPED:
        return _Found(Column(name, *_TYPED[name]), is_text)
    kind = _KINDS.get(type_name, "text")
    if kind == "whole" and (name == "id" or name.endswith(("_id", "_ids"))):
        kind = "id"
    if type_name == "numeric" and (name == "id" or name.endswith("_id")):
        kind = "text"  # a float has too few digits for an id
    return _Found(Column(name, kind, is_list), is_text)


def _chosen(found: Sequence[_Found], names: Sequence[str], place: str) -> list[_Found]:
    by_name = {column.shown.name: column for column in found}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ConfigurationError(
            f"{place} has no column {', '.join(map(ascii, unknown))}; it has {', '.join(by_name)}"
        )
    return [by_name[name] for name in names] or list(found)


def _read_statement(
    parts: Sequence[str],
    found: Sequence[_Found],
    chosen: Sequence[_Found],
    conditions: Sequence[Condition],
    as_text: bool,
) -> tuple[sql.Composed, list[Any]]:
    known = {column.shown.name for column in found}
    place = ".".join(parts)
    statement = sql.SQL("SELECT {} FROM {} AS r").format(
        sql.SQL(", ").join(_expression(column.shown, as_text) for column in chosen), sql.Identifier(*parts)
    )
    parameters: list[Any] = []
    for number, condition in enumerate(conditions):
        statement += sql.SQL(" AND " if number else " WHERE ") + _predicate(condition, known, place)
        if condition.name in FILTERS:
            parameters.append(condition.value)
    if "id" in known:
        statement += sql.SQL(" ORDER BY r.id")
    return statement, parameters


def _expression(column: Column, as_text: bool) -> sql.Composed:
    read_as = "text" if as_text else _READ_AS[column.kind] + ("[]" if column.is_list else "")
    return sql.SQL("{}::{}").format(sql.Identifier("r", column.name), sql.SQL(read_as))


def _predicate(condition: Condition, known: set[str], place: str) -> sql.Composed:
    choices = CHOICES.get(condition.name)
    if choices is None:
        return _filled(FILTERS[condition.name], condition.name, known, place)
    any_of = sql.SQL(" OR ").join(
        _filled(choices[choice], condition.name, known, place) for choice in condition.value
    )
    shape = "NOT coalesce({}, false)" if condition.name == "without" else "({})"
    return sql.SQL(shape).format(any_of)


def _filled(template: LiteralString, name: str, known: set[str], place: str) -> sql.Composed:
    columns: dict[str, sql.Identifier] = {}
    for column in {field for _, field, _, _ in Formatter().parse(template) if field}:
        there = next((n for n in (column, _ALSO_NAMED.get(column)) if n in known), None)
        if there is None:
            raise ConfigurationError(
                f"the filter {name} reads the column {column}, which {place} does not have; leave the filter out "
                "or name another view"
            )
        columns[column] = sql.Identifier("r", there)
    return sql.SQL(template).format(**columns)


def _rows(cursor: psycopg.ServerCursor[Any], size: int) -> Iterator[Any]:
    for batch in _batches(cursor, size):
        yield from batch


def _batches(cursor: psycopg.ServerCursor[Any], size: int) -> Iterator[list[Any]]:
    while batch := cursor.fetchmany(size):
        yield batch


def _body(row: tuple[str, bytes]) -> bytes:
    try:
        return zstandard.decompress(row[1])
    except zstandard.ZstdError:
        raise DatabaseError(f"the body of page {row[0]} in crawl_page is damaged: set it to NULL") from None


def _lock_buckets(
    connection: psycopg.Connection[Any], subjects: list[str], endpoints: list[str]
) -> tuple[dict[Key, Bucket], float]:
    rows = connection.execute(_BUCKET_LOCK, {"subjects": subjects, "endpoints": endpoints}).fetchall()
    clock = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert clock is not None  # noqa: S101 - a SELECT without FROM gives a row
    return {(row[0], row[1]): Bucket(*row[2:]) for row in rows}, clock[0]


def _write_buckets(connection: psycopg.Connection[Any], buckets: Mapping[Key, Bucket], conflict: str) -> None:
    statement = _BUCKET_WRITE + conflict
    for key in sorted(buckets):
        bucket = buckets[key]
        connection.execute(
            statement.encode(),
            [*key, *(getattr(bucket, column) for column in _BUCKET_COLUMNS)],
        )


def _as_read(column: str) -> str:
    return f'extract(epoch FROM b."{column}")::float8' if column in _BUCKET_TIMES else f'b."{column}"'


def _as_written(column: str) -> str:
    return "to_timestamp(%s::float8)" if column in _BUCKET_TIMES else "%s"


_BUCKET_LOCK = (
    f"SELECT b.subject, b.endpoint, {', '.join(map(_as_read, _BUCKET_COLUMNS))} FROM api_bucket b "
    "JOIN unnest(%(subjects)s::text[], %(endpoints)s::text[]) AS k(subject, endpoint) USING (subject, endpoint) "
    "ORDER BY b.subject, b.endpoint FOR UPDATE OF b"
).encode()
_BUCKET_WRITE = (
    "INSERT INTO api_bucket (subject, endpoint, "
    + ", ".join(f'"{c}"' for c in _BUCKET_COLUMNS)
    + f") VALUES (%s, %s, {', '.join(map(_as_written, _BUCKET_COLUMNS))}) "
    + "ON CONFLICT (subject, endpoint) "
)
_BUCKET_UPDATE = "DO UPDATE SET " + ", ".join(f'"{c}" = excluded."{c}"' for c in _BUCKET_COLUMNS)


def conninfo_of(database: settings.Database) -> str:
    """The settings as a libpq connection string; what they leave open is left to libpq."""
    parts = {
        "host": database.host,
        "port": database.port,
        "dbname": database.name,
        "user": database.user,
        "password": database.password.reveal() if database.password else None,
    }
    given = database.conninfo.reveal() if database.conninfo else ""
    try:
        return make_conninfo(given, **{name: value for name, value in parts.items() if value is not None})
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "dbname is no connection string that libpq understands; correct it"
        ) from None
