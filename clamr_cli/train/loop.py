"""Training by late interaction on the trainer of transformers.

The library does the optimiser, the schedule, mixed precision, several processes (through accelerate) and the states of
all random generators. This module adds negatives gathered from all processes with gradients, checkpoints of the trained
tensors alone, and a run that is a generator of events.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from clamr_cli.errors import ModelError
from clamr_cli.train.losses import Batch, Encoded, Scores, loss, scores
from clamr_cli.train.run import Evaluated, Log, TrainEvent, TrainOptions, TrainStep, last_checkpoint

_WEIGHTS: Final = "model.safetensors"
_CHECKPOINTS: Final = 10  # checkpoints of a run by default
_CHECKPOINTS_KEPT: Final = 2
_POLL_SECONDS: Final = 0.5


class LateInteractionTrainer(Trainer):  # type: ignore[misc]
    """The library's trainer for models whose ``model(**batch["inputs"])`` is an :class:`Encoded`.

    Each process scores the queries of all processes against the documents of all, with gradients for its own part. The
    loss is therefore that of one large batch, on each of them. The loss of ``dev`` is computed after every epoch.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        options: TrainOptions,
        out: Path,
        data: Dataset[Any],
        collate: Callable[[list[Any]], Batch],
        *,
        dev: Dataset[Any] | None = None,
    ) -> None:
        self.options = options
        arguments = _training_arguments(options, out, len(data), evaluate=dev is not None)  # type: ignore[arg-type]
        super().__init__(model=model, args=arguments, train_dataset=data, eval_dataset=dev, data_collator=collate)
        self.model_accepts_loss_kwargs = False
        self.follower = _Follower(self, Log(out))
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.add_callback(self.follower)

    def train_from(self, checkpoint: Path | None) -> None:
        """Train to the end, from the start or from a checkpoint of this trainer."""
        if checkpoint is not None:
            state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            # The library would take one more step.
            if state["global_step"] >= state["max_steps"]:
                self._load_from_checkpoint(str(checkpoint))
                self.state.global_step = state["global_step"]
                return
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:  # noqa: ANN401 -- the library's interface
        """Batches of the development queries, which are often fewer than a batch of those to learn from."""
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = _drop_last(len(data), self.args)
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drop_last

    def compute_loss(self, model: torch.nn.Module, inputs: Batch, **_: object) -> torch.Tensor:
        """The loss of the batches of all processes together."""
        encoded = Encoded(*model(**inputs["inputs"]))
        parts = [all_gather(self.accelerator, part) for part in encoded]
        batch_scores = scores(*(torch.cat(part) for part in parts), aggregation=self.options.aggregation)
        starts = torch.tensor([0, *(len(part) for part in parts[2][:-1])]).cumsum(0).tolist()
        targets = all_gather(self.accelerator, inputs["targets"])
        # Documents that are no negatives of a query [Q, D]: those that answer it too, and repeated ones.
        keys = torch.cat(all_gather(self.accelerator, inputs["document_keys"]))
        answer_keys = torch.cat(all_gather(self.accelerator, inputs["answers"], fill=-1))
        answers = (answer_keys.unsqueeze(-1) == keys).any(dim=1)
        if "document_ids" in inputs:
            ids = torch.cat(all_gather(self.accelerator, inputs["document_ids"]))
            first = (ids[:, None] == ids).byte().argmax(dim=1)
            answers = answers | (first != torch.arange(len(ids), device=ids.device))
        batch_loss = self.loss_of(
            batch_scores,
            torch.cat([part + start for part, start in zip(targets, starts, strict=True)]),
            torch.cat(all_gather(self.accelerator, inputs["query_modalities"])),
            temperature=self.options.temperature,
            answers=answers,
        )
        # A process has only its own part of the gradient of the common loss. Their sum is wanted, and distributed
        # training takes the mean: the value stays, the gradient is multiplied by the number of processes.
        others: int = self.accelerator.num_processes - 1
        return batch_loss + others * (batch_loss - batch_loss.detach())

    def loss_of(self, batch_scores: Scores, *labels: torch.Tensor, **more: Any) -> torch.Tensor:  # noqa: ANN401
        """The loss of these scores; arguments are those of :func:`clamr_cli.train.losses.loss`."""
        return loss(self.options.loss, batch_scores, *labels, **more)

    def prediction_step(
        self, model: torch.nn.Module, inputs: Batch, *_: object, **__: object
    ) -> tuple[torch.Tensor, None, None]:
        """The loss of a batch, without gradients."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the trained tensors alone, without the frozen base."""
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            state = state_dict if state_dict is not None else trained_state(self.model)
            save_file({name: value.contiguous() for name, value in state.items()}, folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        target = self.model if model is None else model
        state = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        if state.keys() != trained_state(target).keys():
            raise ModelError("the checkpoint is of another model", "train into another folder, or remove this one")
        target.load_state_dict(state, strict=False)


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that training changes: parameters that are not frozen, and buffers that are saved."""
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    names |= {name for name, _ in model.named_buffers()}
    return {name: value for name, value in model.state_dict().items() if name in names}


def all_gather(accelerator: Accelerator, own: torch.Tensor, *, fill: float = 0) -> list[torch.Tensor]:
    """A tensor of each process, in their order; that of this process keeps its gradient.

    ``own`` is [n, ...], where n and the second dimension may differ between processes; ``fill`` pads the second.
    """
    if accelerator.num_processes == 1:
        return [own]
    shape = torch.tensor([own.shape[:2] if own.dim() > 1 else (len(own), 0)], device=own.device)
    shapes = accelerator.gather(shape).view(-1, 2)
    rows, width = int(shapes[:, 0].max()), int(shapes[:, 1].max())
    wide = own
    if own.dim() > 1 and own.shape[1] < width:
        padding = own.new_full((len(own), width - own.shape[1], *own.shape[2:]), fill)
        wide = torch.cat([own, padding], dim=1)
    # Gloo gathers no booleans.
    sent = wide.detach().to(torch.uint8) if wide.dtype == torch.bool else wide.detach()
    padded = functional.pad(sent, (*(0, 0) * (sent.dim() - 1), 0, rows - len(sent)))
    gathered = accelerator.gather(padded.contiguous()).view(-1, *padded.shape).to(wide.dtype)
    parts = [part[:count] for part, count in zip(gathered, shapes[:, 0].tolist(), strict=True)]
    parts[accelerator.process_index] = wide
    return parts


def _training_arguments(options: TrainOptions, out: Path, size: int, *, evaluate: bool) -> TrainingArguments:
    """The library's options, for a data set of ``size`` examples."""
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
        save_steps=options.save_every or 1 / _CHECKPOINTS,
        save_total_limit=_CHECKPOINTS_KEPT,
        eval_strategy="epoch" if evaluate else "no",
        logging_steps=1,
        # A loss that is not finite has to be noticed.
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
    arguments.dataloader_drop_last = _drop_last(size, arguments)
    # Several GPUs need several processes: in one process the library would split batches that cannot be split.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _drop_last(size: int, arguments: TrainingArguments) -> bool:
    """True if an incomplete batch is left out: it has few negatives, but is needed if there is no other."""
    return bool(size >= arguments.per_device_train_batch_size * arguments.world_size)


def train(trainer: LateInteractionTrainer) -> Iterator[TrainEvent]:
    """Train, and yield events. Closed early, it finishes the current step, saves a checkpoint and stops.

    Raises:
        ModelError: the loss is not finite, or the GPU's memory is too small.
    """
    events: queue.SimpleQueue[TrainEvent | BaseException | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            # Each thread has its own current device.
            if trainer.args.device.type == "cuda":
                torch.cuda.set_device(trainer.args.device)
            trainer.train_from(last_checkpoint(trainer.follower.log.folder) if trainer.options.resume else None)
            if trainer.is_world_process_zero():
                trainer.follower.log.plot()
            events.put(None)
        except torch.OutOfMemoryError:
            hint = "use a smaller --batch, add --gradient-checkpointing or --4bit"
            events.put(ModelError(f"the GPU's memory does not hold a batch of {trainer.options.batch}", hint))
        except BaseException as error:
            events.put(error)

    trainer.follower.report = events.put
    # On a thread of its own, so that an interruption meets a waiting main thread.
    worker = threading.Thread(target=work, name="training", daemon=True)
    worker.start()
    try:
        while True:
            try:
                # On some systems a wait without a limit cannot be interrupted.
                event = events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        trainer.follower.stop.set()
        worker.join()


class _Follower(TrainerCallback):  # type: ignore[misc]
    """Callback of the trainer: writes the log, reports events, and stops the training on request."""

    report: Callable[[TrainEvent], None]

    def __init__(self, trainer: LateInteractionTrainer, log: Log) -> None:
        self.log, self.stop, self._trainer = log, threading.Event(), trainer
        self._started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: object) -> None:  # noqa: ANN401, ARG002
        """Cut the log at the step of the checkpoint."""
        if state.is_world_process_zero:
            self.log.begin(state.global_step)
        self._started = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> None:  # noqa: ANN401, ARG002
        """Stop all processes at the same step if one of them was asked to stop."""
        stop = torch.tensor([float(self.stop.is_set())], device=args.device)
        if args.world_size > 1:
            stop = self._trainer.accelerator.gather(stop)
        if bool(stop.any()):
            control.should_training_stop = control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: object) -> None:  # noqa: ANN401, ARG002
        """A step or an evaluation."""
        if "eval_loss" in logs:
            entry = {"step": state.global_step, "dev_loss": logs["eval_loss"]}
            event: TrainEvent = Evaluated(state.global_step, logs["eval_loss"])
        elif "loss" in logs:
            mean, norm = logs["loss"], logs.get("grad_norm", 0.0)
            if not (math.isfinite(mean) and math.isfinite(norm)):
                what = f"the loss or its gradient is not finite at step {state.global_step}"
                raise ModelError(what, "use a lower --lr; the last checkpoint is kept")
            seconds = round(time.monotonic() - self._started, 3)
            self._started = time.monotonic()
            entry = {"step": state.global_step, "loss": mean, "lr": logs["learning_rate"], "grad_norm": norm}
            entry["seconds"] = seconds
            event = TrainStep(state.global_step, state.max_steps, mean, seconds)
        else:
            return
        if state.is_world_process_zero:
            self.log.write(entry)
            self.report(event)
