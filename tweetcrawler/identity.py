"""Names of lease holders, by which other processes see that a holder is gone.

A lease ends by itself after a minute. That of a process that was killed on this machine is
free at once: its name says which process it was, and a process id that is used again has
another start.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

_PROC = Path("/proc")


def new_owner(run: int) -> str:
    """A name for this process as a holder of leases of a run; never used twice."""
    return f"{run}|{_machine()}|{os.getpid()}|{_start_of(os.getpid())}|{uuid.uuid4().hex}"


def is_gone(owner: str | None) -> bool:
    """Whether the process of that name ran on this machine and has ended.

    False when that cannot be told.
    """
    parts = (owner or "").split("|")
    if len(parts) != 5 or not _machine() or parts[1] != _machine() or not parts[2].isdecimal():
        return False
    return _start_of(int(parts[2])) != parts[3]


def _machine() -> str:
    """This boot of this machine and its space of process ids.

    Empty where the system does not tell.
    """
    try:
        # Process ids begin again with each boot, and in each container from 1.
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    # The name of a program stands in brackets and may hold any letter, so the fields are
    # counted from the last bracket on. The start is field 22.
    # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    state, *rest = stat.rpartition(")")[2].split()
    # A zombie keeps its id until its parent asks for it, and does nothing any more.
    return "" if state in "ZX" else rest[18]
