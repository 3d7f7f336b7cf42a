"""The chosen frames as pictures: from the file at full size, else the small ones that were kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import MediaError
from clamr_cli.frames import kept
from clamr_cli.index import cutting
from clamr_cli.index.executors.local import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.frames.values import FrameHit, Prepared
    from clamr_cli.store import Store

SIDE: Final = 1280
"""Pixels of the longer side of a picture at most, unless something else is asked for."""

SILENCE: Final = 120.0
"""Seconds that one frame or clip may take; a file that needs longer hangs the decoder."""


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
    small = dict(zip(numbers, kept.stills(store, prepared, numbers), strict=True))
    done = 0
    if prepared.target.path and ordered:
        worker = Worker("decoding", confined=True)
        thumbs = [prepared.thumbs[number].tobytes() for number in numbers]
        times = [hit.time for hit in ordered]
        try:
            asked = (cutting.take, prepared.target.path, prepared.media, times, thumbs, side)
            for hit, jpeg in zip(ordered, worker.run(*asked, silence=SILENCE), strict=False):
                yield Picture(hit, jpeg or small[hit.number], small=jpeg is None)
                done += 1
        except MediaError:
            pass  # whatever is wrong with the file, there are the kept ones
        finally:
            worker.stop()
    yield from (Picture(hit, small[hit.number], small=True) for hit in ordered[done:])
