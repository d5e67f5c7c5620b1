"""The process that reads the stream: from the socket into a segment, and nothing else.

It waits for no database. Its parent tells it by lines of JSON on standard input how many posts
and connections it may take, and when to end; when the parent is gone, it ends by itself.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tweetcrawler.errors import (
    CapReached,
    CredentialRefused,
    EndpointRefused,
    Overloaded,
    RequestRefused,
    TooManyConnections,
    TweetcrawlerError,
    WindowClosed,
    XError,
    XUnavailable,
)
from tweetcrawler.keeping.lines import STREAM, Line, parsed_json, stream_line
from tweetcrawler.keeping.manifests import SegmentError
from tweetcrawler.keeping.segments import Limits, Writer
from tweetcrawler.secret import Credential, Secret, silence_libraries
from tweetcrawler.stream.marks import ALIVE, CLOSED, OPENED, Mark, Session, unreadable
from tweetcrawler.stream.pauses import Guard, Pauses
from tweetcrawler.windows import Rate

if TYPE_CHECKING:
    from tweetcrawler.xapi import Stream, X

BREAK = b"\r\n"
# Time between two marks that tell that the line is alive.
ALIVE_S = 5.0
# Longer than any message: a line without an end must not fill the memory.
LONGEST_LINE = 16 * 1024 * 1024
# The reader before this one may still be ending.
LOCKED_S = 20.0
# Errors that end the reader, since no pause helps.
EXIT_CODES: Mapping[type[TweetcrawlerError], int] = {
    CredentialRefused: 4,
    EndpointRefused: 4,
    CapReached: 5,
    RequestRefused: 2,
}


@dataclass(frozen=True)
class Given:
    """The first line of the parent."""

    folder: str
    api_url: str
    run: int
    app: str
    schema: str
    silent_s: float
    connect_s: float
    segment_posts: int
    credential: dict[str, str] = field(repr=False)

    @property
    def keys(self) -> Credential:
        """The keys, which came by the pipe and stand nowhere else."""
        secrets = {k: Secret(v) for k, v in self.credential.items() if k != "name" and v}
        return Credential(self.credential["name"], **secrets)


class Orders:
    """Limits set by the parent, changed by a thread that reads its lines."""

    def __init__(self, source: Any) -> None:
        self.posts: int | None = 0
        self.connects = 0
        self.stop = ""
        self.hurry = False
        self._changed = threading.Condition()
        self._source = source
        self.on_stop: Callable[[], object] = lambda: None

    def listen(self) -> None:
        """Begins to read the parent's lines."""
        threading.Thread(target=self._listen, daemon=True, name="orders").start()

    def wait(self, seconds: float | None, until: Callable[[], bool] = lambda: False) -> None:
        """Returns at an end, when the time is over, or when something is so."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self.stop) or until(), seconds)

    def _listen(self) -> None:
        for text in self._source:
            self._take(orjson.loads(text))
        self._take({"stop": "the program that saves has ended"})

    def _take(self, order: dict[str, Any]) -> None:
        with self._changed:
            self.posts = order.get("posts", self.posts)
            self.connects = order.get("connects", self.connects)
            self.stop = self.stop or order.get("stop", "")
            self.hurry = self.hurry or order.get("hurry", False)
            self._changed.notify_all()
        if self.stop:
            self.on_stop()


class Reader:
    """Connects, reads and connects again, until it is told to end."""

    def __init__(self, given: Given, orders: Orders, tell: Callable[[dict[str, Any]], None]):
        self._given, self._orders, self._tell = given, orders, tell
        self._writer = self._open_writer()
        self._pauses, self._guard = Pauses(), Guard()
        self._posts = self._connects = 0
        self._ahead_s = 0.0
        self._stream: Stream | None = None
        orders.on_stop = self._cut

    def run(self) -> None:
        """Reads until the end. **Errors**: those against which no pause helps."""
        try:
            while not self._orders.stop:
                self._wait_for_leave()
                if not self._orders.stop:
                    self._orders.wait(self._connect(), lambda: self._orders.hurry)
                    self._orders.hurry = False
        finally:
            self._writer.close()

    # -- connections -----------------------------------------------------------------

    def _wait_for_leave(self) -> None:
        orders = self._orders
        self._orders.wait(self._guard.wait_s(time.monotonic()))
        orders.wait(None, lambda: orders.connects > self._connects and self._may_buy)

    @property
    def _may_buy(self) -> bool:
        return self._orders.posts is None or self._posts < self._orders.posts

    def _connect(self) -> float:
        """One connection from its beginning to its end; gives the pause after it."""
        self._connects += 1
        self._guard.note(time.monotonic())
        self._tell({"event": "connecting"})
        try:
            self._stream = self._asked()
        except (WindowClosed, Overloaded, TooManyConnections) as error:
            closes = isinstance(error, WindowClosed) and isinstance(error.rate, Rate)
            reset_s = error.rate.reset_in_s if closes and isinstance(error.rate, Rate) else None
            pause_s = self._pauses.after_rate(reset_s)
            self._refused(error, pause_s)
            return pause_s
        except XError as error:
            status = error.status
            pause_s = self._pauses.after_http() if status else self._pauses.after_network()
            self._refused(error, pause_s)
            return pause_s
        began = time.monotonic()
        why = self._read(self._stream)
        lived_s = time.monotonic() - began
        pause_s = self._pauses.after_line(lived_s)
        self._tell({"event": "ended", "why": why, "lived_s": lived_s, "pause_s": pause_s})
        return pause_s

    def _asked(self) -> Stream:
        x = self._client()
        try:
            return x.stream(silent_s=self._given.silent_s)
        except CredentialRefused:
            # Believed when it comes twice.
            return x.stream(silent_s=self._given.silent_s)

    def _client(self) -> X:
        from tweetcrawler.xapi import Timeouts, X

        # A new one for each connection: the rest of the last one is not used again.
        timeouts = Timeouts(self._given.connect_s)
        return X(self._given.keys, api_url=self._given.api_url, timeouts=timeouts)

    def _refused(self, error: XError, pause_s: float) -> None:
        if type(error) in EXIT_CODES:
            raise error
        told = {"event": "refused", "error": type(error).__name__, "said": str(error)}
        self._tell({**told, "status": error.status, "pause_s": pause_s, "rate": _plain(error.rate)})

    def _cut(self) -> None:
        stream = self._stream
        if stream is not None:
            stream.cut()

    # -- one line ----------------------------------------------------------------------

    def _read(self, stream: Stream) -> str:
        """Reads a line to its end, and gives the reason of it."""
        given = self._given
        self._ahead_s = stream.opened_at - time.monotonic()
        session = Session(str(uuid.uuid4()), given.run, given.keys.name, given.app)
        self._mark(Mark(OPENED, self._x_now, session))
        told = {"event": "connected", "session": session.id, "at": self._x_now}
        self._tell({**told, "rate": _plain(stream.rate)})
        lines = _Lines(self._keep)
        try:
            why = self._read_lines(stream, lines)
        except XUnavailable as error:
            why = str(error)
        finally:
            # Before anything is written: X bills each post that it sends from now on.
            stream.close()
            self._stream = None
        if self._orders.stop:
            why = "stopped"
        if lines.rest:
            self._keep([lines.rest])
        self._mark(Mark(CLOSED, lines.last_at or self._x_now, session, why=lines.said or why))
        return lines.said or why

    def _read_lines(self, stream: Stream, lines: _Lines) -> str:
        marked_at = time.monotonic()
        while not self._orders.stop:
            received = stream.read()
            if not received:
                return "X closed it"
            lines.last_at = self._x_now
            lines.take(received)
            if not self._may_buy:
                return "budget"
            if len(lines.rest) > LONGEST_LINE:
                return "a message has no end"
            if time.monotonic() - marked_at >= ALIVE_S:
                marked_at = time.monotonic()
                self._mark(Mark(ALIVE, lines.last_at))
        return "stopped"

    def _keep(self, texts: Sequence[bytes]) -> str:
        """Brings messages to disk; gives the reason that X tells for a coming end, if one does."""
        said = ""
        for text in texts:
            line = _line(text, self._x_now)
            self._posts += line.posts
            said = said or _disconnect(text)
            self._writer.append(line)
        self._writer.sync()
        self._tell({"event": "posts", "posts": self._posts})
        return said

    def _mark(self, mark: Mark) -> None:
        # A frame of its own: those that save begin and end with them.
        self._writer.sync()
        self._writer.append(Line(mark.to_json(), 0, at=datetime.fromtimestamp(mark.at, UTC)))
        self._writer.sync()

    @property
    def _x_now(self) -> float:
        return self._ahead_s + time.monotonic()

    def _open_writer(self) -> Writer:
        given = self._given
        folder = Path(given.folder)
        folder.mkdir(parents=True, exist_ok=True)
        gives_up_at = time.monotonic() + LOCKED_S
        while True:
            try:
                limits = Limits(posts=given.segment_posts)
                return Writer(folder, STREAM, schema=given.schema, limits=limits)
            except SegmentError:
                if time.monotonic() > gives_up_at:
                    raise
                time.sleep(0.2)


class _Lines:
    """Bytes on their way to whole lines. `said` is X's own reason for the end of the line."""

    def __init__(self, keep: Callable[[Sequence[bytes]], str]) -> None:
        self.rest = b""
        self.said = ""
        self.last_at: float | None = None
        self._keep = keep

    def take(self, received: bytes) -> None:
        """Keeps the whole lines; an empty one is a heartbeat."""
        *whole, self.rest = (self.rest + received).split(BREAK)
        lines = [line for line in whole if line]
        if lines:
            self.said = self._keep(lines) or self.said


def _line(text: bytes, at: float) -> Line:
    when = datetime.fromtimestamp(at, UTC)
    try:
        return stream_line(text, at=when)
    except ValueError:
        return stream_line(unreadable(text, at), at=when)


def _disconnect(text: bytes) -> str:
    """X's reason in the message before it ends a line."""
    if b"disconnect_type" not in text:
        return ""
    try:
        errors = parsed_json(text).get("errors") or [{}]
        return str(errors[0].get("disconnect_type") or "")
    except (ValueError, AttributeError, LookupError, TypeError):
        return ""


def _plain(rate: object) -> dict[str, float] | None:
    if not isinstance(rate, Rate):
        return None
    return {"limit": rate.limit, "remaining": rate.remaining, "reset_in_s": rate.reset_in_s}


def main() -> int:
    """Reads for the parent, and gives the exit code."""
    # Ctrl-C goes to the whole group; the parent ends its reader in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING)
    silence_libraries()
    # The parent's lines come by the first, news go by the second; nothing else may write there.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def tell(news: dict[str, Any]) -> None:
        # Without a parent nobody reads it; the end of its lines tells that, too.
        with suppress(OSError):
            out.write(orjson.dumps(news) + b"\n")

    given = Given(**orjson.loads(sys.stdin.buffer.readline()))
    orders = Orders(sys.stdin.buffer)
    orders.listen()
    try:
        Reader(given, orders, tell).run()
    except TweetcrawlerError as error:
        code = EXIT_CODES.get(type(error), error.exit_code)
        tell({"event": "fatal", "said": str(error), "code": code})
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
