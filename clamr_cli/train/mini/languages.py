"""The heads of the multilingual text model, in closed form: a map of sentences, one of pictures, and who reads English.

Its sentence vectors hold the meaning in any of 16 languages, and in a direction of their own the language itself.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save

from clamr_cli.encoders.mini.multilingual import MultilingualModel
from clamr_cli.encoders.mini.networks import LEXICAL, Array
from clamr_cli.train.mini import data as files
from clamr_cli.train.mini.material import Examples, fit, ridge_regression

CAPTIONS: Final = 5
"""Captions of an image that are read at most."""

_PARALLEL: Final = 1000
_NEWS: Final = 400
_SHORT: Final = 700
_ENGLISH_RIDGE: Final = 0.05
_ENGLISH_MARGIN: Final = 0.9
"""A query is taken for English unless another language is likely: names and numbers are of no language. English words
are 1.2 pieces on average, which takes 0.6 of it."""


def fit_heads(
    model: MultilingualModel, data: Path, examples: Examples, captions: Sequence[Sequence[str]]
) -> dict[str, Array]:
    """The tensors of :class:`clamr_cli.encoders.mini.multilingual.MultilingualHeads`.

    ``captions`` are those of each of the examples, whose own targets are not looked at.
    """
    strings = sorted({caption for each in captions for caption in each[:CAPTIONS]})
    vectors = dict(zip(strings, model.encode(strings), strict=True))
    targets = np.stack([np.mean([vectors[caption] for caption in each[:CAPTIONS]], axis=0) for each in captions])
    english, other = _texts(data)
    known, foreign = model.encode(english), model.encode(other)
    known, foreign = known[known.any(axis=1)], foreign[foreign.any(axis=1)]
    sentences = np.concatenate([np.stack(list(vectors.values())), known, foreign])
    centre = sentences.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov((sentences - centre).T))
    # Principal directions: differences between languages are small beside those of meaning.
    weight = directions[:, ::-1][:, :LEXICAL].astype(np.float32)
    photos = examples.weights == examples.weights.max()
    connector = fit(replace(examples, targets=targets), targets[photos].mean(axis=0))
    tensors = {"sentence.weight": weight, "sentence.bias": -centre @ weight}
    tensors |= {"picture.weight": connector.weight @ weight, "picture.bias": (connector.bias - 0.5 * centre) @ weight}
    return tensors | _english(known, foreign)


def heads_file(tensors: dict[str, Array]) -> bytes:
    """The tensors in float16, as the encoder reads them."""
    content: bytes = save({name: np.ascontiguousarray(tensors[name], dtype=np.float16) for name in sorted(tensors)})
    return content


def _english(known: Array, foreign: Array) -> dict[str, Array]:
    """A direction and a bias whose sum is positive for English."""
    inputs = np.concatenate([known, foreign])
    counts = np.repeat([0.5 / len(known), 0.5 / len(foreign)], [len(known), len(foreign)])
    labels = np.repeat([1.0, -1.0], [len(known), len(foreign)])
    centre = counts @ inputs
    scale = np.sqrt(counts * len(inputs))[:, None]
    weight = ridge_regression((inputs - centre) * scale, labels[:, None] * scale, _ENGLISH_RIDGE)[:, 0]
    bias = np.array([_ENGLISH_MARGIN - centre @ weight])
    return {"english.weight": weight.astype(np.float32), "english.bias": bias.astype(np.float32)}


def _texts(data: Path) -> tuple[list[str], list[str]]:
    """English texts and others, each as a whole and as a few words; of held-out photos none."""
    rng = random.Random(11)
    photos = files.photos(data)
    _, held_out = files.split_photos(photos)
    taken = {_plain(caption) for index in held_out for caption in photos[index].captions}
    parallel = []
    for language in ("en", "de", "fr"):
        with gzip.open(data / f"text/multi30k_train.{language}.gz", "rt", encoding="utf-8", errors="replace") as lines:
            parallel.append([line.strip() for line in lines])
    rows = [row for row in zip(*parallel, strict=True) if all(row) and _plain(row[0]) not in taken]
    rows = rng.sample(rows, min(_PARALLEL, len(rows)))
    english, other = [row[0] for row in rows], [text for row in rows for text in row[1:]]
    news = files.news(data)
    english += rng.sample(news[True], min(_NEWS, len(news[True])))
    other += rng.sample(news[False], min(_NEWS, len(news[False])))
    parts = ([files.fragment(rng, text, 1, 4) for text in texts] for texts in (english, other))
    short = [row["query"] for row in json.loads((data / "text/clamr_val_queries.json").read_text("utf-8")).values()]
    fragments, foreign = parts
    return [*english, *fragments, *short[:_SHORT]], [*other, *foreign]


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
