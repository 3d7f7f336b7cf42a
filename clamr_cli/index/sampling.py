"""The task that gives a long video's candidate frames: densely sampled, thinned, and brought into a spool."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clamr_cli.errors import MediaError
from clamr_cli.index.executors.local import report
from clamr_cli.index.spool import Spool, Still, TrackLines
from clamr_cli.index.tasks import Step, subtitle_tracks
from clamr_cli.timeline import readable_part
from clamr_cli.types import MediaInfo, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clamr_cli.media.frames import SampledFrame

VERSION: Final = "1"
"""Changes when sampling or thinning would give other candidates for the same file."""

_GAPS: Final = 2.0
"""Intervals between two keyframes up to which the keyframes alone are dense enough."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """What sampling gave beside the pictures, which lie in the spool under ``frames``.

    ``thumbs`` are the candidates' thumbs [n, 8, 8, 3] uint8 as bytes, ``tracks`` are the embedded subtitles that may
    be wanted, ``notices`` tell what was left out and why. ``speech`` is what embedded subtitles say where an earlier
    version chose among them.
    """

    media: MediaInfo
    stills: tuple[Still, ...] = ()
    speech: tuple[Segment, ...] = ()
    notices: tuple[str, ...] = ()
    thumbs: bytes = field(default=b"", repr=False)
    tracks: tuple[TrackLines, ...] = ()


def sample(path: str, folder: str, interval: float) -> Iterator[Step | Sampled]:
    """Probe a file and bring its candidate frames into a spool.

    Args:
        path: the file.
        folder: of the spool; made anew.
        interval: seconds wanted between candidates.

    Raises:
        MediaError: the file gives nothing at all.
    """
    from clamr_cli.media.candidates import ThinOptions, thin
    from clamr_cli.media.frames import FrameOptions, sample_frames
    from clamr_cli.media.probe import probe

    info = probe(path)
    yield Step(0.0, info.duration)
    spool, options = Spool(Path(folder)), ThinOptions()
    spool.begin()
    stills: list[Still] = []
    thumbs: list[bytes] = []
    notices = [readable_part(info)] if info.incomplete else []
    wanted = FrameOptions(interval=interval, longest_gap=_GAPS * interval, max_side=options.side)
    try:
        samples = _reporting(sample_frames(path, info, wanted) if info.video_stream is not None else (), info)
        for number, seen in enumerate(thin(samples, info.duration, options)):
            spool.add_picture("frames", number, seen.jpeg)
            stills.append(Still(number, seen.time, seen.span))
            thumbs.append(seen.thumb.tobytes())
    except MediaError as error:
        if not (stills or info.audio):
            raise
        notices.append(f"pictures left out: {error}")
    tracks = subtitle_tracks(path, info)
    yield Sampled(info, tuple(stills), (), tuple(notices), b"".join(thumbs), tracks)


def _reporting(samples: Iterable[SampledFrame], info: MediaInfo) -> Iterator[SampledFrame]:
    for sampled in samples:
        report(Step(sampled.time, info.duration))
        yield sampled
