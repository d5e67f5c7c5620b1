"""Making and starting a cluster of PostgreSQL; only while its folder is being controlled."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tweetcrawler import files
from tweetcrawler.errors import DatabaseUnreachable
from tweetcrawler.local.embedded.binaries import (
    check_account,
    check_major,
    check_passage,
    major_of,
    runnable_binaries,
    server_account,
)
from tweetcrawler.local.embedded.folder import INIT_S, PAUSE_S, START_S, Folder
from tweetcrawler.local.embedded.roles import (
    DATABASE,
    ORPHANS_LEFT,
    ROLE,
    SUPERUSER,
    Passwords,
    SingleUser,
    part_roles,
    shared_memory,
)
from tweetcrawler.local.embedded.system import Account, call, last_lines, tail, write_private

HOST = "127.0.0.1"
_RETRY_START_S = 90

# What a start may meet that is gone a moment later: a port taken since it was looked at,
# and the last processes of a server whose first process was killed. Most of those end at
# once, but PostgreSQL's startup process, if it was about to end a recovery, looks for the
# checkpointer for 60 s.
_PORT_TAKEN = "could not bind"

# Longest path of a Unix socket is 103 bytes on macOS, 107 on Linux; PostgreSQL adds a name
# of up to 20.
_SOCKET_FOLDER_BYTES = 80

# First locales that this system has. The letters of all scripts need a UTF-8 LC_CTYPE
# (pg_trgm, lower()); systems without C.UTF-8 have en_US.UTF-8, or only C.
_LOCALES = (["--locale=C.UTF-8"], ["--locale=C", "--lc-ctype=en_US.UTF-8"], ["--locale=C"])

# Written once through ALTER SYSTEM, so that an operator's own ALTER SYSTEM wins over them.
_FIRST_STATEMENTS = (
    "ALTER SYSTEM SET wal_compression = on",
    "ALTER SYSTEM SET max_connections = 100",
    "ALTER SYSTEM SET jit = off",
    "ALTER SYSTEM SET log_checkpoints = off",
    "ALTER SYSTEM SET timezone = 'UTC'",
    "ALTER SYSTEM SET log_timezone = 'UTC'",
    f"CREATE ROLE {ROLE}",
    f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
)


def bring_up(folder: Folder, binaries: Path) -> None:
    """The server runs afterwards: an old one, one that recovers, or a new one in a new cluster."""
    if _wait_ready(folder):
        return
    account = server_account(folder)
    check_passage(folder, account)
    binaries = runnable_binaries(binaries, folder, account)
    major = major_of(binaries, account)
    backend = SingleUser(folder.cluster, binaries, major, account)
    if not folder.cluster.exists():
        check_account(account)
        _create_cluster(folder, backend)
    check_major(folder, binaries, major)
    # Errors first: nothing is changed in a folder whose password was taken away.
    is_known = folder.read_password() and folder.has_superuser_password()
    folder.disown_stranger()
    if not is_known:
        part_roles(folder, backend)
    _prepare_log(folder, account)
    _start(folder, binaries, account)


def _wait_ready(folder: Folder) -> bool:
    """Waits for a server that starts; False when there is none.

    One of an earlier, interrupted start may still be recovering.
    """
    deadline = time.monotonic() + START_S
    while (server := folder.postmaster()) is not None:
        if server.ready:
            return True
        if time.monotonic() > deadline:
            raise DatabaseUnreachable(
                f"the server in {folder.data} has been starting for {START_S} s; "
                f"wait, or look into {folder.log}:\n{tail(folder.log)}"
            )
        time.sleep(PAUSE_S)
    return False


def _start(folder: Folder, binaries: Path, account: Account | None) -> None:
    deadline = time.monotonic() + _RETRY_START_S
    port = _free_port(folder.last_port())
    while True:
        before = folder.log.stat().st_size
        where = ["-h", HOST, "-p", str(port), "-k", _socket_folder(folder)]
        options = shlex.join([*where, *shared_memory(account)])
        where = ["-D", str(folder.cluster), "-l", str(folder.log)]
        how = ["-w", "-t", str(START_S), "-o", options]
        code, said = call(
            [binaries / "pg_ctl", *where, *how, "start"], account, timeout_s=START_S + 30
        )
        if code == 0:
            files.replace_whole(folder.port, f"{port}\n".encode(), mode=0o600)
            return
        said_in_log = tail(folder.log, since=before)
        port_taken = _PORT_TAKEN in said_in_log
        if time.monotonic() > deadline or not (port_taken or ORPHANS_LEFT in said_in_log):
            raise DatabaseUnreachable(
                f"the private PostgreSQL in {folder.data} does not start; "
                f"look into {folder.log}:\n{said_in_log or said}"
            )
        time.sleep(0.2)
        port = _free_port(None if port_taken else port)


def _socket_folder(folder: Folder) -> str:
    """The folder of the Unix socket: the cluster, to which only its owner can write.

    Empty, for no socket, when that path is too long or too odd.
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
                probe.bind((HOST, port))
                probe.listen()
                return int(probe.getsockname()[1])
    raise DatabaseUnreachable(f"no port of {HOST} is free; check this machine's loopback interface")


def _prepare_log(folder: Folder, account: Account | None) -> None:
    if folder.log.exists() and folder.log.stat().st_size > 10_000_000:
        folder.log.replace(folder.log.with_suffix(".log.1"))
    descriptor = os.open(folder.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
    finally:
        os.close(descriptor)


def _create_cluster(folder: Folder, backend: SingleUser) -> None:
    """Makes the cluster in a temporary folder and moves it into place when complete."""
    account = backend.account
    for remains in folder.data.glob("new-*"):
        shutil.rmtree(remains, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix="new-", dir=folder.data))
    try:
        passwords = Passwords.made()
        # By file, since command lines are public; a copy of its own, since its reader may
        # be another account.
        for_initdb = aside / "password"
        write_private(for_initdb, passwords.superuser)
        if account is not None:
            os.chown(for_initdb, account.uid, account.gid)
            os.chown(aside, account.uid, account.gid)
        _initdb(backend.binaries, aside, account)
        _first_statements(replace(backend, cluster=aside / "cluster"), passwords)
        passwords.keep(folder)
        (aside / "cluster").rename(folder.cluster)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _initdb(binaries: Path, aside: Path, account: Account | None) -> None:
    said = ""
    for locale in _LOCALES:
        access = ["-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={aside / 'password'}"]
        shape = ["-E", "UTF8", *locale, "--data-checksums", "--no-instructions"]
        where = ["-D", str(aside / "cluster")]
        code, said = call([binaries / "initdb", *where, *access, *shape], account, timeout_s=INIT_S)
        if code == 0:
            return
        if "locale" not in said:
            break
    raise DatabaseUnreachable(
        f"initdb of {binaries} cannot make a new cluster in {aside.parent}; "
        f"check its free space, and that the binaries fit this system:\n{last_lines(said)}"
    )


def _first_statements(backend: SingleUser, passwords: Passwords) -> None:
    """Settings, the role of the crawl and its database."""
    said = backend.run([*_FIRST_STATEMENTS, *passwords.statements(backend.major)])
    if said:
        raise DatabaseUnreachable(
            f"the new cluster in {backend.cluster.parent} cannot be set up; check its free "
            f"space:\n{said}"
        )
