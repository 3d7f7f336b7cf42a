"""What the frozen models say of texts and pictures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.encoders.mini import frozen
from clamr_cli.encoders.mini.bert import Bert
from clamr_cli.encoders.mini.heads import SPELLING, PictureFeatures, unit
from clamr_cli.encoders.mini.passages import Reader
from clamr_cli.encoders.mini.pictures import Pictures
from clamr_cli.encoders.mini.spelling import spell
from clamr_cli.train.options import TrainNote

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.encoders.mini.passages import Passage

    Array = NDArray[np.float32]

_CHUNK: Final = 64
_TOLD: Final = 20
"""Chunks between two words on how far it is."""


@dataclass(frozen=True, slots=True)
class Read:
    """A passage: unit states [n, 384] and spelling [n, 48] of its words that the model knows, its unit mean [384]."""

    states: Array
    spelled: Array
    mean: Array


class TextSide:
    """The frozen sentence model."""

    def __init__(self, cache: Path) -> None:
        folder = frozen.text_folder(cache)
        self._bert = Bert.load(folder / "model.safetensors")
        self._reader = Reader.load(folder / "tokenizer.json")

    def text(self, text: str) -> list[Passage]:
        """The passages of a text that have words which the model knows."""
        return [passage for passage in self._reader.passages([text], across=False, limit=512) if passage.known]

    def query(self, text: str) -> Passage:
        """A query's one passage."""
        return self._reader.query(text)

    def read(self, passages: Sequence[Passage]) -> list[Read]:
        """Features of passages, in order."""
        found = []
        for passage, states in zip(passages, self._bert.encode([passage.ids for passage in passages]), strict=True):
            known = [word for word in passage.words if word.count]
            words = [states[word.first : word.first + word.count].mean(axis=0) for word in known]
            rows = np.stack(words) if words else np.zeros((0, states.shape[1]), np.float32)
            spelled = spell([word.text for word in known], SPELLING)
            found.append(Read(unit(rows), spelled, unit(states.mean(axis=0))))
        return found


def see(pictures: Pictures, jpegs: Sequence[bytes], what: str) -> Generator[TrainNote, None, PictureFeatures]:
    """Features of many pictures, some at a time, so that few are decoded at once.

    Yields:
        How far it is; ``what`` they are.
    """
    parts = []
    for number, start in enumerate(range(0, len(jpegs), _CHUNK)):
        if number % _TOLD == 0:
            yield TrainNote(f"looking at {what}: {start:,} of {len(jpegs):,}")
        parts.append(pictures.features(jpegs[start : start + _CHUNK]))
    return PictureFeatures(
        *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(PictureFeatures))
    )
