"""The records of clamr: each is a list of columns, which give its JSON object, its TSV and CSV fields and its table.

The command line prints them and the server sends them, so that both say the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.text import escape_json, format_time, plural, readable_part, shorten, size
from clamr_cli.types import SHOWN_MODALITIES, Evidence, FileState, Line, MomentRecord, Segment, Span, Timeline

if TYPE_CHECKING:
    from rich.text import Text

    from clamr_cli.store import Store

_LONGEST_CELL: Final = 120
_MOST_NAMED: Final = 5


def as_is(value: Any) -> Any:  # noqa: ANN401
    """The value itself."""
    return value


def as_time(seconds: float | None) -> str:
    """``m:ss``."""
    return "" if seconds is None else format_time(seconds)


def as_span(span: Span) -> str:
    """``12:03-12:41``."""
    return f"{format_time(span.start)}-{format_time(span.end)}"


def as_size(count: int | None) -> str:
    """``1.5 MB``."""
    return "" if count is None else size(count)


def rounded(digits: int) -> Callable[[float | None], float | None]:
    """A number for JSON."""
    return lambda value: None if value is None else round(value, digits)


def fixed(digits: int) -> Callable[[float | None], str]:
    """A number for TSV and tables, with as many digits always."""
    return lambda value: "" if value is None else f"{value:.{digits}f}"


def mark(word: str) -> Callable[[object], str]:
    """A word where the value is true, else nothing."""
    return lambda value: word if value else ""


@dataclass(frozen=True)
class Column:
    """A value that a command prints of each thing, in every form of output.

    ``json``, ``tsv`` (which CSV follows) and ``table`` turn the value into what stands in that form; None leaves the
    column out of it. Texts are escaped by whoever prints them, never here.

    Attributes:
        name: the key of JSON objects and the header of CSV.
        about: one sentence for the reference pages.
        get: the value of a row; by default the attribute, or the key of a dict, of the column's name.
        label: the header of tables, and the name where a single thing is printed; by default the name with spaces.
        cell: the table's cell of a row, where the value alone is not enough.
        link: the path that a click on the cell opens.
        right: align to the right.
        wide: share the room that is left with other wide columns, and fold; other columns stay whole.
        style: of the table's cells.
        below: name of the column beneath whose values this one is drawn, where it takes no width of its own.
    """

    name: str
    about: str = ""
    get: Callable[[Any], Any] | None = None
    json: Callable[[Any], Any] | None = as_is
    tsv: Callable[[Any], Any] | None = as_is
    table: Callable[[Any], str | Text] | None = str
    label: str = ""
    cell: Callable[[Any], Any] | None = None
    link: Callable[[Any], str] | None = None
    right: bool = False
    wide: bool = False
    style: str = ""
    below: str = ""

    def value(self, row: Any) -> Any:  # noqa: ANN401
        """The value that a row has in this column."""
        if self.get:
            return self.get(row)
        return row.get(self.name) if isinstance(row, dict) else getattr(row, self.name)

    @property
    def header(self) -> str:
        """Header of tables."""
        return self.label or self.name.replace("_", " ")


def table_only(name: str, cell: Callable[[Any], Any], **layout: Any) -> Column:  # noqa: ANN401
    """A column that only people see."""
    return Column(name, json=None, tsv=None, cell=cell, **layout)


def json_only(name: str, about: str = "", get: Callable[[Any], Any] | None = None) -> Column:
    """A column that only JSON has."""
    return Column(name, about, get, tsv=None, table=None)


def seconds_column(name: str, about: str, get: Callable[[Any], Any] | None = None, digits: int = 2) -> Column:
    """A column of seconds for programs."""
    return Column(name, about, get, json=rounded(3), tsv=fixed(digits), table=None)


def span_record(span: Span) -> dict[str, object]:
    """The keys ``start`` and ``end`` of JSON objects, in seconds."""
    return {"start": round(span.start, 3), "end": round(span.end, 3)}


def record(columns: Sequence[Column], row: Any) -> dict[str, Any]:  # noqa: ANN401
    """The JSON object of a row."""
    return {column.name: column.json(column.value(row)) for column in columns if column.json}


def fields(columns: Sequence[Column], row: Any) -> list[Any]:  # noqa: ANN401
    """The fields of a row for TSV and CSV."""
    return [column.tsv(column.value(row)) for column in columns if column.tsv]


def json_line(values: Mapping[str, object]) -> bytes:
    """One line of UTF-8 JSON, with its line break."""
    return escape_json(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


# --- hits


def matched_texts(evidence: tuple[Evidence, ...]) -> list[str]:
    """The texts that matched, in the order of the query's words, each once; a frame counts by its query word."""
    texts = [part.text.strip() or part.query_token for part in evidence if part.modality is not None]
    return list(dict.fromkeys(text for text in texts if text))


def evidence_record(evidence: Evidence) -> dict[str, object]:
    """A piece of evidence as a JSON object."""
    return {
        "query_token": evidence.query_token,
        "modality": evidence.modality,
        **span_record(evidence.span),
        "text": evidence.text,
        "similarity": round(evidence.similarity, 4),
    }


def line_record(line: Line) -> dict[str, object]:
    """A line that answers as a JSON object."""
    return {
        "modality": line.modality,
        "start": round(line.start, 3) if line.timed else None,
        "text": line.text,
        "words": list(line.words),
        "similarity": round(line.similarity, 4),
    }


HIT: Final = (
    Column("rank", "1 is the best."),
    Column("score", "Sum of the best similarity of each query vector.", json=rounded(4), tsv=fixed(4)),
    Column("video_id", "Id of the video."),
    json_only("moment_id", "Id of the moment: the video's id and a number."),
    seconds_column("start", "Where the moment starts, in seconds.", lambda hit: hit.span.start),
    seconds_column("end", "Where it ends.", lambda hit: hit.span.end),
    seconds_column("at", "The second inside it where the evidence is strongest."),
    Column("modality", "The modality that matches best."),
    json_only(
        "modalities", "Score of each modality alone; null where the moment has none of it.",
        lambda hit: {name: rounded(4)(hit.modalities.get(name)) for name in SHOWN_MODALITIES},
    ),
    Column("title", "Title of the video."),
    Column("path", "A file that holds it."),
    Column(
        "words", "The texts that matched, separated by spaces.", lambda hit: matched_texts(hit.evidence),
        json=None, tsv=" ".join,
    ),
    json_only(
        "evidence", "What matched each query word: query_token, modality, start, end, text, similarity.",
        lambda hit: [evidence_record(part) for part in hit.evidence],
    ),
    json_only(
        "lines", "What answers, best first: modality, start (the second), text (none of a frame), words, similarity.",
        lambda hit: [line_record(line) for line in hit.lines],
    ),
    json_only("open_at", "The second at which 'clamr open RANK' starts.", lambda hit: rounded(3)(hit.opened_at)),
    Column("approximate", "True if not all moments were compared.", tsv=mark("approximate")),
    json_only(
        "confidence", "Confidence that it answers the query, from 0 to 1.", lambda hit: rounded(3)(hit.confidence)
    ),
    Column("weak", "True if it probably does not answer the query.", tsv=mark("weak")),
    Column("offline", "True if no file of the video can be opened now.", tsv=mark("offline")),
)  # fmt: skip


def _of_hit(column: Column) -> Column:
    return replace(column, tsv=None, get=lambda explanation: column.value(explanation.hit))


EXPLANATION: Final = (
    json_only("query", "The query."),
    json_only("total", "Videos that were ranked."),
    *(_of_hit(column) for column in HIT if column.json),
    json_only(
        "words", "What answers each query word: query_token, best, by_modality.",
        lambda why: [
            {
                "query_token": word.query_token,
                "best": None if word.best is None else evidence_record(word.best),
                "by_modality": {name: evidence_record(evidence) for name, evidence in word.by_modality.items()},
            }
            for word in why.words
        ],
    ),
    json_only(
        "shares", "Part of the score that each modality won.",
        lambda why: {name: round(share, 4) for name, share in why.shares.items()},
    ),
    json_only(
        "what_if", "Score and rank if a modality did not count: without, score, rank.",
        lambda why: [
            {"without": what.modality, "score": rounded(4)(what.score), "rank": what.rank} for what in why.what_if
        ],
    ),
)  # fmt: skip


def _segment_record(segment: Segment) -> dict[str, object]:
    return {
        **span_record(segment.span),
        "text": segment.text,
        "source": segment.source,
        "language": segment.language,
        "confidence": rounded(4)(segment.confidence),
    }


def _moment_record(moment: MomentRecord) -> dict[str, object]:
    frames = zip(moment.frame_times, moment.frame_spans, strict=True)
    return {
        "moment_id": moment.moment_id,
        **span_record(moment.span),
        "frames": [{"time": round(time, 3), **span_record(span)} for time, span in frames],
        "speech": [_segment_record(segment) for segment in moment.speech],
        "ocr": [_segment_record(segment) for segment in moment.ocr],
        "metadata": [_segment_record(segment) for segment in moment.metadata],
    }


VIDEO: Final = (
    json_only("video_id", "Id of the video.", lambda line: line.video.video_id),
    json_only("content_hash", "Hash of its content.", lambda line: line.video.content_hash),
    json_only("title", "Title.", lambda line: line.video.fields.title),
    json_only("uploader", "Who published it; empty where unknown.", lambda line: line.video.fields.uploader),
    json_only("date", "ISO 8601, as much as is known.", lambda line: line.video.fields.date),
    json_only("language", "Two-letter code; empty where unknown.", lambda line: line.video.fields.language),
    json_only("duration", "Seconds.", lambda line: round(line.video.media.duration, 3)),
    json_only("indexed_at", "When it was indexed, ISO 8601.", lambda line: line.video.indexed_at),
    json_only(
        "files",
        "Files that hold it: path, state, size, offline.",
        lambda line: [
            {"path": file.path, "state": file.state, "size": file.size, "offline": file.path in line.offline}
            for file in line.files
        ],
    ),
    json_only(
        "offline",
        "True if no indexed file of it can be opened now.",
        lambda line: {file.path for file in line.files if file.state is FileState.INDEXED} <= line.offline,
    ),
    json_only(
        "media", "What the file says about itself, and what was measured.", lambda line: asdict(line.video.media)
    ),
)
VIDEO_MORE: Final = (
    json_only("moments", "Its moments: moment_id, start, end, frames, speech, ocr, metadata."),
    json_only("part", "Number of this file, where a camera made one recording of several files; only then."),
    json_only("of", "How many files the recording has."),
    json_only("group", "Name of the recording."),
)


def video_record(line: Timeline, moments: Sequence[MomentRecord]) -> dict[str, Any]:
    """All that the index knows of a video as a JSON object."""
    fields = line.video.fields
    more = {"moments": list(map(_moment_record, moments)), "part": fields.part, "of": fields.of, "group": fields.group}
    return record(VIDEO, line) | record(VIDEO_MORE if fields.part else VIDEO_MORE[:1], more)


TIMELINE: Final = (
    json_only("video_id", "Id of the video.", lambda line: line.video.video_id),
    json_only("title", "Title.", lambda line: line.video.fields.title),
    json_only(
        "moments", "The parts that can be found: start, end.",
        lambda line: [span_record(span) for span in line.moments],
    ),
    json_only(
        "timeline", "All the index knows, in time order: modality, start, end, text, source.",
        lambda line: [
            {"modality": entry.modality, **span_record(entry.span), "text": entry.text, "source": entry.source}
            for entry in line.entries
        ],
    ),
)  # fmt: skip


FILE: Final = (
    Column("video_id", "Id of the video that the file holds; null where it could not be read.", style="dim"),
    Column("duration", "Seconds.", table=as_time, right=True),
    Column("title", "Title of the video.", wide=True),
    Column("path", "Path of the file.", below="title"),
    Column("state", "indexed, failed or missing."),
    Column(
        "offline", "True for an indexed file that is not there now.",
        tsv=mark("offline"), table=mark("offline"), below="state",
    ),
)  # fmt: skip


def file_rows(store: Store, path: str | None = None) -> list[dict[str, Any]]:
    """The rows of :data:`FILE`: the files of an index, or those whose path matches a glob."""
    from clamr_cli.search import offline
    from clamr_cli.search.search import files_matching

    files = store.files() if path is None else files_matching(store.files(), path)
    videos = {video.video_id: video for video in store.catalog()}
    away = offline(files)
    rows = []
    for file in files:
        video = videos.get(file.video_id)
        duration, title = (round(video.duration, 3), video.title) if video else (None, "")
        rows.append(
            {
                "video_id": file.video_id or None,
                "duration": duration,
                "title": title,
                "path": file.path,
                "state": file.state.value,
                "offline": file.path in away,
            }
        )
    return rows


def _encoder_lines(encoders: list[dict[str, Any]]) -> list[str]:
    names = [use["name"] for use in encoders]
    lines = []
    for use in encoders:
        # Two of one name differ in weights or settings, such as --pool.
        name = use["name"] if names.count(use["name"]) == 1 else f"{use['name']} {str(use['fingerprint'])[:8]}"
        part = f", {use['searched']} of {use['of']} videos" if "of" in use else ""
        lines.append(f"{name}: {plural(use['moments'], 'moment')}, {plural(use['vectors'], 'vector')}{part}")
    return lines


STATUS: Final = (
    Column("index", "Path or address of the index."),
    Column("size", "Bytes; null for a remote index.", tsv=lambda count: "remote" if count is None else size(count)),
    Column("files", "Files that index runs met."),
    Column("videos", "Different videos that they hold."),
    Column("moments", "Moments that can be found."),
    Column("seconds", "Length of all videos.", tsv=format_time, label="time"),
    Column(
        "failed", "Files that could not be read or indexed.",
        tsv=lambda count: f"{count} (clamr status --failed)" if count else "0",
    ),
    Column("missing", "Files that are gone, whose extractions are kept for a while."),
    Column(
        "offline", "Indexed files that are not there now.", tsv=lambda count: f"{count} (clamr ls)" if count else "0"
    ),
    json_only("extractions", "Stored results of recognition, of videos in the index or prepared for questions."),
    Column(
        "encoders", "Encoders with vectors: name, fingerprint, moments, vectors, and searched and of where not all "
        "videos have them.", tsv=_encoder_lines, label="encoder",
    ),
    Column("problems", "What does not fit together in the tables, and what to run.", label="problem"),
    Column(
        "incomplete", "Files of which only a part can be read.", get=lambda row: len(row["incomplete"]),
        tsv=lambda count: f"{count} (clamr status --failed)" if count else "0",
    ),
    Column(
        "incomplete_file", json=None,
        cell=lambda row: [f"{file['path']}: {file['reason']}" for file in row["incomplete"][:_MOST_NAMED]],
    ),
)  # fmt: skip


def status_row(store: Store) -> dict[str, Any]:
    """The row of :data:`STATUS`: counts and problems of an index."""
    from clamr_cli.search import offline

    stats = store.stats()
    encoders = [
        {
            "name": use.info.name,
            "fingerprint": use.info.fingerprint,
            "moments": use.moments,
            "vectors": use.vectors,
            **partial_coverage(store, use.info.fingerprint),
        }
        for use in stats.encoders
    ]
    return {
        "index": store.uri,
        "size": stats.size,
        "files": stats.files,
        "videos": stats.videos,
        "moments": stats.moments,
        "seconds": round(stats.seconds, 3),
        "failed": stats.failed,
        "missing": stats.missing,
        "offline": len(offline(store.files())),
        "extractions": stats.extractions,
        "encoders": encoders,
        "problems": store.problems(),
        "incomplete": incomplete_files(store),
    }


def incomplete_files(store: Store) -> list[dict[str, str]]:
    """The indexed files of which only a part can be read, how much of each, and what to do."""
    parts = {video.video_id: readable_part(video.media) for video in store.videos() if video.media.incomplete}
    return [
        {"path": file.path, "reason": parts[file.video_id], "hint": "copy or download it again, then index it again"}
        for file in (store.files() if parts else [])
        if file.state.value == "indexed" and file.video_id in parts
    ]


def partial_coverage(store: Store, fingerprint: str) -> dict[str, object]:
    """The keys ``searched`` and ``of`` of JSON objects; empty where all videos have vectors of the encoder."""
    searched, of = store.coverage(fingerprint)
    return {"searched": searched, "of": of} if searched < of else {}


def _text(segments: Sequence[Segment]) -> str:
    return " ".join(" ".join(segment.text.split()) for segment in segments)


def _lines_of(segments: Sequence[Segment]) -> list[dict[str, object]]:
    return [{**span_record(line.span), "text": line.text, "source": line.source} for line in segments]


FRAME: Final = (
    Column("rank", "1 is the best.", label="#", right=True, style="dim"),
    Column("score", "MaxSim of the question.", json=None, tsv=fixed(4), table=fixed(2), right=True),
    Column(
        "time", "When the frame was taken, in seconds.", lambda hit: hit.frame.time,
        json=rounded(3), tsv=fixed(3), table=as_time, label="frame",
    ),
    table_only("stretch", lambda hit: as_span(hit.frame.span), below="time"),
    seconds_column(
        "start", "Where the stretch starts that it stands for, in seconds.", lambda hit: hit.frame.span.start, 3
    ),
    seconds_column("end", "Where that ends.", lambda hit: hit.frame.span.end, 3),
    seconds_column("at", "The second inside it where the evidence is strongest.", digits=3),
    json_only("score", "MaxSim of the question with all modalities.", lambda hit: rounded(4)(hit.score)),
    json_only(
        "confidence", "Confidence that it answers the question, from 0 to 1.", lambda hit: rounded(3)(hit.confidence)
    ),
    json_only("weak", "True if it probably does not answer the question."),
    Column("modality", "The modality that matches best.", table=str, label="by"),
    json_only(
        "modalities", "Score of each modality alone.",
        lambda hit: {name: rounded(4)(value) for name, value in hit.modalities.items()},
    ),
    Column(
        "words", "The texts that matched.", lambda hit: matched_texts(hit.evidence),
        tsv=" ".join, table=lambda texts: shorten(" · ".join(texts), _LONGEST_CELL), label="matched", wide=True,
    ),
    json_only(
        "evidence", "What matched each word: query_token, modality, start, end, text, similarity.",
        lambda hit: [evidence_record(part) for part in hit.evidence],
    ),
    Column(
        "speech", "What is said around it.", json=_lines_of, tsv=_text, label="said and written around", wide=True,
        table=lambda segments: shorten(_text(segments), _LONGEST_CELL), style="cyan",
    ),
    Column(
        "ocr", "What is written on screen.", json=_lines_of, tsv=_text, below="speech",
        table=lambda segments: shorten(_text(segments), _LONGEST_CELL), style="yellow",
    ),
    Column("file", "Name of its JPEG in the folder of --out.", table=None),
    Column("clip", "Name of its clip there.", table=None),
)  # fmt: skip
