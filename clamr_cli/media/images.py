"""How alike two pictures look, by tiny copies of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THUMB: Final = 8
"""Pixels along each side of a thumb, the tiny copy by which two pictures are compared: each stands for a block."""

_FULL: Final = np.float32(3 * 255)


def change(thumbs: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each of some thumbs differs from another one, where it differs most.

    Of all pixels the one that differs most counts, in the mean of its colours: a new line of text or a person who
    enters is seen, noise is not.

    Args:
        thumbs: [n, THUMB, THUMB, 3] uint8.
        other: [THUMB, THUMB, 3] uint8.

    Returns:
        [n] float32 in [0, 1].
    """
    difference = np.abs(thumbs.astype(np.int16) - other)
    sums = difference[..., 0] + difference[..., 1] + difference[..., 2]
    largest: NDArray[np.float32] = sums.reshape(len(thumbs), -1).max(axis=1, initial=0) / _FULL
    return largest
