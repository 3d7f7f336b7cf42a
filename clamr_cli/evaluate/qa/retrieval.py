"""How well moments and frames were found, as QVHighlights measures it. Pure.

The formulas are those of its published evaluation (Lei et al., arXiv 2107.09609, section 5): average precision of
windows as in ActivityNet, with interpolated precision, over thresholds of overlap; recall of the first window against
the annotated one it overlaps most; HIT@1 of the clip with the highest score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clamr_cli.evaluate.qa.items import CLIP
from clamr_cli.evaluate.qa.moments import overlap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clamr_cli.evaluate.qa.moments import Moment
    from clamr_cli.types import Span

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps over which average precision is averaged: 0.5 to 0.95."""

VERY_GOOD: Final = 4
"""The grade of a clip that is a highlight."""


def average_precision(found: Sequence[Moment], windows: Sequence[Span], threshold: float) -> float:
    """Interpolated average precision of windows, best first, against the annotated ones; 0 where nothing was found.

    A window is right where it overlaps an annotated one that no better window took, by the threshold at least; of
    several it takes the one it overlaps most.
    """
    if not windows:
        return 0.0
    taken: set[int] = set()
    precision: list[float] = []
    recall: list[float] = []
    for place, moment in enumerate(found, 1):
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


def mean_precision(found: Sequence[Moment], windows: Sequence[Span]) -> float:
    """Average precision, averaged over :data:`THRESHOLDS`."""
    return sum(average_precision(found, windows, threshold) for threshold in THRESHOLDS) / len(THRESHOLDS)


def first_is_right(found: Sequence[Moment], windows: Sequence[Span], threshold: float) -> bool:
    """Whether the best window overlaps an annotated one by the threshold at least."""
    return bool(found) and any(overlap(found[0].span, window) >= threshold for window in windows)


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
