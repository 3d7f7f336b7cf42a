"""Pictures that the recipe makes itself."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Made:
    """A made picture and its five captions."""

    jpeg: bytes
    captions: tuple[str, ...]


def jpeg_of(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG of pixels [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
