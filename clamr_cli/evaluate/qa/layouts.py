"""Collections of questions about videos in the layouts they are published in, as :class:`~.items.Item`.

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

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from clamr_cli.ask import LETTERS
from clamr_cli.errors import UsageError
from clamr_cli.evaluate.qa.items import Item
from clamr_cli.types import Span

if TYPE_CHECKING:
    from pathlib import Path

Record: TypeAlias = Mapping[str, Any]

_NUMBERED_OPTIONS: Final = tuple(f"option{number}" for number in range(5))
_NUMBERED: Final = re.compile(r"^\s*[(\[]?([A-Z])\s*[.):\]]\s*")
_PLACES: Final = (
    "lvb_val.json",
    "validation-*.parquet",
    "videomme/test-*.parquet",
    "test-*.parquet",
    "highlight_val_release.jsonl",
    "data/highlight_val_release.jsonl",
)
"""Where published folders keep their questions, the first that is there."""


def found_in(data: Path) -> Path:
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


def read(path: Path, layout: str = "auto") -> list[Item]:
    """The questions of a file, in order.

    Args:
        path: the file, see :func:`found_in`.
        layout: a key of :data:`LAYOUTS`, or ``auto`` to tell it from the fields.

    Raises:
        UsageError: the file cannot be read, is not of that layout, or holds no question.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}", f"use auto, {', '.join(LAYOUTS)}")
    records = _records(path)
    if not records:
        raise UsageError(f"{path.name} holds no question", "give a file with questions")
    chosen = _told(records[0], path.name) if layout == "auto" else layout
    items = []
    for number, record in enumerate(records, 1):
        place = f"{path.name}, question {number}"
        try:
            items.append(LAYOUTS[chosen](record, number))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"{place}: not of the layout {chosen}: {what}", "give another --format") from error
    _check(items, path.name)
    return items


def _check(items: Sequence[Item], source: str) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UsageError(f"{source}: two questions have the id {item.id!r}", "number them")
        seen.add(item.id)


def _records(path: Path) -> list[Record]:
    try:
        if path.suffix == ".parquet":
            return _flat(pq.read_table(path).to_pylist())
        text = path.read_text("utf-8-sig")
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UsageError(f"cannot read {path} ({told})", "give a file of questions") from error
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UsageError(f"{path.name} holds no questions", "give a list of objects, or an object a line") from error
    except ValueError:
        value = [
            _line(line, f"{path.name}, line {number}")
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in values):
        raise UsageError(f"{path.name} holds no questions", "give a list of objects, or an object a line")
    return _flat(values)


def _line(line: str, place: str) -> Any:  # noqa: ANN401 -- from JSON
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: no JSON: {error}", "give a file of questions") from error


def _flat(records: Sequence[Record]) -> list[Record]:
    """One record a question, where a record of a video holds several."""
    found: list[Record] = []
    for record in records:
        inside = record.get("questions")
        if isinstance(inside, list):
            head = {name: value for name, value in record.items() if name != "questions"}
            found += [{**head, **one} for one in inside if isinstance(one, dict)]
        else:
            found.append(record)
    return found


def _told(record: Record, source: str) -> str:
    fields = set(record)
    for layout, needed in _SIGNS:
        if needed <= fields:
            return layout
    raise UsageError(f"cannot tell what layout {source} has", f"say it with --format: {', '.join(LAYOUTS)}")


def _videomme(record: Record, number: int) -> Item:
    names = [record[name] for name in ("videoID", "youtube_id", "video_id") if record.get(name)]
    if not names:
        raise KeyError("videoID")
    video = _text(names[0], "videoID")
    return Item(
        id=str(record.get("question_id") or number),
        video=video,
        text=_text(record["question"], "question"),
        choices=_choices(record["options"]),
        answer=_letter(record.get("answer"), len(record["options"])),
        group=str(record.get("duration") or ""),
        subtitles=f"{video}.srt",
    )


def _longvideobench(record: Record, number: int) -> Item:
    numbered = [record[name] for name in _NUMBERED_OPTIONS if record.get(name) not in (None, "N/A")]
    choices = _choices(record["candidates"] if "candidates" in record or not numbered else numbered)
    right = record.get("correct_choice")
    # The part that is for testing comes without answers.
    right = None if right == -1 else right
    if right is not None and not (_is_int(right) and 0 <= right < len(choices)):
        raise ValueError(f"correct_choice {right!r} is none of the candidates")
    group = record.get("duration_group")
    return Item(
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


def _qvhighlights(record: Record, number: int) -> Item:
    clips, scores = record.get("relevant_clip_ids") or (), record.get("saliency_scores") or ()
    if len(clips) != len(scores):
        raise ValueError(f"{len(clips)} clips have {len(scores)} grades")
    return Item(
        id=str(record.get("qid", number)),
        video=_text(record["vid"], "vid"),
        text=_text(record["query"], "query"),
        windows=_windows(record.get("relevant_windows") or ()),
        grades={int(clip): tuple(int(grade) for grade in grades) for clip, grades in zip(clips, scores, strict=True)},
    )


def _own(record: Record, number: int) -> Item:
    choices = _choices(record.get("choices") or ())
    return Item(
        id=str(record.get("id") or number),
        video=_text(record["video"], "video"),
        text=_text(record["question"], "question"),
        choices=choices,
        answer=_letter(record.get("answer"), len(choices)) if choices else None,
        group=str(record.get("group") or ""),
        subtitles=str(record.get("subtitles") or ""),
        windows=_windows(record.get("windows") or ()),
    )


LAYOUTS: Final[Mapping[str, Callable[[Record, int], Item]]] = {
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
"""Fields that only this layout has, of those not met before."""


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} {value!r} is no text")
    return value.strip()


def _number(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no time")
    return number


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _choices(options: object) -> tuple[str, ...]:
    """Choices without the letters before them, where all have theirs."""
    if not isinstance(options, Sequence) or isinstance(options, str):
        raise ValueError(f"the choices {options!r} are no list")
    texts = [_text(option, "choice") for option in options]
    if len(texts) > len(LETTERS):
        raise ValueError(f"{len(texts)} choices are too many")
    heads = [_NUMBERED.match(text) for text in texts]
    if all(head is not None and head[1] == letter for head, letter in zip(heads, LETTERS, strict=False)):
        texts = [_NUMBERED.sub("", text) or text for text in texts]
    return tuple(texts)


def _letter(answer: object, count: int) -> int | None:
    if answer is None or answer == "":
        return None
    letter = str(answer).strip().upper().rstrip(".")
    if len(letter) != 1 or letter not in LETTERS[:count]:
        raise ValueError(f"the answer {answer!r} is none of the choices")
    return LETTERS.index(letter)


def _windows(pairs: object) -> tuple[Span, ...]:
    if not isinstance(pairs, Sequence) or isinstance(pairs, str):
        raise ValueError(f"{pairs!r} are no windows")
    spans = []
    for pair in pairs:
        start, end = (_number(border) for border in pair)
        if not 0 <= start <= end:
            raise ValueError(f"{pair!r} is no window")
        spans.append(Span(start, end))
    return tuple(spans)
