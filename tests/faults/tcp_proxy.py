"""A TCP proxy on the loopback that breaks what passes through it.

It cuts, stalls, refuses, delays and drips.

It stands before PostgreSQL or before X. A `Trap` acts where the bytes hold a pattern, such
as the text of a statement: before the bytes pass ("before"), or when the answer to them
comes back ("answer").
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

Direction = Literal["up", "down"]  # up: from the client to the server
PIECE = 65_536
_LOOK_AGAIN_S = 0.02


@dataclass
class Trap:
    """A rule that cuts or holds connections whose client sends `pattern`.

    At most `count` of them: after letting `skip` pass, every `every`-th.
    """

    pattern: bytes
    moment: Literal["before", "answer"]
    action: Literal["cut", "hold"]
    count: int = 1
    skip: int = 0
    every: int = 1
    sprung: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    times: int = 0
    client_port: int = 0  # of the connection that it sprang on


@dataclass
class _Link:
    client: socket.socket
    server: socket.socket
    cut_up: int | None
    cut_down: int | None
    passed: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    awaited: Trap | None = None
    seen: bytes = b""
    ended: threading.Event = field(default_factory=threading.Event)

    def end(self, *, reset: bool) -> None:
        """Both sides are closed; with `reset` the peers see an error and no orderly end."""
        self.ended.set()
        for side in (self.client, self.server):
            if reset:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


class TcpProxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to `host:port`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._links: list[_Link] = []
        self._traps: list[Trap] = []
        self._lock = threading.Lock()
        self._cuts: list[tuple[Direction, int]] = []
        self._open: dict[Direction, threading.Event] = {
            "up": threading.Event(),
            "down": threading.Event(),
        }
        self.port = 0
        self.connections = 0
        self.delay_s = 0.0
        self.drip_s: float | None = None  # seconds between single bytes of answers
        self._listener: socket.socket | None = None

    def __enter__(self) -> TcpProxy:
        self.go_on()
        self.listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        for trap in self._traps:
            trap.let_go.set()
        self.go_on()
        self.cut()

    # -- what it can do to the line ---------------------------------------------------

    def refuse(self) -> None:
        """New connections are refused from now on; those that are open stay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def listen(self) -> None:
        """Takes connections (again), at the same port."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Resets every connection that is open."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.end(reset=True)

    def stall(self, *directions: Direction) -> None:
        """Nothing passes any more, and nobody is told."""
        for direction in directions or ("up", "down"):
            self._open[direction].clear()

    def go_on(self) -> None:
        """Ends `stall`."""
        for event in self._open.values():
            event.set()

    def cut_after(self, count: int, direction: Direction) -> None:
        """The next connection is reset once so many bytes went in that direction."""
        self._cuts.append((direction, count))

    def trap(self, trap: Trap) -> Trap:
        """Sets a trap; see `Trap`."""
        with self._lock:
            self._traps.append(trap)
        return trap

    # -- how it does it ---------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            cuts: dict[Direction, int] = {}
            if self._cuts:
                direction, count = self._cuts.pop(0)
                cuts[direction] = count
            link = _Link(client, server, cuts.get("up"), cuts.get("down"))
            with self._lock:
                self.connections += 1
                self._links = [one for one in self._links if not one.ended.is_set()] + [link]
            threading.Thread(target=self._up, args=(link,), daemon=True).start()
            threading.Thread(target=self._down, args=(link,), daemon=True).start()

    def _up(self, link: _Link) -> None:
        for data in self._pieces(link, "up"):
            link.seen = link.seen[-200:] + data
            trap = self._sprung_by(link)
            if trap is not None:
                link.seen = b""
                if trap.moment == "answer":
                    link.awaited = trap
                elif self._spring(trap, link):
                    return
            if not self._pass(link, "up", data):
                return

    def _down(self, link: _Link) -> None:
        for data in self._pieces(link, "down"):
            trap, link.awaited = link.awaited, None
            if trap is not None and self._spring(trap, link):
                return
            if not self._pass(link, "down", data):
                return

    def _pieces(self, link: _Link, direction: Direction) -> Iterator[bytes]:
        source = link.client if direction == "up" else link.server
        while not link.ended.is_set():
            try:
                data = source.recv(PIECE)
            except OSError:
                data = b""
            while not self._open[direction].wait(_LOOK_AGAIN_S) and not link.ended.is_set():
                continue
            if not data:
                link.end(reset=False)
                return
            if self.delay_s:
                time.sleep(self.delay_s)
            yield data

    def _pass(self, link: _Link, direction: Direction, data: bytes) -> bool:
        sink = link.server if direction == "up" else link.client
        cut = link.cut_up if direction == "up" else link.cut_down
        left = None if cut is None else cut - link.passed[direction]
        try:
            if direction == "down" and self.drip_s is not None:
                for number in range(len(data)):
                    sink.sendall(data[number : number + 1])
                    if link.ended.wait(self.drip_s):
                        return False
            else:
                sink.sendall(data if left is None else data[:left])
        except OSError:
            link.end(reset=True)
            return False
        link.passed[direction] += len(data)
        if left is not None and left <= len(data):
            time.sleep(_LOOK_AGAIN_S)  # what was passed on shall arrive before the reset does
            link.end(reset=True)
            return False
        return True

    def _sprung_by(self, link: _Link) -> Trap | None:
        with self._lock:
            for trap in self._traps:
                if trap.times < trap.count and trap.pattern in link.seen:
                    if trap.skip:
                        trap.skip -= 1
                        link.seen = b""
                        return None
                    trap.skip = trap.every - 1
                    trap.times += 1
                    return trap
        return None

    def _spring(self, trap: Trap, link: _Link) -> bool:
        """Whether the link is at its end."""
        with contextlib.suppress(OSError):
            trap.client_port = link.client.getpeername()[1]
        trap.sprung.set()
        if trap.action == "cut":
            link.end(reset=True)
            return True
        while not trap.let_go.wait(_LOOK_AGAIN_S) and not link.ended.is_set():
            continue
        return link.ended.is_set()
