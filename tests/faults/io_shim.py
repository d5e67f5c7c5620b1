"""Changes of files that fail, kill, or are lost with the machine.

`io_shim.c` counts and notes what a program changes below a folder. `Disk` plays the notes back to
any change, and leaves what a killed program or a crashed machine leaves.
"""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.machine import need

_HEAD = struct.Struct("=IIIIQqQ")
KILLED, CRASHED, HALF = "killed", "crashed", "half"


@dataclass(frozen=True)
class Change:
    """One change: its kind as `io_shim.c` notes it, paths relative to the folder, and data."""

    kind: str
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


class Shim:
    """The compiled shim, for one folder."""

    def __init__(self, scratch: Path, folder: Path) -> None:
        self._library = scratch / "io_shim.so"
        self._journal = scratch / "journal"
        self._counter = scratch / "counter"
        self.folder = folder.resolve()
        if not self._library.exists():
            source = Path(__file__).with_name("io_shim.c")
            made = [need("gcc"), "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source)]
            subprocess.run(made, check=True)

    def environ(self, *, at: int = 0, error: int = 0, only: str = "") -> dict[str, str]:
        """The environment of a program whose change `at` fails with `error`, or kills."""
        self._counter.write_bytes(bytes(8))
        self._journal.unlink(missing_ok=True)
        return os.environ | {
            "LD_PRELOAD": str(self._library),
            "IO_SHIM_FOLDER": str(self.folder),
            "IO_SHIM_ONLY": only,
            "IO_SHIM_COUNTER": str(self._counter),
            "IO_SHIM_JOURNAL": "" if at else str(self._journal),
            "IO_SHIM_AT": str(at),
            "IO_SHIM_ERROR": str(error),
        }

    @property
    def count(self) -> int:
        """The number of changes since `environ`."""
        return int.from_bytes(self._counter.read_bytes(), sys.byteorder)

    def changes(self) -> list[Change]:
        """The changes of the last program, in their order."""
        return list(self._parsed(self._journal.read_bytes()))

    def _parsed(self, text: bytes) -> Iterator[Change]:
        at = 0
        while at < len(text):
            kind, first, second, held, inode, offset, length = _HEAD.unpack_from(text, at)
            at += _HEAD.size
            path, other = text[at : at + first], text[at + first : at + first + second]
            at += first + second
            data = text[at : at + length] if held else b""
            at += len(data)
            yield Change(
                chr(kind), self._short(path), self._short(other), inode, offset, bytes(data)
            )

    def _short(self, path: bytes) -> str:
        return os.path.relpath(path.decode(), self.folder) if path else ""


class Disk:
    """A folder as a program sees it, and as a crash of the machine leaves it.

    A file's content lasts once it was synced, its name once its folder was. `HALF` keeps any
    part of what was not synced, as a kernel may have written it already.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._names: dict[str, int] = {}
        self._data: dict[int, bytearray] = {}
        if folder is not None:
            for path in folder.iterdir():
                if path.is_file():
                    self._names[path.name] = path.stat().st_ino
                    self._data[path.stat().st_ino] = bytearray(path.read_bytes())
        self._kept_names = dict(self._names)
        self._kept_data = {inode: bytes(data) for inode, data in self._data.items()}
        self._loose: list[Change] = []

    def do(self, change: Change) -> None:
        """Does one change more."""
        _done(change, self._names, self._data)
        if change.kind == "s":
            self._kept_data[change.inode] = bytes(self._data.get(change.inode, b""))
            self._loose = [c for c in self._loose if c.inode != change.inode or c.kind == "c"]
        elif change.kind == "d":
            self._kept_names = dict(self._names)
            self._loose = [c for c in self._loose if c.kind not in "cru"]
        else:
            self._loose.append(change)

    def leave(self, folder: Path, how: str, chance: random.Random) -> None:
        """Writes what is left into an empty folder."""
        names, data = self._names, self._data
        if how != KILLED:
            names = dict(self._kept_names)
            data = {inode: bytearray(kept) for inode, kept in self._kept_data.items()}
        if how == HALF:
            # Names change in their order, contents in any.
            of_names = [change for change in self._loose if change.kind in "cru"]
            for change in of_names[: chance.randrange(len(of_names) + 1)]:
                _done(change, names, {})
            for change in self._loose:
                if change.kind in "wt" and chance.random() < 0.5:
                    _done(change, names, data)
        for name, inode in names.items():
            # SQLite makes its shared memory anew, and maps it instead of writing it.
            if not name.endswith("-shm"):
                (folder / name).write_bytes(data.get(inode, b""))


def _done(change: Change, names: dict[str, int], data: dict[int, bytearray]) -> None:
    match change.kind:
        case "c":
            names[change.path] = change.inode
            data[change.inode] = bytearray()
        case "t":
            held = data.setdefault(change.inode, bytearray())
            held[change.offset :] = bytes(max(0, change.offset - len(held)))
        case "w":
            held = data.setdefault(change.inode, bytearray())
            held.extend(bytes(max(0, change.offset - len(held))))
            held[change.offset : change.offset + len(change.data)] = change.data
        case "r" if change.path in names:
            names[change.other] = names.pop(change.path)
        case "u":
            names.pop(change.path, None)


def states(
    changes: Sequence[Change], disk: Disk, *, hows: Sequence[str], every: int, seed: int = 0
) -> Iterator[tuple[int, str, Path]]:
    """What is left after each change, or each of every few, in a folder of its own."""
    chance = random.Random(seed)
    first = chance.randrange(every)
    for number, change in enumerate(changes, start=1):
        disk.do(change)
        if number % every != first and number != len(changes):
            continue
        for how in hows:
            with tempfile.TemporaryDirectory(prefix="left-") as folder:
                disk.leave(Path(folder), how, chance)
                yield number, how, Path(folder)


ERRORS = (errno.ENOSPC, errno.EIO)
