"""The vectors of moments: stored, scanned, packed beside the index, and looked up approximately."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from clamr_cli.errors import StoreError
from clamr_cli.store import lock, records, vectors
from clamr_cli.store.failures import as_store_error
from clamr_cli.store.room import Room
from clamr_cli.store.scan_cache import PackResult, Snapshot
from clamr_cli.store.scan_cache import update as update_scan_cache
from clamr_cli.store.schema import FILES, META, MOMENTS, SCHEMAS, SUMS, VECTORS, VIDEOS
from clamr_cli.store.tables import literal, one_of
from clamr_cli.types import EncoderInfo, FileState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from clamr_cli.store.tables import Tables
    from clamr_cli.store.vectors import PackedVectors
    from clamr_cli.types import FloatArray, TokenVectors

SCAN_CACHES = "scan"
"""The folder with the scan caches, beside the lock and the notes."""

_SETTINGS_OF = "encoder/"
"""Before an encoder's name: the row of the meta table with its settings."""

_WORTH_PACKING = 256
"""Rows that are not packed make a search slower by about a millisecond each."""

_FILTERED_IDS = 1000
"""Up to this many moments are picked by the scan itself; more are picked from what it gives."""


@dataclass(frozen=True, slots=True)
class EncoderUse:
    """An encoder the index has vectors of: of how many moments, and how many vectors."""

    info: EncoderInfo
    moments: int
    vectors: int


class Embeddings(Room):
    """The index's vectors, of any number of encoders."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self._snapshots: dict[str, Snapshot] = {}

    def put_vectors(self, encoder: EncoderInfo, rows: Mapping[str, TokenVectors]) -> None:
        """Store the vectors of moments, all at once, replacing those of the same encoder. Kept as float16.

        Raises:
            StoreError: a vector is not finite, not of unit length or not of the right width; nothing is stored then.
        """
        tables = self._may_write()
        tables.add_column(VECTORS, SUMS)
        tables.upsert(VECTORS, vectors.to_rows(encoder, rows))

    def encoded(self, fingerprint: str) -> set[str]:
        """The moments that have vectors of an encoder."""
        where = one_of("fingerprint", [fingerprint])
        return set(self._tables.read(VECTORS, ["moment_id"], where).column("moment_id").to_pylist())

    def videos_described(self) -> set[str]:
        """The videos that have moments."""
        return set(self._pick(MOMENTS, "video_id", "video_id", None))

    def videos_encoded(self, fingerprint: str) -> set[str]:
        """The videos all of whose moments have vectors of an encoder."""
        rows = self._tables.read(MOMENTS, ["moment_id", "video_id"])
        owners = dict(zip(*(rows.column(name).to_pylist() for name in ("moment_id", "video_id")), strict=True))
        lacking = {owners[moment_id] for moment_id in owners.keys() - self.encoded(fingerprint)}
        return set(owners.values()) - lacking

    def has_vectors(self, fingerprint: str) -> bool:
        """Whether any moment has vectors of an encoder."""
        return self._tables.count(VECTORS, one_of("fingerprint", [fingerprint])) > 0

    def encoders(self) -> list[EncoderUse]:
        """The encoders the index has vectors of, by name."""
        rows = self._tables.read(VECTORS, ["encoder", "fingerprint", "dimension", "count"])
        groups = rows.group_by(["encoder", "fingerprint", "dimension"]).aggregate(
            [("count", "sum"), ("count", "count")]
        )
        uses = [
            EncoderUse(
                EncoderInfo(row["encoder"], row["fingerprint"], row["dimension"]), row["count_count"], row["count_sum"]
            )
            for row in groups.to_pylist()
        ]
        return sorted(uses, key=lambda use: (use.info.name, use.info.fingerprint))

    def coverage(self, fingerprint: str) -> tuple[int, int]:
        """The number of videos that an encoder's vectors answer from, and the number that they should.

        A video that is being indexed for the first time, which no encoder has seen and no file stands for yet, counts
        among neither.
        """
        visible = set(self._pick(VIDEOS, "video_id", "video_id", None))
        if self._tables.count(VECTORS, one_of("fingerprint", [fingerprint])) == self._tables.count(MOMENTS):
            return len(visible), len(visible)
        rows = self._tables.read(FILES, ["video_id", "state"]).to_pylist()
        due = {row["video_id"] for row in rows if row["state"] == FileState.INDEXED}
        due.update(moment_id.partition("#")[0] for moment_id in self._pick(VECTORS, "moment_id", "moment_id", None))
        due &= visible & self.videos_described()
        return len(due & self.videos_encoded(fingerprint)), len(due)

    def scan_vectors(
        self, fingerprint: str, moment_ids: Collection[str] | None = None
    ) -> Iterator[tuple[str, TokenVectors]]:
        """Moments and their vectors, a batch in memory at a time, in no particular order.

        Args:
            fingerprint: of the encoder.
            moment_ids: only these; all without.
        """
        wanted = None if moment_ids is None else frozenset(moment_ids)
        for batch in self._rows(vectors.STORED, fingerprint, wanted):
            with self._refusing_damage(batch, fingerprint):
                items = list(vectors.unpacked(batch, fingerprint))
            yield from ((moment_id, item) for moment_id, item in items if wanted is None or moment_id in wanted)

    def scan_packed(self, fingerprint: str, moment_ids: Collection[str] | None = None) -> Iterator[PackedVectors]:
        """Like :meth:`scan_vectors`, only what scoring needs, and packed. May give moments beside the wanted ones."""
        wanted = None if moment_ids is None else frozenset(moment_ids)
        for batch in self._rows(vectors.SCORED, fingerprint, wanted):
            with self._refusing_damage(batch, fingerprint):
                packed = vectors.packed(batch, fingerprint)
            yield packed

    def _rows(
        self, columns: Sequence[str], fingerprint: str, wanted: Collection[str] | None
    ) -> Iterator[pa.RecordBatch]:
        columns = vectors.columns(columns, self._tables.dataset(VECTORS))
        return self._tables.batches(VECTORS, columns, _where(fingerprint, wanted))

    @contextmanager
    def _refusing_damage(self, batch: pa.RecordBatch, fingerprint: str) -> Iterator[None]:
        try:
            yield
        except vectors.DamagedRow as row:
            moment_id = batch.column("moment_id")[row.number].as_py()
            raise vectors.refusal(self._tables, fingerprint, moment_id) from row

    def drop_damaged(self) -> list[str]:
        """Delete the rows of all encoders that are not what was stored, and what cannot be read at all.

        Returns:
            The videos that lost vectors; empty names stand for rows that could not be read.
        """
        tables = self._may_write()
        damaged: list[tuple[str, str]] = []
        columns = ["fingerprint", *vectors.columns(vectors.STORED, tables.dataset(VECTORS))]
        unreadable = tables.drop_unreadable(VECTORS, columns, lambda batch: damaged.extend(_damaged(batch)))
        for moment_id, fingerprint in damaged:
            tables.delete(VECTORS, "moment_id", [moment_id], one_of("fingerprint", [fingerprint]))
        return [moment_id.partition("#")[0] for moment_id, _ in damaged] + [""] * unreadable

    def snapshot(self, fingerprint: str, *, use_cache: bool = True) -> Snapshot:
        """An encoder's vectors as they are now: from the scan cache where it is good, from the table for the rest."""
        if not use_cache:
            return Snapshot(self._tables, None, fingerprint)
        before = self._snapshots.get(fingerprint)
        if before is None or not before.current():
            mapped = before.files if before else ()
            before = Snapshot(self._tables, self._scan_cache(fingerprint), fingerprint, mapped)
            self._snapshots[fingerprint] = before
        return before

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

        Raises:
            StoreError: the index cannot be read, or the cache not be written; the old one stays.
        """
        folder = self._scan_cache(fingerprint)
        if folder is None:
            return None
        try:
            return update_scan_cache(self._tables, folder, fingerprint, join=join, report=report)
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

    def refresh(self, fingerprint: str, *, report: Callable[[int, int], None] | None = None) -> None:
        """Before a search: pack what was not, where that is worth it, nobody writes to the index and the disk allows.

        Args:
            fingerprint: of the encoder.
            report: called with how many vectors are packed, of how many.
        """
        worth = (
            self._scan_cache(fingerprint) is not None and self.snapshot(fingerprint).uncovered_rows >= _WORTH_PACKING
        )
        if not worth or lock.held(self._tables.place):
            return
        with suppress(StoreError):
            self.pack_vectors(fingerprint, report=report)

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

    def _scan_cache(self, fingerprint: str) -> Path | None:
        folder = self._tables.place.side_file(SCAN_CACHES)
        return None if folder is None else folder / records.digest(fingerprint, size=8)

    def delete_vectors(self, fingerprint: str) -> None:
        """Delete all vectors of an encoder, and their packed copy."""
        self._may_write().delete(VECTORS, "fingerprint", [fingerprint])
        if (folder := self._scan_cache(fingerprint)) is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def forget_encoder(self, name: str) -> int:
        """Delete all vectors of encoders of a name, and the settings that were remembered; how many encoders went."""
        gone = [use.info.fingerprint for use in self.encoders() if use.info.name == name]
        for fingerprint in gone:
            self.delete_vectors(fingerprint)
        if gone:
            self._may_write().delete(META, "name", [_SETTINGS_OF + name])
        return len(gone)

    def put_encoder_settings(self, name: str, settings: Mapping[str, object]) -> None:
        """Remember the settings an encoder was last used with, so that a search can make the same one."""
        row = {"name": [_SETTINGS_OF + name], "value": [records.dump(dict(settings))]}
        self._may_write().upsert(META, pa.table(row, schema=SCHEMAS[META]))

    def encoder_settings(self, name: str) -> dict[str, object]:
        """The settings that were remembered for an encoder; empty where none were."""
        rows = self._tables.read(META, ["value"], one_of("name", [_SETTINGS_OF + name])).column("value").to_pylist()
        return records.load(dict[str, object], rows[0]) if rows else {}


def _where(fingerprint: str, wanted: Collection[str] | None) -> str:
    where = f"fingerprint = {literal(fingerprint)}"
    if wanted is None or len(wanted) > _FILTERED_IDS:
        return where
    return f"{where} AND {one_of('moment_id', sorted(wanted))}"


def _damaged(batch: pa.RecordBatch) -> list[tuple[str, str]]:
    """The moments of rows that are not what was stored, and the fingerprints of their encoders."""
    fingerprints = batch.column("fingerprint").to_pylist()
    with suppress(vectors.DamagedRow):
        if len(set(fingerprints)) == 1:
            list(vectors.unpacked(batch, fingerprints[0]))
            return []
    found = []
    for number, fingerprint in enumerate(fingerprints):
        row = batch.slice(number, 1)
        try:
            list(vectors.unpacked(row, fingerprint))
        except vectors.DamagedRow:
            found.append((row.column("moment_id")[0].as_py(), fingerprint))
    return found
