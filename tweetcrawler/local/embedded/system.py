"""What the private server asks of the operating system: programs, processes, sockets, files."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tweetcrawler.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl


@dataclasses.dataclass(frozen=True)
class Account:
    """An unprivileged account that runs the server for root."""

    name: str
    uid: int
    gid: int


def refuse_windows() -> None:
    if sys.platform == "win32":
        raise ConfigurationError(
            "the private PostgreSQL is not offered on Windows; set dbhost to a server of yours"
        )


def is_root() -> bool:
    return os.geteuid() == 0


def try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_open_as(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def call(
    command: Sequence[str | Path],
    account: Account | None,
    *,
    timeout_s: float,
    text: str = "",
    locale: str = "C",
) -> tuple[int, str]:
    """Exit code and what the program said; 126 when it may not be run, as a shell says it.

    What it says goes to a file: the server, which outlives pg_ctl, would keep a pipe open.
    """
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                command,
                input=text.encode(),
                stdout=said,
                stderr=subprocess.STDOUT,
                # The account may be unable to enter the present folder.
                cwd="/",
                # macOS makes PostgreSQL multithreaded, which it refuses, unless a locale is
                # said.
                env={**environment, "LC_ALL": locale},
                user=account.uid if account else None,
                group=account.gid if account else None,
                # Without this it would keep the groups of root.
                extra_groups=[] if account else None,
                timeout=timeout_s,
                check=False,
            )
            code = done.returncode
        except (PermissionError, FileNotFoundError) as error:
            return 126, str(error)
        said.seek(0)
        return code, said.read().decode(errors="replace")


def command_line(pid: int) -> str:
    """Command line of a process; empty when there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return (
                Path(f"/proc/{pid}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="surrogateescape")
            )
        except OSError:
            return ""
    # In the locale C, ps of macOS writes other letters as escapes.
    command = ["ps", "-ww", "-o", "args=", "-p", str(pid)]
    code, said = call(command, None, timeout_s=30, locale="en_US.UTF-8")
    return said.strip() if code == 0 else ""


def all_pids() -> list[int]:
    """All processes of this machine, as far as it shows them."""
    if Path("/proc/self").exists():
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    code, said = call(["ps", "-axo", "pid="], None, timeout_s=30)
    return [int(line) for line in said.split() if line.isdecimal()] if code == 0 else []


def is_postgres(pid: int) -> bool:
    return re.search(r"(^|/)postgres(:| -D )", command_line(pid)) is not None


def answers(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            # The file of a socket outlives its server; only a connection tells.
            probe.connect(str(path))
        except OSError:
            return False
        return True


def write_private(path: Path, text: str) -> None:
    # Made with its mode: after a chmod somebody may have opened it already.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def tail(log: Path, since: int = 0) -> str:
    """The last lines of a log, of those written after the offset `since` (bytes)."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - 20_000))
            return last_lines(file.read().decode(errors="replace"))
    except OSError:
        return ""


def last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-12:])


def is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?\d+\s*", text) is not None
