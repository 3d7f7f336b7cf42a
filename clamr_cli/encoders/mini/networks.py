"""The networks of the mini encoder in numpy: a query needs no torch, whose import takes longer than all of this.

:class:`Bert` is the frozen text model in the layout of sentence-transformers/all-MiniLM-L6-v2 (6 layers, width 384, 12
heads; Wang et al., "MiniLM: Deep Self-Attention Distillation", arXiv 2002.10957; BERT: Devlin et al., arXiv
1810.04805). :class:`Heads` is the trained part: from rows of frozen features to token vectors of one space.

A document's rows are its frames (the whole, the recognised classes, nine regions each) and its words and passages, each
a unit vector [384] of the sentence space. First a joint transformer: two pre-norm layers (Xiong et al., arXiv
2002.04745) of self-attention over all rows of a document, with embeddings of the row's type and of its time in seconds
(Vaswani et al., arXiv 1706.03762), give each row of text a correction. As under CLaMR's causal attention (arXiv
2506.06144) text sees frames, and frames never see text: they stay as they are, and so do the rows of a query.

Then a head for each type of row makes a token vector of 128 numbers in four parts, among which a gate shares out the
unit length:

- semantic: a linear map of the row;
- lexical: the word's letters (:func:`.passages.lexical_vectors`), for names, numbers and languages the text model
  cannot read;
- prior (one number): how readily a type of row answers at all. Images are never as close to a sentence as another
  sentence is, and this is what closes that gap;
- null (two numbers, one for queries and one for documents, so that they never meet): takes up the length of what says
  little, such as "the" in a query.

Cosine similarity is all that a MaxSim store knows, and with these parts it is enough for weighted words, weighted
modalities and exact matches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION, Modality

Array = NDArray[np.float32]

WEIGHTS: Final = "mini.safetensors"
SHA256: Final = "8a9573e321afdcc769cdc08861a916b27fd0328e7dffe11696ae3d0716536cb7"
"""Of the weights file in this package."""

FLOORS: Final = {
    Modality.VIDEO: 0.272,
    Modality.SPEECH: 0.314,
    Modality.OCR: 0.322,
    Modality.METADATA: 0.345,
}
"""Scores per query vector that 49 of 50 right answers reach, by the modality that matches best, with these weights.

Measured on held-out photos and texts, see the model card."""

EVIDENCE_FLOORS: Final = {
    Modality.VIDEO: 0.39,
    Modality.SPEECH: 0.40,
    Modality.OCR: 0.25,
    Modality.METADATA: 0.33,
}
"""Similarities that best separate what matched a word in the right video from what did in others.

The balanced values of ``python -m tests.bench.evidence``."""

# Types of rows.
QUERY_WORD, QUERY_SENTENCE, IMAGE, IMAGE_CLASSES, IMAGE_REGION = range(5)
WORD: Final = {Modality.SPEECH: 5, Modality.OCR: 6, Modality.METADATA: 7}
PASSAGE: Final = {Modality.SPEECH: 8, Modality.OCR: 9, Modality.METADATA: 10}

FIRST_TEXT: Final = 5
"""Types from here on are text of a document: the rows that the joint transformer changes."""

HEADS: Final = (
    ("query.word", 0), ("query.sentence", 0), ("picture", 0), ("picture", 1), ("picture", 2), ("word", 0), ("word", 1),
    ("word", 2), ("passage", 0), ("passage", 1), ("passage", 2),
)  # fmt: skip
"""Of each type of row: its head, and its row among that head's gates."""

LAYERS: Final = 2
WIDTH: Final = 384
INNER: Final = 768
HEAD_WIDTH: Final = 64
SEMANTIC: Final = 77
LEXICAL: Final = 48
"""Numbers of the semantic and of the lexical part."""

TIMELESS: Final = np.float32(-1.0)
"""The time of rows that have none."""

TIMELESS_TYPES: Final = (QUERY_WORD, QUERY_SENTENCE, WORD[Modality.METADATA], PASSAGE[Modality.METADATA])
"""Rows of queries, and of metadata, which hold for the whole video."""

SENTENCE_COPIES: Final = 4
"""Number of copies of a query's sentence vector beside its words (CLaMR appends 10 tokens for the same purpose)."""

CLASS_SHARE: Final = 0.3
"""Weight of the recognised classes' names beside the trained connector, chosen on held-out photos."""

_LEXICAL_SHARE: Final = np.float32(0.75)
"""The lexical share of a word that the text model does not know; the rest is null.

Equal words agree by as much. In dozens of lines the best of all other words agrees by about 0.4 of it, so that a word
that stands nowhere stays near :data:`FLOORS`."""

_GATE_SCALE: Final = 10.0
_PERIODS: Final = 2.0 ** np.arange(1, 9, dtype=np.float32)
_LEXICAL_HEADS: Final = ("query.word", "word")
_HEAD_NAMES: Final = ("query.word", "query.sentence", "word", "passage", "picture")

TENSORS: Final = (
    "classes", "connector.weight", "connector.bias",
    *(f"{head}.{part}" for head in _HEAD_NAMES for part in ("weight", "bias", "gate.bias")),
)  # fmt: skip
"""Tensors that must be there; ``<head>.gate.weight`` is there for all heads but the image's."""

JOINT_TENSORS: Final = (
    "joint.kind", "joint.time", "joint.norm.weight", "joint.norm.bias", "joint.correction",
    *(
        f"joint.{layer}.{part}.{kind}"
        for layer in range(LAYERS)
        for part in ("norm1", "qkv", "out", "norm2", "up", "down")
        for kind in ("weight", "bias")
    ),
)  # fmt: skip
"""Tensors of the joint transformer, matrices [in, out]: all are there or none is; without them rows do not change."""


_BERT_HEAD_WIDTH: Final = 32
_BATCH_TOKENS: Final = 2048
_EPSILON: Final = 1e-12
_SQRT_HALF: Final = np.float32(0.7071067811865476)
_HINT: Final = "fetch it again: clamr models pull minilm-l6"


_DTYPES: Final = {"I8": np.int8, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}
"""Types of tensors by the names of safetensors."""


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
            return cls(mapped(path))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
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


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file, mapped into memory: a query reads a few rows of the largest alone.

    Raises:
        OSError, SafetensorError, ValueError: the file is absent or damaged.
    """
    with safe_open(path, "numpy"):  # checks the header and the length
        pass
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    content = np.memmap(path, np.uint8, "r", offset=8 + size)
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in _DTYPES:
            start, end = entry["data_offsets"]
            tensors[name] = np.asarray(content[start:end]).view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


class _Layer:
    """One transformer layer; matrices are seen as [in, out], the three of attention side by side."""

    def __init__(self, named: Mapping[str, Array], prefix: str) -> None:
        def norm(name: str) -> tuple[Array, Array]:
            return named[f"{prefix}{name}.LayerNorm.weight"], named[f"{prefix}{name}.LayerNorm.bias"]

        def dense(name: str) -> tuple[Array, Array]:
            return named[f"{prefix}{name}.weight"].T, named[f"{prefix}{name}.bias"]

        parts = [dense(f"attention.self.{part}") for part in ("query", "key", "value")]
        self.qkv = np.concatenate([weight.T for weight, _ in parts]).T
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
        qkv = (flat @ self.qkv + self.qkv_bias).reshape(rows, length, 3, width // _BERT_HEAD_WIDTH, _BERT_HEAD_WIDTH)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        weights = query @ key.swapaxes(-1, -2)
        weights *= np.float32(_BERT_HEAD_WIDTH**-0.5)
        weights += mask[:, None, None, :]
        mixed = (softmax(weights) @ value).swapaxes(1, 2).reshape(-1, width)
        flat = normalise(flat + (mixed @ self.out + self.out_bias), self.out_norm)
        inner = gelu(flat @ self.up + self.up_bias)
        return normalise(flat + (inner @ self.down + self.down_bias), self.down_norm).reshape(rows, length, width)


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Outputs of the image model for some images.

    Attributes:
        inputs: [n, 10, 3018], of the whole and of each of nine regions what the connector reads: means of the last
            feature map (1280), scaled roots of the shares of named colours (26), and the means (856) and deviations
            (856) of the channels of each stage, stage by stage.
        probabilities: [n, 10, 1000], classes of the whole and of each region.
    """

    inputs: Array
    probabilities: Array

    def take(self, ids: NDArray[np.int64]) -> ImageFeatures:
        """Those of some of the images."""
        return ImageFeatures(self.inputs[ids], self.probabilities[ids])

    def __len__(self) -> int:
        return len(self.inputs)


class Connector(NamedTuple):
    """A linear map from what an image shows to the vectors of sentences about it.

    It is [3018, 384] and [384], or [1306, 384] if it does not read the stages.
    """

    weight: Array
    bias: Array

    def image_rows(self, features: ImageFeatures, classes: Array) -> Array:
        """See :meth:`Heads.image_rows`; ``classes`` [1000, 384] are sentence vectors of the classes' names."""
        named = unit(features.probabilities @ classes)
        rows = unit(
            features.inputs[..., : len(self.weight)] @ self.weight + self.bias + np.float32(CLASS_SHARE) * named
        )
        return np.concatenate([rows[:, :1], named[:, :1], rows[:, 1:]], axis=1)


def read_weights(name: str, sha256: str, path: Path | None = None) -> dict[str, NDArray[np.floating]]:
    """Tensors of the weights file of that name in this package, or of another file.

    Raises:
        ModelError: the file is absent, damaged or not the expected one.
    """
    try:
        content = path.read_bytes() if path else resources.files(__package__).joinpath(name).read_bytes()
        tensors: dict[str, NDArray[np.floating]] = load(content)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the mini encoder's weights: {error}", "reinstall clamr-cli") from error
    if path is None and hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(
            "the mini encoder's weights are not the ones this version was made with", "reinstall clamr-cli"
        )
    return tensors


class Heads:
    """The trained tensors of a weights file.

    Raises:
        ModelError: one is missing.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.floating]]) -> None:
        self._tensors: dict[str, Array] = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        self._is_joint = any(name in self._tensors for name in JOINT_TENSORS)
        missing = sorted({*TENSORS, *(JOINT_TENSORS if self._is_joint else ())} - set(self._tensors))
        if missing:
            raise ModelError(f"the mini encoder's weights lack {', '.join(missing)}", "reinstall clamr-cli")

    @classmethod
    def load(cls, path: Path | None = None) -> Heads:
        """Read the weights that come with the package, or others that were trained by the same recipe.

        Raises:
            ModelError: the file is absent, damaged or not the expected one.
        """
        return cls(read_weights(WEIGHTS, SHA256, path))

    @property
    def classes(self) -> Array:
        """Sentence vectors [1000, 384] of the names of ImageNet's classes."""
        return self._tensors["classes"]

    def image_rows(self, features: ImageFeatures) -> Array:
        """Rows [n, 11, 384] of unit length: the whole image, the classes recognised in it, and its regions."""
        connector = Connector(self._tensors["connector.weight"], self._tensors["connector.bias"])
        return connector.image_rows(features, self.classes)

    def vectors(self, rows: Array, types: NDArray[np.int64], times: Array, lexical: Array) -> Array:
        """Token vectors of all rows of one document or query.

        Args:
            rows: [n, 384], of unit length. Zeros stand for a word that the text model does not know: only its lexical
                vector counts, and the other rows do not see it.
            types: [n], types of rows.
            times: [n] seconds from the document's start, or :data:`TIMELESS`.
            lexical: [n, 48], lexical vectors of words; not looked at for other rows.

        Returns:
            [n, 128], of unit length.
        """
        vectors = np.zeros((len(rows), DIMENSION), dtype=np.float32)
        null = np.where(types <= QUERY_SENTENCE, DIMENSION - 2, DIMENSION - 1)
        known = rows.any(axis=1)
        unknown = np.flatnonzero(~known)
        vectors[unknown, SEMANTIC : SEMANTIC + LEXICAL] = np.sqrt(_LEXICAL_SHARE) * lexical[unknown]
        vectors[unknown, null[unknown]] = np.sqrt(1 - _LEXICAL_SHARE)
        rows = self._contextual(rows[known], types[known], times[known])
        heads = np.array([_HEAD_NAMES.index(head) for head, _ in HEADS])[types[known]]
        gate_rows = np.array([gate for _, gate in HEADS])[types[known]]
        for number, head in enumerate(_HEAD_NAMES):
            members = heads == number
            if not members.any():
                continue
            inputs, target = rows[members], np.flatnonzero(known)[members]
            gates: Array = self._tensors[f"{head}.gate.bias"][gate_rows[members]]
            if f"{head}.gate.weight" in self._tensors:
                scaled: Array = inputs * np.float32(_GATE_SCALE)
                gates = gates + scaled @ self._tensors[f"{head}.gate.weight"]
            if head not in _LEXICAL_HEADS:
                gates = gates + np.array([0.0, -np.inf, 0.0, 0.0], dtype=np.float32)
            shares: Array = np.sqrt(softmax(gates))
            semantic = unit(inputs @ self._tensors[f"{head}.weight"] + self._tensors[f"{head}.bias"])
            vectors[target, :SEMANTIC] = shares[:, :1] * semantic
            if head in _LEXICAL_HEADS:
                vectors[target, SEMANTIC : SEMANTIC + LEXICAL] = shares[:, 1:2] * lexical[target]
            vectors[target, SEMANTIC + LEXICAL] = shares[:, 2]
            vectors[target, null[target]] = shares[:, 3]
        return vectors

    def _contextual(self, rows: Array, types: NDArray[np.int64], times: Array) -> Array:
        """Rows of unit length, those of text with the correction that the joint transformer makes of all rows."""
        is_text = types >= FIRST_TEXT
        if not (self._is_joint and is_text.any()):
            return rows
        tensors = self._tensors

        def norm(name: str, values: Array) -> Array:
            return normalise(values, (tensors[f"joint.{name}.weight"], tensors[f"joint.{name}.bias"]))

        def linear(name: str, values: Array) -> Array:
            result: Array = values @ tensors[f"joint.{name}.weight"] + tensors[f"joint.{name}.bias"]
            return result

        hidden = rows * np.float32(WIDTH**0.5) + tensors["joint.kind"][types]
        hidden = hidden + time_features(times) @ tensors["joint.time"]
        for layer in range(LAYERS):
            hidden = hidden + linear(f"{layer}.out", attend(linear(f"{layer}.qkv", norm(f"{layer}.norm1", hidden))))
            inner = gelu(linear(f"{layer}.up", norm(f"{layer}.norm2", hidden)))
            hidden = hidden + linear(f"{layer}.down", inner)
        changed = rows[is_text] + norm("norm", hidden[is_text]) @ tensors["joint.correction"]
        result = rows.copy()
        result[is_text] = changed / np.linalg.norm(changed, axis=1, keepdims=True)
        return result


def time_features(times: Array) -> Array:
    """Sines and cosines [n, 16] of times in seconds, at periods of 2 to 256 s; zeros for :data:`TIMELESS`."""
    angles = times[:, None] * (2 * np.float32(np.pi) / _PERIODS)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    features[times < 0] = 0.0
    return features.astype(np.float32)


def attend(qkv: Array, block: int = 256) -> Array:
    """Self-attention over all rows, [n, 3 * 384] to [n, 384], ``block`` queries at a time to bound memory."""
    count = len(qkv)
    query, key, value = qkv.reshape(count, 3, WIDTH // HEAD_WIDTH, HEAD_WIDTH).transpose(1, 2, 0, 3)
    mixed = np.empty((count, WIDTH), dtype=np.float32)
    for start in range(0, count, block):
        weights = query[:, start : start + block] @ key.swapaxes(-1, -2)
        weights *= np.float32(HEAD_WIDTH**-0.5)
        mixed[start : start + block] = (softmax(weights) @ value).swapaxes(0, 1).reshape(-1, WIDTH)
    return mixed


def unit(rows: Array) -> Array:
    """Rows (last axis) scaled to unit length; zero rows stay."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    result: Array = rows / np.maximum(lengths, np.float32(1e-9))
    return result


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


def softmax(values: Array) -> Array:
    """Exponentials over the last axis, divided by their sum; changes ``values``."""
    values -= values.max(axis=-1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=-1, keepdims=True)
    return values
