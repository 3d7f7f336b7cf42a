"""A few threads that drive jobs side by side, and hand every output to the caller's thread."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clamr_cli.index.outputs import Commit, Keep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.index.job import Job
    from clamr_cli.index.outputs import Output

_POLL = 0.1
"""Seconds after which a wait looks up, so that an interrupt is seen on every platform."""


class Stop(threading.Event):
    """Ends the threads that work for a run, and knows them."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def wait_for_all(self, patience: float) -> None:
        """Wait until all threads have ended, for some seconds at most.

        One that comes out of native code while the interpreter goes down would abort the process.
        """
        until = time.monotonic() + patience
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(timeout=max(0.0, until - time.monotonic()))


@dataclass(slots=True)
class _Message:
    """An output of a job, or the error that ended it; ``handled`` is set when the caller is done with it."""

    job: Job
    content: Output | BaseException
    handled: threading.Event = field(default_factory=threading.Event)


class _Hand(threading.Thread):
    """Drives one job after another."""

    def __init__(self, pending: queue.SimpleQueue[Job], inbox: queue.SimpleQueue[_Message], stopping: Stop) -> None:
        super().__init__(daemon=True)
        self.pending, self.inbox, self.stopping = pending, inbox, stopping

    def run(self) -> None:
        """Until nothing is pending, or the run stops."""
        while not self.stopping.is_set():
            try:
                job = self.pending.get_nowait()
            except queue.Empty:
                return
            try:
                for output in job.run():
                    self._post(_Message(job, output))
                    if self.stopping.is_set():
                        return
            except BaseException as error:
                self._post(_Message(job, error))

    def _post(self, message: _Message) -> None:
        self.inbox.put(message)
        if isinstance(message.content, Keep | Commit):
            # What comes next may rely on this having been written.
            while not (message.handled.wait(_POLL) or self.stopping.is_set()):
                pass


def outputs(jobs: Sequence[Job], *, hands: int, stopping: Stop) -> Iterator[tuple[Job, Output | BaseException]]:
    """Run jobs on ``hands`` threads and yield what each gives, or the error that ended it, as it comes.

    A job goes on after a :class:`Keep` or a :class:`Commit` only when the caller asks for the next output, which is
    when it has been written. ``stopping`` ends the threads after the output they are at.
    """
    pending: queue.SimpleQueue[Job] = queue.SimpleQueue()
    inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
    for job in jobs:
        pending.put(job)
    crew = [_Hand(pending, inbox, stopping) for _ in range(min(hands, len(jobs)))]
    for hand in crew:
        hand.start()
        stopping.threads.append(hand)
    while any(hand.is_alive() for hand in crew) or not inbox.empty():
        try:
            message = inbox.get(timeout=_POLL)
        except queue.Empty:
            continue
        yield message.job, message.content
        message.handled.set()
    for hand in crew:
        hand.join()
