"""Labelled queries: the text, the modality it aims at, and the videos that answer.

One JSON object a line, in this order of keys: ``{"id", "query", "modality", "video", "relevance"?}``. ``modality`` is
``video``, ``speech``, ``ocr``, ``metadata`` or null (a base query, which aims at none). ``video`` names the answer: a
video-id, a file name or a path. A query with several answers stands on several lines; one whose ``video`` is null has
no answer in the collection. ``relevance`` is a positive whole number, 1 where it is left out. Unknown keys are passed
over, so that tools may keep more beside them.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clamr_cli.errors import UsageError
from clamr_cli.types import Modality


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query with its answers.

    Attributes:
        id: unique in its collection.
        text: the query.
        modality: what it aims at; None for a base query.
        relevant: names of the videos that answer, with their grade (positive); empty where none does.
    """

    id: str
    text: str
    modality: Modality | None = None
    relevant: Mapping[str, int] = field(default_factory=dict)


def parse_lines(lines: Iterable[str], source: str, *, numbered: bool = False) -> list[LabelledQuery]:
    """Queries of a JSONL file, in order of their first line.

    Args:
        lines: of the file; empty ones are passed over.
        source: the file's name, for messages.
        numbered: whether a query without an id gets the number of its line.

    Raises:
        UsageError: a line is no such object, or two lines of one id disagree.
    """
    queries: dict[str, LabelledQuery] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            query = _query({"id": str(number), **value} if numbered and isinstance(value, dict) else value)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UsageError(
                f"{source}, line {number}: invalid query: {reason}",
                'a line is {"id": ..., "query": ..., "modality": ..., "video": ...}',
            ) from error
        before = queries.get(query.id)
        if before and (before.text, before.modality) != (query.text, query.modality):
            raise UsageError(f"{source}, line {number}: two different queries have the id {query.id!r}", "number them")
        relevant = {**before.relevant, **query.relevant} if before else query.relevant
        queries[query.id] = LabelledQuery(query.id, query.text, query.modality, relevant)
    return list(queries.values())


def read_lines(path: Path) -> list[LabelledQuery]:
    """Queries of a JSONL file.

    Raises:
        UsageError: it cannot be read, or see :func:`parse_lines`.
    """
    # Lines end where JSON's do: strings may hold other characters that Unicode calls ends of lines.
    return parse_lines(_read(path.name, path.read_bytes, "give a JSONL file").split("\n"), path.name)


def _read(name: str, read: Callable[[], bytes], hint: str) -> str:
    """The text of a file of queries; UsageError where it cannot be read."""
    try:
        return read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read the queries of {name}: {what}", hint) from error


def read_batch(source: str) -> list[LabelledQuery]:
    """Queries to search for: JSON lines, CSV with a header, or plain lines, of a file, or of standard input (``-``).

    JSON lines are those of this module, whose ``id`` may be missing. CSV has a column ``query`` or ``sentence``, and
    may have ``id``, ``query_id`` or ``key``. A query without an id gets the number of its line or row.

    Raises:
        UsageError: it cannot be read, or holds no queries.
    """
    name = "standard input" if source == "-" else Path(source).name
    read = sys.stdin.buffer.read if source == "-" else Path(source).expanduser().read_bytes
    text = _read(name, read, "give a text file, or - for stdin")
    lines = [line.rstrip("\r") for line in text.split("\n")]
    first = next((line for line in lines if line.strip()), "")
    header = [cell.strip().casefold() for cell in first.split(",")]
    if first.lstrip().startswith("{"):
        queries = parse_lines(lines, name, numbered=True)
    elif {"query", "sentence"} & set(header) and (len(header) > 1 or first.strip() == "query"):
        queries = _parse_csv(text, name)
    else:
        queries = [LabelledQuery(str(number), line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not queries:
        raise UsageError(f"{name} holds no queries", "write one on each line")
    return queries


def _parse_csv(text: str, source: str) -> list[LabelledQuery]:
    reader = csv.reader(io.StringIO(text), strict=True, skipinitialspace=True)
    queries: list[LabelledQuery] = []
    try:
        header = [cell.strip().casefold() for cell in next(row for row in reader if row)]
        query = next(header.index(name) for name in ("query", "sentence") if name in header)
        identity = next((header.index(name) for name in ("id", "query_id", "key") if name in header), None)
        for number, row in enumerate((row for row in reader if any(map(str.strip, row))), 1):
            if len(row) <= query or not row[query].strip():
                raise UsageError(
                    f"{source}:{reader.line_num}: a row without a query", "fill the column or remove the row"
                )
            name = "" if identity is None or len(row) <= identity else row[identity].strip()
            queries.append(LabelledQuery(name or str(number), row[query].strip()))
    except csv.Error as error:
        raise UsageError(f"{source}:{reader.line_num}: invalid CSV: {error}", "correct it") from error
    return queries


def records(query: LabelledQuery) -> list[dict[str, Any]]:
    """The lines of a query, ready for ``json.dumps``."""
    head = {"id": query.id, "query": query.text, "modality": query.modality}
    if not query.relevant:
        return [{**head, "video": None}]
    return [{**head, "video": name, "relevance": grade} for name, grade in query.relevant.items()]


def _query(value: Mapping[str, Any]) -> LabelledQuery:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    name, text, video, grade = value["id"], value["query"], value.get("video"), value.get("relevance", 1)
    if not (isinstance(name, str) and name and isinstance(text, str) and text.strip()):
        raise ValueError("id and query must be text")
    if isinstance(grade, bool) or not isinstance(grade, int) or grade < 1:
        raise ValueError(f"invalid relevance: {grade!r}, not a positive whole number")
    if video is not None and not (isinstance(video, str) and video):
        raise ValueError(f"invalid video: {video!r}")
    label = value.get("modality")
    if label is not None and label not in set(Modality):
        raise ValueError(f"invalid modality: {label!r}, not one of {', '.join(Modality)}, or null")
    return LabelledQuery(name, text, Modality(label) if label is not None else None, {video: grade} if video else {})
