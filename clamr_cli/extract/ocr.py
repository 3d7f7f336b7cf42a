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

from clamr_cli.errors import MediaError, MissingExtra, ModelError
from clamr_cli.extract import ocr_regions as regions
from clamr_cli.extract.ocr_lines import Box, TextLine, in_reading_order, merge_lines, overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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
        raise ModelError("EasyOCR was given no folder of weights", "pip install 'clamr-cli[offline]'")
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

    def read(self, image: NDArray[np.uint8]) -> list[TextLine]:
        """The lines of the next picture, [h, w, 3] uint8 RGB, in reading order."""
        self.work.pictures += 1
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
            smallest = min(min(box[2] - box[0], box[3] - box[1]) for box in found if overlap(box, part))
            scale = min(full, max(look, _LEGIBLE / max(1, smallest)))
            self.work.readings += 1
            self.work.read_pixels += int(piece.shape[0] * piece.shape[1] * scale**2)
            left, top = place[0] + part[0], place[1] + part[1]
            lines += [_moved(line, left, top) for line in self._engine.read(piece, scale)]
        return [line for line in lines if line.confidence >= options.min_confidence]


def _crop(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]])


def _moved(line: TextLine, left: int, top: int) -> TextLine:
    box = line.box
    return replace(line, box=(box[0] + left, box[1] + top, box[2] + left, box[3] + top))


def _decoded(frame: Frame) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(frame.jpeg)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise MediaError(f"the picture at {frame.time:.1f} s is damaged", "index the video again") from error
