"""From frozen features to unit vectors of one space: what was trained for this project, in numpy.

A vector of 128 numbers has four parts, and a gate shares its unit length out among them:

- *sense* (the first): a linear map of the text model's state, or of a picture put into the sentences' space;
- *spelling*: the word's letters (:mod:`.spelling`), for names, numbers and languages the text model cannot read;
- *prior* (one number): how readily a kind of vector answers at all. Pictures are never as close to a sentence as
  another sentence is, and this is what closes that gap;
- *silence* (two numbers, one for queries and one for documents, so that they never meet): takes up the length of what
  says little, such as "the" in a query.

Cosine similarity is all that a MaxSim store knows, and with these parts it is enough for weighted words, weighted
modalities and exact matches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from clamr_cli.encoders.mini.spelling import spell
from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION, Modality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

SHA256: Final = "c672c46d6ad2bc9ab662beb854110c044939b812bbd173322097dcfe8ca87450"
"""Of the weights file in this package."""

WEIGHTS: Final = "connector.safetensors"
REGIONS: Final = 9
SENSE: Final = 77
SPELLING: Final = 48
SENTENCE_COPIES: Final = 4
"""How often a query's sentence vector is repeated beside its words (CLaMR appends 10 tokens for the same purpose)."""

CLASS_SHARE: Final = 0.3
"""Weight of the recognised classes' names beside the trained connector, chosen on held-out photos."""

_SPOKEN: Final = (Modality.SPEECH, Modality.OCR, Modality.METADATA)
_GATE_SCALE: Final = 10.0


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """What the picture model says of some pictures.

    Attributes:
        pooled: [n, 1280], mean over the whole feature map.
        regions: [n, 9, 1280], means over thirds of it.
        probabilities: [n, 10, 1000], classes of the whole and of each region.
    """

    pooled: Array
    regions: Array
    probabilities: Array

    def __len__(self) -> int:
        return len(self.pooled)


class Heads:
    """The trained maps and gates."""

    def __init__(self, tensors: Mapping[str, NDArray[np.floating]]) -> None:
        """Take the tensors of a weights file.

        Raises:
            ModelError: one is missing.
        """
        self._tensors: dict[str, Array] = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        missing = sorted(set(NAMES) - set(self._tensors))
        if missing:
            raise ModelError(f"the mini encoder's weights lack {', '.join(missing)}", "reinstall clamr-cli")

    @classmethod
    def load(cls, path: Path | None = None) -> Heads:
        """Read the weights that come with the package, or others that were trained by the same recipe.

        Raises:
            ModelError: the file is absent, damaged or not the expected one.
        """
        try:
            content = path.read_bytes() if path else resources.files(__package__).joinpath(WEIGHTS).read_bytes()
            if path is None and hashlib.sha256(content).hexdigest() != SHA256:
                raise ModelError(
                    "the mini encoder's weights are not the ones this version was made with", "reinstall clamr-cli"
                )
            return cls(load(content))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read the mini encoder's weights: {error}", "reinstall clamr-cli") from error

    def query(self, words: Sequence[str], states: Array, sentence: Array) -> Array:
        """Vectors of a query: one per word, then :data:`SENTENCE_COPIES` equal ones of the whole.

        Args:
            words: as they are written.
            states: [n, 384], the words' states.
            sentence: [384], the mean state.
        """
        whole = unit(sentence[None])
        each = self._vectors("query.word", unit(states), 0, spell(words, SPELLING))
        copies = np.repeat(self._vectors("query.sentence", whole, 0), SENTENCE_COPIES, axis=0)
        return _place(np.concatenate([each, copies]), silent=DIMENSION - 2)

    def words(self, modality: Modality, words: Sequence[str], states: Array) -> Array:
        """Vectors [n, 128] of a document's words with their states [n, 384]."""
        spelled = spell(words, SPELLING)
        return _place(self._vectors("word", unit(states), _SPOKEN.index(modality), spelled), silent=DIMENSION - 1)

    def passages(self, modality: Modality, means: Array) -> Array:
        """Vectors [n, 128] of passages with their mean states [n, 384]."""
        return _place(self._vectors("passage", unit(means), _SPOKEN.index(modality)), silent=DIMENSION - 1)

    def pictures(self, features: PictureFeatures) -> Array:
        """Vectors [n, 11, 128]: the whole picture, the classes recognised in it, and its regions."""
        count = len(features)
        everything = np.concatenate([features.pooled[:, None], features.regions], axis=1)
        classes = unit(features.probabilities @ self._tensors["classes"])
        mapped = everything @ self._tensors["connector.weight"] + self._tensors["connector.bias"]
        seen = unit(mapped + np.float32(CLASS_SHARE) * classes)
        rows = np.concatenate([seen[:, :1], classes[:, :1], seen[:, 1:]], axis=1)
        kinds = np.tile([0, 1, *[2] * REGIONS], count)
        vectors = self._vectors("picture", rows.reshape(-1, rows.shape[-1]), kinds)
        return _place(vectors, silent=DIMENSION - 1).reshape(count, -1, DIMENSION)

    def _vectors(self, head: str, inputs: Array, kind: int | NDArray[np.int64], spelled: Array | None = None) -> Array:
        """Sense, spelling, prior and silence side by side: [n, SENSE + SPELLING + 2], rows of unit length."""
        sense = unit(inputs @ self._tensors[f"{head}.weight"] + self._tensors[f"{head}.bias"])
        gates = self._tensors[f"{head}.gate.bias"][kind] + np.zeros((len(inputs), 4), dtype=np.float32)
        if f"{head}.gate.weight" in self._tensors:
            gates += _GATE_SCALE * inputs @ self._tensors[f"{head}.gate.weight"]
        if spelled is None:
            gates[:, 1] = -np.inf
            spelled = np.zeros((len(inputs), SPELLING), dtype=np.float32)
        gates = np.exp(gates - gates.max(axis=1, keepdims=True))
        shares = np.sqrt(gates / gates.sum(axis=1, keepdims=True))
        return np.concatenate([shares[:, :1] * sense, shares[:, 1:2] * spelled, shares[:, 2:]], axis=1)


_PLAIN: Final = ("classes", "connector.weight", "connector.bias")
_HEADS: Final = ("query.word", "query.sentence", "word", "passage", "picture")
NAMES: Final = (*_PLAIN, *(f"{head}.{part}" for head in _HEADS for part in ("weight", "bias", "gate.bias")))
"""Tensors that must be there; ``<head>.gate.weight`` is there for all heads but the picture's."""


def unit(rows: Array) -> Array:
    """Rows (last axis) scaled to unit length; zero rows stay."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    result: Array = rows / np.maximum(lengths, np.float32(1e-9))
    return result


def _place(vectors: Array, *, silent: int) -> Array:
    """Move the last column, silence, to its place among the 128: that of queries or that of documents."""
    placed = np.zeros((len(vectors), DIMENSION), dtype=np.float32)
    placed[:, : SENSE + SPELLING + 1] = vectors[:, :-1]
    placed[:, silent] = vectors[:, -1]
    return placed
