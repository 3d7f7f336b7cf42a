"""Token vectors to Arrow and back, and the check that nothing unfit is ever stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from clamr_cli.errors import StoreError
from clamr_cli.store.records import SCHEMAS, SUMS, VECTORS
from clamr_cli.store.tables import Tables
from clamr_cli.types import DIMENSION, MODALITY_OF_ID, NO_MODALITY, EncoderInfo, TokenVectors

NORM_TOLERANCE: Final = 0.01
"""A stored vector's length may be so far from 1; rounding a unit vector to float16 moves it by 0.0005 at most."""

SCORED: Final = ("moment_id", "vectors", "modality")
STORED: Final = (*SCORED, "spans", "segments", "offsets", "input_ids")

_MODALITY_IDS: Final = np.array([NO_MODALITY, *MODALITY_OF_ID], np.uint8)


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
    vectors, *more = (np.ascontiguousarray(array).tobytes() for array in arrays)
    key = f"{moment_id}\0{fingerprint}\0".encode("utf-8", "surrogatepass")
    parts = [vectors, *([key + more[0]] if more else []), *([b"".join(more[1:])] if more[1:] else [])]
    return [xxhash.xxh3_64_intdigest(part) for part in parts]


def columns(names: Sequence[str], data: Any) -> list[str]:  # noqa: ANN401
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
