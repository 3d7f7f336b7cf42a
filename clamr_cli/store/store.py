"""The index: files, videos, moments, vectors and what was extracted, with one writer at a time.

What a reader sees of a video hangs on its row in the videos table, which is written last and deleted first. A process
that is killed between two writes leaves rows nobody sees; the next write of the same video replaces them and
:meth:`Store.finish` sweeps the rest.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clamr_cli.errors import StoreError, UsageError
from clamr_cli.store import lock, records, schema, side, upkeep, vectors
from clamr_cli.store.failures import as_store_error
from clamr_cli.store.place import Place
from clamr_cli.store.records import Extraction, VideoFacts
from clamr_cli.store.schema import EXTRACTIONS, FILES, META, MOMENTS, SCHEMAS, VECTORS, VIDEOS
from clamr_cli.store.side import LastSearch
from clamr_cli.store.sidecar import Built, Snapshot, manifest
from clamr_cli.store.sidecar import update as update_sidecar
from clamr_cli.store.tables import READER_GRACE, Tables, in_parts, literal, one_of
from clamr_cli.types import EncoderInfo, FileRecord, FileState, MomentRecord, VideoRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    from clamr_cli.store.vectors import PackedVectors
    from clamr_cli.types import FloatArray, SearchOptions, TokenVectors

SIDECARS = "scan"
"""The folder with the packed vectors, beside the lock and the notes."""

_SETTINGS_OF = "encoder/"
"""Before an encoder's name: the row of the meta table with its settings."""

_WORTH_PACKING = 256
"""Rows that are not packed make a search slower by about a millisecond each."""

_FILTERED_IDS = 1000
"""Up to this many moments are picked by the scan itself; more are picked from what it gives."""

_SHOWN_CANDIDATES = 10

_READ_ATTEMPTS = 5
"""How often to read again what a writer changed meanwhile."""


@dataclass(frozen=True, slots=True)
class EncoderUse:
    """An encoder the index has vectors of: of how many moments, and how many vectors."""

    info: EncoderInfo
    moments: int
    vectors: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What an index holds. ``failed`` and ``missing`` are among ``files``; ``size`` is in bytes, None where remote."""

    files: int
    failed: int
    missing: int
    videos: int
    moments: int
    seconds: float
    extractions: int
    encoders: tuple[EncoderUse, ...]
    size: int | None


class Store:
    """An index. Make one with :meth:`open`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._writing = False
        self._snapshots: dict[str, Snapshot] = {}

    @classmethod
    def open(cls, uri: str | Path, *, create: bool = False, lock_dir: Path | None = None) -> Store:
        """Open an index, bringing one of an older version up to date.

        Args:
            uri: a folder, or an address such as ``s3://bucket/name``.
            create: make an empty index where there is none.
            lock_dir: the local folder for the lock of a remote index.

        Raises:
            StoreError: there is none, it is of a newer version, or it cannot be read.
            IndexLocked: it must be created or brought up to date, and someone else is writing to it.
        """
        tables = Tables(Place.of(uri, lock_dir))
        version = schema.read_version(tables)
        if version is None and not create:
            raise StoreError(f"no index at {tables.uri}", "make one with: clamr index DIR")
        if version is not None and version > schema.SCHEMA_VERSION:
            raise StoreError(
                f"the index at {tables.uri} was made by a newer clamr "
                f"(version {version} of its tables; this one knows {schema.SCHEMA_VERSION})",
                "update clamr, or choose another place with --db DIR",
            )
        if version != schema.SCHEMA_VERSION:
            with lock.hold(tables.place, "clamr: preparing the index"):
                upkeep.prepare(tables)
        return cls(tables)

    @property
    def uri(self) -> str:
        """Where the index lies."""
        return self._tables.uri

    @contextmanager
    def writer(self, command: str) -> Iterator[None]:
        """Be the one writer of the index in the block; the lock goes with the process, however it ends.

        Args:
            command: what others are told is being done, e.g. ``clamr index``.

        Raises:
            IndexLocked: someone else writes; the message names them.
        """
        with lock.hold(self._tables.place, command):
            self._writing = True
            try:
                yield
            finally:
                self._writing = False

    def _may_write(self) -> Tables:
        if not self._writing:
            raise StoreError("the index was to be changed without its writer lock", "this is a defect of clamr")
        return self._tables

    # --- files --------------------------------------------------------------------------------------------------------

    def files(self, video_ids: Sequence[str] | None = None) -> list[FileRecord]:
        """The files that index runs met, of the given videos (all without), by path."""
        rows = self._pick(FILES, "record", "video_id", video_ids)
        return sorted((records.load(FileRecord, row) for row in rows), key=lambda file: file.path)

    def file(self, path: str) -> FileRecord | None:
        """What is recorded of a path, None where nothing is."""
        rows = self._tables.read(FILES, ["record"], one_of("key", [records.path_key(path)])).column("record")
        return records.load(FileRecord, rows[0].as_py()) if len(rows) else None

    def put_files(self, files: Sequence[FileRecord]) -> None:
        """Record files, replacing what was recorded of the same paths."""
        self._may_write().upsert(FILES, records.file_rows(files))

    def delete_files(self, paths: Sequence[str]) -> None:
        """Forget files. Paths that are not recorded are passed over."""
        self._may_write().delete(FILES, "key", map(records.path_key, paths))

    # --- videos and moments -------------------------------------------------------------------------------------------

    def videos(self, ids: Sequence[str] | None = None) -> list[VideoRecord]:
        """The videos with the given ids (all without), by id. Unknown ids are passed over."""
        rows = self._pick(VIDEOS, "record", "video_id", ids)
        return sorted((records.load(VideoRecord, row) for row in rows), key=lambda video: video.video_id)

    def catalog(self) -> list[VideoFacts]:
        """What can be filtered by of every video, by id: much cheaper than :meth:`videos`."""
        columns = ["video_id", "title", "uploader", "date", "language", "duration"]
        rows = self._tables.read(VIDEOS, columns).to_pylist()
        return sorted((VideoFacts(**row) for row in rows), key=lambda facts: facts.video_id)

    def video(self, video_id: str) -> VideoRecord:
        """One video.

        Raises:
            UsageError: the index has none of that id.
        """
        found = self.videos([video_id])
        if not found:
            raise _unknown(video_id)
        return found[0]

    def resolve(self, prefix: str) -> str:
        """The id that begins with ``prefix``.

        Raises:
            UsageError: there is none, or several; the message lists them.
        """
        ids = sorted(self._tables.read(VIDEOS, ["video_id"]).column("video_id").to_pylist())
        found = [video_id for video_id in ids if prefix and video_id.startswith(prefix)]
        if prefix in found:
            return prefix
        if not found:
            raise _unknown(prefix)
        if len(found) > 1:
            more = f" and {len(found) - _SHOWN_CANDIDATES} more" if len(found) > _SHOWN_CANDIDATES else ""
            raise UsageError(
                f"{prefix!r} begins the ids of {len(found)} videos: {', '.join(found[:_SHOWN_CANDIDATES])}{more}",
                "give more of the id",
            )
        return str(found[0])

    def put_video(self, video: VideoRecord, moments: Sequence[MomentRecord]) -> None:
        """Record a video and its moments, replacing what was recorded of it.

        Vectors stay if all moments are as they were, else they go with the old moments: they were made from those. A
        reader sees the old state, none, or the new one.
        """
        tables = self._may_write()
        _check_ids(video, moments)
        old = self._moments_as_stored([video.video_id])
        if old and old != sorted(moments, key=_in_order):
            tables.delete(VIDEOS, "video_id", [video.video_id])
            tables.delete(VECTORS, "moment_id", [moment.moment_id for moment in old])
            kept = {moment.moment_id for moment in moments}
            tables.delete(MOMENTS, "moment_id", [m.moment_id for m in old if m.moment_id not in kept])
        tables.upsert(MOMENTS, records.moment_rows(video, moments))
        tables.upsert(VIDEOS, records.video_rows(video))

    def remove_videos(self, ids: Sequence[str], *, keep_extractions: bool = True) -> None:
        """Take videos, their moments and vectors out of the index. Files and, if asked, extractions stay."""
        tables = self._may_write()
        hashes = [] if keep_extractions else [video.content_hash for video in self.videos(ids)]
        moment_ids = self._pick(MOMENTS, "moment_id", "video_id", ids)
        tables.delete(VIDEOS, "video_id", ids)
        tables.delete(VECTORS, "moment_id", moment_ids)
        tables.delete(MOMENTS, "video_id", ids)
        for content_hash in hashes:
            self.drop_extractions(content_hash)

    def moments(self, video_ids: Sequence[str] | None = None) -> list[MomentRecord]:
        """The moments of the given videos (of all without), by video and time."""
        found: list[MomentRecord] = []
        for _ in range(_READ_ATTEMPTS):
            version = self._tables.version(VIDEOS)
            visible = set(self._pick(VIDEOS, "video_id", "video_id", video_ids))
            found = [moment for moment in self._moments_as_stored(video_ids) if moment.video_id in visible]
            # A video that was replaced meanwhile may have been caught between its old and its new moments.
            if self._tables.version(VIDEOS) == version:
                break
        return found

    def matching_text(self, text: str, limit: int = 100) -> list[str]:
        """Ids of moments whose speech, screen text or metadata hold words of ``text``, best first (BM25)."""
        return [moment_id for moment_id, _ in self.scored_text(text, limit)]

    def scored_text(self, text: str, limit: int | None = None) -> list[tuple[str, float]]:
        """Like :meth:`matching_text`, with the scores; all moments that hold any word where ``limit`` is None."""
        limit = self._tables.count(MOMENTS) if limit is None else limit
        if not text.strip() or limit < 1:
            return []
        return self._tables.matching_text(MOMENTS, "text", "moment_id", records.readable(text), limit)

    # --- vectors ------------------------------------------------------------------------------------------------------

    def put_vectors(self, encoder: EncoderInfo, rows: Mapping[str, TokenVectors]) -> None:
        """Store the vectors of moments, all at once, replacing those of the same encoder. Kept as float16.

        Raises:
            StoreError: a vector is not finite, not of unit length or not of the right width; nothing is stored then.
        """
        self._may_write().upsert(VECTORS, vectors.to_rows(encoder, rows))

    def encoded(self, fingerprint: str) -> set[str]:
        """The moments that have vectors of an encoder."""
        where = one_of("fingerprint", [fingerprint])
        return set(self._tables.read(VECTORS, ["moment_id"], where).column("moment_id").to_pylist())

    def has_vectors(self, fingerprint: str) -> bool:
        """Whether any moment has vectors of an encoder."""
        return self._tables.count(VECTORS, one_of("fingerprint", [fingerprint])) > 0

    def encoders(self) -> list[EncoderUse]:
        """The encoders the index has vectors of, by name."""
        counts: dict[EncoderInfo, list[int]] = {}
        for row in self._tables.read(VECTORS, ["encoder", "fingerprint", "dimension", "count"]).to_pylist():
            info = EncoderInfo(row["encoder"], row["fingerprint"], row["dimension"])
            counts.setdefault(info, []).append(row["count"])
        uses = [EncoderUse(info, len(numbers), sum(numbers)) for info, numbers in counts.items()]
        return sorted(uses, key=lambda use: (use.info.name, use.info.fingerprint))

    def scan_vectors(
        self, fingerprint: str, moment_ids: Collection[str] | None = None
    ) -> Iterator[tuple[str, TokenVectors]]:
        """Moments and their vectors, a batch in memory at a time, in no particular order.

        Args:
            fingerprint: of the encoder.
            moment_ids: only these; all without.
        """
        wanted = None if moment_ids is None else frozenset(moment_ids)
        for batch in self._tables.batches(VECTORS, vectors.STORED, _where(fingerprint, wanted)):
            for moment_id, item in vectors.unpacked(batch):
                if wanted is None or moment_id in wanted:
                    yield moment_id, item

    def scan_packed(self, fingerprint: str, moment_ids: Collection[str] | None = None) -> Iterator[PackedVectors]:
        """Like :meth:`scan_vectors`, only what scoring needs, and packed. May give moments beside the wanted ones."""
        wanted = None if moment_ids is None else frozenset(moment_ids)
        for batch in self._tables.batches(VECTORS, vectors.SCORED, _where(fingerprint, wanted)):
            if batch.num_rows:
                yield vectors.packed(batch)

    def snapshot(self, fingerprint: str) -> Snapshot:
        """An encoder's vectors as they are now: the packed copy where it is good, the table for the rest."""
        before = self._snapshots.get(fingerprint)
        if before is None or not before.current():
            before = Snapshot.take(self._tables, self._sidecar(fingerprint), fingerprint, before)
            self._snapshots[fingerprint] = before
        return before

    def pack_vectors(
        self, fingerprint: str, *, join: bool = False, moved: Callable[[int, int], None] | None = None
    ) -> Built | None:
        """Bring the packed copy of an encoder's vectors up to date. Needs no writer lock: the index does not change.

        Args:
            fingerprint: of the encoder.
            join: put its parts together.
            moved: is told how many vectors are packed, of how many.

        Returns:
            What was done, None where a remote index has no folder for it.

        Raises:
            StoreError: the index cannot be read, or the copy not be written; the old one stays.
        """
        folder = self._sidecar(fingerprint)
        if folder is None:
            return None
        try:
            return update_sidecar(self._tables, folder, fingerprint, join=join, moved=moved)
        except (OSError, ValueError) as error:
            raise as_store_error("write the packed vectors of", self.uri, error) from error

    def pack_all(self) -> list[str]:
        """Bring the packed copies of all encoders up to date, after :meth:`finish`: joining fragments moves all rows.

        Returns:
            What went wrong: an index without packed copies is a good one whose searches take longer.
        """
        problems = []
        for use in self.encoders():
            try:
                self.pack_vectors(use.info.fingerprint)
            except StoreError as error:
                problems.append(error.what)
        return problems

    def refresh(self, fingerprint: str, *, moved: Callable[[int, int], None] | None = None) -> None:
        """Before a search: pack what was not, where that is worth it, nobody writes to the index and the disk allows.

        Args:
            fingerprint: of the encoder.
            moved: is told how many vectors are packed, of how many.
        """
        worth = self._sidecar(fingerprint) is not None and self.snapshot(fingerprint).uncovered >= _WORTH_PACKING
        if not worth or lock.held(self._tables.place):
            return
        with suppress(StoreError):
            self.pack_vectors(fingerprint, moved=moved)

    def nearest(self, fingerprint: str, query: FloatArray, limit: int) -> list[str]:
        """Moments that the approximate index has near a query's vectors: about ``limit``, in no particular order."""
        where = one_of("fingerprint", [fingerprint])
        rows = query.astype("float32").tolist()
        return self._tables.nearest(VECTORS, "vectors", "moment_id", rows, where, limit)

    def has_approximate_index(self) -> bool:
        """Whether :meth:`nearest` has an index to look into."""
        return self._tables.has_index(VECTORS, "vectors")

    def index_vectors(self) -> None:
        """Build the approximate index over all vectors, or bring it up to date."""
        self._may_write().index_vectors(VECTORS, "vectors")

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every moment and all its texts, a line each: metadata, then speech, then on-screen text."""
        for batch in self._tables.batches(MOMENTS, ["moment_id", "text"]):
            yield from zip(*(batch.column(name).to_pylist() for name in ("moment_id", "text")), strict=True)

    def _sidecar(self, fingerprint: str) -> Path | None:
        folder = self._tables.place.side_file(SIDECARS)
        return None if folder is None else manifest.folder_of(folder, fingerprint)

    def delete_vectors(self, fingerprint: str) -> None:
        """Delete all vectors of an encoder."""
        self._may_write().delete(VECTORS, "fingerprint", [fingerprint])

    def put_encoder_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """Remember the settings an encoder was last used with, so that a search can make the same one."""
        row = {"name": [_SETTINGS_OF + name], "value": [records.dump(dict(settings))]}
        self._may_write().upsert(META, pa.table(row, schema=SCHEMAS[META]))

    def encoder_settings(self, name: str) -> dict[str, object]:
        """The settings that were remembered for an encoder; empty where none were."""
        rows = self._tables.read(META, ["value"], one_of("name", [_SETTINGS_OF + name])).column("value").to_pylist()
        return records.load(dict[str, object], rows[0]) if rows else {}

    # --- extractions --------------------------------------------------------------------------------------------------

    def extraction(self, key: str) -> Extraction | None:
        """What was kept under a key, None where nothing was."""
        where = one_of("digest", [records.digest(key)])
        rows = self._tables.read(EXTRACTIONS, ["payload", "blobs"], where).to_pylist()
        return Extraction(records.load(dict[str, Any], rows[0]["payload"]), rows[0]["blobs"]) if rows else None

    def extractions(self, keys: Sequence[str]) -> dict[str, Extraction]:
        """What was kept under several keys, read at once; keys under which nothing is are left out."""
        names = {records.digest(key): key for key in keys}
        found: dict[str, Extraction] = {}
        for part in in_parts(names):
            rows = self._tables.read(EXTRACTIONS, ["digest", "payload", "blobs"], one_of("digest", part))
            for row in rows.to_pylist():
                payload = records.load(dict[str, Any], row["payload"])
                found[names[row["digest"]]] = Extraction(payload, row["blobs"])
        return found

    def has_extraction(self, key: str) -> bool:
        """Whether something is kept under a key."""
        return self._tables.count(EXTRACTIONS, one_of("digest", [records.digest(key)])) > 0

    def put_extraction(self, key: str, payload: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Keep a JSON object and bytes under a key, replacing what was there."""
        self._may_write().upsert(EXTRACTIONS, records.extraction_row(key, payload, blobs))

    def prune_extractions(self, keep: Collection[str]) -> int:
        """Delete all that is not kept under one of the keys; how many went."""
        tables = self._may_write()
        kept = {records.digest(key) for key in keep}
        gone = [row for row in tables.read(EXTRACTIONS, ["digest"]).column("digest").to_pylist() if row not in kept]
        tables.delete(EXTRACTIONS, "digest", gone)
        return len(gone)

    def drop_extractions(self, prefix: str) -> int:
        """Delete all whose key begins with a content hash, or with an id made of its beginning; how many went."""
        tables = self._may_write()
        rows = tables.read(EXTRACTIONS, ["digest", "key"]).to_pylist()
        start = records.readable(prefix)
        gone = [row["digest"] for row in rows if start and row["key"].startswith(start)]
        tables.delete(EXTRACTIONS, "digest", gone)
        return len(gone)

    # --- the rest -----------------------------------------------------------------------------------------------------

    def remember_search(self, query: str, options: SearchOptions, encoder: str = "") -> None:
        """Note a search for :meth:`last_search`. A courtesy: failing to write it is no error."""
        path = self._tables.place.side_file(side.LAST_SEARCH_NAME)
        if path is not None:
            side.write_last_search(path, LastSearch(query, options, encoder))

    def last_search(self) -> LastSearch | None:
        """What was searched last, if that is known."""
        path = self._tables.place.side_file(side.LAST_SEARCH_NAME)
        return None if path is None else side.read_last_search(path)

    def stats(self) -> StoreStats:
        """Counts, and bytes on disk."""
        states = self._tables.read(FILES, ["state"]).column("state").to_pylist()
        catalog = self.catalog()
        visible = {facts.video_id for facts in catalog}
        owners = self._tables.read(MOMENTS, ["video_id"]).column("video_id").to_pylist()
        return StoreStats(
            files=len(states),
            failed=states.count(FileState.FAILED),
            missing=states.count(FileState.MISSING),
            videos=len(catalog),
            moments=sum(owner in visible for owner in owners),
            seconds=sum(facts.duration for facts in catalog),
            extractions=self._tables.count(EXTRACTIONS),
            encoders=tuple(self.encoders()),
            size=upkeep.size_on_disk(self._tables.place),
        )

    def finish(self, *, grace: timedelta = READER_GRACE) -> None:
        """Put the index in order after a run: sweep what killed writers left, join fragments, index the texts.

        Args:
            grace: how long replaced data stays on disk for readers that are still at it.
        """
        upkeep.finish(self._may_write(), grace)

    def _pick(self, table: str, column: str, by: str, values: Sequence[str] | None) -> list[Any]:
        """One column of the rows whose ``by`` is among ``values``, of all rows without."""
        if values is None:
            return list(self._tables.read(table, [column]).column(column).to_pylist())
        parts = (self._tables.read(table, [column], one_of(by, part)) for part in in_parts(values))
        return [value for part in parts for value in part.column(column).to_pylist()]

    def _moments_as_stored(self, video_ids: Sequence[str] | None) -> list[MomentRecord]:
        rows = self._pick(MOMENTS, "record", "video_id", video_ids)
        return sorted((records.load(MomentRecord, row) for row in rows), key=_in_order)


def _in_order(moment: MomentRecord) -> tuple[str, float, float, str]:
    return moment.video_id, moment.span.start, moment.span.end, moment.moment_id


def _unknown(video_id: str) -> UsageError:
    return UsageError(f"no video of the index has an id that begins with {video_id!r}", "list them with: clamr ls")


def _where(fingerprint: str, wanted: Collection[str] | None) -> str:
    where = f"fingerprint = {literal(fingerprint)}"
    if wanted is None or len(wanted) > _FILTERED_IDS:
        return where
    return f"{where} AND {one_of('moment_id', sorted(wanted))}"


def _check_ids(video: VideoRecord, moments: Iterable[MomentRecord]) -> None:
    """Searches tell a moment's video from its id, so the two must agree."""
    literal(video.video_id)
    ids = [moment.moment_id for moment in moments]
    foreign = [moment_id for moment_id in ids if moment_id.partition("#")[0] != video.video_id]
    foreign += [moment.moment_id for moment in moments if moment.video_id != video.video_id]
    if foreign or len(set(ids)) != len(ids) or "#" in video.video_id:
        raise StoreError(
            f"the moments of video {video.video_id!r} have unfit ids {foreign or ids!r}", "this is a defect of clamr"
        )
