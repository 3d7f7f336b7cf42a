"""A report on runs: means, intervals, tests, modality accuracy and separation, a line a system."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from clamr_cli.evaluate import metrics
from clamr_cli.types import MODALITY_IDS, SHOWN_MODALITIES, Modality

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from clamr_cli.evaluate.runs import Answer, Run, Task

BASE: Final = "base"
"""The label of queries that aim at no modality."""

AUDIO: Final = Modality.AUDIO.value
"""The label of queries that aim at sounds other than speech."""

LABELS: Final = (*(modality.value for modality in SHOWN_MODALITIES), AUDIO, BASE)
"""Labels in the order they are shown."""

Separation = Literal["unanswerable", "leave-one-out"]
"""The scores that those of answered queries are compared with: of queries without an answer, or of the same queries
once their answers are taken out of the collection."""


@dataclass(frozen=True, slots=True)
class Line:
    """One system.

    Attributes:
        name: of the system.
        means: by measure, over all rows.
        interval: 95 % confidence interval of the first measure.
        p: of the paired test of the first measure against the first system; None for that one.
        by_label: the first measure over the rows of each label that has any.
        accuracy: share of labelled queries whose best answer was won by the modality they aim at, of those with any
            answer in the run; None if the system does not say.
        accuracy_by_label: the same by label.
        auroc: chance that the top score of an answered query is above that of one without.
        oracle: whether it knows what queries aim at.
    """

    name: str
    means: Mapping[str, float]
    interval: tuple[float, float] | None
    p: float | None
    by_label: Mapping[str, float]
    accuracy: float | None
    accuracy_by_label: Mapping[str, float]
    auroc: float | None
    oracle: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """All systems on one task; the others are compared with the first.

    ``rows`` are counts by label; ``unanswered`` counts queries without an answer.
    """

    measures: tuple[str, ...]
    lines: tuple[Line, ...]
    rows: Mapping[str, int]
    unanswered: int
    separation: Separation

    @property
    def rival(self) -> Line | None:
        """The best of the other systems that need no oracle; None if there is none."""
        others = [line for line in self.lines[1:] if not line.oracle]
        return max(others, key=lambda line: line.means[self.measures[0]], default=None)


def report(
    task: Task, runs: Sequence[Run], names: Sequence[str], sampling: metrics.Sampling, lost: Collection[str] = ()
) -> Report:
    """Score runs.

    Args:
        task: rows and judgements.
        runs: at least one; the others are tested against the first.
        names: measures, as :func:`~clamr_cli.evaluate.metrics.parse` gives them; the first is the main one.
        sampling: of intervals and tests.
        lost: ids of queries whose answers are all outside the collection; they are neither answered nor known to have
            no answer, so they take no part in the separation.

    Raises:
        UsageError: a measure cannot be computed.
    """
    labels = np.array([BASE if row.modality is None else row.modality.value for row in task.rows])
    counts = Counter(labels.tolist())
    rows = {label: counts[label] for label in LABELS if counts[label]}
    unanswered = sum(not query.relevant for query in task.queries)
    separation: Separation = "unanswerable" if unanswered else "leave-one-out"
    values = [metrics.per_query(names, task.qrels, task.ranking(run)) for run in runs]
    main = [of_run[names[0]] for of_run in values]
    lines = []
    for number, run in enumerate(runs):
        right = _modality_matches(task, run)
        outcomes = [match for of_label in right.values() for match in of_label]
        lines.append(
            Line(
                name=run.name,
                means={name: float(value.mean()) for name, value in values[number].items()},
                interval=metrics.interval(main[number], sampling),
                p=metrics.difference(main[0], main[number], sampling) if number else None,
                by_label={label: float(main[number][labels == label].mean()) for label in rows},
                accuracy=sum(outcomes) / len(outcomes) if outcomes else None,
                accuracy_by_label={label: sum(of_label) / len(of_label) for label, of_label in right.items()},
                auroc=_separation(task, run, separation, lost),
                oracle=run.oracle,
            )
        )
    return Report(tuple(names), tuple(lines), rows, unanswered, separation)


def _modality_matches(task: Task, run: Run) -> dict[str, list[bool]]:
    """By label: of each query with an answer in the run, whether the best one was won by the modality asked for.

    CLaMR section 5 (modality accuracy) has one answer a query; of several the best counts.
    """
    matches: dict[str, list[bool]] = {}
    for query, answer in zip(task.queries, run.answers, strict=True):
        if query.modality is None or not answer.winners:
            continue
        pairs = zip(answer.documents, answer.winners, strict=True)
        winner = next((winner for document, winner in pairs if document in query.relevant), None)
        if winner is not None:
            matches.setdefault(query.modality.value, []).append(winner == MODALITY_IDS[query.modality])
    return matches


def _separation(task: Task, run: Run, kind: Separation, lost: Collection[str]) -> float | None:
    answered: list[float] = []
    unanswered: list[float] = []
    for query, answer in zip(task.queries, run.answers, strict=True):
        if query.id in lost:
            continue
        (answered if query.relevant else unanswered).append(_top_score(answer, ()))
        if query.relevant and kind == "leave-one-out":
            unanswered.append(_top_score(answer, query.relevant))
    return metrics.auroc(answered, unanswered)


def _top_score(answer: Answer, without: Collection[str]) -> float:
    """The highest score of a document that is not in ``without``; minus infinity if there is none."""
    left = (score for doc, score in zip(answer.documents, answer.scores, strict=True) if doc not in without)
    return next(left, -math.inf)
