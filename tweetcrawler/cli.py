"""The program at a terminal: main, exit codes, asking and printing."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tweetcrawler import documents, journal, rooms, settings, setup
from tweetcrawler.errors import ConfigurationError, TweetcrawlerError
from tweetcrawler.settings.commands import all_commands
from tweetcrawler.signals import (
    INTERRUPTED,
    TERMINATED,
    Terminated,
    code_of,
    end_at_once,
    unwinding,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tweetcrawler.setup import Show

# A table in a pipe is not wrapped up to this width.
_WIDE = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code, see `--help`."""
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        # Here and not at exit, where an error could no more become an exit code.
        sys.stdout.flush()
    except TweetcrawlerError as error:
        print(journal.line(f"tweetcrawler: {error}"), file=sys.stderr)
        return error.exit_code
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    # The usual end of `tweetcrawler export | head`.
    except BrokenPipeError:
        _forget_stdout()
        return 1
    except OSError as error:
        _forget_stdout()
        place, reason = error.filename or "the output", error.strerror or error
        with contextlib.suppress(OSError):
            print(journal.line(f"tweetcrawler: {place}: {reason}"), file=sys.stderr)
        return 1
    except RuntimeError as error:
        ended = code_of(error)
        if ended is None:
            raise
        return ended
    return code


def _run(argv: Sequence[str]) -> int:
    # From here on a signal unwinds: the temporary folder of the workers' server must go.
    with unwinding(then=end_at_once):
        if rooms.may_ask_x(argv):
            # First of all: while the workers' modules load on another core, this process reads
            # the call and loads its own, which takes about as long.
            setup.prepare_workers()
        chosen = settings.parse(argv, environ=os.environ, folder=Path.cwd())
        command = all_commands()[chosen.command]
        kind = ForPrograms if chosen.json else Quiet if chosen.quiet else Terminal
        with kind(chosen.command).answering() as front:
            return command.run(setup.Setup(chosen, front, argv), chosen.values)


def _forget_stdout() -> None:
    """The reader of our output has gone, or there is no room for it; Python would try, and
    complain, once more.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal:
    """The front of a command line: asks without an echo, prints, draws where a terminal is."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._is_live = sys.stderr.isatty()

    @contextlib.contextmanager
    def answering(self) -> Iterator[Terminal]:
        """The front, for one command."""
        yield self

    def ask(self, question: str) -> str:
        """The answer, which is not shown while it is typed."""
        import getpass

        try:
            return getpass.getpass(question)
        except EOFError:
            print(flush=True)
        raise ConfigurationError("the answers ended before the questions did; begin again")

    def reply(self, question: str) -> str:
        """The answer, shown while it is typed; with the keys of a line editor."""
        import readline  # noqa: F401 - input() uses it when it is loaded

        try:
            return input(question)
        except EOFError:
            print(flush=True)
        raise ConfigurationError("the answers ended before the questions did; begin again")

    def can_ask(self) -> bool:
        """Whether a terminal is there to answer."""
        return sys.stdin.isatty()

    def agrees(self, question: str) -> bool:
        """Whether the answer to a question begins with y."""
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower().startswith("y")

    def say(self, text: str) -> None:
        """Prints a result at once: the next step may take long."""
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Prints a remark on stderr."""
        print(journal.line(f"tweetcrawler: {text}", logging.WARNING), file=sys.stderr)

    def report(
        self, plain: Mapping[str, Any], show: Show, *, code: int = 0, wide: bool = False
    ) -> None:
        """Prints what was done, for a reader."""
        del code
        self.answer(plain, show, wide=wide)

    def answer(self, plain: Mapping[str, Any], show: Show, *, wide: bool = False) -> None:
        """Prints what was asked for, for a reader."""
        del plain  # for programs
        if isinstance(show, str):
            self.say(show)
        else:
            self.draw(show, wide=wide)

    def remark(self, plain: Mapping[str, Any], sentences: Sequence[str]) -> None:
        """Prints remarks on stderr."""
        del plain
        for sentence in sentences:
            self.note(sentence)

    def wait_for(self, what: str) -> None:
        """Prints what the next step waits for, on a terminal; elsewhere it is a log line."""
        if self._is_live:
            print(f"{what} …", file=sys.stderr, flush=True)
        else:
            logging.getLogger("tweetcrawler").info("%s", what)

    def waiting(self, what: str) -> contextlib.AbstractContextManager[None]:
        """The same of a step that is mostly short."""
        from tweetcrawler.setup import logged_if_long

        if not self._is_live:
            return logged_if_long(what)
        self.wait_for(what)
        return contextlib.nullcontext()

    def output(self) -> BinaryIO:
        """Standard output."""
        return sys.stdout.buffer

    def display(self, live: Callable[[Console], Any], lines: Callable[[], Any]) -> Any:
        """The picture of a run on a terminal, its log lines elsewhere."""
        return live(_stderr()) if self._is_live else lines()

    def draw(self, show: Callable[[Console], object], *, wide: bool = False) -> None:
        """Prints tables on stdout."""
        from rich.console import Console

        show(Console(width=_WIDE) if wide and not sys.stdout.isatty() else Console())

    def log_handler(self) -> logging.Handler:
        """Log lines between the live picture, or plain ones with their time."""
        if not self._is_live:
            return setup.plain_log_handler()
        from rich.logging import RichHandler

        return RichHandler(
            console=_stderr(), show_path=False, markup=False, log_time_format=_utc_of
        )


class Quiet(Terminal):
    """A terminal that shows answers, and reports only of what did not go well, on stderr."""

    def __init__(self, command: str) -> None:
        super().__init__(command)
        self._is_live = False

    def report(
        self, plain: Mapping[str, Any], show: Show, *, code: int = 0, wide: bool = False
    ) -> None:
        """Prints what was done when a person must know of it."""
        del plain, wide
        if not code:
            return
        if isinstance(show, str):
            self.note(show)
        else:
            show(_stderr())

    def remark(self, plain: Mapping[str, Any], sentences: Sequence[str]) -> None:
        """Says nothing: no remark tells of a fault."""


class ForPrograms(Terminal):
    """A front whose stdout holds JSON only: a line for each report."""

    def __init__(self, command: str) -> None:
        super().__init__(command)
        self._lines: list[str] = []
        self._has_reported = False

    @contextlib.contextmanager
    def answering(self) -> Iterator[Terminal]:
        """The front; an error is a document, too, and so are the lines of other answers."""
        try:
            yield self
        except TweetcrawlerError as error:
            if error.exit_code:
                self._print({"error": str(error)}, error.exit_code)
            raise
        if self._lines or not self._has_reported:
            self._print({"lines": self._lines}, 0)

    def say(self, text: str) -> None:
        """Keeps the lines for the document at the end."""
        self._lines += text.splitlines()

    def output(self) -> BinaryIO:
        """Standard output is taken."""
        raise ConfigurationError("--json needs stdout for itself; name a file for the rows.")

    def draw(self, show: Callable[[Console], object], *, wide: bool = False) -> None:
        """Programs look at no tables."""

    def report(
        self, plain: Mapping[str, Any], show: Show, *, code: int = 0, wide: bool = False
    ) -> None:
        """Prints what was done as a document."""
        del show, wide
        self._has_reported = True
        self._print(plain, code)

    def answer(self, plain: Mapping[str, Any], show: Show, *, wide: bool = False) -> None:
        """Prints what was asked for as a document."""
        self.report(plain, show, wide=wide)

    def remark(self, plain: Mapping[str, Any], sentences: Sequence[str]) -> None:
        """Prints what was done as a document."""
        self.report(plain, "\n".join(sentences))

    def _print(self, plain: Mapping[str, Any], code: int) -> None:
        line = documents.document(self._command, plain, exit_code=code, now=time.time())
        print(line, flush=True)


def _utc_of(moment: datetime) -> Text:
    from rich.text import Text

    return Text(f"{moment.astimezone(UTC):%H:%M:%SZ}")


@functools.cache
def _stderr() -> Console:
    """The one console on stderr: log lines and the live picture make room for each other
    only on the same.
    """
    from rich.console import Console

    return Console(stderr=True)
