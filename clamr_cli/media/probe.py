"""Reads the facts that a file states about itself, and measures those that it lacks or gets wrong."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from operator import itemgetter
from typing import Any, Final

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clamr_cli.dates import is_recording_date
from clamr_cli.errors import MediaError
from clamr_cli.languages import audio_role, short_code
from clamr_cli.media.container import (
    LONGEST_HOLE,
    MOST_PIXELS,
    Clock,
    clean_text,
    open_media,
    origin,
    placed_packets,
    read_packets,
    stated_length,
)
from clamr_cli.media.files import truncation
from clamr_cli.timecode import STANDARD_RATES
from clamr_cli.types import AudioTrack, Chapter, MediaInfo, Span, SubtitleTrack, TimeBase

_MOST_CHAPTERS: Final = 2_000
_MOST_TAGS: Final = 100
_LOCATION: Final = re.compile(r"[+-]\d{1,3}(\.\d+)?[+-]\d{1,3}(\.\d+)?([+-]\d+(\.\d+)?)?(CRS\w+)?/?")
_LOCATION_TAGS: Final = ("com.apple.quicktime.location.iso6709", "location", "location-eng")
_CREATED_TAGS: Final = ("com.apple.quicktime.creationdate", "date_recorded", "creation_time", "date")
_NO_DATE_BEFORE: Final = 1971  # a creation time of 1904 or 1970 is a clock that was never set

_NO_MOVING_PICTURE: Final = Disposition.attached_pic | Disposition.timed_thumbnails
_PROTECTED_TAGS: Final = frozenset(("encv", "enca", "drmi", "drms", "drmt"))
_FIRST_PACKETS: Final = 300  # within which a readable stream shows its first frame, or its encryption
_TAIL: Final = 10.0  # seconds before the stated end at which measuring the true end begins
_ROUNDING: Final = 0.2
_MISCOUNTED: Final = 1024  # bytes that a whole file may be shorter than its container says
_PARTS: Final = 8  # of a long file at whose borders is looked whether there is anything
_FASTEST: Final = 500

_SAMPLED: Final = 240  # frames whose distances are compared, at the beginning and in the middle
_EVEN: Final = Fraction(3, 20)  # part of a frame by which distances may differ from the usual one
_EXACT: Final = 0.0002  # part by which a measured rate may differ from a standard one: 24 and 23.976 differ by 0.001
_NEAR: Final = 0.03  # the same where frames are not evenly spaced
_TIMECODE: Final = re.compile(r"(\d\d)[:.;](\d\d)[:.;](\d\d)([:.;])(\d\d\d?)")
_DROPPING: Final = (Fraction(30000, 1001), Fraction(60000, 1001), Fraction(120000, 1001))
"""The rates at which timecodes can drop frame numbers (SMPTE 12M)."""

_AUDIO_FLAGS: Final = {
    Disposition.comment: "commentary",
    Disposition.visual_impaired: "description",
    Disposition.descriptions: "description",
    Disposition.clean_effects: "effects",
    Disposition.karaoke: "effects",
    Disposition.hearing_impaired: "hearing-impaired",
    Disposition.dub: "dub",
}


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
            frame = _first_frame(container, readable, video)
            # An edit list that shows nothing at all is damage.
            if frame or not video or not edits:
                return _describe(path, container, video, frame, edits=edits)
    raise AssertionError("the second reading always ends")  # pragma: no cover


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


def _first_frame(container: InputContainer, readable: Sequence[Stream], video: VideoStream | None) -> VideoFrame | None:
    """The first frame of the picture, if it can be decoded; what is protected or unreadable is refused."""
    protected = MediaError("the video is encrypted (DRM)", "clamr reads only videos without copy protection")
    for stream in readable or container.streams:
        # A damaged tag is none that marks protection.
        with contextlib.suppress(UnicodeDecodeError):
            if stream.codec_context and str(stream.codec_context.codec_tag) in _PROTECTED_TAGS:
                raise protected
    if not readable:
        if container.streams.video or container.streams.audio:
            raise MediaError("no decoder for its picture or its sound", "convert it to H.264 and AAC first")
        raise MediaError("it holds neither picture nor sound", "leave it out with --exclude or in a .clamrignore")
    for packet in itertools.islice(read_packets(container, readable), _FIRST_PACKETS):
        if packet.has_sidedata("encryption_info"):
            raise protected
        if video is None:
            return None
        try:
            frames: list[VideoFrame] = video.decode(packet)
        except av.error.FFmpegError:
            continue  # a damaged first packet says nothing about the rest
        if frames:
            return frames[0]
    return None


def _describe(
    path: str, container: InputContainer, video: VideoStream | None, frame: VideoFrame | None, *, edits: bool
) -> MediaInfo:
    width = height = rotation = 0
    mirrored = False
    if video is not None:
        width, height = (frame.width, frame.height) if frame else (video.width, video.height)
        if width and height:
            side: Any = frame.side_data if frame else {}
            matrix = SideDataType.DISPLAYMATRIX
            rotation, mirrored = orientation(struct.unpack_from("=9i", bytes(side[matrix])) if matrix in side else ())
            width, height = display_size(width, height, video.sample_aspect_ratio)
            if rotation in (90, 270):
                width, height = height, width
        elif container.streams.audio:
            width, height, video = 0, 0, None
        else:
            raise MediaError(
                f"no frame can be decoded: it is damaged, or larger than {MOST_PIXELS // 10**6} megapixels",
                "copy or download it again, or convert it to H.264",
            )
    # Both measures seek, which must come after the first frame and before nothing else.
    header = stated_length(container)
    content = _content_duration(path, container, header, edits=edits)
    tags = clean_tags(container.metadata)
    audio = []
    for stream in container.streams.audio:
        track = _track(stream)
        role = next((role for flag, role in _AUDIO_FLAGS.items() if stream.disposition & flag), "")
        audio.append(AudioTrack(**track, role=role or audio_role(track["title"], track["language"])))
    subtitles = [
        SubtitleTrack(
            **_track(stream),
            text=bool(stream.codec_context and stream.codec_context.codec.text_sub),
            forced=bool(stream.disposition & Disposition.forced),
            hearing_impaired=bool(stream.disposition & Disposition.hearing_impaired),
            comment=bool(stream.disposition & Disposition.comment),
        )
        for stream in container.streams.subtitles
    ]
    chapters = []
    for mark in container.chapters()[:_MOST_CHAPTERS]:
        base = float(mark["time_base"] or 0)
        begin = max(0.0, mark["start"] * base - origin(container))
        end = max(begin, mark["end"] * base - origin(container))
        chapters.append(Chapter(Span(begin, end), clean_text(mark["metadata"].get("title", ""))))
    return MediaInfo(
        container=str(container.format.name),
        duration=choose_duration(header, content),
        duration_from_header=header,
        duration_from_content=content,
        width=width,
        height=height,
        rotation=rotation,
        mirrored=mirrored,
        fps=_rate(video) if video else 0.0,
        video_codec=_codec(video) if video else "",
        video_stream=int(video.index) if video else None,
        audio=tuple(audio),
        subtitles=tuple(subtitles),
        chapters=tuple(sorted(chapters, key=lambda chapter: chapter.span)),
        tags=tags,
        created=created(tags),
        location=location(tags),
        incomplete=_is_incomplete(path, header, content),
        time_base=read_time_base(path, edits=edits),
    )


def orientation(matrix: Sequence[int]) -> tuple[int, bool]:
    """Clockwise degrees (0, 90, 180, 270) of a display matrix, and whether the picture is mirrored before that.

    Of the eight ways to lay a picture on its sides the nearest is taken. The matrix has the nine numbers of ISO
    14496-12, 8.3.2; none, or zeros, leave the picture as it is.
    """
    if not any(matrix[:5]):
        return 0, False
    right_x, right_y, _, down_x, down_y = matrix[:5]
    if abs(right_x) + abs(down_y) >= abs(right_y) + abs(down_x):
        return (180 if down_y < 0 else 0), (right_x < 0) != (down_y < 0)
    mirrored = (right_y < 0) == (down_x < 0)
    return (270 if (right_y < 0) != mirrored else 90), mirrored


def display_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size in square pixels of a picture whose samples have an aspect ratio; absurd ratios count as square."""
    if aspect and Fraction(1, 8) <= aspect <= 8:
        width = max(1, round(width * aspect))
    return width, height


def choose_duration(header: float | None, content: float | None) -> float:
    """The choice between the two sources; see :func:`probe`."""
    if header is None or content is None:
        return content or header or 0.0
    return header if abs(header - content) <= max(1.0, 0.02 * header) else content


def _content_duration(path: str, container: InputContainer, header: float | None, *, edits: bool) -> float | None:
    """The end of the last packet of picture or sound, counted from the first."""
    tail = max(0.0, (header or 0.0) - _TAIL)
    if tail and not _has_hole(container, tail):
        _seek(container, tail + origin(container))
        # Without seeking, what follows the packets read so far still shows the end. An end far behind the stated one is
        # that of a track whose clock differs.
        end = _last_end(container, whole=False)
        if end and end - tail < LONGEST_HOLE:
            return end
    with open_media(path, edits=edits) as anew:
        return _last_end(anew, whole=True)


def _has_hole(container: InputContainer, length: float) -> bool:
    """Whether some time before the end is far from any packet: clocks may have jumped, and all must be read to tell."""
    if length < LONGEST_HOLE:
        return False
    for part in range(1, _PARTS):
        wanted = length * part / _PARTS + origin(container)
        _seek(container, wanted)
        packets = read_packets(container, _moving(container))
        first = next((packet.pts * packet.time_base for packet in packets if packet.pts is not None), None)
        if first is None or abs(wanted - float(first)) > LONGEST_HOLE / 2:
            return True
    return False


def _moving(container: InputContainer) -> list[Stream]:
    streams = (*container.streams.video, *container.streams.audio)
    return [stream for stream in streams if not stream.disposition & _NO_MOVING_PICTURE]


def _seek(container: InputContainer, seconds: float) -> None:
    with contextlib.suppress(av.error.FFmpegError):
        container.seek(round(seconds * av.time_base))


def _last_end(container: InputContainer, *, whole: bool) -> float | None:
    steps = {s.index: 1.0 / (_rate(s) or 25.0) if s.type == "video" else 0.02 for s in _moving(container)}
    clocks = {
        number: Clock(container, container.streams[number], step=step, whole=whole) for number, step in steps.items()
    }
    # The last packets of each stream; how long those before them last, their successors tell.
    last: dict[int, tuple[float, Packet[Any]]] = {}
    for time, packet in placed_packets(container, clocks):
        index = packet.stream_index
        last[index] = max(last.get(index, (-1.0, packet)), (time, packet), key=itemgetter(0))
    ends = (time + clocks[index].length(packet, time) for index, (time, packet) in last.items())
    return max((0.0, *ends)) or None


def _is_incomplete(path: str, header: float | None, content: float | None) -> bool:
    """Whether a file holds less than it says, as after a download or a copy that was cut off.

    Its length in bytes tells it where a container names that, else its end where the header states more than there is.
    """
    if content is None:
        return False
    absent, unfilled = truncation(path)
    missing = (header or 0.0) - content
    # Some writers are off by a few bytes.
    if absent and (header is None or missing > _ROUNDING or absent > _MISCOUNTED):
        return True
    if not unfilled or missing > _ROUNDING:
        return unfilled
    # The index of the file may name pictures of which nothing but zeros is there.
    with open_media(path) as container:
        video = _choose_video(container)
        if video is None or _codec(video) == "rawvideo":
            return False
        _seek(container, max(0.0, content - _TAIL) + origin(container))
        last = deque(read_packets(container, [video]), maxlen=1)
    return bool(last) and not any(bytes(last[0]))


def _rate(stream: Stream) -> float:
    # A guess may be no more than the tick of the time base, e.g. 1000 in WebM.
    rates = (rate for rate in (stream.average_rate, stream.guessed_rate) if rate and rate <= _FASTEST)
    return float(next(rates, 0))


def read_time_base(path: str, *, edits: bool = True) -> TimeBase:
    """Read the frame rate and the timecode of a file: its headers, one frame and the stamps of some hundred more.

    Raises:
        MediaError: gone, unreadable, or no media.
    """
    with open_media(path, edits=edits) as container:
        video = _choose_video(container)
        if video is None:
            return TimeBase()
        timecode, source = _stated_timecode(container, video)
        stamps = [_stamps(container, video)]
        if (length := stated_length(container)) and length > 60:
            _seek(container, length / 2 + origin(container))
            stamps.append(_stamps(container, video))
        gaps = sorted(after - before for some in stamps for before, after in itertools.pairwise(some) if after > before)
        tick = video.time_base or Fraction(1, 1000)
        usual = gaps[len(gaps) // 2] * tick if gaps else Fraction(0)
        measured = len(gaps) / (sum(gaps) * tick) if gaps else Fraction(0)
        average = next((rate for rate in (video.average_rate, measured) if rate and rate <= _FASTEST), Fraction(0))
        variable = any(abs(gap * tick - usual) > max(usual * _EVEN, 2 * tick) for gap in gaps)
        # Frames that are left out elsewhere show in the average alone.
        variable = variable or (len(gaps) > _SAMPLED // 10 and abs(average * usual - 1) > _NEAR)
        rate = _nominal(average, video.guessed_rate or Fraction(0), usual, variable=variable)
        start = max(0.0, float(stamps[0][0] * tick) - origin(container)) if stamps[0] else 0.0
    base = TimeBase(str(rate), str(average.limit_denominator(100_000)), variable, start=round(start, 6))
    if match := _TIMECODE.fullmatch(timecode):
        mark = ";" if match[4] in ";." and rate in _DROPPING else ":"
        return replace(base, timecode=f"{match[1]}:{match[2]}:{match[3]}{mark}{match[5]}", source=source)
    return base


def _stated_timecode(container: InputContainer, video: VideoStream) -> tuple[str, str]:
    """The timecode that a file states, and where; empty texts where it states none."""
    own = {key.lower(): value for key, value in video.metadata.items()}
    tracks = [stream.metadata.get("timecode", "") for stream in container.streams if stream.type == "data"]
    whole = {key.lower(): value for key, value in container.metadata.items()}
    if any(tracks):
        return own.get("timecode") or next(filter(None, tracks)), "tmcd"
    if tag := own.get("timecode") or whole.get("timecode"):
        return tag, "tag"
    # Recorders of broadcast sound count samples since midnight.
    samples = own.get("time_reference") or whole.get("time_reference", "")
    rate = next((stream.sample_rate for stream in container.streams.audio), 0)
    if samples.isascii() and samples.isdigit() and rate:
        seconds, left = divmod(int(samples), rate)
        clock = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{clock}:{int(left * (video.average_rate or 0) / rate):02}", "time_reference"
    return "", ""


def _stamps(container: InputContainer, video: VideoStream) -> list[int]:
    """The time stamps of some frames from here on, in order; the last few are left out, as others may come before."""
    packets = itertools.islice(read_packets(container, [video]), _SAMPLED)
    stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
    return stamps[: max(2, len(stamps) - 16)] if len(stamps) >= _SAMPLED else stamps


def _nominal(average: Fraction, guessed: Fraction, usual: Fraction, *, variable: bool) -> Fraction:
    """The nominal rate: the standard one that is measured, else the measured one in small numbers."""
    distance = 1 / usual if usual else Fraction(0)
    order = (distance, average) if variable else (average, guessed, distance)
    measured = [rate for rate in order if 0 < rate <= _FASTEST]
    for tolerance in (_EXACT, _NEAR) if variable else (_EXACT,):
        for rate in measured:
            nearest = min(STANDARD_RATES, key=lambda other: abs(other / rate - 1))
            if abs(nearest / rate - 1) <= tolerance:
                return nearest
    return measured[0].limit_denominator(1001) if measured else Fraction(0)


def _codec(stream: Stream) -> str:
    return str(stream.codec_context.codec.canonical_name) if stream.codec_context else ""


def _track(stream: Stream) -> dict[str, Any]:
    """The fields that audio and subtitle tracks have in common."""
    return {
        "index": int(stream.index),
        "codec": _codec(stream),
        "language": short_code(stream.language or ""),
        "title": clean_text(stream.metadata.get("title", "")),
        "default": bool(stream.disposition & Disposition.default),
    }


def clean_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Container tags with lower-case keys and clean, capped values; the empty ones left out."""
    cleaned = ((clean_text(key).lower()[:100], clean_text(value)) for key, value in metadata.items())
    return dict(itertools.islice(((key, value) for key, value in cleaned if key and value), _MOST_TAGS))


def created(tags: Mapping[str, str]) -> str:
    """The recording date as ISO 8601, with its time where the container has one; empty where none can be trusted."""
    for key in _CREATED_TAGS:
        try:
            moment = datetime.datetime.fromisoformat(tags.get(key, ""))
        except ValueError:
            continue
        if moment.year >= _NO_DATE_BEFORE and is_recording_date(moment.date().isoformat()):
            whole_day = len(tags[key]) <= len("YYYY-MM-DD")
            return moment.date().isoformat() if whole_day else moment.isoformat()
    return ""


def location(tags: Mapping[str, str]) -> str:
    """The recording place as an ISO 6709 string such as ``+52.5200+013.4050/``, or an empty string."""
    return next((tags[key] for key in _LOCATION_TAGS if _LOCATION.fullmatch(tags.get(key, ""))), "")
