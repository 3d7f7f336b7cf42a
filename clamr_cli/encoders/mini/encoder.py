"""The embedded encoder: a small sentence model, a small image model and what was trained on both."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli import weights
from clamr_cli.encoders import MULTILINGUAL, Rows
from clamr_cli.encoders.mini.multilingual import (
    HEADS_SHA256,
    UNSURE,
    MultilingualHeads,
    MultilingualModel,
    TranslatedWord,
)
from clamr_cli.encoders.mini.networks import (
    EVIDENCE_FLOORS,
    FLOORS,
    IMAGE,
    IMAGE_CLASSES,
    IMAGE_REGION,
    LEXICAL,
    PASSAGE,
    QUERY_SENTENCE,
    QUERY_WORD,
    SEMANTIC,
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
from clamr_cli.types import DIMENSION, Document, EncoderInfo, ForeignQuery, Modality, Span, TokenVectors

if TYPE_CHECKING:
    from clamr_cli.encoders.mini.vision import ImageModel

Array = NDArray[np.float32]

NAME: Final = "mini"
TOKENS_PER_MODALITY: Final = 512
"""CLaMR's published code reads as many tokens each of speech, on-screen text and metadata."""

_TEXT_WEIGHTS: Final = "minilm-l6"
_IMAGE_WEIGHTS: Final = "efficientnet-lite2"
_IMAGE_FILE: Final = "efficientnet-lite2-9656183e.pth"

TRANSLATION_COPIES: Final = 4
"""Number of copies of the vector of a query's translation, as of an English query's sentence."""

LONGEST_QUERY: Final = 2000
"""Letters of a query that the multilingual text model reads."""

_REVISION: Final = "3"
_FORMER_HEADS: Final = "5bfd93cfe55c47ceb58d3144428b89fe2528e592b8a677ea9a3a807d07ae6bf2"
_FORMER: Final = (
    ("3", "5477c3970d485b362c788175acbefb80781180213e4ff42666228e6f429c740d"),
    ("3", "5ec9c991f71f80bae7fee95517b73fa529a24fcf96c5e7ce34430ec343f3e008"),
)
_EARLIER: Final = (*((*each, heads) for each in _FORMER for heads in (_FORMER_HEADS, "")), ("2", _FORMER[-1][1], ""))
"""Earlier revisions, weights, and heads of the multilingual text model, if they had it: vectors differ for frames, for
text that sees frames, and (revision 2) for words that the text model does not know. Queries are the same."""

_COLUMNS: Final = tuple(field.name for field in fields(TokenVectors))

# The order of CLaMR's documents (section 3): frames, on-screen text, speech, metadata.
_TEXT_ORDER: Final = (Modality.OCR, Modality.SPEECH, Modality.METADATA)
_UNLIMITED: Final = 1 << 24


def _info(*, multilingual: bool) -> EncoderInfo:
    """Name and fingerprint, with or without the multilingual text model."""

    def fingerprint(revision: str, sha256: str, heads: str) -> str:
        parts = (revision, _TEXT_WEIGHTS, _IMAGE_FILE, sha256, str(TOKENS_PER_MODALITY))
        more = (MULTILINGUAL, heads) if heads else ()
        return hashlib.blake2b("\n".join((*parts, *more)).encode(), digest_size=8).hexdigest()

    # Each can search what the other made: queries are then encoded without the multilingual text model.
    heads = (HEADS_SHA256, "") if multilingual else ("", HEADS_SHA256)
    own, other = (fingerprint(_REVISION, SHA256, each) for each in heads)
    earlier = [other, *(fingerprint(*each) for each in _EARLIER)]
    return EncoderInfo(NAME, own, floors=FLOORS, earlier=tuple(earlier), evidence_floors=EVIDENCE_FLOORS)


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
        self._cache, self._device, self._threads = cache, device, threads
        self.bert = Bert.load(text / "model.safetensors")
        self.tokenizer = PassageTokenizer.load(text / "tokenizer.json")

    @functools.cached_property
    def multilingual(self) -> MultilingualModel | None:
        """The second text model; None where its package is not installed.

        Raises:
            ModelError: it is damaged.
        """
        return MultilingualModel.load(self._cache) if weights.status(MULTILINGUAL, self._cache).installed else None

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

    def __init__(self, backbones: Backbones, heads: Heads, multilingual: MultilingualHeads | None = None) -> None:
        self._backbones, self._heads = backbones, heads
        self._multilingual = multilingual if backbones.multilingual else None
        self._own_info = _info(multilingual=self._multilingual is not None)

    @classmethod
    def create(cls, *, cache: Path, device: str, threads: int) -> MiniEncoder:
        """Find the weights and load the text side.

        Raises:
            ModelError: weights are absent or damaged.
        """
        return cls(Backbones(cache, device=device, threads=threads), Heads.load(), MultilingualHeads.load())

    @classmethod
    def describe(cls, *, cache: Path) -> EncoderInfo:
        """Name and fingerprint, without loading anything."""
        return _info(multilingual=weights.status(MULTILINGUAL, cache).installed)

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        return self._own_info

    def for_earlier(self) -> MiniEncoder:
        """The encoder whose queries are compared with vectors of earlier versions."""
        return MiniEncoder(self._backbones, self._heads)

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """Vectors of each document: its frames, then its on-screen text, speech and metadata."""
        return [self._document(document) for document in documents]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """Vectors of each query: one per word, then some of the whole.

        A query in another language than English has as many of the multilingual text model as words instead, some of
        its translation and those of its words in English, and its words are compared by their spelling alone. Where the
        language is not sure it has all of them.
        """
        passages = [self._backbones.tokenizer.query(query) for query in queries]
        states = self._backbones.bert.encode([passage.ids for passage in passages])
        sentences = self._sentences([query[:LONGEST_QUERY] for query in queries])
        return [self._query(*each) for each in zip(queries, passages, states, sentences, strict=True)]

    def _query(self, query: str, passage: Passage, states: Array, sentence: Array) -> TokenVectors:
        multilingual, model = self._multilingual, self._backbones.multilingual
        if not (multilingual and model and sentence.any()):
            return self._read(passage, states)
        log_odds = multilingual.english(sentence, passage, model.frequencies)
        if log_odds > 0:
            return self._read(passage, states)
        certain = log_odds < -UNSURE
        tokens = self._read(passage, states, multilingual, sentence, is_english=not certain)
        words = model.translate(query[:LONGEST_QUERY], certain=certain)
        english, at = self._in_english(words), len(tokens) - max(1, len(passage.words)) - TRANSLATION_COPIES
        columns = {name: (getattr(tokens, name), getattr(english, name)) for name in _COLUMNS}
        return ForeignQuery(
            **{name: np.concatenate([own[:at], more, own[at:]]) for name, (own, more) in columns.items()},
            as_written=self._read(passage, states),
            certain=certain,
            translation=at + len(english),
            sentence=at + len(english) + TRANSLATION_COPIES,
            english=tuple(dict.fromkeys(word.text for word in words)),
            understood=certain or bool(words) or model.frequencies.know(passage),
        )

    def _in_english(self, words: Sequence[TranslatedWord]) -> TokenVectors:
        """Vectors of translated words as of a query in English, with the places of what they stand for; or none."""
        if not words:
            return Rows().done()
        passage = self._backbones.tokenizer.query(" ".join(word.text for word in words))
        (states,) = self._backbones.bert.encode([passage.ids])
        tokens = self._read(passage, states)
        ends = np.cumsum([len(word.text) + 1 for word in words])
        offsets = np.zeros_like(tokens.offsets)
        for row, (start, end) in enumerate(tokens.offsets.tolist()):
            if end:
                word = words[int(np.searchsorted(ends, start, side="right"))]
                offsets[row] = word.start, word.end
        return replace(tokens, offsets=offsets)

    def _read(
        self,
        passage: Passage,
        states: Array,
        multilingual: MultilingualHeads | None = None,
        sentence: Array | None = None,
        *,
        is_english: bool = True,
    ) -> TokenVectors:
        """Vectors of a query as English, as what the multilingual text model makes of it, or as both, in this order."""
        rows = _TypedRows()
        for word, state in zip(passage.words, _word_states(passage, states), strict=True):
            rows.add(state, QUERY_WORD, word.text, offsets=(word.start, word.end), number=word.number)
        words, known = len(passage.words), passage.known
        counts = [1] * words
        if (known or not words) and is_english:
            # The whole weighs as much as the part of the words that it is made of.
            counts.append(max(1, round(SENTENCE_COPIES * known / words)) if words else SENTENCE_COPIES)
            rows.add(states.mean(axis=0), QUERY_SENTENCE)
        if multilingual is not None and sentence is not None:
            counts += [TRANSLATION_COPIES, max(1, words)]
            rows.add(multilingual.state(sentence), QUERY_SENTENCE)
            rows.add_vector(multilingual.query(sentence))
        vectors = rows.vectors(self._heads)
        if not is_english:
            _keep_spelling(vectors.vectors[:words])
        repeated = np.repeat(np.arange(len(vectors)), counts)
        return TokenVectors(*(getattr(vectors, name)[repeated] for name in _COLUMNS))

    def _sentences(self, texts: Sequence[str]) -> Array:
        """Vectors [n, 512] of the multilingual text model; zeros where it is not there or knows no word of a text."""
        model = self._backbones.multilingual if self._multilingual else None
        return model.encode(texts) if model else np.zeros((len(texts), 1), np.float32)

    def _document(self, document: Document) -> TokenVectors:
        rows = _TypedRows()
        if document.frames:
            features = self._backbones.image_features([frame.jpeg for frame in document.frames])
            states = self._heads.image_rows(features)
            for number, frame in enumerate(document.frames):
                for position, state in enumerate(states[number]):
                    row_type = (IMAGE, IMAGE_CLASSES, IMAGE_REGION)[min(position, 2)]
                    rows.add(state, row_type, modality=Modality.VIDEO, span=frame.span, segment=number)
            if self._multilingual:
                for number, vector in enumerate(self._multilingual.pictures(features)):
                    span = document.frames[number].span
                    rows.add_vector(vector, modality=Modality.VIDEO, span=span, segment=number)
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
        sentences = self._sentences([passage.text(texts) for passage in passages])
        for passage, state, sentence in zip(passages, states, sentences, strict=True):
            places = []
            for word, word_state in zip(passage.words, _word_states(passage, state), strict=True):
                start = track.starts[word.segment]
                place = track.locate(start + word.start, start + word.end)
                assert place is not None, "a word is never empty and lies in its segment"
                places.append(place)
                rows.add(word_state, WORD[modality], text=word.text, modality=modality, place=place, number=word.number)
            first, last = places[0], places[-1]
            end = max(place.end for place in places if place.segment == first.segment)
            span = Span(first.span.start, max(first.span.end, last.span.end))
            whole = Place(first.segment, first.start, end, span)
            if passage.known:
                rows.add(state.mean(axis=0), PASSAGE[modality], modality=modality, place=whole)
            if self._multilingual and sentence.any():
                vector = self._multilingual.passages(sentence[None])[0]
                rows.add_vector(vector, modality=modality, place=whole)


def _keep_spelling(words: NDArray[np.floating]) -> None:
    """Take the meaning out of vectors of words [n, 128] that are not English: null stands for it."""
    words[:, :SEMANTIC] = 0.0
    words[:, DIMENSION - 2] = 0.0
    words[:, DIMENSION - 2] = np.sqrt(np.maximum(0.0, 1.0 - np.square(words).sum(axis=1)))


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
        self._ready: list[tuple[Array, dict[str, Any]]] = []

    def add(self, state: Array, row_type: int, text: str = "", **origin: Any) -> None:  # noqa: ANN401
        """Add a row: its state [384], its type, and what :meth:`clamr_cli.encoders.Rows.add` takes."""
        self.origins.add(state, **origin)
        self.types.append(row_type)
        self.texts.append(text)

    def add_vector(self, vector: Array, **origin: Any) -> None:  # noqa: ANN401
        """Add a row that is a token vector [128] already; these come last."""
        self._ready.append((vector, origin))

    def vectors(self, heads: Heads, start: float = 0.0) -> TokenVectors:
        """The token vectors of all rows; ``start`` is the document's in seconds."""
        if not self.types and not self._ready:
            return self.origins.done()
        states = unit(np.stack(self.origins.vectors).astype(np.float32, copy=False).reshape(-1, WIDTH))
        times = [
            float(TIMELESS) if row_type in TIMELESS_TYPES else max(0.0, (begin + end) / 2 - start)
            for row_type, (begin, end) in zip(self.types, self.origins.spans, strict=True)
        ]
        types, lexical = np.array(self.types, dtype=np.int64), lexical_vectors(self.texts, LEXICAL)
        vectors = heads.vectors(states, types, np.array(times, dtype=np.float32), lexical)
        for vector, origin in self._ready:
            self.origins.add(vector, **origin)
        return self.origins.done(np.concatenate([vectors, *(vector[None] for vector, _ in self._ready)]))


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
