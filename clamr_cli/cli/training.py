"""A training run as people see it: a bar with the time left on a terminal, now and then a line elsewhere, on stderr."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from clamr_cli.cli.progress import time_left as about
from clamr_cli.text import escape_terminal
from clamr_cli.train.options import Evaluated, Trained, TrainNote, TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import Console

    from clamr_cli.train.options import TrainEvent

_LINES: Final = 20
"""Lines of a whole run, where there is no bar."""

_SMOOTHING: Final = 0.9


@dataclass(slots=True)
class Course:
    """Where a run is: its loss, smoothed, and the time left. Knows no clock: times are given to it, in seconds."""

    first: TrainStep | None = None
    started: float = 0.0
    loss: float = 0.0
    weight: float = field(default=0.0)

    def take(self, step: TrainStep, now: float) -> None:
        """Take a step into account that ended now."""
        if self.first is None:
            self.first, self.started = step, now
        self.weight = _SMOOTHING * self.weight + 1.0 - _SMOOTHING
        self.loss += (step.loss - self.loss) * (1.0 - _SMOOTHING) / self.weight

    def left(self, step: TrainStep, now: float) -> float | None:
        """Seconds that are probably left, None while that is unknown and when nothing is."""
        if self.first is None or step.step <= self.first.step or step.step >= step.total:
            return None
        return (now - self.started) / (step.step - self.first.step) * (step.total - step.step)


def line(event: TrainEvent) -> str:
    """An event that is no step, in one line."""
    match event:
        case Evaluated():
            return f"step {event.step}: loss of the development queries {event.loss:.4f}"
        case TrainNote():
            return escape_terminal(event.text)
        case Trained():
            numbers = ", ".join(f"{name} {value:g}" for name, value in event.metrics.items())
            return f"trained {escape_terminal(str(event.path))}" + (f" ({numbers})" if numbers else "")
        case _:
            return f"step {event.step}/{event.total}: loss {event.loss:.4f}"


class TrainingReporter:
    """Shows events as they come.

    Args:
        console: on stderr.
        quiet: say only how it ended.
        clock: seconds that only go up.
    """

    def __init__(self, console: Console, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._quiet, self._clock = console, quiet, clock
        self._course = Course()
        self._said = 0
        drawable = console.is_terminal and not console.is_dumb_terminal and not quiet
        columns = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("count", "loss", "left")]
        self._bar = Progress(BarColumn(bar_width=20), *columns, console=console, transient=True) if drawable else None
        self._task = self._bar.add_task("", total=None, count="getting ready", loss="", left="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, event: TrainEvent) -> None:
        """Take an event into account and show it."""
        if isinstance(event, TrainStep):
            now = self._clock()
            self._course.take(event, now)
            self._step(event, about(self._course.left(event, now)))
        elif not self._quiet or isinstance(event, Trained):
            self._print(line(event))

    def _step(self, step: TrainStep, left: str) -> None:
        loss = f"loss {self._course.loss:.4f}"
        if self._bar is not None and self._task is not None:
            count = f"step {step.step}/{step.total}"
            self._bar.update(self._task, total=step.total, completed=step.step, count=count, loss=loss, left=left)
        elif not self._quiet and (step.step * _LINES // step.total > self._said or step.step == step.total):
            self._said = step.step * _LINES // step.total
            self._print(", ".join(part for part in (f"step {step.step}/{step.total}: {loss}", left) if part))

    def _print(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)
