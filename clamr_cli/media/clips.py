"""Short clips out of a video: packets copied from one keyframe on, or everything encoded anew to the exact moment."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
from av.codec import codecs_available
from av.container import InputContainer, OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from clamr_cli.errors import MediaError
from clamr_cli.languages import choose_track
from clamr_cli.media.container import open_media, origin, seek_key
from clamr_cli.media.frames import picture_of
from clamr_cli.types import MediaInfo, Span

_MUXERS: Final = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm"}
_AUDIO_RATE: Final = 48_000
_TICK: Final = Fraction(1, 90_000)
_MOST_EARLY: Final = 32  # packets at the beginning without a stamp to decode by: more than any codec reorders
_MARGIN: Final = 2.0  # seconds after the end until which packets are read: streams are interleaved only about in time
_MOST_WILD: Final = 16  # packets in a row whose stamps lie beyond a clip's end though the clip goes on
_COPIED_ANYWAY: Final = "copy or download the video again; --exact encodes the clip anew"


def copied_suffix(info: MediaInfo) -> str:
    """The file ending of clips whose packets are copied: the container's own where players expect it, else Matroska."""
    if "mp4" in info.container:
        return ".mp4"
    return ".webm" if info.video_codec in ("vp8", "vp9", "av1") and "webm" in info.container else ".mkv"


@contextlib.contextmanager
def _opened(path: str, info: MediaInfo, target: Path) -> Iterator[tuple[InputContainer, list[Any], OutputContainer]]:
    """The video, its picture and the sound that a player would choose, and the clip."""
    with open_media(path) as source:
        track = choose_track(info)
        wanted = [number for number in (info.video_stream, track.index if track else None) if number is not None]
        if any(number >= len(source.streams) for number in wanted):
            raise MediaError("the file changed since it was prepared", "run the command again")
        streams: list[Any] = [source.streams[number] for number in wanted]
        try:
            with av.open(str(target), "w", format=_MUXERS[target.suffix]) as written:
                yield source, streams, written
        except (av.error.FFmpegError, ValueError) as error:  # ValueError: the container cannot hold the codec
            reason = getattr(error, "strerror", None) or error
            raise MediaError(f"the clip cannot be cut out ({reason})", _COPIED_ANYWAY) from error


def copy_clip(path: str, info: MediaInfo, target: Path, span: Span) -> Span:
    """Copy the packets of a stretch, from the last keyframe before it on, and return the stretch that the clip holds.

    The ending of ``target`` must be that of :func:`copied_suffix`.

    Raises:
        MediaError: nothing of it can be read, or the clip cannot be written.
    """
    with _opened(path, info, target) as (source, streams, written):
        outputs = {stream.index: written.add_stream_from_template(stream) for stream in streams}
        picture, zero = streams[0], origin(source)
        seek_key(source, picture, span.start + zero)

        def mux(packet: Any) -> None:  # noqa: ANN401
            shift = round(((first or 0.0) + zero) / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = outputs[packet.stream.index]
            written.mux(packet)

        first = last = None
        early: list[Any] = []
        late: list[Any] = []
        beyond = 0
        for packet in _stamped(source.demux(streams), picture):
            time = float(packet.pts * packet.time_base) - zero
            decoded_at = float(packet.dts * packet.time_base) - zero
            # A few stamps may be wild; what they stand on is not the end.
            beyond = beyond + 1 if min(time, decoded_at) > span.end + _MARGIN else 0
            if beyond > _MOST_WILD:
                break
            is_picture = packet.stream is picture
            if first is None and not (is_picture and packet.is_keyframe):
                early.append(packet)
                continue
            if first is None:
                first = last = time
                for pending in early:
                    if float(pending.pts * pending.time_base) - zero >= first:
                        mux(pending)
                early.clear()
            if first <= time < max(span.end, first + 0.001):
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
        return Span(first, max(first, last))


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


def encode_clip(path: str, info: MediaInfo, target: Path, span: Span) -> Span:
    """Encode a stretch anew, exact to the frame: H.264 (MPEG-4 where there is no x264) and AAC in an MP4.

    Returns and raises as :func:`copy_clip`; the ending of ``target`` is ``.mp4``.
    """
    nothing = MediaError("no frame of the picture can be decoded there", "try to play the video at that moment")
    if info.video_stream is None:
        raise nothing
    with _opened(path, info, target) as (source, streams, written):
        x264 = "libx264" in codecs_available
        rate = Fraction(info.fps or 25.0).limit_denominator(1001)
        film: Any = written.add_stream("libx264" if x264 else "mpeg4", rate=rate)
        film.width, film.height = info.width // 2 * 2, info.height // 2 * 2
        film.pix_fmt, film.codec_context.time_base = "yuv420p", _TICK
        context = film.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if x264:
            film.options = {"preset": "veryfast", "crf": "20"}
        voice: Any = written.add_stream("aac", rate=_AUDIO_RATE, layout="stereo") if len(streams) > 1 else None
        resampler = av.AudioResampler("fltp", "stereo", _AUDIO_RATE)
        pictures = 0
        for kind, time, frame in _frames(source, streams, span):
            if kind == "video":
                pictures += 1
                image = picture_of(frame, streams[0], info, max(info.width, info.height))
                picture = av.VideoFrame.from_ndarray(image)
                picture = picture.reformat(film.width, film.height, format="yuv420p", dst_colorspace=Colorspace.ITU709)
                picture.color_primaries, picture.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
                picture.pts, picture.time_base = round((time - span.start) / _TICK), _TICK
                written.mux(film.encode(picture))
            elif voice is not None:
                frame.pts, frame.time_base = round((time - span.start) * _AUDIO_RATE), Fraction(1, _AUDIO_RATE)
                for part in resampler.resample(frame):
                    written.mux(voice.encode(part))
        if not pictures:
            raise nothing
        for stream in (film, voice) if voice is not None else (film,):
            written.mux(stream.encode(None))
    return span


def _frames(source: InputContainer, streams: list[Any], span: Span) -> Iterator[tuple[str, float, Any]]:
    """Decoded frames of a stretch with their times, of all streams, damaged packets left out.

    The picture that is on screen at the beginning is the first, at whatever time it came.
    """
    picture, zero = streams[0], origin(source)
    seek_key(source, picture, span.start + zero)
    pending: Any = None
    begun = False
    beyond = 0
    for packet in source.demux(streams):
        dts = None if packet.dts is None else float(packet.dts * packet.time_base) - zero
        beyond = beyond + 1 if dts is not None and dts > span.end + _MARGIN else 0
        if beyond > _MOST_WILD:
            break
        try:
            frames: list[Any] = list(packet.decode())
        except av.error.FFmpegError:
            continue
        for frame in frames:
            time = frame.time - zero if frame.time is not None else -1.0
            if packet.stream is picture and not begun and time < span.start:
                pending = frame
            elif span.start <= time < span.end:
                if packet.stream is picture and not begun and pending is not None and time > span.start:
                    yield "video", span.start, pending
                begun = begun or packet.stream is picture
                yield packet.stream.type, time, frame
    if not begun and pending is not None:
        yield "video", span.start, pending
