"""Many queries against all videos at once: the scores of :func:`clamr_cli.search.search` in one pass of the vectors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.search import scoring as maxsim
from clamr_cli.search.ranking import View, apply, video_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from clamr_cli.store import PackedVectors
    from clamr_cli.types import Scoring, TokenVectors

_TOKENS_AT_ONCE: Final = 256
"""Query tokens multiplied together: bounds the similarities with a chunk of vectors to 64 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoScores:
    """How well every video answers every query, by its best moment.

    Attributes:
        video_ids: [v], ascending.
        joint: [q, v] float32 over all modalities, minus infinity where nothing of a video can answer.
        alone: [q, v, SLOTS] float32 over one modality each, as a search in that modality gives; column 0 is empty.
        winners: [q, v] uint8, the modality with the highest score of its own in the moment that won ``joint``; 0 none.
    """

    video_ids: tuple[str, ...]
    joint: NDArray[np.float32]
    alone: NDArray[np.float32]
    winners: NDArray[np.uint8]


def score_videos(
    batches: Iterable[PackedVectors], queries: Sequence[TokenVectors], video_ids: Iterable[str], scoring: Scoring
) -> VideoScores:
    """Score all videos for all queries.

    Args:
        batches: vectors of moments, as :meth:`Store.scan_packed` gives them; read once.
        queries: the queries' vectors, of the same encoder.
        video_ids: the videos that may answer; moments of others are passed over.
        scoring: of ``joint``.
    """
    ids = tuple(sorted(set(video_ids)))
    place = {video_id: number for number, video_id in enumerate(ids)}
    shape = (len(queries), len(ids))
    scores = VideoScores(
        ids,
        np.full(shape, -np.inf, np.float32),
        np.full((*shape, maxsim.SLOTS), -np.inf, np.float32),
        np.zeros(shape, np.uint8),
    )
    view = View(scoring, np.ones(maxsim.SLOTS, np.float32))
    for batch in batches:
        columns = [place.get(video_of(moment_id), -1) for moment_id in batch.moment_ids]
        for first, last in _groups(queries):
            _add(scores, _maxima(queries[first:last], batch), np.array(columns), first, view)
    return scores


def _groups(queries: Sequence[TokenVectors]) -> list[tuple[int, int]]:
    """Borders of runs of queries that have few enough tokens together, one query at least."""
    groups: list[tuple[int, int]] = []
    tokens = 0
    for number, query in enumerate(queries):
        tokens += len(query)
        if groups and tokens <= _TOKENS_AT_ONCE:
            groups[-1] = (groups[-1][0], number + 1)
        else:
            groups.append((number, number + 1))
            tokens = len(query)
    return groups


def _maxima(queries: Sequence[TokenVectors], batch: PackedVectors) -> list[maxsim.Float32]:
    """[tokens, moments, SLOTS] of each query."""
    stacked = np.concatenate([np.asarray(query.vectors, np.float32) for query in queries])
    maxima = maxsim.score_packed(stacked, batch.vectors, batch.modality_ids, batch.indptr)
    ends = list(accumulate(len(query) for query in queries))
    return [maxima[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _add(
    scores: VideoScores, maxima: Sequence[maxsim.Float32], columns: NDArray[np.int64], first: int, view: View
) -> None:
    """Take the moments of a batch into account; ``columns`` [moments] says of which video each is, -1 of none."""
    known = np.flatnonzero(columns >= 0)
    for query, one in enumerate(maxima, first):
        joint, alone = apply(one, view), maxsim.per_modality(one)
        winners = np.where(np.isfinite(alone).any(axis=1), alone.argmax(axis=1), 0)
        np.maximum.at(scores.alone[query], columns[known], alone[known])
        better = known[joint[known] > scores.joint[query, columns[known]]]
        # Of several values for one place the last is kept, so the best moment of a video comes last.
        better = better[np.argsort(joint[better], kind="stable")]
        scores.joint[query, columns[better]] = joint[better]
        scores.winners[query, columns[better]] = winners[better]
