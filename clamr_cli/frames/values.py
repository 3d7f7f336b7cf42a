"""What a prepared video is, and what an answer is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from clamr_cli.types import EncoderInfo, Evidence, MediaInfo, Modality, Scoring, Segment, Span, VideoFields

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clamr_cli.index.options import IndexOptions
    from clamr_cli.types import TokenVectors

Strategy = Literal["diverse", "top", "windows"]

PART: Final = 256
"""Candidates that are encoded and kept together: what an interruption can cost."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which video.

    Attributes:
        path: of its file; empty where none is at hand.
        video_id, content_hash: see :mod:`clamr_cli.media.files`.
        subtitles: a file that says what is said in it, whatever else is known (nothing, if it has no bytes); empty
            for no file.
    """

    path: str
    video_id: str
    content_hash: str
    subtitles: str = ""


@dataclass(frozen=True, slots=True)
class DenseOptions:
    """How densely to prepare a video.

    Attributes:
        index: how to recognise and encode, as for an index run; ``speech`` and ``text`` say whether to recognise what
            is not known yet. What is known is used in any case.
        interval: seconds wanted between candidate frames.
        context: seconds before and after a candidate's own stretch whose speech counts as its own.
    """

    index: IndexOptions
    interval: float = 2.0
    context: float = 3.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame that may answer: its number from 0, when it was taken, the stretch it stands for; in seconds."""

    number: int
    time: float
    span: Span


@dataclass(frozen=True, slots=True)
class Texts:
    """What is said and written in a video, and the chapters it has, each in time order."""

    speech: tuple[Segment, ...] = ()
    ocr: tuple[Segment, ...] = ()
    chapters: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A video whose candidate frames are encoded. Without a picture it has no candidates.

    Attributes:
        target: which video.
        media: what the file says about itself.
        fields: title and so on; of a video that is not in the index only the title, where the file has one.
        encoder: who made the vectors.
        candidates: n of them, in time order; their spans tile the time line.
        texts: all of the video's.
        context: seconds around a candidate whose speech is its own.
        thumbs: [n, 8, 8, 3] uint8, small copies of the candidates to compare them by.
        vectors: of all candidates, one after another; those of candidate ``i`` are ``indptr[i]:indptr[i + 1]``.
        indptr: [n + 1] int64.
        pictures_key: where the candidates' pictures are kept.
    """

    target: Target
    media: MediaInfo
    fields: VideoFields
    encoder: EncoderInfo
    candidates: tuple[Candidate, ...]
    texts: Texts
    context: float
    thumbs: NDArray[np.uint8] = field(repr=False)
    vectors: TokenVectors = field(repr=False)
    indptr: NDArray[np.int64] = field(repr=False)
    pictures_key: str

    @property
    def speech(self) -> tuple[Segment, ...]:
        """What is said, in time order."""
        return self.texts.speech

    @property
    def ocr(self) -> tuple[Segment, ...]:
        """What is written on screen, in time order."""
        return self.texts.ocr


@dataclass(frozen=True, slots=True)
class Choice:
    """How many frames to choose and how; ``modalities`` empty means that all may answer."""

    k: int = 32
    select: Strategy = "diverse"
    modalities: tuple[Modality, ...] = ()
    scoring: Scoring = "token-max"


@dataclass(frozen=True, slots=True)
class FrameHit:
    """A chosen frame.

    Attributes:
        rank: from 1 by score.
        number: of the candidate.
        time: when the frame was taken, in seconds.
        span: the stretch it stands for.
        at: the second inside of it at which the evidence is strongest.
        score: MaxSim of the question with everything of the candidate.
        modality: the one that matches best alone; None where nothing may answer.
        modalities: the score of each modality alone, of those that the candidate has.
        evidence: what matched each word of the question.
        speech, ocr: what is said around it, and written on screen then.
    """

    rank: int
    number: int
    time: float
    span: Span
    at: float
    score: float
    modality: Modality | None
    modalities: Mapping[Modality, float] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    speech: tuple[Segment, ...] = ()
    ocr: tuple[Segment, ...] = ()
