"""From runs to a report: means, intervals, tests, modality accuracy and separation, a line a system."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from clamr_cli.evaluate import doubt, measures
from clamr_cli.types import MODALITY_IDS, SHOWN_MODALITIES, Modality

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.evaluate.collection import Row, Task
    from clamr_cli.evaluate.runs import Answer, Run

BASE: Final = "base"
"""The label of queries that aim at no modality."""

HEARD: Final = Modality.AUDIO.value
"""The label of queries that aim at what is heard but not said."""

LABELS: Final = (*(modality.value for modality in SHOWN_MODALITIES), HEARD, BASE)
"""Labels in the order they are shown."""

Separation = Literal["unanswerable", "leave-one-out"]
"""What the scores of answered queries are compared with: those of queries without an answer, or those that the same
queries have once their answers are taken out of the collection."""


@dataclass(frozen=True, slots=True)
class Line:
    """One system.

    Attributes:
        name: of the system.
        means: by measure, over all rows.
        interval: 95 % confidence interval of the first measure.
        p: of the paired test of the first measure against the first system; None for that one.
        by_label: the first measure over the rows of each label that has any.
        accuracy: share of labelled queries whose best answer was found by the modality they aim at, of those with any
            answer found; None where the system does not say.
        accuracy_by_label: the same by label.
        auroc: chance that the top score of an answered query is above that of one without.
        oracle: whether it was told what queries aim at.
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
    """All systems on one task; the first is the one that the others are compared with.

    ``rows`` are counts by label; ``unanswered`` counts queries without an answer.
    """

    measures: tuple[str, ...]
    lines: tuple[Line, ...]
    rows: Mapping[str, int]
    unanswered: int
    separation: Separation

    @property
    def rival(self) -> Line | None:
        """The best of the other systems that need no oracle; None where there is none."""
        others = [line for line in self.lines[1:] if not line.oracle]
        return max(others, key=lambda line: line.means[self.measures[0]], default=None)


def report(
    task: Task, runs: Sequence[Run], names: Sequence[str], sampling: doubt.Sampling, lost: Collection[str] = ()
) -> Report:
    """Score runs.

    Args:
        task: rows and judgements.
        runs: at least one; the others are tested against the first.
        names: measures, as :func:`measures.parse` gives them; the first is the main one.
        sampling: of intervals and tests.
        lost: ids of queries whose answers are all outside the collection; they are neither answered nor known to have
            no answer, so they take no part in the separation.

    Raises:
        UsageError: a measure cannot be computed.
    """
    values = [measures.per_query(names, task.qrels, task.ranking(run)) for run in runs]
    unanswered = sum(not query.relevant for query in task.queries)
    separation: Separation = "unanswerable" if unanswered else "leave-one-out"
    main = [found[names[0]] for found in values]
    lines = []
    for number, run in enumerate(runs):
        right = _accuracy(task, run)
        lines.append(
            Line(
                name=run.name,
                means={name: float(value.mean()) for name, value in values[number].items()},
                interval=doubt.interval(main[number], sampling),
                p=doubt.difference(main[0], main[number], sampling) if number else None,
                by_label=_by_label(task.rows, main[number]),
                accuracy=_share(right),
                accuracy_by_label={label: sum(one) / len(one) for label, one in right.items()},
                auroc=_separation(task, run, separation, lost),
                oracle=run.oracle,
            )
        )
    counts = Counter(label_of(row) for row in task.rows)
    rows = {label: counts[label] for label in LABELS if counts[label]}
    return Report(tuple(names), tuple(lines), rows, unanswered, separation)


def label_of(row: Row) -> str:
    """The label that a row is counted under."""
    return BASE if row.modality is None else row.modality.value


def _by_label(rows: Sequence[Row], values: NDArray[np.float64]) -> dict[str, float]:
    labels = np.array([label_of(row) for row in rows])
    return {label: float(values[labels == label].mean()) for label in LABELS if (labels == label).any()}


def _accuracy(task: Task, run: Run) -> dict[str, list[bool]]:
    """By label: of each query with an answer that was found, whether the best one was found by the modality asked for.

    CLaMR section 5 (modality accuracy) has one answer a query; of several the best counts.
    """
    found: dict[str, list[bool]] = {}
    for query, answer in zip(task.queries, run.answers, strict=True):
        if query.modality is None or not answer.winners:
            continue
        places = [place for place, document in enumerate(answer.documents) if document in query.relevant]
        if places:
            right = answer.winners[places[0]] == MODALITY_IDS[query.modality]
            found.setdefault(query.modality.value, []).append(right)
    return found


def _share(found: Mapping[str, Sequence[bool]]) -> float | None:
    outcomes = [right for label in found.values() for right in label]
    return sum(outcomes) / len(outcomes) if outcomes else None


def _separation(task: Task, run: Run, kind: Separation, lost: Collection[str]) -> float | None:
    answered, unanswered = [], []
    for query, answer in zip(task.queries, run.answers, strict=True):
        if query.id in lost:
            continue
        if not query.relevant:
            unanswered.append(_top(answer, {}))
            continue
        answered.append(_top(answer, {}))
        if kind == "leave-one-out":
            unanswered.append(_top(answer, query.relevant))
    return doubt.auroc(answered, unanswered)


def _top(answer: Answer, without: Mapping[str, int]) -> float:
    """The highest score of a document that is not in ``without``; minus infinity where there is none."""
    left = (score for doc, score in zip(answer.documents, answer.scores, strict=True) if doc not in without)
    return next(left, -math.inf)
