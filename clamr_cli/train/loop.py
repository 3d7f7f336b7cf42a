"""Training by late interaction on the trainer of transformers: gathered negatives, small checkpoints, a log, a plot.

The library's trainer does the optimiser, the schedule, mixed precision, several processes (through accelerate) and the
states of all generators; what stands here is what it does not know: queries and documents of several processes scored
against each other with gradients, checkpoints of the trained tensors alone, and a run that is a generator of events.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from clamr_cli.errors import ModelError
from clamr_cli.train.arguments import arguments_of, whole_batches
from clamr_cli.train.batch import Batch, Encoded
from clamr_cli.train.gather import everyones, summed_over_processes
from clamr_cli.train.log import Log
from clamr_cli.train.losses import LOSSES, Scores, scores
from clamr_cli.train.options import Evaluated, TrainStep, newest_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch.utils.data import Dataset

    from clamr_cli.train.options import TrainEvent, TrainOptions

_WEIGHTS: Final = "model.safetensors"
_PATIENCE: Final = 0.5


class LateInteractionTrainer(Trainer):  # type: ignore[misc]
    """The library's trainer for models whose forward gives :class:`Encoded`.

    Every process scores the queries of all processes against the documents of all, and lets gradients flow into its
    own part. The loss is therefore that of one large batch, on each of them.

    Args:
        model: ``model(**batch["inputs"])`` gives an :class:`Encoded`.
        options: how to train.
        out: folder for checkpoints, ``log.jsonl`` and ``loss.png``.
        data: a map-style data set of examples.
        collate: makes a :class:`Batch` of examples.
        dev: examples whose loss is computed after every epoch.
        report: is told of every step and evaluation, on the process that writes.
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
        report: Callable[[TrainEvent], None] = lambda _: None,
    ) -> None:
        self.options = options
        arguments = arguments_of(options, out, len(data), evaluate=dev is not None)  # type: ignore[arg-type]
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=data,
            eval_dataset=dev,
            data_collator=collate,
        )
        self.model_accepts_loss_kwargs = False
        self.follower = _Follower(self, Log(out), report)
        for theirs in (PrinterCallback, ProgressCallback):
            self.remove_callback(theirs)
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

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:  # noqa: ANN401 -- the library's face
        """Batches of the development queries, which are often fewer than a batch of those to learn from."""
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        kept = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = whole_batches(len(data), self.args)
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = kept

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,  # noqa: ARG002 -- the library's face
    ) -> torch.Tensor | tuple[torch.Tensor, Encoded]:
        """The loss of the batches of all processes together."""
        encoded = Encoded(*model(**inputs["inputs"]))
        loss = self._loss(encoded, inputs)
        return (loss, encoded) if return_outputs else loss

    def _loss(self, encoded: Encoded, batch: Batch) -> torch.Tensor:
        queries, query_mask, documents, document_mask, modality_ids = (
            everyones(self.accelerator, part) for part in encoded
        )
        found = scores(
            torch.cat(queries),
            torch.cat(query_mask),
            torch.cat(documents),
            torch.cat(document_mask),
            torch.cat(modality_ids),
            aggregation=self.options.aggregation,
        )
        starts = torch.tensor([0, *(len(part) for part in documents[:-1])]).cumsum(0).tolist()
        targets = everyones(self.accelerator, batch["targets"])
        loss = self.loss_of(
            found,
            torch.cat([part + start for part, start in zip(targets, starts, strict=True)]),
            torch.cat(everyones(self.accelerator, batch["query_modalities"])),
            temperature=self.options.temperature,
            answers=self._no_negatives(batch),
        )
        return summed_over_processes(self.accelerator, loss)

    def _no_negatives(self, batch: Batch) -> torch.Tensor:
        """Which documents are no negatives of which queries [Q, D], over all processes."""
        keys = torch.cat(everyones(self.accelerator, batch["document_keys"]))
        answers = torch.cat(everyones(self.accelerator, batch["answers"], empty=-1))
        found = (answers.unsqueeze(-1) == keys).any(dim=1)
        if "document_ids" in batch:
            ids = torch.cat(everyones(self.accelerator, batch["document_ids"]))
            first = (ids[:, None] == ids).byte().argmax(dim=1)
            found = found | (first != torch.arange(len(ids), device=ids.device))
        return found

    def loss_of(self, found: Scores, *labels: torch.Tensor, **more: Any) -> torch.Tensor:  # noqa: ANN401
        """The loss of these scores; arguments are those of :class:`clamr_cli.train.losses.Loss`."""
        return LOSSES[self.options.loss](found, *labels, **more)

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        prediction_loss_only: bool,  # noqa: ARG002 -- the library's face
        ignore_keys: list[str] | None = None,  # noqa: ARG002
    ) -> tuple[torch.Tensor, None, None]:
        """The loss of a batch, without gradients."""
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        assert isinstance(loss, torch.Tensor)
        return loss.detach(), None, None

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Only what is trained: the frozen base is where it came from."""
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            state = state_dict if state_dict is not None else trained_state(self.model)
            save_file({name: value.contiguous() for name, value in state.items()}, folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        target = model if model is not None else self.model
        state = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        if state.keys() != trained_state(target).keys():
            raise ModelError("the checkpoint is of another model", "train into another folder, or remove this one")
        target.load_state_dict(state, strict=False)


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that training changes: parameters that are not frozen, and buffers that are saved."""
    kept = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    kept |= {name for name, _ in model.named_buffers()}
    return {name: value for name, value in model.state_dict().items() if name in kept}


def run(trainer: LateInteractionTrainer) -> Iterator[TrainEvent]:
    """Train, and yield what happens. Closed early, it ends the step it is at, saves a checkpoint and stops.

    Raises:
        ModelError: the loss is no number, or memory is too small.
    """
    events: queue.SimpleQueue[TrainEvent | BaseException | None] = queue.SimpleQueue()
    trainer.follower.report = events.put
    worker = threading.Thread(target=_work, args=(trainer, events.put), name="training", daemon=True)
    worker.start()
    try:
        while (event := _next(events)) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        trainer.follower.stop.set()
        worker.join()


def _next(events: queue.SimpleQueue[Any]) -> Any:  # noqa: ANN401 -- an event, an exception, or None at the end
    """Waits in short pieces, since on some systems a wait without an end cannot be interrupted."""
    while True:
        try:
            return events.get(timeout=_PATIENCE)
        except queue.Empty:
            continue


def _work(trainer: LateInteractionTrainer, put: Callable[[TrainEvent | BaseException | None], None]) -> None:
    """The training itself, on a thread of its own, so that an interruption finds the main one waiting."""
    try:
        # Each thread has its own current device.
        if trainer.args.device.type == "cuda":
            torch.cuda.set_device(trainer.args.device)
        newest = newest_checkpoint(trainer.follower.log.folder) if trainer.options.resume else None
        trainer.train_from(newest)
        if trainer.is_world_process_zero():
            trainer.follower.log.plot()
        put(None)
    except torch.OutOfMemoryError:
        hint = "use a smaller --batch, add --gradient-checkpointing or --4bit"
        put(ModelError(f"the GPU's memory does not hold a batch of {trainer.options.batch}", hint))
    except BaseException as error:
        put(error)


class _Follower(TrainerCallback):  # type: ignore[misc]
    """Hears what the trainer does: writes the log, reports, and stops it when asked to."""

    def __init__(self, trainer: LateInteractionTrainer, log: Log, report: Callable[[TrainEvent], None]) -> None:
        self.log, self.report, self.stop = log, report, threading.Event()
        self._trainer = trainer
        self._started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: object) -> None:  # noqa: ANN401, ARG002
        """Take up the log where the checkpoint was written."""
        if state.is_world_process_zero:
            self.log.begin(state.global_step)
        self._started = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: object) -> None:  # noqa: ANN401, ARG002
        """Stop where one of the processes was asked to; all have to at the same step."""
        stop = torch.tensor([float(self.stop.is_set())], device=args.device)
        if args.world_size > 1:
            stop = self._trainer.accelerator.gather(stop)
        if bool(stop.any()):
            control.should_training_stop = control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: object) -> None:  # noqa: ANN401, ARG002
        """A step or an evaluation."""
        if "eval_loss" in logs:
            self._tell({"step": state.global_step, "dev_loss": logs["eval_loss"]}, state)
        elif "loss" in logs:
            loss, norm = logs["loss"], logs.get("grad_norm", 0.0)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"the loss or its gradient is no number at step {state.global_step}"
                raise ModelError(what, "use a lower --lr; the last checkpoint is kept")
            seconds = time.monotonic() - self._started
            self._started = time.monotonic()
            entry = {"step": state.global_step, "loss": loss, "lr": logs["learning_rate"], "grad_norm": norm}
            self._tell({**entry, "seconds": round(seconds, 3)}, state)

    def _tell(self, entry: Mapping[str, float], state: Any) -> None:  # noqa: ANN401 -- the library's state
        """Write and report, on one process only."""
        if not state.is_world_process_zero:
            return
        self.log.write(entry)
        if "dev_loss" in entry:
            self.report(Evaluated(state.global_step, entry["dev_loss"]))
        else:
            self.report(TrainStep(state.global_step, state.max_steps, entry["loss"], entry["seconds"]))
