"""One file of the scan cache: the vectors of some fragments of the table, one byte a number, mapped into memory.

A file is a folder of arrays in numpy's own formats. It gets its name when it is whole, and is never changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from clamr_cli import kernel
from clamr_cli.files import TEMPORARY_PREFIX, sync_file, sync_folder
from clamr_cli.store.vectors import PackedVectors
from clamr_cli.types import DIMENSION

SUFFIX: Final = ".scan"

FORMAT: Final = 2
"""Goes up by one with every change of what the files hold: others are passed over, and built anew."""

BLOCK: Final = 1 << 15
"""Vectors with a checksum of their own: 4.25 MiB."""


class CorruptCache(Exception):
    """A file of the scan cache is not what was written."""


class Fragment(msgspec.Struct, frozen=True):
    """A fragment of the vectors table for which a file stands.

    ``data`` and ``rows`` (its data files, and how many rows they have) tell fragments of one number apart; ``deleted``
    are the offsets of rows that the file lacks because they were deleted before it was written.
    """

    number: int
    data: tuple[str, ...]
    rows: int
    deleted: tuple[int, ...] = ()


class _Header(msgspec.Struct, frozen=True):
    format: int
    fingerprint: str
    fragments: tuple[Fragment, ...]
    max_norm: float
    moment_ids: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class ScanFile:
    """Vectors of some moments as codes with their scales and residuals, see :func:`clamr_cli.kernel.quantize`.

    Moments are in the order of their video and number, and a moment's vectors in the order of their modality: so a
    moment, a video and what is left of them by a filter are runs of the file.

    Attributes:
        name: never used twice.
        fragments: of the table, for which the file stood when it was written.
        max_norm: at least the length of every vector.
        codes: [n, 128] int8, mapped.
        scales: [n] float32, mapped.
        residuals: [n] float32, mapped.
        segments: [s + 1] int64 borders of runs of vectors of one moment and one modality.
        modalities: [s] uint8 of each segment.
        moments: [m + 1] int64 first segment of each moment.
        starts: [m + 1] int64 first vector of each moment.
        ordered: [m] bool, whether the table has the moment's vectors in this order too.
        rows: [m] uint64 addresses of the moments in the table.
        moment_ids: [m].
        video_ids: [v].
        videos: [v + 1] int64 first moment of each video.
        covered: numbers of the fragments for which the file stands in a snapshot.
        places: [m] int64 places of the moments among the rows of the snapshot, -1 for those that are gone.
    """

    name: str
    fragments: tuple[Fragment, ...]
    max_norm: float
    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    residuals: NDArray[np.float32]
    segments: NDArray[np.int64]
    modalities: NDArray[np.uint8]
    moments: NDArray[np.int64]
    starts: NDArray[np.int64]
    ordered: NDArray[np.bool_]
    rows: NDArray[np.uint64]
    moment_ids: list[str]
    video_ids: list[str]
    videos: NDArray[np.int64]
    covered: Set[int]
    places: NDArray[np.int64]
    _sums: NDArray[np.uint64]
    _checked: NDArray[np.bool_]

    def verify(self, ranges: NDArray[np.int64]) -> None:
        """Compare the blocks that hold ranges [r, 2] of vectors with their checksums, each once in a process.

        It costs about a tenth of the scan that follows, and reads what the scan reads anyway. A flipped bit could hide
        an answer without any later step noticing.

        Raises:
            CorruptCache: a block is not what was written.
        """
        if self._checked.all():
            return
        depth = np.zeros(len(self._checked) + 1, np.int64)
        np.add.at(depth, ranges[:, 0] // BLOCK, 1)
        np.add.at(depth, -(-ranges[:, 1] // BLOCK), -1)
        for block in np.flatnonzero((np.cumsum(depth[:-1]) > 0) & ~self._checked).tolist():
            if _checksum(block, self.codes, self.scales, self.residuals) != self._sums[block]:
                raise CorruptCache(f"block {block} of {self.name}")
            self._checked[block] = True


def read(path: Path, fingerprint: str) -> ScanFile:
    """Map a file. Its vectors may be used after :meth:`ScanFile.verify`, the rest at once.

    CorruptCache where it is absent, cut off, damaged, of another format or another encoder.
    """
    try:
        codes, scales, residuals = (
            np.asarray(np.load(path / f"{name}.npy", mmap_mode="r")) for name in ("codes", "scales", "residuals")
        )
        # The archive has a checksum of each of its members.
        with np.load(path / "moments.npz") as archive:
            small: dict[str, NDArray[Any]] = dict(archive)
        header = msgspec.json.decode(small.pop("header").tobytes(), type=_Header)
        starts, sums = small["segments"][small["moments"]], small.pop("sums")
        file = ScanFile(
            path.name,
            header.fragments,
            header.max_norm,
            codes,
            scales,
            residuals,
            starts=starts,
            moment_ids=header.moment_ids,
            video_ids=[header.moment_ids[first].partition("#")[0] for first in small["videos"][:-1]],
            covered=frozenset(),
            places=np.full(len(header.moment_ids), -1),
            _sums=sums,
            _checked=np.zeros(len(sums), np.bool_),
            **small,
        )
        arrays = [(array.dtype, array.shape) for array in (codes, scales, residuals)]
    except Exception as error:  # numpy and zipfile raise whatever a damaged file leads them to
        raise CorruptCache(f"{path.name}: {error}") from error
    count, number = int(starts[-1]), np.dtype(np.float32)
    if arrays != [(np.dtype(np.int8), (count, DIMENSION)), (number, (count,)), (number, (count,))]:
        raise CorruptCache(f"{path.name} has other arrays than it should")
    if (header.format, header.fingerprint) != (FORMAT, fingerprint):
        raise CorruptCache(f"{path.name} is of another format or encoder")
    return file


def write(
    path: Path,
    fingerprint: str,
    fragments: Iterable[Fragment],
    count: int,
    rows: NDArray[np.uint64],
    batches: Iterable[PackedVectors],
) -> Iterator[int]:
    """Write a file, a batch of vectors in memory at a time; yields how many vectors are written so far.

    It gets its name ``path`` when it is whole and on the disk. ``count`` is of all vectors, ``rows`` are the addresses
    of the moments, and ``batches`` their vectors in the order of the file.
    """
    draft = path.with_name(f"{TEMPORARY_PREFIX}{path.stem}")
    draft.mkdir()
    try:
        lengths, modalities, segments_of, ordered = [], [], [], []
        scales, residuals, moment_ids, max_norm = [], [], list[str](), 0.0
        with (draft / "codes.npy").open("wb") as out:
            shape = {"descr": "|i1", "fortran_order": False, "shape": (count, DIMENSION)}
            np.lib.format.write_array_header_1_0(out, shape)
            for batch in batches:
                owners, order = batch.order()
                ids = batch.modality_ids[order]
                first = np.flatnonzero(np.diff(owners, prepend=-1) | np.diff(ids, prepend=0))
                lengths.append(np.diff(first, append=len(ids)))
                modalities.append(ids[first])
                segments_of.append(np.bincount(owners[first], minlength=len(batch.moment_ids)))
                moved = owners[order != np.arange(len(order))]
                ordered.append(np.bincount(moved, minlength=len(batch.moment_ids)) == 0)
                packed = kernel.quantize(batch.vectors[order])
                out.write(packed.codes.data)
                scales.append(packed.scales)
                residuals.append(packed.residuals)
                max_norm = max(max_norm, packed.max_norm)
                moment_ids += batch.moment_ids
                yield sum(map(len, scales))
        if sum(map(len, scales)) != count:
            raise ValueError(f"{sum(map(len, scales))} vectors were written, not {count}")
        np.save(draft / "scales.npy", _joined(scales, np.float32))
        np.save(draft / "residuals.npy", _joined(residuals, np.float32))
        large = [np.load(draft / f"{name}.npy", mmap_mode="r") for name in ("codes", "scales", "residuals")]
        videos = [moment_id.partition("#")[0] for moment_id in moment_ids]
        firsts = [at for at in range(len(videos)) if at == 0 or videos[at] != videos[at - 1]]
        header = _Header(FORMAT, fingerprint, tuple(fragments), max_norm, moment_ids)
        np.savez(
            draft / "moments.npz",
            header=np.frombuffer(msgspec.json.encode(header), np.uint8),
            segments=np.cumsum(_joined(([0], *lengths), np.int64)),
            modalities=_joined(modalities, np.uint8),
            moments=np.cumsum(_joined(([0], *segments_of), np.int64)),
            ordered=_joined(ordered, np.bool_),
            rows=rows,
            videos=np.array([*firsts, len(moment_ids)], np.int64),
            sums=np.array([_checksum(block, *large) for block in range(-(-count // BLOCK))], np.uint64),
        )
        for part in draft.iterdir():
            sync_file(part)
        sync_folder(draft)
        draft.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _joined(arrays: Iterable[Any], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)


def _checksum(block: int, *arrays: NDArray[Any]) -> int:
    digest = xxhash.xxh3_64()
    for array in arrays:
        digest.update(np.asarray(array[block * BLOCK : (block + 1) * BLOCK]).data)
    return digest.intdigest()
