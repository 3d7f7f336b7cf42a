"""Workers of a Ray cluster.

A worker of the cluster is an actor that has what one machine has: a process for each kind of task
(:class:`clamr_cli.index.executors.local.LocalExecutor`), so a stall, a crash or a shortage of memory costs one task
here too. What a task reports and returns comes back as a stream. The process that commits to the index is the driver,
and nothing else writes to it.

Where a worker does not see the driver's working directories, their files travel: what a task wrote goes to the driver,
and what a task reads goes to the worker, unless it has that already. So a worker can be lost at any moment, and with it
the tasks that it was at; whatever had been done stays done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from clamr_cli.cluster import BACK_WITHIN, SAME_PATHS, STARTED_WITHIN, Cluster
from clamr_cli.errors import ClamrError, ModelError, Unreachable, first_line
from clamr_cli.events import Event, Notice
from clamr_cli.files import TEMPORARY_PREFIX
from clamr_cli.index.executors import Folder, Kind, Reporter, Result, TaskFailed, WorkerLost
from clamr_cli.index.executors.local import LocalExecutor, ignore
from clamr_cli.index.workdir import sweep, work_area
from clamr_cli.text import plural
from clamr_cli.types import RayOptions
from clamr_cli.weights import locate

_REPORT_EVERY: Final = 1.0
"""Seconds between two reports of a task that are sent to the driver; those with a part of the result all are."""

_PIECE: Final = 8 << 20
"""Bytes of files that travel at once."""

_KEPT: Final = 8
"""Copies of working directories that a worker keeps."""

_AGAIN: Final = 1.0

_Files = list[tuple[str, int, bytes]]
"""Parts of files: the name in its folder, the offset, and the bytes."""


class RayExecutor:
    """Runs tasks on the workers of a Ray cluster. See :class:`clamr_cli.index.executors.Executor`.

    Args:
        options: of the cluster.
        cache: the cache folder, here and on the nodes.
        threads: what numeric libraries of each worker's processes are told to use.
        shared: whether workers see the driver's working directories; None looks.

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: no cluster is there, or none with these resources.
    """

    def __init__(self, options: RayOptions, cache: Path, threads: int, *, shared: bool | None = None) -> None:
        self._cluster = Cluster(options)
        self._ray, self.count = self._cluster.ray, self._cluster.count
        self._shared = shared
        self._emit: Callable[[Event], None] = lambda _: None
        self._watching: list[asyncio.Task[None]] = []
        wanted = {"num_cpus": self._cluster.cpus, "num_gpus": self._cluster.gpus}
        remote = self._ray.remote(**wanted, max_restarts=-1)(ClusterWorker)
        spread = remote.options(scheduling_strategy="SPREAD", max_concurrency=1000)
        alone = self._cluster.cpus <= 1
        self._workers = [
            _Handle(number, spread.remote(os.fspath(cache), threads, single_core=alone))
            for number in range(1, self.count + 1)
        ]

    @property
    def is_here(self) -> bool:
        return False

    def start(self, emit: Callable[[Event], None]) -> None:
        """Wait for the workers as they come; notices about them go to ``emit``."""
        self._emit = emit
        emit(Notice("", f"waiting for {plural(self.count, 'worker')} of the cluster"))
        self._watching = [asyncio.create_task(self._wait_for(worker)) for worker in self._workers]
        self._changed = asyncio.Event()

    async def run(
        self, kind: Kind, task: Callable[..., Result], *args: object, stall_timeout: float, on_report: Reporter = ignore
    ) -> Result:
        """Run a task on the worker that has least to do, see :meth:`Executor.run`.

        Raises:
            WorkerLost: the worker's process, or its node, is gone; the task may be run again.
        """
        folder = next((argument for argument in args if isinstance(argument, Folder)), None)
        worker = await self._choose(kind, folder)
        worker.running[kind] += 1
        stream: Any = None
        try:
            shared = True
            if folder is not None:
                shared = await self._bring(worker, folder)
            stream = worker.actor.run.options(num_returns="streaming").remote(kind, task, args, stall_timeout, shared)
            async for reference in stream:
                what, value = await reference
                if what == "report":
                    on_report(*value)
                elif what == "files" and folder is not None:
                    _write(Path(folder), value)
                elif what == "error" and isinstance(value, Unreachable) and os.path.exists(str(args[0])):
                    raise Unreachable(f"{value.what} on node {worker.node}", SAME_PATHS)
                elif what == "error":
                    raise value
                elif what == "answer":
                    return value  # type: ignore[no-any-return]
            raise TaskFailed("the worker ended a task without an answer", "this is a defect of clamr")
        except self._ray.exceptions.RayTaskError as error:
            raise TaskFailed(f"the worker failed: {first_line(error.cause)}", "see the logs of Ray") from error
        except self._ray.exceptions.RayError as error:
            announced = worker.place in self._cluster.draining()
            self._lose(worker)
            raise WorkerLost(f"worker {worker.number} on node {worker.node} was lost", announced=announced) from error
        except asyncio.CancelledError:
            if stream is not None:
                with contextlib.suppress(Exception):
                    self._ray.cancel(stream)
            raise
        finally:
            worker.running[kind] -= 1

    def summary(self) -> str:
        running: Counter[Kind] = Counter()
        for worker in self._workers:
            running.update(worker.running)
        tasks = ", ".join(f"{kind} {count}" for kind, count in sorted(running.items()) if count)
        return f"{self._there()}{': ' if tasks else ''}{tasks}"

    def stop(self) -> None:
        """End all workers at once, and the connection to the cluster where this executor made it."""
        for watching in self._watching:
            watching.cancel()
        for worker in self._workers:
            with contextlib.suppress(Exception):
                self._ray.kill(worker.actor)
        self._workers = []
        self._cluster.close()

    # --- workers ------------------------------------------------------------------------------------------------------

    async def _wait_for(self, worker: _Handle) -> None:
        """Note when a worker is there, however often it was lost before."""
        while True:
            try:
                worker.node, worker.place = await worker.actor.node.remote()
            except self._ray.exceptions.RayError:
                await asyncio.sleep(_AGAIN)
                continue
            except RuntimeError:  # the connection is closed
                return
            break
        worker.up = True
        if worker.losses or all(each.up for each in self._workers):
            self._emit(Notice("", self._there()))
        self._changed.set()

    def _there(self) -> str:
        up = [worker for worker in self._workers if worker.up]
        return f"{len(up)} of {plural(self.count, 'worker')} on {plural(len({worker.place for worker in up}), 'node')}"

    def _lose(self, worker: _Handle) -> None:
        """Note that a worker is gone, once, and wait until Ray has started it again somewhere."""
        if worker.up:
            worker.up, worker.losses = False, worker.losses + 1
            worker.folders.clear()
            worker.sees.clear()
            self._emit(Notice("", f"worker {worker.number} on node {worker.node} was lost; its work is done again"))
            self._watching.append(asyncio.create_task(self._wait_for(worker)))

    async def _choose(self, kind: Kind, folder: Folder | None) -> _Handle:
        """The worker with the fewest tasks of a kind, of those one that has the folder; waits until one is there."""
        limit = time.monotonic() + (BACK_WITHIN if any(worker.losses for worker in self._workers) else STARTED_WITHIN)
        while not (up := [worker for worker in self._workers if worker.up]):
            self._changed.clear()
            left = limit - time.monotonic()
            if left <= 0:
                raise ClamrError(
                    f"no worker of the cluster is there: {self._cluster.no_room()}",
                    "see ray status; ask for less with --gpus-per-worker or cpus_per_worker of [executors.ray]",
                )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, _AGAIN))
        # What runs on a node that is to be taken away may end there; nothing new begins there.
        draining = self._cluster.draining()
        up = [worker for worker in up if worker.place not in draining] or up
        return min(up, key=lambda worker: (worker.running[kind], folder not in worker.folders, worker.running.total()))

    async def _bring(self, worker: _Handle, folder: Folder) -> bool:
        """Have a worker see what is in a working directory; whether it sees the very directory."""
        place = Path(folder)
        parent = place.parent
        if parent not in worker.sees:
            worker.sees[parent] = bool(self._shared)
            if self._shared is None:
                with tempfile.NamedTemporaryFile(dir=parent, prefix=TEMPORARY_PREFIX) as file:
                    worker.sees[parent] = await worker.actor.sees.remote(file.name)
        if worker.sees[parent]:
            worker.folders.add(folder)
            return True
        if not await worker.actor.has.remote(place.name):
            for files in _read(place, {}):
                await worker.actor.put.remote(place.name, files)
            await worker.actor.keep.remote(place.name)
        worker.folders.add(folder)
        return False


class _Handle:
    """A worker as the driver knows it."""

    def __init__(self, number: int, actor: Any) -> None:  # noqa: ANN401 -- a handle of Ray
        self.number, self.actor = number, actor
        self.node = self.place = ""
        self.up = False
        self.losses = 0
        self.running: Counter[Kind] = Counter()
        self.folders: set[Folder] = set()
        self.sees: dict[Path, bool] = {}  # whether it sees a folder of the driver's machine


def _read(folder: Path, before: dict[str, tuple[int, int]]) -> Iterator[_Files]:
    """The files of a folder that are not as before, in pieces; what marks a directory as complete comes last."""
    pieces: _Files = []
    total = 0
    for name, stamp in sorted(_stamps(folder).items(), key=lambda item: (item[0].endswith(".json"), item[0])):
        if before.get(name) == stamp:
            continue
        with (folder / name).open("rb") as file:
            offset = 0
            while (piece := file.read(_PIECE)) or not offset:
                pieces.append((name, offset, piece))
                offset += len(piece)
                total += len(piece)
                if total >= _PIECE:
                    yield pieces
                    pieces, total = [], 0
                if not piece:
                    break
    if pieces:
        yield pieces


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file of a folder, by its name in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): ((s := path.stat()).st_size, s.st_mtime_ns) for path in files}


def _write(folder: Path, files: _Files) -> None:
    """Write pieces of files."""
    for name, offset, piece in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(piece)


# --- in the worker ----------------------------------------------------------------------------------------------------


class ClusterWorker:
    """A worker of the cluster: the processes of one machine. It is an actor of Ray and knows of nothing but tasks."""

    def __init__(self, cache: str, threads: int, *, single_core: bool = False) -> None:
        # Ray's own script is no module that the processes of tasks should run, too.
        sys.modules["__main__"].__dict__.pop("__file__", None)
        folder, self._cache = Path(cache) / "cluster", Path(cache)
        self._stack = contextlib.ExitStack()
        self._area = self._stack.enter_context(work_area(folder))
        sweep(self._area)
        self._local = LocalExecutor(folder / "workers.log", threads, single_core=single_core)
        self._complete: OrderedDict[str, None] = OrderedDict()
        self._used: Counter[str] = Counter()

    async def node(self) -> tuple[str, str]:
        """The name of the machine, and the id of the node."""
        import ray

        return socket.gethostname(), str(ray.get_runtime_context().get_node_id())

    async def sees(self, path: str) -> bool:
        """Whether a file of the driver is here."""
        return os.path.exists(path)

    async def has(self, name: str) -> bool:
        """Whether a copy of a working directory is here."""
        return name in self._complete

    async def put(self, name: str, files: _Files) -> None:
        """Write files of a copy."""
        await asyncio.to_thread(_write, self._area / name, files)

    async def keep(self, name: str) -> None:
        """Note that a copy is here, and remove the oldest that no task uses."""
        self._complete[name] = None
        self._complete.move_to_end(name)
        for old in [one for one in self._complete if not self._used[one] and one != name][
            : len(self._complete) - _KEPT
        ]:
            del self._complete[old]
            shutil.rmtree(self._area / old, ignore_errors=True)

    async def run(
        self, kind: Kind, task: Callable[..., Any], args: tuple[Any, ...], stall_timeout: float, shared: bool
    ) -> AsyncGenerator[tuple[Literal["report", "files", "answer", "error"], Any], None]:
        """Run a task; yields what it reports, the files that it wrote, and its answer or its error.

        ``shared`` says that working directories are seen here where they are.
        """
        name = next((Path(one).name for one in args if isinstance(one, Folder)), "") if not shared else ""
        args = (
            args
            if not name
            else tuple(os.fspath(self._area / name) if isinstance(one, Folder) else one for one in args)
        )
        args = await asyncio.to_thread(lambda: tuple(map(self._here, args)))
        before = _stamps(self._area / name) if name else {}
        self._used[name] += 1
        try:
            async with contextlib.aclosing(self._reports(kind, task, args, stall_timeout)) as reports:
                async for item in reports:
                    if item[0] == "answer" and name:
                        for files in _read(self._area / name, before):
                            yield "files", files
                        await self.keep(name)
                    yield item
        finally:
            self._used[name] -= 1

    def _here(self, value: object) -> object:
        """An argument of a task; weights that the driver put together in its cache folder are made here, too."""
        if isinstance(value, Path) and value.parent == self._cache:
            with contextlib.suppress(ModelError):
                return locate(value.name, self._cache)
        return value

    async def _reports(
        self, kind: Kind, task: Callable[..., Any], args: tuple[Any, ...], stall_timeout: float
    ) -> AsyncGenerator[tuple[Literal["report", "answer", "error"], Any], None]:
        queue: asyncio.Queue[tuple[float, float, Any] | None] = asyncio.Queue()
        sent = time.monotonic()

        def report(done: float, total: float, part: Any = None, /) -> None:  # noqa: ANN401
            nonlocal sent
            if part is not None or time.monotonic() - sent >= _REPORT_EVERY:
                sent = time.monotonic()
                queue.put_nowait((done, total, part))

        work = asyncio.create_task(self._local.run(kind, task, *args, stall_timeout=stall_timeout, on_report=report))
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (item := await queue.get()) is not None:
                yield "report", item
            try:
                answer = await work
            except ClamrError as error:
                yield "error", error
            else:
                yield "answer", answer
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
