"""The index: files, videos, moments, vectors and what was extracted, with one writer at a time.

What a reader sees of a video hangs on its row in the videos table, which is written last and deleted first. A process
that is killed between two writes leaves rows nobody sees; the next write of the same video replaces them and
:meth:`Store.finish` sweeps the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clamr_cli.errors import StoreError, UnknownVideo, UsageError
from clamr_cli.files import private_as, write_atomically
from clamr_cli.store import lease, maintenance, scan_cache
from clamr_cli.store.scan_cache import PackedVectors, PackResult, ScanFile, Snapshot
from clamr_cli.store.tables import (
    EXTRACTIONS,
    FILES,
    META,
    MOMENTS,
    READER_GRACE,
    SCHEMA_VERSION,
    SCHEMAS,
    SUMS,
    VECTORS,
    VIDEOS,
    Location,
    Tables,
    as_store_error,
    digest,
    dump,
    in_parts,
    literal,
    load,
    may_hold,
    moment_order,
    one_of,
    read_note,
    read_version,
    readable,
    write_note,
)
from clamr_cli.text import without_accents
from clamr_cli.types import (
    DIMENSION,
    EncoderInfo,
    FileRecord,
    FileState,
    Hit,
    Labels,
    Modality,
    MomentRecord,
    SearchOptions,
    Span,
    Speaker,
    TimeBase,
    TokenVectors,
    VideoRecord,
    Voices,
)

# Beside the lock: notes of the last search and of a run, the saved searches, and the folder with the scan caches.
_LAST_SEARCH: Final = "last-search.json"
_SCAN_CACHES: Final = "scan"
_SAVED_SEARCHES: Final = "searches.json"
_RUN: Final = "run.json"
_VOCABULARY: Final = "vocabulary.json"

# Before an encoder's name: the row of the meta table with its settings.
_SETTINGS_OF: Final = "encoder/"
_FOLDERS: Final = "folders"
_NOT_DUPLICATES: Final = "not-duplicates"
_SPEAKERS: Final = "speakers"
_LAST_SPEAKER: Final = "last-speaker"

# Rows that are not packed make a search slower by about a millisecond each.
_WORTH_PACKING: Final = 256

# Up to this many moments are picked by the scan itself; more are picked from what it gives.
_FILTERED_IDS: Final = 1000

# How often to read again what a writer changed meanwhile.
_READ_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Extraction:
    """Data that was extracted from a content: a JSON object, and bytes such as JPEG frames."""

    payload: dict[str, Any]
    blobs: list[bytes]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The fields of a video for filters. ``date`` is ISO 8601, ``duration`` in seconds; empty where unknown."""

    video_id: str
    title: str
    uploader: str
    date: str
    language: str
    duration: float


@dataclass(frozen=True, slots=True)
class LastHit:
    """A hit of the last search: its rank, its video, and the second at which to open it.

    ``span`` is the moment, None in notes of earlier versions. ``line`` is the text that answers at ``at``, empty for a
    frame, ``words`` are those of the query that a frame shows, and ``modality`` says where; ``weak`` is as of the hit.
    """

    rank: int
    video_id: str
    at: float = 0.0
    span: Span | None = None
    modality: Modality | None = None
    line: str = ""
    weak: bool = False
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, hit: Hit) -> LastHit:
        """The note of a hit."""
        line = next((line for line in hit.lines if line.timed), None)
        modality, text = (hit.modality, "") if line is None else (line.modality, line.text)
        words = line.words if line is not None and not text else ()
        return cls(hit.rank, hit.video_id, hit.opened_at, hit.span, modality, text, hit.weak, words)


@dataclass(frozen=True, slots=True)
class LastSearch:
    """The last search: the query, its options, the name of the encoder where it was given, and its hits.

    ``like`` names what was an example of it: ``VIDEO_ID@START-END``, ``VIDEO_ID``, or the path of a file.
    """

    query: str
    options: SearchOptions
    encoder: str = ""
    hits: tuple[LastHit, ...] = ()
    like: str = ""


@dataclass(frozen=True, slots=True)
class EncoderUse:
    """An encoder that the index has vectors of: of how many moments, and how many vectors."""

    info: EncoderInfo
    moments: int
    vectors: int


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counts of an index. ``failed`` and ``missing`` are among ``files``; ``size`` is in bytes, None where remote.

    A file whose video stays in the index though it could not be read is among ``failed``.
    """

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
    """An index. Make one with :meth:`open`.

    What changes it needs the block of :meth:`writer`. All methods raise StoreError where the index cannot be read or
    written.

    Attributes:
        tables: of LanceDB.
        repairs: that :meth:`writer` made when it began, a line each.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.repairs: list[str] = []
        self._writing = False
        self._snapshots: dict[str, Snapshot] = {}
        self._vocabulary: tuple[int, dict[str, int]] | None = None
        self._samples: dict[str, tuple[object, PackedVectors]] = {}
        self._coverage: dict[str, tuple[object, tuple[int, int]]] = {}
        self._names = self._names_there()

    @classmethod
    def open(cls, uri: str | Path, *, create: bool = False, lock_dir: Path | None = None) -> Store:
        """Open an index.

        Args:
            uri: a folder, or an address such as ``s3://bucket/name``.
            create: make an empty index where there is none.
            lock_dir: the local folder for the lock of a remote index.

        Raises:
            StoreError: there is none, it is of a newer version, or it cannot be read.
            IndexLocked: it must be created, and someone else is writing to it.
        """
        tables = Tables(Location.of(uri, lock_dir))
        version = read_version(tables)
        if version is None and not create:
            if tables.location.is_being_written():
                raise StoreError(f"no index at {tables.uri}", "nothing is indexed yet; clamr index is running")
            raise StoreError(f"no index at {tables.uri}", "make one with: clamr index DIR")
        if version is not None and version != SCHEMA_VERSION:
            raise StoreError(
                f"the index at {tables.uri} was made by a newer clamr "
                f"(version {version} of its tables; this one knows {SCHEMA_VERSION})",
                "update clamr, or choose another place with --db DIR",
            )
        if version is None:
            with (
                maintenance.writer_lock(tables.location, maintenance.PREPARING) as held,
                tables.guarded(held),
                private_as(tables.location.folder),
            ):
                maintenance.create(tables)
        return cls(tables)

    @property
    def uri(self) -> str:
        """The folder or address of the index."""
        return self.tables.uri

    def is_in_place(self) -> bool:
        """Whether the index that was opened is still the one there, by the unique names in it; False for an address."""
        return bool(self._names) and self._names == self._names_there()

    def _names_there(self) -> set[str]:
        """The names of the data files of the table that is written least."""
        folder = self.tables.folder(META)
        with suppress(OSError):
            return set() if folder is None else set(os.listdir(folder / "data"))
        return set()

    @property
    def parts(self) -> tuple[Store, ...]:
        """The indexes that this one is read from: itself, see :class:`clamr_cli.store.union.StoreUnion`."""
        return (self,)

    # --- writers, and the index as a whole ----------------------------------------------------------------------------

    @contextmanager
    def writer(self, command: str) -> Iterator[None]:
        """Be the one writer of the index in the block; the lock goes with the process, however it ends.

        Args:
            command: named to others who want to write, e.g. ``clamr index``.

        Raises:
            IndexLocked: someone else writes; the message names them.
            StoreError: a table that cannot be read cannot be repaired, or the disk refuses what was written.
        """
        with (
            maintenance.writer_lock(self.tables.location, command) as held,
            self.tables.guarded(held),
            private_as(self.tables.location.folder),
        ):
            self.repairs = maintenance.repair(self.tables)
            self._writing = True
            try:
                yield
            finally:
                # What was finished before an interruption stays, after a power cut too.
                self._writing = False
                self.tables.sync()

    def _writable(self) -> Tables:
        if not self._writing:
            raise StoreError("the index was to be changed without its writer lock", "this is a defect of clamr")
        return self.tables

    def is_being_written(self) -> bool:
        """Whether somebody writes to the index, as far as this process can see."""
        location = self.tables.location
        return location.is_being_written() or (lease.is_leased(self.uri) and lease.holder(self.uri) is not None)

    def watch_lock(self, target: str) -> Path | None:
        """The lock of whoever watches a target for this index; None where the index has no folder on this machine."""
        name = hashlib.blake2b(os.fsencode(os.path.realpath(target)), digest_size=8).hexdigest()
        return self.tables.location.file(f"watch-{name}.lock")

    def sync(self) -> None:
        """Force all that was written to the disk. What is recorded afterwards can rest on it."""
        self._writable().sync()

    def sweep(self) -> None:
        """Remove data that killed writers left and no version names; quicker than :meth:`finish`."""
        for name in SCHEMAS:
            self._writable().forget_versions(name, READER_GRACE)

    def finish(self, *, grace: timedelta = READER_GRACE) -> None:
        """Put the index in order after a run: sweep what killed writers left, join fragments, index the texts.

        Replaced data stays on disk for ``grace``, for readers that are still at it.
        """
        maintenance.finish(self._writable(), grace)

    def tables_behind(self) -> list[str]:
        """The tables whose newest version cannot be read, so that what was written last is not seen."""
        return [name for name in SCHEMAS if self.tables.is_behind(name)]

    def problems(self) -> list[str]:
        """Contradictions between the tables, each with its remedy, a line each."""
        lines = [
            f"the newest version of the table {name} cannot be read: clamr index DIR" for name in self.tables_behind()
        ]
        # A video is written to one table after another, so while somebody writes there is nothing to compare.
        return lines if self.is_being_written() else lines + maintenance.contradictions(self.tables)

    def stats(self) -> StoreStats:
        """Counts, and bytes on disk."""
        files, catalog = self.files(), self.catalog()
        visible = {facts.video_id for facts in catalog}
        return StoreStats(
            files=len(files),
            failed=sum(file.failed for file in files),
            missing=sum(file.state is FileState.MISSING for file in files),
            videos=len(catalog),
            moments=sum(owner in visible for owner in self.tables.column(MOMENTS, "video_id")),
            seconds=sum(facts.duration for facts in catalog),
            extractions=self.tables.count(EXTRACTIONS),
            encoders=tuple(self.encoders()),
            size=maintenance.size_on_disk(self.tables.location),
        )

    def remember_search(
        self, query: str, options: SearchOptions, encoder: str = "", hits: Sequence[LastHit] = (), like: str = ""
    ) -> None:
        """Note a search for :meth:`last_search`. A courtesy: failing to write it is no error."""
        write_note(self.tables.location.file(_LAST_SEARCH), LastSearch(query, options, encoder, tuple(hits), like))

    def last_search(self) -> LastSearch | None:
        """The last search, None where there was none (or one that another version noted)."""
        return read_note(self.tables.location.file(_LAST_SEARCH), LastSearch)

    def note_run(self, text: str) -> None:
        """Note how far the run is that writes to the index, for :meth:`running`; a courtesy."""
        write_note(self.tables.location.file(_RUN), text)

    def running(self) -> str:
        """Progress of the run that writes to the index from this machine; empty where none does or is known."""
        text = read_note(self.tables.location.file(_RUN), str) or ""
        return text if text and self.is_being_written() else ""

    def saved_searches(self) -> dict[str, dict[str, Any]]:
        """The saved searches by name: their options by name."""
        return read_note(self.tables.location.file(_SAVED_SEARCHES), dict[str, dict[str, Any]]) or {}

    def save_searches(self, searches: Mapping[str, Mapping[str, object]]) -> None:
        """Replace the saved searches. Needs no writer lock: the index does not change.

        Raises:
            StoreError: they cannot be written.
        """
        path = self.tables.location.file(_SAVED_SEARCHES)
        try:
            if path is None:
                raise OSError("it has no folder on this machine")
            write_atomically(path, json.dumps(searches).encode("ascii"))
        except OSError as error:
            raise as_store_error("write the saved searches of", self.uri, error) from error

    # --- files --------------------------------------------------------------------------------------------------------

    def files(self, video_ids: Sequence[str] | None = None) -> list[FileRecord]:
        """The files that index runs met, of the given videos (all without), by path."""
        rows = self.tables.columns(FILES, ("key", "record"), "video_id", video_ids)
        return sorted((_file(*row) for row in rows), key=lambda file: file.path)

    def file(self, path: str) -> FileRecord | None:
        """The record of a path, None where there is none."""
        key = _path_key(path)
        rows = self.tables.column(FILES, "record", "key", [key])
        return _file(key, rows[0]) if rows else None

    def put_files(self, files: Sequence[FileRecord]) -> None:
        """Record files, replacing what was recorded of the same paths."""
        rows = [
            {
                "key": _path_key(file.path),
                "path": os.fsencode(file.path),
                "display": readable(file.path),
                "video_id": readable(file.video_id),
                "state": file.state.value,
                "record": dump(file),
            }
            for file in files
        ]
        self._writable().upsert(FILES, pa.Table.from_pylist(rows, schema=SCHEMAS[FILES]))

    def delete_files(self, paths: Sequence[str]) -> None:
        """Forget files. Paths that are not recorded are passed over."""
        self._writable().delete(FILES, "key", map(_path_key, paths))

    # --- videos, their moments and texts ------------------------------------------------------------------------------

    def videos(self, ids: Sequence[str] | None = None) -> list[VideoRecord]:
        """The videos with the given ids (all without), by id. Unknown ids are passed over."""
        rows = self.tables.column(VIDEOS, "record", "video_id", ids)
        return sorted((load(VideoRecord, row) for row in rows), key=lambda video: video.video_id)

    def video_ids(self) -> set[str]:
        """The ids of all videos."""
        return set(self.tables.column(VIDEOS, "video_id"))

    def catalog(self) -> list[VideoFacts]:
        """The fields for filters of every video, by id: much cheaper than :meth:`videos`."""
        rows = self.tables.read(VIDEOS, list(VideoFacts.__dataclass_fields__)).to_pylist()
        return sorted((VideoFacts(**row) for row in rows), key=lambda facts: facts.video_id)

    def video(self, video_id: str) -> VideoRecord:
        """One video; UsageError where the index has none of that id."""
        videos = self.videos([video_id])
        if not videos:
            raise _unknown(video_id)
        return videos[0]

    def resolve(self, prefix: str) -> str:
        """The id that begins with ``prefix``; UsageError where there is none, or several, which the message lists."""
        ids = sorted(self.video_ids())
        candidates = [video_id for video_id in ids if prefix and video_id.startswith(prefix)]
        if prefix in candidates or len(candidates) == 1:
            return prefix if prefix in candidates else str(candidates[0])
        if not candidates:
            raise _unknown(prefix)
        shown = ", ".join(candidates[:10]) + (f" and {len(candidates) - 10} more" if len(candidates) > 10 else "")
        raise UsageError(f"{prefix!r} begins the ids of {len(candidates)} videos: {shown}", "give more of the id")

    def put_video(self, video: VideoRecord, moments: Sequence[MomentRecord]) -> None:
        """Record a video and its moments, replacing what was recorded of it.

        Vectors stay if all moments are as they were, else they go with the old moments: they were made from those. A
        reader sees the old state, none, or the new one.
        """
        tables = self._writable()
        literal(video.video_id)
        ids = {moment.moment_id for moment in moments}
        # Searches tell a moment's video from its id, so the two must agree.
        foreign = [
            moment.moment_id
            for moment in moments
            if not moment.moment_id.partition("#")[0] == moment.video_id == video.video_id
        ]
        if foreign or len(ids) != len(moments) or "#" in video.video_id:
            raise StoreError(
                f"the moments of video {video.video_id!r} have unfit ids {foreign or sorted(ids)!r}",
                "this is a defect of clamr",
            )
        old = self._moments_as_stored([video.video_id])
        if old and old != sorted(moments, key=_in_order):
            tables.delete(VIDEOS, "video_id", [video.video_id])
            tables.delete(VECTORS, "moment_id", [moment.moment_id for moment in old])
            tables.delete(MOMENTS, "moment_id", [m.moment_id for m in old if m.moment_id not in ids])
        facts = _facts(video)
        rows = [
            {
                "moment_id": moment.moment_id,
                "video_id": moment.video_id,
                "start": moment.span.start,
                "end": moment.span.end,
                # The full-text index sees all texts of a moment, one line each.
                "text": readable("\n".join(part.text for part in (*moment.metadata, *moment.speech, *moment.ocr))),
                "record": dump(moment),
                **facts,
            }
            for moment in moments
        ]
        tables.upsert(MOMENTS, pa.Table.from_pylist(rows, schema=SCHEMAS[MOMENTS]))
        tables.upsert(VIDEOS, _rows_of([video]))

    def without_time_base(self) -> list[str]:
        """The videos whose records are of a version that read no exact frame rates, by id."""
        rows = self.tables.read(VIDEOS, ["video_id", "record"])
        lacking = pc.invert(pc.match_substring(rows.column("record"), '"time_base":{'))
        return sorted(rows.filter(lacking).column("video_id").to_pylist())

    def put_time_bases(self, bases: Mapping[str, TimeBase]) -> None:
        """Replace what is recorded of videos' frame rates and timecodes, by id; unknown ids are passed over."""
        records = [
            replace(video, media=replace(video.media, time_base=bases[video.video_id]))
            for video in self.videos(sorted(bases))
        ]
        self._writable().upsert(VIDEOS, _rows_of(records))

    def remove_videos(self, ids: Sequence[str], *, keep_extractions: bool = True) -> None:
        """Take videos, their moments and vectors out of the index. Files and, if asked, extractions stay."""
        tables = self._writable()
        hashes = [] if keep_extractions else [video.content_hash for video in self.videos(ids)]
        moment_ids = tables.column(MOMENTS, "moment_id", "video_id", ids)
        tables.delete(VIDEOS, "video_id", ids)
        tables.delete(VECTORS, "moment_id", moment_ids)
        tables.delete(MOMENTS, "video_id", ids)
        self.drop_extractions(*hashes)

    def moments(self, video_ids: Sequence[str] | None = None) -> list[MomentRecord]:
        """The moments of the given videos (of all without), by video and time."""
        moments: list[MomentRecord] = []
        for _ in range(_READ_ATTEMPTS):
            version = self.tables.dataset(VIDEOS).version
            visible = set(self.tables.column(VIDEOS, "video_id", "video_id", video_ids))
            moments = [moment for moment in self._moments_as_stored(video_ids) if moment.video_id in visible]
            # A video that was replaced meanwhile may have been caught between its old and its new moments.
            if self.tables.dataset(VIDEOS).version == version:
                break
        return moments

    def _moments_as_stored(self, video_ids: Sequence[str] | None) -> list[MomentRecord]:
        rows = self.tables.column(MOMENTS, "record", "video_id", video_ids)
        return sorted((load(MomentRecord, row) for row in rows), key=_in_order)

    def matching_text(self, text: str, limit: int = 100) -> list[str]:
        """Ids of moments whose speech, screen text or metadata hold words of ``text``, best first (BM25)."""
        return [moment_id for moment_id, _ in self.scored_text(text, limit)]

    def scored_text(self, text: str, limit: int | None = None) -> list[tuple[str, float]]:
        """Like :meth:`matching_text`, with the scores; all moments that hold any word where ``limit`` is None."""
        limit = self.tables.count(MOMENTS) if limit is None else limit
        if not text.strip() or limit < 1:
            return []
        return self.tables.matching_text(MOMENTS, "text", "moment_id", readable(text), limit)

    def texts(self, word: str = "") -> Iterator[tuple[str, str]]:
        """Every moment and all its texts, a line each: metadata, then speech, then on-screen text.

        With a ``word`` of :func:`clamr_cli.text.words_of`, moments whose texts surely do not hold it in any case, with
        other accents or in another normal form are left out.
        """
        letters = without_accents(word)
        for batch in self.tables.batches(MOMENTS, ["moment_id", "text"]):
            if letters:
                batch = batch.filter(may_hold(batch.column("text"), letters))
            yield from zip(*(batch.column(name).to_pylist() for name in ("moment_id", "text")), strict=True)

    def vocabulary(self) -> dict[str, int]:
        """The words of all texts in lower case, and how often each stands there.

        They are noted beside the tables, with what the texts are stored in: reading them all takes a second for 100,000
        moments, at each start.
        """
        dataset = self.tables.dataset(MOMENTS)
        if self._vocabulary is not None and self._vocabulary[0] == dataset.version:
            return self._vocabulary[1]
        # A number of a version may be used twice, after a power cut; names of files never are.
        stored = sorted(json.dumps(fragment.metadata.to_json()) for fragment in dataset.get_fragments())
        state, path = hashlib.blake2b("\n".join(stored).encode()).hexdigest(), self.tables.location.file(_VOCABULARY)
        note = read_note(path, tuple[str, dict[str, int]])
        if note is None or note[0] != state:
            note = state, self._read_vocabulary()
            write_note(path, note)
        self._vocabulary = dataset.version, note[1]
        return note[1]

    def _read_vocabulary(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for batch in self.tables.batches(MOMENTS, ["text"]):
            texts = pc.utf8_lower(pc.utf8_normalize(batch.column("text"), "NFKC"))
            words = pc.split_pattern_regex(texts, r"[^\pL\pN\pM]+").flatten().value_counts()
            pairs = zip(words.field("values").to_pylist(), words.field("counts").to_pylist(), strict=True)
            for word, count in pairs:
                counts[word] += count
        return dict(counts)

    def moment_ids(self, video_ids: Sequence[str]) -> list[str]:
        """The ids of the moments of videos, in no particular order."""
        return self.tables.column(MOMENTS, "moment_id", "video_id", video_ids)

    def moment_count(self) -> int:
        """Number of moments."""
        return self.tables.count(MOMENTS)

    def vectors_version(self) -> object:
        """A value that changes when the table of vectors does."""
        return self.tables.dataset(VECTORS).version

    def sample(self, fingerprint: str, count: int) -> PackedVectors:
        """The vectors of about ``count`` moments by an encoder, the same ones while no video comes or goes.

        Videos are taken in the order of their ids, which are as good as random: as many as there are moments wanted.
        Where there are fewer, several moments of each are, evenly spread.
        """
        version = self.vectors_version()
        known = self._samples.get(fingerprint)
        if known is not None and known[0] == version:
            return known[1]
        videos = sorted(facts.video_id for facts in self.catalog())[:count]
        moments: dict[str, list[str]] = {video_id: [] for video_id in videos}
        for moment_id in self.moment_ids(videos):
            moments[moment_id.partition("#")[0]].append(moment_id)
        each = -(-count // max(1, len(videos)))
        chosen = []
        for own in moments.values():
            own.sort(key=moment_order)
            chosen += (
                [own[place] for place in sorted({number * len(own) // each for number in range(each)})] if own else []
            )
        vectors = dict(self.scan_vectors(fingerprint, chosen))
        rows = [(moment_id, vectors[moment_id]) for moment_id in chosen if moment_id in vectors]
        sample = PackedVectors(
            [moment_id for moment_id, _ in rows],
            np.cumsum([0, *(len(item) for _, item in rows)], dtype=np.int64),
            np.concatenate([np.zeros((0, DIMENSION), np.float16), *(item.vectors for _, item in rows)]),
            np.concatenate([np.zeros(0, np.uint8), *(item.modality_ids for _, item in rows)]),
            np.zeros(len(rows), np.bool_),
        )
        self._samples[fingerprint] = (version, sample)
        return sample

    # --- extractions: never done twice --------------------------------------------------------------------------------

    def extraction(self, key: str) -> Extraction | None:
        """The extraction under a key, None where there is none."""
        return self.extractions([key]).get(key)

    def extractions(self, keys: Sequence[str]) -> dict[str, Extraction]:
        """The extractions under several keys, read at once; keys without one are left out."""
        names = {digest(key): key for key in keys}
        extractions: dict[str, Extraction] = {}
        for part in in_parts(names):
            rows = self.tables.read(EXTRACTIONS, ["digest", "payload", "blobs"], one_of("digest", part))
            for row in rows.to_pylist():
                payload = load(dict[str, Any], row["payload"])
                extractions[names[row["digest"]]] = Extraction(payload, row["blobs"])
        return extractions

    def has_extraction(self, key: str) -> bool:
        """Whether there is an extraction under a key."""
        return self.tables.count(EXTRACTIONS, one_of("digest", [digest(key)])) > 0

    def put_extraction(self, key: str, payload: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Keep a JSON object and bytes under a key, replacing what was there."""
        row = {"digest": digest(key), "key": readable(key), "payload": dump(payload), "blobs": list(blobs)}
        self._writable().upsert(EXTRACTIONS, pa.Table.from_pylist([row], schema=SCHEMAS[EXTRACTIONS]))

    def delete_extractions(self, keys: Collection[str]) -> None:
        """Delete the extractions under these keys."""
        self._writable().delete(EXTRACTIONS, "digest", [digest(key) for key in keys])

    def drop_extractions(self, *prefixes: str) -> int:
        """Delete all whose key begins with a content hash, or with an id made of its beginning; returns how many."""
        tables = self._writable()
        starts = {readable(prefix) for prefix in prefixes} - {""}
        if not starts:
            return 0
        lengths = sorted({len(start) for start in starts})
        rows = tables.read(EXTRACTIONS, ["digest", "key"]).to_pylist()
        dropped = [row["digest"] for row in rows if any(row["key"][:length] in starts for length in lengths)]
        tables.delete(EXTRACTIONS, "digest", dropped)
        return len(dropped)

    # --- tags and notes -----------------------------------------------------------------------------------------------

    def labels(self, video_ids: Sequence[str] | None = None) -> dict[str, Labels]:
        """The tags and notes of the given videos (of all without), by id; videos that have none are left out."""
        return {video_id: _labels(stored) for video_id, stored in self._of_videos(_labels_key, video_ids)}

    def _of_videos(
        self, key_of: Callable[[str], str], video_ids: Sequence[str] | None
    ) -> Iterator[tuple[str, Extraction]]:
        """The extractions of videos under the keys that their content hashes give, by id."""
        rows = self.tables.columns(VIDEOS, ("content_hash", "video_id"), "video_id", video_ids)
        keys = {key_of(content_hash): video_id for content_hash, video_id in rows}
        yield from ((keys[key], stored) for key, stored in self.extractions(list(keys)).items())

    def labels_of(self, content_hash: str) -> Labels:
        """The tags and notes of a content."""
        stored = self.extraction(_labels_key(content_hash))
        return Labels() if stored is None else _labels(stored)

    def put_labels(self, content_hash: str, labels: Labels) -> None:
        """Replace the tags and notes of a content. They go with what was extracted of it."""
        key = _labels_key(content_hash)
        if labels == Labels():
            self.delete_extractions([key])
        else:
            self.put_extraction(key, {"tags": list(labels.tags), "notes": list(labels.notes)})

    # --- speakers -----------------------------------------------------------------------------------------------------

    def voices(self, video_ids: Sequence[str] | None = None) -> dict[str, Voices]:
        """The voices of the given videos (of all without), by id; videos that were not listened to are left out."""
        return {video_id: _voices(stored) for video_id, stored in self._of_videos(_voices_key, video_ids)}

    def voices_of(self, content_hash: str) -> Voices | None:
        """The voices of a content; None where nobody has listened."""
        stored = self.extraction(_voices_key(content_hash))
        return None if stored is None else _voices(stored)

    def put_voices(self, content_hash: str, voices: Voices) -> None:
        """Replace the voices of a content. They go with what was extracted of it."""
        payload = {"turns": voices.turns, "numbers": voices.numbers, "model": voices.model}
        self.put_extraction(_voices_key(content_hash), payload, voices.vectors)

    def speakers(self) -> dict[int, Speaker]:
        """The speakers that a person named, by number."""
        rows = self.tables.column(META, "value", "name", [_SPEAKERS])
        return {one.number: one for one in load(list[Speaker], rows[0])} if rows else {}

    def put_speakers(self, speakers: Collection[Speaker]) -> None:
        """Remember these speakers by name, and no others."""
        row = {"name": [_SPEAKERS], "value": [dump(sorted(speakers, key=lambda one: one.number))]}
        self._writable().upsert(META, pa.table(row, schema=SCHEMAS[META]))

    def last_speaker(self) -> int:
        """The highest number that a speaker ever had; 0 where there was none."""
        rows = self.tables.column(META, "value", "name", [_LAST_SPEAKER])
        return load(int, rows[0]) if rows else 0

    def put_last_speaker(self, number: int) -> None:
        """Remember the highest number: a video that comes back must find its numbers free of others."""
        row = {"name": [_LAST_SPEAKER], "value": [dump(number)]}
        self._writable().upsert(META, pa.table(row, schema=SCHEMAS[META]))

    # --- vectors, of any number of encoders ---------------------------------------------------------------------------

    def put_vectors(self, encoder: EncoderInfo, rows: Mapping[str, TokenVectors]) -> None:
        """Store the vectors of moments, all at once, replacing those of the same encoder. Kept as float16.

        Raises:
            StoreError: a vector is not finite, not of unit length or not of the right width; nothing is stored then.
        """
        tables = self._writable()
        tables.add_column(VECTORS, SUMS)
        tables.upsert(VECTORS, scan_cache.to_rows(encoder, rows))

    def delete_vectors(self, fingerprint: str) -> None:
        """Delete all vectors of an encoder, and its scan cache."""
        self._writable().delete(VECTORS, "fingerprint", [fingerprint])
        if (folder := self._scan_cache(fingerprint)) is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def encoders(self) -> list[EncoderUse]:
        """The encoders that the index has vectors of, by name."""
        rows = self.tables.read(VECTORS, ["encoder", "fingerprint", "dimension", "count"])
        keys = ["encoder", "fingerprint", "dimension"]
        groups = rows.group_by(keys).aggregate([("count", "sum"), ("count", "count")])
        uses = [
            EncoderUse(EncoderInfo(*(row[key] for key in keys)), row["count_count"], row["count_sum"])
            for row in groups.to_pylist()
        ]
        return sorted(uses, key=lambda use: (use.info.name, use.info.fingerprint))

    def has_vectors(self, fingerprint: str) -> bool:
        """Whether any moment has vectors of an encoder."""
        return self.tables.count(VECTORS, one_of("fingerprint", [fingerprint])) > 0

    def encoded(self, fingerprint: str) -> set[str]:
        """The moments that have vectors of an encoder."""
        return set(self.tables.column(VECTORS, "moment_id", "fingerprint", [fingerprint]))

    def videos_described(self) -> set[str]:
        """The videos that have moments."""
        return set(self.tables.column(MOMENTS, "video_id"))

    def videos_encoded(self, fingerprint: str) -> set[str]:
        """The videos all of whose moments have vectors of an encoder."""
        rows = self.tables.read(MOMENTS, ["moment_id", "video_id"])
        owners = dict(zip(*(rows.column(name).to_pylist() for name in ("moment_id", "video_id")), strict=True))
        lacking = {owners[moment_id] for moment_id in owners.keys() - self.encoded(fingerprint)}
        return set(owners.values()) - lacking

    def coverage(self, fingerprint: str) -> tuple[int, int]:
        """The number of videos that an encoder's vectors answer from, and the number that they should.

        A video that is being indexed for the first time, which no encoder has seen and no file stands for yet, counts
        among neither.
        """
        versions = [self.tables.dataset(name).version for name in (VIDEOS, MOMENTS, VECTORS, FILES)]
        known = self._coverage.get(fingerprint)
        if known is None or known[0] != versions:
            known = self._coverage[fingerprint] = versions, self._count_covered(fingerprint)
        return known[1]

    def _count_covered(self, fingerprint: str) -> tuple[int, int]:
        """See :meth:`coverage`."""
        visible = set(self.tables.column(VIDEOS, "video_id"))
        if self.tables.count(VECTORS, one_of("fingerprint", [fingerprint])) == self.tables.count(MOMENTS):
            return len(visible), len(visible)
        rows = self.tables.read(FILES, ["video_id", "state"]).to_pylist()
        due = {row["video_id"] for row in rows if row["state"] == FileState.INDEXED}
        due.update(moment_id.partition("#")[0] for moment_id in self.tables.column(VECTORS, "moment_id"))
        due &= visible & self.videos_described()
        return len(due & self.videos_encoded(fingerprint)), len(due)

    def scan_vectors(
        self, fingerprint: str, moment_ids: Collection[str] | None = None
    ) -> Iterator[tuple[str, TokenVectors]]:
        """All or the given moments with their vectors, a batch in memory at a time, in no particular order."""
        chosen = None if moment_ids is None else frozenset(moment_ids)
        columns = scan_cache.columns_of(scan_cache.STORED, self.tables.dataset(VECTORS))
        where = one_of("fingerprint", [fingerprint])
        if chosen is not None and len(chosen) <= _FILTERED_IDS:
            where += f" AND {one_of('moment_id', sorted(chosen))}"
        for batch in self.tables.batches(VECTORS, columns, where):
            try:
                items = list(scan_cache.unpacked(batch, fingerprint))
            except scan_cache.DamagedRow as row:
                moment_id = batch.column("moment_id")[row.number].as_py()
                raise scan_cache.refusal(self.tables, fingerprint, moment_id) from row
            yield from ((moment_id, item) for moment_id, item in items if chosen is None or moment_id in chosen)

    def scan_packed(self, fingerprint: str) -> Iterator[PackedVectors]:
        """Like :meth:`scan_vectors` for all moments, only what scoring needs, and packed."""
        return self.snapshot(fingerprint, use_cache=False).uncovered()

    def nearest(self, fingerprint: str, query: NDArray[np.floating[Any]], limit: int) -> list[str]:
        """Moments that the approximate index has near a query's vectors: about ``limit``, in no particular order."""
        where, rows = one_of("fingerprint", [fingerprint]), query.astype("float32").tolist()
        return self.tables.nearest(VECTORS, "vectors", "moment_id", rows, where, limit)

    def has_approximate_index(self) -> bool:
        """Whether :meth:`nearest` has an index to look into."""
        return self.tables.has_index(VECTORS, "vectors")

    def index_vectors(self) -> None:
        """Build the approximate index over all vectors, or bring it up to date."""
        self._writable().index(VECTORS, "vectors")

    def put_encoder_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """Remember the settings an encoder was last used with, so that a search can make the same one."""
        row = {"name": [_SETTINGS_OF + name], "value": [dump(dict(settings))]}
        self._writable().upsert(META, pa.table(row, schema=SCHEMAS[META]))

    def encoder_settings(self, name: str) -> dict[str, object]:
        """The settings that were remembered for an encoder; empty where none were."""
        rows = self.tables.column(META, "value", "name", [_SETTINGS_OF + name])
        return load(dict[str, object], rows[0]) if rows else {}

    def folders(self) -> dict[str, dict[str, object]]:
        """The folders, files and globs that index runs were given, and the settings remembered for each, by path."""
        rows = self.tables.column(META, "value", "name", [_FOLDERS])
        return dict(load(list[tuple[str, dict[str, object]]], rows[0])) if rows else {}

    def put_folders(self, folders: Mapping[str, Mapping[str, object]]) -> None:
        """Remember these folders and their settings, and no others."""
        row = {"name": [_FOLDERS], "value": [dump([(path, dict(folders[path])) for path in sorted(folders)])]}
        self._writable().upsert(META, pa.table(row, schema=SCHEMAS[META]))

    def not_duplicates(self) -> set[tuple[str, str]]:
        """The pairs of videos that a person said are no duplicates, the lesser id first."""
        rows = self.tables.column(META, "value", "name", [_NOT_DUPLICATES])
        return set(load(list[tuple[str, str]], rows[0])) if rows else set()

    def put_not_duplicates(self, pairs: Collection[tuple[str, str]]) -> None:
        """Remember these pairs of videos as no duplicates, and no others. Ids stay those of a content that moves."""
        row = {"name": [_NOT_DUPLICATES], "value": [dump(sorted(pairs))]}
        self._writable().upsert(META, pa.table(row, schema=SCHEMAS[META]))

    def forget_encoder(self, name: str) -> int:
        """Delete the vectors of all encoders of a name, and their settings; returns the number of encoders."""
        fingerprints = [use.info.fingerprint for use in self.encoders() if use.info.name == name]
        for fingerprint in fingerprints:
            self.delete_vectors(fingerprint)
        if fingerprints:
            self._writable().delete(META, "name", [_SETTINGS_OF + name])
        return len(fingerprints)

    # --- damage -------------------------------------------------------------------------------------------------------

    def drop_unreadable_records(self) -> int:
        """Take what cannot be read at all out of the tables of files, videos and moments; in how many places."""
        tables = self._writable()
        return sum(tables.drop_unreadable(name) for name in (FILES, VIDEOS, MOMENTS))

    def drop_damaged_records(self) -> int:
        """Delete files, videos and moments whose records cannot be read, and videos of such moments; returns how many.

        The next index run of their folders makes them anew from what was extracted.
        """
        tables = self._writable()
        rows = tables.read(FILES, ["key", "record"]).to_pylist()
        files = [row["key"] for row in rows if _fails(_file, row["key"], row["record"])]
        rows = tables.read(VIDEOS, ["video_id", "record"]).to_pylist()
        videos = [row["video_id"] for row in rows if _fails(load, VideoRecord, row["record"])]
        rows = tables.read(MOMENTS, ["moment_id", "video_id", "record"]).to_pylist()
        lost = [row for row in rows if _fails(load, MomentRecord, row["record"])]
        tables.delete(FILES, "key", files)
        tables.delete(VIDEOS, "video_id", [*videos, *(row["video_id"] for row in lost)])
        tables.delete(MOMENTS, "moment_id", [row["moment_id"] for row in lost])
        return len(files) + len(videos) + len(lost)

    def drop_damaged(self) -> list[str]:
        """Delete the vectors of all encoders that are not what was stored, and what cannot be read at all.

        Returns:
            The videos that lost vectors; empty names stand for rows that could not be read.
        """
        tables = self._writable()
        damaged: list[tuple[str, str]] = []
        columns = ["fingerprint", *scan_cache.columns_of(scan_cache.STORED, tables.dataset(VECTORS))]
        unreadable = tables.drop_unreadable(
            VECTORS, columns, lambda batch: damaged.extend(scan_cache.damaged_rows(batch))
        )
        for moment_id, fingerprint in damaged:
            tables.delete(VECTORS, "moment_id", [moment_id], one_of("fingerprint", [fingerprint]))
        return [moment_id.partition("#")[0] for moment_id, _ in damaged] + [""] * unreadable

    # --- the scan cache -----------------------------------------------------------------------------------------------

    def snapshot(self, fingerprint: str, *, use_cache: bool = True, version: object = None) -> Snapshot:
        """An encoder's vectors as they are now: from the scan cache where it is good, from the table for the rest.

        ``version`` is that of another process's snapshot, to see the vectors as they were then.
        """
        last = self._snapshots.get(fingerprint) if use_cache else None
        if last is None or not last.current(version):
            files: Sequence[ScanFile] = last.files if last else ()
            folder = self._scan_cache(fingerprint) if use_cache else None
            last = scan_cache.Snapshot(self.tables, folder, fingerprint, files, version)
            if use_cache:
                self._snapshots[fingerprint] = last
        return last

    def pack_vectors(
        self, fingerprint: str, *, join: bool = False, report: Callable[[int, int], None] | None = None
    ) -> PackResult | None:
        """Bring the scan cache of an encoder up to date. Needs no writer lock: the index does not change.

        Args:
            fingerprint: of the encoder.
            join: put its files together.
            report: called with how many vectors are packed, of how many.

        Returns:
            None where a remote index has no folder for it, or another process is at it.
        """
        folder = self._scan_cache(fingerprint)
        if folder is None:
            return None
        try:
            return scan_cache.update(self.tables, folder, fingerprint, join=join, report=report)
        except (OSError, ValueError) as error:
            raise as_store_error("write the packed vectors of", self.uri, error) from error

    def pack_all(self) -> list[str]:
        """Bring the scan caches of all encoders up to date, after :meth:`finish`: joining fragments moves all rows.

        Returns:
            Problems, a line each: an index without scan caches is a good one whose searches take longer.
        """
        problems = []
        for use in self.encoders():
            try:
                self.pack_vectors(use.info.fingerprint)
            except StoreError as error:
                problems.append(error.what)
        return problems

    def refresh(self, fingerprint: str, *, report: Callable[[int, int], None] | None = None) -> None:
        """Pack what was not, where a search gains by it, nobody writes to the index and the disk allows."""
        if self._scan_cache(fingerprint) is None or self.snapshot(fingerprint).uncovered_rows < _WORTH_PACKING:
            return
        if not self.is_being_written():
            with suppress(StoreError):
                self.pack_vectors(fingerprint, report=report)

    def _scan_cache(self, fingerprint: str) -> Path | None:
        folder = self.tables.location.file(_SCAN_CACHES)
        return None if folder is None else folder / digest(fingerprint, size=8)


def _facts(video: VideoRecord) -> dict[str, object]:
    """The values of a video that are filtered by."""
    names = ("title", "uploader", "date", "language")
    return {**{name: readable(getattr(video.fields, name)) for name in names}, "duration": video.media.duration}


def _rows_of(videos: Sequence[VideoRecord]) -> pa.Table:
    rows = [
        {"video_id": video.video_id, "content_hash": video.content_hash, "record": dump(video), **_facts(video)}
        for video in videos
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS[VIDEOS])


def _labels_key(content_hash: str) -> str:
    return f"{content_hash}/labels"


def _labels(stored: Extraction) -> Labels:
    return Labels(tuple(map(str, stored.payload["tags"])), tuple(map(str, stored.payload["notes"])))


VOICES_VERSION: Final = "1"
"""Changes when the same sound would get other voices."""


def _voices_key(content_hash: str) -> str:
    return f"{content_hash}/voices/{VOICES_VERSION}"


def _voices(stored: Extraction) -> Voices:
    turns = tuple((float(start), float(end), int(voice)) for start, end, voice in stored.payload["turns"])
    numbers = tuple(map(int, stored.payload["numbers"]))
    return Voices(turns, tuple(stored.blobs), numbers, stored.payload.get("model", "campplus"))


def _path_key(path: str) -> str:
    """The key of a path: a digest of its bytes.

    Raises:
        StoreError: the path cannot be one of this system.
    """
    try:
        return hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
    except UnicodeEncodeError:
        raise StoreError(f"{path!r} cannot be a path on this system") from None


def _file(key: str, text: str) -> FileRecord:
    """A file's record; StoreError where it is damaged, or not that of its key."""
    file = load(FileRecord, text)
    if _path_key(file.path) != key:
        raise StoreError(f"the index holds a damaged FileRecord (of {file.path!r})", "index its folder again")
    return file


def _fails(load: Callable[..., object], *arguments: object) -> bool:
    try:
        load(*arguments)
    except StoreError:
        return True
    return False


def _in_order(moment: MomentRecord) -> tuple[str, float, float, str]:
    return moment.video_id, moment.span.start, moment.span.end, moment.moment_id


def _unknown(video_id: str) -> UnknownVideo:
    return UnknownVideo(f"no video of the index has an id that begins with {video_id!r}", "list them with: clamr ls")
