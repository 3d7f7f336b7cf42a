"""Queries whose answer is known: what is asked, the modality it aims at, and the videos that answer.

One JSON object a line, in this order of keys: ``{"id", "query", "modality", "video", "relevance"?}``. ``modality`` is
``video``, ``speech``, ``ocr``, ``metadata`` or null (a base query, which aims at none). ``video`` names the answer: a
video-id, a file name or a path. A query with several answers stands on several lines; one whose ``video`` is null has
no answer in the collection. ``relevance`` is a positive whole number, 1 where it is left out. Unknown keys are passed
over, so that tools may keep more beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clamr_cli.errors import UsageError
from clamr_cli.types import Modality

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query with its answers.

    Attributes:
        id: unique in its collection.
        text: what is asked.
        modality: what it aims at; None for a base query.
        relevant: names of the videos that answer, with their grade (positive); empty where none does.
    """

    id: str
    text: str
    modality: Modality | None = None
    relevant: Mapping[str, int] = field(default_factory=dict)


def parse_lines(lines: Iterable[str], source: str) -> list[LabelledQuery]:
    """Queries of a JSONL file, in order of their first line.

    Args:
        lines: of the file; empty ones are passed over.
        source: the file's name, for messages.

    Raises:
        UsageError: a line is no such object, or two lines of one id disagree.
    """
    found: dict[str, LabelledQuery] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            query = _query(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(
                f"{source}, line {number}: no labelled query: {_trouble(error)}",
                'a line is {"id": ..., "query": ..., "modality": ..., "video": ...}',
            ) from error
        before = found.get(query.id)
        if before and (before.text, before.modality) != (query.text, query.modality):
            raise UsageError(f"{source}, line {number}: two different queries have the id {query.id!r}", "number them")
        relevant = {**before.relevant, **query.relevant} if before else query.relevant
        found[query.id] = LabelledQuery(query.id, query.text, query.modality, relevant)
    return list(found.values())


def read_lines(path: Path) -> list[LabelledQuery]:
    """Queries of a JSONL file.

    Raises:
        UsageError: it cannot be read, or see :func:`parse_lines`.
    """
    try:
        # Lines end where JSON's do: strings may hold other characters that Unicode calls ends of lines.
        return parse_lines(path.read_text("utf-8-sig").split("\n"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the queries of {path.name}: {what}", "give a JSONL file") from error


def records(query: LabelledQuery) -> list[dict[str, Any]]:
    """The lines of a query, ready for ``json.dumps``."""
    head = {"id": query.id, "query": query.text, "modality": query.modality}
    if not query.relevant:
        return [{**head, "video": None}]
    return [{**head, "video": name, "relevance": grade} for name, grade in query.relevant.items()]


def _trouble(error: Exception) -> str:
    match error:
        case KeyError():
            return f"{error} is missing"
        case RecursionError():
            return "nested too deeply"
        case _:
            return str(error)


def _query(value: Mapping[str, Any]) -> LabelledQuery:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    name, text, video, grade = value["id"], value["query"], value.get("video"), value.get("relevance", 1)
    if not (isinstance(name, str) and name and isinstance(text, str) and text.strip()):
        raise ValueError("id and query must be text")
    if isinstance(grade, bool) or not isinstance(grade, int) or grade < 1:
        raise ValueError(f"relevance {grade!r} is no positive whole number")
    if video is not None and not (isinstance(video, str) and video):
        raise ValueError(f"video {video!r} is no name")
    label = value.get("modality")
    if label is not None and label not in set(Modality):
        raise ValueError(f"modality {label!r} is none of {', '.join(Modality)}, or null")
    return LabelledQuery(name, text, Modality(label) if label is not None else None, {video: grade} if video else {})
