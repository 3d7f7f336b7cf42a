"""The network CAM++ (https://arxiv.org/abs/2303.00332), written so that its published weights fit."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import torch
from torch import Tensor, nn

DIMENSION: Final = 192
"""Width of an embedding."""


def _activation(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class _Residual(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(32, 32, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(32, 32, 1, (stride, 1), bias=False), nn.BatchNorm2d(32))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(_Residual(2), _Residual(1))
        self.layer2 = nn.Sequential(_Residual(2), _Residual(1))
        self.conv2 = nn.Conv2d(32, 32, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x[:, None])))))
        folded: Tensor = torch.relu(self.bn2(self.conv2(x))).flatten(1, 2)
        return folded


class _Masked(nn.Module):
    """Local features, masked by what is around them."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(128, 32, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(128, 64, 1)
        self.linear2 = nn.Conv1d(64, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = nn.functional.avg_pool1d(x, 100, 100, ceil_mode=True).repeat_interleave(100, -1)[..., : x.shape[-1]]
        around = x.mean(-1, keepdim=True) + parts
        masked: Tensor = self.linear_local(x) * torch.sigmoid(self.linear2(torch.relu(self.linear1(around))))
        return masked


class _Dense(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _activation(channels)
        self.linear1 = nn.Conv1d(channels, 128, 1, bias=False)
        self.nonlinear2 = _activation(128)
        self.cam_layer = _Masked(dilation)

    def forward(self, x: Tensor) -> Tensor:
        new = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat((x, new), dim=1)


class _Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.mean(-1), x.std(-1)), dim=-1)[..., None]


class Network(nn.Module):
    """CAM++: log mel energies [b, frames, 80] to embeddings [b, 192]."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Head()
        first = nn.Sequential(OrderedDict(linear=nn.Conv1d(320, 128, 5, 2, 2, bias=False), nonlinear=_activation(128)))
        parts: dict[str, nn.Module] = {"tdnn": first}
        channels = 128
        for number, (layers, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), start=1):
            dense = ((f"tdnnd{layer + 1}", _Dense(channels + 32 * layer, dilation)) for layer in range(layers))
            parts[f"block{number}"] = nn.Sequential(OrderedDict(dense))
            channels += 32 * layers
            parts[f"transit{number}"] = nn.Sequential(
                OrderedDict(nonlinear=_activation(channels), linear=nn.Conv1d(channels, channels // 2, 1, bias=False))
            )
            channels //= 2
        parts |= {"out_nonlinear": _activation(channels), "stats": _Pool()}
        last = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(DIMENSION, affine=False)))
        parts["dense"] = nn.Sequential(
            OrderedDict(linear=nn.Conv1d(2 * channels, DIMENSION, 1, bias=False), nonlinear=last)
        )
        self.xvector = nn.Sequential(OrderedDict(parts))

    def forward(self, mels: Tensor) -> Tensor:
        embedded: Tensor = self.xvector(self.head(mels.transpose(1, 2)))
        return embedded[..., 0]
