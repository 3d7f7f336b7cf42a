"""The run: for each video of an index its queries are planned, asked for, judged, and written in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from clamr_cli.errors import MediaError
from clamr_cli.index.documents import document_of, documents_of
from clamr_cli.llm import AnswerError, ImagesRefused
from clamr_cli.llm.concurrency import map_ordered
from clamr_cli.queries import LabelledQuery, records
from clamr_cli.synth.answers import clean
from clamr_cli.synth.events import GaveUp, Judged, Outcome, Passed, Remark
from clamr_cli.synth.filters import Verdicts
from clamr_cli.synth.journal import setup_of
from clamr_cli.synth.plan import Job, Wanted, all_ids, job_id, jobs_of
from clamr_cli.synth.prompts import PROMPT_VERSION, Asking, describe, prompt_for
from clamr_cli.types import Modality

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.llm import ChatModel
    from clamr_cli.store import Store
    from clamr_cli.synth.events import SynthEvent
    from clamr_cli.synth.examples import Examples
    from clamr_cli.synth.journal import Journal
    from clamr_cli.types import Document, FileRecord, VideoRecord

Vision: TypeAlias = Literal["auto", "yes", "no"]

MOST_FAILURES: Final = 20
"""Failures in a row after which a run stops: who does not answer twenty times does not answer."""

ATTEMPTS: Final = 2
"""Tries of a query whose answer the filters refuse."""

NO_PICTURES: Final = "the model takes no pictures: no queries about what is seen are written"
_LONGEST_KEPT: Final = 500


@dataclass(frozen=True, slots=True)
class SynthOptions:
    """What to write and how.

    Attributes:
        wanted: the queries of each video.
        asking: how prompts are made.
        vision: whether frames are shown: ``auto`` as long as the model takes them.
    """

    wanted: Wanted = field(default_factory=Wanted)
    asking: Asking = field(default_factory=Asking)
    vision: Vision = "auto"


def synthesise(
    store: Store,
    videos: Sequence[FileRecord],
    writer: ChatModel,
    examples: Examples,
    options: SynthOptions,
    journal: Journal,
) -> Iterator[SynthEvent]:
    """Write the queries of videos into a journal, and tell what happens.

    The result depends on the index, the writer, the examples and the options alone: answers are asked for side by side,
    but judged and written in the order of the videos.

    Args:
        store: the index.
        videos: a file of each, as ``pipeline.stored.indexed_videos`` gives them.
        writer: who writes.
        examples: what prompts show.
        options: see :class:`SynthOptions`.
        journal: an entered :class:`Journal`; what it holds already is not written again.

    Raises:
        ModelError: the writer cannot answer at all.
    """
    yield from _Run(store, writer, examples, options, journal).over(videos)


def planned(
    store: Store, videos: Sequence[FileRecord], examples: Examples, options: SynthOptions
) -> Iterator[dict[str, object]]:
    """The prompts of a run as records that people can read; nobody is asked."""
    blind = options.vision == "no"
    for record in videos:
        video, documents, _ = documents_with_pictures(store, record, options.wanted, blind=blind)
        for job in jobs_of(record, video, documents, options.wanted):
            yield describe(job, prompt_for(job, examples, options.asking))


def documents_with_pictures(
    store: Store, record: FileRecord, wanted: Wanted, *, blind: bool
) -> tuple[VideoRecord, list[Document], AnswerError | None]:
    """A video's documents, with pictures where they are wanted; the error says that they are no longer kept."""
    lost = None
    if Modality.VIDEO in wanted.targets and not blind:
        try:
            return *documents_of(store, record), None
        except MediaError as error:
            lost = AnswerError(error.what, error.hint)
    moments = store.moments([record.video_id])
    return store.video(record.video_id), [document_of(moment, {}) for moment in moments], lost


@dataclass(frozen=True, slots=True)
class _Step:
    """A query to settle, or (without a job) the end of a video; ``error`` where it cannot even be asked for."""

    place: int
    job: Job | None = None
    error: AnswerError | None = None


_Answer: TypeAlias = str | AnswerError | None
"""What came of asking; None at the end of a video."""


class _Run:
    def __init__(
        self, store: Store, writer: ChatModel, examples: Examples, options: SynthOptions, journal: Journal
    ) -> None:
        self._store, self._writer, self._examples, self._options = store, writer, examples, options
        self._journal = journal
        self._finished = journal.finished
        self._made: dict[str, Any] = {
            "model": writer.name,
            "seed": options.wanted.seed,
            "prompt": PROMPT_VERSION,
            "temperature": options.asking.temperature,
        }
        self._setup = setup_of(self._made)
        self._blind = options.vision == "no" or (options.vision == "auto" and writer.supports_images is False)
        self._noted = 0
        self._verdicts = Verdicts.knowing(examples.texts())
        for query in journal.kept:
            for video in query.relevant:
                self._verdicts.keep(query.text, video)

    def over(self, videos: Sequence[FileRecord]) -> Iterator[SynthEvent]:
        """All the videos, until they are done or too much went wrong."""
        yield from self._opening()
        failures, asked, unseen = 0, 0, False
        for step, answer in map_ordered(self._asked, self._steps(videos), workers=self._writer.workers):
            if step.job is None:
                yield Passed(step.place, asked=asked == step.place)
                continue
            asked = step.place
            event = self._settled(step.job, answer)
            yield from self._notes()
            if event.outcome is Outcome.UNSEEN and not unseen:
                unseen = True
                yield Remark(f"{NO_PICTURES} ({event.why})")
            yield event
            failures = failures + 1 if event.outcome is Outcome.FAILED else 0
            if failures >= MOST_FAILURES:
                yield GaveUp(failures)
                return

    def _opening(self) -> Iterator[SynthEvent]:
        """What is to be said before the first query."""
        yield from self._notes()
        if self._blind and self._options.vision == "auto" and Modality.VIDEO in self._options.wanted.targets:
            yield Remark(NO_PICTURES)
        others = sum(setup != self._setup for setup in self._journal.setups.values())
        if others:
            told = "1 query of the file was" if others == 1 else f"{others} queries of the file were"
            yield Remark(f"{told} written by another model or with other settings and will stay")

    def _notes(self) -> Iterator[SynthEvent]:
        """What the writer noted since the last time."""
        notes = list(self._writer.notes[self._noted :])
        self._noted += len(notes)
        yield from map(Remark, notes)

    # --- planning -----------------------------------------------------------------------------------------------------

    def _steps(self, videos: Sequence[FileRecord]) -> Iterator[_Step]:
        """The queries that are left to write, the end of its video after the last of each."""
        for place, record in enumerate(videos, 1):
            if not all(map(self._is_settled, all_ids(record.video_id, self._options.wanted))):
                yield from self._steps_of(place, record)
            yield _Step(place)

    def _steps_of(self, place: int, record: FileRecord) -> Iterator[_Step]:
        wanted = self._options.wanted
        video, documents, lost = documents_with_pictures(self._store, record, wanted, blind=self._blind)
        if lost is not None:
            first = Job(job_id(record.video_id, Modality.VIDEO, 1), record.video_id, record.path, Modality.VIDEO, 1)
            yield _Step(place, first, lost)
        for job in jobs_of(record, video, documents, wanted):
            if not self._is_settled(job.id):
                yield _Step(place, job)

    def _is_settled(self, name: str) -> bool:
        return name in self._finished or (name, self._setup) in self._journal.dropped

    # --- asking: in the threads of the writer -------------------------------------------------------------------------

    def _asked(self, step: _Step) -> _Answer:
        if step.job is None or step.error is not None:
            return step.error
        return self._ask(step.job, 0)

    def _ask(self, job: Job, attempt: int) -> str | AnswerError:
        if job.frames and self._blind:
            return ImagesRefused(NO_PICTURES)
        try:
            return self._writer.answer(prompt_for(job, self._examples, self._options.asking, attempt=attempt))
        except ImagesRefused as error:
            if self._options.vision == "auto":
                self._blind = True
                return error
            return AnswerError(error.what, error.hint)
        except AnswerError as error:
            return error

    # --- judging: one after the other ---------------------------------------------------------------------------------

    def _settled(self, job: Job, answer: _Answer) -> Judged:
        """Judge an answer, ask a second time where it cannot be kept, and write down what came of it."""
        said, why = "", ""
        for attempt in range(ATTEMPTS):
            if attempt:
                answer = self._ask(job, attempt)
            if isinstance(answer, ImagesRefused):
                return Judged(job, Outcome.UNSEEN, {}, str(answer))
            if not isinstance(answer, str):
                return self._rejected(job, Outcome.FAILED, str(answer), "", attempt)
            query, said = clean(answer), answer
            reason = self._verdicts.judge(query, job)
            if reason is None:
                return self._written(job, query, attempt)
            why = str(reason)
        return self._rejected(job, Outcome.DROPPED, why, said, ATTEMPTS - 1)

    def _written(self, job: Job, query: str, attempt: int) -> Judged:
        self._verdicts.keep(query, job.video_id)
        (head,) = records(LabelledQuery(job.id, query, job.target, {job.video_id: 1}))
        record = head | self._made | {"moment": _moment(job), "attempt": attempt + 1}
        self._journal.write(record)
        return Judged(job, Outcome.WRITTEN, record, again=attempt > 0)

    def _rejected(self, job: Job, outcome: Outcome, why: str, answer: str, attempt: int) -> Judged:
        head = {"id": job.id, "video": job.video_id, "modality": job.target, "outcome": outcome, "reason": why}
        record = head | self._made | {"moment": _moment(job), "answer": answer[:_LONGEST_KEPT]}
        self._journal.reject(record)
        return Judged(job, outcome, record, why, again=attempt > 0)


def _moment(job: Job) -> list[float]:
    return [round(job.span.start, 3), round(job.span.end, 3)]
