"""What a file says about itself, and what is measured where it lies or is silent."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import av
import av.error
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition

from clamr_cli.errors import MediaError
from clamr_cli.languages import short_code
from clamr_cli.media.audio import audio_role
from clamr_cli.media.container import (
    LONGEST_HOLE,
    MOST_PIXELS,
    Clock,
    ends_amiss,
    missing_bytes,
    open_media,
    origin,
    read_packets,
    stated_length,
)
from clamr_cli.media.tags import clean_tags, clean_text, created, location
from clamr_cli.types import AudioTrack, Chapter, MediaInfo, Span, SubtitleTrack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MOST_CHAPTERS: Final = 2_000

_NO_MOVING_PICTURE: Final = Disposition.attached_pic | Disposition.timed_thumbnails
_PROTECTED_TAGS: Final = frozenset(("encv", "enca", "drmi", "drms", "drmt"))
_FIRST_PACKETS: Final = 300
"""Packets within which a readable stream shows its first frame, or its encryption."""

_TAIL: Final = 10.0
"""Seconds before the stated end at which measuring the true end begins."""

_ROUNDING: Final = 0.2
_MISCOUNTED: Final = 1024
"""Bytes that a whole file may be shorter than its container says."""

_PARTS: Final = 8
"""Parts of a long file at whose borders is looked whether there is anything."""

_FASTEST: Final = 500

_AUDIO_FLAGS: Final = {
    Disposition.comment: "commentary",
    Disposition.visual_impaired: "description",
    Disposition.descriptions: "description",
    Disposition.clean_effects: "effects",
    Disposition.karaoke: "effects",
    Disposition.hearing_impaired: "hearing-impaired",
    Disposition.dub: "dub",
}


@dataclass(frozen=True, slots=True)
class _Picture:
    """The chosen video stream and its geometry: display size after sample aspect ratio and rotation."""

    stream: VideoStream
    width: int
    height: int
    rotation: int
    mirrored: bool


def probe(path: str) -> MediaInfo:
    """Read a file's headers, its first frame and its end.

    ``duration`` is the header's where the content agrees to within a second or 2 %, else the content's: a header may be
    absent, zero, or claim what was cut off. The content is measured from the last packets, or from all of them where
    the container cannot seek. Of several video streams the default one is taken, and of these the largest; cover art is
    none. Language tags are two-letter codes where there is one. A track without a decoder has an empty codec.

    Raises:
        MediaError: gone, unreadable, empty, cut off, protected, no media, or without any stream that can be decoded.
    """
    for edits in (True, False):
        with open_media(path, edits=edits) as container:
            video = _choose_video(container)
            readable = [video] if video else [stream for stream in container.streams.audio if stream.codec_context]
            if not readable:
                raise _nothing_readable(container)
            frame = _look(container, readable, video)
            # An edit list that shows nothing at all is damage.
            if frame or not video or not edits:
                picture = _geometry(video, frame) if video else None
                if picture is None and not container.streams.audio:
                    raise MediaError(
                        f"no frame can be decoded: it is damaged, or larger than {MOST_PIXELS // 10**6} megapixels",
                        "copy or download it again, or convert it to H.264",
                    )
                return _describe(path, container, picture, edits=edits)
    raise AssertionError("the second reading always ends")  # pragma: no cover


def _describe(path: str, container: InputContainer, picture: _Picture | None, *, edits: bool) -> MediaInfo:
    stream = picture.stream if picture else None
    # Both measures seek, which must come after the first frame and before nothing else.
    header = stated_length(container)
    content = _content_duration(path, container, header, edits=edits)
    tags = clean_tags(container.metadata)
    return MediaInfo(
        container=str(container.format.name),
        duration=choose_duration(header, content),
        duration_from_header=header,
        duration_from_content=content,
        width=picture.width if picture else 0,
        height=picture.height if picture else 0,
        rotation=picture.rotation if picture else 0,
        mirrored=picture is not None and picture.mirrored,
        fps=_rate(stream) if stream else 0.0,
        video_codec=_codec(stream) if stream else "",
        video_stream=int(stream.index) if stream else None,
        audio=tuple(_audio_track(each) for each in container.streams.audio),
        subtitles=tuple(_subtitle_track(each) for each in container.streams.subtitles),
        chapters=_chapters(container),
        tags=tags,
        created=created(tags),
        location=location(tags),
        incomplete=is_incomplete(path, header, content),
    )


def is_incomplete(path: str, header: float | None, content: float | None) -> bool:
    """Whether a file holds less than it says, as after a download or a copy that was cut off.

    Its length in bytes tells it where a container names that, else its end where the header states more than there is.

    Args:
        path: the file.
        header: seconds that the header states.
        content: seconds that were measured.
    """
    if content is None:
        return False
    absent = missing_bytes(path)
    missing = (header or 0.0) - content
    # Some writers are off by a few bytes.
    if absent and (header is None or missing > _ROUNDING or absent > _MISCOUNTED):
        return True
    return ends_amiss(path) and (missing > _ROUNDING or _ends_blank(path, content))


def _ends_blank(path: str, content: float) -> bool:
    """Whether the index of a file names pictures of which nothing but zeros is there."""
    with open_media(path) as container:
        video = _choose_video(container)
        if video is None or _codec(video) == "rawvideo":
            return False
        _seek(container, max(0.0, content - _TAIL) + origin(container))
        last = deque(read_packets(container, [video]), maxlen=1)
    return bool(last) and not any(bytes(last[0]))


def _choose_video(container: InputContainer) -> VideoStream | None:
    streams = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _NO_MOVING_PICTURE
    ]
    return max(
        streams,
        key=lambda stream: (bool(stream.disposition & Disposition.default), stream.width * stream.height),
        default=None,
    )


def _nothing_readable(container: InputContainer) -> MediaError:
    if any(_tag(stream) in _PROTECTED_TAGS for stream in container.streams):
        return _protected()
    if container.streams.video or container.streams.audio:
        return MediaError("no decoder for its picture or its sound", "convert it to H.264 and AAC first")
    return MediaError("it holds neither picture nor sound", "leave it out with --exclude or in a .clamrignore")


def _protected() -> MediaError:
    return MediaError("the video is encrypted (DRM)", "clamr reads only videos without copy protection")


def _tag(stream: Stream) -> str:
    try:
        return str(stream.codec_context.codec_tag) if stream.codec_context else ""
    except UnicodeDecodeError:
        return ""  # a damaged tag is none that marks protection


def _look(container: InputContainer, readable: Sequence[Stream], video: VideoStream | None) -> VideoFrame | None:
    """Decode the first frame of the picture, and refuse what is protected."""
    if any(_tag(stream) in _PROTECTED_TAGS for stream in readable):
        raise _protected()
    for packet in itertools.islice(read_packets(container, readable), _FIRST_PACKETS):
        if packet.has_sidedata("encryption_info"):
            raise _protected()
        if video is None:
            return None
        try:
            frames: list[VideoFrame] = video.decode(packet)
        except av.error.FFmpegError:
            continue  # a damaged first packet says nothing about the rest
        if frames:
            return frames[0]
    return None


def _geometry(video: VideoStream, frame: VideoFrame | None) -> _Picture | None:
    width, height = (frame.width, frame.height) if frame else (video.width, video.height)
    if not width or not height:
        return None
    rotation, mirrored = orientation(_display_matrix(frame))
    width, height = display_size(width, height, video.sample_aspect_ratio)
    if rotation in (90, 270):
        width, height = height, width
    return _Picture(video, width, height, rotation, mirrored)


def _display_matrix(frame: VideoFrame | None) -> tuple[int, ...]:
    """The nine numbers of ISO 14496-12, 8.3.2, that say how a frame is to be shown; none where it says nothing."""
    side: Any = frame.side_data if frame else {}
    return (
        struct.unpack_from("=9i", bytes(side[SideDataType.DISPLAYMATRIX])) if SideDataType.DISPLAYMATRIX in side else ()
    )


def orientation(matrix: Sequence[int]) -> tuple[int, bool]:
    """Clockwise degrees (0, 90, 180, 270) of a display matrix, and whether the picture is mirrored before that.

    Of the eight ways to lay a picture on its sides the nearest is taken; a matrix without numbers leaves it as it is.
    """
    if not any(matrix[:5]):
        return 0, False
    right_x, right_y, _, down_x, down_y = matrix[:5]
    if abs(right_x) + abs(down_y) >= abs(right_y) + abs(down_x):
        mirrored = (right_x < 0) != (down_y < 0)
        return (180 if down_y < 0 else 0), mirrored
    mirrored = (right_y < 0) == (down_x < 0)
    return (270 if right_y < 0 else 90) if not mirrored else (90 if right_y < 0 else 270), mirrored


def display_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size in square pixels of a picture whose samples have an aspect ratio; absurd ratios count as square."""
    if aspect and Fraction(1, 8) <= aspect <= 8:
        width = max(1, round(width * aspect))
    return width, height


def choose_duration(header: float | None, content: float | None) -> float:
    """The one documented choice between the two sources; see :func:`probe`."""
    if header is None or content is None:
        return content or header or 0.0
    return header if abs(header - content) <= max(1.0, 0.02 * header) else content


def _content_duration(path: str, container: InputContainer, header: float | None, *, edits: bool) -> float | None:
    """The end of the last packet of picture or sound, counted from the first."""
    tail = max(0.0, (header or 0.0) - _TAIL)
    if tail and not _has_hole(container, tail):
        _seek(container, tail + origin(container))
        # Where there is no seeking, what follows the packets read so far still shows the end.
        end = _last_end(container, whole=False)
        # An end far behind the stated one is that of a track whose clock differs.
        if end and end - tail < LONGEST_HOLE:
            return end
    with open_media(path, edits=edits) as anew:
        return _last_end(anew, whole=True)


def _moving(container: InputContainer) -> list[Stream]:
    streams = (*container.streams.video, *container.streams.audio)
    return [stream for stream in streams if not stream.disposition & _NO_MOVING_PICTURE]


def _seek(container: InputContainer, seconds: float) -> None:
    with contextlib.suppress(av.error.FFmpegError):
        container.seek(round(seconds * av.time_base))


def _has_hole(container: InputContainer, length: float) -> bool:
    """Whether some time before the end is far from any packet: clocks may have jumped, and all must be read to tell."""
    if length < LONGEST_HOLE:
        return False
    for part in range(1, _PARTS):
        wanted = length * part / _PARTS + origin(container)
        _seek(container, wanted)
        stamps = (one.pts * one.time_base for one in read_packets(container, _moving(container)) if one.pts is not None)
        first = next(stamps, None)
        if first is None or abs(wanted - float(first)) > LONGEST_HOLE / 2:
            return True
    return False


def _last_end(container: InputContainer, *, whole: bool) -> float | None:
    streams = _moving(container)
    clocks = {s.index: Clock(container, s, step=_packet_length(s), whole=whole) for s in streams}
    end = 0.0
    # The last packets of each stream; how long those before them last, their successors tell.
    last: dict[int, tuple[float, Packet[Any]]] = {}
    for packet in read_packets(container, streams):
        for time, placed in clocks[packet.stream_index].push(packet):
            last[placed.stream_index] = max(
                last.get(placed.stream_index, (-1.0, placed)), (time, placed), key=itemgetter(0)
            )
    for index, clock in clocks.items():
        for time, placed in clock.rest():
            last[index] = max(last.get(index, (-1.0, placed)), (time, placed), key=itemgetter(0))
        if index in last:
            end = max(end, last[index][0] + clock.length(last[index][1], last[index][0]))
    return end or None


def _packet_length(stream: Stream) -> float:
    return 1.0 / (_rate(stream) or 25.0) if stream.type == "video" else 0.02


def _rate(stream: Stream) -> float:
    # A guess may be no more than the tick of the time base, e.g. 1000 in WebM.
    rates = (rate for rate in (stream.average_rate, stream.guessed_rate) if rate and rate <= _FASTEST)
    return float(next(rates, 0))


def _codec(stream: Stream) -> str:
    return str(stream.codec_context.codec.canonical_name) if stream.codec_context else ""


def _track(stream: Stream) -> dict[str, Any]:
    return {
        "index": int(stream.index),
        "codec": _codec(stream),
        "language": short_code(stream.language or ""),
        "title": clean_text(stream.metadata.get("title", "")),
        "default": bool(stream.disposition & Disposition.default),
    }


def _audio_track(stream: Stream) -> AudioTrack:
    described = _track(stream)
    role = next((role for flag, role in _AUDIO_FLAGS.items() if stream.disposition & flag), "")
    return AudioTrack(**described, role=role or audio_role(described["title"], described["language"]))


def _subtitle_track(stream: Stream) -> SubtitleTrack:
    return SubtitleTrack(
        **_track(stream),
        text=bool(stream.codec_context and stream.codec_context.codec.text_sub),
        forced=bool(stream.disposition & Disposition.forced),
        hearing_impaired=bool(stream.disposition & Disposition.hearing_impaired),
        comment=bool(stream.disposition & Disposition.comment),
    )


def _chapters(container: InputContainer) -> tuple[Chapter, ...]:
    start = origin(container)
    found = []
    for mark in container.chapters()[:MOST_CHAPTERS]:
        base = float(mark["time_base"] or 0)
        begin = max(0.0, mark["start"] * base - start)
        end = max(begin, mark["end"] * base - start)
        found.append(Chapter(Span(begin, end), clean_text(mark["metadata"].get("title", ""))))
    return tuple(sorted(found, key=lambda chapter: chapter.span))
