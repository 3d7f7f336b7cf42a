"""Tasks that take single frames and short clips out of a video; they run where a damaged file can hurt nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.types import MediaInfo, Span

_SAME: Final = 0.1
"""Change (see :func:`clamr_cli.media.images.change`) between a frame and the thumb kept of it that scaling may make."""

_QUALITY: Final = 92


def take(
    path: str, info: MediaInfo, times: Sequence[float], thumbs: Sequence[bytes], side: int
) -> Iterator[bytes | None]:
    """The frames at some times as JPEG, in their order; None for one that is not what it was when it was prepared.

    Args:
        path: the video.
        info: what the probe said of it.
        times: seconds.
        thumbs: what was seen at each of them, [8, 8, 3] uint8 as bytes.
        side: pixels of the longer side at most.
    """
    import numpy as np

    from clamr_cli.media.candidates import encode_jpeg, thumb_of
    from clamr_cli.media.images import THUMB, change
    from clamr_cli.media.stills import frames_at

    for (_, image), seen in zip(frames_at(path, info, times, max_side=side), thumbs, strict=True):
        before = np.frombuffer(seen, np.uint8).reshape(THUMB, THUMB, 3)
        same = image is not None and float(change(thumb_of(image)[None], before)[0]) <= _SAME
        yield encode_jpeg(image, _QUALITY) if same and image is not None else None


def clip(path: str, info: MediaInfo, target: str, span: Span, exact: bool) -> Iterator[Span | MediaError]:
    """Cut one clip, encoded anew if ``exact``; yields the stretch that it holds, or why there is none."""
    from clamr_cli.media.cut import copy_clip, encode_clip

    try:
        yield (encode_clip if exact else copy_clip)(path, info, Path(target), span)
    except MediaError as error:
        yield error
