"""``clamr train``."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from clamr_cli.errors import EXIT_FOUND, EXIT_INTERRUPTED, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from clamr_cli.cli.runtime import Context
    from clamr_cli.config import Settings
    from clamr_cli.train.options import RecipeOptions, TrainEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Options of ``clamr train``."""

    queries: Annotated[
        str | None,
        typer.Argument(metavar="[QUERIES]", help="Labelled queries about videos of the index.", show_default=False),
    ] = None
    recipe: Annotated[str, typer.Option("--recipe", metavar="NAME", help="mini, clamr or clamr-omni.")]
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Folder for checkpoints, log and result.")]
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="The recipe's own data (mini).")] = None
    dev: Annotated[
        str | None, typer.Option("--dev", metavar="FILE", help="Queries whose loss is told after each epoch.")
    ] = None
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Base model: a folder or hub id.")] = (
        None
    )
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="MODEL", help="Go on from this adapter: a folder or hub id.")
    ] = None
    projection_init: Annotated[
        str | None,
        typer.Option("--projection-init", metavar="NAME", help="Draw of the projection: float16 (default) or float32."),
    ] = None
    lora_rank: Annotated[
        int | None, typer.Option("--lora-rank", metavar="N", help="Rank of a fresh adapter (default 128).", min=1)
    ] = None
    loss: Annotated[
        str | None,
        typer.Option("--loss", metavar="NAME", help="contrastive (default), hard-positive, hard-negative, pairwise."),
    ] = None
    aggregation: Annotated[
        str | None, typer.Option("--aggregation", metavar="NAME", help="token-max or modality-max.")
    ] = None
    lr: Annotated[float | None, typer.Option("--lr", metavar="RATE", help="Highest learning rate.", min=0.0)] = None
    epochs: Annotated[float | None, typer.Option("--epochs", metavar="N", help="Passes over the data.", min=0.0)] = None
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Steps, instead of epochs.", min=1)] = None
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="Pairs at once on a device.", min=1)] = None
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", metavar="N", help="Batches whose gradients make one step.", min=1)
    ] = None
    save_every: Annotated[
        int | None, typer.Option("--save-every", metavar="N", help="Steps between checkpoints.", min=1)
    ] = None
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of all that is drawn.", min=0)] = 0
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False
    four_bit: Annotated[bool, typer.Option("--4bit", help="Load what is frozen in 4 bits (CUDA).")] = False
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
    ] = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in DIR.")] = False
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")] = None
    json: Annotated[bool, typer.Option("--json", help="Print what happens as JSON lines.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only how it ended.")] = False


def run(before: Context, flags: Flags) -> int:
    """Train an encoder on your own library.

    That is an adapter of the paper's encoder; --recipe mini trains the embedded one from its data.

    It can be interrupted at any time; the same command with --resume goes on where it stopped.
    On several GPUs: accelerate launch -m clamr_cli train ...
    """
    from clamr_cli.cli.runtime import quiet_libraries
    from clamr_cli.train.options import load_recipe

    _check(flags)
    settings = before.settings(device=flags.device)
    quiet_libraries()
    train = load_recipe(flags.recipe)
    _quiet_models()
    options = _options(settings, flags)
    return _follow(train(options), flags, options.out)


def _quiet_models() -> None:
    """The library that models come from has its own way to standard error."""
    from clamr_cli import config

    if not config.debugging():
        from transformers import logging

        logging.set_verbosity_error()


def _check(flags: Flags) -> None:
    """Refuse what cannot be meant before anything is opened."""
    from clamr_cli.train.options import AGGREGATIONS, LOSS_NAMES, RECIPES

    for name, value, known in (
        ("recipe", flags.recipe, tuple(RECIPES)),
        ("--loss", flags.loss, LOSS_NAMES),
        ("--aggregation", flags.aggregation, AGGREGATIONS),
    ):
        if value is not None and value not in known:
            raise UsageError(f"invalid {name} {value!r}", f"use one of {', '.join(known)}")
    if flags.steps is not None and flags.epochs is not None:
        raise UsageError("--steps and --epochs exclude each other", "choose one")
    for option, number in (("--lr", flags.lr), ("--epochs", flags.epochs)):
        if number is not None and not 0 < number < float("inf"):
            raise UsageError(f"{option} {number:g} is not above zero", "give a positive number")
    for given in (flags.queries, flags.dev, flags.data):
        _path(given)


def _options(settings: Settings, flags: Flags) -> RecipeOptions:
    """What the recipe is asked for, with the index open where there are queries."""
    from pathlib import Path

    from clamr_cli.cli.runtime import open_store
    from clamr_cli.train.options import RecipeOptions

    configured = settings.encoder_settings(flags.recipe)
    return RecipeOptions(
        out=Path(os.path.expanduser(flags.out)),
        cache=settings.cache,
        queries=_path(flags.queries),
        dev=_path(flags.dev),
        store=open_store(settings) if flags.queries else None,
        data=_path(flags.data),
        model=flags.model or str(configured.get("model", "")),
        adapter=flags.adapter or "",
        projection_init=flags.projection_init or "",
        lora_rank=flags.lora_rank,
        loss=flags.loss,
        aggregation=flags.aggregation,  # type: ignore[arg-type]
        learning_rate=flags.lr,
        epochs=flags.epochs,
        steps=flags.steps,
        batch=flags.batch,
        accumulation=flags.accumulate,
        save_every=flags.save_every,
        seed=flags.seed,
        bf16=flags.bf16,
        four_bit=flags.four_bit,
        checkpointing=flags.gradient_checkpointing,
        resume=flags.resume,
        device=settings.device,
        threads=settings.threads,
    )


def _path(given: str | None) -> Path | None:
    """A file or folder that must be there.

    Raises:
        UsageError: it is not.
    """
    from pathlib import Path

    if given is None:
        return None
    path = Path(os.path.expanduser(given))
    if not path.exists():
        raise UsageError(f"there is no {given}", "name a file or folder that is there")
    return path


def _follow(events: Iterator[TrainEvent], flags: Flags, out: Path) -> int:
    """Show events until the last; an interruption ends the step, keeps a checkpoint and says how to go on."""
    from clamr_cli.cli.output import json_line, talk, warn, write
    from clamr_cli.cli.signals import interruptible
    from clamr_cli.cli.training import TrainingReporter

    # A step takes a while, so it is said at once that it was heard.
    with interruptible(on_signal=lambda: warn("stopping after this step")):
        try:
            with TrainingReporter(talk(), quiet=flags.quiet) as shown:
                for event in events:
                    if flags.json:
                        write([json_line(_record(event))])
                    shown.show(event)
        except KeyboardInterrupt:
            _close(events)
            warn(_how_to_go_on(out, flags.recipe))
            return EXIT_INTERRUPTED
        finally:
            _close(events)
    return EXIT_FOUND


def _how_to_go_on(out: Path, recipe: str) -> str:
    from clamr_cli.train.options import STAGES
    from clamr_cli.train.run_dir import last_checkpoint

    last = last_checkpoint(out, STAGES.get(recipe, ()))
    if last is None:
        return "interrupted before the first checkpoint; run the same command again to start anew"
    return f"interrupted: {last.relative_to(out)} is kept; run the same command with --resume to go on"


def _record(event: TrainEvent) -> Mapping[str, object]:
    """An event as a JSON object."""
    from dataclasses import asdict

    record = {"event": type(event).__name__.lower(), **asdict(event)}
    return {name: str(value) if name == "path" else value for name, value in record.items()}


def _close(events: Iterator[TrainEvent]) -> None:
    close = getattr(events, "close", None)
    if close is not None:
        with contextlib.suppress(KeyboardInterrupt):
            close()
