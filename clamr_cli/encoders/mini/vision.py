"""Images to features with torch: EfficientNet-Lite2, and shares of named colours. Imported with the first image.

The network is of the family of Tan and Le, "EfficientNet" (arXiv 1905.11946), in its Lite form: no
squeeze-and-excitation, ReLU6 instead of swish, and a stem and head that are not scaled. Lite2 is 1.1 times as wide, 1.2
times as deep, and was trained on 260 x 260 pixels; it takes any size. The weights are TensorFlow's, so convolutions pad
as its SAME does.
"""

from __future__ import annotations

import io
import itertools
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from skimage.color import rgb2lab
from torch import Tensor
from torch.nn import functional

from clamr_cli.devices import choose_device
from clamr_cli.encoders.mini.networks import ImageFeatures
from clamr_cli.errors import MediaError, ModelError

_CHANNELS: Final = 1280
_CLASSES: Final = 1000
_STEM: Final = 32

# kernel, stride, expansion, channels, repeats: the stages of EfficientNet-B0 scaled by 1.1 in width (rounded to
# multiples of 8) and 1.2 in depth (rounded up; Lite leaves the first and the last stage at one block).
_STAGES: Final = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
    (3, 1, 6, 352, 1),
)
_STAGE_CHANNELS: Final = sum(channels for *_, channels, _ in _STAGES)
_NORM_EPSILON: Final = 1e-3
_HINT: Final = "fetch it again: clamr models pull efficientnet-lite2"

COLOUR_SCALE: Final = 6.0
"""Weight of the shares of colours beside the network's features, for the ridge regression that reads both."""

_GRID: Final = 3
_PARTS: Final = 1 + _GRID * _GRID
_WIDEST: Final = 2.0
_SIDE: Final = 330.0
"""Side of a square image: more than the weights were trained at, which on held-out photos finds more (Touvron et al.,
"Fixing the train-test resolution discrepancy", arXiv 1906.06423)."""

_BATCH: Final = 10
_MEAN, _SCALE = 127.0, 128.0

NAMED_COLOURS: Final = {
    "black": (0, 0, 0), "dark grey": (70, 70, 70), "grey": (128, 128, 128), "light grey": (190, 190, 190),
    "white": (255, 255, 255), "red": (220, 20, 25), "dark red": (120, 10, 20), "pink": (255, 150, 190),
    "magenta": (220, 40, 190), "purple": (120, 40, 150), "lilac": (190, 160, 225), "navy": (15, 25, 90),
    "blue": (30, 70, 220), "light blue": (140, 195, 245), "turquoise": (50, 200, 200), "teal": (0, 115, 115),
    "dark green": (15, 75, 30), "green": (40, 165, 50), "light green": (150, 225, 130), "olive": (110, 110, 40),
    "yellow": (250, 225, 40), "gold": (205, 160, 50), "orange": (250, 135, 25), "brown": (115, 70, 35),
    "beige": (225, 205, 165), "skin": (215, 160, 130),
}  # fmt: skip
"""Colours that have a name, as sRGB."""

PLAIN_INPUTS: Final = _CHANNELS + len(NAMED_COLOURS)
"""Inputs of the connector before those of the stages."""

_PROTOTYPES: Final = rgb2lab(np.array([list(NAMED_COLOURS.values())], dtype=np.uint8))[0].astype(np.float32)
_SPREAD: Final = 12.0
"""Distance in CIELAB at which a pixel's share of a colour has dropped to 0.6 of the nearest one's."""

_SAMPLED: Final = 60
"""Rows and columns of pixels whose colour is looked at."""


class ImageModel:
    """The image model on its device.

    Args:
        path: the published checkpoint; nothing in it is executed.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of torch in this process; 0 leaves them as they are.

    Raises:
        ModelError: the file is absent, damaged or holds another model.
    """

    def __init__(self, path: Path, *, device: str, threads: int) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
        self._device = torch.device(choose_device(device))
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ModelError(f"cannot read the image model {path}: {error}", _HINT) from error
        try:
            self._network = _Lite2(tensors, self._device)
        except KeyError as error:
            raise ModelError(f"the image model's weights lack {error}", _HINT) from error

    def features(self, jpegs: Sequence[bytes]) -> ImageFeatures:
        """Features of images, in order; images of one size are computed together.

        Raises:
            MediaError: one of them is not an image.
        """
        images = [_decoded(jpeg) for jpeg in jpegs]
        inputs = np.zeros((len(images), _PARTS, PLAIN_INPUTS + 2 * _STAGE_CHANNELS), dtype=np.float32)
        for index, image in enumerate(images):
            inputs[index, :, _CHANNELS:PLAIN_INPUTS] = COLOUR_SCALE * np.sqrt(colour_shares(image, _GRID))
        probabilities = np.zeros((len(images), _PARTS, _CLASSES), dtype=np.float32)
        order = sorted(range(len(images)), key=lambda index: images[index].shape)
        for _, group in itertools.groupby(order, key=lambda index: images[index].shape):
            same = list(group)
            for start in range(0, len(same), _BATCH):
                batch = same[start : start + _BATCH]
                pixels = np.stack([images[index] for index in batch]).astype(np.float32)
                pixels = (pixels - np.float32(_MEAN)) / np.float32(_SCALE)
                results = self._network(torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2))
                pooled, stages, classes = (part.float().cpu().numpy() for part in results)
                inputs[batch, :, :_CHANNELS], inputs[batch, :, PLAIN_INPUTS:] = pooled, stages
                probabilities[batch] = classes
        return ImageFeatures(inputs, probabilities)


class _Convolution:
    """Convolution that pads like TensorFlow's SAME, its batch norm folded in, and ReLU6 if ``active``."""

    def __init__(
        self, tensors: Mapping[str, Tensor], convolution: str, norm: str, device: torch.device, *, stride: int = 1,
        active: bool = True,
    ) -> None:  # fmt: skip
        weight = tensors[f"{convolution}.weight"]
        factor = tensors[f"{norm}.weight"] / torch.sqrt(tensors[f"{norm}.running_var"] + _NORM_EPSILON)
        bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * factor
        # A depthwise filter has one input channel; every other convolution here sees all of them.
        self.groups = weight.shape[0] if weight.shape[1] == 1 else 1
        self.weight = (weight * factor[:, None, None, None]).to(device, memory_format=torch.channels_last)
        self.bias = bias.to(device)
        self.stride, self.active = stride, active

    def __call__(self, images: Tensor) -> Tensor:
        kernel, stride = self.weight.shape[-1], self.stride
        down, across = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in tuple(images.shape[-2:])
        )
        padding = (down // 2, across // 2)
        if down % 2 or across % 2:
            images = functional.pad(images, (padding[1], across - padding[1], padding[0], down - padding[0]))
            padding = (0, 0)
        result = functional.conv2d(images, self.weight, self.bias, stride, padding, groups=self.groups)
        return functional.relu6(result, inplace=True) if self.active else result


class _Lite2:
    """EfficientNet-Lite2 for inference, from the tensors of the published checkpoint by their names there."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self._stem = _Convolution(tensors, "_conv_stem", "_bn0", device, stride=2)
        self._head = _Convolution(tensors, "_conv_head", "_bn1", device)
        self._classes, self._class_bias = tensors["_fc.weight"].to(device), tensors["_fc.bias"].to(device)
        # The layers of each block, which expand, filter each channel and project; and whether its input is added.
        self._blocks: list[tuple[list[_Convolution], bool]] = []
        self._stage_ends = set(itertools.accumulate(repeats for *_, repeats in _STAGES))
        channels = _STEM
        for _, first_stride, expansion, wider, repeats in _STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                prefix = f"_blocks.{len(self._blocks)}."
                layers = []
                if expansion > 1:
                    layers.append(_Convolution(tensors, f"{prefix}_expand_conv", f"{prefix}_bn0", device))
                layers += [
                    _Convolution(tensors, f"{prefix}_depthwise_conv", f"{prefix}_bn1", device, stride=stride),
                    _Convolution(tensors, f"{prefix}_project_conv", f"{prefix}_bn2", device, active=False),
                ]
                self._blocks.append((layers, stride == 1 and channels == wider))
                channels = wider

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the whole and of each region, the pooled features, the statistics of all stages and the classes.

        Args:
            images: [n, 3, h, w] in [-1, 1].

        Returns:
            [n, 10, 1280], [n, 10, 1712] and probabilities [n, 10, 1000].
        """
        maps = self._stem(images.to(memory_format=torch.channels_last))
        stages = []
        for number, (layers, is_residual) in enumerate(self._blocks, 1):
            result = maps
            for layer in layers:
                result = layer(result)
            maps = result + maps if is_residual else result
            if number in self._stage_ends:
                means, squares = _pooled(maps), _pooled(maps.square())
                stages += [means, (squares - means.square()).clamp_min(0).sqrt()]
        pooled = _pooled(self._head(maps))
        scores = pooled @ self._classes.T + self._class_bias
        return pooled, torch.cat(stages, dim=2), scores.softmax(dim=-1)


def _pooled(maps: Tensor) -> Tensor:
    """Means [n, 10, c] of feature maps [n, c, h, w] over the whole and over each region."""
    regions = functional.adaptive_avg_pool2d(maps, _GRID).flatten(2).transpose(1, 2)
    return torch.cat([maps.mean(dim=(2, 3))[:, None], regions], dim=1)


def _decoded(jpeg: bytes) -> NDArray[np.uint8]:
    """Pixels [height, width, 3] of an image: always about as many, whatever its shape.

    Nothing is cropped; shapes beyond 2:1 are squeezed to it. Sides are multiples of 4, so that few sizes differ.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            shape = min(max(image.width / image.height, 1 / _WIDEST), _WIDEST)
            size = round(_SIDE * math.sqrt(shape) / 4) * 4, round(_SIDE / math.sqrt(shape) / 4) * 4
            image.draft("RGB", (size[0] * 2, size[1] * 2))
            return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise MediaError(f"a frame is not an image: {error}", "index the video again") from error


def colour_shares(pixels: NDArray[np.uint8], grid: int) -> NDArray[np.float32]:
    """Shares of the named colours in an image and in each part of a grid.

    A pixel belongs to the named colours near it in CIELAB, where distances are about as large as they look. A
    classifier of things was trained to overlook colours, and people ask for them.

    Args:
        pixels: [height, width, 3] uint8, sRGB.
        grid: parts along each side.

    Returns:
        [1 + grid * grid, colours] float32: the whole, then the parts row by row; each sums to 1.
    """
    height, width = pixels.shape[:2]
    rows = np.linspace(0, height - 1, _SAMPLED).round().astype(np.int64)
    columns = np.linspace(0, width - 1, _SAMPLED).round().astype(np.int64)
    lab = rgb2lab(pixels[rows][:, columns]).astype(np.float32)
    squared = ((lab[:, :, None] - _PROTOTYPES) ** 2).sum(axis=-1)
    near = np.exp((squared.min(axis=-1, keepdims=True) - squared) / (2 * _SPREAD**2))
    near /= near.sum(axis=-1, keepdims=True)
    side = _SAMPLED // grid
    parts = near.reshape(grid, side, grid, side, -1).mean(axis=(1, 3)).reshape(grid * grid, -1)
    result: NDArray[np.float32] = np.concatenate([near.mean(axis=(0, 1))[None], parts])
    return result
