"""From sampled frames to candidates: all that might answer a question about a video, without those that repeat.

Streaming: one frame is held back, nothing else grows with the length of the video.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from clamr_cli.media.images import THUMB, change
from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from clamr_cli.media.frames import SampledFrame

_BLANK: Final = 15
"""A picture whose thumb spans fewer of the 256 levels than this is one colour."""


@dataclass(frozen=True, slots=True)
class ThinOptions:
    """What to keep of the samples.

    Attributes:
        change: what must have changed since the last candidate, see :func:`clamr_cli.media.images.change`.
        longest: seconds that one candidate may stand for where nothing changes; something may be said meanwhile.
        side: pixels of the longer side of stored pictures at most.
        quality: of the JPEG files.
    """

    change: float = 0.05
    longest: float = 16.0
    side: int = 448
    quality: int = 85


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A candidate: when it was taken, the stretch it stands for, its JPEG, its thumb [THUMB, THUMB, 3] uint8 RGB."""

    time: float
    span: Span
    jpeg: bytes = field(repr=False)
    thumb: NDArray[np.uint8] = field(repr=False)


def thumb_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture [height, width, 3] as [THUMB, THUMB, 3], every pixel the mean of what it stands for."""
    return np.asarray(cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.uint8)


def thin(samples: Iterable[SampledFrame], duration: float, options: ThinOptions | None = None) -> Iterator[Sighting]:
    """Leave out samples that show what the last candidate shows.

    The spans of the candidates tile the time line. A blank picture is no candidate unless it lasts.

    Args:
        samples: in time order.
        duration: seconds of the whole video; the last span ends there.
        options: see :class:`ThinOptions`.
    """
    options = options or ThinOptions()
    held: Sighting | None = None
    lasting = False
    for sample in samples:
        thumb = thumb_of(sample.image)
        blank = int(np.ptp(thumb.reshape(-1, 3), axis=0).max()) < _BLANK
        passing, lasting = blank and not lasting, blank
        if held is not None and not _adds(thumb, sample.time, held, options, passing=passing):
            continue
        if held is not None:
            yield replace(held, span=Span(held.span.start, sample.time))
        start = 0.0 if held is None else sample.time
        held = Sighting(sample.time, Span(start, sample.time), _jpeg(sample.image, options), thumb)
    if held is not None:
        yield replace(held, span=Span(held.span.start, max(duration, held.time)))


def _adds(thumb: NDArray[np.uint8], time: float, held: Sighting, options: ThinOptions, *, passing: bool) -> bool:
    """Whether a picture says something new; ``passing`` ones, blank and not seen before, may be between two scenes."""
    if time - held.time >= options.longest:
        return True
    return not passing and float(change(thumb[None], held.thumb)[0]) > options.change


def _jpeg(image: NDArray[np.uint8], options: ThinOptions) -> bytes:
    scale = options.side / max(image.shape[:2])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_jpeg(image, options.quality)


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """A picture [height, width, 3] uint8 RGB as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])
