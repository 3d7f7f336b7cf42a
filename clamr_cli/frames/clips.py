"""Short clips around chosen frames."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from clamr_cli.errors import MediaError
from clamr_cli.frames.pictures import SILENCE
from clamr_cli.index import sampling
from clamr_cli.index.executors.local import Worker
from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from clamr_cli.frames.export import Folder
    from clamr_cli.frames.values import FrameHit, Prepared


def suffix(prepared: Prepared, *, exact: bool) -> str:
    """The file ending of a video's clips."""
    from clamr_cli.media.clips import copied_suffix

    return ".mp4" if exact else copied_suffix(prepared.media)


def around(prepared: Prepared, hit: FrameHit, seconds: float) -> Span:
    """The stretch of a clip: so many seconds before and after the frame, within the video."""
    return Span(max(0.0, hit.time - seconds), max(hit.time, min(hit.time + seconds, prepared.media.duration)))


def write_clips(
    prepared: Prepared,
    hits: Sequence[FrameHit],
    names: Mapping[int, str],
    folder: Folder,
    seconds: float,
    *,
    exact: bool,
) -> Iterator[tuple[FrameHit, MediaError | None]]:
    """Cut the clips that the folder lacks, one at a time; each with why it could not be cut, or None.

    Args:
        prepared: the video; its file must be at hand.
        hits: frames of it.
        names: the clip's file name by the frame's number.
        folder: where they go.
        seconds: before and after each frame.
        exact: encode anew to the exact moment; else packets are copied from the keyframe before it on.

    Raises:
        UsageError: the folder cannot be written.
    """
    worker = Worker("cutting", confined=True)
    try:
        for hit in sorted(hits, key=lambda hit: hit.time):
            if not folder.has(names[hit.number]):
                yield hit, _write(worker, prepared, hit, names[hit.number], folder, seconds, exact=exact)
    finally:
        worker.stop()


def _write(
    worker: Worker, prepared: Prepared, hit: FrameHit, name: str, folder: Folder, seconds: float, *, exact: bool
) -> MediaError | None:
    try:
        with folder.draft(name) as draft:
            asked = (prepared.target.path, prepared.media, os.fspath(draft), around(prepared, hit, seconds), exact)
            worker.run(sampling.cut_clip, *asked, stall_timeout=SILENCE)
    except MediaError as error:
        return error
    return None
