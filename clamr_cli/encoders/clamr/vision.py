"""Frames as the vision tower takes them: sizes in patches, and pixels of one size per video.

The steps are those of the published code with its frame helper of that time: every frame is resized on its own
(bicubic, sides in multiples of 28, 56x56 to 224x224 pixels in area, aspect kept), then stretched to the size of the
first.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from clamr_cli.errors import MediaError
from clamr_cli.types import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_PIXELS: Final = 224 * 224
MIN_PIXELS: Final = 4 * 28 * 28
_DAMAGED: Final = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Exceptions of Pillow for data that is not a picture, that ends early, or that would fill the memory."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A video in patches: ``time`` pairs of frames, ``height`` and ``width`` in patches of the vision tower."""

    time: int
    height: int
    width: int

    def tokens(self, merge: int) -> int:
        """The number of tokens of the video when ``merge`` x ``merge`` patches are merged into one."""
        return self.time * (self.height // merge) * (self.width // merge)


def open_frame(frame: Frame | Image.Image) -> Image.Image:
    """The picture of a frame; a JPEG is only opened, not yet decoded.

    Raises:
        MediaError: the frame's bytes are not a picture.
    """
    if isinstance(frame, Image.Image):
        return frame
    try:
        return Image.open(io.BytesIO(frame.jpeg))
    except _DAMAGED as problem:
        raise MediaError(f"the frame at {frame.time:.2f} s cannot be decoded", "index the video again") from problem


def fitted_size(width: int, height: int, factor: int = 28) -> tuple[int, int]:
    """Width and height in multiples of ``factor`` near the aspect given, within the pixel budget.

    Frames narrower than the budget allows keep one ``factor`` on their short side instead of being refused.
    """
    high, wide = (max(factor, round(side / factor) * factor) for side in (height, width))
    if high * wide > MAX_PIXELS:
        shrink = math.sqrt(height * width / MAX_PIXELS)
        high, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
        # A very long side would burst the budget once the short side is held at one factor.
        longest = MAX_PIXELS // factor // factor * factor
        high, wide = min(high, longest), min(wide, longest)
    elif high * wide < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (height * width))
        high, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return wide, high


def grid_of(images: Sequence[Image.Image], patch: int = 14, merge: int = 2) -> Grid:
    """The patches of a video of these frames: two frames share one step of time, all have the first one's size."""
    wide, high = fitted_size(*images[0].size, factor=patch * merge)
    return Grid((len(images) + 1) // 2, high // patch, wide // patch)


def pixels_of(images: Sequence[Image.Image], factor: int = 28) -> NDArray[np.uint8]:
    """Pixels [frames, 3, height, width], an even number of frames: the last is repeated where they are odd.

    Raises:
        MediaError: a frame is damaged.
    """
    arrays = []
    try:
        for image in images:
            colour = _rgb(image)
            resized = colour.resize(fitted_size(*colour.size, factor=factor), Image.Resampling.BICUBIC)
            arrays.append(np.ascontiguousarray(np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1)))
    except _DAMAGED as problem:
        raise MediaError("a frame cannot be decoded", "index the video again") from problem
    first = arrays[0].shape
    stacked = [array if array.shape == first else _stretched(array, first[1], first[2]) for array in arrays]
    if len(stacked) % 2:
        stacked.append(stacked[-1])
    return np.stack(stacked)


def _rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it is transparent."""
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def _stretched(array: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A frame [3, h, w] stretched with torchvision's antialiased bicubic filter, which differs from Pillow's."""
    import torch
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    stretched = functional.resize(
        torch.from_numpy(array), [height, width], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    return np.asarray(stretched.numpy(), dtype=np.uint8)
