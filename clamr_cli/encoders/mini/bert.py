"""The forward pass of a small BERT in numpy.

A query must be encoded within a fraction of a second from a cold start; importing torch alone takes longer than that.
The layout is that of sentence-transformers/all-MiniLM-L6-v2 (6 layers, width 384, 12 heads; Wang et al., "MiniLM: Deep
Self-Attention Distillation", arXiv 2002.10957; BERT: Devlin et al., arXiv 1810.04805).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_EPSILON: Final = 1e-12
_HEAD_WIDTH: Final = 32
_BATCH_TOKENS: Final = 2048
_SQRT_HALF: Final = np.float32(0.7071067811865476)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One transformer layer; matrices are [in, out], the three of attention side by side."""

    qkv: Array
    qkv_bias: Array
    out: Array
    out_bias: Array
    out_norm: tuple[Array, Array]
    up: Array
    up_bias: Array
    down: Array
    down_bias: Array
    down_norm: tuple[Array, Array]


class Bert:
    """Token ids in, hidden states of the last layer out."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        """Take the tensors under the names of the transformers library, with or without the prefix ``bert.``.

        Raises:
            ModelError: a tensor is missing.
        """
        named = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
        try:
            self._words = named["embeddings.word_embeddings.weight"]
            self._positions = named["embeddings.position_embeddings.weight"]
            self._type = named["embeddings.token_type_embeddings.weight"][0]
            self._norm = _norm(named, "embeddings.LayerNorm")
            count = 1 + max(int(name.split(".")[2]) for name in named if name.startswith("encoder.layer."))
            self._layers = [_layer(named, f"encoder.layer.{number}.") for number in range(count)]
        except (KeyError, ValueError) as error:
            raise ModelError(
                f"the text model's weights lack {error}", "fetch them again: clamr models pull minilm-l6"
            ) from error
        self.width = int(self._words.shape[1])
        self.vocabulary = int(self._words.shape[0])

    @classmethod
    def load(cls, path: Path) -> Bert:
        """Read a safetensors file.

        Raises:
            ModelError: the file is absent, damaged or holds another model.
        """
        try:
            return cls(load_file(path))
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"cannot read the text model {path}: {error}", "fetch it again: clamr models pull minilm-l6"
            ) from error

    def embed(self, ids: Sequence[int]) -> Array:
        """The word-piece embeddings before any layer: [n, width] float32."""
        return self._words[np.asarray(ids, dtype=np.int64)]

    def encode(self, sequences: Sequence[Sequence[int]]) -> list[Array]:
        """Hidden states of each sequence of token ids: [len(sequence), width] float32, in the order given.

        Sequences of like length share a batch; none may be empty or longer than the model's positions (512).
        """
        order = sorted(range(len(sequences)), key=lambda index: (len(sequences[index]), index))
        states: list[Array | None] = [None] * len(sequences)
        for batch in _batches(order, sequences):
            hidden = self._forward([sequences[index] for index in batch])
            for row, index in enumerate(batch):
                states[index] = hidden[row, : len(sequences[index])]
        return [state for state in states if state is not None]

    def _forward(self, batch: Sequence[Sequence[int]]) -> Array:
        """Hidden states of a padded batch: [batch, longest, width]."""
        longest = max(map(len, batch))
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.full((len(batch), longest), -np.inf, dtype=np.float32)
        for row, sequence in enumerate(batch):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 0.0
        hidden = normalise(self._words[ids] + self._positions[:longest] + self._type, self._norm)
        for layer in self._layers:
            hidden = _apply(layer, hidden, mask)
        return hidden


def _batches(order: Sequence[int], sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """Cut the indices, sorted by length, into batches that stay under a number of tokens with their padding."""
    batches: list[list[int]] = []
    for index in order:
        if not batches or (len(batches[-1]) + 1) * len(sequences[index]) > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(index)
    return batches


def _apply(layer: _Layer, hidden: Array, mask: Array) -> Array:
    """One layer on [batch, n, width], keys masked by [batch, n] of 0 and -inf."""
    rows, length, width = hidden.shape
    flat = hidden.reshape(-1, width)
    qkv = (flat @ layer.qkv + layer.qkv_bias).reshape(rows, length, 3, width // _HEAD_WIDTH, _HEAD_WIDTH)
    query, key, value = qkv.transpose(2, 0, 3, 1, 4)
    weights = query @ key.swapaxes(-1, -2)
    weights *= np.float32(_HEAD_WIDTH**-0.5)
    weights += mask[:, None, None, :]
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = (weights @ value).swapaxes(1, 2).reshape(-1, width)
    flat = normalise(flat + (mixed @ layer.out + layer.out_bias), layer.out_norm)
    inner = gelu(flat @ layer.up + layer.up_bias)
    return normalise(flat + (inner @ layer.down + layer.down_bias), layer.down_norm).reshape(rows, length, width)


def normalise(values: Array, norm: tuple[Array, Array]) -> Array:
    """Layer normalisation over the last axis."""
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


def _norm(named: Mapping[str, Array], prefix: str) -> tuple[Array, Array]:
    return named[f"{prefix}.weight"], named[f"{prefix}.bias"]


def _layer(named: Mapping[str, Array], prefix: str) -> _Layer:
    """Gather one layer's tensors, turned to [in, out]."""
    parts = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
    return _Layer(
        qkv=np.concatenate([named[f"{part}.weight"].T for part in parts], axis=1),
        qkv_bias=np.concatenate([named[f"{part}.bias"] for part in parts]),
        out=np.ascontiguousarray(named[f"{prefix}attention.output.dense.weight"].T),
        out_bias=named[f"{prefix}attention.output.dense.bias"],
        out_norm=_norm(named, f"{prefix}attention.output.LayerNorm"),
        up=np.ascontiguousarray(named[f"{prefix}intermediate.dense.weight"].T),
        up_bias=named[f"{prefix}intermediate.dense.bias"],
        down=np.ascontiguousarray(named[f"{prefix}output.dense.weight"].T),
        down_bias=named[f"{prefix}output.dense.bias"],
        down_norm=_norm(named, f"{prefix}output.LayerNorm"),
    )
