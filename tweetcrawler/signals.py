"""Ctrl-C and SIGTERM as exceptions that unwind what is under way, without a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeAlias

from tweetcrawler import scratch

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT

# Until a signal that was lost in a callback is sent again; callbacks take less.
_AGAIN_S = 0.01

Handler: TypeAlias = Callable[[int, FrameType | None], None]


class Terminated(KeyboardInterrupt):
    """SIGTERM. Of this kind, since psycopg then cancels the query that it waits for."""


@contextlib.contextmanager
def unwinding(*, then: Handler | None = None) -> Iterator[None]:
    """Both signals unwind the block: Ctrl-C as KeyboardInterrupt, SIGTERM as `Terminated`.

    After it they have `then` as their handler, or those of before.
    """
    before = {
        # asyncio replaces Python's own handler, and no other.
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, _terminate),
    }
    hook, sys.unraisablehook = sys.unraisablehook, _unraisable
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, then or handler)
        sys.unraisablehook = hook


def end_at_once(number: int, _frame: FrameType | None) -> None:
    """A handler for a program that has nothing left to do: ends it, and leaves no folder."""
    scratch.remove()
    os._exit(128 + number)


def code_of(error: BaseException) -> int | None:
    """The exit code of a signal that led to an error; None for an error of another cause.

    Until Python 3.12 what is raised while a class is made comes out of it as a RuntimeError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return TERMINATED if isinstance(cause, Terminated) else INTERRUPTED
        cause = cause.__cause__
    return None


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _unraisable(refused: sys.UnraisableHookArgs) -> None:
    """Sends a signal again that came where Python lets no exception out: in a callback of an
    import or of the garbage collector. Python would complain of it and go on.
    """
    if isinstance(refused.exc_value, KeyboardInterrupt):
        is_term = isinstance(refused.exc_value, Terminated)
        number = signal.SIGTERM if is_term else signal.SIGINT
        # Not from here, which is still inside of that callback.
        again = threading.Timer(_AGAIN_S, os.kill, [os.getpid(), number])
        again.daemon = True
        again.start()
        return
    sys.__unraisablehook__(refused)
