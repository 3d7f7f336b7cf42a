"""EfficientNet-Lite2 in torch: pictures in, the last feature map and class scores out.

The family is that of Tan and Le, "EfficientNet" (arXiv 1905.11946) in its Lite form: no squeeze-and-excitation, ReLU6
instead of swish, and a stem and head that are not scaled. Lite2 is 1.1 times as wide, 1.2 times as deep, and was
trained on 260 x 260 pixels; it takes any size. The weights are TensorFlow's, so convolutions pad as its SAME does.
"""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS: Final = 1280
"""Channels of the last feature map."""

CLASSES: Final = 1000
"""Classes of ImageNet-1k that the classifier tells apart."""

_NORM_EPSILON: Final = 1e-3
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


class _Conv(nn.Module):
    """Convolution that pads like TensorFlow's SAME, its batch norm folded in, and ReLU6 where asked for."""

    def __init__(
        self, weight: Tensor, norm: tuple[Tensor, Tensor, Tensor, Tensor], *, stride: int, active: bool
    ) -> None:
        super().__init__()
        scale, shift, mean, variance = norm
        factor = scale / torch.sqrt(variance + _NORM_EPSILON)
        self.register_buffer("weight", weight * factor[:, None, None, None])
        self.register_buffer("bias", shift - mean * factor)
        self.weight: Tensor
        self.bias: Tensor
        self.stride = stride
        self.active = active
        # A depthwise filter has one input channel; every other convolution here sees all of them.
        self.groups = weight.shape[0] if weight.shape[1] == 1 else 1

    def forward(self, pictures: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        across = _same(pictures.shape[-1], kernel, self.stride)
        down = _same(pictures.shape[-2], kernel, self.stride)
        if across[0] != across[1] or down[0] != down[1]:
            pictures = functional.pad(pictures, (*across, *down))
            padding = (0, 0)
        else:
            padding = (down[0], across[0])
        result = functional.conv2d(pictures, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return functional.relu6(result) if self.active else result


class _Block(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes agree."""

    def __init__(self, layers: list[_Conv], *, residual: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, pictures: Tensor) -> Tensor:
        result: Tensor = self.layers(pictures)
        return result + pictures if self.residual else result


class Lite2(nn.Module):
    """The network for inference; :meth:`load` makes one."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        """Take the tensors under the names of the published checkpoint (``_blocks.0._depthwise_conv.weight``...).

        Raises:
            ModelError: a tensor is missing.
        """
        super().__init__()
        try:
            blocks = _blocks(tensors)
            stem = _conv(tensors, "_conv_stem", "_bn0", stride=2)
            head = _conv(tensors, "_conv_head", "_bn1")
            self.body = nn.Sequential(stem, *blocks, head)
            self.register_buffer("classes", tensors["_fc.weight"])
            self.register_buffer("class_bias", tensors["_fc.bias"])
        except KeyError as error:
            raise ModelError(
                f"the picture model's weights lack {error}", "fetch them again: clamr models pull efficientnet-lite2"
            ) from error
        self.classes: Tensor
        self.class_bias: Tensor
        self.to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, path: Path) -> Lite2:
        """Read the published checkpoint; nothing in it is executed.

        Raises:
            ModelError: the file is absent, damaged or holds another model.
        """
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ModelError(
                f"cannot read the picture model {path}: {error}", "fetch it again: clamr models pull efficientnet-lite2"
            ) from error
        return cls(tensors).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Feature map [n, 1280, h / 32, w / 32], rounded up, of pictures [n, 3, h, w] in [-1, 1]."""
        result: Tensor = self.body(pictures.to(memory_format=torch.channels_last))
        return result

    def classify(self, features: Tensor) -> Tensor:
        """Class scores [..., 1000] before softmax of pooled features [..., 1280]."""
        return features @ self.classes.T + self.class_bias


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after one side, as TensorFlow's SAME has it."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _conv(tensors: dict[str, Tensor], conv: str, norm: str, *, stride: int = 1, active: bool = True) -> _Conv:
    names = ("weight", "bias", "running_mean", "running_var")
    first, second, third, fourth = (tensors[f"{norm}.{name}"] for name in names)
    return _Conv(tensors[f"{conv}.weight"], (first, second, third, fourth), stride=stride, active=active)


def _blocks(tensors: dict[str, Tensor]) -> list[_Block]:
    blocks: list[_Block] = []
    channels = _STEM
    for _, stride, expansion, wider, repeats in _STAGES:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            prefix = f"_blocks.{len(blocks)}."
            layers = []
            if expansion > 1:
                layers.append(_conv(tensors, prefix + "_expand_conv", prefix + "_bn0"))
            layers.append(_conv(tensors, prefix + "_depthwise_conv", prefix + "_bn1", stride=step))
            layers.append(_conv(tensors, prefix + "_project_conv", prefix + "_bn2", active=False))
            blocks.append(_Block(layers, residual=step == 1 and channels == wider))
            channels = wider
    return blocks
