"""Which rows of the vectors table a part stands for, at the version of the table that is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clamr_cli.store.failures import failing_as_store_error
from clamr_cli.store.scan_cache.part import Fragment
from clamr_cli.store.schema import VECTORS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from clamr_cli.store.scan_cache.part import PartInfo
    from clamr_cli.store.tables import Tables

OFFSET_BITS = 32
"""A row's address is the number of its fragment, then in this many bits its place there."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one version of the table.

    Attributes:
        data: the dataset at that version.
        fragments: by number, without what was deleted.
        addresses: [r] uint64 of the rows that are there, as the table gives them.
        order: [r] places of the addresses in ascending order.
    """

    data: Any
    fragments: dict[int, Fragment]
    addresses: NDArray[np.uint64]
    order: NDArray[np.int64]

    @classmethod
    def read(cls, tables: Tables) -> Rows:
        """Those of the newest version."""
        data = tables.dataset(VECTORS)
        with failing_as_store_error("read", tables.uri, VECTORS):
            addresses = data.to_table(columns=[], with_row_address=True).column("_rowaddr").to_numpy()
            fragments = {one.fragment_id: _fragment(one.metadata) for one in data.get_fragments()}
        return cls(data, fragments, addresses, np.argsort(addresses, kind="stable"))

    def places(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where the rows of the given addresses are among all, -1 for those that are not there (any more)."""
        if not len(self.addresses):
            return np.full(len(addresses), -1, np.int64)
        found = np.searchsorted(self.addresses, addresses, sorter=self.order)
        places = self.order[np.minimum(found, len(self.order) - 1)]
        return np.where(self.addresses[places] == addresses, places, -1)

    def covered(self, part: PartInfo) -> set[int]:
        """The numbers of the fragments for which a part stands.

        What it lacks must still be deleted: an older version that was restored may have it again.
        """
        return {
            one.number
            for one in part.fragments
            if (now := self.fragments.get(one.number)) is not None
            and (now.files, now.rows) == (one.files, one.rows)
            and (not one.deleted or (self.places(_addresses(one)) < 0).all())
        }

    def as_covered(self, numbers: Collection[int]) -> tuple[Fragment, ...]:
        """Fragments as a part made from this version has them, with what is deleted."""
        owners = self.addresses >> np.uint64(OFFSET_BITS)
        counts = dict(zip(*(values.tolist() for values in np.unique(owners, return_counts=True)), strict=True))
        return tuple(self._with_deleted(number, counts.get(number, 0)) for number in sorted(numbers))

    def _with_deleted(self, number: int, count: int) -> Fragment:
        one = self.fragments[number]
        if count == one.rows:
            return one
        every = Fragment(number, one.files, one.rows, tuple(range(one.rows)))
        gone = np.flatnonzero(self.places(_addresses(every)) < 0)
        return Fragment(number, one.files, one.rows, tuple(gone.tolist()))


def in_fragments(addresses: NDArray[np.uint64], numbers: Collection[int]) -> NDArray[np.bool_]:
    """Which addresses lie in the fragments of the given numbers."""
    return np.isin(addresses >> np.uint64(OFFSET_BITS), np.array(sorted(numbers), np.uint64))


def _addresses(fragment: Fragment) -> NDArray[np.uint64]:
    return np.array(fragment.deleted, np.uint64) + np.uint64(fragment.number << OFFSET_BITS)


def _fragment(metadata: Any) -> Fragment:  # noqa: ANN401
    # Data files have names of their own; what later versions lay over single cells is told by its description.
    names = [str(file.path) for file in metadata.files] + [
        str(one) for one in getattr(metadata, "overlays", None) or ()
    ]
    return Fragment(int(metadata.id), tuple(sorted(names)), int(metadata.physical_rows))


def assigned(rows: Rows, parts: Sequence[PartInfo]) -> list[set[int]]:
    """For each part the fragments it stands for; of several parts with one fragment the first has it."""
    taken: set[int] = set()
    found = []
    for part in parts:
        found.append(rows.covered(part) - taken)
        taken |= found[-1]
    return found
