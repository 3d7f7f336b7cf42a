"""Pictures and texts on one scale, by simulated vectors: ``python -m tests.bench.calibration``.

Vectors are drawn whose mean cosines are as published for a model with a modality gap, since those of EmbeddingGemma 2
are not:

- A picture and its caption: 0.25 and 0.22, from cosine distances of 0.7521 and 0.7840 over 1,000 pairs of Flickr8k in
  https://jina.ai/news/the-what-and-why-of-text-image-modality-gap-in-clip-models/. Two captions of one picture are
  "much closer" there, in a figure without numbers: 0.75 here, and 0.45 where they are about different things (assumed).
  The third line has pictures at 0.71, as close to other texts as texts are: no gap.
- Of 1,000 pictures a caption finds its own first in four of five cases, as SigLIP 2 B/16 does on Flickr30k
  (arXiv 2502.14786). This decides how far above all others a picture's own caption is: 0.26. The first figure of each
  line, of pictures alone, says what came of it.

Documents are composed as the recipe ``mini`` does it. Printed are the share of queries whose own document answers best
with the modality that they aim at (won), and that find it first among 200 (R@1): by plain cosines, with the bank of the
encoder ``gemma``, and with gates that were trained on other documents.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clamr_cli.encoders.gemma import BANK, OPEN, WIDTH, Bank, unit
from clamr_cli.train import loop
from clamr_cli.train.mini import gates as recipe
from clamr_cli.train.mini.data import CaptionedImage, Entry
from clamr_cli.types import Modality

Array = NDArray[np.float32]

RESULTS = Path(__file__).parent / "results" / "calibration.json"
EVERY = (Modality.SPEECH, Modality.OCR, Modality.METADATA)
SAME_TEXTS, OTHER_TEXTS, PICTURE_ABOVE_OTHERS = 0.75, 0.45, 0.26
PUBLISHED = (0.25, 0.22, OTHER_TEXTS + PICTURE_ABOVE_OTHERS)
IMAGES, ENTRIES = 1000, 1600
STEPS = 60


def simulate(picture: float, seed: int = 0) -> tuple[recipe.Vectors, recipe.Vectors]:
    """Data that documents are composed of, as it is and calibrated by a bank.

    ``picture`` is the mean cosine of a picture and its caption.
    """
    draw = np.random.default_rng(seed)

    def directions(count: int) -> Array:
        return unit(draw.standard_normal((count, WIDTH)).astype(np.float32))

    centre, topics = directions(1)[0], directions(IMAGES + ENTRIES + len(BANK))
    topic = (SAME_TEXTS - OTHER_TEXTS) ** 0.5

    def vectors(ids: NDArray[np.int64], along_centre: float, along_topic: float) -> Array:
        rest = (1.0 - along_centre**2 - along_topic**2) ** 0.5
        return unit(along_centre * centre + along_topic * topics[ids] + rest * directions(len(ids)))

    def texts(ids: NDArray[np.int64]) -> Array:
        return vectors(ids, OTHER_TEXTS**0.5, topic)

    images = [CaptionedImage(f"p{n}", tuple(f"seen {n} {k}" for k in "abcde"), (f"seen {n}",)) for n in range(IMAGES)]
    entries = [Entry(f"text {n}", EVERY, (f"asks {n}", f"asks {n} more")) for n in range(ENTRIES)]
    captions = [(caption, n) for n, image in enumerate(images) for caption in (*image.captions, *image.pieces)]
    queries = captions + [(query, IMAGES + n) for n, entry in enumerate(entries) for query in entry.queries]
    along = (picture - PICTURE_ABOVE_OTHERS) / OTHER_TEXTS**0.5
    shown = vectors(np.arange(IMAGES), along, PICTURE_ABOVE_OTHERS / topic)
    written = texts(np.arange(IMAGES, IMAGES + ENTRIES))
    spoken, asked = (texts(np.array([n for _, n in part])) for part in (captions, queries))
    bank = Bank.of(texts(IMAGES + ENTRIES + np.arange(len(BANK))))

    def composed_of(pictures: Array, passages: Array, said: Array, searched: Array) -> recipe.Vectors:
        return recipe.Vectors(
            images, entries, pictures, list(passages[:, None]),
            dict(zip([text for text, _ in captions], said, strict=True)),
            dict(zip([text for text, _ in queries], searched, strict=True)),
        )  # fmt: skip

    scaled = (bank.scaled(part) for part in (shown, written, spoken))
    return composed_of(shown, written, spoken, asked), composed_of(*scaled, unit(asked - bank.mean))


def alone(vectors: recipe.Vectors) -> float:
    """The share of captions that find their picture first among all pictures, without any text."""
    hits = [
        int((vectors.pictures @ vectors.queries[image.captions[0]]).argmax()) == number
        for number, image in enumerate(vectors.images)
    ]
    return float(np.mean(hits))


def compared(picture: float, *, steps: int = STEPS) -> dict[str, dict[str, float]]:
    """Measures of held-out documents by plain cosines, with the bank, and with trained gates."""
    plain, calibrated = simulate(picture)
    parts = (range(600), range(600)), (range(600, IMAGES), range(600, ENTRIES))
    drawn = recipe.Batches(calibrated, *parts[0], documents=24, count=steps, seed=0)
    model = recipe.GateModel()
    options = replace(recipe.DEFAULTS, steps=steps, batch=1, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        trainer = loop.LateInteractionTrainer(model, options, Path(folder), drawn, lambda items: items[0])
        for _ in loop.train(trainer):
            pass
    held = [recipe.Batches(vectors, *parts[1], documents=200, count=1, seed=1) for vectors in (plain, calibrated)]
    return {
        "plain": {"pictures alone/R@1": round(alone(plain), 4), **recipe.measure(held[0], OPEN)},
        "bank": recipe.measure(held[1], OPEN),
        "bank and gates": recipe.measure(held[1], model.gates()),
    }


def main() -> None:
    """Print and keep the figures."""
    figures = {f"{picture:g}": compared(picture) for picture in PUBLISHED}
    for picture, ways in figures.items():
        for way, measures in ways.items():
            shown = ", ".join(f"{name} {measures[name]:.2f}" for name in ("video/won", "all/won", "all/R@1"))
            print(f"picture and caption {picture}, {way}: {shown}")
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
