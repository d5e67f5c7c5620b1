"""A folder with one CSV file a user: no kill at any moment tears a line, loses a post or
writes one twice.

Beside the files lies a hidden SQLite file: the bookkeeping, and the rows that are saved but
stand in no file yet. It alone remembers. A CSV file is written anew from what it held and
what waits for it, when a walk ends or pauses, and takes the old one's place in one step;
whoever reads it sees the old file or the new one.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, TypeVar

import orjson

from tweetcrawler import coverage, files, queries
from tweetcrawler.errors import ConfigurationError, DatabaseError, DatabaseNotMigrated
from tweetcrawler.flatten import COLUMNS, KEPT
from tweetcrawler.identity import is_gone
from tweetcrawler.pages import Batch, Bought, NoNews, Saved
from tweetcrawler.targets import LEASE_S, SEARCH, TIMELINE, Absent, Claim, Found, Target
from tweetcrawler.windows import Bucket

__all__ = ["BOOKKEEPING", "CsvFolder", "Session"]

BOOKKEEPING = ".tweetcrawler.sqlite3"
# Another process writes for milliseconds; one that was stopped in the middle is waited for,
# but not for ever.
PATIENCE_S = 60.0
# How long a single attempt waits for another process, whether or not the run is to end.
BUSY_S = 5.0
# The layout of the bookkeeping that this program makes and reads.
_SCHEMA = 1

Key = tuple[str, str]
T = TypeVar("T")
log = logging.getLogger(__name__)

_USERNAME = re.compile(r"[a-z0-9_]{1,15}", re.ASCII)
_SEARCH_SLUG = re.compile(r"search-[a-z0-9-]{8,60}", re.ASCII)


@dataclass(frozen=True)
class CsvFolder:
    """The folder of CSV files: `<handle as listed, in lower case>.csv` for each user that
    was read.

    Posts that a search found are in a file named after the query, as `queries.slug_of`
    makes it of it. A file keeps its name when the account is renamed, since its rows belong
    to the account. Rows stand newest first by id under a header of `flatten.COLUMNS`; what
    is NULL is an empty field. UTF-8, quoting as in RFC 4180, lines end in CR LF. The folder
    must be on a local disk, as all SQLite files in WAL mode.
    """

    folder: Path

    @property
    def place(self) -> str:
        """Where the files are, for sentences."""
        return f"CSV folder {self.folder}"

    @contextmanager
    def session(self, *, stopping: Callable[[], bool] = lambda: False) -> Iterator[Session]:
        """A session; `stopping` ends its patience with other processes."""
        session = Session(self.folder, stopping)
        try:
            yield session
        finally:
            session.close()


class Session:
    """One connection to the bookkeeping of a folder; see `CsvFolder.session`.

    Every method is one transaction that may be repeated without effect; those that write a
    file say so. What was saved and stands in no file yet is written by the next
    `begin_run`, `finish` or `release`.

    **Errors**: `DatabaseError` when the disk is full or broken, or the bookkeeping is gone or locked;
    `ConfigurationError` when a file in the folder is in the way. Neither loses anything that was saved.
    """

    def __init__(self, folder: Path, stopping: Callable[[], bool]) -> None:
        self._folder = folder
        self._stopping = stopping
        self._connection: sqlite3.Connection | None = None
        self._saved_to: set[int] = set()

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- runs ------------------------------------------------------------------------------------------

    def begin_run(
        self, *, version: str, arguments: Mapping[str, Any], host: str, credentials: Sequence[Any]
    ) -> tuple[int, float]:
        """A new run: its number, and when it began in seconds on this machine's clock.

        Makes the folder if need be, and writes to the files what an earlier run left
        waiting. The names of the credentials are noted, nothing else of them.
        """
        _make_folder(self._folder)
        self._patiently(lambda: _make_bookkeeping(self._folder))
        self._write_out_all()
        now = time.time()
        given = [
            version,
            json.dumps(dict(arguments), default=str),
            host,
            json.dumps([credential.name for credential in credentials]),
            now,
        ]
        run = self._write(
            lambda c: (
                c.execute(
                    "INSERT INTO crawl_run (version, arguments, host, credentials, started_at) "
                    "VALUES (?, ?, ?, ?, ?)",
                    given,
                ).lastrowid
            )
        )
        assert run is not None  # noqa: S101 - an INSERT gives a number
        return run, now

    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None:
        """Notes how a run ended, and writes to the files what workers that were killed left
        waiting.
        """
        given = [time.time(), exit_code, json.dumps(dict(report), default=str), run]
        self._write(
            lambda c: c.execute(
                "UPDATE crawl_run SET ended_at = ?, exit_code = ?, report = ? WHERE id = ?", given
            )
        )
        self._write_out_all()

    def totals(self, run: int) -> list[dict[str, Any]]:
        """What the run bought, from its pages: one dict a (credential, endpoint).

        Keys: credential, endpoint, pages, posts, users, new, updated, again (posts that
        were stored already). A post counts as new until the file is written and shows that
        it was there before.
        """

        def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            cursor = connection.execute(
                "SELECT credential, endpoint, count(*) AS pages, sum(post_count) AS posts, "
                "sum(user_count) AS users, sum(new_count) AS new, sum(updated_count) AS updated, "
                "sum(post_count - new_count - refused_count) AS again "
                "FROM crawl_page WHERE run_id = ? GROUP BY 1, 2 ORDER BY 1, 2",
                [run],
            )
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, values, strict=True)) for values in cursor]

        return self._read(work)

    # -- targets ---------------------------------------------------------------------------------------

    def targets(self, handles: Sequence[str]) -> dict[str, Target]:
        """The stored targets of these handles, by handle; a handle of a renamed account
        gives its account.
        """

        def work(connection: sqlite3.Connection) -> dict[str, Target]:
            now = time.time()
            found = {}
            for handle in handles:
                row = connection.execute(
                    "SELECT named.handle, t.id, t.key, t.username, t.state, t.state_reason, t.due_at "
                    "FROM crawl_target named JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id) "
                    "WHERE named.kind = ? AND named.handle = ?",
                    [TIMELINE, handle.lower()],
                ).fetchone()
                if row is not None:
                    listed, number, key, username, state, reason, due_at = row
                    rests_s = max(0.0, (due_at or 0.0) - now)
                    found[handle] = Target(number, listed, key, username, state, reason, rests_s)
            return found

        return self._read(work)

    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]:
        """Takes the lease of handles that nobody resolved yet; the rest is being resolved
        by others.
        """
        names = {handle: _checked(handle.lower()) for handle in handles}

        def work(connection: sqlite3.Connection) -> set[str]:
            now = time.time()
            mine = {
                name
                for name in sorted(set(names.values()))
                if _claim_name(connection, name, owner, now)
            }
            return {handle for handle, name in names.items() if name in mine}

        return self._write(work)

    def save_page(self, run: int, bought: Bought) -> None:
        """Stores an answer of X that holds no posts of a target, such as a count."""

        def work(connection: sqlite3.Connection) -> None:
            _insert_page(connection, run, bought, time.time())

        self._write(work)

    def save_users(
        self,
        run: int,
        bought: Bought,
        found: Sequence[Found],
        absent: Sequence[Absent],
        *,
        rest_s: float,
    ) -> None:
        """Stores what X said of handles; `rest_s` until absent ones are asked again."""

        def work(connection: sqlite3.Connection) -> None:
            now = time.time()
            _insert_page(connection, run, bought, now)
            for one in found:
                _remember_found(connection, one, now)
            for gone in absent:
                connection.execute(
                    "UPDATE crawl_target SET state = ?, state_reason = ?, state_at = ?, lease_until = NULL, "
                    "due_at = ? WHERE kind = ? AND handle = ?",
                    [gone.state, gone.reason, now, now + rest_s, TIMELINE, gone.handle.lower()],
                )

        self._write(work)

    def claim(self, target: int, owner: str, since: float) -> Claim | None:
        """The lease of a target, with what is known of it; None while another process has it.

        When its file was deleted, what it held is no longer known, and will be read again.
        `ConfigurationError` when a file of its name was not made by this program: nothing
        need be bought to find that out.
        """

        def work(connection: sqlite3.Connection) -> Claim | None:
            now = time.time()
            row = connection.execute(
                "SELECT handle, lease_owner, lease_until FROM crawl_target WHERE id = ?", [target]
            ).fetchone()
            if row is None:
                return None
            handle, holder, until = row
            held = _runs(until, holder, now)
            if held and holder != owner:
                return None
            if not held:
                path = self._path(handle)
                _check_header(path)
                _forget_if_deleted(connection, target, path)
            connection.execute(
                "UPDATE crawl_target SET lease_owner = ?, lease_until = ? WHERE id = ?",
                [owner, now + LEASE_S, target],
            )
            covered, unreachable, account_posts, crawled_at = connection.execute(
                "SELECT covered, unreachable, account_posts, crawled_at FROM crawl_target WHERE id = ?",
                [target],
            ).fetchone()
            return Claim(
                coverage.from_text(covered),
                coverage.from_text(unreachable),
                account_posts,
                # A moment yet to come was noted before the clock was set back, so by
                # another run.
                crawled_at is not None and since <= crawled_at <= now,
            )

        return self._write(work)

    def claim_all(self, targets: Sequence[int], owner: str, since: float) -> dict[int, Claim]:  # noqa: ARG002
        """None: the file of a target is looked at when its turn comes."""
        return {}

    def posts_above(self, target: int, tweet_id: int) -> int:
        """How many posts of the target were received that are not older than this id."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "SELECT coalesce(sum(post_count), 0) FROM crawl_page WHERE target_id = ? AND oldest_id >= ?",
                [target, tweet_id],
            ).fetchone()
            return int(row[0])

        return self._read(work)

    def save(
        self,
        run: int,
        owner: str,
        batch: Batch,
        *,
        keep_body: bool = True,  # noqa: ARG002
        meanwhile: Callable[[], object] | None = None,  # noqa: ARG002 - a file leaves no time
    ) -> Saved:
        """Saves a page in one transaction: its rows, what was bought, its coverage; renews
        the lease.

        The rows wait in the bookkeeping for the end of the walk. Bodies are not kept in a
        folder of CSV files, whatever `keep_body` says: nothing there reads them.
        """

        def work(connection: sqlite3.Connection) -> Saved:
            now = time.time()
            known = connection.execute(
                "SELECT covered, unreachable, lease_owner FROM crawl_target WHERE id = ?",
                [batch.target],
            ).fetchone()
            if known is None:
                raise _lost(self._folder)
            page = _insert_page(connection, run, batch.bought, now, batch)
            new, updated = _add_rows(connection, batch, page) if page is not None else (0, 0)
            leased = known[2] == owner
            connection.execute(
                "UPDATE crawl_target SET covered = ?, unreachable = ?, "
                "unreachable_reason = coalesce(?, unreachable_reason), username = coalesce(?, username), "
                "account_posts = coalesce(?, account_posts), post_count = post_count + ?, "
                "lease_until = CASE WHEN ? THEN ? ELSE lease_until END WHERE id = ?",
                [
                    covered := _with_range(known[0], batch.covered),
                    _less(_with_range(known[1], batch.unreachable), covered),
                    batch.unreachable_reason or None,
                    batch.username,
                    batch.account_posts,
                    batch.bought.posts if page is not None else 0,
                    leased,
                    now + LEASE_S,
                    batch.target,
                ],
            )
            return Saved(new, updated, leased)

        if batch.target is None:
            raise ValueError("a folder of CSV files holds the posts of targets only")
        saved = self._write(work)
        self._saved_to.add(batch.target)
        return saved

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
        """Writes the target's file, notes how the walk ended and gives the lease back.

        `crawled` when no hole is left; a user without posts then has a file that holds only
        the header.
        """
        if crawled:
            self._write_out_whole(target)
        else:
            self._write_out(target)
        self._saved_to.discard(target)
        now = time.time()
        given = {
            "id": target,
            "owner": owner,
            "state": state,
            "reason": reason,
            "now": now,
            "crawled_at": now if crawled else None,
            "due_at": now + rest_s if rest_s > 0 else None,
        }
        self._write(
            lambda c: c.execute(
                "UPDATE crawl_target SET state_at = CASE WHEN state = :state THEN state_at ELSE :now END, "
                "state = :state, state_reason = :reason, crawled_at = coalesce(:crawled_at, crawled_at), "
                "due_at = :due_at, lease_until = CASE WHEN lease_owner = :owner THEN NULL ELSE lease_until END "
                "WHERE id = :id",
                given,
            )
        )

    def finish_all(
        self,
        run: int,
        owner: str,
        ends: Sequence[NoNews],
        *,
        keep_body: bool = True,  # noqa: ARG002 - see `save`
    ) -> None:
        """Saves the pages of walks that ended without news, and their ends."""
        for end in ends:
            self.save(run, owner, Batch(end.target.id, end.bought, rows=()))
            self.finish(end.target.id, owner, state=end.state, reason=end.reason, crawled=True)

    def release(self, owner: str, targets: Sequence[int] | None = None) -> None:
        """Gives back the owner's leases of these targets, by default all, and writes the
        files of what it saved.
        """
        found = self._read(
            lambda c: c.execute(
                "SELECT id FROM crawl_target WHERE lease_owner = ? AND lease_until IS NOT NULL",
                [owner],
            ).fetchall()
        )
        held = {row[0] for row in found}
        if targets is not None:
            held &= set(targets)
        try:
            # A page that was saved after its lease was lost waits, too.
            for target in sorted(self._saved_to | held):
                self._write_out(target)
                self._saved_to.discard(target)
        finally:
            self._write(
                lambda c: c.executemany(
                    "UPDATE crawl_target SET lease_until = NULL WHERE lease_owner = ? AND id = ?",
                    [(owner, target) for target in held],
                )
            )

    def free(self, owner: str, targets: Sequence[int]) -> None:  # noqa: ARG002 - PostgreSQL has to be told
        """Gives back what a process that died held, and writes the files of what it saved."""
        self.release(owner)

    # -- searches --------------------------------------------------------------------------------------

    def open_searches(self, asked: Sequence[str]) -> list[Target]:
        """The targets of these normalised queries, in their order; new ones are made."""

        def work(connection: sqlite3.Connection) -> list[Target]:
            found = []
            for query in asked:
                key = queries.key_of(query)
                connection.execute(
                    "INSERT INTO crawl_target (kind, key, handle, username, state_at) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT DO NOTHING",
                    [SEARCH, key, queries.slug_of(query), query, time.time()],
                )
                number, handle, state, reason = connection.execute(
                    "SELECT id, handle, state, state_reason FROM crawl_target WHERE kind = ? AND key = ?",
                    [SEARCH, key],
                ).fetchone()
                found.append(Target(number, handle, key, query, state, reason, kind=SEARCH))
            return found

        return self._write(work)

    def give_up(self, target: int, unreachable: coverage.Range, reason: str) -> None:
        """Notes ids that cannot be had, without a page that says so."""

        def work(connection: sqlite3.Connection) -> None:
            covered, known = connection.execute(
                "SELECT covered, unreachable FROM crawl_target WHERE id = ?", [target]
            ).fetchone()
            connection.execute(
                "UPDATE crawl_target SET unreachable = ?, unreachable_reason = ? WHERE id = ?",
                [_less(_with_range(known, unreachable), covered), reason, target],
            )

        self._write(work)

    def posts_within(self, target: int, seconds: float) -> int:
        """How many posts of the target were bought in the last so many seconds."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "SELECT coalesce(sum(post_count), 0) FROM crawl_page WHERE target_id = ? AND fetched_at > ?",
                [target, time.time() - seconds],
            ).fetchone()
            return int(row[0])

        return self._read(work)

    # -- the books of the buckets ----------------------------------------------------------------------

    def change_buckets(
        self,
        keys: Iterable[Key],
        change: Callable[[dict[Key, Bucket], float], tuple[Mapping[Key, Bucket], T]],
    ) -> T:
        """See `permits.Books`: all processes of one machine share the bookkeeping and the
        machine's clock.
        """
        wanted = sorted(set(keys))

        def work(connection: sqlite3.Connection) -> T:
            changed, result = change({key: _bucket(connection, key) for key in wanted}, time.time())
            for (subject, endpoint), bucket in changed.items():
                connection.execute(
                    "INSERT INTO api_bucket (subject, endpoint, bucket) VALUES (?, ?, ?) "
                    "ON CONFLICT (subject, endpoint) DO UPDATE SET bucket = excluded.bucket",
                    [subject, endpoint, json.dumps(asdict(bucket))],
                )
            return result

        return self._write(work)

    # -- files -----------------------------------------------------------------------------------------

    def _path(self, handle: str) -> Path:
        name = handle if _SEARCH_SLUG.fullmatch(handle) else _checked(handle)
        return self._folder / f"{name}.csv"

    def _write_out_all(self) -> None:
        waiting = self._read(
            lambda c: c.execute("SELECT DISTINCT target_id FROM csv_pending").fetchall()
        )
        for (target,) in waiting:
            self._write_out(target)

    def _write_out_whole(self, target: int) -> None:
        """As `_write_out`, but there is a file afterwards even if the target has no rows."""
        self._write_out(target)
        path = self._path(self._handle(target))
        if _is_missing(path):
            self._replace(target, path)

    def _write_out(self, target: int) -> None:
        """Writes the rows that wait for the target's file into it."""
        waits = self._read(
            lambda c: c.execute(
                "SELECT 1 FROM csv_pending WHERE target_id = ? LIMIT 1", [target]
            ).fetchone()
        )
        if waits is not None:
            self._replace(target, self._path(self._handle(target)))

    def _handle(self, target: int) -> str:
        row = self._read(
            lambda c: c.execute("SELECT handle FROM crawl_target WHERE id = ?", [target]).fetchone()
        )
        if row is None:
            raise _lost(self._folder)
        return str(row[0])

    def _replace(self, target: int, path: Path) -> None:
        """Puts a new file in the place of the old one; repeated after a crash, it gives the
        same file.

        What the rows count as is settled before the new file is in place: afterwards every
        row would be found in the file, and look as if it had been there before. The rows
        are dropped only when the file is safe.
        """
        try:
            patience = _Patience(self._stopping)
            with files.replacing(path, waits=lambda: not patience.is_over()) as fresh:
                tally = self._read(lambda c: _write_merged(c, target, path, fresh))
                self._write(lambda c: _settle_counts(c, target, path, tally))
                fresh.put_in_place()
                self._write(lambda c: _drop_written(c, target, tally))
        except files.Taken:
            raise DatabaseError(
                f"{path} is being written by a process that does not end: end it, then run again"
            ) from None
        except OSError as error:
            raise DatabaseError(
                f"{path} cannot be written: {error.strerror or error}; its new posts are safe in {BOOKKEEPING} "
                "beside it, make room or correct the rights, then run again"
            ) from None

    # -- retrying ---------------------------------------------------------------------------------------

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._patiently(lambda: _transaction(self._connected(), work))

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._patiently(lambda: work(self._connected()))

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _open(self._folder)
        return self._connection

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """What the attempt gives, tried again while another process is in the way."""
        patience = _Patience(self._stopping)
        while True:
            try:
                return attempt()
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code not in _IN_THE_WAY or patience.is_over():
                    self.close()
                    raise _refusal(error, code, self._folder) from None


# -- bookkeeping -----------------------------------------------------------------------------------------

_IN_THE_WAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

# Times are seconds since 1970 (UTC), coverage is the text of `coverage.to_text`.
_TABLES = [
    """
    CREATE TABLE crawl_run (
        id integer PRIMARY KEY AUTOINCREMENT,
        version text NOT NULL,
        arguments text NOT NULL,
        host text NOT NULL,
        credentials text NOT NULL,
        started_at real NOT NULL,
        ended_at real,
        exit_code integer,
        report text
    )
    """,
    """
    CREATE TABLE crawl_target (
        id integer PRIMARY KEY AUTOINCREMENT,
        kind text NOT NULL,
        key text,
        handle text NOT NULL,
        username text,
        same_as integer REFERENCES crawl_target,
        state text NOT NULL DEFAULT 'new',
        state_reason text NOT NULL DEFAULT '',
        state_at real NOT NULL,
        covered text NOT NULL DEFAULT '{}',
        unreachable text NOT NULL DEFAULT '{}',
        unreachable_reason text NOT NULL DEFAULT '',
        account_posts integer,
        post_count integer NOT NULL DEFAULT 0,
        lease_owner text,
        lease_until real,
        due_at real,
        crawled_at real,
        written integer NOT NULL DEFAULT 0,
        UNIQUE (kind, key),
        UNIQUE (kind, handle)
    )
    """,
    "CREATE INDEX crawl_target_lease ON crawl_target (lease_owner) WHERE lease_until IS NOT NULL",
    """
    CREATE TABLE crawl_page (
        number integer PRIMARY KEY AUTOINCREMENT,
        id text NOT NULL UNIQUE,
        run_id integer NOT NULL,
        target_id integer,
        fetched_at real NOT NULL,
        endpoint text NOT NULL,
        params text NOT NULL,
        credential text NOT NULL,
        post_count integer NOT NULL,
        user_count integer NOT NULL,
        new_count integer NOT NULL DEFAULT 0,
        updated_count integer NOT NULL DEFAULT 0,
        refused_count integer NOT NULL,
        refused text NOT NULL,
        newest_id integer,
        oldest_id integer
    )
    """,
    "CREATE INDEX crawl_page_target ON crawl_page (target_id, oldest_id)",
    "CREATE INDEX crawl_page_run ON crawl_page (run_id)",
    # `page` is the number of the page that brought the row and counts it as new, as long as
    # `counted` is 0; `version` is that of the page that changed it last. Numbers of pages
    # grow in the order of the commits.
    """
    CREATE TABLE csv_pending (
        target_id integer NOT NULL,
        id integer NOT NULL,
        cells text NOT NULL,
        page integer NOT NULL,
        version integer NOT NULL,
        counted integer NOT NULL DEFAULT 0,
        PRIMARY KEY (target_id, id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE api_bucket (
        subject text NOT NULL,
        endpoint text NOT NULL,
        bucket text NOT NULL,
        PRIMARY KEY (subject, endpoint)
    ) WITHOUT ROWID
    """,
    f"PRAGMA user_version = {_SCHEMA}",
]


class _Patience:
    """How long other processes are waited for: not long any more once the run is to end."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._began_at = time.monotonic()

    def is_over(self) -> bool:
        waited_s = time.monotonic() - self._began_at
        return waited_s >= (BUSY_S if self._stopping() else PATIENCE_S)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"the CSV folder {folder} cannot be written to: {error.strerror or error}; correct its rights or name "
            "another with --folder"
        ) from None


def _make_bookkeeping(folder: Path) -> None:
    try:
        connection = _connect(folder, "rwc")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN:
            raise
        raise ConfigurationError(
            f"the file {BOOKKEEPING} in {folder} cannot be opened: correct its rights or name another folder"
        ) from None
    with closing(connection):
        if _schema_of(connection) == 0:
            connection.execute("PRAGMA journal_mode = WAL")
            _transaction(connection, _make_tables)


def _make_tables(connection: sqlite3.Connection) -> None:
    if _schema_of(connection) == 0:
        for statement in _TABLES:
            connection.execute(statement)


def _open(folder: Path) -> sqlite3.Connection:
    connection = _connect(folder, "rw")
    schema = _schema_of(connection)
    if schema == _SCHEMA:
        return connection
    connection.close()
    raise DatabaseNotMigrated(
        f"{BOOKKEEPING} in {folder} has schema {schema}, this program needs {_SCHEMA}: install the version of "
        "tweetcrawler that made it, or name another folder"
    )


def _connect(folder: Path, mode: str) -> sqlite3.Connection:
    url = f"{(folder / BOOKKEEPING).absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(url, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        _schema_of(connection)  # the first look at the file: what is no database is refused here
    except BaseException:
        connection.close()
        raise
    return connection


def _schema_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _refusal(error: sqlite3.Error, code: int, folder: Path) -> DatabaseError | ConfigurationError:
    what = f"{BOOKKEEPING} in {folder}"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ConfigurationError(
            f"{what} cannot be written to: correct its rights or name another folder"
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DatabaseError(
            f"{what} cannot be written: {error}; everything saved is safe, make room and run again"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseError(
            f"{what} is damaged: {error}; bring it back from a copy, or delete it: the CSV files stay, but "
            "every timeline is read again"
        )
    if code in _IN_THE_WAY:
        return DatabaseError(
            f"{what} is held by another program: {error}; end that, then run again"
        )
    return DatabaseError(f"{what} cannot be used: {error}; look at the folder, then run again")


def _lost(folder: Path) -> DatabaseError:
    return DatabaseError(
        f"{BOOKKEEPING} in {folder} does not know a target that is being walked, so it was replaced meanwhile: "
        "run again, and leave the file alone"
    )


def _checked(handle: str) -> str:
    """The handle, if it can be a username of X: whatever else it is, it never becomes part
    of a path.
    """
    if _USERNAME.fullmatch(handle) is None:
        raise ConfigurationError(
            f"{handle[:60]!a} is no username of X (letters, digits and _, at most 15), so no file can be "
            "named after it: take it out of the handles"
        )
    return handle


def _runs(until: float | None, holder: str | None, now: float) -> bool:
    """Whether a lease still runs; one that ends later than any lease can was taken before
    the clock was set back.
    """
    return until is not None and now < until <= now + LEASE_S and not is_gone(holder)


def _claim_name(connection: sqlite3.Connection, name: str, owner: str, now: float) -> bool:
    row = connection.execute(
        "SELECT id, key, same_as, lease_owner, lease_until FROM crawl_target WHERE kind = ? AND handle = ?",
        [TIMELINE, name],
    ).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO crawl_target (kind, handle, state_at, lease_owner, lease_until) VALUES (?, ?, ?, ?, ?)",
            [TIMELINE, name, now, owner, now + LEASE_S],
        )
        return True
    number, key, same_as, holder, until = row
    if key is not None or same_as is not None or (_runs(until, holder, now) and holder != owner):
        return False
    connection.execute(
        "UPDATE crawl_target SET lease_owner = ?, lease_until = ? WHERE id = ?",
        [owner, now + LEASE_S, number],
    )
    return True


def _remember_found(connection: sqlite3.Connection, one: Found, now: float) -> None:
    handle = one.handle.lower()
    account = connection.execute(
        "SELECT id, handle FROM crawl_target WHERE kind = ? AND key = ? AND handle <> ?",
        [TIMELINE, one.user_id, handle],
    ).fetchone()
    if account is not None:
        connection.execute(
            "UPDATE crawl_target SET same_as = ?, state = 'renamed', state_reason = ?, state_at = ?, "
            "lease_until = NULL WHERE kind = ? AND handle = ?",
            [account[0], f"the account is known as @{account[1]}", now, TIMELINE, handle],
        )
        return
    connection.execute(
        "UPDATE crawl_target SET key = ?, username = ?, account_posts = ?, state = 'new', state_reason = '', "
        "state_at = ?, lease_until = NULL, due_at = NULL WHERE kind = ? AND handle = ? AND same_as IS NULL",
        [one.user_id, one.username, one.account_posts, now, TIMELINE, handle],
    )


def _insert_page(
    connection: sqlite3.Connection, run: int, bought: Bought, now: float, batch: Batch | None = None
) -> int | None:
    """The number of the page; None when it is stored already."""
    ids = [row["id"] for row in batch.rows] if batch else []
    refused = [{"id": i, "reason": reason} for i, reason in batch.refused] if batch else []
    cursor = connection.execute(
        "INSERT INTO crawl_page (id, run_id, target_id, fetched_at, endpoint, params, credential, post_count, "
        "user_count, refused_count, refused, newest_id, oldest_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO NOTHING",
        [
            str(bought.id),
            run,
            batch.target if batch else None,
            now,
            bought.endpoint,
            json.dumps(dict(bought.params)),
            bought.credential,
            bought.posts,
            bought.users,
            len(refused),
            json.dumps(refused),
            max(ids, default=None),
            min(ids, default=None),
        ],
    )
    return cursor.lastrowid if cursor.rowcount == 1 else None


def _add_rows(connection: sqlite3.Connection, batch: Batch, page: int) -> tuple[int, int]:
    """Lets the rows of a page wait for their file; gives how many are new and how many
    changed, so far known.
    """
    new = updated = 0
    for row in batch.rows:
        cells = ["" if row[column] is None else str(row[column]) for column in COLUMNS]
        waiting = connection.execute(
            "SELECT cells FROM csv_pending WHERE target_id = ? AND id = ?",
            [batch.target, row["id"]],
        ).fetchone()
        if waiting is None:
            new += 1
            connection.execute(
                "INSERT INTO csv_pending (target_id, id, cells, page, version) VALUES (?, ?, ?, ?, ?)",
                [batch.target, row["id"], orjson.dumps(cells).decode(), page, page],
            )
            continue
        known = orjson.loads(waiting[0])
        cells = _updated(known, cells)
        if cells != known:
            updated += 1
            connection.execute(
                "UPDATE csv_pending SET cells = ?, version = ? WHERE target_id = ? AND id = ?",
                [orjson.dumps(cells).decode(), page, batch.target, row["id"]],
            )
    connection.execute(
        "UPDATE crawl_page SET new_count = ?, updated_count = ? WHERE number = ?",
        [new, updated, page],
    )
    return new, updated


def _updated(known: Sequence[str], cells: Sequence[str]) -> list[str]:
    """The cells of a row that was known before."""
    return [
        now or (before if column in KEPT else now)
        for column, before, now in zip(COLUMNS, known, cells, strict=True)
    ]


def _less(ranges: str, taken: str) -> str:
    if ranges == "{}":
        return ranges
    return coverage.to_text(
        coverage.difference(coverage.from_text(ranges), coverage.from_text(taken))
    )


def _with_range(ranges: str, added: coverage.Range | None) -> str:
    if added is None:
        return ranges
    return coverage.to_text(coverage.union(coverage.from_text(ranges), [added]))


_BUCKET_FIELDS = {f.name for f in fields_of(Bucket)}


def _bucket(connection: sqlite3.Connection, key: Key) -> Bucket:
    row = connection.execute(
        "SELECT bucket FROM api_bucket WHERE subject = ? AND endpoint = ?", list(key)
    ).fetchone()
    known = json.loads(row[0]) if row else {}
    return Bucket(**{name: value for name, value in known.items() if name in _BUCKET_FIELDS})


def _forget_if_deleted(connection: sqlite3.Connection, target: int, path: Path) -> None:
    """What is not stored must be read again: a deleted file takes the coverage with it."""
    row = connection.execute(
        "SELECT covered <> '{}' OR unreachable <> '{}' FROM crawl_target WHERE id = ? AND written",
        [target],
    ).fetchone()
    if row is None or not _is_missing(path):
        return
    if row[0]:
        log.warning("%s is gone, so the posts of its user are read again from the newest on", path)
    connection.execute(
        "UPDATE crawl_target SET covered = '{}', unreachable = '{}', unreachable_reason = '', post_count = 0, "
        "crawled_at = NULL, written = 0 WHERE id = ?",
        [target],
    )
    # The run keeps its costs; but how deep a walk is in the timeline is counted from its
    # own pages.
    connection.execute("UPDATE crawl_page SET target_id = NULL WHERE target_id = ?", [target])


# -- CSV files -------------------------------------------------------------------------------------------

_CSV_FIELD_MAX = 2**31 - 1

_Row = tuple[int, list[str]]


@dataclass
class _Tally:
    """What a merge learned: the last version it wrote, and by page which rows were in the
    file already.
    """

    version: int = 0
    again: Counter[int] = field(default_factory=Counter)
    updated: Counter[int] = field(default_factory=Counter)


class _OutOfOrder(Exception):
    """Somebody has sorted the file another way."""


def _is_missing(path: Path) -> bool:
    """Whether there is no such file; an empty one holds as little."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError as error:
        raise _unreadable(path, error) from None


def _check_header(path: Path) -> None:
    with closing(_stored(path)) as rows:
        next(rows, None)


def _stored(path: Path) -> Generator[_Row, None, None]:
    """The rows of a file as `(id, cells)`, in its order; none when it is missing."""
    csv.field_size_limit(_CSV_FIELD_MAX)
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
            if header is not None and header != list(COLUMNS):
                raise ConfigurationError(
                    f"{path} was not made by tweetcrawler: its first line is not the header of the "
                    f"{len(COLUMNS)} columns; move it out of the folder, it is left as it is"
                )
            for cells in filter(None, reader):
                if len(cells) != len(COLUMNS) or not (cells[0].isascii() and cells[0].isdecimal()):
                    raise _broken(path, reader.line_num, "it is not a row with an id")
                yield int(cells[0]), cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise _broken(path, reader.line_num, str(error)) from None
        except OSError as error:
            raise _unreadable(path, error) from None


def _broken(path: Path, line: int, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path}, line {line}, cannot be read: {why}; correct it or move the file away, posts that wait for it "
        "are kept"
    )


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be read: {error.strerror or error}; correct its rights or move it out of the folder"
    )


def _newest_first(rows: Iterator[_Row]) -> Iterator[_Row]:
    last: int | None = None
    for row in rows:
        if last is not None and row[0] >= last:
            raise _OutOfOrder
        last = row[0]
        yield row


def _sorted(rows: Iterator[_Row]) -> Iterator[_Row]:
    """The rows in our order, the first of each id; sorted on disk, since a file may be of
    any size.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("CREATE TABLE line (id integer PRIMARY KEY, cells text)")
        scratch.execute("BEGIN")
        scratch.executemany(
            "INSERT OR IGNORE INTO line VALUES (?, ?)",
            ((i, orjson.dumps(cells).decode()) for i, cells in rows),
        )
        for tweet_id, cells in scratch.execute("SELECT id, cells FROM line ORDER BY id DESC"):
            yield tweet_id, orjson.loads(cells)


def _write_merged(
    connection: sqlite3.Connection, target: int, path: Path, fresh: files.Replacement
) -> _Tally:
    try:
        return _write_with(connection, target, _newest_first(_stored(path)), fresh)
    except _OutOfOrder:
        return _write_with(connection, target, _sorted(_stored(path)), fresh)


def _write_with(
    connection: sqlite3.Connection, target: int, stored: Iterator[_Row], fresh: files.Replacement
) -> _Tally:
    tally = _Tally()
    # One statement reads one state of the bookkeeping, however long it takes.
    waiting = connection.execute(
        "SELECT id, cells, page, version, counted FROM csv_pending WHERE target_id = ? ORDER BY id DESC",
        [target],
    )
    with (
        closing(waiting),
        fresh.emptied() as file,
        io.TextIOWrapper(file, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text)  # its usual dialect is RFC 4180: commas, double quotes, CR LF
        writer.writerow(COLUMNS)
        writer.writerows(_merged(stored, waiting, tally))
    return tally


def _merged(
    stored: Iterator[_Row], waiting: Iterable[tuple[int, str, int, int, int]], tally: _Tally
) -> Iterator[list[str]]:
    """Both, newest first; a row that stands in the file already is replaced."""
    before = next(stored, None)
    for tweet_id, text, page, version, counted in waiting:
        while before is not None and before[0] > tweet_id:
            yield before[1]
            before = next(stored, None)
        cells = orjson.loads(text)
        tally.version = max(tally.version, version)
        if before is not None and before[0] == tweet_id:
            cells = _updated(before[1], cells)
            if not counted:
                tally.again[page] += 1
                tally.updated[page] += cells != before[1]
            before = next(stored, None)
        yield cells
    if before is not None:
        yield before[1]
        yield from (cells for _, cells in stored)


def _settle_counts(connection: sqlite3.Connection, target: int, path: Path, tally: _Tally) -> None:
    _forget_if_deleted(connection, target, path)
    for page, again in sorted(tally.again.items()):
        connection.execute(
            "UPDATE crawl_page SET new_count = new_count - ?, updated_count = updated_count + ? WHERE number = ?",
            [again, tally.updated[page], page],
        )
    connection.execute(
        "UPDATE csv_pending SET counted = 1 WHERE target_id = ? AND page <= ? AND NOT counted",
        [target, tally.version],
    )


def _drop_written(connection: sqlite3.Connection, target: int, tally: _Tally) -> None:
    connection.execute(
        "DELETE FROM csv_pending WHERE target_id = ? AND version <= ?", [target, tally.version]
    )
    connection.execute("UPDATE crawl_target SET written = 1 WHERE id = ?", [target])
