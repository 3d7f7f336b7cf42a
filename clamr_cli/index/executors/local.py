"""A worker process of this machine.

Decoders and recognisers run in processes of their own: native code that hangs or crashes takes down one task, not the
run, and an interrupted run can stop within a moment whatever the native code is doing. Processes are spawned, never
forked, since LanceDB and OpenMP do not survive a fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from clamr_cli.errors import EXIT_PARTIAL, MORE_MEMORY, ClamrError, MediaError, shortage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import SpawnProcess

T = TypeVar("T")
Reply = tuple[Literal["item"], Any] | tuple[Literal["done"], None] | tuple[Literal["error"], ClamrError]


_MMAP_THRESHOLD = -3
"""The number of that setting in malloc.h."""

_NO_NEW_PRIVILEGES = 38
"""The number of that setting in sys/prctl.h."""

_MEMORY = 6 * 2**30
_MEMORY_OF_CORE = 2**28
"""Address space of a confined process, and more for each core: decoders start threads, whose stacks and heaps count."""

_to_parent: Connection | None = None


def report(item: object) -> None:
    """From inside a task: send an item now, ahead of what the task yields; elsewhere it does nothing.

    For progress out of callbacks, where a generator cannot yield. It also tells that the task is alive.
    """
    if _to_parent is not None:
        _to_parent.send(("item", item))


class TaskFailed(MediaError):
    """A task crashed, hung or broke: the file is at fault or a library is, and the run can go on without it."""

    exit_code = EXIT_PARTIAL


class Worker:
    """A spawned process that runs generator functions one at a time and streams back what they yield.

    The process starts with the first task and is replaced after a crash or a stall, so modules and models that a task
    loads stay loaded for the next one.

    Args:
        name: for messages.
        log: a file that takes what libraries write to stdout and stderr; dropped if None.
        threads: what numeric libraries are told to use; 0 leaves it to them.
        confined: whether the process is kept from what no decoder needs: much memory, dumps of it, and more rights
            than it has. Only Linux can. Not for processes that use a GPU, whose drivers map more than there is.
    """

    def __init__(self, name: str, *, log: Path | None = None, threads: int = 0, confined: bool = False) -> None:
        self.name = name
        self._log = log
        self._threads = threads
        self._confined = confined
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None
        self._busy = threading.Lock()
        self._stopped = threading.Event()

    def run(self, task: Callable[..., Iterator[T]], *args: object, silence: float) -> Iterator[T]:
        """Run ``task(*args)`` in the process and yield what it yields, waiting for a task that is still running.

        Args:
            task: a module-level generator function; it, its arguments and its items must pickle.
            args: its arguments.
            silence: seconds without a word from the task after which it counts as hung.

        Raises:
            TaskFailed: the process died, fell silent, or the task raised something that is no ClamrError.
            ClamrError: as the task raised it.
        """
        with self._busy:
            connection = self._start()
            finished = False
            try:
                connection.send((task, args))
                yield from self._replies(connection, silence)
                finished = True
            except ClamrError:
                finished = self._alive()
                raise
            except (EOFError, OSError) as error:
                raise TaskFailed(f"the {self.name} process {self._last_words()}", self._advice()) from error
            finally:
                if not finished:
                    self.kill()

    def _replies(self, connection: Connection, silence: float) -> Iterator[Any]:
        while True:
            if not connection.poll(silence):
                self.kill()
                raise TaskFailed(
                    f"the {self.name} process said nothing for {silence:.0f} s and was stopped",
                    "the file may be damaged or endless; raise CLAMR_TIME_LIMIT if it is only slow",
                )
            kind, value = connection.recv()
            if kind == "done":
                return
            if kind == "error":
                raise value
            yield value

    def _start(self) -> Connection:
        if self._stopped.is_set():
            raise TaskFailed(f"the {self.name} process was stopped")
        if self._connection is not None and self._alive():
            return self._connection
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(theirs, os.fspath(self._log) if self._log else None, self._threads, self._confined),
            name=self.name,
            daemon=True,
        )
        with _interrupts_held_back(), _tracker_kept_quiet():
            process.start()
        theirs.close()
        # Only now: what has not started cannot be killed by a thread that stops all workers.
        self._process, self._connection = process, ours
        if self._stopped.is_set():
            self.kill()
            raise TaskFailed(f"the {self.name} process was stopped")
        return ours

    def _alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def _last_words(self) -> str:
        if self._process is None:
            return "was stopped"
        self._process.join(timeout=2)
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"crashed ({signal.Signals(-code).name})"
        return f"ended unexpectedly (exit code {code})"

    def _advice(self) -> str:
        """What to do about a process that ended by itself; systems that run out of memory end one with SIGKILL."""
        killed = self._process is not None and self._process.exitcode == -getattr(signal, "SIGKILL", 9)
        return f"not enough memory? {MORE_MEMORY}" if killed else "the file may be damaged"

    def kill(self) -> None:
        """End the process at once; the next task starts a new one."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None:
            process.kill()
            process.join(timeout=2)
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """End the process at once and accept no further task; a task that is running fails in its own thread."""
        self._stopped.set()
        if self._process is not None:
            self._process.kill()
        # Closing a connection that another thread polls would free its number for reuse: let that thread go first.
        if self._busy.acquire(timeout=2):
            self.kill()
            self._busy.release()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C reaches the whole process group; a child inherits the mask and is born deaf to it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _tracker_kept_quiet() -> Iterator[None]:
    """The first spawned process starts a tracker of shared resources, which complains about those of killed ones.

    It frees them all the same, and takes its warning filters from the interpreter that starts it.
    """
    sys.warnoptions.append("ignore:resource_tracker")
    try:
        yield
    finally:
        sys.warnoptions.remove("ignore:resource_tracker")


def _give_memory_back() -> None:
    """Return every large array to the system when it is freed.

    glibc keeps freed blocks of up to 32 MiB for itself once it has seen some, and activations of ever other sizes tear
    that store to pieces: hundreds of MiB in a text recogniser. Other allocators have no such setting.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 4 << 20)


def _confine() -> None:
    """Limit what this process can do if a damaged or hostile file takes it over, or makes it ask for memory."""
    if sys.platform != "linux":
        return
    import resource

    memory = _MEMORY + _MEMORY_OF_CORE * (os.cpu_count() or 1)
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, memory)):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _serve(connection: Connection, log: str | None, threads: int, confined: bool) -> None:
    """The child's main loop."""
    global _to_parent
    _to_parent = connection
    if confined:
        _confine()
    if threads:
        # Libraries look when they are imported, which the first task does. Several processes that each take all cores
        # wait for each other's threads more than they compute.
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _give_memory_back()
    _silence(log)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            task, args = connection.recv()
        except (EOFError, OSError):
            return
        try:
            for item in task(*args):
                connection.send(("item", item))
            connection.send(("done", None))
        except ClamrError as error:
            connection.send(("error", error))
        except BaseException as error:
            # Panics of Rust libraries are no Exception.
            traceback.print_exc()
            told = shortage(error) or (_one_line(error), "see `clamr doctor` for what is installed")
            connection.send(("error", TaskFailed(*told)))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _silence(log: str | None) -> None:
    """Libraries may print; stdout belongs to the data and stderr to the progress display."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its children, so they watch it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
