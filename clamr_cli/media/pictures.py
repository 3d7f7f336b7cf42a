"""Pictures and clips that somebody looks for: read as frames are stored."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from clamr_cli import locations
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.media.container import MOST_PIXELS
from clamr_cli.media.frames import frames_at
from clamr_cli.media.key_frames import FRAME_SIDE, to_jpeg
from clamr_cli.media.probe import probe
from clamr_cli.text import format_time
from clamr_cli.types import Frame, Span

CLIP_FRAMES: Final = 8
"""Frames of a clip that are looked at, evenly spread."""

_QUALITY: Final = 90
_MOST_BYTES: Final = 256 * 2**20
_PROGRAMS: Final = frozenset(("EPS", "WMF"))
"""Formats that another program would have to draw."""

_HINT: Final = "give a JPEG, PNG or WebP of a common size"


def read_picture(name: str) -> bytes:
    """A picture as JPEG: upright, of the size that frames are stored with; of an animation the first frame.

    Args:
        name: a file in any format that Pillow reads, or ``-`` for stdin.

    Raises:
        UsageError: there is no such file, or it is no picture, or a too large one.
    """
    shown = "stdin" if name == "-" else name
    try:
        if name == "-":
            content = b"" if sys.stdin is None else sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(name).expanduser().open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}", "name a picture") from error
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{shown} is too large for a picture", _HINT)
    return decode_picture(content, shown)


def decode_picture(content: bytes, shown: str = "the picture") -> bytes:
    """The content of a picture file as :func:`read_picture` gives it; ``shown`` is its name in errors.

    Raises:
        UsageError: it is no picture, or a too large one.
    """
    Image.init()
    formats = [name for name in Image.OPEN if name not in _PROGRAMS]
    try:
        with warnings.catch_warnings():
            # The size is looked at here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=formats)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise UsageError(
                f"{shown} is too large: {width} x {height} pixels", f"give at most {MOST_PIXELS // 10**6} megapixels"
            )
        with image:
            image.seek(0)
            # JPEG can be decoded smaller at once.
            image.draft("RGB", (2 * FRAME_SIDE, 2 * FRAME_SIDE))
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                flat = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(flat, upright.convert("RGBA"))
            pixels = np.asarray(upright.convert("RGB"))
    except UnidentifiedImageError:
        raise UsageError(f"{shown} is no picture", _HINT) from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UsageError(f"{shown} cannot be decoded: {error}", _HINT) from error
    return to_jpeg(pixels, _QUALITY, max_side=FRAME_SIDE)


def begins_as_picture(name: str) -> bool:
    """Whether a file begins as a picture does."""
    try:
        with Image.open(name) as image:
            # FFmpeg plays animations.
            return not getattr(image, "is_animated", False)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def read_clip(name: str, span: Span | None = None) -> list[Frame]:
    """Some frames of a video file, or of a stretch of it, evenly spread; a second is one frame.

    Raises:
        UsageError: the stretch is after the end, or nothing in it can be decoded.
        MediaError: the file cannot be read as a video.
    """
    info = probe(name)
    if info.video_stream is None:
        raise UsageError(f"{name} has no picture", "name a video that has one")
    span = span or Span(0.0, info.duration)
    if span.start > info.duration > 0:
        raise UsageError(
            f"{format_time(span.start)} is after the end of {name}", f"it ends at {format_time(info.duration)}"
        )
    count = CLIP_FRAMES if span.duration > 0 else 1
    times = [span.start + span.duration * (number + 0.5) / count for number in range(count)]
    frames: list[Frame] = []
    # The last frame begins before the end, so a second after its beginning has none of its own.
    for back in (0.0, 0.5, 2.0):
        wanted = times if not back else [max(0.0, time - back) for time in times[-1:]]
        for time, image in () if frames else frames_at(locations.absolute(name), info, wanted, max_side=FRAME_SIDE):
            if image is not None:
                frames.append(Frame(time, Span(time, time), to_jpeg(image, _QUALITY)))
    if not frames:
        raise MediaError(f"no frame of {name} can be decoded there", "name another stretch of it")
    return frames
