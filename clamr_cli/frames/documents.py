"""The document of a candidate frame: its picture with the speech around it and the text on screen then. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from clamr_cli.frames.values import Texts
from clamr_cli.index.documents import cut_to, piece_of
from clamr_cli.types import Document, Frame, MomentRecord, Segment, Span

_LONG: Final = 20.0
"""Seconds from which a segment of speech is rather a paragraph than a sentence."""


class Track:
    """Segments that can be looked up by time."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = sorted(segments, key=lambda segment: segment.span)
        self._starts = [segment.span.start for segment in self._segments]
        self._longest = max((segment.span.duration for segment in segments), default=0.0)

    def within(self, span: Span) -> tuple[Segment, ...]:
        """The segments that overlap a span, in order."""
        first = bisect.bisect_left(self._starts, span.start - self._longest)
        last = bisect.bisect_right(self._starts, span.end)
        return tuple(segment for segment in self._segments[first:last] if segment.span.overlaps(span))


class Surroundings:
    """Speech and text around any moment of a video.

    Args:
        texts: of the video.
        context: seconds before and after a stretch whose speech belongs to it.
    """

    def __init__(self, texts: Texts, context: float) -> None:
        self._speech, self._ocr, self._chapters = map(Track, (texts.speech, texts.ocr, texts.chapters))
        self._context = context

    def of(self, span: Span) -> Texts:
        """The speech in and around a span, and the on-screen text and the chapters of the span itself.

        Of a long stretch of speech whose words' times are known, the words in reach are taken. Other segments are taken
        whole, since half a sentence says something else.
        """
        wide = Span(span.start - self._context, span.end + self._context)
        speech: list[Segment] = []
        for segment in self._speech.within(wide):
            words = [word for word in segment.words if word.span.overlaps(wide)]
            if not segment.words or segment.span.duration <= _LONG or len(words) == len(segment.words):
                speech.append(segment)
            elif words:
                speech.append(piece_of(segment, words))
        ocr, chapters = (tuple(cut_to(track.within(span), span)) for track in (self._ocr, self._chapters))
        return Texts(tuple(speech), ocr, chapters)

    def document(self, video_id: str, number: int, frame: Frame) -> Document:
        """The document of a candidate."""
        near = self.of(frame.span)
        return Document(f"{video_id}#{number}", frame.span, (frame,), near.speech, near.ocr, near.chapters)

    def record(self, video_id: str, number: int, frame: Frame) -> MomentRecord:
        """The same without the picture: what evidence is made of."""
        near, name, span = self.of(frame.span), f"{video_id}#{number}", frame.span
        return MomentRecord(name, video_id, span, (frame.time,), (span,), near.speech, near.ocr, near.chapters)


def joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments of several moments as they were before these were cut: equal texts that touch become one.

    Args:
        segments: in any order; of moments that tile the time line.
    """
    whole: list[Segment] = []
    last: dict[tuple[str, str], int] = {}
    for segment in sorted(segments, key=lambda segment: segment.span):
        place = last.get((segment.text, segment.source))
        if place is not None and not segment.words and whole[place].span.end >= segment.span.start:
            end = max(whole[place].span.end, segment.span.end)
            whole[place] = replace(whole[place], span=Span(whole[place].span.start, end))
        else:
            last[segment.text, segment.source] = len(whole)
            whole.append(segment)
    return tuple(whole)
