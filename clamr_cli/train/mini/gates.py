"""Gates for a frozen encoder: ``clamr train --recipe mini --backbone gemma --data DIR --out DIR``.

The backbone's vectors of the recipe's photos and texts are computed once and kept in the cache folder. Trained is how
its rows share out their unit length, a few numbers for each modality and one tilt for queries
(:class:`clamr_cli.encoders.gemma.Gates`), by the recipe's composed documents: the share of meaning is a modality's
logit scale, its prior the logit bias. The encoder's own calibration by its bank of queries stays below.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from clamr_cli import encoders
from clamr_cli.encoders.gemma import (
    DOCUMENT,
    GATE_SCALE,
    GATES,
    HALF,
    MARK,
    OPEN,
    QUERY,
    WIDTH,
    Gates,
    GemmaEncoder,
    unit,
)
from clamr_cli.errors import UsageError
from clamr_cli.files import write_atomically
from clamr_cli.train import loop
from clamr_cli.train.losses import Batch, Encoded
from clamr_cli.train.mini import data as files
from clamr_cli.train.mini.compose import Composer, CompositionConfig
from clamr_cli.train.mini.data import CaptionedImage, Entry
from clamr_cli.train.run import RecipeOptions, Trained, TrainEvent, TrainNote, TrainOptions, start_run
from clamr_cli.types import DIMENSION, MODALITY_IDS, Frame, Modality, Span

Array = NDArray[np.float32]

BACKBONES: Final = ("gemma",)

DEFAULTS: Final = TrainOptions(
    aggregation="token-max", learning_rate=0.05, temperature=0.02, weight_decay=0.0, steps=300, warmup=0.05, batch=48
)
"""``batch`` counts documents. Gates are few and start far from their optimum."""

_CHUNK: Final = 256
_WHOLE: Final = Span(0.0, 0.0)
_ALL: Final = CompositionConfig(related=0.25, channel=0.0, both=0.3)
_AIMS: Final = (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Parts that documents are composed of, and the backbone's vectors [n, 248] of them.

    Attributes:
        pictures: of each image.
        passages: of each entry.
        spoken: of captions as texts of documents.
        queries: less the bank's mean, of unit length.
    """

    images: list[CaptionedImage]
    entries: list[Entry]
    pictures: Array
    passages: list[Array]
    spoken: dict[str, Array]
    queries: dict[str, Array]


def run(options: RecipeOptions, data: Path) -> Iterator[TrainEvent]:
    """Train the gates, write them into the output folder, and say what they change on held-out photos and texts.

    Raises:
        UsageError: the backbone is unknown.
        ModelError: its weights are absent.
    """
    if options.backbone not in BACKBONES:
        raise UsageError(f"invalid backbone {options.backbone!r}", f"use {', '.join(BACKBONES)}")
    training = options.training(DEFAULTS)
    own = {"model": options.model} if options.model else {}
    device, threads = options.device, options.threads
    encoder = encoders.create(options.backbone, cache=options.cache, device=device, threads=threads, **own)
    assert isinstance(encoder, GemmaEncoder)
    names = ("loss", "temperature", "learning_rate", "warmup", "steps", "batch", "accumulation", "seed", "aggregation")
    settings: dict[str, object] = {"recipe": "mini", "backbone": encoder.info.fingerprint, "data": str(data.resolve())}
    settings |= {name: getattr(training, name) for name in names}
    start_run(options.out, settings, resume=options.resume, result=GATES)
    vectors = yield from load(encoder, data, options.cache)
    torch.manual_seed(training.seed)
    model = GateModel()
    (train, held_out), (texts, held_out_texts) = (
        files.split_photos(vectors.images),
        files.split_entries(vectors.entries),
    )
    batches = Batches(vectors, train, texts, documents=training.batch, count=training.steps, seed=training.seed)
    # The data set has whole batches: the trainer gets one at a time.
    trainer = loop.LateInteractionTrainer(
        model, replace(training, batch=1, device="cpu"), options.out, batches, lambda items: items[0]
    )
    yield from loop.train(trainer)
    gates = model.gates()
    save_file(
        {"documents": gates.documents, "query": gates.query, "tilt": gates.tilt}, options.out / GATES,
    )  # fmt: skip
    held = Batches(vectors, held_out, held_out_texts, documents=len(held_out), count=1, seed=1)
    measures: dict[str, float] = {}
    for name, of in (("open", OPEN), ("trained", gates)):
        measures |= {f"{name}/{key}": value for key, value in measure(held, of).items()}
    yield Trained(options.out / GATES, measures)


def load(encoder: GemmaEncoder, data: Path, cache: Path) -> Generator[TrainNote, None, Vectors]:
    """Read the data folder and encode it; what an earlier run with this backbone encoded is read from the cache."""
    images, entries = files.photos(data), files.entries(data)
    folder = data / "train/flickr8k_1k/images"
    spoken = sorted({caption for image in images for caption in image.captions})
    queries = sorted(
        {query for entry in entries for query in entry.queries}
        | {text for image in images for text in (*image.captions, *image.pieces)}
    )
    texts = [entry.text for entry in entries]
    cut = [list(encoder.model.passages([text], across=False)) for text in texts]
    passages = [[text[start:end] for ((_, start, end), *_) in parts] for text, parts in zip(texts, cut, strict=True)]
    jpegs = [(folder / image.name).read_bytes() for image in images]

    def pictures(part: Sequence[bytes]) -> Array:
        return encoder.model.pictures([Frame(0.0, _WHOLE, jpeg) for jpeg in part])

    stored = _Stored(cache / "gemma" / f"vectors-{encoder.info.fingerprint}.npz")
    shown = yield from stored.encode("pictures", jpegs, pictures)
    flat = [DOCUMENT + text for text in [*spoken, *(passage for part in passages for passage in part)]]
    written = yield from stored.encode("texts", flat, encoder.model.texts)
    asked = yield from stored.encode("queries", [QUERY + query for query in queries], encoder.model.texts)
    bank = encoder.bank
    rest = iter(bank.scaled(written[len(spoken) :]))
    return Vectors(
        images,
        entries,
        bank.scaled(shown),
        [np.stack([next(rest) for _ in part]) if part else np.zeros((0, WIDTH), np.float32) for part in passages],
        dict(zip(spoken, bank.scaled(written[: len(spoken)]), strict=True)),
        dict(zip(queries, unit(asked - bank.mean), strict=True)),
    )


class _Stored:
    """Vectors of a backbone in a file of the cache, by the hash of what they stand for."""

    def __init__(self, path: Path) -> None:
        self._path, self._known = path, {}
        try:
            with np.load(path, allow_pickle=False) as stored:
                self._known = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))
        except (OSError, ValueError, KeyError):
            pass

    def encode(
        self, name: str, items: Sequence[Any], compute: Callable[[Sequence[Any]], Array]
    ) -> Generator[TrainNote, None, Array]:
        """The vectors [n, 248] of items (bytes or text); yields progress, and keeps what it computed so far."""
        contents = [item if isinstance(item, bytes) else item.encode("utf-8", "replace") for item in items]
        keys = [f"{name}/{hashlib.blake2b(content, digest_size=16).hexdigest()}" for content in contents]
        missing = list({key: item for key, item in zip(keys, items, strict=True) if key not in self._known}.items())
        for start in range(0, len(missing), _CHUNK):
            yield TrainNote(f"encoding {name}", start, len(missing))
            part = missing[start : start + _CHUNK]
            self._known |= dict(zip([key for key, _ in part], compute([item for _, item in part]), strict=True))
        if missing:
            content = io.BytesIO()
            np.savez(content, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))
            write_atomically(self._path, content.getvalue())
        return np.stack([self._known[key] for key in keys]).astype(np.float32)


class Batches(Dataset[Batch]):
    """``count`` batches of ``documents`` composed documents by number; each number always gives the same batch."""

    def __init__(
        self, vectors: Vectors, images: Sequence[int], texts: Sequence[int], *, documents: int, count: int, seed: int
    ) -> None:
        self._vectors, self._images, self._texts = vectors, images, texts
        self._documents, self._count, self._seed = documents, count, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Batch:
        vectors, rng = self._vectors, random.Random(self._seed * 1_000_003 + number)
        image_ids = files.distinct(vectors.images, self._images, 3 * self._documents, rng)
        composer = Composer(vectors.images, image_ids, vectors.entries, self._texts, rng, _ALL)
        rows: list[list[Array]] = []
        ids: list[list[int]] = []
        queries: list[tuple[Array, int, int]] = []
        for position in range(self._documents):
            document = composer.compose()
            own = [(vectors.pictures[index], MODALITY_IDS[Modality.VIDEO]) for index, _ in document.images]
            for modality, texts in document.texts.items():
                for text in texts:
                    parts = vectors.passages[text.entry] if text.entry >= 0 else [vectors.spoken[text.caption]]
                    own += [(part, MODALITY_IDS[modality]) for part in parts]
            rows.append([row for row, _ in own])
            ids.append([modality_id for _, modality_id in own])
            single = [(query, aim) for query, aim in document.queries if aim is not None and query in vectors.queries]
            aims = sorted({aim for _, aim in single})
            # One query each for three aims: speech, which has the most, must not outweigh the others.
            for aim in rng.sample(aims, min(3, len(aims))):
                query = rng.choice([text for text, own_aim in single if own_aim is aim])
                queries.append((vectors.queries[query], MODALITY_IDS[aim], position))
        longest = max(1, *map(len, rows))
        padded = np.zeros((len(rows), longest, WIDTH), np.float32)
        modality_ids = np.full((len(rows), longest), -1)
        for position, (own_rows, own_ids) in enumerate(zip(rows, ids, strict=True)):
            if own_rows:
                padded[position, : len(own_rows)] = np.stack(own_rows)
                modality_ids[position, : len(own_ids)] = own_ids
        targets = torch.tensor([position for _, _, position in queries])
        return Batch(
            inputs={
                "queries": torch.from_numpy(np.stack([query for query, _, _ in queries])),
                "documents": torch.from_numpy(padded),
                "modality_ids": torch.from_numpy(modality_ids),
            },
            targets=targets,
            query_modalities=torch.tensor([aim for _, aim, _ in queries]),
            document_keys=torch.arange(len(rows)),
            answers=targets[:, None],
        )


class GateModel(nn.Module):
    """The gates in torch, and a scale of all scores, which ranks nothing but lets the loss fit."""

    def __init__(self) -> None:
        super().__init__()
        # Nearly open: the encoder's own calibration is where training starts.
        self.documents = nn.Parameter(torch.tensor([[3.0, -1.0, 0.0]]).repeat(len(OPEN.documents), 1))
        self.query = nn.Parameter(torch.tensor([3.0, 0.0]))
        self.tilt = nn.Parameter(torch.zeros(WIDTH, 2))
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, queries: Tensor, documents: Tensor, modality_ids: Tensor) -> Encoded:
        """Rows of queries [q, 248] and documents [d, n, 248] (modality id -1 where padded), as the encoder makes them.

        The numbers that meet nothing, which make a row's length 1, are left out.
        """
        meaning = (self.query + GATE_SCALE * queries @ self.tilt).softmax(dim=-1).clamp_min(1e-9).sqrt()[:, :1]
        shares = self.documents.softmax(dim=-1).clamp_min(1e-9).sqrt()[modality_ids.clamp_min(0)]
        query_rows = _halves(queries * meaning, None).reshape(2, len(queries), -1).transpose(0, 1)
        flat = _halves((documents * shares[..., :1]).flatten(0, 1), shares[..., 1].flatten())
        rows = flat.reshape(2, *modality_ids.shape, -1).transpose(0, 1).flatten(1, 2)
        ids = modality_ids.repeat(1, 2)
        mask = torch.ones(query_rows.shape[:2], dtype=torch.bool)
        return Encoded(query_rows * self.scale.exp(), mask, rows, ids >= 0, ids.clamp_min(0))

    def gates(self) -> Gates:
        """The gates as the encoder reads them."""
        return Gates(*(part.detach().numpy().astype(np.float32) for part in (self.documents, self.query, self.tilt)))


def _halves(vectors: Tensor, prior: Tensor | None) -> Tensor:
    """Rows [2 * n, 128] of vectors [n, 248], all first halves and then all second; of queries where ``prior`` is None.

    See :func:`clamr_cli.encoders.gemma.Bank.document_rows`.
    """
    halves = []
    for half in (0, 1):
        own = (1 - MARK) ** 0.5 * vectors[:, half * HALF : (half + 1) * HALF]
        marks = vectors.new_zeros(len(vectors), DIMENSION - HALF)
        if prior is None:
            marks[:, half] = MARK**0.5
        else:
            marks[:, 1 - half] = -(MARK**0.5)
            place = torch.nn.functional.one_hot(torch.tensor(half), DIMENSION - HALF).to(vectors.dtype)
            marks = marks + (1 - MARK) ** 0.5 * prior[:, None] * place
        halves.append(torch.cat([own, marks], dim=1))
    return torch.cat(halves)


def measure(batches: Batches, gates: Gates) -> dict[str, float]:
    """Of the first batch: the shares of queries that find their document first, and that their own modality answers.

    By the modality they aim at, and for all.
    """
    batch, model = batches[0], GateModel()
    with torch.no_grad():
        for name in ("documents", "query", "tilt"):
            getattr(model, name).copy_(torch.from_numpy(np.nan_to_num(getattr(gates, name), neginf=-1e9)))
        encoded = model(**batch["inputs"])
        best = torch.einsum("qth,dsh->qdts", encoded.queries, encoded.documents)
        best = best.masked_fill(~encoded.document_mask[None, :, None, :], -torch.inf)
        ranks = (best.max(dim=-1).values.sum(dim=-1)).argmax(dim=1)
        targets, aims = batch["targets"], batch["query_modalities"]
        own = best[torch.arange(len(targets)), targets]
        by_modality = torch.stack(
            [
                own.masked_fill((encoded.modality_ids[targets] != MODALITY_IDS[aim])[:, None], -torch.inf)
                .max(dim=-1)
                .values.sum(dim=-1)
                for aim in _AIMS
            ],
            dim=1,
        )
        won = torch.tensor([MODALITY_IDS[aim] for aim in _AIMS])[by_modality.argmax(dim=1)]
    measures = {}
    for name, members in [("all", aims >= 0)] + [(aim.value, aims == MODALITY_IDS[aim]) for aim in _AIMS]:
        if members.any():
            measures[f"{name}/R@1"] = round(float((ranks == targets)[members].float().mean()), 4)
            measures[f"{name}/won"] = round(float((won == aims)[members].float().mean()), 4)
    return measures
