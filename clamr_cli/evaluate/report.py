"""Tasks that runs are scored on, and the report: means, intervals, tests, modality accuracy and separation by system.

The published evaluation of CLaMR (arXiv 2506.06144, section 5; 1,504 pairs over 414 videos) takes each judgement as a
pair of its own: a row of the query and a document of the pool. A video that was judged for four queries stands in the
pool four times, and the row of one pair counts the three other copies, and every other answer of the same query, as
wrong. Even a perfect ranking then has R@1 of videos / pairs, and since rows share queries and videos, intervals and
tests over rows look surer than they are. By default there is one row a query and one document a video.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from clamr_cli.errors import UsageError
from clamr_cli.evaluate import metrics
from clamr_cli.evaluate.systems import Run
from clamr_cli.queries import LabelledQuery
from clamr_cli.types import MODALITY_IDS, SHOWN_MODALITIES, Modality

BASE: Final = "base"
"""The label of queries that aim at no modality."""

LABELS: Final = (*(modality.value for modality in SHOWN_MODALITIES), Modality.AUDIO.value, BASE)
"""Labels in the order they are shown; audio is for queries that aim at sounds other than speech."""

Separation = Literal["unanswerable", "leave-one-out"]
"""The scores that those of answered queries are compared with: of queries without an answer, or of the same queries
once their answers are taken out of the collection."""


@dataclass(frozen=True, slots=True)
class Task:
    """Rows and judgements.

    Attributes:
        queries: all queries of the collection, those without an answer too.
        rows: the number of its query by the id of each row that measures are computed for.
        qrels: grades of documents by the id of the row.
        copies: the pool's documents by the video they are copies of; None if each video is its own document and all
            videos of the index are in the pool.
    """

    queries: Sequence[LabelledQuery]
    rows: Mapping[str, int]
    qrels: Mapping[str, Mapping[str, int]]
    copies: Mapping[str, Sequence[str]] | None = None

    def scored(self, run: Run) -> dict[str, list[tuple[str, float]]]:
        """The pool's documents with their scores by row, best first.

        Copies of a video come one after another. No ranking can tell them apart, so their order is arbitrary. With one
        order for all rows, each row of a video finds its own copy at another place, and a mean over rows is the mean
        over all orders.
        """
        by_query = [
            [
                (document, score)
                for video, score in zip(ranking.documents, ranking.scores, strict=True)
                for document in ((video,) if self.copies is None else self.copies.get(video, ()))
            ]
            for ranking in run.rankings
        ]
        return {row: by_query[number] for row, number in self.rows.items()}

    def ranking(self, run: Run) -> dict[str, list[str]]:
        """The pool's documents by row, best first."""
        return {row: [document for document, _ in documents] for row, documents in self.scored(run).items()}


def make_task(queries: Sequence[LabelledQuery], *, published: bool = False) -> Task:
    """The task of a collection; ``published`` has one row and one document a judgement, see above.

    Raises:
        UsageError: no query has an answer.
    """
    if not any(query.relevant for query in queries):
        raise UsageError("no query has an answer", "give judgements with --qrels FILE, or name videos in the queries")
    if not published:
        rows = {query.id: number for number, query in enumerate(queries) if query.relevant}
        return Task(queries, rows, {query.id: query.relevant for query in queries if query.relevant})
    rows = {}
    qrels: dict[str, dict[str, int]] = {}
    copies: dict[str, list[str]] = {}
    for number, query in enumerate(queries):
        for count, (video, grade) in enumerate(query.relevant.items(), 1):
            row, of_video = f"{query.id}~{count}", copies.setdefault(video, [])
            of_video.append(f"{video}~{len(of_video) + 1}")
            rows[row] = number
            qrels[row] = {of_video[-1]: grade}
    return Task(queries, rows, qrels, copies)


@dataclass(frozen=True, slots=True)
class SystemResult:
    """One system: means by measure, and of the main measure its 95 % interval, paired test and means by label.

    ``accuracy`` is the share of labelled queries whose best answer was won by the modality they aim at, of those with
    any answer in the run; None if the system does not say. ``auroc`` is the chance that the top score of an answered
    query is above that of one without.
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
    systems: tuple[SystemResult, ...]
    rows: Mapping[str, int]
    unanswered: int
    separation: Separation

    @property
    def rival(self) -> SystemResult | None:
        """The best of the other systems that need no oracle; None if there is none."""
        others = [system for system in self.systems[1:] if not system.oracle]
        return max(others, key=lambda system: system.means[self.measures[0]], default=None)


def report(
    task: Task, runs: Sequence[Run], names: Sequence[str], sampling: metrics.Sampling, lost: Collection[str] = ()
) -> Report:
    """Score runs by measures (names, the main one first); the others are tested against the first.

    ``lost`` are ids of queries whose answers are all outside the collection: they are neither answered nor known to
    have no answer, so they take no part in the separation.

    Raises:
        UsageError: a measure cannot be computed.
    """
    aims = [task.queries[number].modality for number in task.rows.values()]
    labels = np.array([BASE if aim is None else aim.value for aim in aims])
    counts = Counter(labels.tolist())
    rows = {label: counts[label] for label in LABELS if counts[label]}
    unanswered = sum(not query.relevant for query in task.queries)
    separation: Separation = "unanswerable" if unanswered else "leave-one-out"
    systems: list[SystemResult] = []
    first = np.array([])
    for run in runs:
        values = metrics.per_query(names, task.qrels, task.ranking(run))
        main = values[names[0]]
        p = metrics.difference(first, main, sampling) if systems else None
        first = first if systems else main
        matches = _modality_matches(task, run)
        outcomes = [match for of_label in matches.values() for match in of_label]
        systems.append(
            SystemResult(
                name=run.name,
                means={name: float(value.mean()) for name, value in values.items()},
                interval=metrics.interval(main, sampling),
                p=p,
                by_label={label: float(main[labels == label].mean()) for label in rows},
                accuracy=sum(outcomes) / len(outcomes) if outcomes else None,
                accuracy_by_label={label: sum(of_label) / len(of_label) for label, of_label in matches.items()},
                auroc=_auroc(task, run, separation, lost),
                oracle=run.oracle,
            )
        )
    return Report(tuple(names), tuple(systems), rows, unanswered, separation)


def _modality_matches(task: Task, run: Run) -> dict[str, list[bool]]:
    """By label: of each query with an answer in the run, whether the best one was won by the modality asked for.

    CLaMR section 5 (modality accuracy) has one answer a query; of several the best counts.
    """
    matches: dict[str, list[bool]] = {}
    for query, ranking in zip(task.queries, run.rankings, strict=True):
        if query.modality is None or not ranking.winners:
            continue
        pairs = zip(ranking.documents, ranking.winners, strict=True)
        winner = next((winner for document, winner in pairs if document in query.relevant), None)
        if winner is not None:
            matches.setdefault(query.modality.value, []).append(winner == MODALITY_IDS[query.modality])
    return matches


def _auroc(task: Task, run: Run, separation: Separation, lost: Collection[str]) -> float | None:
    """The separation of answered queries from those without an answer, by their top scores."""
    answered: list[float] = []
    unanswered: list[float] = []
    for query, ranking in zip(task.queries, run.rankings, strict=True):
        if query.id in lost:
            continue
        (answered if query.relevant else unanswered).append(next(iter(ranking.scores), -math.inf))
        if query.relevant and separation == "leave-one-out":
            pairs = zip(ranking.documents, ranking.scores, strict=True)
            unanswered.append(next((score for document, score in pairs if document not in query.relevant), -math.inf))
    return metrics.auroc(answered, unanswered)
