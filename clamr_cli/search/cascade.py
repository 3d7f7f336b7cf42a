"""Late interaction: the score of a moment for a query, and the exact ranking without scoring every moment exactly.

1. One scan of the scan cache says what each moment's score is at most. Scores are sums of maxima of similarities
   multiplied by weights that are never negative, so the same sums of upper bounds are upper bounds of scores.
2. The moments that promise most are scored exactly, from the stored vectors. The score of the last that would be shown
   is the threshold.
3. Whatever cannot reach the threshold is out, proven. The bounds of the rest are tightened once, by a query of more
   digits; what can still reach it is scored exactly, until nothing is left that could.

Moments that come first whatever their scores are ranked by themselves in the same way, and the others after them.

So the ranking is that of scoring everything, ties included: bounds are compared with room for the digits that ties are
decided by. Rows that no file of the scan cache stands for are scored exactly at once. A score beyond its bound means
damage that no checksum showed: the cache is not used then.

Combined queries keep the bounds. The score of several queries together is the least of their scores per vector, times
the number of all vectors (:class:`ScoringRule`): the least of numbers never falls when one of them rises, so the least
of upper bounds is an upper bound, and the least of lower bounds a lower one.

A negation is no term of a sum: a moment would gain by what it does not show. It is a set of moments that are left out
before the ranking, those whose score for the negated query is at least a level (:meth:`Cascade.reaching`). Membership
has one of three proofs: the upper bound is below the level, the lower bound is not, or the score itself, computed from
the stored vectors. So the set is the one that scoring everything gives, and the ranking of the rest is exact as before.

Scores are those of CLaMR (arXiv 2506.06144, section 3) over the cosines of every query token with every document
vector: LI_context (:func:`token_max`), the sum over query tokens of the best similarity in the whole document, and
LI_mw (:func:`modality_max`), the best modality's sum over query tokens of the best similarity within that modality.

What is absent is masked with minus infinity, never with zeros: a padded zero would beat every negative similarity.
Vectors of no modality (template tokens, id 0) answer for the whole document but never for a modality.

Shapes: ``q`` query tokens, ``n`` document vectors, ``d`` documents packed one after another, whose vectors are
``indptr[i]:indptr[i + 1]`` of all (the layout of a compressed sparse row matrix).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from clamr_cli.devices import choose_device
from clamr_cli.kernel import FLOAT_SLACK, batches, bound, exact
from clamr_cli.store import CorruptCache, PackedVectors, ScanFile, Snapshot, SnapshotUnion
from clamr_cli.store.tables import moment_order
from clamr_cli.types import MODALITY_IDS, MODALITY_OF_ID, NO_MODALITY, TEXT_MODALITIES, Modality, Scoring

if TYPE_CHECKING:
    import torch

    from clamr_cli.types import FloatArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Array = TypeVar("Array", Float32, Float64)

Scan = Callable[[ScanFile, Int64, Literal[1, -1], int], Float32]
"""Bounds [r, q] of the best similarity of each range [r, 2] of a file's vectors for each query token.

The numbers are the side, 1 for upper and -1 for lower bounds, and the digits of the query, 1 or 2 planes.
"""

_SEGMENTS_AT_ONCE: Final = 1 << 16
"""Segments scanned at once: bounds the maxima of a 64-token query to 16 MiB."""

_VECTORS_AT_ONCE: Final = 1 << 18
"""Stored vectors in memory at a time, one moment at least: 64 MiB."""

SPARE: Final = 10
"""Number of moments, beyond those to show, that are scored exactly before there is a threshold."""

_FEW: Final = 6
"""Fewer moments than this are scored exactly rather than bounded again."""

_UNCOVERED: Final = -1

_MULTIPLIED_AT_ONCE: Final = 1 << 18
"""Vectors multiplied at once on a device, one segment at least: their similarities to 64 tokens are 64 MiB."""

SLOTS: Final = 1 + max(MODALITY_IDS.values())
"""Width of arrays indexed by modality id, 0 (no modality) included."""

_TEXT_IDS: Final = tuple(MODALITY_IDS[modality] for modality in TEXT_MODALITIES)

CHUNK_VECTORS: Final = 1 << 16
"""Document vectors multiplied at once: bounds the similarities of a 64-token query to 16 MiB."""


# --- scores -----------------------------------------------------------------------------------------------------------


def similarities(query: FloatArray, document: FloatArray) -> Float32:
    """Dot products of unit vectors, which are cosines.

    Args:
        query: [q, 128].
        document: [n, 128].

    Returns:
        [q, n] float32.
    """
    product: Float32 = query.astype(np.float32, copy=False) @ document.astype(np.float32, copy=False).T
    return product


def slot_weights(weights: Mapping[Modality, float], allowed: frozenset[Modality] | None = None) -> Float32:
    """Factors of each modality id's similarities, [SLOTS] float32; 0 leaves an id out.

    Args:
        weights: factors at least 0; modalities not named have 1.
        allowed: the only modalities that may answer, or None for everything. Vectors of no modality answer for the
            whole document, so any restriction leaves them out.
    """
    slots = np.ones(SLOTS, np.float32)
    for modality, number in MODALITY_IDS.items():
        slots[number] = weights.get(modality, 1.0)
        if allowed is not None and modality not in allowed:
            slots[number] = 0.0
    if allowed is not None:
        slots[NO_MODALITY] = 0.0
    return slots


def segment_max(values: Float32, indptr: Int64) -> Float32:
    """Row-wise maxima of consecutive column ranges, minus infinity for an empty range.

    Args:
        values: [q, n].
        indptr: [d + 1], ascending from 0 to n.

    Returns:
        [q, d] float32.
    """
    result = np.full((values.shape[0], len(indptr) - 1), -np.inf, np.float32)
    # reduceat gives an empty range the value at its start, so empty ranges are left out of it.
    filled = np.flatnonzero(np.diff(indptr) > 0)
    if filled.size:
        result[:, filled] = np.maximum.reduceat(values, indptr[filled], axis=1)
    return result


def modality_maxima(values: Float32, modality_ids: NDArray[np.uint8], indptr: Int64) -> Float32:
    """The best similarity of each query token in each modality of each document.

    Vectors of one modality mostly stand together, so the columns are reduced run by run first and only the runs are
    sorted: the large array is read once, whatever the number of modalities.

    Args:
        values: [q, n] similarities.
        modality_ids: [n] uint8.
        indptr: [d + 1] from 0 to n.

    Returns:
        [q, d, SLOTS] float32, minus infinity where a document has no vector of a modality.
    """
    documents = len(indptr) - 1
    result = np.full((values.shape[0], documents * SLOTS), -np.inf, np.float32)
    if values.shape[1]:
        new = np.zeros(len(modality_ids), np.bool_)
        new[1:] = modality_ids[1:] != modality_ids[:-1]
        new[indptr[:-1][np.diff(indptr) > 0]] = True
        starts = np.flatnonzero(new)
        runs = np.maximum.reduceat(values, starts, axis=1)
        cells = (np.searchsorted(indptr, starts, side="right") - 1) * SLOTS + modality_ids[starts]
        order = np.argsort(cells, kind="stable")
        cells = cells[order]
        first = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1])))
        result[:, cells[first]] = np.maximum.reduceat(runs[:, order], first, axis=1)
    return result.reshape(values.shape[0], documents, SLOTS)


def weighted(maxima: Float32, weights: Float32) -> Float32:
    """Maxima multiplied by their modality's weight, minus infinity where the weight is 0. Same shape as ``maxima``.

    A positive factor keeps the order within a modality, so weighting the maxima is weighting the similarities.
    """
    factors = np.where(weights > 0, weights, np.float32(1.0))
    return np.where(weights > 0, maxima * factors, np.float32(-np.inf)).astype(np.float32, copy=False)


def token_max(maxima: Float32) -> Float32:
    """LI_context of each document: [q, d, SLOTS] to [d] float32; minus infinity for a document without vectors."""
    return _sums(maxima.max(axis=2))


def _sums(best: Float32) -> Float32:
    """Sums over query tokens, [q, d] to [d], to the last bit whatever documents stand beside each other."""
    sums: Float32 = np.ascontiguousarray(best.T).sum(axis=1, dtype=np.float32)
    return sums


def per_modality(maxima: Float32) -> Float32:
    """Each modality's own sum: [q, d, SLOTS] to [d, SLOTS] float32; column 0 (no modality) is minus infinity."""
    sums: Float32 = maxima.sum(axis=0, dtype=np.float32)
    sums[:, NO_MODALITY] = -np.inf
    return sums


def modality_max(maxima: Float32) -> Float32:
    """LI_mw of each document: [q, d, SLOTS] to [d] float32; minus infinity where no modality has a vector."""
    best: Float32 = per_modality(maxima).max(axis=1)
    return best


def score_packed(query: FloatArray, vectors: FloatArray, modality_ids: NDArray[np.uint8], indptr: Int64) -> Float32:
    """:func:`modality_maxima` of many packed documents, a bounded number of vectors at a time.

    Args:
        query: [q, 128].
        vectors: [n, 128] of all documents, one after another.
        modality_ids: [n] uint8.
        indptr: [d + 1] from 0 to n.

    Returns:
        [q, d, SLOTS] float32.
    """
    result = np.full((query.shape[0], len(indptr) - 1, SLOTS), -np.inf, np.float32)
    for some in batches(np.diff(indptr), CHUNK_VECTORS):
        columns = slice(int(indptr[some.start]), int(indptr[some.stop]))
        result[:, some] = modality_maxima(
            similarities(query, vectors[columns]),
            modality_ids[columns],
            indptr[some.start : some.stop + 1] - indptr[some.start],
        )
    return result


@dataclass(frozen=True, slots=True, eq=False)
class ScoringRule:
    """Rule that turns maxima into scores: which sum, and the factors of :func:`slot_weights`.

    ``parts`` are the numbers of query vectors of queries that were combined, one after another. A document's score is
    then its least score per vector, times the number of all vectors: every query must be answered, and the score is
    comparable with that of one query of so many vectors.

    ``kinds`` are the modality ids of the query vectors, [q], where some are of examples (:class:`.search.Example`):
    those are compared with vectors of like modality only (:func:`comparable`), and what a document lacks counts 0. The
    score is then the sum over query vectors, whatever ``scoring`` says.
    """

    scoring: Scoring
    weights: Float32
    parts: tuple[int, ...] = ()
    kinds: NDArray[np.uint8] | None = None

    def _combined(self, score: Callable[[ScoringRule, slice], Array]) -> Array:
        """The least score per vector of the parts, times the number of all vectors."""
        total, ends = sum(self.parts), np.cumsum(self.parts).tolist()
        scores = []
        for end, count in zip(ends, self.parts, strict=True):
            rows = slice(end - count, end)
            alone = replace(self, parts=(), kinds=None if self.kinds is None else self.kinds[rows])
            scores.append(score(alone, rows) * (total / count))
        least: Array = np.minimum.reduce(scores)
        return least

    def _of_examples(self, best: Array) -> Array:
        """The best similarities [q, d] of query vectors, at least 0 for those of examples unless nothing may answer."""
        if self.kinds is None:
            return best
        answered = np.isfinite(best).any(axis=0)
        return np.where((self.kinds > 0)[:, None] & answered, np.maximum(best, 0), best).astype(best.dtype, copy=False)

    @property
    def counts_texts(self) -> bool:
        """Whether all modalities that have text count."""
        return all(self.weights[MODALITY_IDS[modality]] > 0 for modality in TEXT_MODALITIES)

    def scores(self, maxima: Float32) -> Float32:
        """The scores of documents: [q, d, SLOTS] to [d] float32; minus infinity where nothing may answer."""
        if len(self.parts) > 1:
            return self._combined(lambda rule, rows: rule.scores(maxima[rows]))
        if self.kinds is not None:
            near = np.where(comparable(self.kinds)[:, None], weighted(maxima, self.weights), np.float32(-np.inf))
            return _sums(self._of_examples(near.max(axis=2)))
        rule = token_max if self.scoring == "token-max" else modality_max
        return rule(weighted(maxima, self.weights))

    def segment_scores(self, maxima: Float32, modality_ids: NDArray[np.uint8], owners: Int64, count: int) -> Float64:
        """The scores of documents from the maxima of their modalities one after another, as bounds come.

        Args:
            maxima: [s, q] of segments, each the vectors of one modality of one document.
            modality_ids: [s] uint8.
            owners: [s] which document each segment is of, ascending.
            count: of documents.

        Returns:
            [count] float64, minus infinity where nothing may answer.
        """
        scores = np.full(count, -np.inf)
        if not len(maxima):
            return scores
        if len(self.parts) > 1:
            return self._combined(
                lambda rule, columns: rule.segment_scores(
                    np.ascontiguousarray(maxima[:, columns]), modality_ids, owners, count
                )
            )
        weights = self.weights[modality_ids].astype(np.float64)
        starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
        if self.scoring == "token-max" or self.kinds is not None:
            values = maxima if (weights == 1.0).all() else _weighted_rows(maxima, weights[:, None])
            if self.kinds is not None:
                values = np.where(comparable(self.kinds).T[modality_ids], values, np.float32(-np.inf))
            # A document has few modalities, and reduceat is several times slower on short groups of rows.
            sizes = np.diff(starts, append=len(values))
            best = values[starts]
            for step in range(1, int(sizes.max())):
                longer = np.flatnonzero(sizes > step)
                best[longer] = np.maximum(best[longer], values[starts[longer] + step])
            sums = self._of_examples(best.T.astype(np.float64, copy=False)).sum(axis=0)
        else:
            weights[modality_ids == NO_MODALITY] = 0.0
            sums = np.maximum.reduceat(_weighted_rows(maxima.sum(axis=1, dtype=np.float64), weights), starts)
        scores[owners[starts]] = sums
        return scores


def _weighted_rows(values: Float32 | Float64, weights: Float64) -> Float64:
    return np.where(weights > 0, values * np.where(weights > 0, weights, 1.0), -np.inf)


def comparable(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mask of the modality ids that may answer query vectors: [q] modality ids to [q, SLOTS].

    A vector of no modality is a word of a query, which anything answers. One of an example is answered by its own
    modality, and text by text.
    """
    table = np.eye(SLOTS, dtype=np.bool_)
    table[NO_MODALITY] = True
    table[np.ix_(_TEXT_IDS, _TEXT_IDS)] = True
    return table[kinds]


def align(
    values: Float32, modality_ids: NDArray[np.uint8], weights: Float32, kinds: NDArray[np.uint8] | None = None
) -> tuple[Int64, Mapping[Modality, Int64]]:
    """The winning vector of each query token, over all and within each modality; the first of equals wins.

    Args:
        values: [q, n] similarities with one document.
        modality_ids: [n] uint8.
        weights: [SLOTS] of :func:`slot_weights`.
        kinds: [q] of :class:`ScoringRule`.

    Returns:
        [q] index of the winner over all, -1 where nothing may answer; by modality that may answer, [q] index of its
        best vector, -1 where that may not answer the query vector.
    """
    if kinds is not None and kinds.any():
        near = comparable(kinds)
        by_kind = [
            align(values[rows], modality_ids, np.where(near[rows[0]], weights, np.float32(0.0)))
            for kind in np.unique(kinds)
            for rows in [np.flatnonzero(kinds == kind)]
        ]
        over_all = np.full(len(values), -1, np.int64)
        within = {MODALITY_OF_ID[number]: over_all.copy() for number in MODALITY_OF_ID}
        for kind, (best, each) in zip(np.unique(kinds), by_kind, strict=True):
            over_all[kinds == kind] = best
            for modality, columns in each.items():
                within[modality][kinds == kind] = columns
        return over_all, {modality: columns for modality, columns in within.items() if (columns >= 0).any()}
    by_modality = {
        MODALITY_OF_ID[number]: columns[values[:, columns].argmax(axis=1)]
        for number in MODALITY_OF_ID
        if weights[number] > 0 and (columns := np.flatnonzero(modality_ids == number)).size
    }
    columns = np.flatnonzero(weights[modality_ids] > 0)
    if not columns.size:
        return np.full(len(values), -1, np.int64), by_modality
    return columns[(values[:, columns] * weights[modality_ids[columns]]).argmax(axis=1)], by_modality


# --- rankings ---------------------------------------------------------------------------------------------------------

_DIGITS: Final = 5
"""Scores equal to this many digits are ties: the last bits depend on how the vectors lay in memory."""

TIE: Final = 10.0**-_DIGITS
"""Scores further apart than this are not ties."""


def video_of(moment_id: str) -> str:
    """The video a moment is of."""
    return moment_id.partition("#")[0]


def order(values: Float32) -> Int64:
    """Places of scores [n] from the best on, ties in the order they stand in, minus infinity left out."""
    rounded = np.round(values, _DIGITS)
    best = np.argsort(-rounded, kind="stable")
    return best[np.isfinite(rounded[best])]


def ranked(moment_ids: Sequence[str], scores: Float32) -> Iterator[tuple[str, float]]:
    """Moments and scores from the best on. Ties are in the order of their ids, minus infinity is left out."""
    rounded = np.round(scores, _DIGITS)
    best = order(rounded)
    borders = np.flatnonzero(np.diff(rounded[best])) + 1
    for tied in np.split(best, borders):
        for index in sorted(tied.tolist(), key=lambda index: moment_order(moment_ids[index])):
            yield moment_ids[index], float(scores[index])


def first_of_each_video(ranking: Iterable[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    """Only the first moment of each video of a ranking."""
    seen: set[str] = set()
    for moment_id, score in ranking:
        if (video_id := video_of(moment_id)) not in seen:
            seen.add(video_id)
            yield moment_id, score


# --- the scan ---------------------------------------------------------------------------------------------------------


def kernel_scan(query: Float32, *, threads: int = 0, backend: str | None = None) -> Scan:
    """The scan by this machine's processor. ``query`` is [q, 128]; ``threads`` 0 for all."""

    def scan(file: ScanFile, ranges: Int64, side: Literal[1, -1], planes: int) -> Float32:
        return bound(
            query, file.codes, file.scales, file.residuals, ranges,
            max_norm=file.max_norm, side=side, query_planes=planes, threads=threads, backend=backend,
        )  # fmt: skip

    return scan


def torch_scan(query: Float32, device: str) -> Scan:
    """The scan by torch on one device; files are copied there once. ``query`` is [q, 128] float32.

    Raises:
        ModelError: there is no such device.
    """
    import torch

    device = choose_device(device)
    tokens = torch.from_numpy(query).to(device).T.contiguous()
    norms = torch.linalg.vector_norm(tokens.double(), dim=0).float() * (1 + 2.0**-20)
    files: dict[str, tuple[torch.Tensor, ...]] = {}

    def copied(array: NDArray[np.generic]) -> torch.Tensor:
        # Mapped arrays cannot be written to, which torch would warn of: each piece is copied.
        pieces = (array[first : first + _MULTIPLIED_AT_ONCE] for first in range(0, len(array), _MULTIPLIED_AT_ONCE))
        return torch.cat([torch.from_numpy(np.array(piece)).to(device) for piece in pieces])

    def scan(file: ScanFile, ranges: Int64, side: Literal[1, -1], planes: int) -> Float32:  # noqa: ARG001 -- one precision here
        bounds = np.full((len(ranges), len(query)), -np.inf, np.float32)
        filled = np.flatnonzero(ranges[:, 1] > ranges[:, 0])
        if not len(filled):
            return bounds
        if file.name not in files:
            files[file.name] = tuple(copied(array) for array in (file.codes, file.scales, file.residuals))
        codes, scales, residuals = files[file.name]
        counts = ranges[filled, 1] - ranges[filled, 0]
        for some in batches(counts, _MULTIPLIED_AT_ONCE):
            starts, lengths = ranges[filled[some], 0], counts[some]
            before = np.cumsum(lengths) - lengths
            rows = torch.from_numpy(np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))).to(device)
            values = (codes[rows].float() @ tokens) * scales[rows, None]
            values += (side * norms) * residuals[rows, None]
            segments = torch.from_numpy(lengths).to(device)
            best = torch.segment_reduce(values, "max", lengths=segments, axis=0)
            best += (side * FLOAT_SLACK * file.max_norm) * norms
            bounds[filled[some]] = best.cpu().numpy()
        return bounds

    return scan


# --- the ranking of a query -------------------------------------------------------------------------------------------


Stretch = tuple[str, str]
"""Videos whose ids are at least the first text and below the second; an empty second text stands for no end."""


class Candidates:
    """The moments of a snapshot that may answer: of the given videos and among the given moments; None allows all.

    Attributes:
        snapshot: one version of an encoder's vectors.
        videos, moments: ids of what may answer.
        without: ids of moments that may not.
        within: the stretch of videos that may answer.
    """

    def __init__(
        self,
        snapshot: Snapshot | SnapshotUnion,
        videos: Collection[str] | None = None,
        moments: Collection[str] | None = None,
        without: Collection[str] = frozenset(),
        within: Stretch = ("", ""),
    ) -> None:
        self.snapshot, self.videos, self.moments, self.without = snapshot, videos, moments, without
        self.within = within

    @cached_property
    def in_files(self) -> list[Int64]:
        """For each file of the scan cache the places of its moments that may answer."""
        return [self._in_file(file) for file in self.snapshot.files]

    def _in_file(self, file: ScanFile) -> Int64:
        start, end = self.within
        # A file has its videos in the order of their ids.
        first = bisect_left(file.video_ids, start)
        last = bisect_left(file.video_ids, end) if end else len(file.video_ids)
        own = slice(int(file.videos[first]), int(file.videos[last]))
        mask = file.places[own] >= 0
        if self.videos is not None:
            allowed = np.array([video_id in self.videos for video_id in file.video_ids[first:last]], np.bool_)
            mask &= np.repeat(allowed, np.diff(file.videos[first : last + 1]))
        if self.moments is not None:
            mask &= np.array([moment_id in self.moments for moment_id in file.moment_ids[own]], np.bool_)
        if self.without:
            mask &= np.array([moment_id not in self.without for moment_id in file.moment_ids[own]], np.bool_)
        return own.start + np.flatnonzero(mask)

    def _may_answer(self, moment_id: str) -> bool:
        video_id = video_of(moment_id)
        return (
            (self.videos is None or video_id in self.videos)
            and (self.moments is None or moment_id in self.moments)
            and moment_id not in self.without
            and self.within[0] <= video_id
            and (not self.within[1] or video_id < self.within[1])
        )

    @property
    def vectors(self) -> int:
        """Number of vectors in the scan cache that may answer; others are few."""
        pairs = zip(self.snapshot.files, self.in_files, strict=True)
        return sum(int((file.starts[moments + 1] - file.starts[moments]).sum()) for file, moments in pairs)

    def uncovered(self) -> Iterator[tuple[PackedVectors, list[int]]]:
        """The rows that no file stands for, a batch at a time, and which moments of a batch may answer."""
        for batch in self.snapshot.uncovered():
            yield batch, [number for number, one in enumerate(batch.moment_ids) if self._may_answer(one)]


class VideoRank(NamedTuple):
    """Position of a video among all: its rank from 1, its first moment and that one's score."""

    rank: int
    moment_id: str
    score: float


class Cascade:
    """Bounds of the scores of candidates, and their exact scores as far as they are needed.

    Attributes:
        moment_ids: of all m.
        first: [m] bool, those that come before all others, whatever their scores.
        upper: [m, rules] float64, what scores are at most; minus infinity where nothing may answer.
        values: [m, rules] float32, scores where ``exact``.
        exact: [m] bool.
    """

    def __init__(
        self,
        candidates: Candidates,
        query: Float32,
        rules: Sequence[ScoringRule],
        scan: Scan,
        first: Collection[str] = (),
    ) -> None:
        """Bound all candidates, and score those that no file stands for.

        Args:
            candidates: the moments that may answer.
            query: [q, 128] float32.
            rules: ways of scoring, all at once; the first one ranks.
            scan: bounds similarities.
            first: ids of moments that come before all others by every rule under which texts count
                (:attr:`ScoringRule.counts_texts`).

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
        self.first = np.array([moment_id in first for moment_id in self.moment_ids], np.bool_)
        self._file_of = np.repeat(np.array([*range(len(counts)), _UNCOVERED]), [*counts, len(stored)])
        self._inside = np.concatenate([*candidates.in_files, np.zeros(len(stored), np.int64)])
        self.upper = np.concatenate([*upper, stored.astype(np.float64)])
        self.values = np.concatenate([np.full((sum(counts), len(rules)), -np.inf, np.float32), stored])
        # Where nothing may answer there is nothing to compute.
        self.exact = (self._file_of == _UNCOVERED) | ~np.isfinite(self.upper).any(axis=1)

    def top(
        self, limit: int, *, of_each_video: bool, least: tuple[bool, float] = (False, -np.inf)
    ) -> list[tuple[str, float]]:
        """The first moments of the ranking with their scores, or the first moment of each of the first videos.

        Args:
            limit: how many.
            of_each_video: whether only the first moment of each video counts.
            least: a place in the ranking, whether it is among those that come first and the score there; what comes
                after it need not be given.

        Raises:
            CorruptCache: the scan cache is not what was written.
            StoreError: the index cannot be read.
        """
        tier = self._first(0)
        in_tier, score = least
        best = self._top(limit, tier, score if in_tier else -np.inf, of_each_video=of_each_video) if tier.any() else []
        if len(best) < limit and not in_tier:
            rest = ~tier
            if of_each_video and best:
                videos = {video_of(moment_id) for moment_id, _ in best}
                rest &= np.array([video_of(moment_id) not in videos for moment_id in self.moment_ids], np.bool_)
            best += self._top(limit - len(best), rest, score, of_each_video=of_each_video)
        return best

    def begin(self, limit: int, count: int, *, of_each_video: bool) -> list[tuple[str, float]]:
        """Score the moments that promise most; gives the first of those that are scored.

        Args:
            limit: how many.
            count: how many to score, or of how many videos.
            of_each_video: as :meth:`top` takes it; errors are those of :meth:`top`.
        """
        tier = self._first(0)
        for among in (tier, ~tier):
            left = np.flatnonzero(~self.exact & among & self._reaches(0, -np.inf))
            self._score(self._promising(left, count, of_each_video=of_each_video))
        ranking = chain(self._ranking(0, tier), self._ranking(0, ~tier))
        return list(islice(first_of_each_video(ranking) if of_each_video else ranking, limit))

    def _top(
        self, limit: int, among: NDArray[np.bool_], least: float, *, of_each_video: bool
    ) -> list[tuple[str, float]]:
        """:meth:`top` of a part of the moments, by their scores alone."""
        tightened = np.zeros(len(self.exact), np.bool_)
        while True:
            ranking = self._ranking(0, among)
            best = list(islice(first_of_each_video(ranking) if of_each_video else ranking, limit))
            threshold = max(least, best[-1][1] if len(best) == limit else -np.inf)
            left = np.flatnonzero(~self.exact & among & self._reaches(0, threshold))
            if not len(left):
                return best
            if threshold == -np.inf:
                left = self._promising(left, limit + SPARE, of_each_video=of_each_video)
            elif len(loose := left[~tightened[left]]) > _FEW:
                self.tighten(loose)
                tightened[loose] = True
                continue
            self._score(left)

    def reaching(self, level: float, rule: int = 0) -> frozenset[str]:
        """The moments whose score by one of the rules is at least a level.

        A moment whose upper bound is below the level is none of them, one whose lower bound is not is one of them; the
        others are scored exactly. The room for rounding goes against the proof on both sides.

        Raises:
            CorruptCache: the scan cache is not what was written.
            StoreError: the index cannot be read.
        """
        self.tighten(np.flatnonzero(~self.exact & self._reaches(rule, level)))
        close = np.flatnonzero(~self.exact & self._reaches(rule, level))
        surely = close[self.lower(close)[:, rule] - self._slack >= level]
        self._score(np.setdiff1d(close, surely))
        scored = np.flatnonzero(self.exact & (self.values[:, rule] >= level))
        return frozenset(self.moment_ids[number] for number in (*surely.tolist(), *scored.tolist()))

    def rank_of(self, video_id: str, rule: int = 0) -> VideoRank | None:
        """Position of a video by one of the rules; None where it is not ranked.

        Raises:
            CorruptCache: the scan cache is not what was written.
            StoreError: the index cannot be read.
        """
        own = np.array([video_of(moment_id) == video_id for moment_id in self.moment_ids], np.bool_)
        self._score(np.flatnonzero(own & ~self.exact))
        tier, before = self._first(rule), set[str]()
        if not (own & tier).any():
            before = {video_of(self.moment_ids[number]) for number in np.flatnonzero(tier).tolist()}
            tier = ~tier
        first = next((pair for pair in self._ranking(rule, tier & own)), None)
        if first is None:
            return None
        moment_id, score = first
        close = np.flatnonzero(~self.exact & tier & self._reaches(rule, score))
        self.tighten(close)
        close = close[self.upper[close, rule] + self._slack >= score]
        surely = self.lower(close)[:, rule] - self._slack > score
        self._score(close[~surely])
        before |= {video_of(self.moment_ids[number]) for number in close[surely].tolist()}
        for other, _ in self._ranking(rule, tier):
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

    def _first(self, rule: int) -> NDArray[np.bool_]:
        """Mask of the moments that come first by a rule."""
        first: NDArray[np.bool_] = self.first & np.isfinite(self.upper[:, rule])
        return first if self._rules[rule].counts_texts else np.zeros_like(first)

    def _ranking(self, rule: int, among: NDArray[np.bool_]) -> Iterator[tuple[str, float]]:
        """The ranking of those of some moments that are scored exactly so far."""
        at = np.flatnonzero(self.exact & among)
        return ranked([self.moment_ids[number] for number in at.tolist()], self.values[at, rule])

    def _reaches(self, rule: int, threshold: float) -> NDArray[np.bool_]:
        """Mask of the moments whose score may reach the threshold."""
        upper = self.upper[:, rule]
        reaching: NDArray[np.bool_] = np.isfinite(upper) & (upper + self._slack >= threshold)
        return reaching

    def _promising(self, left: Int64, count: int, *, of_each_video: bool) -> Int64:
        """The moments that promise most: so many, or those of so many videos."""
        order = left[np.argsort(-self.upper[left, 0], kind="stable")]
        if not of_each_video:
            return order[:count]
        seen: set[str] = set()
        for end, number in enumerate(order.tolist(), 1):
            seen.add(video_of(self.moment_ids[number]))
            if len(seen) >= count:
                return order[:end]
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
                best = exact(self._query, stored.vectors, ranges + shift[owners][:, None])
                maxima = np.full((len(self._query), len(moments), SLOTS), -np.inf, np.float32)
                maxima[:, owners, modalities] = best.T
                values = self._scores(maxima)
                fits = values <= self.upper[chosen] + self._slack
                if not stored.checksummed.all():
                    fits &= values >= self._bounds(file, moments, -1, 2) - self._slack
                if (wrong := np.flatnonzero(~fits.all(axis=1) & ~stored.checksummed)).size:
                    # The file has checksums and these rows have none, so they are what changed.
                    raise self._snapshot.of(file).refusal(int(file.places[moments[wrong[0]]]))
                if not fits.all():
                    raise CorruptCache("a score is above its bound")
                self.values[chosen], self.exact[chosen] = values, True

    def _stored(self, file: ScanFile, moments: Int64) -> PackedVectors:
        """The stored vectors of moments, in the order of the file."""
        ordered = bool(file.ordered[moments].all())
        stored = self._snapshot.of(file).fetch(file.places[moments].tolist(), ids=not ordered)
        if not np.array_equal(np.diff(stored.indptr), file.starts[moments + 1] - file.starts[moments]):
            raise CorruptCache("a moment has another number of vectors")
        return stored if ordered else stored.in_order()
