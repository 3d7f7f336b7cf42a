"""Evaluation of trained weights on photos and texts that no step has used.

Scores are computed by the encoder itself, from JPEG files and strings, as users run it. Measures are those of a query
with one answer: R@k, and nDCG@10 of a single gain.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from clamr_cli.encoders.mini.encoder import Backbones, MiniEncoder
from clamr_cli.encoders.mini.heads import Heads
from clamr_cli.train.mini.compose import Composer, CompositionConfig
from clamr_cli.train.mini.data import entries, photos, split_entries, split_photos
from clamr_cli.types import MODALITY_IDS, Document, Frame, Modality, Segment, Span, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_CUTOFFS: Final = (1, 5, 10)
_MAX_QUERIES: Final = 200
_FLOOR_QUANTILE: Final = 0.02
_CONFIG: Final = CompositionConfig(related=0.0, channel=0.0, both=1.0)


def evaluate(file: Path, data: Path, cache: Path) -> dict[str, float]:
    """Measures on held-out photos by their captions, alone and in documents with other texts, and on those texts.

    Args:
        file: trained weights.
        data: the recipe's data folder.
        cache: folder of the frozen models' weights.

    Returns:
        Measures by name; ``photos/R@10`` are captions against photos alone, ``video/...`` the same in documents,
        ``both/...`` queries about two modalities.
    """
    encoder = MiniEncoder(Backbones(cache, device="cpu", threads=0), Heads.load(file))
    all_photos, all_texts = photos(data), entries(data)
    _, held_out = split_photos(all_photos)
    _, held_out_texts = split_entries(all_texts)
    folder, span = data / "train/flickr8k_1k/images", Span(0.0, 10.0)
    frames = [(Frame(5.0, span, (folder / all_photos[index].name).read_bytes()),) for index in held_out]
    captions = [(caption, number) for number, index in enumerate(held_out) for caption in all_photos[index].captions]
    alone = encoder.encode_documents([Document(str(number), span, frames=one) for number, one in enumerate(frames)])
    measures = _measures("photos", rank(encoder, captions, alone))
    composer = Composer(all_photos, held_out, all_texts, held_out_texts, random.Random(1), _CONFIG)
    composer.shuffle()
    composed = [composer.compose(max_images=0) for _ in held_out]
    documents = []
    for number, (frame, other) in enumerate(zip(frames, composed, strict=True)):
        texts = {
            modality.value: tuple(
                Segment(Span(part.time or 0.0, (part.time or 0.0) + 2.0), all_texts[part.entry].text) for part in parts
            )
            for modality, parts in other.texts.items()
        }
        documents.append(Document(str(number), Span(0.0, 60.0), frames=frame, **texts))  # type: ignore[arg-type]
    vectors = encoder.encode_documents(documents)
    measures["rows"] = float(np.mean([len(one) for one in vectors]))
    sample: list[tuple[str, int]] = []
    for modality in (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA, None):
        pairs = [
            (query, number) for number, one in enumerate(composed) for query, aim in one.queries if aim is modality
        ]
        pairs = captions if modality is Modality.VIDEO else pairs
        measures |= _measures(modality or "both", rank(encoder, pairs, vectors))
        if modality:
            measures[f"{modality}/won"] = modality_accuracy(encoder, pairs, vectors, modality)
        sample += pairs[:_MAX_QUERIES]
    measures |= floors(*best_scores(encoder, sample, vectors))
    return {name: round(value, 4) for name, value in measures.items()}


def rank(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors]
) -> NDArray[np.int64]:
    """The number of documents that score above each query's answer; pairs are a query and the index of its answer."""
    ranks = []
    for _, answer, maxima in _maxima(encoder, pairs, documents):
        scores = maxima.sum(axis=0)
        ranks.append(int((scores > scores[answer]).sum()))
    return np.array(ranks)


def _maxima(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors]
) -> Iterator[tuple[TokenVectors, int, NDArray[np.float32]]]:
    """Each query, the index of its answer, and maximal similarities of its tokens [tokens, documents]."""
    vectors = np.concatenate([document.vectors for document in documents])
    starts = np.cumsum([0, *(len(document) for document in documents[:-1])])
    for query, (_, answer) in zip(encoder.encode_queries([text for text, _ in pairs]), pairs, strict=True):
        yield query, answer, np.maximum.reduceat(query.vectors @ vectors.T, starts, axis=1)


class Best(NamedTuple):
    """A score per query vector, and the modality (its id) that alone would score best."""

    score: float
    won_by: int


def best_scores(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors]
) -> tuple[list[Best], list[Best]]:
    """The answer of each query, and the best of all other documents."""
    answers, others = [], []
    for query, answer, maxima in _maxima(encoder, pairs, documents):
        scores = maxima.mean(axis=0)
        answers.append(Best(float(scores[answer]), winner(query, documents[answer])))
        scores[answer] = -np.inf
        other = int(scores.argmax())
        others.append(Best(float(scores[other]), winner(query, documents[other])))
    return answers, others


def winner(query: TokenVectors, document: TokenVectors) -> int:
    """The id of the modality that alone would score best."""
    similar = query.vectors @ document.vectors.T
    present = sorted(set(document.modality_ids.tolist()))
    return int(max(present, key=lambda one: similar[:, document.modality_ids == one].max(axis=1).sum()))


def floors(answers: Sequence[Best], others: Sequence[Best]) -> dict[str, float]:
    """The score that nearly all answers of a modality reach, the share of the best others below it, and the AUROC.

    Pictures are never as close to a sentence as other sentences are, so each modality has a floor of its own. Some good
    matches score low, and one that is called weak by mistake does more harm than one that is not.
    """
    measures = {}
    below = []
    for modality in (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA):
        scores = [one.score for one in answers if one.won_by == MODALITY_IDS[modality]]
        floor = float(np.quantile(scores, _FLOOR_QUANTILE)) if scores else 0.0
        measures[f"floor/{modality}"] = floor
        below += [one.score < floor for one in others if one.won_by == MODALITY_IDS[modality]]
    right, wrong = (np.array([one.score for one in each]) for each in (answers, others))
    measures["floor/unanswered"] = float(np.mean(below))
    measures["floor/AUROC"] = float((right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean())
    return measures


def modality_accuracy(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors], aim: Modality
) -> float:
    """Share of queries whose own document answers best with the modality they aim at."""
    encoded = encoder.encode_queries([query for query, _ in pairs])
    won = [winner(rows, documents[number]) for rows, (_, number) in zip(encoded, pairs, strict=True)]
    return sum(one == MODALITY_IDS[aim] for one in won) / max(1, len(pairs))


def _measures(name: str, ranks: NDArray[np.int64]) -> dict[str, float]:
    gains = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0.0)
    recalls = {f"{name}/R@{cutoff}": float((ranks < cutoff).mean()) for cutoff in _CUTOFFS}
    return {**recalls, f"{name}/nDCG@10": float(gains.mean()), f"{name}/queries": float(len(ranks))}
