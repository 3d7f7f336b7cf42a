"""A prepared video with the words around each moment of it, and the frames that answer a question about it."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import UsageError
from clamr_cli.index.documents import cut_to, piece_of
from clamr_cli.index.pipeline import IndexOptions
from clamr_cli.types import (
    Document,
    EncoderInfo,
    Evidence,
    Frame,
    FrameSelection,
    Level,
    MediaInfo,
    Modality,
    Scoring,
    Segment,
    Span,
    TokenVectors,
    VideoFields,
)

PART: Final = 256
"""Candidates that are encoded and stored together: what an interruption can cost."""

_LONG: Final = 20.0
"""Seconds from which a segment of speech is rather a paragraph than a sentence."""


@dataclass(frozen=True, slots=True)
class Target:
    """A video; ``path`` is empty where no file is at hand.

    ``subtitles`` is a file of what is said in it, whatever else is known (nothing, if it has no bytes); empty for none.
    """

    path: str
    video_id: str
    content_hash: str
    subtitles: str = ""


@dataclass(frozen=True, slots=True)
class DenseOptions:
    """Options for preparing a video.

    ``index`` says how to recognise and encode, as for an index run; its ``speech`` and ``text`` say whether to
    recognise what is not known yet. What is known is used in any case.
    """

    index: IndexOptions
    interval: float = 2.0  # seconds wanted between candidate frames
    context: float = 3.0  # seconds before and after a candidate's own stretch whose speech counts as its own


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
        fields: title and so on; of a video that is not in the index only the title, where the file has one.
        candidates: n frames that may answer, in time order, without their JPEGs; their spans tile the time line.
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


class Track:
    """Segments that can be looked up by time."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = sorted(segments, key=lambda segment: segment.span)
        self._starts = [segment.span.start for segment in self._segments]
        self._longest = max((segment.span.duration for segment in segments), default=0.0)

    def within(self, span: Span) -> tuple[Segment, ...]:
        """The segments that overlap a span, in order."""
        first = bisect.bisect_left(self._starts, span.start - self._longest)
        last = bisect.bisect_right(self._starts, span.end)
        return tuple(segment for segment in self._segments[first:last] if segment.span.overlaps(span))


class Surroundings:
    """Speech and text around any moment of a video; speech belongs to a stretch from ``context`` seconds before on."""

    def __init__(self, texts: Texts, context: float) -> None:
        self._speech, self._ocr, self._chapters = map(Track, (texts.speech, texts.ocr, texts.chapters))
        self._context = context

    def of(self, span: Span) -> Texts:
        """The speech in and around a span, and the on-screen text and the chapters of the span itself.

        Of a long stretch of speech whose words' times are known, the words in reach are taken. Other segments are taken
        whole, since half a sentence says something else.
        """
        wide = Span(span.start - self._context, span.end + self._context)
        speech: list[Segment] = []
        for segment in self._speech.within(wide):
            words = [word for word in segment.words if word.span.overlaps(wide)]
            if not segment.words or segment.span.duration <= _LONG or len(words) == len(segment.words):
                speech.append(segment)
            elif words:
                speech.append(piece_of(segment, words))
        ocr, chapters = (tuple(cut_to(track.within(span), span)) for track in (self._ocr, self._chapters))
        return Texts(tuple(speech), ocr, chapters)

    def document(self, video_id: str, number: int, frame: Frame) -> Document:
        """The document of a candidate: its picture with the speech around it and the text on screen then."""
        near = self.of(frame.span)
        return Document(f"{video_id}#{number}", frame.span, (frame,), near.speech, near.ocr, near.chapters)


@dataclass(frozen=True, slots=True)
class FrameChoice:
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
    """A chosen frame, with what is said around it and written on screen then."""

    rank: int  # from 1 by score
    number: int  # of the candidate
    frame: Frame
    at: float  # the second inside its span at which the evidence is strongest
    score: float = 0.0  # MaxSim of the question with everything of the candidate
    confidence: float = 0.0  # the chance that it answers, in [0, 1]
    modality: Modality | None = None  # the one that matches best alone; None where nothing may answer
    modalities: Mapping[Modality, float] = field(default_factory=dict)  # the score of each that it has alone
    evidence: tuple[Evidence, ...] = ()  # what matched each word of the question
    speech: tuple[Segment, ...] = ()
    ocr: tuple[Segment, ...] = ()
    file: str = ""  # names of what an export wrote of it; empty where nothing was written
    clip: str = ""

    @property
    def weak(self) -> bool:
        """Whether it probably does not answer the question."""
        return Level.of(self.confidence) is Level.WEAK
