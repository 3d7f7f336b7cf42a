"""The records of clamr: each is a list of columns, which give its JSON object, its TSV and CSV fields and its table.

The command line prints them and the server sends them, so that both say the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from clamr_cli.text import escape_json, format_time, plural, readable_part, shorten, size
from clamr_cli.types import SHOWN_MODALITIES, Evidence, FileState, MomentRecord, Segment, Span, Timeline

if TYPE_CHECKING:
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
        kind: the type of the JSON value, for the description of the API.
        of: the columns of the objects in the value, where it is a list of them, a dict of them by name, or one or null
            (``kind`` is then list, dict or object).
    """

    name: str
    about: str = ""
    get: Callable[[Any], Any] | None = None
    json: Callable[[Any], Any] | None = as_is
    tsv: Callable[[Any], Any] | None = as_is
    table: Callable[[Any], object] | None = str
    label: str = ""
    cell: Callable[[Any], Any] | None = None
    link: Callable[[Any], str] | None = None
    right: bool = False
    wide: bool = False
    style: str = ""
    below: str = ""
    kind: Any = str
    of: Sequence[Column] = ()

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


def json_only(
    name: str,
    about: str = "",
    get: Callable[[Any], Any] | None = None,
    kind: Any = str,  # noqa: ANN401
    *,
    of: Sequence[Column] = (),
    json: Callable[[Any], Any] = as_is,
) -> Column:
    """A column that only JSON has."""
    return Column(name, about, get, json=json, tsv=None, table=None, kind=kind, of=of)


def objects(
    name: str,
    about: str,
    of: Sequence[Column],
    get: Callable[[Any], Any] | None = None,
    kind: Any = list,  # noqa: ANN401
) -> Column:
    """A column of JSON whose value is a list of objects with these columns; a dict of them, or one, by ``kind``."""

    def records(value: Any) -> Any:  # noqa: ANN401
        if kind is list:
            return [record(of, each) for each in value]
        if kind is dict:
            return {name: record(of, each) for name, each in value.items()}
        return None if value is None else record(of, value)

    return Column(name, about, get, json=records, tsv=None, table=None, kind=kind, of=of)


def seconds_column(name: str, about: str, get: Callable[[Any], Any] | None = None, digits: int = 2) -> Column:
    """A column of seconds for programs."""
    return Column(name, about, get, json=rounded(3), tsv=fixed(digits), table=None, kind=float)


def _number(name: str, about: str, digits: int, get: Callable[[Any], Any] | None = None, kind: Any = float) -> Column:  # noqa: ANN401
    """A number of JSON, rounded."""
    return json_only(name, about, get, kind, json=rounded(digits))


SPAN: Final = (
    _number("start", "Where it starts, in seconds.", 3, lambda thing: thing.span.start),
    _number("end", "Where it ends.", 3, lambda thing: thing.span.end),
)


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


EVIDENCE: Final = (
    json_only("query_token", "The query word."),
    json_only("modality", "The modality.", kind=str | None),
    *SPAN,
    json_only("text", "The text that matched."),
    _number("similarity", "Cosine.", 4),
)
"""A piece of evidence."""

LINE: Final = (
    json_only("modality", "The modality."),
    json_only(
        "start", "The second; null for metadata.", lambda line: round(line.start, 3) if line.timed else None,
        float | None,
    ),
    json_only("text", "The text; empty for a frame."),
    json_only("words", "The query words that it answers.", lambda line: list(line.words), list[str]),
    _number("similarity", "Cosine of the best.", 4),
    json_only("speaker", "Who says it; empty where that is not known."),
)  # fmt: skip
"""A line that answers."""


HIT: Final = (
    Column("rank", "1 is the best.", kind=int),
    Column("score", "Sum of the best similarity of each query vector.", json=rounded(4), tsv=fixed(4), kind=float),
    Column("video_id", "Id of the video."),
    json_only("moment_id", "Id of the moment: the video's id and a number."),
    seconds_column("start", "Where the moment starts, in seconds.", lambda hit: hit.span.start),
    seconds_column("end", "Where it ends.", lambda hit: hit.span.end),
    seconds_column("at", "The second inside it where the evidence is strongest."),
    Column("modality", "The modality that matches best.", kind=str | None),
    json_only(
        "modalities", "Score of each modality alone; null where the moment has none of it.",
        lambda hit: {name: rounded(4)(hit.modalities.get(name)) for name in SHOWN_MODALITIES},
        dict[str, float | None],
    ),
    Column("title", "Title of the video."),
    Column("path", "A file that holds it."),
    Column(
        "words", "The texts that matched, separated by spaces.", lambda hit: matched_texts(hit.evidence),
        json=None, tsv=" ".join,
    ),
    objects(
        "evidence", "What matched each query word: query_token, modality, start, end, text, similarity.", EVIDENCE
    ),
    objects(
        "lines",
        "What answers, best first: modality, start (the second), text (none of a frame), words, similarity, speaker.",
        LINE,
    ),
    _number("open_at", "The second at which 'clamr open RANK' starts.", 3, lambda hit: hit.opened_at),
    json_only("tags", "Tags that you gave the video.", lambda hit: list(hit.tags), list[str]),
    Column("approximate", "True if not all moments were compared.", tsv=mark("approximate"), kind=bool),
    _number("confidence", "Confidence that it answers the query, from 0 to 1.", 3),
    Column("weak", "True if it probably does not answer the query.", tsv=mark("weak"), kind=bool),
    Column("offline", "True if no file of the video can be opened now.", tsv=mark("offline"), kind=bool),
)  # fmt: skip


class _StillOf(NamedTuple):
    """A frame of a moment: when it was taken, and the stretch it stands for."""

    time: float
    span: Span


def _of_hit(column: Column) -> Column:
    return replace(column, tsv=None, get=lambda explanation: column.value(explanation.hit))


WORD: Final = (
    json_only("query_token", "The query word."),
    objects("best", "What won; null where nothing may answer.", EVIDENCE, kind=object),
    objects("by_modality", "The best of each modality.", EVIDENCE, kind=dict),
)
WHAT_IF: Final = (
    json_only("without", "The modality.", lambda what: what.modality),
    _number("score", "Score without it; null where nothing is left.", 4, kind=float | None),
    json_only("rank", "Rank without it.", kind=int | None),
)
EXPLANATION: Final = (
    json_only("query", "The query."),
    json_only("total", "Videos that were ranked.", kind=int),
    *(_of_hit(column) for column in HIT if column.json),
    objects("words", "What answers each query word: query_token, best, by_modality.", WORD),
    json_only(
        "shares", "Part of the score that each modality won.",
        lambda why: {name: round(share, 4) for name, share in why.shares.items()}, dict[str, float],
    ),
    objects("what_if", "Score and rank if a modality did not count: without, score, rank.", WHAT_IF),
)  # fmt: skip

SEGMENT: Final = (
    *SPAN,
    json_only("text", "The text."),
    json_only("source", "How it came to be."),
    json_only("language", "Code of its language; empty where unknown."),
    _number("confidence", "Confidence of its recognition.", 4, kind=float | None),
    json_only("speaker", "Who says it; empty where that is not known."),
)
"""A line that is said, written or noted."""

MOMENT: Final = (
    json_only("moment_id", "Id of the moment."),
    *SPAN,
    objects(
        "frames", "Its frames.", (_number("time", "When it was taken.", 3), *SPAN),
        lambda moment: list(map(_StillOf, moment.frame_times, moment.frame_spans)),
    ),
    objects("speech", "What is said.", SEGMENT),
    objects("ocr", "What is written on screen.", SEGMENT),
    objects("metadata", "Metadata.", SEGMENT),
)  # fmt: skip


VIDEO: Final = (
    json_only("video_id", "Id of the video.", lambda line: line.video.video_id),
    json_only("content_hash", "Hash of its content.", lambda line: line.video.content_hash),
    json_only("title", "Title.", lambda line: line.video.fields.title),
    json_only("uploader", "Who published it; empty where unknown.", lambda line: line.video.fields.uploader),
    json_only("date", "ISO 8601, as much as is known.", lambda line: line.video.fields.date),
    json_only("language", "Two-letter code; empty where unknown.", lambda line: line.video.fields.language),
    json_only("duration", "Seconds.", lambda line: round(line.video.media.duration, 3), float),
    json_only("indexed_at", "When it was indexed, ISO 8601.", lambda line: line.video.indexed_at),
    objects(
        "files",
        "Files that hold it: path, state, size, offline.",
        (
            json_only("path", "Path of the file."),
            json_only("state", "indexed, failed or missing."),
            json_only("size", "Bytes.", kind=int),
            json_only("offline", "True for an indexed file that is not there now.", kind=bool),
        ),
        lambda line: [
            {"path": file.path, "state": file.state, "size": file.size, "offline": file.path in line.offline}
            for file in line.files
        ],
    ),
    json_only(
        "offline",
        "True if no indexed file of it can be opened now.",
        lambda line: {file.path for file in line.files if file.state is FileState.INDEXED} <= line.offline,
        bool,
    ),
    json_only(
        "media",
        "What the file says about itself, and what was measured.",
        lambda line: asdict(line.video.media),
        dict[str, Any],
    ),
)
VIDEO_MORE: Final = (
    objects("moments", "Its moments: moment_id, start, end, frames, speech, ocr, metadata.", MOMENT),
    json_only("part", "Number of this file, where a camera made one recording of several files; only then.", kind=int),
    json_only("of", "How many files the recording has.", kind=int),
    json_only("group", "Name of the recording."),
)


def video_record(line: Timeline, moments: Sequence[MomentRecord]) -> dict[str, Any]:
    """All that the index knows of a video as a JSON object."""
    fields = line.video.fields
    more = {"moments": moments, "part": fields.part, "of": fields.of, "group": fields.group}
    return record(VIDEO, line) | record(VIDEO_MORE if fields.part else VIDEO_MORE[:1], more)


TIMELINE: Final = (
    json_only("video_id", "Id of the video.", lambda line: line.video.video_id),
    json_only("title", "Title.", lambda line: line.video.fields.title),
    objects(
        "moments", "The parts that can be found: start, end.",
        (_number("start", "Where it starts, in seconds.", 3), _number("end", "Where it ends.", 3)),
    ),
    objects(
        "timeline", "All the index knows, in time order: modality, start, end, text, source, speaker.",
        (
            json_only("modality", "The modality."), *SPAN, json_only("text", "The text; empty for a frame."),
            json_only("source", "How it came to be."),
            json_only("speaker", "Who says it; empty where that is not known."),
        ),
        lambda line: line.entries,
    ),
)  # fmt: skip


FILE: Final = (
    Column(
        "video_id", "Id of the video that the file holds; null where it could not be read.", style="dim",
        kind=str | None,
    ),
    Column("duration", "Seconds.", table=as_time, right=True, kind=float | None),
    Column("title", "Title of the video.", wide=True),
    Column("path", "Path of the file.", below="title"),
    Column("state", "indexed, failed or missing."),
    Column(
        "offline", "True for an indexed file that is not there now.",
        tsv=mark("offline"), table=mark("offline"), below="state",
        kind=bool,
    ),
    Column("date", "Date of the video: year, month and day as far as known."),
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
        duration, title, date = (round(video.duration, 3), video.title, video.date) if video else (None, "", "")
        rows.append(
            {
                "video_id": file.video_id or None,
                "duration": duration,
                "title": title,
                "path": file.path,
                "state": file.state.value,
                "offline": file.path in away,
                "date": date,
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
    Column(
        "size", "Bytes; null for a remote index.", tsv=lambda count: "remote" if count is None else size(count),
        kind=int | None,
    ),
    Column("files", "Files that index runs met.", kind=int),
    Column("videos", "Different videos that they hold.", kind=int),
    Column("moments", "Moments that can be found.", kind=int),
    Column("seconds", "Length of all videos.", tsv=format_time, label="time", kind=float),
    Column(
        "failed", "Files that could not be read or indexed.",
        tsv=lambda count: f"{count} (clamr status --failed)" if count else "0", kind=int,
    ),
    Column("missing", "Files that are gone, whose extractions are kept for a while.", kind=int),
    Column(
        "offline", "Indexed files that are not there now.", tsv=lambda count: f"{count} (clamr ls)" if count else "0",
        kind=int,
    ),
    json_only(
        "extractions", "Stored results of recognition, of videos in the index or prepared for questions.", kind=int
    ),
    Column(
        "encoders", "Encoders with vectors: name, fingerprint, moments, vectors, and searched and of where not all "
        "videos have them.", tsv=_encoder_lines, label="encoder", kind=list[dict[str, Any]],
    ),
    json_only("running", "How far the run is that writes to the index, and its workers; empty where none does."),
    Column("run", json=None, cell=lambda row: row["running"] or None, label="now indexing"),
    Column("problems", "What does not fit together in the tables, and what to run.", label="problem", kind=list[str]),
    Column(
        "incomplete", "Files of which only a part can be read.", get=lambda row: len(row["incomplete"]),
        tsv=lambda count: f"{count} (clamr status --failed)" if count else "0", kind=int,
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
        "running": store.running(),
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


def _around(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    return [record(AROUND, segment) for segment in segments]


AROUND: Final = (*SPAN, json_only("text", "The text."), json_only("source", "How it came to be."))
"""A line around a frame."""

FRAME: Final = (
    Column("rank", "1 is the best.", label="#", right=True, style="dim", kind=int),
    Column("score", "MaxSim of the question.", json=None, tsv=fixed(4), table=fixed(2), right=True),
    Column(
        "time", "When the frame was taken, in seconds.", lambda hit: hit.frame.time,
        json=rounded(3), tsv=fixed(3), table=as_time, label="frame", kind=float,
    ),
    table_only("stretch", lambda hit: as_span(hit.frame.span), below="time"),
    seconds_column(
        "start", "Where the stretch starts that it stands for, in seconds.", lambda hit: hit.frame.span.start, 3
    ),
    seconds_column("end", "Where that ends.", lambda hit: hit.frame.span.end, 3),
    seconds_column("at", "The second inside it where the evidence is strongest.", digits=3),
    _number("score", "MaxSim of the question with all modalities.", 4),
    _number("confidence", "Confidence that it answers the question, from 0 to 1.", 3),
    json_only("weak", "True if it probably does not answer the question.", kind=bool),
    Column("modality", "The modality that matches best.", table=str, label="by", kind=str | None),
    json_only(
        "modalities", "Score of each modality alone.",
        lambda hit: {name: rounded(4)(value) for name, value in hit.modalities.items()},
        dict[str, float | None],
    ),
    Column(
        "words", "The texts that matched.", lambda hit: matched_texts(hit.evidence),
        tsv=" ".join, table=lambda texts: shorten(" · ".join(texts), _LONGEST_CELL), label="matched", wide=True,
        kind=list[str],
    ),
    objects("evidence", "What matched each word: query_token, modality, start, end, text, similarity.", EVIDENCE),
    Column(
        "speech", "What is said around it.", json=_around, tsv=_text, label="said and written around", wide=True,
        kind=list, of=AROUND,
        table=lambda segments: shorten(_text(segments), _LONGEST_CELL), style="cyan",
    ),
    Column(
        "ocr", "What is written on screen.", json=_around, tsv=_text, below="speech", kind=list, of=AROUND,
        table=lambda segments: shorten(_text(segments), _LONGEST_CELL), style="yellow",
    ),
    Column("file", "Name of its JPEG in the folder of --out.", table=None),
    Column("clip", "Name of its clip there.", table=None),
)  # fmt: skip
