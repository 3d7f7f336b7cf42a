"""An index and a collection of queries: all systems that the index allows, scored on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clamr_cli.errors import UsageError
from clamr_cli.evaluate import ids
from clamr_cli.evaluate.data import Ranking
from clamr_cli.evaluate.metrics import Sampling
from clamr_cli.evaluate.report import Report, Task, make_task, report
from clamr_cli.evaluate.systems import Progress, QueryRanking, Run, VideoPool, all_systems
from clamr_cli.queries import LabelledQuery
from clamr_cli.search.filters import select
from clamr_cli.search.search import require_vectors
from clamr_cli.store import Store
from clamr_cli.types import Encoder, FileRecord, Filters, Scoring

if TYPE_CHECKING:
    from clamr_cli.encoders.mini.encoder import SentenceModel


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Options of an evaluation: scoring and comparisons.

    Attributes:
        measures: as :func:`~clamr_cli.evaluate.metrics.parse` gives them; the first is the main one.
        scoring: of the joint run.
        published: the published evaluation's pool, see :mod:`clamr_cli.evaluate.report`.
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

    report: Report
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
    others: Mapping[str, Ranking] | None = None,
    sentences: Callable[[], SentenceModel] | None = None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """Rank all videos of an index for every query, with every system, and score the rankings.

    Args:
        store: the index.
        encoder: encodes queries; its stored vectors are the first system.
        queries: with their answers, by any name of a video.
        options: what to do.
        others: runs of other tools, by name.
        sentences: makes the model of the sentence baselines; None leaves those out.
        progress: called while it takes long.

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
    resolved = ids.resolve([name for query in queries for name in query.relevant], files)
    if resolved.unknown and not resolved.videos:
        raise UsageError(
            f"the index holds none of the videos that answer ({ids.listed(resolved.unknown)})",
            "index them, check how the collection names its videos, or give other filters",
        )
    # A video goes by the collection's first name for it, else by its id.
    document_of = {video_id: video_id for video_id in video_ids}
    document_of |= {video_id: name for name, video_id in reversed([*resolved.videos.items()])}
    by_name = {name: document_of[video_id] for name, video_id in resolved.videos.items()}
    task = make_task(ids.renamed(queries, by_name, judged_only=options.judged_only), published=options.published)
    documents = [document_of[video_id] for video_id in video_ids]
    pool = VideoPool(store, encoder, video_ids, documents, files, progress)
    runs = all_systems(pool, task.queries, options.scoring, baselines=options.baselines, sentences=sentences)
    notes = list(pool.notes)
    for name, ranking in (others or {}).items():
        run, unknown = run_of(name, ranking, task.queries, _our_names(ranking, document_of, files))
        runs.append(run)
        if unknown:
            notes.append(f"{name}: {len(unknown)} of its documents are not videos of the pool ({ids.listed(unknown)})")
    lost = [query.id for query in task.queries if query.relevant and not set(query.relevant) & set(documents)]
    scores = report(task, runs, options.measures, options.sampling, lost)
    return Evaluation(scores, task, runs, resolved.unknown, lost, notes)


def evaluate_runs(
    rankings: Mapping[str, Ranking], queries: Sequence[LabelledQuery], options: EvaluationOptions
) -> Evaluation:
    """Score runs of any tools on judgements, without an index; the first run is the one to compare with.

    Raises:
        UsageError: no query has an answer, or a measure cannot be computed.
    """
    task = make_task(queries, published=options.published)
    judged = {ids.escape(document): document for query in task.queries for document in query.relevant}
    query_ids = {name for query in task.queries for name in (query.id, ids.escape(query.id))}
    runs, notes = [], []
    for name, ranking in rankings.items():
        documents = {document: judged.get(document, document) for document in _documents(ranking)}
        runs.append(run_of(name, ranking, task.queries, documents)[0])
        if extra := [query for query in ranking if query not in query_ids]:
            notes.append(f"{name}: {len(extra)} of its queries were not judged ({ids.listed(extra)})")
    return Evaluation(report(task, runs, options.measures, options.sampling), task, runs, notes=notes)


def run_of(
    name: str, ranking: Ranking, queries: Sequence[LabelledQuery], documents: Mapping[str, str]
) -> tuple[Run, list[str]]:
    """A run that was read from a file, and its documents that are not in ``documents`` (our names by theirs).

    The ids of queries may be escaped in the run.
    """
    unknown: dict[str, None] = {}
    rankings = []
    for query in queries:
        best: dict[str, float] = {}
        for document, score in ranking.get(query.id) or ranking.get(ids.escape(query.id)) or ():
            if document in documents:
                best.setdefault(documents[document], score)
            else:
                unknown[document] = None
        rankings.append(QueryRanking(tuple(best), tuple(best.values())))
    return Run(name, tuple(rankings)), list(unknown)


def _documents(ranking: Ranking) -> list[str]:
    """The documents of a run, each once."""
    return list(dict.fromkeys(document for documents in ranking.values() for document, _ in documents))


def _our_names(ranking: Ranking, document_of: Mapping[str, str], files: Sequence[FileRecord]) -> dict[str, str]:
    """Our names of another tool's documents, which may go by any name of a video, also an escaped one."""
    escaped = {ids.escape(name): name for name in document_of.values()}
    as_written = ids.resolve([name for name in _documents(ranking) if name not in escaped], files)
    original = {name: ids.unescape(name) for name in as_written.unknown}
    unescaped = ids.resolve(original.values(), files).videos
    videos = {**as_written.videos, **{name: unescaped[one] for name, one in original.items() if one in unescaped}}
    return {**{name: document_of[video_id] for name, video_id in videos.items()}, **escaped}
