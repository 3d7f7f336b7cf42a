"""The forward pass of a small BERT in numpy.

A query must be encoded within a fraction of a second from a cold start; importing torch alone takes longer than that.
The layout is that of sentence-transformers/all-MiniLM-L6-v2 (6 layers, width 384, 12 heads; Wang et al., "MiniLM: Deep
Self-Attention Distillation", arXiv 2002.10957; BERT: Devlin et al., arXiv 1810.04805).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clamr_cli.errors import ModelError

Array = NDArray[np.float32]

_EPSILON: Final = 1e-12
_HEAD_WIDTH: Final = 32
_BATCH_TOKENS: Final = 2048
_SQRT_HALF: Final = np.float32(0.7071067811865476)
_HINT: Final = "fetch it again: clamr models pull minilm-l6"


class Bert:
    """Token ids in, hidden states of the last layer out.

    Args:
        tensors: under the names of the transformers library, with or without the prefix ``bert.``.

    Raises:
        ModelError: a tensor is missing.
    """

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        named = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
        try:
            self._words = named["embeddings.word_embeddings.weight"]
            self._positions = named["embeddings.position_embeddings.weight"]
            self._type = named["embeddings.token_type_embeddings.weight"][0]
            self._norm = named["embeddings.LayerNorm.weight"], named["embeddings.LayerNorm.bias"]
            count = 1 + max(int(name.split(".")[2]) for name in named if name.startswith("encoder.layer."))
            self._layers = [_Layer(named, f"encoder.layer.{number}.") for number in range(count)]
        except (KeyError, ValueError) as error:
            raise ModelError(f"the text model's weights lack {error}", _HINT) from error

    @classmethod
    def load(cls, path: Path) -> Bert:
        """Read a safetensors file.

        Raises:
            ModelError: the file is absent, damaged or holds another model.
        """
        try:
            return cls(load_file(path))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read the text model {path}: {error}", _HINT) from error

    def encode(self, sequences: Sequence[Sequence[int]]) -> list[Array]:
        """Hidden states of each sequence of token ids: [len(sequence), width] float32, in the order given.

        Sequences of like length share a batch; none may be empty or longer than the model's positions (512).
        """
        batches: list[list[int]] = []
        for index in sorted(range(len(sequences)), key=lambda index: len(sequences[index])):
            if not batches or (len(batches[-1]) + 1) * len(sequences[index]) > _BATCH_TOKENS:
                batches.append([])
            batches[-1].append(index)
        states: dict[int, Array] = {}
        for batch in batches:
            longest = max(len(sequences[index]) for index in batch)
            ids = np.zeros((len(batch), longest), dtype=np.int64)
            mask = np.full((len(batch), longest), -np.inf, dtype=np.float32)
            for row, index in enumerate(batch):
                ids[row, : len(sequences[index])] = sequences[index]
                mask[row, : len(sequences[index])] = 0.0
            hidden = normalise(self._words[ids] + self._positions[:longest] + self._type, self._norm)
            for layer in self._layers:
                hidden = layer(hidden, mask)
            states |= {index: hidden[row, : len(sequences[index])] for row, index in enumerate(batch)}
        return [states[index] for index in range(len(sequences))]


class _Layer:
    """One transformer layer; matrices are turned to [in, out], the three of attention side by side."""

    def __init__(self, named: Mapping[str, Array], prefix: str) -> None:
        def norm(name: str) -> tuple[Array, Array]:
            return named[f"{prefix}{name}.LayerNorm.weight"], named[f"{prefix}{name}.LayerNorm.bias"]

        def dense(name: str) -> tuple[Array, Array]:
            return np.ascontiguousarray(named[f"{prefix}{name}.weight"].T), named[f"{prefix}{name}.bias"]

        parts = [dense(f"attention.self.{part}") for part in ("query", "key", "value")]
        self.qkv = np.concatenate([weight for weight, _ in parts], axis=1)
        self.qkv_bias = np.concatenate([bias for _, bias in parts])
        self.out, self.out_bias = dense("attention.output.dense")
        self.out_norm = norm("attention.output")
        self.up, self.up_bias = dense("intermediate.dense")
        self.down, self.down_bias = dense("output.dense")
        self.down_norm = norm("output")

    def __call__(self, hidden: Array, mask: Array) -> Array:
        """The layer applied to [batch, n, width], with keys masked by [batch, n] of 0 and -inf."""
        rows, length, width = hidden.shape
        flat = hidden.reshape(-1, width)
        qkv = (flat @ self.qkv + self.qkv_bias).reshape(rows, length, 3, width // _HEAD_WIDTH, _HEAD_WIDTH)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        weights = query @ key.swapaxes(-1, -2)
        weights *= np.float32(_HEAD_WIDTH**-0.5)
        weights += mask[:, None, None, :]
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ value).swapaxes(1, 2).reshape(-1, width)
        flat = normalise(flat + (mixed @ self.out + self.out_bias), self.out_norm)
        inner = gelu(flat @ self.up + self.up_bias)
        return normalise(flat + (inner @ self.down + self.down_bias), self.down_norm).reshape(rows, length, width)


def normalise(values: Array, norm: tuple[Array, Array]) -> Array:
    """Layer normalisation over the last axis, with its weight and bias."""
    centred: Array = values - values.mean(axis=-1, keepdims=True)
    variance = np.einsum("...i,...i->...", centred, centred)[..., None] / np.float32(values.shape[-1])
    centred /= np.sqrt(variance + np.float32(_EPSILON))
    centred *= norm[0]
    centred += norm[1]
    return centred


def gelu(values: Array) -> Array:
    """The activation x * Phi(x), with erf by formula 7.1.26 of Abramowitz and Stegun (error under 1.5e-7)."""
    scaled = values * _SQRT_HALF
    size = np.abs(scaled)
    step = 1.0 / (1.0 + np.float32(0.3275911) * size)
    series: Array = np.full_like(step, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series *= step
        series += np.float32(coefficient)
    series *= step
    np.square(size, out=size)
    np.negative(size, out=size)
    np.exp(size, out=size)
    series *= size
    np.subtract(1.0, series, out=series)
    np.copysign(series, scaled, out=series)
    series += 1.0
    series *= values
    series *= np.float32(0.5)
    return series
