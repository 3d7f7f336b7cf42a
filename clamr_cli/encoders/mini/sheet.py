"""All rows of one document or query, gathered before the joint transformer reads them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clamr_cli.encoders.mini.heads import SPELLING, Heads, unit
from clamr_cli.encoders.mini.joint import TIMELESS, WIDTH
from clamr_cli.encoders.mini.spelling import spell
from clamr_cli.encoders.rows import Rows
from clamr_cli.types import Modality, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clamr_cli.text import Place
    from clamr_cli.types import TokenVectors

    Array = NDArray[np.float32]

_NO_TIME = Span(0.0, 0.0)


class Sheet:
    """Collects rows and where each comes from.

    Args:
        start: seconds at which the document starts; times are counted from there.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._start = start
        self._states: list[Array] = []
        self._kinds: list[int] = []
        self._times: list[float] = []
        self._texts: list[str] = []
        self._rows = Rows()

    def add(
        self,
        state: Array,
        kind: int,
        *,
        text: str = "",
        modality: Modality | None = None,
        span: Span = _NO_TIME,
        segment: int = -1,
        offsets: tuple[int, int] = (0, 0),
        number: int = -1,
    ) -> None:
        """Add a row: its state [384], its kind, and what :meth:`clamr_cli.encoders.rows.Rows.add` takes."""
        timeless = modality in (None, Modality.METADATA)
        self._states.append(state)
        self._kinds.append(kind)
        self._texts.append(text)
        self._times.append(float(TIMELESS) if timeless else max(0.0, (span.start + span.end) / 2 - self._start))
        self._rows.add(None, modality=modality, span=span, segment=segment, offsets=offsets, number=number)

    def add_place(
        self, state: Array, kind: int, modality: Modality, place: Place, *, text: str = "", number: int = -1
    ) -> None:
        """Add a row of text that is at a known place."""
        offsets = (place.start, place.end)
        self.add(
            state, kind, text=text, modality=modality, span=place.span, segment=place.segment,
            offsets=offsets, number=number,
        )  # fmt: skip

    def done(self, heads: Heads) -> TokenVectors:
        """The token vectors of all rows, in the order they were added."""
        if not self._states:
            return self._rows.done()
        rows = unit(np.stack(self._states).astype(np.float32, copy=False).reshape(-1, WIDTH))
        kinds = np.array(self._kinds, dtype=np.int64)
        times = np.array(self._times, dtype=np.float32)
        return self._rows.done(heads.vectors(rows, kinds, times, spell(self._texts, SPELLING)))
