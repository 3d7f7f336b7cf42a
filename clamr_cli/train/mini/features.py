"""What the recipe trains on: features of photos and texts from the frozen models, made once."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps

from clamr_cli.encoders.mini import frozen
from clamr_cli.encoders.mini.bert import Bert
from clamr_cli.encoders.mini.heads import CLASS_SHARE, SPELLING, PictureFeatures, unit
from clamr_cli.encoders.mini.passages import Reader
from clamr_cli.encoders.mini.pictures import Pictures
from clamr_cli.encoders.mini.spelling import spell
from clamr_cli.train.mini.compose import Entry, Photo, entries, labelled_photos, photos, split_entries, split_photos

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.encoders.mini.passages import Passage

    Array = NDArray[np.float32]

FOLDS: Final = 5
RIDGE: Final = 5.0
CLASS_PHOTO_WEIGHT: Final = 0.1
"""How much a photo that only has a class name counts against one with captions."""

MEAN_SHARE: Final = 0.5
"""Part of the captions' mean that is taken out of what the connector says, so that pictures differ by what differs."""

_CHUNK: Final = 64


@dataclass(frozen=True, slots=True)
class Read:
    """A passage: its words' unit states [n, 384] and spelling [n, 48], and its unit mean state [384]."""

    states: Array
    spelled: Array
    mean: Array


@dataclass(slots=True)
class Material:
    """Everything in memory; ``train``/``held`` are indices of photos, ``train_texts``/``held_texts`` of entries.

    ``labelled`` are indices of photos of single things, which the connector is not fitted to.

    ``seen`` are the photos' features, ``flipped`` pooled ones of their mirror images [photos, 1280]; ``class_photos``
    [1000, 1280] and ``classes`` [1000, 384] belong to ImageNet's classes; ``captions`` is [photos, 5, 384].
    """

    side: TextSide
    labelled: list[int]
    photos: list[Photo]
    train: list[int]
    held: list[int]
    entries: list[Entry]
    train_texts: list[int]
    held_texts: list[int]
    texts: list[list[Read]]
    queries: dict[str, Read]
    seen: PictureFeatures
    flipped: Array
    class_photos: Array
    classes: Array
    captions: Array


@dataclass(frozen=True, slots=True)
class Linear:
    """A ridge regression: [1280, 384] and [384]."""

    weight: Array
    bias: Array


class TextSide:
    """The frozen sentence model."""

    def __init__(self, cache: Path) -> None:
        folder = frozen.text_folder(cache)
        self._bert = Bert.load(folder / "model.safetensors")
        self._reader = Reader.load(folder / "tokenizer.json")

    def text(self, text: str) -> list[Passage]:
        """The passages of a text that have words."""
        return [passage for passage in self._reader.passages([text], across=False, limit=512) if passage.words]

    def query(self, text: str) -> Passage:
        """A query's one passage."""
        return self._reader.query(text)

    def read(self, passages: Sequence[Passage]) -> list[Read]:
        """Features of passages, in order."""
        found = []
        for passage, states in zip(passages, self._bert.encode([passage.ids for passage in passages]), strict=True):
            words = [states[word.first : word.first + word.count].mean(axis=0) for word in passage.words]
            rows = np.stack(words) if words else np.zeros((0, states.shape[1]), np.float32)
            spelled = spell([word.text for word in passage.words], SPELLING)
            found.append(Read(unit(rows), spelled, unit(states.mean(axis=0))))
        return found


def load(data: Path, cache: Path) -> Material:
    """Read the data folder and run the frozen models over it: minutes on two cores."""
    text = TextSide(cache)
    pictures = Pictures(frozen.picture_file(cache), device="auto", threads=0)
    described, things, all_entries = photos(data), labelled_photos(data), entries(data)
    all_photos = [*described, *things]
    passages = [text.text(entry.text) for entry in all_entries]
    read = iter(text.read([passage for one in passages for passage in one]))
    texts = [[next(read) for _ in one] for one in passages]
    asked = sorted({query for entry in all_entries for query in entry.queries} | _asked_of(all_photos))
    queries = dict(zip(asked, text.read([text.query(query) for query in asked]), strict=True))
    folder = data / "train/flickr8k_1k/images"
    jpegs = [(folder / photo.name).read_bytes() for photo in described]
    others = [(data / photo.name).read_bytes() for photo in things]
    samples = sorted((data / "train/imagenet_sample").glob("*.jpg"))
    names = [sample.stem.partition("_")[2].replace("_", " ") for sample in samples]
    train, held = split_photos(described)
    usable = [bool(one) for one in texts]
    train_texts, held_texts = ([i for i in part if usable[i]] for part in split_entries(all_entries))
    return Material(
        side=text,
        labelled=list(range(len(described), len(all_photos))),
        photos=all_photos,
        train=train,
        held=held,
        entries=all_entries,
        train_texts=train_texts,
        held_texts=held_texts,
        texts=texts,
        queries=queries,
        seen=_features(pictures, jpegs + others),
        flipped=_features(pictures, [_flip(jpeg) for jpeg in jpegs]).pooled,
        class_photos=_features(pictures, [sample.read_bytes() for sample in samples]).pooled,
        classes=np.stack([one.mean for one in text.read([text.query(name) for name in names])]),
        captions=np.stack([[queries[caption].mean for caption in photo.captions] for photo in all_photos]),
    )


def _asked_of(all_photos: Sequence[Photo]) -> set[str]:
    return {query for photo in all_photos for query in (*photo.captions, *photo.pieces)}


def _features(pictures: Pictures, jpegs: Sequence[bytes]) -> PictureFeatures:
    """Features of many pictures, some at a time, so that few are decoded at once."""
    parts = [pictures.features(jpegs[start : start + _CHUNK]) for start in range(0, len(jpegs), _CHUNK)]
    fields = ("pooled", "regions", "probabilities")
    return PictureFeatures(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def _flip(jpeg: bytes) -> bytes:
    buffer = io.BytesIO()
    ImageOps.mirror(Image.open(io.BytesIO(jpeg)).convert("RGB")).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def fit(material: Material, ids: Sequence[int]) -> Linear:
    """Ridge regression from pooled features to the mean caption, with class names of other photos as extra."""
    targets = material.captions.mean(axis=1)
    inputs = np.concatenate([material.seen.pooled[ids], material.flipped[ids], material.class_photos])
    outputs = np.concatenate([targets[ids], targets[ids], material.classes])
    share = np.concatenate([np.ones(2 * len(ids)), np.full(len(material.class_photos), CLASS_PHOTO_WEIGHT)])
    share /= share.mean()
    inputs_mean, outputs_mean = (np.average(each, axis=0, weights=share) for each in (inputs, outputs))
    centred = (inputs - inputs_mean) * np.sqrt(share)[:, None]
    products = centred.T @ centred
    products[np.diag_indices_from(products)] += RIDGE * np.trace(products) / len(products)
    weight = np.linalg.solve(products, centred.T @ ((outputs - outputs_mean) * np.sqrt(share)[:, None]))
    bias = outputs_mean - inputs_mean @ weight - MEAN_SHARE * targets[material.train].mean(axis=0)
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


def apply(material: Material, connector: Linear, ids: Sequence[int]) -> Array:
    """What the picture head gets: [n, 11, 384] of the whole, the classes and the regions, as the encoder makes them."""
    everything = np.concatenate([material.seen.pooled[ids][:, None], material.seen.regions[ids]], axis=1)
    classes = unit(material.seen.probabilities[ids] @ material.classes)
    seen = unit(everything @ connector.weight + connector.bias + np.float32(CLASS_SHARE) * classes)
    return np.concatenate([seen[:, :1], classes[:, :1], seen[:, 1:]], axis=1)


def unseen(material: Material) -> tuple[Array, Linear]:
    """Picture inputs of all photos, each from a connector that was not trained on it, and the final connector.

    A connector knows its own training photos too well; gates trained on those would trust pictures too much.
    """
    ids = random.Random(0).sample(material.train, len(material.train))
    final = fit(material, ids)
    per_photo = 2 + material.seen.regions.shape[1]
    inputs = np.zeros((len(material.photos), per_photo, material.captions.shape[2]), np.float32)
    unfitted = [*material.held, *material.labelled]
    inputs[unfitted] = apply(material, final, unfitted)
    for fold in range(FOLDS):
        out = ids[fold::FOLDS]
        inputs[out] = apply(material, fit(material, sorted({*ids} - {*out})), out)
    return inputs, final
