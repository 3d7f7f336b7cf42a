"""The folder of a training run: its settings, checkpoints, log and plot."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from clamr_cli.errors import MissingExtra, UsageError

_CHECKPOINT: Final = "checkpoint-"
"""Prefix of the folders that hold a checkpoint; the number of the step follows."""

_SETTINGS: Final = "run.json"
_SMOOTHING: Final = 0.9


def start_run(
    out: Path,
    settings: Mapping[str, object],
    *,
    resume: bool,
    result: str,
    stages: Sequence[str] = (),
) -> None:
    """Start or resume a run in a folder, which is created if needed.

    Args:
        out: the folder.
        settings: everything that the course of the run depends on, as JSON values; stored in ``run.json``.
        resume: resume the run that is there.
        result: name of the file that a finished run leaves.
        stages: folders of the run's stages, if it has several.

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
    """The newest complete checkpoint of a run; ``stages`` are the folders of its stages, none if it has only one.

    The trainer's state is written last: a checkpoint with a readable state is complete.
    """
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
