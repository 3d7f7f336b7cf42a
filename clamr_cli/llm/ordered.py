"""Work in threads whose results come back in the order of the work, so that they do not depend on who is quicker."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 3
"""Items in work or waiting, as a multiple of the threads: a slow item holds the next ones up, not the threads."""


class _Slot(Generic[T, R]):
    """An item, and its result once it is there."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.done = threading.Event()
        self.result: R
        self.error: BaseException | None = None


def in_order(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[tuple[T, R]]:
    """Each item with what the function makes of it, in the order of the items.

    With one worker all is done in the calling thread. Items are taken, in the calling thread, only a little ahead. The
    threads are daemons: whoever stops listening does not wait for work that hangs.

    Raises:
        BaseException: what the function raised, in place of its result.
    """
    if workers <= 1:
        yield from ((item, function(item)) for item in items)
        return
    todo: queue.SimpleQueue[_Slot[T, R] | None] = queue.SimpleQueue()
    for _ in range(workers):
        threading.Thread(target=_work, args=(function, todo), daemon=True).start()
    waiting: deque[_Slot[T, R]] = deque()
    try:
        for item in items:
            slot: _Slot[T, R] = _Slot(item)
            waiting.append(slot)
            todo.put(slot)
            while waiting and (len(waiting) >= workers * _AHEAD or waiting[0].done.is_set()):
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        _drop(todo)
        for _ in range(workers):
            todo.put(None)


def _work(function: Callable[[Any], Any], todo: queue.SimpleQueue[Any]) -> None:
    while (slot := todo.get()) is not None:
        try:
            slot.result = function(slot.item)
        except BaseException as error:
            slot.error = error  # raised again by whoever takes the result
        slot.done.set()


def _result(slot: _Slot[T, R]) -> tuple[T, R]:
    # A wait without limit would not let Ctrl-C through on every system.
    while not slot.done.wait(0.5):
        pass
    if slot.error is not None:
        raise slot.error
    return slot.item, slot.result


def _drop(todo: queue.SimpleQueue[Any]) -> None:
    while True:
        try:
            todo.get_nowait()
        except queue.Empty:
            return
