"""An encoder's vectors at one version of the table: what the sidecar has of them, and the rows it has not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clamr_cli.store import vectors
from clamr_cli.store.failures import failing_as_store_error
from clamr_cli.store.scan_cache import manifest
from clamr_cli.store.scan_cache.coverage import Rows, assigned, in_fragments
from clamr_cli.store.scan_cache.part import Damaged, Part
from clamr_cli.store.schema import VECTORS
from clamr_cli.store.tables import BATCH_ROWS, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from clamr_cli.errors import StoreError
    from clamr_cli.store.scan_cache.manifest import Manifest
    from clamr_cli.store.tables import Tables
    from clamr_cli.store.vectors import PackedVectors

_READ_ATTEMPTS = 5
"""How often to look for parts again that a build replaced meanwhile."""


@dataclass(frozen=True, slots=True, eq=False)
class PartView:
    """A part, and where its moments are in the table now.

    Attributes:
        part: the mapped arrays.
        places: [m] places of its moments among the rows of the snapshot, -1 for those that are gone.
    """

    part: Part
    places: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Listing:
    """A manifest as it was when it was read: its file, and what changes with it."""

    path: Path | None
    seen: tuple[int, int, int] | None

    @classmethod
    def of(cls, folder: Path | None) -> Listing:
        """That of a sidecar's folder as it is now."""
        path = None if folder is None else folder / manifest.NAME
        return cls(path, _seen(path))

    def same(self) -> bool:
        """Whether the file is still the same."""
        return self.seen == _seen(self.path)


def _seen(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


class Snapshot:
    """What a search reads: one version of the table, whatever writers do meanwhile."""

    def __init__(
        self,
        tables: Tables,
        rows: Rows,
        fingerprint: str,
        parts: Sequence[PartView],
        rest: Sequence[Any],
        listing: Listing,
    ) -> None:
        self._listing = listing
        self._tables = tables
        self._rows = rows
        self._fingerprint = fingerprint
        self._rest = rest
        self.parts = parts

    @classmethod
    def take(cls, tables: Tables, folder: Path | None, fingerprint: str, before: Snapshot | None = None) -> Snapshot:
        """The newest version of the table, and those parts of the sidecar that are good for it.

        Args:
            tables: of the index.
            folder: of the encoder's sidecar, None where there is none.
            fingerprint: of the encoder.
            before: an earlier snapshot, whose mapped parts are used again.

        Raises:
            StoreError: the index cannot be read.
        """
        listing = Listing.of(folder)
        rows = Rows.read(tables)
        found = [] if folder is None else _mapped(folder, fingerprint, before)
        views, covered = [], set[int]()
        for part, fragments in zip(found, assigned(rows, [part.info for part in found]), strict=True):
            places = np.where(in_fragments(part["rows"], fragments), rows.places(part["rows"]), -1)
            covered |= fragments
            views.append(PartView(part, places))
        rest = [one for one in rows.data.get_fragments() if one.fragment_id not in covered]
        return cls(tables, rows, fingerprint, views, rest, listing)

    def current(self) -> bool:
        """Whether this is still the newest version of the table, and the sidecar's files are those that were mapped."""
        if not self._listing.same():
            return False
        try:
            for view in self.parts:
                view.part.check_file()
        except Damaged:
            return False
        return int(self._tables.dataset("vectors").version) == int(self._rows.data.version)

    @property
    def uncovered(self) -> int:
        """How many rows of the table, of any encoder, the sidecar does not stand for."""
        with failing_as_store_error("read", self._tables.uri, VECTORS):
            return sum(fragment.count_rows() for fragment in self._rest)

    def rest(self) -> Iterator[PackedVectors]:
        """The moments that the sidecar does not stand for, a few at a time."""
        if not self._rest:
            return
        with failing_as_store_error("read", self._tables.uri, VECTORS):
            found = iter(
                self._rows.data.scanner(
                    columns=vectors.columns(vectors.SCORED, self._rows.data),
                    filter=one_of("fingerprint", [self._fingerprint]),
                    fragments=self._rest,
                    batch_size=BATCH_ROWS,
                    batch_readahead=2,
                    fragment_readahead=2,
                ).to_batches()
            )
        while True:
            with failing_as_store_error("read", self._tables.uri, VECTORS):
                batch = next(found, None)
                if batch is None:
                    return
                batch.validate(full=True)
            if batch.num_rows:
                try:
                    yield vectors.packed(batch, self._fingerprint)
                except vectors.DamagedRow as row:
                    moment_id = batch.column("moment_id")[row.number].as_py()
                    raise vectors.refusal(self._tables, self._fingerprint, moment_id) from row

    def fetch(self, places: Sequence[int], *, ids: bool = True) -> PackedVectors:
        """The stored vectors of the rows at these places, in this order.

        Args:
            places: among the rows of the snapshot.
            ids: whether moments and modalities are wanted too; empty and zero without, which is faster.

        Raises:
            StoreError: they cannot be read, or are not what was stored.
        """
        columns = vectors.columns(vectors.SCORED if ids else ["vectors"], self._rows.data)
        with failing_as_store_error("read", self._tables.uri, VECTORS):
            table = self._rows.data.take(list(places), columns=columns)
            table.validate(full=True)
        (batch,) = table.combine_chunks().to_batches()
        try:
            return vectors.packed(batch, self._fingerprint) if ids else vectors.bare(batch)
        except vectors.DamagedRow as row:
            raise self.refusal(places[row.number]) from row

    def refusal(self, place: int) -> StoreError:
        """The error for the row at a place, which is not what was stored."""
        with failing_as_store_error("read", self._tables.uri, VECTORS):
            names = self._rows.data.take([place], columns=["moment_id"]).column("moment_id").to_pylist()
        return vectors.refusal(self._tables, self._fingerprint, names[0])


def _mapped(folder: Path, fingerprint: str, before: Snapshot | None) -> list[Part]:
    """The parts of the sidecar that are whole. What a build removed since the manifest was read is looked for again."""
    known = {} if before is None else {view.part.info.name: view.part for view in before.parts}
    found: list[Part] = []
    seen: Manifest | None = None
    for _ in range(_READ_ATTEMPTS):
        now = manifest.read(folder, fingerprint)
        if now is None or now == seen:
            break
        seen, found = now, []
        for info in now.parts:
            with suppress(Damaged):
                found.append(_part(folder, info, known))
        if len(found) == len(now.parts):
            break
    return found


def _part(folder: Path, info: Any, known: dict[str, Part]) -> Part:  # noqa: ANN401
    part = known.get(info.name)
    if part is None:
        return Part(folder, info)
    part.check_file()
    return part.described(info)
