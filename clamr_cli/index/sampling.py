"""Tasks that take frames and clips out of one video: candidates for a question, and what was chosen among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clamr_cli.errors import MediaError
from clamr_cli.index.executors import Report
from clamr_cli.index.tasks import reporting, subtitle_tracks
from clamr_cli.index.workdir import StoredFrame, TrackLines, Workdir
from clamr_cli.text import readable_part
from clamr_cli.types import MediaInfo, Segment, Span

VERSION: Final = "1"
"""Changes when sampling or thinning would give other candidates for the same file."""

_GAPS: Final = 2.0
"""Intervals between two keyframes up to which the keyframes alone are dense enough."""

_SAME: Final = 0.1
"""Difference (see :func:`clamr_cli.media.key_frames.image_difference`) that scaling may make to a stored thumbnail."""

_QUALITY: Final = 92


@dataclass(frozen=True, slots=True)
class SampledMedia:
    """The result of sampling, beside the frames, which lie in the working directory under ``frames``. Stored as JSON.

    ``thumbs`` are the candidates' thumbs [n, 8, 8, 3] uint8 as bytes, ``tracks`` are the embedded subtitles that may
    be wanted, ``notices`` say what was left out and why. ``speech`` is from embedded subtitles where an earlier
    version chose among them.
    """

    media: MediaInfo
    stills: tuple[StoredFrame, ...] = ()
    speech: tuple[Segment, ...] = ()
    notices: tuple[str, ...] = ()
    thumbs: bytes = field(default=b"", repr=False)
    tracks: tuple[TrackLines, ...] = ()


def sample(report: Report, path: str, folder: str, interval: float) -> SampledMedia:
    """Probe a file and bring its candidate frames, densely sampled and thinned, into a working directory."""
    from clamr_cli.media.frames import sample_frames
    from clamr_cli.media.key_frames import FRAME_SIDE, dedupe_frames
    from clamr_cli.media.probe import probe

    info = probe(path)
    report(0.0, info.duration)
    workdir = Workdir(Path(folder))
    workdir.begin()
    frames: list[StoredFrame] = []
    thumbs: list[bytes] = []
    notices = [readable_part(info)] if info.incomplete else []
    try:
        samples = sample_frames(path, info, interval=interval, longest_gap=_GAPS * interval, max_side=FRAME_SIDE)
        candidates = dedupe_frames(reporting(report, samples, info), info.duration)
        for number, (frame, thumb) in enumerate(candidates):
            workdir.add_frame("frames", number, frame.jpeg)
            frames.append(StoredFrame(number, frame.time, frame.span))
            thumbs.append(thumb.tobytes())
    except MediaError as error:
        if not (frames or info.audio):
            raise
        notices.append(f"pictures left out: {error}")
    tracks = subtitle_tracks(path, info)
    return SampledMedia(info, tuple(frames), (), tuple(notices), b"".join(thumbs), tracks)


def take_frames(
    report: Report, path: str, info: MediaInfo, times: Sequence[float], thumbs: Sequence[bytes], side: int
) -> None:
    """Report the frames at some times as JPEG, in their order; None for one that is not what it was when prepared.

    ``thumbs`` are the thumbs at each of them then, [8, 8, 3] uint8 as bytes; ``side`` are pixels at most.
    """
    import numpy as np

    from clamr_cli.media.frames import frames_at
    from clamr_cli.media.key_frames import THUMB, image_difference, thumbnail, to_jpeg

    frames = zip(frames_at(path, info, times, max_side=side), thumbs, strict=True)
    for number, ((_, image), thumb) in enumerate(frames, start=1):
        before = np.frombuffer(thumb, np.uint8).reshape(THUMB, THUMB, 3)
        same = image is not None and float(image_difference(thumbnail(image)[None], before)[0]) <= _SAME
        report(number, len(times), to_jpeg(image, _QUALITY) if same and image is not None else None)


def cut_clip(_report: Report, path: str, info: MediaInfo, target: str, span: Span, exact: bool) -> Span:
    """Cut one clip, encoded anew if ``exact``; returns the stretch that it holds."""
    from clamr_cli.media.clips import copy_clip, encode_clip

    return (encode_clip if exact else copy_clip)(path, info, Path(target), span)
