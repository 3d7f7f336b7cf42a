"""Collections of queries in the layouts they are published in, as :class:`~clamr_cli.queries.LabelledQuery`.

====================  ==================================================================================================
``jsonl``             clamr's own, see :mod:`clamr_cli.queries`
``json``              a list of ``{"video", "query", "modality"}``; ``id`` may be there, ``video`` may be null
``multivent``         MultiVENT 2.0: CSV ``Query_id,query``, the modality in the id (``_base_``, ``_speech_``,
                      ``_ocr_``, ``_description_``), judgements apart; MultiVENT 2.0++: JSON
                      ``{id: {"query", "query_type"}}``, whose ids end in the video's
``msrvtt``            MSR-VTT 1k-A: CSV ``key,vid_key,video_id,sentence``
``trec``              topics, judgements apart
====================  ==================================================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.errors import UsageError
from clamr_cli.evaluate import columns, trec
from clamr_cli.queries import LabelledQuery, parse_lines
from clamr_cli.types import Modality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Reader = Callable[[str, str], list[LabelledQuery]]

_MODALITIES: Final[Mapping[str, Modality | None]] = {
    **{modality.value: modality for modality in Modality},
    "asr": Modality.SPEECH,
    "description": Modality.METADATA,
    "base": None,
    "": None,
}
"""Modalities by the names that collections have for them."""

_IN_ID: Final = re.compile(r"_(base|speech|ocr|description)_\d+$")
_PAIR_ID: Final = re.compile(r"[a-z]+_\d+_(?P<video>.+)")
"""MultiVENT 2.0++ numbers its pairs and puts the number before the video's id: ``train_000340_V_P-s8binZo``."""

_HEADERS: Final = {"multivent": ("query_id", "query"), "msrvtt": ("key", "video_id", "sentence")}
"""Columns by which a CSV file is told, and which are read; the first numbers the rows."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Queries of a file, and how many of it were left out because nobody judged them."""

    queries: list[LabelledQuery]
    unjudged: int = 0


def read(path: Path, layout: str = "auto", qrels: Path | None = None) -> Loaded:
    """The queries of a file, in order, with their answers.

    Args:
        path: the file of the queries.
        layout: a key of :data:`LAYOUTS`, or ``auto`` to tell it from the file.
        qrels: judgements, four columns (TREC) or JSON lines (``query_id``, ``doc_id``, ``relevance``). They take the
            place of answers that the queries name themselves.

    Raises:
        UsageError: a file cannot be read, is not of that layout, or holds no query.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}", f"use auto, {', '.join(LAYOUTS)}")
    text = trec.read_text(path)
    if not text.strip():
        raise UsageError(f"{path.name} holds no query", "give a file with queries")
    found = LAYOUTS[_told(text, path) if layout == "auto" else layout](text, path.name)
    if not found:
        raise UsageError(f"{path.name} holds no query", "give a file with queries")
    return Loaded(found) if qrels is None else _judged(found, read_qrels(qrels), qrels.name)


def of_qrels(path: Path) -> Loaded:
    """Queries without a text, of judgements alone: enough to score runs.

    Raises:
        UsageError: the file cannot be read or holds no judgement.
    """
    return Loaded([LabelledQuery(name, "", modality_of_id(name), grades) for name, grades in read_qrels(path).items()])


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Positive grades of documents by query.

    Raises:
        UsageError: the file cannot be read or holds no judgement.
    """
    lines = list(trec.numbered(path))
    if not lines:
        raise UsageError(f"{path.name} holds no judgement", "a line is: query 0 document grade")
    if lines[0][1].lstrip().startswith("{"):
        return _json_qrels(lines, path.name)
    return trec.parse_qrels(lines, path.name)


def modality_of_id(query_id: str) -> Modality | None:
    """What a query of MultiVENT 2.0 aims at; None for a base query and for ids of other collections."""
    found = _IN_ID.search(query_id)
    return _MODALITIES[found[1]] if found else None


def _told(text: str, path: Path) -> str:
    """The layout that a text has."""
    start = text.lstrip()
    header = start.split("\n", 1)[0]
    if start.startswith("["):
        return "json"
    if start.startswith("{"):
        return "multivent" if _is_one_value(text) else "jsonl"
    found = columns.names(header)
    for layout, needed in _HEADERS.items():
        if found.issuperset(needed):
            return layout
    if start.lower().startswith("<top") or "\t" in header.strip():
        return "trec"
    raise UsageError(f"cannot tell what layout {path.name} has", f"say it with --format: {', '.join(LAYOUTS)}")


def _is_one_value(text: str) -> bool:
    """Whether a text that begins with an object is one of objects, not one object of a line."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())


def _json_lines(text: str, source: str) -> list[LabelledQuery]:
    return parse_lines(text.split("\n"), source)


def _json_list(text: str, source: str) -> list[LabelledQuery]:
    values = _loaded(text, source)
    if not isinstance(values, list):
        raise UsageError(f"{source} is no list", 'write [{"video": ..., "query": ..., "modality": ...}, ...]')
    found: dict[tuple[str, Modality | None, str], LabelledQuery] = {}
    for number, value in enumerate(values, 1):
        query = _item(value, f"{source}, item {number}", str(number))
        # Without ids, the same words asked for two videos are one query with two answers.
        key = (query.text, query.modality, query.id if _has_id(value) else "")
        known = found.setdefault(key, query)
        found[key] = replace(known, relevant={**known.relevant, **query.relevant})
    if len({query.id for query in found.values()}) != len(found):
        raise UsageError(f"{source}: two different queries have one id", "number them")
    return list(found.values())


def _item(value: Any, place: str, number: str) -> LabelledQuery:  # noqa: ANN401 -- from JSON
    if not isinstance(value, dict):
        raise UsageError(f"{place}: no object", 'write {"video": ..., "query": ..., "modality": ...}')
    video, grade = value.get("video"), value.get("relevance", 1)
    if video is not None and not (isinstance(video, str) and video):
        raise UsageError(f"{place}: video {video!r} is no name", "write a file's name, a video-id, or null for none")
    if isinstance(grade, bool) or not isinstance(grade, int) or grade < 1:
        raise UsageError(f"{place}: relevance {grade!r} is no positive whole number", "leave it out for 1")
    name = value["id"] if _has_id(value) else number
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise UsageError(f"{place}: id {name!r} is no name", "write a text or a number, or leave it out")
    label = _modality(value.get("modality"), place)
    return _query(str(name), value.get("query"), label, {video: grade} if video else {}, place)


def _has_id(value: Mapping[str, object]) -> bool:
    return value.get("id") is not None


def _multivent(text: str, source: str) -> list[LabelledQuery]:
    if text.lstrip().startswith("{"):
        return _multivent_plus(text, source)
    rows = columns.rows(text, source, _HEADERS["multivent"])
    return [_query(row[0], row[1], modality_of_id(row[0]), {}, f"{source}, query {row[0]!r}") for row in rows]


def _multivent_plus(text: str, source: str) -> list[LabelledQuery]:
    values = _loaded(text, source)
    found = []
    for name, value in values.items():
        place, match = f"{source}, {name!r}", _PAIR_ID.fullmatch(name)
        if match is None or not isinstance(value, dict):
            raise UsageError(f"{place}: no pair", 'write {"train_000001_VIDEO": {"query": ..., "query_type": ...}}')
        label = _modality(value.get("query_type"), place)
        found.append(_query(name, value.get("query"), label, {match["video"]: 1}, place))
    return found


def _msrvtt(text: str, source: str) -> list[LabelledQuery]:
    rows = columns.rows(text, source, _HEADERS["msrvtt"])
    return [_query(key, sentence, None, {video: 1}, f"{source}, {key!r}") for key, video, sentence in rows]


def _topics(text: str, source: str) -> list[LabelledQuery]:
    topics = trec.parse_topics(text, source)
    return [_query(name, query, modality_of_id(name), {}, source) for name, query in topics.items()]


LAYOUTS: Final[Mapping[str, Reader]] = {
    "jsonl": _json_lines,
    "json": _json_list,
    "multivent": _multivent,
    "msrvtt": _msrvtt,
    "trec": _topics,
}


def _query(
    name: str, text: object, modality: Modality | None, relevant: Mapping[str, int], place: str
) -> LabelledQuery:
    if not (isinstance(text, str) and text.strip() and name.strip()):
        raise UsageError(f"{place}: no text to ask for", "every query needs an id and a text")
    return LabelledQuery(name, text.strip(), modality, relevant)


def _modality(label: object, place: str) -> Modality | None:
    name = "" if label is None else label
    if isinstance(name, str) and (known := name.strip().lower()) in _MODALITIES:
        return _MODALITIES[known]
    raise UsageError(f"{place}: there is no modality {name!r}", f"use {', '.join(filter(None, _MODALITIES))}")


def _loaded(text: str, source: str) -> Any:  # noqa: ANN401 -- from JSON
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except RecursionError as error:
        raise UsageError(f"{source} is nested too deeply", "give another file") from error
    except ValueError as error:
        raise UsageError(f"{source} is no JSON: {error}", "give another --format") from error


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys all differ: of two the parser would keep the last and say nothing."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in an object")
    return made


def _json_qrels(lines: Sequence[tuple[int, str]], source: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for number, line in lines:
        try:
            value = json.loads(line)
            query, document, grade = value["query_id"], value["doc_id"], value.get("relevance", 1)
            if not (isinstance(query, str) and isinstance(document, str) and document and type(grade) is int):
                raise TypeError("query_id and doc_id are text, relevance is a whole number")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{source}, line {number}: no judgement: {error}", 'write {"query_id", "doc_id", "relevance"}'
            ) from error
        grades = found.setdefault(query, {})
        if grade > 0:
            grades[document] = grade
    return found


def _judged(queries: Sequence[LabelledQuery], qrels: Mapping[str, Mapping[str, int]], source: str) -> Loaded:
    """Queries with the answers of judgements. Nobody knows whether one that was not judged has an answer."""
    judged = [replace(query, relevant=qrels[query.id]) for query in queries if query.id in qrels]
    if not judged:
        raise UsageError(f"{source} judges none of the queries", "give the judgements that belong to them")
    return Loaded(judged, len(queries) - len(judged))
