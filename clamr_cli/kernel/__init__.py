"""Maxima of a query's similarities in each segment of many vectors: the inner loop of an exact search.

Two passes are offered: over int8 codes (:func:`scan`, :func:`upper`, :func:`lower`), which reads 132 bytes a vector,
and over the float16 vectors themselves (:func:`exact`). Bounds are proven to contain what :func:`exact` gives,
rounding included; :mod:`clamr_cli.kernel.codes` has the proof.

Shapes: ``q`` query tokens, ``n`` vectors, ``s`` segments. ``segments`` is int64: [s + 1] ascending offsets, or [s, 2]
starts and ends in any order, overlapping or not, so a part of all vectors is searched without copying it. Results are
[s, q] float32, minus infinity for an empty segment. Arrays must be C-contiguous and of the dtypes named, else TypeError
or ValueError; they may be memory-mapped.

``threads`` is how many to use, 0 for as many as this process may run on. ``path`` is one of :func:`paths`, None for the
first. All paths give the same bits in the scans; :func:`exact` differs by the order of its sums, at most
``128 * 2**-24 * |query token| * |vector|``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from clamr_cli.kernel import native, reference
from clamr_cli.kernel.arrays import check_array, check_query, check_segments
from clamr_cli.kernel.codes import Quantized, bound_tokens, plain_tokens, quantize
from clamr_cli.kernel.threads import shared, usable_threads
from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clamr_cli.kernel.codes import Tokens

    Float32 = NDArray[np.float32]
    Int8 = NDArray[np.int8]
    Int64 = NDArray[np.int64]

__all__ = ["NUMPY", "Quantized", "exact", "lower", "paths", "quantize", "scan", "upper", "usable_threads"]

NUMPY: Final = "numpy"


def paths() -> tuple[str, ...]:
    """The ways to compute that work on this machine, the fastest first; ``numpy`` is always the last."""
    return (*native.paths(), NUMPY)


def _chosen(path: str | None) -> str:
    usable = paths()
    if path is not None and path not in usable:
        raise ValueError(f"path must be one of {', '.join(usable)}, not {path}")
    return path or usable[0]


def scan(
    query: Float32,
    codes: Int8,
    scales: Float32,
    segments: Int64,
    *,
    planes: int = 1,
    threads: int = 0,
    path: str | None = None,
) -> Float32:
    """Approximate similarities: the best of each segment for each query token, [s, q].

    Args:
        query: [q, 128] float32.
        codes: [n, 128] int8.
        scales: [n] float32.
        segments: [s + 1] or [s, 2] int64.
        planes: 1 for a query of 8 bits, 2 for one of 15.
        threads: how many, 0 for all.
        path: one of :func:`paths`.
    """
    return _scan(plain_tokens(query, planes), codes, scales, None, segments, threads, path)


def upper(
    query: Float32,
    codes: Int8,
    scales: Float32,
    residuals: Float32,
    segments: Int64,
    *,
    reach: float,
    planes: int = 1,
    threads: int = 0,
    path: str | None = None,
) -> Float32:
    """What :func:`exact` gives at most, [s, q].

    Args:
        query: [q, 128] float32.
        codes: [n, 128] int8.
        scales: [n] float32.
        residuals: [n] float32.
        segments: [s + 1] or [s, 2] int64.
        reach: the largest ``Quantized.reach`` of the parts that the codes come from.
        planes: 1 for a query of 8 bits, 2 for one of 15, whose bounds are about half as far away.
        threads: how many, 0 for all.
        path: one of :func:`paths`.
    """
    return _scan(bound_tokens(query, planes, reach, 1), codes, scales, residuals, segments, threads, path)


def lower(
    query: Float32,
    codes: Int8,
    scales: Float32,
    residuals: Float32,
    segments: Int64,
    *,
    reach: float,
    planes: int = 1,
    threads: int = 0,
    path: str | None = None,
) -> Float32:
    """What :func:`exact` gives at least, [s, q]; the arguments are those of :func:`upper`."""
    return _scan(bound_tokens(query, planes, reach, -1), codes, scales, residuals, segments, threads, path)


def _scan(
    tokens: Tokens,
    codes: Int8,
    scales: Float32,
    residuals: Float32 | None,
    segments: Int64,
    threads: int,
    path: str | None,
) -> Float32:
    check_array("codes", codes, (None, DIMENSION), "int8")
    check_array("scales", scales, (len(codes),), "float32")
    if residuals is not None:
        check_array("residuals", residuals, (len(codes),), "float32")
    ranges, chosen = check_segments(segments, len(codes)), _chosen(path)
    if chosen == NUMPY:
        return reference.scan(tokens, codes, scales, residuals, ranges)
    return shared(
        lambda part, maxima: native.scan(chosen, tokens, codes, scales, residuals, part, maxima),
        ranges,
        len(tokens.codes),
        threads,
    )


def exact(
    query: Float32,
    vectors: NDArray[np.float16],
    segments: Int64,
    *,
    threads: int = 0,
    path: str | None = None,
) -> Float32:
    """Similarities of float16 vectors, multiplied and summed in float32: the best of each segment, [s, q].

    Args:
        query: [q, 128] float32.
        vectors: [n, 128] float16, without NaN.
        segments: [s + 1] or [s, 2] int64.
        threads: how many, 0 for all.
        path: one of :func:`paths`.
    """
    check_query(query)
    check_array("vectors", vectors, (None, DIMENSION), "float16")
    ranges, chosen = check_segments(segments, len(vectors)), _chosen(path)
    if chosen == NUMPY:
        return reference.exact(query, vectors, ranges)
    return shared(lambda part, maxima: native.exact(chosen, query, vectors, part, maxima), ranges, len(query), threads)
