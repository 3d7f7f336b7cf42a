"""Synthetic queries, each aimed at one modality: what MultiVENT 2.0++ consists of, from the videos of any index.

A language model is shown one modality of a video (its title for a base query) and ten example queries of that kind,
and writes one query that would help someone find the video (CLaMR, section on MultiVENT 2.0++).

The run: for each video of an index its queries are planned, asked for, checked, and written in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

from clamr_cli.errors import MediaError
from clamr_cli.events import GaveUp, Notice, VideoDone
from clamr_cli.index.documents import document_of, documents_of
from clamr_cli.journal import Journal
from clamr_cli.llm import AnswerError, ChatModel, ImagesRefused, map_ordered
from clamr_cli.queries import LabelledQuery, records
from clamr_cli.store import Store
from clamr_cli.synth.filters import QueryFilter, clean_query
from clamr_cli.synth.prompts import (
    PROMPT_VERSION,
    ExampleQueries,
    PlannedQuery,
    SynthOptions,
    describe_prompt,
    plan_queries,
    prompt_for,
    query_id,
)
from clamr_cli.types import Document, FileRecord, Modality, VideoRecord

MOST_FAILURES: Final = 20
"""Failures in a row after which a run stops."""

ATTEMPTS: Final = 2
"""Tries of a query whose answer is dropped."""

NO_PICTURES: Final = "the model takes no pictures: no queries about what is seen are written"
_LONGEST_ANSWER: Final = 500


class Outcome(StrEnum):
    """The end of a query; ``unseen`` where it needs frames and the model takes none."""

    WRITTEN = "written"
    DROPPED = "dropped"
    FAILED = "failed"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class QuerySettled:
    """A query is written or given up.

    Attributes:
        record: of the file, ready for ``json.dumps``.
        reason: why it was not written; one line.
        attempts: how often it was asked for.
    """

    query: PlannedQuery
    outcome: Outcome
    record: dict[str, Any]
    reason: str = ""
    attempts: int = 1


SynthEvent: TypeAlias = QuerySettled | VideoDone | Notice | GaveUp


def query_journals(out: Path | None) -> tuple[Journal, Journal]:
    """The file of queries, and the one beside it for those that were dropped or failed.

    What was dropped is not asked for again under the same settings, what failed is.
    """
    rejects = out and out.with_name(f"{out.name}.rejected")
    return Journal(out, "queries", ("id", "query")), Journal(rejects, "queries", ("id", "outcome"), ascii_only=True)


def planned_prompts(
    store: Store, videos: Sequence[FileRecord], examples: ExampleQueries, options: SynthOptions
) -> Iterator[dict[str, object]]:
    """The prompts of a run as records that people can read; no model is asked."""
    for record in videos:
        video, documents, _ = _documents(store, record, options, with_frames=options.vision != "no")
        for query in plan_queries(record, video, documents, options):
            yield describe_prompt(query, prompt_for(query, examples, options))


def _documents(
    store: Store, record: FileRecord, options: SynthOptions, *, with_frames: bool
) -> tuple[VideoRecord, list[Document], str]:
    """A video's documents, with frames where they are wanted, and why the frames could not be had."""
    problem = ""
    if Modality.VIDEO in options.targets and with_frames:
        try:
            return *documents_of(store, record), ""
        except MediaError as error:
            problem = str(error)
    moments = store.moments([record.video_id])
    return store.video(record.video_id), [document_of(moment, {}) for moment in moments], problem


class SynthRun:
    """Writes the queries of videos into a journal.

    The result depends on the index, the model, the examples and the options alone: answers are asked for concurrently,
    but checked and written in the order of the videos. The journals (see :func:`query_journals`) are entered; what they
    hold already is not written again.
    """

    def __init__(
        self,
        store: Store,
        model: ChatModel,
        examples: ExampleQueries,
        options: SynthOptions,
        journals: tuple[Journal, Journal],
    ) -> None:
        self._store, self._model, self._examples, self._options = store, model, examples, options
        self._written, self._rejected = journals
        self._setup: dict[str, Any] = {
            "model": model.name,
            "seed": options.seed,
            "prompt": PROMPT_VERSION,
            "temperature": options.temperature,
        }
        self._without_frames = options.vision == "no" or (options.vision == "auto" and model.supports_images is False)
        self._notes_shown = 0
        self._filter = QueryFilter(query.text for queries in examples.values() for query in queries)
        self._settled: set[str] = set()
        for record in self._written.records:
            self._settled.add(record["id"])
            if record.get("video"):
                self._filter.remember(record["query"], record["video"])
        for record in self._rejected.records:
            if record["outcome"] == Outcome.DROPPED and self._is_of_setup(record):
                self._settled.add(record["id"])

    def events(self, videos: Sequence[FileRecord]) -> Iterator[SynthEvent]:
        """Write the queries of these videos, a file of each, until they are done or too many queries failed.

        Raises:
            ModelError: the model cannot answer at all.
        """
        yield from self._notes()
        if self._without_frames and self._options.vision == "auto" and Modality.VIDEO in self._options.targets:
            yield Notice("", NO_PICTURES)
        if others := len({record["id"] for record in self._written.records if not self._is_of_setup(record)}):
            subject = "1 query of the file was" if others == 1 else f"{others} queries of the file were"
            yield Notice("", f"{subject} written by another model or with other settings and will stay")
        failures, worked, refusal_shown = 0, False, False
        for query, answer in map_ordered(self._ask, self._queries(videos), workers=self._model.workers):
            if isinstance(query, int):
                yield VideoDone(query, worked)
                worked = False
                continue
            worked = True
            event = self._settle(query, answer)
            yield from self._notes()
            if event.outcome is Outcome.UNSEEN and not refusal_shown:
                refusal_shown = True
                yield Notice("", f"{NO_PICTURES} ({event.reason})")
            yield event
            failures = failures + 1 if event.outcome is Outcome.FAILED else 0
            if failures >= MOST_FAILURES:
                yield GaveUp(failures)
                return

    def _is_of_setup(self, record: Mapping[str, Any]) -> bool:
        return all(record.get(name) == value for name, value in self._setup.items())

    def _notes(self) -> Iterator[Notice]:
        """The new notes of the model."""
        notes = self._model.notes[self._notes_shown :]
        self._notes_shown += len(notes)
        yield from (Notice("", note) for note in notes)

    def _queries(self, videos: Sequence[FileRecord]) -> Iterator[PlannedQuery | int]:
        """The queries that are left to write; after those of each video, its number."""
        options = self._options
        for number, record in enumerate(videos, 1):
            identity = record.video_id
            ids = [query_id(identity, target, each + 1) for target in options.targets for each in range(options.each)]
            if not self._settled.issuperset(ids):
                video, documents, problem = _documents(
                    self._store, record, options, with_frames=not self._without_frames
                )
                if problem:
                    yield PlannedQuery(identity, record.path, Modality.VIDEO, 1, problem=problem)
                for query in plan_queries(record, video, documents, options):
                    if query.id not in self._settled:
                        yield query
            yield number

    def _ask(self, query: PlannedQuery | int, attempt: int = 0) -> str | AnswerError | None:
        """An answer, or why there is none; in the threads of the model."""
        if isinstance(query, int):
            return None
        if query.problem:
            return AnswerError(query.problem)
        if query.frames and self._without_frames:
            return ImagesRefused(NO_PICTURES)
        try:
            return self._model.answer(prompt_for(query, self._examples, self._options, attempt=attempt))
        except AnswerError as error:
            if not isinstance(error, ImagesRefused):
                return error
            if self._options.vision != "auto":
                return AnswerError(error.what, error.hint)
            self._without_frames = True
            return error

    def _settle(self, query: PlannedQuery, answer: str | AnswerError | None) -> QuerySettled:
        """Check an answer, ask a second time where it cannot be kept, and write the result."""
        text, reason, outcome, attempt = "", "", Outcome.DROPPED, 0
        moment = [round(query.span.start, 3), round(query.span.end, 3)]
        for attempt in range(1, ATTEMPTS + 1):
            if attempt > 1:
                answer = self._ask(query, attempt - 1)
            if isinstance(answer, ImagesRefused):
                return QuerySettled(query, Outcome.UNSEEN, {}, str(answer))
            if not isinstance(answer, str):
                text, reason, outcome = "", str(answer), Outcome.FAILED
                break
            cleaned = clean_query(answer)
            drop = self._filter.check(cleaned, query)
            if drop is None:
                self._filter.remember(cleaned, query.video_id)
                (head,) = records(LabelledQuery(query.id, cleaned, query.target, {query.video_id: 1}))
                record = head | self._setup | {"moment": moment, "attempt": attempt}
                self._written.append(record)
                return QuerySettled(query, Outcome.WRITTEN, record, attempts=attempt)
            text, reason = answer, drop.value
        head = {"id": query.id, "video": query.video_id, "modality": query.target, "outcome": outcome, "reason": reason}
        record = head | self._setup | {"moment": moment, "answer": text[:_LONGEST_ANSWER]}
        self._rejected.append(record)
        return QuerySettled(query, outcome, record, reason, attempt)
