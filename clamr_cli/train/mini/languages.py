"""The heads of the multilingual text model, and what reads queries in other languages, in closed form.

The model's sentence vectors hold the meaning in any of 16 languages, and in a direction of their own the language.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save

from clamr_cli.encoders.mini.multilingual import MultilingualModel
from clamr_cli.encoders.mini.networks import LEXICAL, Array
from clamr_cli.encoders.mini.passages import PassageTokenizer
from clamr_cli.train.mini import data as files
from clamr_cli.train.mini.material import Examples, TextModel, fit, ridge_regression

CAPTIONS: Final = 5
"""Captions of an image that are read at most."""

_PARALLEL: Final = 1000
_NEWS: Final = 400
_SHORT: Final = 700
_WORDS: Final = 12_000
_STATE_RIDGE: Final = 0.02
_LANGUAGE_RIDGE: Final = 1e-3
_NEWTON_STEPS: Final = 30
_FEW_WORDS: Final = 4
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


def fit_translation(
    model: MultilingualModel,
    text_model: TextModel,
    data: Path,
    captions: Sequence[Sequence[str]],
    english: Mapping[str, Array],
) -> dict[str, Array]:
    """The tensors that only queries go through: the state of a query's translation, and who reads it.

    ``captions`` are those of :func:`fit_heads`, and ``english`` its tensors.
    """
    rows = _parallel(data, random.Random(11))
    texts = sorted({caption for each in captions for caption in each[:CAPTIONS]} | {row[0] for row in rows})
    texts += [word for word in model.frequencies.most_frequent(_WORDS) if word not in set(texts)]
    places = {text: place for place, text in enumerate(texts)}
    states = np.stack([features.mean for features in text_model.queries(texts)])
    inputs = np.concatenate([model.encode(texts), model.encode([text for row in rows for text in row[1:]])])
    targets = np.concatenate([states, *(states[[places[row[0]]] * len(row[1:])] for row in rows)])
    known = inputs.any(axis=1)
    inputs, targets = inputs[known], targets[known]
    centre, mean = inputs.mean(axis=0), targets.mean(axis=0)
    weight = ridge_regression(inputs - centre, targets - mean, _STATE_RIDGE)
    tensors = {"state.weight": weight.astype(np.float32), "state.bias": mean - centre @ weight}
    return tensors | _language(model, text_model.tokenizer, data, english)


def _language(
    model: MultilingualModel, tokenizer: PassageTokenizer, data: Path, english: Mapping[str, Array]
) -> dict[str, Array]:
    """A logistic regression of English on the sentence vector's score and on the dictionaries', of a few words each."""
    groups = []
    # Other texts than those that the sentence vector's score was fitted to: of those it is too sure.
    for texts in _texts(data, seed=12):
        short = [text for text in texts if len(text.split()) <= _FEW_WORDS]
        passages = [tokenizer.query(text) for text in short]
        scores = model.encode(short) @ english["english.weight"] + english["english.bias"]
        groups.append(
            np.array(
                [
                    (score, *model.frequencies.evidence(passage)[:2], 1.0)
                    for score, passage in zip(scores, passages, strict=True)
                    # The others are told by their letters.
                    if 2 * passage.known >= len(passage.words) > 0
                ]
            )
        )
    inputs = np.concatenate(groups)
    labels = np.repeat([1.0, 0.0], [len(group) for group in groups])
    shares = np.repeat([0.5 / len(group) for group in groups], [len(group) for group in groups])
    weights = np.zeros(inputs.shape[1])
    ridge = np.diag([_LANGUAGE_RIDGE] * (len(weights) - 1) + [0.0])
    for _ in range(_NEWTON_STEPS):
        likely = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (shares * (likely - labels)) + ridge @ weights
        curvature = (inputs * (shares * likely * (1 - likely))[:, None]).T @ inputs + ridge
        weights -= np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
    return {"language.weight": weights[:-1, None].astype(np.float32), "language.bias": weights[-1:].astype(np.float32)}


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


def _texts(data: Path, seed: int = 11) -> tuple[list[str], list[str]]:
    """English texts and others, each as a whole and as a few words; of held-out photos none."""
    rng = random.Random(seed)
    rows = _parallel(data, rng)
    english, other = [row[0] for row in rows], [text for row in rows for text in row[1:]]
    news = files.news(data)
    english += rng.sample(news[True], min(_NEWS, len(news[True])))
    other += rng.sample(news[False], min(_NEWS, len(news[False])))
    parts = ([files.fragment(rng, text, 1, 4) for text in texts] for texts in (english, other))
    short = [row["query"] for row in json.loads((data / "text/clamr_val_queries.json").read_text("utf-8")).values()]
    fragments, foreign = parts
    return [*english, *fragments, *(rng.sample(short, min(_SHORT, len(short))))], [*other, *foreign]


def _parallel(data: Path, rng: random.Random) -> list[tuple[str, ...]]:
    """English sentences with their German and French translations; of held-out photos none."""
    photos = files.photos(data)
    _, held_out = files.split_photos(photos)
    taken = {_plain(caption) for index in held_out for caption in photos[index].captions}
    parallel = []
    for language in ("en", "de", "fr"):
        with gzip.open(data / f"text/multi30k_train.{language}.gz", "rt", encoding="utf-8", errors="replace") as lines:
            parallel.append([line.strip() for line in lines])
    rows = [row for row in zip(*parallel, strict=True) if all(row) and _plain(row[0]) not in taken]
    return rng.sample(rows, min(_PARALLEL, len(rows)))


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
