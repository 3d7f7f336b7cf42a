"""``clamr show``: everything the index knows of a video, along its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from clamr_cli.cli.options import Context, FormOptions, VideoArgument, open_indexes, out_file
from clamr_cli.cli.output import Form, emit, print_table, safe, table, warn, write
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING, UsageError
from clamr_cli.records import TIMELINE, Column, as_span, fixed, json_line, table_only, video_record
from clamr_cli.text import format_time, plural
from clamr_cli.types import MediaInfo, Modality, Span, TimeBase, Timeline, TimelineEntry

if TYPE_CHECKING:
    from clamr_cli.store import Store


@dataclass(frozen=True, kw_only=True)
class ShowArguments(FormOptions):
    video: VideoArgument
    srt: Annotated[bool, typer.Option("--srt", help="Print what is said as SubRip subtitles.")] = False
    vtt: Annotated[bool, typer.Option("--vtt", help="Print what is said as WebVTT subtitles.")] = False
    txt: Annotated[bool, typer.Option("--txt", help="Print what is said as plain text, a line each.")] = False
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", "-o", metavar="FILE", parser=out_file, help="Write these to a file."),
    ] = None


LINE_COLUMNS: Final = (
    Column("kind", "Name of a fact, moment, or the modality.", json=None),
    Column("start", "Seconds; empty for facts, which have no time.", json=None, tsv=fixed(2)),
    Column("end", "Seconds.", json=None, tsv=fixed(2)),
    Column("source", "How the text came to be.", json=None),
    Column("text", "The text, or the value of the fact.", json=None),
    Column("speaker", "Who says it; empty where that is not known.", json=None),
)
"""TSV lines of a time line."""

_FACTS: Final = (
    Column("name", style="dim"),
    Column("value", link=lambda fact: fact["value"] if fact["name"] == "file" else "", wide=True),
)
_ENTRIES: Final = (
    table_only("time", lambda entry: as_span(entry.span)),
    table_only("modality", lambda entry: entry.modality),
    table_only(
        "text",
        lambda entry: (
            safe(f"{entry.speaker}: " if entry.speaker else "", "bold")
            + safe(entry.text)
            + safe(f"  {entry.source}" if entry.source else "", "dim")
        ),
        wide=True,
    ),
)


def show(context: Context, arguments: ShowArguments) -> int:
    """Show everything the index knows of a video.

    Piped, it prints tab-separated lines: what it is, start, end, source, text.

    Examples:
        clamr show 3
        clamr show holiday --srt -o talk.srt
    """
    from clamr_cli.search import timeline, video_named

    settings, form = context.reading_settings(), arguments.form
    store = open_indexes(context, settings)
    transcripts = [name for name in ("srt", "vtt", "txt") if getattr(arguments, name)]
    if transcripts:
        return _write_transcript(store, video_named(store, arguments.video), arguments, transcripts)
    if arguments.out is not None:
        raise UsageError("-o/--out requires --srt, --vtt or --txt")
    line = timeline(store, video_named(store, arguments.video))
    if form is Form.JSON:
        write([json_line(video_record(line, store.moments([line.video.video_id])))])
    else:
        print_timeline(line, form)
    return EXIT_FOUND


def print_timeline(line: Timeline, form: Form) -> None:
    """All that the index knows of a video, in order of time."""
    if form is Form.JSON:
        emit(TIMELINE, [line], form)
        return
    facts = _facts(line)
    if form is not Form.TABLE:
        lines: list[dict[str, Any]] = [{"kind": fact["name"], "text": fact["value"]} for fact in facts]
        lines += [{"kind": "moment", "start": span.start, "end": span.end} for span in line.moments]
        for entry in line.entries:
            source = "frame" if entry.modality is Modality.VIDEO else entry.source
            times = {"start": entry.span.start, "end": entry.span.end}
            lines.append(
                {"kind": entry.modality, **times, "source": source, "text": entry.text, "speaker": entry.speaker}
            )
        emit(LINE_COLUMNS, lines, form)
        return
    # The facts, what holds for all of the video, then moment by moment.
    print_table(table(_FACTS, facts, header=False))
    whole = [entry for entry in line.entries if entry.modality is Modality.METADATA]
    if whole:
        print_table(safe(""), safe("metadata", "bold"), table(_ENTRIES, whole, header=False))
    inside = [entry for entry in line.entries if entry.modality is not Modality.METADATA]
    for number, moment in enumerate(line.moments):
        last = number == len(line.moments) - 1
        here = [e for e in inside if moment.start <= e.span.start and (last or e.span.start < moment.end)]
        # What began earlier and reaches in was shown where it began; before the first moment there is none.
        inside = [entry for entry in inside if entry not in here]
        rows = [entry for entry in here if entry.modality is not Modality.VIDEO]
        if frames := [entry.span for entry in here if entry.modality is Modality.VIDEO]:
            around = Span(min(span.start for span in frames), max(span.end for span in frames))
            starts = " ".join(format_time(span.start) for span in frames)
            rows.insert(0, TimelineEntry(Modality.VIDEO, around, f"{plural(len(frames), 'frame')}: {starts}"))
        print_table(safe(""), safe(as_span(moment), "bold"), table(_ENTRIES, rows, header=False))


def _write_transcript(store: Store, video_id: str, arguments: ShowArguments, forms: Sequence[str]) -> int:
    """Print or write what is said in a video."""
    from clamr_cli.extract import subtitles
    from clamr_cli.index.documents import spoken_segments

    if len(forms) > 1 or arguments.json or arguments.tsv or arguments.table:
        raise UsageError(f"--{forms[0]} is the only form of its output", "choose one")
    segments = spoken_segments(store, video_id)
    if not segments:
        warn("nothing is said in this video, as far as the index knows")
        return EXIT_NOTHING
    write_as = {"srt": subtitles.as_srt, "vtt": subtitles.as_vtt, "txt": subtitles.as_text}[forms[0]]
    content = write_as(segments).encode()
    if arguments.out is None:
        write([content])
        return EXIT_FOUND
    try:
        arguments.out.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{arguments.out} cannot be written ({error.strerror})", "name another file") from error
    warn(f"wrote {arguments.out}: {plural(len(segments), 'line')}")
    return EXIT_FOUND


def _rate(media: MediaInfo) -> str:
    """The frame rate, exact where it is no round number."""
    base = media.time_base
    if base is None or base.rate == "0":
        return f"{media.fps:g} fps"
    exact = f" ({base.rate})" if "/" in base.rate else ""
    if base.variable:
        return f"about {float(Fraction(base.rate)):.5g} fps{exact}, variable"
    return f"{float(Fraction(base.rate)):.5g} fps{exact}"


def _timecode(base: TimeBase) -> str:
    kinds = ["drop frame"] * base.drop_frame + ["time of day"] * (base.source == "time_reference")
    return f"{base.timecode} ({', '.join(kinds)})" if kinds else base.timecode


def _facts(line: Timeline) -> list[dict[str, str]]:
    """Name and value of what is known of a video as a whole; the unknown is left out."""
    video, media, fields = line.video, line.video.media, line.video.fields

    def track(*parts: str) -> str:
        return " ".join(part for part in parts if part)

    facts = [
        ("id", video.video_id),
        ("title", fields.title),
        *(("file", file.path) for file in line.files),
        *(("offline", file.path) for file in line.files if file.path in line.offline),
        *(("unreadable", f"{file.error}: {file.path}") for file in line.files if file.error),
        ("duration", format_time(media.duration)),
        ("picture", f"{media.width}x{media.height} {media.video_codec} {_rate(media)}" if media.video_codec else ""),
        ("timecode", _timecode(media.time_base) if media.time_base else ""),
        ("rotated", f"{media.rotation} degrees" if media.rotation else ""),
        *(("audio", track(stream.codec, stream.language, stream.title)) for stream in media.audio),
        *(("subtitles", track(stream.codec, stream.language, stream.title)) for stream in media.subtitles),
        ("uploader", fields.uploader),
        ("date", fields.date),
        ("language", fields.language),
        ("recorded", media.created),
        ("location", media.location),
        ("indexed", video.indexed_at),
    ]
    return [{"name": name, "value": value} for name, value in facts if value]
