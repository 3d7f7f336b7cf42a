"""Queries with answers, judgements and runs as files, and the videos that the names in them mean.

Queries are read in the formats that collections are published in, as :class:`~clamr_cli.queries.LabelledQuery`:

====================  ==================================================================================================
``jsonl``             clamr's own, see :mod:`clamr_cli.queries`
``json``              a list of ``{"video", "query", "modality"}``; ``id`` may be there, ``video`` may be null
``multivent``         MultiVENT 2.0: CSV ``Query_id,query``, the modality in the id (``_base_``, ``_speech_``,
                      ``_ocr_``, ``_description_``), judgements in a file of their own; MultiVENT 2.0++: JSON
                      ``{id: {"query", "query_type"}}``, whose ids end in the video's
``msrvtt``            MSR-VTT 1k-A: CSV ``key,vid_key,video_id,sentence``
``trec``              topics, judgements in a file of their own
====================  ==================================================================================================

Runs and judgements are TREC files: six and four columns between blanks. Ids with blanks cannot stand in such files;
:func:`escape` writes them percent-encoded.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from types import ModuleType
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, unquote

import msgspec
import numpy as np

from clamr_cli.errors import MissingExtra, UsageError
from clamr_cli.queries import LabelledQuery, parse_lines
from clamr_cli.types import FileRecord, Modality

T = TypeVar("T")
ScoredDocuments: TypeAlias = Mapping[str, Sequence[tuple[str, float]]]
"""Documents with scores by query, best first."""

DEPTH: Final = 1000
"""Most documents of a query in a run, as TREC has it; measures look no deeper either."""

_MODALITIES: Final[Mapping[str, Modality | None]] = {
    **{modality.value: modality for modality in Modality},
    "asr": Modality.SPEECH,
    "description": Modality.METADATA,
    "base": None,
    "": None,
}
"""Modalities by the names that collections have for them."""

_MODALITY_IN_ID: Final = re.compile(r"_(base|speech|ocr|description)_\d+$")
_PAIR_ID: Final = re.compile(r"[a-z]+_\d+_(?P<video>.+)")
"""MultiVENT 2.0++ numbers its pairs and puts the number before the video's id: ``train_000340_V_P-s8binZo``."""

_CSV_COLUMNS: Final = {"multivent": ("query_id", "query"), "msrvtt": ("key", "video_id", "sentence")}
"""The columns that identify a CSV file and are read from it; the first of them is unique."""

_TOPIC: Final = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_TOPIC_FIELD: Final = r"<{}>(?:\s*(?:Number|Topic):)?\s*([^<]+)"

_RUN_LINE: Final = "a line is: query Q0 document rank score name"
_QREL_LINE: Final = 'a line is: query 0 document grade, or {"query_id": ..., "doc_id": ..., "relevance": ...}'

_BRACKETED_ID: Final = re.compile(r"\[([^\[\]]+)\]$")
"""The id that download tools put at the end of a stem: ``Title [PPQVve-Jeb4].mp4``."""

_UNSAFE: Final = re.compile(r"[\s%\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

_Name = Annotated[str, msgspec.Meta(min_length=1)]


class _JsonQuery(msgspec.Struct):
    query: str
    video: _Name | None = None
    modality: str | None = None
    id: str | int | None = None
    relevance: Annotated[int, msgspec.Meta(ge=1)] = 1


class _JsonPair(msgspec.Struct):
    query: str
    query_type: str | None = None


class _JsonJudgement(msgspec.Struct):
    query_id: str
    doc_id: _Name
    relevance: int = 1


def read_queries(path: Path, format_name: str = "auto") -> list[LabelledQuery]:
    """Read the queries of a file, in order, with the answers that they name themselves.

    Args:
        path: the file of the queries.
        format_name: a key of :data:`FORMATS`, or ``auto`` to detect it.

    Raises:
        UsageError: the file cannot be read, is not of that format, or has no query.
    """
    text = read_text(path)
    queries: list[LabelledQuery] = []
    if text.strip():
        queries.extend(FORMATS[_detect(text, path) if format_name == "auto" else format_name](text, path.name))
    if not queries:
        raise UsageError(f"no queries in {path.name}", "give a file with queries")
    ids = Counter(query.id for query in queries)
    if len(ids) != len(queries):
        raise UsageError(f"{path.name}: two queries have the id {ids.most_common(1)[0][0]!r}", "number them")
    return queries


def judged_queries(queries: Sequence[LabelledQuery], qrels: Path) -> list[LabelledQuery]:
    """The queries that a file of judgements judges, with the answers that it gives them.

    The file has four columns (TREC), or JSON lines (``query_id``, ``doc_id``, ``relevance``).

    Raises:
        UsageError: the file cannot be read, or judges none of them.
    """
    grades = read_qrels(qrels)
    judged = [replace(query, relevant=grades[query.id]) for query in queries if query.id in grades]
    if not judged:
        raise UsageError(f"{qrels.name} judges none of the queries", "give the judgements that belong to them")
    return judged


def queries_of_qrels(path: Path) -> list[LabelledQuery]:
    """Queries without a text, from judgements alone: enough to score runs.

    Raises:
        UsageError: the file cannot be read or has no judgement.
    """
    return [LabelledQuery(name, "", _modality_of_id(name), grade) for name, grade in read_qrels(path).items()]


def read_text(path: Path) -> str:
    """Read a UTF-8 file; ``-`` is stdin.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name a file that exists") from error
    except ValueError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text", "save it as UTF-8") from error


def require_ir_measures() -> ModuleType:
    """The library ir-measures.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise MissingExtra("the evaluation", "eval") from error
    return ir_measures


# --- formats of queries -----------------------------------------------------------------------------------------------


def _detect(text: str, path: Path) -> str:
    start = text.lstrip()
    header = start.split("\n", 1)[0]
    if start.startswith("["):
        return "json"
    if start.startswith("{"):
        # MultiVENT 2.0++ is one object of objects; a line of JSON lines is an object of plain values.
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return "jsonl"
        return "multivent" if all(isinstance(pair, dict) for pair in value.values()) else "jsonl"
    columns = {name.strip(' "\r').lower() for name in header.split(",")}
    for name, required in _CSV_COLUMNS.items():
        if columns.issuperset(required):
            return name
    if start.lower().startswith("<top") or "\t" in header.strip():
        return "trec"
    raise UsageError(f"cannot detect the format of {path.name}", f"give it with --format: {', '.join(FORMATS)}")


def _json(text: str, source: str) -> Iterable[LabelledQuery]:
    hint = 'write [{"video": ..., "query": ..., "modality": ...}, ...]'
    values = _load_json(text, source)
    if not isinstance(values, list):
        raise UsageError(f"invalid queries in {source}: not a list", hint)
    queries: dict[tuple[str, Modality | None, str], LabelledQuery] = {}
    for number, value in enumerate(values, 1):
        place = f"{source}, item {number}"
        item = _convert(value, _JsonQuery, f"{place}: invalid query", hint)
        name = str(number) if item.id is None else str(item.id)
        query = _query(name, item.query, _modality(item.modality, place), item.video, place, item.relevance)
        # Without ids, the same words asked for two videos are one query with two answers.
        key = (query.text, query.modality, "" if item.id is None else query.id)
        previous = queries.setdefault(key, query)
        queries[key] = replace(previous, relevant={**previous.relevant, **query.relevant})
    return queries.values()


def _multivent(text: str, source: str) -> Iterator[LabelledQuery]:
    if not text.lstrip().startswith("{"):
        for name, query in _csv_rows(text, source, _CSV_COLUMNS["multivent"]):
            yield _query(name, query, _modality_of_id(name), None, f"{source}, query {name!r}")
        return
    hint = 'write {"train_000001_VIDEO": {"query": ..., "query_type": ...}}'
    for name, value in _load_json(text, source).items():
        place, match = f"{source}, {name!r}", _PAIR_ID.fullmatch(name)
        if match is None:
            raise UsageError(f"{place}: invalid id of a pair", hint)
        pair = _convert(value, _JsonPair, f"{place}: invalid pair", hint)
        yield _query(name, pair.query, _modality(pair.query_type, place), match["video"], place)


def _msrvtt(text: str, source: str) -> Iterator[LabelledQuery]:
    for key, video, sentence in _csv_rows(text, source, _CSV_COLUMNS["msrvtt"]):
        yield _query(key, sentence, None, video, f"{source}, {key!r}")


def _topics(text: str, source: str) -> Iterator[LabelledQuery]:
    """Lines ``id<tab>text``, or ``<top>`` elements with ``<num>`` and ``<title>``."""
    topics: list[tuple[str, str, str]] = []
    for number, topic in enumerate(_TOPIC.findall(text), 1):
        matches = [re.search(_TOPIC_FIELD.format(field), topic, re.IGNORECASE) for field in ("num", "title")]
        query_id, query = (match[1] if match else "" for match in matches)
        topics.append((f"{source}, topic {number}", query_id, query))
    if not topics:
        for number, line in _numbered_lines(text):
            query_id, _, query = line.partition("\t")
            topics.append((f"{source}:{number}", query_id, query))
    for place, query_id, query in topics:
        yield _query(query_id.strip(), " ".join(query.split()), _modality_of_id(query_id.strip()), None, place)


FORMATS: Final[Mapping[str, Callable[[str, str], Iterable[LabelledQuery]]]] = {
    "jsonl": lambda text, source: parse_lines(text.split("\n"), source),
    "json": _json,
    "multivent": _multivent,
    "msrvtt": _msrvtt,
    "trec": _topics,
}


def _query(
    name: str, text: str, modality: Modality | None, video: str | None, place: str, grade: int = 1
) -> LabelledQuery:
    if not (text.strip() and name.strip()):
        raise UsageError(f"{place}: invalid query: empty id or text", "every query needs an id and a text")
    return LabelledQuery(name, text.strip(), modality, {video: grade} if video else {})


def _modality(label: str | None, place: str) -> Modality | None:
    name = (label or "").strip().lower()
    if name not in _MODALITIES:
        raise UsageError(f"{place}: invalid modality {label!r}", f"use {', '.join(filter(None, _MODALITIES))}")
    return _MODALITIES[name]


def _modality_of_id(query_id: str) -> Modality | None:
    """The modality that a query of MultiVENT 2.0 aims at; None for a base query and for ids of other collections."""
    match = _MODALITY_IN_ID.search(query_id)
    return _MODALITIES[match[1]] if match else None


def _csv_rows(text: str, source: str, columns: Sequence[str]) -> Iterator[list[str]]:
    """Values of some columns of a CSV file; the header's names count in any case, and other columns are ignored."""
    hint = f"each row has its own {', '.join(columns)}; a text with commas is quoted"
    reader = csv.DictReader(io.StringIO(text), strict=True, skipinitialspace=True)
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        if missing := [column for column in columns if column not in reader.fieldnames]:
            raise UsageError(f"{source}: missing column {', '.join(missing)}", "give another --format")
        for row in reader:
            # DictReader keeps surplus fields under None: most often from a text with a comma that was not quoted.
            values = [(row[column] or "").strip() for column in columns]
            if None in row or not all(values):
                problem = "more fields than the header" if None in row else "empty field"
                raise UsageError(f"{source}:{reader.line_num}: invalid row: {problem}", hint)
            yield values
    except csv.Error as error:
        raise UsageError(f"{source}:{reader.line_num}: invalid CSV: {error}", "give another --format") from error


def _load_json(text: str, source: str) -> Any:  # noqa: ANN401 -- from JSON
    def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):  # the parser would keep the last of two and say nothing
            keys = [key for key, _ in pairs]
            raise ValueError(f"two keys {next(key for key in keys if keys.count(key) > 1)!r} in one object")
        return value

    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"invalid JSON in {source}: {error}", "give another --format") from error


def _convert(value: object, kind: type[T], what: str, hint: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{what}: {error}", hint) from error


# --- judgements and runs ----------------------------------------------------------------------------------------------


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Positive grades of documents by query; a query whose documents were all judged irrelevant has none.

    Raises:
        UsageError: the file cannot be read or has no judgement.
        MissingExtra: ir-measures is not installed.
    """
    text = read_text(path)

    def json_lines(stream: io.StringIO) -> Iterator[_JsonJudgement]:
        return (msgspec.json.decode(line, type=_JsonJudgement) for line in stream if line.strip())

    reader = json_lines if text.lstrip().startswith("{") else require_ir_measures().read_trec_qrels
    grades: dict[str, dict[str, int]] = {}
    for number, judgement in _read_lines(text, path.name, reader, "judgement", _QREL_LINE):
        if abs(judgement.relevance) >= 10**9:  # the C library of the measures takes no more
            raise UsageError(f"{path.name}:{number}: invalid judgement: grade too large", _QREL_LINE)
        positive = grades.setdefault(judgement.query_id, {})
        if judgement.relevance > 0:
            positive[judgement.doc_id] = judgement.relevance
    if not grades:
        raise UsageError(f"no judgements in {path.name}", _QREL_LINE)
    return grades


def read_run(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Documents with scores by query, best first; equal scores in the order of the file.

    Raises:
        UsageError: the file cannot be read, is not a run, or has a document twice for one query.
        MissingExtra: ir-measures is not installed.
    """
    scores: dict[str, dict[str, float]] = {}
    reader = require_ir_measures().read_trec_run
    for number, line in _read_lines(read_text(path), path.name, reader, "run line", _RUN_LINE):
        documents = scores.setdefault(line.query_id, {})
        if math.isnan(line.score) or line.doc_id in documents:
            problem = "the score is not a number" if math.isnan(line.score) else f"document {line.doc_id} again"
            raise UsageError(f"{path.name}:{number}: invalid run line: {problem}", _RUN_LINE)
        documents[line.doc_id] = line.score
    if not scores:
        raise UsageError(f"no lines of a run in {path.name}", _RUN_LINE)
    return {query: sorted(documents.items(), key=lambda item: -item[1])[:DEPTH] for query, documents in scores.items()}


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _read_lines(
    text: str, source: str, reader: Callable[[io.StringIO], Iterator[Any]], kind: str, hint: str
) -> Iterator[tuple[int, Any]]:
    """The records that a reader gives for the lines of a file, with their line numbers."""
    records = iter(reader(io.StringIO(text)))
    for number, _ in _numbered_lines(text):
        try:
            yield number, next(records)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{source}:{number}: invalid {kind}: {error}", hint) from error


def run_lines(ranking: ScoredDocuments, tag: str) -> Iterator[str]:
    """The lines of a run: query, Q0, document, rank from 1, score, name of the run.

    Args:
        ranking: documents with scores by query, best first.
        tag: name of the run.

    Scores of ties are made to fall by the smallest step of a 32-bit float, since readers order by score alone.
    """
    for query, documents in ranking.items():
        above = np.float32(np.inf)
        for rank, (document, score) in enumerate(documents[:DEPTH], 1):
            above = min(np.float32(score), np.nextafter(above, np.float32(-np.inf)))
            yield f"{escape(query)} Q0 {escape(document)} {rank} {above:.9g} {escape(tag)}\n"


def qrel_lines(qrels: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The lines of judgements: query, 0, document, grade."""
    for query, grades in qrels.items():
        yield from (f"{escape(query)} 0 {escape(document)} {grade}\n" for document, grade in grades.items())


# --- names of videos --------------------------------------------------------------------------------------------------


def resolve(names: Iterable[str], files: Sequence[FileRecord]) -> tuple[dict[str, str], list[str]]:
    """Find the videos that names mean.

    A name is tried as a video-id, then as the end of a path (whole parts), then as one without its suffix, then as the
    id in brackets at the end of a stem. If several videos fit at one of these steps, the name means none. Names that
    are left are tried once more in a normal form: without ``./``, and with letters and their accents as one.

    Returns:
        The video-id by name, for the names that mean one video, and those that mean none, or several.
    """
    unique = list(dict.fromkeys(names))
    videos: dict[str, str] = {}
    # Systems differ in whether they take letters with accents apart.
    for form in (str, lambda name: unicodedata.normalize("NFC", PurePath(name).as_posix())):
        if not (left := [name for name in unique if name not in videos]):
            break
        by_id, by_path, by_stem, by_bracket = (defaultdict[str, set[str]](set) for _ in range(4))
        for file in files:
            by_id[file.video_id].add(file.video_id)
            path = PurePath(form(file.path))
            for end in _ends(path):
                by_path[end].add(file.video_id)
            for end in _ends(path.with_suffix("")):
                by_stem[end].add(file.video_id)
            if bracketed := _BRACKETED_ID.search(path.stem):
                by_bracket[bracketed[1]].add(file.video_id)
        for name in left:
            steps = (by_id, by_path, by_stem, by_bracket)
            matches = next((matches for step in steps if (matches := step.get(form(name)))), set())
            if len(matches) == 1:
                videos[name] = next(iter(matches))
    return videos, [name for name in unique if name not in videos]


def _ends(path: PurePath) -> Iterator[str]:
    """``c``, ``b/c``, ``a/b/c`` and, of an absolute path, itself."""
    parts = path.parts
    yield from ("/".join(parts[start:]) for start in range(1 if path.root else 0, len(parts)))
    yield path.as_posix()


def renamed(
    queries: Sequence[LabelledQuery], documents: Mapping[str, str], *, judged_only: bool
) -> list[LabelledQuery]:
    """Queries with one name for each video that answers, also if the collection has several for it.

    Args:
        queries: as they were read.
        documents: the name to use, by each name of a video of the index.
        judged_only: leave out answers that the index does not hold, and queries of which no answer is left; without
            it they stay, and nothing can find them.
    """
    result = []
    for query in queries:
        relevant: dict[str, int] = {}
        for name, grade in query.relevant.items():
            if name in documents or not judged_only:
                document = documents.get(name, name)
                relevant[document] = max(grade, relevant.get(document, 0))
        if relevant or not query.relevant:
            result.append(replace(query, relevant=relevant))
    return result


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few of some names, with commas."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def escape(name: str) -> str:
    """An id as one column: blanks, invisible characters and bytes that are not UTF-8 are percent-encoded.

    >>> escape("my trip.mp4")
    'my%20trip.mp4'
    """

    def encoded(match: re.Match[str]) -> str:
        character = match[0]
        # A surrogate escape stands for one byte of a file name.
        is_byte = "\udc80" <= character <= "\udcff"
        return quote(os.fsencode(character) if is_byte else character.encode("utf-8", "surrogatepass"), safe="")

    return _UNSAFE.sub(encoded, name)


def unescape(name: str) -> str:
    """The id that :func:`escape` was given."""
    return unquote(name, errors="surrogateescape")
