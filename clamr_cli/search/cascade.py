"""The exact ranking without looking at every vector exactly.

1. One scan of the packed vectors (:mod:`clamr_cli.search.bounds`) says what each moment's score is at most.
2. The moments that promise most are scored exactly, from the stored vectors. The score of the last that would be shown
   is the threshold.
3. Whatever cannot reach the threshold is out, proven. The bounds of the rest are tightened once, by a query of more
   digits; what can still reach it is scored exactly, until nothing is left that could.

So the ranking is that of :func:`clamr_cli.search.ranking.score_all`, ties included: bounds are compared with room for
the digits that ties are decided by. Rows that the scan cache does not stand for are scored exactly at once. A score
beyond its bound means damage that no checksum showed: the scan cache is not used then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli import kernel
from clamr_cli.search import scoring as maxsim
from clamr_cli.search.bounds import Scanner, Segments, allowed, bound
from clamr_cli.search.ranking import TIE, Scores, apply, scored, video_of
from clamr_cli.store import CorruptCache

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from clamr_cli.search.ranking import View
    from clamr_cli.store import PackedVectors, ScanFile, Snapshot

    Int64 = NDArray[np.int64]
    Bools = NDArray[np.bool_]

_TABLE: Final = -1
_SPARE: Final = 10
"""How many more than are to be shown are scored exactly before there is a threshold."""

_FEW: Final = 6
"""Fewer moments than this are scored exactly rather than bounded again."""

_VECTORS_AT_ONCE: Final = 1 << 18
"""Stored vectors in memory at a time, one moment at least: 64 MiB."""


@dataclass(slots=True, eq=False)
class Pool:
    """The moments that may answer, what their scores are at most, and those that are known exactly.

    Attributes:
        moment_ids: of all m.
        parts: [m] number of the part of the snapshot, -1 for a row of the table.
        inside: [m] place in that part.
        upper: [m, views] float64.
        values: [m, views] float32, exact where ``exact``.
        exact: [m].
    """

    snapshot: Snapshot
    query: maxsim.Float32
    views: Sequence[View]
    scanner: Scanner
    moment_ids: list[str] = field(default_factory=list)
    parts: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    inside: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 1)))
    values: maxsim.Float32 = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    exact: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))

    @classmethod
    def fill(
        cls,
        snapshot: Snapshot,
        query: maxsim.Float32,
        videos: Collection[str] | None,
        views: Sequence[View],
        scanner: Scanner,
        moments: Collection[str] | None = None,
    ) -> Pool:
        """Bound every moment of the given videos (of all where None), and score those only the table has.

        Only moments of ``moments`` count, where there are any given.

        Raises:
            CorruptCache: the scan cache is not what was written.
            StoreError: the index cannot be read.
        """
        pool = cls(snapshot, query, views, scanner)
        inside, upper = [], []
        for file in snapshot.files:
            chosen = np.flatnonzero(allowed(file, videos, moments) & (file.places >= 0))
            inside.append(chosen)
            upper.append(bound(file, chosen, views, scanner.upper, 1))
            names = file.moment_ids
            pool.moment_ids += names if len(chosen) == len(names) else [names[at] for at in chosen.tolist()]
        rest = [scored(batch, query, views, videos, moments) for batch in snapshot.uncovered()]
        stored = np.concatenate([np.zeros((0, len(views)), np.float32), *(values for _, values in rest)])
        for names, _ in rest:
            pool.moment_ids += names
        counts = [len(chosen) for chosen in inside]
        pool.parts = np.repeat(np.array([*range(len(counts)), _TABLE]), [*counts, len(stored)])
        pool.inside = np.concatenate([*inside, np.zeros(len(stored), np.int64)])
        pool.upper = np.concatenate([*upper, stored.astype(np.float64)])
        pool.values = np.concatenate([np.full((sum(counts), len(views)), -np.inf, np.float32), stored])
        # Where nothing may answer there is nothing to find out.
        pool.exact = (pool.parts == _TABLE) | ~np.isfinite(pool.upper).any(axis=1)
        return pool

    @property
    def slack(self) -> float:
        """Room for rounding: of sums in float32 on one side, and of the digits that scores are compared by."""
        largest = max(1.0, *(float(view.weights.max()) for view in self.views))
        return 2 * TIE + len(self.query) * largest * 1e-5

    def known(self, view: int = 0) -> Scores:
        """The exact scores so far."""
        at = np.flatnonzero(self.exact)
        return Scores([self.moment_ids[number] for number in at.tolist()], self.values[at][:, [view]])

    def tighten(self, numbers: Int64) -> None:
        """Bound moments again, closer."""
        for part, chosen, moments in self._by_part(numbers):
            closer = bound(part, moments, self.views, self.scanner.upper, 2)
            self.upper[chosen] = np.minimum(self.upper[chosen], closer)

    def lower(self, numbers: Int64) -> NDArray[np.float64]:
        """What the scores of moments are at least, [n, views]."""
        found = self.values[numbers].astype(np.float64)
        place = np.full(len(self.exact), -1, np.int64)
        place[numbers] = np.arange(len(numbers))
        for part, chosen, moments in self._by_part(numbers[~self.exact[numbers]]):
            found[place[chosen]] = bound(part, moments, self.views, self.scanner.lower, 2)
        return found

    def score(self, numbers: Int64) -> None:
        """Score moments exactly.

        Raises:
            CorruptCache: what is stored does not fit the scan cache.
            StoreError: the index cannot be read, or a row of it is not what was stored.
        """
        for part, chosen, moments in self._by_part(numbers):
            ends = np.cumsum(part.starts[moments + 1] - part.starts[moments])
            splits = np.flatnonzero(np.diff(ends // _VECTORS_AT_ONCE)) + 1
            for some, inside in zip(np.split(chosen, splits), np.split(moments, splits), strict=True):
                self._score(part, some, inside)

    def _score(self, part: ScanFile, chosen: Int64, moments: Int64) -> None:
        places = part.places[moments]
        segments = Segments.of(part, moments, self.views)
        stored = _fetched(self.snapshot, part, places, moments)
        shift = stored.indptr[:-1] - part.starts[moments]
        maxima = np.full((len(self.query), len(moments), maxsim.SLOTS), -np.inf, np.float32)
        found = kernel.exact(self.query, stored.vectors, segments.ranges + shift[segments.moments][:, None])
        maxima[:, segments.moments, segments.modalities] = found.T
        values = np.stack([apply(maxima, view) for view in self.views], axis=1)
        fits = values <= self.upper[chosen] + self.slack
        if not stored.checksummed.all():
            least = bound(part, moments, self.views, self.scanner.lower, 2)
            fits &= values >= least - self.slack
        if (wrong := np.flatnonzero(~fits.all(axis=1) & ~stored.checksummed)).size:
            # The part has checksums and these rows have none, so they are what changed.
            raise self.snapshot.refusal(int(places[wrong[0]]))
        if not fits.all():
            raise CorruptCache("a score is above its bound")
        self.values[chosen] = values
        self.exact[chosen] = True

    def _by_part(self, numbers: Int64) -> list[tuple[ScanFile, Int64, Int64]]:
        """Moments as parts, their numbers here, and their places in the part."""
        found = []
        for number, file in enumerate(self.snapshot.files):
            chosen = np.sort(numbers[self.parts[numbers] == number])
            if len(chosen):
                found.append((file, chosen, self.inside[chosen]))
        return found


def _fetched(snapshot: Snapshot, part: ScanFile, places: Int64, moments: Int64) -> PackedVectors:
    """The stored vectors of moments, in the order of the part.

    Raises:
        CorruptCache: they are not those that the part was made from.
    """
    ordered = part.ordered[moments]
    stored = snapshot.fetch(places.tolist(), ids=not ordered.all())
    if not np.array_equal(np.diff(stored.indptr), part.starts[moments + 1] - part.starts[moments]):
        raise CorruptCache("a moment has another number of vectors")
    return stored if ordered.all() else stored.in_order()


def best(pool: Pool, limit: int, *, of_each_video: bool) -> Scores:
    """Exact scores of enough moments that the first ``limit`` of their ranking are the first of all.

    Args:
        pool: of the moments; its first view ranks.
        limit: how many will be shown.
        of_each_video: whether only the first moment of each video is.

    Raises:
        CorruptCache: the scan cache is not what was written.
        StoreError: the index cannot be read.
    """
    tightened = np.zeros(len(pool.exact), np.bool_)
    while True:
        threshold = _threshold(pool, limit, of_each_video=of_each_video)
        left = np.flatnonzero(~pool.exact & _reaches(pool, 0, threshold))
        if not len(left):
            return pool.known()
        if threshold == -np.inf:
            left = _promising(pool, left, limit, of_each_video=of_each_video)
        elif len(loose := left[~tightened[left]]) > _FEW:
            pool.tighten(loose)
            tightened[loose] = True
            continue
        pool.score(left)


def _reaches(pool: Pool, view: int, threshold: float) -> Bools:
    """Which moments may have a score that is not below the threshold."""
    return np.isfinite(pool.upper[:, view]) & (pool.upper[:, view] + pool.slack >= threshold)


def _threshold(pool: Pool, limit: int, *, of_each_video: bool) -> float:
    """The score that a moment must reach to be among the first, minus infinity where fewer are known."""
    known = pool.known()
    ranking = known.best_of_each_video() if of_each_video else known.ranking()
    scores = [score for _, (_, score) in zip(range(limit), ranking, strict=False)]
    return scores[-1] if len(scores) == limit else -np.inf


def _promising(pool: Pool, left: Int64, limit: int, *, of_each_video: bool) -> Int64:
    """The moments of ``left`` that promise most: of as many videos as are asked for, and a few more."""
    order = left[np.argsort(-pool.upper[left, 0], kind="stable")]
    if not of_each_video:
        return order[: limit + _SPARE]
    seen: set[str] = set()
    for count, number in enumerate(order.tolist(), 1):
        seen.add(video_of(pool.moment_ids[number]))
        if len(seen) >= limit + _SPARE:
            return order[:count]
    return order


@dataclass(frozen=True, slots=True)
class Place:
    """Where a video stands: its rank, its first moment and that one's score."""

    rank: int
    moment_id: str
    score: float


def place(pool: Pool, video_id: str, view: int) -> Place | None:
    """Where a video stands in a view of the pool; None where it is not ranked.

    Raises:
        CorruptCache: the scan cache is not what was written.
        StoreError: the index cannot be read.
    """
    own = np.array([video_of(moment_id) == video_id for moment_id in pool.moment_ids], np.bool_)
    pool.score(np.flatnonzero(own & ~pool.exact))
    target = next((found for found in pool.known(view).best_of_each_video() if video_of(found[0]) == video_id), None)
    if target is None:
        return None
    moment_id, score = target
    close = np.flatnonzero(~pool.exact & _reaches(pool, view, score))
    pool.tighten(close)
    close = close[pool.upper[close, view] + pool.slack >= score]
    surely = pool.lower(close)[:, view] - pool.slack > score
    pool.score(close[~surely])
    before = {video_of(pool.moment_ids[number]) for number in close[surely].tolist()}
    for other, _ in pool.known(view).best_of_each_video():
        if video_of(other) == video_id:
            break
        before.add(video_of(other))
    return Place(1 + len(before - {video_id}), moment_id, score)


def videos_ranked(pool: Pool, view: int = 0) -> int:
    """How many videos have anything that may answer in a view."""
    return len({video_of(pool.moment_ids[number]) for number in np.flatnonzero(np.isfinite(pool.upper[:, view]))})
