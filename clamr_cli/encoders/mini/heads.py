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

from clamr_cli.encoders.mini import joint
from clamr_cli.encoders.mini.kinds import HEADS, QUERY_WORD
from clamr_cli.errors import ModelError
from clamr_cli.types import DIMENSION, Modality

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

SHA256: Final = "5ec9c991f71f80bae7fee95517b73fa529a24fcf96c5e7ce34430ec343f3e008"
"""Of the weights file in this package."""

FLOORS: Final = {
    Modality.VIDEO: 0.240,
    Modality.SPEECH: 0.272,
    Modality.OCR: 0.324,
    Modality.METADATA: 0.343,
}
"""Scores per query vector that 49 of 50 right answers reach, by the modality that matches best, with these weights.

Measured on held-out photos and texts, see the model card."""

WEIGHTS: Final = "mini.safetensors"
REGIONS: Final = 9
SENSE: Final = 77
SPELLING: Final = 48
SENTENCE_COPIES: Final = 4
"""How often a query's sentence vector is repeated beside its words (CLaMR appends 10 tokens for the same purpose)."""

CLASS_SHARE: Final = 0.3
"""Weight of the recognised classes' names beside the trained connector, chosen on held-out photos."""

COLOUR_SCALE: Final = 6.0
"""How large shares of colours are beside the picture model's features, for the ridge regression that reads both."""

SPELLED_SHARE: Final = np.float32(0.75)
"""Spelling's share of a word that the text model does not know; the rest is silence.

Equal words agree by as much. In dozens of lines the best of all other words agrees by about 0.4 of it, so that a word
that stands nowhere stays near :data:`FLOORS`.
"""

_GATE_SCALE: Final = 10.0


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """What the picture model says of some pictures.

    Attributes:
        pooled: [n, 1280], mean over the whole feature map.
        regions: [n, 9, 1280], means over thirds of it.
        probabilities: [n, 10, 1000], classes of the whole and of each region.
        colours: [n, 10, 26], how much of the whole and of each region is of each of :data:`.colours.NAMED`.
    """

    pooled: Array
    regions: Array
    probabilities: Array
    colours: Array

    def inputs(self) -> Array:
        """What the connector reads: [n, 10, 1306] of the whole and of each region."""
        pooled = np.concatenate([self.pooled[:, None], self.regions], axis=1)
        return np.concatenate([pooled, np.float32(COLOUR_SCALE) * np.sqrt(self.colours)], axis=2)

    def take(self, ids: NDArray[np.int64]) -> PictureFeatures:
        """Those of some of the pictures."""
        return PictureFeatures(self.pooled[ids], self.regions[ids], self.probabilities[ids], self.colours[ids])

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
        sees_all = any(name in self._tensors for name in joint.NAMES)
        needed = (*NAMES, *joint.NAMES) if sees_all else NAMES
        missing = sorted(set(needed) - set(self._tensors))
        if missing:
            raise ModelError(f"the mini encoder's weights lack {', '.join(missing)}", "reinstall clamr-cli")
        self._joint = joint.Joint(self._tensors) if sees_all else None

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

    def picture_rows(self, features: PictureFeatures) -> Array:
        """Rows [n, 11, 384] of unit length: the whole picture, the classes recognised in it, and its regions."""
        classes = unit(features.probabilities @ self._tensors["classes"])
        mapped = features.inputs() @ self._tensors["connector.weight"] + self._tensors["connector.bias"]
        seen = unit(mapped + np.float32(CLASS_SHARE) * classes)
        return np.concatenate([seen[:, :1], classes[:, :1], seen[:, 1:]], axis=1)

    def vectors(self, rows: Array, kinds: NDArray[np.int64], times: Array, spelled: Array) -> Array:
        """Token vectors of all rows of one document or query, once each has seen the others.

        Args:
            rows: [n, 384], of unit length: states of words and passages, :meth:`picture_rows`. Zeros stand for a word
                that the text model does not know: only its spelling counts, and the other rows do not see it.
            kinds: [n], see :mod:`.kinds`.
            times: [n] seconds from the document's start, or :data:`.joint.TIMELESS`.
            spelled: [n, 48], how words are spelled; not looked at for other rows.

        Returns:
            [n, 128], of unit length.
        """
        known = rows.any(axis=1)
        if not known.all():
            made = np.zeros((len(rows), DIMENSION), dtype=np.float32)
            made[:, SENSE : SENSE + SPELLING] = np.sqrt(SPELLED_SHARE) * spelled
            made[np.arange(len(rows)), np.where(kinds == QUERY_WORD, DIMENSION - 2, DIMENSION - 1)] = np.sqrt(
                1 - SPELLED_SHARE
            )
            made[known] = self.vectors(rows[known], kinds[known], times[known], spelled[known])
            return made
        joined = rows if self._joint is None else self._joint(rows, kinds, times)
        made = np.zeros((len(rows), DIMENSION), dtype=np.float32)
        heads = np.array([_HEADS.index(head) for head, _ in HEADS])[kinds]
        gates = np.array([gate for _, gate in HEADS])[kinds]
        for number in np.unique(heads):
            here, head = heads == number, _HEADS[number]
            words = spelled[here] if head in _SPELLED else None
            silent = DIMENSION - 2 if head.startswith("query") else DIMENSION - 1
            made[here] = _place(self._vectors(head, joined[here], gates[here], words), silent=silent)
        return made

    def _vectors(self, head: str, inputs: Array, kind: NDArray[np.int64], spelled: Array | None) -> Array:
        """Sense, spelling, prior and silence side by side: [n, SENSE + SPELLING + 2], rows of unit length."""
        sense = unit(inputs @ self._tensors[f"{head}.weight"] + self._tensors[f"{head}.bias"])
        gates: Array = self._tensors[f"{head}.gate.bias"][kind]
        if f"{head}.gate.weight" in self._tensors:
            scaled: Array = inputs * np.float32(_GATE_SCALE)
            gates = gates + scaled @ self._tensors[f"{head}.gate.weight"]
        if spelled is None:
            gates = gates + _UNSPELLED
            spelled = np.zeros((len(inputs), SPELLING), dtype=np.float32)
        raised: Array = np.exp(gates - gates.max(axis=1, keepdims=True))
        shares: Array = np.sqrt(raised / raised.sum(axis=1, keepdims=True))
        return np.concatenate([shares[:, :1] * sense, shares[:, 1:2] * spelled, shares[:, 2:]], axis=1)


_PLAIN: Final = ("classes", "connector.weight", "connector.bias")
_SPELLED: Final = ("query.word", "word")
_UNSPELLED: Final = np.array([0.0, -np.inf, 0.0, 0.0], dtype=np.float32)
_HEADS: Final = ("query.word", "query.sentence", "word", "passage", "picture")
NAMES: Final = (
    *_PLAIN,
    *(f"{head}.{part}" for head in _HEADS for part in ("weight", "bias", "gate.bias")),
)
"""Tensors that must be there; ``<head>.gate.weight`` is there for all heads but the picture's.

Those of :data:`.joint.NAMES` are all there or none is: rows then stay as they are.
"""


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
