"""Writing one part, a bounded number of vectors in memory at a time, and giving it its name when it is whole."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from clamr_cli.files import TEMPORARY_PREFIX, sync_folder
from clamr_cli.store.scan_cache.part import SECTIONS, PartInfo, checksums, layout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from clamr_cli.store.scan_cache.part import Fragment

_OF_VECTORS = ("codes", "scales", "residuals")


class PartWriter:
    """Writes a part of a known number of vectors. Use as a context: what is not finished is removed."""

    def __init__(self, folder: Path, vectors: int) -> None:
        """Make the temporary file.

        Raises:
            OSError: it cannot be written.
        """
        self._folder = folder
        self._name = f"part-{uuid.uuid4().hex}.bin"
        self._temporary = folder / f"{TEMPORARY_PREFIX}{os.getpid()}-{self._name}"
        self._vectors = vectors
        self._places, self._end = layout(dict.fromkeys(_OF_VECTORS, vectors))
        self._done = 0
        self._reach = 0.0
        self._lengths: list[NDArray[np.int64]] = []
        self._modalities: list[NDArray[np.uint8]] = []
        self._counts: list[int] = []
        self._rows: list[int] = []
        self._ordered: list[bool] = []
        self._names: list[str] = []
        self._file = self._temporary.open("w+b")

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def moment(
        self, moment_id: str, row: int, lengths: NDArray[np.int64], modalities: NDArray[np.uint8], *, ordered: bool
    ) -> None:
        """Add a moment: its address in the table, and the number of vectors of each of its modalities, ascending."""
        self._names.append(moment_id)
        self._rows.append(row)
        self._counts.append(len(lengths))
        self._lengths.append(lengths)
        self._modalities.append(modalities)
        self._ordered.append(ordered)

    def vectors(
        self, codes: NDArray[np.int8], scales: NDArray[np.float32], residuals: NDArray[np.float32], reach: float
    ) -> None:
        """Add vectors, in the order of the moments."""
        self._put("codes", codes, self._done)
        self._put("scales", scales, self._done)
        self._put("residuals", residuals, self._done)
        self._done += len(codes)
        self._reach = max(self._reach, reach)

    def _put(self, name: str, values: NDArray[Any], first: int) -> None:
        kind, width = SECTIONS[name]
        size = np.dtype(kind).itemsize * width
        self._file.seek(self._places[name][0] + first * size)
        self._file.write(np.ascontiguousarray(values, dtype=kind).data)

    def finish(self, fragments: Sequence[Fragment]) -> PartInfo:
        """Give the file its name; it is whole and on the disk then.

        Raises:
            OSError: it cannot be written.
            ValueError: there are not as many vectors as were announced.
        """
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        if not self._done == self._vectors == lengths.sum():
            raise ValueError(f"{self._done} of {self._vectors} vectors were written for {lengths.sum()}")
        # A zero byte is never part of an id, and ids in UTF-8 are what the table has.
        names = np.frombuffer("\0".join(self._names).encode(), np.uint8)
        arrays: dict[str, NDArray[Any]] = {
            "segments": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "modalities": np.concatenate([np.zeros(0, np.uint8), *self._modalities]),
            "moments": np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int64),
            "rows": np.array(self._rows, np.uint64),
            "ordered": np.array(self._ordered, np.uint8),
            "names": names,
        }
        more, end = layout({name: len(values) for name, values in arrays.items()}, self._end)
        self._places |= more
        for name, values in arrays.items():
            self._put(name, values, 0)
        self._file.truncate(end)
        self._file.flush()
        os.fsync(self._file.fileno())
        content = np.memmap(self._temporary, np.uint8, "r", shape=(end,))
        info = PartInfo(self._name, end, self._places, checksums(content), tuple(fragments), self._reach)
        self._file.close()
        os.replace(self._temporary, self._folder / self._name)
        sync_folder(self._folder)
        return info
