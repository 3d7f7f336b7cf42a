"""How alike two pictures look, by tiny copies of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

THUMB: Final = 16
"""Pixels along each side of a thumb, the small copy by which two pictures are compared."""

_BLOCK: Final = 2


def change(thumbs: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each of some thumbs differs from another one, where it differs most.

    The mean difference of each of 8 x 8 blocks is taken, and the largest of them: a new line of text or a person who
    enters counts, noise does not.

    Args:
        thumbs: [n, THUMB, THUMB, 3] uint8.
        other: [THUMB, THUMB, 3] uint8.

    Returns:
        [n] float32 in [0, 1].
    """
    difference = np.abs(thumbs.astype(np.int16) - other.astype(np.int16)).mean(axis=3, dtype=np.float32)
    sides = THUMB // _BLOCK
    blocks = difference.reshape(len(thumbs), sides, _BLOCK, sides, _BLOCK).mean(axis=(2, 4))
    largest: NDArray[np.float32] = blocks.max(axis=(1, 2)) / np.float32(255)
    return largest
