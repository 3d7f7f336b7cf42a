"""Fewer vectors: neighbours of one modality that say nearly the same become one, for a smaller and faster index.

Within each run of vectors of one modality, the two neighbours that are most alike are put together, again and again,
until about one in N is left; what is left is the mean direction of what it stands for. Some of a moment's detail is
lost, so pooled vectors have a fingerprint of their own and are never searched together with others.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from clamr_cli.errors import UsageError
from clamr_cli.types import NO_MODALITY, EncoderInfo, TokenVectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from clamr_cli.types import Document, Encoder

SETTING: Final = "pool"
_REVISION: Final = "1"


def factor(value: object) -> int:
    """The N of a setting: a whole number, 1 for vectors as they are.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{value!r} vectors cannot be pooled to one", "give a whole number, 2 or more: --pool 2")
    return value


def pooled_info(info: EncoderInfo, size: int) -> EncoderInfo:
    """Who makes pooled vectors; the floor of whole ones was not measured for them."""
    if size == 1:
        return info

    def fingerprint(whole: str) -> str:
        parts = "\n".join((whole, SETTING, str(size), _REVISION))
        return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()

    earlier = tuple(fingerprint(one) for one in info.earlier)
    return EncoderInfo(info.name, fingerprint(info.fingerprint), info.dimension, earlier=earlier)


class PooledEncoder:
    """Any encoder, with the vectors of its documents pooled; queries stay whole."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        self._encoder, self._size = encoder, size
        self._info = pooled_info(encoder.info, size)

    @property
    def info(self) -> EncoderInfo:
        """Name and fingerprint."""
        return self._info

    def encode_documents(self, documents: Sequence[Document]) -> list[TokenVectors]:
        """The encoder's vectors of each document, pooled."""
        return [pooled(item, self._size) for item in self._encoder.encode_documents(documents)]

    def encode_queries(self, queries: Sequence[str]) -> list[TokenVectors]:
        """The encoder's vectors of each query."""
        return self._encoder.encode_queries(queries)


def pooled(item: TokenVectors, size: int) -> TokenVectors:
    """About one in ``size`` of the vectors of each run of one modality; those of no modality stay as they are.

    A pooled vector is float32 of unit length. It has the place of the member that is most like it, and the span and
    offsets of all members that share its segment.
    """
    borders = np.concatenate([[0], np.flatnonzero(np.diff(item.modality_ids)) + 1, [len(item)]]).astype(np.int64)
    groups: list[tuple[int, int]] = []
    for first, last in pairwise(borders.tolist()):
        if first == last:
            continue
        if item.modality_ids[first] == NO_MODALITY:
            groups += [(row, row + 1) for row in range(first, last)]
        else:
            run = item.vectors[first:last].astype(np.float32)
            groups += [(first + start, first + end) for start, end in _groups(run, size)]
    made = [_one(item, start, end) for start, end in groups]
    return TokenVectors(
        np.stack([row.vectors for row in made]) if made else item.vectors[:0].astype(np.float32),
        item.modality_ids[[start for start, _ in groups]],
        np.array([row.span for row in made], np.float32).reshape(-1, 2),
        np.array([row.segment for row in made], np.int32),
        np.array([row.offsets for row in made], np.int32).reshape(-1, 2),
        np.array([row.input_id for row in made], np.int32),
    )


def _groups(rows: NDArray[np.float32], size: int) -> list[tuple[int, int]]:
    """Consecutive rows to put together, as first and last: about one group for ``size`` rows."""
    wanted = -(-len(rows) // size)
    starts = list(range(len(rows)))
    sums = rows.copy()
    near = np.array([_cosine(one, other) for one, other in pairwise(sums)], np.float32)
    while len(starts) > max(wanted, 1):
        place = int(near.argmax())
        merged = sums[place] + sums[place + 1]
        sums = np.delete(sums, place + 1, axis=0)
        sums[place] = merged
        del starts[place + 1]
        near = np.delete(near, place)
        for left in (place - 1, place):
            if 0 <= left < len(near):
                near[left] = _cosine(sums[left], sums[left + 1])
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 0 else 0.0


class _Row:
    """One pooled vector and where it is from."""

    __slots__ = ("input_id", "offsets", "segment", "span", "vectors")

    def __init__(self, vectors: NDArray[np.float32], item: TokenVectors, best: int, members: NDArray[np.int64]) -> None:
        self.vectors = vectors
        self.segment = int(item.segments[best])
        self.span = item.spans[members, 0].min(), item.spans[members, 1].max()
        self.offsets = item.offsets[members, 0].min(), item.offsets[members, 1].max()
        self.input_id = int(item.input_ids[best])


def _one(item: TokenVectors, start: int, end: int) -> _Row:
    rows = item.vectors[start:end].astype(np.float32)
    if len(rows) == 1:
        return _Row(rows[0], item, start, np.array([start]))
    mean = rows.sum(axis=0)
    length = float(np.linalg.norm(mean))
    # Opposite vectors have no mean direction: the first of them stands for all.
    mean = mean / length if length > 1e-6 else rows[0]
    best = start + int((rows @ mean).argmax())
    members = start + np.flatnonzero(item.segments[start:end] == item.segments[best])
    return _Row(mean.astype(np.float32), item, best, members)
