"""How good trained weights are on photos and texts that no step has seen.

Scores are made by the encoder itself, from JPEG files and strings, so that they hold for what users run. Measures are
those of a query with one answer: R@k, and nDCG@10 of a single gain.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.encoders.mini import MiniEncoder, frozen
from clamr_cli.encoders.mini.heads import Heads
from clamr_cli.train.mini.compose import Composer, Habits, entries, photos, split_entries, split_photos
from clamr_cli.types import MODALITY_IDS, Document, Frame, Modality, Segment, Span, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.train.mini.compose import Composed, Entry

_CUTOFFS: Final = (1, 5, 10)
_MOST: Final = 200
_WEAKEST: Final = 0.05
_HABITS: Final = Habits(related=0.0, channel=0.0, both=1.0)


def check(file: Path, data: Path, cache: Path) -> dict[str, float]:
    """Held-out photos by their captions, alone and in documents with other texts; and texts in those documents.

    Args:
        file: trained weights.
        data: the recipe's data folder.
        cache: folder of the frozen models' weights.

    Returns:
        Measures by name; ``photos/R@10`` are captions against photos alone, ``video/...`` the same in documents,
        ``both/...`` queries that ask for things of two modalities.
    """
    text, pictures = frozen.text_folder(cache), frozen.picture_file(cache)
    encoder = MiniEncoder(text, pictures, Heads.load(file), device="cpu", threads=0)
    all_photos, pool = photos(data), entries(data)
    _, held = split_photos(all_photos)
    _, held_texts = split_entries(pool)
    folder = data / "train/flickr8k_1k/images"
    frames = [_document(number, (folder / all_photos[index].name).read_bytes()) for number, index in enumerate(held)]
    asked = [(caption, number) for number, index in enumerate(held) for caption in all_photos[index].captions]
    alone = encoder.encode_documents(frames)
    found = _measures("photos", rank(encoder, asked, alone))
    composer = Composer(all_photos, held, pool, held_texts, random.Random(1), _HABITS)
    composer.shuffle()
    drawn = [composer.draw(most_photos=0) for _ in held]
    documents = encoder.encode_documents([_with_texts(*pair, pool) for pair in zip(frames, drawn, strict=True)])
    found["rows"] = float(np.mean([len(one) for one in documents]))
    asked_for: list[tuple[str, int]] = []
    for modality in (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA, None):
        pairs = [(query, place) for place, one in enumerate(drawn) for query, aim in one.queries if aim is modality]
        pairs = asked if modality is Modality.VIDEO else pairs
        found |= _measures(modality or "both", rank(encoder, pairs, documents))
        if modality:
            found[f"{modality}/won"] = modality_accuracy(encoder, pairs, documents, modality)
        asked_for += pairs[:_MOST]
    found |= floor(*best_scores(encoder, asked_for, documents))
    return {name: round(value, 4) for name, value in found.items()}


def rank(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors]
) -> NDArray[np.int64]:
    """How many documents score above each query's own; pairs are of a query and the place of its answer."""
    vectors = np.concatenate([one.vectors for one in documents])
    starts = np.cumsum([0, *(len(one) for one in documents[:-1])])
    ranks = []
    for rows, (_, target) in zip(encoder.encode_queries([query for query, _ in pairs]), pairs, strict=True):
        scores = np.maximum.reduceat(rows.vectors @ vectors.T, starts, axis=1).sum(axis=0)
        ranks.append(int((scores > scores[target]).sum()))
    return np.array(ranks)


def best_scores(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores per query vector of each query: of its answer, and the best of all other documents."""
    vectors = np.concatenate([one.vectors for one in documents])
    starts = np.cumsum([0, *(len(one) for one in documents[:-1])])
    answered, unanswered = [], []
    for rows, (_, target) in zip(encoder.encode_queries([query for query, _ in pairs]), pairs, strict=True):
        scores = np.maximum.reduceat(rows.vectors @ vectors.T, starts, axis=1).mean(axis=0)
        answered.append(scores[target])
        unanswered.append(np.delete(scores, target).max())
    return np.array(answered), np.array(unanswered)


def floor(answered: NDArray[np.float64], unanswered: NDArray[np.float64]) -> dict[str, float]:
    """The score that the answers of 19 of 20 queries reach; the share of those without one that stay below; the AUROC.

    Some good matches score low, and one that is called weak by mistake does more harm than one that is not.
    """
    border = float(np.quantile(answered, _WEAKEST))
    auroc = float((answered[:, None] > unanswered).mean() + 0.5 * (answered[:, None] == unanswered).mean())
    return {"floor": border, "floor/unanswered": float((unanswered < border).mean()), "floor/AUROC": auroc}


def modality_accuracy(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors], aim: Modality
) -> float:
    """Share of queries whose own document answers best with the modality they aim at."""
    right = 0
    for rows, (_, number) in zip(encoder.encode_queries([query for query, _ in pairs]), pairs, strict=True):
        document = documents[number]
        similar = rows.vectors @ document.vectors.T
        present = sorted(set(document.modality_ids.tolist()))
        best = max(present, key=lambda one: similar[:, document.modality_ids == one].max(axis=1).sum())
        right += best == MODALITY_IDS[aim]
    return right / max(1, len(pairs))


def _document(number: int, jpeg: bytes) -> Document:
    span = Span(0.0, 10.0)
    return Document(str(number), span, frames=(Frame(5.0, span, jpeg),))


def _with_texts(frame: Document, drawn: Composed, pool: Sequence[Entry]) -> Document:
    texts = {
        modality.value: tuple(
            Segment(Span(said.time or 0.0, (said.time or 0.0) + 2.0), pool[said.entry].text) for said in each
        )
        for modality, each in drawn.texts.items()
    }
    return Document(frame.id, Span(0.0, 60.0), frames=frame.frames, **texts)  # type: ignore[arg-type]


def _measures(name: str, ranks: NDArray[np.int64]) -> dict[str, float]:
    gains = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0.0)
    found = {f"{name}/R@{cutoff}": float((ranks < cutoff).mean()) for cutoff in _CUTOFFS}
    return {**found, f"{name}/nDCG@10": float(gains.mean()), f"{name}/queries": float(len(ranks))}
