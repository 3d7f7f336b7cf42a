"""Documents and queries as CLaMR's prompts: token ids, the modality of each, and which characters each came from.

A document is a system line and one user turn: the video, then on-screen text, speech and description, each cut to its
own number of tokens and put in with its name. Modality labels follow character offsets in the finished prompt, so they
are right for every token, also where the published code's own counts drift.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import ModelError, UsageError
from clamr_cli.types import MODALITY_IDS, NO_MODALITY, Modality

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

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


@dataclass(frozen=True, slots=True)
class Marks:
    """The tokens that stand for a video and for audio: opening, one per vector, closing; audio may be none."""

    video: tuple[str, str, str] = ("<|vision_start|>", "<|video_pad|>", "<|vision_end|>")
    audio: tuple[str, ...] = ()


OMNI_MARKS: Final = Marks(
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

    def __init__(self, tokenizer: Tokenizer, marks: Marks | None = None) -> None:
        self._marks = marks or Marks()
        tokenizer.no_truncation()
        tokenizer.no_padding()
        needed = (*self._marks.video, *self._marks.audio, END_OF_TEXT, "<|im_start|>", "<|im_end|>")
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
        video = "".join(self._marks.video) if video_tokens else ""
        audio = "".join(self._marks.audio) if audio_tokens else ""
        encoding = self._encode(_HEAD + video + audio + "".join(part.text for part in parts) + _TAIL)
        labels, characters = self._label(encoding, parts, len(_HEAD) + len(video) + len(audio))
        plain = Prompt(np.asarray(encoding.ids, dtype=np.int64), labels, characters)
        whole, video_start = self._repeated(plain, self._marks.video, video_tokens, Modality.VIDEO)
        whole, audio_start = self._repeated(whole, self._marks.audio, audio_tokens, Modality.AUDIO)
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

    def _repeated(self, prompt: Prompt, marks: tuple[str, ...], count: int, modality: Modality) -> tuple[Prompt, int]:
        """Write the token between two marks ``count`` times; the prompt with it and where it starts."""
        if not count:
            return prompt, 0
        start = int(np.flatnonzero(prompt.input_ids == self._tokenizer.token_to_id(marks[1]))[0])
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
        kept = [(number, offsets) for number, offsets in pairs if number not in self._special]
        ids = [number for number, _ in kept]
        decoded = self._tokenizer.decode(ids, skip_special_tokens=True)
        if decoded == source[: len(decoded)]:
            starts = np.arange(len(decoded), dtype=np.int64)
            ends = starts + 1
        else:
            starts, ends = self._align(decoded, ids, [offsets for _, offsets in kept])
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

    def _label(self, encoding: Encoding, parts: list[_Part], start: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Modality and source characters of every token, from where its characters stand in the prompt."""
        borders = [start]
        for part in parts:
            borders.append(borders[-1] + len(part.text))
        labels = np.zeros(len(encoding.ids), dtype=np.uint8)
        characters = np.zeros((len(encoding.ids), 2), dtype=np.int32)
        for place, (first, last) in enumerate(encoding.offsets):
            number = bisect.bisect_right(borders, first) - 1
            if last > first and 0 <= number < len(parts):
                part, border = parts[number], borders[number]
                labels[place] = MODALITY_IDS[part.modality]
                characters[place] = _source(part, first - border, min(last - border, len(part.text)))
        return labels, characters


def _source(part: _Part, first: int, last: int) -> tuple[int, int]:
    """Where the characters ``part.text[first:last]`` stand in the source text, whitespace around left out."""
    start, end = _trimmed(part.text, first, last)
    if start >= end or int(part.ends[end - 1]) <= 0:
        return 0, 0
    return max(int(part.starts[start]), 0), int(part.ends[end - 1])


def _accents(text: str, start: int) -> int:
    """How many combining characters stand at ``start``."""
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
