"""Tools that do harm to a machine.

Programs it must have, small disks, servers that crash, lines that break.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import psycopg
import pytest
from crawls import wait_until
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sandbox_server import Sandbox

from faults.tcp_proxy import TcpProxy
from tweetcrawler.db import Database
from tweetcrawler.local import embedded

# -- what the machine must have -------------------------------------------------------


def need(program: str) -> str:
    """The path of a program. Without it the test is skipped, but on CI it fails."""
    found = shutil.which(program)
    if found is None:
        lacking(f"{program} is not installed; .ci/install-tools installs it")
    return found


def lacking(reason: str) -> NoReturn:
    """Skips the test on a laptop, fails it on CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class SmallDisk:
    """A tmpfs of its own, which `fill` fills to the last byte and `free` gives room again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)


# -- a PostgreSQL that may be broken -------------------------------------------------


class OwnServer:
    """A PostgreSQL server for one test.

    It may be crashed, stopped and started again at its port.
    """

    def __init__(self, folder: Path, binaries: Path | None = None) -> None:
        self._server = embedded.Server(folder, binaries)
        self._cluster = folder / "cluster"
        self.url = self._start()

    def database(self) -> str:
        """A new database at the newest revision."""
        name = f"own_{os.urandom(4).hex()}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        conninfo = make_conninfo(self.url, dbname=name)
        Database(conninfo).upgrade()
        return conninfo

    def _start(self) -> str:
        self._server.start()
        url = self._server.superuser_url()
        assert url is not None
        return url

    def postmaster(self) -> int:
        return int((self._cluster / "postmaster.pid").read_text().split()[0])

    @property
    def runs(self) -> bool:
        """Whether it is there; a full disk may have ended it."""
        try:
            return Path(f"/proc/{self.postmaster()}").exists()
        except FileNotFoundError:
            return False

    def crash(self) -> None:
        """As `pg_ctl stop -m immediate`: no checkpoint, every connection is lost."""
        pid = self.postmaster()
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the server")

    def start(self) -> None:
        before = self.url
        self.url = self._start()
        assert self.url == before, "the server must come back at its port"

    def with_tls(self, name: str) -> Path:
        """Has the server speak TLS with a certificate for `name`.

        Gives the file of the certificate.
        """
        certificate, key = self._cluster / "server.crt", self._cluster / "server.key"
        subprocess.run(
            [
                need("openssl"),
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-addext",
                f"subjectAltName=DNS:{name}",
                "-keyout",
                str(key),
                "-out",
                str(certificate),
            ],
            check=True,
            capture_output=True,
        )
        owner = self._cluster.stat()
        for path in (certificate, key):
            path.chmod(0o600)
            os.chown(path, owner.st_uid, owner.st_gid)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: _speaks_tls(self.url), what="TLS")
        return certificate

    def close(self) -> None:
        self._server.stop_now()
        self._server.stop()


def with_a_clock(folder: Path, faketime: str, clock: Path) -> Path:
    """Binaries of a server whose time is read from the file `clock`.

    The file holds a shift such as "+1h"; the folder is given to `OwnServer`.
    """
    real = embedded.find_binaries()
    folder.mkdir()
    folder.chmod(0o755)
    for program in real.iterdir():
        (folder / program.name).symlink_to(program)
    (folder / "pg_ctl").unlink()
    # PostgreSQL's programs look for each other beside the true file, and hand on what is in
    # the environment.
    (folder / "pg_ctl").write_text(
        f"#!/bin/sh\nexport LD_PRELOAD={faketime} FAKETIME_TIMESTAMP_FILE={clock}\n"
        "export FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n"
        f'exec {real / "pg_ctl"} "$@"\n'
    )
    (folder / "pg_ctl").chmod(0o755)
    return folder


def _speaks_tls(url: str) -> bool:
    try:
        psycopg.connect(url, sslmode="require").close()
    except psycopg.OperationalError:
        return False
    return True


# -- proxies -------------------------------------------------------------------------


def before_database(dsn: str) -> TcpProxy:
    """A proxy (not started) before a database; `through` gives its DSN."""
    known = conninfo_to_dict(dsn)
    return TcpProxy(str(known["host"]), int(str(known["port"])))


def through(dsn: str, proxy: TcpProxy) -> str:
    """The DSN of the same database behind a started proxy."""
    return make_conninfo(dsn, host="127.0.0.1", port=proxy.port)


def before_x(sandbox: Sandbox) -> TcpProxy:
    """A proxy (not started) before the sandbox."""
    parts = urlsplit(sandbox.url)
    assert parts.port is not None
    return TcpProxy("127.0.0.1", parts.port)


def url_of(proxy: TcpProxy) -> str:
    """The base URL of X behind a started proxy."""
    return f"http://127.0.0.1:{proxy.port}"
