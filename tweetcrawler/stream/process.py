"""The reader as its parent sees it: begun, told, heard, and begun again when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import orjson

from tweetcrawler.stream.reader import Given

_END_S = 10.0


class ReaderProcess:
    """One process of `tweetcrawler.stream.reader`."""

    def __init__(self, given: Given) -> None:
        # Its keys go by the pipe: a command line and an environment can be read by others.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tweetcrawler.stream.reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._held = b""
        self._told: dict[str, Any] = {}
        self._write(asdict(given))

    @property
    def is_alive(self) -> bool:
        """Whether it works."""
        return self._process.poll() is None

    def tell(self, **orders: Any) -> None:
        """Gives orders, as far as they are new."""
        new = {k: v for k, v in orders.items() if k not in self._told or self._told[k] != v}
        if new:
            self._told |= new
            self._write(new)

    def hurry(self) -> None:
        """Ends its pause."""
        self._write({"hurry": True})

    def news(self) -> Iterator[dict[str, Any]]:
        """Its news since the last call."""
        while True:
            try:
                received = os.read(self._out.fileno(), 65_536)
            except BlockingIOError:
                break
            self._held += received
            if not received:
                break
        *lines, self._held = self._held.split(b"\n")
        for line in lines:
            yield orjson.loads(line)

    def end(self, why: str) -> None:
        """Ends it in order: it closes the connection first, and brings all to disk."""
        self.tell(stop=why)
        with suppress(OSError):
            self._in.close()

    def wait(self) -> None:
        """Waits for its end, and kills it when that takes too long."""
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Frees the pipes of a process that has ended."""
        with suppress(OSError):
            self._in.close()
        self._out.close()

    def _write(self, orders: dict[str, Any]) -> None:
        # A process that has just died is seen by `is_alive`.
        with suppress(OSError, ValueError):
            self._in.write(orjson.dumps(orders) + b"\n")
            self._in.flush()
