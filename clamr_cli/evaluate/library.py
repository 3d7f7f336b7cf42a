"""An index and a collection of queries: all systems that the index allows, scored on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clamr_cli.errors import UsageError
from clamr_cli.evaluate import collection, names, runs, systems
from clamr_cli.evaluate.report import Report, report
from clamr_cli.evaluate.trec import plain, safe
from clamr_cli.search.filters import select
from clamr_cli.search.ranking import require_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from clamr_cli.evaluate.classical import SentenceSpace
    from clamr_cli.evaluate.collection import Task
    from clamr_cli.evaluate.options import EvaluationOptions
    from clamr_cli.evaluate.runs import Run
    from clamr_cli.queries import LabelledQuery
    from clamr_cli.store import Store
    from clamr_cli.types import Encoder, FileRecord

    Found = Mapping[str, Sequence[tuple[str, float]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation found.

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
    runs: tuple[Run, ...]
    unknown: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Names:
    """The name that each video goes by: the collection's first for it, else its id."""

    of_video: Mapping[str, str]
    of_alias: Mapping[str, str]
    unknown: tuple[str, ...]


def evaluate(
    store: Store,
    encoder: Encoder,
    queries: Sequence[LabelledQuery],
    options: EvaluationOptions,
    *,
    others: Mapping[str, Found] | None = None,
    sentences: Callable[[], SentenceSpace] | None = None,
    moved: systems.Moved | None = None,
) -> Outcome:
    """Rank all videos of an index for every query, with every system, and score the rankings.

    Args:
        store: the index.
        encoder: encodes queries; its stored vectors are the first system.
        queries: with their answers, by any name of a video.
        options: what to do.
        others: runs of other tools, by name.
        sentences: makes what the baselines encode with; None leaves those out.
        moved: is told of progress.

    Raises:
        UsageError: no query has an answer, or one that the index holds, or a measure cannot be computed.
        EncoderMismatch: the index has no vectors of the encoder.
        StoreError: the index cannot be read.
    """
    require_vectors(store, encoder.info)
    pool = systems.Library(store, encoder, tuple(sorted(select(store, options.filters))), [], moved or _unseen)
    if not pool.video_ids:
        raise UsageError("no video of the index is in the pool", "index a folder, or give other filters")
    # A video may be named by any of its files.
    pool.files = store.files(pool.video_ids)
    known = _names([name for query in queries for name in query.relevant], pool)
    asked = names.renamed(queries, known.of_alias, judged_only=options.judged_only)
    if known.unknown and not known.of_alias:
        raise UsageError(
            f"the index holds none of the videos that answer ({names.listed(known.unknown)})",
            "index them, check how the collection names its videos, or give other filters",
        )
    task = (collection.published if options.published else collection.plain)(asked)
    found = systems.all_systems(pool, task.queries, options, sentences)
    documents = [known.of_video[video_id] for video_id in found.video_ids]
    own = [runs.from_table(table, documents) for table in found.tables]
    foreign, notes = _foreign(others or {}, task.queries, known, pool.files)
    lost = [query.id for query in task.queries if query.relevant and not set(query.relevant) & set(documents)]
    scored = report(task, [*own, *foreign], options.measures, options.sampling, lost)
    return Outcome(scored, task, (*own, *foreign), known.unknown, tuple(lost), (*found.notes, *notes))


def _unseen(what: str, done: float, total: float) -> None:
    """Progress that nobody looks at."""


def _names(aliases: Sequence[str], pool: systems.Library) -> _Names:
    resolved = names.resolve(aliases, pool.files)
    of_video = {video_id: video_id for video_id in pool.video_ids}
    of_video |= {video_id: alias for alias, video_id in reversed([*resolved.videos.items()])}
    of_alias = {alias: of_video[video_id] for alias, video_id in resolved.videos.items()}
    return _Names(of_video, of_alias, resolved.unknown)


def _foreign(
    others: Mapping[str, Found],
    queries: Sequence[LabelledQuery],
    known: _Names,
    files: Sequence[FileRecord],
) -> tuple[list[Run], list[str]]:
    """Runs of other tools, whose documents may go by any name of a video."""
    made, notes = [], []
    encoded = {safe(name): name for name in known.of_video.values()}
    for name, found in others.items():
        ids = _documents(found)
        # As they stand, and as they were before they were encoded.
        raw = names.resolve([one for one in ids if one not in encoded], files)
        decoded = names.resolve([plain(one) for one in raw.unknown], files)
        aliases = {one: known.of_video[video_id] for one, video_id in raw.videos.items()}
        aliases |= {
            one: known.of_video[decoded.videos[plain(one)]] for one in raw.unknown if plain(one) in decoded.videos
        }
        run, unknown = runs.from_trec(name, found, queries, {**aliases, **encoded})
        made.append(run)
        notes += [
            f"{name}: {len(unknown)} of its documents are no videos of the pool ({names.listed(unknown)})"
        ] * bool(unknown)
    return made, notes


def _documents(found: Found) -> Sequence[str]:
    """The ids of a run's documents, each once."""
    return list(dict.fromkeys(document for documents in found.values() for document, _ in documents))


def of_runs(found: Mapping[str, Found], queries: Sequence[LabelledQuery], options: EvaluationOptions) -> Outcome:
    """Score runs of any tools on judgements, without an index; the first run is the one to compare with.

    Raises:
        UsageError: no query has an answer, or a measure cannot be computed.
    """
    task = (collection.published if options.published else collection.plain)(queries)
    judged = {safe(document): document for query in task.queries for document in query.relevant}
    made = tuple(
        runs.from_trec(name, one, task.queries, {each: judged.get(each, each) for each in _documents(one)})[0]
        for name, one in found.items()
    )
    notes = []
    for name, one in found.items():
        asked = {query.id for query in task.queries} | {safe(query.id) for query in task.queries}
        extra = [query for query in one if query not in asked]
        notes += [f"{name}: {len(extra)} of its queries were not judged ({names.listed(extra)})"] * bool(extra)
    return Outcome(report(task, made, options.measures, options.sampling), task, made, notes=tuple(notes))


def named_run(path: Path, taken: Sequence[str]) -> str:
    """The name of a run that is read from a file: its stem, numbered where another has it."""
    name, number = path.stem, 1
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}"
    return name
