"""A query against the index: which moments may answer, exact MaxSim over all of their vectors, and why the best won.

Every stored vector of the encoder counts: no approximate index stands between a query and its answer, unless the
library is too large. The scan cache rules out what cannot be among the first (:mod:`clamr_cli.search.cascade`); what
can is scored from the stored vectors. Memory depends on the number of moments, not on the number of vectors.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeVar

import numpy as np

from clamr_cli.errors import EncoderMismatch, UsageError
from clamr_cli.files import readable_now
from clamr_cli.kernel import usable_threads
from clamr_cli.search.cascade import Candidates, Cascade, Scan, kernel_scan
from clamr_cli.search.evidence import Match
from clamr_cli.search.filters import moments_with, select, split_phrases
from clamr_cli.search.scoring import Float32, ScoringRule, slot_weights, video_of
from clamr_cli.store import CorruptCache, Store
from clamr_cli.types import (
    SHOWN_MODALITIES,
    Encoder,
    EncoderInfo,
    FileRecord,
    FileState,
    Hit,
    SearchOptions,
    TokenVectors,
)

Result = TypeVar("Result")

LEAST_CANDIDATES: Final = 100
"""Moments that an approximate index is asked for at least, and moments by their texts at most."""

_CANDIDATES_PER_HIT: Final = 10


@dataclass(frozen=True)
class Query:
    """A query: its words and quoted phrases, its vectors, and how to match them.

    Attributes:
        text: without quotation marks.
        phrases: those that were in quotation marks, each of which must stand in a moment.
        encoder: encodes the text; the moments it encoded are searched.
        options: filters, modalities, weights, scoring and how many.
    """

    text: str
    phrases: tuple[str, ...]
    encoder: Encoder
    options: SearchOptions

    @classmethod
    def of(cls, text: str, encoder: Encoder, options: SearchOptions) -> Query:
        """A query as it was written.

        Raises:
            UsageError: it is empty.
        """
        plain, phrases = split_phrases(text)
        if not plain:
            raise UsageError("the query is empty", 'write what to look for, e.g. clamr search "a dog on a beach"')
        return cls(plain, phrases, encoder, options)

    @cached_property
    def tokens(self) -> TokenVectors:
        """Its vectors. Encoding may load a model, so this comes after all cheap checks."""
        return self.encoder.encode_queries([self.text])[0]

    @cached_property
    def vectors(self) -> Float32:
        """Its vectors [q, 128], as the kernel takes them."""
        return np.ascontiguousarray(self.tokens.vectors, np.float32)

    @cached_property
    def rule(self) -> ScoringRule:
        """Rule of scoring."""
        weights = slot_weights(self.options.weights, frozenset(self.options.modalities) or None)
        return ScoringRule(self.options.scoring, weights)


def search(store: Store, encoder: Encoder, text: str, options: SearchOptions, *, device: str = "cpu") -> list[Hit]:
    """The best videos for a query with their best moment, or the best moments.

    Args:
        store: the index.
        encoder: encodes the query; the moments it encoded are searched.
        text: what to look for.
        options: filters, modalities, weights, scoring and how many.
        device: "cuda" to compare vectors there; anything else is this machine's processor.

    Returns:
        At most ``options.limit`` hits, best first, ties in the order of their ids. A hit's scores are weighted, the
        similarities of its evidence are plain cosines.

    Raises:
        UsageError: the query is empty, or a filter cannot be used.
        ModelError: the device is not there.
        EncoderMismatch: the index has no vectors of this encoder.
        StoreError: the index cannot be read.
    """
    query = Query.of(text, encoder, options)
    candidates = select_candidates(store, query)
    if candidates is None:
        return []
    approximate = (
        not (options.exact or query.phrases)
        and candidates.vectors > options.scan_limit * usable_threads()
        and store.has_approximate_index()
    )
    if approximate:
        candidates = Candidates(candidates.snapshot, candidates.videos, nearest(store, query))
    scan = scan_on(device, query.vectors)

    def top(candidates: Candidates) -> list[tuple[str, float]]:
        cascade = Cascade(candidates, query.vectors, [query.rule], scan)
        return cascade.top(options.limit, of_each_video=not options.moments)

    ranking = without_corrupt_cache(store, query, candidates, top)
    return [replace(hit, approximate=approximate) for hit, _ in hits_of(store, query, ranking)]


def select_candidates(store: Store, query: Query) -> Candidates | None:
    """The moments that pass the filters and hold the phrases of a query; None where no video passes.

    Raises:
        UsageError: a filter cannot be used.
        EncoderMismatch: the index has no vectors of the query's encoder.
    """
    videos = frozenset(select(store, query.options.filters))
    if not videos:
        return None
    require_vectors(store, query.encoder.info)
    moments = moments_with(store, query.phrases, videos) if query.phrases else None
    return Candidates(store.snapshot(query.encoder.info.fingerprint), videos, moments)


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


def nearest(store: Store, query: Query) -> frozenset[str]:
    """Candidates in a library too large to compare with: by an index of LanceDB and, if hybrid, by words of texts.

    What the index says of a query of many vectors is not MaxSim, so it is asked for many times the moments that are
    shown, which LanceDB then compares by their vectors. A moment that it does not give is missed.
    """
    options = query.options
    limit = max(LEAST_CANDIDATES, options.limit * _CANDIDATES_PER_HIT)
    moments = store.nearest(query.encoder.info.fingerprint, query.tokens.vectors, limit)
    return frozenset(moments) | frozenset(store.matching_text(query.text, LEAST_CANDIDATES) if options.hybrid else ())


def scan_on(device: str, vectors: Float32) -> Scan:
    """The scan of the scan cache on a device, for a query's vectors."""
    if device != "cuda":
        return kernel_scan(vectors)
    from clamr_cli.search.device import torch_scan

    return torch_scan(vectors, device)


def without_corrupt_cache(
    store: Store, query: Query, candidates: Candidates, work: Callable[[Candidates], Result]
) -> Result:
    """The result of some work, done again without the scan cache where that is not what was written."""
    try:
        return work(candidates)
    except CorruptCache:
        snapshot = store.snapshot(query.encoder.info.fingerprint, use_cache=False)
        return work(Candidates(snapshot, candidates.videos, candidates.moments))


def hits_of(store: Store, query: Query, ranking: Sequence[tuple[str, float]]) -> list[tuple[Hit, Match]]:
    """Hits with their evidence. A moment that another process took away meanwhile is left out."""
    if not ranking:
        return []
    encoder, options = query.encoder.info, query.options
    ids = list(dict.fromkeys(video_of(moment_id) for moment_id, _ in ranking))
    videos = {video.video_id: video for video in store.videos(ids)}
    moments = {moment.moment_id: moment for moment in store.moments(ids)}
    vectors = dict(store.scan_vectors(encoder.fingerprint, [moment_id for moment_id, _ in ranking]))
    files = store.files(ids)
    there = readable_now(files)
    files_of: defaultdict[str, list[FileRecord]] = defaultdict(list)
    for file in files:
        files_of[file.video_id].append(file)
    # An encoder's own floors hold for scores over all modalities without weights only.
    plain = not options.weights and not options.modalities and options.scoring == "token-max"
    hits: list[tuple[Hit, Match]] = []
    for moment_id, score in ranking:
        video, moment, document = videos.get(video_of(moment_id)), moments.get(moment_id), vectors.get(moment_id)
        if video is None or moment is None or document is None:
            continue
        match = Match(query.text, query.tokens, moment, document, query.rule.weights)
        floor = options.floor
        if floor is None:
            floor = encoder.floors.get(match.winner, -math.inf) if plain and match.winner is not None else -math.inf
        # Of several paths one that is there goes first, then one that is indexed.
        best = min(
            files_of[video.video_id],
            key=lambda file: (file.path not in there, file.state is not FileState.INDEXED, file.path),
            default=None,
        )
        hit = Hit(
            rank=len(hits) + 1,
            video_id=video.video_id,
            moment_id=moment_id,
            path="" if best is None else best.path,
            title=video.fields.title,
            score=score,
            span=moment.span,
            at=match.strongest_time(encoder.floors),
            modality=match.winner,
            modalities={modality: match.scores.get(modality) for modality in SHOWN_MODALITIES},
            evidence=match.evidence(),
            weak=score < floor * len(query.tokens),
            offline=best is not None and best.path not in there,
        )
        hits.append((hit, match))
    return hits
