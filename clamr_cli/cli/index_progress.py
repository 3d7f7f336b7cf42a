"""Output of an index run for people, and of the preparation of one video for questions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from clamr_cli.cli.progress import RunView, time_left
from clamr_cli.errors import EXIT_FOUND, EXIT_PARTIAL
from clamr_cli.events import Discovered, Event, Finished, Indexed, Moved, Notice, Offline, Progress, Removed, Skipped
from clamr_cli.text import command_line, format_time, plural, shorten

if TYPE_CHECKING:
    from clamr_cli.frames import Prepared

_WEIGHTS: Final = {"decode": 0.2, "sample": 0.0, "speech": 0.35, "ocr": 0.35, "encode": 0.1}
"""About how much of a video's work each stage is; only the estimate of the time left depends on it."""

_STORED: Final = {
    "decode": "decoding", "sample": "its frames", "speech": "speech", "ocr": "on-screen text", "encode": "encoding",
}  # fmt: skip
_PREPARING: Final = {
    "decode": "reading the video",
    "sample": "taking candidate frames",
    "speech": "recognising speech",
    "ocr": "reading on-screen text",
    "encode": "encoding the frames",
}
_LEAST_PART: Final = 0.05
_LEAST_WORK: Final = 30.0
"""Part of the work, and seconds of video, of which one must be done before the time left can be estimated."""

_FULL_STAGES: Final = 60.0
"""Seconds of video with every stage that are assumed before the first: a short clip without sound is no measure."""

_LONGEST_NAME: Final = 40
_MOST_NAMES: Final = 2
_LONG_SILENCE: Final = 30.0
"""Seconds after which whoever reads a log wants to know whether the work goes on."""


@dataclass(slots=True)
class _VideoWork:
    """A video in work: its bytes and seconds, and the part of each stage that earlier runs and this one have done."""

    size: float
    duration: float = 0.0
    earlier: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)

    @property
    def done(self) -> float:
        """Work of this run: seconds of video, each stage by its weight."""
        return self.duration * sum(_WEIGHTS[stage] * (part - self.earlier[stage]) for stage, part in self.now.items())


@dataclass(slots=True)
class Estimate:
    """The progress of an index run and the time left. It has no clock: times are given to it, in seconds.

    Work is measured in seconds of video, each stage by its weight; what earlier runs stored costs nothing. The length
    of a video that has not been opened is guessed from its bytes, its stages are those of the videos before it.
    """

    started: float
    to_do: int = 0
    finished: int = 0
    _sizes: Mapping[str, int] = field(default_factory=dict)
    _mean_size: float = 1.0
    _waiting: float = 0.0
    _open: dict[str, _VideoWork] = field(default_factory=dict)
    _finished_work: float = 0.0
    _measured_size: float = 0.0
    _measured_seconds: float = 0.0
    _stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_WEIGHTS, 0.0))
    _finished_seconds: float = 0.0

    def take(self, event: Event) -> None:
        """Take an event into account."""
        match event:
            case Discovered():
                self.to_do, self._sizes = event.to_do, event.sizes
                self._mean_size = max(1.0, sum(event.sizes.values()) / max(1, len(event.sizes)))
                self._waiting = self._mean_size * event.to_do
            case Progress():
                video = self._video(event.path)
                if event.total > 0 and (event.stage == "decode" or (event.stage == "speech" and not video.duration)):
                    self._measure(video, event.total)
                total = event.total if event.total > 0 else 1.0
                earlier = video.earlier.setdefault(event.stage, min(1.0, event.checkpoint / total))
                video.now[event.stage] = min(1.0, max(earlier, event.done / total))
            case Indexed() | Moved() | Skipped():
                video = self._video(event.path)
                if isinstance(event, Indexed) and video.now:
                    self._measure(video, event.duration)
                    video.now = dict.fromkeys(video.now, 1.0)
                    self._finished_seconds += video.duration
                    for stage in video.now:
                        self._stage_seconds[stage] += video.duration
                self._finished_work += video.done
                self._open.pop(event.path)
                self.finished = min(self.finished + 1, self.to_do)

    def _video(self, path: str) -> _VideoWork:
        if path not in self._open:
            self._open[path] = _VideoWork(float(self._sizes.get(path, self._mean_size)))
            self._waiting = max(0.0, self._waiting - self._open[path].size)
        return self._open[path]

    def _measure(self, video: _VideoWork, duration: float) -> None:
        self._measured_size += 0 if video.duration else video.size
        self._measured_seconds += duration - video.duration
        video.duration = duration

    def _work(self) -> tuple[float, float]:
        """Work done in this run, and the whole work of it."""
        usual = {
            stage: weight * (self._stage_seconds[stage] + _FULL_STAGES) / (self._finished_seconds + _FULL_STAGES)
            for stage, weight in _WEIGHTS.items()
        }
        seconds_per_byte = self._measured_seconds / self._measured_size if self._measured_size else 0.0
        done = self._finished_work + sum(video.done for video in self._open.values())
        whole = self._finished_work + seconds_per_byte * self._waiting * sum(usual.values())
        for video in self._open.values():
            begun = sum(_WEIGHTS[stage] * (1.0 - earlier) for stage, earlier in video.earlier.items())
            expected = sum(weight for stage, weight in usual.items() if stage not in video.earlier)
            whole += (video.duration or seconds_per_byte * video.size) * (begun + expected)
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


class IndexView(RunView[Event]):
    """An index run: a bar with the time left on a terminal, a line per video elsewhere; failures always."""

    def __init__(self) -> None:
        self.estimate = Estimate(time.monotonic())
        self.indexed = self.failed = 0
        self.stages: dict[str, dict[str, Progress]] = {}

    def start(self) -> None:
        self.screen.bar("looking for videos", 0, None, due=False)

    def show(self, event: Event) -> None:
        self.estimate.take(event)
        match event:
            case Progress():
                self.stages.setdefault(event.path, {})[event.stage] = event
            case Indexed() | Moved() | Skipped():
                self.stages.pop(event.path, None)
                self.indexed += isinstance(event, Indexed)
                self.failed += isinstance(event, Skipped)
        estimate, bars, text = self.estimate, self.screen.draws, event_line(event)
        left = estimate.left(time.monotonic())
        count = f"[{estimate.finished}/{estimate.to_do}]"
        if isinstance(event, Indexed | Moved | Skipped) and not bars and not self.screen.quiet:
            text = ", ".join(filter(None, (f"{count} {text}", time_left(left))))
        if text and not (bars and isinstance(event, Indexed)):
            self.screen.line(text, always=isinstance(event, Skipped | Offline))
        if not estimate.to_do:
            return
        detail = ""
        if isinstance(event, Progress):
            part = f" {min(100, round(100 * event.done / event.total))} %" if event.total > 0 else ""
            detail = f"{event.stage}{part} {_name(event.path)}"
        label = f"{estimate.finished}/{plural(estimate.to_do, 'video')}" if bars else f"{count} {detail}"
        due = bool(detail) and self.screen.silent_for >= _LONG_SILENCE
        self.screen.bar(label, estimate.done, 1.0, left=-1.0 if left is None else left, detail=detail, due=due)

    def interrupted(self) -> str:
        parts = [f"{plural(self.indexed, 'video')} kept", self._unfinished(), "run the same command again to go on"]
        return f"interrupted: {'; '.join(filter(None, parts))}"

    def _unfinished(self) -> str:
        """Stored work of unfinished videos: ``of talk.mp4 decoding and 1:50:00 of 2:40:00 of speech``."""
        videos = []
        for path, stages in self.stages.items():
            parts = []
            for stage in stages.values():
                part = _STORED[stage.stage]
                if 0 < stage.checkpoint < stage.total:
                    done, total = stage.checkpoint, stage.total
                    frames = f"{done:.0f} of {total:.0f} frames of {part}"
                    part = frames if stage.stage == "ocr" else f"{format_time(done)} of {format_time(total)} of {part}"
                if stage.checkpoint > 0:
                    parts.append(part)
            videos += [f"of {_name(path)} {' and '.join(parts)}"] if parts else []
        more = len(videos) - _MOST_NAMES
        return ", ".join(videos[:_MOST_NAMES] + ([f"and of {more} more"] if more > 0 else []))

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

    def interrupted(self) -> str:
        return "interrupted: what is done is kept; run the same command again to go on"


def stage_text(event: Progress) -> str:
    """The stage of preparing a video, and the part of it that is done."""
    part = min(100.0, 100.0 * event.done / event.total) if event.total > 0 else 100.0
    return f"{_PREPARING[event.stage]}: {part:.0f} %"


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
            parts = [f"{plural(event.indexed, 'video')} indexed"]
            parts += [f"{count} {word}" for word, count in counts.items() if count]
            took = f"{event.seconds:.0f} s" if event.seconds < 100 else format_time(event.seconds)
            hint = "; see them with: clamr status --failed" if event.failed else ""
            return f"{', '.join(parts)} in {took}{hint}"
        case _:
            return ""


def _name(path: str) -> str:
    return shorten(path.rsplit("/", 1)[-1], _LONGEST_NAME)
