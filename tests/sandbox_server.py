"""The sandbox as a process of its own, for tests.

Started on a free port, read and set through its control calls.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from requests_oauthlib import OAuth1

START_S = 30


class Sandbox:
    """`python -m tweetcrawler.sandbox --port 0 ...` from entering the context to leaving it."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    def __enter__(self) -> Sandbox:
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        self.auth_csv = Path(self._folder.name) / "auth.csv"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tweetcrawler.sandbox",
                "--port",
                "0",
                "--write-auth",
                str(self.auth_csv),
                *self._arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("sandbox listens on "):
            self.stop()
            raise RuntimeError(f"the sandbox did not start: {line}{''.join(self._errors)}")
        self.url = line.split()[-1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None and any("Traceback" in line for line in self._errors):
            raise AssertionError(f"the sandbox failed inside:\n{''.join(self._errors)}")

    def stop(self) -> int:
        """Ends the server with SIGTERM and gives its exit code; harmless when it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self._folder.cleanup()
        return self.process.returncode

    def get(
        self,
        path: str,
        parameters: dict[str, Any] | None = None,
        *,
        user: bool = False,
        credential: int = 0,
        **more: Any,
    ) -> requests.Response:
        """A GET as the app of a credential, or, with `user`, signed with its access token."""
        keys = self.credentials[credential]
        if user:
            more["auth"] = OAuth1(
                keys["consumer_key"],
                keys["consumer_secret"],
                keys["access_token"],
                keys["access_token_secret"],
            )
        else:
            more["headers"] = {"Authorization": f"Bearer {keys['bearer_token']}"} | more.get(
                "headers", {}
            )
        with requests.Session() as session:
            session.trust_env = False
            return session.get(self.url + path, params=parameters, timeout=START_S, **more)

    def id_of(self, username: str) -> str:
        """The user's id, whatever the state, without asking the API."""
        id_: str = self.truth_ids(username)["user"]["id"]
        return id_

    @property
    def credentials(self) -> list[dict[str, str]]:
        """The rows of the auth CSV."""
        with self.auth_csv.open(newline="") as file:
            return list(csv.DictReader(file))

    def control(self, method: str, path: str, sent: Any = None) -> Any:
        """The answer to a control call such as ("POST", "/sandbox/faults", {...}).

        A refusal raises ValueError with its sentence.
        """
        return json.loads(self._raw(method, path, sent))

    def books(self) -> dict[str, Any]:
        books: dict[str, Any] = self.control("GET", "/sandbox/books")
        return books

    def truth(self, username: str) -> list[dict[str, Any]]:
        """Every post of the user that X could still sell, newest first.

        As {"tweet", "includes"}.
        """
        return [
            json.loads(line) for line in self._raw("GET", f"/sandbox/truth/{username}").splitlines()
        ]

    def truth_ids(self, username: str) -> dict[str, Any]:
        """{"ids", "reachable", "user", "state"} of a user."""
        ids: dict[str, Any] = self.control("GET", f"/sandbox/truth/{username}/ids")
        return ids

    def sales(self, username: str) -> dict[int, int]:
        """How often each post of the user was sold."""
        sales = self.control("GET", f"/sandbox/books/posts?username={username}")
        return {int(id_): count for id_, count in sales.items()}

    def fault(self, name: str, **parameters: Any) -> None:
        self.control("POST", "/sandbox/faults", {"fault": name, **parameters})

    def _raw(self, method: str, path: str, sent: Any = None) -> bytes:
        request = urllib.request.Request(
            self.url + path, method=method, data=None if sent is None else json.dumps(sent).encode()
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=START_S) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(error.read().decode()) from None

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)
