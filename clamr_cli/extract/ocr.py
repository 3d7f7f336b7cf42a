"""On-screen text: pictures in, lines out, and nothing read twice.

Reading a picture costs seconds on a CPU, so each one is read only where it changed since the last, where text could be
at all, and where a quick look at a small copy found some. What did not change keeps its reading.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clamr_cli.errors import MediaError
from clamr_cli.extract.clean import clean, fingerprint
from clamr_cli.extract.ocr_engines import TextEngine, shrunk
from clamr_cli.extract.options import Box, TextLine
from clamr_cli.types import Frame, Segment, Span

Picture = NDArray[np.uint8]

_SMALLEST: Final = 8  # pixels of a side below which nothing can be read
_LEGIBLE: Final = 32  # pixels of height to which large lines may be shrunk before they are found again and cut out
_SMALLEST_LOOK: Final = 256  # pixels of the longer side below which a picture is not shrunk to be looked at
_MOST_PIXELS: Final = 1_300_000  # read at once: memory grows with them
# Times in a row that turned text may be looked for in vain; every fourth picture gives one more.
_TRIES: Final = 6
# Turned lines from which the direction that was right before needs no comparison with the other.
_PAGE: Final = 3
_SHORTEST_TURNED: Final = 3  # letters of turned text at least; less is what texture gives

# Pictures are compared in gray copies, block by block.
_BLOCK: Final = 16
_WORKING_SIDE: Final = 640
_LARGE: Final = 1280  # pixels of the longer side from which the copy is half the picture: the text may be small
_NOISE: Final = 12
_CHANGED: Final = 1.0
_EDGE: Final = 16
_EDGES: Final = 5
_MOST_OF_IT: Final = 0.8
_TALL: Final = 1.8

_SIMILAR: Final = 0.8
_SHORTEST_FUZZY: Final = 5
_PATIENCE: Final = 1  # pictures in which a line may be missed without being over


def read_lines(frames: Iterable[Frame], engine: TextEngine) -> Iterator[tuple[Span, list[TextLine]]]:
    """Read frames of one video, in time order: the stretch of time and the lines of each, in reading order.

    Raises:
        MediaError: a frame is damaged.
    """
    reader = TextReader(engine)
    for frame in frames:
        try:
            with Image.open(io.BytesIO(frame.jpeg)) as image:
                picture = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise MediaError(f"the picture at {frame.time:.1f} s is damaged", "index the video again") from error
        yield frame.span, reader.read(picture)


class TextReader:
    """Reads pictures one after another and remembers what the last one showed."""

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine
        self._before: Picture | None = None
        self._lines: list[TextLine] = []
        self._count = 0
        self._tries, self._turns = _TRIES, 0

    def read(self, picture: Picture) -> list[TextLine]:
        """The lines of the next picture, [h, w, 3] uint8 RGB, in reading order."""
        self._count += 1
        self._tries += self._tries < _TRIES and self._count % 4 == 0
        parts = self._parts(picture)
        if parts:
            self._lines = [line for line in self._lines if not any(line.box.overlaps(part) for part in parts)]
            for part in parts:
                self._lines += self._read_part(picture, part)
        return in_reading_order(self._lines)

    def _parts(self, picture: Picture) -> list[Box]:
        """Boxes of the picture that must be looked at: changed and able to hold text, or of lines that changed."""
        height, width = picture.shape[:2]
        shrink = 0.5 if max(height, width) > _LARGE else _WORKING_SIDE / max(height, width)
        now = shrunk(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8), shrink)
        scale = now.shape[1] / width
        # Blocks, and their neighbours, with the few strong edges that any letter has.
        edges = np.zeros(now.shape, dtype=np.int16)
        wide = now.astype(np.int16)
        edges[:, 1:-1] = np.abs(wide[:, 2:] - wide[:, :-2]) >= _EDGE
        textured = _dilated(_block_means(edges) * _BLOCK * _BLOCK >= _EDGES)
        if self._before is None or self._before.shape != now.shape:
            self._before, self._lines = now.copy(), []
            changed = np.ones_like(textured)
        else:
            # Blocks that differ by more than coding noise does.
            difference = np.abs(wide - self._before.astype(np.int16)) - _NOISE
            changed = _block_means(np.maximum(difference, 0)) > _CHANGED
            mask = np.repeat(np.repeat(changed, _BLOCK, axis=0), _BLOCK, axis=1)[: now.shape[0], : now.shape[1]]
            self._before[mask] = now[mask]
        # Boxes around connected blocks, with a block's margin.
        connected = _dilated(changed & textured).astype(np.uint8)
        side = _BLOCK / scale
        boxes = []
        for left, top, columns, rows, _ in cv2.connectedComponentsWithStats(connected, connectivity=8)[2][1:]:
            box = Box(int(left * side), int(top * side), int((left + columns) * side) + 1, int((top + rows) * side) + 1)
            boxes.append(_clipped(box, width, height))
        boxes = _united(boxes, width, height)
        stale = []
        for line in self._lines:
            left, top, right, bottom = (value * scale / _BLOCK for value in line.box)
            if changed[int(max(0, top)) : int(np.ceil(bottom)), int(max(0, left)) : int(np.ceil(right))].any():
                stale.append(line.box)
        # A line is read as a whole: a part that cuts one grows around it, which may bring it to the next.
        while True:
            cut = [line.box for line in self._lines if any(line.box.overlaps(box) for box in boxes)]
            grown = _united([*boxes, *stale, *cut], width, height)
            if grown == boxes:
                return [box for box in boxes if min(box.width, box.height) >= _SMALLEST]
            boxes = grown

    def _read_part(self, picture: Picture, part: Box) -> list[TextLine]:
        """Look at a part of the picture, and read the pieces of it that seem to hold text."""
        longest, options = max(picture.shape[:2]), self._engine.options
        crop = _crop(picture, part)
        full = min(1.0, options.canvas / longest)
        look = min(full, max(options.look * full, _SMALLEST_LOOK / longest))
        candidates = self._engine.find_text(crop, look)
        lines: list[TextLine] = []
        for piece in _with_margins(candidates, crop.shape[1], crop.shape[0]):
            if min(piece.width, piece.height) < _SMALLEST:
                continue
            boxes = [box.moved(-piece.left, -piece.top) for box in candidates if box.overlaps(piece)]
            smallest = min(min(box.width, box.height) for box in boxes)
            scale = min(full, max(look, _LEGIBLE / max(1, smallest)))
            lines += [
                _moved(line, part.left + piece.left, part.top + piece.top)
                for line in self._read_piece(_crop(crop, piece), boxes, scale)
            ]
        return [line for line in lines if line.confidence >= options.min_confidence]

    def _read_piece(self, piece: Picture, boxes: Sequence[Box], scale: float) -> list[TextLine]:
        """Read a piece of the picture in which there may be text at ``boxes``, however it is turned."""
        tall = [box for box in boxes if _is_tall(box)]
        is_mostly_tall = sum(box.area for box in tall) > sum(box.area for box in boxes) / 2
        lines = self._turned_lines(piece, (1, 3), scale) if is_mostly_tall else []
        if lines:
            return lines
        lines = self._level_lines(piece, boxes, scale)
        sure = [line for line in lines if self._is_sure(line)]
        if not is_mostly_tall:
            missed = [box for box in tall if not any(box.overlaps(line.box) for line in sure)]
            for part in _with_margins(missed, piece.shape[1], piece.shape[0]):
                turned = self._turned_lines(_crop(piece, part), (1, 3), scale)
                turned = [_moved(line, part.left, part.top) for line in turned]
                lines = [
                    line for line in lines if line in sure or not any(line.box.overlaps(other.box) for other in turned)
                ] + turned
        letters = sum(len(line.text) for line in lines)
        sure_letters = sum(len(line.text) for line in lines if self._is_sure(line))
        if letters >= 2 * _SHORTEST_TURNED and sure_letters < letters / 4:
            return self._turned_lines(piece, (2,), scale) or lines
        return lines

    def _level_lines(self, piece: Picture, boxes: Sequence[Box], scale: float) -> list[TextLine]:
        """Read level text, a strip of the piece at a time where it is large."""
        height, width = piece.shape[:2]
        rows = max(64, int(_MOST_PIXELS / (width * scale**2)))
        if height <= rows * 3 // 2:
            return self._engine.read(piece, scale)
        # Each strip is read with as much around it as the highest line, and has the lines whose middle lies in it.
        highest = max((box.height for box in boxes if not _is_tall(box)), default=0)
        margin = min(rows // 2, highest + 16)
        lines: list[TextLine] = []
        for top in range(0, height, rows):
            first = max(0, top - margin)
            strip = _crop(piece, Box(0, first, width, min(height, top + rows + margin)))
            moved = [_moved(line, 0, first) for line in self._engine.read(strip, scale)]
            lines += [line for line in moved if top <= (line.box.top + line.box.bottom) / 2 < top + rows]
        return lines

    def _turned_lines(self, piece: Picture, turns: Sequence[int], scale: float) -> list[TextLine]:
        """The lines of a piece turned by one of these numbers of quarters, if they make sense, in reading order."""
        if self._tries <= 0:
            return []
        height, width = piece.shape[:2]
        best: list[TextLine] = []
        # What was right before is likely right again; a few letters may seem right upside down too.
        for number in sorted(turns, key=lambda number: number != self._turns):
            turned = np.ascontiguousarray(np.rot90(piece, number))
            lines = [line for line in self._level_lines(turned, (), scale) if self._is_sure(line)]
            if _letters(lines) > _letters(best):
                best = [
                    replace(line, box=_turned_back(line.box, number, width, height), turns=number)
                    for line in in_reading_order(lines)
                ]
                if number == self._turns and len(best) >= _PAGE:
                    break
        if _letters(best) < _SHORTEST_TURNED:
            self._tries -= 1
            return []
        self._tries, self._turns = _TRIES, best[0].turns
        return best

    def _is_sure(self, line: TextLine) -> bool:
        return line.confidence >= self._engine.sure and not _is_tall(line.box)


def _letters(lines: Sequence[TextLine]) -> float:
    """Letters and digits of the lines, each as sure as its line."""
    return sum(line.confidence * sum(map(str.isalnum, line.text)) for line in lines)


def _crop(picture: Picture, box: Box) -> Picture:
    return np.ascontiguousarray(picture[box.top : box.bottom, box.left : box.right])


def _moved(line: TextLine, right: int, down: int) -> TextLine:
    return replace(line, box=line.box.moved(right, down))


def _with_margins(boxes: Iterable[Box], width: int, height: int) -> list[Box]:
    """Boxes of text with the room that a reader needs around them: half as much again as their height."""
    grown = []
    for left, top, right, bottom in boxes:
        size = max(16, min(bottom - top, right - left))
        beside, above = 3 * size // 2, 3 * size // 4
        grown.append(_clipped(Box(left - beside, top - above, right + beside, bottom + above), width, height))
    return _united(grown, width, height)


def _united(boxes: Sequence[Box], width: int, height: int) -> list[Box]:
    """Disjoint boxes that cover the same; one of the whole picture where they are most of it."""
    result = list(boxes)
    while pair := next((p for p in combinations(range(len(result)), 2) if result[p[0]].overlaps(result[p[1]])), None):
        result[pair[0]] = result[pair[0]].union(result.pop(pair[1]))
    if sum(box.area for box in result) > _MOST_OF_IT * width * height:
        return [Box(0, 0, width, height)]
    return result


def _is_tall(box: Box) -> bool:
    """Whether a box is that of text which runs upwards or downwards, or of one slim letter."""
    return box.height > _TALL * box.width


def _turned_back(box: Box, turns: int, width: int, height: int) -> Box:
    """A box of a picture that was turned ``turns`` quarters against the clock, in the picture of this size before."""
    left, top, right, bottom = box
    if turns == 1:
        return Box(width - bottom, left, width - top, right)
    if turns == 2:
        return Box(width - right, height - bottom, width - left, height - top)
    return Box(top, height - right, bottom, height - left)


def _clipped(box: Box, width: int, height: int) -> Box:
    return Box(max(0, box.left), max(0, box.top), min(width, box.right), min(height, box.bottom))


def _dilated(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(blocks.astype(np.uint8), np.ones((3, 3), np.uint8)), dtype=bool)


def _block_means(values: NDArray[np.int16]) -> NDArray[np.float32]:
    """[rows, columns] of squares of 16 pixels."""
    rows, columns = -(-values.shape[0] // _BLOCK), -(-values.shape[1] // _BLOCK)
    padded = np.zeros((rows * _BLOCK, columns * _BLOCK), dtype=np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    means: NDArray[np.float32] = padded.reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))
    return means


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

    ``pictures`` are the stretch that each stands for, in time order, and the lines read in it, in reading order.
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
