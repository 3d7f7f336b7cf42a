"""Lines of text as they are read in pictures, and the same lines over time: pure, and cheap to import."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from clamr_cli.extract.clean import clean, fingerprint
from clamr_cli.types import Segment, Span

_SIMILAR: Final = 0.8
_SHORTEST_FUZZY: Final = 5
_PATIENCE: Final = 1
"""Pictures in which a line may be missed without being over."""


class Box(NamedTuple):
    """A box in a picture, in pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def area(self) -> int:
        return self.width * self.height

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def union(self, other: Box) -> Box:
        return Box(
            min(self.left, other.left), min(self.top, other.top), max(self.right, other.right),
            max(self.bottom, other.bottom),
        )  # fmt: skip

    def moved(self, right: int, down: int) -> Box:
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line read in a picture.

    Attributes:
        text: what was read.
        confidence: how sure the engine is, in [0, 1].
        box: where it is.
        turns: quarter turns against the clock that made it level; 0 for level text.
    """

    text: str
    confidence: float
    box: Box
    turns: int = 0


@dataclass(slots=True, eq=False)
class _Track:
    """A line that is being followed: its best reading, when it was seen, and how many pictures missed it since."""

    line: TextLine
    start: float
    end: float
    key: str
    missed: int = 0


def in_reading_order(lines: Iterable[TextLine]) -> list[TextLine]:
    """Lines from top to bottom, those on one row from left to right, pieces of one row that nearly touch joined.

    Turned lines come last, in the order given: they were in order when they were read.
    """
    rows: list[list[TextLine]] = []
    lines = list(lines)
    level = (line for line in lines if not line.turns)
    for line in sorted(level, key=lambda line: (line.box.top + line.box.bottom, line.box.left)):
        box, first = line.box, rows[-1][0].box if rows else line.box
        shared = min(first.bottom, box.bottom) - max(first.top, box.top)
        if rows and shared > 0.5 * min(first.height, box.height):
            rows[-1].append(line)
        else:
            rows.append([line])
    ordered: list[TextLine] = []
    for row in rows:
        last: TextLine | None = None
        for line in sorted(row, key=lambda line: line.box.left):
            height = min(line.box.height, last.box.height) if last else 0
            if last is not None and line.box.left - last.box.right < 0.6 * height:
                box = last.box.union(line.box)._replace(left=last.box.left, right=line.box.right)
                line = TextLine(f"{last.text} {line.text}", min(last.confidence, line.confidence), box)
                ordered.pop()
            ordered.append(line)
            last = line
    return [*ordered, *(line for line in lines if line.turns)]


def merge_lines(pictures: Iterable[tuple[Span, Sequence[TextLine]]], source: str) -> list[Segment]:
    """One segment per line on screen, from where it is first seen to where it is last, in time and reading order.

    Readings of one line differ a little from picture to picture; the most confident one is kept. Lines whose digits
    differ are different lines: a running clock is not one line.

    Args:
        pictures: the stretch each picture stands for, in time order, and the lines read in it, in reading order.
        source: the segments' source.
    """
    tracks: list[_Track] = []
    running: list[_Track] = []
    for span, lines in pictures:
        free = list(running)
        for line in lines:
            key = fingerprint(line.text)
            if len(key) < 2 and key.isascii():
                # One letter or digit is what texture looks like; one sign of another script may be a word.
                continue
            same = [track for track in running if track.key == key]
            # The same text anywhere (it may scroll), else nearly the same in the same place, else the same again.
            track = next((track for track in same if track in free), None) or next(
                (track for track in free if _same_place(track.line.box, line.box) and same_text(track.key, key)), None
            )
            track = track or next(iter(same), None)
            if track is None:
                track = _Track(line, span.start, span.end, key)
                tracks.append(track)
                running.append(track)
                continue
            if track in free:
                free.remove(track)
            track.end, track.missed = span.end, 0
            if line.confidence > track.line.confidence:
                track.line, track.key = line, key
        for track in free:
            track.missed += 1
        running = [track for track in running if track.missed <= _PATIENCE]
    return [
        Segment(Span(t.start, max(t.start, t.end)), clean(t.line.text), source, confidence=round(t.line.confidence, 3))
        for t in tracks
    ]


def same_text(first: str, second: str) -> bool:
    """Whether two fingerprints are readings of one line: nearly equal, and equal in every digit."""
    if first == second:
        return True
    digits = ("".join(filter(str.isdigit, text)) for text in (first, second))
    if min(len(first), len(second)) < _SHORTEST_FUZZY or len(set(digits)) > 1:
        return False
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    return matcher.quick_ratio() >= _SIMILAR and matcher.ratio() >= _SIMILAR


def _same_place(first: Box, second: Box) -> bool:
    """Whether two boxes share most of the smaller one."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    return min(width, height) > 0 and width * height > 0.5 * min(first.area, second.area)
