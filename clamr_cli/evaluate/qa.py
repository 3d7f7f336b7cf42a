"""Questions about videos put to a model with the frames that strategies choose: the run, its measures and its report.

*Moments* are proposed from the scores of a video's candidates. Candidates that score above a level and lie side by side
are joined into a window; several levels give several windows, nested in one another, as temporal actionness grouping
does (Zhao et al., arXiv 1704.06228, section 4). A window is as good as its mean score is surprising: by how many
standard errors it lies above the mean of the video. So one lucky frame loses to a stretch of good ones, and the whole
video is never an answer. Of windows that nearly coincide the best stays.

*Measures* of moments are those of QVHighlights' published evaluation (Lei et al., arXiv 2107.09609, section 5): average
precision of windows as in ActivityNet, with interpolated precision, over thresholds of overlap; recall of the first
window against the annotated one it overlaps most; HIT@1 of the clip with the highest score.

*The run* prepares each video once, puts its questions to every strategy, and writes results in order. Results are kept
in a journal, one for each question and strategy. The next run reads it and does the rest. What failed is tried again;
what was answered under other settings, or to another question that had the same id, stays and does not count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clamr_cli import ask as asking
from clamr_cli import frames
from clamr_cli.errors import MediaError
from clamr_cli.evaluate import metrics
from clamr_cli.evaluate.questions import CLIP, LabelledQuestion, QuestionMedia
from clamr_cli.events import GaveUp, Notice, VideoDone
from clamr_cli.frames import DenseOptions, FrameHit, Prepared
from clamr_cli.journal import Journal
from clamr_cli.llm import AnswerError, ChatModel, map_ordered
from clamr_cli.store import Store
from clamr_cli.types import Encoder, FrameSelection, Modality, Scoring, Span

FAILED: Final = "failed"
"""The outcome of a question without a result."""

MOST_FAILURES: Final = 20
"""Questions in a row without an answer after which a run stops."""

RESULT_KEY: Final = ("id", "strategy", "setup", "outcome")
"""Fields of every record in a journal of results."""

_LONGEST_ANSWER: Final = 500


class Strategy(StrEnum):
    """A way to choose frames, in the order of reports; with ``+subs`` the model is shown the speech around them.

    ``uniform`` takes k frames at equal distances, ``dense`` as many as the model may be shown, ``clamr`` the k that
    answer best by picture, ``clamr+speech`` those that answer best by picture and speech together.
    """

    UNIFORM = "uniform"
    DENSE = "dense"
    CLAMR = "clamr"
    CLAMR_SPEECH = "clamr+speech"
    UNIFORM_SUBS = "uniform+subs"
    DENSE_SUBS = "dense+subs"
    CLAMR_SUBS = "clamr+subs"
    CLAMR_SPEECH_SUBS = "clamr+speech+subs"

    @property
    def subtitles(self) -> bool:
        return self.endswith("+subs")

    @property
    def silent(self) -> Strategy:
        """The same choice of frames without subtitles."""
        return Strategy(self.removesuffix("+subs"))

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that rank the frames; none if they are sampled."""
        if self.silent is Strategy.CLAMR:
            return (Modality.VIDEO,)
        return (Modality.VIDEO, Modality.SPEECH) if self.silent is Strategy.CLAMR_SPEECH else ()


@dataclass(frozen=True, slots=True)
class QaOptions:
    """The strategies to compare, and what a model is shown.

    Attributes:
        strategies: ways to choose frames; those that differ in what the model is told only count once without a model.
        k: frames of a strategy.
        dense: frames of ``dense``.
        select: how ranked frames are chosen.
        scoring: how they are scored.
        around: seconds around a frame whose speech is shown, if it is shown.
        most: characters of speech that are shown at most.
        seed: of the answers' sampling.
    """

    strategies: tuple[Strategy, ...]
    k: int = 32
    dense: int = 768
    select: FrameSelection = "diverse"
    scoring: Scoring = "token-max"
    around: float = 2.0
    most: int = 40_000
    seed: int = 0


def spread(hits: Sequence[FrameHit]) -> list[FrameHit]:
    """The same in the order of van der Corput's sequence: every beginning of it is spread over the whole."""
    bits = max(1, (len(hits) - 1).bit_length())
    return [hits[place] for place in sorted(range(len(hits)), key=lambda place: f"{place:0{bits}b}"[::-1])]


# --- moments and their measures ---------------------------------------------------------------------------------------

LEVELS: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Levels between the median (0) and the best score (1)."""

GAP: Final = 1
"""Candidates below the level that a window bridges."""

SAME: Final = 0.7
"""Overlap (intersection over union) from which two windows nearly coincide."""

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps over which average precision is averaged: 0.5 to 0.95."""

VERY_GOOD: Final = 4
"""The grade of a clip that is a highlight."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A window, and how good it is; only the order means something."""

    span: Span
    score: float


def propose(
    spans: Sequence[Span], scores: NDArray[np.float32] | NDArray[np.float64], *, most: int = 10
) -> list[Moment]:
    """The windows that the scores speak for, best first; none if all candidates score the same.

    Args:
        spans: of the candidates [n], in the order of time, side by side.
        scores: of the candidates [n]; those that are not finite count as the lowest.
        most: windows at most.
    """
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    values = np.where(np.isfinite(values), values, finite.min() if len(finite) else 0.0)
    deviation = float(values.std()) if len(values) else 0.0
    if deviation <= 1e-9 * max(1.0, float(np.abs(values).max(initial=0.0))):
        return []
    standard = (values - values.mean()) / deviation
    low, high = float(np.median(standard)), float(standard.max())
    runs = set()
    for level in LEVELS if high > low else ():
        above = np.flatnonzero(standard >= low + level * (high - low))
        for run in np.split(above, np.flatnonzero(np.diff(above) > GAP + 1) + 1):
            runs.add((int(run[0]), int(run[-1])))
    moments = []
    for first, last in runs:
        window = standard[first : last + 1]
        # The number of standard errors by which the mean of the window lies above that of the video.
        surprise = float(window.sum()) / math.sqrt(len(window))
        moments.append(Moment(Span(spans[first].start, spans[last].end), surprise))
    best: list[Moment] = []
    for moment in sorted(moments, key=lambda moment: (-moment.score, moment.span)):
        if len(best) < most and all(overlap(moment.span, other.span) < SAME for other in best):
            best.append(moment)
    return best


def overlap(one: Span, other: Span) -> float:
    """Intersection over union of two stretches of time, in [0, 1]."""
    shared = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    union = one.duration + other.duration - shared
    return shared / union if union > 0 else 0.0


def average_precision(moments: Sequence[Moment], windows: Sequence[Span], threshold: float) -> float:
    """Interpolated average precision of windows, best first, against the annotated ones; 0 without any.

    A window is right if it overlaps an annotated one that no better window took, by the threshold at least; of
    several it takes the one it overlaps most.
    """
    if not windows:
        return 0.0
    taken: set[int] = set()
    precision: list[float] = []
    recall: list[float] = []
    for place, moment in enumerate(moments, 1):
        free = [(overlap(moment.span, window), -number) for number, window in enumerate(windows) if number not in taken]
        best, number = max(free, default=(0.0, 0))
        if free and best >= threshold:
            taken.add(-number)
        precision.append(len(taken) / place)
        recall.append(len(taken) / len(windows))
    total, before = 0.0, 0.0
    for place, reached in enumerate(recall):
        total += (reached - before) * max(precision[place:])
        before = reached
    return total


def mean_precision(moments: Sequence[Moment], windows: Sequence[Span]) -> float:
    """Average precision, averaged over :data:`THRESHOLDS`."""
    return sum(average_precision(moments, windows, threshold) for threshold in THRESHOLDS) / len(THRESHOLDS)


def first_is_right(moments: Sequence[Moment], windows: Sequence[Span], threshold: float) -> bool:
    """Whether the best window overlaps an annotated one by the threshold at least."""
    return bool(moments) and any(overlap(moments[0].span, window) >= threshold for window in windows)


def hit(best: float, grades: Mapping[int, Sequence[int]]) -> bool:
    """Whether the clip that holds a time (in seconds) was graded a highlight by any annotator."""
    return any(grade >= VERY_GOOD for grade in grades.get(int(best // CLIP), ()))


def share_meeting(spans: Sequence[Span], others: Sequence[Span]) -> float:
    """The share of stretches of time that overlap one of the others; 0 of none."""
    return sum(any(span.overlaps(other) for other in others) for span in spans) / len(spans) if spans else 0.0


# --- the run ----------------------------------------------------------------------------------------------------------

Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class QuestionSettled:
    """A question has a result for a strategy."""

    record: Record


QaEvent: TypeAlias = QuestionSettled | VideoDone | Notice | GaveUp
_Step: TypeAlias = tuple[Record, asking.Question | None, asking.Material | None]
"""The record of a question without an answer, and what is asked of the model if anything is."""


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
        prepare: Callable[[QuestionMedia], Prepared],
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
        self.results: dict[tuple[str, str], Record] = {}
        self.others = 0
        for record in journal.records:
            mark = record.get("mark", "")
            if record["setup"] == self._setup and mark == self._marks.get(record["id"], mark):
                self.results[record["id"], record["strategy"]] = record
            else:
                self.others += 1

    def events(self, media: Mapping[str, QuestionMedia]) -> Iterator[QaEvent]:
        """Settle the questions about these videos, by their name in the collection.

        Raises:
            ModelError: a model cannot answer at all.
        """
        workers = self._model.workers if self._model else 1
        failures, worked = 0, False
        notes_shown = 0
        answer_notes: set[str] = set()
        for step, answer in map_ordered(self._ask, self._steps(media), workers=workers):
            if isinstance(step, int):
                yield VideoDone(step, worked)
                worked = False
                continue
            worked = True
            record = step[0]
            notes = self._model.notes[notes_shown:] if self._model else []
            notes_shown += len(notes)
            if isinstance(answer, AnswerError):
                record = _failed(record, str(answer))
            elif answer is not None:
                notes += [note for note in answer.notes if note not in answer_notes]
                answer_notes.update(answer.notes)
                record = record | {
                    "outcome": "answered",
                    "choice": answer.choice,
                    "shown": len(answer.material.frames),
                    "notes": list(answer.notes),
                    "answer": answer.said[:_LONGEST_ANSWER],
                }
            head = {"id": record["id"], "strategy": record["strategy"], "setup": self._setup}
            line = {**head, "mark": self._marks[record["id"]], **record}
            self.results[line["id"], line["strategy"]] = line
            self._journal.append(line)
            yield from (Notice("", note) for note in notes)
            yield QuestionSettled(record)
            # A video that cannot be read fails for every question and strategy; that says nothing of the model.
            if answer is not None:
                failures = failures + 1 if isinstance(answer, AnswerError) else 0
            if failures >= MOST_FAILURES:
                yield GaveUp(failures)
                return

    def _steps(self, media: Mapping[str, QuestionMedia]) -> Iterator[_Step | int]:
        """The questions that are left, those of one video together; after those of each video, its number."""
        options = self._options
        order = {name: place for place, name in enumerate(media)}
        questions = [question for question in self._questions if question.video in media]
        questions.sort(key=lambda question: order[question.video])
        for number, (name, group) in enumerate(groupby(questions, key=lambda question: question.video), 1):
            left = [
                (question, strategy)
                for question in group
                for strategy in options.strategies
                if self.results.get((question.id, strategy), {"outcome": FAILED})["outcome"] == FAILED
            ]
            prepared, problem = None, ""
            try:
                prepared = self._prepare(media[name]) if left else None
            except MediaError as error:
                problem = str(error)
            for question, strategy in left:
                record: Record = {"id": question.id, "strategy": strategy.value}
                record |= {"video": question.video, "group": question.group}
                if question.choices:
                    record["right"] = question.answer
                if prepared is None:
                    yield _failed(record, problem), None, None
                    continue
                hits, measured = self._choose(question, strategy, prepared)
                record |= measured
                if self._model is None or not question.choices:
                    yield record, None, None
                    continue
                jpegs = frames.stills(self._store, prepared, [hit.number for hit in hits])
                shown = tuple(replace(hit.frame, jpeg=jpeg) for hit, jpeg in zip(hits, jpegs, strict=True))
                lines: tuple[asking.Line, ...] = ()
                if strategy.subtitles:
                    # Without a picture there are no frames that the lines could stand around.
                    spans = [hit.frame.span for hit in hits] or [line.span for line in prepared.texts.speech]
                    lines = asking.lines_near(spans, prepared.texts.speech, around=options.around, most=options.most)
                if shown or lines:
                    brief = asking.Question(question.text, question.choices, brief=True)
                    yield record, brief, asking.Material(shown, lines)
                else:
                    what = "the video has no picture, and words are not shown or there are none"
                    yield _failed(record, f"{what}: there is nothing to answer from"), None, None
            yield number

    def _choose(
        self, question: LabelledQuestion, strategy: Strategy, prepared: Prepared
    ) -> tuple[list[FrameHit], Record]:
        """The frames that a strategy chooses, the most important first, and how well they match the annotated evidence.

        Sampled frames have no best one: they come in an order that is spread over the video however few are looked at.
        """
        options, text = self._options, question.text
        choice = frames.FrameChoice(options.k, options.select, strategy.modalities, options.scoring)
        if strategy.modalities:
            hits = frames.find(prepared, self._encoder, text, choice)
        else:
            hits = spread(frames.uniform(prepared, options.dense if strategy.silent is Strategy.DENSE else options.k))
        record: Record = {
            "outcome": "selected",
            "times": [round(time, 3) for time in sorted(hit.frame.time for hit in hits)],
            "duration": round(prepared.media.duration, 3),
        }
        if windows := question.evidence(prepared.media.fps):
            shown = [hit.frame.span for hit in hits]
            record["covered"] = round(share_meeting(windows, shown), 4)
            record["inside"] = round(share_meeting(shown, windows), 4)
        if not (strategy.modalities and question.windows and prepared.candidates):
            return hits, record
        ranking = frames.rank(prepared, self._encoder, text, choice)
        moments = propose([candidate.span for candidate in prepared.candidates], ranking.scores)
        windows = question.windows
        record |= {
            "moments": [
                [round(moment.span.start, 3), round(moment.span.end, 3), round(moment.score, 4)] for moment in moments
            ],
            "R1@0.5": float(first_is_right(moments, windows, 0.5)),
            "R1@0.7": float(first_is_right(moments, windows, 0.7)),
            "mAP@0.5": round(average_precision(moments, windows, 0.5), 4),
            "mAP@0.75": round(average_precision(moments, windows, 0.75), 4),
            "mAP": round(mean_precision(moments, windows), 4),
        }
        if question.grades:
            # Of the best candidates side by side, which share what is said, the middle one.
            best = np.flatnonzero(ranking.scores == ranking.scores.max())
            first_run = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)[0]
            # Not when the frame was taken: it stands for a stretch, and the evidence may come later in it.
            (top,) = frames.describe(ranking, [int(first_run[(len(first_run) - 1) // 2])])
            record["HIT@1"] = float(hit(top.at, question.grades))
        return hits, record

    def _ask(self, step: _Step | int) -> asking.Answer | AnswerError | None:
        """The answer to a question, or why there is none; in the threads of the model."""
        if isinstance(step, int) or self._model is None:
            return None
        _, question, material = step
        if question is None or material is None:
            return None
        try:
            return asking.ask(self._model, question, material, seed=self._options.seed)
        except AnswerError as error:
            return error


def _failed(record: Record, reason: str) -> Record:
    return record | {"outcome": FAILED, "reason": reason}


# --- the report -------------------------------------------------------------------------------------------------------

ALL: Final = "all"
"""The class of length that every question is in."""

SELECTION: Final[Mapping[str, str]] = {
    "covered": "recall",
    "inside": "precision",
    "R1@0.5": "R1@0.5",
    "R1@0.7": "R1@0.7",
    "mAP@0.5": "mAP@0.5",
    "mAP@0.75": "mAP@0.75",
    "mAP": "mAP",
    "HIT@1": "HIT@1",
}
"""Measures of the choice of frames as reports call them, by their key in a result."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers: of how many, and its 95 % interval where there are enough."""

    count: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """A strategy's results: accuracy by class of length, and means of the measures of :data:`SELECTION`.

    ``p`` is of being no better than the first strategy, on the questions that both have. ``evidence`` counts the
    questions that the measures are means over.
    """

    strategy: str
    accuracy: Mapping[str, Share]
    p: float | None
    unclear: int
    failed: int
    frames: float
    selection: Mapping[str, float]
    evidence: int


@dataclass(frozen=True, slots=True)
class QaReport:
    """All strategies in order; ``groups`` are the classes of length, :data:`ALL` first."""

    rows: tuple[StrategyResult, ...]
    groups: tuple[str, ...]
    measures: tuple[str, ...]


def report(
    records: Iterable[Mapping[str, Any]],
    questions: Sequence[LabelledQuestion],
    strategies: Sequence[Strategy],
    sampling: metrics.Sampling,
) -> QaReport:
    """Sum up the results of some questions and strategies; others are passed over."""
    order = {question.id: place for place, question in enumerate(questions)}
    groups = (ALL, *dict.fromkeys(question.group for question in questions if question.group not in ("", ALL)))
    by_strategy: dict[str, list[Mapping[str, Any]]] = {strategy.value: [] for strategy in strategies}
    for record in records:
        if record["id"] in order and record["strategy"] in by_strategy:
            by_strategy[record["strategy"]].append(record)
    rows: list[StrategyResult] = []
    first: dict[str, float] = {}
    for name, results in by_strategy.items():
        results.sort(key=lambda record: order[record["id"]])
        good = [record for record in results if record["outcome"] != FAILED]
        # 1 or 0 by question, for those that were answered and whose right answer is known.
        correct = {
            record["id"]: float(record["choice"] == record["right"])
            for record in good
            if record["outcome"] == "answered" and record.get("right") is not None
        }
        group_of = {record["id"]: record["group"] for record in good}
        accuracy = {}
        for group in groups:
            values = np.array([value for question, value in correct.items() if group in (ALL, group_of[question])])
            if len(values):
                low, high = metrics.interval(values, sampling) or (None, None)
                accuracy[group] = Share(len(values), float(values.mean()), low, high)
        shared = [question for question in correct if question in first]
        ours, other = (np.array([values[question] for question in shared]) for values in (correct, first))
        selection = {name: [record[key] for record in good if key in record] for key, name in SELECTION.items()}
        row = StrategyResult(
            strategy=name,
            accuracy=accuracy,
            p=metrics.difference(ours, other, sampling) if shared else None,
            unclear=sum(record["outcome"] == "answered" and record["choice"] is None for record in good),
            failed=len(results) - len(good),
            frames=float(np.mean([record.get("shown", len(record["times"])) for record in good])) if good else 0.0,
            selection={measure: float(np.mean(values)) for measure, values in selection.items() if values},
            evidence=sum("covered" in record for record in good),
        )
        first = first if rows else correct
        rows.append(row)
    measures = tuple(name for name in SELECTION.values() if any(name in row.selection for row in rows))
    return QaReport(tuple(rows), groups, measures)
