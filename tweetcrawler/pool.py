"""Worker processes on `concurrent.futures.ProcessPoolExecutor`: fed one chunk at a time,
replaced when they die, ended without orphans.

Each worker is an executor of one process, so that a process which dies breaks no other's
work. Process n prefers credential n of the auth CSV. What a worker tells comes through a
pipe of its own: news while a task runs, then the result. Only plain values pass.
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
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Literal

from tweetcrawler import machine
from tweetcrawler.errors import ConfigurationError
from tweetcrawler.news import LogLine

Tell = Callable[[Any], None]
Handler = Callable[[Any], Any]
Start = Callable[[int, Callable[[], bool], Tell, Any], Handler]

# After its parent died a worker may finish its page for this long.
ORPHAN_S = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """An act of a worker: it told "news", gave its "result", or "died" holding its `task`."""

    worker: int
    kind: Literal["news", "result", "died"]
    value: Any
    task: Any = None


@dataclass
class _Worker:
    executor: ProcessPoolExecutor
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
        _need_semaphores(self._context)
        self._start = start
        self._argument = argument
        self._farewell = farewell
        self._workers = [self._new_worker(number) for number in range(size)]

    @property
    def size(self) -> int:
        """The number of workers."""
        return len(self._workers)

    @property
    def idle(self) -> Iterator[int]:
        """The workers without a task."""
        return (number for number, worker in enumerate(self._workers) if not worker.busy)

    @property
    def busy(self) -> int:
        """The number of workers that hold a task."""
        return sum(worker.busy for worker in self._workers)

    def grow(self, count: int) -> None:
        """Adds workers."""
        numbers = range(self.size, self.size + count)
        self._workers.extend(self._new_worker(number) for number in numbers)

    def memory_of_one(self) -> int | None:
        """The bytes of one worker with its share of what all have in common."""
        return machine.memory_of(self._workers[0].process.pid or 0)

    def give(self, number: int, task: Any) -> None:
        """Hands a task to an idle worker."""
        worker = self._workers[number]
        worker.task, worker.busy = task, True
        with contextlib.suppress(BrokenProcessPool):  # a dead worker is reported by `listen`
            # One at a time: `Executor.map` would take all tasks of a list first (Python 3.14
            # can bound it), which for a million handles are 2 GB.
            worker.executor.submit(_do, task)

    def listen(self, timeout_s: float, take: Callable[[Event], None]) -> None:
        """Hands on the events since the last time; waits up to `timeout_s` for one."""
        by_pipe = {worker.pipe: number for number, worker in enumerate(self._workers)}
        for pipe in wait(list(by_pipe), timeout_s):
            number = by_pipe[pipe]  # type: ignore[index] # `wait` gives what it was given
            event = self._receive(number)
            if event is not None:
                take(event)

    def stop(self) -> None:
        """Asks all workers to end their task at the next good moment."""
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()

    def kill(self) -> None:
        """Ends all workers at once."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            # A dead process breaks its executor, whose thread then ends, too.
            worker.executor.shutdown(cancel_futures=True)
            worker.process.join(2.0)
            worker.pipe.close()

    def close(self) -> None:
        """Ends the idle workers in order, and those that do not end soon with `kill`."""
        for worker in self._workers:
            if not worker.busy:
                with contextlib.suppress(BrokenProcessPool):
                    worker.executor.submit(_say_farewell)
                worker.executor.shutdown(wait=False)
        ends_at = time.monotonic() + 1.0
        for worker in self._workers:
            worker.process.join(max(0.0, ends_at - time.monotonic()))
        self.kill()

    def _new_worker(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe(duplex=False)
        begins_with = (theirs, number, self._start, self._argument, self._farewell)
        executor = ProcessPoolExecutor(
            1, mp_context=self._context, initializer=_begin, initargs=begins_with
        )
        # An executor starts its process with its first task, and this one shall not wait for it.
        # It has its own answers to signals only once it has begun.
        with _held_back_signals():
            executor.submit(os.getpid)
        # Until Python 3.14 an executor has no public way to kill what it started.
        [process] = executor._processes.values()
        theirs.close()
        return _Worker(executor, process, ours)

    def _receive(self, number: int) -> Event | None:
        worker = self._workers[number]
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace(number)
        task = worker.task
        if kind == "result":
            worker.task, worker.busy = None, False
        return Event(number, kind, value, task)

    def _replace(self, number: int) -> Event | None:
        """A new worker for one that died; its pipe ends with it, as its executor does."""
        dead = self._workers[number]
        dead.executor.shutdown()
        dead.pipe.close()
        self._workers[number] = self._new_worker(number)
        return Event(number, "died", None, dead.task) if dead.busy else None


class Here:
    """One worker in this very process, for work that no other process can do.

    It has the interface of a `Pool`. A task runs while somebody listens; `stopping()` is
    asked by the task.
    """

    size = 1

    def __init__(self, start: Start, argument: Any, *, stopping: Callable[[], bool]) -> None:
        self._take: Callable[[Event], None] = lambda _: None
        self._handle = start(0, stopping, self._tell, argument)
        self._tasks: list[Any] = []

    @property
    def idle(self) -> Sequence[int]:
        """The worker, while it has no task."""
        return [] if self._tasks else [0]

    @property
    def busy(self) -> int:
        """The number of workers that hold a task."""
        return len(self._tasks)

    def give(self, _number: int, task: Any) -> None:
        """Hands over a task."""
        self._tasks.append(task)

    def listen(self, timeout_s: float, take: Callable[[Event], None]) -> None:
        """Does the task, and hands on its news as they come."""
        if not self._tasks:
            time.sleep(timeout_s)
            return
        self._take = take
        result = self._handle(self._tasks[0])
        take(Event(0, "result", result, self._tasks.pop()))

    def stop(self) -> None:
        """Nothing: the task asks by itself."""

    def kill(self) -> None:
        """Nothing: no task is under way now."""

    def close(self) -> None:
        """Tells the handler that no more tasks will come."""
        self._handle(None)

    def _tell(self, news: Any) -> None:
        self._take(Event(0, "news", news))


def prepare(modules: Sequence[str]) -> None:
    """Starts loading the modules that the workers of the next pool need, once for all of
    them, and returns at once.

    Who says so early has it done on another core, beside its own work. A module that is not
    there is left out.
    """
    if _method() != "forkserver":
        return
    _no_core_file()
    # Workers forked from a process that has loaded the modules are ready in half the time.
    forkserver.set_forkserver_preload(list(modules))
    # It ignores Ctrl-C only once it has loaded them, and SIGTERM would always end it.
    with _held_back_signals():
        forkserver.ensure_running()


@contextlib.contextmanager
def _held_back_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block ends, and for good in a process that is begun
    in it: terminals and service managers send them to all processes of a program.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # It is begun with the first other process, and lets signals through again when it is.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _need_semaphores(context: BaseContext) -> None:
    """Errors: ConfigurationError on a machine where no process can wait for another."""
    try:
        context.Lock()
    except (ImportError, OSError) as error:
        raise ConfigurationError(
            f"worker processes need semaphores, and this machine gives none ({error}): mount a "
            "writable /dev/shm, such as with --tmpfs /dev/shm of docker"
        ) from None


class _ToParent(logging.Handler):
    """Log lines of a worker: the parent writes them, so that they do not run into its display."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:

        self._tell(LogLine(record.name, record.levelno, record.getMessage()))


def log_to_parent(tell: Tell, level: str) -> None:
    """For workers: from now on log lines become news."""
    root = logging.getLogger()
    root.handlers[:] = [_ToParent(tell)]
    root.setLevel(level.upper())


def _method() -> str:
    """Named explicitly: plain fork copies threads' locks, and macOS' frameworks do not
    survive it.
    """
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else "spawn"


class _Serving:
    """One worker process: its handler of tasks, and the moments at which it ends."""

    def __init__(
        self, pipe: Connection, number: int, start: str, argument: Any, farewell: bool
    ) -> None:
        self._pipe = pipe
        self._asked_to_stop = False
        self._at_work = threading.Lock()
        # Ctrl-C goes to the whole terminal; only the parent decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_signal)
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        threading.Thread(target=self._end_with_parent, daemon=True).start()
        with _failure_ends_it():
            made: Handler = pkgutil.resolve_name(start)(number, self.stopping, self.tell, argument)
        self._handle = made
        self._farewell = farewell

    def stopping(self) -> bool:
        """Whether the task shall end at the next good moment."""
        return self._asked_to_stop

    def tell(self, news: Any) -> None:
        """Gives news to the parent."""
        with contextlib.suppress(OSError):
            self._pipe.send(("news", news))

    def do(self, task: Any) -> None:
        """Does a task.

        Its result takes the pipe, too, and not the executor's queue: it comes after its
        news, and a process that is killed in the middle of it leaves nobody reading on.
        """
        with self._at_work, _failure_ends_it():
            result = self._handle(task)
            with contextlib.suppress(BrokenPipeError):  # the parent is gone
                self._pipe.send(("result", result))

    def say_farewell(self) -> None:
        """Tells the handler, if it wants to know, that no more tasks will come."""
        if self._farewell:
            with self._at_work, _failure_ends_it():
                self._handle(None)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def _end_with_parent(self) -> None:
        """An executor's process would wait for its next task for ever."""
        parent = multiprocessing.parent_process()
        if parent is None:
            return
        wait([parent.sentinel])
        self._asked_to_stop = True
        # Nobody waits for it now, wherever it hangs.
        late = threading.Timer(ORPHAN_S, os._exit, [1])
        late.daemon = True
        late.start()
        self.say_farewell()
        os._exit(1)


_serving: _Serving | None = None


def _begin(pipe: Connection, number: int, start: str, argument: Any, farewell: bool) -> None:
    global _serving  # an executor's tasks know their process by nothing else
    _serving = _Serving(pipe, number, start, argument, farewell)


def _do(task: Any) -> None:
    assert _serving is not None  # noqa: S101 - the executor began with `_begin`
    _serving.do(task)


def _say_farewell() -> None:
    assert _serving is not None  # noqa: S101 - see above
    _serving.say_farewell()


@contextlib.contextmanager
def _failure_ends_it() -> Iterator[None]:
    """Ends this process if its handler fails, whatever the failure is."""
    try:
        yield
    except MemoryError:
        # Without its traceback, since the place where it showed says nothing.
        log.error("this process has no memory left")  # noqa: TRY400
        os._exit(1)
    except Exception:  # noqa: BLE001 - it ends this process, whatever it is
        # Through the log, which takes secrets out, and not by way of Python's own last
        # words. As text, since the log goes through a pipe.
        log.error("this process fails\n%s", traceback.format_exc())  # noqa: TRY400
        os._exit(1)


def _no_core_file() -> None:
    """A core file would hold what the memory holds, secrets among it; children inherit this."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
