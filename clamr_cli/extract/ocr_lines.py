"""Lines of text as they are read in pictures, and the same lines over time: pure, and cheap to import."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from clamr_cli.extract.clean import clean, fingerprint
from clamr_cli.types import Segment, Span

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""

_SIMILAR: Final = 0.8
_SHORTEST_FUZZY: Final = 5
_PATIENCE: Final = 1
"""Pictures in which a line may be missed without being over."""


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


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes share a pixel."""
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def in_reading_order(lines: Iterable[TextLine]) -> list[TextLine]:
    """Lines from top to bottom, those on one row from left to right, pieces of one row that nearly touch joined.

    Turned lines come last, in the order given: they were in order when they were read.
    """
    rows: list[list[TextLine]] = []
    lines = list(lines)
    for line in sorted(
        (line for line in lines if not line.turns), key=lambda line: (line.box[1] + line.box[3], line.box[0])
    ):
        first = rows[-1][0].box if rows else (0, 0, 0, 0)
        shared = min(first[3], line.box[3]) - max(first[1], line.box[1])
        if rows and shared > 0.5 * min(first[3] - first[1], line.box[3] - line.box[1]):
            rows[-1].append(line)
        else:
            rows.append([line])
    ordered: list[TextLine] = []
    for row in rows:
        last: TextLine | None = None
        for line in sorted(row, key=lambda line: line.box[0]):
            height = min(line.box[3] - line.box[1], last.box[3] - last.box[1]) if last else 0
            if last is not None and line.box[0] - last.box[2] < 0.6 * height:
                box = (last.box[0], min(last.box[1], line.box[1]), line.box[2], max(last.box[3], line.box[3]))
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
    width, height = (min(first[k + 2], second[k + 2]) - max(first[k], second[k]) for k in (0, 1))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return min(width, height) > 0 and width * height > 0.5 * smaller
