"""Signs of life while something takes long: a spinner where the end is unknown, else a bar with the time left."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from clamr_cli.render.console import drawable, text
from clamr_cli.render.progress import about
from clamr_cli.text import escape_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

_EVERY: Final = 10.0
"""Seconds between two lines of progress where there is no terminal."""


@contextmanager
def waiting(console: Console, doing: str, *, quiet: bool = False) -> Iterator[None]:
    """Shows what is being waited for, for the time of a block."""
    if quiet or not drawable(console):
        yield
        return
    with console.status(text(doing)):
        yield


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str, float, float], None]]:
    """Shows progress on stderr: a bar with the time left on a terminal, now and then a line elsewhere.

    What it gives is called with what is done, how much of it is done, and how much there is.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console.file).moved
        return
    layout = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*layout, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        doing = ""

        def moved(what: str, done: float, total: float) -> None:
            nonlocal doing
            if what != doing:
                doing = what
                progress.reset(task, description=escape_terminal(what), total=total)
            progress.update(task, completed=done, total=total)

        yield moved


class Lines:
    """A line every few seconds, with the time left."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._doing = ""
        self._began = self._said = clock()

    def moved(self, what: str, done: float, total: float) -> None:
        """Take progress into account, and print it if the last time is long ago."""
        now = self._clock()
        if what != self._doing:
            self._doing, self._began, self._said = what, now, now
        if now - self._said < _EVERY or not 0 < done < total:
            return
        self._said = now
        left = about((now - self._began) / done * (total - done))
        self._stream.write(f"{escape_terminal(what)}: {100 * done / total:.0f} %, {left}\n")
        self._stream.flush()
