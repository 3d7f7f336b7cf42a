"""The recipe of the embedded encoder: ``clamr train --recipe mini --data DIR --out DIR``; see its MODEL_CARD.md."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors.numpy import save

from clamr_cli.encoders.mini import joint
from clamr_cli.encoders.mini.heads import NAMES, SENSE, WEIGHTS
from clamr_cli.errors import UsageError
from clamr_cli.evaluate.ids import listed
from clamr_cli.train import loop
from clamr_cli.train.folder import claim
from clamr_cli.train.losses import Scores
from clamr_cli.train.mini.batches import Batches
from clamr_cli.train.mini.check import check
from clamr_cli.train.mini.compose import ALONE, Habits
from clamr_cli.train.mini.gallery import PHOTOS
from clamr_cli.train.mini.material import Material, load
from clamr_cli.train.mini.model import MiniModel
from clamr_cli.train.options import Trained, TrainNote, TrainOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from clamr_cli.train.losses import Aggregation
    from clamr_cli.train.options import RecipeOptions, TrainEvent

DOCUMENTS: Final = 48
"""Documents of a batch."""

DEFAULTS: Final = TrainOptions(
    learning_rate=2e-4, temperature=0.06, weight_decay=0.01, steps=800, warmup=0.05, batch=DOCUMENTS
)
"""Each stage takes its share of the steps. The temperature is softer than the paper's 0.02."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training.

    Attributes:
        name: of its folder.
        note: what it does, for people.
        share: its steps, as a part of those of the run.
        apart: whether rows are left as they are.
        aggregations: how modalities become one score, unless another was asked for; losses are averaged.
        rates: learning rates of maps and gates, as multiples of that of the joint transformer.
        habits: how documents are composed.
        frozen: beginnings of the names of parameters that stay as they are.
    """

    name: str
    note: str
    share: float
    apart: bool
    aggregations: tuple[Aggregation, ...]
    rates: Mapping[str, float]
    habits: Habits
    frozen: tuple[str, ...] = ()


STAGES: Final = (
    # Few numbers that start far off.
    Stage(
        "heads", "stage 1 of 2: the heads, on rows that have not seen each other", 1.0, True, ("token-max",),
        {"maps": 3.0, "shifts": 9.0, "gates": 9.0, "tilts": 9.0}, ALONE,
    ),
    # Pictures and queries keep the vectors that stage 1 found: hundreds of photos are too few for millions of numbers.
    Stage(
        "joint", "stage 2 of 2: the joint transformer, which lets text see the rest", 0.3, False,
        ("token-max", "modality-max"), {"maps": 0.25, "shifts": 0.25, "gates": 0.25, "tilts": 0.25},
        Habits(related=0.5), tuple(f"{part}.{head}" for part in ("maps", "shifts", "gates", "tilts")
                                   for head in ("picture", "query_")),
    ),
)  # fmt: skip

_FACTS: Final = (
    "loss", "temperature", "learning_rate", "warmup", "weight_decay", "steps", "batch", "accumulation", "bf16", "seed",
)  # fmt: skip

_NEEDED: Final = (
    "train/caltech101",
    "train/flickr8k_1k/captions.csv",
    "train/flickr8k_1k/images",
    "train/imagenet_sample",
    "text/clamr_val_queries.json",
    "text/msvd_captions.json",
    "text/multi30k_train.de.gz",
    "text/multi30k_train.en.gz",
    "text/multi30k_train.fr.gz",
    "text/multivent1_base.csv",
    "text/multivent2_q.csv",
    "text/multivent2_qrels.jsonl",
)

_OTHERS: Final = {
    "queries": "QUERIES", "dev": "--dev", "model": "--model", "adapter": "--adapter", "lora_rank": "--lora-rank",
    "projection_init": "--projection-init", "four_bit": "--4bit", "checkpointing": "--gradient-checkpointing",
    "epochs": "--epochs",
}  # fmt: skip
"""Options of other recipes, by the names people know them by."""


def run(options: RecipeOptions) -> Iterator[TrainEvent]:
    """Train, write ``mini.safetensors`` into the output folder, and score it on what it has not seen.

    Raises:
        UsageError: the data folder is not given or lacks a part.
        ModelError: the frozen models' weights are absent.
    """
    data = _data(options)
    training = replace(options.training(DEFAULTS), device="cpu")
    facts = {"recipe": "mini", "data": str(data.resolve()), "aggregation": options.aggregation}
    facts |= {name: getattr(training, name) for name in _FACTS}
    claim(options.out, facts, resume=options.resume, results=(WEIGHTS,), stages=tuple(stage.name for stage in STAGES))
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        material = yield from load(data, options.cache)
    except OSError as error:
        raise UsageError(f"{data} is not whole: {error}", "see the model card of mini for what it holds") from error
    torch.manual_seed(training.seed)
    model = starting(material)
    for number, stage in enumerate(STAGES):
        yield TrainNote(stage.note)
        steps = max(1, round(stage.share * training.steps))
        model.apart = stage.apart
        batches = Batches(
            material,
            documents=training.batch,
            count=steps,
            seed=len(STAGES) * training.seed + number,
            habits=stage.habits,
        )
        # A batch is drawn whole: the trainer sees data of one item each.
        chosen = stage if options.aggregation is None else replace(stage, aggregations=(options.aggregation,))
        # Rows that stay as they are cost little: there is nothing to gain from rounding them.
        rounded = training.bf16 and not stage.apart
        own = replace(training, batch=1, steps=steps, aggregation=chosen.aggregations[0], bf16=rounded)
        yield from loop.run(MiniTrainer(chosen, model, own, options.out / stage.name, batches, lambda drawn: drawn[0]))
    path = options.out / WEIGHTS
    content = weights_file(model, material)
    path.write_bytes(content)
    yield TrainNote(f"{path.name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    yield TrainNote("scoring on held-out photos and texts")
    yield Trained(path, check(path, data, options.cache))


class MiniTrainer(loop.LateInteractionTrainer):
    """The trainer with a stage's learning rates.

    Args:
        stage: what is trained.
        arguments: those of :class:`clamr_cli.train.loop.LateInteractionTrainer`.
    """

    def __init__(self, stage: Stage, *arguments: Any) -> None:  # noqa: ANN401 -- passed through
        super().__init__(*arguments)
        self.stage = stage

    def loss_of(self, found: Scores, *labels: torch.Tensor, **more: Any) -> torch.Tensor:  # noqa: ANN401
        """The mean of the losses of the stage's aggregations."""
        ways = [found]
        if self.stage.aggregations == ("token-max", "modality-max"):
            best = found.per_modality.max(dim=-1).values
            ways.append(Scores(torch.where(best.isfinite(), best, found.total), found.per_modality))
        return torch.stack([super(MiniTrainer, self).loss_of(way, *labels, **more) for way in ways]).mean()

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:  # noqa: ARG002
        """AdamW with the stage's rates for maps and gates."""
        rate = self.options.learning_rate
        groups: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
        for name, parameter in self.model.named_parameters():
            if name.startswith(self.stage.frozen):
                continue
            groups[self.stage.rates.get(name.split(".")[0], 1.0)].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": members, "lr": rate * factor} for factor, members in groups.items()],
            weight_decay=self.options.weight_decay,
        )
        return self.optimizer


def starting(material: Material) -> MiniModel:
    """A model whose maps are the principal directions of words, passages and captions of the training part."""
    reads = [read for index in material.train_texts[:1500] for read in material.texts[index]]
    words = np.concatenate([read.states for read in reads])
    passages = np.stack([read.mean for read in reads])
    photos = material.groups[PHOTOS]
    captions = np.stack([material.queries[said].mean for index in photos for said in material.pictures[index].captions])
    gathered = np.concatenate([part - part.mean(axis=0) for part in (words[:8000], passages, captions)])
    _, directions = np.linalg.eigh(gathered.T @ gathered)
    sentence = np.concatenate([passages, captions]).mean(axis=0)
    means = {"word": words.mean(axis=0), "passage": sentence}
    means |= {"query.word": means["word"], "query.sentence": sentence}
    means["picture"] = np.float32(0.5) * material.rows[photos, 0].mean(axis=0)
    return MiniModel(np.ascontiguousarray(directions[:, ::-1][:, :SENSE], dtype=np.float32), means)


def weights_file(model: MiniModel, material: Material) -> bytes:
    """The trained tensors in float16, as the encoder reads them."""
    connector = material.connector
    tensors = model.tensors()
    tensors |= {"classes": material.classes, "connector.weight": connector.weight, "connector.bias": connector.bias}
    missing = {*NAMES, *joint.NAMES} - set(tensors)
    assert not missing, f"not trained: {sorted(missing)}"
    content: bytes = save({name: np.ascontiguousarray(tensors[name], dtype=np.float16) for name in sorted(tensors)})
    return content


def _data(options: RecipeOptions) -> Path:
    for name, told in _OTHERS.items():
        if getattr(options, name):
            hint = "give --steps" if name == "epochs" else f"leave {told} out"
            raise UsageError(f"the recipe mini makes its own batches and takes no {told}", hint)
    if options.data is None:
        raise UsageError("the recipe mini trains on its own data", "give --data DIR, see the model card of mini")
    missing = [name for name in _NEEDED if not (options.data / name).exists()]
    if missing:
        raise UsageError(f"{options.data} lacks {listed(missing)}", "see the model card of mini for what it holds")
    return options.data
