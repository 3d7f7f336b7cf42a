"""The folder of a training run: its settings, checkpoints, log and plot."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CHECKPOINT: Final = "checkpoint-"
"""Prefix of the folders that hold a checkpoint; the number of the step follows."""

SETTINGS: Final = "run.json"
_SMOOTHING: Final = 0.9


def acquire(
    out: Path,
    settings: Mapping[str, object],
    *,
    resume: bool,
    results: Sequence[str] = (),
    stages: Sequence[str] = (),
) -> None:
    """Start or resume a run in a folder.

    Args:
        out: the folder; it is created if needed.
        settings: everything that the course of the run depends on, as JSON values; stored in ``run.json``.
        resume: resume the run that is there.
        results: names of files that a finished run leaves.
        stages: folders of the run's stages, if it has several.

    Raises:
        UsageError: the folder holds a run although none is to be resumed, or none although one is, or a run with other
            settings, or it cannot be written.
    """
    if resume:
        previous = _read_object(out / SETTINGS)
        if previous is None or last_checkpoint(out, stages) is None:
            raise UsageError(f"there is no run to resume in {out}", "leave --resume out to start one")
        # The values as they are read back: JSON has no tuples.
        current = json.loads(json.dumps(settings))
        for name in sorted(previous.keys() | current.keys()):
            old, new = previous.get(name), current.get(name)
            if old != new:
                what = f"the run in {out} was started with {name} {old!r}, not {new!r}"
                raise UsageError(what, "resume with the options it was started with, or name another --out")
        return
    started = any(any((out / stage).glob(f"{CHECKPOINT}*")) for stage in stages or ("",))
    if started or any((out / name).exists() for name in results):
        raise UsageError(f"{out} holds a run already", "resume it with --resume, or name another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = out / f"{SETTINGS}.{os.getpid()}"
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        # All processes of a run write the same.
        temporary.replace(out / SETTINGS)
    except OSError as problem:
        raise UsageError(f"{out} cannot be written: {problem.strerror}", "name another --out") from problem


def last_checkpoint(out: Path, stages: Sequence[str]) -> Path | None:
    """The checkpoint that a run is resumed from; ``stages`` are the folders of its stages, none if it has only one."""
    folders = [out / stage for stage in reversed(stages)] or [out]
    return next((newest for folder in folders if (newest := newest_checkpoint(folder))), None)


def newest_checkpoint(out: Path) -> Path | None:
    """The newest complete checkpoint in the folder of a run or of one of its stages.

    The trainer's state is written last: a checkpoint with a readable state is complete.
    """
    steps = {
        int(path.name.removeprefix(CHECKPOINT)): path
        for path in out.glob(f"{CHECKPOINT}*")
        if path.name.removeprefix(CHECKPOINT).isdecimal() and _read_object(path / "trainer_state.json") is not None
    }
    return steps[max(steps)] if steps else None


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
        self.folder = folder
        self.path = folder / "log.jsonl"

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
        except ImportError as problem:
            raise MissingExtra("drawing the loss", "train") from problem

        entries = self.entries()
        training = [entry for entry in entries if "loss" in entry]
        development = [entry for entry in entries if "dev_loss" in entry]
        steps, losses = [entry["step"] for entry in training], [entry["loss"] for entry in training]
        # An exponential running mean, without bias at its start.
        smoothed, mean = [], 0.0
        for number, loss in enumerate(losses, 1):
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            smoothed.append(mean / (1 - _SMOOTHING**number))
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="step", ylabel="loss")
        axes.plot(steps, losses, color="#9ecae1", linewidth=0.8, label="each step")
        axes.plot(steps, smoothed, color="#08519c", label="smoothed")
        if development:
            points = [entry["step"] for entry in development], [entry["dev_loss"] for entry in development]
            axes.plot(*points, "o-", color="#d94801", label="development queries")
        axes.legend()
        figure.savefig(self.folder / "loss.png", dpi=120)
