"""The vocabulary of clamr: values that cross module borders, and the Protocols of its seams.

Nothing here imports a third-party package, so that every command can import it at once. Arrays are numpy arrays; their
types are named only for type checkers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32] | NDArray[np.float16]

DIMENSION: Final = 128
"""Width of every token vector (CLaMR section 3: a linear projection to 128)."""

MAX_FRAMES: Final = 10
"""Frames of one document at most (CLaMR section 4: at most 10 keyframes)."""


class Modality(StrEnum):
    """Source of evidence; the names are the same in the store, in JSON and on the command line."""

    VIDEO = "video"
    OCR = "ocr"
    SPEECH = "speech"
    METADATA = "metadata"
    AUDIO = "audio"


MODALITY_IDS: Final[Mapping[Modality, int]] = {
    Modality.VIDEO: 1,
    Modality.OCR: 2,
    Modality.SPEECH: 3,
    Modality.METADATA: 4,
    Modality.AUDIO: 5,
}
"""Numbers stored beside each vector; the published code's order. 0 is no modality (template tokens)."""

NO_MODALITY: Final = 0
MODALITY_OF_ID: Final[Mapping[int, Modality]] = {number: modality for modality, number in MODALITY_IDS.items()}
TEXT_MODALITIES: Final = (Modality.OCR, Modality.SPEECH, Modality.METADATA)
SHOWN_MODALITIES: Final = (Modality.VIDEO, Modality.SPEECH, Modality.OCR, Modality.METADATA)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of a video's time line, in seconds from its start; ``start <= end``."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        """Whether the two share more than a border (an empty span counts where it lies inside)."""
        if self.start == self.end or other.start == other.end:
            return self.start <= other.end and other.start <= self.end
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a segment: ``text[start:end]`` of its segment's text, and when it is said."""

    start: int
    end: int
    span: Span


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text with the time it belongs to: a sentence said, a line on screen, a field of metadata.

    ``source`` says how it came to be: ``whisper``, ``subtitle``, ``embedded-subtitle``, ``easyocr``, ``rapidocr``,
    ``title``, ``tags``, ``description``, ``chapter``, ``filename`` and so on. ``confidence`` is in [0, 1] or None.
    Metadata that holds for the whole video spans the whole video. ``words`` is empty where word times are unknown.
    ``speaker`` is who says it, ``voice 3`` where only the voice is known, empty where nothing is.
    """

    span: Span
    text: str
    source: str = ""
    language: str = ""
    confidence: float | None = None
    words: tuple[Word, ...] = ()
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of the video: when it was taken, the stretch of time it stands for, and its JPEG bytes."""

    time: float
    span: Span
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sound:
    """Raw audio of a moment: the stretch of time it covers, and its mono samples at 16 kHz, int16 [n]."""

    span: Span
    samples: NDArray[np.int16] = field(repr=False, compare=False)


class _WithTexts:
    """Text segments by modality."""

    __slots__ = ()
    speech: tuple[Segment, ...]
    ocr: tuple[Segment, ...]
    metadata: tuple[Segment, ...]

    def segments(self, modality: Modality) -> tuple[Segment, ...]:
        """The text segments of a modality; empty for the modalities that have no text."""
        segments: tuple[Segment, ...] = getattr(self, modality) if modality in TEXT_MODALITIES else ()
        return segments


@dataclass(frozen=True, slots=True)
class Document(_WithTexts):
    """One moment of a video with all its modalities: the unit that is encoded and found.

    At most :data:`MAX_FRAMES` frames. Segments are in time order and overlap ``span``. ``audio`` is for encoders that
    listen themselves; the others pass over it.
    """

    id: str
    span: Span
    frames: tuple[Frame, ...] = ()
    speech: tuple[Segment, ...] = ()
    ocr: tuple[Segment, ...] = ()
    metadata: tuple[Segment, ...] = ()
    audio: Sound | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """Token vectors of a document or a query: one unit vector per token, and where each comes from.

    Attributes:
        vectors: [n, 128] float32 or float16, rows of unit length, never NaN.
        modality_ids: [n] uint8, values of :data:`MODALITY_IDS` or 0 for tokens of no modality. Queries: 0 for words.
        spans: [n, 2] float32, start and end in seconds of what each vector stands for. Queries: zeros.
        segments: [n] int32, index into ``document.frames`` (video) or ``document.segments(modality)`` (text); -1 none.
        offsets: [n, 2] int32, character offsets into that segment's text; (0, 0) where there is none. Queries: offsets
            into the query string, (0, 0) for tokens that are no part of it.
        input_ids: [n] int32, the tokenizer's ids, -1 where a vector is no token of the vocabulary.
    """

    vectors: FloatArray
    modality_ids: NDArray[np.uint8]
    spans: NDArray[np.float32]
    segments: NDArray[np.int32]
    offsets: NDArray[np.int32]
    input_ids: NDArray[np.int32]

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def deciding(self) -> int:
        """The number of vectors, from the first on, that decide which modality answers a query."""
        return len(self)


@dataclass(frozen=True, slots=True, eq=False)
class ForeignQuery(TokenVectors):
    """Token vectors of a query that seems to be in another language than the encoder's.

    Attributes:
        as_written: its vectors in the encoder's language.
        certain: whether it is in another language for sure. Else the vectors begin with those of ``as_written``, which
            decide which modality answers.
        translation: the number of the first vector of its translation.
        sentence: the number of the first vector of its meaning in any language.
        english: words of its translation into English, without stop words.
        understood: whether anything is known of its words but their letters.
    """

    as_written: TokenVectors
    certain: bool
    translation: int
    sentence: int
    english: tuple[str, ...] = ()
    understood: bool = True

    @property
    def deciding(self) -> int:
        """The number of vectors, from the first on, that decide which modality answers a query."""
        return len(self) if self.certain else len(self.as_written)


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The encoder of a set of vectors: vectors of different fingerprints must never be compared.

    ``fingerprint`` changes whenever the same document would get other vectors: weights, settings or code version.
    ``floors`` are, by the modality that matches best, scores per query vector from which a match of this encoder alone
    says at which second of a moment the answer is; empty where none were measured.
    ``earlier`` are the fingerprints of earlier versions of the encoder whose vectors its queries can be compared with,
    though some documents would get other vectors now.
    ``evidence_floors`` are, by modality, similarities below which what matched a word is no evidence.
    """

    name: str
    fingerprint: str
    dimension: int = DIMENSION
    floors: Mapping[Modality, float] = field(default_factory=dict, compare=False)
    earlier: tuple[str, ...] = field(default=(), compare=False)
    evidence_floors: Mapping[Modality, float] = field(default_factory=dict, compare=False)


@runtime_checkable
class Encoder(Protocol):
    """Turns documents and queries into token vectors of one space."""

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        ...

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """One :class:`TokenVectors` per document, in order. A document without content gives zero rows."""
        ...

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """One :class:`TokenVectors` per query, in order, at least one row each; ``modality_ids`` are 0."""
        ...


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """An audio stream: its index in the file, codec, language tag (may be empty), title, default or not.

    ``role`` is what it is beside the main sound: ``dub``, ``hearing-impaired``, ``description``, ``commentary`` or
    ``effects``; empty for the main sound.
    """

    index: int
    codec: str
    language: str = ""
    title: str = ""
    default: bool = False
    role: str = ""


@dataclass(frozen=True, slots=True)
class SubtitleTrack:
    """A subtitle stream; only text codecs can be read. ``forced`` ones hold only what is foreign in the video."""

    index: int
    codec: str
    language: str = ""
    title: str = ""
    default: bool = False
    text: bool = True
    forced: bool = False
    hearing_impaired: bool = False
    comment: bool = False


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter mark of the container."""

    span: Span
    title: str


@dataclass(frozen=True, slots=True)
class TimeBase:
    """The exact frame rate of a picture, and the timecode of its first frame.

    Attributes:
        rate: the nominal frames a second as a fraction, such as ``30000/1001``; ``0`` without a picture.
        average: the average frames a second, as a fraction.
        variable: whether frames are not evenly spaced.
        timecode: of the first frame, ``hh:mm:ss:ff``, with a ``;`` before the frames where it drops frame numbers;
            empty where the file states none.
        start: seconds from the begin of the video at which the first frame is shown, where sound comes before it.
        source: of the timecode: ``tmcd``, ``tag`` or ``time_reference`` (samples since midnight); empty without one.
    """

    rate: str = "0"
    average: str = "0"
    variable: bool = False
    timecode: str = ""
    source: str = ""
    start: float = 0.0

    @property
    def drop_frame(self) -> bool:
        """Whether the timecode leaves out frame numbers so that it keeps up with the clock."""
        return ";" in self.timecode


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Facts that a file states about itself, measured where the statement is wrong or missing.

    Attributes:
        container: the demuxer's name, e.g. ``mov,mp4,m4a,3gp,3g2,mj2``.
        duration: seconds, the documented choice between header and content (see ``clamr_cli.media.probe``).
        duration_from_header, duration_from_content: the two sources, None where unknown.
        width, height: display size in pixels, after rotation and sample aspect ratio; 0 without a picture.
        rotation: clockwise degrees that were applied, one of 0, 90, 180, 270.
        mirrored: whether the picture was mirrored left to right before that.
        fps: average frames per second, 0.0 where unknown.
        video_codec: empty without a video stream (cover art is none).
        tags: container tags, lower-case keys, decoded, without control characters.
        created: ISO 8601 recording date where the container has one, else empty.
        location: ISO 6709 string where the container has one, else empty.
        incomplete: whether less can be read than the file says it holds, as of a download that was cut off.
        time_base: None in records of earlier versions.
    """

    container: str
    duration: float
    duration_from_header: float | None
    duration_from_content: float | None
    width: int
    height: int
    rotation: int
    fps: float
    video_codec: str
    video_stream: int | None
    audio: tuple[AudioTrack, ...] = ()
    subtitles: tuple[SubtitleTrack, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    location: str = ""
    mirrored: bool = False
    incomplete: bool = False
    time_base: TimeBase | None = None


@dataclass(frozen=True, slots=True)
class VideoFields:
    """Fields of a video that can be filtered by and shown beside its moments.

    ``date`` is ISO 8601: ``YYYY-MM-DD``, or ``YYYY-MM`` or ``YYYY`` if less is known, empty where unknown; ``language``
    is a two-letter code where known. ``part`` counts from 1 the files ``of`` which a camera made one recording, whose
    name is ``group``; 0 for a video that is whole.
    """

    title: str = ""
    uploader: str = ""
    date: str = ""
    language: str = ""
    part: int = 0
    of: int = 0
    group: str = ""


class FileState(StrEnum):
    """State of a file in the index."""

    INDEXED = "indexed"
    FAILED = "failed"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A path that an index run met.

    ``path`` is ``os.fsencode``-able: surrogate escapes stand for bytes that are no UTF-8. ``sidecars`` changes when any
    file beside the video that describes it changes; ``recipe`` names the extractors and settings its moments were made
    with. Both are opaque strings that are only compared.

    ``missing_since`` is when an index run first did not meet the file, ISO 8601; empty where the last one met it. A
    file that is indexed and has it is offline: its disk is away, or it cannot be read (then ``error`` says why), and
    its video stays in the index. Of a missing file it says since when what was extracted is only kept for its return.
    """

    path: str
    root: str
    video_id: str
    size: int
    mtime_ns: int
    state: FileState
    error: str = ""
    hint: str = ""
    sidecars: str = ""
    recipe: str = ""
    missing_since: str = ""

    @property
    def failed(self) -> bool:
        """Whether it could not be read or indexed the last time."""
        return self.state is FileState.FAILED or bool(self.error)


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """A video the index knows, by content; several files may hold it."""

    video_id: str
    content_hash: str
    media: MediaInfo
    fields: VideoFields
    indexed_at: str = ""


TAG_SOURCE: Final = "own-tag"
NOTE_SOURCE: Final = "own-note"
"""Sources of metadata that a person added to the index: see :class:`Labels`."""

SPEAKER_SOURCE: Final = "speaker"
"""Source of metadata that is the name of somebody who speaks in a moment."""

LABEL_SOURCES: Final = frozenset((TAG_SOURCE, NOTE_SOURCE, SPEAKER_SOURCE))
"""Sources of metadata that is encoded by itself, so that it can change alone."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Tags and notes that a person gave a video, in the order they were given."""

    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def segments(self, duration: float) -> tuple[Segment, ...]:
        """The metadata of a video of so many seconds that they are."""
        span = Span(0.0, duration)
        tags = (Segment(span, tag, TAG_SOURCE) for tag in self.tags)
        return (*tags, *(Segment(span, note, NOTE_SOURCE) for note in self.notes))


VoiceModel = Literal["campplus", "wespeaker-resnet293"]
"""Models that embed voices, by their names in the catalogue of weights."""


@dataclass(frozen=True, slots=True)
class Voices:
    """The voices that are heard in a content.

    Attributes:
        turns: start and end in seconds, and which voice speaks, in time order.
        vectors: the embedding of each voice, float16 [d] as bytes.
        numbers: of each voice in the library: equal ones are one speaker.
        model: made the embeddings; those of two models are never compared.
    """

    turns: tuple[tuple[float, float, int], ...]
    vectors: tuple[bytes, ...] = field(default=(), repr=False)
    numbers: tuple[int, ...] = ()
    model: VoiceModel = "campplus"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A speaker of the library whom a person named; ``vector`` is the embedding at that time, by ``model``."""

    number: int
    name: str
    vector: bytes = field(default=b"", repr=False)
    model: VoiceModel = "campplus"


def voice_label(number: int) -> str:
    """The text that stands for a speaker without a name."""
    return f"voice {number}"


_VOICE: Final = re.compile(r"(?:voice )?([0-9]{1,9})")


def voice_number(text: str) -> int | None:
    """The number of a speaker that is written as ``3`` or as :func:`voice_label` has it; None of another text."""
    match = _VOICE.fullmatch(text)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class MomentRecord(_WithTexts):
    """A document's texts and place as the index keeps them; ``moment_id`` is ``<video_id>#<number>``."""

    moment_id: str
    video_id: str
    span: Span
    frame_times: tuple[float, ...]
    frame_spans: tuple[Span, ...]
    speech: tuple[Segment, ...]
    ocr: tuple[Segment, ...]
    metadata: tuple[Segment, ...]


Scoring = Literal["token-max", "modality-max"]

FrameSelection = Literal["diverse", "top", "windows"]
"""Ways to choose frames from those that were scored, see :func:`clamr_cli.frames.rank.select`."""
Device = Literal["auto", "cpu", "cuda", "mps"]
OcrEngine = Literal["easyocr", "rapidocr"]

_DATE: Final = re.compile(r"\d{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01]))?)?")

SCAN_LIMIT: Final = 20_000_000
"""Vectors a core that a search compares with: a fifth of a second or so."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Limits on the videos and moments that may answer. None or empty means no limit.

    ``since``/``until`` are ISO dates, inclusive; ``longer``/``shorter`` are seconds of the whole video; ``path`` is a
    glob over the file's path; ``language`` a two-letter code; ``tags`` must all be given to the video. ``speakers``
    must all speak in the moment: by name, or by number.
    """

    since: str | None = None
    until: str | None = None
    longer: float | None = None
    shorter: float | None = None
    path: str | None = None
    language: str | None = None
    videos: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be understood.

        Raises:
            UsageError: which one, and what it should be.
        """
        for name, date in (("since", self.since), ("until", self.until)):
            if date is not None and not _DATE.fullmatch(date):
                raise UsageError(f"invalid --{name}: {date!r}", "write it like 2024-05-31, 2024-05 or 2024")
        for name, seconds in (("longer", self.longer), ("shorter", self.shorter)):
            if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"invalid --{name}: {seconds:g}", "write it like 90, 1:30 or 1h30m")
        if self.since and self.until and self.since[: len(self.until)] > self.until[: len(self.since)]:
            raise UsageError(f"--since {self.since} is later than --until {self.until}", "give the earlier one first")
        if self.longer is not None and self.shorter is not None and self.longer > self.shorter:
            raise UsageError(
                f"--longer {self.longer:g} is more than --shorter {self.shorter:g}", "no video can be both"
            )


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of matching and of the result.

    ``modalities`` empty means all; ``weights`` multiply a modality's similarities (0 leaves it out, others must be
    positive); ``moments`` returns every good moment instead of the best of each video. ``floor`` is a score per query
    vector below which hits are weak; None goes by their confidence.

    ``also`` are further queries: a moment's score is then the least that it has for one of them. Moments that answer a
    query of ``without`` are left out. ``offset`` is the number of results to pass over, before ``limit`` of them.

    Where more than ``scan_limit`` vectors a core may answer, an approximate index gives the candidates, if there is one
    and not ``exact``; ``hybrid`` adds those whose texts hold words of the query. Scores are exact always.
    """

    modalities: tuple[Modality, ...] = ()
    weights: Mapping[Modality, float] = field(default_factory=dict)
    scoring: Scoring = "token-max"
    limit: int = 10
    moments: bool = False
    filters: Filters = field(default_factory=Filters)
    floor: float | None = None
    exact: bool = False
    hybrid: bool = False
    scan_limit: int = SCAN_LIMIT
    also: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    offset: int = 0

    def __post_init__(self) -> None:
        """Refuse what would find nothing.

        Raises:
            UsageError: the limit is below 1, a weight is negative, or no modality is left.
        """
        if self.limit < 1:
            raise UsageError(f"invalid --limit: {self.limit}", "give 1 or more")
        if self.offset < 0:
            raise UsageError(f"invalid --offset: {self.offset}", "give 0 or more")
        for modality, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise UsageError(f"invalid --weight: {modality}={weight:g}", "give a number from 0 on")
        # Sound itself is a modality of few encoders: it is left to search in only where somebody names it.
        named = {*SHOWN_MODALITIES, *self.modalities, *self.weights} & {*(self.modalities or Modality)}
        if not any(self.weights.get(modality, 1.0) > 0 for modality in named):
            raise UsageError("the modalities and weights leave nothing to search in", "give one a weight above 0")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The frame, line or word that was most similar to a query word, its time, and the similarity (cosine)."""

    query_token: str
    modality: Modality | None
    span: Span
    text: str
    similarity: float
    context: str = ""


class Level(StrEnum):
    """Confidence in a hit for people: a weak one is rather the nearest thing there is than an answer."""

    STRONG = "strong"
    FAIR = "fair"
    WEAK = "weak"

    @classmethod
    def of(cls, confidence: float) -> Level:
        """The level of a confidence."""
        return cls.STRONG if confidence >= STRONG_FROM else cls.FAIR if confidence >= FAIR_FROM else cls.WEAK


STRONG_FROM: Final = 0.8
FAIR_FROM: Final = 0.5
"""Confidences from which a hit is strong or fair."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a moment that answers a query, or a frame, whose text is empty.

    ``start`` is the second of the first word that matched, or of the frame. ``words`` are the query words that it
    answers, ``marks`` the stretches ``text[start:end]`` that match, ``similarity`` is that of the best. ``timed`` is
    False for metadata of the whole video. ``speaker`` says it, empty where that is not known.
    """

    modality: Modality
    start: float
    text: str
    words: tuple[str, ...] = ()
    marks: tuple[tuple[int, int], ...] = ()
    similarity: float = 0.0
    timed: bool = True
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A search result: a moment of a video, its score, and the evidence.

    ``span`` is the moment; ``at`` is the second inside it where the evidence is strongest. ``modalities`` has the
    MaxSim score of each modality alone, None where the moment has none of it; ``modality`` is the winning one.
    ``confidence`` in [0, 1] says how probably the moment answers the query, see
    :mod:`clamr_cli.search.confidence`. ``level`` is its level, or with :attr:`SearchOptions.floor` weak below the floor
    and at least fair from it on. ``approximate`` says that not all moments were compared: a better one may have been
    missed. ``offline`` says that no file of the video can be opened now. ``lines`` answer the query, the best first: at
    most one of each modality. ``tags`` are those that a person gave the video.
    """

    rank: int
    video_id: str
    moment_id: str
    path: str
    title: str
    score: float
    span: Span
    at: float
    modality: Modality | None
    modalities: Mapping[Modality, float | None]
    evidence: tuple[Evidence, ...]
    confidence: float = 1.0
    level: Level = Level.STRONG
    approximate: bool = False
    offline: bool = False
    lines: tuple[Line, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def opened_at(self) -> float:
        """The second to play the video from: that of the best line which has a time."""
        return next((line.start for line in self.lines if line.timed), self.at)

    @property
    def weak(self) -> bool:
        """Whether it probably does not answer the query."""
        return self.level is Level.WEAK


@dataclass(frozen=True, slots=True)
class WordEvidence:
    """The answers to one query word: the winning evidence, and the best of each modality.

    ``best`` is None only where nothing of the moment may answer.
    """

    query_token: str
    best: Evidence | None
    by_modality: Mapping[Modality, Evidence]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Score and rank of a video if a modality did not count for any video; None where nothing of it is left."""

    modality: Modality
    score: float | None
    rank: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The reasons for the rank of a video for a query.

    ``hit.rank`` is its rank among ``total`` videos. ``shares`` is the part of the score that each modality won, in
    [0, 1]; what is missing to 1 was won by tokens of no modality.
    """

    query: str
    hit: Hit
    total: int
    words: tuple[WordEvidence, ...]
    shares: Mapping[Modality, float]
    what_if: tuple[WhatIf, ...]


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """An item of the index about a video: a frame (no text), a sentence, a line on screen, a field of metadata."""

    modality: Modality
    span: Span
    text: str
    source: str = ""
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The content of the index about a video. ``entries`` are in time order; ``moments`` can be found.

    ``offline`` has the paths of those indexed files that cannot be opened now.
    """

    video: VideoRecord
    files: tuple[FileRecord, ...]
    moments: tuple[Span, ...]
    entries: tuple[TimelineEntry, ...]
    offline: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Workers of a Ray cluster that run an index run's tasks. ValueError where a number cannot be used.

    Attributes:
        address: of the cluster: ``auto`` for the one this machine belongs to, ``local`` to start one here.
        workers: how many; 0 for one on each node, or as many as its GPUs have room for.
        gpus_per_worker: of a node's GPUs: a part of one, or whole ones.
        cpus_per_worker: 0 for as many as a node has for each.
    """

    address: str = "auto"
    workers: int = 0
    gpus_per_worker: float = 0.0
    cpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.workers, self.gpus_per_worker, self.cpus_per_worker)
        if not self.address.strip() or not all(0 <= number <= 1_000_000 for number in numbers):
            raise ValueError("address is a text, and workers, gpus_per_worker and cpus_per_worker are 0 or more")
        if self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise ValueError("gpus_per_worker is a part of one GPU, or whole ones")
