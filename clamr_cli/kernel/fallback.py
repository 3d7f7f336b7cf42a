"""The kernel's passes in numpy, for machines without the compiled library.

The query stays float32 here, so a bound is ``(scale * code).q + residual * |q|`` and room for rounding: one matrix
product of rows [scale * code, residual] with columns [q, |q|]. With ``u = 2**-24`` and to first order, its sum of 129
products is off by at most ``129 u * |q| * max_norm``, in whatever order; the exact side by ``128 u * |q| * |v|``; the
products with the scale, the length and the last sum by ``3 u * |q| * max_norm``. Both ``|scale * code| + residual`` and
``|v|`` are at most ``max_norm``, so :data:`SLACK` of ``512 u`` is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.kernel.codes import TINY, lengths_above
from clamr_cli.kernel.parallel import Float32, Int64, Work, batches
from clamr_cli.types import DIMENSION

SLACK: Final = 2.0**-15
_VECTORS_AT_ONCE: Final = 1 << 12
"""Vectors multiplied at once: as float32 they stay in a second-level cache."""


def bound(
    query: Float32, codes: NDArray[np.int8], scales: Float32, residuals: Float32, max_norm: float, side: int
) -> Work:
    """Work that fills bounds; see the package for the arguments."""
    lengths = lengths_above(query)
    columns = np.concatenate([query, side * lengths[:, None]], axis=1).T

    def similarities(rows: Any) -> Float32:  # noqa: ANN401 -- a slice or an index array
        part = codes[rows]
        block = np.empty((len(part), DIMENSION + 1), np.float32)
        np.multiply(part, scales[rows, None], out=block[:, :DIMENSION])
        block[:, DIMENSION] = residuals[rows]
        product: Float32 = block @ columns
        return product

    def work(ranges: Int64, maxima: Float32) -> None:
        _fill(similarities, ranges, maxima)
        maxima += np.float32(side) * (np.float32(SLACK * max_norm) * lengths + np.float32(TINY))

    return work


def exact(query: Float32, vectors: NDArray[np.float16]) -> Work:
    """Work that fills exact maxima."""

    def work(ranges: Int64, maxima: Float32) -> None:
        _fill(lambda rows: vectors[rows].astype(np.float32) @ query.T, ranges, maxima)

    return work


def _fill(similarities: Callable[[Any], Float32], ranges: Int64, maxima: Float32) -> None:
    """The maxima [r, q] of similarities [rows, q] within ranges; minus infinity for an empty range."""
    maxima[:] = -np.inf
    counts = ranges[:, 1] - ranges[:, 0]
    filled = np.flatnonzero(counts)
    for some in batches(counts[filled], _VECTORS_AT_ONCE):
        numbers = filled[some]
        starts, lengths = ranges[numbers, 0], counts[numbers]
        offsets = np.cumsum(lengths) - lengths
        rows: Any = slice(int(starts[0]), int(starts[-1] + lengths[-1]))
        if not np.array_equal(starts, starts[0] + offsets):
            rows = np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))
        maxima[numbers] = np.maximum.reduceat(similarities(rows), offsets, axis=0)
