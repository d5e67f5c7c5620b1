"""Segments: files of lines that only grow, until they are closed with a manifest.

A segment is a row of zstd frames, each complete with its checksum and at most about 1 MB or
one second of lines. What a kill leaves of the last frame is cut off when the segment is opened
again; every frame before it was on disk. Any program for zstd reads the whole file.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import zstandard

from tweetcrawler import __version__
from tweetcrawler.files import replace_whole, sync_folder
from tweetcrawler.keeping.lines import Line, counted
from tweetcrawler.keeping.manifests import (
    DATA,
    MANIFEST,
    Link,
    Manifest,
    SegmentError,
    manifest_of,
    newest,
)

_FRAME_BYTES = 1 << 20
_FRAME_S = 1.0
# Of pages, level 1 makes 7 times and level 3 makes 10 times less of them in about the same time.
_LEVEL = 3
_MAGIC = zstandard.FRAME_HEADER
# A frame holds a megabyte, or one line that is longer. X's answers are refused long before.
_LARGEST_FRAME = 256 << 20
_PIECE = 1 << 18

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Limits:
    """When a segment is closed: whichever of posts, compressed bytes or age is reached first."""

    posts: int = 20_000
    file_bytes: int = 64 << 20
    age_s: float = 3600.0


class Tally:
    """The counts that a manifest tells, added line by line."""

    def __init__(self) -> None:
        self.lines = self.posts = self.raw_bytes = 0
        self._ids: set[int] = set()
        self._runs: set[int] = set()
        self._first: datetime | None = None
        self._last: datetime | None = None
        self.position: int | None = None

    def add(self, line: Line) -> None:
        """Counts a line."""
        self.lines += 1
        self.posts += line.posts
        self.raw_bytes += len(line.text) + 1
        self._ids.update(line.ids)
        if line.run is not None:
            self._runs.add(line.run)
        if line.position is not None:
            self.position = max(self.position or 0, line.position)
        if line.at is not None:
            self._first = min(self._first or line.at, line.at)
            self._last = max(self._last or line.at, line.at)

    def manifest(self, **more: object) -> Manifest:
        """The manifest with these counts and what the file itself is."""
        counts = {
            "lines": self.lines,
            "posts": self.posts,
            "distinct": len(self._ids),
            "lowest_id": min(self._ids, default=None),
            "highest_id": max(self._ids, default=None),
            "runs": tuple(sorted(self._runs)),
            "first_at": self._first.isoformat() if self._first else None,
            "last_at": self._last.isoformat() if self._last else None,
            "raw_bytes": self.raw_bytes,
            "position": self.position,
        }
        return Manifest(**counts, **more)  # type: ignore[arg-type] # all of them are named here


class OpenFile:
    """A segment's file that grows by whole frames, with the hashes of its manifest."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.tally = Tally()
        self.size = 0
        self._descriptor = descriptor
        self._file_hash = hashlib.sha256()
        self._raw_hash = hashlib.sha256()
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)

    @classmethod
    def new(cls, path: Path) -> OpenFile:
        """A new file, whose name is on disk."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o666)
            sync_folder(path.parent)
        except OSError as error:
            raise _cannot_write(path, error) from None
        return cls(path, descriptor)

    @classmethod
    def found(cls, path: Path, kind: str) -> OpenFile:
        """A file that a process left open: what it holds is counted, a torn end is cut off.

        **Errors**: `SegmentError` when it is damaged before its end.
        """
        try:
            file = cls(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))
            with path.open("rb") as source:
                for frame, raw in whole_frames(source):
                    file._take(frame, raw, _lines_in(kind, raw, path))
                _no_frame_follows(source, file.size, path)
            os.ftruncate(file._descriptor, file.size)
            os.fsync(file._descriptor)
            os.lseek(file._descriptor, 0, os.SEEK_END)
        except OSError as error:
            raise _cannot_write(path, error) from None
        return file

    def write(self, lines: Iterable[Line]) -> None:
        """Writes the lines as one frame; they are on disk afterwards.

        **Errors**: `SegmentError`, and nothing was written.
        """
        kept = list(lines)
        raw = b"".join(line.text + b"\n" for line in kept)
        frame = self._compressor.compress(raw)
        try:
            rest = memoryview(frame)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            # Half a frame amid whole ones would look like a broken disk to the next process.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
                os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise _cannot_write(self.path, error) from None
        self._take(frame, raw, kept)

    def manifest(self, **more: object) -> Manifest:
        """The manifest of what the file holds now."""
        return self.tally.manifest(
            file_bytes=self.size,
            sha256=self._file_hash.hexdigest(),
            raw_sha256=self._raw_hash.hexdigest(),
            **more,
        )

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def _take(self, frame: bytes, raw: bytes, lines: Iterable[Line]) -> None:
        for line in lines:
            self.tally.add(line)
        self.size += len(frame)
        self._file_hash.update(frame)
        self._raw_hash.update(raw)


class Writer:
    """Writes the segments of one kind and node in a folder; one process at a time.

    What a killed process left open is continued. `append` keeps lines in memory until a frame
    is full; `sync` brings them to disk. `schema` is told in the manifest.

    **Errors**: `SegmentError` when another process writes there, when the disk is full, or
    when the open segment is damaged.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        *,
        node: str = "",
        schema: str = "",
        limits: Limits | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._node = _as_name(node or socket.gethostname())
        self._schema = schema
        self._limits = limits or Limits()
        self._clock = clock
        self._waiting: list[Line] = []
        self._waiting_bytes = 0
        self._waiting_posts = 0
        self._began_at = self._waits_since = clock()
        self._lock = _locked(folder, f"{kind}-{self._node}")
        self._last = newest(read_manifests(folder)[0], kind, self._node)
        self._file = self._left_open()

    def append(self, line: Line) -> None:
        """Adds a line; it is on disk after `sync`, or when a frame is full or a second old."""
        if self._is_full(line):
            self.close_segment()
        now = self._clock()
        if not self._waiting:
            self._waits_since = now
        self._waiting.append(line)
        self._waiting_bytes += len(line.text) + 1
        self._waiting_posts += line.posts
        waited_s = (now - self._waits_since).total_seconds()
        if self._waiting_bytes >= _FRAME_BYTES or waited_s >= _FRAME_S:
            self.sync()

    def sync(self) -> None:
        """Brings every line that was added to disk."""
        if not self._waiting:
            return
        if self._file is None:
            self._began_at = self._clock()
            self._file = OpenFile.new(self._new_path())
        self._file.write(self._waiting)
        self._waiting = []
        self._waiting_bytes = self._waiting_posts = 0

    def close_segment(self) -> Manifest | None:
        """Closes the open segment, if there is one, and gives its manifest."""
        self.sync()
        if self._file is None:
            return None
        file, self._file = self._file, None
        file.close()
        if not file.tally.lines:
            file.path.unlink()
            return None
        name = file.path.name.removesuffix(DATA)
        last = self._last
        manifest = file.manifest(
            name=name,
            kind=self._kind,
            node=self._node,
            number=last.number + 1 if last else 1,
            program=__version__,
            schema=self._schema,
            closed_at=self._clock().isoformat(),
            previous=Link(last.name, last.sha256) if last else None,
        )
        write_manifest(self._folder, manifest)
        self._last = manifest
        return manifest

    def close(self) -> None:
        """Brings what was added to disk and lets the folder go; the segment stays open."""
        try:
            self.sync()
        finally:
            if self._file is not None:
                self._file.close()
            os.close(self._lock)

    @property
    def position(self) -> int | None:
        """The position of the last page on disk, in the open segment or a closed one."""
        own = self._file.tally.position if self._file else None
        return own if own is not None else self._last.position if self._last else None

    def is_due(self) -> bool:
        """Whether the open segment has reached its age."""
        age_s = (self._clock() - self._began_at).total_seconds()
        return self._file is not None and age_s >= self._limits.age_s

    def _is_full(self, line: Line) -> bool:
        held = self._file
        posts = (held.tally.posts if held else 0) + self._waiting_posts
        if not posts and not self._waiting and held is None:
            return False
        if posts and posts + line.posts > self._limits.posts:
            return True
        return (held.size if held else 0) >= self._limits.file_bytes or self.is_due()

    def _left_open(self) -> OpenFile | None:
        closed = {path.name for path in self._folder.glob(f"*{MANIFEST}")}
        found = [
            path
            for path in sorted(self._folder.glob(f"{self._kind}-*-{self._node}-*{DATA}"))
            if path.name.removesuffix(DATA) + MANIFEST not in closed
        ]
        # Only one at a time is open. More can stand here after files were put back by hand.
        for path in found[:-1]:
            self._file = OpenFile.found(path, self._kind)
            self.close_segment()
        if not found:
            return None
        self._began_at = _began_at(found[-1], self._began_at)
        return OpenFile.found(found[-1], self._kind)

    def _new_path(self) -> Path:
        number = self._last.number + 1 if self._last else 1
        return self._folder / (_name(self._kind, self._began_at, self._node, number) + DATA)


# -- reading back ------------------------------------------------------------------------------


def read_manifests(folder: Path) -> tuple[list[Manifest], list[str]]:
    """The manifests in a folder by name, and a sentence for each file that cannot be read."""
    manifests, faults = [], []
    for path in sorted(folder.glob(f"*{MANIFEST}")):
        try:
            manifests.append(manifest_of(path.read_bytes(), str(path)))
        except SegmentError as fault:
            faults.append(str(fault))
    return manifests, faults


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Puts the manifest in its place, in one step; the segment is closed by that."""
    path = folder / (manifest.name + MANIFEST)
    try:
        replace_whole(path, manifest.to_json())
    except OSError as error:
        raise _cannot_write(path, error) from None


def check(path: Path, manifest: Manifest) -> None:
    """Reads the file and compares it with its manifest.

    **Errors**: `SegmentError`.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SegmentError(f"{path} cannot be read: {error.strerror}") from None
    if found != manifest.sha256:
        raise SegmentError(f"{path} is not what its manifest tells: fetch it again")


def lines_of(source: BinaryIO) -> Iterator[bytes]:
    """The lines of a segment, without their line breaks. Memory holds one line and a piece.

    **Errors**: `SegmentError` when a frame is damaged. Compare with `check` beforehand: a file
    that ends between two frames looks whole here.
    """
    decompressor = zstandard.ZstdDecompressor()
    with decompressor.stream_reader(source, read_across_frames=True, closefd=False) as reader:
        try:
            for line in io.BufferedReader(_Raw(reader), _PIECE):
                yield line.removesuffix(b"\n")
        except zstandard.ZstdError:
            raise SegmentError("a segment is damaged: fetch it again") from None


def whole_frames(source: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The frames of a file and what is in them, up to the first that is not whole."""
    held = b""
    while True:
        frame = _first_frame(held)
        if frame is not None:
            yield frame
            held = held[len(frame[0]) :]
            continue
        # To try again at each piece of a long frame costs the square of its length.
        piece = source.read(max(_PIECE, len(held)))
        if not piece:
            return
        held += piece


def _first_frame(held: bytes) -> tuple[bytes, bytes] | None:
    """The frame at the beginning and its content, or None if it is not whole."""
    if not held.startswith(_MAGIC):
        return None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_FRAME).decompressobj()
    try:
        raw = decompressor.decompress(held)
    except zstandard.ZstdError:
        return None
    if not decompressor.eof:
        return None
    return held[: len(held) - len(decompressor.unused_data)], raw


def _no_frame_follows(source: BinaryIO, end: int, path: Path) -> None:
    """A kill tears the last frame only; a whole one after a broken one means a broken disk."""
    source.seek(end)
    tail = source.read()
    for match in re.finditer(re.escape(_MAGIC), tail[1:]):
        if _first_frame(tail[1 + match.start() :]) is not None:
            raise SegmentError(
                f"{path} is damaged at byte {end}, and whole lines follow: "
                f"move it elsewhere to keep them, then run again"
            )


def _lines_in(kind: str, raw: bytes, path: Path) -> list[Line]:
    try:
        return [counted(kind, text) for text in raw.split(b"\n")[:-1]]
    except ValueError:
        raise SegmentError(f"{path} holds a line that is no {kind}: move it elsewhere") from None


class _Raw(io.RawIOBase):
    """A reader of zstandard as a raw stream, for it to be buffered and cut into lines."""

    def __init__(self, reader: zstandard.ZstdDecompressionReader) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override] # typeshed: Buffer
        return self._reader.readinto(into)


# -- names, locks ------------------------------------------------------------------------------


def _name(kind: str, began_at: datetime, node: str, number: int) -> str:
    # The last part makes the name one of its own, where two machines have one host name or a
    # folder was copied: some stores of objects overwrite whatever they are asked not to.
    return f"{kind}-{began_at:%Y%m%dT%H%M%SZ}-{node}-{number}-{secrets.token_hex(4)}"


def _began_at(path: Path, otherwise: datetime) -> datetime:
    with suppress(ValueError, IndexError):
        return datetime.strptime(path.name.split("-")[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return otherwise


def renamed(manifest: Manifest, **more: object) -> Manifest:
    """The manifest of a file that takes the place of another one, under a new name."""
    stem = manifest.name.rpartition("-")[0]
    new_name = f"{stem}-{secrets.token_hex(4)}"
    made: Manifest = replace(manifest, name=new_name, **more)  # type: ignore[arg-type]
    return made


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())[:40] or "node"


def _locked(folder: Path, name: str) -> int:
    """A lock that ends with this process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    # The system ends the lock with its process, however that ends: nothing is left to clear.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SegmentError(
            f"another process works on {name} in {folder}: stop it, or name another folder"
        ) from None
    return descriptor


def _cannot_write(path: Path, error: OSError) -> SegmentError:
    return SegmentError(f"{path} cannot be written: {error.strerror}; make room, then run again")
