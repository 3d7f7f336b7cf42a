"""The run: each video is prepared once, its questions are put to every strategy, and results are written in order."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from clamr_cli import ask as asking
from clamr_cli import frames
from clamr_cli.chat.ordered import in_order
from clamr_cli.chat.writer import AnswerError
from clamr_cli.errors import MediaError
from clamr_cli.evaluate.qa import retrieval
from clamr_cli.evaluate.qa.journal import FAILED, Journal, Record
from clamr_cli.evaluate.qa.moments import propose
from clamr_cli.evaluate.qa.records import begun, evidence, failed
from clamr_cli.evaluate.qa.strategies import Picking, Strategy, pick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.ask import Answer, Material
    from clamr_cli.chat.writer import Writer
    from clamr_cli.evaluate.qa.footage import Place
    from clamr_cli.evaluate.qa.items import Item
    from clamr_cli.frames import DenseOptions, FrameHit, Prepared
    from clamr_cli.store import Store
    from clamr_cli.types import Encoder

MOST_FAILURES: Final = 20
"""Questions in a row without an answer after which a run stops: who does not answer twenty times does not answer."""

_LONGEST_KEPT: Final = 500
_NOTHING: Final = "the video has no picture, and words are not shown or there are none: there is nothing to answer from"


@dataclass(frozen=True, slots=True)
class QaOptions:
    """What is compared.

    Attributes:
        strategies: ways to choose frames; those that differ in what the model is told only count once without a model.
        picking: how many frames, and which of the ranked ones.
        around: seconds around a frame whose speech is shown, where it is shown.
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
    """A question is settled for a strategy; ``record`` is what was written of it."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Passed:
    """A video is behind the run, the ``video``-th; ``worked`` says whether anything was left to do of it."""

    video: int
    worked: bool


@dataclass(frozen=True, slots=True)
class Remark:
    """Something the user should know that is no failure."""

    text: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The run stopped by itself after too many questions in a row without an answer."""

    failures: int


QaEvent: TypeAlias = Settled | Passed | Remark | GaveUp


@dataclass(frozen=True, slots=True)
class Bench:
    """What a run works with.

    Attributes:
        store: the index, which keeps what is prepared.
        encoder: ranks frames.
        prepare: makes a video ready; it may raise MediaError.
        writer: who answers; None measures the choice of frames alone.
    """

    store: Store
    encoder: Encoder
    prepare: Callable[[Place], Prepared]
    writer: Writer | None = None


def setup_of(bench: Bench, options: QaOptions, dense: DenseOptions) -> str:
    """What results depend on beside question and strategy, in one text that is only compared."""
    model = bench.writer.name if bench.writer is not None else None
    prepared = [bench.encoder.info.fingerprint, dense.interval, dense.context, dense.index.language]
    heard = dense.index.asr.version if dense.index.speech else ""
    picking = [options.picking.k, options.picking.dense, options.picking.select, options.picking.scoring]
    shown = [asking.PROMPT_VERSION, options.around, options.most, options.seed]
    return json.dumps([model, *prepared, heard, *picking, *shown])


def evaluate(
    bench: Bench, items: Sequence[Item], places: Mapping[str, Place], options: QaOptions, journal: Journal
) -> Iterator[QaEvent]:
    """Settle every question for every strategy, and tell what happens.

    Results depend on the videos, the models and the options alone: answers are asked for side by side, but written in
    the order of the questions, those of one video together.

    Args:
        bench: what to work with.
        items: the questions whose videos are there.
        places: of the videos, by name.
        options: what is compared.
        journal: an entered :class:`Journal`; what it holds already is not done again.

    Raises:
        ModelError: a model cannot answer at all.
    """
    yield from _Run(bench, options, journal).over(items, places)


@dataclass(frozen=True, slots=True)
class _Step:
    """A question to put, or (without one) the end of a video; ``head`` is what is known without an answer."""

    video: int
    head: Record = field(default_factory=dict)
    question: asking.Question | None = None
    material: Material | None = None


_Answer: TypeAlias = "Answer | AnswerError | None"


class _Run:
    def __init__(self, bench: Bench, options: QaOptions, journal: Journal) -> None:
        self._bench, self._options, self._journal = bench, options, journal
        self._noted = 0
        self._told: set[str] = set()

    def over(self, items: Sequence[Item], places: Mapping[str, Place]) -> Iterator[QaEvent]:
        """All the videos, until they are done or too much went wrong."""
        workers = self._bench.writer.workers if self._bench.writer else 1
        failures, worked = 0, 0
        for step, answer in in_order(self._asked, self._steps(items, places), workers=workers):
            if not step.head:
                yield Passed(step.video, worked=worked == step.video)
                continue
            worked = step.video
            record = _answered(step, answer)
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
        """What is new of what the writer and its answers have to say, each once."""
        notes = list(self._bench.writer.notes[self._noted :]) if self._bench.writer else []
        self._noted += len(notes)
        if answer is not None and not isinstance(answer, AnswerError):
            notes += [note for note in answer.notes if note not in self._told]
        self._told.update(notes)
        yield from map(Remark, notes)

    # --- planning: in the calling thread ------------------------------------------------------------------------------

    def _steps(self, items: Sequence[Item], places: Mapping[str, Place]) -> Iterator[_Step]:
        order = {name: place for place, name in enumerate(dict.fromkeys(item.video for item in items))}
        together = sorted(items, key=lambda item: order[item.video])
        for number, (name, group) in enumerate(groupby(together, key=lambda item: item.video), 1):
            left = [(item, strategy) for item in group for strategy in self._left(item)]
            if left:
                yield from self._steps_of(number, places[name], left)
            yield _Step(number)

    def _left(self, item: Item) -> list[Strategy]:
        return [one for one in self._options.strategies if not self._journal.settled(item.id, one.name)]

    def _steps_of(self, number: int, place: Place, left: Sequence[tuple[Item, Strategy]]) -> Iterator[_Step]:
        try:
            prepared = self._bench.prepare(place)
        except MediaError as error:
            yield from (_Step(number, failed(item, strategy, str(error))) for item, strategy in left)
            return
        for item, strategy in left:
            hits = pick(strategy, prepared, self._bench.encoder, item.text, self._options.picking)
            head = self._head(item, strategy, prepared, hits)
            if self._bench.writer is None or not item.choices:
                yield _Step(number, head)
                continue
            question = asking.Question(item.text, item.choices, brief=True)
            material = self._material(strategy, prepared, hits)
            if material.empty:
                yield _Step(number, head | {"outcome": FAILED, "reason": _NOTHING})
                continue
            yield _Step(number, head, question, material)

    def _material(self, strategy: Strategy, prepared: Prepared, hits: Sequence[FrameHit]) -> Material:
        jpegs = frames.stills(self._bench.store, prepared, [hit.number for hit in hits])
        shots = [asking.Shot(hit.time, jpeg, rank) for rank, (hit, jpeg) in enumerate(zip(hits, jpegs, strict=True), 1)]
        lines: tuple[asking.Line, ...] = ()
        if strategy.subtitles:
            # Without a picture there are no frames that the lines could stand around.
            spans = [hit.span for hit in hits] or [line.span for line in prepared.speech]
            lines = asking.lines_near(spans, prepared.speech, around=self._options.around, most=self._options.most)
        return asking.in_time(shots, lines)

    def _head(self, item: Item, strategy: Strategy, prepared: Prepared, hits: Sequence[FrameHit]) -> Record:
        """What is known of a choice of frames without an answer."""
        times = sorted(hit.time for hit in hits)
        head = begun(item, strategy) | {"outcome": "selected", "times": [round(time, 3) for time in times]}
        head["duration"] = round(prepared.media.duration, 3)
        if windows := evidence(item, prepared.media.fps):
            shown = [hit.span for hit in hits]
            head["covered"] = round(retrieval.covered(shown, windows), 4)
            head["inside"] = round(retrieval.inside(shown, windows), 4)
        if strategy.modalities and item.windows and prepared.candidates:
            head |= self._moments(item, strategy, prepared)
        return head

    def _moments(self, item: Item, strategy: Strategy, prepared: Prepared) -> Record:
        picking = self._options.picking
        choice = frames.Choice(picking.k, picking.select, strategy.modalities, picking.scoring)
        ranking = frames.rank(prepared, self._bench.encoder, item.text, choice)
        found = propose([candidate.span for candidate in prepared.candidates], ranking.scores)
        told: Record = {
            "moments": [[round(one.span.start, 3), round(one.span.end, 3), round(one.score, 4)] for one in found],
            "R1@0.5": float(retrieval.first_is_right(found, item.windows, 0.5)),
            "R1@0.7": float(retrieval.first_is_right(found, item.windows, 0.7)),
            "mAP@0.5": round(retrieval.average_precision(found, item.windows, 0.5), 4),
            "mAP@0.75": round(retrieval.average_precision(found, item.windows, 0.75), 4),
            "mAP": round(retrieval.mean_precision(found, item.windows), 4),
        }
        if item.grades:
            # Not when the frame was taken: it stands for a stretch, and the evidence may come later in it.
            (best,) = frames.describe(ranking, [_middle_best(ranking.scores)])
            told["HIT@1"] = float(retrieval.hit(best.at, item.grades))
        return told

    # --- asking: in the threads of the writer -------------------------------------------------------------------------

    def _asked(self, step: _Step) -> _Answer:
        if step.question is None or step.material is None or self._bench.writer is None:
            return None
        try:
            return asking.ask(self._bench.writer, step.question, step.material, seed=self._options.seed)
        except AnswerError as error:
            return error


def _middle_best(scores: NDArray[np.float32]) -> int:
    """The candidate with the highest score; of several side by side, which share what is said, the middle one."""
    best = np.flatnonzero(scores == scores.max())
    run = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)[0]
    return int(run[(len(run) - 1) // 2])


def _answered(step: _Step, answer: _Answer) -> Record:
    """The record of a question, with what came of asking."""
    if answer is None:
        return step.head
    if isinstance(answer, AnswerError):
        return step.head | {"outcome": FAILED, "reason": str(answer)}
    return step.head | {
        "outcome": "answered",
        "choice": answer.choice,
        "shown": len(answer.material.shots),
        "notes": list(answer.notes),
        "answer": answer.said[:_LONGEST_KEPT],
    }
