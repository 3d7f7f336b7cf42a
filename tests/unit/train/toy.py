"""A small model with dropout and a task it can learn: documents of token ids, queries that quote one modality."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from clamr_cli.train.loop import LateInteractionTrainer
from clamr_cli.train.losses import Batch, Encoded
from clamr_cli.train.run import TrainOptions

WORDS = 50


@dataclass(frozen=True)
class Example:
    query: list[int]
    document: list[int]
    modality_ids: list[int]
    key: int
    modality: int


def examples(count: int = 24, seed: int = 0) -> list[Example]:
    """Documents of up to eight tokens of four modalities, each of them the answer of three queries."""
    chance = random.Random(seed)
    made: list[Example] = []
    for number in range(count):
        if number % 3:
            before, start = made[-1], 4 * (number % 3 == 1)
            quoted = before.document[start : start + 2]
            made.append(Example(quoted, before.document, before.modality_ids, before.key, start // 2 + 1))
            continue
        document = [chance.randrange(1, WORDS) for _ in range(8 - number % 2)]
        ids = [1, 1, 2, 2, 3, 3, 4, 4][: len(document)]
        made.append(Example(document[2:4], document, ids, number, 2))
    return made


def collate(rows: list[Example]) -> Batch:
    documents = {row.key: row for row in rows}
    keys = list(documents)
    return {
        "inputs": {
            "queries": padded([row.query for row in rows]),
            "documents": padded([row.document for row in documents.values()]),
            "modality_ids": padded([row.modality_ids for row in documents.values()]),
        },
        "targets": torch.tensor([keys.index(row.key) for row in rows]),
        "query_modalities": torch.tensor([row.modality for row in rows]),
        "document_keys": torch.tensor(keys),
        "document_ids": torch.tensor(keys),
        "answers": torch.tensor([[row.key] for row in rows]),
    }


def padded(rows: list[list[int]]) -> torch.Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


class Toy(nn.Module):
    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.frozen = nn.Embedding(WORDS, 32).requires_grad_(False)
        self.layer = nn.Sequential(nn.Dropout(dropout), nn.Linear(32, 128))
        self.asked = nn.Embedding(WORDS, 128)

    def forward(self, queries: torch.Tensor, documents: torch.Tensor, modality_ids: torch.Tensor) -> Encoded:
        asked = functional.normalize(self.asked(queries), dim=-1)
        known = functional.normalize(self.layer(self.frozen(documents)), dim=-1)
        return Encoded(asked, queries > 0, known, documents > 0, modality_ids)


def options(**changes: object) -> TrainOptions:
    settings = {"learning_rate": 1e-2, "batch": 6, "device": "cpu", "seed": 3, "steps": 6, "save_every": 3}
    return TrainOptions(**{**settings, **changes})


def trainer(out: Path, model: nn.Module | None = None, dev: int = 0, **changes: object) -> LateInteractionTrainer:
    held = examples(dev, seed=9) if dev else None
    return LateInteractionTrainer(model or Toy(), options(**changes), out, examples(), collate, dev=held)
