"""From what was extracted of a video to its documents: one per moment, each with at most ten frames and its own texts.

A document is what CLaMR encodes in one pass (section 3: frames, speech, on-screen text and metadata together). A video
longer than a window gives several, so that search answers with a time.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clamr_cli import timeline
from clamr_cli.types import MAX_FRAMES, Document, Frame, Segment, Span, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame that was kept of a video, and the number of the shot it belongs to."""

    frame: Frame
    number: int


@dataclass(frozen=True, slots=True)
class Material:
    """All that was extracted of one video; times in seconds, everything in time order."""

    duration: float
    shots: tuple[Shot, ...] = ()
    speech: tuple[Segment, ...] = ()
    ocr: tuple[Segment, ...] = ()
    metadata: tuple[Segment, ...] = ()


def documents(video_id: str, material: Material, *, window: float) -> list[Document]:
    """Cut a video into moments of at most ``window`` seconds and give each what belongs to it.

    Cuts fall into speech pauses or on shot changes where there are any. Speech belongs to the window in which
    it is said; text on screen to every window in which it can be seen; metadata to all, chapters to theirs. A video
    without anything to tell still gives its documents, with empty modalities.
    """
    spans = timeline.windows(
        material.duration,
        longest=window,
        pauses=timeline.pauses([segment.span for segment in material.speech], material.duration),
        cuts=[later.frame.span.start for earlier, later in pairs(material.shots) if later.number != earlier.number],
    )
    speech = share_out(material.speech, spans)
    return [
        Document(
            id=f"{video_id}#{number}",
            span=span,
            frames=tuple(frames_of(material.shots, span)),
            speech=tuple(speech[number]),
            ocr=tuple(cut_to(material.ocr, span)),
            metadata=tuple(cut_to(material.metadata, span)),
        )
        for number, span in enumerate(spans)
    ]


def pairs(items: Sequence[Shot]) -> Iterable[tuple[Shot, Shot]]:
    """Neighbours in order."""
    return itertools.pairwise(items)


def frames_of(shots: Sequence[Shot], span: Span, *, limit: int = MAX_FRAMES) -> list[Frame]:
    """At most ``limit`` frames that can be seen in ``span``, spread over its shots, with spans that tile it.

    Every shot gives a frame before any shot gives two; where there are more shots than frames the longest win, and
    where there is room the largest stretches without a frame are filled.
    """
    seen = [shot for shot in shots if shot.frame.span.overlaps(span)]
    chosen = choose(seen, span, limit)
    frames = [shot.frame for shot in chosen]
    borders = [span.start, *(max(frame.span.start, span.start) for frame in frames[1:]), span.end]
    return [
        replace(frame, span=Span(borders[place], max(borders[place], borders[place + 1])))
        for place, frame in enumerate(frames)
    ]


def choose(shots: Sequence[Shot], span: Span, limit: int) -> list[Shot]:
    """Which of the frames in ``span`` to keep, in time order."""
    if len(shots) <= limit:
        return list(shots)
    first_of: dict[int, Shot] = {}
    for shot in shots:
        best = first_of.get(shot.number)
        if best is None or shared(shot.frame.span, span) > shared(best.frame.span, span):
            first_of[shot.number] = shot
    by_length = sorted(first_of.values(), key=lambda shot: (-shot_length(shots, shot.number, span), shot.frame.time))
    chosen = by_length[:limit]
    rest = [shot for shot in shots if shot not in chosen]
    while len(chosen) < limit and rest:
        farthest = max(rest, key=lambda shot: min(abs(shot.frame.time - other.frame.time) for other in chosen))
        chosen.append(farthest)
        rest.remove(farthest)
    return sorted(chosen, key=lambda shot: shot.frame.time)


def shot_length(shots: Sequence[Shot], number: int, span: Span) -> float:
    """Seconds of ``span`` that a shot fills."""
    return sum(shared(shot.frame.span, span) for shot in shots if shot.number == number)


def shared(one: Span, other: Span) -> float:
    """Seconds that two spans share, never negative."""
    return max(0.0, min(one.end, other.end) - max(one.start, other.start))


def cut_to(segments: Sequence[Segment], span: Span) -> list[Segment]:
    """The segments that overlap a span, their times cut to it."""
    return [
        replace(segment, span=Span(max(segment.span.start, span.start), min(segment.span.end, span.end)))
        for segment in segments
        if segment.span.overlaps(span)
    ]


def share_out(segments: Sequence[Segment], spans: Sequence[Span]) -> list[list[Segment]]:
    """Give every segment to the span that holds its middle, or its words to theirs where it knows their times.

    Nothing is lost: what lies outside all spans goes to the nearest.
    """
    shares: list[list[Segment]] = [[] for _ in spans]
    for segment in segments:
        for place, piece in split_at(segment, spans):
            shares[place].append(piece)
    return shares


def split_at(segment: Segment, spans: Sequence[Span]) -> list[tuple[int, Segment]]:
    """A segment, or where it crosses borders and knows its words' times, its pieces with the spans they belong to."""
    if not segment.words or len(spans) == 1:
        return [(nearest(segment.span, spans), segment)]
    groups: dict[int, list[Word]] = {}
    for word in segment.words:
        groups.setdefault(nearest(word.span, spans), []).append(word)
    if len(groups) == 1:
        return [(next(iter(groups)), segment)]
    return [(place, piece_of(segment, words)) for place, words in sorted(groups.items())]


def piece_of(segment: Segment, words: Sequence[Word]) -> Segment:
    """The part of a segment that these neighbouring words make."""
    start, end = words[0].start, words[-1].end
    return replace(
        segment,
        text=segment.text[start:end],
        span=Span(words[0].span.start, words[-1].span.end),
        words=tuple(Word(word.start - start, word.end - start, word.span) for word in words),
    )


def nearest(span: Span, spans: Sequence[Span]) -> int:
    """The index of the span (of spans in order, side by side) that holds the middle, or lies closest to it."""
    middle = (span.start + span.end) / 2
    return max(0, bisect.bisect_right(spans, middle, key=lambda other: other.start) - 1)
