"""The confidence in a hit, from 0 to 1: 19 of 20 moments that answer a query reach 0.5.

A score alone says little: a query of rare words scores low everywhere, one of common words high. So a hit is compared
with a sample of the library's moments for the same query (:class:`Background`), and its texts are looked through for
the query's content words and numbers. A logistic regression over these :class:`Signals`, one per encoder, was fitted by
``python -m tests.bench.confidence --fit``. (Tried beside them, without a gain on real videos: similarities of single
content words, the number of words, slopes of their own for what is shown, the scores of 390 other pictures, and a
moment's scores for other queries: these tell short composed documents from others, no more.)

A small library has too few other videos to compare with. The encoder's reference statistics stand for
:data:`PRIOR_VIDEOS` videos more.

A moment that holds all content words of the query in its texts, in any form, is never weak.

Queries that an encoder translates have models of their own (:data:`FOREIGN`): their words hardly ever stand in the
texts, and their vectors have other similarities by chance.

Pictures as queries are nearer to all pictures than words are, so they have models of their own, fitted by ``python -m
tests.bench.pictures --fit``. A picture with words is judged by the model for encoders that have none: scores of both
together were not measured.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from itertools import combinations
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from clamr_cli.search.cascade import Float32, ScoringRule, weighted
from clamr_cli.text import content_words, inflections, standing_words, stands_among, without_accents
from clamr_cli.types import FAIR_FROM, STRONG_FROM, ForeignQuery, Modality, TokenVectors

MODELS: Final = "confidence.json"
"""The fitted regressions, in this package."""

DEFAULT: Final = "default"

PICTURES: Final = "/pictures"
"""After the encoder's name: the model for queries that are pictures or moments, without words."""

FOREIGN: Final = "/foreign"
"""After the encoder's name: the model for queries in another language than the encoder's."""

PRIOR_VIDEOS: Final = 4

_LITERAL: Final = (FAIR_FROM + STRONG_FROM) / 2
"""Least confidence in a moment that holds all content words."""

_COUNTING: Final = frozenset(["", *map(str, range(1, 13))])
"""Numbers that may count what is shown, as in "2 dogs", or name a month: no text needs to hold them."""

_NOT_UNDERSTOOD: Final = FAIR_FROM / 2
"""Most confidence in a moment without a word of a query of which nothing is understood."""

INFLECTED: Final = 0.9
"""Count of a content word that stands in the texts in another form, beside 1 for the word itself."""

_LEAST_SPREAD: Final = 0.01

_MOST_SPREADS: Final = 10.0
"""Scores further above the median say nothing more."""

_STEPS: Final = 1000

_FEWEST_MOMENTS: Final = 3
_MOST_MOMENTS: Final = 1000
"""Other libraries count as of so many moments: the regression knows none like them."""

QUARTILES: Final = 1.349
"""Distance of the quartiles of a normal distribution in standard deviations."""


class Signals(NamedTuple):
    """Signals of one hit."""

    score: float
    """Per query vector."""
    margin: float
    """Of the score above the median of other videos' moments."""
    spreads: float
    """The margin in standard deviations of their scores (estimated from quartiles)."""
    literal: float
    """Share of the content words, weighted by their letters, that stand in the texts."""
    shown: float
    """1 where pictures match best, else 0."""
    shown_margin: float
    """The margin where pictures match best, else 0."""
    moments: float
    """Logarithm of the number of moments in the library."""
    few: float
    """1 / the number of moments."""
    numbers: float = 0.0
    """Share of the content words that are numbers and do not stand in the texts: another date is no answer."""
    whole: bool = False
    """Whether all content words stand in the texts, in any form."""
    understood: bool = True
    """Whether more is known of the query than its letters, or a word of it stands in the texts."""
    words: float = 0.0
    """Of the words of a :class:`ForeignQuery`, as they are spelled or in English, the mean similarity.

    This and the rest are 0 for other queries.
    """
    translation: float = 0.0
    """Similarity of its translation."""
    translation_lead: float = 0.0
    """That above the best of other videos' moments: the readings should agree on the hit."""
    sentence: float = 0.0
    """Similarity of its meaning in any language."""
    sentence_lead: float = 0.0
    """That above the best of other videos' moments."""
    english: float = 0.0
    """Share of the words of its translation, weighted by their letters, that stand in the texts."""


class Null(msgspec.Struct, frozen=True):
    """The median and the spread of the scores of moments that do not answer, per query vector."""

    score: float
    spread: float


class ConfidenceModel(msgspec.Struct, frozen=True):
    """A fitted logistic regression: weights by the name of a signal, and the encoder's reference statistics.

    The reference was measured on composed documents that do not answer.
    """

    bias: float
    weights: Mapping[str, float]
    reference: Null

    def confidence(self, signals: Signals, most: float = 1.0) -> float:
        """The confidence in a hit with these signals, in [0, 1]; at most ``most``, if its words do not decide it."""
        values: dict[str, float] = signals._asdict()
        logit = self.bias + sum(weight * values[name] for name, weight in self.weights.items())
        return bounded(min(most, 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))), signals)


def bounded(chance: float, signals: Signals) -> float:
    """A chance within the bounds of what words alone decide, whatever the regression says."""
    if signals.whole:
        return max(chance, _LITERAL)
    return chance if signals.understood else min(chance, _NOT_UNDERSTOOD)


@cache
def models() -> Mapping[str, ConfidenceModel]:
    """The fitted models by the encoder's name."""
    text = resources.files("clamr_cli.search").joinpath(MODELS).read_bytes()
    return msgspec.json.decode(text, type=dict[str, ConfidenceModel])


def model_of(encoder: str, kind: str = "") -> ConfidenceModel:
    """The model of an encoder by its name and the kind of query; :data:`DEFAULT` where none was fitted."""
    names = (encoder + kind, DEFAULT + kind, encoder, DEFAULT)
    return next(models()[name] for name in names if name in models())


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A query's similarities to a sample of the library.

    Attributes:
        maxima: [q, b, SLOTS] of the sampled moments.
        videos: [b] the videos they are of.
        moments: number of moments in the library.
    """

    maxima: Float32
    videos: Sequence[str]
    moments: int


def quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The quartiles of values [n], n > 0, as of :func:`numpy.percentile`, which would import ``numpy.ma``."""
    ordered = np.sort(values)
    low, median, high = np.interp(np.array([0.25, 0.5, 0.75]) * (len(ordered) - 1), np.arange(len(ordered)), ordered)
    return float(low), float(median), float(high)


class Judge:
    """Judges the hits of one query."""

    def __init__(
        self,
        query: str,
        rule: ScoringRule,
        background: Background,
        model: ConfidenceModel,
        tokens: TokenVectors | None = None,
    ) -> None:
        """Prepare the statistics of a query.

        Args:
            query: the text.
            rule: of scoring.
            background: of the query.
            model: of the encoder.
            tokens: of the query; they make a difference where it is in another language.
        """
        self._model = model
        self._moments = min(max(_FEWEST_MOMENTS, background.moments), _MOST_MOMENTS)
        self._content = content_words(query)
        # Scores of weighted modalities are as large as the largest weight allows.
        weight = float(rule.weights.max(initial=0.0) or 1.0)
        self._vectors = max(1, len(background.maxima)) * weight
        self._foreign = tokens if isinstance(tokens, ForeignQuery) else None
        self._weight = weight
        self._readings: dict[int, Float32] = {}
        if self._foreign is not None:
            for row in (self._foreign.translation, self._foreign.sentence):
                best = weighted(background.maxima[row : row + 1], rule.weights).max(axis=2, initial=-np.inf)[0]
                self._readings[row] = best / np.float32(weight)
        self._videos = np.array(background.videos, dtype=object)
        self._scores = rule.scores(background.maxima).astype(np.float64) / self._vectors
        self._nulls: dict[str, Null] = {}

    def null(self, video_id: str) -> Null:
        """The statistics of the library without a video, filled up with the encoder's reference."""
        if video_id not in self._nulls:
            reference = self._model.reference
            other = np.isfinite(self._scores) & (self._videos != video_id)
            null = reference
            if other.any():
                count = len(set(self._videos[other].tolist()))
                share = count / (count + PRIOR_VIDEOS)
                low, median, high = quartiles(self._scores[other])
                null = Null(
                    share * median + (1 - share) * reference.score,
                    max(_LEAST_SPREAD, share * (high - low) / QUARTILES + (1 - share) * reference.spread),
                )
            self._nulls[video_id] = null
        return self._nulls[video_id]

    def signals(
        self,
        score: float,
        texts: Sequence[str],
        video_id: str,
        winner: Modality | None,
        best: Float32 | None = None,
    ) -> Signals:
        """The signals of a hit.

        Args:
            score: of the moment.
            texts: of the moment, its title and its file name.
            video_id: the moment's; other moments of it are no part of the comparison.
            winner: the modality that matches best.
            best: [q] the weighted similarity of each query vector to the moment; needed in another language.
        """
        null, per_vector = self.null(video_id), score / self._vectors
        counts = dict(zip(self._content, _counts(self._content, texts), strict=True))
        absent = [word for word, count in counts.items() if not count]
        numbers = [word for word in absent if word.isdigit() and word.lstrip("0") not in _COUNTING]
        margin, shown = per_vector - null.score, float(winner is Modality.VIDEO)
        signals = Signals(
            score=per_vector,
            margin=margin,
            spreads=min(_MOST_SPREADS, margin / null.spread),
            literal=_share(counts),
            shown=shown,
            shown_margin=shown * margin,
            moments=math.log(self._moments),
            few=1 / self._moments,
            numbers=len(numbers) / max(1, len(counts)),
            whole=bool(counts) and not absent,
            understood=self._foreign is None or self._foreign.understood or len(absent) < len(counts),
        )
        if self._foreign is None or best is None:
            return signals
        values = best.astype(np.float64) / self._weight
        other = self._videos != video_id

        def lead(row: int) -> float:
            others = self._readings[row][other & np.isfinite(self._readings[row])]
            return float(values[row] - (others.max() if others.size else self._model.reference.score))

        translation, sentence = self._foreign.translation, self._foreign.sentence
        words: dict[int, float] = {}
        for value, (start, end) in zip(values.tolist(), self._foreign.offsets.tolist(), strict=True):
            if end:
                words[start] = max(value, words.get(start, 0.0))
        return signals._replace(
            words=sum(words.values()) / len(words) if words else 0.0,
            translation=float(values[translation]),
            translation_lead=lead(translation),
            sentence=float(values[sentence]),
            sentence_lead=lead(sentence),
            english=_share(dict(zip(self._foreign.english, _counts(self._foreign.english, texts), strict=True))),
        )

    def level(self, confidence: float) -> float:
        """The score from which a moment is given at least a confidence for its score alone, without its texts.

        It is the lower one of what is shown and what is not, in steps of 1 / :data:`_STEPS` per query vector, compared
        with the whole library. Where no score is enough it lies above all cosines.
        """
        step = self._vectors / _STEPS

        def steps(winner: Modality | None) -> int:
            return bisect_left(
                range(_STEPS + 1), confidence, key=lambda count: self.confidence(step * count, (), "", winner)
            )

        return step * min(steps(Modality.VIDEO), steps(None))

    def confidence(
        self,
        score: float,
        texts: Sequence[str],
        video_id: str,
        winner: Modality | None,
        best: Float32 | None = None,
        most: float = 1.0,
    ) -> float:
        """The confidence in a hit, in [0, 1]; arguments are those of :meth:`signals`.

        ``most`` is that in the first hit: the regression was fitted on first hits, and in another language its further
        signals would make some of the others surer. What holds all content words has no such limit.
        """
        signals = self.signals(score, texts, video_id, winner, best)
        return self._model.confidence(signals, 1.0 if self._foreign is None else most)


@lru_cache(1024)
def _standing(text: str) -> frozenset[str]:
    """The words that stand in a text; a process that searches often meets the same texts."""
    return frozenset(standing_words(text))


def _counts(content: Sequence[str], texts: Iterable[str]) -> list[float]:
    """Of each content word 1 where it stands in the texts, :data:`INFLECTED` where another form does, else 0.

    Words that stand there as one, as in names of files and sites, stand there too.
    """
    there = frozenset[str]().union(*map(_standing, texts))
    words = [without_accents(word) for word in content]
    counts = [1.0 if stands_among(word, there) else INFLECTED if inflections(word) & there else 0.0 for word in words]
    for start, end in combinations(range(len(words) + 1), 2):
        if end - start > 1 and "".join(words[start:end]) in there:
            counts[start:end] = [1.0] * (end - start)
    return counts


def _share(counts: Mapping[str, float]) -> float:
    """The share of words that stand in texts, weighted by their letters, of the counts of :func:`_counts` by word."""
    return sum(len(word) * count for word, count in counts.items()) / max(1, sum(map(len, counts)))
