"""``clamr train --recipe clamr``: from labelled queries and an index to an adapter that ``clamr index`` takes."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from clamr_cli.encoders.clamr import ClamrEncoder, ClamrOmniEncoder, sources
from clamr_cli.encoders.clamr.checkpoint import linear_shapes, load_adapter
from clamr_cli.encoders.clamr.model import pick_device
from clamr_cli.encoders.clamr.options import NO_ADAPTER
from clamr_cli.errors import UsageError
from clamr_cli.train.clamr.model import WEIGHTS_FILE, Learner, LoraOptions, trained_numbers
from clamr_cli.train.clamr.pairs import Finder, Pairs, Shelf, index_encoder, read_pairs
from clamr_cli.train.clamr.reading import Collate
from clamr_cli.train.folder import claim
from clamr_cli.train.loop import LateInteractionTrainer
from clamr_cli.train.loop import run as follow
from clamr_cli.train.options import Evaluated, Trained, TrainNote, TrainOptions, TrainStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clamr_cli.encoders.clamr.checkpoint import Adapter
    from clamr_cli.train.options import RecipeOptions, TrainEvent

_LAST: Final = 20
"""Steps whose mean loss is told at the end."""

_FREE: Final = ("resume", "device", "save_every")
"""Options that a resumed run may change."""


def run(options: RecipeOptions) -> Iterator[TrainEvent]:
    """Train a CLaMR adapter for a Qwen2.5-VL.

    Raises:
        UsageError: options or queries that cannot be used.
        ModelError: the base or the starting adapter cannot be used, or training fails.
    """
    return _run(options, ClamrEncoder)


def run_omni(options: RecipeOptions) -> Iterator[TrainEvent]:
    """Train a CLaMR adapter for a Qwen2.5-Omni, on frames and texts: indexes keep no sound.

    Raises:
        UsageError: options or queries that cannot be used.
        ModelError: the base or the starting adapter cannot be used, or training fails.
    """
    return _run(options, ClamrOmniEncoder)


def _run(options: RecipeOptions, kind: type[ClamrEncoder]) -> Iterator[TrainEvent]:
    training = options.training(TrainOptions(bf16=options.bf16 or options.four_bit))
    _check(options)
    data, dev, notes = _data(options)
    claim(options.out, _facts(options, training, kind), resume=options.resume, results=(WEIGHTS_FILE,))
    encoder, learner = _learner(options, kind)
    collate = Collate(encoder, options.threads)
    trainer = LateInteractionTrainer(learner, training, options.out, data, collate, dev=dev)
    if training.batch * trainer.args.world_size < 2:
        raise UsageError("a batch of one pair has no negatives", "use a larger --batch")
    notes.append(f"{len(data)} pairs, {trained_numbers(learner):,} numbers to train")
    yield from (TrainNote(note) for note in notes if trainer.is_world_process_zero())
    told: list[TrainEvent] = []
    for event in follow(trainer):
        told.append(event)
        yield event
    if trainer.is_world_process_zero():
        base = options.model or kind.PUBLISHED.model
        learner.save(options.out, base)
        use = ["clamr", "index", "--encoder", kind.NAME, "--model", base, "--adapter", str(options.out)]
        yield TrainNote(f"use it: {shlex.join(use)}")
        yield Trained(options.out, _metrics(told, trainer))
    trainer.accelerator.end_training()


def _check(options: RecipeOptions) -> None:
    """Refuse what cannot be done before anything large is read."""
    if options.data is not None:
        raise UsageError("this recipe learns from the documents of an index", "leave --data out and give QUERIES")
    if options.queries is None or options.store is None:
        raise UsageError("this recipe learns from labelled queries", "clamr train QUERIES.jsonl --recipe clamr")
    if options.adapter and options.lora_rank is not None:
        raise UsageError("the adapter to start from has a rank already", "leave out --lora-rank or --adapter")
    if options.four_bit and pick_device(options.device).type != "cuda":
        raise UsageError("training in 4 bits needs a CUDA device", "leave --4bit out")


def _data(options: RecipeOptions) -> tuple[Pairs, Pairs | None, list[str]]:
    """Pairs to learn from, pairs to watch, and what was left out of them."""
    assert options.queries is not None
    assert options.store is not None
    store, shelf = options.store, Shelf(options.store)
    settings: dict[str, Any] = {"cache": options.cache, "device": options.device, "threads": options.threads}
    finder = Finder(store, lambda: index_encoder(store, **settings))
    data, notes = read_pairs(options.queries, store, shelf, finder)
    if len({pair.video for pair in data.pairs}) < 2:
        raise UsageError("all queries have the same answer", "give queries about several videos: others are negatives")
    if options.dev is None:
        return data, None, notes
    dev, more = read_pairs(options.dev, store, shelf, finder)
    return data, dev.shuffled(options.seed), notes + more


def _learner(options: RecipeOptions, kind: type[ClamrEncoder]) -> tuple[ClamrEncoder, Learner]:
    """The base without an adapter as an encoder, and the model on it that learns."""
    _own_device(options.device)
    settings: dict[str, object] = {"model": options.model or kind.PUBLISHED.model, "adapter": NO_ADAPTER}
    settings["dtype"] = "bfloat16" if options.bf16 or options.four_bit else "float32"
    settings["quantize"] = "4bit" if options.four_bit else "none"
    if options.projection_init:
        settings["projection_init"] = options.projection_init
    encoder = kind.create(cache=options.cache, device=options.device, threads=options.threads, **settings)
    start = _start(options, encoder)
    # The fresh halves are drawn now.
    torch.manual_seed(options.seed)
    rank = options.lora_rank or LoraOptions().rank
    learner = Learner(encoder.backbone, LoraOptions(rank, rank), start)
    if options.checkpointing:
        learner.compute_again()
    return encoder, learner


def _start(options: RecipeOptions, encoder: ClamrEncoder) -> Adapter | None:
    """The adapter to go on from: a folder, a hub id, or the published one that ``clamr models`` installed."""
    if not options.adapter or options.adapter == NO_ADAPTER:
        return None
    if options.adapter == encoder.PUBLISHED.adapter:
        files = sources.installed(encoder.NAME, "adapter", options.adapter, options.cache)
    else:
        files = sources.find_all(options.adapter, "")
    weight, _ = encoder.backbone.head
    return load_adapter(files, linear_shapes(encoder.backbone.model, weight.shape[1]))


def _own_device(wanted: str) -> None:
    """Where several processes train, each takes the GPU of its number."""
    if wanted in ("auto", "cuda") and torch.cuda.is_available():
        torch.cuda.set_device(torch.distributed.get_node_local_rank(fallback_rank=0))


def _facts(options: RecipeOptions, training: TrainOptions, kind: type[ClamrEncoder]) -> dict[str, object]:
    """All that the course of the run depends on."""
    assert options.queries is not None
    own = {name: getattr(training, name) for name in TrainOptions.__dataclass_fields__ if name not in _FREE}
    return {
        "recipe": kind.NAME,
        "model": _place(options.model or kind.PUBLISHED.model),
        "adapter": _place(options.adapter),
        "projection_init": options.projection_init,
        "lora_rank": options.lora_rank,
        "4bit": options.four_bit,
        "queries": _digest(options.queries),
        **own,
    }


def _place(name: str) -> str:
    """A folder by its whole path, so that it is the same from wherever it is named; a hub id as it is."""
    folder = Path(os.path.expanduser(name))
    return str(folder.resolve()) if name and folder.is_dir() else name


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as problem:
        raise UsageError(f"{path.name} cannot be read: {problem.strerror}", "give a file of queries") from problem


def _metrics(told: list[TrainEvent], trainer: LateInteractionTrainer) -> dict[str, float]:
    steps = [event.loss for event in told if isinstance(event, TrainStep)]
    dev = [event.loss for event in told if isinstance(event, Evaluated)]
    found: dict[str, float] = {"steps": trainer.state.global_step}
    if steps:
        found["loss"] = sum(steps[-_LAST:]) / len(steps[-_LAST:])
    if dev:
        found["dev_loss"] = dev[-1]
    return found
