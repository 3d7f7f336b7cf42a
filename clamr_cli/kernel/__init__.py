"""The inner loop of an exact search: maxima of a query's similarities in ranges of many vectors, in C or numpy.

Two passes are offered: bounds from int8 codes (:func:`bound`), which reads 132 bytes a vector, and the float16 vectors
themselves (:func:`exact`). Bounds are proven to contain what :func:`exact` gives, rounding included.

Shapes: ``q`` query tokens, ``n`` vectors, ``r`` ranges. ``ranges`` is [r, 2] int64, starts and ends in any order,
overlapping or not, so a part of all vectors is searched without copying it. Results are [r, q] float32, minus infinity
for an empty range. Arrays must be C-contiguous and of the dtypes named, else TypeError or ValueError; they may be
memory-mapped.

``threads`` is how many to use, 0 for as many as this process may run on. ``backend`` is one of :func:`backends`, None
for the first. All backends in C give the same bounds; :func:`exact` differs by the order of its sums, at most
``128 * 2**-24 * |query token| * |vector|``.

Codes. A vector ``v`` becomes ``scale * code`` with 128 integers in -127..127, and its residual is
``|v - scale * code|``, rounded up. A query token ``q`` becomes ``step * code`` in the same way, with codes in -127..127
(one plane of int8) or in -16319..16319 (two planes: ``128 * high + low``).

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

Together below ``140 u``; the offset of a token has room for ``256 u``. ``TINY`` covers products that leave the normal
range of float32.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clamr_cli.types import DIMENSION

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Work = Callable[[Int64, Float32], None]
"""Fills the maxima [r, q] of ranges [r, 2]."""

NUMPY: Final = "numpy"
"""The backend that works without the compiled library; at least as fast as brute force with numpy in float32."""

LIBRARY = Path(__file__).with_name("_maxsim.so")
"""The compiled library, where a compiler was there when the package was built."""

VERSION: Final = 1
# In the order of preference; the numbers are those of maxsim.c.
_BACKENDS: Final = {"avx512vnni": 2, "avxvnni": 5, "avx2": 1, "neon-dotprod": 4, "neon": 3, "scalar": 0}
_WRONG: Final = {-1: "this processor cannot run that backend", -2: "a segment leaves the vectors", -3: "a wrong count"}
_NO_MEMORY: Final = -4

BEYOND: Final = 1e15
"""Larger numbers than this are not parts of a vector; below it no product leaves the range of float32."""

LARGEST: Final = {1: 127, 2: 127 * 128 + 63}
"""The largest code of a query by its number of planes."""

TINY: Final = float(np.finfo(np.float32).tiny)
_SLACK: Final = 2.0**-16
_ROWS_AT_ONCE: Final = 1 << 13
# Steps below this would leave the normal range of float32; such vectors are all residual.
_SMALLEST: Final = 1e-30
# float64 arithmetic on 128 numbers is off by less than this.
_ABOVE: Final = 1.0 + 1e-12

FLOAT_SLACK: Final = 2.0**-15
"""The room for rounding, in lengths, of bounds whose query stays float32, see :func:`_numpy_bound`."""

_VECTORS_AT_ONCE: Final = 1 << 12
"""Vectors that numpy multiplies at once: as float32 they stay in a second-level cache."""
_SMALL_PRODUCT: Final = 1024
"""Numbers in a product of matrices that BLAS computes in the calling thread, see :func:`_products`."""

# Below this many vectors a thread costs more than it brings.
LEAST_SHARE: Final = 1 << 12
# Shares of a thread: a core that others use falls behind by less than one.
SHARES: Final = 4


# --- the two passes ---------------------------------------------------------------------------------------------------


def backends() -> tuple[str, ...]:
    """The backends that work on this machine, the fastest first; ``numpy`` is always the last."""
    return (*_compiled_backends(LIBRARY), NUMPY)


def bound(
    query: Float32,
    codes: NDArray[np.int8],
    scales: Float32,
    residuals: Float32,
    ranges: Int64,
    *,
    max_norm: float,
    side: Literal[1, -1] = 1,
    query_planes: int = 1,
    threads: int = 0,
    backend: str | None = None,
) -> Float32:
    """Upper (``side`` 1) or lower (-1) bounds of :func:`exact`: [r, q].

    Args:
        query: [q, 128] float32.
        codes: [n, 128] int8, with ``scales`` and ``residuals`` from :func:`quantize`.
        scales: [n] float32.
        residuals: [n] float32.
        ranges: [r, 2] int64.
        max_norm: the largest ``Quantized.max_norm`` of the parts that the codes come from.
        side: 1 for upper bounds, -1 for lower ones.
        query_planes: 1 for a query of 8 bits, 2 for one of 15, whose bounds are about half as far away.
        threads: how many, 0 for all.
        backend: one of :func:`backends`.
    """
    _check_query(query)
    _check_array("codes", codes, (None, DIMENSION), np.int8)
    _check_array("scales", scales, (len(codes),), np.float32)
    _check_array("residuals", residuals, (len(codes),), np.float32)
    _check_ranges(ranges, len(codes))
    if not (np.isfinite(max_norm) and max_norm >= 0):
        raise ValueError(f"max_norm must be a finite length, not {max_norm}")
    if (backend := _backend(backend)) == NUMPY:
        work = _numpy_bound(query, codes, scales, residuals, max_norm, side)
    else:
        work = compiled_bound(backend, bound_tokens(query, query_planes, max_norm, side), codes, scales, residuals)
    return in_threads(work, ranges, len(query), threads)


def exact(
    query: Float32, vectors: NDArray[np.float16], ranges: Int64, *, threads: int = 0, backend: str | None = None
) -> Float32:
    """Similarities of float16 vectors, multiplied and summed in float32: the best of each range, [r, q].

    Args:
        query: [q, 128] float32.
        vectors: [n, 128] float16, without NaN.
        ranges: [r, 2] int64.
        threads: how many, 0 for all.
        backend: one of :func:`backends`.
    """
    _check_query(query)
    _check_array("vectors", vectors, (None, DIMENSION), np.float16)
    _check_ranges(ranges, len(vectors))
    backend = _backend(backend)
    work = _numpy_exact(query, vectors) if backend == NUMPY else compiled_exact(backend, query, vectors)
    return in_threads(work, ranges, len(query), threads)


def _backend(name: str | None) -> str:
    usable = backends()
    if name is not None and name not in usable:
        raise ValueError(f"backend must be one of {', '.join(usable)}, not {name}")
    return name or usable[0]


def _check_array(name: str, array: NDArray[Any], shape: tuple[int | None, ...], kind: type[np.generic]) -> None:
    """Refuse what C cannot read in place; None in ``shape`` is any length."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, not {type(array).__name__}")
    if array.dtype != np.dtype(kind) or not array.dtype.isnative:
        raise TypeError(f"{name} must be {np.dtype(kind)}, not {array.dtype}")
    lengths = ", ".join("any" if length is None else str(length) for length in shape)
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name} must have the shape [{lengths}], not {list(array.shape)}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f"{name} must be C-contiguous and aligned: pass numpy.ascontiguousarray({name})")


def _check_query(query: Float32) -> None:
    _check_array("query", query, (None, DIMENSION), np.float32)
    if not len(query):
        raise ValueError("query must have at least one vector")
    if not (np.abs(query) <= BEYOND).all():
        raise ValueError(f"query must be finite, and no number beyond {BEYOND:g}")


def _check_ranges(ranges: Int64, count: int) -> None:
    _check_array("ranges", ranges, (None, 2), np.int64)
    starts, ends = ranges[:, 0], ranges[:, 1]
    if len(ranges) and (starts.min() < 0 or ends.max() > count or bool((starts > ends).any())):
        raise ValueError(f"ranges must ascend within 0..{count}, the vectors that there are")


# --- codes ------------------------------------------------------------------------------------------------------------


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


def quantize(vectors: NDArray[np.float32] | NDArray[np.float16]) -> Quantized:
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
    for start in range(0, count, _ROWS_AT_ONCE):
        part = slice(start, min(start + _ROWS_AT_ONCE, count))
        rows = vectors[part].astype(np.float64)
        if not (fine := (np.abs(rows) <= BEYOND).all(axis=1)).all():
            row = start + int(np.flatnonzero(~fine)[0])
            raise ValueError(f"vector {row} has NaN, infinite numbers or numbers beyond {BEYOND:g}")
        whole, scales[part] = _coded(rows, LARGEST[1])
        codes[part] = whole
        restored = whole * scales[part, None].astype(np.float64)
        residuals[part] = _round_up(_norms(rows - restored))
        max_norm = max(max_norm, float((_norms(restored) * _ABOVE + residuals[part]).max()))
    return Quantized(codes, scales, residuals, max_norm * _ABOVE)


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
    weights = _round_up(lengths / steps)
    offsets = _round_up(max_norm * (lost + _SLACK * (lengths + lost)) + TINY)
    return Tokens(codes.astype(np.int16), steps, weights * np.float32(side), offsets * np.float32(side), planes)


def _coded(rows: Float64, largest: int) -> tuple[Float64, Float32]:
    """Integer codes of each row, and the step between them."""
    steps: Float32 = (np.abs(rows).max(axis=1, initial=0.0) / largest).astype(np.float32)
    small = steps < _SMALLEST
    divisors = np.where(small, np.inf, steps).astype(np.float64)
    codes = np.clip(np.rint(rows / divisors[:, None]), -largest, largest)
    return codes, np.where(small, np.float32(0.0), steps)


def _norms(rows: Float64) -> Float64:
    norms: Float64 = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms


def _round_up(values: Float64) -> Float32:
    """The next float32 at or above each value that float64 arithmetic on 128 numbers gave."""
    above = values * _ABOVE
    nearest: Float32 = above.astype(np.float32)
    return np.where(nearest < above, np.nextafter(nearest, np.float32(np.inf)), nearest)


# --- the compiled library: called with plain addresses of arrays ------------------------------------------------------


class Job(ctypes.Structure):
    """``Job`` of maxsim.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("tokens", "steps", "weights", "offsets")),
        *((name, ctypes.c_void_p) for name in ("vectors", "scales", "residuals", "starts", "ends", "maxima")),
        *((name, ctypes.c_int64) for name in ("token_count", "vector_count", "segment_count", "stride")),
        *((name, ctypes.c_int32) for name in ("planes", "path")),
    )


@cache
def load(library: Path) -> ctypes.CDLL | None:
    """The library, or None where it is absent, of another version or not for this machine."""
    try:
        loaded = ctypes.CDLL(str(library))
        loaded.clamr_kernel_version.restype = ctypes.c_int32
        loaded.clamr_kernel_paths.restype = ctypes.c_int32
        if loaded.clamr_kernel_version() != VERSION:
            return None
        for function in (loaded.clamr_kernel_scan, loaded.clamr_kernel_exact):
            function.argtypes, function.restype = [ctypes.POINTER(Job)], ctypes.c_int32
    except (OSError, AttributeError):
        return None
    return loaded


@cache
def _compiled_backends(library: Path) -> tuple[str, ...]:
    # Asked once: a processor's answer to what it can do costs a virtual machine tens of microseconds.
    loaded = load(library)
    usable = 0 if loaded is None else int(loaded.clamr_kernel_paths())
    return tuple(name for name, number in _BACKENDS.items() if usable >> number & 1)


def compiled_bound(backend: str, tokens: Tokens, codes: NDArray[np.int8], scales: Float32, residuals: Float32) -> Work:
    """Work that fills bounds."""

    def work(ranges: Int64, maxima: Float32) -> None:
        job = _job(backend, tokens.codes, codes, ranges, maxima)
        job.steps, job.offsets = tokens.steps.ctypes.data, tokens.offsets.ctypes.data
        job.scales, job.planes = scales.ctypes.data, tokens.planes
        job.weights, job.residuals = tokens.weights.ctypes.data, residuals.ctypes.data
        _call("clamr_kernel_scan", job)

    return work


def compiled_exact(backend: str, query: Float32, vectors: NDArray[np.float16]) -> Work:
    """Work that fills exact maxima."""
    return lambda ranges, maxima: _call("clamr_kernel_exact", _job(backend, query, vectors, ranges, maxima))


def _job(backend: str, tokens: NDArray[Any], vectors: NDArray[Any], ranges: Int64, maxima: Float32) -> Job:
    start = ranges.ctypes.data
    return Job(
        tokens=tokens.ctypes.data,
        vectors=vectors.ctypes.data,
        starts=start,
        ends=start + ranges.strides[1],
        maxima=maxima.ctypes.data,
        token_count=len(tokens),
        vector_count=len(vectors),
        segment_count=len(ranges),
        stride=ranges.strides[0] // ranges.itemsize,
        planes=1,
        path=_BACKENDS[backend],
    )


def _call(name: str, job: Job) -> None:
    # ctypes releases the interpreter's lock during the call, so threads run side by side.
    state = getattr(load(LIBRARY), name)(ctypes.byref(job))
    if state == _NO_MEMORY:
        raise MemoryError("no memory for a search")
    if state:
        raise ValueError(_WRONG.get(state, f"the kernel's library answered {state}"))


# --- the passes in numpy ----------------------------------------------------------------------------------------------


def _numpy_bound(
    query: Float32, codes: NDArray[np.int8], scales: Float32, residuals: Float32, max_norm: float, side: int
) -> Work:
    """Work that fills bounds from a query that stays float32.

    A bound is ``scale * (code.q + residual / scale * |q|)`` and room for rounding: a matrix product of rows
    [code, residual / scale] with columns [q, |q|], whose rows are multiplied by their scale. With ``u = 2**-24`` and to
    first order, its sum of 129 products is off by at most ``129 u * |q| * max_norm``, in whatever order; the exact side
    by ``128 u * |q| * |v|``; the quotient, the length, the product with the scale and the last sum by
    ``4 u * |q| * max_norm``. Both ``|scale * code| + residual`` and ``|v|`` are at most ``max_norm``, so ``512 u`` is
    enough. Products with a query of very small numbers may leave the normal range before they are scaled.
    """
    lengths = _round_up(_norms(query.astype(np.float64)))
    columns = np.ascontiguousarray(np.concatenate([query, side * lengths[:, None]], axis=1).T)
    room = np.float32(side) * (np.float32(FLOAT_SLACK * max_norm) * lengths + np.float32(TINY * (1.0 + max_norm)))

    def similarities(rows: Any) -> Float32:  # noqa: ANN401 -- a slice or an index array
        steps = np.maximum(scales[rows], np.float32(_SMALLEST))
        values = _products(columns, codes[rows], residuals[rows] / steps)
        values *= steps[:, None]
        return values

    def work(ranges: Int64, maxima: Float32) -> None:
        _fill(similarities, ranges, maxima)
        maxima += room

    return work


def _numpy_exact(query: Float32, vectors: NDArray[np.float16]) -> Work:
    """Work that fills exact maxima."""
    columns = np.ascontiguousarray(query.T)
    return lambda ranges, maxima: _fill(lambda rows: _products(columns, vectors[rows]), ranges, maxima)


def _products(columns: Float32, rows: NDArray[Any], more: Float32 | None = None) -> Float32:
    """Products of rows, with another number at the end of each where given, and columns.

    They are computed a few rows at a time: BLAS does such small products in the calling thread, faster than large ones
    for so few columns, while its own threads and those of a search wait for one another. So a row's products also have
    the same bits, however many rows there are.
    """
    together = min(32, max(8, _SMALL_PRODUCT // columns.shape[1]))
    groups = -(-len(rows) // together)
    block = np.empty((groups * together, len(columns)), np.float32)
    block[: len(rows), :DIMENSION] = rows
    if more is not None:
        block[: len(rows), DIMENSION] = more
    block[len(rows) :] = 0.0
    products: Float32 = block.reshape(groups, together, len(columns)) @ columns
    return products.reshape(len(block), -1)[: len(rows)]


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


# --- batches and threads ----------------------------------------------------------------------------------------------


def batches(counts: Int64, most: int) -> Iterator[slice]:
    """Runs of consecutive items that count at most ``most`` together, one item at least."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + most, side="right")), first + 1)
        yield slice(first, last)
        first = last


def usable_threads() -> int:
    """Number of threads that this process may run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="clamr-kernel")


if hasattr(os, "register_at_fork"):
    # A forked child has the pool but not its threads, and would wait for them forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_threads(work: Work, ranges: Int64, width: int, threads: int) -> Float32:
    """The maxima of all ranges, [r, width], computed by several threads.

    Ranges are cut into shares of equal numbers of vectors. The rest of a range that lies across the border of two
    shares is computed for itself, and joined at the end.
    """
    if threads < 0:
        raise ValueError(f"threads must be at least 0, not {threads}")
    threads = threads or usable_threads()
    maxima = np.empty((len(ranges), width), np.float32)
    total = int((ranges[:, 1] - ranges[:, 0]).sum()) if threads > 1 else 0
    shares = min(threads * SHARES, total // LEAST_SHARE)
    if shares < 2:
        work(ranges, maxima)
        return maxima
    waiting = deque(_split(ranges, shares))

    def compute() -> list[tuple[int, Float32]]:
        rests = []
        while waiting:
            try:
                first, whole, rest = waiting.popleft()
            except IndexError:  # another thread took the last share
                break
            work(whole, maxima[first : first + len(whole)])
            if len(rest):
                maximum = np.empty((1, width), np.float32)
                work(rest, maximum)
                rests.append((first - 1, maximum[0]))
        return rests

    # This thread works too: it already runs, while the others may first have to wait for a core.
    others = [_pool(threads - 1).submit(compute) for _ in range(threads - 1)]
    results = [compute()]
    # One that has not begun by now has nothing left to do.
    results += [other.result() for other in others if not other.cancel()]
    for row, maximum in (rest for rests in results for rest in rests):
        np.maximum(maxima[row], maximum, out=maxima[row])
    return maxima


def _split(ranges: Int64, shares: int) -> Iterator[tuple[int, Int64, Int64]]:
    """Shares: the first of the ranges that begin in it, those ranges (the last may be cut off), the rest before."""
    places = np.concatenate(([0], np.cumsum(ranges[:, 1] - ranges[:, 0])))
    cuts = [int(places[-1]) * number // shares for number in range(shares + 1)]
    rows = [0, *(int(np.searchsorted(places[:-1], cut)) for cut in cuts[1:-1]), len(ranges)]
    for cut, last_cut, row, last_row in zip(cuts, cuts[1:], rows, rows[1:], strict=False):
        whole = ranges[row:last_row]
        if len(whole) and places[last_row] > last_cut:
            whole = whole.copy()
            whole[-1, 1] -= places[last_row] - last_cut
        begin, end = (int(ranges[row - 1, 1] - places[row]) + place for place in (cut, min(last_cut, places[row])))
        yield row, whole, np.array([[begin, end]] if row and begin < end else [], np.int64).reshape(-1, 2)
