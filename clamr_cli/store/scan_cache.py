"""Token vectors as they are stored, and the scan cache: a copy of them, packed for scanning, that can be built anew.

LanceDB stays the source of truth. The cache of an encoder is a folder of files; each says for which fragments of the
vectors table it stands, by the names of their data files, which are never used twice. What no file stands for is read
from the table, and what was deleted since is masked, so a search is right whatever state the cache is in.

A file is a folder of arrays in numpy's own formats, one byte a number of a vector, mapped into memory. It gets its name
when it is whole, and is never changed.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from clamr_cli.errors import StoreError
from clamr_cli.files import TEMPORARY_PREFIX, locked, sync_file, sync_folder
from clamr_cli.kernel import quantize
from clamr_cli.store.tables import SCHEMAS, SUMS, VECTORS, Tables, moment_order, one_of, store_errors
from clamr_cli.types import DIMENSION, MODALITY_OF_ID, NO_MODALITY, EncoderInfo, TokenVectors

NORM_TOLERANCE: Final = 0.01
"""A stored vector's length may be so far from 1; rounding a unit vector to float16 moves it by 0.0005 at most."""

SCORED: Final = ("moment_id", "vectors", "modality")
STORED: Final = (*SCORED, "spans", "segments", "offsets", "input_ids")

_MODALITY_IDS: Final = np.array([NO_MODALITY, *MODALITY_OF_ID], np.uint8)

SUFFIX: Final = ".scan"

FORMAT: Final = 2
"""Goes up by one with every change of what the files hold: others are passed over, and built anew."""

BLOCK: Final = 1 << 15
"""Vectors with a checksum of their own: 4.25 MiB."""

_OFFSET_BITS: Final = 32
"""A row's address is the number of its fragment, then in this many bits its offset there."""

LOCK_NAME: Final = "lock"

# 16 MiB of float16 in memory at a time, three times that while they are packed.
VECTORS_AT_ONCE: Final = 1 << 16

# Files smaller than this, as against what is written anyway, are written again with it: so there are few of them.
JOINED_SHARE: Final = 0.5

# Files with more of them deleted are written again.
DEAD_SHARE: Final = 0.3


# --- vectors as rows of their table, with checksums -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class PackedVectors:
    """The vectors of several moments, one after another.

    Attributes:
        moment_ids: [d].
        indptr: [d + 1] int64; moment ``i`` has the rows ``indptr[i]:indptr[i + 1]``.
        vectors: [n, 128] float16.
        modality_ids: [n] uint8.
        checksummed: [d] whether checksums say that the moment is as it was stored; rows of an older clamr have none.
    """

    moment_ids: list[str]
    indptr: NDArray[np.int64]
    vectors: NDArray[np.float16]
    modality_ids: NDArray[np.uint8]
    checksummed: NDArray[np.bool_]

    def order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The vectors in the order of their moment, then modality; those of one modality stay in their order.

        Returns:
            [n] the moment of each vector, and [n] where it is here.
        """
        owners = np.repeat(np.arange(len(self.moment_ids)), np.diff(self.indptr))
        return owners, np.lexsort((self.modality_ids, owners))

    def some(self, numbers: Sequence[int]) -> PackedVectors:
        """Only the moments of these numbers."""
        lengths = np.diff(self.indptr)
        chosen = np.zeros(len(self.moment_ids), np.bool_)
        chosen[list(numbers)] = True
        rows = np.repeat(chosen, lengths)
        indptr = np.concatenate(([0], np.cumsum(lengths[chosen]))).astype(np.int64)
        ids = [self.moment_ids[number] for number in np.flatnonzero(chosen).tolist()]
        return PackedVectors(ids, indptr, self.vectors[rows], self.modality_ids[rows], self.checksummed[chosen])

    def in_order(self) -> PackedVectors:
        """The same with each moment's vectors in the order of their modality."""
        _, order = self.order()
        return replace(self, vectors=self.vectors[order], modality_ids=self.modality_ids[order])


class DamagedRow(Exception):
    """A row of the vectors table is not what was stored; ``number`` is its place among those that were read."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def check(encoder: EncoderInfo, moment_id: str, item: TokenVectors) -> None:
    """Refuse vectors that would spoil searches: of the wrong shape, length or modality, or not finite.

    Raises:
        StoreError: the message names the moment and the row.
    """
    count = len(item)
    subject = f"vectors of {moment_id!r} by {encoder.name!r} cannot be stored"
    hint = "this is a defect of the encoder"
    if encoder.dimension != DIMENSION or item.vectors.shape != (count, DIMENSION):
        raise StoreError(f"{subject}: their shape is {item.vectors.shape}, not (n, {DIMENSION})", hint)
    pairs = ("spans", "offsets")
    for name in ("modality_ids", "segments", "input_ids", *pairs):
        shape, expected = getattr(item, name).shape, (count, 2) if name in pairs else (count,)
        if shape != expected:
            raise StoreError(f"{subject}: {name} has shape {shape}, not {expected}", hint)
    norms = np.linalg.norm(item.vectors.astype(np.float32), axis=1)
    # Written so that NaN is refused too.
    if len(unfit := np.flatnonzero(~(np.abs(norms - 1.0) <= NORM_TOLERANCE))):
        raise StoreError(f"{subject}: row {unfit[0]} has length {norms[unfit[0]]:.4g}, not 1", hint)
    if len(unfit := np.flatnonzero(~np.isin(item.modality_ids, _MODALITY_IDS))):
        raise StoreError(f"{subject}: row {unfit[0]} is of modality {item.modality_ids[unfit[0]]}", hint)
    if len(unfit := np.flatnonzero(~np.isfinite(item.spans).all(axis=1))):
        raise StoreError(f"{subject}: row {unfit[0]} has no finite span", hint)


def to_rows(encoder: EncoderInfo, items: Mapping[str, TokenVectors]) -> pa.Table:
    """Checked vectors as rows of the vectors table, as float16."""
    schema = SCHEMAS[VECTORS]
    for moment_id, item in items.items():
        check(encoder, moment_id, item)
    batches = []
    for moment_id, item in items.items():
        arrays: list[NDArray[Any]] = [
            np.ascontiguousarray(item.vectors, np.float16),
            np.ascontiguousarray(item.modality_ids, np.uint8),
            np.ascontiguousarray(item.spans, np.float32),
            np.ascontiguousarray(item.segments, np.int32),
            np.ascontiguousarray(item.offsets, np.int32),
            np.ascontiguousarray(item.input_ids, np.int32),
        ]
        columns = [
            pa.array([moment_id]),
            pa.array([encoder.fingerprint]),
            pa.array([encoder.name]),
            pa.array([encoder.dimension], pa.int32()),
            pa.array([len(item)], pa.int32()),
            *map(_one_list, arrays),
            pa.array([_sums(moment_id, encoder.fingerprint, arrays)], SUMS.type),
        ]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def _one_list(values: NDArray[Any]) -> pa.Array:
    """A list column of one row with the values of [n] or [n, width]."""
    flat = pa.array(values.ravel())
    items = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), items)


def _sums(moment_id: str, fingerprint: str, arrays: Sequence[NDArray[Any]]) -> list[int]:
    """The checksums of a row: of its vectors, of what else is scored by, and of the rest, as far as it is given."""
    # The vectors are most of it: they are read where they are.
    sums = [xxhash.xxh3_64_intdigest(np.ascontiguousarray(arrays[0]).data)]
    if more := [np.ascontiguousarray(array).tobytes() for array in arrays[1:]]:
        key = f"{moment_id}\0{fingerprint}\0".encode("utf-8", "surrogatepass")
        sums.append(xxhash.xxh3_64_intdigest(key + more[0]))
    if more[1:]:
        sums.append(xxhash.xxh3_64_intdigest(b"".join(more[1:])))
    return sums


def columns_of(names: Sequence[str], data: Any) -> list[str]:  # noqa: ANN401
    """The columns to read of a version of the table: with the checksums where it has them."""
    return [*names, SUMS.name] if SUMS.name in data.schema.names else list(names)


def packed(batch: pa.RecordBatch, fingerprint: str) -> PackedVectors:
    """A batch with the columns :data:`SCORED`, of one encoder, as packed vectors.

    With the column ``vectors`` alone, moments have empty ids and vectors no modality.

    Raises:
        DamagedRow: a row is not what was stored.
    """
    indptr, arrays, checksummed = _checked(batch, fingerprint, SCORED[1:])
    if len(arrays) == 1:
        return PackedVectors([""] * batch.num_rows, indptr, arrays[0], np.zeros(indptr[-1], np.uint8), checksummed)
    return PackedVectors(batch.column("moment_id").to_pylist(), indptr, arrays[0], arrays[1], checksummed)


def unpacked(batch: pa.RecordBatch, fingerprint: str) -> Iterator[tuple[str, TokenVectors]]:
    """A batch with the columns :data:`STORED`, of one encoder, as moments and their vectors (float16, read-only views).

    Raises:
        DamagedRow: a row is not what was stored.
    """
    indptr, arrays, _ = _checked(batch, fingerprint, STORED[1:])
    for number, moment_id in enumerate(batch.column("moment_id").to_pylist()):
        rows = slice(int(indptr[number]), int(indptr[number + 1]))
        yield moment_id, TokenVectors(*(array[rows] for array in arrays))


def _checked(
    batch: pa.RecordBatch, fingerprint: str, names: Sequence[str]
) -> tuple[NDArray[np.int64], list[NDArray[Any]], NDArray[np.bool_]]:
    """Compare rows with their checksums as far as their columns were read; those without are checked for unit length.

    Returns where the lists of each row begin, the values of the columns ([n] or [n, width]), and which rows have
    checksums.
    """
    lists = [batch.column(name) for name in names if name in batch.schema.names]
    starts = [np.asarray(column.offsets.to_numpy(zero_copy_only=False), np.int64) for column in lists]
    indptr = starts[0] - starts[0][0]
    for other in starts[1:]:
        if len(unfit := np.flatnonzero(other - other[0] != indptr)):
            raise DamagedRow(max(0, int(unfit[0]) - 1))
    arrays = []
    for column in lists:
        # `flatten` heeds slices, `values` does not.
        values = column.flatten()
        width = values.type.list_size if pa.types.is_fixed_size_list(values.type) else None
        flat = values.flatten() if width else values
        array = flat.to_numpy(zero_copy_only=False)
        arrays.append(array.reshape(-1, width) if width else array)
    moment_ids = batch.column("moment_id").to_pylist() if len(arrays) > 1 else [""] * batch.num_rows
    stored = batch.column(SUMS.name).to_pylist() if SUMS.name in batch.schema.names else [None] * batch.num_rows
    for number, (moment_id, sums) in enumerate(zip(moment_ids, stored, strict=True)):
        rows = slice(int(indptr[number]), int(indptr[number + 1]))
        own = [array[rows] for array in arrays]
        if sums is None:
            norms = np.linalg.norm(own[0].astype(np.float32), axis=1)
            fits = bool((np.abs(norms - 1.0) <= NORM_TOLERANCE).all())
        else:
            current = _sums(moment_id, fingerprint, own)
            fits = current == sums[: len(current)]
        if not fits:
            raise DamagedRow(number)
    return indptr, arrays, np.array([sums is not None for sums in stored], np.bool_)


def damaged_rows(batch: pa.RecordBatch) -> list[tuple[str, str]]:
    """The moments of rows that are not what was stored, and the fingerprints of their encoders."""
    fingerprints = batch.column("fingerprint").to_pylist()
    with suppress(DamagedRow):
        if len(set(fingerprints)) == 1:
            _checked(batch, fingerprints[0], STORED[1:])
            return []
    damaged = []
    for number, fingerprint in enumerate(fingerprints):
        row = batch.slice(number, 1)
        try:
            _checked(row, fingerprint, STORED[1:])
        except DamagedRow:
            damaged.append((row.column("moment_id")[0].as_py(), fingerprint))
    return damaged


def refusal(tables: Tables, fingerprint: str, moment_id: str) -> StoreError:
    """The error for a row that is not what was stored: which video it is of, and how to make it anew."""
    names = tables.column(VECTORS, "encoder", "fingerprint", [fingerprint])
    name = f" {names[0]}" if names else ""
    return StoreError(
        f"the stored vectors of video {moment_id.partition('#')[0]} are damaged (moment {moment_id})",
        f"clamr index --encoder{name} makes them anew",
    )


# --- files of the scan cache ------------------------------------------------------------------------------------------


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
                packed = quantize(batch.vectors[order])
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


# --- an encoder's vectors at one version of the table -----------------------------------------------------------------


class Snapshot:
    """Snapshot that a search reads: one version of the table, whatever writers do meanwhile.

    Attributes:
        data: the dataset at this version.
        fragments: of the table, by number, with the offsets that are deleted now.
        files: of the scan cache, as far as they are whole and stand for any of the fragments.
    """

    def __init__(
        self,
        tables: Tables,
        folder: Path | None,
        fingerprint: str,
        mapped: Collection[ScanFile] = (),
        version: object = None,
    ) -> None:
        """Take a version of the table, the newest where None.

        ``folder`` is the encoder's scan cache, None to do without; ``mapped`` are files that need not be opened again.
        """
        self._tables, self._folder, self._fingerprint = tables, folder, fingerprint
        self._paths = _paths(folder)
        self.data: Any = tables.dataset(VECTORS)
        with store_errors("read", tables.uri, VECTORS):
            if version not in (None, self.data.version):
                self.data = self.data.checkout_version(version)
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

    def current(self, version: object = None) -> bool:
        """Whether this is that version of the table, or still the newest, and the scan cache has the same files."""
        wanted = self._tables.dataset(VECTORS).version if version is None else version
        return self._paths == _paths(self._folder) and wanted == self.version

    @property
    def version(self) -> object:
        """Version of the table, which :meth:`Store.snapshot` takes."""
        return self.data.version

    def of(self, _file: ScanFile) -> Snapshot:
        """The snapshot that a file stands for a part of: this one."""
        return self

    @property
    def uncovered_rows(self) -> int:
        """Number of rows of the table, of any encoder, that no file covers."""
        with store_errors("read", self._tables.uri, VECTORS):
            return sum(fragment.count_rows() for fragment in self._uncovered)

    def uncovered(self) -> Iterator[PackedVectors]:
        """The moments that no file stands for, a few at a time."""
        columns = columns_of(SCORED, self.data)
        where = one_of("fingerprint", [self._fingerprint])
        for batch in self._tables.batches(VECTORS, columns, where, data=self.data, fragments=self._uncovered):
            try:
                yield packed(batch, self._fingerprint)
            except DamagedRow as row:
                moment_id = batch.column("moment_id")[row.number].as_py()
                raise refusal(self._tables, self._fingerprint, moment_id) from row

    def fetch(self, places: Sequence[int], *, ids: bool = True) -> PackedVectors:
        """The stored vectors of the rows at these places, in this order.

        Args:
            places: among the rows of the snapshot.
            ids: whether moments and modalities are wanted too; empty and zero without, which is faster.

        Raises:
            StoreError: they cannot be read, or are not what was stored.
        """
        columns = columns_of(SCORED if ids else ["vectors"], self.data)
        with store_errors("read", self._tables.uri, VECTORS):
            table = self.data.take(list(places), columns=columns)
            table.validate(full=True)
        (batch,) = table.combine_chunks().to_batches()
        try:
            return packed(batch, self._fingerprint)
        except DamagedRow as row:
            raise self.refusal(places[row.number]) from row

    def refusal(self, place: int) -> StoreError:
        """The error for the row at a place, which is not what was stored."""
        with store_errors("read", self._tables.uri, VECTORS):
            (moment_id,) = self.data.take([place], columns=["moment_id"]).column("moment_id").to_pylist()
        return refusal(self._tables, self._fingerprint, moment_id)

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


# --- building ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PackResult:
    """The vectors of a scan cache, those that were written now, its bytes and its files."""

    vectors: int
    written: int
    size: int
    files: int


def update(
    tables: Tables,
    folder: Path,
    fingerprint: str,
    *,
    join: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> PackResult | None:
    """Make an encoder's scan cache stand for the newest version of the table; see :meth:`Store.pack_vectors`.

    A build that is cut off leaves nothing that is trusted. Another process that is at it is waited for with ``join``,
    else left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK_NAME, wait=join) as free:
        if not free:
            return None
        snapshot = Snapshot(tables, folder, fingerprint)
        with store_errors("read", tables.uri, VECTORS):
            rows = snapshot.data.to_table(
                columns=["moment_id", "count"], filter=one_of("fingerprint", [fingerprint]), with_row_address=True
            )
        addresses, counts = rows.column("_rowaddr").to_numpy(), rows.column("count").to_numpy()
        alive = {file.name: int(np.diff(file.starts)[file.places >= 0].sum()) for file in snapshot.files}
        files = []
        for file in sorted(snapshot.files, key=lambda file: -alive[file.name]):
            with suppress(CorruptCache):
                file.verify(np.array([[0, len(file.codes)]]))
                if file.covered and alive[file.name] >= (1 - DEAD_SHARE) * len(file.codes):
                    files.append(file)
        while True:
            covered = {number for file in files for number in file.covered}
            missing = [fragment for number, fragment in snapshot.fragments.items() if number not in covered]
            numbers = np.array([fragment.number for fragment in missing], np.uint64)
            chosen = np.flatnonzero(np.isin(fragment_of(addresses), numbers))
            written = int(counts[chosen].sum())
            # Files that are left out are written again, with what is missing.
            joined = bool(missing) and (join or (files and alive[files[-1].name] * JOINED_SHARE <= written))
            if not files or not (joined or (join and len(files) > 1)):
                break
            files.pop()
        names = {LOCK_NAME, *(file.name for file in files)}
        if missing:
            moment_ids = rows.column("moment_id").to_pylist()
            chosen = np.array(sorted(chosen.tolist(), key=lambda row: moment_order(moment_ids[row])), np.int64)
            path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
            batches = _batches(snapshot, addresses[chosen], counts[chosen])
            for done in write(path, fingerprint, missing, written, addresses[chosen], batches):
                if report is not None:
                    report(done, written)
            names.add(path.name)
        # Files that were joined, are damaged or of an older format, and what builds left that were cut off.
        for path in folder.iterdir():
            if path.name not in names:
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        size = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}/*"))
        return PackResult(sum(len(file.codes) for file in files) + written, written, size, len(names) - 1)


def _batches(snapshot: Snapshot, addresses: NDArray[np.uint64], counts: NDArray[np.int32]) -> Iterator[PackedVectors]:
    """Stored vectors of moments, about :data:`VECTORS_AT_ONCE` at a time, one moment at least."""
    places = snapshot.find(addresses)
    chunks = np.cumsum(counts, dtype=np.int64) // VECTORS_AT_ONCE
    for some in np.split(places, np.flatnonzero(np.diff(chunks)) + 1):
        if len(some):
            yield snapshot.fetch(some.tolist())
