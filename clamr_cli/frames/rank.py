"""A question against the candidates of one video: exact MaxSim, the choice of k, and why each was chosen.

Two frames are near-duplicates when they look alike (by thumbs, not by the encoder's vectors, which also hold what is
said) and lie close in time; where nothing is said or written with one of them, however far apart they lie. No strategy
takes both while another frame is left that repeats none, except that ``windows`` leaves no window empty for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import EncoderMismatch, UsageError
from clamr_cli.frames.prepare import slice_of
from clamr_cli.frames.values import PART, FrameChoice, FrameHit, Prepared, Surroundings
from clamr_cli.index.documents import moment_of
from clamr_cli.media.key_frames import image_difference
from clamr_cli.search.cascade import SLOTS, Float32, ScoringRule, modality_maxima, similarities, slot_weights
from clamr_cli.search.confidence import FOREIGN, PICTURES, Background, Judge, model_of
from clamr_cli.search.search import Example, Match, choose_reading, words_by_line
from clamr_cli.types import MODALITY_IDS, TEXT_MODALITIES, Encoder, ForeignQuery, FrameSelection, TokenVectors

Floats: TypeAlias = NDArray[np.float64]

_MOST_PARTS: Final = 1_000_000
"""Parts of a time line that are all different: beyond, every candidate is in one of them."""

_BESIDE: Final = np.float32(0.9)
"""Factor of the similarity of words beside a candidate's own stretch."""

ALIKE: Final = 0.06
"""Difference (see :func:`clamr_cli.media.key_frames.image_difference`) up to which two pictures look alike."""

CLOSE: Final = 30.0
"""Seconds within which frames that look alike are near-duplicates."""

_RELEVANCE: Final = 0.5
"""Weight of the score against likeness to what is chosen already (Carbonell and Goldstein's lambda, SIGIR 1998)."""

_UNLIKE: Final = 0.5
"""Difference from which two pictures have nothing in common."""

_DIGITS: Final = 5
"""Scores equal to this many digits are ties, which the earlier frame wins."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Scores of all candidates of a video for a question.

    ``scores`` are [n] float32, minus infinity for a candidate that has nothing that may answer; they come of the
    ``maxima`` [q, n, SLOTS]. ``example`` is the picture that is asked for instead of a question.
    """

    prepared: Prepared
    question: str
    tokens: TokenVectors
    rule: ScoringRule
    scores: Float32
    maxima: Float32
    example: Example | None = None


def rank(
    prepared: Prepared,
    encoder: Encoder,
    question: str,
    choice: FrameChoice | None = None,
    example: Example | None = None,
) -> Ranking:
    """Score all candidates; the choice says which modalities may answer, and how scores are made.

    With an ``example`` they are scored by how like it they are, and the question counts for nothing.

    Raises:
        UsageError: the question is empty.
        EncoderMismatch: another encoder encoded the video.
    """
    choice = choice or FrameChoice()
    if example is None and not question.strip():
        raise UsageError("the question is empty", "ask something about the video")
    if encoder.info.fingerprint != prepared.encoder.fingerprint:
        raise EncoderMismatch(
            f"the video was prepared with encoder {prepared.encoder.name}, the question with {encoder.info.name}",
            "use the same encoder for both",
        )
    tokens = _read(prepared, encoder, question) if example is None else example.tokens
    kinds = None if example is None else tokens.modality_ids
    rule = ScoringRule(choice.scoring, slot_weights({}, frozenset(choice.modalities) or None), kinds=kinds)
    maxima = _maxima(prepared, tokens)
    return Ranking(prepared, question, tokens, rule, rule.scores(maxima), maxima, example)


def _read(prepared: Prepared, encoder: Encoder, question: str) -> TokenVectors:
    """The vectors of a question, as a search in this video alone reads it."""
    (tokens,) = encoder.encode_queries([question])
    near = Surroundings(prepared.texts, prepared.context)
    documents = (near.document("", number, frame) for number, frame in enumerate(prepared.candidates))
    return choose_reading(question, tokens, (frozenset().union(*words_by_line(document)) for document in documents))


def _maxima(prepared: Prepared, tokens: TokenVectors) -> Float32:
    """The best similarity of each word of the question in each modality of each candidate, [q, n, SLOTS].

    What is said just before or after a candidate counts a little less than what is said in its own stretch, so that of
    neighbours with the same words in reach the one wins during which they are said.
    """
    vectors, indptr = prepared.vectors, prepared.indptr
    own = np.array([(frame.span.start, frame.span.end) for frame in prepared.candidates], np.float32).reshape(-1, 2)
    own = own.repeat(np.diff(indptr), axis=0)
    beside = np.flatnonzero((vectors.spans[:, 1] < own[:, 0]) | (vectors.spans[:, 0] > own[:, 1]))
    maxima = np.full((len(tokens), len(indptr) - 1, SLOTS), -np.inf, np.float32)
    for first in range(0, len(indptr) - 1, PART):
        some = indptr[first : first + PART + 1]
        rows = slice(int(some[0]), int(some[-1]))
        values = similarities(tokens.vectors, vectors.vectors[rows])
        values[:, beside[(beside >= rows.start) & (beside < rows.stop)] - rows.start] *= _BESIDE
        maxima[:, first : first + PART] = modality_maxima(values, vectors.modality_ids[rows], some - some[0])
    return maxima


def find(
    prepared: Prepared,
    encoder: Encoder,
    question: str,
    choice: FrameChoice | None = None,
    example: Example | None = None,
) -> list[FrameHit]:
    """The frames that answer a question, or are like an example, best first: ``choice.k``, fewer where there are fewer.

    Raises:
        UsageError: the question is empty.
        EncoderMismatch: another encoder encoded the video.
    """
    choice = choice or FrameChoice()
    ranking = rank(prepared, encoder, question, choice, example)
    words = np.isin(prepared.vectors.modality_ids, [MODALITY_IDS[modality] for modality in TEXT_MODALITIES])
    counts = np.diff(np.concatenate(([0], np.cumsum(words)))[prepared.indptr])
    chosen = select(
        ranking.scores,
        [frame.time for frame in prepared.candidates],
        prepared.thumbs,
        choice.k,
        choice.select,
        duration=prepared.media.duration,
        silent=(counts == 0).tolist(),
    )
    return describe(ranking, chosen)


def describe(ranking: Ranking, numbers: Sequence[int]) -> list[FrameHit]:
    """The candidates of these numbers, in that order, with their evidence."""
    prepared, hits = ranking.prepared, []
    surroundings = Surroundings(prepared.texts, prepared.context)
    # Candidates are compared with the others of the video. Those close by show the same, so each stands for itself.
    names = [str(number) for number in range(len(prepared.candidates))]
    kind, words = FOREIGN if isinstance(ranking.tokens, ForeignQuery) else "", None
    if ranking.example is not None:
        kind, words = PICTURES, ranking.example.words
    judge = Judge(
        ranking.question,
        ranking.rule,
        Background(ranking.maxima, names, len(names)),
        model_of(prepared.encoder.name, kind),
        ranking.tokens,
    )
    text_modalities = [modality for modality in TEXT_MODALITIES if ranking.rule.weights[MODALITY_IDS[modality]] > 0]
    for place, number in enumerate(numbers, 1):
        frame = prepared.candidates[number]
        video_id = prepared.target.video_id
        moment = moment_of(surroundings.document(video_id, number, frame), video_id)
        start, end = prepared.indptr[number : number + 2].tolist()
        document = slice_of(prepared.vectors, start, end)
        match = Match(ranking.question, ranking.tokens, moment, document, ranking.rule.weights, words)
        hit = FrameHit(
            rank=place,
            number=number,
            frame=frame,
            at=match.strongest_time(),
            score=float(ranking.scores[number]),
            confidence=judge.confidence(
                float(ranking.scores[number]),
                [segment.text for modality in text_modalities for segment in moment.segments(modality)],
                names[number],
                match.winner,
                match.best,
            ),
            modality=match.winner,
            modalities=match.scores,
            evidence=match.evidence(),
            speech=moment.speech,
            ocr=moment.ocr,
        )
        hits.append(hit)
    return hits


def uniform(prepared: Prepared, k: int) -> list[FrameHit]:
    """The baseline without a question: the candidates on screen in the middle of k equal parts of the time line."""
    surroundings = Surroundings(prepared.texts, prepared.context)
    starts = [frame.span.start for frame in prepared.candidates]
    if not starts:
        return []
    k = min(k, _MOST_PARTS)
    middles = (np.arange(k) + 0.5) * prepared.media.duration / k
    numbers = np.unique(np.maximum(np.searchsorted(starts, middles, side="right") - 1, 0)).tolist()
    hits = []
    for place, number in enumerate(numbers, 1):
        frame = prepared.candidates[number]
        near = surroundings.of(frame.span)
        hits.append(FrameHit(place, number, frame, frame.time, speech=near.speech, ocr=near.ocr))
    return hits


# --- the choice of k frames -------------------------------------------------------------------------------------------


def select(
    scores: Sequence[float] | NDArray[np.float32],
    times: Sequence[float],
    thumbs: NDArray[np.uint8],
    k: int,
    strategy: FrameSelection = "diverse",
    *,
    duration: float = 0.0,
    silent: Sequence[bool] = (),
) -> list[int]:
    """Choose at most ``k`` frames, best first.

    ``top`` takes the best scores. ``diverse`` trades the score against likeness in picture and time to what is
    already chosen (maximal marginal relevance). ``windows`` cuts the time line into k equal windows and takes the best
    of each; what is left over goes to the best of the rest.

    Args:
        scores: [n]; a frame whose score is minus infinity is never taken.
        times: [n] seconds, ascending.
        thumbs: [n, 8, 8, 3] uint8.
        k: how many, at least 1.
        strategy: see above.
        duration: seconds of the whole video, for ``windows``; the last frame's time where that is later.
        silent: [n], whether nothing is said or written with a frame; empty for none of them.

    Returns:
        Numbers of frames, by score, ties in time order; fewer than ``k`` only where fewer may be taken.
    """
    values: Floats = np.asarray(scores, np.float64).round(_DIGITS)
    moments: Floats = np.asarray(times, np.float64)
    mute = np.asarray(silent, np.bool_) if len(silent) else np.zeros(len(values), np.bool_)
    k = min(k, len(values))
    free, repeats = np.isfinite(values), np.zeros(len(values), np.bool_)
    chosen: list[int] = []

    def best(worth: Floats, among: NDArray[np.bool_]) -> int:
        """The free frame that is worth most, the first of equals; repeating ones only where there is no other."""
        fresh = free & among & ~repeats
        return int(np.where(fresh if fresh.any() else free & among, worth, -np.inf).argmax())

    def take(number: int) -> Floats:
        """Choose a frame; how much each frame looks like it, [n] in [0, 1]."""
        changed = image_difference(thumbs, thumbs[number])
        near = np.abs(moments - moments[number]) < CLOSE
        repeats[:] |= (changed <= ALIKE) & (near | mute | mute[number])
        free[number] = False
        chosen.append(number)
        return np.clip(1.0 - changed.astype(np.float64) / _UNLIKE, 0.0, 1.0)

    if strategy == "windows":
        duration = max(duration, float(moments[-1]) if len(moments) else 0.0)
        window = np.minimum((moments * k / duration).astype(np.int64), k - 1) if duration > 0 else 0 * moments
        for number in range(k):
            if (free & (window == number)).any():
                take(best(values, window == number))
    elif strategy == "diverse" and free.any():
        # Greedy maximal marginal relevance; likeness is half of the picture, half of the time. What scores no better
        # than the median is all the same: the rest of the video, taken for coverage.
        low, high = float(np.median(values[free])), float(values[free].max())
        scale = high - low
        relevance = np.clip((values - low) / scale, 0.0, 1.0) if scale > 0 else 1.0 * (values >= high)
        reach = max(1e-9, float(np.ptp(moments)) / (2 * k))
        nearest = np.zeros_like(values)
        while len(chosen) < k and free.any():
            number = best(_RELEVANCE * relevance - (1 - _RELEVANCE) * nearest, free)
            alike = take(number)
            close = np.exp(-np.abs(moments - moments[number]) / reach)
            nearest = np.maximum(nearest, (alike + close) / 2)
    while len(chosen) < k and free.any():
        take(best(values, free))
    return sorted(chosen, key=lambda number: (-values[number], number))
