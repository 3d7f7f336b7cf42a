"""Lines of text as they are read in pictures, and the same lines over time: pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from clamr_cli.extract.clean import clean, fingerprint
from clamr_cli.types import Segment, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


@dataclass(slots=True)
class _Track:
    """A line that is being followed: its best reading, when it was seen, and how many pictures missed it since."""

    number: int
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
    given = list(lines)
    level = [line for line in given if not line.turns]
    for line in sorted(level, key=lambda line: (line.box[1] + line.box[3], line.box[0])):
        if rows and _same_row(rows[-1][0].box, line.box):
            rows[-1].append(line)
        else:
            rows.append([line])
    ordered = [joined for row in rows for joined in _joined(sorted(row, key=lambda line: line.box[0]))]
    return [*ordered, *(line for line in given if line.turns)]


def merge_lines(seen: Iterable[tuple[Span, Sequence[TextLine]]], source: str) -> list[Segment]:
    """One segment per line on screen, from where it is first seen to where it is last, in time and reading order.

    Readings of one line differ a little from picture to picture; the most confident one is kept. Lines whose digits
    differ are different lines: a running clock is not one line.

    Args:
        seen: the stretch each picture stands for, in time order, and the lines read in it, in reading order.
        source: the segments' source.
    """
    done: list[_Track] = []
    running: list[_Track] = []
    for span, lines in seen:
        free = list(running)
        for line in lines:
            key = fingerprint(line.text)
            if len(key) < 2 and key.isascii():
                # One letter or digit is what texture looks like; one sign of another script may be a word.
                continue
            track = _match(line, key, free) or next((t for t in running if t not in free and t.key == key), None)
            if track is None:
                running.append(_Track(len(done) + len(running), line, span.start, span.end, key))
                continue
            if track in free:
                free.remove(track)
            _extend(track, line, key, span)
        for track in free:
            track.missed += 1
        done += [track for track in running if track.missed > _PATIENCE]
        running = [track for track in running if track.missed <= _PATIENCE]
    tracks = sorted(done + running, key=lambda track: track.number)
    return [
        Segment(Span(t.start, max(t.start, t.end)), clean(t.line.text), source, confidence=round(t.line.confidence, 3))
        for t in tracks
    ]


def same_text(first: str, second: str) -> bool:
    """Whether two fingerprints are readings of one line: nearly equal, and equal in every digit."""
    if first == second:
        return True
    if min(len(first), len(second)) < _SHORTEST_FUZZY or _digits(first) != _digits(second):
        return False
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    return matcher.quick_ratio() >= _SIMILAR and matcher.ratio() >= _SIMILAR


def _extend(track: _Track, line: TextLine, key: str, span: Span) -> None:
    track.end, track.missed = span.end, 0
    if line.confidence > track.line.confidence:
        track.line, track.key = line, key


def _match(line: TextLine, key: str, tracks: Sequence[_Track]) -> _Track | None:
    """The track that a line continues: the same text anywhere (it may scroll), nearly the same in the same place."""
    exact = next((track for track in tracks if track.key == key), None)
    near = (track for track in tracks if _same_place(track.line.box, line.box) and same_text(track.key, key))
    return exact or next(near, None)


def _same_place(first: Box, second: Box) -> bool:
    """Whether two boxes share most of the smaller one."""
    shared = [min(first[2], second[2]) - max(first[0], second[0]), min(first[3], second[3]) - max(first[1], second[1])]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return min(shared) > 0 and shared[0] * shared[1] > 0.5 * min(areas)


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _same_row(first: Box, second: Box) -> bool:
    shared = min(first[3], second[3]) - max(first[1], second[1])
    return shared > 0.5 * min(first[3] - first[1], second[3] - second[1])


def _joined(row: Sequence[TextLine]) -> list[TextLine]:
    result: list[TextLine] = []
    for line in row:
        last = result[-1] if result else None
        height = min(line.box[3] - line.box[1], last.box[3] - last.box[1]) if last else 0
        if last is not None and line.box[0] - last.box[2] < 0.6 * height:
            box = (last.box[0], min(last.box[1], line.box[1]), line.box[2], max(last.box[3], line.box[3]))
            result[-1] = TextLine(f"{last.text} {line.text}", min(last.confidence, line.confidence), box)
        else:
            result.append(line)
    return result
