"""Frames to picture features with torch; imported only where there are frames to encode."""

from __future__ import annotations

import io
import math
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.nn import functional

from clamr_cli.encoders.mini import colours
from clamr_cli.encoders.mini.heads import PictureFeatures
from clamr_cli.encoders.mini.lite2 import CHANNELS, CLASSES, Lite2
from clamr_cli.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_GRID: Final = 3
_WIDEST: Final = 2.0
_SIDE: Final = 330.0
"""Side of a square picture: more than the weights were trained at, which on held-out photos finds more (Touvron et al.,
"Fixing the train-test resolution discrepancy", arXiv 1906.06423)."""

_BATCH: Final = 10
_MEAN, _SCALE = 127.0, 128.0


class Pictures:
    """The picture model on its device."""

    def __init__(self, weights: Path, *, device: str, threads: int) -> None:
        """Load the weights.

        Args:
            weights: the checkpoint file.
            device: "auto", "cpu", "cuda" or "mps".
            threads: CPU threads of torch in this process; 0 leaves them as they are.

        Raises:
            ModelError: the weights cannot be read.
        """
        if threads > 0:
            torch.set_num_threads(threads)
        self._device = torch.device(_available() if device == "auto" else device)
        self._model = Lite2.load(weights).to(self._device)

    def features(self, jpegs: Sequence[bytes]) -> PictureFeatures:
        """Features of pictures, in order; pictures of one size are seen together.

        Raises:
            MediaError: one of them is no picture.
        """
        seen = [_seen(jpeg) for jpeg in jpegs]
        pixels = [(each.astype(np.float32) - np.float32(_MEAN)) / np.float32(_SCALE) for each in seen]
        coloured = np.zeros((len(jpegs), 1 + _GRID * _GRID, len(colours.NAMED)), dtype=np.float32)
        for index, each in enumerate(seen):
            coloured[index] = colours.shares(each, _GRID)
        pooled = np.zeros((len(jpegs), CHANNELS), dtype=np.float32)
        regions = np.zeros((len(jpegs), _GRID * _GRID, CHANNELS), dtype=np.float32)
        probabilities = np.zeros((len(jpegs), 1 + _GRID * _GRID, CLASSES), dtype=np.float32)
        order = sorted(range(len(pixels)), key=lambda index: pixels[index].shape)
        for _, group in groupby(order, key=lambda index: pixels[index].shape):
            same = list(group)
            for start in range(0, len(same), _BATCH):
                batch = same[start : start + _BATCH]
                stack = torch.from_numpy(np.stack([pixels[index] for index in batch]))
                pooled[batch], regions[batch], probabilities[batch] = self._see(stack)
        return PictureFeatures(pooled, regions, probabilities, coloured)

    @torch.inference_mode()
    def _see(self, pixels: torch.Tensor) -> tuple[NDArray[np.float32], ...]:
        """Pooled features, features by region and class probabilities of a batch [n, height, width, 3]."""
        maps = self._model(pixels.to(self._device).permute(0, 3, 1, 2))
        whole = maps.mean(dim=(2, 3))
        regions = functional.adaptive_avg_pool2d(maps, _GRID).flatten(2).transpose(1, 2)
        scores = self._model.classify(torch.cat([whole[:, None], regions], dim=1))
        results = (whole, regions, scores.softmax(dim=-1))
        return tuple(result.float().cpu().numpy() for result in results)


def fit(width: int, height: int) -> tuple[int, int]:
    """The size a picture is seen at: its own shape, always about as many pixels.

    Nothing is cropped; shapes beyond 2:1 are squeezed to it. Multiples of 4, so that few sizes differ.
    """
    shape = min(max(width / height, 1 / _WIDEST), _WIDEST)
    return round(_SIDE * math.sqrt(shape) / 4) * 4, round(_SIDE / math.sqrt(shape) / 4) * 4


def _seen(jpeg: bytes) -> NDArray[np.uint8]:
    """Pixels [height, width, 3] of a picture at the size it is seen at."""
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            shape = fit(*picture.size)
            picture.draft("RGB", (shape[0] * 2, shape[1] * 2))
            seen = picture.convert("RGB").resize(shape, Image.Resampling.BICUBIC)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise MediaError(f"a frame is no picture: {error}", "index the video again") from error
    return np.asarray(seen)


def _available() -> str:
    """The fastest device there is."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
