"""A training run of any recipe: its options, its events, and its folder of settings, checkpoints, log and plot.

Imports nothing heavy.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from clamr_cli.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from clamr_cli.store import Store

RecipeName = Literal["mini", "clamr", "clamr-omni"]
LossName = Literal["contrastive", "hard-positive", "hard-negative", "pairwise"]
Aggregation = Literal["token-max", "modality-max"]

RECIPES: Final[Mapping[RecipeName, str]] = {
    "mini": "clamr_cli.train.mini.recipe:run",
    "clamr": "clamr_cli.train.clamr:run",
    "clamr-omni": "clamr_cli.train.clamr:run_omni",
}
"""Recipe name -> "module:function"; see :data:`Recipe`."""

STAGES: Final[Mapping[str, tuple[str, ...]]] = {"mini": ("heads", "joint")}
"""Folders, within that of a run, of the stages of recipes that have several, in order."""

_PACKAGES: Final = ("accelerate", "matplotlib", "peft")  # the packages of the extra ``train``
_CHECKPOINT: Final = "checkpoint-"  # prefix of the folders that hold a checkpoint; the number of the step follows
_SETTINGS: Final = "run.json"
_SMOOTHING: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Options of the trainer; the defaults are the paper's."""

    loss: LossName = "contrastive"
    aggregation: Aggregation = "modality-max"  # how modalities become one score while training
    temperature: float = 0.02  # divides the scores
    learning_rate: float = 1e-5  # the highest; it falls linearly to zero after the warm-up
    warmup: float = 0.1  # share of the steps in which the rate rises, in [0, 1)
    weight_decay: float = 0.01
    epochs: float = 1.0  # passes over the data; not used where `steps` is positive
    steps: int = 0  # optimiser steps; 0 for `epochs`
    batch: int = 16  # pairs of query and document on each process at once: all others in it are negatives
    accumulation: int = 1  # batches whose gradients make one step
    bf16: bool = False  # compute in bfloat16 where it is safe
    seed: int = 0  # of the order of the data, of dropout and of fresh weights
    save_every: int = 0  # steps between checkpoints; 0 for ten in a run
    resume: bool = False  # continue from the newest checkpoint
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeOptions:
    """Options of a recipe; None and empty mean the recipe's own default."""

    out: Path  # folder of the run: checkpoints, log, plot and the trained model
    cache: Path  # folder of weights and digests
    queries: Path | None = None  # JSONL of labelled queries; None for recipes that have their own
    dev: Path | None = None  # JSONL of queries whose loss is reported after each epoch
    store: Store | None = None  # the index whose documents answer the queries; None where there are no queries
    data: Path | None = None  # folder of the recipe's own data
    backbone: str = ""  # encoder whose gates are trained instead
    model: str = ""  # base, a folder or hub id
    adapter: str = ""  # to start from, likewise
    projection_init: str = ""  # draw of the projection's base, if neither base nor adapter holds it
    lora_rank: int | None = None  # of a fresh adapter
    four_bit: bool = False  # load the frozen layers in 4 bits
    checkpointing: bool = False  # compute activations again on the way back instead of keeping them
    threads: int = 0  # of the CPU; 0 leaves the choice to the libraries
    # These are options of the trainer, see `TrainOptions`.
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
    resume: bool = False
    device: str = "auto"

    def training(self, defaults: TrainOptions | None = None) -> TrainOptions:
        """The options of the trainer: those of the user, else a recipe's defaults."""
        options = {option.name: getattr(self, option.name, None) for option in fields(TrainOptions)}
        changes = {name: value for name, value in options.items() if value is not None}
        if self.steps is None and self.epochs is not None:
            changes["steps"] = 0
        return replace(defaults or TrainOptions(), **changes)


@dataclass(frozen=True, slots=True)
class TrainStep:
    """A finished step."""

    step: int
    total: int
    loss: float  # its mean
    seconds: float  # that it took


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The mean loss of the development queries after a step."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrainNote:
    """A message for the user: what begins, or how many of ``total`` are done."""

    text: str
    done: int = 0
    total: int = 0


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
    if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
        raise MissingExtra("training", "train")
    module, _, function = RECIPES[name].partition(":")
    return cast("Recipe", getattr(importlib.import_module(module), function))


def start_run(
    out: Path, settings: Mapping[str, object], *, resume: bool, result: str, stages: Sequence[str] = ()
) -> None:
    """Start or resume a run in a folder, which is created if needed.

    ``settings`` are everything that the course of the run depends on, as JSON values; they are stored in ``run.json``.
    ``result`` names the file that a finished run leaves, ``stages`` the folders of the run's stages, if it has several.

    Raises:
        UsageError: the folder holds a run although none is to be resumed, or none although one is, or a run with other
            settings, or it cannot be written.
    """
    if resume:
        previous = _read_object(out / _SETTINGS)
        if previous is None or last_checkpoint(out, stages) is None:
            raise UsageError(f"no run to resume in {out}", "leave --resume out to start one")
        # The values as they are read back: JSON has no tuples.
        current = json.loads(json.dumps(settings))
        for name in sorted(previous.keys() | current.keys()):
            old, new = previous.get(name), current.get(name)
            if old != new:
                what = f"the run in {out} was started with {name} {old!r}, not {new!r}"
                raise UsageError(what, "resume with the options it was started with, or name another --out")
        return
    started = any(any((out / stage).glob(f"{_CHECKPOINT}*")) for stage in stages or ("",))
    if started or (out / result).exists():
        raise UsageError(f"{out} holds a run already", "resume it with --resume, or name another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = out / f"{_SETTINGS}.{os.getpid()}"
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        # All processes of a run write the same.
        temporary.replace(out / _SETTINGS)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}", "name another --out") from error


def last_checkpoint(out: Path, stages: Sequence[str] = ()) -> Path | None:
    """The newest complete checkpoint of a run; the trainer's state is written last, so one that can be read tells."""
    for folder in [out / stage for stage in reversed(stages)] or [out]:
        steps = {
            int(path.name.removeprefix(_CHECKPOINT)): path
            for path in folder.glob(f"{_CHECKPOINT}*")
            if path.name.removeprefix(_CHECKPOINT).isdecimal() and _read_object(path / "trainer_state.json") is not None
        }
        if steps:
            return steps[max(steps)]
    return None


def _read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class Log:
    """``log.jsonl`` and ``loss.png`` in the folder of a run.

    A line is ``{"step", "loss", "lr", "grad_norm", "seconds"}`` (mean loss, learning rate, norm of the gradient before
    clipping and duration of the step) or ``{"step", "dev_loss"}``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "log.jsonl"

    def begin(self, step: int) -> None:
        """Remove the lines after the step that a run is resumed from; 0 removes all."""
        entries = [entry for entry in self.entries() if entry["step"] <= step] if step else []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")

    def write(self, entry: Mapping[str, float]) -> None:
        """Append a line at once."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """All lines; one that was cut off by a crash is left out."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines[:-1] if line.endswith("}")]

    def plot(self) -> None:
        """Draw the losses by step.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtra("drawing the loss", "train") from error

        entries = self.entries()
        losses = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
        development = [(entry["step"], entry["dev_loss"]) for entry in entries if "dev_loss" in entry]
        # An exponential running mean, without bias at its start.
        smoothed, mean = [], 0.0
        for number, (step, loss) in enumerate(losses, 1):
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            smoothed.append((step, mean / (1 - _SMOOTHING**number)))
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="step", ylabel="loss")
        for points, style, options in (
            (losses, "-", {"color": "#9ecae1", "linewidth": 0.8, "label": "each step"}),
            (smoothed, "-", {"color": "#08519c", "label": "smoothed"}),
            (development, "o-", {"color": "#d94801", "label": "development queries"}),
        ):
            if points or style == "-":
                axes.plot([step for step, _ in points], [loss for _, loss in points], style, **options)
        axes.legend()
        figure.savefig(self.folder / "loss.png", dpi=120)
