"""Videos for browsers: the file as it is, its packets copied into fragmented MP4, or a smaller copy encoded anew.

Copies come in segments, each with the time stamps of its place in the video, so that a player can begin with any.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from clamr_cli import locations
from clamr_cli.errors import MediaError
from clamr_cli.languages import choose_track
from clamr_cli.media.container import Clock, open_media, origin, placed_packets, seek_key
from clamr_cli.media.frames import needs_tone_mapping, picture_of
from clamr_cli.types import MediaInfo

Way = Literal["remux", "transcode"]

COPIED: Final = 4.0  # seconds of a copied segment at least; it goes on to the next keyframe
ENCODED: Final = 2.0  # seconds of an encoded segment: a player waits for all of it
_LONGEST: Final = 30.0  # seconds of a copied segment; a player waits for all of it
_SIDE: Final = 1280  # pixels of the longer side of what is encoded
_LOW: Final = 720  # and of the shorter one
_FASTEST: Final = 31.0  # frames a second that are encoded
_RATE: Final = 48_000  # of encoded sound
_AAC: Final = 1024  # samples in an AAC frame
_PREROLL: Final = 2  # AAC frames encoded before those that are kept: a frame leans on the one before it
_TICK: Final = Fraction(1, 90_000)
_AHEAD: Final = 10  # seconds added to all stamps while a segment is written, so that none is negative
_ROUNDING: Final = 0.002
_UNSEEN: Final = 0.05  # seconds by which the time of a player may differ from that of the index
_GAP: Final = 0.08  # seconds of sound that may be missing before it is a gap
_IDR: Final = 5  # the type of a picture that H.264 can be begun with (ITU-T H.264, table 7-1)
_MOST_HELD: Final = 2**28  # bytes of packets between keyframes
_SLACK: Final = 1.0  # seconds before a moment from which its sound is decoded

_EIGHT_BITS: Final = ("yuv420p", "yuvj420p")
_COPIED: Final = ("h264", "hevc", "vp9", "av1")
_WEB: Final = (frozenset(("vp8", "vp9", "av1", "")), frozenset(("opus", "vorbis", "")))
_MP4: Final = (frozenset(("h264", "hevc", "vp9", "av1", "")), frozenset(("aac", "mp3", "opus", "flac", "")))
_SOUND_FILES: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac", "aac": "audio/aac"}
_NAMES: Final = {"vp8": "vp8", "vorbis": "vorbis", "opus": "opus", "mp3": "mp3", "flac": "flac", "aac": "mp4a.40.2"}


@dataclass(frozen=True, slots=True)
class Playable:
    """MIME types with codecs of what a browser may be given of a video; empty where a way is closed.

    Attributes:
        direct: of the file itself.
        remux: of the copied packets.
        transcode: of what is encoded anew.
    """

    direct: str
    remux: str
    transcode: str


def prepare(_: Callable[..., None]) -> None:
    """Load what segments need, before the first one is asked for."""


def inspect(_: Callable[..., None], path: str, info: MediaInfo) -> Playable:
    """The ways to play a video.

    Raises:
        MediaError: the file is gone or cannot be opened.
    """
    with open_media(path) as container:
        picture, sound = _streams(container, info)
        zero = origin(container)
        codecs = [] if picture is None else [_video_codec(picture, info)]
        copied = picture is not None and bool(codecs[0]) and info.video_codec in _COPIED
        # AVI says only when packets are decoded.
        copied = copied and not (info.rotation or info.mirrored or info.container == "avi" or _reads_in_order(info))
        remux = f'video/mp4; codecs="{", ".join([*codecs, *([_NAMES["aac"]] if sound else [])])}"' if copied else ""
        direct = ""
        first = [stream for stream in container.streams if picture is not None and stream.type == "video"][:1]
        first += [stream for stream in container.streams if sound is not None and stream.type == "audio"][:1]
        # Players take the first stream of each kind, and not all subtract a start that is late.
        if [s for s in (picture, sound) if s is not None] == first and abs(zero) < _UNSEEN and all(codecs):
            kind = _direct_kind(path, info, sound)
            voice = [_audio_codec(sound)] if sound else []
            direct = f'{kind}; codecs="{", ".join([*codecs, *voice])}"' if kind else ""
            direct = direct or (_SOUND_FILES.get(info.container, "") if picture is None else "")
        encoded = [*(["avc1.64001f"] if picture is not None else []), *([_NAMES["aac"]] if sound else [])]
        form = "video/mp4" if picture is not None else "audio/mp4"
        return Playable(direct, remux, f'{form}; codecs="{", ".join(encoded)}"')


def _streams(container: Any, info: MediaInfo) -> tuple[Any, Any]:  # noqa: ANN401
    """The picture and the sound that clamr would choose; None for what is not there."""
    track = choose_track(info)
    numbers = (info.video_stream, track.index if track else None)
    if any(number is not None and number >= len(container.streams) for number in numbers):
        raise MediaError("the file changed since it was indexed", "index again")
    picture, sound = (None if number is None else container.streams[number] for number in numbers)
    return picture, sound


def _reads_in_order(info: MediaInfo) -> bool:
    """Whether the file must be read from its beginning to any moment: its stamps jump, or it has no index."""
    header, content = info.duration_from_header, info.duration_from_content
    return header is None or (content is not None and abs(header - content) > max(1.0, 0.02 * header))


def _direct_kind(path: str, info: MediaInfo, sound: Any) -> str:  # noqa: ANN401
    codecs = (info.video_codec, sound.codec_context.codec.canonical_name if sound else "")
    if "mp4" in info.container and all(codec in known for codec, known in zip(codecs, _MP4, strict=True)):
        return "video/mp4" if info.video_codec else "audio/mp4"
    if "webm" in info.container and all(codec in known for codec, known in zip(codecs, _WEB, strict=True)):
        with locations.open_binary(path) as file:
            # The name of the format is among the first elements.
            return ("video/webm" if info.video_codec else "audio/webm") if b"webm" in file.read(64) else ""
    return ""


def _audio_codec(stream: Any) -> str:  # noqa: ANN401
    name = str(stream.codec_context.codec.canonical_name)
    extra = bytes(stream.codec_context.extradata or b"")
    return f"mp4a.40.{extra[0] >> 3}" if name == "aac" and extra and 0 < extra[0] >> 3 < 31 else _NAMES.get(name, "")


def _video_codec(stream: Any, info: MediaInfo) -> str:  # noqa: ANN401
    """The codec string of RFC 6381; empty for what no browser decodes."""
    if info.video_codec in ("", "vp8"):
        return info.video_codec
    if info.video_codec not in _COPIED:
        return ""
    if info.video_codec == "h264" and stream.codec_context.pix_fmt not in _EIGHT_BITS:
        return ""
    try:
        return codec_string(_empty_file(stream))
    except (av.error.FFmpegError, ValueError):
        return ""


def _empty_file(stream: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=_MOVFLAGS) as target:
        target.add_stream_from_template(stream)
        target.start_encoding()
    return buffer.getvalue()


def codec_string(init: bytes) -> str:
    """The codec string of the picture of an MP4 header, from its decoder's configuration; empty where there is none."""
    for name in (b"avcC", b"hvcC", b"vpcC", b"av1C"):
        place = init.find(name)
        box = init[place + 4 : place + 27]
        if place < 0 or len(box) < 16:
            continue
        if name == b"avcC":
            return f"avc1.{box[1:4].hex()}"
        if name == b"vpcC":
            return f"vp09.{box[4]:02d}.{box[5]:02d}.{box[6] >> 4:02d}"
        if name == b"av1C":
            depth = 8 + 2 * (box[2] >> 6 & 1)
            return f"av01.{box[1] >> 5}.{box[1] & 31:02d}{'H' if box[2] >> 7 else 'M'}.{depth:02d}"
        flags = int(f"{struct.unpack_from('>I', box, 2)[0]:032b}"[::-1], 2)
        rest = box[6:12].rstrip(b"\0")
        parts = ["hvc1", f"{('', 'A', 'B', 'C')[box[1] >> 6]}{box[1] & 31}", f"{flags:X}"]
        parts += [f"{'H' if box[1] >> 5 & 1 else 'L'}{box[12]}", *(f"{byte:X}" for byte in rest)]
        return ".".join(parts)
    return ""


# --- where segments begin ---------------------------------------------------------------------------------------------


def segment_starts(_: Callable[..., None], path: str, info: MediaInfo) -> list[float]:
    """The seconds at which copied segments begin: 0, then keyframes at least :data:`COPIED` apart.

    Raises:
        MediaError: the packets cannot be copied so that a player could begin anywhere; encode them.
    """
    closed = MediaError("its packets cannot be cut into segments", "play it encoded")
    with open_media(path) as container:
        picture, _ = _streams(container, info)
        if picture is None:
            raise closed
        keys = _indexed_keys(container, picture, info)
    if keys is None:
        with open_media(path) as container:
            picture, _ = _streams(container, info)
            clock = Clock(container, picture, step=1 / (info.fps or 25.0))
            keys = []
            for time, packet in placed_packets(container, {picture.index: clock}):
                if not packet.is_keyframe:
                    continue
                if not _is_entrance(packet, info):
                    raise closed
                if not keys or time >= keys[-1] + COPIED:
                    keys.append(time)
    if not keys:
        raise closed
    starts = [0.0, *(key for key in keys[1:] if key < info.duration - COPIED / 4)]
    if any(end - start > _LONGEST for start, end in itertools.pairwise([*starts, info.duration])):
        raise closed
    return starts


def _is_entrance(packet: Any, info: MediaInfo) -> bool:  # noqa: ANN401
    """Whether a browser can begin with a keyframe: in H.264 what is shown before it may lean on what came earlier."""
    if info.video_codec != "h264":
        return True
    content, extra = bytes(packet), bytes(packet.stream.codec_context.extradata or b"")
    if extra[:1] != b"\1":  # start codes, not lengths
        return any(unit and unit[0] & 31 == _IDR for unit in content.split(b"\0\0\1"))
    place, size = 0, (extra[4] & 3) + 1
    while place + size < len(content):
        if content[place + size] & 31 == _IDR:
            return True
        place += size + int.from_bytes(content[place : place + size], "big")
    return False


def _indexed_keys(container: Any, picture: Any, info: MediaInfo) -> list[float] | None:  # noqa: ANN401
    """Keyframes by the container's index; None where it has none that is whole, empty where one is no entrance."""
    base, zero, duration = float(picture.time_base), origin(container), info.duration
    try:
        # Some containers read their index when it is first needed.
        container.seek(round((duration / 2 + zero) / base), stream=picture)
        stamps = [entry.timestamp for entry in picture.index_entries if entry.is_keyframe]
        keys: list[float] = []
        for stamp in sorted(set(stamps)):
            if keys and stamp * base - zero < keys[-1] + COPIED:
                continue
            container.seek(stamp, stream=picture)
            packet = next(container.demux(picture))
            if packet.pts is None or not packet.is_keyframe:
                return None
            if not _is_entrance(packet, info):
                return []
            time = packet.pts * base - zero
            if not keys or time >= keys[-1] + COPIED:
                keys.append(time)
    except (av.error.FFmpegError, StopIteration):
        return None
    return keys if keys and keys[0] < _LONGEST and keys[-1] > duration - _LONGEST else None


# --- writing ----------------------------------------------------------------------------------------------------------

_MOVFLAGS: Final = {
    "movflags": "frag_custom+empty_moov+default_base_moof+negative_cts_offsets",
    "video_track_timescale": str(_TICK.denominator),
    "use_editlist": "0",
}


def write_init(_: Callable[..., None], path: str, info: MediaInfo, way: Way, target: str) -> None:
    """Write the header that all segments of a video share.

    Raises:
        MediaError: the file is gone, or its packets cannot be copied.
    """
    with open_media(path) as container:
        picture, sound = _streams(container, info)
        with _Fragment() as fragment:
            if picture is not None and way == "remux":
                fragment.copied(picture)
            elif picture is not None:
                fragment.film(info)
            if sound is not None and way == "remux" and _copies_sound(sound):
                fragment.copied(sound)
            elif sound is not None:
                fragment.voice()
    _publish(target, fragment.header())


def write_segment(
    report: Callable[..., None], path: str, info: MediaInfo, way: Way, start: float, end: float, target: str
) -> None:
    """Write the segment of a video from ``start`` to ``end`` seconds.

    A copied one begins with the keyframe at ``start``, or with the first of all where ``start`` is 0. An encoded one
    begins with the picture that is on screen at ``start``. It ends early once there is a file :func:`abandoned`.

    Raises:
        MediaError: nothing of it can be read, its packets cannot be copied, or it was abandoned.
    """
    mark = abandoned(target)

    def go_on(done: float, total: float) -> None:
        if mark.exists():
            raise MediaError("nobody waits for the segment", "ask for it again")
        report(done, total)

    try:
        with _Fragment() as fragment, open_media(path) as container:
            picture, sound = _streams(container, info)
            if picture is not None and way == "remux":
                fragment.copy_picture(path, picture, info, start, end)
            elif picture is not None:
                fragment.encode_picture(_reading(path, info, start, end, go_on), info, start, end, go_on)
            go_on(1, 2)
            if sound is not None and way == "remux" and _copies_sound(sound):
                fragment.copy_sound(path, sound, info, start, end)
            elif sound is not None:
                fragment.encode_sound(path, info, sound.index, start, end)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"the segment cannot be written ({reason})", "play it encoded") from error
    _publish(target, fragment.body())


def abandoned(target: str) -> Path:
    """The file that says that nobody waits for a segment any more."""
    return Path(f"{target}.abandoned")


def _publish(target: str, content: bytes) -> None:
    """A file that is whole as soon as it is there."""
    beside = Path(f"{target}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(target)


def _copies_sound(sound: Any) -> bool:  # noqa: ANN401
    context = sound.codec_context
    return bool(context.codec.canonical_name == "aac" and context.extradata)


class _Fragment:
    """One MP4 fragment under construction. Times of tracks are set when all packets are there."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._file: Any = av.open(self._buffer, "w", format="mp4", options=_MOVFLAGS)
        self._starts: list[int] = []  # of each track, in its timescale
        self._pending: list[Any] = []

    def __enter__(self) -> _Fragment:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._file.start_encoding()
            for packet in self._pending:
                self._file.mux(packet)
        self._pending.clear()
        self._file.close()

    def header(self) -> bytes:
        """Boxes ``ftyp`` and ``moov``; HEVC under the name that Apple's players know."""
        boxes = _boxes(self._buffer.getvalue())
        return b"".join(box for name, box in boxes if name in (b"ftyp", b"moov")).replace(b"hev1", b"hvc1")

    def body(self) -> bytes:
        """Boxes ``moof`` and ``mdat``, the tracks beginning where they belong."""
        parts = []
        for name, box in _boxes(self._buffer.getvalue()):
            if name == b"moof":
                parts.append(_with_starts(box, self._starts))
            elif name == b"mdat":
                parts.append(box)
        return b"".join(parts)

    def copied(self, stream: Any) -> Any:  # noqa: ANN401
        return self._file.add_stream_from_template(stream)

    def film(self, info: MediaInfo) -> Any:  # noqa: ANN401
        """A track of encoded pictures: of the same settings for all segments, so that they share one header."""
        rate = Fraction(min(info.fps or 25.0, _FASTEST - 1)).limit_denominator(1001)
        film: Any = self._file.add_stream("libx264", rate=rate)
        film.width, film.height = encoded_size(info)
        film.pix_fmt, film.time_base, film.codec_context.time_base = "yuv420p", _TICK, _TICK
        context = film.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        # Without pictures that are decoded before their turn, stamps to decode by and to show by are the same.
        film.options = {"preset": "superfast", "crf": "23", "bf": "0", "g": "600", "level": "4.0"}
        return film

    def voice(self) -> Any:  # noqa: ANN401
        voice: Any = self._file.add_stream("aac", rate=_RATE, layout="stereo")
        voice.bit_rate = 160_000
        voice.options = {"aac_coder": "fast"}
        return voice

    def copy_picture(self, path: str, picture: Any, info: MediaInfo, start: float, end: float) -> None:  # noqa: ANN401
        output = self.copied(picture)
        packets: list[tuple[int, Any]] = []
        with _opened_at(path, picture.index, info, start) as (_, _, placed):
            for time, packet in placed:
                if packet.is_keyframe and time >= end - _ROUNDING and packets:
                    break
                if packets or (packet.is_keyframe and (start <= 0 or time >= start - _ROUNDING)):
                    packets.append((round(time / _TICK), packet))
        if not packets:
            raise ValueError("there is no keyframe")
        first = round(start / _TICK)
        packets[0] = (first, packets[0][1])
        # Stamps to decode by are those to show by, in order, from the start on. The container takes none that is after
        # the one to show by, so all are early by as much, and the fragment's start makes up for it.
        shown = sorted(stamp for stamp, _ in packets)
        decoded: list[int] = []
        for number, stamp in enumerate(shown):
            decoded.append(max(stamp, first + number, decoded[-1] + 1 if decoded else first))
        early = max(0, *(at - stamp for at, (stamp, _) in zip(decoded, packets, strict=True)))
        lead = _AHEAD / _TICK - first
        for number, (at, (stamp, packet)) in enumerate(zip(decoded, packets, strict=True)):
            packet.stream, packet.time_base = output, _TICK
            packet.pts, packet.dts = int(stamp + lead), int(at - early + lead)
            following = decoded[number + 1] if number + 1 < len(decoded) else max(at + 1, round(end / _TICK))
            packet.duration = following - at
            self._pending.append(packet)
        self._starts.append(first)

    def copy_sound(self, path: str, sound: Any, info: MediaInfo, start: float, end: float) -> None:  # noqa: ANN401
        output = self.copied(sound)
        rate = sound.codec_context.sample_rate
        first = expected = None
        with _opened_at(path, sound.index, info, start) as (_, _, packets):
            for time, packet in packets:
                if time >= end:
                    break
                if time < start:
                    continue
                stamp = round(time * rate)
                # Stamps of some containers are rounded to milliseconds; packets follow each other to the sample.
                if expected is not None and abs(stamp - expected) < _GAP * rate:
                    stamp = expected
                first = stamp if first is None else first
                length = sound.codec_context.frame_size or _AAC
                expected = stamp + length
                packet.stream, packet.time_base = output, Fraction(1, rate)
                packet.pts = packet.dts = stamp - first + _AHEAD * rate
                packet.duration = length
                self._pending.append(packet)
        self._starts.append(first or 0)

    def encode_picture(
        self,
        pictures: Iterator[tuple[float, VideoFrame, Any]],
        info: MediaInfo,
        start: float,
        end: float,
        report: Callable[..., None],
    ) -> None:
        film = self.film(info)
        packets: list[Any] = []
        for time, frame, stream in pictures:
            picture = _small(frame, stream, info, film.width, film.height)
            picture.pts, picture.time_base = round((time - start + _AHEAD) / _TICK), _TICK
            packets += film.encode(picture)
            report(time - start, end - start)
        packets += film.encode(None)
        if not packets:
            raise ValueError("no frame can be decoded")
        ends = [*(packet.pts for packet in packets[1:]), round((end - start + _AHEAD) / _TICK)]
        for packet, following in zip(packets, ends, strict=True):
            packet.duration = max(1, following - packet.pts)
        self._pending += packets
        self._starts.append(round(start / _TICK))

    def encode_sound(self, path: str, info: MediaInfo, number: int, start: float, end: float) -> None:
        voice = self.voice()
        # Frames lie on one grid for the whole video, so segments meet without a gap.
        first, last = (-int(-time * _RATE // _AAC) for time in (start, end))
        begin, stop = (first - _PREROLL) * _AAC, (last + 1) * _AAC
        samples = read_sound(path, info, number, begin, stop)
        packets = []
        for place in range(0, samples.shape[1], _AAC):
            frame = av.AudioFrame.from_ndarray(samples[:, place : place + _AAC], format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = _RATE, place, Fraction(1, _RATE)
            packets += voice.encode(frame)
        packets += voice.encode(None)
        for packet in packets:
            place = round(packet.pts * packet.time_base * _RATE) // _AAC - _PREROLL
            if 0 <= place < last - first:
                packet.time_base = Fraction(1, _RATE)
                packet.pts = packet.dts = place * _AAC + _AHEAD * _RATE
                packet.duration = _AAC
                self._pending.append(packet)
        self._starts.append(first * _AAC)


def _boxes(content: bytes, start: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """The MP4 boxes of a content, each with its name."""
    while start + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, start)
        size = size if size >= 8 else len(content) - start
        yield name, content[start : start + size]
        start += size


def _with_starts(moof: bytes, starts: Sequence[int]) -> bytes:
    """A ``moof`` box whose tracks (numbered from 1) begin at given times, each in its own timescale."""
    changed, place = bytearray(moof), 8
    for name, box in _boxes(moof, 8):
        if name == b"traf":
            header = box.find(b"tfhd")
            times = box.find(b"tfdt")
            (track,) = struct.unpack_from(">I", box, header + 8)
            form, value = (">Q", starts[track - 1]) if box[times + 4] else (">I", starts[track - 1])
            struct.pack_into(form, changed, place + times + 8, value)
        place += len(box)
    return bytes(changed)


# --- decoding ---------------------------------------------------------------------------------------------------------


def encoded_size(info: MediaInfo) -> tuple[int, int]:
    """Width and height of encoded pictures: even, at most 720p, as people see the video."""
    width, height = max(2, info.width), max(2, info.height)
    scale = min(1.0, _SIDE / max(width, height), _LOW / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _small(frame: VideoFrame, stream: Any, info: MediaInfo, width: int, height: int) -> VideoFrame:  # noqa: ANN401
    """A decoded frame as it is encoded: upright, in square pixels, standard range."""
    if info.rotation or info.mirrored or needs_tone_mapping(frame) or frame.format.is_rgb:
        frame = VideoFrame.from_ndarray(picture_of(frame, stream, info, max(width, height)))
    small = frame.reformat(width, height, format="yuv420p", dst_colorspace=Colorspace.ITU709)
    small.color_primaries, small.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return small


@contextlib.contextmanager
def _opened_at(path: str, number: int, info: MediaInfo, start: float) -> Iterator[tuple[Any, Clock, Any]]:
    """A stream that is read from a moment or before it, its clock, and its packets with their times."""
    sought = not _reads_in_order(info)
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(open_media(path))
        if number >= len(container.streams):
            raise MediaError("the file changed since it was indexed", "index again")
        stream: Any = container.streams[number]
        is_picture = stream.type == "video"
        if sought:
            try:
                if is_picture:
                    seek_key(container, stream, start + origin(container))
                else:
                    seconds = max(0.0, start - _SLACK) + origin(container)
                    container.seek(round(seconds / stream.time_base), stream=stream)
            except av.error.FFmpegError:
                # It cannot be sought in: it is read from the beginning.
                sought = False
                container = stack.enter_context(open_media(path))
                stream = container.streams[number]
        if is_picture:
            stream.thread_type = "AUTO"
        clock = Clock(container, stream, step=1 / (info.fps or 25.0) if is_picture else 0.02, whole=not sought)
        yield stream, clock, placed_packets(container, {number: clock})


class _Reading:
    """Decodes the picture of a video from a moment on."""

    def __init__(self, path: str, info: MediaInfo, start: float) -> None:
        self._stack = contextlib.ExitStack()
        assert info.video_stream is not None
        self._stream, self._clock, self._packets = self._stack.enter_context(
            _opened_at(path, info.video_stream, info, start)
        )
        self._step = 0.5 / (info.fps or 25.0)
        self._frames = self._decoded(start)
        self._ahead: list[tuple[float, VideoFrame]] = []
        self._shown: VideoFrame | None = None

    def close(self) -> None:
        self._frames.close()
        self._stack.close()

    def between(self, start: float, end: float, report: Callable[..., None]) -> Iterator[tuple[float, VideoFrame, Any]]:
        """The frames of a stretch with their times and the stream; the first is the one on screen at its start."""
        last = None
        for time, frame in itertools.chain(self._ahead, self._frames):
            if time >= end:
                self._ahead = [(time, frame)]
                break
            if time <= start + _ROUNDING:
                self._shown = frame
                report(0, end - start)
                continue
            if last is None:
                last = start
                yield start, self._shown or frame, self._stream
            if time < last + 1 / _FASTEST:
                continue
            last, self._shown = time, frame
            yield time, frame, self._stream
        else:
            self._ahead = []
        if last is None:
            # Nothing begins in this stretch: what is on screen stays there.
            still = self._shown or next((frame for _, frame in self._ahead), None)
            if still is not None:
                yield start, still, self._stream

    def _decoded(self, start: float) -> Generator[tuple[float, VideoFrame], None, None]:
        held: list[Any] = []
        size, begun, last = 0, False, -1e9
        context = self._stream.codec_context

        def decode(packet: Any) -> list[VideoFrame]:  # noqa: ANN401
            try:
                return list(context.decode(packet))
            except av.error.FFmpegError:
                return []

        def frames() -> Iterator[VideoFrame]:
            nonlocal size, begun
            for time, packet in self._packets:
                if not begun:
                    if packet.is_keyframe and time <= start + _ROUNDING:
                        held.clear()
                        size = 0
                    held.append(packet)
                    size += packet.size
                    if time <= start and size < _MOST_HELD:
                        continue
                    begun = True
                    for earlier in held:
                        yield from decode(earlier)
                    held.clear()
                else:
                    yield from decode(packet)
            for earlier in held:
                yield from decode(earlier)
            yield from decode(None)

        for frame in frames():
            time = None if frame.pts is None else self._clock.seconds(frame.pts)
            if time is not None:
                # Frames come in the order they are shown in, whatever their stamps say.
                last = max(time, last + self._step)
                yield last, frame


_LAST: dict[str, Any] = {}
"""The reading that this process may go on with: playing asks for one segment after the other."""


def _reading(
    path: str, info: MediaInfo, start: float, end: float, report: Callable[..., None]
) -> Iterator[tuple[float, VideoFrame, Any]]:
    """The frames of a stretch, from the last reading where it ended at the stretch's start."""
    reading, place = _LAST.pop("reading", None), _LAST.pop("place", None)
    if reading is not None and place != (path, start):
        reading.close()
        reading = None
    if reading is None:
        reading = _Reading(path, info, start)
    yield from reading.between(start, end, report)
    _LAST.update(reading=reading, place=(path, end))


def read_sound(path: str, info: MediaInfo, number: int, begin: int, stop: int) -> NDArray[np.float32]:
    """Stereo samples [2, stop - begin] at 48 kHz of a track between two samples; silence where there is no sound."""
    line = np.zeros((2, stop - begin), np.float32)
    with _opened_at(path, number, info, begin / _RATE) as (stream, clock, packets):
        resampler = av.AudioResampler("fltp", "stereo", _RATE)
        expected: int | None = None
        for time, packet in packets:
            if time < begin / _RATE - _SLACK:
                continue
            if time > stop / _RATE:
                break
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                continue
            for frame in frames:
                if frame.pts is None or not frame.samples or frame.sample_rate <= 0:
                    continue
                place = round(clock.seconds(frame.pts) * _RATE) - begin
                if expected is None or abs(place - expected) > _GAP * _RATE:
                    expected = place
                frame.pts = None
                try:
                    parts = [part.to_ndarray() for part in resampler.resample(frame)]
                except (ValueError, av.error.FFmpegError):
                    resampler = av.AudioResampler("fltp", "stereo", _RATE)
                    continue
                for part in parts:
                    low, high = max(0, expected), min(line.shape[1], expected + part.shape[1])
                    if low < high:
                        line[:, low:high] = part[:, low - expected : high - expected]
                    expected += part.shape[1]
    return np.clip(np.nan_to_num(line), -1.0, 1.0)
