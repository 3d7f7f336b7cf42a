"""Frames of a video: upright, in square pixels, small enough to work with; sampled densely, or taken at given times.

Keyframes can be decoded alone, at a hundredth of the cost of all frames. Where they lie close they are enough; where
they lie far apart the frames between them are decoded in sequence, up to the last one that is wanted.
"""

import functools
import math
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, takewhile
from typing import Any, Final

import av.error
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from clamr_cli.errors import MediaError
from clamr_cli.media.container import MOST_PIXELS, Clock, open_media, origin, placed_packets, seek_key
from clamr_cli.media.probe import display_size
from clamr_cli.types import MediaInfo

_PROVEN: Final = 2  # keyframes decoded alone before one that cannot is damage, and not how the stream is made
_WIDEST: Final = 4.0  # shapes of pictures, in that of 16:9, up to which small text of wide screens is kept legible
_LATE: Final = 1.0  # seconds after a keyframe at which the first picture shows that it was not complete by itself
_DENSE: Final = 0.1  # seconds between packets below which a frame is on screen too briefly to matter by itself
_MOST_AHEAD: Final = 256 * 2**20  # bytes of packets held while looking ahead; only absurd bit rates reach it
_ROUNDING: Final = 0.002
_FAR: Final = 0.5  # seconds after the wanted time beyond which a frame is another one
_MOST_PACKETS: Final = 20_000  # looked at for one frame at a time: minutes of video

_WHITE: Final = 203.0  # luminance of reference white in HDR, in cd/m2 (ITU-R BT.2408)
_HLG_PEAK: Final = 1000.0
_PEAKS: Final = (1000.0, 2000.0, 4000.0, 10_000.0)  # that tables are made for; a stream is shown by the next one up
_GRID: Final = 49  # points along each side of a colour table; between them it is interpolated
# Sizes beyond these are HD, whose matrix is BT.709 where a stream does not say.
_HD_HEIGHT: Final = 576
_HD_WIDTH: Final = 1024
_WHITE_POINT: Final = (0.3127, 0.3290)
_BT709: Final = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
# CIE xy of red, green and blue, by the primaries that differ visibly from BT.709's.
_WIDE: Final = {
    ColorPrimaries.BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    ColorPrimaries.SMPTE431: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    ColorPrimaries.SMPTE432: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_HDR: Final = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_NOT_STATED: Final = 2  # matrix, transfer or primaries of a frame whose stream says nothing (ITU-T H.273)
_CONSTANT_LUMINANCE: Final = 10
_LIGHT_LEVEL: Final = struct.Struct("=I")
# AVMasteringDisplayMetadata: eight primaries and the two luminances as fractions, and whether each is given.
_MASTERING: Final = struct.Struct("=22i")

Placed = tuple[float, Any]  # a packet with its time in seconds, as :func:`placed_packets` gives it
Shown = tuple[float, VideoFrame]


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrame:
    """A picture of the video at a time in seconds, [height, width, 3] uint8 RGB, contiguous."""

    time: float
    image: NDArray[np.uint8]
    # Gives the same picture with a longer side of at most so many pixels, before the next one is asked for; None where
    # ``image`` is as large as the video.
    enlarge: Callable[[int], NDArray[np.uint8]] | None = None


def sample_frames(
    path: str,
    info: MediaInfo,
    *,
    interval: float = 2.0,
    longest_gap: float = 4.0,
    max_side: int = 1280,
    threads: int = 0,
    watch: Callable[[float, VideoFrame], None] | None = None,
) -> Iterator[SampledFrame]:
    """Frames in time order, about one each ``interval``, by decoding as little as the keyframes allow.

    Rotation and sample aspect ratio are applied. Damaged stretches are stepped over. A video without a picture gives
    nothing. Memory does not grow with length.

    Args:
        path: the file.
        info: of the file, from :func:`clamr_cli.media.probe.probe`.
        interval: seconds wanted between frames.
        longest_gap: seconds between keyframes up to which the keyframes alone are enough. Any stretch of the video that
            is a frame longer than this (or than ``interval``) has a sampled frame.
        max_side: pixels of a frame's longer side at most, or of a 16:9 picture of that area where a frame is longer;
            smaller videos are not enlarged.
        threads: decoder threads, 0 for as many as there are cores.
        watch: called with every frame that is decoded, and its time; some may come twice.

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
    shape = max(info.width, info.height) / max(1, min(info.width, info.height))
    side = round(max_side * max(1.0, min(_WIDEST, shape * 9 / 16)) ** 0.5)
    last = -math.inf
    # Keyframes may lean on others, as in streams with intra refresh; an edit list that shows nothing at all is damage.
    for trust_keys, edits in ((True, True), (False, True), (False, False)):
        with open_media(path, edits=edits) as container:
            stream = _video_stream(container, info, "the file changed while it was read", "index again")
            clock = Clock(container, stream, step=1 / (info.fps or 25.0))
            packets = placed_packets(container, {stream.index: clock})
            context = stream.codec_context
            context.thread_type, context.thread_count = "AUTO", threads
            gap = max(longest_gap, interval)
            sampler = FrameSampler(
                packets, context, clock, interval=interval, longest_gap=gap, trust_keys=trust_keys, watch=watch
            )
            # A later reading goes on where the one before ended.
            for time, frame in sampler.frames(last, info.duration):
                last = time
                image = picture_of(frame, stream, info, side)
                larger = max(info.width, info.height) > max(image.shape)
                enlarge = partial(picture_of, frame, stream, info) if larger else None
                yield SampledFrame(max(0.0, time), image, enlarge)
        if last > -math.inf and not sampler.keys_failed:
            return
    if last == -math.inf:
        raise MediaError("no frame of the picture can be decoded", "copy or download it again, or convert it to H.264")


def _video_stream(container: InputContainer, info: MediaInfo, *changed: str) -> Any:  # noqa: ANN401
    number = info.video_stream or 0
    if number >= len(container.streams) or container.streams[number].type != "video":
        raise MediaError(*changed)
    return container.streams[number]


class FrameSampler:
    """Decodes as little of a video stream as leaves no stretch of it unseen.

    ``packets`` come in decoding order; those of ``longest_gap`` seconds are held in memory. Without ``trust_keys``
    everything is decoded in sequence. ``keys_failed`` is True once keyframes turn out to lean on others; sampling has
    then ended early.
    """

    def __init__(
        self,
        packets: Iterable[Placed],
        context: Any,  # noqa: ANN401
        clock: Clock,
        *,
        interval: float,
        longest_gap: float,
        trust_keys: bool = True,
        watch: Callable[[float, VideoFrame], None] | None = None,
    ) -> None:
        self.keys_failed = False
        self._packets = iter(packets)
        self._context = context
        self._clock = clock
        self._interval = interval
        self._longest_gap = longest_gap
        self._trust_keys = trust_keys
        self._watch = watch
        self._proven = 0
        self._ahead: deque[Placed] = deque()
        self._keys: deque[float] = deque()
        self._bytes = 0
        self._last = self._end = -math.inf

    def frames(self, after: float, duration: float) -> Iterator[Shown]:
        """The frames that are shown after a time, of a video of some length, with their times."""
        self._last, self._end = after, duration
        for time, frame in self._wanted():
            if time > self._last:
                self._last = time
                yield time, frame

    def _wanted(self) -> Iterator[Shown]:
        last = -math.inf
        while not self.keys_failed and (self._ahead or self._read()):
            time, packet = self._ahead[0]
            alone = packet.is_keyframe and self._trust_keys
            following = self._next_key(time + self._longest_gap, skip=1) if alone else None
            if following is None:
                last = yield from self._run()
                continue
            group = [self._take()]
            while self._ahead and not self._ahead[0][1].is_keyframe:
                group.append(self._take())
            # The latest keyframe within the interval stands for those before it.
            if following > last + self._interval + _ROUNDING:
                yield from self._alone(group)
                last = time

    def _alone(self, group: list[Placed]) -> list[Shown]:
        """The keyframe of a group; where it is damaged, the first frame of the group that is not."""
        self._context.skip_frame = "DEFAULT"
        frames = [*_decode(self._context, group[0][1]), *_decode(self._context, None)]
        self._prove(works=bool(frames))
        if not frames and not self.keys_failed:
            for _, packet in group:
                frames += _decode(self._context, packet)
            frames += _decode(self._context, None)
        return self._timed(frames)[:1]

    def _run(self) -> Generator[Shown, None, float]:
        """The frames from here in sequence until the next keyframe is near enough; returns the last wanted time."""
        start, packet = self._ahead[0]
        furthest = before = start
        grid = _Grid(start, self._interval)
        unproven = packet.is_keyframe and self._trust_keys
        while self._ahead or self._read():
            time, packet = self._take()
            after = self._ahead[0][0] if self._ahead or self._read() else math.inf
            dense = max(abs(time - before), abs(after - time)) < _DENSE
            self._context.skip_frame = "NONREF" if dense else "DEFAULT"
            frames = self._timed(_decode(self._context, packet))
            if frames and unproven:
                self._prove(works=frames[0][0] < start + _LATE)
                unproven = False
            if self.keys_failed:
                return before
            yield from grid.choose(frames)
            before = time
            furthest = max(furthest, time)
            wanted = start + (furthest - start) // self._interval * self._interval
            if self._trust_keys and self._next_key(wanted + self._longest_gap) is not None:
                # Packets come in decoding order: a frame that is shown earlier may still lie ahead.
                rest = list(takewhile(lambda ahead: not ahead[1].is_keyframe, self._ahead))
                if all(time > wanted for time, _ in rest):
                    for _ in rest:
                        self._take()
                    break
        else:
            wanted = math.inf
        frames = self._timed(_decode(self._context, None))
        if frames and unproven:
            self._prove(works=frames[0][0] < start + _LATE)
        if not self.keys_failed:
            end = max(self._end, self._last) if math.isinf(wanted) else wanted
            yield from [*grid.choose(frames), *grid.finish(end)]
        return furthest if math.isinf(wanted) else wanted

    def _prove(self, *, works: bool) -> None:
        self._proven += works
        self.keys_failed |= not works and self._proven < _PROVEN

    def _timed(self, frames: list[VideoFrame]) -> list[Shown]:
        timed = [(self._clock.seconds(frame.pts), frame) for frame in frames if frame.pts is not None]
        if self._watch is not None:
            for time, frame in timed:
                self._watch(time, frame)
        return timed

    def _next_key(self, until: float, *, skip: int = 0) -> float | None:
        """The time of the next keyframe if it comes by ``until``; the one at hand may be skipped."""
        while len(self._keys) <= skip:
            if self._ahead and (self._ahead[-1][0] > until or self._bytes > _MOST_AHEAD):
                return None
            if not self._read():
                return None
        return self._keys[skip] if self._keys[skip] <= until else None

    def _read(self) -> bool:
        for time, packet in self._packets:
            self._ahead.append((time, packet))
            self._bytes += packet.size
            if packet.is_keyframe:
                self._keys.append(time)
            return True
        return False

    def _take(self) -> Placed:
        time, packet = self._ahead.popleft()
        self._bytes -= packet.size
        if packet.is_keyframe:
            self._keys.popleft()
        return time, packet


def _decode(context: Any, packet: Any | None) -> list[VideoFrame]:  # noqa: ANN401
    """The frames that a packet gives, or, for None, those that the decoder still holds."""
    try:
        return list(context.decode(packet))
    except av.error.FFmpegError:
        return []  # a damaged packet costs its own frames, not the rest of the video
    finally:
        if packet is None:
            context.flush_buffers()


class _Grid:
    """Picks, of frames in time order, those on screen at ``start``, ``start + interval`` and so on, each once."""

    def __init__(self, start: float, interval: float) -> None:
        self._start = start
        self._interval = interval
        self._due = start
        self._held: Shown | None = None

    def choose(self, frames: Iterable[Shown]) -> Iterator[Shown]:
        for time, frame in frames:
            if self._due < time:
                yield from self.finish(self._due)
                self._due = self._start + math.ceil((time - self._start) / self._interval) * self._interval
            self._held = (time, frame)

    def finish(self, end: float) -> Iterator[Shown]:
        """The frame that is on screen at the next grid point, if that lies not after ``end``."""
        if self._held is not None and self._due <= end:
            yield self._held
            self._held = None


def picture_of(frame: VideoFrame, stream: Any, info: MediaInfo, max_side: int) -> NDArray[np.uint8]:  # noqa: ANN401
    """A decoded frame as people see it, [height, width, 3] uint8 sRGB: upright, in square pixels, small enough."""
    width, height = display_size(frame.width, frame.height, stream.sample_aspect_ratio)
    scale = min(1.0, max_side / max(width, height))
    stored = to_rgb(frame, max(1, round(width * scale)), max(1, round(height * scale)))
    if info.mirrored:
        stored = stored[:, ::-1]
    return np.ascontiguousarray(np.rot90(stored, -info.rotation // 90))


def frames_at(
    path: str, info: MediaInfo, times: Sequence[float], *, max_side: int
) -> Iterator[tuple[float, NDArray[Any] | None]]:
    """The frames shown from the given seconds on, as [height, width, 3] uint8 RGB, in the order of the times.

    As little is decoded as the way to each from the keyframe before it. None stands for a frame that cannot be found or
    decoded. Time stamps are taken as the file has them, so in a recording whose stamps jump the frame may be another
    one: compare it with the one that was seen before.

    Raises:
        MediaError: the file is gone or cannot be opened.
    """
    if info.video_stream is None:
        return
    with open_media(path) as container:
        stream = _video_stream(container, info, "the file changed since it was prepared", "run the command again")
        stream.thread_type = "AUTO"
        for time in times:
            frame = _frame_at(container, stream, time)
            yield time, None if frame is None else picture_of(frame, stream, info, max_side)


def _frame_at(container: InputContainer, stream: Any, time: float) -> VideoFrame | None:  # noqa: ANN401
    zero = origin(container)
    try:
        seek_key(container, stream, time + zero)
        for number, packet in enumerate(islice(container.demux(stream), _MOST_PACKETS)):
            frames = _decode(stream.codec_context, packet)
            alone = number == 0 and packet.is_keyframe and packet.pts is not None
            if alone and abs(float(packet.pts * stream.time_base) - (time + zero)) < _ROUNDING:
                # The keyframe is itself wanted: no other packet is needed.
                frames += _decode(stream.codec_context, None)
            for frame in frames:
                shown = math.inf if frame.pts is None else frame.pts * float(stream.time_base) - zero
                if time - _ROUNDING <= shown < math.inf:
                    return frame if shown < time + _FAR else None
    except av.error.FFmpegError:
        pass
    return None


def to_rgb(frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """A decoded frame at another size as sRGB, [height, width, 3] uint8.

    A frame that does not say by which matrix its colours are stored has BT.709's if it is of HD size, else BT.601's.
    """
    matrix = None  # the one that the frame names
    if not frame.format.is_rgb and frame.colorspace in (_NOT_STATED, _CONSTANT_LUMINANCE):
        wide = frame.color_primaries == ColorPrimaries.BT2020 or frame.color_trc in _HDR
        if wide or frame.colorspace == _CONSTANT_LUMINANCE:
            matrix = Colorspace.BT2020
        elif frame.width > _HD_WIDTH or frame.height > _HD_HEIGHT:
            matrix = Colorspace.ITU709
    table = _table_for(frame)
    # Scaling inside libswscale, before the copy to an array, keeps large videos cheap. To planes libswscale rounds
    # right; what it loses on the way to rgb24 would show after tone mapping.
    small = frame.reformat(width, height, format="gbrp" if table else "rgb24", src_colorspace=matrix)
    picture = np.asarray(small.to_ndarray(), np.uint8)
    return np.asarray(Image.fromarray(picture).filter(table), np.uint8) if table else picture


def needs_tone_mapping(frame: VideoFrame) -> bool:
    """Whether a frame's colours differ visibly from those of screens: high dynamic range, wide primaries."""
    return _table_for(frame) is not None


def _table_for(frame: VideoFrame) -> ImageFilter.Color3DLUT | None:
    """The colour table from a frame's colours to sRGB; None where they are nearly the same."""
    trc, primaries = frame.color_trc, frame.color_primaries
    side: Any = frame.side_data
    light_level, mastering = Type.CONTENT_LIGHT_LEVEL in side, Type.MASTERING_DISPLAY_METADATA in side
    if trc == _NOT_STATED and primaries == ColorPrimaries.BT2020 and (light_level or mastering):
        trc = ColorTrc.SMPTE2084
    if trc not in _HDR:
        return _table(int(ColorTrc.IEC61966_2_1), int(primaries), _WHITE) if primaries in _WIDE else None
    peak = _HLG_PEAK
    if trc == ColorTrc.SMPTE2084:
        # The greatest luminance, in cd/m2: as the stream says, else the usual one.
        stated = float(_LIGHT_LEVEL.unpack_from(bytes(side[Type.CONTENT_LIGHT_LEVEL]))[0]) if light_level else 0.0
        if not stated and mastering:
            *_, numerator, denominator, _, given = _MASTERING.unpack_from(bytes(side[Type.MASTERING_DISPLAY_METADATA]))
            stated = numerator / denominator if given and denominator else 0.0
        peak = next((peak for peak in _PEAKS if stated <= peak), _PEAKS[0])
    # What does not name its primaries is BT.2020, the only ones that HDR is broadcast and filmed in.
    has_primaries = primaries in _WIDE or primaries == ColorPrimaries.BT709
    return _table(int(trc), int(primaries if has_primaries else ColorPrimaries.BT2020), peak)


@functools.lru_cache(maxsize=8)
def _table(trc: int, primaries: int, peak: float) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0.0, 1.0, _GRID)
    # The first channel of the table changes fastest.
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    signal = np.stack([red, green, blue], -1)
    if trc == ColorTrc.SMPTE2084:
        light = _tone_mapped(_from_pq(signal) / _WHITE, peak / _WHITE)
    elif trc == ColorTrc.ARIB_STD_B67:
        # On a screen of 1000 cd/m2 (ITU-R BT.2100).
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        overall = scene @ np.array([0.2627, 0.6780, 0.0593])
        light = _tone_mapped(_HLG_PEAK * scene * overall[..., None] ** 0.2 / _WHITE, peak / _WHITE)
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    if primaries in _WIDE:
        # From linear RGB of these primaries to that of BT.709, both with the white point D65.
        light = light @ (np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(_WIDE[ColorPrimaries(primaries)])).T
    light = np.clip(light, 0.0, 1.0)
    shown = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return ImageFilter.Color3DLUT(_GRID, shown.astype(np.float32).reshape(-1))


def _from_pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luminance in cd/m2 of a PQ signal (SMPTE ST 2084)."""
    power = signal ** (1 / 78.84375)
    return np.asarray(
        10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    )


def _to_pq(luminance: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (luminance / 10_000) ** 0.1593017578125
    return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _tone_mapped(light: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Light of up to ``peak`` times white brought below 1 by the knee of ITU-R BT.2390, hues kept."""
    strongest = np.max(light, axis=-1, keepdims=True)
    top = _to_pq(np.array(peak * _WHITE))
    level, limit = np.minimum(_to_pq(strongest * _WHITE) / top, 1.0), float(_to_pq(np.array(_WHITE)) / top)
    knee = 1.5 * limit - 0.5
    way = np.clip((level - knee) / (1 - knee), 0.0, 1.0)
    bent = (
        (2 * way**3 - 3 * way**2 + 1) * knee
        + (way**3 - 2 * way**2 + way) * (1 - knee)
        + (3 * way**2 - 2 * way**3) * limit
    )
    mapped = _from_pq(np.where(level < knee, level, bent) * top) / _WHITE
    return np.asarray(light * mapped / np.maximum(strongest, 1e-9))


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    x, y = _WHITE_POINT
    return np.asarray(columns * np.linalg.solve(columns, np.array([x / y, 1.0, (1 - x - y) / y])))
