"""The way of a segment: closed, uploaded, verified, dropped.

What to do next follows from the ledger alone (`next_step`), each step may be repeated, and the
ledger is told after it. So a kill at any moment is finished by the next call. The local file
goes in the step after `verified`, and in no other.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import orjson

from tweetcrawler.files import replace_whole
from tweetcrawler.keeping.manifests import DATA, MANIFEST, Manifest, SegmentError, chain_faults
from tweetcrawler.keeping.places import (
    NameTaken,
    NothingThere,
    Place,
    PlaceError,
    put_once,
    sha256_at,
)
from tweetcrawler.keeping.segments import Clock, check, read_manifests, utc_now

log = logging.getLogger(__name__)

State: TypeAlias = Literal["closed", "uploaded", "verified", "dropped"]
Step: TypeAlias = Literal["upload", "verify", "drop"]
# How often one call uploads a segment that is not read back as it was sent.
TRIES = 3


@dataclass(frozen=True)
class Entry:
    """A segment in the ledger.

    `place` is the URL where it is, or is on its way to. `tries` counts the uploads that could
    not be read back; each goes under a name of its own, so that nothing is overwritten.
    """

    name: str
    kind: str
    state: State
    number: int
    lines: int
    posts: int
    lowest_id: int | None
    highest_id: int | None
    file_bytes: int
    sha256: str
    place: str = ""
    tries: int = 0
    position: int | None = None
    uploaded_at: str | None = None
    verified_at: str | None = None
    dropped_at: str | None = None

    @property
    def key(self) -> str:
        """The name at the place, without an ending."""
        return key_of(self.name, self.tries)


def key_of(name: str, tries: int) -> str:
    """The name of a segment at its place, without an ending."""
    return name if not tries else f"{name}-again{tries}"


class Ledger(Protocol):
    """Remembers the states of segments. `record` lasts once it returns."""

    def entries(self) -> list[Entry]:
        """All segments."""

    def record(self, entry: Entry) -> None:
        """Notes a segment in its new state."""


@dataclass
class Report:
    """The work of one call: segments by what was done, and a sentence for each fault."""

    uploaded: int = 0
    verified: int = 0
    dropped: int = 0
    faults: list[str] | None = None

    def fault(self, sentence: str) -> None:
        """Adds a sentence, and logs it."""
        log.warning("%s", sentence)
        self.faults = [*(self.faults or []), sentence]


# -- pure --------------------------------------------------------------------------------------


def entry_of(manifest: Manifest) -> Entry:
    """The entry of a segment that was just closed."""
    known = {one.name for one in fields(Entry)}
    shared = {name: value for name, value in asdict(manifest).items() if name in known}
    return Entry(state="closed", **shared)


def next_step(entry: Entry, *, place: str, now: datetime, keep: timedelta) -> Step | None:
    """What a segment waits for: nothing, or the next step."""
    # An upload that was not yet verified when the place was changed begins again at the new
    # one.
    if entry.state == "closed" or (entry.state == "uploaded" and entry.place != place):
        return "upload"
    if entry.state == "uploaded":
        return "verify"
    if entry.state == "verified" and entry.verified_at is not None:
        return "drop" if datetime.fromisoformat(entry.verified_at) + keep <= now else None
    return None


def after(entry: Entry, step: Step, *, place: str, now: datetime) -> Entry:
    """The entry when a step is done."""
    at = now.isoformat()
    if step == "upload":
        return replace(entry, state="uploaded", place=place, uploaded_at=at)
    if step == "verify":
        return replace(entry, state="verified", verified_at=at)
    return replace(entry, state="dropped", dropped_at=at)


def again(entry: Entry) -> Entry:
    """The entry when its upload was not read back as it was sent: under the next name."""
    return replace(entry, state="closed", tries=entry.tries + 1)


# -- steps -------------------------------------------------------------------------------------


class Archive:
    """Brings the closed segments of a folder to a place.

    `keep` is how long a verified segment stays in the folder.
    """

    def __init__(
        self,
        folder: Path,
        place: Place,
        ledger: Ledger,
        *,
        keep: timedelta = timedelta(0),
        clock: Clock = utc_now,
    ) -> None:
        self._folder = folder
        self._place = place
        self._ledger = ledger
        self._keep = keep
        self._clock = clock

    def once(self) -> Report:
        """Does every step that waits.

        **Errors**: `SegmentError` when another process archives the folder. `PlaceRefused`
        when the place cannot be used with these settings.
        """
        report = Report()
        with locked_for_archive(self._folder):
            self._do_all(report)
        return report

    def _do_all(self, report: Report) -> None:
        try:
            manifests = self._register(report)
            for entry in sorted(self._ledger.entries(), key=lambda one: (one.kind, one.number)):
                self._bring(entry, manifests.get(entry.name), report)
        except PlaceError as fault:
            # The place is away: the other segments would each wait for it, too.
            report.fault(str(fault))

    def _register(self, report: Report) -> dict[str, Manifest]:
        manifests, unreadable = read_manifests(self._folder)
        for sentence in [*unreadable, *chain_faults(manifests)]:
            report.fault(sentence)
        known = {entry.name for entry in self._ledger.entries()}
        for manifest in manifests:
            if manifest.name not in known:
                self._ledger.record(entry_of(manifest))
        return {manifest.name: manifest for manifest in manifests}

    def _bring(self, entry: Entry, manifest: Manifest | None, report: Report) -> None:
        """One segment as far as it goes now."""
        most = entry.tries + TRIES
        while step := self._next(entry):
            try:
                self._do(step, entry, manifest)
            except SegmentError as fault:
                return report.fault(str(fault))
            except (NameTaken, NothingThere) as fault:
                # Another object of this name may be another machine's only copy: it stays.
                entry = again(entry)
                self._ledger.record(entry)
                if entry.tries >= most:
                    return report.fault(f"{fault}; {TRIES} uploads failed, the file stays here")
                continue
            entry = after(entry, step, place=self._place.url, now=self._clock())
            self._ledger.record(entry)
            _count(report, step)
        return None

    def _next(self, entry: Entry) -> Step | None:
        return next_step(entry, place=self._place.url, now=self._clock(), keep=self._keep)

    def _do(self, step: Step, entry: Entry, manifest: Manifest | None) -> None:
        data = self._folder / (entry.name + DATA)
        if step == "drop":
            # It is gone already when a kill came between this and the note in the ledger.
            data.unlink(missing_ok=True)
            return
        if manifest is None:
            raise SegmentError(f"the manifest of segment {entry.name} is gone: put it back")
        if step == "verify":
            self._verify(entry, manifest)
        elif data.exists() or not self._is_there(entry):
            check(data, manifest)
            put_once(self._place, entry.key + DATA, data, manifest.sha256)

    def _is_there(self, entry: Entry) -> bool:
        """Whether a segment without its file is at the place: a ledger was lost then."""
        try:
            return sha256_at(self._place, entry.key + DATA) == entry.sha256
        except NothingThere:
            return False

    def _verify(self, entry: Entry, manifest: Manifest) -> None:
        """Reads the segment back, and then stores its manifest: where that stands, all is well."""
        found = sha256_at(self._place, entry.key + DATA)
        if found != manifest.sha256:
            raise NameTaken(f"{self._place.url} gives {entry.key} back otherwise than it was sent")
        path = self._folder / (entry.name + MANIFEST)
        digest = sha256_of(path)
        put_once(self._place, entry.key + MANIFEST, path, digest)
        if sha256_at(self._place, entry.key + MANIFEST) != digest:
            raise NameTaken(f"{self._place.url} gives the manifest of {entry.key} back otherwise")


@contextmanager
def locked_for_archive(folder: Path) -> Iterator[None]:
    """Keeps other processes from moving or deleting the segments of a folder.

    **Errors**: `SegmentError` when one does.
    """
    descriptor = os.open(folder / ".archive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        # The kernel frees a flock when its process ends, however it ends. Close-on-exec, since
        # a child with the descriptor would hold the lock longer than this process.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SegmentError(f"another process archives {folder}: wait for it") from None
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FolderLedger:
    """The ledger in files beside the segments, where there is no database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self) -> list[Entry]:
        """See `Ledger`."""
        return list(self._read(sorted(self._folder.glob("*.state.json"))))

    def record(self, entry: Entry) -> None:
        """See `Ledger`."""
        path = self._folder / f"{entry.name}.state.json"
        replace_whole(path, orjson.dumps(asdict(entry), option=orjson.OPT_INDENT_2) + b"\n")

    @staticmethod
    def _read(paths: Iterable[Path]) -> Iterable[Entry]:
        for path in paths:
            try:
                yield Entry(**orjson.loads(path.read_bytes()))
            except (ValueError, TypeError):
                raise SegmentError(
                    f"{path} is damaged: delete it, the upload is repeated"
                ) from None


def _count(report: Report, step: Step) -> None:
    if step == "upload":
        report.uploaded += 1
    elif step == "verify":
        report.verified += 1
    else:
        report.dropped += 1
