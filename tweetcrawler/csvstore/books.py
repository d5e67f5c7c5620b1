"""Bookkeeping of a folder of CSV files, in a hidden SQLite file.

Its schema, its statements, and patience with other processes.

One writer at a time, as SQLite allows it: each `write` is a transaction that takes the lock
first, so it never has to give up in the middle. https://www.sqlite.org/lang_transaction.html
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TypeVar

import orjson

from tweetcrawler import coverage
from tweetcrawler.csvstore import merging
from tweetcrawler.csvstore.merging import Held, Tally, Waiting, held_by, is_missing
from tweetcrawler.errors import ConfigurationError, DatabaseError, DatabaseNotMigrated
from tweetcrawler.identity import is_gone
from tweetcrawler.pages import Batch, Bought
from tweetcrawler.targets import LEASE_S, TIMELINE, Claim, Found
from tweetcrawler.windows import Bucket
from tweetcrawler.words import plural

BOOKKEEPING = ".tweetcrawler.sqlite3"
# Another process writes for milliseconds; one that was stopped in the middle is waited for,
# but not for ever.
PATIENCE_S = 60.0
# Room that is kept free for the pages that are under way when the disk is full, of all processes.
_ROOM = f"{BOOKKEEPING}-room"
_ROOM_BYTES = 4 << 20
# How long a single attempt waits for another process, whether or not the run is to end.
BUSY_S = 5.0
# The layout of the bookkeeping that this program makes and reads.
_SCHEMA = 2

Connection = sqlite3.Connection
Key = tuple[str, str]
T = TypeVar("T")
log = logging.getLogger(__name__)

_IN_THE_WAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}

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
        file_size integer,
        file_time_ns integer,
        file_rows integer,
        file_ids integer,
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
# What the program last saw of each file; NULL in a bookkeeping of before.
_SINCE_1 = [
    *(
        f"ALTER TABLE crawl_target ADD COLUMN {name} integer"
        for name in ("file_size", "file_time_ns", "file_rows", "file_ids")
    ),
    f"PRAGMA user_version = {_SCHEMA}",
]


class Bookkeeping:
    """The bookkeeping of one folder, for one process.

    **Errors**: `DatabaseError` when the disk is full or broken, or the file is gone or locked;
    `ConfigurationError` when it may not be written.
    """

    def __init__(self, folder: Path, stopping: Callable[[], bool]) -> None:
        self._folder = folder
        self._stopping = stopping
        self._connection: Connection | None = None

    def make(self) -> None:
        """Makes the file and its tables if need be, and keeps room for the last pages."""
        self._patiently(lambda: _make_bookkeeping(self._folder))
        _keep_room(self._folder)

    def write(self, work: Callable[[Connection], T]) -> T:
        """What the work gives, in a transaction of its own, which may be repeated."""
        return self._patiently(lambda: _transaction(self._connected(), work))

    def write_bought(self, work: Callable[[Connection], T]) -> T:
        """As `write`, for a page that was paid for: on a full disk it gets the room that was
        kept, and then the error ends the run.
        """
        result = self.write(work)
        if not (self._folder / _ROOM).exists():
            raise _no_room(self._folder, "the disk is full, or fails")
        return result

    def read(self, work: Callable[[Connection], T]) -> T:
        """What the work gives; each of its statements reads one state."""
        return self._patiently(lambda: work(self._connected()))

    def patience(self) -> Callable[[], bool]:
        """Whether to go on waiting for another process, asked from now on."""
        patience = _Patience(self._stopping)
        return lambda: not patience.is_over()

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = _open(self._folder)
        return self._connection

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """The result of the attempt, retried while another process is in the way."""
        patience = _Patience(self._stopping)
        while True:
            try:
                return attempt()
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _NO_ROOM and _free_room(self._folder):
                    continue
                if code not in _IN_THE_WAY or patience.is_over():
                    self.close()
                    raise _refusal(error, code, self._folder) from None


def _keep_room(folder: Path) -> None:
    """Keeps room on the disk: a page that is bought when it is full must be saved somewhere."""
    room = folder / _ROOM
    try:
        with room.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, _ROOM_BYTES)
    except PermissionError:
        raise ConfigurationError(
            f"{_ROOM} in {folder} cannot be written to: correct its rights or name another folder"
        ) from None
    except OSError as error:
        room.unlink(missing_ok=True)
        raise _no_room(folder, error.strerror or str(error)) from None


def _free_room(folder: Path) -> bool:
    """Frees the room that was kept; False when it is in use already."""
    try:
        (folder / _ROOM).unlink()
    except OSError:
        return False
    return True


def _no_room(folder: Path, why: object) -> DatabaseError:
    return DatabaseError(
        f"{BOOKKEEPING} in {folder} cannot be written: {why}; everything saved is safe, make room "
        "and run again"
    )


def lost(folder: Path) -> DatabaseError:
    """The error of a target that the bookkeeping does not know."""
    return DatabaseError(
        f"{BOOKKEEPING} in {folder} does not know a target that is being walked, so it was "
        "replaced meanwhile: run again, and leave the file alone"
    )


class _Patience:
    """Patience with other processes: short once the run is to end."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._began_at = time.monotonic()

    def is_over(self) -> bool:
        waited_s = time.monotonic() - self._began_at
        return waited_s >= (BUSY_S if self._stopping() else PATIENCE_S)


def _make_bookkeeping(folder: Path) -> None:
    try:
        connection = _connect(folder, "rwc")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN:
            raise
        raise ConfigurationError(
            f"the file {BOOKKEEPING} in {folder} cannot be opened: correct its rights or name "
            "another folder"
        ) from None
    with closing(connection):
        schema = _schema_of(connection)
        if schema == 0:
            # In WAL mode readers do not wait for the writer. It is a property of the file, so
            # it is set once. https://www.sqlite.org/wal.html
            connection.execute("PRAGMA journal_mode = WAL")
        if schema in (0, 1):
            _transaction(connection, _make_tables)


def _make_tables(connection: Connection) -> None:
    for statement in {0: _TABLES, 1: _SINCE_1}.get(_schema_of(connection), []):
        connection.execute(statement)


def _open(folder: Path) -> Connection:
    connection = _connect(folder, "rw")
    schema = _schema_of(connection)
    if schema == _SCHEMA:
        return connection
    connection.close()
    raise DatabaseNotMigrated(
        f"{BOOKKEEPING} in {folder} has schema {schema}, this program needs {_SCHEMA}: install "
        "the version of tweetcrawler that made it, or name another folder"
    )


def _connect(folder: Path, mode: str) -> Connection:
    url = f"{(folder / BOOKKEEPING).absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(url, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        # In WAL mode, NORMAL may lose the last transactions with the power. What was bought is
        # never bought again, so it must last.
        connection.execute("PRAGMA synchronous = FULL")
        _schema_of(connection)  # the first look at the file: what is no database is refused here
    except BaseException:
        connection.close()
        raise
    return connection


def _schema_of(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    # A transaction that begins with reading may not be able to write later (SQLITE_BUSY_SNAPSHOT).
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
    if code in _NO_ROOM:
        return _no_room(folder, error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseError(
            f"{what} is damaged: {error}; bring it back from a copy, or delete it: the CSV files "
            "stay, but every timeline is read again"
        )
    if code in _IN_THE_WAY:
        return DatabaseError(
            f"{what} is held by another program: {error}; end that, then run again"
        )
    return DatabaseError(f"{what} cannot be used: {error}; look at the folder, then run again")


# -- targets and their leases ----------------------------------------------------------------------


def lease_runs(until: float | None, holder: str | None, now: float) -> bool:
    """Whether a lease still runs.

    One that ends later than any lease can was taken before the clock was set back.
    """
    return until is not None and now < until <= now + LEASE_S and not is_gone(holder)


def claim_name(connection: Connection, name: str, owner: str, now: float) -> bool:
    row = connection.execute(
        """
        SELECT id, key, same_as, lease_owner, lease_until
        FROM crawl_target WHERE kind = ? AND handle = ?
        """,
        [TIMELINE, name],
    ).fetchone()
    if row is None:
        connection.execute(
            """
            INSERT INTO crawl_target (kind, handle, state_at, lease_owner, lease_until)
            VALUES (?, ?, ?, ?, ?)
            """,
            [TIMELINE, name, now, owner, now + LEASE_S],
        )
        return True
    number, key, same_as, holder, until = row
    if (
        key is not None
        or same_as is not None
        or (lease_runs(until, holder, now) and holder != owner)
    ):
        return False
    connection.execute(
        "UPDATE crawl_target SET lease_owner = ?, lease_until = ? WHERE id = ?",
        [owner, now + LEASE_S, number],
    )
    return True


def take_lease(
    connection: Connection, target: int, owner: str, *, since: float, now: float
) -> Claim:
    """Leases a target that nobody else holds, and gives what is known of it."""
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
        # A moment yet to come was noted before the clock was set back, so by another run.
        crawled_at is not None and since <= crawled_at <= now,
    )


# The end of a walk. A lease that another process has by now stays with it.
END_WALK = """
UPDATE crawl_target
SET state_at = CASE WHEN state = :state THEN state_at ELSE :now END,
    state = :state, state_reason = :reason,
    crawled_at = coalesce(:crawled_at, crawled_at), due_at = :due_at,
    lease_until = CASE WHEN lease_owner = :owner THEN NULL ELSE lease_until END
WHERE id = :id
"""


def note_found(connection: Connection, one: Found, now: float) -> None:
    handle = one.handle.lower()
    account = connection.execute(
        "SELECT id, handle FROM crawl_target WHERE kind = ? AND key = ? AND handle <> ?",
        [TIMELINE, one.user_id, handle],
    ).fetchone()
    if account is not None:
        connection.execute(
            """
            UPDATE crawl_target
            SET same_as = ?, state = 'renamed', state_reason = ?, state_at = ?, lease_until = NULL
            WHERE kind = ? AND handle = ?
            """,
            [account[0], f"the account is known as @{account[1]}", now, TIMELINE, handle],
        )
        return
    connection.execute(
        """
        UPDATE crawl_target
        SET key = ?, username = ?, account_posts = ?, state = 'new', state_reason = '',
            state_at = ?, lease_until = NULL, due_at = NULL
        WHERE kind = ? AND handle = ? AND same_as IS NULL
        """,
        [one.user_id, one.username, one.account_posts, now, TIMELINE, handle],
    )


def forget_if_deleted(connection: Connection, target: int, path: Path) -> None:
    """Forgets the coverage of a deleted file, since its posts must be read again."""
    row = connection.execute(
        "SELECT covered <> '{}' OR unreachable <> '{}' FROM crawl_target WHERE id = ? AND written",
        [target],
    ).fetchone()
    if row is None or not is_missing(path):
        return
    if row[0]:
        log.warning("%s is gone, so the posts of its user are read again from the newest on", path)
    connection.execute(
        """
        UPDATE crawl_target
        SET covered = '{}', unreachable = '{}', unreachable_reason = '', post_count = 0,
            crawled_at = NULL, written = 0, file_size = NULL, file_time_ns = NULL,
            file_rows = NULL, file_ids = NULL
        WHERE id = ?
        """,
        [target],
    )
    # The run keeps its costs; but how deep a walk is in the timeline is counted from its
    # own pages.
    connection.execute("UPDATE crawl_page SET target_id = NULL WHERE target_id = ?", [target])


def check_file(connection: Connection, target: int, path: Path) -> Seen | None:
    """What a file holds, where it is not as it was left; None where it is.

    **Errors**: `ConfigurationError` when rows are missing.
    """
    known = _file_of(connection, target)
    if known is None or is_missing(path):
        return None
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) == (known.size, known.time_ns):
        return None
    held = held_by(path)
    _compare(path, known.held, held)
    return Seen(stat.st_size, stat.st_mtime_ns, held)


def note_file(connection: Connection, target: int, seen: Seen) -> None:
    """Remembers a file as it is."""
    connection.execute(
        "UPDATE crawl_target SET file_size = ?, file_time_ns = ?, file_rows = ?, file_ids = ? "
        "WHERE id = ?",
        [seen.size, seen.time_ns, seen.held.rows, seen.held.ids, target],
    )


@dataclass(frozen=True)
class Seen:
    """A file as it was seen last."""

    size: int
    time_ns: int
    held: Held


def _file_of(connection: Connection, target: int) -> Seen | None:
    row = connection.execute(
        "SELECT file_size, file_time_ns, file_rows, file_ids FROM crawl_target WHERE id = ?",
        [target],
    ).fetchone()
    if row is None or row[0] is None:
        return None
    return Seen(row[0], row[1], Held(row[2], row[3]))


def _compare(path: Path, known: Held, held: Held) -> None:
    # More rows were added by somebody, or by a process that was killed before it noted them.
    if held.rows > known.rows or held == known:
        return
    lost = f"{known.rows - held.rows:,} of its {plural(known.rows, 'row is', 'rows are')} missing"
    if held.rows == known.rows:
        lost = "some of its ids are others now, as a spreadsheet rounds them"
    raise ConfigurationError(
        f"{path} was changed: {lost}; put the whole file back, or delete it to have its posts "
        "bought again"
    )


def cover(connection: Connection, target: int, ranges: Sequence[coverage.Range]) -> None:
    """Adds ids to the coverage of a target that its stored pages prove."""
    [known] = connection.execute("SELECT covered FROM crawl_target WHERE id = ?", [target])
    covered = coverage.to_text(coverage.union(coverage.from_text(known[0]), ranges))
    connection.execute("UPDATE crawl_target SET covered = ? WHERE id = ?", [covered, target])


def less(ranges: str, taken: str) -> str:
    if ranges == "{}":
        return ranges
    return coverage.to_text(
        coverage.difference(coverage.from_text(ranges), coverage.from_text(taken))
    )


def with_ranges(ranges: str, added: Iterable[coverage.Range]) -> str:
    return coverage.to_text(coverage.union(coverage.from_text(ranges), added))


# -- pages and the rows that wait for their file ---------------------------------------------------


def insert_page(
    connection: Connection, run: int, bought: Bought, now: float, batch: Batch | None = None
) -> int | None:
    """The number of the page; None when it is stored already."""
    ids = [row["id"] for row in batch.rows] if batch else []
    refused = [{"id": i, "reason": reason} for i, reason in batch.refused] if batch else []
    cursor = connection.execute(
        """
        INSERT INTO crawl_page (id, run_id, target_id, fetched_at, endpoint, params, credential,
            post_count, user_count, refused_count, refused, newest_id, oldest_id)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO NOTHING
        """,
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


def add_rows(connection: Connection, batch: Batch, page: int) -> tuple[int, int]:
    """Adds the rows of a page to those that wait for their file.

    Gives how many are new and how many changed, as far as is known.
    """
    new = updated = 0
    for row in batch.rows:
        cells = merging.cells_of(row)
        waiting = connection.execute(
            "SELECT cells FROM csv_pending WHERE target_id = ? AND id = ?",
            [batch.target, row["id"]],
        ).fetchone()
        if waiting is None:
            new += 1
            connection.execute(
                """
                INSERT INTO csv_pending (target_id, id, cells, page, version)
                VALUES (?, ?, ?, ?, ?)
                """,
                [batch.target, row["id"], orjson.dumps(cells).decode(), page, page],
            )
            continue
        known = orjson.loads(waiting[0])
        cells = merging.updated(known, cells)
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


def add_coverage(
    connection: Connection, batch: Batch, posts: int, *, owner: str, now: float
) -> bool | None:
    """Adds what a page makes known of its target, and renews the owner's lease.

    Whether the owner still holds the lease; None when there is no such target.
    """
    known = connection.execute(
        "SELECT covered, unreachable, lease_owner FROM crawl_target WHERE id = ?", [batch.target]
    ).fetchone()
    if known is None:
        return None
    covered = with_ranges(known[0], batch.known)
    given = {
        "id": batch.target,
        "covered": covered,
        "unreachable": less(
            with_ranges(known[1], [batch.unreachable] if batch.unreachable else []), covered
        ),
        "reason": batch.unreachable_reason or None,
        "username": batch.username,
        "account_posts": batch.account_posts,
        "posts": posts,
        "leased": known[2] == owner,
        "lease_until": now + LEASE_S,
    }
    connection.execute(_ADD_COVERAGE, given)
    return bool(given["leased"])


# A page that was bought after its lease was lost is stored, too: it is paid for.
_ADD_COVERAGE = """
UPDATE crawl_target
SET covered = :covered, unreachable = :unreachable,
    unreachable_reason = coalesce(:reason, unreachable_reason),
    username = coalesce(:username, username),
    account_posts = coalesce(:account_posts, account_posts),
    post_count = post_count + :posts,
    lease_until = CASE WHEN :leased THEN :lease_until ELSE lease_until END
WHERE id = :id
"""


def waiting(connection: Connection, target: int) -> AbstractContextManager[Iterable[Waiting]]:
    """The rows that wait for the target's file, newest first."""
    # One statement reads one state of the bookkeeping, however long it takes.
    rows = connection.execute(
        """
        SELECT id, cells, page, version, counted FROM csv_pending
        WHERE target_id = ? ORDER BY id DESC
        """,
        [target],
    )
    return closing(rows)


def files_behind(connection: Connection) -> int:
    """The number of targets whose rows wait although nobody is walking them."""
    rows = connection.execute(
        """
        SELECT t.lease_owner, t.lease_until
        FROM crawl_target t WHERE EXISTS (SELECT 1 FROM csv_pending p WHERE p.target_id = t.id)
        """
    )
    now = time.time()
    return sum(not lease_runs(until, owner, now) for owner, until in rows)


def settle_counts(connection: Connection, target: int, path: Path, tally: Tally) -> None:
    forget_if_deleted(connection, target, path)
    if (known := _file_of(connection, target)) is not None:
        _compare(path, known.held, tally.held)
    for page, again in sorted(tally.again.items()):
        connection.execute(
            """
            UPDATE crawl_page SET new_count = new_count - ?, updated_count = updated_count + ?
            WHERE number = ?
            """,
            [again, tally.updated[page], page],
        )
    connection.execute(
        "UPDATE csv_pending SET counted = 1 WHERE target_id = ? AND page <= ? AND NOT counted",
        [target, tally.version],
    )


def drop_written(connection: Connection, target: int, path: Path, tally: Tally) -> None:
    connection.execute(
        "DELETE FROM csv_pending WHERE target_id = ? AND version <= ?", [target, tally.version]
    )
    connection.execute("UPDATE crawl_target SET written = 1 WHERE id = ?", [target])
    with suppress(FileNotFoundError):  # somebody deleted it in this moment
        stat = path.stat()
        note_file(connection, target, Seen(stat.st_size, stat.st_mtime_ns, tally.holds))


# -- buckets ---------------------------------------------------------------------------------------

_BUCKET_FIELDS = {f.name for f in fields_of(Bucket)}


def bucket_of(connection: Connection, key: Key) -> Bucket:
    row = connection.execute(
        "SELECT bucket FROM api_bucket WHERE subject = ? AND endpoint = ?", list(key)
    ).fetchone()
    known = json.loads(row[0]) if row else {}
    return Bucket(**{name: value for name, value in known.items() if name in _BUCKET_FIELDS})
