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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.types import MODALITY_IDS, MODALITY_OF_ID, NO_MODALITY, Modality

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from clamr_cli.types import FloatArray

    Float32 = NDArray[np.float32]

SLOTS: Final = 1 + max(MODALITY_IDS.values())
"""Width of arrays indexed by modality id, 0 (no modality) included."""

CHUNK_VECTORS: Final = 1 << 16
"""Document vectors multiplied at once: bounds the similarities of a 64-token query to 16 MiB."""


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
    """What each modality id's similarities are multiplied by, [SLOTS] float32; 0 leaves an id out.

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


def segment_max(values: Float32, indptr: NDArray[np.int64]) -> Float32:
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


def _run_starts(modality_ids: NDArray[np.uint8], indptr: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where a new run of one document and one modality begins, [runs]."""
    new = np.zeros(len(modality_ids), np.bool_)
    new[1:] = modality_ids[1:] != modality_ids[:-1]
    new[indptr[:-1][np.diff(indptr) > 0]] = True
    return np.flatnonzero(new)


def modality_maxima(values: Float32, modality_ids: NDArray[np.uint8], indptr: NDArray[np.int64]) -> Float32:
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
        starts = _run_starts(modality_ids, indptr)
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


def score_packed(
    query: FloatArray, vectors: FloatArray, modality_ids: NDArray[np.uint8], indptr: NDArray[np.int64]
) -> Float32:
    """:func:`modality_maxima` of many packed documents, a bounded number of vectors at a time.

    Args:
        query: [q, 128].
        vectors: [n, 128] of all documents, one after another.
        modality_ids: [n] uint8.
        indptr: [d + 1] from 0 to n.

    Returns:
        [q, d, SLOTS] float32.
    """
    documents = len(indptr) - 1
    result = np.full((query.shape[0], documents, SLOTS), -np.inf, np.float32)
    first = 0
    while first < documents:
        last = int(np.searchsorted(indptr, indptr[first] + CHUNK_VECTORS, side="right")) - 1
        last = min(max(last, first + 1), documents)
        columns = slice(int(indptr[first]), int(indptr[last]))
        result[:, first:last] = modality_maxima(
            similarities(query, vectors[columns]), modality_ids[columns], indptr[first : last + 1] - indptr[first]
        )
        first = last
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """Which vector of one document answers each query token.

    Attributes:
        best: [q] index of the winning vector over all modalities, -1 where nothing may answer.
        similarity: [q] its similarity, unweighted; minus infinity where ``best`` is -1.
        by_modality: for each modality that may answer, [q] index of its best vector.
    """

    best: NDArray[np.int64]
    similarity: Float32
    by_modality: Mapping[Modality, NDArray[np.int64]]


def align(values: Float32, modality_ids: NDArray[np.uint8], weights: Float32 | None = None) -> Alignment:
    """The winning vector of each query token, over all and within each modality; the first of equals wins.

    Args:
        values: [q, n] similarities with one document.
        modality_ids: [n] uint8.
        weights: [SLOTS] of :func:`slot_weights`; None for all 1.
    """
    weights = np.ones(SLOTS, np.float32) if weights is None else weights
    rows = np.arange(values.shape[0])
    by_modality = {
        MODALITY_OF_ID[number]: columns[values[:, columns].argmax(axis=1)]
        for number in MODALITY_OF_ID
        if weights[number] > 0 and (columns := np.flatnonzero(modality_ids == number)).size
    }
    columns = np.flatnonzero(weights[modality_ids] > 0)
    if not columns.size:
        nothing = np.full(values.shape[0], -np.inf, np.float32)
        return Alignment(np.full(values.shape[0], -1, np.int64), nothing, by_modality)
    best = columns[(values[:, columns] * weights[modality_ids[columns]]).argmax(axis=1)]
    return Alignment(best, values[rows, best], by_modality)
