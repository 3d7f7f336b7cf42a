"""A contact sheet: the chosen frames side by side in time order, each with its time and what it was chosen by."""

from __future__ import annotations

import bisect
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from clamr_cli.errors import UsageError
from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.frames.values import FrameHit

FORMATS: Final = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""File ending -> Pillow's name of the format."""

_WIDTHS: Final = (320, 240, 160)
"""Pixels of a picture's width; the first with which the sheet is not too large."""

_GAP: Final = 8
_CAPTION: Final = 22
_TITLE: Final = 40
_GROUND, _INK, _DIM = "#16181d", "#f2f2f2", "#9aa0aa"
_COLOURS: Final = {"video": "#d38bd6", "speech": "#63c7d8", "ocr": "#e3c35b", "metadata": "#7ecf7e"}
_WIDEST: Final = 4.0
_LARGEST: Final = 8_000
"""Pixels of a side of a sheet at most: about 200 MB while it is drawn, and half of what WebP can hold."""

_LONGEST: Final = 2_000
"""Characters of a question that are looked at: more than fit into the widest sheet."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A frame with its picture as JPEG."""

    hit: FrameHit
    jpeg: bytes


def sheet(question: str, cells: Sequence[Cell], suffix: str) -> bytes:
    """The picture, in the format of a file ending of :data:`FORMATS`.

    Args:
        question: stands above; characters that Pillow's own font lacks are drawn as boxes.
        cells: at least one, in the order they are to stand in.
        suffix: of the file.

    Raises:
        UsageError: they are too many for one picture.
    """
    # All cells have the shape of the first picture, as all frames of one video have.
    first = _opened(cells[0].jpeg)
    grid = _grid(len(cells), min(_WIDEST, first.height / first.width))
    image = Image.new("RGB", grid.size, _GROUND)
    draw = ImageDraw.Draw(image)
    draw.text((_GAP, _TITLE / 2), _fitting(draw, question, grid.size[0] - 2 * _GAP), _INK, _font(20), anchor="lm")
    for place, cell in enumerate(cells):
        left, top = grid.corner(place)
        picture = _opened(cell.jpeg)
        picture.thumbnail((grid.width, grid.height))
        inset = ((grid.width - picture.width) // 2, (grid.height - picture.height) // 2)
        image.paste(picture, (left + inset[0], top + inset[1]))
        _caption(draw, cell.hit, (left, top + grid.height + _CAPTION // 2), grid.width)
    written = io.BytesIO()
    image.save(written, FORMATS[suffix.lower()], quality=88)
    return written.getvalue()


@dataclass(frozen=True, slots=True)
class _Grid:
    """How pictures of some width and height, in pixels, are laid out."""

    columns: int
    rows: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Of the whole sheet."""
        return self.columns * (self.width + _GAP) + _GAP, _TITLE + self.rows * (self.height + _CAPTION + _GAP)

    def corner(self, place: int) -> tuple[int, int]:
        """The upper left one of a cell."""
        row, column = divmod(place, self.columns)
        return _GAP + column * (self.width + _GAP), _TITLE + row * (self.height + _CAPTION + _GAP)


def _grid(count: int, shape: float) -> _Grid:
    """The grid of so many pictures, each ``shape`` times as high as wide, that is a little wider than high."""
    for width in _WIDTHS:
        height = max(1, round(width * shape))
        columns = math.ceil(math.sqrt(count * (height + _CAPTION) / width * 1.6))
        columns = max(1, min(columns, count))
        grid = _Grid(columns, math.ceil(count / columns), width, height)
        if max(grid.size) <= _LARGEST:
            return grid
    raise UsageError(f"a sheet of {count} frames would be too large", "give a smaller -k, or leave out --sheet")


def _opened(jpeg: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return Image.new("RGB", (16, 9))


def _caption(draw: ImageDraw.ImageDraw, hit: FrameHit, place: tuple[int, int], width: int) -> None:
    draw.text(place, format_time(hit.time), _INK, _font(14), anchor="lm")
    name = hit.modality.value if hit.modality is not None else ""
    told = f"#{hit.rank}  {name}" if name else f"#{hit.rank}"
    draw.text((place[0] + width, place[1]), told, _COLOURS.get(name, _DIM), _font(14), anchor="rm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """One line of the text, cut off where it does not fit."""
    line = " ".join(text.split())[:_LONGEST]
    if draw.textlength(line, _font(20)) <= width:
        return line

    def wide(count: int) -> int:
        return math.ceil(draw.textlength(f"{line[:count]}...", _font(20)))

    fitting = bisect.bisect_right(range(len(line)), width, key=wide)
    return f"{line[: max(0, fitting - 1)]}..."
