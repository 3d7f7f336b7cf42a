"""Smaller pictures for whoever finds them too large."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from PIL import Image

if TYPE_CHECKING:
    from clamr_cli.ask.material import Material

SMALLEST: Final = 112
"""Pixels of the longer side below which little can be recognised."""

_QUALITY: Final = 85


def longest_side(material: Material) -> int:
    """Pixels of the longest side of any frame shown; 0 where there is none."""
    return max((max(_size(shot.jpeg)) for shot in material.shots), default=0)


def smaller(material: Material, side: int) -> Material:
    """The same with frames of at most ``side`` pixels; smaller ones stay as they are, byte for byte."""
    shots = (replace(shot, jpeg=shrunk(shot.jpeg, side)) for shot in material.shots)
    return replace(material, shots=tuple(shots))


def shrunk(jpeg: bytes, side: int) -> bytes:
    """A JPEG whose longer side has at most ``side`` pixels."""
    if max(_size(jpeg)) <= side:
        return jpeg
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(jpeg)) as picture:
        picture.draft("RGB", (side, side))
        small = picture.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _size(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as picture:
        return picture.size
