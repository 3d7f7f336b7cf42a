"""The log of a run, one JSON object a line, and its plot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from clamr_cli.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SMOOTHING: Final = 0.9


class Log:
    """``log.jsonl`` and ``loss.png`` in a run's folder.

    A line is ``{"step", "loss", "lr", "grad_norm", "seconds"}`` (the mean loss of the step, the rate it was made with,
    the norm of the gradient before clipping, how long it took), or ``{"step", "dev_loss"}``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "log.jsonl"

    def begin(self, step: int) -> None:
        """Forget what came after the step that a run goes on from; 0 begins anew."""
        kept = [entry for entry in self.entries() if entry["step"] <= step] if step else []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")

    def write(self, entry: Mapping[str, float]) -> None:
        """Add a line at once."""
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
        steps = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
        dev = [(entry["step"], entry["dev_loss"]) for entry in entries if "dev_loss" in entry]
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot(xlabel="step", ylabel="loss")
        axes.plot(*_columns(steps), color="#9ecae1", linewidth=0.8, label="each step")
        axes.plot(*_columns(_smoothed(steps)), color="#08519c", label="smoothed")
        if dev:
            axes.plot(*_columns(dev), "o-", color="#d94801", label="development queries")
        axes.legend()
        figure.savefig(self.folder / "loss.png", dpi=120)


def _columns(points: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A running mean that forgets, unbiased at its start."""
    smooth: list[tuple[int, float]] = []
    mean = 0.0
    for number, (step, value) in enumerate(points, 1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        smooth.append((step, mean / (1 - _SMOOTHING**number)))
    return smooth
