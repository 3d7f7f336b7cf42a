"""What the encoder was given, as pictures and texts: a moment of a video, or any object or mapping with such fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from PIL import Image

from clamr_cli.encoders.clamr import audio
from clamr_cli.encoders.clamr.frames import open_frame
from clamr_cli.errors import UsageError
from clamr_cli.text import TextTrack
from clamr_cli.types import (
    DIMENSION,
    MAX_FRAMES,
    MODALITY_IDS,
    Document,
    Frame,
    Modality,
    Segment,
    Sound,
    Span,
    TokenVectors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clamr_cli.encoders.clamr.positions import Grid
    from clamr_cli.encoders.clamr.prompt import Prompt
    from clamr_cli.types import FloatArray

SEPARATORS: Final[Mapping[Modality, str]] = {Modality.OCR: "\n", Modality.SPEECH: " ", Modality.METADATA: "\n"}
_FIELDS: Final[Mapping[Modality, str]] = {
    Modality.OCR: "ocr",
    Modality.SPEECH: "asr",
    Modality.METADATA: "description",
}
_NOWHERE: Final = Span(0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One document's contents: frames with their times, a text track for every text modality there is."""

    span: Span
    images: tuple[Image.Image, ...]
    frame_spans: tuple[Span, ...]
    tracks: Mapping[Modality, TextTrack]
    sound: Sound | None = None

    @property
    def texts(self) -> dict[Modality, str | None]:
        """The text of each modality that is there."""
        return {modality: track.text for modality, track in self.tracks.items()}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to encode."""
        return not self.images and not self.tracks and self.sound is None


def silent(source: Source) -> Source:
    """Without its audio."""
    return replace(source, sound=None)


def split(source: Source) -> list[Source]:
    """One source per modality: the frames, then each text."""
    frames = [Source(source.span, source.images, source.frame_spans, {})] if source.images else []
    frames += [Source(source.span, (), (), {}, source.sound)] if source.sound is not None else []
    texts = [
        Source(source.span, (), (), {modality: source.tracks[modality]})
        for modality in SEPARATORS
        if modality in source.tracks
    ]
    return frames + texts


def source_of(document: object) -> Source:
    """Read a :class:`Document`, or a mapping or object with ``frames``, ``ocr``, ``asr`` and ``description``.

    ``frames`` are pictures, or None; the texts are strings, or None where the modality is absent; an empty string
    stands for one that is there and says nothing. Modalities of a :class:`Document` without segments are absent.

    Raises:
        UsageError: a field has another type, or there are more than ten frames.
        MediaError: a frame's bytes are no picture.
    """
    if isinstance(document, Document):
        frames: Sequence[object] = document.frames
        tracks = {
            modality: TextTrack.join(segments, separator)
            for modality, separator in SEPARATORS.items()
            if (segments := document.segments(modality))
        }
        return _source(document.span, frames, tracks, document.audio)
    frames = _field(document, "frames") or ()  # type: ignore[assignment]
    if not isinstance(frames, Sequence) or isinstance(frames, str | bytes):
        raise UsageError("the frames of a document are no list of pictures", "give PIL images, or None")
    tracks = {}
    for modality, name in _FIELDS.items():
        text = _field(document, name)
        if text is None:
            continue
        if not isinstance(text, str):
            raise UsageError(f"the field {name!r} of a document is no string", "give a string, or None")
        tracks[modality] = TextTrack.join((Segment(_NOWHERE, text),))
    return _source(_NOWHERE, frames, tracks, _sound(_field(document, "audio")))


def _field(document: object, name: str) -> object:
    """A field of a mapping or an object, None where it has none."""
    if isinstance(document, Mapping):
        return cast("object", document.get(name))
    return getattr(document, name, None)


def _sound(samples: object) -> Sound | None:
    """Samples that were given without a time: they start at 0."""
    if samples is None or isinstance(samples, Sound):
        return samples
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype not in (np.int16, np.float32):
        raise UsageError("the audio of a document is no array of samples", "give mono int16 or float32 at 16 kHz")
    if samples.dtype == np.float32:
        samples = (np.clip(samples, -1.0, 1.0) * np.float32(32767.0)).astype(np.int16)
    return Sound(Span(0.0, len(samples) / audio.RATE), samples)


def _source(span: Span, frames: Sequence[object], tracks: Mapping[Modality, TextTrack], sound: Sound | None) -> Source:
    if len(frames) > MAX_FRAMES:
        raise UsageError(f"a document has {len(frames)} frames", f"give {MAX_FRAMES} at most")
    images: list[Image.Image] = []
    spans: list[Span] = []
    for frame in frames:
        if not isinstance(frame, Frame | Image.Image):
            raise UsageError(f"a frame of a document is a {type(frame).__name__}", "give PIL images")
        images.append(open_frame(frame))
        spans.append(frame.span if isinstance(frame, Frame) else span)
    return Source(span, tuple(images), tuple(spans), tracks, sound)


def place_tokens(source: Source, prompt: Prompt, grid: Grid | None, vectors: FloatArray) -> TokenVectors:
    """Give every vector of a document its modality, time, segment and characters.

    Tokens that stand for no frame and no character (template, names of modalities, the video's opening marker) get the
    time of the whole document and segment -1.
    """
    count = len(prompt)
    spans = np.tile(np.asarray([source.span.start, source.span.end], dtype=np.float32), (count, 1))
    segments = np.full(count, -1, dtype=np.int32)
    offsets = np.zeros((count, 2), dtype=np.int32)
    if grid is not None:
        _place_video(source, prompt, grid, spans, segments)
    if source.sound is not None and prompt.audio_tokens:
        places = slice(prompt.audio_start, prompt.audio_start + prompt.audio_tokens)
        starts = source.sound.span.start + np.arange(prompt.audio_tokens) * audio.SECONDS_PER_TOKEN
        spans[places] = np.stack([starts, starts + audio.SECONDS_PER_TOKEN], axis=1)
    by_id = {MODALITY_IDS[modality]: track for modality, track in source.tracks.items()}
    for index, number in enumerate(prompt.modality_ids):
        track = by_id.get(int(number))
        place = track.locate(*map(int, prompt.characters[index])) if track is not None else None
        if place is not None:
            spans[index] = place.span.start, place.span.end
            segments[index] = place.segment
            offsets[index] = place.start, place.end
    return TokenVectors(vectors, prompt.modality_ids, spans, segments, offsets, prompt.input_ids.astype(np.int32))


def _place_video(
    source: Source, prompt: Prompt, grid: Grid, spans: NDArray[np.float32], segments: NDArray[np.int32]
) -> None:
    """Write frame indexes and times of the video's tokens: each step of time holds two frames, the last maybe one."""
    per_step = prompt.video_tokens // grid.time
    for step in range(grid.time):
        shown = source.frame_spans[2 * step : 2 * step + 2]
        first = prompt.video_start + step * per_step
        spans[first : first + per_step] = min(span.start for span in shown), max(span.end for span in shown)
        segments[first : first + per_step] = 2 * step


def query_vectors(prompt: Prompt, vectors: FloatArray) -> TokenVectors:
    """The vectors of a query; ``offsets`` are characters of the query."""
    count = len(prompt)
    return TokenVectors(
        vectors,
        prompt.modality_ids,
        np.zeros((count, 2), dtype=np.float32),
        np.full(count, -1, dtype=np.int32),
        prompt.characters,
        prompt.input_ids.astype(np.int32),
    )


def no_vectors(*, exact: bool) -> TokenVectors:
    """The result for a document without content: zero rows, of float32 where ``exact``, else float16."""
    rows = (0, DIMENSION)
    vectors: FloatArray = np.zeros(rows, dtype=np.float32) if exact else np.zeros(rows, dtype=np.float16)
    nothing = np.zeros(0, dtype=np.int32)
    pairs = np.zeros((0, 2), dtype=np.int32)
    return TokenVectors(vectors, nothing.astype(np.uint8), pairs.astype(np.float32), nothing, pairs, nothing)


def join(parts: Sequence[TokenVectors]) -> TokenVectors:
    """The vectors of several parts of one document, one after the other."""
    if len(parts) == 1:
        return parts[0]
    names = (field.name for field in fields(TokenVectors))
    return TokenVectors(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def drop_template(tokens: TokenVectors) -> TokenVectors:
    """Without the vectors that belong to no modality."""
    kept = tokens.modality_ids != 0
    return TokenVectors(
        tokens.vectors[kept],
        tokens.modality_ids[kept],
        tokens.spans[kept],
        tokens.segments[kept],
        tokens.offsets[kept],
        tokens.input_ids[kept],
    )
