"""Work in threads whose results come back in the order of the items, so that they do not depend on timing."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 3
"""Items in work or waiting, as a multiple of the workers: a slow item holds up the next ones, not the threads."""


def map_ordered(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[tuple[T, R]]:
    """Yield each item with the function's result, in the order of the items.

    With one worker the calling thread does everything. Items are drawn in the calling thread, only a little ahead. The
    threads are daemons, unlike those of ThreadPoolExecutor: an interrupted run does not wait for work that hangs.

    Raises:
        BaseException: what the function raised, in place of its result.
    """
    if workers <= 1:
        yield from ((item, function(item)) for item in items)
        return
    tasks: queue.SimpleQueue[tuple[T, Future[R]] | None] = queue.SimpleQueue()

    def work() -> None:
        while (task := tasks.get()) is not None:
            item, future = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(item))
                except BaseException as error:
                    future.set_exception(error)

    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    pending: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            pending.append((item, Future()))
            tasks.put(pending[-1])
            while pending and (len(pending) >= workers * _AHEAD or pending[0][1].done()):
                first, future = pending.popleft()
                yield first, future.result()
        for item, future in pending:
            yield item, future.result()
    finally:
        for _, future in pending:
            future.cancel()
        for _ in range(workers):
            tasks.put(None)
