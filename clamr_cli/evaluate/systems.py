"""The systems that an index allows: the encoder's stored vectors, parts of them, and simpler systems to compare with.

*Separate encoding* is the same encoder without contextualisation: each modality is encoded as a document of its own,
then put side by side. CLaMR's ablation (arXiv 2506.06144, section 6) is of a model trained so; here the encoder is as
it is, and only what its modalities can see of each other differs.

*Sentence baselines* have one sentence vector per passage and one vector per frame; the best of a video by cosine
counts, then scores are fused. CLaMR compares itself with such averaging, maximum, rank fusion and routing (section 5):
each modality is searched on its own, and one number per modality is all that meets.

*Fusion* makes one ranking from one score per modality. Scores are [q, v] float32, minus infinity for a video that
lacks the modality. A video is not punished for what it lacks: the mean is over the modalities it has, the maximum takes
the best of them, and reciprocal rank fusion adds nothing for a ranking it is not in. A video without any modality has
no score.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import MediaError, ModelError
from clamr_cli.evaluate.runs import Run, ranked
from clamr_cli.index.documents import documents_of
from clamr_cli.search import scoring as maxsim
from clamr_cli.search.scoring import order, score_videos, video_of
from clamr_cli.store import PackedVectors
from clamr_cli.types import DIMENSION, MODALITY_IDS, NO_MODALITY, SHOWN_MODALITIES, Document, FileState, Modality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol

    from numpy.typing import NDArray

    from clamr_cli.queries import LabelledQuery
    from clamr_cli.store import Store
    from clamr_cli.types import Encoder, FileRecord, Scoring

    Array = NDArray[np.float32]

    Progress = Callable[[str, float, float], None]
    """Called with the work that is done, how much of it is done, and how much there is."""

    class SentenceSpace(Protocol):
        """One vector a sentence and one a picture, in one space."""

        def query(self, text: str) -> Array:
            """The unit vector of a query, [width]."""
            ...

        def passages(self, texts: Sequence[str], *, across: bool) -> Array:
            """Unit vectors of the passages of texts, [n, width]; ``across`` reads several texts together."""
            ...

        def frames(self, jpegs: Sequence[bytes]) -> Array:
            """Unit vectors of pictures, [n, width]."""
            ...


RRF_K: Final = 60
"""The constant of Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet", SIGIR 2009."""

_BATCH: Final = 8
"""Moments encoded together, each as up to five documents."""


@dataclass(slots=True)
class Pool:
    """The videos that may answer.

    Attributes:
        store: the index.
        encoder: of the stored vectors.
        video_ids: ascending.
        names: of the videos in runs, in the order of ``video_ids``.
        files: of all the videos, by path.
        progress: called while it takes long.
        notes: filled with what was left out, and why.
    """

    store: Store
    encoder: Encoder
    video_ids: Sequence[str]
    names: Sequence[str]
    files: Sequence[FileRecord]
    progress: Progress
    notes: list[str] = field(default_factory=list)


def all_systems(
    pool: Pool,
    queries: Sequence[LabelledQuery],
    scoring: Scoring,
    *,
    baselines: bool,
    sentences: Callable[[], SentenceSpace] | None,
) -> list[Run]:
    """The runs of every system, the encoder's stored vectors first.

    Args:
        pool: the videos.
        queries: of the collection.
        scoring: of the stored vectors and of separate encoding.
        baselines: also run the systems to compare with.
        sentences: makes the space of the sentence baselines; None leaves those out, and so does an error of models that
            are absent, which is noted.
    """
    name = pool.encoder.info.name
    aims = [query.modality for query in queries]
    pool.progress("encoding queries", 0, 1)
    tokens = pool.encoder.encode_queries([query.text for query in queries])
    lengths = np.array([len(one) for one in tokens], np.float32)
    stored = score_videos(_stored_vectors(pool), tokens, pool.video_ids, scoring)
    runs = [ranked(f"{name} joint", stored.joint, pool.names, winners=stored.winners, lengths=lengths)]
    if not baselines:
        return runs
    modalities = (*SHOWN_MODALITIES, Modality.AUDIO)
    alone = {modality: stored.alone[:, :, MODALITY_IDS[modality]] for modality in modalities}
    alone = {modality: scores for modality, scores in alone.items() if np.isfinite(scores).any()}
    runs += [ranked(f"{name} {modality}", scores, pool.names, lengths=lengths) for modality, scores in alone.items()]
    if alone:
        runs.append(ranked(f"{name} oracle router", routed(alone, aims), pool.names, lengths=lengths, oracle=True))
    sentence_vectors = None
    try:
        sentence_vectors = SentenceBaselines(sentences()) if sentences is not None else None
    except ModelError as error:
        pool.notes.append(f"left out the baselines of sentence vectors: {error}")
    apart = score_videos(_separate_vectors(pool, sentence_vectors), tokens, pool.video_ids, scoring)
    runs.append(ranked(f"{name} apart", apart.joint, pool.names, winners=apart.winners, lengths=lengths))
    if sentence_vectors is not None:
        runs += sentence_vectors.runs(queries, pool.names)
    runs.append(_full_text(pool, queries))
    return runs


def _stored_vectors(pool: Pool) -> Iterator[PackedVectors]:
    fingerprint = pool.encoder.info.fingerprint
    total, done = len(pool.store.encoded(fingerprint)), 0
    for batch in pool.store.scan_packed(fingerprint):
        pool.progress("comparing vectors", done, total)
        yield batch
        done += len(batch.moment_ids)


def _full_text(pool: Pool, queries: Sequence[LabelledQuery]) -> Run:
    """BM25 over all texts of a moment; a video is as good as its best moment."""
    columns = {video_id: column for column, video_id in enumerate(pool.video_ids)}
    scores = np.full((len(queries), len(columns)), -np.inf, np.float32)
    for number, query in enumerate(queries):
        pool.progress("searching texts", number, len(queries))
        for moment_id, score in pool.store.scored_text(query.text):
            column = columns.get(video_of(moment_id))
            if column is not None:
                scores[number, column] = max(scores[number, column], score)
    return ranked("BM25 all texts", scores, pool.names)


# --- separate encoding ------------------------------------------------------------------------------------------------


def _separate_vectors(pool: Pool, baselines: SentenceBaselines | None) -> Iterator[PackedVectors]:
    """The vectors of one video after another; the sentence baselines see its documents on the way."""
    encoded = pool.store.encoded(pool.encoder.info.fingerprint)
    file_of: dict[str, FileRecord] = {}
    for file in sorted(pool.files, key=lambda file: (file.state is not FileState.INDEXED, file.path)):
        file_of.setdefault(file.video_id, file)
    without_frames = 0
    for number, video_id in enumerate(pool.video_ids):
        pool.progress("encoding again", number, len(pool.video_ids))
        documents: list[Document] | None = None
        if video_id in file_of:
            with suppress(MediaError):  # the frames of this video are no longer kept
                documents = documents_of(pool.store, file_of[video_id])[1]
        if documents is None:
            without_frames += 1
            documents = [
                Document(moment.moment_id, moment.span, (), moment.speech, moment.ocr, moment.metadata)
                for moment in pool.store.moments([video_id])
            ]
        if baselines is not None:
            baselines.add(documents)
        # Moments without stored vectors cannot be found by the joint run either.
        documents = [document for document in documents if document.id in encoded]
        for start in range(0, len(documents), _BATCH):
            yield encode_separately(pool.encoder, documents[start : start + _BATCH])
    if without_frames:
        pool.notes.append(
            f"the pictures of {without_frames} videos are no longer kept: baselines that encode again know only their "
            "texts"
        )


def split(document: Document) -> list[Document]:
    """A document for each modality that a document has."""
    bare = replace(document, frames=(), speech=(), ocr=(), metadata=(), audio=None)
    parts = (
        replace(bare, frames=document.frames),
        replace(bare, ocr=document.ocr),
        replace(bare, speech=document.speech),
        replace(bare, metadata=document.metadata),
        replace(bare, audio=document.audio),
    )
    return [part for part in parts if part != bare or part.audio is not None]


def encode_separately(encoder: Encoder, documents: Sequence[Document]) -> PackedVectors:
    """The vectors of moments whose modalities did not see each other.

    Vectors of no modality (template tokens) are left out: each part would bring its own.
    """
    parts = [split(document) for document in documents]
    encoded = iter(encoder.encode_documents([part for pieces in parts for part in pieces]))
    indptr = [0]
    vectors, modality_ids = [np.zeros((0, DIMENSION), np.float16)], [np.zeros(0, np.uint8)]
    for pieces in parts:
        count = 0
        for _ in pieces:
            tokens = next(encoded)
            content = tokens.modality_ids != NO_MODALITY
            # As the index keeps them, so that both are rounded alike.
            vectors.append(tokens.vectors[content].astype(np.float16))
            modality_ids.append(tokens.modality_ids[content])
            count += int(content.sum())
        indptr.append(indptr[-1] + count)
    return PackedVectors(
        [document.id for document in documents],
        np.array(indptr),
        np.concatenate(vectors),
        np.concatenate(modality_ids),
        np.zeros(len(documents), np.bool_),
    )


# --- sentence baselines -----------------------------------------------------------------------------------------------


class SentenceBaselines:
    """Collects the sentence and frame vectors of videos, one after another, and ranks them."""

    def __init__(self, space: SentenceSpace) -> None:
        self._space = space
        self._videos: list[Mapping[Modality, Array]] = []

    def add(self, documents: Sequence[Document]) -> None:
        """Take the next video: its moments."""
        vectors: dict[Modality, Array] = {}
        for modality in SHOWN_MODALITIES:
            if modality is Modality.VIDEO:
                frames = [frame.jpeg for document in documents for frame in document.frames]
                vectors[modality] = self._space.frames(frames)
                continue
            # Metadata, and text that stays on screen, stand in several moments; once is enough for a maximum.
            texts = dict.fromkeys(segment.text for document in documents for segment in document.segments(modality))
            vectors[modality] = self._space.passages(list(texts), across=modality is Modality.SPEECH)
        self._videos.append(vectors)

    def runs(self, queries: Sequence[LabelledQuery], names: Sequence[str]) -> list[Run]:
        """Each modality alone, and what can be made of their scores; ``names`` [v] are those of the videos."""
        vectors = np.stack([self._space.query(query.text) for query in queries])
        scores: dict[Modality, Array] = {}
        for modality in SHOWN_MODALITIES:
            parts = [video[modality] for video in self._videos]
            indptr = np.cumsum([0, *map(len, parts)])
            if indptr[-1]:
                scores[modality] = maxsim.segment_max(vectors @ np.concatenate(parts).T, indptr)
        if not scores:
            return []
        parts = list(scores.values())
        router = routed(scores, [query.modality for query in queries])
        return [
            *(ranked(f"sentences {modality}", values, names) for modality, values in scores.items()),
            ranked("sentences mean", mean(parts), names),
            ranked("sentences max", maximum(parts), names, winners=best_modality(scores)),
            ranked("sentences RRF", reciprocal_ranks(parts), names),
            ranked("sentences oracle router", router, names, oracle=True),
        ]


# --- fusion -----------------------------------------------------------------------------------------------------------


def mean(parts: Sequence[Array]) -> Array:
    """The mean over the modalities that a video has."""
    stacked = np.stack(parts)
    present = np.isfinite(stacked)
    count = present.sum(axis=0)
    total = np.where(present, stacked, np.float32(0.0)).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf).astype(np.float32)


def maximum(parts: Sequence[Array]) -> Array:
    """The best modality's score."""
    best: Array = np.stack(parts).max(axis=0)
    return best


def best_modality(parts: Mapping[Modality, Array]) -> NDArray[np.uint8]:
    """The id of the modality with the best score, [q, v] uint8; 0 for a video that has none."""
    stacked = np.stack(list(parts.values()))
    ids = np.array([MODALITY_IDS[modality] for modality in parts], np.uint8)
    best: NDArray[np.uint8] = np.where(np.isfinite(stacked).any(axis=0), ids[stacked.argmax(axis=0)], 0)
    return best.astype(np.uint8)


def reciprocal_ranks(parts: Sequence[Array]) -> Array:
    """The sum of 1 / (60 + rank) over the modalities' rankings, ranks from 1."""
    total = np.zeros(parts[0].shape, np.float32)
    for part in parts:
        for query, row in enumerate(part):
            best = order(row)
            total[query, best] += 1.0 / (RRF_K + 1 + np.arange(len(best), dtype=np.float32))
    return np.where(total > 0, total, np.float32(-np.inf))


def routed(parts: Mapping[Modality, Array], aims: Sequence[Modality | None]) -> Array:
    """The scores of the modality that each query is known to aim at; the maximum for one that aims at none.

    No system can know the aim, so this is a bound for those that choose a modality by the query. A query that aims at
    a modality no video has finds nothing.
    """
    scores = maximum(list(parts.values()))
    for query, aim in enumerate(aims):
        if aim is not None:
            scores[query] = parts[aim][query] if aim in parts else -np.inf
    return scores
