"""The run: each video is prepared once, its questions are put to every strategy, and results are written in order.

Results are kept in a file of JSON lines, one for each question and strategy. The next run reads it and does the rest.
What failed is tried again; what was answered under other settings, or to another question that had the same id, stays
and does not count.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from clamr_cli import ask as asking
from clamr_cli import frames
from clamr_cli.errors import MediaError
from clamr_cli.evaluate.qa import strategies
from clamr_cli.evaluate.qa.strategies import Picking, Strategy
from clamr_cli.journal import append, exclusive, foreign, opened, whole_lines
from clamr_cli.llm import AnswerError
from clamr_cli.llm.concurrency import map_ordered
from clamr_cli.types import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from clamr_cli.ask import Answer, Material
    from clamr_cli.evaluate.qa.media_lookup import Media
    from clamr_cli.evaluate.qa.questions import LabelledQuestion
    from clamr_cli.frames import DenseOptions, FrameHit, Prepared
    from clamr_cli.llm import ChatModel
    from clamr_cli.store import Store
    from clamr_cli.types import Encoder

Record: TypeAlias = "dict[str, Any]"

FAILED: Final = "failed"
"""The outcome of a question without a result."""

MOST_FAILURES: Final = 20
"""Questions in a row without an answer after which a run stops."""

_KIND: Final = "results"
_LONGEST_ANSWER: Final = 500
_NOTHING: Final = "the video has no picture, and words are not shown or there are none: there is nothing to answer from"


@dataclass(frozen=True, slots=True)
class QaOptions:
    """The strategies to compare, and what a model is shown.

    Attributes:
        strategies: ways to choose frames; those that differ in what the model is told only count once without a model.
        picking: how many frames, and which of the ranked ones.
        around: seconds around a frame whose speech is shown, if it is shown.
        most: characters of speech that are shown at most.
        seed: of the answers' sampling.
    """

    strategies: tuple[Strategy, ...]
    picking: Picking = field(default_factory=Picking)
    around: float = 2.0
    most: int = 40_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A question is settled for a strategy; ``record`` is its result."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Passed:
    """The ``video``-th video is done; ``worked`` says whether anything was left to do for it."""

    video: int
    worked: bool


@dataclass(frozen=True, slots=True)
class Remark:
    """Something the user should know that is not a failure."""

    text: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The run stopped after too many questions in a row without an answer."""

    failures: int


QaEvent: TypeAlias = Settled | Passed | Remark | GaveUp


@dataclass(frozen=True, slots=True)
class Bench:
    """The index and the models of a run.

    Attributes:
        store: the index, which keeps what is prepared.
        encoder: ranks frames.
        prepare: makes a video ready; it may raise MediaError.
        writer: who answers; None measures the choice of frames alone.
    """

    store: Store
    encoder: Encoder
    prepare: Callable[[Media], Prepared]
    writer: ChatModel | None = None


@dataclass(slots=True)
class Journal:
    """The results by question and strategy. Without a path they are kept for this run only.

    Use it as a context; in it no other run writes to the same file.

    Attributes:
        path: of the JSONL file; its folder must exist.
        setup: see :func:`setup_of`; results of other setups are passed over.
        marks: of the questions of this run by id (``LabelledQuestion.mark``); results of others are passed over.
        others: how many results of the file were passed over.

    Raises:
        UsageError: the file holds something else, cannot be read or written, or another run writes to it.
    """

    setup: str
    path: Path | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    others: int = 0
    _records: dict[tuple[str, str], Record] = field(default_factory=dict)
    _stream: IO[bytes] | None = None
    _resources: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            if self.path is not None:
                resources.enter_context(exclusive(self.path))
                self._read(self.path)
                self._stream = resources.enter_context(opened(self.path, _KIND))
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream = None
        self._resources.__exit__(kind, error, trace)

    def settled(self, question: str, strategy: str) -> bool:
        """Whether there is a result that is not a failure."""
        record = self._records.get((question, strategy))
        return record is not None and record["outcome"] != FAILED

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a result; its keys ``id`` and ``strategy`` name them. A later one takes the place of an earlier one."""
        head = {"id": record["id"], "strategy": record["strategy"], "setup": self.setup}
        whole = {**head, "mark": self.marks.get(record["id"], ""), **record}
        self._records[whole["id"], whole["strategy"]] = whole
        if self._stream is not None:
            # An answer may hold anything; in ASCII no terminal obeys it.
            append(self._stream, whole, ascii_only=True)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def _read(self, path: Path) -> None:
        for line in filter(str.strip, whole_lines(path, _KIND)):
            try:
                record = json.loads(line)
                key = (str(record["id"]), str(record["strategy"]))
                setup, _ = record["setup"], record["outcome"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise foreign(path, _KIND) from error
            if setup == self.setup and record.get("mark", "") == self.marks.get(key[0], record.get("mark", "")):
                self._records[key] = record
            else:
                self.others += 1


def setup_of(bench: Bench, options: QaOptions, dense: DenseOptions) -> str:
    """All that results depend on beside question and strategy, as one text that is only compared."""
    model = bench.writer.name if bench.writer is not None else None
    prepared = [bench.encoder.info.fingerprint, dense.interval, dense.context, dense.index.language]
    heard = dense.index.asr.version if dense.index.speech else ""
    picking = [options.picking.k, options.picking.dense, options.picking.select, options.picking.scoring]
    shown = [asking.PROMPT_VERSION, options.around, options.most, options.seed]
    return json.dumps([model, *prepared, heard, *picking, *shown])


def evaluate(
    bench: Bench,
    questions: Sequence[LabelledQuestion],
    media: Mapping[str, Media],
    options: QaOptions,
    journal: Journal,
) -> Iterator[QaEvent]:
    """Settle every question for every strategy, as a stream of events.

    Results depend on the videos, the models and the options alone: answers are asked for side by side, but written in
    the order of the questions, those of one video together.

    Args:
        bench: what to work with.
        questions: those whose videos are there.
        media: of the videos, by name.
        options: what is compared.
        journal: an entered :class:`Journal`; what it holds already is not done again.

    Raises:
        ModelError: a model cannot answer at all.
    """
    yield from _Run(bench, options, journal).over(questions, media)


def evidence(question: LabelledQuestion, fps: float) -> tuple[Span, ...]:
    """The stretches that answer a question; annotated frames are counted at the rate of the file."""
    if question.windows or fps <= 0:
        return question.windows
    return tuple(Span(mark / fps, mark / fps) for mark in question.marks)


@dataclass(frozen=True, slots=True)
class _Step:
    """A question to put, or (without a record) the end of a video; ``record`` is what is known without an answer."""

    video: int
    record: Record = field(default_factory=dict)
    question: asking.Question | None = None
    material: Material | None = None


_Answer: TypeAlias = "Answer | AnswerError | None"


class _Run:
    def __init__(self, bench: Bench, options: QaOptions, journal: Journal) -> None:
        self._bench, self._options, self._journal = bench, options, journal
        self._writer_notes = 0
        self._reported: set[str] = set()

    def over(self, questions: Sequence[LabelledQuestion], media: Mapping[str, Media]) -> Iterator[QaEvent]:
        """All the videos, until they are done or too much went wrong."""
        workers = self._bench.writer.workers if self._bench.writer else 1
        failures, worked = 0, 0
        for step, answer in map_ordered(self._ask, self._steps(questions, media), workers=workers):
            if not step.record:
                yield Passed(step.video, worked=worked == step.video)
                continue
            worked = step.video
            record = _with_answer(step.record, answer)
            self._journal.write(record)
            yield from self._remarks(answer)
            yield Settled(record)
            # A video that cannot be read fails for every question and strategy; that says nothing of who answers.
            if answer is not None:
                failures = failures + 1 if isinstance(answer, AnswerError) else 0
            if failures >= MOST_FAILURES:
                yield GaveUp(failures)
                return

    def _remarks(self, answer: _Answer) -> Iterator[QaEvent]:
        """The new notes of the writer and its answers, each once."""
        notes = list(self._bench.writer.notes[self._writer_notes :]) if self._bench.writer else []
        self._writer_notes += len(notes)
        if answer is not None and not isinstance(answer, AnswerError):
            notes += [note for note in answer.notes if note not in self._reported]
        self._reported.update(notes)
        yield from map(Remark, notes)

    # --- planning: in the calling thread ------------------------------------------------------------------------------

    def _steps(self, questions: Sequence[LabelledQuestion], media: Mapping[str, Media]) -> Iterator[_Step]:
        order = {name: place for place, name in enumerate(dict.fromkeys(question.video for question in questions))}
        by_video = sorted(questions, key=lambda question: order[question.video])
        for number, (name, group) in enumerate(groupby(by_video, key=lambda question: question.video), 1):
            left = [
                (question, strategy)
                for question in group
                for strategy in self._options.strategies
                if not self._journal.settled(question.id, strategy.name)
            ]
            if left:
                yield from self._steps_of(number, media[name], left)
            yield _Step(number)

    def _steps_of(
        self, number: int, media: Media, left: Sequence[tuple[LabelledQuestion, Strategy]]
    ) -> Iterator[_Step]:
        try:
            prepared = self._bench.prepare(media)
        except MediaError as error:
            for question, strategy in left:
                yield _Step(number, _failed(_head(question, strategy), str(error)))
            return
        for question, strategy in left:
            hits = strategies.pick(strategy, prepared, self._bench.encoder, question.text, self._options.picking)
            record = self._selected(question, strategy, prepared, hits)
            if self._bench.writer is None or not question.choices:
                yield _Step(number, record)
                continue
            material = self._material(strategy, prepared, hits)
            if material.empty:
                yield _Step(number, _failed(record, _NOTHING))
                continue
            yield _Step(number, record, asking.Question(question.text, question.choices, brief=True), material)

    def _material(self, strategy: Strategy, prepared: Prepared, hits: Sequence[FrameHit]) -> Material:
        jpegs = frames.stills(self._bench.store, prepared, [hit.number for hit in hits])
        shots = [asking.Shot(hit.time, jpeg, rank) for rank, (hit, jpeg) in enumerate(zip(hits, jpegs, strict=True), 1)]
        lines: tuple[asking.Line, ...] = ()
        if strategy.subtitles:
            # Without a picture there are no frames that the lines could stand around.
            spans = [hit.span for hit in hits] or [line.span for line in prepared.speech]
            lines = asking.lines_near(spans, prepared.speech, around=self._options.around, most=self._options.most)
        return asking.in_time(shots, lines)

    def _selected(
        self, question: LabelledQuestion, strategy: Strategy, prepared: Prepared, hits: Sequence[FrameHit]
    ) -> Record:
        """The record of a choice of frames without an answer."""
        times = sorted(hit.time for hit in hits)
        record = _head(question, strategy) | {"outcome": "selected", "times": [round(time, 3) for time in times]}
        record["duration"] = round(prepared.media.duration, 3)
        if windows := evidence(question, prepared.media.fps):
            shown = [hit.span for hit in hits]
            record["covered"] = round(strategies.covered(shown, windows), 4)
            record["inside"] = round(strategies.inside(shown, windows), 4)
        if strategy.modalities and question.windows and prepared.candidates:
            record |= self._moments(question, strategy, prepared)
        return record

    def _moments(self, question: LabelledQuestion, strategy: Strategy, prepared: Prepared) -> Record:
        picking = self._options.picking
        choice = frames.Choice(picking.k, picking.select, strategy.modalities, picking.scoring)
        ranking = frames.rank(prepared, self._bench.encoder, question.text, choice)
        moments = strategies.propose([candidate.span for candidate in prepared.candidates], ranking.scores)
        windows = question.windows
        measures: Record = {
            "moments": [[round(one.span.start, 3), round(one.span.end, 3), round(one.score, 4)] for one in moments],
            "R1@0.5": float(strategies.first_is_right(moments, windows, 0.5)),
            "R1@0.7": float(strategies.first_is_right(moments, windows, 0.7)),
            "mAP@0.5": round(strategies.average_precision(moments, windows, 0.5), 4),
            "mAP@0.75": round(strategies.average_precision(moments, windows, 0.75), 4),
            "mAP": round(strategies.mean_precision(moments, windows), 4),
        }
        if question.grades:
            # Of the best candidates side by side, which share what is said, the middle one.
            best = np.flatnonzero(ranking.scores == ranking.scores.max())
            first_run = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)[0]
            # Not when the frame was taken: it stands for a stretch, and the evidence may come later in it.
            (hit,) = frames.describe(ranking, [int(first_run[(len(first_run) - 1) // 2])])
            measures["HIT@1"] = float(strategies.hit(hit.at, question.grades))
        return measures

    # --- asking: in the threads of the writer -------------------------------------------------------------------------

    def _ask(self, step: _Step) -> _Answer:
        if step.question is None or step.material is None or self._bench.writer is None:
            return None
        try:
            return asking.ask(self._bench.writer, step.question, step.material, seed=self._options.seed)
        except AnswerError as error:
            return error


def _head(question: LabelledQuestion, strategy: Strategy) -> Record:
    """The question and strategy of a record, and the right answer if there are choices."""
    head = {"id": question.id, "strategy": strategy.name, "video": question.video, "group": question.group}
    return head | {"right": question.answer} if question.choices else head


def _failed(record: Record, reason: str) -> Record:
    return record | {"outcome": FAILED, "reason": reason}


def _with_answer(record: Record, answer: _Answer) -> Record:
    if answer is None:
        return record
    if isinstance(answer, AnswerError):
        return _failed(record, str(answer))
    return record | {
        "outcome": "answered",
        "choice": answer.choice,
        "shown": len(answer.material.shots),
        "notes": list(answer.notes),
        "answer": answer.said[:_LONGEST_ANSWER],
    }
