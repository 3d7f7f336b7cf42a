"""The training material of the recipe: features of images and texts, and the connector fitted to them.

The connector is a ridge regression from features of an image to the sentence vectors of its captions.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageOps

from clamr_cli.encoders.mini.encoder import Backbones
from clamr_cli.encoders.mini.heads import CLASS_SHARE, LEXICAL, ImageFeatures, unit
from clamr_cli.encoders.mini.lexical import lexical_vectors
from clamr_cli.train.mini import data as files
from clamr_cli.train.mini.data import CaptionedImage, Entry
from clamr_cli.train.mini.synthetic_images import encode_jpeg, generate, restyle
from clamr_cli.train.options import TrainNote

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.encoders.mini.passages import Passage

    Array = NDArray[np.float32]
    Ids = NDArray[np.int64]

PHOTOS, THINGS, STYLED, GENERATED, PSEUDO = "photos", "things", "styled", "generated", "pseudo"
"""Groups of images: photos with captions, photos of single things, photos in other styles, images generated without any
photo, and pseudo-images: scenes that are only described."""

FOLDS: Final = 5
ANY_FOLD: Final = -1
"""The fold of images that every connector is fitted to."""

HELD_OUT_FOLD: Final = -2
"""The fold of images that no connector is fitted to."""

MEAN_SHARE: Final = 0.5
"""Part of the captions' mean that is subtracted from the connector's output, so that it tells images apart."""

_RIDGE: Final = 2.0
_PSEUDO_RIDGE: Final = 20.0
_NEAREST_PHOTOS: Final = 20
"""Photos from which the residual of a pseudo-image is chosen."""

_STYLES_PER_PHOTO: Final = 2
_GENERATED_IMAGES: Final = 900
_WEIGHTS: Final = {PHOTOS: 1.0, STYLED: 0.2, GENERATED: 0.2, THINGS: 0.1}
"""Weight of one image of a group when the connector is fitted."""

_CLASS_WEIGHT: Final = 0.1
"""Weight of a photo that has only the name of its class."""

_CHUNK: Final = 64
_CHUNKS_PER_NOTE: Final = 20


@dataclass(frozen=True, slots=True)
class PassageFeatures:
    """A passage: unit states [n, 384] and spelling [n, 48] of its words that the model knows, its unit mean [384]."""

    states: Array
    spelled: Array
    mean: Array


class TextModel:
    """The frozen sentence model."""

    def __init__(self, cache: Path) -> None:
        self.backbones = Backbones(cache, device="auto", threads=0)

    def text(self, text: str) -> list[Passage]:
        """The passages of a text that have words which the model knows."""
        return [
            passage for passage in self.backbones.tokenizer.passages([text], across=False, limit=512) if passage.known
        ]

    def query(self, text: str) -> Passage:
        """The one passage of a query."""
        return self.backbones.tokenizer.query(text)

    def encode(self, passages: Sequence[Passage]) -> list[PassageFeatures]:
        """Features of passages, in order."""
        features = []
        for passage, states in zip(
            passages, self.backbones.bert.encode([passage.ids for passage in passages]), strict=True
        ):
            known = [word for word in passage.words if word.count]
            words = [states[word.first : word.first + word.count].mean(axis=0) for word in known]
            rows = np.stack(words) if words else np.zeros((0, states.shape[1]), np.float32)
            spelled = lexical_vectors([word.text for word in known], LEXICAL)
            features.append(PassageFeatures(unit(rows), spelled, unit(states.mean(axis=0))))
        return features


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """The images of a data folder and those generated from them.

    Attributes:
        images: all of them; held-out photos are among them, in no group.
        jpegs: of the first ones: all but the pseudo-images, which are last.
        groups: indices of the images to train on, by name.
        folds: [jpegs], of each the fold whose connector is not fitted to it; :data:`HELD_OUT_FOLD` for none at all.
        descriptions: captions that describe each pseudo-image; its own captions are queries for it.
    """

    images: list[CaptionedImage]
    jpegs: list[bytes]
    groups: dict[str, list[int]]
    folds: Ids
    descriptions: list[tuple[str, ...]]


def read_images(data: Path) -> Images:
    """The images of a data folder and those generated from them, the same each time."""
    rng = random.Random(7)
    photos, things, scenes = files.photos(data), files.photos_of_things(data), files.scenes(data)
    train, _ = files.split_photos(photos)
    jpegs = [(data / "train/flickr8k_1k/images" / photo.name).read_bytes() for photo in photos]
    originals = [index for index in train for _ in range(_STYLES_PER_PHOTO)]
    styled = [restyle(jpegs[index], photos[index].captions, rng) for index in originals]
    generated = [generate(rng) for _ in range(_GENERATED_IMAGES)]
    parts: dict[str, list[CaptionedImage]] = {
        PHOTOS: photos,
        THINGS: things,
        # Under the name of the photo: the two are never in one batch.
        STYLED: [
            files.with_pieces(photos[index].name, image.captions, rng)
            for index, image in zip(originals, styled, strict=True)
        ],
        GENERATED: [
            CaptionedImage(f"generated {number}", image.captions, image.captions)
            for number, image in enumerate(generated)
        ],
        PSEUDO: [files.with_pieces(f"scene {number}", queries, rng) for number, (_, queries) in enumerate(scenes)],
    }
    groups, start = {}, 0
    for name, members in parts.items():
        groups[name] = list(range(start, start + len(members)))
        start += len(members)
    photo_folds = np.full(len(photos), HELD_OUT_FOLD)
    photo_folds[rng.sample(train, len(train))] = np.arange(len(train)) % FOLDS
    groups[PHOTOS] = train
    # All photos of one kind of thing are in one fold.
    kinds = {captions: number % FOLDS for number, captions in enumerate(sorted({thing.captions for thing in things}))}
    thing_folds = np.array([kinds[thing.captions] for thing in things], dtype=np.int64)
    return Images(
        images=[image for members in parts.values() for image in members],
        jpegs=[
            *jpegs,
            *((data / thing.name).read_bytes() for thing in things),
            *(image.jpeg for image in (*styled, *generated)),
        ],
        groups=groups,
        folds=np.concatenate([photo_folds, thing_folds, photo_folds[originals], np.arange(len(generated)) % FOLDS]),
        descriptions=[description for description, _ in scenes],
    )


@dataclass(frozen=True, slots=True)
class Connector:
    """A ridge regression: [1306, 384] and [384]."""

    weight: Array
    bias: Array

    def apply(self, features: ImageFeatures, classes: Array) -> Array:
        """Input of the image head: [n, 11, 384] of the whole, the classes and the regions, as the encoder makes it.

        Args:
            features: of n images.
            classes: [1000, 384], sentence vectors of the classes' names.
        """
        named = unit(features.probabilities @ classes)
        whole = unit(features.inputs() @ self.weight + self.bias + np.float32(CLASS_SHARE) * named)
        rows: Array = np.concatenate([whole[:, :1], named[:, :1], whole[:, 1:]], axis=1)
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Images to fit a connector to.

    Attributes:
        inputs: [n, 1306], the whole images' :meth:`ImageFeatures.inputs`.
        targets: [n, 384], the mean of each image's captions.
        folds: [n], of each the fold whose connector is not fitted to it, or :data:`ANY_FOLD` or :data:`HELD_OUT_FOLD`.
        weight: of one image.
    """

    inputs: Array
    targets: Array
    folds: Ids
    weight: float


def fit(samples: Sequence[Sample], mean: Array, without: int | None = None) -> Connector:
    """Fit a connector to everything but held-out images and those of one fold.

    Args:
        samples: images to fit to.
        mean: [384], of the captions; :data:`MEAN_SHARE` of it is subtracted.
        without: the fold to leave out.
    """
    rows = [np.flatnonzero((one.folds != HELD_OUT_FOLD) & (one.folds != without)) for one in samples]
    inputs = np.concatenate([one.inputs[ids] for one, ids in zip(samples, rows, strict=True)])
    targets = np.concatenate([one.targets[ids] for one, ids in zip(samples, rows, strict=True)])
    weights = np.concatenate([np.full(len(ids), one.weight) for one, ids in zip(samples, rows, strict=True)])
    weights /= weights.mean()
    inputs_mean, targets_mean = (np.average(each, axis=0, weights=weights) for each in (inputs, targets))
    scale = np.sqrt(weights)[:, None]
    weight = _ridge_regression((inputs - inputs_mean) * scale, (targets - targets_mean) * scale, _RIDGE)
    bias = targets_mean - inputs_mean @ weight - MEAN_SHARE * mean
    return Connector(weight.astype(np.float32), bias.astype(np.float32))


def cross_fit(
    samples: Sequence[Sample], mean: Array, features: ImageFeatures, folds: Ids, classes: Array
) -> tuple[Array, Connector]:
    """Rows of all images, each from a connector not fitted to it, and the connector fitted to all but held-out images.

    A connector fits its own images too well: gates trained on those rows would trust images too much.

    Args:
        samples: images to fit to.
        mean: see :func:`fit`.
        features: of n images.
        folds: [n], of each the fold that leaves it out, or :data:`HELD_OUT_FOLD`.
        classes: see :meth:`Connector.apply`.
    """
    final = fit(samples, mean)
    rows = np.zeros((len(features), features.inputs().shape[1] + 1, classes.shape[1]), np.float32)
    for fold in np.unique(folds).tolist():
        members = np.flatnonzero(folds == fold)
        connector = final if fold < 0 else fit(samples, mean, without=fold)
        rows[members] = connector.apply(features.take(members), classes)
    return rows, final


def pseudo_images(rows: Array, captions: Array, scenes: Array, seed: int) -> Array:
    """Rows of images for scenes that are only described, as a connector could have computed them.

    A few hundred photos are too few to learn which words an image answers, but captions describe many more scenes. The
    rows of a photo are predicted from its captions by a linear map, with a residual; a scene gets the map's prediction
    and the residual of a photo with similar captions. Text in place of images as in Gu et al., "I Can't Believe There's
    No Images!" (arXiv 2211.09778) and Nukrai et al., "Text-Only Training for Image Captioning using Noise-Injected
    CLIP" (arXiv 2211.00575), with real residuals instead of noise.

    Args:
        rows: [photos, 11, 384], from connectors that were not fitted to them.
        captions: [photos, 384], the mean of each photo's captions.
        scenes: [scenes, 384], the mean of each scene's captions.
        seed: of the choice of residuals.

    Returns:
        [scenes, 11, 384], of unit length.
    """
    centre = captions.mean(axis=0)
    centred = captions - centre
    flat = rows.reshape(len(rows), -1)
    weight = _ridge_regression(centred, flat - flat.mean(axis=0), _PSEUDO_RIDGE)
    residuals = flat - flat.mean(axis=0) - centred @ weight
    predicted = (scenes - centre) @ weight + flat.mean(axis=0)
    nearest = np.argsort(-unit(scenes) @ unit(captions).T, axis=1)[:, : min(_NEAREST_PHOTOS, len(rows))]
    choice = np.random.default_rng(seed).integers(0, nearest.shape[1], len(scenes))
    chosen = residuals[nearest[np.arange(len(scenes)), choice]]
    return unit((predicted + chosen).reshape(len(scenes), *rows.shape[1:])).astype(np.float32)


def _ridge_regression(inputs: Array, targets: Array, strength: float) -> Array:
    """Weights of a linear map between centred arrays; ``strength`` is relative to the inputs' mean variance."""
    products = inputs.T @ inputs
    products[np.diag_indices_from(products)] += strength * np.trace(products) / len(products)
    weight: Array = np.linalg.solve(products, inputs.T @ targets)
    return weight


@dataclass(slots=True)
class Material:
    """Everything that the recipe is trained on, in memory.

    Attributes:
        text_model: the frozen sentence model.
        images: all images.
        rows: [images, 11, 384], from connectors not fitted to each.
        groups: indices of the images to train on, by the names of groups.
        connector: fitted to everything that is not held out.
        classes: [1000, 384], sentence vectors of ImageNet's classes.
        entries: all texts.
        train_texts: indices of the texts to train on.
        texts: features of the passages of all texts.
        queries: features of all captions, pieces and queries.
    """

    text_model: TextModel
    images: list[CaptionedImage]
    rows: Array
    groups: dict[str, list[int]]
    connector: Connector
    classes: Array
    entries: list[Entry]
    train_texts: list[int]
    texts: list[list[PassageFeatures]]
    queries: dict[str, PassageFeatures]


def load(data: Path, cache: Path) -> Generator[TrainNote, None, Material]:
    """Read the data folder and run the frozen models over it, which takes minutes on two cores.

    Yields:
        Progress.
    """
    yield TrainNote("generating images")
    images, entries, text_model = read_images(data), files.entries(data), TextModel(cache)
    samples = sorted((data / "train/imagenet_sample").glob("*.jpg"))
    yield TrainNote(f"encoding {len(entries):,} texts, their queries and the captions of {len(images.images):,} images")
    passages = [text_model.text(entry.text) for entry in entries]
    features = iter(text_model.encode([passage for part in passages for passage in part]))
    texts = [[next(features) for _ in part] for part in passages]
    strings = {query for entry in entries for query in entry.queries}
    strings |= {string for image in images.images for string in (*image.captions, *image.pieces)}
    strings |= {caption for captions in images.descriptions for caption in captions}
    ordered = sorted(strings)
    queries = dict(zip(ordered, text_model.encode([text_model.query(string) for string in ordered]), strict=True))

    def mean_of(captions: Iterable[str]) -> Array:
        """The mean of captions [384]."""
        mean: Array = np.mean([queries[caption].mean for caption in captions], axis=0)
        return mean

    names = [sample.stem.partition("_")[2].replace("_", " ") for sample in samples]
    classes = np.stack([part.mean for part in text_model.encode([text_model.query(name) for name in names])])
    model, photos = text_model.backbones, images.groups[PHOTOS]
    seen = yield from _image_features(model, images.jpegs, "images")
    mirrored = yield from _image_features(model, [_mirror(images.jpegs[index]) for index in photos], "mirrored photos")
    of_classes = yield from _image_features(model, [sample.read_bytes() for sample in samples], "photos of classes")
    targets = np.stack([mean_of(image.captions) for image in images.images[: len(images.jpegs)]])
    inputs = seen.inputs()[:, 0]
    to_fit = []
    for name, weight in _WEIGHTS.items():
        ids = images.groups[name]
        to_fit.append(Sample(inputs[ids], targets[ids], images.folds[ids], weight))
    to_fit.append(Sample(mirrored.inputs()[:, 0], targets[photos], images.folds[photos], _WEIGHTS[PHOTOS]))
    to_fit.append(Sample(of_classes.inputs()[:, 0], classes, np.full(len(samples), ANY_FOLD), _CLASS_WEIGHT))
    rows, connector = cross_fit(to_fit, targets[photos].mean(axis=0), seen, images.folds, classes)
    known = [*photos, *images.groups[STYLED]]
    scenes = np.stack([mean_of(captions) for captions in images.descriptions])
    return Material(
        text_model=text_model,
        images=images.images,
        rows=np.concatenate([rows, pseudo_images(rows[known], targets[known], scenes, seed=0)]),
        groups=images.groups,
        connector=connector,
        classes=classes,
        entries=entries,
        train_texts=[index for index in files.split_entries(entries)[0] if texts[index]],
        texts=texts,
        queries=queries,
    )


def _image_features(model: Backbones, jpegs: Sequence[bytes], name: str) -> Generator[TrainNote, None, ImageFeatures]:
    """Features of images, a chunk at a time, so that few are decoded at once; yields progress."""
    parts = []
    for number, start in enumerate(range(0, len(jpegs), _CHUNK)):
        if number % _CHUNKS_PER_NOTE == 0:
            yield TrainNote(f"encoding {name}: {start:,} of {len(jpegs):,}")
        parts.append(model.image_features(jpegs[start : start + _CHUNK]))
    return ImageFeatures(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(ImageFeatures)))


def _mirror(jpeg: bytes) -> bytes:
    return encode_jpeg(np.asarray(ImageOps.mirror(Image.open(io.BytesIO(jpeg)).convert("RGB"))))
