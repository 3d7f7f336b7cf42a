"""The estimate of the time that an index run still takes, from its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from clamr_cli.events import Discovered, Event, Indexed, Moved, Progress, Skipped

USUAL: Final = {"decode": 0.2, "speech": 0.35, "ocr": 0.35, "encode": 0.1}
"""About how long the stages take, compared with each other; it counts for those that no video has had yet."""

_LEAST_TIME: Final = 5.0
"""Seconds of work that must be measured before the time left can be estimated."""

_FULL_STAGES: Final = 60.0
"""Seconds of video with every stage that are assumed before the first: a short clip without sound is no measure."""


@dataclass(slots=True)
class _VideoWork:
    """A video in work: its bytes and seconds, and the part of each stage that earlier runs and this one have done."""

    size: float
    duration: float = 0.0
    earlier: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)  # when a stage moved last; a start is no move

    def left(self, stage: str) -> float:
        """The part of a stage that has yet to be done."""
        return 1.0 - self.now.get(stage, 0.0)


@dataclass(slots=True)
class _Pace:
    """Work of a stage that was measured: seconds of time, and seconds of video."""

    seconds: float = 0.0
    video: float = 0.0

    def add(self, seconds: float, video: float) -> None:
        self.seconds += seconds
        self.video += video


@dataclass(slots=True)
class Estimate:
    """The time left of an index run, from the seconds of video left of each stage and the pace of the stages.

    Each stage works on one video at a time, while the others work on others: a run takes as long as its longest stage,
    and at least as long as the stages of one video after each other. Before a video is opened its length is estimated
    from its bytes. What earlier runs have done counts neither as work nor as time.
    """

    usual: Mapping[str, float] = field(default_factory=lambda: USUAL)
    """Durations of the stages, compared with each other, as long as nothing was measured."""

    to_do: int = 0
    finished: int = 0
    _sizes: Mapping[str, int] = field(default_factory=dict)
    _mean_size: float = 1.0
    _waiting: float = 0.0
    _open: dict[str, _VideoWork] = field(default_factory=dict)
    _measured_size: float = 0.0
    _measured_seconds: float = 0.0
    _live: dict[str, _Pace] = field(default_factory=lambda: {stage: _Pace() for stage in USUAL})
    _whole: dict[str, _Pace] = field(default_factory=lambda: {stage: _Pace() for stage in USUAL})
    _stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(USUAL, 0.0))
    _finished_seconds: float = 0.0
    _finished_work: dict[str, float] = field(default_factory=lambda: dict.fromkeys(USUAL, 0.0))
    _shown: float = 0.0

    def take(self, event: Event, now: float) -> None:
        """Take an event of a moment into account."""
        match event:
            case Discovered():
                self.to_do, self._sizes = event.to_do, event.sizes
                self._mean_size = max(1.0, sum(event.sizes.values()) / max(1, len(event.sizes)))
                self._waiting = self._mean_size * event.to_do
            case Progress() if event.stage in USUAL:
                self._progress(event, now)
            case Indexed() | Moved() | Skipped():
                video = self._video(event.path)
                if isinstance(event, Indexed) and video.now:
                    self._measure(video, event.duration)
                    self._finished_seconds += video.duration
                    for stage in video.now:
                        self._stage_seconds[stage] += video.duration
                        work = video.duration * (1.0 - video.earlier.get(stage, 0.0))
                        self._finished_work[stage] += work
                        if work and event.seconds.get(stage):
                            self._whole[stage].add(event.seconds[stage], work)
                self._open.pop(event.path)
                self.finished = min(self.finished + 1, self.to_do)

    def _progress(self, event: Progress, now: float) -> None:
        video, stage = self._video(event.path), event.stage
        if event.total > 0 and (stage == "decode" or (stage == "speech" and not video.duration)):
            self._measure(video, event.total)
        total = event.total if event.total > 0 else 1.0
        is_first = stage not in video.earlier
        earlier = video.earlier.setdefault(stage, min(1.0, event.checkpoint / total))
        part, before = min(1.0, max(earlier, event.done / total)), video.now.get(stage, earlier)
        # Between its start and its first move a stage may have loaded its model.
        if not is_first and part > before:
            if stage in video.moved:
                self._live[stage].add(now - video.moved[stage], video.duration * (part - before))
            video.moved[stage] = now
        video.now[stage] = max(part, before)

    def _video(self, path: str) -> _VideoWork:
        if path not in self._open:
            self._open[path] = _VideoWork(float(self._sizes.get(path, self._mean_size)))
            self._waiting = max(0.0, self._waiting - self._open[path].size)
        return self._open[path]

    def _measure(self, video: _VideoWork, duration: float) -> None:
        self._measured_size += 0 if video.duration else video.size
        self._measured_seconds += duration - video.duration
        video.duration = duration

    def measured(self) -> dict[str, float]:
        """The paces of stages whose work on whole videos was measured."""
        return {stage: pace.seconds / pace.video for stage, pace in self._whole.items() if pace.seconds and pace.video}

    def paces(self) -> dict[str, float]:
        """Seconds of work for a second of video, by stage; empty before enough was measured."""
        measured = {
            stage: self._whole[stage] if self._whole[stage].video else self._live[stage]
            for stage in USUAL
            if self._whole[stage].video or self._live[stage].video
        }
        is_short = sum(pace.seconds for pace in measured.values()) < _LEAST_TIME
        if is_short and not any(self._whole[stage].video for stage in USUAL):
            return {}
        paces = {stage: pace.seconds / pace.video for stage, pace in measured.items()}
        unit = sum(paces.values()) / sum(self.usual[stage] for stage in paces)
        return {stage: paces.get(stage, unit * self.usual[stage]) for stage in USUAL}

    def _left(self) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Seconds of video left by stage, of all videos, and of each that is open."""
        seconds_per_byte = self._measured_seconds / self._measured_size if self._measured_size else 0.0
        waiting = seconds_per_byte * self._waiting
        # A short clip without sound is no measure for the rest.
        shares = {
            stage: (self._stage_seconds[stage] + _FULL_STAGES) / (self._finished_seconds + _FULL_STAGES)
            for stage in USUAL
        }
        opened = [
            {
                stage: (video.duration or seconds_per_byte * video.size)
                * (video.left(stage) if stage in video.now else shares[stage])
                for stage in USUAL
            }
            for video in self._open.values()
        ]
        return {stage: waiting * shares[stage] + sum(one[stage] for one in opened) for stage in USUAL}, opened

    @property
    def done(self) -> float:
        """The part of the work that is done, in [0, 1]; it never goes back."""
        if self.to_do and self.finished >= self.to_do:
            return 1.0
        paces, (left, _) = self.paces() or self.usual, self._left()
        done = dict(self._finished_work)
        for video in self._open.values():
            for stage, part in video.now.items():
                done[stage] += video.duration * (part - video.earlier.get(stage, 0.0))
        work = sum(paces[stage] * done[stage] for stage in USUAL)
        whole = work + sum(paces[stage] * left[stage] for stage in USUAL)
        self._shown = max(self._shown, min(1.0, work / whole) if whole > 0 else 0.0)
        return self._shown

    @property
    def left(self) -> float | None:
        """Seconds that are probably left, None while that is unknown and when nothing is."""
        paces, (left, opened) = self.paces(), self._left()
        if not paces or self.finished >= self.to_do:
            return None

        def in_turn(video: Mapping[str, float]) -> tuple[float, float]:
            times = {stage: paces[stage] * video[stage] for stage in USUAL}
            return times["decode"] + max(times["speech"], times["ocr"]) + times["encode"], max(times.values())

        longest = max(paces[stage] * left[stage] for stage in USUAL)
        if waiting := self.to_do - self.finished - len(self._open):
            # The last one goes through the other stages alone.
            rest = {stage: left[stage] - sum(one[stage] for one in opened) for stage in USUAL}
            whole, most = in_turn({stage: rest[stage] / waiting for stage in USUAL})
            longest += whole - most
        return max([longest, *(in_turn(one)[0] for one in opened)]) or None
