"""The compiled library: loaded once, called with plain addresses.

It lies beside this module where a compiler was there when the package was built; otherwise there are no compiled
backends. ctypes releases the interpreter's lock during a call, so threads run side by side.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.kernel.codes import Tokens
from clamr_cli.kernel.parallel import Float32, Int64, Work

LIBRARY = Path(__file__).with_name("_maxsim.so")
VERSION: Final = 1
# In the order of preference; the numbers are those of maxsim.c.
_BACKENDS: Final = {"avx512vnni": 2, "avxvnni": 5, "avx2": 1, "neon-dotprod": 4, "neon": 3, "scalar": 0}
_WRONG: Final = {-1: "this processor cannot run that backend", -2: "a segment leaves the vectors", -3: "a wrong count"}
_NO_MEMORY: Final = -4


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


def backends() -> tuple[str, ...]:
    """Compiled backends that work on this machine, the fastest first."""
    return _usable(LIBRARY)


@cache
def _usable(library: Path) -> tuple[str, ...]:
    # Asked once: a processor's answer to what it can do costs a virtual machine tens of microseconds.
    loaded = load(library)
    usable = 0 if loaded is None else int(loaded.clamr_kernel_paths())
    return tuple(name for name, number in _BACKENDS.items() if usable >> number & 1)


def bound(backend: str, tokens: Tokens, codes: NDArray[np.int8], scales: Float32, residuals: Float32) -> Work:
    """Work that fills bounds; every array was checked before."""

    def work(ranges: Int64, maxima: Float32) -> None:
        job = _job(backend, tokens.codes, codes, ranges, maxima)
        job.steps, job.offsets = tokens.steps.ctypes.data, tokens.offsets.ctypes.data
        job.scales, job.planes = scales.ctypes.data, tokens.planes
        job.weights, job.residuals = tokens.weights.ctypes.data, residuals.ctypes.data
        _call("clamr_kernel_scan", job)

    return work


def exact(backend: str, query: Float32, vectors: NDArray[np.float16]) -> Work:
    """Work that fills exact maxima; every array was checked before."""
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
    state = getattr(load(LIBRARY), name)(ctypes.byref(job))
    if state == _NO_MEMORY:
        raise MemoryError("no memory for a search")
    if state:
        raise ValueError(_WRONG.get(state, f"the kernel's library answered {state}"))
