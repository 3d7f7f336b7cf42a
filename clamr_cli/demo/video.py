"""Writes small video files with PyAV: pictures and narration in, an MP4 or WebM out."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from clamr_cli.demo.narration import Narration

RATE: Final = 48_000
"""Samples a second of the sound that is written; what Opus works at."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A narration and the second of the clip at which it starts."""

    narration: Narration
    at: float


def samples_of(path: Path) -> NDArray[np.float32]:
    """The whole sound of a file: mono float32 samples in [-1, 1] at :data:`RATE`, shape (n,)."""
    resampler = av.AudioResampler("flt", "mono", RATE)
    with av.open(str(path)) as source:
        frames = [out for frame in source.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in [*frames, *resampler.resample(None)]])


def sound(spoken: Sequence[Spoken], duration: float) -> NDArray[np.float32]:
    """Silence of ``duration`` seconds with the narrations in their places, shape (n,) at :data:`RATE`."""
    track = np.zeros(round(duration * RATE), dtype=np.float32)
    for one in spoken:
        start = round(one.at * RATE)
        piece = samples_of(one.narration.path)[: len(track) - start]
        track[start : start + len(piece)] += piece
    return track


def write_video(
    path: Path, pictures: Iterable[Image.Image], fps: int, size: tuple[int, int], track: NDArray[np.float32] | None
) -> None:
    """Encodes pictures (RGB, ``size``) and sound (see :func:`sound`; None for a silent film).

    The file's ending decides: ``.webm`` gets VP9 or VP8 with Opus, anything else H.264 (MPEG-4 where this build of
    FFmpeg has no x264) with AAC. A key frame comes at least every 2 seconds. The two streams are
    interleaved by time.
    """
    web = path.suffix == ".webm"
    with av.open(str(path), "w") as target:
        film = target.add_stream(_video_codec(web=web), rate=fps, options=_FAST[web])
        film.width, film.height = size
        film.pix_fmt = "yuv420p"
        film.codec_context.gop_size = 2 * fps
        voice = None
        if track is not None:
            voice = target.add_stream("libopus" if web else "aac", rate=RATE, layout="mono", bit_rate=48_000)
        sounds = _packets_of(voice, track) if track is not None else iter(())
        waiting = next(sounds, None)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            target.mux(film.encode(frame))
            while waiting is not None and waiting.dts is not None and waiting.dts * waiting.time_base <= number / fps:
                target.mux(waiting)
                waiting = next(sounds, None)
        target.mux(film.encode(None))
        while waiting is not None:
            target.mux(waiting)
            waiting = next(sounds, None)


_FAST: Final = {
    False: {"preset": "ultrafast", "crf": "25"},
    True: {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"},
}


def _video_codec(*, web: bool) -> str:
    """The best encoder that this build of FFmpeg has."""
    wanted = ("libvpx-vp9", "libvpx") if web else ("libx264", "mpeg4")
    return next((name for name in wanted if name in av.codecs_available), wanted[-1])


def _packets_of(stream: Any, track: NDArray[np.float32]) -> Iterator[Any]:  # noqa: ANN401 - PyAV's types are unknown here
    """The encoded packets of a sound track, in time order."""
    step = stream.codec_context.frame_size or 1024
    for start in range(0, len(track), step):
        frame = av.AudioFrame.from_ndarray(track[None, start : start + step], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)
