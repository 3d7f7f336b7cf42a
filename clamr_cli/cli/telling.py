"""How runs over many videos are told on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from clamr_cli.cli.output import talk, warn
from clamr_cli.render.console import drawable
from clamr_cli.render.progress import about
from clamr_cli.text import escape_terminal, plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self


class Telling(ABC):
    """What is told of a run, whatever it does; its kinds say in :meth:`_doing` what there is beside the count.

    Args:
        videos: how many there are.
        out: the file that is written, with which a run can go on later; None for none.
        interval: seconds between two lines of progress where there is no terminal.
        quiet: no progress and no remarks.
        clock: seconds that only grow.
        alone: whether nothing else is written to the terminal meanwhile; a bar would be written over.
    """

    def __init__(
        self,
        videos: int,
        out: Path | None,
        interval: float,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        alone: bool = True,
    ) -> None:
        self._videos, self._out, self._interval, self._quiet, self._clock = videos, out, interval, quiet, clock
        self._passed = self._worked = 0
        self._started = self._said = clock()
        console = talk()
        self._terminal = drawable(console) and not quiet and alone
        columns = (BarColumn(bar_width=20), TextColumn("{task.fields[count]}", markup=False))
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._terminal)
        self._task = self._bar.add_task("", total=videos, count="")

    def __enter__(self) -> Self:
        self._bar.start()
        self._progress()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def how(self) -> str:
        """How a run that ended early can go on."""
        return "run the same command again to go on" if self._out else "with --out FILE a run can go on later"

    @abstractmethod
    def _doing(self) -> tuple[str, ...]:
        """What the count of videos is followed by; what is empty is left out."""

    def _pass(self, video: int, *, worked: bool) -> None:
        """So many videos are behind the run; ``worked`` says whether the last of them took any work."""
        self._passed = video
        self._worked += worked

    def _remark(self, told: str) -> None:
        if not self._quiet:
            self._say(f"note: {told}")

    def _gave_up(self, failures: int) -> None:
        self._say(f"stopped after {failures} failures in a row; {self.how}")

    def _progress(self) -> None:
        first, *more = filter(None, (*self._doing(), about(self._left())))
        told = ", ".join([f"[{self._passed}/{plural(self._videos, 'video')}] {first}", *more])
        if self._terminal:
            self._bar.update(self._task, completed=self._passed, count=told)
        elif not self._quiet and self._clock() - self._said >= self._interval:
            self._said = self._clock()
            warn(told)

    def _left(self) -> float | None:
        """Seconds that are probably left; None while no video that took work is done."""
        if not self._worked or self._passed >= self._videos:
            return None
        return (self._clock() - self._started) / self._worked * (self._videos - self._passed)

    def _say(self, message: str) -> None:
        if self._terminal:
            self._bar.console.print(Text(escape_terminal(message)), soft_wrap=True)
        else:
            warn(message)
