"""Composed documents, their queries, and batches of them.

A composed document has captioned images as frames, and unrelated texts as its speech, on-screen text and metadata: a
joint encoder has to learn to let the query choose the modality, so the other modalities must be there and be about
something else.
"""

from __future__ import annotations

import random
from collections import ChainMap, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from clamr_cli.encoders.mini.networks import (
    IMAGE,
    IMAGE_CLASSES,
    IMAGE_REGION,
    PASSAGE,
    QUERY_SENTENCE,
    QUERY_WORD,
    TIMELESS,
    WORD,
    Array,
    time_features,
)
from clamr_cli.train.losses import Batch
from clamr_cli.train.mini.data import CaptionedImage, Entry, distinct, fragment, keywords
from clamr_cli.train.mini.material import GENERATED, MORE, MORE_STYLED, PHOTOS, PSEUDO, STYLED, THINGS, TrainingMaterial
from clamr_cli.train.mini.model import PaddedRows, empty_rows
from clamr_cli.types import MODALITY_IDS, Modality

_SIZES: Final = {
    Modality.SPEECH: (0, 0, 2, 3, 5),
    Modality.OCR: (0, 0, 1, 2, 4),
    Modality.METADATA: (0, 1, 1, 2, 4),
}
"""Texts of a document, as in short home and web videos: most have little text, some have much."""

_CHANNELS: Final = 10
IMAGES_PER_BATCH: Final = {
    PHOTOS: 500, PSEUDO: 80, STYLED: 80, GENERATED: 40, THINGS: 40, MORE_STYLED: 40,
    **dict(zip(MORE, (60, 20, 80, 10, 40, 30), strict=True)),
}  # fmt: skip
"""Images of each group that a batch is composed of, at most."""

MAX_ROWS: Final = 256
_MAX_QUERY_ROWS: Final = 24


class PlacedText(NamedTuple):
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


class CompositionConfig(NamedTuple):
    """Probabilities of relations within and between documents."""

    related: float = 0.25
    """Speech about an image, in the words of another caption."""
    channel: float = 0.4
    """A line of metadata that other documents of the batch have too."""
    both: float = 0.6
    """A query about two modalities at once."""


UNRELATED: Final = CompositionConfig(0.0, 0.0, 0.0)
"""All contents are unrelated, and each query aims at one modality."""


class Composer:
    """Composes random documents of the images and texts with these indices, each used once: a query has one answer."""

    def __init__(
        self,
        images: Sequence[CaptionedImage],
        image_ids: Sequence[int],
        entries: Sequence[Entry],
        entry_ids: Sequence[int],
        rng: random.Random,
        config: CompositionConfig = UNRELATED,
    ) -> None:
        self._images, self._entries, self._rng, self._config = images, entries, rng, config
        self._images_left = rng.sample(image_ids, len(image_ids))
        self._texts_left: dict[Modality, list[int]] = {}
        self._used: set[int] = set()
        for modality in _SIZES:
            candidates = [index for index in entry_ids if modality in entries[index].modalities]
            self._texts_left[modality] = rng.sample(candidates, len(candidates))
        self._channels = [index for _ in range(_CHANNELS) if (index := self._take(Modality.METADATA)) is not None]

    def compose(self, max_images: int = 3) -> ComposedDocument:
        """The next document; it has no images or texts once all are used."""
        rng, config = self._rng, self._config
        document, length = ComposedDocument(), rng.uniform(5.0, 60.0)
        texts, queries = document.texts, document.queries
        count = min(max_images, rng.choice((1, 1, 2, 3)), len(self._images_left))
        for number in range(count):
            index, time = self._images_left.pop(), length * (number + 0.5) / count
            document.images.append((index, time))
            image = self._images[index]
            spoken = rng.choice(image.captions) if rng.random() < config.related else ""
            if spoken:
                texts[Modality.SPEECH].append(PlacedText(time, caption=spoken))
            candidates = image.captions if rng.random() < 0.7 else image.pieces
            others = [query for query in candidates if query != spoken and not (spoken and query in spoken)]
            queries.append((rng.choice(others or candidates), Modality.VIDEO))
        for modality, sizes in _SIZES.items():
            size = rng.choice(sizes)
            for number in range(size):
                entry = self._take(modality)
                if entry is not None:
                    placed = None if modality is Modality.METADATA else length * (number + 0.5) / size
                    texts[modality].append(PlacedText(placed, entry=entry))
                    queries.append((rng.choice(self._entries[entry].queries), modality))
        # A line that other documents have too identifies this one only together with something else.
        if self._channels and queries and rng.random() < config.channel:
            entry = rng.choice(self._channels)
            texts[Modality.METADATA].append(PlacedText(None, entry=entry))
            query, _ = rng.choice(queries)
            queries.append((self._joint_query(query, keywords(rng, self._entries[entry].text)), None))
        aims = {aim for _, aim in queries if aim is not None}
        if len(aims) >= 2 and rng.random() < config.both:
            first, second = rng.sample(sorted(aims), 2)
            parts = [rng.choice([query for query, aim in queries if aim is one]) for one in (first, second)]
            queries.append((self._joint_query(*parts), None))
        return document

    def _take(self, modality: Modality) -> int | None:
        left = self._texts_left[modality]
        while left:
            index = left.pop()
            if index not in self._used:
                self._used.add(index)
                return index
        return None

    def _joint_query(self, *texts: str) -> str:
        """A query about two things at once."""
        parts = [text if len(text.split()) <= 6 else fragment(self._rng, text, 3, 6) for text in texts]
        return " ".join(self._rng.sample(parts, 2))


class _Row(NamedTuple):
    state: Array
    kind: int
    time: float
    lexical: Array | None = None


class Batches(Dataset[Batch]):
    """``count`` batches of ``documents`` documents by number; each number always gives the same batch."""

    def __init__(
        self, material: TrainingMaterial, *, documents: int, count: int, seed: int, config: CompositionConfig
    ) -> None:
        self._material = material
        self._documents, self._count, self._seed, self._config = documents, count, seed, config

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        rng, material = random.Random(self._seed * 1_000_003 + number), self._material
        image_ids = [
            index
            for name, most in IMAGES_PER_BATCH.items()
            for index in distinct(material.images, material.groups[name], most, rng)
        ]
        image_ids = distinct(material.images, image_ids, len(image_ids), rng)
        composer = Composer(material.images, image_ids, material.entries, material.train_texts, rng, self._config)
        documents = [composer.compose() for _ in range(self._documents)]
        queries: list[tuple[str, Modality | None, int]] = []
        for position, document in enumerate(documents):
            by_aim: dict[Modality | None, list[str]] = defaultdict(list)
            for query, aim in document.queries:
                by_aim[aim].append(query)
            # One query each for three aims: speech, which has the most, must not outweigh the others.
            aims = sorted(by_aim, key=str)
            queries += [(rng.choice(by_aim[aim]), aim, position) for aim in rng.sample(aims, min(3, len(aims)))]
        return _make_batch(material, documents, queries)


def _make_batch(
    material: TrainingMaterial,
    documents: Sequence[ComposedDocument],
    queries: Sequence[tuple[str, Modality | None, int]],
) -> Batch:
    """The batch of these documents and queries (text, aim, number of the document that answers)."""
    new = [query for query, _, _ in queries if query not in material.queries]
    features = ChainMap(material.queries, dict(zip(new, material.text_model.queries(new), strict=True)))
    query_rows = []
    for query, _, _ in queries:
        rows = [_Row(features[query].mean, QUERY_SENTENCE, float(TIMELESS))]
        for state, lexical in zip(features[query].states, features[query].lexical, strict=True):
            rows.append(_Row(state, QUERY_WORD, float(TIMELESS), lexical))
        query_rows.append(rows)
    targets = torch.tensor([number for _, _, number in queries])
    document_rows = [list(_document_rows(material, document)) for document in documents]
    return Batch(
        inputs={
            "queries": _pad(query_rows, _MAX_QUERY_ROWS)._asdict(),
            "documents": _pad(document_rows, MAX_ROWS)._asdict(),
        },
        targets=targets,
        query_modalities=torch.tensor([0 if aim is None else MODALITY_IDS[aim] for _, aim, _ in queries]),
        document_keys=torch.arange(len(documents)),
        answers=targets[:, None],
    )


def _pad(rows: Sequence[Sequence[_Row]], most: int) -> PaddedRows:
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
            if row.lexical is not None:
                padded.lexical[number, position] = torch.from_numpy(row.lexical)
    return padded


def _document_rows(material: TrainingMaterial, document: ComposedDocument) -> Iterator[_Row]:
    for index, time in document.images:
        for position, state in enumerate(material.rows[index]):
            yield _Row(state, (IMAGE, IMAGE_CLASSES, IMAGE_REGION)[min(position, 2)], time)
    for modality in (Modality.OCR, Modality.SPEECH, Modality.METADATA):
        for text in document.texts.get(modality, ()):
            time = float(TIMELESS) if text.time is None else text.time
            passages = material.texts[text.entry] if text.entry >= 0 else [material.queries[text.caption]]
            for passage in passages:
                for state, lexical in zip(passage.states, passage.lexical, strict=True):
                    yield _Row(state, WORD[modality], time, lexical)
                yield _Row(passage.mean, PASSAGE[modality], time)
