"""A folder with one CSV file per user, whole after a kill at any moment.

No kill tears a line, loses a saved post, or writes one twice.

A hidden SQLite file in the folder holds the bookkeeping, and the rows that are saved but are in
no file yet. When a walk ends or pauses, the CSV file is written again, from what it held and
what waits for it, and replaces the old one in one step.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from tweetcrawler import coverage, files, queries
from tweetcrawler.csvstore import books, merging
from tweetcrawler.csvstore.books import BOOKKEEPING, Bookkeeping, Connection, Key
from tweetcrawler.errors import ConfigurationError, DatabaseError, RowsWait
from tweetcrawler.pages import Batch, Bought, NoNews, Saved
from tweetcrawler.targets import SEARCH, TIMELINE, Absent, Claim, Found, Target
from tweetcrawler.windows import Bucket

__all__ = ["BOOKKEEPING", "CsvFolder", "Session"]

T = TypeVar("T")

# Files that take no rows while others do; from this number on, the run ends.
REFUSED_FILES = 5
# Failures that say something of one file, and nothing of the disk.
_OF_ONE_FILE = {
    errno.EPERM,
    errno.EACCES,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EBUSY,
    errno.ETXTBSY,
    errno.ELOOP,
}

log = logging.getLogger(__name__)

_USERNAME = re.compile(r"[a-z0-9_]{1,15}", re.ASCII)
_SEARCH_SLUG = re.compile(r"search-[a-z0-9-]{8,60}", re.ASCII)


@dataclass(frozen=True)
class CsvFolder:
    """A folder of CSV files: `<handle as listed, in lower case>.csv` for each user that was read.

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

    def connections_left(self) -> int | None:
        """None: files allow any number of processes."""
        return None


class Session:
    """One connection to the bookkeeping of a folder; see `CsvFolder.session`.

    Every method is one transaction that may be repeated without effect; those that write a
    file say so. What was saved and stands in no file yet is written by the next
    `begin_run`, `finish` or `release`.

    **Errors**: `DatabaseError` when the disk is full or broken, or the bookkeeping is gone or
    locked; `ConfigurationError` when a file in the folder is in the way. Neither loses anything
    that was saved. `RowsWait` when only the file of one target takes no rows: its walk is noted,
    and the others go on.
    """

    def __init__(self, folder: Path, stopping: Callable[[], bool]) -> None:
        self._folder = folder
        self._books = Bookkeeping(folder, stopping)
        self._saved_to: set[int] = set()

    def close(self) -> None:
        """Closes the connection."""
        self._books.close()

    # -- runs --------------------------------------------------------------------------------------

    def begin_run(
        self, *, version: str, arguments: Mapping[str, Any], host: str, credentials: Sequence[Any]
    ) -> tuple[int, float]:
        """A new run: its number, and when it began in seconds on this machine's clock.

        Makes the folder if need be, and writes to the files what an earlier run left
        waiting. The names of the credentials are noted, nothing else of them.
        """
        # The folder first: SQLite would say of a folder without rights only that it cannot open.
        _make_folder(self._folder)
        self._books.make()
        if refused := self._write_out_all():
            self._limit_refused(refused, 0)
        now = time.time()
        given = [
            version,
            json.dumps(dict(arguments), default=str),
            host,
            json.dumps([credential.name for credential in credentials]),
            now,
        ]
        run = self._books.write(
            lambda c: (
                c.execute(
                    """
                    INSERT INTO crawl_run (version, arguments, host, credentials, started_at)
                    VALUES (?, ?, ?, ?, ?)
                    """,
                    given,
                ).lastrowid
            )
        )
        assert run is not None  # noqa: S101 - an INSERT gives a number
        return run, now

    def end_run(self, run: int, *, exit_code: int, report: Mapping[str, Any]) -> None:
        """Notes how a run ended, and writes the files of workers that were killed."""
        given = [time.time(), exit_code, json.dumps(dict(report), default=str), run]
        self._books.write(
            lambda c: c.execute(
                "UPDATE crawl_run SET ended_at = ?, exit_code = ?, report = ? WHERE id = ?", given
            )
        )
        self._write_out_all()

    def totals(self, run: int) -> list[dict[str, Any]]:
        """Purchases of the run, from its pages: one dict per credential and endpoint.

        Keys: credential, endpoint, pages, posts, users, new, updated, again (posts that
        were stored already). A post counts as new until the file is written and shows that
        it was there before.
        """

        def work(connection: Connection) -> list[dict[str, Any]]:
            cursor = connection.execute(
                """
                SELECT credential, endpoint, count(*) AS pages, sum(post_count) AS posts,
                    sum(user_count) AS users, sum(new_count) AS new,
                    sum(updated_count) AS updated,
                    sum(post_count - new_count - refused_count) AS again
                FROM crawl_page WHERE run_id = ? GROUP BY 1, 2 ORDER BY 1, 2
                """,
                [run],
            )
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, values, strict=True)) for values in cursor]

        return self._books.read(work)

    # -- targets -----------------------------------------------------------------------------------

    def targets(self, handles: Sequence[str]) -> dict[str, Target]:
        """The stored targets of these handles, by handle.

        A handle of a renamed account gives its account.
        """

        def work(connection: Connection) -> dict[str, Target]:
            now = time.time()
            found = {}
            for handle in handles:
                row = connection.execute(
                    """
                    SELECT named.handle, t.id, t.key, t.username, t.state, t.state_reason, t.due_at
                    FROM crawl_target named
                    JOIN crawl_target t ON t.id = coalesce(named.same_as, named.id)
                    WHERE named.kind = ? AND named.handle = ?
                    """,
                    [TIMELINE, handle.lower()],
                ).fetchone()
                if row is not None:
                    listed, number, key, username, state, reason, due_at = row
                    rests_s = max(0.0, (due_at or 0.0) - now)
                    found[handle] = Target(number, listed, key, username, state, reason, rests_s)
            return found

        return self._books.read(work)

    def claim_handles(self, handles: Sequence[str], owner: str) -> set[str]:
        """Takes the leases of handles that are not resolved yet.

        Other processes are resolving the rest.
        """
        names = {handle: _checked(handle.lower()) for handle in handles}

        def work(connection: Connection) -> set[str]:
            now = time.time()
            mine = {
                name
                for name in sorted(set(names.values()))
                if books.claim_name(connection, name, owner, now)
            }
            return {handle for handle, name in names.items() if name in mine}

        return self._books.write(work)

    def save_page(self, run: int, bought: Bought) -> None:
        """Stores an answer of X that holds no posts of a target, such as a count."""

        def work(connection: Connection) -> None:
            books.insert_page(connection, run, bought, time.time())

        self._books.write_bought(work)

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

        def work(connection: Connection) -> None:
            now = time.time()
            books.insert_page(connection, run, bought, now)
            for one in found:
                books.note_found(connection, one, now)
            for gone in absent:
                connection.execute(
                    """
                    UPDATE crawl_target
                    SET state = ?, state_reason = ?, state_at = ?, lease_until = NULL, due_at = ?
                    WHERE kind = ? AND handle = ?
                    """,
                    [gone.state, gone.reason, now, now + rest_s, TIMELINE, gone.handle.lower()],
                )

        self._books.write_bought(work)

    def claim(self, target: int, owner: str, since: float) -> Claim | None:
        """The lease of a target, with what is known of it; None while another process has it.

        When its file was deleted, what it held is no longer known, and will be read again.
        `ConfigurationError` when a file of its name was not made by this program, or lost
        rows: nothing need be bought to find that out.
        """
        changed = self._books.read(lambda c: self._changed_file(c, target, owner))

        def work(connection: Connection) -> Claim | None:
            now = time.time()
            row = connection.execute(
                "SELECT handle, lease_owner, lease_until FROM crawl_target WHERE id = ?", [target]
            ).fetchone()
            if row is None:
                return None
            handle, holder, until = row
            held = books.lease_runs(until, holder, now)
            if held and holder != owner:
                return None
            # A renewal changes nothing on disk, so the file is looked at only by a new holder.
            if not held:
                path = self._path(handle)
                # Before the first request, since a page that cannot be kept is bought for
                # nothing.
                merging.check_header(path)
                books.forget_if_deleted(connection, target, path)
                if changed is not None:
                    books.note_file(connection, target, changed)
            return books.take_lease(connection, target, owner, since=since, now=now)

        return self._books.write(work)

    def _changed_file(self, connection: Connection, target: int, owner: str) -> books.Seen | None:
        """What the target's file holds, where somebody else changed it. That may take long, and
        is done before the transaction of a claim, which others wait for.
        """
        row = connection.execute(
            "SELECT handle, lease_owner, lease_until FROM crawl_target WHERE id = ?", [target]
        ).fetchone()
        if row is None or (row[1] == owner and books.lease_runs(row[2], row[1], time.time())):
            return None
        return books.check_file(connection, target, self._path(row[0]))

    def posts_above(self, target: int, tweet_id: int) -> int:
        """Number of received posts of the target that are not older than this id."""

        def work(connection: Connection) -> int:
            row = connection.execute(
                """
                SELECT coalesce(sum(post_count), 0) FROM crawl_page
                WHERE target_id = ? AND oldest_id >= ?
                """,
                [target, tweet_id],
            ).fetchone()
            return int(row[0])

        return self._books.read(work)

    def save(
        self,
        run: int,
        owner: str,
        batch: Batch,
        *,
        keep_body: bool = True,  # noqa: ARG002
        meanwhile: Callable[[], object] | None = None,  # noqa: ARG002 - a file leaves no time
    ) -> Saved:
        """Saves a page in one transaction: rows, purchase, coverage; renews the lease.

        The rows wait in the bookkeeping for the end of the walk. Bodies are not kept in a
        folder of CSV files, whatever `keep_body` says: nothing there reads them.
        """

        def work(connection: Connection) -> Saved:
            now = time.time()
            page = books.insert_page(connection, run, batch.bought, now, batch)
            new, updated = books.add_rows(connection, batch, page) if page is not None else (0, 0)
            posts = batch.bought.posts if page is not None else 0
            leased = books.add_coverage(connection, batch, posts, owner=owner, now=now)
            if leased is None:
                raise books.lost(self._folder)
            return Saved(new, updated, leased)

        if batch.target is None:
            raise ValueError("a folder of CSV files holds the posts of targets only")
        saved = self._books.write_bought(work)
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
        # The file before the state: after a kill between them, the next run finds a target
        # that is not done, and writes the same file again.
        refused = self._refused(target, whole=crawled)
        if refused is not None:
            self._limit_refused(refused, 1)
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
        self._books.write(lambda c: c.execute(books.END_WALK, given))
        if refused is not None:
            raise refused

    def finish_all(
        self,
        run: int,
        owner: str,
        ends: Sequence[NoNews],
        *,
        keep_body: bool = True,  # noqa: ARG002 - see `save`
    ) -> None:
        """Saves the pages of walks that ended without news, and their ends."""
        refused: dict[int, str] = {}
        for end in ends:
            self.save(run, owner, Batch(end.target.id, end.bought, rows=()))
            try:
                self.finish(end.target.id, owner, state=end.state, reason=end.reason, crawled=True)
            except RowsWait as waits:
                refused |= waits.why
        if refused:
            raise RowsWait(refused)

    def release(self, owner: str, targets: Sequence[int] | None = None) -> None:
        """Gives back the owner's leases of these targets, by default all.

        Writes the files of what it saved.
        """
        found = self._books.read(
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
                if (refused := self._refused(target)) is not None:
                    log.warning("%s", refused)
                self._saved_to.discard(target)
        finally:
            self._books.write(
                lambda c: c.executemany(
                    "UPDATE crawl_target SET lease_until = NULL WHERE lease_owner = ? AND id = ?",
                    [(owner, target) for target in held],
                )
            )

    def free(self, owner: str, targets: Sequence[int]) -> None:
        """Gives back those of these targets that a process held when it died, and writes the
        files of what it saved.
        """
        self.release(owner, targets)

    # -- searches ----------------------------------------------------------------------------------

    def open_searches(self, asked: Sequence[str]) -> list[Target]:
        """The targets of these normalised queries, in their order; new ones are made."""

        def work(connection: Connection) -> list[Target]:
            found = []
            for query in asked:
                key = queries.key_of(query)
                connection.execute(
                    """
                    INSERT INTO crawl_target (kind, key, handle, username, state_at)
                    VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
                    """,
                    [SEARCH, key, queries.slug_of(query), query, time.time()],
                )
                number, handle, state, reason = connection.execute(
                    """
                    SELECT id, handle, state, state_reason
                    FROM crawl_target WHERE kind = ? AND key = ?
                    """,
                    [SEARCH, key],
                ).fetchone()
                found.append(Target(number, handle, key, query, state, reason, kind=SEARCH))
            return found

        return self._books.write(work)

    def give_up(self, target: int, unreachable: coverage.Range, reason: str) -> None:
        """Notes ids that cannot be had, without a page that says so."""

        def work(connection: Connection) -> None:
            covered, known = connection.execute(
                "SELECT covered, unreachable FROM crawl_target WHERE id = ?", [target]
            ).fetchone()
            connection.execute(
                "UPDATE crawl_target SET unreachable = ?, unreachable_reason = ? WHERE id = ?",
                [books.less(books.with_ranges(known, [unreachable]), covered), reason, target],
            )

        self._books.write(work)

    def posts_within(self, target: int, seconds: float) -> int:
        """Number of posts of the target that were bought in the last `seconds`."""

        def work(connection: Connection) -> int:
            row = connection.execute(
                """
                SELECT coalesce(sum(post_count), 0) FROM crawl_page
                WHERE target_id = ? AND fetched_at > ?
                """,
                [target, time.time() - seconds],
            ).fetchone()
            return int(row[0])

        return self._books.read(work)

    # -- the books of the buckets ------------------------------------------------------------------

    def change_buckets(
        self,
        keys: Iterable[Key],
        change: Callable[[dict[Key, Bucket], float], tuple[Mapping[Key, Bucket], T]],
    ) -> T:
        """Changes buckets in one transaction; see `permits.Books`.

        All processes of one machine share the bookkeeping and the machine's clock.
        """
        wanted = sorted(set(keys))

        def work(connection: Connection) -> T:
            changed, result = change(
                {key: books.bucket_of(connection, key) for key in wanted}, time.time()
            )
            for (subject, endpoint), bucket in changed.items():
                connection.execute(
                    "INSERT INTO api_bucket (subject, endpoint, bucket) VALUES (?, ?, ?) "
                    "ON CONFLICT (subject, endpoint) DO UPDATE SET bucket = excluded.bucket",
                    [subject, endpoint, json.dumps(asdict(bucket))],
                )
            return result

        return self._books.write(work)

    # -- files -------------------------------------------------------------------------------------

    def _path(self, handle: str) -> Path:
        name = handle if _SEARCH_SLUG.fullmatch(handle) else _checked(handle)
        return self._folder / f"{name}.csv"

    def _write_out_all(self) -> RowsWait | None:
        """Writes the files of all rows that wait; gives the files that take none."""
        waiting = self._books.read(
            lambda c: c.execute("SELECT DISTINCT target_id FROM csv_pending").fetchall()
        )
        refused: dict[int, str] = {}
        for (target,) in waiting:
            if (waits := self._refused(target)) is not None:
                log.warning("%s", waits)
                refused |= waits.why
        return RowsWait(refused) if refused else None

    def _refused(self, target: int, *, whole: bool = False) -> RowsWait | None:
        """Writes the target's file; the error where the file takes no rows, and others may."""
        try:
            if whole:
                self._write_out_whole(target)
            else:
                self._write_out(target)
        except RowsWait as waits:
            return waits
        except ConfigurationError as error:
            return RowsWait({target: str(error)})
        return None

    def _limit_refused(self, refused: RowsWait, more: int) -> None:
        """Ends the run when so many files take no rows that it is the folder's trouble."""
        behind = self._books.read(books.files_behind) + more
        if behind >= REFUSED_FILES:
            why = [*refused.why.values()][-1]
            raise DatabaseError(f"{behind} files of {self._folder} take no rows; the last: {why}")

    def _write_out_whole(self, target: int) -> None:
        """As `_write_out`, but there is a file afterwards even if the target has no rows."""
        self._write_out(target)
        path = self._path(self._handle(target))
        if merging.is_missing(path):
            self._replace(target, path)

    def _write_out(self, target: int) -> None:
        """Writes the rows that wait for the target's file into it."""
        waits = self._books.read(
            lambda c: c.execute(
                "SELECT 1 FROM csv_pending WHERE target_id = ? LIMIT 1", [target]
            ).fetchone()
        )
        if waits is not None:
            self._replace(target, self._path(self._handle(target)))

    def _handle(self, target: int) -> str:
        row = self._books.read(
            lambda c: c.execute("SELECT handle FROM crawl_target WHERE id = ?", [target]).fetchone()
        )
        if row is None:
            raise books.lost(self._folder)
        return str(row[0])

    def _replace(self, target: int, path: Path) -> None:
        """Replaces the target's file; repeated after a crash, it gives the same file.

        What the rows count as is settled before the new file is in place: afterwards every
        row would be found in the file, and look as if it had been there before. The rows
        are dropped only when the file is safe.
        """
        try:
            with files.replacing(path, waits=self._books.patience()) as fresh:
                tally = self._books.read(
                    lambda c: merging.write_merged(path, lambda: books.waiting(c, target), fresh)
                )
                self._books.write(lambda c: books.settle_counts(c, target, path, tally))
                fresh.put_in_place()
                self._books.write(lambda c: books.drop_written(c, target, path, tally))
        except files.Taken:
            raise DatabaseError(
                f"{path} is being written by a process that does not end: end it, then run again"
            ) from None
        except OSError as error:
            said = (
                f"{path} cannot be written: {error.strerror or error}; its new posts are safe in "
                f"{BOOKKEEPING} beside it, make room or correct the rights, then run again"
            )
            if error.errno in _OF_ONE_FILE:
                raise RowsWait({target: said}) from None
            raise DatabaseError(said) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Tried, not asked: of root, access lists and read-only disks `os.access` tells half the
        # truth.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"the CSV folder {folder} cannot be written to: {error.strerror or error}; correct its "
            "rights or name another with --folder"
        ) from None


def _checked(handle: str) -> str:
    """The handle, if it can be a username of X.

    Whatever else it is, it never becomes part of a path.
    """
    if _USERNAME.fullmatch(handle) is None:
        raise ConfigurationError(
            f"{handle[:60]!a} is no username of X (letters, digits and _, at most 15), so no file "
            "can be named after it: take it out of the handles"
        )
    return handle
