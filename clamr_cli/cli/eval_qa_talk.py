"""What ``clamr eval qa`` says while it runs, on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from clamr_cli.cli.output import say, talk
from clamr_cli.evaluate.qa.journal import FAILED
from clamr_cli.evaluate.qa.run import GaveUp, Passed, Remark, Settled
from clamr_cli.events import Notice
from clamr_cli.events import Progress as Step
from clamr_cli.render.preparing import told
from clamr_cli.render.progress import about, line
from clamr_cli.render.text import escape_terminal, plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from clamr_cli.evaluate.qa.run import QaEvent
    from clamr_cli.events import Event

INTERVAL: Final = 10.0
"""Seconds between two lines of progress where there is no terminal."""


class Talk:
    """Shows a run: a bar on a terminal, a line now and then elsewhere; failures at once, each reason of a video once.

    Args:
        videos: how many there are.
        quiet: no progress and no remarks.
        clock: seconds that only grow.
    """

    def __init__(self, videos: int, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._videos, self._quiet, self._clock = videos, quiet, clock
        self.settled = 0
        self.failed = 0
        self._passed = self._worked = 0
        self._doing = ""
        self._told: set[tuple[str, str]] = set()
        self._started = self._said = clock()
        console = talk()
        self._terminal = console.is_terminal and not console.is_dumb_terminal and not quiet
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

    def prepares(self, event: Event) -> None:
        """Take in how far the preparation of the next video is."""
        if isinstance(event, Notice):
            self._say(line(event) or "")
        if isinstance(event, Step):
            self._doing = told(event)
        self._progress()

    def show(self, event: QaEvent) -> None:
        """Count an event, and say what should be read of it."""
        self._doing = ""
        match event:
            case Settled():
                self._settle(event)
            case Passed():
                self._passed = event.video
                self._worked += event.worked
            case Remark():
                if not self._quiet:
                    self._say(f"note: {event.text}")
            case GaveUp():
                self._say(f"stopped after {event.failures} failures in a row; run the same command again to go on")
        self._progress()

    def _settle(self, event: Settled) -> None:
        record = event.record
        self.settled += 1
        if record["outcome"] != FAILED:
            return
        self.failed += 1
        # A video that cannot be read fails for every question and strategy: its reason is read once.
        key = (str(record["video"]), str(record["reason"]))
        if key not in self._told:
            self._told.add(key)
            self._say(f"failed {record['video']}, question {record['id']}: {record['reason']}")

    def _progress(self) -> None:
        count = f"[{self._passed}/{plural(self._videos, 'video')}] {plural(self.settled, 'result')}"
        now = ", ".join(filter(None, (count, self._doing, about(self._left()))))
        if self._terminal:
            self._bar.update(self._task, completed=self._passed, count=now)
        elif not self._quiet and self._clock() - self._said >= INTERVAL:
            self._said = self._clock()
            say(now)

    def _left(self) -> float | None:
        """Seconds that are probably left; None while no video that work was left of is done."""
        if not self._worked or self._passed >= self._videos:
            return None
        return (self._clock() - self._started) / self._worked * (self._videos - self._passed)

    def _say(self, message: str) -> None:
        if self._terminal:
            self._bar.console.print(Text(escape_terminal(message)), soft_wrap=True)
        else:
            say(message)
