"""Evidence of a moment for a query: for each word of the query the frame, line or word it was matched by. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from clamr_cli.search.scoring import (
    Float32,
    Int64,
    align,
    modality_maxima,
    per_modality,
    segment_max,
    similarities,
    weighted,
)
from clamr_cli.text import format_time
from clamr_cli.types import (
    MODALITY_IDS,
    MODALITY_OF_ID,
    TEXT_MODALITIES,
    Evidence,
    Modality,
    MomentRecord,
    Scoring,
    Span,
    TokenVectors,
    WordEvidence,
)

_CHUNK: Final = re.compile(r"\S+")

# Chinese, Japanese, Thai, Lao, Khmer and Burmese put no spaces between words: there a token is the smallest unit.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True)
class QueryWord:
    """A word of a query and the query vectors that stand for it."""

    text: str
    rows: tuple[int, ...]


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
    words = [_query_word(query, chunk, rows, tokens) for chunk, rows in sorted(rows_of.items())]
    return [*words, QueryWord(query.strip(), tuple(whole))] if whole else words


def _query_word(query: str, chunk: tuple[int, int], rows: Sequence[int], tokens: TokenVectors) -> QueryWord:
    """A word without the punctuation around it, whose vectors match any punctuation and say nothing of the word."""
    telling = [row for row in rows if any(char.isalnum() for char in query[slice(*tokens.offsets[row].tolist())])]
    text = query[slice(*chunk)]
    if not telling:
        return QueryWord(text, tuple(rows))
    inner = [number for number, char in enumerate(text) if char.isalnum()]
    return QueryWord(text[inner[0] : inner[-1] + 1], tuple(telling))


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


class Match:
    """A query and a moment side by side: which vector of the moment answers each token of the query.

    Attributes:
        scores: the weighted MaxSim score of each modality that may answer and that the moment has.
        winner: the modality with the highest of these scores, None where there is none.
    """

    def __init__(
        self, query: str, tokens: TokenVectors, moment: MomentRecord, document: TokenVectors, weights: Float32
    ) -> None:
        """Align the tokens of a query with the vectors of a moment.

        Args:
            query: the text.
            tokens: its vectors, q of them.
            moment: the moment's texts and times.
            document: its vectors, n of them.
            weights: [SLOTS] factors by modality id, 0 for what may not answer.
        """
        self._words = query_words(query, tokens)
        self._moment, self._document, self._weights = moment, document, weights
        self._values = similarities(tokens.vectors, document.vectors)
        self._best, self._by_modality = align(self._values, document.modality_ids, weights)
        indptr = np.array([0, len(document)], np.int64)
        sums = per_modality(weighted(modality_maxima(self._values, document.modality_ids, indptr), weights))[0]
        self.scores = {modality: float(sums[MODALITY_IDS[modality]]) for modality in self._by_modality}
        self.winner = max(self.scores, key=lambda modality: self.scores[modality], default=None)

    def evidence(self) -> tuple[Evidence, ...]:
        """For each query word the evidence that won, in the order of the query."""
        winners = (self._best_of(word, self._best) for word in self._words)
        return tuple(winner for winner in winners if winner is not None)

    def word_evidence(self) -> tuple[WordEvidence, ...]:
        """For each query word the evidence that won, and the best of each modality that may answer."""
        return tuple(
            WordEvidence(
                word.text,
                self._best_of(word, self._best),
                {
                    modality: evidence
                    for modality, columns in self._by_modality.items()
                    if (evidence := self._best_of(word, columns)) is not None
                },
            )
            for word in self._words
        )

    def shares(self, scoring: Scoring) -> Mapping[Modality, float]:
        """The part of the score that each modality won, in [0, 1], largest first; those that won nothing are left out.

        With ``modality-max`` one modality makes the whole score. Similarities below zero win nothing. What is missing
        to 1 was won by tokens of no modality.
        """
        if scoring == "modality-max":
            return {} if self.winner is None else {self.winner: 1.0}
        rows = np.flatnonzero(self._best >= 0)
        ids = self._document.modality_ids[self._best[rows]]
        won = np.maximum(self._values[rows, self._best[rows]] * self._weights[ids], 0.0)
        if not won.sum() > 0:
            return {}
        parts = {modality: float(won[ids == number].sum() / won.sum()) for number, modality in MODALITY_OF_ID.items()}
        return dict(sorted(((m, part) for m, part in parts.items() if part > 0), key=lambda item: -item[1]))

    def strongest_time(self, floors: Mapping[Modality, float] = MappingProxyType({})) -> float:
        """The second of the moment where the evidence is strongest: the start of the best segment or frame.

        Most metadata holds for the whole video. Where it wins, the best evidence that has a time counts instead: a
        chapter, or what is shown, said or written on screen, if that is the best answer to a word of the query or good
        enough by itself. Else it is the start of the moment. ``floors`` are those of
        :class:`clamr_cli.types.EncoderInfo`.
        """
        span = self._moment.span
        start = None if self.winner is None else self._best_start(self.winner)
        if start is None:
            timed = self._best_timed(floors)
            start = None if timed is None else self._best_start(timed)
        return span.start if start is None else min(max(start, span.start), span.end)

    def _best_of(self, word: QueryWord, columns: Int64) -> Evidence | None:
        """Of a word's vectors the one that is matched best, by ``columns`` [q]; None where nothing may answer."""
        document = self._document
        rows = np.array([row for row in word.rows if columns[row] >= 0], np.int64)
        if not rows.size:
            return None
        chosen = columns[rows]
        place = int((self._values[rows, chosen] * self._weights[document.modality_ids[chosen]]).argmax())
        column = int(chosen[place])
        modality = MODALITY_OF_ID.get(int(document.modality_ids[column]))
        text, context = self._words_at(modality, column)
        span = self._moment.span
        if modality is not None:
            start, end = document.spans[column].tolist()
            span = Span(start, max(start, end))
        return Evidence(word.text, modality, span, text, float(self._values[rows[place], column]), context)

    def _words_at(self, modality: Modality | None, column: int) -> tuple[str, str]:
        """Text of a vector, and its line."""
        if modality is None:
            return "", ""
        number = int(self._document.segments[column])
        if modality not in TEXT_MODALITIES:
            times = self._moment.frame_times
            frame = modality is Modality.VIDEO and 0 <= number < len(times)
            time = times[number] if frame else float(self._document.spans[column, 0])
            return f"{'frame' if modality is Modality.VIDEO else 'sound'} at {format_time(time)}", ""
        segments = self._moment.segments(modality)
        if not 0 <= number < len(segments):
            return "", ""
        start, end = self._document.offsets[column].tolist()
        return cut_around(segments[number].text, start, end)

    def _best_timed(self, floors: Mapping[Modality, float]) -> Modality | None:
        """The best modality beside metadata, if it answers a word of the query better than metadata does, or well."""
        alone = {name: value for name, value in self.scores.items() if name is not Modality.METADATA}
        best = max(alone, key=lambda name: alone[name], default=None)
        if best is None or alone[best] <= 0:
            return None
        won = self._document.modality_ids[self._best[self._best >= 0]]
        answers = bool(np.isin(won, [MODALITY_IDS[name] for name in alone]).any())
        enough = alone[best] >= floors.get(best, 0.0) * len(self._values)
        return best if answers or enough else None

    def _best_start(self, modality: Modality) -> float | None:
        """When the best segment or frame of a modality starts; None where there is none, or it holds all the time.

        Segments are compared by the sum over query tokens of the best similarity within.
        """
        document, moment = self._document, self._moment
        columns = np.flatnonzero(document.modality_ids == MODALITY_IDS[modality])
        if not columns.size:
            return None
        numbers = document.segments[columns]
        columns = columns[np.argsort(numbers, kind="stable")]
        _, counts = np.unique(numbers, return_counts=True)
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        best = int(segment_max(self._values[:, columns], indptr).sum(axis=0).argmax())
        columns = columns[indptr[best] : indptr[best + 1]]
        number = int(document.segments[columns[0]])
        spans = [segment.span for segment in moment.segments(modality)]
        if modality is Modality.VIDEO:
            spans = list(moment.frame_spans)
        if not 0 <= number < len(spans):
            return float(document.spans[columns, 0].min()) if modality is not Modality.METADATA else None
        span = spans[number]
        lasting = modality is Modality.METADATA and span.start <= moment.span.start and span.end >= moment.span.end
        return None if lasting else span.start
