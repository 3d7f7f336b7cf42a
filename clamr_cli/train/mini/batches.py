"""Batches to train on: composed documents and the queries that one of them answers, as sheets of rows."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.utils.data import Dataset

from clamr_cli.encoders.mini import kinds
from clamr_cli.encoders.mini.joint import TIMELESS, time_features
from clamr_cli.train.losses import Batch
from clamr_cli.train.mini.compose import Composed, Composer, Habits
from clamr_cli.train.mini.gallery import DRAWN, IMAGINED, PHOTOS, STYLED, THINGS
from clamr_cli.train.mini.model import Sheets, blank
from clamr_cli.train.mini.photos import distinct
from clamr_cli.types import MODALITY_IDS, Modality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.train.mini.compose import Said
    from clamr_cli.train.mini.features import Array, Read
    from clamr_cli.train.mini.material import Material

SHOWN: Final = {PHOTOS: 500, IMAGINED: 80, STYLED: 80, DRAWN: 40, THINGS: 40}
"""Pictures of each group that a batch draws from, at most."""

MOST_ROWS = 256
MOST_QUERY_ROWS = 24


@dataclass(frozen=True, slots=True)
class _Row:
    state: Array
    kind: int
    time: float
    spelled: Array | None = None


class Batches(Dataset[Batch]):
    """Batches by number, each the same whenever it is drawn.

    Args:
        material: texts and pictures.
        documents: of a batch.
        count: batches there are.
        seed: of every draw.
        habits: how documents are composed.
    """

    def __init__(self, material: Material, *, documents: int, count: int, seed: int, habits: Habits) -> None:
        self._material = material
        self._documents, self._count, self._seed, self._habits = documents, count, seed, habits

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        chance = random.Random(self._seed * 1_000_003 + number)
        known = self._material
        shown = [
            index
            for name, most in SHOWN.items()
            for index in distinct(known.pictures, known.groups[name], most, chance)
        ]
        shown = distinct(known.pictures, shown, len(shown), chance)
        composer = Composer(known.pictures, shown, known.entries, known.train_texts, chance, self._habits)
        composer.shuffle()
        drawn = [composer.draw() for _ in range(self._documents)]
        asked = [(*query, place) for place, one in enumerate(drawn) for query in three_aims(one, chance)]
        return make(known, drawn, asked)


def three_aims(document: Composed, chance: random.Random) -> list[tuple[str, Modality | None]]:
    """One query each for three of the document's aims: speech, the longest, must not outweigh the others."""
    by_aim: dict[Modality | None, list[str]] = {}
    for query, aim in document.queries:
        by_aim.setdefault(aim, []).append(query)
    aims = sorted(by_aim, key=str)
    return [(chance.choice(by_aim[aim]), aim) for aim in chance.sample(aims, min(3, len(aims)))]


def make(
    material: Material,
    documents: Sequence[Composed],
    asked: Sequence[tuple[str, Modality | None, int]],
) -> Batch:
    """The batch of these documents and queries (text, aim, number of the document that answers)."""
    unknown = [query for query, _, _ in asked if query not in material.queries]
    read = dict(zip(unknown, material.side.read([material.side.query(query) for query in unknown]), strict=True))
    questions = [material.queries.get(query) or read[query] for query, _, _ in asked]
    targets = torch.tensor([number for _, _, number in asked])
    return Batch(
        inputs={
            "queries": sheets([list(_question(one)) for one in questions], MOST_QUERY_ROWS)._asdict(),
            "documents": sheets([list(_document(material, one)) for one in documents], MOST_ROWS)._asdict(),
        },
        targets=targets,
        query_modalities=torch.tensor([0 if aim is None else MODALITY_IDS[aim] for _, aim, _ in asked]),
        document_keys=torch.arange(len(documents)),
        answers=targets[:, None],
    )


def sheets(rows: Sequence[Sequence[_Row]], most: int) -> Sheets:
    """Rows of several documents or queries, padded, and cut at ``most``."""
    made = blank(len(rows), min(most, max(1, *map(len, rows))))
    for number, whole in enumerate(rows):
        one = whole[:most]
        if not one:
            continue
        count = len(one)
        made.rows[number, :count] = torch.from_numpy(np.stack([row.state for row in one]))
        made.kinds[number, :count] = torch.tensor([row.kind for row in one])
        times = np.array([row.time for row in one], dtype=np.float32)
        made.times[number, :count] = torch.from_numpy(time_features(times))
        for place, row in enumerate(one):
            if row.spelled is not None:
                made.spelled[number, place] = torch.from_numpy(row.spelled)
    return made


def _question(read: Read) -> Iterator[_Row]:
    yield _Row(read.mean, kinds.QUERY_SENTENCE, float(TIMELESS))
    for state, spelled in zip(read.states, read.spelled, strict=True):
        yield _Row(state, kinds.QUERY_WORD, float(TIMELESS), spelled)


def _document(material: Material, document: Composed) -> Iterator[_Row]:
    for index, time in document.photos:
        for place, state in enumerate(material.rows[index]):
            yield _Row(state, (kinds.PICTURE, kinds.PICTURE_CLASSES, kinds.PICTURE_REGION)[min(place, 2)], time)
    for modality in (Modality.OCR, Modality.SPEECH, Modality.METADATA):
        for said in document.texts.get(modality, ()):
            time = float(TIMELESS) if said.time is None else said.time
            for read in _reads(material, said):
                for state, spelled in zip(read.states, read.spelled, strict=True):
                    yield _Row(state, kinds.WORD[modality], time, spelled)
                yield _Row(read.mean, kinds.PASSAGE[modality], time)


def _reads(material: Material, said: Said) -> Sequence[Read]:
    return material.texts[said.entry] if said.entry >= 0 else [material.queries[said.caption]]
