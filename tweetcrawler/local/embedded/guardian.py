"""Guardian of a private server: starts it, waits for its last user, and stops it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tweetcrawler.errors import ConfigurationError, DatabaseUnreachable
from tweetcrawler.local.embedded.cluster import bring_up
from tweetcrawler.local.embedded.folder import EXCLUSIVE, INIT_S, PAUSE_S, START_S, Folder
from tweetcrawler.local.embedded.system import is_open_as, tail, try_lock

if sys.platform != "win32":
    import fcntl

_STOP_S = 60


def send_guardian(folder: Folder, binaries: Path) -> None:
    """Has a new process start the server if need be, and returns when that is ready.

    The process that asks may be killed at any moment: the server that it asked for is still
    watched.
    """
    log = os.open(folder.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    reader, writer = os.pipe()
    try:
        try:
            subprocess.run(
                [
                    sys.executable,
                    # With -S no .pth file of site-packages is run, with -P nothing of the
                    # present folder is imported.
                    "-S",
                    "-P",
                    "-m",
                    "tweetcrawler.local.embedded",
                    "guard",
                    folder.data,
                    binaries,
                ],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=log,
                cwd="/",
                env=_guardian_environment(),
                # Ctrl-C goes to all of a terminal's session, and shall not end the server.
                start_new_session=True,
                timeout=START_S,
                check=False,
            )
        finally:
            os.close(writer)
            os.close(log)
        word = _read_all(reader, INIT_S + START_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatabaseUnreachable(
            f"the process that starts the private PostgreSQL could not be run ({error}); "
            "check that this machine has room for more processes"
        ) from error
    finally:
        os.close(reader)
    _raise_word(word, folder)


def _raise_word(word: str, folder: Folder) -> None:
    """Turns what the guardian said about the start into our error, if it was one."""
    if not word:
        raise DatabaseUnreachable(
            f"the process that starts the server in {folder.data} ended without a word; "
            f"look into {folder.log}:\n{tail(folder.log)}"
        )
    answer = json.loads(word)
    if answer["error"] == "configuration":
        raise ConfigurationError(answer["message"])
    if answer["error"]:
        raise DatabaseUnreachable(answer["message"])


def guard(folder: Folder, binaries: Path) -> None:
    """The guardian's life: start, tell, wait for the last user to go, stop."""
    # PostgreSQL refuses a folder that others may enter.
    os.umask(0o077)
    guard = None
    try:
        with folder.controlling():
            try:
                bring_up(folder, binaries)
            finally:
                guard = _become_guardian(folder)
    except ConfigurationError as error:
        _tell("configuration", str(error))
    except (DatabaseUnreachable, OSError, subprocess.TimeoutExpired) as error:
        _tell("database", str(error))
    else:
        _tell("", "")
    if guard is not None:
        _wait_and_halt(folder, guard)


def _become_guardian(folder: Folder) -> int | None:
    """The lock of the only guardian, or None when there is one, or nothing to guard."""
    if folder.pinned.exists() or folder.postmaster() is None:
        return None
    descriptor = folder.open_lock(folder.guard)
    if try_lock(descriptor, EXCLUSIVE):
        return descriptor
    os.close(descriptor)
    return None


def _wait_and_halt(folder: Folder, guard: int) -> None:
    users = folder.open_lock(folder.users)
    # The kernel gives it after any end of the last user, SIGKILL among them.
    fcntl.flock(users, EXCLUSIVE)
    # A server whose folder was removed ends by itself: once a minute it looks for its
    # postmaster.pid. What may stand in the same place now is another one.
    if is_open_as(folder.users, users):
        with folder.controlling():
            if not folder.pinned.exists():
                halt(folder)
            os.close(guard)
    os.close(users)


def _tell(kind: str, message: str) -> None:
    """Says how the start went, and closes the pipe, whose reader waits for its end."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps({"error": kind, "message": message}).encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _guardian_environment() -> dict[str, str]:
    """Just enough for Python: the guardian may live long, and the rest may hold secrets."""
    kept = (
        "HOME",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "PATH",
        "PYTHONHOME",
        "TMPDIR",
    )
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return {**environment, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def _read_all(reader: int, patience_s: float) -> str:
    """Everything until the pipe's end; empty when that does not come in time."""
    deadline = time.monotonic() + patience_s
    parts = []
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(reader, 65536)
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def halt(folder: Folder) -> None:
    """Fast shutdown, then the immediate one.

    By signal, since the binaries may be gone meanwhile.
    """
    server = folder.postmaster()
    if server is None:
        return
    # To PostgreSQL SIGINT is the fast shutdown, and SIGQUIT the immediate one, after which it
    # recovers at the next start. https://www.postgresql.org/docs/current/server-shutdown.html
    for signum in (signal.SIGINT, signal.SIGQUIT):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signum)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            if not folder.runs_as(server.pid):
                return
            time.sleep(PAUSE_S)
    raise DatabaseUnreachable(
        f"the private PostgreSQL in {folder.data} does not stop; look into "
        f"{folder.log}:\n{tail(folder.log)}"
    )
