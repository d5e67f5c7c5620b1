"""A private PostgreSQL server: its folder, its users, and its life cycle.

One folder holds one server, which any number of processes share:

    cluster/      PostgreSQL's own files; there only once they are complete
    password      of the crawl's role, 0600; `pgpass` is the same for libpq
    superuser-password
                  of the superuser, 0600
    port          the TCP port of the last start, taken again when it is free
    server.log    what the server says
    pinned        there while an operator wants the server to stay
    binaries/     a copy of the binaries, made only when root has to start a server for an
                  account that cannot read the originals
    *.lock        see below

**Its users.** Each user of the server holds a shared lock on `users.lock` while it lives. The
server is started by a *guardian*, a small process of its own, which then waits for the same lock
exclusively: the kernel wakes it after any death of the last user, and it stops the server. A
pinned server is left alone. `control.lock` lets one process at a time start or stop the server;
`guard.lock` is held by the guardian, so that a missing one is noticed and replaced. `users.lock`
is taken before `control.lock`.

The locks belong to open files. They are closed on exec, so processes started by spawn or
forkserver do not keep the server alive; a plain `os.fork` inherits them and does, until
that child ends.

**Its account.** PostgreSQL refuses to run as root. Started by root, it runs as the owner of the
cluster, for a new one as the first account of `binaries.ACCOUNTS` that exists. No folder above
the data, and nothing of the binaries, has its mode changed for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tweetcrawler import files
from tweetcrawler.errors import ConfigurationError, DatabaseUnreachable
from tweetcrawler.local.embedded.binaries import binaries_for, find_binaries, find_psql
from tweetcrawler.local.embedded.cluster import HOST
from tweetcrawler.local.embedded.folder import (
    EXCLUSIVE,
    PAUSE_S,
    SHARED,
    START_S,
    Folder,
    TakenError,
    default_folder,
)
from tweetcrawler.local.embedded.guardian import halt, send_guardian
from tweetcrawler.local.embedded.roles import DATABASE, ROLE, SUPERUSER
from tweetcrawler.local.embedded.system import refuse_windows, tail

__all__ = [
    "DATABASE",
    "ROLE",
    "Server",
    "Status",
    "default_folder",
    "find_binaries",
    "find_psql",
    "lend",
]

# How long a guardian that is about to leave is waited for.
_LEAVING_S = 1.0


@contextlib.contextmanager
def lend(data: Path | None = None, binaries: Path | None = None) -> Iterator[str]:
    """URL, with the password, of the private server, which runs during the block.

    Starts the server when nobody did yet. It stops by itself after its last user, see
    `Server.hold`.
    """
    with Server(data, binaries).hold() as url:
        yield url


@dataclasses.dataclass(frozen=True)
class Status:
    """State of a server seen from outside; `port` is None unless it runs."""

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
        refuse_windows()
        self._folder = Folder((data or default_folder()).expanduser().resolve())
        self._binaries = binaries

    def __repr__(self) -> str:
        return f"Server({str(self._folder.data)!r})"

    @contextlib.contextmanager
    def hold(self) -> Iterator[str]:
        """URL of the running server; it runs at least until the block ends.

        When the last holder is gone, also by SIGKILL, the server stops within moments,
        unless it is pinned.
        """
        with self._using():
            yield self._run()

    def start(self) -> str:
        """URL of the running server, pinned: it runs until `stop`, with or without users."""
        with self._using():
            url = self._run()
            self._folder.pinned.touch(mode=0o600)
            return url

    def stop(self) -> bool:
        """Stops the server after its last user: True when it is stopped, False while it is used.

        Either way it is pinned no more. When it is stopped, nothing works in its folder any
        longer.
        """
        if not self._folder.exists():
            return True
        self._folder.pinned.unlink(missing_ok=True)
        try:
            # A guardian that is just stopping the server holds the lock for a moment too.
            with self._folder.lock(self._folder.users, EXCLUSIVE, _LEAVING_S):
                self._halt()
        except TakenError:
            self._have_guarded()
        if self._folder.postmaster() is not None:
            return False
        self._await_guardian_gone()
        return True

    def stop_now(self) -> None:
        """Stops the server although it may be in use; open transactions are rolled back."""
        if self._folder.exists():
            self._folder.pinned.unlink(missing_ok=True)
            self._halt()

    def url(self) -> str | None:
        """URL of the server with its password, or None while it is not running."""
        return self._url(ROLE, self._folder.password)

    def superuser_url(self) -> str | None:
        """The same for the superuser, who may change the server's settings."""
        if self.url() and not self._folder.has_superuser_password():
            raise ConfigurationError(
                "this server was started by an earlier version, whose only role is the "
                "superuser; run `tweetcrawler db stop`, then again"
            )
        return self._url(SUPERUSER, self._folder.superuser_password)

    def shown_url(self) -> str | None:
        """URL of the server without the password, which libpq reads from a file beside the
        data.
        """
        server = self._folder.postmaster()
        if server is None or not server.ready:
            return None
        # Any port and database: the port may be another one after a restart.
        line = f"{HOST}:*:*:{ROLE}:{self._folder.read_password()}\n"
        files.replace_whole(self._folder.passfile, line.encode(), mode=0o600)
        return (
            f"postgresql://{ROLE}@{HOST}:{server.port}/{DATABASE}"
            f"?passfile={quote(str(self._folder.passfile))}"
        )

    def _url(self, role: str, password_file: Path) -> str | None:
        server = self._folder.postmaster()
        if server is None or not server.ready:
            return None
        password = self._folder.read_password(password_file)
        return f"postgresql://{role}:{password}@{HOST}:{server.port}/{DATABASE}"

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
            with self._folder.lock(self._folder.users, SHARED, START_S):
                yield
        except TakenError as taken:
            raise DatabaseUnreachable(
                f"the server in {self._folder.data} has been stopping for {START_S} s; "
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
                f"look into {self._folder.log}:\n{tail(self._folder.log)}"
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
        send_guardian(self._folder, binaries_for(self._folder, self._binaries))

    def _halt(self) -> None:
        with self._folder.controlling():
            halt(self._folder)

    def _await_guardian_gone(self) -> None:
        """So that the folder can be removed. A new user's guardian stays, hence the limit."""
        deadline = time.monotonic() + _LEAVING_S
        while time.monotonic() < deadline:
            with self._folder.controlling():
                if not self._folder.has_guardian():
                    return
            time.sleep(PAUSE_S)
