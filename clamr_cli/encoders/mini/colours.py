"""How much of a picture is of which colour: what a classifier of things was trained to overlook and people ask for.

A pixel belongs to the named colours near it in CIELAB, where distances are about as large as they look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from skimage.color import rgb2lab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

NAMED: Final = {
    "black": (0, 0, 0), "dark grey": (70, 70, 70), "grey": (128, 128, 128), "light grey": (190, 190, 190),
    "white": (255, 255, 255), "red": (220, 20, 25), "dark red": (120, 10, 20), "pink": (255, 150, 190),
    "magenta": (220, 40, 190), "purple": (120, 40, 150), "lilac": (190, 160, 225), "navy": (15, 25, 90),
    "blue": (30, 70, 220), "light blue": (140, 195, 245), "turquoise": (50, 200, 200), "teal": (0, 115, 115),
    "dark green": (15, 75, 30), "green": (40, 165, 50), "light green": (150, 225, 130), "olive": (110, 110, 40),
    "yellow": (250, 225, 40), "gold": (205, 160, 50), "orange": (250, 135, 25), "brown": (115, 70, 35),
    "beige": (225, 205, 165), "skin": (215, 160, 130),
}  # fmt: skip
"""Colours that have a name, as sRGB."""

_SPREAD: Final = 12.0
"""Distance in CIELAB at which a pixel's share of a colour has dropped to 0.6 of the nearest one's."""

_SAMPLED: Final = 60
"""Rows and columns of pixels that are looked at."""


def _lab(pixels: NDArray[np.uint8]) -> Array:
    lab: Array = rgb2lab(pixels).astype(np.float32)
    return lab


_PROTOTYPES: Final = _lab(np.array([list(NAMED.values())], dtype=np.uint8))[0]


def shares(pixels: NDArray[np.uint8], grid: int) -> Array:
    """Shares of the named colours in a picture and in each part of a grid.

    Args:
        pixels: [height, width, 3] uint8, sRGB.
        grid: parts along each side.

    Returns:
        [1 + grid * grid, colours] float32: the whole, then the parts row by row; each sums to 1.
    """
    height, width = pixels.shape[:2]
    rows = np.linspace(0, height - 1, _SAMPLED).round().astype(np.int64)
    columns = np.linspace(0, width - 1, _SAMPLED).round().astype(np.int64)
    lab = _lab(pixels[rows][:, columns])
    squared = ((lab[:, :, None] - _PROTOTYPES) ** 2).sum(axis=-1)
    near = np.exp((squared.min(axis=-1, keepdims=True) - squared) / (2 * _SPREAD**2))
    near /= near.sum(axis=-1, keepdims=True)
    side = _SAMPLED // grid
    parts = near.reshape(grid, side, grid, side, -1).mean(axis=(1, 3)).reshape(grid * grid, -1)
    result: Array = np.concatenate([near.mean(axis=(0, 1))[None], parts])
    return result
