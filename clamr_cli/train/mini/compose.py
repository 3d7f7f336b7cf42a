"""Composed documents, their queries, and batches of them.

A composed document has captioned images as frames, and unrelated texts as its speech, on-screen text and metadata: a
joint encoder has to learn to let the query choose the modality, so the other modalities must be there and be about
something else.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.utils.data import Dataset

from clamr_cli.encoders.mini.heads import (
    IMAGE,
    IMAGE_CLASSES,
    IMAGE_REGION,
    PASSAGE,
    QUERY_SENTENCE,
    QUERY_WORD,
    TIMELESS,
    WORD,
    time_features,
)
from clamr_cli.train.losses import Batch
from clamr_cli.train.mini.data import CaptionedImage, Entry, distinct, fragment, keywords
from clamr_cli.train.mini.material import GENERATED, PHOTOS, PSEUDO, STYLED, THINGS, Material
from clamr_cli.train.mini.model import Rows, empty_rows
from clamr_cli.types import MODALITY_IDS, Modality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.train.mini.material import Array

_SIZES: Final = {
    Modality.SPEECH: (0, 0, 2, 3, 5),
    Modality.OCR: (0, 0, 1, 2, 4),
    Modality.METADATA: (0, 1, 1, 2, 4),
}
_CHANNELS: Final = 10

IMAGES_PER_BATCH: Final = {PHOTOS: 500, PSEUDO: 80, STYLED: 80, GENERATED: 40, THINGS: 40}
"""Images of each group that a batch is composed of, at most."""

MAX_ROWS: Final = 256
MAX_QUERY_ROWS: Final = 24


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A text of a document: an entry by its index, or a caption of a photo. Its time is in seconds, None for always."""

    time: float | None
    entry: int = -1
    caption: str = ""


@dataclass(slots=True)
class ComposedDocument:
    """One document: images (index and time), texts by modality, and queries with the modality they aim at.

    A query about two things at once aims at none.
    """

    images: list[tuple[int, float]] = field(default_factory=list)
    texts: dict[Modality, list[PlacedText]] = field(default_factory=lambda: defaultdict(list))
    queries: list[tuple[str, Modality | None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CompositionConfig:
    """Probabilities of relations within and between documents.

    Attributes:
        related: of speech about an image, in the words of another caption.
        channel: of a line of metadata that other documents of the batch have too.
        both: of a query about two modalities at once.
    """

    related: float = 0.25
    channel: float = 0.4
    both: float = 0.6


UNRELATED: Final = CompositionConfig(0.0, 0.0, 0.0)
"""All contents are unrelated, and each query aims at one modality."""


@dataclass(slots=True)
class Composer:
    """Composes random documents. After :meth:`shuffle` each text and image is used once, so a query has one answer.

    Sizes are those of short home and web videos: most have little text, some have much.
    """

    images: list[CaptionedImage]
    image_ids: list[int]
    entries: list[Entry]
    entry_ids: list[int]
    rng: random.Random
    config: CompositionConfig = UNRELATED
    _images_left: list[int] = field(default_factory=list)
    _texts_left: dict[Modality, list[int]] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)
    _channels: list[int] = field(default_factory=list)

    def shuffle(self) -> None:
        """Make all texts and images available again, in a new order."""
        self._images_left = self.rng.sample(self.image_ids, len(self.image_ids))
        self._used = set()
        for modality in _SIZES:
            candidates = [index for index in self.entry_ids if modality in self.entries[index].modalities]
            self._texts_left[modality] = self.rng.sample(candidates, len(candidates))
        self._channels = [index for _ in range(_CHANNELS) if (index := self._take(Modality.METADATA)) is not None]

    def compose(self, max_images: int = 3) -> ComposedDocument:
        """The next document; it has no images or texts once all are used."""
        document, length = ComposedDocument(), self.rng.uniform(5.0, 60.0)
        count = min(max_images, self.rng.choice((1, 1, 2, 3)), len(self._images_left))
        for number in range(count):
            self._add_image(document, length * (number + 0.5) / count)
        for modality, sizes in _SIZES.items():
            size = self.rng.choice(sizes)
            for number in range(size):
                self._add_text(document, modality, length * (number + 0.5) / size)
        self._add_channel(document)
        self._add_query_for_both(document)
        return document

    def _add_image(self, document: ComposedDocument, time: float) -> None:
        index = self._images_left.pop()
        document.images.append((index, time))
        image = self.images[index]
        spoken = self.rng.choice(image.captions) if self.rng.random() < self.config.related else ""
        if spoken:
            document.texts[Modality.SPEECH].append(PlacedText(time, caption=spoken))
        queries = image.captions if self.rng.random() < 0.7 else image.pieces
        others = [query for query in queries if query != spoken and not (spoken and query in spoken)]
        document.queries.append((self.rng.choice(others or queries), Modality.VIDEO))

    def _add_text(self, document: ComposedDocument, modality: Modality, time: float) -> None:
        index = self._take(modality)
        if index is None:
            return
        placed = PlacedText(None if modality is Modality.METADATA else time, entry=index)
        document.texts[modality].append(placed)
        document.queries.append((self.rng.choice(self.entries[index].queries), modality))

    def _take(self, modality: Modality) -> int | None:
        left = self._texts_left[modality]
        while left:
            index = left.pop()
            if index not in self._used:
                self._used.add(index)
                return index
        return None

    def _add_channel(self, document: ComposedDocument) -> None:
        """Add a line that other documents have too: it identifies this one only together with something else."""
        if not self._channels or not document.queries or self.rng.random() >= self.config.channel:
            return
        index = self.rng.choice(self._channels)
        document.texts[Modality.METADATA].append(PlacedText(None, entry=index))
        query, _ = self.rng.choice(document.queries)
        document.queries.append((_joint_query(self.rng, query, keywords(self.rng, self.entries[index].text)), None))

    def _add_query_for_both(self, document: ComposedDocument) -> None:
        aims = {aim for _, aim in document.queries if aim is not None}
        if len(aims) < 2 or self.rng.random() >= self.config.both:
            return
        first, second = self.rng.sample(sorted(aims), 2)
        parts = [self.rng.choice([query for query, aim in document.queries if aim is one]) for one in (first, second)]
        document.queries.append((_joint_query(self.rng, *parts), None))


def _joint_query(rng: random.Random, first: str, second: str) -> str:
    """A query about two things at once."""
    parts = [part if len(part.split()) <= 6 else fragment(rng, part, 3, 6) for part in (first, second)]
    return " ".join(rng.sample(parts, 2))


@dataclass(frozen=True, slots=True)
class _Row:
    state: Array
    kind: int
    time: float
    spelled: Array | None = None


class Batches(Dataset[Batch]):
    """Batches by number; each number always gives the same batch.

    Args:
        material: texts and images.
        documents: of a batch.
        count: of batches.
        seed: of all random choices.
        config: of the composition of documents.
    """

    def __init__(self, material: Material, *, documents: int, count: int, seed: int, config: CompositionConfig) -> None:
        self._material = material
        self._documents, self._count, self._seed, self._config = documents, count, seed, config

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        rng = random.Random(self._seed * 1_000_003 + number)
        material = self._material
        chosen = [
            index
            for name, most in IMAGES_PER_BATCH.items()
            for index in distinct(material.images, material.groups[name], most, rng)
        ]
        chosen = distinct(material.images, chosen, len(chosen), rng)
        composer = Composer(material.images, chosen, material.entries, material.train_texts, rng, self._config)
        composer.shuffle()
        documents = [composer.compose() for _ in range(self._documents)]
        queries = [
            (*query, position) for position, document in enumerate(documents) for query in three_aims(document, rng)
        ]
        return make_batch(material, documents, queries)


def three_aims(document: ComposedDocument, rng: random.Random) -> list[tuple[str, Modality | None]]:
    """One query each for three aims of the document: speech, which has the most, must not outweigh the others."""
    by_aim: dict[Modality | None, list[str]] = {}
    for query, aim in document.queries:
        by_aim.setdefault(aim, []).append(query)
    aims = sorted(by_aim, key=str)
    return [(rng.choice(by_aim[aim]), aim) for aim in rng.sample(aims, min(3, len(aims)))]


def make_batch(
    material: Material,
    documents: Sequence[ComposedDocument],
    queries: Sequence[tuple[str, Modality | None, int]],
) -> Batch:
    """The batch of these documents and queries (text, aim, number of the document that answers)."""
    model = material.text_model
    unknown = [query for query, _, _ in queries if query not in material.queries]
    encoded = dict(zip(unknown, model.encode([model.query(query) for query in unknown]), strict=True))
    query_rows = []
    for query, _, _ in queries:
        features = material.queries.get(query) or encoded[query]
        rows = [_Row(features.mean, QUERY_SENTENCE, float(TIMELESS))]
        for state, spelled in zip(features.states, features.spelled, strict=True):
            rows.append(_Row(state, QUERY_WORD, float(TIMELESS), spelled))
        query_rows.append(rows)
    targets = torch.tensor([number for _, _, number in queries])
    return Batch(
        inputs={
            "queries": padded_rows(query_rows, MAX_QUERY_ROWS)._asdict(),
            "documents": padded_rows([list(_document_rows(material, one)) for one in documents], MAX_ROWS)._asdict(),
        },
        targets=targets,
        query_modalities=torch.tensor([0 if aim is None else MODALITY_IDS[aim] for _, aim, _ in queries]),
        document_keys=torch.arange(len(documents)),
        answers=targets[:, None],
    )


def padded_rows(rows: Sequence[Sequence[_Row]], most: int) -> Rows:
    """Rows of several documents or queries, padded, and cut at ``most``."""
    padded = empty_rows(len(rows), min(most, max(1, *map(len, rows))))
    for number, whole in enumerate(rows):
        part = whole[:most]
        if not part:
            continue
        count = len(part)
        padded.rows[number, :count] = torch.from_numpy(np.stack([row.state for row in part]))
        padded.kinds[number, :count] = torch.tensor([row.kind for row in part])
        times = np.array([row.time for row in part], dtype=np.float32)
        padded.times[number, :count] = torch.from_numpy(time_features(times))
        for position, row in enumerate(part):
            if row.spelled is not None:
                padded.spelled[number, position] = torch.from_numpy(row.spelled)
    return padded


def _document_rows(material: Material, document: ComposedDocument) -> Iterator[_Row]:
    for index, time in document.images:
        for position, state in enumerate(material.rows[index]):
            yield _Row(state, (IMAGE, IMAGE_CLASSES, IMAGE_REGION)[min(position, 2)], time)
    for modality in (Modality.OCR, Modality.SPEECH, Modality.METADATA):
        for text in document.texts.get(modality, ()):
            time = float(TIMELESS) if text.time is None else text.time
            passages = material.texts[text.entry] if text.entry >= 0 else [material.queries[text.caption]]
            for passage in passages:
                for state, spelled in zip(passage.states, passage.spelled, strict=True):
                    yield _Row(state, WORD[modality], time, spelled)
                yield _Row(passage.mean, PASSAGE[modality], time)
