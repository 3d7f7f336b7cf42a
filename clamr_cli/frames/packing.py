"""Token vectors of many documents as the bytes that are kept, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clamr_cli.types import DIMENSION, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_ARRAYS: Final[tuple[tuple[str, str, tuple[int, ...]], ...]] = (
    ("vectors", "<f2", (DIMENSION,)),
    ("modality_ids", "u1", ()),
    ("spans", "<f4", (2,)),
    ("segments", "<i4", ()),
    ("offsets", "<i4", (2,)),
    ("input_ids", "<i4", ()),
)
"""The fields of :class:`TokenVectors` in order, how they are kept, and the shape of a row."""


def pack(items: Sequence[TokenVectors]) -> tuple[dict[str, Any], list[bytes]]:
    """Documents' vectors as a payload (how many each has) and bytes. Kept as float16."""
    blobs = [
        b"".join(np.ascontiguousarray(getattr(item, name), dtype=kind).tobytes() for item in items)
        for name, kind, _ in _ARRAYS
    ]
    return {"counts": [len(item) for item in items]}, blobs


def unpack(kept: Sequence[tuple[Mapping[str, Any], Sequence[bytes]]]) -> tuple[TokenVectors, NDArray[np.int64]]:
    """What :func:`pack` made of one part after another: all vectors, and where each document's begin, [n + 1].

    Raises:
        ValueError: the bytes are not as many as the counts say.
    """
    counts = [count for payload, _ in kept for count in payload["counts"]]
    indptr = np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64)
    arrays: list[NDArray[Any]] = []
    for place, (_, kind, row) in enumerate(_ARRAYS):
        pieces = [np.frombuffer(blobs[place], dtype=kind) for _, blobs in kept]
        joined = np.concatenate(pieces) if pieces else np.zeros(0, dtype=kind)
        arrays.append(joined.reshape(int(indptr[-1]), *row))
    return TokenVectors(*arrays), indptr


def slice_of(vectors: TokenVectors, start: int, end: int) -> TokenVectors:
    """The vectors of one document."""
    return TokenVectors(*(getattr(vectors, name)[start:end] for name, _, _ in _ARRAYS))
