"""Folder of a private server: the names in it, its locks, and what they tell."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tweetcrawler.errors import ConfigurationError, DatabaseUnreachable
from tweetcrawler.local.embedded.system import (
    all_pids,
    answers,
    command_line,
    is_number,
    is_postgres,
    is_root,
    try_lock,
)

if sys.platform != "win32":
    import fcntl

    SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX

# Longest times of making a cluster and of starting its server.
INIT_S = 300
START_S = 180
# How often a lock, or the state of the server, is looked at.
PAUSE_S = 0.02


def default_folder() -> Path:
    """Where the server's files lie when nothing else is said.

    Errors: ConfigurationError for a user without a home.
    """
    try:
        return _in_home()
    except RuntimeError:  # as Path.home says it
        raise ConfigurationError(
            "HOME is not set and this user has no home, so the private PostgreSQL has no folder; "
            "name one with dataFolder (--data-folder)"
        ) from None


def _in_home() -> Path:
    mac = sys.platform == "darwin"
    if is_root():
        return (
            Path("/Library/Application Support" if mac else "/var/lib")
            / "tweetcrawler"
            / "postgresql"
        )
    if mac:
        return Path.home() / "Library" / "Application Support" / "tweetcrawler" / "postgresql"
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification says that a relative path is to be ignored.
    home = base if base.is_absolute() else Path.home() / ".local" / "share"
    return home / "tweetcrawler" / "postgresql"


def _secret_in(path: Path) -> str:
    # A file whose blocks were never written is full of zeros after a crash of the machine.
    return path.read_text(encoding="utf-8", errors="replace").strip("\0").strip()


class TakenError(Exception):
    """A lock is held by somebody else."""


@dataclasses.dataclass(frozen=True)
class _Postmaster:
    """PostgreSQL's first process, as its file `postmaster.pid` tells."""

    pid: int
    port: int
    ready: bool


class Folder:
    """The names and locks in the folder of a server, and what can be read from them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.cluster = data / "cluster"
        self.password = data / "password"
        self.superuser_password = data / "superuser-password"
        self.passfile = data / "pgpass"
        self.port = data / "port"
        self.log = data / "server.log"
        self.pinned = data / "pinned"
        self.binaries = data / "binaries"
        self.users = data / "users.lock"
        self.control = data / "control.lock"
        self.guard = data / "guard.lock"

    def exists(self) -> bool:
        return self.data.is_dir()

    def make(self) -> None:
        """Makes the folder, and those above it that are missing.

        The modes of others are left alone.

        A folder that is empty counts as made for this, and gets its mode too.
        """
        # PostgreSQL's pg_ctl puts the path between double quotes into a shell command.
        if re.search(r'["$`\\\n]', str(self.data)):
            raise ConfigurationError(
                f"{str(self.data)!r} cannot be the folder of a server; choose one without quotes, "
                "dollar signs and backslashes"
            )
        try:
            ours = [path for path in (self.data, *self.data.parents) if not path.exists()]
            self.data.mkdir(parents=True, exist_ok=True)
            if not ours and not any(self.data.iterdir()):
                ours = [self.data]
            for path in ours:
                # Root's server runs as somebody else, who has to pass through to the cluster.
                path.chmod(0o711 if is_root() else 0o700)
        except OSError as error:
            raise ConfigurationError(
                f"the folder {self.data} for the private PostgreSQL cannot be used "
                f"({error.strerror}); choose another"
            ) from error

    @contextlib.contextmanager
    def lock(self, path: Path, kind: int, patience_s: float) -> Iterator[None]:
        """Holds the lock for the block. `TakenError` after the patience."""
        descriptor = self.open_lock(path)
        try:
            deadline = time.monotonic() + patience_s
            while not try_lock(descriptor, kind):
                if time.monotonic() > deadline:
                    raise TakenError(str(path))
                time.sleep(PAUSE_S)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def controlling(self) -> Iterator[None]:
        """Nobody else starts or stops the server during the block."""
        try:
            with self.lock(self.control, EXCLUSIVE, INIT_S + START_S):
                yield
        except TakenError as taken:
            raise DatabaseUnreachable(
                f"another process has been starting or stopping the server in {self.data} for "
                f"minutes; look into {self.log}"
            ) from taken

    def open_lock(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except PermissionError as error:
            raise self._foreign() from error

    def has_guardian(self) -> bool:
        """Only asked while controlling: who looks holds the lock for an instant."""
        try:
            with self.lock(self.guard, SHARED, 0):
                return False
        except TakenError:
            return True

    def postmaster(self) -> _Postmaster | None:
        """The running server of this cluster, or None.

        A process id alone proves nothing: they are used again.
        """
        lines = self._pid_lines()
        if len(lines) < 4 or not is_number(lines[0]) or not is_number(lines[3]):
            return None
        pid = abs(int(lines[0]))
        if not self.runs_as(pid):
            return None
        return _Postmaster(pid, int(lines[3]), len(lines) > 7 and lines[7].strip() == "ready")

    def runs_as(self, pid: int) -> bool:
        return f"-D {self.cluster} " in command_line(pid) + " "

    def _is_used_by(self, pid: int) -> bool:
        """Whether a server of this cluster has this process, also one whose first was killed."""
        if self.runs_as(pid):
            return True
        # Each of them has the cluster as its folder.
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cwd").readlink() == self.cluster and is_postgres(pid)
        return False

    def disown_stranger(self) -> None:
        """Takes the process id of a dead server out of postmaster.pid.

        Only when `postmaster` is None.

        PostgreSQL refuses to start while any process has the id that it finds there, and
        after a restart of a container some other process has it. The rest of the file
        stays: by its seventh line PostgreSQL sees whether orphans of the old server still
        use its memory.

        Errors: DatabaseUnreachable for a server that somebody else started on the cluster,
        by hand or in another container: it is not ours to stop, and two would destroy the
        data.
        """
        lines = self._pid_lines()
        # A crash of the machine may leave it empty, or full of zeros.
        is_whole = bool(lines) and is_number(lines[0])
        runs = (
            is_postgres(abs(int(lines[0]))) if is_whole else any(map(self._is_used_by, all_pids()))
        )
        if runs or any(answers(path) for path in self.cluster.glob(".s.PGSQL.*")):
            raise DatabaseUnreachable(
                f"a PostgreSQL that was not started by this program uses {self.cluster}; stop it "
                "first"
            )
        for path in self.cluster.glob(".s.PGSQL.*"):
            path.unlink()
        if not is_whole:
            (self.cluster / "postmaster.pid").unlink(missing_ok=True)
            return
        never_a_pid = 2**31 - 1
        descriptor = os.open(
            self.cluster / "postmaster.pid", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([str(never_a_pid), *lines[1:]]) + "\n")

    def made_by(self) -> str | None:
        """The major version that made the cluster; None while there is none."""
        try:
            return (self.cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
        except OSError:
            return None

    def read_password(self, path: Path | None = None) -> str:
        """The password in a file, of the crawl's role by default; empty when a crash of the
        machine left none.
        """
        path = path or self.password
        try:
            return _secret_in(path)
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{path} is gone, so nobody can log in to the server; put it back from a "
                f"backup, or move {self.cluster} away for a new, empty database"
            ) from error
        except PermissionError as error:
            raise self._foreign() from error

    def has_superuser_password(self) -> bool:
        """Whether the superuser is a role of its own, with a password that is known."""
        try:
            return bool(_secret_in(self.superuser_password))
        except FileNotFoundError:
            return False

    def last_port(self) -> int | None:
        try:
            text = self.port.read_text(encoding="utf-8").strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None

    def _pid_lines(self) -> list[str]:
        try:
            text = (self.cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace")
            return text.splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise self._foreign() from error

    def _foreign(self) -> ConfigurationError:
        return ConfigurationError(
            f"the private PostgreSQL in {self.data} belongs to another user; choose another folder"
        )
