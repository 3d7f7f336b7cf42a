"""How good trained weights are on photos and texts that no step has seen.

Scores are made by the encoder itself, from JPEG files and strings, so that they hold for what users run. Measures are
those of a query with one answer: R@k, and nDCG@10 of a single gain.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from clamr_cli.encoders.mini import MiniEncoder, frozen
from clamr_cli.encoders.mini.heads import Heads
from clamr_cli.train.mini.compose import Composer, Habits
from clamr_cli.train.mini.photos import photos, split_photos
from clamr_cli.train.mini.texts import entries, split_entries
from clamr_cli.types import MODALITY_IDS, Document, Frame, Modality, Segment, Span, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.train.mini.compose import Composed
    from clamr_cli.train.mini.texts import Entry

_CUTOFFS: Final = (1, 5, 10)
_MOST: Final = 200
_WEAKEST: Final = 0.02
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
    found |= floors(*best_scores(encoder, asked_for, documents))
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


class Best(NamedTuple):
    """A score per query vector, and the modality (its id) that alone would score best."""

    score: float
    won_by: int


def best_scores(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors]
) -> tuple[list[Best], list[Best]]:
    """Of each query: its answer, and the best of all other documents."""
    vectors = np.concatenate([one.vectors for one in documents])
    starts = np.cumsum([0, *(len(one) for one in documents[:-1])])
    answered, unanswered = [], []
    for rows, (_, target) in zip(encoder.encode_queries([query for query, _ in pairs]), pairs, strict=True):
        scores = np.maximum.reduceat(rows.vectors @ vectors.T, starts, axis=1).mean(axis=0)
        answered.append(Best(float(scores[target]), winner(rows, documents[target])))
        scores[target] = -np.inf
        other = int(scores.argmax())
        unanswered.append(Best(float(scores[other]), winner(rows, documents[other])))
    return answered, unanswered


def winner(query: TokenVectors, document: TokenVectors) -> int:
    """The id of the modality that alone would score best."""
    similar = query.vectors @ document.vectors.T
    present = sorted(set(document.modality_ids.tolist()))
    return int(max(present, key=lambda one: similar[:, document.modality_ids == one].max(axis=1).sum()))


def floors(answered: Sequence[Best], unanswered: Sequence[Best]) -> dict[str, float]:
    """The score that nearly all answers of a modality reach, how many of the best others do not, and the AUROC.

    Pictures are never as close to a sentence as other sentences are, so each modality has a floor of its own. Some good
    matches score low, and one that is called weak by mistake does more harm than one that is not.
    """
    found = {}
    below = []
    for modality in (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA):
        here = [one.score for one in answered if one.won_by == MODALITY_IDS[modality]]
        border = float(np.quantile(here, _WEAKEST)) if here else 0.0
        found[f"floor/{modality}"] = border
        below += [one.score < border for one in unanswered if one.won_by == MODALITY_IDS[modality]]
    right, wrong = (np.array([one.score for one in each]) for each in (answered, unanswered))
    found["floor/unanswered"] = float(np.mean(below))
    found["floor/AUROC"] = float((right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean())
    return found


def modality_accuracy(
    encoder: MiniEncoder, pairs: Sequence[tuple[str, int]], documents: Sequence[TokenVectors], aim: Modality
) -> float:
    """Share of queries whose own document answers best with the modality they aim at."""
    asked = encoder.encode_queries([query for query, _ in pairs])
    won = [winner(rows, documents[number]) for rows, (_, number) in zip(asked, pairs, strict=True)]
    return sum(one == MODALITY_IDS[aim] for one in won) / max(1, len(pairs))


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
