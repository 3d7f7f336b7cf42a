"""What every part of the index's face stands on: its tables, and the lock of its one writer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clamr_cli.errors import StoreError
from clamr_cli.files import private_as
from clamr_cli.store import lock, upkeep
from clamr_cli.store.schema import SCHEMAS
from clamr_cli.store.tables import in_parts, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.store.tables import Tables


class Room:
    """An index as far as all its parts need it."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._writing = False
        self.repairs: list[str] = []
        """Repairs that :meth:`writer` made when it began, a line each."""

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
            StoreError: a table that cannot be read cannot be repaired, or the disk refuses what was written.
        """
        with lock.hold(self._tables.place, command), private_as(self._tables.place.folder):
            self.repairs = upkeep.repair(self._tables)
            self._writing = True
            try:
                yield
            finally:
                # What was finished before an interruption stays, after a power cut too.
                self._writing = False
                self._tables.sync()

    def is_being_written(self) -> bool:
        """Whether somebody writes to the index, as far as this process can see."""
        return lock.held(self._tables.place)

    def sync(self) -> None:
        """Force all that was written to the disk. What is recorded afterwards can rest on it.

        Raises:
            StoreError: the disk refuses.
        """
        self._may_write().sync()

    def set_back(self) -> list[str]:
        """The tables whose newest version cannot be read, so that what was written last is not seen."""
        return [name for name in SCHEMAS if self._tables.set_back(name)]

    def _may_write(self) -> Tables:
        if not self._writing:
            raise StoreError("the index was to be changed without its writer lock", "this is a defect of clamr")
        return self._tables

    def _pick(self, table: str, column: str, by: str, values: Sequence[str] | None) -> list[Any]:
        """One column of the rows whose ``by`` is among ``values``, of all rows without."""
        if values is None:
            return list(self._tables.read(table, [column]).column(column).to_pylist())
        parts = (self._tables.read(table, [column], one_of(by, part)) for part in in_parts(values))
        return [value for part in parts for value in part.column(column).to_pylist()]
