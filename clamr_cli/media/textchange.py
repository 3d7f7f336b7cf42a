"""Whether what could be text has changed since it was last read: captions come, clocks run, slides stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from clamr_cli.media.textmap import CELL, text_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE: Final = 960
"""Pixels of the longer side of the picture that is watched; letters must have about 8 of them."""

_LIKELY: Final = 0.8
"""Probability from which two neighbouring cells may hold text; a lost caption costs more than a needless reading."""

_CERTAIN: Final = 0.93

_STILL: Final = 2.5
"""Gray levels by which no cell may differ on average for a picture to count as the same."""

_SHIMMER: Final = 5.0
"""Gray levels of average difference, light apart, that compression and noise alone can make in a cell."""

_ALIKE: Final = 0.8
"""Correlation below which a cell shows something else."""

_CLEARER: Final = 1.6
"""Gain in contrast from which text that fades in is worth reading again."""

_FAINT: Final = 85
"""Gray levels between the darkest and the brightest up to which a picture is one of faint text, if any."""

_MOST_STRETCH: Final = 3.0

_SMALL_LETTER: Final = 1 / 140
"""Height of letters, in the side of a 16:9 picture of that area, up to which they are small: 9 of 1280 pixels."""

_SPECK: Final = 1 / 320
"""The same for what is no letter at all."""

_STROKE: Final = 28
"""Gray levels by which the strokes of letters differ from the ground around them."""

_SMALL_LETTERS: Final = 8
_SMALL_SHARE: Final = 1 / 3
"""Number of small letters, and their share of all, from which a picture is worth reading at its full size."""


class News(Enum):
    """What a frame means for the text."""

    NONE = "nothing like text here, nor in the frame before"
    GONE = "what was like text in the frame before is no more"
    SAME = "what is like text is what was read last"
    LATER = "what is like text has changed, but it is too soon to read it"
    READ = "what is like text has changed and is worth reading"


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A picture cell by cell: its pixels [cells, 64], which cells are likely text [cells], and if any surely is."""

    shape: tuple[int, int]
    pixels: NDArray[np.float32]
    cells: NDArray[np.bool_]
    certain: bool


class TextWatch:
    """Compares each frame with the one that was last to be read.

    Args:
        shortest: seconds between two frames to be read, at least.
        doubtful: the same where the network is not certain of any text.
    """

    def __init__(self, shortest: float, doubtful: float) -> None:
        self._shortest = shortest
        self._doubtful = doubtful
        self._mapped: _Seen | None = None
        self._last: _Seen | None = None
        self._read_at = float("-inf")

    def look(self, time: float, image: NDArray[np.uint8]) -> News:
        """Judge the frame at ``time``: [height, width, 3] uint8."""
        now = self._see(_gray(image))
        had_text = self._last is not None and bool(self._last.cells.any())
        if not had_text and not now.cells.any():
            return News.NONE
        # Asked before the network's word on this frame: what has not changed cannot be gone, however unsure it is.
        if not _differ(now, self._last):
            return News.SAME
        if not now.cells.any():
            self._last = now
            return News.GONE
        if time - self._read_at < (self._shortest if now.certain else self._doubtful):
            return News.LATER
        self._last, self._read_at = now, time
        return News.READ

    def sees_small_letters(self, image: NDArray[np.uint8]) -> bool:
        """Whether many letters are small where the frame that was last to be read, which this is, is likely text."""
        if self._last is None:
            return False
        gray = np.asarray(cv2.cvtColor(stretched(image), cv2.COLOR_RGB2GRAY))
        side = _wide_side(gray)
        rows, columns = (side // CELL for side in self._last.shape)
        cells = cv2.dilate(self._last.cells.reshape(rows, columns).astype(np.uint8), np.ones((3, 3), np.uint8))
        likely = cv2.resize(cells, (gray.shape[1], gray.shape[0]), interpolation=cv2.INTER_NEAREST)
        ground = cv2.medianBlur(gray, side // 80 * 2 + 1)
        strokes = (cv2.absdiff(gray, ground) > _STROKE) & (likely > 0)
        boxes = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)[2][1:]
        heights = boxes[:, cv2.CC_STAT_HEIGHT] / side
        heights = heights[heights >= _SPECK]
        small = int((heights <= _SMALL_LETTER).sum())
        return small >= max(_SMALL_LETTERS, _SMALL_SHARE * len(heights))

    def _see(self, gray: NDArray[np.uint8]) -> _Seen:
        pixels = _by_cell(cv2.blur(gray, (3, 3)).astype(np.float32))
        known = self._mapped
        if (
            known is not None
            and known.shape == gray.shape
            and np.abs(pixels - known.pixels).mean(axis=1).max() < _STILL
        ):
            return replace(known, pixels=pixels)
        contrasting = stretched(gray)
        likely = text_map(contrasting)
        cells = _pairs(likely, _LIKELY)
        certain = bool(_pairs(likely, _CERTAIN).any())
        if not cells.any():
            cells = _turned_cells(contrasting)
        self._mapped = _Seen((gray.shape[0], gray.shape[1]), pixels, cells.ravel(), certain)
        return self._mapped


def _pairs(likely: NDArray[np.float32], limit: float) -> NDArray[np.bool_]:
    """The cells that, with a neighbour to the left or right, are likely text: any word is wider than one cell."""
    cells = likely > limit
    both = cells[:, :-1] & cells[:, 1:]
    found = np.zeros_like(cells)
    found[:, :-1] |= both
    found[:, 1:] |= both
    return found


def _turned_cells(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The cells that surely are text which runs upwards or downwards; seen at half the size, which is cheap."""
    rows, columns = gray.shape[0] // CELL, gray.shape[1] // CELL
    half = cv2.resize(np.rot90(gray), (gray.shape[0] // 2, gray.shape[1] // 2), interpolation=cv2.INTER_AREA)
    cells = np.rot90(_pairs(text_map(half), _CERTAIN), -1).astype(np.uint8)
    return np.asarray(cv2.resize(cells, (columns, rows), interpolation=cv2.INTER_NEAREST), dtype=bool)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as it is watched: gray, its sides whole cells, so that every pixel belongs to one."""
    scale = min(1.0, _SIDE / _wide_side(image))
    width, height = (max(1, round(side * scale) // CELL) * CELL for side in (image.shape[1], image.shape[0]))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))


def stretched(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture in which all is of about one brightness, with more contrast, so that faint text is seen; others as is.

    Args:
        image: [height, width] or [height, width, 3].
    """
    darkest, brightest = int(image.min()), int(image.max())
    if brightest - darkest > _FAINT or brightest == darkest:
        return image
    gain = min(_MOST_STRETCH, 255 / (brightest - darkest))
    return np.asarray(cv2.convertScaleAbs(image, alpha=gain, beta=-gain * darkest))


def _wide_side(image: NDArray[np.uint8]) -> int:
    """The longer side of a 16:9 picture of the same area; of the picture itself where that is squarer."""
    height, width = image.shape[:2]
    return int(min(max(height, width), (height * width * 16 / 9) ** 0.5))


def _by_cell(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = gray.shape[0] // CELL, gray.shape[1] // CELL
    return gray.reshape(rows, CELL, columns, CELL).swapaxes(1, 2).reshape(rows * columns, CELL * CELL)


def _differ(now: _Seen, before: _Seen | None) -> bool:
    """Whether a cell that holds or held text looks different, beyond noise, compression and changes of light."""
    if before is None or before.shape != now.shape:
        return True
    cells = now.cells | before.cells
    a, b = now.pixels[cells], before.pixels[cells]
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    spread_a, spread_b = np.sqrt((a**2).mean(axis=1)), np.sqrt((b**2).mean(axis=1))
    # Correlation does not mind brighter or darker light; nearly flat cells are alike whatever it says.
    alike = (a * b).mean(axis=1) / (spread_a * spread_b + 1e-3)
    changed = (alike < _ALIKE) | (spread_a > _CLEARER * spread_b)
    return bool((changed & (np.abs(a - b).mean(axis=1) > _SHIMMER)).any())
