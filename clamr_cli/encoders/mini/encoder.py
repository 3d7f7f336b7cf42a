"""The embedded encoder: a small sentence model, a small image model and what was trained on both."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli import weights
from clamr_cli.encoders import Rows
from clamr_cli.encoders.mini.networks import (
    FLOORS,
    IMAGE,
    IMAGE_CLASSES,
    IMAGE_REGION,
    LEXICAL,
    PASSAGE,
    QUERY_SENTENCE,
    QUERY_WORD,
    SENTENCE_COPIES,
    SHA256,
    TIMELESS,
    TIMELESS_TYPES,
    WIDTH,
    WORD,
    Bert,
    Heads,
    ImageFeatures,
    unit,
)
from clamr_cli.encoders.mini.passages import Passage, PassageTokenizer, lexical_vectors
from clamr_cli.text import Place, TextTrack
from clamr_cli.types import Document, EncoderInfo, Modality, Span, TokenVectors

if TYPE_CHECKING:
    from clamr_cli.encoders.mini.vision import ImageModel

Array = NDArray[np.float32]

NAME: Final = "mini"
TOKENS_PER_MODALITY: Final = 512
"""CLaMR's published code reads as many tokens each of speech, on-screen text and metadata."""

_TEXT_WEIGHTS: Final = "minilm-l6"
_IMAGE_WEIGHTS: Final = "efficientnet-lite2"
_IMAGE_FILE: Final = "efficientnet-lite2-9656183e.pth"

_REVISION: Final = "3"
_EARLIER: Final = ("2",)
"""Revisions of the same weights whose vectors differ for words only that the text model does not know."""

# The order of CLaMR's documents (section 3): frames, on-screen text, speech, metadata.
_TEXT_ORDER: Final = (Modality.OCR, Modality.SPEECH, Modality.METADATA)
_UNLIMITED: Final = 1 << 24


def _fingerprint(revision: str) -> str:
    parts = (revision, _TEXT_WEIGHTS, _IMAGE_FILE, SHA256, str(TOKENS_PER_MODALITY))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


_INFO: Final = EncoderInfo(NAME, _fingerprint(_REVISION), floors=FLOORS, earlier=tuple(map(_fingerprint, _EARLIER)))


class Backbones:
    """The two frozen models: MiniLM for text, and EfficientNet-Lite2 for images.

    Text runs in numpy, so that a query needs no torch; the image model is loaded with the first image.

    Args:
        cache: folder where downloaded weights lie.
        device: of the image model: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads of the image model; 0 leaves them as they are.

    Raises:
        ModelError: weights are absent or damaged.
    """

    def __init__(self, cache: Path, *, device: str, threads: int) -> None:
        text = weights.locate(_TEXT_WEIGHTS, cache)
        self._image_file = weights.locate(_IMAGE_WEIGHTS, cache) / _IMAGE_FILE
        self._device, self._threads = device, threads
        self.bert = Bert.load(text / "model.safetensors")
        self.tokenizer = PassageTokenizer.load(text / "tokenizer.json")

    @functools.cached_property
    def _image_model(self) -> ImageModel:
        from clamr_cli.encoders.mini.vision import ImageModel

        return ImageModel(self._image_file, device=self._device, threads=self._threads)

    def image_features(self, jpegs: Sequence[bytes]) -> ImageFeatures:
        """Features of images, in order.

        Raises:
            MediaError: one of them is not an image.
        """
        return self._image_model.features(jpegs)


class MiniEncoder:
    """Words, passages and frames as unit vectors that one query can be matched to."""

    def __init__(self, backbones: Backbones, heads: Heads) -> None:
        self._backbones, self._heads = backbones, heads

    @classmethod
    def create(cls, *, cache: Path, device: str, threads: int) -> MiniEncoder:
        """Find the weights and load the text side.

        Raises:
            ModelError: weights are absent or damaged.
        """
        return cls(Backbones(cache, device=device, threads=threads), Heads.load())

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
        return [self._document(document) for document in documents]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """Vectors of each query: one per word, then some of the whole."""
        passages = [self._backbones.tokenizer.query(query) for query in queries]
        states = self._backbones.bert.encode([passage.ids for passage in passages])
        return [self._query(passage, state) for passage, state in zip(passages, states, strict=True)]

    def _query(self, passage: Passage, states: Array) -> TokenVectors:
        rows = _TypedRows()
        for word, state in zip(passage.words, _word_states(passage, states), strict=True):
            rows.add(state, QUERY_WORD, word.text, offsets=(word.start, word.end), number=word.number)
        words, known, copies = len(passage.words), passage.known, 0
        if known or not words:
            rows.add(states.mean(axis=0), QUERY_SENTENCE)
            # The whole weighs as much as the part of the words that it is made of.
            copies = max(1, round(SENTENCE_COPIES * known / words)) if words else SENTENCE_COPIES
        vectors = rows.vectors(self._heads)
        repeated = np.minimum(np.arange(words + copies), len(vectors) - 1)
        return TokenVectors(**{field.name: getattr(vectors, field.name)[repeated] for field in fields(TokenVectors)})

    def _document(self, document: Document) -> TokenVectors:
        rows = _TypedRows()
        if document.frames:
            features = self._backbones.image_features([frame.jpeg for frame in document.frames])
            states = self._heads.image_rows(features)
            for number, frame in enumerate(document.frames):
                for position, state in enumerate(states[number]):
                    row_type = (IMAGE, IMAGE_CLASSES, IMAGE_REGION)[min(position, 2)]
                    rows.add(state, row_type, modality=Modality.VIDEO, span=frame.span, segment=number)
        for modality in _TEXT_ORDER:
            self._add_text(rows, modality, TextTrack.join(document.segments(modality)))
        return rows.vectors(self._heads, document.span.start)

    def _add_text(self, rows: _TypedRows, modality: Modality, track: TextTrack) -> None:
        """Add the words of each passage and then the passage as a whole."""
        texts = [segment.text for segment in track.segments]
        passages = self._backbones.tokenizer.passages(
            texts, across=modality is Modality.SPEECH, limit=TOKENS_PER_MODALITY
        )
        passages = [passage for passage in passages if passage.words]
        states = self._backbones.bert.encode([passage.ids for passage in passages])
        for passage, state in zip(passages, states, strict=True):
            places = []
            for word, word_state in zip(passage.words, _word_states(passage, state), strict=True):
                start = track.starts[word.segment]
                place = track.locate(start + word.start, start + word.end)
                assert place is not None, "a word is never empty and lies in its segment"
                places.append(place)
                rows.add(word_state, WORD[modality], text=word.text, modality=modality, place=place, number=word.number)
            if passage.known:
                first, last = places[0], places[-1]
                end = max(place.end for place in places if place.segment == first.segment)
                span = Span(first.span.start, max(first.span.end, last.span.end))
                whole = Place(first.segment, first.start, end, span)
                rows.add(state.mean(axis=0), PASSAGE[modality], modality=modality, place=whole)


def _word_states(passage: Passage, states: Array) -> Array:
    """Mean state of each word's pieces: [words, 384]; zeros for words that the text model does not know."""
    means = np.zeros((len(passage.words), states.shape[1]), dtype=np.float32)
    for row, word in zip(means, passage.words, strict=True):
        if word.count:
            row[:] = states[word.first : word.first + word.count].mean(axis=0)
    return means


class _TypedRows:
    """All rows of one document or query, gathered before the joint transformer reads them together."""

    def __init__(self) -> None:
        self.origins = Rows()
        self.types: list[int] = []
        self.texts: list[str] = []

    def add(self, state: Array, row_type: int, text: str = "", **origin: Any) -> None:  # noqa: ANN401
        """Add a row: its state [384], its type, and what :meth:`clamr_cli.encoders.Rows.add` takes."""
        self.origins.add(state, **origin)
        self.types.append(row_type)
        self.texts.append(text)

    def vectors(self, heads: Heads, start: float = 0.0) -> TokenVectors:
        """The token vectors of all rows, in the order they were added; ``start`` is the document's in seconds."""
        if not self.types:
            return self.origins.done()
        states = unit(np.stack(self.origins.vectors).astype(np.float32, copy=False).reshape(-1, WIDTH))
        times = [
            float(TIMELESS) if row_type in TIMELESS_TYPES else max(0.0, (begin + end) / 2 - start)
            for row_type, (begin, end) in zip(self.types, self.origins.spans, strict=True)
        ]
        types, lexical = np.array(self.types, dtype=np.int64), lexical_vectors(self.texts, LEXICAL)
        return self.origins.done(heads.vectors(states, types, np.array(times, dtype=np.float32), lexical))


class SentenceModel:
    """Texts, queries and images as unit vectors of one space [n, 384]: the parts of classical search systems.

    A text's vector is the mean of its word pieces' states, of unit length, as sentence-transformers makes it. An
    image's is the mean of the vectors of ImageNet's class names, weighted by how likely each class is (ConSE: Norouzi
    et al., "Zero-shot learning by convex combination of semantic embeddings", arXiv 1312.5650). Nothing here was
    trained for this project.
    """

    def __init__(self, backbones: Backbones, classes: Array) -> None:
        self._backbones, self._classes = backbones, unit(classes)

    @classmethod
    def create(cls, *, cache: Path, device: str, threads: int) -> SentenceModel:
        """Find the weights.

        Raises:
            ModelError: weights are absent or damaged.
        """
        return cls(Backbones(cache, device=device, threads=threads), Heads.load().classes)

    def query(self, text: str) -> Array:
        """The vector of a query, [384]; its first 126 word pieces count. Zeros without any known word."""
        passage = self._backbones.tokenizer.query(text)
        if passage.words and not passage.known:
            return np.zeros(WIDTH, np.float32)
        vector: Array = self._means([passage.ids])[0]
        return vector

    def passages(self, texts: Sequence[str], *, across: bool) -> Array:
        """The vectors of all passages of some texts; ``across`` lets a passage reach over several of them."""
        passages = self._backbones.tokenizer.passages(texts, across=across, limit=_UNLIMITED)
        return self._means([passage.ids for passage in passages if passage.known])

    def frames(self, jpegs: Sequence[bytes]) -> Array:
        """The vectors of images.

        Raises:
            MediaError: one of them is not an image.
        """
        if not jpegs:
            return np.zeros((0, WIDTH), np.float32)
        return unit(self._backbones.image_features(jpegs).probabilities[:, 0] @ self._classes)

    def _means(self, sequences: Sequence[Sequence[int]]) -> Array:
        if not sequences:
            return np.zeros((0, WIDTH), np.float32)
        return unit(np.stack([states.mean(axis=0) for states in self._backbones.bert.encode(sequences)]))
