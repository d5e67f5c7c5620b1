"""Worker processes: started, given one task at a time, replaced when they die, ended
without orphans.

Each worker has a pipe of its own. A worker that is killed is seen at once as the end of its
pipe and costs nobody else anything; a parent that is killed is seen the same way by its
workers, which then end by themselves. Only plain values pass: tasks, news while a task
runs, and its result.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pkgutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Literal

Tell = Callable[[Any], None]
Handler = Callable[[Any], Any]

# After its parent died a worker may finish its page for this long.
ORPHAN_S = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """What a worker did: "news" while its task runs, its "result", or it "died" holding the
    task.
    """

    worker: int
    kind: Literal["news", "result", "died"]
    value: Any


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Any = None
    busy: bool = False


class Pool:
    """`size` worker processes; `start(number, stopping, tell, argument)` makes the handler
    of tasks of each.

    `start` is named as "module:function": only the workers load it. `argument` and all
    tasks and results must be plain values. In the worker `stopping()` turns true when the
    pool wants it to end soon. With `farewell` the handler gets None once no more tasks will
    come. No process of the pool leaves a core file, nor does the one that makes it.
    """

    def __init__(self, start: str, argument: Any, *, size: int, farewell: bool = False) -> None:
        _no_core_file()
        self._context = multiprocessing.get_context(_method())
        self._start = start
        self._argument = argument
        self._farewell = farewell
        self._workers = [self._spawn(number) for number in range(size)]

    @property
    def idle(self) -> Iterator[int]:
        """The workers without a task."""
        return (number for number, worker in enumerate(self._workers) if not worker.busy)

    @property
    def busy(self) -> int:
        """How many workers hold a task."""
        return sum(worker.busy for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.process.pid or 0 for worker in self._workers]

    def give(self, number: int, task: Any) -> None:
        """Hands a task to an idle worker."""
        worker = self._workers[number]
        worker.task, worker.busy = task, True
        with contextlib.suppress(OSError):  # a dead worker is reported by `events`
            worker.pipe.send(task)

    def events(self, timeout_s: float) -> list[Event]:
        """What happened meanwhile; waits up to `timeout_s` for something to happen."""
        by_pipe = {worker.pipe: number for number, worker in enumerate(self._workers)}
        happened = []
        for pipe in wait(list(by_pipe), timeout_s):
            number = by_pipe[pipe]  # type: ignore[index] # `wait` gives what it was given
            event = self._receive(number)
            if event is not None:
                happened.append(event)
        return happened

    def stop(self) -> None:
        """Asks all workers to end their task at the next good moment."""
        for worker in self._workers:
            if worker.process.pid is not None and worker.process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends all workers at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join(2.0)
            worker.pipe.close()

    def close(self) -> None:
        """Ends the idle workers in peace, and whoever does not go with `kill`."""
        for worker in self._workers:
            if not worker.busy:
                worker.pipe.close()
        ends_at = time.monotonic() + 1.0
        for worker in self._workers:
            worker.process.join(max(0.0, ends_at - time.monotonic()))
        self.kill()

    def _spawn(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(  # type: ignore[attr-defined] # every concrete context has it
            target=_serve,
            args=(theirs, number, self._start, self._argument, self._farewell),
            name=f"tweetcrawler-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _receive(self, number: int) -> Event | None:
        worker = self._workers[number]
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5.0)
            worker.pipe.close()
            self._workers[number] = self._spawn(number)
            return Event(number, "died", worker.task) if worker.busy else None
        if kind == "result":
            worker.task, worker.busy = None, False
        return Event(number, kind, value)


def prepare(modules: Sequence[str]) -> None:
    """Starts loading the modules that the workers of the next pool need, once for all of
    them, and returns at once.

    Who says so early has it done on another core, beside its own work. A module that is not
    there is left out.
    """
    if _method() != "forkserver":
        return
    _no_core_file()
    forkserver.set_forkserver_preload(list(modules))
    # It ignores Ctrl-C only once it has loaded them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ToParent(logging.Handler):
    """Log lines of a worker: the parent writes them, so that they do not run into its display."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(("log", record.name, record.levelno, record.getMessage()))


def log_to_parent(tell: Tell, level: str) -> None:
    """For workers: from now on log lines become news, `("log", logger, level, text)`."""
    root = logging.getLogger()
    root.handlers[:] = [_ToParent(tell)]
    root.setLevel(level.upper())


def _method() -> str:
    """Named explicitly: plain fork copies threads' locks, and macOS' frameworks do not
    survive it.
    """
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else "spawn"


class _Stop:
    """Set by a signal or by the death of the parent."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def _serve(pipe: Connection, number: int, start: str, argument: Any, farewell: bool) -> None:
    stop = _Stop()
    # Ctrl-C goes to the whole terminal; only the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop.on_signal)
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()

    def tell(news: Any) -> None:
        with contextlib.suppress(OSError):
            pipe.send(("news", news))

    handle: Handler = pkgutil.resolve_name(start)(number, stop, tell, argument)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            if farewell:
                handle(None)
            return
        try:
            result = handle(task)
        except MemoryError:
            log.error("this process has no memory left")  # noqa: TRY400 - where that showed says nothing
            os._exit(1)
        except Exception:  # noqa: BLE001 - it ends this process, whatever it is
            # Through the log, which takes secrets out, and not by way of Python's own last
            # words.
            log.error("this process fails\n%s", traceback.format_exc())  # noqa: TRY400 - the log goes through a pipe
            os._exit(1)
        try:
            pipe.send(("result", result))
        except OSError:
            return


def _no_core_file() -> None:
    """A core file would hold what the memory holds, secrets among it; children inherit this."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _end_with_parent(stop: _Stop) -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    stop.asked = True
    time.sleep(ORPHAN_S)
    os._exit(1)  # whatever it hangs in, nobody waits for it any more
