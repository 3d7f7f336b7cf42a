"""Late interaction: how well a query's token vectors are matched by a document's, and by which of them.

Two scores of CLaMR (arXiv 2506.06144, section 3) over the cosines of every query token with every document vector:
LI_context (:func:`token_max`), the sum over query tokens of the best similarity in the whole document, and LI_mw
(:func:`modality_max`), the best modality's sum over query tokens of the best similarity within that modality.

What is absent is masked with minus infinity, never with zeros: a padded zero would beat every negative similarity.
Vectors of no modality (template tokens, id 0) answer for the whole document but never for a modality.

Shapes: ``q`` query tokens, ``n`` document vectors, ``d`` documents packed one after another, whose vectors are
``indptr[i]:indptr[i + 1]`` of all (the layout of a compressed sparse row matrix).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.kernel import batches
from clamr_cli.store import PackedVectors
from clamr_cli.store.tables import moment_order
from clamr_cli.types import MODALITY_IDS, MODALITY_OF_ID, NO_MODALITY, Modality, Scoring, TokenVectors

if TYPE_CHECKING:
    from clamr_cli.types import FloatArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SLOTS: Final = 1 + max(MODALITY_IDS.values())
"""Width of arrays indexed by modality id, 0 (no modality) included."""

CHUNK_VECTORS: Final = 1 << 16
"""Document vectors multiplied at once: bounds the similarities of a 64-token query to 16 MiB."""

_TOKENS_AT_ONCE: Final = 256
"""Tokens of several queries multiplied together: bounds the similarities with a chunk of vectors to 64 MiB."""


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
    best: Float32 = maxima.max(axis=2).sum(axis=0, dtype=np.float32)
    return best


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
    """Rule that turns maxima into scores: which sum, and the factors of :func:`slot_weights`."""

    scoring: Scoring
    weights: Float32

    def scores(self, maxima: Float32) -> Float32:
        """The scores of documents: [q, d, SLOTS] to [d] float32; minus infinity where nothing may answer."""
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
        weights = self.weights[modality_ids].astype(np.float64)
        starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
        if self.scoring == "token-max":
            values = maxima if (weights == 1.0).all() else _weighted_rows(maxima, weights[:, None])
            # A document has few modalities, and reduceat is several times slower on short groups of rows.
            sizes = np.diff(starts, append=len(values))
            best = values[starts]
            for step in range(1, int(sizes.max())):
                longer = np.flatnonzero(sizes > step)
                best[longer] = np.maximum(best[longer], values[starts[longer] + step])
            sums = best.sum(axis=1, dtype=np.float64)
        else:
            weights[modality_ids == NO_MODALITY] = 0.0
            sums = np.maximum.reduceat(_weighted_rows(maxima.sum(axis=1, dtype=np.float64), weights), starts)
        scores[owners[starts]] = sums
        return scores


def _weighted_rows(values: Float32 | Float64, weights: Float64) -> Float64:
    return np.where(weights > 0, values * np.where(weights > 0, weights, 1.0), -np.inf)


def align(values: Float32, modality_ids: NDArray[np.uint8], weights: Float32) -> tuple[Int64, Mapping[Modality, Int64]]:
    """The winning vector of each query token, over all and within each modality; the first of equals wins.

    Args:
        values: [q, n] similarities with one document.
        modality_ids: [n] uint8.
        weights: [SLOTS] of :func:`slot_weights`.

    Returns:
        [q] index of the winner over all, -1 where nothing may answer; by modality that may answer, [q] index of its
        best vector.
    """
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


# --- many queries -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class VideoScores:
    """Scores of every video for every query, by its best moment.

    Attributes:
        video_ids: [v], ascending.
        joint: [q, v] float32 over all modalities, minus infinity where nothing of a video can answer.
        alone: [q, v, SLOTS] float32 over one modality each, as a search in that modality gives; column 0 is empty.
        winners: [q, v] uint8, the modality with the highest score of its own in the moment that won ``joint``; 0 none.
    """

    video_ids: tuple[str, ...]
    joint: Float32
    alone: Float32
    winners: NDArray[np.uint8]


def score_videos(
    packed: Iterable[PackedVectors], queries: Sequence[TokenVectors], video_ids: Iterable[str], scoring: Scoring
) -> VideoScores:
    """The scores of all videos for all queries, as searches would give them, in one pass of the vectors.

    Args:
        packed: vectors of moments, as :meth:`Store.scan_packed` gives them; read once.
        queries: the queries' vectors, of the same encoder.
        video_ids: the videos that may answer; moments of others are passed over.
        scoring: of ``joint``.
    """
    ids = tuple(sorted(set(video_ids)))
    column_of = {video_id: number for number, video_id in enumerate(ids)}
    joint = np.full((len(queries), len(ids)), -np.inf, np.float32)
    alone = np.full((*joint.shape, SLOTS), -np.inf, np.float32)
    winners = np.zeros(joint.shape, np.uint8)
    rule = ScoringRule(scoring, slot_weights({}))
    for batch in packed:
        columns = np.array([column_of.get(video_of(moment_id), -1) for moment_id in batch.moment_ids])
        rows = np.flatnonzero(columns >= 0)
        for query, maxima in _maxima_of_queries(queries, batch):
            whole, apart = rule.scores(maxima), per_modality(maxima)
            best = np.where(np.isfinite(apart).any(axis=1), apart.argmax(axis=1), 0)
            np.maximum.at(alone[query], columns[rows], apart[rows])
            better = rows[whole[rows] > joint[query, columns[rows]]]
            # Of several values for one place the last is kept, so the best moment of a video comes last.
            better = better[np.argsort(whole[better], kind="stable")]
            joint[query, columns[better]] = whole[better]
            winners[query, columns[better]] = best[better]
    return VideoScores(ids, joint, alone, winners)


def _maxima_of_queries(queries: Sequence[TokenVectors], batch: PackedVectors) -> Iterator[tuple[int, Float32]]:
    """Each query's number and maxima [q, moments, SLOTS]; few tokens are multiplied together."""
    for some in batches(np.array([len(query) for query in queries]), _TOKENS_AT_ONCE):
        stacked = np.concatenate([np.asarray(query.vectors, np.float32) for query in queries[some]])
        maxima = score_packed(stacked, batch.vectors, batch.modality_ids, batch.indptr)
        ends = list(accumulate(len(query) for query in queries[some]))
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False), some.start):
            yield number, maxima[start:end]
