"""An index run as people see it: a bar with the time left on a terminal, a line per video elsewhere, on stderr."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, Protocol

from rich.cells import cell_len
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from clamr_cli.events import Discovered, Finished, Indexed, Moved, Notice, Offline, Removed, Skipped
from clamr_cli.events import Progress as Step
from clamr_cli.render.console import drawable
from clamr_cli.text import command_line, escape_terminal, plural, shorten
from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from rich.console import Console
    from rich.progress import ProgressColumn

    from clamr_cli.events import Event

_WEIGHTS: Final = {"decode": 0.2, "sample": 0.0, "speech": 0.35, "ocr": 0.35, "encode": 0.1}
"""About how much of a video's work each stage is; only the estimate of the time left depends on it."""

_STORED: Final = {
    "decode": "decoding",
    "sample": "its frames",
    "speech": "speech",
    "ocr": "on-screen text",
    "encode": "encoding",
}
_LEAST_PART: Final = 0.05
_LEAST_WORK: Final = 30.0
"""Part of the work, and seconds of video, of which one must be done before the time left can be told."""

_FULL_STAGES: Final = 60.0
"""Seconds of video with every stage that are assumed before the first: a short clip without sound is no measure."""

_BAR: Final = 20
_LONGEST_NAME: Final = 40
_SHORTEST_NAME: Final = 8
_MOST_NAMES: Final = 2
_LONG_SILENCE: Final = 30.0
"""Seconds after which whoever reads a log wants to know whether the work goes on."""


class Reporter(Protocol):
    """Shows events as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: Event) -> None:
        """Take an event into account and show it."""
        ...


@dataclass(slots=True)
class _Video:
    """A video in work: its bytes and seconds, and what of each stage was stored before this run and is done now."""

    size: float
    duration: float = 0.0
    before: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)

    @property
    def done(self) -> float:
        """Work of this run: seconds of video, each stage by its weight."""
        return self.duration * sum(_WEIGHTS[stage] * (part - self.before[stage]) for stage, part in self.now.items())


@dataclass(slots=True)
class Estimate:
    """The progress of a run and the time left. Knows no clock: times are given to it, in seconds.

    Work is measured in seconds of video, each stage by its weight; what earlier runs stored costs nothing. The length
    of a video that has not been opened is guessed from its bytes, its stages are those of the videos before it.
    """

    started: float
    to_do: int = 0
    finished: int = 0
    _sizes: Mapping[str, int] = field(default_factory=dict)
    _size: float = 1.0
    _waiting: float = 0.0
    _open: dict[str, _Video] = field(default_factory=dict)
    _worked: float = 0.0
    _known: tuple[float, float] = (0.0, 0.0)
    _lengths: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_WEIGHTS, 0.0))
    _length: float = 0.0

    def take(self, event: Event) -> None:
        """Take an event into account."""
        match event:
            case Discovered():
                self.to_do, self._sizes = event.to_do, event.sizes
                self._size = max(1.0, sum(event.sizes.values()) / max(1, len(event.sizes)))
                self._waiting = self._size * event.to_do
            case Step():
                video = self._video(event.path)
                if event.total > 0 and (event.stage == "decode" or (event.stage == "speech" and not video.duration)):
                    self._measure(video, event.total)
                whole = event.total if event.total > 0 else 1.0
                before = video.before.setdefault(event.stage, min(1.0, event.checkpoint / whole))
                video.now[event.stage] = min(1.0, max(before, event.done / whole))
            case Indexed() | Moved() | Skipped():
                video = self._video(event.path)
                if isinstance(event, Indexed) and video.now:
                    self._measure(video, event.duration)
                    video.now = dict.fromkeys(video.now, 1.0)
                    self._length += video.duration
                    for stage in video.now:
                        self._lengths[stage] += video.duration
                self._worked += video.done
                self._open.pop(event.path)
                self.finished = min(self.finished + 1, self.to_do)

    def _video(self, path: str) -> _Video:
        if path not in self._open:
            self._open[path] = _Video(float(self._sizes.get(path, self._size)))
            self._waiting = max(0.0, self._waiting - self._open[path].size)
        return self._open[path]

    def _measure(self, video: _Video, duration: float) -> None:
        size, length = self._known
        self._known = (size + (0 if video.duration else video.size), length + duration - video.duration)
        video.duration = duration

    def _work(self) -> tuple[float, float]:
        """What is done in this run, and what will have been done when it is over."""
        usual = {
            stage: weight * (self._lengths[stage] + _FULL_STAGES) / (self._length + _FULL_STAGES)
            for stage, weight in _WEIGHTS.items()
        }
        speed = self._known[1] / self._known[0] if self._known[0] else 0.0
        done = self._worked + sum(video.done for video in self._open.values())
        whole = self._worked + speed * self._waiting * sum(usual.values())
        for video in self._open.values():
            seen = sum(_WEIGHTS[stage] * (1.0 - before) for stage, before in video.before.items())
            unseen = sum(weight for stage, weight in usual.items() if stage not in video.before)
            whole += (video.duration or speed * video.size) * (seen + unseen)
        return done, whole

    @property
    def done(self) -> float:
        """The part of the work that is done, in [0, 1]."""
        if self.to_do and self.finished >= self.to_do:
            return 1.0
        done, whole = self._work()
        return min(1.0, done / whole) if whole > 0 else 0.0

    def left(self, now: float) -> float | None:
        """Seconds that are probably left, None while that is unknown and when nothing is."""
        done, whole = self._work()
        if not 0 < done < whole or self.finished >= self.to_do or now <= self.started:
            return None
        if done < min(_LEAST_PART * whole, _LEAST_WORK):
            return None
        return (now - self.started) / done * (whole - done)


@dataclass(slots=True)
class Unfinished:
    """The stored work of videos that are not finished."""

    _steps: dict[str, dict[str, Step]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Take an event into account."""
        match event:
            case Step():
                self._steps.setdefault(event.path, {})[event.stage] = event
            case Indexed() | Moved() | Skipped():
                self._steps.pop(event.path, None)

    def stored(self) -> str:
        """What is stored, in words: ``of talk.mp4 decoding and 1:50:00 of 2:40:00 of speech``; empty for nothing."""
        videos = []
        for path, steps in self._steps.items():
            stages = [_stored(step) for step in steps.values() if step.checkpoint > 0]
            name = shorten(escape_terminal(path.rsplit("/", 1)[-1]), _LONGEST_NAME)
            videos += [f"of {name} {' and '.join(stages)}"] if stages else []
        more = len(videos) - _MOST_NAMES
        return ", ".join(videos[:_MOST_NAMES] + ([f"and of {more} more"] if more > 0 else []))


def _stored(step: Step) -> str:
    name = _STORED[step.stage]
    if step.checkpoint >= step.total:
        return name
    if step.stage == "ocr":
        return f"{step.checkpoint:.0f} of {step.total:.0f} pictures of {name}"
    return f"{format_time(step.checkpoint)} of {format_time(step.total)} of {name}"


def about(seconds: float | None) -> str:
    """A time left, roughly: ``about 5 min left``; empty where unknown."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"about {max(1, round(seconds))} s left"
    if seconds < 6000:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def line(event: Event) -> str | None:
    """What is said of an event in one line; None for those that are only counted."""
    match event:
        case Skipped():
            return f"failed {escape_terminal(event.path)}: {_reason(event.reason, event.hint)}"
        case Moved():
            return f"moved {escape_terminal(event.before)} -> {escape_terminal(event.path)}"
        case Removed():
            return f"removed {escape_terminal(event.path)}"
        case Offline():
            return f"offline {escape_terminal(event.path)}: {_offline(event)}"
        case Notice():
            told = escape_terminal(event.text)
            return f"note {escape_terminal(event.path)}: {told}" if event.path else f"note: {told}"
        case Indexed():
            parts = [format_time(event.duration), plural(event.moments, "moment")]
            parts += [f"{_took(event.seconds):.0f} s"] if event.seconds else []
            return f"indexed {escape_terminal(event.path)} ({', '.join(parts)})"
        case Finished():
            return summary(event)
        case _:
            return None


def _took(seconds: Mapping[str, float]) -> float:
    """Seconds of work on a video; speech and text are recognised side by side."""
    together = max(seconds.get("speech", 0.0), seconds.get("ocr", 0.0))
    return together + sum(time for stage, time in seconds.items() if stage not in ("speech", "ocr"))


def _offline(event: Offline) -> str:
    stay = "video stays in the index" if event.files == 1 else "videos stay in the index"
    forget = f"; forget with: {command_line(['clamr', 'index', '--prune', event.path])}" if event.missing else ""
    return f"{escape_terminal(event.reason)}; {event.files} {stay}{forget}"


def _reason(reason: str, hint: str) -> str:
    return escape_terminal(f"{reason}: {hint}" if hint else reason)


def summary(event: Finished) -> str:
    """The run in one line."""
    parts = [f"{plural(event.indexed, 'video')} indexed"]
    for count, word in (
        (event.unchanged, "unchanged"),
        (event.moved, "moved"),
        (event.removed, "removed"),
        (event.offline, "offline"),
        (event.failed, "failed"),
    ):
        parts += [f"{count} {word}"] if count else []
    took = f"{event.seconds:.0f} s" if event.seconds < 100 else format_time(event.seconds)
    hint = "; see them with: clamr status --failed" if event.failed else ""
    return f"{', '.join(parts)} in {took}{hint}"


class QuietReporter:
    """Says only what failed, and what is offline."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def show(self, event: Event) -> None:
        """Print failures, and what is offline."""
        if isinstance(event, Skipped | Offline):
            self._stream.write(f"{line(event)}\n")


class PlainReporter(QuietReporter):
    """A line for each video, failure, move and removal, and now and then how far a long one is: for logs and pipes."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._told = clock()
        self._estimate = Estimate(self._told)

    def show(self, event: Event) -> None:
        """Print a line, with the count and the time left where it helps."""
        self._estimate.take(event)
        now = self._clock()
        quiet = now - self._told < _LONG_SILENCE
        said = line(event) if quiet or not isinstance(event, Step) else _doing(event)
        if said is None:
            return
        self._told = now
        if isinstance(event, Indexed | Moved | Skipped | Step):
            said = f"[{self._estimate.finished}/{self._estimate.to_do}] {said}"
            left = about(self._estimate.left(now))
            said += f", {left}" if left else ""
        self._stream.write(f"{said}\n")
        self._stream.flush()


class Drawn:
    """Bars on a terminal for the time of a block, and lines that stay above them.

    Args:
        console: of the terminal.
        columns: of each bar.
    """

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        self._progress = Progress(*columns, console=console, transient=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _say(self, said: str | None) -> None:
        if said is not None:
            self._progress.console.print(Text(said), soft_wrap=True)


class BarReporter(Drawn):
    """A progress bar with the time left; what failed, moved or went stays above it."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(
            console,
            BarColumn(bar_width=_BAR),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False, style="cyan"),
            TextColumn("{task.fields[doing]}", markup=False, style="dim"),
        )
        self._clock = clock
        self._estimate = Estimate(clock())
        self._task = self._progress.add_task("", total=None, count="looking for videos", left="", doing="")

    def show(self, event: Event) -> None:
        """Move the bar, and print what should stay to be read."""
        self._estimate.take(event)
        self._say(None if isinstance(event, Indexed) else line(event))
        estimate = self._estimate
        if estimate.to_do:
            count = f"{estimate.finished}/{plural(estimate.to_do, 'video')}"
            left = about(estimate.left(self._clock()))
            room = self._progress.console.width - _BAR - len(count) - len(left) - 3
            doing = _doing(event, room)
            self._progress.update(self._task, total=1.0, completed=estimate.done, count=count, left=left, doing=doing)


def _doing(event: Event, room: int | None = None) -> str:
    """The stage and the video of a step, in at most ``room`` columns; without its name where there are too few."""
    if not isinstance(event, Step):
        return ""
    part = f" {min(100, round(100 * event.done / event.total))}%" if event.total > 0 else ""
    name = shorten(escape_terminal(event.path.rsplit("/", 1)[-1]), _LONGEST_NAME)
    if room is None:
        return f"{event.stage} {name}{part}"
    while (columns := room - len(event.stage) - len(part) - 1) >= _SHORTEST_NAME:
        if cell_len(name) <= columns:
            return f"{event.stage} {name}{part}"
        name = shorten(name, len(name) - 1)
    return f"{event.stage}{part}" if columns >= -1 else ""


def reporter(console: Console, *, quiet: bool) -> Reporter:
    """The reporter that fits the stream: quiet, a bar on a terminal that can draw one, plain lines elsewhere."""
    if quiet:
        return QuietReporter(console.file)
    if drawable(console):
        return BarReporter(console)
    return PlainReporter(console.file)


@contextlib.contextmanager
def transfer(console: Console, name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Shows a download; what it gives is called with the bytes done and the bytes in all."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not drawable(console)) as progress:
        task = progress.add_task(escape_terminal(name), total=None)

        def moved(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield moved
