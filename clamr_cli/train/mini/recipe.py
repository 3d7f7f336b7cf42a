"""The recipe of the embedded encoder: ``clamr train --recipe mini --data DIR --out DIR``; see its MODEL_CARD.md."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from safetensors.numpy import save

from clamr_cli.encoders.mini.multilingual import HEADS, TRANSLATION
from clamr_cli.encoders.mini.networks import JOINT_TENSORS, SEMANTIC, TENSORS, WEIGHTS
from clamr_cli.errors import UsageError
from clamr_cli.evaluate.data import listed
from clamr_cli.train import loop
from clamr_cli.train.losses import Scores, modality_max
from clamr_cli.train.mini import gates, languages
from clamr_cli.train.mini.compose import UNRELATED, Batches, CompositionConfig
from clamr_cli.train.mini.evaluate import evaluate
from clamr_cli.train.mini.material import MORE, PAGES, PHOTOS, TrainingMaterial, load
from clamr_cli.train.mini.model import MiniModel
from clamr_cli.train.run import Aggregation, RecipeOptions, Trained, TrainEvent, TrainNote, TrainOptions, start_run

DEFAULTS: Final = TrainOptions(
    learning_rate=2e-4, temperature=0.06, weight_decay=0.01, steps=800, warmup=0.05, batch=48
)
"""``batch`` counts documents. The steps are multiplied by each stage's share. The temperature is higher than the
paper's 0.02."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training: its folder, a sentence for the user, and its share of the run's steps.

    ``separate`` encodes rows without the joint transformer. The losses of several aggregations are averaged. ``rates``
    are multiples of the joint transformer's learning rate; ``frozen`` are prefixes of parameters that are not trained.
    """

    name: str
    note: str
    share: float
    separate: bool
    aggregations: tuple[Aggregation, ...]
    rates: Mapping[str, float]
    config: CompositionConfig
    frozen: tuple[str, ...] = ()


STAGES: Final = (
    # Few parameters that start far from their optimum.
    Stage(
        "heads", "stage 1 of 2: the heads, on rows encoded separately", 1.0, True, ("token-max",),
        {"maps": 3.0, "shifts": 9.0, "gates": 9.0, "tilts": 9.0}, UNRELATED,
    ),
    # Images and queries keep the vectors of stage 1: hundreds of photos are too few for millions of parameters.
    Stage(
        "joint", "stage 2 of 2: the joint transformer, on text rows", 0.3, False,
        ("token-max", "modality-max"), {"maps": 0.25, "shifts": 0.25, "gates": 0.25, "tilts": 0.25},
        CompositionConfig(related=0.5), tuple(f"{part}.{head}" for part in ("maps", "shifts", "gates", "tilts")
                                   for head in ("picture", "query_")),
    ),
)  # fmt: skip

_SETTINGS: Final = (
    "loss", "temperature", "learning_rate", "warmup", "weight_decay", "steps", "batch", "accumulation", "bf16", "seed",
)  # fmt: skip

REQUIRED_FILES: Final = (
    "train/caltech101",
    "train/flickr8k_1k/captions.csv",
    "train/flickr8k_1k/images",
    "train/imagenet_sample",
    *(f"train/more/{name}/captions.csv" for name in MORE if name != PAGES),
    "text/clamr_val_queries.json",
    "text/msvd_captions.json",
    "text/multi30k_train.de.gz",
    "text/multi30k_train.en.gz",
    "text/multi30k_train.fr.gz",
    "text/multivent1_base.csv",
    "text/multivent2_q.csv",
    "text/multivent2_qrels.jsonl",
)

_UNUSED_OPTIONS: Final = {
    "queries": "QUERIES", "dev": "--dev", "model": "--model", "adapter": "--adapter", "lora_rank": "--lora-rank",
    "projection_init": "--projection-init", "four_bit": "--4bit", "checkpointing": "--gradient-checkpointing",
    "epochs": "--epochs",
}  # fmt: skip
"""Options of other recipes, with their names on the command line."""


def run(options: RecipeOptions) -> Iterator[TrainEvent]:
    """Train, write ``mini.safetensors`` into the output folder, and evaluate on held-out data.

    Raises:
        UsageError: the data folder is not given or lacks a part.
        ModelError: the frozen models' weights are absent.
    """
    for name, flag in _UNUSED_OPTIONS.items():
        if getattr(options, name) and not (options.backbone and name == "model"):
            hint = "give --steps" if name == "epochs" else f"leave {flag} out"
            raise UsageError(f"the recipe mini generates its own batches and takes no {flag}", hint)
    data = options.data
    if data is None:
        raise UsageError("the recipe mini needs its own data", "give --data DIR, see the model card of mini")
    # The further images are for the connector of mini.
    needed = [name for name in REQUIRED_FILES if not (options.backbone and name.startswith("train/more/"))]
    if missing := [name for name in needed if not (data / name).exists()]:
        raise UsageError(f"{data} lacks {listed(missing)}", "see the model card of mini for what it holds")
    if options.backbone:
        yield from gates.run(options, data)
        return
    training = replace(options.training(DEFAULTS), device="cpu")
    settings = {"recipe": "mini", "data": str(data.resolve()), "aggregation": options.aggregation}
    settings |= {name: getattr(training, name) for name in _SETTINGS}
    stages = [stage.name for stage in STAGES]
    start_run(options.out, settings, resume=options.resume, result=WEIGHTS, stages=stages)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        material = yield from load(data, options.cache)
    except OSError as error:
        raise UsageError(f"{data} is incomplete: {error}", "see the model card of mini for what it holds") from error
    torch.manual_seed(training.seed)
    model = initial_model(material)
    for number, default in enumerate(STAGES):
        aggregations = default.aggregations if options.aggregation is None else (options.aggregation,)
        stage = replace(default, aggregations=aggregations)
        yield TrainNote(stage.note)
        steps = max(1, round(stage.share * training.steps))
        model.separate = stage.separate
        seed = len(STAGES) * training.seed + number
        batches = Batches(material, documents=training.batch, count=steps, seed=seed, config=stage.config)
        # Heads alone are cheap: bfloat16 would gain nothing.
        bf16 = training.bf16 and not stage.separate
        # The data set has whole batches: the trainer gets one at a time.
        own = replace(training, batch=1, steps=steps, aggregation=stage.aggregations[0], bf16=bf16)
        trainer = MiniTrainer(stage, model, own, options.out / stage.name, batches, lambda items: items[0])
        yield from loop.train(trainer)
    if material.multilingual and material.examples:
        yield TrainNote("fitting the heads of the multilingual text model")
        reader, captions = material.multilingual, material.captions
        heads = languages.fit_heads(reader, data, material.examples, captions)
        translation = languages.fit_translation(reader, material.text_model, data, captions, heads)
        (options.out / HEADS).write_bytes(languages.heads_file(heads))
        (options.out / TRANSLATION).write_bytes(languages.heads_file(translation))
    path = options.out / WEIGHTS
    content = weights_file(model, material)
    path.write_bytes(content)
    yield TrainNote(f"{path.name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    yield TrainNote("evaluating on held-out photos and texts")
    yield Trained(path, evaluate(path, data, options.cache))


class MiniTrainer(loop.LateInteractionTrainer):
    """The trainer with a stage's learning rates and aggregations."""

    def __init__(self, stage: Stage, *arguments: Any) -> None:  # noqa: ANN401 -- passed through
        super().__init__(*arguments)
        self.stage = stage

    def loss_of(self, batch_scores: Scores, *labels: torch.Tensor, **more: Any) -> torch.Tensor:  # noqa: ANN401
        """The mean of the losses of the stage's aggregations."""
        aggregated = [batch_scores]
        if self.stage.aggregations == ("token-max", "modality-max"):
            per_modality = batch_scores.per_modality
            aggregated.append(Scores(modality_max(batch_scores.total, per_modality), per_modality))
        return torch.stack([super(MiniTrainer, self).loss_of(scores, *labels, **more) for scores in aggregated]).mean()

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


def initial_model(material: TrainingMaterial) -> MiniModel:
    """A model whose maps are the principal directions of words, passages and captions of the training part."""
    features = [passage for index in material.train_texts[:1500] for passage in material.texts[index]]
    words = np.concatenate([part.states for part in features])
    passages = np.stack([part.mean for part in features])
    photos = material.groups[PHOTOS]
    captions = np.stack(
        [material.queries[caption].mean for index in photos for caption in material.images[index].captions]
    )
    centred = np.concatenate([part - part.mean(axis=0) for part in (words[:8000], passages, captions)])
    _, directions = np.linalg.eigh(centred.T @ centred)
    sentence = np.concatenate([passages, captions]).mean(axis=0)
    means = {"word": words.mean(axis=0), "passage": sentence}
    means |= {"query.word": means["word"], "query.sentence": sentence}
    means["picture"] = np.float32(0.5) * material.rows[photos, 0].mean(axis=0)
    return MiniModel(np.ascontiguousarray(directions[:, ::-1][:, :SEMANTIC], dtype=np.float32), means)


def weights_file(model: MiniModel, material: TrainingMaterial) -> bytes:
    """The trained tensors in float16, as the encoder reads them."""
    weight, bias = material.connector
    tensors = {**model.tensors(), "classes": material.classes, "connector.weight": weight, "connector.bias": bias}
    missing = {*TENSORS, *JOINT_TENSORS} - set(tensors)
    assert not missing, f"not trained: {sorted(missing)}"
    content: bytes = save({name: np.ascontiguousarray(tensors[name], dtype=np.float16) for name in sorted(tensors)})
    return content
