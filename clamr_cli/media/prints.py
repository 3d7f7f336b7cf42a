"""Fingerprints of what a video shows and sounds like, by which copies of it are found.

The pictures have a 64-bit perceptual hash about twice a second: the signs of low frequencies (DCT) of the brightness
without black bars. Signs do not change with brightness and contrast, little with scale, compression, overlays and small
crops, and those of a mirrored picture are known from the hash itself. Beside it is the picture in 16 by 16 levels: they
tell apart what the hash does not, such as what moves a little before a background that stays. The sound has the energy
of eight bands ten times a second.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from clamr_cli.errors import MediaError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from clamr_cli.types import AudioTrack, MediaInfo

INTERVAL: Final = 0.5
"""Seconds between two hashes at least, where frames are decoded in sequence."""

CLOSE: Final = 0.1
"""The same, where two videos are looked at closely: what moves shows in a few of them."""

FLAT: Final = np.uint64(0)
"""Stands for the hash of a picture of one colour, which is like any other of its kind."""

LEVELS: Final = 16
"""Levels along each side of a picture."""

CUT: Final = 20.0
"""Mean difference of level between two pictures from which another shot begins."""

SOUND_RATE: Final = 10
"""Energies of the sound a second."""

_SAMPLE_RATE: Final = 8000
_EDGES: Final = (100, 250, 450, 700, 1000, 1400, 1900, 2600, 3600)  # of the eight bands, in Hz
_SIDE: Final = 128  # pixels along each side of the copy in which bars are looked for
_SMALL: Final = 32  # of the copy that is transformed
_FLAT: Final = 4.0  # standard deviation of the levels (of 256) below which a picture is of one colour
_AROUND: Final = 4.0  # seconds before and after a picture in which its bars must be dark too
_BLOCK: Final = 32.0  # seconds of pictures that are hashed at a time
_WRITTEN: Final = 28  # pixels of each row and column of a bar that need not be dark
_DARK: Final = 64  # level up to which a bar is dark
_CONTRAST: Final = 0.12  # part of the range between bar and picture up to which pixels belong to the bar
_SHARP: Final = 0.3  # part of that range that the picture reaches within three pixels of a bar
_UNEVEN: Final = 6  # pixels by which two bars may differ
_ALL: Final = slice(None)
_LEAST_INSIDE: Final = 24  # pixels between bars at least
_SLACK: Final = 0.1  # part of the interval by which a frame may come early


def _frequencies() -> list[tuple[int, int]]:
    """The 64 lowest frequencies but the mean, (down, across), lowest first."""
    grid = sorted(((y, x) for y in range(11) for x in range(11)), key=lambda f: (f[0] + f[1], max(f), f))
    return grid[1:65]


_FREQUENCIES: Final = _frequencies()
_BITS: Final = np.uint64(1) << np.arange(64, dtype=np.uint64)
MIRROR: Final = np.uint64(sum(1 << bit for bit, (_, across) in enumerate(_FREQUENCIES) if across % 2))
"""The bits of a hash that change when the picture is mirrored left to right."""


def _cosines() -> NDArray[np.float32]:
    """The DCT's lowest 11 base vectors over 32 pixels, [11, 32]."""
    steps = (np.arange(_SMALL) + 0.5) * np.pi / _SMALL
    return np.cos(np.arange(11)[:, None] * steps).astype(np.float32)


_COSINES: Final = _cosines()


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """Fingerprints of a video's pictures.

    Attributes:
        times: seconds, [n] float32, ascending.
        hashes: [n] uint64; :data:`FLAT` for pictures of one colour.
        levels: brightness within the bars, [n, 16, 16] uint8; [0, 16, 16] where they are not read from the index.
    """

    times: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    levels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, LEVELS, LEVELS), np.uint8))

    @property
    def is_sparse(self) -> bool:
        """Whether they lie farther apart than where frames are decoded in sequence."""
        return len(self.times) > 1 and float(np.ptp(self.times)) > 1.25 * INTERVAL * (len(self.times) - 1)

    def blobs(self) -> list[bytes]:
        """As bytes: times, hashes, levels."""
        levels = zlib.compress(self.levels.tobytes(), 1)
        return [self.times.astype("<f4").tobytes(), self.hashes.astype("<u8").tobytes(), levels]

    @classmethod
    def of(cls, times: bytes, hashes: bytes) -> Self:
        """Those of :meth:`blobs`, without their levels, which take 32 times as much memory."""
        return cls(np.frombuffer(times, "<f4").astype(np.float32), np.frombuffer(hashes, "<u8").astype(np.uint64))


def levels_of(blob: bytes) -> NDArray[np.uint8]:
    """The levels [n, 16, 16] of :meth:`Prints.blobs`."""
    return np.frombuffer(zlib.decompress(blob), np.uint8).reshape(-1, LEVELS, LEVELS)


def hash_pictures(
    pictures: NDArray[np.uint8], interval: float = INTERVAL
) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Hashes [n] and levels [n, 16, 16] of pictures at a distance in time, [n, 128, 128] uint8 brightness."""
    around = round(_AROUND / interval)
    small = np.empty((len(pictures), _SMALL, _SMALL), np.float32)
    # A bar may have a logo and a line of text.
    rows = np.partition(pictures, _SIDE - _WRITTEN, axis=2)[:, :, _SIDE - _WRITTEN]
    columns = np.partition(pictures, _SIDE - _WRITTEN, axis=1)[:, _SIDE - _WRITTEN]
    tiny = pictures[:, ::8, ::8].astype(np.int16)
    cuts = np.flatnonzero(np.abs(np.diff(tiny, axis=0)).mean(axis=(1, 2)) > CUT) + 1
    down, across = _inside(rows.max(axis=0)), _inside(columns.max(axis=0))
    for number, picture in enumerate(pictures):
        # Bars are dark in all pictures, or in all of a shot.
        place = int(np.searchsorted(cuts, number, side="right"))
        first = max(number - around, int(cuts[place - 1]) if place else 0)
        end = min(number + around + 1, int(cuts[place]) if place < len(cuts) else len(pictures))
        shot_down, shot_across = down, across
        if down == across == _ALL:
            shot_down, shot_across = _inside(rows[first:end].max(axis=0)), _inside(columns[first:end].max(axis=0))
        cv2.resize(
            picture[shot_down, shot_across].astype(np.float32),
            (_SMALL, _SMALL),
            dst=small[number],
            interpolation=cv2.INTER_AREA,
        )
    spectra = _COSINES @ small @ _COSINES.T
    bits = spectra[:, [y for y, _ in _FREQUENCIES], [x for _, x in _FREQUENCIES]] > 0
    hashes: NDArray[np.uint64] = (bits * _BITS).sum(axis=1, dtype=np.uint64)
    hashes[small.std(axis=(1, 2)) < _FLAT] = FLAT
    step = _SMALL // LEVELS
    levels = small.reshape(-1, LEVELS, step, LEVELS, step).mean(axis=(2, 4))
    return hashes, np.rint(levels).astype(np.uint8)


def _inside(levels: NDArray[np.uint8]) -> slice:
    """The part between two dark bars of a width with sharp edges, of the levels [128] of rows or columns."""
    darkest, brightest = int(levels.min()), int(levels.max())
    # Against the range of the picture, so that brightness and contrast change nothing.
    bright = np.flatnonzero(levels > darkest + max(2.0, _CONTRAST * (brightest - darkest)))
    if darkest > _DARK or not len(bright):
        return _ALL
    first, end = int(bright[0]), int(bright[-1]) + 1
    edge = darkest + _SHARP * (brightest - darkest)
    is_sharp = levels[first : first + 3].max() > edge and levels[end - 3 : end].max() > edge
    if min(first, _SIDE - end) < 2 or abs(first + end - _SIDE) > _UNEVEN or end - first < _LEAST_INSIDE or not is_sharp:
        return _ALL
    # The row where a bar ends is partly dark.
    return slice(first + 1, end - 1)


class PrintMaker:
    """Makes the hashes of a video from frames as they are decoded; frames in between cost nothing."""

    def __init__(self, info: MediaInfo, interval: float = INTERVAL) -> None:
        self._interval = interval
        # One for all frames: it holds the tables by which they are scaled.
        self._reformatter = VideoReformatter()
        self._turns = -info.rotation // 90
        self._mirrored = info.mirrored
        self._due = -np.inf
        self._times: list[float] = []
        self._pictures: list[NDArray[np.uint8]] = []
        self._made: list[tuple[NDArray[np.uint64], NDArray[np.uint8]]] = []

    def add(self, time: float, frame: VideoFrame) -> None:
        """Take a decoded frame, if it is time for the next one."""
        if time < self._due - _SLACK * self._interval:
            return
        self._due = max(self._due, time - self._interval / 2 if self._times else time) + self._interval
        self._times.append(max(0.0, time))
        small = self._reformatter.reformat(frame, _SIDE, _SIDE, format="gray", interpolation="AREA")
        picture = np.asarray(small.to_ndarray(), np.uint8)
        if self._mirrored:
            picture = picture[:, ::-1]
        self._pictures.append(np.rot90(picture, self._turns) if self._turns else picture)
        if len(self._pictures) == round(_BLOCK / self._interval):
            self._hash()

    def _hash(self) -> None:
        if self._pictures:
            self._made.append(hash_pictures(np.stack(self._pictures), self._interval))
            self._pictures.clear()

    def prints(self) -> Prints:
        """The fingerprints of all frames so far."""
        self._hash()
        if not self._made:
            return Prints(np.zeros(0, np.float32), np.zeros(0, np.uint64))
        hashes, levels = (np.concatenate(parts) for parts in zip(*self._made, strict=True))
        return Prints(np.array(self._times, np.float32), hashes, levels)


def read_prints(
    path: str, info: MediaInfo, progress: Callable[[float], None] | None = None, *, interval: float = 0.0
) -> Prints:
    """The hashes of a file's pictures, those that an index run makes of it; empty where it has none.

    With an ``interval`` they are everywhere as close, and all of the video is decoded.

    Raises:
        MediaError: the file is gone, the disk fails, or not one frame can be decoded.
    """
    from clamr_cli.media.frames import sample_frames

    maker = PrintMaker(info, interval or INTERVAL)
    gap, longest = (interval, interval) if interval else (2.0, 4.0)
    for sample in sample_frames(path, info, interval=gap, longest_gap=longest, max_side=64, watch=maker.add):
        if progress is not None:
            progress(sample.time)
    return maker.prints()


def read_sound_print(
    path: str, tracks: tuple[AudioTrack, ...], progress: Callable[[float], None] | None = None
) -> NDArray[np.uint8]:
    """The energy of the bands of a file's first sound track, [n, 8] uint8 in steps of half a decibel, ten a second.

    Empty where nothing of it can be decoded.

    Raises:
        MediaError: the file is gone.
    """
    from clamr_cli.media.audio import read_audio

    step = _SAMPLE_RATE // SOUND_RATE
    parts: list[NDArray[np.uint8]] = []
    rest = np.zeros(0, np.float32)
    frequencies = np.fft.rfftfreq(step, 1 / _SAMPLE_RATE)
    bounds = np.searchsorted(frequencies, _EDGES)
    window = np.hanning(step).astype(np.float32)

    def chunks() -> Iterator[NDArray[np.float32]]:
        try:
            for _, chunk in read_audio(path, tracks[:1], rate=_SAMPLE_RATE):
                yield chunk
        except MediaError as error:
            if not parts and "gone" in error.what:
                raise

    for chunk in chunks():
        samples = np.concatenate([rest, chunk])
        count = len(samples) // step
        blocks, rest = samples[: count * step].reshape(count, step), samples[count * step :]
        power = np.abs(np.fft.rfft(blocks * window, axis=1)) ** 2
        bands = np.add.reduceat(power, bounds, axis=1)[:, :8] + 1e-12
        # From -100 dB of full scale upwards.
        levels = 2 * (10 * np.log10(bands / (step / 2) ** 2) + 100)
        parts.append(np.clip(levels, 0, 255).astype(np.uint8))
        if progress is not None:
            progress(sum(map(len, parts)) / SOUND_RATE)
    return np.concatenate(parts) if parts else np.zeros((0, 8), np.uint8)
