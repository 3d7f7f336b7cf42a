"""A prepared video, and the frames that answer a question about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import UsageError
from clamr_cli.index.options import IndexOptions
from clamr_cli.types import (
    EncoderInfo,
    Evidence,
    Frame,
    FrameSelection,
    MediaInfo,
    Modality,
    Scoring,
    Segment,
    TokenVectors,
    VideoFields,
)

PART: Final = 256
"""Candidates that are encoded and stored together: what an interruption can cost."""


@dataclass(frozen=True, slots=True)
class Target:
    """A video.

    Attributes:
        path: of its file; empty where none is at hand.
        video_id, content_hash: see :mod:`clamr_cli.media.files`.
        subtitles: a file of what is said in it, whatever else is known (nothing, if it has no bytes); empty for none.
    """

    path: str
    video_id: str
    content_hash: str
    subtitles: str = ""


@dataclass(frozen=True, slots=True)
class DenseOptions:
    """Options for preparing a video.

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
class Texts:
    """Speech, text and chapters of a video, each in time order."""

    speech: tuple[Segment, ...] = ()
    ocr: tuple[Segment, ...] = ()
    chapters: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A video whose candidate frames are encoded. Without a picture it has no candidates.

    Attributes:
        target: the video.
        media: what the file says about itself.
        fields: title and so on; of a video that is not in the index only the title, where the file has one.
        encoder: who made the vectors.
        candidates: n frames that may answer, in time order, without their JPEGs; their spans tile the time line.
        texts: all of the video's.
        context: seconds around a candidate whose speech is its own.
        thumbs: [n, 8, 8, 3] uint8, small copies of the candidates to compare them by.
        vectors: of all candidates, one after another; those of candidate ``i`` are ``indptr[i]:indptr[i + 1]``.
        indptr: [n + 1] int64.
        pictures_key: names the candidates' stored JPEGs.
    """

    target: Target
    media: MediaInfo
    fields: VideoFields
    encoder: EncoderInfo
    candidates: tuple[Frame, ...]
    texts: Texts
    context: float
    thumbs: NDArray[np.uint8] = field(repr=False)
    vectors: TokenVectors = field(repr=False)
    indptr: NDArray[np.int64] = field(repr=False)
    pictures_key: str

    @property
    def speech(self) -> tuple[Segment, ...]:
        """Speech, in time order."""
        return self.texts.speech

    @property
    def ocr(self) -> tuple[Segment, ...]:
        """On-screen text, in time order."""
        return self.texts.ocr


@dataclass(frozen=True, slots=True)
class Choice:
    """Number of frames and way of choosing; ``modalities`` empty means that all may answer."""

    k: int = 32
    select: FrameSelection = "diverse"
    modalities: tuple[Modality, ...] = ()
    scoring: Scoring = "token-max"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"invalid -k: {self.k}", "give 1 or more")


@dataclass(frozen=True, slots=True)
class FrameHit:
    """A chosen frame.

    Attributes:
        rank: from 1 by score.
        number: of the candidate.
        frame: the candidate.
        at: the second inside its span at which the evidence is strongest.
        score: MaxSim of the question with everything of the candidate.
        modality: the one that matches best alone; None where nothing may answer.
        modalities: the score of each modality alone, of those that the candidate has.
        evidence: what matched each word of the question.
        speech, ocr: what is said around it, and written on screen then.
        file, clip: names of what an export wrote of it; empty where nothing was written.
    """

    rank: int
    number: int
    frame: Frame
    at: float
    score: float = 0.0
    modality: Modality | None = None
    modalities: Mapping[Modality, float] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    speech: tuple[Segment, ...] = ()
    ocr: tuple[Segment, ...] = ()
    file: str = ""
    clip: str = ""
