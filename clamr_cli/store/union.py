"""Several indexes that are read as one. MaxSim has no statistics of a corpus, so their ranking is that of one index.

What a search takes from the whole library is taken from all of them: the sample that confidence compares with, the
words by which spelling is corrected, the number of videos that answer. A video that several indexes hold answers from
the first of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import StoreError, UnknownVideo, UsageError
from clamr_cli.store.scan_cache import PackedVectors, ScanFile, Snapshot
from clamr_cli.store.store import EncoderUse, Extraction, LastHit, LastSearch, Store, StoreStats, VideoFacts
from clamr_cli.types import (
    EncoderInfo,
    FileRecord,
    Labels,
    MomentRecord,
    SearchOptions,
    Speaker,
    TokenVectors,
    VideoRecord,
    Voices,
)

_MOST_NAMED: Final = 3


class StoreUnion(Store):
    """Several indexes, for reading. Methods are those of :class:`Store`; what would change an index is refused."""

    def __init__(self, stores: Sequence[Store]) -> None:
        super().__init__(stores[0].tables)
        self._stores = tuple(stores)

    @property
    def uri(self) -> str:
        """The addresses of the indexes, for messages."""
        return " and ".join(store.uri for store in self._stores)

    @property
    def parts(self) -> tuple[Store, ...]:
        """The indexes, in the order in which a video of several of them is taken from one."""
        return self._stores

    def _own(self) -> Iterator[tuple[Store, frozenset[str]]]:
        """Each index, and its videos that answer from one before it."""
        before: set[str] = set()
        for store in self._stores:
            ids = store.video_ids()
            yield store, frozenset(ids & before)
            before |= ids

    # --- the index as a whole -----------------------------------------------------------------------------------------

    def writer(self, command: str) -> Any:  # noqa: ANN401
        """Refuse: one index is changed at a time."""
        raise UsageError(f"{command} changes one index at a time", "give --db once")

    def is_being_written(self) -> bool:
        return any(store.is_being_written() for store in self._stores)

    def tables_behind(self) -> list[str]:
        return sorted({name for store in self._stores for name in store.tables_behind()})

    def problems(self) -> list[str]:
        return [f"{store.uri}: {line}" for store in self._stores for line in store.problems()]

    def stats(self) -> StoreStats:
        all_stats = [store.stats() for store in self._stores]
        sizes = [stats.size for stats in all_stats]
        names = ("files", "failed", "missing", "videos", "moments", "extractions")
        return StoreStats(
            **{name: sum(getattr(stats, name) for stats in all_stats) for name in names},
            seconds=sum(stats.seconds for stats in all_stats),
            encoders=tuple(self.encoders()),
            size=None if None in sizes else sum(size or 0 for size in sizes),
        )

    def remember_search(
        self, query: str, options: SearchOptions, encoder: str = "", hits: Sequence[LastHit] = (), like: str = ""
    ) -> None:
        """Note in each index the hits that are of it, under the ranks of all: they are names there."""
        for store in self._stores:
            there = {video.video_id for video in store.videos([hit.video_id for hit in hits])}
            store.remember_search(query, options, encoder, [hit for hit in hits if hit.video_id in there], like)

    def last_search(self) -> LastSearch | None:
        """The last search of the first index, with the hits that the others have of it."""
        searches = [search for store in self._stores if (search := store.last_search()) is not None]
        if not searches:
            return None
        first = searches[0]
        same = [
            one for one in searches if (one.query, one.options, one.like) == (first.query, first.options, first.like)
        ]
        hits = {hit.rank: hit for search in reversed(same) for hit in search.hits}
        return replace(first, hits=tuple(hits[rank] for rank in sorted(hits)))

    def running(self) -> str:
        return "; ".join(filter(None, (store.running() for store in self._stores)))

    def saved_searches(self) -> dict[str, dict[str, Any]]:
        """The saved searches of all; of one name that of the first index that has it."""
        return {name: search for store in reversed(self._stores) for name, search in store.saved_searches().items()}

    def save_searches(self, searches: Mapping[str, Mapping[str, object]]) -> None:
        """Save in the first index."""
        self._stores[0].save_searches(searches)

    # --- files, videos, moments and texts -----------------------------------------------------------------------------

    def files(self, video_ids: Sequence[str] | None = None) -> list[FileRecord]:
        by_path = {file.path: file for store in reversed(self._stores) for file in store.files(video_ids)}
        return [by_path[path] for path in sorted(by_path)]

    def file(self, path: str) -> FileRecord | None:
        return next((file for store in self._stores if (file := store.file(path)) is not None), None)

    def video_ids(self) -> set[str]:
        return set().union(*(store.video_ids() for store in self._stores))

    def videos(self, ids: Sequence[str] | None = None) -> list[VideoRecord]:
        by_id = {video.video_id: video for store in reversed(self._stores) for video in store.videos(ids)}
        return [by_id[one] for one in sorted(by_id)]

    def catalog(self) -> list[VideoFacts]:
        by_id = {facts.video_id: facts for store in reversed(self._stores) for facts in store.catalog()}
        return [by_id[one] for one in sorted(by_id)]

    def resolve(self, prefix: str) -> str:
        resolved = set()
        for store in self._stores:
            try:
                resolved.add(store.resolve(prefix))
            except UnknownVideo as error:
                unknown = error
        if not resolved:
            raise unknown
        if len(resolved) > 1:
            shown = ", ".join(sorted(resolved)[:_MOST_NAMED])
            raise UsageError(f"{prefix!r} begins the ids of {len(resolved)} videos: {shown}", "give more of the id")
        return resolved.pop()

    def without_time_base(self) -> list[str]:
        return sorted({video_id for store in self._stores for video_id in store.without_time_base()})

    def moments(self, video_ids: Sequence[str] | None = None) -> list[MomentRecord]:
        moments = [
            moment
            for store, hidden in self._own()
            for moment in store.moments(video_ids)
            if moment.video_id not in hidden
        ]
        return sorted(moments, key=lambda moment: moment.video_id)  # stable: those of a video stay in their order

    def moment_ids(self, video_ids: Sequence[str]) -> list[str]:
        return [
            moment_id
            for store, hidden in self._own()
            for moment_id in store.moment_ids([video_id for video_id in video_ids if video_id not in hidden])
        ]

    def scored_text(self, text: str, limit: int | None = None) -> list[tuple[str, float]]:
        """Like :meth:`Store.scored_text`, with the scores that each index gives: they depend on its other texts."""
        scored = [
            pair
            for store, hidden in self._own()
            for pair in store.scored_text(text, limit)
            if pair[0].partition("#")[0] not in hidden
        ]
        return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:limit]

    def texts(self, word: str = "") -> Iterator[tuple[str, str]]:
        for store, hidden in self._own():
            yield from (pair for pair in store.texts(word) if pair[0].partition("#")[0] not in hidden)

    def vocabulary(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for store in self._stores:
            counts.update(store.vocabulary())
        return counts

    def moment_count(self) -> int:
        return sum(store.moment_count() for store in self._stores)

    def vectors_version(self) -> object:
        return tuple(store.vectors_version() for store in self._stores)

    # --- extractions, tags and notes ----------------------------------------------------------------------------------

    def extractions(self, keys: Sequence[str]) -> dict[str, Extraction]:
        return {key: value for store in reversed(self._stores) for key, value in store.extractions(keys).items()}

    def has_extraction(self, key: str) -> bool:
        return any(store.has_extraction(key) for store in self._stores)

    def labels(self, video_ids: Sequence[str] | None = None) -> dict[str, Labels]:
        return {one: labels for store in reversed(self._stores) for one, labels in store.labels(video_ids).items()}

    # --- speakers: of a number that several indexes have, the first counts --------------------------------------------

    def voices(self, video_ids: Sequence[str] | None = None) -> dict[str, Voices]:
        return {one: own for store in reversed(self._stores) for one, own in store.voices(video_ids).items()}

    def speakers(self) -> dict[int, Speaker]:
        return {number: one for store in reversed(self._stores) for number, one in store.speakers().items()}

    def last_speaker(self) -> int:
        return max(store.last_speaker() for store in self._stores)

    # --- vectors ------------------------------------------------------------------------------------------------------

    def encoders(self) -> list[EncoderUse]:
        uses: dict[EncoderInfo, EncoderUse] = {}
        for use in (use for store in self._stores for use in store.encoders()):
            before = uses.get(use.info, EncoderUse(use.info, 0, 0))
            uses[use.info] = EncoderUse(use.info, before.moments + use.moments, before.vectors + use.vectors)
        return sorted(uses.values(), key=lambda use: (use.info.name, use.info.fingerprint))

    def has_vectors(self, fingerprint: str) -> bool:
        return any(store.has_vectors(fingerprint) for store in self._stores)

    def encoded(self, fingerprint: str) -> set[str]:
        return set().union(*(store.encoded(fingerprint) for store in self._stores))

    def videos_described(self) -> set[str]:
        return set().union(*(store.videos_described() for store in self._stores))

    def videos_encoded(self, fingerprint: str) -> set[str]:
        return {
            video_id
            for store, hidden in self._own()
            for video_id in store.videos_encoded(fingerprint)
            if video_id not in hidden
        }

    def coverage(self, fingerprint: str) -> tuple[int, int]:
        """Like :meth:`Store.coverage`; a video that several indexes hold counts in each."""
        parts = [store.coverage(fingerprint) for store in self._stores]
        return sum(searched for searched, _ in parts), sum(of for _, of in parts)

    def scan_vectors(
        self, fingerprint: str, moment_ids: Collection[str] | None = None
    ) -> Iterator[tuple[str, TokenVectors]]:
        for store, hidden in self._own():
            for moment_id, vectors in store.scan_vectors(fingerprint, moment_ids):
                if moment_id.partition("#")[0] not in hidden:
                    yield moment_id, vectors

    def nearest(self, fingerprint: str, query: NDArray[np.floating[Any]], limit: int) -> list[str]:
        return [one for store in self._stores for one in store.nearest(fingerprint, query, limit)]

    def has_approximate_index(self) -> bool:
        return all(store.has_approximate_index() for store in self._stores)

    def encoder_settings(self, name: str) -> dict[str, object]:
        """The settings that all indexes remember for an encoder.

        Raises:
            StoreError: they differ, so that one encoder cannot search them all.
        """
        remembered = [(store.uri, store.encoder_settings(name)) for store in self._stores]
        for uri, settings in remembered[1:]:
            if settings != remembered[0][1]:
                raise StoreError(
                    f"the encoder {name} has other settings in the index at {uri} than in that at {remembered[0][0]}",
                    f"search them one after another, or encode one anew with the other's: clamr index --encoder {name}",
                )
        return remembered[0][1]

    def folders(self) -> dict[str, dict[str, object]]:
        return {path: own for store in reversed(self._stores) for path, own in store.folders().items()}

    def not_duplicates(self) -> set[tuple[str, str]]:
        return set().union(*(store.not_duplicates() for store in self._stores))

    # --- the scan cache -----------------------------------------------------------------------------------------------

    def snapshot(  # type: ignore[override]
        self, fingerprint: str, *, use_cache: bool = True, version: Sequence[object] | None = None
    ) -> SnapshotUnion:
        """The vectors of all indexes as they are now, or in these versions."""
        versions = version or [None] * len(self._stores)
        own = zip(self._own(), versions, strict=True)
        return SnapshotUnion(
            [
                (store.snapshot(fingerprint, use_cache=use_cache, version=number), hidden)
                for (store, hidden), number in own
            ]
        )

    def refresh(self, fingerprint: str, *, report: Any = None) -> None:  # noqa: ANN401 -- as Store.refresh
        for store in self._stores:
            store.refresh(fingerprint, report=report)


class SnapshotUnion:
    """The snapshots of several indexes, each with the videos that answer from another one.

    Attributes:
        files: of all scan caches; moments that answer from another index have no place.
        version: versions of the tables.
    """

    def __init__(self, snapshots: Sequence[tuple[Snapshot, frozenset[str]]]) -> None:
        self._snapshots = snapshots
        self._of: dict[str, Snapshot] = {}
        files: list[ScanFile] = []
        for number, (snapshot, hidden) in enumerate(snapshots):
            for file in snapshot.files:
                places = file.places
                if hidden:
                    away = np.array([video_id in hidden for video_id in file.video_ids], np.bool_)
                    places = np.where(np.repeat(away, np.diff(file.videos)), -1, places)
                # Two indexes may have files of one name.
                files.append(replace(file, name=f"{number}/{file.name}", places=places))
                self._of[files[-1].name] = snapshot
        self.files = tuple(files)
        self.version = tuple(snapshot.version for snapshot, _ in snapshots)

    def of(self, file: ScanFile) -> Snapshot:
        """The snapshot that a file stands for a part of."""
        return self._of[file.name]

    def uncovered(self) -> Iterator[PackedVectors]:
        """The moments that no file stands for, a few at a time."""
        for snapshot, hidden in self._snapshots:
            for batch in snapshot.uncovered():
                kept = [n for n, one in enumerate(batch.moment_ids) if one.partition("#")[0] not in hidden]
                yield batch if len(kept) == len(batch.moment_ids) else batch.some(kept)
