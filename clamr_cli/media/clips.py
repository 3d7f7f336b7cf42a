"""Parts of videos as files of their own: packets copied from a keyframe on, or everything encoded anew to the frame."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from av.codec import codecs_available
from av.container import InputContainer, OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from clamr_cli.errors import MediaError
from clamr_cli.languages import choose_track
from clamr_cli.media.container import open_media, origin, seek_key, subtitle_text
from clamr_cli.media.frames import frames_at, picture_of
from clamr_cli.timecode import common_rate, frame_at, rate_of, start_frame, timecode
from clamr_cli.types import MediaInfo, Span

MUXERS: Final[Mapping[str, str]] = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""File ending of clips -> FFmpeg's name of the container."""

_IN_MP4: Final = frozenset(
    ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "aac", "mp3", "mp2", "ac3", "eac3",
     "alac", "opus", "flac", "dca")
)  # fmt: skip
"""Codecs that players expect in MP4; others of QuickTime, such as ProRes and PCM, stay in MOV."""
_SUBTITLES: Final = {
    "mp4": ("mov_text",),
    "mov": ("mov_text",),
    "matroska": ("subrip", "ass", "webvtt"),
    "webm": ("webvtt",),
}
_AUDIO_RATE: Final = 48_000
_TICK: Final = Fraction(1, 90_000)
_MOST_EARLY: Final = 32  # packets at the beginning without a stamp to decode by: more than any codec reorders
_MARGIN: Final = 2.0  # seconds after the end until which packets are read: streams are interleaved only about in time
_MOST_WILD: Final = 16  # packets in a row whose stamps lie beyond a clip's end though the clip goes on
_ROUNDING: Final = 1e-4  # seconds that times in decimals are off by
_COPIED_ANYWAY: Final = "copy or download the video again; --exact encodes the clip anew"
_X264: Final = {"preset": "veryfast", "crf": "20"}

Progress = Callable[[float], None]
"""Is called with the seconds that are done."""


def _nothing_to_report(_: float) -> None:
    """Take no notice of progress."""


def copied_suffix(info: MediaInfo) -> str:
    """The file ending of clips whose packets are copied: the container's own where players expect it, else Matroska."""
    if "mp4" in info.container:
        codecs = {info.video_codec, *(track.codec for track in info.audio)} - {""}
        return ".mp4" if codecs <= _IN_MP4 else ".mov"
    return ".webm" if info.video_codec in ("vp8", "vp9", "av1") and "webm" in info.container else ".mkv"


@contextlib.contextmanager
def _source(path: str, info: MediaInfo, *, whole: bool = True) -> Iterator[tuple[InputContainer, list[Any]]]:
    """The video, its picture first, and its sound: that a player would choose first, with ``whole`` all tracks."""
    with open_media(path) as source:
        track = choose_track(info)
        audio = [] if track is None else [track.index]
        if whole:
            audio += [other.index for other in info.audio if other.codec and other.index not in audio]
        wanted = [number for number in (info.video_stream, *audio) if number is not None]
        if any(number >= len(source.streams) for number in wanted):
            raise MediaError("the file changed since it was prepared", "run the command again")
        yield source, [source.streams[number] for number in wanted]


@contextlib.contextmanager
def _target(target: Path) -> Iterator[OutputContainer]:
    """The file to write, of the format that its ending says."""
    options = {"movflags": "+faststart"} if MUXERS[target.suffix.lower()] in ("mp4", "mov") else {}
    try:
        with av.open(str(target), "w", format=MUXERS[target.suffix.lower()], options=options) as written:
            yield written
    except (av.error.FFmpegError, ValueError) as error:  # ValueError: the container cannot hold the codec
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"the clip cannot be cut out ({reason})", _COPIED_ANYWAY) from error


def _describe(stream: Any, source: Any) -> None:  # noqa: ANN401
    """Give a track of a clip the language, the title and the role of the source's."""
    stream.metadata.clear()
    stream.metadata.update({key: value for key, value in source.metadata.items() if key in ("language", "title")})
    stream.disposition = source.disposition


def _set_timecode(written: OutputContainer, info: MediaInfo, start: float) -> None:
    """State the timecode of a clip's first frame, where the source states its own."""
    if info.time_base is not None and info.time_base.timecode:
        rate = rate_of(info)
        number = start_frame(info.time_base, rate) + frame_at(start - info.time_base.start, rate)
        written.metadata["timecode"] = timecode(number, rate, drop=info.time_base.drop_frame)


def copy_clip(path: str, info: MediaInfo, target: Path, span: Span) -> Span:
    """Copy the packets of a stretch, from the last keyframe before it on, and return the stretch that the clip holds.

    All sound tracks and the text subtitles that the container can hold come along. The ending of ``target`` must be
    that of :func:`copied_suffix`.

    Raises:
        MediaError: nothing of it can be read, or the clip cannot be written.
    """
    with _source(path, info) as (source, streams), _target(target) as written:
        known = _SUBTITLES[MUXERS[target.suffix.lower()]]
        texts = [
            source.streams[track.index]
            for track in info.subtitles
            if track.text and track.codec in known and track.index < len(source.streams)
        ]
        outputs = {}
        for stream in (*streams, *texts):
            outputs[stream.index] = written.add_stream_from_template(stream)
            _describe(outputs[stream.index], stream)
        first, last, _ = _copy(
            source, [*streams, *texts], outputs, written, span, begun=lambda at: _set_timecode(written, info, at)
        )
        return Span(first, last)


def _copy(
    source: InputContainer,
    streams: Sequence[Any],
    outputs: Mapping[int, Any],
    written: OutputContainer,
    span: Span,
    *,
    offset: Fraction = Fraction(0),
    latest: dict[int, Fraction] | None = None,
    begun: Progress = _nothing_to_report,
) -> tuple[float, float, Fraction]:
    """Copy the packets of a stretch so that it begins ``offset`` seconds after the target's begin.

    ``latest`` are the stamps to decode by that each target stream had last: later packets come after them. ``begun`` is
    called with the time of the first picture before anything is written.

    Returns:
        The times of the first and the last packet in the source, and the end of the picture in the target.
    """
    picture, zero = streams[0], origin(source)
    latest = {} if latest is None else latest
    key = _last_key(source, picture, span.start + zero)
    end = offset

    def mux(packet: Any) -> None:  # noqa: ANN401
        nonlocal end
        base = packet.time_base
        shift = round((Fraction((first or 0.0) + zero) - offset) / base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        output = outputs[packet.stream.index]
        before = latest.get(output.index)
        if before is not None and packet.dts * base <= before:
            # At a joint: a packet of sound more or less, and a stamp to decode by that is moved.
            moved = math.floor(before / base) + 1
            if packet.stream is not picture or moved > packet.pts:
                return
            packet.dts = moved
        latest[output.index] = packet.dts * base
        if packet.stream is picture:
            usual = packet.duration or round(1 / (packet.stream.average_rate or 25) / base)
            end = max(end, (packet.pts + usual) * base)
        packet.stream = output
        written.mux(packet)

    first = last = None
    early: list[Any] = []
    late: list[Any] = []
    beyond = 0
    for packet in _stamped(source.demux(list(streams)), picture):
        time = float(packet.pts * packet.time_base) - zero
        decoded_at = float(packet.dts * packet.time_base) - zero
        # A few stamps may be wild; what they stand on is not the end.
        beyond = beyond + 1 if min(time, decoded_at) > span.end + _MARGIN else 0
        if beyond > _MOST_WILD:
            break
        is_picture = packet.stream is picture
        if first is None and not (is_picture and packet.is_keyframe and time + zero >= key - _ROUNDING):
            early.append(packet)
            continue
        if first is None:
            first = last = time
            begun(time)
            for pending in early:
                if float(pending.pts * pending.time_base) - zero >= first:
                    mux(pending)
            early.clear()
        if first <= time < max(span.end - _ROUNDING, first + 0.001):
            last = max(last or first, time)
            # What is shown after the end is kept where frames that are shown before it are decoded from it.
            for pending in (*late, packet) if is_picture else (packet,):
                mux(pending)
            if is_picture:
                late.clear()
        elif is_picture and time >= first:
            late.append(packet)
    if first is None or last is None:
        raise MediaError("no keyframe of the picture can be read there", _COPIED_ANYWAY)
    return first, max(first, last), end


def _last_key(source: InputContainer, picture: Any, seconds: float) -> float:  # noqa: ANN401
    """Go to the last keyframe not after a time stamp, or some way before it; returns its stamp.

    Containers count by the stamps to decode by, and may seek to the keyframe before it.
    """
    seek_key(source, picture, seconds)
    key = -math.inf
    for packet in source.demux(picture):
        if packet.pts is None:
            continue
        stamp = float(packet.pts * packet.time_base)
        decoded = stamp if packet.dts is None else float(packet.dts * packet.time_base)
        if decoded > seconds + _ROUNDING:
            break
        if packet.is_keyframe and stamp <= seconds + _ROUNDING:
            key = stamp
    seek_key(source, picture, seconds)
    return key


def _stamped(packets: Iterator[Any], picture: Any) -> Iterator[Any]:  # noqa: ANN401
    """The packets with both their stamps; of the first, containers such as Matroska leave out that to decode by."""
    early: list[Any] = []
    begun = False

    def dated(following: int) -> Iterator[Any]:
        # One tick apart, before the packet that follows them.
        for place, packet in enumerate(early, start=following - len(early)):
            packet.dts = place
            yield packet

    for packet in packets:
        if packet.pts is None:
            continue
        if packet.dts is None:
            if packet.stream is picture and not begun and len(early) < _MOST_EARLY:
                early.append(packet)
            continue
        if packet.stream is picture and not begun:
            begun = True
            yield from dated(packet.dts)
        yield packet
    if not begun and early:
        yield from dated(min(packet.pts for packet in early))


def _add_film(written: OutputContainer, width: int, height: int, rate: Fraction) -> Any:  # noqa: ANN401
    """A picture to encode: H.264, or MPEG-4 where there is no x264, in the colours of HD video."""
    x264 = "libx264" in codecs_available
    film: Any = written.add_stream("libx264" if x264 else "mpeg4", rate=rate)
    film.width, film.height, film.pix_fmt = width, height, "yuv420p"
    context = film.codec_context
    context.time_base = _TICK
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    if x264:
        film.options = dict(_X264)
    return film


def _encode(film: Any, image: Any, time: Fraction) -> Any:  # noqa: ANN401
    """The packets of an RGB picture [height, width, 3] uint8 that is shown at a time."""
    frame = av.VideoFrame.from_ndarray(image)
    frame = frame.reformat(film.width, film.height, format="yuv420p", dst_colorspace=Colorspace.ITU709)
    frame.color_primaries, frame.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    frame.pts, frame.time_base = round(time / _TICK), _TICK
    return film.encode(frame)


def encode_clip(path: str, info: MediaInfo, target: Path, span: Span, progress: Progress = _nothing_to_report) -> Span:
    """Encode a stretch anew, exact to the frame: H.264 (MPEG-4 where there is no x264) and AAC in an MP4.

    All sound tracks and text subtitles come along, and frames stay as far apart as they are. Returns and raises as
    :func:`copy_clip`; the ending of ``target`` is ``.mp4``.
    """
    nothing = MediaError("no frame of the picture can be decoded there", "try to play the video at that moment")
    if info.video_stream is None:
        raise nothing
    span = on_frames(info, span)
    with _source(path, info) as (source, streams), _target(target) as written:
        film = _add_film(written, info.width // 2 * 2, info.height // 2 * 2, rate_of(info))
        _set_timecode(written, info, span.start)
        voices: dict[int, tuple[Any, Any]] = {}
        for stream in streams[1:]:
            voice: Any = written.add_stream("aac", rate=_AUDIO_RATE, layout="stereo")
            _describe(voice, stream)
            voices[stream.index] = voice, av.AudioResampler("fltp", "stereo", _AUDIO_RATE)
        texts: dict[int, Any] = {}
        for track in info.subtitles:
            if track.text and track.index < len(source.streams):
                texts[track.index] = written.add_mux_stream("mov_text")
                texts[track.index].time_base = Fraction(1, 1000)
                _describe(texts[track.index], source.streams[track.index])
        pictures = 0
        lines: dict[int, float] = dict.fromkeys(texts, 0.0)
        for stream, time, frame in _frames(source, streams, info, span, [source.streams[index] for index in texts]):
            if stream is streams[0]:
                pictures += 1
                image = picture_of(frame, stream, info, max(info.width, info.height))
                written.mux(_encode(film, image, Fraction(time - span.start)))
                progress(time - span.start)
            elif stream.index in texts:
                packet, text = frame
                start, end = max(time, span.start, lines[stream.index]), min(time + _length(packet), span.end)
                if end > start:
                    lines[stream.index] = end
                    written.mux(_text_packet(texts[stream.index], text, start - span.start, end - span.start))
            elif stream.index in voices:
                voice, resampler = voices[stream.index]
                frame.pts, frame.time_base = round((time - span.start) * _AUDIO_RATE), Fraction(1, _AUDIO_RATE)
                for part in resampler.resample(frame):
                    written.mux(voice.encode(part))
        if not pictures:
            raise nothing
        for stream in (film, *(voice for voice, _ in voices.values())):
            written.mux(stream.encode(None))
    return span


def on_frames(info: MediaInfo, span: Span) -> Span:
    """A stretch whose bounds are moved to the nearest borders of frames, where these are evenly spaced."""
    base = info.time_base
    if base is None or base.variable or base.rate == "0":
        return span
    rate, zero = Fraction(base.rate), Fraction(base.start)
    start, end = (round((Fraction(bound) - zero) * rate) for bound in (span.start, span.end))
    return Span(max(0.0, float(start / rate + zero)), float(max(end, start + 1) / rate + zero))


def _length(packet: Any) -> float:  # noqa: ANN401
    return float((packet.duration or 0) * packet.time_base) or 4.0


def _text_packet(stream: Any, text: str, start: float, end: float) -> Any:  # noqa: ANN401
    """A line of subtitles as MP4 holds it: its length in two bytes, and UTF-8."""
    content = text.encode("utf-8", "replace")[:65_535]
    packet = av.Packet(len(content).to_bytes(2, "big") + content)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = round(start * 1000)
    packet.duration = round((end - start) * 1000)
    return packet


def _frames(
    source: InputContainer, streams: Sequence[Any], info: MediaInfo, span: Span, texts: Sequence[Any] = ()
) -> Iterator[tuple[Any, float, Any]]:
    """Decoded frames of a stretch with their streams and times, damaged packets left out.

    Frames that are evenly spaced belong to the nearest border: stamps may be rounded to milliseconds. The picture that
    is on screen at the beginning is the first, at whatever time it came. Of subtitles it is the packet
    and its text that are given, from some time before the beginning.
    """
    picture, zero = streams[0], origin(source)
    picture.thread_type = "AUTO"
    seek_key(source, picture, span.start + zero)
    base = info.time_base
    is_even = base is not None and not base.variable and base.rate != "0"
    slack = 0.4 / float(rate_of(info)) if is_even else _ROUNDING
    pending: Any = None
    begun = False
    beyond = 0
    for packet in source.demux([*streams, *texts]):
        dts = None if packet.dts is None else float(packet.dts * packet.time_base) - zero
        beyond = beyond + 1 if dts is not None and dts > span.end + _MARGIN else 0
        if beyond > _MOST_WILD:
            break
        if packet.stream in texts:
            if packet.pts is not None and (text := subtitle_text(packet)):
                yield packet.stream, float(packet.pts * packet.time_base) - zero, (packet, text)
            continue
        try:
            frames: list[Any] = list(packet.decode())
        except av.error.FFmpegError:
            continue
        for frame in frames:
            time = frame.time - zero if frame.time is not None else -1.0
            early = slack if packet.stream is picture else _ROUNDING
            if packet.stream is picture and not begun and time < span.start - early:
                pending = frame
            elif span.start - early <= time < span.end - early:
                if packet.stream is picture and not begun and pending is not None and time > span.start + slack:
                    yield picture, span.start, pending
                begun = begun or packet.stream is picture
                yield packet.stream, max(time, span.start), frame
    if not begun and pending is not None:
        yield picture, span.start, pending


# --- several stretches in one file ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a video that becomes a part of another one."""

    path: str
    info: MediaInfo
    span: Span


@dataclass(frozen=True, slots=True)
class Joint:
    """A part of a joined video: the stretch of its source that it holds, and where it lies in the joined video."""

    source: Span
    target: Span


@dataclass(frozen=True, slots=True)
class Joined:
    """A joined video: its parts, and why it had to be encoded; empty where packets were copied."""

    parts: tuple[Joint, ...]
    encoded_because: str


def join(pieces: Sequence[Piece], target: Path, *, exact: bool, progress: Progress = _nothing_to_report) -> Joined:
    """Write stretches of videos one after another into one file, whose ending says its container.

    Packets are copied, each stretch from a keyframe on, where the sources have the same codecs and parameters and not
    ``exact``; else all are encoded to the size and the frame rate (see :func:`clamr_cli.timecode.common_rate`) of most
    of them, with black bars.

    Raises:
        MediaError: one of them cannot be read, or the file cannot be written.
    """
    reason = "--exact" if exact else _difference(pieces)
    if not reason:
        try:
            return Joined(tuple(_join_copied(pieces, target, progress)), "")
        except MediaError as error:
            if "cannot be cut out" not in error.what:
                raise
            reason = f"{target.suffix} cannot hold it as it is"
    return Joined(tuple(_join_encoded(pieces, target, progress)), reason)


def _difference(pieces: Sequence[Piece]) -> str:
    """In what the sources differ so that their packets cannot follow each other; empty where they do not."""
    parameters: dict[str, tuple[object, ...]] = {}
    for piece in pieces:
        if piece.path in parameters:
            continue
        if piece.info.video_stream is None:
            raise MediaError("it has no picture", "leave it out, or cut it alone")
        with _source(piece.path, piece.info, whole=False) as (_, streams):
            picture, sound = streams[0].codec_context, streams[1].codec_context if len(streams) > 1 else None
            turned = (piece.info.width, piece.info.height, piece.info.rotation, piece.info.mirrored)
            heard = (sound.name, sound.sample_rate, sound.layout.name, bytes(sound.extradata or b"")) if sound else ()
            coded = (picture.name, picture.pix_fmt, bytes(picture.extradata or b""))
            parameters[piece.path] = (turned, rate_of(piece.info), heard, coded)
    for name, values in zip(
        ("size", "frame rate", "sound", "codec"), zip(*parameters.values(), strict=True), strict=True
    ):
        if len(set(values)) > 1:
            return f"the sources differ in their {name}"
    return ""


def _join_copied(pieces: Sequence[Piece], target: Path, progress: Progress) -> Iterator[Joint]:
    offset, latest = Fraction(0), dict[int, Fraction]()
    parts: list[Joint] = []
    with _target(target) as written:
        made: list[Any] = []
        for piece in pieces:
            with _source(piece.path, piece.info, whole=False) as (source, streams):
                if not made:
                    for stream in streams:
                        made.append(written.add_stream_from_template(stream))
                        _describe(made[-1], stream)
                outputs = {stream.index: output for stream, output in zip(streams, made, strict=True)}
                first, _, end = _copy(source, streams, outputs, written, piece.span, offset=offset, latest=latest)
            length = float(end - offset)
            parts.append(Joint(Span(first, first + length), Span(float(offset), float(end))))
            offset = end
            progress(float(offset))
    yield from parts


def _join_encoded(pieces: Sequence[Piece], target: Path, progress: Progress) -> Iterator[Joint]:
    if target.suffix.lower() not in (".mp4", ".m4v", ".mov", ".mkv"):
        raise MediaError(f"a {target.suffix} file cannot hold H.264", "let its name end in .mp4")
    sizes: dict[tuple[int, int], float] = {}
    rates: dict[Fraction, float] = {}
    for piece in pieces:
        size, rate = (piece.info.width // 2 * 2, piece.info.height // 2 * 2), rate_of(piece.info)
        sizes[size] = sizes.get(size, 0.0) + piece.span.duration
        rates[rate] = rates.get(rate, 0.0) + piece.span.duration
    (width, height), rate = max(sizes, key=lambda size: sizes[size]), common_rate(rates)
    parts: list[Joint] = []
    with _target(target) as written:
        film = _add_film(written, width, height, rate)
        voice: Any = None
        if any(choose_track(piece.info) for piece in pieces):
            voice = written.add_stream("aac", rate=_AUDIO_RATE, layout="stereo")
        number = samples = 0
        for piece in (replace(piece, span=on_frames(piece.info, piece.span)) for piece in pieces):
            begin, count = number, max(1, round(Fraction(piece.span.duration) * rate))
            sound = _Sound(voice, written, samples, round((begin + count) / rate * _AUDIO_RATE))
            shown: Any = None

            def show(until: int) -> None:
                nonlocal number
                image = _letterboxed(shown, piece.info, width, height) if number < until else None  # noqa: B023
                while number < until:
                    written.mux(_encode(film, image, number / rate))
                    number += 1

            with _source(piece.path, piece.info, whole=False) as (source, streams):
                for stream, time, frame in _frames(source, streams, piece.info, piece.span):
                    if stream is streams[0]:
                        # What was shown before stays until this frame begins.
                        due = begin + math.ceil(Fraction(time - piece.span.start) * rate - Fraction(1, 2))
                        if shown is not None:
                            show(min(due, begin + count))
                        shown = frame, stream
                        progress(float(begin / rate) + time - piece.span.start)
                    elif voice is not None:
                        sound.add(frame, time - piece.span.start)
                if shown is None:
                    raise MediaError("no frame of the picture can be decoded there", "leave that part out")
                show(begin + count)
                sound.finish()
            samples = sound.end
            parts.append(Joint(piece.span, Span(float(begin / rate), float(number / rate))))
        for stream in (film, voice) if voice is not None else (film,):
            written.mux(stream.encode(None))
    yield from parts


def _letterboxed(shown: tuple[Any, Any], info: MediaInfo, width: int, height: int) -> Any:  # noqa: ANN401
    """A decoded frame as an RGB picture of a size, with black bars where its shape is another."""
    frame, stream = shown
    image = picture_of(frame, stream, info, max(info.width, info.height))
    scale = min(width / image.shape[1], height / image.shape[0])
    wide, high = min(width, round(image.shape[1] * scale)), min(height, round(image.shape[0] * scale))
    if (wide, high) != (image.shape[1], image.shape[0]):
        image = av.VideoFrame.from_ndarray(image).reformat(wide, high, "rgb24").to_ndarray()
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - wide) // 2, (height - high) // 2
    canvas[top : top + high, left : left + wide] = image
    return canvas


class _Sound:
    """The sound of one part of a joined video, from sample ``begin`` to ``end`` of the whole; gaps are silent."""

    def __init__(self, voice: Any, written: OutputContainer, begin: int, end: int) -> None:  # noqa: ANN401
        self._voice, self._written = voice, written
        self._begin = self._position = begin
        self.end = end
        self._resampler: Any = av.AudioResampler("fltp", "stereo", _AUDIO_RATE)

    def add(self, frame: Any, time: float) -> None:  # noqa: ANN401
        """Lay down a frame that begins so many seconds after the part does."""
        frame.pts, frame.time_base = round(time * _AUDIO_RATE), Fraction(1, _AUDIO_RATE)
        for part in self._resampler.resample(frame):
            self._lay(part.to_ndarray(), self._begin + part.pts)

    def finish(self) -> None:
        """Fill up the part."""
        if self._voice is None:
            return
        for part in self._resampler.resample(None):
            self._lay(part.to_ndarray(), self._position)
        self._lay(np.zeros((2, 0), np.float32), self.end)

    def _lay(self, samples: Any, start: int) -> None:  # noqa: ANN401
        # Stamps that are off by less than this are rounded.
        gap = start - self._position
        if gap > _AUDIO_RATE // 50 or not samples.shape[1]:
            samples = np.concatenate([np.zeros((2, max(0, gap)), np.float32), samples], axis=1)
        elif gap < -_AUDIO_RATE // 50:
            samples = samples[:, -gap:]
        samples = samples[:, : max(0, self.end - self._position)]
        if samples.shape[1]:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = _AUDIO_RATE, self._position, Fraction(1, _AUDIO_RATE)
            self._written.mux(self._voice.encode(frame))
            self._position += samples.shape[1]


def pictures(path: str, info: MediaInfo, times: Sequence[float], *, side: int) -> list[bytes]:
    """JPEGs of what is shown at some seconds; empty where nothing can be decoded."""
    from clamr_cli.media.key_frames import to_jpeg

    found = frames_at(path, info, times, max_side=side)
    return [b"" if image is None else to_jpeg(image, 85) for _, image in found]
