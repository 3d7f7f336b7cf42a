"""One ranking from one score per modality. Scores are [q, v] float32, minus infinity where a video lacks the modality.

A video is not punished for what it lacks: the mean is over the modalities it has, the maximum takes the best of them,
and reciprocal rank fusion adds nothing for a ranking it is not in. A video without any modality has no score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.search.ranking import order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.types import Modality

    Scores = NDArray[np.float32]

RRF_K: Final = 60
"""The constant of Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet", SIGIR 2009."""


def mean(parts: Sequence[Scores]) -> Scores:
    """The mean over the modalities that a video has."""
    stacked = np.stack(parts)
    present = np.isfinite(stacked)
    count = present.sum(axis=0)
    total = np.where(present, stacked, np.float32(0.0)).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf).astype(np.float32)


def maximum(parts: Sequence[Scores]) -> Scores:
    """The best modality's score."""
    best: Scores = np.stack(parts).max(axis=0)
    return best


def reciprocal_ranks(parts: Sequence[Scores]) -> Scores:
    """The sum of 1 / (60 + rank) over the modalities' rankings, ranks from 1."""
    total = np.zeros(parts[0].shape, np.float32)
    for part in parts:
        for query, row in enumerate(part):
            best = order(row)
            total[query, best] += 1.0 / (RRF_K + 1 + np.arange(len(best), dtype=np.float32))
    return np.where(total > 0, total, np.float32(-np.inf))


def routed(parts: Mapping[Modality, Scores], aims: Sequence[Modality | None]) -> Scores:
    """The scores of the modality that each query is known to aim at; the maximum for one that aims at none.

    No system can know the aim, so this is a bound for those that choose a modality by the query. A query that aims at
    a modality no video has finds nothing.
    """
    made = maximum(list(parts.values()))
    for query, aim in enumerate(aims):
        if aim is not None:
            made[query] = parts[aim][query] if aim in parts else -np.inf
    return made


def winners(parts: Mapping[Modality, Scores], ids: Mapping[Modality, int]) -> NDArray[np.uint8]:
    """The id of the modality with the best score, [q, v]; 0 where a video has none."""
    stacked = np.stack(list(parts.values()))
    numbers = np.array([ids[modality] for modality in parts], np.uint8)
    found: NDArray[np.uint8] = np.where(np.isfinite(stacked).any(axis=0), numbers[stacked.argmax(axis=0)], 0)
    return found.astype(np.uint8)
