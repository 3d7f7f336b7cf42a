"""Where a picture may hold text: a tiny convolutional network, cheap enough for every sampled frame.

It is no reader and no exact detector. It answers, for each cell of 8 x 8 pixels, how likely a line of text covers it,
so that the costly recogniser sees only the frames where text may have changed. Six layers with 21 thousand weights run
in numpy, so that decoding workers need no deep-learning framework.

The weights were fitted in 3,500 steps to drawn lines of text (Latin, Greek, Cyrillic, Armenian, Georgian, digits) over
photographs and drawn shapes. ``tests/bench/text_gate.py`` measures them, and makes new ones by the same recipe with
other words.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

CELL: Final = 8
"""Pixels along each side of a cell."""

_WEIGHTS: Final = Path(__file__).with_name("text_gate.npz")
_LAYERS: Final = ((5, 2, 1), (3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 2), (1, 1, 1))
"""Kernel, stride and dilation of each layer; a rectifier follows each but the last."""

_SCALES: Final = (1.0, 0.5, 0.25)
"""The network knows letters of about 6 to 60 pixels; larger ones are seen in smaller copies."""

_SMALLEST: Final = 32

_ONE_THREAD: Final = 200_000
"""Multiplications of a matrix product below which OpenBLAS starts no threads."""


def text_map(gray: NDArray[np.uint8]) -> FloatArray:
    """How likely each cell of a picture holds text.

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
        found = cv2.resize(_network(small), (columns, rows), interpolation=cv2.INTER_LINEAR)
        np.maximum(best, found, out=best)
    return best


def _network(gray: NDArray[np.uint8]) -> FloatArray:
    x: FloatArray = (gray.astype(np.float32) / np.float32(255) - np.float32(0.5))[None]
    for number, ((weight, bias), (kernel, stride, dilation)) in enumerate(zip(_weights(), _LAYERS, strict=True)):
        x = _convolve(x, weight, kernel, stride, dilation) + bias[:, None, None]
        if number < len(_LAYERS) - 1:
            np.maximum(x, 0, out=x)
    return np.asarray(1 / (1 + np.exp(-x[0])), np.float32)


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
    return _product(weight, patches.reshape(-1, height * width)).reshape(-1, height, width)


def _product(left: FloatArray, right: FloatArray) -> FloatArray:
    """``left @ right`` in slices so small that the linear algebra library keeps to one thread.

    Its worker threads wait busily; beside recognisers that use all cores they cost five times what they save.
    """
    width = max(1, _ONE_THREAD // left.size)
    count = right.shape[1] // width
    result = np.empty((left.shape[0], right.shape[1]), np.float32)
    whole = count * width
    slices = right[:, :whole].reshape(right.shape[0], count, width).swapaxes(0, 1)
    np.matmul(left, slices, out=result[:, :whole].reshape(left.shape[0], count, width).swapaxes(0, 1))
    result[:, whole:] = left @ right[:, whole:]
    return result


@functools.lru_cache(maxsize=1)
def _weights() -> tuple[tuple[FloatArray, FloatArray], ...]:
    with np.load(_WEIGHTS) as stored:
        return tuple(
            (stored[f"weight{number}"].astype(np.float32), stored[f"bias{number}"].astype(np.float32))
            for number in range(len(_LAYERS))
        )
