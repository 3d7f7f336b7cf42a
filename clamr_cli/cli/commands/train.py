"""``clamr train``: train an encoder on your own library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Final

import typer

from clamr_cli.cli.options import Context, DeviceOption, EventsOption, finite, open_store, quiet_libraries
from clamr_cli.cli.output import warn
from clamr_cli.cli.progress import RunView, follow
from clamr_cli.errors import UsageError
from clamr_cli.train.run import (
    STAGES,
    Aggregation,
    Evaluated,
    LossName,
    RecipeName,
    RecipeOptions,
    Trained,
    TrainEvent,
    TrainNote,
    TrainStep,
    last_checkpoint,
    load_recipe,
)

_LINES: Final = 20  # lines of a stage where no bar can be drawn
_SMOOTHING: Final = 0.9


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))


def _positive(text: str) -> float:
    if (number := finite(text)) <= 0:
        raise UsageError(f"invalid number: {text}", "give one above zero")
    return number


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    queries: Annotated[
        Path | None,
        typer.Argument(
            metavar="QUERIES", parser=_path, help="Labelled queries about videos of the index.", show_default=False
        ),
    ] = None
    recipe: Annotated[RecipeName, typer.Option(help="What to train.")]
    out: Annotated[
        str, typer.Option("--out", "--output", "-o", metavar="DIR", help="Folder for checkpoints, log and result.")
    ]
    data: Annotated[Path | None, typer.Option(metavar="DIR", parser=_path, help="The recipe's own data (mini).")] = None
    dev: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=_path, help="Queries whose loss is shown after each epoch.")
    ] = None
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Train the gates of this encoder instead (mini: gemma).")
    ] = None
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Base model: a folder or hub id.")] = None
    adapter: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Continue from this adapter: a folder or hub id.")
    ] = None
    projection_init: Annotated[
        str | None, typer.Option(metavar="NAME", help="Draw of the projection: float16 (default) or float32.")
    ] = None
    lora_rank: Annotated[
        int | None, typer.Option(metavar="N", help="Rank of a fresh adapter (default 128).", min=1)
    ] = None
    loss: Annotated[LossName | None, typer.Option(help="contrastive is the default.")] = None
    aggregation: Annotated[Aggregation | None, typer.Option(help="How modalities become one score.")] = None
    learning_rate: Annotated[
        float | None, typer.Option("--lr", metavar="RATE", parser=_positive, help="Highest learning rate.")
    ] = None
    epochs: Annotated[float | None, typer.Option(metavar="N", parser=_positive, help="Passes over the data.")] = None
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps, instead of epochs.", min=1)] = None
    batch: Annotated[int | None, typer.Option(metavar="N", help="Pairs at once on a device.", min=1)] = None
    accumulation: Annotated[
        int | None, typer.Option("--accumulate", metavar="N", help="Batches whose gradients make one step.", min=1)
    ] = None
    save_every: Annotated[int | None, typer.Option(metavar="N", help="Steps between checkpoints.", min=1)] = None
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.", min=0)] = 0
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False
    four_bit: Annotated[bool, typer.Option("--4bit", help="Load what is frozen in 4 bits (CUDA).")] = False
    checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")] = (
        False
    )
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint in DIR.")] = False
    device: DeviceOption = None
    json: EventsOption = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")] = False


class TrainView(RunView[TrainEvent]):
    """A training run: a bar for each stage with its smoothed loss, twenty lines where none can be drawn."""

    def __init__(self, out: Path, recipe: str) -> None:
        self.out, self.recipe = out, recipe
        self.stage = self.step = self.line = 0
        self.loss = self.weight = 0.0

    def show(self, event: TrainEvent) -> None:
        match event:
            case TrainStep():
                self._show_step(event)
            case Evaluated():
                self.screen.line(f"step {event.step}: loss of the development queries {event.loss:.4f}")
            case TrainNote(text, done, total) if total:
                self.screen.bar(f"{text}: {done:,} of {total:,}", done, total, key=text)
            case TrainNote():
                self.screen.line(event.text)
            case Trained():
                metrics = ", ".join(f"{name} {value:g}" for name, value in event.metrics.items())
                self.screen.line(f"trained {event.path}" + f" ({metrics})" * bool(metrics), always=True)

    def _show_step(self, event: TrainStep) -> None:
        if event.step <= self.step:
            self.stage, self.line, self.loss, self.weight = self.stage + 1, 0, 0.0, 0.0
        self.step = event.step
        self.weight = _SMOOTHING * self.weight + 1.0 - _SMOOTHING
        self.loss += (event.loss - self.loss) * (1.0 - _SMOOTHING) / self.weight
        line = event.step * _LINES // event.total
        due = line > self.line or event.step == event.total
        self.line = line
        text = f"step {event.step}/{event.total}: loss {self.loss:.4f}"
        self.screen.bar(text, event.step, event.total, key=str(self.stage), due=due)

    def record(self, event: TrainEvent) -> Mapping[str, object]:
        record = {"event": type(event).__name__.lower(), **asdict(event)}
        return {name: str(value) if name == "path" else value for name, value in record.items()}

    def on_signal(self) -> None:
        # A step takes a while.
        warn("stopping after this step")

    def interrupted(self) -> str:
        checkpoint = last_checkpoint(self.out, STAGES.get(self.recipe, ()))
        if checkpoint is None:
            return "interrupted before the first checkpoint; run the same command again to start anew"
        return f"interrupted: {checkpoint.relative_to(self.out)} is kept; run the same command with --resume to go on"


def train(context: Context, arguments: TrainArguments) -> int:
    """Train an encoder on your own library.

    That is an adapter of the paper's encoder; --recipe mini trains the embedded one from its data.

    It can be interrupted at any time; the same command with --resume goes on where it stopped.
    On several GPUs: accelerate launch -m clamr_cli train ...

    Examples:
        clamr train queries.jsonl --recipe clamr -o run
    """
    from clamr_cli import config

    if arguments.steps is not None and arguments.epochs is not None:
        raise UsageError("--steps and --epochs exclude each other", "choose one")
    for path in (arguments.queries, arguments.data, arguments.dev):
        if path is not None and not path.exists():
            raise UsageError(f"no file or folder {path}", "name an existing one")
    settings = context.settings(device=arguments.device)
    quiet_libraries()
    recipe = load_recipe(arguments.recipe)
    if not config.debugging():
        from transformers import logging

        # The library has its own way to standard error.
        logging.set_verbosity_error()
    changes = {option.name: getattr(arguments, option.name, None) for option in fields(RecipeOptions)}
    changes |= {
        "out": Path(os.path.expanduser(arguments.out)),
        "cache": settings.cache,
        "store": open_store(settings) if arguments.queries else None,
        "model": arguments.model or settings.encoder_settings(arguments.backbone or arguments.recipe).get("model"),
        "device": settings.device,
        "threads": settings.threads,
    }
    options = RecipeOptions(**{name: value for name, value in changes.items() if value is not None})
    view = TrainView(options.out, arguments.recipe)
    return follow(recipe(options), view, quiet=arguments.quiet, json=arguments.json)
