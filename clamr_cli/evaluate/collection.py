"""A collection of queries made ready for scoring: which rows are scored, against which documents.

The published evaluation of CLaMR (arXiv 2506.06144, section 5; 1,504 pairs over 414 videos) takes each judgement as a
pair of its own: a row of the query and a document of the pool. A video that was judged for four queries stands in the
pool four times, and the row of one pair counts the three other copies, and every other answer of the same query, as
wrong. Even a perfect ranking then has R@1 of videos / pairs, and since rows share queries and videos, intervals and
tests over rows look surer than they are. That protocol is :func:`published`; the default,
:func:`plain`, has one row a query and one document a video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clamr_cli.evaluate.runs import Run
    from clamr_cli.queries import LabelledQuery
    from clamr_cli.types import Modality


@dataclass(frozen=True, slots=True)
class Row:
    """What one value of a measure is computed for: a query, with the id that its judgements go by."""

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
        copies: the pool's documents by the video they are copies of; None where each video is its own document and
            all videos of the index are in the pool.
    """

    queries: tuple[LabelledQuery, ...]
    rows: tuple[Row, ...]
    qrels: Mapping[str, Mapping[str, int]]
    copies: Mapping[str, Sequence[str]] | None = None

    def documents(self, video: str) -> Sequence[str]:
        """The pool's documents of a video: itself, or its copies one after another, in their order.

        Copies cannot be told apart by any ranking, so their order is arbitrary. With one order for all rows, each row
        of a video finds its own copy at another place, and a mean over rows is the mean over all orders.
        """
        return (video,) if self.copies is None else self.copies.get(video, ())

    def ranking(self, run: Run) -> dict[str, list[str]]:
        """The pool's documents by row, best first."""
        by_query = [[copy for video in answer.documents for copy in self.documents(video)] for answer in run.answers]
        return {row.id: by_query[row.query] for row in self.rows}

    def scored(self, run: Run) -> dict[str, list[tuple[str, float]]]:
        """The pool's documents with their scores by row, best first."""
        by_query = [
            [
                (copy, score)
                for video, score in zip(answer.documents, answer.scores, strict=True)
                for copy in self.documents(video)
            ]
            for answer in run.answers
        ]
        return {row.id: by_query[row.query] for row in self.rows}


def plain(queries: Sequence[LabelledQuery]) -> Task:
    """One row a query with an answer, each video once."""
    _require(queries)
    rows = tuple(Row(query.id, place, query.modality) for place, query in enumerate(queries) if query.relevant)
    return Task(tuple(queries), rows, {query.id: query.relevant for query in queries if query.relevant})


def published(queries: Sequence[LabelledQuery]) -> Task:
    """One row and one document a judgement, as the published evaluation of CLaMR has it."""
    _require(queries)
    rows: list[Row] = []
    qrels: dict[str, dict[str, int]] = {}
    copies: dict[str, list[str]] = {}
    for place, query in enumerate(queries):
        for number, (video, grade) in enumerate(query.relevant.items(), 1):
            row = Row(f"{query.id}~{number}", place, query.modality)
            copy = f"{video}~{len(copies.setdefault(video, [])) + 1}"
            copies[video].append(copy)
            rows.append(row)
            qrels[row.id] = {copy: grade}
    return Task(tuple(queries), tuple(rows), qrels, copies)


def _require(queries: Sequence[LabelledQuery]) -> None:
    if not any(query.relevant for query in queries):
        raise UsageError("no query has an answer", "give judgements with --qrels FILE, or name videos in the queries")
