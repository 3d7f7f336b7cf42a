"""Subtitles that lie inside a video file, as plain text with times."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import av.error
import pysubs2

from clamr_cli.media.container import open_media, origin, read_packets
from clamr_cli.media.tags import clean_text
from clamr_cli.types import Segment, Span

if TYPE_CHECKING:
    from av.packet import Packet

    from clamr_cli.types import MediaInfo

SOURCE: Final = "embedded-subtitle"

LONGEST_LINE: Final = 10.0
"""Seconds a line stays that does not say when it goes."""

_ASS_FIELDS: Final = 8
"""Commas before the text in FFmpeg's form of an event: ReadOrder, Layer, Style, Name, three margins, Effect."""


# SubRip and WebVTT tags that were carried over as text into formats that know none.
_MARKUP: Final = re.compile(r"</?(?:[ibus]|font|c|v|lang|ruby|rt)(?:[ .][^<>]*)?>", re.IGNORECASE)


def read_subtitle_tracks(path: str, info: MediaInfo) -> dict[int, list[Segment]]:
    """The lines of the text subtitle tracks by the tracks' index, in time order, without styling.

    Tracks without a line are left out. Pictures of text (DVD, Blu-ray, DVB) are not read.

    Raises:
        MediaError: the file is gone or the disk fails.
    """
    tracks = {track.index: track for track in info.subtitles if track.text}
    if not tracks:
        return {}
    lines: dict[int, list[tuple[Span, str]]] = {index: [] for index in tracks}
    with open_media(path) as container:
        streams: list[Any] = [stream for stream in container.streams.subtitles if stream.index in tracks]
        start_of_all = origin(container)
        by_index = {stream.index: stream for stream in streams}
        for packet in read_packets(container, streams):
            line = _line(by_index[packet.stream_index], packet, start_of_all, info.duration)
            if line is not None:
                lines[packet.stream_index].append(line)
    return {
        index: [
            Segment(span, text, SOURCE, tracks[index].language)
            for span, text in _joined(sorted(found, key=lambda line: line[0]))
        ]
        for index, found in lines.items()
        if found
    }


def _line(stream: Any, packet: Packet[Any], origin: float, duration: float) -> tuple[Span, str] | None:  # noqa: ANN401
    stamp = packet.pts if packet.pts is not None else packet.dts
    text = clean_text(" ".join(_texts(stream, packet)))
    if stamp is None or not text:
        return None
    start = stamp * float(packet.time_base) - origin
    length = (packet.duration or 0) * float(packet.time_base) or LONGEST_LINE
    end = min(start + length, duration) if duration else start + length
    return (Span(max(0.0, start), end), text) if end > max(0.0, start) else None


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
    for span, text in sorted(lines, key=lambda line: line[0]):
        if joined and joined[-1][1] == text and span.start <= joined[-1][0].end + 0.05:
            joined[-1] = (Span(joined[-1][0].start, max(joined[-1][0].end, span.end)), text)
        else:
            joined.append((span, text))
    return joined
