"""The systems that an index allows: the encoder's stored vectors, parts of them, and baselines on its extraction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import MediaError, ModelError
from clamr_cli.evaluate import apart, classical, fusion
from clamr_cli.evaluate.classical import Classical
from clamr_cli.evaluate.runs import Table
from clamr_cli.pipeline.stored import documents_of
from clamr_cli.search.many import VideoScores, score_videos
from clamr_cli.search.ranking import video_of
from clamr_cli.types import MODALITY_IDS, SHOWN_MODALITIES, Document, FileState, Modality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from clamr_cli.evaluate.classical import SentenceSpace
    from clamr_cli.evaluate.options import EvaluationOptions
    from clamr_cli.queries import LabelledQuery
    from clamr_cli.store import PackedVectors, Store
    from clamr_cli.types import Encoder, FileRecord, MomentRecord, TokenVectors

    Moved = Callable[[str, float, float], None]
    """Called with what is done, how much of it is done, and how much there is."""


_MOMENTS_AT_ONCE: Final = 8
"""Moments encoded together, each as up to four documents."""


@dataclass(frozen=True, slots=True)
class Systems:
    """Tables over the same videos, ``video_ids`` ascending, and what was left out and why."""

    video_ids: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Library:
    """The videos of the pool, an encoder, and how progress is told; ``notes`` collects what must be said.

    ``video_ids`` are ascending; ``files`` has those of all of them, by path.
    """

    store: Store
    encoder: Encoder
    video_ids: tuple[str, ...]
    files: Sequence[FileRecord]
    moved: Moved
    notes: list[str] = field(default_factory=list)

    def documents(self) -> Iterator[tuple[list[Document], bool]]:
        """The documents of each video, and whether their pictures are still kept."""
        by_video: dict[str, FileRecord] = {}
        for file in sorted(self.files, key=lambda file: (file.state is not FileState.INDEXED, file.path)):
            by_video.setdefault(file.video_id, file)
        for number, video_id in enumerate(self.video_ids):
            self.moved("encoding again", number, len(self.video_ids))
            yield self._documents(video_id, by_video.get(video_id))

    def _documents(self, video_id: str, file: FileRecord | None) -> tuple[list[Document], bool]:
        bare = [_without_pictures(moment) for moment in self.store.moments([video_id])]
        if file is None:
            return bare, False
        try:
            return documents_of(self.store, file)[1], True
        except MediaError:
            return bare, False

    def scanned(self) -> Iterator[PackedVectors]:
        """The stored vectors, with progress."""
        fingerprint = self.encoder.info.fingerprint
        total, done = len(self.store.encoded(fingerprint)), 0
        for batch in self.store.scan_packed(fingerprint):
            self.moved("comparing vectors", done, total)
            yield batch
            done += len(batch.moment_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The collection's queries and their vectors."""

    queries: tuple[LabelledQuery, ...]
    tokens: tuple[TokenVectors, ...]

    @property
    def aims(self) -> list[Modality | None]:
        """What each aims at."""
        return [query.modality for query in self.queries]

    @property
    def lengths(self) -> NDArray[np.float32]:
        """How many vectors each has, [q]."""
        return np.array([len(one) for one in self.tokens], np.float32)


def all_systems(
    library: Library,
    queries: Sequence[LabelledQuery],
    options: EvaluationOptions,
    sentences: Callable[[], SentenceSpace] | None,
) -> Systems:
    """Every system, the encoder's stored vectors first.

    Args:
        library: where the videos are.
        queries: the collection's.
        options: what to do.
        sentences: makes what the classical baselines are built on; None leaves those out, and so does an error of
            models that are absent, which is noted.
    """
    library.moved("encoding queries", 0, 1)
    asked = Asked(tuple(queries), tuple(library.encoder.encode_queries([query.text for query in queries])))
    tables = _stored(library, asked, options)
    if options.baselines:
        tables += _of_documents(library, asked, options, _classical(library, sentences))
        tables.append(_of_texts(library, queries))
    return Systems(library.video_ids, tuple(tables), tuple(library.notes))


def _stored(library: Library, asked: Asked, options: EvaluationOptions) -> list[Table]:
    """The stored vectors as they are searched; with baselines also each modality of them alone, and an oracle."""
    name = library.encoder.info.name
    scores = score_videos(library.scanned(), asked.tokens, library.video_ids, options.scoring)
    made = [Table(f"{name} joint", scores.joint, scores.winners, asked.lengths)]
    alone = _alone(scores)
    if options.baselines and alone:
        made += [Table(f"{name} {modality}", values, lengths=asked.lengths) for modality, values in alone.items()]
        made.append(
            Table(f"{name} oracle router", fusion.routed(alone, asked.aims), lengths=asked.lengths, oracle=True)
        )
    return made


def _alone(scores: VideoScores) -> dict[Modality, NDArray[np.float32]]:
    """The scores of each modality that any video has."""
    parts = {modality: scores.alone[:, :, MODALITY_IDS[modality]] for modality in (*SHOWN_MODALITIES, Modality.AUDIO)}
    return {modality: values for modality, values in parts.items() if np.isfinite(values).any()}


def _classical(library: Library, sentences: Callable[[], SentenceSpace] | None) -> Classical | None:
    if sentences is None:
        return None
    try:
        return Classical(sentences())
    except ModelError as error:
        library.notes.append(f"left out the baselines of sentence vectors: {error}")
        return None


def _of_documents(
    library: Library, asked: Asked, options: EvaluationOptions, baseline: Classical | None
) -> list[Table]:
    """The systems that need the documents again: the encoder with modalities apart, and the classical baselines."""
    name = library.encoder.info.name
    scores = score_videos(_apart(library, baseline), asked.tokens, library.video_ids, options.scoring)
    made = [Table(f"{name} apart", scores.joint, scores.winners, asked.lengths)]
    if baseline is not None:
        made += classical.tables(baseline.scores(query.text for query in asked.queries), asked.aims)
    return made


def _apart(library: Library, baseline: Classical | None) -> Iterator[PackedVectors]:
    """The vectors of one video after another; the classical baselines see its documents on the way."""
    encoded = library.store.encoded(library.encoder.info.fingerprint)
    lost = 0
    for documents, whole in library.documents():
        lost += not whole
        if baseline is not None:
            baseline.add(documents)
        # What the joint run cannot find for want of vectors, this one must not find either.
        known = [document for document in documents if document.id in encoded]
        for start in range(0, len(known), _MOMENTS_AT_ONCE):
            yield apart.encode(library.encoder, known[start : start + _MOMENTS_AT_ONCE])
    if lost:
        library.notes.append(
            f"the pictures of {lost} videos are no longer kept: baselines that encode again know only their texts"
        )


def _without_pictures(moment: MomentRecord) -> Document:
    return Document(moment.moment_id, moment.span, (), moment.speech, moment.ocr, moment.metadata)


def _of_texts(library: Library, queries: Sequence[LabelledQuery]) -> Table:
    """BM25 over all texts of a moment; a video is as good as its best moment."""
    place = {video_id: column for column, video_id in enumerate(library.video_ids)}
    scores = np.full((len(queries), len(place)), -np.inf, np.float32)
    for number, query in enumerate(queries):
        library.moved("searching texts", number, len(queries))
        for moment_id, score in library.store.scored_text(query.text):
            column = place.get(video_of(moment_id))
            if column is not None:
                scores[number, column] = max(scores[number, column], score)
    return Table("BM25 all texts", scores)
