"""Pictures as arrays: tiny copies to compare them by, and JPEG."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

THUMB: Final = 8
"""Pixels along each side of a thumbnail, the tiny copy by which two pictures are compared: each stands for a block."""


def image_difference(thumbs: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The difference of each of some thumbnails from another one, at the pixel that differs most.

    That pixel counts in the mean of its colours: a new line of text or a person who enters is seen, noise is not.

    Args:
        thumbs: [n, THUMB, THUMB, 3] uint8.
        other: [THUMB, THUMB, 3] uint8.

    Returns:
        [n] float32 in [0, 1].
    """
    difference = np.abs(thumbs.astype(np.int16) - other)
    sums = difference[..., 0] + difference[..., 1] + difference[..., 2]
    largest: NDArray[np.float32] = sums.reshape(len(thumbs), -1).max(axis=1, initial=0) / np.float32(3 * 255)
    return largest


def thumbnail(image: NDArray[np.uint8], side: int = THUMB) -> NDArray[np.uint8]:
    """A picture [height, width, 3] as [side, side, 3], every pixel the mean of those it stands for."""
    import cv2

    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def to_jpeg(image: NDArray[np.uint8], quality: int, *, max_side: int | None = None) -> bytes:
    """A picture [height, width, 3] uint8 RGB as JPEG, made smaller where its longer side is over ``max_side``."""
    import cv2

    scale = max_side / max(image.shape[:2]) if max_side else 1.0
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])
