"""Single frames of a video by their times: as little is decoded as the way to each from the keyframe before it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import av.error

from clamr_cli.errors import MediaError
from clamr_cli.media.container import open_media, origin, seek_key
from clamr_cli.media.frames import picture_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from clamr_cli.types import MediaInfo

_ROUNDING: Final = 0.002
_FAR: Final = 0.5
"""Seconds after the wanted time beyond which a frame is another one."""

_MOST_PACKETS: Final = 20_000
"""Packets looked at for one frame at most: minutes of video, more than lie between any two keyframes worth it."""


def frames_at(
    path: str, info: MediaInfo, times: Sequence[float], *, max_side: int
) -> Iterator[tuple[float, NDArray[Any] | None]]:
    """The frames shown from the given times on, as [height, width, 3] uint8 RGB, in the order of the times.

    None stands for a frame that cannot be found or decoded. Time stamps are taken as the file has them, so in a
    recording whose stamps jump the frame may be another one: compare it with what was seen before.

    Args:
        path: the file.
        info: what :func:`clamr_cli.media.probe.probe` said of it.
        times: seconds.
        max_side: pixels of the longer side at most.

    Raises:
        MediaError: the file is gone or cannot be opened.
    """
    if info.video_stream is None:
        return
    with open_media(path) as container:
        if info.video_stream >= len(container.streams) or container.streams[info.video_stream].type != "video":
            raise MediaError("the file changed since it was prepared", "run the command again")
        stream: Any = container.streams[info.video_stream]
        stream.thread_type = "AUTO"
        for time in times:
            frame = _frame_at(container, stream, time)
            yield time, None if frame is None else picture_of(frame, stream, info, max_side)


def _frame_at(container: InputContainer, stream: Any, time: float) -> VideoFrame | None:  # noqa: ANN401
    base, start = float(stream.time_base), origin(container)
    try:
        seek_key(container, stream, time + start)
        for frame in _decoded(container, stream, time + start):
            if frame.pts is not None and frame.pts * base - start >= time - _ROUNDING:
                return frame if frame.pts * base - start < time + _FAR else None
    except av.error.FFmpegError:
        return None
    return None


def _decoded(container: InputContainer, stream: Any, wanted: float) -> Iterator[VideoFrame]:  # noqa: ANN401
    """Frames from the keyframe on; one that is itself wanted (a stamp in seconds) is decoded alone."""
    first = True
    for packet in islice(container.demux(stream), _MOST_PACKETS):
        yield from _frames(stream, packet)
        stamp = packet.pts
        alone = first and packet.is_keyframe and stamp is not None
        if alone and abs(float(stamp * stream.time_base) - wanted) < _ROUNDING:
            yield from _frames(stream, None)
            # What was drained decodes no more until the decoder is reset.
            stream.codec_context.flush_buffers()
        first = False


def _frames(stream: Any, packet: Any) -> list[VideoFrame]:  # noqa: ANN401
    try:
        return list(stream.codec_context.decode(packet))
    except av.error.FFmpegError:
        return []
