"""Questions about videos, read in the formats that collections are published in.

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
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from clamr_cli.ask import LETTERS
from clamr_cli.errors import UsageError
from clamr_cli.evaluate.data import read_text
from clamr_cli.types import Span

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
    if format_name not in ("auto", *FORMATS):
        raise UsageError(f"invalid format {format_name!r}", f"use auto, {', '.join(FORMATS)}")
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
