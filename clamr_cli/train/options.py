"""Options and events of a training run, shared by all recipes. Imports nothing heavy."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from clamr_cli.errors import MissingExtra

if TYPE_CHECKING:
    from clamr_cli.store import Store

RecipeName = Literal["mini", "clamr", "clamr-omni"]
LossName = Literal["contrastive", "hard-positive", "hard-negative", "pairwise"]
Aggregation = Literal["token-max", "modality-max"]

RECIPES: Final[Mapping[RecipeName, str]] = {
    "mini": "clamr_cli.train.mini.recipe:run",
    "clamr": "clamr_cli.train.clamr.recipe:run",
    "clamr-omni": "clamr_cli.train.clamr.recipe:run_omni",
}
"""Recipe name -> "module:function"; see :data:`Recipe`."""

STAGES: Final[Mapping[str, tuple[str, ...]]] = {"mini": ("heads", "joint")}
"""Folders, within that of a run, of the stages of recipes that have several, in order."""

PACKAGES: Final = ("accelerate", "matplotlib", "peft")
"""The packages of the extra ``train``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Options of the trainer; the defaults are the paper's.

    Attributes:
        loss: a key of :data:`clamr_cli.train.losses.LOSSES`.
        aggregation: how modalities become one score while training.
        temperature: divides the scores.
        learning_rate: the highest; it falls linearly to zero after the warm-up.
        warmup: share of the steps in which the rate rises, in [0, 1).
        weight_decay: of AdamW.
        epochs: passes over the data; not used where ``steps`` is positive.
        steps: optimiser steps; 0 for ``epochs``.
        batch: pairs of query and document on each process at once: all others in it are negatives.
        accumulation: batches whose gradients make one step.
        bf16: compute in bfloat16 where it is safe.
        seed: of the order of the data, of dropout and of fresh weights.
        save_every: steps between checkpoints; 0 for ten in a run.
        resume: continue from the newest checkpoint.
        device: "auto", "cpu", "cuda" or "mps".
    """

    loss: LossName = "contrastive"
    aggregation: Aggregation = "modality-max"
    temperature: float = 0.02
    learning_rate: float = 1e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    epochs: float = 1.0
    steps: int = 0
    batch: int = 16
    accumulation: int = 1
    bf16: bool = False
    seed: int = 0
    save_every: int = 0
    resume: bool = False
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeOptions:
    """Options of a recipe. None and empty mean the recipe's own default; the others are those of :class:`TrainOptions`.

    Attributes:
        out: folder of the run: checkpoints, log, plot and the trained model.
        cache: folder of weights and digests.
        queries: JSONL of labelled queries; None for recipes that have their own.
        dev: JSONL of queries whose loss is reported after each epoch.
        store: the index whose documents answer the queries; None where there are no queries.
        data: folder of the recipe's own data.
        model, adapter: base and starting adapter, a folder or hub id each.
        projection_init: random generation of the projection's base, if neither base nor adapter holds it.
        lora_rank: rank of a fresh adapter.
        four_bit: load the frozen layers in 4 bits.
        checkpointing: compute activations again on the way back instead of keeping them.
        threads: CPU threads; 0 leaves the choice to the libraries.
    """

    out: Path
    cache: Path
    queries: Path | None = None
    dev: Path | None = None
    store: Store | None = None
    data: Path | None = None
    model: str = ""
    adapter: str = ""
    projection_init: str = ""
    lora_rank: int | None = None
    loss: LossName | None = None
    aggregation: Aggregation | None = None
    learning_rate: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch: int | None = None
    accumulation: int | None = None
    save_every: int | None = None
    seed: int = 0
    bf16: bool = False
    four_bit: bool = False
    checkpointing: bool = False
    resume: bool = False
    device: str = "auto"
    threads: int = 0

    def training(self, defaults: TrainOptions | None = None) -> TrainOptions:
        """The options of the trainer: those of the user, else a recipe's defaults."""
        options = {option.name: getattr(self, option.name, None) for option in fields(TrainOptions)}
        changes = {name: value for name, value in options.items() if value is not None}
        if self.steps is None and self.epochs is not None:
            changes["steps"] = 0
        return replace(defaults or TrainOptions(), **changes)


@dataclass(frozen=True, slots=True)
class TrainStep:
    """A finished step: its number of ``total``, its mean loss, and its duration in seconds."""

    step: int
    total: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The mean loss of the development queries after a step."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrainNote:
    """A message for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Trained:
    """The end of a run: the path of the trained model, and measures of it."""

    path: Path
    metrics: Mapping[str, float] = field(default_factory=dict)


TrainEvent = TrainStep | Evaluated | TrainNote | Trained
Recipe = Callable[[RecipeOptions], Iterator[TrainEvent]]
"""A generator of events, :class:`Trained` last. Closed early, it saves a checkpoint and ends."""


def load_recipe(name: RecipeName) -> Recipe:
    """The function behind a recipe's name.

    Raises:
        MissingExtra: the packages for training are not installed.
    """
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise MissingExtra("training", "train")
    module, _, function = RECIPES[name].partition(":")
    return cast("Recipe", getattr(importlib.import_module(module), function))
