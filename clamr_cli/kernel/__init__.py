"""The inner loop of an exact search: maxima of a query's similarities in ranges of many vectors, in C or numpy.

Two passes are offered: bounds from int8 codes (:func:`bound`), which reads 132 bytes a vector, and the float16 vectors
themselves (:func:`exact`). Bounds are proven to contain what :func:`exact` gives, rounding included;
:mod:`clamr_cli.kernel.codes` has the proof.

Shapes: ``q`` query tokens, ``n`` vectors, ``r`` ranges. ``ranges`` is [r, 2] int64, starts and ends in any order,
overlapping or not, so a part of all vectors is searched without copying it. Results are [r, q] float32, minus infinity
for an empty range. Arrays must be C-contiguous and of the dtypes named, else TypeError or ValueError; they may be
memory-mapped.

``threads`` is how many to use, 0 for as many as this process may run on. ``backend`` is one of :func:`backends`, None
for the first. All backends in C give the same bounds; :func:`exact` differs by the order of its sums, at most
``128 * 2**-24 * |query token| * |vector|``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clamr_cli.kernel import fallback, native
from clamr_cli.kernel.codes import BEYOND, Quantized, bound_tokens, quantize
from clamr_cli.kernel.parallel import shared, usable_threads
from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]

__all__ = ["NUMPY", "Quantized", "backends", "bound", "exact", "quantize", "usable_threads"]

NUMPY: Final = "numpy"
"""The backend that works without the compiled library, about as fast as brute force with numpy."""


def backends() -> tuple[str, ...]:
    """The backends that work on this machine, the fastest first; ``numpy`` is always the last."""
    return (*native.backends(), NUMPY)


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
        work = fallback.bound(query, codes, scales, residuals, max_norm, side)
    else:
        work = native.bound(backend, bound_tokens(query, query_planes, max_norm, side), codes, scales, residuals)
    return shared(work, ranges, len(query), threads)


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
    work = fallback.exact(query, vectors) if backend == NUMPY else native.exact(backend, query, vectors)
    return shared(work, ranges, len(query), threads)


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
