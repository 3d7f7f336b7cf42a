"""Training pairs: queries whose answers are videos of an index, each with the moment that is its positive.

A judgement names a video; the model is trained on moments. Of a video with several moments, the positive is the one
that the index's own search ranks first for the query, in the modality of the query if the video has it. It is chosen
once, before training. No other moment of an answering video is ever a negative of the query.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import Dataset

from clamr_cli import encoders
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.evaluate.data import read_queries
from clamr_cli.evaluate.ids import resolve
from clamr_cli.index.documents import documents_of, indexed_videos
from clamr_cli.queries import LabelledQuery
from clamr_cli.search import search
from clamr_cli.store import Store
from clamr_cli.types import MODALITY_IDS, NO_MODALITY, Document, Encoder, Filters, MomentRecord, SearchOptions


class Pair(NamedTuple):
    """A query and the moment that answers it.

    ``modality`` is the id of the modality that the query aims at, 0 for none; ``video`` the number of the moment's
    video, ``document`` the number of the moment, ``answers`` the numbers of all videos that answer the query.
    """

    query: str
    modality: int
    moment: str
    video: int
    document: int
    answers: tuple[int, ...]


class IndexedDocuments:
    """The documents of an index by moment; those of the videos used last stay in memory."""

    def __init__(self, store: Store, cached_videos: int = 32) -> None:
        self.files = indexed_videos(store)
        self._store, self._cached_videos = store, cached_videos
        self._by_video = {record.video_id: record for record in self.files}
        self._cache: OrderedDict[str, dict[str, Document]] = OrderedDict()

    def __getitem__(self, moment: str) -> Document:
        """The document of a moment; a UsageError where the frames of its video are no longer stored."""
        video = moment.partition("#")[0]
        if video not in self._cache:
            record = self._by_video[video]
            try:
                documents = documents_of(self._store, record)[1]
            except MediaError as error:
                raise UsageError(f"{record.path}: {error.what}", error.hint) from error
            self._cache[video] = {document.id: document for document in documents}
            if len(self._cache) > self._cached_videos:
                self._cache.popitem(last=False)
        self._cache.move_to_end(video)
        return self._cache[video][moment]


class Pairs(Dataset[tuple[Pair, Document]]):
    """Pairs with their documents, as a data set."""

    def __init__(self, pairs: Sequence[Pair], documents: IndexedDocuments) -> None:
        self.pairs = tuple(pairs)
        self._documents = documents

    def shuffled(self, seed: int) -> Pairs:
        """The same pairs in another order.

        In most files the queries of one video are next to each other. In that order, the batches of an evaluation have
        few other videos, and a loss without negatives has no meaning.
        """
        return Pairs(random.Random(seed).sample(self.pairs, len(self.pairs)), self._documents)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Pair, Document]:
        return self.pairs[index], self._documents[self.pairs[index].moment]


def best_moment(
    store: Store, encoder: Encoder, query: LabelledQuery, video: str, moments: Sequence[MomentRecord]
) -> str:
    """The id of the moment of a video that answers a query best, of these moments."""
    filters = Filters(videos=(video,))
    candidates = {moment.moment_id for moment in moments}
    for modalities in ((query.modality,) if query.modality else (), ()):
        options = SearchOptions(modalities=modalities, limit=len(moments), moments=True, filters=filters)
        for hit in search(store, encoder, query.text, options):
            if hit.moment_id in candidates:
                return hit.moment_id
    return moments[0].moment_id


def index_encoder(store: Store, *, cache: Path, device: str, threads: int) -> Encoder:
    """An encoder that the index has vectors of, the lightest if there are several.

    Raises:
        UsageError: it has no vectors.
    """
    order = list(encoders.TABLE)
    names = [use.info.name for use in store.encoders()]
    if not names:
        raise UsageError("the index has no vectors", "finish indexing first: clamr index DIR")
    name = min(names, key=lambda name: (order.index(name.partition(":")[0]), name))
    return encoders.create(name, cache=cache, device=device, threads=threads, **store.encoder_settings(name))


def read_pairs(
    path: Path, store: Store, documents: IndexedDocuments, encoder: Callable[[], Encoder]
) -> tuple[Pairs, list[str]]:
    """The pairs of a file of labelled queries, in its order, and a sentence on each kind of queries left out.

    ``encoder`` makes one to search with; it is called where videos have several moments to choose from.

    Raises:
        UsageError: the file cannot be read, or no query of it has an answer in the index.
    """
    try:
        queries = read_queries(path)
    except UsageError as error:
        if "--format" in error.hint:  # clamr train has no such option
            raise UsageError(error.what, "give labelled queries as clamr synth writes them") from error
        raise
    resolved = resolve([name for query in queries for name in query.relevant], documents.files)
    video_numbers = {record.video_id: number for number, record in enumerate(documents.files)}
    # Moments without any content have nothing to encode.
    moments: dict[str, list[MomentRecord]] = {video: [] for video in resolved.videos.values()}
    for moment in store.moments(sorted(moments)) if moments else ():
        if moment.frame_times or moment.speech or moment.ocr or moment.metadata:
            moments[moment.video_id].append(moment)
    moment_numbers: dict[str, int] = {}
    pairs: list[Pair] = []
    for query in queries:
        videos = sorted({resolved.videos[name] for name in query.relevant if name in resolved.videos})
        modality = NO_MODALITY if query.modality is None else MODALITY_IDS[query.modality]
        answers = tuple(video_numbers[video] for video in videos)
        for video in videos:
            if moments[video]:
                best = moments[video][0].moment_id
                if len(moments[video]) > 1:
                    best = best_moment(store, encoder(), query, video, moments[video])
                number = moment_numbers.setdefault(best, len(moment_numbers))
                pairs.append(Pair(query.text, modality, best, video_numbers[video], number, answers))
    if not pairs:
        raise UsageError(f"no query of {path.name} has an answer in the index", "index its videos first: clamr index")
    notes = []
    if resolved.unknown:
        count, first = len(resolved.unknown), resolved.unknown[0]
        notes.append(f"{path.name}: {count} answers are not in the index and left out, the first is {first}")
    if unanswered := sum(not query.relevant for query in queries):
        notes.append(f"{path.name}: {unanswered} queries without an answer are left out")
    if empty := sum(not contents for contents in moments.values()):
        notes.append(f"{path.name}: {empty} videos without any content are left out")
    return Pairs(pairs, documents), notes
