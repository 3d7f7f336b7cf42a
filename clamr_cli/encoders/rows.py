"""Token vectors gathered row by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clamr_cli.text import Place
from clamr_cli.types import DIMENSION, MODALITY_IDS, NO_MODALITY, Modality, Span, TokenVectors

_NO_TIME = Span(0.0, 0.0)


class Rows:
    """Collects vectors and where each comes from, then gives them as one :class:`TokenVectors`.

    Attributes:
        vectors: those that were added, in order.
        spans: start and end in seconds of what each stands for.
    """

    def __init__(self) -> None:
        self.vectors: list[NDArray[np.float32]] = []
        self.spans: list[tuple[float, float]] = []
        self._origins: list[tuple[int, int, tuple[int, int], int]] = []

    def add(
        self,
        vector: NDArray[np.float32],
        *,
        modality: Modality | None = None,
        place: Place | None = None,
        span: Span = _NO_TIME,
        segment: int = -1,
        offsets: tuple[int, int] = (0, 0),
        number: int = -1,
    ) -> None:
        """Add one row; the arguments are those of :class:`TokenVectors`, ``number`` is the tokenizer's id.

        A ``place`` in a text track gives the span, the segment and the offsets.
        """
        if place is not None:
            span, segment, offsets = place.span, place.segment, (place.start, place.end)
        modality_id = NO_MODALITY if modality is None else MODALITY_IDS[modality]
        self.vectors.append(vector)
        self.spans.append((span.start, span.end))
        self._origins.append((modality_id, segment, offsets, number))

    def done(self, vectors: NDArray[np.float32] | None = None) -> TokenVectors:
        """All rows in the order they were added; ``vectors``, [n, 128], take the place of those that were added."""
        modalities, segments, offsets, numbers = zip(*self._origins, strict=True) if self._origins else ((),) * 4
        rows = np.array(self.vectors, dtype=np.float32) if vectors is None else vectors
        return TokenVectors(
            vectors=rows.reshape(len(modalities), DIMENSION),
            modality_ids=np.array(modalities, dtype=np.uint8),
            spans=np.array(self.spans, dtype=np.float32).reshape(-1, 2),
            segments=np.array(segments, dtype=np.int32),
            offsets=np.array(offsets, dtype=np.int32).reshape(-1, 2),
            input_ids=np.array(numbers, dtype=np.int32),
        )
