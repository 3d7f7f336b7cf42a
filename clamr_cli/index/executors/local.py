"""Worker processes of this machine.

Decoders and recognisers run in processes of their own: native code that hangs or crashes takes down one task, not the
run, and an interrupted run can stop within a moment whatever the native code is doing. Processes are spawned, never
forked, since LanceDB and OpenMP do not survive a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from clamr_cli.errors import MORE_MEMORY, ClamrError, shortage
from clamr_cli.events import Event
from clamr_cli.index.executors import Kind, Reporter, Result, TaskFailed

_NAMES: Final[dict[Kind, str]] = {
    "decode": "decoding",
    "sidecars": "sidecar reading",
    "speech": "speech recognition",
    "ocr": "text recognition",
    "encode": "encoding",
}
_CONFINED: Final = ("decode", "sidecars")
_TOGETHER: Final[dict[Kind, Kind]] = {"sidecars": "decode", "encode": "ocr"}

_KEEP_MEMORY: Final = ((-4, 0), (-1, -1), (-8, 1))
"""Settings of malloc.h: M_MMAP_MAX, no block has a mapping of its own; M_TRIM_THRESHOLD, nothing is given back;
M_ARENA_MAX, threads share one store."""

_LARGE: Final = 1.5 * 2**30
"""Bytes of memory from which a process gives back after a task what is free."""

_NO_NEW_PRIVILEGES: Final = 38
"""The number of that setting in sys/prctl.h."""

_MEMORY: Final = 6 * 2**30
_MEMORY_OF_CORE: Final = 2**28
"""Address space of a confined process, and more for each core: decoders start threads, whose stacks and heaps count."""


def ignore(done: float, total: float, part: Any = None, /) -> None:  # noqa: ANN401
    """Take no notice of a report."""


class LocalExecutor:
    """Runs tasks in worker processes, one for each kind of task and some ``encoders``. See :class:`Executor`.

    On a single core text is read and documents are encoded in one process, which loads torch once, and sidecars are
    read where files are decoded.

    ``log`` and ``threads`` are for each :class:`Worker`.
    """

    def __init__(self, log: Path, threads: int, *, encoders: int = 1, single_core: bool = False) -> None:
        self._workers: list[Worker] = []
        self._idle: dict[Kind, asyncio.Queue[Worker]] = {}
        for kind, name in _NAMES.items():
            if single_core and kind in _TOGETHER:
                self._idle[kind] = self._idle[_TOGETHER[kind]]
                continue
            if single_core:
                name = " and ".join([name, *(_NAMES[other] for other, place in _TOGETHER.items() if place == kind)])
            self._idle[kind] = asyncio.Queue()
            for _ in range(encoders if kind == "encode" else 1):
                worker = Worker(name, log=log, threads=threads, confined=kind in _CONFINED)
                self._workers.append(worker)
                self._idle[kind].put_nowait(worker)

    @property
    def is_here(self) -> bool:
        return True

    def start(self, emit: Callable[[Event], None]) -> None:
        """Nothing: processes start with their first task."""

    def summary(self) -> str:
        return ""

    async def run(
        self, kind: Kind, task: Callable[..., Result], *args: object, stall_timeout: float, on_report: Reporter = ignore
    ) -> Result:
        worker = await self._idle[kind].get()
        try:
            return await worker.run(task, *args, stall_timeout=stall_timeout, on_report=on_report)
        finally:
            self._idle[kind].put_nowait(worker)

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop()


class Worker:
    """A spawned process that runs one task at a time.

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
        self._arguments = (os.fspath(log) if log else None, threads, confined)
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    async def run(
        self, task: Callable[..., Result], *args: object, stall_timeout: float, on_report: Reporter = ignore
    ) -> Result:
        """Run a task, see :meth:`Executor.run`. Where it does not end with an answer, the process is ended."""
        if self._connection is None or self._process is None or not self._process.is_alive():
            self._start()
        assert self._connection is not None
        connection, kind = self._connection, ""
        try:
            connection.send((task, args))
            while kind != "answer":
                if not await _readable(connection, stall_timeout):
                    raise TaskFailed(
                        f"the {self.name} process said nothing for {stall_timeout:.0f} s and was stopped",
                        "the file may be damaged or endless; raise CLAMR_TIME_LIMIT if it is only slow",
                    )
                kind, value = connection.recv()
                if kind == "report":
                    on_report(*value)
        except (EOFError, OSError) as error:
            raise TaskFailed(*self._last_words()) from error
        finally:
            if kind != "answer":
                self.stop()
        if isinstance(value, ClamrError):
            raise value
        return value  # type: ignore[no-any-return]

    def stop(self) -> None:
        """End the process at once; the next task starts a new one."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None:
            process.kill()
            process.join(timeout=2)
        if connection is not None:
            connection.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._arguments), name=self.name, daemon=True)
        # The first process starts a tracker of shared resources too, which complains about those of killed processes.
        # It frees them all the same, and takes its warning filters from the interpreter that starts it.
        sys.warnoptions.append("ignore:resource_tracker")
        # Ctrl-C reaches the whole process group; a child inherits the mask and is born deaf to it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else ()
        try:
            self._process.start()
        finally:
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            sys.warnoptions.remove("ignore:resource_tracker")
        theirs.close()

    def _last_words(self) -> tuple[str, str]:
        """Reason why a process ended by itself, and a hint."""
        if self._process is None:
            return f"the {self.name} process was stopped", ""
        self._process.join(timeout=2)
        code, hint = self._process.exitcode, "the file may be damaged"
        ending = f"ended unexpectedly (exit code {code})"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                ending = f"crashed ({signal.Signals(-code).name})"
            if -code == getattr(signal, "SIGKILL", 9):
                # Systems that run out of memory end a process so.
                hint = f"not enough memory? {MORE_MEMORY}"
        return f"the {self.name} process {ending}", hint


async def _readable(connection: Connection, timeout: float) -> bool:
    """Wait until there is something to receive; False if there is nothing by then."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    number = connection.fileno()
    try:
        loop.add_reader(number, lambda: None if ready.done() else ready.set_result(None))
    except NotImplementedError:  # Windows cannot wait for pipes.
        end = loop.time() + timeout
        while not connection.poll() and loop.time() < end:
            await asyncio.sleep(0.02)
        return connection.poll()
    try:
        await asyncio.wait([ready], timeout=timeout)
    finally:
        loop.remove_reader(number)
    return ready.done()


# --- in the worker process --------------------------------------------------------------------------------------------


def _serve(connection: Connection, log: str | None, threads: int, confined: bool) -> None:
    """Run tasks until the parent ends."""
    if confined:
        _confine()
    if threads:
        # Libraries look when they are imported, which the first task does. Several processes that each take all cores
        # wait for each other's threads more than they compute.
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not confined:
        # Modules by the thousand are imported, which would be looked through for garbage again and again meanwhile.
        # Decoders keep it: frames in cycles hold threads of their scalers until they are found.
        gc.set_threshold(10_000)
    # Activations of hundreds of MB are allocated and freed for each picture and window of sound. glibc gives large
    # blocks back to the system, which clears every page anew: up to a third of the processor time. Other allocators
    # have no such settings.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        for setting, value in _KEEP_MEMORY:
            ctypes.CDLL(None).mallopt(setting, value)
    # Libraries may print; stdout belongs to the data and stderr to the progress display.
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def report(done: float, total: float, part: Any = None, /) -> None:  # noqa: ANN401
        connection.send(("report", (done, total, part)))

    while True:
        try:
            task, args = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = task(report, *args)
        except ClamrError as error:
            answer = error
        except BaseException as error:
            # Panics of Rust libraries are no Exception.
            traceback.print_exc()
            text = " ".join(str(error).split())[:300]
            name = type(error).__name__
            line = f"{name}: {text}" if text else name
            answer = TaskFailed(*(shortage(error) or (line, "see `clamr doctor` for what is installed")))
        connection.send(("answer", answer))
        _shrink()


def _shrink() -> None:
    """Give back what is free where a process became large, or blocks of ever other sizes would make it grow on."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        resident = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident > _LARGE:
            ctypes.CDLL(None).malloc_trim(0)


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


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its children, so they watch it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
