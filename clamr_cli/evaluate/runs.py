"""Runs (what systems answer) and tasks (what they are scored on).

The published evaluation of CLaMR (arXiv 2506.06144, section 5; 1,504 pairs over 414 videos) takes each judgement as a
pair of its own: a row of the query and a document of the pool. A video that was judged for four queries stands in the
pool four times, and the row of one pair counts the three other copies, and every other answer of the same query, as
wrong. Even a perfect ranking then has R@1 of videos / pairs, and since rows share queries and videos, intervals and
tests over rows look surer than they are. That protocol is :func:`published_task`; the default, :func:`plain_task`, has
one row a query and one document a video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clamr_cli.errors import UsageError
from clamr_cli.evaluate.data import DEPTH
from clamr_cli.evaluate.ids import escape
from clamr_cli.search.scoring import order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.queries import LabelledQuery
    from clamr_cli.types import Modality


@dataclass(frozen=True, slots=True)
class Answer:
    """A system's answer to one query, best first.

    ``scores`` are comparable between queries as far as the system allows: sums over query tokens are divided by their
    number. ``winners`` are the modality ids that won each document (0 for none), empty if the system does not say.
    """

    documents: tuple[str, ...]
    scores: tuple[float, ...]
    winners: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A system's name and its answers, in the order of the collection's queries.

    ``oracle`` marks a system that knows the modality each query aims at: a bound, not a system that anyone could have.
    """

    name: str
    answers: tuple[Answer, ...]
    oracle: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A query that measures are computed for: the id of its judgements, its number and its modality."""

    id: str
    query: int
    modality: Modality | None


@dataclass(frozen=True, slots=True)
class Task:
    """Rows and judgements.

    Attributes:
        queries: all queries of the collection, those without an answer too.
        rows: of queries with an answer.
        qrels: grades of documents by the id of the row.
        copies: the pool's documents by the video they are copies of; None if each video is its own document and all
            videos of the index are in the pool.
    """

    queries: tuple[LabelledQuery, ...]
    rows: tuple[Row, ...]
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
                for video, score in zip(answer.documents, answer.scores, strict=True)
                for document in ((video,) if self.copies is None else self.copies.get(video, ()))
            ]
            for answer in run.answers
        ]
        return {row.id: by_query[row.query] for row in self.rows}

    def ranking(self, run: Run) -> dict[str, list[str]]:
        """The pool's documents by row, best first."""
        return {row: [document for document, _ in documents] for row, documents in self.scored(run).items()}


def plain_task(queries: Sequence[LabelledQuery]) -> Task:
    """One row a query with an answer, each video once.

    Raises:
        UsageError: no query has an answer.
    """
    _require_answers(queries)
    rows = tuple(Row(query.id, number, query.modality) for number, query in enumerate(queries) if query.relevant)
    return Task(tuple(queries), rows, {query.id: query.relevant for query in queries if query.relevant})


def published_task(queries: Sequence[LabelledQuery]) -> Task:
    """One row and one document a judgement, as in the published evaluation of CLaMR.

    Raises:
        UsageError: no query has an answer.
    """
    _require_answers(queries)
    rows: list[Row] = []
    qrels: dict[str, dict[str, int]] = {}
    copies: dict[str, list[str]] = {}
    for query_number, query in enumerate(queries):
        for number, (video, grade) in enumerate(query.relevant.items(), 1):
            row = Row(f"{query.id}~{number}", query_number, query.modality)
            of_video = copies.setdefault(video, [])
            of_video.append(f"{video}~{len(of_video) + 1}")
            rows.append(row)
            qrels[row.id] = {of_video[-1]: grade}
    return Task(tuple(queries), tuple(rows), qrels, copies)


def _require_answers(queries: Sequence[LabelledQuery]) -> None:
    if not any(query.relevant for query in queries):
        raise UsageError("no query has an answer", "give judgements with --qrels FILE, or name videos in the queries")


def ranked(
    name: str,
    scores: NDArray[np.float32],
    documents: Sequence[str],
    *,
    winners: NDArray[np.uint8] | None = None,
    lengths: NDArray[np.float32] | None = None,
    oracle: bool = False,
) -> Run:
    """Rank the videos of each query by their scores, ties in the order of ``documents``.

    Args:
        name: of the system.
        scores: [q, v] float32, minus infinity for a video that is not an answer.
        documents: [v] names of the videos.
        winners: [q, v] uint8 modality ids, None if the system does not say.
        lengths: [q] the number of tokens that scores are divided by, to compare them between queries.
        oracle: see :class:`Run`.
    """
    names = np.array(documents, dtype=object)
    answers = []
    for number, row in enumerate(scores):
        best = order(row)[:DEPTH]
        length = 1.0 if lengths is None else float(lengths[number])
        won = () if winners is None else tuple(winners[number, best].tolist())
        answers.append(Answer(tuple(names[best].tolist()), tuple((row[best] / length).tolist()), won))
    return Run(name, tuple(answers), oracle)


def from_trec(
    name: str,
    ranking: Mapping[str, Sequence[tuple[str, float]]],
    queries: Sequence[LabelledQuery],
    documents: Mapping[str, str],
) -> tuple[Run, list[str]]:
    """A run that was read from a file, and its unknown documents.

    Args:
        name: of the system.
        ranking: documents with scores by query.
        queries: of the collection, whose ids may be escaped in the run.
        documents: by their id in the run; those that are not in it are left out.
    """
    unknown: dict[str, None] = {}
    answers = []
    for query in queries:
        best: dict[str, float] = {}
        for document, score in ranking.get(query.id) or ranking.get(escape(query.id)) or ():
            if document in documents:
                best.setdefault(documents[document], score)
            else:
                unknown[document] = None
        answers.append(Answer(tuple(best), tuple(best.values())))
    return Run(name, tuple(answers)), list(unknown)
