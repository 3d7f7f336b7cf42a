"""Two stages of one file at once: what is said and what is written have nothing to wait for in each other."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

    from clamr_cli.index.outputs import Output

First = TypeVar("First")
Second = TypeVar("Second")
Result = TypeVar("Result")

_POLL = 0.1
"""Seconds after which a thread looks whether anybody still wants its outputs."""

_PATIENCE = 2.0
"""Seconds that the threads get to end what they are at when nobody wants it any more."""


@dataclass(slots=True)
class _Half(Generic[Result]):
    """A stage that runs on a thread of its own, one output at a time."""

    stage: Generator[Output, None, Result]
    inbox: queue.SimpleQueue[tuple[_Half[Result], Output | None]]
    closed: threading.Event
    taken: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    result: Result | None = None
    error: BaseException | None = None

    def drive(self) -> None:
        try:
            while not self.closed.is_set():
                self.inbox.put((self, next(self.stage)))
                # The stage may rely on its last output having been dealt with.
                while not (self.taken.acquire(timeout=_POLL) or self.closed.is_set()):
                    pass
        except StopIteration as end:
            self.result = end.value
        except BaseException as error:
            self.error = error
        # What a stage holds, such as a worker process, is wanted at once; the inbox and its halves keep each other, and
        # with them the stage, alive until the garbage collector comes by.
        self.stage.close()
        self.inbox.put((self, None))


def side_by_side(
    first: Generator[Output, None, First], second: Generator[Output, None, Second]
) -> Generator[Output, None, tuple[First, Second]]:
    """Drive two stages at once and yield the outputs of both as they come.

    Each goes on after an output only when the caller asks for the next one. If one fails, the other is seen to its end
    first, so that nothing it finishes is lost.

    Returns:
        What both return.

    Raises:
        BaseException: the first error of a stage.
    """
    closed = threading.Event()
    inbox: queue.SimpleQueue[tuple[_Half[First | Second], Output | None]] = queue.SimpleQueue()
    halves: list[_Half[First | Second]] = [_Half(first, inbox, closed), _Half(second, inbox, closed)]
    threads = [threading.Thread(target=half.drive, daemon=True) for half in halves]
    for thread in threads:
        thread.start()
    failed: list[BaseException] = []
    try:
        running = len(halves)
        while running:
            half, output = inbox.get()
            if output is None:
                running -= 1
                failed += [half.error] if half.error is not None else []
                continue
            yield output
            half.taken.release()
    finally:
        closed.set()
        for thread in threads:
            thread.join(timeout=_PATIENCE)
    if failed:
        raise failed[0]
    return halves[0].result, halves[1].result  # type: ignore[return-value]
