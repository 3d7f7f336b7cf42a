"""``--encoder gemma``: EmbeddingGemma 2, one space for texts in 100 languages, pictures and sound (Apache-2.0).

The model gives one vector for a sentence, a picture or a sound: the mean of its token states, whose beginning is a good
vector by itself (Matryoshka; Kusupati et al., arXiv 2205.13147). Of its 768 numbers the first 248 are kept. Its model
card gives MMEB 59.0 for 768 numbers, 56.2 for 256 and 45.7 for 128, so the width of a token vector is not enough.

**Two rows for one vector.** A vector of 248 numbers is stored as two rows, its first and its second half. A query has
two rows as well, and each half meets its own kind only: two numbers of each row (:data:`MARK`) take so much from the
product of two unlike halves that the own half of the same vector always beats it. MaxSim then adds what both halves
give, which is the cosine over all 248 numbers where one vector wins with both halves, as nearly always.

**One score over all modalities.** A sentence is closer to any other sentence than to the picture that it describes
(the modality gap: Liang et al., arXiv 2203.02053), so plain cosines let text win always. Here a row answers by how much
closer it is to this query than to others: ``(cosine - mean) / deviation`` over a bank of 64 fixed queries, as in
querybank normalisation (Bogolin et al., arXiv 2112.12777). The mean leaves with the bank's mean query, which is taken
off every query; the deviation scales the row. Nothing is trained and nothing depends on other documents.

**Gates**, where ``clamr train --recipe mini --backbone gemma`` trained some: each modality shares out what the bank
leaves of a row between its meaning, a prior (how readily it answers at all) and silence, and each query what it has
between its meaning and silence. The prior stands at the place of the mark, which a query has there for its own half.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from clamr_cli import weights
from clamr_cli.devices import choose_device
from clamr_cli.encoders import Rows, hub
from clamr_cli.errors import MediaError, ModelError, UsageError, first_line
from clamr_cli.files import write_atomically
from clamr_cli.text import Place, TextTrack
from clamr_cli.types import DIMENSION, MODALITY_IDS, Document, EncoderInfo, Frame, Modality, Sound, Span, TokenVectors

Array = NDArray[np.float32]
Dtype = Literal["auto", "float32", "bfloat16", "int8"]

VERSION: Final = 1
"""Part of every fingerprint; goes up when the same files give other vectors."""

HALF: Final = 124
"""Numbers of a vector in one row; the other four are two marks and two fillers."""

WIDTH: Final = 2 * HALF
MARK: Final = 0.6
"""Share of the squared length of a row that marks its half.

With unit vectors u and d in halves, ``(1 - MARK) * u_1.(d_2 - d_1)`` is at most ``(1 - MARK) * sqrt(2)``, below MARK.
"""

IMAGE_TOKENS: Final = (70, 140, 280)
"""Choices of the soft tokens of a picture; the model's own default is 280, and 140 for frames of a video."""

PASSAGE_TOKENS: Final = 64
"""Speech is read together up to so many tokens, and longer texts are cut."""

TOKENS_PER_MODALITY: Final = 512
"""CLaMR's published code reads as many tokens each of speech, on-screen text and metadata."""

QUERY: Final = "task: search result | query: "
DOCUMENT: Final = "title: none | text: "
"""Prompts before a query and before a text of a document, as the model was trained."""

GATES: Final = "gates.safetensors"
GATE_SCALE: Final = 10.0
_LONGEST: Final = 2048
_BATCH_TOKENS: Final = 1024
_SAMPLE_RATE: Final = 16_000
_LONGEST_SOUND: Final = 30 * _SAMPLE_RATE
_LEAST_DEVIATION: Final = 0.5
"""Of the bank's own: a row that answers all queries alike is not scaled further than this."""

_TEXT_ORDER: Final = (Modality.OCR, Modality.SPEECH, Modality.METADATA)
_SENTENCE_END: Final = ".!?…。！？\n"
_WRITTEN: Final = re.compile(r"\w")
_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "vision_config": ("vision_tower.", "embed_vision."),
    "audio_config": ("audio_tower.", "embed_audio."),
}
_TRAIN: Final = "give the folder that clamr train --recipe mini --backbone gemma wrote"
_AGAIN: Final = "clamr models pull gemma fetches the model again"
_DAMAGED: Final = (OSError, ValueError, SyntaxError)

BANK: Final = (
    "a dog running on the beach", "two people shaking hands", "a red car on a mountain road", "children at school",
    "city skyline at night", "close-up of a flower", "a chef cutting vegetables", "a train arriving at a station",
    "snow falling in a forest", "a woman speaking into a microphone", "fireworks over a river", "an empty office",
    "a man playing the guitar", "waves and surfers", "a cat asleep on a sofa", "aerial view of fields",
    "a cartoon robot", "a bride and groom dancing", "hands typing on a keyboard", "an old black and white street",
    "a football goal", "astronauts in space", "horses in a meadow", "a bicycle race",
    "how to bake bread", "why the bridge collapsed", "the interview about climate change", "explains the new law",
    "what the president said about taxes", "history of the Roman Empire", "the recipe for tomato soup", "a joke",
    "talks about her childhood", "instructions for the washing machine", "the price of oil", "symptoms of the flu",
    "introduction to linear algebra", "thanks to all sponsors", "the weather tomorrow", "a story about a lost ring",
    "subscribe to the channel", "episode 12", "chapter three", "breaking news", "exit sign", "speed limit 50",
    "final score 3 to 1", "copyright 2019", "loading please wait", "phone number and address", "menu of a restaurant",
    "holiday in Spain 2014", "birthday of Anna", "IMG_2041.MOV", "trailer", "lecture 5 quantum mechanics",
    "ein Hund im Schnee", "une femme au marché", "un hombre en bicicleta", "ラーメンの作り方", "夜晚的城市",
    "закат на море", "شارع مزدحم", "how are you",
)  # fmt: skip
"""Queries about what is shown, said, written and noted, against which every row is measured."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Trained shares of the unit length, as logits; without training :data:`OPEN` leaves all to the meaning.

    Attributes:
        documents: [6, 3], by modality id: of meaning, prior and silence.
        query: [2], of meaning and silence; ``tilt`` [248, 2] adds what depends on the query's vector less the bank's
            mean, times :data:`GATE_SCALE`.
    """

    documents: Array
    query: Array
    tilt: Array

    @classmethod
    def load(cls, path: Path) -> Gates:
        """Read the file that the training wrote.

        Raises:
            ModelError: it is absent or damaged, or of another encoder.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = {name: tensor.astype(np.float32) for name, tensor in load_file(path).items()}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {first_line(error)}", _TRAIN) from error
        expected = {field.name: getattr(OPEN, field.name).shape for field in fields(cls)}
        if {name: tensor.shape for name, tensor in tensors.items()} != expected or not all(
            np.isfinite(tensor).all() for tensor in tensors.values()
        ):
            raise ModelError(f"{path} holds no gates of this encoder", _TRAIN)
        return cls(**tensors)

    def shares(self, modality_ids: Sequence[int]) -> tuple[Array, Array]:
        """The shares [n] of meaning and prior of documents' rows: squares add up to at most 1."""
        shares = np.sqrt(_softmax(self.documents[list(modality_ids)]))
        return shares[:, 0], shares[:, 1]

    def query_share(self, direction: Array) -> float:
        """The share of meaning of a query with this direction [248]."""
        logits = np.asarray(self.query + GATE_SCALE * direction @ self.tilt, dtype=np.float32)
        return float(np.sqrt(_softmax(logits)[0]))


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float32)


OPEN: Final = Gates(
    np.tile(np.array([0, -np.inf, -np.inf], np.float32), (max(MODALITY_IDS.values()) + 1, 1)),
    np.array([0, -np.inf], np.float32),
    np.zeros((WIDTH, 2), np.float32),
)


class Bank(NamedTuple):
    """Vectors of the bank's queries: their mean [248], and each less the mean, of unit length [64, 248]."""

    mean: Array
    queries: Array

    @classmethod
    def of(cls, vectors: Array) -> Bank:
        """From the model's vectors of the bank's queries, [64, 248]."""
        mean: Array = vectors.mean(axis=0)
        return cls(mean, unit(vectors - mean))

    def query_rows(self, vector: Array, gates: Gates = OPEN) -> Array:
        """The rows [2, 128] of a query's vector [248] of unit length."""
        direction = unit((vector - self.mean)[None])
        return _halves(direction * np.float32(gates.query_share(direction[0])), query=True)[:, 0]

    def document_rows(self, vectors: Array, modality_ids: Sequence[int] = (), gates: Gates = OPEN) -> Array:
        """The rows [2, n, 128] of documents' vectors [n, 248] of unit length; trained gates need the modality ids."""
        scaled = self.scaled(vectors)
        if gates is OPEN:
            return _halves(scaled, query=False)
        meaning, prior = gates.shares(modality_ids)
        return _halves(scaled * meaning[:, None], query=False, prior=prior)

    def scaled(self, vectors: Array) -> Array:
        """Documents' vectors [n, 248], shorter the more they differ in how they answer the bank."""
        deviations = np.sqrt(np.square(vectors @ self.queries.T).mean(axis=1))
        count = len(self.queries)
        others = np.square(self.queries @ self.queries.T).sum() - count
        usual = float(np.sqrt(others / (count * (count - 1))))
        scales = np.minimum(1.0, _LEAST_DEVIATION * usual / np.maximum(deviations, 1e-9))
        return np.asarray(vectors * scales[:, None], dtype=np.float32)


def unit(vectors: Array) -> Array:
    """Vectors [n, m] scaled to unit length; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-9)), dtype=np.float32)


def _halves(vectors: Array, *, query: bool, prior: Array | None = None) -> Array:
    """Rows [2, n, 128] of unit length: half, two marks, and what is missing to 1 where the other side has zero.

    A query's mark stands at the place of its half, a document's at that of the other half and with a minus: products
    of like halves are those of the vectors alone, those of unlike halves have MARK taken off. A document's ``prior``
    [n] stands at the place of its own half, so that products of like halves have it added.
    """
    rows = np.zeros((2, len(vectors), DIMENSION), dtype=np.float32)
    for half in (0, 1):
        rows[half, :, :HALF] = np.sqrt(1 - MARK) * vectors[:, half * HALF : (half + 1) * HALF]
        rows[half, :, HALF + (half if query else 1 - half)] = np.sqrt(MARK) * (1 if query else -1)
        if prior is not None:
            rows[half, :, HALF + half] = np.sqrt(1 - MARK) * prior
        rest = 1.0 - np.square(rows[half]).sum(axis=1)
        rows[half, :, HALF + (2 if query else 3)] = np.sqrt(np.maximum(rest, 0.0))
    return rows


class GemmaEncoder:
    """Frames and passages as two rows each, from EmbeddingGemma 2.

    Make one with :meth:`create`.

    Attributes:
        info: name and fingerprint.
        model: the loaded parts of the model.
    """

    NAME: ClassVar[str] = "gemma"
    ACCEPTS_AUDIO: ClassVar[bool] = False
    PARTS: ClassVar[int] = 2
    """The rows of a modality are all first halves, then all second halves; pooling keeps them apart."""

    def __init__(self, info: EncoderInfo, model: GemmaModel, cache: Path, gates: Gates = OPEN) -> None:
        self.info, self.model, self._cache, self._gates = info, model, cache, gates

    @classmethod
    def describe(
        cls,
        *,
        cache: Path,
        model: str = "",
        revision: str = "",
        dtype: Dtype = "auto",
        image_tokens: int = 70,
        adapter: str = "",
    ) -> EncoderInfo:
        """The name and fingerprint of what :meth:`create` would make, without loading the model.

        Raises:
            UsageError: an invalid setting.
            ModelError: the files are absent.
        """
        return cls._describe(_find(model, revision, cache), cache, dtype, image_tokens, adapter)

    @classmethod
    def create(
        cls,
        *,
        cache: Path,
        device: str = "auto",
        threads: int = 0,
        model: str = "",
        revision: str = "",
        dtype: Dtype = "auto",
        image_tokens: int = 70,
        adapter: str = "",
    ) -> Self:
        """Find the model; its parts are loaded when they are needed.

        Args:
            cache: folder of weights, digests and the bank's vectors.
            device: "auto", "cpu", "cuda" or "mps".
            threads: CPU threads; 0 leaves the choice to the libraries.
            model: folder or hub id of a checkpoint of this kind; empty for the published one.
            revision: branch, tag or commit on the hub.
            dtype: "auto" is bfloat16 on a GPU and on CPUs with matrix instructions for it (AMX), else float32; "int8"
                is for CPUs and has a fingerprint of its own. The model gives no numbers in float16.
            image_tokens: one of :data:`IMAGE_TOKENS`; twice as many take twice the time or more.
            adapter: folder of a training run, or its file of gates; empty for none.

        Raises:
            UsageError: an invalid setting.
            ModelError: files are absent, damaged or of another model.
        """
        files = _find(model, revision, cache)
        info = cls._describe(files, cache, dtype, image_tokens, adapter)
        gates = Gates.load(_gates_file(adapter)) if adapter else OPEN
        return cls(info, GemmaModel(files, device, threads, dtype, image_tokens), cache, gates)

    @classmethod
    def _describe(cls, files: hub.Files, cache: Path, dtype: str, image_tokens: int, adapter: str) -> EncoderInfo:
        if dtype not in get_args(Dtype):
            raise UsageError(f"invalid dtype: {dtype!r}", f"use {', '.join(get_args(Dtype))}")
        if image_tokens not in IMAGE_TOKENS:
            raise UsageError(f"invalid image_tokens: {image_tokens!r}", f"use {', '.join(map(str, IMAGE_TOKENS))}")
        kind = files.json("config.json").get("model_type")
        if kind != "embedding_gemma2":
            raise ModelError(f"{files.name} is a {kind} model, not embedding_gemma2", "use an EmbeddingGemma 2 model")
        # The dtype is left out: it rounds the same vectors. Whole numbers of 8 bits change them.
        parts = [f"{cls.NAME}{VERSION}", hub.digest(files, cache)[:16], str(image_tokens)] + ["int8"] * (
            dtype == "int8"
        )
        if adapter:
            try:
                parts.append(hashlib.sha256(_gates_file(adapter).read_bytes()).hexdigest()[:8])
            except OSError as error:
                raise ModelError(f"no gates in {adapter!r}", _TRAIN) from error
        return EncoderInfo(cls.NAME, "-".join(parts))

    @functools.cached_property
    def bank(self) -> Bank:
        """Vectors of the bank's queries, which are computed once and kept in the cache folder."""
        path = self._cache / "gemma" / f"bank-{self.info.fingerprint}.npy"
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            vectors = None
        if vectors is None or vectors.shape != (len(BANK), WIDTH) or not np.isfinite(vectors).all():
            vectors = self.model.texts([QUERY + query for query in BANK])
            content = io.BytesIO()
            np.save(content, vectors)
            # Without a cache that can be written the next run computes them again.
            with contextlib.suppress(OSError):
                write_atomically(path, content.getvalue())
        return Bank.of(np.asarray(vectors, dtype=np.float32))

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """Two vectors of each query, for all of it; none stands for a word."""
        results = []
        for vector in self.model.texts([QUERY + query for query in queries]):
            rows = Rows()
            for row in self.bank.query_rows(vector, self._gates):
                rows.add(row)
            results.append(rows.done())
        return results

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """The vectors of each document: frames, on-screen text, speech, metadata, then sound where it is taken.

        Raises:
            MediaError: a frame is no picture.
        """
        # The towers first, so that the model is loaded once.
        pictures = iter(self.model.pictures([frame for document in documents for frame in document.frames]))
        sounds = [document.audio for document in documents if self.ACCEPTS_AUDIO and document.audio is not None]
        heard = iter(self.model.sounds(sounds))
        return [self._document(document, pictures, heard) for document in documents]

    def _document(self, document: Document, pictures: Iterator[Array], heard: Iterator[Array]) -> TokenVectors:
        vectors: list[Array] = []
        origins: list[tuple[Modality, dict[str, Any]]] = []
        for number, frame in enumerate(document.frames):
            vectors.append(next(pictures))
            origins.append((Modality.VIDEO, {"span": frame.span, "segment": number}))
        passages: list[str] = []
        for modality in _TEXT_ORDER:
            track = TextTrack.join(document.segments(modality))
            texts = [segment.text for segment in track.segments]
            for pieces in self.model.passages(texts, across=modality is Modality.SPEECH):
                passages.append(" ".join(texts[segment][start:end] for segment, start, end in pieces))
                origins.append((modality, {"place": _place(track, pieces)}))
        vectors += list(self.model.texts([DOCUMENT + text for text in passages]))
        if self.ACCEPTS_AUDIO and document.audio is not None:
            vectors.append(next(heard))
            origins.append((Modality.AUDIO, {"span": document.audio.span}))
        rows = Rows()
        if vectors:
            ids = [MODALITY_IDS[modality] for modality, _ in origins]
            halves = self.bank.document_rows(np.stack(vectors), ids, self._gates)
            for modality in dict.fromkeys(modality for modality, _ in origins):
                for half in halves:
                    for row, (own, origin) in zip(half, origins, strict=True):
                        if own is modality:
                            rows.add(row, modality=modality, **origin)
        return rows.done()


class GemmaSoundEncoder(GemmaEncoder):
    """The same with the first 30 seconds of a moment's sound as a row of its own."""

    NAME = "gemma-omni"
    ACCEPTS_AUDIO = True


def _find(model: str, revision: str, cache: Path) -> hub.Files:
    return hub.find(model, revision) if model else hub.Files("gemma", weights.locate("gemma", cache))


def _gates_file(adapter: str) -> Path:
    path = Path(adapter).expanduser()
    return path / GATES if path.is_dir() else path


def _place(track: TextTrack, pieces: Sequence[tuple[int, int, int]]) -> Place:
    """The place of a passage: its first segment, and the time of all."""
    places = [
        track.locate(track.starts[segment] + start, track.starts[segment] + end) for segment, start, end in pieces
    ]
    first, last = places[0], places[-1]
    assert first is not None, "a piece is never empty"
    assert last is not None, "a piece is never empty"
    return Place(first.segment, first.start, first.end, Span(first.span.start, max(first.span.end, last.span.end)))


class GemmaModel:
    """The checkpoint: its tokenizer, and the parts of the model that were needed so far.

    Attributes:
        network: the loaded parts; None before anything was computed.

    Raises:
        ModelError: tensors or files are missing, left over or of another size, or the device is not there.
    """

    def __init__(self, files: hub.Files, device: str, threads: int, dtype: Dtype, image_tokens: int) -> None:
        from tokenizers import Tokenizer

        self._files, self._device, self._threads = files, device, threads
        self._dtype, self._image_tokens = dtype, image_tokens
        self.network: Any = None
        self._config = files.json("config.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(files.folder / "tokenizer.json"))
        # The binding raises bare exceptions for every kind of damage.
        except Exception as error:
            raise ModelError(f"tokenizer.json of {files.name} is absent or damaged", _AGAIN) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        plain = self._tokenizer.encode("").ids
        if len(plain) != 2:
            raise ModelError(f"tokenizer.json of {files.name} puts no marks around a text", _AGAIN)
        self._open, self._close = plain

    # --- text ---------------------------------------------------------------------------------------------------------

    def passages(self, texts: Sequence[str], *, across: bool) -> Iterator[list[tuple[int, int, int]]]:
        """Cut texts into passages of some tokens: pieces of ``texts[segment][start:end]`` each, in order.

        ``across`` lets a passage reach over several texts. What goes over the limit of a modality is left out.
        """
        passage: list[tuple[int, int, int]] = []
        size = used = 0
        pieces = ((segment, *piece) for segment, text in enumerate(texts) for piece in self._pieces(text))
        for segment, start, end, count in pieces:
            used += count
            if used > TOKENS_PER_MODALITY:
                break
            if passage and not (across and size + count <= PASSAGE_TOKENS):
                yield passage
                passage, size = [], 0
            passage.append((segment, start, end))
            size += count
        if passage:
            yield passage

    def _pieces(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Stretches of a text and how many tokens; one that is cut ends with a sentence if it can."""
        # The tokenizer takes no lone surrogates, which stand for the bytes of file names that are no UTF-8.
        readable = text.encode("utf-8", "replace").decode("utf-8")
        offsets = self._tokenizer.encode(readable, add_special_tokens=False).offsets
        first = 0
        while first < len(offsets):
            last = min(first + PASSAGE_TOKENS, len(offsets))
            if last < len(offsets):
                ends = range(last, first + PASSAGE_TOKENS // 2, -1)
                last = next((end for end in ends if text[offsets[end - 1][1] - 1] in _SENTENCE_END), last)
            start, end = offsets[first][0], offsets[last - 1][1]
            if _WRITTEN.search(text[start:end]):
                yield start, end, last - first
            first = last

    def texts(self, texts: Sequence[str]) -> Array:
        """Vectors [n, 248] of unit length of texts with their prompts, in order."""
        result = np.zeros((len(texts), WIDTH), dtype=np.float32)
        readable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(readable)]
        ids = [own if len(own) <= _LONGEST else [*own[: _LONGEST - 1], self._close] for own in ids]
        order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
        while order:
            # The longest first: a device that is too small for them says so at once.
            size = max(1, _BATCH_TOKENS // len(ids[order[-1]]))
            batch, order = order[-size:], order[:-size]
            result[batch] = self._run([ids[number] for number in batch])
        return result

    # --- pictures and sound -------------------------------------------------------------------------------------------

    def pictures(self, frames: Sequence[Frame], batch: int = 8) -> Array:
        """Vectors [n, 248] of unit length of frames.

        Raises:
            MediaError: a frame is no picture.
        """
        result = np.zeros((len(frames), WIDTH), dtype=np.float32)
        marks = self._marks("boi_token_id", "image_token_id", "eoi_token_id")
        for start in range(0, len(frames), batch):
            features = self._picture_features(frames[start : start + batch])
            ids = [self._around(marks, int(count)) for count in features.pop("num_soft_tokens_per_image")]
            result[start : start + batch] = self._run(ids, **features)
        return result

    def _picture_features(self, frames: Sequence[Frame]) -> dict[str, Any]:
        from PIL import Image

        images = []
        for frame in frames:
            try:
                images.append(Image.open(io.BytesIO(frame.jpeg)).convert("RGB"))
            except (*_DAMAGED, Image.DecompressionBombError) as error:
                what = f"the frame at {frame.time:.2f} s cannot be decoded"
                raise MediaError(what, "index the video again") from error
        return dict(self._picture_processor(images, max_soft_tokens=self._image_tokens, return_tensors="pt"))

    @functools.cached_property
    def _picture_processor(self) -> Any:  # noqa: ANN401 -- a class of transformers
        from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor

        return Gemma4ImageProcessor(**self._files.json("processor_config.json").get("image_processor", {}))

    def sounds(self, sounds: Sequence[Sound]) -> Array:
        """Vectors [n, 248] of unit length of the first 30 seconds of sounds."""
        result = np.zeros((len(sounds), WIDTH), dtype=np.float32)
        marks = self._marks("boa_token_id", "audio_token_id", "eoa_token_index")
        for number, sound in enumerate(sounds):
            samples = sound.samples[:_LONGEST_SOUND].astype(np.float32) / 32768.0
            features = self._sound_processor([samples], return_tensors="pt")
            count = features["input_features_mask"][0]
            for _ in range(2):
                # Two convolutions of step 2 in the tower.
                count = count[::2]
            ids = [self._around(marks, int(count.sum()))]
            mask = features["input_features_mask"]
            result[number] = self._run(ids, input_features=features["input_features"], input_features_mask=mask)[0]
        return result

    @functools.cached_property
    def _sound_processor(self) -> Any:  # noqa: ANN401 -- a class of transformers
        from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor

        return Gemma4AudioFeatureExtractor(**self._files.json("processor_config.json").get("feature_extractor", {}))

    def _marks(self, *names: str) -> tuple[int, int, int]:
        first, inner, last = (int(self._config[name]) for name in names)
        return first, inner, last

    def _around(self, marks: tuple[int, int, int], count: int) -> list[int]:
        """The tokens of a picture or sound alone."""
        first, inner, last = marks
        return [self._open, first, *[inner] * count, last, self._close]

    # --- the model ----------------------------------------------------------------------------------------------------

    def _run(self, ids: Sequence[Sequence[int]], **media: Any) -> Array:  # noqa: ANN401 -- tensors
        """Vectors [n, 248] of unit length: the mean of all token states of each input, and of that the beginning."""
        import torch

        model = self._with("input_features" in media, "pixel_values" in media)
        longest = max(map(len, ids))
        tokens = torch.tensor([[*own, *[0] * (longest - len(own))] for own in ids])
        mask = torch.tensor([[1] * len(own) + [0] * (longest - len(own)) for own in ids])
        place = next(model.parameters()).device
        inputs = {"input_ids": tokens, "attention_mask": mask, **media}
        with torch.inference_mode():
            states = model(**{name: value.to(place) for name, value in inputs.items()}).last_hidden_state.float().cpu()
        sums = (states * mask[..., None]).sum(dim=1)[:, :WIDTH]
        if not torch.isfinite(sums).all():
            raise ModelError(f"{self._files.name} gives no finite numbers", "use --dtype float32")
        return unit(sums.numpy())

    def _with(self, audio: bool, vision: bool) -> Any:  # noqa: ANN401 -- a class of transformers
        """The model with these towers at least; what was loaded before is kept if it is enough."""
        wanted = {"vision_config": vision, "audio_config": audio}
        if self.network is not None:
            wanted = {name: on or getattr(self.network.config, name) is not None for name, on in wanted.items()}
            if all(getattr(self.network.config, name) is not None for name, on in wanted.items() if on):
                return self.network
            self.network = None
        self.network = self._load({name for name, on in wanted.items() if on})
        return self.network

    def _load(self, towers: set[str]) -> Any:  # noqa: ANN401 -- a class of transformers
        import torch
        from transformers.models.embedding_gemma2.configuration_embedding_gemma2 import EmbeddingGemma2Config
        from transformers.models.embedding_gemma2.modeling_embedding_gemma2 import EmbeddingGemma2Model
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        place = torch.device(choose_device(self._device))
        if self._threads > 0:
            torch.set_num_threads(self._threads)
        try:
            config = EmbeddingGemma2Config.from_pretrained(self._files.folder)
            with torch.device("meta"):
                whole = EmbeddingGemma2Model(config).state_dict()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            what = f"config.json of {self._files.name} cannot be used: {first_line(error)}"
            raise ModelError(what, _AGAIN) from error
        self._check({name: tuple(tensor.shape) for name, tensor in whole.items()}, config.text_config.embedding_dim)
        for name in _PARTS:
            if name not in towers:
                setattr(config, name, None)
            elif getattr(config, name) is None:
                raise ModelError(f"{self._files.name} has no {_PARTS[name][0][:-1]}", "use the whole model")
        model, loading = EmbeddingGemma2Model.from_pretrained(
            self._files.folder,
            config=config,
            dtype=self._torch_dtype(place),
            local_files_only=True,
            output_loading_info=True,
        )
        if made_up := sorted({*loading["missing_keys"], *map(str, loading["mismatched_keys"])}):
            raise ModelError(f"{self._files.name} was not loaded whole: {hub.shorten(made_up)}", _AGAIN)
        model = model.eval().requires_grad_(False).to(place)
        if self._dtype == "int8":
            quantize: Any = torch.ao.quantization.quantize_dynamic
            layers = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
            # The library asks the first layer of pictures for the dtype of its weight, which a quantised one lacks.
            model = quantize(model, {name for name in layers if not name.endswith("input_proj")}, dtype=torch.qint8)
        return model

    def _torch_dtype(self, place: Any) -> Any:  # noqa: ANN401 -- torch is imported late
        import torch

        if self._dtype == "int8" and place.type != "cpu":
            raise UsageError("int8 is for the CPU", "use --device cpu or another --dtype")
        if self._dtype == "auto":
            # Without AMX bfloat16 is slower than float32, even where a CPU has other instructions for it.
            fast = place.type != "cpu" or torch.cpu.get_capabilities().get("amx_bf16", False)
            return torch.bfloat16 if fast else torch.float32
        return torch.float32 if self._dtype == "int8" else getattr(torch, self._dtype)

    def _check(self, expected: Mapping[str, tuple[int, ...]], width: int) -> None:
        """Account for every tensor of the checkpoint: the library makes up missing ones and passes over others.

        Raises:
            ModelError: tensors are missing, left over or of another shape; it names them.
        """
        from safetensors import SafetensorError, safe_open

        shapes: dict[str, tuple[int, ...]] = {}
        for path in self._files.weights():
            try:
                with safe_open(path, framework="numpy") as opened:
                    shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{path.name} of {self._files.name} is damaged", _AGAIN) from error
        problems = {
            "tensors are missing, they would stay random": sorted(set(expected) - set(shapes)),
            "tensors have no place": sorted(set(shapes) - set(expected)),
            "tensors have another shape": [
                f"{name} {list(shapes[name])} for {list(shape)}"
                for name, shape in sorted(expected.items())
                if name in shapes and shapes[name] != shape
            ],
        }
        if texts := [f"{len(names)} {text} ({hub.shorten(names)})" for text, names in problems.items() if names]:
            raise ModelError(f"{self._files.name} does not fit: {'; '.join(texts)}", "use a complete checkpoint")
        if width < WIDTH:
            raise ModelError(
                f"{self._files.name} gives {width} numbers, at least {WIDTH} are needed", "use another model"
            )
