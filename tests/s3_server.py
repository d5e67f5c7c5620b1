"""An S3 server on the loopback for tests: moto's, as a process of its own, and lines to it that
break.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config

from tweetcrawler.keeping.places import S3Options

KEY, SECRET = "AKIAIOSFODNNCANARY00", "wJalrXUtnFEMI/K7MDENG/bPxRfiCANARYKEY"
BUCKET = "tweets"


class S3Server:
    """moto's server from entering the context to leaving it, with one bucket."""

    def __enter__(self) -> S3Server:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"MOTO_S3_CUSTOM_ENDPOINTS": ""},
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise RuntimeError("moto's server did not start")
        # It writes a line for each request, and would stop at a full pipe.
        self._reader = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._reader.start()
        self.client().create_bucket(Bucket=BUCKET)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def options(self, port: int | None = None) -> S3Options:
        return S3Options(
            endpoint=f"http://127.0.0.1:{port or self.port}",
            region="us-east-1",
            key=KEY,
            secret=SECRET,
        )

    def client(self) -> Any:
        """A client that is not ours, to look at what is stored."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}),
        )

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        client = self.client()
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
        return {
            one["Key"].removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=one["Key"])[
                "Body"
            ].read()
            for one in listed
        }


class Failing:
    """A server before the true one that answers `failures` requests with a status and code."""

    def __init__(self, port: int) -> None:
        self.failures = 0
        self.status = 500
        self.code = "InternalError"
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                outer.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if outer.failures > 0:
                    outer.failures -= 1
                    self._answer(outer.status, {}, outer._error())
                    return
                line = HTTPConnection("127.0.0.1", port, timeout=60)
                line.request(self.command, self.path, body, dict(self.headers))
                answer = line.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
                line.close()

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.handle_one
                raise AttributeError(name)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def _error(self) -> bytes:
        # As S3 words it, with what must not be repeated by us.
        return (
            f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>of {KEY} and {SECRET}"
            f"</Message><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"
        ).encode()

    def __enter__(self) -> Failing:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
