"""The recipes clamr and clamr-omni: train an adapter for ``clamr index`` on labelled queries and an index.

The paper's recipe (arXiv 2506.06144): LoRA on the language model of a Qwen2.5 and on the projection.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch

from clamr_cli.devices import choose_device
from clamr_cli.encoders.clamr import ClamrEncoder, ClamrOmniEncoder
from clamr_cli.encoders.clamr.checkpoint import linear_shapes, load_adapter
from clamr_cli.encoders.clamr.encoder import NO_ADAPTER
from clamr_cli.errors import UsageError
from clamr_cli.train.clamr.model import WEIGHTS_FILE, Collator, LoraOptions, TrainableEncoder
from clamr_cli.train.clamr.pairs import IndexedDocuments, index_encoder, read_pairs
from clamr_cli.train.loop import LateInteractionTrainer, train
from clamr_cli.train.options import Evaluated, RecipeOptions, Trained, TrainEvent, TrainNote, TrainOptions, TrainStep
from clamr_cli.train.run_dir import start_run

_LAST_STEPS: Final = 20
"""Steps whose mean loss is reported at the end."""

_CHANGEABLE: Final = ("resume", "device", "save_every")
"""Options that may differ when a run is resumed."""


def run(options: RecipeOptions, kind: type[ClamrEncoder] = ClamrEncoder) -> Iterator[TrainEvent]:
    """Train a CLaMR adapter for a Qwen2.5-VL.

    Raises:
        UsageError: options or queries that cannot be used.
        ModelError: the base or the starting adapter cannot be used, or training fails.
    """
    queries, store = options.queries, options.store
    if options.data is not None:
        raise UsageError("this recipe is trained on the documents of an index", "leave --data out and give QUERIES")
    if queries is None or store is None:
        raise UsageError("this recipe needs labelled queries", "clamr train QUERIES.jsonl --recipe clamr")
    if options.adapter and options.lora_rank is not None:
        raise UsageError("the adapter to start from has a rank already", "leave out --lora-rank or --adapter")
    if options.four_bit and not choose_device(options.device).startswith("cuda"):
        raise UsageError("training in 4 bits needs a CUDA device", "leave --4bit out")
    documents = IndexedDocuments(store)
    encoder_of_index = functools.cache(
        lambda: index_encoder(store, cache=options.cache, device=options.device, threads=options.threads)
    )
    data, notes = read_pairs(queries, store, documents, encoder_of_index)
    if len({pair.video for pair in data.pairs}) < 2:
        raise UsageError("all queries have the same answer", "give queries about several videos: others are negatives")
    dev = None
    if options.dev is not None:
        dev, dev_notes = read_pairs(options.dev, store, documents, encoder_of_index)
        dev, notes = dev.shuffled(options.seed), notes + dev_notes
    training = options.training(TrainOptions(bf16=options.bf16 or options.four_bit))
    base = options.model or kind.BASE
    settings = {
        "recipe": kind.NAME,
        "model": _absolute(base),
        "adapter": _absolute(options.adapter),
        "projection_init": options.projection_init,
        "lora_rank": options.lora_rank,
        "4bit": options.four_bit,
        "queries": hashlib.sha256(queries.read_bytes()).hexdigest(),
    }
    settings |= {name: value for name, value in asdict(training).items() if name not in _CHANGEABLE}
    start_run(options.out, settings, resume=options.resume, result=WEIGHTS_FILE)
    encoder, model = create_model(options, kind)
    trainer = LateInteractionTrainer(model, training, options.out, data, Collator(encoder, options.threads), dev=dev)
    if training.batch * trainer.args.world_size < 2:
        raise UsageError("a batch of one pair has no negatives", "use a larger --batch")
    notes.append(f"{len(data)} pairs, {model.trained_parameters:,} numbers to train")
    yield from (TrainNote(note) for note in notes if trainer.is_world_process_zero())
    losses: list[float] = []
    metrics: dict[str, float] = {}
    for event in train(trainer):
        if isinstance(event, TrainStep):
            losses.append(event.loss)
            metrics["loss"] = sum(losses[-_LAST_STEPS:]) / len(losses[-_LAST_STEPS:])
        elif isinstance(event, Evaluated):
            metrics["dev_loss"] = event.loss
        yield event
    if trainer.is_world_process_zero():
        model.save(options.out, base)
        command = ["clamr", "index", "--encoder", kind.NAME, "--model", base, "--adapter", str(options.out)]
        yield TrainNote(f"use it: {shlex.join(command)}")
        yield Trained(options.out, {"steps": trainer.state.global_step, **metrics})
    trainer.accelerator.end_training()


def run_omni(options: RecipeOptions) -> Iterator[TrainEvent]:
    """Train a CLaMR adapter for a Qwen2.5-Omni, on frames and texts: indexes keep no sound. Raises like :func:`run`."""
    return run(options, ClamrOmniEncoder)


def create_model(options: RecipeOptions, kind: type[ClamrEncoder]) -> tuple[ClamrEncoder, TrainableEncoder]:
    """The base model as an encoder without an adapter, and the model to train that shares its weights.

    The starting adapter is a folder, a hub id, or the published one that ``clamr models`` installed.
    """
    if options.device in ("auto", "cuda") and torch.cuda.is_available():
        # Of several processes, each uses the GPU of its own number.
        torch.cuda.set_device(torch.distributed.get_node_local_rank(fallback_rank=0))
    settings: dict[str, object] = {"model": options.model or kind.BASE, "adapter": NO_ADAPTER}
    settings["dtype"] = "bfloat16" if options.bf16 or options.four_bit else "float32"
    settings["quantize"] = "4bit" if options.four_bit else "none"
    if options.projection_init:
        settings["projection_init"] = options.projection_init
    encoder = kind.create(cache=options.cache, device=options.device, threads=options.threads, **settings)
    start = None
    if options.adapter and options.adapter != NO_ADAPTER:
        files = kind.find("adapter", options.adapter, "", options.cache)
        start = load_adapter(files, linear_shapes(encoder.backbone.model, encoder.backbone.weight.shape[1]))
    # The weights of a fresh adapter are random.
    torch.manual_seed(options.seed)
    rank = options.lora_rank or LoraOptions().rank
    model = TrainableEncoder(encoder.backbone, LoraOptions(rank, rank), start)
    if options.checkpointing:
        model.enable_checkpointing()
    return encoder, model


def _absolute(name: str) -> str:
    """The absolute path of a folder, so that it is the same in any working directory; a hub id as it is."""
    folder = Path(os.path.expanduser(name))
    return str(folder.resolve()) if name and folder.is_dir() else name
