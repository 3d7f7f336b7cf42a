"""Sampled frames of a video: upright, in square pixels, small enough to work with, and dense enough to miss nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import av.error
import numpy as np

from clamr_cli.errors import MediaError
from clamr_cli.media.colours import to_rgb
from clamr_cli.media.container import MOST_PIXELS, Clock, open_media, read_packets
from clamr_cli.media.plan import Alone, InTurn, Mark, Plan, Stop
from clamr_cli.media.probe import display_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from clamr_cli.types import MediaInfo

_PROVEN: Final = 2
"""Keyframes that must have been decoded alone before one that cannot is damage, and not how the stream is made."""

_WIDEST: Final = 4.0
"""Shapes of pictures, in that of 16:9, up to which small text of wide screens is kept legible."""

_LATE: Final = 1.0
"""Seconds after a keyframe at which the first picture shows that it was not complete by itself."""


@dataclass(frozen=True, slots=True)
class FrameOptions:
    """How densely and how large to sample.

    Attributes:
        interval: seconds wanted between frames.
        longest_gap: seconds between keyframes up to which the keyframes alone are enough. Any stretch of the video that
            is a frame longer than this (or than ``interval``) has a sampled frame.
        max_side: pixels of a frame's longer side at most, or of a 16:9 picture of the same area where a frame is wider or
            taller; smaller videos are not enlarged.
        threads: decoder threads, 0 for as many as there are cores.
    """

    interval: float = 2.0
    longest_gap: float = 4.0
    max_side: int = 1280
    threads: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrame:
    """A picture of the video.

    Attributes:
        time: in seconds.
        image: [height, width, 3] uint8 RGB, contiguous.
        enlarge: gives the same picture with a longer side of at most so many pixels, before the next one is asked for;
            None where ``image`` is as large as the video.
    """

    time: float
    image: NDArray[np.uint8]
    enlarge: Callable[[int], NDArray[np.uint8]] | None = None


def sample_frames(path: str, info: MediaInfo, options: FrameOptions | None = None) -> Iterator[SampledFrame]:
    """Frames in time order, about one each ``interval``, by decoding as little as the keyframes allow.

    Rotation and sample aspect ratio are applied. Damaged stretches are stepped over. A video without a picture gives
    nothing. Memory does not grow with length.

    Args:
        path: the file.
        info: what :func:`clamr_cli.media.probe.probe` said of it.
        options: see :class:`FrameOptions`.

    Raises:
        MediaError: the file is gone, the disk fails, or not one frame can be decoded.
    """
    if info.video_stream is None:
        return
    if info.width * info.height > MOST_PIXELS:
        raise MediaError(
            f"the picture is too large: {info.width} x {info.height} pixels",
            f"make a copy of at most {MOST_PIXELS // 10**6} megapixels",
        )
    sampler = _Sampler(info, options or FrameOptions())
    # An edit list that shows nothing at all is damage.
    for trust_keys, edits in ((True, True), (False, True), (False, False)):
        with open_media(path, edits=edits) as container:
            if info.video_stream >= len(container.streams) or container.streams[info.video_stream].type != "video":
                raise MediaError("the file changed while it was read", "index again")
            stream: Any = container.streams[info.video_stream]
            clock = Clock(container, stream, step=1 / (info.fps or 25.0))
            packets = read_packets(container, [stream])
            yield from sampler.run(stream, clock, _marks(packets, clock), trust_keys=trust_keys)
        if sampler.seen and not sampler.keys_failed:
            break
    if not sampler.seen:
        raise MediaError("no frame of the picture can be decoded", "copy or download it again, or convert it to H.264")


def _marks(packets: Iterable[Packet[Any]], clock: Clock) -> Iterator[Mark[Packet[Any]]]:
    for time, packet in clock.placed(packets):
        yield Mark(time, bool(packet.is_keyframe), packet.size, packet)


class _Sampler:
    """Carries out a plan's steps with one decoder and turns the wanted frames into arrays.

    Attributes:
        seen: whether any frame was decoded.
        keys_failed: whether the last run ended because keyframes cannot be decoded alone.
    """

    def __init__(self, info: MediaInfo, options: FrameOptions) -> None:
        self.seen = False
        self.keys_failed = False
        self._info = info
        self._options = options
        shape = max(info.width, info.height) / max(1, min(info.width, info.height))
        self._side = round(options.max_side * max(1.0, min(_WIDEST, shape * 9 / 16)) ** 0.5)
        self._proven = 0
        self._awaited: float | None = None
        self._last = -math.inf

    def run(
        self, stream: VideoStream, clock: Clock, marks: Iterable[Mark[Packet[Any]]], *, trust_keys: bool
    ) -> Iterator[SampledFrame]:
        """Sample from the start; ends early with ``keys_failed`` where keyframes turn out to lean on others.

        That is so in streams with intra refresh. A second run without ``trust_keys`` goes on where the first ended.
        """
        self.keys_failed = False
        self._stream, self._clock = stream, clock
        self._context: Any = stream.codec_context
        self._context.thread_type = "AUTO"
        self._context.thread_count = self._options.threads
        interval = self._options.interval
        grid = _Grid(0.0, interval)
        for step in Plan[Any](interval, max(self._options.longest_gap, interval), trust_keys).steps(marks):
            match step:
                case Alone(group):
                    chosen: Iterable[tuple[float, VideoFrame]] = self._alone(group)
                case InTurn(mark, first, dense):
                    if first:
                        grid = _Grid(mark.time, interval)
                        self._awaited = mark.time if mark.key and trust_keys else None
                    self._context.skip_frame = "NONREF" if dense else "DEFAULT"
                    chosen = grid.choose(self._in_run(self._decode(mark.item)))
                case Stop(until):
                    end = max(self._info.duration, self._last) if math.isinf(until) else until
                    chosen = [*grid.choose(self._in_run(self._drain())), *grid.finish(end)]
            if self.keys_failed:
                return
            yield from self._emit(chosen)

    def _alone(self, group: tuple[Mark[Packet[Any]], ...]) -> list[tuple[float, VideoFrame]]:
        """The keyframe of a group; where it is damaged, the first frame of the group that is not."""
        self._context.skip_frame = "DEFAULT"
        frames = [*self._decode(group[0].item), *self._drain()]
        self._prove(works=bool(frames))
        if not frames and not self.keys_failed:
            for mark in group:
                frames += self._decode(mark.item)
            frames += self._drain()
        return self._timed(frames)[:1]

    def _in_run(self, frames: list[VideoFrame]) -> list[tuple[float, VideoFrame]]:
        timed = self._timed(frames)
        if timed and self._awaited is not None:
            self._prove(works=timed[0][0] < self._awaited + _LATE)
            self._awaited = None
        return timed

    def _prove(self, *, works: bool) -> None:
        self._proven += works
        self.keys_failed |= not works and self._proven < _PROVEN

    def _decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        try:
            return list(self._context.decode(packet))
        except av.error.FFmpegError:
            return []  # a damaged packet costs its own frames, not the rest of the video

    def _drain(self) -> list[VideoFrame]:
        try:
            return list(self._context.decode(None))
        except av.error.FFmpegError:
            return []
        finally:
            self._context.flush_buffers()

    def _timed(self, frames: list[VideoFrame]) -> list[tuple[float, VideoFrame]]:
        return [(self._clock.seconds(frame.pts), frame) for frame in frames if frame.pts is not None]

    def _emit(self, frames: Iterable[tuple[float, VideoFrame]]) -> Iterator[SampledFrame]:
        for time, frame in frames:
            if time > self._last:
                self._last = time
                self.seen = True
                image = picture_of(frame, self._stream, self._info, self._side)
                larger = max(self._info.width, self._info.height) > max(image.shape)
                enlarge = partial(picture_of, frame, self._stream, self._info) if larger else None
                yield SampledFrame(max(0.0, time), image, enlarge)


def picture_of(frame: VideoFrame, stream: VideoStream, info: MediaInfo, max_side: int) -> NDArray[np.uint8]:
    """A decoded frame as people see it, [height, width, 3] uint8 sRGB: upright, in square pixels, small enough."""
    width, height = display_size(frame.width, frame.height, stream.sample_aspect_ratio)
    scale = min(1.0, max_side / max(width, height))
    stored = to_rgb(frame, max(1, round(width * scale)), max(1, round(height * scale)))
    if info.mirrored:
        stored = stored[:, ::-1]
    return np.ascontiguousarray(np.rot90(stored, -info.rotation // 90))


class _Grid:
    """Picks, of frames in time order, those on screen at ``start``, ``start + interval`` and so on, each once."""

    def __init__(self, start: float, interval: float) -> None:
        self._start = start
        self._interval = interval
        self._due = start
        self._held: tuple[float, VideoFrame] | None = None

    def choose(self, frames: Iterable[tuple[float, VideoFrame]]) -> Iterator[tuple[float, VideoFrame]]:
        for time, frame in frames:
            if self._due < time:
                yield from self.finish(self._due)
                self._due = self._start + math.ceil((time - self._start) / self._interval) * self._interval
            self._held = (time, frame)

    def finish(self, end: float) -> Iterator[tuple[float, VideoFrame]]:
        """The frame that is on screen at the next grid point, if that lies not after ``end``."""
        if self._held is not None and self._due <= end:
            yield self._held
            self._held = None
