"""Strategies that choose the frames a question is answered from, and measures of their choice against the evidence.

*Moments* are proposed from the scores of a video's candidates. Candidates that score above a level and lie side by side
are joined into a window; several levels give several windows, nested in one another, as temporal actionness grouping
does (Zhao et al., arXiv 1704.06228, section 4). A window is as good as its mean score is surprising: by how many
standard errors it lies above the mean of the video. So one lucky frame loses to a stretch of good ones, and the whole
video is never an answer. Of windows that nearly coincide the best stays.

*Measures* of moments are those of QVHighlights' published evaluation (Lei et al., arXiv 2107.09609, section 5): average
precision of windows as in ActivityNet, with interpolated precision, over thresholds of overlap; recall of the first
window against the annotated one it overlaps most; HIT@1 of the clip with the highest score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clamr_cli import frames
from clamr_cli.evaluate.qa.questions import CLIP
from clamr_cli.frames import FrameHit, Prepared
from clamr_cli.types import Encoder, FrameSelection, Modality, Scoring, Span

Scores: TypeAlias = NDArray[np.float32] | NDArray[np.float64]


class Strategy(StrEnum):
    """A way to choose frames, in the order of reports; with ``+subs`` the model is shown the speech around them.

    ``uniform`` takes k frames at equal distances, ``dense`` as many as the model may be shown, ``clamr`` the k that
    answer best by picture, ``clamr+speech`` those that answer best by picture and speech together.
    """

    UNIFORM = "uniform"
    DENSE = "dense"
    CLAMR = "clamr"
    CLAMR_SPEECH = "clamr+speech"
    UNIFORM_SUBS = "uniform+subs"
    DENSE_SUBS = "dense+subs"
    CLAMR_SUBS = "clamr+subs"
    CLAMR_SPEECH_SUBS = "clamr+speech+subs"

    @property
    def subtitles(self) -> bool:
        return self.endswith("+subs")

    @property
    def silent(self) -> Strategy:
        """The same choice of frames without subtitles."""
        return Strategy(self.removesuffix("+subs"))

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that rank the frames; none if they are sampled."""
        if self.silent is Strategy.CLAMR:
            return (Modality.VIDEO,)
        return (Modality.VIDEO, Modality.SPEECH) if self.silent is Strategy.CLAMR_SPEECH else ()


@dataclass(frozen=True, slots=True)
class QaOptions:
    """The strategies to compare, and what a model is shown.

    Attributes:
        strategies: ways to choose frames; those that differ in what the model is told only count once without a model.
        k: frames of a strategy.
        dense: frames of ``dense``.
        select: how ranked frames are chosen.
        scoring: how they are scored.
        around: seconds around a frame whose speech is shown, if it is shown.
        most: characters of speech that are shown at most.
        seed: of the answers' sampling.
    """

    strategies: tuple[Strategy, ...]
    k: int = 32
    dense: int = 768
    select: FrameSelection = "diverse"
    scoring: Scoring = "token-max"
    around: float = 2.0
    most: int = 40_000
    seed: int = 0

    def choice(self, strategy: Strategy) -> frames.FrameChoice:
        """The choice of frames of a strategy that ranks them."""
        return frames.FrameChoice(self.k, self.select, strategy.modalities, self.scoring)


def pick(strategy: Strategy, prepared: Prepared, encoder: Encoder, text: str, options: QaOptions) -> list[FrameHit]:
    """The frames that a strategy chooses, the most important first; all of them if there are fewer than it wants.

    Sampled frames have no best one: they come in an order that is spread over the video however few are looked at.
    """
    if strategy.modalities:
        return frames.find(prepared, encoder, text, options.choice(strategy))
    return spread(frames.uniform(prepared, options.dense if strategy.silent is Strategy.DENSE else options.k))


def spread(hits: Sequence[FrameHit]) -> list[FrameHit]:
    """The same in the order of van der Corput's sequence: every beginning of it is spread over the whole."""
    bits = max(1, (len(hits) - 1).bit_length())
    return [hits[place] for place in sorted(range(len(hits)), key=lambda place: f"{place:0{bits}b}"[::-1])]


# --- moments ----------------------------------------------------------------------------------------------------------

LEVELS: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Levels between the median (0) and the best score (1)."""

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
    """The windows that the scores speak for, best first; none if all candidates score the same.

    Args:
        spans: of the candidates [n], in the order of time, side by side.
        scores: of the candidates [n]; those that are not finite count as the lowest.
        most: windows at most.
    """
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    values = np.where(np.isfinite(values), values, finite.min() if len(finite) else 0.0)
    deviation = float(values.std()) if len(values) else 0.0
    if deviation <= 1e-9 * max(1.0, float(np.abs(values).max(initial=0.0))):
        return []
    standard = (values - values.mean()) / deviation
    moments = []
    for first, last in {run for level in LEVELS for run in _runs_above(standard, level)}:
        window = standard[first : last + 1]
        # The number of standard errors by which the mean of the window lies above that of the video.
        surprise = float(window.sum()) / math.sqrt(len(window))
        moments.append(Moment(Span(spans[first].start, spans[last].end), surprise))
    best: list[Moment] = []
    for moment in sorted(moments, key=lambda moment: (-moment.score, moment.span)):
        if len(best) < most and all(overlap(moment.span, other.span) < SAME for other in best):
            best.append(moment)
    return best


def overlap(one: Span, other: Span) -> float:
    """Intersection over union of two stretches of time, in [0, 1]."""
    shared = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    union = one.duration + other.duration - shared
    return shared / union if union > 0 else 0.0


def _runs_above(values: NDArray[np.float64], level: float) -> Iterator[tuple[int, int]]:
    """First and last candidate of each run above a level, gaps bridged."""
    low, high = float(np.median(values)), float(values.max())
    above = np.flatnonzero(values >= low + level * (high - low))
    if high <= low or not len(above):
        return
    for run in np.split(above, np.flatnonzero(np.diff(above) > GAP + 1) + 1):
        yield int(run[0]), int(run[-1])


# --- measures ---------------------------------------------------------------------------------------------------------

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps over which average precision is averaged: 0.5 to 0.95."""

VERY_GOOD: Final = 4
"""The grade of a clip that is a highlight."""


def average_precision(moments: Sequence[Moment], windows: Sequence[Span], threshold: float) -> float:
    """Interpolated average precision of windows, best first, against the annotated ones; 0 without any.

    A window is right if it overlaps an annotated one that no better window took, by the threshold at least; of
    several it takes the one it overlaps most.
    """
    if not windows:
        return 0.0
    taken: set[int] = set()
    precision: list[float] = []
    recall: list[float] = []
    for place, moment in enumerate(moments, 1):
        free = [(overlap(moment.span, window), -number) for number, window in enumerate(windows) if number not in taken]
        best, number = max(free, default=(0.0, 0))
        if free and best >= threshold:
            taken.add(-number)
        precision.append(len(taken) / place)
        recall.append(len(taken) / len(windows))
    total, before = 0.0, 0.0
    for place, reached in enumerate(recall):
        total += (reached - before) * max(precision[place:])
        before = reached
    return total


def mean_precision(moments: Sequence[Moment], windows: Sequence[Span]) -> float:
    """Average precision, averaged over :data:`THRESHOLDS`."""
    return sum(average_precision(moments, windows, threshold) for threshold in THRESHOLDS) / len(THRESHOLDS)


def first_is_right(moments: Sequence[Moment], windows: Sequence[Span], threshold: float) -> bool:
    """Whether the best window overlaps an annotated one by the threshold at least."""
    return bool(moments) and any(overlap(moments[0].span, window) >= threshold for window in windows)


def hit(best: float, grades: Mapping[int, Sequence[int]], *, least: int = VERY_GOOD) -> bool:
    """Whether the clip that holds a time (in seconds) was graded a highlight by any annotator."""
    return any(grade >= least for grade in grades.get(int(best // CLIP), ()))


def covered(shown: Sequence[Span], windows: Sequence[Span]) -> float:
    """The share of the windows that a frame shows, by the stretches of time that the frames stand for."""
    if not windows:
        return 0.0
    return sum(any(one.overlaps(window) for one in shown) for window in windows) / len(windows)


def inside(shown: Sequence[Span], windows: Sequence[Span]) -> float:
    """The share of the frames that show one of the windows, by the stretches of time that they stand for."""
    if not shown:
        return 0.0
    return sum(any(one.overlaps(window) for window in windows) for one in shown) / len(shown)
