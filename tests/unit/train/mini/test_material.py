from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from clamr_cli.encoders.mini.networks import ImageFeatures
from clamr_cli.train.mini import material
from clamr_cli.train.mini.material import PassageFeatures
from clamr_cli.train.run import TrainNote

Result = TypeVar("Result")


class CountingModel:
    """Says how long an image is, and a text with a vector for each word; ``calls`` says how often."""

    def __init__(self) -> None:
        self.calls = 0

    def image_features(self, jpegs: Sequence[bytes]) -> ImageFeatures:
        self.calls += 1
        sizes = np.array([len(jpeg) for jpeg in jpegs], dtype=np.float32)[:, None, None]
        return ImageFeatures(sizes, sizes / 1000)

    def queries(self, texts: Sequence[str]) -> list[PassageFeatures]:
        self.calls += 1
        rows = [np.full((len(text.split()), 4), len(text), np.float32) for text in texts]
        return [PassageFeatures(part, part[:, :2], np.full(4, len(part), np.float32)) for part in rows]


def finished(reading: Generator[TrainNote, None, Result]) -> tuple[Result, list[TrainNote]]:
    notes = []
    while True:
        try:
            notes.append(next(reading))
        except StopIteration as end:
            return end.value, notes


def test_features_of_images_are_read_from_the_cache(tmp_path: Path) -> None:
    jpegs, model = [b"x" * number for number in range(1, 101)], CountingModel()

    def read(images: Sequence[bytes]) -> tuple[ImageFeatures, list[TrainNote]]:
        return finished(material._image_features(model, images, tmp_path, "images"))

    first, notes = read(jpegs)
    assert notes == [TrainNote("encoding images", 0, 100), TrainNote("encoding images", 64, 100)]
    again, _ = read(jpegs)
    assert model.calls == 2
    assert first.inputs[:, 0, 0].tolist() == list(range(1, 101))
    assert first.inputs.tobytes() == again.inputs.tobytes()
    assert first.probabilities.dtype == again.probabilities.dtype == np.float32
    # Other images are encoded, and a damaged file is made anew.
    read([b"other", *jpegs[1:]])
    assert model.calls == 3
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    repaired, _ = read(jpegs)
    assert model.calls == 5
    assert repaired.inputs.tobytes() == first.inputs.tobytes()


def test_features_of_texts_are_read_from_the_cache(tmp_path: Path) -> None:
    texts, model = ["a dog runs", "", "two  words", "?"], CountingModel()
    first, again = (finished(material._text_features(model.queries, texts, tmp_path, "captions"))[0] for _ in range(2))
    assert model.calls == 1
    assert [part.states.shape for part in first] == [(3, 4), (0, 4), (2, 4), (1, 4)]
    for each, expected in zip(zip(first, again, strict=True), CountingModel().queries(texts), strict=True):
        for read in each:
            for part, whole in zip(read, expected, strict=True):
                np.testing.assert_array_equal(part, whole)
    finished(material._text_features(model.queries, texts[::-1], tmp_path, "captions"))
    assert model.calls == 2
