"""Replacing a file in one step.

A reader, or a kill at any moment, finds the old file or the new one, never a part.

The new file is written under a hidden name in the same folder, brought to disk, and renamed.
A rename replaces a file in one step on POSIX, but lasts through a loss of power only once the
folder is on disk, too: https://lwn.net/Articles/457667/ tells why each of these steps is
needed.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

__all__ = ["Replacement", "Taken", "replace_whole", "replacing"]

# How long `replace_whole` waits for another process that writes the same file.
PATIENCE_S = 10.0
_POLL_S = 0.02


class Taken(OSError):
    """Another process is writing the file."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "another process is writing it")


class Replacement:
    """The new file, not in place yet. It is locked, so one process at a time makes it."""

    def __init__(self, descriptor: int, own: Path, final: Path) -> None:
        self._descriptor = descriptor
        self._own = own
        self._final = final

    @contextmanager
    def emptied(self) -> Iterator[IO[bytes]]:
        """The new file, empty, to be written; it is on disk after the block.

        It may be emptied and written again, until it is put in place. Its mode is that of the
        old file.
        """
        # Emptied only now that it is locked: O_TRUNC would destroy another process's work.
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with open(self._descriptor, "wb", closefd=False) as file:
            yield file
        with suppress(FileNotFoundError):
            os.fchmod(self._descriptor, stat.S_IMODE(self._final.stat().st_mode))
        os.fsync(self._descriptor)

    def put_in_place(self) -> None:
        """Replaces the old file by the new one, and makes that last."""
        self._own.replace(self._final)
        sync_folder(self._final.parent)


@contextmanager
def replacing(
    path: Path, *, mode: int = 0o666, waits: Callable[[], bool] = lambda: False
) -> Iterator[Replacement]:
    """A new file that may take the place of `path`; nobody else makes one during the block.

    A block that fails leaves no trace. What a killed process left is overwritten. `waits` is
    asked, again and again, whether to wait for another process that writes the file. `mode`
    is for a file that was not there, less the umask.

    **Errors**: `Taken` when it says no; `OSError` as the system gives it. The caller makes a
    sentence of both, from `strerror`.
    """
    own = path.with_name(f".{path.name}.new")
    descriptor = _locked(own, mode, waits)
    try:
        yield Replacement(descriptor, own, path)
    except BaseException:
        # After it is in place, the name may be that of another process's new file.
        if _is_at(descriptor, own):
            own.unlink()
        raise
    finally:
        os.close(descriptor)


def replace_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Puts a file with this content in the place of `path`, or of the file that it links to.

    **Errors**: as `replacing`.
    """
    deadline = time.monotonic() + PATIENCE_S
    with replacing(
        path.resolve(), mode=mode, waits=lambda: time.monotonic() < deadline
    ) as replacement:
        with replacement.emptied() as file:
            file.write(content)
        replacement.put_in_place()


def sync_folder(folder: Path) -> None:
    """Brings new and removed names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(own: Path, mode: int, waits: Callable[[], bool]) -> int:
    """The new file, open and locked.

    The lock is on the new file itself, so it ends with the process that holds it. After a
    wait for it, the file may be in place already, or removed: then another is opened.
    """
    while True:
        # A link that somebody put there is not followed.
        descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, own):
                return descriptor
        except BlockingIOError:
            if not waits():
                os.close(descriptor)
                raise Taken from None
            time.sleep(_POLL_S)
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False
