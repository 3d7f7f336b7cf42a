"""Fewer vectors: neighbours of one modality that say nearly the same become one, for a smaller and faster index.

Within each run of vectors of one modality, the two neighbours that are most alike are put together, again and again,
until about one in N is left; what is left is the mean direction of what it stands for. Some of a moment's detail is
lost, so pooled vectors have a fingerprint of their own and are never searched together with others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.types import NO_MODALITY, Document, Encoder, EncoderInfo, TokenVectors

_REVISION: Final = "1"


def pooled_info(info: EncoderInfo, size: int) -> EncoderInfo:
    """Name and fingerprint of an encoder with pooled vectors; the floor of whole ones was not measured for them."""

    def fingerprint(whole: str) -> str:
        parts = "\n".join((whole, "pool", str(size), _REVISION))
        return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()

    earlier = tuple(map(fingerprint, info.earlier))
    return EncoderInfo(info.name, fingerprint(info.fingerprint), info.dimension, earlier=earlier)


class PooledEncoder:
    """Any encoder, with the vectors of its documents pooled; queries stay whole."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        self._encoder, self._size = encoder, size
        self._parts: int = getattr(encoder, "PARTS", 1)
        self._info = pooled_info(encoder.info, size)

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        return self._info

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """The encoder's vectors of each document, pooled."""
        return [pooled(item, self._size, self._parts) for item in self._encoder.encode_documents(documents)]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """The encoder's vectors of each query."""
        return self._encoder.encode_queries(queries)


def pooled(item: TokenVectors, size: int, parts: int = 1) -> TokenVectors:
    """About one in ``size`` of the vectors of each run of one modality; those of no modality stay as they are.

    ``parts`` pieces of equal length of each run stay apart. A pooled vector is float32 of unit length. It has the place
    of the member that is most like it, and the span and offsets of all members that share its segment.
    """
    borders = np.concatenate([[0], np.flatnonzero(np.diff(item.modality_ids)) + 1, [len(item)]]).astype(np.int64)
    groups: list[tuple[int, int]] = []
    for first, last in pairwise(borders.tolist()):
        if first < last and item.modality_ids[first] == NO_MODALITY:
            groups += [(row, row + 1) for row in range(first, last)]
        elif first < last:
            step = (last - first) // parts
            for begin in range(first, last, step):
                run = item.vectors[begin : begin + step].astype(np.float32)
                groups += [(begin + start, begin + end) for start, end in _groups(run, size)]
    vectors, origins, spans, offsets = [], [], [], []
    for start, end in groups:
        rows = item.vectors[start:end].astype(np.float32)
        total = rows.sum(axis=0)
        length = float(np.linalg.norm(total))
        # Opposite vectors have no mean direction: the first of them stands for all.
        mean = total / length if len(rows) > 1 and length > 1e-6 else rows[0]
        origin = start + int((rows @ mean).argmax())
        members = start + np.flatnonzero(item.segments[start:end] == item.segments[origin])
        vectors.append(mean.astype(np.float32))
        origins.append(origin)
        spans.append((item.spans[members, 0].min(), item.spans[members, 1].max()))
        offsets.append((item.offsets[members, 0].min(), item.offsets[members, 1].max()))
    return TokenVectors(
        np.stack(vectors) if vectors else item.vectors[:0].astype(np.float32),
        item.modality_ids[[start for start, _ in groups]],
        np.array(spans, np.float32).reshape(-1, 2),
        item.segments[origins].astype(np.int32),
        np.array(offsets, np.int32).reshape(-1, 2),
        item.input_ids[origins].astype(np.int32),
    )


def _groups(rows: NDArray[np.float32], size: int) -> list[tuple[int, int]]:
    """Consecutive rows to put together, as first and last: about one group for ``size`` rows."""
    starts = list(range(len(rows)))
    sums = rows.copy()
    near = np.array([_cosine(first, second) for first, second in pairwise(sums)], np.float32)
    while len(starts) > max(-(-len(rows) // size), 1):
        place = int(near.argmax())
        sums[place] = sums[place] + sums[place + 1]
        sums = np.delete(sums, place + 1, axis=0)
        del starts[place + 1]
        near = np.delete(near, place)
        for left in (place - 1, place):
            if 0 <= left < len(near):
                near[left] = _cosine(sums[left], sums[left + 1])
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / lengths if lengths > 0 else 0.0
