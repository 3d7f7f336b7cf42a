"""One video: why it ranks where it does for a query, and what the index knows of it along its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clamr_cli.errors import UsageError
from clamr_cli.files import readable_now
from clamr_cli.search.cascade import Candidates, Cascade, VideoRank, kernel_scan, video_of
from clamr_cli.search.search import Query, hits_of, select_candidates, without_corrupt_cache
from clamr_cli.store import Store
from clamr_cli.types import (
    MODALITY_IDS,
    SHOWN_MODALITIES,
    TEXT_MODALITIES,
    Encoder,
    Explanation,
    FileRecord,
    FileState,
    Modality,
    SearchOptions,
    Timeline,
    TimelineEntry,
    WhatIf,
)


def explain(store: Store, encoder: Encoder, video_id: str, text: str, options: SearchOptions) -> Explanation:
    """Explanation of a video's rank: evidence per query word and modality, shares, its rank without each modality.

    Args:
        store: the index.
        encoder: encodes the query.
        video_id: the id of a video of the index, in full.
        text: what was looked for.
        options: of that search; how many it returned and whether by moment does not matter.

    Raises:
        UsageError: there is no such video, the search's options leave it out, or the query is empty.
        EncoderMismatch: the index has no vectors of this encoder.
        StoreError: the index cannot be read.
    """
    store.video(video_id)
    query = Query.of(text, encoder, options)
    candidates = select_candidates(store, query)
    if candidates is None or video_id not in (candidates.videos or ()):
        raise UsageError(f"the filters of the search leave out video {video_id}", "give --query without filters")
    removable = [modality for modality in Modality if query.rule.weights[MODALITY_IDS[modality]] > 0]
    rules = [query.rule]
    for modality in removable:
        weights = query.rule.weights.copy()
        weights[MODALITY_IDS[modality]] = 0.0
        rules.append(replace(query.rule, weights=weights))

    def ranks(candidates: Candidates) -> tuple[list[VideoRank | None], int]:
        cascade = Cascade(candidates, query.vectors, rules, kernel_scan(query.vectors))
        return [cascade.rank_of(video_id, rule) for rule in range(len(rules))], cascade.videos_ranked()

    (own, *without), total = without_corrupt_cache(store, query, candidates, ranks)
    if own is None:
        if candidates.moments is not None and video_id not in map(video_of, candidates.moments):
            raise UsageError(
                f"no moment of video {video_id} has the words in quotation marks", "give --query without the marks"
            )
        raise UsageError(
            f"nothing of video {video_id} can answer: it was not encoded by {encoder.info.name}, or has none of the "
            "modalities asked for",
            f"clamr index --encoder {encoder.info.name}",
        )
    hits = hits_of(store, query, [(own.moment_id, own.score)])
    if not hits:
        raise UsageError(f"video {video_id} was changed meanwhile", "run the command again")
    hit, match = hits[0]
    return Explanation(
        query=text,
        hit=replace(hit, rank=own.rank),
        total=total,
        words=match.word_evidence(),
        shares=match.shares(options.scoring),
        what_if=tuple(
            WhatIf(modality, None, None) if rank is None else WhatIf(modality, rank.score, rank.rank)
            for modality, rank in zip(removable, without, strict=True)
            if modality in {*SHOWN_MODALITIES, *match.scores}
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
    entries: dict[TimelineEntry, None] = {}
    for moment in moments:
        entries |= dict.fromkeys(TimelineEntry(Modality.VIDEO, span, "") for span in moment.frame_spans)
        for modality in TEXT_MODALITIES:
            for segment in moment.segments(modality):
                entries[TimelineEntry(modality, segment.span, segment.text, segment.source)] = None
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
    return frozenset(file.path for file in indexed) - readable_now(indexed)
