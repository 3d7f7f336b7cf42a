"""Why a moment answers a query: for each word of the query the frame, line or word it was matched by. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.search import scoring as maxsim
from clamr_cli.timeline import format_time
from clamr_cli.types import (
    MODALITY_IDS,
    MODALITY_OF_ID,
    TEXT_MODALITIES,
    Evidence,
    Modality,
    Segment,
    Span,
    WordEvidence,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.types import MomentRecord, Scoring, TokenVectors

_CHUNK: Final = re.compile(r"\S+")

# Chinese, Japanese, Thai, Lao, Khmer and Burmese put no spaces between words: there a token is the smallest word known.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True)
class QueryWord:
    """A word of a query and the query vectors that stand for it."""

    text: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A query and a moment side by side. Make one with :func:`match`.

    Attributes:
        words: of the query.
        moment: the moment's texts and times.
        document: its vectors, n of them.
        values: [q, n] cosines.
        weights: [maxsim.SLOTS] factors by modality id, 0 for what may not answer.
        alignment: the winning vectors.
    """

    words: tuple[QueryWord, ...]
    moment: MomentRecord
    document: TokenVectors
    values: maxsim.Float32
    weights: maxsim.Float32
    alignment: maxsim.Alignment


def match(
    query: str, tokens: TokenVectors, moment: MomentRecord, document: TokenVectors, weights: maxsim.Float32
) -> Match:
    """Align the tokens of a query with the vectors of a moment."""
    values = maxsim.similarities(tokens.vectors, document.vectors)
    alignment = maxsim.align(values, document.modality_ids, weights)
    return Match(tuple(query_words(query, tokens)), moment, document, values, weights, alignment)


def query_words(query: str, tokens: TokenVectors) -> list[QueryWord]:
    """The words of a query with their vectors, in order.

    Word pieces and repeated vectors of a word are put together. Vectors that stand for no part of the query (offsets
    (0, 0)) make one last entry whose text is the whole query.
    """
    chunks = [chunk.span() for chunk in _CHUNK.finditer(query)]
    rows_of: dict[tuple[int, int], list[int]] = {}
    whole: list[int] = []
    for row, (start, end) in enumerate(tokens.offsets.tolist()):
        # Byte-level tokenizers count the space before a word as part of it.
        first = start + len(query[start:end]) - len(query[start:end].lstrip())
        chunk = next(((a, b) for a, b in chunks if a <= first < min(b, end)), None)
        if chunk is None:
            whole.append(row)
            continue
        if _UNSPACED.search(query[slice(*chunk)]):
            chunk = (first, min(end, chunk[1]))
        rows_of.setdefault(chunk, []).append(row)
    found = [_query_word(query, chunk, rows, tokens) for chunk, rows in sorted(rows_of.items())]
    return [*found, QueryWord(query.strip(), tuple(whole))] if whole else found


def _query_word(query: str, chunk: tuple[int, int], rows: Sequence[int], tokens: TokenVectors) -> QueryWord:
    """A word without the punctuation around it, whose vectors match any punctuation and say nothing of the word."""
    telling = [row for row in rows if any(char.isalnum() for char in query[slice(*tokens.offsets[row].tolist())])]
    text = query[slice(*chunk)]
    if not telling:
        return QueryWord(text, tuple(rows))
    inner = [number for number, char in enumerate(text) if char.isalnum()]
    return QueryWord(text[inner[0] : inner[-1] + 1], tuple(telling))


def word_evidence(found: Match) -> tuple[WordEvidence, ...]:
    """For each query word the evidence that won, and the best of each modality that may answer."""
    return tuple(
        WordEvidence(
            word.text,
            _best(found, word, found.alignment.best),
            {
                modality: evidence
                for modality, columns in found.alignment.by_modality.items()
                if (evidence := _best(found, word, columns)) is not None
            },
        )
        for word in found.words
    )


def evidence(found: Match) -> tuple[Evidence, ...]:
    """For each query word the evidence that won, in the order of the query."""
    winners = (_best(found, word, found.alignment.best) for word in found.words)
    return tuple(winner for winner in winners if winner is not None)


def _best(found: Match, word: QueryWord, columns: NDArray[np.int64]) -> Evidence | None:
    """Of a word's vectors the one that is matched best, by ``columns`` [q]; None where nothing may answer."""
    rows = np.array([row for row in word.rows if columns[row] >= 0], np.int64)
    if not rows.size:
        return None
    chosen = columns[rows]
    weighted = found.values[rows, chosen] * found.weights[found.document.modality_ids[chosen]]
    place = int(weighted.argmax())
    column = int(chosen[place])
    modality = MODALITY_OF_ID.get(int(found.document.modality_ids[column]))
    text, context = _words_at(found, modality, column)
    span = _span_at(found, column) if modality is not None else found.moment.span
    return Evidence(word.text, modality, span, text, float(found.values[rows[place], column]), context)


def _span_at(found: Match, column: int) -> Span:
    start, end = found.document.spans[column].tolist()
    return Span(start, max(start, end))


def segments_of(moment: MomentRecord, modality: Modality) -> tuple[Segment, ...]:
    """The text segments of a moment; empty for modalities that have no text."""
    if modality is Modality.SPEECH:
        return moment.speech
    if modality is Modality.OCR:
        return moment.ocr
    return moment.metadata if modality is Modality.METADATA else ()


def _words_at(found: Match, modality: Modality | None, column: int) -> tuple[str, str]:
    """What a vector stands for, in words, and the line it is from."""
    if modality is None:
        return "", ""
    number = int(found.document.segments[column])
    if modality not in TEXT_MODALITIES:
        times = found.moment.frame_times
        known = modality is Modality.VIDEO and 0 <= number < len(times)
        time = times[number] if known else float(found.document.spans[column, 0])
        return f"{'frame' if modality is Modality.VIDEO else 'sound'} at {format_time(time)}", ""
    segments = segments_of(found.moment, modality)
    if not 0 <= number < len(segments):
        return "", ""
    start, end = found.document.offsets[column].tolist()
    return cut_around(segments[number].text, start, end)


def cut_around(text: str, start: int, end: int) -> tuple[str, str]:
    """The words that ``text[start:end]`` touches, and the whole line they stand in.

    An empty stretch gives the first line for both.
    """
    start, end = max(0, min(start, len(text))), max(0, min(end, len(text)))
    while start < end and text[start].isspace():
        start += 1
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    line = text[line_start:line_end].strip()
    if start >= end:
        return line, line
    end = min(end, line_end)
    if not _UNSPACED.search(text[start:end]):
        while start > line_start and text[start].isalnum() and text[start - 1].isalnum():
            start -= 1
        while end < line_end and text[end - 1].isalnum() and text[end].isalnum():
            end += 1
    return text[start:end].strip(), line


def strongest_time(
    found: Match, winner: Modality | None, floors: Mapping[Modality, float] = MappingProxyType({})
) -> float:
    """The second of the moment where the evidence is strongest: the start of the best segment or frame.

    Most metadata holds for the whole video. Where it wins, the best evidence that has a time counts instead: a chapter,
    or what is seen, said or written, if that is the best answer to a word of the query or good enough by itself. Else
    it is the start of the moment.

    Args:
        found: the query and the moment.
        winner: the modality with the highest score.
        floors: of the encoder, see :class:`clamr_cli.types.EncoderInfo`.
    """
    inside = found.moment.span
    start = None if winner is None else _best_start(found, winner)
    if start is None:
        timed = _best_timed(found, floors)
        start = None if timed is None else _best_start(found, timed)
    return inside.start if start is None else min(max(start, inside.start), inside.end)


def _best_timed(found: Match, floors: Mapping[Modality, float]) -> Modality | None:
    """The best modality beside metadata, if it answers a word of the query better than metadata does, or well."""
    alone = {name: value for name, value in modality_scores(found).items() if name is not Modality.METADATA}
    best = max(alone, key=lambda name: alone[name], default=None)
    if best is None or alone[best] <= 0:
        return None
    won = found.document.modality_ids[found.alignment.best[found.alignment.best >= 0]]
    answers = bool(np.isin(won, [MODALITY_IDS[name] for name in alone]).any())
    enough = alone[best] >= floors.get(best, 0.0) * found.values.shape[0]
    return best if answers or enough else None


def _best_start(found: Match, modality: Modality) -> float | None:
    """When the best segment or frame of a modality starts; None where there is none, or it holds all the time.

    Segments are compared by the sum over query tokens of the best similarity within.
    """
    columns = np.flatnonzero(found.document.modality_ids == MODALITY_IDS[modality])
    if not columns.size:
        return None
    numbers = found.document.segments[columns]
    columns = columns[np.argsort(numbers, kind="stable")]
    _, counts = np.unique(numbers, return_counts=True)
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    sums = maxsim.segment_max(found.values[:, columns], indptr).sum(axis=0)
    best = int(sums.argmax())
    columns = columns[indptr[best] : indptr[best + 1]]
    number = int(found.document.segments[columns[0]])
    spans = (
        found.moment.frame_spans
        if modality is Modality.VIDEO
        else tuple(segment.span for segment in segments_of(found.moment, modality))
    )
    if not 0 <= number < len(spans):
        return float(found.document.spans[columns, 0].min()) if modality is not Modality.METADATA else None
    span, inside = spans[number], found.moment.span
    lasting = modality is Modality.METADATA and span.start <= inside.start and span.end >= inside.end
    return None if lasting else span.start


def modality_scores(found: Match) -> dict[Modality, float]:
    """The weighted MaxSim score of each modality that may answer and that the moment has."""
    sums = maxsim.per_modality(_maxima(found, found.weights))[0]
    return {modality: float(sums[MODALITY_IDS[modality]]) for modality in found.alignment.by_modality}


def score(found: Match, scoring: Scoring) -> float:
    """The moment's score; minus infinity where nothing may answer."""
    return _score(_maxima(found, found.weights), scoring)


def without(found: Match, scoring: Scoring, modality: Modality) -> float:
    """The moment's score if a modality did not count; minus infinity where nothing is left."""
    weights = found.weights.copy()
    weights[MODALITY_IDS[modality]] = 0.0
    return _score(_maxima(found, weights), scoring)


def _maxima(found: Match, weights: maxsim.Float32) -> maxsim.Float32:
    indptr = np.array([0, len(found.document)], np.int64)
    return maxsim.weighted(maxsim.modality_maxima(found.values, found.document.modality_ids, indptr), weights)


def _score(maxima: maxsim.Float32, scoring: Scoring) -> float:
    rule = maxsim.token_max if scoring == "token-max" else maxsim.modality_max
    return float(rule(maxima)[0])


def shares(found: Match, scoring: Scoring) -> Mapping[Modality, float]:
    """The part of the score that each modality won, in [0, 1], largest first; those that won nothing are left out.

    With ``modality-max`` one modality makes the whole score. Similarities below zero win nothing. What is missing to 1
    was won by tokens of no modality.
    """
    if scoring == "modality-max":
        sums = modality_scores(found)
        return {max(sums, key=lambda modality: sums[modality]): 1.0} if sums else {}
    rows = np.flatnonzero(found.alignment.best >= 0)
    ids = found.document.modality_ids[found.alignment.best[rows]]
    won = np.maximum(found.alignment.similarity[rows] * found.weights[ids], 0.0)
    if not won.sum() > 0:
        return {}
    parts = {modality: float(won[ids == number].sum() / won.sum()) for number, modality in MODALITY_OF_ID.items()}
    return dict(sorted(((m, part) for m, part in parts.items() if part > 0), key=lambda item: -item[1]))
