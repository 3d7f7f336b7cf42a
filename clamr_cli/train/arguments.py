"""Our options as those of the trainer of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transformers import TrainingArguments

if TYPE_CHECKING:
    from pathlib import Path

    from clamr_cli.train.options import TrainOptions

_SAVES: Final = 10
"""Checkpoints of a run, where nothing else was asked for."""

_KEPT: Final = 2


def arguments_of(options: TrainOptions, out: Path, size: int, *, evaluate: bool) -> TrainingArguments:
    """The library's own options, for a data set of ``size`` examples."""
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulation,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup,
        weight_decay=options.weight_decay,
        num_train_epochs=options.epochs,
        max_steps=options.steps or -1,
        bf16=options.bf16,
        seed=options.seed,
        data_seed=options.seed,
        use_cpu=options.device == "cpu",
        save_strategy="steps",
        save_steps=options.save_every or 1 / _SAVES,
        save_total_limit=_KEPT,
        eval_strategy="epoch" if evaluate else "no",
        logging_steps=1,
        # A loss that is no number has to be seen.
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        report_to="none",
        remove_unused_columns=False,
        prediction_loss_only=True,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=False,
    )
    arguments.dataloader_drop_last = whole_batches(size, arguments)
    # More than one GPU is for as many processes: the library would else split batches it cannot split.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def whole_batches(size: int, arguments: TrainingArguments) -> bool:
    """Whether an incomplete batch is left out: it has few negatives, but of less than a batch it is all there is."""
    return bool(size >= arguments.per_device_train_batch_size * arguments.world_size)
