"""Embeddings of voices, by one of two networks.

Both take log mel energies as Kaldi computes them, of 80 bands, without their mean over the window: CAM++ gives 192
numbers, the ResNet of WeSpeaker (https://arxiv.org/abs/2210.17016), which runs as its publisher exported it, 256.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank, window_function

from clamr_cli.errors import ModelError
from clamr_cli.extract.asr import SAMPLE_RATE
from clamr_cli.extract.campplus import DIMENSION, Network
from clamr_cli.types import Span, VoiceModel

Float32 = NDArray[np.float32]

DIMENSIONS: Final[dict[VoiceModel, int]] = {"campplus": DIMENSION, "wespeaker-resnet293": 256}
"""Width of an embedding."""

_WINDOW: Final = 150  # frames of 10 ms that are embedded at once
_STEP: Final = 100
_SHORTEST: Final = 40  # frames; less says too little of a voice
_FRAME, _HOP, _BINS, _BANDS = 400, 160, 512, 80
_BATCH: Final = 32
_FULL_SCALE: Final = 32_768


def mel_energies(samples: Float32, window: Literal["povey", "hamming"] = "povey") -> Float32:
    """Log mel energies [frames, 80] of samples [n] at 16 kHz, as Kaldi's ``fbank`` without dither; 10 ms a frame."""
    if len(samples) < _FRAME:
        return np.zeros((0, _BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP].astype(np.float64)
    frames -= frames.mean(axis=1, keepdims=True)
    before = np.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
    weights = window_function(_FRAME, window, periodic=False)
    power = np.abs(np.fft.rfft((frames - 0.97 * before) * weights, _BINS)) ** 2
    filters = mel_filter_bank(
        _BINS // 2 + 1, _BANDS, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE,
        norm=None, mel_scale="kaldi", triangularize_in_mel_space=True,
    )  # fmt: skip
    return np.asarray(np.log(np.maximum(power @ filters, np.finfo(np.float32).eps)), np.float32)


class VoiceEncoder:
    """Embeds stretches of speech; ``folder`` has the weights of the model, ``threads`` 0 leaves them to its library.

    Raises:
        ModelError: they cannot be loaded, or are of another network.
    """

    def __init__(self, folder: Path, model: VoiceModel = "campplus", threads: int = 0) -> None:
        self.model = model
        self.dimension = DIMENSIONS[model]
        self._embed = _campplus(folder, threads) if model == "campplus" else _resnet(folder, threads)

    def windows(self, samples: Float32) -> tuple[list[Span], Float32]:
        """Windows of a stretch of speech that tile it, and their embeddings [n, dimension], of unit length.

        Samples [n] at 16 kHz in [-1, 1]; the times are seconds in it. Too short a stretch has no window.
        """
        plain = self.model == "campplus"
        mels = mel_energies(samples) if plain else mel_energies(samples * _FULL_SCALE, "hamming")
        if len(mels) < _SHORTEST:
            return [], np.zeros((0, self.dimension), np.float32)
        starts = list(range(0, max(1, len(mels) - _WINDOW + _STEP), _STEP))
        starts[-1] = max(0, min(starts[-1], len(mels) - _WINDOW))
        parts = [mels[start : start + _WINDOW] for start in starts]
        batch = np.stack([part - part.mean(axis=0) for part in parts])
        rows = np.concatenate([self._embed(batch[start : start + _BATCH]) for start in range(0, len(batch), _BATCH)])
        vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        # Where two windows overlap, each has the half that is nearer to its middle.
        middles = [(start + len(part) / 2) * _HOP / SAMPLE_RATE for start, part in zip(starts, parts, strict=True)]
        borders = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(middles)), len(samples) / SAMPLE_RATE]
        return [Span(a, b) for a, b in itertools.pairwise(borders)], vectors


def _campplus(folder: Path, threads: int) -> Callable[[Float32], Float32]:
    network = Network().eval()
    if threads:
        torch.set_num_threads(threads)
    try:
        state = torch.load(folder / "campplus_cn_en_common.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ModelError(f"the weights of voices in {folder} cannot be loaded ({error})") from error

    def embed(mels: Float32) -> Float32:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(mels)))

    return embed


def _resnet(folder: Path, threads: int) -> Callable[[Float32], Float32]:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    path = folder / "voxceleb_resnet293_LM.onnx"
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise ModelError(f"the weights of voices in {folder} cannot be loaded ({error})") from error
    tensors = [(one.name, len(one.shape), one.shape[-1]) for one in (*session.get_inputs(), *session.get_outputs())]
    if tensors != [("feats", 3, _BANDS), ("embs", 2, DIMENSIONS["wespeaker-resnet293"])]:
        raise ModelError(f"{path} is another network: its tensors are {tensors}")

    def embed(mels: Float32) -> Float32:
        return np.asarray(session.run(["embs"], {"feats": mels})[0])

    return embed
