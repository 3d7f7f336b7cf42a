"""How well every moment can answer at most: one scan of the packed vectors, reduced to scores.

The scan gives, for each modality of each moment and each query token, an upper bound of the best similarity. Scores are
sums of maxima of similarities multiplied by weights that are never negative, so the same sums of upper bounds are upper
bounds of scores, for both ways of scoring and whatever the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from clamr_cli import kernel
from clamr_cli.search import scoring as maxsim
from clamr_cli.types import NO_MODALITY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from clamr_cli.search.ranking import View
    from clamr_cli.store import ScanFile

    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]
    Side = Callable[..., maxsim.Float32]
    """:func:`kernel.upper` or :func:`kernel.lower`."""

SEGMENTS_AT_ONCE: Final = 1 << 16
"""Segments scanned at once: bounds the maxima of a 64-token query to 16 MiB."""


class Scanner(Protocol):
    """Where the scan runs."""

    def upper(self, part: ScanFile, ranges: Int64, planes: int) -> maxsim.Float32:
        """At least the best similarity of each range [r, 2] of a part's vectors for each query token: [r, q]."""
        ...

    def lower(self, part: ScanFile, ranges: Int64, planes: int) -> maxsim.Float32:
        """At most that."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class CpuScanner:
    """The kernel's scan. ``query`` is [q, 128] float32; ``threads`` 0 for all."""

    query: maxsim.Float32
    threads: int = 0
    path: str | None = None

    def upper(self, part: ScanFile, ranges: Int64, planes: int) -> maxsim.Float32:
        """See :class:`Scanner`."""
        return self._scan(kernel.upper, part, ranges, planes)

    def lower(self, part: ScanFile, ranges: Int64, planes: int) -> maxsim.Float32:
        """See :class:`Scanner`."""
        return self._scan(kernel.lower, part, ranges, planes)

    def _scan(self, side: Side, part: ScanFile, ranges: Int64, planes: int) -> maxsim.Float32:
        return side(
            self.query, part.codes, part.scales, part.residuals, ranges,
            reach=part.max_norm, planes=planes, threads=self.threads, path=self.path,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Segments of some moments of a part, in order: those that count in any view.

    Attributes:
        ranges: [s, 2] first and last vector.
        modalities: [s] uint8.
        moments: [s] which of the moments each is of, ascending.
        count: how many moments there are.
    """

    ranges: Int64
    modalities: NDArray[np.uint8]
    moments: Int64
    count: int

    @classmethod
    def of(cls, part: ScanFile, moments: Int64, views: Sequence[View]) -> Segments:
        """Those of the given moments of a part."""
        first, last = part.moments[moments], part.moments[moments + 1]
        counts = last - first
        owners = np.repeat(np.arange(len(moments)), counts)
        numbers = np.arange(len(owners)) + np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
        modalities = part.modalities[numbers]
        counting = counted(views)[modalities]
        if not counting.all():
            numbers, owners, modalities = numbers[counting], owners[counting], modalities[counting]
        borders = part.segments
        return cls(np.stack([borders[numbers], borders[numbers + 1]], axis=1), modalities, owners, len(moments))


def counted(views: Sequence[View]) -> NDArray[np.bool_]:
    """Which modality ids count in any view, [SLOTS]."""
    found = np.zeros(maxsim.SLOTS, np.bool_)
    for view in views:
        found |= view.weights > 0
    return found


def chunks(part: ScanFile, moments: Int64) -> Iterator[slice]:
    """Moments that have about :data:`SEGMENTS_AT_ONCE` segments together, one at least."""
    ends = np.cumsum(part.moments[moments + 1] - part.moments[moments])
    first = 0
    while first < len(moments):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + SEGMENTS_AT_ONCE, side="right")), first + 1)
        yield slice(first, last)
        first = last


def bound(
    part: ScanFile,
    moments: Int64,
    views: Sequence[View],
    scan: Callable[[ScanFile, Int64, int], maxsim.Float32],
    planes: int,
) -> Float64:
    """Bounds of the scores of moments of a part, [m, views]; minus infinity where nothing may answer.

    Raises:
        CorruptCache: the part is not what was written.
    """
    bounds = np.full((len(moments), len(views)), -np.inf)
    for chunk in chunks(part, moments):
        segments = Segments.of(part, moments[chunk], views)
        part.verify(segments.ranges)
        maxima = scan(part, segments.ranges, planes)
        for number, view in enumerate(views):
            bounds[chunk, number] = reduced(maxima, segments, view)
    return bounds


def reduced(maxima: maxsim.Float32, segments: Segments, view: View) -> Float64:
    """Scores of moments [count] from the maxima [s, q] of their segments; minus infinity where nothing may answer."""
    scores = np.full(segments.count, -np.inf)
    if not len(maxima):
        return scores
    weights = view.weights[segments.modalities].astype(np.float64)
    starts = np.flatnonzero(np.concatenate([[True], segments.moments[1:] != segments.moments[:-1]]))
    if view.scoring == "token-max":
        weighted = maxima if (weights == 1.0).all() else _weighted(maxima, weights[:, None])
        found = _best_rows(weighted, starts).sum(axis=1, dtype=np.float64)
    else:
        weights[segments.modalities == NO_MODALITY] = 0.0
        sums = _weighted(maxima.sum(axis=1, dtype=np.float64), weights)
        found = np.maximum.reduceat(sums, starts)
    scores[segments.moments[starts]] = found
    return scores


def _best_rows(values: NDArray[Any], starts: Int64) -> NDArray[Any]:
    """Maxima of groups of rows of [s, q], of which each begins at a start: [groups, q].

    Groups have few rows, a moment's modalities, which ``reduceat`` is several times slower on.
    """
    counts = np.diff(starts, append=len(values))
    best = values[starts]
    for step in range(1, int(counts.max())):
        longer = np.flatnonzero(counts > step)
        best[longer] = np.maximum(best[longer], values[starts[longer] + step])
    return best


def _weighted(values: NDArray[np.float32] | Float64, weights: Float64) -> Float64:
    factors = np.where(weights > 0, weights, 1.0)
    return np.where(weights > 0, values * factors, -np.inf)


def allowed(
    part: ScanFile, videos: Collection[str] | None, moments: Collection[str] | None = None
) -> NDArray[np.bool_]:
    """Which moments of a part are of the given videos and among the given moments; None allows all."""
    chosen = np.array([videos is None or video_id in videos for video_id in part.video_ids], np.bool_)
    mask = np.repeat(chosen, np.diff(part.videos))
    if moments is not None:
        mask &= np.array([moment_id in moments for moment_id in part.moment_ids], np.bool_)
    return mask
