"""An encoder's vectors at one version of the table: what the scan cache has of them, and the rows it has not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.errors import StoreError
from clamr_cli.store import vectors
from clamr_cli.store.errors import store_errors
from clamr_cli.store.records import VECTORS
from clamr_cli.store.scan_cache.scan_file import SUFFIX, CorruptCache, Fragment, ScanFile, read
from clamr_cli.store.tables import Tables, one_of
from clamr_cli.store.vectors import PackedVectors

_OFFSET_BITS: Final = 32
"""A row's address is the number of its fragment, then in this many bits its offset there."""


class Snapshot:
    """Snapshot that a search reads: one version of the table, whatever writers do meanwhile.

    Attributes:
        data: the dataset at this version.
        fragments: of the table, by number, with the offsets that are deleted now.
        files: of the scan cache, as far as they are whole and stand for any of the fragments.
    """

    def __init__(
        self, tables: Tables, folder: Path | None, fingerprint: str, mapped: Collection[ScanFile] = ()
    ) -> None:
        """Take the newest version of the table.

        ``folder`` is the encoder's scan cache, None to do without; ``mapped`` are files that need not be opened again.
        """
        self._tables, self._folder, self._fingerprint = tables, folder, fingerprint
        self._paths = _paths(folder)
        self.data: Any = tables.dataset(VECTORS)
        with store_errors("read", tables.uri, VECTORS):
            rows = self.data.to_table(columns=[], with_row_address=True).column("_rowaddr").to_numpy()
            fragments = self.data.get_fragments()
        self._order = np.argsort(rows, kind="stable")
        self._sorted: NDArray[np.uint64] = rows[self._order]
        self.fragments = {fragment.fragment_id: self._described(fragment.metadata) for fragment in fragments}
        opened = {file.name: file for file in mapped}
        files: list[ScanFile] = []
        covered: set[int] = set()
        for path in self._paths:
            # The rows of a damaged file are read from the table, and so are those of one that a build removes now.
            with suppress(CorruptCache):
                file = opened.get(path.name) or read(path, fingerprint)
                # Of several files with one fragment, as a killed build leaves them, the first stands for it.
                own = {fragment.number for fragment in file.fragments if self._has_all_rows(fragment)} - covered
                covered |= own
                inside = np.isin(fragment_of(file.rows), np.array(sorted(own), np.uint64))
                files.append(replace(file, covered=own, places=np.where(inside, self.find(file.rows), -1)))
        self.files = tuple(files)
        self._uncovered = [fragment for fragment in fragments if fragment.fragment_id not in covered]

    def current(self) -> bool:
        """Whether this is still the newest version of the table, and the scan cache has the same files."""
        return self._paths == _paths(self._folder) and self._tables.dataset(VECTORS).version == self.data.version

    @property
    def uncovered_rows(self) -> int:
        """Number of rows of the table, of any encoder, that no file covers."""
        with store_errors("read", self._tables.uri, VECTORS):
            return sum(fragment.count_rows() for fragment in self._uncovered)

    def uncovered(self) -> Iterator[PackedVectors]:
        """The moments that no file stands for, a few at a time."""
        columns = vectors.columns(vectors.SCORED, self.data)
        where = one_of("fingerprint", [self._fingerprint])
        for batch in self._tables.batches(VECTORS, columns, where, data=self.data, fragments=self._uncovered):
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
        columns = vectors.columns(vectors.SCORED if ids else ["vectors"], self.data)
        with store_errors("read", self._tables.uri, VECTORS):
            table = self.data.take(list(places), columns=columns)
            table.validate(full=True)
        (batch,) = table.combine_chunks().to_batches()
        try:
            return vectors.packed(batch, self._fingerprint)
        except vectors.DamagedRow as row:
            raise self.refusal(places[row.number]) from row

    def refusal(self, place: int) -> StoreError:
        """The error for the row at a place, which is not what was stored."""
        with store_errors("read", self._tables.uri, VECTORS):
            (moment_id,) = self.data.take([place], columns=["moment_id"]).column("moment_id").to_pylist()
        return vectors.refusal(self._tables, self._fingerprint, moment_id)

    def find(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places of the rows of these addresses, -1 for those that are not there (any more)."""
        if not len(self._sorted):
            return np.full(len(addresses), -1, np.int64)
        nearest = np.minimum(np.searchsorted(self._sorted, addresses), len(self._sorted) - 1)
        return np.where(self._sorted[nearest] == addresses, self._order[nearest], -1)

    def _described(self, metadata: Any) -> Fragment:  # noqa: ANN401
        # Data files have names that are never used twice; what later versions lay over single cells has none.
        overlays = getattr(metadata, "overlays", None) or ()
        names = sorted([str(file.path) for file in metadata.files] + [str(overlay) for overlay in overlays])
        number, rows = int(metadata.id), int(metadata.physical_rows)
        borders = np.array([number << _OFFSET_BITS, (number + 1) << _OFFSET_BITS], np.uint64)
        first, last = np.searchsorted(self._sorted, borders)
        present = self._sorted[first:last] - borders[0]
        deleted = np.setdiff1d(np.arange(rows), present) if len(present) < rows else ()
        return Fragment(number, tuple(names), rows, tuple(int(offset) for offset in deleted))

    def _has_all_rows(self, fragment: Fragment) -> bool:
        """Whether a file that stands for a fragment as it was has all rows that are in it now.

        What the file lacks must still be deleted: an older version of the table that was restored may have it again.
        """
        now = self.fragments.get(fragment.number)
        return (
            now is not None
            and (now.data, now.rows) == (fragment.data, fragment.rows)
            and set(fragment.deleted) <= set(now.deleted)
        )


def fragment_of(addresses: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The numbers of the fragments that rows of these addresses lie in."""
    return addresses >> np.uint64(_OFFSET_BITS)


def _paths(folder: Path | None) -> list[Path]:
    """The files of a scan cache."""
    return [] if folder is None else sorted(folder.glob(f"*{SUFFIX}"))
