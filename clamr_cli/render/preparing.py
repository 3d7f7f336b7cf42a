"""The preparation of one video as people see it: how far each stage is and the time left, on stderr."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from clamr_cli.events import Notice
from clamr_cli.events import Progress as Step
from clamr_cli.render.console import drawable
from clamr_cli.render.progress import Drawn, QuietReporter, about, line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clamr_cli.events import Event
    from clamr_cli.render.progress import Reporter

Item = TypeVar("Item")

_DOING: Final = {
    "decode": "reading the video",
    "sample": "taking candidate frames",
    "speech": "hearing what is said",
    "ocr": "reading what is written",
    "encode": "encoding the frames",
}
_EVERY: Final = 10.0
"""Seconds between two lines about the same stage."""


@dataclass(slots=True)
class Stages:
    """When each stage began and how far it is. Knows no clock: times are given to it, in seconds."""

    began: dict[str, tuple[float, float]] = field(default_factory=dict)

    def left(self, step: Step, now: float) -> float | None:
        """Seconds that a stage will probably still take, None while that is unknown and when it is over."""
        start, first = self.began.setdefault(step.stage, (now, step.done))
        gone = step.done - first
        if gone <= 0 or now <= start or step.done >= step.total:
            return None
        return (now - start) / gone * (step.total - step.done)


def told(step: Step) -> str:
    """What is being done, and how much of it is done."""
    return f"{_DOING[step.stage]}: {_percent(step):.0f} %"


def _percent(step: Step) -> float:
    return min(100.0, 100.0 * step.done / step.total) if step.total > 0 else 100.0


class LinesReporter(QuietReporter):
    """A line when a stage begins, and another every few seconds: for logs and pipes."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._stages = Stages()
        self._told: dict[str, float] = {}

    def show(self, event: Event) -> None:
        """Print a line where it is time for one."""
        if isinstance(event, Notice):
            self._write(line(event) or "")
        if not isinstance(event, Step):
            return
        now = self._clock()
        left = self._stages.left(event, now)
        if now - self._told.get(event.stage, -_EVERY) < _EVERY:
            return
        self._told[event.stage] = now
        rest = f", {about(left)}" if left is not None else ""
        self._write(f"{told(event)}{rest}")

    def _write(self, said: str) -> None:
        self._stream.write(f"{said}\n")
        self._stream.flush()


class BarsReporter(Drawn):
    """A bar for each stage that has begun, with the time left; notices stay above them."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(
            console,
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TextColumn("{task.fields[left]}", markup=False, style="cyan"),
        )
        self._clock = clock
        self._stages = Stages()
        self._tasks: dict[str, TaskID] = {}

    def show(self, event: Event) -> None:
        """Move a bar, or print what should stay to be read."""
        if isinstance(event, Notice):
            self._say(line(event))
        if not isinstance(event, Step):
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._progress.add_task(_DOING[event.stage], total=100.0, left="")
        left = about(self._stages.left(event, self._clock()))
        self._progress.update(self._tasks[event.stage], completed=_percent(event), left=left)


def preparing(console: Console, *, quiet: bool) -> Reporter:
    """The reporter that fits the stream: quiet, bars on a terminal that can draw them, plain lines elsewhere."""
    if quiet:
        return QuietReporter(console.file)
    if drawable(console):
        return BarsReporter(console)
    return LinesReporter(console.file)


def counted(console: Console, doing: str, items: Iterable[Item], total: int, *, quiet: bool) -> Iterator[Item]:
    """The items one after another, with a bar on a terminal that can draw one."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not drawable(console)) as progress:
        task = progress.add_task(doing, total=total)
        for item in items:
            yield item
            progress.advance(task)
