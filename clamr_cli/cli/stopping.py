"""Being told to end, or losing the terminal, as an interruption: what is written is kept either way."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interruptible(*more: str, heard: Callable[[], None] | None = None) -> Iterator[None]:
    """In the block, signals that end a process raise KeyboardInterrupt; after it they mean what they meant before.

    Args:
        more: names of further signals than SIGTERM and SIGHUP.
        heard: called before, where what follows takes a while.
    """

    def interrupt(_number: int, _frame: object) -> None:
        if heard is not None:
            heard()
        raise KeyboardInterrupt

    before = {}
    for name in ("SIGTERM", "SIGHUP", *more):
        with contextlib.suppress(AttributeError, ValueError):  # no such signal here, or not the main thread
            number = getattr(signal, name)
            before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
