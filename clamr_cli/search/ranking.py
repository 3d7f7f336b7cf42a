"""Exact scores of all moments that may answer, several ways of scoring at once, and who comes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import EncoderMismatch
from clamr_cli.search import scoring as maxsim
from clamr_cli.store.records import moment_order

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from clamr_cli.store import PackedVectors, Store
    from clamr_cli.types import EncoderInfo, FloatArray, Scoring, TokenVectors

_DIGITS: Final = 5
"""Scores equal to this many digits are ties: the last bits depend on how the vectors lay in memory."""

TIE: Final = 10.0**-_DIGITS
"""Scores further apart than this are no ties."""


@dataclass(frozen=True, slots=True)
class View:
    """A way of scoring: the rule, and the factors of :func:`maxsim.slot_weights`."""

    scoring: Scoring
    weights: maxsim.Float32


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The scores of moments: ``moment_ids`` [m], ``values`` [m, views] float32 without NaN."""

    moment_ids: list[str]
    values: NDArray[np.float32]

    def ranking(self, view: int = 0) -> Iterator[tuple[str, float]]:
        """Moments and scores from the best on. Ties are in the order of their ids, unscored moments left out."""
        rounded = np.round(self.values[:, view], _DIGITS)
        best = order(rounded)
        borders = np.flatnonzero(np.diff(rounded[best])) + 1
        for tied in np.split(best, borders):
            for index in sorted(tied.tolist(), key=lambda index: moment_order(self.moment_ids[index])):
                yield self.moment_ids[index], float(self.values[index, view])

    def best_of_each_video(self, view: int = 0) -> Iterator[tuple[str, float]]:
        """Like :meth:`ranking`, only the first moment of each video."""
        seen: set[str] = set()
        for moment_id, score in self.ranking(view):
            if (video_id := video_of(moment_id)) not in seen:
                seen.add(video_id)
                yield moment_id, score


def order(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Places of scores [n] from the best on, ties in the order they stand in, minus infinity left out."""
    rounded = np.round(values, _DIGITS)
    best = np.argsort(-rounded, kind="stable")
    return best[np.isfinite(rounded[best])]


def video_of(moment_id: str) -> str:
    """The video a moment is of."""
    return moment_id.partition("#")[0]


def require_vectors(store: Store, encoder: EncoderInfo) -> None:
    """Refuse to search with an encoder that the index has no vectors of.

    Raises:
        EncoderMismatch: what the index has instead, and what to do.
    """
    if store.has_vectors(encoder.fingerprint):
        return
    uses = store.encoders()
    others = ", ".join(f"{use.info.name} ({use.info.fingerprint[:8]}, {use.moments} moments)" for use in uses)
    same = any(use.info.name == encoder.name for use in uses)
    of = f"this version of encoder {encoder.name}" if same else f"encoder {encoder.name}"
    raise EncoderMismatch(
        f"the index has no vectors of {of}; it has those of: {others or 'none'}",
        f"clamr index --encoder {encoder.name}",
    )


def score_all(
    store: Store,
    encoder: EncoderInfo,
    query: TokenVectors,
    videos: Collection[str],
    views: Sequence[View],
    moments: Collection[str] | None = None,
) -> Scores:
    """Score every moment of the given videos.

    Args:
        store: the index.
        encoder: who made the query's vectors; only moments it encoded are scored.
        query: the query's vectors.
        videos: ids of the videos that may answer.
        views: ways of scoring; the vectors are read and multiplied once for all of them.
        moments: the only moments that may answer, all of the videos' where None.
    """
    allowed = frozenset(videos)
    moment_ids: list[str] = []
    parts: list[NDArray[np.float32]] = [np.zeros((0, len(views)), np.float32)]
    for batch in store.scan_packed(encoder.fingerprint, moments):
        names, values = scored(batch, query.vectors, views, allowed, moments)
        moment_ids += names
        parts.append(values)
    return Scores(moment_ids, np.concatenate(parts))


def scored(
    batch: PackedVectors,
    query: FloatArray,
    views: Sequence[View],
    videos: Collection[str] | None,
    moments: Collection[str] | None,
) -> tuple[list[str], maxsim.Float32]:
    """The moments of a batch that may answer, and their exact scores [m, views]. None allows all."""
    keep = np.array(
        [
            (videos is None or video_of(moment_id) in videos) and (moments is None or moment_id in moments)
            for moment_id in batch.moment_ids
        ],
        np.bool_,
    )
    if not keep.any():
        return [], np.zeros((0, len(views)), np.float32)
    maxima = maxsim.score_packed(query, batch.vectors, batch.modality_ids, batch.indptr)[:, keep]
    names = [moment_id for moment_id, kept in zip(batch.moment_ids, keep.tolist(), strict=True) if kept]
    return names, np.stack([apply(maxima, view) for view in views], axis=1)


def apply(maxima: maxsim.Float32, view: View) -> maxsim.Float32:
    """Scores of documents [d] from their maxima [q, d, SLOTS], the way a view has it."""
    rule = maxsim.token_max if view.scoring == "token-max" else maxsim.modality_max
    return rule(maxsim.weighted(maxima, view.weights))
