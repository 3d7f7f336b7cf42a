"""A contact sheet: the chosen frames side by side in time order, each with its time and what it was chosen by."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from clamr_cli.timeline import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clamr_cli.frames.values import FrameHit

FORMATS: Final = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""File ending -> Pillow's name of the format."""

_WIDTH: Final = 320
_GAP: Final = 8
_CAPTION: Final = 22
_TITLE: Final = 40
_GROUND, _INK, _DIM = "#16181d", "#f2f2f2", "#9aa0aa"
_COLOURS: Final = {"video": "#d38bd6", "speech": "#63c7d8", "ocr": "#e3c35b", "metadata": "#7ecf7e"}
_WIDEST: Final = 4.0


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
    """
    pictures = [_opened(cell.jpeg) for cell in cells]
    # All cells have the shape of the first picture, as all frames of one video have.
    height = round(_WIDTH * min(_WIDEST, pictures[0].height / pictures[0].width))
    columns = math.ceil(math.sqrt(len(cells) * (height + _CAPTION) / _WIDTH * 1.6))
    columns = max(1, min(columns, len(cells)))
    rows = math.ceil(len(cells) / columns)
    size = (columns * (_WIDTH + _GAP) + _GAP, _TITLE + rows * (height + _CAPTION + _GAP))
    image = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(image)
    draw.text((_GAP, _TITLE / 2), _fitting(draw, question, size[0] - 2 * _GAP), _INK, _font(20), anchor="lm")
    for place, (cell, picture) in enumerate(zip(cells, pictures, strict=True)):
        row, column = divmod(place, columns)
        corner = (_GAP + column * (_WIDTH + _GAP), _TITLE + row * (height + _CAPTION + _GAP))
        picture.thumbnail((_WIDTH, height))
        inset = ((_WIDTH - picture.width) // 2, (height - picture.height) // 2)
        image.paste(picture, (corner[0] + inset[0], corner[1] + inset[1]))
        _caption(draw, cell.hit, (corner[0], corner[1] + height + _CAPTION // 2))
    written = io.BytesIO()
    image.save(written, FORMATS[suffix.lower()], quality=88)
    return written.getvalue()


def _opened(jpeg: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return Image.new("RGB", (16, 9))


def _caption(draw: ImageDraw.ImageDraw, hit: FrameHit, place: tuple[int, int]) -> None:
    draw.text(place, format_time(hit.time), _INK, _font(14), anchor="lm")
    name = hit.modality.value if hit.modality is not None else ""
    told = f"#{hit.rank}  {name}" if name else f"#{hit.rank}"
    draw.text((place[0] + _WIDTH, place[1]), told, _COLOURS.get(name, _DIM), _font(14), anchor="rm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """One line of the text, cut off where it does not fit."""
    line = " ".join(text.split())
    if draw.textlength(line, _font(20)) <= width:
        return line
    while line and draw.textlength(f"{line}...", _font(20)) > width:
        line = line[:-1]
    return f"{line}..."
