"""Speaker embeddings: the network CAM++ (https://arxiv.org/abs/2303.00332), written so that its published weights fit.

Log mel energies as Kaldi computes them, of 80 bands, without their mean over the window, give 192 numbers.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank, window_function

from clamr_cli.errors import ModelError
from clamr_cli.extract.asr import SAMPLE_RATE
from clamr_cli.types import Span

Float32 = NDArray[np.float32]

DIMENSION: Final = 192
"""Width of an embedding."""

WEIGHTS: Final = "campplus_cn_en_common.pt"

_WINDOW: Final = 150  # frames of 10 ms that are embedded at once
_STEP: Final = 100
_SHORTEST: Final = 40  # frames; less says too little of a voice
_FRAME, _HOP, _BINS, _BANDS = 400, 160, 512, 80
_BATCH: Final = 32


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


def mel_energies(samples: Float32) -> Float32:
    """Log mel energies [frames, 80] of samples [n] at 16 kHz, as Kaldi's ``fbank`` without dither; 10 ms a frame."""
    if len(samples) < _FRAME:
        return np.zeros((0, _BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP].astype(np.float64)
    frames -= frames.mean(axis=1, keepdims=True)
    before = np.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
    window = window_function(_FRAME, "povey", periodic=False)
    power = np.abs(np.fft.rfft((frames - 0.97 * before) * window, _BINS)) ** 2
    filters = mel_filter_bank(
        _BINS // 2 + 1, _BANDS, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE,
        norm=None, mel_scale="kaldi", triangularize_in_mel_space=True,
    )  # fmt: skip
    return np.asarray(np.log(np.maximum(power @ filters, np.finfo(np.float32).eps)), np.float32)


class VoiceEncoder:
    """Embeds stretches of speech; ``folder`` has the weights.

    Raises:
        ModelError: they cannot be loaded.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        network = Network().eval()
        if threads:
            torch.set_num_threads(threads)
        try:
            network.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise ModelError(f"the weights of voices in {folder} cannot be loaded ({error})") from error
        self._network = network

    def windows(self, samples: Float32) -> tuple[list[Span], Float32]:
        """Windows of a stretch of speech that tile it, and their embeddings [n, 192], of unit length.

        Samples [n] at 16 kHz in [-1, 1]; the times are seconds in it. Too short a stretch has no window.
        """
        mels = mel_energies(samples)
        if len(mels) < _SHORTEST:
            return [], np.zeros((0, DIMENSION), np.float32)
        starts = list(range(0, max(1, len(mels) - _WINDOW + _STEP), _STEP))
        starts[-1] = max(0, min(starts[-1], len(mels) - _WINDOW))
        parts = [mels[start : start + _WINDOW] for start in starts]
        batch = torch.from_numpy(np.stack([part - part.mean(axis=0) for part in parts]))
        with torch.inference_mode():
            rows = torch.cat([self._network(some) for some in torch.split(batch, _BATCH)])
            vectors = nn.functional.normalize(rows, dim=1).numpy()
        # Where two windows overlap, each has the half that is nearer to its middle.
        middles = [(start + len(part) / 2) * _HOP / SAMPLE_RATE for start, part in zip(starts, parts, strict=True)]
        borders = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(middles)), len(samples) / SAMPLE_RATE]
        return [Span(a, b) for a, b in itertools.pairwise(borders)], vectors
