"""Vectors and queries as small integers, with what that loses.

A vector ``v`` becomes ``scale * code`` with 128 integers in -127..127, and its residual is ``|v - scale * code|``,
rounded up. A query token ``q`` becomes ``step * code`` in the same way, with codes in -127..127 (one plane of int8) or
in -16319..16319 (two planes: ``128 * high + low``).

Why bounds hold. With ``q = step * c + f`` and ``v = scale * d + e``::

    q.v = (step * c).(scale * d) + q.e + f.(scale * d)
    |q.v - step * scale * (c.d)| <= |q| * |e| + |f| * |scale * d|           (Cauchy-Schwarz, twice)

``|e|`` is the vector's residual, ``|scale * d|`` at most ``max_norm``, and ``c.d`` is an integer below 2**31, computed
without error. What floating point adds, with ``u = 2**-24``, ``|v| <= |scale * d| + |e| <= max_norm`` and to first
order:

- a float32 sum of 128 products, in any order, with or without fused operations, is off by at most
  ``128 u * |q| * |v|``, which covers the exact side;
- the approximate side rounds six times (the integer, its product with the scale, the product of residual and weight,
  their sum, the product with the step, the sum with the offset), each at most ``u`` times
  ``(|q| + |f|) * max_norm``, and ``u`` times the offset.

Together below ``140 u``; :data:`SLACK` is ``256 u``. ``TINY`` covers products that leave the normal range of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from clamr_cli.types import FloatArray

    Float32 = NDArray[np.float32]
    Float64 = NDArray[np.float64]

BEYOND: Final = 1e15
"""Larger numbers than this are not parts of a vector; below it no product leaves the range of float32."""

LARGEST: Final = {1: 127, 2: 127 * 128 + 63}
"""The largest code of a query by its number of planes."""

SLACK: Final = 2.0**-16
TINY: Final = float(np.finfo(np.float32).tiny)

_ROWS: Final = 1 << 13
# Steps below this would leave the normal range of float32; such vectors are all residual.
_SMALLEST: Final = 1e-30
# float64 arithmetic on 128 numbers is off by less than this.
_ABOVE: Final = 1.0 + 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """Vectors as int8 with what that lost.

    Attributes:
        codes: [n, 128] int8.
        scales: [n] float32, at least 0.
        residuals: [n] float32, ``|v - scale * code|`` rounded up.
        max_norm: at least every ``|scale * code| + residual``, so at least every vector's length; of several parts, the
            largest. 0.0 where there are no vectors.
    """

    codes: NDArray[np.int8]
    scales: Float32
    residuals: Float32
    max_norm: float


def round_up(values: Float64) -> Float32:
    """The next float32 at or above each value that float64 arithmetic on 128 numbers gave."""
    above = values * _ABOVE
    nearest: Float32 = above.astype(np.float32)
    return np.where(nearest < above, np.nextafter(nearest, np.float32(np.inf)), nearest)


def _norms(rows: Float64) -> Float64:
    norms: Float64 = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms


def _coded(rows: Float64, largest: int) -> tuple[Float64, Float32]:
    """Integer codes of each row, and the step between them."""
    steps: Float32 = (np.abs(rows).max(axis=1, initial=0.0) / largest).astype(np.float32)
    small = steps < _SMALLEST
    divisors = np.where(small, np.inf, steps).astype(np.float64)
    codes = np.clip(np.rint(rows / divisors[:, None]), -largest, largest)
    return codes, np.where(small, np.float32(0.0), steps)


def lengths_above(rows: Float32) -> Float32:
    """The length of each row, rounded up."""
    return round_up(_norms(rows.astype(np.float64)))


def quantize(vectors: FloatArray) -> Quantized:
    """Vectors as int8, some thousands at a time.

    Args:
        vectors: [n, 128] float16 or float32, finite and within ``BEYOND``.

    Raises:
        TypeError: another dtype.
        ValueError: another shape, or a vector with such numbers; the message names its row.
    """
    if vectors.dtype not in (np.float16, np.float32):
        raise TypeError(f"vectors must be float16 or float32, not {vectors.dtype}")
    if vectors.ndim != 2 or vectors.shape[1] != DIMENSION:
        raise ValueError(f"vectors must have the shape [any, {DIMENSION}], not {list(vectors.shape)}")
    count = len(vectors)
    codes, scales = np.empty((count, DIMENSION), np.int8), np.empty(count, np.float32)
    residuals, max_norm = np.empty(count, np.float32), 0.0
    for start in range(0, count, _ROWS):
        part = slice(start, min(start + _ROWS, count))
        rows = vectors[part].astype(np.float64)
        if not (fine := (np.abs(rows) <= BEYOND).all(axis=1)).all():
            row = start + int(np.flatnonzero(~fine)[0])
            raise ValueError(f"vector {row} has NaN, infinite numbers or numbers beyond {BEYOND:g}")
        whole, scales[part] = _coded(rows, LARGEST[1])
        codes[part] = whole
        restored = whole * scales[part, None].astype(np.float64)
        residuals[part] = round_up(_norms(rows - restored))
        max_norm = max(max_norm, float((_norms(restored) * _ABOVE + residuals[part]).max()))
    return Quantized(codes, scales, residuals, max_norm * _ABOVE)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A query as integers.

    Attributes:
        codes: [q, 128] int16, at most ``LARGEST[planes]`` in size.
        steps: [q] float32, at least 0; token ``i`` is about ``steps[i] * codes[i]``.
        weights: [q] float32: what a vector's residual counts, in steps.
        offsets: [q] float32 added at the end.
        planes: 1 or 2.
    """

    codes: NDArray[np.int16]
    steps: Float32
    weights: Float32
    offsets: Float32
    planes: int


def bound_tokens(query: Float32, planes: int, max_norm: float, side: int) -> Tokens:
    """A query for bounds of its similarities: ``side`` 1 for upper, -1 for lower ones."""
    if planes not in LARGEST:
        raise ValueError(f"query_planes must be 1 or 2, not {planes}")
    rows = query.astype(np.float64)
    codes, steps = _coded(rows, LARGEST[planes])
    # A token without codes is all residual; any step will do.
    steps = np.where(steps > 0, steps, np.float32(1.0))
    lengths = _norms(rows)
    lost = _norms(rows - codes * steps[:, None].astype(np.float64)) * _ABOVE
    weights = round_up(lengths / steps)
    offsets = round_up(max_norm * (lost + SLACK * (lengths + lost)) + TINY)
    return Tokens(codes.astype(np.int16), steps, weights * np.float32(side), offsets * np.float32(side), planes)
