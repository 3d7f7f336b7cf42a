"""Executors run tasks. A pipeline hands its tasks to an executor and knows nothing else about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

from clamr_cli.errors import EXIT_PARTIAL, ClamrError, MediaError
from clamr_cli.events import Event

Result = TypeVar("Result")
Kind = Literal["decode", "sidecars", "speech", "ocr", "encode"]
"""Kind of work of a task. Tasks of one kind share processes, so that modules and models stay loaded."""


class Reporter(Protocol):
    """Takes the progress of a task: ``done`` of ``total``, and a part of its result where one is ready.

    A task that does not report for a while counts as stalled.
    """

    def __call__(self, done: float, total: float, part: Any = None, /) -> None: ...  # noqa: ANN401


class TaskFailed(MediaError):
    """A task crashed, stalled or broke: the file is at fault or a library is, and the run can go on without it."""

    exit_code = EXIT_PARTIAL


class WorkerLost(ClamrError):
    """The worker that ran a task is gone, with its node or without: it is not known whether the file is at fault.

    The video is worked on again elsewhere; what was stored of it stays.

    Attributes:
        announced: whether the node was to be taken away, so that the file is not at fault.
    """

    def __init__(self, what: str, hint: str = "", *, announced: bool = False) -> None:
        super().__init__(what, hint)
        self.announced = announced


class Folder(str):
    """The path of a working directory, as an argument of a task.

    An executor on another machine brings its files there, and takes back what the task wrote.
    """

    __slots__ = ()


class Executor(Protocol):
    """Runs tasks somewhere: module-level functions with picklable arguments and results.

    An executor survives a task that crashes its process, stalls, or asks for too much memory: that task fails, and the
    next one runs as usual.
    """

    @property
    def is_here(self) -> bool:
        """Whether all tasks run on this machine, and see its files."""
        ...

    def start(self, emit: Callable[[Event], None]) -> None:
        """Begin, in the event loop that runs the tasks; notices about workers go to ``emit``."""
        ...

    async def run(
        self, kind: Kind, task: Callable[..., Result], *args: object, stall_timeout: float, on_report: Reporter
    ) -> Result:
        """Run ``task(report, *args)`` and return its result, as soon as there is room for a task of this kind.

        Cancelling it stops the task at once.

        Args:
            kind: of the task.
            task: a module-level function.
            args: its arguments after the first, to which it reports its progress.
            stall_timeout: seconds without a report after which the task counts as stalled.
            on_report: called here with whatever the task reports.

        Raises:
            WorkerLost: the worker is gone, which only executors on other machines lose.
            TaskFailed: the task crashed or stalled, or raised something other than a ClamrError.
            ClamrError: as the task raised it.
        """
        ...

    def summary(self) -> str:
        """The workers elsewhere and what they are at, for people; empty where there are none."""
        ...

    def stop(self) -> None:
        """Stop all tasks at once and leave no process behind."""
        ...
