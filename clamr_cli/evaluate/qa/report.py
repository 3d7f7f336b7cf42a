"""A report on results: accuracy by class of length with its interval, and measures of the chosen frames and moments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from clamr_cli.evaluate import metrics
from clamr_cli.evaluate.metrics import Sampling
from clamr_cli.evaluate.qa.questions import LabelledQuestion
from clamr_cli.evaluate.qa.run import FAILED
from clamr_cli.evaluate.qa.strategies import Strategy

ALL: Final = "all"
"""The class that every question is in."""

SELECTION: Final[Mapping[str, str]] = {
    "covered": "recall",
    "inside": "precision",
    "R1@0.5": "R1@0.5",
    "R1@0.7": "R1@0.7",
    "mAP@0.5": "mAP@0.5",
    "mAP@0.75": "mAP@0.75",
    "mAP": "mAP",
    "HIT@1": "HIT@1",
}
"""Measures of the choice of frames as reports call them, by their key in a result."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers: of how many, and its 95 % interval where there are enough."""

    count: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """A strategy's results: accuracy by class of length, and means of the measures of :data:`SELECTION`.

    ``p`` is of being no better than the first strategy, on the questions that both have. ``evidence`` counts the
    questions that the measures are means over.
    """

    strategy: str
    accuracy: Mapping[str, Share]
    p: float | None
    unclear: int
    failed: int
    frames: float
    selection: Mapping[str, float]
    evidence: int


@dataclass(frozen=True, slots=True)
class QaReport:
    """All strategies in order; ``groups`` are the classes of length, :data:`ALL` first."""

    rows: tuple[StrategyResult, ...]
    groups: tuple[str, ...]
    measures: tuple[str, ...]


def report(
    records: Iterable[Mapping[str, Any]],
    questions: Sequence[LabelledQuestion],
    strategies: Sequence[Strategy],
    sampling: Sampling,
) -> QaReport:
    """Sum up the results of some questions and strategies; others are passed over."""
    order = {question.id: place for place, question in enumerate(questions)}
    groups = (ALL, *dict.fromkeys(question.group for question in questions if question.group not in ("", ALL)))
    by_strategy: dict[str, list[Mapping[str, Any]]] = {strategy.value: [] for strategy in strategies}
    for record in records:
        if record["id"] in order and record["strategy"] in by_strategy:
            by_strategy[record["strategy"]].append(record)
    rows: list[StrategyResult] = []
    first: dict[str, float] = {}
    for name, results in by_strategy.items():
        results.sort(key=lambda record: order[record["id"]])
        good = [record for record in results if record["outcome"] != FAILED]
        # 1 or 0 by question, for those that were answered and whose right answer is known.
        correct = {
            record["id"]: float(record["choice"] == record["right"])
            for record in good
            if record["outcome"] == "answered" and record.get("right") is not None
        }
        group_of = {record["id"]: record["group"] for record in good}
        accuracy = {}
        for group in groups:
            values = np.array([value for question, value in correct.items() if group in (ALL, group_of[question])])
            if len(values):
                low, high = metrics.interval(values, sampling) or (None, None)
                accuracy[group] = Share(len(values), float(values.mean()), low, high)
        shared = [question for question in correct if question in first]
        ours, other = (np.array([values[question] for question in shared]) for values in (correct, first))
        selection = {name: [record[key] for record in good if key in record] for key, name in SELECTION.items()}
        row = StrategyResult(
            strategy=name,
            accuracy=accuracy,
            p=metrics.difference(ours, other, sampling) if shared else None,
            unclear=sum(record["outcome"] == "answered" and record["choice"] is None for record in good),
            failed=len(results) - len(good),
            frames=float(np.mean([record.get("shown", len(record["times"])) for record in good])) if good else 0.0,
            selection={measure: float(np.mean(values)) for measure, values in selection.items() if values},
            evidence=sum("covered" in record for record in good),
        )
        first = first if rows else correct
        rows.append(row)
    measures = tuple(name for name in SELECTION.values() if any(name in row.selection for row in rows))
    return QaReport(tuple(rows), groups, measures)
