"""The kernel's results in numpy: what serves where the library is absent, and what the library is tested against.

Sums of products of codes stay below 2**24 within a plane, so float32 matrix products of them are exact in any order,
and scans give the same bits here as in C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from clamr_cli.kernel.codes import Tokens

    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]
    # Rows of the vectors to their similarities [q, rows].
    Similar = Callable[["Rows"], Float32]

Rows = slice | Any
CHUNK_VECTORS: Final = 1 << 15


def scan(tokens: Tokens, codes: NDArray[np.int8], scales: Float32, residuals: Float32 | None, ranges: Int64) -> Float32:
    """Maxima of approximate similarities or of bounds, [s, q]; see the package for the arguments."""
    high = (tokens.codes + 64) >> 7 if tokens.planes == 2 else tokens.codes
    low = tokens.codes - (high << 7)
    planes = [plane.astype(np.float32) for plane in ((high, low) if tokens.planes == 2 else (high,))]

    def similar(rows: Rows) -> Float32:
        part = codes[rows].astype(np.float32).T
        products = [plane @ part for plane in planes]
        # Each product is exact; the sum of two planes is so in float64, and rounds once.
        whole = products[0] if len(products) == 1 else _joined(*products)
        values: Float32 = whole * scales[rows]
        if tokens.weights is not None and residuals is not None:
            values += residuals[rows] * tokens.weights[:, None]
        return values

    maxima = _segment_maxima(similar, ranges, len(tokens.codes))
    # Minus infinity times a step of zero; the line after next puts that right.
    with np.errstate(invalid="ignore"):
        maxima *= tokens.steps
    maxima += tokens.offsets
    maxima[ranges[:, 0] == ranges[:, 1]] = -np.inf
    return maxima


def _joined(high: Float32, low: Float32) -> Float32:
    return (high.astype(np.float64) * 128 + low).astype(np.float32)


def exact(query: Float32, vectors: NDArray[np.float16], ranges: Int64) -> Float32:
    """Maxima of float32 similarities, [s, q]."""
    return _segment_maxima(lambda rows: query @ vectors[rows].astype(np.float32).T, ranges, len(query))


def _segment_maxima(similar: Similar, ranges: Int64, width: int) -> Float32:
    result = np.full((len(ranges), width), -np.inf, np.float32)
    for owners, starts, lengths in _batches(ranges):
        offsets = np.cumsum(lengths) - lengths
        maxima = np.maximum.reduceat(similar(_rows(starts, lengths, offsets)), offsets, axis=1)
        # A long segment comes in several pieces, each in a batch of its own or at a batch's border.
        np.maximum.at(result, owners, maxima.T)
    return result


def _batches(ranges: Int64) -> Iterator[tuple[Int64, Int64, Int64]]:
    """Owner, start and length of non-empty pieces of segments, about a chunk of vectors at a time."""
    lengths = ranges[:, 1] - ranges[:, 0]
    pieces = -(-lengths // CHUNK_VECTORS)
    owners = np.repeat(np.arange(len(ranges)), pieces)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = ranges[owners, 0] + within * CHUNK_VECTORS
    sizes = np.minimum(CHUNK_VECTORS, ranges[owners, 1] - starts)
    ends = np.cumsum(sizes)
    first = 0
    while first < len(owners):
        done = int(ends[first] - sizes[first])
        last = max(int(np.searchsorted(ends, done + CHUNK_VECTORS, side="right")), first + 1)
        yield owners[first:last], starts[first:last], sizes[first:last]
        first = last


def _rows(starts: Int64, lengths: Int64, offsets: Int64) -> Rows:
    """The rows of some pieces: a slice where they stand one after another, else their numbers."""
    if np.array_equal(starts[1:], starts[:-1] + lengths[:-1]):
        return slice(int(starts[0]), int(starts[-1] + lengths[-1]))
    return np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))
