"""Documents and queries as CLaMR's prompts: token ids, the modality of each, and which characters each came from.

A document is a system line and one user turn: the video, then on-screen text, speech and description, each cut to its
own number of tokens and put in with its name. Modality labels follow character offsets in the finished prompt, so they
are right for every token, also where the published code's own counts drift. :func:`place_tokens` gives every vector its
time, segment and characters.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np
from PIL import Image

from clamr_cli.encoders.clamr import audio
from clamr_cli.encoders.clamr.vision import Grid, open_frame
from clamr_cli.errors import ModelError, UsageError
from clamr_cli.text import TextTrack
from clamr_cli.types import (
    DIMENSION,
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
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    from clamr_cli.types import FloatArray

END_OF_TEXT: Final = "<|endoftext|>"
_HEAD: Final = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_TAIL: Final = "<|im_end|>\n"
_CHARACTERS_PER_TOKEN: Final = 512
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_QUERY: Final = "Query: "
_QUERY_TAIL: Final = END_OF_TEXT * 10

TEXTS: Final[Mapping[Modality, str]] = {
    Modality.OCR: "OCR: ",
    Modality.SPEECH: "ASR: ",
    Modality.METADATA: "Description: ",
}
"""The text modalities in the order of the prompt, with their names in it."""

SEPARATORS: Final[Mapping[Modality, str]] = {Modality.OCR: "\n", Modality.SPEECH: " ", Modality.METADATA: "\n"}
_FIELDS: Final[Mapping[Modality, str]] = {
    Modality.OCR: "ocr",
    Modality.SPEECH: "asr",
    Modality.METADATA: "description",
}
_NOWHERE: Final = Span(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Tokens of a video and of audio: opening, one per vector, closing. Without audio the second is empty."""

    video: tuple[str, str, str] = ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")
    audio: tuple[str, ...] = ()


OMNI_TOKENS: Final = SpecialTokens(
    ("<|vision_bos|>", "<|VIDEO|>", "<|vision_eos|>"), ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
)
"""The names that Qwen2.5-Omni has for them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens at most: of each text modality with its prefix, and of a whole document."""

    ocr: int = 512
    asr: int = 512
    description: int = 512
    combined: int = 2048

    def of(self, modality: Modality) -> int:
        """The limit of a text modality."""
        by_modality = {Modality.OCR: self.ocr, Modality.SPEECH: self.asr, Modality.METADATA: self.description}
        return by_modality[modality]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A tokenised document or query of n tokens.

    Attributes:
        input_ids: [n] int64.
        modality_ids: [n] uint8, see :data:`clamr_cli.types.MODALITY_IDS`; 0 is the template.
        characters: [n, 2] int32, start and end in the text of the token's modality (in the query for queries),
            whitespace around left out; (0, 0) where a token came from no character of it.
        video_start: index of the first video token.
        video_tokens: how many there are.
        audio_start, audio_tokens: the same of audio.
    """

    input_ids: NDArray[np.int64]
    modality_ids: NDArray[np.uint8]
    characters: NDArray[np.int32]
    video_start: int = 0
    video_tokens: int = 0
    audio_start: int = 0
    audio_tokens: int = 0

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class EncoderInput:
    """A document or query as it goes into the model: its prompt, and the media of its video and audio tokens.

    Attributes:
        prompt: the tokens.
        grid: patches of the video, None without one.
        images: frames of the video, opened but not decoded yet.
        samples: mono audio at 16 kHz, int16, None without audio.
    """

    prompt: Prompt
    grid: Grid | None = None
    images: tuple[Image.Image, ...] = ()
    samples: NDArray[np.int16] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """The content of one document: frames with their times, a text track for every text modality that it has."""

    span: Span
    images: tuple[Image.Image, ...]
    frame_spans: tuple[Span, ...]
    tracks: Mapping[Modality, TextTrack]
    sound: Sound | None = None

    @property
    def texts(self) -> dict[Modality, str | None]:
        """The text of each modality that is there."""
        return {modality: track.text for modality, track in self.tracks.items()}

    def without_audio(self) -> Content:
        """The same content without its audio."""
        return replace(self, sound=None)

    def split(self) -> list[Content]:
        """One content per modality: the frames, the audio, then each text."""
        parts = [Content(self.span, self.images, self.frame_spans, {})] if self.images else []
        parts += [Content(self.span, (), (), {}, self.sound)] if self.sound is not None else []
        tracks = [(modality, self.tracks[modality]) for modality in TEXTS if modality in self.tracks]
        return parts + [Content(self.span, (), (), {modality: track}) for modality, track in tracks]

    @property
    def empty(self) -> bool:
        """True if there is nothing to encode."""
        return not self.images and not self.tracks and self.sound is None


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A text modality in the prompt: its text as it stands there, and the source characters behind each of its own.

    ``starts``/``ends`` [len(text)] index the source text (without the prefix); negative in the prefix.
    """

    modality: Modality
    text: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class Prompter:
    """Builds prompts with one tokenizer (a byte-level BPE with Qwen's special tokens).

    Raises:
        ModelError: the tokenizer lacks one of the special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, special_tokens: SpecialTokens | None = None) -> None:
        self._special_tokens = special_tokens or SpecialTokens()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        needed = (*self._special_tokens.video, *self._special_tokens.audio, END_OF_TEXT, "<|im_start|>", "<|im_end|>")
        absent = [token for token in needed if tokenizer.token_to_id(token) is None]
        if absent:
            raise ModelError(f"the tokenizer lacks {', '.join(absent)}", "use the tokenizer of the base model")
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = frozenset(number for number, token in added.items() if token.special)
        self._special_texts = tuple(token.content for token in added.values() if token.special)
        self._added = {number: len(token.content.encode()) for number, token in added.items()}

    def document(
        self, texts: Mapping[Modality, str | None], video_tokens: int, limits: Limits, audio_tokens: int = 0
    ) -> Prompt:
        """The prompt of a document; a text of None is left out, an empty one leaves only its name.

        Raises:
            UsageError: the limit of the whole document leaves no room for its frames and audio.
        """
        parts = [
            self._part(modality, text, limits.of(modality))
            for modality in TEXTS
            if (text := texts.get(modality)) is not None
        ]
        video = "".join(self._special_tokens.video) if video_tokens else ""
        audio = "".join(self._special_tokens.audio) if audio_tokens else ""
        encoding = self._encode(_HEAD + video + audio + "".join(part.text for part in parts) + _TAIL)
        labels, characters = self._label(encoding, parts, len(_HEAD) + len(video) + len(audio))
        plain = Prompt(np.asarray(encoding.ids, dtype=np.int64), labels, characters)
        whole, video_start = self._repeated(plain, self._special_tokens.video, video_tokens, Modality.VIDEO)
        whole, audio_start = self._repeated(whole, self._special_tokens.audio, audio_tokens, Modality.AUDIO)
        cut = limits.combined
        if max(video_start + video_tokens + bool(video_tokens), audio_start + audio_tokens + bool(audio_tokens)) > cut:
            what = f"{video_tokens} video tokens" + (f" and {audio_tokens} audio tokens" if audio_tokens else "")
            raise UsageError(f"a limit of {cut} tokens has no room for {what}", "raise max_combined_tokens")
        return Prompt(
            whole.input_ids[:cut],
            whole.modality_ids[:cut],
            whole.characters[:cut],
            video_start,
            video_tokens,
            audio_start,
            audio_tokens,
        )

    def _repeated(self, prompt: Prompt, tokens: tuple[str, ...], count: int, modality: Modality) -> tuple[Prompt, int]:
        """Repeat the token between an opening and a closing one ``count`` times; the prompt and the first index."""
        if not count:
            return prompt, 0
        start = int(np.flatnonzero(prompt.input_ids == self._tokenizer.token_to_id(tokens[1]))[0])
        labels = prompt.modality_ids.copy()
        # The opening marker counts as video, the closing one as template, as in the published labels.
        labels[start - 1 : start + 1] = MODALITY_IDS[modality]
        repeats = np.ones(len(prompt), dtype=np.int64)
        repeats[start] = count
        ids, labels = np.repeat(prompt.input_ids, repeats), np.repeat(labels, repeats)
        return Prompt(ids, labels, np.repeat(prompt.characters, repeats, axis=0)), start

    def text_alone(self, modality: Modality, text: str, limit: int) -> Prompt:
        """One text modality by itself, without template: its name and text, all of it of that modality."""
        source = TEXTS[modality] + text
        encoding = self._encode(source[: limit * _CHARACTERS_PER_TOKEN])
        ids = np.asarray(encoding.ids[:limit], dtype=np.int64)
        prefix = len(TEXTS[modality])
        places = [_trimmed(source, max(start, prefix), end) for start, end in encoding.offsets[:limit]]
        characters = np.asarray(places, dtype=np.int32).reshape(-1, 2)
        characters[characters[:, 1] > 0] -= prefix
        return Prompt(ids, np.full(len(ids), MODALITY_IDS[modality], dtype=np.uint8), characters)

    def query(self, text: str, limit: int) -> Prompt:
        """The prompt of a query: its name, its text, ten end-of-text tokens, cut on the right at ``limit`` tokens."""
        encoding = self._encode(_QUERY + text + _QUERY_TAIL)
        offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)[:limit] - len(_QUERY)
        ids = np.asarray(encoding.ids[:limit], dtype=np.int64)
        places = [_trimmed(text, max(int(start), 0), min(int(end), len(text))) for start, end in offsets]
        characters = np.asarray(places, dtype=np.int32).reshape(-1, 2)
        return Prompt(ids, np.full(len(ids), NO_MODALITY, dtype=np.uint8), characters)

    def _encode(self, text: str) -> Encoding:
        # Undecodable bytes in a name or tag arrive as lone surrogates, which no tokenizer takes.
        return self._tokenizer.encode(_SURROGATE.sub("\ufffd", text), add_special_tokens=False)

    def _part(self, modality: Modality, text: str, limit: int) -> _Part:
        """Cut a text to its tokens (prefix included) and write it as the prompt has it: a space, then what is left."""
        prefix = TEXTS[modality]
        part = self._decoded(modality, prefix + text, len(prefix), limit)
        if any(token in part.text for token in self._special_texts):
            # Pieces of special tokens that joined into a new one when another was taken out of their middle.
            part = self._decoded(modality, prefix + text.replace("<|", "<¦"), len(prefix), limit)
        return part

    def _decoded(self, modality: Modality, source: str, prefix: int, limit: int) -> _Part:
        # Tokens are far shorter than this; it only spares reading what can never be kept.
        encoding = self._encode(source[: limit * _CHARACTERS_PER_TOKEN])
        pairs = zip(encoding.ids[:limit], encoding.offsets[:limit], strict=True)
        plain = [(number, offsets) for number, offsets in pairs if number not in self._special]
        ids = [number for number, _ in plain]
        decoded = self._tokenizer.decode(ids, skip_special_tokens=True)
        if decoded == source[: len(decoded)]:
            starts = np.arange(len(decoded), dtype=np.int64)
            ends = starts + 1
        else:
            starts, ends = self._align(decoded, ids, [offsets for _, offsets in plain])
            # Composing swallows accents that follow their letter; they belong to it.
            ends += np.asarray([_accents(source, int(end)) for end in ends], dtype=np.int64)
        before = np.asarray([-1], dtype=np.int64)
        return _Part(
            modality,
            " " + decoded,
            np.concatenate([before, starts - prefix]),
            np.concatenate([before, ends - prefix]),
        )

    def _align(
        self, decoded: str, ids: list[int], offsets: list[tuple[int, int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source characters behind each decoded one, as exact as a token: by the bytes that each token stands for."""
        if not ids:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        # A byte-level token is written with one character per byte.
        sizes = [self._added.get(number) or len(self._tokenizer.id_to_token(number) or "") for number in ids]
        token_of_byte = np.repeat(np.arange(len(ids)), sizes)
        lengths = np.asarray([len(character.encode()) for character in decoded], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths
        token = token_of_byte[np.minimum(first, len(token_of_byte) - 1)]
        places = np.asarray(offsets, dtype=np.int64)[token]
        return places[:, 0], places[:, 1]

    def _label(
        self, encoding: Encoding, parts: list[_Part], first_border: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Modality and source characters of every token, from where its characters stand in the prompt."""
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
                start, end = _trimmed(part.text, first - border, min(last - border, len(part.text)))
                if start < end and part.ends[end - 1] > 0:
                    characters[place] = max(int(part.starts[start]), 0), part.ends[end - 1]
        return labels, characters


def _accents(text: str, start: int) -> int:
    """The number of combining characters at ``start``."""
    end = start
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return end - start


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """``start`` and ``end`` without the whitespace inside; (0, 0) where nothing is left."""
    piece = text[start:end] if start < end else ""
    if not piece.strip():
        return 0, 0
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))


def content_of(document: object) -> Content:
    """Read a :class:`Document`, or a mapping or object with ``frames``, ``ocr``, ``asr`` and ``description``.

    ``frames`` are pictures, or None; the texts are strings, or None where the modality is absent; an empty string
    stands for one that is there and says nothing. Modalities of a :class:`Document` without segments are absent.

    Raises:
        UsageError: a field has another type, or there are more than ten frames.
        MediaError: a frame's bytes are not a picture.
    """
    if isinstance(document, Document):
        frames: Sequence[object] = document.frames
        tracks = {
            modality: TextTrack.join(segments, separator)
            for modality, separator in SEPARATORS.items()
            if (segments := document.segments(modality))
        }
        return _content(document.span, frames, tracks, document.audio)
    frames = _field(document, "frames") or ()  # type: ignore[assignment]
    if not isinstance(frames, Sequence) or isinstance(frames, str | bytes):
        raise UsageError("invalid frames: they must be a list of pictures", "give PIL images, or None")
    tracks = {}
    for modality, name in _FIELDS.items():
        text = _field(document, name)
        if text is None:
            continue
        if not isinstance(text, str):
            raise UsageError(f"invalid field {name!r} of a document: it must be a string", "give a string, or None")
        tracks[modality] = TextTrack.join((Segment(_NOWHERE, text),))
    return _content(_NOWHERE, frames, tracks, _sound(_field(document, "audio")))


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
        raise UsageError(
            "invalid audio of a document: it must be an array of samples", "give mono int16 or float32 at 16 kHz"
        )
    if samples.dtype == np.float32:
        samples = (np.clip(samples, -1.0, 1.0) * np.float32(32767.0)).astype(np.int16)
    return Sound(Span(0.0, len(samples) / audio.RATE), samples)


def _content(
    span: Span, frames: Sequence[object], tracks: Mapping[Modality, TextTrack], sound: Sound | None
) -> Content:
    if len(frames) > MAX_FRAMES:
        raise UsageError(f"invalid document: it has {len(frames)} frames", f"give {MAX_FRAMES} at most")
    images: list[Image.Image] = []
    spans: list[Span] = []
    for frame in frames:
        if not isinstance(frame, Frame | Image.Image):
            raise UsageError(f"invalid frame of a document: {type(frame).__name__}", "give PIL images")
        images.append(open_frame(frame))
        spans.append(frame.span if isinstance(frame, Frame) else span)
    return Content(span, tuple(images), tuple(spans), tracks, sound)


def place_tokens(content: Content, given: EncoderInput, vectors: FloatArray) -> TokenVectors:
    """Give every vector of a document its modality, time, segment and characters.

    Tokens that stand for no frame and no character (template, names of modalities, the video's opening marker) get the
    time of the whole document and segment -1.
    """
    prompt, grid, count = given.prompt, given.grid, len(given.prompt)
    spans = np.tile(np.asarray([content.span.start, content.span.end], dtype=np.float32), (count, 1))
    segments = np.full(count, -1, dtype=np.int32)
    offsets = np.zeros((count, 2), dtype=np.int32)
    if grid is not None:
        # Each step of time holds two frames, the last may hold one.
        per_step = prompt.video_tokens // grid.time
        for step in range(grid.time):
            shown = content.frame_spans[2 * step : 2 * step + 2]
            first = prompt.video_start + step * per_step
            spans[first : first + per_step] = min(span.start for span in shown), max(span.end for span in shown)
            segments[first : first + per_step] = 2 * step
    if content.sound is not None and prompt.audio_tokens:
        places = slice(prompt.audio_start, prompt.audio_start + prompt.audio_tokens)
        starts = content.sound.span.start + np.arange(prompt.audio_tokens) * audio.SECONDS_PER_TOKEN
        spans[places] = np.stack([starts, starts + audio.SECONDS_PER_TOKEN], axis=1)
    by_id = {MODALITY_IDS[modality]: track for modality, track in content.tracks.items()}
    for index, number in enumerate(prompt.modality_ids):
        track = by_id.get(int(number))
        place = track.locate(*map(int, prompt.characters[index])) if track is not None else None
        if place is not None:
            spans[index] = place.span.start, place.span.end
            segments[index] = place.segment
            offsets[index] = place.start, place.end
    return TokenVectors(vectors, prompt.modality_ids, spans, segments, offsets, prompt.input_ids.astype(np.int32))


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
    rows = tokens.modality_ids != NO_MODALITY
    return TokenVectors(*(getattr(tokens, field.name)[rows] for field in fields(TokenVectors)))
