"""From sampled frames to the few that matter: shots, what changed in them, and where text may have changed.

Streaming: one frame is held back, nothing else grows with the length of the video.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from clamr_cli.media.textchange import News, TextWatch, stretched
from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from clamr_cli.media.frames import SampledFrame

_THUMB: Final = 32
_BLOCK: Final = 4
"""Thumb pixels along each side of the blocks in which local change is measured."""

_LEVELS: Final = 6
"""Histogram bins for each colour."""


@dataclass(frozen=True, slots=True)
class PickOptions:
    """What to pick and how to store it.

    Attributes:
        frame_side, text_side: pixels of the longer side of stored frames, and of those to read text from, at most.
        small_text_pixels: pixels of a picture with small text at most, whatever its sides.
        quality: of the JPEG files.
        changed_after: seconds after which a shot that has changed gives another frame.
        much_changed_after: the same where much has changed.
        text_after: seconds between two frames to read text from, at least.
        doubtful_text_after: the same where it is doubtful that there is any text.
    """

    frame_side: int = 448
    text_side: int = 1280
    small_text_pixels: int = 4_000_000
    quality: int = 90
    changed_after: float = 6.0
    much_changed_after: float = 3.0
    text_after: float = 1.0
    doubtful_text_after: float = 4.0


@dataclass(frozen=True, slots=True)
class PickedFrame:
    """A frame worth keeping.

    Attributes:
        time: when it was taken, in seconds; the first moment its content was seen.
        span: the stretch it stands for; the spans of a video's frames tile its time line.
        jpeg: the picture, small.
        text_jpeg: the picture, large, where what could be text differs from the last such picture; else None.
        shot: number of the shot, from 0.
        text_stays: True where ``text_jpeg`` is None because what could be text is still what it was in the last such
            picture. False with None means that what was read there is gone.
    """

    time: float
    span: Span
    jpeg: bytes = field(repr=False)
    text_jpeg: bytes | None = field(repr=False)
    shot: int
    text_stays: bool = False


def pick_frames(
    samples: Iterable[SampledFrame], duration: float, options: PickOptions | None = None
) -> Iterator[PickedFrame]:
    """Choose among sampled frames: at least one for each shot, more where a shot changes, few where nothing does.

    A frame is picked when a shot begins, when what could be text has changed, and every few seconds while the picture
    changes. Short black or blank stretches between shots are no frames of their own.

    Args:
        samples: in time order.
        duration: seconds of the whole video; the last span ends there.
        options: see :class:`PickOptions`.
    """
    options = options or PickOptions()
    picker = _Picker(options)
    held: PickedFrame | None = None
    held_blank = False
    for sample in samples:
        picked = picker.look(sample)
        if picked is None:
            continue
        if held is not None and held_blank and picked.time - held.time < options.much_changed_after:
            picked = replace(picked, span=Span(held.span.start, picked.time))
        elif held is not None:
            yield replace(held, span=Span(held.span.start, picked.time))
        else:
            picked = replace(picked, span=Span(0.0, picked.time))
        held, held_blank = picked, picker.blank
    if held is not None:
        yield replace(held, span=Span(held.span.start, max(duration, held.time)))


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """A picture's signature: a tiny copy [32, 32, 3] in [0, 1] and a colour histogram that sums to 1."""

    thumb: NDArray[np.float32]
    histogram: NDArray[np.float64]

    @classmethod
    def of(cls, image: NDArray[np.uint8]) -> _Look:
        thumb = cv2.resize(image, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
        bins = (
            cv2.resize(image, (2 * _THUMB, 2 * _THUMB), interpolation=cv2.INTER_AREA).astype(np.int64) * _LEVELS // 256
        )
        flat = (bins[..., 0] * _LEVELS + bins[..., 1]) * _LEVELS + bins[..., 2]
        histogram = np.bincount(flat.ravel(), minlength=_LEVELS**3) / flat.size
        return cls(thumb.astype(np.float32) / 255, histogram)

    @property
    def blank(self) -> bool:
        """Whether the picture is one colour."""
        return float(np.ptp(self.thumb, axis=(0, 1)).max()) < 0.06

    def is_cut_from(self, other: _Look) -> bool:
        """Whether another shot began: the picture differs everywhere, and so do its colours."""
        difference = float(np.abs(self.thumb - other.thumb).mean())
        colours = 1.0 - float(np.minimum(self.histogram, other.histogram).sum())
        return (difference > 0.12 and colours > 0.35) or difference > 0.3

    def local_change(self, other: _Look) -> float:
        """Mean difference of the block that differs most, in [0, 1]."""
        blocks = np.abs(self.thumb - other.thumb).mean(axis=2).reshape(_THUMB // _BLOCK, _BLOCK, -1, _BLOCK)
        return float(blocks.mean(axis=(1, 3)).max())


class _Picker:
    """Decides, frame by frame, whether it is worth keeping."""

    def __init__(self, options: PickOptions) -> None:
        self.blank = False
        self._options = options
        self._text = TextWatch(options.text_after, options.doubtful_text_after)
        self._shot = 0
        self._before: _Look | None = None
        self._kept: _Look | None = None
        self._kept_time = 0.0

    def look(self, sample: SampledFrame) -> PickedFrame | None:
        """The frame to keep, with an empty span at its time; None where it adds nothing."""
        look = _Look.of(sample.image)
        cut = self._before is not None and look.is_cut_from(self._before)
        self._before = look
        self._shot += cut
        news = self._text.look(sample.time, sample.image)
        if not (cut or news in (News.READ, News.GONE) or self._differs(look, sample.time)):
            return None
        self._kept, self._kept_time = look, sample.time
        self.blank = look.blank and news in (News.NONE, News.GONE)
        return PickedFrame(
            sample.time,
            Span(sample.time, sample.time),
            self._jpeg(sample.image, self._options.frame_side),
            self._text_jpeg(sample) if news is News.READ else None,
            self._shot,
            text_stays=news is News.SAME,
        )

    def _differs(self, look: _Look, time: float) -> bool:
        if self._kept is None:
            return True
        change, since = look.local_change(self._kept), time - self._kept_time
        return (change > 0.06 and since >= self._options.changed_after) or (
            change > 0.25 and since >= self._options.much_changed_after
        )

    def _text_jpeg(self, sample: SampledFrame) -> bytes:
        """The picture to read text from: as large as the video where the text is small."""
        if sample.enlarge is None or not self._text.sees_small_letters(sample.image):
            return self._jpeg(stretched(sample.image), self._options.text_side)
        long, short = max(sample.image.shape[:2]), min(sample.image.shape[:2])
        side = int((self._options.small_text_pixels * long / short) ** 0.5)
        return self._jpeg(stretched(sample.enlarge(side)), side)

    def _jpeg(self, image: NDArray[np.uint8], side: int) -> bytes:
        scale = side / max(image.shape[:2])
        if scale < 1:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, self._options.quality))[1])
