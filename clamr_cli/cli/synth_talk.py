"""What ``clamr synth`` says while it runs: queries to stdout where no file was named, all else to stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from clamr_cli.cli.output import say, talk, write
from clamr_cli.render.progress import about
from clamr_cli.render.records import json_line
from clamr_cli.render.text import escape_terminal, plural
from clamr_cli.synth import GaveUp, Judged, Outcome, Passed, Remark
from clamr_cli.synth.journal import rejects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from clamr_cli.synth import SynthEvent

INTERVAL: Final = 5.0
"""Seconds between two lines of progress where there is no terminal."""


class Talk:
    """Shows a run: a bar on a terminal, a line now and then elsewhere, and a summary.

    Args:
        videos: how many there are.
        out: where queries are written; None prints them.
        quiet: no progress and no remarks.
        clock: seconds that only grow.
    """

    def __init__(
        self, videos: int, out: Path | None, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._videos, self._out, self._quiet, self._clock = videos, out, quiet, clock
        self._outcomes: Counter[Outcome] = Counter()
        self._dropped: Counter[str] = Counter()
        self._again = 0
        self._passed = 0
        self._asked = 0
        self._started = self._said = clock()
        console = talk()
        # A bar and queries on one terminal would write over each other.
        alone = out is not None or not (sys.stdout is not None and sys.stdout.isatty())
        self._terminal = console.is_terminal and not console.is_dumb_terminal and not quiet and alone
        columns = (BarColumn(bar_width=20), TextColumn("{task.fields[count]}", markup=False))
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._terminal)
        self._task = self._bar.add_task("", total=videos, count="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def written(self) -> str:
        """``1 query`` or ``2 queries``: what was written so far."""
        count = self._outcomes[Outcome.WRITTEN]
        return "1 query" if count == 1 else f"{count} queries"

    @property
    def failed(self) -> int:
        """How many queries failed."""
        return self._outcomes[Outcome.FAILED]

    @property
    def settled(self) -> int:
        """How many queries were asked for, whatever became of them."""
        return sum(count for outcome, count in self._outcomes.items() if outcome is not Outcome.UNSEEN)

    def show(self, event: SynthEvent) -> None:
        """Count an event, and say what should be read of it."""
        match event:
            case Judged():
                self._judged(event)
            case Passed():
                self._passed = event.video
                self._asked += event.asked
            case Remark():
                if not self._quiet:
                    self._say(f"note: {event.text}")
            case GaveUp():
                how = "run the same command again to go on" if self._out else "with --out FILE a run can go on later"
                self._say(f"stopped after {event.failures} failures in a row; {how}")
        self._progress()

    def _judged(self, event: Judged) -> None:
        self._outcomes[event.outcome] += 1
        self._again += event.again
        if event.outcome is Outcome.DROPPED:
            self._dropped[event.why] += 1
        elif event.outcome is Outcome.FAILED:
            self._say(f"failed {event.job.id}: {event.why}")
        elif event.outcome is Outcome.WRITTEN and self._out is None:
            write([json_line(event.record)])

    def _progress(self) -> None:
        count = f"[{self._passed}/{plural(self._videos, 'video')}] {self.written}"
        left = about(self._left())
        told = f"{count}, {left}" if left else count
        if self._terminal:
            self._bar.update(self._task, completed=self._passed, count=told)
        elif not self._quiet and self._clock() - self._said >= INTERVAL:
            self._said = self._clock()
            say(told)

    def _left(self) -> float | None:
        """Seconds that are probably left; None while no video that had to be asked about is done."""
        if not self._asked or self._passed >= self._videos:
            return None
        return (self._clock() - self._started) / self._asked * (self._videos - self._passed)

    def _say(self, message: str) -> None:
        if self._terminal:
            self._bar.console.print(Text(escape_terminal(message)), soft_wrap=True)
        else:
            say(message)

    def summary(self) -> None:
        """The run in one line, and why queries were dropped, the commonest reason first."""
        dropped, failed = self._outcomes[Outcome.DROPPED], self.failed
        parts = [f"{self.written} written", f"{dropped} dropped", f"{failed} failed"]
        told = ", ".join(part for part in parts if not part.startswith("0 ") or part is parts[0])
        where = f"; why is in {rejects(self._out)}" if self._out and (dropped or failed) else ""
        say(told + where)
        for why, count in self._dropped.most_common():
            say(f"dropped {count}: {why}")
        if self._again:
            say(f"asked twice: {self._again}")
