from __future__ import annotations

import csv
import gzip
import json
import zlib
from pathlib import Path

import marisa_trie
import numpy as np
import pytest
from safetensors.numpy import load

from clamr_cli.encoders.mini.multilingual import WIDTH, MultilingualHeads, WordFrequencies
from clamr_cli.encoders.mini.networks import ImageFeatures, unit
from clamr_cli.encoders.mini.passages import Passage, PassageWord
from clamr_cli.train.mini import languages
from clamr_cli.train.mini.material import Examples, PassageFeatures

THINGS = [f"thing{number}" for number in range(60)]
MARKS = {"en": "the", "de": "das", "fr": "le"}


def direction(text: str) -> np.ndarray:
    return unit(np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH).astype(np.float32))


class FakeModel:
    """A sentence is the sum of its things, whose names are the same everywhere, and of its language."""

    def __init__(self) -> None:
        words = marisa_trie.Trie(["the", "das"])
        levels = np.zeros((2, 7), np.uint8)
        levels[words["the"], 0], levels[words["das"], 1] = 100, 100
        self.frequencies = WordFrequencies(words, levels)

    def encode(self, texts: list[str]) -> np.ndarray:
        return unit(np.stack([sum(self._word(word) for word in text.split()) for text in texts]))

    def _word(self, word: str) -> np.ndarray:
        return 0.5 * direction(word) if word in MARKS.values() else direction(word)


class FakeTextModel:
    """The state of an English text: the sum of its things, in another space."""

    class _Tokenizer:
        def query(self, text: str) -> Passage:
            return Passage([], [PassageWord(0, 0, len(word), word, 1, 1, 7) for word in text.split()])

    tokenizer = _Tokenizer()

    def queries(self, texts: list[str]) -> list[PassageFeatures]:
        empty = np.zeros((0, 384), np.float32)
        return [PassageFeatures(empty, empty, self.mean(text)) for text in texts]

    def mean(self, text: str) -> np.ndarray:
        return unit(sum(direction(f"state of {word}")[:384] for word in text.split()))


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
    captions = [(f"the {text}",) for text in shown]
    translation = languages.fit_translation(model, FakeTextModel(), data, captions, tensors)
    heads = MultilingualHeads({**load(languages.heads_file(tensors)), **load(languages.heads_file(translation))})
    queries = np.stack([heads.query(vector) for vector in model.encode([f"das {text}" for text in shown])])
    answers = heads.pictures(ImageFeatures(inputs[:, None], np.zeros((200, 1, 1000), np.float32)))
    spoken = heads.passages(model.encode([f"the {text}" for text in shown]))
    for vectors in (answers, spoken):
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        assert ((queries @ vectors.T).argmax(axis=1) == np.arange(200)).mean() > 0.8
    states = np.stack([heads.state(vector) for vector in model.encode([f"das {text}" for text in shown])])
    wanted = np.stack([FakeTextModel().mean(f"the {text}") for text in shown])
    assert ((unit(states) @ wanted.T).argmax(axis=1) == np.arange(200)).mean() > 0.8
    texts = ("the thing3 thing4", "das thing3 thing4")
    passages = [FakeTextModel.tokenizer.query(text) for text in texts]
    english, other = (
        heads.english(vector, passage, model.frequencies)
        for vector, passage in zip(model.encode(list(texts)), passages, strict=True)
    )
    assert english > 0 > other
    unknown = Passage([], [PassageWord(0, 0, 5, "thing", 1, 0, -1)])
    assert heads.english(model.encode(["the thing3"])[0], unknown, model.frequencies) < 0
