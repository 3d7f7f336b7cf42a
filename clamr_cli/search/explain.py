"""Reasons: of a video's rank for a query, of an empty answer; and what the index knows of a video along its time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Final

from clamr_cli.errors import UsageError
from clamr_cli.files import readable_now
from clamr_cli.search.cascade import Candidates, Cascade, VideoRank, kernel_scan, video_of
from clamr_cli.search.search import (
    Example,
    Query,
    hits_of,
    literal_moments,
    moments_with,
    select,
    select_candidates,
    without_corrupt_cache,
    without_negated,
)
from clamr_cli.store import Store
from clamr_cli.text import format_time, plural
from clamr_cli.types import (
    MODALITY_IDS,
    SHOWN_MODALITIES,
    SPEAKER_SOURCE,
    TEXT_MODALITIES,
    Encoder,
    Explanation,
    FileRecord,
    FileState,
    Filters,
    Modality,
    SearchOptions,
    Timeline,
    TimelineEntry,
    WhatIf,
)

_LANGUAGES: Final = 5
"""Languages of the index that are named, those of most videos."""


def explain(
    store: Store,
    encoder: Encoder,
    video_id: str,
    text: str,
    options: SearchOptions,
    example: Example | None = None,
    *,
    moment_id: str | None = None,
) -> Explanation:
    """Explanation of a video's rank: evidence per query word and modality, shares, its rank without each modality.

    Args:
        store: the index.
        encoder: encodes the query.
        video_id: the id of a video of the index, in full.
        text: what was looked for.
        options: of that search; how many it returned and whether by moment does not matter.
        example: of that search.
        moment_id: the moment of the video whose evidence is wanted, the best one where None; the ranks are the video's.

    Raises:
        UsageError: there is no such video, the search's options leave it out, or the query is empty.
        EncoderMismatch: the index has no vectors of this encoder.
        StoreError: the index cannot be read.
    """
    store.video(video_id)
    query = Query.of(store, text, encoder, options, example)
    candidates = select_candidates(store, query)
    if candidates is None or video_id not in (candidates.videos or ()):
        raise UsageError(f"the filters of the search leave out video {video_id}", "give --query without filters")
    candidates = without_negated(store, query, candidates)
    removable = [modality for modality in Modality if query.rule.weights[MODALITY_IDS[modality]] > 0]
    rules = [query.rule]
    for modality in removable:
        weights = query.rule.weights.copy()
        weights[MODALITY_IDS[modality]] = 0.0
        rules.append(replace(query.rule, weights=weights))

    first = literal_moments(store, query.text, query.tokens) if example is None else ()

    def ranks(candidates: Candidates) -> tuple[list[VideoRank | None], int]:
        cascade = Cascade(candidates, query.vectors, rules, kernel_scan(query.vectors), first)
        return [cascade.rank_of(video_id, rule) for rule in range(len(rules))], cascade.videos_ranked()

    (own, *without), total = without_corrupt_cache(store, query, candidates, ranks)
    if own is None:
        if candidates.moments is not None and video_id not in map(video_of, candidates.moments):
            raise UsageError(
                f"no moment of video {video_id} has the words in quotation marks", "give --query without the marks"
            )
        if video_id in map(video_of, candidates.without):
            what = "example" if example and video_id in map(video_of, example.own) else "negation"
            raise UsageError(f"the {what} of the search leaves out video {video_id}", "give --query without it")
        raise UsageError(
            f"nothing of video {video_id} can answer: it was not encoded by {encoder.info.name}, or has none of the "
            "modalities asked for",
            f"clamr index --encoder {encoder.info.name}",
        )
    shown = own
    if moment_id is not None and moment_id != own.moment_id:
        if candidates.moments is not None and moment_id not in candidates.moments:
            raise UsageError(f"moment {moment_id} has not the words in quotation marks", "explain it without the marks")
        alone = Candidates(candidates.snapshot, candidates.videos, frozenset((moment_id,)), candidates.without)
        (of_moment, *_), _ = without_corrupt_cache(store, query, alone, ranks)
        if of_moment is None:
            raise UsageError(f"nothing of moment {moment_id} can answer", "explain another one")
        shown = of_moment
    hits = hits_of(store, query, [(shown.moment_id, shown.score)])
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


def why_nothing(store: Store, encoder: Encoder, text: str, options: SearchOptions) -> str:
    """The reason why a search of an index with videos found nothing, in words; empty where none is known.

    Args:
        store: the index.
        encoder: encoded the query.
        text: what was looked for.
        options: of that search.
    """
    query, total = Query.of(store, text, encoder, options), len(store.catalog())
    videos = frozenset(select(store, options.filters))
    if not videos:
        return _why_none_passes(store, options.filters, total)
    those = f"the {plural(total, 'video')}"
    if len(videos) < total:
        those = f"the {len(videos)} of {plural(total, 'video')} that the filters leave"
    if query.phrases and not moments_with(store, query.phrases, videos):
        absent = [phrase for phrase in query.phrases if not moments_with(store, [phrase], videos)]
        named = " and ".join(f'"{phrase}"' for phrase in absent or query.phrases)
        return f"{named} {'stand' if len(absent or query.phrases) > 1 else 'stands'} in no moment of {those}" + (
            "" if absent else " together"
        )
    if options.offset:
        return f"there are not more than {plural(options.offset, 'result')}: give a smaller --offset"
    if options.without:
        named = ", ".join(f"--not {text}" for text in options.without)
        return f"{named} leaves 0 of the moments of {those}"
    if not videos & store.videos_encoded(encoder.info.fingerprint):
        return f"none of {those} has been encoded by {encoder.info.name}: clamr index --encoder {encoder.info.name}"
    if options.modalities:
        return f"none of {those} has {' or '.join(options.modalities)}"
    return ""


def _why_none_passes(store: Store, filters: Filters, total: int) -> str:
    """The filters that leave no video, each by itself and why."""
    parts = []
    for name in (field.name for field in fields(Filters) if getattr(filters, field.name)):
        value = getattr(filters, name)
        left = select(store, replace(Filters(), **{name: value}))
        shown = (
            format_time(value)
            if name in ("longer", "shorter")
            else ", ".join(value)
            if name in ("videos", "tags", "speakers")
            else value
        )
        part = f"--{name.removesuffix('s') if name in ('tags', 'speakers') else name} {shown} leaves {len(left)}"
        catalog = store.catalog()
        if name in ("since", "until") and (undated := sum(not facts.date for facts in catalog)):
            part += f" ({undated} without a date)"
        if name == "language" and not left:
            codes = Counter(facts.language or "unknown" for facts in catalog)
            part += f" (there are {', '.join(f'{code}: {count}' for code, count in codes.most_common(_LANGUAGES))})"
        parts.append(part)
    return f"{', '.join(parts)} of {plural(total, 'video')}{', together 0' if len(parts) > 1 else ''}"


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
            for part in moment.segments(modality):
                # The names of speakers stand at their lines.
                if part.source != SPEAKER_SOURCE:
                    entries[TimelineEntry(modality, part.span, part.text, part.source, part.speaker)] = None
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
