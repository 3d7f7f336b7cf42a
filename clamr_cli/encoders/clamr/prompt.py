"""Documents and queries as CLaMR's model takes them: token ids, the modality and origin of each, frames and sound.

A document is a system line and one user turn: the video, then on-screen text, speech and description, each cut to its
own number of tokens and put in with its name. Modality labels follow character offsets in the finished prompt, so they
are right for every token, also where the published code's own counts drift.

Frames follow the published code with its frame helper of that time: every frame is resized on its own (bicubic, sides
in multiples of 28, 56x56 to 224x224 pixels in area, aspect kept), then stretched to the size of the first. Sound
becomes the log-mel features of Qwen2.5-Omni: 100 frames a second, four to a token.
"""

from __future__ import annotations

import bisect
import io
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Encoding, Tokenizer

from clamr_cli.errors import MediaError, ModelError, UsageError
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

PATCH: Final = 14  # pixels per side of a patch
MERGE: Final = 2  # patches per side of a video token
STEP: Final = 2
"""Frames per step of time. All Qwen2.5 have these three numbers."""

FACTOR: Final = PATCH * MERGE
MAX_PIXELS: Final = 224 * 224
MIN_PIXELS: Final = 4 * FACTOR * FACTOR
_DAMAGED: Final = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Exceptions of Pillow for data that is not a picture, that ends early, or that would fill the memory."""

SAMPLE_RATE: Final = 16_000
LONGEST_SOUND: Final = 30.0  # seconds of audio per document at most (CLaMR section 4); what is longer is cut
_SECONDS_PER_TOKEN: Final = 0.04
_HOP: Final = 160
_WINDOW: Final = 400

_HEAD: Final = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_TAIL: Final = "<|im_end|>\n"
_END_OF_TEXT: Final = "<|endoftext|>"
_QUERY: Final = "Query: "
_CHARACTERS_PER_TOKEN: Final = 512  # tokens are far shorter than this; it only spares reading what can never be kept
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOWHERE: Final = Span(0.0, 0.0)

VIDEO_TOKENS: Final = ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")
OMNI_VIDEO_TOKENS: Final = ("<|vision_bos|>", "<|VIDEO|>", "<|vision_eos|>")
OMNI_AUDIO_TOKENS: Final = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
"""Opening, one per vector, closing. Qwen2.5-VL takes no audio."""

TEXT_FIELDS: Final[Mapping[Modality, tuple[str, str, str]]] = {
    Modality.OCR: ("OCR: ", "ocr", "\n"),
    Modality.SPEECH: ("ASR: ", "asr", " "),
    Modality.METADATA: ("Description: ", "description", "\n"),
}
"""The text modalities in the order of the prompt: name in it, field of documents and limits, separator of segments."""


class Limits(NamedTuple):
    """Tokens at most: of each text modality with its prefix, and of a whole document."""

    ocr: int = 512
    asr: int = 512
    description: int = 512
    combined: int = 2048


class Grid(NamedTuple):
    """A video in patches: ``time`` pairs of frames, ``height`` and ``width`` in patches of the vision tower."""

    time: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """The number of tokens of the video."""
        return self.time * (self.height // MERGE) * (self.width // MERGE)

    @classmethod
    def of(cls, images: Sequence[Image.Image]) -> Grid:
        """The grid of a video of these frames; all have the size of the first."""
        wide, high = fitted_size(*images[0].size)
        return cls(-(-len(images) // STEP), high // PATCH, wide // PATCH)


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
                if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype not in ("i2", "f4"):
                    what = "invalid audio of a document: it must be an array of samples"
                    raise UsageError(what, "give mono int16 or float32 at 16 kHz")
                if samples.dtype == np.float32:
                    samples = (np.clip(samples, -1.0, 1.0) * np.float32(32767.0)).astype(np.int16)
                sound = Sound(Span(0.0, len(samples) / SAMPLE_RATE), samples)
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
            if isinstance(frame, Image.Image):
                images.append(frame)
                image_spans.append(span)
            elif isinstance(frame, Frame):
                try:
                    # Only opened here, decoded later.
                    images.append(Image.open(io.BytesIO(frame.jpeg)))
                except _DAMAGED as error:
                    what = f"the frame at {frame.time:.2f} s cannot be decoded"
                    raise MediaError(what, "index the video again") from error
                image_spans.append(frame.span)
            else:
                raise UsageError(f"invalid frame of a document: {type(frame).__name__}", "give PIL images")
        tracks = {
            modality: TextTrack.join(part, TEXT_FIELDS[modality][2]) for modality, part in segments.items() if part
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

    The first five are of each token, see :class:`TokenVectors`. Tokens that stand for no frame and no character
    (template, names of modalities, the video's opening marker) have the time of the whole document and segment -1.
    """

    input_ids: NDArray[np.int64]
    modality_ids: NDArray[np.uint8]
    spans: NDArray[np.float32]
    segments: NDArray[np.int32]
    offsets: NDArray[np.int32]
    video: range = range(0)  # indexes of the tokens of video
    audio: range = range(0)
    grid: Grid | None = None  # patches of the video
    images: tuple[Image.Image, ...] = ()  # its frames, opened but not decoded yet
    samples: NDArray[np.int16] | None = None  # mono audio at 16 kHz
    pixels: NDArray[np.uint8] | None = None  # the images decoded, see `pixels_of`
    features: NDArray[np.float32] | None = None  # log-mel features of the samples, see `audio_features`

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
            pixels=pixels_of(self.images) if self.images else None,
            features=None if self.samples is None else audio_features(self.samples),
        )

    def with_vectors(self, vectors: FloatArray) -> TokenVectors:
        """The result for vectors [n, 128], one per token."""
        ids = self.input_ids.astype(np.int32)
        return TokenVectors(vectors, self.modality_ids, self.spans, self.segments, self.offsets, ids)


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
        grid = Grid.of(content.images) if content.images else None
        samples = content.sound.samples[: int(LONGEST_SOUND * SAMPLE_RATE)] if content.sound else None
        streams = (
            (Modality.VIDEO, self._video_tokens, grid.tokens if grid else 0),
            (Modality.AUDIO, self._audio_tokens, 0 if samples is None else audio_tokens(len(samples))),
        )
        before = _HEAD + "".join("".join(tokens) for _, tokens, count in streams if count)
        parts = [self._part(modality, track.text, limits) for modality, track in content.tracks.items()]
        encoding = self._encode(before + "".join(text for text, _, _ in parts) + _TAIL)
        ids = np.asarray(encoding.ids, dtype=np.int64)
        # The modality of every token, and the characters of its source that it stands for.
        labels = np.zeros(len(ids), dtype=np.uint8)
        characters = np.zeros((len(ids), 2), dtype=np.int32)
        borders = np.cumsum([len(before), *(len(text) for text, _, _ in parts)]).tolist()
        modalities = [MODALITY_IDS[modality] for modality in content.tracks]
        for index, (first, last) in enumerate(encoding.offsets):
            number = bisect.bisect_right(borders, first) - 1
            if last > first and 0 <= number < len(parts):
                (text, starts, ends), border = parts[number], borders[number]
                labels[index] = modalities[number]
                start, end = _trim(text, first - border, min(last - border, len(text)))
                if start < end and ends[end - 1] > 0:
                    characters[index] = max(int(starts[start]), 0), ends[end - 1]
        # The one token that stands for a video or for audio is repeated for each of its vectors.
        places = []
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
            places.append(range(start, start + count))
        cut = slice(limits.combined)
        video, audio = places
        origins = _origins(content, labels[cut], characters[cut], grid, video, audio)
        return EncoderInput(ids[cut], labels[cut], *origins, video, audio, grid, content.images, samples)

    def alone(self, content: Content, limits: Limits) -> EncoderInput:
        """The prompt of a content of one modality: a text without template, its name of that modality too."""
        if not content.tracks:
            return self.document(content, limits)
        ((modality, track),) = content.tracks.items()
        prefix, name, _ = TEXT_FIELDS[modality]
        source, limit = prefix + track.text, getattr(limits, name)
        encoding = self._encode(source[: limit * _CHARACTERS_PER_TOKEN])
        ids = np.asarray(encoding.ids[:limit], dtype=np.int64)
        stretches = [_trim(source, max(start, len(prefix)), end) for start, end in encoding.offsets[:limit]]
        characters = np.asarray(stretches, dtype=np.int32).reshape(-1, 2)
        characters[characters[:, 1] > 0] -= len(prefix)
        labels = np.full(len(ids), MODALITY_IDS[modality], dtype=np.uint8)
        return EncoderInput(ids, labels, *_origins(content, labels, characters))

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

    def _part(self, modality: Modality, text: str, limits: Limits) -> tuple[str, NDArray[np.int64], NDArray[np.int64]]:
        """A text as it stands in the prompt: a space, its name, and what its tokens leave of it, no special tokens.

        Also first and last source character behind each of its characters; negative in the name.
        """
        prefix, name, _ = TEXT_FIELDS[modality]
        limit = getattr(limits, name)
        decoded, starts, ends = self._cut(prefix + text, limit)
        if any(token in decoded for token in self._special.values()):
            # Pieces of special tokens that joined into a new one when another was taken out of their middle.
            decoded, starts, ends = self._cut(prefix + text.replace("<|", "<¦"), limit)
        before = np.asarray([-1], dtype=np.int64)
        starts, ends = (np.concatenate([before, places - len(prefix)]) for places in (starts, ends))
        return " " + decoded, starts, ends

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


def _origins(
    content: Content,
    labels: NDArray[np.uint8],
    characters: NDArray[np.int32],
    grid: Grid | None = None,
    video: range = range(0),
    audio: range = range(0),
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Spans, segments and offsets of the tokens of a document, see :class:`TokenVectors`.

    From ``labels`` [n], their modality ids, ``characters`` [n, 2] in the text of that modality ((0, 0) where a token
    came from no character), and the indexes of the tokens of video and audio.
    """
    spans = np.tile(np.asarray([content.span.start, content.span.end], dtype=np.float32), (len(labels), 1))
    segments = np.full(len(labels), -1, dtype=np.int32)
    offsets = np.zeros((len(labels), 2), dtype=np.int32)
    if grid is not None:
        per_step = grid.tokens // grid.time
        for step in range(grid.time):
            shown = content.image_spans[STEP * step : STEP * (step + 1)]
            first = video.start + step * per_step
            spans[first : first + per_step] = min(span.start for span in shown), max(span.end for span in shown)
            segments[first : first + per_step] = STEP * step
    if content.sound is not None and audio:
        times = content.sound.span.start + np.arange(len(audio)) * _SECONDS_PER_TOKEN
        spans[audio.start : audio.stop] = np.stack([times, times + _SECONDS_PER_TOKEN], axis=1)
    tracks = {MODALITY_IDS[modality]: track for modality, track in content.tracks.items()}
    for index, number in enumerate(labels.tolist()):
        track = tracks.get(number)
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


def fitted_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in multiples of 28 near the aspect given, within the pixel budget.

    Frames narrower than the budget allows keep 28 on their short side instead of being refused.
    """
    high, wide = (max(FACTOR, round(side / FACTOR) * FACTOR) for side in (height, width))
    if high * wide > MAX_PIXELS:
        shrink = math.sqrt(height * width / MAX_PIXELS)
        # A very long side would exceed the budget once the short side is held at one factor.
        longest = MAX_PIXELS // FACTOR // FACTOR * FACTOR
        high, wide = (
            min(longest, max(FACTOR, math.floor(side / shrink / FACTOR) * FACTOR)) for side in (height, width)
        )
    elif high * wide < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (height * width))
        high, wide = (math.ceil(side * grow / FACTOR) * FACTOR for side in (height, width))
    return wide, high


def pixels_of(images: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Pixels [frames, 3, height, width], an even number of frames: the last is repeated where they are odd.

    Raises:
        MediaError: a frame is damaged.
    """
    arrays: list[NDArray[np.uint8]] = []
    try:
        for image in images:
            if image.mode == "RGBA":
                colour = Image.new("RGB", image.size, (255, 255, 255))
                colour.paste(image, mask=image.getchannel("A"))
            else:
                colour = image.convert("RGB")
            resized = colour.resize(fitted_size(*colour.size), Image.Resampling.BICUBIC)
            arrays.append(np.ascontiguousarray(np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1)))
    except _DAMAGED as error:
        raise MediaError("a frame cannot be decoded", "index the video again") from error
    for index, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            import torch
            from torchvision.transforms import v2

            # Torchvision's antialiased bicubic filter, which differs from Pillow's.
            stretch = v2.Resize(arrays[0].shape[1:], interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
            arrays[index] = np.asarray(stretch(torch.from_numpy(array)).numpy(), dtype=np.uint8)
    return np.stack([*arrays, arrays[-1]] if len(arrays) % STEP else arrays)


def audio_tokens(samples: int) -> int:
    """Tokens that this many samples become; 750 for 30 seconds, 0 for less than 40 ms."""
    frames = -(-samples // _HOP)
    return max(0, ((frames - 1) // 2 + 1 - 2) // 2 + 1) if frames else 0


def audio_features(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Log-mel features [128, frames] float32 of mono samples at 16 kHz, as Whisper computes them."""
    wave = samples.astype(np.float32) / 32768.0
    # Silence behind the end keeps the last frames as they are where audio is padded to a longer window.
    extracted = _extractor()(
        np.pad(wave, (0, _WINDOW)), sampling_rate=SAMPLE_RATE, return_tensors="np", padding="longest", truncation=False
    )
    return np.asarray(extracted["input_features"][0][:, : -(-len(wave) // _HOP)], dtype=np.float32)


@cache
def _extractor() -> Any:  # noqa: ANN401 -- a class of transformers
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=128, sampling_rate=SAMPLE_RATE, hop_length=_HOP, n_fft=_WINDOW)
