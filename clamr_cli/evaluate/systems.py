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

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import MediaError, ModelError
from clamr_cli.evaluate.data import DEPTH
from clamr_cli.index.documents import document_of, documents_of
from clamr_cli.kernel import batches
from clamr_cli.queries import LabelledQuery
from clamr_cli.search.cascade import (
    SLOTS,
    Float32,
    ScoringRule,
    order,
    per_modality,
    score_packed,
    segment_max,
    slot_weights,
    video_of,
)
from clamr_cli.search.search import encode_queries, literal_moments
from clamr_cli.store import PackedVectors, Store
from clamr_cli.types import (
    DIMENSION,
    MODALITY_IDS,
    NO_MODALITY,
    SHOWN_MODALITIES,
    Document,
    Encoder,
    FileRecord,
    FileState,
    Modality,
    Scoring,
    TokenVectors,
)

if TYPE_CHECKING:
    from clamr_cli.encoders.mini.encoder import SentenceModel

Array: TypeAlias = NDArray[np.float32]

RRF_K: Final = 60
"""The constant of Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet", SIGIR 2009."""

_BATCH: Final = 8
"""Moments encoded together, each as up to five documents."""

_TOKENS_AT_ONCE: Final = 256
"""Tokens of several queries multiplied together: bounds the similarities with a chunk of vectors to 64 MiB."""


@dataclass(frozen=True, slots=True)
class QueryRanking:
    """A system's answer to one query, best first.

    ``scores`` are comparable between queries as far as the system allows: sums over query tokens are divided by their
    number. ``winners`` are the modality ids that won each document (0 for none), empty if the system does not say.
    """

    documents: tuple[str, ...]
    scores: tuple[float, ...]
    winners: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A system's name and its rankings, in the order of the collection's queries.

    ``oracle`` marks a system that knows the modality each query aims at: a bound, not a system that anyone could have.
    """

    name: str
    rankings: tuple[QueryRanking, ...]
    oracle: bool = False


def rank(
    name: str,
    scores: Array,
    documents: Sequence[str],
    *,
    winners: NDArray[np.uint8] | None = None,
    lengths: Array | None = None,
    first: NDArray[np.bool_] | None = None,
    oracle: bool = False,
) -> Run:
    """Rank the videos [v] of each query by scores [q, v], minus infinity for no answer; ties in the order of videos.

    ``winners`` are modality ids [q, v]; scores are divided by ``lengths`` [q], to compare them between queries. Videos
    of ``first`` [q, v] come before all others.
    """
    names = np.array(documents, dtype=object)
    rankings = []
    for number, row in enumerate(scores):
        best = order(row)
        if first is not None:
            best = best[np.argsort(~first[number, best], kind="stable")]
        best = best[:DEPTH]
        length = 1.0 if lengths is None else float(lengths[number])
        won = () if winners is None else tuple(winners[number, best].tolist())
        rankings.append(QueryRanking(tuple(names[best].tolist()), tuple((row[best] / length).tolist()), won))
    return Run(name, tuple(rankings), oracle)


def all_systems(
    store: Store,
    encoder: Encoder,
    queries: Sequence[LabelledQuery],
    files: Sequence[FileRecord],
    pool: Mapping[str, str],
    scoring: Scoring,
    *,
    baselines: bool,
    sentences: Callable[[], SentenceModel] | None,
    progress: Callable[[str, float, float], None],
) -> tuple[list[Run], list[str]]:
    """The runs of every system, the encoder's stored vectors first, and what was left out, and why.

    Args:
        store: the index.
        encoder: encodes queries.
        queries: of the collection.
        files: of the videos.
        pool: the videos that may answer: names in runs by id, ids ascending.
        scoring: of the joint run.
        baselines: rank with the other systems too.
        sentences: makes the model of the sentence baselines; None leaves those out, and so does an error of models
            that are absent, which is noted.
        progress: called with the work that is done, how much of it is done, and how much there is.
    """
    name, fingerprint = encoder.info.name, encoder.info.fingerprint
    video_ids, names = list(pool), list(pool.values())
    progress("encoding queries", 0, 1)
    tokens = encode_queries(store, encoder, [query.text for query in queries])
    lengths = np.array([len(query) for query in tokens], np.float32)
    encoded = store.encoded(fingerprint)

    def stored_vectors() -> Iterator[PackedVectors]:
        done = 0
        for batch in store.scan_packed(fingerprint):
            progress("comparing vectors", done, len(encoded))
            yield batch
            done += len(batch.moment_ids)

    literal = [literal_moments(store, query.text, own) for query, own in zip(queries, tokens, strict=True)]
    stored = score_videos(stored_vectors(), tokens, video_ids, scoring, literal)
    runs = [rank(f"{name} joint", stored.joint, names, winners=stored.winners, lengths=lengths, first=stored.first)]
    if not baselines:
        return runs, []
    notes = []
    alone: dict[Modality, Array] = {}
    for modality in (*SHOWN_MODALITIES, Modality.AUDIO):
        scores = stored.alone[:, :, MODALITY_IDS[modality]]
        if np.isfinite(scores).any():
            alone[modality] = scores
            runs.append(rank(f"{name} {modality}", scores, names, lengths=lengths))
    if alone:
        scores = routed(alone, [query.modality for query in queries])
        runs.append(rank(f"{name} oracle router", scores, names, lengths=lengths, oracle=True))
    sentence_baselines = None
    try:
        sentence_baselines = SentenceBaselines(sentences()) if sentences is not None else None
    except ModelError as error:
        notes.append(f"left out the baselines of sentence vectors: {error}")
    file_of: dict[str, FileRecord] = {}
    for file in sorted(files, key=lambda file: (file.state is not FileState.INDEXED, file.path)):
        file_of.setdefault(file.video_id, file)
    without_frames = 0

    def separate_vectors() -> Iterator[PackedVectors]:
        """The vectors of one video after another; the sentence baselines see its documents on the way."""
        nonlocal without_frames
        for number, video_id in enumerate(video_ids):
            progress("encoding again", number, len(video_ids))
            documents: list[Document] | None = None
            if video_id in file_of:
                with suppress(MediaError):  # the frames of this video are no longer stored
                    documents = documents_of(store, file_of[video_id])[1]
            if documents is None:
                without_frames += 1
                documents = [document_of(moment, {}) for moment in store.moments([video_id])]
            if sentence_baselines is not None:
                sentence_baselines.add(documents)
            # Skip moments the joint run has no vectors for.
            documents = [document for document in documents if document.id in encoded]
            for start in range(0, len(documents), _BATCH):
                yield encode_separately(encoder, documents[start : start + _BATCH])

    separate = score_videos(separate_vectors(), tokens, video_ids, scoring)
    if without_frames:
        notes.append(
            f"the pictures of {without_frames} videos are no longer kept: baselines that encode again know only their "
            "texts"
        )
    runs.append(rank(f"{name} apart", separate.joint, names, winners=separate.winners, lengths=lengths))
    if sentence_baselines is not None:
        runs += sentence_baselines.runs(queries, names)
    # BM25 over all texts of a moment; a video is as good as its best moment.
    columns = {video_id: column for column, video_id in enumerate(video_ids)}
    texts = np.full((len(queries), len(columns)), -np.inf, np.float32)
    for number, query in enumerate(queries):
        progress("searching texts", number, len(queries))
        for moment_id, score in store.scored_text(query.text):
            column = columns.get(video_of(moment_id))
            if column is not None:
                texts[number, column] = max(texts[number, column], score)
    return [*runs, rank("BM25 all texts", texts, names)], notes


# --- separate encoding ------------------------------------------------------------------------------------------------


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

    def __init__(self, model: SentenceModel) -> None:
        self._model = model
        self._videos: list[Mapping[Modality, Array]] = []

    def add(self, documents: Sequence[Document]) -> None:
        """Take the next video: its moments."""
        vectors: dict[Modality, Array] = {}
        for modality in SHOWN_MODALITIES:
            if modality is Modality.VIDEO:
                vectors[modality] = self._model.frames([frame.jpeg for doc in documents for frame in doc.frames])
                continue
            # Metadata, and text that stays on screen, stand in several moments; once is enough for a maximum.
            texts = dict.fromkeys(segment.text for document in documents for segment in document.segments(modality))
            vectors[modality] = self._model.passages(list(texts), across=modality is Modality.SPEECH)
        self._videos.append(vectors)

    def runs(self, queries: Sequence[LabelledQuery], names: Sequence[str]) -> list[Run]:
        """Each modality alone, and what can be made of their scores; ``names`` [v] are those of the videos."""
        vectors = np.stack([self._model.query(query.text) for query in queries])
        scores: dict[Modality, Array] = {}
        for modality in SHOWN_MODALITIES:
            parts = [video[modality] for video in self._videos]
            indptr = np.cumsum([0, *map(len, parts)])
            if indptr[-1]:
                scores[modality] = segment_max(vectors @ np.concatenate(parts).T, indptr)
        if not scores:
            return []
        parts = list(scores.values())
        router = routed(scores, [query.modality for query in queries])
        return [
            *(rank(f"sentences {modality}", values, names) for modality, values in scores.items()),
            rank("sentences mean", mean(parts), names),
            rank("sentences max", maximum(parts), names, winners=best_modality(scores)),
            rank("sentences RRF", reciprocal_ranks(parts), names),
            rank("sentences oracle router", router, names, oracle=True),
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


@dataclass(frozen=True, slots=True, eq=False)
class VideoScores:
    """Scores of every video for every query, by its best moment.

    Attributes:
        video_ids: [v], ascending.
        joint: [q, v] float32 over all modalities, minus infinity where nothing of a video can answer.
        alone: [q, v, SLOTS] float32 over one modality each, as a search in that modality gives; column 0 is empty.
        winners: [q, v] uint8, the modality with the highest score of its own in the moment that won ``joint``; 0 none.
        first: [q, v] bool, the videos of moments that come before all others; ``joint`` is of their best one.
    """

    video_ids: tuple[str, ...]
    joint: Float32
    alone: Float32
    winners: NDArray[np.uint8]
    first: NDArray[np.bool_]


def score_videos(
    packed: Iterable[PackedVectors],
    queries: Sequence[TokenVectors],
    video_ids: Iterable[str],
    scoring: Scoring,
    literal: Sequence[Collection[str]] = (),
) -> VideoScores:
    """The scores of all videos for all queries, as searches would give them, in one pass of the vectors.

    Args:
        packed: vectors of moments, as :meth:`Store.scan_packed` gives them; read once.
        queries: the queries' vectors, of the same encoder.
        video_ids: the videos that may answer; moments of others are passed over.
        scoring: of ``joint``.
        literal: of each query the ids of moments that come before all others; empty where none do.
    """
    ids = tuple(sorted(set(video_ids)))
    column_of = {video_id: number for number, video_id in enumerate(ids)}
    joint = np.full((len(queries), len(ids)), -np.inf, np.float32)
    alone = np.full((*joint.shape, SLOTS), -np.inf, np.float32)
    winners = np.zeros(joint.shape, np.uint8)
    first = np.zeros(joint.shape, np.bool_)
    rule = ScoringRule(scoring, slot_weights({}))
    for batch in packed:
        columns = np.array([column_of.get(video_of(moment_id), -1) for moment_id in batch.moment_ids])
        rows = np.flatnonzero(columns >= 0)
        for query, maxima in _maxima_of_queries(queries, batch):
            whole, apart = rule.scores(maxima), per_modality(maxima)
            deciding = per_modality(maxima[: queries[query].deciding])
            best = np.where(np.isfinite(deciding).any(axis=1), deciding.argmax(axis=1), 0)
            np.maximum.at(alone[query], columns[rows], apart[rows])
            some = rows
            if literal and literal[query]:
                holds = np.array([moment_id in literal[query] for moment_id in batch.moment_ids], np.bool_)
                new = np.unique(columns[rows[holds[rows] & ~first[query, columns[rows]]]])
                joint[query, new], first[query, new] = -np.inf, True
                some = rows[holds[rows] == first[query, columns[rows]]]
            better = some[whole[some] > joint[query, columns[some]]]
            # Of several values for one place the last is kept, so the best moment of a video comes last.
            better = better[np.argsort(whole[better], kind="stable")]
            joint[query, columns[better]] = whole[better]
            winners[query, columns[better]] = best[better]
    return VideoScores(ids, joint, alone, winners, first)


def _maxima_of_queries(queries: Sequence[TokenVectors], batch: PackedVectors) -> Iterator[tuple[int, Float32]]:
    """Each query's number and maxima [q, moments, SLOTS]; few tokens are multiplied together."""
    for some in batches(np.array([len(query) for query in queries]), _TOKENS_AT_ONCE):
        stacked = np.concatenate([np.asarray(query.vectors, np.float32) for query in queries[some]])
        maxima = score_packed(stacked, batch.vectors, batch.modality_ids, batch.indptr)
        ends = list(accumulate(len(query) for query in queries[some]))
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False), some.start):
            yield number, maxima[start:end]
