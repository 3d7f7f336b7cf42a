"""Token vectors to Arrow and back, and the check that nothing unfit is ever stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import xxhash

from clamr_cli.errors import StoreError
from clamr_cli.store.schema import SCHEMAS, SUMS, VECTORS
from clamr_cli.store.tables import one_of
from clamr_cli.types import DIMENSION, MODALITY_OF_ID, NO_MODALITY, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from clamr_cli.store.tables import Tables
    from clamr_cli.types import EncoderInfo

NORM_TOLERANCE: Final = 0.01
"""How far from 1 a stored vector's length may be; rounding a unit vector to float16 moves it by 0.0005 at most."""

SCORED: Final = ("moment_id", "vectors", "modality")
STORED: Final = (*SCORED, "spans", "segments", "offsets", "input_ids")
SUMMED: Final = SUMS.name

_KNOWN_IDS: Final = np.array([NO_MODALITY, *MODALITY_OF_ID], np.uint8)


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
        """The moments in the order of their modalities: [n] the moment of each vector, and [n] where it is here.

        Vectors of one modality stay in their order.
        """
        owners = np.repeat(np.arange(len(self.moment_ids)), np.diff(self.indptr))
        return owners, np.lexsort((self.modality_ids, owners))

    def in_order(self) -> PackedVectors:
        """The same with each moment's vectors in the order of their modality."""
        _, order = self.order()
        return replace(self, vectors=self.vectors[order], modality_ids=self.modality_ids[order])


def check(encoder: EncoderInfo, moment_id: str, item: TokenVectors) -> None:
    """Refuse vectors that would spoil searches.

    Raises:
        StoreError: the width is wrong, the arrays differ in length, or a row is not finite, not of unit length or of an
            unknown modality; the message names the moment and the row.
    """
    count = len(item)
    place = f"vectors of {moment_id!r} by {encoder.name!r} cannot be stored"
    hint = "this is a defect of the encoder"
    if encoder.dimension != DIMENSION or item.vectors.shape != (count, DIMENSION):
        raise StoreError(f"{place}: their shape is {item.vectors.shape}, not (n, {DIMENSION})", hint)
    widths = {"modality_ids": None, "spans": 2, "segments": None, "offsets": 2, "input_ids": None}
    for name, width in widths.items():
        shape = (count,) if width is None else (count, width)
        if getattr(item, name).shape != shape:
            raise StoreError(f"{place}: {name} has shape {getattr(item, name).shape}, not {shape}", hint)
    norms = np.linalg.norm(item.vectors.astype(np.float32), axis=1)
    # Written so that NaN is refused too.
    unfit = np.flatnonzero(~(np.abs(norms - 1.0) <= NORM_TOLERANCE))
    if unfit.size:
        raise StoreError(f"{place}: row {unfit[0]} has length {norms[unfit[0]]:.4g}, not 1", hint)
    unknown = np.flatnonzero(~np.isin(item.modality_ids, _KNOWN_IDS))
    if unknown.size:
        raise StoreError(f"{place}: row {unknown[0]} is of modality {item.modality_ids[unknown[0]]}", hint)
    timeless = np.flatnonzero(~np.isfinite(item.spans).all(axis=1))
    if timeless.size:
        raise StoreError(f"{place}: row {timeless[0]} has no finite span", hint)


def to_rows(encoder: EncoderInfo, items: Mapping[str, TokenVectors]) -> pa.Table:
    """Checked vectors as rows of the vectors table."""
    schema = SCHEMAS[VECTORS]
    for moment_id, item in items.items():
        check(encoder, moment_id, item)
    batches = [_row(schema, encoder, moment_id, item) for moment_id, item in items.items()]
    return pa.Table.from_batches(batches, schema=schema)


def _row(schema: pa.Schema, encoder: EncoderInfo, moment_id: str, item: TokenVectors) -> pa.RecordBatch:
    def one_list(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)

    def one_list_of(values: NDArray[Any], kind: type[np.generic], width: int) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(values, dtype=kind).ravel())
        return one_list(pa.FixedSizeListArray.from_arrays(flat, width))

    columns = [
        pa.array([moment_id]),
        pa.array([encoder.fingerprint]),
        pa.array([encoder.name]),
        pa.array([encoder.dimension], pa.int32()),
        pa.array([len(item)], pa.int32()),
        one_list_of(item.vectors, np.float16, DIMENSION),
        one_list(pa.array(item.modality_ids.astype(np.uint8, copy=False))),
        one_list_of(item.spans, np.float32, 2),
        one_list(pa.array(item.segments.astype(np.int32, copy=False))),
        one_list_of(item.offsets, np.int32, 2),
        one_list(pa.array(item.input_ids.astype(np.int32, copy=False))),
    ]
    sums = _sums(moment_id, encoder.fingerprint, [_flat(column) for column in columns[5:]])
    columns.append(pa.array([sums], SUMS.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _flat(column: pa.Array) -> NDArray[Any]:
    """All values of a list column, one after another: [n] or [n, width]."""
    # `flatten` heeds slices, `values` does not.
    values = column.flatten()
    if not pa.types.is_fixed_size_list(values.type):
        array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return array
    wide: NDArray[Any] = values.flatten().to_numpy(zero_copy_only=False)
    return wide.reshape(-1, values.type.list_size)


def _indptr(column: pa.Array) -> NDArray[np.int64]:
    offsets = np.asarray(column.offsets.to_numpy(zero_copy_only=False), dtype=np.int64)
    return offsets - int(offsets[0])


class DamagedRow(Exception):
    """A row of the vectors table is not what was stored; ``number`` is its place among those that were read."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _sums(moment_id: str, fingerprint: str, arrays: Sequence[NDArray[Any]]) -> list[int]:
    """The checksums of a row: of its vectors, of what else is scored by, and of the rest.

    Args:
        moment_id: of the row.
        fingerprint: of the row.
        arrays: of the columns of :data:`STORED` behind the moment, or the first of them.
    """
    vectors, *more = (np.ascontiguousarray(array).tobytes() for array in arrays)
    key = f"{moment_id}\0{fingerprint}\0".encode("utf-8", "surrogatepass")
    parts = [vectors, *([key + more[0]] if more else []), *([b"".join(more[1:])] if more[1:] else [])]
    return [xxhash.xxh3_64_intdigest(part) for part in parts]


def _checked(
    batch: pa.RecordBatch, fingerprint: str, indptr: NDArray[np.int64], arrays: Sequence[NDArray[Any]]
) -> NDArray[np.bool_]:
    """Compare rows with their checksums as far as their columns were read; those without are checked for unit length.

    Returns:
        Which rows have checksums.

    Raises:
        DamagedRow: the first that is not what was stored.
    """
    moments = batch.column("moment_id").to_pylist() if len(arrays) > 1 else [""] * batch.num_rows
    stored = batch.column(SUMMED).to_pylist() if SUMMED in batch.schema.names else [None] * batch.num_rows
    for number, (moment_id, sums) in enumerate(zip(moments, stored, strict=True)):
        rows = slice(int(indptr[number]), int(indptr[number + 1]))
        some = [array[rows] for array in arrays]
        if sums is None:
            norms = np.linalg.norm(some[0].astype(np.float32), axis=1)
            fits = bool((np.abs(norms - 1.0) <= NORM_TOLERANCE).all())
        else:
            found = _sums(moment_id, fingerprint, some)
            fits = found == sums[: len(found)]
        if not fits:
            raise DamagedRow(number)
    return np.array([sums is not None for sums in stored], np.bool_)


def _fitting(columns: Sequence[pa.Array], indptr: NDArray[np.int64]) -> list[NDArray[Any]]:
    """The values of list columns whose lists are as long as those of the first.

    Raises:
        DamagedRow: the first row whose are not.
    """
    for column in columns[1:]:
        if len(unfit := np.flatnonzero(_indptr(column) != indptr)):
            raise DamagedRow(max(0, int(unfit[0]) - 1))
    return [_flat(column) for column in columns]


def packed(batch: pa.RecordBatch, fingerprint: str) -> PackedVectors:
    """A batch with the columns :data:`SCORED`, of one encoder, as packed vectors.

    With the column ``vectors`` alone, moments have empty ids and vectors no modality.

    Raises:
        DamagedRow: a row is not what was stored.
    """
    indptr = _indptr(batch.column("vectors"))
    arrays = _fitting([batch.column(name) for name in SCORED[1:] if name in batch.schema.names], indptr)
    checksummed = _checked(batch, fingerprint, indptr, arrays)
    if len(arrays) == 1:
        return PackedVectors([""] * batch.num_rows, indptr, arrays[0], np.zeros(indptr[-1], np.uint8), checksummed)
    return PackedVectors(batch.column("moment_id").to_pylist(), indptr, arrays[0], arrays[1], checksummed)


def unpacked(batch: pa.RecordBatch, fingerprint: str) -> Iterator[tuple[str, TokenVectors]]:
    """A batch with the columns :data:`STORED`, of one encoder, as moments and their vectors (float16, read-only views).

    Raises:
        DamagedRow: a row is not what was stored.
    """
    indptr = _indptr(batch.column("vectors"))
    arrays = _fitting([batch.column(name) for name in STORED[1:]], indptr)
    _checked(batch, fingerprint, indptr, arrays)
    for number, moment_id in enumerate(batch.column("moment_id").to_pylist()):
        rows = slice(int(indptr[number]), int(indptr[number + 1]))
        yield moment_id, TokenVectors(*(array[rows] for array in arrays))


def columns(names: Sequence[str], data: Any) -> list[str]:  # noqa: ANN401
    """The columns to read of a version of the table: with the checksums where it has them."""
    return [*names, SUMMED] if SUMMED in data.schema.names else list(names)


def refusal(tables: Tables, fingerprint: str, moment_id: str) -> StoreError:
    """The error for a row that is not what was stored: which video it is of, and how to make it anew."""
    names = tables.read(VECTORS, ["encoder"], one_of("fingerprint", [fingerprint])).column("encoder").unique()
    name = f" {names[0].as_py()}" if len(names) else ""
    return StoreError(
        f"the stored vectors of video {moment_id.partition('#')[0]} are damaged (moment {moment_id})",
        f"clamr index --encoder{name} makes them anew",
    )
