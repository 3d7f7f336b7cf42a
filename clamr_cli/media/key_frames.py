"""Chooses, among sampled frames, the few that matter; thumbnails to compare pictures by, and JPEG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.types import Frame, Span

if TYPE_CHECKING:
    from clamr_cli.media.frames import SampledFrame


FRAME_SIDE: Final = 448  # pixels of the longer side of stored frames at most
_QUALITY: Final = 90
_TEXT_SIDE: Final = 1280  # the same of frames to read text from
_SMALL_TEXT_PIXELS: Final = 4_000_000  # of a picture with small text at most, whatever its sides
_CHANGED_AFTER: Final = 6.0  # seconds after which a shot that has changed gives another frame
_MUCH_CHANGED_AFTER: Final = 3.0
_TEXT_AFTER: Final = 1.0  # seconds between two frames to read text from, at least
_DOUBTFUL_TEXT_AFTER: Final = 4.0  # the same where it is doubtful that there is any text

THUMB: Final = 8  # pixels along each side of a thumbnail, the tiny copy by which two pictures are compared
_SIDE: Final = 32  # pixels along each side of the copy in which shots are told apart
_BLOCK: Final = 4  # of these along each side of the blocks in which local change is measured
_LEVELS: Final = 6  # histogram bins for each colour

_CANDIDATE_QUALITY: Final = 85
_DIFFERENT: Final = 0.05  # image difference from which a picture shows something new
_ONE_COLOUR: Final = 15  # a picture whose thumbnail spans fewer of the 256 levels is one colour


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame worth keeping."""

    frame: Frame  # of the first moment its content was seen; the spans of a video's frames tile its time line
    shot: int  # number of the shot, from 0
    # The picture, large, where what could be text differs from the last such picture; None where it is gone, or is
    # still what it was in the last such picture.
    text_jpeg: bytes | None = field(repr=False)
    text_stays: bool = False  # it is still what it was


def pick_frames(samples: Iterable[SampledFrame], duration: float) -> Iterator[KeyFrame]:
    """Choose among sampled frames: at least one for each shot, more where a shot changes, few where nothing does.

    A frame is picked when a shot begins, when what could be text has changed, and every few seconds while the picture
    changes. Short black or blank stretches between shots are no frames of their own.

    ``samples`` come in time order; the last span ends at ``duration``.
    """
    # Imported here: whoever compares thumbnails needs no OpenCV.
    from clamr_cli.media.text_change import TextChange, TextWatch, stretched

    watch = TextWatch(_TEXT_AFTER, _DOUBTFUL_TEXT_AFTER)
    shot = 0
    before: _Look | None = None
    last: _Look | None = None
    pending: KeyFrame | None = None
    pending_blank = False
    for sample in samples:
        look = _Look(sample.image)
        cut = before is not None and look.is_cut_from(before)
        before = look
        shot += cut
        text = watch.look(sample.time, sample.image)
        changed = cut or text in (TextChange.READ, TextChange.GONE)
        start = 0.0
        if pending is not None and last is not None:
            since = sample.time - pending.frame.time
            least = 0.06 if since >= _CHANGED_AFTER else 0.25 if since >= _MUCH_CHANGED_AFTER else 1.0
            if not changed and look.local_change(last) <= least:
                continue
            if pending_blank and since < _MUCH_CHANGED_AFTER:
                start = pending.frame.span.start
            else:
                yield _ending(pending, sample.time)
                start = sample.time
        last, pending_blank = look, look.blank and text in (TextChange.NONE, TextChange.GONE)
        jpeg = to_jpeg(sample.image, _QUALITY, max_side=FRAME_SIDE)
        text_jpeg = None
        if text is TextChange.READ:
            image, side = sample.image, _TEXT_SIDE
            if sample.enlarge is not None and watch.sees_small_letters(image):
                # As large as the video.
                side = int((_SMALL_TEXT_PIXELS * max(image.shape[:2]) / min(image.shape[:2])) ** 0.5)
                image = sample.enlarge(side)
            text_jpeg = to_jpeg(stretched(image), _QUALITY, max_side=side)
        frame = Frame(sample.time, Span(start, sample.time), jpeg)
        pending = KeyFrame(frame, shot, text_jpeg, text_stays=text is TextChange.SAME)
    if pending is not None:
        yield _ending(pending, max(duration, pending.frame.time))


def _ending(key_frame: KeyFrame, end: float) -> KeyFrame:
    frame = key_frame.frame
    return replace(key_frame, frame=replace(frame, span=Span(frame.span.start, end)))


class _Look:
    """A picture's signature: a tiny copy [32, 32, 3] in [0, 1], a colour histogram that sums to 1, and ``blank``."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        bins = thumbnail(image, 2 * _SIDE).astype(np.int64) * _LEVELS // 256
        flat = (bins[..., 0] * _LEVELS + bins[..., 1]) * _LEVELS + bins[..., 2]
        self.histogram = np.bincount(flat.ravel(), minlength=_LEVELS**3) / flat.size
        self.thumb = thumbnail(image, _SIDE).astype(np.float32) / np.float32(255)
        self.blank = float(np.ptp(self.thumb, axis=(0, 1)).max()) < 0.06

    def is_cut_from(self, other: _Look) -> bool:
        """Whether another shot began: the picture differs everywhere, and so do its colours."""
        difference = float(np.abs(self.thumb - other.thumb).mean())
        colours = 1.0 - float(np.minimum(self.histogram, other.histogram).sum())
        return (difference > 0.12 and colours > 0.35) or difference > 0.3

    def local_change(self, other: _Look) -> float:
        """Mean difference of the block that differs most, in [0, 1]."""
        blocks = np.abs(self.thumb - other.thumb).mean(axis=2).reshape(_SIDE // _BLOCK, _BLOCK, -1, _BLOCK)
        return float(blocks.mean(axis=(1, 3)).max())


def dedupe_frames(
    samples: Iterable[SampledFrame], duration: float, *, longest: float = 16.0, side: int = FRAME_SIDE
) -> Iterator[tuple[Frame, NDArray[np.uint8]]]:
    """Leave out samples that show what the last candidate shows: all that might answer a question remains.

    The spans of the candidates tile the time line. A blank picture is no candidate unless it lasts.

    Args:
        samples: in time order.
        duration: seconds of the whole video; the last span ends there.
        longest: seconds that one candidate may stand for where nothing changes; something may be said meanwhile.
        side: pixels of the longer side of the candidates at most.

    Yields:
        A candidate and its thumbnail [THUMB, THUMB, 3] uint8 RGB.
    """
    pending: tuple[Frame, NDArray[np.uint8]] | None = None
    lasting = False
    for sample in samples:
        thumb = thumbnail(sample.image)
        blank = int(np.ptp(thumb.reshape(-1, 3), axis=0).max()) < _ONE_COLOUR
        # A blank picture that was not seen before may be between two scenes.
        passing, lasting = blank and not lasting, blank
        start = 0.0
        if pending is not None:
            frame, other = pending
            if sample.time - frame.time < longest and (
                passing or float(image_difference(thumb[None], other)[0]) <= _DIFFERENT
            ):
                continue
            yield replace(frame, span=Span(frame.span.start, sample.time)), other
            start = sample.time
        jpeg = to_jpeg(sample.image, _CANDIDATE_QUALITY, max_side=side)
        pending = Frame(sample.time, Span(start, sample.time), jpeg), thumb
    if pending is not None:
        frame, thumb = pending
        yield replace(frame, span=Span(frame.span.start, max(duration, frame.time))), thumb


def image_difference(thumbs: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The difference of each of some thumbnails from another one, at the pixel that differs most.

    That pixel counts in the mean of its colours: a new line of text or a person who enters is seen, noise is not.

    Args:
        thumbs: [n, THUMB, THUMB, 3] uint8.
        other: [THUMB, THUMB, 3] uint8.

    Returns:
        [n] float32 in [0, 1].
    """
    difference = np.abs(thumbs.astype(np.int16) - other)
    sums = difference[..., 0] + difference[..., 1] + difference[..., 2]
    largest: NDArray[np.float32] = sums.reshape(len(thumbs), -1).max(axis=1, initial=0) / np.float32(3 * 255)
    return largest


def thumbnail(image: NDArray[np.uint8], side: int = THUMB) -> NDArray[np.uint8]:
    """A picture [height, width, 3] as [side, side, 3], every pixel the mean of those it stands for."""
    import cv2

    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def to_jpeg(image: NDArray[np.uint8], quality: int, *, max_side: int | None = None) -> bytes:
    """A picture [height, width, 3] uint8 RGB as JPEG, made smaller where its longer side is over ``max_side``."""
    import cv2

    scale = max_side / max(image.shape[:2]) if max_side else 1.0
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])
