"""Reads the subtitles inside a video file as plain text with times."""

import re
from typing import Any, Final

import av.error
import pysubs2

from clamr_cli.media.container import open_media, origin, read_packets
from clamr_cli.media.probe import clean_text
from clamr_cli.types import MediaInfo, Segment, Span

_SOURCE: Final = "embedded-subtitle"
_LONGEST_LINE: Final = 10.0  # seconds that a line stays that does not say when it goes
_NEXT: Final = 0.05
# Commas before the text in FFmpeg's form of an event: ReadOrder, Layer, Style, Name, three margins, Effect.
_ASS_FIELDS: Final = 8
# SubRip and WebVTT tags that were carried over as text into formats that know none.
_MARKUP: Final = re.compile(r"</?(?:[ibus]|font|c|v|lang|ruby|rt)(?:[ .][^<>]*)?>", re.IGNORECASE)


def read_subtitle_tracks(path: str, info: MediaInfo) -> dict[int, list[Segment]]:
    """The lines of the text subtitle tracks by the tracks' index, in time order, without styling.

    Tracks without a line are left out. Pictures of text (DVD, Blu-ray, DVB) are not read. Lines that repeat the one
    before while it is on screen become one (karaoke effects, layered outlines).

    Raises:
        MediaError: the file is gone or the disk fails.
    """
    tracks = {track.index: track for track in info.subtitles if track.text}
    if not tracks:
        return {}
    lines: dict[int, list[tuple[Span, str]]] = {index: [] for index in tracks}
    with open_media(path) as container:
        streams: list[Any] = [stream for stream in container.streams.subtitles if stream.index in tracks]
        by_index = {stream.index: stream for stream in streams}
        zero = origin(container)
        for packet in read_packets(container, streams):
            stamp = packet.pts if packet.pts is not None else packet.dts
            text = clean_text(" ".join(_texts(by_index[packet.stream_index], packet)))
            if stamp is None or not text:
                continue
            base = float(packet.time_base)
            start = stamp * base - zero
            end = start + ((packet.duration or 0) * base or _LONGEST_LINE)
            if info.duration:
                end = min(end, info.duration)
            if end > max(0.0, start):
                lines[packet.stream_index].append((Span(max(0.0, start), end), text))
    segments: dict[int, list[Segment]] = {}
    for index, track_lines in lines.items():
        joined: list[tuple[Span, str]] = []
        for span, text in sorted(track_lines, key=lambda line: line[0]):
            if joined and joined[-1][1] == text and span.start <= joined[-1][0].end + _NEXT:
                joined[-1] = (Span(joined[-1][0].start, max(joined[-1][0].end, span.end)), text)
            else:
                joined.append((span, text))
        if joined:
            segments[index] = [Segment(span, text, _SOURCE, tracks[index].language) for span, text in joined]
    return segments


def _texts(stream: Any, packet: Any) -> list[str]:  # noqa: ANN401
    try:
        rectangles = stream.codec_context.decode2(packet) or ()
    except av.error.FFmpegError:
        return []  # a damaged line is no reason to lose the others
    texts = []
    for rectangle in rectangles:
        if hasattr(rectangle, "ass"):
            event = pysubs2.SSAEvent(text=rectangle.ass.decode("utf-8", "replace").split(",", _ASS_FIELDS)[-1])
            texts.append("" if event.is_drawing else _MARKUP.sub("", event.plaintext))
    return texts
