"""Work on many vectors in batches, and in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Work = Callable[[Int64, Float32], None]
"""Fills the maxima [r, q] of ranges [r, 2]."""

# Below this many vectors a thread costs more than it brings.
LEAST_SHARE: Final = 1 << 12
# Shares of a thread: a core that others use falls behind by less than one.
SHARES: Final = 4


def usable_threads() -> int:
    """Number of threads that this process may run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def batches(counts: Int64, most: int) -> Iterator[slice]:
    """Runs of consecutive items that count at most ``most`` together, one item at least."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, before + most, side="right")), first + 1)
        yield slice(first, last)
        first = last


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="clamr-kernel")


if hasattr(os, "register_at_fork"):
    # A forked child has the pool but not its threads, and would wait for them forever.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def shared(work: Work, ranges: Int64, width: int, threads: int) -> Float32:
    """The maxima of all ranges, [r, width], computed by several threads.

    Ranges are cut into shares of equal numbers of vectors. The rest of a range that lies across the border of two
    shares is computed for itself, and joined at the end.

    Args:
        work: computes some ranges.
        ranges: [r, 2] starts and ends.
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
