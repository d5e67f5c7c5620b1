"""PostgreSQL: the only module that knows a query, and the only user of psycopg and alembic.

A `Database` is an address; a `Session` is one connection, opened for one handle and closed
after it. Every method of a session is one transaction that may be repeated without effect,
so a session outlives a restart of the server: it connects again and repeats what was under
way.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import orjson
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from tweetcrawler import budget, coverage, queries
from tweetcrawler.budget import Grant, Limits, Want
from tweetcrawler.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseNotMigrated,
    DatabaseUnreachable,
)
from tweetcrawler.identity import is_gone
from tweetcrawler.pages import Batch, Bought, Gone, Lookup, Metrics, NoNews, Saved
from tweetcrawler.postgres.books import Reader as Reader
from tweetcrawler.postgres.buckets import BUCKET_UPDATE, Key, lock_buckets, write_buckets
from tweetcrawler.postgres.budgets import rooms_of, spend, spending
from tweetcrawler.postgres.connection import (
    IN_CONFLICT,
    Connection,
    connect,
    first_line,
    passes,
    sleep,
)
from tweetcrawler.postgres.connection import conninfo_of as conninfo_of
from tweetcrawler.postgres.export import CHOICES as CHOICES
from tweetcrawler.postgres.export import FILTERS as FILTERS
from tweetcrawler.postgres.export import (
    PAGES_A_BATCH,
    ROWS_A_BATCH,
    body_of,
    choose,
    columns_of,
    in_batches,
    read_statement,
    rows_of,
)
from tweetcrawler.postgres.export import Column as Column
from tweetcrawler.postgres.export import Condition as Condition
from tweetcrawler.postgres.pages import (
    STAGE,
    STAGE_COPY,
    compressed,
    insert_page,
    load_cut_statement,
    load_statement,
    save_empty_statement,
    save_new_statement,
    save_parameters,
    save_statement,
    saved_of,
)
from tweetcrawler.prices import Tariff
from tweetcrawler.targets import (
    LEASE_S,
    SEARCH,
    TIMELINE,
    Absent,
    Claim,
    Found,
    Place,
    Target,
    Trend,
)
from tweetcrawler.windows import Bucket

T = TypeVar("T")
log = logging.getLogger(__name__)


# The revision of `migrations/` that this program was written for.
SCHEMA = "0001"
# A server that restarts or fails over is waited for; one that is gone for longer ends the run.
PATIENCE_S = 300.0


@dataclass(frozen=True)
class ImportState:
    """How far a file was imported, and what it held up to there.

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
                f"the {self.place} cannot be used: {first_line(error)}; check dbhost, dbname, dbuser and dbpass"
            ) from None

    def check(self) -> None:
        """Raises what keeps a run from starting: no server, no schema, another schema."""
        with self.connect() as connection:
            schema = _schema_of(connection)
            table = connection.execute("SELECT to_regclass(%s)", [self.table]).fetchone()
        if schema is None:
            raise DatabaseNotMigrated(
                f"the {self.place} has no schema yet: run `tweetcrawler db upgrade`, or `alembic upgrade head` in a checkout"
            )
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
        """The columns and rows of a view or table (default: that of the tweets), of one
        moment, in batches.

        Rows go by ascending id where there is a column of that name. `names` chooses
        columns and their order. `as_text` gives every value as PostgreSQL prints it.
        Without it whole numbers are int, numbers float, times aware datetimes in UTC, JSON
        its text; the lists and times that the table of the tweets holds as text are lists
        and times. No more than a batch is in memory.

        **Errors**: `ConfigurationError` for a view, column or filter that is not there, and for a stored text
        that is no list or time. `DatabaseError` when the server refuses or goes away.
        """
        parts = tuple((view or self.table).split("."))
        with self._reading() as connection:
            found = columns_of(connection, parts)
            chosen = choose(found, names, ".".join(parts))
            statement, parameters = read_statement(parts, found, chosen, conditions, as_text)
            with connection.cursor("export") as cursor:
                cursor.execute(statement, parameters)
                yield [column.shown for column in chosen], in_batches(cursor, ROWS_A_BATCH)

    @contextmanager
    def pages(self, handles: Sequence[str] | None = None) -> Iterator[tuple[int, Iterator[bytes]]]:
        """How many pages of posts were stored without their body, and the bodies of the
        others as received.

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
                yield without[0] if without else 0, map(body_of, rows_of(cursor, PAGES_A_BATCH))

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """What was bought and what is known, as of one moment.

        **Errors**: `DatabaseError` when the server refuses or goes away.
        """
        with self._reading() as connection:
            yield Reader(connection, self.table)

    def keep_plan(self, subject: str, plan: Mapping[str, Any]) -> None:
        """Remembers what was foretold of a kind of run."""
        with self.connect() as connection:
            connection.execute(
                "INSERT INTO crawl_plan (subject, plan) VALUES (%s, %s)",
                [subject, Jsonb(dict(plan))],
            )

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection in a transaction that only reads, with psycopg's errors as ours."""
        try:
            # An interrupt may come amid a command, when no ROLLBACK can be sent: the end of
            # the connection is one.
            with closing(connect(self._conninfo)) as connection:
                connection.execute("BEGIN READ ONLY")
                # For this transaction only: a pooler may hand the connection to somebody
                # else afterwards.
                connection.execute(
                    "SELECT set_config(name, value, true) FROM (VALUES ('TimeZone', 'UTC'), ('DateStyle', 'ISO'), "
                    "('client_encoding', 'UTF8'), ('extra_float_digits', '1')) AS s(name, value)"
                )
                yield connection
                connection.execute("COMMIT")
        except psycopg.DataError as error:
            raise ConfigurationError(
                f"a value in the {self.place} is not what its column holds: {first_line(error)}; csv takes it as "
                "it is stored, or correct that row"
            ) from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise DatabaseUnreachable(
                f"the {self.place} does not work: {first_line(error)}; run again when it is back"
            ) from None
        except psycopg.Error as error:
            raise DatabaseError(f"the {self.place} refuses: {first_line(error)}") from None


class Session:
    """One connection to the database; see `Database.session`."""

    def __init__(self, conninfo: str, table: str, place: str, stopping: Callable[[], bool]) -> None:
        self._conninfo = conninfo
        self._place = place
        self._stopping = stopping
        self._connection: Connection | None = None
        self._gave_up = False
        self._save = save_statement(table)
        self._save_new = save_new_statement(table)
        self._news_come = True
        self._load = load_statement(table)
        self._load_cut = load_cut_statement(table)
        self._leased: set[int] = set()
        self._leased_posts: set[int] = set()
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

        return self._retrying(work)

    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None:
        """Notes how a run ended."""
        self._retrying(
            lambda c: c.execute(
                "UPDATE crawl_run SET ended_at = clock_timestamp(), exit_code = %s, report = %s WHERE id = %s",
                [exit_code, Jsonb(dict(report)), run],
            )
        )

    def totals(self, run: int) -> list[dict[str, Any]]:
        """What the run bought, from its pages: one dict a (credential, endpoint).

        Keys: credential, endpoint, pages, posts, users, new, updated, again (posts that
        were stored already).
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

        return self._retrying(work)

    # -- targets ---------------------------------------------------------------------------------------

    def targets(self, handles: Sequence[str]) -> dict[str, Target]:
        """The stored targets of these handles, by handle; a handle of a renamed account
        gives its account.
        """

        def work(connection: psycopg.Connection[Any]) -> dict[str, Target]:
            rows = connection.execute(
                "SELECT named.handle, t.id, t.key, t.username, t.state, t.state_reason, "
                # Of a target that can be crawled it is the time that `watch` has for it,
                # and holds nobody else up.
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

        return self._retrying(work)

    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]:
        """Takes the lease of handles that nobody resolved yet; the rest is being resolved
        by others.
        """

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
                {
                    "kind": TIMELINE,
                    "owner": owner,
                    "lease": LEASE_S,
                    "handles": sorted(set(wanted)),
                },
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

        return self._retrying(work)

    def save_page(self, run: int, bought: Bought) -> None:
        """Stores an answer of X that holds no posts of a target, such as a count."""

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                insert_page(connection, run, bought)
                spend(connection, bought)

        self._retrying(work)

    def save_users(
        self,
        run: int,
        bought: Bought,
        found: Sequence[Found],
        absent: Sequence[Absent],
        *,
        rest_s: float,
    ) -> None:
        """Stores what X said of handles, with the answer itself; `rest_s` until absent ones
        are asked again.
        """

        def work(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                insert_page(connection, run, bought)
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
                    news
                    + "UPDATE crawl_target t SET same_as = o.id, lease_until = NULL, state = 'renamed', "
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
                spend(connection, bought)

        self._retrying(work)

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
                number: Claim(
                    coverage.from_text(covered), coverage.from_text(unreachable), posts, crawled
                )
                for number, covered, unreachable, posts, crawled in rows
            }

        def work(connection: psycopg.Connection[Any]) -> dict[int, Claim]:
            claims = take(connection, targets)
            others = [target for target in targets if target not in claims]
            if others and _free_from_the_dead(connection, "id = ANY(%(which)s)", others):
                claims |= take(connection, others)
            self._leased.update(claims)
            return claims

        return self._retrying(work)

    def posts_above(self, target: int, tweet_id: int) -> int:
        """How many posts of the target were received that are not older than this id."""

        def work(connection: psycopg.Connection[Any]) -> int:
            row = connection.execute(
                "SELECT coalesce(sum(post_count), 0) FROM crawl_page WHERE target_id = %s AND oldest_id >= %s",
                [target, tweet_id],
            ).fetchone()
            return int(row[0]) if row else 0

        return self._retrying(work)

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
            with spending(connection, batch.bought):
                connection.meanwhile = meanwhile
                if not batch.rows:
                    return saved_of(save_empty_statement().run(connection, given))
                first = Saved(0, 0, leased=False)
                if self._news_come and not batch.searched:
                    first = saved_of(self._save_new.run(connection, given))
                    if first.new == len(batch.rows):
                        return first
                saved = saved_of(self._save.run(connection, given))
                self._news_come = first.new + saved.new == len(batch.rows)
                return replace(saved, new=first.new + saved.new)

        return self._retrying(work)

    def finish(
        self,
        target: int,
        owner: str,
        *,
        state: str,
        reason: str,
        crawled: bool,
        rest_s: float = 0.0,
    ) -> None:
        """Notes how a walk ended and gives the lease back; `crawled` when no hole is left."""
        self._retrying(
            lambda c: c.execute(
                "UPDATE crawl_target SET state = %(state)s, state_reason = %(reason)s, "
                "state_at = CASE WHEN state = %(state)s THEN state_at ELSE clock_timestamp() END, "
                "crawled_at = CASE WHEN %(crawled)s THEN clock_timestamp() ELSE crawled_at END, "
                "due_at = CASE WHEN %(rest)s > 0 THEN clock_timestamp() + %(rest)s * interval '1 s' END, "
                "lease_until = CASE WHEN lease_owner = %(owner)s THEN NULL ELSE lease_until END "
                "WHERE id = %(id)s",
                {
                    "id": target,
                    "owner": owner,
                    "state": state,
                    "reason": reason,
                    "crawled": crawled,
                    "rest": rest_s,
                },
            )
        )

    def finish_all(
        self, run: int, owner: str, ends: Sequence[NoNews], *, keep_body: bool = True
    ) -> None:
        """Saves the pages of walks that ended without news, and their ends, in one transaction."""
        walked = [
            {
                "target": end.target.id,
                "page": end.bought.id,
                "endpoint": end.bought.endpoint,
                "params": end.bought.params,
                "credential": end.bought.credential,
                "body": "\\x" + compressed(end.bought.body).hex() if keep_body else None,
                "state": end.state,
                "reason": end.reason,
            }
            for end in ends
        ]
        given = {"run": run, "owner": owner, "walked": Json(walked, dumps=orjson.dumps)}
        self._retrying(lambda c: c.execute(_NOTE, given))

    def release(self, owner: str, targets: Sequence[int] | None = None) -> None:
        """Gives back the leases that this session took, or those of them that are of these
        targets.
        """
        leased = self._leased if targets is None else self._leased.intersection(targets)

        def work(connection: psycopg.Connection[Any]) -> None:
            _end_leases(connection, owner, sorted(leased))
            if self._leased_posts:
                connection.execute(
                    "DELETE FROM crawl_lookup WHERE lease_owner = %s AND lease_until IS NOT NULL AND tweet_id = ANY(%s)",
                    [owner, sorted(self._leased_posts)],
                )

        self._retrying(work)

    def free(self, owner: str, targets: Sequence[int]) -> None:
        """Gives back what a process that died held: of these targets, and every post that
        it asked for.

        No index knows the owners of targets, since it would have to change with every page.
        """

        def work(connection: psycopg.Connection[Any]) -> None:
            _end_leases(connection, owner, targets)
            connection.execute(
                "DELETE FROM crawl_lookup WHERE lease_owner = %s AND lease_until IS NOT NULL",
                [owner],
            )

        self._retrying(work)

    def schedule(self, run: int, *, least_s: float, longest_s: float) -> None:
        """Sets the next visit of the timelines that a run read, by how often they post lately.

        It comes when about `_POSTS_A_VISIT` new posts may be there, later for who has
        fallen silent.
        """
        self._retrying(
            lambda c: c.execute(
                _SCHEDULE,
                {"run": run, "least": least_s, "longest": longest_s, "posts": _POSTS_A_VISIT},
            )
        )

    # -- searches and trends ---------------------------------------------------------------------------

    def open_searches(self, asked: Sequence[str]) -> list[Target]:
        """The targets of these normalised queries, in their order; new ones are made."""
        return self._retrying(lambda c: _open_searches(c, asked))

    def give_up(self, target: int, unreachable: coverage.Range, reason: str) -> None:
        """Notes ids that cannot be had, without a page that says so."""
        self._retrying(
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

        return self._retrying(work)

    def save_trends(
        self, run: int, bought: Bought, place: Place, trends: Sequence[Trend]
    ) -> list[Target]:
        """Stores what was seen of a place's trends; gives the targets that collect their posts."""

        def work(connection: psycopg.Connection[Any]) -> list[Target]:
            with connection.transaction():
                insert_page(connection, run, bought)
                targets = _open_searches(connection, [trend.query for trend in trends])
                connection.cursor().executemany(
                    "INSERT INTO crawl_trend (page_id, rank, woeid, place, name, volume, target_id) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    [
                        (
                            bought.id,
                            trend.rank,
                            place.woeid,
                            place.name,
                            trend.name,
                            trend.volume,
                            target.id,
                        )
                        for trend, target in zip(trends, targets, strict=True)
                    ],
                )
                spend(connection, bought)
                return list({target.id: target for target in targets}.values())

        return self._retrying(work)

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

        return self._retrying(work)

    # -- the next level --------------------------------------------------------------------------------

    def referred_to(self, by: str, *, min_count: int, limit: int | None) -> list[tuple[str, int]]:
        """Handles (folded) that posts refer to and that are no target yet, with the count
        of those posts.

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

        return self._retrying(work)

    def known_handles(self, handles: Sequence[str]) -> set[str]:
        """Those of the handles (folded) that are targets, under their listed or their
        present name.
        """

        def work(connection: psycopg.Connection[Any]) -> set[str]:
            rows = connection.execute(
                "SELECT handle FROM crawl_target WHERE kind = 'timeline' AND handle = ANY(%(handles)s) "
                "UNION SELECT lower(username) FROM crawl_target WHERE kind = 'timeline' AND username IS NOT NULL "
                "AND lower(username) = ANY(%(handles)s)",
                {"handles": list(handles)},
            ).fetchall()
            return {row[0] for row in rows}

        return self._retrying(work)

    # -- posts by id -----------------------------------------------------------------------------------

    def claim_ids(
        self, ids: Sequence[int], owner: str, *, age_s: float | None, rest_s: float
    ) -> Lookup:
        """Which of the posts this process is to ask for.

        Left out are those that are stored or, with `age_s`, had their counts read in the
        last so many seconds, and those that X did not give in the last `rest_s` seconds.
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
            mine -= {
                row[0]
                for row in connection.execute(drop, {**given, "ids": sorted(mine)}).fetchall()
            }
            others = connection.execute(
                "SELECT tweet_id FROM crawl_lookup WHERE tweet_id = ANY(%s) AND lease_owner <> %s "
                "AND lease_until > clock_timestamp()",
                [wanted, owner],
            ).fetchall()
            busy = {row[0] for row in others}
            return Lookup(sorted(mine), sorted(busy), [i for i in wanted if i not in mine | busy])

        return self._retrying(work)

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
        """Saves a page of posts by id, and of those that X did not give why; gives their
        leases back.

        With `metrics`, their counts at `seen_at` (seconds since 1970) are kept beside those
        known before.
        """
        given = save_parameters(run, "", batch, keep_body)
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
                    "DELETE FROM crawl_lookup WHERE tweet_id = ANY(%s)",
                    [[row["id"] for row in batch.rows]],
                )
                spend(connection, batch.bought)
            assert row is not None  # noqa: S101 - a SELECT of aggregates gives a row
            return Saved(row[0], row[1], leased=True)

        return self._retrying(work)

    # -- imports ---------------------------------------------------------------------------------------

    def begin_import(
        self, run: int, path: str, *, size: int, fingerprint: str, head: str, again: bool
    ) -> ImportState:
        """How far a file was imported before; it begins anew when it is another file now,
        or `again`.
        """

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

        return self._retrying(work)

    def load(
        self,
        state: ImportState,
        rows: Iterable[Mapping[str, Any]],
        reached: ImportState,
        *,
        cut: Iterable[int] = (),
    ) -> ImportState | None:
        """Saves many rows and how far their file was read, in one transaction.

        `rows` are keyed by `flatten.COLUMNS`, in that order, and each id is there once.
        `reached` holds the position behind them and all counts but those of new and updated
        rows, which come back in the result. Rows whose ids are in `cut` have lost a part of
        their text: they change no row that is there. None when the file is not where
        `state` says: another process imports it.
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
                    connection.execute(STAGE)
                    with connection.cursor() as cursor, cursor.copy(STAGE_COPY) as copy:
                        for value in values:
                            copy.write_row(value)
                    if cut_ids:
                        [new] = connection.execute(self._load_cut, [cut_ids]).fetchone() or (0,)
                    whole_new, updated = connection.execute(self._load).fetchone() or (0, 0)
                    new += whole_new
                member, offset, line = reached.position
                connection.execute(
                    "UPDATE crawl_import SET member = %s, byte_offset = %s, line = %s, post_count = %s, "
                    "new_count = new_count + %s, updated_count = updated_count + %s, other_counts = %s, "
                    "finished_at = CASE WHEN %s THEN clock_timestamp() END WHERE id = %s",
                    [
                        member,
                        offset,
                        line,
                        reached.posts,
                        new,
                        updated,
                        Jsonb(dict(reached.others)),
                        reached.finished,
                        state.id,
                    ],
                )
                return replace(reached, new=locked.new + new, updated=locked.updated + updated)

        return self._retrying(work)

    # -- the books of the buckets ----------------------------------------------------------------------

    def change_buckets(
        self,
        keys: Iterable[Key],
        change: Callable[[dict[Key, Bucket], float], tuple[Mapping[Key, Bucket], T]],
    ) -> T:
        """See `permits.Books`: the buckets are rows of `api_bucket`, the clock is the
        database's.
        """
        wanted = sorted(set(keys))
        subjects, endpoints = [k[0] for k in wanted], [k[1] for k in wanted]

        def work(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                buckets, now = lock_buckets(connection, subjects, endpoints)
                if len(buckets) < len(wanted):
                    missing = {key: Bucket() for key in wanted if key not in buckets}
                    write_buckets(connection, missing, "DO NOTHING")
                    buckets, now = lock_buckets(connection, subjects, endpoints)
                changed, result = change(buckets, now)
                if changed:
                    write_buckets(connection, changed, BUCKET_UPDATE)
                return result

        return self._retrying(work)

    # -- budgets ---------------------------------------------------------------------------------------

    def set_aside(
        self, run: int, owner: str, page: uuid.UUID, want: Want, limits: Limits, tariff: Tariff
    ) -> Grant:
        """How much a request may bring, set aside under the id of the page that will be saved.

        Saving that page with its `cost` settles it; `take_back` and `give_up_money` are for
        what brought none.
        """

        def work(connection: psycopg.Connection[Any]) -> Grant:
            with connection.transaction():
                granted = budget.grant(want, rooms_of(connection, run, page, limits, tariff))
                if granted.units is not None:
                    connection.execute(
                        "INSERT INTO crawl_reserved (id, run_id, owner, endpoint, posts, micro_usd) "
                        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE "
                        "SET posts = excluded.posts, micro_usd = excluded.micro_usd",
                        [
                            page,
                            run,
                            owner,
                            want.endpoint,
                            want.posts(granted.units),
                            want.cost(granted.units),
                        ],
                    )
                return granted

        return self._retrying(work)

    def take_back(self, page: uuid.UUID) -> None:
        """Frees what was set aside for a request that brought nothing."""
        self._retrying(lambda c: c.execute("DELETE FROM crawl_reserved WHERE id = %s", [page]))

    def give_up_money(self, page: uuid.UUID) -> None:
        """Leaves it set aside for good: nobody knows what the request brought, and it may
        be charged.
        """
        self._retrying(
            lambda c: c.execute("UPDATE crawl_reserved SET owner = '' WHERE id = %s", [page])
        )

    # -- retrying ---------------------------------------------------------------------------------------

    def _retrying(self, work: Callable[[Connection], T]) -> T:
        """Does the work, again and again while the server is away, restarting, full or in
        conflict.
        """
        # Who waited that long for the server once does not wait for it again to clear up.
        gives_up_at = time.monotonic() + (0.0 if self._gave_up else PATIENCE_S)
        delay_s = 0.05
        while True:
            try:
                if self._connection is None:
                    self._connection = connect(self._conninfo)
                return work(self._connection)
            except psycopg.Error as error:
                if not passes(error):
                    raise DatabaseError(f"the {self._place} refuses: {first_line(error)}") from None
                if not isinstance(error, IN_CONFLICT):
                    self.close()
                    log.warning(
                        "the %s does not work: %s; trying again", self._place, first_line(error)
                    )
                if self._stopping() or time.monotonic() >= gives_up_at:
                    self._gave_up = True
                    raise DatabaseUnreachable(
                        f"the {self._place} does not work: {first_line(error)}; everything saved is safe, "
                        "run again when it is back"
                    ) from None
            sleep(delay_s * random.uniform(0.5, 1.0), self._stopping)  # noqa: S311 - jitter
            delay_s = min(5.0, delay_s * 2)


def _import_state(connection: psycopg.Connection[Any], number: int) -> ImportState:
    row = connection.execute(
        "SELECT id, member, byte_offset, line, post_count, new_count, updated_count, other_counts, "
        "finished_at IS NOT NULL FROM crawl_import WHERE id = %s FOR UPDATE",
        [number],
    ).fetchone()
    assert row is not None  # noqa: S101 - nothing deletes these rows
    return ImportState(row[0], (row[1], row[2], row[3]), *row[4:])


def _schema_of(connection: psycopg.Connection[Any]) -> str | None:
    exists = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if exists is None or exists[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _migrations() -> Path:
    """The migrations beside the modules in an installed package, or beside the package in a
    checkout.
    """
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
        "SELECT DISTINCT lease_owner FROM crawl_target WHERE lease_until > clock_timestamp() AND "
        + condition,
        {"which": list(which)},
    ).fetchall()
    gone = [holder for (holder,) in holders if is_gone(holder)]
    if gone:
        connection.execute(
            "UPDATE crawl_target SET lease_until = NULL WHERE lease_owner = ANY(%(gone)s) AND "
            + condition,
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
        [
            SEARCH,
            list(by_key),
            [queries.slug_of(q) for q in by_key.values()],
            list(by_key.values()),
        ],
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


# In the order of their ids, so that two processes that claim the same never wait for each
# other in a ring.
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
# The row tells what the counts were, and the page of the author's timeline when: where the
# post came by another way, the time stays open.
_COUNTS_BEFORE: LiteralString = (
    "INSERT INTO crawl_metrics (tweet_id, seen_at, like_count, retweet_count) "
    "SELECT t.id, (SELECT max(p.fetched_at) FROM crawl_target k JOIN crawl_page p ON p.target_id = k.id "
    "WHERE k.kind = 'timeline' AND k.handle = lower(t.tweet_from) AND t.id BETWEEN p.oldest_id AND p.newest_id), "
    "t.favorite_count, t.retweet_count FROM {t} t WHERE t.id = ANY(%(ids)s) "
    "AND NOT EXISTS (SELECT FROM crawl_metrics m WHERE m.tweet_id = t.id) ON CONFLICT DO NOTHING"
)
"""The filters that compare with a parameter: lists of folded names or ids, datetimes, text,
int or Decimal.
"""
"""The filters whose value is a list of these words."""
