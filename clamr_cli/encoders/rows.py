"""Token vectors gathered row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clamr_cli.types import DIMENSION, MODALITY_IDS, NO_MODALITY, Span, TokenVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clamr_cli.text import Place
    from clamr_cli.types import Modality

_NO_TIME = Span(0.0, 0.0)


class Rows:
    """Collects vectors and where each comes from, then gives them as one :class:`TokenVectors`."""

    def __init__(self) -> None:
        self._vectors: list[NDArray[np.float32]] = []
        self._modalities: list[int] = []
        self._spans: list[tuple[float, float]] = []
        self._segments: list[int] = []
        self._offsets: list[tuple[int, int]] = []
        self._numbers: list[int] = []

    def add(
        self,
        vector: NDArray[np.float32] | None,
        *,
        modality: Modality | None = None,
        span: Span = _NO_TIME,
        segment: int = -1,
        offsets: tuple[int, int] = (0, 0),
        number: int = -1,
    ) -> None:
        """Add one row; the arguments are those of :class:`TokenVectors`, ``number`` is the tokenizer's id.

        ``vector`` is None where all of them are known only in the end.
        """
        if vector is not None:
            self._vectors.append(vector)
        self._modalities.append(NO_MODALITY if modality is None else MODALITY_IDS[modality])
        self._spans.append((span.start, span.end))
        self._segments.append(segment)
        self._offsets.append(offsets)
        self._numbers.append(number)

    def add_place(self, vector: NDArray[np.float32], modality: Modality, place: Place, *, number: int = -1) -> None:
        """Add one row of text that is at a known place."""
        offsets = (place.start, place.end)
        self.add(vector, modality=modality, span=place.span, segment=place.segment, offsets=offsets, number=number)

    def done(self, vectors: NDArray[np.float32] | None = None) -> TokenVectors:
        """All rows in the order they were added, with the vectors given here, [n, 128], if they came without."""
        count = len(self._modalities)
        gathered = np.array(self._vectors, dtype=np.float32) if vectors is None else vectors
        return TokenVectors(
            vectors=gathered.reshape(count, DIMENSION),
            modality_ids=np.array(self._modalities, dtype=np.uint8),
            spans=np.array(self._spans, dtype=np.float32).reshape(count, 2),
            segments=np.array(self._segments, dtype=np.int32),
            offsets=np.array(self._offsets, dtype=np.int32).reshape(count, 2),
            input_ids=np.array(self._numbers, dtype=np.int32),
        )
