"""What a system answers: for every query of a collection its documents with scores, best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clamr_cli.evaluate.trec import DEPTH, safe
from clamr_cli.search.ranking import order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.queries import LabelledQuery


@dataclass(frozen=True, slots=True)
class Answer:
    """A system's answer to one query, best first.

    ``scores`` are comparable between queries as far as the system allows: sums over query tokens are divided by their
    number. ``winners`` are the modality ids by which each document was found (0 for none), empty where the system
    does not say.
    """

    documents: tuple[str, ...]
    scores: tuple[float, ...]
    winners: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A system's name and its answers, in the order of the collection's queries.

    ``oracle`` marks a system that was told what each query aims at: a bound, no system that anyone could have.
    """

    name: str
    answers: tuple[Answer, ...]
    oracle: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Scores of all videos for all queries.

    Attributes:
        name: of the system.
        scores: [q, v] float32, minus infinity where a video cannot answer.
        winners: [q, v] uint8 modality ids, None where the system does not say.
        lengths: [q] what scores are divided by to compare them between queries; None for nothing.
        oracle: see :class:`Run`.
    """

    name: str
    scores: NDArray[np.float32]
    winners: NDArray[np.uint8] | None = None
    lengths: NDArray[np.float32] | None = None
    oracle: bool = False


def from_table(table: Table, documents: Sequence[str]) -> Run:
    """Rank the videos of each query, ties in the order of ``documents`` [v]; those without a score are no answers."""
    names = np.array(documents, dtype=object)
    answers = []
    for number, row in enumerate(table.scores):
        best = order(row)[:DEPTH]
        length = 1.0 if table.lengths is None else float(table.lengths[number])
        winners = () if table.winners is None else tuple(table.winners[number, best].tolist())
        answers.append(Answer(tuple(names[best].tolist()), tuple((row[best] / length).tolist()), winners))
    return Run(table.name, tuple(answers), table.oracle)


def from_trec(
    name: str,
    found: Mapping[str, Sequence[tuple[str, float]]],
    queries: Sequence[LabelledQuery],
    documents: Mapping[str, str],
) -> tuple[Run, list[str]]:
    """A run that was read, and its documents that are not known.

    Args:
        name: of the system.
        found: documents with scores by query.
        queries: of the collection, whose ids may stand encoded in the run.
        documents: by their id in the run; those that are not in it are left out.
    """
    unknown: dict[str, None] = {}
    answers = []
    for query in queries:
        given = found.get(query.id) or found.get(safe(query.id)) or ()
        unknown.update(dict.fromkeys(doc for doc, _ in given if doc not in documents))
        best: dict[str, float] = {}
        for document, score in given:
            if document in documents:
                best.setdefault(documents[document], score)
        answers.append(Answer(tuple(best), tuple(best.values())))
    return Run(name, tuple(answers)), list(unknown)
