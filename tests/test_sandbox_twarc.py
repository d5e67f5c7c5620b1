"""twarc2, a program that knows nothing of the sandbox, works against it unchanged.

It is installed into an environment of its own and reaches the sandbox through a small
CONNECT proxy that holds a certificate for X's addresses.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sandbox_server import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
SERVER_EXTENSIONS = """\
subjectAltName=DNS:api.twitter.com,DNS:api.x.com
keyUsage=critical,digitalSignature,keyEncipherment
extendedKeyUsage=serverAuth
basicConstraints=critical,CA:FALSE
authorityKeyIdentifier=keyid
subjectKeyIdentifier=hash
"""


@pytest.fixture(scope="module")
def twarc2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twarc")
    venv.create(folder, with_pip=True)
    subprocess.run(
        [folder / "bin/python", "-m", "pip", "install", "-q", "twarc>=2.13,<3"], check=True
    )
    return folder / "bin/twarc2"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (ca.pem) and a server's chain (server.pem, server.key)."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "extensions").write_text(SERVER_EXTENSIONS)
    for command in (
        (
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests "
            "-addext basicConstraints=critical,CA:TRUE "
            "-addext keyUsage=critical,keyCertSign,cRLSign -addext subjectKeyIdentifier=hash "
            "-keyout ca.key -out ca.pem"
        ),
        "req -newkey rsa:2048 -nodes -subj /CN=api.twitter.com -keyout server.key -out server.csr",
        (
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile "
            "extensions -out server.pem"
        ),
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("--posts", "230-260", "--plan", "unlimited") as running:
        yield running


class Interception:
    """A CONNECT proxy that ends TLS itself and hands the plain bytes to the sandbox."""

    def __init__(self, url: str, certificates: Path) -> None:
        where = urlsplit(url)
        self._target = (where.hostname or "", where.port or 0)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with (
            self._context.wrap_socket(client, server_side=True) as plain,
            socket.create_connection(self._target) as server,
        ):
            up = threading.Thread(target=self._copy, args=(plain, server), daemon=True)
            up.start()
            self._copy(server, plain)
            up.join(5)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@pytest.fixture
def proxy(sandbox: Sandbox, certificates: Path) -> Iterator[Interception]:
    made = Interception(sandbox.url, certificates)
    yield made
    made.close()


def run(
    twarc2: Path,
    sandbox: Sandbox,
    proxy: Interception,
    certificates: Path,
    folder: Path,
    *arguments: str,
) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in ("no_proxy", "all_proxy")
    }
    environment |= {
        "HOME": str(folder),
        "HTTPS_PROXY": proxy.url,
        "https_proxy": proxy.url,
        "REQUESTS_CA_BUNDLE": str(certificates / "ca.pem"),
        "SSL_CERT_FILE": str(certificates / "ca.pem"),
    }
    done = subprocess.run(
        [twarc2, "--bearer-token", sandbox.credentials[0]["bearer_token"], *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    log = (folder / "twarc.log").read_text() if (folder / "twarc.log").exists() else ""
    assert "Traceback" not in log, log[-3000:]


def test_timelines_users_and_search(
    twarc2: Path,
    sandbox: Sandbox,
    proxy: Interception,
    certificates: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "names.txt").write_text("ada\ngrace\n" + sandbox.id_of("linus") + "\n")
    (tmp_path / "users.txt").write_text("ada\ngone_x\nsuspended_y\ngrace\n")

    def twarc(*arguments: str) -> list[dict[str, Any]]:
        run(twarc2, sandbox, proxy, certificates, tmp_path, *arguments)
        return [json.loads(line) for line in (tmp_path / arguments[-1]).read_text().splitlines()]

    pages = twarc("timelines", "--hide-progress", "names.txt", "timelines.jsonl")
    stored = {tweet["id"] for page in pages for tweet in page["data"]}
    assert stored == {
        id_ for name in ("ada", "grace", "linus") for id_ in sandbox.truth_ids(name)["reachable"]
    }
    pages = twarc("users", "--usernames", "users.txt", "users.jsonl")
    assert [user["username"].lower() for page in pages for user in page["data"]] == [
        "ada",
        "grace",
    ]
    pages = twarc("search", "--limit", "150", "coffee", "search.jsonl")
    assert sum(len(page["data"]) for page in pages) >= 150
