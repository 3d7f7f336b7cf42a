"""Documents and queries as CLaMR's prompts: token ids, the modality of each, and what each stands for.

A document is a system line and one user turn: the video, then on-screen text, speech and description, each cut to its
own number of tokens and put in with its name. Modality labels follow character offsets in the finished prompt, so they
are right for every token, also where the published code's own counts drift.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Encoding, Tokenizer

from clamr_cli.encoders.clamr import media
from clamr_cli.encoders.clamr.media import Grid
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.text import TextTrack
from clamr_cli.types import (
    MAX_FRAMES,
    MODALITY_IDS,
    NO_MODALITY,
    Document,
    Frame,
    Modality,
    Segment,
    Sound,
    Span,
    TokenVectors,
)

if TYPE_CHECKING:
    from clamr_cli.types import FloatArray

_HEAD: Final = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_TAIL: Final = "<|im_end|>\n"
_END_OF_TEXT: Final = "<|endoftext|>"
_QUERY: Final = "Query: "
_CHARACTERS_PER_TOKEN: Final = 512
"""Tokens are far shorter than this; it only spares reading what can never be kept."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOWHERE: Final = Span(0.0, 0.0)
_SAMPLE_TYPES: Final = (np.int16, np.float32)

VIDEO_TOKENS: Final = ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")
OMNI_VIDEO_TOKENS: Final = ("<|vision_bos|>", "<|VIDEO|>", "<|vision_eos|>")
OMNI_AUDIO_TOKENS: Final = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
"""Opening, one per vector, closing. Qwen2.5-VL takes no audio."""


class TextField(NamedTuple):
    """A text modality: its name in the prompt, its field of documents and limits, what separates its segments."""

    prefix: str
    name: str
    separator: str


TEXT_FIELDS: Final[Mapping[Modality, TextField]] = {
    Modality.OCR: TextField("OCR: ", "ocr", "\n"),
    Modality.SPEECH: TextField("ASR: ", "asr", " "),
    Modality.METADATA: TextField("Description: ", "description", "\n"),
}
"""The text modalities in the order of the prompt."""


class Limits(NamedTuple):
    """Tokens at most: of each text modality with its prefix, and of a whole document."""

    ocr: int = 512
    asr: int = 512
    description: int = 512
    combined: int = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """The content of one document: pictures and their times, a text track for every text modality, sound."""

    span: Span
    images: tuple[Image.Image, ...] = ()
    image_spans: tuple[Span, ...] = ()
    tracks: Mapping[Modality, TextTrack] = field(default_factory=dict)
    sound: Sound | None = None

    @classmethod
    def of(cls, document: object) -> Content:
        """Read a :class:`Document`, or a mapping or object with ``frames``, ``ocr``, ``asr`` and ``description``.

        ``frames`` are pictures, or None; the texts are strings, or None where the modality is absent; an empty string
        stands for one that is there and says nothing. Modalities of a :class:`Document` without segments are absent.

        Raises:
            UsageError: a field has another type, or there are more than ten frames.
            MediaError: a frame's bytes are not a picture.
        """
        segments: dict[Modality, Sequence[Segment]] = {}
        frames: Sequence[object]
        if isinstance(document, Document):
            span, sound, frames = document.span, document.audio, document.frames
            segments = {modality: document.segments(modality) for modality in TEXT_FIELDS}
        else:
            get: Callable[[str], Any] = (
                document.get if isinstance(document, Mapping) else lambda name: getattr(document, name, None)
            )
            span, samples, frames = _NOWHERE, get("audio"), get("frames") or ()
            sound = samples if isinstance(samples, Sound) else None
            if samples is not None and sound is None:
                if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype not in _SAMPLE_TYPES:
                    what = "invalid audio of a document: it must be an array of samples"
                    raise UsageError(what, "give mono int16 or float32 at 16 kHz")
                if samples.dtype == np.float32:
                    samples = (np.clip(samples, -1.0, 1.0) * np.float32(32767.0)).astype(np.int16)
                sound = Sound(Span(0.0, len(samples) / media.SAMPLE_RATE), samples)
            if not isinstance(frames, Sequence) or isinstance(frames, str | bytes):
                raise UsageError("invalid frames: they must be a list of pictures", "give PIL images, or None")
            for modality, (_, name, _) in TEXT_FIELDS.items():
                text = get(name)
                if not isinstance(text, str | None):
                    what = f"invalid field {name!r} of a document: it must be a string"
                    raise UsageError(what, "give a string, or None")
                segments[modality] = () if text is None else (Segment(_NOWHERE, text),)
        if len(frames) > MAX_FRAMES:
            raise UsageError(f"invalid document: it has {len(frames)} frames", f"give {MAX_FRAMES} at most")
        images, image_spans = [], []
        for frame in frames:
            if not isinstance(frame, Frame | Image.Image):
                raise UsageError(f"invalid frame of a document: {type(frame).__name__}", "give PIL images")
            images.append(media.open_frame(frame))
            image_spans.append(frame.span if isinstance(frame, Frame) else span)
        tracks = {
            modality: TextTrack.join(part, TEXT_FIELDS[modality].separator)
            for modality, part in segments.items()
            if part
        }
        return cls(span, tuple(images), tuple(image_spans), tracks, sound)

    def split(self) -> list[Content]:
        """One content per modality: the frames, the audio, then each text."""
        parts = [Content(self.span, self.images, self.image_spans)] if self.images else []
        parts += [Content(self.span, sound=self.sound)] if self.sound is not None else []
        return parts + [Content(self.span, tracks={modality: track}) for modality, track in self.tracks.items()]


@dataclass(frozen=True, slots=True, eq=False)
class EncoderInput:
    """A document or query of n tokens as it goes into the model: what its tokens stand for, and its media.

    Attributes:
        input_ids: [n] int64.
        modality_ids, spans, segments, offsets: of each token, see :class:`TokenVectors`. Tokens that stand for no frame
            and no character (template, names of modalities, the video's opening marker) have the time of the whole
            document and segment -1.
        video_start, video_tokens: index of the first video token, and how many there are.
        audio_start, audio_tokens: the same of audio.
        grid: patches of the video, None without one.
        images: frames of the video, opened but not decoded yet.
        samples: mono audio at 16 kHz, int16, None without audio.
        pixels: the images decoded, see :func:`media.pixels_of`.
        features: log-mel features of the samples, see :func:`media.audio_features`.
    """

    input_ids: NDArray[np.int64]
    modality_ids: NDArray[np.uint8]
    spans: NDArray[np.float32]
    segments: NDArray[np.int32]
    offsets: NDArray[np.int32]
    video_start: int = 0
    video_tokens: int = 0
    audio_start: int = 0
    audio_tokens: int = 0
    grid: Grid | None = None
    images: tuple[Image.Image, ...] = ()
    samples: NDArray[np.int16] | None = None
    pixels: NDArray[np.uint8] | None = None
    features: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def decoded(self) -> EncoderInput:
        """The same input with its media decoded.

        Raises:
            MediaError: a frame is damaged.
        """
        if not self.images and self.samples is None:
            return self
        return replace(
            self,
            pixels=media.pixels_of(self.images) if self.images else None,
            features=None if self.samples is None else media.audio_features(self.samples),
        )

    def with_vectors(self, vectors: FloatArray) -> TokenVectors:
        """The result for vectors [n, 128], one per token."""
        ids = self.input_ids.astype(np.int32)
        return TokenVectors(vectors, self.modality_ids, self.spans, self.segments, self.offsets, ids)


class _Part(NamedTuple):
    """A text in the prompt: a space, the modality's name and what is left of the text.

    ``starts``/``ends`` [len(text)] index the characters of the source behind those of the text; negative in the name.
    """

    modality: Modality
    text: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class Prompter:
    """Builds prompts with one tokenizer (a byte-level BPE with Qwen's special tokens); without audio tokens no audio.

    Raises:
        ModelError: the tokenizer lacks one of the special tokens.
    """

    def __init__(
        self, tokenizer: Tokenizer, video_tokens: Sequence[str] = VIDEO_TOKENS, audio_tokens: Sequence[str] = ()
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        needed = (*video_tokens, *audio_tokens, _END_OF_TEXT, "<|im_start|>", "<|im_end|>")
        if absent := [token for token in needed if tokenizer.token_to_id(token) is None]:
            raise ModelError(f"the tokenizer lacks {', '.join(absent)}", "use the tokenizer of the base model")
        self._video_tokens, self._audio_tokens = video_tokens, audio_tokens
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = {number: token.content for number, token in added.items() if token.special}
        self._added_bytes = {number: len(token.content.encode()) for number, token in added.items()}

    def document(self, content: Content, limits: Limits) -> EncoderInput:
        """The prompt of a document; an empty text leaves only its name.

        Raises:
            UsageError: the limit of the whole document leaves no room for its frames and audio.
        """
        parts = [self._part(modality, track.text, limits) for modality, track in content.tracks.items()]
        grid = Grid.of(content.images) if content.images else None
        samples = content.sound.samples[: int(media.LONGEST_SOUND * media.SAMPLE_RATE)] if content.sound else None
        streams = (
            (Modality.VIDEO, self._video_tokens, grid.tokens if grid else 0),
            (Modality.AUDIO, self._audio_tokens, 0 if samples is None else media.audio_tokens(len(samples))),
        )
        before = _HEAD + "".join("".join(tokens) for _, tokens, count in streams if count)
        encoding = self._encode(before + "".join(part.text for part in parts) + _TAIL)
        labels, characters = _label(encoding, parts, len(before))
        ids = np.asarray(encoding.ids, dtype=np.int64)
        starts = []
        for modality, tokens, count in streams:
            start = 0
            if count:
                start = int(np.flatnonzero(ids == self._tokenizer.token_to_id(tokens[1]))[0])
                # The opening marker counts as video, the closing one as template, as in the published labels.
                labels[start - 1 : start + 1] = MODALITY_IDS[modality]
                repeats = np.ones(len(ids), dtype=np.int64)
                repeats[start] = count
                ids, labels = np.repeat(ids, repeats), np.repeat(labels, repeats)
                characters = np.repeat(characters, repeats, axis=0)
                if start + count + 1 > limits.combined:
                    what = " and ".join(f"{number} {stream} tokens" for stream, _, number in streams if number)
                    hint = "raise max_combined_tokens"
                    raise UsageError(f"a limit of {limits.combined} tokens has no room for {what}", hint)
            starts.append(start)
        cut = slice(limits.combined)
        (_, _, video_count), (_, _, audio_count) = streams
        return EncoderInput(
            ids[cut],
            labels[cut],
            *_places(content, labels[cut], characters[cut], grid, starts, audio_count),
            starts[0],
            video_count,
            starts[1],
            audio_count,
            grid,
            content.images,
            samples,
        )

    def text_alone(self, content: Content, limits: Limits) -> EncoderInput:
        """The one text of a content by itself, without template: its name and text, all of it of that modality."""
        ((modality, track),) = content.tracks.items()
        prefix, name, _ = TEXT_FIELDS[modality]
        source, limit = prefix + track.text, getattr(limits, name)
        encoding = self._encode(source[: limit * _CHARACTERS_PER_TOKEN])
        ids = np.asarray(encoding.ids[:limit], dtype=np.int64)
        stretches = [_trim(source, max(start, len(prefix)), end) for start, end in encoding.offsets[:limit]]
        characters = np.asarray(stretches, dtype=np.int32).reshape(-1, 2)
        characters[characters[:, 1] > 0] -= len(prefix)
        labels = np.full(len(ids), MODALITY_IDS[modality], dtype=np.uint8)
        return EncoderInput(ids, labels, *_places(content, labels, characters))

    def query(self, text: str, limit: int) -> EncoderInput:
        """The prompt of a query: its name, its text, ten end-of-text tokens, cut on the right at ``limit`` tokens."""
        encoding = self._encode(_QUERY + text + _END_OF_TEXT * 10)
        ids = np.asarray(encoding.ids[:limit], dtype=np.int64)
        stretches = [
            _trim(text, max(start - len(_QUERY), 0), min(end - len(_QUERY), len(text)))
            for start, end in encoding.offsets[:limit]
        ]
        return EncoderInput(
            ids,
            np.full(len(ids), NO_MODALITY, dtype=np.uint8),
            np.zeros((len(ids), 2), dtype=np.float32),
            np.full(len(ids), -1, dtype=np.int32),
            np.asarray(stretches, dtype=np.int32).reshape(-1, 2),
        )

    def _encode(self, text: str) -> Encoding:
        # Undecodable bytes in a name or tag arrive as lone surrogates, which no tokenizer takes.
        return self._tokenizer.encode(_SURROGATE.sub("\ufffd", text), add_special_tokens=False)

    def _part(self, modality: Modality, text: str, limits: Limits) -> _Part:
        """Cut a text to its tokens (name included), without special tokens."""
        prefix, name, _ = TEXT_FIELDS[modality]
        limit = getattr(limits, name)
        decoded, starts, ends = self._cut(prefix + text, limit)
        if any(token in decoded for token in self._special.values()):
            # Pieces of special tokens that joined into a new one when another was taken out of their middle.
            decoded, starts, ends = self._cut(prefix + text.replace("<|", "<¦"), limit)
        before = np.asarray([-1], dtype=np.int64)
        starts, ends = (np.concatenate([before, places - len(prefix)]) for places in (starts, ends))
        return _Part(modality, " " + decoded, starts, ends)

    def _cut(self, source: str, limit: int) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
        """Text of the first ``limit`` tokens of a source, and the source characters behind each character of it."""
        encoding = self._encode(source[: limit * _CHARACTERS_PER_TOKEN])
        tokens = zip(encoding.ids[:limit], encoding.offsets[:limit], strict=True)
        plain = [(number, offsets) for number, offsets in tokens if number not in self._special]
        ids = [number for number, _ in plain]
        decoded = self._tokenizer.decode(ids, skip_special_tokens=True)
        if decoded == source[: len(decoded)]:
            starts = np.arange(len(decoded), dtype=np.int64)
            return decoded, starts, starts + 1
        # As exact as a token: by the bytes that each token stands for, one character per byte.
        sizes = [self._added_bytes.get(number) or len(self._tokenizer.id_to_token(number) or "") for number in ids]
        token_of_byte = np.repeat(np.arange(len(ids)), sizes)
        lengths = np.asarray([len(character.encode()) for character in decoded], dtype=np.int64)
        first = np.cumsum(lengths) - lengths
        token = token_of_byte[np.minimum(first, len(token_of_byte) - 1)]
        places = np.asarray([offsets for _, offsets in plain], dtype=np.int64)[token]
        ends = places[:, 1].copy()
        for index, end in enumerate(ends.tolist()):
            # Composing swallows accents that follow their letter; they belong to it.
            while end < len(source) and unicodedata.combining(source[end]):
                end += 1
            ends[index] = end
        return decoded, places[:, 0], ends


def _label(
    encoding: Encoding, parts: Sequence[_Part], first_border: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Modality [n] and source characters [n, 2] of every token, from where its characters stand in the prompt."""
    borders = [first_border]
    for part in parts:
        borders.append(borders[-1] + len(part.text))
    labels = np.zeros(len(encoding.ids), dtype=np.uint8)
    characters = np.zeros((len(encoding.ids), 2), dtype=np.int32)
    for place, (first, last) in enumerate(encoding.offsets):
        number = bisect.bisect_right(borders, first) - 1
        if last > first and 0 <= number < len(parts):
            part, border = parts[number], borders[number]
            labels[place] = MODALITY_IDS[part.modality]
            start, end = _trim(part.text, first - border, min(last - border, len(part.text)))
            if start < end and part.ends[end - 1] > 0:
                characters[place] = max(int(part.starts[start]), 0), part.ends[end - 1]
    return labels, characters


def _places(
    content: Content,
    labels: NDArray[np.uint8],
    characters: NDArray[np.int32],
    grid: Grid | None = None,
    starts: Sequence[int] = (0, 0),
    audio_tokens: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Spans, segments and offsets of the tokens of a document, see :class:`TokenVectors`.

    From ``labels`` [n], their modality ids, ``characters`` [n, 2] in the text of that modality ((0, 0) where a token
    came from no character), and ``starts``, the indexes of the first tokens of video and audio.
    """
    spans = np.tile(np.asarray([content.span.start, content.span.end], dtype=np.float32), (len(labels), 1))
    segments = np.full(len(labels), -1, dtype=np.int32)
    offsets = np.zeros((len(labels), 2), dtype=np.int32)
    if grid is not None:
        per_step = grid.tokens // grid.time
        for step in range(grid.time):
            shown = content.image_spans[media.STEP * step : media.STEP * (step + 1)]
            first = starts[0] + step * per_step
            spans[first : first + per_step] = min(span.start for span in shown), max(span.end for span in shown)
            segments[first : first + per_step] = media.STEP * step
    if content.sound is not None and audio_tokens:
        times = content.sound.span.start + np.arange(audio_tokens) * media.SECONDS_PER_TOKEN
        spans[starts[1] : starts[1] + audio_tokens] = np.stack([times, times + media.SECONDS_PER_TOKEN], axis=1)
    tracks = {MODALITY_IDS[modality]: track for modality, track in content.tracks.items()}
    for index, number in enumerate(labels):
        track = tracks.get(int(number))
        place = track.locate(*map(int, characters[index])) if track is not None else None
        if place is not None:
            spans[index] = place.span.start, place.span.end
            segments[index] = place.segment
            offsets[index] = place.start, place.end
    return spans, segments, offsets


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """``start`` and ``end`` without the whitespace inside; (0, 0) where nothing is left."""
    piece = text[start:end] if start < end else ""
    if not piece.strip():
        return 0, 0
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
