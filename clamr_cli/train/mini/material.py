"""What the recipe trains on, made once: pictures and texts as the frozen models see them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps

from clamr_cli.encoders.mini import frozen
from clamr_cli.encoders.mini.pictures import Pictures
from clamr_cli.train.mini.connector import ALWAYS, Linear, Sample, unseen
from clamr_cli.train.mini.features import Read, TextSide, see
from clamr_cli.train.mini.gallery import DRAWN, PHOTOS, STYLED, THINGS, Gallery, gallery
from clamr_cli.train.mini.imagined import imagine
from clamr_cli.train.mini.made import jpeg_of
from clamr_cli.train.mini.texts import Entry, entries, split_entries
from clamr_cli.train.options import TrainNote

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.encoders.mini.heads import PictureFeatures
    from clamr_cli.train.mini.photos import Photo

    Array = NDArray[np.float32]

_COUNT: Final = {PHOTOS: 1.0, STYLED: 0.2, DRAWN: 0.2, THINGS: 0.1}
"""How much one picture of a group counts when the connector is fitted."""

_CLASS_COUNT: Final = 0.1
"""The same for a photo that only has the name of its class."""


@dataclass(slots=True)
class Material:
    """Everything in memory.

    Attributes:
        side: the frozen sentence model.
        pictures: all pictures.
        rows: [pictures, 11, 384], what a connector that does not know each says of it.
        groups: indices of the pictures to train on, by the names of :mod:`.gallery`.
        connector: fitted to everything that is not held out.
        classes: [1000, 384], sentence vectors of ImageNet's classes.
        entries: texts; ``train_texts`` are indices of those to train on, ``texts`` their passages.
        queries: all captions, pieces and queries, read.
    """

    side: TextSide
    pictures: list[Photo]
    rows: Array
    groups: dict[str, list[int]]
    connector: Linear
    classes: Array
    entries: list[Entry]
    train_texts: list[int]
    texts: list[list[Read]]
    queries: dict[str, Read]


def load(data: Path, cache: Path) -> Generator[TrainNote, None, Material]:
    """Read the data folder and run the frozen models over it: minutes on two cores.

    Yields:
        What is being done.
    """
    yield TrainNote("making pictures of pictures")
    shown, pool, side = gallery(data), entries(data), TextSide(cache)
    samples = sorted((data / "train/imagenet_sample").glob("*.jpg"))
    yield TrainNote(f"reading {len(pool):,} texts and what asks for them and for {len(shown.pictures):,} pictures")
    texts, queries = _read(side, pool, shown)
    names = [sample.stem.partition("_")[2].replace("_", " ") for sample in samples]
    classes = np.stack([one.mean for one in side.read([side.query(name) for name in names])])
    eye = Pictures(frozen.picture_file(cache), device="auto", threads=0)
    seen = yield from see(eye, shown.jpegs, "pictures")
    mirrored = yield from see(eye, [_mirror(shown.jpegs[index]) for index in shown.groups[PHOTOS]], "mirrored photos")
    named = yield from see(eye, [sample.read_bytes() for sample in samples], "photos of classes")
    said = np.stack([_mean(queries, picture.captions) for picture in shown.pictures[: len(shown.jpegs)]])
    fitted = _samples(shown, seen, mirrored, said)
    fitted.append(Sample(named.inputs()[:, 0], classes, np.full(len(samples), ALWAYS), _CLASS_COUNT))
    rows, connector = unseen(fitted, said[shown.groups[PHOTOS]].mean(axis=0), seen, shown.folds, classes)
    known = [*shown.groups[PHOTOS], *shown.groups[STYLED]]
    scenes = np.stack([_mean(queries, captions) for captions in shown.imagined])
    return Material(
        side=side,
        pictures=shown.pictures,
        rows=np.concatenate([rows, imagine(rows[known], said[known], scenes, seed=0)]),
        groups=shown.groups,
        connector=connector,
        classes=classes,
        entries=pool,
        train_texts=[index for index in split_entries(pool)[0] if texts[index]],
        texts=texts,
        queries=queries,
    )


def _read(side: TextSide, pool: Sequence[Entry], shown: Gallery) -> tuple[list[list[Read]], dict[str, Read]]:
    """The passages of all texts, and everything that asks for a text or says something of a picture."""
    passages = [side.text(entry.text) for entry in pool]
    read = iter(side.read([passage for one in passages for passage in one]))
    texts = [[next(read) for _ in one] for one in passages]
    asked = {query for entry in pool for query in entry.queries}
    asked |= {query for picture in shown.pictures for query in (*picture.captions, *picture.pieces)}
    asked |= {caption for captions in shown.imagined for caption in captions}
    ordered = sorted(asked)
    return texts, dict(zip(ordered, side.read([side.query(query) for query in ordered]), strict=True))


def _samples(shown: Gallery, seen: PictureFeatures, mirrored: PictureFeatures, said: Array) -> list[Sample]:
    """What connectors are fitted to, by group."""
    inputs, photos = seen.inputs()[:, 0], shown.groups[PHOTOS]
    samples = [
        Sample(inputs[ids], said[ids], shown.folds[ids], count)
        for ids, count in ((shown.groups[name], count) for name, count in _COUNT.items())
    ]
    return [*samples, Sample(mirrored.inputs()[:, 0], said[photos], shown.folds[photos], _COUNT[PHOTOS])]


def _mean(queries: Mapping[str, Read], captions: Iterable[str]) -> Array:
    """What captions say together, [384]."""
    mean: Array = np.mean([queries[caption].mean for caption in captions], axis=0)
    return mean


def _mirror(jpeg: bytes) -> bytes:
    return jpeg_of(np.asarray(ImageOps.mirror(Image.open(io.BytesIO(jpeg)).convert("RGB"))))
