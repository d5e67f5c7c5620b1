"""A terminal of a given width, and a program in it that somebody types to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from busy import Patience
from crawls import PROGRAM, kill_tree, wait_until

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>].?|\r")


class Terminal:
    """A running program; `seen` is all that it showed, without control characters."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self._screen = screen
        self._raw = b""
        self._looked = 0

    @property
    def seen(self) -> str:
        return _CONTROL.sub("", self._raw.decode("utf-8", "replace"))

    def wait_for(self, text: str, *, timeout_s: float = 30.0) -> None:
        """Reads until the program shows a text that was not there at the last call."""
        patience = Patience(timeout_s)
        while (at := self.seen.find(text, self._looked)) < 0:
            if not self._read() or not patience.lasts:
                raise AssertionError(f"{text!r} does not come:\n{self.seen}")
        self._looked = at + len(text)

    def type(self, text: str) -> None:
        os.write(self._screen, f"{text}\n".encode())

    def answer(self, question: str, text: str) -> None:
        self.wait_for(question)
        self.type(text)

    def ended(self, *, timeout_s: float = 60.0) -> int:
        """Reads to the end; gives the exit code."""
        patience = Patience(timeout_s)
        while self._read():
            assert patience.lasts, f"still running:\n{self.seen}"
        return self.process.wait()

    def interrupt(self) -> None:
        # A signal between a question and the wait for its answer is seen with the next key only.
        main = psutil.Process(self.process.pid)
        wait_until(lambda: main.status() == psutil.STATUS_SLEEPING, what="a program that waits")
        self.process.send_signal(signal.SIGINT)

    def _read(self) -> bool:
        """Reads what there is; False at the end."""
        if select.select([self._screen], [], [], 0.1)[0]:
            # A terminal whose program has gone answers with an error.
            with contextlib.suppress(OSError):
                piece = os.read(self._screen, 65536)
                self._raw += piece
                return bool(piece)
            return False
        return True


@contextlib.contextmanager
def terminal(folder: Path, arguments: Sequence[str], *, columns: int = 80) -> Iterator[Terminal]:
    """The program with these arguments, in a terminal of 24 lines."""
    screen, line = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=folder,
        stdin=line,
        stdout=line,
        stderr=line,
        env=environment | {"TERM": "xterm"},
        start_new_session=True,
        # With a terminal of its own, where getpass asks.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(line)
    try:
        yield Terminal(process, screen)
    finally:
        kill_tree(process.pid)
        process.wait()
        os.close(screen)
