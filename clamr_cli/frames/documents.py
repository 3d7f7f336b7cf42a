"""The document of a candidate frame: its picture with the speech around it and the text on screen then. Pure."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from clamr_cli.frames.values import Texts
from clamr_cli.index.documents import cut_to, piece_of
from clamr_cli.types import Document, Frame, MomentRecord, Segment, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.frames.values import Candidate


_LONG: Final = 20.0
"""Seconds from which a segment of speech is rather a paragraph than a sentence."""


@dataclass(frozen=True, slots=True)
class Track:
    """Segments that can be looked up by time."""

    segments: tuple[Segment, ...]
    starts: tuple[float, ...]
    longest: float

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> Track:
        """A track of segments in any order."""
        ordered = tuple(sorted(segments, key=lambda segment: segment.span))
        longest = max((segment.span.duration for segment in ordered), default=0.0)
        return cls(ordered, tuple(segment.span.start for segment in ordered), longest)

    def within(self, span: Span) -> tuple[Segment, ...]:
        """The segments that overlap a span, in order."""
        first = bisect.bisect_left(self.starts, span.start - self.longest)
        last = bisect.bisect_right(self.starts, span.end)
        return tuple(segment for segment in self.segments[first:last] if segment.span.overlaps(span))


class Surroundings:
    """What is said and written around any moment of a video.

    Args:
        texts: of the video.
        context: seconds before and after a stretch whose speech belongs to it.
    """

    def __init__(self, texts: Texts, context: float) -> None:
        self._speech, self._ocr, self._chapters = map(Track.of, (texts.speech, texts.ocr, texts.chapters))
        self._context = context

    def of(self, span: Span) -> Texts:
        """The speech in and around a span, and the on-screen text and the chapters of the span itself.

        Of a long stretch of speech whose words' times are known, the words in reach are taken.
        """
        wide = Span(span.start - self._context, span.end + self._context)
        speech = (_reached(segment, wide) for segment in self._speech.within(wide))
        return Texts(
            tuple(piece for piece in speech if piece is not None),
            tuple(cut_to(self._ocr.within(span), span)),
            tuple(cut_to(self._chapters.within(span), span)),
        )

    def document(self, video_id: str, candidate: Candidate, jpeg: bytes) -> Document:
        """The document of a candidate."""
        near = self.of(candidate.span)
        frames = (Frame(candidate.time, candidate.span, jpeg),)
        return Document(_name(video_id, candidate), candidate.span, frames, near.speech, near.ocr, near.chapters)

    def record(self, video_id: str, candidate: Candidate) -> MomentRecord:
        """The same without the picture: what evidence is told from."""
        near = self.of(candidate.span)
        name, times, spans = _name(video_id, candidate), (candidate.time,), (candidate.span,)
        return MomentRecord(name, video_id, candidate.span, times, spans, near.speech, near.ocr, near.chapters)


def _name(video_id: str, candidate: Candidate) -> str:
    return f"{video_id}#{candidate.number}"


def _reached(segment: Segment, span: Span) -> Segment | None:
    """A segment that reaches into a span: whole, since half a sentence says something else, unless it is long."""
    if not segment.words or segment.span.duration <= _LONG:
        return segment
    words = [word for word in segment.words if word.span.overlaps(span)]
    if len(words) == len(segment.words):
        return segment
    return piece_of(segment, words) if words else None


def joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments of several moments as they were before these were cut: equal texts that touch become one.

    Args:
        segments: in any order; of moments that tile the time line.
    """
    whole: list[Segment] = []
    last: dict[tuple[str, str], int] = {}
    for segment in sorted(segments, key=lambda one: one.span):
        place = last.get((segment.text, segment.source))
        if place is not None and not segment.words and whole[place].span.end >= segment.span.start:
            end = max(whole[place].span.end, segment.span.end)
            whole[place] = replace(whole[place], span=Span(whole[place].span.start, end))
        else:
            last[segment.text, segment.source] = len(whole)
            whole.append(segment)
    return tuple(whole)
