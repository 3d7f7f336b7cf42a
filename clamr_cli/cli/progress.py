"""Long runs: one function follows the events of any run, one screen shows how far it is, on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from clamr_cli.cli.output import can_draw, console, json_line, warn, write
from clamr_cli.cli.signals import interruptible, leave_broken_pipes
from clamr_cli.errors import EXIT_FOUND, EXIT_INTERRUPTED
from clamr_cli.text import escape_terminal, size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

Event = TypeVar("Event")
Item = TypeVar("Item")

INTERVAL = 10.0
"""Seconds between two lines about the same work where no bar can be drawn."""


class Screen:
    """Shows how far something is: bars on a terminal that can draw them, plain lines elsewhere, on stderr.

    Args:
        quiet: show nothing but lines that are shown always.
        bars: whether bars may be drawn; where queries or events go to the same terminal they would be written over.
        interval: seconds between two lines about the same work where no bar can be drawn.
        clock: seconds that only grow.
        target: the Rich console to draw on; by default one on stderr where that is a terminal.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        bars: bool = True,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        target: Console | None = None,
    ) -> None:
        self.quiet, self._interval, self._clock = quiet, interval, clock
        if target is None and bars and not quiet and sys.stderr.isatty():
            target = console(sys.stderr)
        self._console = target if target and bars and not quiet and can_draw(target) else None
        self._stream = target.file if target and not self._console else None
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._first: dict[str, tuple[float, float]] = {}
        self._printed: dict[str, float] = {}
        self._opened = self._last = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def draws(self) -> bool:
        """True if bars are drawn, False if lines are printed."""
        return self._console is not None

    @property
    def silent_for(self) -> float:
        """Seconds since the last line, or since the screen was opened."""
        return self._clock() - self._last

    def line(self, text: str, *, always: bool = False) -> None:
        """A line that stays to be read; ``always`` also with --quiet. Control characters are escaped."""
        if self.quiet and not always:
            return
        self._last = self._clock()
        if self._progress is not None:
            from rich.text import Text

            self._progress.console.print(Text(escape_terminal(text)), soft_wrap=True)
        elif self._stream is not None:
            self._stream.write(f"{escape_terminal(text)}\n")
            self._stream.flush()
        else:
            warn(text)

    def bar(
        self,
        text: str,
        done: float,
        total: float | None,
        *,
        key: str = "",
        left: float | None = None,
        detail: str = "",
        due: bool | None = None,
    ) -> None:
        """Move a bar; where none can be drawn, print ``text`` and the time left now and then.

        Args:
            text: what is done, and how much of it.
            done: how much is done.
            total: how much there is; None where nobody knows.
            key: names the bar, where there are several.
            left: seconds left, where the run knows better than the pace of this bar so far; negative for unknown.
            detail: shown behind the time left as far as the screen has room; on terminals only.
            due: whether it is time for a line; by default when the last one of this bar is long ago.
        """
        if self.quiet:
            return
        now = self._clock()
        began, first = self._first.setdefault(key, (now, done))
        if left is None and total is not None and first < done < total and began < now:
            left = (now - began) / (done - first) * (total - done)
        if self._console is not None:
            self._draw(self._console, key, text, done, total, time_left(left), detail)
            return
        if due is None:
            due = now - self._printed.get(key, began) >= self._interval
        if due:
            self._printed[key] = now
            self.line(", ".join(filter(None, (text, time_left(left)))))

    def _draw(
        self, target: Console, key: str, text: str, done: float, total: float | None, left: str, detail: str
    ) -> None:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        if self._progress is None:
            room = Column(no_wrap=True, overflow="ellipsis", ratio=1)
            self._progress = Progress(
                BarColumn(bar_width=20),
                TextColumn("{task.description}", markup=False),
                TextColumn("{task.fields[left]}", markup=False, style="cyan"),
                TextColumn("{task.fields[detail]}", markup=False, style="dim", table_column=room),
                console=target,
                transient=True,
                expand=True,
            )
            self._progress.start()
        text, detail = escape_terminal(text), escape_terminal(detail)
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(text, total=total, left="", detail="")
        self._progress.update(self._tasks[key], description=text, completed=done, total=total, left=left, detail=detail)


class RunView(ABC, Generic[Event]):
    """View of a run for people and programs; one subclass per kind of run. ``screen`` is there while it goes on."""

    screen: Screen
    interval = INTERVAL
    bars = True

    def start(self) -> None:
        """Called when the screen is open, before the first event."""

    @abstractmethod
    def show(self, event: Event) -> None:
        """Take an event into account and show it on the screen."""

    def record(self, event: Event) -> Mapping[str, object]:
        """The JSON object of an event."""
        return event_record(event)

    def interrupted(self) -> str:
        """The line that says what is kept of an interrupted run, and how to go on."""
        return "interrupted"

    def on_signal(self) -> None:
        """Called at once when a signal comes, before the run ends."""

    @property
    def exit_code(self) -> int:
        """The exit code of a run that came to its end."""
        return EXIT_FOUND


def follow(
    events: Iterator[Event],
    view: RunView[Event],
    *,
    quiet: bool = False,
    json: bool = False,
    received: Sequence[int] = (),
) -> int:
    """Show the events of a run until the last, and return the exit code.

    An interruption closes the iterator, which keeps what is finished, and says how to go on. Output that nobody reads
    any more is an interruption too: the run has not come to its end.

    Args:
        events: of the run.
        view: shows them.
        quiet: no progress.
        json: print each event as a JSON line on stdout.
        received: signals that came already and still come, where the command has its own :func:`interruptible` block.
    """
    with interruptible(view.on_signal) as signals:
        try:
            with Screen(quiet=quiet, bars=view.bars, interval=view.interval) as view.screen:
                view.start()
                for event in events:
                    if signals or received:
                        raise KeyboardInterrupt
                    if json:
                        write([json_line(view.record(event))])
                    view.show(event)
        except (KeyboardInterrupt, BrokenPipeError):
            close(events)
            leave_broken_pipes()
            with contextlib.suppress(BrokenPipeError):
                warn(view.interrupted())
            return EXIT_INTERRUPTED
        finally:
            close(events)
    return view.exit_code


def close(events: Iterator[object]) -> None:
    """End the work behind an iterator at once."""
    with contextlib.suppress(KeyboardInterrupt):
        getattr(events, "close", lambda: None)()


def event_record(event: Any) -> dict[str, object]:  # noqa: ANN401 -- any dataclass
    """An event as a JSON object; its key ``event`` is the event's name in lower case.

    What grows with the number of files (fields without a repr) is left out.
    """
    values = {field.name: getattr(event, field.name) for field in fields(event) if field.repr}
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}
    return {"event": type(event).__name__.lower(), **rounded}


def counted(text: str, items: Iterable[Item], total: int, *, quiet: bool = False) -> Iterator[Item]:
    """The items one after another, with a bar."""
    with Screen(quiet=quiet) as screen:
        for number, item in enumerate(items, 1):
            yield item
            screen.bar(text, number, total)


@contextlib.contextmanager
def steps(*, quiet: bool = False) -> Iterator[Callable[[str, float, float], None]]:
    """Yields a function that is called with what is being done, how much of it is done, and how much there is."""
    with Screen(quiet=quiet) as screen:

        def moved(text: str, done: float, total: float) -> None:
            percent = f": {100 * done / total:.0f} %" if total else ""
            screen.bar(f"{text}{percent}", done, total, key=text, due=None if 0 < done < total else False)

        yield moved


@contextlib.contextmanager
def transfer(name: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Shows a download on a terminal; yields a function that is called with the bytes done and the bytes in all."""
    with Screen(quiet=quiet) as screen:
        began = time.monotonic()

        def moved(done: int, total: int) -> None:
            speed = done / max(time.monotonic() - began, 1e-3)
            screen.bar(f"{name}: {size(done)} of {size(total)}, {size(int(speed))}/s", done, total, due=False)

        yield moved


def time_left(seconds: float | None) -> str:
    """A time left, roughly: ``about 5 min left``; empty where unknown (None or negative)."""
    if seconds is None or seconds < 0:
        return ""
    if seconds < 100:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 6000:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
