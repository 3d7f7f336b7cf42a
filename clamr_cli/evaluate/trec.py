"""TREC runs, judgements and topics: six and four columns between blanks, as trec_eval reads them.

Ids with blanks cannot stand in such files; :func:`safe` writes them percent-encoded.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import numpy as np

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

DEPTH: Final = 1000
"""Documents of a query in a run at most, as TREC has it; measures look no deeper either."""

_BLANK_OR_ODD: Final = re.compile(r"[\s%\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_TOPIC: Final = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_FIELD: Final = r"<{}>(?:\s*(?:Number|Topic):)?\s*([^<]+)"


def safe(name: str) -> str:
    """An id that is one column: blanks, invisible characters and bytes that are no UTF-8 are percent-encoded.

    >>> safe("my trip.mp4")
    'my%20trip.mp4'
    """
    return _BLANK_OR_ODD.sub(lambda found: quote(_bytes(found[0]), safe=""), name)


def plain(name: str) -> str:
    """The id that :func:`safe` wrote.

    >>> plain("my%20trip.mp4")
    'my trip.mp4'
    """
    return unquote(name, errors="surrogateescape")


def _bytes(character: str) -> bytes:
    """UTF-8, or the byte that a surrogate escape stands for."""
    escaped = "\udc80" <= character <= "\udcff"
    return os.fsencode(character) if escaped else character.encode("utf-8", "surrogatepass")


def run_lines(ranking: Mapping[str, Sequence[tuple[str, float]]], tag: str) -> Iterator[str]:
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
            yield f"{safe(query)} Q0 {safe(document)} {rank} {above:.9g} {safe(tag)}\n"


def qrel_lines(qrels: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The lines of judgements: query, 0, document, grade."""
    for query, grades in qrels.items():
        yield from (f"{safe(query)} 0 {safe(document)} {grade}\n" for document, grade in grades.items())


def read_run(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Documents with scores by query, best first; equal scores in the order of the file.

    Raises:
        UsageError: the file cannot be read, holds no run, or a document twice for one query.
    """
    found: dict[str, dict[str, float]] = {}
    for number, line in numbered(path):
        fields = line.split()
        score = _number(fields[4]) if len(fields) == 6 else math.nan
        if math.isnan(score):
            raise UsageError(
                f"{path.name}, line {number}: no line of a run", "a line is: query Q0 document rank score name"
            )
        documents = found.setdefault(fields[0], {})
        if fields[2] in documents:
            raise UsageError(f"{path.name}, line {number}: {fields[2]} stands twice for {fields[0]}", "keep one")
        documents[fields[2]] = score
    if not found:
        raise UsageError(f"{path.name} holds no run", "a line is: query Q0 document rank score name")
    return {query: sorted(documents.items(), key=lambda item: -item[1])[:DEPTH] for query, documents in found.items()}


def parse_qrels(lines: Iterable[tuple[int, str]], source: str) -> dict[str, dict[str, int]]:
    """Grades of documents by query; a query whose documents were all judged irrelevant has none.

    Raises:
        UsageError: a line is no judgement.
    """
    found: dict[str, dict[str, int]] = {}
    for number, line in lines:
        fields = line.split()
        if len(fields) != 4 or not re.fullmatch(r"[+-]?\d{1,9}", fields[3]):
            raise UsageError(f"{source}, line {number}: no judgement", "a line is: query 0 document grade")
        grades = found.setdefault(fields[0], {})
        if int(fields[3]) > 0:
            grades[fields[2]] = int(fields[3])
    return found


def parse_topics(text: str, source: str) -> dict[str, str]:
    """Texts of queries by id, of lines ``id<tab>text`` or of ``<top>`` elements with ``<num>`` and ``<title>``.

    Raises:
        UsageError: there are none of either kind, or an id stands twice.
    """
    pairs = list(_elements(text, source)) if _TOPIC.search(text) else list(_lines(text, source))
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UsageError(f"{source}: two queries have one id", "number them")
    return found


def _elements(text: str, source: str) -> Iterator[tuple[str, str]]:
    for number, topic in enumerate(_TOPIC.findall(text), 1):
        name, title = (re.search(_FIELD.format(field), topic, re.IGNORECASE) for field in ("num", "title"))
        if name is None or title is None or not title[1].strip():
            raise UsageError(f"{source}, topic {number}: no <num> or no <title>", "each topic needs both")
        yield name[1].strip(), " ".join(title[1].split())


def _lines(text: str, source: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, _, query = line.partition("\t")
        if not (name.strip() and query.strip()):
            raise UsageError(f"{source}, line {number}: no query", "a line is an id, a tab and the text")
        yield name.strip(), query.strip()


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file that are not empty, with their numbers.

    Raises:
        UsageError: it cannot be read.
    """
    return ((number, line) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip())


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        UsageError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", "name a file that is there") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"cannot read {path}: it is no UTF-8 text", "save it as UTF-8") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
