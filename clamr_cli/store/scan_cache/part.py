"""One file of a sidecar: vectors as codes with their scales and residuals, and where each moment and modality begins.

The file holds the arrays of :data:`SECTIONS` one after another, each at a multiple of 64 bytes. It is written once,
never changed and mapped for reading; a mapping stays good when the file is replaced or removed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK: Final = 4 << 20
"""Bytes with a checksum of their own."""

ALIGNMENT: Final = 64

SECTIONS: Final[Mapping[str, tuple[str, int]]] = {
    "codes": ("int8", DIMENSION),
    "scales": ("float32", 1),
    "residuals": ("float32", 1),
    "segments": ("int64", 1),
    "modalities": ("uint8", 1),
    "moments": ("int64", 1),
    "rows": ("uint64", 1),
    "ordered": ("uint8", 1),
    "names": ("uint8", 1),
}
"""The arrays of a part: type, and numbers in a row.

codes [n, 128], scales [n], residuals [n]: what :func:`clamr_cli.kernel.quantize` gives. segments [s + 1]: where the
vectors of one moment and modality begin. modalities [s]. moments [m + 1]: where the segments of a moment begin. rows
[m]: its address in the table. ordered [m]: 1 where the table has its vectors in the order of the part. names: the ids
of the moments in UTF-8, with a zero byte between them.
"""


_LARGE: Final = ("codes", "scales", "residuals")
"""The arrays with a row for each vector."""


class Damaged(Exception):
    """A sidecar is not what was written."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A fragment of the vectors table as a part has it: its number, what names its content, and what was deleted then.

    ``files`` and ``rows`` tell fragments of one number apart; ``deleted`` are offsets that the part lacks.
    """

    number: int
    files: tuple[str, ...]
    rows: int
    deleted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PartInfo:
    """What the manifest says of a part.

    ``sections`` has the first byte and the number of rows of each array, ``blocks`` the checksum (XXH3, 64 bits) of
    each :data:`BLOCK` bytes of the file. ``reach`` is the largest that :func:`clamr_cli.kernel.quantize` gave.
    """

    name: str
    size: int
    sections: dict[str, tuple[int, int]]
    blocks: tuple[str, ...]
    fragments: tuple[Fragment, ...]
    reach: float

    @property
    def vectors(self) -> int:
        """How many vectors the part has."""
        return self.sections["codes"][1]


def layout(counts: Mapping[str, int], first: int = 0) -> tuple[dict[str, tuple[int, int]], int]:
    """Places of arrays with so many rows, from byte ``first`` on, and where the last ends."""
    places: dict[str, tuple[int, int]] = {}
    end = first
    for name, count in counts.items():
        kind, width = SECTIONS[name]
        start = -(-end // ALIGNMENT) * ALIGNMENT
        places[name] = (start, count)
        end = start + count * width * np.dtype(kind).itemsize
    return places, end


def checksums(content: NDArray[np.uint8]) -> tuple[str, ...]:
    """The checksum of each block of a file's bytes."""
    return tuple(_checksum(content[start : start + BLOCK]) for start in range(0, len(content), BLOCK))


def _checksum(block: NDArray[np.uint8]) -> str:
    return xxhash.xxh3_64_hexdigest(block.data)


class Part:
    """A mapped part. Its arrays may be used after :meth:`verify`, and stay good for as long as something holds them."""

    def __init__(self, folder: Path, info: PartInfo) -> None:
        """Map the file.

        Raises:
            Damaged: it is absent, cannot be read, or has another size.
        """
        self.info = info
        self._path = folder / info.name
        self._checked = np.zeros(len(info.blocks), np.bool_)
        self._seen: tuple[int, ...] = ()
        self._videos: tuple[list[str], NDArray[np.int64]] | None = None
        self.check_file()
        try:
            self._bytes = np.memmap(self._path, np.uint8, "r", shape=(info.size,))
        except (OSError, ValueError) as error:
            raise Damaged(f"{self._path}: {error}") from error
        small = min(start for name, (start, _) in info.sections.items() if name not in _LARGE)
        self.verify(small, info.size)
        # Small arrays are copied: nothing that happens to the file can change them after they were checked.
        self._arrays = {name: self._array(name) if name in _LARGE else self._array(name).copy() for name in SECTIONS}
        self._check_borders()
        self.moment_ids: list[str] = self["names"].tobytes().decode().split("\0") if len(self["rows"]) else []
        if len(self.moment_ids) != len(self["rows"]):
            raise Damaged(f"{self._path}: it names {len(self.moment_ids)} moments and has {len(self['rows'])}")

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of that name in :data:`SECTIONS`, read-only."""
        return self._arrays[name]

    def videos(self) -> tuple[list[str], NDArray[np.int64]]:
        """The videos of the part in order, and how many of its moments each has."""
        if self._videos is None:
            owners = [moment_id.partition("#")[0] for moment_id in self.moment_ids]
            runs = [(video_id, sum(1 for _ in run)) for video_id, run in groupby(owners)]
            self._videos = [video_id for video_id, _ in runs], np.array([count for _, count in runs], np.int64)
        return self._videos

    def described(self, info: PartInfo) -> Part:
        """The same mapping under what a newer manifest says of it, or a new one where that is another file."""
        if (info.size, info.blocks, info.sections) != (self.info.size, self.info.blocks, self.info.sections):
            return Part(self._path.parent, info)
        self.info = info
        return self

    def check_file(self) -> None:
        """Whether the file is still the one whose blocks were checked; if not, they are to be checked again.

        Raises:
            Damaged: it is absent or has another size.
        """
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise Damaged(f"{self._path}: {error}") from error
        if status.st_size != self.info.size:
            raise Damaged(f"{self._path}: {status.st_size} bytes, not {self.info.size}")
        seen = (status.st_ino, status.st_dev, status.st_mtime_ns, status.st_ctime_ns)
        if seen != self._seen:
            self._checked[:] = False
            self._seen = seen

    def verify_vectors(self, ranges: NDArray[np.int64]) -> None:
        """Check the blocks that hold the vectors of ranges [r, 2], those that were not checked before.

        Raises:
            Damaged: a block is not what was written.
        """
        if self._checked.all():
            return
        ranges = ranges[ranges[:, 1] > ranges[:, 0]]
        wanted = np.zeros(len(self._checked) + 1, np.int64)
        for name in _LARGE:
            kind, width = SECTIONS[name]
            start, size = self.info.sections[name][0], np.dtype(kind).itemsize * width
            np.add.at(wanted, (start + ranges[:, 0] * size) // BLOCK, 1)
            np.add.at(wanted, (start + ranges[:, 1] * size - 1) // BLOCK + 1, -1)
        self._verify_blocks(np.flatnonzero((np.cumsum(wanted[:-1]) > 0) & ~self._checked))

    def verify(self, first: int, last: int) -> None:
        """Check the blocks that hold the bytes ``first:last``, those that were not checked before.

        Raises:
            Damaged: a block is not what was written.
        """
        blocks = slice(first // BLOCK, -(-last // BLOCK))
        self._verify_blocks(np.flatnonzero(~self._checked[blocks]) + blocks.start)

    def _verify_blocks(self, numbers: NDArray[np.int64]) -> None:
        for number in numbers.tolist():
            content = self._bytes[number * BLOCK : (number + 1) * BLOCK]
            if _checksum(content) != self.info.blocks[number]:
                raise Damaged(f"{self._path}: block {number} is not what was written")
            self._checked[number] = True

    def _array(self, name: str) -> NDArray[Any]:
        kind, width = SECTIONS[name]
        start, count = self.info.sections[name]
        end = start + count * width * np.dtype(kind).itemsize
        if not 0 <= start <= end <= self.info.size:
            raise Damaged(f"{self._path}: {name} lies outside of the file")
        array = np.asarray(self._bytes[start:end]).view(kind)
        return array.reshape(count, width) if width > 1 else array

    def _check_borders(self) -> None:
        segments, moments = self["segments"], self["moments"]
        fits = (
            len(segments) == len(self["modalities"]) + 1
            and len(moments) == len(self["rows"]) + 1 == len(self["ordered"]) + 1
            and _ascends(segments, self.info.vectors)
            and _ascends(moments, len(segments) - 1)
            and len(self["codes"]) == len(self["scales"]) == len(self["residuals"])
        )
        if not fits:
            raise Damaged(f"{self._path}: its arrays do not fit together")


def _ascends(borders: NDArray[np.int64], last: int) -> bool:
    return bool(len(borders) and borders[0] == 0 and borders[-1] == last and (np.diff(borders) >= 0).all())
