"""Subtitles that lie inside a video file, as plain text with times."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import av.error
import pysubs2

from clamr_cli.media.container import open_media, origin, read_packets
from clamr_cli.languages import short_code
from clamr_cli.media.tags import clean_text
from clamr_cli.types import Segment, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.packet import Packet

    from clamr_cli.types import MediaInfo, SubtitleTrack

SOURCE: Final = "embedded-subtitle"

LONGEST_LINE: Final = 10.0
"""Seconds a line stays that does not say when it goes."""

_ASS_FIELDS: Final = 8
"""Commas before the text in FFmpeg's form of an event: ReadOrder, Layer, Style, Name, three margins, Effect."""


# SubRip and WebVTT tags that were carried over as text into formats that know none.
_MARKUP: Final = re.compile(r"</?(?:[ibus]|font|c|v|lang|ruby|rt)(?:[ .][^<>]*)?>", re.IGNORECASE)


def embedded_subtitles(path: str, info: MediaInfo, language: str = "") -> list[Segment]:
    """The lines of the best text subtitle track, in time order, without styling; empty where there is none.

    The track of the wanted language comes first, then the default one, then the others as they lie in the file; the
    first with any line is taken. Pictures of text (DVD, Blu-ray, DVB) are not read.

    Raises:
        MediaError: the file is gone or the disk fails.
    """
    wanted = short_code(language)
    tracks = [track for track in info.subtitles if track.text]
    tracks.sort(key=lambda track: (not (wanted and track.language == wanted), not track.default))
    for track in tracks:
        with open_media(path) as container:
            lines = _joined(sorted(_lines(container, track, info.duration), key=lambda line: line[0]))
        if lines:
            return [Segment(span, text, source=SOURCE, language=track.language) for span, text in lines]
    return []


def _lines(container: InputContainer, track: SubtitleTrack, duration: float) -> Iterator[tuple[Span, str]]:
    if track.index >= len(container.streams) or container.streams[track.index].type != "subtitle":
        return
    stream: Any = container.streams[track.index]
    start_of_all = origin(container)
    for packet in read_packets(container, [stream]):
        stamp = packet.pts if packet.pts is not None else packet.dts
        text = clean_text(" ".join(_texts(stream, packet)))
        if stamp is None or not text:
            continue
        start = stamp * float(packet.time_base) - start_of_all
        length = (packet.duration or 0) * float(packet.time_base) or LONGEST_LINE
        end = min(start + length, duration) if duration else start + length
        if end > max(0.0, start):
            yield Span(max(0.0, start), end), text


def _texts(stream: Any, packet: Packet[Any]) -> list[str]:  # noqa: ANN401
    try:
        rectangles = stream.codec_context.decode2(packet) or ()
    except av.error.FFmpegError:
        return []  # a damaged line is no reason to lose the others
    return [_plain(rectangle.ass) for rectangle in rectangles if hasattr(rectangle, "ass")]


def _plain(event: bytes) -> str:
    text = event.decode("utf-8", "replace").split(",", _ASS_FIELDS)[-1]
    parsed = pysubs2.SSAEvent(text=text)
    return "" if parsed.is_drawing else _MARKUP.sub("", parsed.plaintext)


def _joined(lines: list[tuple[Span, str]]) -> list[tuple[Span, str]]:
    """Lines that repeat the one before while it is on screen become one (karaoke effects, layered outlines)."""
    joined: list[tuple[Span, str]] = []
    for span, text in lines:
        if joined and joined[-1][1] == text and span.start <= joined[-1][0].end + 0.05:
            joined[-1] = (Span(joined[-1][0].start, max(joined[-1][0].end, span.end)), text)
        else:
            joined.append((span, text))
    return joined
