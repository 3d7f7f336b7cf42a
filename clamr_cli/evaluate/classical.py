"""Classical baselines: one sentence vector a passage, one a picture, the best of a video by cosine, then fusion.

This is what averaging, maximum, rank fusion and routing are compared with in CLaMR (arXiv 2506.06144, section 5): each
modality is searched on its own, and one number per modality is all that meets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli import maxsim
from clamr_cli.evaluate import fusion
from clamr_cli.evaluate.runs import Table
from clamr_cli.types import MODALITY_IDS, SHOWN_MODALITIES, Document, Modality

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Protocol

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

    class SentenceSpace(Protocol):
        """One vector a sentence and one a picture, in one space."""

        def query(self, text: str) -> Array:
            """The unit vector of a query, [width]."""
            ...

        def passages(self, texts: Sequence[str], *, across: bool) -> Array:
            """Unit vectors of the passages of texts, [n, width]; ``across`` reads several texts together."""
            ...

        def frames(self, jpegs: Sequence[bytes]) -> Array:
            """Unit vectors of pictures, [n, width]."""
            ...


NAME: Final = "sentences"


class Classical:
    """Collects the vectors of videos, one after another, and ranks them."""

    def __init__(self, space: SentenceSpace) -> None:
        self._space = space
        self._videos: list[Mapping[Modality, Array]] = []

    def add(self, documents: Sequence[Document]) -> None:
        """Take the next video: its moments."""
        self._videos.append({modality: self._vectors(documents, modality) for modality in SHOWN_MODALITIES})

    def _vectors(self, documents: Sequence[Document], modality: Modality) -> Array:
        if modality is Modality.VIDEO:
            return self._space.frames([frame.jpeg for document in documents for frame in document.frames])
        # Metadata, and text that stays on screen, stand in several moments; once is enough for a maximum.
        texts = dict.fromkeys(segment.text for document in documents for segment in document.segments(modality))
        return self._space.passages(list(texts), across=modality is Modality.SPEECH)

    def scores(self, queries: Iterable[str]) -> dict[Modality, Array]:
        """[q, v] of each modality that any video has: the highest cosine, minus infinity where it has none."""
        asked = np.stack([self._space.query(text) for text in queries])
        made = {}
        for modality in SHOWN_MODALITIES:
            parts = [video[modality] for video in self._videos]
            indptr = np.cumsum([0, *map(len, parts)])
            if indptr[-1]:
                made[modality] = maxsim.segment_max(asked @ np.concatenate(parts).T, indptr)
        return made


def tables(scores: Mapping[Modality, Array], aims: Sequence[Modality | None]) -> list[Table]:
    """Each modality alone, and what can be made of their scores."""
    if not scores:
        return []
    parts = list(scores.values())
    return [
        *(Table(f"{NAME} {modality}", values) for modality, values in scores.items()),
        Table(f"{NAME} mean", fusion.mean(parts)),
        Table(f"{NAME} max", fusion.maximum(parts), fusion.winners(scores, MODALITY_IDS)),
        Table(f"{NAME} RRF", fusion.reciprocal_ranks(parts)),
        Table(f"{NAME} oracle router", fusion.routed(scores, aims), oracle=True),
    ]
