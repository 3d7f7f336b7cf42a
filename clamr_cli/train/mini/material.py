"""The training material of the recipe: features of images and texts, and the connector fitted to them.

The connector is a ridge regression from features of an image to the sentence vectors of its captions.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from clamr_cli.encoders.mini.encoder import Backbones, MiniEncoder
from clamr_cli.encoders.mini.multilingual import MultilingualModel
from clamr_cli.encoders.mini.networks import LEXICAL, Array, Connector, ImageFeatures, unit
from clamr_cli.encoders.mini.passages import Passage, lexical_vectors
from clamr_cli.encoders.mini.vision import PLAIN_INPUTS
from clamr_cli.files import write_atomically
from clamr_cli.train.mini import data as files
from clamr_cli.train.mini.data import CaptionedImage, Entry
from clamr_cli.train.mini.synthetic_images import encode_jpeg, generate, restyle
from clamr_cli.train.run import TrainNote

Ids = NDArray[np.int64]
_Arrays = dict[str, NDArray[Any]]

PHOTOS, THINGS, STYLED, GENERATED, PSEUDO = "photos", "things", "styled", "generated", "pseudo"
"""Groups of images: photos with captions, photos of single things, photos in other styles, images generated without any
photo, and pseudo-images: scenes that are only described."""

PAGES: Final = "pages"
"""Folder of frames and pictures of project pages, which a data folder may lack."""

CLIPS: Final = ("snapvideo", "lumiere", PAGES)
"""Folders of captioned frames of clips, most of them generated, each a group."""

MORE: Final = (*CLIPS, "pacs", "tuxstamps", "emoji3d")
"""Folders of further captioned images, each a group: those, paintings and sketches, cut-outs, and icons."""

MORE_STYLED: Final = "more styled"
"""Group of some further images in other styles, and mirrored."""

FOLDS: Final = 5
ANY_FOLD: Final = -1
"""The fold of images that every connector is fitted to."""

HELD_OUT_FOLD: Final = -2
"""The fold of images that no connector is fitted to."""

_MEAN_SHARE: Final = 0.5
_RIDGE: Final = 4.0
_PLAIN_RIDGE: Final = 2.0
"""Strength of the ridge of connectors that read no stages."""

_STAGE_SCALE: Final = 0.2
"""Deviation that the statistics of stages are scaled to, over the photos, when a connector is fitted."""

_PSEUDO_RIDGE: Final = 20.0
_NEAREST_PHOTOS: Final = 20
"""Photos from which the residual of a pseudo-image is residual."""

_STYLES_PER_PHOTO: Final = 2
_GENERATED_IMAGES: Final = 900
_WEIGHTS: Final = {
    PHOTOS: 1.0, STYLED: 0.2, GENERATED: 0.2, THINGS: 0.1,
    **dict(zip(MORE, (0.5, 0.5, 0.5, 0.2, 0.3, 0.1), strict=True)),
}  # fmt: skip
"""Weight of one image of a group when a connector is fitted."""

_RESTYLED: Final = (*CLIPS, "tuxstamps")
"""Groups whose images are in :data:`MORE_STYLED` once more."""

_HALVED: Final = (GENERATED, THINGS, "emoji3d")
"""Groups of much alike images: a connector is fitted to every second of them, at twice the weight."""

_CLASS_WEIGHT: Final = 0.1
"""Weight of a photo that has only the name of its class."""

_CHUNK: Final = 64
_STRINGS: Final = 1000
"""Images and strings that are encoded, and kept in a file, together."""


class PassageFeatures(NamedTuple):
    """A passage: unit states [n, 384] and lexical vectors [n, 48] of its known words, its unit mean [384]."""

    states: Array
    lexical: Array
    mean: Array


class TextModel:
    """The frozen sentence model."""

    def __init__(self, backbones: Backbones) -> None:
        self._bert, self.tokenizer = backbones.bert, backbones.tokenizer

    def text(self, text: str) -> list[Passage]:
        """The passages of a text that have words which the model knows."""
        return [passage for passage in self.tokenizer.passages([text], across=False, limit=512) if passage.known]

    def queries(self, texts: Sequence[str]) -> list[PassageFeatures]:
        """Features of queries, each one passage."""
        return self.encode([self.tokenizer.query(text) for text in texts])

    def encode(self, passages: Sequence[Passage]) -> list[PassageFeatures]:
        """Features of passages, in order."""
        features = []
        for passage, states in zip(passages, self._bert.encode([passage.ids for passage in passages]), strict=True):
            words = [word for word in passage.words if word.count]
            rows = [states[word.first : word.first + word.count].mean(axis=0) for word in words]
            matrix = np.stack(rows) if rows else np.zeros((0, states.shape[1]), np.float32)
            lexical = lexical_vectors([word.text for word in words], LEXICAL)
            features.append(PassageFeatures(unit(matrix), lexical, unit(states.mean(axis=0))))
        return features


@dataclass(frozen=True, slots=True)
class Examples:
    """Images to fit a connector to.

    Attributes:
        inputs: [n, 3018] of the whole image, or [n, 1306] without the stages.
        targets: [n, 384], mean captions.
        folds: the fold that leaves each out.
        weights: how much each counts.
        scale: [3018] or [1306], factors of the inputs, by which the ridge weighs them against each other.
        ridge: its strength.
    """

    inputs: Array
    targets: Array
    folds: Ids
    weights: NDArray[np.float64]
    scale: Array
    ridge: float = _RIDGE

    def take(self, rows: Ids) -> Examples:
        """Those of some rows."""
        parts = {name: getattr(self, name)[rows] for name in ("inputs", "targets", "folds", "weights")}
        return replace(self, **parts)

    def plain(self) -> Examples:
        """The same without the stages."""
        inputs, scale = self.inputs[:, :PLAIN_INPUTS], self.scale[:PLAIN_INPUTS]
        return replace(self, inputs=inputs, scale=scale, ridge=_PLAIN_RIDGE)


def input_scale(photos: Array) -> Array:
    """Factors of the inputs [3018] with which the statistics of stages deviate alike over photos [n, 3018]."""
    scale = np.ones(photos.shape[1], np.float32)
    scale[PLAIN_INPUTS:] = _STAGE_SCALE / np.maximum(photos[:, PLAIN_INPUTS:].std(axis=0), np.float32(1e-6))
    return scale


def fit(examples: Examples, mean: Array, without: int | None = None) -> Connector:
    """Fit a connector to everything but held-out images and those of one fold.

    Half of ``mean`` [384], that of the captions, is subtracted, so that the connector's output tells images apart.
    """
    rows = np.flatnonzero((examples.folds != HELD_OUT_FOLD) & (examples.folds != without))
    inputs, targets, weights = examples.inputs[rows], examples.targets[rows], examples.weights[rows]
    weights = weights / weights.mean()
    inputs_mean, targets_mean = (np.average(each, axis=0, weights=weights) for each in (inputs, targets))
    scale = np.sqrt(weights)[:, None]
    centred = (inputs - inputs_mean) * examples.scale * scale
    weight = ridge_regression(centred, (targets - targets_mean) * scale, examples.ridge) * examples.scale[:, None]
    bias = targets_mean - inputs_mean @ weight - _MEAN_SHARE * mean
    return Connector(weight.astype(np.float32), bias.astype(np.float32))


def cross_fit(
    examples: Examples, mean: Array, features: ImageFeatures, folds: Ids, classes: Array
) -> tuple[Array, Connector]:
    """Rows of images, each from a connector not fitted to it, and the connector fitted to all but held-out images.

    A connector fits its own images too well: gates trained on those rows would trust images too much.
    """
    final = fit(examples, mean)
    rows = np.zeros((len(features), features.inputs.shape[1] + 1, classes.shape[1]), np.float32)
    for fold in np.unique(folds).tolist():
        members = np.flatnonzero(folds == fold)
        connector = final if fold < 0 else fit(examples, mean, without=fold)
        rows[members] = connector.image_rows(features.take(members), classes)
    return rows, final


def pseudo_images(rows: Array, captions: Array, scenes: Array, seed: int) -> Array:
    """Rows of images for scenes that are only described, as a connector could have computed them.

    A few hundred photos are too few to learn which words an image answers, but captions describe many more scenes. The
    rows of a photo are predicted from its captions by a linear map, with a residual; a scene gets the map's prediction
    and the residual of a photo with similar captions. Text in place of images as in Gu et al., "I Can't Believe There's
    No Images!" (arXiv 2211.09778) and Nukrai et al., "Text-Only Training for Image Captioning using Noise-Injected
    CLIP" (arXiv 2211.00575), with real residuals instead of noise.

    From rows [photos, 11, 384] and the mean captions of photos and scenes [n, 384] to rows [scenes, 11, 384].
    """
    centre = captions.mean(axis=0)
    centred = captions - centre
    flat = rows.reshape(len(rows), -1)
    weight = ridge_regression(centred, flat - flat.mean(axis=0), _PSEUDO_RIDGE)
    residuals = flat - flat.mean(axis=0) - centred @ weight
    predicted = (scenes - centre) @ weight + flat.mean(axis=0)
    nearest = np.argsort(-unit(scenes) @ unit(captions).T, axis=1)[:, : min(_NEAREST_PHOTOS, len(rows))]
    choice = np.random.default_rng(seed).integers(0, nearest.shape[1], len(scenes))
    residual = residuals[nearest[np.arange(len(scenes)), choice]]
    return unit((predicted + residual).reshape(len(scenes), *rows.shape[1:])).astype(np.float32)


def ridge_regression(inputs: Array, targets: Array, strength: float) -> Array:
    """Weights of a linear map between centred arrays; ``strength`` is relative to the inputs' mean variance."""
    products = inputs.T @ inputs
    products[np.diag_indices_from(products)] += strength * np.trace(products) / len(products)
    weight: Array = np.linalg.solve(products, inputs.T @ targets)
    return weight


@dataclass(slots=True)
class TrainingMaterial:
    """Everything that the recipe is trained on, in memory.

    Attributes:
        text_model: the frozen sentence model.
        images: all images; held-out photos are among them, in no group.
        rows: [images, 11, 384], from connectors not fitted to each.
        groups: indices of the images to train on, by the names of groups.
        connector: fitted to everything that is not held out.
        classes: [1000, 384], sentence vectors of ImageNet's classes.
        entries: all texts.
        train_texts: indices of the texts to train on.
        texts: features of the passages of all texts.
        queries: features of all captions, pieces and queries.
        multilingual: the second text model, if it is installed.
        examples: photos, frames and images of classes, which its heads are fitted to.
        captions: those of each example.
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
    multilingual: MultilingualModel | None = None
    examples: Examples | None = None
    captions: Sequence[Sequence[str]] = ()


class _Images(NamedTuple):
    """The images of a data folder and those generated from them.

    ``jpegs`` and ``folds`` (of each the fold whose connector is not fitted to it) are of the first images: all but the
    pseudo-images, which are last. ``descriptions`` are captions that describe each pseudo-image; its own are queries.
    """

    images: list[CaptionedImage]
    groups: dict[str, list[int]]
    jpegs: list[bytes]
    folds: Ids
    descriptions: list[tuple[str, ...]]


def _read_images(data: Path) -> _Images:
    """The images of a data folder and those generated from them, the same each time."""
    rng = random.Random(7)
    photos, things, scenes = files.photos(data), files.photos_of_things(data), files.scenes(data)
    train, _ = files.split_photos(photos)
    jpegs = [(data / "train/flickr8k_1k/images" / photo.name).read_bytes() for photo in photos]
    originals = [index for index in train for _ in range(_STYLES_PER_PHOTO)]
    styled = [(index, restyle(jpegs[index], photos[index].captions, rng)) for index in originals]
    generated = [(number, generate(rng)) for number in range(_GENERATED_IMAGES)]
    more = {name: files.more_images(data, name) for name in MORE}
    own_styles = random.Random(13)
    more_styled = [
        (image, restyle(_mirror((data / image.name).read_bytes()), image.captions, own_styles))
        for name in _RESTYLED
        for image in more[name]
    ]
    images: list[CaptionedImage] = []
    groups: dict[str, list[int]] = {}
    for name, members in (
        (PHOTOS, photos),
        (THINGS, things),
        # Under the name of the photo: the two are never in one batch.
        (STYLED, [files.with_pieces(photos[index].name, image.captions, rng) for index, image in styled]),
        (GENERATED, [CaptionedImage(f"generated {n}", image.captions, image.captions) for n, image in generated]),
        *more.items(),
        (MORE_STYLED, [files.with_pieces(image.name, styled.captions, own_styles) for image, styled in more_styled]),
        (PSEUDO, [files.with_pieces(f"scene {number}", queries, rng) for number, (_, queries) in enumerate(scenes)]),
    ):
        groups[name] = list(range(len(images), len(images) + len(members)))
        images += members
    groups[PHOTOS] = train
    photo_folds = np.full(len(photos), HELD_OUT_FOLD)
    photo_folds[rng.sample(train, len(train))] = np.arange(len(train)) % FOLDS
    jpegs += [(data / thing.name).read_bytes() for thing in things]
    jpegs += [image.jpeg for _, image in (*styled, *generated)]
    jpegs += [(data / image.name).read_bytes() for members in more.values() for image in members]
    jpegs += [image.jpeg for _, image in more_styled]
    more_folds = {name: _folds_of_kinds(members) for name, members in more.items()}
    folds = np.concatenate([
        photo_folds, _folds_of_kinds(things), photo_folds[originals], np.arange(len(generated)) % FOLDS,
        *more_folds.values(), *(more_folds[name] for name in _RESTYLED),
    ])  # fmt: skip
    return _Images(images, groups, jpegs, folds, [description for description, _ in scenes])


def _mirror(jpeg: bytes) -> bytes:
    """An image with left and right exchanged."""
    return encode_jpeg(np.asarray(ImageOps.mirror(Image.open(io.BytesIO(jpeg)).convert("RGB"))))


def _folds_of_kinds(images: Sequence[CaptionedImage]) -> Ids:
    """Folds of images; those with the same captions are in one."""
    kinds = {captions: number % FOLDS for number, captions in enumerate(sorted({image.captions for image in images}))}
    return np.array([kinds[image.captions] for image in images], dtype=np.int64)


def load(data: Path, cache: Path) -> Generator[TrainNote, None, TrainingMaterial]:
    """Read the data folder and run the frozen models over it, which takes minutes on two cores; yields progress.

    What the models make of images and queries is kept in the cache folder, for the run that goes on after this one.
    """
    yield TrainNote("generating images")
    images, groups, jpegs, folds, descriptions = _read_images(data)
    entries, backbones = files.entries(data), Backbones(cache, device="auto", threads=0)
    text_model, stored = TextModel(backbones), cache / "mini" / MiniEncoder.describe(cache=cache).fingerprint
    samples = sorted((data / "train/imagenet_sample").glob("*.jpg"))
    passages = [text_model.text(entry.text) for entry in entries]
    flat = [passage for part in passages for passage in part]
    features = iter((yield from _text_features(text_model.encode, flat, stored, "texts")))
    texts = [[next(features) for _ in part] for part in passages]
    strings = {query for entry in entries for query in entry.queries}
    strings |= {string for image in images for string in (*image.captions, *image.pieces)}
    strings |= {caption for captions in descriptions for caption in captions}
    ordered = sorted(strings)
    of_strings = yield from _text_features(text_model.queries, ordered, stored, "queries and captions")
    queries = dict(zip(ordered, of_strings, strict=True))

    def means_of(captions: Iterable[Sequence[str]]) -> Array:
        """The means of captions [n, 384]."""
        return np.stack([np.mean([queries[caption].mean for caption in each], axis=0) for each in captions])

    names = [sample.stem.partition("_")[2].replace("_", " ") for sample in samples]
    classes = np.stack([part.mean for part in text_model.queries(names)])
    photos = groups[PHOTOS]
    mirrored = [_mirror(jpegs[index]) for index in photos]
    image_features = yield from _image_features(backbones, jpegs, stored, "images")
    of_mirrored = yield from _image_features(backbones, mirrored, stored, "mirrored photos")
    class_jpegs = [sample.read_bytes() for sample in samples]
    of_classes = yield from _image_features(backbones, class_jpegs, stored, "photos of classes")
    inputs, targets = image_features.inputs[:, 0], means_of(image.captions for image in images[: len(jpegs)])
    counts = [
        (index, 2 * weight * (position % 2 == 0) if name in _HALVED else weight)
        for name, weight in _WEIGHTS.items()
        for position, index in enumerate(groups[name])
    ]
    ids, weights = zip(*counts, strict=True)
    others = [_WEIGHTS[PHOTOS]] * len(photos) + [_CLASS_WEIGHT] * len(samples)
    examples = Examples(
        np.concatenate([inputs[list(ids)], of_mirrored.inputs[:, 0], of_classes.inputs[:, 0]]),
        np.concatenate([targets[list(ids)], targets[photos], classes]),
        np.concatenate([folds[list(ids)], folds[photos], np.full(len(samples), ANY_FOLD)]),
        np.array([*weights, *others]),
        input_scale(inputs[photos]),
    )
    mean = targets[photos].mean(axis=0)
    # Heads that were trained on what the final connector says would trust images more, and find the texts beside them
    # worse: they are trained on what connectors say that read no stages.
    rows, _ = cross_fit(examples.plain(), mean, image_features, folds, classes)
    connector = fit(examples, mean)
    real = [*photos, *groups[STYLED]]
    pseudo = pseudo_images(rows[real], targets[real], means_of(descriptions), seed=0)
    # The stamps and their translations are left to measure other languages with; names of classes count as photos do.
    ours = {*photos, *(index for name in CLIPS for index in groups[name])}
    flags = [*(index in ours for index in ids), *([False] * len(photos)), *([True] * len(samples))]
    chosen = np.flatnonzero(flags)
    captions = [images[index].captions for index in (*ids, *photos)] + [(name,) for name in names]
    return TrainingMaterial(
        text_model,
        images,
        np.concatenate([rows, pseudo]),
        groups,
        connector,
        classes,
        entries,
        [index for index in files.split_entries(entries)[0] if texts[index]],
        texts,
        queries,
        backbones.multilingual,
        examples.take(chosen),
        [captions[row] for row in chosen],
    )


def _image_features(
    model: Backbones, jpegs: Sequence[bytes], stored: Path, name: str
) -> Generator[TrainNote, None, ImageFeatures]:
    """Features of images, a chunk at a time, so that few are decoded at once; yields progress."""
    parts = []
    for start in range(0, len(jpegs), _CHUNK):
        yield TrainNote(f"encoding {name}", start, len(jpegs))
        chunk = jpegs[start : start + _CHUNK]
        parts.append(_stored(stored, chunk, partial(_image_arrays, model, chunk)))
    return ImageFeatures(
        **{name: np.concatenate([part[name] for part in parts]).astype(np.float32) for name in parts[0]}
    )


def _image_arrays(model: Backbones, jpegs: Sequence[bytes]) -> _Arrays:
    features = model.image_features(jpegs)
    return {"inputs": features.inputs, "probabilities": features.probabilities}


def _text_features(
    encode: Callable[[Sequence[Any]], list[PassageFeatures]], texts: Sequence[Any], stored: Path, name: str
) -> Generator[TrainNote, None, list[PassageFeatures]]:
    """Features of passages, or of queries, in order; yields progress."""
    features: list[PassageFeatures] = []
    for start in range(0, len(texts), _STRINGS):
        yield TrainNote(f"encoding {name}", start, len(texts))
        part = texts[start : start + _STRINGS]
        arrays = _stored(stored, [repr(text).encode() for text in part], partial(_text_arrays, encode, part))
        states, lexical = (
            np.split(arrays[name].astype(np.float32), arrays["ends"][:-1]) for name in ("states", "lexical")
        )
        features += map(PassageFeatures, states, lexical, arrays["means"].astype(np.float32))
    return features


def _text_arrays(encode: Callable[[Sequence[Any]], list[PassageFeatures]], texts: Sequence[Any]) -> _Arrays:
    states, lexical, means = zip(*encode(texts), strict=True)
    ends = np.cumsum([len(part) for part in states])
    return {
        "states": np.concatenate(states), "lexical": np.concatenate(lexical), "means": np.stack(means), "ends": ends,
    }  # fmt: skip


def _stored(folder: Path, items: Sequence[bytes], compute: Callable[[], _Arrays]) -> _Arrays:
    """Outputs of a frozen model for these items, floats as float16; an earlier run may have left them in a file."""
    path = folder / f"{hashlib.blake2b(b' '.join(items), digest_size=16).hexdigest()}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, BadZipFile):
        pass
    arrays = {name: each.astype(np.float16) if each.dtype == np.float32 else each for name, each in compute().items()}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue(), sync=False)
    return arrays
