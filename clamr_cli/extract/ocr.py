"""On-screen text: pictures in, segments out, and nothing read twice.

Reading a picture costs seconds on a CPU, so each one is read only where it changed since the last, where text could be
at all, and where a quick look at a small copy found some. What did not change keeps its reading.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from PIL import Image

from clamr_cli.errors import MediaError, MissingExtra, ModelError, pip_install
from clamr_cli.extract import ocr_regions as regions
from clamr_cli.extract.ocr_lines import Box, TextLine, in_reading_order, merge_lines, overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.extract.options import OcrOptions
    from clamr_cli.types import Frame, Segment, Span

_SMALLEST: Final = 8
"""Pixels of a side below which nothing can be read."""

_LEGIBLE: Final = 32
"""Pixels of a line's height to which large letters may be shrunk before they are found again and cut out."""

_SMALLEST_LOOK: Final = 256
"""Pixels of the longer side below which a picture is not shrunk to be looked at."""

_MOST_PIXELS: Final = 1_300_000
"""Pixels that are read at once: memory grows with them."""

_TRIES: Final = 6
"""How often in a row turned text may be looked for in vain; every fourth picture gives one more."""

_PAGE: Final = 3
"""Turned lines from which the direction that was right before needs no comparison with the other."""

_SHORTEST_TURNED: Final = 3
"""Letters of turned text at least; less is what texture gives."""


class OcrEngine(Protocol):
    """Finds and reads text in pictures."""

    @property
    def source(self) -> str:
        """The source of its segments: the engine's name."""
        ...

    @property
    def options(self) -> OcrOptions:
        """What it was made with."""
        ...

    @property
    def sure(self) -> float:
        """The confidence that right readings mostly have, and readings of text that stands on its head have not."""
        ...

    def find_text(self, image: NDArray[np.uint8], scale: float) -> list[Box]:
        """Rough boxes of whatever could be text, from a quick look.

        Args:
            image: [h, w, 3] uint8 RGB.
            scale: how far to shrink it for the look, at most 1.
        """
        ...

    def read(self, image: NDArray[np.uint8], scale: float) -> list[TextLine]:
        """The text of a picture, line by line; boxes in its pixels, ``scale`` as in :meth:`find_text`."""
        ...


def make_engine(model: Path | None, options: OcrOptions) -> OcrEngine:
    """The engine that the options name, loaded.

    Args:
        model: folder of the weights (``options.locate(cache)``).
        options: which engine, languages and device.

    Raises:
        ModelError: its weights cannot be loaded.
        MissingExtra: its package is not installed.
    """
    if options.engine == "rapidocr":
        try:
            from clamr_cli.extract.ocr_rapid import RapidOcrEngine
        except ModuleNotFoundError as error:
            if error.name not in ("rapidocr", "onnxruntime"):
                raise
            raise MissingExtra("the RapidOCR engine", "rapidocr") from error
        return RapidOcrEngine(options)
    if model is None:
        raise ModelError("EasyOCR was given no folder of weights", pip_install("offline"))
    from clamr_cli.extract.ocr_easy import EasyOcrEngine

    return EasyOcrEngine(model, options)


def read_text(
    candidates: Iterable[Frame], engine: OcrEngine, *, progress: Callable[[int], None] | None = None
) -> list[Segment]:
    """Read the pictures of one video, in time order, into one segment per line on screen.

    Args:
        candidates: pictures that may carry text, each with the stretch of time it stands for.
        engine: reads them.
        progress: called after each picture with the number done.

    Raises:
        MediaError: a picture is damaged.
    """
    return merge_lines(read_lines(candidates, engine, progress=progress), engine.source)


def read_lines(
    candidates: Iterable[Frame], engine: OcrEngine, *, progress: Callable[[int], None] | None = None
) -> Iterator[tuple[Span, list[TextLine]]]:
    """The lines of each picture, with its stretch of time; arguments and errors are those of :func:`read_text`."""
    reader = Reader(engine)
    for number, frame in enumerate(candidates, start=1):
        yield frame.span, reader.read(_decoded(frame))
        if progress is not None:
            progress(number)


@dataclass(slots=True)
class Work:
    """What reading cost: pictures seen, quick looks and readings, and the pixels of both after shrinking."""

    pictures: int = 0
    looks: int = 0
    readings: int = 0
    looked_pixels: int = 0
    read_pixels: int = 0


class Reader:
    """Reads pictures one after another and remembers what the last one showed."""

    def __init__(self, engine: OcrEngine) -> None:
        self.work = Work()
        self._engine = engine
        self._before: NDArray[np.uint8] | None = None
        self._lines: list[TextLine] = []
        self._tries, self._turns = _TRIES, 0

    def read(self, image: NDArray[np.uint8]) -> list[TextLine]:
        """The lines of the next picture, [h, w, 3] uint8 RGB, in reading order."""
        self.work.pictures += 1
        self._tries += self._tries < _TRIES and self.work.pictures % 4 == 0
        height, width = image.shape[:2]
        places = self._places(regions.working_copy(image), width, height)
        if places:
            self._lines = [line for line in self._lines if not any(overlap(line.box, place) for place in places)]
            for place in places:
                self._lines += self._read_place(image, place)
        return in_reading_order(self._lines)

    def _places(self, now: NDArray[np.uint8], width: int, height: int) -> list[Box]:
        """Boxes of the picture that must be looked at: changed and able to hold text, or of lines that changed."""
        scale = now.shape[1] / width
        textured = regions.textured_blocks(now)
        if self._before is None or self._before.shape != now.shape:
            self._before, self._lines = now.copy(), []
            changed = np.ones_like(textured)
        else:
            changed = regions.changed_blocks(self._before, now)
            regions.take_over(self._before, now, changed)
        boxes = regions.boxes_of(changed & textured, scale, width, height)
        stale = [line.box for line in self._lines if regions.touches(changed, line.box, scale)]
        # A line is read as a whole: a place that cuts one grows around it, which may bring it to the next.
        while True:
            cut = [line.box for line in self._lines if any(overlap(line.box, box) for box in boxes)]
            grown = regions.united([*boxes, *stale, *cut], width, height)
            if grown == boxes:
                return [box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= _SMALLEST]
            boxes = grown

    def _read_place(self, image: NDArray[np.uint8], place: Box) -> list[TextLine]:
        longest, options = max(image.shape[:2]), self._engine.options
        crop = _crop(image, place)
        full = min(1.0, options.canvas / longest)
        look = min(full, max(options.look * full, _SMALLEST_LOOK / longest))
        self.work.looks += 1
        self.work.looked_pixels += int(crop.shape[0] * crop.shape[1] * look**2)
        found = self._engine.find_text(crop, look)
        lines: list[TextLine] = []
        for part in regions.around(found, crop.shape[1], crop.shape[0]):
            piece = _crop(crop, part)
            if min(piece.shape[:2]) < _SMALLEST:
                continue
            boxes = [_shifted(box, -part[0], -part[1]) for box in found if overlap(box, part)]
            smallest = min(min(box[2] - box[0], box[3] - box[1]) for box in boxes)
            scale = min(full, max(look, _LEGIBLE / max(1, smallest)))
            lines += [
                _moved(line, place[0] + part[0], place[1] + part[1]) for line in self._lines_of(piece, boxes, scale)
            ]
        return [line for line in lines if line.confidence >= options.min_confidence]

    def _lines_of(self, piece: NDArray[np.uint8], boxes: Sequence[Box], scale: float) -> list[TextLine]:
        """Read a piece of the picture in which there may be text at ``boxes``, however it is turned."""
        tall = [box for box in boxes if regions.is_tall(box)]
        mostly_tall = sum(map(regions.area, tall)) > sum(map(regions.area, boxes)) / 2
        lines = self._turned_lines(piece, (1, 3), scale) if mostly_tall else []
        if lines:
            return lines
        lines = self._level_lines(piece, boxes, scale)
        sure = [line for line in lines if self._is_sure(line)]
        missed = [box for box in tall if not any(overlap(box, line.box) for line in sure)]
        for part in [] if mostly_tall else regions.around(missed, piece.shape[1], piece.shape[0]):
            turned = [_moved(line, part[0], part[1]) for line in self._turned_lines(_crop(piece, part), (1, 3), scale)]
            lines = [*(line for line in lines if line in sure or not _touches_any(line, turned)), *turned]
        letters = sum(len(line.text) for line in lines)
        if (
            letters >= 2 * _SHORTEST_TURNED
            and sum(len(line.text) for line in lines if self._is_sure(line)) < letters / 4
        ):
            return self._turned_lines(piece, (2,), scale) or lines
        return lines

    def _level_lines(self, piece: NDArray[np.uint8], boxes: Sequence[Box], scale: float) -> list[TextLine]:
        """Read level text, a strip of the piece at a time where it is large."""
        height, width = piece.shape[:2]
        rows = max(64, int(_MOST_PIXELS / (width * scale**2)))
        if height <= rows * 3 // 2:
            return self._read(piece, scale)
        # Each strip is read with as much around it as the highest line, and has the lines whose middle lies in it.
        around = min(rows // 2, max((box[3] - box[1] for box in boxes if not regions.is_tall(box)), default=0) + 16)
        lines: list[TextLine] = []
        for top in range(0, height, rows):
            first = max(0, top - around)
            seen = self._read(_crop(piece, (0, first, width, min(height, top + rows + around))), scale)
            moved = [_moved(line, 0, first) for line in seen]
            lines += [line for line in moved if top <= (line.box[1] + line.box[3]) / 2 < top + rows]
        return lines

    def _turned_lines(self, piece: NDArray[np.uint8], turns: Sequence[int], scale: float) -> list[TextLine]:
        """The lines of a piece turned by one of these numbers of quarters, if they make sense, in reading order."""
        if self._tries <= 0:
            return []
        best: list[TextLine] = []
        # What was right before is likely right again; a few letters may seem right upside down too.
        for number in sorted(turns, key=lambda number: number != self._turns):
            turned = np.ascontiguousarray(np.rot90(piece, number))
            lines = [line for line in self._level_lines(turned, (), scale) if self._is_sure(line)]
            if _letters(lines) > _letters(best):
                height, width = piece.shape[:2]
                best = [
                    replace(line, box=regions.turned_back(line.box, number, width, height), turns=number)
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
        return line.confidence >= self._engine.sure and not regions.is_tall(line.box)

    def _read(self, image: NDArray[np.uint8], scale: float) -> list[TextLine]:
        self.work.readings += 1
        self.work.read_pixels += int(image.shape[0] * image.shape[1] * scale**2)
        return self._engine.read(image, scale)


def _letters(lines: Sequence[TextLine]) -> float:
    """Letters and digits of the lines, each as sure as its line."""
    return sum(line.confidence * sum(map(str.isalnum, line.text)) for line in lines)


def _touches_any(line: TextLine, others: Sequence[TextLine]) -> bool:
    return any(overlap(line.box, other.box) for other in others)


def _crop(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]])


def _shifted(box: Box, right: int, down: int) -> Box:
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def _moved(line: TextLine, left: int, top: int) -> TextLine:
    return replace(line, box=_shifted(line.box, left, top))


def _decoded(frame: Frame) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(frame.jpeg)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"the picture at {frame.time:.1f} s is damaged", "index the video again") from error
