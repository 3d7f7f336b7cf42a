"""On-screen text: pictures in, lines out, and nothing read twice.

Reading a picture costs seconds on a CPU, so each one is read only where it changed since the last, where text could be
at all, and where a quick look at a small copy found some. What did not change keeps its reading.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clamr_cli.errors import MediaError
from clamr_cli.extract import text_detector as detector
from clamr_cli.extract.ocr_engines import TextEngine
from clamr_cli.extract.ocr_lines import Box, TextLine, in_reading_order
from clamr_cli.types import Frame, Span

Picture = NDArray[np.uint8]

_SMALLEST: Final = 8
"""Pixels of a side below which nothing can be read."""

_LEGIBLE: Final = 32
"""Pixels of a line's height to which large letters may be shrunk before they are found again and cut out."""

_SMALLEST_LOOK: Final = 256
"""Pixels of the longer side below which a picture is not shrunk to be looked at."""

_MOST_PIXELS: Final = 1_300_000
"""Pixels that are read at once: memory grows with them."""

_TRIES: Final = 6
"""Number of times in a row that turned text may be looked for in vain; every fourth picture gives one more."""

_PAGE: Final = 3
"""Turned lines from which the direction that was right before needs no comparison with the other."""

_SHORTEST_TURNED: Final = 3
"""Letters of turned text at least; less is what texture gives."""


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
        parts = self._parts(detector.working_copy(picture), picture.shape[1], picture.shape[0])
        if parts:
            self._lines = [line for line in self._lines if not any(line.box.overlaps(part) for part in parts)]
            for part in parts:
                self._lines += self._read_part(picture, part)
        return in_reading_order(self._lines)

    def _parts(self, now: Picture, width: int, height: int) -> list[Box]:
        """Boxes of the picture that must be looked at: changed and able to hold text, or of lines that changed."""
        scale = now.shape[1] / width
        textured = detector.textured_blocks(now)
        if self._before is None or self._before.shape != now.shape:
            self._before, self._lines = now.copy(), []
            changed = np.ones_like(textured)
        else:
            changed = detector.changed_blocks(self._before, now)
            detector.copy_blocks(self._before, now, changed)
        boxes = detector.boxes_of(changed & textured, scale, width, height)
        stale = [line.box for line in self._lines if detector.touches(changed, line.box, scale)]
        # A line is read as a whole: a part that cuts one grows around it, which may bring it to the next.
        while True:
            cut = [line.box for line in self._lines if any(line.box.overlaps(box) for box in boxes)]
            grown = detector.united([*boxes, *stale, *cut], width, height)
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
        for piece in detector.with_margins(candidates, crop.shape[1], crop.shape[0]):
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
        tall = [box for box in boxes if detector.is_tall(box)]
        is_mostly_tall = sum(box.area for box in tall) > sum(box.area for box in boxes) / 2
        lines = self._turned_lines(piece, (1, 3), scale) if is_mostly_tall else []
        if lines:
            return lines
        lines = self._level_lines(piece, boxes, scale)
        sure = [line for line in lines if self._is_sure(line)]
        if not is_mostly_tall:
            missed = [box for box in tall if not any(box.overlaps(line.box) for line in sure)]
            for part in detector.with_margins(missed, piece.shape[1], piece.shape[0]):
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
        highest = max((box.height for box in boxes if not detector.is_tall(box)), default=0)
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
                    replace(line, box=detector.turned_back(line.box, number, width, height), turns=number)
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
        return line.confidence >= self._engine.sure and not detector.is_tall(line.box)


def _letters(lines: Sequence[TextLine]) -> float:
    """Letters and digits of the lines, each as sure as its line."""
    return sum(line.confidence * sum(map(str.isalnum, line.text)) for line in lines)


def _crop(picture: Picture, box: Box) -> Picture:
    return np.ascontiguousarray(picture[box.top : box.bottom, box.left : box.right])


def _moved(line: TextLine, right: int, down: int) -> TextLine:
    return replace(line, box=line.box.moved(right, down))
