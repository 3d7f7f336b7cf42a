"""Text tracks: the segments of one modality joined into one string that still knows where every character came from."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.types import Segment


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stretch of a track's text came from.

    ``segment`` indexes the segments the track was joined from; ``start``/``end`` are character offsets into that
    segment's text; ``span`` is its time in seconds: of the words it touches where word times are known, else of the
    whole segment.
    """

    segment: int
    start: int
    end: int
    span: Span


@dataclass(frozen=True, slots=True)
class TextTrack:
    """Segments joined by a separator. Make one with :meth:`join`.

    Attributes:
        text: the joined text.
        segments: what was joined.
        starts: character offset in ``text`` of each segment's first character.
    """

    text: str
    segments: tuple[Segment, ...]
    starts: tuple[int, ...]

    @classmethod
    def join(cls, segments: Sequence[Segment], separator: str = "\n") -> TextTrack:
        """Join the texts of the segments in order."""
        starts: list[int] = []
        position = 0
        for segment in segments:
            starts.append(position)
            position += len(segment.text) + len(separator)
        return cls(separator.join(segment.text for segment in segments), tuple(segments), tuple(starts))

    def locate(self, start: int, end: int) -> Place | None:
        """The place of ``text[start:end]``: the segment that holds its first character, cut at that segment's end.

        Returns None for an empty stretch, one outside the text, or one that lies wholly in a separator.
        """
        if start >= end or not self.segments:
            return None
        found = bisect.bisect_right(self.starts, start) - 1
        if found < 0:
            return None
        begin, segment = self.starts[found], self.segments[found]
        first, last = start - begin, end - begin
        if first >= len(segment.text):
            # A stretch that starts in the separator belongs to the next segment it reaches.
            if found + 1 < len(self.segments) and end > self.starts[found + 1]:
                return self.locate(self.starts[found + 1], end)
            return None
        last = min(last, len(segment.text))
        return Place(found, first, last, _time_of(segment, first, last))


def _time_of(segment: Segment, start: int, end: int) -> Span:
    """The time of ``segment.text[start:end]``, from the words it touches."""
    touched = [word for word in segment.words if word.start < end and start < word.end]
    if not touched:
        return segment.span
    return Span(touched[0].span.start, touched[-1].span.end)
