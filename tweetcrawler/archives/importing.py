"""Imports files of posts into the table, and reports their contents.

A file is read by one process, from where it was left: rows, counts and position are saved
in one transaction. Imported posts never become coverage, since nobody knows what is missing
between them.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tweetcrawler import run
from tweetcrawler.archives import containers, pieces
from tweetcrawler.archives.containers import Archive
from tweetcrawler.archives.documents import EMPTY, LOG, OTHER_FILE, OTHER_PART, Document, Position
from tweetcrawler.archives.flatten_v1 import flatten_statuses
from tweetcrawler.archives.formats import times
from tweetcrawler.archives.pieces import Piece
from tweetcrawler.dispatch import Dispatch, Stopped, Workers
from tweetcrawler.errors import ConfigurationError, DatabaseUnreachable, TweetcrawlerError
from tweetcrawler.flatten import COLUMNS, Flattened, Partial, flatten, merged
from tweetcrawler.ids import warning_of
from tweetcrawler.news import Fatal, LogLine, Outcome, Result
from tweetcrawler.outcome import NAMED_MAX, Display, RunProgress, RunReport
from tweetcrawler.pages import Observed
from tweetcrawler.people import Heard
from tweetcrawler.pool import Here, Pool, log_to_parent, prepare
from tweetcrawler.sentiment import scorer
from tweetcrawler.settings import Settings
from tweetcrawler.work.kinds import Task, Units

if TYPE_CHECKING:
    from tweetcrawler.db import Database, ImportState, Session

# A process that was asked to end saves its batch within this time.
GRACE_S = 10.0
ROWS_A_BATCH = 5_000
# A batch is saved after this time also when it is small, as when posts trickle in through a
# pipe.
BATCH_S = 5.0
REJECT_SHOWN_BYTES = 500
# One reason, such as a table read as lines, must not fill the disk.
REJECTS_A_REASON = 1_000
LEFT_OUT_NAMED = 10
IDS_LOOKED_AT = 1_000

REJECTED = "rejected"
REPEATED = "repeated in its page"
WITHOUT = {
    "rows without an author": "tweet_from",
    "rows without a time": "created_at",
    "rows without a text": "text",
}
"""Counts of rows that lack a column, beside what gave no row at all."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileResult:
    """The end of one file: "imported", "imported before", "interrupted", "busy" or "failed",
    and why.

    The counts are those of the whole file as far as it was read, in this run and before:
    `posts` gave a row, `new` and `updated` of them changed the table, `others` counts by
    name the things that gave none. `went_on` says that an earlier run had begun it.
    """

    path: str
    state: str
    reason: str = ""
    posts: int = 0
    new: int = 0
    updated: int = 0
    others: Mapping[str, int] = field(default_factory=dict)
    went_on: bool = False
    exit_code: int = 0


@dataclass(frozen=True)
class BatchSaved:
    """A batch of a file was saved: the bytes read of the file so far, the posts since the
    last batch.
    """

    path: str
    bytes_read: int
    posts: int
    new: int
    rejected: int


@dataclass
class ImportReport(RunReport):
    """All results of a run; `named` are those of files that are not simply done, at most
    `NAMED_MAX` of them.
    """

    files: Counter[str] = field(default_factory=Counter)
    posts: int = 0
    new: int = 0
    updated: int = 0
    others: Counter[str] = field(default_factory=Counter)
    went_on: int = 0
    named: list[FileResult] = field(default_factory=list)
    rejects_file: Path = Path()

    def take(self, news: object) -> None:
        """Counts one piece of news."""
        if isinstance(news, FileResult):
            self.add(news)
        elif isinstance(news, Outcome):  # its process died too often
            self.add(FileResult(news.name, news.state, news.reason))

    def leave(self, count: int) -> None:
        """Counts files that the run did not begin."""
        if count:
            self.files["not begun"] += count

    def add(self, result: FileResult) -> None:
        """Counts a result. A file that an earlier run read whole is only counted itself."""
        self.files[result.state] += 1
        if result.state == "imported before":
            return
        self.posts += result.posts
        self.new += result.new
        self.updated += result.updated
        self.others.update(result.others)
        self.went_on += result.went_on
        if result.state != "imported" and len(self.named) < NAMED_MAX:
            self.named.append(result)
        if result.state in ("failed", "busy") or self.refused:
            self.exit_code = max(self.exit_code, result.exit_code, 1)

    @property
    def refused(self) -> int:
        """The number of posts, lines and formats that were wanted and not taken."""
        return self.rejected + sum(self.others[name] for name in pieces.REFUSED)

    @property
    def rejected(self) -> int:
        """The number of them that are named in the file of rejects."""
        return self.others[REJECTED]

    @property
    def refusals(self) -> Set[str]:
        """Those of `others` that are formats which are not taken."""
        return self.others.keys() & pieces.REFUSED.keys()

    @property
    def gave_no_row(self) -> dict[str, int]:
        """The counts by name of what gave no row."""
        return {name: count for name, count in self.others.items() if name not in WITHOUT}

    @property
    def lacking(self) -> dict[str, int]:
        """The counts by name of rows that lack a column."""
        return {name: count for name in WITHOUT if (count := self.others[name])}

    def as_plain(self) -> dict[str, Any]:
        """The report as JSON can hold it, for the run's record."""
        return {
            **super().as_plain(),
            "files": dict(self.files),
            "posts": self.posts,
            "new": self.new,
            "updated": self.updated,
            "others": dict(self.others),
        }

    def for_programs(self) -> dict[str, Any]:
        """The report with the names of files that are not simply done."""
        named = [{"file": r.path, "state": r.state, "reason": r.reason} for r in self.named]
        return {"run": self.run, **self.as_plain(), "named": named, "went_on": self.went_on}


@dataclass
class ImportProgress(RunProgress):
    """A running import as a display shows it; counts are of this run, bytes are of the files
    as stored. `sizes` are the bytes of each file.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    files_done: int = 0
    bytes_done: int = 0
    posts: int = 0
    new: int = 0
    rejected: int = 0
    reading: dict[str, int] = field(default_factory=dict)  # path -> bytes read of it

    def take(self, news: object) -> None:
        """Counts one piece of news."""
        if isinstance(news, BatchSaved):
            self.reading[news.path] = news.bytes_read
            self.posts += news.posts
            self.new += news.new
            self.rejected += news.rejected
        elif isinstance(news, FileResult):
            self._end(news.path)
        elif isinstance(news, Outcome):
            self._end(news.name)

    @property
    def files(self) -> int:
        """The number of files."""
        return len(self.sizes)

    @property
    def bytes(self) -> int:
        """The bytes of all files."""
        return sum(self.sizes.values())

    @property
    def bytes_read(self) -> int:
        """Of files that are done, and of those under way."""
        return self.bytes_done + sum(self.reading.values())

    def _end(self, path: str) -> None:
        self.reading.pop(path, None)
        self.files_done += 1
        self.bytes_done += self.sizes.get(path, 0)


@dataclass(frozen=True)
class Wanted:
    """Files and folders to import, None for standard input, and the file for rejects.

    `again` says that files which were imported before are read once more.
    """

    files: tuple[Path | None, ...]
    rejects_file: Path
    again: bool = False


@dataclass(frozen=True)
class Job:
    """The values that every process of an import needs."""

    settings: Settings
    database: Database
    run: int
    wanted: Wanted


Tell = Callable[[Any], None]
Stopping = Callable[[], bool]


# -- in the parent -------------------------------------------------------------------------------


def import_files(
    settings: Settings,
    database: Database,
    wanted: Wanted,
    *,
    display: Display,
    stopped: Stopped,
) -> ImportReport:
    """Imports all wanted files, and reports.

    `stopped()` gives the exit code once the operator wants the run to end; what was read is
    then saved.

    **Errors**: `ConfigurationError` for a file that is not there, before anything is read;
    `DatabaseError` when the run cannot be begun. Whatever ends a file or the run later is in
    the report.
    """
    archives = _found(wanted.files)
    _check_rejects(wanted.rejects_file)
    here, files, size = _shared_out(archives, settings)
    if files:
        prepare(["tweetcrawler.archives.importing", "tweetcrawler.db"])
    number, _ = run.begin(settings, database, [])
    job = Job(settings, database, number, wanted)
    report = ImportReport(number, rejects_file=wanted.rejects_file)
    sizes = {each.path: each.size for each in archives}
    progress = ImportProgress(time.monotonic(), sizes=sizes)

    def read(pool: Workers, some: Sequence[Archive]) -> None:
        kinds, units = {FILES.name: FILES}, {FILES.name: some}
        dispatch = Dispatch(pool, kinds, units, report=report, progress=progress, sink=database)
        dispatch.run(display, stopped, grace_s=GRACE_S)

    if here:
        read(Here(_reader, job, stopping=lambda: stopped() is not None), here)
    if files and not report.ended:
        read(Pool("tweetcrawler.archives.importing:start_worker", job, size=size), files)
    elif files:
        report.leave(len(files))
    run.end(database, report)
    return report


def _shared_out(
    archives: Sequence[Archive], settings: Settings
) -> tuple[list[Archive], list[Archive], int]:
    """The files to be read in this process, those for others, and the number of these."""
    # The standard input of this process is nobody else's.
    here = [each for each in archives if each.path == "-"]
    files = [each for each in archives if each.path != "-"]
    size = min(len(files), settings.threads or os.cpu_count() or 1)
    return (here, files, size) if size > 1 else (here + files, [], 0)


def _found(files: Sequence[Path | None]) -> list[Archive]:
    """The files, each once, in the order in which they are given: where no time tells, the
    file that is read later has the newer counts.
    """
    found: dict[str, Archive] = {}
    left_out: list[Path] = []
    for file in files:
        if file is None:
            found["-"] = containers.STANDARD_INPUT
            continue
        try:
            paths = containers.find(file, left_out=left_out.append)
            inside = [containers.identify(each.resolve()) for each in paths]
        except OSError as error:
            raise ConfigurationError(
                f"{error.filename or file} cannot be read: {error.strerror}; "
                "correct the name or leave it out"
            ) from None
        if not inside:
            raise ConfigurationError(
                f"the folder {file} holds no file of posts (.json, .jsonl, .csv, .tar, .zip, .gz, "
                ".zst, …); name the files themselves if they are called otherwise"
            )
        found.update({each.path: each for each in inside})
    if left_out:
        shown = ", ".join(map(str, left_out[:LEFT_OUT_NAMED]))
        more = f" and {len(left_out) - LEFT_OUT_NAMED:,} more" * (len(left_out) > LEFT_OUT_NAMED)
        log.warning("not read, since they are not named like files of posts: %s%s", shown, more)
    return list(found.values())


def _check_rejects(file: Path) -> None:
    folder_is_usable = file.parent.is_dir() and os.access(file.parent, os.W_OK)
    if file.is_dir() or not (os.access(file, os.W_OK) if file.exists() else folder_is_usable):
        raise ConfigurationError(
            f"the file of rejects {file} cannot be written; name another with --rejects"
        )


# -- in a worker ---------------------------------------------------------------------------------


def start_worker(
    number: int, stopping: Stopping, tell: Tell, job: Job
) -> Callable[[Task | None], Result]:
    """Makes the handler of files of one process; see `pool.Pool`."""
    log_to_parent(tell, job.settings.log_level)
    return _reader(number, stopping, tell, job)


def _reader(
    _number: int, stopping: Stopping, tell: Tell, job: Job
) -> Callable[[Task | None], Result]:
    """Imports one file after the other over one connection, which ends with None."""
    # A batch is some hundred thousand objects, none of them in a ring: looking for rings
    # takes much time.
    gc.set_threshold(1_000_000, 20, 100)
    score = scorer() if job.settings.sentiment else None
    open_ = ExitStack()
    session = open_.enter_context(job.database.session(stopping=stopping))

    def read(task: Task | None) -> Result:
        if task is None:
            open_.close()
            return Result()
        [each] = task[1]
        done = _import_archive(each, session, job, score=score, stopping=stopping, tell=tell)
        tell(done)
        if done.exit_code == DatabaseUnreachable.exit_code:
            return Result(fatal=Fatal(done.reason, done.exit_code))
        return Result()

    return read


FILES = Units("files", called=lambda each: str(each.path))


def _import_archive(
    each: Archive,
    session: Session,
    job: Job,
    *,
    score: Callable[[str], float] | None,
    stopping: Stopping,
    tell: Tell,
) -> FileResult:
    # Nobody knows where standard input was left: it is another file each time.
    identity = (
        (each.fingerprint, each.head) if each.path != "-" else (f"run {job.run}", f"run {job.run}")
    )
    reading: _Reading | None = None
    try:
        state = session.begin_import(
            job.run,
            each.path,
            size=each.size,
            fingerprint=identity[0],
            head=identity[1],
            again=job.wanted.again,
        )
        if state.finished:
            return _result(each.path, "imported before", state)
        reading = _Reading(each, session, state, job.wanted.rejects_file, score, tell)
        reading.read(stopping)
    except TweetcrawlerError as error:
        reason, code = str(error), error.exit_code
    except (OSError, MemoryError) as error:
        reason, code = f"{type(error).__name__}: {error}", 1
    else:
        return reading.result()
    failed = reading.result() if reading is not None else FileResult(each.path, "")
    return replace(failed, state="failed", reason=reason, exit_code=code)


def _result(path: str, name: str, state: ImportState, reason: str = "") -> FileResult:
    return FileResult(path, name, reason, state.posts, state.new, state.updated, dict(state.others))


class _Reading:
    """One file on its way into the table: the batch that is being filled, and what is saved
    already.
    """

    def __init__(
        self,
        each: Archive,
        session: Session,
        state: ImportState,
        rejects_file: Path,
        score: Callable[[str], float] | None,
        tell: Tell,
    ) -> None:
        self._each = each
        self._session = session
        self._saved = state
        self._went_on = state.position != Position()
        self._rejects_file = rejects_file
        self._score = score
        self._tell = tell
        self._reached: tuple[int, int, int] = state.position
        self._rows: dict[int, dict[str, Any]] = {}
        # When the counts of a row were seen, and all counts of which that is known.
        self._seen: dict[int, float] = {}
        self._observed: list[Observed] = []
        self._heard = Heard()
        self._posts = state.posts
        self._others = Counter(state.others)
        self._rejects: list[bytes] = []
        self._reasons: Counter[str] = Counter()
        self._ids_looked_at = False
        self._named = {kind for kind in pieces.REFUSED if self._others[kind]}
        self._lost = False

    def read(self, stopping: Stopping) -> None:
        """From where the file was left to its end, or until `stopping()`."""
        with containers.documents(
            self._each, Position(*self._saved.position), stopping=stopping, score=self._score
        ) as (
            documents,
            bytes_read,
        ):
            save_at = time.monotonic() + BATCH_S
            try:
                for document in documents:
                    self._take(document)
                    if len(self._rows) >= ROWS_A_BATCH or time.monotonic() >= save_at:
                        if not self._save(bytes_read(), finished=False):
                            return
                        save_at = time.monotonic() + BATCH_S
                    if stopping():
                        break
                else:
                    self._save(bytes_read(), finished=True)
                    return
            except containers.Stopped:
                pass
            self._save(bytes_read(), finished=False)

    def result(self) -> FileResult:
        """The result of the file as far as it was read."""
        if self._lost:
            reason = "another process imports it at this moment"
            return replace(_result(self._each.path, "busy", self._saved, reason), exit_code=1)
        name = "imported" if self._saved.finished else "interrupted"
        return replace(_result(self._each.path, name, self._saved), went_on=self._went_on)

    def _take(self, document: Document) -> None:
        self._reached = document.end
        problem = document.problem
        if not problem:
            for piece in pieces.recognise(document.value, document.form):
                self._take_piece(piece, document)
        elif problem in _COUNTED or problem in pieces.REFUSED:
            self._count(problem)
        else:
            self._reject(document, problem)

    def _take_piece(self, piece: Piece, document: Document) -> None:
        kind, thing, form = piece
        if kind == pieces.STATUS:
            self._keep(flatten_statuses((thing,), score=self._score), 1, document)
        elif kind == pieces.PAGE:
            data = thing["data"]
            self._keep(
                times.mended(flatten(thing, score=self._score)),
                len(data) if isinstance(data, list) else 1,
                document,
                seen_at=_seen_at(thing),
            )
        elif form is not None:
            made = form.rows(thing, score=self._score)
            self._keep(made, len(made.rows) + len(made.refused), document)
        elif kind == pieces.UNKNOWN:
            self._reject(document, thing)
        else:
            self._count(kind)

    def _keep(
        self,
        flattened: Flattened,
        posts: int,
        document: Document,
        *,
        seen_at: float | None = None,
    ) -> None:
        rows, refused = flattened
        told = flattened.told
        self._heard.add(told if seen_at is None else told._replace(seen_at=seen_at))
        self._posts += len(rows)
        if repeated := posts - len(rows) - len(refused):
            self._others[REPEATED] += repeated
        for tweet_id, reason in refused:
            self._reject(
                document, f"post {tweet_id}: {reason}" if tweet_id else f"a post: {reason}"
            )
        for row in rows:
            tweet_id = row["id"]
            if row["in_reply_to_screen_name"] is None and row["in_reply_to_user_id"] is not None:
                self._heard.waits(tweet_id, "reply", row["in_reply_to_user_id"])
            known = self._rows.get(tweet_id)
            if seen_at is not None:
                counts = row["favorite_count"], row["retweet_count"]
                self._observed.append(Observed(tweet_id, seen_at, *counts))
            if known is not None:
                if (seen_at or 0.0) < self._seen.get(tweet_id, 0.0):
                    row |= {"favorite_count": None, "retweet_count": None}
                row = merged_rows(known, row)
            self._rows[tweet_id] = row
            if seen_at is not None:
                self._seen[tweet_id] = max(seen_at, self._seen.get(tweet_id, 0.0))
        for name, column in WITHOUT.items():
            if missing := sum(row[column] is None for row in rows):
                self._others[name] += missing

    def _count(self, kind: str) -> None:
        self._others[kind] += 1
        if kind in pieces.REFUSED and kind not in self._named:
            self._named.add(kind)
            said = f"{self._each.path} holds {kind}, not imported: {pieces.REFUSED[kind]}"
            self._tell(LogLine(__name__, logging.WARNING, said))

    def _reject(self, document: Document, reason: str) -> None:
        self._others[REJECTED] += 1
        kind = _NUMBERS("", reason)[:80]
        self._reasons[kind] += 1
        if self._reasons[kind] > REJECTS_A_REASON:
            return
        raw = document.raw
        if not raw and document.value is not None and not isinstance(document.value, Flattened):
            raw = orjson.dumps(document.value, default=str)
        line = {
            "file": self._each.path,
            "member": document.member or None,
            "line": document.line,
            "reason": reason,
            "begins": raw[:REJECT_SHOWN_BYTES].decode(errors="replace"),
        }
        self._rejects.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if self._reasons[kind] == REJECTS_A_REASON:
            said = (
                f"{self._each.path}: {REJECTS_A_REASON:,} rejects say alike “{reason[:150]}”; "
                "more of them are only counted"
            )
            self._tell(LogLine(__name__, logging.WARNING, said))

    def _look_at_ids(self) -> None:
        """Warns of rounded ids before the first batch is saved."""
        if self._ids_looked_at or not self._rows:
            return
        self._ids_looked_at = True
        ids = itertools.islice(self._rows, IDS_LOOKED_AT)
        if said := warning_of(map(str, ids)):
            self._tell(LogLine(__name__, logging.WARNING, f"{self._each.path}: {said}"))

    def _save(self, bytes_read: int, *, finished: bool) -> bool:
        """Saves the batch; False when somebody else has read on in this file."""
        if finished or self._reached != self._saved.position:
            # Before the counts are saved: rather twice in the file than never.
            self._write_rejects()
            self._look_at_ids()
            reached = replace(
                self._saved,
                position=self._reached,
                posts=self._posts,
                others=dict(self._others),
                finished=finished,
            )
            rows = [self._rows[tweet_id] for tweet_id in sorted(self._rows)]
            partial = [row["id"] for row in rows if isinstance(row, Partial)]
            loaded = self._session.load(
                self._saved,
                rows,
                reached,
                partial=partial,
                observed=self._observed,
                heard=self._heard,
            )
            if loaded is None:
                self._lost = True
                return False
            before, self._saved, self._rows = self._saved, loaded, {}
            self._seen, self._observed, self._heard = {}, [], Heard()
            rejected = loaded.others.get(REJECTED, 0) - before.others.get(REJECTED, 0)
            posts, new = loaded.posts - before.posts, loaded.new - before.new
            self._tell(BatchSaved(self._each.path, bytes_read, posts, new, rejected))
        return True

    def _write_rejects(self) -> None:
        if self._rejects:
            with self._rejects_file.open("ab", buffering=0) as file:
                file.write(b"".join(self._rejects))  # in one call, which keeps processes apart
            self._rejects = []


def _seen_at(page: Mapping[str, Any]) -> float | None:
    """When a page was got, in seconds since 1970, as twarc notes it; None where nobody did."""
    data = page["data"]
    for noted in (page, data[0] if isinstance(data, list) else data):
        twarc = noted.get("__twarc") if isinstance(noted, dict) else None
        try:
            at = datetime.fromisoformat(twarc["retrieved_at"]) if twarc else None
        except (KeyError, TypeError, ValueError):
            continue
        if at is not None:
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return None


def merged_rows(known: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of two readings of a post; it is partial if both are."""
    kind = Partial if isinstance(known, Partial) and isinstance(row, Partial) else dict
    values = merged(list(known.values()), list(row.values()), partial=isinstance(row, Partial))
    return kind(zip(COLUMNS, values, strict=True))


_COUNTED = frozenset({EMPTY, LOG, OTHER_FILE, OTHER_PART})
_NUMBERS = re.compile(r"[0-9]+|'[^']*'").sub
