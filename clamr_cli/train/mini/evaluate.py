"""Evaluation of trained weights on photos and texts that no step has used.

Scores are computed by the encoder itself, from JPEG files and strings, as users run it, and queries are read as a
search reads them and puts first what it puts first (:func:`clamr_cli.search.search.choose_reading`,
:func:`clamr_cli.search.search.literal_moments`). Measures are those of a query with one answer: R@k,
and nDCG@10 of a single gain.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clamr_cli.encoders.mini.encoder import Backbones, MiniEncoder
from clamr_cli.encoders.mini.multilingual import HEADS, MultilingualHeads
from clamr_cli.encoders.mini.networks import Heads
from clamr_cli.search.search import choose_reading, comes_first, words_by_line
from clamr_cli.text import content_words
from clamr_cli.train.mini.compose import Composer, CompositionConfig
from clamr_cli.train.mini.data import entries, photos, split_entries, split_photos
from clamr_cli.types import MODALITY_IDS, Document, Frame, Modality, Segment, Span, TokenVectors

_CUTOFFS: Final = (1, 5, 10)
ALONE: Final = "photos"
"""Name of the queries for photos alone."""

_MAX_QUERIES: Final = 200
_FLOOR_QUANTILE: Final = 0.02
_BEFORE_ALL: Final = 1e4
"""More than any sum of similarities."""

_AIMS: Final = (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA)


def evaluate(file: Path, data: Path, cache: Path) -> dict[str, float]:
    """Measures on held-out photos by their captions, alone and in documents with other texts, and on those texts.

    ``photos/R@10`` are captions against photos alone, ``video/...`` the same in documents, ``both/...`` queries about
    two modalities, ``.../won`` the share of queries whose own document answers best with the modality they aim at.
    """
    measures: dict[str, float] = {}
    sample: list[AnswerRank] = []
    for name, matches in match_held_out(file, data, Backbones(cache, device="cpu", threads=0)).items():
        measures |= _measures(name, matches)
        if name in _AIMS:
            won = sum(one.won_by == MODALITY_IDS[Modality(name)] for one in matches)
            measures[f"{name}/won"] = won / max(1, len(matches))
        if name != ALONE:
            sample += matches[:_MAX_QUERIES]
    measures |= floors(sample)
    return {name: round(value, 4) for name, value in measures.items()}


def match_held_out(file: Path, data: Path, backbones: Backbones) -> dict[str, list[AnswerRank]]:
    """Queries for held-out photos alone, for composed documents by each modality, and for two at once (``both``)."""
    multilingual = MultilingualHeads.load(file.parent) if (file.parent / HEADS).exists() else None
    encoder = MiniEncoder(backbones, Heads.load(file), multilingual)
    all_photos, all_texts = photos(data), entries(data)
    (_, held_out), (_, held_out_texts) = split_photos(all_photos), split_entries(all_texts)
    folder, span = data / "train/flickr8k_1k/images", Span(0.0, 10.0)
    frames = [(Frame(5.0, span, (folder / all_photos[index].name).read_bytes()),) for index in held_out]
    captions = [(caption, number) for number, index in enumerate(held_out) for caption in all_photos[index].captions]
    alone = EncodedDocuments(encoder, [Document(str(number), span, frames=one) for number, one in enumerate(frames)])
    matches = {ALONE: match(alone, captions)}
    config = CompositionConfig(related=0.0, channel=0.0, both=1.0)
    composer = Composer(all_photos, held_out, all_texts, held_out_texts, random.Random(1), config)
    composed = [composer.compose(max_images=0) for _ in held_out]
    documents = []
    for number, (frame, other) in enumerate(zip(frames, composed, strict=True)):
        texts: dict[str, Any] = {
            modality.value: tuple(
                Segment(Span(part.time or 0.0, (part.time or 0.0) + 2.0), all_texts[part.entry].text) for part in parts
            )
            for modality, parts in other.texts.items()
        }
        documents.append(Document(str(number), Span(0.0, 60.0), frames=frame, **texts))
    library = EncodedDocuments(encoder, documents)
    for modality in (*_AIMS, None):
        pairs = [
            (query, number) for number, one in enumerate(composed) for query, aim in one.queries if aim is modality
        ]
        matches[modality or "both"] = match(library, captions if modality is Modality.VIDEO else pairs)
    return matches


class EncodedDocuments:
    """Documents with their vectors, each a moment of its own.

    Attributes:
        vectors: of each document.
    """

    def __init__(self, encoder: MiniEncoder, documents: Sequence[Document]) -> None:
        self._encoder, self.vectors = encoder, encoder.encode_documents(documents)
        self._lines = [words_by_line(document) for document in documents]
        self._rows = np.concatenate([document.vectors for document in self.vectors])
        self._starts = np.cumsum([0, *(len(document) for document in self.vectors[:-1])])

    def read(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The vectors of queries."""
        encoded = self._encoder.encode_queries(texts)
        words = [frozenset().union(*lines) for lines in self._lines]
        return [choose_reading(text, tokens, words) for text, tokens in zip(texts, encoded, strict=True)]

    def maxima(self, query: TokenVectors) -> NDArray[np.float32]:
        """The best similarity of each vector of a query in each document, [q, n]."""
        best: NDArray[np.float32] = np.maximum.reduceat(query.vectors @ self._rows.T, self._starts, axis=1)
        return best

    def order(self, text: str, query: TokenVectors, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scores [n] that order the documents as a search does, with those first that come first."""
        words = content_words(text)
        return scores + _BEFORE_ALL * np.array([comes_first(words, query, lines) for lines in self._lines])


class AnswerRank(NamedTuple):
    """A query against all documents: its answer, and the best of all others.

    ``rank`` documents score above the answer. Scores are per query vector; ``won_by`` is the id of the modality that
    alone would score best.
    """

    rank: int
    score: float
    won_by: int
    other_score: float
    other_won_by: int


def match(library: EncodedDocuments, pairs: Sequence[tuple[str, int]]) -> list[AnswerRank]:
    """Match queries to documents; pairs are a query and the index of its answer."""
    matches = []
    for query, (text, answer) in zip(library.read([text for text, _ in pairs]), pairs, strict=True):
        maxima = library.maxima(query)
        sums, scores = library.order(text, query, maxima.sum(axis=0)), maxima.mean(axis=0)
        score, scores[answer] = float(scores[answer]), -np.inf
        other = int(scores.argmax())
        won_by, other_won_by = (_winner(query, library.vectors[number]) for number in (answer, other))
        matches.append(AnswerRank(int((sums > sums[answer]).sum()), score, won_by, float(scores[other]), other_won_by))
    return matches


def _winner(query: TokenVectors, document: TokenVectors) -> int:
    """The id of the modality that alone would score best."""
    similar = query.vectors @ document.vectors.T
    present = sorted(set(document.modality_ids.tolist()))
    return int(max(present, key=lambda number: similar[:, document.modality_ids == number].max(axis=1).sum()))


def floors(matches: Sequence[AnswerRank]) -> dict[str, float]:
    """The score that nearly all answers of a modality reach, the share of the best others below it, and the AUROC.

    Pictures are never as close to a sentence as other sentences are, so each modality has a floor of its own. Some good
    matches score low, and one that is called weak by mistake does more harm than one that is not.
    """
    measures = {}
    below = []
    for modality in _AIMS:
        number = MODALITY_IDS[modality]
        scores = [one.score for one in matches if one.won_by == number]
        floor = float(np.quantile(scores, _FLOOR_QUANTILE)) if scores else 0.0
        measures[f"floor/{modality}"] = floor
        below += [one.other_score < floor for one in matches if one.other_won_by == number]
    right, wrong = np.array([one.score for one in matches]), np.array([one.other_score for one in matches])
    measures["floor/unanswered"] = float(np.mean(below))
    measures["floor/AUROC"] = float((right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean())
    return measures


def _measures(name: str, matches: Sequence[AnswerRank]) -> dict[str, float]:
    ranks = np.array([one.rank for one in matches])
    recalls = {f"{name}/R@{cutoff}": float((ranks < cutoff).mean()) for cutoff in _CUTOFFS}
    return {**recalls, f"{name}/nDCG@10": float(gains(ranks).mean()), f"{name}/queries": float(len(ranks))}


def gains(ranks: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """nDCG@10 of queries with one answer, from the number of documents above it."""
    return np.where(ranks < 10, 1 / np.log2(ranks + 2.0), 0.0)
