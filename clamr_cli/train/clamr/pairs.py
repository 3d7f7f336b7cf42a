"""What is learnt from: queries whose answers are videos of an index, each with the moment that is its positive.

A judgement names a video, the model learns from moments. Of a video with several, the positive is the moment that the
index's own search finds best for the query, among what the query aims at where the video has any of it. It is chosen
once, before training. No other moment of an answering video is ever a negative of the query.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from torch.utils.data import Dataset

from clamr_cli import encoders
from clamr_cli.errors import MediaError, UsageError
from clamr_cli.evaluate.data import read_queries
from clamr_cli.evaluate.ids import resolve
from clamr_cli.pipeline.stored import documents_of, indexed_videos
from clamr_cli.search import search
from clamr_cli.types import MODALITY_IDS, NO_MODALITY, Filters, SearchOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from clamr_cli.queries import LabelledQuery
    from clamr_cli.store import Store
    from clamr_cli.types import Document, Encoder, FileRecord, Modality, MomentRecord

_VIDEOS_KEPT: Final = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and the moment that answers it.

    ``answers`` are numbers of all videos that answer it, ``video`` is the number of this one's, ``document`` the number
    of the moment.
    """

    query: str
    modality: int
    moment: str
    video: int
    document: int
    answers: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A pair with its document."""

    pair: Pair
    document: Document


class Shelf:
    """The documents of an index by moment; those of the videos used last stay in memory."""

    def __init__(self, store: Store) -> None:
        self.files = indexed_videos(store)
        self._store = store
        self._by_video = {record.video_id: record for record in self.files}
        self._kept: OrderedDict[str, dict[str, Document]] = OrderedDict()

    def __getitem__(self, moment: str) -> Document:
        """The document of a moment.

        Raises:
            UsageError: the pictures of its video are no longer kept.
        """
        video = moment.partition("#")[0]
        if video not in self._kept:
            self._kept[video] = self._read(self._by_video[video])
            if len(self._kept) > _VIDEOS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(video)
        return self._kept[video][moment]

    def _read(self, record: FileRecord) -> dict[str, Document]:
        try:
            return {document.id: document for document in documents_of(self._store, record)[1]}
        except MediaError as problem:
            raise UsageError(f"{record.path}: {problem.what}", problem.hint) from problem


class Pairs(Dataset[Example]):
    """Pairs as a data set."""

    def __init__(self, pairs: Sequence[Pair], shelf: Shelf) -> None:
        self.pairs = tuple(pairs)
        self._shelf = shelf

    def shuffled(self, seed: int) -> Pairs:
        """The same in another order.

        Queries of one video stand together in most files. Taken so, the batches of an evaluation would hold few other
        videos, and a loss without negatives says nothing.
        """
        return Pairs(random.Random(seed).sample(self.pairs, len(self.pairs)), self._shelf)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> Example:
        return Example(self.pairs[place], self._shelf[self.pairs[place].moment])


class Finder:
    """Chooses the moment of a video that answers a query.

    Args:
        store: the index.
        make: makes the encoder to search with, when the first choice has to be made.
    """

    def __init__(self, store: Store, make: Callable[[], Encoder]) -> None:
        self._store, self._make = store, make
        self._encoder: Encoder | None = None

    def best(self, query: LabelledQuery, video: str, moments: Sequence[MomentRecord]) -> str:
        """The id of the best of these moments (one at least) for the query."""
        if len(moments) == 1:
            return moments[0].moment_id
        if self._encoder is None:
            self._encoder = self._make()
        filters = Filters(videos=(video,))
        known = {moment.moment_id for moment in moments}
        for wanted in ((query.modality,) if query.modality else (), ()):
            options = SearchOptions(modalities=wanted, limit=len(moments), moments=True, filters=filters)
            hits = search(self._store, self._encoder, query.text, options)
            found = [hit.moment_id for hit in hits if hit.moment_id in known]
            if found:
                return found[0]
        return moments[0].moment_id


def index_encoder(store: Store, *, cache: Path, device: str, threads: int) -> Encoder:
    """An encoder that the index has vectors of, the lightest where there are several.

    Raises:
        UsageError: it has none.
    """
    order = list(encoders.TABLE)
    uses = [use.info for use in store.encoders()]
    if not uses:
        raise UsageError("the index has no vectors", "finish indexing first: clamr index DIR")
    name = min((use.name for use in uses), key=lambda name: (order.index(name.partition(":")[0]), name))
    return encoders.create(name, cache=cache, device=device, threads=threads, **store.encoder_settings(name))


def read_pairs(path: Path, store: Store, shelf: Shelf, finder: Finder) -> tuple[Pairs, list[str]]:
    """The pairs of a file of labelled queries, in its order, and what had to be left out of it, a sentence each.

    Raises:
        UsageError: the file cannot be read, or no query of it has an answer in the index.
    """
    queries = _queries(path)
    resolved = resolve([name for query in queries for name in query.relevant], shelf.files)
    numbers = {record.video_id: number for number, record in enumerate(shelf.files)}
    moments = _moments(store, set(resolved.videos.values()))
    documents: dict[str, int] = {}
    pairs: list[Pair] = []
    for query in queries:
        videos = sorted({resolved.videos[name] for name in query.relevant if name in resolved.videos})
        answers = tuple(numbers[video] for video in videos)
        for video in videos:
            if moments.get(video):
                moment = finder.best(query, video, moments[video])
                number = documents.setdefault(moment, len(documents))
                pairs.append(Pair(query.text, _number(query.modality), moment, numbers[video], number, answers))
    if not pairs:
        raise UsageError(f"no query of {path.name} has an answer in the index", "index its videos first: clamr index")
    return Pairs(pairs, shelf), _left_out(path.name, resolved.unknown, queries, moments)


def _queries(path: Path) -> Sequence[LabelledQuery]:
    try:
        return read_queries(path).queries
    except UsageError as error:
        if "--format" in error.hint:  # there is none here
            raise UsageError(error.what, "give labelled queries as clamr synth writes them") from error
        raise


def _moments(store: Store, videos: set[str]) -> Mapping[str, Sequence[MomentRecord]]:
    """The moments of videos that hold anything to encode."""
    found: dict[str, list[MomentRecord]] = {video: [] for video in videos}
    for moment in store.moments(sorted(videos)) if videos else ():
        if moment.frame_times or moment.speech or moment.ocr or moment.metadata:
            found[moment.video_id].append(moment)
    return found


def _number(modality: Modality | None) -> int:
    return NO_MODALITY if modality is None else MODALITY_IDS[modality]


def _left_out(
    name: str, unknown: Sequence[str], queries: Sequence[LabelledQuery], moments: Mapping[str, Sequence[MomentRecord]]
) -> list[str]:
    said = []
    if unknown:
        said.append(f"{name}: {len(unknown)} answers are no video of the index and left out, the first is {unknown[0]}")
    if unanswered := sum(not query.relevant for query in queries):
        said.append(f"{name}: {unanswered} queries without an answer are left out")
    if empty := sum(not found for found in moments.values()):
        said.append(f"{name}: {empty} videos have nothing to learn from and are left out")
    return said
