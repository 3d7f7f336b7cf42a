"""The chosen frames as pictures: from the file at full size, else the small ones that were kept."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import MediaError
from clamr_cli.frames import stored
from clamr_cli.index import sampling
from clamr_cli.index.executors.local import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.frames.values import FrameHit, Prepared
    from clamr_cli.store import Store

SIDE: Final = 1280
"""Pixels of the longer side of a picture at most, unless something else is asked for."""

SILENCE: Final = 120.0
"""Seconds that one frame or clip may take; a file that needs longer hangs the decoder."""

_AT_ONCE: Final = 16
"""Frames that are decoded before the first of them is given."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as JPEG. ``small`` says that it is the one kept for encoding, at most 448 pixels on the longer side."""

    hit: FrameHit
    jpeg: bytes = field(repr=False)
    small: bool = False


def pictures(store: Store, prepared: Prepared, hits: Sequence[FrameHit], *, side: int = SIDE) -> Iterator[Picture]:
    """The pictures of frames, in time order, one at a time.

    They are decoded from the file in a process of its own. Where that gives nothing, or not what was seen when the
    video was prepared, the picture that was kept is given.

    Args:
        store: the index.
        prepared: the video.
        hits: frames of it.
        side: pixels of the longer side at most; videos are never enlarged.
    """
    ordered = sorted(hits, key=lambda hit: hit.time)
    numbers = [hit.number for hit in ordered]
    small = dict(zip(numbers, stored.stills(store, prepared, numbers), strict=True))
    worker = Worker("decoding", confined=True)
    is_readable = bool(prepared.target.path)
    try:
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            jpegs: list[bytes | None] = []
            if is_readable:
                thumbs = [prepared.thumbs[hit.number].tobytes() for hit in some]
                arguments = (prepared.target.path, prepared.media, [hit.time for hit in some], thumbs, side)
                collect = partial(_collect, jpegs)
                try:
                    worker.run(sampling.take_frames, *arguments, stall_timeout=SILENCE, on_report=collect)
                except MediaError:
                    is_readable = False  # whatever is wrong with the file, there are the stored ones
            for hit, jpeg in itertools.zip_longest(some, jpegs):
                yield Picture(hit, jpeg or small[hit.number], small=jpeg is None)
    finally:
        worker.stop()


def _collect(jpegs: list[bytes | None], _done: float, _total: float, jpeg: bytes | None = None, /) -> None:
    jpegs.append(jpeg)
