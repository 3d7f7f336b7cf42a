"""A question against the candidates of one video: exact MaxSim, the choice of k, and why each was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import EncoderMismatch, UsageError
from clamr_cli.frames.documents import Surroundings
from clamr_cli.frames.selection import select
from clamr_cli.frames.stored import slice_of
from clamr_cli.frames.values import PART, Choice, FrameHit
from clamr_cli.search import scoring as maxsim
from clamr_cli.search.evidence import Match
from clamr_cli.types import MODALITY_IDS, TEXT_MODALITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clamr_cli.frames.values import Prepared
    from clamr_cli.types import Encoder, TokenVectors


_MOST_PARTS: Final = 1_000_000
"""Parts of a time line that are all different: beyond, every candidate is in one of them."""

_BESIDE: Final = np.float32(0.9)
"""What the similarity of words beside a candidate's own stretch is multiplied by."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How well each candidate of a video answers a question.

    ``scores`` are [n] float32, minus infinity for a candidate that has nothing that may answer.
    """

    prepared: Prepared
    question: str
    tokens: TokenVectors
    weights: maxsim.Float32
    scores: maxsim.Float32


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
    weights = maxsim.slot_weights({}, frozenset(choice.modalities) or None)
    maxima = _maxima(prepared, tokens)
    rule = maxsim.ScoringRule(choice.scoring, weights)
    return Ranking(prepared, question, tokens, weights, rule.scores(maxima))


def _maxima(prepared: Prepared, tokens: TokenVectors) -> maxsim.Float32:
    """The best similarity of each word of the question in each modality of each candidate, [q, n, SLOTS].

    What is said just before or after a candidate counts a little less than what is said in its own stretch, so that of
    neighbours with the same words in reach the one wins during which they are said.
    """
    vectors, indptr = prepared.vectors, prepared.indptr
    own = np.array([(one.span.start, one.span.end) for one in prepared.candidates], np.float32).reshape(-1, 2)
    own = own.repeat(np.diff(indptr), axis=0)
    beside = np.flatnonzero((vectors.spans[:, 1] < own[:, 0]) | (vectors.spans[:, 0] > own[:, 1]))
    found = np.full((len(tokens), len(indptr) - 1, maxsim.SLOTS), -np.inf, np.float32)
    for first in range(0, len(indptr) - 1, PART):
        some = indptr[first : first + PART + 1]
        rows = slice(int(some[0]), int(some[-1]))
        values = maxsim.similarities(tokens.vectors, vectors.vectors[rows])
        values[:, beside[(beside >= rows.start) & (beside < rows.stop)] - rows.start] *= _BESIDE
        found[:, first : first + PART] = maxsim.modality_maxima(values, vectors.modality_ids[rows], some - some[0])
    return found


def find(prepared: Prepared, encoder: Encoder, question: str, choice: Choice | None = None) -> list[FrameHit]:
    """The frames that answer a question, best first: at most ``choice.k``, fewer where there are fewer.

    Raises:
        UsageError: the question is empty, or ``k`` is below 1.
        EncoderMismatch: another encoder encoded the video.
    """
    choice = choice or Choice()
    _check(choice.k)
    ranking = rank(prepared, encoder, question, choice)
    times = [candidate.time for candidate in prepared.candidates]
    chosen = select(
        ranking.scores,
        times,
        prepared.thumbs,
        choice.k,
        choice.select,
        duration=prepared.media.duration,
        silent=silent(prepared).tolist(),
    )
    return describe(ranking, chosen)


def silent(prepared: Prepared) -> NDArray[np.bool_]:
    """Whether nothing is said or written around each candidate, [n]."""
    words = np.isin(prepared.vectors.modality_ids, [MODALITY_IDS[modality] for modality in TEXT_MODALITIES])
    before = np.concatenate(([0], np.cumsum(words)))[prepared.indptr]
    none: NDArray[np.bool_] = np.diff(before) == 0
    return none


def _check(k: int) -> None:
    if k < 1:
        raise UsageError(f"-k {k} would choose nothing", "give 1 or more")


def describe(ranking: Ranking, numbers: Sequence[int]) -> list[FrameHit]:
    """The candidates of these numbers, in that order, with their evidence."""
    around = Surroundings(ranking.prepared.texts, ranking.prepared.context)
    return [_hit(ranking, around, number, place) for place, number in enumerate(numbers, 1)]


def _hit(ranking: Ranking, around: Surroundings, number: int, place: int) -> FrameHit:
    prepared = ranking.prepared
    candidate = prepared.candidates[number]
    moment = around.record(prepared.target.video_id, candidate)
    start, end = prepared.indptr[number : number + 2].tolist()
    own = slice_of(prepared.vectors, start, end)
    match = Match(ranking.question, ranking.tokens, moment, own, ranking.weights)
    return FrameHit(
        rank=place,
        number=number,
        time=candidate.time,
        span=candidate.span,
        at=match.strongest_time(),
        score=float(ranking.scores[number]),
        modality=match.winner,
        modalities=match.scores,
        evidence=match.evidence(),
        speech=moment.speech,
        ocr=moment.ocr,
    )


def uniform(prepared: Prepared, k: int) -> list[FrameHit]:
    """What a question changes nothing of: the candidates on screen in the middle of k equal parts of the time line.

    Raises:
        UsageError: ``k`` is below 1.
    """
    _check(k)
    around = Surroundings(prepared.texts, prepared.context)
    starts = [candidate.span.start for candidate in prepared.candidates]
    if not starts:
        return []
    k = min(k, _MOST_PARTS)
    middles = (np.arange(k) + 0.5) * prepared.media.duration / k
    numbers = np.unique(np.maximum(np.searchsorted(starts, middles, side="right") - 1, 0)).tolist()
    found = []
    for place, number in enumerate(numbers, 1):
        one = prepared.candidates[number]
        near = around.of(one.span)
        found.append(FrameHit(place, number, one.time, one.span, one.time, 0.0, None, {}, (), near.speech, near.ocr))
    return found
