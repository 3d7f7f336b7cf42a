"""The sound of a video as mono samples on the video's time line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import av
import av.error
import numpy as np

from clamr_cli.errors import MediaError
from clamr_cli.media.container import Clock, open_media, read_packets
from clamr_cli.media.languages import short_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.audio.frame import AudioFrame
    from av.packet import Packet
    from numpy.typing import NDArray

    from clamr_cli.types import AudioTrack, MediaInfo

CHUNK: Final = 10.0
"""Seconds of sound in each chunk but the last."""

MOST_SILENCE: Final = 12 * 3600
"""Seconds of silence that the gaps of a track may make, together: a small file can claim weeks of it."""

_TOLERANCE: Final = 0.08
"""Seconds by which time stamps may differ from the samples counted before it is a gap and not rounding."""

_ODD_FRAME: Final = (ValueError, av.error.FFmpegError)
"""What a resampler says to a frame that is not of the format it was made for, or of none."""


def choose_track(info: MediaInfo, language: str = "") -> AudioTrack | None:
    """The track to listen to: of the wanted language, else the default one, else the first; None without any.

    Tracks without a decoder do not count.

    Args:
        info: what the probe said.
        language: a language code such as ``de`` or ``deu``; empty for no wish.
    """
    wanted = short_code(language)
    tracks = [track for track in info.audio if track.codec]
    return max(tracks, key=lambda track: (bool(wanted) and track.language == wanted, track.default), default=None)


def read_audio(path: str, track: AudioTrack, *, rate: int = 16_000) -> Iterator[NDArray[np.float32]]:
    """A track as mono chunks of shape (n,), float32 in [-1, 1], at ``rate`` samples a second.

    The first sample belongs to second 0 of the video: sound that starts late is preceded by silence, gaps are filled
    with silence, what comes before second 0 is cut off, and damaged packets become gaps.

    Raises:
        MediaError: the file is gone, the disk fails, or nothing of the track can be decoded.
    """
    with open_media(path) as container:
        if track.index >= len(container.streams) or container.streams[track.index].type != "audio":
            raise MediaError("the file changed while it was read", "index again")
        stream: Any = container.streams[track.index]
        clock = Clock(container, stream, step=0.02)
        line = _Line(rate)
        for time, frame in _frames(read_packets(container, [stream]), stream, clock):
            yield from line.add(frame, time)
        yield from line.finish()
    if not line.heard:
        raise MediaError("nothing of the sound can be decoded", "copy or download it again, or convert it to AAC")


def _frames(packets: Iterable[Packet[Any]], stream: Any, clock: Clock) -> Iterator[tuple[float, AudioFrame]]:  # noqa: ANN401
    for _, packet in clock.placed(packets):
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            continue  # its time stays silent
        yield from ((clock.seconds(frame.pts), frame) for frame in frames if _placed(frame))


def _placed(frame: AudioFrame) -> bool:
    return bool(frame.samples) and frame.sample_rate > 0 and frame.pts is not None


class _Line:
    """Lays resampled frames on a time line and hands them out in chunks."""

    def __init__(self, rate: int) -> None:
        self.heard = False
        self._rate = rate
        self._size = round(CHUNK * rate)
        self._pieces: list[NDArray[np.float32]] = []
        self._held = 0
        self._given = 0
        self._resampler: Any = None
        self._filled_to = 0.0
        self._silence = 0.0

    def add(self, frame: AudioFrame, time: float) -> Iterator[NDArray[np.float32]]:
        """Lay down a frame that begins at ``time`` seconds."""
        length = frame.samples / frame.sample_rate
        ahead = time - self._filled_to
        if ahead < -_TOLERANCE:
            return  # before the start, or heard already
        if self._resampler is None or ahead > _TOLERANCE:
            yield from self._restart(time)
        try:
            self._lay(self._resample(frame))
        except _ODD_FRAME:
            # The format changed in the middle: another resampler takes it from here.
            yield from self._restart(time)
            try:
                self._lay(self._resample(frame))
            except _ODD_FRAME:
                self._resampler = None  # damage that decodes to no format at all: its time stays silent
                return
        self._filled_to += length
        yield from self._full_chunks()

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """What is left."""
        self._lay(self._rest())
        yield from self._full_chunks()
        if self._held:
            yield np.concatenate(self._pieces)

    def _restart(self, time: float) -> Iterator[NDArray[np.float32]]:
        self._lay(self._rest())
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate)
        missing = round(max(0.0, time) * self._rate) - self._given - self._held
        self._silence += max(0, missing) / self._rate
        if self._silence > MOST_SILENCE:
            raise MediaError(
                f"its sound has gaps of more than {MOST_SILENCE // 3600} hours", "cut it into shorter videos"
            )
        while missing > 0:
            count = min(missing, self._size)
            self._lay(np.zeros(count, np.float32))
            missing -= count
            yield from self._full_chunks()
        self._filled_to = (self._given + self._held) / self._rate

    def _resample(self, frame: AudioFrame | None) -> NDArray[np.float32]:
        if frame is not None:
            frame.pts = None
        parts = [part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)]
        self.heard = self.heard or frame is not None
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _rest(self) -> NDArray[np.float32]:
        """What the resampler still holds; nothing where an odd frame broke it, or where there is none."""
        try:
            return self._resample(None) if self._resampler is not None else np.zeros(0, np.float32)
        except _ODD_FRAME:
            return np.zeros(0, np.float32)

    def _lay(self, samples: NDArray[np.float32]) -> None:
        if samples.size:
            self._pieces.append(np.clip(np.nan_to_num(samples), -1.0, 1.0).astype(np.float32))
            self._held += samples.size

    def _full_chunks(self) -> Iterator[NDArray[np.float32]]:
        if self._held < self._size:
            return
        joined = np.concatenate(self._pieces)
        whole = joined.size // self._size * self._size
        for start in range(0, whole, self._size):
            yield joined[start : start + self._size]
        self._pieces = [joined[whole:]]
        self._held = joined.size - whole
        self._given += whole
