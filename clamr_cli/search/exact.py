"""Exact rankings and places, by the cascade where the packed vectors are good and by scoring everything where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.search import cascade
from clamr_cli.search.bounds import CpuScanner
from clamr_cli.search.cascade import Place, Pool
from clamr_cli.search.ranking import score_all, video_of
from clamr_cli.store import CorruptCache

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from clamr_cli.search import scoring as maxsim
    from clamr_cli.search.bounds import Scanner
    from clamr_cli.search.ranking import Scores, View
    from clamr_cli.store import Store
    from clamr_cli.types import EncoderInfo, TokenVectors


CPU: Final = "cpu"
CUDA: Final = "cuda"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a video stands in each of some views, None where it is not ranked, among ``total`` videos in the first."""

    places: tuple[Place | None, ...]
    total: int


def ranked(
    store: Store,
    encoder: EncoderInfo,
    query: TokenVectors,
    videos: Collection[str],
    view: View,
    *,
    limit: int,
    of_each_video: bool,
    moments: Collection[str] | None = None,
    device: str = CPU,
) -> Scores:
    """Exact scores of at least those moments that are among the first ``limit`` of the ranking.

    Args:
        store: the index.
        encoder: who made the query's vectors; only moments it encoded are ranked.
        query: the query's vectors.
        videos: ids of the videos that may answer.
        view: the way of scoring.
        limit: how many moments, or videos, are wanted.
        of_each_video: whether only the first moment of each video counts.
        moments: the only moments that may answer, all of the videos' where None.
        device: where the scan runs: "cuda", or the kernel for anything else.
    """
    try:
        pool = _pool(store, encoder, query, videos, [view], moments, device)
        return cascade.best(pool, limit, of_each_video=of_each_video)
    except CorruptCache:
        return score_all(store, encoder, query, videos, [view], moments)


def standings(
    store: Store,
    encoder: EncoderInfo,
    query: TokenVectors,
    videos: Collection[str],
    views: Sequence[View],
    video_id: str,
    moments: Collection[str] | None = None,
) -> Standing:
    """Where a video stands among the given ones, in several views, by the given moments or all."""
    try:
        pool = _pool(store, encoder, query, videos, views, moments, CPU)
        places = tuple(cascade.place(pool, video_id, view) for view in range(len(views)))
        return Standing(places, cascade.videos_ranked(pool))
    except CorruptCache:
        scores = score_all(store, encoder, query, videos, views, moments)
    found = []
    for view in range(len(views)):
        ranking = enumerate(scores.best_of_each_video(view), 1)
        found.append(next((Place(rank, *pair) for rank, pair in ranking if video_of(pair[0]) == video_id), None))
    return Standing(tuple(found), sum(1 for _ in scores.best_of_each_video()))


def _pool(
    store: Store,
    encoder: EncoderInfo,
    query: TokenVectors,
    videos: Collection[str],
    views: Sequence[View],
    moments: Collection[str] | None,
    device: str,
) -> Pool:
    rows = np.ascontiguousarray(query.vectors, np.float32)
    snapshot = store.snapshot(encoder.fingerprint)
    return Pool.fill(snapshot, rows, frozenset(videos), views, _scanner(rows, device), moments)


def _scanner(rows: maxsim.Float32, device: str) -> Scanner:
    if device != CUDA:
        return CpuScanner(rows)
    from clamr_cli.search.device import TorchScanner

    return TorchScanner(rows, device)
