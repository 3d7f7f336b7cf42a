"""The embedded encoder: a small sentence model, a small picture model and what was trained on both."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.encoders.mini import frozen, heads
from clamr_cli.encoders.mini.bert import Bert
from clamr_cli.encoders.mini.heads import SENTENCE_COPIES, Heads
from clamr_cli.encoders.mini.kinds import (
    PASSAGE,
    PICTURE,
    PICTURE_CLASSES,
    PICTURE_REGION,
    QUERY_SENTENCE,
    QUERY_WORD,
    WORD,
)
from clamr_cli.encoders.mini.passages import Reader
from clamr_cli.encoders.mini.sheet import Sheet
from clamr_cli.text import Place, TextTrack
from clamr_cli.types import EncoderInfo, Modality, Span, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.encoders.mini.passages import Passage, PassageWord
    from clamr_cli.types import Document, Frame

    Array = NDArray[np.float32]

NAME: Final = "mini"
TOKENS_PER_MODALITY: Final = 512
"""CLaMR's published code reads as many tokens each of speech, on-screen text and metadata."""

_REVISION: Final = "3"
_EARLIER: Final = ("2",)
"""Revisions of the same weights whose vectors differ for words only that the text model does not know."""

_FIELDS: Final = tuple(field.name for field in fields(TokenVectors))
# The order of CLaMR's documents (section 3): frames, on-screen text, speech, metadata.
_READ: Final = (Modality.OCR, Modality.SPEECH, Modality.METADATA)


def _fingerprint(revision: str) -> str:
    parts = (revision, frozen.TEXT_WEIGHTS, frozen.PICTURE_FILE, heads.SHA256, str(TOKENS_PER_MODALITY))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


_INFO: Final = EncoderInfo(
    NAME, _fingerprint(_REVISION), floors=heads.FLOORS, earlier=tuple(_fingerprint(one) for one in _EARLIER)
)


class MiniEncoder:
    """Words, passages and frames as unit vectors that one query can be matched to.

    Text runs in numpy, so that a query needs no torch; frames load torch when the first is met.
    """

    def __init__(self, text: Path, pictures: Path, trained: Heads, *, device: str, threads: int) -> None:
        """Load the text side.

        Args:
            text: folder of ``model.safetensors`` and ``tokenizer.json``.
            pictures: the picture model's checkpoint file; opened when the first frame is met.
            trained: the trained weights.
            device: of the picture model: "auto", "cpu", "cuda" or "mps".
            threads: CPU threads of the picture model; 0 leaves them as they are.

        Raises:
            ModelError: the text model cannot be read.
        """
        self._bert = Bert.load(text / "model.safetensors")
        self._reader = Reader.load(text / "tokenizer.json")
        self._heads = trained
        self._pictures = frozen.LazyPictures(pictures, device=device, threads=threads)

    @classmethod
    def create(cls, *, cache: Path, device: str, threads: int) -> MiniEncoder:
        """Find the weights and load the text side.

        Raises:
            ModelError: weights are absent or damaged.
        """
        text, pictures = frozen.text_folder(cache), frozen.picture_file(cache)
        return cls(text, pictures, Heads.load(), device=device, threads=threads)

    @classmethod
    def describe(cls, *, cache: Path) -> EncoderInfo:  # noqa: ARG003 -- every encoder's describe takes it
        """Name and fingerprint, without loading anything."""
        return _INFO

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        return _INFO

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """Vectors of each document: its frames, then its on-screen text, speech and metadata."""
        return [self._encode(document) for document in documents]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """Vectors of each query: one per word, then some of the whole."""
        passages = [self._reader.query(query) for query in queries]
        states = self._bert.encode([passage.ids for passage in passages])
        return [self._query(passage, state) for passage, state in zip(passages, states, strict=True)]

    def _query(self, passage: Passage, states: Array) -> TokenVectors:
        sheet = Sheet()
        for word, state in zip(passage.words, _word_states(passage, states), strict=True):
            sheet.add(state, QUERY_WORD, text=word.text, offsets=(word.start, word.end), number=word.number)
        words, known, copies = len(passage.words), passage.known, 0
        if known or not words:
            sheet.add(states.mean(axis=0), QUERY_SENTENCE)
            # The whole weighs as much as the part of the words that it is made of.
            copies = max(1, round(SENTENCE_COPIES * known / words)) if words else SENTENCE_COPIES
        made = sheet.done(self._heads)
        repeated = np.minimum(np.arange(words + copies), len(made) - 1)
        return TokenVectors(**{name: getattr(made, name)[repeated] for name in _FIELDS})

    def _encode(self, document: Document) -> TokenVectors:
        sheet = Sheet(document.span.start)
        if document.frames:
            self._add_frames(sheet, document.frames)
        for modality in _READ:
            track = TextTrack.join(document.segments(modality))
            texts = [segment.text for segment in track.segments]
            across = modality is Modality.SPEECH
            passages = self._reader.passages(texts, across=across, limit=TOKENS_PER_MODALITY)
            self._add_passages(sheet, modality, track, [passage for passage in passages if passage.words])
        return sheet.done(self._heads)

    def _add_frames(self, sheet: Sheet, frames: Sequence[Frame]) -> None:
        rows = self._heads.picture_rows(self._pictures.features([frame.jpeg for frame in frames]))
        for number, frame in enumerate(frames):
            for place, row in enumerate(rows[number]):
                kind = (PICTURE, PICTURE_CLASSES, PICTURE_REGION)[min(place, 2)]
                sheet.add(row, kind, modality=Modality.VIDEO, span=frame.span, segment=number)

    def _add_passages(self, sheet: Sheet, modality: Modality, track: TextTrack, passages: Sequence[Passage]) -> None:
        """Add each passage's words and then the passage as a whole."""
        states = self._bert.encode([passage.ids for passage in passages]) if passages else []
        for passage, state in zip(passages, states, strict=True):
            places = [_locate(track, word) for word in passage.words]
            for word, place, row in zip(passage.words, places, _word_states(passage, state), strict=True):
                sheet.add_place(row, WORD[modality], modality, place, text=word.text, number=word.number)
            if not passage.known:
                continue
            first, last = places[0], places[-1]
            end = max(place.end for place in places if place.segment == first.segment)
            span = Span(first.span.start, max(first.span.end, last.span.end))
            whole = Place(first.segment, first.start, end, span)
            sheet.add_place(state.mean(axis=0), PASSAGE[modality], modality, whole)


def _word_states(passage: Passage, states: Array) -> Array:
    """Mean state of each word's pieces: [words, 384]; zeros for words that the text model does not know."""
    means = np.zeros((len(passage.words), states.shape[1]), dtype=np.float32)
    for row, word in zip(means, passage.words, strict=True):
        if word.count:
            row[:] = states[word.first : word.first + word.count].mean(axis=0)
    return means


def _locate(track: TextTrack, word: PassageWord) -> Place:
    """Where a word stands and when it is said."""
    start = track.starts[word.segment]
    place = track.locate(start + word.start, start + word.end)
    # A word is never empty and lies in its segment; the track knows its segments.
    return place or Place(word.segment, word.start, word.end, track.segments[word.segment].span)
