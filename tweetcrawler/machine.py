"""Room on this machine: free memory, the memory of a process, idle cores; as Linux tells them.

Elsewhere the answer is None, which means that nobody knows.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """The bytes that processes may still take, of the machine or of this container."""
    free = _kilobytes(Path("/proc/meminfo"), "MemAvailable:")
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        room = int(limit) - int(used)
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return free
    return room if free is None else min(free, room)


def memory_of(pid: int) -> int | None:
    """The bytes of a process, with its share of what it shares with others (PSS)."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


class Cores:
    """The share of this machine's cores that was idle since it was last asked."""

    def __init__(self) -> None:
        self._before = _ticks()

    def idle(self) -> float | None:
        """From 0 to 1; None when nobody knows."""
        before, self._before = self._before, _ticks()
        if before is None or self._before is None:
            return None
        idle, passed = (now - then for now, then in zip(self._before, before, strict=True))
        return idle / passed if passed > 0 else None


def _ticks() -> tuple[int, int] | None:
    """Ticks of all cores since the start of the machine: idle ones, and all."""
    try:
        with Path("/proc/stat").open() as file:
            ticks = [int(word) for word in file.readline().split()[1:]]
        # https://man7.org/linux/man-pages/man5/proc_stat.5.html: user nice system idle iowait …
        return ticks[3] + ticks[4], sum(ticks[:8])
    except (OSError, ValueError, IndexError):
        return None


def _kilobytes(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(name))
    return next((int(kilobytes) * 1024 for kilobytes in found), None)


def cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
