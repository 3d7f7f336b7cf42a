"""Train the embedded encoder's connector, and say how good it is on what it has not seen.

    python -m tests.bench.connector --data DIR --out FILE
    python -m tests.bench.connector --data DIR --check FILE

DIR holds ``train/`` (Flickr8k photos with captions, one photo per ImageNet class) and ``text/`` (MSVD, Multi30k,
MultiVENT captions and queries); see the encoder's MODEL_CARD.md. Scores are made by the encoder itself, from JPEG files
and strings, so that they hold for what users run. The result is the same for the same data, machine and seed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from clamr_cli import weights
from clamr_cli.encoders.mini import MiniEncoder
from clamr_cli.encoders.mini.heads import NAMES, Heads
from clamr_cli.types import MODALITY_IDS, Document, Frame, Modality, Segment, Span, TokenVectors
from tests.bench import connector_data, connector_model
from tests.bench.composed import Composer, entries, photos, split_entries, split_photos

if TYPE_CHECKING:
    from collections.abc import Sequence

_CUTOFFS = (1, 5, 10)


def main() -> None:
    """Train or check, then print scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="write trained weights here")
    parser.add_argument("--check", type=Path, help="only score these weights")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "clamr")
    parser.add_argument("--steps", type=int, default=connector_model.Options().steps)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if not asked.check and not asked.out:
        parser.error("give --out FILE to train or --check FILE to score")
    file = asked.check or _train(asked)
    encoder = _encoder(file, asked.cache)
    print_scores(encoder, asked.data)


def _train(asked: argparse.Namespace) -> Path:
    """Make the weights file."""
    start = time.monotonic()
    material = connector_data.load(asked.data, asked.cache)
    print(f"features of {len(material.photos)} photos, {len(material.entries)} texts, {len(material.queries)} queries")
    inputs, connector = connector_data.unseen(material)
    options = connector_model.Options(steps=asked.steps, seed=asked.seed)
    tensors = connector_model.train(material, inputs, options).tensors()
    tensors |= {"classes": material.classes, "connector.weight": connector.weight, "connector.bias": connector.bias}
    missing = set(NAMES) - set(tensors)
    if missing:
        raise SystemExit(f"not trained: {sorted(missing)}")
    content = save({name: np.ascontiguousarray(tensors[name], dtype=np.float16) for name in sorted(tensors)})
    asked.out.write_bytes(content)
    print(f"{asked.out}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"trained in {time.monotonic() - start:.0f} s")
    return Path(asked.out)


def _encoder(file: Path, cache: Path) -> MiniEncoder:
    text, pictures = weights.locate("minilm-l6", cache), weights.locate("efficientnet-lite2", cache)
    return MiniEncoder(text, next(pictures.glob("*.pth")), Heads.load(file), device="cpu", threads=0)


def print_scores(encoder: MiniEncoder, data: Path) -> None:
    """Held-out photos by their captions, alone and in documents with other texts."""
    all_photos, pool = photos(data), entries(data)
    _, held = split_photos(all_photos)
    _, held_texts = split_entries(pool)
    folder = data / "train/flickr8k_1k/images"
    frames = [_document(number, (folder / all_photos[index].name).read_bytes()) for number, index in enumerate(held)]
    asked = [(caption, number) for number, index in enumerate(held) for caption in all_photos[index].captions]
    alone = encoder.encode_documents(frames)
    ranks = rank(encoder, [query for query, _ in asked], [number for _, number in asked], alone)
    print(f"{len(asked)} captions, {len(held)} held-out photos:", _recalls(ranks))

    chance = random.Random(1)
    composer = Composer(all_photos, held, pool, held_texts, chance)
    composer.shuffle()
    drawn = [composer.draw(most_photos=0) for _ in held]
    texts = [
        Document(
            id=frame.id,
            span=frame.span,
            frames=frame.frames,
            **{modality.value: _segments([pool[i].text for i in indices]) for modality, indices in one.texts.items()},
        )
        for frame, one in zip(frames, drawn, strict=True)
    ]
    documents = encoder.encode_documents(texts)
    print(f"the same in documents with other texts ({np.mean([len(one) for one in documents]):.0f} vectors each):")
    for modality in (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA):
        pairs = asked
        if modality is not Modality.VIDEO:
            pairs = [
                (query, number) for number, one in enumerate(drawn) for query, aim in one.queries if aim is modality
            ]
        ranks = rank(encoder, [query for query, _ in pairs], [number for _, number in pairs], documents)
        right = modality_accuracy(encoder, pairs, documents, modality)
        print(f"  {modality.value:9}{len(pairs):5} queries: {_recalls(ranks)}, modality {right:.3f}")


def rank(
    encoder: MiniEncoder, queries: Sequence[str], targets: Sequence[int], documents: Sequence[TokenVectors]
) -> np.ndarray:
    """How many documents score above each query's own."""
    vectors = np.concatenate([one.vectors for one in documents])
    starts = np.cumsum([0, *(len(one) for one in documents[:-1])])
    ranks = []
    for rows, target in zip(encoder.encode_queries(queries), targets, strict=True):
        scores = np.maximum.reduceat(rows.vectors @ vectors.T, starts, axis=1).sum(axis=0)
        ranks.append(int((scores > scores[target]).sum()))
    return np.array(ranks)


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


def _segments(texts: Sequence[str]) -> tuple[Segment, ...]:
    return tuple(Segment(Span(number, number + 1), text) for number, text in enumerate(texts))


def _recalls(ranks: np.ndarray) -> str:
    gains = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0.0).mean()
    return ", ".join(f"R@{cutoff} {(ranks < cutoff).mean():.3f}" for cutoff in _CUTOFFS) + f", nDCG@10 {gains:.3f}"


if __name__ == "__main__":
    main()
