"""What the index knows of a video as a whole: facts for people, everything for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from clamr_cli.render.console import linked, text
from clamr_cli.render.listing import empty_table
from clamr_cli.render.records import seconds
from clamr_cli.timeline import format_time
from clamr_cli.types import FileState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from clamr_cli.types import MomentRecord, Segment, Timeline


def record(timeline: Timeline, moments: Sequence[MomentRecord]) -> dict[str, object]:
    """Everything as one JSON object."""
    video, files, fields = timeline.video, timeline.files, timeline.video.fields
    return {
        "video_id": video.video_id,
        "content_hash": video.content_hash,
        "title": fields.title,
        "uploader": fields.uploader,
        "date": fields.date,
        "language": fields.language,
        **({"part": fields.part, "of": fields.of, "group": fields.group} if fields.part else {}),
        "duration": seconds(video.media.duration),
        "indexed_at": video.indexed_at,
        "files": [
            {"path": file.path, "state": file.state, "size": file.size, "offline": file.path in timeline.offline}
            for file in files
        ],
        "offline": is_offline(timeline),
        "media": asdict(video.media),
        "moments": [_moment(moment) for moment in moments],
    }


def is_offline(timeline: Timeline) -> bool:
    """Whether no indexed file of a video can be opened now."""
    return {file.path for file in timeline.files if file.state is FileState.INDEXED} <= timeline.offline


def _moment(moment: MomentRecord) -> dict[str, object]:
    frames = zip(moment.frame_times, moment.frame_spans, strict=True)
    return {
        "moment_id": moment.moment_id,
        "start": seconds(moment.span.start),
        "end": seconds(moment.span.end),
        "frames": [{"time": seconds(at), "start": seconds(s.start), "end": seconds(s.end)} for at, s in frames],
        "speech": [_segment(segment) for segment in moment.speech],
        "ocr": [_segment(segment) for segment in moment.ocr],
        "metadata": [_segment(segment) for segment in moment.metadata],
    }


def _segment(segment: Segment) -> dict[str, object]:
    return {
        "start": seconds(segment.span.start),
        "end": seconds(segment.span.end),
        "text": segment.text,
        "source": segment.source,
        "language": segment.language,
        "confidence": None if segment.confidence is None else round(segment.confidence, 4),
    }


def facts(timeline: Timeline) -> list[tuple[str, str]]:
    """Name and value of what is known of a video as a whole; the unknown is left out."""
    video, media, fields = timeline.video, timeline.video.media, timeline.video.fields
    found = [("id", video.video_id), ("title", fields.title)]
    found += [("file", file.path) for file in timeline.files]
    found += [("offline", file.path) for file in timeline.files if file.path in timeline.offline]
    found += [("unreadable", f"{file.error}: {file.path}") for file in timeline.files if file.error]
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


def table(timeline: Timeline) -> Table:
    """The facts for people; files open when clicked."""
    drawn = empty_table()
    drawn.show_header = False
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in facts(timeline):
        drawn.add_row(text(name), linked(value, value, "") if name == "file" else text(value))
    return drawn
