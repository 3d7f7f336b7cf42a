"""Contact sheets: pictures side by side, each with its time and what it is, as one picture or as a page of HTML."""

from __future__ import annotations

import base64
import bisect
import html
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import UsageError
from clamr_cli.frames.export import Folder, writing
from clamr_cli.text import escape_terminal, file_link, format_time

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

FORMATS: Final = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""File ending -> Pillow's name of the format."""

PAGE: Final = ".html"
SUFFIXES: Final = (*FORMATS, PAGE)

_WIDTHS: Final = (320, 240, 160)
"""Pixels of a picture's width; the first with which the sheet is not too large."""

_GAP: Final = 8
_CAPTION: Final = 22
_TITLE: Final = 40
_GROUND, _INK, _DIM = "#16181d", "#f2f2f2", "#9aa0aa"
_COLOURS: Final = {
    **dict.fromkeys(("video", "shown"), "#d38bd6"),
    **dict.fromkeys(("speech", "said"), "#63c7d8"),
    **dict.fromkeys(("ocr", "on screen"), "#e3c35b"),
    "metadata": "#7ecf7e",
}
_WIDEST: Final = 4.0
_LARGEST: Final = 8_000
"""Pixels of a side of a sheet at most: about 200 MB while it is drawn, and half of what WebP can hold."""

_LONGEST: Final = 2_000
"""Characters of a text that are looked at: more than fit into the widest sheet."""

_STYLE: Final = f"""
body {{ margin: 1rem; background: {_GROUND}; color: {_INK}; font: 15px/1.4 system-ui, sans-serif; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }}
img {{ width: 100%; aspect-ratio: 16 / 9; object-fit: contain; background: #000; }}
a {{ color: inherit; }}
p {{ margin: 0; overflow-wrap: anywhere; color: {_DIM}; }}
mark {{ background: none; color: #ff7b72; font-weight: bold; }}
"""


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet.

    Attributes:
        jpeg: the picture; empty for none.
        time: its second in the video.
        rank: of the hit.
        modality: that matches best; empty for none.
        title: of the video; empty where all are of one video.
        path: of the file; empty for no link.
        text: what answers there.
        marks: stretches of the text that match.
    """

    jpeg: bytes = field(repr=False)
    time: float
    rank: int
    modality: str = ""
    title: str = ""
    path: str = ""
    text: str = ""
    marks: Sequence[tuple[int, int]] = ()


def sheet(heading: str, tiles: Sequence[Tile], suffix: str) -> bytes:
    """Pictures side by side, each with its time, its rank and what it was chosen by.

    Args:
        heading: stands above; in pictures, characters that Pillow's own font lacks are drawn as boxes.
        tiles: at least one, in the order they are to stand in.
        suffix: of the file; says its format, see :data:`SUFFIXES`.

    Raises:
        UsageError: they are too many for one picture.
    """
    return _page(heading, tiles) if suffix.lower() == PAGE else _picture(heading, tiles, suffix)


def write_sheet(path: Path, heading: str, tiles: Sequence[Tile]) -> None:
    """Write a sheet, whole or not at all, with the folders above it that are missing; UsageError where that fails."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    Folder(path.parent).write(path.name, sheet(heading, tiles, path.suffix))


def check_sheet(name: str, *, force: bool) -> Path:
    """The file of a sheet that is to be written.

    Raises:
        UsageError: the format is unknown, or the file is there and must not be replaced.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"invalid --sheet: {path.name}", f"let it end in {', '.join(SUFFIXES)}")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already", "name another file, or replace it with --force")
    return path


def _page(heading: str, tiles: Sequence[Tile]) -> bytes:
    """A page that needs no other file and runs nothing; all texts of videos are escaped."""

    def text(value: str) -> str:
        return html.escape(escape_terminal(value))

    figures = []
    for tile in tiles:
        picture = f"data:image/jpeg;base64,{base64.b64encode(tile.jpeg).decode()}" if tile.jpeg else "data:,"
        place = f"#{tile.rank} {tile.modality} {format_time(tile.time)}"
        target = f"{file_link(tile.path)}#t={tile.time:.1f}" if tile.path else ""
        image = f'<img src="{picture}" alt="{text(place)}">'
        caption = text(f"{place}  {tile.title}")
        if target:
            link = html.escape(target)
            image, caption = f'<a href="{link}">{image}</a>', f'<a href="{link}">{caption}</a>'
        pieces, end = [], 0
        for start, stop in tile.marks:
            pieces.append(f"{text(tile.text[end:start])}<mark>{text(tile.text[start:stop])}</mark>")
            end = stop
        line = "".join(pieces) + text(tile.text[end:])
        figures.append(f"<figure>{image}<figcaption>{caption}<p>{line}</p></figcaption></figure>")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    title, body = text(heading), "\n".join(figures)
    return (
        f'<!doctype html>\n<html>\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    ).encode("utf-8", "backslashreplace")


def _picture(heading: str, tiles: Sequence[Tile], suffix: str) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    # All cells have the shape of the first picture, as all frames of one video have; of several videos, that of films.
    several = any(tile.title for tile in tiles)
    first = _decoded(tiles[0].jpeg)
    caption = _CAPTION * (2 if several else 1)
    shape = 9 / 16 if several else min(_WIDEST, first.height / first.width)
    columns, width, height = _grid(len(tiles), shape, caption)
    rows = math.ceil(len(tiles) / columns)
    image = Image.new("RGB", _size(columns, rows, width, height, caption), _GROUND)
    draw = ImageDraw.Draw(image)
    large, font = ImageFont.load_default(20), ImageFont.load_default(14)
    draw.text((_GAP, _TITLE / 2), _cut(draw, heading, large, image.width - 2 * _GAP), _INK, large, anchor="lm")
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        left, top = _GAP + column * (width + _GAP), _TITLE + row * (height + caption + _GAP)
        picture = _decoded(tile.jpeg)
        picture.thumbnail((width, height))
        image.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
        middle = top + height + _CAPTION // 2
        draw.text((left, middle), format_time(tile.time), _INK, font, anchor="lm")
        label = f"#{tile.rank}  {tile.modality}" if tile.modality else f"#{tile.rank}"
        draw.text((left + width, middle), label, _COLOURS.get(tile.modality, _DIM), font, anchor="rm")
        draw.text((left, middle + _CAPTION), _cut(draw, tile.title, font, width), _DIM, font, anchor="lm")
    buffer = io.BytesIO()
    image.save(buffer, FORMATS[suffix.lower()], quality=88)
    return buffer.getvalue()


def _cut(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """A text in one line, cut off where it does not fit."""
    text = " ".join(text.split())[:_LONGEST]
    if draw.textlength(text, font) <= width:
        return text
    lengths = range(len(text))
    fitting = bisect.bisect_right(lengths, width, key=lambda n: math.ceil(draw.textlength(f"{text[:n]}...", font)))
    return f"{text[: max(0, fitting - 1)]}..."


def _size(columns: int, rows: int, width: int, height: int, caption: int) -> tuple[int, int]:
    return columns * (width + _GAP) + _GAP, _TITLE + rows * (height + caption + _GAP)


def _grid(count: int, shape: float, caption: int) -> tuple[int, int, int]:
    """Columns, and the size of pictures ``shape`` times as high as wide, of a sheet a little wider than high."""
    for width in _WIDTHS:
        height = max(1, round(width * shape))
        columns = math.ceil(math.sqrt(count * (height + caption) / width * 1.6))
        columns = max(1, min(columns, count))
        if max(_size(columns, math.ceil(count / columns), width, height, caption)) <= _LARGEST:
            return columns, width, height
    raise UsageError(f"a sheet of {count} frames would be too large", "give a smaller number, or leave out --sheet")


def _decoded(jpeg: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            return picture.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return Image.new("RGB", (16, 9))
