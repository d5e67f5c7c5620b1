"""PostgreSQL: the only module that knows a query, and the only user of psycopg and alembic.

A `Database` is an address; a `Session` is one connection, opened for one handle and closed after it. Every
method of a session is one transaction that may be repeated without effect, so a session outlives a restart
of the server: it connects again and repeats what was under way.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import orjson
import psycopg
import zstandard
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tweetcrawler import coverage, settings
from tweetcrawler.batch import TIMELINE, Absent, Batch, Bought, Claim, Found, Saved, Target
from tweetcrawler.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseNotMigrated,
    DatabaseUnreachable,
)
from tweetcrawler.flatten import COLUMNS
from tweetcrawler.windows import Bucket

# The revision of `migrations/` that this program was written for.
SCHEMA = "0001"
LEASE_S = 60.0
# A server that restarts or fails over is waited for; one that is gone for longer ends the run.
PATIENCE_S = 300.0

Key = tuple[str, str]
T = TypeVar("T")
log = logging.getLogger(__name__)

# An include that is missing this time takes nothing away that is known.
_KEPT = {
    "tweet_from",
    "in_reply_to_screen_name",
    "retweeted_status_text",
    "retweeted_status_url",
    "retweeted_status_id",
    "retweeted_status_user_name",
    "retweeted_status_user_handle",
    "origin_device",
    "sentiment",
}
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
_BUCKET_TIMES = {"reset_at", "day_reset_at", "blocked_until", "shut_at", "shut_until"}


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """One connection, in autocommit, with nothing that a pooler between us and the server would mind."""
    return psycopg.connect(
        conninfo, autocommit=True, connect_timeout=10, application_name="tweetcrawler", prepare_threshold=None
    )


class Database:
    """The address of a PostgreSQL database and the name of the table of tweets in it."""

    def __init__(self, conninfo: str, table: str = "tweet_articles_tweepy") -> None:
        self._conninfo = conninfo
        self.table = table

    def __repr__(self) -> str:
        return f"Database({self.place})"

    @property
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

    def check(self) -> None:
        """Raises what keeps a run from starting: no server, no schema, another schema."""
        try:
            with connect(self._conninfo) as connection:
                schema = _schema_of(connection)
                table = connection.execute("SELECT to_regclass(%s)", [self.table]).fetchone()
        except psycopg.OperationalError as error:
            raise DatabaseUnreachable(
                f"the {self.place} cannot be used: {_first_line(error)}; check dbhost, dbname, dbuser and dbpass"
            ) from None
        if schema is None:
            raise DatabaseNotMigrated(f"the {self.place} has no schema yet: run `alembic upgrade head` first")
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
        config.attributes.update(conninfo=self._conninfo, table=self.table, refusal=DatabaseNotMigrated)
        try:
            command.upgrade(config, "head")
        except psycopg.OperationalError as error:
            raise DatabaseUnreachable(f"the {self.place} cannot be used: {_first_line(error)}") from None

    def query(self, statement: LiteralString) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The column names and rows of a query."""
        with connect(self._conninfo) as connection:
            cursor = connection.execute(statement)
            return [column.name for column in cursor.description or ()], cursor.fetchall()


class Session:
    """One connection to the database; see `Database.session`."""

    def __init__(self, conninfo: str, table: str, place: str, stopping: Callable[[], bool]) -> None:
        self._conninfo = conninfo
        self._place = place
        self._stopping = stopping
        self._connection: psycopg.Connection[Any] | None = None
        self._save = _save_statement(table)

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
                "greatest(0, extract(epoch FROM t.due_at - clock_timestamp()))::float8 "
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

        def work(connection: psycopg.Connection[Any]) -> set[str]:
            rows = connection.execute(
                "INSERT INTO crawl_target AS t (kind, handle, lease_owner, lease_until) "
                "SELECT %(kind)s, h, %(owner)s, clock_timestamp() + %(lease)s * interval '1 s' "
                "FROM unnest(%(handles)s::text[]) h ORDER BY h "
                "ON CONFLICT (kind, handle) DO UPDATE SET lease_owner = excluded.lease_owner, "
                "lease_until = excluded.lease_until "
                "WHERE t.key IS NULL AND t.same_as IS NULL "
                "AND (t.lease_owner = excluded.lease_owner OR t.lease_until IS NULL "
                "OR t.lease_until <= clock_timestamp()) RETURNING t.handle",
                {"kind": TIMELINE, "owner": owner, "lease": LEASE_S, "handles": sorted(set(handles))},
            ).fetchall()
            return {row[0] for row in rows}

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

        self._lasting(work)

    def claim(self, target: int, owner: str, since: float) -> Claim | None:
        """The lease of a target, with what is known of it; None while another process has it."""

        def work(connection: psycopg.Connection[Any]) -> Claim | None:
            row = connection.execute(
                "UPDATE crawl_target SET lease_owner = %(owner)s, "
                "lease_until = clock_timestamp() + %(lease)s * interval '1 s' WHERE id = %(id)s "
                "AND (lease_owner = %(owner)s OR lease_until IS NULL OR lease_until <= clock_timestamp()) "
                "RETURNING covered::text, unreachable::text, account_posts, "
                "coalesce(crawled_at >= to_timestamp(%(since)s), false)",
                {"id": target, "owner": owner, "lease": LEASE_S, "since": since},
            ).fetchone()
            if row is None:
                return None
            return Claim(coverage.from_text(row[0]), coverage.from_text(row[1]), row[2], row[3])

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

    def save(self, run: int, owner: str, batch: Batch, *, keep_body: bool = True) -> Saved:
        """Saves a page in one transaction: its rows, itself, the coverage it adds; renews the lease."""
        given = _save_parameters(run, owner, batch, keep_body)

        def work(connection: psycopg.Connection[Any]) -> Saved:
            row = connection.execute(self._save, given).fetchone()
            assert row is not None  # noqa: S101 - a SELECT of aggregates gives a row
            return Saved(row[0], row[1], bool(row[2]))

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

    def release(self, owner: str) -> None:
        """Gives back every lease of this owner."""
        self._lasting(
            lambda c: c.execute(
                "UPDATE crawl_target SET lease_until = NULL WHERE lease_owner = %s AND lease_until IS NOT NULL",
                [owner],
            )
        )

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

    # -- lasting ---------------------------------------------------------------------------------------

    def _lasting(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Does the work, again and again while the server is away, restarting, full or in conflict."""
        gives_up_at = time.monotonic() + PATIENCE_S
        delay_s = 0.05
        while True:
            try:
                if self._connection is None:
                    self._connection = connect(self._conninfo)
                return work(self._connection)
            except psycopg.Error as error:
                if not isinstance(error, _PASSING) or error.sqlstate in _PERMANENT:
                    raise DatabaseError(f"the {self._place} refuses: {_first_line(error)}") from None
                if not isinstance(error, _IN_CONFLICT):
                    self.close()
                    log.warning("the %s does not work: %s; trying again", self._place, _first_line(error))
                if self._stopping() or time.monotonic() >= gives_up_at:
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
            zstandard.compress(bought.body),
        ],
    )


def _save_parameters(run: int, owner: str, batch: Batch, keep_body: bool) -> dict[str, Any]:
    bought = batch.bought
    ids = [row["id"] for row in batch.rows]
    return {
        "rows": orjson.dumps(list(batch.rows)).decode(),
        "page": bought.id,
        "run": run,
        "target": batch.target,
        "endpoint": bought.endpoint,
        "params": Jsonb(dict(bought.params)),
        "credential": bought.credential,
        "posts": bought.posts,
        "users": bought.users,
        "newest": max(ids, default=None),
        "oldest": min(ids, default=None),
        "refused": Jsonb([{"id": i, "reason": reason} for i, reason in batch.refused])
        if batch.refused
        else None,
        "body": zstandard.compress(bought.body) if keep_body else None,
        "covered": coverage.to_text([batch.covered] if batch.covered else []),
        "unreachable": coverage.to_text([batch.unreachable] if batch.unreachable else []),
        "unreachable_reason": batch.unreachable_reason or None,
        "username": batch.username,
        "account_posts": batch.account_posts,
        "owner": owner,
        "lease": LEASE_S,
    }


def _save_statement(table: str) -> bytes:
    """One statement, so one transaction and one round trip.

    Only rows that are new or differ are written: a page that is saved again writes nothing. The row is sorted
    by id before it is written, so that two writers of the same ids never wait for each other in a ring.
    """
    t = sql.Identifier(*table.split("."))
    merged = sql.SQL(", ").join(
        sql.SQL("coalesce(b.{0}, t.{0}) AS {0}" if c in _KEPT else "b.{0}").format(sql.Identifier(c))
        for c in COLUMNS
    )
    composed = sql.SQL(
        "WITH batch AS (SELECT * FROM json_to_recordset(%(rows)s::json) AS r({typed})), "
        "merged AS (SELECT {merged} FROM batch b LEFT JOIN {t} t ON t.id = b.id), "
        "changed AS (SELECT m.* FROM merged m LEFT JOIN {t} t ON t.id = m.id "
        "WHERE t.id IS NULL OR ({m_cols}) IS DISTINCT FROM ({t_cols}) ORDER BY m.id), "
        "saved AS (INSERT INTO {t} AS t ({cols}) SELECT {cols} FROM changed "
        "ON CONFLICT (id) DO UPDATE SET {sets} RETURNING (xmax = 0) AS is_new), "
        "counted AS (SELECT count(*) FILTER (WHERE is_new) AS new, count(*) FILTER (WHERE NOT is_new) AS updated "
        "FROM saved), "
        "page AS (INSERT INTO crawl_page (id, run_id, target_id, endpoint, params, credential, post_count, "
        "user_count, new_count, updated_count, newest_id, oldest_id, refused, body) "
        "SELECT %(page)s, %(run)s, %(target)s, %(endpoint)s, %(params)s, %(credential)s, %(posts)s, %(users)s, "
        "new, updated, %(newest)s::bigint, %(oldest)s::bigint, %(refused)s, %(body)s FROM counted "
        "ON CONFLICT (id) DO NOTHING RETURNING id), "
        "target AS (UPDATE crawl_target SET covered = covered + %(covered)s::int8multirange, "
        "unreachable = unreachable + %(unreachable)s::int8multirange, "
        "unreachable_reason = coalesce(%(unreachable_reason)s, unreachable_reason), "
        "username = coalesce(%(username)s, username), "
        "account_posts = coalesce(%(account_posts)s, account_posts), "
        "post_count = post_count + CASE WHEN EXISTS (SELECT FROM page) THEN %(posts)s ELSE 0 END, "
        "lease_until = CASE WHEN lease_owner = %(owner)s "
        "THEN clock_timestamp() + %(lease)s * interval '1 s' ELSE lease_until END "
        "WHERE id = %(target)s RETURNING lease_owner = %(owner)s AS leased) "
        "SELECT new, updated, (SELECT leased FROM target) FROM counted"
    ).format(
        t=t,
        typed=sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(_TYPES[c])) for c in COLUMNS
        ),
        merged=merged,
        cols=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
        m_cols=sql.SQL(", ").join(sql.Identifier("m", c) for c in COLUMNS),
        t_cols=sql.SQL(", ").join(sql.Identifier("t", c) for c in COLUMNS),
        sets=sql.SQL(", ").join(
            sql.SQL("{0} = coalesce(excluded.{0}, t.{0})" if c in _KEPT else "{0} = excluded.{0}").format(
                sql.Identifier(c)
            )
            for c in COLUMNS
            if c != "id"
        ),
    )
    return composed.as_bytes(None)


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
