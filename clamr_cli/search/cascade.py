"""The exact ranking without scoring every moment exactly.

1. One scan of the scan cache says what each moment's score is at most. Scores are sums of maxima of similarities
   multiplied by weights that are never negative, so the same sums of upper bounds are upper bounds of scores.
2. The moments that promise most are scored exactly, from the stored vectors. The score of the last that would be shown
   is the threshold.
3. Whatever cannot reach the threshold is out, proven. The bounds of the rest are tightened once, by a query of more
   digits; what can still reach it is scored exactly, until nothing is left that could.

So the ranking is that of scoring everything, ties included: bounds are compared with room for the digits that ties are
decided by. Rows that no file of the scan cache stands for are scored exactly at once. A score beyond its bound means
damage that no checksum showed: the cache is not used then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clamr_cli import kernel
from clamr_cli.kernel import batches
from clamr_cli.search.scoring import (
    SLOTS,
    TIE,
    Float32,
    Float64,
    Int64,
    ScoringRule,
    first_of_each_video,
    ranked,
    score_packed,
    video_of,
)
from clamr_cli.store import CorruptCache, PackedVectors, ScanFile, Snapshot

Scan = Callable[[ScanFile, Int64, Literal[1, -1], int], Float32]
"""Bounds [r, q] of the best similarity of each range [r, 2] of a file's vectors for each query token.

The numbers are the side, 1 for upper and -1 for lower bounds, and the digits of the query, 1 or 2 planes.
"""

_SEGMENTS_AT_ONCE: Final = 1 << 16
"""Segments scanned at once: bounds the maxima of a 64-token query to 16 MiB."""

_VECTORS_AT_ONCE: Final = 1 << 18
"""Stored vectors in memory at a time, one moment at least: 64 MiB."""

_SPARE: Final = 10
"""Number of moments, beyond those to show, that are scored exactly before there is a threshold."""

_FEW: Final = 6
"""Fewer moments than this are scored exactly rather than bounded again."""

_UNCOVERED: Final = -1


def kernel_scan(query: Float32, *, threads: int = 0, backend: str | None = None) -> Scan:
    """The scan by this machine's processor. ``query`` is [q, 128]; ``threads`` 0 for all."""

    def scan(file: ScanFile, ranges: Int64, side: Literal[1, -1], planes: int) -> Float32:
        return kernel.bound(
            query, file.codes, file.scales, file.residuals, ranges,
            max_norm=file.max_norm, side=side, query_planes=planes, threads=threads, backend=backend,
        )  # fmt: skip

    return scan


class Candidates:
    """The moments of a snapshot that may answer: of the given videos and among the given moments; None allows all.

    Attributes:
        snapshot: one version of an encoder's vectors.
        videos, moments: ids of what may answer.
        in_files: for each file of the scan cache the places of its moments that may answer.
    """

    def __init__(
        self, snapshot: Snapshot, videos: Collection[str] | None = None, moments: Collection[str] | None = None
    ) -> None:
        self.snapshot, self.videos, self.moments = snapshot, videos, moments
        self.in_files = [self._in_file(file) for file in snapshot.files]

    def _in_file(self, file: ScanFile) -> Int64:
        mask = file.places >= 0
        if self.videos is not None:
            allowed = np.array([video_id in self.videos for video_id in file.video_ids], np.bool_)
            mask &= np.repeat(allowed, np.diff(file.videos))
        if self.moments is not None:
            mask &= np.array([moment_id in self.moments for moment_id in file.moment_ids], np.bool_)
        return np.flatnonzero(mask)

    @property
    def vectors(self) -> int:
        """Number of vectors in the scan cache that may answer; others are few."""
        pairs = zip(self.snapshot.files, self.in_files, strict=True)
        return sum(int((file.starts[moments + 1] - file.starts[moments]).sum()) for file, moments in pairs)

    def uncovered(self) -> Iterator[tuple[PackedVectors, list[int]]]:
        """The rows that no file stands for, a batch at a time, and which moments of a batch may answer."""
        for batch in self.snapshot.uncovered():
            yield (
                batch,
                [
                    number
                    for number, moment_id in enumerate(batch.moment_ids)
                    if (self.videos is None or video_of(moment_id) in self.videos)
                    and (self.moments is None or moment_id in self.moments)
                ],
            )


class VideoRank(NamedTuple):
    """Position of a video among all: its rank from 1, its first moment and that one's score."""

    rank: int
    moment_id: str
    score: float


class Cascade:
    """Bounds of the scores of candidates, and their exact scores as far as they are needed.

    Attributes:
        moment_ids: of all m.
        upper: [m, rules] float64, what scores are at most; minus infinity where nothing may answer.
        values: [m, rules] float32, scores where ``exact``.
        exact: [m] bool.
    """

    def __init__(self, candidates: Candidates, query: Float32, rules: Sequence[ScoringRule], scan: Scan) -> None:
        """Bound all candidates, and score those that no file stands for.

        Args:
            candidates: the moments that may answer.
            query: [q, 128] float32.
            rules: ways of scoring, all at once; the first one ranks.
            scan: bounds similarities.

        Raises:
            CorruptCache: the scan cache is not what was written.
            StoreError: the index cannot be read.
        """
        self._files, self._snapshot = candidates.snapshot.files, candidates.snapshot
        self._query, self._rules, self._scan = query, rules, scan
        self._counting = np.any([rule.weights > 0 for rule in rules], axis=0)
        largest = max(1.0, *(float(rule.weights.max()) for rule in rules))
        # Room for rounding: of sums in float32 on one side, and of the digits that scores are compared by.
        self._slack = 2 * TIE + len(query) * largest * 1e-5
        self.moment_ids: list[str] = []
        upper, uncovered = [np.zeros((0, len(rules)))], [np.zeros((0, len(rules)), np.float32)]
        for file, moments in zip(self._files, candidates.in_files, strict=True):
            upper.append(self._bounds(file, moments, 1, 1))
            names = file.moment_ids
            self.moment_ids += names if len(moments) == len(names) else [names[at] for at in moments.tolist()]
        for batch, numbers in candidates.uncovered():
            if numbers:
                maxima = score_packed(query, batch.vectors, batch.modality_ids, batch.indptr)[:, numbers]
                uncovered.append(self._scores(maxima))
                self.moment_ids += [batch.moment_ids[number] for number in numbers]
        counts = [len(moments) for moments in candidates.in_files]
        stored = np.concatenate(uncovered)
        self._file_of = np.repeat(np.array([*range(len(counts)), _UNCOVERED]), [*counts, len(stored)])
        self._inside = np.concatenate([*candidates.in_files, np.zeros(len(stored), np.int64)])
        self.upper = np.concatenate([*upper, stored.astype(np.float64)])
        self.values = np.concatenate([np.full((sum(counts), len(rules)), -np.inf, np.float32), stored])
        # Where nothing may answer there is nothing to compute.
        self.exact = (self._file_of == _UNCOVERED) | ~np.isfinite(self.upper).any(axis=1)

    def top(self, limit: int, *, of_each_video: bool) -> list[tuple[str, float]]:
        """The first moments of the ranking with their scores, or the first moment of each of the first videos.

        Raises:
            CorruptCache: the scan cache is not what was written.
            StoreError: the index cannot be read.
        """
        tightened = np.zeros(len(self.exact), np.bool_)
        while True:
            ranking = first_of_each_video(self._ranking(0)) if of_each_video else self._ranking(0)
            best = list(islice(ranking, limit))
            threshold = best[-1][1] if len(best) == limit else -np.inf
            left = np.flatnonzero(~self.exact & self._reaches(0, threshold))
            if not len(left):
                return best
            if threshold == -np.inf:
                left = self._promising(left, limit, of_each_video=of_each_video)
            elif len(loose := left[~tightened[left]]) > _FEW:
                self.tighten(loose)
                tightened[loose] = True
                continue
            self._score(left)

    def rank_of(self, video_id: str, rule: int = 0) -> VideoRank | None:
        """Position of a video by one of the rules; None where it is not ranked.

        Raises:
            CorruptCache: the scan cache is not what was written.
            StoreError: the index cannot be read.
        """
        own = np.array([video_of(moment_id) == video_id for moment_id in self.moment_ids], np.bool_)
        self._score(np.flatnonzero(own & ~self.exact))
        first = next((pair for pair in self._ranking(rule) if video_of(pair[0]) == video_id), None)
        if first is None:
            return None
        moment_id, score = first
        close = np.flatnonzero(~self.exact & self._reaches(rule, score))
        self.tighten(close)
        close = close[self.upper[close, rule] + self._slack >= score]
        surely = self.lower(close)[:, rule] - self._slack > score
        self._score(close[~surely])
        before = {video_of(self.moment_ids[number]) for number in close[surely].tolist()}
        for other, _ in self._ranking(rule):
            if video_of(other) == video_id:
                break
            before.add(video_of(other))
        return VideoRank(1 + len(before - {video_id}), moment_id, score)

    def videos_ranked(self, rule: int = 0) -> int:
        """Number of videos with anything that may answer."""
        return len({video_of(self.moment_ids[number]) for number in np.flatnonzero(np.isfinite(self.upper[:, rule]))})

    def tighten(self, numbers: Int64) -> None:
        """Bound moments again, closer."""
        for file, chosen, moments in self._by_file(numbers):
            self.upper[chosen] = np.minimum(self.upper[chosen], self._bounds(file, moments, 1, 2))

    def lower(self, numbers: Int64) -> Float64:
        """Lower bounds of the scores of moments, [n, rules]."""
        least = self.values.astype(np.float64)
        for file, chosen, moments in self._by_file(numbers[~self.exact[numbers]]):
            least[chosen] = self._bounds(file, moments, -1, 2)
        return least[numbers]

    def _ranking(self, rule: int) -> Iterator[tuple[str, float]]:
        """The ranking of the moments that are scored exactly so far."""
        at = np.flatnonzero(self.exact)
        return ranked([self.moment_ids[number] for number in at.tolist()], self.values[at, rule])

    def _reaches(self, rule: int, threshold: float) -> NDArray[np.bool_]:
        """Mask of the moments whose score may reach the threshold."""
        upper = self.upper[:, rule]
        reaching: NDArray[np.bool_] = np.isfinite(upper) & (upper + self._slack >= threshold)
        return reaching

    def _promising(self, left: Int64, limit: int, *, of_each_video: bool) -> Int64:
        """The moments that promise most: of as many videos as are to be shown, and a few more."""
        order = left[np.argsort(-self.upper[left, 0], kind="stable")]
        if not of_each_video:
            return order[: limit + _SPARE]
        seen: set[str] = set()
        for count, number in enumerate(order.tolist(), 1):
            seen.add(video_of(self.moment_ids[number]))
            if len(seen) >= limit + _SPARE:
                return order[:count]
        return order

    def _scores(self, maxima: Float32) -> Float32:
        """[q, moments, SLOTS] to [moments, rules]."""
        return np.stack([rule.scores(maxima) for rule in self._rules], axis=1)

    def _by_file(self, numbers: Int64) -> Iterator[tuple[ScanFile, Int64, Int64]]:
        """Moments as files, their numbers here, and their places in the file."""
        for file_number, file in enumerate(self._files):
            chosen = np.sort(numbers[self._file_of[numbers] == file_number])
            if len(chosen):
                yield file, chosen, self._inside[chosen]

    def _segments(self, file: ScanFile, moments: Int64) -> tuple[Int64, NDArray[np.uint8], Int64]:
        """Of the segments of moments, in order, those that count: ranges [s, 2], modalities [s], which moment [s]."""
        first, last = file.moments[moments], file.moments[moments + 1]
        counts = last - first
        owners = np.repeat(np.arange(len(moments)), counts)
        numbers = np.arange(len(owners)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        counting = self._counting[file.modalities[numbers]]
        if not counting.all():
            numbers, owners = numbers[counting], owners[counting]
        ranges = np.stack([file.segments[numbers], file.segments[numbers + 1]], axis=1)
        return ranges, file.modalities[numbers], owners

    def _bounds(self, file: ScanFile, moments: Int64, side: Literal[1, -1], planes: int) -> Float64:
        """Bounds of the scores of moments of a file, [n, rules]; minus infinity where nothing may answer."""
        bounds = np.full((len(moments), len(self._rules)), -np.inf)
        for some in batches(file.moments[moments + 1] - file.moments[moments], _SEGMENTS_AT_ONCE):
            ranges, modalities, owners = self._segments(file, moments[some])
            file.verify(ranges)
            maxima = self._scan(file, ranges, side, planes)
            for number, rule in enumerate(self._rules):
                bounds[some, number] = rule.segment_scores(maxima, modalities, owners, some.stop - some.start)
        return bounds

    def _score(self, numbers: Int64) -> None:
        """Score moments exactly.

        Raises:
            CorruptCache: what is stored does not fit the scan cache.
            StoreError: the index cannot be read, or a row of it is not what was stored.
        """
        for file, every, every_inside in self._by_file(numbers):
            for some in batches(file.starts[every_inside + 1] - file.starts[every_inside], _VECTORS_AT_ONCE):
                chosen, moments = every[some], every_inside[some]
                ranges, modalities, owners = self._segments(file, moments)
                stored = self._stored(file, moments)
                shift = stored.indptr[:-1] - file.starts[moments]
                best = kernel.exact(self._query, stored.vectors, ranges + shift[owners][:, None])
                maxima = np.full((len(self._query), len(moments), SLOTS), -np.inf, np.float32)
                maxima[:, owners, modalities] = best.T
                values = self._scores(maxima)
                fits = values <= self.upper[chosen] + self._slack
                if not stored.checksummed.all():
                    fits &= values >= self._bounds(file, moments, -1, 2) - self._slack
                if (wrong := np.flatnonzero(~fits.all(axis=1) & ~stored.checksummed)).size:
                    # The file has checksums and these rows have none, so they are what changed.
                    raise self._snapshot.refusal(int(file.places[moments[wrong[0]]]))
                if not fits.all():
                    raise CorruptCache("a score is above its bound")
                self.values[chosen], self.exact[chosen] = values, True

    def _stored(self, file: ScanFile, moments: Int64) -> PackedVectors:
        """The stored vectors of moments, in the order of the file."""
        ordered = bool(file.ordered[moments].all())
        stored = self._snapshot.fetch(file.places[moments].tolist(), ids=not ordered)
        if not np.array_equal(np.diff(stored.indptr), file.starts[moments + 1] - file.starts[moments]):
            raise CorruptCache("a moment has another number of vectors")
        return stored if ordered else stored.in_order()
