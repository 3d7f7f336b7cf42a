"""Sentence vectors of MiniLM and pictures put among them by their classes: the parts of classical search systems.

A text's vector is the mean of its word pieces' states, of unit length, as sentence-transformers makes it. A picture's
is the mean of the vectors of ImageNet's class names, weighted by how likely each class is (ConSE: Norouzi et al.,
"Zero-shot learning by convex combination of semantic embeddings", arXiv 1312.5650). Nothing here was trained for this
project.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from clamr_cli.encoders.mini import frozen
from clamr_cli.encoders.mini.bert import Bert
from clamr_cli.encoders.mini.heads import WEIGHTS, unit
from clamr_cli.encoders.mini.passages import Reader
from clamr_cli.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_UNLIMITED: Final = 1 << 24
_WIDTH: Final = 384


class Sentences:
    """Texts, queries and pictures as unit vectors of one space, [n, 384] float32."""

    def __init__(
        self, bert: Bert, reader: Reader, classes: Array, pictures: Path, *, device: str, threads: int
    ) -> None:
        """Take the models.

        Args:
            bert: the text model.
            reader: its tokenizer.
            classes: [1000, 384] unit vectors of the class names.
            pictures: the picture model's checkpoint file; opened when the first picture is met.
            device: of the picture model: "auto", "cpu", "cuda" or "mps".
            threads: CPU threads of the picture model; 0 leaves them as they are.
        """
        self._bert, self._reader, self._classes = bert, reader, classes
        self._pictures = frozen.LazyPictures(pictures, device=device, threads=threads)

    @classmethod
    def create(cls, *, cache: Path, device: str, threads: int) -> Sentences:
        """Find the weights.

        Raises:
            ModelError: weights are absent or damaged.
        """
        text, pictures = frozen.text_folder(cache), frozen.picture_file(cache)
        bert, reader = Bert.load(text / "model.safetensors"), Reader.load(text / "tokenizer.json")
        return cls(bert, reader, _classes(), pictures, device=device, threads=threads)

    def query(self, text: str) -> Array:
        """The vector of a query, [384]; its first 126 word pieces count. Zeros without any known word."""
        passage = self._reader.query(text)
        if passage.words and not passage.known:
            return np.zeros(_WIDTH, np.float32)
        vector: Array = self._means([passage.ids])[0]
        return vector

    def passages(self, texts: Sequence[str], *, across: bool) -> Array:
        """The vectors of all passages of some texts; ``across`` lets a passage reach over several of them."""
        found = self._reader.passages(texts, across=across, limit=_UNLIMITED)
        return self._means([passage.ids for passage in found if passage.known])

    def frames(self, jpegs: Sequence[bytes]) -> Array:
        """The vectors of pictures.

        Raises:
            MediaError: one of them is no picture.
        """
        if not jpegs:
            return np.zeros((0, _WIDTH), np.float32)
        return unit(self._pictures.features(jpegs).probabilities[:, 0] @ self._classes)

    def _means(self, sequences: Sequence[Sequence[int]]) -> Array:
        if not sequences:
            return np.zeros((0, _WIDTH), np.float32)
        return unit(np.stack([states.mean(axis=0) for states in self._bert.encode(sequences)]))


def _classes() -> Array:
    """The sentence vectors of ImageNet's class names, which come with the mini encoder."""
    try:
        content = resources.files(__package__).joinpath(WEIGHTS).read_bytes()
        return unit(load(content)["classes"].astype(np.float32))
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(f"cannot read the mini encoder's weights: {error}", "reinstall clamr-cli") from error
