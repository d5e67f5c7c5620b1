"""Lines on stderr as the journal of systemd wants them: it has the time, and takes a priority."""

from __future__ import annotations

import logging
import os
import sys
import time

# https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def is_stderr() -> bool:
    """Whether stderr leads to the journal."""
    # A child may have sent its stderr elsewhere, so systemd tells which file it means:
    # https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#%24JOURNAL_STREAM
    told = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def line(text: str, level: int = logging.ERROR) -> str:
    """The text as it goes to stderr: in the journal, each of its lines with its priority."""
    if not is_stderr():
        return text
    mark = f"<{_PRIORITIES.get(level, 6)}>"
    return "\n".join(mark + each for each in text.split("\n"))


class Formatter(logging.Formatter):
    """Log lines: with their time in UTC, or in the journal with their priority."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        self._in_journal = is_stderr()
        own = "%(message)s" if self._in_journal else "%(asctime)s %(levelname)s %(message)s"
        super().__init__(own)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return line(text, record.levelno) if self._in_journal else text
