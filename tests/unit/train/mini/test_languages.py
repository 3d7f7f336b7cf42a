from __future__ import annotations

import csv
import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from clamr_cli.encoders.mini.multilingual import WIDTH, MultilingualHeads
from clamr_cli.encoders.mini.networks import ImageFeatures, unit
from clamr_cli.encoders.mini.passages import Passage, PassageWord
from clamr_cli.train.mini import languages
from clamr_cli.train.mini.material import Examples

THINGS = [f"thing{number}" for number in range(60)]
MARKS = {"en": "the", "de": "das", "fr": "le"}


def direction(text: str) -> np.ndarray:
    return unit(np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH).astype(np.float32))


class FakeModel:
    """A sentence is the sum of its things, whose names are the same everywhere, and of its language."""

    def encode(self, texts: list[str]) -> np.ndarray:
        return unit(np.stack([sum(self._word(word) for word in text.split()) for text in texts]))

    def _word(self, word: str) -> np.ndarray:
        return 0.5 * direction(word) if word in MARKS.values() else direction(word)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "text").mkdir()
    (tmp_path / "train/flickr8k_1k").mkdir(parents=True)
    sentences = [" ".join(rng.choice(THINGS, 3)) for _ in range(300)]
    for language, mark in MARKS.items():
        with gzip.open(tmp_path / f"text/multi30k_train.{language}.gz", "wt") as file:
            file.write("\n".join(f"{mark} {sentence}" for sentence in sentences))
    with (tmp_path / "text/multivent1_base.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["language", "video_description"])
        rows.writerows([(name, f"{mark} thing1") for name, mark in (("english", "the"), ("russian", "das"))])
    with (tmp_path / "train/flickr8k_1k/captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *((f"{n}.jpg", f"the thing{n}") for n in range(10))])
    (tmp_path / "text/clamr_val_queries.json").write_text(json.dumps({"1": {"query": "the thing2"}}))
    return tmp_path


@pytest.mark.slow
def test_pictures_and_passages_are_found_in_any_language(data: Path) -> None:
    model, rng = FakeModel(), np.random.default_rng(1)
    shown = [" ".join(rng.choice(THINGS, 2, replace=False)) for _ in range(200)]
    names = model.encode(shown)
    inputs = (names @ rng.normal(size=(WIDTH, 150))).astype(np.float32)
    scale, folds = np.ones(150, np.float32), np.zeros(200, np.int64)
    examples = Examples(inputs, np.zeros((200, 1)), folds, np.ones(200), scale, ridge=0.01)
    tensors = languages.fit_heads(model, data, examples, [(f"the {text}", text) for text in shown])
    heads = MultilingualHeads(load(languages.heads_file(tensors)))
    queries = np.stack([heads.query(vector) for vector in model.encode([f"das {text}" for text in shown])])
    answers = heads.pictures(ImageFeatures(inputs[:, None], np.zeros((200, 1, 1000), np.float32)))
    spoken = heads.passages(model.encode([f"the {text}" for text in shown]))
    for vectors in (answers, spoken):
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        assert ((queries @ vectors.T).argmax(axis=1) == np.arange(200)).mean() > 0.8
    word = Passage([], [PassageWord(0, 0, 5, "thing", 1, 1, 7)])
    english, other = model.encode(["the thing3 thing4", "das thing3 thing4"])
    assert heads.english(english, word) > 0 > heads.english(other, word)
    unknown = Passage([], [PassageWord(0, 0, 5, "thing", 1, 0, -1)])
    assert heads.english(english, unknown) < 0
