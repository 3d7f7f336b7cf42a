"""The joint transformer in numpy: a document's text sees all of the document, whatever its modality.

A document's rows are its frames (the whole, the recognised classes, nine regions each) and its words and passages of
speech, on-screen text and metadata, each as a unit vector of the sentence space. Two layers of self-attention over all
of them, with an embedding of the row's kind and of its time, give each row of text a correction that is added before
the heads make token vectors of it. Frames stay as they are: as under CLaMR's causal attention (arXiv 2506.06144), text
sees frames and frames never see text. A query sees nothing but itself and stays as it is too.

Pre-norm layers as in Xiong et al., "On Layer Normalization in the Transformer Architecture" (arXiv 2002.04745); time as
in Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762), in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.encoders.mini.bert import gelu, normalise
from clamr_cli.encoders.mini.kinds import FIRST_TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

LAYERS: Final = 2
WIDTH: Final = 384
INNER: Final = 768
HEAD_WIDTH: Final = 64

_PERIODS: Final = 2.0 ** np.arange(1, 9, dtype=np.float32)
_BLOCK: Final = 256

TIMELESS: Final = np.float32(-1.0)
"""The time of what has none: queries, and metadata of the whole video."""

_LAYER: Final = ("norm1", "qkv", "out", "norm2", "up", "down")
NAMES: Final = (
    "joint.kind",
    "joint.time",
    "joint.norm.weight",
    "joint.norm.bias",
    "joint.correction",
    *(f"joint.{layer}.{part}.{what}" for layer in range(LAYERS) for part in _LAYER for what in ("weight", "bias")),
)
"""Tensors of the joint transformer; matrices are [in, out]."""


def time_features(times: Array) -> Array:
    """Sines and cosines [n, 16] of times in seconds, at periods of 2 to 256 s; zeros for :data:`TIMELESS`."""
    angles = times[:, None] * (2 * np.float32(np.pi) / _PERIODS)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    features[times < 0] = 0.0
    return features.astype(np.float32)


class Joint:
    """The layers, with their tensors by the names of :data:`NAMES`."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors

    def __call__(self, rows: Array, kinds: NDArray[np.int64], times: Array) -> Array:
        """The rows, those of text with what the others add to them.

        Args:
            rows: [n, 384], of unit length.
            kinds: [n], see :mod:`.kinds`.
            times: [n] seconds from the document's start, or :data:`TIMELESS`.

        Returns:
            [n, 384] rows of unit length.
        """
        told = kinds >= FIRST_TEXT
        if not told.any():
            return rows
        named = self._tensors
        hidden = rows * np.float32(WIDTH**0.5) + named["joint.kind"][kinds] + time_features(times) @ named["joint.time"]
        for layer in range(LAYERS):
            hidden = self._layer(f"joint.{layer}.", hidden)
        changed = rows[told] + normalise(hidden[told], self._norm("joint.norm")) @ named["joint.correction"]
        result = rows.copy()
        result[told] = changed / np.linalg.norm(changed, axis=1, keepdims=True)
        return result

    def _layer(self, prefix: str, hidden: Array) -> Array:
        qkv = self._linear(f"{prefix}qkv", normalise(hidden, self._norm(f"{prefix}norm1")))
        hidden = hidden + self._linear(f"{prefix}out", _attend(qkv))
        inner = gelu(self._linear(f"{prefix}up", normalise(hidden, self._norm(f"{prefix}norm2"))))
        return hidden + self._linear(f"{prefix}down", inner)

    def _linear(self, name: str, values: Array) -> Array:
        result: Array = values @ self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
        return result

    def _norm(self, name: str) -> tuple[Array, Array]:
        return self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]


def _attend(qkv: Array) -> Array:
    """Self-attention over all rows, [n, 3 * 384] to [n, 384], some queries at a time."""
    count = len(qkv)
    query, key, value = qkv.reshape(count, 3, WIDTH // HEAD_WIDTH, HEAD_WIDTH).transpose(1, 2, 0, 3)
    mixed = np.empty((count, WIDTH), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        weights = query[:, start : start + _BLOCK] @ key.swapaxes(-1, -2)
        weights *= np.float32(HEAD_WIDTH**-0.5)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed[start : start + _BLOCK] = (weights @ value).swapaxes(0, 1).reshape(-1, WIDTH)
    return mixed
