"""Temporary folders of a run. Those of a run that was killed are removed by the next one.

Each holds a file that its process keeps locked; the lock ends with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_PREFIX = "tweetcrawler_"
_LOCK = ".lock"
# Between its making and its lock a folder has none, for a moment.
_UNLOCKED_S = 600.0
# The path of a socket in it may have 103 bytes on macOS.
_LONGEST = 50


@cache
def use() -> None:
    """Everything temporary of this process goes into a folder of its own from now on."""
    tempfile.tempdir = str(new_folder())


def new_folder() -> Path:
    """A new folder that only this user enters. It goes at the end of the process."""
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > _LONGEST and Path("/tmp").is_dir():  # noqa: S108 - a folder of our own in it
        base = Path("/tmp")  # noqa: S108
    _tidy(base)
    folder = base / f"{_PREFIX}{secrets.token_hex(8)}"
    _made.append(folder)  # before its making: a signal may come between the two
    folder.mkdir(0o700)
    if sys.platform != "win32":
        # Open until the process ends, and closed in programs that it starts.
        fcntl.flock(os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    return folder


_made: list[Path] = []


# At import, which is before that of multiprocessing: what is registered first is called last,
# and multiprocessing removes a folder of its own in ours.
@atexit.register
def remove() -> None:
    """Removes the temporary folders of this process."""
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_order() -> None:
    """Has multiprocessing remove its folder before ours also where it was imported first."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and (last := getattr(util, "_exit_function", None)) is not None:
        atexit.unregister(last)
        atexit.register(last)


_keep_order()


def _tidy(base: Path) -> None:
    """Removes what runs of this user left that were killed."""
    if sys.platform == "win32":
        return
    for left in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = left.lstat()
            if found.st_uid == os.geteuid() and left.is_dir() and _is_over(left, found.st_mtime):
                shutil.rmtree(left, ignore_errors=True)


def _is_over(folder: Path, made_at: float) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - made_at > _UNLOCKED_S
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
