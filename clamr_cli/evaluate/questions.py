"""Questions about videos, read in the formats that collections are published in, and the videos they are about.

==================  ====================================================================================================
``videomme``        Video-MME: Parquet or JSON with ``videoID``, ``duration`` (short, medium, long), ``question``,
                    ``options`` ("A. ..."), ``answer`` (a letter); also one object a video with its ``questions``
``longvideobench``  LongVideoBench: JSON or Parquet with ``video_path``, ``subtitle_path``, ``question``,
                    ``candidates`` (or ``option0`` to ``option4``, those that are none "N/A"), ``correct_choice`` (from
                    0), ``duration_group``, ``position`` (frames that answer)
``qvhighlights``    QVHighlights: JSON lines with ``qid``, ``query``, ``vid``, ``relevant_windows``,
                    ``relevant_clip_ids``, ``saliency_scores``
``jsonl``           clamr's own: JSON lines with ``id``, ``video``, ``question``, and where they are known ``choices``,
                    ``answer`` (a letter), ``group``, ``subtitles``, ``windows`` ([[start, end]] in seconds)
==================  ====================================================================================================

A collection keeps its subtitles in a folder of their own, in formats of its own, sometimes on the clock of a longer
video. They are written once more, in SubRip, and go before whatever else is known of what is said in the video.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import pyarrow.parquet as pq
import pysubs2
from pyarrow.lib import ArrowException

from clamr_cli.ask import LETTERS
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.evaluate.data import read_text, resolve
from clamr_cli.extract.subtitles import from_events, read_subtitle_file
from clamr_cli.files import write_atomically
from clamr_cli.types import FileRecord, Segment, Span

CLIP: Final = 2.0
"""Seconds of the clips that QVHighlights has graded (Lei et al., arXiv 2107.09609, section 3)."""


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question about one video.

    Attributes:
        id: unique in its collection.
        video: as the collection names it: a path, a file's name or an id.
        text: the question, or the words that describe a moment.
        choices: answers to choose from; none if a moment is to be found.
        answer: the right choice, from 0; None if the collection does not say.
        group: the class of the video's length, as the collection names it; may be empty.
        subtitles: the subtitle file as the collection names it; empty if it names none.
        late: seconds by which its subtitles are late: they belong to a longer video.
        windows: the stretches of the video that answer.
        marks: the frames that answer, counted from the video's first.
        grades: of clips of :data:`CLIP` seconds, by number: what each annotator gave, 0 to 4.
    """

    id: str
    video: str
    text: str
    choices: tuple[str, ...] = ()
    answer: int | None = None
    group: str = ""
    subtitles: str = ""
    late: float = 0.0
    windows: tuple[Span, ...] = ()
    marks: tuple[int, ...] = ()
    grades: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def has_evidence(self) -> bool:
        """Whether the collection says when the answer is shown."""
        return bool(self.windows or self.marks)

    def evidence(self, fps: float) -> tuple[Span, ...]:
        """The stretches that answer; annotated frames are counted at the rate of the file."""
        if self.windows or fps <= 0:
            return self.windows
        return tuple(Span(mark / fps, mark / fps) for mark in self.marks)

    @property
    def mark(self) -> str:
        """A short hash of all fields, by which results tell two questions with one id apart.

        Files of results keep it: names and order of the fields are part of their format.
        """
        return hashlib.blake2b(json.dumps(asdict(self)).encode(), digest_size=6).hexdigest()


_LETTERED: Final = re.compile(r"^\s*[(\[]?([A-Z])\s*[.):\]]\s*")
_PUBLISHED: Final = (
    "lvb_val.json",
    "validation-*.parquet",
    "videomme/test-*.parquet",
    "test-*.parquet",
    "highlight_val_release.jsonl",
    "data/highlight_val_release.jsonl",
)
"""Files of questions in published folders; the first that exists counts."""


def locate(data: Path) -> Path:
    """The file of questions: what was named, or the one that a folder of a published collection has.

    Raises:
        UsageError: there is none, or a folder has several.
    """
    if not data.is_dir():
        return data
    for pattern in _PUBLISHED:
        files = sorted(data.glob(pattern))
        if len(files) == 1:
            return files[0]
    lines = sorted([*data.glob("*.jsonl"), *data.glob("*.parquet")])
    if len(lines) == 1:
        return lines[0]
    raise UsageError(f"cannot tell which file in {data} has the questions", "name that file")


def read(path: Path, format_name: str = "auto") -> list[LabelledQuestion]:
    """Read the questions of a file, in order.

    Args:
        path: the file, see :func:`locate`.
        format_name: a key of :data:`FORMATS`, or ``auto`` to detect it from the fields.

    Raises:
        UsageError: the file cannot be read, is not of that format, or has no question.
    """
    records = list(_records(path))
    if not records:
        raise UsageError(f"no questions in {path.name}", "give a file with questions")
    if format_name == "auto":
        format_name = next((name for name, required in _SIGNS if required <= set(records[0])), "")
    if not format_name:
        raise UsageError(f"cannot detect the format of {path.name}", f"give it with --format: {', '.join(FORMATS)}")
    questions: dict[str, LabelledQuestion] = {}
    for number, record in enumerate(records, 1):
        try:
            question = msgspec.convert(record, FORMATS[format_name]).labelled(number)
        except ValueError as error:
            what = f"{path.name}, question {number}: not of the format {format_name}: {error}"
            raise UsageError(what, "give another --format") from error
        if question.id in questions:
            raise UsageError(f"{path.name}: two questions have the id {question.id!r}", "number them")
        questions[question.id] = question
    return list(questions.values())


def _records(path: Path) -> Iterable[Mapping[str, Any]]:
    """One record a question, also where a record of a video holds several."""
    hint = "give a list of objects, or an object a line"
    if path.suffix == ".parquet":
        try:
            values = pq.read_table(path).to_pylist()
        except (OSError, ArrowException) as error:
            raise UsageError(
                f"cannot read {path} ({str(error).splitlines()[0]})", "give a file of questions"
            ) from error
    else:
        text = read_text(path)
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            try:
                values = [json.loads(line) for line in text.split("\n") if line.strip()]
            except (ValueError, RecursionError) as error:
                raise UsageError(f"invalid JSON in {path.name}: {error}", hint) from error
    for record in values if isinstance(values, list) else [values]:
        if not isinstance(record, dict):
            raise UsageError(f"invalid questions in {path.name}: not objects", hint)
        inner = record.pop("questions", None)
        yield from [record] if inner is None else ({**record, **question} for question in inner)


_Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
_Window = tuple[Annotated[float, msgspec.Meta(ge=0)], float]


class _VideoMme(msgspec.Struct):
    question: _Text
    options: list[_Text]
    videoID: str | None = None  # noqa: N815 -- as the collection writes it
    youtube_id: str | None = None
    video_id: str | None = None
    question_id: str | int | None = None
    answer: str | None = None
    duration: str | None = None

    def labelled(self, number: int) -> LabelledQuestion:
        video = (self.videoID or self.youtube_id or self.video_id or "").strip()
        if not video:
            raise ValueError("'videoID' is missing")
        return LabelledQuestion(
            id=str(self.question_id or number),
            video=video,
            text=self.question.strip(),
            choices=_choices(self.options),
            answer=_letter(self.answer, len(self.options)),
            group=self.duration or "",
            subtitles=f"{video}.srt",
        )


class _LongVideoBench(msgspec.Struct):
    video_path: _Text
    question: _Text
    candidates: list[_Text] | None = None
    option0: str | None = None
    option1: str | None = None
    option2: str | None = None
    option3: str | None = None
    option4: str | None = None
    correct_choice: int | None = None
    id: str | int | None = None
    duration_group: str | int | None = None
    subtitle_path: str | None = None
    starting_timestamp_for_subtitles: float | None = None
    position: list[int] | None = None

    def labelled(self, number: int) -> LabelledQuestion:
        options = (self.option0, self.option1, self.option2, self.option3, self.option4)
        choices = _choices(self.candidates or [option for option in options if option not in (None, "", "N/A")])
        # The test set comes without answers.
        answer = None if self.correct_choice == -1 else self.correct_choice
        if answer is not None and not 0 <= answer < len(choices):
            raise ValueError(f"invalid correct_choice {answer}: not one of the candidates")
        return LabelledQuestion(
            id=str(self.id or number),
            video=self.video_path.strip(),
            text=self.question.strip(),
            choices=choices,
            answer=answer,
            group="" if self.duration_group is None else f"{self.duration_group} s",
            subtitles=self.subtitle_path or "",
            late=self.starting_timestamp_for_subtitles or 0.0,
            marks=tuple(self.position or ()),
        )


class _QvHighlights(msgspec.Struct):
    vid: _Text
    query: _Text
    qid: str | int | None = None
    relevant_windows: list[_Window] | None = None
    relevant_clip_ids: list[int] | None = None
    saliency_scores: list[tuple[int, ...]] | None = None

    def labelled(self, number: int) -> LabelledQuestion:
        clips, grades = self.relevant_clip_ids or [], self.saliency_scores or []
        if len(clips) != len(grades):
            raise ValueError(f"{len(clips)} clips have {len(grades)} grades")
        return LabelledQuestion(
            id=str(number if self.qid is None else self.qid),
            video=self.vid.strip(),
            text=self.query.strip(),
            windows=_spans(self.relevant_windows),
            grades=dict(zip(clips, grades, strict=True)),
        )


class _Own(msgspec.Struct):
    video: _Text
    question: _Text
    id: str | int | None = None
    choices: list[_Text] | None = None
    answer: str | None = None
    group: str | None = None
    subtitles: str | None = None
    windows: list[_Window] | None = None

    def labelled(self, number: int) -> LabelledQuestion:
        choices = _choices(self.choices or [])
        return LabelledQuestion(
            id=str(self.id or number),
            video=self.video.strip(),
            text=self.question.strip(),
            choices=choices,
            answer=_letter(self.answer, len(choices)) if choices else None,
            group=self.group or "",
            subtitles=self.subtitles or "",
            windows=_spans(self.windows),
        )


_Format: TypeAlias = type[_VideoMme] | type[_LongVideoBench] | type[_QvHighlights] | type[_Own]

FORMATS: Final[Mapping[str, _Format]] = {
    "videomme": _VideoMme,
    "longvideobench": _LongVideoBench,
    "qvhighlights": _QvHighlights,
    "jsonl": _Own,
}

_SIGNS: Final = (
    ("longvideobench", {"video_path", "candidates"}),
    ("longvideobench", {"video_path", "option0"}),
    ("qvhighlights", {"vid", "query"}),
    ("videomme", {"question", "options"}),
    ("jsonl", {"video", "question"}),
)
"""Fields that identify a format, of those not listed before."""


def _choices(options: Sequence[str]) -> tuple[str, ...]:
    """Choices without the letters before them, if all have theirs."""
    texts = [option.strip() for option in options]
    if len(texts) > len(LETTERS):
        raise ValueError(f"invalid choices: {len(texts)} are too many")
    heads = [_LETTERED.match(text) for text in texts]
    if all(head is not None and head[1] == letter for head, letter in zip(heads, LETTERS, strict=False)):
        texts = [_LETTERED.sub("", text) or text for text in texts]
    return tuple(texts)


def _letter(answer: str | None, count: int) -> int | None:
    letter = (answer or "").strip().upper().rstrip(".")
    if not letter:
        return None
    if len(letter) != 1 or letter not in LETTERS[:count]:
        raise ValueError(f"invalid answer {answer!r}: not one of the choices")
    return LETTERS.index(letter)


def _spans(windows: Sequence[_Window] | None) -> tuple[Span, ...]:
    for start, end in windows or ():
        if not start <= end:
            raise ValueError(f"invalid window [{start:g}, {end:g}]")
    return tuple(Span(*window) for window in windows or ())


# --- videos and subtitles ---------------------------------------------------------------------------------------------

_VIDEO_FOLDERS: Final = ("", "videos", "video", "data", "data/videos", "clips")
_SUBTITLE_FOLDERS: Final = ("", "subtitles", "subtitle")
_LATEST: Final = 1e6
"""Seconds; no video is as long as that."""

_SUFFIXES: Final = ("", ".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts")


@dataclass(frozen=True, slots=True)
class QuestionMedia:
    """A video (a path, or an id of the index), and its subtitles if the collection has them.

    ``late`` are seconds by which the subtitles are late: they belong to a longer video.
    """

    video: str
    subtitles: Path | None = None
    late: float = 0.0


def find_media(
    questions: Sequence[LabelledQuestion],
    files: Sequence[FileRecord],
    videos: Iterable[Path],
    subtitles: Iterable[Path],
) -> tuple[dict[str, QuestionMedia], list[str]]:
    """Find the videos of questions: as paths, in the folders and those that collections have inside, in the index.

    Returns:
        The media by their name in the collection, and the names without any.
    """
    video_folders = [*_with_inner(videos, _VIDEO_FOLDERS), Path()]
    subtitle_folders = _with_inner(subtitles, _SUBTITLE_FOLDERS)
    first: dict[str, LabelledQuestion] = {}
    for question in questions:
        first.setdefault(question.video, question)
    paths = {name: _first_file(video_folders, [name + suffix for suffix in _SUFFIXES]) for name in first}
    indexed, _ = resolve([name for name, path in paths.items() if path is None], files)
    media: dict[str, QuestionMedia] = {}
    for name, question in first.items():
        video = str(paths[name] or indexed.get(name, ""))
        if video:
            own = _first_file(subtitle_folders, [question.subtitles]) if question.subtitles else None
            media[name] = QuestionMedia(video, own, question.late)
    return media, [name for name in first if name not in media]


def _with_inner(folders: Iterable[Path], names: Sequence[str]) -> list[Path]:
    return [inner for folder in folders for name in names if (inner := folder / name).is_dir()]


def _first_file(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    for path in (folder / name for folder in folders for name in names):
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have
            if path.is_file():
                return path
    return None


def cached_subtitles(media: QuestionMedia, cache: Path) -> str:
    """The path of the collection's subtitles of a video, in SubRip and on its clock; empty without any.

    An empty file says that nobody speaks.

    Raises:
        MediaError: the subtitles cannot be read.
        UsageError: the cache cannot be written.
    """
    if media.subtitles is None:
        return ""
    try:
        status = media.subtitles.stat()
        key = f"{os.path.abspath(media.subtitles)}\0{status.st_mtime_ns}\0{status.st_size}\0{media.late}"
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
        path = cache / f"{digest}.srt"
        if not path.exists():
            srt = pysubs2.SSAFile()
            for line in read_subtitles(media.subtitles, media.late):
                start, end = line.span.start, max(line.span.end, line.span.start + 0.1)
                event = pysubs2.SSAEvent(start=pysubs2.make_time(s=start), end=pysubs2.make_time(s=end), text=line.text)
                srt.append(event)
            write_atomically(path, srt.to_string("srt").encode(), sync=False)
    except OSError as error:
        raise UsageError(f"cannot write {cache} ({error.strerror})", "choose another cache folder") from error
    return os.fspath(path)


def read_subtitles(path: Path, late: float = 0.0) -> list[Segment]:
    """The lines of a subtitle file: SubRip and its kin, or LongVideoBench's JSON, ``late`` seconds earlier.

    LongVideoBench has lists of ``{"start": "00:00:01.000", "end": ..., "line": ...}`` and of ``{"timestamp": [1.0,
    2.0], "text": ...}``, in which an end may be null: then the line lasts until the next one.

    Raises:
        MediaError: it cannot be read.
    """
    if path.suffix.lower() == ".json":
        try:
            cues = [_cue(value) for value in json.loads(path.read_text("utf-8"))]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise MediaError(f"the subtitles {path.name} cannot be read", "replace the file, or remove it") from error
        following = [start for start, _, _ in cues[1:]] + [start + 2.0 for start, _, _ in cues[-1:]]
        events = [
            (start, then if end is None else end, text)
            for (start, end, text), then in zip(cues, following, strict=True)
        ]
        segments = from_events(events)
    else:
        segments = read_subtitle_file(path)
    return [
        Segment(Span(max(0.0, line.span.start - late), line.span.end - late), line.text, line.source, line.language)
        for line in segments
        if line.span.end - late > 0
    ]


def _cue(value: Any) -> tuple[float, float | None, str]:  # noqa: ANN401 -- from JSON
    if "timestamp" in value:
        start, end = value["timestamp"]
        text = value["text"]
    else:
        start, end, text = value["start"], value["end"], value["line"]
    return _clock(start), None if end is None else _clock(end), str(text or "")


def _clock(value: object) -> float:
    """Seconds, from a number or from hours, minutes and seconds."""
    total = 0.0
    for part in str(value).replace(",", ".").split(":"):
        total = total * 60 + float(part)
    if not abs(total) < _LATEST:
        raise ValueError(f"invalid time {value!r}")
    return total
