"""What the kernel accepts: every array is checked here before its address reaches C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clamr_cli.types import DIMENSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]

BEYOND: Final = 1e15
"""Larger numbers than this are no parts of a vector; below it no product leaves the range of float32."""

_KINDS: Final = {"float16": np.float16, "float32": np.float32, "int8": np.int8, "int64": np.int64}


def check_array(name: str, array: NDArray[Any], shape: tuple[int | None, ...], *kinds: str) -> None:
    """Refuse what cannot be read in place.

    Args:
        name: what the array is called in messages.
        array: the array.
        shape: the length of each axis, None where any length will do.
        kinds: the dtypes that are accepted, in this machine's byte order.

    Raises:
        TypeError: no numpy array, or another dtype.
        ValueError: another shape, not C-contiguous, or elements off their alignment.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, not {type(array).__name__}")
    if not any(array.dtype == np.dtype(_KINDS[kind]) and array.dtype.isnative for kind in kinds):
        raise TypeError(f"{name} must be {' or '.join(kinds)}, not {array.dtype}")
    if array.ndim != len(shape) or any(
        wanted not in (None, got) for wanted, got in zip(shape, array.shape, strict=True)
    ):
        wanted_shape = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have the shape [{wanted_shape}], not {list(array.shape)}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f"{name} must be C-contiguous and aligned: pass numpy.ascontiguousarray({name})")


def check_query(query: Float32) -> None:
    """A query is float32 [q, 128] with q at least 1, finite and within ``BEYOND``. Raises like :func:`check_array`."""
    check_array("query", query, (None, DIMENSION), "float32")
    if not len(query):
        raise ValueError("query must have at least one vector")
    if not (np.abs(query) <= BEYOND).all():
        raise ValueError(f"query must be finite, and no number beyond {BEYOND:g}")


def check_segments(segments: Int64, count: int) -> Int64:
    """The start and end of each segment, [s, 2], as a view where that is possible.

    Args:
        segments: int64, either [s + 1] ascending offsets or [s, 2] starts and ends in any order.
        count: vectors that there are; every start and end lies in 0..count, no start after its end.
    """
    offsets = isinstance(segments, np.ndarray) and segments.ndim == 1
    check_array("segments", segments, (None,) if offsets else (None, 2), "int64")
    if offsets:
        if not len(segments):
            raise ValueError("segments must have at least one offset")
        # Pairs (a[i], a[i + 1]) of the offsets without copying them.
        ranges = np.lib.stride_tricks.as_strided(
            segments, (len(segments) - 1, 2), segments.strides * 2, writeable=False
        )
    else:
        ranges = segments
    starts, ends = ranges[:, 0], ranges[:, 1]
    if len(ranges) and (starts.min() < 0 or ends.max() > count or bool((starts > ends).any())):
        raise ValueError(f"segments must ascend within 0..{count}, the vectors that there are")
    return ranges
