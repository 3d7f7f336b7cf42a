"""A question against the candidates of one video: exact MaxSim, the choice of k, and why each was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from clamr_cli.errors import EncoderMismatch, UsageError
from clamr_cli.frames.documents import Surroundings
from clamr_cli.frames.selection import select
from clamr_cli.frames.stored import slice_of
from clamr_cli.frames.values import PART, Choice, FrameHit, Prepared
from clamr_cli.search.evidence import Match
from clamr_cli.search.scoring import SLOTS, Float32, ScoringRule, modality_maxima, similarities, slot_weights
from clamr_cli.types import MODALITY_IDS, TEXT_MODALITIES, Encoder, TokenVectors

_MOST_PARTS: Final = 1_000_000
"""Parts of a time line that are all different: beyond, every candidate is in one of them."""

_BESIDE: Final = np.float32(0.9)
"""Factor of the similarity of words beside a candidate's own stretch."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Scores of all candidates of a video for a question.

    ``scores`` are [n] float32, minus infinity for a candidate that has nothing that may answer.
    """

    prepared: Prepared
    question: str
    tokens: TokenVectors
    rule: ScoringRule
    scores: Float32


def rank(prepared: Prepared, encoder: Encoder, question: str, choice: Choice | None = None) -> Ranking:
    """Score all candidates.

    Args:
        prepared: the video.
        encoder: the one that encoded it.
        question: what to look for.
        choice: which modalities may answer, and how scores are made.

    Raises:
        UsageError: the question is empty.
        EncoderMismatch: another encoder encoded the video.
    """
    choice = choice or Choice()
    if not question.strip():
        raise UsageError("the question is empty", "ask something about the video")
    if encoder.info.fingerprint != prepared.encoder.fingerprint:
        raise EncoderMismatch(
            f"the video was prepared with encoder {prepared.encoder.name}, the question with {encoder.info.name}",
            "use the same encoder for both",
        )
    tokens = encoder.encode_queries([question])[0]
    rule = ScoringRule(choice.scoring, slot_weights({}, frozenset(choice.modalities) or None))
    return Ranking(prepared, question, tokens, rule, rule.scores(_maxima(prepared, tokens)))


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


def find(prepared: Prepared, encoder: Encoder, question: str, choice: Choice | None = None) -> list[FrameHit]:
    """The frames that answer a question, best first: at most ``choice.k``, fewer where there are fewer.

    Raises:
        UsageError: the question is empty.
        EncoderMismatch: another encoder encoded the video.
    """
    choice = choice or Choice()
    ranking = rank(prepared, encoder, question, choice)
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
    for place, number in enumerate(numbers, 1):
        frame = prepared.candidates[number]
        moment = surroundings.record(prepared.target.video_id, number, frame)
        start, end = prepared.indptr[number : number + 2].tolist()
        document = slice_of(prepared.vectors, start, end)
        match = Match(ranking.question, ranking.tokens, moment, document, ranking.rule.weights)
        hit = FrameHit(
            rank=place,
            number=number,
            frame=frame,
            at=match.strongest_time(),
            score=float(ranking.scores[number]),
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
