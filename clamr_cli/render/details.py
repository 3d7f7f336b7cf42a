"""A video with everything the index knows of it: facts, then its time line of frames, speech, text and metadata."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from clamr_cli.render.console import linked, text
from clamr_cli.render.hits import MODALITY_STYLES, clock
from clamr_cli.render.listing import empty_table
from clamr_cli.render.records import Cell, seconds
from clamr_cli.timeline import format_time
from clamr_cli.types import SHOWN_MODALITIES, Modality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from clamr_cli.types import FileRecord, MomentRecord, Segment, VideoRecord


def record(video: VideoRecord, files: Sequence[FileRecord], moments: Sequence[MomentRecord]) -> dict[str, object]:
    """Everything as one JSON object."""
    fields = video.fields
    return {
        "video_id": video.video_id,
        "content_hash": video.content_hash,
        "title": fields.title,
        "uploader": fields.uploader,
        "date": fields.date,
        "language": fields.language,
        "duration": seconds(video.media.duration),
        "indexed_at": video.indexed_at,
        "files": [{"path": file.path, "state": file.state, "size": file.size} for file in files],
        "media": asdict(video.media),
        "moments": [moment_record(moment) for moment in moments],
    }


def moment_record(moment: MomentRecord) -> dict[str, object]:
    """A moment as a JSON object."""
    frames = zip(moment.frame_times, moment.frame_spans, strict=True)
    return {
        "moment_id": moment.moment_id,
        "start": seconds(moment.span.start),
        "end": seconds(moment.span.end),
        "frames": [{"time": seconds(at), "start": seconds(s.start), "end": seconds(s.end)} for at, s in frames],
        "speech": [segment_record(segment) for segment in moment.speech],
        "ocr": [segment_record(segment) for segment in moment.ocr],
        "metadata": [segment_record(segment) for segment in moment.metadata],
    }


def segment_record(segment: Segment) -> dict[str, object]:
    """A piece of text as a JSON object."""
    return {
        "start": seconds(segment.span.start),
        "end": seconds(segment.span.end),
        "text": segment.text,
        "source": segment.source,
        "language": segment.language,
        "confidence": None if segment.confidence is None else round(segment.confidence, 4),
    }


def facts(video: VideoRecord, files: Sequence[FileRecord]) -> list[tuple[str, str]]:
    """Name and value of what is known of a video as a whole; the unknown is left out."""
    media, fields = video.media, video.fields
    found = [("id", video.video_id), ("title", fields.title)]
    found += [("file", file.path) for file in files]
    found += [
        ("duration", format_time(media.duration)),
        ("picture", f"{media.width}x{media.height} {media.video_codec} {media.fps:g} fps" if media.video_codec else ""),
        ("rotated", f"{media.rotation} degrees" if media.rotation else ""),
        *(("audio", _track(track.codec, track.language, track.title)) for track in media.audio),
        *(("subtitles", _track(track.codec, track.language, track.title)) for track in media.subtitles),
        ("uploader", fields.uploader),
        ("date", fields.date),
        ("language", fields.language),
        ("recorded", media.created),
        ("location", media.location),
        ("indexed", video.indexed_at),
    ]
    return [(name, value) for name, value in found if value]


def _track(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def rows(
    video: VideoRecord, files: Sequence[FileRecord], moments: Sequence[MomentRecord]
) -> Iterator[tuple[Cell, ...]]:
    """Fields for tab-separated output: what it is, start, end, source, text. Facts have no time."""
    for name, value in facts(video, files):
        yield (name, None, None, None, value)
    yield from moment_rows(moments)


def moment_rows(moments: Sequence[MomentRecord]) -> Iterator[tuple[Cell, ...]]:
    """The time line for tab-separated output: what it is, start, end, source, text."""
    for moment in moments:
        yield ("moment", *_times(moment.span.start, moment.span.end), None, moment.moment_id)
        for at, span in zip(moment.frame_times, moment.frame_spans, strict=True):
            yield (Modality.VIDEO, *_times(span.start, span.end), "frame", f"{at:.2f}")
        for modality, segment in _texts(moment):
            yield (modality, *_times(segment.span.start, segment.span.end), segment.source, segment.text)


def _times(start: float, end: float) -> tuple[str, str]:
    return f"{start:.2f}", f"{end:.2f}"


def _texts(moment: MomentRecord) -> Iterator[tuple[Modality, Segment]]:
    parts = {Modality.SPEECH: moment.speech, Modality.OCR: moment.ocr, Modality.METADATA: moment.metadata}
    for modality in SHOWN_MODALITIES:
        for segment in parts.get(modality, ()):
            yield modality, segment


def drawn(video: VideoRecord, files: Sequence[FileRecord], moments: Sequence[MomentRecord]) -> Iterator[RenderableType]:
    """Everything for people."""
    table = empty_table()
    table.show_header = False
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts(video, files):
        table.add_row(text(name), linked(value, value, "") if name == "file" else text(value))
    yield table
    yield from timeline(moments)


def timeline(moments: Sequence[MomentRecord]) -> Iterator[RenderableType]:
    """The time line of a video, moment by moment. Metadata that repeats what the moment before had is left out."""
    told: set[str] = set()
    for moment in moments:
        yield Text.assemble("\n", (clock(moment.span), "bold"), "  ", text(moment.moment_id, "dim"))
        yield _moment_table(moment, told)
        told.update(segment.text for segment in moment.metadata)


def _moment_table(moment: MomentRecord, told: set[str]) -> Table:
    table = empty_table()
    table.show_header = False
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if moment.frame_times:
        times = " ".join(format_time(at) for at in moment.frame_times)
        table.add_row(clock(moment.span), _label(Modality.VIDEO), f"{len(moment.frame_times)} frames: {times}")
    for modality, segment in _texts(moment):
        if modality is Modality.METADATA and segment.text in told:
            continue
        source = text(f"  {segment.source}" if segment.source else "", "dim")
        table.add_row(clock(segment.span), _label(modality), Text.assemble(text(segment.text), source))
    return table


def _label(modality: Modality) -> Text:
    return text(modality, MODALITY_STYLES[modality])
