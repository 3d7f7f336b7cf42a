"""The trained heads in torch, as :mod:`clamr_cli.encoders.mini.heads` runs them in numpy, and their training."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clamr_cli.encoders.mini.heads import REGIONS, SENSE, SENTENCE_COPIES, SPELLING
from clamr_cli.types import Modality
from tests.bench.composed import Composed, Composer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.connector_data import Material

_TEXT: Final = (Modality.SPEECH, Modality.OCR, Modality.METADATA)
_SCALE: Final = 10.0
_NEVER: Final = -30.0
# Gates before training, as logits of sense, spelling, prior and silence.
_GATES: Final = {
    "query_word": [[0.0, 0.0, -1.0, 0.0]],
    "query_sentence": [[0.0, _NEVER, -1.0, -2.0]],
    "word": [[0.0, 0.0, -1.0, -1.0]] * 3,
    "passage": [[0.0, _NEVER, -1.0, -1.0]] * 3,
    "picture": [[1.0, _NEVER, 0.0, -1.0]] * 3,
}


@dataclass(frozen=True, slots=True)
class Options:
    """How to train."""

    steps: int = 600
    documents: int = 48
    rate: float = 2e-3
    map_rate: float = 6e-4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Pile:
    """Rows of one head over a batch: inputs, spelling (or None), kinds, and the document or query each belongs to."""

    inputs: Tensor
    spelled: Tensor | None
    kinds: Tensor
    owners: Tensor


class Model(nn.Module):
    """Maps and gates of the five heads."""

    def __init__(self, directions: np.ndarray, means: dict[str, np.ndarray]) -> None:
        """Start every map from the same principal directions [384, SENSE], each head centred by its own mean."""
        super().__init__()
        self.maps = nn.ParameterDict({name: torch.from_numpy(directions.copy()) for name in _GATES})
        self.shifts = nn.ParameterDict({name: torch.from_numpy(-means[name] @ directions) for name in _GATES})
        self.gates = nn.ParameterDict({name: torch.tensor(rows) for name, rows in _GATES.items()})
        width = len(directions)
        self.tilts = nn.ParameterDict({name: torch.zeros(width, 4) for name in _GATES if name != "picture"})
        self.temperature = nn.Parameter(torch.tensor(0.5).log())

    def vectors(self, head: str, pile: Pile) -> Tensor:
        """Unit vectors [n, 128] of a head's rows."""
        sense = functional.normalize(pile.inputs @ self.maps[head] + self.shifts[head], dim=-1)
        logits = self.gates[head][pile.kinds]
        if head in self.tilts:
            logits = logits + _SCALE * pile.inputs @ self.tilts[head]
        # Rows without spelling leave that gate shut; the clamp keeps the square root's slope finite.
        shares = logits.softmax(dim=-1).clamp_min(1e-9).sqrt()
        spelled = torch.zeros(len(sense), SPELLING) if pile.spelled is None else shares[:, 1:2] * pile.spelled
        silence = [shares[:, 3:], torch.zeros(len(sense), 1)]
        ends = silence if head.startswith("query") else silence[::-1]
        return torch.cat([shares[:, :1] * sense, spelled, shares[:, 2:3], *ends], dim=1)

    def scores(self, queries: dict[str, Pile], documents: dict[str, Pile], count: int) -> Tensor:
        """MaxSim of every query with every document: [queries, documents]."""
        rows = torch.cat([self.vectors(head, pile) for head, pile in documents.items()])
        owners = torch.cat([pile.owners for pile in documents.values()])
        rows = rows[torch.argsort(owners, stable=True)]
        sizes = torch.bincount(owners, minlength=count).tolist()
        words = self.vectors("query_word", queries["query_word"])
        wholes = self.vectors("query_sentence", queries["query_sentence"])
        similar = torch.cat([words, wholes]) @ rows.T
        best = torch.stack([part.amax(dim=1) for part in similar.split(sizes, dim=1)], dim=1)
        summed = SENTENCE_COPIES * best[len(words) :]
        return summed.index_add(0, queries["query_word"].owners, best[: len(words)])

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors under the names the encoder reads."""
        named: dict[str, Tensor] = {}
        for head in _GATES:
            name = head.replace("_", ".")
            named |= {f"{name}.weight": self.maps[head], f"{name}.bias": self.shifts[head]}
            named[f"{name}.gate.bias"] = self.gates[head]
            if head in self.tilts:
                named[f"{name}.gate.weight"] = self.tilts[head]
        return {name: tensor.detach().numpy() for name, tensor in named.items()}


def starting(material: Material, pictures: np.ndarray) -> Model:
    """A model whose maps are the principal directions of words, passages and captions of the training part."""
    reads = [read for index in material.train_texts[:1500] for read in material.texts[index]]
    words = np.concatenate([read.states for read in reads])
    passages = np.stack([read.mean for read in reads])
    captions = material.captions[material.train].reshape(-1, passages.shape[1])
    parts = [part - part.mean(axis=0) for part in (words[:8000], passages, captions)]
    gathered = np.concatenate(parts)
    _, directions = np.linalg.eigh(gathered.T @ gathered)
    sentence = np.concatenate([passages, captions]).mean(axis=0)
    means = {"word": words.mean(axis=0), "passage": sentence}
    means |= {"query_word": means["word"], "query_sentence": sentence}
    means["picture"] = 0.5 * pictures[material.train, 0].mean(axis=0)
    return Model(np.ascontiguousarray(directions[:, ::-1][:, :SENSE], dtype=np.float32), means)


def train(material: Material, pictures: np.ndarray, options: Options) -> Model:
    """Contrastive training: each query must find its document among those composed beside it (LI_context)."""
    torch.manual_seed(options.seed)
    chance = random.Random(options.seed)
    model = starting(material, pictures)
    maps = [*model.maps.values()]
    others = [one for one in model.parameters() if all(one is not each for each in maps)]
    groups = [{"params": maps, "lr": options.map_rate}, {"params": others, "lr": options.rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 20) * (1 - step / options.steps)
    )
    composer = Composer(material.photos, material.train, material.entries, material.train_texts, chance)
    for step in range(options.steps):
        composer.shuffle()
        drawn = [composer.draw() for _ in range(options.documents)]
        asked = [(query, number) for number, one in enumerate(drawn) for query in two_modalities(one, chance)]
        scores = model.scores(
            ask(material, [query for query, _ in asked]), gather(material, pictures, drawn), len(drawn)
        )
        loss = functional.cross_entropy(scores / model.temperature.exp(), torch.tensor([owner for _, owner in asked]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return model


def two_modalities(document: Composed, chance: random.Random) -> list[str]:
    """One query each for two of the document's modalities: speech, the longest, must not outweigh the others."""
    by_modality: dict[Modality, list[str]] = {}
    for query, modality in document.queries:
        by_modality.setdefault(modality, []).append(query)
    return [chance.choice(by_modality[one]) for one in chance.sample(sorted(by_modality), min(2, len(by_modality)))]


def ask(material: Material, queries: Sequence[str]) -> dict[str, Pile]:
    """The rows of queries by head."""
    reads = [material.queries[query] for query in queries]
    owners = np.repeat(np.arange(len(reads)), [len(read.states) for read in reads])
    states, spelled = (np.concatenate([getattr(read, name) for read in reads]) for name in ("states", "spelled"))
    means = np.stack([read.mean for read in reads])
    return {
        "query_word": _pile(states, spelled, np.zeros(len(states)), owners),
        "query_sentence": _pile(means, None, np.zeros(len(means)), np.arange(len(means))),
    }


def gather(material: Material, pictures: np.ndarray, documents: Sequence[Composed]) -> dict[str, Pile]:
    """The rows of documents by head."""
    placed = [
        (number, _TEXT.index(modality), read)
        for number, document in enumerate(documents)
        for modality, indices in document.texts.items()
        for index in indices
        for read in material.texts[index]
    ]
    owners, kinds = (np.array([each[place] for each in placed], dtype=np.int64) for place in (0, 1))
    sizes = [len(read.states) for _, _, read in placed]
    width = pictures.shape[-1]
    states = np.concatenate([np.zeros((0, width), np.float32), *(read.states for _, _, read in placed)])
    spelled = np.concatenate([np.zeros((0, SPELLING), np.float32), *(read.spelled for _, _, read in placed)])
    means = np.array([read.mean for _, _, read in placed], dtype=np.float32).reshape(-1, width)
    shown = [(number, index) for number, document in enumerate(documents) for index in document.photos]
    rows = pictures[[index for _, index in shown]].reshape(-1, width)
    per_picture = pictures.shape[1]
    return {
        "word": _pile(states, spelled, np.repeat(kinds, sizes), np.repeat(owners, sizes)),
        "passage": _pile(means, None, kinds, owners),
        "picture": _pile(
            rows,
            None,
            np.tile([0, 1, *[2] * REGIONS], len(shown)),
            np.repeat([number for number, _ in shown], per_picture),
        ),
    }


def _pile(inputs: np.ndarray, spelled: np.ndarray | None, kinds: np.ndarray, owners: np.ndarray) -> Pile:
    return Pile(
        torch.from_numpy(inputs),
        None if spelled is None else torch.from_numpy(spelled),
        torch.from_numpy(kinds.astype(np.int64)),
        torch.from_numpy(owners.astype(np.int64)),
    )
