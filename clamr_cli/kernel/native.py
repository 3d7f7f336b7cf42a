"""The compiled library: loaded once, called with plain addresses.

It lies beside this module where a compiler was there when the package was built; otherwise there are no native paths
and numpy serves. ctypes releases the interpreter's lock during a call, so threads run side by side.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from clamr_cli.kernel.codes import Tokens

    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]

LIBRARY = Path(__file__).with_name("_maxsim.so")
VERSION: Final = 1
# In the order of preference; the numbers are those of maxsim.c.
_PATHS: Final = {"avx512vnni": 2, "avxvnni": 5, "avx2": 1, "neon-dotprod": 4, "neon": 3, "scalar": 0}
_WRONG: Final = {-1: "this processor cannot run that path", -2: "a segment leaves the vectors", -3: "a wrong count"}
_NO_MEMORY: Final = -4


class _Job(ctypes.Structure):
    """``Job`` of maxsim.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("tokens", "steps", "weights", "offsets")),
        *((name, ctypes.c_void_p) for name in ("vectors", "scales", "residuals", "starts", "ends", "maxima")),
        *((name, ctypes.c_int64) for name in ("token_count", "vector_count", "segment_count", "stride")),
        *((name, ctypes.c_int32) for name in ("planes", "path")),
    )


def load() -> ctypes.CDLL | None:
    """The library, or None where it is absent, of another version or not for this machine."""
    return _load(LIBRARY)


@cache
def _load(library: Path) -> ctypes.CDLL | None:
    try:
        loaded = ctypes.CDLL(str(library))
        loaded.clamr_kernel_version.restype = ctypes.c_int32
        loaded.clamr_kernel_paths.restype = ctypes.c_int32
        if loaded.clamr_kernel_version() != VERSION:
            return None
        for function in (loaded.clamr_kernel_scan, loaded.clamr_kernel_exact):
            function.argtypes, function.restype = [ctypes.POINTER(_Job)], ctypes.c_int32
    except (OSError, AttributeError):
        return None
    return loaded


def paths() -> tuple[str, ...]:
    """Native paths that work on this machine, the fastest first."""
    loaded = load()
    return () if loaded is None else _usable(loaded)


@cache
def _usable(loaded: ctypes.CDLL) -> tuple[str, ...]:
    # Asked once: a processor's answer to what it can do costs a virtual machine tens of microseconds.
    usable = int(loaded.clamr_kernel_paths())
    return tuple(name for name, number in _PATHS.items() if usable >> number & 1)


def scan(
    path: str,
    tokens: Tokens,
    codes: NDArray[np.int8],
    scales: Float32,
    residuals: Float32 | None,
    ranges: Int64,
    maxima: Float32,
) -> None:
    """One thread's scan; every array was checked before.

    Args:
        path: one of :func:`paths`.
        tokens: the query.
        codes: [n, 128].
        scales: [n].
        residuals: [n], or None where tokens have no weights.
        ranges: [s, 2] starts and ends; may be a view with any stride between rows.
        maxima: [s, q], filled.
    """
    job = _job(path, tokens.codes, codes, ranges, maxima)
    job.steps, job.offsets = tokens.steps.ctypes.data, tokens.offsets.ctypes.data
    job.scales, job.planes = scales.ctypes.data, tokens.planes
    if tokens.weights is not None and residuals is not None:
        job.weights, job.residuals = tokens.weights.ctypes.data, residuals.ctypes.data
    _call("clamr_kernel_scan", job)


def exact(path: str, query: Float32, vectors: NDArray[np.float16], ranges: Int64, maxima: Float32) -> None:
    """One thread's exact pass; arguments as of :func:`scan`."""
    _call("clamr_kernel_exact", _job(path, query, vectors, ranges, maxima))


def _job(path: str, tokens: NDArray[Any], vectors: NDArray[Any], ranges: Int64, maxima: Float32) -> _Job:
    start = ranges.ctypes.data
    return _Job(
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
        path=_PATHS[path],
    )


def _call(name: str, job: _Job) -> None:
    loaded = load()
    if loaded is None:
        raise ValueError("the kernel's library is absent")
    state = getattr(loaded, name)(ctypes.byref(job))
    if state == _NO_MEMORY:
        raise MemoryError("no memory for a search")
    if state:
        raise ValueError(_WRONG.get(state, f"the kernel's library answered {state}"))
