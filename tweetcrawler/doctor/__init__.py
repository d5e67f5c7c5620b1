"""Checks of everything that a run needs, each in a line and in bounded time, none bought.

The checks ask at the same time: the machine and its files, the database, each credential.
One that does not end in time is a finding of its own, so a server that hangs holds up nobody.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tweetcrawler.errors import ConfigurationError, TweetcrawlerError

OK, NOTE, WARNING, FAULT = "ok", "note", "warning", "fault"
# Longest time for all checks together; a request to X has less, see `keys`.
PATIENCE_S = 20.0
_AT_ONCE = 8


@dataclass(frozen=True)
class Finding:
    """The result of one check. `exit_code` is that of a run that meets this fault."""

    check: str
    state: str
    sentence: str
    exit_code: int = 0


def fault(check: str, sentence: str, exit_code: int) -> Finding:
    """A finding that keeps a run from its work."""
    return Finding(check, FAULT, sentence, exit_code)


@dataclass(frozen=True)
class Check:
    """One check, or several that follow from one look. `exit_code` is for one that fails."""

    name: str
    look: Callable[[], Iterable[Finding]]
    exit_code: int


def examined(checks: Sequence[Check], *, patience_s: float = PATIENCE_S) -> Iterator[Finding]:
    """The findings of all checks, in their order, each as soon as it is there."""
    ends_at = time.monotonic() + patience_s
    turns = threading.BoundedSemaphore(_AT_ONCE)
    answers = [_begun(check, turns) for check in checks]
    for check, answer in zip(checks, answers, strict=True):
        yield from _answered(check, answer, ends_at, patience_s)


def exit_code(findings: Iterable[Finding]) -> int:
    """The exit code of all findings: that of the first thing to put right."""
    # Settings first, then the database, then keys: each needs the one before it.
    return min((each.exit_code for each in findings if each.exit_code), default=0)


_Answer = queue.SimpleQueue[list[Finding] | BaseException]


def _begun(check: Check, turns: threading.BoundedSemaphore) -> _Answer:
    answer: _Answer = queue.SimpleQueue()

    def look() -> None:
        with turns:
            try:
                answer.put(list(check.look()))
            except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
                answer.put(error)

    # A daemon: a server that hangs must not keep the program from its end.
    threading.Thread(target=look, daemon=True, name=check.name).start()
    return answer


def _answered(
    check: Check, answer: _Answer, ends_at: float, patience_s: float
) -> Iterable[Finding]:
    try:
        found = answer.get(timeout=max(0.01, ends_at - time.monotonic()))
    except queue.Empty:
        late = f"no answer within {patience_s:.0f} s: look at the server and the network"
        return [fault(check.name, late, check.exit_code)]
    if isinstance(found, TweetcrawlerError):
        code = found.exit_code if isinstance(found, ConfigurationError) else check.exit_code
        return [fault(check.name, str(found), code)]
    if isinstance(found, BaseException):
        raise found
    return found
