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
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from clamr_cli.ask import LETTERS
from clamr_cli.errors import UsageError
from clamr_cli.types import Span

if TYPE_CHECKING:
    from pathlib import Path

Record: TypeAlias = Mapping[str, Any]

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


_OPTION_FIELDS: Final = tuple(f"option{number}" for number in range(5))
_LETTERED: Final = re.compile(r"^\s*[(\[]?([A-Z])\s*[.):\]]\s*")
_PLACES: Final = (
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
    for pattern in _PLACES:
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
    records = _records(path)
    if not records:
        raise UsageError(f"no questions in {path.name}", "give a file with questions")
    if format_name == "auto":
        fields = set(records[0])
        format_name = next((name for name, required in _SIGNS if required <= fields), "")
    if not format_name:
        raise UsageError(f"cannot detect the format of {path.name}", f"give it with --format: {', '.join(FORMATS)}")
    questions: dict[str, LabelledQuestion] = {}
    for number, record in enumerate(records, 1):
        try:
            question = FORMATS[format_name](record, number)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            what = f"{path.name}, question {number}: not of the format {format_name}: {reason}"
            raise UsageError(what, "give another --format") from error
        if question.id in questions:
            raise UsageError(f"{path.name}: two questions have the id {question.id!r}", "number them")
        questions[question.id] = question
    return list(questions.values())


def _records(path: Path) -> list[Record]:
    hint = "give a list of objects, or an object a line"
    try:
        if path.suffix == ".parquet":
            return _flat(pq.read_table(path).to_pylist())
        text = path.read_text("utf-8-sig")
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UsageError(f"cannot read {path} ({reason})", "give a file of questions") from error
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UsageError(f"invalid JSON in {path.name}: nested too deeply", hint) from error
    except ValueError:
        value = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    value.append(json.loads(line))
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"{path.name}, line {number}: invalid JSON: {error}", hint) from error
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in values):
        raise UsageError(f"invalid questions in {path.name}: not objects", hint)
    return _flat(values)


def _flat(records: Sequence[Record]) -> list[Record]:
    """One record a question, where a record of a video holds several."""
    flat: list[Record] = []
    for record in records:
        inside = record.get("questions")
        if isinstance(inside, list):
            head = {name: value for name, value in record.items() if name != "questions"}
            flat += [{**head, **one} for one in inside if isinstance(one, dict)]
        else:
            flat.append(record)
    return flat


def _videomme(record: Record, number: int) -> LabelledQuestion:
    names = [record[name] for name in ("videoID", "youtube_id", "video_id") if record.get(name)]
    if not names:
        raise KeyError("videoID")
    video = _text(names[0], "videoID")
    return LabelledQuestion(
        id=str(record.get("question_id") or number),
        video=video,
        text=_text(record["question"], "question"),
        choices=_choices(record["options"]),
        answer=_letter(record.get("answer"), len(record["options"])),
        group=str(record.get("duration") or ""),
        subtitles=f"{video}.srt",
    )


def _longvideobench(record: Record, number: int) -> LabelledQuestion:
    options = [record[name] for name in _OPTION_FIELDS if record.get(name) not in (None, "N/A")]
    choices = _choices(record["candidates"] if "candidates" in record or not options else options)
    right = record.get("correct_choice")
    # The part that is for testing comes without answers.
    right = None if right == -1 else right
    if right is not None and (type(right) is not int or not 0 <= right < len(choices)):
        raise ValueError(f"invalid correct_choice {right!r}: not one of the candidates")
    group = record.get("duration_group")
    return LabelledQuestion(
        id=str(record.get("id") or number),
        video=_text(record["video_path"], "video_path"),
        text=_text(record["question"], "question"),
        choices=choices,
        answer=right,
        group="" if group is None else f"{group} s",
        subtitles=str(record.get("subtitle_path") or ""),
        late=_number(record.get("starting_timestamp_for_subtitles") or 0.0),
        marks=tuple(int(mark) for mark in record.get("position") or ()),
    )


def _qvhighlights(record: Record, number: int) -> LabelledQuestion:
    clips, scores = record.get("relevant_clip_ids") or (), record.get("saliency_scores") or ()
    if len(clips) != len(scores):
        raise ValueError(f"{len(clips)} clips have {len(scores)} grades")
    return LabelledQuestion(
        id=str(record.get("qid", number)),
        video=_text(record["vid"], "vid"),
        text=_text(record["query"], "query"),
        windows=_windows(record.get("relevant_windows") or ()),
        grades={int(clip): tuple(int(grade) for grade in grades) for clip, grades in zip(clips, scores, strict=True)},
    )


def _own(record: Record, number: int) -> LabelledQuestion:
    choices = _choices(record.get("choices") or ())
    return LabelledQuestion(
        id=str(record.get("id") or number),
        video=_text(record["video"], "video"),
        text=_text(record["question"], "question"),
        choices=choices,
        answer=_letter(record.get("answer"), len(choices)) if choices else None,
        group=str(record.get("group") or ""),
        subtitles=str(record.get("subtitles") or ""),
        windows=_windows(record.get("windows") or ()),
    )


FORMATS: Final[Mapping[str, Callable[[Record, int], LabelledQuestion]]] = {
    "videomme": _videomme,
    "longvideobench": _longvideobench,
    "qvhighlights": _qvhighlights,
    "jsonl": _own,
}

_SIGNS: Final = (
    ("longvideobench", {"video_path", "candidates"}),
    ("longvideobench", {"video_path", "option0"}),
    ("qvhighlights", {"vid", "query"}),
    ("videomme", {"question", "options"}),
    ("jsonl", {"video", "question"}),
)
"""Fields that identify a format, of those not listed before."""


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"invalid {name} {value!r}: not a text")
    return value.strip()


def _number(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"invalid time {value!r}")
    return number


def _choices(options: object) -> tuple[str, ...]:
    """Choices without the letters before them, if all have theirs."""
    if not isinstance(options, Sequence) or isinstance(options, str):
        raise ValueError(f"invalid choices {options!r}: not a list")
    texts = [_text(option, "choice") for option in options]
    if len(texts) > len(LETTERS):
        raise ValueError(f"invalid choices: {len(texts)} are too many")
    heads = [_LETTERED.match(text) for text in texts]
    if all(head is not None and head[1] == letter for head, letter in zip(heads, LETTERS, strict=False)):
        texts = [_LETTERED.sub("", text) or text for text in texts]
    return tuple(texts)


def _letter(answer: object, count: int) -> int | None:
    if answer is None or answer == "":
        return None
    letter = str(answer).strip().upper().rstrip(".")
    if len(letter) != 1 or letter not in LETTERS[:count]:
        raise ValueError(f"invalid answer {answer!r}: not one of the choices")
    return LETTERS.index(letter)


def _windows(pairs: object) -> tuple[Span, ...]:
    if not isinstance(pairs, Sequence) or isinstance(pairs, str):
        raise ValueError(f"invalid windows {pairs!r}: not a list")
    spans = []
    for pair in pairs:
        start, end = (_number(border) for border in pair)
        if not 0 <= start <= end:
            raise ValueError(f"invalid window {pair!r}")
        spans.append(Span(start, end))
    return tuple(spans)
