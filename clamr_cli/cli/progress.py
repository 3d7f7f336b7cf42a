"""Long runs: one function follows the events of any run, one screen shows how far it is, on stderr."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from clamr_cli.cli.output import can_draw, console, is_quiet, leave_broken_pipes, warn, write
from clamr_cli.errors import EXIT_FOUND, EXIT_INTERRUPTED, EXIT_PARTIAL
from clamr_cli.events import (
    PREPARING,
    Event,
    Finished,
    GaveUp,
    Indexed,
    Moved,
    Notice,
    Offline,
    Progress,
    Removed,
    Skipped,
    VideoDone,
)
from clamr_cli.index.estimate import USUAL, Estimate
from clamr_cli.records import json_line
from clamr_cli.text import command_line, escape_terminal, format_time, plural, shorten, size

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from clamr_cli.frames import Prepared

AnyEvent = TypeVar("AnyEvent")
Item = TypeVar("Item")

_BAR_WIDTH: Final = 20
_FRAMES_PER_SECOND: Final = 8

INTERVAL = 10.0
"""Seconds between two lines about the same work where no bar can be drawn."""


@contextlib.contextmanager
def interruptible(on_signal: Callable[[], None] | None = None) -> Iterator[Sequence[int]]:
    """In the block, signals that end a process raise KeyboardInterrupt; after it they mean what they meant before.

    What the process was started to ignore stays ignored: ``nohup`` and jobs in the background of a script rely on it.
    ``on_signal`` is called before the exception is raised. Yields the signals received, which grows; an exception alone
    can get lost in what a library calls back.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        if on_signal is not None:
            on_signal()
        raise KeyboardInterrupt

    previous = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # no such signal here, or not the main thread
            number = getattr(signal, name)
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@dataclass(frozen=True, slots=True)
class _Bar:
    text: str
    done: float
    total: float | None
    left: str
    detail: str


class Screen:
    """Shows how far something is: bars on a terminal that can draw them, plain lines elsewhere, on stderr.

    With ``quiet`` only lines that are shown always. ``bars`` is False where queries or events go to the same terminal,
    which bars would write over. ``interval`` is the time between two lines about the same work. ``target`` is by
    default stderr, where that is a terminal.
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
        quiet = quiet or is_quiet()
        self.quiet, self._interval, self._clock = quiet, interval, clock
        if target is None and bars and not quiet and sys.stderr.isatty():
            target = console(sys.stderr)
        self._console = target if target and bars and not quiet and can_draw(target) else None
        self._stream = target.file if target and not self._console else None
        self._live: Live | None = None
        self._bars: dict[str, _Bar] = {}
        self._rows: Sequence[str] = ()
        self._opened = clock()
        self._first: dict[str, tuple[float, float]] = {}
        self._printed: dict[str, float] = {}
        self._last = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def draws(self) -> bool:
        """True if bars are drawn, False if lines are printed."""
        return self._console is not None

    @property
    def now(self) -> float:
        """This moment, in seconds of the screen's clock."""
        return self._clock()

    @property
    def silent_for(self) -> float:
        """Seconds since the last line, or since the screen was opened."""
        return self._clock() - self._last

    def line(self, text: str, *, always: bool = False) -> None:
        """A line that stays to be read; ``always`` also with --quiet. Control characters are escaped."""
        if self.quiet and not always:
            return
        self._last = self._clock()
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(escape_terminal(text)), soft_wrap=True)
        elif self._stream is not None:
            self._stream.write(f"{escape_terminal(text)}\n")
            self._stream.flush()
        else:
            warn(text, always=always)

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

        ``key`` names the bar, where there are several. ``left`` are the seconds left, where the run knows better than
        the pace of this bar so far; negative for unknown. ``detail`` is shown behind the time left on terminals.
        ``due`` says that it is time for a line, by default when the last one of this bar is long ago.
        """
        if self.quiet:
            return
        now = self._clock()
        began, first = self._first.setdefault(key, (now, done))
        if left is None and total is not None and first < done < total and began < now:
            left = (now - began) / (done - first) * (total - done)
        if self._console is None:
            if now - self._printed.get(key, began) >= self._interval if due is None else due:
                self._printed[key] = now
                self.line(", ".join(filter(None, (text, time_left(left)))))
            return
        self._bars[key] = _Bar(escape_terminal(text), done, total, time_left(left), escape_terminal(detail))
        self._show()

    def rows(self, texts: Sequence[str]) -> None:
        """Show what is in work below the bars, a line each, where bars can be drawn."""
        self._rows = [escape_terminal(text) for text in texts]
        if self._console is not None and not self.quiet:
            self._show()

    def _show(self) -> None:
        """Draw anew; the spinners and the time go on by themselves."""
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._drawing,
                console=self._console,
                transient=True,
                refresh_per_second=_FRAMES_PER_SECOND,
            )
            self._live.start()
        self._live.refresh()

    def _drawing(self) -> Text:
        from rich.text import Text

        console, now = self._console, self._clock()
        assert console is not None
        is_utf, has_colour = console.encoding.startswith("utf"), not console.no_color and bool(console.color_system)
        line, spinner = ("━", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏") if is_utf else ("-", "|/-\\")
        spin = spinner[int(time.monotonic() * _FRAMES_PER_SECOND) % len(spinner)]
        lines = []
        for bar in self._bars.values():
            part = 0.0 if not bar.total else min(1.0, max(0.0, bar.done / bar.total))
            full = round(_BAR_WIDTH * part)
            drawn = Text(line * full, "green" if part == 1.0 else "magenta")
            drawn.append((line if has_colour else " ") * (_BAR_WIDTH - full), "dim")
            if bar.total is None:
                drawn = Text(spin, "magenta")
            drawn.append(f" {bar.text}", "default")
            if (elapsed := now - self._opened) >= 1.0:
                drawn.append(f" {format_time(elapsed)}", "dim")
            drawn.append(f" {bar.left}" if bar.left else "", "cyan")
            drawn.append(f" {bar.detail}" if bar.detail else "", "dim")
            lines.append(drawn)
        lines += [Text(f"{spin} {row}") for row in self._rows]
        for each in lines:
            each.truncate(console.width, overflow="ellipsis")
        return Text("\n", no_wrap=True, overflow="crop").join(lines)


class RunView(ABC, Generic[AnyEvent]):
    """View of a run for people and programs; one subclass per kind of run. ``screen`` is there while it goes on."""

    screen: Screen
    interval = INTERVAL
    bars = True
    must_be_read = False
    """True if a run whose output nobody reads any more counts as interrupted."""

    def start(self) -> None:
        """Called when the screen is open, before the first event."""

    @abstractmethod
    def show(self, event: AnyEvent) -> None:
        """Take an event into account and show it on the screen."""

    def record(self, event: AnyEvent) -> Mapping[str, object]:
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


class LlmRunView(RunView[Any]):
    """View of a run over many videos that keeps its results in a file, if one was named.

    ``stage`` says what is done to the next video.
    """

    stage = ""

    def __init__(self, videos: int, out: Path | None) -> None:
        self._videos, self._out, self._passed = videos, out, 0

    @abstractmethod
    def settle(self, event: Any) -> None:  # noqa: ANN401 -- the run's own event
        """Take a result into account."""

    @abstractmethod
    def results(self) -> str:
        """The number of results, in words."""

    def show(self, event: Any) -> None:  # noqa: ANN401 -- the events of several runs
        self.stage = ""
        if isinstance(event, VideoDone):
            self._passed = event.number
            if not event.worked:
                # Videos that were done before say nothing of the pace.
                return
        elif isinstance(event, Notice):
            self.screen.line(f"note: {event.text}")
        elif isinstance(event, GaveUp):
            self.screen.line(f"stopped after {event.failures} failures in a row; {self.how_to_go_on()}", always=True)
        else:
            self.settle(event)
        self.move()

    def move(self) -> None:
        """Move the bar."""
        text = f"[{self._passed}/{plural(self._videos, 'video')}] {self.results()}"
        self.screen.bar(f"{text}, {self.stage}" if self.stage else text, self._passed, self._videos)

    def how_to_go_on(self) -> str:
        return "run the same command again to go on" if self._out else "with --out FILE a run can go on later"


def follow(
    events: Iterator[AnyEvent],
    view: RunView[AnyEvent],
    *,
    quiet: bool = False,
    json: bool = False,
    received: Sequence[int] = (),
) -> int:
    """Show the events of a run until the last, and return the exit code.

    An interruption closes the iterator, which keeps what is finished, and says how to go on. With ``json`` each event
    is a line on stdout. ``received`` are the signals of the command's own :func:`interruptible` block.
    """
    with interruptible(view.on_signal) as signals:
        try:
            try:
                with Screen(quiet=quiet, bars=view.bars, interval=view.interval) as view.screen:
                    view.start()
                    for event in events:
                        if signals or received:
                            raise KeyboardInterrupt
                        if json:
                            write([json_line(view.record(event))])
                        view.show(event)
            finally:
                # Ends the work behind the iterator at once; a second signal does not.
                with contextlib.suppress(KeyboardInterrupt):
                    getattr(events, "close", lambda: None)()
        except (KeyboardInterrupt, BrokenPipeError) as error:
            if isinstance(error, BrokenPipeError) and not view.must_be_read:
                raise
            leave_broken_pipes()
            with contextlib.suppress(BrokenPipeError):
                warn(view.interrupted(), always=True)
            return EXIT_INTERRUPTED
    return view.exit_code


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
def waiting(text: str, *, after: float = 1.0, target: Console | None = None) -> Iterator[None]:
    """Shows on a terminal that something goes on, and for how long, if the block takes more seconds than ``after``."""
    with Screen(target=target) as screen:
        timer = threading.Timer(after, screen.bar, (text, 0, None))
        timer.daemon = True
        if screen.draws:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if timer.ident is not None:
                timer.join()


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


_STORED: Final = {
    "decode": "decoding", "sample": "its frames", "speech": "speech", "ocr": "on-screen text", "encode": "encoding",
}  # fmt: skip
_LONGEST_NAME: Final = 40
_LONGEST_IN_ROW: Final = 24
_NEXT_STEP: Final = 'try: clamr search "what you look for"'
_MOST_NAMES: Final = 2
_WORKING: Final = {"decode": "reading", "speech": "speech", "ocr": "text", "encode": "encoding"}
_LONG_SILENCE: Final = 30.0
"""Seconds after which whoever reads a log wants to know whether the work goes on."""


class IndexView(RunView[Event]):
    """An index run: on a terminal a bar with the time left and a line for each file in work, elsewhere a line each.

    Failures are shown always; ``verbose`` shows every finished video on a terminal, too. ``paces`` are those of the
    stages that an earlier run has measured.
    """

    must_be_read = True

    def __init__(self, *, verbose: bool = False, paces: Mapping[str, float] | None = None) -> None:
        self.estimate = Estimate(paces if paces and paces.keys() == USUAL.keys() else USUAL)
        self.indexed = self.failed = 0
        self.verbose = verbose
        self.stages: dict[str, dict[str, Progress]] = {}

    def start(self) -> None:
        self.screen.bar("looking for videos", 0, None, due=False)

    def show(self, event: Event) -> None:
        estimate, bars = self.estimate, self.screen.draws
        estimate.take(event, self.screen.now)
        match event:
            case Progress():
                self.stages.setdefault(event.path, {})[event.stage] = event
            case Indexed() | Moved() | Skipped():
                self.stages.pop(event.path, None)
                self.indexed += isinstance(event, Indexed)
                self.failed += isinstance(event, Skipped)
        text, left = event_line(event), estimate.left
        count = f"[{estimate.finished}/{estimate.to_do}]"
        if isinstance(event, Indexed | Moved | Skipped) and not bars and not self.screen.quiet:
            text = ", ".join(filter(None, (f"{count} {text}", time_left(left))))
        if text and (self.verbose or not (bars and isinstance(event, Indexed))):
            self.screen.line(text, always=isinstance(event, Skipped | Offline))
        if isinstance(event, Finished) and bars and event.indexed:
            self.screen.line(_NEXT_STEP)
        if not estimate.to_do:
            return
        detail = ""
        if isinstance(event, Progress):
            part = f" {min(100, round(100 * event.done / event.total))} %" if event.total > 0 else ""
            detail = f"{event.stage}{part} {_name(event.path)}"
        label = f"{estimate.finished}/{plural(estimate.to_do, 'video')}" if bars else f"{count} {detail}"
        due = bool(detail) and self.screen.silent_for >= _LONG_SILENCE
        self.screen.bar(label, estimate.done, 1.0, left=-1.0 if left is None else left, due=due)
        self.screen.rows([self._row(path, stages) for path, stages in self.stages.items()])

    def _row(self, path: str, stages: Mapping[str, Progress]) -> str:
        """A file in work: its name and the stages that are at it."""
        parts = []
        for stage, event in stages.items():
            if event.done >= event.total > 0:
                continue
            is_start = stage != "decode" and event.done <= event.checkpoint
            part = f" {min(100, round(100 * event.done / event.total))} %" if event.total > 0 else ""
            parts.append(f"{_WORKING[stage]} is starting" if is_start else f"{_WORKING[stage]}{part}")
        return f"{shorten(path.rsplit('/', 1)[-1], _LONGEST_IN_ROW)}: {', '.join(parts) or 'waiting'}"

    def interrupted(self) -> str:
        parts = [f"{plural(self.indexed, 'video')} kept"]
        unfinished = []
        for path, stages in self.stages.items():
            stored = []
            for event in stages.values():
                part = _STORED[event.stage]
                if 0 < event.checkpoint < event.total:
                    done, total = event.checkpoint, event.total
                    frames = f"{done:.0f} of {total:.0f} frames of {part}"
                    part = frames if event.stage == "ocr" else f"{format_time(done)} of {format_time(total)} of {part}"
                if event.checkpoint > 0:
                    stored.append(part)
            unfinished += [f"of {_name(path)} {' and '.join(stored)}"] if stored else []
        if more := unfinished[_MOST_NAMES:]:
            unfinished[_MOST_NAMES:] = [f"and of {len(more)} more"]
        parts += [", ".join(unfinished)] if unfinished else []
        return f"interrupted: {'; '.join([*parts, 'run the same command again to go on'])}"

    @property
    def exit_code(self) -> int:
        return EXIT_PARTIAL if self.failed else EXIT_FOUND


class PrepareView(RunView["Event | Prepared"]):
    """The preparation of one video: a bar or now and then a line for each stage. ``prepared`` is there at the end."""

    prepared: Prepared

    def __init__(self) -> None:
        self.stages: set[str] = set()

    def show(self, event: Event | Prepared) -> None:
        match event:
            case Progress():
                due = None if event.stage in self.stages else True
                self.stages.add(event.stage)
                self.screen.bar(stage_text(event), event.done, event.total or None, key=event.stage, due=due)
            case Notice():
                self.screen.line(event_line(event))
            case _ if not isinstance(event, Event):
                self.prepared = event

    def record(self, event: Event | Prepared) -> Mapping[str, object]:
        if isinstance(event, Event):
            return event_record(event)
        return {"event": "prepared", "video_id": event.target.video_id, "frames": len(event.candidates)}

    def interrupted(self) -> str:
        return "interrupted: what is done is kept; run the same command again to go on"


def stage_text(event: Progress) -> str:
    """The stage of preparing a video, and the part of it that is done."""
    part = min(100.0, 100.0 * event.done / event.total) if event.total > 0 else 100.0
    return f"{PREPARING[event.stage]}: {part:.0f} %"


def event_line(event: Event) -> str:
    """An event in one line, not escaped yet; empty for those that are only counted."""
    match event:
        case Skipped():
            return f"failed {event.path}: {event.reason}{f': {event.hint}' if event.hint else ''}"
        case Moved():
            return f"moved {event.before} -> {event.path}"
        case Removed():
            return f"removed {event.path}"
        case Offline():
            stay = "video stays in the index" if event.files == 1 else "videos stay in the index"
            command = command_line(["clamr", "index", "--prune", event.path])
            forget = f"; forget with: {command}" if event.missing else ""
            return f"offline {event.path}: {event.reason}; {event.files} {stay}{forget}"
        case Notice():
            return f"note {event.path}: {event.text}" if event.path else f"note: {event.text}"
        case Indexed():
            parts = [format_time(event.duration), plural(event.moments, "moment")]
            # Speech and text are recognised side by side.
            both = max(event.seconds.get("speech", 0.0), event.seconds.get("ocr", 0.0))
            rest = sum(time for stage, time in event.seconds.items() if stage not in ("speech", "ocr"))
            parts += [f"{both + rest:.0f} s"] if event.seconds else []
            return f"indexed {event.path} ({', '.join(parts)})"
        case Finished():
            counts = {
                "unchanged": event.unchanged,
                "moved": event.moved,
                "removed": event.removed,
                "offline": event.offline,
                "failed": event.failed,
            }
            length = f" ({format_time(event.duration)} of video)" if event.duration else ""
            parts = [f"{plural(event.indexed, 'video')} indexed{length}"]
            parts += [f"{count} {word}" for word, count in counts.items() if count]
            took = f"{event.seconds:.0f} s" if event.seconds < 100 else format_time(event.seconds)
            if event.duration and event.seconds:
                speed = event.duration / event.seconds
                took += f", {speed:.{0 if speed >= 10 else 1 if speed >= 1 else 2}f} x real time"
            hint = "; see them with: clamr status --failed" if event.failed else ""
            return f"{', '.join(parts)} in {took}{hint}"
        case _:
            return ""


def _name(path: str) -> str:
    return shorten(path.rsplit("/", 1)[-1], _LONGEST_NAME)
