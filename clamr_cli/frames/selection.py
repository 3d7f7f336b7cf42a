"""The choice of k of a video's scored frames. Pure: the same for the same values.

Two frames are near-duplicates when they look alike (by thumbs, not by the encoder's vectors, which also hold what is
said) and lie close in time; where nothing is said or written with one of them, however far apart they lie. No strategy
takes both while another frame is left that repeats none, except that ``windows`` leaves no window empty for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clamr_cli.media.key_frames import image_difference
from clamr_cli.types import FrameSelection

if TYPE_CHECKING:
    Floats = NDArray[np.float64]

ALIKE: Final = 0.06
"""Change (see :func:`clamr_cli.media.key_frames.image_difference`) up to which two pictures look alike."""

CLOSE: Final = 30.0
"""Seconds within which frames that look alike are near-duplicates."""

_RELEVANCE: Final = 0.5
"""Weight of the score against likeness to what is chosen already (Carbonell and Goldstein's lambda, SIGIR 1998)."""

_UNLIKE: Final = 0.5
"""Change from which two pictures have nothing in common."""

_DIGITS: Final = 5
"""Scores equal to this many digits are ties, which the earlier frame wins."""


def select(
    scores: Sequence[float] | NDArray[np.float32],
    times: Sequence[float],
    thumbs: NDArray[np.uint8],
    k: int,
    strategy: FrameSelection = "diverse",
    *,
    duration: float = 0.0,
    silent: Sequence[bool] = (),
) -> list[int]:
    """Choose at most ``k`` frames, best first.

    ``top`` takes the best scores. ``diverse`` trades the score against likeness in picture and time to what is
    already chosen (maximal marginal relevance). ``windows`` cuts the time line into k equal windows and takes the best
    of each; what is left over goes to the best of the rest.

    Args:
        scores: [n]; a frame whose score is minus infinity is never taken.
        times: [n] seconds, ascending.
        thumbs: [n, 8, 8, 3] uint8.
        k: how many, at least 1.
        strategy: see above.
        duration: seconds of the whole video, for ``windows``; the last frame's time where that is later.
        silent: [n], whether nothing is said or written with a frame; empty for none of them.

    Returns:
        Numbers of frames, by score, ties in time order; fewer than ``k`` only where fewer may be taken.
    """
    values: Floats = np.asarray(scores, np.float64).round(_DIGITS)
    k = min(k, len(values))
    mute = np.asarray(silent, np.bool_) if len(silent) else np.zeros(len(values), np.bool_)
    pool = _Pool(values, np.asarray(times, np.float64), thumbs, mute)
    if strategy == "windows":
        _by_window(pool, k, max(duration, float(pool.times[-1]) if len(pool.times) else 0.0))
    elif strategy == "diverse":
        _marginal(pool, k)
    while len(pool.chosen) < k and pool.left():
        pool.take(pool.best(pool.scores))
    return sorted(pool.chosen, key=lambda number: (-values[number], number))


class _Pool:
    """The frames that may still be taken, and how they relate to those that are."""

    def __init__(self, scores: Floats, times: Floats, thumbs: NDArray[np.uint8], silent: NDArray[np.bool_]) -> None:
        self.scores, self.times, self.thumbs, self.silent = scores, times, thumbs, silent
        self.free = np.isfinite(scores)
        self.repeats = np.zeros(len(scores), np.bool_)
        self.chosen: list[int] = []

    def left(self) -> bool:
        return bool(self.free.any())

    def best(self, values: Floats, among: NDArray[np.bool_] | None = None) -> int:
        """The free frame of the greatest value, the first of equals; repeating ones only where there is no other."""
        allowed = self.free if among is None else self.free & among
        fresh = allowed & ~self.repeats
        return int(np.where(fresh if fresh.any() else allowed, values, -np.inf).argmax())

    def take(self, number: int) -> Floats:
        """Choose a frame; how much each frame looks like it, [n] in [0, 1]."""
        changed = image_difference(self.thumbs, self.thumbs[number])
        near = np.abs(self.times - self.times[number]) < CLOSE
        self.repeats |= (changed <= ALIKE) & (near | self.silent | self.silent[number])
        self.free[number] = False
        self.chosen.append(number)
        return np.clip(1.0 - changed.astype(np.float64) / _UNLIKE, 0.0, 1.0)


def _by_window(pool: _Pool, k: int, duration: float) -> None:
    window = np.minimum((pool.times * k / duration).astype(np.int64), k - 1) if duration > 0 else 0 * pool.times
    for number in range(k):
        inside = window == number
        if (pool.free & inside).any():
            pool.take(pool.best(pool.scores, inside))


def _marginal(pool: _Pool, k: int) -> None:
    """Greedy maximal marginal relevance; likeness is half of the picture, half of the time."""
    if not pool.left():
        return
    scores = pool.scores[pool.free]
    # What scores no better than the median is all the same: the rest of the video, taken for coverage.
    low, high = float(np.median(scores)), float(scores.max())
    scale = high - low
    relevance = np.clip((pool.scores - low) / scale, 0.0, 1.0) if scale > 0 else 1.0 * (pool.scores >= high)
    reach = max(1e-9, float(np.ptp(pool.times)) / (2 * k))
    nearest = np.zeros_like(pool.scores)
    while len(pool.chosen) < k and pool.left():
        number = pool.best(_RELEVANCE * relevance - (1 - _RELEVANCE) * nearest)
        alike = pool.take(number)
        close = np.exp(-np.abs(pool.times - pool.times[number]) / reach)
        nearest = np.maximum(nearest, (alike + close) / 2)
