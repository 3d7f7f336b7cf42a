"""Frames and sound as the towers of the model take them.

Frames follow the published code with its frame helper of that time: every frame is resized on its own (bicubic, sides
in multiples of 28, 56x56 to 224x224 pixels in area, aspect kept), then stretched to the size of the first. Sound
becomes the log-mel features of Qwen2.5-Omni: 100 frames a second, four to a token.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clamr_cli.errors import MediaError
from clamr_cli.types import Frame

PATCH: Final = 14
"""Pixels per side of a patch."""

MERGE: Final = 2
"""Patches per side of a video token."""

STEP: Final = 2
"""Frames per step of time. All Qwen2.5 have these three numbers."""

FACTOR: Final = PATCH * MERGE
MAX_PIXELS: Final = 224 * 224
MIN_PIXELS: Final = 4 * FACTOR * FACTOR
_DAMAGED: Final = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Exceptions of Pillow for data that is not a picture, that ends early, or that would fill the memory."""

SAMPLE_RATE: Final = 16_000
LONGEST_SOUND: Final = 30.0
"""Seconds of audio per document at most (CLaMR section 4); what is longer is cut."""

SECONDS_PER_TOKEN: Final = 0.04
_HOP: Final = 160
_WINDOW: Final = 400


@dataclass(frozen=True, slots=True)
class Grid:
    """A video in patches: ``time`` pairs of frames, ``height`` and ``width`` in patches of the vision tower."""

    time: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """The number of tokens of the video."""
        return self.time * (self.height // MERGE) * (self.width // MERGE)

    @classmethod
    def of(cls, images: Sequence[Image.Image]) -> Grid:
        """The grid of a video of these frames; all have the size of the first."""
        wide, high = fitted_size(*images[0].size)
        return cls(-(-len(images) // STEP), high // PATCH, wide // PATCH)


def open_frame(frame: Frame | Image.Image) -> Image.Image:
    """The picture of a frame; a JPEG is only opened, not yet decoded.

    Raises:
        MediaError: the frame's bytes are not a picture.
    """
    if isinstance(frame, Image.Image):
        return frame
    try:
        return Image.open(io.BytesIO(frame.jpeg))
    except _DAMAGED as error:
        raise MediaError(f"the frame at {frame.time:.2f} s cannot be decoded", "index the video again") from error


def fitted_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in multiples of 28 near the aspect given, within the pixel budget.

    Frames narrower than the budget allows keep 28 on their short side instead of being refused.
    """
    high, wide = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in (height, width))
    if high * wide > MAX_PIXELS:
        shrink = math.sqrt(height * width / MAX_PIXELS)
        # A very long side would exceed the budget once the short side is held at one factor.
        longest = MAX_PIXELS // FACTOR // FACTOR * FACTOR
        high, wide = (
            min(longest, max(FACTOR, math.floor(side / shrink / FACTOR) * FACTOR)) for side in (height, width)
        )
    elif high * wide < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (height * width))
        high, wide = (math.ceil(side * grow / FACTOR) * FACTOR for side in (height, width))
    return wide, high


def pixels_of(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Pixels [frames, 3, height, width], an even number of frames: the last is repeated where they are odd.

    Raises:
        MediaError: a frame is damaged.
    """
    arrays: list[NDArray[np.uint8]] = []
    try:
        for image in images:
            if image.mode == "RGBA":
                colour = Image.new("RGB", image.size, (255, 255, 255))
                colour.paste(image, mask=image.getchannel("A"))
            else:
                colour = image.convert("RGB")
            resized = colour.resize(fitted_size(*colour.size), Image.Resampling.BICUBIC)
            arrays.append(np.ascontiguousarray(np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1)))
    except _DAMAGED as error:
        raise MediaError("a frame cannot be decoded", "index the video again") from error
    _, height, width = arrays[0].shape
    arrays = [array if array.shape == arrays[0].shape else _stretch(array, height, width) for array in arrays]
    return np.stack([*arrays, arrays[-1]] if len(arrays) % STEP else arrays)


def _stretch(array: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Stretch a frame [3, h, w] with torchvision's antialiased bicubic filter, which differs from Pillow's."""
    import torch
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    stretched = functional.resize(
        torch.from_numpy(array), [height, width], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    return np.asarray(stretched.numpy(), dtype=np.uint8)


def audio_tokens(samples: int) -> int:
    """Tokens that this many samples become; 750 for 30 seconds, 0 for less than 40 ms."""
    frames = -(-samples // _HOP)
    return max(0, ((frames - 1) // 2 + 1 - 2) // 2 + 1) if frames else 0


def audio_features(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Log-mel features [128, frames] float32 of mono samples at 16 kHz, as Whisper computes them."""
    wave = samples.astype(np.float32) / 32768.0
    # Silence behind the end keeps the last frames as they are where audio is padded to a longer window.
    extracted = _extractor()(
        np.pad(wave, (0, _WINDOW)), sampling_rate=SAMPLE_RATE, return_tensors="np", padding="longest", truncation=False
    )
    return np.asarray(extracted["input_features"][0][:, : -(-len(wave) // _HOP)], dtype=np.float32)


@cache
def _extractor() -> Any:  # noqa: ANN401 -- a class of transformers
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=128, sampling_rate=SAMPLE_RATE, hop_length=_HOP, n_fft=_WINDOW)
