"""A query against the index: which moments may answer, exact MaxSim over all of their vectors, and why the best won.

Every stored vector of the encoder counts: no approximate index stands between a query and its answer. Packed vectors
rule out what cannot be among the first (:mod:`clamr_cli.search.cascade`); what can is scored from the stored vectors.
Memory depends on the number of moments, not on the number of vectors.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from clamr_cli.errors import UsageError
from clamr_cli.media.presence import readable
from clamr_cli.search import approximate, phrases
from clamr_cli.search import evidence as reasons
from clamr_cli.search import scoring as maxsim
from clamr_cli.search.exact import ranked, standings
from clamr_cli.search.filters import select
from clamr_cli.search.ranking import View, require_vectors, video_of
from clamr_cli.types import (
    MODALITY_IDS,
    SHOWN_MODALITIES,
    TEXT_MODALITIES,
    Explanation,
    FileState,
    Hit,
    Modality,
    Timeline,
    TimelineEntry,
    WhatIf,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.search.cascade import Place
    from clamr_cli.store import Store
    from clamr_cli.types import Encoder, EncoderInfo, FileRecord, MomentRecord, SearchOptions, TokenVectors

__all__ = ["explain", "offline", "search", "timeline"]


@dataclass(frozen=True, slots=True)
class _Question:
    """A query made ready: its vectors, what may answer, and how matches are weighted.

    ``text`` has no quotation marks; ``moments`` are those with the quoted phrases, None where there were none.
    """

    text: str
    tokens: TokenVectors
    encoder: EncoderInfo
    options: SearchOptions
    videos: frozenset[str]
    weights: maxsim.Float32
    moments: frozenset[str] | None = None


def search(store: Store, encoder: Encoder, query: str, options: SearchOptions, *, device: str = "cpu") -> list[Hit]:
    """The best videos for a query with their best moment, or the best moments.

    Args:
        store: the index.
        encoder: encodes the query; the moments it encoded are searched.
        query: what to look for.
        options: filters, modalities, weights, scoring and how many.
        device: "cuda" to compare vectors there; anything else is this machine's processor.

    Returns:
        At most ``options.limit`` hits, best first, ties in the order of their ids. A hit's scores are weighted, the
        similarities of its evidence are plain cosines.

    Raises:
        UsageError: the query is empty, or an option cannot be used.
        EncoderMismatch: the index has no vectors of this encoder.
        StoreError: the index cannot be read.
    """
    question = _ask(store, encoder, query, options)
    if question is None:
        return []
    fingerprint = question.encoder.fingerprint
    partial = question.moments is None and approximate.called_for(store, fingerprint, question.videos, options)
    moments = question.moments
    if partial:
        moments = approximate.candidates(store, fingerprint, question.tokens, question.text, options)
    scores = ranked(
        store, question.encoder, question.tokens, question.videos, _view(question),
        limit=options.limit, of_each_video=not options.moments, moments=moments, device=device,
    )  # fmt: skip
    ranking = scores.ranking() if options.moments else scores.best_of_each_video()
    hits = [hit for hit, _ in _hits(store, question, list(islice(ranking, options.limit)))]
    return [replace(hit, approximate=True) for hit in hits] if partial else hits


def explain(store: Store, encoder: Encoder, video_id: str, query: str, options: SearchOptions) -> Explanation:
    """Why a video ranks where it does: evidence per query word and modality, shares, its rank without each modality.

    Args:
        store: the index.
        encoder: encodes the query.
        video_id: the id of a video of the index, in full.
        query: what was looked for.
        options: of that search; how many it returned and whether by moment does not matter.

    Raises:
        UsageError: there is no such video, the search's options leave it out, or the query is empty.
        EncoderMismatch: the index has no vectors of this encoder.
        StoreError: the index cannot be read.
    """
    store.video(video_id)
    question = _ask(store, encoder, query, options)
    if question is None or video_id not in question.videos:
        raise UsageError(f"the filters of the search leave out video {video_id}", "give --query without filters")
    removable = [m for m in Modality if question.weights[MODALITY_IDS[m]] > 0]
    views = [_view(question), *(_view(question, removed) for removed in removable)]
    standing = standings(store, question.encoder, question.tokens, question.videos, views, video_id, question.moments)
    placed = standing.places[0]
    if placed is None:
        if question.moments is not None and video_id not in map(video_of, question.moments):
            raise UsageError(
                f"no moment of video {video_id} has the words in quotation marks", "give --query without the marks"
            )
        raise UsageError(
            f"nothing of video {video_id} can answer: it was not encoded by {question.encoder.name}, or has none of "
            "the modalities asked for",
            f"clamr index --encoder {question.encoder.name}",
        )
    found = _hits(store, question, [(placed.moment_id, placed.score)])
    if not found:
        raise UsageError(f"video {video_id} was changed meanwhile", "run the command again")
    hit, aligned = found[0]
    told = {*SHOWN_MODALITIES, *aligned.alignment.by_modality}
    return Explanation(
        query=query,
        hit=replace(hit, rank=placed.rank),
        total=standing.total,
        words=reasons.word_evidence(aligned),
        shares=reasons.shares(aligned, options.scoring),
        what_if=tuple(
            _what_if(without, modality)
            for without, modality in zip(standing.places[1:], removable, strict=True)
            if modality in told
        ),
    )


def timeline(store: Store, video_id: str) -> Timeline:
    """All the index knows of a video, in time order; what stands in several moments alike is named once.

    Raises:
        UsageError: the index has no such video.
        StoreError: the index cannot be read.
    """
    video = store.video(video_id)
    moments = store.moments([video_id])
    entries = dict.fromkeys(entry for moment in moments for entry in _entries(moment))
    order = (Modality.METADATA, Modality.VIDEO, Modality.SPEECH, Modality.OCR)
    files = tuple(store.files([video_id]))
    return Timeline(
        video,
        files,
        tuple(moment.span for moment in moments),
        tuple(sorted(entries, key=lambda entry: (entry.span, order.index(entry.modality)))),
        offline(files),
    )


def offline(files: Sequence[FileRecord]) -> frozenset[str]:
    """The paths of those indexed files that cannot be opened now: their disk is away, or they cannot be read."""
    indexed = [file for file in files if file.state is FileState.INDEXED]
    return frozenset(file.path for file in indexed) - readable(indexed)


def _entries(moment: MomentRecord) -> list[TimelineEntry]:
    frames = [TimelineEntry(Modality.VIDEO, span, "") for span in moment.frame_spans]
    texts = [
        TimelineEntry(modality, segment.span, segment.text, segment.source)
        for modality in TEXT_MODALITIES
        for segment in reasons.segments_of(moment, modality)
    ]
    return frames + texts


def _ask(store: Store, encoder: Encoder, query: str, options: SearchOptions) -> _Question | None:
    """Make a query ready, cheap checks first: encoding may load a model. None where no video may answer."""
    text, quoted = phrases.split(query)
    if not text:
        raise UsageError("the query is empty", 'write what to look for, e.g. clamr search "a dog on a beach"')
    weights = _weights(options)
    videos = select(store, options.filters)
    if not videos:
        return None
    require_vectors(store, encoder.info)
    moments = phrases.holders(store, quoted, videos) if quoted else None
    tokens = encoder.encode_queries([text])[0]
    return _Question(text, tokens, encoder.info, options, frozenset(videos), weights, moments)


def _weights(options: SearchOptions) -> maxsim.Float32:
    if options.limit < 1:
        raise UsageError(f"--limit {options.limit} would show nothing", "give 1 or more")
    for modality, weight in options.weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"invalid --weight: {modality}={weight:g}", "give a number from 0 on")
    weights = maxsim.slot_weights(options.weights, frozenset(options.modalities) or None)
    # Sound itself is a modality of few encoders: it is left to search in only where somebody names it.
    named = {*SHOWN_MODALITIES, *options.modalities, *options.weights}
    if not any(weights[MODALITY_IDS[modality]] > 0 for modality in named):
        raise UsageError("the modalities and weights leave nothing to search in", "give one a weight above 0")
    return weights


def _view(question: _Question, without: Modality | None = None) -> View:
    weights = question.weights.copy()
    if without is not None:
        weights[MODALITY_IDS[without]] = 0.0
    return View(question.options.scoring, weights)


def _what_if(placed: Place | None, without: Modality) -> WhatIf:
    return WhatIf(without, None, None) if placed is None else WhatIf(without, placed.score, placed.rank)


def _hits(store: Store, question: _Question, chosen: Sequence[tuple[str, float]]) -> list[tuple[Hit, reasons.Match]]:
    """Hits with their evidence. A moment that another process took away meanwhile is left out."""
    ids = list(dict.fromkeys(video_of(moment_id) for moment_id, _ in chosen))
    videos = {video.video_id: video for video in store.videos(ids)} if ids else {}
    moments = {moment.moment_id: moment for moment in store.moments(ids)} if ids else {}
    vectors = dict(store.scan_vectors(question.encoder.fingerprint, [m for m, _ in chosen])) if ids else {}
    paths = _paths(store, ids)
    found: list[tuple[Hit, reasons.Match]] = []
    for moment_id, score in chosen:
        video, moment, document = videos.get(video_of(moment_id)), moments.get(moment_id), vectors.get(moment_id)
        if video is None or moment is None or document is None:
            continue
        aligned = reasons.match(question.text, question.tokens, moment, document, question.weights)
        alone = reasons.modality_scores(aligned)
        winner = max(alone, key=lambda modality: alone[modality], default=None)
        hit = Hit(
            rank=len(found) + 1,
            video_id=video.video_id,
            moment_id=moment_id,
            path=paths.get(video.video_id, ("", False))[0],
            title=video.fields.title,
            score=score,
            span=moment.span,
            at=reasons.strongest_time(aligned, winner, question.encoder.floors),
            modality=winner,
            modalities={modality: alone.get(modality) for modality in SHOWN_MODALITIES},
            evidence=reasons.evidence(aligned),
            weak=score < _floor(question, winner) * len(question.tokens),
            offline=video.video_id in paths and not paths[video.video_id][1],
        )
        found.append((hit, aligned))
    return found


def _floor(question: _Question, winner: Modality | None) -> float:
    """The score per query vector below which a hit that this modality won is weak."""
    options = question.options
    if options.floor is not None:
        return options.floor
    plain = not options.weights and not options.modalities and options.scoring == "token-max"
    own = question.encoder.floors.get(winner) if plain and winner is not None else None
    return -math.inf if own is None else own


def _paths(store: Store, video_ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Of the paths of each video the one to show, rather there than not, rather indexed; and whether it is there."""
    files = store.files(video_ids) if video_ids else []
    there = readable(files)
    by_video: defaultdict[str, list[FileRecord]] = defaultdict(list)
    for file in files:
        by_video[file.video_id].append(file)
    best = (
        min(some, key=lambda file: (file.path not in there, file.state is not FileState.INDEXED, file.path))
        for some in by_video.values()
    )
    return {file.video_id: (file.path, file.path in there) for file in best}
