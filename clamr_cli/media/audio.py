"""The sound of a video as mono samples on the video's time line."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from clamr_cli.errors import MediaError
from clamr_cli.media.container import Clock, open_media, placed_packets
from clamr_cli.types import AudioTrack

Stretches = Sequence[tuple[int, int]]
SpeechFinder = Callable[[NDArray[np.float32]], Stretches]

CHUNK: Final = 10.0  # seconds of sound in each chunk but the last
MOST_SILENCE: Final = 12 * 3600  # seconds that the gaps of a track may make together: a small file can claim weeks
_TOLERANCE: Final = 0.08  # seconds by which stamps may differ from the samples before it is a gap and not rounding
_MOST_CHANNELS: Final = 24
# A resampler's errors for a frame that is not of the format it was made for, or of none.
_ODD_FRAME: Final = (ValueError, av.error.FFmpegError)
_NO_SOUND: Final = 1e-6  # power of a channel against the loudest below which it is silent
# Correlations of channels: above the first (or below its negative) they carry the same, below the second inverted.
_ALIKE: Final = 0.7
_OPPOSED: Final = -0.3


def read_audio(
    path: str, tracks: Sequence[AudioTrack], *, rate: int = 16_000, speech: SpeechFinder | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Tracks as mono chunks of shape (n,), float32 in [-1, 1], each with the number of its track in ``tracks``.

    The first sample belongs to second 0 of the video: sound that starts late is preceded by silence, gaps are filled
    with silence, what comes before second 0 is cut off, and damaged packets become gaps. Of channels that differ, those
    are mixed in which somebody speaks; inverted ones are turned, so that they do not cancel out.

    ``rate`` is samples a second; ``speech`` finds the stretches of speech in mono samples, without it all channels are
    mixed.

    Raises:
        MediaError: the file is gone, the disk fails, or nothing of the tracks can be decoded.
    """
    with open_media(path) as container:
        streams: list[Any] = []
        for track in tracks:
            if track.index >= len(container.streams) or container.streams[track.index].type != "audio":
                raise MediaError("the file changed while it was read", "index again")
            streams.append(container.streams[track.index])
        numbers = {stream.index: number for number, stream in enumerate(streams)}
        clocks = {stream.index: Clock(container, stream, step=0.02) for stream in streams}
        lines = [MonoLine(rate, speech) for _ in streams]
        for _, packet in placed_packets(container, clocks):
            number = numbers[packet.stream_index]
            try:
                frames = streams[number].codec_context.decode(packet)
            except av.error.FFmpegError:
                continue  # its time stays silent
            for frame in frames:
                if frame.samples and frame.sample_rate > 0 and frame.pts is not None:
                    time = clocks[packet.stream_index].seconds(frame.pts)
                    yield from ((number, chunk) for chunk in lines[number].add(frame, time))
        for number, line in enumerate(lines):
            yield from ((number, chunk) for chunk in line.finish())
    if not any(line.heard for line in lines):
        raise MediaError("nothing of the sound can be decoded", "copy or download it again, or convert it to AAC")


class MonoLine:
    """Lays decoded frames on a time line and gives them as mono chunks; see :func:`read_audio`.

    ``heard`` is True once a frame could be resampled.
    """

    def __init__(self, rate: int, speech: SpeechFinder | None = None) -> None:
        self.heard = False
        self._rate = rate
        self._speech = speech
        self._size = round(CHUNK * rate)
        self._pieces: list[NDArray[np.float32]] = []
        self._held = 0
        self._given = 0
        self._resampler: Any = None
        self._filled_to = 0.0
        self._silence = 0.0

    def add(self, frame: AudioFrame, time: float) -> Iterator[NDArray[np.float32]]:
        """Lay down a frame that begins at ``time`` seconds."""
        ahead = time - self._filled_to
        if ahead < -_TOLERANCE:
            return  # before the start, or heard already
        length = frame.samples / frame.sample_rate
        if self._resampler is None or ahead > _TOLERANCE:
            yield from self._restart(time, frame)
        try:
            self._lay(self._resample(frame))
        except _ODD_FRAME:
            # The format changed in the middle: another resampler takes it from here.
            yield from self._restart(time, frame)
            try:
                self._lay(self._resample(frame))
            except _ODD_FRAME:
                self._resampler = None  # damage that decodes to no format at all: its time stays silent
                return
        self._filled_to += length
        yield from self._full_chunks()

    def finish(self) -> Iterator[NDArray[np.float32]]:
        """The chunks that are left."""
        self._flush()
        yield from self._full_chunks()
        if self._held:
            yield self._joined()

    def _restart(self, time: float, frame: AudioFrame) -> Iterator[NDArray[np.float32]]:
        self._flush()
        self._resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self._rate)
        missing = round(max(0.0, time) * self._rate) - self._given - self._held
        self._silence += max(0, missing) / self._rate
        if self._silence > MOST_SILENCE:
            raise MediaError(
                f"its sound has gaps of more than {MOST_SILENCE // 3600} hours", "cut it into shorter videos"
            )
        while missing > 0:
            count = min(missing, self._size)
            self._lay(np.zeros((count, 1), np.float32))
            missing -= count
            yield from self._full_chunks()
        self._filled_to = (self._given + self._held) / self._rate

    def _flush(self) -> None:
        """Lay down what the resampler still holds; nothing where an odd frame broke it, or where there is none."""
        if self._resampler is not None:
            with contextlib.suppress(*_ODD_FRAME):
                self._lay(self._resample(None))

    def _resample(self, frame: AudioFrame | None) -> NDArray[np.float32]:
        """Samples [n, channels]."""
        if frame is not None:
            if frame.layout.nb_channels > _MOST_CHANNELS:
                raise ValueError(frame.layout.name)
            frame.pts = None
        parts = [part.to_ndarray().reshape(-1, part.layout.nb_channels) for part in self._resampler.resample(frame)]
        self.heard = self.heard or frame is not None
        return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)

    def _lay(self, samples: NDArray[np.float32]) -> None:
        if samples.size:
            self._pieces.append(np.clip(np.nan_to_num(samples), -1.0, 1.0).astype(np.float32))
            self._held += len(samples)

    def _joined(self) -> NDArray[np.float32]:
        """All pieces as mono; they are of several formats where a gap or another programme begins."""
        groups = itertools.groupby(self._pieces, key=lambda piece: piece.shape[1])
        return np.concatenate([_to_mono(np.concatenate(list(group)), self._speech) for _, group in groups])

    def _full_chunks(self) -> Iterator[NDArray[np.float32]]:
        if self._held < self._size:
            return
        joined = self._joined()
        whole = joined.size // self._size * self._size
        for start in range(0, whole, self._size):
            yield joined[start : start + self._size]
        self._pieces = [joined[whole:, None]]
        self._held = joined.size - whole
        self._given += whole


def _to_mono(samples: NDArray[np.float32], speech: SpeechFinder | None) -> NDArray[np.float32]:
    """Some seconds of sound [n, channels] as mono [n]; see :func:`read_audio`."""
    power = np.square(samples, dtype=np.float64).sum(axis=0)
    active = samples[:, power > _NO_SOUND * power.max()]
    if active.shape[1] < 2:
        return active[:, 0] if active.shape[1] else np.zeros(len(samples), np.float32)
    norms = np.sqrt(np.square(active, dtype=np.float64).sum(axis=0))
    loudest = int(norms.argmax())
    correlation = active.T.astype(np.float64) @ active[:, loudest] / (norms * norms[loudest])
    active = active * np.where(correlation < _OPPOSED, -1, 1).astype(np.float32)
    if speech is not None and np.abs(correlation).min() < _ALIKE:
        spoken = np.array([length(speech(np.ascontiguousarray(channel))) for channel in active.T])
        if spoken.max() > 0:
            active = active[:, spoken >= spoken.max() / 2]
    # Scaled as FFmpeg does it, so that what is common to the channels gets louder.
    mixed: NDArray[np.float32] = active.sum(axis=1, dtype=np.float32) / np.float32(np.sqrt(active.shape[1]))
    return mixed.clip(-1.0, 1.0)


def without(stretches: Stretches, taken: Stretches, shortest: int = 0) -> list[tuple[int, int]]:
    """Of stretches in order, what lies outside of other stretches in order, where it is not shorter than ``shortest``.

    >>> without([(0, 10), (20, 30)], [(5, 22)])
    [(0, 5), (22, 30)]
    """
    left: list[tuple[int, int]] = []
    for start, end in stretches:
        for first, last in taken:
            if last <= start or first >= end:
                continue
            left.append((start, first))
            start = last
        left.append((start, end))
    return [(start, end) for start, end in left if end - start >= max(1, shortest)]


def length(stretches: Stretches) -> int:
    """Samples in all."""
    return sum(end - start for start, end in stretches)
