"""From the scores of a video's candidates to the moments they speak for. Pure.

Candidates that score above a level and lie side by side are joined into a window; several levels give several windows,
nested in one another, as temporal actionness grouping does (Zhao et al., arXiv 1704.06228, section 4). A window is as
good as its mean score is surprising: by how many standard errors it lies above the mean of the video. So one lucky
frame loses to a stretch of good ones, and the whole video is never an answer. Of windows that nearly coincide the best
stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Scores = NDArray[np.float32] | NDArray[np.float64]

LEVELS: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""How far between the median and the best score a level lies."""

GAP: Final = 1
"""Candidates below the level that a window bridges."""

SAME: Final = 0.7
"""Overlap (intersection over union) from which two windows nearly coincide."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A window, and how good it is; only the order means something."""

    span: Span
    score: float


def propose(spans: Sequence[Span], scores: Scores, *, most: int = 10) -> list[Moment]:
    """The windows that the scores speak for, best first; none where all candidates score the same.

    Args:
        spans: of the candidates [n], in the order of time, side by side.
        scores: of the candidates [n]; those that are not finite count as the lowest.
        most: windows at most.
    """
    values = _finite(np.asarray(scores, dtype=np.float64))
    spread = float(values.std()) if len(values) else 0.0
    if spread <= 1e-9 * max(1.0, float(np.abs(values).max(initial=0.0))):
        return []
    standard = (values - values.mean()) / spread
    windows = {window for level in LEVELS for window in _joined(standard, level)}
    found = [
        Moment(Span(spans[first].start, spans[last].end), _surprise(standard[first : last + 1]))
        for first, last in windows
    ]
    return _apart(sorted(found, key=lambda moment: (-moment.score, moment.span)), most)


def overlap(one: Span, other: Span) -> float:
    """Intersection over union of two stretches of time, in [0, 1]."""
    shared = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    union = one.duration + other.duration - shared
    return shared / union if union > 0 else 0.0


def _surprise(standard: NDArray[np.float64]) -> float:
    """How many standard errors the mean of some standardised scores lies above that of all."""
    return float(standard.sum()) / math.sqrt(len(standard))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    good = values[np.isfinite(values)]
    return np.where(np.isfinite(values), values, good.min() if len(good) else 0.0)


def _joined(values: NDArray[np.float64], level: float) -> Iterator[tuple[int, int]]:
    """First and last candidate of each run above a level, gaps bridged."""
    low, high = float(np.median(values)), float(values.max())
    above = np.flatnonzero(values >= low + level * (high - low))
    if high <= low or not len(above):
        return
    for run in np.split(above, np.flatnonzero(np.diff(above) > GAP + 1) + 1):
        yield int(run[0]), int(run[-1])


def _apart(moments: Sequence[Moment], most: int) -> list[Moment]:
    kept: list[Moment] = []
    for moment in moments:
        if len(kept) == most:
            break
        if all(overlap(moment.span, other.span) < SAME for other in kept):
            kept.append(moment)
    return kept
