"""A contact sheet: the chosen frames side by side in time order, each with its time and what it was chosen by."""

from __future__ import annotations

import bisect
import io
import math
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from clamr_cli.errors import UsageError
from clamr_cli.frames.values import FrameHit
from clamr_cli.text import format_time

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


def sheet(question: str, hits: Sequence[FrameHit], suffix: str) -> bytes:
    """The picture, in the format of a file ending of :data:`FORMATS`.

    Args:
        question: stands above; characters that Pillow's own font lacks are drawn as boxes.
        hits: at least one, with their JPEGs, in the order they are to stand in.
        suffix: of the file.

    Raises:
        UsageError: they are too many for one picture.
    """
    # All cells have the shape of the first picture, as all frames of one video have.
    first = _decoded(hits[0].frame.jpeg)
    columns, width, height = _grid(len(hits), min(_WIDEST, first.height / first.width))
    rows = math.ceil(len(hits) / columns)
    image = Image.new("RGB", _size(columns, rows, width, height), _GROUND)
    draw = ImageDraw.Draw(image)
    title = _fitting(draw, question, image.width - 2 * _GAP)
    draw.text((_GAP, _TITLE / 2), title, _INK, ImageFont.load_default(20), anchor="lm")
    font = ImageFont.load_default(14)
    for place, hit in enumerate(hits):
        row, column = divmod(place, columns)
        left, top = _GAP + column * (width + _GAP), _TITLE + row * (height + _CAPTION + _GAP)
        picture = _decoded(hit.frame.jpeg)
        picture.thumbnail((width, height))
        image.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
        middle = top + height + _CAPTION // 2
        draw.text((left, middle), format_time(hit.frame.time), _INK, font, anchor="lm")
        name = hit.modality.value if hit.modality is not None else ""
        label = f"#{hit.rank}  {name}" if name else f"#{hit.rank}"
        draw.text((left + width, middle), label, _COLOURS.get(name, _DIM), font, anchor="rm")
    buffer = io.BytesIO()
    image.save(buffer, FORMATS[suffix.lower()], quality=88)
    return buffer.getvalue()


def _size(columns: int, rows: int, width: int, height: int) -> tuple[int, int]:
    return columns * (width + _GAP) + _GAP, _TITLE + rows * (height + _CAPTION + _GAP)


def _grid(count: int, shape: float) -> tuple[int, int, int]:
    """Columns, and the size of pictures ``shape`` times as high as wide, of a sheet a little wider than high."""
    for width in _WIDTHS:
        height = max(1, round(width * shape))
        columns = math.ceil(math.sqrt(count * (height + _CAPTION) / width * 1.6))
        columns = max(1, min(columns, count))
        if max(_size(columns, math.ceil(count / columns), width, height)) <= _LARGEST:
            return columns, width, height
    raise UsageError(f"a sheet of {count} frames would be too large", "give a smaller -k, or leave out --sheet")


def _decoded(jpeg: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return Image.new("RGB", (16, 9))


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """One line of the text, cut off where it does not fit."""
    line, font = " ".join(text.split())[:_LONGEST], ImageFont.load_default(20)
    if draw.textlength(line, font) <= width:
        return line

    def wide(count: int) -> int:
        return math.ceil(draw.textlength(f"{line[:count]}...", font))

    fitting = bisect.bisect_right(range(len(line)), width, key=wide)
    return f"{line[: max(0, fitting - 1)]}..."
