"""Being told to end, or losing the terminal, as an interruption: what is written is kept either way."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def interruptible(heard: Callable[[], None] | None = None) -> Iterator[Sequence[int]]:
    """In the block, signals that end a process raise KeyboardInterrupt; after it they mean what they meant before.

    What the process was started to ignore stays ignored: ``nohup`` and jobs in the background of a script rely on it.

    Args:
        heard: called before, where what follows takes a while.

    Yields:
        The signals that came, which grows; an exception alone can get lost in what a library calls back.
    """
    told: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        told.append(number)
        if heard is not None:
            heard()
        raise KeyboardInterrupt

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # no such signal here, or not the main thread
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, interrupt)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
