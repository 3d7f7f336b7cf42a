"""Finds out where pictures may hold text, and whether it has changed since it was last read.

The network is no reader and no exact detector. It answers, for each cell of 8 x 8 pixels, how likely a line of text
covers it, so that the costly recogniser sees only the frames where text may have changed. Six layers with 21 thousand
weights run in numpy, so that decoding workers need no deep-learning framework.

The weights were fitted in 3,500 steps to drawn lines of text (Latin, Greek, Cyrillic, Armenian, Georgian, digits) over
photographs and drawn shapes. ``tests/bench/text_gate.py`` measures them, and makes new ones by the same recipe with
other words.
"""

import functools
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

CELL: Final = 8  # pixels along each side of a cell
# Probability from which two neighbouring cells may hold text; a lost caption costs more than a needless reading.
LIKELY: Final = 0.8
CERTAIN: Final = 0.93
_SIDE: Final = 960  # pixels of the longer side of the picture that is watched; letters must have about 8 of them
_STILL: Final = 2.5  # gray levels by which no cell may differ on average for a picture to count as the same
_SHIMMER: Final = 5.0  # gray levels of average difference, light apart, that compression and noise make in a cell
_ALIKE: Final = 0.8  # correlation below which a cell shows something else
_CLEARER: Final = 1.6  # gain in contrast from which text that fades in is worth reading again
_FAINT: Final = 85  # gray levels between the darkest and the brightest up to which text, if any, is faint
_MOST_STRETCH: Final = 3.0
# Heights, in the side of a 16:9 picture of that area, up to which letters are small, 9 of 1280 pixels, and no letters.
_SMALL_LETTER: Final = 1 / 140
_SPECK: Final = 1 / 320
_STROKE: Final = 28  # gray levels by which the strokes of letters differ from the ground around them
# Number of small letters, and their share of all, from which a picture is worth reading at its full size.
_SMALL_LETTERS: Final = 8
_SMALL_SHARE: Final = 1 / 3

_WEIGHTS: Final = Path(__file__).with_name("text_gate.npz")
# Kernel, stride and dilation of each layer; a rectifier follows each but the last.
_LAYERS: Final = ((5, 2, 1), (3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 2), (1, 1, 1))
_SCALES: Final = (1.0, 0.5, 0.25)  # letters of about 6 to 60 pixels are known; larger ones are seen in smaller copies
_SMALLEST: Final = 32
_ONE_THREAD: Final = 200_000  # multiplications of a matrix product below which OpenBLAS starts no threads


class TextChange(Enum):
    """The meaning of a frame for the text."""

    NONE = "nothing like text here, nor in the frame before"
    GONE = "what was like text in the frame before is no more"
    SAME = "what is like text is what was read last"
    LATER = "what is like text has changed, but it is too soon to read it"
    READ = "what is like text has changed and is worth reading"


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """A picture cell by cell: its pixels [cells, 64], the cells that are likely text [cells], and if any surely is."""

    shape: tuple[int, int]
    pixels: FloatArray
    likely: NDArray[np.bool_]
    certain: bool


class TextWatch:
    """Compares each frame with the one that was last to be read."""

    def __init__(self, shortest: float, doubtful: float) -> None:
        self._shortest = shortest  # seconds between two frames to be read, at least
        self._doubtful = doubtful  # the same where the network is not certain of any text
        self._mapped: _Cells | None = None
        self._last: _Cells | None = None
        self._read_at = float("-inf")

    def look(self, time: float, image: NDArray[np.uint8]) -> TextChange:
        """Judge the frame at ``time``: [height, width, 3] uint8."""
        now = self._cells(image)
        had_text = self._last is not None and bool(self._last.likely.any())
        if not had_text and not now.likely.any():
            return TextChange.NONE
        # Asked before the network's word on this frame: what has not changed cannot be gone, however unsure it is.
        if not _differ(now, self._last):
            return TextChange.SAME
        if not now.likely.any():
            self._last = now
            return TextChange.GONE
        if time - self._read_at < (self._shortest if now.certain else self._doubtful):
            return TextChange.LATER
        self._last, self._read_at = now, time
        return TextChange.READ

    def sees_small_letters(self, image: NDArray[np.uint8]) -> bool:
        """Whether many letters are small where the frame that was last to be read, which this is, is likely text."""
        if self._last is None:
            return False
        gray = np.asarray(cv2.cvtColor(stretched(image), cv2.COLOR_RGB2GRAY))
        side = _wide_side(gray)
        rows, columns = (length // CELL for length in self._last.shape)
        cells = cv2.dilate(self._last.likely.reshape(rows, columns).astype(np.uint8), np.ones((3, 3), np.uint8))
        likely = cv2.resize(cells, (gray.shape[1], gray.shape[0]), interpolation=cv2.INTER_NEAREST)
        ground = cv2.medianBlur(gray, side // 80 * 2 + 1)
        strokes = (cv2.absdiff(gray, ground) > _STROKE) & (likely > 0)
        boxes = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)[2][1:]
        heights = boxes[:, cv2.CC_STAT_HEIGHT] / side
        heights = heights[heights >= _SPECK]
        small = int((heights <= _SMALL_LETTER).sum())
        return small >= max(_SMALL_LETTERS, _SMALL_SHARE * len(heights))

    def _cells(self, image: NDArray[np.uint8]) -> _Cells:
        # Gray, its sides whole cells, so that every pixel belongs to one.
        scale = min(1.0, _SIDE / _wide_side(image))
        width, height = (max(1, round(side * scale) // CELL) * CELL for side in (image.shape[1], image.shape[0]))
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        rows, columns = height // CELL, width // CELL
        blurred = cv2.blur(gray, (3, 3)).astype(np.float32)
        pixels = blurred.reshape(rows, CELL, columns, CELL).swapaxes(1, 2).reshape(rows * columns, CELL * CELL)
        before = self._mapped
        if (
            before is not None
            and before.shape == (height, width)
            and np.abs(pixels - before.pixels).mean(axis=1).max() < _STILL
        ):
            return replace(before, pixels=pixels)
        contrasting = stretched(gray)
        probability = text_map(contrasting)
        likely = paired(probability, LIKELY)
        if not likely.any():
            # Text that runs upwards or downwards, where it is certain; seen at half the size, which is cheap.
            half = cv2.resize(np.rot90(contrasting), (height // 2, width // 2), interpolation=cv2.INTER_AREA)
            turned = np.rot90(paired(text_map(half), CERTAIN), -1).astype(np.uint8)
            likely = np.asarray(cv2.resize(turned, (columns, rows), interpolation=cv2.INTER_NEAREST), dtype=bool)
        certain = bool(paired(probability, CERTAIN).any())
        self._mapped = _Cells((height, width), pixels, likely.ravel(), certain)
        return self._mapped


def _differ(now: _Cells, before: _Cells | None) -> bool:
    """Whether a cell that holds or held text looks different, beyond noise, compression and changes of light."""
    if before is None or before.shape != now.shape:
        return True
    cells = now.likely | before.likely
    a, b = now.pixels[cells], before.pixels[cells]
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    spread_a, spread_b = np.sqrt((a**2).mean(axis=1)), np.sqrt((b**2).mean(axis=1))
    # Correlation does not mind brighter or darker light; nearly flat cells are alike whatever it says.
    alike = (a * b).mean(axis=1) / (spread_a * spread_b + 1e-3)
    changed = (alike < _ALIKE) | (spread_a > _CLEARER * spread_b)
    return bool((changed & (np.abs(a - b).mean(axis=1) > _SHIMMER)).any())


def paired(probability: FloatArray, limit: float) -> NDArray[np.bool_]:
    """The cells that, with a neighbour to the left or right, are above a limit: any word is wider than one cell."""
    cells = probability > limit
    both = cells[:, :-1] & cells[:, 1:]
    result = np.zeros_like(cells)
    result[:, :-1] |= both
    result[:, 1:] |= both
    return result


def stretched(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray or RGB picture, with more contrast where all is of about one brightness, so that faint text is seen."""
    darkest, brightest = int(image.min()), int(image.max())
    if brightest - darkest > _FAINT or brightest == darkest:
        return image
    gain = min(_MOST_STRETCH, 255 / (brightest - darkest))
    return np.asarray(cv2.convertScaleAbs(image, alpha=gain, beta=-gain * darkest))


def _wide_side(image: NDArray[np.uint8]) -> int:
    """The longer side of a 16:9 picture of the same area; of the picture itself where that is squarer."""
    height, width = image.shape[:2]
    return int(min(max(height, width), (height * width * 16 / 9) ** 0.5))


def text_map(gray: NDArray[np.uint8]) -> FloatArray:
    """The probability that each cell of a picture holds text.

    Args:
        gray: [height, width] uint8; letters between 8 pixels and a third of the height are seen.

    Returns:
        [height // 8, width // 8] float32 in [0, 1].
    """
    rows, columns = max(1, gray.shape[0] // CELL), max(1, gray.shape[1] // CELL)
    best = np.zeros((rows, columns), np.float32)
    for scale in _SCALES:
        size = (round(columns * CELL * scale), round(rows * CELL * scale))
        if min(size) < _SMALLEST:
            break
        small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
        x: FloatArray = (small.astype(np.float32) / np.float32(255) - np.float32(0.5))[None]
        for number, ((weight, bias), layer) in enumerate(zip(_weights(), _LAYERS, strict=True)):
            x = _convolve(x, weight, *layer) + bias[:, None, None]
            if number < len(_LAYERS) - 1:
                np.maximum(x, 0, out=x)
        probability = np.asarray(1 / (1 + np.exp(-x[0])), np.float32)
        resized = cv2.resize(probability, (columns, rows), interpolation=cv2.INTER_LINEAR)
        np.maximum(best, resized, out=best)
    return best


def _convolve(x: FloatArray, weight: FloatArray, kernel: int, stride: int, dilation: int) -> FloatArray:
    """A 2-d convolution, zero-padded to keep ``ceil(size / stride)``: [in, h, w] with [out, in * kernel**2]."""
    reach = (kernel - 1) * dilation
    sides = (reach // 2, reach - reach // 2)
    padded = np.pad(x, ((0, 0), sides, sides))
    height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
    patches = np.empty((x.shape[0], kernel * kernel, height, width), np.float32)
    for place in range(kernel * kernel):
        top, left = (offset * dilation for offset in divmod(place, kernel))
        window = padded[:, top : top + (height - 1) * stride + 1, left : left + (width - 1) * stride + 1]
        patches[:, place] = window[:, ::stride, ::stride]
    # In slices so small that the linear algebra library keeps to one thread: its worker threads wait busily; beside
    # recognisers that use all cores they cost five times what they save.
    right = patches.reshape(-1, height * width)
    slice_width = max(1, _ONE_THREAD // weight.size)
    count = right.shape[1] // slice_width
    result = np.empty((weight.shape[0], right.shape[1]), np.float32)
    whole = count * slice_width
    slices = right[:, :whole].reshape(right.shape[0], count, slice_width).swapaxes(0, 1)
    out = result[:, :whole].reshape(weight.shape[0], count, slice_width).swapaxes(0, 1)
    np.matmul(weight, slices, out=out)
    result[:, whole:] = weight @ right[:, whole:]
    return result.reshape(-1, height, width)


@functools.lru_cache(maxsize=1)
def _weights() -> tuple[tuple[FloatArray, FloatArray], ...]:
    with np.load(_WEIGHTS) as stored:
        return tuple(
            (stored[f"weight{number}"].astype(np.float32), stored[f"bias{number}"].astype(np.float32))
            for number in range(len(_LAYERS))
        )
