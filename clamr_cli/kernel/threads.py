"""Segments shared out among threads by their vectors; one that is too long is cut, and put together again."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Float32 = NDArray[np.float32]
    Int64 = NDArray[np.int64]
    # Fills the maxima [s, q] of segments [s, 2].
    Work = Callable[[Int64, Float32], None]

# Below this many vectors a thread costs more than it brings.
LEAST_SHARE: Final = 1 << 12
# Shares of a thread: a core that others use falls behind by less than one.
SHARES: Final = 4


def usable_threads() -> int:
    """How many threads this process may run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="clamr-kernel")


if hasattr(os, "register_at_fork"):
    # A forked child has the pool but not its threads, and would wait for them forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def shared(work: Work, ranges: Int64, width: int, threads: int) -> Float32:
    """The maxima of all segments, [s, width], computed by several threads.

    Args:
        work: computes some segments.
        ranges: [s, 2] starts and ends.
        width: query tokens.
        threads: how many, 0 for :func:`usable_threads`.
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

    def take() -> list[tuple[int, Float32]]:
        heads = []
        while (share := _next(waiting)) is not None:
            head = share.run(work, maxima)
            if head is not None:
                heads.append(head)
        return heads

    # This thread works too: it already runs, while the others may first have to wait for a core.
    others = [_pool(threads - 1).submit(take) for _ in range(threads - 1)]
    heads = take()
    # One that has not begun by now has nothing left to do.
    for row, head in chain(heads, *(other.result() for other in others if not other.cancel())):
        np.maximum(maxima[row], head, out=maxima[row])
    return maxima


def _next(waiting: deque[_Share]) -> _Share | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Share:
    """Rows that begin in a share, the last one perhaps cut off, and what is left of the row before them."""

    first: int
    body: Int64
    head: Int64

    def run(self, work: Work, maxima: Float32) -> tuple[int, Float32] | None:
        """Fill the rows; give the row before them and the maxima of its rest, if there is any."""
        work(self.body, maxima[self.first : self.first + len(self.body)])
        if not len(self.head):
            return None
        rest = np.empty((1, maxima.shape[1]), np.float32)
        work(self.head, rest)
        return self.first - 1, rest[0]


def _split(ranges: Int64, shares: int) -> Iterator[_Share]:
    """Segments cut into shares of equal numbers of vectors."""
    places = np.concatenate(([0], np.cumsum(ranges[:, 1] - ranges[:, 0])))
    cuts = [int(places[-1]) * number // shares for number in range(shares + 1)]
    rows = [0, *(int(np.searchsorted(places[:-1], cut)) for cut in cuts[1:-1]), len(ranges)]
    for cut, last_cut, row, last_row in zip(cuts, cuts[1:], rows, rows[1:], strict=False):
        body = ranges[row:last_row]
        if len(body) and places[last_row] > last_cut:
            body = body.copy()
            body[-1, 1] -= places[last_row] - last_cut
        begin, end = (int(ranges[row - 1, 1] - places[row]) + place for place in (cut, min(last_cut, places[row])))
        yield _Share(row, body, np.array([[begin, end]] if row and begin < end else [], np.int64).reshape(-1, 2))
