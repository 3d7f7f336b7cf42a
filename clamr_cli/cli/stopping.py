"""How long work is ended from outside, so that what is finished is kept."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def stop_on_signals() -> None:
    """Being told to end, or losing the terminal, is an interruption too: what is finished is kept either way."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # no such signal here, or not the main thread
            signal.signal(getattr(signal, name), interrupt)


def close(events: Iterator[object]) -> None:
    """End the work behind an iterator at once."""
    close = getattr(events, "close", None)
    if close is not None:
        with contextlib.suppress(KeyboardInterrupt):
            close()
