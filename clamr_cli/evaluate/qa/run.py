"""The run: each video is prepared once, its questions are put to every strategy, and results are written in order.

Results are kept in a journal, one for each question and strategy. The next run reads it and does the rest. What failed
is tried again; what was answered under other settings, or to another question that had the same id, stays and does not
count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, TypeAlias

import numpy as np

from clamr_cli import ask as asking
from clamr_cli import frames
from clamr_cli.errors import MediaError
from clamr_cli.evaluate.qa import strategies
from clamr_cli.evaluate.qa.media_lookup import Media
from clamr_cli.evaluate.qa.questions import LabelledQuestion
from clamr_cli.evaluate.qa.strategies import QaOptions, Strategy
from clamr_cli.events import GaveUp, Notice, VideoDone
from clamr_cli.frames import DenseOptions, FrameHit, Prepared
from clamr_cli.journal import Journal
from clamr_cli.llm import AnswerError, ChatModel
from clamr_cli.llm.concurrency import map_ordered
from clamr_cli.store import Store
from clamr_cli.types import Encoder, Span

Record: TypeAlias = dict[str, Any]

FAILED: Final = "failed"
"""The outcome of a question without a result."""

MOST_FAILURES: Final = 20
"""Questions in a row without an answer after which a run stops."""

RESULT_KEY: Final = ("id", "strategy", "setup", "outcome")
"""Fields of every record in a journal of results."""

_LONGEST_ANSWER: Final = 500


@dataclass(frozen=True, slots=True)
class QuestionSettled:
    """A question has a result for a strategy."""

    record: Record


QaEvent: TypeAlias = QuestionSettled | VideoDone | Notice | GaveUp


@dataclass(frozen=True, slots=True)
class _Step:
    """A question to put; its record without an answer, and what is asked of the model if anything is."""

    record: Record
    question: asking.Question | None = None
    material: asking.Material | None = None


class QaRun:
    """Settles every question for every strategy.

    Results depend on the videos, the models and the options alone: answers are asked for concurrently, but written in
    the order of the questions, those of one video together.

    Without a model the choice of frames alone is measured. ``prepare`` makes a video ready, as ``dense`` says; it may
    raise MediaError. The journal is entered and has the key :data:`RESULT_KEY`; what it holds is not computed again.

    Attributes:
        results: by question and strategy.
        others: how many results of the journal are of other settings or questions.
    """

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        prepare: Callable[[Media], Prepared],
        model: ChatModel | None,
        options: QaOptions,
        dense: DenseOptions,
        journal: Journal,
        questions: Sequence[LabelledQuestion],
    ) -> None:
        self._store, self._encoder, self._prepare, self._model = store, encoder, prepare, model
        self._options, self._journal = options, journal
        # All that results depend on beside question and strategy; compared as text with what journals hold.
        self._setup = json.dumps(
            [
                model.name if model is not None else None,
                *(encoder.info.fingerprint, dense.interval, dense.context, dense.index.language),
                dense.index.asr.version if dense.index.speech else "",
                *(options.k, options.dense, options.select, options.scoring),
                *(asking.PROMPT_VERSION, options.around, options.most, options.seed),
            ]
        )
        self._questions = questions
        self._marks = {question.id: question.mark for question in questions}
        self._notes_shown = 0
        self._answer_notes: set[str] = set()
        self.results: dict[tuple[str, str], Record] = {}
        self.others = 0
        for record in journal.records:
            mark = record.get("mark", "")
            if record["setup"] == self._setup and mark == self._marks.get(record["id"], mark):
                self.results[record["id"], record["strategy"]] = record
            else:
                self.others += 1

    def events(self, media: Mapping[str, Media]) -> Iterator[QaEvent]:
        """Settle the questions about these videos, by their name in the collection.

        Raises:
            ModelError: a model cannot answer at all.
        """
        workers = self._model.workers if self._model else 1
        failures, worked = 0, False
        for step, answer in map_ordered(self._ask, self._steps(media), workers=workers):
            if isinstance(step, int):
                yield VideoDone(step, worked)
                worked = False
                continue
            worked = True
            record = _with_answer(step.record, answer)
            head = {"id": record["id"], "strategy": record["strategy"], "setup": self._setup}
            line = {**head, "mark": self._marks[record["id"]], **record}
            self.results[line["id"], line["strategy"]] = line
            self._journal.append(line)
            yield from self._notes(answer)
            yield QuestionSettled(record)
            # A video that cannot be read fails for every question and strategy; that says nothing of the model.
            if answer is not None:
                failures = failures + 1 if isinstance(answer, AnswerError) else 0
            if failures >= MOST_FAILURES:
                yield GaveUp(failures)
                return

    def _notes(self, answer: asking.Answer | AnswerError | None) -> Iterator[Notice]:
        """The new notes of the model, and those of its answers, each once."""
        notes = self._model.notes[self._notes_shown :] if self._model else []
        self._notes_shown += len(notes)
        if isinstance(answer, asking.Answer):
            notes += [note for note in answer.notes if note not in self._answer_notes]
            self._answer_notes.update(answer.notes)
        yield from (Notice("", note) for note in notes)

    def _steps(self, media: Mapping[str, Media]) -> Iterator[_Step | int]:
        """The questions that are left, those of one video together; after those of each video, its number."""
        order = {name: place for place, name in enumerate(media)}
        questions = [question for question in self._questions if question.video in media]
        questions.sort(key=lambda question: order[question.video])
        for number, (name, group) in enumerate(groupby(questions, key=lambda question: question.video), 1):
            left = [
                (question, strategy)
                for question in group
                for strategy in self._options.strategies
                if self.results.get((question.id, strategy), {"outcome": FAILED})["outcome"] == FAILED
            ]
            if left:
                yield from self._steps_of_video(media[name], left)
            yield number

    def _steps_of_video(self, media: Media, left: Sequence[tuple[LabelledQuestion, Strategy]]) -> Iterator[_Step]:
        prepared, problem = None, ""
        try:
            prepared = self._prepare(media)
        except MediaError as error:
            problem = str(error)
        for question, strategy in left:
            record: Record = {"id": question.id, "strategy": strategy.value}
            record |= {"video": question.video, "group": question.group}
            if question.choices:
                record["right"] = question.answer
            if prepared is None:
                yield _Step(_failed(record, problem))
                continue
            hits = strategies.pick(strategy, prepared, self._encoder, question.text, self._options)
            record |= self._selection(question, strategy, prepared, hits)
            if self._model is None or not question.choices:
                yield _Step(record)
                continue
            material = self._material(strategy, prepared, hits)
            if material.empty:
                what = "the video has no picture, and words are not shown or there are none"
                yield _Step(_failed(record, f"{what}: there is nothing to answer from"))
                continue
            yield _Step(record, asking.Question(question.text, question.choices, brief=True), material)

    def _material(self, strategy: Strategy, prepared: Prepared, hits: Sequence[FrameHit]) -> asking.Material:
        jpegs = frames.stills(self._store, prepared, [hit.number for hit in hits])
        shown = [replace(hit.frame, jpeg=jpeg) for hit, jpeg in zip(hits, jpegs, strict=True)]
        lines: tuple[asking.Line, ...] = ()
        if strategy.subtitles:
            # Without a picture there are no frames that the lines could stand around.
            spans = [hit.frame.span for hit in hits] or [line.span for line in prepared.texts.speech]
            lines = asking.lines_near(
                spans, prepared.texts.speech, around=self._options.around, most=self._options.most
            )
        return asking.Material(tuple(shown), lines)

    def _selection(
        self, question: LabelledQuestion, strategy: Strategy, prepared: Prepared, hits: Sequence[FrameHit]
    ) -> Record:
        """The chosen frames, and how well they match the annotated evidence."""
        record: Record = {
            "outcome": "selected",
            "times": [round(time, 3) for time in sorted(hit.frame.time for hit in hits)],
            "duration": round(prepared.media.duration, 3),
        }
        if windows := evidence(question, prepared.media.fps):
            shown = [hit.frame.span for hit in hits]
            record["covered"] = round(strategies.covered(shown, windows), 4)
            record["inside"] = round(strategies.inside(shown, windows), 4)
        if not (strategy.modalities and question.windows and prepared.candidates):
            return record
        ranking = frames.rank(prepared, self._encoder, question.text, self._options.choice(strategy))
        moments = strategies.propose([candidate.span for candidate in prepared.candidates], ranking.scores)
        windows = question.windows
        record |= {
            "moments": [
                [round(moment.span.start, 3), round(moment.span.end, 3), round(moment.score, 4)] for moment in moments
            ],
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
            record["HIT@1"] = float(strategies.hit(hit.at, question.grades))
        return record

    def _ask(self, step: _Step | int) -> asking.Answer | AnswerError | None:
        """The answer to a question, or why there is none; in the threads of the model."""
        if isinstance(step, int) or step.question is None or step.material is None or self._model is None:
            return None
        try:
            return asking.ask(self._model, step.question, step.material, seed=self._options.seed)
        except AnswerError as error:
            return error


def evidence(question: LabelledQuestion, fps: float) -> tuple[Span, ...]:
    """The stretches that answer a question; annotated frames are counted at the rate of the file."""
    if question.windows or fps <= 0:
        return question.windows
    return tuple(Span(mark / fps, mark / fps) for mark in question.marks)


def _failed(record: Record, reason: str) -> Record:
    return record | {"outcome": FAILED, "reason": reason}


def _with_answer(record: Record, answer: asking.Answer | AnswerError | None) -> Record:
    if answer is None:
        return record
    if isinstance(answer, AnswerError):
        return _failed(record, str(answer))
    return record | {
        "outcome": "answered",
        "choice": answer.choice,
        "shown": len(answer.material.frames),
        "notes": list(answer.notes),
        "answer": answer.said[:_LONGEST_ANSWER],
    }
