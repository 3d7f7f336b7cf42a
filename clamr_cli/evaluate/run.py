"""An index and a collection of queries: all systems that the index allows, scored on it, and the report.

The published evaluation of CLaMR (arXiv 2506.06144, section 5; 1,504 pairs over 414 videos) takes each judgement as a
pair of its own: a row of the query and a document of the pool. A video that was judged for four queries stands in the
pool four times, and the row of one pair counts the three other copies, and every other answer of the same query, as
wrong. Even a perfect ranking then has R@1 of videos / pairs, and since rows share queries and videos, intervals and
tests over rows look surer than they are. By default there is one row a query and one document a video.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from clamr_cli.errors import UsageError
from clamr_cli.evaluate import metrics
from clamr_cli.evaluate.data import ScoredDocuments, escape, listed, renamed, resolve, unescape
from clamr_cli.evaluate.metrics import Sampling
from clamr_cli.evaluate.systems import QueryRanking, Run, all_systems
from clamr_cli.queries import LabelledQuery
from clamr_cli.search.search import require_vectors, select
from clamr_cli.store import Store
from clamr_cli.types import MODALITY_IDS, SHOWN_MODALITIES, Encoder, FileRecord, Filters, Modality, Scoring

if TYPE_CHECKING:
    from clamr_cli.encoders.mini.encoder import SentenceModel

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
class EvaluationReport:
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
    task: Task, runs: Sequence[Run], names: Sequence[str], sampling: Sampling, lost: Collection[str] = ()
) -> EvaluationReport:
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
    without_answer = sum(not query.relevant for query in task.queries)
    separation: Separation = "unanswerable" if without_answer else "leave-one-out"
    systems: list[SystemResult] = []
    first = np.array([])
    for run in runs:
        values = metrics.per_query(names, task.qrels, task.ranking(run))
        main = values[names[0]]
        p = metrics.difference(first, main, sampling) if systems else None
        first = first if systems else main
        # By label: of each query with an answer in the run, whether the best one was won by the modality asked for.
        # CLaMR section 5 (modality accuracy) has one answer a query; of several the best counts.
        matches: dict[str, list[bool]] = {}
        answered: list[float] = []
        unanswered: list[float] = []
        for query, ranking in zip(task.queries, run.rankings, strict=True):
            if query.modality is not None and ranking.winners:
                pairs = zip(ranking.documents, ranking.winners, strict=True)
                winner = next((winner for document, winner in pairs if document in query.relevant), None)
                if winner is not None:
                    matches.setdefault(query.modality.value, []).append(winner == MODALITY_IDS[query.modality])
            if query.id in lost:
                continue
            (answered if query.relevant else unanswered).append(next(iter(ranking.scores), -math.inf))
            if query.relevant and separation == "leave-one-out":
                others = zip(ranking.documents, ranking.scores, strict=True)
                best = next((score for document, score in others if document not in query.relevant), -math.inf)
                unanswered.append(best)
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
                auroc=metrics.auroc(answered, unanswered),
                oracle=run.oracle,
            )
        )
    return EvaluationReport(tuple(names), tuple(systems), rows, without_answer, separation)


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Options of an evaluation: scoring and comparisons.

    Attributes:
        measures: as :func:`~clamr_cli.evaluate.metrics.parse` gives them; the first is the main one.
        scoring: of the joint run.
        published: the published evaluation's pool, see above.
        judged_only: leave out answers that the index does not hold.
        baselines: compare with the systems that are built from the same extraction.
        sampling: of intervals and tests.
        filters: which videos are in the pool.
    """

    measures: tuple[str, ...]
    scoring: Scoring = "token-max"
    published: bool = False
    judged_only: bool = False
    baselines: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    filters: Filters = field(default_factory=Filters)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        report: of all systems.
        task: rows and judgements, by the names that documents have in the runs.
        runs: of all systems, the encoder's own first.
        unknown: names of the collection that mean no video of the index, or several.
        lost: ids of queries none of whose answers the index holds.
        notes: what was left out, and why.
    """

    report: EvaluationReport
    task: Task
    runs: Sequence[Run]
    unknown: Sequence[str] = ()
    lost: Sequence[str] = ()
    notes: Sequence[str] = ()


def evaluate(
    store: Store,
    encoder: Encoder,
    queries: Sequence[LabelledQuery],
    options: EvaluationOptions,
    *,
    others: Mapping[str, ScoredDocuments] | None = None,
    sentences: Callable[[], SentenceModel] | None = None,
    progress: Callable[[str, float, float], None] = lambda *_: None,
) -> Evaluation:
    """Rank all videos of an index for every query, with every system, and score the rankings.

    Args:
        store: the index.
        encoder: encodes queries; its stored vectors are the first system.
        queries: with their answers, by any name of a video.
        options: what to do.
        others: runs of other tools, by name.
        sentences: makes the model of the sentence baselines; None leaves those out.
        progress: called with the work that is done, how much of it is done, and how much there is.

    Raises:
        UsageError: no query has an answer, or one that the index holds, or a measure cannot be computed.
        EncoderMismatch: the index has no vectors of the encoder.
        StoreError: the index cannot be read.
    """
    require_vectors(store, encoder.info)
    video_ids = sorted(select(store, options.filters))
    if not video_ids:
        raise UsageError("no video of the index is in the pool", "index a folder, or give other filters")
    files = store.files(video_ids)
    video_of_name, unknown = resolve([name for query in queries for name in query.relevant], files)
    if unknown and not video_of_name:
        raise UsageError(
            f"the index holds none of the videos that answer ({listed(unknown)})",
            "index them, check how the collection names its videos, or give other filters",
        )
    # A video goes by the collection's first name for it, else by its id.
    document_of = {video_id: video_id for video_id in video_ids}
    document_of |= {video_id: name for name, video_id in reversed([*video_of_name.items()])}
    by_name = {name: document_of[video_id] for name, video_id in video_of_name.items()}
    task = make_task(renamed(queries, by_name, judged_only=options.judged_only), published=options.published)
    documents = [document_of[video_id] for video_id in video_ids]
    runs, notes = all_systems(
        store,
        encoder,
        task.queries,
        files,
        dict(zip(video_ids, documents, strict=True)),
        options.scoring,
        baselines=options.baselines,
        sentences=sentences,
        progress=progress,
    )
    for name, ranking in (others or {}).items():
        run, strangers = run_of(name, ranking, task.queries, _our_names(ranking, document_of, files))
        runs.append(run)
        if strangers:
            notes.append(f"{name}: {len(strangers)} of its documents are not videos of the pool ({listed(strangers)})")
    lost = [query.id for query in task.queries if query.relevant and not set(query.relevant) & set(documents)]
    scores = report(task, runs, options.measures, options.sampling, lost)
    return Evaluation(scores, task, runs, unknown, lost, notes)


def evaluate_runs(
    rankings: Mapping[str, ScoredDocuments], queries: Sequence[LabelledQuery], options: EvaluationOptions
) -> Evaluation:
    """Score runs of any tools on judgements, without an index; the first run is the one to compare with.

    Raises:
        UsageError: no query has an answer, or a measure cannot be computed.
    """
    task = make_task(queries, published=options.published)
    judged = {escape(document): document for query in task.queries for document in query.relevant}
    query_ids = {name for query in task.queries for name in (query.id, escape(query.id))}
    runs, notes = [], []
    for name, ranking in rankings.items():
        documents = {name: judged.get(name, name) for documents in ranking.values() for name, _ in documents}
        runs.append(run_of(name, ranking, task.queries, documents)[0])
        if extra := [query for query in ranking if query not in query_ids]:
            notes.append(f"{name}: {len(extra)} of its queries were not judged ({listed(extra)})")
    return Evaluation(report(task, runs, options.measures, options.sampling), task, runs, notes=notes)


def run_of(
    name: str, ranking: ScoredDocuments, queries: Sequence[LabelledQuery], documents: Mapping[str, str]
) -> tuple[Run, list[str]]:
    """A run that was read from a file, and its documents that are not in ``documents`` (our names by theirs).

    The ids of queries may be escaped in the run.
    """
    unknown: dict[str, None] = {}
    rankings = []
    for query in queries:
        best: dict[str, float] = {}
        for document, score in ranking.get(query.id) or ranking.get(escape(query.id)) or ():
            if document in documents:
                best.setdefault(documents[document], score)
            else:
                unknown[document] = None
        rankings.append(QueryRanking(tuple(best), tuple(best.values())))
    return Run(name, tuple(rankings)), list(unknown)


def _our_names(ranking: ScoredDocuments, document_of: Mapping[str, str], files: Sequence[FileRecord]) -> dict[str, str]:
    """Our names of another tool's documents, which may go by any name of a video, also an escaped one."""
    escaped = {escape(name): name for name in document_of.values()}
    videos, unknown = resolve(
        (name for documents in ranking.values() for name, _ in documents if name not in escaped), files
    )
    original = {name: unescape(name) for name in unknown}
    unescaped, _ = resolve(original.values(), files)
    videos |= {name: unescaped[one] for name, one in original.items() if one in unescaped}
    return {**{name: document_of[video_id] for name, video_id in videos.items()}, **escaped}
